//! Starting: lock, checkpoint, journal, engine. Everything that is refused is refused before a
//! byte is changed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use millpond_engine::{Engine, EngineConfig, EntrySeq, Event, LostRange};
use millpond_wire::limits::LOST_RANGES_REPORTED_MAX;

use super::compactions::Compactions;
use super::direct::Direct;
use super::entry::DurableEntry;
use super::error::ReplayFault;
use super::pace::Pace;
use super::replay::Replay;
use super::space::{Space, space_left, stored_between};
use super::{DurableEngine, Life, OpenError, Shell, ShellClock};
use crate::checkpoint::format::{CHECKPOINT_HEADER_BYTES, SEGMENT_ROW_BYTES};
use crate::checkpoint::{self, Checkpoint};
use crate::config::StorageConfig;
use crate::disk::Disk;
use crate::journal::{Journal, JournalConfig, OpenJournalError, Replayed, holds_commits};
use crate::metrics::{Meter, RecoveryReport};
use crate::segments::{SegmentTable, Segments};
use crate::signal::Signal;

/// Against two processes on one directory.
pub(crate) const LOCK_PATH: &str = "LOCK";

/// What a start finds or makes.
struct Found<D: Disk> {
    engine: Engine,
    journal: Journal<D, DurableEntry>,
    segments: Segments<D>,
    checkpoint_number: u64,
    unflushed_bytes: u64,
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Opens a data directory: recovers what is there, or makes a new one. `seed` decides the
    /// engine's chance; a real node gives a random number.
    pub async fn open(
        disk: D,
        config: StorageConfig,
        engine_config: EngineConfig,
        seed: u64,
        shell: S,
    ) -> Result<Rc<DurableEngine<D, S>>, OpenError> {
        let Some(lock) = disk.try_lock(LOCK_PATH).await? else {
            return Err(OpenError::InUse);
        };
        let meter = Rc::new(Meter::default());
        let found = match checkpoint::load(&disk).await? {
            Some(checkpoint) => {
                let engine_of = |snapshot| Engine::restore(engine_config, seed, Some(snapshot));
                recover(&disk, &config, checkpoint, &meter, &shell, engine_of).await?
            }
            None => make(&disk, &config, Engine::new(engine_config, seed), &meter).await?,
        };
        let nothing = SegmentTable::default();
        let stored = found.segments.with_table(|table| stored_between(&nothing, table));
        let left = space_left(&disk).await;
        let checkpoint_bytes = checkpoint_bytes(&found);
        let opened = Rc::new(DurableEngine {
            disk,
            config,
            shell,
            engine: RefCell::new(found.engine),
            journal: found.journal,
            direct: Direct::default(),
            segments: found.segments,
            meter,
            // Decided when the loop begins.
            inbox: RefCell::new(VecDeque::from([Event::Stored(stored)])),
            is_deciding: Cell::new(false),
            jobs: RefCell::new(VecDeque::new()),
            jobs_came: Signal::default(),
            deadline_ms: Cell::new(None),
            deadline_moved: Signal::default(),
            unflushed_bytes: Cell::new(found.unflushed_bytes),
            checkpoint_number: Cell::new(found.checkpoint_number),
            space: Space::default(),
            compactions: Compactions::default(),
            pace: Pace::default(),
            life: Cell::new(Life::Running),
            life_moved: Signal::default(),
            _lock: lock,
        });
        opened.space.set_checkpoint_bytes(checkpoint_bytes);
        let report = opened.space_report(left);
        opened.inbox.borrow_mut().push_front(Event::Space(report));
        Ok(opened)
    }
}

/// What a checkpoint takes, more or less.
fn checkpoint_bytes<D: Disk>(found: &Found<D>) -> u64 {
    let rows = found.segments.with_table(SegmentTable::len) * SEGMENT_ROW_BYTES;
    (CHECKPOINT_HEADER_BYTES + rows + found.engine.snapshot().len()) as u64
}

/// A new data directory. Its first checkpoint is written last: a start that dies before begins
/// anew, since nothing was acknowledged.
async fn make<D: Disk>(
    disk: &D,
    config: &StorageConfig,
    engine: Engine,
    meter: &Rc<Meter>,
) -> Result<Found<D>, OpenError> {
    if holds_commits(disk).await? {
        return Err(OpenError::CheckpointMissing { what: "a journal" });
    }
    if Segments::any_on(disk).await? {
        return Err(OpenError::CheckpointMissing { what: "segments" });
    }
    let journal_config = journal_config(config, config.journal_seed);
    let made = Journal::create::<ReplayFault>(disk, journal_config, Rc::clone(meter)).await;
    let (journal, resume) = made.map_err(|error| match error {
        OpenJournalError::Disk(error) => OpenError::Disk(error),
        other => OpenError::Journal(other),
    })?;
    let checkpoint = Checkpoint {
        number: 1,
        journal_id: config.journal_seed,
        resume,
        segments: SegmentTable::default(),
        snapshot: engine.snapshot(),
    };
    checkpoint::store(disk, checkpoint.number, &checkpoint.encode(), meter).await?;
    let table = SegmentTable::default();
    let (disk_of, meter_of) = (disk.clone(), Rc::clone(meter));
    let segments = Segments::new(disk_of, config.segment_bytes, table, BTreeSet::new(), meter_of);
    Ok(Found { engine, journal, segments, checkpoint_number: 1, unflushed_bytes: 0 })
}

async fn recover<D: Disk, S: Shell>(
    disk: &D,
    config: &StorageConfig,
    checkpoint: Checkpoint,
    meter: &Rc<Meter>,
    shell: &S,
    engine_of: impl FnOnce(bytes::Bytes) -> Result<Engine, millpond_engine::SnapshotError>,
) -> Result<Found<D>, OpenError> {
    let Checkpoint { number, journal_id, resume, segments, snapshot } = checkpoint;
    let engine = engine_of(snapshot)?;
    let expected = EntrySeq(resume.next_entry.saturating_sub(1));
    if engine.last_seq() != expected {
        let (snapshot, checkpoint) = (engine.last_seq().0, expected.0);
        return Err(OpenError::SnapshotPosition { snapshot, checkpoint });
    }
    let mut replay = Replay::new(disk.clone(), engine);
    let deliver = async |found: Replayed| replay.take(found).await;
    let clock = ShellClock(shell);
    let journal_config = journal_config(config, journal_id);
    let opened =
        Journal::open(disk, journal_config, resume, Rc::clone(meter), &clock, deliver).await;
    let (journal, mut report) = opened?;
    let Replay { mut engine, segments: recovered, payload_bytes, given_up, .. } = replay;
    engine.finish_recovery();
    report.damaged_entries += given_up;
    report.lost_ranges = engine.lost_ranges().take(LOST_RANGES_REPORTED_MAX).collect();
    tell_losses(&report);
    meter.recovered(report.clone());
    let segments = trimmed(segments, &engine);
    let (disk_of, meter_of) = (disk.clone(), Rc::clone(meter));
    let segments = Segments::new(disk_of, config.segment_bytes, segments, recovered, meter_of);
    let strays = segments.remove_strays().await?;
    checkpoint::remove_others(disk, number).await?;
    tracing::info!(
        entries = report.entries,
        bytes = report.bytes,
        torn_tail = report.torn_tail,
        incarnation = report.incarnation,
        strays,
        "recovered"
    );
    Ok(Found {
        engine,
        journal,
        segments,
        checkpoint_number: number,
        unflushed_bytes: payload_bytes,
    })
}

fn tell_losses(report: &RecoveryReport) {
    if report.damaged_entries + report.corrected_bits > 0 {
        tracing::error!(
            damaged_entries = report.damaged_entries,
            corrected_bits = report.corrected_bits,
            "the journal was damaged: the device changed bytes that it had stored. Look after it"
        );
    }
    for LostRange { partition, from, upto } in &report.lost_ranges {
        tracing::error!(%partition, from, upto, "these offsets are lost: they are not served");
    }
}

/// The checkpoint's segments without those that the journal has let go since: their files may have
/// been removed already, to make room.
fn trimmed(mut table: SegmentTable, engine: &Engine) -> SegmentTable {
    let keys: Vec<_> = table.keys().collect();
    for key in keys {
        // Deleted ones stay: the next checkpoint removes their directories.
        if let Some(partition) = engine.catalog().partition(key) {
            table.trim(key, partition.log_start());
        }
    }
    table
}

fn journal_config(config: &StorageConfig, id: u64) -> JournalConfig {
    JournalConfig {
        files: u32::try_from(config.journal_files).unwrap_or(u32::MAX),
        file_bytes: config.journal_file_bytes as u64,
        second_write_bytes: config.second_write_bytes,
        linger_ms: config.linger_ms,
        // Whoever waits for room in the queue must not wait for the linger.
        gather_bytes: config.gather_bytes.min(config.queue_bytes),
        seal_after_ms: config.seal_after_ms,
        id,
    }
}
