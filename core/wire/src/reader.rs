//! A bounded cursor over the bytes of a peer. Must never panic, and never allocate from a declared size: counts are
//! checked against the bytes that are left, and all memory counts against a budget that follows from the bytes
//! received.

use std::mem::size_of;

use bytes::Bytes;

use crate::limits;
use crate::rope::Records;
use crate::uuid::Uuid;

/// Why bytes could not be read. Positions are counted from the start of the reader's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{wanted} bytes wanted at byte {at}, {left} left")]
    Truncated {
        /// Position of the value.
        at: usize,
        /// Bytes that it needs.
        wanted: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A length below zero where null is not allowed (or below -1).
    #[error("length {length} at byte {at} is negative")]
    NegativeLength {
        /// Position after the length.
        at: usize,
        /// What was declared.
        length: i64,
    },
    /// A null where this version has none.
    #[error("null at byte {at} where the version allows none")]
    UnexpectedNull {
        /// Position after the length.
        at: usize,
    },
    /// More elements declared than the bytes left can hold.
    #[error(
        "{count} elements declared at byte {at}: at most {most} are taken from the {left} bytes left"
    )]
    CountTooLarge {
        /// Position after the count.
        at: usize,
        /// What was declared.
        count: usize,
        /// Bytes left.
        left: usize,
        /// Elements that could be there.
        most: usize,
    },
    /// A string longer than Kafka allows.
    #[error("a string of {length} bytes at byte {at}: the protocol allows 32767")]
    StringTooLong {
        /// Position after the length.
        at: usize,
        /// What was declared.
        length: usize,
    },
    /// A string that is not UTF-8.
    #[error("the string at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Position of the first byte of the string.
        at: usize,
    },
    /// A variable-length number with too many bytes.
    #[error("the variable-length number that ends at byte {at} is too long")]
    VarintTooLong {
        /// Position where reading stopped.
        at: usize,
    },
    /// A tagged field whose content is shorter than its declared size.
    #[error("tagged field {tag} leaves {left} bytes of its declared size unread, before byte {at}")]
    TagSize {
        /// Where the tagged field ends.
        at: usize,
        /// Which field.
        tag: u32,
        /// Bytes over.
        left: usize,
    },
    /// Decoding would take more memory than the size of the input justifies.
    #[error(
        "decoding takes more memory than {budget} bytes, the most for an input of {input} bytes"
    )]
    MemoryBudget {
        /// The budget, in bytes.
        budget: usize,
        /// The size of the input, in bytes.
        input: usize,
    },
    /// A version that is not served.
    #[error("version {version} of {api} is not served")]
    UnsupportedVersion {
        /// Which API.
        api: crate::api::ApiKey,
        /// Which version.
        version: i16,
    },
}

/// Vectors start with at most this many bytes, and then grow with what was decoded.
const VEC_BYTES_START: usize = 1024;

/// The cursor. Byte fields are slices of the input, everything else is copied out.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    end: usize,
    /// Memory that may still be taken, in bytes.
    budget: usize,
}

impl Reader {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        let budget = memory_budget_bytes(bytes.len());
        Self { at: 0, end: bytes.len(), budget, bytes }
    }

    /// Position, in bytes from the start.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Bytes left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.end.saturating_sub(self.at)
    }

    /// Whether no bytes are left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Counts memory against the budget. Everything decoded that is not a slice of the input is counted here.
    ///
    /// # Errors
    /// [`DecodeError::MemoryBudget`] when it is used up.
    pub fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => {
                let input = self.bytes.len();
                Err(DecodeError::MemoryBudget { budget: memory_budget_bytes(input), input })
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&[u8], DecodeError> {
        let truncated =
            DecodeError::Truncated { at: self.at, wanted: count, left: self.remaining() };
        if count > self.remaining() {
            return Err(truncated);
        }
        let start = self.at;
        self.at += count;
        self.bytes.get(start..self.at).ok_or(truncated)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut fixed = [0; N];
        fixed.copy_from_slice(self.take(N)?);
        Ok(fixed)
    }

    /// The next `count` bytes, as a slice of the input.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn slice(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        let start = self.at;
        self.take(count)?;
        Ok(self.bytes.slice(start..self.at))
    }

    /// All bytes that are left, as a slice of the input.
    #[must_use]
    pub fn rest(&mut self) -> Bytes {
        let start = self.at.min(self.end);
        self.at = self.end;
        self.bytes.slice(start..self.end)
    }

    /// An unsigned byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    /// A signed byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.fixed().map(i8::from_be_bytes)
    }

    /// A boolean: any byte but 0 is true.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        self.u8().map(|byte| byte != 0)
    }

    /// A 16-bit number, big endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// A 16-bit number without sign, big endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.fixed().map(u16::from_be_bytes)
    }

    /// A 32-bit number, big endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// A 32-bit number without sign, big endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// A 64-bit number, big endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// A 64-bit number without sign, big endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// A floating-point number, big endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.fixed().map(f64::from_be_bytes)
    }

    /// A UUID.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.fixed().map(Uuid)
    }

    /// A number of up to 32 bits without sign, seven bits to a byte, lowest first.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::VarintTooLong`].
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let value = self.uvarlong_of(5)?;
        u32::try_from(value).map_err(|_| DecodeError::VarintTooLong { at: self.at })
    }

    /// A number of up to 64 bits without sign, seven bits to a byte, lowest first.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::VarintTooLong`].
    pub fn uvarlong(&mut self) -> Result<u64, DecodeError> {
        self.uvarlong_of(10)
    }

    fn uvarlong_of(&mut self, bytes_max: u32) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for index in 0..bytes_max {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if index == 9 && part > 1 {
                break;
            }
            value |= part << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong { at: self.at })
    }

    /// A zigzag number of up to 32 bits.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::VarintTooLong`].
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        self.uvarint().map(|zigzag| (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
    }

    /// A zigzag number of up to 64 bits.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::VarintTooLong`].
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        self.uvarlong().map(|zigzag| (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// The length of something: `None` is null. `wide`: 32 bits if not flexible, else 16.
    fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            let length_plus_one = self.uvarint()?;
            // A usize has at least 32 bits on every target.
            return Ok(length_plus_one.checked_sub(1).map(|length| length as usize));
        }
        let length = if wide { self.i32()? } else { i32::from(self.i16()?) };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeError::NegativeLength { at: self.at, length: i64::from(length) }),
        }
    }

    /// A string that may be null.
    ///
    /// # Errors
    /// Lengths that lie, strings over [`limits::STRING_BYTES_MAX`], bytes that are not UTF-8.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<String>, DecodeError> {
        let Some(length) = self.length(flexible, false)? else {
            return Ok(None);
        };
        let at = self.at;
        if length > limits::STRING_BYTES_MAX {
            return Err(DecodeError::StringTooLong { at, length });
        }
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8 { at })?.to_owned();
        self.charge(length)?;
        Ok(Some(text))
    }

    /// A string.
    ///
    /// # Errors
    /// As for [`Reader::nullable_string`], and [`DecodeError::UnexpectedNull`].
    pub fn string(&mut self, flexible: bool) -> Result<String, DecodeError> {
        let text = self.nullable_string(flexible)?;
        text.ok_or(DecodeError::UnexpectedNull { at: self.at })
    }

    /// Bytes that may be null: a slice of the input.
    ///
    /// # Errors
    /// Lengths that lie.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.length(flexible, true)? {
            Some(length) => self.slice(length).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes: a slice of the input.
    ///
    /// # Errors
    /// Lengths that lie, null.
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        let bytes = self.nullable_bytes(flexible)?;
        bytes.ok_or(DecodeError::UnexpectedNull { at: self.at })
    }

    /// Record batches that may be null: a slice of the input.
    ///
    /// # Errors
    /// Lengths that lie.
    pub fn nullable_records(&mut self, flexible: bool) -> Result<Option<Records>, DecodeError> {
        let records = self.nullable_bytes(flexible)?;
        if records.is_some() {
            self.charge(size_of::<Bytes>())?;
        }
        Ok(records.map(Records::from))
    }

    /// Record batches: a slice of the input.
    ///
    /// # Errors
    /// Lengths that lie, null.
    pub fn records(&mut self, flexible: bool) -> Result<Records, DecodeError> {
        let records = self.nullable_records(flexible)?;
        records.ok_or(DecodeError::UnexpectedNull { at: self.at })
    }

    /// The number of elements of an array that may be null, checked against the bytes that are left: each element
    /// takes at least `element_min_bytes`.
    ///
    /// # Errors
    /// [`DecodeError::CountTooLarge`] and lengths below -1.
    pub fn nullable_array_len(
        &mut self,
        flexible: bool,
        element_min_bytes: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(flexible, true)? else {
            return Ok(None);
        };
        let left = self.remaining();
        let most = (left / element_min_bytes.max(1)).min(limits::ARRAY_ELEMENTS_MAX);
        if count > most {
            return Err(DecodeError::CountTooLarge { at: self.at, count, left, most });
        }
        Ok(Some(count))
    }

    /// The number of elements of an array, see [`Reader::nullable_array_len`].
    ///
    /// # Errors
    /// As there, and [`DecodeError::UnexpectedNull`].
    pub fn array_len(
        &mut self,
        flexible: bool,
        element_min_bytes: usize,
    ) -> Result<usize, DecodeError> {
        let count = self.nullable_array_len(flexible, element_min_bytes)?;
        count.ok_or(DecodeError::UnexpectedNull { at: self.at })
    }

    /// An array that may be null. The vector grows with the elements that were really there, and its memory counts
    /// against the budget before it is taken.
    ///
    /// # Errors
    /// A count that lies, the budget, and whatever `element` says.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        element_min_bytes: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.nullable_array_len(flexible, element_min_bytes)? else {
            return Ok(None);
        };
        let element_bytes = size_of::<T>().max(1);
        let mut elements = Vec::new();
        for done in 0..count {
            if done == elements.capacity() {
                let start = (VEC_BYTES_START / element_bytes).max(1);
                let more = done.max(start).min(count - done);
                self.charge(more.saturating_mul(element_bytes))?;
                elements.reserve_exact(more);
            }
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// An array, see [`Reader::nullable_array`].
    ///
    /// # Errors
    /// As there, and [`DecodeError::UnexpectedNull`].
    pub fn array<T>(
        &mut self,
        flexible: bool,
        element_min_bytes: usize,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let elements = self.nullable_array(flexible, element_min_bytes, element)?;
        elements.ok_or(DecodeError::UnexpectedNull { at: self.at })
    }

    /// The tagged fields at the end of a structure (KIP-482). `known` reads the field of a tag and says whether it
    /// knows it; unknown fields are skipped.
    ///
    /// # Errors
    /// Sizes and counts that lie, and whatever `known` says.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.uvarint()? as usize;
        let left = self.remaining();
        // A tag and a size take a byte each.
        let most = (left / 2).min(limits::TAGGED_FIELDS_MAX);
        if count > most {
            return Err(DecodeError::CountTooLarge { at: self.at, count, left, most });
        }
        for _ in 0..count {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            if size > self.remaining() {
                return Err(DecodeError::Truncated {
                    at: self.at,
                    wanted: size,
                    left: self.remaining(),
                });
            }
            let end_outer = std::mem::replace(&mut self.end, self.at + size);
            let outcome = known(self, tag);
            let end_inner = std::mem::replace(&mut self.end, end_outer);
            if outcome? {
                let left = end_inner.saturating_sub(self.at);
                if left > 0 {
                    return Err(DecodeError::TagSize { at: end_inner, tag, left });
                }
            }
            self.at = end_inner;
        }
        Ok(())
    }

    /// Skips the tagged fields at the end of a structure, all being unknown.
    ///
    /// # Errors
    /// Sizes and counts that lie.
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(false))
    }
}

/// The most memory that decoding an input of this size may take, in bytes, beyond the input itself.
#[must_use]
pub const fn memory_budget_bytes(input_bytes: usize) -> usize {
    limits::DECODE_MEMORY_BYTES_BASE
        .saturating_add(input_bytes.saturating_mul(limits::DECODE_MEMORY_BYTES_PER_INPUT_BYTE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes))
    }

    #[test]
    fn null_is_told_from_empty_and_from_nonsense() {
        assert_eq!(reader(&[0xff, 0xff]).nullable_string(false), Ok(None));
        assert_eq!(reader(&[0, 0]).nullable_string(false), Ok(Some(String::new())));
        assert_eq!(reader(&[0]).nullable_string(true), Ok(None));
        assert_eq!(reader(&[1]).nullable_string(true), Ok(Some(String::new())));
        assert_eq!(reader(&[0xff, 0xff]).string(false), Err(DecodeError::UnexpectedNull { at: 2 }));
        let below = DecodeError::NegativeLength { at: 2, length: -2 };
        assert_eq!(reader(&[0xff, 0xfe]).nullable_string(false), Err(below));
        assert_eq!(reader(&[0xff; 4]).nullable_bytes(false), Ok(None));
        assert_eq!(reader(&[0xff; 4]).nullable_array_len(false, 1), Ok(None));
    }

    #[test]
    fn a_length_past_the_end_is_an_error() {
        let outcome = reader(&[0, 3, b'a', b'b']).string(false);
        assert_eq!(outcome, Err(DecodeError::Truncated { at: 2, wanted: 3, left: 2 }));
        let outcome = reader(&[0x7f, 0xff, 0xff, 0xff, 1]).bytes(false);
        assert_eq!(
            outcome,
            Err(DecodeError::Truncated { at: 4, wanted: i32::MAX as usize, left: 1 })
        );
    }

    #[test]
    fn strings_are_checked_for_utf8_and_for_length() {
        assert_eq!(reader(&[3, 0xc3, 0x28]).string(true), Err(DecodeError::NotUtf8 { at: 1 }));
        let long = Bytes::from(vec![b'a'; 40_000]);
        let compact = [&[0x81, 0x80, 0x02][..], &long].concat();
        let outcome = Reader::new(Bytes::from(compact)).string(true);
        assert_eq!(outcome, Err(DecodeError::StringTooLong { at: 3, length: 32_768 }));
    }

    #[test]
    fn a_count_is_checked_against_the_bytes_left_and_the_least_size_of_an_element() {
        assert_eq!(reader(&[0, 0, 0, 2, 1, 2, 3, 4]).array_len(false, 2), Ok(2));
        let outcome = reader(&[0, 0, 0, 3, 1, 2, 3, 4]).array_len(false, 2);
        assert_eq!(outcome, Err(DecodeError::CountTooLarge { at: 4, count: 3, left: 4, most: 2 }));
    }

    #[test]
    fn bytes_are_slices_of_the_input() {
        let input = Bytes::from(vec![3, 7, 8, 9]);
        let mut reader = Reader::new(input.clone());
        let bytes = reader.bytes(true).expect("two bytes");
        assert_eq!(bytes.as_ptr(), input[1..].as_ptr());
        assert_eq!(reader.rest(), input.slice(3..));
        assert!(reader.is_empty());
    }

    #[test]
    fn memory_is_refused_when_the_budget_is_used_up() {
        let mut reader = reader(&[0; 10]);
        let budget = memory_budget_bytes(10);
        assert_eq!(reader.charge(budget), Ok(()));
        assert_eq!(reader.charge(1), Err(DecodeError::MemoryBudget { budget, input: 10 }));
    }
}
