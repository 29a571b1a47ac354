//! PLAIN (RFC 4616): the password itself, which only an encrypted line may carry. It is checked against
//! the same credentials as SCRAM's, so that no password is ever kept.

use super::credential::{Credential, ScramHash, salted_password};
use super::{Authenticated, Context, Refused, checked_name};
use millpond_wire::limits::PASSWORD_BYTES_MAX;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// A password to be hashed thousands of times: run it where it holds nobody up.
pub struct PasswordCheck {
    user: String,
    password: Vec<u8>,
    hash: ScramHash,
    credential: Arc<Credential>,
    is_known: bool,
}

impl fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordCheck").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Takes the only token: authorization, name and password, parted by zero bytes.
pub(super) fn check(token: &[u8], context: Context<'_>) -> Result<PasswordCheck, Refused> {
    let mut parts = token.split(|byte| *byte == 0);
    let (Some(authorization), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Malformed("it has not three parts"));
    };
    let name = std::str::from_utf8(user).map_err(|_| Refused::Malformed("it is not UTF-8"))?;
    checked_name(name)?;
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(Refused::Malformed("the password is empty or too long"));
    }
    if !authorization.is_empty() && authorization != user {
        return Err(Refused::Malformed("nobody may log in in another's name"));
    }
    let (hash, credential, is_known) = context.decoy.find(context.users, name, None);
    let (user, password) = (name.to_owned(), password.to_vec());
    Ok(PasswordCheck { user, password, hash, credential, is_known })
}

impl PasswordCheck {
    /// Hashes and compares; the same work whether the user is known or not.
    ///
    /// # Errors
    /// [`Refused::Credentials`].
    pub fn run(self) -> Result<Authenticated, Refused> {
        let rounds = NonZeroU32::new(self.credential.iterations).unwrap_or(NonZeroU32::MIN);
        let salted = salted_password(self.hash, &self.password, &self.credential.salt, rounds);
        let found = Credential::derive(self.hash, &[], 0, &salted);
        let fits = found.stored_key.ct_eq(&self.credential.stored_key);
        if bool::from(fits & u8::from(self.is_known).ct_eq(&1)) {
            return Ok(Authenticated { user: self.user, reply: Vec::new(), until_ms: None });
        }
        Err(Refused::Credentials { user: self.user })
    }
}
