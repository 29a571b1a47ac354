//! Writing one segment: batches gathered into large aligned writes around the page cache, zeros up
//! to a block at the end, one sync. It never writes a block that holds trusted bytes, and nothing
//! that it wrote counts before a checkpoint names it.

use std::rc::Rc;

use millpond_engine::PartitionKey;
use millpond_wire::limits::SEGMENT_GATHER_BYTES;
use millpond_wire::record::{HEADER_BYTES, LogBatch};

use super::Segments;
use super::format::{PADDING_UNIT_BYTES, SegmentHeader, padded_end, partition_dir, segment_path};
use super::index::SegmentIndex;
use super::table::{SegmentMeta, SegmentName};
use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode};
use crate::metrics::{Meter, WriteCause};

/// A segment being written.
pub struct SegmentWriter<D: Disk> {
    file: D::File,
    meta: SegmentMeta,
    buf: AlignedBuf,
    /// Where `buf` goes.
    at: u64,
    /// Whether something of this writer is written and not synced.
    is_dirty: bool,
    block_bytes: usize,
    cause: WriteCause,
    meter: Rc<Meter>,
    /// What the index of the new part will be.
    index: SegmentIndex,
}

/// A segment that was written and synced.
pub struct WrittenSegment {
    /// For the table.
    pub meta: SegmentMeta,
    /// The index of the part that was written.
    pub(crate) index: SegmentIndex,
}

impl<D: Disk> Segments<D> {
    /// Begins a new segment; its partition's directory is there. `expected_bytes` is about what
    /// will be added: small ones need a small buffer only.
    pub async fn begin_segment(
        &self,
        key: PartitionKey,
        name: SegmentName,
        expected_bytes: usize,
        cause: WriteCause,
    ) -> Result<SegmentWriter<D>, DiskError> {
        let file = self.create_file(key, name).await?;
        let header = SegmentHeader { partition: key, name }.encode();
        let meta = SegmentMeta::empty(name);
        let index = SegmentIndex::new(header.len() as u64, name.base_offset);
        let mut writer =
            self.writer(file, meta, index, expected_bytes.saturating_add(header.len()), cause);
        writer.buf.extend_from_slice(&header);
        Ok(writer)
    }

    /// Makes the file of a new segment and its directory entry durable.
    pub(crate) async fn create_file(
        &self,
        key: PartitionKey,
        name: SegmentName,
    ) -> Result<D::File, DiskError> {
        let file = self.disk.open(&segment_path(key, name), OpenMode::CREATE_DIRECT).await?;
        self.disk.sync_dir(&partition_dir(key)).await?;
        self.meter.synced(WriteCause::Metadata);
        Ok(file)
    }

    /// Goes on with a segment at the next block after its trusted part.
    pub async fn continue_segment(
        &self,
        key: PartitionKey,
        meta: SegmentMeta,
        expected_bytes: usize,
        cause: WriteCause,
    ) -> Result<SegmentWriter<D>, DiskError> {
        let path = segment_path(key, meta.name());
        let file = self.disk.open(&path, OpenMode::DIRECT).await?;
        let index = SegmentIndex::new(meta.trusted_bytes, meta.end_offset);
        Ok(self.writer(file, meta, index, expected_bytes, cause))
    }

    fn writer(
        &self,
        file: D::File,
        meta: SegmentMeta,
        index: SegmentIndex,
        expected_bytes: usize,
        cause: WriteCause,
    ) -> SegmentWriter<D> {
        let block_bytes = self.disk.block_bytes();
        // The padding may take a block more.
        let wanted = expected_bytes.saturating_add(block_bytes + HEADER_BYTES);
        let buf = AlignedBuf::with_capacity(wanted.min(SEGMENT_GATHER_BYTES), block_bytes);
        let meter = Rc::clone(&self.meter);
        let at = meta.trusted_bytes;
        SegmentWriter { file, meta, buf, at, is_dirty: false, block_bytes, cause, meter, index }
    }

    /// Whether a segment can be continued: it has room, its end lies on a block, and the journal
    /// needs nothing beyond that end.
    pub(crate) fn can_continue(&self, key: PartitionKey, meta: &SegmentMeta) -> bool {
        let unit = self.disk.block_bytes().max(PADDING_UNIT_BYTES) as u64;
        meta.trusted_bytes < self.segment_bytes as u64
            && meta.trusted_bytes.is_multiple_of(unit)
            && !meta.is_clean
            && !self.state.borrow().recovered.contains(&(key, meta.name()))
    }
}

impl<D: Disk> SegmentWriter<D> {
    /// Bytes of the segment so far.
    pub fn len_bytes(&self) -> u64 {
        self.at + self.buf.len() as u64
    }

    /// The offset after the last batch.
    pub fn end_offset(&self) -> i64 {
        self.meta.end_offset
    }

    /// Whether compaction made what is written.
    pub fn set_clean(&mut self) {
        self.meta.is_clean = true;
    }

    /// Adds a batch; whole buffers are written on the way.
    pub async fn add(&mut self, batch: &LogBatch) -> Result<(), DiskError> {
        let header = batch.header();
        let (position, size) = (self.len_bytes(), batch.size_bytes() as u64);
        self.index.saw(position, size, batch.base_offset(), batch.max_timestamp());
        self.put(&batch.stamped_header()).await?;
        self.put(batch.unstamped().get(HEADER_BYTES..).unwrap_or_default()).await?;
        self.meta.end_offset = batch.next_offset();
        self.meta.is_packed |= header.attributes.is_repacked();
        self.meta.records += u64::try_from(header.records_count).unwrap_or(0);
        self.meta.max_timestamp = self.meta.max_timestamp.max(batch.max_timestamp());
        Ok(())
    }

    async fn put(&mut self, mut bytes: &[u8]) -> Result<(), DiskError> {
        while !bytes.is_empty() {
            let room = self.buf.capacity() - self.buf.len();
            if room == 0 {
                self.write_out().await?;
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buf.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the buffer, which is full.
    async fn write_out(&mut self) -> Result<(), DiskError> {
        let buf = std::mem::replace(&mut self.buf, AlignedBuf::with_capacity(0, self.block_bytes));
        let len = buf.len() as u64;
        let (result, buf) = self.file.write_at(self.at, buf).await;
        self.buf = buf;
        result?;
        self.meter.wrote(cause_of(self.cause, &self.meta), len);
        self.is_dirty = true;
        self.at += len;
        self.buf.clear();
        Ok(())
    }

    /// Pads, writes what is left, and makes all of it durable.
    pub async fn finish(mut self) -> Result<WrittenSegment, DiskError> {
        self.pad().await?;
        let SegmentWriter { file, mut meta, buf, at, is_dirty, cause, meter, index, .. } = self;
        let len = buf.len() as u64;
        if is_dirty {
            if len > 0 {
                file.write_at(at, buf).await.0?;
            }
            file.sync().await?;
        } else {
            // All that there is fits one write: one operation instead of two.
            file.write_durable(at, buf).await.0?;
        }
        let cause = cause_of(cause, &meta);
        meter.wrote(cause, len);
        meter.synced(cause);
        meta.trusted_bytes = at + len;
        Ok(WrittenSegment { meta, index })
    }

    /// Zeros up to a block.
    async fn pad(&mut self) -> Result<(), DiskError> {
        const ZEROS: [u8; PADDING_UNIT_BYTES] = [0; PADDING_UNIT_BYTES];
        let from = self.len_bytes();
        let to = padded_end(from, self.block_bytes);
        self.index.passed(from, to);
        let mut padding = (to - from) as usize;
        while padding > 0 {
            let piece = padding.min(ZEROS.len());
            self.put(&ZEROS[..piece]).await?;
            padding -= piece;
        }
        Ok(())
    }
}

/// A segment that holds packed batches is packing's.
fn cause_of(cause: WriteCause, meta: &SegmentMeta) -> WriteCause {
    match cause {
        WriteCause::Segment if meta.is_packed => WriteCause::Packing,
        cause => cause,
    }
}
