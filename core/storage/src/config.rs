//! Settings of storage and their defaults. Caps stand in `millpond_wire::limits`.

use millpond_wire::limits;

/// Settings of storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// Files of the journal's ring. Decided when the journal is made; later values are ignored.
    pub journal_files: usize,
    /// Bytes of each, likewise. The largest entry must fit one.
    pub journal_file_bytes: usize,
    /// Record bytes in memory that are in no segment yet: above it a checkpoint is taken.
    pub tail_bytes: usize,
    /// A batch of so many bytes goes straight to its segment, and the journal holds only where it
    /// stands. `usize::MAX`: none does.
    pub direct_batch_bytes: usize,
    /// Whether small batches are packed into larger, compressed ones on their way to segments.
    pub packs: bool,
    /// A segment above this size is closed.
    pub segment_bytes: usize,
    /// While one journal write is under way a second one starts only for at least this many bytes:
    /// smaller ones gather, which spares the device.
    pub second_write_bytes: usize,
    /// How long an idle journal lets entries gather before it commits them, in milliseconds, from
    /// the first that waits. 0: it commits at once. A linger spares the device where entries come
    /// one by one, and delays every acknowledgement by as much.
    pub linger_ms: u64,
    /// So many bytes end the linger, and the window of topics that have one: the commit begins.
    pub gather_bytes: usize,
    /// An idle journal seals its last commit after so long.
    pub seal_after_ms: u64,
    /// Bytes of segments that the scrub reads in a second; 0: it does not run.
    pub scrub_bytes_per_second: u64,
    /// Bytes of entries that may wait for a commit before [`crate::DurableEngine::room`] waits.
    pub queue_bytes: usize,
    /// How often compaction looks for topics that need it (Kafka's `log.cleaner.backoff.ms`).
    pub compaction_check_ms: u64,
    /// Memory for the keys of one round of compaction; a round ends where it is full.
    pub compaction_map_bytes: usize,
    /// What background work (compaction) may read and write together in a second; 0: no limit.
    pub background_bytes_per_second: u64,
    /// A random number; it becomes part of a new journal's identity.
    pub journal_seed: u64,
}

impl StorageConfig {
    /// The defaults: a ring of 120 MiB, of which half is used between checkpoints at most.
    pub fn new(journal_seed: u64) -> StorageConfig {
        StorageConfig {
            journal_files: limits::DEFAULT_JOURNAL_FILES,
            journal_file_bytes: limits::DEFAULT_JOURNAL_FILE_BYTES,
            tail_bytes: limits::DEFAULT_TAIL_BYTES,
            direct_batch_bytes: limits::DIRECT_BATCH_BYTES,
            packs: true,
            segment_bytes: limits::DEFAULT_SEGMENT_BYTES,
            second_write_bytes: 64 * limits::KIB,
            linger_ms: 0,
            gather_bytes: limits::DEFAULT_COMMIT_LINGER_BYTES,
            seal_after_ms: 5_000,
            scrub_bytes_per_second: limits::DEFAULT_SCRUB_BYTES_PER_SECOND,
            queue_bytes: limits::DEFAULT_JOURNAL_QUEUE_BYTES,
            compaction_check_ms: 15_000,
            compaction_map_bytes: limits::DEFAULT_COMPACTION_MAP_BYTES,
            background_bytes_per_second: limits::DEFAULT_BACKGROUND_BYTES_PER_SECOND,
            journal_seed,
        }
    }

    /// A small ring for tests: entries up to 200 KiB.
    pub fn small(journal_seed: u64) -> StorageConfig {
        StorageConfig {
            journal_files: 3,
            journal_file_bytes: 256 * limits::KIB,
            tail_bytes: 128 * limits::KIB,
            segment_bytes: 64 * limits::KIB,
            direct_batch_bytes: 8 * limits::KIB,
            second_write_bytes: 8 * limits::KIB,
            queue_bytes: 256 * limits::KIB,
            ..StorageConfig::new(journal_seed)
        }
    }
}
