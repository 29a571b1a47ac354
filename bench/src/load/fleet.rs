//! Many devices: each a QUIC connection of its own and an idempotent producer of the SDK, one
//! record to a batch. A device waits for the answer before its next record; one that is late
//! skips, and is counted.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use millpond_client::{ClientConfig, Producer, QuicSocket, Record, Trust};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep_until};

use crate::error::{Context, Outcome};
use crate::latency::Latencies;
use crate::payload::Telemetry;

/// Devices that connect at the same time.
const HANDSHAKES_AT_ONCE: usize = 32;
/// UDP sockets that the devices share.
const SOCKETS: usize = 4;
/// For goodbyes to be sent.
const GOODBYE: Duration = Duration::from_millis(50);

/// Connected devices.
pub(crate) struct Fleet {
    devices: Vec<Device>,
    // Last: what is above is dropped within it.
    runtime: Runtime,
}

struct Device {
    producer: Producer,
    topic: Arc<str>,
    partition: i32,
    number: usize,
    value_bytes: usize,
    telemetry: Rc<RefCell<Telemetry>>,
}

/// What a fleet did.
#[derive(Debug)]
pub(crate) struct FleetRun {
    /// Acknowledged records.
    pub(crate) records: u64,
    /// Records that were due and not sent, since the one before was not answered.
    pub(crate) skipped: u64,
    /// From when each was due to its answer.
    pub(crate) latencies: Latencies,
}

impl Fleet {
    /// Connects `count` devices; each has sent one record when this returns.
    pub(crate) fn connect(
        broker: SocketAddr,
        topic: &str,
        partitions: usize,
        (count, value_bytes): (usize, usize),
    ) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("a runtime for the devices")?;
        let sockets: Vec<QuicSocket> = (0..SOCKETS).map(|_| QuicSocket::new()).collect();
        let telemetry = Rc::new(RefCell::new(Telemetry::new(0x666c_6565)));
        let topic: Arc<str> = topic.into();
        let devices = runtime.block_on(async {
            let mut devices = Vec::with_capacity(count);
            for first in (0..count).step_by(HANDSHAKES_AT_ONCE) {
                let group = first..count.min(first + HANDSHAKES_AT_ONCE);
                let group = group.map(|index| {
                    let config = ClientConfig::new(&format!("quic://{broker}"));
                    let telemetry = Rc::clone(&telemetry);
                    let socket = sockets.get(index % SOCKETS).cloned().unwrap_or_default();
                    let (topic, partition) = (Arc::clone(&topic), index % partitions.max(1));
                    async move {
                        let config = config.context("the broker's address")?;
                        // Loopback, and a certificate that the broker made a moment ago.
                        let config = config.trust(Trust::InsecureNoVerify).quic_socket(socket);
                        let partition = i32::try_from(partition).context("a partition")?;
                        let producer = Producer::builder().linger(Duration::ZERO);
                        let producer = producer.connect(config).await;
                        let producer = producer.context("connecting a device")?;
                        let number = index;
                        let device =
                            Device { producer, topic, partition, number, value_bytes, telemetry };
                        device.send().await?;
                        Outcome::Ok(device)
                    }
                });
                devices.extend(try_join_all(group).await?);
            }
            Outcome::Ok(devices)
        })?;
        Ok(Self { devices, runtime })
    }

    /// Every device sends `per_second` records a second, evenly spread, for `duration`.
    pub(crate) fn run(&self, per_second: f64, duration: Duration) -> Outcome<FleetRun> {
        self.runtime.block_on(async {
            let (records, skipped) = (Cell::new(0), Cell::new(0));
            let latencies = RefCell::new(Latencies::new()?);
            let period = Duration::from_secs_f64(1.0 / per_second);
            let start = Instant::now();
            let until = start + duration;
            let count = u32::try_from(self.devices.len()).context("devices")?.max(1);
            let devices = self.devices.iter().zip(0_u32..).map(|(device, index)| {
                let first = start + period * index / count;
                let (records, skipped, latencies) = (&records, &skipped, &latencies);
                async move {
                    let mut due = first;
                    while due < until {
                        sleep_until(due).await;
                        device.send().await?;
                        records.set(records.get() + 1);
                        latencies.borrow_mut().record(due.elapsed());
                        due += period;
                        while due + period < Instant::now() {
                            skipped.set(skipped.get() + 1);
                            due += period;
                        }
                    }
                    Outcome::Ok(())
                }
            });
            try_join_all(devices).await?;
            Ok(FleetRun {
                records: records.get(),
                skipped: skipped.get(),
                latencies: latencies.into_inner(),
            })
        })
    }

    /// Every device sends its next record as soon as the one before is answered, for `duration`.
    pub(crate) fn run_flat_out(&self, duration: Duration) -> Outcome<FleetRun> {
        self.runtime.block_on(async {
            let records = Cell::new(0);
            let latencies = RefCell::new(Latencies::new()?);
            let until = Instant::now() + duration;
            let devices = self.devices.iter().map(|device| async {
                while Instant::now() < until {
                    let sent = Instant::now();
                    device.send().await?;
                    records.set(records.get() + 1);
                    latencies.borrow_mut().record(sent.elapsed());
                }
                Outcome::Ok(())
            });
            try_join_all(devices).await?;
            Ok(FleetRun { records: records.get(), skipped: 0, latencies: latencies.into_inner() })
        })
    }

    /// Disconnects every device as a good client does.
    pub(crate) fn close(self) {
        self.runtime.block_on(async {
            let close = self.devices.iter().map(|device| async {
                device.producer.close().await;
                device.producer.client().close().await;
            });
            futures::future::join_all(close).await;
            // The goodbyes leave by the shared sockets.
            tokio::time::sleep(GOODBYE).await;
        });
    }

    /// Lets time pass for the connections, for as long as nobody sends.
    pub(crate) fn idle(&self, duration: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(duration).await });
    }
}

impl Device {
    async fn send(&self) -> Outcome<()> {
        let record = Record::to(Arc::clone(&self.topic));
        let value = self.telemetry.borrow_mut().reading(self.number, self.value_bytes);
        let record = record.partition(self.partition).value(Bytes::from(value));
        let sent = self.producer.send(record).await.context("a device's record")?;
        sent.await.context("a device's record").map(drop)
    }
}
