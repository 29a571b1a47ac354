//! Users and what proves them: SCRAM credentials (RFC 5802), from which nobody can log in who steals
//! them alone. Durable: what an administrator sets is journalled. Never holds a password, never
//! shows a key, and never judges a proof; the connection does.

use crate::codec::{CodecError, Take, put_bytes, put_count, put_string};
use crate::user_fact::UserFact;
use bytes::{BufMut, Bytes};
use hmac::{Hmac, KeyInit, Mac};
use millpond_wire::limits;
use sha2::{Digest, Sha256, Sha512};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The hash function of a SCRAM mechanism, with Kafka's number of it (KIP-554).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ScramHash {
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256 = 1,
    /// SCRAM-SHA-512.
    Sha512 = 2,
}

/// What one mechanism checks a user's proof against.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// Of the password.
    pub salt: Bytes,
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// H(HMAC(salted password, "Client Key")).
    pub stored_key: Bytes,
    /// HMAC(salted password, "Server Key").
    pub server_key: Bytes,
}

/// All users of the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserTable {
    by_name: BTreeMap<String, Credentials>,
}

/// Of one user; one at least.
pub(crate) type Credentials = BTreeMap<ScramHash, Arc<ScramCredential>>;

impl ScramHash {
    /// Both.
    pub const ALL: [ScramHash; 2] = [ScramHash::Sha256, ScramHash::Sha512];

    /// By Kafka's number; `None`: there is no such mechanism.
    #[must_use]
    pub fn from_code(code: i8) -> Option<ScramHash> {
        ScramHash::ALL.into_iter().find(|hash| *hash as i8 == code)
    }

    /// Bytes of its output.
    #[must_use]
    pub const fn output_bytes(self) -> usize {
        match self {
            ScramHash::Sha256 => 32,
            ScramHash::Sha512 => 64,
        }
    }
}

impl fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ScramCredential");
        shown.field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl ScramCredential {
    /// From what a client derived of a password: that itself is not kept.
    pub(crate) fn derive(
        hash: ScramHash,
        salt: &[u8],
        iterations: u32,
        salted_password: &[u8],
    ) -> ScramCredential {
        let keyed = |text: &[u8]| match hash {
            ScramHash::Sha256 => keyed::<Hmac<Sha256>>(salted_password, text),
            ScramHash::Sha512 => keyed::<Hmac<Sha512>>(salted_password, text),
        };
        let client_key = keyed(b"Client Key");
        let stored_key = match hash {
            ScramHash::Sha256 => Bytes::copy_from_slice(&Sha256::digest(&client_key)),
            ScramHash::Sha512 => Bytes::copy_from_slice(&Sha512::digest(&client_key)),
        };
        ScramCredential {
            salt: Bytes::copy_from_slice(salt),
            iterations,
            stored_key,
            server_key: keyed(b"Server Key"),
        }
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.iterations);
        for bytes in [&self.salt, &self.stored_key, &self.server_key] {
            put_bytes(out, bytes);
        }
    }

    pub(crate) fn take(take: &mut Take, hash: ScramHash) -> Result<ScramCredential, CodecError> {
        let credential = ScramCredential {
            iterations: take.u32("iterations")?,
            salt: take.bytes("salt")?,
            stored_key: take.bytes("stored key")?,
            server_key: take.bytes("server key")?,
        };
        for key in [&credential.stored_key, &credential.server_key] {
            if key.len() != hash.output_bytes() {
                let value = key.len() as i64;
                return Err(CodecError::Impossible { what: "length of a key", value });
            }
        }
        Ok(credential)
    }
}

fn keyed<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Bytes {
    match <M as KeyInit>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(text);
            Bytes::copy_from_slice(&mac.finalize().into_bytes())
        }
        // HMAC takes keys of any length.
        Err(_) => Bytes::new(),
    }
}

/// As it stands in the journal.
pub(crate) fn take_hash(take: &mut Take) -> Result<ScramHash, CodecError> {
    let code = take.u8("mechanism")?;
    let hash = i8::try_from(code).ok().and_then(ScramHash::from_code);
    hash.ok_or(CodecError::Impossible { what: "mechanism", value: code.into() })
}

impl UserTable {
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Credentials)> {
        self.by_name.iter()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Credentials> {
        self.by_name.get(name)
    }

    pub(crate) fn apply(&mut self, fact: &UserFact) {
        match &fact.credential {
            Some(credential) => self.set(&fact.user, fact.hash, Arc::clone(credential)),
            None => self.remove(&fact.user, fact.hash),
        }
    }

    fn set(&mut self, name: &str, hash: ScramHash, credential: Arc<ScramCredential>) {
        self.by_name.entry(name.to_owned()).or_default().insert(hash, credential);
    }

    /// A user without credentials is none.
    fn remove(&mut self, name: &str, hash: ScramHash) {
        if let Some(credentials) = self.by_name.get_mut(name) {
            credentials.remove(&hash);
            if credentials.is_empty() {
                self.by_name.remove(name);
            }
        }
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_count(out, self.by_name.len());
        for (name, credentials) in &self.by_name {
            put_string(out, name);
            put_count(out, credentials.len());
            for (hash, credential) in credentials {
                out.put_u8(*hash as u8);
                credential.put(out);
            }
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<UserTable, CodecError> {
        let mut table = UserTable::default();
        let count = take.count("users", 8)?;
        if count > limits::USERS_MAX {
            return Err(CodecError::Impossible { what: "users", value: count as i64 });
        }
        for _ in 0..count {
            let name = take.string("user")?;
            for _ in 0..take.count("credentials", 17)? {
                let hash = take_hash(take)?;
                table.set(&name, hash, Arc::new(ScramCredential::take(take, hash)?));
            }
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user of RFC 7677, 3 with the password "pencil", computed apart from this program.
    #[test]
    fn keys_are_those_of_the_published_exchange() {
        let salted = hex("c4a49510323ab4f952cac1fa99441939e78ea74d6be81ddf7096e87513dc615d");
        let credential = ScramCredential::derive(ScramHash::Sha256, b"salt", 4096, &salted);
        let stored = hex("586e5df283e6dceb5c3e791d8b8528ec191e664045ce971792e2e6b5bb13e2a6");
        let server = hex("c1f3cbc1c13a9d35a14c0990eed97629ea225863e566a4314ab99f3f00e5d9d5");
        assert_eq!(credential.stored_key[..], stored);
        assert_eq!(credential.server_key[..], server);
        let salted = hex("f16efe1be67f1d09502ebd5ed9262fddffba5a377ab4f0b687e5ed5ba0f50686\
             b8a4ae166476da8ab3b951d2fa9238b63998f45461bc33a464814949cec9631d");
        let credential = ScramCredential::derive(ScramHash::Sha512, b"salt", 4096, &salted);
        let stored = hex("e8002e6f7d3ae446119b216933644dc2a2be7869eb918b8459b5e7d7d2ec1260\
             6aceef106825cd735170a675fd3611f684affad1dce3f43a0ee43bd590e1dbbe");
        assert_eq!(credential.stored_key[..], stored);
    }

    fn hex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn debug_shows_no_key_and_no_salt() {
        let credential = ScramCredential::derive(ScramHash::Sha256, b"salty", 4096, b"pw");
        assert_eq!(format!("{credential:?}"), "ScramCredential { iterations: 4096, .. }");
    }
}
