//! The HTTPS listener of devices that enrol: handshakes side by side, each with its deadline, and the certificate that is
//! in force when it begins. Serves the routes of devices and no others.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millpond_http::Route;
use millpond_wire::limits::{DEVICE_CONNECTIONS_MAX, HANDSHAKE_MS_MAX};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::listener::{ACCEPT_PAUSE, Bound};
use super::{App, access};
use crate::net::Force;

type Stream = Bound<TlsStream<TcpStream>>;

/// Connections whose handshake is done.
pub(super) struct Secure {
    done: mpsc::Receiver<(Stream, SocketAddr)>,
    address: SocketAddr,
}

/// Serves until `stop` completes; requests under way are finished.
pub(crate) async fn serve_devices(
    listener: TcpListener,
    force: Force,
    state: App,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let (sender, done) = mpsc::channel(1);
    let accepting = tokio::spawn(accept(listener, force, sender));
    let routes = Route::ALL.into_iter().filter(|route| route.is_for_devices());
    let router = super::router(state, routes);
    let service = router.into_make_service_with_connect_info::<access::Caller>();
    let served = axum::serve(Secure { done, address }, service).with_graceful_shutdown(stop).await;
    accepting.abort();
    served
}

/// Accepts as long as somebody takes the connections.
async fn accept(listener: TcpListener, force: Force, sender: mpsc::Sender<(Stream, SocketAddr)>) {
    let places = Arc::new(Semaphore::new(DEVICE_CONNECTIONS_MAX));
    loop {
        // An error means a closed semaphore, and nobody closes it.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, address)) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&force.borrow().tls));
                tokio::spawn(shake(acceptor, stream, address, place, sender.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "HTTPS: accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn shake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    place: Option<OwnedSemaphorePermit>,
    sender: mpsc::Sender<(Stream, SocketAddr)>,
) {
    let limit = Duration::from_millis(HANDSHAKE_MS_MAX);
    match timeout(limit, acceptor.accept(stream)).await {
        // Nobody takes it once the node stops.
        Ok(Ok(stream)) => drop(sender.send((Bound::new(stream, place), address)).await),
        Ok(Err(error)) => tracing::debug!(%address, %error, "HTTPS: the handshake failed"),
        Err(_) => tracing::debug!(%address, "HTTPS: the handshake took too long"),
    }
}

impl axum::serve::Listener for Secure {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.done.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
