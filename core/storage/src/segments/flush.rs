//! Writing behind: a checkpoint hands over a partition's batches, they go to the end of its newest
//! segment in large writes, then that file is synced. Nothing of it counts before the checkpoint
//! names the new lengths.

use bytes::BufMut;
use millpond_engine::PartitionKey;
use millpond_wire::limits::SEGMENT_GATHER_BYTES;
use millpond_wire::record::LogBatch;

use super::Segments;
use super::format::{SegmentHeader, TOPICS_DIR, partition_dir, segment_path, topic_dir};
use super::table::{SegmentMeta, SegmentName};
use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode};
use crate::metrics::WriteCause;

/// A segment being written.
struct Open<F> {
    meta: SegmentMeta,
    file: F,
    buf: AlignedBuf,
    /// Where `buf` goes.
    at: u64,
}

impl<D: Disk> Segments<D> {
    /// Writes batches, which continue what the partition's segments hold (`newest` is the last of
    /// them), and syncs them. Answers the segments that are new or longer, for the checkpoint.
    pub(crate) async fn flush(
        &self,
        key: PartitionKey,
        newest: Option<SegmentMeta>,
        batches: &[LogBatch],
    ) -> Result<Vec<SegmentMeta>, DiskError> {
        let mut newest = newest;
        let mut done = Vec::new();
        let mut open: Option<Open<D::File>> = None;
        for batch in batches {
            let is_full = open
                .as_ref()
                .is_some_and(|open| open.at + open.buf.len() as u64 >= self.segment_bytes as u64);
            if is_full && let Some(full) = open.take() {
                done.push(self.close(full).await?);
            }
            let mut current = match open.take() {
                Some(current) => current,
                None => self.open_for(key, newest.take(), batch.base_offset()).await?,
            };
            current = self.add(current, batch).await?;
            open = Some(current);
        }
        if let Some(last) = open {
            done.push(self.close(last).await?);
        }
        Ok(done)
    }

    /// The newest segment if it has room, else a new one.
    async fn open_for(
        &self,
        key: PartitionKey,
        newest: Option<SegmentMeta>,
        base_offset: i64,
    ) -> Result<Open<D::File>, DiskError> {
        let buf = AlignedBuf::with_capacity(SEGMENT_GATHER_BYTES, WRITE_ALIGN_BYTES);
        if let Some(meta) = newest
            && meta.trusted_bytes < self.segment_bytes as u64
        {
            let path = segment_path(key, meta.name());
            let file = self.disk.open(&path, OpenMode::EXISTING).await?;
            return Ok(Open { meta, file, buf, at: meta.trusted_bytes });
        }
        if newest.is_none() {
            self.make_directories(key).await?;
        }
        let name = SegmentName { base_offset, generation: 0 };
        let file = self.disk.open(&segment_path(key, name), OpenMode::CREATE).await?;
        // Left over from a checkpoint that did not come to its end.
        if file.len_bytes().await? > 0 {
            file.set_len_bytes(0).await?;
        }
        self.disk.sync_dir(&partition_dir(key)).await?;
        self.meter.synced(WriteCause::Metadata);
        let mut open = Open { meta: SegmentMeta::empty(name), file, buf, at: 0 };
        open.buf.extend_from_slice(&SegmentHeader { partition: key, name }.encode());
        Ok(open)
    }

    async fn make_directories(&self, key: PartitionKey) -> Result<(), DiskError> {
        let dir = partition_dir(key);
        self.disk.create_dir_all(&dir).await?;
        for parent in ["", TOPICS_DIR, &topic_dir(key.topic_id)] {
            self.disk.sync_dir(parent).await?;
            self.meter.synced(WriteCause::Metadata);
        }
        Ok(())
    }

    async fn add(
        &self,
        mut open: Open<D::File>,
        batch: &LogBatch,
    ) -> Result<Open<D::File>, DiskError> {
        let size = batch.size_bytes();
        if open.buf.len() + size > open.buf.capacity() {
            open = self.write_out(open).await?;
            if size > open.buf.capacity() {
                open.buf = AlignedBuf::with_capacity(size, WRITE_ALIGN_BYTES);
            }
        }
        let start = open.buf.len();
        open.buf.set_len(start + size);
        let mut room = &mut open.buf.as_mut_slice()[start..];
        batch.write_to(&mut room);
        assert!(!room.has_remaining_mut(), "a batch is as long as it says");
        open.meta.end_offset = batch.next_offset();
        open.meta.records += u64::try_from(batch.header().records_count).unwrap_or(0);
        open.meta.max_timestamp = open.meta.max_timestamp.max(batch.max_timestamp());
        Ok(open)
    }

    async fn write_out(&self, mut open: Open<D::File>) -> Result<Open<D::File>, DiskError> {
        let len = open.buf.len() as u64;
        if len > 0 {
            let (result, buf) = open.file.write_at(open.at, open.buf).await;
            open.buf = buf;
            result?;
            self.meter.wrote(WriteCause::Segment, len);
            open.at += len;
            open.buf.clear();
        }
        Ok(open)
    }

    async fn close(&self, open: Open<D::File>) -> Result<SegmentMeta, DiskError> {
        let open = self.write_out(open).await?;
        open.file.sync().await?;
        self.meter.synced(WriteCause::Segment);
        Ok(SegmentMeta { trusted_bytes: open.at, ..open.meta })
    }
}

/// Segments go through the page cache; this only keeps copies within cache lines.
const WRITE_ALIGN_BYTES: usize = 512;
