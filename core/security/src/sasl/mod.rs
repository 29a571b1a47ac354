//! Who speaks, proved inside the Kafka connection: SASL mechanisms as pure state machines. Tokens go
//! in, tokens come out; nonces and time are handed in, and credentials are looked up in what the
//! caller holds. Never logs, stores or returns a password or a key, and never says why a proof
//! failed to the one who gave it.
//!
//! What costs much (the password of PLAIN is hashed thousands of times) is handed back as a
//! [`PasswordCheck`], to be run where it holds nobody up.

mod credential;
mod oauth;
mod plain;
mod scram;
mod token;

pub use credential::{Credential, Decoy, ScramHash, Users, salted_password};
pub use plain::PasswordCheck;
pub use token::{KeySetError, TokenRules};

use millpond_wire::limits::{SASL_TOKEN_BYTES_MAX, USER_NAME_BYTES_MAX};
use std::fmt;

/// A way to prove who one is, by its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// The password itself (RFC 4616).
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
    /// A signed token (RFC 7628).
    OauthBearer,
}

/// Why somebody is not let in. `Display` is for the log of the node, never for the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The token is not of the mechanism.
    #[error("the token is not of the mechanism: {0}")]
    Malformed(&'static str),
    /// A token over the cap.
    #[error("a token of {0} bytes is too large")]
    TooLarge(usize),
    /// A token that shows nothing.
    #[error("the bearer's token is not good: {0}")]
    Token(&'static str),
    /// A step too many.
    #[error("the exchange is over")]
    Over,
    /// The user is not known, or the proof is wrong: the two are not told apart.
    #[error("wrong password of user {user:?}, or no such user")]
    Credentials {
        /// As the peer says.
        user: String,
    },
}

/// What comes of a token.
#[derive(Debug)]
pub enum Step {
    /// Send this, and wait for the next token.
    Challenge(Vec<u8>),
    /// Run this, which takes milliseconds of a core, and take what it says.
    Check(PasswordCheck),
    /// It is proved.
    Done(Authenticated),
}

/// Somebody who is who he says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// His name.
    pub user: String,
    /// The last token, for him.
    pub reply: Vec<u8>,
    /// When that ends by itself, in milliseconds since 1970.
    pub until_ms: Option<i64>,
}

/// What an exchange looks credentials up in.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// All users.
    pub users: &'a dyn Users,
    /// What unknown users are answered with.
    pub decoy: &'a Decoy,
    /// What signed tokens have to be; none: they are not taken.
    pub tokens: Option<&'a TokenRules>,
    /// The time, in milliseconds since 1970.
    pub now_ms: i64,
}

/// One authentication under way.
#[derive(Debug)]
pub struct Exchange {
    state: State,
}

enum State {
    PlainFirst,
    ScramFirst(ScramHash, String),
    ScramFinal(Box<scram::Challenged>),
    OauthFirst,
    /// The peer is told that it is refused, and has to say that it heard.
    OauthRefused(Refused),
    Over,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PlainFirst | Self::ScramFirst(..) | Self::OauthFirst => "first",
            Self::ScramFinal(_) | Self::OauthRefused(_) => "final",
            Self::Over => "over",
        })
    }
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer];

    /// As on the wire and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    /// The mechanism of a name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

impl Exchange {
    /// An exchange that has not begun. `nonce` must be printable, without commas, and never used
    /// before: whoever can foresee it can replay an old proof.
    #[must_use]
    pub fn new(mechanism: Mechanism, nonce: String) -> Self {
        let state = match mechanism {
            Mechanism::Plain => State::PlainFirst,
            Mechanism::ScramSha256 => State::ScramFirst(ScramHash::Sha256, nonce),
            Mechanism::ScramSha512 => State::ScramFirst(ScramHash::Sha512, nonce),
            Mechanism::OauthBearer => State::OauthFirst,
        };
        Self { state }
    }

    /// Takes the peer's next token. After an error the exchange is over.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn step(&mut self, token: &[u8], context: Context<'_>) -> Result<Step, Refused> {
        let state = std::mem::replace(&mut self.state, State::Over);
        if token.len() > SASL_TOKEN_BYTES_MAX {
            return Err(Refused::TooLarge(token.len()));
        }
        match state {
            State::PlainFirst => plain::check(token, context).map(Step::Check),
            State::ScramFirst(hash, nonce) => {
                let challenged = scram::Challenged::new(token, hash, &nonce, context)?;
                let challenge = challenged.challenge();
                self.state = State::ScramFinal(Box::new(challenged));
                Ok(Step::Challenge(challenge))
            }
            State::ScramFinal(challenged) => challenged.finish(token).map(Step::Done),
            State::OauthFirst => self.bearer(token, context),
            State::OauthRefused(why) if token == oauth::HEARD => Err(why),
            State::OauthRefused(_) => Err(Refused::Malformed("who is refused has no more to say")),
            State::Over => Err(Refused::Over),
        }
    }

    fn bearer(&mut self, token: &[u8], context: Context<'_>) -> Result<Step, Refused> {
        let rules = context.tokens.ok_or(Refused::Over)?;
        match oauth::check(token, rules, context.now_ms) {
            Ok(done) => Ok(Step::Done(done)),
            Err(why @ Refused::Token(_)) => {
                self.state = State::OauthRefused(why);
                Ok(Step::Challenge(oauth::INVALID.to_vec()))
            }
            Err(why) => Err(why),
        }
    }
}

/// A name that could be a user's.
fn checked_name(name: &str) -> Result<(), Refused> {
    match name.len() {
        0 => Err(Refused::Malformed("the user's name is empty")),
        1..=USER_NAME_BYTES_MAX => Ok(()),
        _ => Err(Refused::Malformed("the user's name is too long")),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
