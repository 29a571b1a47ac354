//! Builds an encoded message. Must never copy large byte fields: they are kept by reference, and the result is a
//! rope for a vectored write.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits;
use crate::rope::Records;
use crate::uuid::Uuid;

/// Why a message could not be framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The 32-bit length before a frame cannot say it.
    #[error("a message of {bytes} bytes does not fit a frame: split the response")]
    FrameTooLarge {
        /// Size without the length prefix.
        bytes: usize,
    },
}

/// Collects the encoding. Values cannot fail: what the protocol has no way to say is cut to what it has (a string
/// over 32767 bytes is cut at a character).
#[derive(Debug, Default)]
pub struct Writer {
    /// Everything that was copied, in one piece.
    own: BytesMut,
    /// What is kept by reference, each with its place in `own`, in order.
    referenced: Vec<(usize, Bytes)>,
    referenced_bytes: usize,
    framed: bool,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer with room left in front for the length prefix of a frame, to be finished with
    /// [`Writer::finish_frame`].
    #[must_use]
    pub fn framed() -> Self {
        let mut own = BytesMut::with_capacity(256);
        own.put_i32(0);
        Self { own, framed: true, ..Self::default() }
    }

    /// Bytes written so far, the length prefix included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len().saturating_add(self.referenced_bytes)
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The encoding as a rope.
    #[must_use]
    pub fn finish(self) -> Vec<Bytes> {
        let mut own = self.own.freeze();
        let mut rope = Vec::with_capacity(self.referenced.len() * 2 + 1);
        let mut done = 0;
        for (place, bytes) in self.referenced {
            let before = own.split_to(place.saturating_sub(done).min(own.len()));
            done = place;
            if !before.is_empty() {
                rope.push(before);
            }
            rope.push(bytes);
        }
        if !own.is_empty() {
            rope.push(own);
        }
        rope
    }

    /// The encoding as a rope, its length before it (4 bytes, big endian). For writers from [`Writer::framed`].
    ///
    /// # Errors
    /// [`EncodeError::FrameTooLarge`] over 2 GiB.
    pub fn finish_frame(mut self) -> Result<Vec<Bytes>, EncodeError> {
        debug_assert!(self.framed, "a frame starts with Writer::framed");
        let bytes = self.len().saturating_sub(4);
        let length = i32::try_from(bytes).map_err(|_| EncodeError::FrameTooLarge { bytes })?;
        if let Some(prefix) = self.own.get_mut(..4) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
        Ok(self.finish())
    }

    /// The encoding in one piece; copies if anything is kept by reference.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Records::from_iter(self.finish()).to_bytes()
    }

    /// A byte without sign.
    pub fn u8(&mut self, value: u8) {
        self.own.put_u8(value);
    }

    /// A byte with sign.
    pub fn i8(&mut self, value: i8) {
        self.own.put_i8(value);
    }

    /// A boolean: 1 or 0.
    pub fn bool(&mut self, value: bool) {
        self.own.put_u8(u8::from(value));
    }

    /// A 16-bit number, big endian.
    pub fn i16(&mut self, value: i16) {
        self.own.put_i16(value);
    }

    /// A 16-bit number without sign, big endian.
    pub fn u16(&mut self, value: u16) {
        self.own.put_u16(value);
    }

    /// A 32-bit number, big endian.
    pub fn i32(&mut self, value: i32) {
        self.own.put_i32(value);
    }

    /// A 32-bit number without sign, big endian.
    pub fn u32(&mut self, value: u32) {
        self.own.put_u32(value);
    }

    /// A 64-bit number, big endian.
    pub fn i64(&mut self, value: i64) {
        self.own.put_i64(value);
    }

    /// A 64-bit number without sign, big endian.
    pub fn u64(&mut self, value: u64) {
        self.own.put_u64(value);
    }

    /// A floating-point number, big endian.
    pub fn f64(&mut self, value: f64) {
        self.own.put_f64(value);
    }

    /// A UUID.
    pub fn uuid(&mut self, value: Uuid) {
        self.own.put_slice(value.as_bytes());
    }

    /// A number without sign, seven bits to a byte, lowest first.
    pub fn uvarint(&mut self, value: u32) {
        self.uvarlong(u64::from(value));
    }

    /// A number without sign of up to 64 bits, seven bits to a byte, lowest first.
    pub fn uvarlong(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.own.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.own.put_u8(value as u8);
    }

    /// A zigzag number of 32 bits.
    pub fn varint(&mut self, value: i32) {
        self.uvarint(((value << 1) ^ (value >> 31)) as u32);
    }

    /// A zigzag number of 64 bits.
    pub fn varlong(&mut self, value: i64) {
        self.uvarlong(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Raw bytes, copied if small and referenced if large, without a length.
    pub fn raw(&mut self, bytes: &Bytes) {
        if bytes.len() < limits::ENCODE_COPY_BELOW_BYTES {
            self.own.put_slice(bytes);
        } else {
            self.referenced.push((self.own.len(), bytes.clone()));
            self.referenced_bytes = self.referenced_bytes.saturating_add(bytes.len());
        }
    }

    /// The length before something; `None` is null. `wide`: 32 bits if not flexible, else 16.
    fn length(&mut self, flexible: bool, wide: bool, length: Option<usize>) {
        match (flexible, wide, length) {
            (true, _, None) => self.uvarint(0),
            // A message of 4 GiB fails when it is framed.
            (true, _, Some(length)) => {
                self.uvarint(u32::try_from(length).map_or(u32::MAX, |l| l.saturating_add(1)))
            }
            (false, true, None) => self.i32(-1),
            (false, true, Some(length)) => self.i32(i32::try_from(length).unwrap_or(i32::MAX)),
            (false, false, None) => self.i16(-1),
            (false, false, Some(length)) => self.i16(i16::try_from(length).unwrap_or(i16::MAX)),
        }
    }

    /// A string; over 32767 bytes it is cut at a character.
    pub fn string(&mut self, flexible: bool, text: &str) {
        self.nullable_string(flexible, Some(text));
    }

    /// A string that may be null; over 32767 bytes it is cut at a character.
    pub fn nullable_string(&mut self, flexible: bool, text: Option<&str>) {
        let text = text.map(cut_to_protocol);
        self.length(flexible, false, text.map(str::len));
        self.own.put_slice(text.unwrap_or_default().as_bytes());
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, flexible: bool, bytes: &Bytes) {
        self.length(flexible, true, Some(bytes.len()));
        self.raw(bytes);
    }

    /// Bytes with their length, or null.
    pub fn nullable_bytes(&mut self, flexible: bool, bytes: Option<&Bytes>) {
        match bytes {
            Some(bytes) => self.bytes(flexible, bytes),
            None => self.length(flexible, true, None),
        }
    }

    /// Record batches with their length.
    pub fn records(&mut self, flexible: bool, records: &Records) {
        self.length(flexible, true, Some(records.size_bytes()));
        for chunk in records.chunks() {
            self.raw(chunk);
        }
    }

    /// Record batches with their length, or null.
    pub fn nullable_records(&mut self, flexible: bool, records: Option<&Records>) {
        match records {
            Some(records) => self.records(flexible, records),
            None => self.length(flexible, true, None),
        }
    }

    /// An array with its count.
    pub fn array<T>(&mut self, flexible: bool, elements: &[T], element: impl FnMut(&mut Self, &T)) {
        self.nullable_array(flexible, Some(elements), element);
    }

    /// An array with its count, or null.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        elements: Option<&[T]>,
        mut element: impl FnMut(&mut Self, &T),
    ) {
        self.length(flexible, true, elements.map(<[T]>::len));
        for one in elements.unwrap_or_default() {
            element(self, one);
        }
    }

    /// One tagged field: its tag, its size, its content. The number of tagged fields stands before the first one.
    pub fn tagged_field(&mut self, tag: u32, content: impl FnOnce(&mut Self)) {
        let mut inner = Self::new();
        content(&mut inner);
        self.uvarint(tag);
        self.uvarint(u32::try_from(inner.len()).unwrap_or(u32::MAX));
        for chunk in inner.finish() {
            self.raw(&chunk);
        }
    }

    /// The end of a flexible structure that has no tagged fields.
    pub fn no_tagged_fields(&mut self) {
        self.uvarint(0);
    }
}

/// The longest start of a text that the protocol can carry.
fn cut_to_protocol(text: &str) -> &str {
    text.get(..text.floor_char_boundary(limits::STRING_BYTES_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{DecodeError, Reader};

    #[test]
    fn variable_length_numbers_come_back() {
        for value in [0, 1, -1, 63, -64, 64, 127, 128, 300, i32::MAX, i32::MIN] {
            let mut writer = Writer::new();
            writer.varint(value);
            writer.varlong(i64::from(value) << 31);
            writer.uvarint(value as u32);
            let mut reader = Reader::new(writer.into_bytes());
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.varlong(), Ok(i64::from(value) << 31));
            assert_eq!(reader.uvarint(), Ok(value as u32));
            assert!(reader.is_empty());
        }
        for value in [i64::MIN, i64::MAX] {
            let mut writer = Writer::new();
            writer.varlong(value);
            assert_eq!(writer.len(), 10);
            assert_eq!(Reader::new(writer.into_bytes()).varlong(), Ok(value));
        }
    }

    #[test]
    fn overlong_variable_length_numbers_are_refused() {
        let too_long = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x1f]);
        assert_eq!(Reader::new(too_long).uvarint(), Err(DecodeError::VarintTooLong { at: 5 }));
        let endless = Bytes::from_static(&[0x80; 16]);
        assert_eq!(
            Reader::new(endless.clone()).uvarint(),
            Err(DecodeError::VarintTooLong { at: 5 })
        );
        assert_eq!(Reader::new(endless).uvarlong(), Err(DecodeError::VarintTooLong { at: 10 }));
    }

    #[test]
    fn large_bytes_are_referenced_and_small_ones_copied() {
        let large = Bytes::from(vec![1_u8; limits::ENCODE_COPY_BELOW_BYTES]);
        let small = Bytes::from_static(b"small");
        let mut writer = Writer::framed();
        writer.bytes(false, &small);
        writer.bytes(true, &large);
        writer.i8(9);
        let total = writer.len();
        let rope = writer.finish_frame().expect("fits");
        assert_eq!(rope.len(), 3);
        assert_eq!(rope[1].as_ptr(), large.as_ptr());
        assert_eq!(rope.iter().map(Bytes::len).sum::<usize>(), total);
        assert_eq!(rope[0][..4], (total as i32 - 4).to_be_bytes());
        assert_eq!(rope[2][..], [9]);
    }

    #[test]
    fn a_string_that_is_too_long_is_cut_at_a_character() {
        let text = "é".repeat(20_000);
        let mut writer = Writer::new();
        writer.string(false, &text);
        let back = Reader::new(writer.into_bytes()).string(false).expect("fits the protocol");
        assert_eq!(back.len(), 32_766);
        assert!(text.starts_with(&back));
    }

    #[test]
    fn a_tagged_field_carries_its_size() {
        let mut writer = Writer::new();
        writer.uvarint(1);
        writer.tagged_field(3, |inner| inner.i64(-1));
        assert_eq!(writer.into_bytes()[..], [1, 3, 8, 255, 255, 255, 255, 255, 255, 255, 255]);
    }
}
