//! Making a damaged directory usable again. What is damaged is given up, nothing else is; what is
//! replaced is copied aside before. It must never be run without its plan having been seen.
//!
//! **Order.** Copies of what will be replaced are made and synced; the new segments are written
//! and synced; then a checkpoint that differs from the last one in its table only puts them in
//! force. A power cut at any moment leaves a directory that the same command repairs.

use millpond_engine::PartitionKey;
use millpond_wire::limits::SEGMENT_GATHER_BYTES;

use super::finding::Finding;
use super::quarantine::Quarantine;
use super::segment::{SegmentPiece, SegmentScan};
use super::verify::{Report, holes, verify};
use super::{DataDir, OfflineError, Severity, TopicNames};
use crate::checkpoint::{self, Checkpoint};
use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode, parent_of};
use crate::metrics::Meter;
use crate::segments::format::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_path};
use crate::segments::{SegmentMeta, SegmentName, SegmentTable};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairStep {
    /// Write a segment anew without what is damaged in it.
    Rewrite {
        /// Whose.
        partition: PartitionKey,
        /// Its file.
        file: String,
        /// What the partition loses: ranges from the first to before the second.
        lost: Vec<(i64, i64)>,
        /// Whole batches that stay.
        kept_batches: u64,
    },
    /// Let a partition go on without offsets that no segment has.
    GiveUp {
        /// Whose.
        partition: PartitionKey,
        /// What it loses.
        lost: (i64, i64),
    },
    /// Move a file aside that belongs to nothing.
    MoveAside {
        /// The file.
        file: String,
    },
}

/// What a repair would do, and what it cannot.
#[derive(Clone, Debug, Default)]
pub struct RepairPlan {
    /// In order.
    pub steps: Vec<RepairStep>,
    /// Damage that no step takes away.
    pub refused: Vec<Finding>,
    /// The examination that it rests on.
    pub report: Report,
}

impl RepairPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Examines a directory and says what a repair would do. Changes nothing.
///
/// # Errors
/// As [`verify`].
pub async fn plan_repair<D: Disk>(dir: &DataDir<D>) -> Result<RepairPlan, OfflineError> {
    let report = verify(dir, |_| ()).await?;
    let is_damage = |finding: &&Finding| finding.severity == Severity::Damage;
    // What concerns a partition can be given up; what concerns the node cannot.
    let is_of_node = |finding: &&Finding| finding.concern.partition.is_none();
    let damages = report.findings.kept().iter().filter(is_damage);
    let refused: Vec<_> = damages.filter(is_of_node).cloned().collect();
    let mut steps = Vec::new();
    if report.checkpoint.is_some() {
        let checkpoint = dir.checkpoint().await?;
        let names = TopicNames::of_snapshot(checkpoint.snapshot.clone());
        let names = names.map(|names| names.without_let_go(&report.names));
        let table = names.as_ref().map(|names| names.segments_of(&checkpoint.segments));
        // What the journal needs stays as it is until the node was started and stopped once.
        let is_free = |key, meta: &SegmentMeta| !report.needed.contains(&(key, meta.name()));
        let segments = table.as_ref().unwrap_or(&checkpoint.segments).iter();
        for (key, meta) in segments.filter(|(key, meta)| is_free(*key, meta)) {
            steps.extend(rewrite_of(dir.disk(), key, *meta).await?);
        }
        if let (Ok(names), Ok(table)) = (&names, &table) {
            let lost = holes(table, names).into_iter();
            steps.extend(lost.map(|(partition, lost)| RepairStep::GiveUp { partition, lost }));
        }
        steps.extend(report.strays.iter().cloned().map(|file| RepairStep::MoveAside { file }));
    }
    Ok(RepairPlan { steps, refused, report })
}

/// The step that a segment needs, if it needs one.
async fn rewrite_of<D: Disk>(
    disk: &D,
    key: PartitionKey,
    meta: SegmentMeta,
) -> Result<Option<RepairStep>, DiskError> {
    let file = segment_path(key, meta.name());
    let everything = (meta.base_offset, meta.end_offset);
    let Some(mut scan) = SegmentScan::open(disk, key, meta).await? else {
        let lost = vec![everything];
        return Ok(Some(RepairStep::Rewrite { partition: key, file, lost, kept_batches: 0 }));
    };
    let mut is_needed = scan.header_fault().is_some();
    let (mut lost, mut kept_batches) = (Vec::new(), 0);
    while let Some(piece) = scan.next().await? {
        match piece {
            SegmentPiece::Batch(_) => kept_batches += 1,
            SegmentPiece::Damage { offsets, .. } => {
                is_needed = true;
                if offsets.0 < offsets.1 {
                    lost.push(offsets);
                }
            }
        }
    }
    let step = RepairStep::Rewrite { partition: key, file, lost, kept_batches };
    Ok(is_needed.then_some(step))
}

/// Does what a plan says. `label` names this repair in the quarantine, and must be new. Answers
/// where the left-overs are.
///
/// # Errors
/// When the device fails. Run it again then: what was done stays done.
pub async fn repair<D: Disk>(
    dir: &DataDir<D>,
    plan: &RepairPlan,
    label: &str,
) -> Result<String, OfflineError> {
    let disk = dir.disk();
    let quarantine = Quarantine::new(disk, label);
    let mut checkpoint = dir.checkpoint().await?;
    let mut is_changed = false;
    for step in &plan.steps {
        match step {
            RepairStep::Rewrite { partition, file, .. } => {
                quarantine.copy(file).await?;
                let metas = checkpoint.segments.of(*partition);
                let is_it = |meta: &&SegmentMeta| segment_path(*partition, meta.name()) == *file;
                let Some(meta) = metas.iter().find(is_it).copied() else { continue };
                let made = rewrite(disk, *partition, meta).await?;
                checkpoint.segments = with(&checkpoint.segments, *partition, made);
                is_changed = true;
            }
            RepairStep::GiveUp { partition, lost } => {
                let made = write_empty(disk, *partition, *lost).await?;
                checkpoint.segments = with(&checkpoint.segments, *partition, made);
                is_changed = true;
            }
            RepairStep::MoveAside { .. } => {}
        }
    }
    if is_changed {
        let old = checkpoint.number;
        publish(disk, checkpoint).await?;
        quarantine.take(&checkpoint::path_of_number(old)).await?;
    }
    for step in &plan.steps {
        if let RepairStep::MoveAside { file } = step {
            quarantine.take(file).await?;
        }
    }
    Ok(quarantine.dir().to_owned())
}

/// A table with a segment more, or with another in place of the one of the same base offset.
fn with(table: &SegmentTable, key: PartitionKey, made: SegmentMeta) -> SegmentTable {
    let mut rows: Vec<_> = table.iter().map(|(key, meta)| (key, *meta)).collect();
    rows.retain(|(of, meta)| *of != key || meta.base_offset != made.base_offset);
    rows.push((key, made));
    rows.sort_by_key(|(key, meta)| (*key, meta.base_offset));
    let mut changed = SegmentTable::default();
    rows.into_iter().for_each(|(key, meta)| changed.put(key, meta));
    changed
}

/// A checkpoint after the present one, with another table.
async fn publish<D: Disk>(disk: &D, checkpoint: Checkpoint) -> Result<(), DiskError> {
    let next = Checkpoint { number: checkpoint.number + 1, ..checkpoint };
    checkpoint::store(disk, next.number, &next.encode(), &Meter::default()).await
}

/// Writes a segment anew: the same offsets, the same batches, without what is damaged.
async fn rewrite<D: Disk>(
    disk: &D,
    key: PartitionKey,
    meta: SegmentMeta,
) -> Result<SegmentMeta, DiskError> {
    let mut writer = Writer::create(disk, key, meta).await?;
    if let Some(mut scan) = SegmentScan::open(disk, key, meta).await? {
        while let Some(piece) = scan.next().await? {
            if let SegmentPiece::Batch(facts) = piece {
                let bytes = scan.batch(&facts).await?;
                writer.add(&bytes).await?;
                writer.meta.max_timestamp =
                    writer.meta.max_timestamp.max(facts.header.max_timestamp);
            }
        }
    }
    writer.finish(disk).await
}

/// A segment without a batch, for offsets that nobody has.
async fn write_empty<D: Disk>(
    disk: &D,
    key: PartitionKey,
    lost: (i64, i64),
) -> Result<SegmentMeta, DiskError> {
    let name = SegmentName { base_offset: lost.0, generation: 0 };
    let meta = SegmentMeta { end_offset: lost.1, ..SegmentMeta::empty(name) };
    Writer::create(disk, key, meta).await?.finish(disk).await
}

/// A segment that is being written beside the one that it replaces.
struct Writer<F> {
    file: F,
    path: String,
    beside: String,
    meta: SegmentMeta,
    buf: AlignedBuf,
    at: u64,
}

impl<F: DiskFile> Writer<F> {
    async fn create<D: Disk<File = F>>(
        disk: &D,
        key: PartitionKey,
        meta: SegmentMeta,
    ) -> Result<Writer<F>, DiskError> {
        let path = segment_path(key, meta.name());
        let beside = format!("{path}.new");
        disk.create_dir_all(parent_of(&path)).await?;
        let file = disk.open(&beside, OpenMode::CREATE).await?;
        file.set_len_bytes(0).await?;
        let mut buf = AlignedBuf::with_capacity(SEGMENT_GATHER_BYTES, ALIGN_BYTES);
        let header = SegmentHeader { partition: key, name: meta.name() };
        buf.extend_from_slice(&header.encode());
        let trusted_bytes = SEGMENT_HEADER_BYTES as u64;
        // It has gaps now, as one that compaction made.
        let meta = SegmentMeta { trusted_bytes, max_timestamp: i64::MIN, is_clean: true, ..meta };
        Ok(Writer { file, path, beside, meta, buf, at: 0 })
    }

    async fn add(&mut self, batch: &[u8]) -> Result<(), DiskError> {
        for piece in batch.chunks(SEGMENT_GATHER_BYTES) {
            if self.buf.len() + piece.len() > self.buf.capacity() {
                self.write_out().await?;
            }
            self.buf.extend_from_slice(piece);
        }
        self.meta.trusted_bytes += batch.len() as u64;
        Ok(())
    }

    async fn write_out(&mut self) -> Result<(), DiskError> {
        let empty = AlignedBuf::with_capacity(SEGMENT_GATHER_BYTES, ALIGN_BYTES);
        let full = std::mem::replace(&mut self.buf, empty);
        let len = full.len() as u64;
        let (result, _) = self.file.write_at(self.at, full).await;
        self.at += len;
        result
    }

    async fn finish<D: Disk<File = F>>(mut self, disk: &D) -> Result<SegmentMeta, DiskError> {
        self.write_out().await?;
        self.file.sync().await?;
        disk.rename(&self.beside, &self.path).await?;
        let mut dir = self.path.as_str();
        while !dir.is_empty() {
            dir = parent_of(dir);
            disk.sync_dir(dir).await?;
        }
        Ok(self.meta)
    }
}

const ALIGN_BYTES: usize = 512;
