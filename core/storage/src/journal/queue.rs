//! Entries that wait for a commit, in order. It decides how many go together, nothing else.

use std::collections::VecDeque;

use millpond_wire::limits::ENTRIES_PER_COMMIT_MAX;

use super::JournalEntry;
use super::format::{COMMIT_HEADER_BYTES, ENTRY_ROW_BYTES};

/// The queue.
pub(super) struct Queue<E> {
    entries: VecDeque<Waiting<E>>,
    bytes: u64,
    /// The earliest `due_us` of all; `u64::MAX` when nothing waits.
    due_us: u64,
}

/// An entry and what is known of it.
pub(super) struct Waiting<E> {
    pub(super) entry: E,
    pub(super) len_bytes: usize,
    pub(super) since_us: u64,
    /// When its commit is to begin at the latest.
    due_us: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Queue<E> {
        Queue { entries: VecDeque::new(), bytes: 0, due_us: u64::MAX }
    }
}

impl<E: JournalEntry> Queue<E> {
    pub(super) fn push(&mut self, entry: E, since_us: u64, due_us: u64) {
        let len_bytes = entry.encoded_len();
        self.bytes += len_bytes as u64;
        self.due_us = self.due_us.min(due_us);
        self.entries.push_back(Waiting { entry, len_bytes, since_us, due_us });
    }

    /// When a commit is to begin at the latest: what is due last drags along all before it.
    pub(super) fn due_us(&self) -> u64 {
        self.due_us
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn last_seq(&self) -> Option<u64> {
        self.entries.back().map(|waiting| waiting.entry.seq())
    }

    /// How many entries from the front fit `limit_bytes` of commit, up to the one numbered
    /// `cut_after`, and the commit's length in bytes; `None` if not even the first fits.
    pub(super) fn batch(&self, limit_bytes: u64, cut_after: Option<u64>) -> Option<(usize, u64)> {
        let mut len = COMMIT_HEADER_BYTES as u64;
        let mut count = 0;
        for waiting in self.entries.iter().take(ENTRIES_PER_COMMIT_MAX) {
            let grown = len + commit_cost(waiting.len_bytes);
            if grown > limit_bytes {
                break;
            }
            len = grown;
            count += 1;
            if cut_after == Some(waiting.entry.seq()) {
                break;
            }
        }
        (count > 0).then_some((count, len))
    }

    /// What a commit of the first entry alone would take.
    pub(super) fn first_bytes(&self) -> Option<u64> {
        let first = self.entries.front()?;
        Some(COMMIT_HEADER_BYTES as u64 + commit_cost(first.len_bytes))
    }

    /// Drops the entries up to the one numbered `seq`; answers since when they waited.
    pub(super) fn drop_upto(&mut self, seq: u64) -> Vec<u64> {
        let count = self.entries.partition_point(|waiting| waiting.entry.seq() <= seq);
        self.take(count).iter().map(|waiting| waiting.since_us).collect()
    }

    pub(super) fn take(&mut self, count: usize) -> Vec<Waiting<E>> {
        let taken: Vec<_> = self.entries.drain(..count).collect();
        self.bytes -= taken.iter().map(|waiting| waiting.len_bytes as u64).sum::<u64>();
        self.due_us = self.entries.iter().map(|waiting| waiting.due_us).min().unwrap_or(u64::MAX);
        taken
    }
}

fn commit_cost(entry_bytes: usize) -> u64 {
    (entry_bytes + ENTRY_ROW_BYTES) as u64
}
