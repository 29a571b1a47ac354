//! Revocation lists (RFC 5280 5) as files of an operator: PEM with one or several, or one in DER. A list is
//! only taken that one of the authorities of clients has signed: another would refuse everybody, or
//! nobody, without a word. Must never quote a file.

use crate::certificate_facts::CertificateFacts;
use crate::der::{Elements, GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME, only, time_s};
use crate::files;
use crate::signed::SignedBy;
use millpond_wire::limits::{REVOCATION_FILE_BYTES_MAX, REVOCATION_LISTS_MAX};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::path::{Path, PathBuf};

/// Lists that were checked against their authorities.
#[derive(Clone, Debug, Default)]
pub struct RevocationLists {
    pub(crate) lists: Vec<CertificateRevocationListDer<'static>>,
    /// Certificates on them.
    pub revoked: usize,
    /// When the first of them should be followed by a newer one, in seconds since 1970; they count
    /// beyond that.
    pub next_update_s: Option<u64>,
    /// Authorities of which no list is there: whom they signed is not looked up.
    pub authorities_without: usize,
}

/// Why a file of revocation lists is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds none, or a damaged one.
    #[error(
        "{} holds no whole revocation list; it should have -----BEGIN X509 CRL----- sections, or be \
         one list in DER", path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// More lists than there are authorities for.
    #[error("{} holds more than {REVOCATION_LISTS_MAX} revocation lists", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// Nobody who counts has signed it.
    #[error(
        "a revocation list in {} is signed by none of the authorities of client_ca, or was changed",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// What is read of a list.
struct ListFacts<'a> {
    issuer: &'a [u8],
    next_update_s: Option<u64>,
    revoked: usize,
}

impl<'a> ListFacts<'a> {
    fn read(list: &'a [u8]) -> Option<Self> {
        let mut fields = Elements(only(only(list, SEQUENCE)?, SEQUENCE)?).peekable();
        fields.next_if(|(tag, _)| *tag == INTEGER);
        let mut sequence = || fields.next().filter(|(tag, _)| *tag == SEQUENCE);
        let (_, (_, issuer)) = (sequence()?, sequence()?);
        time_s(fields.next()?)?;
        let is_time = |(tag, _): &(u8, &[u8])| matches!(*tag, UTC_TIME | GENERALIZED_TIME);
        let next_update_s = fields.next_if(is_time).and_then(time_s);
        let entries = fields.next_if(|(tag, _)| *tag == SEQUENCE);
        let revoked = entries.map_or(0, |(_, entries)| Elements(entries).count());
        Some(Self { issuer, next_update_s, revoked })
    }
}

impl RevocationLists {
    /// Reads a file and checks each list against the authorities.
    ///
    /// # Errors
    /// See [`RevocationError`].
    pub fn load(path: &Path, authorities: &[CertificateDer<'_>]) -> Result<Self, RevocationError> {
        let bytes = files::read_small(path, REVOCATION_FILE_BYTES_MAX)
            .map_err(|source| RevocationError::Unreadable { path: path.into(), source })?;
        Self::check(path, split(&bytes), authorities)
    }

    fn check(
        path: &Path,
        lists: Option<Vec<CertificateRevocationListDer<'static>>>,
        authorities: &[CertificateDer<'_>],
    ) -> Result<Self, RevocationError> {
        let lists = lists.filter(|lists| !lists.is_empty());
        let lists = lists.ok_or_else(|| RevocationError::Malformed { path: path.into() })?;
        if lists.len() > REVOCATION_LISTS_MAX {
            return Err(RevocationError::TooMany { path: path.into() });
        }
        let signers: Vec<_> =
            authorities.iter().filter_map(|one| CertificateFacts::read(one)).collect();
        let mut heard = vec![false; signers.len()];
        let mut taken = Self::default();
        for list in &lists {
            let facts = ListFacts::read(list);
            let signed = only(list, SEQUENCE).and_then(SignedBy::read);
            let (Some(facts), Some(signed)) = (facts, signed) else {
                return Err(RevocationError::Malformed { path: path.into() });
            };
            let mut is_ours = false;
            for (signer, heard) in signers.iter().zip(&mut heard) {
                if signer.subject == facts.issuer && signed.is_good(signer.key) {
                    (is_ours, *heard) = (true, true);
                }
            }
            if !is_ours {
                return Err(RevocationError::Foreign { path: path.into() });
            }
            taken.revoked += facts.revoked;
            taken.next_update_s =
                [taken.next_update_s, facts.next_update_s].into_iter().flatten().min();
        }
        taken.authorities_without = heard.iter().filter(|heard| !**heard).count();
        taken.lists = lists;
        Ok(taken)
    }
}

/// The lists of a file; `None`: a section is damaged.
fn split(bytes: &[u8]) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    if bytes.first() == Some(&SEQUENCE) {
        let mut elements = Elements(bytes);
        let (whole, _) = elements.whole()?;
        return elements.0.is_empty().then(|| vec![whole.to_vec().into()]);
    }
    let sections = CertificateRevocationListDer::pem_slice_iter(bytes);
    sections.take(REVOCATION_LISTS_MAX + 1).collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    struct Signer {
        issuer: Issuer<'static, KeyPair>,
        certificate: CertificateDer<'static>,
    }

    fn signer(name: &str) -> Signer {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Signer { issuer: Issuer::new(params, key), certificate }
    }

    fn list(signer: &Signer, serials: &[u64]) -> rcgen::CertificateRevocationList {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2027, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&signer.issuer).unwrap()
    }

    fn load(bytes: &[u8], authorities: &[&Signer]) -> Result<RevocationLists, RevocationError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revoked.crl");
        std::fs::write(&path, bytes).unwrap();
        let all: Vec<_> = authorities.iter().map(|one| one.certificate.clone()).collect();
        RevocationLists::load(&path, &all)
    }

    #[test]
    fn lists_load_from_pem_and_der_and_say_what_is_on_them() {
        let (one, other) = (signer("one"), signer("other"));
        let both = list(&one, &[1, 2]).pem().unwrap() + &list(&other, &[]).pem().unwrap();
        let loaded = load(both.as_bytes(), &[&one, &other]).unwrap();
        assert_eq!((loaded.revoked, loaded.lists.len(), loaded.authorities_without), (2, 2, 0));
        assert_eq!(loaded.next_update_s, Some(1_798_761_600));
        let loaded = load(list(&one, &[7]).der(), &[&one, &other]).unwrap();
        assert_eq!((loaded.revoked, loaded.authorities_without), (1, 1));
    }

    #[test]
    fn a_list_of_another_authority_is_not_taken_even_under_the_same_name() {
        let (one, same_name) = (signer("one"), signer("one"));
        for bytes in [list(&signer("other"), &[1]), list(&same_name, &[1])] {
            let refused = load(bytes.der(), &[&one]).unwrap_err();
            assert!(matches!(refused, RevocationError::Foreign { .. }), "{refused}");
        }
    }

    #[test]
    fn half_a_file_is_not_taken() {
        let one = signer("one");
        let (pem, der) = (list(&one, &[1]).pem().unwrap(), list(&one, &[1]).der().to_vec());
        for at in [0, 1, pem.len() / 2, pem.len() - 20] {
            assert!(load(&pem.as_bytes()[..at], &[&one]).is_err(), "{at}");
        }
        for at in 0..der.len() {
            assert!(load(&der[..at], &[&one]).is_err(), "{at}");
        }
        assert!(load(&[der.as_slice(), &[0]].concat(), &[&one]).is_err());
    }
}
