//! Starting: lock, checkpoint, journal, engine. Everything that is refused is refused before a
//! byte is changed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use millpond_engine::{Engine, EngineConfig, Entry, EntrySeq, Event, Fact, LostRange};
use millpond_wire::limits::LOST_RANGES_REPORTED_MAX;

use super::compactions::Compactions;
use super::entry::partition_of;
use super::error::ReplayFault;
use super::pace::Pace;
use super::space::{Space, space_left, stored_between};
use super::{DurableEngine, Life, OpenError, Shell, ShellClock};
use crate::checkpoint::format::{CHECKPOINT_HEADER_BYTES, SEGMENT_ROW_BYTES};
use crate::checkpoint::{self, Checkpoint};
use crate::config::StorageConfig;
use crate::disk::Disk;
use crate::journal::{
    EntryBytes, Journal, JournalConfig, LostEntry, OpenJournalError, Replayed, holds_commits,
};
use crate::metrics::{Meter, RecoveryReport};
use crate::segments::{SegmentTable, Segments};
use crate::signal::Signal;

/// Against two processes on one directory.
pub(crate) const LOCK_PATH: &str = "LOCK";

/// What a start finds or makes.
struct Found<D: Disk> {
    engine: Engine,
    journal: Journal<D, Entry>,
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
    let segments = Segments::new(disk.clone(), config.segment_bytes, table, Rc::clone(meter));
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
    let mut engine = engine_of(snapshot)?;
    let expected = EntrySeq(resume.next_entry.saturating_sub(1));
    if engine.last_seq() != expected {
        let (snapshot, checkpoint) = (engine.last_seq().0, expected.0);
        return Err(OpenError::SnapshotPosition { snapshot, checkpoint });
    }
    let mut unflushed_bytes = 0;
    let mut given_up = 0;
    let deliver = |found: Replayed| {
        let taken = replay_into(&mut engine, found)?;
        unflushed_bytes += taken.payload_bytes;
        given_up += u64::from(taken.is_given_up);
        Ok(())
    };
    let clock = ShellClock(shell);
    let journal_config = journal_config(config, journal_id);
    let opened =
        Journal::open(disk, journal_config, resume, Rc::clone(meter), &clock, deliver).await;
    let (journal, mut report) = opened?;
    engine.finish_recovery();
    report.damaged_entries += given_up;
    report.lost_ranges = engine.lost_ranges().take(LOST_RANGES_REPORTED_MAX).collect();
    tell_losses(&report);
    meter.recovered(report.clone());
    let segments = trimmed(segments, &engine);
    let segments = Segments::new(disk.clone(), config.segment_bytes, segments, Rc::clone(meter));
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
    Ok(Found { engine, journal, segments, checkpoint_number: number, unflushed_bytes })
}

/// What became of something that recovery found.
pub(crate) struct Taken {
    /// Bytes of record batches in it.
    payload_bytes: u64,
    /// It looked whole, and was not.
    is_given_up: bool,
}

/// Hands what recovery found to the engine: the same for a start and for whoever only looks.
pub(crate) fn replay_into(engine: &mut Engine, found: Replayed) -> Result<Taken, ReplayFault> {
    let nothing = |is_given_up| Taken { payload_bytes: 0, is_given_up };
    match found {
        Replayed::Entry(found) => {
            let (seq, scope, len_bytes) = (found.seq, found.scope, found.bytes.len());
            match decode(found)? {
                Some(entry) => {
                    let payload_bytes = entry.payload_bytes() as u64;
                    engine.replay(entry)?;
                    Ok(Taken { payload_bytes, is_given_up: false })
                }
                None => {
                    replay_lost(engine, LostEntry { seq, scope, len_bytes })?;
                    Ok(nothing(true))
                }
            }
        }
        Replayed::Lost(lost) => {
            replay_lost(engine, lost)?;
            Ok(nothing(false))
        }
    }
}

/// An entry of the journal; `None` if a bit of it was turned back that was not what was wrong.
fn decode(found: EntryBytes) -> Result<Option<Entry>, ReplayFault> {
    let is_guess = found.is_corrected && found.scope != 0;
    let entry = match Entry::decode(EntrySeq(found.seq), found.bytes) {
        Err(_) if is_guess => return Ok(None),
        entry => entry?,
    };
    let has_right_crcs = |fact: &Fact| match fact {
        Fact::Appended { batch, .. } => batch.has_right_crc(),
        _ => true,
    };
    // Large batches carry a checksum of their own.
    Ok((!is_guess || entry.facts.iter().all(has_right_crcs)).then_some(entry))
}

fn replay_lost(engine: &mut Engine, lost: LostEntry) -> Result<(), ReplayFault> {
    let seq = EntrySeq(lost.seq);
    let Some(key) = partition_of(lost.scope, engine.catalog()) else {
        return Err(ReplayFault::LostScope);
    };
    tracing::error!(entry = lost.seq, partition = %key, "an entry of the journal is lost");
    Ok(engine.replay_lost(seq, key, lost.len_bytes)?)
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
