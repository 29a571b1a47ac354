//! Records in, one batch out, for every codec; buffers are used again for the next batch. Must
//! never build a batch that [`super::Batch::parse`] would refuse.

use super::batch::{Batch, seal};
use super::codec::{self, Codec};
use super::error::BatchError;
use super::header::{
    Attributes, BatchHeader, HEADER_BYTES, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE,
    NO_TIMESTAMP, TimestampType,
};
use super::records::{Header, Record};
use super::varint::{put_varlong, varlong_bytes};
use crate::limits;
use bytes::Bytes;
use thiserror::Error;

/// Why a record was not added or a batch not built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The records would grow beyond the cap; build what is there and push the record again.
    #[error("the batch would have {section_bytes} bytes of records, above {limit_bytes}")]
    TooLarge {
        /// Bytes with this record.
        section_bytes: usize,
        /// The cap.
        limit_bytes: usize,
    },
    /// As many records as a batch may have.
    #[error("the batch has {limit} records already, no more fit")]
    TooManyRecords {
        /// The cap.
        limit: usize,
    },
    /// More headers than a record may have.
    #[error("a record with {headers} headers is above the limit of {limit}")]
    TooManyHeaders {
        /// What was given.
        headers: usize,
        /// The cap.
        limit: usize,
    },
    /// A timestamp that no delta from the first one can express.
    #[error("timestamp {timestamp} is too far from the first one of the batch")]
    BadTimestamp {
        /// The timestamp in ms.
        timestamp: i64,
    },
    /// Offset deltas must rise.
    #[error("offset delta {offset_delta} does not follow {last_delta}")]
    BadOffset {
        /// What was given.
        offset_delta: i32,
        /// That of the record before.
        last_delta: i32,
    },
    /// A batch needs a record.
    #[error("a batch without a record cannot be built")]
    Empty,
    /// The codec failed: it had no memory.
    #[error("the records could not be compressed with {codec}: {reason}")]
    Compress {
        /// The codec.
        codec: Codec,
        /// What it says.
        reason: &'static str,
    },
}

/// Who the producer of a batch is.
#[derive(Debug, Clone, Copy)]
struct Producer {
    id: i64,
    epoch: i16,
    base_sequence: i32,
}

const NO_PRODUCER: Producer =
    Producer { id: NO_PRODUCER_ID, epoch: NO_PRODUCER_EPOCH, base_sequence: NO_SEQUENCE };

/// Gathers records into a batch with base offset 0 and leader epoch -1.
#[derive(Debug)]
pub struct BatchBuilder {
    codec: Codec,
    level: Option<i32>,
    attributes: Attributes,
    producer: Producer,
    append_time: Option<i64>,
    delete_horizon: Option<i64>,
    is_repacked: bool,
    section: Vec<u8>,
    compressed: Vec<u8>,
    count: u32,
    last_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// A builder for batches compressed with `codec` at `level` (`None`: the codec's default;
    /// gzip 0 to 9, zstd -7 to 19, the others have none; what is outside is clamped).
    #[must_use]
    pub fn new(codec: Codec, level: Option<i32>) -> Self {
        Self {
            codec,
            level,
            attributes: Attributes::default(),
            producer: NO_PRODUCER,
            append_time: None,
            delete_horizon: None,
            is_repacked: false,
            section: Vec::new(),
            compressed: Vec::new(),
            count: 0,
            last_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// A builder for records taken out of, or made from, the batch of `header`: the same codec
    /// and timestamp type (with log append time its time too), no producer.
    #[must_use]
    pub fn like(batch: &Batch) -> Self {
        let mut builder = Self::new(batch.codec(), None);
        if batch.attributes().timestamp_type() == TimestampType::LogAppendTime {
            builder = builder.with_log_append_time(batch.header().max_timestamp);
        }
        builder
    }

    /// Names the idempotent producer of this and the following batches.
    #[must_use]
    pub fn with_producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.set_producer(id, epoch, base_sequence);
        self
    }

    /// As [`BatchBuilder::with_producer`], for the next batch of a builder in use.
    pub fn set_producer(&mut self, id: i64, epoch: i16, base_sequence: i32) {
        self.producer = Producer { id, epoch, base_sequence };
    }

    /// Marks batches as part of a transaction; a producer must be named as well.
    #[must_use]
    pub fn with_transactional(mut self, transactional: bool) -> Self {
        self.attributes = self.attributes.with_transactional(transactional);
        self
    }

    /// Marks batches as control batches.
    #[must_use]
    pub fn with_control(mut self, control: bool) -> Self {
        self.attributes = self.attributes.with_control(control);
        self
    }

    /// Gives all records the broker's time, in ms since 1970.
    #[must_use]
    pub fn with_log_append_time(mut self, timestamp_ms: i64) -> Self {
        self.attributes = self.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.append_time = Some(timestamp_ms);
        self
    }

    /// Sets the time in ms since 1970 from which tombstones of the batch may go (KIP-534). It
    /// stands as the base timestamp, so it must be known before the first record.
    #[must_use]
    pub fn with_delete_horizon(mut self, horizon_ms: i64) -> Self {
        self.attributes = self.attributes.with_delete_horizon(true);
        self.delete_horizon = Some(horizon_ms);
        self
    }

    /// Marks batches whose codec the broker chose; one that stays uncompressed needs no mark.
    #[must_use]
    pub fn with_repacked(mut self, repacked: bool) -> Self {
        self.is_repacked = repacked;
        self
    }

    /// An empty builder with this one's codec, level and buffers, without all else.
    #[must_use]
    pub fn into_plain(mut self) -> Self {
        self.clear();
        Self {
            section: std::mem::take(&mut self.section),
            compressed: std::mem::take(&mut self.compressed),
            ..Self::new(self.codec, self.level)
        }
    }

    /// Adds a record at the next offset. `timestamp` is in ms since 1970, or -1.
    ///
    /// # Errors
    /// As [`BuildError`]; the batch is then as before.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BuildError> {
        if headers.len() > limits::RECORD_HEADERS_MAX {
            return Err(BuildError::TooManyHeaders {
                headers: headers.len(),
                limit: limits::RECORD_HEADERS_MAX,
            });
        }
        let headers_bytes = varlong_bytes(headers.len() as i64)
            + headers
                .iter()
                .map(|header| nullable_bytes(Some(header.key)) + nullable_bytes(header.value))
                .sum::<usize>();
        let offset_delta = self.last_delta.saturating_add(1);
        self.put(offset_delta, timestamp, key, value, headers_bytes)?;
        put_varlong(&mut self.section, headers.len() as i64);
        for header in headers {
            put_nullable(&mut self.section, Some(header.key));
            put_nullable(&mut self.section, header.value);
        }
        Ok(())
    }

    /// Adds a record at the next offset with the headers of another, as [`Record::headers_raw`]
    /// gives them.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`].
    pub fn push_with_raw_headers(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers_raw: &[u8],
    ) -> Result<(), BuildError> {
        self.push_at(self.last_delta.saturating_add(1), timestamp, key, value, headers_raw)
    }

    /// Adds `record` as it is, at the next offset.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`].
    pub fn push_record(&mut self, record: &Record<'_>) -> Result<(), BuildError> {
        self.push_with_raw_headers(record.timestamp, record.key, record.value, record.headers_raw)
    }

    /// Adds a record at a given offset after the batch's base, for merging batches that keep
    /// their offsets. Headers as [`Record::headers_raw`]; an empty slice stands for none.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`], and [`BuildError::BadOffset`] if offsets do not rise.
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers_raw: &[u8],
    ) -> Result<(), BuildError> {
        let headers_raw = if headers_raw.is_empty() { &[0][..] } else { headers_raw };
        self.put(offset_delta, timestamp, key, value, headers_raw.len())?;
        self.section.extend_from_slice(headers_raw);
        Ok(())
    }

    /// All of a record but its headers.
    fn put(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers_bytes: usize,
    ) -> Result<(), BuildError> {
        if offset_delta <= self.last_delta {
            return Err(BuildError::BadOffset { offset_delta, last_delta: self.last_delta });
        }
        if self.count as usize >= limits::BATCH_RECORDS_MAX {
            return Err(BuildError::TooManyRecords { limit: limits::BATCH_RECORDS_MAX });
        }
        let base_timestamp = match self.delete_horizon {
            Some(horizon) => horizon,
            None if self.count == 0 => timestamp,
            None => self.base_timestamp,
        };
        let timestamp_delta =
            timestamp.checked_sub(base_timestamp).ok_or(BuildError::BadTimestamp { timestamp })?;
        let body_bytes = 1
            + varlong_bytes(timestamp_delta)
            + varlong_bytes(i64::from(offset_delta))
            + nullable_bytes(key)
            + nullable_bytes(value)
            + headers_bytes;
        let section_bytes = self.section.len() + varlong_bytes(body_bytes as i64) + body_bytes;
        if section_bytes > SECTION_BYTES_MAX {
            return Err(BuildError::TooLarge { section_bytes, limit_bytes: SECTION_BYTES_MAX });
        }
        put_varlong(&mut self.section, body_bytes as i64);
        self.section.push(0);
        put_varlong(&mut self.section, timestamp_delta);
        put_varlong(&mut self.section, i64::from(offset_delta));
        put_nullable(&mut self.section, key);
        put_nullable(&mut self.section, value);
        self.max_timestamp =
            if self.count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.base_timestamp = base_timestamp;
        self.last_delta = offset_delta;
        self.count += 1;
        Ok(())
    }

    /// Size of the batch if it were built now without compression.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.section.len()
    }

    /// Bytes that a record adds at most, without compression.
    #[must_use]
    pub fn record_bytes_max(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        const NUMBERS_MAX: usize = 5 + 1 + 10 + 5 + 5;
        let headers: usize =
            headers.iter().map(|h| nullable_bytes(Some(h.key)) + nullable_bytes(h.value)).sum();
        NUMBERS_MAX + nullable_bytes(key) + nullable_bytes(value) + headers
    }

    /// Number of records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Greatest timestamp so far, in ms since 1970; -1 without a record.
    #[must_use]
    pub const fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Forgets the records.
    pub fn clear(&mut self) {
        self.section.clear();
        self.section.shrink_to(limits::CODEC_SCRATCH_KEPT_BYTES);
        self.compressed.shrink_to(limits::CODEC_SCRATCH_KEPT_BYTES);
        self.count = 0;
        self.last_delta = -1;
        self.base_timestamp = NO_TIMESTAMP;
        self.max_timestamp = NO_TIMESTAMP;
    }

    /// The batch, compressed unless that would make it larger. The builder is then empty and
    /// ready for the next one; the producer's sequence is not advanced.
    ///
    /// # Errors
    /// [`BuildError::Empty`], [`BuildError::Compress`], or [`BuildError::TooLarge`] if the records
    /// stay above [`limits::BATCH_BYTES_MAX`].
    pub fn build(&mut self) -> Result<Bytes, BuildError> {
        self.build_spanning(0)
    }

    /// As [`BatchBuilder::build`], as a checked [`Batch`].
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn build_batch(&mut self) -> Result<Batch, BuildError> {
        self.build_batch_spanning(0)
    }

    /// As [`BatchBuilder::build_spanning`], as a checked [`Batch`].
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn build_batch_spanning(&mut self, last_offset_delta: i32) -> Result<Batch, BuildError> {
        let raw = self.build_spanning(last_offset_delta)?;
        let codec = self.codec;
        Batch::parse_trusted(raw).map_err(|error| match error {
            BatchError::TooLarge { batch_bytes, limit_bytes } => {
                BuildError::TooLarge { section_bytes: batch_bytes, limit_bytes }
            }
            _ => BuildError::Compress { codec, reason: "it made a batch that does not parse" },
        })
    }

    /// As [`BatchBuilder::build`], with a last offset delta of at least `last_offset_delta`:
    /// compaction keeps the range of a batch when its last records go.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    pub fn build_spanning(&mut self, last_offset_delta: i32) -> Result<Bytes, BuildError> {
        if self.count == 0 {
            return Err(BuildError::Empty);
        }
        let codec = self.compress()?;
        let payload = if codec == Codec::None { &self.section } else { &self.compressed };
        let size = HEADER_BYTES + payload.len();
        if size > limits::BATCH_BYTES_MAX {
            return Err(BuildError::TooLarge {
                section_bytes: size,
                limit_bytes: limits::BATCH_BYTES_MAX,
            });
        }
        let mut header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: 0,
            crc: 0,
            attributes: self
                .attributes
                .with_codec(codec)
                .with_repacked(self.is_repacked && codec != Codec::None),
            last_offset_delta: self.last_delta.max(last_offset_delta),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.append_time.unwrap_or(self.max_timestamp),
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.base_sequence,
            records_count: self.count as i32,
        };
        let raw = seal(&mut header, payload);
        self.clear();
        Ok(raw)
    }

    /// Compresses the section if that is worth it; says with what.
    fn compress(&mut self) -> Result<Codec, BuildError> {
        if self.codec == Codec::None {
            return Ok(Codec::None);
        }
        self.compressed.clear();
        codec::compress(self.codec, self.level, &self.section, &mut self.compressed)
            .map_err(|reason| BuildError::Compress { codec: self.codec, reason })?;
        let smaller = self.compressed.len() < self.section.len();
        Ok(if smaller { self.codec } else { Codec::None })
    }
}

/// What one batch may hold before compression.
const SECTION_BYTES_MAX: usize = limits::DECOMPRESSED_BYTES_MAX;

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => 1,
        Some(bytes) => varlong_bytes(bytes.len() as i64) + bytes.len(),
    }
}

fn put_nullable(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => into.push(1),
        Some(bytes) => {
            put_varlong(into, bytes.len() as i64);
            into.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
