//! What a bad path does to packets, as numbers, and what becomes of the packet with a number. Pure:
//! the same seed, weather and number give the same fate, whenever and however often it is asked.

use std::time::Duration;

use crate::dice::Dice;

/// What happens to packets in one direction. Shares are in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// How long every packet takes.
    pub delay: Duration,
    /// How many of a thousand packets are late, so that others overtake them.
    pub late_per_mille: u64,
    /// By how much at most.
    pub late_max: Duration,
    /// How many of a thousand are lost.
    pub lost_per_mille: u64,
    /// How many of a thousand come twice.
    pub doubled_per_mille: u64,
    /// What the narrowest link bears.
    pub rate: Option<Rate>,
}

/// The narrowest link of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What passes.
    pub bytes_per_second: u64,
    /// What waits before it; more is dropped.
    pub queue_bytes: u64,
}

impl Weather {
    /// Nothing but a delay.
    pub const fn calm(delay: Duration) -> Weather {
        Weather {
            delay,
            late_per_mille: 0,
            late_max: Duration::ZERO,
            lost_per_mille: 0,
            doubled_per_mille: 0,
            rate: None,
        }
    }

    /// What becomes of the packet with this number.
    pub fn fate(&self, seed: u64, number: u64) -> Fate {
        let mut dice = Dice::new(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        // All are rolled each time, so that one share does not move the others' packets.
        let mut happens = |per_mille| dice.within(0, 1_000) < per_mille;
        let is_lost = happens(self.lost_per_mille);
        let is_doubled = happens(self.doubled_per_mille);
        let is_late = [happens(self.late_per_mille), happens(self.late_per_mille)];
        let late_max_us = u64::try_from(self.late_max.as_micros()).unwrap_or(u64::MAX - 1);
        let [first, second] = is_late.map(|is_late| {
            let late_us = dice.within(0, late_max_us + 1);
            Duration::from_micros(if is_late { late_us } else { 0 })
        });
        match (is_lost, is_doubled) {
            (true, _) => Fate::Lost,
            (false, false) => Fate::Once(first),
            (false, true) => Fate::Twice(first, second),
        }
    }
}

/// What becomes of a packet; how much later than the delay each copy comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does not arrive.
    Lost,
    /// It arrives.
    Once(Duration),
    /// It arrives twice.
    Twice(Duration, Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORM: Weather = Weather {
        delay: Duration::from_millis(50),
        late_per_mille: 20,
        late_max: Duration::from_millis(10),
        lost_per_mille: 50,
        doubled_per_mille: 10,
        rate: None,
    };

    #[test]
    fn a_packet_has_the_same_fate_each_time() {
        let fates = |seed| (0..500).map(|n| STORM.fate(seed, n)).collect::<Vec<_>>();
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
    }

    #[test]
    fn shares_are_what_they_are_said_to_be() {
        let (mut lost, mut doubled, mut late) = (0, 0, 0);
        for number in 0..100_000 {
            match STORM.fate(1, number) {
                Fate::Lost => lost += 1,
                Fate::Once(by) => late += u32::from(!by.is_zero()),
                Fate::Twice(..) => doubled += 1,
            }
        }
        assert!((4_700..=5_300).contains(&lost), "{lost} lost");
        assert!((800..=1_100).contains(&doubled), "{doubled} doubled");
        assert!((1_700..=2_100).contains(&late), "{late} late");
    }

    #[test]
    fn more_loss_does_not_move_what_else_happens() {
        let dry = Weather { lost_per_mille: 0, ..STORM };
        let fates = (0..2_000).map(|n| (STORM.fate(3, n), dry.fate(3, n)));
        let kept: Vec<_> = fates.filter(|(wet, _)| *wet != Fate::Lost).collect();
        assert!(kept.len() > 1_800 && kept.iter().all(|(wet, dry)| wet == dry));
    }

    #[test]
    fn in_calm_weather_every_packet_comes_once_and_in_time() {
        let calm = Weather::calm(Duration::from_millis(1));
        assert!((0..1_000).all(|n| calm.fate(9, n) == Fate::Once(Duration::ZERO)));
    }
}
