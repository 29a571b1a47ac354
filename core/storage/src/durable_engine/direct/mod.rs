//! The direct path: a large batch goes straight to its segment, and the journal holds only where it
//! stands. So it is written once.
//!
//! A batch is given its **place** when its entry is handed over, is written there around the page
//! cache, and its entry is journalled only when it is on the device: an entry that is read back and
//! whose batch is not there is damage, never a torn tail. Where the device takes no more, the batch
//! goes into its entry after all.
//!
//! A **run** is what a partition has on the direct path: batches one after the other, each from the
//! next block on, in one segment after the other. It begins where nothing of the partition waits for
//! a checkpoint, and ends with the first batch that is not for it; the checkpoint finds everything
//! below that end in segments already. No block that a batch was placed in is ever given out again
//! before the journal has forgotten that batch.

mod lanes;
mod run;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use millpond_engine::{Entry, EntrySeq, Fact, FlushedRange, PartitionKey};
use millpond_wire::limits::DIRECT_RUNS_MAX;
use millpond_wire::record::LogBatch;

use super::entry::DurableEntry;
use super::{DurableEngine, Shell};
use crate::disk::Disk;
use crate::segments::{SegmentId, SegmentMeta, WrittenSegment};
use crate::signal::Signal;
use run::Run;
pub(super) use run::{Place, Placement};

/// Everything on the direct path.
pub(super) struct Direct<F> {
    runs: RefCell<BTreeMap<PartitionKey, Run<F>>>,
    /// Partitions that have something to write and are not writing.
    ready: RefCell<VecDeque<PartitionKey>>,
    /// Something is to be written.
    work: Signal,
    /// Something was written, or refused.
    settled: Signal,
    /// Bytes of batches that wait to be written.
    waiting_bytes: Cell<u64>,
    /// The device took no more: nothing goes this way until a checkpoint was written.
    is_shut: Cell<bool>,
    /// A checkpoint is being taken: what it will publish is not known yet.
    is_in_checkpoint: Cell<bool>,
}

impl<F> Default for Direct<F> {
    fn default() -> Direct<F> {
        Direct {
            runs: RefCell::default(),
            ready: RefCell::default(),
            work: Signal::default(),
            settled: Signal::default(),
            waiting_bytes: Cell::default(),
            is_shut: Cell::default(),
            is_in_checkpoint: Cell::default(),
        }
    }
}

impl<F> Direct<F> {
    /// Bytes of batches that wait to be written.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.get()
    }

    /// The segments in which batches stand that no checkpoint names yet: their files stay.
    pub(super) fn segments(&self) -> BTreeSet<SegmentId> {
        let runs = self.runs.borrow();
        let names = runs.iter().flat_map(|(key, run)| run.names().map(move |name| (*key, name)));
        names.collect()
    }

    /// A checkpoint begins: until it ends, runs begin in segments of their own.
    pub(super) fn checkpoint_begins(&self) {
        self.is_in_checkpoint.set(true);
    }

    /// A checkpoint was given up.
    pub(super) fn checkpoint_failed(&self) {
        self.is_in_checkpoint.set(false);
    }

    /// A checkpoint was written: what it holds needs no place any more. `log_starts` has the
    /// partitions that there are.
    pub(super) fn checkpoint_ended(
        &self,
        flushed: &[FlushedRange],
        log_starts: &BTreeMap<PartitionKey, i64>,
    ) {
        self.is_in_checkpoint.set(false);
        self.is_shut.set(false);
        let mut runs = self.runs.borrow_mut();
        for FlushedRange { partition, upto } in flushed {
            if let Some(run) = runs.get_mut(partition) {
                run.forget_below(*upto);
            }
        }
        runs.retain(|key, run| {
            let is_over = run.is_empty() || !log_starts.contains_key(key);
            !(run.is_quiet() && is_over)
        });
    }

    /// Waits until the batches of a partition's entries up to `upto` are written or refused.
    pub(super) async fn settle(&self, key: PartitionKey, upto: EntrySeq) {
        loop {
            let seen = self.settled.count();
            let is_settled = self.runs.borrow().get(&key).is_none_or(|run| run.is_settled(upto));
            if is_settled {
                return;
            }
            self.settled.past(seen).await;
        }
    }

    /// The segments that hold the batches of a partition's entries up to `upto`, all settled, and
    /// the offset after the last of them. `newest` is the last segment that is known without them.
    pub(super) fn written(
        &self,
        key: PartitionKey,
        newest: Option<SegmentMeta>,
        upto: EntrySeq,
    ) -> Option<(Vec<WrittenSegment>, i64)> {
        self.runs.borrow().get(&key)?.written(newest, upto)
    }

    /// Notes a batch that goes another way: the run of its partition ends.
    fn pass(&self, key: PartitionKey) {
        if let Some(run) = self.runs.borrow_mut().get_mut(&key) {
            run.end();
        }
    }
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Gives the large batches of an entry their places, if they can have one.
    pub(super) fn place(&self, entry: Entry) -> DurableEntry {
        let mut places = Vec::new();
        for (index, fact) in entry.facts.iter().enumerate() {
            if let Fact::Appended { partition, batch, .. } = fact {
                match self.place_batch(*partition, entry.seq, batch) {
                    Some(place) => places.push((index, place)),
                    None => self.direct.pass(*partition),
                }
            }
        }
        DurableEntry::new(entry, places)
    }

    fn place_batch(&self, key: PartitionKey, seq: EntrySeq, batch: &LogBatch) -> Option<Rc<Place>> {
        if batch.size_bytes() < self.config.direct_batch_bytes || self.direct.is_shut.get() {
            return None;
        }
        let segment_bytes = self.segment_bytes(key);
        let mut runs = self.direct.runs.borrow_mut();
        let continues = runs.get(&key).is_some_and(|run| run.is_continued_by(batch));
        if !continues {
            let is_free = runs.get(&key).is_none_or(|run| run.is_empty());
            let has_room = runs.contains_key(&key) || runs.len() < DIRECT_RUNS_MAX;
            if !(is_free && has_room && self.nothing_waits_before(key, batch)) {
                return None;
            }
            runs.insert(key, self.begin_run(key, batch.base_offset()));
        }
        let run = runs.get_mut(&key)?;
        let fresh = || self.segments.fresh_generation();
        let place = run.place(seq, batch, segment_bytes, fresh);
        self.direct.waiting_bytes.set(self.direct.waiting_bytes.get() + batch.size_bytes() as u64);
        if run.wants_lane() {
            self.direct.ready.borrow_mut().push_back(key);
            self.direct.work.raise();
        }
        Some(place)
    }

    /// Size at which a segment of a partition is closed.
    fn segment_bytes(&self, key: PartitionKey) -> u64 {
        let of_topic = self.with_engine(|engine| {
            engine.catalog().by_id(key.topic_id)?.config("segment.bytes").parse::<u64>().ok()
        });
        of_topic.unwrap_or(u64::MAX).min(self.config.segment_bytes as u64)
    }

    /// Whether everything of the partition before this batch is in segments.
    fn nothing_waits_before(&self, key: PartitionKey, batch: &LogBatch) -> bool {
        self.with_engine(|engine| {
            let partition = engine.catalog().partition(key);
            partition.is_some_and(|partition| partition.flushed() == batch.base_offset())
        })
    }

    /// A run from this offset on: in the newest segment, if that is as the newest checkpoint names
    /// it and can be continued, else in one of its own.
    fn begin_run(&self, key: PartitionKey, base_offset: i64) -> Run<D::File> {
        let is_closed = self.with_engine(|engine| engine.wants_new_segment(key));
        let newest = self.segments.with_table(|table| table.of(key).last().copied());
        let block_bytes = self.disk.block_bytes();
        match newest {
            Some(newest)
                if !(is_closed || self.direct.is_in_checkpoint.get())
                    && newest.end_offset == base_offset
                    && self.segments.can_continue(key, &newest) =>
            {
                Run::after(newest, block_bytes)
            }
            _ => Run::new(base_offset, self.segments.fresh_generation(), block_bytes),
        }
    }
}
