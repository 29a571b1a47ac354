//! Compaction beside everything else: which partitions need a round, when, and one round after the
//! other. What a round does stands in `compaction_round.rs`; which records stay, in
//! [`crate::compaction`]. It must never touch a segment that a flush may still continue.
//!
//! **What is compacted when.** Only what is in segments, that is, what a checkpoint wrote. All
//! segments of a partition but the newest are complete. The newest one is closed for a round (the
//! next flush begins a new one) when it has [`COMPACTION_CLOSE_BYTES`], when `segment.bytes` or
//! `segment.ms` ask for it, or [`COMPACTION_CLOSE_MS`] after something new was first seen in it:
//! so a topic of a few KiB is compacted as well, and one that is written all the time at most once
//! a minute. Whether there is a round at all is up to the topic's `min.cleanable.dirty.ratio`,
//! `min.compaction.lag.ms` and `max.compaction.lag.ms`.
//!
//! **Tombstones** go in the first round after `delete.retention.ms`. As in Kafka their time alone
//! starts none: something new must have come.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use millpond_engine::{Partition, PartitionKey, Topic};
use millpond_wire::limits::{COMPACTION_BACKOFF_MS, COMPACTION_CLOSE_BYTES, COMPACTION_CLOSE_MS};

use super::compaction_io::GivenUp;
use super::compaction_round::Job;
use super::{DurableEngine, Life, Shell};
use crate::compaction::{Aborted, CompactionPolicy, SegmentSummary, choose};
use crate::disk::Disk;
use crate::segments::{SegmentMeta, SegmentName};
use crate::signal::Signal;

/// What compaction keeps in mind.
#[derive(Default)]
pub(super) struct Compactions {
    /// Newest segments that a round goes over: a flush begins a new one.
    closed: RefCell<BTreeSet<(PartitionKey, SegmentName)>>,
    /// Newest segments that are not clean: when they were first seen, monotonic and wall clock.
    seen: RefCell<BTreeMap<(PartitionKey, SegmentName), (u64, i64)>>,
    /// Segments that cannot be read.
    damaged: RefCell<BTreeSet<(PartitionKey, SegmentName)>>,
    is_checkpointing: Cell<bool>,
    checkpointed: Signal,
    /// Monotonic; the disk is left alone until then.
    resume_ms: Cell<u64>,
}

impl Compactions {
    pub(super) fn checkpoint_begins(&self) {
        self.is_checkpointing.set(true);
    }

    /// It came about, or was abandoned.
    pub(super) fn checkpoint_ended(&self) {
        self.is_checkpointing.set(false);
        self.checkpointed.raise();
    }

    /// Whether a flush may go on with this segment.
    pub(super) fn may_continue(&self, key: PartitionKey, newest: &SegmentMeta) -> bool {
        !self.closed.borrow().contains(&(key, newest.name()))
    }
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Compacts whatever needs it, one partition at a time. Never ends.
    pub(super) async fn compact(&self) -> Infallible {
        loop {
            let next_ms = self.shell.now().mono_ms + self.config.compaction_check_ms.max(1);
            let next_ms = next_ms.max(self.compactions.resume_ms.get());
            self.shell.sleep_until_ms(next_ms).await;
            if self.is_stopping() {
                std::future::pending::<Infallible>().await;
            }
            self.compact_all().await;
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.life.get() >= Life::Stopping
    }

    async fn compact_all(&self) {
        self.between_checkpoints().await;
        self.compactions.closed.borrow_mut().clear();
        let due = self.due_partitions();
        self.meter.compaction(|metrics| metrics.partitions_waiting = due.len() as u64);
        let mut saved_bytes = None;
        for key in due {
            let is_off = self.shell.now().mono_ms < self.compactions.resume_ms.get();
            if self.is_stopping() || is_off || self.space.is_refusing() {
                break;
            }
            if let Some(saved) = self.compact_partition(key).await {
                saved_bytes = Some(saved_bytes.unwrap_or(0) + saved);
            }
            self.meter.compaction(|metrics| metrics.partitions_waiting -= 1);
        }
        if let Some(saved_bytes) = saved_bytes {
            // The next checkpoint names the new files, and the old ones go.
            self.ask_exchange(saved_bytes);
        }
    }

    /// Returns at a moment at which no flush is under way.
    async fn between_checkpoints(&self) {
        loop {
            let seen = self.compactions.checkpointed.count();
            if !self.compactions.is_checkpointing.get() {
                return;
            }
            self.compactions.checkpointed.past(seen).await;
        }
    }

    fn due_partitions(&self) -> Vec<PartitionKey> {
        self.forget_what_is_gone();
        let keys: Vec<_> = self.with_engine(|engine| {
            let topics = engine.catalog().iter().filter(|topic| is_compacted(topic));
            topics.flat_map(Topic::keys).collect()
        });
        keys.into_iter().filter(|key| self.job(*key).is_some()).collect()
    }

    /// A round of one partition, from now on; by how much its new segments are smaller than the old
    /// ones, if it came to any.
    async fn compact_partition(&self, key: PartitionKey) -> Option<u64> {
        // From here to the closing nothing may come between.
        self.between_checkpoints().await;
        let job = self.job(key)?;
        if let Some(last) = job.metas.last() {
            self.compactions.closed.borrow_mut().insert((key, last.name()));
        }
        match self.compaction_round(&job).await {
            Ok(saved_bytes) => {
                self.meter.compaction(|metrics| metrics.rounds += 1);
                Some(saved_bytes)
            }
            Err(given_up) => {
                self.give_up(key, &given_up);
                None
            }
        }
    }

    /// What a round of a partition would be, if it needs one and may have it.
    fn job(&self, key: PartitionKey) -> Option<Job> {
        let metas = self.segments.with_table(|table| table.of(key).to_vec());
        let damaged = self.compactions.damaged.borrow();
        let is_damaged = metas.iter().any(|meta| damaged.contains(&(key, meta.name())));
        if metas.is_empty() || is_damaged || self.segments.is_staged(key) {
            return None;
        }
        let now = self.shell.now();
        let (policy, span_ms, stable_offset, aborted, is_steady, is_full) =
            self.with_engine(|engine| {
                let topic =
                    engine.catalog().by_id(key.topic_id).filter(|topic| is_compacted(topic))?;
                let log = engine.catalog().partition(key)?;
                let (stable, aborted) = (log.last_stable(), aborted_of(log));
                let is_steady = engine.is_clock_steady();
                let is_full = engine.wants_new_segment(key);
                Some((policy_of(topic), span_of(topic), stable, aborted, is_steady, is_full))
            })?;
        let mut summaries: Vec<_> = metas.iter().map(|meta| self.summary(key, meta)).collect();
        if !self.may_close(key, metas.last()?, is_full) {
            summaries.pop();
        }
        // A clock that cannot be believed makes nothing old.
        let now_ms = if is_steady { now.wall_ms } else { i64::MIN };
        let range = choose(&summaries, &policy, now_ms, stable_offset)?;
        let metas = metas.into_iter().filter(|meta| meta.base_offset < range.end_offset).collect();
        Some(Job {
            key,
            metas,
            dirty_offset: range.dirty_offset,
            now_ms: is_steady.then_some(now.wall_ms),
            delete_retention_ms: policy.delete_retention_ms,
            aborted: Arc::new(aborted),
            span_ms,
        })
    }

    fn summary(&self, key: PartitionKey, meta: &SegmentMeta) -> SegmentSummary {
        let seen = self.compactions.seen.borrow().get(&(key, meta.name())).copied();
        SegmentSummary {
            base_offset: meta.base_offset,
            end_offset: meta.end_offset,
            bytes: meta.trusted_bytes,
            oldest_timestamp: seen.map_or(i64::MAX, |(_, at)| at).min(meta.max_timestamp),
            max_timestamp: meta.max_timestamp,
            is_clean: meta.is_clean,
        }
    }

    /// Whether the newest segment of a partition may be closed for a round.
    fn may_close(&self, key: PartitionKey, newest: &SegmentMeta, is_full: bool) -> bool {
        let now = self.shell.now();
        if newest.is_clean || is_full || newest.trusted_bytes >= COMPACTION_CLOSE_BYTES {
            return true;
        }
        let mut seen = self.compactions.seen.borrow_mut();
        let id = (key, newest.name());
        let (since_ms, _) = *seen.entry(id).or_insert((now.mono_ms, now.wall_ms));
        now.mono_ms >= since_ms + COMPACTION_CLOSE_MS
    }

    /// What is kept in mind of segments goes with them.
    fn forget_what_is_gone(&self) {
        let names = self.segments.with_table(|table| table.names());
        self.compactions.seen.borrow_mut().retain(|id, _| names.contains(id));
        let mut damaged = self.compactions.damaged.borrow_mut();
        damaged.retain(|id| names.contains(id));
        let partitions: BTreeSet<_> = damaged.iter().map(|(key, _)| *key).collect();
        self.meter.compaction(|metrics| metrics.partitions_damaged = partitions.len() as u64);
    }

    fn give_up(&self, key: PartitionKey, given_up: &GivenUp) {
        match given_up {
            // Nothing is wrong.
            GivenUp::Stopping | GivenUp::Replaced => return,
            GivenUp::Damaged { name, what } => {
                tracing::error!(partition = %key, what, "a segment is damaged: the partition is not compacted");
                self.compactions.damaged.borrow_mut().insert((key, *name));
                self.forget_what_is_gone();
            }
            GivenUp::Disk(_) | GivenUp::NoRoom { .. } | GivenUp::Failed(_) => {
                tracing::warn!(partition = %key, %given_up, "compaction pauses");
                let resume_ms = self.shell.now().mono_ms + COMPACTION_BACKOFF_MS;
                self.compactions.resume_ms.set(resume_ms);
            }
        }
        self.meter.compaction(|metrics| {
            metrics.rounds_given_up += 1;
            metrics.last_error = Some(format!("{key}: {given_up}"));
        });
    }
}

fn aborted_of(log: &Partition) -> Aborted {
    let mut aborted = Aborted::default();
    for one in log.aborted_transactions() {
        aborted.note(one.producer_id, one.first_offset, one.last_offset);
    }
    aborted
}

fn is_compacted(topic: &Topic) -> bool {
    has_policy(topic, "compact")
}

fn has_policy(topic: &Topic, wanted: &str) -> bool {
    topic.config("cleanup.policy").split(',').any(|policy| policy.trim() == wanted)
}

/// Only whole segments expire: what is old must not become one with what is new where old records
/// are deleted as well.
fn span_of(topic: &Topic) -> i64 {
    let retention_ms = topic.config("retention.ms").parse().ok().filter(|ms: &i64| *ms >= 0);
    let retention_ms = retention_ms.filter(|_| has_policy(topic, "delete"));
    retention_ms.map_or(i64::MAX, |ms| ms / 4)
}

fn policy_of(topic: &Topic) -> CompactionPolicy {
    let default = CompactionPolicy::default();
    let ms = |name, default| topic.config(name).parse().unwrap_or(default);
    let ratio = topic.config("min.cleanable.dirty.ratio").parse();
    CompactionPolicy {
        delete_retention_ms: ms("delete.retention.ms", default.delete_retention_ms),
        min_compaction_lag_ms: ms("min.compaction.lag.ms", default.min_compaction_lag_ms),
        max_compaction_lag_ms: ms("max.compaction.lag.ms", default.max_compaction_lag_ms),
        min_cleanable_dirty_ratio: ratio.unwrap_or(default.min_cleanable_dirty_ratio),
    }
}
