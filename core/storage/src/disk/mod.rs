//! The one door to the device: what storage asks of a disk, and who answers.
//!
//! Three implementations: [`uring`] (Linux io_uring), [`portable`] (a few threads, for kernels
//! and containers that refuse io_uring) and [`sim`] (seeded, in memory, for the tests). Everything
//! above is written against these traits and must never open a file by itself.
//!
//! A buffer is moved into an operation and comes back with its completion. While the kernel has
//! it nobody else can name it; if the caller loses interest (drops the future), the disk keeps the
//! buffer until the kernel is done. There is no way to write the opposite down.

pub mod aligned;
mod error;
pub mod portable;
mod real;
pub mod sim;
pub mod uring;

#[cfg(test)]
mod conformance;

pub use aligned::AlignedBuf;
pub use error::{DiskError, DiskOp};
pub use real::{BackendChoice, RealDisk, RealFile};

use std::any::Any;

/// The smallest unit in which the journal writes, in bytes. Devices that need larger aligned
/// writes raise it at run time ([`Disk::block_bytes`]).
pub const BLOCK_BYTES_MIN: usize = 4096;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMode {
    /// Make the file if it is not there. Its directory entry is durable only after
    /// [`Disk::sync_dir`] of its directory.
    pub create: bool,
    /// Go around the page cache where the file system allows it. Offsets, lengths and buffers of
    /// all later operations must then be multiples of [`Disk::block_bytes`].
    pub direct: bool,
}

impl OpenMode {
    /// An existing file through the page cache.
    pub const EXISTING: OpenMode = OpenMode { create: false, direct: false };
    /// A file through the page cache, made if need be.
    pub const CREATE: OpenMode = OpenMode { create: true, direct: false };
    /// An existing file around the page cache.
    pub const DIRECT: OpenMode = OpenMode { create: false, direct: true };
    /// A file around the page cache, made if need be.
    pub const CREATE_DIRECT: OpenMode = OpenMode { create: true, direct: true };
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last part of the path.
    pub name: String,
    /// Whether it is itself a directory.
    pub is_dir: bool,
}

/// How full the file system of the data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLeft {
    /// Bytes that may still be written without privileges.
    pub free_bytes: u64,
    /// Bytes of all of it.
    pub total_bytes: u64,
}

/// Keeps a lock for as long as it lives.
pub type LockGuard = Box<dyn Any>;

/// What an operation answers: the result, and the buffer that was lent to it.
pub type Returned<T> = (Result<T, DiskError>, AlignedBuf);

/// A data directory. Paths are relative to it, with `/` between the parts.
///
/// Futures are `!Send`: one thread owns the disk. Only the two real implementations need a
/// particular runtime (tokio, current thread).
#[allow(async_fn_in_trait, reason = "one thread owns the disk: futures need not be Send")]
pub trait Disk: Clone + 'static {
    /// An open file of this disk.
    type File: DiskFile;

    /// The implementation at work, for logs and metrics.
    fn backend_name(&self) -> &'static str;

    /// Alignment and granularity of durable writes, in bytes; a power of two.
    fn block_bytes(&self) -> usize;

    /// Opens a file.
    async fn open(&self, path: &str, mode: OpenMode) -> Result<Self::File, DiskError>;

    /// The names in a directory, sorted; empty if the directory is not there.
    async fn list(&self, dir: &str) -> Result<Vec<DirEntry>, DiskError>;

    /// Makes a directory and those above it. Durable after `sync_dir` of each parent.
    async fn create_dir_all(&self, dir: &str) -> Result<(), DiskError>;

    /// Puts `from` in the place of `to`, atomically. Durable after `sync_dir`.
    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file; no error if it is not there. Durable after `sync_dir`.
    async fn remove_file(&self, path: &str) -> Result<(), DiskError>;

    /// Removes a directory and all in it; no error if it is not there. Durable after `sync_dir`.
    async fn remove_dir_all(&self, dir: &str) -> Result<(), DiskError>;

    /// Makes the entries of a directory durable. `""` is the data directory itself.
    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError>;

    /// How full the file system is. A hint: others write there too.
    async fn space(&self) -> Result<SpaceLeft, DiskError>;

    /// Takes an exclusive lock that dies with the process; `Ok(None)` if another process has it.
    async fn try_lock(&self, path: &str) -> Result<Option<LockGuard>, DiskError>;
}

/// An open file. Clones name the same file.
#[allow(async_fn_in_trait, reason = "one thread owns the disk: futures need not be Send")]
pub trait DiskFile: Clone + 'static {
    /// Reads up to `len_bytes` at `offset_bytes` into the start of `buf`, whose length becomes what
    /// was read: less than asked for only at the end of the file.
    async fn read_at(&self, offset_bytes: u64, buf: AlignedBuf, len_bytes: usize) -> Returned<()>;

    /// Says that these bytes will be read soon. A hint: it waits for nothing and cannot fail.
    fn will_need(&self, offset_bytes: u64, len_bytes: usize);

    /// Writes all of `buf` at `offset_bytes`. Not durable before [`DiskFile::sync`].
    async fn write_at(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()>;

    /// Writes all of `buf` at `offset_bytes`; when it completes without an error these bytes are
    /// on the device (and nothing is said about others).
    async fn write_durable(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()>;

    /// Makes all writes that completed before this call durable, with the file's length.
    ///
    /// After an error the state of those writes is unknown and stays so: the caller must stop,
    /// never try again (the kernel may have marked the lost pages clean).
    async fn sync(&self) -> Result<(), DiskError>;

    /// The file's length in bytes.
    async fn len_bytes(&self) -> Result<u64, DiskError>;

    /// Cuts or extends (with zeros) the file. Durable after `sync`.
    async fn set_len_bytes(&self, len_bytes: u64) -> Result<(), DiskError>;
}

/// The directory part of a path; `""` at the top.
pub(crate) fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
