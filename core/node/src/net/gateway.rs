//! The way from a connection to the engine: in place where both are on one thread, by a bounded
//! channel elsewhere.

use millpond_engine::{LoginRefused, Peer, SessionId};
use millpond_wire::messages::{Request, Response};
use tokio::sync::oneshot;

/// One request on its way to the engine.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) peer: Peer,
    pub(crate) request: Request,
    pub(crate) version: i16,
    /// `None` is a request that gets no answer (a produce with acks=0).
    pub(crate) reply: oneshot::Sender<Option<Response>>,
    /// Where it goes back to if it may be a recording and is not harmless as one; `None`: it is no recording.
    pub(crate) early: Option<oneshot::Sender<Box<Call>>>,
}

/// The engine has stopped; nothing more will be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub(crate) struct EngineGone;

/// Takes requests to the engine, in order.
pub(crate) trait Gateway {
    /// Hands a request over; waits while the way is full.
    fn submit(&self, call: Call) -> impl Future<Output = Result<(), EngineGone>>;

    /// Says that a connection or stream has ended.
    fn close(&self, session: SessionId) -> impl Future<Output = ()>;

    /// Says that somebody could not prove who he is.
    fn refused(&self, refused: LoginRefused) -> impl Future<Output = ()>;
}
