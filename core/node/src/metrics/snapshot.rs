//! One consistent picture of the engine and the storage for one scrape. Plain data, made on the engine's thread,
//! rendered on another.

/// Everything that a scrape reads from the engine's thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) node_id: i32,
    pub(crate) address: String,
    pub(crate) partitions: Vec<PartitionState>,
    pub(crate) groups: Vec<GroupState>,
    pub(crate) storage: StorageState,
}

/// A partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionState {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) log_start: i64,
    pub(crate) high_watermark: i64,
    pub(crate) size_bytes: u64,
}

/// A consumer group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupState {
    pub(crate) group: String,
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
    pub(crate) journal_used_bytes: u64,
    pub(crate) journal_size_bytes: u64,
}
