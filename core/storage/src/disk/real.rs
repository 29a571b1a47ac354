//! The disk of a real node: io_uring where it is to be had, threads where it is refused. The choice
//! is made once, at the start, and logged with its reason.

use millpond_wire::mutant::Mutant;
use std::path::Path;
use std::str::FromStr;

use super::portable::{PortableDisk, PortableFile};
use super::uring::{UringDisk, UringFile};
use super::{
    AlignedBuf, DirEntry, Disk, DiskError, DiskFile, LockGuard, OpenMode, Returned, SpaceLeft,
};

/// Threads of the portable backend: two journal writes, a checkpoint, a history read.
const PORTABLE_THREADS: usize = 4;

/// Which backend the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring, or threads if it is refused.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// Threads.
    Portable,
}

impl FromStr for BackendChoice {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<BackendChoice, UnknownBackend> {
        match text {
            "auto" => Ok(BackendChoice::Auto),
            "io_uring" | "uring" => Ok(BackendChoice::Uring),
            "portable" => Ok(BackendChoice::Portable),
            _ => Err(UnknownBackend(text.to_owned())),
        }
    }
}

/// No backend has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown disk backend {0:?}: use auto, io_uring or portable")]
pub struct UnknownBackend(String);

/// One of the two real disks.
#[derive(Clone)]
pub enum RealDisk {
    /// See [`super::uring`].
    Uring(UringDisk),
    /// See [`super::portable`].
    Portable(PortableDisk),
}

/// An open file of a [`RealDisk`].
#[derive(Clone)]
pub enum RealFile {
    /// See [`super::uring`].
    Uring(UringFile),
    /// See [`super::portable`].
    Portable(PortableFile),
}

impl RealDisk {
    /// Opens a data directory, which is made if need be. Must be called within a tokio runtime
    /// that drives I/O and time; the disk is then used on that thread only.
    pub fn open(root: &Path, choice: BackendChoice) -> Result<RealDisk, DiskError> {
        let disk = match choice {
            BackendChoice::Portable => {
                tracing::info!("disk backend: portable threads, as configured");
                RealDisk::Portable(PortableDisk::open(root, PORTABLE_THREADS)?)
            }
            BackendChoice::Uring => {
                tracing::info!("disk backend: io_uring, as configured");
                RealDisk::Uring(UringDisk::open(root)?)
            }
            BackendChoice::Auto => match UringDisk::open(root) {
                Ok(disk) => {
                    tracing::info!("disk backend: io_uring");
                    RealDisk::Uring(disk)
                }
                Err(refusal) => {
                    tracing::warn!(
                        reason = %refusal.source,
                        "disk backend: portable threads, because io_uring is refused here"
                    );
                    RealDisk::Portable(PortableDisk::open(root, PORTABLE_THREADS)?)
                }
            },
        };
        Ok(disk)
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn backend_name(&self) -> &'static str {
        match self {
            RealDisk::Uring(disk) => disk.backend_name(),
            RealDisk::Portable(disk) => disk.backend_name(),
        }
    }

    fn block_bytes(&self) -> usize {
        match self {
            RealDisk::Uring(disk) => disk.block_bytes(),
            RealDisk::Portable(disk) => disk.block_bytes(),
        }
    }

    async fn open(&self, path: &str, mode: OpenMode) -> Result<RealFile, DiskError> {
        match self {
            RealDisk::Uring(disk) => disk.open(path, mode).await.map(RealFile::Uring),
            RealDisk::Portable(disk) => disk.open(path, mode).await.map(RealFile::Portable),
        }
    }

    async fn list(&self, dir: &str) -> Result<Vec<DirEntry>, DiskError> {
        match self {
            RealDisk::Uring(disk) => disk.list(dir).await,
            RealDisk::Portable(disk) => disk.list(dir).await,
        }
    }

    async fn create_dir_all(&self, dir: &str) -> Result<(), DiskError> {
        match self {
            RealDisk::Uring(disk) => disk.create_dir_all(dir).await,
            RealDisk::Portable(disk) => disk.create_dir_all(dir).await,
        }
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        match self {
            RealDisk::Uring(disk) => disk.rename(from, to).await,
            RealDisk::Portable(disk) => disk.rename(from, to).await,
        }
    }

    async fn remove_file(&self, path: &str) -> Result<(), DiskError> {
        match self {
            RealDisk::Uring(disk) => disk.remove_file(path).await,
            RealDisk::Portable(disk) => disk.remove_file(path).await,
        }
    }

    async fn remove_dir_all(&self, dir: &str) -> Result<(), DiskError> {
        match self {
            RealDisk::Uring(disk) => disk.remove_dir_all(dir).await,
            RealDisk::Portable(disk) => disk.remove_dir_all(dir).await,
        }
    }

    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        // The mutant trusts the file system: crash images must find it out.
        if Mutant::NoDirSync.is_on() {
            return Ok(());
        }
        match self {
            RealDisk::Uring(disk) => disk.sync_dir(dir).await,
            RealDisk::Portable(disk) => disk.sync_dir(dir).await,
        }
    }

    async fn space(&self) -> Result<SpaceLeft, DiskError> {
        match self {
            RealDisk::Uring(disk) => disk.space().await,
            RealDisk::Portable(disk) => disk.space().await,
        }
    }

    async fn try_lock(&self, path: &str) -> Result<Option<LockGuard>, DiskError> {
        match self {
            RealDisk::Uring(disk) => disk.try_lock(path).await,
            RealDisk::Portable(disk) => disk.try_lock(path).await,
        }
    }
}

impl DiskFile for RealFile {
    async fn read_at(&self, offset_bytes: u64, buf: AlignedBuf, len_bytes: usize) -> Returned<()> {
        match self {
            RealFile::Uring(file) => file.read_at(offset_bytes, buf, len_bytes).await,
            RealFile::Portable(file) => file.read_at(offset_bytes, buf, len_bytes).await,
        }
    }

    fn will_need(&self, offset_bytes: u64, len_bytes: usize) {
        match self {
            RealFile::Uring(file) => file.will_need(offset_bytes, len_bytes),
            RealFile::Portable(file) => file.will_need(offset_bytes, len_bytes),
        }
    }

    async fn write_at(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        match self {
            RealFile::Uring(file) => file.write_at(offset_bytes, buf).await,
            RealFile::Portable(file) => file.write_at(offset_bytes, buf).await,
        }
    }

    async fn write_durable(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        match self {
            RealFile::Uring(file) => file.write_durable(offset_bytes, buf).await,
            RealFile::Portable(file) => file.write_durable(offset_bytes, buf).await,
        }
    }

    async fn sync(&self) -> Result<(), DiskError> {
        // The mutant leaves segments and checkpoints to the page cache: crash images must find it
        // out.
        if Mutant::NoFileSync.is_on() {
            return Ok(());
        }
        match self {
            RealFile::Uring(file) => file.sync().await,
            RealFile::Portable(file) => file.sync().await,
        }
    }

    async fn len_bytes(&self) -> Result<u64, DiskError> {
        match self {
            RealFile::Uring(file) => file.len_bytes().await,
            RealFile::Portable(file) => file.len_bytes().await,
        }
    }

    async fn set_len_bytes(&self, len_bytes: u64) -> Result<(), DiskError> {
        match self {
            RealFile::Uring(file) => file.set_len_bytes(len_bytes).await,
            RealFile::Portable(file) => file.set_len_bytes(len_bytes).await,
        }
    }
}
