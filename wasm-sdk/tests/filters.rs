//! Filters that remember, against models that remember everything.

mod common;

use common::{Dice, Reading, batches, records};
use millpond_sdk::filter::{ChangeOnly, DeadBand, Dedup};
use millpond_sdk::testing::{Outcome, Partition, TestRecord};
use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict};
use std::collections::BTreeMap;

/// One of the three, by the settings.
#[derive(Debug)]
enum Filter {
    Band(DeadBand),
    Change(ChangeOnly),
    Dedup(Dedup),
}

impl Transform for Filter {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let silence = settings.parse("silence")?;
        let forget = settings.parse("forget")?;
        if let Some(within) = settings.parse("within")? {
            let lateness = settings.parse("lateness")?.unwrap_or(0);
            return Ok(Filter::Dedup(Dedup::new(within)?.allowed_lateness_ms(lateness)));
        }
        if let Some(absolute) = settings.parse("absolute")? {
            let relative = settings.parse("relative")?.unwrap_or(0.0);
            let mut band = DeadBand::new(absolute, relative)?;
            if let Some(silence) = silence {
                band = band.max_silence_ms(silence);
            }
            return Ok(Filter::Band(band));
        }
        let mut change = ChangeOnly::default();
        if let Some(silence) = silence {
            change = change.max_silence_ms(silence);
        }
        if let Some(forget) = forget {
            change = change.forget_after_ms(forget);
        }
        Ok(Filter::Change(change))
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        let (key, value) = (record.key().unwrap_or_default(), record.value_or_empty());
        let passes = match self {
            Filter::Band(band) => {
                band.passes(record, key, std::str::from_utf8(value)?.parse::<f64>()?)?
            }
            Filter::Change(change) => change.passes(record, key, value)?,
            Filter::Dedup(dedup) => dedup.is_first(record, key)?,
        };
        Ok(if passes { Verdict::Keep } else { Verdict::Drop })
    }
}

/// Runs random streams and compares what passes with what the model lets pass.
fn against_model(
    settings: &[(&str, &str)],
    delay_ms: i64,
    mut model: impl FnMut(&mut BTreeMap<String, Vec<Reading>>, &Reading) -> bool,
) {
    let (mut kept, mut dropped) = (0, 0);
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut passed = BTreeMap::new();
        let mut partition =
            Partition::<Filter>::new(settings).unwrap().watermark_delay_ms(delay_ms);
        for mut batch in batches(&mut dice, 40, 5, 30) {
            batch.iter_mut().for_each(|reading| reading.value /= 250);
            let outcomes = partition.run(&records(&batch)).outcomes;
            for (reading, outcome) in batch.iter().zip(outcomes) {
                let expected = if model(&mut passed, reading) {
                    kept += 1;
                    passed.entry(reading.key.clone()).or_default().push(reading.clone());
                    Outcome::keep()
                } else {
                    dropped += 1;
                    Outcome::drop()
                };
                assert_eq!(outcome, expected, "{reading:?} after {passed:?}");
            }
            if dice.one_in(3) {
                partition.evict();
            }
        }
    }
    assert!(kept > 500 && dropped > 500, "{kept} kept, {dropped} dropped: the test is vacuous");
}

fn last_and_latest<'m>(
    passed: &'m BTreeMap<String, Vec<Reading>>,
    reading: &Reading,
) -> Option<(&'m Reading, i64)> {
    let of_key = passed.get(&reading.key)?;
    Some((of_key.last()?, of_key.iter().map(|reading| reading.at_ms).max()?))
}

#[test]
fn a_dead_band_passes_what_the_model_passes() {
    let settings = [("absolute", "1"), ("relative", "0.6"), ("silence", "90")];
    against_model(&settings, 0, |passed, reading| {
        let Some((last, latest_ms)) = last_and_latest(passed, reading) else { return true };
        let moved = (reading.value - last.value).abs() as f64;
        reading.at_ms - latest_ms >= 90 || (moved > 1.0 && moved > 0.6 * last.value.abs() as f64)
    });
}

#[test]
fn change_only_passes_what_the_model_passes() {
    against_model(&[("silence", "60")], 0, |passed, reading| {
        let Some((last, latest_ms)) = last_and_latest(passed, reading) else { return true };
        reading.at_ms - latest_ms >= 60 || reading.value != last.value
    });
}

#[test]
fn deduplication_passes_what_a_model_passes_that_never_forgets() {
    // No record is more than 30 ms older than the greatest, so none is later than allowed.
    let settings = [("within", "70"), ("lateness", "30")];
    against_model(&settings, 0, |passed, reading| {
        let Some(of_key) = passed.get(&reading.key) else { return true };
        let mut latest = &of_key[0];
        for other in of_key {
            latest = if other.at_ms >= latest.at_ms { other } else { latest };
        }
        (reading.at_ms - latest.at_ms).abs() >= 70
    });
}

fn at(at_ms: i64, value: &str) -> TestRecord {
    TestRecord::of(value.as_bytes()).key(b"k").timestamp_ms(at_ms)
}

fn kept(partition: &mut Partition<Filter>, records: &[TestRecord]) -> Vec<bool> {
    partition.run(records).outcomes.iter().map(|outcome| outcome.kept).collect()
}

#[test]
fn a_slow_drift_passes_once_it_has_left_the_band() {
    let mut partition = Partition::new(&[("absolute", "1")]).unwrap();
    let values: Vec<_> = ["0", "0.5", "1", "1.5", "2", "2.5", "2.6"].map(|v| at(0, v)).into();
    let expected = [true, false, false, true, false, false, true];
    assert_eq!(kept(&mut partition, &values), expected);
}

#[test]
fn infinities_and_what_is_no_number_have_their_place() {
    let mut partition = Partition::new(&[("absolute", "1"), ("relative", "0.1")]).unwrap();
    let values: Vec<_> = ["inf", "inf", "-inf", "0"].map(|v| at(0, v)).into();
    assert_eq!(kept(&mut partition, &values), [true, false, false, false]);
    assert!(partition.run(&[at(0, "NaN")]).outcomes[0].failed.is_some());
}

#[test]
fn a_forgotten_key_is_new_and_takes_no_room() {
    let mut partition = Partition::new(&[("forget", "100")]).unwrap();
    assert_eq!(kept(&mut partition, &[at(0, "a"), at(99, "a")]), [true, false]);
    let other = TestRecord::of(b"x").key(b"other").timestamp_ms(100);
    partition.run(&[other]);
    assert_eq!(partition.entries().count(), 1);
    assert_eq!(kept(&mut partition, &[at(100, "a")]), [true]);
}

#[test]
fn duplicates_are_forgotten_when_none_can_come_any_more() {
    let mut partition = Partition::new(&[("within", "10"), ("lateness", "5")]).unwrap();
    assert_eq!(kept(&mut partition, &[at(0, "a"), at(9, "b"), at(-9, "c")]), [true, false, false]);
    assert_eq!(kept(&mut partition, &[at(10, "d"), at(0, "e")]), [true, true]);
    partition.idle(14);
    assert_eq!(partition.entries().count(), 1);
    partition.idle(15);
    assert_eq!(partition.entries().count(), 0);
}
