//! What devices send to enrol and to renew, and what they are given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millpond_security::device_ca::DeviceName;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::asked::Asked;

/// What a device sends to enrol; bytes in base64.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Of the device.
    pub name: String,
    /// PKCS #10, DER.
    pub request: String,
    /// That the token is known, for this request.
    pub proof: String,
}

/// What a device sends to renew; bytes in base64.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Renewal {
    /// The one that it has, PEM.
    pub certificate: String,
    /// PKCS #10, DER, with a new key.
    pub request: String,
    /// The request signed with the key of the certificate.
    pub proof: String,
}

/// What a device is given.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Enrolled {
    /// Of the device.
    pub name: String,
    /// PEM.
    pub certificate: String,
    /// The authority's, PEM.
    pub authority: String,
}

impl Enrolment {
    pub(crate) fn asked(self) -> Result<Asked, Problem> {
        let name = self.name.parse::<DeviceName>();
        let name = name.map_err(|error| Problem::bad_request(error.to_string()))?;
        Ok(Asked::Enrol { name, request: bytes(&self.request)?, proof: bytes(&self.proof)? })
    }
}

impl Renewal {
    pub(crate) fn asked(self) -> Result<Asked, Problem> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let certificate =
            certificate.map_err(|_| Problem::bad_request("the certificate is not PEM"))?;
        let (request, proof) = (bytes(&self.request)?, bytes(&self.proof)?);
        Ok(Asked::Renew { certificate, request, proof })
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, Problem> {
    BASE64.decode(text).map_err(|_| Problem::bad_request("`request` and `proof` are base64"))
}
