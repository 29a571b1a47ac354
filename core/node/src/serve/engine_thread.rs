//! The engine's thread: disk, engine, journal and plain TCP on one core, driven by one
//! single-threaded runtime.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_engine::EngineConfig;
use millpond_storage::disk::{BackendChoice, RealDisk};
use millpond_storage::{DurableEngine, StorageConfig};
use millpond_wire::limits::SHUTDOWN_GRACE_MS_MAX;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use super::engine_handle::ToEngine;
use super::shell::{LocalGateway, NodeShell};
use crate::cli::CliError;
use crate::config::Backend;
use crate::net::Wiring;
use crate::net::tcp::PlainDoor;
use crate::transforms::TransformService;

/// Messages of other threads that are handled before the thread looks elsewhere.
const INBOX_BATCH: usize = 128;

/// Everything that the thread needs.
pub(super) struct EnginePlan {
    pub(super) data_dir: PathBuf,
    pub(super) backend: Backend,
    pub(super) storage: StorageConfig,
    pub(super) engine: EngineConfig,
    pub(super) seed: u64,
    pub(super) transforms: Arc<TransformService>,
    pub(super) wiring: Arc<Wiring>,
    pub(super) doors: Vec<PlainDoor>,
    pub(super) inbox: mpsc::Receiver<ToEngine>,
    /// Told once clients are served.
    pub(super) opened: oneshot::Sender<Opened>,
    /// Told when to stop, after the listeners were.
    pub(super) quit: oneshot::Receiver<()>,
}

/// What start-up found.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) backend: &'static str,
    pub(super) entries_replayed: u64,
    pub(super) torn_tail: bool,
    pub(super) recovery: Duration,
    pub(super) topics: usize,
    pub(super) transforms: usize,
}

/// The running thread.
pub(super) struct EngineThread {
    /// Why it ended.
    pub(super) ended: oneshot::Receiver<Result<(), String>>,
}

/// Starts the thread.
pub(super) fn spawn(plan: EnginePlan) -> Result<EngineThread, CliError> {
    let (end, ended) = oneshot::channel();
    let body = move || {
        let result = run(plan);
        // A node that is gone needs no word.
        let _ = end.send(result);
    };
    std::thread::Builder::new()
        .name("engine".into())
        .spawn(body)
        .map_err(|e| CliError::failed(format!("cannot start the engine's thread: {e}")))?;
    Ok(EngineThread { ended })
}

/// What the end of the thread means for the process.
pub(super) fn result(
    ended: Result<Result<(), String>, oneshot::error::RecvError>,
) -> Result<(), CliError> {
    match ended {
        Ok(result) => result.map_err(CliError::failed),
        Err(_) => Err(CliError::failed(
            "the engine's thread ended without a word; the log above may say why",
        )),
    }
}

fn run(plan: EnginePlan) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start the engine's runtime: {e}"))?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(live(plan)))
}

async fn live(plan: EnginePlan) -> Result<(), String> {
    let EnginePlan {
        data_dir,
        backend,
        storage,
        engine,
        seed,
        transforms,
        wiring,
        doors,
        inbox,
        opened,
        mut quit,
    } = plan;
    let begun = Instant::now();
    let choice = match backend {
        Backend::Auto => BackendChoice::Auto,
        Backend::IoUring => BackendChoice::Uring,
        Backend::Portable => BackendChoice::Portable,
    };
    let disk = RealDisk::open(&data_dir, choice).map_err(|e| e.to_string())?;
    let users = Arc::clone(&wiring.logins.users);
    let shell = NodeShell::new(Arc::clone(&transforms), Arc::clone(&users));
    let engine = DurableEngine::open(disk, storage, engine, seed, shell.clone())
        .await
        .map_err(|e| e.to_string())?;
    let deployments = engine.with_engine(|engine| engine.transforms());
    transforms.deployed(&deployments);
    engine.with_engine(|engine| engine.users()).iter().for_each(|user| users.apply(user));
    transforms.load().await;

    let gateway = LocalGateway { engine: Rc::clone(&engine), shell };
    let driver = Rc::clone(&engine);
    let mut driving = tokio::task::spawn_local(async move { driver.run().await });
    tokio::task::spawn_local(drain_inbox(inbox, gateway.clone()));
    let mut serving = JoinSet::new();
    for door in doors {
        let door = door.open(&wiring).map_err(|e| format!("cannot serve a TCP listener: {e}"))?;
        serving.spawn_local(door.serve_plain(gateway.clone()));
    }
    let report = engine.metrics().recovery;
    let _ = opened.send(Opened {
        backend: engine.metrics().backend,
        entries_replayed: report.entries,
        torn_tail: report.torn_tail,
        recovery: begun.elapsed(),
        topics: engine.with_engine(|engine| engine.catalog().len()),
        transforms: deployments.len(),
    });
    tokio::select! {
        ended = &mut driving => return fatal(ended),
        _ = &mut quit => {}
    }
    let _ = timeout(Duration::from_millis(SHUTDOWN_GRACE_MS_MAX), serving.join_all()).await;
    engine.shutdown().await;
    fatal(driving.await)
}

/// The driver ended: in order, or because the disk failed, after which nothing may be acknowledged
/// any more.
fn fatal<E: std::fmt::Display>(
    ended: Result<Result<(), E>, tokio::task::JoinError>,
) -> Result<(), String> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!(
            "the disk failed, so the node stops rather than acknowledge what may be lost: {error}"
        )),
        Err(error) => Err(format!("the engine stopped: {error}")),
    }
}

/// Does what other threads ask, a batch at a time.
async fn drain_inbox(mut inbox: mpsc::Receiver<ToEngine>, gateway: LocalGateway) {
    let mut batch = Vec::with_capacity(INBOX_BATCH);
    while inbox.recv_many(&mut batch, INBOX_BATCH).await > 0 {
        for message in batch.drain(..) {
            gateway.handle(message).await;
        }
        // Others on this thread get their turn between two batches.
        tokio::task::yield_now().await;
    }
}
