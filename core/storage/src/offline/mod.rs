//! A data directory while no node runs on it: what it holds, whether it is whole, and what can be
//! done where it is not. For people in trouble (`millpond log`).
//!
//! It takes the directory's lock, so a node and this never meet. Only [`repair`] writes, and it
//! never deletes bytes: what it replaces is moved aside first. Nothing here may hold more of the
//! data in memory than one batch, one commit and the engine's own state.

mod finding;
mod journal;
mod names;
mod quarantine;
mod repair;
mod segment;
mod verify;
mod words;

pub use finding::{Concern, Finding, Findings, Severity};
pub use journal::{EntryView, JournalView};
pub use names::TopicNames;
pub use quarantine::QUARANTINE_DIR;
pub use repair::{RepairPlan, RepairStep, plan_repair, repair};
pub use segment::{BatchFacts, SegmentPiece, SegmentScan};
pub use verify::{Progress, Report, verify};

pub use crate::checkpoint::{Checkpoint, LoadCheckpointError};
pub use crate::journal::{CommitFacts, EntryFacts};
pub use crate::segments::{SegmentMeta, SegmentTable};

use crate::checkpoint;
use crate::disk::{Disk, DiskError, LockGuard};
use crate::durable_engine::{LOCK_PATH, ReplayFault};
use crate::journal::OpenJournalError;

/// Why a data directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// A node, or another such command, is at work.
    #[error("the data directory is in use: a node runs on it (its file LOCK is locked)")]
    InUse,
    /// There is no checkpoint: nothing was ever acknowledged, or it was lost.
    #[error("there is no checkpoint: either no node has run here, or it was lost")]
    NoCheckpoint,
    /// The device failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The newest checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(LoadCheckpointError),
    /// The ring cannot be opened.
    #[error(transparent)]
    Journal(#[from] OpenJournalError<ReplayFault>),
}

impl From<LoadCheckpointError> for OfflineError {
    fn from(error: LoadCheckpointError) -> OfflineError {
        match error {
            LoadCheckpointError::Disk(error) => OfflineError::Disk(error),
            other => OfflineError::Checkpoint(other),
        }
    }
}

/// A data directory that nobody else has.
pub struct DataDir<D: Disk> {
    disk: D,
    _lock: LockGuard,
}

impl<D: Disk> DataDir<D> {
    /// Takes the directory's lock.
    ///
    /// # Errors
    /// [`OfflineError::InUse`] when a node runs on it.
    pub async fn lock(disk: D) -> Result<DataDir<D>, OfflineError> {
        match disk.try_lock(LOCK_PATH).await? {
            Some(lock) => Ok(DataDir { disk, _lock: lock }),
            None => Err(OfflineError::InUse),
        }
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub async fn checkpoint(&self) -> Result<Checkpoint, OfflineError> {
        checkpoint::load(&self.disk).await?.ok_or(OfflineError::NoCheckpoint)
    }

    /// The disk, for reading.
    pub fn disk(&self) -> &D {
        &self.disk
    }
}
