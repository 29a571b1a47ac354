//! The disk for kernels and containers that refuse io_uring: a few threads with pwritev2 and
//! fdatasync, O_DIRECT where it is to be had. It must promise exactly what the others promise.

mod pool;
pub(crate) mod system;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::{
    AlignedBuf, DirEntry, Disk, DiskError, DiskFile, DiskOp, LockGuard, OpenMode, Returned,
    SpaceLeft,
};
use pool::Pool;

/// A data directory served by threads.
#[derive(Clone)]
pub struct PortableDisk {
    inner: Rc<Inner>,
}

struct Inner {
    pool: Pool,
    root: Arc<Path>,
    block_bytes: usize,
}

/// An open file of a [`PortableDisk`].
#[derive(Clone)]
pub struct PortableFile {
    disk: PortableDisk,
    fd: Arc<OwnedFd>,
    path: Arc<str>,
    is_direct: bool,
}

impl PortableDisk {
    /// Opens a data directory, which is made if need be. `threads` of 2 to 4 are enough: the
    /// journal has at most two writes under way.
    pub fn open(root: &Path, threads: usize) -> Result<PortableDisk, DiskError> {
        let start = |source| DiskError::new(DiskOp::Start, &root.to_string_lossy(), source);
        std::fs::create_dir_all(root).map_err(start)?;
        let root = root.canonicalize().map_err(start)?;
        let block_bytes = system::direct_block_bytes(&root);
        let pool = Pool::start(threads).map_err(start)?;
        Ok(PortableDisk { inner: Rc::new(Inner { pool, root: Arc::from(root), block_bytes }) })
    }

    /// Runs a call that concerns a path.
    async fn on_path<T: Send + 'static>(
        &self,
        op: DiskOp,
        path: &str,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DiskError> {
        let full = self.full(op, path)?;
        self.call(op, path, move || call(&full)).await
    }

    fn full(&self, op: DiskOp, path: &str) -> Result<PathBuf, DiskError> {
        system::resolve(&self.inner.root, path).map_err(|source| DiskError::new(op, path, source))
    }

    async fn call<T: Send + 'static>(
        &self,
        op: DiskOp,
        path: &str,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, DiskError> {
        let result = self.inner.pool.run(call).await;
        result.unwrap_or_else(|| Err(gone())).map_err(|source| DiskError::new(op, path, source))
    }

    /// Opens a file for another backend that moves the bytes by itself.
    pub(crate) async fn open_fd(
        &self,
        path: &str,
        mode: OpenMode,
    ) -> Result<(OwnedFd, bool), DiskError> {
        self.on_path(DiskOp::Open, path, move |full| system::open(full, mode)).await
    }

    /// Wraps what [`PortableDisk::open_fd`] gave.
    pub(crate) fn file_of(&self, fd: Arc<OwnedFd>, path: &str, is_direct: bool) -> PortableFile {
        PortableFile { disk: self.clone(), fd, path: Arc::from(path), is_direct }
    }
}

fn gone() -> io::Error {
    io::Error::other("a disk thread died; see the log")
}

impl Disk for PortableDisk {
    type File = PortableFile;

    fn backend_name(&self) -> &'static str {
        "portable"
    }

    fn block_bytes(&self) -> usize {
        self.inner.block_bytes
    }

    async fn open(&self, path: &str, mode: OpenMode) -> Result<PortableFile, DiskError> {
        let (fd, is_direct) = self.open_fd(path, mode).await?;
        Ok(self.file_of(Arc::new(fd), path, is_direct))
    }

    async fn list(&self, dir: &str) -> Result<Vec<DirEntry>, DiskError> {
        self.on_path(DiskOp::List, dir, system::list).await
    }

    async fn create_dir_all(&self, dir: &str) -> Result<(), DiskError> {
        self.on_path(DiskOp::CreateDir, dir, |full| std::fs::create_dir_all(full)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let source = self.full(DiskOp::Rename, from)?;
        self.on_path(DiskOp::Rename, to, move |full| system::rename(&source, full)).await
    }

    async fn remove_file(&self, path: &str) -> Result<(), DiskError> {
        self.on_path(DiskOp::Remove, path, system::remove_file).await
    }

    async fn remove_dir_all(&self, dir: &str) -> Result<(), DiskError> {
        self.on_path(DiskOp::Remove, dir, system::remove_dir_all).await
    }

    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.on_path(DiskOp::SyncDir, dir, system::sync_dir).await
    }

    async fn space(&self) -> Result<SpaceLeft, DiskError> {
        self.on_path(DiskOp::Space, "", system::space).await
    }

    async fn try_lock(&self, path: &str) -> Result<Option<LockGuard>, DiskError> {
        let locked = self.on_path(DiskOp::Lock, path, system::try_lock).await?;
        Ok(locked.map(|fd| Box::new(fd) as LockGuard))
    }
}

impl PortableFile {
    /// Whether the page cache is gone around.
    pub fn is_direct(&self) -> bool {
        self.is_direct
    }

    async fn lend(
        &self,
        op: DiskOp,
        buf: AlignedBuf,
        call: impl FnOnce(&OwnedFd, &mut AlignedBuf) -> io::Result<()> + Send + 'static,
    ) -> Returned<()> {
        let fd = Arc::clone(&self.fd);
        let align = buf.align_bytes();
        let job = move || {
            let mut buf = buf;
            let result = call(&fd, &mut buf);
            (result, buf)
        };
        let (result, buf) = match self.disk.inner.pool.run(job).await {
            Some(done) => done,
            None => (Err(gone()), AlignedBuf::with_capacity(0, align)),
        };
        (result.map_err(|source| DiskError::new(op, &self.path, source)), buf)
    }
}

impl DiskFile for PortableFile {
    async fn read_at(&self, offset_bytes: u64, buf: AlignedBuf, len_bytes: usize) -> Returned<()> {
        let call = move |fd: &OwnedFd, buf: &mut AlignedBuf| {
            system::read_at(fd, offset_bytes, buf, len_bytes)
        };
        self.lend(DiskOp::Read, buf, call).await
    }

    fn will_need(&self, offset_bytes: u64, len_bytes: usize) {
        let fd = Arc::clone(&self.fd);
        self.disk.inner.pool.run_if_idle(move || system::will_need(&*fd, offset_bytes, len_bytes));
    }

    async fn write_at(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        let call = move |fd: &OwnedFd, buf: &mut AlignedBuf| {
            system::write_at(fd, offset_bytes, buf.as_slice())
        };
        self.lend(DiskOp::Write, buf, call).await
    }

    async fn write_durable(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        let call = move |fd: &OwnedFd, buf: &mut AlignedBuf| {
            system::write_durable(fd, offset_bytes, buf.as_slice())
        };
        self.lend(DiskOp::WriteDurable, buf, call).await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        let fd = Arc::clone(&self.fd);
        self.disk.call(DiskOp::Sync, &self.path, move || system::sync(&*fd)).await
    }

    async fn len_bytes(&self) -> Result<u64, DiskError> {
        let fd = Arc::clone(&self.fd);
        self.disk.call(DiskOp::Length, &self.path, move || system::len(&*fd)).await
    }

    async fn set_len_bytes(&self, len_bytes: u64) -> Result<(), DiskError> {
        let fd = Arc::clone(&self.fd);
        self.disk.call(DiskOp::Length, &self.path, move || system::set_len(&*fd, len_bytes)).await
    }
}
