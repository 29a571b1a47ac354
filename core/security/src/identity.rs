//! A certificate chain with its private key: what a server or a device shows of itself.
//!
//! It never prints the key, and never exists with a key that does not fit the certificate.

use crate::fingerprint::Fingerprint;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;

/// A certificate chain, end entity first, and the private key of the end entity.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Joins a chain and a key.
    ///
    /// # Errors
    /// If the chain is empty, the key is of an unknown kind, or they do not belong together.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let first = chain.first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let fingerprint = Fingerprint::of(first);
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider())?;
        Ok(Self { chain, key, fingerprint })
    }

    /// The chain, end entity first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key. Never log it.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// SHA-256 of the end entity's certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), fingerprint: self.fingerprint }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("fingerprint", &self.fingerprint)
            .field("chain_certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// The one cryptography of the product, named explicitly: no process-wide default is relied on.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(host: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        (made.cert.der().clone(), key)
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (certificate, _) = pair("a.example");
        let (_, other_key) = pair("b.example");
        assert!(Identity::new(vec![certificate], other_key).is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        let (certificate, key) = pair("a.example");
        let identity = Identity::new(vec![certificate], key).unwrap();
        let text = format!("{identity:?}");
        assert!(text.contains("fingerprint"), "{text}");
        assert!(!text.contains("key:"), "{text}");
    }
}
