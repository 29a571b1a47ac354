//! A bad path at the level of packets, in user space: two network namespaces, one for a device and one
//! for a gateway, and a thread that carries packets between their TUN interfaces with delay, loss,
//! duplication, reordering and a narrow link, behind a translator of addresses that forgets when it
//! is told to. TCP and QUIC cross it alike.
//!
//! What becomes of which packet is decided by a seed, in pure code ([`weather`], [`link`], [`nat`]).
//! It needs root, `ip` and /dev/net/tun; without them opening says which is missing. Nothing outlives
//! it: interfaces go with the thread, namespaces with their handles.

mod forwarder;
pub mod link;
mod namespace;
pub mod nat;
pub mod packet;
pub mod weather;

use std::net::Ipv4Addr;
use std::sync::Arc;

pub use link::Tally;
pub use namespace::Namespace;
pub use weather::{Rate, Weather};

use forwarder::{Forwarder, Order};

/// The gateway, as the device reaches it.
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The device, as it knows itself at first; the gateway sees the translator's address.
pub const DEVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const DEVICE_OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// Why there is no path.
#[derive(Debug)]
pub struct PathError(pub(crate) String);

impl std::fmt::Display for PathError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "a path of packets cannot be made: {}", self.0)
    }
}

impl std::error::Error for PathError {}

/// An open path.
pub struct Path {
    // Before the namespaces: its interfaces go first.
    forwarder: Forwarder,
    device: Arc<Namespace>,
    gateway: Arc<Namespace>,
    has_moved: bool,
}

impl Path {
    /// Opens a path with the same weather in both directions.
    ///
    /// # Errors
    /// [`PathError`]: what is missing.
    pub fn open(weather: Weather, seed: u64) -> Result<Path, PathError> {
        let device = Arc::new(Namespace::make("device")?);
        let gateway = Arc::new(Namespace::make("gateway")?);
        let (inner, outer) = (Arc::clone(&device), Arc::clone(&gateway));
        let forwarder = Forwarder::start(inner, outer, [weather; 2], seed)?;
        Ok(Path { forwarder, device, gateway, has_moved: false })
    }

    /// Where the device is.
    pub fn device(&self) -> &Namespace {
        &self.device
    }

    /// The same, for a thread that runs beside what is done to the path.
    pub fn device_handle(&self) -> Arc<Namespace> {
        Arc::clone(&self.device)
    }

    /// Where the gateway is.
    pub fn gateway(&self) -> &Namespace {
        &self.gateway
    }

    /// The translator takes another address and forgets every flow: the gateway sees the device
    /// come from elsewhere, the device notices nothing.
    pub fn rebind(&self) {
        self.forwarder.order(Order::Rebind);
    }

    /// The device itself has another address, as after it went from one network to another, and so
    /// has the translator.
    ///
    /// # Errors
    /// [`PathError`]: what `ip` says.
    pub fn move_device(&mut self) -> Result<(), PathError> {
        let (from, to) = match self.has_moved {
            false => (DEVICE_ADDRESS, DEVICE_OTHER_ADDRESS),
            true => (DEVICE_OTHER_ADDRESS, DEVICE_ADDRESS),
        };
        let device = &self.device;
        device.ip(&["address", "add", &format!("{to}/32"), "dev", "tun0"])?;
        let source = to.to_string();
        device.ip(&["route", "replace", "default", "dev", "tun0", "src", &source])?;
        device.ip(&["address", "del", &format!("{from}/32"), "dev", "tun0"])?;
        self.has_moved = !self.has_moved;
        self.rebind();
        Ok(())
    }

    /// The weather changes for what comes from now on: to the gateway, and from it.
    pub fn set_weather(&self, to: Weather, back: Weather) {
        self.forwarder.order(Order::Weather(to, back));
    }

    /// What happened so far to the gateway, and from it.
    pub fn tallies(&self) -> [Tally; 2] {
        self.forwarder.tallies()
    }
}
