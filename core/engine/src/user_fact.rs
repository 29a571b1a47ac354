//! What happens to users, as it stands in the journal. Never a password: only what a mechanism checks
//! a proof against.
//!
//! ```text
//! tag body
//!  60 CredentialSet      user str | mechanism u8 (1: SCRAM-SHA-256, 2: SCRAM-SHA-512) | credential
//!  61 CredentialDeleted  user str | mechanism u8
//!
//! credential  iterations u32 | salt bytes | stored key bytes | server key bytes
//!   bytes     length u32 + bytes; keys are as long as the mechanism's hash
//! ```

use crate::codec::{Take, put_string};
use crate::entry::EntryError;
use crate::users::{ScramCredential, ScramHash, take_hash};
use bytes::BufMut;
use std::sync::Arc;

/// One change of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFact {
    /// Who.
    pub user: String,
    /// By which mechanism.
    pub hash: ScramHash,
    /// What proves it from here on; `None`: nothing any more.
    pub credential: Option<Arc<ScramCredential>>,
}

impl UserFact {
    pub(crate) fn tag(&self) -> u8 {
        if self.credential.is_some() { SET_TAG } else { DELETED_TAG }
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_string(out, &self.user);
        out.put_u8(self.hash as u8);
        if let Some(credential) = &self.credential {
            credential.put(out);
        }
    }

    /// `None`: the tag is of no user.
    pub(crate) fn take(tag: u8, take: &mut Take) -> Result<Option<UserFact>, EntryError> {
        if !matches!(tag, SET_TAG | DELETED_TAG) {
            return Ok(None);
        }
        let user = take.string("user")?;
        let hash = take_hash(take)?;
        let credential = match tag {
            SET_TAG => Some(Arc::new(ScramCredential::take(take, hash)?)),
            _ => None,
        };
        Ok(Some(UserFact { user, hash, credential }))
    }
}

const SET_TAG: u8 = 60;
const DELETED_TAG: u8 = 61;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};

    #[test]
    fn users_stand_in_the_journal_as_drawn() {
        let credential = ScramCredential {
            salt: Bytes::from_static(b"s"),
            iterations: 8192,
            stored_key: Bytes::from_static(&[3; 32]),
            server_key: Bytes::from_static(&[4; 32]),
        };
        let mut set = UserFact {
            user: "ann".to_owned(),
            hash: ScramHash::Sha256,
            credential: Some(Arc::new(credential)),
        };
        let head = [3, 0, 0, 0, b'a', b'n', b'n', 1];
        let body = [0, 32, 0, 0, 1, 0, 0, 0, b's', 32, 0, 0, 0];
        let drawn = [&head[..], &body, &[3; 32], &[32, 0, 0, 0], &[4; 32]].concat();
        check(&set, 60, &drawn);
        set.credential = None;
        check(&set, 61, &head);
    }

    fn check(fact: &UserFact, tag: u8, drawn: &[u8]) {
        let mut out = BytesMut::new();
        fact.put(&mut out);
        assert_eq!((fact.tag(), &out[..]), (tag, drawn));
        let take =
            |bytes: &[u8]| UserFact::take(tag, &mut Take::new(Bytes::copy_from_slice(bytes)));
        assert_eq!(take(drawn), Ok(Some(fact.clone())));
        for end in 0..drawn.len() {
            assert!(take(&drawn[..end]).is_err(), "cut at byte {end}");
        }
        assert_eq!(UserFact::take(62, &mut Take::new(Bytes::new())), Ok(None), "not a user");
    }

    #[test]
    fn a_key_of_another_length_than_the_hash_is_refused() {
        let mut out = BytesMut::new();
        let credential = ScramCredential::derive(ScramHash::Sha256, b"s", 4096, b"p");
        let set = UserFact {
            user: "u".to_owned(),
            hash: ScramHash::Sha512,
            credential: Some(Arc::new(credential)),
        };
        set.put(&mut out);
        assert!(UserFact::take(60, &mut Take::new(out.freeze())).is_err());
    }
}
