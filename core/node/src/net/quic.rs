//! Kafka over QUIC: each bidirectional stream is a Kafka connection, so a slow one never blocks
//! another; datagrams are telemetry. Connections, streams and windows are capped so that an idle device costs little.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use millpond_engine::ListenerId;
use millpond_security::CertificateNames;
use millpond_wire::limits::{
    QUIC_CONNECTION_WINDOW_BYTES, QUIC_STREAM_WINDOW_BYTES, TELEMETRY_WAITING_BYTES_MAX,
};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig,
    VarInt,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{
    Admission, Chain, Force, Wiring, certified, fallen, quic_transport, serve_connection,
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
/// Handshakes that have begun and are not admitted yet.
const INCOMING_MAX: usize = 256;
/// Above this share of the connections allowed, new peers must prove their address first (RFC 9000
/// 8.1.2).
const RETRY_ABOVE_PER_CENT: usize = 50;
/// Why we close: the node stops.
const CODE_STOPPING: VarInt = VarInt::from_u32(0);
/// Why we close: the certificate of the client does not count any more.
const CODE_CERTIFICATE: VarInt = VarInt::from_u32(1);

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
}

/// What the endpoint is made of.
pub(crate) struct QuicSettings {
    pub(crate) id: ListenerId,
    pub(crate) force: Force,
    pub(crate) endpoint: EndpointConfig,
    pub(crate) connections_max: usize,
    pub(crate) streams_max: u32,
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
        // Who has to log in does so on a stream; a datagram shows nobody.
        let takes_datagrams = wiring.logins.door(settings.id).is_none();
        let mut transport = transport(settings.streams_max, takes_datagrams);
        quic_transport::tune(&mut transport, settings.congestion);
        let transport = Arc::new(transport);
        let mut force = settings.force;
        let server = server_config(&mut force, &transport)?;
        let endpoint =
            Endpoint::new(settings.endpoint, Some(server), socket, Arc::new(TokioRuntime))?;
        let retry_above = settings.connections_max * RETRY_ABOVE_PER_CENT / 100;
        let (id, names) = (settings.id, settings.names);
        Ok(Self { endpoint, id, admission, wiring, names, force, transport, retry_above })
    }

    /// Serves until the node stops and all streams have ended.
    pub(crate) async fn serve(mut self, gateway: EngineHandle) {
        let mut stop = self.wiring.stop.clone();
        let mut tasks = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Ok(()) = self.force.changed() => {
                    self.take_anew();
                    continue;
                }
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            self.admit(incoming, &gateway, &mut tasks);
            while tasks.try_join_next().is_some() {}
        }
        self.endpoint.set_server_config(None);
        while tasks.join_next().await.is_some() {}
        self.endpoint.close(CODE_STOPPING, b"stopping");
        let _ = timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }

    /// New connections get what is in force now; those that are there stay.
    fn take_anew(&mut self) {
        match server_config(&mut self.force, &self.transport) {
            Ok(server) => self.endpoint.set_server_config(Some(server)),
            // It was good for TCP, with the same algorithms.
            Err(error) => tracing::error!(%error, "QUIC goes on with the certificate of before"),
        }
    }

    fn admit(&self, incoming: Incoming, gateway: &EngineHandle, tasks: &mut JoinSet<()>) {
        let address = incoming.remote_address();
        if !incoming.remote_address_validated() && tasks.len() > self.retry_above {
            // An error means that the address was validated meanwhile.
            let _ = incoming.retry();
            return;
        }
        let place = match self.admission.admit(address.ip()) {
            Ok(place) => place,
            Err(refused) => {
                self.wiring.counters.refused(Refusal::Limit);
                self.wiring.complaints.warn(address, refused);
                incoming.refuse();
                return;
            }
        };
        let (id, gateway, wiring) = (self.id, gateway.clone(), Arc::clone(&self.wiring));
        let (names, force) = (self.names.clone(), self.force.clone());
        tasks.spawn(async move {
            let _place = place;
            let done = handshake(incoming, &wiring).await;
            let done = done.and_then(|line| Ok((named(&line, names.as_deref())?, line)));
            match done {
                Ok(((user, chain), connection)) => {
                    let who = wiring.who(id, address, ConnectionKind::Quic);
                    let fallen = fallen(force, chain, who, Arc::clone(&wiring));
                    streams(connection, id, user, fallen, gateway, wiring).await;
                }
                Err(reason) => {
                    wiring.counters.refused(Refusal::Handshake);
                    wiring
                        .complaints
                        .warn(address, format_args!("the QUIC handshake failed: {reason}"));
                }
            }
        });
    }
}

async fn handshake(incoming: Incoming, wiring: &Wiring) -> Result<Connection, String> {
    let connecting = incoming.accept().map_err(|e| e.to_string())?;
    match timeout(wiring.times.handshake, connecting).await {
        Ok(connected) => connected.map_err(|e| e.to_string()),
        Err(_) => Err("it took too long".into()),
    }
}

/// The name of who connected, from the certificate that was shown, and that with its chain.
fn named(
    connection: &Connection,
    names: Option<&CertificateNames>,
) -> Result<(Option<Arc<str>>, Chain), String> {
    let shown = connection.peer_identity().and_then(|any| any.downcast::<Chain>().ok());
    let chain = shown.map(|chain| *chain).unwrap_or_default();
    let name = certified(names, chain.first().map(AsRef::as_ref)).map_err(str::to_owned)?;
    Ok((name, chain))
}

/// What new connections get: the certificate and the rules that are in force.
fn server_config(
    force: &mut Force,
    transport: &Arc<TransportConfig>,
) -> std::io::Result<ServerConfig> {
    let tls = Arc::clone(&force.borrow_and_update().tls);
    let crypto = QuicServerConfig::try_from(tls).map_err(std::io::Error::other)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::clone(transport));
    server.max_incoming(INCOMING_MAX);
    server.migration(true);
    Ok(server)
}

/// Serves each stream of a connection as a Kafka connection of its own.
async fn streams(
    connection: Connection,
    id: ListenerId,
    user: Option<Arc<str>>,
    fallen: impl Future<Output = ()>,
    gateway: EngineHandle,
    wiring: Arc<Wiring>,
) {
    let mut stop = wiring.stop.clone();
    let mut fallen = pin!(fallen);
    let mut tasks = JoinSet::new();
    let mut sends_telemetry = false;
    loop {
        let stream = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            () = &mut fallen => {
                connection.close(CODE_CERTIFICATE, b"the certificate does not count any more");
                break;
            }
            stream = connection.accept_bi() => stream,
            first = connection.read_datagram(), if !sends_telemetry => {
                let Ok(first) = first else { break };
                sends_telemetry = true;
                let who = wiring.who(id, connection.remote_address(), ConnectionKind::Quic);
                let (gateway, wiring) = (gateway.clone(), Arc::clone(&wiring));
                let (line, user) = (connection.clone(), user.clone());
                tasks.spawn(serve_telemetry(line, first, who, user, gateway, wiring));
                continue;
            }
        };
        let Ok((writer, reader)) = stream else { break };
        let address: SocketAddr = connection.remote_address();
        let who = wiring.who(id, address, ConnectionKind::Quic);
        let (gateway, wiring) = (gateway.clone(), Arc::clone(&wiring));
        let user = user.clone();
        tasks.spawn(async move {
            serve_connection(reader, writer, who, user, gateway, wiring).await;
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    connection.close(CODE_STOPPING, b"");
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
