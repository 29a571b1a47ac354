//! The certificate that a client shows in the handshake of TLS or QUIC, where it is asked for one.
//! Its key must never be printed.

use millpond_wire::Secret;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate that a client shows, and its key; both PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    chain: Vec<u8>,
    key: Secret,
}

impl ClientCertificate {
    /// The chain, the client's own first, and the private key (PKCS#8, SEC1 or PKCS#1).
    #[must_use]
    pub fn new(chain: Vec<u8>, key: Vec<u8>) -> Self {
        Self { chain, key: Secret(key.into()) }
    }

    pub(crate) fn parse(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let chain = CertificateDer::pem_slice_iter(&self.chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("the certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.0);
        Ok((chain, key.map_err(|error| format!("the private key: {error}"))?))
    }
}
