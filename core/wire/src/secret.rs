//! Bytes that a person must not see: what a password is said in, or what can be used in its place. Must never
//! be shown: neither by `Debug` nor by anything else that ends in a log.

use std::fmt;

use bytes::Bytes;

/// Bytes whose `Debug` tells nothing, not even how many they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Bytes);

impl Secret {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;
    use crate::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
    use crate::messages::{AlterUserScramCredentialsRequest, Request, SaslAuthenticateRequest};
    use bytes::Bytes;

    #[test]
    fn requests_with_passwords_do_not_print_them() {
        let secret = || Secret(Bytes::from_static(b"\0ann\0hunter2"));
        let upsertion = ScramCredentialUpsertion {
            name: "ann".to_owned(),
            salted_password: secret(),
            ..Default::default()
        };
        let requests: [Request; 2] = [
            SaslAuthenticateRequest { auth_bytes: secret() }.into(),
            AlterUserScramCredentialsRequest { upsertions: vec![upsertion], deletions: vec![] }
                .into(),
        ];
        for request in requests {
            let text = format!("{request:?}");
            assert!(text.contains("<secret>") && !text.contains("hunter"), "{text}");
        }
    }
}
