//! A relay of datagrams between a device and a broker, which a test looks through and closes. Each
//! address of the device has a socket of its own towards the broker, as behind a NAT. Must never
//! change a datagram, nor outlive its test.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// The largest datagram that there can be.
const DATAGRAM_BYTES: usize = 65_536;

/// What sees every datagram, and says whether it goes on.
pub trait Watcher: Send + Sync + 'static {
    /// From the device to the broker.
    fn passes_out(&self, datagram: &[u8]) -> bool;

    /// From the broker to the device.
    fn passes_back(&self, datagram: &[u8]) -> bool;
}

/// Relays what comes to `near` until it is dropped.
///
/// # Panics
/// If the system gives no socket on loopback.
pub async fn relay(near: UdpSocket, to: SocketAddr, watcher: Arc<impl Watcher>) {
    let near = Arc::new(near);
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut backs = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    while let Ok((count, from)) = near.recv_from(&mut buffer).await {
        if !watcher.passes_out(&buffer[..count]) {
            continue;
        }
        let far = match ways.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
                let far = Arc::new(far);
                far.connect(to).await.expect("a place on loopback");
                backs.spawn(back(Arc::clone(&far), Arc::clone(&near), from, Arc::clone(&watcher)));
                new.insert(far)
            }
        };
        // What the broker's socket does not take is lost, as it may be.
        let _ = far.send(&buffer[..count]).await;
    }
}

async fn back(
    far: Arc<UdpSocket>,
    near: Arc<UdpSocket>,
    to: SocketAddr,
    watcher: Arc<impl Watcher>,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    while let Ok(count) = far.recv(&mut buffer).await {
        if watcher.passes_back(&buffer[..count]) {
            let _ = near.send_to(&buffer[..count], to).await;
        }
    }
}
