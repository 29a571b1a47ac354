//! What storage counts: bytes and syncs by cause, commit latency, the journal's fill. Plain counters
//! of one thread; they decide nothing.

use std::cell::{Cell, RefCell};

use millpond_engine::LostRange;

/// Why bytes were written or a sync was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCause {
    /// Commits.
    Journal,
    /// Partition files at checkpoints, as the batches came.
    Segment,
    /// The same, of batches that were packed.
    Packing,
    /// Partition files that compaction wrote anew.
    Compaction,
    /// Indexes of large partition files.
    Index,
    /// Checkpoints.
    Checkpoint,
    /// Directory entries, new journal files, headers.
    Metadata,
}

impl WriteCause {
    /// All of them, in the order of [`StorageMetrics`]' arrays.
    pub const ALL: [WriteCause; 7] = [
        WriteCause::Journal,
        WriteCause::Segment,
        WriteCause::Packing,
        WriteCause::Compaction,
        WriteCause::Index,
        WriteCause::Checkpoint,
        WriteCause::Metadata,
    ];

    /// The name for a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            WriteCause::Journal => "journal",
            WriteCause::Segment => "segment",
            WriteCause::Packing => "packing",
            WriteCause::Compaction => "compaction",
            WriteCause::Index => "index",
            WriteCause::Checkpoint => "checkpoint",
            WriteCause::Metadata => "metadata",
        }
    }
}

/// Upper bounds of the latency buckets, in microseconds; the last bucket has none.
pub const LATENCY_BOUNDS_US: [u64; 15] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600,
    1_638_400, 6_553_600,
];

/// A histogram with fixed buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// Counts by bucket; not cumulative.
    pub buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// How many in all.
    pub count: u64,
    /// Their sum in microseconds.
    pub sum_us: u64,
}

impl LatencyHistogram {
    fn record(&mut self, value_us: u64) {
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < value_us);
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(value_us);
    }

    /// The bound below which `per_mille` of the values lie, in microseconds; `None` without values
    /// or above the last bound.
    pub fn quantile_us(&self, per_mille: u64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let wanted = (self.count * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return LATENCY_BOUNDS_US.get(bucket).copied();
            }
        }
        None
    }
}

/// A picture of the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageMetrics {
    /// The disk backend at work.
    pub backend: &'static str,
    /// Bytes of record batches that were journalled.
    pub payload_bytes: u64,
    /// Bytes written, by [`WriteCause::ALL`].
    pub written_bytes: [u64; WriteCause::ALL.len()],
    /// Syncs (of files and directories) and durable writes, by [`WriteCause::ALL`].
    pub syncs: [u64; WriteCause::ALL.len()],
    /// Journal commits, seals included.
    pub commits: u64,
    /// Entries in them.
    pub entries: u64,
    /// From the decision about an entry to the release of its waiters.
    pub commit_latency: LatencyHistogram,
    /// From the start of a journal write to its completion.
    pub write_latency: LatencyHistogram,
    /// Journal bytes that the next recovery would read.
    pub journal_used_bytes: u64,
    /// Bytes of the ring.
    pub journal_size_bytes: u64,
    /// Bytes of entries that wait for a commit.
    pub queued_bytes: u64,
    /// Bytes of all segments.
    pub segment_bytes: u64,
    /// Bytes of the newest checkpoint.
    pub checkpoint_bytes: u64,
    /// Checkpoints that the disk refused for want of space.
    pub checkpoints_refused: u64,
    /// Whether it refuses now.
    pub is_refusing: bool,
    /// Checkpoints that were finished.
    pub checkpoints: u64,
    /// Bytes of batches that packing looked at.
    pub packed_from_bytes: u64,
    /// What it made of them.
    pub packed_to_bytes: u64,
    /// Batches that history reads gave back.
    pub history_batches: u64,
    /// Bytes of those.
    pub history_bytes: u64,
    /// History reads that met damage or a read error.
    pub history_faults: u64,
    /// What compaction did.
    pub compaction: CompactionMetrics,
    /// Bytes of segments that the scrub has read.
    pub scrubbed_bytes: u64,
    /// How often it came to the end of all segments.
    pub scrub_rounds: u64,
    /// Segments in which its last round found damage.
    pub scrub_damaged_segments: u64,
    /// What recovery did at the last start.
    pub recovery: RecoveryReport,
}

/// What compaction did since the start. Bytes that it wrote stand under
/// [`WriteCause::Compaction`] as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionMetrics {
    /// Rounds that came to their end: new segments were handed to a checkpoint.
    pub rounds: u64,
    /// Rounds that were given up: damage, a full disk, a topic deleted under them.
    pub rounds_given_up: u64,
    /// Bytes of segments that were read.
    pub read_bytes: u64,
    /// Bytes of segments that were written.
    pub written_bytes: u64,
    /// Records that went because their key has a newer one.
    pub superseded_records: u64,
    /// Tombstones that went because `delete.retention.ms` was over.
    pub expired_tombstones: u64,
    /// Records of aborted transactions that went.
    pub aborted_records: u64,
    /// Partitions that are due for a round and wait for it.
    pub partitions_waiting: u64,
    /// Partitions that are not compacted because a segment of theirs is damaged.
    pub partitions_damaged: u64,
    /// Why the last round that was given up was.
    pub last_error: Option<String>,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Commits replayed.
    pub commits: u64,
    /// Entries replayed.
    pub entries: u64,
    /// Bytes of the journal that were replayed.
    pub bytes: u64,
    /// Whether writes that nobody was told of were dropped.
    pub torn_tail: bool,
    /// How often the journal was opened, this time included.
    pub incarnation: u64,
    /// Entries of the journal that damage took; each concerned one partition.
    pub damaged_entries: u64,
    /// Flipped bits of the journal that were turned back.
    pub corrected_bits: u64,
    /// Offsets that damage took, now or before, the first
    /// [`LOST_RANGES_REPORTED_MAX`](millpond_wire::limits::LOST_RANGES_REPORTED_MAX).
    pub lost_ranges: Vec<LostRange>,
}

/// The counters themselves.
#[derive(Default)]
pub(crate) struct Meter {
    metrics: RefCell<StorageMetrics>,
    checkpoints: Cell<u64>,
}

impl Meter {
    pub(crate) fn wrote(&self, cause: WriteCause, bytes: u64) {
        self.metrics.borrow_mut().written_bytes[cause as usize] += bytes;
    }

    pub(crate) fn synced(&self, cause: WriteCause) {
        self.metrics.borrow_mut().syncs[cause as usize] += 1;
    }

    pub(crate) fn write_took(&self, us: u64) {
        self.metrics.borrow_mut().write_latency.record(us);
    }

    pub(crate) fn committed(&self, entries: u64, payload_bytes: u64) {
        let mut metrics = self.metrics.borrow_mut();
        metrics.commits += 1;
        metrics.entries += entries;
        metrics.payload_bytes += payload_bytes;
    }

    pub(crate) fn entry_waited(&self, us: u64) {
        self.metrics.borrow_mut().commit_latency.record(us);
    }

    pub(crate) fn checkpointed(&self) {
        self.checkpoints.set(self.checkpoints.get() + 1);
    }

    pub(crate) fn packed(&self, from_bytes: u64, to_bytes: u64) {
        let mut metrics = self.metrics.borrow_mut();
        metrics.packed_from_bytes += from_bytes;
        metrics.packed_to_bytes += to_bytes;
    }

    pub(crate) fn history_read(&self, batches: u64, bytes: u64) {
        let mut metrics = self.metrics.borrow_mut();
        metrics.history_batches += batches;
        metrics.history_bytes += bytes;
    }

    pub(crate) fn history_fault(&self) {
        self.metrics.borrow_mut().history_faults += 1;
    }

    pub(crate) fn compaction(&self, note: impl FnOnce(&mut CompactionMetrics)) {
        note(&mut self.metrics.borrow_mut().compaction);
    }

    pub(crate) fn scrubbed(&self, bytes: u64) {
        self.metrics.borrow_mut().scrubbed_bytes += bytes;
    }

    pub(crate) fn scrubbed_all(&self, damaged_segments: u64) {
        let mut metrics = self.metrics.borrow_mut();
        metrics.scrub_rounds += 1;
        metrics.scrub_damaged_segments = damaged_segments;
    }

    pub(crate) fn recovered(&self, report: RecoveryReport) {
        self.metrics.borrow_mut().recovery = report;
    }

    /// A copy; the caller fills in what the meter does not know.
    pub(crate) fn picture(&self) -> StorageMetrics {
        let mut metrics = self.metrics.borrow().clone();
        metrics.checkpoints = self.checkpoints.get();
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_name_the_bucket_that_holds_them() {
        let mut histogram = LatencyHistogram::default();
        for _ in 0..99 {
            histogram.record(90);
        }
        histogram.record(20_000);
        assert_eq!(histogram.quantile_us(500), Some(100));
        assert_eq!(histogram.quantile_us(990), Some(100));
        assert_eq!(histogram.quantile_us(1000), Some(25_600));
        assert_eq!(LatencyHistogram::default().quantile_us(500), None);
    }
}
