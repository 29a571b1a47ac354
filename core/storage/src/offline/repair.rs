//! Making a damaged directory usable again. What is damaged is given up, nothing else is; what is
//! replaced is copied aside before. It must never be run without its plan having been seen.
//!
//! **Order.** Copies of what will be replaced are made and synced; the new segments are written
//! and synced; then a checkpoint that differs from the last one in its table only puts them in
//! force. A power cut at any moment leaves a directory that the same command repairs.

use std::collections::BTreeSet;
use std::rc::Rc;

use millpond_engine::PartitionKey;
use millpond_wire::record::LogBatch;

use super::finding::Finding;
use super::quarantine::Quarantine;
use super::segment::{SegmentPiece, SegmentScan};
use super::verify::{Report, holes, verify};
use super::{DataDir, OfflineError, Severity, TopicNames};
use crate::checkpoint::{self, Checkpoint};
use crate::disk::{Disk, DiskError, parent_of};
use crate::metrics::{Meter, WriteCause};
use crate::segments::format::segment_path;
use crate::segments::{SegmentMeta, SegmentName, SegmentTable, SegmentWriter, Segments};

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
        let rows = table.as_ref().unwrap_or(&checkpoint.segments).iter();
        for (key, meta) in rows.filter(|(key, meta)| is_free(*key, meta)) {
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
    // What an earlier repair left may bear the names that this one gives.
    for step in &plan.steps {
        if let RepairStep::MoveAside { file } = step {
            quarantine.take(file).await?;
        }
    }
    let table = checkpoint.segments.clone();
    let segments = Segments::new(disk.clone(), usize::MAX, table, BTreeSet::new(), Rc::default());
    let mut replaced = Vec::new();
    for step in &plan.steps {
        let made = match step {
            RepairStep::Rewrite { partition, file, .. } => {
                let metas = checkpoint.segments.of(*partition);
                let is_it = |meta: &&SegmentMeta| segment_path(*partition, meta.name()) == *file;
                let Some(old) = metas.iter().find(is_it).copied() else { continue };
                quarantine.copy(file).await?;
                replaced.push(file);
                rewrite(disk, &segments, *partition, old).await?
            }
            RepairStep::GiveUp { partition, lost } => {
                write_empty(&segments, *partition, *lost).await?
            }
            RepairStep::MoveAside { .. } => continue,
        };
        let (RepairStep::Rewrite { partition, .. } | RepairStep::GiveUp { partition, .. }) = step
        else {
            continue;
        };
        checkpoint.segments = with(&checkpoint.segments, *partition, made);
    }
    if checkpoint.segments != segments.with_table(Clone::clone) {
        let old = checkpoint.number;
        publish(disk, checkpoint).await?;
        quarantine.take(&checkpoint::path_of_number(old)).await?;
        for file in replaced {
            disk.remove_file(file).await?;
            disk.sync_dir(parent_of(file)).await?;
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
    segments: &Segments<D>,
    key: PartitionKey,
    old: SegmentMeta,
) -> Result<SegmentMeta, DiskError> {
    let mut writer = begin(segments, key, old.base_offset, old.trusted_bytes).await?;
    if let Some(mut scan) = SegmentScan::open(disk, key, old).await? {
        while let Some(piece) = scan.next().await? {
            if let SegmentPiece::Batch(facts) = piece
                // It was whole a moment ago; a device that changes its mind loses it.
                && let Ok(batch) = LogBatch::parse(scan.batch(&facts).await?)
            {
                writer.add(&batch).await?;
            }
        }
    }
    let made = writer.finish().await?.meta;
    Ok(SegmentMeta { end_offset: old.end_offset, ..made })
}

/// A segment without a batch, for offsets that nobody has.
async fn write_empty<D: Disk>(
    segments: &Segments<D>,
    key: PartitionKey,
    lost: (i64, i64),
) -> Result<SegmentMeta, DiskError> {
    let made = begin(segments, key, lost.0, 0).await?.finish().await?.meta;
    Ok(SegmentMeta { end_offset: lost.1, ..made })
}

async fn begin<D: Disk>(
    segments: &Segments<D>,
    key: PartitionKey,
    base_offset: i64,
    expected_bytes: u64,
) -> Result<SegmentWriter<D>, DiskError> {
    segments.make_directories([key]).await?;
    let name = SegmentName { base_offset, generation: segments.fresh_generation() };
    let expected = usize::try_from(expected_bytes).unwrap_or(usize::MAX);
    let mut writer = segments.begin_segment(key, name, expected, WriteCause::Segment).await?;
    // It has gaps now, as one that compaction made.
    writer.set_clean();
    Ok(writer)
}
