//! A reader of one partition, slow at times, that goes back now and then.

use super::{Deck, now_ns};
use crate::checker::event::{Place, What};
use crate::dice::Dice;

pub(super) fn run(deck: Deck, mut dice: Dice, name: &str, place: &Place, is_committed: bool) {
    let mut kafka = None;
    let mut at = 0;
    while !deck.is_over() {
        let (begin_ns, max_bytes) = (now_ns(), dice.within(1, 6_000) as i32);
        match deck.call(&mut kafka, |kafka| kafka.poll(place, at, is_committed, max_bytes)) {
            Ok(polled) => {
                let (from, place) = (at, place.clone());
                at = polled.next;
                let (next, records) = (polled.next, polled.records);
                let what = What::Poll { place, is_committed, from, next, records, group: None };
                deck.note(name, begin_ns, what);
            }
            Err(_) => deck.pause_ms(20),
        }
        if dice.within(0, 30) == 0 {
            at = dice.within(0, at.max(1) as u64) as i64;
        }
        if dice.within(0, 10) == 0 {
            deck.pause_ms(dice.within(10, 300));
        }
    }
}
