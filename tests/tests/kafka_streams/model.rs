//! What goes into the Streams application of `clients/java/Streaming.java`, chosen by dice, and a
//! model of what must come out, written without it. Decidable whatever happens on the way: no
//! reading is later than its window's grace, and no pair is too late to be joined.

use std::collections::BTreeMap;

use millpond_tests::dice::Dice;
use millpond_tests::feeder::Message;
use millpond_tests::witness::Seen;

/// Partitions of each topic.
pub(crate) const PARTITIONS: i32 = 4;

/// What the application reads.
pub(crate) const INPUTS: [&str; 3] = ["readings", "left", "right"];

/// What it writes.
pub(crate) const OUTPUTS: [&str; 5] = ["even", "per-device", "per-rest", "sums", "pairs"];

const DEVICES: u64 = 12;
const KEYS: u64 = 6;
const WINDOW_MS: i64 = 1_000;
const GRACE_MS: i64 = 1_000;
const APART_MS: i64 = 300;

/// Readings are out of order by less than the grace.
const JITTER_MS: u64 = 700;
const STEP_MS: i64 = 20;

const VALUE_BYTES: usize = 800;

/// The values of each key of each topic, in order (pairs: sorted). Each begins with its timestamp
/// where that does not depend on how partitions are interleaved.
pub(crate) type Outcome = BTreeMap<(String, String), Vec<String>>;

/// Chooses what goes in.
pub(crate) struct Source {
    dice: Dice,
    time_ms: i64,
    made: u64,
}

impl Source {
    /// Its first reading is of about this time.
    pub(crate) fn new(dice: Dice, start_ms: i64) -> Source {
        Source { dice, time_ms: start_ms, made: 0 }
    }

    /// So many readings, and some of the others between them.
    pub(crate) fn some(&mut self, readings: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        for _ in 0..readings {
            self.time_ms += STEP_MS;
            self.made += 1;
            let device = self.dice.within(0, DEVICES);
            let value = self.dice.within(0, 1_000).to_string();
            messages.push(self.message("readings", device, format!("device-{device}"), value));
            if self.made.is_multiple_of(5) {
                for side in ["left", "right"] {
                    let key = self.dice.within(0, KEYS);
                    let value = format!("{side}-{}", self.made);
                    messages.push(self.message(side, key, format!("key-{key}"), value));
                }
            }
        }
        messages
    }

    fn message(&mut self, topic: &'static str, at: u64, key: String, value: String) -> Message {
        let timestamp_ms = self.time_ms + self.dice.within(0, JITTER_MS) as i64;
        let partition = (at % PARTITIONS as u64) as i32;
        // Long enough that journals are left and segments are written.
        let value = format!("{value:<VALUE_BYTES$}");
        Message { topic, partition, timestamp_ms, key, value }
    }

    /// A reading for each partition, much later than all before: it closes their windows.
    pub(crate) fn closing(&self) -> Vec<Message> {
        let closing = |partition| Message {
            topic: "readings",
            partition,
            timestamp_ms: self.time_ms + 60_000,
            key: format!("closing-{partition}"),
            value: "0".into(),
        };
        (0..PARTITIONS).map(closing).collect()
    }
}

/// What must come out of this.
pub(crate) fn expected(messages: &[Message]) -> Outcome {
    let readings: Vec<&Message> = messages.iter().filter(|one| one.topic == "readings").collect();
    let mut outcome = Outcome::new();
    let mut counts: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for reading in &readings {
        let (time, number) = (reading.timestamp_ms, number(reading));
        if number.is_multiple_of(2) {
            put(&mut outcome, "even", &reading.key, format!("{time} {number}"));
        }
        let (count, latest) = counts.entry(reading.key.clone()).or_insert((0, time));
        (*count, *latest) = (*count + 1, time.max(*latest));
        put(&mut outcome, "per-device", &reading.key, format!("{latest} {count}"));
        let rest = format!("rest-{}", number % 7);
        let count = outcome.get(&("per-rest".into(), rest.clone())).map_or(0, Vec::len) + 1;
        put(&mut outcome, "per-rest", &rest, count.to_string());
    }
    sums(&readings, &mut outcome);
    pairs(messages, &mut outcome);
    outcome
}

fn sums(readings: &[&Message], outcome: &mut Outcome) {
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    let mut windows: BTreeMap<(i32, String, i64), (u64, u64, i64)> = BTreeMap::new();
    for reading in readings {
        let time = reading.timestamp_ms;
        let end = ends.entry(reading.partition).or_default();
        *end = time.max(*end);
        let window = (reading.partition, reading.key.clone(), time - time % WINDOW_MS);
        let (count, sum, latest) = windows.entry(window).or_default();
        (*count, *sum, *latest) = (*count + 1, *sum + number(reading), time.max(*latest));
    }
    for ((partition, key, start), (count, sum, latest)) in windows {
        if start + WINDOW_MS + GRACE_MS <= ends[&partition] {
            put(outcome, "sums", &format!("{key}@{start}"), format!("{latest} {count} {sum}"));
        }
    }
}

fn pairs(messages: &[Message], outcome: &mut Outcome) {
    let side = |topic: &'static str| messages.iter().filter(move |one| one.topic == topic);
    for left in side("left") {
        for right in side("right") {
            let apart = (left.timestamp_ms - right.timestamp_ms).abs();
            if left.key == right.key && apart <= APART_MS {
                let time = left.timestamp_ms.max(right.timestamp_ms);
                let pair = format!("{time} {} {}", left.value.trim(), right.value.trim());
                put(outcome, "pairs", &left.key, pair);
            }
        }
    }
    sort_pairs(outcome);
}

/// The same of what was seen, in the order of offsets.
pub(crate) fn found(seen: &[Seen]) -> Outcome {
    let mut outcome = Outcome::new();
    for one in seen {
        let value = one.value.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = match one.topic.as_str() {
            "per-rest" => value,
            _ => format!("{} {value}", one.timestamp_ms),
        };
        put(&mut outcome, &one.topic, &one.key, text);
    }
    sort_pairs(&mut outcome);
    outcome
}

/// How many records of each topic.
pub(crate) fn counts(outcome: &Outcome) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for ((topic, _), values) in outcome {
        *counts.entry(topic.clone()).or_default() += values.len();
    }
    counts
}

/// Where the two part, for people: the first places of each topic and key that differ.
pub(crate) fn differences(expected: &Outcome, found: &Outcome) -> Vec<String> {
    let mut keys: Vec<_> = expected.keys().chain(found.keys()).collect();
    keys.sort();
    keys.dedup();
    let none = Vec::new();
    let mut differences = Vec::new();
    for at in keys {
        let (wanted, came) = (expected.get(at).unwrap_or(&none), found.get(at).unwrap_or(&none));
        if wanted != came {
            let same = wanted.iter().zip(came).take_while(|(one, other)| one == other).count();
            let next = |values: &[String]| values.iter().skip(same).take(3).cloned().collect();
            let (next_wanted, next_came): (Vec<String>, Vec<String>) = (next(wanted), next(came));
            differences.push(format!(
                "{at:?}: {} wanted, {} came, they part at {same}: wanted {next_wanted:?}, came \
                 {next_came:?}",
                wanted.len(),
                came.len()
            ));
        }
    }
    differences
}

fn put(outcome: &mut Outcome, topic: &str, key: &str, value: String) {
    outcome.entry((topic.into(), key.into())).or_default().push(value);
}

fn sort_pairs(outcome: &mut Outcome) {
    let pairs = outcome.iter_mut().filter(|((topic, _), _)| topic == "pairs");
    pairs.for_each(|(_, values)| values.sort());
}

fn number(reading: &Message) -> u64 {
    reading.value.trim().parse().unwrap_or_else(|_| panic!("{reading:?}: not a number"))
}
