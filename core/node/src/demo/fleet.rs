//! The devices and this machine at work: each a producer with a QUIC connection of its own, as a device would use the
//! SDK. Every record's fate goes into the ledger.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use millpond_client::{ClientConfig, DeliveryError, Producer, QuicSocket, Record};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::board::Board;
use super::device::Device;
use super::ledger::{Failure, SourceId};
use super::machine::{self, Root, Source, Values};
use super::node::{DemoNode, MACHINE, TELEMETRY};
use crate::cli::CliError;

/// How often a device measures.
const READING_EVERY: Duration = Duration::from_secs(1);
/// How often this machine's counters are read.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// Pause of a device that could not connect.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A record that is not acknowledged by then is given up.
const DELIVERY_WITHIN: Duration = Duration::from_secs(20);
/// A device has no more memory than that for records under way.
const DEVICE_BUFFER_BYTES: usize = 256 << 10;
/// Devices that share one UDP socket: what a socket costs is the test's business, not the device's.
const DEVICES_PER_SOCKET: usize = 50;
/// How long a device may take to say goodbye.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// What all senders share.
#[derive(Clone)]
struct Sender {
    board: Arc<Board>,
    stop: watch::Receiver<bool>,
}

/// Everything that sends.
pub(crate) struct Fleet {
    tasks: JoinSet<()>,
}

impl Fleet {
    /// Sets `devices` devices and this machine going, until `stop` says so.
    pub(crate) fn launch(
        node: &DemoNode,
        board: &Arc<Board>,
        (devices, seed): (usize, u64),
        stop: &watch::Receiver<bool>,
    ) -> Result<Self, CliError> {
        let mut tasks = JoinSet::new();
        let sockets: Vec<QuicSocket> =
            (0..devices.div_ceil(DEVICES_PER_SOCKET)).map(|_| QuicSocket::new()).collect();
        let sender = Sender { board: Arc::clone(board), stop: stop.clone() };
        for number in 0..devices {
            let device = Device::new(number, seed);
            let mut config = node.over_quic(device.name())?;
            if let Some(socket) = sockets.get(number / DEVICES_PER_SOCKET) {
                config = config.quic_socket(socket.clone());
            }
            // Spread over the second, as devices that were switched on at any time are.
            let phase = READING_EVERY * u32::try_from(number).unwrap_or(0)
                / u32::try_from(devices).unwrap_or(1).max(1);
            tasks.spawn(sender.clone().run_device(device, config, phase));
        }
        tasks.spawn(sender.run_machine(node.over_quic("this-machine")?));
        Ok(Self { tasks })
    }

    /// Waits until everything that was sent has its answer and every device is gone.
    pub(crate) async fn come_home(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Sender {
    async fn run_device(mut self, mut device: Device, config: ClientConfig, phase: Duration) {
        let begin = Instant::now() + phase;
        tokio::select! {
            () = self.stopped() => return,
            () = tokio::time::sleep_until(begin) => {}
        }
        let name = device.name().to_owned();
        let Some(producer) = self.connect(&name, config).await else { return };
        self.board.connected();
        let source = self.board.ledger().open(&name);
        let mut ticks = interval_at(begin + READING_EVERY, READING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.stopped() => break,
                Some(()) = under_way.next() => {}
                _ = ticks.tick() => {
                    let reading = device.read();
                    let record = Outgoing { source, seq: reading.seq, topic: TELEMETRY, is_kept: reading.is_notable };
                    if let Some(fate) = self.send(&producer, &name, record, reading.json).await {
                        under_way.push(fate);
                    }
                }
            }
        }
        while under_way.next().await.is_some() {}
        close(&producer).await;
        self.board.disconnected();
    }

    async fn run_machine(mut self, config: ClientConfig) {
        let Some(producer) = self.connect("this machine", config).await else {
            return;
        };
        let mut sources: Vec<(Source, SourceId, u32)> = {
            let mut ledger = self.board.ledger();
            Source::ALL.iter().map(|source| (*source, ledger.open(source.name()), 0)).collect()
        };
        let mut ticks = interval_at(Instant::now(), SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.stopped() => break,
                Some(()) = under_way.next() => {}
                _ = ticks.tick() => {
                    for (found, values) in sample().await {
                        let Some((_, source, seq)) = sources.iter_mut().find(|(s, ..)| *s == found) else { continue };
                        let record = Outgoing { source: *source, seq: *seq, topic: MACHINE, is_kept: true };
                        let json = machine::json(found, *seq, &values);
                        *seq += 1;
                        if let Some(fate) = self.send(&producer, found.name(), record, json).await {
                            under_way.push(fate);
                        }
                    }
                }
            }
        }
        while under_way.next().await.is_some() {}
        close(&producer).await;
    }

    /// Completes when there is nothing more to send.
    async fn stopped(&mut self) {
        // Whoever could say so is gone: that says it, too.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }

    /// A producer, once the node can be reached; `None` if the end comes first.
    async fn connect(&mut self, name: &str, config: ClientConfig) -> Option<Producer> {
        loop {
            let settings = Producer::builder()
                // A device has one record at a time: there is nothing to wait for.
                .linger(Duration::ZERO)
                .buffer_bytes(DEVICE_BUFFER_BYTES)
                .delivery_timeout(DELIVERY_WITHIN);
            let connected = tokio::select! {
                () = self.stopped() => return None,
                connected = settings.connect(config.clone()) => connected,
            };
            match connected {
                Ok(producer) => return Some(producer),
                Err(error) => {
                    self.board.trouble(format!("{name} could not connect and tried again: {error}"))
                }
            }
            tokio::select! {
                () = self.stopped() => return None,
                () = tokio::time::sleep(CONNECT_AGAIN_AFTER) => {}
            }
        }
    }

    /// Hands one record to the producer; what is returned completes with its fate.
    async fn send(
        &self,
        producer: &Producer,
        key: &str,
        record: Outgoing,
        json: String,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let Outgoing { source, seq, topic, is_kept } = record;
        self.board.sent_bytes(key.len() + json.len());
        self.board.ledger().sent(source, is_kept);
        let sent = Instant::now();
        let message = Record::to(topic).key(key.to_owned()).value(json).timestamp_ms(wall_ms());
        match producer.send(message).await {
            Ok(delivery) => {
                let board = Arc::clone(&self.board);
                Some(async move {
                    match delivery.await {
                        Ok(_) => {
                            board.ack.record(sent.elapsed());
                            board.ledger().acknowledged(source, seq);
                        }
                        Err(error) => {
                            board.ledger().failed(source, seq, failure(&error));
                            board.trouble(error.to_string());
                        }
                    }
                })
            }
            Err(error) => {
                self.board.ledger().failed(source, seq, Failure::NotWritten);
                self.board.trouble(error.to_string());
                None
            }
        }
    }
}

/// A record and its place in the ledger.
struct Outgoing {
    source: SourceId,
    seq: u32,
    topic: &'static str,
    is_kept: bool,
}

fn failure(error: &DeliveryError) -> Failure {
    if error.may_be_written() { Failure::MayBeWritten } else { Failure::NotWritten }
}

/// All that this machine has to tell now. Reading files may wait, so it is done elsewhere.
async fn sample() -> Vec<(Source, Values)> {
    let read = || {
        let root = Root::machine();
        Source::ALL.iter().filter_map(|source| Some((*source, source.read(&root)?))).collect()
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

async fn close(producer: &Producer) {
    producer.close().await;
    // Other connections of the same socket may still be closing.
    let _ = timeout(CLOSE_WITHIN, producer.client().close()).await;
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_wire::ErrorCode;

    #[test]
    fn a_refused_record_is_not_in_the_log_and_a_forgotten_one_may_be() {
        let refused = DeliveryError::Refused {
            topic: "t".into(),
            partition: 0,
            code: ErrorCode::InvalidRecord,
            message: None,
            may_be_written: false,
        };
        assert_eq!(failure(&refused), Failure::NotWritten);
        assert_eq!(failure(&DeliveryError::Closed), Failure::MayBeWritten);
    }

    #[tokio::test]
    async fn this_machine_has_something_to_tell() {
        let sample = sample().await;
        assert!(sample.iter().any(|(source, values)| *source == Source::Cpu && !values.is_empty()));
    }
}
