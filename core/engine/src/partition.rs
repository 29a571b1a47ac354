//! One partition's log as the engine knows it: where it begins and ends, how far consumers may
//! read, and the batches that are still in memory. Never touches segments: what left memory is
//! read by the shell.

use crate::admission::Pending;
use crate::holes::Holes;
use crate::stored::Stored;
use crate::transaction::{AbortedTransaction, Stability};
use crate::units::EntrySeq;
use millpond_wire::record::LogBatch;
use std::collections::{BTreeSet, VecDeque};

/// The leader epoch of a new partition. Not 0: librdkafka mistakes that for "unknown" at the end
/// of a partition (librdkafka#4882).
pub const FIRST_LEADER_EPOCH: i32 = 1;

/// The log of one partition.
#[derive(Debug)]
pub struct Partition {
    pub(crate) log_start: i64,
    /// The log start that no power cut takes back.
    durable_start: i64,
    pub(crate) log_end: i64,
    pub(crate) high_watermark: i64,
    pub(crate) leader_epoch: i32,
    /// The largest timestamp and the base offset of the batch that has it; -1 in an empty log.
    pub(crate) newest: (i64, i64),
    /// Records given to transforms so far, admitted ones included.
    pub(crate) inputs_admitted: u64,
    /// Records given to transforms by committed batches: what the journal knows.
    pub(crate) inputs_committed: u64,
    /// First offset that is not in segments.
    pub(crate) flushed: i64,
    tail: VecDeque<TailBatch>,
    tail_bytes: usize,
    /// Batches between admission and commit, and what is remembered of refused ones.
    pub(crate) pending: Pending,
    /// Fetches that wait for this partition.
    pub(crate) waiters: BTreeSet<u64>,
    /// The segments, as far as storage told of them.
    pub(crate) stored: Stored,
    /// Offsets that damage took.
    pub(crate) holes: Holes,
    /// Transactions in it that are open, or were aborted.
    pub(crate) stability: Stability,
}

#[derive(Debug)]
struct TailBatch {
    seq: EntrySeq,
    batch: LogBatch,
}

impl Default for Partition {
    fn default() -> Self {
        Partition::restored(0, 0, FIRST_LEADER_EPOCH, (-1, -1), 0)
    }
}

impl Partition {
    /// A log whose batches are all in segments.
    pub(crate) fn restored(
        log_start: i64,
        log_end: i64,
        leader_epoch: i32,
        newest: (i64, i64),
        inputs: u64,
    ) -> Partition {
        Partition {
            log_start,
            durable_start: log_start,
            log_end,
            high_watermark: log_end,
            leader_epoch,
            newest,
            inputs_admitted: inputs,
            inputs_committed: inputs,
            flushed: log_end,
            tail: VecDeque::new(),
            tail_bytes: 0,
            pending: Pending::default(),
            waiters: BTreeSet::new(),
            stored: Stored::default(),
            holes: Holes::default(),
            stability: Stability::default(),
        }
    }

    /// First offset that can be read.
    #[must_use]
    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    /// The offset that the next record gets.
    #[must_use]
    pub fn log_end(&self) -> i64 {
        self.log_end
    }

    /// Consumers read below this offset.
    #[must_use]
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Consumers that read committed data only read below this offset: from there on stands what
    /// an open transaction may still take back, or what is not durable (Kafka's last stable offset).
    #[must_use]
    pub fn last_stable(&self) -> i64 {
        let unstable = self.stability.first_unstable(self.high_watermark);
        // A log start may have passed the first record of an open transaction.
        unstable.max(self.log_start).min(self.high_watermark)
    }

    /// Transactions that were aborted and have records or their marker in the log, durable or about
    /// to be.
    #[must_use]
    pub fn aborted_transactions(&self) -> &[AbortedTransaction] {
        self.stability.aborted()
    }

    /// All below this offset is durable, and consumers may read it.
    pub(crate) fn advance(&mut self, high_watermark: i64) {
        self.high_watermark = self.high_watermark.max(high_watermark);
        self.stability.settle(self.high_watermark);
    }

    /// The current leader epoch.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Bytes of batches in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// First offset that is in memory; the log end when nothing is.
    #[must_use]
    pub fn tail_start(&self) -> i64 {
        self.tail.front().map_or(self.log_end, |first| first.batch.base_offset())
    }

    /// First offset that is not in segments.
    #[must_use]
    pub fn flushed(&self) -> i64 {
        self.flushed
    }

    /// The largest timestamp of the log, and an offset at or before the batch that has it.
    pub(crate) fn newest(&self) -> (i64, i64) {
        if self.newest.1 >= self.log_start || self.newest.0 < 0 {
            return self.newest;
        }
        // The batch that had it is gone, or the log begins within it.
        let stored = self
            .stored
            .iter()
            .map(|segment| (segment.max_timestamp, segment.base_offset.max(self.log_start)));
        let flushed = self.flushed;
        let tail = self.tail.iter().filter(|tail| tail.batch.base_offset() >= flushed);
        let tail = tail.map(|tail| (tail.batch.max_timestamp(), tail.batch.base_offset()));
        stored.chain(tail).fold((-1, -1), |best, next| if next.0 > best.0 { next } else { best })
    }

    /// Adds a batch whose base offset is the log end.
    pub(crate) fn append(&mut self, seq: EntrySeq, batch: LogBatch) {
        assert_eq!(batch.base_offset(), self.log_end, "a batch must continue its log");
        assert!(batch.last_offset() >= batch.base_offset(), "a batch takes an offset");
        if batch.max_timestamp() > self.newest.0 {
            self.newest = (batch.max_timestamp(), batch.base_offset());
        }
        self.log_end = batch.last_offset() + 1;
        self.tail_bytes += batch.size_bytes();
        self.stability.note(&batch);
        self.tail.push_back(TailBatch { seq, batch });
    }

    /// A batch of the journal stands at this offset: what lies before it from the log end on is
    /// lost, if an entry that could have held it is. False if there is no such entry.
    pub(crate) fn skip_lost_upto(&mut self, base_offset: i64) -> bool {
        let records = self.holes.take_pending();
        let lost = base_offset.saturating_sub(self.log_end);
        if lost > 0 && lost <= records {
            self.lose_upto(base_offset);
        }
        base_offset == self.log_end
    }

    /// The offsets from the log end up to this one are lost.
    pub(crate) fn lose_upto(&mut self, upto: i64) {
        if upto > self.log_end {
            self.holes.push(self.log_end, upto);
            self.log_end = upto;
        }
    }

    /// As [`Partition::readable_from`], below `bound` and up to the first lost offset: a consumer
    /// must not get past that without being told.
    pub(crate) fn servable_below(
        &self,
        offset: i64,
        bound: i64,
    ) -> impl Iterator<Item = &LogBatch> {
        let end = self.holes.first_from(offset).min(bound);
        self.readable_from(offset).take_while(move |batch| batch.last_offset() < end)
    }

    /// Batches in memory from the one that holds `offset` on, below the high watermark.
    pub(crate) fn readable_from(&self, offset: i64) -> impl Iterator<Item = &LogBatch> {
        let first = self.tail.partition_point(|tail| tail.batch.last_offset() < offset);
        let below = self.high_watermark;
        self.tail
            .range(first..)
            .map(|tail| &tail.batch)
            .take_while(move |batch| batch.last_offset() < below)
    }

    /// Batches in memory from the one that holds `offset` on, also those that are not durable.
    pub(crate) fn tail_from(&self, offset: i64) -> impl Iterator<Item = &LogBatch> {
        let first = self.tail.partition_point(|tail| tail.batch.last_offset() < offset);
        self.tail.range(first..).map(|tail| &tail.batch)
    }

    /// Batches that are in no segment yet, of entries up to `upto`.
    pub fn unflushed(&self, upto: EntrySeq) -> impl Iterator<Item = &LogBatch> {
        let flushed = self.flushed;
        let first = self.tail.partition_point(move |tail| tail.batch.base_offset() < flushed);
        self.tail.range(first..).take_while(move |tail| tail.seq <= upto).map(|tail| &tail.batch)
    }

    /// Offsets below `upto` are in segments.
    pub(crate) fn flushed_upto(&mut self, upto: i64) {
        self.flushed = self.flushed.max(upto.min(self.log_end));
    }

    /// Bytes of its segments.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.stored.bytes()
    }

    /// What lies below is gone even after a power cut: its files may go before the next checkpoint.
    #[must_use]
    pub fn durable_start(&self) -> i64 {
        self.durable_start
    }

    /// A log start is durable. Forgets batches in memory that lie wholly below it: no segment needs
    /// them either. Returns what it freed.
    pub(crate) fn forget_below(&mut self, offset: i64) -> usize {
        self.durable_start = self.durable_start.max(offset);
        let mut freed = 0;
        while let Some(first) = self.tail.front()
            && first.batch.last_offset() < self.durable_start
        {
            freed += first.batch.size_bytes();
            self.tail.pop_front();
        }
        self.tail_bytes -= freed;
        self.flushed = self.flushed.max(self.durable_start.min(self.tail_start()));
        freed
    }

    /// Forgets flushed batches, oldest first, while `over` bytes are to be freed. Returns what it
    /// freed. Batches above the high watermark stay: they are not durable.
    pub(crate) fn evict(&mut self, over: usize) -> usize {
        let mut freed = 0;
        let limit = self.flushed.min(self.high_watermark);
        while freed < over
            && let Some(first) = self.tail.front()
            && first.batch.last_offset() < limit
        {
            let size = first.batch.size_bytes();
            freed += size;
            self.tail_bytes -= size;
            self.tail.pop_front();
        }
        freed
    }
}
