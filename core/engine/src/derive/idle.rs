//! Time that passes for transforms with state when no records come: a job without a batch, at a bounded
//! rate, and only where there is state that time could change. Without it a partition that falls
//! silent would hold back what its timers are to say.

use super::{Busy, Given, LaneId, Work};
use crate::changelog::Desk;
use crate::effect::Effect;
use crate::engine::{Engine, Timer};
use crate::refusal::Refusal;
use crate::transform::{Keeper, TransformJob, TransformOutcome, TransformSpec};
use crate::units::{PartitionKey, Ticket, TransformId};
use millpond_wire::limits;

impl Desk {
    /// What the last result left. Timers that set each other without end wait for the next batch.
    pub(super) fn note_timers(&mut self, are_left: bool) {
        self.timers_in_row = if are_left { self.timers_in_row.saturating_add(1) } else { 0 };
        self.timers_left = are_left && self.timers_in_row <= limits::TRANSFORM_TIMER_JOBS_MAX;
    }

    /// When time is to pass next.
    fn idle_due_ms(&self, timeout_ms: u64) -> u64 {
        let since_input = self.input_ms.saturating_add(timeout_ms);
        let since_last = self.idle_ran_ms + timeout_ms.max(limits::IDLE_STEP_MS_MIN);
        if self.idle_ran_ms == 0 { since_input } else { since_input.max(since_last) }
    }
}

impl Engine {
    /// A lane has read all there is: time may pass for it.
    pub(super) fn pass_time(&mut self, id: &LaneId) {
        let Some((version, spec)) = self.derived_by(id) else { return };
        let Some(timeout_ms) = spec.idle_timeout_ms() else { return };
        let keeper = Keeper::of(version, spec);
        let Some(lane) = self.derives.lanes.get_mut(id) else { return };
        if lane.desk.idle_at_ms != 0 || !matches!(lane.busy, Busy::Free) {
            return;
        }
        let due_ms = lane.desk.idle_due_ms(timeout_ms);
        if due_ms > self.now.mono_ms {
            lane.desk.idle_at_ms = due_ms;
            self.timers.insert((due_ms, Timer::DeriveIdle(id.clone())));
        } else if self.has_state(id.partition, &[keeper]) {
            if let Some(lane) = self.derives.lanes.get_mut(id) {
                lane.desk.idle_ran_ms = self.now.mono_ms;
            }
            self.counters.idle_jobs += 1;
            self.begin_job(id, Given::Time, &[]);
        }
    }

    pub(crate) fn on_derive_idle(&mut self, id: &LaneId) {
        if let Some(lane) = self.derives.lanes.get_mut(id) {
            lane.desk.idle_at_ms = 0;
            self.derives.queue(id);
        }
    }

    /// After a start, and when topics or transforms changed.
    pub(super) fn arm_all_inline_idle(&mut self) {
        let is_asked_for = |spec: &TransformSpec| spec.idle_timeout_ms().is_some();
        if !self.state.transforms.specs().any(is_asked_for) {
            return;
        }
        let chains = self.state.catalog.iter().filter(|topic| !topic.chain.is_empty());
        let keys: Vec<PartitionKey> = chains.flat_map(|topic| topic.keys()).collect();
        for key in keys {
            self.arm_inline_idle(key);
        }
    }

    fn idle_timeout_ms(&self, chain: &[TransformId]) -> Option<u64> {
        let all = chain.iter().filter_map(|id| self.state.transforms.spec(*id));
        all.filter_map(|spec| spec.idle_timeout_ms()).min()
    }

    /// All batches of a partition are through its chain: time may pass for it.
    pub(crate) fn arm_inline_idle(&mut self, key: PartitionKey) {
        let chain = self.running_chain(key);
        let Some(timeout_ms) = self.idle_timeout_ms(&chain) else { return };
        let keepers = self.state.transforms.keepers(&chain);
        if !self.has_state(key, &keepers) {
            return;
        }
        let now_ms = self.now.mono_ms;
        let Some(log) = self.state.catalog.partition_mut(key) else { return };
        let desk = &mut log.pending.desk;
        if desk.idle_at_ms == 0 {
            if desk.input_ms == 0 {
                // Of an earlier life of the process.
                desk.input_ms = now_ms;
            }
            desk.idle_at_ms = desk.idle_due_ms(timeout_ms).max(now_ms + 1);
            let at_ms = desk.idle_at_ms;
            self.timers.insert((at_ms, Timer::InlineIdle(key)));
        }
    }

    /// What a worker says right before a result.
    pub(crate) fn note_timers(&mut self, key: PartitionKey, are_left: bool) {
        if let Some(log) = self.state.catalog.partition_mut(key) {
            log.pending.desk.note_timers(are_left);
        }
    }

    /// All batches of a partition are through its chain: timers that are left have their turn, or time
    /// may pass.
    pub(crate) fn pass_inline_time(&mut self, key: PartitionKey) {
        let Some(log) = self.state.catalog.partition(key) else { return };
        let pending = &log.pending;
        if !pending.desk.timers_left || !pending.is_empty() || pending.idle.is_some() {
            return self.arm_inline_idle(key);
        }
        if self.derives.jobs_len < limits::DERIVE_JOBS_MAX {
            return self.begin_inline_time(key, 0);
        }
        let at_ms = self.now.mono_ms + limits::DERIVE_HOLD_MS;
        self.timers.insert((at_ms, Timer::InlineIdle(key)));
    }

    pub(crate) fn on_inline_idle(&mut self, key: PartitionKey) {
        if self.has_timers_left(key) {
            return self.pass_inline_time(key);
        }
        let timeout_ms = self.idle_timeout_ms(&self.running_chain(key));
        let (now_ms, jobs_len) = (self.now.mono_ms, self.derives.jobs_len);
        let Some(log) = self.state.catalog.partition_mut(key) else { return };
        let desk = &mut log.pending.desk;
        desk.idle_at_ms = 0;
        let Some(timeout_ms) = timeout_ms else { return };
        if jobs_len >= limits::DERIVE_JOBS_MAX {
            desk.idle_ran_ms = now_ms;
        }
        if desk.idle_due_ms(timeout_ms) > now_ms {
            return self.arm_inline_idle(key);
        }
        // What is under way comes back here.
        if !log.pending.is_empty() || log.pending.idle.is_some() {
            return;
        }
        log.pending.desk.idle_ran_ms = now_ms;
        let idle_ms = now_ms - log.pending.desk.input_ms;
        self.begin_inline_time(key, idle_ms);
    }

    fn has_timers_left(&self, key: PartitionKey) -> bool {
        self.state.catalog.partition(key).is_some_and(|log| log.pending.desk.timers_left)
    }

    /// A job of the inline chain without a batch.
    fn begin_inline_time(&mut self, key: PartitionKey, idle_ms: u64) {
        let Some(topic) = self.state.catalog.by_id(key.topic_id) else { return };
        let (name, chain) = (topic.name.clone(), self.running_chain(key));
        let keepers = self.state.transforms.keepers(&chain);
        let Some(log) = self.state.catalog.partition_mut(key) else { return };
        log.pending.desk.timers_left = false;
        if keepers.is_empty() {
            return;
        }
        let (state_epoch, input_count) = (log.pending.desk.epoch, log.inputs_admitted);
        let ticket = Ticket(self.fresh_id());
        if let Some(log) = self.state.catalog.partition_mut(key) {
            log.pending.idle = Some((ticket, keepers));
        }
        self.derives.jobs_len += 1;
        self.counters.idle_jobs += 1;
        self.tickets.insert(ticket, Work::Idle(key));
        self.push_effect(Effect::Transform(TransformJob {
            ticket,
            topic: name,
            shared_by: Vec::new(),
            partition: key,
            chain,
            is_derived: false,
            batch: None,
            idle_ms: Some(idle_ms),
            now_ms: self.record_now_ms(),
            input_count,
            state_epoch,
        }));
    }

    /// What time brought about in an inline chain.
    pub(crate) fn on_inline_idle_done(&mut self, key: PartitionKey, outcome: TransformOutcome) {
        self.derives.jobs_len -= 1;
        let Some(log) = self.state.catalog.partition_mut(key) else { return };
        let Some((_, keepers)) = log.pending.idle.take() else { return };
        let (outputs, state) = match outcome {
            TransformOutcome::Rejected { .. } => return,
            TransformOutcome::Untouched { state } => (Vec::new(), state),
            TransformOutcome::Changed { outputs, state } => (outputs, state),
        };
        let placed = self.place_outputs(key, outputs).and_then(|placed| {
            self.check_outputs(key, &placed, &keepers, &state)?;
            Ok(placed)
        });
        match placed {
            Ok(placed) => {
                self.append_state(key, &keepers, state);
                self.append_outputs(key, placed);
            }
            Err(Refusal { .. }) => {
                self.counters.derive_failures += 1;
                if let Some(log) = self.state.catalog.partition_mut(key) {
                    log.pending.desk.epoch += 1;
                }
            }
        }
    }

    /// A topic goes, and with it the job that time has begun for one of its partitions.
    pub(crate) fn drop_idle(&mut self, key: PartitionKey) {
        let log = self.state.catalog.partition_mut(key);
        if let Some((ticket, _)) = log.and_then(|log| log.pending.idle.take()) {
            self.tickets.remove(&ticket);
            self.derives.jobs_len -= 1;
        }
    }
}
