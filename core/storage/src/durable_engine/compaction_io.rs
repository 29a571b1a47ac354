//! What a round of compaction reads and writes: the batches of old segments piece by piece, and new
//! segments that nothing names yet. It must never give out more at once than
//! [`COMPACTION_JOB_BYTES`] and a batch, and never take what is missing for a gap that compaction
//! left.

use millpond_engine::{PartitionKey, ReadFault};
use millpond_wire::limits::COMPACTION_JOB_BYTES;
use millpond_wire::record::LogBatch;
use thiserror::Error;

use crate::disk::{Disk, DiskError};
use crate::metrics::WriteCause;
use crate::segments::{Fault, SegmentMeta, SegmentName, SegmentWriter, Segments, Walk};

/// Why a round came to nothing.
#[derive(Debug, Error)]
pub(super) enum GivenUp {
    #[error("the node stops")]
    Stopping,
    #[error("its segments were dropped or replaced meanwhile")]
    Replaced,
    #[error("{what}")]
    Damaged { name: SegmentName, what: String },
    #[error("the disk has {free_bytes} bytes left, a round needs {needed_bytes}: make room")]
    NoRoom { free_bytes: u64, needed_bytes: u64 },
    #[error("{0}")]
    Disk(DiskError),
    #[error("{0}")]
    Failed(String),
}

impl From<DiskError> for GivenUp {
    fn from(error: DiskError) -> GivenUp {
        // The topic was deleted, and its directory with it.
        if error.is_not_found() { GivenUp::Replaced } else { GivenUp::Disk(error) }
    }
}

/// Batches of some segments, piece by piece, oldest first.
pub(super) struct Feed<'a, D: Disk> {
    segments: &'a Segments<D>,
    key: PartitionKey,
    rest: std::slice::Iter<'a, SegmentMeta>,
    open: Option<OpenSegment<'a, D>>,
}

struct OpenSegment<'a, D: Disk> {
    meta: SegmentMeta,
    walk: Walk<'a, D>,
    /// Found so far.
    records: u64,
}

/// What a round writes.
pub(super) struct Output<'a, D: Disk> {
    segments: &'a Segments<D>,
    pub(super) key: PartitionKey,
    segment_bytes: u64,
    writer: Option<SegmentWriter<D>>,
    /// Segments in which nothing changes: they stay.
    pub(super) kept: Vec<SegmentMeta>,
    /// Names of all files that were begun.
    begun: Vec<SegmentName>,
    pub(super) done: Vec<SegmentMeta>,
    /// Up to here the log is written.
    end_offset: i64,
    is_clean: bool,
}

impl<'a, D: Disk> Feed<'a, D> {
    /// All batches of these segments.
    pub(super) fn new(
        segments: &'a Segments<D>,
        key: PartitionKey,
        metas: &'a [SegmentMeta],
    ) -> Feed<'a, D> {
        Feed { segments, key, rest: metas.iter(), open: None }
    }

    /// The next batches, [`COMPACTION_JOB_BYTES`] of them; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<LogBatch>, GivenUp> {
        let mut piece = Vec::new();
        let mut bytes = 0;
        while bytes < COMPACTION_JOB_BYTES {
            let Some(open) = &mut self.open else {
                let Some(meta) = self.rest.next().copied() else { break };
                let walk = self.segments.walk_all(self.key, meta).await;
                let walk = walk.map_err(|fault| given_up(meta.name(), fault))?;
                self.open = Some(OpenSegment { meta, walk, records: 0 });
                continue;
            };
            let name = open.meta.name();
            let taken = take_next(&mut open.walk).await.map_err(|fault| given_up(name, fault))?;
            if let Some(batch) = taken {
                bytes += batch.size_bytes();
                open.records += u64::try_from(batch.header().records_count).unwrap_or(0);
                piece.push(batch);
            } else {
                open.check_count()?;
                self.open = None;
            }
        }
        Ok(piece)
    }
}

impl<D: Disk> OpenSegment<'_, D> {
    /// Gaps between the batches of a clean segment are no damage, and zeros are padding: what was
    /// lost there is noticed by the number of records.
    fn check_count(&self) -> Result<(), GivenUp> {
        let SegmentMeta { records, generation, .. } = self.meta;
        if generation == 0 || records == 0 || records == self.records {
            return Ok(());
        }
        let what = format!(
            "segment {} (generation {generation}) has {} records instead of {records}",
            self.meta.base_offset, self.records
        );
        Err(GivenUp::Damaged { name: self.meta.name(), what })
    }
}

async fn take_next<D: Disk>(walk: &mut Walk<'_, D>) -> Result<Option<LogBatch>, Fault> {
    match walk.peek().await? {
        Some(header) => Ok(Some(walk.take(&header).await?)),
        None => Ok(None),
    }
}

fn given_up(name: SegmentName, fault: Fault) -> GivenUp {
    match fault {
        Fault::Gone | Fault::BadMark => GivenUp::Replaced,
        Fault::Read(ReadFault::Damaged(what)) => GivenUp::Damaged { name, what },
        Fault::Read(fault) => GivenUp::Failed(fault.to_string()),
    }
}

impl<'a, D: Disk> Output<'a, D> {
    /// New segments of about `segment_bytes`.
    pub(super) fn new(
        segments: &'a Segments<D>,
        key: PartitionKey,
        segment_bytes: u64,
    ) -> Output<'a, D> {
        Output {
            segments,
            key,
            segment_bytes,
            writer: None,
            kept: Vec::new(),
            begun: Vec::new(),
            done: Vec::new(),
            end_offset: 0,
            is_clean: true,
        }
    }

    /// Gives up: whatever was begun goes.
    pub(super) async fn discard(mut self) {
        self.writer = None;
        // If that fails, the next start does it.
        if let Err(error) = self.segments.discard(self.key, &self.begun).await {
            tracing::debug!(%error, "files of a round that was given up are left");
        }
    }

    /// What follows begins at `offset`, in a new segment.
    pub(super) fn begin_part(&mut self, offset: i64, is_clean: bool) {
        self.end_offset = offset;
        self.is_clean = is_clean;
    }

    pub(super) async fn add(&mut self, batch: &LogBatch) -> Result<(), DiskError> {
        if self.writer.as_ref().is_some_and(|writer| writer.len_bytes() >= self.segment_bytes) {
            self.close(batch.base_offset()).await?;
        }
        if self.writer.is_none() {
            let (base_offset, generation) = (self.end_offset, self.segments.fresh_generation());
            let name = SegmentName { base_offset, generation };
            self.begun.push(name);
            let expected_bytes = self.segment_bytes as usize;
            let cause = WriteCause::Compaction;
            let begun = self.segments.begin_segment(self.key, name, expected_bytes, cause);
            let mut writer = begun.await?;
            if self.is_clean {
                writer.set_clean();
            }
            self.writer = Some(writer);
        }
        if let Some(writer) = &mut self.writer {
            writer.add(batch).await?;
        }
        Ok(())
    }

    /// Ends the segment in the making; it stands for all offsets up to this one.
    pub(super) async fn close(&mut self, end_offset: i64) -> Result<(), DiskError> {
        if let Some(writer) = self.writer.take() {
            let mut meta = writer.finish().await?.meta;
            meta.end_offset = end_offset;
            self.done.push(meta);
        }
        self.end_offset = end_offset;
        Ok(())
    }
}
