//! Random numbers that come out the same each time the same record is run.
//!
//! Not for secrets. Seeded from the partition and the record's input number by the host.

/// A small generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64, input_number: u64, ordinal: u32) -> Self {
        let mut random = Random { state: seed ^ input_number.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        random.state = random.next_u64() ^ u64::from(ordinal);
        random
    }

    /// Any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0.0 to below 1.0, for sampling: `if record.random().next_f64() < 0.1 { .. }`.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
