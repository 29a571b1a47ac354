//! A small seeded generator (xoshiro256**, seeded by splitmix64). Same seed, same numbers, on every
//! platform. Must never be used where an attacker must not guess: ids only have to be distinct.

/// The engine's only source of randomness.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: [u64; 4],
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        let mut next = seed;
        Rng { state: std::array::from_fn(|_| splitmix(&mut next)) }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    pub(crate) fn bytes16(&mut self) -> [u8; 16] {
        let wide = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
        wide.to_be_bytes()
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
