//! Who a client says that it is: a name and a password (SASL PLAIN, RFC 4616), said within TLS or QUIC once
//! the versions are agreed on; or a certificate, shown in the handshake. A password must never be said over a
//! plain line, and neither it nor a key ever be printed.

use crate::connection::Connection;
use crate::error::ConnectError;
use crate::url::Scheme;
use millpond_wire::messages::{Request, Response, SaslAuthenticateRequest, SaslHandshakeRequest};
use millpond_wire::{ApiKey, ErrorCode, Secret};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Who a client says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: Secret,
}

/// A certificate that a client shows, and its key; both PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    chain: Vec<u8>,
    key: Secret,
}

impl ClientCertificate {
    /// The chain, the client's own first, and the private key (PKCS#8, SEC1 or PKCS#1).
    #[must_use]
    pub fn new(chain: Vec<u8>, key: Vec<u8>) -> Self {
        Self { chain, key: Secret(key.into()) }
    }

    pub(crate) fn parse(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let chain = CertificateDer::pem_slice_iter(&self.chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("the certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.0);
        Ok((chain, key.map_err(|error| format!("the private key: {error}"))?))
    }
}

impl Login {
    /// By name and password.
    #[must_use]
    pub fn new(user: impl Into<String>, password: Vec<u8>) -> Self {
        Self { user: user.into(), password: Secret(password.into()) }
    }

    pub(crate) async fn say(&self, connection: &Connection) -> Result<(), ConnectError> {
        let broker = connection.broker().clone();
        let refused = |reason: String| ConnectError::Login { broker: broker.clone(), reason };
        if broker.scheme == Scheme::Tcp {
            let reason = "a password is not sent in the clear; write tls:// or quic://";
            return Err(refused(reason.to_owned()));
        }
        let lost = |error: crate::error::CallError| refused(error.to_string());
        let mechanism = "PLAIN".to_owned();
        let handshake = Request::SaslHandshake(SaslHandshakeRequest { mechanism });
        let version = connection.version(ApiKey::SaslHandshake);
        if version.is_none_or(|version| version < 1) {
            return Err(refused("the broker asks nobody for a name".to_owned()));
        }
        match connection.call(handshake).await.map_err(lost)? {
            Response::SaslHandshake(answer) if answer.error_code == 0 => {}
            Response::SaslHandshake(answer) => {
                let offers = answer.mechanisms.join(", ");
                let why = ErrorCode::from_code(answer.error_code).map_or("", ErrorCode::message);
                return Err(refused(format!("PLAIN is not taken ({why}); offered: {offers}")));
            }
            _ => return Err(refused("another API's answer".to_owned())),
        }
        let token = [b"\0", self.user.as_bytes(), b"\0", &self.password.0].concat();
        let request = SaslAuthenticateRequest { auth_bytes: Secret(token.into()) };
        match connection.call(Request::SaslAuthenticate(request)).await.map_err(lost)? {
            Response::SaslAuthenticate(answer) if answer.error_code == 0 => Ok(()),
            Response::SaslAuthenticate(answer) => {
                Err(refused(answer.error_message.unwrap_or_default()))
            }
            _ => Err(refused("another API's answer".to_owned())),
        }
    }
}
