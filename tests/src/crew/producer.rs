//! An idempotent producer: one batch at a time, sent again until it is acknowledged; now and then it
//! gives up and begins anew.

use super::{Deck, now_ns};
use crate::checker::event::{Outcome, Place, What};
use crate::dice::Dice;
use crate::kafka::{Kafka, now_ms};
use bytes::Bytes;
use millpond_wire::record::{BatchBuilder, Codec};
use std::collections::BTreeMap;

pub(super) fn run(deck: Deck, mut dice: Dice, name: &str, places: &[Place]) {
    let mut kafka = None;
    let mut count = 0;
    while !deck.is_over() {
        let Some(producer) = deck.insist(&mut kafka, Kafka::new_producer_id) else { continue };
        let mut sequences: BTreeMap<&Place, i32> = BTreeMap::new();
        while !deck.is_over() {
            let place = &places[dice.within(0, places.len() as u64) as usize];
            let size = dice.within(1, 5);
            let values: Vec<String> =
                (count..count + size).map(|n| format!("{name}-{n}")).collect();
            count += size;
            let next = sequences.entry(place).or_default();
            let batch = batch_of(producer, *next, &values, false);
            *next += size as i32;
            if !send(&deck, &mut kafka, &mut dice, name, place, values, batch) {
                break;
            }
            deck.pause_ms(dice.within(0, 8));
        }
    }
}

/// Sends until it is acknowledged; false if it gave up.
fn send(
    deck: &Deck,
    kafka: &mut Option<Kafka>,
    dice: &mut Dice,
    name: &str,
    place: &Place,
    values: Vec<String>,
    batch: Bytes,
) -> bool {
    let begin_ns = now_ns();
    let mut tries_left = dice.within(1, 300);
    let base = loop {
        match deck.call(kafka, |kafka| kafka.produce_bytes(&place.0, place.1, batch.clone())) {
            Ok(base) => break Some(base),
            Err(_) if tries_left == 0 => break None,
            Err(_) => deck.pause_ms(10),
        }
        tries_left -= 1;
    };
    for (index, value) in (0..).zip(values) {
        let outcome = if base.is_some() { Outcome::Ok } else { Outcome::Unknown };
        let offset = base.map(|base| base + index);
        let place = place.clone();
        let what = What::Send { place, value, outcome, offset, txn: None, source: None };
        deck.note(name, begin_ns, what);
    }
    if base.is_some() {
        deck.progress.count();
    }
    base.is_some()
}

pub(super) fn batch_of(
    (id, epoch): (i64, i16),
    sequence: i32,
    values: &[String],
    is_transactional: bool,
) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None, None)
        .with_transactional(is_transactional)
        .with_producer(id, epoch, sequence);
    for value in values {
        if let Err(error) = builder.push(now_ms(), None, Some(value.as_bytes()), &[]) {
            panic!("{value}: {error}");
        }
    }
    match builder.build() {
        Ok(bytes) => bytes,
        Err(error) => panic!("{values:?}: {error}"),
    }
}
