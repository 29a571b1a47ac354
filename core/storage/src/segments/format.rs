//! A segment's bytes, and where it lies.
//!
//! ```text
//! topics/<topic id, 32 hex digits>/<partition>/<base offset, 20 digits>.seg
//!
//! | header 64 | record batch v2 | record batch v2 | ... | bytes nobody trusts |
//!
//! header (64 bytes, little-endian)
//!   0 magic "MPSG"     4 version u16      6 header bytes u16
//!   8 topic id 16     24 partition i32   28 flags u32, 0: kept for packing and compaction
//!  32 base offset i64 40 reserved, zero
//!  60 crc u32 of bytes 0..60 (CRC-32C)
//! ```
//!
//! Batches are Kafka's own, big-endian, each with its CRC and the offset and leader epoch stamped
//! in. A segment has no index and no footer: what counts is the length that the newest checkpoint
//! names, and anything beyond it was written by a checkpoint that did not come to its end.

use millpond_engine::PartitionKey;
use millpond_wire::uuid::Uuid;

use crate::fields::{array_at, crc, put_at, u16_at, u32_at, u64_at};

/// The version that is written; a higher one is refused.
pub const SEGMENT_VERSION: u16 = 1;
/// Bytes before the first batch.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// The directory of all topics.
pub(crate) const TOPICS_DIR: &str = "topics";

const MAGIC: [u8; 4] = *b"MPSG";

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose batches these are.
    pub partition: PartitionKey,
    /// No batch in it begins below this offset.
    pub base_offset: i64,
}

impl SegmentHeader {
    /// The bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        put_at(&mut out, 0, &MAGIC);
        put_at(&mut out, 4, &SEGMENT_VERSION.to_le_bytes());
        put_at(&mut out, 6, &(SEGMENT_HEADER_BYTES as u16).to_le_bytes());
        put_at(&mut out, 8, &self.partition.topic_id.0);
        put_at(&mut out, 24, &self.partition.partition.to_le_bytes());
        put_at(&mut out, 32, &self.base_offset.to_le_bytes());
        let sum = crc(&out[..60]);
        put_at(&mut out, 60, &sum.to_le_bytes());
        out
    }

    /// Reads a header; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, String> {
        let Some(header) = bytes.get(..SEGMENT_HEADER_BYTES) else {
            return Err("it is shorter than a header".to_owned());
        };
        if !header.starts_with(&MAGIC) {
            return Err("it is no segment".to_owned());
        }
        if crc(&header[..60]) != u32_at(header, 60) {
            return Err("the checksum of its header is wrong".to_owned());
        }
        let version = u16_at(header, 4);
        if version > SEGMENT_VERSION {
            return Err(format!("its format {version} is newer than this program knows"));
        }
        let partition = PartitionKey {
            topic_id: Uuid(array_at(header, 8)),
            partition: i32::from_le_bytes(array_at(header, 24)),
        };
        Ok(SegmentHeader { partition, base_offset: u64_at(header, 32) as i64 })
    }
}

/// The directory of a topic.
pub(crate) fn topic_dir(topic_id: Uuid) -> String {
    let hex: String = topic_id.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{TOPICS_DIR}/{hex}")
}

/// The directory of a partition.
pub(crate) fn partition_dir(key: PartitionKey) -> String {
    format!("{}/{}", topic_dir(key.topic_id), key.partition)
}

/// The path of a segment.
pub(crate) fn segment_path(key: PartitionKey, base_offset: i64) -> String {
    format!("{}/{base_offset:020}.seg", partition_dir(key))
}

const _: () = assert!(SEGMENT_HEADER_BYTES == 60 + 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_flipped_bits_are_noticed() {
        let partition = PartitionKey { topic_id: Uuid([7; 16]), partition: 3 };
        let header = SegmentHeader { partition, base_offset: 1 << 40 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for at in 0..SEGMENT_HEADER_BYTES {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert!(SegmentHeader::decode(&flipped).is_err(), "byte {at}");
        }
        assert!(SegmentHeader::decode(&bytes[..63]).is_err());
        let path = segment_path(partition, 42);
        let wanted = format!("topics/{}/3/00000000000000000042.seg", "07".repeat(16));
        assert_eq!(path, wanted);
    }
}
