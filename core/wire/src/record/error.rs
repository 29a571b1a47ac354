//! What can be wrong with a record batch. Must never carry bytes of the batch: errors are logged.

use super::codec::Codec;
use crate::error_code::ErrorCode;
use thiserror::Error;

/// Why a batch was refused or could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the batch needs.
    #[error("record batch is cut short: {have_bytes} bytes of {need_bytes}")]
    Truncated {
        /// Bytes that are there.
        have_bytes: usize,
        /// Bytes that a header or the batch length asks for.
        need_bytes: usize,
    },
    /// More bytes than the one batch that was expected.
    #[error("record batch of {batch_bytes} bytes is followed by {extra_bytes} more")]
    TrailingBytes {
        /// Size of the batch.
        batch_bytes: usize,
        /// Bytes after it.
        extra_bytes: usize,
    },
    /// The batch length is negative or less than a header.
    #[error("record batch declares the impossible length {length}")]
    BadLength {
        /// The field as it stands.
        length: i32,
    },
    /// The batch is above a cap or the topic's limit.
    #[error("record batch of {batch_bytes} bytes is above the limit of {limit_bytes}")]
    TooLarge {
        /// Size of the batch.
        batch_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// More batches in one block of bytes than allowed.
    #[error("more than {limit} record batches in one block")]
    TooManyBatches {
        /// The limit.
        limit: usize,
    },
    /// A message format other than 2; clients before Kafka 0.11 send 0 and 1.
    #[error("message format {magic} is not supported, only 2 is (Kafka 0.11 and later)")]
    UnsupportedMagic {
        /// The magic byte.
        magic: i8,
    },
    /// Stored and computed CRC-32C differ: bytes changed on their way.
    #[error("CRC-32C is {computed:#010x}, the batch says {stored:#010x}")]
    Crc {
        /// As stored in the header.
        stored: u32,
        /// As computed over the bytes.
        computed: u32,
    },
    /// A compression codec that does not exist.
    #[error("unknown compression codec {id}")]
    UnknownCodec {
        /// The three bits of the attributes.
        id: u8,
    },
    /// Record count and last offset delta contradict each other or the bytes that there are.
    #[error("{records_count} records, last offset delta {last_offset_delta}: impossible")]
    BadCount {
        /// The field as it stands.
        records_count: i32,
        /// The field as it stands.
        last_offset_delta: i32,
    },
    /// Not acceptable from a producer, though a log may hold it.
    #[error("not acceptable from a producer: {reason}")]
    NotProducible {
        /// What is wrong.
        reason: &'static str,
    },
    /// The compressed records are no valid stream of their codec.
    #[error("{codec} records do not decompress: {reason}")]
    Decompress {
        /// The codec.
        codec: Codec,
        /// What its decoder says.
        reason: &'static str,
    },
    /// The records grow beyond the cap, or by more than the allowed ratio.
    #[error("{codec} records expand to more than {limit_bytes} bytes")]
    Bomb {
        /// The codec.
        codec: Codec,
        /// Most bytes that were allowed for this input.
        limit_bytes: usize,
    },
    /// A record contradicts its own lengths or the header of the batch.
    #[error("record {index} of the batch: {fault}")]
    Record {
        /// Position in the batch, from 0.
        index: u32,
        /// What is wrong.
        fault: RecordFault,
    },
}

impl BatchError {
    /// What a producer that sent the batch is answered with, as Kafka does.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::BadLength { .. }
            | Self::Crc { .. } => ErrorCode::CorruptMessage,
            Self::TooLarge { .. } | Self::Bomb { .. } => ErrorCode::MessageTooLarge,
            Self::UnsupportedMagic { .. } => ErrorCode::UnsupportedForMessageFormat,
            Self::UnknownCodec { .. } => ErrorCode::UnsupportedCompressionType,
            // Not the retriable "corrupt": the producer would send the same again.
            Self::TooManyBatches { .. }
            | Self::BadCount { .. }
            | Self::NotProducible { .. }
            | Self::Decompress { .. }
            | Self::Record { .. } => ErrorCode::InvalidRecord,
        }
    }
}

/// What is wrong with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// The records end before this one does.
    #[error("the bytes end before it does")]
    Truncated,
    /// A variable-length number has more bytes than its type can have.
    #[error("a variable-length number is too long")]
    BadVarint,
    /// The length of the record is negative or beyond the section.
    #[error("its length is impossible")]
    BadLength,
    /// The length of the key, the value or a header is below -1 or beyond the record.
    #[error("a field's length is impossible")]
    BadFieldLength,
    /// More headers than fit, or than the cap allows, or a negative count.
    #[error("its header count is impossible")]
    BadHeaderCount,
    /// Bytes are left in the record after its last header.
    #[error("bytes are left after its last field")]
    LeftOver,
    /// Offset deltas do not rise or leave the range of the batch.
    #[error("its offset delta does not follow the one before it")]
    BadOffset,
    /// Base timestamp and delta overflow.
    #[error("its timestamp overflows")]
    BadTimestamp,
    /// Bytes are left after as many records as the header counts.
    #[error("bytes are left after the last counted record")]
    Uncounted,
}
