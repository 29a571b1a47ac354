//! The byte budget of the node: what is dropped when it runs short, and who is refused when nothing
//! may be dropped. Storage tells what is used (`Event::Space`); the decisions are made here.
//!
//! ```text
//! 0 ......... fixed ................ soft ............ hard .... budget
//!   journal,        segments, tail    | low | high      | reserve
//!   checkpoint                        priority refused  | for one checkpoint
//! ```
//! From the soft mark on topics with `millpond.on.full=drop-oldest` lose their oldest segments, the
//! lowest priority first. Between the marks `reject` topics are refused, the lowest priority first;
//! at the hard mark everybody is. Nothing that was acknowledged is ever lost under `reject`.

use crate::engine::{Engine, Then};
use crate::partition::Partition;
use crate::refusal::{Refusal, refuse};
use crate::retention::DropCause;
use crate::topic::Topic;
use crate::units::{Now, PartitionKey};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::Response;
use std::collections::{BTreeSet, VecDeque};

/// What storage says about space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceReport {
    /// Bytes of the data directory: journal, checkpoint, segments, and the batches in memory that
    /// are in no segment yet, as large as they could become there.
    pub used_bytes: u64,
    /// Of these, what is there whatever is stored: journal and checkpoint.
    pub fixed_bytes: u64,
    /// What may be used: the configured budget, or what the file system has for us if that is less.
    pub budget_bytes: u64,
    /// What must stay free for the next checkpoint, which is written beside the last one.
    pub reserve_bytes: u64,
    /// What may gather in memory until it is written to segments.
    pub flush_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// How much of what the engine has let go (`Engine::let_go_bytes`) is off the device.
    pub reclaimed_bytes: u64,
    /// The disk took no more at the last try: it is full or read-only.
    pub is_refusing: bool,
    /// Entries wait for room in the journal that only a checkpoint could give, and it is refused.
    pub is_stuck: bool,
}

/// Space as it stands, for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceView {
    /// As in the last report, and what was appended since.
    pub used_bytes: u64,
    /// See [`SpaceReport::budget_bytes`].
    pub budget_bytes: u64,
    /// From here on old segments of `drop-oldest` topics go.
    pub soft_bytes: u64,
    /// From here on nothing is accepted.
    pub hard_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Whether the disk refuses writes.
    pub is_refusing: bool,
    /// Batches refused for want of space since the start.
    pub refused_batches: u64,
    /// When the hard mark is reached at the rate of the last hour; `None`: it is not getting fuller,
    /// or that is not known yet.
    pub full_in_ms: Option<u64>,
}

/// What the engine knows of space.
#[derive(Debug, Default)]
pub(crate) struct Space {
    report: Option<SpaceReport>,
    appended_since: u64,
    /// Appended since somebody last looked whether something must be dropped.
    unchecked: u64,
    let_go: u64,
    refused_batches: u64,
    trend: Trend,
}

/// How much was used in the last hour, now and then.
#[derive(Debug, Default)]
struct Trend {
    samples: VecDeque<(u64, u64)>,
}

impl Space {
    pub(crate) fn appended(&mut self, bytes: usize) {
        self.appended_since += bytes as u64;
        self.unchecked += bytes as u64;
    }

    /// Segments are on their way out.
    pub(crate) fn let_go(&mut self, bytes: u64) {
        self.let_go += bytes;
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.report.is_some_and(|report| report.is_refusing)
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.report.is_some_and(|report| report.is_stuck)
    }

    fn used_bytes(&self) -> u64 {
        self.report.map_or(0, |report| report.used_bytes).saturating_add(self.appended_since)
    }

    /// Bytes over the soft mark that are not on their way out yet.
    fn over_soft_bytes(&self) -> u64 {
        let Some(report) = &self.report else { return 0 };
        let going = self.let_go.saturating_sub(report.reclaimed_bytes);
        self.used_bytes().saturating_sub(going).saturating_sub(report.soft_bytes())
    }
}

impl SpaceReport {
    fn hard_bytes(&self) -> u64 {
        self.budget_bytes.saturating_sub(self.reserve_bytes)
    }

    fn soft_bytes(&self) -> u64 {
        let hard = self.hard_bytes();
        let fixed = self.fixed_bytes.min(hard);
        let room = hard - fixed;
        // What is dropped is off the device a checkpoint later: room for a few until then.
        let ahead = (room / 10).max(self.flush_bytes.saturating_mul(3)).min(room / 2);
        hard - ahead
    }

    /// Up to where topics of a priority may fill the node.
    fn limit_bytes(&self, priority: u8, drops_oldest: bool) -> u64 {
        let (soft, hard) = (self.soft_bytes(), self.hard_bytes());
        let share = if drops_oldest { 100 } else { priority.min(100) };
        soft + (u128::from(hard - soft) * u128::from(share) / 100) as u64
    }
}

impl Trend {
    fn note(&mut self, now_ms: u64, used_bytes: u64) {
        let last_ms = self.samples.back().map(|(at_ms, _)| *at_ms);
        if last_ms.is_some_and(|last_ms| now_ms < last_ms + TREND_STEP_MS) {
            return;
        }
        if self.samples.len() >= TREND_SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((now_ms, used_bytes));
    }

    fn full_in_ms(&self, now_ms: u64, used_bytes: u64, hard_bytes: u64) -> Option<u64> {
        let (from_ms, from_bytes) = *self.samples.front()?;
        let passed_ms = now_ms.checked_sub(from_ms).filter(|ms| *ms >= TREND_LEAST_MS)?;
        let grown = used_bytes.checked_sub(from_bytes).filter(|bytes| *bytes > 0)?;
        let left = u128::from(hard_bytes.saturating_sub(used_bytes));
        u64::try_from(left * u128::from(passed_ms) / u128::from(grown)).ok()
    }
}

impl Engine {
    /// Storage tells how much is used.
    pub(crate) fn on_space(&mut self, report: SpaceReport) {
        self.space.appended_since = 0;
        self.space.report = Some(report);
        self.space.trend.note(self.now.mono_ms, report.used_bytes);
        self.drop_for_space();
        if report.is_refusing {
            self.refuse_parked();
        }
        if report.is_stuck {
            self.fail_waiting_produces();
        }
    }

    /// Looks whether something must go, after every so many bytes.
    pub(crate) fn check_budget(&mut self) {
        if self.space.unchecked >= limits::SPACE_CHECK_BYTES {
            self.drop_for_space();
        }
    }

    /// Drops the oldest segments of topics that allow it until the soft mark is kept.
    fn drop_for_space(&mut self) {
        self.space.unchecked = 0;
        if self.space.over_soft_bytes() == 0 {
            return;
        }
        let mut oldest = self.droppable();
        while self.space.over_soft_bytes() > 0
            && let Some((priority, _, key)) = oldest.pop_first()
        {
            let Some(log) = self.state.catalog.partition(key) else { continue };
            let Some(end) = log.stored.iter().next().map(|segment| segment.end_offset) else {
                continue;
            };
            self.move_log_start(key, end, DropCause::Space);
            self.seal_if_large();
            let log = self.state.catalog.partition(key);
            if let Some(time) = log.and_then(|log| oldest_time(log, self.now)) {
                oldest.insert((priority, time, key));
            }
        }
    }

    /// The partitions that may lose their oldest segment, in the order in which they do.
    fn droppable(&self) -> BTreeSet<(u8, i64, PartitionKey)> {
        let topics = self.state.catalog.iter().filter(|topic| topic.drops_oldest());
        topics
            .flat_map(|topic| {
                let priority = topic.priority();
                topic.keys().zip(&topic.partitions).filter_map(move |(key, log)| {
                    Some((priority, oldest_time(log, self.now)?, key))
                })
            })
            .collect()
    }

    /// Whether the node has room for a batch of this topic.
    pub(crate) fn check_space(&self, topic: &Topic) -> Result<(), Refusal> {
        let Some(report) = &self.space.report else { return Ok(()) };
        if report.is_refusing {
            let message = "the disk of the data directory takes no more writes: it is full or \
                           read-only. Free space there; reads go on, and so do writes as soon as \
                           the disk takes them";
            return Err(refuse(ErrorCode::KafkaStorageError, message));
        }
        let used = self.space.used_bytes();
        // What every batch comes by is cheap.
        if used < report.soft_bytes() {
            return Ok(());
        }
        let limit = report.limit_bytes(topic.priority(), topic.drops_oldest());
        if used < limit {
            return Ok(());
        }
        let message = format!(
            "this node's storage is full: {used} of {} bytes are used, topics of priority {} are \
             accepted up to {limit}. Let topics drop their oldest records \
             (millpond.on.full=drop-oldest), keep less (retention.ms, retention.bytes), delete \
             records or give it a larger budget",
            report.budget_bytes,
            topic.priority(),
        );
        Err(refuse(ErrorCode::KafkaStorageError, message))
    }

    /// Counts a batch that was refused for want of space.
    pub(crate) fn note_space_refusal(&mut self) {
        self.space.refused_batches += 1;
    }

    /// The journal is full and a checkpoint refused: whoever waits for a produce is told to try
    /// again. What was decided stays decided; a retry of an idempotent producer is recognised.
    fn fail_waiting_produces(&mut self) {
        let mut waiting = Vec::new();
        for thens in self.after_durable_mut() {
            let is_produce =
                |then: &mut Then| matches!(then, Then::Reply(_, Some(Response::Produce(_))));
            waiting.extend(thens.extract_if(.., is_produce));
        }
        for then in waiting {
            let Then::Reply(id, Some(Response::Produce(mut response))) = then else { continue };
            for part in response.responses.iter_mut().flat_map(|t| &mut t.partition_responses) {
                part.error_code = ErrorCode::KafkaStorageError.code();
                part.base_offset = -1;
                part.error_message = Some("the disk is full and the journal too".to_owned());
            }
            self.finish_reply(id, Some(Response::Produce(response)));
        }
    }

    /// Space as it stands.
    #[must_use]
    pub fn space(&self) -> SpaceView {
        let report = self.space.report.unwrap_or_default();
        let (used_bytes, hard_bytes) = (self.space.used_bytes(), report.hard_bytes());
        SpaceView {
            used_bytes,
            budget_bytes: report.budget_bytes,
            soft_bytes: report.soft_bytes(),
            hard_bytes,
            free_bytes: report.free_bytes,
            is_refusing: report.is_refusing,
            refused_batches: self.space.refused_batches,
            full_in_ms: self.space.trend.full_in_ms(self.now.mono_ms, used_bytes, hard_bytes),
        }
    }

    /// Bytes of segments that log starts have passed since the start, deleted topics included:
    /// storage gives them back with its next checkpoint.
    #[must_use]
    pub fn let_go_bytes(&self) -> u64 {
        self.space.let_go
    }
}

/// The time of the oldest segment, if it may go.
fn oldest_time(log: &Partition, now: Now) -> Option<i64> {
    let oldest = log.stored.iter().next()?;
    let is_durable = oldest.end_offset <= log.high_watermark;
    log.stored.times(now).first().copied().filter(|_| is_durable)
}

const TREND_STEP_MS: u64 = 60_000;
const TREND_SAMPLES_MAX: usize = 60;
const TREND_LEAST_MS: u64 = 300_000;
