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
//! | `millpond_progress` | `() -> ptr: u32` | optional: where a `u32` stands that holds the index of the record in hand. A hint for finding the culprit after a trap, nothing more |
//!
//! | import from `millpond` | signature | |
//! |---|---|---|
//! | `log` | `(level: u32, ptr: u32, len: u32)` | one line; levels 0 debug, 1 info, 2 warn, 3 error; capped |
//! | `abort` | `(ptr: u32, len: u32)` | ends the call as a trap with this message |
//! | `setting` | `(key, key_len, buf, buf_len: u32) -> i32` | length of the value, -1 if unset; copied only if it fits |
//!
//! There is no clock, no randomness, no file, no network. The clock is the record's timestamp,
//! randomness comes from the `seed`, so that the same input gives the same output. The names
//! `state_get`, `state_put`, `state_delete`, `state_range`, `timer_set` (imports) and
//! `millpond_timer_v1` (export) are reserved.
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
//!   40 i32 partition         44 u32 0
//!   48 u64 input number of the batch's first record
//!   56 u64 seed
//!   64     0, 32 bytes: room for the watermark, state, timers due
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
//!   24     0, 8 bytes: room for state
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

/// Export: the one memory.
pub const EXPORT_MEMORY: &str = "memory";
/// Export: room for an input.
pub const EXPORT_ALLOC: &str = "millpond_alloc";
/// Export: runs one batch. Its name is the version of the contract.
pub const EXPORT_TRANSFORM: &str = "millpond_transform_v1";
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

/// Verdict: the record goes on as it is, then what was emitted for it.
pub const VERDICT_KEEP: u32 = 0;
/// Verdict: the record itself goes no further; what was emitted for it does.
pub const VERDICT_DROP: u32 = 1;
/// Verdict: the module could not make sense of the record; its failure policy applies.
pub const VERDICT_FAILED: u32 = 2;
