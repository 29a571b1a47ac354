//! The examination of a whole data directory: everything that has a checksum is read, everything
//! that must agree is compared. It changes nothing and goes on after every fault, so that one look
//! tells all.

use std::collections::BTreeSet;

use millpond_engine::{Engine, EngineConfig, PartitionKey};

use super::finding::{Concern, Findings};
use super::names::TopicNames;
use super::segment::{SegmentPiece, SegmentScan};
use super::{DataDir, OfflineError};
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, DiskError};
use crate::durable_engine::{Replay, ReplayFault};
use crate::journal::{Inspection, OpenJournalError, RecoverError};
use crate::metrics::RecoveryReport;
use crate::segments::format::{TOPICS_DIR, index_path, segment_path};
use crate::segments::{SegmentId, SegmentMeta, SegmentTable};

const RESTORE: &str = "restore the data directory from a backup or a replica; \
                       without one, ask before anything is deleted";
const REPAIR: &str = "`millpond log repair` moves the damaged file aside and keeps what is whole";
const GIVE_UP: &str = "`millpond log repair` lets the partition go on without them";
const GOES_ON: &str = "the next start goes on behind them; only a backup or a replica has them";
const NEXT_OFFSETS: &str = "nothing to do: consumers seek behind them";
const NEXT_START: &str = "nothing to do: the next start puts it in order";

/// How far an examination is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of segments that were read.
    pub done_bytes: u64,
    /// Bytes of all segments.
    pub total_bytes: u64,
}

/// What an examination found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What there is to say.
    pub findings: Findings,
    /// The number of the checkpoint.
    pub checkpoint: Option<u64>,
    /// What the next start would replay; `None` if it could not.
    pub journal: Option<RecoveryReport>,
    /// Topics with their names.
    pub names: TopicNames,
    /// Segments that were read.
    pub segments: u64,
    /// Bytes of them.
    pub segment_bytes: u64,
    /// Whole batches in them.
    pub batches: u64,
    /// Records in those.
    pub records: u64,
    /// Files that nothing needs.
    pub strays: Vec<String>,
    /// Segments in which batches of the journal stand, beyond what the checkpoint names.
    pub(super) needed: BTreeSet<SegmentId>,
}

impl Report {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.damages() == 0
    }
}

/// Examines everything.
///
/// # Errors
/// When the device fails in a way that tells nothing about the data, or there is no checkpoint.
pub async fn verify<D: Disk>(
    dir: &DataDir<D>,
    mut progress: impl FnMut(&Progress),
) -> Result<Report, OfflineError> {
    let mut report = Report::default();
    let checkpoint = match dir.checkpoint().await {
        Ok(checkpoint) => checkpoint,
        Err(OfflineError::Checkpoint(error)) => {
            report.findings.damage(Concern::default(), error.to_string(), RESTORE);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    report.checkpoint = Some(checkpoint.number);
    let Some(engine) = restore(&checkpoint, &mut report) else { return Ok(report) };
    let at_checkpoint = report.names.clone();
    report.needed = journal(dir, &checkpoint, engine, &mut report).await?;
    let names = at_checkpoint.without_let_go(&report.names);
    let table = names.segments_of(&checkpoint.segments);
    logs_and_segments_agree(&table, &names, &mut report);
    segments(dir, &table, &mut report, &mut progress).await?;
    report.strays = strays(dir.disk(), &checkpoint.segments, &report.needed).await?;
    for path in report.strays.clone() {
        let concern = Concern { file: path, ..Concern::default() };
        let what = "no checkpoint names this file: a checkpoint was cut off, or a deletion was";
        report.findings.note(concern, what.to_owned(), NEXT_START);
    }
    Ok(report)
}

/// The engine as of the checkpoint, and from it the names.
fn restore(checkpoint: &Checkpoint, report: &mut Report) -> Option<Engine> {
    let snapshot = Some(checkpoint.snapshot.clone());
    match Engine::restore(EngineConfig::default(), 0, snapshot) {
        Ok(engine) => {
            report.names = TopicNames::of(&engine);
            Some(engine)
        }
        Err(error) => {
            let what = format!("the engine's snapshot in the checkpoint cannot be read: {error}");
            report.findings.damage(Concern::default(), what, RESTORE);
            None
        }
    }
}

/// What is below a log's end at the checkpoint must be in segments, without a hole between them.
fn logs_and_segments_agree(table: &SegmentTable, names: &TopicNames, report: &mut Report) {
    for (key, offsets) in holes(table, names) {
        let (partition, offsets) = (Some(key), Some(offsets));
        let concern = Concern { partition, offsets, ..Concern::default() };
        report.findings.damage(concern, "no segment has these offsets".to_owned(), GIVE_UP);
    }
}

/// Offsets that the logs of a checkpoint have and its segments do not.
pub(super) fn holes(table: &SegmentTable, names: &TopicNames) -> Vec<(PartitionKey, (i64, i64))> {
    let mut found = Vec::new();
    for (key, (log_start, log_end)) in names.logs() {
        let mut next = log_start;
        // What is given up already is no news.
        let segments = table.of(key).iter().map(|meta| (meta.base_offset, meta.end_offset));
        let mut spans: Vec<_> = segments.chain(names.lost(key).iter().copied()).collect();
        spans.sort_unstable();
        for (base, end) in spans.into_iter().chain([(log_end, log_end)]) {
            if base > next {
                found.push((key, (next, base)));
            }
            next = next.max(end);
        }
    }
    found
}

/// Answers the segments in which batches of the journal stand.
async fn journal<D: Disk>(
    dir: &DataDir<D>,
    checkpoint: &Checkpoint,
    engine: Engine,
    report: &mut Report,
) -> Result<BTreeSet<SegmentId>, OfflineError> {
    let Checkpoint { journal_id, resume, .. } = checkpoint;
    let mut replay = Replay::new(dir.disk().clone(), engine);
    let opened = Inspection::open::<ReplayFault>(dir.disk(), *journal_id, *resume).await;
    let replayed = match opened {
        Err(error) => Err(error),
        Ok(inspection) => inspection.replay(async |found| replay.take(found).await).await,
    };
    match replayed {
        Ok(found) => {
            let known = std::mem::replace(&mut report.names, TopicNames::of(&replay.engine));
            if found.torn_tail {
                let what = "its last write was cut off, and nobody was told of it";
                report.findings.note(Concern::default(), format!("journal: {what}"), NEXT_START);
            }
            if found.corrected_bits > 0 {
                let what =
                    format!("{} flipped bits, corrected at each start", found.corrected_bits);
                report.findings.note(Concern::default(), format!("journal: {what}"), NEXT_START);
            }
            replay.engine.finish_recovery();
            for lost in replay.engine.lost_ranges() {
                let concern = Concern {
                    partition: Some(lost.partition),
                    offsets: Some((lost.from, lost.upto)),
                    ..Concern::default()
                };
                let what = "these offsets were lost to damage; they are not served".to_owned();
                match known.lost(lost.partition).contains(&(lost.from, lost.upto)) {
                    true => report.findings.note(concern, what, NEXT_OFFSETS),
                    false => report.findings.damage(concern, what, GOES_ON),
                }
            }
            report.journal = Some(found);
            Ok(replay.segments)
        }
        Err(
            OpenJournalError::Disk(error) | OpenJournalError::Recover(RecoverError::Disk(error)),
        ) => Err(error.into()),
        Err(error) => {
            report.findings.damage(concern_of(&error), error.to_string(), RESTORE);
            Ok(replay.segments)
        }
    }
}

fn concern_of(error: &OpenJournalError<ReplayFault>) -> Concern {
    match error {
        OpenJournalError::File { file, .. } => Concern { file: file.clone(), ..Concern::default() },
        OpenJournalError::Recover(RecoverError::Damage(damage)) => Concern {
            file: damage.file.clone(),
            offset_bytes: Some(damage.offset_bytes),
            ..Concern::default()
        },
        _ => Concern::default(),
    }
}

async fn segments<D: Disk>(
    dir: &DataDir<D>,
    table: &SegmentTable,
    report: &mut Report,
    progress: &mut impl FnMut(&Progress),
) -> Result<(), DiskError> {
    let total_bytes = table.iter().map(|(_, meta)| meta.trusted_bytes).sum();
    let mut so_far = Progress { done_bytes: 0, total_bytes };
    for (key, meta) in table.iter() {
        progress(&so_far);
        if report.names.has_let_go(key, meta.end_offset) {
            so_far.done_bytes += meta.trusted_bytes;
            continue;
        }
        segment(dir, key, *meta, report).await?;
        so_far.done_bytes += meta.trusted_bytes;
        report.segments += 1;
        report.segment_bytes += meta.trusted_bytes;
    }
    progress(&so_far);
    Ok(())
}

async fn segment<D: Disk>(
    dir: &DataDir<D>,
    key: PartitionKey,
    meta: SegmentMeta,
    report: &mut Report,
) -> Result<(), DiskError> {
    let concern = Concern {
        file: segment_path(key, meta.name()),
        offset_bytes: None,
        partition: Some(key),
        offsets: Some((meta.base_offset, meta.end_offset)),
    };
    let Some(mut scan) = SegmentScan::open(dir.disk(), key, meta).await? else {
        report.findings.damage(concern, "the file is missing".to_owned(), REPAIR);
        return Ok(());
    };
    if let Some(fault) = scan.header_fault() {
        let concern = Concern { offset_bytes: Some(0), ..concern.clone() };
        report.findings.damage(concern, fault.to_owned(), REPAIR);
    }
    if scan.file_bytes() > meta.trusted_bytes {
        let beyond = scan.file_bytes() - meta.trusted_bytes;
        let what = format!("{beyond} bytes stand beyond what the checkpoint vouches for");
        let concern = Concern { offsets: None, ..concern.clone() };
        report.findings.note(concern, what, NEXT_START);
    }
    let mut next_offset = meta.base_offset;
    while let Some(piece) = scan.next().await? {
        match piece {
            SegmentPiece::Batch(facts) => {
                let first = facts.header.base_offset;
                if first > next_offset {
                    report.gap(&concern, (next_offset, first));
                }
                next_offset = facts.header.last_offset() + 1;
                report.batches += 1;
                report.records += u64::try_from(facts.header.records_count).unwrap_or(0);
            }
            SegmentPiece::Damage { at_bytes, offsets, what, len_bytes } => {
                let offset_bytes = Some(at_bytes);
                let concern = Concern { offset_bytes, offsets: Some(offsets), ..concern.clone() };
                let what = format!("{what} ({len_bytes} bytes)");
                report.findings.damage(concern, what, REPAIR);
                next_offset = offsets.1;
            }
        }
    }
    if next_offset < meta.end_offset {
        report.gap(&concern, (next_offset, meta.end_offset));
    }
    Ok(())
}

impl Report {
    /// Offsets without a record, and no damage to be seen.
    fn gap(&mut self, of: &Concern, offsets: (i64, i64)) {
        let concern = Concern { offsets: Some(offsets), ..of.clone() };
        let what = "no record has these offsets: compaction removed them, or a repair gave them up";
        self.findings.note(concern, what.to_owned(), "nothing to do: consumers pass over them");
    }
}

/// Files of segments that a table does not name.
async fn strays<D: Disk>(
    disk: &D,
    table: &SegmentTable,
    needed: &BTreeSet<SegmentId>,
) -> Result<Vec<String>, DiskError> {
    let known = table.iter().map(|(key, meta)| (key, meta.name())).chain(needed.iter().copied());
    let known: BTreeSet<String> =
        known.flat_map(|(key, name)| [segment_path(key, name), index_path(key, name)]).collect();
    let mut found = Vec::new();
    for topic in disk.list(TOPICS_DIR).await? {
        let topic_path = format!("{TOPICS_DIR}/{}", topic.name);
        for partition in disk.list(&topic_path).await? {
            let dir = format!("{topic_path}/{}", partition.name);
            for file in disk.list(&dir).await? {
                let path = format!("{dir}/{}", file.name);
                if !known.contains(&path) {
                    found.push(path);
                }
            }
        }
    }
    Ok(found)
}
