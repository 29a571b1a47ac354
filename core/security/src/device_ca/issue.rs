//! What the authority signs: itself, a server's certificate, devices' certificates, revocation lists. Of the
//! clock it is told. A device's certificate is for clients and for nothing else.

use super::CaError;
use super::register::Record;
use super::request::RequestedKey;
use super::token::DeviceName;
use crate::random::random_bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::ServerName;
use std::time::Duration;

pub(super) const DAY_S: u64 = 86_400;
/// The authority's own certificate, from when it is made.
const AUTHORITY_DAYS: u64 = 20 * 365;
/// A server's certificate, from when it is made.
const SERVER_DAYS: u64 = 825;
/// A list counts until there is another; that date is for others' programs.
const LIST_DAYS: u64 = 10 * 365;
/// Clocks of two nodes may be apart by so much.
const SKEW_S: u64 = 300;
/// Before a device's name in its certificate.
pub(super) const URI_PREFIX: &str = "millpond:device:";

type Signer = Issuer<'static, KeyPair>;

/// A time in seconds since 1970 as rcgen takes it; its type has no name here.
macro_rules! time {
    ($seconds:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs($seconds)
    };
}

/// What a certificate is, as it goes to files and over the wire.
pub(super) struct Signed {
    pub(super) pem: String,
    /// In hexadecimal.
    pub(super) serial: String,
    pub(super) not_after_s: u64,
}

/// The authority's own certificate (PEM) and key (PEM).
pub(super) fn authority(now_s: u64) -> Result<(String, String), CaError> {
    let name = format!("Millpond devices {}", super::hex(&random_bytes::<4>()?));
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
    let key = key.map_err(|error| CaError::failed("make a key", error))?;
    let mut params = authority_params(&name);
    // A device whose clock is not set believes it, too.
    params.not_before = time!(0);
    params.not_after = time!(now_s.saturating_add(AUTHORITY_DAYS * DAY_S));
    params.serial_number = Some(serial()?);
    let made = params.self_signed(&key).map_err(|error| CaError::failed("sign", error))?;
    Ok((made.pem(), key.serialize_pem()))
}

/// The authority by its name and key.
pub(super) fn signer(name: &str, key_pem: &str) -> Result<Signer, CaError> {
    let key = KeyPair::from_pem(key_pem).map_err(|_| CaError::Damaged("ca.key"))?;
    Ok(Issuer::new(authority_params(name), key))
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate of a node for these names and addresses, with its key, PEM.
pub(super) fn server(signer: &Signer, hosts: &[String], now_s: u64) -> Result<String, CaError> {
    if let Some(host) = hosts.iter().find(|host| ServerName::try_from(host.as_str()).is_err()) {
        return Err(CaError::Host(host.clone()));
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
    let key = key.map_err(|error| CaError::failed("make a key", error))?;
    let params = CertificateParams::new(hosts.to_vec());
    let mut params = params.map_err(|error| CaError::failed("sign", error))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Millpond node");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial()?);
    params.not_before = time!(0);
    params.not_after = time!(now_s.saturating_add(SERVER_DAYS * DAY_S));
    let made = params.signed_by(&key, signer).map_err(|error| CaError::failed("sign", error))?;
    Ok(made.pem() + &key.serialize_pem())
}

/// A certificate of a device.
pub(super) fn device(
    signer: &Signer,
    name: &DeviceName,
    key: &RequestedKey,
    now_s: u64,
    days: u64,
) -> Result<Signed, CaError> {
    let not_after_s = now_s.saturating_add(days.saturating_mul(DAY_S));
    let serial = serial()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    let uri = format!("{URI_PREFIX}{name}");
    let uri = uri.try_into().map_err(|error| CaError::failed("sign", error))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = time!(now_s.saturating_sub(SKEW_S));
    params.not_after = time!(not_after_s);
    params.serial_number = Some(serial.clone());
    let made = params.signed_by(key, signer).map_err(|error| CaError::failed("sign", error))?;
    Ok(Signed { pem: made.pem(), serial: super::hex(serial.as_ref()), not_after_s })
}

/// The list of all that is revoked and has not ended, PEM.
pub(super) fn list<'a>(
    signer: &Signer,
    records: impl Iterator<Item = &'a Record>,
    now_s: u64,
) -> Result<String, CaError> {
    let issued = records.flat_map(|record| &record.certificates);
    let revoked = issued.filter(|one| one.not_after_s.saturating_add(DAY_S) >= now_s);
    let entry = |one: &super::register::Issued| {
        Some(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&super::unhex(&one.serial)?),
            revocation_time: time!(one.revoked_s?),
            reason_code: Some(RevocationReason::Unspecified),
            invalidity_date: None,
        })
    };
    let params = CertificateRevocationListParams {
        this_update: time!(now_s),
        next_update: time!(now_s.saturating_add(LIST_DAYS * DAY_S)),
        crl_number: SerialNumber::from(now_s),
        issuing_distribution_point: None,
        revoked_certs: revoked.filter_map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let made = params.signed_by(signer).and_then(|list| list.pem());
    made.map_err(|error| CaError::failed("sign the revocation list", error))
}

/// Sixteen bytes that nobody foresees; positive, and never zero first.
fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = random_bytes::<16>()?;
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}
