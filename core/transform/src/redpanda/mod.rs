//! Redpanda's transform contract, versions 1 and 2: modules built with its published SDKs run
//! unchanged. The guest's `main` never returns: it asks for a batch, for its records one by one,
//! and hands over what it makes of them. Between two batches it stands still inside its question.
//!
//! | import from `redpanda_transform` | signature | |
//! |---|---|---|
//! | `check_abi_version_1`, `_2` | `()` | names the contract |
//! | `read_batch_header` | `(10 addresses) -> i32` | waits for a batch; the size of its largest record, or below 0 |
//! | `read_next_record` | `(attributes, timestamp, offset, buf: u32, len: u32) -> i32` | its size, or below 0 |
//! | `write_record` | `(buf: u32, len: u32) -> i32` | `len`, or below 0 |
//! | `write_record_with_options` | `(buf, len, opts, opts_len: u32) -> i32` | the same, to a named topic |
//!
//! What differs from the original, because records are transformed before they are stored: the
//! offset of a record is its input number, the clock is the timestamp of the record in hand, and
//! randomness comes from the partition's seed, so that the same input gives the same output. What
//! a guest writes for a record takes its place; a record for which it writes nothing is dropped;
//! one that is written back as it came, and alone, is kept. Written records have the timestamp of
//! the record in hand, as a record that is passed on has.
//!
//! The guest's settings are its environment, with `REDPANDA_INPUT_TOPIC` and
//! `REDPANDA_OUTPUT_TOPIC_0` (the topic that records are sent to) and `_1` onwards (the other
//! outputs). What it prints is its log: standard output as info, standard error as a warning.
//! There are no files, sockets or arguments; the schema registry's imports say that there is none.

mod desk;
mod guest;
mod imports;
mod payload;
mod wasi;

pub(crate) use desk::Desk;
pub(crate) use guest::PullGuest;
pub(crate) use imports::{accept, link};

/// The module of the contract's imports: a module that has one keeps to this contract.
pub(crate) const IMPORT_MODULE: &str = "redpanda_transform";
/// The schema registry, which there is none of.
pub(crate) const IMPORT_SCHEMA_REGISTRY: &str = "redpanda_schema_registry";
/// WASI preview 1, the little of it that there is.
pub(crate) const IMPORT_WASI: &str = "wasi_snapshot_preview1";
/// Export: the guest's `main`.
pub(crate) const EXPORT_START: &str = "_start";
