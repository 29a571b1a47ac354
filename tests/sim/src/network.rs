//! The network between the clients and the node: every message takes its seeded time, keeps its
//! order on its connection, and is lost only with the whole connection, as on TCP and QUIC streams.
//! Must never change a message.

use millpond_engine::{Event, Peer, RequestId, SessionId};
use millpond_storage::disk::sim::{SimClock, SimRng};
use millpond_wire::messages::{Request, Response};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

/// Bounds of the time that a message travels, in ns.
const TRAVEL_NS: (u64, u64) = (20_000, 3_000_000);

/// Takes what arrives at the node; the node of the moment, if there is one.
pub trait Arrivals {
    /// A request, or the end of a session, has arrived.
    fn arrive(&self, life: u64, event: Event);
}

/// The wires. Clones are the same network.
#[derive(Clone)]
pub struct Network {
    inner: Rc<Inner>,
}

struct Inner {
    clock: SimClock,
    rng: RefCell<SimRng>,
    next_id: Cell<u64>,
    /// Which incarnation of the node answers; `None` while the power is off.
    life: Cell<Option<u64>>,
    node: RefCell<Option<Weak<dyn Arrivals>>>,
    waiting: RefCell<BTreeMap<u64, Rc<Call>>>,
}

/// A client's connection to one incarnation of the node.
pub struct Connection {
    network: Network,
    session: SessionId,
    life: u64,
    state: Rc<ConnectionState>,
}

/// When the last message of each direction arrives: order is kept.
#[derive(Default)]
struct ConnectionState {
    is_cut: Cell<bool>,
    last_arrival_ns: Cell<u64>,
    last_answer_ns: Cell<u64>,
}

struct Call {
    connection: Rc<ConnectionState>,
    outcome: RefCell<Option<Result<Option<Response>, Disconnected>>>,
    waker: RefCell<Option<Waker>>,
}

/// The connection ended before the answer came: the request may have been carried out, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnected;

/// An answer on its way.
pub struct Pending {
    call: Result<Rc<Call>, Disconnected>,
}

impl Network {
    /// A network whose delays are decided by `rng`.
    pub fn new(clock: SimClock, rng: SimRng) -> Network {
        Network {
            inner: Rc::new(Inner {
                clock,
                rng: RefCell::new(rng),
                next_id: Cell::new(1),
                life: Cell::new(None),
                node: RefCell::new(None),
                waiting: RefCell::default(),
            }),
        }
    }

    /// The node is up, as its `life`-th incarnation.
    pub fn node_up(&self, life: u64, node: Weak<dyn Arrivals>) {
        *self.inner.node.borrow_mut() = Some(node);
        self.inner.life.set(Some(life));
    }

    /// The node is gone: every connection breaks, and whoever waits is told.
    pub fn node_down(&self) {
        self.inner.life.set(None);
        *self.inner.node.borrow_mut() = None;
        let waiting = std::mem::take(&mut *self.inner.waiting.borrow_mut());
        for call in waiting.into_values() {
            call.connection.is_cut.set(true);
            call.finish(Err(Disconnected));
        }
    }

    /// Connects to the node of the moment; `None` while there is none.
    pub fn connect(&self) -> Option<Connection> {
        let life = self.inner.life.get()?;
        let session = SessionId(self.next_id());
        Some(Connection { network: self.clone(), session, life, state: Rc::default() })
    }

    /// The node answered; the answer travels unless its connection is gone.
    pub fn answer(&self, life: u64, id: RequestId, response: Option<Response>) {
        if self.inner.life.get() != Some(life) {
            return;
        }
        let Some(call) = self.inner.waiting.borrow_mut().remove(&id.0) else {
            return;
        };
        let due_ns = self.arrival(&call.connection.last_answer_ns);
        self.inner.clock.schedule(due_ns, move || {
            let cut = call.connection.is_cut.get();
            call.finish(if cut { Err(Disconnected) } else { Ok(response) });
        });
    }

    fn next_id(&self) -> u64 {
        let id = self.inner.next_id.get();
        self.inner.next_id.set(id + 1);
        id
    }

    /// A seeded arrival time that is not before the one of the message sent before.
    fn arrival(&self, last_ns: &Cell<u64>) -> u64 {
        let travel_ns = self.inner.rng.borrow_mut().between(TRAVEL_NS.0, TRAVEL_NS.1);
        let due_ns = (self.inner.clock.now_ns() + travel_ns).max(last_ns.get());
        last_ns.set(due_ns);
        due_ns
    }

    fn deliver(&self, life: u64, event: Event) {
        if self.inner.life.get() != Some(life) {
            return;
        }
        let node = self.inner.node.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(node) = node {
            node.arrive(life, event);
        }
    }
}

impl Connection {
    /// Sends a request; they arrive in the order of these calls.
    pub fn send(&self, request: Request, version: i16) -> Pending {
        let network = &self.network;
        if self.state.is_cut.get() || network.inner.life.get() != Some(self.life) {
            return Pending { call: Err(Disconnected) };
        }
        let id = network.next_id();
        let call = Rc::new(Call {
            connection: Rc::clone(&self.state),
            outcome: RefCell::new(None),
            waker: RefCell::new(None),
        });
        network.inner.waiting.borrow_mut().insert(id, Rc::clone(&call));
        let peer = Peer {
            session: self.session,
            client_id: Some("sim".to_owned()),
            host: "sim".to_owned(),
            ..Peer::default()
        };
        let event = Event::Request { id: RequestId(id), peer, request, version };
        let due_ns = network.arrival(&self.state.last_arrival_ns);
        let (to, life) = (network.clone(), self.life);
        network.inner.clock.schedule(due_ns, move || to.deliver(life, event));
        Pending { call: Ok(call) }
    }

    /// Whether it leads to the node of the moment, and was not cut.
    pub fn is_whole(&self) -> bool {
        !self.state.is_cut.get() && self.network.inner.life.get() == Some(self.life)
    }

    /// Cuts the connection: what is on its way to the node still arrives, no answer comes back.
    pub fn cut(&self) {
        self.state.is_cut.set(true);
        let network = &self.network;
        let mut lost = Vec::new();
        network.inner.waiting.borrow_mut().retain(|_, call| {
            let is_ours = Rc::ptr_eq(&call.connection, &self.state);
            if is_ours {
                lost.push(Rc::clone(call));
            }
            !is_ours
        });
        for call in lost {
            call.finish(Err(Disconnected));
        }
        let due_ns = network.arrival(&self.state.last_arrival_ns);
        let (to, life, session) = (network.clone(), self.life, self.session);
        let event = Event::SessionClosed(session);
        network.inner.clock.schedule(due_ns, move || to.deliver(life, event));
    }
}

impl Call {
    fn finish(&self, outcome: Result<Option<Response>, Disconnected>) {
        *self.outcome.borrow_mut() = Some(outcome);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Pending {
    /// Waits for the answer, or for the end of the connection.
    pub async fn answer(self) -> Result<Option<Response>, Disconnected> {
        let call = self.call?;
        poll_fn(|cx| match call.outcome.borrow_mut().take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                *call.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}
