//! Streams of records for the operators' tests: keys, disorder, batches and evictions by a seed.

#![allow(dead_code, reason = "each test file uses a part of it")]

use millpond_sdk::testing::TestRecord;

/// A small generator (xorshift64*), apart from the one that is under test.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What a record says.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) key: String,
    pub(crate) at_ms: i64,
    pub(crate) value: i64,
}

impl Reading {
    pub(crate) fn record(&self) -> TestRecord {
        TestRecord::of(self.value.to_string().as_bytes())
            .key(self.key.as_bytes())
            .timestamp_ms(self.at_ms)
    }
}

/// Batches of readings whose time goes on by `step_ms` on average and falls back by up to
/// `disorder_ms`. The first times are before 1970.
pub(crate) fn batches(
    dice: &mut Dice,
    count: u64,
    step_ms: u64,
    disorder_ms: u64,
) -> Vec<Vec<Reading>> {
    let mut now_ms = -(40 * step_ms as i64);
    let mut reading = |dice: &mut Dice| {
        let step_ms = if dice.one_in(25) { step_ms * 20 } else { step_ms };
        now_ms += dice.below(2 * step_ms + 1) as i64;
        let keys = ["", "a", "b", "bb", "b\0"];
        Reading {
            key: keys[dice.below(keys.len() as u64) as usize].to_string(),
            at_ms: now_ms - dice.below(disorder_ms + 1) as i64,
            value: dice.below(2_000) as i64 - 1_000,
        }
    };
    let batch = |_| {
        let size = dice.below(9);
        (0..size).map(|_| reading(dice)).collect()
    };
    (0..count).map(batch).collect()
}

pub(crate) fn records(batch: &[Reading]) -> Vec<TestRecord> {
    batch.iter().map(Reading::record).collect()
}
