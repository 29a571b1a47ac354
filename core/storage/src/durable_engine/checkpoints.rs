//! Checkpoints: batches go to segments, the engine's state beside them, the journal's space is
//! free again. All of it beside the journal's own writes, which never wait for it unless the ring
//! is full.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use futures::future::select;
use futures::stream::{self, StreamExt};
use millpond_engine::{EntrySeq, Event, FlushedRange, FrozenState, PartitionKey, StoredPartition};
use millpond_wire::limits::SEGMENT_FLUSHES_AT_ONCE;
use millpond_wire::record::LogBatch;

use super::shell::offload;
use super::space::stored_between;
use super::{DurableEngine, FatalDiskError, Life, Shell};
use crate::checkpoint::{self, Checkpoint};
use crate::disk::{Disk, DiskError};
use crate::segments::{Draft, SegmentMeta, WrittenSegment};
use crate::signal::pause;

/// Partitions of which the engine is told in one event: what it does with them takes about a
/// microsecond each.
const PARTITIONS_TOLD_AT_ONCE: usize = 4_096;

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
            self.look_at_space().await;
            let may_try = !self.space.is_refusing() || self.may_try_again().await;
            if is_stopping || may_try && self.is_checkpoint_due() {
                self.compactions.checkpoint_begins();
                let checkpoint = self.checkpoint().await;
                self.compactions.checkpoint_ended();
                match checkpoint {
                    Ok(true) if is_stopping => self.end_journal().await,
                    // Abandoned ones are tried again at once.
                    Ok(_) => {}
                    // What the journal holds needs no checkpoint to survive.
                    Err(error) if checkpoint::is_abandonable(&error) => {
                        self.checkpoint_refused(&error).await;
                        if is_stopping && !self.journal.is_starved() {
                            self.end_journal().await;
                        }
                        if is_stopping {
                            return FatalDiskError::Checkpoint(error);
                        }
                    }
                    Err(error) => return FatalDiskError::Checkpoint(error),
                }
                continue;
            }
            let progress = self.journal.progress_past(progress);
            let moved = select(self.life_moved.past(life), self.space.moved.past(space));
            let moved = select(progress, moved);
            match self.next_look_ms() {
                Some(due_ms) => {
                    select(moved, self.shell.sleep_until_ms(due_ms)).await;
                }
                None => {
                    moved.await;
                }
            }
        }
    }

    /// The journal's end is the end of it all.
    async fn end_journal(&self) {
        self.journal.stop();
        std::future::pending::<Infallible>().await;
    }

    fn is_checkpoint_due(&self) -> bool {
        let half = self.journal.shape().total_bytes() / 2;
        self.unflushed_bytes.get() >= self.config.tail_bytes as u64
            || self.journal.used_bytes() >= half
            || self.journal.is_starved()
            || self.space.is_refusing()
            || self.space.reclaim_due_ms().is_some_and(|due_ms| self.shell.now().mono_ms >= due_ms)
    }

    /// Takes a checkpoint of this moment. False if a topic was deleted under it.
    async fn checkpoint(&self) -> Result<bool, DiskError> {
        // Nothing may come between these: cut, snapshot and sequence are of one moment.
        self.journal.cut();
        let unflushed_bytes = self.unflushed_bytes.take();
        let (seq, frozen, let_go) =
            self.with_engine(|engine| (engine.last_seq(), engine.freeze(), engine.let_go_bytes()));
        let log_starts = self.log_starts();
        self.space.checkpoint_begins(let_go);
        self.direct.checkpoint_begins();
        let mut draft = match self.segments.draft(&log_starts, &self.direct.segments()).await {
            Ok(draft) => draft,
            Err(error) => {
                self.unflushed_bytes.set(self.unflushed_bytes.get() + unflushed_bytes);
                self.direct.checkpoint_failed();
                return Err(error);
            }
        };
        let written = self.write_out(seq, frozen, &log_starts, &mut draft).await;
        let (checkpoint, ranges) = match written {
            Ok(Some(written)) => written,
            other => {
                self.unflushed_bytes.set(self.unflushed_bytes.get() + unflushed_bytes);
                self.segments.abandon(draft);
                self.direct.checkpoint_failed();
                return other.map(|_| false);
            }
        };
        self.checkpoint_number.set(checkpoint.number);
        self.journal.release(checkpoint.resume);
        let stored =
            self.segments.with_table(|before| stored_between(before, &checkpoint.segments));
        pause().await;
        let in_use = self.direct.segments();
        let table = checkpoint.segments;
        let published = self.segments.publish(table, draft.written, &log_starts, &in_use);
        // The files are no part of the checkpoint any more: a disk that refuses to remove them only
        // keeps strays.
        unless_refused(published.await)?;
        self.tell(&ranges, &stored).await;
        self.direct.checkpoint_ended(&ranges, &log_starts);
        self.segments.write_indexes(ranges.iter().map(|range| range.partition)).await;
        unless_refused(checkpoint::remove_others(&self.disk, checkpoint.number).await)?;
        self.meter.checkpointed();
        self.checkpoint_ended().await;
        Ok(true)
    }

    /// Writes segments, waits for the journal, writes the checkpoint; `None` if a topic was deleted
    /// under it.
    async fn write_out(
        &self,
        seq: EntrySeq,
        frozen: FrozenState,
        log_starts: &BTreeMap<PartitionKey, i64>,
        draft: &mut Draft,
    ) -> Result<Option<(Checkpoint, Vec<FlushedRange>)>, DiskError> {
        let Some(ranges) = self.flush_all(seq, log_starts, draft).await? else {
            return Ok(None);
        };
        let resume = self.journal.cut_ready().await;
        assert_eq!(resume.next_entry, seq.0 + 1, "journal and snapshot are of one moment");
        let number = self.checkpoint_number.get() + 1;
        let journal_id = self.journal.id();
        let segments = draft.table.clone();
        // With many producers and segments this is a matter of tens of milliseconds, which the
        // journal must not wait for.
        let encode = move || {
            let snapshot = frozen.encode();
            let checkpoint = Checkpoint { number, journal_id, resume, segments, snapshot };
            (checkpoint.encode(), checkpoint)
        };
        let encoded = offload(&self.shell, encode).await;
        let (bytes, checkpoint) =
            encoded.expect("encoding a checkpoint panicked; the panic is in the log");
        checkpoint::store(&self.disk, number, &bytes, &self.meter).await?;
        self.space.set_checkpoint_bytes(bytes.len() as u64);
        Ok(Some((checkpoint, ranges)))
    }

    /// Tells the engine what is in segments now; a part at a time, so that others get their turn.
    async fn tell(&self, ranges: &[FlushedRange], stored: &[StoredPartition]) {
        let mut parts = ranges.chunks(PARTITIONS_TOLD_AT_ONCE);
        self.submit(Event::Flushed(parts.next().unwrap_or_default().to_vec()));
        for part in parts {
            pause().await;
            self.submit(Event::Flushed(part.to_vec()));
        }
        pause().await;
        let mut parts = stored.chunks(PARTITIONS_TOLD_AT_ONCE);
        self.submit(Event::Stored(parts.next().unwrap_or_default().to_vec()));
        for part in parts {
            pause().await;
            self.submit(Event::Stored(part.to_vec()));
        }
    }

    /// Where the log of each partition that there is begins.
    fn log_starts(&self) -> BTreeMap<PartitionKey, i64> {
        self.with_engine(|engine| {
            let catalog = engine.catalog();
            let logs = catalog.iter().flat_map(|topic| topic.keys().zip(&topic.partitions));
            logs.map(|(key, log)| (key, log.log_start())).collect()
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
        let keys = self.unflushed(upto).into_iter().filter(|key| log_starts.contains_key(key));
        let newest = |key: &PartitionKey| draft.table.of(*key).last().copied();
        let keys: Vec<_> = keys.map(|key| (key, newest(&key))).collect();
        pause().await;
        let new = keys.iter().map(|(key, _)| *key).filter(|key| draft.table.of(*key).is_empty());
        self.segments.make_directories(new).await?;
        let has_failed = Cell::new(false);
        let failed = &has_failed;
        let flushes = keys.into_iter().map(|(key, newest)| async move {
            if failed.get() { Ok(None) } else { self.flush_partition(key, newest, upto).await }
        });
        // Syncs of several share the file system's own journal commits.
        let mut flushing = stream::iter(flushes).buffer_unordered(SEGMENT_FLUSHES_AT_ONCE);
        let mut ranges = Vec::new();
        let mut result = Ok(());
        // To the last one: a write under way must not meet those of the next try.
        while let Some(flushed) = flushing.next().await {
            match flushed {
                Ok(Some(Flushed { key, segments, upto })) => {
                    segments.into_iter().for_each(|segment| draft.put(key, segment));
                    ranges.push(FlushedRange { partition: key, upto });
                }
                Ok(None) => has_failed.set(true),
                Err(error) => {
                    has_failed.set(true);
                    // A device that failed is worse than one that is full.
                    if result.as_ref().err().is_none_or(DiskError::is_refusal) {
                        result = Err(error);
                    }
                }
            }
        }
        result.map(|()| (!has_failed.get()).then_some(ranges))
    }

    /// The partitions that have something in no segment, of entries up to `upto`.
    fn unflushed(&self, upto: EntrySeq) -> BTreeSet<PartitionKey> {
        self.with_engine(|engine| {
            let logs =
                engine.catalog().iter().flat_map(|topic| topic.keys().zip(&topic.partitions));
            let unflushed = logs.filter(|(_, log)| log.unflushed(upto).next().is_some());
            unflushed.map(|(key, _)| key).collect()
        })
    }

    /// Writes a partition's batches of entries up to `upto`; `None` if it is gone.
    async fn flush_partition(
        &self,
        key: PartitionKey,
        newest: Option<SegmentMeta>,
        upto: EntrySeq,
    ) -> Result<Option<Flushed>, DiskError> {
        self.direct.settle(key, upto).await;
        let batches: Option<Vec<LogBatch>> = self.with_engine(|engine| {
            let partition = engine.catalog().partition(key)?;
            Some(partition.unflushed(upto).cloned().collect())
        });
        let Some(mut batches) = batches else {
            return Ok(None);
        };
        let Some(last) = batches.last() else {
            return Ok(None);
        };
        let upto_offset = last.next_offset();
        // What went directly is in its segments already.
        let (mut segments, mut last) = (Vec::new(), newest);
        if let Some((written, end_offset)) = self.direct.written(key, newest, upto) {
            last = written.last().map(|segment| segment.meta);
            segments = written;
            batches.retain(|batch| batch.base_offset() >= end_offset);
        }
        let is_closed = self.with_engine(|engine| engine.wants_new_segment(key));
        let bytes = batches.iter().map(LogBatch::size_bytes).sum();
        let newest =
            last.filter(|_| !is_closed).filter(|newest| self.compactions.may_continue(key, newest));
        let mut flush = self.segments.begin_flush(key, newest, bytes);
        self.pack_and_write(key, &batches, &mut flush).await?;
        segments.extend(flush.finish().await?);
        Ok(Some(Flushed { key, segments, upto: upto_offset }))
    }
}

/// A refusal is taken as success: what was to be done can wait.
fn unless_refused(result: Result<(), DiskError>) -> Result<(), DiskError> {
    match result {
        Err(error) if error.is_refusal() => {
            tracing::warn!(%error, "files that are not needed any more stay until the next start");
            Ok(())
        }
        other => other,
    }
}
