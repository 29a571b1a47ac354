//! Transforms as the engine sees them: which are deployed where, the jobs it asks for and what
//! comes back. It never runs a module and never looks into a specification beyond topics and order.
//! How they are written:
//! `deployment_format.rs`.

use crate::codec::{CodecError, Take, put_count, put_string};
use crate::units::{PartitionKey, Ticket, TransformId};
use bytes::BufMut;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::record::Batch;
use std::collections::BTreeMap;

/// What a user asked to run on a topic. Plain data that survives restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransformSpec {
    /// Unique on the node.
    pub name: String,
    /// The user's own version label.
    pub version: String,
    /// SHA-256 of the module.
    pub module: [u8; 32],
    /// Handed to the module.
    pub settings: BTreeMap<String, String>,
    /// Topics that it runs inline on.
    pub topics: Vec<String>,
    /// Other topics that it may send records to.
    pub outputs: Vec<String>,
    /// Limits by name (`memory_bytes`, `cpu_ms_per_batch`, ...); the host knows what they mean.
    pub limits: BTreeMap<String, u64>,
    /// What happens to a record that the module fails on.
    pub on_failure: OnFailure,
    /// Where failed records go under `FailureAction::DeadLetter`.
    pub dead_letter_topic: Option<String>,
    /// Transforms of a topic run in ascending order, then in order of deployment.
    pub order: i32,
    /// Before records are stored, or from what is stored and committed.
    pub mode: Mode,
    /// Of the signed package that it came in, which grows with each release; 0: it was not signed.
    pub package_counter: u64,
    /// Records for other topics go to the partition of their key, as producers would send them.
    pub route_by_key: bool,
    /// The module keeps state: its batches of a partition run one by one, each after the result of
    /// the one before is in the journal's order.
    pub keeps_state: bool,
    /// Partitions of the same number of all its topics are one line of batches, with one state: for
    /// joins. Only where it derives.
    pub shares_state: bool,
}

impl TransformSpec {
    /// Whether it works on what is stored and committed.
    #[must_use]
    pub fn is_derived(&self) -> bool {
        matches!(self.mode, Mode::Derive(_))
    }

    /// Silence after which the module is told of the time that passes, ms; `None`: never.
    #[must_use]
    pub fn idle_timeout_ms(&self) -> Option<u64> {
        let ms = self.limits.get(IDLE_TIMEOUT_MS).copied().filter(|ms| *ms > 0)?;
        self.keeps_state.then_some(ms)
    }
}

/// The limit that lets time pass for a module that keeps state when no records come.
pub const IDLE_TIMEOUT_MS: &str = "idle_timeout_ms";

/// When a transform runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the produce path: what it makes of a batch is stored in the batch's place.
    #[default]
    Inline,
    /// On what is stored and committed; what it makes goes to its outputs.
    Derive(DeriveStart),
}

/// Where a transform that derives begins, when it has not read a partition yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeriveStart {
    /// With what is appended after it was deployed.
    #[default]
    Latest,
    /// With what the log begins with.
    Earliest,
    /// With the first record that is not older than this, ms since 1970.
    TimestampMs(i64),
}

/// The failure policy of a transform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnFailure {
    /// How often a failed record is tried again first.
    pub retries: u32,
    /// What happens then.
    pub then: FailureAction,
}

/// What happens to a record that a module failed on for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum FailureAction {
    /// The record goes to the dead-letter topic.
    #[default]
    DeadLetter = 0,
    /// The record is dropped and counted.
    Skip = 1,
    /// The record is stored as it came.
    Pass = 2,
    /// The whole produce is refused.
    Reject = 3,
}

/// A specification that is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployment {
    /// Never used twice.
    pub id: TransformId,
    /// What was asked for.
    pub spec: TransformSpec,
    /// A paused transform lets batches pass as if it were not there.
    pub paused: bool,
    /// What was in force before, and is again after a roll-back.
    pub previous: Option<Box<TransformSpec>>,
    /// A newer version that runs on a share of the partitions.
    pub canary: Option<Box<Canary>>,
}

/// A version that is tried on a share of the partitions before it runs on all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canary {
    /// Never used twice, as that of a deployment.
    pub id: TransformId,
    /// Of the same name as the one in force.
    pub spec: TransformSpec,
    /// 1 to 99: on so many of each topic's partitions, rounded up, those with the lowest numbers.
    pub share_percent: u8,
}

impl Canary {
    /// Whether it runs on this partition of a topic.
    #[must_use]
    pub fn has(&self, partition: i32, partitions: usize) -> bool {
        let share = (partitions * usize::from(self.share_percent)).div_ceil(100);
        usize::try_from(partition).is_ok_and(|partition| partition < share)
    }
}

/// A batch to be transformed.
#[derive(Clone, Debug)]
pub struct TransformJob {
    /// Comes back in `Event::Transformed`.
    pub ticket: Ticket,
    /// Name of the topic that it was sent to.
    pub topic: String,
    /// All topics that share the state of this line, in the order of the specification; empty where
    /// each topic has its own.
    pub shared_by: Vec<SharedSource>,
    /// Where it was sent to. Jobs of one partition must run in the order of their effects.
    pub partition: PartitionKey,
    /// The transforms to run, in order; never empty.
    pub chain: Vec<TransformId>,
    /// From what is stored and committed: jobs of one derived transform and partition are a line of
    /// their own, beside that of the partition's inline chain.
    pub is_derived: bool,
    /// As it came; `None`: nothing came, but time passed.
    pub batch: Option<Batch>,
    /// Without a batch: for how long nothing came, ms.
    pub idle_ms: Option<u64>,
    /// What the node's clock says, ms since 1970; `None`: it was never set. A record far ahead of it does
    /// not move the time of state.
    pub now_ms: Option<i64>,
    /// Records that this partition gave to transforms before this batch: seeds the randomness.
    pub input_count: u64,
    /// Rises when a result was not committed. A worker that remembers another one must forget the
    /// state that it has in memory and read it again.
    pub state_epoch: u64,
}

/// One of the topics that share a line's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSource {
    /// Its name.
    pub topic: String,
    /// All of it was read, and nothing came for as long as the transform's idle timeout says: time
    /// does not wait for it.
    pub is_idle: bool,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub enum TransformOutcome {
    /// Every record was kept as it was: the batch is stored byte for byte.
    Untouched {
        /// What became of the state; journalled with the batch.
        state: Vec<StateBatch>,
    },
    /// These batches take its place; none of them carries a producer id.
    Changed {
        /// In order; empty when every record was dropped.
        outputs: Vec<Output>,
        /// What became of the state; journalled with the outputs.
        state: Vec<StateBatch>,
    },
    /// The produce is refused and nothing of it is stored. What is derived is tried again later.
    Rejected {
        /// What the client is told.
        code: ErrorCode,
        /// For people.
        message: String,
    },
}

/// One batch that a chain put out.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where it goes.
    pub topic: OutputTopic,
    /// Records; with producer id -1.
    pub batch: Batch,
}

/// Changes of the state of one transform: records with the state's key, and with its value or none
/// where it is gone.
#[derive(Clone, Debug)]
pub struct StateBatch {
    /// Whose state.
    pub transform: TransformId,
    /// For the changelog of the transform and its source topic; with producer id -1.
    pub batch: Batch,
}

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputTopic {
    /// The partition that the batch was sent to. Of what is derived: the transform's first output.
    Same,
    /// Another topic, which is created in the same entry if it does not exist. The partition is that
    /// of the source, modulo the target's count.
    Named(String),
    /// The same, but each record goes to the partition that Kafka's producers would choose for its
    /// key; without a key as above.
    ByKey(String),
}

/// A request over HTTP that concerns transforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminRequest {
    /// Put a specification in force, in place of one of the same name.
    DeployTransform(TransformSpec),
    /// Try a specification on a share of the partitions, beside the one in force of the same name.
    CanaryTransform {
        /// What is tried.
        spec: TransformSpec,
        /// 1 to 99.
        share_percent: u8,
    },
    /// Put the canary in force on all partitions.
    PromoteTransform {
        /// Of the transform.
        name: String,
    },
    /// Take the canary out of force, or without one: put the previous version in force again.
    RollBackTransform {
        /// Of the transform.
        name: String,
        /// Only if this version is in force still, as canary or on all partitions.
        of: Option<TransformId>,
    },
    /// Take a transform out of force.
    DeleteTransform {
        /// Of the transform.
        name: String,
    },
    /// Let batches pass a transform, or stop doing so.
    PauseTransform {
        /// Of the transform.
        name: String,
        /// The new state.
        paused: bool,
    },
    /// All transforms.
    ListTransforms,
    /// One transform.
    DescribeTransform {
        /// Of the transform.
        name: String,
    },
}

/// The answer to an `AdminRequest`. Changes are answered when they are on flash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminResponse {
    /// Done; nothing to say.
    Done,
    /// All that are deployed, in order of application.
    Transforms(Vec<Deployment>),
    /// The one that was asked about or deployed.
    Transform(Box<Deployment>),
}

/// Why an `AdminRequest` was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// No such transform.
    #[error("there is no transform named {0:?}; `millpond transform list` shows all")]
    UnknownTransform(String),
    /// The specification cannot be accepted.
    #[error("the transform cannot be deployed: {0}")]
    InvalidSpec(String),
    /// There is nothing to go back to.
    #[error("the transform {0:?} has no canary and no previous version to go back to")]
    NoPrevious(String),
    /// There is nothing to promote.
    #[error("the transform {0:?} has no canary; `millpond transform deploy --canary` starts one")]
    NoCanary(String),
    /// The signed package is older than one that was in force before.
    #[error(
        "the package of the transform {name:?} has counter {counter}, and one with {highest} was \
         deployed here before; sign a newer one, or roll back to the previous version"
    )]
    OldPackage {
        /// Of the transform.
        name: String,
        /// Of the package.
        counter: u64,
        /// The highest so far.
        highest: u64,
    },
    /// Somebody was faster.
    #[error("version {of} of the transform {name:?} is not in force any more")]
    Superseded {
        /// Of the transform.
        name: String,
        /// The version that was meant.
        of: TransformId,
    },
    /// A cap is reached.
    #[error("{0} transforms are deployed, which is the limit; delete one first")]
    TooMany(usize),
    /// A cap is reached, which outlives deletions.
    #[error(
        "signed packages of {0} names came to this node, which is the limit; deploy under one of \
         those names"
    )]
    TooManyPackages(usize),
}

/// A transform that keeps state, as whoever commits its changes knows it: by its name, under which
/// the state outlives its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keeper {
    pub(crate) id: TransformId,
    pub(crate) name: String,
    /// It has one state for all of its topics.
    pub(crate) is_shared: bool,
}

impl Keeper {
    pub(crate) fn of(id: TransformId, spec: &TransformSpec) -> Keeper {
        Keeper { id, name: spec.name.clone(), is_shared: spec.shares_state }
    }
}

/// All deployments of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransformTable {
    by_id: BTreeMap<TransformId, Deployment>,
    next_id: u64,
    /// The highest counter of a signed package that each name ever had; outlives its deletion.
    counters: BTreeMap<String, u64>,
}

impl TransformTable {
    pub(crate) fn next_id(&self) -> TransformId {
        TransformId(self.next_id + 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Deployment> {
        self.by_id.values().find(|deployment| deployment.spec.name == name)
    }

    /// How many transforms but `name` run on a topic, paused ones included.
    pub(crate) fn on_topic(&self, topic: &str, name: &str) -> usize {
        let runs_on =
            |d: &&Deployment| d.spec.name != name && d.spec.topics.iter().any(|t| t == topic);
        self.by_id.values().filter(runs_on).count()
    }

    /// The highest counter of a signed package of this name so far.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Names with a counter.
    pub(crate) fn counters_len(&self) -> usize {
        self.counters.len()
    }

    pub(crate) fn deploy(&mut self, deployment: Deployment) {
        self.remove(&deployment.spec.name);
        let canary = deployment.canary.as_ref().map(|canary| &canary.spec);
        for spec in canary.into_iter().chain([&deployment.spec]) {
            if spec.package_counter > self.counter(&spec.name) {
                self.counters.insert(spec.name.clone(), spec.package_counter);
            }
        }
        let canary = deployment.canary.as_ref().map_or(0, |canary| canary.id.0);
        self.next_id = self.next_id.max(deployment.id.0).max(canary);
        self.by_id.insert(deployment.id, deployment);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.by_id.retain(|_, deployment| deployment.spec.name != name);
    }

    pub(crate) fn pause(&mut self, name: &str, paused: bool) {
        for deployment in self.by_id.values_mut() {
            if deployment.spec.name == name {
                deployment.paused = paused;
            }
        }
    }

    /// In order of application.
    pub(crate) fn all(&self) -> Vec<Deployment> {
        let mut all: Vec<Deployment> = self.by_id.values().cloned().collect();
        all.sort_by_key(|deployment| (deployment.spec.order, deployment.id));
        all
    }

    /// The specification of a version in force, as canary or on all other partitions.
    pub(crate) fn spec(&self, id: TransformId) -> Option<&TransformSpec> {
        if let Some(deployment) = self.by_id.get(&id) {
            return Some(&deployment.spec);
        }
        let mut canaries = self.by_id.values().filter_map(|one| one.canary.as_ref());
        canaries.find(|canary| canary.id == id).map(|canary| &canary.spec)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Deployment> {
        self.by_id.values()
    }

    /// All specifications in force, those of canaries included.
    pub(crate) fn specs(&self) -> impl Iterator<Item = &TransformSpec> {
        let canaries = self.by_id.values().filter_map(|one| one.canary.as_ref());
        let canaries = canaries.map(|canary| &canary.spec);
        self.by_id.values().map(|one| &one.spec).chain(canaries)
    }

    /// Those of a chain that keep state.
    pub(crate) fn keepers(&self, chain: &[TransformId]) -> Vec<Keeper> {
        let found = chain.iter().filter_map(|id| Some((*id, self.spec(*id)?)));
        let keeping = found.filter(|(_, spec)| spec.keeps_state);
        keeping.map(|(id, spec)| Keeper::of(id, spec)).collect()
    }

    /// Which version of each transform of a chain runs on one partition of a topic.
    pub(crate) fn on_partition(
        &self,
        chain: &[TransformId],
        partition: i32,
        partitions: usize,
    ) -> Vec<TransformId> {
        let running = |id: &TransformId| {
            let canary = self.by_id.get(id).and_then(|deployment| deployment.canary.as_ref());
            canary
                .filter(|canary| canary.has(partition, partitions))
                .map_or(*id, |canary| canary.id)
        };
        chain.iter().map(running).collect()
    }

    /// The inline chain of a topic, in order; empty when nothing runs on it.
    pub(crate) fn chain(&self, topic: &str) -> Vec<TransformId> {
        if self.by_id.is_empty() {
            return Vec::new();
        }
        let runs_on = |d: &&Deployment| {
            !d.paused && !d.spec.is_derived() && d.spec.topics.iter().any(|t| t == topic)
        };
        let mut chain: Vec<&Deployment> = self.by_id.values().filter(runs_on).collect();
        chain.sort_by_key(|deployment| (deployment.spec.order, deployment.id));
        chain.into_iter().map(|deployment| deployment.id).collect()
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.next_id);
        put_count(out, self.by_id.len());
        for deployment in self.by_id.values() {
            deployment.put(out);
        }
        put_count(out, self.counters.len());
        for (name, counter) in &self.counters {
            put_string(out, name);
            out.put_u64_le(*counter);
        }
    }

    pub(crate) fn take(take: &mut Take, has_parts: bool) -> Result<TransformTable, CodecError> {
        let next_id = take.u64("next transform id")?;
        let count = take.count("transforms", 1)?;
        let mut table = TransformTable { next_id, ..TransformTable::default() };
        for _ in 0..count {
            let deployment = Deployment::take(take, has_parts)?;
            table.by_id.insert(deployment.id, deployment);
        }
        if has_parts {
            for _ in 0..take.count("package counters", 12)? {
                let name = take.string("name of a package")?;
                table.counters.insert(name, take.u64("package counter")?);
            }
        }
        Ok(table)
    }
}
