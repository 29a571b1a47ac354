//! The compact binary form of what the operators keep in the state.
//!
//! Numbers that are small most of the time take few bytes; doubles take eight. Every reader gives
//! `None` for what it cannot read: state of another version is never guessed at.

/// Reads from the front.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes }
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    /// A number as [`write_unsigned`] wrote it (LEB128).
    pub fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A number as [`write_signed`] wrote it.
    pub fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A double, every bit of it.
    pub fn double(&mut self) -> Option<f64> {
        let (bytes, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(f64::from_le_bytes(*bytes))
    }

    /// So many bytes.
    pub fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(bytes)?;
        self.bytes = rest;
        Some(taken)
    }
}

/// Appends a number: seven bits a byte, the low ones first.
pub fn write_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number whose sign stands in its lowest bit.
pub fn write_signed(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a double.
pub fn write_double(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Eight bytes whose order as text is the order of the numbers.
pub fn ordered(value: i64) -> [u8; 8] {
    (value ^ i64::MIN).to_be_bytes()
}

/// The number of [`ordered`].
pub fn from_ordered(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [i64; 13] =
        [i64::MIN, i64::MIN + 1, -129, -128, -65, -64, -1, 0, 1, 63, 64, i64::MAX - 1, i64::MAX];

    #[test]
    fn numbers_read_as_they_were_written() {
        let mut out = Vec::new();
        for value in EDGES {
            write_signed(&mut out, value);
            write_unsigned(&mut out, value as u64);
            write_double(&mut out, value as f64);
        }
        let mut reader = Reader::new(&out);
        for value in EDGES {
            assert_eq!(reader.signed(), Some(value));
            assert_eq!(reader.unsigned(), Some(value as u64));
            assert_eq!(reader.double(), Some(value as f64));
        }
        assert!(reader.is_empty());
        for end in 0..8 {
            assert_eq!(Reader::new(&out[..end.min(9)]).double(), None);
        }
    }

    #[test]
    fn what_is_cut_or_too_long_is_refused() {
        assert_eq!(Reader::new(&[0x80]).unsigned(), None);
        assert_eq!(Reader::new(&[0xff; 11]).unsigned(), None);
        assert_eq!(
            Reader::new(&[0xff, 255, 255, 255, 255, 255, 255, 255, 255, 2]).unsigned(),
            None
        );
        assert_eq!(Reader::new(b"abc").take(4), None);
    }

    #[test]
    fn the_order_of_the_bytes_is_that_of_the_numbers() {
        let bytes: Vec<_> = EDGES.iter().map(|value| ordered(*value)).collect();
        assert!(bytes.is_sorted());
        assert!(EDGES.iter().all(|value| from_ordered(ordered(*value)) == *value));
    }
}
