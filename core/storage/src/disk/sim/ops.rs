//! The simulated disk's operations. Each is handed to the clock when it is called and completes
//! there, whether or not anybody still waits for it, as in a kernel.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use futures::channel::oneshot;

use super::inode::{Change, Inode};
use super::names::{InodeId, Node};
use super::{SLOW_SYNC_NS, SimDisk, SimFault, State};
use crate::disk::{
    AlignedBuf, DirEntry, Disk, DiskError, DiskFile, DiskOp, LockGuard, OpenMode, Returned,
    SpaceLeft, parent_of,
};

/// An open file of a [`SimDisk`].
#[derive(Clone)]
pub struct SimFile {
    disk: SimDisk,
    inode: InodeId,
    path: Arc<str>,
    is_direct: bool,
    _descriptor: Rc<Descriptor>,
}

/// One of the open files, shared by the clones of a [`SimFile`].
struct Descriptor {
    open_files: Rc<Cell<u64>>,
}

impl Descriptor {
    fn new(open_files: &Rc<Cell<u64>>) -> Rc<Descriptor> {
        open_files.set(open_files.get() + 1);
        Rc::new(Descriptor { open_files: Rc::clone(open_files) })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.open_files.set(self.open_files.get() - 1);
    }
}

#[derive(Clone, Copy)]
enum Speed {
    Read,
    Write,
    Sync,
}

impl SimDisk {
    /// Runs `act` after a seeded delay and answers its result. A power cut in between drops it.
    async fn after_delay<T: 'static>(
        &self,
        speed: Speed,
        op: DiskOp,
        path: &str,
        act: impl FnOnce(&mut State) -> Result<T, DiskError> + 'static,
    ) -> Result<T, DiskError> {
        let (due_ns, life) = {
            let state = &mut *self.state.borrow_mut();
            let delay_ns = match speed {
                Speed::Read => state.delay_ns(state.latency.read_ns),
                Speed::Write => state.delay_ns(state.latency.write_ns),
                Speed::Sync => {
                    let stall_ns =
                        if state.meets(SimFault::SlowSync, path) { SLOW_SYNC_NS } else { 0 };
                    state.delay_ns(state.latency.sync_ns) + state.extra_sync_ns + stall_ns
                }
            };
            (self.clock.now_ns() + delay_ns, state.life)
        };
        let (sender, receiver) = oneshot::channel();
        // Weak: a disk must not be kept alive by timers that its own clock holds.
        let state: Weak<RefCell<State>> = Rc::downgrade(&self.state);
        self.clock.schedule(due_ns, move || {
            let Some(state) = state.upgrade() else {
                return;
            };
            let state = &mut *state.borrow_mut();
            if state.life == life {
                state.stats.operations += 1;
                // Nobody may be waiting any more; the operation is done all the same.
                let _ = sender.send(act(state));
            }
        });
        match receiver.await {
            Ok(result) => result,
            Err(oneshot::Canceled) => Err(DiskError::new(
                op,
                path,
                io::Error::other("the power went while this was in flight"),
            )),
        }
    }
}

fn not_found(op: DiskOp, path: &str) -> DiskError {
    DiskError::new(op, path, io::Error::from(io::ErrorKind::NotFound))
}

fn input_output_error(op: DiskOp, path: &str) -> DiskError {
    DiskError::new(op, path, io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()))
}

impl State {
    /// An error if nobody may change the file system now.
    fn check_writable(&mut self, op: DiskOp, path: &str) -> Result<(), DiskError> {
        if !self.is_read_only {
            return Ok(());
        }
        self.stats.refused_read_only += 1;
        Err(DiskError::new(op, path, io::ErrorKind::ReadOnlyFilesystem.into()))
    }

    /// An error if the device has no room for so many bytes more.
    fn check_room(&mut self, grows_bytes: u64, op: DiskOp, path: &str) -> Result<(), DiskError> {
        let Some(capacity) = self.capacity_bytes else {
            return Ok(());
        };
        if grows_bytes == 0 || self.used_bytes() + grows_bytes <= capacity {
            return Ok(());
        }
        self.stats.refused_full += 1;
        Err(DiskError::new(op, path, io::ErrorKind::StorageFull.into()))
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn backend_name(&self) -> &'static str {
        "sim"
    }

    fn block_bytes(&self) -> usize {
        self.state.borrow().block_bytes
    }

    async fn open(&self, path: &str, mode: OpenMode) -> Result<SimFile, DiskError> {
        let name: Arc<str> = Arc::from(path);
        let owned = Arc::clone(&name);
        let inode = self
            .after_delay(Speed::Write, DiskOp::Open, path, move |state| {
                match state.names.get(&owned) {
                    Some(Node::File(id)) => return Ok(id),
                    Some(Node::Dir) => {
                        let source = io::Error::from(io::ErrorKind::IsADirectory);
                        return Err(DiskError::new(DiskOp::Open, &owned, source));
                    }
                    None => {}
                }
                if !mode.create || !state.names.has_dir(parent_of(&owned)) {
                    return Err(not_found(DiskOp::Open, &owned));
                }
                state.check_writable(DiskOp::Open, &owned)?;
                state.check_room(1, DiskOp::Open, &owned)?;
                let id = InodeId(state.next_inode);
                state.next_inode += 1;
                state.inodes.insert(id, Default::default());
                state.names.put(&owned, Node::File(id));
                Ok(id)
            })
            .await?;
        let _descriptor = Descriptor::new(&self.open_files);
        Ok(SimFile { disk: self.clone(), inode, path: name, is_direct: mode.direct, _descriptor })
    }

    async fn list(&self, dir: &str) -> Result<Vec<DirEntry>, DiskError> {
        let name = dir.to_owned();
        let act = move |state: &mut State| Ok(state.names.list(&name));
        self.after_delay(Speed::Read, DiskOp::List, dir, act).await
    }

    async fn create_dir_all(&self, dir: &str) -> Result<(), DiskError> {
        let name = dir.to_owned();
        let act = move |state: &mut State| {
            state.check_writable(DiskOp::CreateDir, &name)?;
            state.names.create_dir_all(&name);
            Ok(())
        };
        self.after_delay(Speed::Write, DiskOp::CreateDir, dir, act).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let (from, target) = (from.to_owned(), to.to_owned());
        let act = move |state: &mut State| {
            state.check_writable(DiskOp::Rename, &target)?;
            match state.names.rename(&from, &target) {
                true => Ok(()),
                false => Err(not_found(DiskOp::Rename, &from)),
            }
        };
        self.after_delay(Speed::Write, DiskOp::Rename, to, act).await
    }

    async fn remove_file(&self, path: &str) -> Result<(), DiskError> {
        let name = path.to_owned();
        let act = move |state: &mut State| {
            state.check_writable(DiskOp::Remove, &name)?;
            state.names.remove_tree(&name);
            Ok(())
        };
        self.after_delay(Speed::Write, DiskOp::Remove, path, act).await
    }

    async fn remove_dir_all(&self, dir: &str) -> Result<(), DiskError> {
        self.remove_file(dir).await
    }

    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let name = dir.to_owned();
        let act = move |state: &mut State| {
            state.stats.dir_syncs += 1;
            if !state.names.has_dir(&name) {
                return Err(not_found(DiskOp::SyncDir, &name));
            }
            if state.meets(SimFault::SyncDirError, &name) {
                return Err(input_output_error(DiskOp::SyncDir, &name));
            }
            state.names.sync_dir(&name);
            Ok(())
        };
        self.after_delay(Speed::Sync, DiskOp::SyncDir, dir, act).await
    }

    async fn space(&self) -> Result<SpaceLeft, DiskError> {
        let act = |state: &mut State| {
            let total_bytes = state.capacity_bytes.unwrap_or(UNLIMITED_BYTES);
            let free_bytes = total_bytes.saturating_sub(state.used_bytes());
            Ok(SpaceLeft { free_bytes, total_bytes })
        };
        self.after_delay(Speed::Read, DiskOp::Space, "", act).await
    }

    async fn try_lock(&self, path: &str) -> Result<Option<LockGuard>, DiskError> {
        let mut state = self.state.borrow_mut();
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        let guard =
            SimLock { state: Rc::downgrade(&self.state), life: state.life, path: path.to_owned() };
        Ok(Some(Box::new(guard)))
    }
}

/// What a disk without a set capacity has.
const UNLIMITED_BYTES: u64 = 1 << 50;

struct SimLock {
    state: Weak<RefCell<State>>,
    life: u64,
    path: String,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let Some(state) = self.state.upgrade() else {
            return;
        };
        // Dropped inside a disk call only if the test does something odd; then the lock stays.
        if let Ok(mut state) = state.try_borrow_mut()
            && state.life == self.life
        {
            state.locks.remove(&self.path);
        }
    }
}

impl SimFile {
    fn check_alignment(&self, offset_bytes: u64, len: usize) {
        if self.is_direct {
            let block = self.disk.block_bytes();
            assert!(
                offset_bytes.is_multiple_of(block as u64) && len.is_multiple_of(block),
                "direct access to {} is not aligned: {len} bytes at {offset_bytes}",
                self.path
            );
        }
    }

    async fn write(&self, offset_bytes: u64, buf: AlignedBuf, is_durable: bool) -> Returned<()> {
        self.check_alignment(offset_bytes, buf.len());
        let split = {
            let state = &mut *self.disk.state.borrow_mut();
            if state.meets(SimFault::ShortWrite, &self.path) && buf.len() > 1 {
                state.rng.between(1, buf.len() as u64 - 1) as usize
            } else {
                buf.len()
            }
        };
        let (first, rest) = buf.as_slice().split_at(split);
        let mut result = self.write_part(offset_bytes, first.to_vec(), is_durable).await;
        if result.is_ok() && !rest.is_empty() {
            let at = offset_bytes + split as u64;
            result = self.write_part(at, rest.to_vec(), is_durable).await;
        }
        (result, buf)
    }

    async fn write_part(
        &self,
        offset_bytes: u64,
        bytes: Vec<u8>,
        is_durable: bool,
    ) -> Result<(), DiskError> {
        let op = if is_durable { DiskOp::WriteDurable } else { DiskOp::Write };
        let speed = if is_durable { Speed::Sync } else { Speed::Write };
        let fault = if is_durable { SimFault::SyncError } else { SimFault::WriteError };
        let offset = usize::try_from(offset_bytes)
            .map_err(|_| DiskError::new(op, &self.path, io::ErrorKind::InvalidInput.into()))?;
        let (id, path, op_id) = (self.inode, Arc::clone(&self.path), self.next_op());
        {
            let state = &mut *self.disk.state.borrow_mut();
            state.stats.writes += 1;
            state.stats.written_bytes += bytes.len() as u64;
            state.stats.syncs += u64::from(is_durable);
            state.check_writable(op, &path)?;
            let end = offset + bytes.len();
            let len = state.inodes.get(&id).map_or(end, Inode::len);
            state.check_room(end.saturating_sub(len) as u64, op, &path)?;
            if let Some(inode) = state.inodes.get_mut(&id) {
                inode.begin(op_id, Change::Write { offset, bytes });
            }
        }
        let owned = Arc::clone(&path);
        let act = move |state: &mut State| {
            let fails = state.meets(fault, &owned);
            if !fails && state.meets(SimFault::Misdirected, &owned) {
                state.misdirect(id, op_id);
                return Ok(());
            }
            let Some(inode) = state.inodes.get_mut(&id) else {
                return Err(not_found(op, &owned));
            };
            if fails {
                inode.fail(op_id, is_durable, &mut state.rng);
                return Err(input_output_error(op, &owned));
            }
            inode.finish(op_id, is_durable);
            Ok(())
        };
        self.disk.after_delay(speed, op, &path, act).await
    }

    fn next_op(&self) -> u64 {
        let mut state = self.disk.state.borrow_mut();
        state.next_op += 1;
        state.next_op
    }
}

impl DiskFile for SimFile {
    async fn read_at(
        &self,
        offset_bytes: u64,
        mut buf: AlignedBuf,
        len_bytes: usize,
    ) -> Returned<()> {
        self.check_alignment(offset_bytes, len_bytes);
        let (id, path) = (self.inode, Arc::clone(&self.path));
        let offset = usize::try_from(offset_bytes).unwrap_or(usize::MAX);
        let act = move |state: &mut State| {
            if state.meets(SimFault::ReadError, &path) {
                return Err(input_output_error(DiskOp::Read, &path));
            }
            let inode = state.inodes.get(&id).ok_or_else(|| not_found(DiskOp::Read, &path))?;
            Ok(inode.read(offset, len_bytes).to_vec())
        };
        let result = self.disk.after_delay(Speed::Read, DiskOp::Read, &self.path, act).await;
        buf.clear();
        let result = result.map(|bytes| buf.extend_from_slice(&bytes));
        (result, buf)
    }

    /// Every read takes as long as it takes here.
    fn will_need(&self, _offset_bytes: u64, _len_bytes: usize) {}

    async fn write_at(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        self.write(offset_bytes, buf, false).await
    }

    async fn write_durable(&self, offset_bytes: u64, buf: AlignedBuf) -> Returned<()> {
        self.write(offset_bytes, buf, true).await
    }

    async fn sync(&self) -> Result<(), DiskError> {
        let (id, path) = (self.inode, Arc::clone(&self.path));
        let point = {
            let state = &mut *self.disk.state.borrow_mut();
            state.stats.syncs += 1;
            state.inodes.get(&id).map_or(0, |inode| inode.sync_point())
        };
        let act = move |state: &mut State| {
            let has_dirty = state.inodes.get(&id).is_some_and(Inode::has_pending);
            if has_dirty {
                state.check_writable(DiskOp::Sync, &path)?;
            }
            let fails = state.meets(SimFault::SyncError, &path);
            let Some(inode) = state.inodes.get_mut(&id) else {
                return Err(not_found(DiskOp::Sync, &path));
            };
            if fails {
                inode.sync_failed(point, &mut state.rng);
                return Err(input_output_error(DiskOp::Sync, &path));
            }
            inode.sync_to(point);
            Ok(())
        };
        self.disk.after_delay(Speed::Sync, DiskOp::Sync, &self.path, act).await
    }

    async fn len_bytes(&self) -> Result<u64, DiskError> {
        let (id, path) = (self.inode, Arc::clone(&self.path));
        let act = move |state: &mut State| {
            let inode = state.inodes.get(&id).ok_or_else(|| not_found(DiskOp::Length, &path))?;
            Ok(inode.len() as u64)
        };
        self.disk.after_delay(Speed::Read, DiskOp::Length, &self.path, act).await
    }

    async fn set_len_bytes(&self, len_bytes: u64) -> Result<(), DiskError> {
        let (id, path) = (self.inode, Arc::clone(&self.path));
        let len = usize::try_from(len_bytes).unwrap_or(usize::MAX);
        let op_id = self.next_op();
        self.disk.state.borrow_mut().check_writable(DiskOp::Length, &path)?;
        if let Some(inode) = self.disk.state.borrow_mut().inodes.get_mut(&id) {
            inode.begin(op_id, Change::SetLen(len));
        }
        let act = move |state: &mut State| {
            let inode =
                state.inodes.get_mut(&id).ok_or_else(|| not_found(DiskOp::Length, &path))?;
            inode.finish(op_id, false);
            Ok(())
        };
        self.disk.after_delay(Speed::Write, DiskOp::Length, &self.path, act).await
    }
}
