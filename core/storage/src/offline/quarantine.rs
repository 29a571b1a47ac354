//! `quarantine/<label>/`: where a repair puts what it replaces, under the path that it had. Nothing
//! in there is ever read or removed by a node.

use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode, parent_of};

/// The directory of all repairs' left-overs.
pub const QUARANTINE_DIR: &str = "quarantine";

/// Bytes copied at once.
const COPY_BYTES: usize = 1024 * 1024;
/// What is given up where the device cannot read.
const BLOCK_BYTES: usize = 4096;

/// The place of one repair.
pub(super) struct Quarantine<'a, D: Disk> {
    disk: &'a D,
    dir: String,
}

impl<'a, D: Disk> Quarantine<'a, D> {
    /// `label` becomes part of the path.
    pub(super) fn new(disk: &'a D, label: &str) -> Quarantine<'a, D> {
        Quarantine { disk, dir: format!("{QUARANTINE_DIR}/{label}") }
    }

    /// Where everything goes.
    pub(super) fn dir(&self) -> &str {
        &self.dir
    }

    /// Moves a file here. Nothing happens if there is no such file.
    pub(super) async fn take(&self, path: &str) -> Result<(), DiskError> {
        let to = self.room_for(path).await?;
        match self.disk.rename(path, &to).await {
            Err(error) if error.is_not_found() => return Ok(()),
            renamed => renamed?,
        }
        self.disk.sync_dir(parent_of(&to)).await?;
        self.disk.sync_dir(parent_of(path)).await
    }

    /// Copies a file here, which stays where it is. Blocks that the device cannot read are zeros in
    /// the copy. Nothing happens if there is no such file.
    pub(super) async fn copy(&self, path: &str) -> Result<(), DiskError> {
        let from = match self.disk.open(path, OpenMode::EXISTING).await {
            Ok(from) => from,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let to_path = self.room_for(path).await?;
        let to = self.disk.open(&to_path, OpenMode::CREATE).await?;
        let len = from.len_bytes().await?;
        let mut at = 0;
        while at < len {
            let piece = read_lossy::<D>(&from, at, len).await?;
            let copied = piece.len() as u64;
            let (result, _) = to.write_at(at, piece).await;
            result?;
            at += copied;
        }
        to.sync().await?;
        self.disk.sync_dir(parent_of(&to_path)).await
    }

    async fn room_for(&self, path: &str) -> Result<String, DiskError> {
        let to = format!("{}/{path}", self.dir);
        self.disk.create_dir_all(parent_of(&to)).await?;
        let mut dir = parent_of(&to);
        loop {
            dir = parent_of(dir);
            self.disk.sync_dir(dir).await?;
            if dir.is_empty() {
                return Ok(to);
            }
        }
    }
}

/// The next bytes of a file; zeros for a block that cannot be read.
async fn read_lossy<D: Disk>(file: &D::File, at: u64, len: u64) -> Result<AlignedBuf, DiskError> {
    for want in [COPY_BYTES, BLOCK_BYTES] {
        let want = (want as u64).min(len - at) as usize;
        let buf = AlignedBuf::with_capacity(want, BLOCK_BYTES);
        let (result, buf) = file.read_at(at, buf, want).await;
        if result.is_ok() && !buf.is_empty() {
            return Ok(buf);
        }
    }
    let mut zeros = AlignedBuf::with_capacity(BLOCK_BYTES, BLOCK_BYTES);
    zeros.set_len((BLOCK_BYTES as u64).min(len - at) as usize);
    Ok(zeros)
}
