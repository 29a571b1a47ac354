//! What happened in a run, one line an event, kept in a ring and printed only when a seed fails.
//! Must never decide anything.
//!
//! ```text
//!    1234.567 ms  node    powered up, recovered to entry 41
//!    1240.002 ms  p0      sent 0:17 (try 2)
//! ```
//! Time is virtual; the second column is who (`node`, `p` a producer, `g` a group, `r` a reader).

use millpond_storage::disk::sim::SimClock;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// How many of the last events are kept.
const EVENTS_KEPT: usize = 400;

/// The trace of one run. Clones write to the same ring.
#[derive(Clone)]
pub struct Trace {
    clock: SimClock,
    events: Rc<RefCell<VecDeque<String>>>,
    hash: Rc<Cell<u64>>,
}

impl Trace {
    /// An empty trace on this clock.
    pub fn new(clock: SimClock) -> Trace {
        Trace { clock, events: Rc::default(), hash: Rc::default() }
    }

    /// Notes an event.
    pub fn note(&self, who: &str, what: impl FnOnce() -> String) {
        let now_us = self.clock.now_ns() / 1_000;
        let line = format!("{:>9}.{:03} ms  {who:<7} {}", now_us / 1_000, now_us % 1_000, what());
        // FNV-1a over every line that was ever noted.
        let hash = line.bytes().fold(self.hash.get(), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        self.hash.set(hash);
        let mut events = self.events.borrow_mut();
        if events.len() == EVENTS_KEPT {
            events.pop_front();
        }
        events.push_back(line);
    }

    /// A hash of all events: two runs of one seed agree.
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// The last events, a line each.
    pub fn text(&self) -> String {
        let events = self.events.borrow();
        events.iter().map(|line| format!("{line}\n")).collect()
    }
}
