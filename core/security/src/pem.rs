//! PEM files of an operator: certificate chains and private keys, with errors that say which
//! file, what is wrong with it and what to do.
//!
//! It never puts the content of a key file into an error.

use crate::files;
use crate::identity::Identity;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};

/// Largest PEM file that is read: a chain is a few KiB.
pub const PEM_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most certificates in one file.
pub const PEM_CERTIFICATES_MAX: usize = 256;

/// Why a PEM file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file cannot be read at all.
    #[error("cannot read {}: {source}; check the path and that this user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not well-formed PEM.
    #[error("{} is not valid PEM: {reason}; it should hold -----BEGIN ...----- sections in base64", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// No section of the kind that is needed.
    #[error("{} holds no {wanted}; {hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// More certificates than any chain needs.
    #[error("{} holds more than {PEM_CERTIFICATES_MAX} certificates; give only the chain", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// The key and the certificate do not fit, or one of them is of an unsupported kind.
    #[error("the certificate {} and the key {} cannot be used together: {reason}", certificate.display(), key.display())]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What the TLS library said.
        reason: String,
    },
}

/// Loads every certificate of a PEM file, in its order.
///
/// # Errors
/// See [`PemError`]: unreadable, malformed, none in it, too many.
pub fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(path)?;
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| malformed(path, &error))?;
        if certificates.len() == PEM_CERTIFICATES_MAX {
            return Err(PemError::TooMany { path: path.into() });
        }
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(PemError::Missing {
            path: path.into(),
            wanted: "certificate (-----BEGIN CERTIFICATE-----)",
            hint: "if this is the key file, the two paths may be swapped",
        });
    }
    Ok(certificates)
}

/// Loads the first private key (PKCS#8, SEC1 or PKCS#1) of a PEM file.
///
/// # Errors
/// See [`PemError`]; an encrypted key counts as missing, with a hint.
pub fn load_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => Err(PemError::Missing {
            path: path.into(),
            wanted: "private key (-----BEGIN PRIVATE KEY-----)",
            hint: if contains(&text, b"ENCRYPTED PRIVATE KEY") {
                "the key is encrypted: write it out without a passphrase, mode 0600 \
                 (openssl pkey -in KEY -out PLAIN_KEY)"
            } else {
                "if this is the certificate file, the two paths may be swapped"
            },
        }),
        Err(error) => Err(malformed(path, &error)),
    }
}

/// Loads a chain and its key and checks that they belong together.
///
/// # Errors
/// See [`PemError`].
pub fn load_identity(certificate: &Path, key: &Path) -> Result<Identity, PemError> {
    let chain = load_certificates(certificate)?;
    let private_key = load_private_key(key)?;
    Identity::new(chain, private_key).map_err(|error| PemError::Mismatch {
        certificate: certificate.into(),
        key: key.into(),
        reason: error.to_string(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    files::read_small(path, PEM_FILE_BYTES_MAX)
        .map_err(|source| PemError::Unreadable { path: path.into(), source })
}

/// Names the fault without quoting the file: a line of it may be key material.
fn malformed(path: &Path, error: &rustls_pki_types::pem::Error) -> PemError {
    use rustls_pki_types::pem::Error;
    let reason = match error {
        Error::MissingSectionEnd { .. } => "a section has no -----END ...----- line",
        Error::IllegalSectionStart { .. } => "a -----BEGIN ...----- line is damaged",
        Error::Base64Decode(_) => "a section is not base64",
        Error::SectionTooLarge => "a section is too large",
        _ => "it cannot be parsed",
    };
    PemError::Malformed { path: path.into(), reason: reason.to_owned() }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Files {
        directory: tempfile::TempDir,
        certificate: PathBuf,
        key: PathBuf,
    }

    fn files() -> Files {
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["gate.example".to_owned()]).unwrap();
        let certificate = directory.path().join("cert.pem");
        let key = directory.path().join("key.pem");
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Files { directory, certificate, key }
    }

    #[test]
    fn a_chain_and_its_key_load() {
        let files = files();
        let identity = load_identity(&files.certificate, &files.key).unwrap();
        assert_eq!(identity.chain().len(), 1);
    }

    #[test]
    fn swapped_paths_are_named() {
        let files = files();
        let error = load_identity(&files.key, &files.certificate).unwrap_err().to_string();
        assert!(error.contains("key.pem holds no certificate"), "{error}");
        assert!(error.contains("swapped"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = files();
        let path = files.directory.path().join("absent.pem");
        let error = load_certificates(&path).unwrap_err().to_string();
        assert!(error.contains("absent.pem"), "{error}");
    }

    #[test]
    fn damaged_text_is_refused_without_quoting_it() {
        let files = files();
        let text = fs::read_to_string(&files.key).unwrap();
        let cut = text.len() / 2;
        let secret_line: String = text.lines().nth(1).unwrap().to_owned();
        fs::write(&files.key, &text[..cut]).unwrap();
        let error = load_private_key(&files.key).unwrap_err();
        assert!(matches!(error, PemError::Malformed { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains(&secret_line));
    }

    #[test]
    fn an_encrypted_key_gets_a_hint() {
        let files = files();
        fs::write(
            &files.key,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        )
        .unwrap();
        let error = load_private_key(&files.key).unwrap_err().to_string();
        assert!(error.contains("without a passphrase"), "{error}");
    }

    #[test]
    fn a_key_of_another_certificate_is_a_mismatch() {
        let (one, other) = (files(), files());
        let error = load_identity(&one.certificate, &other.key).unwrap_err();
        assert!(matches!(error, PemError::Mismatch { .. }), "{error}");
    }
}
