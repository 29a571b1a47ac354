//! What happened in a run, one line an event, kept in a ring and printed only when a seed fails.
//! Must never decide anything.
//!
//! ```text
//!    1234.567 ms  node    powered up, recovered to entry 41
//!    1240.002 ms  p0      sent 0:17 (try 2)
//! ```
//! Time is virtual; the second column is who (`node`, `gale` the weather, `p` a producer, `g` a
//! group).

use millpond_storage::disk::sim::SimClock;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// How many of the last events are kept.
const EVENTS_KEPT: usize = 400;
/// How many of those of the node and the weather.
const CHAPTERS_KEPT: usize = 100;

/// The trace of one run. Clones write to the same ring.
#[derive(Clone)]
pub struct Trace {
    clock: SimClock,
    events: Rc<RefCell<VecDeque<String>>>,
    /// What the node and the weather did, which explains the rest.
    chapters: Rc<RefCell<VecDeque<String>>>,
    hash: Rc<Cell<u64>>,
}

impl Trace {
    /// An empty trace on this clock.
    pub fn new(clock: SimClock) -> Trace {
        Trace { clock, events: Rc::default(), chapters: Rc::default(), hash: Rc::default() }
    }

    /// Virtual time.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
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
        if ["node", "gale"].contains(&who) {
            keep(&self.chapters, line.clone(), CHAPTERS_KEPT);
        }
        keep(&self.events, line, EVENTS_KEPT);
    }

    /// A hash of all events: two runs of one seed agree.
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// What the node and the weather did, then the last events of all, a line each.
    pub fn text(&self) -> String {
        let (chapters, events) = (self.chapters.borrow(), self.events.borrow());
        let pause = ["...".to_owned()];
        chapters.iter().chain(&pause).chain(events.iter()).map(|line| format!("{line}\n")).collect()
    }
}

fn keep(ring: &RefCell<VecDeque<String>>, line: String, most: usize) {
    let mut ring = ring.borrow_mut();
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(line);
}
