//! The authority for devices of this node, and the HTTPS address where they reach it. Opens what the operator made;
//! must never make an authority by itself.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use millpond_security::HeldClock;
use millpond_security::device_ca::{DeviceCa, SERVER_FILE};

use super::credentials::{Own, Source, Stamps};
use super::listeners::bind_http;
use super::reload::Kept;
use crate::cli::CliError;
use crate::config::Config;
use crate::http::DeviceDesk;
use crate::net::Force;

/// Its name in logs and metrics.
const LISTENER: &str = "devices";

/// What a node has for devices.
pub(super) struct Devices {
    pub(super) desk: Arc<DeviceDesk>,
    pub(super) https: Option<Https>,
    /// Of the HTTPS address.
    pub(super) kept: Option<Kept>,
}

/// The bound address and what it shows.
pub(super) struct Https {
    pub(super) listener: TcpListener,
    pub(super) force: Force,
}

impl Https {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }
}

/// Opens the authority that the configuration names, and binds its address.
pub(super) fn open(config: &Config, clock: &Arc<HeldClock>) -> Result<Option<Devices>, CliError> {
    let set = &config.devices;
    if set.ca_dir.is_empty() {
        return Ok(None);
    }
    let dir = Path::new(&set.ca_dir);
    let ca = DeviceCa::open(dir).map_err(|e| CliError::failed(format!("devices.ca_dir: {e}")))?;
    let desk = Arc::new(DeviceDesk::new(ca, Arc::clone(clock), set.certificate_days));
    let Some(listener) = bind_http(&set.address)? else {
        return Ok(Some(Devices { desk, https: None, kept: None }));
    };
    let file = dir.join(SERVER_FILE);
    let own = Own::Files(file.clone(), file);
    let source = Source { own, asked: None, clock: Arc::clone(clock) };
    let stamps = Stamps::of(&source.files());
    let loaded = source.load().map_err(CliError::failed)?;
    let (kept, force) = Kept::tls(LISTENER, source, stamps, loaded);
    Ok(Some(Devices { desk, https: Some(Https { listener, force }), kept: Some(kept) }))
}
