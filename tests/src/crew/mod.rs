//! Clients that write down all that they do and are told, for the checker: producers, readers,
//! members of groups, transactional workers. They live through every death of the broker. Must never
//! judge anything themselves.

mod member;
mod polls;
mod process;
mod producer;
mod reader;
mod worker;

pub use member::MemberPlan;
pub use polls::Polled;
pub use process::ProcessPlan;
pub use worker::WorkerPlan;

use crate::checker::event::{Event, History, Log, Place, What};
use crate::dice::Dice;
use crate::kafka::{CallError, Kafka};
use crate::load::Progress;
use millpond_wire::ErrorCode;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is open when all is over has its end by then: transactions time out.
const SETTLE: Duration = Duration::from_secs(30);
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// All clients of a run, and what they wrote down.
pub struct Crew {
    deck: Deck,
    dice: Dice,
    threads: Vec<JoinHandle<()>>,
    diaries: Vec<PathBuf>,
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
        Crew {
            deck: Deck { address, events, stop, progress },
            dice,
            threads: Vec::new(),
            diaries: Vec::new(),
        }
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

    /// A client in a process of its own.
    pub fn process(&mut self, plan: ProcessPlan) {
        self.diaries.push(plan.diary.clone());
        self.spawn(move |deck, dice| process::run(deck, dice, &plan));
    }

    /// Lets everybody finish; what they wrote down, and what is left of these places. The broker is
    /// up again for good.
    pub fn finish(&mut self, places: &[Place]) -> History {
        self.deck.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        let events = std::mem::take(&mut *lock(&self.deck.events));
        let mut history = History { events, ..History::default() };
        for diary in &self.diaries {
            let text = std::fs::read_to_string(diary);
            let text = text.unwrap_or_else(|error| panic!("{diary:?}: {error}"));
            if let Err(what) = history.add_lines(&text) {
                panic!("{diary:?}: {what}");
            }
        }
        for place in places {
            history.logs.insert(place.clone(), self.whole_log(place));
        }
        history
    }

    /// All of a place. What the dead left open must have an end before long.
    fn whole_log(&self, place: &Place) -> Log {
        let give_up = Instant::now() + SETTLE;
        loop {
            let kafka = Kafka::connect(self.deck.address, ANSWER);
            match kafka.and_then(|mut kafka| kafka.whole_log(place)) {
                Ok(log) => return log,
                Err(error) if Instant::now() > give_up => {
                    panic!("{place:?} cannot be read {SETTLE:?} after all is over: {error}")
                }
                Err(_) => self.deck.pause_ms(100),
            }
        }
    }

    /// What a group has committed in the end.
    pub fn committed(&self, history: &mut History, group: &str, places: &[Place]) {
        for place in places {
            let begin_ns = now_ns();
            let mut kafka = None;
            let found = self
                .deck
                .insist(&mut kafka, |kafka| kafka.committed(group, &place.0, place.1))
                .unwrap_or_else(|| panic!("{group} has no answer for {place:?}"));
            let what =
                What::Fetched { group: group.to_owned(), place: place.clone(), offset: found };
            let (client, end_ns) = ("end".to_owned(), now_ns());
            history.events.push(Event { client, begin_ns, end_ns, what });
        }
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
