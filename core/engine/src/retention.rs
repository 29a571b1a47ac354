//! Retention: which segments have had their time, by `retention.ms` and `retention.bytes`. It only
//! moves log starts; storage removes the files of what lies below them.
//!
//! Deleting by time must never follow a clock that jumps. The age of a segment is that of its
//! newest record, measured against the earlier of the steady wall clock and the newest plausible
//! record of the node; while the clock is not steady nothing is deleted by time.

use crate::effect::Effect;
use crate::engine::{Engine, Then, Timer};
use crate::entry::Fact;
use crate::partition::Partition;
use crate::record_clock::{ClockTurn, is_plausible};
use crate::stored::{StoredPartition, StoredSegment};
use crate::units::{Now, PartitionKey};

/// Why records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropCause {
    /// `retention.ms` or `retention.bytes`.
    Retention,
    /// The byte budget of the node.
    Space,
    /// A client asked for it.
    Request,
}

/// Records that a topic lost to its own settings since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedRecords {
    /// Offsets that went by `retention.ms` or `retention.bytes`.
    pub retention_records: u64,
    /// Bytes of their segments.
    pub retention_bytes: u64,
    /// Offsets that went because the node's byte budget was used up.
    pub space_records: u64,
    /// Bytes of their segments.
    pub space_bytes: u64,
}

impl Engine {
    /// Takes note of the time that came with an event.
    pub(crate) fn observe_clock(&mut self) {
        let turn = self.record_clock.observe(self.now, self.config.clock_settle_ms);
        if turn == ClockTurn::None {
            return;
        }
        let mono_ms = self.now.mono_ms;
        for topic in self.state.catalog.iter_mut() {
            for log in &mut topic.partitions {
                match turn {
                    ClockTurn::Settled => log.stored.end_doubt(log.log_end, mono_ms),
                    _ => log.stored.begin_doubt(log.log_end),
                }
            }
        }
    }

    /// Storage tells which segments there are.
    pub(crate) fn on_stored(&mut self, partitions: &[StoredPartition]) {
        let mono_ms = self.now.mono_ms;
        for stored in partitions {
            if let Some(log) = self.state.catalog.partition_mut(stored.partition) {
                log.stored.replace(&stored.segments, log.log_start, mono_ms);
            }
        }
        self.retain();
    }

    /// The timer of the retention check.
    pub(crate) fn on_retention_deadline(&mut self) {
        self.retention_armed = false;
        self.retain();
    }

    /// Whether the wall clock may be believed: it has not jumped for a while.
    #[must_use]
    pub fn is_clock_steady(&self) -> bool {
        self.record_clock.is_steady()
    }

    /// Whether a partition's newest segment is to be closed: it is full by `segment.bytes` or old by
    /// `segment.ms`. Age is counted from when the segment was first seen in this run of the process.
    /// Only whole segments expire: a shorter `retention.ms` closes them after a quarter of it.
    #[must_use]
    pub fn wants_new_segment(&self, key: PartitionKey) -> bool {
        let Some(topic) = self.state.catalog.by_id(key.topic_id) else { return false };
        let Some(log) = self.state.catalog.partition(key) else { return false };
        let Some((bytes, age_ms)) = log.stored.newest(self.now.mono_ms) else { return false };
        let expires_ms = topic.retention_ms().filter(|_| topic.deletes_old_segments());
        let share_ms = expires_ms.map_or(u64::MAX, |ms| ms.unsigned_abs() / 4);
        let roll_ms = topic.segment_ms().min(share_ms.max(SEGMENT_MS_LEAST));
        bytes >= topic.segment_bytes() || age_ms >= roll_ms
    }

    /// Moves log starts past what has had its time, and comes back later.
    fn retain(&mut self) {
        let now = self.now;
        let reference_ms = self.retention_reference_ms();
        let topics = self.state.catalog.iter().filter(|topic| topic.deletes_old_segments());
        let ends: Vec<(PartitionKey, i64)> = topics
            .flat_map(|topic| {
                let (ms, bytes) = (topic.retention_ms(), topic.retention_bytes());
                let oldest_ms = ms.zip(reference_ms).map(|(ms, newest)| newest.saturating_sub(ms));
                topic.keys().zip(&topic.partitions).filter_map(move |(key, log)| {
                    Some((key, retained_from(log, oldest_ms, bytes, now)?))
                })
            })
            .collect();
        for (key, end) in ends {
            self.move_log_start(key, end, DropCause::Retention);
            self.seal_if_large();
        }
        self.arm_retention();
    }

    fn arm_retention(&mut self) {
        let has_segments = |log: &Partition| !log.stored.is_empty();
        let mut topics = self.state.catalog.iter();
        if !self.retention_armed && topics.any(|topic| topic.partitions.iter().any(has_segments)) {
            let at_ms = self.now.mono_ms + self.config.retention_check_ms;
            self.timers.insert((at_ms, Timer::Retention));
            self.retention_armed = true;
        }
    }

    /// What ages are measured against; `None`: nothing may be deleted by time now.
    pub(crate) fn retention_reference_ms(&self) -> Option<i64> {
        if !self.record_clock.is_steady() {
            return None;
        }
        let wall_ms = self.now.wall_ms;
        let logs = self.state.catalog.iter().flat_map(|topic| &topic.partitions);
        let times = logs.flat_map(|log| {
            let stored = log.stored.iter().map(|segment| segment.max_timestamp);
            stored.chain([log.newest.0])
        });
        let newest = times.filter(|time| is_plausible(*time, wall_ms)).max()?;
        Some(newest.min(wall_ms))
    }

    /// Everything below `offset` is gone for good. The memory of it goes when that is durable.
    pub(crate) fn move_log_start(&mut self, key: PartitionKey, offset: i64, cause: DropCause) {
        let Some(log) = self.state.catalog.partition(key) else { return };
        if offset <= log.log_start {
            return;
        }
        let records = offset.abs_diff(log.log_start);
        self.commit(Fact::LogStart { partition: key, offset });
        let mut bytes = 0;
        if let Some(log) = self.state.catalog.partition_mut(key) {
            bytes = log.stored.trim(offset);
            self.space.let_go(bytes);
            self.fetches.touch(&log.waiters);
        }
        if let Some(topic) = self.state.catalog.topic_mut(key.topic_id) {
            topic.note_dropped(cause, records, bytes);
        }
        self.after(self.current_seq(), Then::ForgetBelow(key, offset));
        if bytes > 0 {
            self.after(self.current_seq(), Then::Reclaim);
        }
    }

    /// Asks storage for space back, once an event.
    pub(crate) fn ask_reclaim(&mut self) {
        if !self.reclaim_asked {
            self.reclaim_asked = true;
            self.push_effect(Effect::Reclaim);
        }
    }
}

/// Closing segments more often than this would only make many small files.
const SEGMENT_MS_LEAST: u64 = 60_000;

/// Where a log should start, if not where it does: behind the oldest segments that are older than
/// `oldest_ms`, then behind those without which `max_bytes` are left. What is not durable stays.
fn retained_from(
    log: &Partition,
    oldest_ms: Option<i64>,
    max_bytes: Option<u64>,
    now: Now,
) -> Option<i64> {
    if log.stored.is_empty() {
        return None;
    }
    let is_durable = |segment: &StoredSegment| segment.end_offset <= log.high_watermark;
    let mut end = None;
    let mut left = log.stored.bytes();
    let mut oldest = log.stored.iter().peekable();
    if let Some(oldest_ms) = oldest_ms {
        for time in log.stored.times(now) {
            let gone = oldest.next_if(|next| time < oldest_ms && is_durable(next));
            let Some(gone) = gone else { break };
            end = Some(gone.end_offset);
            left -= gone.bytes;
        }
    }
    if let Some(max_bytes) = max_bytes {
        let fits = |left: u64, next: &StoredSegment| left.saturating_sub(next.bytes) >= max_bytes;
        while let Some(gone) = oldest.next_if(|next| fits(left, next) && is_durable(next)) {
            end = Some(gone.end_offset);
            left -= gone.bytes;
        }
    }
    end
}
