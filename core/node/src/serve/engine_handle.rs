//! The way to the engine from other threads: one bounded channel, drained in batches. Cloning is
//! cheap.

use millpond_engine::transform::{AdminError, AdminRequest, AdminResponse, TransformOutcome};
use millpond_engine::{LoginRefused, Principal, SessionId, StatePage, Ticket, Told, TransformId};
use millpond_wire::permission::{Operation, Resource};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Snapshot;
use crate::net::{Call, EngineGone, Gateway};

/// Messages on their way to the engine's thread. Beyond it, senders wait.
pub(crate) const INBOX_MAX: usize = 1024;

/// What other threads ask of the engine's.
#[derive(Debug)]
pub(crate) enum ToEngine {
    Call(Call),
    Close(SessionId),
    Refused(LoginRefused),
    Told(Told),
    /// Whether somebody may do something; `None`: there are no rules.
    May {
        question: Question,
        reply: oneshot::Sender<Option<bool>>,
    },
    Transformed {
        ticket: Ticket,
        outcome: TransformOutcome,
        /// Timers are due that had no room.
        timers_left: bool,
    },
    ReadState {
        ticket: Ticket,
        transform: TransformId,
        from: i64,
        reply: oneshot::Sender<Result<StatePage, String>>,
    },
    Admin {
        by: Option<(Principal, String)>,
        request: AdminRequest,
        reply: oneshot::Sender<Result<AdminResponse, AdminError>>,
    },
    Snapshot(oneshot::Sender<Snapshot>),
    Ping(oneshot::Sender<()>),
}

/// What is asked of the rules of access.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) principal: Principal,
    pub(crate) host: String,
    pub(crate) operation: Operation,
    pub(crate) resource: Resource,
    pub(crate) name: &'static str,
}

/// The sending end.
#[derive(Clone, Debug)]
pub(crate) struct EngineHandle {
    to_engine: mpsc::Sender<ToEngine>,
}

impl EngineHandle {
    /// A handle and the end that the engine's thread drains.
    pub(crate) fn new() -> (Self, mpsc::Receiver<ToEngine>) {
        let (to_engine, inbox) = mpsc::channel(INBOX_MAX);
        (Self { to_engine }, inbox)
    }

    /// One consistent picture for a scrape.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, EngineGone> {
        self.ask(ToEngine::Snapshot).await
    }

    /// Completes when the engine's thread answers.
    pub(crate) async fn ping(&self) -> Result<(), EngineGone> {
        self.ask(ToEngine::Ping).await
    }

    /// An administrative request; changes are answered when they are on flash.
    pub(crate) async fn admin(
        &self,
        request: AdminRequest,
    ) -> Result<Result<AdminResponse, AdminError>, EngineGone> {
        self.admin_by(None, request).await
    }

    /// The same, of somebody.
    pub(crate) async fn admin_by(
        &self,
        by: Option<(Principal, String)>,
        request: AdminRequest,
    ) -> Result<Result<AdminResponse, AdminError>, EngineGone> {
        self.ask(|reply| ToEngine::Admin { by, request, reply }).await
    }

    /// Whether somebody may do something; `None`: there are no rules.
    pub(crate) async fn may(&self, question: Question) -> Result<Option<bool>, EngineGone> {
        self.ask(|reply| ToEngine::May { question, reply }).await
    }

    /// What became of a batch.
    pub(crate) async fn transformed(
        &self,
        ticket: Ticket,
        outcome: TransformOutcome,
        timers_left: bool,
    ) -> Result<(), EngineGone> {
        self.send(ToEngine::Transformed { ticket, outcome, timers_left }).await
    }

    /// A page of the state that a transform of a job keeps.
    pub(crate) async fn read_state(
        &self,
        ticket: Ticket,
        transform: TransformId,
        from: i64,
    ) -> Result<Result<StatePage, String>, EngineGone> {
        self.ask(|reply| ToEngine::ReadState { ticket, transform, from, reply }).await
    }

    /// Has it noted that something was changed which the engine does not keep.
    pub(crate) async fn tell(&self, told: Told) {
        // Nobody is there to note it.
        let _ = self.send(ToEngine::Told(told)).await;
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> ToEngine,
    ) -> Result<T, EngineGone> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply)).await?;
        answer.await.map_err(|_| EngineGone)
    }

    async fn send(&self, message: ToEngine) -> Result<(), EngineGone> {
        self.to_engine.send(message).await.map_err(|_| EngineGone)
    }
}

impl Gateway for EngineHandle {
    async fn submit(&self, call: Call) -> Result<(), EngineGone> {
        self.send(ToEngine::Call(call)).await
    }

    async fn close(&self, session: SessionId) {
        // An engine that is gone has no session to close.
        let _ = self.send(ToEngine::Close(session)).await;
    }

    async fn refused(&self, refused: LoginRefused) {
        // Nobody is there to note it.
        let _ = self.send(ToEngine::Refused(refused)).await;
    }
}
