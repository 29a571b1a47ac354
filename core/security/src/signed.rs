//! What is signed as X.509 signs: the bytes, the algorithm, the signature (RFC 5280 4.1.1, RFC 2986 4.2). One check for
//! certificates, requests and revocation lists, by the algorithms that TLS accepts, and no others.

use crate::certificate_facts::PublicKeyInfo;
use crate::der::{BITS, Elements, SEQUENCE, octets_of_bits};
use crate::identity::provider;

/// A signed structure, not checked yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignedBy<'a> {
    /// What is signed, as it stands there.
    pub(crate) message: &'a [u8],
    /// Content of the AlgorithmIdentifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> SignedBy<'a> {
    /// From the content of the outer sequence.
    pub(crate) fn read(content: &'a [u8]) -> Option<Self> {
        let mut parts = Elements(content);
        let (message, _) = parts.whole().filter(|(_, (tag, _))| *tag == SEQUENCE)?;
        let algorithm = parts.expect(SEQUENCE)?;
        let signature = octets_of_bits(parts.expect(BITS)?)?;
        Some(Self { message, algorithm, signature })
    }

    /// Whether the signature is that of `key`.
    pub(crate) fn is_good(&self, key: PublicKeyInfo<'_>) -> bool {
        is_signed(key, Some(self.algorithm), self.message, self.signature)
    }
}

/// Whether `signature` of `message` is that of `key`; without an algorithm, by any that fits the key.
pub(crate) fn is_signed(
    key: PublicKeyInfo<'_>,
    algorithm: Option<&[u8]>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let known = provider().signature_verification_algorithms.all;
    known.iter().any(|one| {
        one.public_key_alg_id().as_ref() == key.algorithm
            && algorithm.is_none_or(|said| one.signature_alg_id().as_ref() == said)
            && one.verify_signature(key.key, message, signature).is_ok()
    })
}
