// Makes one record of each line of a value: guests/modules/split in AssemblyScript, with the same
// setting.

import {
  Bytes, Emit, Record, Verdict, register, setting,
} from "../../../wasm-sdk/assemblyscript/millpond";
export {
  millpond_alloc, millpond_init, millpond_progress, millpond_transform_v1,
} from "../../../wasm-sdk/assemblyscript/millpond";

let separator: u8 = 0x0a;

function start(): void {
  const text = setting("separator");
  if (text === null) return;
  const bytes = Bytes.of(text);
  if (bytes.len != 1) throw new Error("`separator` is one byte, not `" + text + "`");
  separator = bytes.at(0);
}

function find(value: Bytes, at: u32): u32 {
  while (at < value.len && value.at(at) != separator) at++;
  return at;
}

register(start, (record: Record): Verdict => {
  const value = record.value;
  if (value === null || find(value, 0) == value.len) return Verdict.Keep;
  let at: u32 = 0;
  while (at <= value.len) {
    const end = find(value, at);
    if (end > at) {
      const line = Emit.copyOf(record);
      line.value = value.slice(at, end);
      line.send();
    }
    at = end + 1;
  }
  return Verdict.Drop;
});
