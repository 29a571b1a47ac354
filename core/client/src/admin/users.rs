//! Users with a password (KIP-554): list, make, delete. Never sees a password: who calls derives from
//! it what is sent.

use super::{Admin, check};
use crate::client::expect_response;
use crate::error::ClientError;
use millpond_wire::Secret;
use millpond_wire::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use millpond_wire::messages::describe_user_scram_credentials_request::UserName;
use millpond_wire::messages::describe_user_scram_credentials_response::CredentialInfo;
use millpond_wire::messages::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest, Request,
};

/// A mechanism of SCRAM, by Kafka's number of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScramMechanism(pub i8);

/// How a user is known by one mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserCredential {
    /// The mechanism.
    pub mechanism: ScramMechanism,
    /// Rounds of PBKDF2.
    pub iterations: i32,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// One for each mechanism.
    pub credentials: Vec<UserCredential>,
}

/// What a user is to be known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCredential {
    /// How strong.
    pub credential: UserCredential,
    /// Random bytes.
    pub salt: Vec<u8>,
    /// PBKDF2 of the password.
    pub salted_password: Secret,
}

impl ScramMechanism {
    /// SCRAM-SHA-256.
    pub const SHA_256: Self = Self(1);
    /// SCRAM-SHA-512.
    pub const SHA_512: Self = Self(2);

    /// The registered name, of those that are known here.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SHA_256 => "SCRAM-SHA-256",
            Self::SHA_512 => "SCRAM-SHA-512",
            _ => "UNKNOWN",
        }
    }
}

impl Admin {
    /// Every user with a password, by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_users(&self) -> Result<Vec<User>, ClientError> {
        self.describe_users(None).await
    }

    async fn describe_users(&self, name: Option<&str>) -> Result<Vec<User>, ClientError> {
        let users = name.map(|name| vec![UserName { name: name.to_owned() }]);
        let request = DescribeUserScramCredentialsRequest { users };
        let (connection, response) =
            self.ask(Request::DescribeUserScramCredentials(request)).await?;
        let response = expect_response!(connection, response, DescribeUserScramCredentials);
        check("listing users".to_owned(), response.error_code, response.error_message)?;
        let mut users = Vec::with_capacity(response.results.len());
        for result in response.results {
            check(format!("user `{}`", result.user), result.error_code, result.error_message)?;
            let credential = |info: &CredentialInfo| UserCredential {
                mechanism: ScramMechanism(info.mechanism),
                iterations: info.iterations,
            };
            let credentials = result.credential_infos.iter().map(credential).collect();
            users.push(User { name: result.user, credentials });
        }
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(users)
    }

    /// Makes a user known by these, or by others than before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_user(
        &self,
        name: &str,
        credentials: Vec<NewCredential>,
    ) -> Result<(), ClientError> {
        let upsertion = |new: NewCredential| ScramCredentialUpsertion {
            name: name.to_owned(),
            mechanism: new.credential.mechanism.0,
            iterations: new.credential.iterations,
            salt: new.salt.into(),
            salted_password: new.salted_password,
        };
        let upsertions = credentials.into_iter().map(upsertion).collect();
        self.alter_users(AlterUserScramCredentialsRequest { upsertions, deletions: Vec::new() })
            .await
    }

    /// Deletes a user, by whatever mechanisms it is known.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `ResourceNotFound` if there is none.
    pub async fn delete_user(&self, name: &str) -> Result<(), ClientError> {
        let users = self.describe_users(Some(name)).await?;
        let credentials = users.iter().flat_map(|user| &user.credentials);
        let deletion = |credential: &UserCredential| ScramCredentialDeletion {
            name: name.to_owned(),
            mechanism: credential.mechanism.0,
        };
        let deletions = credentials.map(deletion).collect();
        self.alter_users(AlterUserScramCredentialsRequest { deletions, upsertions: Vec::new() })
            .await
    }

    async fn alter_users(
        &self,
        request: AlterUserScramCredentialsRequest,
    ) -> Result<(), ClientError> {
        let (connection, response) = self.ask(Request::AlterUserScramCredentials(request)).await?;
        let response = expect_response!(connection, response, AlterUserScramCredentials);
        for result in response.results {
            check(format!("user `{}`", result.user), result.error_code, result.error_message)?;
        }
        Ok(())
    }
}
