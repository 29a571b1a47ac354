//! A small authority for the stories of clients that show certificates. Its keys live as long as the test.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a client shows, in PEM.
pub struct Shown {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    #[track_caller]
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "plant authority");
        let key = made(KeyPair::generate());
        let pem = made(params.self_signed(&key)).pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate with this name and, perhaps, this URI.
    #[track_caller]
    pub fn sign(&self, name: &str, uri: Option<&str>) -> Shown {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let uri = uri.map(|uri| SanType::URI(made(uri.try_into())));
        params.subject_alt_names.extend(uri);
        let key = made(KeyPair::generate());
        let certificate = made(params.signed_by(&key, &self.issuer)).pem();
        Shown { certificate, key: key.serialize_pem() }
    }
}

impl Default for Authority {
    #[track_caller]
    fn default() -> Authority {
        Authority::new()
    }
}

#[track_caller]
fn made<T, E: std::fmt::Display>(made: Result<T, E>) -> T {
    match made {
        Ok(made) => made,
        Err(error) => panic!("a certificate: {error}"),
    }
}
