//! The ring: submission, completion, and the table that owns every buffer while the kernel has it.
//!
//! **The rule of this file.** From the moment an operation is pushed until its completion is
//! taken, its buffer and its file belong to the table ([`Table`]), in a place that no safe code
//! can reach. A future that is dropped only marks its row as abandoned. The ring is not freed
//! before every row's completion has come.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::{Either, select};
use io_uring::{IoUring, opcode, squeue, types};
use millpond_wire::limits::URING_IN_FLIGHT_MAX;
use rustix::event::EventfdFlags;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use crate::disk::AlignedBuf;

/// Pause before another try when the kernel is short of memory for a submission.
const RESUBMIT_PAUSE_MS: u64 = 1;

/// What the kernel is to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    /// Into the buffer from `from`, up to `len` bytes.
    Read { offset: u64, from: usize, len: usize },
    /// Out of the buffer from `from` to its end.
    Write { offset: u64, from: usize, is_durable: bool },
    /// fdatasync.
    Sync,
}

/// The ring of one thread.
pub(super) struct Ring {
    core: RefCell<Core>,
    /// Readable when completions have come.
    event: AsyncFd<OwnedFd>,
    permits: Semaphore,
}

struct Core {
    ring: IoUring,
    table: Table,
}

/// Rows of operations under way or done and not yet taken.
#[derive(Default)]
struct Table {
    rows: Vec<Option<Row>>,
    free: Vec<usize>,
    in_flight: usize,
}

struct Row {
    /// Kept open until the completion.
    _fd: Arc<OwnedFd>,
    buf: Option<AlignedBuf>,
    result: Option<i32>,
    waker: Option<Waker>,
    is_abandoned: bool,
}

impl Ring {
    /// Sets a ring up, and tries it: a seccomp filter may allow some of its calls only. Must be
    /// called within a tokio runtime that drives I/O.
    pub(super) fn start() -> io::Result<Rc<Ring>> {
        let mut ring = IoUring::new(URING_IN_FLIGHT_MAX as u32)?;
        try_it(&mut ring)?;
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        let core = RefCell::new(Core { ring, table: Table::default() });
        // SAFETY: the descriptor is owned by the `AsyncFd` from here on and never replaced, so it
        // stays open, and the same, for as long as it is registered.
        let event = unsafe { AsyncFd::register(event) }.map_err(io::Error::from)?;
        Ok(Rc::new(Ring { core, event, permits: Semaphore::new(URING_IN_FLIGHT_MAX) }))
    }

    /// Does one operation. The buffer comes back with the result, which is what the system call
    /// would answer. Without a buffer (`None`) only `Call::Sync` makes sense.
    pub(super) async fn call(
        &self,
        fd: &Arc<OwnedFd>,
        buf: Option<AlignedBuf>,
        call: Call,
    ) -> (io::Result<usize>, Option<AlignedBuf>) {
        let Ok(_permit) = self.permits.acquire().await else {
            return (Err(io::ErrorKind::BrokenPipe.into()), buf);
        };
        let pushed = self.core.borrow_mut().push(fd, buf, call);
        let row = match pushed {
            Ok(row) => row,
            Err((error, buf)) => return (Err(error), buf),
        };
        let waiting = Waiting { ring: self, row };
        if let Err(error) = self.submit().await {
            // The row stays: the kernel may still see the entry with a later submission.
            return (Err(error), None);
        }
        let taken = pin!(std::future::poll_fn(|cx| waiting.poll(cx)));
        let driven = pin!(self.drive());
        match select(taken, driven).await {
            Either::Left(((result, buf), _)) => (result_of(result), buf),
            Either::Right((error, _)) => (Err(error), None),
        }
    }

    async fn submit(&self) -> io::Result<()> {
        loop {
            let submitted = self.core.borrow_mut().ring.submit();
            match submitted {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => {
                    self.core.borrow_mut().reap();
                    tokio::time::sleep(Duration::from_millis(RESUBMIT_PAUSE_MS)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes completions as they come; every waiting operation does this, so no task of its own
    /// is needed. Ends only with an error of the eventfd.
    async fn drive(&self) -> io::Error {
        loop {
            self.core.borrow_mut().reap();
            let mut guard = match self.event.readable().await {
                Ok(guard) => guard,
                Err(error) => return error,
            };
            let mut count = [0_u8; 8];
            match rustix::io::read(self.event.get_ref(), &mut count) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return error.into(),
            }
        }
    }
}

impl Core {
    fn push(
        &mut self,
        fd: &Arc<OwnedFd>,
        buf: Option<AlignedBuf>,
        call: Call,
    ) -> Result<usize, (io::Error, Option<AlignedBuf>)> {
        let row = self.table.insert(Row {
            _fd: Arc::clone(fd),
            buf,
            result: None,
            waker: None,
            is_abandoned: false,
        });
        let entry = match self.table.entry_of(row, types::Fd(fd.as_raw_fd()), call) {
            Ok(entry) => entry.user_data(row as u64),
            Err(error) => return Err((error, self.table.remove(row).and_then(|row| row.buf))),
        };
        // SAFETY: the entry points into the buffer of its row and names the file of its row. Both
        // stay in the table until the completion is reaped (`Table::remove` of a row without a
        // result happens only below, where nothing was pushed), the heap memory of a buffer does
        // not move with it, and the table outlives the ring's last completion (`Drop`).
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            // More permits than entries: cannot be, and costs nothing to refuse.
            let buf = self.table.remove(row).and_then(|row| row.buf);
            return Err((io::ErrorKind::ResourceBusy.into(), buf));
        }
        self.table.in_flight += 1;
        Ok(row)
    }

    /// Takes all completions that are there.
    fn reap(&mut self) {
        let Core { ring, table } = self;
        for completion in ring.completion() {
            let index = completion.user_data() as usize;
            let Some(row) = table.rows.get_mut(index).and_then(Option::as_mut) else {
                continue;
            };
            row.result = Some(completion.result());
            table.in_flight -= 1;
            if row.is_abandoned {
                table.remove(index);
            } else if let Some(waker) = row.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Table {
    fn insert(&mut self, row: Row) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.rows[index] = Some(row);
                index
            }
            None => {
                self.rows.push(Some(row));
                self.rows.len() - 1
            }
        }
    }

    fn remove(&mut self, index: usize) -> Option<Row> {
        let row = self.rows.get_mut(index)?.take()?;
        self.free.push(index);
        Some(row)
    }

    /// The submission entry for a call on the buffer of a row; ranges are checked.
    fn entry_of(&mut self, row: usize, fd: types::Fd, call: Call) -> io::Result<squeue::Entry> {
        let buf = self.rows.get_mut(row).and_then(Option::as_mut).and_then(|row| row.buf.as_mut());
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        match (call, buf) {
            (Call::Sync, _) => {
                Ok(opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build())
            }
            (Call::Read { offset, from, len }, Some(buf)) => {
                let end = from.checked_add(len).ok_or_else(invalid)?;
                if end > buf.capacity() {
                    return Err(invalid());
                }
                buf.set_len(end);
                let part = &mut buf.as_mut_slice()[from..];
                let len = u32::try_from(len).map_err(|_| invalid())?;
                Ok(opcode::Read::new(fd, part.as_mut_ptr(), len).offset(offset).build())
            }
            (Call::Write { offset, from, is_durable }, Some(buf)) => {
                let part = buf.as_slice().get(from..).ok_or_else(invalid)?;
                let len = u32::try_from(part.len()).map_err(|_| invalid())?;
                let flags = if is_durable { RWF_DSYNC } else { 0 };
                let write = opcode::Write::new(fd, part.as_ptr(), len);
                Ok(write.offset(offset).rw_flags(flags).build())
            }
            (_, None) => Err(invalid()),
        }
    }
}

impl Drop for Core {
    /// Waits until the kernel has given every buffer back. If it cannot be waited for, the buffers
    /// are leaked rather than freed.
    fn drop(&mut self) {
        while self.table.in_flight > 0 {
            match self.ring.submit_and_wait(1) {
                Ok(_) => self.reap(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => self.reap(),
                Err(_) => {
                    std::mem::forget(std::mem::take(&mut self.table));
                    return;
                }
            }
        }
    }
}

/// A caller that waits for its row.
struct Waiting<'a> {
    ring: &'a Ring,
    row: usize,
}

impl Waiting<'_> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<(i32, Option<AlignedBuf>)> {
        let table = &mut self.ring.core.borrow_mut().table;
        let Some(row) = table.rows.get_mut(self.row).and_then(Option::as_mut) else {
            return Poll::Pending;
        };
        match row.result {
            Some(result) => {
                let buf = row.buf.take();
                Poll::Ready((result, buf))
            }
            None => {
                row.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let table = &mut self.ring.core.borrow_mut().table;
        let Some(row) = table.rows.get_mut(self.row).and_then(Option::as_mut) else {
            return;
        };
        if row.result.is_some() {
            table.remove(self.row);
        } else {
            row.is_abandoned = true;
            row.waker = None;
        }
    }
}

/// One operation that does nothing, waited for.
fn try_it(ring: &mut IoUring) -> io::Result<()> {
    // SAFETY: a no-op refers to no memory and no file.
    let pushed = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
    pushed.map_err(|_| io::Error::from(io::ErrorKind::ResourceBusy))?;
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(completion) => result_of(completion.result()).map(|_| ()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn result_of(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()))
}

/// Whether the kernel asks to try again later.
fn is_passing(error: &io::Error) -> bool {
    let again = [rustix::io::Errno::AGAIN, rustix::io::Errno::BUSY];
    again.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// From `linux/fs.h`: this write is durable when it completes.
const RWF_DSYNC: i32 = 0x2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn on_runtime(test: impl AsyncFnOnce(Rc<Ring>)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            match Ring::start() {
                Ok(ring) => test(ring).await,
                Err(error) => println!("this kernel refuses io_uring: {error}"),
            }
        });
    }

    fn pipe() -> (Arc<OwnedFd>, std::fs::File) {
        let (read, write) = std::io::pipe().expect("pipe");
        (Arc::new(read.into()), OwnedFd::from(write).into())
    }

    #[test]
    fn a_dropped_read_keeps_its_buffer_until_the_kernel_is_done() {
        on_runtime(async |ring| {
            let (read, mut write) = pipe();
            let buf = AlignedBuf::with_capacity(4096, 4096);
            let call = Call::Read { offset: u64::MAX, from: 0, len: 16 };
            {
                let mut lost = pin!(ring.call(&read, Some(buf), call));
                let noop = Waker::noop();
                assert!(lost.as_mut().poll(&mut Context::from_waker(noop)).is_pending());
            }
            {
                let core = ring.core.borrow();
                let row = core.table.rows[0].as_ref().expect("the row outlives the future");
                assert!(row.is_abandoned && row.buf.is_some() && core.table.in_flight == 1);
            }
            write.write_all(b"0123456789abcdef").expect("pipe write");
            let (result, _) = ring.call(&read, None, Call::Sync).await;
            // A pipe cannot be synced; what counts is that completions were taken meanwhile.
            assert!(result.is_err());
            while ring.core.borrow().table.in_flight > 0 {
                ring.event.readable().await.expect("event").clear_ready();
                ring.core.borrow_mut().reap();
            }
            assert!(ring.core.borrow().table.rows.iter().all(Option::is_none));
        });
    }

    #[test]
    fn teardown_waits_for_what_is_in_flight() {
        on_runtime(async |ring| {
            let (read, mut write) = pipe();
            let buf = AlignedBuf::with_capacity(4096, 4096);
            let call = Call::Read { offset: u64::MAX, from: 0, len: 4 };
            {
                let mut lost = pin!(ring.call(&read, Some(buf), call));
                let noop = Waker::noop();
                assert!(lost.as_mut().poll(&mut Context::from_waker(noop)).is_pending());
            }
            let writer = std::thread::spawn(move || write.write_all(b"done"));
            drop(ring);
            writer.join().expect("thread").expect("pipe write");
        });
    }

    #[test]
    fn ranges_outside_the_buffer_are_refused() {
        on_runtime(async |ring| {
            let (read, _write) = pipe();
            let buf = AlignedBuf::with_capacity(4096, 4096);
            let call = Call::Read { offset: 0, from: 4096, len: 1 };
            let (result, buf) = ring.call(&read, Some(buf), call).await;
            assert_eq!(result.expect_err("refused").kind(), io::ErrorKind::InvalidInput);
            assert!(buf.is_some());
        });
    }
}
