// Millpond transforms in AssemblyScript: copy this one file beside yours.
//
// A transform sees every record of a topic before it is stored and decides: keep it, drop it, make
// others of it. The contract that this file speaks is in ../SPEC.md. Your entry file:
//
//     import { Record, Verdict, register, setting } from "./millpond";
//     export { millpond_alloc, millpond_init, millpond_progress, millpond_transform_v1 }
//       from "./millpond";
//
//     register((): void => {}, (record: Record): Verdict =>
//       record.value === null ? Verdict.Drop : Verdict.Keep);
//
// Build it so (`onAbort` makes the message of a `throw` reach the log and the dead letter):
//
//     asc entry.ts --outFile transform.wasm -O3 --runtime minimal --use abort=millpond/onAbort
//
// With timers: `registerTimers`, and export `millpond_timer_v1`, too.
//
// What a module must never count on: that an instance lives from one batch to the next. There is no
// clock and no randomness but what a record brings; `Date` and `Math.random` do not build.

// ---- The host's functions -----------------------------------------------------------------------

// @ts-ignore: decorator
@external("millpond", "log")
declare function hostLog(level: u32, line: usize, lineLen: u32): void;
// @ts-ignore: decorator
@external("millpond", "abort")
declare function hostAbort(message: usize, messageLen: u32): void;
// @ts-ignore: decorator
@external("millpond", "setting")
declare function hostSetting(key: usize, keyLen: u32, buf: usize, bufLen: u32): i32;
// @ts-ignore: decorator
@external("millpond", "state_get")
declare function hostGet(key: usize, keyLen: u32, buf: usize, bufLen: u32): i32;
// @ts-ignore: decorator
@external("millpond", "state_put")
declare function hostPut(key: usize, keyLen: u32, value: usize, valueLen: u32, expires: i64): u32;
// @ts-ignore: decorator
@external("millpond", "state_delete")
declare function hostDelete(key: usize, keyLen: u32): u32;
// @ts-ignore: decorator
@external("millpond", "state_range")
declare function hostRange(
  from: usize, fromLen: u32, to: usize, toLen: u32, buf: usize, bufLen: u32,
): i32;
// @ts-ignore: decorator
@external("millpond", "timer_set")
declare function hostTimerSet(at: i64, key: usize, keyLen: u32): u32;
// @ts-ignore: decorator
@external("millpond", "timer_delete")
declare function hostTimerDelete(at: i64, key: usize, keyLen: u32): u32;
// @ts-ignore: decorator
@external("millpond", "json_numbers")
declare function hostJsonNumbers(
  docs: usize, count: u32, name: usize, nameLen: u32, out: usize,
): void;

const NULL: u32 = u32.MAX_VALUE;

// ---- Bytes --------------------------------------------------------------------------------------

/** Bytes in memory: those of a record stay until the call returns. */
@final
export class Bytes {
  constructor(public ptr: usize, public len: u32, private owner: ArrayBuffer | null = null) {}

  static of(text: string): Bytes {
    const buffer = String.UTF8.encode(text);
    return new Bytes(changetype<usize>(buffer), buffer.byteLength, buffer);
  }

  static from(buffer: ArrayBuffer): Bytes {
    return new Bytes(changetype<usize>(buffer), buffer.byteLength, buffer);
  }

  at(index: u32): u8 {
    return index < this.len ? load<u8>(this.ptr + index) : 0;
  }

  slice(start: u32, end: u32): Bytes {
    return new Bytes(this.ptr + start, end - start, this.owner);
  }

  equals(other: Bytes): bool {
    return this.len == other.len && memory.compare(this.ptr, other.ptr, this.len) == 0;
  }

  /** As text; what is not UTF-8 in it is replaced. */
  text(): string {
    return String.UTF8.decodeUnsafe(this.ptr, this.len);
  }
}

// ---- Records ------------------------------------------------------------------------------------

export enum Verdict {
  /** The record goes on, then what was emitted for it. */
  Keep = 0,
  /** Only what was emitted for it goes on. */
  Drop = 1,
  /** What `fail` gives. */
  Failed = 2,
}

@final
export class Header {
  constructor(public name: Bytes, public value: Bytes | null) {}
}

/** One record, or a timer that is due. */
@final
export class Record {
  constructor(private entry: usize) {}

  /** Milliseconds since 1970; the module's clock. Of a timer: what it was set for. */
  get timestampMs(): i64 { return load<i64>(this.entry); }
  /** How many records this partition was sent before. */
  get inputNumber(): u64 { return load<u64>(input, 48) + load<u32>(this.entry, 8); }
  /** Which of those that an earlier transform made of one. */
  get ordinal(): u32 { return load<u32>(this.entry, 12); }
  get key(): Bytes | null { return inputBytes(this.entry + 16); }
  /** `null` is a tombstone. */
  get value(): Bytes | null { return inputBytes(this.entry + 24); }

  get headers(): Header[] {
    const count = load<u32>(this.entry, 36);
    const first = input + load<u32>(input, 24) + load<u32>(this.entry, 32) * 16;
    const headers = new Array<Header>();
    for (let at: u32 = 0; at < count; at++) {
      const entry = first + at * 16;
      headers.push(new Header(inputBytes(entry)!, inputBytes(entry + 8)));
    }
    return headers;
  }
}

/** The topic that the records of this call came to. */
export function topic(): string { return inputBytes(input + 32)!.text(); }
export function partition(): i32 { return load<i32>(input, 40); }
/** Whether nothing of what comes of this call is stored. */
export function isReplay(): bool { return (load<u32>(input, 44) & 1) != 0; }
/** Of randomness: mix it with `inputNumber` and `ordinal`. */
export function seed(): u64 { return load<u64>(input, 56); }
/** Before this batch; `i64.MIN_VALUE`: none yet. */
export function watermarkMs(): i64 { return load<i64>(input, 64); }
export function stateBytes(): u64 { return load<u64>(input, 72); }

/** The record cannot be understood: return what this gives. Its failure policy applies. */
export function fail(message: string): Verdict {
  failure = Bytes.of(message);
  return Verdict.Failed;
}

/** A record to be made: `Emit.copyOf(record)` or `new Emit(time)`, changed, then `send()`. */
@final
export class Emit {
  key: Bytes | null = null;
  value: Bytes | null = null;
  /** Another topic, which must be among the transform's outputs; empty: that it came to. */
  topic: string = "";
  headers: Header[] = [];

  constructor(public timestampMs: i64) {}

  static copyOf(record: Record): Emit {
    const emit = new Emit(record.timestampMs);
    emit.key = record.key;
    emit.value = record.value;
    emit.headers = record.headers;
    return emit;
  }

  send(): void { emits.push(this); }
}

// ---- What the author registers ------------------------------------------------------------------

/** `start` reads the settings, once in each instance; `each` decides on one record. */
export function register(start: () => void, each: (record: Record) => Verdict): void {
  onStart = start;
  onRecord = each;
}

/** What a timer that is due does. It is spent whatever is returned. */
export function registerTimers(each: (timer: Record) => Verdict): void { onTimer = each; }

// ---- Settings, log ------------------------------------------------------------------------------

/** A setting's value; `null` if it is not set. */
export function setting(name: string): string | null {
  const key = Bytes.of(name);
  const len = hostSetting(key.ptr, key.len, 0, 0);
  if (len < 0) return null;
  const value = Bytes.from(new ArrayBuffer(len));
  hostSetting(key.ptr, key.len, value.ptr, value.len);
  return value.text();
}

/** One line of the transform's log; levels 0 debug, 1 info, 2 warn, 3 error. */
export function log(level: u32, line: string): void {
  const bytes = Bytes.of(line);
  hostLog(level, bytes.ptr, bytes.len);
}

/** Ends the call with a message, as a trap does; `throw` does the same. */
export function abortWith(message: string): void {
  const bytes = Bytes.of(message);
  hostAbort(bytes.ptr, bytes.len);
  unreachable();
}

export function onAbort(message: string | null, file: string | null, line: u32, column: u32): void {
  abortWith(message === null ? "aborted" : message);
}

// ---- State --------------------------------------------------------------------------------------

export enum StatePut {
  Done = 0,
  Full = 1,
  TooLong = 2,
}

/** The value of a key; `null` if there is none. */
export function stateGet(key: Bytes): Bytes | null {
  let value = Bytes.from(new ArrayBuffer(128));
  while (true) {
    const len = hostGet(key.ptr, key.len, value.ptr, value.len);
    if (len < 0) return null;
    if (<u32>len <= value.len) return value.slice(0, len);
    value = Bytes.from(new ArrayBuffer(len));
  }
}

/** Writes an entry. `expiresMs`: gone once the watermark reaches it; 0: never. */
export function statePut(key: Bytes, value: Bytes, expiresMs: i64 = 0): StatePut {
  return hostPut(key.ptr, key.len, value.ptr, value.len, expiresMs);
}

/** Deletes an entry. Gives whether it was there. */
export function stateDelete(key: Bytes): bool { return hostDelete(key.ptr, key.len) == 1; }

/** The entries with from <= key < to, ascending; without `to`, to the end. */
@final
export class StateRange {
  /** Of the entry that `next` found. */
  key: Bytes = new Bytes(0, 0);
  value: Bytes = new Bytes(0, 0);
  private pack: Bytes = new Bytes(0, 0);
  private at: u32 = 0;

  constructor(private from: Bytes, private to: Bytes | null = null) {}

  /** Goes to the next entry. Gives whether there is one. */
  next(): bool {
    if (this.at == this.pack.len && !this.fetch()) return false;
    const entry = this.at;
    const keyEnd = entry + 8 + load<u32>(this.pack.ptr + entry);
    this.at = keyEnd + load<u32>(this.pack.ptr + entry, 4);
    this.key = this.pack.slice(entry + 8, keyEnd);
    this.value = this.pack.slice(keyEnd, this.at);
    if (this.at == this.pack.len) {
      // On from this key, with a zero byte behind it.
      const from = Bytes.from(new ArrayBuffer(this.key.len + 1));
      memory.copy(from.ptr, this.key.ptr, this.key.len);
      this.from = from;
    }
    return true;
  }

  private fetch(): bool {
    const to = this.to;
    const toPtr: usize = to === null ? 0 : to.ptr;
    const toLen = to === null ? NULL : to.len;
    let room = Bytes.from(new ArrayBuffer(2048));
    while (true) {
      const len = hostRange(this.from.ptr, this.from.len, toPtr, toLen, room.ptr, room.len);
      if (len >= 0) {
        this.pack = room.slice(0, len);
        this.at = 0;
        return len > 0;
      }
      room = Bytes.from(new ArrayBuffer(-len));
    }
  }
}

/** Sets a timer, which is its time and its key. */
export function timerSet(atMs: i64, key: Bytes): StatePut {
  return hostTimerSet(atMs, key.ptr, key.len);
}

/** Deletes a timer. Gives whether it was there. */
export function timerDelete(atMs: i64, key: Bytes): bool {
  return hostTimerDelete(atMs, key.ptr, key.len) == 1;
}

// ---- JSON ---------------------------------------------------------------------------------------

/**
 * The number in a top-level field of each of several JSON objects, or NaN, found by the broker: the
 * fastest way to filter a batch. It takes for granted that they are JSON. `null` is none.
 */
export function jsonNumbers(documents: Array<Bytes | null>, field: Bytes): StaticArray<f64> {
  const count = documents.length;
  const table = new StaticArray<u32>(count * 2);
  const numbers = new StaticArray<f64>(count);
  for (let i = 0; i < count; i++) {
    const document = documents[i];
    table[i * 2] = document === null ? 0 : <u32>document.ptr;
    table[i * 2 + 1] = document === null ? NULL : document.len;
  }
  hostJsonNumbers(
    changetype<usize>(table), <u32>count, field.ptr, field.len, changetype<usize>(numbers),
  );
  return numbers;
}

/** The number in a top-level field of a JSON object; NaN if there is none. */
export function jsonNumber(object: Bytes, field: Bytes): f64 {
  let at = skipSpace(object, 0);
  if (object.at(at) != 0x7b) return NaN;
  do {
    at = skipSpace(object, at + 1);
    if (object.at(at) != 0x22) return NaN;
    const name = at + 1;
    at = skipText(object, at);
    if (at == NULL) return NaN;
    const isIt = object.slice(name, at - 1).equals(field);
    at = skipSpace(object, at);
    if (object.at(at) != 0x3a) return NaN;
    at = skipSpace(object, at + 1);
    const end = skipValue(object, at);
    if (end == NULL) return NaN;
    if (isIt) return parseNumber(object.slice(at, end));
    at = skipSpace(object, end);
  } while (object.at(at) == 0x2c);
  return NaN;
}

/** The number that a text is in JSON's grammar; NaN if it is not one. */
export function parseNumber(text: Bytes): f64 {
  let at: u32 = text.at(0) == 0x2d ? 1 : 0;
  const whole = at;
  while (isDigit(text.at(at))) at++;
  if (at == whole) return NaN;
  if (text.at(at) == 0x2e) {
    const fraction = ++at;
    while (isDigit(text.at(at))) at++;
    if (at == fraction) return NaN;
  }
  if ((text.at(at) | 0x20) == 0x65) {
    at++;
    if (text.at(at) == 0x2d || text.at(at) == 0x2b) at++;
    const power = at;
    while (isDigit(text.at(at))) at++;
    if (at == power) return NaN;
  }
  return at == text.len ? parseFloat(text.text()) : NaN;
}

function isDigit(byte: u8): bool { return byte >= 0x30 && byte <= 0x39; }

function isSpace(byte: u8): bool {
  return byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d;
}

function skipSpace(text: Bytes, at: u32): u32 {
  while (at < text.len && isSpace(text.at(at))) at++;
  return at;
}

/** Past the closing quote of the text whose opening quote is at `at`. */
function skipText(text: Bytes, at: u32): u32 {
  for (at++; at < text.len; at++) {
    if (text.at(at) == 0x22) return at + 1;
    if (text.at(at) == 0x5c) at++;
  }
  return NULL;
}

function skipValue(text: Bytes, at: u32): u32 {
  const start = at;
  let depth = 0;
  while (at < text.len) {
    const byte = text.at(at);
    if (byte == 0x22) {
      at = skipText(text, at);
      if (at == NULL || depth == 0) return at;
      continue;
    }
    const closes = byte == 0x7d || byte == 0x5d;
    if (byte == 0x7b || byte == 0x5b) depth++;
    if (depth == 0 && (closes || byte == 0x2c || isSpace(byte))) return at > start ? at : NULL;
    at++;
    if (closes && --depth == 0) return at;
  }
  return depth > 0 || at == start ? NULL : at;
}

// ---- Calls --------------------------------------------------------------------------------------

let onStart: () => void = (): void => {};
let onRecord: (record: Record) => Verdict = (): Verdict => Verdict.Keep;
let onTimer: (timer: Record) => Verdict = (): Verdict => Verdict.Keep;

let room: usize = 0;
let roomLen: u32 = 0;
let input: usize = 0;
let failure: Bytes | null = null;
let emits: Emit[] = [];
/** What the host reads after the call: not to be collected before the next. */
let kept: Bytes[] = [];
const progress: StaticArray<u32> = [0];

export function millpond_alloc(len: u32): usize {
  // Nothing of ours is on the stack here, so this is when garbage can be collected.
  kept = [];
  __collect();
  if (roomLen < len + 16) {
    if (room) heap.free(room);
    room = heap.alloc(len + 16);
    roomLen = len + 16;
  }
  return (room + 15) & ~15;
}

export function millpond_init(): u32 {
  onStart();
  return 0;
}

export function millpond_progress(): usize { return changetype<usize>(progress); }

export function millpond_transform_v1(at: usize, len: u32): u64 { return run(at, len, onRecord); }

export function millpond_timer_v1(at: usize, len: u32): u64 { return run(at, len, onTimer); }

function run(at: usize, len: u32, each: (record: Record) => Verdict): u64 {
  if (load<u32>(at) != 0x3149504d || load<u32>(at, 8) != len || load<u32>(at, 20) != 48) {
    abortWith("the input does not follow the contract");
  }
  input = at;
  emits = [];
  const count = load<u32>(at, 12);
  const verdicts = keep(new ArrayBuffer(count * 16));
  let isUntouched = true;
  for (let index: u32 = 0; index < count; index++) {
    unchecked(progress[0] = index);
    failure = null;
    const before = emits.length;
    const verdict = each(new Record(at + load<u32>(at, 16) + index * 48));
    const entry = verdicts + index * 16;
    store<u32>(entry, verdict);
    if (verdict == Verdict.Failed) {
      emits.length = before;
      putBytes(entry + 8, failure === null ? Bytes.of("failed") : failure);
    }
    store<u32>(entry, emits.length - before, 4);
    isUntouched = isUntouched && verdict == Verdict.Keep && emits.length == before;
  }
  return isUntouched ? 0 : encode(count, verdicts);
}

function encode(count: u32, verdicts: usize): u64 {
  const rows = keep(new ArrayBuffer(emits.length * 48));
  for (let index = 0; index < emits.length; index++) putRow(rows + index * 48, emits[index]);
  const output = keep(new ArrayBuffer(32));
  store<u32>(output, 0x314f504d);
  store<u32>(output, 32, 4);
  store<u32>(output, count, 8);
  store<u32>(output, <u32>verdicts, 12);
  store<u32>(output, emits.length, 16);
  store<u32>(output, <u32>rows, 20);
  emits = [];
  return (<u64>output << 32) | 32;
}

function putRow(row: usize, emit: Emit): void {
  store<i64>(row, emit.timestampMs);
  putBytes(row + 8, emit.key);
  putBytes(row + 16, emit.value);
  const headers = keep(new ArrayBuffer(emit.headers.length * 16));
  for (let index = 0; index < emit.headers.length; index++) {
    const header = emit.headers[index];
    putBytes(headers + index * 16, header.name);
    putBytes(headers + index * 16 + 8, header.value);
  }
  store<u32>(row, <u32>headers, 24);
  store<u32>(row, emit.headers.length, 28);
  if (emit.topic.length) putBytes(row + 32, Bytes.of(emit.topic));
}

function putBytes(at: usize, bytes: Bytes | null): void {
  if (bytes === null) {
    store<u32>(at, NULL, 4);
    return;
  }
  kept.push(bytes);
  store<u32>(at, <u32>bytes.ptr);
  store<u32>(at, bytes.len, 4);
}

function keep(buffer: ArrayBuffer): usize {
  const bytes = Bytes.from(buffer);
  kept.push(bytes);
  return bytes.ptr;
}

/** The bytes whose offset and length stand here. */
function inputBytes(at: usize): Bytes | null {
  const len = load<u32>(at, 4);
  return len == NULL ? null : new Bytes(input + load<u32>(at), len);
}
