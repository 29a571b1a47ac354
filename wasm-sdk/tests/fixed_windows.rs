//! Tumbling and hopping windows against a model that keeps every record and computes each result
//! from scratch.

mod common;

use common::{Dice, Reading, batches, records};
use millpond_sdk::aggregate::{Count, Last, Max, Mean, Min, Sum};
use millpond_sdk::testing::{Outcome, Partition, Step, TestRecord};
use millpond_sdk::timers::Timer;
use millpond_sdk::window::{Arrival, Emission, LatePolicy, Window, Windows};
use millpond_sdk::{Emit, Failure, Output, Record, Settings, Timed, Transform, Verdict};
use std::collections::BTreeMap;

type All = (Count, Sum, Mean, Min, Max, Last);

/// Tells everything about each window as text.
#[derive(Debug)]
struct Teller {
    windows: Windows<All>,
    late: LatePolicy,
}

fn tell(out: &mut Output, window: &Window<'_, All>) {
    let (count, sum, mean, min, max, last) = window.aggregate;
    assert_eq!(mean.value(), Some(sum.value() / count.value() as f64));
    let text = format!(
        "{} {} {} {} {} {} {} {}",
        window.start_ms,
        window.end_ms,
        if window.is_final { "final" } else { "open" },
        count.value(),
        sum.value(),
        min.value().unwrap_or_default(),
        max.value().unwrap_or_default(),
        last.value().unwrap_or_default(),
    );
    out.emit(&Emit::new(0).key(Some(window.key)).value(text.as_bytes()));
}

impl Transform for Teller {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let number = |name| Ok::<i64, Failure>(settings.parse(name)?.unwrap_or(0));
        let emission = match settings.required("emission")?.as_str() {
            "close" => Emission::AtClose,
            "end" => Emission::AtEnd,
            _ => Emission::EachChange,
        };
        let windows = Windows::hopping(number("size")?, number("step")?, All::default())?;
        let windows = windows.allowed_lateness_ms(number("lateness")?).emission(emission);
        Ok(Teller { windows, late: LatePolicy::from_settings(settings)? })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let value: f64 = std::str::from_utf8(record.value_or_empty())?.parse()?;
        let key = record.key().unwrap_or_default();
        match self.windows.add(record, key, value, |window| tell(out, window))? {
            Arrival::Counted => Ok(Verdict::Drop),
            Arrival::Late => self.late.apply(record, out),
        }
    }
}

impl Timed for Teller {
    fn on_timer(&mut self, timer: &Timer<'_>, out: &mut Output) -> Result<(), Failure> {
        assert!(self.windows.on_timer(timer, |window| tell(out, window))?);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    size_ms: i64,
    step_ms: i64,
    lateness_ms: i64,
    delay_ms: i64,
    emission: &'static str,
}

impl Shape {
    fn partition(&self) -> Partition<Teller> {
        let [size, step, lateness] =
            [self.size_ms, self.step_ms, self.lateness_ms].map(|ms| ms.to_string());
        let settings = [
            ("size", size.as_str()),
            ("step", &step),
            ("lateness", &lateness),
            ("emission", self.emission),
            ("late", "topic:late"),
        ];
        Partition::timed(&settings).unwrap().watermark_delay_ms(self.delay_ms)
    }
}

/// Every record that was counted, by window, and nothing else.
struct Model {
    shape: Shape,
    watermark_ms: Option<i64>,
    greatest_ms: Option<i64>,
    open: BTreeMap<(i64, String), Vec<Reading>>,
}

impl Model {
    fn tell(&self, start_ms: i64, key: &str, is_final: bool) -> String {
        let readings = &self.open[&(start_ms, key.to_string())];
        let values = || readings.iter().map(|reading| reading.value);
        let mut last = &readings[0];
        for reading in readings {
            if reading.at_ms >= last.at_ms {
                last = reading;
            }
        }
        format!(
            "{key}: {start_ms} {} {} {} {} {} {} {}",
            start_ms + self.shape.size_ms,
            if is_final { "final" } else { "open" },
            readings.len(),
            values().sum::<i64>(),
            values().min().unwrap(),
            values().max().unwrap(),
            last.value,
        )
    }

    fn run(&mut self, batch: &[Reading]) -> Vec<String> {
        let mut told = Vec::new();
        for reading in batch {
            self.record(reading, &mut told);
            self.greatest_ms = self.greatest_ms.max(Some(reading.at_ms));
        }
        let before = self.watermark_ms;
        self.watermark_ms = self.greatest_ms.map(|greatest| greatest - self.shape.delay_ms);
        self.advance(before, &mut told);
        told
    }

    fn record(&mut self, reading: &Reading, told: &mut Vec<String>) {
        let Shape { size_ms, step_ms, lateness_ms, emission, .. } = self.shape;
        let is_reached = |ms: i64| self.watermark_ms.is_some_and(|watermark| watermark >= ms);
        let mut counted = Vec::new();
        for start_ms in reading.at_ms - size_ms + 1..=reading.at_ms {
            if start_ms.rem_euclid(step_ms) == 0 && !is_reached(start_ms + size_ms + lateness_ms) {
                counted.push((start_ms, is_reached(start_ms + size_ms)));
            }
        }
        if counted.is_empty() {
            told.push(format!("{}: late {}", reading.key, reading.value));
        }
        for (start_ms, has_ended) in counted {
            let window = (start_ms, reading.key.clone());
            self.open.entry(window).or_default().push(reading.clone());
            if emission == "change" || (emission == "end" && has_ended) {
                told.push(self.tell(start_ms, &reading.key, false));
            }
        }
    }

    fn advance(&mut self, before: Option<i64>, told: &mut Vec<String>) {
        let Some(watermark_ms) = self.watermark_ms else {
            return;
        };
        let Shape { size_ms, lateness_ms, emission, .. } = self.shape;
        // What happens, in order: time, window; at one time the end is never another's close.
        let mut events = Vec::new();
        for (start_ms, key) in self.open.keys() {
            let (end_ms, close_ms) = (start_ms + size_ms, start_ms + size_ms + lateness_ms);
            let has_ended = before.is_some_and(|before| before >= end_ms);
            if emission == "end" && lateness_ms > 0 && watermark_ms >= end_ms && !has_ended {
                events.push((end_ms, *start_ms, key.clone(), false));
            }
            if watermark_ms >= close_ms {
                events.push((close_ms, *start_ms, key.clone(), true));
            }
        }
        events.sort();
        for (_, start_ms, key, is_close) in events {
            let is_told = match emission {
                "close" => is_close,
                "end" => !is_close || lateness_ms == 0,
                _ => false,
            };
            if is_told {
                told.push(self.tell(start_ms, &key, is_close));
            }
            if is_close {
                self.open.remove(&(start_ms, key));
            }
        }
    }
}

fn told(step: &Step) -> Vec<String> {
    let text =
        |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap_or_default()).unwrap();
    assert!(step.outcomes.iter().all(|outcome| outcome.failed.is_none() && !outcome.kept));
    assert!(step.fired.iter().all(|fired| fired.failed.is_none()));
    let line = |record: &TestRecord| match record.topic.as_deref() {
        Some("late") => format!("{}: late {}", text(&record.key), text(&record.value)),
        _ => format!("{}: {}", text(&record.key), text(&record.value)),
    };
    step.emitted().map(line).collect()
}

#[test]
fn random_streams_give_what_the_model_gives() {
    let mut lines = 0;
    let mut late = 0;
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let step_ms = 1 + dice.below(20) as i64;
        let tumbles = dice.one_in(2);
        let overlap = if tumbles { 1 } else { 1 + dice.below(4) as i64 };
        let shape = Shape {
            size_ms: if tumbles { step_ms } else { step_ms * overlap + dice.below(3) as i64 },
            step_ms,
            lateness_ms: dice.below(3) as i64 * 7,
            delay_ms: dice.below(3) as i64 * 5,
            emission: ["close", "end", "change"][dice.below(3) as usize],
        };
        println!("{shape:?}");
        let mut partition = shape.partition();
        let mut model =
            Model { shape, watermark_ms: None, greatest_ms: None, open: BTreeMap::new() };
        for batch in batches(&mut dice, 60, 5, 30) {
            let found = told(&partition.run(&records(&batch)));
            assert_eq!(found, model.run(&batch), "{batch:?}");
            lines += found.len();
            late += found.iter().filter(|line| line.contains("late")).count();
            if dice.one_in(3) {
                partition.evict();
            }
        }
        assert_eq!(partition.entries().count(), model.open.len(), "what is closed is deleted");
    }
    assert!(lines > 20_000 && late > 500, "{lines} results, {late} late: the test is vacuous");
}

fn at(at_ms: i64, value: i64) -> TestRecord {
    Reading { key: "k".into(), at_ms, value }.record()
}

const MINUTE: Shape =
    Shape { size_ms: 60, step_ms: 60, lateness_ms: 0, delay_ms: 0, emission: "close" };

#[test]
fn a_window_is_told_once_when_the_watermark_reaches_its_end() {
    let mut partition = MINUTE.partition();
    assert_eq!(told(&partition.run(&[at(0, 1), at(59, 3), at(30, 5)])), [] as [&str; 0]);
    assert_eq!(told(&partition.run(&[at(60, 9)])), ["k: 0 60 final 3 9 1 5 3"]);
    assert_eq!(told(&partition.run(&[at(61, 9)])), [] as [&str; 0]);
}

#[test]
fn a_late_record_goes_where_the_author_says() {
    let mut partition = MINUTE.partition();
    partition.run(&[at(70, 1)]);
    assert_eq!(told(&partition.run(&[at(59, 7)])), ["k: late 7"]);
    let settings = [("size", "60"), ("step", "60"), ("emission", "close"), ("late", "fail")];
    let mut partition = Partition::<Teller>::timed(&settings).unwrap();
    partition.run(&[at(70, 1)]);
    let message = "too late: its time is 59 ms, the watermark 70 ms";
    assert_eq!(partition.run(&[at(59, 7)]).outcomes, [Outcome::failed(message)]);
}

#[test]
fn allowed_lateness_keeps_a_window_open() {
    let mut partition = Shape { lateness_ms: 10, ..MINUTE }.partition();
    partition.run(&[at(1, 1), at(69, 1)]);
    assert_eq!(told(&partition.run(&[at(2, 2)])), [] as [&str; 0]);
    assert_eq!(told(&partition.run(&[at(70, 1)])), ["k: 0 60 final 2 3 1 2 2"]);
}

#[test]
fn told_at_its_end_a_window_is_told_again_when_a_late_record_changes_it() {
    let mut partition = Shape { lateness_ms: 10, emission: "end", ..MINUTE }.partition();
    assert_eq!(told(&partition.run(&[at(1, 1), at(69, 1)])), ["k: 0 60 open 1 1 1 1 1"]);
    assert_eq!(told(&partition.run(&[at(2, 2)])), ["k: 0 60 open 2 3 1 2 2"]);
    assert_eq!(told(&partition.run(&[at(70, 1)])), [] as [&str; 0]);
    assert_eq!(told(&partition.run(&[at(3, 3)])), ["k: late 3"]);
}

#[test]
fn an_idle_partition_closes_its_windows_when_time_is_let_go_on() {
    let mut partition = MINUTE.partition();
    partition.run(&[at(10, 1)]);
    assert_eq!(told(&partition.idle(49)), [] as [&str; 0]);
    assert_eq!(told(&partition.idle(50)), ["k: 0 60 final 1 1 1 1 1"]);
    assert_eq!(partition.entries().count(), 0);
}

#[test]
fn state_of_another_aggregate_is_refused_not_misread() {
    let mut partition = MINUTE.partition();
    partition.run(&[at(10, 1)]);
    let key = partition.entries().next().unwrap().0.to_vec();
    partition.with_state(|| millpond_sdk::state::put(&key, &[1, 1, 2, 3]).unwrap());
    let failed = partition.run(&[at(11, 1)]).outcomes.remove(0).failed.unwrap();
    assert!(failed.contains("another version"), "{failed}");
    partition.with_state(|| millpond_sdk::state::put(&key, &[9]).unwrap());
    assert!(partition.run(&[at(11, 1)]).outcomes[0].failed.is_some());
}

#[test]
fn lengths_and_times_that_cannot_be_are_refused() {
    for (size, step) in [(0, 1), (1, 0), (10, 11), (10_000, 1), (i64::MAX, i64::MAX)] {
        assert!(Windows::hopping(size, step, Count::default()).is_err(), "{size} {step}");
    }
    let outcomes = MINUTE.partition().run(&[at(i64::MAX, 1), at(i64::MIN, 1)]).outcomes;
    assert!(outcomes.iter().all(|outcome| outcome.failed.is_some()));
}
