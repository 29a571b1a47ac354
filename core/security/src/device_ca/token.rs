//! Invitations: a text that lets one device enrol once. It carries the fingerprint of the authority, so that the
//! device knows whom it speaks to, and a secret, which never leaves the device: what is sent proves
//! that it is known, for one request. Must never show the secret but as the token itself.

use crate::fingerprint::Fingerprint;
use crate::random::{NoRandom, random_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use millpond_wire::limits::DEVICE_NAME_BYTES_MAX;
use ring::hmac;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "millpond-1.";
const SECRET_BYTES: usize = 18;
const DOMAIN: &[u8] = b"millpond device invitation 1\0";

/// A device's name: 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceName(String);

/// A text that is no name of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a device's name has 1 to {DEVICE_NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`, and begins \
     with a letter or a digit"
)]
pub struct NoDeviceName;

impl DeviceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = NoDeviceName;

    fn from_str(text: &str) -> Result<Self, NoDeviceName> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let is_name = text.len() <= DEVICE_NAME_BYTES_MAX
            && text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
            && text.bytes().all(fits);
        if is_name { Ok(Self(text.to_owned())) } else { Err(NoDeviceName) }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An invitation as the device has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    name: DeviceName,
    secret: [u8; SECRET_BYTES],
    authority: Fingerprint,
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no invitation; `millpond device invite NAME` on the gateway prints one: give all of it"
)]
pub struct NoToken;

impl Token {
    pub(super) fn make(name: DeviceName, authority: Fingerprint) -> Result<Self, NoRandom> {
        Ok(Self { name, secret: random_bytes()?, authority })
    }

    /// For whom.
    pub fn name(&self) -> &DeviceName {
        &self.name
    }

    /// SHA-256 of the authority's certificate.
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    /// What proves, of this request (DER) and no other, that the token is known.
    pub fn proof(&self, request: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.digest());
        hmac::sign(&key, request).as_ref().to_vec()
    }

    /// What the authority keeps of it.
    pub(super) fn digest(&self) -> [u8; 32] {
        let hash = Sha256::new().chain_update(DOMAIN).chain_update(self.name.as_str());
        hash.chain_update([0]).chain_update(self.secret).finalize().into()
    }
}

/// Whether a proof is that of the token with this digest; takes as long either way.
pub(super) fn is_proof(digest: &[u8], request: &[u8], proof: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, digest), request, proof).is_ok()
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = BASE64.encode(self.authority.to_bytes());
        write!(f, "{PREFIX}{}.{}.{authority}", self.name, BASE64.encode(self.secret))
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let mut parts = text.trim().strip_prefix(PREFIX).ok_or(NoToken)?.rsplitn(3, '.');
        let mut bytes = || parts.next().and_then(|part| BASE64.decode(part).ok()).ok_or(NoToken);
        let (authority, secret) = (bytes()?, bytes()?);
        let name = parts.next().and_then(|name| name.parse().ok()).ok_or(NoToken)?;
        let authority = <[u8; 32]>::try_from(authority).map_err(|_| NoToken)?;
        let secret = secret.try_into().map_err(|_| NoToken)?;
        Ok(Self { name, secret, authority: Fingerprint::from_bytes(authority) })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> Token {
        Token::make(name.parse().unwrap(), Fingerprint::from_bytes([7; 32])).unwrap()
    }

    #[test]
    fn a_token_survives_printing_and_reading_and_hides_in_logs() {
        let token = token("line.1-pump_7");
        let text = token.to_string();
        assert_eq!(text.parse::<Token>(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(&BASE64.encode(token.secret)));
        for at in 0..text.len() {
            assert_eq!(text[..at].parse::<Token>(), Err(NoToken), "{}", &text[..at]);
        }
        assert_eq!(text.replace("line", "../x").parse::<Token>(), Err(NoToken));
    }

    #[test]
    fn a_proof_is_good_for_its_request_and_its_token_only() {
        let (one, other) = (token("a"), token("a"));
        let proof = one.proof(b"request");
        assert!(is_proof(&one.digest(), b"request", &proof));
        assert!(!is_proof(&one.digest(), b"another", &proof));
        assert!(!is_proof(&other.digest(), b"request", &proof));
    }

    #[test]
    fn names_that_could_be_paths_or_cheat_a_log_are_none() {
        for name in ["a", "Pump-7", "0.a_b", &"x".repeat(64)] {
            assert_eq!(name.parse::<DeviceName>().unwrap().as_str(), name);
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "a\n", "é", "a:b", &"x".repeat(65)] {
            assert_eq!(bad.parse::<DeviceName>(), Err(NoDeviceName), "{bad:?}");
        }
    }
}
