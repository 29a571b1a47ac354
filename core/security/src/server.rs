//! The server's side of TLS: one configuration for Kafka over TLS and for Kafka over QUIC.
//!
//! TLS 1.3 only; resumption by stateless tickets, so that ten thousand devices cost no session
//! table; no early data, which may be granted only where a replay is harmless by construction.
//!
//! A session that is resumed shows no certificate anew. So the keys of the tickets belong to ONE
//! configuration: when certificates, authorities or revocation lists are read anew a new one is
//! made, and with it nothing of before can be resumed. Must never share what sessions are resumed
//! from between two configurations.

use crate::clients::ClientCertificates;
use crate::identity::{Identity, provider};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use std::sync::Arc;

/// The application protocol of every Millpond listener (RFC 7301). Kafka clients over TCP offer
/// none and are served; a client that offers only others is refused.
pub const ALPN_KAFKA: &[u8] = b"kafka";

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
#[error("the certificate {fingerprint} cannot be served over TLS 1.3: {source}")]
pub struct ServerTlsError {
    fingerprint: crate::Fingerprint,
    source: rustls::Error,
}

/// TLS 1.3 with `identity` and ALPN `kafka`, fit for TCP and for QUIC
/// (`quinn::crypto::rustls::QuicServerConfig::try_from`).
///
/// # Errors
/// If the key is of a kind that TLS 1.3 cannot sign with, or an authority is none.
pub fn server_tls(
    identity: &Identity,
    clients: Option<&ClientCertificates>,
) -> Result<Arc<ServerConfig>, ServerTlsError> {
    build(identity, clients)
        .map(Arc::new)
        .map_err(|source| ServerTlsError { fingerprint: identity.fingerprint(), source })
}

fn build(
    identity: &Identity,
    clients: Option<&ClientCertificates>,
) -> Result<ServerConfig, rustls::Error> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(clients) => config.with_client_cert_verifier(clients.verifier()),
    };
    let mut config =
        config.with_single_cert(identity.chain().to_vec(), identity.key().clone_key())?;
    config.alpn_protocols = vec![ALPN_KAFKA.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    if let Some(clients) = clients {
        config.time_provider = Arc::clone(clients.clock()) as Arc<dyn TimeProvider>;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::development_certificate;

    #[test]
    fn the_configuration_speaks_kafka_and_grants_no_early_data() {
        let directory = tempfile::tempdir().unwrap();
        let made = development_certificate(directory.path(), &[]).unwrap();
        let config = server_tls(&made.identity, None).unwrap();
        assert_eq!(config.alpn_protocols, vec![b"kafka".to_vec()]);
        assert_eq!(config.max_early_data_size, 0);
        assert!(config.ticketer.enabled());
    }
}
