//! A batch of the log as consumers get it. Must never send out the mark of repacking, nor a codec
//! that neither the producers of the topic used nor its settings name.

use millpond_wire::limits::DECOMPRESSED_BYTES_MAX;
use millpond_wire::record::{BatchError, Codec, LogBatch};

/// What a consumer is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// The batch as it stands in the log.
    AsIs,
    /// This instead: the same records, offsets and timestamps.
    Instead(LogBatch),
}

/// What consumers get for a batch of the log. One that the broker packed goes out in the codec
/// that the topic's `compression.type` names, or uncompressed if it names none (`None`); all
/// others go as they are.
///
/// # Errors
/// A packed batch that cannot be read: its bytes are right (the CRC was checked before), so it
/// is damage from before it was written. It is never served in part.
pub fn serve(batch: &LogBatch, compression_type: Option<Codec>) -> Result<Served, BatchError> {
    if !batch.header().attributes.is_repacked() {
        return Ok(Served::AsIs);
    }
    let codec = compression_type.unwrap_or(Codec::None);
    batch.recoded(codec, None, DECOMPRESSED_BYTES_MAX).map(Served::Instead)
}
