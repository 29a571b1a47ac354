//! Whose turn it is: lanes that have something to read, one after the other, a few jobs at a time, so
//! that a backlog never takes the node from those who produce. Never starts a lane's next job before
//! the result of the one before.

use super::input::{InputError, counts, input_of, joins};
use super::{Busy, Cursor, Input, Job, Lane, LaneId, Work};
use crate::effect::Effect;
use crate::engine::{Engine, Timer};
use crate::partition::Partition;
use crate::transform::{TransformJob, TransformSpec};
use crate::units::{PartitionKey, Ticket, TransformId};
use millpond_wire::limits;
use millpond_wire::record::LogBatch;
use std::collections::BTreeSet;
use std::sync::Arc;

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
        let mut wanted = BTreeSet::new();
        for deployment in self.state.transforms.iter().filter(|one| one.spec.is_derived()) {
            let transform: Arc<str> = Arc::from(deployment.spec.name.as_str());
            let topics = deployment.spec.topics.iter();
            for topic in topics.filter_map(|name| self.state.catalog.by_name(name)) {
                let lane = |partition| LaneId { partition, transform: Arc::clone(&transform) };
                wanted.extend(topic.keys().map(lane));
            }
        }
        let known = self.derives.lanes.keys();
        let gone: Vec<LaneId> = known.filter(|id| !wanted.contains(id)).cloned().collect();
        for id in gone {
            self.remove_lane(&id);
        }
        for id in wanted {
            let input_ms = self.now.mono_ms;
            self.derives.lanes.entry(id.clone()).or_insert_with(|| {
                let mut lane = Lane::default();
                lane.desk.input_ms = input_ms;
                lane
            });
            self.derives.queue(&id);
        }
        self.arm_all_inline_idle();
    }

    fn remove_lane(&mut self, id: &LaneId) {
        self.derives.drop_buffer(id);
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
            return self.derives.drop_buffer(id);
        };
        let start = spec.mode;
        match self.state.cursors.get(id.partition, &id.transform) {
            None => self.find_start(id, start),
            Some(cursor) => self.next_job(id, cursor),
        }
    }

    fn next_job(&mut self, id: &LaneId, cursor: Cursor) {
        let Some(cursor) = self.pass_gone(id, cursor) else { return };
        let found = match (self.derives.lanes.get(id), self.state.catalog.partition(id.partition)) {
            (Some(lane), Some(log)) => find(log, lane, lane.at.max(cursor.next)),
            _ => return,
        };
        match found {
            Found::Batches(batches, from) => {
                if let Err(message) = self.check_output_space(id) {
                    return self.pause_lane(id, message);
                }
                match input_of(&batches, from) {
                    Ok(Some(input)) => self.begin_job(id, Some(input), cursor),
                    Ok(None) => {
                        let upto = batches.last().map_or(from, LogBatch::next_offset);
                        self.advance_lane(id, upto);
                        self.derives.queue(id);
                    }
                    Err(InputError::Read(offset, error)) => {
                        self.pause_lane(id, InputError::Read(offset, error).to_string());
                    }
                    Err(error) => self.pause_lane(id, error.to_string()),
                }
            }
            Found::Skipped(at) => {
                self.advance_lane(id, at);
                self.derives.queue(id);
            }
            Found::Nothing(at) => {
                self.advance_lane(id, at);
                self.pass_time(id, cursor);
            }
            Found::Stored => self.read_stored(id),
        }
    }

    /// Everything before `at` needs no job any more.
    pub(super) fn advance_lane(&mut self, id: &LaneId, at: i64) {
        let Some(lane) = self.derives.lanes.get_mut(id) else { return };
        lane.at = lane.at.max(at);
        while lane.buffer.front().is_some_and(|batch| batch.next_offset() <= lane.at)
            && let Some(batch) = lane.buffer.pop_front()
        {
            self.derives.buffered_bytes -= batch.size_bytes();
        }
    }

    /// What storage says of the topics that are written to.
    fn check_output_space(&self, id: &LaneId) -> Result<(), String> {
        let outputs = self.derived_by(id).map(|(_, spec)| spec.outputs.as_slice());
        let topics = outputs.unwrap_or_default().iter();
        let mut topics = topics.filter_map(|name| self.state.catalog.by_name(name));
        topics.try_for_each(|topic| self.check_space(topic)).map_err(|refusal| refusal.message)
    }

    /// Gives a batch, or the time that passed, to a worker.
    pub(super) fn begin_job(&mut self, id: &LaneId, input: Option<Input>, cursor: Cursor) {
        let Some((version, _)) = self.derived_by(id) else { return };
        let chain = vec![version];
        let keepers = self.state.transforms.keepers(&chain);
        let topic = self.state.catalog.by_id(id.partition.topic_id);
        let topic = topic.map(|topic| topic.name.clone()).unwrap_or_default();
        let ticket = Ticket(self.fresh_id());
        let now_ms = self.now.mono_ms;
        let Some(lane) = self.derives.lanes.get_mut(id) else { return };
        let idle_ms = match &input {
            Some(_) => {
                lane.desk.input_ms = now_ms;
                None
            }
            None => Some(now_ms - lane.desk.input_ms),
        };
        if lane.version.replace(version).is_some_and(|before| before != version) {
            // A worker may remember this version from before another one went on.
            lane.desk.epoch += 1;
        }
        let batch = input.as_ref().map(|input| input.batch.clone());
        let state_epoch = lane.desk.epoch;
        self.counters.transform_records_in += input.as_ref().map_or(0, |input| input.records);
        lane.busy = Busy::Running(Job { ticket, version, keepers, input });
        self.derives.jobs_len += 1;
        self.tickets.insert(ticket, Work::Derive(id.clone()));
        self.push_effect(Effect::Transform(TransformJob {
            ticket,
            topic,
            partition: id.partition,
            chain,
            is_derived: true,
            batch,
            idle_ms,
            input_count: cursor.inputs,
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
        lane.busy = Busy::Pausing;
        self.timers.insert((at_ms, Timer::DeriveRetry(id.clone())));
    }

    pub(crate) fn on_derive_retry(&mut self, id: &LaneId) {
        if let Some(lane) = self.derives.lanes.get_mut(id)
            && matches!(lane.busy, Busy::Pausing)
        {
            lane.busy = Busy::Free;
            self.derives.queue(id);
        }
    }

    /// A new version need not wait for what the one before failed on.
    pub(super) fn retry_lanes_of(&mut self, transform: &str) {
        let own = self.derives.lanes.keys().filter(|id| &*id.transform == transform);
        for id in own.cloned().collect::<Vec<_>>() {
            if let Some(lane) = self.derives.lanes.get_mut(&id) {
                (lane.failures, lane.fault) = (0, None);
            }
            self.on_derive_retry(&id);
        }
    }

    /// Records that are gone before their turn: those below the log start, and those that damage took.
    /// They are counted, and the lane goes on behind them.
    fn pass_gone(&mut self, id: &LaneId, mut cursor: Cursor) -> Option<Cursor> {
        let log = self.state.catalog.partition(id.partition)?;
        let lane = self.derives.lanes.get(id)?;
        let at = lane.at.max(cursor.next);
        let next = log.log_start.max(at);
        let next = log.holes.end_of(next).unwrap_or(next);
        if next > at {
            self.counters.derive_records_gone += next.abs_diff(at);
            cursor.next = next;
            self.move_cursor(id.partition, &id.transform, cursor);
            self.advance_lane(id, next);
        }
        Some(cursor)
    }
}

/// What a lane is to be given next, from `from` on.
fn find(log: &Partition, lane: &Lane, from: i64) -> Found {
    let bound = log.last_stable();
    if from >= bound {
        return Found::Nothing(from);
    }
    if from >= log.tail_start() {
        let found = gather(log, log.servable_below(from, bound), from);
        // An open transaction or a hole may stand there.
        return found.unwrap_or(Found::Nothing(from));
    }
    gather(log, lane.buffer.iter(), from).unwrap_or(Found::Stored)
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
