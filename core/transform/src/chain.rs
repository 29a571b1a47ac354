//! A transform that is ready to run, and the ordered chain of them that one partition has.
//!
//! Instances belong to one partition and are never shared. Their memory is a cache: a chain works
//! the same whenever they are thrown away.

use crate::compile::CompiledModule;
use crate::fault::Fault;
use crate::guest::Guest;
use crate::host::Host;
use crate::logs::LogQuota;
use crate::spec::{Limits, SpecError, TransformSpec};
use crate::state::{State, StateError};
use bytes::Bytes;
use millpond_wire::{limits as caps, topic_name};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// A declared transform with its module, shared by all partitions.
#[derive(Debug)]
pub struct Transform {
    host: Host,
    spec: TransformSpec,
    /// Those in force: the declaration's until they are replaced.
    limits: Mutex<Limits>,
    module: CompiledModule,
    settings: Arc<BTreeMap<String, String>>,
    log_quota: Arc<LogQuota>,
}

/// Why a transform cannot be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeployError {
    /// Something in its declaration.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The declaration names another module.
    #[error("the module's SHA-256 is {found}, the transform asks for {wanted}")]
    OtherModule {
        /// Of the module.
        found: crate::spec::Sha256,
        /// Of the declaration.
        wanted: crate::spec::Sha256,
    },
    /// The module needs more than the limit lets it have.
    #[error("the module starts with {needed} bytes of memory; the limit is {limit}")]
    Memory {
        /// What it starts with.
        needed: u64,
        /// The limit.
        limit: usize,
    },
    /// The module refused its settings, or failed.
    #[error("the module does not start with these settings: {0}")]
    Start(Fault),
}

impl Transform {
    /// Puts declaration and module together and starts the module once, so that settings which it
    /// refuses are known now and not at the first record.
    ///
    /// # Errors
    /// Why it cannot be.
    pub async fn deploy(
        host: &Host,
        spec: TransformSpec,
        module: CompiledModule,
    ) -> Result<Arc<Self>, DeployError> {
        spec.check(host.config().reservation_bytes)?;
        if module.hash() != spec.module {
            return Err(DeployError::OtherModule { found: module.hash(), wanted: spec.module });
        }
        let transform = Transform {
            host: host.clone(),
            settings: Arc::new(spec.settings.clone()),
            limits: Mutex::new(spec.limits),
            spec,
            module,
            log_quota: Arc::new(LogQuota::new()),
        };
        let topic = transform.spec.topics.first().map_or("", String::as_str);
        let running = host.running();
        let started = Guest::start(&transform, transform.spec.limits.memory_bytes, topic)
            .await
            .map_err(|fault| match fault {
                Fault::Init(cause) => *cause,
                other => other,
            });
        drop(running);
        started.map_err(DeployError::Start)?;
        Ok(Arc::new(transform))
    }

    /// The declaration.
    pub fn spec(&self) -> &TransformSpec {
        &self.spec
    }

    /// The module.
    pub fn module(&self) -> &CompiledModule {
        &self.module
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the limits, for all partitions, from the next batch of each on. Nothing is compiled
    /// or read again; an instance with another memory limit is made anew.
    ///
    /// # Errors
    /// One is out of range, or below what the module starts with; then nothing has changed.
    pub fn set_limits(&self, limits: Limits) -> Result<(), DeployError> {
        limits.check(self.host.config().reservation_bytes)?;
        let needed = self.module.memory_bytes();
        if needed > limits.memory_bytes as u64 {
            return Err(DeployError::Memory { needed, limit: limits.memory_bytes });
        }
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
        Ok(())
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn settings(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.settings)
    }

    pub(crate) fn log_quota(&self) -> Arc<LogQuota> {
        Arc::clone(&self.log_quota)
    }

    /// Where its dead letters of a topic go.
    pub(crate) fn dead_letter_topic(&self, topic: &str) -> String {
        match &self.spec.dead_letter_topic {
            Some(named) => named.clone(),
            None => topic_name::dead_letter(topic),
        }
    }
}

/// The transforms of one partition, in order, with their instances.
pub struct Chain {
    pub(crate) stages: Vec<Stage>,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) replay: bool,
}

/// Why there is no such chain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Too many transforms, or none.
    #[error("a topic has 1 to {max} transforms, not {0}", max = caps::TRANSFORMS_PER_TOPIC_MAX)]
    Length(usize),
    /// Too many topics to write to.
    #[error(
        "the transforms of a topic write to up to {max} other topics, not {0}",
        max = caps::TRANSFORM_OUTPUT_TOPICS_MAX
    )]
    Outputs(usize),
}

impl Chain {
    /// A chain for one partition; instances are made when they are needed.
    ///
    /// # Errors
    /// Too many transforms or outputs.
    pub fn new(
        transforms: Vec<Arc<Transform>>,
        topic: &str,
        partition: i32,
    ) -> Result<Self, ChainError> {
        if !(1..=caps::TRANSFORMS_PER_TOPIC_MAX).contains(&transforms.len()) {
            return Err(ChainError::Length(transforms.len()));
        }
        let mut outputs = BTreeSet::new();
        for transform in &transforms {
            outputs.extend(transform.spec.outputs.iter().cloned());
            outputs.insert(transform.dead_letter_topic(topic));
        }
        if outputs.len() > caps::TRANSFORM_OUTPUT_TOPICS_MAX {
            return Err(ChainError::Outputs(outputs.len()));
        }
        let stages = transforms
            .into_iter()
            .map(|transform| Stage {
                seed: seed(&transform.spec.name, topic, partition),
                limits: transform.limits(),
                transform,
                instance: None,
                state: None,
            })
            .collect();
        Ok(Chain { stages, topic: topic.to_string(), partition, replay: false })
    }

    /// Throws the instances away and gives their memory back; the next batch makes new ones.
    pub fn discard_instances(&mut self) {
        for stage in &mut self.stages {
            stage.instance = None;
        }
    }

    /// Indexes of the stages that keep state and have none in memory. It must be loaded before a
    /// batch is run.
    pub fn state_wanted(&self) -> Vec<usize> {
        let wanted = |stage: &Stage| stage.transform.module.keeps_state() && stage.state.is_none();
        let stages = self.stages.iter().enumerate();
        stages.filter(|(_, stage)| wanted(stage)).map(|(index, _)| index).collect()
    }

    /// Gives a stage the state that its changelog has: the last value of each key that is not
    /// deleted, keys and values as journalled. It replaces what was there.
    ///
    /// # Errors
    /// The stage keeps no state, or this is none; then the stage has no state.
    pub fn load_state(
        &mut self,
        stage: usize,
        entries: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), StateError> {
        let place = self.stages.get_mut(stage).ok_or(StateError::NoStage(stage))?;
        place.forget_state();
        let name = &place.transform.spec.name;
        if !place.transform.module.keeps_state() {
            return Err(StateError::Stateless(name.clone()));
        }
        place.state = Some(Box::new(State::load(entries, name)?));
        Ok(())
    }

    /// Throws the state away, because what a run changed was not committed, or to have the memory
    /// back. The next batch needs it loaded again.
    pub fn forget_state(&mut self) {
        self.stages.iter_mut().for_each(Stage::forget_state);
    }

    /// State in memory: keys, values, and what each entry is counted with.
    pub fn state_bytes(&self) -> usize {
        self.stages.iter().map(Stage::state_bytes).sum()
    }

    /// Linear memory of its instances.
    pub fn memory_bytes(&self) -> usize {
        self.stages.iter().map(Stage::memory_bytes).sum()
    }

    /// Shortest time without records after which one of its stages wants a run without a batch, in
    /// ms; `None`: none of them wants any.
    pub fn idle_timeout_ms(&self) -> Option<u64> {
        let of = |stage: &Stage| match stage.transform.module.has_timers() {
            true => Some(stage.transform.limits().idle_timeout_ms).filter(|ms| *ms > 0),
            false => None,
        };
        self.stages.iter().filter_map(of).min()
    }

    /// Tells the modules that what they make of the next batches is not stored: a replay, a try.
    pub fn set_replay(&mut self, replay: bool) {
        self.replay = replay;
    }

    /// How many instances are alive.
    pub fn live_instances(&self) -> usize {
        self.stages.iter().filter(|stage| stage.instance.is_some()).count()
    }

    /// The topic whose records it sees.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition whose records it sees.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Its transforms in order.
    pub fn transforms(&self) -> impl ExactSizeIterator<Item = &Arc<Transform>> {
        self.stages.iter().map(|stage| &stage.transform)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("stages", &self.stages.len())
            .finish_non_exhaustive()
    }
}

/// One transform in a chain.
pub(crate) struct Stage {
    pub(crate) transform: Arc<Transform>,
    pub(crate) instance: Option<Guest>,
    pub(crate) seed: u64,
    /// Those of the batch in hand.
    pub(crate) limits: Limits,
    /// `None`: it keeps none, or it must be loaded.
    pub(crate) state: Option<Box<State>>,
}

impl Stage {
    /// Starts a run.
    ///
    /// # Errors
    /// Its state is not loaded.
    pub(crate) fn begin_run(&mut self) -> Result<(), StateMissing> {
        let limits = self.transform.limits();
        if limits.memory_bytes != self.limits.memory_bytes {
            self.instance = None;
        }
        self.limits = limits;
        match &mut self.state {
            Some(state) => state.begin_run(limits.state_bytes),
            None if self.transform.module.keeps_state() => {
                return Err(StateMissing(self.transform.spec.name.clone()));
            }
            None => {}
        }
        Ok(())
    }

    /// Ends a run whose outcome is a refusal: the state is as before. The instance has seen what
    /// never was.
    pub(crate) fn roll_back_run(&mut self) {
        if let Some(state) = &mut self.state {
            state.roll_back_run();
            self.instance = None;
        }
    }

    pub(crate) fn state_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |state| state.bytes())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.instance.as_ref().map_or(0, Guest::memory_bytes)
    }

    fn forget_state(&mut self) {
        if self.transform.module.keeps_state() {
            self.state = None;
            self.instance = None;
        }
    }
}

/// A stage has no state although it keeps some; its transform's name.
#[derive(Debug)]
pub(crate) struct StateMissing(pub(crate) String);

/// The same on every node and at every start (FNV-1a).
fn seed(name: &str, topic: &str, partition: i32) -> u64 {
    let parts = [name.as_bytes(), &[0], topic.as_bytes(), &[0], &partition.to_le_bytes()];
    parts.concat().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
