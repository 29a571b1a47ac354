//! What proves a user (RFC 5802): salt, rounds, stored key, server key; and what one who is not
//! known is answered with, so that nobody learns who is. Never holds a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The hash function of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// What a proof is checked against.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Of the password.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// H(HMAC(salted password, "Client Key")).
    pub stored_key: Vec<u8>,
    /// HMAC(salted password, "Server Key").
    pub server_key: Vec<u8>,
}

/// Everybody who is known.
pub trait Users: Send + Sync {
    /// What proves `user` by `hash`; by either, the stronger first, if none is said.
    fn credential(
        &self,
        user: &str,
        hash: Option<ScramHash>,
    ) -> Option<(ScramHash, Arc<Credential>)>;

    /// What proves some user or other, always the same for a number: what that of a user who is not
    /// known has to look like.
    fn example(&self, number: u64, hash: Option<ScramHash>)
    -> Option<(ScramHash, Arc<Credential>)>;
}

/// Makes credentials up for those who are not known: the same for a name every time, like those of
/// others, and fitting no password.
pub struct Decoy {
    key: hmac::Key,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Debug for Decoy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoy")
    }
}

impl ScramHash {
    pub(super) fn hmac(self, key: &[u8], text: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text)
    }

    pub(super) fn digest(self, bytes: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes)
    }

    /// Bytes of its output.
    #[must_use]
    pub const fn output_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// PBKDF2 over a password: what a client sends to make a user, and what proves it. Takes
/// milliseconds of a core, as it is meant to.
#[must_use]
pub fn salted_password(
    hash: ScramHash,
    password: &[u8],
    salt: &[u8],
    iterations: NonZeroU32,
) -> Vec<u8> {
    let algorithm = match hash {
        ScramHash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        ScramHash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
    };
    let mut salted = vec![0; hash.output_bytes()];
    pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
    salted
}

impl Credential {
    /// From what PBKDF2 made of a password.
    #[must_use]
    pub fn derive(hash: ScramHash, salt: &[u8], iterations: u32, salted: &[u8]) -> Self {
        let client_key = hash.hmac(salted, b"Client Key");
        Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: hash.digest(client_key.as_ref()).as_ref().to_vec(),
            server_key: hash.hmac(salted, b"Server Key").as_ref().to_vec(),
        }
    }
}

impl Decoy {
    /// `secret` must be random; another one makes other credentials up.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA512, secret) }
    }

    /// What `user` is to be checked against, and whether he is known. Does the same work whether he
    /// is or not.
    pub(super) fn find(
        &self,
        users: &dyn Users,
        user: &str,
        hash: Option<ScramHash>,
    ) -> (ScramHash, Arc<Credential>, bool) {
        let known = users.credential(user, hash);
        let made_up = self.make_up(users, user, hash);
        match known {
            Some((hash, credential)) => (hash, credential, true),
            None => (made_up.0, made_up.1, false),
        }
    }

    fn make_up(
        &self,
        users: &dyn Users,
        user: &str,
        hash: Option<ScramHash>,
    ) -> (ScramHash, Arc<Credential>) {
        let drawn = hmac::sign(&self.key, user.as_bytes());
        let drawn = drawn.as_ref();
        let number = drawn.first_chunk().copied().map_or(0, u64::from_le_bytes);
        let (hash, salt_bytes, iterations, is_text) = match users.example(number, hash) {
            Some((hash, like)) => {
                let is_text = like.salt.iter().all(u8::is_ascii_graphic);
                (hash, like.salt.len(), like.iterations, is_text)
            }
            None => (hash.unwrap_or(ScramHash::Sha512), SALT_BYTES, ITERATIONS, false),
        };
        // Kafka's tools make salts that are text, ours makes bytes.
        let mut salt: Vec<u8> = match is_text {
            true => BASE64.encode(drawn).into_bytes(),
            false => drawn.iter().skip(8).copied().collect(),
        };
        salt = salt.into_iter().cycle().take(salt_bytes).collect();
        let key = |at: usize| {
            drawn.iter().cycle().skip(at).take(hash.output_bytes()).copied().collect::<Vec<u8>>()
        };
        (hash, Arc::new(Credential { salt, iterations, stored_key: key(0), server_key: key(1) }))
    }
}

/// Of the example where nobody is known.
const SALT_BYTES: usize = 16;
const ITERATIONS: u32 = millpond_wire::limits::DEFAULT_SCRAM_ITERATIONS;
