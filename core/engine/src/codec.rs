//! The little-endian primitives of our own formats (entries and snapshots): a bounded reader
//! and free functions to write. Nothing is allocated from a declared size; Kafka's wire format
//! has its own reader in `millpond_wire`.

use crate::units::PartitionKey;
use bytes::{Buf, BufMut, Bytes};
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

/// Why bytes of ours could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More was declared than there is.
    #[error("{what}: {needed} bytes are needed and {left} are left; the bytes are damaged")]
    Short {
        /// The field.
        what: &'static str,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that there are.
        left: usize,
    },
    /// A value that we never write.
    #[error("{what} holds {value}, which this version never writes; the bytes are damaged")]
    Impossible {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: i64,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8; the bytes are damaged")]
    NotText {
        /// The field.
        what: &'static str,
    },
    /// Bytes remain after the last field.
    #[error("{what}: {left} bytes remain after the last field; the bytes are damaged")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// Bytes that remain.
        left: usize,
    },
}

/// A bounded reader over shared bytes; slices are not copied.
#[derive(Clone, Debug)]
pub(crate) struct Take {
    bytes: Bytes,
}

macro_rules! ints {
    ($($name:ident: $ty:ty, $get:ident;)*) => {
        $(pub(crate) fn $name(&mut self, what: &'static str) -> Result<$ty, CodecError> {
            self.need(what, size_of::<$ty>())?;
            Ok(self.bytes.$get())
        })*
    };
}

impl Take {
    pub(crate) fn new(bytes: Bytes) -> Take {
        Take { bytes }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    ints! {
        u8: u8, get_u8;
        i16: i16, get_i16_le;
        u16: u16, get_u16_le;
        i32: i32, get_i32_le;
        u32: u32, get_u32_le;
        i64: i64, get_i64_le;
        u64: u64, get_u64_le;
    }

    fn need(&self, what: &'static str, needed: usize) -> Result<(), CodecError> {
        let left = self.bytes.len();
        if left < needed { Err(CodecError::Short { what, needed, left }) } else { Ok(()) }
    }

    pub(crate) fn slice(&mut self, what: &'static str, len: usize) -> Result<Bytes, CodecError> {
        self.need(what, len)?;
        Ok(self.bytes.split_to(len))
    }

    pub(crate) fn rest(&mut self) -> Bytes {
        self.bytes.split_off(0)
    }

    /// A count of elements of at least `min_bytes` each: checked before anything is allocated.
    pub(crate) fn count(
        &mut self,
        what: &'static str,
        min_bytes: usize,
    ) -> Result<usize, CodecError> {
        let count = self.u32(what)? as usize;
        self.need(what, count.saturating_mul(min_bytes.max(1)))?;
        Ok(count)
    }

    /// As [`Take::count`], for a varint.
    pub(crate) fn varint_count(
        &mut self,
        what: &'static str,
        min_bytes: usize,
    ) -> Result<usize, CodecError> {
        let count = self.varint32(what)? as usize;
        self.need(what, count.saturating_mul(min_bytes.max(1)))?;
        Ok(count)
    }

    /// A number of seven bits a byte, the lowest first, as [`put_varint`] writes it and no longer.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            // The tenth byte has room for one bit, and no number ends with a zero but 0 itself.
            if (shift == 63 && byte > 1) || (shift > 0 && byte == 0) {
                return Err(CodecError::Impossible { what, value: byte.into() });
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(CodecError::Impossible { what, value: -1 })
    }

    /// A number of either sign, as [`zigzag`] makes it a varint.
    pub(crate) fn zigzag(&mut self, what: &'static str) -> Result<i64, CodecError> {
        let raw = self.varint(what)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A varint of at most 32 bits.
    pub(crate) fn varint32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        let raw = self.varint(what)?;
        u32::try_from(raw).map_err(|_| CodecError::Impossible { what, value: raw as i64 })
    }

    pub(crate) fn string(&mut self, what: &'static str) -> Result<String, CodecError> {
        let len = self.u32(what)? as usize;
        let bytes = self.slice(what, len)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(CodecError::NotText { what }),
        }
    }

    pub(crate) fn option_string(
        &mut self,
        what: &'static str,
    ) -> Result<Option<String>, CodecError> {
        if self.bool(what)? { self.string(what).map(Some) } else { Ok(None) }
    }

    pub(crate) fn bool(&mut self, what: &'static str) -> Result<bool, CodecError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(CodecError::Impossible { what, value: value.into() }),
        }
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], CodecError> {
        let bytes = self.slice(what, N)?;
        let mut array = [0; N];
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    pub(crate) fn uuid(&mut self, what: &'static str) -> Result<Uuid, CodecError> {
        self.array::<16>(what).map(Uuid)
    }

    pub(crate) fn partition(&mut self) -> Result<PartitionKey, CodecError> {
        Ok(PartitionKey { topic_id: self.uuid("topic id")?, partition: self.i32("partition")? })
    }

    pub(crate) fn strings(
        &mut self,
        what: &'static str,
    ) -> Result<BTreeMap<String, String>, CodecError> {
        let count = self.count(what, 8)?;
        (0..count).map(|_| Ok((self.string(what)?, self.string(what)?))).collect()
    }

    /// As [`put_texts`] writes them.
    pub(crate) fn texts(&mut self, what: &'static str) -> Result<Vec<String>, CodecError> {
        let count = self.count(what, 4)?;
        (0..count).map(|_| self.string(what)).collect()
    }

    /// As [`put_bytes`] writes them; a copy, so as not to keep what was read alive.
    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<Bytes, CodecError> {
        let len = self.u32(what)? as usize;
        Ok(Bytes::copy_from_slice(&self.slice(what, len)?))
    }

    pub(crate) fn end(&self, what: &'static str) -> Result<(), CodecError> {
        match self.left() {
            0 => Ok(()),
            left => Err(CodecError::Trailing { what, left }),
        }
    }
}

pub(crate) fn put_string(out: &mut impl BufMut, text: &str) {
    put_count(out, text.len());
    out.put_slice(text.as_bytes());
}

pub(crate) fn put_option_string(out: &mut impl BufMut, text: Option<&str>) {
    out.put_u8(u8::from(text.is_some()));
    if let Some(text) = text {
        put_string(out, text);
    }
}

pub(crate) fn put_texts<'a>(
    out: &mut impl BufMut,
    texts: impl IntoIterator<Item = &'a String, IntoIter: ExactSizeIterator>,
) {
    let texts = texts.into_iter();
    put_count(out, texts.len());
    for text in texts {
        put_string(out, text);
    }
}

pub(crate) fn put_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

/// Counts and lengths are far below 4 GiB: every one of them is capped where it is made.
pub(crate) fn put_count(out: &mut impl BufMut, count: usize) {
    assert!(count <= u32::MAX as usize, "a count of {count} passed every cap");
    out.put_u32_le(count as u32);
}

/// Seven bits a byte, the lowest first, the highest bit of a byte says that another follows.
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Bytes that [`put_varint`] writes.
pub(crate) const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Small numbers of either sign as small unsigned ones.
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn put_partition(out: &mut impl BufMut, key: &PartitionKey) {
    out.put_slice(&key.topic_id.0);
    out.put_i32_le(key.partition);
}

pub(crate) fn put_strings(out: &mut impl BufMut, map: &BTreeMap<String, String>) {
    put_count(out, map.len());
    for (key, value) in map {
        put_string(out, key);
        put_string(out, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn numbers_of_any_length_come_back() {
        let edges = (0..63).flat_map(|shift| (-2..=2).map(move |near| (1_i64 << shift) + near));
        for value in
            edges.chain([i64::MIN, i64::MAX]).flat_map(|value| [value, -(value.max(-i64::MAX))])
        {
            let mut out = BytesMut::new();
            put_varint(&mut out, zigzag(value));
            assert_eq!(out.len(), varint_len(zigzag(value)));
            put_varint(&mut out, value as u64);
            assert_eq!(out.len(), varint_len(zigzag(value)) + varint_len(value as u64));
            let mut take = Take::new(out.freeze());
            assert_eq!(take.zigzag("n"), Ok(value));
            assert_eq!(take.varint("n"), Ok(value as u64));
            assert_eq!(take.left(), 0);
        }
    }

    #[test]
    fn numbers_that_we_would_not_write_are_refused() {
        for bytes in [&[0x80, 0][..], &[0xFF; 10], &[0xFF; 20], &[0x80], &[]] {
            assert!(Take::new(Bytes::from(bytes)).varint("n").is_err(), "{bytes:?}");
        }
        assert!(
            Take::new(Bytes::from_static(&[0xFF, 0xFF, 0xFF, 0xFF, 0x1F])).varint32("n").is_err()
        );
    }
}
