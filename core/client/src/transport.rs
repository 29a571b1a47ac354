//! The bytes below the Kafka protocol: TCP, TLS over TCP, or one stream of a QUIC connection,
//! behind one pair of halves.
//!
//! It knows nothing of frames, and never falls back from a protected line to a plain one.

use crate::config::ClientConfig;
use crate::connection::Versions;
use crate::error::ConnectError;
use crate::path::{Paths, Patience, Way};
use crate::quic::{QuicLines, Reached};
use crate::resumption::{EarlyRead, EarlyWrite, early_lane};
use crate::url::{BrokerUrl, Scheme};
use bytes::{Buf, Bytes, BytesMut};
use futures::future::Either;
use futures::stream::{FuturesUnordered, StreamExt};
use rustls_pki_types::ServerName;
use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;

/// The next address of a host is tried when the ones before have not answered for so long
/// (RFC 8305, section 5).
const ADDRESS_STAGGER: Duration = Duration::from_millis(250);
/// Most addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;
/// Pieces given to one vectored write.
const IO_SLICES_MAX: usize = 64;

/// Makes lines to brokers, with one trust and one UDP socket.
#[derive(Debug)]
pub(crate) struct Connector {
    lines: Arc<Lines>,
}

/// What the connector shares with those who probe for it.
#[derive(Debug)]
struct Lines {
    config: ClientConfig,
    quic: OnceCell<QuicLines>,
    paths: Mutex<Paths>,
    /// By broker: what its lanes over TLS look at.
    outdated: Mutex<HashMap<BrokerUrl, Arc<AtomicBool>>>,
    /// Ended with the last handle.
    probers: Mutex<HashMap<BrokerUrl, AbortHandle>>,
}

impl Drop for Lines {
    fn drop(&mut self) {
        let probers = self.probers.get_mut().unwrap_or_else(PoisonError::into_inner);
        probers.values().for_each(AbortHandle::abort);
    }
}

/// A lane: its two sides, and what it runs over.
#[derive(Debug)]
pub(crate) struct Halves {
    pub(crate) read: ReadHalf,
    pub(crate) write: WriteHalf,
    pub(crate) over: Scheme,
    /// Becomes true when there is a better way to this broker.
    pub(crate) outdated: Arc<AtomicBool>,
    /// What the broker speaks, where that is known without asking.
    pub(crate) versions: Option<Arc<Versions>>,
}

impl Halves {
    fn new(over: Scheme, read: ReadHalf, write: WriteHalf) -> Self {
        Self { read, write, over, outdated: Arc::default(), versions: None }
    }
}

impl Connector {
    pub(crate) fn new(config: ClientConfig) -> Self {
        let patience =
            Patience { head_start: config.quic_head_start, probe: config.quic_probe_interval };
        Self {
            lines: Arc::new(Lines {
                config,
                quic: OnceCell::new(),
                paths: Mutex::new(Paths::new(patience)),
                outdated: Mutex::default(),
                probers: Mutex::default(),
            }),
        }
    }

    /// Opens a new lane to `broker`. Its time is the caller's to bound.
    pub(crate) async fn open(&self, broker: &BrokerUrl) -> Result<Halves, ConnectError> {
        let addresses = resolve(broker).await?;
        let lines = &self.lines;
        match broker.scheme {
            Scheme::Tcp => {
                let (read, write) = tcp(broker, &addresses).await?.into_split();
                Ok(Halves::new(Scheme::Tcp, ReadHalf::Tcp(read), WriteHalf::Tcp(write)))
            }
            Scheme::Tls => lines.over_tls(broker, &addresses).await,
            Scheme::Quic => lines.over_quic(broker, &addresses).await,
            Scheme::Either => either(lines, broker, &addresses).await,
        }
    }

    /// The QUIC connection to `broker`; none where it is reached otherwise.
    pub(crate) async fn quic_connection(
        &self,
        broker: &BrokerUrl,
    ) -> Result<Option<quinn::Connection>, ConnectError> {
        let is_quic = match broker.scheme {
            Scheme::Quic => true,
            Scheme::Either => self.lines.paths().plan(broker).first == Way::Quic,
            Scheme::Tcp | Scheme::Tls => false,
        };
        if !is_quic {
            return Ok(None);
        }
        let addresses = resolve(broker).await?;
        let lines = self.lines.quic.get_or_try_init(|| self.lines.quic_lines(broker)).await?;
        lines.connection(broker, &addresses).await.map(Some)
    }

    /// Says goodbye to the brokers where the transport has a way to.
    pub(crate) async fn close(&self) {
        if let Some(lines) = self.lines.quic.get() {
            lines.close().await;
            // A shared socket may never be idle.
            if self.lines.config.quic_socket.is_none() {
                lines.socket().wait_idle().await;
            }
        }
    }

    /// What `broker` speaks, for dials to come.
    pub(crate) fn learned(&self, broker: &BrokerUrl, versions: &Arc<Versions>) {
        if let Some(lines) = self.lines.quic.get() {
            lines.resumption().learned(broker, versions);
        }
    }

    /// Forgets the QUIC connection to `broker`: what is opened next dials anew.
    pub(crate) fn distrust(&self, broker: &BrokerUrl) {
        if let Some(lines) = self.lines.quic.get() {
            lines.forget(broker);
        }
    }
}

/// Tries the likelier way first, the other one when that fails or takes its time.
async fn either(
    lines: &Arc<Lines>,
    broker: &BrokerUrl,
    addresses: &[SocketAddr],
) -> Result<Halves, ConnectError> {
    let plan = lines.paths().plan(broker);
    let dial = |way| async move {
        match way {
            Way::Quic => lines.over_quic(broker, addresses).await,
            Way::Tls => lines.over_tls(broker, addresses).await,
        }
    };
    let second = match plan.first {
        Way::Quic => Way::Tls,
        Way::Tls => Way::Quic,
    };
    let mut first = std::pin::pin!(dial(plan.first));
    let early = tokio::time::timeout(plan.head_start, first.as_mut()).await;
    let outcome = match early {
        Ok(Ok(halves)) => Ok(halves),
        Ok(Err(error)) => dial(second).await.map_err(|other| telling(error, other)),
        Err(_) => {
            let second = std::pin::pin!(dial(second));
            match futures::future::select(first, second).await {
                Either::Left((Ok(halves), _)) | Either::Right((Ok(halves), _)) => Ok(halves),
                Either::Left((Err(error), rest)) => rest.await.map_err(|e| telling(error, e)),
                Either::Right((Err(error), rest)) => rest.await.map_err(|e| telling(error, e)),
            }
        }
    };
    let halves = outcome?;
    let way = if halves.over == Scheme::Quic { Way::Quic } else { Way::Tls };
    let must_probe = lines.paths().took(broker, way);
    if must_probe {
        tracing::info!(%broker, "UDP does not pass: TLS over TCP serves, QUIC is probed");
        Lines::probe(lines, broker);
    }
    Ok(lines.watched(broker, halves))
}

/// Of two errors the one that says more: a certificate that is not trusted rather than a timeout.
fn telling(one: ConnectError, other: ConnectError) -> ConnectError {
    if one.is_retriable() { other } else { one }
}

impl Lines {
    fn paths(&self) -> MutexGuard<'_, Paths> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn over_quic(
        &self,
        broker: &BrokerUrl,
        addresses: &[SocketAddr],
    ) -> Result<Halves, ConnectError> {
        let lines = self.quic.get_or_try_init(|| self.quic_lines(broker)).await?;
        let (write, read, reached) = lines.open(broker, addresses).await?;
        let Reached { connection, gate } = reached;
        // Of a stream that was opened before the answer all is void if that is a refusal, of another nothing.
        let Some(gate) = gate.filter(|_| read.is_0rtt()) else {
            return Ok(Halves::new(Scheme::Quic, ReadHalf::Quic(read), WriteHalf::Quic(write)));
        };
        let (read, write) = early_lane(connection, gate, (write, read));
        let (read, write) = (ReadHalf::Early(read), WriteHalf::Early(write));
        let versions = lines.resumption().versions(broker);
        Ok(Halves { versions, ..Halves::new(Scheme::Quic, read, write) })
    }

    async fn over_tls(
        &self,
        broker: &BrokerUrl,
        addresses: &[SocketAddr],
    ) -> Result<Halves, ConnectError> {
        let stream = self.tls(broker, addresses).await?;
        let (read, write) = tokio::io::split(stream);
        Ok(Halves::new(Scheme::Tls, ReadHalf::Tls(read), WriteHalf::Tls(write)))
    }

    async fn quic_lines(&self, broker: &BrokerUrl) -> Result<QuicLines, ConnectError> {
        QuicLines::new(&self.config, self.tls_config(broker)?)
            .map_err(|reason| ConnectError::Handshake { broker: broker.clone(), reason })
    }

    fn tls_config(&self, broker: &BrokerUrl) -> Result<Arc<rustls::ClientConfig>, ConnectError> {
        self.config
            .trust
            .tls(self.config.certificate.as_ref())
            .map_err(|source| ConnectError::Trust { broker: broker.clone(), source })
    }

    async fn tls(
        &self,
        broker: &BrokerUrl,
        addresses: &[SocketAddr],
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let handshake = |reason: String| ConnectError::Handshake { broker: broker.clone(), reason };
        let config = self.tls_config(broker)?;
        let name = ServerName::try_from(broker.host.clone())
            .map_err(|_| handshake("the host is no name that a certificate can have".to_owned()))?;
        let stream = tcp(broker, addresses).await?;
        tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
            match error.kind() {
                io::ErrorKind::InvalidData => handshake(error.to_string()),
                _ => io_fault(broker, error),
            }
        })
    }

    /// Marks a lane over TLS as one to be left when QUIC is back.
    fn watched(&self, broker: &BrokerUrl, mut halves: Halves) -> Halves {
        let mut outdated = self.outdated();
        if halves.over == Scheme::Tls {
            halves.outdated = Arc::clone(outdated.entry(broker.clone()).or_default());
        }
        halves
    }

    /// Tries QUIC from time to time until it comes about; then the lanes over TLS are outdated.
    fn probe(lines: &Arc<Self>, broker: &BrokerUrl) {
        let (weak, broker) = (Arc::downgrade(lines), broker.clone());
        let key = broker.clone();
        let prober = tokio::spawn(async move {
            loop {
                let chance = RandomState::new().build_hasher().finish();
                let Some(lines) = weak.upgrade() else { return };
                let Some(pause) = lines.paths().next_probe(&broker, chance) else { return };
                drop(lines);
                tokio::time::sleep(pause).await;
                let Some(lines) = weak.upgrade() else { return };
                let dial = async {
                    let addresses = resolve(&broker).await?;
                    lines.over_quic(&broker, &addresses).await
                };
                match tokio::time::timeout(lines.config.connect_timeout, dial).await {
                    Ok(Ok(_)) => {
                        tracing::info!(%broker, "UDP passes again: QUIC serves");
                        lines.paths().took(&broker, Way::Quic);
                        if let Some(lanes) = lines.outdated().remove(&broker) {
                            lanes.store(true, Ordering::Release);
                        }
                        return;
                    }
                    _ => lines.paths().probe_failed(&broker),
                }
            }
        });
        let mut probers = lines.probers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = probers.insert(key, prober.abort_handle()) {
            before.abort();
        }
    }

    fn outdated(&self) -> MutexGuard<'_, HashMap<BrokerUrl, Arc<AtomicBool>>> {
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn resolve(broker: &BrokerUrl) -> Result<Vec<SocketAddr>, ConnectError> {
    let fault = |reason: String| ConnectError::Resolve { broker: broker.clone(), reason };
    let found = tokio::net::lookup_host((broker.host.as_str(), broker.port))
        .await
        .map_err(|error| fault(error.to_string()))?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(fault("it has no address".to_owned()));
    }
    Ok(addresses)
}

async fn tcp(broker: &BrokerUrl, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    race(broker, addresses, |address| async move {
        let stream = TcpStream::connect(address).await;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        stream.map_err(|error| io_fault(broker, error))
    })
    .await
}

/// Tries the addresses of a host one after the other, each a little later than the one before,
/// and keeps the first that answers.
pub(crate) async fn race<T, F>(
    broker: &BrokerUrl,
    addresses: &[SocketAddr],
    dial: impl Fn(SocketAddr) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    let mut dials = FuturesUnordered::new();
    let mut next = addresses.iter();
    let mut last = None;
    loop {
        match next.next() {
            Some(address) => dials.push(dial(*address)),
            None if dials.is_empty() => break,
            None => {}
        }
        tokio::select! {
            Some(outcome) = dials.next() => match outcome {
                Ok(connected) => return Ok(connected),
                Err(error) => last = Some(error),
            },
            () = tokio::time::sleep(ADDRESS_STAGGER), if next.len() > 0 => {}
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::Resolve {
        broker: broker.clone(),
        reason: "it has no address".to_owned(),
    }))
}

fn io_fault(broker: &BrokerUrl, error: io::Error) -> ConnectError {
    ConnectError::Io { broker: broker.clone(), source: Arc::new(error) }
}

/// The side that brings responses.
#[derive(Debug)]
pub(crate) enum ReadHalf {
    Tcp(OwnedReadHalf),
    Tls(tokio::io::ReadHalf<TlsStream<TcpStream>>),
    Quic(quinn::RecvStream),
    /// The same, opened before the broker answered.
    Early(EarlyRead),
}

impl ReadHalf {
    /// Reads what is there into `buffer`; 0 means the end. Cancellation-safe.
    pub(crate) async fn read_into(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.read_buf(buffer).await,
            Self::Tls(half) => half.read_buf(buffer).await,
            Self::Quic(half) => half.read_buf(buffer).await,
            Self::Early(half) => half.read_into(buffer).await,
        }
    }
}

/// The side that takes requests.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    Tls(tokio::io::WriteHalf<TlsStream<TcpStream>>),
    Quic(quinn::SendStream),
    /// The same, opened before the broker answered.
    Early(EarlyWrite),
}

impl WriteHalf {
    /// Waits until the broker has answered.
    pub(crate) async fn confirmed(&mut self) {
        if let Self::Early(half) = self {
            half.confirmed().await;
        }
    }

    /// Writes all of `chunks`, in order. Not cancellation-safe: drop the line with the future.
    pub(crate) async fn write_all(&mut self, chunks: &mut Vec<Bytes>) -> io::Result<()> {
        match self {
            Self::Tcp(half) => write_vectored(half, chunks).await?,
            Self::Tls(half) => {
                for chunk in chunks.iter() {
                    half.write_all(chunk).await?;
                }
                half.flush().await?;
            }
            Self::Quic(half) => half.write_all_chunks(chunks).await?,
            Self::Early(half) => half.write_all(chunks).await?,
        }
        chunks.clear();
        Ok(())
    }
}

async fn write_vectored(half: &mut OwnedWriteHalf, chunks: &mut [Bytes]) -> io::Result<()> {
    let mut rest = chunks;
    loop {
        let done = rest.iter().take_while(|chunk| chunk.is_empty()).count();
        rest = rest.get_mut(done..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); IO_SLICES_MAX];
        for (slice, chunk) in slices.iter_mut().zip(rest.iter()) {
            *slice = IoSlice::new(chunk);
        }
        let mut written = half.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        for chunk in rest.iter_mut() {
            let part = written.min(chunk.len());
            chunk.advance(part);
            written -= part;
            if written == 0 {
                break;
            }
        }
    }
}
