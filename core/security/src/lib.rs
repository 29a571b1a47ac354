//! Who may speak, and over which kind of line: certificates, TLS configurations, SASL mechanisms and
//! the rule that nothing beyond loopback is served in the clear by accident.
//!
//! This crate never opens a socket, never reads a clock by itself and never logs a secret: private keys
//! live in [`Identity`], whose `Debug` shows only the fingerprint. Of Kafka it knows the caps only.
//!
//! ```no_run
//! use millpond_security::{development_certificate, server_tls};
//! use std::path::Path;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let development = development_certificate(Path::new("millpond-data/tls"), &[])?;
//! println!("fingerprint {}", development.identity.fingerprint());
//! let tls = server_tls(&development.identity, None)?; // TCP and QUIC alike
//! # Ok(()) }
//! ```

pub mod certificate_facts;
pub mod certificate_names;
pub mod clients;
pub mod clock;
pub mod development;
pub mod device_ca;
pub mod fingerprint;
pub mod identity;
pub mod listener;
pub mod package;
pub mod pem;
pub mod quic;
pub mod random;
pub mod revocation;
pub mod sasl;
pub mod server;
pub mod sessions;

mod der;
mod files;
mod signed;

pub use certificate_facts::{CertificateFacts, is_issued_by};
pub use certificate_names::CertificateNames;
pub use clients::ClientCertificates;
pub use clock::HeldClock;
pub use development::{DevelopmentCertificate, DevelopmentError, development_certificate};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use identity::Identity;
pub use listener::{ListenerLine, ListenerRefused, ListenerStanding, check_listener};
pub use package::{Manifest, Package, PackageError, PackageKey, PublicKey, sign};
pub use pem::{PemError, load_certificates, load_identity, load_private_key};
pub use quic::quic_endpoint_config;
pub use random::{NoRandom, nonce, random_bytes};
pub use revocation::{RevocationError, RevocationLists};
pub use server::{ALPN_KAFKA, ServerTlsError, server_tls};
pub use sessions::with_early_data;
