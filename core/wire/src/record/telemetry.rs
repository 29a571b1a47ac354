//! Telemetry that nobody waits for, many records to a datagram: the compact form that a device sends
//! in a QUIC datagram (RFC 9221) instead of a produce request. Must never allocate for what a
//! datagram claims, and never give a record of one that is malformed at its end.
//!
//! ```text
//! datagram  version u8 = 1, number, section, section, ...
//! section   topic id 16 bytes, partition, base timestamp in ms since 1970, count, record * count
//! record    timestamp - base timestamp, key, value
//! ```
//! Numbers are zigzag varints as in record batches; key and value have their length before them, -1
//! for null. `number` rises by one with each datagram of a connection: gaps are what was lost.

use super::error::RecordFault;
use super::varint::{Cursor, put_varlong, varlong_bytes};
use crate::Uuid;

/// The only version there is.
const VERSION: u8 = 1;
const TOPIC_ID_BYTES: usize = 16;
/// What a timestamp, a partition, a count and a topic id can take.
const SECTION_HEAD_BYTES_MAX: usize = TOPIC_ID_BYTES + 5 + 10 + 5;

/// Why a datagram is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// Of a version that is not known, or empty.
    #[error("version {0:?} of telemetry datagrams is not known")]
    Version(Option<u8>),
    /// Its number is below 0.
    #[error("its number is below 0")]
    Number,
    /// A section without records, or for a partition below 0.
    #[error("a section has no records, or a partition below 0")]
    Section,
    /// A timestamp beyond 64 bits.
    #[error("a timestamp is out of range")]
    Timestamp,
    /// Its bytes end too early, or are no numbers.
    #[error("{0}")]
    Record(#[from] RecordFault),
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetryRecord<'a> {
    /// The topic's id.
    pub topic_id: Uuid,
    /// Which of its partitions.
    pub partition: i32,
    /// In ms since 1970.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// A datagram that is well-formed to its last byte.
#[derive(Clone, Copy, Debug)]
pub struct Telemetry<'a> {
    number: u64,
    sections: Cursor<'a>,
}

impl<'a> Telemetry<'a> {
    /// Checks all of a datagram.
    ///
    /// # Errors
    /// [`TelemetryError`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, TelemetryError> {
        let mut cursor = match datagram.split_first() {
            Some((&VERSION, rest)) => Cursor::new(rest),
            other => return Err(TelemetryError::Version(other.map(|(version, _)| *version))),
        };
        let number = u64::try_from(cursor.varlong()?).map_err(|_| TelemetryError::Number)?;
        let mut walk = Walk::new(cursor);
        while walk.next()?.is_some() {}
        Ok(Self { number, sections: cursor })
    }

    /// Which datagram of its connection this is, from 0.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its records, in their order.
    pub fn records(&self) -> impl Iterator<Item = TelemetryRecord<'a>> {
        let mut walk = Walk::new(self.sections);
        // It was walked through before, without an error.
        std::iter::from_fn(move || walk.next().ok().flatten())
    }
}

/// From record to record, over the heads of sections.
struct Walk<'a> {
    cursor: Cursor<'a>,
    topic_id: Uuid,
    partition: i32,
    base_ms: i64,
    left: i32,
}

impl<'a> Walk<'a> {
    fn new(cursor: Cursor<'a>) -> Self {
        Self { cursor, topic_id: Uuid::ZERO, partition: 0, base_ms: 0, left: 0 }
    }

    fn next(&mut self) -> Result<Option<TelemetryRecord<'a>>, TelemetryError> {
        if self.left == 0 {
            if self.cursor.is_empty() {
                return Ok(None);
            }
            self.head()?;
        }
        self.left -= 1;
        let delta_ms = self.cursor.varlong()?;
        let timestamp_ms = self.base_ms.checked_add(delta_ms).ok_or(TelemetryError::Timestamp)?;
        let (key, value) = (self.cursor.nullable()?, self.cursor.nullable()?);
        let (topic_id, partition) = (self.topic_id, self.partition);
        Ok(Some(TelemetryRecord { topic_id, partition, timestamp_ms, key, value }))
    }

    fn head(&mut self) -> Result<(), TelemetryError> {
        let id = self.cursor.take(TOPIC_ID_BYTES)?;
        self.topic_id = Uuid(id.try_into().map_err(|_| RecordFault::Truncated)?);
        self.partition = self.cursor.varint()?;
        self.base_ms = self.cursor.varlong()?;
        self.left = self.cursor.varint()?;
        match self.partition >= 0 && self.left > 0 {
            true => Ok(()),
            false => Err(TelemetryError::Section),
        }
    }
}

/// Packs records into datagrams of at most so many bytes.
#[derive(Debug)]
pub struct TelemetryPacker {
    bytes_max: usize,
    next_number: u64,
    sections: Vec<Section>,
    /// Of the sections, at most.
    bytes: usize,
}

/// Records of one partition.
#[derive(Debug)]
struct Section {
    topic_id: Uuid,
    partition: i32,
    base_ms: i64,
    count: i32,
    records: Vec<u8>,
}

impl TelemetryPacker {
    /// For datagrams of at most `bytes_max`; the first has number 0.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, next_number: 0, sections: Vec::new(), bytes: 0 }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }

    /// Sections begin with a number, so that a path that carries less is taken at once.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Takes a record. False: it does not fit beside what waits ([`TelemetryPacker::take`] that
    /// first), or, where nothing waits, into no datagram at all.
    #[must_use]
    pub fn push(&mut self, record: &TelemetryRecord<'_>) -> bool {
        let at = self.sections.iter().position(|section| {
            section.topic_id == record.topic_id
                && section.partition == record.partition
                && record.timestamp_ms.checked_sub(section.base_ms).is_some()
        });
        let base_ms =
            at.and_then(|at| self.sections.get(at)).map_or(record.timestamp_ms, |s| s.base_ms);
        let delta_ms = record.timestamp_ms.wrapping_sub(base_ms);
        let record_bytes =
            varlong_bytes(delta_ms) + blob_bytes(record.key) + blob_bytes(record.value);
        let head_bytes = at.map_or(SECTION_HEAD_BYTES_MAX, |_| 0);
        let head = 1 + varlong_bytes(self.next_number as i64);
        if head + self.bytes + head_bytes + record_bytes > self.bytes_max {
            return false;
        }
        self.bytes += head_bytes + record_bytes;
        let section = match at.and_then(|at| self.sections.get_mut(at)) {
            Some(section) => section,
            None => {
                let (topic_id, partition) = (record.topic_id, record.partition);
                let records = Vec::new();
                let new = Section { topic_id, partition, base_ms, count: 0, records };
                self.sections.push_mut(new)
            }
        };
        section.count += 1;
        put_varlong(&mut section.records, delta_ms);
        put_blob(&mut section.records, record.key);
        put_blob(&mut section.records, record.value);
        true
    }

    /// The datagram of what waits; none if nothing does.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.sections.is_empty() {
            return None;
        }
        let mut datagram = Vec::with_capacity(self.bytes + 11);
        datagram.push(VERSION);
        put_varlong(&mut datagram, self.next_number as i64);
        self.next_number += 1;
        self.bytes = 0;
        for section in self.sections.drain(..) {
            datagram.extend_from_slice(section.topic_id.as_bytes());
            put_varlong(&mut datagram, i64::from(section.partition));
            put_varlong(&mut datagram, section.base_ms);
            put_varlong(&mut datagram, i64::from(section.count));
            datagram.extend_from_slice(&section.records);
        }
        Some(datagram)
    }
}

fn blob_bytes(blob: Option<&[u8]>) -> usize {
    blob.map_or(1, |blob| varlong_bytes(blob.len() as i64) + blob.len())
}

fn put_blob(into: &mut Vec<u8>, blob: Option<&[u8]>) {
    put_varlong(into, blob.map_or(-1, |blob| blob.len() as i64));
    into.extend_from_slice(blob.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: TelemetryRecord<'_> = TelemetryRecord {
        topic_id: Uuid([7; 16]),
        partition: 2,
        timestamp_ms: 1_800_000_000_000,
        key: Some(b"pump"),
        value: Some(b"20.5"),
    };

    fn sample() -> Vec<TelemetryRecord<'static>> {
        let bases = [(7, 0), (7, 1), (9, 0)];
        (0..30)
            .map(|n| {
                let (topic, partition) = bases[n % 3];
                TelemetryRecord {
                    topic_id: Uuid([topic; 16]),
                    partition,
                    timestamp_ms: 1_800_000_000_000 - 7 * n as i64,
                    key: (n % 2 == 0).then_some(&b"key"[..]),
                    value: (n % 5 != 0).then_some(&b"a value"[..]),
                }
            })
            .collect()
    }

    #[test]
    fn what_is_packed_is_read_back_by_partition_in_order() {
        let mut packer = TelemetryPacker::new(1_200);
        for record in sample() {
            assert!(packer.push(&record));
        }
        let datagram = packer.take().unwrap();
        assert!(packer.is_empty() && packer.take().is_none());
        let read = Telemetry::parse(&datagram).unwrap();
        let mut wanted = sample();
        wanted.sort_by_key(|record| (record.topic_id, record.partition));
        assert_eq!(read.number(), 0);
        assert_eq!(read.records().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_datagram_is_never_larger_than_the_path_takes_and_numbers_rise() {
        for bytes_max in 60..400 {
            let mut packer = TelemetryPacker::new(bytes_max);
            let (mut datagrams, mut records) = (Vec::new(), sample().into_iter().peekable());
            while let Some(record) = records.peek() {
                match packer.push(record) {
                    true => drop(records.next()),
                    false => datagrams.push(packer.take().unwrap()),
                }
            }
            datagrams.extend(packer.take());
            let mut seen = 0;
            for (number, datagram) in datagrams.iter().enumerate() {
                assert!(datagram.len() <= bytes_max, "{} of {bytes_max}", datagram.len());
                let read = Telemetry::parse(datagram).unwrap();
                assert_eq!(read.number(), number as u64);
                seen += read.records().count();
            }
            assert_eq!(seen, sample().len());
        }
    }

    #[test]
    fn what_fits_into_no_datagram_is_not_taken() {
        let mut packer = TelemetryPacker::new(100);
        let large = TelemetryRecord { value: Some(&[0; 100]), ..READING };
        assert!(!packer.push(&large));
        assert!(packer.is_empty());
    }

    #[test]
    fn cut_anywhere_or_with_any_byte_changed_it_is_refused_or_read_to_its_end() {
        let mut packer = TelemetryPacker::new(1_200);
        for record in sample() {
            assert!(packer.push(&record));
        }
        let whole = packer.take().unwrap();
        // Between two sections a datagram may end.
        let ends = (0..whole.len()).filter(|end| Telemetry::parse(&whole[..*end]).is_ok()).count();
        assert_eq!(ends, 3);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                if let Ok(read) = Telemetry::parse(&changed) {
                    assert!(read.records().count() <= changed.len());
                }
            }
        }
    }

    #[test]
    fn other_versions_and_empty_sections_are_refused_by_name() {
        assert_eq!(Telemetry::parse(&[]).unwrap_err(), TelemetryError::Version(None));
        assert_eq!(Telemetry::parse(&[2, 0]).unwrap_err(), TelemetryError::Version(Some(2)));
        assert_eq!(Telemetry::parse(&[1, 1]).unwrap_err(), TelemetryError::Number);
        let mut empty = vec![1, 0];
        empty.extend_from_slice(&[7; 16]);
        empty.extend_from_slice(&[0, 0, 0]);
        assert_eq!(Telemetry::parse(&empty).unwrap_err(), TelemetryError::Section);
    }
}
