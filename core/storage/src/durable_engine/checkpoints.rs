//! Checkpoints: batches go to segments, the engine's state beside them, the journal's space is
//! free again. All of it beside the journal's own writes, which never wait for it unless the ring
//! is full.

use std::collections::BTreeSet;
use std::convert::Infallible;

use futures::future::select;
use futures::stream::{self, StreamExt};
use millpond_engine::{EntrySeq, Event, FlushedRange, PartitionKey};
use millpond_wire::limits::SEGMENT_FLUSHES_AT_ONCE;
use millpond_wire::record::LogBatch;

use super::{DurableEngine, FatalDiskError, Life, Shell};
use crate::checkpoint::{self, Checkpoint};
use crate::disk::{Disk, DiskError};
use crate::segments::SegmentMeta;

/// A partition's part of a checkpoint.
struct Flushed {
    key: PartitionKey,
    metas: Vec<SegmentMeta>,
    upto: i64,
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Takes a checkpoint whenever one is due; the last one when the node stops. Ends only with an
    /// error.
    pub(super) async fn take_checkpoints(&self) -> FatalDiskError {
        loop {
            let progress = self.journal.progress_count();
            let life = self.life_moved.count();
            let is_stopping = self.life.get() >= Life::Stopping;
            if is_stopping || self.is_checkpoint_due() {
                match self.checkpoint().await {
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
            select(progress, self.life_moved.past(life)).await;
        }
    }

    fn is_checkpoint_due(&self) -> bool {
        let half = self.journal.shape().total_bytes() / 2;
        self.unflushed_bytes.get() >= self.config.tail_bytes as u64
            || self.journal.used_bytes() >= half
            || self.journal.is_starved()
    }

    /// Takes a checkpoint of this moment. False if a topic was deleted under it.
    async fn checkpoint(&self) -> Result<bool, DiskError> {
        // Nothing may come between these: cut, snapshot and sequence are of one moment.
        self.journal.cut();
        let unflushed_bytes = self.unflushed_bytes.take();
        let (seq, snapshot, alive) = self.with_engine(|engine| {
            let keys = engine.catalog().iter().flat_map(|topic| topic.keys());
            (engine.last_seq(), engine.snapshot(), keys.collect::<BTreeSet<_>>())
        });
        let flushes = alive.iter().filter(|key| self.has_unflushed(**key, seq));
        let keys: Vec<PartitionKey> = flushes.copied().collect();
        let mut flushing = stream::iter(keys.iter().map(|key| self.flush_partition(*key, seq)))
            // Syncs of several share the file system's own journal commits.
            .buffer_unordered(SEGMENT_FLUSHES_AT_ONCE);
        let mut table = self.segments.table_of(&alive);
        let mut ranges = Vec::new();
        while let Some(flushed) = flushing.next().await {
            let Some(Flushed { key, metas, upto }) = flushed? else {
                self.unflushed_bytes.set(self.unflushed_bytes.get() + unflushed_bytes);
                return Ok(false);
            };
            for meta in metas {
                table.put(key, meta);
            }
            ranges.push(FlushedRange { partition: key, upto });
        }
        let resume = self.journal.cut_ready().await;
        assert_eq!(resume.next_entry, seq.0 + 1, "journal and snapshot are of one moment");
        let number = self.checkpoint_number.get() + 1;
        let journal_id = self.journal.id();
        let checkpoint = Checkpoint { number, journal_id, resume, segments: table, snapshot };
        checkpoint::store(&self.disk, &checkpoint, &self.meter).await?;
        self.checkpoint_number.set(number);
        self.journal.release(resume);
        self.segments.publish(checkpoint.segments).await?;
        self.submit(Event::Flushed(ranges));
        checkpoint::remove_others(&self.disk, number).await?;
        self.meter.checkpointed();
        Ok(true)
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
        let metas = self.segments.flush(key, &batches).await?;
        Ok(Some(Flushed { key, metas, upto }))
    }
}
