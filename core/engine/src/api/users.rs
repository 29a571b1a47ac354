//! DescribeUserScramCredentials and AlterUserScramCredentials (KIP-554): who is known by a password.
//! Must never see one: clients send what they derived of it, and that is derived further and
//! forgotten.

use crate::engine::{Engine, Then};
use crate::entry::Fact;
use crate::units::RequestId;
use crate::user_fact::UserFact;
use crate::users::{Credentials, ScramCredential, ScramHash};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use millpond_wire::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use millpond_wire::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use millpond_wire::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, Response,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why a user is not changed.
type Refused = (ErrorCode, String);

/// What is to happen to each user, in the order in which they were first named.
#[derive(Default)]
struct Plan {
    users: Vec<String>,
    changes: BTreeMap<String, Result<Vec<UserFact>, Refused>>,
    /// So that nothing is changed twice.
    touched: BTreeSet<(String, i8)>,
}

impl Engine {
    pub(crate) fn on_describe_users(
        &mut self,
        id: RequestId,
        request: &DescribeUserScramCredentialsRequest,
    ) {
        let mut results = Vec::new();
        let asked = request.users.as_deref().unwrap_or_default();
        if asked.is_empty() {
            results.extend(self.state.users.iter().map(|(name, found)| described(name, found)));
        }
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for user in asked {
            *times.entry(&user.name).or_default() += 1;
        }
        results.extend(times.into_iter().map(|(name, times)| match self.state.users.get(name) {
            _ if times > 1 => missing(name, ErrorCode::DuplicateResource, TWICE),
            Some(found) => described(name, found),
            None => missing(name, ErrorCode::ResourceNotFound, UNKNOWN),
        }));
        let response = DescribeUserScramCredentialsResponse { results, ..Default::default() };
        self.reply_after(self.users_seq, id, Response::DescribeUserScramCredentials(response));
    }

    pub(crate) fn on_alter_users(
        &mut self,
        id: RequestId,
        request: &AlterUserScramCredentialsRequest,
    ) {
        let plan = self.plan_users(request);
        let mut response = AlterUserScramCredentialsResponse::default();
        let mut changes = plan.changes;
        for user in plan.users {
            let (code, error_message) = match changes.remove(&user) {
                Some(Err((code, message))) => (code, Some(message)),
                Some(Ok(facts)) if self.lacks_room(&user, &facts) => {
                    let message = "this node knows as many users as it can".to_owned();
                    (ErrorCode::PolicyViolation, Some(message))
                }
                Some(Ok(facts)) => {
                    for fact in facts {
                        self.commit(Fact::User(fact));
                    }
                    self.seal_if_large();
                    (ErrorCode::None, None)
                }
                None => continue,
            };
            let error_code = code.code();
            response.results.push(AlterUserScramCredentialsResult {
                user,
                error_code,
                error_message,
            });
        }
        self.reply_after(self.users_seq, id, Response::AlterUserScramCredentials(response));
    }

    fn lacks_room(&self, user: &str, facts: &[UserFact]) -> bool {
        let users = &self.state.users;
        users.get(user).is_none()
            && users.len() >= limits::USERS_MAX
            && facts.iter().any(|fact| fact.credential.is_some())
    }

    fn plan_users(&self, request: &AlterUserScramCredentialsRequest) -> Plan {
        let mut plan = Plan::default();
        for deletion in &request.deletions {
            let change = checked(&deletion.name, deletion.mechanism).and_then(|hash| {
                let found = self.state.users.get(&deletion.name);
                if found.is_none_or(|found| !found.contains_key(&hash)) {
                    let message = "Attempt to delete a user credential that does not exist";
                    return Err((ErrorCode::ResourceNotFound, message.to_owned()));
                }
                Ok(UserFact { user: deletion.name.clone(), hash, credential: None })
            });
            plan.add(&deletion.name, deletion.mechanism, change);
        }
        for upsertion in &request.upsertions {
            // Each costs some hashing on the engine's thread.
            let change = if plan.touched.len() < limits::USER_CHANGES_PER_REQUEST_MAX {
                upserted(upsertion)
            } else {
                let most = limits::USER_CHANGES_PER_REQUEST_MAX;
                let message = format!("One request changes {most} credentials at most");
                Err((ErrorCode::InvalidRequest, message))
            };
            plan.add(&upsertion.name, upsertion.mechanism, change);
        }
        plan
    }
}

impl Plan {
    /// One change; a user with a change that cannot be is not changed at all.
    fn add(&mut self, user: &str, mechanism: i8, change: Result<UserFact, Refused>) {
        let change = if self.touched.insert((user.to_owned(), mechanism)) {
            change
        } else {
            let message = "A user credential cannot be altered twice in the same request";
            Err((ErrorCode::DuplicateResource, message.to_owned()))
        };
        let changes = self.changes.entry(user.to_owned()).or_insert_with(|| {
            self.users.push(user.to_owned());
            Ok(Vec::new())
        });
        match (changes, change) {
            (Ok(all), Ok(change)) => all.push(change),
            (all @ Ok(_), Err(refused)) => *all = Err(refused),
            (Err(_), _) => {}
        }
    }
}

fn unacceptable<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err((ErrorCode::UnacceptableCredential, message.into()))
}

fn checked(name: &str, mechanism: i8) -> Result<ScramHash, Refused> {
    if name.is_empty() {
        return unacceptable("Username must not be empty");
    }
    if name.len() > limits::USER_NAME_BYTES_MAX {
        let most = limits::USER_NAME_BYTES_MAX;
        return unacceptable(format!("Username must not be longer than {most} bytes"));
    }
    let unknown = || (ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism".to_owned());
    ScramHash::from_code(mechanism).ok_or_else(unknown)
}

fn upserted(upsertion: &ScramCredentialUpsertion) -> Result<UserFact, Refused> {
    let hash = checked(&upsertion.name, upsertion.mechanism)?;
    let iterations = match u32::try_from(upsertion.iterations) {
        Ok(few) if few < limits::SCRAM_ITERATIONS_MIN => return unacceptable("Too few iterations"),
        Ok(many) if many > limits::SCRAM_ITERATIONS_MAX => {
            return unacceptable("Too many iterations");
        }
        Ok(fitting) => fitting,
        Err(_) => return unacceptable("Too few iterations"),
    };
    let (salt, salted) = (&upsertion.salt, &upsertion.salted_password.0);
    if salt.is_empty() || salt.len() > limits::SCRAM_SALT_BYTES_MAX {
        let most = limits::SCRAM_SALT_BYTES_MAX;
        return unacceptable(format!("A salt has 1 to {most} bytes"));
    }
    if salted.len() != hash.output_bytes() {
        let wanted = hash.output_bytes();
        return unacceptable(format!("A salted password of this mechanism has {wanted} bytes"));
    }
    let credential = ScramCredential::derive(hash, salt, iterations, salted);
    let (user, credential) = (upsertion.name.clone(), Some(Arc::new(credential)));
    Ok(UserFact { user, hash, credential })
}

fn described(name: &str, found: &Credentials) -> DescribeUserScramCredentialsResult {
    let info = |(hash, credential): (&ScramHash, &Arc<ScramCredential>)| CredentialInfo {
        mechanism: *hash as i8,
        iterations: i32::try_from(credential.iterations).unwrap_or(i32::MAX),
    };
    DescribeUserScramCredentialsResult {
        user: name.to_owned(),
        credential_infos: found.iter().map(info).collect(),
        ..Default::default()
    }
}

fn missing(name: &str, code: ErrorCode, why: &str) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult {
        user: name.to_owned(),
        error_code: code.code(),
        error_message: Some(format!("{why}: {name}")),
        credential_infos: Vec::new(),
    }
}

const UNKNOWN: &str = "Attempt to describe a user credential that does not exist";
const TWICE: &str = "Cannot describe SCRAM credentials for the same user twice in a single request";

impl Engine {
    /// Everybody who is known by a password, each credential as if it were set now.
    #[must_use]
    pub fn users(&self) -> Vec<UserFact> {
        let of_user = |(name, found): (&String, &Credentials)| {
            let one = |(hash, credential): (&ScramHash, &Arc<ScramCredential>)| UserFact {
                user: name.clone(),
                hash: *hash,
                credential: Some(Arc::clone(credential)),
            };
            found.iter().map(one).collect::<Vec<_>>()
        };
        self.state.users.iter().flat_map(of_user).collect()
    }

    /// Connections act on a change as soon as it is durable.
    pub(crate) fn note_user(&mut self, change: &UserFact) {
        self.users_seq = self.current_seq();
        self.after(self.users_seq, Then::TellUser(change.clone()));
    }
}
