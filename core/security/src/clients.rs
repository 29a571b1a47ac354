//! Which certificates of clients count: who signs them, which are revoked, and what time it is. One object
//! for the handshake and for asking again while a connection lives. Must never let a chain stand
//! that the handshake would refuse.

use crate::certificate_facts::CertificateFacts;
use crate::clock::HeldClock;
use crate::identity::provider;
use crate::revocation::RevocationLists;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// The certificates of clients that count.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    verifier: Arc<Verifier>,
}

#[derive(Debug)]
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    clock: Arc<HeldClock>,
}

impl ClientCertificates {
    /// Certificates that one of `authorities` signs and no list revokes. `is_required`: one must be
    /// shown; a wrong one lets nobody in either way.
    ///
    /// # Errors
    /// If an authority is none, or a list cannot be read.
    pub fn new(
        authorities: Vec<CertificateDer<'static>>,
        is_required: bool,
        lists: RevocationLists,
        clock: Arc<HeldClock>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = if is_required { builder } else { builder.allow_unauthenticated() };
        // Of an authority without a list nothing is known to be revoked; the node warns of that.
        let builder = builder.with_crls(lists.lists).allow_unknown_revocation_status();
        let inner = builder.build().map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self { verifier: Arc::new(Verifier { inner, clock }) })
    }

    /// Whether a chain that was shown, end entity first, would be let in now.
    ///
    /// # Errors
    /// Why not.
    pub fn stands(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let (first, rest) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let now = UnixTime::since_unix_epoch(Duration::ZERO);
        // The time given does not count: the verifier has its own.
        self.verifier.verify_client_cert(first, rest, now).map(|_| ())
    }

    /// The clock by which they are judged.
    pub fn clock(&self) -> &Arc<HeldClock> {
        &self.verifier.clock
    }

    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier) as Arc<dyn ClientCertVerifier>
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let begins = chain.filter_map(|one| CertificateFacts::read(one)).map(|f| f.not_before_s);
        let judged_s = self.clock.judging_s(begins.max().unwrap_or(0));
        let now = UnixTime::since_unix_epoch(Duration::from_secs(judged_s));
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
