//! Load for the crash tests: producers over TCP that live through every crash, producers over QUIC
//! that are new after each, and a committer of group offsets. Everything that is sent, acknowledged
//! and committed goes into a [`History`]. Never judges anything itself.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millpond_client::producer::{DeliveryFuture, Producer, Record};
use millpond_client::{ClientConfig, Trust};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use crate::dice::Dice;
use crate::history::{History, Partition, RecordId};
use crate::kafka::Kafka;

/// Records of one producer that are not acknowledged yet.
const IN_FLIGHT_MAX: usize = 64;

/// The group whose offsets are committed.
pub const GROUP: &str = "crash-readers";

/// A topic under load.
#[derive(Clone)]
pub struct Stream {
    /// Its name.
    pub topic: &'static str,
    /// How many partitions it has.
    pub partitions: Partition,
    /// Whether it runs through a filter that drops what is below [`LIMIT`].
    pub filtered: bool,
    history: Arc<Mutex<History>>,
    progress: Arc<Progress>,
}

/// Readings below it are dropped on filtered streams.
pub const LIMIT: u64 = 50;

/// Counts acknowledgements, and can be waited on.
#[derive(Default)]
pub struct Progress {
    acknowledged: Mutex<u64>,
    changed: Condvar,
}

impl Progress {
    /// One more came.
    pub fn count(&self) {
        *lock(&self.acknowledged) += 1;
        self.changed.notify_all();
    }

    /// Wait until `more` acknowledgements have come, at most `patience`; how many came.
    pub fn wait_for(&self, more: u64, patience: Duration) -> u64 {
        let give_up = Instant::now() + patience;
        let mut acknowledged = lock(&self.acknowledged);
        let start = *acknowledged;
        while *acknowledged < start + more {
            let Some(left) = give_up.checked_duration_since(Instant::now()) else { break };
            acknowledged = match self.changed.wait_timeout(acknowledged, left) {
                Ok((acknowledged, _)) => acknowledged,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        *acknowledged - start
    }
}

impl Stream {
    /// A stream with nothing on it yet. Streams of one test share their progress.
    pub fn new(
        topic: &'static str,
        partitions: Partition,
        filtered: bool,
        progress: &Arc<Progress>,
    ) -> Stream {
        let (history, progress) = (Arc::default(), progress.clone());
        Stream { topic, partitions, filtered, history, progress }
    }

    /// The history so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Send the producer's next record to a partition that the dice choose.
    async fn send(&self, producer: &Producer, id: u32, dice: &mut Dice) -> Option<Waiting> {
        let partition = dice.within(0, self.partitions as u64) as Partition;
        let degrees = dice.within(0, 100);
        let record = self.history().sending(partition, id);
        let padding = match dice.within(0, 40) {
            0 => dice.within(1000, 20_000),
            _ => dice.within(0, 300),
        };
        let value =
            format!("{{\"celsius\":{degrees},\"pad\":\"{}\"}}", "x".repeat(padding as usize));
        let message = Record::to(self.topic)
            .partition(partition)
            .key(key_of(record).to_vec())
            .value(value.into_bytes());
        let delivery = producer.send(message).await.ok()?;
        let dropped = self.filtered && degrees < LIMIT;
        Some(Waiting { partition, record, dropped, delivery })
    }

    /// Wait for what becomes of a record, and note it; how many were acknowledged, 0 or 1.
    async fn settle(&self, waiting: Waiting) -> u64 {
        let Waiting { partition, record, dropped, delivery } = waiting;
        // An error leaves it open: it may stand once, or not at all.
        let Ok(delivery) = delivery.await else { return 0 };
        if dropped {
            self.history().acknowledged_and_dropped(partition, record);
        } else {
            self.history().acknowledged(partition, record, delivery.offset);
        }
        self.progress.count();
        1
    }
}

struct Waiting {
    partition: Partition,
    record: RecordId,
    dropped: bool,
    delivery: DeliveryFuture,
}

/// The key that names a record.
pub fn key_of(record: RecordId) -> [u8; 8] {
    let both = u64::from(record.producer) << 32 | u64::from(record.sequence);
    both.to_be_bytes()
}

/// The record that a key names; None if no load made it.
pub fn record_of(key: &[u8]) -> Option<RecordId> {
    let both = u64::from_be_bytes(key.try_into().ok()?);
    Some(RecordId { producer: (both >> 32) as u32, sequence: both as u32 })
}

/// Everything that runs beside the crashes.
pub struct Load {
    runtime: Runtime,
    address: SocketAddr,
    dice: Dice,
    next_producer: AtomicU32,
    steady: Vec<tokio::task::JoinHandle<()>>,
    fleeting: Vec<AbortHandle>,
    stop: Arc<AtomicBool>,
    over_quic: Arc<AtomicU64>,
    committer: Option<JoinHandle<u64>>,
}

/// What a load came to, to see that it was one.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Offset commits that were acknowledged.
    pub commits: u64,
    /// Records that were acknowledged over QUIC.
    pub over_quic: u64,
}

impl Load {
    /// Nothing runs yet.
    pub fn new(address: SocketAddr, dice: Dice) -> Load {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = match builder.worker_threads(1).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime: {error}"),
        };
        Load {
            runtime,
            address,
            dice,
            next_producer: AtomicU32::new(0),
            steady: Vec::new(),
            fleeting: Vec::new(),
            stop: Arc::default(),
            over_quic: Arc::default(),
            committer: None,
        }
    }

    fn new_id(&self) -> u32 {
        self.next_producer.fetch_add(1, Ordering::Relaxed)
    }

    fn config(&self, scheme: &str) -> ClientConfig {
        let url = format!("{scheme}://{}", self.address);
        let config = match ClientConfig::new(&url) {
            Ok(config) => config,
            Err(error) => panic!("{url}: {error}"),
        };
        // The certificate is made by the broker under test; what it says is not the question here.
        config.trust(Trust::InsecureNoVerify).request_timeout(Duration::from_secs(5))
    }

    /// A producer over TCP that goes on through every crash, retrying until it is answered.
    pub fn steady_over_tcp(&mut self, stream: &Stream) {
        let (id, dice) = (self.new_id(), self.dice.fork());
        let (config, stop, stream) = (self.config("tcp"), self.stop.clone(), stream.clone());
        self.steady.push(self.runtime.spawn(async move {
            let builder = Producer::builder().delivery_timeout(Duration::from_secs(120));
            let producer = match builder.linger(Duration::from_millis(1)).connect(config).await {
                Ok(producer) => producer,
                Err(error) => panic!("a producer over TCP: {error}"),
            };
            produce(&stream, &producer, id, dice, &stop, &AtomicU64::new(0)).await;
            producer.close().await;
        }));
    }

    /// A new producer over QUIC, which the next crash ends.
    pub fn fleeting_over_quic(&mut self, stream: &Stream) {
        let (id, dice) = (self.new_id(), self.dice.fork());
        let (config, stop, stream) = (self.config("quic"), self.stop.clone(), stream.clone());
        let over_quic = self.over_quic.clone();
        let task = self.runtime.spawn(async move {
            let builder = Producer::builder().linger(Duration::from_millis(1));
            // The broker may be killed before it has shaken hands.
            let Ok(producer) = builder.connect(config).await else { return };
            produce(&stream, &producer, id, dice, &stop, &over_quic).await;
        });
        self.fleeting.push(task.abort_handle());
    }

    /// Forget the producers over QUIC: their broker is dead.
    pub fn end_fleeting(&mut self) {
        self.fleeting.drain(..).for_each(|task| task.abort());
    }

    /// Commits ever higher offsets for every partition of a stream, one after the other.
    pub fn committer(&mut self, stream: &Stream) {
        let (stream, stop, address) = (stream.clone(), self.stop.clone(), self.address);
        self.committer = Some(std::thread::spawn(move || commit(&stream, address, &stop)));
    }

    /// Let everything that is under way be answered, and stop.
    pub fn finish(mut self) -> Totals {
        self.stop.store(true, Ordering::Relaxed);
        self.end_fleeting();
        for task in self.steady.drain(..) {
            if let Err(error) = self.runtime.block_on(task) {
                panic!("a producer over TCP: {error}");
            }
        }
        let commits = self.committer.take().map_or(0, |thread| thread.join().unwrap_or(0));
        Totals { commits, over_quic: self.over_quic.load(Ordering::Relaxed) }
    }
}

/// Send and settle until told to stop, counting what is acknowledged.
async fn produce(
    stream: &Stream,
    producer: &Producer,
    id: u32,
    mut dice: Dice,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) {
    let mut waiting = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        if waiting.len() == IN_FLIGHT_MAX
            && let Some(oldest) = waiting.pop_front()
        {
            acknowledged.fetch_add(stream.settle(oldest).await, Ordering::Relaxed);
        }
        waiting.extend(stream.send(producer, id, &mut dice).await);
    }
    for rest in waiting {
        acknowledged.fetch_add(stream.settle(rest).await, Ordering::Relaxed);
    }
}

/// Until it is told to stop; how many commits were acknowledged.
fn commit(stream: &Stream, address: SocketAddr, stop: &AtomicBool) -> u64 {
    let (mut offset, mut acknowledged) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut kafka) = Kafka::connect(address, Duration::from_secs(2)) else {
            // Refused at once while the broker is down; a progress of others tells of its return.
            stream.progress.wait_for(1, Duration::from_millis(20));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            offset += 1;
            let partition = (offset % i64::from(stream.partitions)) as Partition;
            stream.history().committing(GROUP, partition, offset);
            match kafka.commit(GROUP, stream.topic, partition, offset) {
                Ok(()) => stream.history().committed(GROUP, partition, offset),
                Err(_) => break,
            }
            acknowledged += 1;
        }
    }
    acknowledged
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_record() {
        let record = RecordId { producer: 7, sequence: 1_000_000 };
        assert_eq!(record_of(&key_of(record)), Some(record));
        assert_eq!(record_of(b"short"), None);
    }
}
