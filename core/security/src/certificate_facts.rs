//! What is read of a certificate besides names: its number, its dates, its key, who issued it. Must never
//! be taken for a check: a signature is checked where it is said so, a chain by the TLS library.

use crate::der::{BITS, Elements, INTEGER, SEQUENCE, VERSION, octets_of_bits, only, time_s};
use crate::signed::SignedBy;

/// What stands in a certificate (RFC 5280 4.1). Times are seconds since 1970, 0 for what is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateFacts<'a> {
    /// The serial number, as its bytes stand there.
    pub serial: &'a [u8],
    /// Valid from then on.
    pub not_before_s: u64,
    /// Valid up to then.
    pub not_after_s: u64,
    /// Names of the issuer, in DER, without what is around them.
    pub(crate) issuer: &'a [u8],
    /// The same of whom it is about.
    pub(crate) subject: &'a [u8],
    /// The public key with its algorithm.
    pub(crate) key: PublicKeyInfo<'a>,
}

/// A SubjectPublicKeyInfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKeyInfo<'a> {
    /// Content of the AlgorithmIdentifier.
    pub(crate) algorithm: &'a [u8],
    pub(crate) key: &'a [u8],
}

impl<'a> PublicKeyInfo<'a> {
    /// From the content of the sequence.
    pub(crate) fn read(content: &'a [u8]) -> Option<Self> {
        let mut parts = Elements(content);
        let algorithm = parts.expect(SEQUENCE)?;
        let key = octets_of_bits(parts.expect(BITS)?)?;
        Some(Self { algorithm, key })
    }
}

impl<'a> CertificateFacts<'a> {
    /// Reads a certificate (DER); `None`: it is none.
    #[must_use]
    pub fn read(certificate: &'a [u8]) -> Option<Self> {
        let signed = only(only(certificate, SEQUENCE)?, SEQUENCE)?;
        let mut fields = Elements(signed);
        let (tag, first) = fields.next()?;
        let serial = if tag == VERSION { fields.expect(INTEGER)? } else { first };
        let (_algorithm, issuer) = (fields.expect(SEQUENCE)?, fields.expect(SEQUENCE)?);
        let mut validity = Elements(fields.expect(SEQUENCE)?);
        let (not_before_s, not_after_s) = (time_s(validity.next()?)?, time_s(validity.next()?)?);
        let subject = fields.expect(SEQUENCE)?;
        let key = PublicKeyInfo::read(fields.expect(SEQUENCE)?)?;
        let is_certificate = tag == VERSION || tag == INTEGER;
        is_certificate.then_some(Self { serial, not_before_s, not_after_s, issuer, subject, key })
    }
}

/// Whether `certificate` is signed with the key of `authority`, both DER.
#[must_use]
pub fn is_issued_by(certificate: &[u8], authority: &[u8]) -> bool {
    let issuer = CertificateFacts::read(authority);
    let signed = only(certificate, SEQUENCE).and_then(SignedBy::read);
    match (issuer, CertificateFacts::read(certificate), signed) {
        (Some(issuer), Some(own), Some(signed)) => {
            own.issuer == issuer.subject && signed.is_good(issuer.key)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SerialNumber};

    fn made() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&[0x12, 0x34]));
        params.not_before = rcgen::date_time_ymd(2026, 11, 1);
        params.not_after = rcgen::date_time_ymd(2099, 12, 31);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn number_and_dates_are_those_of_the_certificate() {
        let der = made();
        let facts = CertificateFacts::read(&der).unwrap();
        assert_eq!(facts.serial, [0x12, 0x34]);
        assert_eq!((facts.not_before_s, facts.not_after_s), (1_793_491_200, 4_102_358_400));
    }

    #[test]
    fn a_signature_is_that_of_its_issuer_only() {
        let (one, other) = (made(), made());
        assert!(is_issued_by(&one, &one) && !is_issued_by(&one, &other));
        let mut changed = one.clone();
        let at = changed.len() / 2;
        changed[at] ^= 1;
        assert!(!is_issued_by(&changed, &one));
    }

    /// Every cut and every changed byte gives facts or none, and an end.
    #[test]
    fn no_bytes_lead_astray() {
        let der = made();
        for at in 0..der.len() {
            assert_eq!(CertificateFacts::read(&der[..at]), None);
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[at] ^= flip;
                let _ = CertificateFacts::read(&changed);
                assert!(!is_issued_by(&changed, &der), "byte {at}");
            }
        }
    }
}
