//! A batch that an entry only points at: its payload stands in a segment (the direct path), the
//! entry holds its header and its place. Written only when the payload is on flash; whoever reads
//! such an entry brings the payload, and it is checked against the header here.
//!
//! ```text
//! body (fact 18)
//!   key | has sent u8 | [sent, as in fact.rs]
//!   | segment's base offset i64 | its generation u32 | position in it u64
//!   | the batch's header as it stands there, 61 bytes, to the end
//! ```
//! The header has length and CRC of the batch.

use crate::codec::{CodecError, Take, put_partition};
use crate::entry::{EntryError, Fact};
use crate::sent::{SENT_BYTES, Sent};
use crate::units::PartitionKey;
use bytes::{BufMut, Bytes};
use millpond_wire::record::{BatchHeader, HEADER_BYTES, LogBatch};

/// Where in the segments of its partition a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Of the segment.
    pub base_offset: i64,
    /// Of the segment.
    pub generation: u32,
    /// First byte of the batch in the segment's file.
    pub position: u64,
}

/// A batch to be read before its entry can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedExtent {
    /// Whose segment.
    pub partition: PartitionKey,
    /// Where.
    pub extent: Extent,
    /// The header that stands there.
    pub header: [u8; HEADER_BYTES],
}

impl WantedExtent {
    /// How many bytes to read; 0 for a header that cannot be one.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        BatchHeader::read(&self.header).batch_bytes().unwrap_or(0)
    }

    /// The batch, if these are its bytes: header as told, checksum right.
    #[must_use]
    pub fn batch_of(&self, bytes: Bytes) -> Option<LogBatch> {
        let is_it = bytes.starts_with(&self.header);
        LogBatch::parse(bytes).ok().filter(|_| is_it)
    }
}

const KEY_BYTES: usize = 16 + 4;
const PLACE_BYTES: usize = 8 + 4 + 8;

/// Bytes of a body.
pub(crate) fn body_len(sent: Option<&Sent>) -> usize {
    KEY_BYTES + 1 + sent.map_or(0, |_| SENT_BYTES) + PLACE_BYTES + HEADER_BYTES
}

/// Writes a body.
pub(crate) fn put_body(
    out: &mut impl BufMut,
    partition: &PartitionKey,
    batch: &LogBatch,
    sent: Option<&Sent>,
    extent: Extent,
) {
    put_partition(out, partition);
    out.put_u8(u8::from(sent.is_some()));
    if let Some(sent) = sent {
        sent.put(out);
    }
    out.put_i64_le(extent.base_offset);
    out.put_u32_le(extent.generation);
    out.put_u64_le(extent.position);
    out.put_slice(&batch.stamped_header());
}

/// A body that was read.
pub(crate) struct Body {
    sent: Option<Sent>,
    pub(crate) wanted: WantedExtent,
}

impl Body {
    pub(crate) fn take(take: &mut Take) -> Result<Body, CodecError> {
        let partition = take.partition()?;
        let sent = if take.bool("has sent")? { Some(Sent::take(take)?) } else { None };
        let extent = Extent {
            base_offset: take.i64("base offset of a segment")?,
            generation: take.u32("generation of a segment")?,
            position: take.u64("position in a segment")?,
        };
        let raw = take.slice("header of a batch", HEADER_BYTES)?;
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&raw);
        Ok(Body { sent, wanted: WantedExtent { partition, extent, header } })
    }

    /// The fact, with the batch that was read.
    pub(crate) fn with(self, batch: Option<LogBatch>) -> Result<Fact, EntryError> {
        let partition = self.wanted.partition;
        match batch {
            Some(batch) if batch.stamped_header() == self.wanted.header => {
                Ok(Fact::Appended { partition, batch, sent: self.sent })
            }
            _ => Err(EntryError::ExtentMissing { partition, extent: self.wanted.extent }),
        }
    }
}
