//! Why a node stopped by itself, and what that was: the device, damage, or neither. Must never
//! excuse anything: the run does that.

use millpond_storage::checkpoint::LoadCheckpointError;
use millpond_storage::disk::DiskError;
use millpond_storage::journal::{JournalError, OpenJournalError, RecoverError};
use millpond_storage::{FatalDiskError, OpenError, ReplayFault};
use std::fmt;

/// Why the node stopped.
#[derive(Debug)]
pub enum Stop {
    /// It did not open.
    Refused(OpenError),
    /// It ran, and gave up.
    Died(FatalDiskError),
}

/// What a stop comes down to.
#[derive(Debug)]
pub enum Cause<'a> {
    /// The device failed an operation.
    Device(&'a DiskError),
    /// Bytes are not what was written; the error names them.
    Damage,
    /// Anything else.
    Other,
}

impl Stop {
    /// What it comes down to.
    pub fn cause(&self) -> Cause<'_> {
        match self {
            Stop::Refused(error) => cause_of_refusal(error),
            Stop::Died(FatalDiskError::Journal(JournalError::Disk(error))) => Cause::Device(error),
            Stop::Died(FatalDiskError::Checkpoint(error) | FatalDiskError::Direct(error)) => {
                Cause::Device(error)
            }
            Stop::Died(_) => Cause::Other,
        }
    }
}

fn cause_of_refusal(error: &OpenError) -> Cause<'_> {
    match error {
        OpenError::Disk(error)
        | OpenError::Checkpoint(LoadCheckpointError::Disk(error))
        | OpenError::Journal(OpenJournalError::Disk(error))
        | OpenError::Journal(OpenJournalError::Recover(RecoverError::Disk(error))) => {
            Cause::Device(error)
        }
        OpenError::Checkpoint(LoadCheckpointError::Damaged { .. })
        | OpenError::Journal(OpenJournalError::File { .. })
        | OpenError::Journal(OpenJournalError::Recover(RecoverError::Damage(_)))
        | OpenError::Journal(OpenJournalError::Recover(RecoverError::Refused {
            reason: ReplayFault::LostScope,
            ..
        })) => Cause::Damage,
        _ => Cause::Other,
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Refused(error) => write!(out, "it does not open: {error}"),
            Stop::Died(error) => write!(out, "it gave up: {error}"),
        }
    }
}
