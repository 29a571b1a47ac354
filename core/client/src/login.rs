//! Proving who we are: SASL PLAIN (RFC 4616), SCRAM-SHA-256 and -512 (RFC 5802, RFC 7677), within
//! whatever line there is.
//!
//! [`Exchange`] is pure: tokens in, tokens out, the nonce is handed in. It never shows a password
//! (`Debug` neither), never sends one readable over a line that anybody can read, and never believes
//! a broker that does not prove in its turn that it knows the user (SCRAM's last token).

use crate::client::expect_response;
use crate::connection::Connection;
use crate::error::{CallError, ClientError};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as BASE64_BARE};
use bytes::Bytes;
use millpond_wire::messages::{
    Request, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use millpond_wire::{ErrorCode, Secret, limits};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// What SCRAM's tokens say of channel binding: the client offers none, and speaks for itself.
const GS2_HEADER: &str = "n,,";
/// The version of SaslHandshake after which tokens travel in SaslAuthenticate (KIP-152).
const HANDSHAKE_VERSION: i16 = 1;

/// How the proof is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself; only within TLS or QUIC.
    Plain,
    /// A proof that does not tell the password.
    ScramSha256,
    /// The same with the longer hash.
    ScramSha512,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    fn hash(self) -> Option<Hash> {
        match self {
            Self::Plain => None,
            Self::ScramSha256 => Some(Hash {
                hmac: hmac::HMAC_SHA256,
                digest: &digest::SHA256,
                derive: pbkdf2::PBKDF2_HMAC_SHA256,
            }),
            Self::ScramSha512 => Some(Hash {
                hmac: hmac::HMAC_SHA512,
                digest: &digest::SHA512,
                derive: pbkdf2::PBKDF2_HMAC_SHA512,
            }),
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mechanism {
    type Err = LoginError;

    /// By the registered name, whatever the case.
    fn from_str(text: &str) -> Result<Self, LoginError> {
        let is_it = |mechanism: &Self| mechanism.name().eq_ignore_ascii_case(text.trim());
        Self::ALL.into_iter().find(is_it).ok_or(LoginError::UnknownMechanism)
    }
}

/// Who to log in as, and by what.
#[derive(Clone, Debug)]
pub struct Login {
    mechanism: Mechanism,
    user: String,
    password: Secret,
    is_readable_line_fine: bool,
}

impl Login {
    /// A login as `user` by `mechanism`.
    pub fn new(
        mechanism: Mechanism,
        user: impl Into<String>,
        password: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            mechanism,
            user: user.into(),
            password: Secret(Bytes::from(password.into())),
            is_readable_line_fine: false,
        }
    }

    /// Lets PLAIN go over a line without TLS, where everybody on the way can read the password.
    #[must_use]
    pub fn even_over_readable_lines(mut self) -> Self {
        self.is_readable_line_fine = true;
        self
    }

    /// The mechanism.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether the password may be said on a line; `is_protected`: it is within TLS or QUIC.
    fn fits(&self, is_protected: bool) -> Result<(), LoginError> {
        let is_told = self.mechanism == Mechanism::Plain;
        match is_told && !is_protected && !self.is_readable_line_fine {
            true => Err(LoginError::ReadableLine),
            false => Ok(()),
        }
    }
}

/// Why a login did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoginError {
    /// No mechanism of that name is spoken.
    #[error("the mechanism is not known; there are PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512")]
    UnknownMechanism,
    /// PLAIN would show the password to everybody on the way.
    #[error(
        "PLAIN sends the password as it is and tcp:// shows that to everybody; use tls:// or \
         quic://, or SCRAM-SHA-256"
    )]
    ReadableLine,
    /// The broker's listener does not take the mechanism.
    #[error("the broker does not take {wanted}; it offers {offered}")]
    NotOffered {
        /// What was asked for.
        wanted: Mechanism,
        /// What there is.
        offered: String,
    },
    /// The broker does not believe the proof.
    #[error("the broker refuses the login as {user:?}: {}{}", code.message(), told(message))]
    Refused {
        /// As whom.
        user: String,
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words.
        message: Option<String>,
    },
    /// The broker does not keep to the mechanism, or cannot prove that it knows the user.
    #[error("the broker's side of the login is wrong: {0}")]
    Broker(&'static str),
    /// The name or the password cannot be said in this mechanism.
    #[error("the login cannot be said: {0}")]
    Unsayable(&'static str),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers; no proof can be made without them")]
    NoRandom,
    /// The line broke before the end.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl LoginError {
    /// Whether the same login may succeed later: only if it was the line that failed.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Call(error) => error.is_retriable(),
            _ => false,
        }
    }
}

fn told(message: &Option<String>) -> String {
    message.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}

struct Hash {
    hmac: hmac::Algorithm,
    digest: &'static digest::Algorithm,
    derive: pbkdf2::Algorithm,
}

impl Hash {
    fn hmac(&self, key: &[u8], text: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac, key), text)
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// This token goes to the broker.
    Send(Secret),
    /// It is over, and both sides are convinced.
    Done,
}

/// One login, token by token.
pub struct Exchange<'a> {
    login: &'a Login,
    nonce: &'a str,
    state: State,
}

enum State {
    /// PLAIN is said; the answer is empty.
    Said,
    /// SCRAM's first token is said; the broker's challenge comes.
    Greeted,
    /// The proof is given; the broker's comes.
    Proved {
        verifier: hmac::Tag,
    },
    Over,
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("mechanism", &self.login.mechanism).finish_non_exhaustive()
    }
}

impl<'a> Exchange<'a> {
    /// Begins: the token to say first. `nonce`: printable, without commas, never used before.
    ///
    /// # Errors
    /// [`LoginError::Unsayable`].
    pub fn begin(login: &'a Login, nonce: &'a str) -> Result<(Self, Secret), LoginError> {
        if login.user.is_empty() || login.password.is_empty() {
            return Err(LoginError::Unsayable("user or password is empty"));
        }
        if login.user.contains('\0') || login.password.0.contains(&0) {
            return Err(LoginError::Unsayable("user or password has a zero byte in it"));
        }
        if login.mechanism == Mechanism::Plain {
            let token = [&b"\0"[..], login.user.as_bytes(), b"\0", &login.password.0].concat();
            return Ok((Self { login, nonce, state: State::Said }, secret(token)));
        }
        let first = format!("{GS2_HEADER}{}", first_bare(login, nonce));
        Ok((Self { login, nonce, state: State::Greeted }, secret(first.into_bytes())))
    }

    /// Takes the broker's answer to the last token.
    ///
    /// # Errors
    /// [`LoginError::Broker`]; the line must not be used then.
    pub fn answer(&mut self, token: &[u8]) -> Result<Step, LoginError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Said => Ok(Step::Done),
            State::Greeted => self.prove(token).map(Step::Send),
            State::Proved { verifier } => believe(token, &verifier).map(|()| Step::Done),
            State::Over => Err(LoginError::Broker("it says more than the mechanism has")),
        }
    }

    fn prove(&mut self, token: &[u8]) -> Result<Secret, LoginError> {
        let hash = self.login.mechanism.hash().ok_or(LoginError::UnknownMechanism)?;
        let challenge = text(token)?;
        let Challenge { nonce, salt, rounds } = Challenge::parse(challenge, self.nonce)?;
        let mut salted = vec![0; hash.digest.output_len()];
        pbkdf2::derive(hash.derive, rounds, &salt, &self.login.password.0, &mut salted);
        let without_proof = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let said = format!("{},{challenge},{without_proof}", first_bare(self.login, self.nonce));
        let client_key = hash.hmac(&salted, b"Client Key");
        let stored_key = digest::digest(hash.digest, client_key.as_ref());
        let signature = hash.hmac(stored_key.as_ref(), said.as_bytes());
        let both = client_key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = both.map(|(one, other)| one ^ other).collect();
        let server_key = hash.hmac(&salted, b"Server Key");
        self.state = State::Proved { verifier: hash.hmac(server_key.as_ref(), said.as_bytes()) };
        Ok(secret(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes()))
    }
}

fn first_bare(login: &Login, nonce: &str) -> String {
    let user = login.user.replace('=', "=3D").replace(',', "=2C");
    format!("n={user},r={nonce}")
}

/// What the broker wants the proof to be made of.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    rounds: NonZeroU32,
}

impl<'a> Challenge<'a> {
    fn parse(challenge: &'a str, own_nonce: &str) -> Result<Self, LoginError> {
        // An extension that must be understood (`m=`) stands first: it is not `r=`, and ends here.
        let mut parts = challenge.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(rounds)) = (part("r="), part("s="), part("i=")) else {
            return Err(LoginError::Broker("its challenge lacks nonce, salt or rounds"));
        };
        // Without a part of its own, an old exchange could be played again.
        if nonce.len() <= own_nonce.len() || !nonce.starts_with(own_nonce) {
            return Err(LoginError::Broker("its nonce does not continue ours"));
        }
        let salt = BASE64.decode(salt).ok();
        let salt = salt.filter(|salt| (1..=limits::SCRAM_SALT_BYTES_MAX).contains(&salt.len()));
        let salt = salt.ok_or(LoginError::Broker("its salt cannot be read"))?;
        let fits = limits::SCRAM_ITERATIONS_MIN..=limits::CLIENT_SCRAM_ITERATIONS_MAX;
        let rounds = rounds.parse().ok().filter(|rounds: &u32| fits.contains(rounds));
        let rounds = rounds.and_then(NonZeroU32::new);
        let rounds = rounds.ok_or(LoginError::Broker("it asks for too few or too many rounds"))?;
        Ok(Self { nonce, salt, rounds })
    }
}

/// Whether the broker knows what only who knows the user can know.
fn believe(token: &[u8], verifier: &hmac::Tag) -> Result<(), LoginError> {
    let shown = text(token)?.split(',').next().and_then(|part| part.strip_prefix("v="));
    let shown = shown.and_then(|shown| BASE64.decode(shown).ok());
    // Nothing is won by timing this: the verifier is good for one exchange.
    match shown.as_deref() == Some(verifier.as_ref()) {
        true => Ok(()),
        false => Err(LoginError::Broker("it cannot prove that it knows the user")),
    }
}

fn text(token: &[u8]) -> Result<&str, LoginError> {
    match token.len() <= limits::SASL_TOKEN_BYTES_MAX {
        true => std::str::from_utf8(token).map_err(|_| LoginError::Broker("it is not UTF-8")),
        false => Err(LoginError::Broker("its token is too long")),
    }
}

fn secret(token: Vec<u8>) -> Secret {
    Secret(Bytes::from(token))
}

/// 144 random bits as text.
fn fresh_nonce() -> Result<String, LoginError> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).map_err(|_| LoginError::NoRandom)?;
    Ok(BASE64_BARE.encode(bytes))
}

/// Logs in on a line, before anything else is asked there. Returns how long the proof holds, if the
/// broker limits that (KIP-368).
pub(crate) async fn log_in(
    connection: &Connection,
    login: &Login,
) -> Result<Option<Duration>, LoginError> {
    login.fits(connection.is_protected())?;
    handshake(connection, login).await?;
    let nonce = fresh_nonce()?;
    let (mut exchange, mut token) = Exchange::begin(login, &nonce)?;
    loop {
        let answer = authenticate(connection, token).await?;
        let code = ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
        if code != ErrorCode::None {
            let (user, message) = (login.user.clone(), answer.error_message);
            return Err(LoginError::Refused { user, code, message });
        }
        match exchange.answer(&answer.auth_bytes.0)? {
            Step::Send(next) => token = next,
            Step::Done => {
                let lifetime_ms = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
                return Ok((lifetime_ms > 0).then(|| Duration::from_millis(lifetime_ms)));
            }
        }
    }
}

async fn handshake(connection: &Connection, login: &Login) -> Result<(), LoginError> {
    let mechanism = login.mechanism.name().to_owned();
    let request = Request::SaslHandshake(SaslHandshakeRequest { mechanism });
    let response = connection.call_version(request, HANDSHAKE_VERSION).await?;
    let answer = call(|| Ok(expect_response!(connection, response, SaslHandshake)))?;
    match ErrorCode::from_code(answer.error_code) {
        Some(ErrorCode::None) => Ok(()),
        Some(ErrorCode::UnsupportedSaslMechanism) => Err(LoginError::NotOffered {
            wanted: login.mechanism,
            offered: answer.mechanisms.join(", "),
        }),
        code => {
            let code = code.unwrap_or(ErrorCode::UnknownServerError);
            Err(LoginError::Refused { user: login.user.clone(), code, message: None })
        }
    }
}

async fn authenticate(
    connection: &Connection,
    token: Secret,
) -> Result<SaslAuthenticateResponse, LoginError> {
    let request = SaslAuthenticateRequest { auth_bytes: token };
    let response = connection.call(Request::SaslAuthenticate(request)).await?;
    call(|| Ok(expect_response!(connection, response, SaslAuthenticate)))
}

/// The macro speaks of clients' errors; only a call can fail here.
fn call<T>(take: impl FnOnce() -> Result<T, ClientError>) -> Result<T, LoginError> {
    take().map_err(|error| match error {
        ClientError::Call(error) => LoginError::Call(error),
        _ => LoginError::Broker("it answers what was not asked"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange that RFC 7677, section 3 writes down.
    const RFC_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const RFC_CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                 s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const RFC_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const RFC_VERIFIER: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn scram() -> Login {
        Login::new(Mechanism::ScramSha256, "user", "pencil")
    }

    fn said(secret: &Secret) -> String {
        String::from_utf8(secret.0.to_vec()).unwrap()
    }

    fn answered(challenge: &str) -> Result<String, String> {
        let login = scram();
        let (mut exchange, _) = Exchange::begin(&login, RFC_NONCE).unwrap();
        match exchange.answer(challenge.as_bytes()) {
            Ok(Step::Send(token)) => Ok(said(&token)),
            Ok(Step::Done) => Err("done".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn scram_says_what_the_rfc_says_word_for_word() {
        let login = scram();
        let (mut exchange, first) = Exchange::begin(&login, RFC_NONCE).unwrap();
        assert_eq!(said(&first), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let Step::Send(last) = exchange.answer(RFC_CHALLENGE.as_bytes()).unwrap() else {
            panic!("the proof comes");
        };
        assert_eq!(said(&last), RFC_FINAL);
        assert!(matches!(exchange.answer(RFC_VERIFIER.as_bytes()), Ok(Step::Done)));
        assert!(exchange.answer(b"more").is_err(), "nothing comes after the end");
    }

    #[test]
    fn a_broker_that_does_not_know_the_user_is_not_believed() {
        for verifier in ["v=AAAA", "v=", "", "e=other-error", "\u{0}"] {
            let login = scram();
            let (mut exchange, _) = Exchange::begin(&login, RFC_NONCE).unwrap();
            exchange.answer(RFC_CHALLENGE.as_bytes()).unwrap();
            assert!(exchange.answer(verifier.as_bytes()).is_err(), "{verifier:?}");
        }
    }

    #[test]
    fn challenges_that_weaken_or_wear_out_the_client_are_refused() {
        let own = RFC_NONCE;
        let cases = [
            (format!("r={own},s=AAAA,i=4096"), "continue"),
            ("r=another,s=AAAA,i=4096".to_owned(), "continue"),
            (format!("r={own}x,s=,i=4096"), "salt"),
            (format!("r={own}x,s=?,i=4096"), "salt"),
            (format!("r={own}x,s=AAAA,i=1"), "rounds"),
            (format!("r={own}x,s=AAAA,i=4000000000"), "rounds"),
            (format!("r={own}x,s=AAAA,i=-1"), "rounds"),
            (format!("m=x,r={own}x,s=AAAA,i=4096"), "lacks"),
            (String::new(), "lacks"),
        ];
        for (challenge, word) in cases {
            let error = answered(&challenge).unwrap_err();
            assert!(error.contains(word), "{challenge}: {error}");
        }
        assert!(answered(RFC_CHALLENGE).is_ok());
    }

    #[test]
    fn names_with_commas_and_equal_signs_are_written_so_that_they_can_be_read() {
        let login = Login::new(Mechanism::ScramSha512, "a,b=c", "pencil");
        let (_, first) = Exchange::begin(&login, "nonce").unwrap();
        assert_eq!(said(&first), "n,,n=a=2Cb=3Dc,r=nonce");
    }

    #[test]
    fn plain_says_the_password_and_only_where_nobody_reads_it() {
        let login = Login::new(Mechanism::Plain, "ann", "secret");
        let (mut exchange, first) = Exchange::begin(&login, "").unwrap();
        assert_eq!(said(&first), "\0ann\0secret");
        assert!(matches!(exchange.answer(b""), Ok(Step::Done)));
        assert!(matches!(login.fits(false), Err(LoginError::ReadableLine)));
        assert!(login.fits(true).is_ok() && scram().fits(false).is_ok());
        assert!(login.even_over_readable_lines().fits(false).is_ok());
        for (user, password) in [("", "x"), ("x", ""), ("a\0b", "x"), ("x", "a\0b")] {
            let login = Login::new(Mechanism::Plain, user, password);
            assert!(Exchange::begin(&login, "").is_err(), "{user:?} {password:?}");
        }
    }

    #[test]
    fn no_password_shows_when_a_login_is_printed() {
        let login = Login::new(Mechanism::Plain, "ann", "hunter2");
        let (exchange, first) = Exchange::begin(&login, "").unwrap();
        let text = format!("{login:?} {exchange:?} {first:?}");
        assert!(text.contains("ann") && !text.contains("hunter"), "{text}");
    }

    #[test]
    fn mechanisms_are_known_by_their_names() {
        for mechanism in Mechanism::ALL {
            assert_eq!(mechanism.name().to_lowercase().parse::<Mechanism>().unwrap(), mechanism);
        }
        assert!("GSSAPI".parse::<Mechanism>().is_err());
    }
}
