//! The certificate that Millpond makes for itself at its first start, so that QUIC works with no
//! configuration on one machine.
//!
//! The key and the certificate stand in ONE file, `development.pem`, mode 0600, written whole or
//! not at all: a power cut cannot leave a key without its certificate. A copy of the certificate
//! alone, `development-certificate.pem`, is for clients to trust. It is never a credential beyond
//! loopback (see [`crate::check_listener`]), and no clock is read: a gateway may start in 1970.

use crate::files;
use crate::identity::Identity;
use crate::pem::PEM_FILE_BYTES_MAX;
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io;
use std::path::{Path, PathBuf};

const IDENTITY_FILE: &str = "development.pem";
const CERTIFICATE_FILE: &str = "development-certificate.pem";
const ALWAYS_NAMED: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What [`development_certificate`] found or made.
#[derive(Clone, Debug)]
pub struct DevelopmentCertificate {
    /// The certificate and its key.
    pub identity: Identity,
    /// A PEM file with the certificate alone, for clients that want a CA file.
    pub certificate_file: PathBuf,
    /// True if it was made now: clients that trusted an earlier one must be told.
    pub is_new: bool,
}

/// Why there is no development certificate.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentError {
    /// A file or directory could not be read or written.
    #[error("cannot {doing} {}: {source}; check that this user owns the data directory", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stored file is damaged. It is not replaced silently: clients may rely on it.
    #[error(
        "the development certificate {} is damaged ({reason}); remove the file to have a new one made, \
         then tell clients its new fingerprint", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name cannot stand in a certificate.
    #[error("cannot make a development certificate for {hosts:?}: {reason}")]
    Unmakeable {
        /// The names asked for.
        hosts: Vec<String>,
        /// What the certificate library said.
        reason: String,
    },
}

/// Loads the development certificate of `directory`, or makes it: ECDSA P-256, for `localhost`,
/// `127.0.0.1`, `::1` and `hosts` (names or addresses). One that lacks a host now asked for is
/// replaced, with `is_new` set.
///
/// # Errors
/// See [`DevelopmentError`].
pub fn development_certificate(
    directory: &Path,
    hosts: &[String],
) -> Result<DevelopmentCertificate, DevelopmentError> {
    std::fs::create_dir_all(directory).map_err(at("create", directory))?;
    let path = directory.join(IDENTITY_FILE);
    let certificate_file = directory.join(CERTIFICATE_FILE);
    let stored = match files::read_small(&path, PEM_FILE_BYTES_MAX) {
        Ok(text) => Some(parse(&path, &text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(at("read", &path)(error)),
    };
    if let Some(identity) = stored.filter(|identity| covers(identity, hosts)) {
        return Ok(DevelopmentCertificate { identity, certificate_file, is_new: false });
    }
    let made = make(hosts)?;
    // The public copy first: once the identity stands, both do.
    files::replace(&certificate_file, made.certificate_pem.as_bytes(), 0o644)
        .map_err(at("write", &certificate_file))?;
    let both = format!("{}{}", made.key_pem, made.certificate_pem);
    files::replace(&path, both.as_bytes(), 0o600).map_err(at("write", &path))?;
    tracing::info!(fingerprint = %made.identity.fingerprint(), "development certificate made");
    Ok(DevelopmentCertificate { identity: made.identity, certificate_file, is_new: true })
}

fn parse(path: &Path, text: &[u8]) -> Result<Identity, DevelopmentError> {
    let damaged =
        |reason: &str| DevelopmentError::Damaged { path: path.into(), reason: reason.to_owned() };
    let certificate = CertificateDer::from_pem_slice(text)
        .map_err(|_| damaged("it holds no readable certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(text)
        .map_err(|_| damaged("it holds no readable private key"))?;
    Identity::new(vec![certificate], key).map_err(|error| damaged(&error.to_string()))
}

fn covers(identity: &Identity, hosts: &[String]) -> bool {
    let Some(Ok(certificate)) = identity.chain().first().map(ParsedCertificate::try_from) else {
        return false;
    };
    let wanted = ALWAYS_NAMED.into_iter().chain(hosts.iter().map(String::as_str));
    wanted.into_iter().all(|host| {
        ServerName::try_from(host).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    })
}

struct Made {
    identity: Identity,
    certificate_pem: String,
    key_pem: String,
}

fn make(hosts: &[String]) -> Result<Made, DevelopmentError> {
    let fault = |reason: String| DevelopmentError::Unmakeable { hosts: hosts.to_vec(), reason };
    let mut names: Vec<String> = ALWAYS_NAMED.map(str::to_owned).to_vec();
    names.extend(hosts.iter().filter(|host| !ALWAYS_NAMED.contains(&host.as_str())).cloned());
    if let Some(bad) = names.iter().find(|name| ServerName::try_from(name.as_str()).is_err()) {
        return Err(fault(format!("`{bad}` is neither a DNS name nor an address")));
    }
    let mut params = CertificateParams::new(names).map_err(|error| fault(error.to_string()))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Millpond development certificate");
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 12, 31);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| fault(error.to_string()))?;
    let certificate = params.self_signed(&key).map_err(|error| fault(error.to_string()))?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| fault(e.to_owned()))?;
    let identity = Identity::new(vec![certificate.der().clone()], private)
        .map_err(|error| fault(error.to_string()))?;
    Ok(Made { identity, certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

fn at<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> DevelopmentError + 'a {
    move |source| DevelopmentError::File { doing, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_second_start_uses_the_certificate_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = development_certificate(directory.path(), &[]).unwrap();
        let second = development_certificate(directory.path(), &[]).unwrap();
        assert!(first.is_new && !second.is_new);
        assert_eq!(first.identity.fingerprint(), second.identity.fingerprint());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        development_certificate(directory.path(), &[]).unwrap();
        let mode = |file: &str| {
            let path = directory.path().join(file);
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode(IDENTITY_FILE), 0o600);
        let public = fs::read_to_string(directory.path().join(CERTIFICATE_FILE)).unwrap();
        assert!(!public.contains("PRIVATE"));
    }

    #[test]
    fn a_new_host_makes_a_new_certificate_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = development_certificate(directory.path(), &[]).unwrap();
        let hosts = ["gateway.local".to_owned(), "10.1.2.3".to_owned()];
        let second = development_certificate(directory.path(), &hosts).unwrap();
        assert!(second.is_new);
        assert_ne!(first.identity.fingerprint(), second.identity.fingerprint());
        assert!(covers(&second.identity, &hosts));
        assert!(!development_certificate(directory.path(), &hosts).unwrap().is_new);
    }

    #[test]
    fn a_damaged_file_is_reported_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        development_certificate(directory.path(), &[]).unwrap();
        let path = directory.path().join(IDENTITY_FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        let error = development_certificate(directory.path(), &[]).unwrap_err();
        assert!(matches!(error, DevelopmentError::Damaged { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap().len(), text.len() / 2);
    }

    #[test]
    fn a_host_that_is_no_name_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = development_certificate(directory.path(), &["no spaces".to_owned()]);
        assert!(matches!(error, Err(DevelopmentError::Unmakeable { .. })));
    }
}
