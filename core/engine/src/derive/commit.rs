//! The result of a derived transform's job: outputs, state and cursor in one entry, or none of them.
//! Never moves a cursor past a batch whose result was refused.

use super::{Busy, Cursor, Job, LaneId};
use crate::engine::Engine;
use crate::refusal::{Refusal, refuse};
use crate::transform::{Output, OutputTopic, TransformOutcome};
use crate::units::PartitionKey;
use millpond_wire::error_code::ErrorCode;

impl Engine {
    /// A worker is done with the job of a lane.
    /// `timers_left`: more are due than had room in it.
    pub(crate) fn on_derived(&mut self, id: &LaneId, outcome: TransformOutcome, timers_left: bool) {
        let Some(lane) = self.derives.lanes.get_mut(id) else { return };
        let job = match std::mem::take(&mut lane.busy) {
            Busy::Running(job) => job,
            other => return lane.busy = other,
        };
        self.derives.jobs_len -= 1;
        let is_refused = matches!(outcome, TransformOutcome::Rejected { .. });
        match self.commit_derived(id, &job, outcome) {
            Ok(()) => {
                if let Some(lane) = self.derives.lanes.get_mut(id) {
                    (lane.failures, lane.fault) = (0, None);
                    lane.desk.note_timers(timers_left);
                }
                if let Some(input) = &job.input {
                    self.derives.advance(id, job.source, input.upto);
                }
                self.derives.queue(id);
            }
            Err(refusal) => {
                if let Some(lane) = self.derives.lanes.get_mut(id)
                    && !is_refused
                {
                    // The worker has changed its state, and the journal has not.
                    lane.desk.epoch += 1;
                }
                self.pause_lane(id, refusal.message);
            }
        }
    }

    fn commit_derived(
        &mut self,
        id: &LaneId,
        job: &Job,
        outcome: TransformOutcome,
    ) -> Result<(), Refusal> {
        let (outputs, state) = match outcome {
            TransformOutcome::Rejected { code, message } => return Err(refuse(code, message)),
            TransformOutcome::Changed { outputs, state } => (outputs, state),
            TransformOutcome::Untouched { state } => {
                let kept = job
                    .input
                    .iter()
                    .map(|input| Output { topic: OutputTopic::Same, batch: input.batch.clone() });
                (kept.collect(), state)
            }
        };
        let source = job.source;
        let placed = self.place_outputs(source, self.named_outputs(id, job, outputs)?)?;
        let sources = self.derives.lanes.get(id).map_or(&[][..], |lane| &lane.sources);
        let is_own = |key: PartitionKey| {
            sources.iter().any(|source| source.partition.topic_id == key.topic_id)
        };
        if placed.iter().filter_map(|one| one.place.known()).any(is_own) {
            let message = "a derived transform sends records to its own source";
            return Err(refuse(ErrorCode::InvalidTopicException, message));
        }
        self.check_outputs(source, &placed, &job.keepers, &state)?;
        self.append_state(source, &job.keepers, state);
        self.append_outputs(source, placed);
        if let Some(input) = &job.input {
            let before = self.state.cursors.get(source, &id.transform).unwrap_or_default();
            let inputs = before.inputs + input.records;
            self.move_cursor(source, &id.transform, Cursor { next: input.upto, inputs });
            self.counters.derive_batches += 1;
        }
        Ok(())
    }

    /// What stays where it is, inline, goes to the first output here.
    fn named_outputs(
        &self,
        id: &LaneId,
        job: &Job,
        outputs: Vec<Output>,
    ) -> Result<Vec<Output>, Refusal> {
        let transforms = &self.state.transforms;
        // A new version may have taken its place meanwhile.
        let now = || transforms.find(&id.transform).map(|deployment| &deployment.spec);
        let spec = transforms.spec(job.version).or_else(now);
        let first = spec.and_then(|spec| Some((spec.outputs.first()?, spec.route_by_key)));
        let Some((name, is_by_key)) = first else {
            let message = "the transform has no output any more";
            return Err(refuse(ErrorCode::UnknownTopicOrPartition, message));
        };
        let place = |output: Output| match output.topic {
            OutputTopic::Same if is_by_key => {
                Output { topic: OutputTopic::ByKey(name.clone()), ..output }
            }
            OutputTopic::Same => Output { topic: OutputTopic::Named(name.clone()), ..output },
            _ => output,
        };
        Ok(outputs.into_iter().map(place).collect())
    }
}
