//! A device in memory that is done at once, so that what is counted is the broker and not a disk.
//! What is written to the journal is forgotten: a run measures the way there, and reads none of it.
//! Must never be taken for storage: nothing survives it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use millpond_storage::disk::{
    AlignedBuf, DirEntry, Disk, DiskError, DiskFile, DiskOp, LockGuard, OpenMode, Returned,
    SpaceLeft,
};
use millpond_storage::journal::JOURNAL_DIR;

/// What it says is free, in bytes: no limit is met.
const FREE_BYTES: u64 = 1 << 40;

/// A device in memory.
#[derive(Clone, Default)]
pub struct Device {
    files: Rc<RefCell<BTreeMap<String, File>>>,
}

/// A file of it.
#[derive(Clone)]
pub struct File {
    content: Rc<RefCell<Vec<u8>>>,
    is_journal: bool,
}

impl Disk for Device {
    type File = File;

    fn backend_name(&self) -> &'static str {
        "memory"
    }

    fn block_bytes(&self) -> usize {
        4096
    }

    async fn open(&self, path: &str, mode: OpenMode) -> Result<File, DiskError> {
        let mut files = self.files.borrow_mut();
        if let Some(file) = files.get(path) {
            return Ok(file.clone());
        }
        if !mode.create {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(DiskError::new(DiskOp::Open, path, missing));
        }
        let is_journal = path.starts_with(JOURNAL_DIR);
        let file = File { content: Rc::default(), is_journal };
        files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    async fn list(&self, dir: &str) -> Result<Vec<DirEntry>, DiskError> {
        let files = self.files.borrow();
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let mut entries = BTreeMap::new();
        for rest in files.keys().filter_map(|path| path.strip_prefix(&prefix)) {
            match rest.split_once('/') {
                Some((name, _)) => entries.insert(name.to_owned(), true),
                None => entries.insert(rest.to_owned(), false),
            };
        }
        let entry = |(name, is_dir)| DirEntry { name, is_dir };
        Ok(entries.into_iter().map(entry).collect())
    }

    async fn create_dir_all(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut files = self.files.borrow_mut();
        if let Some(file) = files.remove(from) {
            files.insert(to.to_owned(), file);
        }
        Ok(())
    }

    async fn remove_file(&self, path: &str) -> Result<(), DiskError> {
        self.files.borrow_mut().remove(path);
        Ok(())
    }

    async fn remove_dir_all(&self, dir: &str) -> Result<(), DiskError> {
        let prefix = format!("{dir}/");
        self.files.borrow_mut().retain(|path, _| !path.starts_with(&prefix));
        Ok(())
    }

    async fn sync_dir(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }

    async fn space(&self) -> Result<SpaceLeft, DiskError> {
        Ok(SpaceLeft { free_bytes: FREE_BYTES, total_bytes: FREE_BYTES })
    }

    async fn try_lock(&self, _: &str) -> Result<Option<LockGuard>, DiskError> {
        Ok(Some(Box::new(())))
    }
}

impl DiskFile for File {
    async fn read_at(&self, offset_bytes: u64, buf: AlignedBuf, len_bytes: usize) -> Returned<()> {
        self.read(offset_bytes, buf, len_bytes)
    }

    fn will_need(&self, _: u64, _: usize) {}

    async fn write_at(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        self.write(offset_bytes, buf)
    }

    async fn write_durable(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        self.write(offset_bytes, buf)
    }

    async fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn len_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.content.borrow().len() as u64)
    }

    async fn set_len_bytes(&self, len_bytes: u64) -> Result<(), DiskError> {
        if !self.is_journal {
            self.content.borrow_mut().resize(len_bytes as usize, 0);
        }
        Ok(())
    }
}

/// What a device does by itself. Kept out of line: whoever looks for the broker's own copies tells
/// these by their names.
impl File {
    #[inline(never)]
    fn read(&self, offset_bytes: u64, mut buf: AlignedBuf, len_bytes: usize) -> Returned<()> {
        let content = self.content.borrow();
        let from = content.len().min(offset_bytes as usize);
        let read = content.get(from..).unwrap_or_default();
        let read = read.get(..len_bytes).unwrap_or(read);
        buf.clear();
        buf.extend_from_slice(read);
        (Ok(()), buf)
    }

    #[inline(never)]
    fn write(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        if !self.is_journal {
            let mut content = self.content.borrow_mut();
            let from = offset_bytes as usize;
            let end = from + buf.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[from..end].copy_from_slice(buf.as_slice());
        }
        (Ok(()), buf)
    }
}
