//! What can go wrong with the device, and where. It never decides whether that is fatal.

use std::fmt;
use std::io;
use std::sync::Arc;

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Opening or making a file.
    Open,
    /// Listing a directory.
    List,
    /// Reading.
    Read,
    /// Writing through the page cache or around it.
    Write,
    /// Writing so that the bytes are on the device.
    WriteDurable,
    /// Syncing a file.
    Sync,
    /// Syncing a directory.
    SyncDir,
    /// Making a directory.
    CreateDir,
    /// Renaming.
    Rename,
    /// Removing a file or directory.
    Remove,
    /// Asking for or changing a length.
    Length,
    /// Locking.
    Lock,
    /// Asking how full the file system is.
    Space,
    /// Starting the backend.
    Start,
}

impl fmt::Display for DiskOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskOp::Open => "open",
            DiskOp::List => "list",
            DiskOp::Read => "read",
            DiskOp::Write => "write",
            DiskOp::WriteDurable => "durable write",
            DiskOp::Sync => "sync",
            DiskOp::SyncDir => "directory sync",
            DiskOp::CreateDir => "create directory",
            DiskOp::Rename => "rename",
            DiskOp::Remove => "remove",
            DiskOp::Length => "length",
            DiskOp::Lock => "lock",
            DiskOp::Space => "free space query",
            DiskOp::Start => "start of the disk backend",
        })
    }
}

/// An operation on the device failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{op} of {path:?} failed: {source}")]
pub struct DiskError {
    /// What was tried.
    pub op: DiskOp,
    /// On which path, relative to the data directory.
    pub path: Arc<str>,
    /// What the operating system said.
    pub source: Arc<io::Error>,
}

impl DiskError {
    /// An error of `op` on `path`.
    pub fn new(op: DiskOp, path: &str, source: io::Error) -> DiskError {
        DiskError { op, path: Arc::from(path), source: Arc::new(source) }
    }

    /// Whether the file is not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the device is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the device takes no more: it is full, over quota or read-only. Nothing was lost then
    /// but what this operation was to write.
    pub fn is_refusal(&self) -> bool {
        self.is_no_space() || self.source.kind() == io::ErrorKind::ReadOnlyFilesystem
    }
}
