//! One consistent picture of the engine and the storage for one scrape. Plain data, made on the
//! engine's thread, rendered on another.

/// Everything that a scrape reads from the engine's thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) node_id: i32,
    pub(crate) address: String,
    pub(crate) partitions: Vec<PartitionState>,
    pub(crate) groups: Vec<GroupState>,
    pub(crate) derives: Vec<DeriveState>,
    pub(crate) engine: EngineCounts,
    pub(crate) storage: StorageState,
    pub(crate) space: SpaceState,
}

/// Room on the device, and what is not safe yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpaceState {
    pub(crate) used_bytes: u64,
    pub(crate) budget_bytes: u64,
    /// Where old segments begin to go, and where nothing is accepted any more.
    pub(crate) soft_bytes: u64,
    pub(crate) hard_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) is_refusing: bool,
    pub(crate) refused_batches: u64,
    /// Until the hard mark at the present rate.
    pub(crate) full_in_seconds: Option<f64>,
    /// Answered and not synced yet: what a power cut now would take from topics with a window.
    pub(crate) unsynced_records: u64,
    pub(crate) unsynced_bytes: u64,
    pub(crate) unsynced_oldest_seconds: f64,
    /// Offsets that damage took and no log start has passed, by topic and partition.
    pub(crate) lost: Vec<(String, i32, u64)>,
}

/// A partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionState {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) log_start: i64,
    pub(crate) high_watermark: i64,
    /// Bytes of its batches in memory.
    pub(crate) tail_bytes: u64,
}

/// A derived transform on one partition of a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeriveState {
    pub(crate) transform: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Offsets that can be read and have not been.
    pub(crate) lag: i64,
    /// In a row.
    pub(crate) failures: u64,
    /// The last of them.
    pub(crate) fault: Option<String>,
    /// How long until it tries again, ms.
    pub(crate) pause_ms: Option<u64>,
    /// The first offset that it has not been given; -1: its start is being looked for.
    pub(crate) next_offset: i64,
    /// A batch of it is under way.
    pub(crate) is_running: bool,
}

/// A consumer group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupState {
    pub(crate) group: String,
    /// Kafka's names of its state and of its protocol.
    pub(crate) state: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) members: u64,
    pub(crate) offsets: Vec<GroupOffset>,
}

/// A committed offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupOffset {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) committed: i64,
    /// The partition's high watermark less the committed offset; never negative.
    pub(crate) lag: i64,
}

/// What the engine did so far, and has in hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct EngineCounts {
    pub(crate) records_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) records_appended: u64,
    pub(crate) bytes_appended: u64,
    pub(crate) bytes_out: u64,
    pub(crate) duplicates: u64,
    pub(crate) produce_refusals: u64,
    pub(crate) rebalances: u64,
    pub(crate) tail_bytes: u64,
    pub(crate) waiting_fetches: u64,
    pub(crate) transforming_batches: u64,
    /// Answers that told a client to wait because of its quota, and how long.
    pub(crate) throttled_requests: u64,
    pub(crate) throttle_seconds: f64,
    /// Requests that were refused something by a rule of access, by API.
    pub(crate) denials: Vec<(&'static str, u64)>,
    /// Connections that must wait now, and their requests.
    pub(crate) throttled_connections: u64,
    pub(crate) held_requests: u64,
    pub(crate) fetch_sessions: u64,
    pub(crate) fetch_sessions_max: u64,
    pub(crate) fetch_sessions_evicted: u64,
    /// Transactional ids, by the state of their transaction.
    pub(crate) transactional_ids: Vec<(&'static str, u64)>,
    pub(crate) open_transactions: u64,
    pub(crate) transactions_committed: u64,
    pub(crate) transactions_aborted: u64,
    pub(crate) transactions_timed_out: u64,
    /// What is remembered of idempotent producers, by partition.
    pub(crate) producers: u64,
    pub(crate) producers_evicted: u64,
    /// Of derived transforms.
    pub(crate) derived_batches: u64,
    pub(crate) derive_failures: u64,
    pub(crate) derive_records_gone: u64,
    /// Jobs of transforms with state for which only time passed.
    pub(crate) idle_jobs: u64,
}

/// What the storage did so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct StorageState {
    /// "io_uring" or "portable".
    pub(crate) backend: String,
    /// Record batches accepted, in bytes.
    pub(crate) payload_bytes: u64,
    /// Bytes given to the disk, by cause.
    pub(crate) written_bytes: Vec<(&'static str, u64)>,
    /// Syncs, by cause (a durable write counts as one).
    pub(crate) syncs: Vec<(&'static str, u64)>,
    /// How long a commit took: (upper bound in seconds, how many at or below).
    pub(crate) commit_buckets: Vec<(f64, u64)>,
    pub(crate) commit_seconds_sum: f64,
    pub(crate) commits: u64,
    pub(crate) journal_commits: u64,
    pub(crate) checkpoints: u64,
    pub(crate) journal_used_bytes: u64,
    pub(crate) journal_size_bytes: u64,
    pub(crate) history_bytes: u64,
    pub(crate) history_faults: u64,
    pub(crate) segment_bytes: u64,
    /// Bytes of batches that packing looked at, and what it made of them.
    pub(crate) packed_from_bytes: u64,
    pub(crate) packed_to_bytes: u64,
    pub(crate) checkpoints_refused: u64,
    pub(crate) scrubbed_bytes: u64,
    pub(crate) scrub_rounds: u64,
    /// Segments in which the last round of the scrub found damage.
    pub(crate) scrub_damaged_segments: u64,
    pub(crate) compaction_rounds: u64,
    pub(crate) compaction_read_bytes: u64,
    pub(crate) compaction_removed_records: u64,
    pub(crate) compaction_waiting: u64,
    pub(crate) compaction_damaged: u64,
    /// What the last start found damaged in the journal.
    pub(crate) damaged_entries: u64,
    pub(crate) corrected_bits: u64,
}

/// What the connections share, for one scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetCounts {
    /// Log-ins: mechanism, outcome, how many.
    pub(crate) logins: Vec<(&'static str, &'static str, u64)>,
    /// Bytes of answers on their way out.
    pub(crate) answer_bytes: u64,
    /// Bytes of telemetry that came and are not committed.
    pub(crate) telemetry_waiting_bytes: u64,
    /// Fetches answered without records for want of room.
    pub(crate) answers_shed: u64,
}
