//! Kafka's record batch format, version 2 (KIP-98): the one record format on the wire and in the
//! log. Must never decompress unless asked, allocate from a size that a peer declares, or change
//! a batch that it only passes on.
//!
//! - [`Batch`]: one batch as it came, lengths, magic and CRC checked, records opaque.
//! - [`LogBatch`]: a batch with its place in a partition (offset, leader epoch); bytes shared.
//! - [`RecordIter`]: the records of a decompressed section, lazily, every lie detected.
//! - [`BatchBuilder`]: records in, a batch out; also re-encodes parts of other batches.
//! - [`EndMarker`]: the control batch that ends a transaction.
//! - [`Telemetry`]: not a batch, but many records of many partitions in one datagram.
//! - [`Codec`]: the five compression codecs, bounded in both directions.

mod arrivals;
mod batch;
mod builder;
mod codec;
mod control;
mod error;
mod header;
mod log_batch;
mod lookup;
mod records;
mod telemetry;
mod varint;

pub use arrivals::{Arrival, Arrivals};
pub use batch::{Batch, SplitPrefix};
pub use builder::{BatchBuilder, BuildError};
pub use codec::{Codec, compress, decompress};
pub use control::EndMarker;
pub use error::{BatchError, RecordFault};
pub use header::{
    Attributes, BatchHeader, HEADER_BYTES, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE,
    NO_TIMESTAMP, TimestampType, sequence_add,
};
pub use log_batch::{LogBatch, rope};
pub use lookup::{FoundTimestamp, first_at_or_after, last_offset_of, max_timestamp};
pub use records::{Header, HeaderIter, Record, RecordIter};
pub use telemetry::{Telemetry, TelemetryError, TelemetryPacker, TelemetryRecord};
