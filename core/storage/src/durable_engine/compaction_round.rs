//! One round of compaction: the keys of what is new are read, then the log from its start on is
//! written anew without what they supersede, into files that nothing names yet; at the end they
//! are staged for the next checkpoint. Cut short at any point it has changed nothing: files that
//! no checkpoint names go at once, or at the next start.
//!
//! It must never hold more than a piece of the log and one batch in the making beside the map of
//! keys, and never compute on the engine's thread.

use std::sync::Arc;

use millpond_engine::PartitionKey;
use millpond_wire::record::LogBatch;

use super::compaction_io::{Feed, GivenUp, Output};
use super::shell::offload;
use super::space::space_left;
use super::{DurableEngine, Shell};
use crate::compaction::{Aborted, KeyScan, RewriteStats, Rewriter, Round};
use crate::disk::Disk;
use crate::segments::{Replacement, SegmentMeta};

/// What a round is to do.
pub(super) struct Job {
    pub(super) key: PartitionKey,
    /// From the start of the log to where the round ends at the latest.
    pub(super) metas: Vec<SegmentMeta>,
    /// Where the part begins that no round has seen.
    pub(super) dirty_offset: i64,
    /// See [`Round::now_ms`].
    pub(super) now_ms: Option<i64>,
    pub(super) delete_retention_ms: i64,
    /// Transactions that were aborted in it.
    pub(super) aborted: Arc<Aborted>,
    /// How far apart the times of segments may lie that become one.
    pub(super) span_ms: i64,
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Does a round and stages what came of it; answers how many bytes that saves.
    pub(super) async fn compaction_round(&self, job: &Job) -> Result<u64, GivenUp> {
        self.check_room(job).await?;
        let (scan, boundary) = self.scan(job).await?;
        let round = Arc::new(Round {
            end_offset: scan.end_offset(),
            keys: scan.into_keys(),
            now_ms: job.now_ms,
            delete_retention_ms: job.delete_retention_ms,
            aborted: Arc::clone(&job.aborted),
        });
        let metas: Vec<_> =
            job.metas.iter().filter(|meta| meta.base_offset < boundary).copied().collect();
        let segment_bytes = self.config.segment_bytes as u64;
        let mut output = Output::new(&self.segments, job.key, segment_bytes);
        let parts = parts(&metas, job.span_ms, self.full_bytes());
        match self.rewrite(job.key, &parts, boundary, &round, &mut output).await {
            Ok(stats) => {
                self.meter.compaction(|metrics| {
                    metrics.superseded_records += stats.superseded;
                    metrics.expired_tombstones += stats.expired;
                    metrics.aborted_records += stats.aborted;
                });
                let (partition, add) = (job.key, output.done);
                let mut remove = metas;
                remove.retain(|meta| !output.kept.contains(meta));
                let saved_bytes = bytes_of(&remove).saturating_sub(bytes_of(&add));
                self.segments.stage(Replacement { partition, remove, add });
                Ok(saved_bytes)
            }
            Err(given_up) => {
                output.discard().await;
                Err(given_up)
            }
        }
    }

    /// Old and new segments stand beside each other for a while; checkpoints must go on.
    async fn check_room(&self, job: &Job) -> Result<(), GivenUp> {
        let left = space_left(&self.disk).await;
        let reserve_bytes = self.space_report(left).reserve_bytes;
        let needed_bytes = bytes_of(&job.metas).saturating_add(reserve_bytes);
        let free_bytes = left.free_bytes;
        if free_bytes < needed_bytes {
            return Err(GivenUp::NoRoom { free_bytes, needed_bytes });
        }
        Ok(())
    }

    /// The keys of what is new, and where the round ends: at the end of the last segment, or, where
    /// the memory for keys is full, before the first batch that did not fit.
    async fn scan(&self, job: &Job) -> Result<(KeyScan, i64), GivenUp> {
        let dirty = job.metas.partition_point(|meta| meta.end_offset <= job.dirty_offset);
        let mut feed = self.feed(job.key, job.metas.get(dirty..).unwrap_or_default());
        let aborted = Arc::clone(&job.aborted);
        let mut scan = KeyScan::new(job.dirty_offset, self.config.compaction_map_bytes, aborted);
        while let Some(piece) = self.next_piece(&mut feed).await? {
            let work = move || {
                let full = piece.iter().find(|batch| !scan.add(batch));
                let full = full.map(|batch| (batch.base_offset(), batch.next_offset()));
                (scan, full)
            };
            let done = offload(&self.shell, work).await;
            let full;
            (scan, full) = done.ok_or_else(panicked)?;
            if let Some((base_offset, next_offset)) = full {
                // One batch is gone over in any case.
                let is_first = base_offset <= job.dirty_offset;
                return Ok((scan, if is_first { next_offset } else { base_offset }));
            }
        }
        let end_offset = job.metas.last().map_or(job.dirty_offset, |meta| meta.end_offset);
        Ok((scan, end_offset))
    }

    /// Writes the log up to `boundary` anew, and what `parts` hold above it as it is.
    async fn rewrite(
        &self,
        key: PartitionKey,
        parts: &[&[SegmentMeta]],
        boundary: i64,
        round: &Arc<Round>,
        output: &mut Output<'_, D>,
    ) -> Result<RewriteStats, GivenUp> {
        let mut stats = RewriteStats::default();
        for part in parts {
            let Some((first, last)) = part.first().zip(part.last()) else { continue };
            if let [only] = part
                && self.is_unchanged(key, part, round, &mut stats).await?
            {
                output.kept.push(*only);
                continue;
            }
            let end_offset = last.end_offset.min(boundary);
            output.begin_part(first.base_offset, true);
            let rest = self.rewrite_part(key, part, end_offset, round, &mut stats, output).await?;
            output.close(end_offset).await?;
            if end_offset < last.end_offset {
                output.begin_part(end_offset, false);
                self.copy(rest, output).await?;
                output.close(last.end_offset).await?;
            }
        }
        Ok(stats)
    }

    /// Whether a segment is large and clean, and a round changes nothing in it.
    async fn is_unchanged(
        &self,
        key: PartitionKey,
        part: &[SegmentMeta],
        round: &Arc<Round>,
        stats: &mut RewriteStats,
    ) -> Result<bool, GivenUp> {
        if !part.iter().all(|meta| is_settled(meta, self.full_bytes())) {
            return Ok(false);
        }
        let policy = self.compaction_policy(key);
        let mut looker = Rewriter::new(Arc::clone(round), &policy).after(stats).only_looking();
        let mut feed = self.feed(key, part);
        while let Some(piece) = self.next_piece(&mut feed).await? {
            let work = move || {
                let result = piece.iter().try_for_each(|batch| looker.add(batch));
                (looker, result)
            };
            let result;
            (looker, result) = offload(&self.shell, work).await.ok_or_else(panicked)?;
            result.map_err(|error| GivenUp::Failed(error.to_string()))?;
            if looker.stats().is_changed() {
                return Ok(false);
            }
        }
        stats.stuck += looker.stats().stuck;
        Ok(true)
    }

    /// Smaller segments are written anew together with their neighbours.
    fn full_bytes(&self) -> u64 {
        self.config.segment_bytes as u64 / 2
    }

    /// Goes over segments without a hole between them. What is left of them above `end_offset`
    /// comes back.
    async fn rewrite_part<'a>(
        &'a self,
        key: PartitionKey,
        part: &'a [SegmentMeta],
        end_offset: i64,
        round: &Arc<Round>,
        stats: &mut RewriteStats,
        output: &mut Output<'_, D>,
    ) -> Result<(Vec<LogBatch>, Feed<'a, D>), GivenUp> {
        let policy = self.compaction_policy(key);
        let mut rewriter = Rewriter::new(Arc::clone(round), &policy).after(stats);
        let mut feed = self.feed(key, part);
        let mut rest = Vec::new();
        while let Some(mut piece) = self.next_piece(&mut feed).await? {
            let below = piece.partition_point(|batch| batch.base_offset() < end_offset);
            rest = piece.split_off(below);
            let work = move || {
                let result = piece.iter().try_for_each(|batch| rewriter.add(batch));
                let batches = rewriter.take();
                (rewriter, result, batches)
            };
            let done = offload(&self.shell, work).await;
            let (result, batches);
            (rewriter, result, batches) = done.ok_or_else(panicked)?;
            result.map_err(|error| GivenUp::Failed(error.to_string()))?;
            self.write(&batches, output).await?;
            if !rest.is_empty() {
                break;
            }
        }
        let finished = offload(&self.shell, move || rewriter.finish(end_offset)).await;
        let finished = finished.ok_or_else(panicked)?;
        let (batches, of_part) = finished.map_err(|error| GivenUp::Failed(error.to_string()))?;
        self.write(&batches, output).await?;
        stats.superseded += of_part.superseded;
        stats.expired += of_part.expired;
        stats.aborted += of_part.aborted;
        stats.stuck += of_part.stuck;
        Ok((rest, feed))
    }

    async fn copy(
        &self,
        (first, mut feed): (Vec<LogBatch>, Feed<'_, D>),
        output: &mut Output<'_, D>,
    ) -> Result<(), GivenUp> {
        self.write(&first, output).await?;
        while let Some(piece) = self.next_piece(&mut feed).await? {
            self.write(&piece, output).await?;
        }
        Ok(())
    }

    fn feed<'a>(&'a self, key: PartitionKey, metas: &'a [SegmentMeta]) -> Feed<'a, D> {
        Feed::new(&self.segments, key, metas)
    }

    /// The next batches, at the pace of background work; `None` at the end.
    async fn next_piece(&self, feed: &mut Feed<'_, D>) -> Result<Option<Vec<LogBatch>>, GivenUp> {
        if self.is_stopping() {
            return Err(GivenUp::Stopping);
        }
        let piece = feed.next().await?;
        let bytes = piece.iter().map(LogBatch::size_bytes).sum::<usize>() as u64;
        self.meter.compaction(|metrics| metrics.read_bytes += bytes);
        self.pace(bytes).await;
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    async fn write(&self, batches: &[LogBatch], output: &mut Output<'_, D>) -> Result<(), GivenUp> {
        let mut bytes = 0;
        for batch in batches {
            // Nothing may be made in a directory that is about to go.
            if self.with_engine(|engine| engine.catalog().partition(output.key).is_none()) {
                return Err(GivenUp::Replaced);
            }
            output.add(batch).await?;
            bytes += batch.size_bytes() as u64;
        }
        self.meter.compaction(|metrics| metrics.written_bytes += bytes);
        self.pace(bytes).await;
        Ok(())
    }
}

/// Whether a segment need not be written anew for its own sake.
fn is_settled(meta: &SegmentMeta, full_bytes: u64) -> bool {
    meta.is_clean && meta.trusted_bytes >= full_bytes
}

/// What is written anew in one go: no part has a hole in it, where offsets were lost, or reaches
/// over more than `span_ms`. Clean segments of `full_bytes` are parts of their own.
fn parts(metas: &[SegmentMeta], span_ms: i64, full_bytes: u64) -> Vec<&[SegmentMeta]> {
    let mut parts = Vec::new();
    let mut rest = metas;
    while let Some(first) = rest.first() {
        let is_together = |pair: &&[SegmentMeta]| {
            let [before, after] = pair else { return false };
            let span_ms_now = after.max_timestamp.saturating_sub(first.max_timestamp);
            let is_settled = [before, after].iter().any(|meta| is_settled(meta, full_bytes));
            before.end_offset == after.base_offset && span_ms_now <= span_ms && !is_settled
        };
        let len = rest.windows(2).take_while(is_together).count() + 1;
        let (part, later) = rest.split_at(len);
        parts.push(part);
        rest = later;
    }
    parts
}

fn bytes_of(metas: &[SegmentMeta]) -> u64 {
    metas.iter().map(|meta| meta.trusted_bytes).sum()
}

fn panicked() -> GivenUp {
    GivenUp::Failed("its computation failed; see the log".to_owned())
}
