//! Free ports for a broker. Below the kernel's ephemeral range, so that no client's outgoing
//! connection can sit on a port while its broker is being restarted.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

const LOWEST: u16 = 15_000;
const HIGHEST: u16 = 31_000;

static ASKED: AtomicU16 = AtomicU16::new(0);

/// An address on loopback that is free for TCP and for UDP just now.
pub fn free() -> SocketAddr {
    let span = HIGHEST - LOWEST;
    let start = (std::process::id().wrapping_mul(7919) % u32::from(span)) as u16;
    for _ in 0..2000 {
        let step = ASKED.fetch_add(1, Ordering::Relaxed);
        let port = LOWEST + (start.wrapping_add(step.wrapping_mul(13))) % span;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between {LOWEST} and {HIGHEST} on 127.0.0.1");
}
