//! The shipped modules that keep state, end to end through the sandbox: what they tell is what a
//! model tells that keeps every record, whatever becomes of instances and of the state in memory.

mod common;

use bytes::Bytes;
use common::*;
use millpond_guests::{DEAD_BAND, DEDUP, SESSION_STATS, WINDOW_MEAN};
use millpond_transform::{Chain, EngineKind, Input, Outcome, Report, run};
use millpond_wire::record::{Batch, BatchBuilder, Codec};
use std::collections::BTreeMap;

/// A partition with its changelog.
struct Partition {
    chain: Chain,
    changelog: BTreeMap<Bytes, Bytes>,
    sent: u64,
}

/// Key, time and number of a reading.
type Reading = (&'static str, i64, i64);

impl Partition {
    async fn new(engine: EngineKind, wasm: &[u8], settings: &[(&str, &str)]) -> Self {
        let chain = chain_on(engine, wasm, |spec| {
            set(spec, settings);
            spec.outputs = vec!["late".to_string()];
        });
        let mut partition = Partition { chain: chain.await, changelog: BTreeMap::new(), sent: 0 };
        partition.load();
        partition
    }

    fn load(&mut self) {
        for stage in self.chain.state_wanted() {
            let entries = self.changelog.clone();
            self.chain.load_state(stage, entries).expect("what was journalled loads");
        }
    }

    async fn run(&mut self, readings: &[Reading]) -> Vec<Record> {
        let batch = batch_of_readings(readings);
        let input = Input { batch: Some(&batch), input_count: self.sent, ..Input::default() };
        self.sent += readings.len() as u64;
        let report = run(&mut self.chain, input).await;
        self.take(report, Some(&batch))
    }

    async fn idle(&mut self, idle_ms: u64) -> Vec<Record> {
        let input = Input { input_count: self.sent, idle_ms: Some(idle_ms), ..Input::default() };
        let report = run(&mut self.chain, input).await;
        self.take(report, None)
    }

    fn take(&mut self, report: Report, came: Option<&Batch>) -> Vec<Record> {
        for change in report.state.into_iter().flat_map(|stage| stage.changes) {
            match change.value {
                Some(value) => self.changelog.insert(change.key, value),
                None => self.changelog.remove(&change.key),
            };
        }
        match &report.outcome {
            Outcome::Untouched => came.map_or_else(Vec::new, |batch| records(batch, None)),
            outcome => came_out(outcome),
        }
    }

    /// What may happen to a partition between two batches.
    fn disturb(&mut self, how: u64) {
        match how {
            0 => self.chain.discard_instances(),
            1 => {
                // As when a result was not committed, or another node takes over.
                self.chain.forget_state();
                self.load();
            }
            _ => {}
        }
    }

    /// Entries of the changelog that are the module's own.
    fn entries(&self) -> usize {
        self.changelog.keys().filter(|key| key[0] == 0).count()
    }
}

fn batch_of_readings(readings: &[Reading]) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for (key, at_ms, t) in readings {
        let value = format!("{{\"t\":{t}}}");
        builder.push(*at_ms, Some(key.as_bytes()), Some(value.as_bytes()), &[]).expect("it fits");
    }
    Batch::parse(builder.build().expect("a batch")).expect("the batch parses")
}

fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let key = record.key.as_deref().unwrap_or("-");
        let topic = record.topic.as_deref().unwrap_or("");
        format!("{topic}{key} {}", record.value.as_deref().unwrap_or("-"))
    };
    records.iter().map(line).collect()
}

/// Means of tumbling windows, from every record that was counted.
#[derive(Default)]
struct Model {
    greatest_ms: Option<i64>,
    open: BTreeMap<(i64, &'static str), Vec<i64>>,
}

impl Model {
    fn run(&mut self, window_ms: i64, lateness_ms: i64, readings: &[Reading]) -> Vec<String> {
        let mut told = Vec::new();
        let closes_ms = |start_ms: i64| start_ms + window_ms + lateness_ms;
        for (key, at_ms, t) in readings {
            let start_ms = at_ms.div_euclid(window_ms) * window_ms;
            if self.greatest_ms.is_some_and(|now_ms| now_ms >= closes_ms(start_ms)) {
                told.push(format!("late{key} {{\"t\":{t}}}"));
            } else {
                self.open.entry((start_ms, key)).or_default().push(*t);
            }
        }
        self.greatest_ms = readings.iter().map(|reading| reading.1).max().max(self.greatest_ms);
        let Some(now_ms) = self.greatest_ms else {
            return told;
        };
        let closed: Vec<_> = self
            .open
            .keys()
            .filter(|(start_ms, _)| now_ms >= closes_ms(*start_ms))
            .copied()
            .collect();
        for (start_ms, key) in closed {
            let values = self.open.remove(&(start_ms, key)).unwrap_or_default();
            let (count, sum) = (values.len(), values.iter().sum::<i64>());
            let (end_ms, mean) = (start_ms + window_ms, sum as f64 / count as f64);
            told.push(format!(
                "{key} {{\"start\":{start_ms},\"end\":{end_ms},\"count\":{count},\"mean\":{mean}}}"
            ));
        }
        told
    }
}

#[tokio::test]
async fn means_of_windows_are_exact_whatever_happens_between_batches() {
    let settings =
        [("field", "t"), ("window_ms", "100"), ("lateness_ms", "40"), ("late", "topic:late")];
    for engine in [EngineKind::Native, EngineKind::Interpreter] {
        let mut numbers = fastrand_like(7);
        let mut partition = Partition::new(engine, WINDOW_MEAN, &settings).await;
        let mut model = Model::default();
        let (mut now_ms, mut told) = (500, 0);
        for _ in 0..150 {
            let batch: Vec<Reading> = (0..1 + numbers(12))
                .map(|_| {
                    now_ms += numbers(30) as i64;
                    let key = ["pump-1", "pump-2", "x"][numbers(3) as usize];
                    (key, now_ms - numbers(200) as i64, numbers(1_000) as i64)
                })
                .collect();
            let found = lines(&partition.run(&batch).await);
            let mut expected = model.run(100, 40, &batch);
            // Batches of other topics come behind that of the same.
            expected.sort_by_key(|line| line.starts_with("late"));
            assert_eq!(found, expected, "{engine:?}");
            told += found.len();
            partition.disturb(numbers(4));
        }
        assert_eq!(partition.entries(), model.open.len(), "what is told is forgotten");
        assert!(told > 200, "{told}");
    }
}

/// Numbers below what is asked for, the same each time.
fn fastrand_like(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |end| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) % end
    }
}

#[tokio::test]
async fn a_session_is_told_when_the_node_lets_time_go_on() {
    let settings = [("field", "t"), ("gap_ms", "50"), ("quantiles", "0.5")];
    let mut partition = Partition::new(EngineKind::Native, SESSION_STATS, &settings).await;
    assert!(partition.run(&[("k", 10, 4), ("k", 59, 8)]).await.is_empty());
    partition.disturb(1);
    assert!(partition.run(&[("k", 40, 6)]).await.is_empty());
    partition.disturb(0);
    assert!(partition.idle(49).await.is_empty());
    let told = lines(&partition.idle(50).await);
    assert_eq!(told.len(), 1);
    let start = r#"k {"start":10,"last":59,"count":3,"mean":6,"min":4,"max":8,"quantiles":{"0.5":"#;
    assert!(told[0].starts_with(start), "{told:?}");
    assert_eq!(partition.entries(), 0);
}

#[tokio::test]
async fn a_dead_band_remembers_what_passed() {
    let settings = [("field", "t"), ("absolute", "2"), ("max_silence_ms", "100")];
    let mut partition = Partition::new(EngineKind::Native, DEAD_BAND, &settings).await;
    let mut kept = Vec::new();
    for (at_ms, t) in [(0, 20), (10, 22), (20, 23), (30, 25), (129, 25), (130, 25)] {
        partition.disturb(at_ms as u64 / 10 % 3);
        kept.push(partition.run(&[("k", at_ms, t)]).await.len());
    }
    assert_eq!(kept, [1, 0, 1, 0, 1, 0]);
}

#[tokio::test]
async fn what_is_sent_again_is_dropped_and_in_time_forgotten() {
    let settings = [("within_ms", "100")];
    let mut partition = Partition::new(EngineKind::Native, DEDUP, &settings).await;
    let mut kept = Vec::new();
    for (key, at_ms) in [("a", 0), ("b", 1), ("a", 60), ("b", 99), ("a", 100), ("c", 250)] {
        partition.disturb(at_ms as u64 % 3);
        kept.push(partition.run(&[(key, at_ms, 1)]).await.len());
    }
    assert_eq!(kept, [1, 1, 0, 0, 1, 1]);
    assert_eq!(partition.entries(), 1, "only the last is within its time");
}
