//! Kafka over QUIC: one UDP socket per client (or shared by many), one QUIC connection per broker,
//! one bidirectional stream per lane, so that a slow partition never blocks another.
//!
//! It never lets the broker open streams of its own; what it sends before the broker answers is
//! `resumption`'s business.

use crate::config::ClientConfig;
use crate::error::ConnectError;
use crate::resumption::{Gate, Resumption};
use crate::url::{BrokerUrl, Scheme};
use quinn::{Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Asked of the system for each direction of the UDP socket; it may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// What a broker may send on one stream before it is read: a large part of one fetch.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// What a broker may send on all streams of a connection before it is read.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// What is kept unacknowledged for one connection.
const SEND_WINDOW_BYTES: u64 = 2 * 1024 * 1024;

/// How long a broker may take to answer early data where TLS over TCP is another way.
const ANSWER_WITHIN_HEAD_STARTS: u32 = 4;

/// A UDP socket for QUIC. Clones share it; it binds (to any free port) when it is first used, on
/// the runtime that uses it first.
#[derive(Clone, Debug, Default)]
pub struct QuicSocket {
    endpoints: Arc<Mutex<Endpoints>>,
}

#[derive(Debug, Default)]
struct Endpoints {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

impl QuicSocket {
    /// A socket that is bound at its first use.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds anew, to any free port of whatever network is there now; connections live on and tell
    /// their brokers of the new address (RFC 9000, section 9). For a device that knows that it went
    /// from one network to another; without it the loss is found out in time.
    ///
    /// # Errors
    /// If the system gives no socket; those in use stay.
    pub fn rebind(&self) -> io::Result<()> {
        for endpoint in self.bound() {
            let local = match endpoint.local_addr()? {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            endpoint.rebind(socket(local)?.into())?;
        }
        Ok(())
    }

    fn endpoint(&self, remote: SocketAddr) -> io::Result<Endpoint> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let (slot, local): (_, SocketAddr) = match remote {
            SocketAddr::V4(_) => (&mut endpoints.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&mut endpoints.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        if let Some(endpoint) = slot {
            return Ok(endpoint.clone());
        }
        Ok(slot.insert(bind(local)?).clone())
    }

    fn bound(&self) -> Vec<Endpoint> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        [&endpoints.v4, &endpoints.v6].into_iter().flatten().cloned().collect()
    }

    /// Waits until the closing of every connection has been told to its broker.
    pub(crate) async fn wait_idle(&self) {
        for endpoint in self.bound() {
            endpoint.wait_idle().await;
        }
    }
}

fn bind(local: SocketAddr) -> io::Result<Endpoint> {
    let runtime = quinn::default_runtime()
        .ok_or_else(|| io::Error::other("QUIC must be used inside a tokio runtime"))?;
    Endpoint::new(EndpointConfig::default(), None, socket(local)?.into(), runtime)
}

fn socket(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: the system's own ceiling is often lower, and smaller buffers only cost speed.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&local.into())?;
    Ok(socket)
}

/// The QUIC connections of one client.
#[derive(Debug)]
pub(crate) struct QuicLines {
    socket: QuicSocket,
    resumption: Arc<Resumption>,
    /// How long a broker may take to answer, once something was sent before its answer.
    answer_within: Duration,
    lines: Mutex<HashMap<BrokerUrl, Line>>,
}

/// One broker's connection; the lock is held while it is dialled, so that lanes share one dial.
type Line = Arc<tokio::sync::Mutex<Option<Reached>>>;

/// A broker was reached, or (`gate`) is believed to be where it was.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    pub(crate) connection: quinn::Connection,
    pub(crate) gate: Option<Gate>,
}

impl QuicLines {
    /// Lines with the trust in `tls` and the timers in `config`.
    pub(crate) fn new(
        config: &ClientConfig,
        tls: Arc<rustls::ClientConfig>,
    ) -> Result<Self, String> {
        // A login goes to nobody who has not answered.
        let is_wished = config.quic_early_data && config.login.is_none();
        let resumption = Resumption::new(tls, transport(config)?, is_wished)?;
        // Where there is another way, a path that is blocked must not hold it up for long.
        let is_only_way = config.bootstrap.iter().all(|broker| broker.scheme == Scheme::Quic);
        let answer_within = match is_only_way {
            true => config.connect_timeout,
            false => config.quic_head_start * ANSWER_WITHIN_HEAD_STARTS,
        };
        Ok(Self {
            socket: config.quic_socket.clone().unwrap_or_default(),
            resumption: Arc::new(resumption),
            answer_within,
            lines: Mutex::default(),
        })
    }

    /// Opens a stream to `broker`, dialling it if there is no live connection.
    pub(crate) async fn open(
        &self,
        broker: &BrokerUrl,
        addresses: &[SocketAddr],
    ) -> Result<(quinn::SendStream, quinn::RecvStream, Reached), ConnectError> {
        let reached = self.reached(broker, addresses).await?;
        let opened = reached.connection.open_bi().await;
        let (write, read) = opened.map_err(|error| fault(broker, &error))?;
        Ok((write, read, reached))
    }

    /// The connection to `broker`, dialled if there is no live one. It has answered.
    pub(crate) async fn connection(
        &self,
        broker: &BrokerUrl,
        addresses: &[SocketAddr],
    ) -> Result<quinn::Connection, ConnectError> {
        let Reached { connection, gate } = self.reached(broker, addresses).await?;
        if let Some(mut gate) = gate {
            gate.answer().await;
        }
        Ok(connection)
    }

    async fn reached(
        &self,
        broker: &BrokerUrl,
        addresses: &[SocketAddr],
    ) -> Result<Reached, ConnectError> {
        let line = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lines.entry(broker.clone()).or_default())
        };
        let mut line = line.lock().await;
        if let Some(live) = line.as_ref().filter(|live| live.connection.close_reason().is_none()) {
            return Ok(live.clone());
        }
        let dial = |address| self.dial(broker, address);
        let reached = crate::transport::race(broker, addresses, dial).await?;
        *line = Some(reached.clone());
        Ok(reached)
    }

    async fn dial(&self, broker: &BrokerUrl, address: SocketAddr) -> Result<Reached, ConnectError> {
        let endpoint = self.socket.endpoint(address).map_err(|source| ConnectError::Io {
            broker: broker.clone(),
            source: Arc::new(source),
        })?;
        let (config, may_be_early) = self.resumption.dial(broker, address);
        let connecting = endpoint.connect_with(config, address, &broker.host).map_err(|error| {
            ConnectError::Handshake { broker: broker.clone(), reason: error.to_string() }
        })?;
        let connecting = match may_be_early {
            false => connecting,
            true => match connecting.into_0rtt() {
                Ok((connection, accepted)) => {
                    let within = self.answer_within;
                    let gate = Gate::watch(&self.resumption, broker, &connection, accepted, within);
                    return Ok(Reached { connection, gate: Some(gate) });
                }
                Err(connecting) => connecting,
            },
        };
        let connection = connecting.await.map_err(|error| fault(broker, &error))?;
        self.resumption.began(broker, address);
        Ok(Reached { connection, gate: None })
    }

    /// What is kept of brokers.
    pub(crate) fn resumption(&self) -> &Resumption {
        &self.resumption
    }

    /// Drops the connection to `broker`; lanes that still use it keep it until they end.
    pub(crate) fn forget(&self, broker: &BrokerUrl) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.remove(broker);
    }

    /// Closes every connection and waits until the brokers have been told.
    pub(crate) async fn close(&self) {
        let lines: Vec<Line> = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.drain().map(|(_, line)| line).collect()
        };
        for line in lines {
            if let Some(reached) = line.lock().await.take() {
                reached.connection.close(VarInt::from_u32(0), b"client closed");
            }
        }
    }

    /// The socket in use.
    pub(crate) fn socket(&self) -> &QuicSocket {
        &self.socket
    }
}

fn transport(config: &ClientConfig) -> Result<TransportConfig, String> {
    let idle = IdleTimeout::try_from(config.quic_idle_timeout)
        .map_err(|_| "the QUIC idle timeout is too long".to_owned())?;
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(config.quic_keep_alive)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        // None would forbid sending too. What a broker sends is dropped: it has nothing to say so.
        .datagram_receive_buffer_size(Some(0))
        .congestion_controller_factory(config.quic_congestion.factory())
        .initial_rtt(Duration::from_millis(100));
    Ok(transport)
}

/// Tells a failed handshake from a line that broke.
fn fault(broker: &BrokerUrl, error: &quinn::ConnectionError) -> ConnectError {
    use quinn::ConnectionError::{ConnectionClosed, TransportError, VersionMismatch};
    match error {
        TransportError(_) | VersionMismatch | ConnectionClosed(_) => {
            ConnectError::Handshake { broker: broker.clone(), reason: error.to_string() }
        }
        other => {
            ConnectError::Io { broker: broker.clone(), source: Arc::new(other.clone().into()) }
        }
    }
}
