//! The producer: `send` puts a record into a batch, one task sends the batches, a future tells
//! what became of each record.
//!
//! It never holds more record bytes than it was given, never lets records of a partition change
//! places, and with idempotence never writes a record twice without saying so. It starts no
//! thread: its one task runs on the caller's tokio runtime and ends with the producer.

mod accumulator;
#[cfg(test)]
mod accumulator_sim;
#[cfg(test)]
mod accumulator_tests;
mod batch;
mod builder;
mod delivery;
mod lane;
mod metrics;
mod partitioner;
mod queue;
mod record;
mod sender;
mod transaction;
mod verdict;

pub use builder::{Acks, ProducerBuilder};
pub use delivery::{Delivery, DeliveryError, DeliveryFuture};
pub use metrics::ProducerMetrics;
pub use record::Record;
pub use transaction::{GroupPlace, TransactionError, TransactionalProducer};

pub(crate) use accumulator::header;
pub(crate) use batch::ProducerId;
pub(crate) use partitioner::Partitioner;
pub(crate) use sender::{PRODUCE_BY_NAME, new_producer_id, produce};
pub(crate) use verdict::Verdict;

use crate::client::Client;
use crate::error::ClientError;
use accumulator::{Accumulator, Policy};
use millpond_wire::limits;
use millpond_wire::record::{BatchBuilder, BuildError, Header};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Pause between two questions for a topic that is not there yet.
const METADATA_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait of `send` for a topic's metadata (Java: `max.block.ms`).
const METADATA_WAIT_MAX: Duration = Duration::from_secs(60);

/// Sends records. Clones share one buffer and one sender.
///
/// ```no_run
/// use millpond_client::{ClientConfig, Producer, Record, Trust};
///
/// # async fn example(fingerprint: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let config = ClientConfig::new("quic://127.0.0.1:9092")?.trust(Trust::fingerprint(fingerprint)?);
/// let producer = Producer::builder().connect(config).await?;
/// let delivery = producer.send(Record::to("telemetry").key("device-7").value("21.5")).await?;
/// println!("at offset {:?}", delivery.await?.offset);
/// producer.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    inner: Arc<Inner>,
}

/// Ends the sender with the last handle.
#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    sender: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.sender.abort();
        self.shared.buffer.close();
    }
}

/// What the handles and the sender share.
#[derive(Debug)]
pub(crate) struct Shared {
    client: Client,
    settings: ProducerBuilder,
    started: Instant,
    accumulator: Mutex<Accumulator>,
    partitioner: Mutex<Partitioner>,
    /// Permits are bytes.
    buffer: Semaphore,
    /// How many `send`s wait for memory.
    waiting: AtomicUsize,
    /// Something for the sender to look at.
    wake: Notify,
}

/// A record that was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// The topic's partitions cannot be learned.
    #[error("cannot send to topic `{topic}`: {source}")]
    Topic {
        /// The topic.
        topic: Arc<str>,
        /// Why.
        source: ClientError,
    },
    /// The partition named does not exist.
    #[error("topic `{topic}` has {partitions} partitions, there is no partition {partition}")]
    Partition {
        /// The topic.
        topic: Arc<str>,
        /// The partition named.
        partition: i32,
        /// How many there are.
        partitions: u32,
    },
    /// The record is larger than any batch, or than the whole buffer.
    #[error("a record of {record_bytes} bytes is over the limit of {limit_bytes}; split it")]
    TooLarge {
        /// Its size.
        record_bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// The record cannot be encoded.
    #[error("the record cannot be encoded: {0}")]
    Record(BuildError),
    /// The producer is closed.
    #[error("the producer is closed")]
    Closed,
}

/// A record that was not taken at once.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrySendError {
    /// The buffer is full: wait for a delivery, or use [`Producer::send`], which waits.
    #[error("the buffer is full")]
    Full(Box<Record>),
    /// The topic is not known yet: use [`Producer::send`] once.
    #[error("the topic's metadata is not there yet")]
    Unknown(Box<Record>),
    /// It would not be taken later either.
    #[error(transparent)]
    Never(#[from] SendError),
}

impl Producer {
    /// Settings for a new producer.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder::default()
    }

    fn start(client: Client, settings: ProducerBuilder, policy: Policy) -> Self {
        let seed = RandomState::new().build_hasher().finish();
        let shared = Arc::new(Shared {
            client,
            started: Instant::now(),
            accumulator: Mutex::new(Accumulator::new(policy)),
            partitioner: Mutex::new(Partitioner::new(seed)),
            buffer: Semaphore::new(settings.buffer_bytes),
            waiting: AtomicUsize::new(0),
            wake: Notify::new(),
            settings,
        });
        let sender = tokio::spawn(sender::run(Arc::clone(&shared))).abort_handle();
        Self { inner: Arc::new(Inner { shared, sender }) }
    }

    /// Takes a record; waits while the buffer is full (backpressure), and the first time for the
    /// topic's metadata. The future returned tells what became of it; the record is sent whether
    /// or not anybody waits for that.
    ///
    /// Dropping the future of `send` itself before it is ready means that the record was not taken.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, record: Record) -> Result<DeliveryFuture, SendError> {
        let shared = &self.inner.shared;
        let bytes = shared.record_bytes(&record)?;
        let partitions = self.partitions(&record.topic).await?;
        shared.reserve(bytes).await?;
        shared.append(&record, partitions, bytes)
    }

    /// Takes a record if that needs no waiting.
    ///
    /// # Errors
    /// [`TrySendError`], which gives the record back where a later try may succeed.
    pub fn try_send(&self, record: Record) -> Result<DeliveryFuture, TrySendError> {
        let shared = &self.inner.shared;
        let bytes = shared.record_bytes(&record)?;
        let Some(partitions) = shared.client.cluster().partitions(&record.topic) else {
            return Err(TrySendError::Unknown(Box::new(record)));
        };
        match shared.buffer.try_acquire_many(permits(bytes)) {
            Ok(permit) => permit.forget(),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(SendError::Closed.into()),
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                return Err(TrySendError::Full(Box::new(record)));
            }
        }
        Ok(shared.append(&record, partitions, bytes)?)
    }

    /// Sends what waits, without lingering, and returns when everything taken before this call is
    /// settled, well or badly: each record's own future tells which.
    pub async fn flush(&self) {
        let shared = &self.inner.shared;
        let settled = {
            let mut accumulator = shared.accumulator();
            accumulator.close_open_batches();
            accumulator.unsettled()
        };
        shared.wake.notify_one();
        for batch in settled {
            let _ = batch.await;
        }
    }

    /// Takes no more records, flushes, and ends. At the latest the delivery timeout ends it.
    pub async fn close(&self) {
        self.inner.shared.buffer.close();
        self.flush().await;
        self.inner.sender.abort();
    }

    /// Numbers so far.
    pub fn metrics(&self) -> ProducerMetrics {
        let shared = &self.inner.shared;
        let counts = shared.accumulator().counts;
        let free = shared.buffer.available_permits();
        let buffered = shared.settings.buffer_bytes.saturating_sub(free);
        ProducerMetrics {
            records_accepted: counts.records_accepted,
            records_delivered: counts.records_delivered,
            records_failed: counts.records_failed,
            batches_sent: counts.batches_sent,
            batches_retried: counts.batches_retried,
            bytes_sent: counts.bytes_sent,
            identity_resets: counts.identity_resets,
            buffered_bytes: u64::try_from(buffered).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// How many partitions a topic has; waits for its metadata the first time.
    pub(crate) async fn partitions(&self, topic: &Arc<str>) -> Result<u32, SendError> {
        let shared = &self.inner.shared;
        match shared.client.cluster().partitions(topic) {
            Some(partitions) => Ok(partitions),
            None => shared.wait_for_topic(topic).await,
        }
    }

    /// The client below.
    pub fn client(&self) -> &Client {
        &self.inner.shared.client
    }
}

impl Shared {
    fn accumulator(&self) -> MutexGuard<'_, Accumulator> {
        self.accumulator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the producer was made, on a clock that never goes back.
    fn now_ms(&self) -> u64 {
        crate::connection::millis(self.started.elapsed())
    }

    fn record_bytes(&self, record: &Record) -> Result<usize, SendError> {
        if self.buffer.is_closed() {
            return Err(SendError::Closed);
        }
        let headers: Vec<Header<'_>> = record.headers.iter().map(header).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let record_bytes = BatchBuilder::record_bytes_max(key, value, &headers);
        let limit_bytes = self.settings.buffer_bytes.min(limits::BATCH_BYTES_MAX / 2);
        match record_bytes > limit_bytes {
            true => Err(SendError::TooLarge { record_bytes, limit_bytes }),
            false => Ok(record_bytes),
        }
    }

    async fn wait_for_topic(&self, topic: &Arc<str>) -> Result<u32, SendError> {
        let wait = self.settings.delivery_timeout.min(METADATA_WAIT_MAX);
        let deadline = Instant::now() + wait;
        let topics = std::slice::from_ref(topic);
        loop {
            let source = match self.client.refresh(topics, true).await {
                Ok(cluster) => match cluster.partitions(topic) {
                    Some(partitions) => return Ok(partitions),
                    None => ClientError::NotFound { what: format!("topic `{topic}`") },
                },
                Err(error) => error,
            };
            if !source.is_retriable() || Instant::now() + METADATA_PAUSE > deadline {
                return Err(SendError::Topic { topic: Arc::clone(topic), source });
            }
            tokio::time::sleep(METADATA_PAUSE).await;
        }
    }

    /// Waits for room in the buffer, first come first served.
    async fn reserve(&self, bytes: usize) -> Result<(), SendError> {
        let permits = permits(bytes);
        let permit = match self.buffer.try_acquire_many(permits) {
            Ok(permit) => permit,
            Err(_) => {
                let _waits = Waits::new(self);
                let permit = self.buffer.acquire_many(permits).await;
                permit.map_err(|_| SendError::Closed)?
            }
        };
        // Given back when the batch is settled.
        permit.forget();
        Ok(())
    }

    fn append(
        &self,
        record: &Record,
        partitions: u32,
        bytes: usize,
    ) -> Result<DeliveryFuture, SendError> {
        let now_ms = self.now_ms();
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(wall_ms);
        let mut accumulator = self.accumulator();
        let appended = self.choose(&accumulator, record, partitions, bytes).and_then(|partition| {
            let pushed = accumulator.push(now_ms, partition, timestamp_ms, record, bytes);
            pushed.map_err(SendError::Record)
        });
        drop(accumulator);
        match appended {
            Ok((future, must_wake)) => {
                if must_wake {
                    self.wake.notify_one();
                }
                Ok(future)
            }
            Err(error) => {
                self.buffer.add_permits(bytes);
                Err(error)
            }
        }
    }

    fn choose(
        &self,
        accumulator: &Accumulator,
        record: &Record,
        partitions: u32,
        bytes: usize,
    ) -> Result<i32, SendError> {
        if let Some(partition) = record.partition {
            return match u32::try_from(partition).is_ok_and(|named| named < partitions) {
                true => Ok(partition),
                false => Err(SendError::Partition {
                    topic: Arc::clone(&record.topic),
                    partition,
                    partitions,
                }),
            };
        }
        let signed = |partition: u32| i32::try_from(partition).unwrap_or(i32::MAX);
        let chosen = match &record.key {
            Some(key) => Partitioner::for_key(key, partitions),
            None => {
                let cluster = self.client.cluster();
                let topic = &record.topic;
                let fits = |partition| accumulator.fits(topic, signed(partition), bytes);
                let has_leader = |partition| cluster.leader(topic, signed(partition)).is_some();
                let partitioner = self.partitioner.lock();
                let mut partitioner = partitioner.unwrap_or_else(PoisonError::into_inner);
                partitioner.for_none(topic, partitions, fits, has_leader)
            }
        };
        Ok(signed(chosen))
    }
}

/// Counts a `send` that waits for memory, also if it is dropped while it waits.
struct Waits<'a>(&'a Shared);

impl<'a> Waits<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        // What lingers may be all that fills the buffer.
        shared.wake.notify_one();
        Self(shared)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// For timestamps of records only; nothing is timed by it.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
