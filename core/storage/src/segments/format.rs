//! A segment's bytes, and where it lies.
//!
//! ```text
//! topics/<topic id, 32 hex digits>/<partition>/<base offset, 20 digits>.seg          generation 0
//! topics/<topic id, 32 hex digits>/<partition>/<base offset, 20 digits>-<generation, 10 digits>.seg
//!
//! | header 64 | batch | batch | ... | zeros to a block | batch | ... | zeros to a block | untrusted |
//! |------------ one flush ----------------------------|---- the next flush ------------|
//!
//! header (64 bytes, little-endian)
//!   0 magic "MPSG"     4 version u16      6 header bytes u16
//!   8 topic id 16     24 partition i32   28 flags u32, zero
//!  32 base offset i64 40 generation u32, zero in version 1         44 reserved, zero
//!  60 crc u32 of bytes 0..60 (CRC-32C)
//! ```
//!
//! Batches are Kafka's own, big-endian, each with its CRC and the offset and leader epoch stamped
//! in; a packed one has bit 8 of its attributes set if its codec is the broker's choice. What counts
//! is the length that the newest checkpoint names; anything beyond it was written by a checkpoint
//! that did not come to its end.
//!
//! **Padding.** Every flush ends with zeros up to a block and the next one begins there, so no block
//! that holds trusted bytes is ever written again. A batch length of zero sends a reader on to the
//! next multiple of 4 KiB. There are either no zeros or at least as many as a batch header has
//! bytes (a block more where need be), so a length is never read half from zeros and half from a
//! batch. Version 1 had no padding; such a segment is never continued.

use millpond_engine::PartitionKey;
use millpond_wire::uuid::Uuid;

use super::table::SegmentName;
use crate::fields::{array_at, crc, put_at, u16_at, u32_at, u64_at};

/// The version that is written; a higher one is refused.
pub const SEGMENT_VERSION: u16 = 2;
/// Bytes before the first batch.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Padding ends at a multiple of this, on every device.
pub(crate) const PADDING_UNIT_BYTES: usize = 4096;
/// The directory of all topics.
pub(crate) const TOPICS_DIR: &str = "topics";

const MAGIC: [u8; 4] = *b"MPSG";

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose batches these are.
    pub partition: PartitionKey,
    /// Which of them.
    pub name: SegmentName,
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
        put_at(&mut out, 32, &self.name.base_offset.to_le_bytes());
        put_at(&mut out, 40, &self.name.generation.to_le_bytes());
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
        let base_offset = u64_at(header, 32) as i64;
        let name = SegmentName { base_offset, generation: u32_at(header, 40) };
        Ok(SegmentHeader { partition, name })
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
pub(crate) fn segment_path(key: PartitionKey, name: SegmentName) -> String {
    let SegmentName { base_offset, generation } = name;
    let dir = partition_dir(key);
    match generation {
        0 => format!("{dir}/{base_offset:020}{SUFFIX}"),
        _ => format!("{dir}/{base_offset:020}-{generation:010}{SUFFIX}"),
    }
}

/// What ends the name of a segment's file.
pub(crate) const SUFFIX: &str = ".seg";

const _: () = assert!(SEGMENT_HEADER_BYTES == 60 + 4);

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: PartitionKey = PartitionKey { topic_id: Uuid([7; 16]), partition: 3 };

    #[test]
    fn headers_come_back_and_flipped_bits_are_noticed() {
        let name = SegmentName { base_offset: 1 << 40, generation: 9 };
        let header = SegmentHeader { partition: PARTITION, name };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for at in 0..SEGMENT_HEADER_BYTES {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert!(SegmentHeader::decode(&flipped).is_err(), "byte {at}");
        }
        assert!(SegmentHeader::decode(&bytes[..63]).is_err());
    }

    #[test]
    fn version_1_is_read_and_a_newer_one_refused() {
        let name = SegmentName { base_offset: 5, generation: 0 };
        let header = SegmentHeader { partition: PARTITION, name };
        for (version, is_known) in [(1_u16, true), (2, true), (3, false)] {
            let mut bytes = header.encode();
            put_at(&mut bytes, 4, &version.to_le_bytes());
            let sum = crc(&bytes[..60]);
            put_at(&mut bytes, 60, &sum.to_le_bytes());
            assert_eq!(SegmentHeader::decode(&bytes).is_ok(), is_known, "version {version}");
        }
    }

    #[test]
    fn names_of_files_are_part_of_the_format() {
        let path =
            |generation| segment_path(PARTITION, SegmentName { base_offset: 42, generation });
        let dir = format!("topics/{}/3", "07".repeat(16));
        assert_eq!(path(0), format!("{dir}/00000000000000000042.seg"));
        assert_eq!(path(17), format!("{dir}/00000000000000000042-0000000017.seg"));
    }
}
