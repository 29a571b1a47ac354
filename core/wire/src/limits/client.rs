//! The caps on our own client (the SDK): a part of `limits.rs`, under the same rules, where their
//! relations to other caps are asserted. Holds nothing but constants.

use super::{BATCH_BYTES_MAX, DEFAULT_MAX_MESSAGE_BYTES, KIB, MIB, SCRAM_ITERATIONS_MAX};

/// Most rounds of SCRAM that a broker may ask of a client: a second or so of a small machine's work. A
/// broker that asks for more would only make it heat.
pub const CLIENT_SCRAM_ITERATIONS_MAX: u32 = 262_144;
/// Smallest room that a spill may be given.
pub const CLIENT_SPILL_BYTES_MIN: u64 = 256 * 1024;
/// Into how many files the room of a spill is divided: what is dropped, or given back, at once.
pub const CLIENT_SPILL_FILES: u64 = 8;
/// Largest frame in a spill: one record with its topic.
pub const CLIENT_SPILL_FRAME_BYTES_MAX: usize = 2 * MIB;
/// What a spill sends at once, in bytes of records; one record may be larger.
pub const CLIENT_SPILL_WINDOW_BYTES: usize = 256 * KIB;
/// What a spill sends at once, in records.
pub const CLIENT_SPILL_WINDOW_RECORDS: usize = 4_096;
/// Partitions that one spill remembers sequence numbers of.
pub const CLIENT_SPILL_PARTITIONS_MAX: usize = 4_096;
/// Partitions and groups in one transaction of a client.
pub const CLIENT_TRANSACTION_PARTITIONS_MAX: usize = 10_000;
/// What a client keeps of a lane to send again, should the broker refuse what came with the first packets;
/// beyond that it waits for the answer.
pub const CLIENT_EARLY_BYTES_MAX: usize = 64 * KIB;
/// Brokers of which a client keeps a session.
pub const CLIENT_RESUMED_BROKERS_MAX: usize = 64;
/// Reports that wait for a C program to take them; a program that takes none is refused records.
pub const CLIENT_C_REPORTS_MAX: usize = 100_000;
/// Questions to one consumer of a C program that wait for their answer.
pub const CLIENT_C_ASKS_MAX: usize = 64;
/// Headers of one record that a C program sends.
pub const CLIENT_C_HEADERS_MAX: usize = 1_024;
/// Topics or partitions that a C program names in one call.
pub const CLIENT_C_PLACES_MAX: usize = 10_000;

const _: () = {
    assert!(SCRAM_ITERATIONS_MAX <= CLIENT_SCRAM_ITERATIONS_MAX);
    assert!(CLIENT_SPILL_WINDOW_BYTES <= DEFAULT_MAX_MESSAGE_BYTES);
    assert!(CLIENT_SPILL_FRAME_BYTES_MAX < BATCH_BYTES_MAX);
    assert!(CLIENT_SPILL_FILES >= 2);
};
