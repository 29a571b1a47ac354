//! One Kafka connection: requests out in order, responses matched to them, several under way.
//!
//! It never reorders, never waits without an end, and never keeps a request alive for a caller
//! that has gone: dropping a call drops its answer, nothing else. The bytes are moved by one task
//! on the caller's runtime, which ends with the last handle.

use crate::config::ClientConfig;
use crate::error::{CallError, ConnectError};
use crate::login::log_in;
use crate::transport::{Connector, Halves, ReadHalf, WriteHalf};
use crate::url::{BrokerUrl, Scheme};
use bytes::Bytes;
use millpond_wire::frame::{FrameDecoder, decode_response, encode_request};
use millpond_wire::messages::{ApiVersionsRequest, ApiVersionsResponse, Request, Response};
use millpond_wire::{ApiKey, DecodeError, Early, ErrorCode, limits};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

/// The version of ApiVersions that every broker is asked in first (KIP-511: an older one says so).
const FIRST_API_VERSIONS: i16 = 3;

/// The versions of each API that a broker speaks: from, to.
pub(crate) type Versions = HashMap<ApiKey, (i16, i16)>;

/// A connection to one broker. Clones share it; it closes with the last of them.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    _closes: Arc<ClosesOnDrop>,
}

#[derive(Debug)]
struct ClosesOnDrop(Arc<Shared>);

impl Drop for ClosesOnDrop {
    fn drop(&mut self) {
        self.0.fail("closed by this client");
    }
}

#[derive(Debug)]
struct Shared {
    broker: BrokerUrl,
    client_id: String,
    request_timeout: Duration,
    versions: OnceLock<Arc<Versions>>,
    lane: Mutex<Lane>,
    /// Something to write.
    outgoing: Notify,
    closed: watch::Sender<bool>,
    /// From then on no new request goes this way: the login runs out soon (KIP-368). What is under
    /// way is still answered.
    retires_at: OnceLock<Option<Instant>>,
    /// What the bytes travel over.
    over: Scheme,
    /// True when there is a better way: no new request goes this way either.
    outdated: Arc<AtomicBool>,
    permits: Arc<Semaphore>,
    in_flight_max: usize,
}

#[derive(Debug, Default)]
struct Lane {
    next_correlation_id: i32,
    /// Answers awaited, in the order of the requests.
    pending: VecDeque<Pending>,
    /// Encoded requests that wait for the line.
    chunks: Vec<Bytes>,
    /// Whether one of them is more than asking or delivering: it waits until the broker has answered.
    waits: bool,
    /// Callers of requests that have no response (acks = 0), told once the bytes are written.
    unanswered: Vec<(oneshot::Sender<Answer>, OwnedSemaphorePermit)>,
    closed: Option<Arc<str>>,
}

type Answer = Result<Response, CallError>;

#[derive(Debug)]
struct Pending {
    correlation_id: i32,
    api: ApiKey,
    version: i16,
    answer: oneshot::Sender<Answer>,
    _permit: OwnedSemaphorePermit,
}

/// A request that stands in line; [`PendingCall::wait`] brings its response.
#[derive(Debug)]
#[must_use = "the answer is dropped with this"]
pub struct PendingCall {
    connection: Connection,
    api: ApiKey,
    answer: oneshot::Receiver<Answer>,
    deadline: Instant,
    timeout: Duration,
}

impl Connection {
    /// Connects to the first of the configured brokers that answers, for tools that need just one
    /// line. [`crate::Client`] is what programs use.
    ///
    /// # Errors
    /// [`ConnectError`] of the last broker tried.
    pub async fn open(config: &ClientConfig) -> Result<Self, ConnectError> {
        let connector = Connector::new(config.clone());
        Self::open_any(&connector, config, &config.bootstrap).await
    }

    pub(crate) async fn open_any(
        connector: &Connector,
        config: &ClientConfig,
        brokers: &[BrokerUrl],
    ) -> Result<Self, ConnectError> {
        let mut last = None;
        for broker in brokers {
            match Self::open_to(connector, config, broker).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if brokers.len() == 1 => Err(error),
            last => Err(ConnectError::NoBroker {
                tried: brokers.len(),
                last: Box::new(last.unwrap_or_else(no_broker)),
            }),
        }
    }

    /// Connects and negotiates versions, within the configuration's connect timeout.
    pub(crate) async fn open_to(
        connector: &Connector,
        config: &ClientConfig,
        broker: &BrokerUrl,
    ) -> Result<Self, ConnectError> {
        let open = async {
            let halves = connector.open(broker).await?;
            let known = halves.versions.clone();
            let connection = Self::start(config, broker, halves);
            match known {
                Some(known) => drop(connection.shared.versions.set(known)),
                None => connection.ask_versions(connector).await?,
            }
            if let Some(login) = &config.login {
                let held = log_in(&connection, login).await.map_err(|source| {
                    ConnectError::Login { broker: broker.clone(), source: Box::new(source) }
                })?;
                let _ = connection.shared.retires_at.set(held.map(retirement));
            }
            Ok(connection)
        };
        match tokio::time::timeout(config.connect_timeout, open).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // A QUIC connection may outlive the broker behind it: do not use it again.
                connector.distrust(broker);
                Err(ConnectError::Timeout {
                    broker: broker.clone(),
                    after_ms: millis(config.connect_timeout),
                })
            }
        }
    }

    fn start(config: &ClientConfig, broker: &BrokerUrl, halves: Halves) -> Self {
        let Halves { read, write, over, outdated, .. } = halves;
        let in_flight_max = limits::CONNECTION_REQUESTS_IN_FLIGHT_MAX;
        let shared = Arc::new(Shared {
            broker: broker.clone(),
            client_id: config.client_id.clone(),
            request_timeout: config.request_timeout,
            versions: OnceLock::new(),
            lane: Mutex::default(),
            outgoing: Notify::new(),
            closed: watch::Sender::new(false),
            retires_at: OnceLock::new(),
            over,
            outdated,
            permits: Arc::new(Semaphore::new(in_flight_max)),
            in_flight_max,
        });
        tokio::spawn(drive(Arc::clone(&shared), read, write));
        Self { _closes: Arc::new(ClosesOnDrop(Arc::clone(&shared))), shared }
    }

    async fn ask_versions(&self, connector: &Connector) -> Result<(), ConnectError> {
        let broker = &self.shared.broker;
        self.negotiate().await.map_err(|source| ConnectError::Negotiation {
            broker: broker.clone(),
            source: Box::new(source),
        })?;
        if let (Scheme::Quic, Some(versions)) = (self.shared.over, self.shared.versions.get()) {
            connector.learned(broker, versions);
        }
        Ok(())
    }

    async fn negotiate(&self) -> Result<(), CallError> {
        let mut version = FIRST_API_VERSIONS;
        for _ in 0..2 {
            let request = Request::ApiVersions(ApiVersionsRequest {
                client_software_name: "millpond".to_owned(),
                client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
            });
            let response = match self.call_version(request, version).await? {
                Response::ApiVersions(response) => response,
                _ => return Err(self.unexpected(ApiKey::ApiVersions, "another API's response")),
            };
            if ErrorCode::from_code(response.error_code) == Some(ErrorCode::None) {
                let _ = self.shared.versions.set(Arc::new(version_table(&response)));
                return Ok(());
            }
            version = served_by(&response).unwrap_or(0).clamp(0, FIRST_API_VERSIONS - 1);
        }
        Err(self.unexpected(ApiKey::ApiVersions, "no version of it could be agreed on"))
    }

    /// Which broker this leads to.
    pub fn broker(&self) -> &BrokerUrl {
        &self.shared.broker
    }

    /// The newest version of `api` that both sides speak and that names topics as this client does.
    pub fn version(&self, api: ApiKey) -> Option<i16> {
        self.version_up_to(api, newest_by_name(api))
    }

    /// The newest version of `api`, at most `cap`, that both sides speak.
    pub fn version_up_to(&self, api: ApiKey, cap: i16) -> Option<i16> {
        let (theirs_min, theirs_max) = *self.shared.versions.get()?.get(&api)?;
        let ours = api.spec();
        let version = ours.max_version.min(theirs_max).min(cap);
        (version >= ours.min_version && version >= theirs_min).then_some(version)
    }

    /// Sends `request` in the newest common version and waits for its response, within the
    /// configuration's request timeout. Waits first if too many are under way.
    ///
    /// # Errors
    /// [`CallError`]. A response that carries a Kafka error code is not an error here.
    pub async fn call(&self, request: Request) -> Result<Response, CallError> {
        let api = request.api_key();
        match self.version(api) {
            Some(version) => self.call_version(request, version).await,
            None => Err(self.unsupported(api)),
        }
    }

    /// Sends `request` in `version` and waits for its response.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_version(
        &self,
        request: Request,
        version: i16,
    ) -> Result<Response, CallError> {
        let timeout = self.shared.request_timeout;
        self.call_within(request, version, timeout).await
    }

    /// Sends `request` in `version` and waits at most `timeout` for its response.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_within(
        &self,
        request: Request,
        version: i16,
        timeout: Duration,
    ) -> Result<Response, CallError> {
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await;
        let permit = permit.map_err(|_| self.shared.lost(request.api_key()))?;
        self.enqueue(request, version, timeout, permit)?.wait().await
    }

    /// Puts `request` in line at once, in the order of these calls, without waiting for anything.
    ///
    /// # Errors
    /// [`CallError::Busy`] if too many are under way, or [`CallError::Lost`].
    pub fn begin(
        &self,
        request: Request,
        version: i16,
        timeout: Duration,
    ) -> Result<PendingCall, CallError> {
        let permit = Arc::clone(&self.shared.permits).try_acquire_owned();
        let permit = permit.map_err(|_| match self.is_closed() {
            true => self.shared.lost(request.api_key()),
            false => CallError::Busy {
                broker: self.shared.broker.clone(),
                in_flight: self.shared.in_flight_max,
            },
        })?;
        self.enqueue(request, version, timeout, permit)
    }

    fn enqueue(
        &self,
        request: Request,
        version: i16,
        timeout: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Result<PendingCall, CallError> {
        let api = request.api_key();
        if !api.serves(version) {
            return Err(self.unsupported(api));
        }
        let no_response = matches!(&request, Request::Produce(produce) if produce.acks == 0);
        let (answer, receiver) = oneshot::channel();
        if self.shared.is_retired() {
            return Err(self.shared.retired(api));
        }
        let mut lane = self.shared.lane();
        if let Some(reason) = &lane.closed {
            return Err(self.shared.lost_because(api, reason));
        }
        let correlation_id = lane.next_correlation_id;
        let client_id = Some(self.shared.client_id.as_str());
        let frame = encode_request(version, correlation_id, client_id, &request)
            .map_err(|_| self.unexpected(api, "the request is too large for a frame"))?;
        lane.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        lane.chunks.extend(frame);
        lane.waits |= api.early() == Early::Never;
        if no_response {
            lane.unanswered.push((answer, permit));
        } else {
            lane.pending.push_back(Pending {
                correlation_id,
                api,
                version,
                answer,
                _permit: permit,
            });
        }
        drop(lane);
        self.shared.outgoing.notify_one();
        Ok(PendingCall {
            connection: self.clone(),
            api,
            answer: receiver,
            deadline: Instant::now() + timeout,
            timeout,
        })
    }

    /// Whether the line is gone; every further call fails.
    pub fn is_closed(&self) -> bool {
        self.shared.is_retired() || self.shared.lane().closed.is_some()
    }

    /// Whether nobody on the way can read what is said.
    pub(crate) fn is_protected(&self) -> bool {
        self.shared.over != Scheme::Tcp
    }

    /// What the bytes travel over: for `millpond://` either of [`Scheme::Quic`] and [`Scheme::Tls`].
    pub fn over(&self) -> Scheme {
        self.shared.over
    }

    /// Resolves when the line is gone.
    pub async fn closed(&self) {
        let mut closed = self.shared.closed.subscribe();
        // The sender lives in `shared`, which this holds.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Gives the line up; calls under way fail.
    pub fn close(&self) {
        self.shared.fail("closed by this client");
    }

    fn unsupported(&self, api: ApiKey) -> CallError {
        CallError::Unsupported { broker: self.shared.broker.clone(), api }
    }

    pub(crate) fn unexpected(&self, api: ApiKey, what: &'static str) -> CallError {
        CallError::Unexpected { broker: self.shared.broker.clone(), api, what }
    }
}

impl PendingCall {
    /// The response. For a produce with `acks = 0`, which has none, an empty one as soon as the
    /// bytes are with the operating system.
    ///
    /// Dropping this future forgets the answer; the request stays sent.
    ///
    /// # Errors
    /// [`CallError`]; after a timeout the whole connection is given up, since responses come in
    /// order and none can overtake the missing one.
    pub async fn wait(self) -> Result<Response, CallError> {
        match tokio::time::timeout_at(self.deadline, self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.connection.shared.lost(self.api)),
            Err(_) => {
                self.connection.shared.fail("a request was not answered in time");
                Err(CallError::Timeout {
                    broker: self.connection.shared.broker.clone(),
                    api: self.api,
                    after_ms: millis(self.timeout),
                })
            }
        }
    }
}

impl Shared {
    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the line once; everything under way is answered with `Lost`.
    fn fail(&self, reason: &str) {
        let mut lane = self.lane();
        if lane.closed.is_some() {
            return;
        }
        let reason: Arc<str> = reason.into();
        lane.closed = Some(Arc::clone(&reason));
        lane.chunks.clear();
        let pending = std::mem::take(&mut lane.pending);
        let unanswered = std::mem::take(&mut lane.unanswered);
        drop(lane);
        self.permits.close();
        for call in pending {
            let _ = call.answer.send(Err(self.lost_because(call.api, &reason)));
        }
        for (answer, _) in unanswered {
            let _ = answer.send(Err(self.lost_because(ApiKey::Produce, &reason)));
        }
        self.closed.send_replace(true);
    }

    fn is_retired(&self) -> bool {
        let retires_at = self.retires_at.get().copied().flatten();
        let is_over = retires_at.is_some_and(|at| Instant::now() >= at);
        is_over || self.outdated.load(Ordering::Acquire)
    }

    fn retired(&self, api: ApiKey) -> CallError {
        self.lost_because(api, &"a new line has a new login, or a better way".into())
    }

    fn lost(&self, api: ApiKey) -> CallError {
        let reason = self.lane().closed.clone();
        self.lost_because(api, &reason.unwrap_or_else(|| "the line ended".into()))
    }

    fn lost_because(&self, api: ApiKey, reason: &Arc<str>) -> CallError {
        CallError::Lost { broker: self.broker.clone(), api, reason: Arc::clone(reason) }
    }
}

/// Moves the bytes until one side ends or the last handle goes.
async fn drive(shared: Arc<Shared>, read: ReadHalf, write: WriteHalf) {
    let mut closed = shared.closed.subscribe();
    let reason = tokio::select! {
        reason = read_responses(&shared, read) => reason,
        reason = write_requests(&shared, write) => reason,
        _ = closed.wait_for(|closed| *closed) => return,
    };
    tracing::debug!(broker = %shared.broker, %reason, "connection lost");
    shared.fail(&reason);
}

async fn write_requests(shared: &Shared, mut write: WriteHalf) -> String {
    let mut chunks = Vec::new();
    loop {
        let (unanswered, waits) = {
            let mut lane = shared.lane();
            chunks.append(&mut lane.chunks);
            (std::mem::take(&mut lane.unanswered), std::mem::take(&mut lane.waits))
        };
        if chunks.is_empty() {
            shared.outgoing.notified().await;
            continue;
        }
        if waits {
            write.confirmed().await;
        }
        if let Err(error) = write.write_all(&mut chunks).await {
            return format!("writing failed: {error}");
        }
        for (answer, _permit) in unanswered {
            let _ = answer.send(Ok(Response::Produce(Default::default())));
        }
    }
}

async fn read_responses(shared: &Shared, mut read: ReadHalf) -> String {
    let mut frames = FrameDecoder::for_responses();
    loop {
        match read.read_into(frames.space()).await {
            Ok(0) => return "the broker closed it".to_owned(),
            Ok(_) => {}
            Err(error) => return format!("reading failed: {error}"),
        }
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => {
                    if let Err(reason) = answer(shared, frame) {
                        return reason;
                    }
                }
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
    }
}

/// Gives one response frame to the oldest call; responses come in the order of the requests.
fn answer(shared: &Shared, frame: Bytes) -> Result<(), String> {
    let Some(call) = shared.lane().pending.pop_front() else {
        return Err("the broker answered what was not asked".to_owned());
    };
    match decode(call.api, call.version, frame) {
        Ok((correlation_id, _)) if correlation_id != call.correlation_id => Err(format!(
            "the broker answered request {correlation_id} where {} was due",
            call.correlation_id
        )),
        Ok((_, response)) => {
            let _ = call.answer.send(Ok(response));
            Ok(())
        }
        Err(source) => {
            let _ = call.answer.send(Err(CallError::Malformed {
                broker: shared.broker.clone(),
                api: call.api,
                source,
            }));
            Err(format!("a response to {} cannot be read: {source}", call.api))
        }
    }
}

/// A broker that does not know our version of ApiVersions answers in version 0 (KIP-511).
fn decode(api: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Response), DecodeError> {
    let unsupported = ErrorCode::UnsupportedVersion.code().to_be_bytes();
    let is_old = api == ApiKey::ApiVersions && frame.get(4..6) == Some(unsupported.as_slice());
    decode_response(api, if is_old { 0 } else { version }, frame)
}

fn version_table(response: &ApiVersionsResponse) -> Versions {
    let known = |entry: &millpond_wire::messages::api_versions_response::ApiVersion| {
        let api = ApiKey::from_code(entry.api_key)?;
        Some((api, (entry.min_version, entry.max_version)))
    };
    response.api_keys.iter().filter_map(known).collect()
}

/// The last version in which committed offsets are told by the names of topics, not by their ids.
const fn newest_by_name(api: ApiKey) -> i16 {
    match api {
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        _ => i16::MAX,
    }
}

fn served_by(response: &ApiVersionsResponse) -> Option<i16> {
    let key = ApiKey::ApiVersions.code();
    let entry = response.api_keys.iter().find(|entry| entry.api_key == key)?;
    Some(entry.max_version)
}

fn no_broker() -> ConnectError {
    ConnectError::Resolve {
        broker: BrokerUrl { scheme: Scheme::Tcp, host: String::new(), port: 0 },
        reason: "no broker is configured".to_owned(),
    }
}

/// When a line whose login holds for `held` takes no more requests: in time for those under way.
fn retirement(held: Duration) -> Instant {
    Instant::now() + held / 4 * 3
}

/// Whole milliseconds, for messages.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
