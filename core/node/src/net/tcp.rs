//! Kafka over TCP, plain or within TLS: accepting, admitting, handing over to the connection loop.
//! Plain connections live on the engine's thread, TLS ones on the workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millpond_engine::ListenerId;
use millpond_security::CertificateNames;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::admission::Place;
use super::{
    Admission, Force, Gateway, Revocable, Shown, Wiring, certified, fallen, serve_connection,
};
use crate::metrics::{ConnectionKind, Refusal};
use crate::serve::EngineHandle;

/// After a failed accept (no descriptors left, say) this long passes before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener and what its connections need.
pub(crate) struct Door {
    listener: TcpListener,
    id: ListenerId,
    admission: Arc<Admission>,
    wiring: Arc<Wiring>,
}

/// A bound listener on its way to the thread that serves it.
pub(crate) struct PlainDoor {
    pub(crate) listener: std::net::TcpListener,
    pub(crate) id: ListenerId,
    pub(crate) admission: Arc<Admission>,
}

impl PlainDoor {
    /// Joins the runtime of the calling thread.
    pub(crate) fn open(self, wiring: &Arc<Wiring>) -> std::io::Result<Door> {
        let listener = TcpListener::from_std(self.listener)?;
        Ok(Door { listener, id: self.id, admission: self.admission, wiring: Arc::clone(wiring) })
    }
}

impl Door {
    /// Serves plain connections on this thread until the node stops and all have ended. Needs a
    /// `LocalSet`.
    pub(crate) async fn serve_plain<G: Gateway + Clone + 'static>(self, gateway: G) {
        let mut tasks = JoinSet::new();
        while let Some((stream, address, place)) = self.next().await {
            let who = self.wiring.who(self.id, address, ConnectionKind::Tcp);
            let (gateway, wiring) = (gateway.clone(), Arc::clone(&self.wiring));
            tasks.spawn_local(async move {
                let _place = place;
                let (reader, writer) = stream.into_split();
                serve_connection(reader, writer, who, Shown::default(), gateway, wiring).await
            });
            reap(&mut tasks);
        }
        drain(self.listener, tasks).await;
    }

    /// Serves TLS connections on the workers until the node stops and all have ended.
    pub(crate) async fn serve_tls(
        self,
        mut force: Force,
        names: Option<Arc<CertificateNames>>,
        gateway: EngineHandle,
    ) {
        let mut tasks = JoinSet::new();
        while let Some((stream, address, place)) = self.next().await {
            let who = self.wiring.who(self.id, address, ConnectionKind::Tls);
            let acceptor = TlsAcceptor::from(Arc::clone(&force.borrow_and_update().tls));
            let (gateway, wiring, names, force) =
                (gateway.clone(), Arc::clone(&self.wiring), names.clone(), force.clone());
            tasks.spawn(async move {
                let _place = place;
                match timeout(wiring.times.handshake, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let shown = stream.get_ref().1.peer_certificates();
                        let chain = shown.map(<[_]>::to_vec).unwrap_or_default();
                        match certified(names.as_deref(), chain.first().map(AsRef::as_ref)) {
                            Ok(user) => {
                                let (reader, writer) = tokio::io::split(stream);
                                let fallen = fallen(force, chain, who, Arc::clone(&wiring));
                                let reader = Revocable::new(reader, fallen);
                                let shown = Shown { certified: user, unconfirmed: None };
                                let served =
                                    serve_connection(reader, writer, who, shown, gateway, wiring);
                                return Some(served.await);
                            }
                            Err(nameless) => wiring.complaints.warn(who, nameless),
                        }
                    }
                    Ok(Err(error)) => wiring
                        .complaints
                        .warn(who, format_args!("the TLS handshake failed: {error}")),
                    Err(_) => wiring.complaints.warn(who, "the TLS handshake took too long"),
                }
                wiring.counters.refused(Refusal::Handshake);
                None
            });
            reap(&mut tasks);
        }
        drain(self.listener, tasks).await;
    }

    /// The next admitted connection; none once the node stops.
    async fn next(&self) -> Option<(TcpStream, SocketAddr, Place)> {
        let mut stop = self.wiring.stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return None,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.wiring
                        .complaints
                        .warn("TCP", format_args!("accepting a connection failed: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.admission.admit(address.ip(), true) {
                Ok(place) => {
                    configure(&stream);
                    return Some((stream, address, place));
                }
                Err(refused) => {
                    self.wiring.counters.refused(refused.kind());
                    self.wiring.complaints.warn(address, refused);
                }
            }
        }
    }
}

/// Small answers go out at once; a peer that vanished is found out.
fn configure(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    let socket = socket2::SockRef::from(stream);
    // Neither is needed for correctness.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

fn reap<T: 'static>(tasks: &mut JoinSet<T>) {
    while tasks.try_join_next().is_some() {}
}

/// New connections are refused by the kernel from here on; those under way end by themselves.
async fn drain<T: 'static>(listener: TcpListener, mut tasks: JoinSet<T>) {
    drop(listener);
    while tasks.join_next().await.is_some() {}
}
