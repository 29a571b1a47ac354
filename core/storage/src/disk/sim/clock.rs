//! Virtual time: it moves only when nothing is left to do at the present instant. It must never
//! look at a real clock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The simulation's clock and its timers. Clones are the same clock.
#[derive(Clone, Default)]
pub struct SimClock {
    state: Rc<RefCell<ClockState>>,
}

#[derive(Default)]
struct ClockState {
    now_ns: u64,
    next_id: u64,
    /// By due time, then by order of setting: equal times fire in order.
    timers: BTreeMap<(u64, u64), Box<dyn FnOnce()>>,
}

impl SimClock {
    /// A clock at zero.
    pub fn new() -> SimClock {
        SimClock::default()
    }

    /// Nanoseconds since the start of the simulation.
    pub fn now_ns(&self) -> u64 {
        self.state.borrow().now_ns
    }

    /// Milliseconds since the start of the simulation.
    pub fn now_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
    }

    /// Runs `action` when the clock reaches `due_ns` (at once on the next step, if it is past).
    pub fn schedule(&self, due_ns: u64, action: impl FnOnce() + 'static) {
        let mut state = self.state.borrow_mut();
        let due_ns = due_ns.max(state.now_ns);
        let id = state.next_id;
        state.next_id += 1;
        state.timers.insert((due_ns, id), Box::new(action));
    }

    /// Waits until the clock shows `due_ns`.
    pub fn sleep_until_ns(&self, due_ns: u64) -> SimSleep {
        SimSleep { clock: self.clone(), due_ns, is_set: false }
    }

    /// Waits until the clock shows `due_ms`.
    pub fn sleep_until_ms(&self, due_ms: u64) -> SimSleep {
        self.sleep_until_ns(due_ms.saturating_mul(1_000_000))
    }

    /// When the next timer is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.state.borrow().timers.keys().next().map(|(due_ns, _)| *due_ns)
    }

    /// Moves to the next timer and fires it; false if there is none.
    pub fn fire_next(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let Some(((due_ns, _), action)) = state.timers.pop_first() else {
            return false;
        };
        state.now_ns = state.now_ns.max(due_ns);
        drop(state);
        action();
        true
    }

    /// Moves forward to `now_ns` without firing anything; for when no timer is due before it.
    pub(crate) fn advance_to_ns(&self, now_ns: u64) {
        let mut state = self.state.borrow_mut();
        state.now_ns = state.now_ns.max(now_ns);
    }
}

/// See [`SimClock::sleep_until_ns`].
pub struct SimSleep {
    clock: SimClock,
    due_ns: u64,
    is_set: bool,
}

impl Future for SimSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now_ns() >= self.due_ns {
            return Poll::Ready(());
        }
        // One timer is enough: a sleep belongs to one task, and a task has one waker here.
        if !self.is_set {
            self.is_set = true;
            let waker = cx.waker().clone();
            self.clock.schedule(self.due_ns, move || waker.wake());
        }
        Poll::Pending
    }
}
