//! The blocking system calls of the real disks, through rustix: open, read, write, sync, names.
//! Every loop over short transfers is here. It knows no tasks and no threads.

use std::fs;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Advice, AtFlags, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::disk::{AlignedBuf, BLOCK_BYTES_MIN, DirEntry, OpenMode, SpaceLeft};

/// The path below the data directory; one that would leave it is refused.
pub(crate) fn resolve(root: &Path, path: &str) -> io::Result<PathBuf> {
    let relative = Path::new(path);
    let stays = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if stays { Ok(root.join(relative)) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Opens a file. Direct access is dropped where the file system refuses it; the answer says which.
pub(crate) fn open(path: &Path, mode: OpenMode) -> io::Result<(OwnedFd, bool)> {
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
    if mode.create {
        flags |= OFlags::CREATE;
    }
    let permissions = Mode::RUSR | Mode::WUSR;
    if mode.direct {
        match rustix::fs::open(path, flags | OFlags::DIRECT, permissions) {
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
            Ok(fd) => return Ok((fd, true)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((rustix::fs::open(path, flags, permissions)?, false))
}

/// Has the kernel read a range into the page cache, if it cares to.
pub(crate) fn will_need(fd: impl AsFd, offset: u64, len: usize) {
    // Only a hint: whatever is wrong is met by the read.
    let _ = rustix::fs::fadvise(fd, offset, NonZeroU64::new(len as u64), Advice::WillNeed);
}

/// Fills `buf` with up to `len` bytes from `offset`.
pub(crate) fn read_at(
    fd: impl AsFd,
    offset: u64,
    buf: &mut AlignedBuf,
    len: usize,
) -> io::Result<()> {
    buf.set_len(len);
    let mut done = 0;
    let result = loop {
        if done == len {
            break Ok(());
        }
        let rest = &mut buf.as_mut_slice()[done..];
        match rustix::io::pread(&fd, rest, offset + done as u64) {
            Ok(0) => break Ok(()),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => break Err(error.into()),
        }
    };
    buf.set_len(done);
    result
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_at(fd: impl AsFd, offset: u64, bytes: &[u8]) -> io::Result<()> {
    write_all(fd, offset, bytes, ReadWriteFlags::empty())
}

/// Writes all of `bytes` at `offset` so that they are on the device.
pub(crate) fn write_durable(fd: impl AsFd, offset: u64, bytes: &[u8]) -> io::Result<()> {
    match write_all(&fd, offset, bytes, ReadWriteFlags::DSYNC) {
        // Old kernels and some file systems do not know the flag; nothing was written then.
        Err(error) if is_flag_refused(&error) => {
            write_at(&fd, offset, bytes)?;
            Ok(rustix::fs::fdatasync(&fd)?)
        }
        result => result,
    }
}

/// Whether an error means that RWF_DSYNC is not known here.
pub(crate) fn is_flag_refused(error: &io::Error) -> bool {
    let refused = [Errno::OPNOTSUPP, Errno::NOSYS];
    refused.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn write_all(fd: impl AsFd, offset: u64, bytes: &[u8], flags: ReadWriteFlags) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let at = offset + done as u64;
        let written = if flags.is_empty() {
            rustix::io::pwrite(&fd, &bytes[done..], at)
        } else {
            rustix::io::pwritev2(&fd, &[IoSlice::new(&bytes[done..])], at, flags)
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes a file's data and length durable.
pub(crate) fn sync(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fdatasync(fd)?)
}

/// A file's length.
pub(crate) fn len(fd: impl AsFd) -> io::Result<u64> {
    let stat = rustix::fs::fstat(fd)?;
    u64::try_from(stat.st_size).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Cuts or extends a file.
pub(crate) fn set_len(fd: impl AsFd, len: u64) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(fd, len)?)
}

/// The names in a directory, sorted; none if it is not there.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<DirEntry>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_dir = entry.file_type()?.is_dir();
        // A name that is no UTF-8 is none of ours.
        if let Ok(name) = entry.file_name().into_string() {
            found.push(DirEntry { name, is_dir });
        }
    }
    found.sort();
    Ok(found)
}

/// Renames within the data directory.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Removes a file; no error if it is not there.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

/// Removes a directory and all in it; no error if it is not there.
pub(crate) fn remove_dir_all(dir: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_dir_all(dir))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    let fd =
        rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsync(fd)?)
}

/// How full the file system of a directory is.
pub(crate) fn space(dir: &Path) -> io::Result<SpaceLeft> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(SpaceLeft {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// Takes an exclusive lock on a file that is made if need be; `None` if another process has it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let (fd, _) = open(path, OpenMode::CREATE)?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The alignment that direct access to this directory's file system needs. Tried on a file of its
/// own, since only files can be asked.
pub(crate) fn direct_block_bytes(root: &Path) -> usize {
    let probe = root.join(".millpond-align");
    let asked = open(&probe, OpenMode::CREATE_DIRECT).ok().and_then(|(fd, is_direct)| {
        if !is_direct {
            return None;
        }
        let mask = StatxFlags::DIOALIGN;
        let stat = rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH, mask).ok()?;
        // Kernels before 6.1 do not answer; the least block suits their devices.
        Some(stat.stx_dio_offset_align.max(stat.stx_dio_mem_align) as usize)
    });
    // Left over if this fails, and tried again at the next start; it is empty.
    let _ = fs::remove_file(&probe);
    asked.unwrap_or(0).next_power_of_two().clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_LIMIT)
}

/// No device asks for more.
const BLOCK_BYTES_LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_never_leave_the_data_directory() {
        let root = Path::new("/data");
        assert_eq!(resolve(root, "a/b").expect("inside"), Path::new("/data/a/b"));
        assert_eq!(resolve(root, "").expect("itself"), Path::new("/data"));
        for outside in ["../x", "/etc/passwd", "a/../../x", "./a/.."] {
            assert!(resolve(root, outside).is_err(), "{outside}");
        }
    }
}
