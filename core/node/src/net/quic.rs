//! Kafka over QUIC: each bidirectional stream is a Kafka connection, so a slow one never blocks
//! another; datagrams are telemetry. Connections, streams and windows are capped so that an idle device costs little.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use millpond_engine::ListenerId;
use millpond_security::{CertificateNames, with_early_data};
use millpond_wire::limits::{
    QUIC_CONNECTION_WINDOW_BYTES, QUIC_HANDSHAKES_MAX, QUIC_HANDSHAKES_UNPROVED_MAX,
    QUIC_INCOMING_BYTES_MAX, QUIC_INCOMING_MAX, QUIC_STREAM_WINDOW_BYTES,
    TELEMETRY_WAITING_BYTES_MAX,
};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connecting, Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::admission::Refused;
use super::early::{CODE_UNCONFIRMED, Handshake};
use super::{
    Admission, Chain, Force, Shown, Wiring, certified, fallen, quic_transport, serve_connection,
    serve_telemetry,
};
use crate::config::CongestionChoice;
use crate::metrics::{ConnectionKind, Refusal};
use crate::serve::EngineHandle;

/// A connection that shows no sign of life for so long is gone. Shorter than most NAT mappings
/// would allow, since devices that must stay reachable send keep-alives anyway.
const SILENCE_MAX_MS: u32 = 60_000;
/// Handshake data that may arrive out of order.
const CRYPTO_BUFFER_BYTES: usize = 16 * 1024;
/// Above this share of the connections allowed, new peers must prove their address first (RFC 9000
/// 8.1.2).
const RETRY_ABOVE_PER_CENT: usize = 50;
/// Streams that a connection may have before it has opened any: for each there is a place in memory
/// from the start, and most devices need two.
const STREAMS_AT_FIRST: u32 = 8;
/// Why we close: the node stops.
const CODE_STOPPING: VarInt = VarInt::from_u32(0);
/// Why we close: the certificate of the client does not count any more.
const CODE_CERTIFICATE: VarInt = VarInt::from_u32(2);

/// Completes when a certificate does not count any more.
type Fallen = BoxFuture<'static, ()>;

/// A bound endpoint and what its connections need.
pub(crate) struct QuicDoor {
    endpoint: Endpoint,
    id: ListenerId,
    admission: Arc<Admission>,
    wiring: Arc<Wiring>,
    names: Option<Arc<CertificateNames>>,
    force: Force,
    transport: Arc<TransportConfig>,
    retry_above: usize,
    streams_max: u32,
    /// Sessions that are remembered for early data; 0: none is taken.
    sessions_max: usize,
    /// Turns for handshakes.
    turns: Arc<Semaphore>,
}

/// What the endpoint is made of.
pub(crate) struct QuicSettings {
    pub(crate) id: ListenerId,
    pub(crate) force: Force,
    pub(crate) endpoint: EndpointConfig,
    pub(crate) connections_max: usize,
    pub(crate) streams_max: u32,
    /// Sessions that are remembered for early data; 0: none is taken.
    pub(crate) sessions_max: usize,
    /// How the certificate of a client names it.
    pub(crate) names: Option<Arc<CertificateNames>>,
    /// By what it decides how fast to send.
    pub(crate) congestion: CongestionChoice,
}

impl QuicDoor {
    /// Takes over a bound socket. Must be called within the runtime that is to serve it.
    ///
    /// # Errors
    /// If TLS cannot be used for QUIC, or the socket cannot.
    pub(crate) fn new(
        socket: std::net::UdpSocket,
        settings: QuicSettings,
        admission: Arc<Admission>,
        wiring: Arc<Wiring>,
    ) -> std::io::Result<Self> {
        // Who has to log in does so on a stream; a datagram shows nobody, nor does a first flight.
        let asks = wiring.logins.door(settings.id).is_some();
        let sessions_max = if asks { 0 } else { settings.sessions_max };
        let mut transport = transport(settings.streams_max.min(STREAMS_AT_FIRST), !asks);
        quic_transport::tune(&mut transport, settings.congestion);
        let transport = Arc::new(transport);
        let mut force = settings.force;
        let server = server_config(&mut force, &transport, sessions_max)?;
        let endpoint =
            Endpoint::new(settings.endpoint, Some(server), socket, Arc::new(TokioRuntime))?;
        let retry_above = settings.connections_max * RETRY_ABOVE_PER_CENT / 100;
        let (id, names, streams_max) = (settings.id, settings.names, settings.streams_max);
        let turns = Arc::new(Semaphore::new(QUIC_HANDSHAKES_MAX));
        Ok(Self {
            endpoint,
            id,
            admission,
            wiring,
            names,
            force,
            transport,
            retry_above,
            streams_max,
            sessions_max,
            turns,
        })
    }

    /// Serves until the node stops and all streams have ended.
    pub(crate) async fn serve(mut self, gateway: EngineHandle) {
        let mut stop = self.wiring.stop.clone();
        let mut tasks = JoinSet::new();
        loop {
            let next = async {
                let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
                Some((turn, self.endpoint.accept().await?))
            };
            let next = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Ok(()) = self.force.changed() => {
                    self.take_anew();
                    continue;
                }
                next = next => next,
            };
            let Some((turn, incoming)) = next else { break };
            self.admit(incoming, turn, &gateway, &mut tasks);
            while tasks.try_join_next().is_some() {}
            // The start of a handshake is the dearest thing here: between two of them others have
            // their turn.
            tokio::task::yield_now().await;
        }
        self.endpoint.set_server_config(None);
        while tasks.join_next().await.is_some() {}
        self.endpoint.close(CODE_STOPPING, b"stopping");
        let _ = timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }

    /// New connections get what is in force now; those that are there stay.
    fn take_anew(&mut self) {
        match server_config(&mut self.force, &self.transport, self.sessions_max) {
            Ok(server) => self.endpoint.set_server_config(Some(server)),
            // It was good for TCP, with the same algorithms.
            Err(error) => tracing::error!(%error, "QUIC goes on with the certificate of before"),
        }
    }

    fn admit(
        &self,
        incoming: Incoming,
        turn: OwnedSemaphorePermit,
        gateway: &EngineHandle,
        tasks: &mut JoinSet<()>,
    ) {
        let address = incoming.remote_address();
        let is_proved = incoming.remote_address_validated();
        let under_way = QUIC_HANDSHAKES_MAX - self.turns.available_permits();
        let is_loaded = tasks.len() > self.retry_above || under_way > QUIC_HANDSHAKES_UNPROVED_MAX;
        let place = match self.admission.admit(address.ip(), is_proved) {
            // An error means that the address was validated meanwhile.
            Ok(_) if is_loaded && !is_proved => return drop(incoming.retry()),
            Err(Refused::Unproved) => return drop(incoming.retry()),
            Ok(place) => place,
            Err(refused) => {
                self.wiring.counters.refused(refused.kind());
                self.wiring.complaints.warn(address, refused);
                incoming.refuse();
                return;
            }
        };
        // Here, not in the task: tasks that start at once would keep all others waiting.
        let begun = incoming.accept().map_err(|error| error.to_string());
        let (id, gateway, wiring) = (self.id, gateway.clone(), Arc::clone(&self.wiring));
        let (names, force) = (self.names.clone(), self.force.clone());
        let takes_early = self.sessions_max > 0;
        let streams_max = self.streams_max;
        tasks.spawn(async move {
            let _place = place;
            let served = async {
                let (line, handshake) = shake(begun?, takes_early, turn, &wiring).await?;
                let line = Line { connection: line, id, names, force, streams_max };
                streams(line, handshake, gateway, &wiring).await
            };
            if let Err(reason) = served.await {
                wiring.counters.refused(Refusal::Handshake);
                wiring
                    .complaints
                    .warn(address, format_args!("the QUIC handshake failed: {reason}"));
            }
        });
    }
}

/// A connection whose handshake is over, or whose first flight may be served before that.
async fn shake(
    connecting: Connecting,
    takes_early: bool,
    turn: OwnedSemaphorePermit,
    wiring: &Wiring,
) -> Result<(Connection, Handshake), String> {
    let within = wiring.times.handshake;
    let connecting = match takes_early {
        false => connecting,
        true => match connecting.into_0rtt() {
            Ok((line, end)) => return Ok((line, Handshake::under_way(end, within, turn))),
            // Never of a server.
            Err(connecting) => connecting,
        },
    };
    match timeout(within, connecting).await {
        Ok(connected) => Ok((connected.map_err(|e| e.to_string())?, Handshake::over())),
        Err(_) => Err("it took too long".into()),
    }
}

/// What new connections get: the certificate and the rules that are in force. Each time with a memory of
/// its own for sessions, so that none of before is resumed.
fn server_config(
    force: &mut Force,
    transport: &Arc<TransportConfig>,
    sessions_max: usize,
) -> std::io::Result<ServerConfig> {
    let tls = Arc::clone(&force.borrow_and_update().tls);
    let tls = match sessions_max {
        0 => tls,
        _ => Arc::new(with_early_data(&tls, sessions_max)),
    };
    let crypto = QuicServerConfig::try_from(tls).map_err(std::io::Error::other)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::clone(transport));
    server.max_incoming(QUIC_INCOMING_MAX);
    server.incoming_buffer_size_total(QUIC_INCOMING_BYTES_MAX);
    server.migration(true);
    Ok(server)
}

/// A connection, and what its listener makes of it.
struct Line {
    connection: Connection,
    id: ListenerId,
    names: Option<Arc<CertificateNames>>,
    /// As of before the handshake.
    force: Force,
    streams_max: u32,
}

impl Line {
    /// The name of who connected, from the certificate that was shown, and that with its chain; of a
    /// session that was resumed, when it began. Before the end of the handshake there are streams of
    /// resumed sessions only.
    fn shown(&self) -> Result<(Option<Arc<str>>, Chain), String> {
        let shown = self.connection.peer_identity().and_then(|any| any.downcast::<Chain>().ok());
        let chain = shown.map(|chain| *chain).unwrap_or_default();
        let name = certified(self.names.as_deref(), chain.first().map(AsRef::as_ref));
        Ok((name.map_err(str::to_owned)?, chain))
    }

    /// The same after the handshake, and what completes when that certificate does not count any more.
    fn proved(&self, wiring: &Arc<Wiring>) -> Result<(Option<Arc<str>>, Fallen), String> {
        let (user, chain) = self.shown()?;
        let who = wiring.who(self.id, self.connection.remote_address(), ConnectionKind::Quic);
        let fallen = fallen(self.force.clone(), chain, who, Arc::clone(wiring));
        Ok((user, fallen.boxed()))
    }
}

/// Serves each stream of a connection as a Kafka connection of its own.
///
/// # Errors
/// Why the handshake did not come to its end, or that the peer has no name.
async fn streams(
    line: Line,
    mut handshake: Handshake,
    gateway: EngineHandle,
    wiring: &Arc<Wiring>,
) -> Result<(), String> {
    let mut tasks = JoinSet::new();
    let served = each_stream(&line, &mut handshake, &gateway, wiring, &mut tasks).await;
    // Whoever waits for its end waits no longer.
    drop(handshake);
    if served.is_err() {
        line.connection.close(CODE_UNCONFIRMED, b"the handshake did not end well");
    }
    while tasks.join_next().await.is_some() {}
    line.connection.close(CODE_STOPPING, b"");
    served
}

async fn each_stream(
    line: &Line,
    handshake: &mut Handshake,
    gateway: &EngineHandle,
    wiring: &Arc<Wiring>,
    tasks: &mut JoinSet<()>,
) -> Result<(), String> {
    let connection = &line.connection;
    let mut stop = wiring.stop.clone();
    let (mut sends_telemetry, mut accepted) = (false, 0_u32);
    let (mut user, mut standing) = match handshake.is_under_way() {
        true => (None, std::future::pending().boxed()),
        false => line.proved(wiring)?,
    };
    loop {
        let is_over = !handshake.is_under_way();
        let stream = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = &mut standing => {
                connection.close(CODE_CERTIFICATE, b"the certificate does not count any more");
                return Ok(());
            }
            ended = handshake.end(connection), if !is_over => {
                ended?;
                (user, standing) = line.proved(wiring)?;
                continue;
            }
            stream = connection.accept_bi() => stream,
            // What is lost when it is sent again must not be taken before the handshake is over.
            first = connection.read_datagram(), if is_over && !sends_telemetry => {
                let Ok(first) = first else { return Ok(()) };
                sends_telemetry = true;
                let who = wiring.who(line.id, connection.remote_address(), ConnectionKind::Quic);
                let (gateway, wiring) = (gateway.clone(), Arc::clone(wiring));
                let (connection, user) = (connection.clone(), user.clone());
                tasks.spawn(serve_telemetry(connection, first, who, user, gateway, wiring));
                continue;
            }
        };
        let Ok((writer, reader)) = stream else {
            // Why it never came about is worth a word, why it ended is not.
            return if is_over { Ok(()) } else { handshake.end(connection).await };
        };
        accepted = accepted.saturating_add(1);
        if accepted == STREAMS_AT_FIRST / 2 {
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(line.streams_max));
        }
        let certified = if is_over { user.clone() } else { line.shown()?.0 };
        let shown = Shown { certified, unconfirmed: handshake.unconfirmed() };
        let address: SocketAddr = connection.remote_address();
        let who = wiring.who(line.id, address, ConnectionKind::Quic);
        let (gateway, wiring) = (gateway.clone(), Arc::clone(wiring));
        tasks.spawn(async move {
            serve_connection(reader, writer, who, shown, gateway, wiring).await;
        });
        while tasks.try_join_next().is_some() {}
    }
}

fn transport(streams_max: u32, takes_datagrams: bool) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(QUIC_STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(QUIC_CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(QUIC_CONNECTION_WINDOW_BYTES))
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .datagram_receive_buffer_size(takes_datagrams.then_some(TELEMETRY_WAITING_BYTES_MAX))
        .max_idle_timeout(Some(VarInt::from_u32(SILENCE_MAX_MS).into()));
    transport
}
