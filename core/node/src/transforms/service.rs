//! The transforms of a node: which are in force, their modules, what they did and said.
//!
//! A module that cannot be had (missing, damaged, refused by the compiler) is never passed over in
//! silence: the node starts, the fault is logged and shown, and every batch of its topics is
//! refused until the transform is deployed anew or deleted.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millpond_engine::TransformId;
use millpond_engine::transform::{Deployment, TransformJob, TransformOutcome};
use millpond_transform::{CompiledModule, Host, HostConfig, Transform};
use millpond_wire::ErrorCode;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use super::compiler::Compiler;
use super::lanes::{LaneKey, Lanes, Queued};
use super::logs::{Log, LogLine};
use super::runner::{Runner, host_spec};
use super::stateful;
use super::stats::{TransformReport, TransformStats};
use super::store::{ModuleHash, ModuleStore, StoreError};
use crate::config::Transforms;
use crate::http::Description;
use crate::serve::EngineHandle;

/// Modules compiled for a deployment that is about to be journalled.
const RECENT_MAX: usize = 8;
/// Transforms out of force that batches admitted before may still ask for.
const RETIRED_MAX: usize = 32;

/// Runs transforms. Shared by the engine's thread, the workers and HTTP.
pub(crate) struct TransformService {
    host: Host,
    store: ModuleStore,
    compiler: Compiler,
    pub(super) engine: EngineHandle,
    workers: Handle,
    log_lines: usize,
    lanes: Lanes,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    deployed: BTreeMap<TransformId, Arc<Deployed>>,
    recent: VecDeque<CompiledModule>,
    retired: VecDeque<Arc<Deployed>>,
}

/// A transform in force.
pub(super) struct Deployed {
    pub(super) deployment: Deployment,
    /// As it was compiled for the deployment, unless that was in an earlier life of the node.
    compiled: Option<CompiledModule>,
    /// Made ready at most once, when it is first needed.
    transform: OnceCell<Result<Arc<Transform>, String>>,
    pub(super) record: Arc<Record>,
}

/// What a transform did and said, across versions.
pub(super) struct Record {
    pub(super) stats: Mutex<TransformStats>,
    pub(super) log: Mutex<Log>,
}

/// A module that can be deployed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    /// Its address.
    pub(crate) hash: ModuleHash,
    /// Whether it asks for state.
    pub(crate) keeps_state: bool,
}

/// Why a module is not admitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("{0}")]
    Module(String),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the node is stopping")]
    Stopping,
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("transforms cannot run on this machine: {0}")]
    Host(String),
    #[error("the modules cannot be reached: {0}")]
    Store(#[from] StoreError),
}

impl TransformService {
    /// Opens the store and sets the host up. Must be called within the workers' runtime.
    pub(crate) fn new(
        data_dir: &Path,
        config: &Transforms,
        engine: EngineHandle,
    ) -> Result<Arc<Self>, ServiceError> {
        let host =
            Host::new(HostConfig::default()).map_err(|e| ServiceError::Host(e.to_string()))?;
        let store = ModuleStore::open(data_dir)?;
        Ok(Arc::new(Self {
            compiler: Compiler::new(host.clone(), store.clone(), config),
            host,
            store,
            engine,
            workers: Handle::current(),
            log_lines: config.log_lines,
            lanes: Lanes::default(),
            table: Mutex::default(),
        }))
    }

    /// Checks, compiles, starts and stores a module, so that it can be deployed.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        description: &Description,
        wasm: Bytes,
    ) -> Result<Admitted, AdmitError> {
        let module = self.compiler.ready(wasm.clone()).await.map_err(AdmitError::Module)?;
        let keeps_state = stateful::keeps_state(&module);
        let spec = host_spec(&description.clone().into_spec(module.hash().0))
            .map_err(AdmitError::Module)?;
        Transform::deploy(&self.host, spec, module.clone())
            .await
            .map_err(|e| AdmitError::Module(e.to_string()))?;
        let store = self.store.clone();
        let stored = self.workers.spawn_blocking(move || store.put(&wasm)).await;
        let hash = stored.map_err(|_| AdmitError::Stopping)??;
        let mut table = self.table();
        if table.recent.len() >= RECENT_MAX {
            table.recent.pop_front();
        }
        table.recent.push_back(module);
        Ok(Admitted { hash, keeps_state })
    }

    /// The engine says which transforms are in force from here on.
    pub(crate) fn deployed(&self, deployments: &[Deployment]) {
        let mut table = self.table();
        let mut next = BTreeMap::new();
        for deployment in deployments {
            let known = table.deployed.get(&deployment.id);
            let entry = match known {
                Some(known) if known.deployment == *deployment => Arc::clone(known),
                _ => Arc::new(self.entry(&table, deployment)),
            };
            next.insert(deployment.id, entry);
        }
        let gone = std::mem::replace(&mut table.deployed, next);
        for (id, deployed) in gone {
            if !table.deployed.contains_key(&id) {
                table.retired.push_back(deployed);
            }
        }
        while table.retired.len() > RETIRED_MAX {
            table.retired.pop_front();
        }
    }

    fn entry(&self, table: &Table, deployment: &Deployment) -> Deployed {
        let name = &deployment.spec.name;
        let record = table
            .deployed
            .values()
            .find(|d| d.deployment.spec.name == *name)
            .map(|d| Arc::clone(&d.record));
        let record = record.unwrap_or_else(|| {
            Arc::new(Record { stats: Mutex::default(), log: Mutex::new(Log::new(self.log_lines)) })
        });
        let compiled = table.recent.iter().find(|m| m.hash().0 == deployment.spec.module).cloned();
        Deployed { deployment: deployment.clone(), compiled, transform: OnceCell::new(), record }
    }

    /// Compiles every module that is in force, and removes the files of those that are not. Before
    /// clients are served.
    pub(crate) async fn load(self: &Arc<Self>) {
        let all: Vec<Arc<Deployed>> = self.table().deployed.values().cloned().collect();
        for deployed in &all {
            if let Err(fault) = self.transform(deployed).await {
                let name = &deployed.deployment.spec.name;
                tracing::error!(
                    "the transform {name} cannot run, so its topics take no records: {fault}"
                );
            }
        }
        let referred: Vec<ModuleHash> = all.iter().map(|d| d.deployment.spec.module).collect();
        if let Err(error) = self.store.retain(&referred) {
            tracing::warn!(%error, "unused modules cannot be removed");
        }
    }

    /// A transform ready to run: its module from memory, or read and compiled.
    pub(super) async fn transform(&self, deployed: &Deployed) -> Result<Arc<Transform>, String> {
        deployed.transform.get_or_init(|| self.make_ready(deployed)).await.clone()
    }

    async fn make_ready(&self, deployed: &Deployed) -> Result<Arc<Transform>, String> {
        let spec = &deployed.deployment.spec;
        let module = match &deployed.compiled {
            Some(module) => module.clone(),
            None => {
                let (store, hash) = (self.store.clone(), spec.module);
                let read = self.workers.spawn_blocking(move || store.get(&hash)).await;
                let wasm = read
                    .map_err(|e| format!("the reader stopped: {e}"))?
                    .map_err(|e| e.to_string())?;
                self.compiler.ready(wasm.into()).await?
            }
        };
        Transform::deploy(&self.host, host_spec(spec)?, module).await.map_err(|e| e.to_string())
    }

    /// Takes a batch in. Called on the engine's thread: never waits.
    pub(crate) fn submit(self: &Arc<Self>, job: TransformJob) {
        match self.lanes.push(job) {
            Queued::Behind => {}
            Queued::Start(job, runner) => {
                self.workers.spawn(Arc::clone(self).work(*job, runner.unwrap_or_default()));
            }
            Queued::Full(job) => {
                let (engine, ticket) = (self.engine.clone(), job.ticket);
                let outcome = TransformOutcome::Rejected {
                    code: ErrorCode::RequestTimedOut,
                    message: "too many batches wait for their transform; try again".into(),
                };
                self.workers.spawn(async move { engine.transformed(ticket, outcome).await });
            }
        }
    }

    /// Runs the batches of one lane, in order, until there are none.
    async fn work(self: Arc<Self>, job: TransformJob, runner: Runner) {
        let lane = LaneKey::of(&job);
        let mut next = Some((job, runner));
        while let Some((job, mut runner)) = next {
            let ticket = job.ticket;
            let outcome = runner.run(&self, job).await;
            if self.engine.transformed(ticket, outcome).await.is_err() {
                return;
            }
            next = self.lanes.next(lane, runner);
        }
    }

    /// The transform of an id, also if it was put out of force after a batch was admitted.
    pub(super) fn find(&self, id: TransformId) -> Option<Arc<Deployed>> {
        let table = self.table();
        let retired = || table.retired.iter().find(|d| d.deployment.id == id);
        table.deployed.get(&id).or_else(retired).cloned()
    }

    /// What every transform did.
    pub(crate) fn reports(&self) -> Vec<TransformReport> {
        self.table().deployed.values().map(|d| d.report()).collect()
    }

    /// What one transform did.
    pub(crate) fn report(&self, name: &str) -> Option<TransformReport> {
        self.named(name).map(|d| d.report())
    }

    /// The newest lines that a transform logged.
    pub(crate) fn logs(&self, name: &str, lines: usize) -> Vec<LogLine> {
        self.named(name).map(|d| lock(&d.record.log).newest(lines)).unwrap_or_default()
    }

    fn named(&self, name: &str) -> Option<Arc<Deployed>> {
        self.table().deployed.values().find(|d| d.deployment.spec.name == name).cloned()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Deployed {
    fn report(&self) -> TransformReport {
        let fault = self.transform.get().and_then(|ready| ready.as_ref().err().cloned());
        TransformReport {
            name: self.deployment.spec.name.clone(),
            stats: *lock(&self.record.stats),
            fault,
        }
    }
}

/// A lock whose holder panicked guards counters and lines only: they stay usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
