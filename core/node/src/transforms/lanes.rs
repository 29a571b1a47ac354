//! Batches on their way to workers: one lane for each partition, so that batches of a partition
//! keep their order while partitions run beside each other. A lane exists while it has work.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millpond_engine::PartitionKey;
use millpond_engine::transform::TransformJob;
use millpond_wire::limits::{TRANSFORM_INSTANCES_MAX, TRANSFORM_QUEUE_MAX};

use super::runner::Runner;

/// All lanes of a node.
#[derive(Default)]
pub(super) struct Lanes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Partitions with a worker, and what waits for it.
    busy: HashMap<PartitionKey, VecDeque<TransformJob>>,
    waiting: usize,
    /// Instances of idle partitions, the one idle longest first.
    idle: VecDeque<(PartitionKey, Runner)>,
}

/// What became of a job that was handed in.
pub(super) enum Queued {
    /// A worker has the partition already and will come to it.
    Behind,
    /// Nobody has the partition: the caller must start a worker with the job and the instances left
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
        if let Some(queue) = state.busy.get_mut(&job.partition) {
            queue.push_back(job);
            state.waiting += 1;
            return Queued::Behind;
        }
        state.busy.insert(job.partition, VecDeque::new());
        let at = state.idle.iter().position(|(partition, _)| *partition == job.partition);
        let runner = at.and_then(|at| state.idle.remove(at)).map(|(_, runner)| runner);
        Queued::Start(Box::new(job), runner)
    }

    /// The next job of a partition; if there is none the lane ends and its instances are kept for
    /// next time.
    pub(super) fn next(
        &self,
        partition: PartitionKey,
        runner: Runner,
    ) -> Option<(TransformJob, Runner)> {
        let mut state = self.lock();
        if let Some(job) = state.busy.get_mut(&partition).and_then(VecDeque::pop_front) {
            state.waiting -= 1;
            return Some((job, runner));
        }
        state.busy.remove(&partition);
        state.idle.push_back((partition, runner));
        let instances =
            |state: &State| state.idle.iter().map(|(_, runner)| runner.instances()).sum::<usize>();
        while instances(&state) > TRANSFORM_INSTANCES_MAX {
            state.idle.pop_front();
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
