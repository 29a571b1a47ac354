//! How QUIC connections send: the congestion controller that the configuration names. What it does on
//! a bad path is measured by `millpond-bench path`.
//!
//! It never decides what a connection may take; the caps stand where connections are admitted.

use std::sync::Arc;

use quinn::TransportConfig;
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};

use crate::config::CongestionChoice;

/// Sets what is chosen by the configuration of a listener.
pub(super) fn tune(transport: &mut TransportConfig, choice: CongestionChoice) {
    let factory: Arc<dyn ControllerFactory + Send + Sync> = match choice {
        CongestionChoice::NewReno => Arc::new(NewRenoConfig::default()),
        CongestionChoice::Cubic => Arc::new(CubicConfig::default()),
        CongestionChoice::Bbr => Arc::new(BbrConfig::default()),
    };
    transport.congestion_controller_factory(factory);
}
