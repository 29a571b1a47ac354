//! The index of a closed segment on the disk, so that a lookup after a start need not read all
//! headers of a large segment. A help and nothing more: it is not synced, whatever is wrong with it
//! is as if it were not there, and a mark counts only where a batch with its offset stands.
//!
//! ```text
//! <the segment's name without .seg>.idx
//!
//! | header 80 | mark 24 x count |
//!
//! header (little-endian)
//!   0 magic "MPSI"     4 version u16       6 header bytes u16
//!   8 topic id 16     24 partition i32    28 generation u32
//!  32 base offset i64 40 trusted bytes of the segment u64   48 greatest timestamp i64
//!  56 marks u32       60 crc u32 of the marks               64 reserved, zero
//!  76 crc u32 of bytes 0..76
//!
//! mark
//!   0 base offset i64  8 position u64     16 greatest timestamp before it i64
//! ```

use millpond_engine::PartitionKey;
use millpond_wire::limits::{SEGMENT_INDEX_FILE_MARKS_MAX, SEGMENT_INDEXED_BYTES_MIN};
use millpond_wire::uuid::Uuid;

use super::format::{index_path, partition_dir};
use super::index::{Mark, SegmentIndex};
use super::table::SegmentMeta;
use super::{SegmentId, Segments};
use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode};
use crate::fields::{array_at, crc, put_at, u16_at, u32_at, u64_at};
use crate::metrics::WriteCause;

const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"MPSI";
const HEADER_BYTES: usize = 80;
const MARK_BYTES: usize = 24;
const ALIGN_BYTES: usize = 512;

impl<D: Disk> Segments<D> {
    /// Writes the indexes of segments of these partitions that are closed, large, and known in full.
    /// An error is told and forgotten: the index will be made by reading.
    pub(crate) async fn write_indexes(&self, keys: impl IntoIterator<Item = PartitionKey>) {
        for key in keys {
            for (meta, bytes) in self.unwritten_indexes(key) {
                if let Err(error) = self.write_index(key, &meta, &bytes).await {
                    tracing::debug!(partition = %key, %error, "an index cannot be written");
                    return;
                }
            }
        }
    }

    fn unwritten_indexes(&self, key: PartitionKey) -> Vec<(SegmentMeta, Vec<u8>)> {
        let state = &mut *self.state.borrow_mut();
        let closed = state.table.of(key).iter().rev().skip(1);
        let mut found = Vec::new();
        for meta in closed {
            let Some(index) = state.indexes.get_mut(&(key, meta.name())) else {
                break;
            };
            let is_worth_it = meta.trusted_bytes >= SEGMENT_INDEXED_BYTES_MIN as u64;
            if index.is_filed {
                break;
            }
            index.is_filed = true;
            if is_worth_it && index.scanned() == meta.trusted_bytes {
                found.push((*meta, encode(key, meta, index)));
            }
        }
        found
    }

    async fn write_index(
        &self,
        key: PartitionKey,
        meta: &SegmentMeta,
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        let path = index_path(key, meta.name());
        let file = self.disk.open(&path, OpenMode::CREATE).await?;
        file.write_at(0, AlignedBuf::copied_from(bytes, ALIGN_BYTES)).await.0?;
        self.meter.wrote(WriteCause::Index, bytes.len() as u64);
        Ok(())
    }

    /// Takes the index of a segment from its file, if it is not in memory and there is one.
    pub(super) async fn load_index(&self, key: PartitionKey, meta: &SegmentMeta) {
        let id = (key, meta.name());
        let is_known = self.state.borrow().indexes.contains_key(&id);
        if is_known || meta.trusted_bytes < SEGMENT_INDEXED_BYTES_MIN as u64 {
            return;
        }
        match self.read_index(key, meta).await {
            Ok(Some(index)) => self.learn_filed(id, index),
            Ok(None) => {}
            Err(error) => {
                let dir = partition_dir(key);
                tracing::debug!(dir, %error, "the file of an index cannot be read");
            }
        }
    }

    async fn read_index(
        &self,
        key: PartitionKey,
        meta: &SegmentMeta,
    ) -> Result<Option<SegmentIndex>, DiskError> {
        let path = index_path(key, meta.name());
        let file = match self.disk.open(&path, OpenMode::EXISTING).await {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        };
        let len_max = HEADER_BYTES + SEGMENT_INDEX_FILE_MARKS_MAX * MARK_BYTES;
        let len = (file.len_bytes().await? as usize).min(len_max);
        let (result, buf) = file.read_at(0, AlignedBuf::with_capacity(len, ALIGN_BYTES), len).await;
        result?;
        Ok(decode(key, meta, buf.as_slice()))
    }

    fn learn_filed(&self, id: SegmentId, mut index: SegmentIndex) {
        let state = &mut *self.state.borrow_mut();
        if state.indexes.contains_key(&id) || !state.table.holds(id.0, id.1) {
            return;
        }
        state.uses += 1;
        index.used_at = state.uses;
        index.is_filed = true;
        state.marks += index.len();
        state.indexes.insert(id, index);
        state.bound_indexes();
    }
}

fn encode(key: PartitionKey, meta: &SegmentMeta, index: &SegmentIndex) -> Vec<u8> {
    let marks = index.marks();
    let mut out = vec![0; HEADER_BYTES + marks.len() * MARK_BYTES];
    for (mark, row) in marks.iter().zip(out[HEADER_BYTES..].chunks_exact_mut(MARK_BYTES)) {
        put_at(row, 0, &mark.base_offset.to_le_bytes());
        put_at(row, 8, &mark.position.to_le_bytes());
        put_at(row, 16, &mark.max_timestamp_before.to_le_bytes());
    }
    let marks_crc = crc(&out[HEADER_BYTES..]);
    put_at(&mut out, 0, &MAGIC);
    put_at(&mut out, 4, &VERSION.to_le_bytes());
    put_at(&mut out, 6, &(HEADER_BYTES as u16).to_le_bytes());
    put_at(&mut out, 8, &key.topic_id.0);
    put_at(&mut out, 24, &key.partition.to_le_bytes());
    put_at(&mut out, 28, &meta.generation.to_le_bytes());
    put_at(&mut out, 32, &meta.base_offset.to_le_bytes());
    put_at(&mut out, 40, &meta.trusted_bytes.to_le_bytes());
    put_at(&mut out, 48, &index.max_timestamp().to_le_bytes());
    put_at(&mut out, 56, &(marks.len() as u32).to_le_bytes());
    put_at(&mut out, 60, &marks_crc.to_le_bytes());
    let header_crc = crc(&out[..76]);
    put_at(&mut out, 76, &header_crc.to_le_bytes());
    out
}

/// `None` for anything that is not the whole index of this very segment, in a version known here.
fn decode(key: PartitionKey, meta: &SegmentMeta, bytes: &[u8]) -> Option<SegmentIndex> {
    let (header, rows) = bytes.split_at_checked(HEADER_BYTES)?;
    let is_sound = header.starts_with(&MAGIC)
        && crc(&header[..76]) == u32_at(header, 76)
        && u16_at(header, 4) == VERSION;
    let partition = i32::from_le_bytes(array_at(header, 24));
    let owner = PartitionKey { topic_id: Uuid(array_at(header, 8)), partition };
    let is_its = owner == key
        && u32_at(header, 28) == meta.generation
        && u64_at(header, 32) as i64 == meta.base_offset
        && u64_at(header, 40) == meta.trusted_bytes;
    let is_whole =
        rows.len() == u32_at(header, 56) as usize * MARK_BYTES && crc(rows) == u32_at(header, 60);
    if !(is_sound && is_its && is_whole) {
        return None;
    }
    let mark = |row: &[u8]| Mark {
        base_offset: u64_at(row, 0) as i64,
        position: u64_at(row, 8),
        max_timestamp_before: u64_at(row, 16) as i64,
    };
    let marks: Vec<_> = rows.chunks_exact(MARK_BYTES).map(mark).collect();
    SegmentIndex::restored(marks, meta.trusted_bytes, u64_at(header, 48) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::SegmentName;

    const KEY: PartitionKey = PartitionKey { topic_id: Uuid([4; 16]), partition: 2 };

    fn sample() -> (SegmentMeta, SegmentIndex) {
        let mut index = SegmentIndex::new(64, 100);
        for batch in 0..200_u64 {
            index.saw(64 + batch * 10_000, 10_000, 100 + batch as i64 * 5, batch as i64);
        }
        let empty = SegmentMeta::empty(SegmentName { base_offset: 100, generation: 3 });
        (SegmentMeta { trusted_bytes: index.scanned(), ..empty }, index)
    }

    #[test]
    fn an_index_comes_back_for_its_own_segment_only() {
        let (meta, index) = sample();
        let bytes = encode(KEY, &meta, &index);
        let read = decode(KEY, &meta, &bytes).expect("its own");
        assert_eq!(read.marks(), index.marks());
        assert_eq!((read.scanned(), read.max_timestamp()), (meta.trusted_bytes, 199));
        let longer = SegmentMeta { trusted_bytes: meta.trusted_bytes + 4096, ..meta };
        let other = PartitionKey { partition: 3, ..KEY };
        assert!(decode(KEY, &longer, &bytes).is_none());
        assert!(decode(other, &meta, &bytes).is_none());
    }

    #[test]
    fn any_flipped_bit_and_any_cut_makes_it_nothing() {
        let (meta, index) = sample();
        let bytes = encode(KEY, &meta, &index);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(decode(KEY, &meta, &flipped).is_none(), "byte {at}");
            assert!(decode(KEY, &meta, &bytes[..at]).is_none(), "length {at}");
        }
    }
}
