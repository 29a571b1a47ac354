//! The transforms of a node: which are in force, their modules, what they did and said.
//!
//! A module that cannot be had (missing, damaged, refused by the compiler) is never passed over in
//! silence: the node starts, the fault is logged and shown, and every batch of its topics is
//! refused until the transform is deployed anew or deleted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millpond_engine::transform::{
    AdminRequest, Deployment, TransformJob, TransformOutcome, TransformSpec,
};
use millpond_engine::{PartitionKey, TransformId};
use millpond_security::{Manifest, Package, PackageError, PublicKey};
use millpond_transform::{CompiledModule, Host, HostConfig, StageTotals, Transform};
use millpond_wire::ErrorCode;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use super::compiler::Compiler;
use super::lanes::{LaneKey, Lanes, Queued};
use super::logs::{Log, LogLine};
use super::runner::{Runner, host_spec};
use super::stats::{TransformReport, VersionReport};
use super::store::{ModuleHash, ModuleStore, StoreError};
use super::watch::Watch;
use crate::config::Transforms;
use crate::serve::EngineHandle;
use millpond_http::Description;

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
    /// Whoever may sign modules; nobody: they need no signature.
    trusted: Vec<PublicKey>,
    log_lines: usize,
    /// Told apart from other starts of the node by lines of logs.
    start: String,
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
    /// Of its name.
    pub(super) record: Arc<Record>,
    /// Of this version alone.
    pub(super) totals: Mutex<StageTotals>,
    /// Whether it fails too often.
    pub(super) watch: Watch,
}

/// What a transform did and said, across versions.
pub(super) struct Record {
    pub(super) totals: Mutex<StageTotals>,
    pub(super) log: Mutex<Log>,
    /// The version that each partition's newest batch was given to.
    pub(super) running: Mutex<HashMap<PartitionKey, TransformId>>,
}

/// Why a module is not admitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("{0}")]
    Module(String),
    #[error("{0}")]
    Signature(#[from] PackageError),
    #[error("the module is signed for a transform named {signed:?}, not for {name:?}")]
    OtherName { name: String, signed: String },
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
    #[error("transforms.trusted_keys: {0}")]
    Key(#[from] PackageError),
}

fn trusted_keys(texts: &[String]) -> Result<Vec<PublicKey>, PackageError> {
    texts.iter().map(|text| text.parse()).collect()
}

impl TransformService {
    /// Opens the store and sets the host up. Must be called within the workers' runtime.
    pub(crate) fn new(
        data_dir: &Path,
        config: &Transforms,
        engine: EngineHandle,
    ) -> Result<Arc<Self>, ServiceError> {
        let host = HostConfig { engine: config.engine.kind(), ..HostConfig::default() };
        let host = Host::new(host).map_err(|e| ServiceError::Host(e.to_string()))?;
        let store = ModuleStore::open(data_dir)?;
        Ok(Arc::new(Self {
            compiler: Compiler::new(host.clone(), store.clone(), config),
            host,
            store,
            engine,
            workers: Handle::current(),
            trusted: trusted_keys(&config.trusted_keys)?,
            log_lines: config.log_lines,
            start: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
            lanes: Lanes::default(),
            table: Mutex::default(),
        }))
    }

    /// Checks, compiles, starts and stores a module, so that it can be deployed as it is described;
    /// a signed one in the version that was signed. Gives what is to be deployed.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        mut description: Description,
        wasm: Bytes,
    ) -> Result<TransformSpec, AdmitError> {
        let manifest = self.check_signature(&description.name, &wasm)?;
        if let Some(manifest) = &manifest {
            description.version.clone_from(&manifest.version);
        }
        let module = self.compiler.ready(wasm.clone()).await.map_err(AdmitError::Module)?;
        self.try_start(&description, &module).await?;
        let keeps_state = module.keeps_state();
        let store = self.store.clone();
        let stored = self.workers.spawn_blocking(move || store.put(&wasm)).await;
        let hash = stored.map_err(|_| AdmitError::Stopping)??;
        let mut table = self.table();
        if table.recent.len() >= RECENT_MAX {
            table.recent.pop_front();
        }
        table.recent.push_back(module);
        let package_counter = manifest.map_or(0, |manifest| manifest.counter);
        Ok(TransformSpec { package_counter, keeps_state, ..description.into_spec(hash) })
    }

    /// What was signed, where signatures are demanded.
    fn check_signature(&self, name: &str, wasm: &[u8]) -> Result<Option<Manifest>, AdmitError> {
        if self.trusted.is_empty() {
            return Ok(None);
        }
        let package = Package::open(wasm)?;
        let manifest = package.verify(&self.trusted)?;
        match manifest.name == name {
            true => Ok(Some(manifest.clone())),
            false => {
                Err(AdmitError::OtherName { name: name.to_owned(), signed: manifest.name.clone() })
            }
        }
    }

    /// The same for a module that is stored, under another description.
    pub(crate) async fn readmit(
        &self,
        description: &Description,
        hash: ModuleHash,
    ) -> Result<(), AdmitError> {
        let module = self.stored(hash).await.map_err(AdmitError::Module)?;
        self.try_start(description, &module).await
    }

    /// Starts the module once with its settings and limits.
    async fn try_start(
        &self,
        description: &Description,
        module: &CompiledModule,
    ) -> Result<(), AdmitError> {
        let spec = host_spec(&description.clone().into_spec(module.hash().0))
            .map_err(AdmitError::Module)?;
        let started = Transform::deploy(&self.host, spec, module.clone()).await;
        started.map(drop).map_err(|e| AdmitError::Module(e.to_string()))
    }

    /// The engine says which transforms are in force from here on.
    pub(crate) fn deployed(&self, deployments: &[Deployment]) {
        let mut table = self.table();
        let mut next = BTreeMap::new();
        for deployment in &versions(deployments) {
            // A number stands for one specification: runners hold the entry, so it stays.
            let entry = match table.deployed.get(&deployment.id) {
                Some(known) => Arc::clone(known),
                None => Arc::new(self.entry(&table, deployment)),
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
            let log = Mutex::new(Log::new(self.log_lines, &self.start));
            Arc::new(Record { totals: Mutex::default(), log, running: Mutex::default() })
        });
        let compiled = table.recent.iter().find(|m| m.hash().0 == deployment.spec.module).cloned();
        Deployed {
            deployment: deployment.clone(),
            compiled,
            transform: OnceCell::new(),
            record,
            totals: Mutex::default(),
            watch: Watch::of(deployment),
        }
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
        let previous = all.iter().filter_map(|d| d.deployment.previous.as_ref());
        let specs = all.iter().map(|d| &d.deployment.spec).chain(previous.map(|spec| &**spec));
        let referred: Vec<ModuleHash> = specs.map(|spec| spec.module).collect();
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
            None => self.stored(spec.module).await?,
        };
        Transform::deploy(&self.host, host_spec(spec)?, module).await.map_err(|e| e.to_string())
    }

    /// A module from flash, compiled.
    async fn stored(&self, hash: ModuleHash) -> Result<CompiledModule, String> {
        let store = self.store.clone();
        let read = self.workers.spawn_blocking(move || store.get(&hash)).await;
        let wasm =
            read.map_err(|e| format!("the reader stopped: {e}"))?.map_err(|e| e.to_string())?;
        self.compiler.ready(wasm.into()).await
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
                self.workers.spawn(async move { engine.transformed(ticket, outcome, false).await });
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
            let timers_left = runner.timers_left();
            if self.engine.transformed(ticket, outcome, timers_left).await.is_err() {
                return;
            }
            next = self.lanes.next(lane, runner);
        }
    }

    /// Takes a version out of force that fails too often; called at most once for each.
    pub(super) fn roll_back(self: &Arc<Self>, deployed: &Deployed, counts: (u64, u64)) {
        let (name, of) = (deployed.deployment.spec.name.clone(), deployed.deployment.id);
        let (service, record) = (Arc::clone(self), Arc::clone(&deployed.record));
        let text = format!(
            "version {} (deployment {of}) failed on {} of its last {} records: rolled back",
            deployed.deployment.spec.version, counts.1, counts.0
        );
        self.workers.spawn(async move {
            let request = AdminRequest::RollBackTransform { name: name.clone(), of: Some(of) };
            match service.engine.admin(request).await {
                Ok(Ok(_)) => {
                    tracing::warn!(transform = name, "{text}");
                    lock(&record.log).push(LogLine::of_node("error", -1, text));
                }
                // Somebody was faster, or the node stops.
                Ok(Err(error)) => tracing::info!(transform = name, "not rolled back: {error}"),
                Err(_) => {}
            }
        });
    }

    /// The transform of an id, also if it was put out of force after a batch was admitted.
    pub(super) fn find(&self, id: TransformId) -> Option<Arc<Deployed>> {
        let table = self.table();
        let retired = || table.retired.iter().find(|d| d.deployment.id == id);
        table.deployed.get(&id).or_else(retired).cloned()
    }

    /// What every transform did, in order of their names.
    pub(crate) fn reports(&self) -> Vec<TransformReport> {
        let mut by_name: BTreeMap<String, TransformReport> = BTreeMap::new();
        // A canary's number is higher than that of the version in force.
        for deployed in self.table().deployed.values() {
            let name = deployed.deployment.spec.name.clone();
            let report = by_name.entry(name).or_insert_with(|| deployed.report());
            report.versions.push(deployed.version());
        }
        by_name.into_values().collect()
    }

    /// What one version did.
    pub(crate) fn version(&self, id: TransformId) -> Option<VersionReport> {
        self.table().deployed.get(&id).map(|d| d.version())
    }

    /// What one transform did.
    pub(crate) fn report(&self, name: &str) -> Option<TransformReport> {
        self.named(name).map(|d| d.report())
    }

    /// The newest lines that a transform logged, of those that follow line number `after`.
    pub(crate) fn logs(&self, name: &str, lines: usize, after: u64) -> Vec<LogLine> {
        self.named(name).map(|d| lock(&d.record.log).newest(lines, after)).unwrap_or_default()
    }

    /// Which start of the node this is.
    pub(crate) fn start(&self) -> &str {
        &self.start
    }

    fn named(&self, name: &str) -> Option<Arc<Deployed>> {
        self.table().deployed.values().find(|d| d.deployment.spec.name == name).cloned()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

/// Every version that runs: those in force and the canaries beside them.
fn versions(deployments: &[Deployment]) -> Vec<Deployment> {
    let canary = |deployment: &Deployment| {
        let canary = deployment.canary.clone()?;
        // What a canary goes back to is the version in force.
        let previous = Some(Box::new(deployment.spec.clone()));
        Some(Deployment { id: canary.id, spec: canary.spec, previous, ..Deployment::default() })
    };
    let canaries: Vec<Deployment> = deployments.iter().filter_map(canary).collect();
    deployments.iter().cloned().chain(canaries).collect()
}

impl Deployed {
    fn report(&self) -> TransformReport {
        TransformReport {
            name: self.deployment.spec.name.clone(),
            totals: lock(&self.record.totals).clone(),
            fault: self.fault(),
            versions: Vec::new(),
        }
    }

    fn version(&self) -> VersionReport {
        VersionReport {
            version: self.deployment.spec.version.clone(),
            id: self.deployment.id.0,
            totals: lock(&self.totals).clone(),
            fault: self.fault(),
        }
    }

    fn fault(&self) -> Option<String> {
        self.transform.get().and_then(|ready| ready.as_ref().err().cloned())
    }
}

/// A lock whose holder panicked guards counters and lines only: they stay usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
