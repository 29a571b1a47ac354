//! One partition of a transform with state and time, in memory, under the broker's rules.
//!
//! It has no clock: time is what the records say, and what a test passes to [`Partition::idle`].

use super::{Outcome, Place, TestRecord, encode, outcomes};
use crate::guest::{Run, run_batch, run_timers};
use crate::host::{self, Level};
use crate::state::memory::Store;
use crate::{Failure, Settings, Timed, Transform};
use std::collections::BTreeMap;

/// A partition on which a transform runs batch after batch.
///
/// ```
/// # use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict};
/// use millpond_sdk::state;
/// use millpond_sdk::testing::{Outcome, Partition, TestRecord};
///
/// /// Lets each key through once.
/// struct Once;
///
/// impl Transform for Once {
///     fn new(_: &Settings) -> Result<Self, Failure> {
///         Ok(Once)
///     }
///
///     fn on_record(&mut self, record: &Record, _: &mut Output) -> Result<Verdict, Failure> {
///         let key = record.key().ok_or("a key is needed")?;
///         if state::contains(key) {
///             return Ok(Verdict::Drop);
///         }
///         state::put(key, b"")?;
///         Ok(Verdict::Keep)
///     }
/// }
///
/// let mut partition = Partition::<Once>::new(&[]).unwrap();
/// let record = TestRecord::of(b"x").key(b"k");
/// assert_eq!(partition.run(&[record.clone()]).outcomes, [Outcome::keep()]);
/// partition.evict(); // what the broker does when it needs the memory
/// assert_eq!(partition.run(&[record]).outcomes, [Outcome::drop()]);
/// ```
#[derive(Debug)]
pub struct Partition<T> {
    settings: Vec<(String, String)>,
    transform: T,
    on_timers: Option<Run<T>>,
    store: Store,
    place: Place,
    delay_ms: i64,
    /// The greatest timestamp of each topic that shares this state; `None`: nothing came yet.
    greatest_ms: BTreeMap<String, Option<i64>>,
}

/// What became of one batch and of the timers behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// One for each record, in order.
    pub outcomes: Vec<Outcome>,
    /// The timers that came due, in order.
    pub fired: Vec<Fired>,
    /// What was logged.
    pub logged: Vec<(Level, String)>,
}

impl Step {
    /// All that was emitted, in order: for the records, then for the timers.
    pub fn emitted(&self) -> impl Iterator<Item = &TestRecord> {
        let by_records = self.outcomes.iter().flat_map(|outcome| &outcome.emitted);
        by_records.chain(self.fired.iter().flat_map(|fired| &fired.emitted))
    }
}

/// A timer that came due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// What it was set for.
    pub at_ms: i64,
    /// What it was set with.
    pub key: Vec<u8>,
    /// What was emitted for it.
    pub emitted: Vec<TestRecord>,
    /// The message, if it failed.
    pub failed: Option<String>,
}

impl<T: Timed> Partition<T> {
    /// A partition for a module that is registered with timers.
    ///
    /// # Errors
    /// What `Transform::new` refused.
    pub fn timed(settings: &[(&str, &str)]) -> Result<Self, Failure> {
        Self::start(settings, Some(run_timers))
    }
}

impl<T: Transform> Partition<T> {
    /// A partition for a module without timers.
    ///
    /// # Errors
    /// What `Transform::new` refused.
    pub fn new(settings: &[(&str, &str)]) -> Result<Self, Failure> {
        Self::start(settings, None)
    }

    fn start(settings: &[(&str, &str)], on_timers: Option<Run<T>>) -> Result<Self, Failure> {
        let place = Place::default();
        Ok(Partition {
            settings: settings.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            transform: T::new(&Settings::from_pairs(settings))?,
            on_timers,
            store: Store::new(on_timers.is_some()),
            greatest_ms: [(place.topic.clone(), None)].into(),
            place,
            delay_ms: 0,
        })
    }

    /// As the transform's limit `watermark_delay_ms`: how far the watermark stays behind the
    /// greatest timestamp. 0 unless said.
    pub fn watermark_delay_ms(mut self, delay_ms: i64) -> Self {
        self.delay_ms = delay_ms;
        self
    }

    /// As the transform's limit `state_bytes`. Without limit unless said.
    pub fn state_bytes_max(mut self, bytes: usize) -> Self {
        self.store.bytes_max = bytes;
        self
    }

    /// Several topics whose partitions of the same number share one state; the watermark is then
    /// that of the topic that is furthest behind, and there is none before each had a record.
    /// Without this, a transform has a state of its own for each topic.
    pub fn shared_by(mut self, topics: &[&str]) -> Self {
        self.greatest_ms = topics.iter().map(|topic| (topic.to_string(), None)).collect();
        self.place.topic = topics.first().copied().unwrap_or_default().to_string();
        self
    }

    /// Marks what follows as a replay, of which nothing would be stored.
    pub fn replay(mut self) -> Self {
        self.place.replay = true;
        self
    }

    /// Runs one batch, moves the watermark on, and runs the timers that it reaches.
    ///
    /// # Panics
    /// The module aborted, or its timers set each other off without end.
    pub fn run(&mut self, records: &[TestRecord]) -> Step {
        let topic = self.place.topic.clone();
        self.run_on(&topic, records)
    }

    /// As [`Self::run`], with a batch that came to one of the topics of [`Self::shared_by`].
    ///
    /// # Panics
    /// As `run`; or the topic is not one of them.
    pub fn run_on(&mut self, topic: &str, records: &[TestRecord]) -> Step {
        host::take_logged();
        self.place.topic = topic.to_string();
        let outcomes = self.call(run_batch, records);
        self.place.first_input += records.len() as u64;
        let greatest_ms = self.greatest_ms.get_mut(topic).expect("one of the partition's topics");
        *greatest_ms = records.iter().map(|record| record.timestamp_ms).max().max(*greatest_ms);
        let fired = self.advance(0);
        Step { outcomes, fired, logged: host::take_logged() }
    }

    /// Nothing has come for this long, to any topic, and the limit `idle_timeout_ms` lets time go on.
    pub fn idle(&mut self, idle_ms: i64) -> Step {
        host::take_logged();
        let fired = self.advance(idle_ms);
        Step { outcomes: Vec::new(), fired, logged: host::take_logged() }
    }

    /// Throws the instance away and makes a new one, as the broker may between any two batches.
    ///
    /// # Panics
    /// The settings are refused, which they were not before.
    pub fn evict(&mut self) {
        let settings: Vec<_> =
            self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let fresh = T::new(&Settings::from_pairs(&settings));
        self.transform = fresh.unwrap_or_else(|failure| panic!("refused: {}", failure.message()));
    }

    /// The watermark, once there is one.
    pub fn watermark_ms(&self) -> Option<i64> {
        self.store.watermark_ms
    }

    /// What is in the state, in the order of the keys.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.store.entries()
    }

    /// The timers that are set, in order.
    pub fn timers(&self) -> impl Iterator<Item = (i64, &[u8])> {
        self.store.timers()
    }

    /// Runs something that calls [`state`](crate::state) and [`timers`](crate::timers) on this
    /// partition's.
    pub fn with_state<R>(&mut self, run: impl FnOnce() -> R) -> R {
        self.store.in_force(run)
    }

    fn call(&mut self, run: Run<T>, records: &[TestRecord]) -> Vec<Outcome> {
        self.place.watermark_ms = self.store.watermark_ms;
        self.place.state_bytes = self.store.bytes() as u64;
        let input = encode(records, &self.place);
        let transform = &mut self.transform;
        self.store.in_force(|| outcomes(transform, run, &input, records.len()))
    }

    fn advance(&mut self, idle_ms: i64) -> Vec<Fired> {
        let all = self.greatest_ms.values().copied();
        // When nothing comes at all, time waits for no topic.
        let counts = if idle_ms > 0 { all.max() } else { all.min() };
        if let Some(greatest_ms) = counts.flatten() {
            let reached = greatest_ms.saturating_add(idle_ms).saturating_sub(self.delay_ms);
            self.store.advance(reached);
        }
        let fired = self.run_timers();
        self.store.expire();
        fired
    }

    fn run_timers(&mut self) -> Vec<Fired> {
        let mut fired = Vec::new();
        let Some(on_timers) = self.on_timers else {
            return fired;
        };
        for _ in 0..TIMER_ROUNDS_MAX {
            let due = self.store.take_due();
            if due.is_empty() {
                return fired;
            }
            let record =
                |(at_ms, key): &(i64, Vec<u8>)| TestRecord::default().timestamp_ms(*at_ms).key(key);
            let records: Vec<_> = due.iter().map(record).collect();
            let outcomes = self.call(on_timers, &records);
            fired.extend(due.into_iter().zip(outcomes).map(|((at_ms, key), outcome)| Fired {
                at_ms,
                key,
                emitted: outcome.emitted,
                failed: outcome.failed,
            }));
        }
        panic!("timers set timers that are due at once, without end");
    }
}

/// The broker's patience is its own; a module that needs more rounds than this never ends.
const TIMER_ROUNDS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Emit, Output, Record, Verdict, state, timers};

    /// Counts records by key; says the count when a timer, set by the value, comes due.
    #[derive(Debug)]
    struct Counter;

    impl Transform for Counter {
        fn new(_: &Settings) -> Result<Self, Failure> {
            Ok(Counter)
        }

        fn on_record(&mut self, record: &Record, out: &mut Output) -> Result<Verdict, Failure> {
            let key = record.key().unwrap_or_default();
            let at_ms = String::from_utf8_lossy(record.value_or_empty()).parse::<i64>()?;
            let mut scratch = Vec::new();
            let count = state::get(key, &mut scratch).map_or(0, |value| value[0]) + 1;
            state::put(key, &[count])?;
            timers::set(at_ms, key)?;
            let watermark = format!("{:?}", record.watermark_ms());
            out.emit(&Emit::new(0).value(watermark.as_bytes()));
            Ok(Verdict::Drop)
        }
    }

    impl Timed for Counter {
        fn on_timer(&mut self, timer: &timers::Timer, out: &mut Output) -> Result<(), Failure> {
            let mut scratch = Vec::new();
            let count = state::get(timer.key(), &mut scratch).ok_or("no count")?[0];
            out.emit(&Emit::new(timer.at_ms()).value(&[count]));
            if count > 1 {
                state::put(timer.key(), &[count - 1])?;
                timers::set(timer.at_ms(), timer.key())?;
            } else {
                state::delete(timer.key());
            }
            Ok(())
        }
    }

    fn at(timestamp_ms: i64, key: &str, timer_ms: i64) -> TestRecord {
        TestRecord::of(timer_ms.to_string().as_bytes())
            .key(key.as_bytes())
            .timestamp_ms(timestamp_ms)
    }

    fn told(step: &Step) -> Vec<(i64, Vec<u8>, u8)> {
        let one = |fired: &Fired| {
            let value = fired.emitted.first().and_then(|record| record.value.clone());
            (fired.at_ms, fired.key.clone(), value.map_or(0, |value| value[0]))
        };
        step.fired.iter().map(one).collect()
    }

    #[test]
    fn the_watermark_moves_after_the_batch_and_never_back() {
        let mut partition = Partition::<Counter>::timed(&[]).unwrap().watermark_delay_ms(5);
        let seen = |step: &Step| {
            let of =
                |record: &TestRecord| String::from_utf8(record.value.clone().unwrap()).unwrap();
            step.outcomes.iter().map(|outcome| of(&outcome.emitted[0])).collect::<Vec<_>>()
        };
        assert_eq!(seen(&partition.run(&[at(10, "a", 99), at(30, "a", 99)])), ["None", "None"]);
        assert_eq!(seen(&partition.run(&[at(12, "a", 99)])), ["Some(25)"]);
        assert_eq!(partition.watermark_ms(), Some(25));
    }

    #[test]
    fn timers_fire_behind_the_batch_that_reaches_them_and_in_rounds() {
        let mut partition = Partition::<Counter>::timed(&[]).unwrap();
        let step = partition.run(&[at(1, "b", 20), at(2, "a", 20), at(3, "a", 10)]);
        assert_eq!(step.fired, []);
        let step = partition.run(&[at(20, "c", 50)]);
        let (a, b) = (b"a".to_vec(), b"b".to_vec());
        // The first round in order; the timer that `a` set again comes in the next, and finds
        // that another has used its count up.
        let expected = [(10, a.clone(), 2), (20, a.clone(), 1), (20, b, 1), (10, a, 0)];
        assert_eq!(told(&step), expected);
        assert_eq!(step.fired[3].failed.as_deref(), Some("no count"));
        assert_eq!(partition.timers().collect::<Vec<_>>(), [(50, &b"c"[..])]);
    }

    #[test]
    fn an_idle_partition_moves_on_only_when_it_is_told() {
        let mut partition = Partition::<Counter>::timed(&[]).unwrap();
        assert_eq!(partition.idle(1_000).fired, []);
        partition.run(&[at(10, "a", 500)]);
        assert_eq!(partition.idle(489).fired, []);
        assert_eq!(told(&partition.idle(490)), [(500, b"a".to_vec(), 1)]);
    }

    #[test]
    fn topics_that_share_a_state_wait_for_the_one_behind() {
        let mut partition = Partition::<Counter>::timed(&[]).unwrap().shared_by(&["left", "right"]);
        assert_eq!(partition.run_on("left", &[at(100, "k", 40)]).fired, []);
        assert_eq!(partition.watermark_ms(), None);
        assert_eq!(partition.run_on("right", &[at(30, "k", 40)]).fired, []);
        assert_eq!(partition.watermark_ms(), Some(30));
        assert_eq!(partition.run_on("right", &[at(40, "k", 90)]).fired.len(), 3);
    }

    #[test]
    fn a_new_instance_finds_the_state_of_the_old() {
        let mut partition = Partition::<Counter>::timed(&[]).unwrap();
        for _ in 0..3 {
            partition.run(&[at(1, "a", 9)]);
            partition.evict();
        }
        assert_eq!(partition.entries().collect::<Vec<_>>(), [(&b"a"[..], &[3][..])]);
    }
}
