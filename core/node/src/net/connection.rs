//! One Kafka connection, over any line: bytes in, frames, requests to the engine, answers out in
//! order.
//!
//! Everything that a peer can make grow or wait is bounded: requests and bytes under way, the time
//! to the first request, to the end of a request, to take an answer, and of silence. Nothing is
//! allocated from a declared length.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use millpond_engine::{LoginRefused, Peer};
use millpond_wire::ApiKey;
use millpond_wire::frame::{
    FrameDecoder, FrameError, RequestError, RequestHeader, decode_request, encode_response,
    unsupported_api_versions_response,
};
use millpond_wire::limits::{CONNECTION_REQUEST_BYTES_MAX, SASL_REFUSAL_DELAY_MS};
use millpond_wire::messages::{Request, Response};
use millpond_wire::writer::EncodeError;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::answers::{Room, Turns};
use super::budget::{Budget, Taken};
use super::early::{NotTaken, Unconfirmed, hand_over};
use super::gateway::{Call, EngineGone, Gateway};
use super::login::{Door, Passage, Unproved};
use super::responses::{Answer, Outgoing, Pending, WriteFault};
use super::{Who, Wiring};
use crate::metrics::{ConnectionKind, Refusal};

/// A frame above this size waits for its budget before the rest of it is read; smaller ones are
/// charged when whole.
const CHARGE_EARLY_BYTES: usize = 16 * 1024;

/// What a stream of QUIC keeps to read into while it waits for a request: thousands of devices wait,
/// and what comes for them is in memory already, so that a short first read costs little.
const IDLE_BUFFER_BYTES: usize = 1024;

/// Waiting for a turn to be checked is part of the time that a login has.
const LATE: Ending = Ending::Unproved(Unproved::Slow);

/// How a connection came to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ending {
    /// The peer closed it, between two requests.
    #[error("closed by the peer")]
    Closed,
    /// The peer closed it within a request.
    #[error("closed by the peer in the middle of a request")]
    Cut,
    /// The line broke.
    #[error("the line broke: {0}")]
    Line(io::Error),
    /// Nothing was asked for a long time.
    #[error("idle")]
    Idle,
    /// No first request came in time.
    #[error("no request came in time after connecting")]
    NoFirstRequest,
    /// A request was begun and not ended in time.
    #[error("a request was begun and not ended in time")]
    SlowRequest,
    /// The stream is not the Kafka protocol.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A request cannot be read, or is not served.
    #[error("{0}")]
    Request(RequestError),
    /// Nobody proved who he is.
    #[error("{0}")]
    Unproved(Unproved),
    /// Answers cannot be written.
    #[error("{0}")]
    Write(WriteFault),
    /// What came was no harmless repetition, and the handshake that would have shown that it is none did not end.
    #[error("the handshake did not come to its end: what came before that was not served")]
    Unconfirmed,
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

impl From<EngineGone> for Ending {
    fn from(_: EngineGone) -> Self {
        Self::Stopping
    }
}

impl From<NotTaken> for Ending {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::EngineGone => Self::Stopping,
            NotTaken::Unconfirmed => Self::Unconfirmed,
        }
    }
}

impl Ending {
    /// Whose fault it is, where it is somebody's.
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Frame(_) | Self::Request(_) => Some(Refusal::Malformed),
            Self::Unproved(_) => Some(Refusal::Authentication),
            Self::NoFirstRequest | Self::SlowRequest | Self::Write(WriteFault::Slow { .. }) => {
                Some(Refusal::Slow)
            }
            _ => None,
        }
    }
}

/// What a line shows of its peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Who it is by its certificate.
    pub(crate) certified: Option<Arc<str>>,
    /// The handshake of the line, where that is still under way.
    pub(crate) unconfirmed: Option<Unconfirmed>,
}

/// Serves a connection until it ends; counts it and logs its end.
pub(crate) async fn serve_connection<R, W, G>(
    reader: R,
    writer: W,
    who: Who,
    shown: Shown,
    gateway: G,
    wiring: Arc<Wiring>,
) -> Ending
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    G: Gateway,
{
    wiring.counters.opened(who.kind);
    let ending = both_ways(reader, writer, who, shown, &gateway, &wiring).await;
    gateway.close(who.session).await;
    if let Ending::Unproved(why) = &ending {
        let host = who.host();
        let refused = LoginRefused { host, listener: who.listener.0, why: why.to_string() };
        gateway.refused(refused).await;
    }
    wiring.counters.closed(who.kind);
    match ending.refusal() {
        Some(refusal) => {
            wiring.counters.refused(refusal);
            wiring.complaints.warn(who, &ending);
        }
        None => tracing::debug!("{who}: {ending}"),
    }
    ending
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} over {}", self.address, self.kind.name())
    }
}

async fn both_ways<R, W, G>(
    reader: R,
    mut writer: W,
    who: Who,
    shown: Shown,
    gateway: &G,
    wiring: &Wiring,
) -> Ending
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    G: Gateway,
{
    let (pending, answers) = mpsc::channel(wiring.requests_in_flight_max);
    let slots = Arc::new(Semaphore::new(wiring.requests_in_flight_max));
    let incoming = Incoming {
        reader,
        who,
        gateway,
        wiring,
        pending,
        slots,
        own: Budget::new(CONNECTION_REQUEST_BYTES_MAX),
        turns: Turns::new(),
        door: wiring.logins.door(who.listener),
        certified: shown.certified,
        unconfirmed: shown.unconfirmed,
    };
    let ending = {
        let read = pin!(incoming.run());
        let write = pin!(write_answers(&mut writer, answers, wiring));
        match select(read, write).await {
            Either::Right((Err(fault), _)) => Ending::Write(fault),
            // The half that writes ends well only after the half that reads.
            Either::Right((Ok(()), _)) => Ending::Closed,
            Either::Left((ending, write)) => {
                // What was asked before the end is still answered, unless nobody is there to take
                // it.
                if !matches!(ending, Ending::Line(_) | Ending::Cut | Ending::Closed) {
                    let _ = timeout(wiring.times.grace, write).await;
                }
                ending
            }
        }
    };
    if !matches!(ending, Ending::Write(_) | Ending::Line(_)) {
        let _ = timeout(wiring.times.grace, writer.shutdown()).await;
    }
    ending
}

/// The half that reads.
struct Incoming<'a, R, G> {
    reader: R,
    who: Who,
    gateway: &'a G,
    wiring: &'a Wiring,
    /// Boxed: the queue has room for many from the start, and most connections wait most of the time.
    pending: mpsc::Sender<Box<Pending>>,
    /// One for each request that may be under way.
    slots: Arc<Semaphore>,
    /// This connection's share of the budget.
    own: Budget,
    /// For what may have a large answer.
    turns: Turns,
    /// Where the peer must prove who it is.
    door: Option<Door>,
    /// Who it is by its certificate.
    certified: Option<Arc<str>>,
    /// What is to end before everything is served.
    unconfirmed: Option<Unconfirmed>,
}

impl<R: AsyncRead + Unpin, G: Gateway> Incoming<'_, R, G> {
    /// Reads until the end, and says which. Dropping the sender of answers lets the other half
    /// finish.
    async fn run(mut self) -> Ending {
        let most = self.wiring.request_bytes_max;
        let mut decoder = match self.door {
            Some(_) => FrameDecoder::for_logins_up_to(most),
            None => FrameDecoder::for_requests_up_to(most),
        };
        let mut stop = self.wiring.stop.clone();
        let mut stopped = pin!(stopped(&mut stop));
        let first_by = Instant::now() + self.wiring.times.first_request;
        let mut first = true;
        loop {
            let deadline = if first { Deadline::First(first_by) } else { Deadline::Later };
            let (frame, taken) = match self.frame(&mut decoder, deadline, stopped.as_mut()).await {
                Ok(frame) => frame,
                Err(ending) => return ending,
            };
            let is_login = first && self.door.is_some();
            // Boxed: what takes a request in is large, and most connections wait for one most of the time.
            let request = Box::pin(self.request(frame, taken));
            let done = match is_login {
                true => timeout_at(first_by, request).await.unwrap_or(Err(LATE)),
                false => request.await,
            };
            if let Err(ending) = done {
                return ending;
            }
            // Who must prove who it is has no more time for that than for a first request.
            if first && self.door.as_ref().is_none_or(Door::is_open) {
                first = false;
                decoder.establish();
            }
        }
    }

    /// The next whole frame, with what it took of the budgets.
    async fn frame(
        &mut self,
        decoder: &mut FrameDecoder,
        deadline: Deadline,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(Bytes, [Taken; 2]), Ending> {
        let mut taken = None;
        let mut clock = Clock::new(deadline, self.wiring);
        loop {
            if let Some(frame) = decoder.next_frame()? {
                let taken = match taken {
                    Some(taken) => taken,
                    None => self.charge(frame.len()).await,
                };
                return Ok((frame, taken));
            }
            if self.who.kind == ConnectionKind::Quic && decoder.buffered_bytes() == 0 {
                *decoder.space() = BytesMut::with_capacity(IDLE_BUFFER_BYTES);
            }
            let declared = declared_bytes(decoder);
            if declared > CHARGE_EARLY_BYTES && taken.is_none() {
                taken = Some(self.charge(declared).await);
                // Waiting for others to finish is not the peer's slowness.
                clock.restart_request();
            }
            let by = clock.deadline(decoder.is_mid_frame());
            let read = {
                let read = pin!(timeout_at(by, self.reader.read_buf(decoder.space())));
                match select(stopped.as_mut(), read).await {
                    Either::Left(_) => return Err(Ending::Stopping),
                    Either::Right((read, _)) => read,
                }
            };
            match read {
                Err(_) => self.overdue(&mut clock, decoder.is_mid_frame())?,
                Ok(Err(error)) => return Err(Ending::Line(error)),
                Ok(Ok(0)) if decoder.is_mid_frame() => return Err(Ending::Cut),
                Ok(Ok(0)) => return Err(Ending::Closed),
                Ok(Ok(n)) => {
                    self.wiring.counters.received_bytes.fetch_add(n as u64, Relaxed);
                }
            }
        }
    }

    /// A deadline passed. A connection that waits for an answer is not idle.
    fn overdue(&self, clock: &mut Clock<'_>, mid_frame: bool) -> Result<(), Ending> {
        if clock.is_first() {
            return Err(match self.door {
                Some(_) => Ending::Unproved(Unproved::Slow),
                None => Ending::NoFirstRequest,
            });
        }
        if mid_frame {
            return Err(Ending::SlowRequest);
        }
        if self.slots.available_permits() == self.wiring.requests_in_flight_max {
            return Err(Ending::Idle);
        }
        clock.restart_idle();
        Ok(())
    }

    /// Takes bytes of this connection's share and of everybody's.
    async fn charge(&self, bytes: usize) -> [Taken; 2] {
        let own = self.own.take(bytes).await;
        [own, self.wiring.budget.take(bytes).await]
    }

    /// Decodes a frame and gives the request to the engine, once the peer is let in.
    async fn request(&mut self, frame: Bytes, taken: [Taken; 2]) -> Result<(), Ending> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        let ((answer, room), end) = match &mut self.door {
            Some(door) if door.takes_bare_tokens() => {
                match door.bare_token(&frame, &self.wiring.logins).await {
                    Passage::Bare(frame) => ((Answer::Ready(vec![frame]), None), None),
                    Passage::End(_, why) => return Err(Ending::Unproved(why)),
                    Passage::Through | Passage::Answer(_) => return Err(Ending::Closed),
                }
            }
            _ => self.answer(frame).await?,
        };
        // The channel has room for every slot; it is closed only when the other half has ended.
        let pending = Box::new(Pending { answer, _bytes: taken, _slot: slot, room });
        self.pending.send(pending).await.map_err(|_| Ending::Closed)?;
        let Some(why) = end else { return Ok(()) };
        // Clients that see an answer and the end of the connection at once may only look at the end.
        sleep(Duration::from_millis(SASL_REFUSAL_DELAY_MS)).await;
        Err(Ending::Unproved(why))
    }

    /// Where the answer to a request comes from, and why the connection ends after it, if it does.
    async fn answer(&mut self, frame: Bytes) -> Result<(Answered, Option<Unproved>), Ending> {
        let answer = match decode_request(frame) {
            Ok((header, request)) => {
                self.wiring.counters.request(header.api);
                let passage = match &mut self.door {
                    Some(door) => door.request(&request, header.version, &self.wiring.logins).await,
                    None => Passage::Through,
                };
                match passage {
                    Passage::Through | Passage::Bare(_) => self.submit(header, request).await?,
                    Passage::Answer(response) => (ready(&header, &response)?, None),
                    Passage::End(Some(response), why) => {
                        return Ok(((ready(&header, &response)?, None), Some(why)));
                    }
                    Passage::End(None, why) => return Err(Ending::Unproved(why)),
                }
            }
            Err(RequestError::UnsupportedVersion {
                api: ApiKey::ApiVersions,
                correlation_id,
                ..
            }) => (Answer::Ready(unsupported_api_versions_response(correlation_id)), None),
            Err(error) => return Err(Ending::Request(error)),
        };
        Ok((answer, None))
    }

    /// Gives a request to the engine, once there is room for its answer.
    async fn submit(
        &mut self,
        header: RequestHeader,
        request: Request,
    ) -> Result<Answered, Ending> {
        let mut request = request;
        let room = self.wiring.answers.room(&mut request, &self.turns).await;
        let (reply, receiver) = oneshot::channel();
        let peer = Peer {
            session: self.who.session,
            listener: self.who.listener,
            client_id: header.client_id,
            host: self.who.host(),
            // A name that was logged in with stands above that of the line.
            user: self.door.as_ref().and_then(Door::user).or_else(|| self.certified.clone()),
        };
        let call = Call { peer, request, version: header.version, reply, early: None };
        let early = &self.wiring.counters.early;
        hand_over(self.gateway, call, &mut self.unconfirmed, early).await?;
        let (version, correlation_id) = (header.version, header.correlation_id);
        Ok((Answer::Awaited { version, correlation_id, reply: receiver }, room))
    }
}

/// Where an answer comes from, and the room that it may take.
type Answered = (Answer, Option<Room>);

/// An answer that the engine was not asked for.
fn ready(header: &RequestHeader, response: &Response) -> Result<Answer, Ending> {
    let frame = encode_response(header.version, header.correlation_id, response);
    let fault = |error: EncodeError| Ending::Write(WriteFault::Encode(error.to_string()));
    frame.map(Answer::Ready).map_err(fault)
}

/// The half that writes: answers in the order of their requests, as many at once as are there.
async fn write_answers(
    writer: &mut (impl AsyncWrite + Unpin),
    mut answers: mpsc::Receiver<Box<Pending>>,
    wiring: &Wiring,
) -> Result<(), WriteFault> {
    let mut held: Option<Box<Pending>> = None;
    let mut outgoing = Outgoing::default();
    loop {
        let Some(next) = (match held.take() {
            Some(pending) => Some(pending),
            None => answers.recv().await,
        }) else {
            return Ok(());
        };
        let Pending { answer, _bytes, _slot, mut room } = *next;
        outgoing.push(answer.encoded(&mut room).await?);
        let mut written = vec![(_bytes, _slot, room)];
        while !outgoing.is_full() {
            let Ok(next) = answers.try_recv() else { break };
            let Pending { answer, _bytes, _slot, mut room } = *next;
            match answer.try_encoded(&mut room) {
                Ok(frame) => outgoing.push(frame?),
                Err(answer) => {
                    held = Some(Box::new(Pending { answer, _bytes, _slot, room }));
                    break;
                }
            }
            written.push((_bytes, _slot, room));
        }
        if !outgoing.is_empty() {
            let is_short = || wiring.answers.is_short();
            let bytes = outgoing.write(writer, wiring.times.write, is_short).await?;
            wiring.counters.sent_bytes.fetch_add(bytes, Relaxed);
        }
    }
}

/// Whether the first request is still awaited, and by when.
#[derive(Clone, Copy)]
enum Deadline {
    First(Instant),
    Later,
}

/// By when the next byte is due.
struct Clock<'a> {
    deadline: Deadline,
    wiring: &'a Wiring,
    idle_since: Instant,
    request_since: Option<Instant>,
}

impl<'a> Clock<'a> {
    fn new(deadline: Deadline, wiring: &'a Wiring) -> Self {
        Self { deadline, wiring, idle_since: Instant::now(), request_since: None }
    }

    fn deadline(&mut self, mid_frame: bool) -> Instant {
        match self.deadline {
            Deadline::First(by) => by,
            Deadline::Later if mid_frame => {
                *self.request_since.get_or_insert_with(Instant::now) + self.wiring.times.request
            }
            Deadline::Later => self.idle_since + self.wiring.times.idle,
        }
    }

    fn is_first(&self) -> bool {
        matches!(self.deadline, Deadline::First(_))
    }

    fn restart_idle(&mut self) {
        self.idle_since = Instant::now();
    }

    fn restart_request(&mut self) {
        self.request_since = Some(Instant::now());
    }
}

/// What the frame at the front says that it has; 0 before its length is there.
fn declared_bytes(decoder: &mut FrameDecoder) -> usize {
    let prefix = decoder.space().first_chunk::<4>().copied();
    prefix.and_then(|bytes| usize::try_from(i32::from_be_bytes(bytes)).ok()).unwrap_or(0)
}

/// Completes when the node stops (or is gone).
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
