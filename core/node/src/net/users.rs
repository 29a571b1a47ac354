//! Who is known by a password, as connections see it: a read-only view of the engine's users, brought
//! up to date by its effects, so that no login waits for the engine. Never holds what is not durable.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use millpond_engine::UserFact;
use millpond_security::sasl::{Credential, ScramHash, Users};

/// All users. As many as the engine allows.
#[derive(Debug, Default)]
pub(crate) struct KnownUsers(RwLock<BTreeMap<String, Known>>);

/// What proves one user; one at least.
#[derive(Debug, Default)]
struct Known {
    sha_256: Option<Arc<Credential>>,
    sha_512: Option<Arc<Credential>>,
}

impl KnownUsers {
    /// Takes over one change.
    pub(crate) fn apply(&self, change: &UserFact) {
        let credential = change.credential.as_ref().map(|credential| {
            Arc::new(Credential {
                salt: credential.salt.to_vec(),
                iterations: credential.iterations,
                stored_key: credential.stored_key.to_vec(),
                server_key: credential.server_key.to_vec(),
            })
        });
        let mut users = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = users.entry(change.user.clone()).or_default();
        match change.hash {
            millpond_engine::ScramHash::Sha256 => known.sha_256 = credential,
            millpond_engine::ScramHash::Sha512 => known.sha_512 = credential,
        }
        if known.sha_256.is_none() && known.sha_512.is_none() {
            users.remove(&change.user);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Known>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_known_by(&self, hash: Option<ScramHash>) -> bool {
        match hash {
            Some(ScramHash::Sha256) => self.sha_256.is_some(),
            Some(ScramHash::Sha512) => self.sha_512.is_some(),
            None => true,
        }
    }

    fn by(&self, hash: Option<ScramHash>) -> Option<(ScramHash, Arc<Credential>)> {
        let sha_512 = || self.sha_512.clone().map(|found| (ScramHash::Sha512, found));
        let sha_256 = || self.sha_256.clone().map(|found| (ScramHash::Sha256, found));
        match hash {
            Some(ScramHash::Sha256) => sha_256(),
            Some(ScramHash::Sha512) => sha_512(),
            None => sha_512().or_else(sha_256),
        }
    }
}

impl Users for KnownUsers {
    fn credential(
        &self,
        user: &str,
        hash: Option<ScramHash>,
    ) -> Option<(ScramHash, Arc<Credential>)> {
        self.read().get(user)?.by(hash)
    }

    fn example(
        &self,
        number: u64,
        hash: Option<ScramHash>,
    ) -> Option<(ScramHash, Arc<Credential>)> {
        let users = self.read();
        let fitting = || users.values().filter(|known| known.is_known_by(hash));
        let at = number.checked_rem(fitting().count() as u64)?;
        fitting().nth(usize::try_from(at).ok()?)?.by(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_engine::ScramCredential;

    fn change(user: &str, hash: millpond_engine::ScramHash, iterations: Option<u32>) -> UserFact {
        let credential = iterations.map(|iterations| {
            let bytes = bytes::Bytes::from_static(b"bytes");
            let (salt, stored_key, server_key) = (bytes.clone(), bytes.clone(), bytes);
            Arc::new(ScramCredential { salt, iterations, stored_key, server_key })
        });
        UserFact { user: user.to_owned(), hash, credential }
    }

    #[test]
    fn changes_show_at_once_and_the_stronger_hash_comes_first() {
        use millpond_engine::ScramHash::{Sha256, Sha512};
        let users = KnownUsers::default();
        assert!(users.example(7, None).is_none());
        users.apply(&change("ann", Sha256, Some(1)));
        users.apply(&change("ann", Sha512, Some(2)));
        users.apply(&change("bob", Sha256, Some(3)));
        let rounds =
            |user: &str, hash| users.credential(user, hash).map(|found| found.1.iterations);
        assert_eq!(rounds("ann", None), Some(2));
        assert_eq!(rounds("ann", Some(ScramHash::Sha256)), Some(1));
        assert_eq!(rounds("bob", Some(ScramHash::Sha512)), None);
        assert_eq!(users.example(1, Some(ScramHash::Sha512)).unwrap().1.iterations, 2);
        assert_eq!(users.example(1, Some(ScramHash::Sha256)).unwrap().1.iterations, 3);
        users.apply(&change("ann", Sha512, None));
        assert_eq!(rounds("ann", None), Some(1));
        users.apply(&change("ann", Sha256, None));
        assert_eq!(rounds("ann", None), None);
        assert_eq!(users.read().len(), 1);
    }
}
