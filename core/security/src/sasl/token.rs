//! Signed tokens (RFC 7519) checked against keys that stand in a local file (RFC 7517): nothing is
//! fetched from anywhere, least of all from where a token says (CVE-2025-27817). Which algorithm
//! counts is the key's to say, never the token's; `none` and shared secrets are no algorithms here.

use super::Refused;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use millpond_wire::limits::{TOKEN_KEYS_MAX, TOKEN_SKEW_MS, USER_NAME_BYTES_MAX};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Map, Value};

/// What a token has to be.
#[derive(Debug)]
pub struct TokenRules {
    keys: Vec<TokenKey>,
    /// `iss` must be this, if it is said.
    issuer: Option<String>,
    /// `aud` must be or contain this.
    audience: String,
    /// The claim that has the user's name.
    principal_claim: String,
}

/// Why a key set is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is not JSON, or has no `keys`.
    #[error("it is no JSON Web Key Set: {0}")]
    Format(String),
    /// No key that signatures can be checked with.
    #[error(
        "it has no public key for signatures: Ed25519 (OKP), P-256 (EC) or RSA of 2048 bits or more"
    )]
    Empty,
    /// More than the cap.
    #[error("it has more than {TOKEN_KEYS_MAX} keys")]
    TooMany,
}

/// A key that signatures are checked with.
#[derive(Debug)]
struct TokenKey {
    id: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Ed25519(Vec<u8>),
    /// 4, then both coordinates.
    P256(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
}

/// Who a token is for, and until when.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) user: String,
    /// Milliseconds since 1970.
    pub(super) until_ms: i64,
}

impl TokenRules {
    /// From a JSON Web Key Set. Keys for other ends are passed over.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn from_jwks(
        jwks: &[u8],
        audience: &str,
        issuer: Option<&str>,
        principal_claim: &str,
    ) -> Result<Self, KeySetError> {
        let set: Value =
            serde_json::from_slice(jwks).map_err(|e| KeySetError::Format(e.to_string()))?;
        let no_keys = || KeySetError::Format("`keys` is missing".to_owned());
        let keys = set.get("keys").and_then(Value::as_array).ok_or_else(no_keys)?;
        if keys.len() > TOKEN_KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<TokenKey> = keys.iter().filter_map(TokenKey::read).collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self {
            keys,
            issuer: issuer.map(str::to_owned),
            audience: audience.to_owned(),
            principal_claim: principal_claim.to_owned(),
        })
    }

    /// Who the token is for, if it is good now.
    pub(super) fn check(&self, token: &str, now_ms: i64) -> Result<Bearer, Refused> {
        let mut parts = token.split('.');
        let (Some(head), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::Token("it has not three parts"));
        };
        let header = object(head)?;
        if header.contains_key("crit") {
            return Err(Refused::Token("it demands what is not known here"));
        }
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let id = header.get("kid").and_then(Value::as_str);
        let signature = decoded(signature)?;
        let signed = &token.as_bytes()[..head.len() + 1 + claims.len()];
        let fits = |key: &&TokenKey| id.is_none() || key.id.is_none() || key.id.as_deref() == id;
        let mut keys = self.keys.iter().filter(fits);
        if !keys.any(|key| key.has_signed(algorithm, signed, &signature)) {
            return Err(Refused::Token("no key that is known here has signed it"));
        }
        self.judge(&object(claims)?, now_ms)
    }

    /// The claims of a token whose signature is good.
    fn judge(&self, claims: &Map<String, Value>, now_ms: i64) -> Result<Bearer, Refused> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let until_ms = time_ms(claims, "exp")?.ok_or(Refused::Token("it has no end (exp)"))?;
        if until_ms.saturating_add(TOKEN_SKEW_MS) <= now_ms {
            return Err(Refused::Token("it has expired"));
        }
        for name in ["nbf", "iat"] {
            let from_ms = time_ms(claims, name)?.unwrap_or(i64::MIN);
            if from_ms > now_ms.saturating_add(TOKEN_SKEW_MS) {
                return Err(Refused::Token("it is not valid yet"));
            }
        }
        if self.issuer.is_some() && text("iss") != self.issuer.as_deref() {
            return Err(Refused::Token("it is of another issuer"));
        }
        let is_for_us = match claims.get("aud") {
            Some(Value::String(one)) => *one == self.audience,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(&self.audience)),
            _ => false,
        };
        if !is_for_us {
            return Err(Refused::Token("it is for another audience"));
        }
        match text(&self.principal_claim) {
            Some(user) if (1..=USER_NAME_BYTES_MAX).contains(&user.len()) => {
                Ok(Bearer { user: user.to_owned(), until_ms })
            }
            _ => Err(Refused::Token("it names no user")),
        }
    }
}

impl TokenKey {
    /// `None`: it is for another end, or of a kind that is not taken.
    fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| text(name).and_then(|text| BASE64.decode(text).ok());
        if text("use").is_some_and(|end| end != "sig") {
            return None;
        }
        let public = match (text("kty")?, text("crv")) {
            ("OKP", Some("Ed25519")) => {
                Public::Ed25519(bytes("x").filter(|x| x.len() == POINT_BYTES)?)
            }
            ("EC", Some("P-256")) => {
                let coordinate = |name: &str| bytes(name).filter(|x| x.len() == POINT_BYTES);
                Public::P256([vec![4], coordinate("x")?, coordinate("y")?].concat())
            }
            ("RSA", _) => {
                let modulus = bytes("n").filter(|n| n.len() >= RSA_BYTES_MIN)?;
                Public::Rsa { modulus, exponent: bytes("e")? }
            }
            _ => return None,
        };
        let is_other = |algorithm: &str| algorithm != public.algorithm();
        if text("alg").is_some_and(is_other) {
            return None;
        }
        Some(Self { id: text("kid").map(str::to_owned), public })
    }

    fn has_signed(&self, algorithm: &str, signed: &[u8], proof: &[u8]) -> bool {
        if algorithm != self.public.algorithm() {
            return false;
        }
        let checked = match &self.public {
            Public::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(signed, proof)
            }
            Public::P256(key) => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key)
                .verify(signed, proof),
            Public::Rsa { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed, proof),
        };
        checked.is_ok()
    }
}

impl Public {
    /// The one that it is used with (RFC 7518, RFC 8037).
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa { .. } => "RS256",
        }
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, Refused> {
    BASE64.decode(part).map_err(|_| Refused::Token("a part of it is no Base64"))
}

fn object(part: &str) -> Result<Map<String, Value>, Refused> {
    match serde_json::from_slice(&decoded(part)?) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Refused::Token("a part of it is no JSON object")),
    }
}

/// Seconds since 1970, parts of them allowed, in milliseconds.
fn time_ms(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Refused> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().ok_or(Refused::Token("a time of it is no number"))?;
    // Saturates; a number that is none does not come out of JSON.
    Ok(Some((seconds * 1000.0) as i64))
}

const POINT_BYTES: usize = 32;
const RSA_BYTES_MIN: usize = 2048 / 8;
