//! Devices that dial over QUIC, ask one thing and go, again and again: full handshakes, resumed ones, and first
//! flights that carry the question (0-RTT). Must never keep a connection that it was not told to keep.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::future::join_all;
use millpond_client::{Client, ClientConfig, QuicSocket, Trust};
use tokio::net::UdpSocket;

use crate::error::{BenchError, Context, Outcome};
use crate::latency::Latencies;

/// UDP sockets that the devices share.
const SOCKETS: usize = 4;
/// A dial may take so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a device comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As if for the first time.
    Full,
    /// With the session of the last time, asking when the broker has answered.
    Resumed,
    /// With the session of the last time, asking at once.
    Early,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Full, Self::Resumed, Self::Early];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Early => "0-RTT",
        }
    }
}

/// What devices did.
pub(crate) struct Dials {
    /// From the dial to the first answer.
    pub(crate) latencies: Latencies,
    pub(crate) failures: u64,
    pub(crate) took: Duration,
}

fn client(broker: SocketAddr, way: Way, socket: &QuicSocket) -> Outcome<Client> {
    let config = ClientConfig::new(&format!("quic://{broker}")).context("the broker's address")?;
    // Loopback, and a certificate that the broker made a moment ago.
    let config = config.trust(Trust::InsecureNoVerify).quic_socket(socket.clone());
    let config = config.quic_early_data(way == Way::Early).connect_timeout(PATIENCE);
    Ok(Client::new(config))
}

/// `devices` at a time dial, ask for the cluster and go, for `duration`.
pub(crate) fn again_and_again(
    broker: SocketAddr,
    way: Way,
    devices: usize,
    duration: Duration,
) -> Outcome<Dials> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("a runtime for the devices")?.block_on(async {
        let sockets: Vec<QuicSocket> = (0..SOCKETS).map(|_| QuicSocket::new()).collect();
        let start = Instant::now();
        let loops = (0..devices).map(|index| {
            let socket = sockets.get(index % SOCKETS).cloned().unwrap_or_default();
            async move {
                let mut mine = Latencies::new()?;
                let mut failures = 0;
                let mut device = client(broker, way, &socket)?;
                // The first dial is a full one whatever the way.
                device.refresh(&[], false).await.context("a first dial")?;
                while start.elapsed() < duration {
                    device.close().await;
                    if way == Way::Full {
                        device = client(broker, way, &socket)?;
                    }
                    let dialled = Instant::now();
                    match device.refresh(&[], false).await {
                        Ok(_) => mine.record(dialled.elapsed()),
                        Err(_) => failures += 1,
                    }
                }
                device.close().await;
                Outcome::Ok((mine, failures))
            }
        });
        let mut dials = Dials { latencies: Latencies::new()?, failures: 0, took: Duration::ZERO };
        for one in join_all(loops).await {
            let (latencies, failures) = one?;
            dials.latencies.merge(&latencies)?;
            dials.failures += failures;
        }
        dials.took = start.elapsed();
        Ok(dials)
    })
}

/// Handshakes of devices that all come at the same moment, wave after wave, until it is told to end.
pub(crate) struct Waves {
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<Outcome<u64>>,
}

impl Waves {
    /// Begins; each wave has `devices`.
    pub(crate) fn start(broker: SocketAddr, devices: usize) -> Self {
        let (is_over, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (over, counted) = (Arc::clone(&is_over), Arc::clone(&done));
        let thread = std::thread::spawn(move || waves(broker, devices, &over, &counted));
        Self { is_over, done, thread }
    }

    /// Ends; the handshakes that were done, and those that failed.
    pub(crate) fn end(self) -> Outcome<(u64, u64)> {
        self.is_over.store(true, Relaxed);
        let failed =
            self.thread.join().map_err(|_| BenchError::new("waves", "they panicked"))??;
        Ok((self.done.load(Relaxed), failed))
    }
}

fn waves(
    broker: SocketAddr,
    devices: usize,
    is_over: &AtomicBool,
    done: &AtomicU64,
) -> Outcome<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("a runtime for waves")?.block_on(async {
        let sockets: Vec<QuicSocket> = (0..SOCKETS).map(|_| QuicSocket::new()).collect();
        let mut failed = 0;
        while !is_over.load(Relaxed) {
            let dials = (0..devices).map(|index| {
                let socket = sockets.get(index % SOCKETS).cloned().unwrap_or_default();
                async move {
                    let device = client(broker, Way::Full, &socket)?;
                    let is_done = device.refresh(&[], false).await.is_ok();
                    device.close().await;
                    Outcome::Ok(is_done)
                }
            });
            for is_done in join_all(dials).await {
                let is_done = is_done?;
                done.fetch_add(u64::from(is_done), Relaxed);
                failed += u64::from(!is_done);
            }
        }
        Ok(failed)
    })
}

/// Median time from the dial to the first answer over a path with `delay` each way, by way; in round trips.
pub(crate) fn round_trips(broker: SocketAddr, delay: Duration, tries: usize) -> Outcome<[f64; 3]> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("a runtime for the path")?.block_on(async {
        let near = UdpSocket::bind("127.0.0.1:0").await.context("the path's socket")?;
        let path = near.local_addr().context("the path's address")?;
        let far = UdpSocket::bind("127.0.0.1:0").await.context("the path's socket")?;
        far.connect(broker).await.context("the path's socket")?;
        let relay = tokio::spawn(relay(Arc::new(near), Arc::new(far), delay));
        let mut trips = [0.0; 3];
        for (way, trips) in Way::ALL.into_iter().zip(&mut trips) {
            let socket = QuicSocket::new();
            let mut latencies = Latencies::new()?;
            let mut device = client(path, way, &socket)?;
            device.refresh(&[], false).await.context("a first dial")?;
            for _ in 0..tries {
                tokio::time::sleep(delay * 4).await;
                device.close().await;
                if way == Way::Full {
                    device = client(path, way, &socket)?;
                }
                let dialled = Instant::now();
                device.refresh(&[], false).await.context("a dial over the path")?;
                latencies.record(dialled.elapsed());
            }
            device.close().await;
            *trips = latencies.quantile_us(0.5) / 1e6 / (2.0 * delay.as_secs_f64());
        }
        relay.abort();
        Ok(trips)
    })
}

/// Carries datagrams of one peer at a time, each a while later.
async fn relay(near: Arc<UdpSocket>, far: Arc<UdpSocket>, delay: Duration) {
    let (mut out, mut back) = (vec![0; 65_536], vec![0; 65_536]);
    let mut peer = None;
    loop {
        tokio::select! {
            Ok((count, from)) = near.recv_from(&mut out) => {
                peer = Some(from);
                let (datagram, far) = (out.get(..count).unwrap_or_default().to_vec(), Arc::clone(&far));
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    far.send(&datagram).await
                });
            }
            Ok(count) = far.recv(&mut back) => {
                let Some(peer) = peer else { continue };
                let (datagram, near) = (back.get(..count).unwrap_or_default().to_vec(), Arc::clone(&near));
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    near.send_to(&datagram, peer).await
                });
            }
        }
    }
}
