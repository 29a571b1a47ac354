//! What surrounds the engine on its thread: clocks, and the way back for replies, transforms and
//! notices. One thread owns it; nothing here blocks or awaits.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use millpond_engine::transform::{AdminError, AdminResponse};
use millpond_engine::{
    AdminId, Effect, Engine, Event, LoginRefused, Now, RequestId, SessionId, StatePage,
};
use millpond_storage::disk::RealDisk;
use millpond_storage::{DurableEngine, Shell};
use millpond_wire::messages::{Request, Response};
use tokio::sync::oneshot;

use super::engine_handle::ToEngine;
use super::picture;
use super::worker::Worker;
use crate::net::{Call, EngineGone, Gateway, KnownUsers};
use crate::transforms::TransformService;

/// Waiters that nobody waits for any more are swept when there are so many more than after the last
/// sweep.
const SWEEP_EVERY: usize = 1024;

/// The shell of a node. Clones are the same shell.
#[derive(Clone)]
pub(crate) struct NodeShell {
    state: Rc<State>,
}

struct State {
    started: Instant,
    transforms: Arc<TransformService>,
    users: Arc<KnownUsers>,
    replies: RefCell<Waiters<Option<Response>>>,
    admin: RefCell<Waiters<Result<AdminResponse, AdminError>>>,
    /// Workers that read state, by the ticket of their job: each reads one page at a time.
    state_pages: RefCell<Waiters<Result<StatePage, String>>>,
    next_id: Cell<u64>,
    worker: Worker,
}

/// Who waits for what, by number.
struct Waiters<T> {
    by_id: HashMap<u64, oneshot::Sender<T>, BuildHasherDefault<Numbers>>,
    sweep_at: usize,
}

impl<T> Waiters<T> {
    fn new() -> Self {
        Self { by_id: HashMap::default(), sweep_at: SWEEP_EVERY }
    }

    fn insert(&mut self, id: u64, sender: oneshot::Sender<T>) {
        if self.by_id.len() >= self.sweep_at {
            self.by_id.retain(|_, sender| !sender.is_closed());
            self.sweep_at = self.by_id.len() + SWEEP_EVERY;
        }
        self.by_id.insert(id, sender);
    }

    fn answer(&mut self, id: u64, answer: T) {
        if let Some(sender) = self.by_id.remove(&id) {
            // A receiver that is gone has a connection that is gone.
            let _ = sender.send(answer);
        }
    }
}

/// Hashes our own running numbers: no peer chooses them, so any spreading does.
#[derive(Default)]
struct Numbers(u64);

impl Hasher for Numbers {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

impl NodeShell {
    pub(crate) fn new(transforms: Arc<TransformService>, users: Arc<KnownUsers>) -> Self {
        let state = State {
            started: Instant::now(),
            transforms,
            users,
            replies: RefCell::new(Waiters::new()),
            admin: RefCell::new(Waiters::new()),
            state_pages: RefCell::new(Waiters::new()),
            next_id: Cell::new(1),
            worker: Worker::default(),
        };
        Self { state: Rc::new(state) }
    }

    fn next_id(&self) -> u64 {
        self.state.next_id.replace(self.state.next_id.get() + 1)
    }
}

/// The engine as connections on its own thread reach it: in place.
#[derive(Clone)]
pub(crate) struct LocalGateway {
    pub(crate) engine: Rc<DurableEngine<RealDisk, NodeShell>>,
    pub(crate) shell: NodeShell,
}

/// Lives while the engine decides. A panic then leaves the engine between two states: the process
/// must end at once, acknowledging nothing more, and the next start replays the journal. Without
/// this a panic would only end the task of whichever connection brought the event.
struct Deciding;

impl Drop for Deciding {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "error: the engine failed; the process ends so that nothing wrong is acknowledged"
            );
            std::process::abort();
        }
    }
}

impl LocalGateway {
    fn decide(&self, event: Event) {
        let _deciding = Deciding;
        self.engine.submit(event);
    }

    /// Does what another thread asked.
    pub(crate) async fn handle(&self, message: ToEngine) {
        match message {
            ToEngine::Call(call) => {
                self.room_for(&call.request).await;
                self.call(call);
            }
            ToEngine::Close(session) => self.decide(Event::SessionClosed(session)),
            ToEngine::Transformed { ticket, outcome, timers_left } => {
                if timers_left {
                    self.decide(Event::TimersLeft { ticket });
                }
                self.decide(Event::Transformed { ticket, outcome })
            }
            ToEngine::ReadState { ticket, transform, from, reply } => {
                self.shell.state.state_pages.borrow_mut().insert(ticket.0, reply);
                self.decide(Event::ReadState { ticket, transform, from });
            }
            ToEngine::Refused(refused) => self.decide(Event::LoginRefused(refused)),
            ToEngine::Told(told) => self.decide(Event::Told(told)),
            ToEngine::May { question, reply } => {
                let _ = reply.send(picture::may(&self.engine, &question));
            }
            ToEngine::Admin { by, request, reply } => {
                let id = self.shell.next_id();
                self.shell.state.admin.borrow_mut().insert(id, reply);
                self.decide(Event::Admin { id: AdminId(id), by, request });
            }
            ToEngine::Snapshot(reply) => {
                let _ = reply.send(picture::take(&self.engine));
            }
            ToEngine::Ping(reply) => {
                let _ = reply.send(());
            }
        }
    }

    /// What is to be written waits while too much waits for the journal.
    async fn room_for(&self, request: &Request) {
        if matches!(request, Request::Produce(_)) {
            self.engine.room().await;
        }
    }

    fn call(&self, mut call: Call) {
        if let Some(turn_back) = call.early.take()
            && !self.engine.with_engine(|engine| engine.takes_early(&call.request, call.version))
        {
            // A connection that is gone has no use for it.
            let _ = turn_back.send(Box::new(call));
            return;
        }
        let Call { peer, request, version, reply, .. } = call;
        let id = self.shell.next_id();
        self.shell.state.replies.borrow_mut().insert(id, reply);
        let begun = self.engine.with_engine(Engine::measures_requests).then(Instant::now);
        self.decide(Event::Request { id: RequestId(id), peer, request, version });
        if let Some(begun) = begun {
            let spent_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.decide(Event::Spent(spent_us));
        }
    }
}

impl Gateway for LocalGateway {
    async fn submit(&self, call: Call) -> Result<(), EngineGone> {
        self.room_for(&call.request).await;
        self.call(call);
        Ok(())
    }

    async fn close(&self, session: SessionId) {
        self.decide(Event::SessionClosed(session));
    }

    async fn refused(&self, refused: LoginRefused) {
        self.decide(Event::LoginRefused(refused));
    }
}

impl Shell for NodeShell {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Now {
            mono_ms: millis(self.state.started.elapsed()),
            wall_ms: i64::try_from(millis(wall)).unwrap_or(i64::MAX),
        }
    }

    fn sleep_until_ms(&self, mono_ms: u64) -> LocalBoxFuture<'static, ()> {
        let at = self.state.started + Duration::from_millis(mono_ms);
        tokio::time::sleep_until(at.into()).boxed_local()
    }

    fn effect(&self, effect: Effect) {
        let state = &self.state;
        match effect {
            Effect::Reply { id, response } => state.replies.borrow_mut().answer(id.0, response),
            Effect::AdminReply { id, result } => state.admin.borrow_mut().answer(id.0, result),
            Effect::Transform(job) => state.transforms.submit(job),
            Effect::StateRead { ticket, page, .. } => {
                state.state_pages.borrow_mut().answer(ticket.0, page);
            }
            Effect::TransformsChanged(deployments) => state.transforms.deployed(&deployments),
            Effect::UserChanged(change) => state.users.apply(&change),
            // The rest is the storage's own business.
            Effect::Append { .. }
            | Effect::ReadHistory(_)
            | Effect::Reclaim
            | Effect::TopicDeleted(_) => {}
        }
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> LocalBoxFuture<'static, ()> {
        self.state.worker.run(work)
    }

    fn mono_us(&self) -> u64 {
        u64::try_from(self.state.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_that_left_are_swept_and_the_others_answered() {
        let mut waiters: Waiters<u64> = Waiters::new();
        let (sender, mut receiver) = oneshot::channel();
        waiters.insert(0, sender);
        for id in 1..10_000 {
            waiters.insert(id, oneshot::channel().0);
        }
        assert!(waiters.by_id.len() <= SWEEP_EVERY + 1);
        waiters.answer(0, 7);
        assert_eq!(receiver.try_recv(), Ok(7));
    }
}
