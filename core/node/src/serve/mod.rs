//! `millpond serve`: start-up, the engine's thread, the workers, and the way down.
//!
//! The engine, its disk and plain TCP share one thread; TLS, QUIC, transforms and HTTP run on the
//! workers. Nothing is acknowledged once the disk has failed: the process ends.

mod banner;
mod clock;
mod credentials;
mod devices;
mod engine_handle;
mod engine_thread;
mod listeners;
mod log;
mod picture;
mod reload;
mod shell;
mod worker;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::FutureExt;
use millpond_cluster::{Brokers, NodeId, NodeIdentity};
use millpond_engine::{AccessConfig, Advertised, EngineConfig, Principal};
use millpond_security::{CertificateNames, HeldClock};
use millpond_storage::StorageConfig;
use millpond_wire::limits::SHUTDOWN_GRACE_MS_MAX;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) use engine_handle::{EngineHandle, Question};

use crate::cli::CliError;
use crate::config::{Config, is_loopback};
use crate::http::{self, HttpState};
use crate::metrics::Counters;
use crate::net::quic::{QuicDoor, QuicSettings};
use crate::net::tcp::{Door, PlainDoor};
use crate::net::{Admission, Force, Logins, Wiring};
use crate::transforms::TransformService;
use devices::Devices;
use engine_thread::{EnginePlan, EngineThread, Opened};
use listeners::Bound;
use reload::Keeper;

/// How long the workers may take to end after the engine has.
const WORKERS_END_WITHIN: Duration = Duration::from_secs(2);
/// Threads for compiling modules and for files of modules.
const BLOCKING_THREADS_MAX: usize = 4;

/// What the node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The journal is replayed, modules are compiled.
    Recovering,
    /// Clients are served.
    Serving,
    /// Requests under way are finished.
    Stopping,
}

/// The phase, for all threads to see.
#[derive(Clone, Debug, Default)]
pub(crate) struct PhaseCell(Arc<AtomicU8>);

impl PhaseCell {
    pub(crate) fn get(&self) -> Phase {
        match self.0.load(Relaxed) {
            0 => Phase::Recovering,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Relaxed);
    }
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// What kept it from starting, or ended it.
pub(crate) fn run(config: &Config) -> Result<(), CliError> {
    start(config, None)
}

/// A core file would hold keys and passwords, and fill the flash.
fn leave_no_core() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Always allowed, but in a sandbox that forbids to ask; that one has its own limits.
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::info!(%error, "core files cannot be switched off");
    }
}

/// A node within another command: whom to tell where it is reached, and who tells it to stop.
pub(crate) struct Inside {
    /// Told once clients are served; the banner is not printed.
    pub(crate) ready: oneshot::Sender<Reached>,
    /// A word, or its sender's end, stops the node. Signals are the other command's business.
    pub(crate) stop: oneshot::Receiver<()>,
}

/// Where a node is reached.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    /// Of the first listener.
    pub(crate) kafka: SocketAddr,
    pub(crate) http: Option<SocketAddr>,
    /// SHA-256 of the certificate of the first listener.
    pub(crate) fingerprint: Option<String>,
    /// From the start to this word.
    pub(crate) startup: Duration,
}

/// Runs a node within another command, on the calling thread.
///
/// # Errors
/// As for [`run`].
pub(crate) fn run_inside(config: &Config, inside: Inside) -> Result<(), CliError> {
    start(config, Some(inside))
}

fn start(config: &Config, inside: Option<Inside>) -> Result<(), CliError> {
    log::start(&config.log.level)?;
    leave_no_core();
    let started = Instant::now();
    let data_dir = make_data_dir(&config.node.data_dir)?;
    let identity = NodeIdentity::open(&data_dir, NodeId(config.node.id))
        .map_err(|e| CliError::failed(e.to_string()))?;
    let clock = clock::open(&data_dir);
    let bound = listeners::bind(config, &data_dir, &clock)?;
    let devices = devices::open(config, &clock)?;
    let runtime = workers(config)?;
    let node = Node { config, started, data_dir, identity, bound, devices, clock };
    let result = runtime.block_on(supervise(node, inside));
    runtime.shutdown_timeout(WORKERS_END_WITHIN);
    result
}

/// What is known before anything runs.
struct Node<'a> {
    config: &'a Config,
    started: Instant,
    data_dir: PathBuf,
    identity: NodeIdentity,
    bound: Vec<Bound>,
    devices: Option<Devices>,
    /// For certificates.
    clock: Arc<HeldClock>,
}

async fn supervise(mut node: Node<'_>, inside: Option<Inside>) -> Result<(), CliError> {
    let config = node.config;
    let (mut stops, ready) = match inside {
        Some(inside) => (Stops::Told(Some(inside.stop)), Some(inside.ready)),
        None => (Stops::Signals(Signals::new()?), None),
    };
    let phase = PhaseCell::default();
    let counters = Arc::new(Counters::default());
    let (stop, stopped) = watch::channel(false);
    let logins = Logins::new(node.bound.iter().map(|bound| bound.offer.clone()).collect());
    let logins = logins.map_err(|e| CliError::failed(e.to_string()))?;
    let limits = &config.limits;
    let wiring = Arc::new(Wiring::new(limits, logins, counters, stopped));
    let (engine, inbox) = EngineHandle::new();
    let transforms = TransformService::new(&node.data_dir, &config.transforms, engine.clone())
        .map_err(|e| CliError::failed(e.to_string()))?;
    look_after_certificates(&mut node, &stops, &wiring)?;
    let https = node.devices.as_ref().and_then(|devices| devices.https.as_ref());
    let https_address = https.and_then(|https| https.address());
    let http = start_http(&mut node, &phase, &engine, &wiring, &transforms)?;

    let summary = banner::Summary::new(&node.identity, &node.data_dir, &node.bound, http.address)
        .with_devices(https_address);
    let reached = Reached::of(&node, http.address);
    let started = node.started;
    let engine_config = engine_config(&node);
    let doors = Doors::open(node.bound, config, &wiring)?;
    let (quit, told_to_quit) = oneshot::channel();
    let (opened, is_open) = oneshot::channel();
    let thread = engine_thread::spawn(EnginePlan {
        data_dir: node.data_dir,
        backend: config.journal.backend,
        storage: storage_config(config)?,
        engine: engine_config,
        seed: random_u64()?,
        transforms,
        wiring,
        doors: doors.plain,
        inbox,
        opened,
        quit: told_to_quit,
    })?;
    let announce = |opened: &Opened| match (ready, reached) {
        (Some(ready), Some(reached)) => {
            // Whoever does not listen any more stops the node, too.
            drop(ready.send(Reached { startup: started.elapsed(), ..reached }));
            Ok(())
        }
        _ => banner::print(&summary, opened, started.elapsed()),
    };
    let running = Running { engine, thread, phase, stop, quit, http, encrypted: doors.encrypted };
    running.live(&mut stops, is_open, announce).await
}

/// Files of certificates are read anew from here on; with signals also on SIGHUP, unless a terminal would
/// send it when it goes.
fn look_after_certificates(
    node: &mut Node<'_>,
    stops: &Stops,
    wiring: &Arc<Wiring>,
) -> Result<(), CliError> {
    let mut kept: Vec<_> =
        node.bound.iter_mut().flat_map(|bound| std::mem::take(&mut bound.kept)).collect();
    kept.extend(node.devices.as_mut().and_then(|devices| devices.kept.take()));
    let is_ours = matches!(stops, Stops::Signals(_)) && !std::io::stderr().is_terminal();
    let hangup = is_ours.then(|| signal(SignalKind::hangup())).transpose()?;
    let keeper = Keeper {
        kept,
        counters: Arc::clone(&wiring.counters),
        clock: Arc::clone(&node.clock),
        floor: clock::FloorKeeper::new(&node.data_dir, Arc::clone(&node.clock)),
        hangup,
    };
    tokio::spawn(keeper.run(wiring.stop.clone()));
    Ok(())
}

/// A node whose engine's thread was started.
struct Running {
    engine: EngineHandle,
    thread: EngineThread,
    phase: PhaseCell,
    stop: watch::Sender<bool>,
    quit: oneshot::Sender<()>,
    http: RunningHttp,
    encrypted: EncryptedDoors,
}

impl Running {
    /// Serves once the data is open, until it is stopped or the engine ends.
    async fn live(
        mut self,
        stops: &mut Stops,
        is_open: oneshot::Receiver<Opened>,
        announce: impl FnOnce(&Opened) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let opened = tokio::select! {
            opened = is_open => opened.ok(),
            () = stops.stop() => None,
        };
        if let Some(opened) = opened {
            let encrypted = std::mem::take(&mut self.encrypted).serve(&self.engine);
            self.phase.set(Phase::Serving);
            announce(&opened)?;
            tokio::select! {
                () = stops.stop() => tracing::info!("stopping: requests under way are finished"),
                ended = &mut self.thread.ended => return engine_thread::result(ended),
            }
            self.phase.set(Phase::Stopping);
            let _ = self.stop.send(true);
            let grace = Duration::from_millis(SHUTDOWN_GRACE_MS_MAX);
            let _ = timeout(grace, encrypted.join_all()).await;
        }
        self.end(stops).await
    }

    /// Ends the engine's thread, which takes a last checkpoint.
    async fn end(mut self, stops: &mut Stops) -> Result<(), CliError> {
        let _ = self.stop.send(true);
        // A thread that has ended already needs no word.
        let _ = self.quit.send(());
        tokio::select! {
            ended = &mut self.thread.ended => engine_thread::result(ended)?,
            () = stops.stop() => {
                let at_once = "stopped at once by a second signal";
                return Err(CliError::failed(at_once).hint("the next start replays the journal"));
            }
        }
        let _ = timeout(WORKERS_END_WITHIN, self.http.tasks.join_all()).await;
        tracing::info!("stopped");
        Ok(())
    }
}

impl Reached {
    fn of(node: &Node<'_>, http: Option<SocketAddr>) -> Option<Self> {
        let first = node.bound.first()?;
        let fingerprint = first.tls.as_ref().map(|tls| tls.fingerprint.to_string());
        Some(Self { kafka: first.address, http, fingerprint, startup: Duration::ZERO })
    }
}

/// What ends a node.
enum Stops {
    Signals(Signals),
    /// Nothing once it was told.
    Told(Option<oneshot::Receiver<()>>),
}

impl Stops {
    /// Completes when the node is to stop; with signals once more for each further one.
    async fn stop(&mut self) {
        match self {
            Self::Signals(signals) => signals.stop().await,
            Self::Told(told) => match told {
                Some(word) => {
                    let _ = word.await;
                    *told = None;
                }
                None => std::future::pending().await,
            },
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, CliError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Completes at the next of them.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The HTTP servers at work.
struct RunningHttp {
    address: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

fn start_http(
    node: &mut Node<'_>,
    phase: &PhaseCell,
    engine: &EngineHandle,
    wiring: &Arc<Wiring>,
    transforms: &Arc<TransformService>,
) -> Result<RunningHttp, CliError> {
    let listener = listeners::bind_http(&node.config.http.address)?;
    let address = listener.as_ref().map(|listener| listener.local_addr()).transpose()?;
    let state = Arc::new(HttpState {
        engine: engine.clone(),
        wiring: Arc::clone(wiring),
        counters: Arc::clone(&wiring.counters),
        transforms: Arc::clone(transforms),
        devices: node.devices.as_ref().map(|devices| Arc::clone(&devices.desk)),
        started: node.started,
        phase: phase.clone(),
        module_bytes_max: node.config.transforms.module_bytes_max.as_usize(),
        card_endurance_bytes: node.config.storage.card_endurance.0,
        loopback: address.is_some_and(|address| is_loopback(address.ip())),
    });
    let mut tasks = JoinSet::new();
    let stop = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    if let Some(https) = node.devices.as_mut().and_then(|devices| devices.https.take()) {
        let listener = tokio::net::TcpListener::from_std(https.listener)?;
        let stop = stop(wiring.stop.clone());
        let served = http::serve_devices(listener, https.force, Arc::clone(&state), stop);
        tasks.spawn(served.map(|ended| said("HTTPS", ended)));
    }
    if let Some(listener) = listener {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let connections_max = node.config.http.connections_max;
        let served = http::serve(listener, connections_max, state, stop(wiring.stop.clone()));
        tasks.spawn(served.map(|ended| said("HTTP", ended)));
    }
    Ok(RunningHttp { address, tasks })
}

fn said(what: &str, ended: std::io::Result<()>) {
    if let Err(error) = ended {
        tracing::error!(%error, "{what} ended");
    }
}

/// The listeners, by the threads that serve them.
struct Doors {
    plain: Vec<PlainDoor>,
    encrypted: EncryptedDoors,
}

/// The listeners that the workers serve.
#[derive(Default)]
struct EncryptedDoors {
    tls: Vec<(Door, Force, Option<Arc<CertificateNames>>)>,
    quic: Vec<QuicDoor>,
}

impl Doors {
    fn open(bound: Vec<Bound>, config: &Config, wiring: &Arc<Wiring>) -> Result<Self, CliError> {
        let limits = &config.limits;
        let (per_ip, rate) = (limits.connections_per_ip_max, limits.connections_per_ip_per_second);
        let tcp = Admission::new(limits.connections_max, per_ip, rate);
        let quic = Admission::new(limits.quic_connections_max, per_ip, rate);
        let mut doors = Self { plain: Vec::new(), encrypted: EncryptedDoors::default() };
        for bound in bound {
            let (id, tls) = (bound.id, bound.tls.map(|tls| (tls.force, tls.endpoint)));
            let plain =
                bound.tcp.map(|listener| PlainDoor { listener, id, admission: Arc::clone(&tcp) });
            match (plain, bound.tcp_tls, &tls) {
                (Some(plain), true, Some((force, _))) => {
                    let (door, names) = (plain.open(wiring)?, bound.names.clone());
                    doors.encrypted.tls.push((door, force.clone(), names));
                }
                (Some(plain), _, _) => doors.plain.push(plain),
                (None, ..) => {}
            }
            if let (Some(socket), Some((force, endpoint))) = (bound.udp, tls) {
                let settings = QuicSettings {
                    id,
                    force,
                    endpoint,
                    connections_max: limits.quic_connections_max,
                    streams_max: limits.quic_streams_max,
                    sessions_max: limits.quic_sessions_max,
                    names: bound.names,
                    congestion: bound.congestion,
                };
                let door = QuicDoor::new(socket, settings, Arc::clone(&quic), Arc::clone(wiring));
                doors
                    .encrypted
                    .quic
                    .push(door.map_err(|e| CliError::failed(format!("QUIC cannot start: {e}")))?);
            }
        }
        Ok(doors)
    }
}

impl EncryptedDoors {
    fn serve(self, engine: &EngineHandle) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for (door, force, names) in self.tls {
            tasks.spawn(door.serve_tls(force, names, engine.clone()));
        }
        for door in self.quic {
            tasks.spawn(door.serve(engine.clone()));
        }
        tasks
    }
}

/// What is checked to fit.
fn saturated<T: TryFrom<u64>>(value: u64, most: T) -> T {
    T::try_from(value).unwrap_or(most)
}

fn engine_config(node: &Node<'_>) -> EngineConfig {
    let advertised = node.bound.iter().map(|b| b.advertised.clone());
    let brokers = Brokers::alone(node.identity.node_id, advertised);
    let seen_by = |bound: &Bound| {
        let broker = brokers.of_listener(usize::from(bound.id.0)).first()?;
        Some((
            bound.id,
            Advertised { host: broker.address.host.clone(), port: broker.address.port },
        ))
    };
    let (topics, storage) = (&node.config.topics, &node.config.storage);
    let (groups, transactions) = (&node.config.groups, &node.config.transactions);
    EngineConfig {
        access: access(node),
        node_id: brokers.own().0,
        cluster_id: node.identity.cluster_id.to_string(),
        advertised: node.bound.iter().filter_map(seen_by).collect(),
        auto_create_topics: topics.auto_create,
        num_partitions: topics.partitions,
        clamp_replication_factor: topics.clamp_replication_factor,
        group_initial_rebalance_delay_ms: groups.initial_rebalance_delay_ms,
        group_min_session_timeout_ms: saturated(groups.session_timeout_min_ms, i32::MAX),
        group_max_session_timeout_ms: saturated(groups.session_timeout_max_ms, i32::MAX),
        group_max_size: groups.members_max,
        consumer_heartbeat_interval_ms: saturated(groups.consumer_heartbeat_interval_ms, i32::MAX),
        consumer_session_timeout_ms: groups.consumer_session_timeout_ms,
        transaction_max_timeout_ms: saturated(transactions.timeout_max_ms, i32::MAX),
        transactional_id_expiration_ms: saturated(transactions.id_expiration_ms, i64::MAX),
        log_dir: node.data_dir.display().to_string(),
        offsets_retention_ms: saturated(groups.offsets_retention_ms, i64::MAX),
        offsets_check_ms: groups.offsets_check_interval_ms,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        space_budget_bytes: (storage.max_bytes.0 > 0).then_some(storage.max_bytes.0),
        tail_retain_bytes: storage.cache_bytes.as_usize(),
        tail_max_bytes: storage.tail_max_bytes.as_usize(),
        retention_check_ms: storage.check_interval_ms,
        clock_settle_ms: storage.clock_settle_ms,
        ..EngineConfig::default()
    }
}

/// What the file says of access. Where nobody is asked and no super user is named, whoever comes is one.
fn access(node: &Node<'_>) -> AccessConfig {
    let set = &node.config.access;
    let asks = node.bound.iter().any(|bound| bound.offer.is_some() || bound.names.is_some());
    let mut super_users: BTreeSet<String> = set.super_users.iter().cloned().collect();
    if super_users.is_empty() && !asks {
        super_users.insert(Principal::ANONYMOUS.to_owned());
    }
    let allows_without_rule = set.allow_everyone_if_no_acl_found;
    AccessConfig { super_users, asks, allows_without_rule, audits: set.audit && asks }
}

fn storage_config(config: &Config) -> Result<StorageConfig, CliError> {
    let mut storage = StorageConfig::new(random_u64()?);
    storage.journal_files = config.journal.files;
    storage.journal_file_bytes = config.journal.file_bytes.as_usize();
    storage.linger_ms = config.journal.linger_ms;
    storage.gather_bytes = config.journal.gather_bytes.as_usize();
    storage.tail_bytes = config.storage.tail_bytes.as_usize();
    storage.segment_bytes = config.storage.segment_bytes.as_usize();
    storage.packs = config.storage.pack;
    storage.direct_batch_bytes = config.storage.direct_bytes.as_usize();
    storage.scrub_bytes_per_second = config.storage.scrub_bytes_per_second.0;
    storage.background_bytes_per_second = config.storage.background_bytes_per_second.0;
    storage.compaction_map_bytes = config.storage.compaction_map_bytes.as_usize();
    storage.compaction_check_ms = config.storage.compaction_check_ms;
    Ok(storage)
}

fn workers(config: &Config) -> Result<tokio::runtime::Runtime, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = match config.transforms.workers {
        0 => cores.saturating_sub(1).max(1),
        set => set as usize,
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(workers)
        .thread_name("worker")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all();
    builder.build().map_err(|e| CliError::failed(format!("cannot start worker threads: {e}")))
}

fn make_data_dir(path: &str) -> Result<PathBuf, CliError> {
    let made = std::fs::create_dir_all(path).and_then(|()| Path::new(path).canonicalize());
    made.map_err(|e| {
        CliError::failed(format!("cannot use the data directory {path}: {e}"))
            .hint("choose another with --data-dir, or give this user the right to write there")
    })
}

fn random_u64() -> Result<u64, CliError> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests;
