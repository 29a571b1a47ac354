//! Checkpoints: batches go to segments, the engine's state beside them, the journal's space is
//! free again. All of it beside the journal's own writes, which never wait for it unless the ring
//! is full.

use std::collections::BTreeMap;
use std::convert::Infallible;

use futures::future::select;
use futures::stream::{self, StreamExt};
use millpond_engine::{EntrySeq, Event, FlushedRange, Partition, PartitionKey};
use millpond_wire::limits::SEGMENT_FLUSHES_AT_ONCE;
use millpond_wire::record::LogBatch;

use super::space::stored_between;
use super::{DurableEngine, FatalDiskError, Life, Shell};
use crate::checkpoint::{self, Checkpoint};
use crate::disk::{Disk, DiskError};
use crate::segments::{Draft, SegmentMeta, WrittenSegment};

/// A partition's part of a checkpoint.
struct Flushed {
    key: PartitionKey,
    segments: Vec<WrittenSegment>,
    upto: i64,
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Takes a checkpoint whenever one is due; the last one when the node stops. Ends only with an
    /// error.
    pub(super) async fn take_checkpoints(&self) -> FatalDiskError {
        loop {
            let progress = self.journal.progress_count();
            let life = self.life_moved.count();
            let space = self.space.moved.count();
            let is_stopping = self.life.get() >= Life::Stopping;
            if is_stopping || self.is_checkpoint_due() {
                self.compactions.checkpoint_begins();
                let checkpoint = self.checkpoint().await;
                self.compactions.checkpoint_ended();
                match checkpoint {
                    Ok(true) if is_stopping => {
                        self.journal.stop();
                        // The journal's end is the end of it all.
                        std::future::pending::<Infallible>().await;
                    }
                    // Abandoned ones are tried again at once.
                    Ok(_) => {}
                    Err(error) => return FatalDiskError::Checkpoint(error),
                }
                continue;
            }
            let progress = self.journal.progress_past(progress);
            let moved = select(self.life_moved.past(life), self.space.moved.past(space));
            let moved = select(progress, moved);
            match self.space.reclaim_due_ms() {
                Some(due_ms) => drop(select(moved, self.shell.sleep_until_ms(due_ms)).await),
                None => drop(moved.await),
            }
        }
    }

    fn is_checkpoint_due(&self) -> bool {
        let half = self.journal.shape().total_bytes() / 2;
        self.unflushed_bytes.get() >= self.config.tail_bytes as u64
            || self.journal.used_bytes() >= half
            || self.journal.is_starved()
            || self.space.reclaim_due_ms().is_some_and(|due_ms| self.shell.now().mono_ms >= due_ms)
    }

    /// Takes a checkpoint of this moment. False if a topic was deleted under it.
    async fn checkpoint(&self) -> Result<bool, DiskError> {
        self.space.checkpoint_begins();
        // Nothing may come between these: cut, snapshot and sequence are of one moment.
        self.journal.cut();
        let unflushed_bytes = self.unflushed_bytes.take();
        let (seq, snapshot) = self.with_engine(|engine| (engine.last_seq(), engine.snapshot()));
        let log_starts = self.log_starts();
        let mut draft = self.segments.draft(&log_starts).await?;
        let Some(ranges) = self.flush_all(seq, &log_starts, &mut draft).await? else {
            self.unflushed_bytes.set(self.unflushed_bytes.get() + unflushed_bytes);
            self.segments.abandon(draft);
            return Ok(false);
        };
        let resume = self.journal.cut_ready().await;
        assert_eq!(resume.next_entry, seq.0 + 1, "journal and snapshot are of one moment");
        let number = self.checkpoint_number.get() + 1;
        let journal_id = self.journal.id();
        let checkpoint = Checkpoint { number, journal_id, resume, segments: draft.table, snapshot };
        checkpoint::store(&self.disk, &checkpoint, &self.meter).await?;
        self.checkpoint_number.set(number);
        self.journal.release(resume);
        let stored =
            self.segments.with_table(|before| stored_between(before, &checkpoint.segments));
        self.segments.publish(checkpoint.segments, draft.written, &log_starts).await?;
        self.submit(Event::Flushed(ranges));
        self.submit(Event::Stored(stored));
        checkpoint::remove_others(&self.disk, number).await?;
        self.meter.checkpointed();
        self.checkpoint_ended();
        Ok(true)
    }

    /// Where the log of each partition that there is begins.
    fn log_starts(&self) -> BTreeMap<PartitionKey, i64> {
        self.with_engine(|engine| {
            let catalog = engine.catalog();
            let keys = catalog.iter().flat_map(|topic| topic.keys());
            let start = |key| catalog.partition(key).map_or(0, Partition::log_start);
            keys.map(|key| (key, start(key))).collect()
        })
    }

    /// Writes what is in no segment, of entries up to `upto`, and notes it in `draft`; `None` if a
    /// topic was deleted under it.
    async fn flush_all(
        &self,
        upto: EntrySeq,
        log_starts: &BTreeMap<PartitionKey, i64>,
        draft: &mut Draft,
    ) -> Result<Option<Vec<FlushedRange>>, DiskError> {
        let keys = log_starts.keys().filter(|key| self.has_unflushed(**key, upto));
        let keys: Vec<_> = keys.map(|key| (*key, draft.table.of(*key).last().copied())).collect();
        let new = keys.iter().filter(|(_, newest)| newest.is_none()).map(|(key, _)| *key);
        self.segments.make_directories(new).await?;
        let flushes = keys.into_iter().map(|(key, newest)| self.flush_partition(key, newest, upto));
        // Syncs of several share the file system's own journal commits.
        let mut flushing = stream::iter(flushes).buffer_unordered(SEGMENT_FLUSHES_AT_ONCE);
        let mut ranges = Vec::new();
        while let Some(flushed) = flushing.next().await {
            let Some(Flushed { key, segments, upto }) = flushed? else {
                return Ok(None);
            };
            for segment in segments {
                draft.put(key, segment);
            }
            ranges.push(FlushedRange { partition: key, upto });
        }
        Ok(Some(ranges))
    }

    fn has_unflushed(&self, key: PartitionKey, upto: EntrySeq) -> bool {
        self.with_engine(|engine| {
            let partition = engine.catalog().partition(key);
            partition.is_some_and(|partition| partition.unflushed(upto).next().is_some())
        })
    }

    /// Writes a partition's batches of entries up to `upto`; `None` if it is gone.
    async fn flush_partition(
        &self,
        key: PartitionKey,
        newest: Option<SegmentMeta>,
        upto: EntrySeq,
    ) -> Result<Option<Flushed>, DiskError> {
        let batches: Option<Vec<LogBatch>> = self.with_engine(|engine| {
            let partition = engine.catalog().partition(key)?;
            Some(partition.unflushed(upto).cloned().collect())
        });
        let Some(batches) = batches else {
            return Ok(None);
        };
        let Some(last) = batches.last() else {
            return Ok(None);
        };
        let upto = last.next_offset();
        let bytes = batches.iter().map(LogBatch::size_bytes).sum();
        let newest = newest.filter(|newest| self.compactions.may_continue(key, newest));
        let mut flush = self.segments.begin_flush(key, newest, bytes);
        self.pack_and_write(key, &batches, &mut flush).await?;
        let segments = flush.finish().await?;
        Ok(Some(Flushed { key, segments, upto }))
    }
}
