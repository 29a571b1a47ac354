//! Transforms as the engine sees them: which are deployed where, the jobs it asks for and what
//! comes back. It never runs a module and never looks into a specification beyond topics and order.

use crate::codec::{CodecError, Take, put_count, put_option_string, put_string, put_strings};
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
}

/// A batch to be transformed.
#[derive(Clone, Debug)]
pub struct TransformJob {
    /// Comes back in `Event::Transformed`.
    pub ticket: Ticket,
    /// Name of the topic that it was sent to.
    pub topic: String,
    /// Where it was sent to. Jobs of one partition must run in the order of their effects.
    pub partition: PartitionKey,
    /// The transforms to run, in order; never empty.
    pub chain: Vec<TransformId>,
    /// As it came.
    pub batch: Batch,
    /// Records that this partition gave to transforms before this batch: seeds the randomness.
    pub input_count: u64,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub enum TransformOutcome {
    /// Every record was kept as it was: the batch is stored byte for byte.
    Untouched,
    /// These batches take its place; none of them carries a producer id.
    Changed {
        /// In order; empty when every record was dropped.
        outputs: Vec<Output>,
    },
    /// The produce is refused and nothing of it is stored.
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

/// Where an output goes. The partition is that of the source, modulo the target's count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputTopic {
    /// The topic that the batch was sent to.
    Same,
    /// Another topic; created in the same entry if it does not exist.
    Named(String),
}

/// A request over HTTP that concerns transforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminRequest {
    /// Put a specification in force, in place of one of the same name.
    DeployTransform(TransformSpec),
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
    /// A cap is reached.
    #[error("{0} transforms are deployed, which is the limit; delete one first")]
    TooMany(usize),
}

/// All deployments of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransformTable {
    by_id: BTreeMap<TransformId, Deployment>,
    next_id: u64,
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

    pub(crate) fn deploy(&mut self, deployment: Deployment) {
        self.remove(&deployment.spec.name);
        self.next_id = self.next_id.max(deployment.id.0);
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

    /// The chain of a topic, in order; empty when nothing runs on it.
    pub(crate) fn chain(&self, topic: &str) -> Vec<TransformId> {
        if self.by_id.is_empty() {
            return Vec::new();
        }
        let runs_on = |d: &&Deployment| !d.paused && d.spec.topics.iter().any(|t| t == topic);
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
    }

    pub(crate) fn take(take: &mut Take) -> Result<TransformTable, CodecError> {
        let next_id = take.u64("next transform id")?;
        let count = take.count("transforms", 1)?;
        let mut table = TransformTable { by_id: BTreeMap::new(), next_id };
        for _ in 0..count {
            let deployment = Deployment::take(take)?;
            table.by_id.insert(deployment.id, deployment);
        }
        Ok(table)
    }
}

impl Deployment {
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        let spec = &self.spec;
        out.put_u64_le(self.id.0);
        out.put_u8(u8::from(self.paused));
        put_string(out, &spec.name);
        put_string(out, &spec.version);
        out.put_slice(&spec.module);
        put_strings(out, &spec.settings);
        put_count(out, spec.topics.len());
        for topic in &spec.topics {
            put_string(out, topic);
        }
        put_count(out, spec.outputs.len());
        for topic in &spec.outputs {
            put_string(out, topic);
        }
        put_count(out, spec.limits.len());
        for (name, value) in &spec.limits {
            put_string(out, name);
            out.put_u64_le(*value);
        }
        out.put_u32_le(spec.on_failure.retries);
        out.put_u8(spec.on_failure.then as u8);
        put_option_string(out, spec.dead_letter_topic.as_deref());
        out.put_i32_le(spec.order);
    }

    pub(crate) fn take(take: &mut Take) -> Result<Deployment, CodecError> {
        let id = TransformId(take.u64("transform id")?);
        let paused = take.bool("paused")?;
        let name = take.string("transform name")?;
        let version = take.string("transform version")?;
        let module = take.array::<32>("module hash")?;
        let settings = take.strings("transform settings")?;
        let count = take.count("transform topics", 4)?;
        let topics = (0..count).map(|_| take.string("topic")).collect::<Result<_, _>>()?;
        let count = take.count("transform outputs", 4)?;
        let outputs = (0..count).map(|_| take.string("output topic")).collect::<Result<_, _>>()?;
        let count = take.count("transform limits", 12)?;
        let limits = (0..count)
            .map(|_| Ok((take.string("limit")?, take.u64("limit")?)))
            .collect::<Result<_, CodecError>>()?;
        let retries = take.u32("retries")?;
        let then = match take.u8("failure action")? {
            0 => FailureAction::DeadLetter,
            1 => FailureAction::Skip,
            2 => FailureAction::Pass,
            3 => FailureAction::Reject,
            value => {
                return Err(CodecError::Impossible { what: "failure action", value: value.into() });
            }
        };
        let dead_letter_topic = take.option_string("dead letter topic")?;
        let order = take.i32("order")?;
        let on_failure = OnFailure { retries, then };
        let spec = TransformSpec {
            name,
            version,
            module,
            settings,
            topics,
            outputs,
            limits,
            on_failure,
            dead_letter_topic,
            order,
        };
        Ok(Deployment { id, spec, paused })
    }
}
