//! Seeded randomness for tests, so that a failure can be run again. Never seeds itself silently:
//! whoever rolls prints the seed.

/// SplitMix64: tiny, seedable, good enough to choose moments and sizes.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that roll the same way for the same seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The seed in the environment variable `MILLPOND_SEED`, or a fresh one from the clock.
    pub fn seed_from_environment() -> u64 {
        match std::env::var("MILLPOND_SEED") {
            Ok(text) => {
                text.parse().unwrap_or_else(|_| panic!("MILLPOND_SEED={text}: not a number"))
            }
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(1, |since| since.as_nanos() as u64 % 1_000_000_007),
        }
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `low..high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        assert!(low < high, "an empty range {low}..{high}");
        low + self.bits() % (high - low)
    }

    /// `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }

    /// Dice of its own for a part of the test, so that parts do not disturb each other.
    pub fn fork(&mut self) -> Dice {
        Dice(self.bits())
    }
}
