//! One direction of a path: takes packets, says when which comes out. Pure: time is handed in, and
//! the same packets at the same times come out alike. Never holds more than [`UNDER_WAY_MAX`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::weather::{Fate, Weather};

/// Packets between the ends; more are dropped.
const UNDER_WAY_MAX: usize = 65_536;

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets that were given in.
    pub offered: u64,
    /// Packets that the weather took.
    pub lost: u64,
    /// Packets that came twice.
    pub doubled: u64,
    /// Packets that found the queue before the narrowest link full.
    pub dropped: u64,
    /// Packets that came out after one that was given in later.
    pub overtaken: u64,
}

/// One direction. Times count from any moment that stays the same.
#[derive(Debug)]
pub struct Link {
    weather: Weather,
    seed: u64,
    number: u64,
    /// When the narrowest link has sent all that waits before it.
    free_at: Duration,
    under_way: BinaryHeap<Reverse<Arrival>>,
    latest_out: u64,
    tally: Tally,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    due: Duration,
    number: u64,
    packet: Vec<u8>,
}

impl Link {
    /// A direction with nothing in it.
    pub fn new(weather: Weather, seed: u64) -> Link {
        Link {
            weather,
            seed,
            number: 0,
            free_at: Duration::ZERO,
            under_way: BinaryHeap::new(),
            latest_out: 0,
            tally: Tally::default(),
        }
    }

    /// The weather changes for what comes from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// A packet goes in.
    pub fn offer(&mut self, now: Duration, packet: &[u8]) {
        let number = self.number;
        self.number += 1;
        self.tally.offered += 1;
        let Some(sent) = self.pass_the_narrows(now, packet.len() as u64) else {
            self.tally.dropped += 1;
            return;
        };
        let due = sent + self.weather.delay;
        match self.weather.fate(self.seed, number) {
            Fate::Lost => self.tally.lost += 1,
            Fate::Once(late) => self.launch(due + late, number, packet),
            Fate::Twice(late, later) => {
                self.tally.doubled += 1;
                self.launch(due + late, number, packet);
                self.launch(due + later, number, packet);
            }
        }
    }

    /// When the narrowest link has sent it; none if it found no room.
    fn pass_the_narrows(&mut self, now: Duration, bytes: u64) -> Option<Duration> {
        let Some(rate) = self.weather.rate else { return Some(now) };
        let begins = self.free_at.max(now);
        let waiting = (begins - now).as_nanos() * u128::from(rate.bytes_per_second) / 1_000_000_000;
        if waiting + u128::from(bytes) > u128::from(rate.queue_bytes) {
            return None;
        }
        let takes = Duration::from_nanos(bytes * 1_000_000_000 / rate.bytes_per_second.max(1));
        self.free_at = begins + takes;
        Some(self.free_at)
    }

    fn launch(&mut self, due: Duration, number: u64, packet: &[u8]) {
        match self.under_way.len() < UNDER_WAY_MAX {
            true => self.under_way.push(Reverse(Arrival { due, number, packet: packet.to_vec() })),
            false => self.tally.dropped += 1,
        }
    }

    /// A packet that comes out by now, the earliest first.
    pub fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(arrival) = self.under_way.pop()?;
        self.tally.overtaken += u64::from(arrival.number < self.latest_out);
        self.latest_out = self.latest_out.max(arrival.number);
        Some(arrival.packet)
    }

    /// When the next one comes out.
    pub fn next_due(&self) -> Option<Duration> {
        self.under_way.peek().map(|Reverse(arrival)| arrival.due)
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::super::weather::Rate;
    use super::*;

    const DELAY: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn all(link: &mut Link, until: Duration) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| link.take(until)).collect()
    }

    #[test]
    fn a_packet_comes_after_its_delay_and_not_before() {
        let mut link = Link::new(Weather::calm(DELAY), 1);
        link.offer(ms(10), b"a");
        assert_eq!((link.take(ms(59)), link.next_due()), (None, Some(ms(60))));
        assert_eq!((link.take(ms(60)), link.take(ms(60))), (Some(b"a".to_vec()), None));
    }

    #[test]
    fn without_lateness_the_order_stays() {
        let mut link = Link::new(Weather::calm(DELAY), 1);
        (0..100u8).for_each(|n| link.offer(ms(7), &[n]));
        assert_eq!(all(&mut link, ms(57)), (0..100u8).map(|n| vec![n]).collect::<Vec<_>>());
        assert_eq!(link.tally().overtaken, 0);
    }

    #[test]
    fn late_packets_are_overtaken() {
        let late = Weather { late_per_mille: 200, late_max: ms(20), ..Weather::calm(DELAY) };
        let mut link = Link::new(late, 1);
        (0..200u8).for_each(|n| link.offer(ms(u64::from(n)), &[n]));
        let out = all(&mut link, ms(1_000));
        assert!(!out.is_sorted() && out.len() == 200);
        assert!(link.tally().overtaken > 10, "{:?}", link.tally());
    }

    #[test]
    fn what_is_lost_does_not_come_and_what_is_doubled_comes_twice() {
        let storm = Weather { lost_per_mille: 100, doubled_per_mille: 100, ..Weather::calm(DELAY) };
        let mut link = Link::new(storm, 5);
        (0..1_000u16).for_each(|n| link.offer(ms(0), &n.to_be_bytes()));
        let tally = link.tally();
        assert!(tally.lost > 50 && tally.doubled > 50, "{tally:?}");
        let out = all(&mut link, ms(50)).len() as u64;
        assert_eq!(out, 1_000 - tally.lost + tally.doubled);
    }

    #[test]
    fn the_narrowest_link_spaces_packets_and_drops_what_does_not_fit_before_it() {
        let rate = Some(Rate { bytes_per_second: 100_000, queue_bytes: 2_000 });
        let mut link = Link::new(Weather { rate, ..Weather::calm(DELAY) }, 1);
        (0..3).for_each(|_| link.offer(ms(0), &[0; 1_000]));
        assert_eq!(link.tally().dropped, 1);
        assert_eq!((all(&mut link, ms(60)).len(), all(&mut link, ms(70)).len()), (1, 1));
        link.offer(ms(100), &[0; 1_000]);
        assert_eq!(link.next_due(), Some(ms(160)), "it found the link idle");
    }

    #[test]
    fn a_seed_makes_a_run() {
        let run = |seed| {
            let weather = Weather {
                late_per_mille: 100,
                late_max: ms(9),
                lost_per_mille: 50,
                doubled_per_mille: 50,
                ..Weather::calm(DELAY)
            };
            let mut link = Link::new(weather, seed);
            (0..300u16).for_each(|n| link.offer(ms(n.into()), &n.to_be_bytes()));
            (all(&mut link, ms(1_000)), link.tally())
        };
        assert_eq!(run(4), run(4));
        assert_ne!(run(4), run(5));
    }
}
