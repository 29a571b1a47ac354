//! Running one partition's chain on one batch, and saying it in the engine's words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millpond_engine::TransformId;
use millpond_engine::transform::{
    FailureAction, Output, OutputTopic, SharedSource, StateBatch, TransformJob, TransformOutcome,
    TransformSpec as EngineSpec,
};
use millpond_transform::{
    Chain, FailurePolicy, Input, Limits, OnFailure, Outcome, OutputTopic as GuestTopic, Report,
    Sha256, Shared, TransformSpec,
};
use millpond_wire::ErrorCode;
use millpond_wire::limits::PARTITIONS_MAX;

use super::logs::LogLine;
use super::service::{Deployed, TransformService, lock};
use super::stateful;
use super::watch;

/// The chain of one partition, with its instances; empty until its first batch.
#[derive(Default)]
pub(super) struct Runner {
    ids: Vec<TransformId>,
    deployed: Vec<Arc<Deployed>>,
    chain: Option<Chain>,
    /// After the job before: timers are due that had no room.
    timers_left: bool,
    /// As of the job before: another one means that state in memory is not what is journalled.
    state_epoch: u64,
}

impl Runner {
    /// How many instances are alive in it.
    pub(super) fn instances(&self) -> usize {
        self.chain.as_ref().map_or(0, Chain::live_instances)
    }

    /// Whether the last job left timers that are due.
    pub(super) fn timers_left(&self) -> bool {
        self.timers_left
    }

    /// State that it has in memory.
    pub(super) fn state_bytes(&self) -> usize {
        self.chain.as_ref().map_or(0, Chain::state_bytes)
    }

    /// Runs the chain that the job asks for.
    pub(super) async fn run(
        &mut self,
        service: &Arc<TransformService>,
        job: TransformJob,
    ) -> TransformOutcome {
        self.timers_left = false;
        if self.ids != job.chain {
            *self = Self::default();
        }
        if self.chain.is_none() {
            match build(service, &job).await {
                Ok(built) => {
                    built.note_versions(&job);
                    *self = built;
                }
                Err(reason) => return unavailable(&job.topic, &reason),
            }
        }
        let Some(chain) = &mut self.chain else {
            return unavailable(&job.topic, "it has no chain");
        };
        if std::mem::replace(&mut self.state_epoch, job.state_epoch) != job.state_epoch {
            chain.forget_state();
        }
        if let Err(reason) = stateful::load(&service.engine, chain, &job).await {
            return unavailable(&job.topic, &reason);
        }
        let (batch, input_count) = (job.batch.as_ref(), job.input_count);
        let of = |one: &SharedSource| millpond_transform::SharedSource {
            topic: one.topic.clone(),
            is_idle: one.is_idle,
        };
        let sources: Vec<_> = job.shared_by.iter().map(of).collect();
        let shared =
            (!sources.is_empty()).then_some(Shared { topic: &job.topic, sources: &sources });
        let input = Input { batch, input_count, idle_ms: job.idle_ms, shared, now_ms: job.now_ms };
        let report = millpond_transform::run(chain, input).await;
        self.timers_left = report.timers_left;
        self.record(service, &report);
        let state = match stateful::changes(&report, &job) {
            Ok(state) => state,
            Err(reason) => {
                // With its memory, which is ahead of what can be journalled.
                *self = Self::default();
                return unavailable(&job.topic, &reason);
            }
        };
        outcome(report.outcome, state, &self.by_key())
    }

    /// Topics to which records go by their key.
    fn by_key(&self) -> BTreeSet<&str> {
        let specs = self.deployed.iter().map(|deployed| &deployed.deployment.spec);
        let keyed = specs.filter(|spec| spec.route_by_key);
        keyed.flat_map(|spec| spec.outputs.iter().map(String::as_str)).collect()
    }

    /// Says in the logs from which input on another version has the partition.
    fn note_versions(&self, job: &TransformJob) {
        for deployed in &self.deployed {
            let (id, spec) = (deployed.deployment.id, &deployed.deployment.spec);
            let mut running = lock(&deployed.record.running);
            if running.len() >= PARTITIONS_MAX {
                // Of topics that are gone: what runs is said once more.
                running.clear();
            }
            let before = running.insert(job.partition, id);
            if before != Some(id) {
                let text = format!(
                    "version {} (deployment {id}) has {}-{} from input {} on",
                    spec.version, job.topic, job.partition.partition, job.input_count
                );
                let line = LogLine::of_node("info", job.partition.partition, text);
                lock(&deployed.record.log).push(line);
            }
        }
    }

    fn record(&self, service: &Arc<TransformService>, report: &Report) {
        for (deployed, stage) in self.deployed.iter().zip(&report.stages) {
            lock(&deployed.record.totals).add(stage);
            lock(&deployed.totals).add(stage);
            if let Some(counts) = deployed.watch.count(stage.records_in, stage.failed) {
                service.roll_back(deployed, counts);
            }
        }
        for line in &report.logs {
            let of = self.deployed.iter().find(|d| d.deployment.spec.name == line.transform);
            if let Some(deployed) = of {
                let line = LogLine::of_node(line.level.name(), line.partition, line.text.clone());
                lock(&deployed.record.log).push(line);
            }
        }
    }
}

async fn build(service: &Arc<TransformService>, job: &TransformJob) -> Result<Runner, String> {
    let mut deployed = Vec::with_capacity(job.chain.len());
    let mut transforms = Vec::with_capacity(job.chain.len());
    for id in &job.chain {
        let found =
            service.find(*id).ok_or_else(|| format!("transform {id} is no longer there"))?;
        transforms.push(service.transform(&found).await?);
        deployed.push(found);
    }
    // The same whichever of the topics that share a state comes first: randomness is seeded with it.
    let topic = job.shared_by.first().map_or(&job.topic, |first| &first.topic);
    let chain =
        Chain::new(transforms, topic, job.partition.partition).map_err(|e| e.to_string())?;
    let state_epoch = job.state_epoch;
    let ids = job.chain.clone();
    Ok(Runner { ids, deployed, chain: Some(chain), state_epoch, timers_left: false })
}

/// The node cannot run what the topic demands. Records must not pass unseen: the producer is told
/// to try again.
fn unavailable(topic: &str, reason: &str) -> TransformOutcome {
    tracing::debug!("a batch for {topic} is refused: {reason}");
    TransformOutcome::Rejected {
        code: ErrorCode::KafkaStorageError,
        message: format!("the transform of topic {topic} cannot run: {reason}"),
    }
}

fn outcome(outcome: Outcome, state: Vec<StateBatch>, by_key: &BTreeSet<&str>) -> TransformOutcome {
    match outcome {
        Outcome::Untouched => TransformOutcome::Untouched { state },
        Outcome::Rejected { code, message } => TransformOutcome::Rejected { code, message },
        Outcome::Changed { outputs } => TransformOutcome::Changed {
            state,
            outputs: outputs
                .into_iter()
                .map(|output| Output {
                    topic: match output.topic {
                        GuestTopic::Same => OutputTopic::Same,
                        GuestTopic::Named(name) if by_key.contains(name.as_str()) => {
                            OutputTopic::ByKey(name)
                        }
                        GuestTopic::Named(name) => OutputTopic::Named(name),
                    },
                    batch: output.batch,
                })
                .collect(),
        },
    }
}

/// The names of limits that a description may set.
pub(crate) fn limit_names() -> impl Iterator<Item = &'static str> {
    Limits::NAMES.into_iter().chain([watch::PERCENT, watch::RECORDS])
}

/// The host's form of a specification.
///
/// # Errors
/// A limit that does not exist.
pub(crate) fn host_spec(spec: &EngineSpec) -> Result<TransformSpec, String> {
    Ok(TransformSpec {
        name: spec.name.clone(),
        version: spec.version.clone(),
        module: Sha256(spec.module),
        settings: spec.settings.clone(),
        topics: spec.topics.clone(),
        outputs: spec.outputs.clone(),
        limits: limits(&spec.limits)?,
        on_failure: FailurePolicy {
            retries: spec.on_failure.retries,
            then: match spec.on_failure.then {
                FailureAction::DeadLetter => OnFailure::DeadLetter,
                FailureAction::Skip => OnFailure::Skip,
                FailureAction::Pass => OnFailure::Pass,
                FailureAction::Reject => OnFailure::Reject,
            },
        },
        dead_letter_topic: spec.dead_letter_topic.clone(),
    })
}

fn limits(set: &BTreeMap<String, u64>) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for (name, value) in set {
        if !limits.set(name, *value) && ![watch::PERCENT, watch::RECORDS].contains(&&**name) {
            let names = limit_names().collect::<Vec<_>>().join(", ");
            return Err(format!("there is no limit {name:?}; there are {names}"));
        }
    }
    watch::limit(set)?;
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_is_named_exists_and_others_are_refused() {
        for name in Limits::NAMES {
            assert!(limits(&BTreeMap::from([(name.to_owned(), 7)])).is_ok());
        }
        assert!(
            limits(&BTreeMap::from([("memory".to_owned(), 7)]))
                .unwrap_err()
                .contains("memory_bytes")
        );
        let set = limits(&BTreeMap::from([("cpu_ms_per_batch".to_owned(), 7)])).unwrap();
        assert_eq!(set, Limits { cpu_ms_per_batch: 7, ..Limits::default() });
    }
}
