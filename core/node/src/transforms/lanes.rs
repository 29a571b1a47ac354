//! Batches on their way to workers: one lane for each partition's inline chain and for each transform
//! that derives from it, so that batches of a lane keep their order while lanes run beside each other. A lane exists while it has work.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millpond_engine::transform::TransformJob;
use millpond_engine::{PartitionKey, TransformId};
use millpond_wire::limits::{
    TRANSFORM_INSTANCES_MAX, TRANSFORM_QUEUE_MAX, TRANSFORMS_IDLE_STATE_BYTES_MAX,
};

use super::runner::Runner;

/// What keeps its order: the inline chain of a partition, or one transform that derives from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LaneKey {
    partition: PartitionKey,
    derived_by: Option<TransformId>,
}

impl LaneKey {
    pub(super) fn of(job: &TransformJob) -> Self {
        let derived_by = job.is_derived.then(|| job.chain.first().copied()).flatten();
        Self { partition: job.partition, derived_by }
    }
}

/// All lanes of a node.
#[derive(Default)]
pub(super) struct Lanes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Lanes with a worker, and what waits for it.
    busy: HashMap<LaneKey, VecDeque<TransformJob>>,
    waiting: usize,
    /// Instances of idle lanes, the one idle longest first.
    idle: VecDeque<(LaneKey, Runner)>,
}

impl State {
    /// Whether idle partitions hold more than a node should: instances, or state, which can be read
    /// again.
    fn keeps_too_much(&self) -> bool {
        let runners = || self.idle.iter().map(|(_, runner)| runner);
        runners().map(Runner::instances).sum::<usize>() > TRANSFORM_INSTANCES_MAX
            || runners().map(Runner::state_bytes).sum::<usize>() > TRANSFORMS_IDLE_STATE_BYTES_MAX
    }
}

/// What became of a job that was handed in.
pub(super) enum Queued {
    /// A worker has the lane already and will come to it.
    Behind,
    /// Nobody has the lane: the caller must start a worker with the job and the instances left
    /// from last time.
    Start(Box<TransformJob>, Option<Runner>),
    /// Too much is waiting.
    Full(Box<TransformJob>),
}

impl Lanes {
    /// Takes a job in.
    pub(super) fn push(&self, job: TransformJob) -> Queued {
        let mut state = self.lock();
        if state.waiting >= TRANSFORM_QUEUE_MAX {
            return Queued::Full(Box::new(job));
        }
        let lane = LaneKey::of(&job);
        if let Some(queue) = state.busy.get_mut(&lane) {
            queue.push_back(job);
            state.waiting += 1;
            return Queued::Behind;
        }
        state.busy.insert(lane, VecDeque::new());
        let at = state.idle.iter().position(|(idle, _)| *idle == lane);
        let runner = at.and_then(|at| state.idle.remove(at)).map(|(_, runner)| runner);
        Queued::Start(Box::new(job), runner)
    }

    /// The next job of a lane; if there is none the lane ends and its instances are kept for
    /// next time.
    pub(super) fn next(&self, lane: LaneKey, runner: Runner) -> Option<(TransformJob, Runner)> {
        let mut state = self.lock();
        if let Some(job) = state.busy.get_mut(&lane).and_then(VecDeque::pop_front) {
            state.waiting -= 1;
            return Some((job, runner));
        }
        state.busy.remove(&lane);
        state.idle.push_back((lane, runner));
        while state.keeps_too_much() {
            state.idle.pop_front();
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
