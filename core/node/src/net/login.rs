//! The door of a listener that asks who somebody is (SASL, KIP-43, KIP-152, KIP-368): before the proof
//! only ApiVersions and the login itself pass; after it everything, until the session ends or the
//! proof is given again. Never writes, never logs what proves anything; refusals are held back a
//! moment, so that guessing takes time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};
use millpond_engine::{ListenerId, api_versions};
use millpond_security::sasl::{
    Authenticated, Context, Decoy, Exchange, Mechanism, PasswordCheck, Refused, Step,
};
use millpond_security::{NoRandom, nonce, random_bytes};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits::{
    SASL_DERIVATIONS_MAX, SASL_REFUSAL_DELAY_MS, SASL_REPEAT_MS_MIN, SASL_REQUESTS_MAX,
};
use millpond_wire::messages::{
    Request, Response, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse, Secret,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::token_keys::TokenKeys;
use super::users::KnownUsers;

/// What a listener asks for.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// One at least.
    pub(crate) mechanisms: Vec<Mechanism>,
    /// How long a proof holds; none: as long as the connection.
    pub(crate) session: Option<Duration>,
    /// What signed tokens have to be, where they are taken.
    pub(crate) tokens: Option<Arc<TokenKeys>>,
}

/// What all logins of the node share.
#[derive(Debug)]
pub(crate) struct Logins {
    /// By listener; none: nobody is asked there.
    offers: Vec<Option<Arc<Offer>>>,
    pub(crate) users: Arc<KnownUsers>,
    decoy: Decoy,
    /// One for each password that may be hashed at the same time.
    checks: Arc<Semaphore>,
    /// By mechanism, HTTP last: who was let in, and who was not.
    tally: [[AtomicU64; 2]; Mechanism::ALL.len() + 1],
}

/// Why a connection ends at the door.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unproved {
    #[error("authentication failed: {0}")]
    Refused(#[from] Refused),
    #[error("mechanism {0:?} is not offered")]
    Mechanism(String),
    #[error("a {0} request came before authentication")]
    Early(&'static str),
    #[error("a {0} request came in the middle of authentication")]
    Between(&'static str),
    #[error("too many requests before authentication")]
    TooMany,
    #[error("authentication was not finished in time")]
    Slow,
    #[error("the session of user {0:?} is over and was not renewed")]
    Expired(String),
    #[error("user {was:?} cannot go on as {now:?}, or by another mechanism")]
    Changed { was: String, now: String },
    #[error("{0}")]
    NoRandom(#[from] NoRandom),
}

/// What to do with what came.
#[derive(Debug)]
pub(crate) enum Passage {
    /// It goes to the engine.
    Through,
    /// It is answered.
    Answer(Response),
    /// A bare token is answered.
    Bare(Bytes),
    /// It may be answered, and then the connection ends.
    End(Option<Response>, Unproved),
}

/// The door of one connection.
#[derive(Debug)]
pub(crate) struct Door {
    offer: Arc<Offer>,
    state: State,
    proved: Option<Proved>,
    requests: usize,
}

#[derive(Debug)]
enum State {
    /// For a handshake; or, where somebody is proved already, for anything.
    Waiting,
    Exchanging {
        mechanism: Mechanism,
        exchange: Exchange,
        is_bare: bool,
        since: Instant,
    },
}

#[derive(Debug)]
struct Proved {
    user: Arc<str>,
    mechanism: Mechanism,
    since: Instant,
    until: Option<Instant>,
}

impl Logins {
    /// The offers of the listeners, in their order.
    pub(crate) fn new(offers: Vec<Option<Offer>>) -> Result<Self, NoRandom> {
        Ok(Self {
            offers: offers.into_iter().map(|offer| offer.map(Arc::new)).collect(),
            users: Arc::default(),
            decoy: Decoy::new(&random_bytes()?),
            checks: Arc::new(Semaphore::new(SASL_DERIVATIONS_MAX)),
            tally: Default::default(),
        })
    }

    /// Log-ins since the start: mechanism, outcome, how many.
    pub(crate) fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let names = Mechanism::ALL.iter().map(|mechanism| mechanism.name()).chain([HTTP]);
        let rows = names.zip(&self.tally);
        rows.flat_map(|(name, [proved, refused])| {
            [(name, "proved", proved.load(Relaxed)), (name, "refused", refused.load(Relaxed))]
        })
        .collect()
    }

    /// Counts an end; `None`: of HTTP.
    fn note(&self, mechanism: Option<Mechanism>, is_proved: bool) {
        let at = mechanism.map_or(Mechanism::ALL.len(), |mechanism| {
            Mechanism::ALL.iter().position(|one| *one == mechanism).unwrap_or_default()
        });
        self.tally[at][usize::from(!is_proved)].fetch_add(1, Relaxed);
    }

    /// The door of a new connection; none where nobody is asked.
    pub(crate) fn door(&self, listener: ListenerId) -> Option<Door> {
        let offer = self.offers.get(usize::from(listener.0)).cloned().flatten()?;
        Some(Door { offer, state: State::Waiting, proved: None, requests: 0 })
    }

    /// Who a token of PLAIN proves to be; a refusal is held back a while, as everywhere.
    pub(crate) async fn password(&self, token: &[u8]) -> Result<String, Refused> {
        let context =
            Context { users: &*self.users, decoy: &self.decoy, tokens: None, now_ms: wall_ms() };
        // PLAIN needs no nonce.
        let done = match Exchange::new(Mechanism::Plain, String::new()).step(token, context) {
            Ok(Step::Check(check)) => self.check(check).await,
            Ok(Step::Done(done)) => Ok(done),
            Ok(Step::Challenge(_)) => Err(Refused::Over),
            Err(refused) => Err(refused),
        };
        self.note(None, done.is_ok());
        if done.is_err() {
            tokio::time::sleep(Duration::from_millis(SASL_REFUSAL_DELAY_MS)).await;
        }
        done.map(|done| done.user)
    }

    /// Runs a check on a thread where it holds nobody up; few at a time.
    async fn check(&self, check: PasswordCheck) -> Result<Authenticated, Refused> {
        let turn = Arc::clone(&self.checks).acquire_owned().await.ok();
        let checked = tokio::task::spawn_blocking(move || {
            // Held to the end, also where nobody waits for it any more.
            let _turn = turn;
            check.run()
        });
        let checked = checked.await;
        checked.unwrap_or(Err(Refused::Over))
    }
}

impl Door {
    /// Whether somebody is proved: larger frames may come.
    pub(crate) fn is_open(&self) -> bool {
        self.proved.is_some()
    }

    /// Who is proved.
    pub(crate) fn user(&self) -> Option<Arc<str>> {
        self.proved.as_ref().map(|proved| Arc::clone(&proved.user))
    }

    /// Whether the next frame is a token without a header, as after a handshake of version 0.
    pub(crate) fn takes_bare_tokens(&self) -> bool {
        matches!(self.state, State::Exchanging { is_bare: true, .. })
    }

    /// A request in a served version.
    pub(crate) async fn request(
        &mut self,
        request: &Request,
        version: i16,
        logins: &Logins,
    ) -> Passage {
        let name = request.api_key().name();
        if matches!(self.state, State::Exchanging { .. }) {
            return match request {
                Request::SaslAuthenticate(request) => self.authenticate(request, logins).await,
                _ => Passage::End(None, Unproved::Between(name)),
            };
        }
        if self.proved.is_some() {
            return self.proved_request(request, version);
        }
        self.requests += 1;
        match request {
            _ if self.requests > SASL_REQUESTS_MAX => Passage::End(None, Unproved::TooMany),
            Request::ApiVersions(_) => {
                Passage::Answer(Response::ApiVersions(api_versions::served()))
            }
            Request::SaslHandshake(request) => self.handshake(request, version),
            _ => Passage::End(None, Unproved::Early(name)),
        }
    }

    /// After a proof: a handshake begins the next one, but not at once after the last.
    fn proved_request(&mut self, request: &Request, version: i16) -> Passage {
        let Some(proved) = &self.proved else { return Passage::Through };
        let now = Instant::now();
        match request {
            Request::SaslHandshake(request)
                if now >= proved.since + Duration::from_millis(SASL_REPEAT_MS_MIN) =>
            {
                self.handshake(request, version)
            }
            Request::SaslHandshake(_) | Request::SaslAuthenticate(_) => Passage::Through,
            _ if proved.until.is_some_and(|until| now >= until) => {
                let user = proved.user.to_string();
                Passage::End(None, Unproved::Expired(user))
            }
            _ => Passage::Through,
        }
    }

    fn handshake(&mut self, request: &SaslHandshakeRequest, version: i16) -> Passage {
        let mechanisms =
            self.offer.mechanisms.iter().map(|offered| offered.name().to_owned()).collect();
        let mut response = SaslHandshakeResponse { mechanisms, ..Default::default() };
        let wanted = Mechanism::by_name(&request.mechanism);
        let Some(mechanism) = wanted.filter(|wanted| self.offer.mechanisms.contains(wanted)) else {
            response.error_code = ErrorCode::UnsupportedSaslMechanism.code();
            let name = request.mechanism.chars().take(MECHANISM_CHARS_SHOWN).collect();
            let unproved = Unproved::Mechanism(name);
            return Passage::End(Some(Response::SaslHandshake(response)), unproved);
        };
        let exchange = match nonce() {
            Ok(nonce) => Exchange::new(mechanism, nonce),
            Err(error) => return Passage::End(None, error.into()),
        };
        let (is_bare, since) = (version == 0, Instant::now());
        self.state = State::Exchanging { mechanism, exchange, is_bare, since };
        Passage::Answer(Response::SaslHandshake(response))
    }

    async fn authenticate(
        &mut self,
        request: &SaslAuthenticateRequest,
        logins: &Logins,
    ) -> Passage {
        match self.token(&request.auth_bytes.0, logins).await {
            Ok((reply, session_lifetime_ms)) => {
                let auth_bytes = Secret(reply);
                let response = SaslAuthenticateResponse {
                    auth_bytes,
                    session_lifetime_ms,
                    ..Default::default()
                };
                Passage::Answer(Response::SaslAuthenticate(response))
            }
            Err((mechanism, unproved)) => {
                let response = SaslAuthenticateResponse {
                    error_code: ErrorCode::SaslAuthenticationFailed.code(),
                    error_message: Some(format!(
                        "Authentication failed during authentication due to invalid credentials \
                         with SASL mechanism {mechanism}"
                    )),
                    ..Default::default()
                };
                Passage::End(Some(Response::SaslAuthenticate(response)), unproved)
            }
        }
    }

    /// A token without a header; its answer has none either, and a refusal is none at all.
    pub(crate) async fn bare_token(&mut self, token: &[u8], logins: &Logins) -> Passage {
        match self.token(token, logins).await {
            Ok((reply, _)) => {
                let mut frame = BytesMut::with_capacity(4 + reply.len());
                frame.put_u32(u32::try_from(reply.len()).unwrap_or_default());
                frame.extend_from_slice(&reply);
                Passage::Bare(frame.freeze())
            }
            Err((_, unproved)) => Passage::End(None, unproved),
        }
    }

    /// The answer to a token, and how long the session is from here on, 0 if it has no end.
    async fn token(
        &mut self,
        token: &[u8],
        logins: &Logins,
    ) -> Result<(Bytes, i64), (&'static str, Unproved)> {
        self.requests += 1;
        let too_many = self.requests > 2 * SASL_REQUESTS_MAX;
        let State::Exchanging { mechanism, exchange, since, .. } = &mut self.state else {
            return Err(("", Refused::Over.into()));
        };
        let (mechanism, since) = (*mechanism, *since);
        let rules = self.offer.tokens.as_ref().map(|keys| keys.now());
        let context = Context {
            users: &*logins.users,
            decoy: &logins.decoy,
            tokens: rules.as_deref(),
            now_ms: wall_ms(),
        };
        let step = exchange.step(token, context);
        let step = match step {
            _ if too_many => Err(Unproved::TooMany),
            Ok(Step::Check(check)) => match logins.check(check).await {
                Ok(done) => self.prove(done, mechanism, since),
                Err(refused) => Err(refused.into()),
            },
            Ok(Step::Done(done)) => self.prove(done, mechanism, since),
            Ok(Step::Challenge(challenge)) => Ok((challenge.into(), 0)),
            Err(refused) => Err(refused.into()),
        };
        let is_over = step.is_err() || matches!(self.state, State::Waiting);
        if is_over {
            logins.note(Some(mechanism), step.is_ok());
        }
        if step.is_err() {
            tokio::time::sleep(Duration::from_millis(SASL_REFUSAL_DELAY_MS)).await;
        }
        step.map_err(|unproved| (mechanism.name(), unproved))
    }

    fn prove(
        &mut self,
        done: Authenticated,
        mechanism: Mechanism,
        since: Instant,
    ) -> Result<(Bytes, i64), Unproved> {
        if let Some(before) = &self.proved
            && (*before.user != done.user || before.mechanism != mechanism)
        {
            let (was, now) = (before.user.to_string(), done.user);
            return Err(Unproved::Changed { was, now });
        }
        let left_ms = done.until_ms.map(|until_ms| until_ms.saturating_sub(wall_ms()));
        let left = left_ms.map(|ms| Duration::from_millis(ms.max(1).unsigned_abs()));
        let session = [self.offer.session, left].into_iter().flatten().min();
        // What lies beyond the clock has no end.
        let until = session.and_then(|session| Instant::now().checked_add(session));
        self.proved = Some(Proved { user: done.user.into(), mechanism, since, until });
        self.state = State::Waiting;
        self.requests = 0;
        let ms = session.map_or(0, |session| session.as_millis());
        Ok((done.reply.into(), i64::try_from(ms).unwrap_or(i64::MAX)))
    }
}

/// Milliseconds since 1970, by this machine.
fn wall_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Of a name that is not offered, in the log.
const MECHANISM_CHARS_SHOWN: usize = 40;
/// As metrics name whoever logs in with a request of HTTP.
const HTTP: &str = "HTTP";

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
