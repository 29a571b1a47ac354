//! Making a journal and opening one. A new ring is filled with zeros once, so that later syncs need
//! not touch the file system's own journal.

use millpond_wire::mutant::Mutant;
use std::cell::RefCell;
use std::rc::Rc;

use super::format::{COMMIT_HEADER_BYTES, CommitHeader, FileHeader, HeaderFault};
use super::queue::Queue;
use super::recovery::{RecoverError, Recovery, Replayed};
use super::ring::{JournalPosition, RingPosition, RingShape};
use super::{Journal, JournalEntry, State};
use crate::clock::StorageClock;
use crate::disk::{AlignedBuf, BLOCK_BYTES_MIN, Disk, DiskError, DiskFile, OpenMode};
use crate::metrics::{Meter, RecoveryReport, WriteCause};
use crate::signal::Signal;

/// The directory of the ring.
pub const JOURNAL_DIR: &str = "journal";
/// Zeros are written in pieces of this size.
const ZERO_BYTES: usize = 1024 * 1024;

/// A write without a sync must not be on the device all the same: false with that mutant.
fn is_direct() -> bool {
    !Mutant::NoSync.is_on()
}

/// What the journal can be told.
#[derive(Clone, Copy, Debug)]
pub struct JournalConfig {
    /// Files of a new ring.
    pub files: u32,
    /// Bytes of each file of a new ring.
    pub file_bytes: u64,
    /// See [`crate::StorageConfig::second_write_bytes`].
    pub second_write_bytes: usize,
    /// See [`crate::StorageConfig::linger_ms`].
    pub linger_ms: u64,
    /// See [`crate::StorageConfig::gather_bytes`].
    pub gather_bytes: usize,
    /// See [`crate::StorageConfig::seal_after_ms`].
    pub seal_after_ms: u64,
    /// The identity of a new ring: a random number.
    pub id: u64,
}

/// Why a journal could not be opened. `R` is what the receiver of entries may say.
#[derive(Debug, thiserror::Error)]
pub enum OpenJournalError<R> {
    /// The device failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The configuration does not make a ring.
    #[error(
        "a journal of {files} files of {file_bytes} bytes is impossible: at least 2 files, each a \
         multiple of the device's block"
    )]
    Shape {
        /// Files asked for.
        files: u32,
        /// Bytes of each.
        file_bytes: u64,
    },
    /// A file of the ring is missing or is not what it should be.
    #[error(
        "journal file {file} is unusable: {reason}. Nothing was changed. Restore the data \
         directory from a replica or a backup"
    )]
    File {
        /// Relative to the data directory.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// It could not be replayed.
    #[error(transparent)]
    Recover(#[from] RecoverError<R>),
}

/// The path of a file of the ring.
pub(super) fn file_name(index: usize) -> String {
    format!("{JOURNAL_DIR}/{index:03}.mpj")
}

impl<D: Disk, E: JournalEntry> Journal<D, E> {
    /// Makes the ring and answers the journal and its first position. It may be called again if a
    /// crash came between: nothing was acknowledged before the first checkpoint.
    pub(crate) async fn create<R>(
        disk: &D,
        config: JournalConfig,
        meter: Rc<Meter>,
    ) -> Result<(Journal<D, E>, JournalPosition), OpenJournalError<R>> {
        let block_bytes = disk.block_bytes().max(BLOCK_BYTES_MIN);
        let shape = RingShape {
            files: config.files,
            file_bytes: config.file_bytes.next_multiple_of(block_bytes as u64),
            block_bytes: block_bytes as u32,
        };
        if !shape.is_sound() {
            let JournalConfig { files, file_bytes, .. } = config;
            return Err(OpenJournalError::Shape { files, file_bytes });
        }
        tracing::info!(
            files = shape.files,
            bytes = shape.total_bytes(),
            "preparing a new journal; on a slow card this takes some seconds, once"
        );
        disk.create_dir_all(JOURNAL_DIR).await?;
        disk.sync_dir("").await?;
        meter.synced(WriteCause::Metadata);
        let mut zeros = AlignedBuf::with_capacity(ZERO_BYTES.max(block_bytes), block_bytes);
        zeros.pad_to_multiple(block_bytes);
        let mut files = Vec::new();
        for index in 0..shape.files {
            let header = FileHeader {
                journal_id: config.id,
                file_index: index,
                files: shape.files,
                file_bytes: shape.file_bytes,
                block_bytes: shape.block_bytes,
            };
            let made = make_file(disk, index as usize, header, zeros, &meter).await?;
            zeros = made.1;
            files.push(made.0);
        }
        disk.sync_dir(JOURNAL_DIR).await?;
        meter.synced(WriteCause::Metadata);
        let first = JournalPosition {
            position: shape.start(),
            commit: 1,
            previous_crc: 0,
            next_entry: 1,
            incarnation: 1,
        };
        Ok((Journal::at(shape, config, files, first, first.position, 1, meter), first))
    }

    /// Opens the ring and replays it from `resume`, which is what a checkpoint kept.
    pub(crate) async fn open<R>(
        disk: &D,
        config: JournalConfig,
        resume: JournalPosition,
        meter: Rc<Meter>,
        clock: &impl StorageClock,
        deliver: impl AsyncFnMut(Replayed) -> Result<(), R>,
    ) -> Result<(Journal<D, E>, RecoveryReport), OpenJournalError<R>> {
        let (shape, files) = open_files(disk, config.id).await?;
        for file in &files {
            // What is replayed will be served: it may still be in the cache only, if just the
            // process died.
            file.sync().await?;
            meter.synced(WriteCause::Journal);
        }
        let recovery = Recovery::new(&files, shape, config.id, resume);
        let end = recovery.replay(deliver).await?;
        let incarnation = end.incarnation + 1;
        let tail = resume.position;
        let journal = Journal::at(shape, config, files, end.head, tail, incarnation, meter);
        journal.seal_now(clock.mono_us()).await?;
        let report = RecoveryReport { incarnation, ..end.report };
        Ok((journal, report))
    }

    fn at(
        shape: RingShape,
        config: JournalConfig,
        files: Vec<D::File>,
        head: JournalPosition,
        tail: RingPosition,
        incarnation: u64,
        meter: Rc<Meter>,
    ) -> Journal<D, E> {
        let state = State {
            queue: Queue::default(),
            head,
            tail,
            durable_commit: head.commit - 1,
            durable_entry: head.next_entry - 1,
            cut_after: None,
            cut_found: None,
            absorbing: None,
            absorbed: Vec::new(),
            is_sealed: true,
            is_starved: false,
            is_stopping: false,
            fault: None,
            spare: Vec::new(),
        };
        Journal {
            shape,
            id: config.id,
            incarnation,
            files,
            second_write_bytes: config.second_write_bytes,
            linger_us: config.linger_ms.saturating_mul(1000),
            gather_bytes: config.gather_bytes,
            seal_after_ms: config.seal_after_ms,
            state: RefCell::new(state),
            work: Signal::default(),
            progress: Signal::default(),
            meter,
        }
    }
}

/// Whether a ring without a checkpoint holds commits: then the checkpoint was lost.
pub(crate) async fn holds_commits<D: Disk>(disk: &D) -> Result<bool, DiskError> {
    for entry in disk.list(JOURNAL_DIR).await? {
        let path = format!("{JOURNAL_DIR}/{}", entry.name);
        let file = disk.open(&path, OpenMode::EXISTING).await?;
        let buf = AlignedBuf::with_capacity(2 * BLOCK_BYTES_MIN, BLOCK_BYTES_MIN);
        let (result, buf) = file.read_at(0, buf, 2 * BLOCK_BYTES_MIN).await;
        result?;
        // The block may be larger than the least; the first commit follows the header's block.
        let header = FileHeader::decode(buf.as_slice());
        let Ok(first_at) = header.map(|header| u64::from(header.block_bytes)) else {
            continue;
        };
        let (result, buf) = file.read_at(first_at, buf, COMMIT_HEADER_BYTES).await;
        result?;
        if CommitHeader::decode(buf.as_slice(), true).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn make_file<D: Disk>(
    disk: &D,
    index: usize,
    header: FileHeader,
    mut zeros: AlignedBuf,
    meter: &Meter,
) -> Result<(D::File, AlignedBuf), DiskError> {
    let mode = OpenMode { create: true, direct: is_direct() };
    let file = disk.open(&file_name(index), mode).await?;
    if file.len_bytes().await? > header.file_bytes {
        file.set_len_bytes(header.file_bytes).await?;
    }
    let piece = zeros.capacity();
    let mut at = 0;
    while at < header.file_bytes {
        let len = (header.file_bytes - at).min(piece as u64);
        zeros.set_len(len as usize);
        let (result, returned) = file.write_at(at, zeros).await;
        zeros = returned;
        result?;
        meter.wrote(WriteCause::Metadata, len);
        at += len;
    }
    // The header goes last and in its own write: a ring that was not filled has none.
    let block = header.block_bytes as usize;
    let mut first = AlignedBuf::copied_from(&header.encode(), block);
    first.pad_to_multiple(block);
    file.sync().await?;
    meter.synced(WriteCause::Metadata);
    let (result, _) = file.write_durable(0, first).await;
    result?;
    meter.wrote(WriteCause::Metadata, block as u64);
    meter.synced(WriteCause::Metadata);
    Ok((file, zeros))
}

pub(super) async fn open_files<D: Disk, R>(
    disk: &D,
    journal_id: u64,
) -> Result<(RingShape, Vec<D::File>), OpenJournalError<R>> {
    let first = read_header(disk, 0).await?;
    let shape = RingShape {
        files: first.files,
        file_bytes: first.file_bytes,
        block_bytes: first.block_bytes,
    };
    if !shape.is_sound() {
        let reason = "its header describes an impossible ring".to_owned();
        return Err(OpenJournalError::File { file: file_name(0), reason });
    }
    // A device that needs larger blocks than the ring was made for is gone around by the cache.
    let direct = is_direct() && disk.block_bytes() <= shape.block_bytes as usize;
    let mut files = Vec::new();
    for index in 0..shape.files as usize {
        let wanted = FileHeader { journal_id, file_index: index as u32, ..first };
        let unusable = |reason: String| OpenJournalError::File { file: file_name(index), reason };
        let found = if index == 0 { first } else { read_header(disk, index).await? };
        if found != wanted {
            return Err(unusable("it belongs to another ring".to_owned()));
        }
        let mode = OpenMode { create: false, direct };
        let file = disk.open(&file_name(index), mode).await?;
        let len = file.len_bytes().await?;
        if len != shape.file_bytes {
            let wanted = shape.file_bytes;
            return Err(unusable(format!("it has {len} bytes instead of {wanted}")));
        }
        files.push(file);
    }
    Ok((shape, files))
}

async fn read_header<D: Disk, R>(
    disk: &D,
    index: usize,
) -> Result<FileHeader, OpenJournalError<R>> {
    let unusable = |reason: String| OpenJournalError::File { file: file_name(index), reason };
    let file = match disk.open(&file_name(index), OpenMode::EXISTING).await {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Err(unusable("it is missing".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let buf = AlignedBuf::with_capacity(BLOCK_BYTES_MIN, BLOCK_BYTES_MIN);
    let (result, buf) = file.read_at(0, buf, BLOCK_BYTES_MIN).await;
    result?;
    match FileHeader::decode(buf.as_slice()) {
        Ok(header) => Ok(header),
        Err(HeaderFault::Newer(version)) => {
            Err(RecoverError::Newer { file: file_name(index), version }.into())
        }
        Err(fault) => Err(unusable(fault.to_string())),
    }
}
