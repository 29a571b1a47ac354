//! One batch as it came: lengths, magic, CRC and counts checked, records opaque. Must never
//! decompress in order to accept a batch, and never change its bytes.

use super::codec::{self, Codec};
use super::error::BatchError;
use super::header::{
    Attributes, BatchHeader, CRC_FROM, HEADER_BYTES, MAGIC, NO_PRODUCER_EPOCH, NO_PRODUCER_ID,
    NO_SEQUENCE, NO_TIMESTAMP, TimestampType, batch_bytes,
};
use super::records::{RECORD_BYTES_MIN, RecordIter};
use crate::limits;
use bytes::{Bytes, BytesMut};

/// One valid batch. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Batch {
    header: BatchHeader,
    codec: Codec,
    raw: Bytes,
    /// Whether the CRC was compared with the bytes, or made from them.
    is_crc_checked: bool,
}

/// The same bytes, whatever is known of them.
impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Batch {}

/// What [`Batch::split_prefix`] found.
#[derive(Debug, Clone)]
pub struct SplitPrefix {
    /// The whole batches at the front.
    pub batches: Vec<Batch>,
    /// Bytes of an incomplete batch after them.
    pub partial_bytes: usize,
}

impl Batch {
    /// Takes exactly one batch: magic 2, a length that is that of `raw`, the right CRC-32C, a
    /// codec that exists, counts that are possible. One pass over the bytes, no allocation.
    ///
    /// # Errors
    /// What is wrong, as [`BatchError`].
    pub fn parse(raw: Bytes) -> Result<Self, BatchError> {
        let header = check_length(&raw)?;
        // Before anything that the CRC covers is judged: changed bytes are no lies of the sender.
        let computed = crc32c::crc32c(raw.get(CRC_FROM..).unwrap_or_default());
        if computed != header.crc {
            return Err(BatchError::Crc { stored: header.crc, computed });
        }
        Self::judge(header, raw, true)
    }

    /// As [`Batch::parse`] without the pass for the CRC: for bytes that another checksum has
    /// covered a moment ago, such as those of a journal entry. Never for bytes of a peer.
    ///
    /// # Errors
    /// As for `parse`, but [`BatchError::Crc`].
    pub fn parse_trusted(raw: Bytes) -> Result<Self, BatchError> {
        Self::judge(check_length(&raw)?, raw, false)
    }

    fn judge(header: BatchHeader, raw: Bytes, is_crc_checked: bool) -> Result<Self, BatchError> {
        let codec = header.attributes.codec()?;
        check_counts(&header, codec, raw.len().saturating_sub(HEADER_BYTES))?;
        Ok(Self { header, codec, raw, is_crc_checked })
    }

    /// Takes `raw` apart into whole batches that fill it exactly, at most `max` of them.
    ///
    /// # Errors
    /// The first thing that is wrong; nothing at all in `raw` is no error.
    pub fn split(mut raw: Bytes, max: usize) -> Result<Vec<Self>, BatchError> {
        let batches = split_whole(&mut raw, max)?;
        if raw.is_empty() {
            return Ok(batches);
        }
        let need_bytes = declared_bytes(&raw)?.unwrap_or(HEADER_BYTES);
        Err(BatchError::Truncated { have_bytes: raw.len(), need_bytes })
    }

    /// As [`Batch::split`] for the records of a fetch response, which a broker may cut anywhere:
    /// an incomplete batch at the end is not an error.
    ///
    /// # Errors
    /// The first thing that is wrong with a whole batch.
    pub fn split_prefix(mut raw: Bytes, max: usize) -> Result<SplitPrefix, BatchError> {
        let batches = split_whole(&mut raw, max)?;
        Ok(SplitPrefix { batches, partial_bytes: raw.len() })
    }

    /// Whether the CRC is known to be that of the bytes: it was looked at when the batch was
    /// parsed. False says nothing.
    #[must_use]
    pub const fn is_crc_checked(&self) -> bool {
        self.is_crc_checked
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch, header included, as it came.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The bytes, given up.
    #[must_use]
    pub fn into_raw(self) -> Bytes {
        self.raw
    }

    /// Size of the whole batch.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.raw.len()
    }

    /// Codec and flags.
    #[must_use]
    pub const fn attributes(&self) -> Attributes {
        self.header.attributes
    }

    /// The codec of the records.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// How many records the header counts.
    #[must_use]
    pub const fn records_count(&self) -> u32 {
        // Checked when parsed: never negative.
        self.header.records_count as u32
    }

    /// The records as they stand after the header, compressed where the codec says so.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.raw.slice(HEADER_BYTES..)
    }

    /// What a broker asks of a batch that a producer sends, beyond its being a batch: records
    /// without gaps, base offset 0, no control records, no attribute bit that is the broker's or
    /// unknown, and where a producer id is given its epoch and sequence too (Kafka's
    /// `LogValidator`).
    ///
    /// # Errors
    /// [`BatchError::NotProducible`], or [`BatchError::TooLarge`] above `max_message_bytes`.
    pub fn check_produced(&self, max_message_bytes: usize) -> Result<(), BatchError> {
        let header = &self.header;
        let refuse = |reason| Err(BatchError::NotProducible { reason });
        if self.raw.len() > max_message_bytes {
            return Err(BatchError::TooLarge {
                batch_bytes: self.raw.len(),
                limit_bytes: max_message_bytes,
            });
        }
        if header.records_count < 1 {
            return refuse("the batch holds no record");
        }
        if i64::from(header.last_offset_delta) + 1 != i64::from(header.records_count) {
            return refuse("record count and last offset delta differ");
        }
        if header.base_offset != 0 {
            return refuse("the base offset is not 0");
        }
        if header.attributes.is_control() {
            return refuse("control records are the broker's to write");
        }
        if header.attributes.has_broker_bits() {
            return refuse("an attribute bit is set that is the broker's or has no meaning");
        }
        if header.has_producer() {
            if header.producer_epoch < 0 || header.base_sequence < 0 {
                return refuse("a producer id without an epoch or a sequence");
            }
        } else if header.attributes.is_transactional() {
            return refuse("transactional, but without a producer id");
        }
        Ok(())
    }

    /// The records section, decompressed: at most `cap_bytes` of it and never more than
    /// [`limits::DECOMPRESSED_BYTES_MAX`]. Without compression it is a reference to the batch.
    ///
    /// # Errors
    /// [`BatchError::Bomb`] above the cap, [`BatchError::Decompress`] for a broken stream.
    pub fn decompress(&self, cap_bytes: usize) -> Result<Bytes, BatchError> {
        let section = self.payload();
        if self.codec == Codec::None {
            return if section.len() > cap_bytes {
                Err(BatchError::Bomb { codec: Codec::None, limit_bytes: cap_bytes })
            } else {
                Ok(section)
            };
        }
        codec::decompress(self.codec, &section, cap_bytes).map(Bytes::from)
    }

    /// The records of a section that [`Batch::decompress`] gave for this batch.
    #[must_use]
    pub fn records<'a>(&self, section: &'a [u8]) -> RecordIter<'a> {
        RecordIter::new(&self.header, section)
    }

    /// The same batch with `timestamp_ms` as the log append time of all its records. The CRC
    /// covers both, so this copies the batch.
    #[must_use]
    pub fn with_log_append_time(&self, timestamp_ms: i64) -> Self {
        let mut header = self.header;
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        header.max_timestamp = timestamp_ms;
        Self::sealed(header, self.codec, self.raw.get(HEADER_BYTES..).unwrap_or_default())
    }
}

impl Batch {
    /// A batch of this header and these records, compressed where `codec` says so. Length, magic
    /// and CRC of the header are made here.
    pub(super) fn sealed(mut header: BatchHeader, codec: Codec, payload: &[u8]) -> Self {
        let raw = seal(&mut header, payload);
        Self { header, codec, raw, is_crc_checked: true }
    }

    /// A batch that holds no record any more but keeps its place for `last_offset_delta + 1`
    /// offsets, so that consumers come past it (Kafka's `writeEmptyHeader`). Base offset 0, no
    /// producer.
    #[must_use]
    pub fn without_records(last_offset_delta: i32, max_timestamp: i64) -> Self {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: last_offset_delta.max(0),
            base_timestamp: NO_TIMESTAMP,
            max_timestamp,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            records_count: 0,
        };
        Self::sealed(header, Codec::None, &[])
    }
}

/// Takes the whole batches off the front of `raw`.
fn split_whole(raw: &mut Bytes, max: usize) -> Result<Vec<Batch>, BatchError> {
    let mut batches = Vec::new();
    while let Some(size) = declared_bytes(raw)?.filter(|size| *size <= raw.len()) {
        if batches.len() >= max {
            return Err(BatchError::TooManyBatches { limit: max });
        }
        batches.push(Batch::parse(raw.split_to(size))?);
    }
    Ok(batches)
}

/// Size that the first batch of `raw` declares, or `None` where not even that is there.
fn declared_bytes(raw: &[u8]) -> Result<Option<usize>, BatchError> {
    // An old format may mean another thing by the length; its magic byte explains more.
    if let Some(&magic) = raw.get(16)
        && magic as i8 != MAGIC
    {
        return Err(BatchError::UnsupportedMagic { magic: magic as i8 });
    }
    let Some([.., a, b, c, d]) = raw.first_chunk::<12>() else {
        return Ok(None);
    };
    let size = batch_bytes(i32::from_be_bytes([*a, *b, *c, *d]))?;
    if size > limits::BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge {
            batch_bytes: size,
            limit_bytes: limits::BATCH_BYTES_MAX,
        });
    }
    Ok(Some(size))
}

/// The header of `raw`, which is exactly as long as it says.
fn check_length(raw: &[u8]) -> Result<BatchHeader, BatchError> {
    let first: &[u8; HEADER_BYTES] = raw
        .first_chunk()
        .ok_or(BatchError::Truncated { have_bytes: raw.len(), need_bytes: HEADER_BYTES })?;
    let header = BatchHeader::read(first);
    // The magic byte stands at the same place in the old formats: say that first.
    if header.magic != MAGIC {
        return Err(BatchError::UnsupportedMagic { magic: header.magic });
    }
    let batch_bytes = header.batch_bytes()?;
    if batch_bytes > limits::BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge { batch_bytes, limit_bytes: limits::BATCH_BYTES_MAX });
    }
    match raw.len().checked_sub(batch_bytes) {
        None => Err(BatchError::Truncated { have_bytes: raw.len(), need_bytes: batch_bytes }),
        Some(0) => Ok(header),
        Some(extra_bytes) => Err(BatchError::TrailingBytes { batch_bytes, extra_bytes }),
    }
}

/// Counts that are possible: compaction may leave gaps and even no record at all, but never more
/// records than offsets, and uncompressed ones need their bytes.
fn check_counts(
    header: &BatchHeader,
    codec: Codec,
    section_bytes: usize,
) -> Result<(), BatchError> {
    let bad = BatchError::BadCount {
        records_count: header.records_count,
        last_offset_delta: header.last_offset_delta,
    };
    let Ok(count) = usize::try_from(header.records_count) else {
        return Err(bad);
    };
    let possible = header.last_offset_delta >= 0
        && header.base_offset >= 0
        && header.base_offset.checked_add(i64::from(header.last_offset_delta)).is_some()
        && i64::from(header.records_count) <= i64::from(header.last_offset_delta) + 1
        && count <= limits::BATCH_RECORDS_MAX
        && (codec != Codec::None || count.saturating_mul(RECORD_BYTES_MIN) <= section_bytes);
    if possible { Ok(()) } else { Err(bad) }
}

/// Completes length and CRC in `header` and puts header and payload together.
pub(super) fn seal(header: &mut BatchHeader, payload: &[u8]) -> Bytes {
    let size = HEADER_BYTES + payload.len();
    // Callers hold the payload below `limits::DECOMPRESSED_BYTES_MAX`, so this is exact.
    header.batch_length =
        i32::try_from(size - super::header::LENGTH_OVERHEAD_BYTES).unwrap_or(i32::MAX);
    header.magic = MAGIC;
    header.crc = 0;
    let unsealed = header.write();
    let crc = crc32c::crc32c(unsealed.get(CRC_FROM..).unwrap_or_default());
    header.crc = crc32c::crc32c_append(crc, payload);
    let mut raw = BytesMut::with_capacity(size);
    raw.extend_from_slice(&header.write());
    raw.extend_from_slice(payload);
    raw.freeze()
}

#[cfg(test)]
mod tests;
