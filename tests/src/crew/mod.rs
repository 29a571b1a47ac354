//! Clients that write down all that they do and are told, for the checker: producers, readers,
//! members of groups, transactional workers. They live through every death of the broker. Must never
//! judge anything themselves.

mod member;
mod polls;
mod producer;
mod reader;
mod worker;

pub use member::MemberPlan;
pub use polls::Polled;
pub use worker::WorkerPlan;

use crate::checker::event::{Event, History, Place, What};
use crate::dice::Dice;
use crate::kafka::{CallError, Kafka};
use crate::load::Progress;
use millpond_wire::ErrorCode;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// All clients of a run, and what they wrote down.
pub struct Crew {
    deck: Deck,
    dice: Dice,
    threads: Vec<JoinHandle<()>>,
}

/// What every client has at hand.
#[derive(Clone)]
pub struct Deck {
    address: SocketAddr,
    events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
}

/// Now, in nanoseconds since 1970.
pub fn now_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as u64)
}

impl Crew {
    /// Nobody is at work yet.
    pub fn new(address: SocketAddr, dice: Dice) -> Crew {
        let (events, stop, progress) = Default::default();
        Crew { deck: Deck { address, events, stop, progress }, dice, threads: Vec::new() }
    }

    /// Counts what was acknowledged.
    pub fn progress(&self) -> &Progress {
        &self.deck.progress
    }

    fn spawn(&mut self, work: impl FnOnce(Deck, Dice) + Send + 'static) {
        let (deck, dice) = (self.deck.clone(), self.dice.fork());
        self.threads.push(std::thread::spawn(move || work(deck, dice)));
    }

    /// An idempotent producer to all of these places.
    pub fn producer(&mut self, name: &str, places: &[Place]) {
        let (name, places) = (name.to_owned(), places.to_vec());
        self.spawn(move |deck, dice| producer::run(deck, dice, &name, &places));
    }

    /// A reader of one place.
    pub fn reader(&mut self, name: &str, place: &Place, is_committed: bool) {
        let (name, place) = (name.to_owned(), place.clone());
        self.spawn(move |deck, dice| reader::run(deck, dice, &name, &place, is_committed));
    }

    /// One after the other, members of a group that join, leave and die.
    pub fn member(&mut self, plan: MemberPlan) {
        self.spawn(move |deck, dice| member::run(deck, dice, &plan));
    }

    /// A transactional worker.
    pub fn worker(&mut self, plan: WorkerPlan) {
        self.spawn(move |deck, dice| worker::run(deck, dice, plan));
    }

    /// Lets everybody finish; what they wrote down, and what is left of these places. The broker is
    /// up again for good.
    pub fn finish(mut self, places: &[Place]) -> History {
        self.deck.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        let events = std::mem::take(&mut *lock(&self.deck.events));
        let mut history = History { events, ..History::default() };
        let mut kafka = match Kafka::connect(self.deck.address, ANSWER) {
            Ok(kafka) => kafka,
            Err(error) => panic!("{error}"),
        };
        for place in places {
            match kafka.whole_log(place) {
                Ok(log) => history.logs.insert(place.clone(), log),
                Err(error) => panic!("{place:?}: {error}"),
            };
        }
        history
    }
}

impl Deck {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Writes down an operation that ends now.
    fn note(&self, client: &str, begin_ns: u64, what: What) {
        let event = Event { client: client.to_owned(), begin_ns, end_ns: now_ns(), what };
        lock(&self.events).push(event);
    }

    /// Waits.
    fn pause_ms(&self, pause_ms: u64) {
        self.progress.wait_for(u64::MAX / 2, Duration::from_millis(pause_ms));
    }

    /// One call over a connection that is kept as long as it is whole.
    fn call<T>(
        &self,
        kept: &mut Option<Kafka>,
        call: impl FnOnce(&mut Kafka) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        if kept.is_none() {
            *kept = Some(Kafka::connect(self.address, ANSWER)?);
        }
        let Some(kafka) = kept.as_mut() else { unreachable!("it was just connected") };
        let answer = call(kafka);
        // An answer with an error leaves the connection as it was.
        if !matches!(answer, Ok(_) | Err(CallError::Code(_))) {
            *kept = None;
        }
        answer
    }

    /// The same, again and again until it is done. `None`: the run is over, or it will never be.
    fn insist<T>(
        &self,
        kept: &mut Option<Kafka>,
        mut call: impl FnMut(&mut Kafka) -> Result<T, CallError>,
    ) -> Option<T> {
        // Whoever is at something when the run ends may finish it.
        let mut tries_left = 400;
        loop {
            match self.call(kept, &mut call) {
                Ok(answer) => return Some(answer),
                Err(CallError::Code(code)) if !code.is_retriable() => return None,
                Err(_) if tries_left == 0 => return None,
                Err(_) => self.pause_ms(10),
            }
            tries_left -= 1;
        }
    }
}

/// What an answer's code says.
fn succeeded(code: i16) -> Result<(), CallError> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(CallError::Code(code)),
        None => Err(CallError::Nonsense(format!("error code {code}"))),
    }
}

fn nonsense<T>(what: &str) -> Result<T, CallError> {
    Err(CallError::Nonsense(what.to_owned()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
