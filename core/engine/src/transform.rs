//! Transforms as the engine sees them: which are deployed where, the jobs it asks for and what
//! comes back. It never runs a module and never looks into a specification beyond topics and order.
//!
//! ```text
//! deployment  fields of version 1 (fact 9, snapshots up to 6), then parts (fact 50, snapshots from 7):
//!             varint x (tag u8 | length varint | body), in ascending order of tags
//! part  1 mode      u8: 1 derive | start u8: 0 latest, 1 earliest, 2 timestamp ms i64
//!       2 route by key, no body
//!       3 previous  a specification: its fields of version 1, then its own parts
//!       5 counter   of the signed package that it came in u64
//!       4 canary    transform id u64 | share in percent u8 | a specification
//!       6 keeps state, no body
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
    /// Of the signed package that it came in, which grows with each release; 0: it was not signed.
    pub package_counter: u64,
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
        keeping.map(|(id, spec)| Keeper { id, name: spec.name.clone() }).collect()
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

impl Deployment {
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.id.0);
        out.put_u8(u8::from(self.paused));
        self.spec.put_fields(out);
        put_parts(out, self.parts());
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts = self.spec.parts();
        if let Some(previous) = &self.previous {
            let mut body = BytesMut::new();
            previous.put(&mut body);
            parts.push((PART_PREVIOUS, body));
        }
        if let Some(canary) = &self.canary {
            let mut body = BytesMut::new();
            body.put_u64_le(canary.id.0);
            body.put_u8(canary.share_percent);
            canary.spec.put(&mut body);
            parts.push((PART_CANARY, body));
        }
        parts.sort_unstable_by_key(|(tag, _)| *tag);
        parts
    }

    pub(crate) fn take(take: &mut Take, has_parts: bool) -> Result<Deployment, CodecError> {
        let id = TransformId(take.u64("transform id")?);
        let paused = take.bool("paused")?;
        let spec = TransformSpec::take_fields(take)?;
        let mut deployment = Deployment { id, spec, paused, ..Deployment::default() };
        if has_parts {
            take_parts(take, |tag, body| deployment.take_part(tag, body))?;
        }
        Ok(deployment)
    }

    fn take_part(&mut self, tag: u8, body: &mut Take) -> Result<(), CodecError> {
        match tag {
            PART_PREVIOUS => self.previous = Some(Box::new(TransformSpec::take(body)?)),
            PART_CANARY => {
                let id = TransformId(body.u64("transform id of a canary")?);
                let share_percent = body.u8("share of a canary")?;
                let spec = TransformSpec::take(body)?;
                self.canary = Some(Box::new(Canary { id, spec, share_percent }));
            }
            tag => self.spec.take_part(tag, body)?,
        }
        Ok(())
    }
}

impl TransformSpec {
    /// A specification that is part of something else.
    fn put(&self, out: &mut impl BufMut) {
        self.put_fields(out);
        put_parts(out, self.parts());
    }

    fn take(take: &mut Take) -> Result<TransformSpec, CodecError> {
        let mut spec = TransformSpec::take_fields(take)?;
        take_parts(take, |tag, body| spec.take_part(tag, body))?;
        Ok(spec)
    }

    fn put_fields(&self, out: &mut impl BufMut) {
        put_string(out, &self.name);
        put_string(out, &self.version);
        out.put_slice(&self.module);
        put_strings(out, &self.settings);
        put_count(out, self.topics.len());
        for topic in &self.topics {
            put_string(out, topic);
        }
        put_count(out, self.outputs.len());
        for topic in &self.outputs {
            put_string(out, topic);
        }
        put_count(out, self.limits.len());
        for (name, value) in &self.limits {
            put_string(out, name);
            out.put_u64_le(*value);
        }
        out.put_u32_le(self.on_failure.retries);
        out.put_u8(self.on_failure.then as u8);
        put_option_string(out, self.dead_letter_topic.as_deref());
        out.put_i32_le(self.order);
    }

    fn take_fields(take: &mut Take) -> Result<TransformSpec, CodecError> {
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
        let on_failure =
            OnFailure { retries: take.u32("retries")?, then: FailureAction::take(take)? };
        let dead_letter_topic = take.option_string("dead letter topic")?;
        let order = take.i32("order")?;
        Ok(TransformSpec {
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
            package_counter: 0,
            route_by_key: false,
            keeps_state: false,
        })
    }

    /// What differs from the defaults.
    fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> =
            self.mode.part().map(|body| (PART_MODE, body)).into_iter().collect();
        if self.route_by_key {
            parts.push((PART_ROUTE_BY_KEY, BytesMut::new()));
        }
        if self.package_counter > 0 {
            let mut body = BytesMut::new();
            body.put_u64_le(self.package_counter);
            parts.push((PART_COUNTER, body));
        }
        if self.keeps_state {
            parts.push((PART_KEEPS_STATE, BytesMut::new()));
        }
        parts
    }

    fn take_part(&mut self, tag: u8, body: &mut Take) -> Result<(), CodecError> {
        match tag {
            PART_MODE => self.mode = Mode::take(body)?,
            PART_ROUTE_BY_KEY => self.route_by_key = true,
            PART_KEEPS_STATE => self.keeps_state = true,
            PART_COUNTER => self.package_counter = body.u64("package counter")?,
            value => {
                let what = "deployment part";
                return Err(CodecError::Impossible { what, value: value.into() });
            }
        }
        Ok(())
    }
}

impl FailureAction {
    fn take(take: &mut Take) -> Result<FailureAction, CodecError> {
        Ok(match take.u8("failure action")? {
            0 => FailureAction::DeadLetter,
            1 => FailureAction::Skip,
            2 => FailureAction::Pass,
            3 => FailureAction::Reject,
            value => {
                return Err(CodecError::Impossible { what: "failure action", value: value.into() });
            }
        })
    }
}

/// Tag and body.
type Part = (u8, BytesMut);

fn put_parts(out: &mut impl BufMut, parts: Vec<Part>) {
    put_varint(out, parts.len() as u64);
    for (tag, body) in parts {
        out.put_u8(tag);
        put_varint(out, body.len() as u64);
        out.put_slice(&body);
    }
}

fn take_parts(
    take: &mut Take,
    mut each: impl FnMut(u8, &mut Take) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    for _ in 0..take.varint_count("deployment parts", 2)? {
        let tag = take.u8("deployment part")?;
        let len = take.varint_count("deployment part", 1)?;
        let mut body = Take::new(take.slice("deployment part", len)?);
        each(tag, &mut body)?;
        body.end("deployment part")?;
    }
    Ok(())
}

/// The part with the specification that was in force before.
const PART_PREVIOUS: u8 = 3;
/// The part with the counter of its package.
const PART_COUNTER: u8 = 5;
/// The part with the version that is tried.
const PART_CANARY: u8 = 4;
/// The part that is there when records are routed by key.
const PART_ROUTE_BY_KEY: u8 = 2;
/// The part that is there when the module keeps state.
const PART_KEEPS_STATE: u8 = 6;
/// The part that says the mode.
const PART_MODE: u8 = 1;

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
        Deployment { id: TransformId(7), spec, paused: true, ..Deployment::default() }
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
            deployment.previous = Some(Box::new(deployment.spec.clone()));
            let version = "2".to_owned();
            let spec = TransformSpec { version, package_counter: 9, ..deployment.spec.clone() };
            deployment.canary =
                Some(Box::new(Canary { id: TransformId(8), spec, share_percent: 30 }));
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
