//! Variable-length zigzag numbers and a bounds-checked cursor over borrowed bytes, for the inside
//! of record batches. Must never index or allocate.

use super::error::RecordFault;

/// What is left to read of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, RecordFault> {
        let (first, rest) = self.rest.split_first().ok_or(RecordFault::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], RecordFault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(RecordFault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A zigzag number of at most 5 bytes.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<i32, RecordFault> {
        let raw = match self.short_unsigned() {
            Some(short) => short,
            None => u32::try_from(self.long_unsigned(5)?).map_err(|_| RecordFault::BadVarint)?,
        };
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A zigzag number of at most 10 bytes.
    #[inline]
    pub(super) fn varlong(&mut self) -> Result<i64, RecordFault> {
        let raw = match self.short_unsigned() {
            Some(short) => u64::from(short),
            None => self.long_unsigned(10)?,
        };
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Numbers of one and two bytes are nearly all there are.
    #[inline]
    fn short_unsigned(&mut self) -> Option<u32> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Some(u32::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.rest = rest;
                Some(u32::from(*first & 0x7f) | u32::from(*second) << 7)
            }
            _ => None,
        }
    }

    #[cold]
    fn long_unsigned(&mut self, max_bytes: u32) -> Result<u64, RecordFault> {
        let mut value = 0_u64;
        for i in 0..max_bytes {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if i == 9 && byte > 1 {
                return Err(RecordFault::BadVarint);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordFault::BadVarint)
    }

    /// Bytes after a zigzag length where -1 stands for null.
    #[inline]
    pub(super) fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordFault> {
        let length = self.varint()?;
        if length < 0 {
            return if length == -1 { Ok(None) } else { Err(RecordFault::BadFieldLength) };
        }
        self.take(length as usize).map(Some).map_err(|_| RecordFault::BadFieldLength)
    }
}

/// Bytes that `value` takes.
#[inline]
pub(super) const fn varlong_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    // Seven bits a byte, one byte at least.
    let bits = 64 - (zigzag | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`. `i32`s are written the same way.
#[inline]
pub(super) fn put_varlong(into: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        into.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_as_written() {
        let mut values = vec![0, i64::MIN, i64::MAX, i64::from(i32::MIN), i64::from(i32::MAX)];
        for shift in 0..63 {
            for near in -2..=2 {
                values.push((1_i64 << shift).wrapping_add(near));
                values.push((1_i64 << shift).wrapping_add(near).wrapping_neg());
            }
        }
        for value in values {
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, value);
            assert_eq!(bytes.len(), varlong_bytes(value), "{value}");
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(cursor.varlong(), Ok(value));
            assert!(cursor.is_empty());
            if let Ok(small) = i32::try_from(value) {
                assert_eq!(Cursor::new(&bytes).varint(), Ok(small));
            }
        }
    }

    #[test]
    fn numbers_that_are_too_long_are_refused() {
        assert_eq!(Cursor::new(&[0xff; 10]).varint(), Err(RecordFault::BadVarint));
        assert_eq!(Cursor::new(&[0xff; 20]).varlong(), Err(RecordFault::BadVarint));
        // 33 bits do not fit an int.
        assert_eq!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).varint(),
            Err(RecordFault::BadVarint)
        );
        assert_eq!(Cursor::new(&[0x80]).varint(), Err(RecordFault::Truncated));
    }

    #[test]
    fn a_length_below_minus_one_is_no_null() {
        assert_eq!(Cursor::new(&[1]).nullable(), Ok(None));
        assert_eq!(Cursor::new(&[3]).nullable(), Err(RecordFault::BadFieldLength));
        assert_eq!(Cursor::new(&[4, 9]).nullable(), Err(RecordFault::BadFieldLength));
        assert_eq!(Cursor::new(&[2, 9]).nullable(), Ok(Some(&[9][..])));
    }
}
