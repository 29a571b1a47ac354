//! A join against a model that compares every record with every other.

mod common;

use common::{Dice, batches, records};
use millpond_sdk::join::{Join, Pair, Side};
use millpond_sdk::testing::{Partition, Step, TestRecord};
use millpond_sdk::window::Arrival;
use millpond_sdk::{Emit, Failure, Output, Record, Settings, Transform, Verdict};
use std::collections::BTreeSet;

/// Joins the topics `left` and `right`; or, on one topic, by the header `side`.
#[derive(Debug)]
struct Joined {
    join: Join,
}

impl Transform for Joined {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let number = |name| Ok::<i64, Failure>(settings.parse(name)?.unwrap_or(0));
        Ok(Joined { join: Join::new(number("within")?)?.allowed_lateness_ms(number("lateness")?) })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let side = match record.headers().get("side") {
            Some(side) => side.unwrap_or_default(),
            None => record.topic().as_bytes(),
        };
        let side = if side == b"left" { Side::Left } else { Side::Right };
        let key = record.key().unwrap_or_default();
        let pair = |pair: &Pair<'_>| {
            let value = [pair.left, b"+", pair.right].concat();
            let at_ms = pair.left_ms.max(pair.right_ms);
            out.emit(&Emit::new(at_ms).key(Some(pair.key)).value(&value));
        };
        match self.join.add(record, side, key, record.value_or_empty(), pair)? {
            Arrival::Counted => Ok(Verdict::Drop),
            Arrival::Late => Err("late".into()),
        }
    }
}

fn pairs(step: &Step) -> Vec<String> {
    let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
    step.emitted().map(|record| text(&record.key) + ":" + &text(&record.value)).collect()
}

/// Random streams of both sides. `shared`: they come to two topics, else to one with a header.
fn against_model(shared: bool) {
    let (mut made, mut late) = (0, 0);
    for seed in 0..150 {
        let mut dice = Dice::new(seed);
        let (within_ms, lateness_ms) = (dice.below(40) as i64, dice.below(30) as i64);
        let (within, lateness) = (within_ms.to_string(), lateness_ms.to_string());
        let settings = [("within", within.as_str()), ("lateness", &lateness)];
        let mut partition = Partition::<Joined>::new(&settings).unwrap();
        if shared {
            partition = partition.shared_by(&["left", "right"]);
        }
        let mut found = BTreeSet::new();
        let mut expected = BTreeSet::new();
        let mut seen: Vec<(bool, common::Reading)> = Vec::new();
        for (at, mut batch) in batches(&mut dice, 60, 5, 40).into_iter().enumerate() {
            let is_left = dice.one_in(2);
            for (index, reading) in batch.iter_mut().enumerate() {
                // Every value its own, so that every pair is.
                reading.value = (at * 100 + index) as i64;
            }
            let watermark_ms = partition.watermark_ms();
            let side = if is_left { "left" } else { "right" };
            let step = if shared {
                partition.run_on(side, &records(&batch))
            } else {
                let marked = |record: TestRecord| record.header("side", side.as_bytes());
                partition.run(&records(&batch).into_iter().map(marked).collect::<Vec<_>>())
            };
            for (reading, outcome) in batch.iter().zip(&step.outcomes) {
                let is_late = watermark_ms.is_some_and(|ms| reading.at_ms + lateness_ms < ms);
                assert_eq!(outcome.failed.is_some(), is_late);
                if is_late {
                    late += 1;
                    continue;
                }
                for (others_left, other) in &seen {
                    let apart_ms = (other.at_ms - reading.at_ms).abs();
                    if *others_left != is_left && other.key == reading.key && apart_ms <= within_ms
                    {
                        let (left, right) =
                            if is_left { (reading, other) } else { (other, reading) };
                        expected.insert(format!("{}:{}+{}", left.key, left.value, right.value));
                    }
                }
                seen.push((is_left, reading.clone()));
            }
            for pair in pairs(&step) {
                assert!(found.insert(pair.clone()), "{pair} was made twice");
            }
            if dice.one_in(3) {
                partition.evict();
            }
        }
        assert_eq!(found, expected);
        made += found.len();
    }
    assert!(made > 2_000 && late > 100, "{made} pairs, {late} late: the test is vacuous");
}

#[test]
fn two_topics_that_share_a_state_are_joined_as_the_model_joins_them() {
    against_model(true);
}

#[test]
fn one_topic_with_both_sides_is_joined_as_the_model_joins_it() {
    against_model(false);
}

fn at(at_ms: i64, value: &str) -> TestRecord {
    TestRecord::of(value.as_bytes()).key(b"k").timestamp_ms(at_ms)
}

fn subject() -> Partition<Joined> {
    Partition::new(&[("within", "10")]).unwrap().shared_by(&["left", "right"])
}

#[test]
fn partners_come_in_the_order_of_their_times_then_of_the_log() {
    let mut partition = subject();
    partition.run_on("left", &[at(9, "c"), at(5, "a"), at(9, "d"), at(7, "b"), at(50, "x")]);
    let step = partition.run_on("right", &[at(8, "R")]);
    assert_eq!(pairs(&step), ["k:a+R", "k:b+R", "k:c+R", "k:d+R"]);
}

#[test]
fn what_can_find_no_partner_any_more_is_forgotten() {
    let mut partition = subject();
    partition.run_on("left", &[at(0, "a")]);
    partition.run_on("right", &[at(10, "R")]);
    assert_eq!(partition.entries().count(), 2);
    partition.run_on("left", &[at(11, "b")]);
    assert_eq!(partition.entries().count(), 3, "the watermark is that of the topic behind");
    partition.run_on("right", &[at(11, "S")]);
    assert_eq!(partition.entries().count(), 3, "the first is gone");
}
