//! The ways to a broker: TCP, TLS over it, QUIC. Each line is a connection of its own and, over QUIC, one stream
//! on it; whatever certificate is shown is believed, since all of it is on loopback. Must never do more than
//! carry bytes: what they mean is the load's business.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use millpond_client::Trust;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::frames::Frames;
use crate::error::{Context, Outcome};

/// Asked of the system for each direction of a UDP socket; it may grant less.
pub(crate) const UDP_BUFFER_BYTES: usize = 4 << 20;

/// How a line goes to its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Tcp,
    Tls,
    Quic,
}

/// The two directions of a line.
pub(crate) struct Line {
    pub(crate) read: Box<dyn AsyncRead + Unpin>,
    pub(crate) write: Box<dyn AsyncWrite + Unpin>,
    /// Whose end would be the stream's.
    _connection: Option<(Endpoint, quinn::Connection)>,
}

impl Way {
    /// Opens so many lines for what is to be sent.
    pub(crate) async fn open(
        self,
        broker: SocketAddr,
        frames: &Frames,
        count: usize,
    ) -> Outcome<Vec<Line>> {
        let endpoint = match self {
            Self::Quic => Some(endpoint()?),
            Self::Tcp | Self::Tls => None,
        };
        let mut lines = Vec::with_capacity(count);
        for index in 0..count {
            lines.push(match &endpoint {
                Some(endpoint) => over_quic(endpoint, broker).await?,
                None if self == Self::Tls => over_tls(broker).await?,
                None => over_tcp(frames.connect(broker, index)?)?,
            });
        }
        Ok(lines)
    }
}

impl Line {
    fn new(
        (read, write): (impl AsyncRead + Unpin + 'static, impl AsyncWrite + Unpin + 'static),
    ) -> Self {
        Self { read: Box::new(read), write: Box::new(write), _connection: None }
    }
}

fn over_tcp(socket: std::net::TcpStream) -> Outcome<Line> {
    socket.set_nonblocking(true).context("a socket's option")?;
    let stream = TcpStream::from_std(socket).context("a socket")?;
    Ok(Line::new(stream.into_split()))
}

async fn over_tls(broker: SocketAddr) -> Outcome<Line> {
    let stream = TcpStream::connect(broker).await.context("connecting")?;
    stream.set_nodelay(true).context("a socket's option")?;
    let connector = TlsConnector::from(tls()?);
    let name = ServerName::IpAddress(broker.ip().into());
    let stream = connector.connect(name, stream).await.context("a TLS handshake")?;
    Ok(Line::new(tokio::io::split(stream)))
}

async fn over_quic(endpoint: &Endpoint, broker: SocketAddr) -> Outcome<Line> {
    let dialled = endpoint.connect(broker, "localhost").context("dialling")?;
    let connection = dialled.await.context("a QUIC handshake")?;
    let (write, read) = connection.open_bi().await.context("a stream")?;
    let _connection = Some((endpoint.clone(), connection));
    Ok(Line { _connection, ..Line::new((read, write)) })
}

fn tls() -> Outcome<Arc<rustls::ClientConfig>> {
    Trust::InsecureNoVerify.tls(None).context("TLS")
}

fn endpoint() -> Outcome<Endpoint> {
    let socket = udp_socket()?;
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime);
    let mut endpoint = endpoint.context("a QUIC endpoint")?;
    let crypto = QuicClientConfig::try_from(tls()?).context("TLS for QUIC")?;
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    Ok(endpoint)
}

/// A UDP socket on loopback, with room for bursts.
pub(crate) fn udp_socket() -> Outcome<UdpSocket> {
    use rustix::net::sockopt;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("a UDP socket")?;
    sockopt::set_socket_recv_buffer_size(&socket, UDP_BUFFER_BYTES).context("its buffer")?;
    sockopt::set_socket_send_buffer_size(&socket, UDP_BUFFER_BYTES).context("its buffer")?;
    Ok(socket)
}
