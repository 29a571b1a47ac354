//! The contract between a module and the broker, version 1: names, layouts, numbers.
//!
//! `core/transform/src/abi.rs` is the host's copy; a test there compares the two. A released
//! number never changes its meaning. A change that old modules cannot read gets a new export
//! name (`millpond_transform_v2`); the host then serves both.
//!
//! # Calls
//!
//! | export | signature | |
//! |---|---|---|
//! | `memory` | | one 32-bit memory |
//! | `millpond_alloc` | `(len: u32) -> ptr: u32` | room for one input; 0 = none; the last one given is void after the next call |
//! | `millpond_transform_v1` | `(ptr: u32, len: u32) -> u64` | runs one batch; gives `ptr << 32 \| len` of an output, or 0: all records kept |
//! | `millpond_init` | `() -> u32` | optional, once, first; 0 = ready |
//! | `millpond_timer_v1` | `(ptr: u32, len: u32) -> u64` | optional: as `millpond_transform_v1`, but each record of the input is a timer that is due |
//! | `millpond_progress` | `() -> ptr: u32` | optional: where a `u32` stands that holds the index of the record in hand. A hint for finding the culprit after a trap, nothing more |
//!
//! | import from `millpond` | signature | |
//! |---|---|---|
//! | `log` | `(level: u32, ptr: u32, len: u32)` | one line; levels 0 debug, 1 info, 2 warn, 3 error; capped |
//! | `abort` | `(ptr: u32, len: u32)` | ends the call as a trap with this message |
//! | `setting` | `(key, key_len, buf, buf_len: u32) -> i32` | length of the value, -1 if unset; copied only if it fits |
//! | `state_get` | `(key, key_len, buf, buf_len: u32) -> i32` | length of the value, -1 if there is none; copied only if it fits |
//! | `state_put` | `(key, key_len, value, value_len: u32, expires_ms: i64) -> u32` | [`STATE_DONE`], [`STATE_FULL`] or [`STATE_TOO_LONG`]; `expires_ms` 0 = never, else the entry is gone once the watermark reaches it |
//! | `state_delete` | `(key, key_len: u32) -> u32` | 1 if it was there |
//! | `state_range` | `(from, from_len, to, to_len, buf, buf_len: u32) -> i32` | entries with from <= key < to, ascending (`to_len` [`NULL`]: to the end); bytes written, 0 = none left, -n = the first of them needs n bytes |
//! | `timer_set` | `(at_ms: i64, key, key_len: u32) -> u32` | as `state_put`; (`at_ms`, key) is the timer: setting it twice is setting it once |
//! | `timer_delete` | `(at_ms: i64, key, key_len: u32) -> u32` | 1 if it was there |
//! | `json_field` | `(doc, doc_len, path, path_len, out: u32) -> i32` | finds a field by its JSON pointer (RFC 6901); writes `offset u32, len u32` of its raw value in the document to `out`; a `JSON_` kind, or below 0 |
//! | `json_number` | `(doc, doc_len, path, path_len, out: u32) -> i32` | the same for a number: writes it as `f64` to `out`; 0 if there is one, or below 0 |
//! | `json_numbers` | `(docs, count, name, name_len, out: u32)` | one number of each of `count` documents: `docs` is so many times `ptr u32, len u32`; writes as many `f64` to `out`, NaN where there is none |
//! | `hash64` | `(ptr, len: u32, seed: u64) -> u64` | XXH64 |
//!
//! There is no clock, no randomness, no file, no network. The clock is the record's timestamp,
//! randomness comes from the `seed`, so that the same input gives the same output.
//!
//! # State
//!
//! Each transform has for each partition a map of keys to values, and timers. They outlive the
//! instance, which may be thrown away between any two calls. What a call changes stands at once
//! for that call and is undone if the call fails (a trap, a panic, CPU time); a verdict of failed
//! undoes nothing. If the batch is refused, all is undone, that of other stages too. The state
//! functions may be called from `millpond_transform_v1` and `millpond_timer_v1`; in
//! `millpond_init` there is no state yet: nothing is found, and what would be put is answered with
//! [`STATE_FULL`], as is what is more than one batch may change.
//!
//! `state_range` packs whole entries one behind the other, without padding: `u32 key length`,
//! `u32 value length`, key, value. To go on after them, ask from the last key with a zero byte
//! behind it.
//!
//! The watermark of a partition is the greatest timestamp seen less a delay; it never goes back.
//! After each batch it advances. First the timers that it has reached are given to
//! `millpond_timer_v1`, in the order of (`at_ms`, key); then the entries whose `expires_ms` it has
//! reached are gone: a timer may still read what ends with it. The record of a timer has its key as key, its `at_ms` as timestamp, no value and no headers. Keep and drop
//! mean the same for it: it is spent. What is emitted for it goes on in the chain. A timer whose
//! verdict is failed, or that makes the call trap, is spent too. A timer that is set for a time
//! which the watermark has reached fires in a further call. A module without `millpond_timer_v1`
//! has no timers: `timer_set` answers [`STATE_FULL`].
//!
//! # Input
//!
//! Little-endian; every offset counts from the first byte of the buffer; the buffer is aligned
//! to 16. A length of [`NULL`] says that there is no key (or value).
//!
//! ```text
//!    0 u32 magic "MPI1"       4 u32 bytes of this header (96)
//!    8 u32 bytes in all      12 u32 number of records
//!   16 u32 offset of records 20 u32 bytes of one (48)
//!   24 u32 offset of headers 28 u32 number of headers
//!   32 u32 offset of topic   36 u32 bytes of topic
//!   40 i32 partition         44 u32 flags: bit 0 = a replay or a try, not stored; the rest 0
//!   48 u64 input number of the batch's first record
//!   56 u64 seed
//!   64 i64 watermark before this batch, ms; i64::MIN: none yet
//!   72 u64 bytes of state in use
//!   80     0, 16 bytes
//!
//! record:
//!    0 i64 timestamp, ms
//!    8 u32 origin: which record of the batch as it was sent (input number = first + origin)
//!   12 u32 ordinal: which of the records made of that origin
//!   16 u32 key offset        20 u32 key length
//!   24 u32 value offset      28 u32 value length
//!   32 u32 first header      36 u32 number of headers
//!   40     0, 8 bytes
//!
//! header:
//!    0 u32 name offset        4 u32 name length
//!    8 u32 value offset      12 u32 value length
//! ```
//!
//! # Output
//!
//! Anywhere in the guest's memory, at any alignment. Pointers are addresses in that memory and
//! may point into the input. The host checks each one, counts each byte, and copies.
//!
//! ```text
//!    0 u32 magic "MPO1"       4 u32 bytes of this header (32)
//!    8 u32 number of verdicts: that of the input's records
//!   12 ptr verdicts
//!   16 u32 number of emitted records
//!   20 ptr emitted records
//!   24     0, 8 bytes
//!
//! verdict:
//!    0 u32 kind: 0 keep, 1 drop, 2 failed
//!    4 u32 how many of the emitted records are this one's, in order; 0 if failed
//!    8 ptr message           12 u32 message length; 0 unless failed
//!
//! emitted record:
//!    0 i64 timestamp, ms
//!    8 ptr key               12 u32 key length
//!   16 ptr value             20 u32 value length
//!   24 ptr headers           28 u32 number of headers
//!   32 ptr topic             36 u32 topic length; 0 = the topic that it came to
//!   40     0, 8 bytes
//!
//! header, as above but with pointers for offsets
//! ```

/// The module that the host's functions are imported from.
pub const IMPORT_MODULE: &str = "millpond";
/// Import: one log line.
pub const IMPORT_LOG: &str = "log";
/// Import: end the call with a message.
pub const IMPORT_ABORT: &str = "abort";
/// Import: read a setting.
pub const IMPORT_SETTING: &str = "setting";
/// Import: reads an entry of the state.
pub const IMPORT_STATE_GET: &str = "state_get";
/// Import: writes an entry of the state.
pub const IMPORT_STATE_PUT: &str = "state_put";
/// Import: deletes an entry of the state.
pub const IMPORT_STATE_DELETE: &str = "state_delete";
/// Import: reads entries of the state in order.
pub const IMPORT_STATE_RANGE: &str = "state_range";
/// Import: sets a timer.
pub const IMPORT_TIMER_SET: &str = "timer_set";
/// Import: deletes a timer.
pub const IMPORT_TIMER_DELETE: &str = "timer_delete";
/// Import: finds a field of a JSON document.
pub const IMPORT_JSON_FIELD: &str = "json_field";
/// Import: reads a number of a JSON document.
pub const IMPORT_JSON_NUMBER: &str = "json_number";
/// Import: reads one number of each of many JSON documents.
pub const IMPORT_JSON_NUMBERS: &str = "json_numbers";
/// Import: XXH64 of some bytes.
pub const IMPORT_HASH64: &str = "hash64";

/// Export: the one memory.
pub const EXPORT_MEMORY: &str = "memory";
/// Export: room for an input.
pub const EXPORT_ALLOC: &str = "millpond_alloc";
/// Export: runs one batch. Its name is the version of the contract.
pub const EXPORT_TRANSFORM: &str = "millpond_transform_v1";
/// Export, optional: runs the timers that are due.
pub const EXPORT_TIMER: &str = "millpond_timer_v1";
/// Export, optional: reads the settings.
pub const EXPORT_INIT: &str = "millpond_init";
/// Export, optional: address of the index of the record in hand.
pub const EXPORT_PROGRESS: &str = "millpond_progress";

/// "MPI1", read as a little-endian `u32`.
pub const INPUT_MAGIC: u32 = u32::from_le_bytes(*b"MPI1");
/// "MPO1", read as a little-endian `u32`.
pub const OUTPUT_MAGIC: u32 = u32::from_le_bytes(*b"MPO1");

/// Bytes of the input's header.
pub const INPUT_HEADER_BYTES: usize = 96;
/// Bytes of one input record's entry.
pub const INPUT_RECORD_BYTES: usize = 48;
/// Bytes of one header's entry, in and out.
pub const HEADER_ENTRY_BYTES: usize = 16;
/// Bytes of the output's header.
pub const OUTPUT_HEADER_BYTES: usize = 32;
/// Bytes of one verdict.
pub const VERDICT_BYTES: usize = 16;
/// Bytes of one emitted record's entry.
pub const EMIT_BYTES: usize = 48;
/// The address of an input is a multiple of this.
pub const INPUT_ALIGN: usize = 16;

/// A length that says: there is none (not: it is empty).
pub const NULL: u32 = u32::MAX;

/// Flag of an input: what comes of it is not stored.
pub const INPUT_FLAG_REPLAY: u32 = 1;
/// A watermark that says: no record has been seen.
pub const NO_WATERMARK: i64 = i64::MIN;

/// Verdict: the record goes on as it is, then what was emitted for it.
pub const VERDICT_KEEP: u32 = 0;
/// Verdict: the record itself goes no further; what was emitted for it does.
pub const VERDICT_DROP: u32 = 1;
/// Verdict: the module could not make sense of the record; its failure policy applies.
pub const VERDICT_FAILED: u32 = 2;

/// `state_put`, `timer_set`: done.
pub const STATE_DONE: u32 = 0;
/// `state_put`, `timer_set`: the state is as large as its limit, `state_bytes`; nothing changed.
pub const STATE_FULL: u32 = 1;
/// `state_put`, `timer_set`: the key or the value is longer than any may be; nothing changed.
pub const STATE_TOO_LONG: u32 = 2;
/// Bytes in front of each entry that `state_range` packs.
pub const STATE_ENTRY_BYTES: usize = 8;

/// `json_field`: the value is `null`.
pub const JSON_NULL: i32 = 1;
/// `json_field`: the value is `true` or `false`.
pub const JSON_BOOL: i32 = 2;
/// `json_field`: the value is a number.
pub const JSON_NUMBER: i32 = 3;
/// `json_field`: the value is a string; given without its quotes, escapes as they stand.
pub const JSON_STRING: i32 = 4;
/// `json_field`: the value is an array.
pub const JSON_ARRAY: i32 = 5;
/// `json_field`: the value is an object.
pub const JSON_OBJECT: i32 = 6;
/// `json_field`, `json_number`: there is no such field.
pub const JSON_NOT_FOUND: i32 = -1;
/// `json_field`, `json_number`: what was read of the document is not JSON, or nests too deeply.
pub const JSON_INVALID: i32 = -2;
/// `json_number`: the field is something else.
pub const JSON_NOT_A_NUMBER: i32 = -3;
