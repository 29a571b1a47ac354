//! The records of a batch, read lazily from a decompressed section. Must never allocate, and
//! never hand out a record of which some length, count, offset or timestamp is a lie.
//!
//! ```text
//!  record   length varint │ attributes i8 │ timestamp delta varlong │ offset delta varint
//!           │ key length varint, key │ value length varint, value      (-1: null)
//!           │ header count varint │ headers
//!  header   key length varint, key │ value length varint, value        (-1: null value)
//! ```
//!
//! Numbers are zigzag. The length counts what follows it.

use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, TimestampType};
use super::varint::Cursor;
use crate::limits;

/// The least bytes of a record: seven fields of one byte.
pub(super) const RECORD_BYTES_MIN: usize = 7;

/// One record, borrowed from its section.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Unused by Kafka so far.
    pub attributes: i8,
    /// ms after the base timestamp of the batch.
    pub timestamp_delta: i64,
    /// The timestamp in ms since 1970; that of the batch if its type is log append time.
    pub timestamp: i64,
    /// Offset after the base offset of the batch.
    pub offset_delta: i32,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// The headers, already checked.
    pub headers: HeaderIter<'a>,
    /// The headers as they stand, their count in front: for copying them unread.
    pub headers_raw: &'a [u8],
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key: UTF-8 by Kafka's rules, which nobody enforces.
    pub key: &'a [u8],
    /// The value, or null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, in order. Cloning it starts anew from the same place.
#[derive(Debug, Clone)]
pub struct HeaderIter<'a> {
    cursor: Cursor<'a>,
    left: u32,
}

impl<'a> HeaderIter<'a> {
    /// No headers.
    #[must_use]
    pub const fn empty() -> Self {
        Self { cursor: Cursor::new(&[]), left: 0 }
    }

    fn read(&mut self) -> Result<Header<'a>, RecordFault> {
        let key = self.cursor.nullable()?.ok_or(RecordFault::BadFieldLength)?;
        Ok(Header { key, value: self.cursor.nullable()? })
    }
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Walked once already when the record was read, so this does not fail.
        self.read().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}

/// The records of one batch. Ends after the first error; the count of the header and the bytes
/// of the section must be used up together.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    cursor: Cursor<'a>,
    next_index: u32,
    count: u32,
    last_delta: i32,
    end_delta: i32,
    base_timestamp: i64,
    append_time: Option<i64>,
    done: bool,
}

impl<'a> RecordIter<'a> {
    /// The records of `section` as `header` describes them.
    #[must_use]
    pub fn new(header: &BatchHeader, section: &'a [u8]) -> Self {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        Self {
            cursor: Cursor::new(section),
            next_index: 0,
            count: u32::try_from(header.records_count).unwrap_or(0),
            last_delta: -1,
            end_delta: header.last_offset_delta,
            base_timestamp: header.base_timestamp,
            append_time,
            done: false,
        }
    }

    /// Reads all that is left; gives the number of records.
    ///
    /// # Errors
    /// The first lie.
    pub fn verify(self) -> Result<u32, BatchError> {
        let mut seen = 0;
        for record in self {
            record?;
            seen += 1;
        }
        Ok(seen)
    }

    fn at_end(&self) -> Option<RecordFault> {
        (!self.cursor.is_empty()).then_some(RecordFault::Uncounted)
    }

    #[inline]
    fn read(&mut self) -> Result<Record<'a>, RecordFault> {
        let length = self.cursor.varint()?;
        let length = usize::try_from(length).map_err(|_| RecordFault::BadLength)?;
        if length < RECORD_BYTES_MIN - 1 {
            return Err(RecordFault::BadLength);
        }
        let mut body = Cursor::new(self.cursor.take(length).map_err(|_| RecordFault::BadLength)?);
        let attributes = body.byte()? as i8;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        if offset_delta <= self.last_delta || offset_delta > self.end_delta {
            return Err(RecordFault::BadOffset);
        }
        self.last_delta = offset_delta;
        let timestamp = match self.append_time {
            Some(time) => time,
            None => {
                self.base_timestamp.checked_add(timestamp_delta).ok_or(RecordFault::BadTimestamp)?
            }
        };
        let key = body.nullable()?;
        let value = body.nullable()?;
        let headers_raw = body.rest();
        let headers = read_headers(body)?;
        Ok(Record {
            attributes,
            timestamp_delta,
            timestamp,
            offset_delta,
            key,
            value,
            headers,
            headers_raw,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let index = self.next_index;
        if index >= self.count {
            self.done = true;
            return self.at_end().map(|fault| Err(BatchError::Record { index, fault }));
        }
        self.next_index += 1;
        let record = self.read();
        Some(record.map_err(|fault| {
            self.done = true;
            BatchError::Record { index, fault }
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The count is the batch's claim, so never a size to allocate; the bytes bound it.
        let left = (self.count - self.next_index.min(self.count)) as usize;
        (0, Some(left.min(self.cursor.rest().len() / RECORD_BYTES_MIN + 1) + 1))
    }
}

/// Walks the headers at the end of a record, which they must fill exactly.
#[inline]
fn read_headers(mut body: Cursor<'_>) -> Result<HeaderIter<'_>, RecordFault> {
    let count = body.varint()?;
    if count == 0 {
        return if body.is_empty() { Ok(HeaderIter::empty()) } else { Err(RecordFault::LeftOver) };
    }
    let left = u32::try_from(count).map_err(|_| RecordFault::BadHeaderCount)?;
    // Two bytes are the least of a header.
    if left as usize > limits::RECORD_HEADERS_MAX || left as usize > body.rest().len() / 2 {
        return Err(RecordFault::BadHeaderCount);
    }
    let headers = HeaderIter { cursor: body, left };
    let mut walk = headers.clone();
    for _ in 0..left {
        walk.read()?;
    }
    if walk.cursor.is_empty() { Ok(headers) } else { Err(RecordFault::LeftOver) }
}

#[cfg(test)]
mod tests {
    use super::super::header::{Attributes, HEADER_BYTES};
    use super::*;

    fn header(count: i32) -> BatchHeader {
        let mut header = BatchHeader::read(&[0; HEADER_BYTES]);
        header.records_count = count;
        header.last_offset_delta = count - 1;
        header.base_timestamp = 1_000;
        header.attributes = Attributes::default();
        header
    }

    fn fault(count: i32, section: &[u8]) -> Option<(u32, RecordFault)> {
        match RecordIter::new(&header(count), section).verify() {
            Ok(_) => None,
            Err(BatchError::Record { index, fault }) => Some((index, fault)),
            Err(other) => panic!("{other}"),
        }
    }

    /// length 7, no attributes, timestamp +1, offset 0, key null, value "v", no headers
    const RECORD: [u8; 8] = [14, 0, 2, 0, 1, 2, b'v', 0];

    fn second(mut record: [u8; 8]) -> [u8; 8] {
        record[3] = 2;
        record
    }

    #[test]
    fn a_record_by_hand_reads_as_written() {
        let mut records = RecordIter::new(&header(1), &RECORD);
        let record = records.next().unwrap().unwrap();
        assert_eq!((record.timestamp, record.timestamp_delta, record.offset_delta), (1_001, 1, 0));
        assert_eq!((record.key, record.value), (None, Some(&b"v"[..])));
        assert_eq!((record.headers.len(), record.headers_raw), (0, &[0][..]));
        assert!(records.next().is_none());
    }

    #[test]
    fn each_lie_of_a_record_has_its_name() {
        let with = |at: usize, byte: u8| {
            let mut record = RECORD;
            record[at] = byte;
            record
        };
        assert_eq!(fault(1, &RECORD), None);
        for cut in 0..RECORD.len() {
            assert!(fault(1, &RECORD[..cut]).is_some(), "{cut}");
        }
        assert_eq!(fault(1, &with(0, 16)), Some((0, RecordFault::BadLength)));
        assert_eq!(fault(1, &with(0, 13)), Some((0, RecordFault::BadLength)));
        assert_eq!(fault(1, &with(0, 10)), Some((0, RecordFault::BadLength)));
        assert_eq!(fault(1, &with(3, 2)), Some((0, RecordFault::BadOffset)));
        assert_eq!(fault(1, &with(3, 1)), Some((0, RecordFault::BadOffset)));
        assert_eq!(fault(1, &with(4, 3)), Some((0, RecordFault::BadFieldLength)));
        assert_eq!(fault(1, &with(4, 8)), Some((0, RecordFault::BadFieldLength)));
        assert_eq!(fault(1, &with(5, 0)), Some((0, RecordFault::BadHeaderCount)));
        assert_eq!(fault(1, &with(7, 2)), Some((0, RecordFault::BadHeaderCount)));
        assert_eq!(fault(1, &with(7, 1)), Some((0, RecordFault::BadHeaderCount)));
        assert_eq!(fault(1, &[16, 0, 2, 0, 1, 2, b'v', 0, 0]), Some((0, RecordFault::LeftOver)));
    }

    #[test]
    fn counts_and_bytes_must_end_together() {
        let two = [RECORD, second(RECORD)].concat();
        assert_eq!(fault(2, &two), None);
        assert_eq!(fault(1, &two), Some((1, RecordFault::Uncounted)));
        assert_eq!(fault(3, &two), Some((2, RecordFault::Truncated)));
        let twice = [RECORD, RECORD].concat();
        assert_eq!(fault(2, &twice), Some((1, RecordFault::BadOffset)));
    }

    #[test]
    fn headers_must_fill_their_record() {
        let record = [24, 0, 0, 0, 1, 1, 2, 2, b'k', 4, b'v', b'v', 0];
        assert_eq!(fault(1, &record), Some((0, RecordFault::LeftOver)));
        let record = [22, 0, 0, 0, 1, 1, 2, 2, b'k', 4, b'v', b'v'];
        assert_eq!(fault(1, &record), None);
        let null_key = [22, 0, 0, 0, 1, 1, 2, 1, b'k', 4, b'v', b'v'];
        assert_eq!(fault(1, &null_key), Some((0, RecordFault::BadFieldLength)));
    }

    #[test]
    fn a_timestamp_that_overflows_is_a_lie() {
        let mut header = header(1);
        header.base_timestamp = i64::MAX;
        assert_eq!(
            RecordIter::new(&header, &RECORD).verify(),
            Err(BatchError::Record { index: 0, fault: RecordFault::BadTimestamp })
        );
    }

    #[test]
    fn nothing_follows_an_error() {
        let mut records = RecordIter::new(&header(2), &[14, 0]);
        assert!(records.next().unwrap().is_err());
        assert!(records.next().is_none());
    }
}
