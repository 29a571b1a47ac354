//! Session windows against a model that keeps every record and finds the sessions anew each time.

mod common;

use common::{Dice, Reading, batches, records};
use millpond_sdk::aggregate::{Count, Last, Max, Quantiles, Sum};
use millpond_sdk::testing::{Partition, Step, TestRecord};
use millpond_sdk::timers::Timer;
use millpond_sdk::window::{Arrival, Emission, LatePolicy, Session, Sessions};
use millpond_sdk::{Emit, Failure, Output, Record, Settings, Timed, Transform, Verdict};

type All = (Count, Sum, Max, Last, Quantiles);

#[derive(Debug)]
struct Teller {
    sessions: Sessions<All>,
    late: LatePolicy,
}

fn tell(out: &mut Output, session: &Session<'_, All>) {
    let (count, sum, max, last, quantiles) = session.aggregate;
    assert_eq!(quantiles.count(), count.value());
    let text = format!(
        "{} {} {} {} {} {} {}",
        session.start_ms,
        session.last_ms,
        if session.is_final { "final" } else { "open" },
        count.value(),
        sum.value(),
        max.value().unwrap_or_default(),
        last.value().unwrap_or_default(),
    );
    out.emit(&Emit::new(0).key(Some(session.key)).value(text.as_bytes()));
}

impl Transform for Teller {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let number = |name| Ok::<i64, Failure>(settings.parse(name)?.unwrap_or(0));
        let emission = match settings.required("emission")?.as_str() {
            "close" => Emission::AtClose,
            "end" => Emission::AtEnd,
            _ => Emission::EachChange,
        };
        let sessions = Sessions::new(number("gap")?, All::default())?;
        let sessions = sessions.allowed_lateness_ms(number("lateness")?).emission(emission);
        Ok(Teller { sessions, late: LatePolicy::from_settings(settings)? })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let value: f64 = std::str::from_utf8(record.value_or_empty())?.parse()?;
        let key = record.key().unwrap_or_default();
        match self.sessions.add(record, key, value, |session| tell(out, session))? {
            Arrival::Counted => Ok(Verdict::Drop),
            Arrival::Late => self.late.apply(record, out),
        }
    }
}

impl Timed for Teller {
    fn on_timer(&mut self, timer: &Timer<'_>, out: &mut Output) -> Result<(), Failure> {
        assert!(self.sessions.on_timer(timer, |session| tell(out, session))?);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    gap_ms: i64,
    lateness_ms: i64,
    delay_ms: i64,
    emission: &'static str,
}

impl Shape {
    fn partition(&self) -> Partition<Teller> {
        let (gap, lateness) = (self.gap_ms.to_string(), self.lateness_ms.to_string());
        let settings = [
            ("gap", gap.as_str()),
            ("lateness", &lateness),
            ("emission", self.emission),
            ("late", "topic:late"),
        ];
        Partition::timed(&settings).unwrap().watermark_delay_ms(self.delay_ms)
    }
}

/// Every record of every session that is not closed, in the order in which they came.
struct Model {
    shape: Shape,
    watermark_ms: Option<i64>,
    greatest_ms: Option<i64>,
    open: Vec<Reading>,
}

impl Model {
    /// The sessions: what is left when the readings of a key are cut wherever a gap lies.
    fn sessions(&self) -> Vec<Vec<&Reading>> {
        let mut sorted: Vec<&Reading> = self.open.iter().collect();
        sorted.sort_by_key(|reading| (reading.key.clone(), reading.at_ms));
        let together = |one: &&Reading, next: &&Reading| {
            one.key == next.key && next.at_ms - one.at_ms < self.shape.gap_ms
        };
        sorted.chunk_by(together).map(<[_]>::to_vec).collect()
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
        let Shape { gap_ms, lateness_ms, emission, .. } = self.shape;
        let is_reached = |ms: i64| self.watermark_ms.is_some_and(|watermark| watermark >= ms);
        let touches = |other: &Reading| {
            other.key == reading.key && (other.at_ms - reading.at_ms).abs() < gap_ms
        };
        if !self.open.iter().any(touches) && is_reached(reading.at_ms + gap_ms + lateness_ms) {
            told.push(format!("{}: late {}", reading.key, reading.value));
            return;
        }
        self.open.push(reading.clone());
        let sessions = self.sessions();
        let own = |session: &&Vec<&Reading>| {
            session.iter().any(|other| std::ptr::eq(*other, &self.open[self.open.len() - 1]))
        };
        let session = sessions.iter().find(own).unwrap();
        let has_ended = is_reached(session.last().unwrap().at_ms + gap_ms);
        if emission == "change" || (emission == "end" && has_ended) {
            told.push(line(session, false));
        }
    }

    fn advance(&mut self, before: Option<i64>, told: &mut Vec<String>) {
        let Some(watermark_ms) = self.watermark_ms else {
            return;
        };
        let Shape { gap_ms, lateness_ms, emission, .. } = self.shape;
        let mut events = Vec::new();
        let mut closed = Vec::new();
        for session in self.sessions() {
            let (key, start_ms) = (session[0].key.clone(), session[0].at_ms);
            let end_ms = session.last().unwrap().at_ms + gap_ms;
            let place = (key.len(), key, start_ms);
            let has_ended = before.is_some_and(|before| before >= end_ms);
            if emission == "end" && lateness_ms > 0 && watermark_ms >= end_ms && !has_ended {
                events.push((end_ms, place.clone(), line(&session, false)));
            }
            if watermark_ms >= end_ms + lateness_ms {
                let is_told = emission == "close" || (emission == "end" && lateness_ms == 0);
                let text = if is_told { line(&session, true) } else { String::new() };
                closed.push((place.1.clone(), start_ms, end_ms - gap_ms));
                events.push((end_ms + lateness_ms, place, text));
            }
        }
        events.sort();
        told.extend(events.into_iter().map(|(_, _, text)| text).filter(|text| !text.is_empty()));
        self.open.retain(|reading| {
            !closed.iter().any(|(key, start_ms, last_ms)| {
                *key == reading.key && (*start_ms..=*last_ms).contains(&reading.at_ms)
            })
        });
    }
}

/// Of readings in the order of time, those of one time in the order in which they came.
fn line(session: &[&Reading], is_final: bool) -> String {
    let values = || session.iter().map(|reading| reading.value);
    format!(
        "{}: {} {} {} {} {} {} {}",
        session[0].key,
        session[0].at_ms,
        session.last().unwrap().at_ms,
        if is_final { "final" } else { "open" },
        session.len(),
        values().sum::<i64>(),
        values().max().unwrap(),
        session.last().unwrap().value,
    )
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
    let (mut lines, mut late) = (0, 0);
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let shape = Shape {
            gap_ms: 1 + dice.below(60) as i64,
            lateness_ms: dice.below(3) as i64 * 20,
            delay_ms: dice.below(3) as i64 * 20,
            emission: ["close", "end", "change"][dice.below(3) as usize],
        };
        println!("{shape:?}");
        let mut partition = shape.partition();
        let mut model = Model { shape, watermark_ms: None, greatest_ms: None, open: Vec::new() };
        for batch in batches(&mut dice, 60, 5, 60) {
            let found = told(&partition.run(&records(&batch)));
            assert_eq!(found, model.run(&batch), "{batch:?}");
            lines += found.len();
            late += found.iter().filter(|line| line.contains("late")).count();
            if dice.one_in(3) {
                partition.evict();
            }
        }
        assert_eq!(partition.entries().count(), model.sessions().len());
    }
    assert!(lines > 10_000 && late > 300, "{lines} results, {late} late: the test is vacuous");
}

fn at(at_ms: i64, value: i64) -> TestRecord {
    Reading { key: "k".into(), at_ms, value }.record()
}

const SHAPE: Shape = Shape { gap_ms: 10, lateness_ms: 0, delay_ms: 0, emission: "close" };

#[test]
fn a_session_ends_when_the_gap_has_passed() {
    let mut partition = SHAPE.partition();
    assert_eq!(told(&partition.run(&[at(1, 1), at(10, 2), at(19, 3)])), [] as [&str; 0]);
    assert_eq!(told(&partition.run(&[at(28, 1)])), [] as [&str; 0]);
    assert_eq!(told(&partition.run(&[at(38, 9)])), ["k: 1 28 final 4 7 3 1"]);
}

#[test]
fn a_record_between_two_sessions_joins_them() {
    let mut partition = Shape { delay_ms: 50, ..SHAPE }.partition();
    partition.run(&[at(0, 1), at(15, 2)]);
    assert_eq!(partition.entries().count(), 2);
    partition.run(&[at(8, 4)]);
    assert_eq!((partition.entries().count(), partition.timers().count()), (1, 1));
    assert_eq!(told(&partition.run(&[at(75, 0)])), ["k: 0 15 final 3 7 4 2"]);
}

#[test]
fn an_earlier_record_moves_the_start_and_leaves_nothing_behind() {
    let mut partition = Shape { delay_ms: 50, emission: "end", ..SHAPE }.partition();
    partition.run(&[at(15, 2), at(9, 1), at(2, 3)]);
    assert_eq!((partition.entries().count(), partition.timers().count()), (1, 1));
    assert_eq!(told(&partition.idle(60)), ["k: 2 15 final 3 6 3 2"]);
    assert_eq!((partition.entries().count(), partition.timers().count()), (0, 0));
}

#[test]
fn a_late_record_that_touches_an_open_session_is_not_late() {
    let mut partition = Shape { lateness_ms: 20, ..SHAPE }.partition();
    partition.run(&[at(100, 1), at(129, 1)]);
    // Its own session, from 95 to 105, would be closed at 125.
    assert_eq!(told(&partition.run(&[at(95, 5)])), [] as [&str; 0]);
    assert_eq!(told(&partition.run(&[at(90, 7)])), [] as [&str; 0]);
    assert_eq!(told(&partition.run(&[at(70, 7)])), ["k: late 7"]);
    assert_eq!(told(&partition.run(&[at(130, 1)])), ["k: 90 100 final 3 13 7 1"]);
}
