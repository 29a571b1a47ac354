//! A checkpoint's bytes.
//!
//! ```text
//! checkpoint/<number, 20 digits>.mpc      (written as <number>.tmp, synced, renamed)
//!
//! | header 128 | segment rows 72 x count | engine snapshot |
//!
//! header (little-endian)
//!   0 magic "MPCP"        4 version u16         6 header bytes u16
//!   8 checkpoint number  16 journal id          24 resume: ring position
//!  32 resume: commit     40 resume: next entry  48 resume: incarnation    (all u64)
//!  56 resume: previous commit's crc u32         60 segment rows u32
//!  64 snapshot bytes u64 72 crc of rows and snapshot u32                  76 reserved, zero
//! 124 crc u32 of bytes 0..124
//!
//! segment row
//!   0 topic id 16        16 partition i32       20 flags u32: bit 0 packed, bit 1 compacted
//!  24 base offset i64    32 end offset i64      40 trusted bytes u64      48 max timestamp i64
//!  56 records u64        64 generation u32      68 reserved u32
//! ```
//!
//! Version 1 is read too: its rows have 56 bytes, the first 56 of these, with flags of zero.
//!
//! The snapshot is the engine's, with its own version; it stands at the entry before "next entry".

use bytes::Bytes;
use millpond_engine::PartitionKey;
use millpond_wire::limits::CHECKPOINT_BYTES_MAX;
use millpond_wire::uuid::Uuid;

use crate::fields::{array_at, crc, put_at, u16_at, u32_at, u64_at};
use crate::journal::{JournalPosition, RingPosition};
use crate::segments::{SegmentMeta, SegmentTable};

/// The version that is written; a higher one is refused.
pub const CHECKPOINT_VERSION: u16 = 2;
/// Bytes of the header.
pub const CHECKPOINT_HEADER_BYTES: usize = 128;
/// Bytes of a segment row.
pub const SEGMENT_ROW_BYTES: usize = 72;
/// The same in version 1.
const SEGMENT_ROW_BYTES_V1: usize = 56;

const FLAG_PACKED: u32 = 1;
const FLAG_CLEAN: u32 = 2;

const MAGIC: [u8; 4] = *b"MPCP";

/// What a start needs before it reads the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Consecutive; the newest counts.
    pub number: u64,
    /// The journal that continues it.
    pub journal_id: u64,
    /// Where the journal is to be read from.
    pub resume: JournalPosition,
    /// The segments and how much of each is to be trusted.
    pub segments: SegmentTable,
    /// The engine's own; `None` in the checkpoint of a new node.
    pub snapshot: Bytes,
}

impl Checkpoint {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let rows_bytes = self.segments.len() * SEGMENT_ROW_BYTES;
        let body_bytes = rows_bytes + self.snapshot.len();
        let mut out = vec![0; CHECKPOINT_HEADER_BYTES + rows_bytes];
        let rows = out[CHECKPOINT_HEADER_BYTES..].chunks_exact_mut(SEGMENT_ROW_BYTES);
        for ((key, meta), row) in self.segments.iter().zip(rows) {
            put_row(row, key, meta);
        }
        out.extend_from_slice(&self.snapshot);
        debug_assert_eq!(out.len(), CHECKPOINT_HEADER_BYTES + body_bytes);
        let body_crc = crc(&out[CHECKPOINT_HEADER_BYTES..]);
        put_at(&mut out, 0, &MAGIC);
        put_at(&mut out, 4, &CHECKPOINT_VERSION.to_le_bytes());
        put_at(&mut out, 6, &(CHECKPOINT_HEADER_BYTES as u16).to_le_bytes());
        put_at(&mut out, 8, &self.number.to_le_bytes());
        put_at(&mut out, 16, &self.journal_id.to_le_bytes());
        put_at(&mut out, 24, &self.resume.position.0.to_le_bytes());
        put_at(&mut out, 32, &self.resume.commit.to_le_bytes());
        put_at(&mut out, 40, &self.resume.next_entry.to_le_bytes());
        put_at(&mut out, 48, &self.resume.incarnation.to_le_bytes());
        put_at(&mut out, 56, &self.resume.previous_crc.to_le_bytes());
        put_at(&mut out, 60, &(self.segments.len() as u32).to_le_bytes());
        put_at(&mut out, 64, &(self.snapshot.len() as u64).to_le_bytes());
        put_at(&mut out, 72, &body_crc.to_le_bytes());
        let header_crc = crc(&out[..124]);
        put_at(&mut out, 124, &header_crc.to_le_bytes());
        out
    }

    /// Reads the bytes of a file; the error says what is wrong with it.
    pub fn decode(bytes: Bytes) -> Result<Checkpoint, String> {
        let header = bytes.get(..CHECKPOINT_HEADER_BYTES).ok_or("it is shorter than its header")?;
        if !header.starts_with(&MAGIC) {
            return Err("it is no checkpoint".to_owned());
        }
        if crc(&header[..124]) != u32_at(header, 124) {
            return Err("the checksum of its header is wrong".to_owned());
        }
        let version = u16_at(header, 4);
        if version > CHECKPOINT_VERSION {
            return Err(format!("its format {version} is newer than this program knows"));
        }
        let rows = u32_at(header, 60) as usize;
        let body = bytes.slice(CHECKPOINT_HEADER_BYTES..);
        let row_bytes = if version < 2 { SEGMENT_ROW_BYTES_V1 } else { SEGMENT_ROW_BYTES };
        let rows_bytes = rows.saturating_mul(row_bytes);
        let wanted = (rows_bytes as u64).checked_add(u64_at(header, 64));
        if wanted != Some(body.len() as u64) || bytes.len() > CHECKPOINT_BYTES_MAX {
            return Err("its length is not what its header says".to_owned());
        }
        if crc(&body) != u32_at(header, 72) {
            return Err("its checksum is wrong".to_owned());
        }
        let mut segments = SegmentTable::default();
        for row in body[..rows_bytes].chunks_exact(row_bytes) {
            let (key, meta) = take_row(row);
            segments.put(key, meta);
        }
        Ok(Checkpoint {
            number: u64_at(header, 8),
            journal_id: u64_at(header, 16),
            resume: JournalPosition {
                position: RingPosition(u64_at(header, 24)),
                commit: u64_at(header, 32),
                previous_crc: u32_at(header, 56),
                next_entry: u64_at(header, 40),
                incarnation: u64_at(header, 48),
            },
            segments,
            snapshot: body.slice(rows_bytes..),
        })
    }
}

fn put_row(row: &mut [u8], key: PartitionKey, meta: &SegmentMeta) {
    let packed = if meta.is_packed { FLAG_PACKED } else { 0 };
    let clean = if meta.is_clean { FLAG_CLEAN } else { 0 };
    put_at(row, 0, &key.topic_id.0);
    put_at(row, 16, &key.partition.to_le_bytes());
    put_at(row, 20, &(packed | clean).to_le_bytes());
    put_at(row, 24, &meta.base_offset.to_le_bytes());
    put_at(row, 32, &meta.end_offset.to_le_bytes());
    put_at(row, 40, &meta.trusted_bytes.to_le_bytes());
    put_at(row, 48, &meta.max_timestamp.to_le_bytes());
    put_at(row, 56, &meta.records.to_le_bytes());
    put_at(row, 64, &meta.generation.to_le_bytes());
}

/// What lies beyond a row of version 1 reads as zero.
fn take_row(row: &[u8]) -> (PartitionKey, SegmentMeta) {
    let partition = i32::from_le_bytes(array_at(row, 16));
    let key = PartitionKey { topic_id: Uuid(array_at(row, 0)), partition };
    let flags = u32_at(row, 20);
    let meta = SegmentMeta {
        base_offset: u64_at(row, 24) as i64,
        generation: u32_at(row, 64),
        end_offset: u64_at(row, 32) as i64,
        trusted_bytes: u64_at(row, 40),
        max_timestamp: u64_at(row, 48) as i64,
        records: u64_at(row, 56),
        is_packed: flags & FLAG_PACKED != 0,
        is_clean: flags & FLAG_CLEAN != 0,
    };
    (key, meta)
}

const _: () = {
    assert!(CHECKPOINT_HEADER_BYTES == 124 + 4);
    assert!(SEGMENT_ROW_BYTES == 64 + 8);
    assert!(SEGMENT_ROW_BYTES_V1 == 48 + 8);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let mut segments = SegmentTable::default();
        for partition in 0..3 {
            let key = PartitionKey { topic_id: Uuid([9; 16]), partition };
            for base_offset in [0, 100] {
                let meta = SegmentMeta {
                    base_offset,
                    generation: 1,
                    end_offset: base_offset + 100,
                    trusted_bytes: 5_000,
                    max_timestamp: -1,
                    records: 90,
                    is_packed: partition == 1,
                    is_clean: partition == 2,
                };
                segments.put(key, meta);
            }
        }
        Checkpoint {
            number: 4,
            journal_id: 77,
            resume: JournalPosition {
                position: RingPosition(8192),
                commit: 5,
                previous_crc: 6,
                next_entry: 7,
                incarnation: 8,
            },
            segments,
            snapshot: Bytes::from_static(b"the engine's state"),
        }
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let checkpoint = sample();
        let decoded = Checkpoint::decode(checkpoint.encode().into());
        assert_eq!(decoded, Ok(checkpoint));
    }

    /// As the first release wrote it.
    fn encode_v1(checkpoint: &Checkpoint) -> Vec<u8> {
        let bytes = checkpoint.encode();
        let rows = checkpoint.segments.len();
        let (header, body) = bytes.split_at(CHECKPOINT_HEADER_BYTES);
        let mut old = header.to_vec();
        for row in body[..rows * SEGMENT_ROW_BYTES].chunks(SEGMENT_ROW_BYTES) {
            old.extend_from_slice(&row[..SEGMENT_ROW_BYTES_V1]);
        }
        old.extend_from_slice(&checkpoint.snapshot);
        put_at(&mut old, 4, &1_u16.to_le_bytes());
        let body_crc = crc(&old[CHECKPOINT_HEADER_BYTES..]);
        put_at(&mut old, 72, &body_crc.to_le_bytes());
        let header_crc = crc(&old[..124]);
        put_at(&mut old, 124, &header_crc.to_le_bytes());
        old
    }

    #[test]
    fn a_checkpoint_of_version_1_is_read() {
        let mut wanted = sample();
        let rows: Vec<_> = wanted.segments.iter().map(|(key, meta)| (key, *meta)).collect();
        wanted.segments = SegmentTable::default();
        for (key, meta) in rows {
            let old = SegmentMeta {
                generation: 0,
                records: 0,
                is_packed: false,
                is_clean: false,
                ..meta
            };
            wanted.segments.put(key, old);
        }
        let bytes = encode_v1(&wanted);
        assert_eq!(Checkpoint::decode(bytes.into()), Ok(wanted));
    }

    #[test]
    fn a_checkpoint_of_a_newer_version_is_refused() {
        let mut bytes = sample().encode();
        put_at(&mut bytes, 4, &(CHECKPOINT_VERSION + 1).to_le_bytes());
        let header_crc = crc(&bytes[..124]);
        put_at(&mut bytes, 124, &header_crc.to_le_bytes());
        let error = Checkpoint::decode(bytes.into()).expect_err("refused");
        assert!(error.contains("newer"), "{error}");
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert!(Checkpoint::decode(flipped.into()).is_err(), "byte {at}");
            assert!(Checkpoint::decode(bytes[..at].to_vec().into()).is_err(), "length {at}");
        }
    }
}
