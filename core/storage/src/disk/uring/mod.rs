//! The disk on io_uring: one ring for the thread that owns it, its eventfd in tokio's reactor.
//! Reads, writes and syncs go through the ring; names (open, rename, directory sync) are rare and
//! go through two threads of the portable disk. Unsafe code is in `ring.rs` and nowhere else in this crate.

#[allow(unsafe_code, reason = "three calls: two submissions, one registered descriptor")]
mod ring;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::portable::{PortableDisk, PortableFile, system};
use super::{
    AlignedBuf, DirEntry, Disk, DiskError, DiskFile, DiskOp, LockGuard, OpenMode, Returned,
    SpaceLeft,
};
use ring::{Call, Ring};

/// Threads for names.
const NAME_THREADS: usize = 2;

/// A data directory on a ring.
#[derive(Clone)]
pub struct UringDisk {
    ring: Rc<Ring>,
    names: PortableDisk,
}

/// An open file of a [`UringDisk`].
#[derive(Clone)]
pub struct UringFile {
    ring: Rc<Ring>,
    fd: Arc<OwnedFd>,
    path: Arc<str>,
    plain: PortableFile,
}

impl UringDisk {
    /// Opens a data directory, which is made if need be. Fails where the kernel, a container or
    /// `kernel.io_uring_disabled` refuses io_uring. Must be called within a tokio runtime that
    /// drives I/O and time; the disk is then used on that thread only.
    pub fn open(root: &Path) -> Result<UringDisk, DiskError> {
        let ring =
            Ring::start().map_err(|source| DiskError::new(DiskOp::Start, "io_uring", source))?;
        Ok(UringDisk { ring, names: PortableDisk::open(root, NAME_THREADS)? })
    }
}

impl Disk for UringDisk {
    type File = UringFile;

    fn backend_name(&self) -> &'static str {
        "io_uring"
    }

    fn block_bytes(&self) -> usize {
        self.names.block_bytes()
    }

    async fn open(&self, path: &str, mode: OpenMode) -> Result<UringFile, DiskError> {
        let (fd, is_direct) = self.names.open_fd(path, mode).await?;
        let fd = Arc::new(fd);
        let plain = self.names.file_of(Arc::clone(&fd), path, is_direct);
        Ok(UringFile { ring: Rc::clone(&self.ring), fd, path: Arc::from(path), plain })
    }

    async fn list(&self, dir: &str) -> Result<Vec<DirEntry>, DiskError> {
        self.names.list(dir).await
    }

    async fn create_dir_all(&self, dir: &str) -> Result<(), DiskError> {
        self.names.create_dir_all(dir).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.names.rename(from, to).await
    }

    async fn remove_file(&self, path: &str) -> Result<(), DiskError> {
        self.names.remove_file(path).await
    }

    async fn remove_dir_all(&self, dir: &str) -> Result<(), DiskError> {
        self.names.remove_dir_all(dir).await
    }

    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.names.sync_dir(dir).await
    }

    async fn space(&self) -> Result<SpaceLeft, DiskError> {
        self.names.space().await
    }

    async fn try_lock(&self, path: &str) -> Result<Option<LockGuard>, DiskError> {
        self.names.try_lock(path).await
    }
}

impl UringFile {
    /// Whether the page cache is gone around.
    pub fn is_direct(&self) -> bool {
        self.plain.is_direct()
    }

    fn error(&self, op: DiskOp, source: io::Error) -> DiskError {
        DiskError::new(op, &self.path, source)
    }

    /// Writes all of the buffer, however many calls the kernel makes of it.
    async fn write(
        &self,
        offset: u64,
        mut buf: AlignedBuf,
        is_durable: bool,
    ) -> (io::Result<()>, AlignedBuf) {
        let align = buf.align_bytes();
        let mut done = 0;
        while done < buf.len() {
            let call = Call::Write { offset: offset + done as u64, from: done, is_durable };
            let (result, returned) = self.ring.call(&self.fd, Some(buf), call).await;
            let Some(returned) = returned else {
                return (result.and(Err(lost())), AlignedBuf::with_capacity(0, align));
            };
            buf = returned;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
                Ok(count) => done += count,
                Err(error) if is_retried(&error) => {}
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(()), buf)
    }

    async fn sync_data(&self) -> io::Result<()> {
        loop {
            match self.ring.call(&self.fd, None, Call::Sync).await.0 {
                Ok(_) => return Ok(()),
                Err(error) if is_retried(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The kernel was interrupted before it did anything.
fn is_retried(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn lost() -> io::Error {
    io::Error::other("the ring failed and kept the buffer")
}

impl DiskFile for UringFile {
    async fn read_at(
        &self,
        offset_bytes: u64,
        mut buf: AlignedBuf,
        len_bytes: usize,
    ) -> Returned<()> {
        let align = buf.align_bytes();
        let mut done = 0;
        let result = loop {
            if done == len_bytes {
                break Ok(());
            }
            let offset = offset_bytes + done as u64;
            let call = Call::Read { offset, from: done, len: len_bytes - done };
            let (result, returned) = self.ring.call(&self.fd, Some(buf), call).await;
            let Some(returned) = returned else {
                buf = AlignedBuf::with_capacity(0, align);
                break result.and(Err(lost()));
            };
            buf = returned;
            match result {
                Ok(0) => break Ok(()),
                Ok(count) => done += count,
                Err(error) if is_retried(&error) => {}
                Err(error) => break Err(error),
            }
        };
        buf.set_len(done.min(buf.capacity()));
        (result.map_err(|source| self.error(DiskOp::Read, source)), buf)
    }

    fn will_need(&self, offset_bytes: u64, len_bytes: usize) {
        self.plain.will_need(offset_bytes, len_bytes);
    }

    async fn write_at(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        let (result, buf) = self.write(offset_bytes, buf, false).await;
        (result.map_err(|source| self.error(DiskOp::Write, source)), buf)
    }

    async fn write_durable(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        let (mut result, mut buf) = self.write(offset_bytes, buf, true).await;
        if result.as_ref().is_err_and(system::is_flag_refused) {
            (result, buf) = self.write(offset_bytes, buf, false).await;
            if result.is_ok() {
                result = self.sync_data().await;
            }
        }
        (result.map_err(|source| self.error(DiskOp::WriteDurable, source)), buf)
    }

    async fn sync(&self) -> Result<(), DiskError> {
        self.sync_data().await.map_err(|source| self.error(DiskOp::Sync, source))
    }

    async fn len_bytes(&self) -> Result<u64, DiskError> {
        self.plain.len_bytes().await
    }

    async fn set_len_bytes(&self, len_bytes: u64) -> Result<(), DiskError> {
        self.plain.set_len_bytes(len_bytes).await
    }
}
