//! The 61 bytes in front of every batch. Must never read beyond them.
//!
//! ```text
//!  byte 0        8          12          16     17       21          23                27
//!       ┌────────┬──────────┬───────────┬──────┬────────┬───────────┬─────────────────┐
//!       │ base   │ batch    │ partition │magic │ CRC-32C│ attributes│ last offset     │
//!       │ offset │ length   │ leader    │ = 2  │ of all │           │ delta           │
//!       │ i64    │ i32      │ epoch i32 │ i8   │ below  │ i16       │ i32             │
//!       └────────┴──────────┴───────────┴──────┴────────┴───────────┴─────────────────┘
//!  byte 27          35          43         51        53         57          61
//!       ┌───────────┬───────────┬──────────┬─────────┬──────────┬───────────┬─ ─ ─ ─
//!       │ base      │ max       │ producer │ producer│ base     │ records   │ records,
//!       │ timestamp │ timestamp │ id       │ epoch   │ sequence │ count     │ compressed
//!       │ i64 ms    │ i64 ms    │ i64      │ i16     │ i32      │ i32       │ as one
//!       └───────────┴───────────┴──────────┴─────────┴──────────┴───────────┴─ ─ ─ ─
//!
//!  attributes  bit 0-2 codec · 3 timestamp type (1: log append time) · 4 transactional
//!              5 control · 6 delete horizon (KIP-534: base timestamp holds it) · 7 unused
//!              8 repacked (ours, never on the wire) · 9-15 unused
//! ```
//!
//! All big-endian. The batch length counts from byte 12 on. Base offset, length, leader epoch and
//! magic are outside the CRC, so a broker stamps a batch without computing it anew.

use super::codec::Codec;
use super::error::BatchError;
use bytes::{Buf, BufMut};

/// Bytes of a batch header.
pub const HEADER_BYTES: usize = 61;
/// Bytes before what the batch length counts.
pub(super) const LENGTH_OVERHEAD_BYTES: usize = 12;
/// The first byte that the CRC covers.
pub(super) const CRC_FROM: usize = 21;
/// The message format that is served.
pub(super) const MAGIC: i8 = 2;
/// Producer id of a batch that is neither idempotent nor transactional.
pub const NO_PRODUCER_ID: i64 = -1;
/// Producer epoch of a batch without a producer id.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// Base sequence of a batch without a producer id.
pub const NO_SEQUENCE: i32 = -1;
/// A record without a timestamp.
pub const NO_TIMESTAMP: i64 = -1;

const CODEC_MASK: u16 = 0b111;
const LOG_APPEND_TIME: u16 = 1 << 3;
const TRANSACTIONAL: u16 = 1 << 4;
const CONTROL: u16 = 1 << 5;
const DELETE_HORIZON: u16 = 1 << 6;
/// Only in the log: Kafka has no such bit.
const REPACKED: u16 = 1 << 8;
/// What a producer may set.
const PRODUCIBLE: u16 = CODEC_MASK | LOG_APPEND_TIME | TRANSACTIONAL;

/// Who set the timestamps of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer, one for each record.
    #[default]
    CreateTime,
    /// The broker, one for the batch: the maximum timestamp counts for every record.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u16);

impl Attributes {
    /// The bits as they stand in a header.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The bits as they stand in a header.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`] for 5, 6 and 7. A parsed batch never has those.
    pub const fn codec(self) -> Result<Codec, BatchError> {
        let id = (self.0 & CODEC_MASK) as u8;
        match Codec::from_id(id) {
            Some(codec) => Ok(codec),
            None => Err(BatchError::UnknownCodec { id }),
        }
    }

    /// Who set the timestamps.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// Whether the records are marks of the broker (commit, abort) and not for consumers.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Whether the base timestamp is the time at which tombstones may go (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    /// Whether the broker chose the codec when it packed the batch for the log, so that consumers
    /// need not know it. Never leaves the node: such a batch is served in another form.
    #[must_use]
    pub const fn is_repacked(self) -> bool {
        self.0 & REPACKED != 0
    }

    /// Whether some bit is set that is not a producer's to set: control, delete horizon, and all
    /// that Kafka does not use.
    #[must_use]
    pub const fn has_broker_bits(self) -> bool {
        self.0 & !PRODUCIBLE != 0
    }

    /// The same with another codec.
    #[must_use]
    pub const fn with_codec(self, codec: Codec) -> Self {
        Self((self.0 & !CODEC_MASK) | codec.id() as u16)
    }

    /// The same with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with_bit(LOG_APPEND_TIME, matches!(timestamp_type, TimestampType::LogAppendTime))
    }

    /// The same, in a transaction or not.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        self.with_bit(TRANSACTIONAL, transactional)
    }

    /// The same, control or not.
    #[must_use]
    pub const fn with_control(self, control: bool) -> Self {
        self.with_bit(CONTROL, control)
    }

    /// The same, with a delete horizon or not.
    #[must_use]
    pub const fn with_delete_horizon(self, has: bool) -> Self {
        self.with_bit(DELETE_HORIZON, has)
    }

    /// The same, repacked or not.
    #[must_use]
    pub const fn with_repacked(self, repacked: bool) -> Self {
        self.with_bit(REPACKED, repacked)
    }

    const fn with_bit(self, bit: u16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// The header of a batch, decoded. Fields as in the diagram at the top of this file's module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; producers send 0.
    pub base_offset: i64,
    /// Bytes from the leader epoch to the end of the batch.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; producers send anything.
    pub partition_leader_epoch: i32,
    /// The message format: 2.
    pub magic: i8,
    /// CRC-32C of all from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record less the base offset; kept by compaction when records go.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, or the delete horizon where there is one, in ms since 1970.
    /// The records count their timestamps from it either way.
    pub base_timestamp: i64,
    /// Greatest timestamp of the records, in ms since 1970.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the fields; judges nothing.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Self {
        let mut from: &[u8] = bytes;
        Self {
            base_offset: from.get_i64(),
            batch_length: from.get_i32(),
            partition_leader_epoch: from.get_i32(),
            magic: from.get_i8(),
            crc: from.get_u32(),
            attributes: Attributes(from.get_u16()),
            last_offset_delta: from.get_i32(),
            base_timestamp: from.get_i64(),
            max_timestamp: from.get_i64(),
            producer_id: from.get_i64(),
            producer_epoch: from.get_i16(),
            base_sequence: from.get_i32(),
            records_count: from.get_i32(),
        }
    }

    /// The header as bytes.
    #[must_use]
    pub fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0_u8; HEADER_BYTES];
        let mut into: &mut [u8] = &mut bytes;
        into.put_i64(self.base_offset);
        into.put_i32(self.batch_length);
        into.put_i32(self.partition_leader_epoch);
        into.put_i8(self.magic);
        into.put_u32(self.crc);
        into.put_u16(self.attributes.bits());
        into.put_i32(self.last_offset_delta);
        into.put_i64(self.base_timestamp);
        into.put_i64(self.max_timestamp);
        into.put_i64(self.producer_id);
        into.put_i16(self.producer_epoch);
        into.put_i32(self.base_sequence);
        into.put_i32(self.records_count);
        bytes
    }

    /// Size of the whole batch, if the declared length can be one at all.
    ///
    /// # Errors
    /// [`BatchError::BadLength`] for a length that is negative or shorter than a header.
    pub fn batch_bytes(&self) -> Result<usize, BatchError> {
        batch_bytes(self.batch_length)
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta as i64)
    }

    /// Whether the batch names an idempotent producer.
    #[must_use]
    pub const fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence number of the last record, wrapped as Kafka wraps it; -1 without a producer.
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            NO_SEQUENCE
        } else {
            sequence_add(self.base_sequence, self.last_offset_delta)
        }
    }
}

/// `sequence + records`, where 0 follows `i32::MAX` (Kafka's `DefaultRecordBatch`).
#[must_use]
pub const fn sequence_add(sequence: i32, records: i32) -> i32 {
    ((sequence as i64 + records as i64) & i32::MAX as i64) as i32
}

/// Size of the whole batch that declares `length`.
pub(super) fn batch_bytes(length: i32) -> Result<usize, BatchError> {
    match usize::try_from(length) {
        Ok(bytes) if bytes >= HEADER_BYTES - LENGTH_OVERHEAD_BYTES => {
            Ok(bytes.saturating_add(LENGTH_OVERHEAD_BYTES))
        }
        _ => Err(BatchError::BadLength { length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_written() {
        let bytes: [u8; HEADER_BYTES] = std::array::from_fn(|i| (i * 7 + 3) as u8);
        assert_eq!(BatchHeader::read(&bytes).write(), bytes);
    }

    #[test]
    fn sequences_wrap_after_the_greatest_int() {
        assert_eq!(sequence_add(0, 9), 9);
        assert_eq!(sequence_add(i32::MAX, 0), i32::MAX);
        assert_eq!(sequence_add(i32::MAX, 1), 0);
        assert_eq!(sequence_add(i32::MAX - 4, 9), 4);
        assert_eq!(sequence_add(i32::MAX, i32::MAX), i32::MAX - 1);
    }

    #[test]
    fn attribute_bits_are_those_of_kafka() {
        let bits = Attributes::from_bits(0b0111_1100);
        assert_eq!(bits.codec(), Ok(Codec::Zstd));
        assert_eq!(bits.timestamp_type(), TimestampType::LogAppendTime);
        assert!(bits.is_transactional() && bits.is_control() && bits.has_delete_horizon());
        assert_eq!(bits.with_codec(Codec::None).with_control(false).bits(), 0b0101_1000);
        assert!(!bits.is_repacked() && bits.with_repacked(true).is_repacked());
        assert_eq!(Attributes::default().with_repacked(true).bits(), 1 << 8);
        assert_eq!(Attributes::from_bits(5).codec(), Err(BatchError::UnknownCodec { id: 5 }));
    }

    #[test]
    fn bits_of_the_broker_are_told_from_those_of_producers() {
        for bit in 0..16 {
            let expected = bit > 4;
            assert_eq!(Attributes::from_bits(1 << bit).has_broker_bits(), expected, "{bit}");
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [i32::MIN, -1, 0, 48] {
            assert_eq!(batch_bytes(length), Err(BatchError::BadLength { length }));
        }
        assert_eq!(batch_bytes(49), Ok(HEADER_BYTES));
    }
}
