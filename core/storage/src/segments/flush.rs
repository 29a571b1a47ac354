//! Writing behind: a checkpoint hands over a partition's batches, they go to the end of its newest
//! segment or into new ones. Nothing of it counts before the checkpoint names the new lengths.

use std::collections::BTreeSet;

use millpond_engine::PartitionKey;
use millpond_wire::record::LogBatch;

use super::Segments;
use super::format::{TOPICS_DIR, partition_dir, topic_dir};
use super::table::{SegmentMeta, SegmentName};
use super::writer::{SegmentWriter, WrittenSegment};
use crate::disk::{Disk, DiskError};
use crate::metrics::WriteCause;

/// A partition's batches on their way to its segments.
pub(crate) struct Flush<'a, D: Disk> {
    segments: &'a Segments<D>,
    key: PartitionKey,
    /// To be continued, if it can be.
    newest: Option<SegmentMeta>,
    /// Bytes that are still to be written.
    rest_bytes: usize,
    writer: Option<SegmentWriter<D>>,
    done: Vec<WrittenSegment>,
}

impl<D: Disk> Segments<D> {
    /// Makes the directories of partitions that have no segments yet, durably.
    pub(crate) async fn make_directories(
        &self,
        keys: impl IntoIterator<Item = PartitionKey>,
    ) -> Result<(), DiskError> {
        let mut parents = BTreeSet::new();
        for key in keys {
            self.disk.create_dir_all(&partition_dir(key)).await?;
            parents.extend([String::new(), TOPICS_DIR.to_owned(), topic_dir(key.topic_id)]);
        }
        for parent in parents {
            self.disk.sync_dir(&parent).await?;
            self.meter.synced(WriteCause::Metadata);
        }
        Ok(())
    }

    /// Begins to write what continues a partition's segments; `newest` is the last of them, about
    /// `expected_bytes` will come. The partition's directory is there.
    pub(crate) fn begin_flush(
        &self,
        key: PartitionKey,
        newest: Option<SegmentMeta>,
        expected_bytes: usize,
    ) -> Flush<'_, D> {
        let rest_bytes = expected_bytes;
        Flush { segments: self, key, newest, rest_bytes, writer: None, done: Vec::new() }
    }
}

impl<D: Disk> Flush<'_, D> {
    /// Adds a batch, packed or as it came.
    pub(crate) async fn add(&mut self, batch: &LogBatch) -> Result<(), DiskError> {
        if self.writer.as_ref().is_some_and(|writer| !self.fits(writer, batch)) {
            self.close().await?;
        }
        if self.writer.is_none() {
            self.writer = Some(self.open(batch).await?);
        }
        if let Some(writer) = &mut self.writer {
            writer.add(batch).await?;
        }
        self.rest_bytes = self.rest_bytes.saturating_sub(batch.size_bytes());
        Ok(())
    }

    /// Syncs all. Answers the segments that are new or longer, for the checkpoint.
    pub(crate) async fn finish(mut self) -> Result<Vec<WrittenSegment>, DiskError> {
        self.close().await?;
        Ok(self.done)
    }

    /// A segment has no gaps in its offsets: a hole that a reader meets is damage.
    fn fits(&self, writer: &SegmentWriter<D>, batch: &LogBatch) -> bool {
        let is_full = writer.len_bytes() >= self.segments.segment_bytes as u64;
        !is_full && writer.end_offset() == batch.base_offset()
    }

    async fn open(&mut self, batch: &LogBatch) -> Result<SegmentWriter<D>, DiskError> {
        let (key, segments, expected) = (self.key, self.segments, self.rest_bytes);
        let base_offset = batch.base_offset();
        if let Some(newest) = self.newest.take()
            && segments.can_continue(&newest)
            && newest.end_offset == base_offset
        {
            return segments.continue_segment(key, newest, expected, WriteCause::Segment).await;
        }
        let name = SegmentName { base_offset, generation: 0 };
        segments.begin_segment(key, name, expected, WriteCause::Segment).await
    }

    async fn close(&mut self) -> Result<(), DiskError> {
        if let Some(writer) = self.writer.take() {
            self.done.push(writer.finish().await?);
        }
        Ok(())
    }
}
