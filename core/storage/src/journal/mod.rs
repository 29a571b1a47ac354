//! The journal: one ring of preallocated files to which everything that is decided is written, in
//! order, before anybody is told. Entries are opaque bytes here. It must never rewrite a block that
//! holds bytes somebody was told of, and never release a later commit before an earlier one.

mod commit;
mod correct;
mod damage;
pub mod format;
mod inspect;
mod open;
mod queue;
mod reader;
mod recovery;
mod ring;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

pub use damage::JournalDamage;
pub(crate) use inspect::Inspection;
pub use inspect::{CommitFacts, EntryFacts};
pub(crate) use open::holds_commits;
pub use open::{JOURNAL_DIR, JournalConfig, OpenJournalError};
pub use recovery::{EntryBytes, LostEntry, RecoverError, Replayed};
pub use ring::{JournalPosition, RingPosition, RingShape};

use crate::disk::{Disk, DiskError};
use crate::metrics::Meter;
use crate::signal::{Past, Signal};
use queue::Queue;

/// Why the journal's writer stopped for good.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The device failed; what was under way may or may not be there.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An entry is larger than a file of the ring: the ring was made too small for its caps.
    #[error("entry {seq} of {len_bytes} bytes does not fit a journal file; at most {max_bytes} do")]
    EntryTooLarge {
        /// Which entry.
        seq: u64,
        /// What it takes with its surroundings.
        len_bytes: u64,
        /// What a commit may take.
        max_bytes: u64,
    },
}

/// What the journal asks of an entry.
pub trait JournalEntry {
    /// Its sequence; consecutive from entry to entry.
    fn seq(&self) -> u64;
    /// The exact length of its encoding, in bytes.
    fn encoded_len(&self) -> usize;
    /// Writes the encoding into `out`, which has that length.
    fn encode(&self, out: &mut [u8]);
    /// 0 if damage to it would concern the node or several partitions, else a hash of the one.
    fn scope(&self) -> u64;
    /// Bytes of record batches within, for the metrics.
    fn payload_bytes(&self) -> usize;
}

/// An open journal.
pub struct Journal<D: Disk, E> {
    shape: RingShape,
    id: u64,
    incarnation: u64,
    files: Vec<D::File>,
    second_write_bytes: usize,
    linger_us: u64,
    gather_bytes: usize,
    seal_after_ms: u64,
    state: RefCell<State<E>>,
    /// Something to do for the writer.
    work: Signal,
    /// The durable mark moved, or the queue shrank.
    progress: Signal,
    meter: Rc<Meter>,
}

struct State<E> {
    queue: Queue<E>,
    /// Where the next commit goes, its number and what it repeats.
    head: JournalPosition,
    /// The oldest place that recovery would need.
    tail: RingPosition,
    durable_commit: u64,
    durable_entry: u64,
    /// A commit must end with this entry; then `cut_found` tells where.
    cut_after: Option<u64>,
    cut_found: Option<JournalPosition>,
    /// A checkpoint is being written that holds the queue up to this entry; nothing is written
    /// meanwhile.
    absorbing: Option<u64>,
    /// Since when entries waited that a checkpoint made durable; their waiters are to be told.
    absorbed: Vec<u64>,
    /// The last commit was a seal, and everything before it is marked durable.
    is_sealed: bool,
    /// The queue's head found no room in the ring.
    is_starved: bool,
    is_stopping: bool,
    /// An entry that no commit can hold; ends the writer.
    fault: Option<JournalError>,
    spare: Vec<crate::disk::AlignedBuf>,
}

impl<D: Disk, E: JournalEntry> Journal<D, E> {
    /// Hands over an entry that somebody waits for; it is written with whatever else waits, and
    /// lingers no longer than configured.
    pub fn append(&self, entry: E, now_us: u64) {
        // Without a linger it is due whatever the clock says.
        let due_us = if self.linger_us == 0 { 0 } else { now_us.saturating_add(self.linger_us) };
        self.append_by(entry, now_us, due_us);
    }

    /// Hands over an entry that nobody waits for: its commit begins at `due_us` at the latest,
    /// sooner with any other.
    pub fn append_by(&self, entry: E, now_us: u64, due_us: u64) {
        self.state.borrow_mut().queue.push(entry, now_us, due_us);
        self.work.raise();
    }

    /// Bytes of entries that wait.
    pub fn queued_bytes(&self) -> u64 {
        self.state.borrow().queue.bytes()
    }

    /// The highest entry that is durable.
    pub fn durable_entry(&self) -> u64 {
        self.state.borrow().durable_entry
    }

    /// The highest commit that is durable.
    pub fn durable_commit(&self) -> u64 {
        self.state.borrow().durable_commit
    }

    /// Bytes between the oldest place that recovery needs and the next commit.
    pub fn used_bytes(&self) -> u64 {
        let state = self.state.borrow();
        state.head.position.0.saturating_sub(state.tail.0)
    }

    /// The ring.
    pub fn shape(&self) -> RingShape {
        self.shape
    }

    /// The journal's identity.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How often it was opened, this time included.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether entries wait for space that only a checkpoint can free.
    pub fn is_starved(&self) -> bool {
        self.state.borrow().is_starved
    }

    /// How often the durable mark moved, or the ring was found full.
    pub(crate) fn progress_count(&self) -> u64 {
        self.progress.count()
    }

    /// Waits until [`Journal::progress_count`] is above `seen`.
    pub(crate) fn progress_past(&self, seen: u64) -> Past<'_> {
        self.progress.past(seen)
    }

    /// Asks for a commit boundary after the last entry handed over so far, which is written without
    /// lingering. The position comes from [`Journal::cut_ready`].
    pub fn cut(&self) {
        let mut state = self.state.borrow_mut();
        state.absorbing = None;
        match state.queue.last_seq() {
            Some(seq) => {
                state.cut_after = Some(seq);
                state.cut_found = None;
            }
            None => {
                state.cut_after = None;
                state.cut_found = Some(state.head);
            }
        }
        drop(state);
        self.work.raise();
    }

    /// The place after the last cut, once all before it is durable.
    ///
    /// If the ring is full before the cut is reached, the position is where writing stopped: the
    /// checkpoint that is being taken holds all that the entries up to the cut decided, and makes
    /// them durable in the place of the journal. They are dropped from the queue, and their
    /// waiters told, by [`Journal::release`].
    pub async fn cut_ready(&self) -> JournalPosition {
        loop {
            let seen = self.progress.count();
            if let Some(found) = self.cut_position() {
                return found;
            }
            self.progress.past(seen).await;
        }
    }

    fn cut_position(&self) -> Option<JournalPosition> {
        let state = &mut *self.state.borrow_mut();
        if let Some(found) = state.cut_found {
            return (state.durable_commit + 1 >= found.commit).then_some(found);
        }
        let seq = state.cut_after?;
        let is_quiet = state.durable_commit + 1 == state.head.commit;
        if !(state.is_starved && is_quiet) {
            return None;
        }
        state.absorbing = Some(seq);
        Some(JournalPosition { next_entry: seq + 1, ..state.head })
    }

    /// A checkpoint that is durable needs nothing before `position`: that space may be reused.
    pub fn release(&self, position: JournalPosition) {
        let mut state = self.state.borrow_mut();
        debug_assert!(position.position >= state.tail, "the tail never goes back");
        state.tail = state.tail.max(position.position);
        state.is_starved = false;
        if let Some(seq) = state.absorbing.take() {
            let dropped = state.queue.drop_upto(seq);
            state.absorbed.extend(dropped);
            state.cut_after = None;
            state.head.next_entry = seq + 1;
        }
        drop(state);
        self.work.raise();
    }

    /// Asks [`Journal::run`] to write what waits, and to return.
    pub fn stop(&self) {
        self.state.borrow_mut().is_stopping = true;
        self.work.raise();
    }
}
