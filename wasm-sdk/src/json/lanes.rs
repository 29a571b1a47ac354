//! Several bytes compared at once: sixteen where WebAssembly has vectors, else eight in a word.
//!
//! Loads are checked against the slice; nothing is read past it.

pub(super) use width::Lanes;

/// Which of the bytes were equal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hits(u64);

impl Hits {
    /// The first of them, counted from the first byte that was loaded.
    #[inline(always)]
    pub(super) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize / width::BITS_A_BYTE)
    }

    #[inline(always)]
    pub(super) fn without_first(self) -> Self {
        Hits(self.0 & (self.0 - 1))
    }

    #[inline(always)]
    pub(super) fn and(self, other: Self) -> Self {
        Hits(self.0 & other.0)
    }

    #[inline(always)]
    pub(super) fn or(self, other: Self) -> Self {
        Hits(self.0 | other.0)
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod width {
    use super::Hits;
    use core::arch::wasm32::{u8x16_bitmask, u8x16_eq, u8x16_splat, v128, v128_load, v128_or};

    pub(super) const BITS_A_BYTE: usize = 1;

    #[derive(Debug, Clone, Copy)]
    pub(in crate::json) struct Lanes(v128);

    impl Lanes {
        pub(in crate::json) const BYTES: usize = 16;

        #[inline(always)]
        pub(in crate::json) fn splat(byte: u8) -> Self {
            Lanes(u8x16_splat(byte))
        }

        #[inline(always)]
        #[allow(unsafe_code)]
        pub(in crate::json) fn load(bytes: &[u8], at: usize) -> Option<Self> {
            let chunk: &[u8; 16] = bytes.get(at..)?.first_chunk()?;
            // SAFETY: the chunk has 16 bytes, and the load needs no alignment.
            Some(Lanes(unsafe { v128_load(chunk.as_ptr().cast()) }))
        }

        #[inline(always)]
        pub(in crate::json) fn or(self, other: Self) -> Self {
            Lanes(v128_or(self.0, other.0))
        }

        #[inline(always)]
        pub(in crate::json) fn equal(self, other: Self) -> Hits {
            Hits(u64::from(u8x16_bitmask(u8x16_eq(self.0, other.0))))
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod width {
    use super::Hits;

    pub(super) const BITS_A_BYTE: usize = 8;

    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;

    #[derive(Debug, Clone, Copy)]
    pub(in crate::json) struct Lanes(u64);

    impl Lanes {
        pub(in crate::json) const BYTES: usize = 8;

        #[inline(always)]
        pub(in crate::json) fn splat(byte: u8) -> Self {
            Lanes(LOW * u64::from(byte))
        }

        #[inline(always)]
        pub(in crate::json) fn load(bytes: &[u8], at: usize) -> Option<Self> {
            Some(Lanes(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)))
        }

        #[inline(always)]
        pub(in crate::json) fn or(self, other: Self) -> Self {
            Lanes(self.0 | other.0)
        }

        /// The high bit of each byte that is the same, exactly.
        #[inline(always)]
        pub(in crate::json) fn equal(self, other: Self) -> Hits {
            let word = self.0 ^ other.0;
            Hits(!(((word & !HIGH) + !HIGH) | word | !HIGH))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_that_is_equal_is_found_and_no_other() {
        let text = b"a\"b\x80\xff\"\"\0{[";
        for at in 0..text.len() {
            for byte in 0..=255 {
                let Some(lanes) = Lanes::load(text, at) else {
                    assert!(at + Lanes::BYTES > text.len());
                    continue;
                };
                let mut hits = lanes.equal(Lanes::splat(byte));
                let mut found = Vec::new();
                while let Some(first) = hits.first() {
                    found.push(first);
                    hits = hits.without_first();
                }
                let part = text[at..].iter().take(Lanes::BYTES).enumerate();
                let expected: Vec<_> =
                    part.filter(|(_, found)| **found == byte).map(|(index, _)| index).collect();
                assert_eq!(found, expected);
            }
        }
    }
}
