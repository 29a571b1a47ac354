//! How a client knows that the broker is the broker: by the fingerprint of its certificate, by a
//! certificate authority, or (said out loud) not at all.
//!
//! No authority of the public web is trusted by default, and nothing is ever trusted on first
//! use: without a [`Trust`], TLS and QUIC are refused before a byte is sent.

use crate::certificate::ClientCertificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The application protocol of Millpond's listeners (RFC 7301).
pub const ALPN_KAFKA: &[u8] = b"kafka";

/// Whom to believe. The default believes nobody, which suits plain TCP only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Nobody: TLS and QUIC cannot be used.
    #[default]
    Nothing,
    /// Exactly the certificate with this SHA-256; names and dates do not matter.
    Fingerprint(Fingerprint),
    /// Certificates issued by one of these authorities (PEM text), valid today, for the host's
    /// name. A self-signed certificate may stand for itself.
    CaPem(Vec<u8>),
    /// Certificates issued by the authority with this SHA-256, valid today, for the host's name; the
    /// broker shows the authority's certificate beside its own. What an invitation of a device carries.
    Authority(Fingerprint),
    /// Anybody. Encrypts, but whoever answers is believed: for experiments only.
    InsecureNoVerify,
}

/// SHA-256 of a certificate in DER form, read from and shown as `AA:BB:..`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Why a [`Trust`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// TLS or QUIC without anything to believe.
    #[error(
        "no trust is configured, which TLS and QUIC need: give the broker's fingerprint (it prints \
         it at its start) or the PEM of its authority"
    )]
    Nothing,
    /// The text is no fingerprint.
    #[error("a SHA-256 fingerprint has 64 hexadecimal digits, with or without colons")]
    Fingerprint,
    /// The PEM text holds no usable authority.
    #[error("the authority's PEM cannot be used: {0}")]
    CaPem(String),
    /// The TLS library refused the configuration.
    #[error("TLS cannot be configured: {0}")]
    Tls(String),
}

impl Trust {
    /// Trust in the certificate with this fingerprint.
    ///
    /// # Errors
    /// [`TrustError::Fingerprint`].
    pub fn fingerprint(text: &str) -> Result<Self, TrustError> {
        text.parse().map(Self::Fingerprint)
    }

    /// The TLS 1.3 configuration of this trust, for TCP and QUIC alike, with the application protocol
    /// of Kafka.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn tls(&self, shown: Option<&ClientCertificate>) -> Result<Arc<ClientConfig>, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = self.verifier(&provider)?;
        let tls = |error: rustls::Error| TrustError::Tls(error.to_string());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let (chain, key) = shown.parse().map_err(TrustError::Tls)?;
                config.with_client_auth_cert(chain, key).map_err(tls)?
            }
        };
        config.alpn_protocols = vec![ALPN_KAFKA.to_vec()];
        Ok(Arc::new(config))
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
        let whom = match self {
            Self::Nothing => return Err(TrustError::Nothing),
            Self::Fingerprint(fingerprint) => Whom::Shows(*fingerprint),
            Self::Authority(fingerprint) => Whom::IssuedBy(*fingerprint),
            Self::InsecureNoVerify => Whom::Anybody,
            Self::CaPem(pem) => return authorities(pem, provider),
        };
        Ok(Arc::new(Pinned { whom, provider: Arc::clone(provider) }))
    }
}

fn authorities(
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| TrustError::CaPem(error.to_string()))?;
        roots.add(certificate).map_err(|error| TrustError::CaPem(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TrustError::CaPem("it holds no certificate".to_owned()));
    }
    let verifier = issued_by(roots, provider);
    let verifier = verifier.map_err(|error| TrustError::CaPem(error.to_string()))?;
    Ok(verifier)
}

fn issued_by(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()
}

/// Believes by fingerprint. The handshake's signature is checked in every case: a certificate
/// without its key is nobody's.
#[derive(Debug)]
struct Pinned {
    whom: Whom,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Whom {
    Anybody,
    /// Whose certificate this is.
    Shows(Fingerprint),
    /// To whom the authority of this certificate gave one.
    IssuedBy(Fingerprint),
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refused = |why: String| Err(rustls::Error::General(why));
        match self.whom {
            Whom::Anybody => Ok(ServerCertVerified::assertion()),
            Whom::Shows(pinned) => match Fingerprint::of(end_entity) {
                shown if shown == pinned => Ok(ServerCertVerified::assertion()),
                shown => refused(format!(
                    "the broker shows the certificate {shown}, trusted is {pinned}"
                )),
            },
            Whom::IssuedBy(pinned) => {
                let known = intermediates.iter().find(|one| Fingerprint::of(one) == pinned);
                let Some(known) = known else {
                    return refused(format!(
                        "the server does not show the authority {pinned}, which is trusted"
                    ));
                };
                let mut roots = RootCertStore::empty();
                roots.add(known.clone().into_owned())?;
                let verifier = issued_by(roots, &self.provider)
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
                verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Fingerprint {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }
}

impl FromStr for Fingerprint {
    type Err = TrustError;

    fn from_str(text: &str) -> Result<Self, TrustError> {
        let mut bytes = [0u8; 32];
        let mut digits = text.trim().chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        let mut nibble = || digits.next().flatten().ok_or(TrustError::Fingerprint);
        for byte in &mut bytes {
            let value = nibble()? * 16 + nibble()?;
            *byte = u8::try_from(value).map_err(|_| TrustError::Fingerprint)?;
        }
        match digits.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(TrustError::Fingerprint),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_in_both_forms() {
        let fingerprint = Fingerprint([0xA5; 32]);
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 32 * 3 - 1);
        assert_eq!(Trust::fingerprint(&text), Ok(Trust::Fingerprint(fingerprint)));
        assert_eq!(Trust::fingerprint(&"a5".repeat(32)), Ok(Trust::Fingerprint(fingerprint)));
        assert!(Trust::fingerprint(&"a5".repeat(31)).is_err());
        assert!(Trust::fingerprint(&"a5".repeat(33)).is_err());
        assert!(Trust::fingerprint(&"xx".repeat(32)).is_err());
    }

    #[test]
    fn nobody_is_believed_by_default() {
        assert_eq!(Trust::default().tls(None).unwrap_err(), TrustError::Nothing);
        assert!(matches!(Trust::CaPem(b"no pem".to_vec()).tls(None), Err(TrustError::CaPem(_))));
    }
}
