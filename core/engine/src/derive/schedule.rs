//! Whose turn it is: lanes that have something to read, one after the other, a few jobs at a time, so
//! that a backlog never takes the node from those who produce. Never starts a lane's next job before
//! the result of the one before.

use super::input::{counts, input_of, joins};
use super::shared::{Candidate, oldest};
use super::{Busy, Cursor, Given, Job, Lane, LaneId, Source, Work};
use crate::effect::Effect;
use crate::engine::{Engine, Timer};
use crate::partition::Partition;
use crate::transform::{TransformJob, TransformSpec};
use crate::units::{PartitionKey, Ticket, TransformId};
use millpond_wire::limits;
use millpond_wire::record::LogBatch;
use std::collections::BTreeMap;

/// What a look at a lane's source found.
enum Found {
    /// Batches whose records count, and where they begin to.
    Batches(Vec<LogBatch>, i64),
    /// What stands before this offset counts for nothing; there is more.
    Skipped(i64),
    /// The same, and there is no more.
    Nothing(i64),
    /// Segments must be read first.
    Stored,
}

impl Engine {
    /// With every event: turns for the lanes that are ready.
    pub(crate) fn run_derives(&mut self) {
        if std::mem::take(&mut self.derives.is_stale) {
            self.sync_lanes();
        }
        for key in std::mem::take(&mut self.derives.touched) {
            for id in self.derives.lanes_of(key) {
                self.derives.queue(&id);
            }
        }
        if self.derives.ready.is_empty() {
            return;
        }
        let jobs_upto = self.derives.jobs_len + limits::DERIVE_STARTS_PER_EVENT;
        let jobs_upto = jobs_upto.min(limits::DERIVE_JOBS_MAX);
        let mut wait_ms = 1;
        for _ in 0..limits::DERIVE_SKIPS_PER_LOOK {
            if self.derives.jobs_len >= jobs_upto {
                break;
            }
            if !self.may_derive() {
                wait_ms = limits::DERIVE_HOLD_MS;
                break;
            }
            let Some(id) = self.derives.ready.pop_front() else { return };
            if let Some(lane) = self.derives.lanes.get_mut(&id) {
                lane.is_ready = false;
                self.take_turn(&id);
                self.seal_if_large();
            }
        }
        // Where all jobs are taken, the end of one brings the next turn.
        if !self.derives.ready.is_empty() && self.derives.jobs_len < limits::DERIVE_JOBS_MAX {
            self.arm_turn(wait_ms);
        }
    }

    fn arm_turn(&mut self, wait_ms: u64) {
        let at_ms = self.now.mono_ms + wait_ms;
        if self.derives.turn_at_ms.is_none_or(|armed| armed <= self.now.mono_ms) {
            self.derives.turn_at_ms = Some(at_ms);
            self.timers.insert((at_ms, Timer::DeriveTurn));
        }
    }

    /// Producing goes first where memory or space runs out.
    fn may_derive(&self) -> bool {
        self.state.tail_bytes < self.config.tail_max_bytes
            && self.pending_bytes < limits::IN_FLIGHT_BYTES_MAX
            && !self.space.is_refusing()
    }

    /// Brings the lanes in line with topics and transforms.
    fn sync_lanes(&mut self) {
        if self.state.transforms.len() == 0 && self.derives.lanes.is_empty() {
            return;
        }
        let derived = self.state.transforms.iter().filter(|one| one.spec.is_derived());
        let wanted: BTreeMap<LaneId, Vec<PartitionKey>> =
            derived.flat_map(|one| self.wanted_lanes(&one.spec)).collect();
        let known = self.derives.lanes.keys();
        let gone: Vec<LaneId> = known.filter(|id| !wanted.contains_key(id)).cloned().collect();
        for id in gone {
            self.remove_lane(&id);
        }
        self.derives.index_shared(&wanted);
        for (id, sources) in wanted {
            self.sync_lane(&id, &sources);
        }
        self.arm_all_inline_idle();
    }

    /// A lane that reads these, as it was or made anew.
    fn sync_lane(&mut self, id: &LaneId, sources: &[PartitionKey]) {
        let mut epoch = 0;
        if let Some(lane) = self.derives.lanes.get(id) {
            if lane.sources.iter().map(|source| &source.partition).eq(sources) {
                if sources.len() > 1 {
                    // What it failed on may be mended: the numbers of partitions.
                    self.retry_lane(id);
                }
                return self.derives.queue(id);
            }
            // What was under way may be of a topic that is gone.
            epoch = lane.desk.epoch + 1;
            self.remove_lane(id);
        }
        let mut lane = Lane::new(sources, self.now.mono_ms);
        lane.desk.epoch = epoch;
        self.derives.lanes.insert(id.clone(), lane);
        self.derives.queue(id);
    }

    fn remove_lane(&mut self, id: &LaneId) {
        self.derives.drop_buffers(id);
        if let Some(Lane { busy: Busy::Running(job), .. }) = self.derives.lanes.remove(id) {
            self.tickets.remove(&job.ticket);
            self.derives.jobs_len -= 1;
        }
    }

    /// The version of a lane's transform that is to run there, if one is.
    pub(super) fn derived_by(&self, id: &LaneId) -> Option<(TransformId, &TransformSpec)> {
        let now = self.state.transforms.find(&id.transform)?;
        if now.paused || !now.spec.is_derived() {
            return None;
        }
        let partitions = self.state.catalog.by_id(id.partition.topic_id)?.partitions.len();
        let canary = now.canary.as_deref();
        let canary = canary.filter(|canary| canary.has(id.partition.partition, partitions));
        Some(canary.map_or((now.id, &now.spec), |canary| (canary.id, &canary.spec)))
    }

    fn take_turn(&mut self, id: &LaneId) {
        let Some((_, spec)) = self.derived_by(id) else {
            return self.derives.drop_buffers(id);
        };
        let start = spec.mode;
        if spec.shares_state
            && let Err(fault) = self.check_alike(spec)
        {
            return self.pause_lane(id, fault);
        }
        let Some(lane) = self.derives.lanes.get(id) else { return };
        let sources: Vec<PartitionKey> =
            lane.sources.iter().map(|source| source.partition).collect();
        for source in &sources {
            if self.state.cursors.get(*source, &id.transform).is_none() {
                return self.find_start(id, *source, start);
            }
        }
        self.next_job(id, &sources);
    }

    fn next_job(&mut self, id: &LaneId, sources: &[PartitionKey]) {
        if self.derives.lanes.get(id).is_some_and(|lane| lane.desk.timers_left) {
            return match self.check_output_space(id) {
                Ok(()) => self.begin_job(id, Given::Timers, sources),
                Err(message) => self.pause_lane(id, message),
            };
        }
        let mut candidates = Vec::new();
        for source in sources {
            let Some(from) = self.pass_gone(id, *source) else { return };
            let lane = self.derives.lanes.get(id);
            let known = lane.and_then(|lane| lane.source(*source));
            let (Some(known), Some(log)) = (known, self.state.catalog.partition(*source)) else {
                return;
            };
            match find(log, known, from) {
                Found::Batches(batches, from) => {
                    candidates.push(Candidate { source: *source, batches, from });
                }
                Found::Skipped(at) => {
                    self.derives.advance(id, *source, at);
                    return self.derives.queue(id);
                }
                Found::Nothing(at) => self.derives.advance(id, *source, at),
                // What is there must be known before the oldest of it is.
                Found::Stored => return self.read_stored(id, *source),
            }
        }
        let waiting: Vec<PartitionKey> = candidates.iter().map(|one| one.source).collect();
        match oldest(candidates) {
            None => self.pass_time(id),
            Some(next) => self.give(id, next, &waiting),
        }
    }

    /// Batches of one source become a job, if their records are any.
    fn give(&mut self, id: &LaneId, next: Candidate, waiting: &[PartitionKey]) {
        if let Err(message) = self.check_output_space(id) {
            return self.pause_lane(id, message);
        }
        let Candidate { source, batches, from } = next;
        match input_of(&batches, from) {
            Ok(Some(input)) => self.begin_job(id, Given::Batch(source, input), waiting),
            Ok(None) => {
                let upto = batches.last().map_or(from, LogBatch::next_offset);
                self.derives.advance(id, source, upto);
                self.derives.queue(id);
            }
            Err(error) => self.pause_lane(id, error.to_string()),
        }
    }

    /// What storage says of the topics that are written to.
    fn check_output_space(&self, id: &LaneId) -> Result<(), String> {
        let outputs = self.derived_by(id).map(|(_, spec)| spec.outputs.as_slice());
        let topics = outputs.unwrap_or_default().iter();
        let mut topics = topics.filter_map(|name| self.state.catalog.by_name(name));
        topics.try_for_each(|topic| self.check_space(topic)).map_err(|refusal| refusal.message)
    }

    /// Gives a batch of a source, or the time that passed, to a worker. `waiting`: the sources that may
    /// have something to be read.
    pub(super) fn begin_job(&mut self, id: &LaneId, given: Given, waiting: &[PartitionKey]) {
        let Some((version, spec)) = self.derived_by(id) else { return };
        let Some(lane) = self.derives.lanes.get(id) else { return };
        let shared_by = self.shared_sources(spec, lane, waiting);
        let is_time = matches!(given, Given::Time);
        let (source, input) = match given {
            Given::Batch(source, input) => (source, Some(input)),
            Given::Timers | Given::Time => (id.partition, None),
        };
        let read = lane.sources.iter();
        let read = read.filter_map(|one| self.state.cursors.get(one.partition, &id.transform));
        let input_count = read.map(|cursor| cursor.inputs).sum();
        let chain = vec![version];
        let keepers = self.state.transforms.keepers(&chain);
        let topic = self.state.catalog.by_id(source.topic_id);
        let topic = topic.map(|topic| topic.name.clone()).unwrap_or_default();
        let ticket = Ticket(self.fresh_id());
        let now_ms = self.now.mono_ms;
        let Some(lane) = self.derives.lanes.get_mut(id) else { return };
        let idle_ms = match &input {
            Some(_) => {
                lane.desk.input_ms = now_ms;
                if let Some(source) = lane.source_mut(source) {
                    source.input_ms = now_ms;
                }
                None
            }
            None if is_time => Some(now_ms - lane.desk.input_ms),
            None => Some(0),
        };
        if lane.version.replace(version).is_some_and(|before| before != version) {
            // A worker may remember this version from before another one went on.
            lane.desk.epoch += 1;
        }
        let batch = input.as_ref().map(|input| input.batch.clone());
        let state_epoch = lane.desk.epoch;
        self.counters.transform_records_in += input.as_ref().map_or(0, |input| input.records);
        lane.busy = Busy::Running(Job { ticket, version, source, keepers, input });
        self.derives.jobs_len += 1;
        self.tickets.insert(ticket, Work::Derive(id.clone()));
        self.push_effect(Effect::Transform(TransformJob {
            ticket,
            topic,
            shared_by,
            // Of the lane: a worker keeps jobs in order by it.
            partition: id.partition,
            chain,
            is_derived: true,
            batch,
            idle_ms,
            now_ms: self.record_now_ms(),
            input_count,
            state_epoch,
        }));
    }

    /// A lane waits before it goes on: twice as long with each failure in a row.
    pub(super) fn pause_lane(&mut self, id: &LaneId, fault: String) {
        self.counters.derive_failures += 1;
        let Some(lane) = self.derives.lanes.get_mut(id) else { return };
        let wait_ms = limits::DERIVE_RETRY_MS_MIN << lane.failures.min(16);
        let at_ms = self.now.mono_ms + wait_ms.min(limits::DERIVE_RETRY_MS_MAX);
        lane.failures = lane.failures.saturating_add(1);
        lane.fault = Some(fault);
        lane.busy = Busy::Pausing { until_ms: at_ms };
        self.timers.insert((at_ms, Timer::DeriveRetry(id.clone())));
    }

    pub(crate) fn on_derive_retry(&mut self, id: &LaneId) {
        if let Some(lane) = self.derives.lanes.get_mut(id)
            && matches!(lane.busy, Busy::Pausing { .. })
        {
            lane.busy = Busy::Free;
            self.derives.queue(id);
        }
    }

    /// A new version need not wait for what the one before failed on.
    pub(super) fn retry_lanes_of(&mut self, transform: &str) {
        let own = self.derives.lanes.keys().filter(|id| &*id.transform == transform);
        for id in own.cloned().collect::<Vec<_>>() {
            self.retry_lane(&id);
        }
    }

    fn retry_lane(&mut self, id: &LaneId) {
        if let Some(lane) = self.derives.lanes.get_mut(id) {
            (lane.failures, lane.fault) = (0, None);
        }
        self.on_derive_retry(id);
    }

    /// Records that are gone before their turn: those below the log start, and those that damage took.
    /// They are counted, and the lane goes on behind them. Where it stands then.
    fn pass_gone(&mut self, id: &LaneId, source: PartitionKey) -> Option<i64> {
        let mut cursor = self.state.cursors.get(source, &id.transform)?;
        let log = self.state.catalog.partition(source)?;
        let known = self.derives.lanes.get(id)?.source(source)?;
        let at = known.at.max(cursor.next);
        let next = log.log_start.max(at);
        let next = log.holes.end_of(next).unwrap_or(next);
        if next > at {
            self.counters.derive_records_gone += next.abs_diff(at);
            cursor.next = next;
            self.move_cursor(source, &id.transform, cursor);
            self.derives.advance(id, source, next);
        }
        Some(next)
    }
}

/// What a lane is to be given next of a source, from `from` on.
fn find(log: &Partition, source: &Source, from: i64) -> Found {
    let bound = log.last_stable();
    if from >= bound {
        return Found::Nothing(from);
    }
    if from >= log.tail_start() {
        let found = gather(log, log.servable_below(from, bound), from);
        // An open transaction or a hole may stand there.
        return found.unwrap_or(Found::Nothing(from));
    }
    gather(log, source.buffer.iter(), from).unwrap_or(Found::Stored)
}

fn gather<'a>(
    log: &Partition,
    batches: impl Iterator<Item = &'a LogBatch>,
    from: i64,
) -> Option<Found> {
    let mut group: Vec<LogBatch> = Vec::new();
    let (mut at, mut bytes, mut passed) = (from, 0, 0);
    for batch in batches.filter(|batch| batch.next_offset() > from) {
        if !counts(log, batch) {
            if !group.is_empty() {
                break;
            }
            at = batch.next_offset();
            passed += 1;
            if passed >= limits::DERIVE_SKIPS_PER_LOOK {
                break;
            }
            continue;
        }
        if group.first().is_some_and(|first| !joins(first, bytes, batch)) {
            break;
        }
        bytes += batch.size_bytes();
        group.push(batch.clone());
    }
    if !group.is_empty() {
        return Some(Found::Batches(group, at));
    }
    (at > from).then_some(Found::Skipped(at))
}

impl Engine {
    /// A cursor, into the current entry.
    pub(super) fn move_cursor(&mut self, partition: PartitionKey, transform: &str, cursor: Cursor) {
        let transform = transform.to_owned();
        self.commit(crate::entry::Fact::CursorMoved { partition, transform, cursor });
    }
}
