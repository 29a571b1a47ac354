//! Why the durable engine does not start, and why it stops for good.

use millpond_engine::{EntryError, ReplayError, SnapshotError};

use crate::checkpoint::LoadCheckpointError;
use crate::disk::DiskError;
use crate::journal::{JournalError, OpenJournalError};

/// Why an entry of the journal cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFault {
    /// Its checksum is right and its content is not understood.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// It is damaged, and whom it concerned is not known any more.
    #[error(
        "it is damaged and concerned a partition that does not exist. Nothing was changed. Restore \
         the data directory from a replica or a backup, or see what `millpond log repair` can save"
    )]
    LostScope,
    /// It contradicts what came before it.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Why a data directory cannot be opened. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two processes on one directory would destroy it.
    #[error("the data directory is in use by another process (its file LOCK is locked)")]
    InUse,
    /// The device failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The newest checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] LoadCheckpointError),
    /// There is data, and no checkpoint that says what to make of it.
    #[error(
        "the data directory holds {what} but no checkpoint: it was lost. Nothing was changed. \
         Restore the directory from a replica or a backup"
    )]
    CheckpointMissing {
        /// What is there.
        what: &'static str,
    },
    /// The engine's snapshot in the checkpoint cannot be read.
    #[error("the engine's snapshot in the checkpoint cannot be used: {0}")]
    Snapshot(#[from] SnapshotError),
    /// Snapshot and checkpoint disagree.
    #[error("the engine's snapshot is of entry {snapshot}, its checkpoint of entry {checkpoint}")]
    SnapshotPosition {
        /// The last entry of the snapshot.
        snapshot: u64,
        /// The last entry before the checkpoint's position.
        checkpoint: u64,
    },
    /// The journal cannot be opened or replayed.
    #[error(transparent)]
    Journal(#[from] OpenJournalError<ReplayFault>),
}

/// The device failed a write or a sync that durability rests on. What was under way may or may not
/// be there; nothing was acknowledged after it. The process must end: the next start sorts it out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FatalDiskError {
    /// The journal.
    #[error("the journal cannot be written: {0}")]
    Journal(#[from] JournalError),
    /// A checkpoint, or a segment that it was to name.
    #[error("a checkpoint cannot be written: {0}")]
    Checkpoint(#[from] DiskError),
}
