//! Requests for a certificate (PKCS #10, RFC 2986): made on the device, read by the authority. Of a request nothing
//! counts but its key, and that its maker has it: the name comes from the invitation, the rest from
//! the authority. Must never take a name, a date or an extension from a request.

use super::CaError;
use super::token::DeviceName;
use crate::certificate_facts::PublicKeyInfo;
use crate::der::{Elements, INTEGER, SEQUENCE, only};
use crate::signed::SignedBy;
use millpond_wire::limits::DEVICE_REQUEST_BYTES_MAX;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData, SignatureAlgorithm,
    SigningKey,
};
use rustls_pki_types::alg_id;
use sha2::{Digest, Sha256};
use std::fmt;

/// What a renewal is signed with the old key over, before the request.
const RENEWAL_DOMAIN: &[u8] = b"millpond device renewal 1\0";

/// A device's private key (ECDSA P-256). Its `Debug` shows nothing.
pub struct DeviceKey(KeyPair);

impl DeviceKey {
    /// A new one.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate() -> Result<Self, CaError> {
        let made = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        made.map(Self).map_err(|error| CaError::failed("make a key", error))
    }

    /// From PEM (PKCS #8); a certificate may stand beside it.
    ///
    /// # Errors
    /// If there is none that can be used.
    pub fn from_pem(text: &[u8]) -> Result<Self, CaError> {
        use rustls_pki_types::PrivatePkcs8KeyDer;
        use rustls_pki_types::pem::PemObject;
        let der = PrivatePkcs8KeyDer::from_pem_slice(text)
            .map_err(|_| CaError::Invalid("there is no private key (PKCS #8)"))?;
        let key = KeyPair::try_from(&der)
            .map_err(|_| CaError::Invalid("the private key cannot be used"))?;
        Ok(Self(key))
    }

    /// For the device's own file, and nowhere else.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A request for a certificate of this key, DER.
    ///
    /// # Errors
    /// If the name cannot stand in one.
    pub fn request(&self, name: &DeviceName) -> Result<Vec<u8>, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        let made = params.serialize_request(&self.0);
        made.map(|made| made.der().to_vec())
            .map_err(|error| CaError::failed("make a request", error))
    }

    /// What proves that whoever has this key asks for that renewal.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn renewal_proof(&self, request: &[u8]) -> Result<Vec<u8>, CaError> {
        let signed = self.0.sign(&[RENEWAL_DOMAIN, request].concat());
        signed.map_err(|error| CaError::failed("sign", error))
    }

    /// Whether `certificate` (DER) is of this key.
    pub fn is_of(&self, certificate: &[u8]) -> bool {
        let facts = crate::CertificateFacts::read(certificate);
        facts.is_some_and(|facts| facts.key.key == self.0.public_key_raw())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKey").finish_non_exhaustive()
    }
}

/// What a renewal proof is over.
pub(super) fn renewal_message(request: &[u8]) -> Vec<u8> {
    [RENEWAL_DOMAIN, request].concat()
}

/// The key that a certificate is asked for; its maker has it.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestedKey {
    key: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl RequestedKey {
    /// Reads and checks a request (PKCS #10, DER): it is signed with the key that it names.
    ///
    /// # Errors
    /// [`CaError::Invalid`], or [`CaError::Refused`] where it is signed with another.
    pub fn read(request: &[u8]) -> Result<Self, CaError> {
        const WRONG: CaError = CaError::Invalid("the request for a certificate cannot be read");
        if request.len() > DEVICE_REQUEST_BYTES_MAX {
            return Err(CaError::Invalid("the request for a certificate is too large"));
        }
        let outer = only(request, SEQUENCE).ok_or(WRONG)?;
        let signed = SignedBy::read(outer).ok_or(WRONG)?;
        let mut fields = Elements(only(signed.message, SEQUENCE).ok_or(WRONG)?);
        fields.expect(INTEGER).and_then(|_| fields.expect(SEQUENCE)).ok_or(WRONG)?;
        let key = fields.expect(SEQUENCE).and_then(PublicKeyInfo::read).ok_or(WRONG)?;
        let known: [(&[u8], &'static SignatureAlgorithm); 3] = [
            (&alg_id::ECDSA_P256, &rcgen::PKCS_ECDSA_P256_SHA256),
            (&alg_id::ECDSA_P384, &rcgen::PKCS_ECDSA_P384_SHA384),
            (&alg_id::ED25519, &rcgen::PKCS_ED25519),
        ];
        let algorithm = known.into_iter().find(|(id, _)| *id == key.algorithm);
        let (_, algorithm) = algorithm
            .ok_or(CaError::Invalid("keys of devices are ECDSA P-256, P-384 or Ed25519"))?;
        if !signed.is_good(key) {
            return Err(CaError::Refused("the request is not signed with its key"));
        }
        Ok(Self { key: key.key.to_vec(), algorithm })
    }

    /// By which it is known again, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        super::hex(&Sha256::digest(&self.key))
    }
}

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gives_the_key_it_was_made_for() {
        let name: DeviceName = "pump-7".parse().unwrap();
        for algorithm in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let key = DeviceKey(KeyPair::generate_for(algorithm).unwrap());
            let read = RequestedKey::read(&key.request(&name).unwrap()).unwrap();
            assert_eq!((read.der_bytes(), read.algorithm()), (key.0.public_key_raw(), algorithm));
        }
    }

    /// No cut and no changed byte gives a key: all of it is signed, or is the signature.
    #[test]
    fn no_bytes_lead_astray() {
        let key = DeviceKey::generate().unwrap();
        let der = key.request(&"pump-7".parse().unwrap()).unwrap();
        for at in 0..der.len() {
            assert!(RequestedKey::read(&der[..at]).is_err(), "{at}");
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[at] ^= flip;
                assert!(RequestedKey::read(&changed).is_err(), "byte {at}");
            }
        }
        assert!(RequestedKey::read(&vec![SEQUENCE; DEVICE_REQUEST_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_key_is_read_beside_a_certificate_and_shows_nothing() {
        let key = DeviceKey::generate().unwrap();
        let both = format!(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{}",
            key.to_pem()
        );
        let again = DeviceKey::from_pem(both.as_bytes()).unwrap();
        assert_eq!(again.0.public_key_raw(), key.0.public_key_raw());
        assert_eq!(format!("{key:?}"), "DeviceKey { .. }");
        assert!(DeviceKey::from_pem(b"").is_err());
    }
}
