//! Transforms as the engine sees them: which are deployed where, the jobs it asks for and what
//! comes back. It never runs a module and never looks into a specification beyond topics and order.
//!
//! ```text
//! deployment  fields of version 1 (fact 9, snapshots up to 6), then parts (fact 50, snapshots from 7):
//!             varint x (tag u8 | length varint | body), in ascending order of tags
//! part  1 mode         u8: 1 derive | start u8: 0 latest, 1 earliest, 2 timestamp ms i64
//!       2 route by key no body
//!       3 keeps state  no body
//! ```
//! A part that is not there stands for the default. An unknown part is refused, never skipped.

use crate::codec::{
    CodecError, Take, put_count, put_option_string, put_string, put_strings, put_varint,
};
use crate::units::{PartitionKey, Ticket, TransformId};
use bytes::{BufMut, BytesMut};
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
    /// Records for other topics go to the partition of their key, as producers would send them.
    pub route_by_key: bool,
    /// The module keeps state: its batches of a partition run one by one, each after the result of
    /// the one before is in the journal's order.
    pub keeps_state: bool,
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
    /// From what is stored and committed: jobs of one derived transform and partition are a line of
    /// their own, beside that of the partition's inline chain.
    pub is_derived: bool,
    /// As it came; `None`: nothing came, but time passed.
    pub batch: Option<Batch>,
    /// Without a batch: for how long nothing came, ms.
    pub idle_ms: Option<u64>,
    /// Records that this partition gave to transforms before this batch: seeds the randomness.
    pub input_count: u64,
    /// Rises when a result was not committed. A worker that remembers another one must forget the
    /// state that it has in memory and read it again.
    pub state_epoch: u64,
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
#[expect(clippy::large_enum_variant, reason = "one at a time, from people")]
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

/// A transform that keeps state, as whoever commits its changes knows it: by its name, under which
/// the state outlives its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keeper {
    pub(crate) id: TransformId,
    pub(crate) name: String,
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

    pub(crate) fn get(&self, id: TransformId) -> Option<&Deployment> {
        self.by_id.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Deployment> {
        self.by_id.values()
    }

    /// Those of a chain that keep state.
    pub(crate) fn keepers(&self, chain: &[TransformId]) -> Vec<Keeper> {
        let found = chain.iter().filter_map(|id| self.by_id.get(id));
        let keeping = found.filter(|one| one.spec.keeps_state);
        keeping.map(|one| Keeper { id: one.id, name: one.spec.name.clone() }).collect()
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
    }

    pub(crate) fn take(take: &mut Take, has_parts: bool) -> Result<TransformTable, CodecError> {
        let next_id = take.u64("next transform id")?;
        let count = take.count("transforms", 1)?;
        let mut table = TransformTable { by_id: BTreeMap::new(), next_id };
        for _ in 0..count {
            let deployment = Deployment::take(take, has_parts)?;
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
        self.put_parts(out);
    }

    fn put_parts(&self, out: &mut impl BufMut) {
        let flag = |is_set: bool| is_set.then(BytesMut::new);
        let parts: Vec<(u8, BytesMut)> = [
            (PART_MODE, self.spec.mode.part()),
            (PART_ROUTE_BY_KEY, flag(self.spec.route_by_key)),
            (PART_KEEPS_STATE, flag(self.spec.keeps_state)),
        ]
        .into_iter()
        .filter_map(|(tag, body)| Some((tag, body?)))
        .collect();
        put_varint(out, parts.len() as u64);
        for (tag, body) in parts {
            out.put_u8(tag);
            put_varint(out, body.len() as u64);
            out.put_slice(&body);
        }
    }

    fn take_parts(&mut self, take: &mut Take) -> Result<(), CodecError> {
        for _ in 0..take.varint_count("deployment parts", 2)? {
            let tag = take.u8("deployment part")?;
            let len = take.varint_count("deployment part", 1)?;
            let mut body = Take::new(take.slice("deployment part", len)?);
            match tag {
                PART_MODE => self.spec.mode = Mode::take(&mut body)?,
                PART_ROUTE_BY_KEY => self.spec.route_by_key = true,
                PART_KEEPS_STATE => self.spec.keeps_state = true,
                value => {
                    let what = "deployment part";
                    return Err(CodecError::Impossible { what, value: value.into() });
                }
            }
            body.end("deployment part")?;
        }
        Ok(())
    }

    pub(crate) fn take(take: &mut Take, has_parts: bool) -> Result<Deployment, CodecError> {
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
            mode: Mode::Inline,
            route_by_key: false,
            keeps_state: false,
        };
        let mut deployment = Deployment { id, spec, paused };
        if has_parts {
            deployment.take_parts(take)?;
        }
        Ok(deployment)
    }
}

/// The part that says the mode.
const PART_MODE: u8 = 1;
/// The part that is there when records are routed by key.
const PART_ROUTE_BY_KEY: u8 = 2;
/// The part that is there when the module keeps state.
const PART_KEEPS_STATE: u8 = 3;

impl Mode {
    fn part(self) -> Option<BytesMut> {
        let Mode::Derive(start) = self else { return None };
        let mut out = BytesMut::new();
        out.put_u8(1);
        match start {
            DeriveStart::Latest => out.put_u8(0),
            DeriveStart::Earliest => out.put_u8(1),
            DeriveStart::TimestampMs(timestamp_ms) => {
                out.put_u8(2);
                out.put_i64_le(timestamp_ms);
            }
        }
        Some(out)
    }

    fn take(take: &mut Take) -> Result<Mode, CodecError> {
        let impossible = |what, value: u8| CodecError::Impossible { what, value: value.into() };
        match take.u8("transform mode")? {
            1 => {}
            value => return Err(impossible("transform mode", value)),
        }
        Ok(Mode::Derive(match take.u8("derive start")? {
            0 => DeriveStart::Latest,
            1 => DeriveStart::Earliest,
            2 => DeriveStart::TimestampMs(take.i64("derive start")?),
            value => return Err(impossible("derive start", value)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(mode: Mode) -> Deployment {
        let spec = TransformSpec { name: "mean".into(), mode, ..TransformSpec::default() };
        Deployment { id: TransformId(7), spec, paused: true }
    }

    fn written(deployment: &Deployment) -> BytesMut {
        let mut out = BytesMut::new();
        deployment.put(&mut out);
        out
    }

    #[test]
    fn a_deployment_reads_as_it_was_written_in_every_mode() {
        let starts = [DeriveStart::Latest, DeriveStart::Earliest, DeriveStart::TimestampMs(-5)];
        for mode in starts.into_iter().map(Mode::Derive).chain([Mode::Inline]) {
            let mut deployment = deployment(mode);
            deployment.spec.route_by_key = mode == Mode::Inline;
            deployment.spec.keeps_state = mode != Mode::Inline;
            let mut take = Take::new(written(&deployment).freeze());
            assert_eq!(Deployment::take(&mut take, true), Ok(deployment));
            assert_eq!(take.end("deployment"), Ok(()));
        }
    }

    #[test]
    fn a_part_of_a_newer_version_is_refused() {
        let mut bytes = written(&deployment(Mode::Inline));
        // One part in place of none: tag 200, no body.
        bytes.truncate(bytes.len() - 1);
        bytes.put_slice(&[1, 200, 0]);
        assert!(Deployment::take(&mut Take::new(bytes.freeze()), true).is_err());
    }
}
