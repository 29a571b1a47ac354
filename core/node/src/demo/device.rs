//! A simulated device: what it measures, how that wanders, and what it sends. Pure: the same seed gives the same
//! readings on every machine. It never sends anything and never reads a clock.

use std::fmt;

/// A reading within this many normal deviations, in thousandths, is one that nobody needs.
pub(crate) const NOTABLE_ABOVE_MILLI: i32 = 2_000;
/// The field that the filter looks at.
pub(crate) const NOTABLE_FIELD: &str = "deviation";

/// How often an excursion begins: once in so many readings.
const EXCURSION_ONE_IN: u64 = 50;
/// An excursion lasts from this many readings ...
const EXCURSION_READINGS_MIN: u64 = 4;
/// ... to fewer than this many more.
const EXCURSION_READINGS_SPREAD: u64 = 9;

/// Readings before the first that is sent, so that some devices are in an excursion from the start.
const WARM_UP_READINGS: usize = 40;

/// What a device measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Temperature,
    Vibration,
    Voltage,
}

/// What is normal for a kind, in thousandths of its unit.
struct Normal {
    name: &'static str,
    unit: &'static str,
    base: i64,
    /// Devices of a kind are set up this differently.
    base_spread: u64,
    deviation: i64,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Temperature, Self::Vibration, Self::Voltage];

    fn normal(self) -> Normal {
        match self {
            Self::Temperature => Normal {
                name: "temperature",
                unit: "C",
                base: 42_000,
                base_spread: 30_000,
                deviation: 1_500,
            },
            Self::Vibration => Normal {
                name: "vibration",
                unit: "mm/s",
                base: 3_000,
                base_spread: 1_500,
                deviation: 300,
            },
            Self::Voltage => Normal {
                name: "voltage",
                unit: "V",
                base: 228_000,
                base_spread: 5_000,
                deviation: 1_200,
            },
        }
    }
}

/// One device with its present state.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    name: String,
    kind: Kind,
    random: Random,
    base_milli: i64,
    /// Where the walk stands, in thousandths of a normal deviation.
    walk_milli: i64,
    excursion: Excursion,
    next_seq: u32,
}

/// Something is wrong with what is measured, for a while.
#[derive(Clone, Copy, Debug, Default)]
struct Excursion {
    readings_left: u64,
    offset_milli: i64,
}

/// What a device measured once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) seq: u32,
    /// As JSON, as it is sent.
    pub(crate) json: String,
    /// Whether it is far enough from normal for somebody to need it; the filter must come to the same verdict.
    pub(crate) is_notable: bool,
}

impl Device {
    /// Device `number` of a fleet.
    pub(crate) fn new(number: usize, seed: u64) -> Self {
        let kind = Kind::ALL[number % Kind::ALL.len()];
        let normal = kind.normal();
        // Fleets with neighbouring seeds share no device.
        let mut random = Random::new(seed.rotate_left(32) ^ number as u64);
        let mut device = Self {
            name: format!("{}-{number:04}", normal.name),
            kind,
            base_milli: normal.base + random.below(normal.base_spread).cast_signed(),
            walk_milli: 0,
            random,
            excursion: Excursion::default(),
            next_seq: 0,
        };
        for _ in 0..WARM_UP_READINGS {
            device.wander();
        }
        device
    }

    /// Its name, which is the key of its records.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Measures once more.
    pub(crate) fn read(&mut self) -> Reading {
        let deviation_milli = self.wander();
        let normal = self.kind.normal();
        let value_milli = (self.base_milli + deviation_milli * normal.deviation / 1000).max(0);
        let seq = self.next_seq;
        self.next_seq += 1;
        Reading {
            seq,
            json: format!(
                "{{\"device\":\"{}\",\"seq\":{seq},\"{}\":{},\"unit\":\"{}\",\"{NOTABLE_FIELD}\":{}}}",
                self.name,
                normal.name,
                Thousandths(value_milli),
                normal.unit,
                Thousandths(deviation_milli)
            ),
            is_notable: deviation_milli.abs() > i64::from(NOTABLE_ABOVE_MILLI),
        }
    }

    /// Goes on by one reading; how far from normal it is now, in thousandths of a normal deviation.
    fn wander(&mut self) -> i64 {
        // A walk that is drawn back to normal stays within two deviations but for rare moments.
        self.walk_milli = self.walk_milli * 7 / 10 + self.random.around_zero(700);
        self.excursion.advance(&mut self.random);
        self.walk_milli + self.excursion.offset_milli
    }
}

impl Excursion {
    fn advance(&mut self, random: &mut Random) {
        match self.readings_left {
            0 if random.below(EXCURSION_ONE_IN) == 0 => {
                let size = 3_500 + random.below(4_000).cast_signed();
                let sign = if random.below(4) == 0 { -1 } else { 1 };
                *self = Self {
                    readings_left: EXCURSION_READINGS_MIN + random.below(EXCURSION_READINGS_SPREAD),
                    offset_milli: sign * size,
                };
            }
            0 => *self = Self::default(),
            _ => self.readings_left -= 1,
        }
    }
}

/// A number of thousandths as a decimal fraction, exactly.
pub(crate) struct Thousandths(pub(crate) i64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let whole = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:03}", whole / 1000, whole % 1000)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough for weather.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `bound - 1`; the bias of the remainder does not matter here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A triangular distribution from `-reach` to `reach`.
    fn around_zero(&mut self, reach: u64) -> i64 {
        self.below(reach + 1).cast_signed() - self.below(reach + 1).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(number: usize, seed: u64, n: usize) -> Vec<Reading> {
        let mut device = Device::new(number, seed);
        (0..n).map(|_| device.read()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_readings_and_another_does_not() {
        assert_eq!(readings(7, 42, 50), readings(7, 42, 50));
        assert_ne!(readings(7, 42, 50), readings(7, 43, 50));
        assert_ne!(readings(7, 42, 50)[0].json, readings(10, 42, 50)[0].json);
    }

    #[test]
    fn from_a_tenth_to_a_fifth_of_all_readings_is_notable() {
        for seed in [1, 42, 1_000_003] {
            let all: Vec<Reading> =
                (0..300).flat_map(|number| readings(number, seed, 60)).collect();
            let notable = all.iter().filter(|reading| reading.is_notable).count();
            let per_mille = notable * 1000 / all.len();
            assert!((100..=200).contains(&per_mille), "seed {seed}: {per_mille} per mille");
        }
    }

    #[test]
    fn the_verdict_is_the_one_that_the_sent_json_gives() {
        for reading in (0..30).flat_map(|number| readings(number, 5, 100)) {
            let json: serde_json::Value = serde_json::from_str(&reading.json).unwrap();
            let deviation = json[NOTABLE_FIELD].as_f64().unwrap();
            assert_eq!(!(-2.0..=2.0).contains(&deviation), reading.is_notable, "{}", reading.json);
            assert_eq!(json["seq"].as_u64().unwrap(), u64::from(reading.seq));
        }
    }

    #[test]
    fn values_stay_where_their_kind_can_be() {
        for (number, key, range) in [
            (0, "temperature", 20.0..=100.0),
            (1, "vibration", 0.0..=10.0),
            (2, "voltage", 200.0..=260.0),
        ] {
            for reading in readings(number, 9, 500) {
                let json: serde_json::Value = serde_json::from_str(&reading.json).unwrap();
                assert!(range.contains(&json[key].as_f64().unwrap()), "{}", reading.json);
            }
        }
    }

    #[test]
    fn thousandths_are_written_exactly() {
        for (n, text) in [(0, "0.000"), (-5, "-0.005"), (12_345, "12.345"), (-2_000, "-2.000")] {
            assert_eq!(Thousandths(n).to_string(), text);
        }
    }
}
