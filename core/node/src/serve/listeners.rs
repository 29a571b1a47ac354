//! Binding every address before anything else starts, so that a port in use is found at once; and
//! the certificates that the listeners show.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millpond_cluster::HostPort;
use millpond_engine::ListenerId;
use millpond_security::{
    CertificateNames, Fingerprint, HeldClock, Identity, development_certificate,
    quic_endpoint_config,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::credentials::{Own, Source, Stamps, token_rules};
use super::reload::Kept;
use crate::cli::CliError;
use crate::config::{CheckedListener, Config, CongestionChoice, TcpMode};
use crate::net::{Force, Offer, TokenKeys};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// Socket buffers for QUIC; the kernel may grant less.
const UDP_BUFFER_BYTES: usize = 4 << 20;
/// Tries to find a port number that is free for TCP and UDP, when any will do.
const ANY_PORT_TRIES: usize = 20;

/// A listener whose sockets are bound.
pub(super) struct Bound {
    pub(super) id: ListenerId,
    /// As bound: never port 0.
    pub(super) address: SocketAddr,
    pub(super) advertised: HostPort,
    pub(super) tcp: Option<TcpListener>,
    pub(super) udp: Option<UdpSocket>,
    /// Whether TCP speaks TLS.
    pub(super) tcp_tls: bool,
    pub(super) tls: Option<Tls>,
    /// By what clients prove who they are; none: they are not asked.
    pub(super) offer: Option<Offer>,
    /// How the certificate of a client names it; none: it shows none.
    pub(super) names: Option<Arc<CertificateNames>>,
    /// What of it is read anew when files change.
    pub(super) kept: Vec<Kept>,
    /// By what QUIC decides how fast to send.
    pub(super) congestion: CongestionChoice,
}

/// A certificate ready for use.
pub(super) struct Tls {
    pub(super) force: Force,
    /// Lets a restarted node tell the QUIC peers of its last run that their connections are gone.
    pub(super) endpoint: quinn::EndpointConfig,
    pub(super) fingerprint: Fingerprint,
    /// Whether it is the one that Millpond made for itself.
    pub(super) development: bool,
}

/// Binds every listener of a configuration.
pub(super) fn bind(
    config: &Config,
    data_dir: &Path,
    clock: &Arc<HeldClock>,
) -> Result<Vec<Bound>, CliError> {
    let listeners = config.checked_listeners().map_err(|e| CliError::usage(e.to_string()))?;
    let mut development: Option<Identity> = None;
    let mut bound = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.into_iter().enumerate() {
        let id =
            ListenerId(u16::try_from(index).map_err(|_| CliError::usage("too many listeners"))?);
        let own = match (&listener.certificate, listener.quic || listener.tcp == TcpMode::Tls) {
            (_, false) => None,
            (Some((certificate, key)), true) => {
                Some(Own::Files(PathBuf::from(certificate), PathBuf::from(key)))
            }
            (None, true) => Some(Own::Made(match &development {
                Some(made) => made.clone(),
                None => development.insert(development_identity(data_dir)?).clone(),
            })),
        };
        let asked = listener.client_auth.clone();
        let source = own.map(|own| Source { own, asked, clock: Arc::clone(clock) });
        let tls = source.map(|source| tls(&listener.name, source)).transpose()?;
        bound.push(bind_one(id, listener, tls)?);
    }
    Ok(bound)
}

fn bind_one(
    id: ListenerId,
    listener: CheckedListener,
    tls: Option<(Tls, Kept)>,
) -> Result<Bound, CliError> {
    if listener.insecure_by_wish {
        tracing::warn!(
            "listener {:?} on {} can be reached from other machines without protection, as \
             `insecure = true` wishes",
            listener.name,
            listener.address
        );
    }
    let tcp_wanted = listener.tcp != TcpMode::Off;
    let (tcp, udp, address) = sockets(listener.address, tcp_wanted, listener.quic)
        .map_err(|e| in_use(listener.address, &e))?;
    let own = HostPort { host: address.ip().to_string(), port: address.port() };
    // A configured port 0 means the one that was bound.
    let advertised = match listener.advertised {
        Some(HostPort { host, port: 0 }) => HostPort { host, port: address.port() },
        Some(advertised) => advertised,
        None => own,
    };
    let (tls, kept) = tls.unzip();
    let (mut offer, mut kept) = (listener.offer, Vec::from_iter(kept));
    if let (Some(offer), Some(settings)) = (&mut offer, listener.tokens) {
        let stamps = Stamps::of(&[PathBuf::from(&settings[0])]);
        let keys = Arc::new(TokenKeys::new(token_rules(&settings).map_err(CliError::failed)?));
        offer.tokens = Some(Arc::clone(&keys));
        kept.push(Kept::tokens(&listener.name, settings, stamps, keys));
    }
    let tcp_tls = listener.tcp == TcpMode::Tls;
    let names = listener.client_auth.map(|asked| asked.names);
    let congestion = listener.congestion;
    Ok(Bound { id, address, advertised, tcp, udp, tcp_tls, tls, offer, names, kept, congestion })
}

type Sockets = (Option<TcpListener>, Option<UdpSocket>, SocketAddr);

/// Both sockets on the same number; if any number will do, one that is free for both.
fn sockets(address: SocketAddr, tcp: bool, udp: bool) -> io::Result<Sockets> {
    let mut tries = if address.port() == 0 && tcp && udp { ANY_PORT_TRIES } else { 1 };
    loop {
        let tcp_listener = tcp.then(|| bind_tcp(address)).transpose()?;
        let chosen = match &tcp_listener {
            Some(listener) => listener.local_addr()?,
            None => address,
        };
        tries -= 1;
        match udp.then(|| bind_udp(chosen)).transpose() {
            Err(_) if tries > 0 => {}
            Err(error) => return Err(error),
            Ok(socket) => {
                let chosen = match &socket {
                    Some(socket) => socket.local_addr()?,
                    None => chosen,
                };
                return Ok((tcp_listener, socket, chosen));
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the last run's connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // The kernel grants what its limits allow.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

/// Binds the address of HTTP.
pub(super) fn bind_http(address: &str) -> Result<Option<TcpListener>, CliError> {
    if address.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr = address
        .replace("localhost:", "127.0.0.1:")
        .parse()
        .map_err(|e| CliError::usage(format!("http.address: {e}")))?;
    bind_tcp(address).map(Some).map_err(|e| in_use(address, &e))
}

fn in_use(address: SocketAddr, error: &io::Error) -> CliError {
    let failed = CliError::failed(format!("cannot listen on {address}: {error}"));
    match error.kind() {
        io::ErrorKind::AddrInUse => failed.hint(
            "is another millpond (or Kafka) running? choose another port with --listen or --http",
        ),
        io::ErrorKind::AddrNotAvailable => {
            failed.hint("this machine has no such address; 127.0.0.1 and 0.0.0.0 always work")
        }
        io::ErrorKind::PermissionDenied => {
            failed.hint("ports below 1024 need privileges; choose a higher one")
        }
        _ => failed,
    }
}

/// Reads a listener's certificates for the first time.
fn tls(name: &str, source: Source) -> Result<(Tls, Kept), CliError> {
    // Before they are read: what changes meanwhile is read again.
    let stamps = Stamps::of(&source.files());
    let loaded = source.load().map_err(CliError::failed)?;
    let development = matches!(source.own, Own::Made(_));
    let endpoint = quic_endpoint_config(&loaded.identity);
    let fingerprint = loaded.identity.fingerprint();
    let (kept, force) = Kept::tls(name, source, stamps, loaded);
    Ok((Tls { force, endpoint, fingerprint, development }, kept))
}

fn development_identity(data_dir: &Path) -> Result<Identity, CliError> {
    let made = development_certificate(&data_dir.join("tls"), &[])
        .map_err(|e| CliError::failed(e.to_string()))?;
    if made.is_new {
        tracing::info!("made a development certificate: {}", made.certificate_file.display());
    }
    Ok(made.identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_port_is_the_same_number_for_tcp_and_udp() {
        let (tcp, udp, address) = sockets(([127, 0, 0, 1], 0).into(), true, true).unwrap();
        assert_ne!(address.port(), 0);
        assert_eq!(tcp.unwrap().local_addr().unwrap().port(), address.port());
        assert_eq!(udp.unwrap().local_addr().unwrap().port(), address.port());
    }

    #[test]
    fn a_port_in_use_suggests_another() {
        let (_tcp, _, address) = sockets(([127, 0, 0, 1], 0).into(), true, false).unwrap();
        let error = in_use(address, &sockets(address, true, false).err().unwrap()).to_string();
        assert!(error.contains("another port"), "{error}");
    }
}
