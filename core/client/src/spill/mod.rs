//! The spill: records go to flash first and from there to the broker, in order, each exactly once, also
//! over a power cut in between.
//!
//! [`Spill::send`] returns when the record is on this device's own storage; whether the gateway can be
//! reached does not matter to it. A task sends what is there, oldest first, with sequence numbers that
//! were on flash before they were used: what is sent again after a restart is told to be a duplicate by
//! the broker. The room is bounded, and what happens when it is full is said by [`WhenFull`].
//!
//! It never reports a record as taken that a power cut could take away, and never lets a newer record
//! overtake an older one of its partition.

mod drain;
mod format;
mod ledger;
mod store;
#[cfg(test)]
mod tests;

use crate::client::Client;
use crate::producer::{Record, wall_ms};
use millpond_wire::limits;
use millpond_wire::record::Codec;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{Room, Store};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::AbortHandle;

/// Bytes of records that may wait for one sync together.
const PENDING_BYTES_MAX: usize = 1024 * 1024;

/// What happens to records when there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// New ones are refused: [`SpillError::Full`].
    #[default]
    RefuseNewest,
    /// The oldest ones that are not under way are dropped, an eighth of the room at once, and counted.
    DropOldest,
}

/// Why a spill did not take a record, or cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpillError {
    /// There is no room, and the oldest records are to be kept.
    #[error(
        "the spill's {max_bytes} bytes are full; the broker has to be reached before it takes more"
    )]
    Full {
        /// Its room.
        max_bytes: u64,
    },
    /// The record is larger than a file of the spill.
    #[error(
        "a record of {record_bytes} bytes is over the spill's limit of {limit_bytes}; give it more room"
    )]
    TooLarge {
        /// Its size.
        record_bytes: u64,
        /// What is allowed: an eighth of the room.
        limit_bytes: u64,
    },
    /// The storage failed.
    #[error("the spill in {dir}: {reason}")]
    Io {
        /// Where.
        dir: PathBuf,
        /// What the system said.
        reason: Arc<str>,
    },
    /// The storage failed before; nothing is written any more.
    #[error("the spill takes nothing since its storage failed: {reason}; restart the program")]
    Broken {
        /// What the system said then.
        reason: Arc<str>,
    },
    /// The room makes no sense.
    #[error("the spill needs {least_bytes} bytes of room at least")]
    NoRoom {
        /// The least.
        least_bytes: u64,
    },
    /// The spill is closed.
    #[error("the spill is closed")]
    Closed,
}

impl SpillError {
    fn io(dir: &Path, error: &io::Error) -> Self {
        Self::Io { dir: dir.to_path_buf(), reason: error.to_string().into() }
    }
}

/// Numbers of a spill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpillMetrics {
    /// Records that wait on this device, or are under way.
    pub records_waiting: u64,
    /// Records that the broker has, since this was opened.
    pub records_delivered: u64,
    /// Records that the broker refused for good; its reason is in the log.
    pub records_refused: u64,
    /// Records that were dropped for room.
    pub records_dropped: u64,
    /// Records that may stand twice, as the broker had forgotten this producer.
    pub records_in_doubt: u64,
    /// Times that something was sent again.
    pub retries: u64,
    /// Bytes that were cut off at the opening: what a power cut left half.
    pub cut_bytes: u64,
}

/// Settings of a [`Spill`].
#[derive(Clone, Debug)]
pub struct SpillBuilder {
    dir: PathBuf,
    max_bytes: u64,
    when_full: WhenFull,
    codec: Codec,
    retry_backoff: Duration,
    retry_backoff_max: Duration,
}

impl SpillBuilder {
    /// Sets the room that it may take. Default: 16 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets what happens when the room is full. Default: new records are refused.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets the compression on the line. Default: none.
    #[must_use]
    pub fn compression(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the first and the longest pause before the broker is tried again. Default: 100 ms and 30 s.
    #[must_use]
    pub fn retry_backoff(mut self, first: Duration, longest: Duration) -> Self {
        (self.retry_backoff, self.retry_backoff_max) = (first, longest);
        self
    }

    /// Opens the directory and begins to send what is there. `client` need not have reached anybody.
    /// Must be called inside a tokio runtime; reads all of the directory.
    ///
    /// # Errors
    /// [`SpillError`], also if another program has the directory open.
    pub fn open(self, client: Client) -> Result<Spill, SpillError> {
        if self.max_bytes < limits::CLIENT_SPILL_BYTES_MIN {
            return Err(SpillError::NoRoom { least_bytes: limits::CLIENT_SPILL_BYTES_MIN });
        }
        let room = Room { max_bytes: self.max_bytes, when_full: self.when_full };
        let store = Store::open(&self.dir, room)?;
        let cut_bytes = store.tally.cut_bytes;
        if cut_bytes > 0 {
            tracing::warn!(dir = %self.dir.display(), cut_bytes, "cut off what was not whole");
        }
        let done_through = store.ledger.done_through;
        let progress = Progress { done_through, waiting: store.tally.waiting };
        let shared = Arc::new(Shared {
            client,
            settings: self,
            store: Arc::new(Mutex::new(store)),
            pending: Mutex::default(),
            pending_room: Semaphore::new(PENDING_BYTES_MAX),
            write: Notify::new(),
            drain: Notify::new(),
            taken_through: AtomicU64::new(0),
            progress: watch::Sender::new(progress),
            counts: Mutex::default(),
        });
        let tasks = [
            tokio::spawn(write(Arc::clone(&shared))).abort_handle(),
            tokio::spawn(drain::run(Arc::clone(&shared))).abort_handle(),
        ];
        Ok(Spill { inner: Arc::new(Inner { shared, tasks }) })
    }
}

/// Records on this device on their way to the broker. Clones share it; it stops with the last of them,
/// and goes on where it was when it is opened again.
///
/// ```no_run
/// use millpond_client::{Client, ClientConfig, Record, Spill, Trust, WhenFull};
///
/// # async fn example(fingerprint: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let config = ClientConfig::new("millpond://10.0.0.1:9092")?.trust(Trust::fingerprint(fingerprint)?);
/// let spill = Spill::builder("/var/lib/sensor/spill")
///     .max_bytes(64 << 20)
///     .when_full(WhenFull::DropOldest)
///     .open(Client::new(config))?;
/// spill.send(Record::to("telemetry").key("device-7").value("21.5")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Spill {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.pending_room.close();
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug)]
struct Progress {
    done_through: u64,
    waiting: u64,
}

type Taken = oneshot::Sender<Result<u64, SpillError>>;

/// What the handles, the writer and the drain share.
#[derive(Debug)]
struct Shared {
    client: Client,
    settings: SpillBuilder,
    store: Arc<Mutex<Store>>,
    /// Records that wait for the next sync.
    pending: Mutex<Vec<(Record, Taken)>>,
    /// Permits are bytes.
    pending_room: Semaphore,
    write: Notify,
    drain: Notify,
    taken_through: AtomicU64,
    progress: watch::Sender<Progress>,
    counts: Mutex<SpillMetrics>,
}

impl Spill {
    /// Settings for a spill in the directory `dir`, which is its own.
    pub fn builder(dir: impl Into<PathBuf>) -> SpillBuilder {
        SpillBuilder {
            dir: dir.into(),
            max_bytes: 16 * 1024 * 1024,
            when_full: WhenFull::default(),
            codec: Codec::None,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(30),
        }
    }

    /// Takes a record; returns when it is on this device's storage. Records that are sent at the same
    /// time share a sync. Dropping the future leaves open whether the record is taken.
    ///
    /// # Errors
    /// [`SpillError`].
    pub async fn send(&self, mut record: Record) -> Result<(), SpillError> {
        let shared = &self.inner.shared;
        record.timestamp_ms.get_or_insert_with(wall_ms);
        let bytes = record.bytes().clamp(1, PENDING_BYTES_MAX);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let _room = shared.pending_room.acquire_many(permits).await;
        let _room = _room.map_err(|_| SpillError::Closed)?;
        let (taken, answer) = oneshot::channel();
        lock(&shared.pending).push((record, taken));
        shared.write.notify_one();
        answer.await.map_err(|_| SpillError::Closed)?.map(|_| ())
    }

    /// Returns when all that was taken before is settled: with the broker, refused by it, or dropped.
    pub async fn drained(&self) {
        let shared = &self.inner.shared;
        let wanted = shared.taken_through.load(Ordering::Acquire);
        let is_there = |p: &Progress| p.waiting == 0 || (wanted > 0 && p.done_through >= wanted);
        // The sender lives in `shared`.
        let _ = shared.progress.subscribe().wait_for(is_there).await;
    }

    /// Stops at once and gives the directory free; what is there waits for the next opening. Without
    /// it the same happens a moment after the last handle is dropped.
    pub async fn close(self) {
        let shared = &self.inner.shared;
        shared.pending_room.close();
        self.inner.tasks.iter().for_each(AbortHandle::abort);
        // After whatever is being written.
        let _ = shared.on_store(|store| store.close()).await;
        lock(&shared.pending).clear();
    }

    /// Numbers so far.
    pub fn metrics(&self) -> SpillMetrics {
        let counts = *lock(&self.inner.shared.counts);
        let tally = lock(&self.inner.shared.store).tally;
        SpillMetrics {
            records_waiting: tally.waiting,
            records_dropped: tally.dropped,
            cut_bytes: tally.cut_bytes,
            ..counts
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Does something that blocks where blocking is allowed.
    async fn on_store<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Store) -> Result<T, SpillError> + Send + 'static,
    ) -> Result<T, SpillError> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || act(&mut lock(&store))).await;
        done.unwrap_or(Err(SpillError::Closed))
    }

    /// Tells those who wait how far it has come.
    async fn report(&self) {
        let now = self.on_store(|store| {
            Ok(Progress { done_through: store.ledger.done_through, waiting: store.tally.waiting })
        });
        if let Ok(progress) = now.await {
            self.progress.send_replace(progress);
        }
    }
}

/// Writes what waits, all of it with one sync.
async fn write(shared: Arc<Shared>) {
    loop {
        shared.write.notified().await;
        let pending = std::mem::take(&mut *lock(&shared.pending));
        if pending.is_empty() {
            continue;
        }
        let (records, askers): (Vec<Record>, Vec<Taken>) = pending.into_iter().unzip();
        let written = shared.on_store(move |store| Ok(store.append(&records))).await;
        shared.report().await;
        let answers = match written {
            Ok(answers) => answers,
            Err(error) => askers.iter().map(|_| Err(error.clone())).collect(),
        };
        for (asker, answer) in askers.into_iter().zip(answers) {
            if let Ok(number) = &answer {
                shared.taken_through.fetch_max(*number, Ordering::AcqRel);
            }
            let _ = asker.send(answer);
        }
        shared.drain.notify_one();
    }
}
