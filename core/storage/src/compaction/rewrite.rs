//! The second half of a round: the log without what is superseded. Must be given every batch from
//! the start of the log on, oldest first; must never let a tombstone go while something that it
//! deletes may still be there.

use super::aborted::Aborted;
use super::keys::OffsetMap;
use crate::packing::{MergeError, Merger, PackPolicy, Source, class_of, delete_horizon, is_dense};
use millpond_wire::limits::DECOMPRESSED_BYTES_MAX;
use millpond_wire::record::{Batch, LogBatch, Record};
use std::sync::Arc;
use thiserror::Error;

/// A round cannot go on. Nothing of it may be used; the log stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("compaction cannot write a batch anew: {0}")]
pub struct CompactionError(String);

impl From<MergeError> for CompactionError {
    fn from(error: MergeError) -> Self {
        Self(error.to_string())
    }
}

/// What a round knows.
#[derive(Debug)]
pub struct Round {
    /// The newest offset of each key, from a scan.
    pub keys: OffsetMap,
    /// Where the scan ended: no key at or above it is known.
    pub end_offset: i64,
    /// The time, in ms since 1970; `None` while the clock cannot be believed: then no tombstone
    /// goes, and none is told when it may.
    pub now_ms: Option<i64>,
    /// `delete.retention.ms` of the topic.
    pub delete_retention_ms: i64,
    /// As the scan had them.
    pub aborted: Arc<Aborted>,
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RewriteStats {
    /// Batches that came in.
    pub batches_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Records that stay.
    pub kept: u64,
    /// Records that went because their key has a newer one.
    pub superseded: u64,
    /// Tombstones that went because their time was over.
    pub expired: u64,
    /// Records that went because their transaction was aborted.
    pub aborted: u64,
    /// Batches whose tombstones were seen for the first time: the time from which they may go has
    /// to be written down.
    pub marked: u64,
    /// Batches that stay as they are because they cannot be read or written anew. Where there is
    /// one, no tombstone after it goes.
    pub stuck: u64,
}

impl RewriteStats {
    /// Records that went.
    #[must_use]
    pub const fn removed(&self) -> u64 {
        self.superseded.saturating_add(self.expired).saturating_add(self.aborted)
    }

    /// Whether the log has to be exchanged; else it was only packed, if that.
    #[must_use]
    pub const fn is_changed(&self) -> bool {
        self.removed() > 0 || self.marked > 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    KeptTombstone,
    Superseded,
    Expired,
    Aborted,
}

/// What decides about the records of one batch.
#[derive(Clone, Copy)]
struct Judge<'r> {
    round: &'r Round,
    is_aborted: bool,
    /// Tombstones of this batch go.
    is_expired: bool,
}

impl Judge<'_> {
    fn fate(self, offset: i64, record: &Record<'_>) -> Fate {
        if self.is_aborted && offset < self.round.end_offset {
            return Fate::Aborted;
        }
        let Some(key) = record.key else {
            return Fate::Kept;
        };
        if self.round.keys.newest(key).is_some_and(|newest| newest > offset) {
            return Fate::Superseded;
        }
        if record.value.is_some() {
            return Fate::Kept;
        }
        let is_expired = self.is_expired && offset < self.round.end_offset;
        if is_expired { Fate::Expired } else { Fate::KeptTombstone }
    }
}

/// Takes the batches of a log, gives those that replace them.
pub struct Rewriter {
    round: Arc<Round>,
    policy: PackPolicy,
    merger: Merger,
    stats: RewriteStats,
    /// Something older could not be gone through: what a tombstone deletes may be in it.
    holds_tombstones: bool,
    /// Nothing is written.
    only_looks: bool,
    first_offset: Option<i64>,
    last_epoch: i32,
    last_max_timestamp: i64,
}

impl Rewriter {
    /// A rewriter that also packs what is small, as `policy` says.
    #[must_use]
    pub fn new(round: Arc<Round>, policy: &PackPolicy) -> Self {
        Self {
            round,
            policy: policy.clone(),
            merger: Merger::new(policy),
            stats: RewriteStats::default(),
            holds_tombstones: false,
            only_looks: false,
            first_offset: None,
            last_epoch: 0,
            last_max_timestamp: 0,
        }
    }

    /// For a later part of a log that is not written in one go: `before` is what the parts in front
    /// of it came to.
    #[must_use]
    pub fn after(mut self, before: &RewriteStats) -> Self {
        self.holds_tombstones = before.stuck > 0;
        self
    }

    /// Only counts what would go: whether a part of the log has to be written anew at all.
    #[must_use]
    pub fn only_looking(mut self) -> Self {
        self.only_looks = true;
        self
    }

    /// Takes the next batch.
    ///
    /// # Errors
    /// [`CompactionError`]: the round is to be given up.
    pub fn add(&mut self, batch: &LogBatch) -> Result<(), CompactionError> {
        let header = batch.header();
        self.stats.batches_in += 1;
        self.stats.bytes_in += batch.size_bytes() as u64;
        self.first_offset.get_or_insert(batch.base_offset());
        (self.last_epoch, self.last_max_timestamp) = (batch.leader_epoch, batch.max_timestamp());
        if batch.base_offset() >= self.round.end_offset || header.attributes.is_control() {
            return self.pass(batch);
        }
        if header.records_count == 0 {
            self.merger.cover(batch.last_offset(), batch.leader_epoch);
            return Ok(());
        }
        let class = class_of(&header, &self.policy);
        let source = class.map(|class| Source::open(batch, class, DECOMPRESSED_BYTES_MAX));
        match source {
            Some(Ok(source)) => self.rewrite(batch, &source),
            _ => self.stuck(batch),
        }
    }

    fn rewrite(&mut self, batch: &LogBatch, source: &Source<'_>) -> Result<(), CompactionError> {
        let header = batch.header();
        let horizon = delete_horizon(&header);
        let judge = Judge {
            round: &self.round,
            is_aborted: self.round.aborted.holds(batch),
            is_expired: !self.holds_tombstones && self.is_reached(horizon),
        };
        let mut stats = self.stats;
        let mut tombstones = 0_u64;
        let survey = source.survey(|record| {
            let fate = judge.fate(source.offset(record), record);
            stats.count(fate);
            tombstones += u64::from(fate == Fate::KeptTombstone);
            matches!(fate, Fate::Kept | Fate::KeptTombstone)
        });
        let Ok(survey) = survey else {
            return self.stuck(batch);
        };
        if survey.kept == 0 {
            self.stats = stats;
            self.merger.cover(batch.last_offset(), batch.leader_epoch);
            return Ok(());
        }
        let horizon = if tombstones == 0 { None } else { horizon.or(self.new_horizon(batch)) };
        if !survey.can_be_rewritten(horizon) {
            return self.stuck(batch);
        }
        self.stats = stats;
        self.stats.marked += u64::from(horizon.is_some() && delete_horizon(&header).is_none());
        if self.only_looks {
            return Ok(());
        }
        let is_same = survey.dropped == 0 && horizon == delete_horizon(&header);
        if is_same && is_dense(&header, batch, &self.policy) {
            return Ok(self.merger.pass(batch)?);
        }
        let keep = |record: &Record<'_>| {
            let fate = judge.fate(source.offset(record), record);
            matches!(fate, Fate::Kept | Fate::KeptTombstone)
        };
        Ok(self.merger.add(source, &survey, horizon, keep)?)
    }

    /// Until when tombstones stay that this round is the first to see. Only where it has seen all
    /// that they can delete.
    fn new_horizon(&self, batch: &LogBatch) -> Option<i64> {
        let is_seen = batch.next_offset() <= self.round.end_offset && !self.holds_tombstones;
        let now_ms = self.round.now_ms.filter(|_| is_seen)?;
        Some(now_ms.saturating_add(self.round.delete_retention_ms.max(0)))
    }

    fn is_reached(&self, horizon: Option<i64>) -> bool {
        horizon.zip(self.round.now_ms).is_some_and(|(at_ms, now_ms)| at_ms <= now_ms)
    }

    fn stuck(&mut self, batch: &LogBatch) -> Result<(), CompactionError> {
        self.stats.stuck += 1;
        self.stats.kept += u64::try_from(batch.header().records_count).unwrap_or(0);
        self.holds_tombstones = true;
        self.pass(batch)
    }

    fn pass(&mut self, batch: &LogBatch) -> Result<(), CompactionError> {
        if !self.only_looks {
            self.merger.pass(batch)?;
        }
        Ok(())
    }

    /// The batches that are done, to be written while the round goes on. At most one more batch
    /// is in the making.
    #[must_use]
    pub fn take(&mut self) -> Vec<LogBatch> {
        self.merger.take()
    }

    /// What was done so far.
    #[must_use]
    pub const fn stats(&self) -> RewriteStats {
        self.stats
    }

    /// The last batches. They reach up to `end_offset` whether records are left there or not, so
    /// that consumers come past what is gone even if nothing follows.
    ///
    /// # Errors
    /// [`CompactionError`]: the round is to be given up.
    pub fn finish(
        mut self,
        end_offset: i64,
    ) -> Result<(Vec<LogBatch>, RewriteStats), CompactionError> {
        self.merger.cover(end_offset.saturating_sub(1), self.last_epoch);
        self.merger.close()?;
        let reached = self.merger.next_offset().or(self.first_offset);
        let mut batches = self.merger.finish()?.batches;
        if let Some(reached) = reached.filter(|reached| *reached < end_offset) {
            let base = reached.max(end_offset.saturating_sub(1 << 31));
            let delta = end_offset.saturating_sub(base).saturating_sub(1);
            let delta = i32::try_from(delta).unwrap_or(i32::MAX);
            let empty = Batch::without_records(delta, self.last_max_timestamp);
            batches.push(LogBatch::stamp(empty, base, self.last_epoch));
        }
        Ok((batches, self.stats))
    }
}

impl RewriteStats {
    fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Kept | Fate::KeptTombstone => self.kept += 1,
            Fate::Superseded => self.superseded += 1,
            Fate::Expired => self.expired += 1,
            Fate::Aborted => self.aborted += 1,
        }
    }
}
