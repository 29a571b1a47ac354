//! Finds the one flipped bit of bytes whose checksum is wrong. A CRC is linear: the difference of
//! two checksums depends only on where the bytes differ, so one pass from the end tries every bit.
//!
//! It must only be asked about bytes that are known to be damaged, never about a torn write; and
//! what it finds is a good guess: of bytes that are wrong all over, one in 2^32 / bits looks like a
//! single flipped bit. Whoever can check further does.

use crate::fields::crc;

/// The bit that has to be turned back, counted from the first byte's lowest, to give `bytes` the
/// checksum `wanted`; `None` if no single one does.
pub(super) fn flipped_bit(bytes: &[u8], wanted: u32) -> Option<usize> {
    let difference = crc(bytes) ^ wanted;
    // What a flip of each bit of a byte makes of the checksum, when no byte follows.
    let mut effects: [u32; 8] = std::array::from_fn(|bit| TABLE[1 << bit]);
    for at in (0..bytes.len()).rev() {
        if let Some(bit) = effects.iter().position(|effect| *effect == difference) {
            return Some(at * 8 + bit);
        }
        for effect in &mut effects {
            *effect = (*effect >> 8) ^ TABLE[(*effect & 0xFF) as usize];
        }
    }
    None
}

/// Turns a bit over.
pub(super) fn flip(bytes: &mut [u8], bit: usize) {
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

/// Of CRC-32C, one byte at a time.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82F6_3B78 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_flipped_bit_is_found() {
        let bytes: Vec<u8> = (0..300_u32).map(|at| (at * 37) as u8).collect();
        let wanted = crc(&bytes);
        assert_eq!(flipped_bit(&bytes, wanted), None);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            flip(&mut damaged, bit);
            assert_eq!(flipped_bit(&damaged, wanted), Some(bit));
        }
    }

    #[test]
    fn two_flipped_bits_are_not_taken_for_one() {
        let bytes = [0x5A; 200];
        let wanted = crc(&bytes);
        for first in 0..400 {
            for second in (first + 1..bytes.len() * 8).step_by(7) {
                let mut damaged = bytes;
                flip(&mut damaged, first);
                flip(&mut damaged, second);
                assert_eq!(flipped_bit(&damaged, wanted), None, "{first} and {second}");
            }
        }
        assert_eq!(flipped_bit(&[], 1), None);
    }
}
