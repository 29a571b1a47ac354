//! Checkpoints on the disk: written beside the old one, made durable, renamed into place, and only
//! then is the old one removed. A start finds one whole checkpoint at every moment.

pub mod format;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use millpond_wire::limits::{CHECKPOINT_BYTES_MAX, SEGMENT_GATHER_BYTES};

pub use format::Checkpoint;

use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, DiskOp, OpenMode};
use crate::metrics::{Meter, WriteCause};

/// The directory of checkpoints.
const CHECKPOINT_DIR: &str = "checkpoint";
const SUFFIX: &str = ".mpc";
const TEMPORARY_SUFFIX: &str = ".tmp";
const ALIGN_BYTES: usize = 512;

/// Why the newest checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadCheckpointError {
    /// The device failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It was whole once: it was synced before it got its name.
    #[error(
        "checkpoint {path} is damaged: {reason}. Nothing was changed. Restore the data directory \
         from a replica or a backup"
    )]
    Damaged {
        /// Relative to the data directory.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

fn path_of(number: u64, suffix: &str) -> String {
    format!("{CHECKPOINT_DIR}/{number:020}{suffix}")
}

/// The path of a checkpoint's file.
pub(crate) fn path_of_number(number: u64) -> String {
    path_of(number, SUFFIX)
}

/// Makes a checkpoint, encoded, the one that the next start finds.
pub(crate) async fn store<D: Disk>(
    disk: &D,
    number: u64,
    bytes: &[u8],
    meter: &Meter,
) -> Result<(), DiskError> {
    if disk.list(CHECKPOINT_DIR).await?.is_empty() {
        disk.create_dir_all(CHECKPOINT_DIR).await?;
        disk.sync_dir("").await?;
        meter.synced(WriteCause::Metadata);
    }
    let temporary = path_of(number, TEMPORARY_SUFFIX);
    let file = disk.open(&temporary, OpenMode::CREATE).await?;
    file.set_len_bytes(0).await?;
    let mut buf = AlignedBuf::with_capacity(SEGMENT_GATHER_BYTES.min(bytes.len()), ALIGN_BYTES);
    let mut at = 0;
    for piece in bytes.chunks(SEGMENT_GATHER_BYTES) {
        buf.clear();
        buf.extend_from_slice(piece);
        let (result, returned) = file.write_at(at, buf).await;
        buf = returned;
        result?;
        at += piece.len() as u64;
    }
    meter.wrote(WriteCause::Checkpoint, at);
    file.sync().await?;
    meter.synced(WriteCause::Checkpoint);
    disk.rename(&temporary, &path_of(number, SUFFIX)).await?;
    disk.sync_dir(CHECKPOINT_DIR).await?;
    meter.synced(WriteCause::Checkpoint);
    Ok(())
}

/// Whether a checkpoint that failed like this is as if it had never been tried: the disk refused, and
/// nothing has got the name of a checkpoint. Once it has, only a sync of the directory can fail, and
/// then nobody knows which one the next start finds.
pub(crate) fn is_abandonable(error: &DiskError) -> bool {
    let is_named = error.op == DiskOp::SyncDir && &*error.path == CHECKPOINT_DIR;
    error.is_refusal() && !is_named
}

/// Removes all checkpoints but this one, which is durable. They may come back after a power cut;
/// then the newest counts again.
pub(crate) async fn remove_others<D: Disk>(disk: &D, number: u64) -> Result<(), DiskError> {
    let kept = path_of(number, SUFFIX);
    for entry in disk.list(CHECKPOINT_DIR).await? {
        let path = format!("{CHECKPOINT_DIR}/{}", entry.name);
        let is_ours = path.ends_with(SUFFIX) || path.ends_with(TEMPORARY_SUFFIX);
        if path != kept && is_ours {
            disk.remove_file(&path).await?;
        }
    }
    Ok(())
}

/// The newest checkpoint, if there is one.
pub(crate) async fn load<D: Disk>(disk: &D) -> Result<Option<Checkpoint>, LoadCheckpointError> {
    let names = disk.list(CHECKPOINT_DIR).await?;
    let numbers = names.iter().filter_map(|entry| {
        let digits = entry.name.strip_suffix(SUFFIX)?;
        digits.parse::<u64>().ok()
    });
    let Some(newest) = numbers.max() else {
        return Ok(None);
    };
    let path = path_of(newest, SUFFIX);
    let damaged = |reason: String| LoadCheckpointError::Damaged { path: path.clone(), reason };
    let file = disk.open(&path, OpenMode::EXISTING).await?;
    let len = file.len_bytes().await?;
    if len > CHECKPOINT_BYTES_MAX as u64 {
        return Err(damaged(format!("{len} bytes are more than a checkpoint can have")));
    }
    let len = len as usize;
    let buf = AlignedBuf::with_capacity(len, ALIGN_BYTES);
    let (result, buf) = file.read_at(0, buf, len).await;
    result?;
    let checkpoint = Checkpoint::decode(Bytes::copy_from_slice(buf.as_slice())).map_err(damaged)?;
    if checkpoint.number != newest {
        return Err(damaged("it bears another number".to_owned()));
    }
    Ok(Some(checkpoint))
}
