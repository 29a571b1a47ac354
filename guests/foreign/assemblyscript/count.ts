// For tests of the file's state and timers: count.c in AssemblyScript.

import {
  Bytes, Emit, Record, StatePut, StateRange, Verdict, fail, register, registerTimers, stateDelete,
  stateGet, statePut, timerDelete, timerSet,
} from "../../../wasm-sdk/assemblyscript/millpond";
export {
  millpond_alloc, millpond_init, millpond_progress, millpond_timer_v1, millpond_transform_v1,
} from "../../../wasm-sdk/assemblyscript/millpond";

register((): void => {}, (record: Record): Verdict => {
  const key = record.key;
  if (key === null) return fail("no key");
  const before = stateGet(key);
  const entry = Bytes.from(new ArrayBuffer(9));
  let lastMs = record.timestampMs;
  let count: u8 = 1;
  if (before !== null) {
    const beforeMs = load<i64>(before.ptr + 1);
    if (!timerDelete(beforeMs + 10, key)) return fail("no timer");
    lastMs = max(lastMs, beforeMs);
    count = before.at(0) + 1;
  }
  store<u8>(entry.ptr, count);
  store<i64>(entry.ptr + 1, lastMs);
  if (statePut(key, entry) != StatePut.Done) return fail("the state is full");
  if (timerSet(lastMs + 10, key) != StatePut.Done) return fail("no timers");
  return Verdict.Drop;
});

registerTimers((timer: Record): Verdict => {
  const key = timer.key!;
  let keys = 0;
  const range = new StateRange(Bytes.of(""));
  while (range.next()) keys++;
  const told = Emit.copyOf(timer);
  told.value = Bytes.of(stateGet(key)!.at(0).toString() + " of " + keys.toString());
  told.send();
  stateDelete(key);
  return Verdict.Drop;
});
