//! The journal's writing side: takes what waits, writes it, releases it in order.
//!
//! An idle journal writes at once, or after its linger; what only a window's end asks for waits for
//! that, or for company. While a write is under way the next commit gathers. At most
//! [`COMMITS_UNRELEASED_MAX`] commits are written and not released. The first error ends it for
//! good: nothing is released after it and nothing is tried again.

use millpond_wire::mutant::Mutant;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use millpond_wire::limits::{COMMIT_BUFFER_KEPT_BYTES, COMMIT_GATHER_BYTES};

use super::commit::{Commit, CommitPlace, build};
use super::format::COMMITS_UNRELEASED_MAX;
use super::ring::{JournalPosition, RingPosition};
use super::{Journal, JournalEntry, JournalError};
use crate::clock::StorageClock;
use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, Returned};
use crate::metrics::WriteCause;

/// A written commit: what it was, how it went, and its buffer.
struct Written {
    number: u64,
    last_entry: u64,
    since_us: Vec<u64>,
    payload_bytes: u64,
    started_us: u64,
    outcome: Returned<()>,
}

enum Wake {
    Written(Written),
    Work,
    Timer,
}

impl<D: Disk, E: JournalEntry> Journal<D, E> {
    /// Writes until [`Journal::stop`] or the first error. `on_durable` is told the highest entry
    /// that is durable, in order.
    pub async fn run(
        &self,
        clock: &impl StorageClock,
        mut on_durable: impl FnMut(u64),
    ) -> Result<(), JournalError> {
        let mut in_flight = FuturesOrdered::new();
        let mut idle_since_us = clock.mono_us();
        loop {
            let seen = self.work.count();
            if in_flight.is_empty() {
                self.tell_absorbed(clock.mono_us(), &mut on_durable);
            }
            while (in_flight.len() as u64) < COMMITS_UNRELEASED_MAX
                && let Some(commit) = self.next_commit(in_flight.len(), clock.mono_us())
            {
                in_flight.push_back(self.write(commit, clock));
            }
            if let Some(fault) = self.state.borrow().fault.clone() {
                return Err(fault);
            }
            if in_flight.is_empty() && self.may_return() {
                return Ok(());
            }
            let seal_at_ms = (in_flight.is_empty() && self.wants_seal())
                .then(|| idle_since_us / 1000 + self.seal_after_ms);
            let wake_at_ms = seal_at_ms.or_else(|| self.due_at_ms(clock.mono_us()));
            let wake = {
                let mut work = self.work.past(seen);
                let mut timer = wake_at_ms.map(|at_ms| clock.sleep_until_ms(at_ms));
                std::future::poll_fn(|cx| {
                    if let Poll::Ready(Some(written)) = in_flight.poll_next_unpin(cx) {
                        return Poll::Ready(Wake::Written(written));
                    }
                    if Pin::new(&mut work).poll(cx).is_ready() {
                        return Poll::Ready(Wake::Work);
                    }
                    match &mut timer {
                        Some(timer) => timer.as_mut().poll(cx).map(|()| Wake::Timer),
                        None => Poll::Pending,
                    }
                })
                .await
            };
            match wake {
                Wake::Written(written) => {
                    idle_since_us = clock.mono_us();
                    self.release_written(written, idle_since_us, &mut on_durable)?;
                }
                Wake::Timer if seal_at_ms.is_some() => {
                    match self.seal() {
                        Some(seal) => in_flight.push_back(self.write(seal, clock)),
                        // No room even for that: the next commit will carry the mark.
                        None => self.state.borrow_mut().is_sealed = true,
                    }
                }
                Wake::Work | Wake::Timer => {}
            }
        }
    }

    /// Entries that a checkpoint made durable in the journal's place.
    fn tell_absorbed(&self, now_us: u64, on_durable: &mut impl FnMut(u64)) {
        let (absorbed, last_entry) = {
            let state = &mut *self.state.borrow_mut();
            if state.absorbed.is_empty() {
                return;
            }
            // Nothing is in flight, so everything before the next commit's first entry is durable.
            state.durable_entry = state.head.next_entry - 1;
            (std::mem::take(&mut state.absorbed), state.durable_entry)
        };
        for since_us in absorbed {
            self.meter.entry_waited(now_us.saturating_sub(since_us));
        }
        on_durable(last_entry);
        self.progress.raise();
    }

    fn may_return(&self) -> bool {
        let state = self.state.borrow();
        state.is_stopping && state.queue.is_empty()
    }

    fn wants_seal(&self) -> bool {
        let state = self.state.borrow();
        !state.is_sealed && state.queue.is_empty() && !state.is_stopping
    }

    /// When what waits becomes due, if that is still to come; nothing waits for a time that has
    /// passed, but for room or for a write under way.
    fn due_at_ms(&self, now_us: u64) -> Option<u64> {
        let due_us = self.state.borrow().queue.due_us();
        (due_us > now_us && due_us < u64::MAX).then(|| due_us.div_ceil(1000))
    }

    /// Whether what waits need not wait for more.
    fn is_ripe(&self, state: &super::State<E>, now_us: u64) -> bool {
        state.is_stopping
            || state.cut_after.is_some()
            || state.queue.due_us() <= now_us
            || state.queue.bytes() >= self.gather_bytes as u64
    }

    /// The next commit, if there is one, it is worth a write now, and the ring has room for it.
    fn next_commit(&self, in_flight: usize, now_us: u64) -> Option<Commit> {
        let state = &mut *self.state.borrow_mut();
        let first_bytes = self.round_up(state.queue.first_bytes()?);
        if state.absorbing.is_some() || !self.is_ripe(state, now_us) {
            return None;
        }
        if in_flight > 0 && state.queue.bytes() < self.second_write_bytes as u64 {
            return None;
        }
        if first_bytes > self.shape.commit_bytes_max() {
            state.fault = Some(JournalError::EntryTooLarge {
                seq: state.head.next_entry,
                len_bytes: first_bytes,
                max_bytes: self.shape.commit_bytes_max(),
            });
            return None;
        }
        let position = self.shape.fit(state.head.position, first_bytes);
        let limit = (COMMIT_GATHER_BYTES as u64).max(first_bytes);
        let limit = limit.min(self.shape.rest_of_file(position));
        let free = self.free_from(state.tail, position);
        if first_bytes > free {
            // Whoever takes checkpoints must hear of it.
            if !state.is_starved {
                state.is_starved = true;
                self.progress.raise();
            }
            return None;
        }
        let (count, len) = state.queue.batch(limit.min(free), state.cut_after)?;
        let len = self.round_up(len);
        let entries = state.queue.take(count);
        let buf = take_buffer(&mut state.spare, len as usize, self.shape.block_bytes as usize);
        let place = self.place_of(state.head, position, state.durable_commit);
        let (commit, sum) = build(&place, entries, buf);
        debug_assert_eq!(commit.buf.len() as u64, len, "a commit is as long as it was planned");
        self.advance(state, &commit, sum);
        state.is_sealed = false;
        Some(commit)
    }

    /// A commit without entries; `None` if even for that the ring has no room.
    fn seal(&self) -> Option<Commit> {
        let state = &mut *self.state.borrow_mut();
        let block = self.shape.block_bytes as usize;
        let position = self.shape.fit(state.head.position, block as u64);
        if position.0 + block as u64 > state.tail.0 + self.shape.total_bytes() {
            return None;
        }
        state.spare.retain(|buf| buf.capacity() <= SPARE_BUFFER_BYTES_MIN);
        let buf = take_buffer(&mut state.spare, block, block);
        let place = self.place_of(state.head, position, state.durable_commit);
        let (commit, sum) = build::<E>(&place, Vec::new(), buf);
        self.advance(state, &commit, sum);
        state.is_sealed = true;
        Some(commit)
    }

    /// Writes a seal now: recovery calls it, so that its decision is on the device before anything
    /// new is.
    pub(super) async fn seal_now(&self, clock_us: u64) -> Result<(), DiskError> {
        let Some(seal) = self.seal() else {
            return Ok(());
        };
        let written = self.write(seal, &FixedClock(clock_us)).await;
        self.release_written(written, clock_us, &mut |_| {})
    }

    fn place_of(&self, head: JournalPosition, position: RingPosition, durable: u64) -> CommitPlace {
        CommitPlace {
            journal_id: self.id,
            position,
            number: head.commit,
            next_entry: head.next_entry,
            durable_number: durable,
            incarnation: self.incarnation,
            previous_crc: head.previous_crc,
            block_bytes: self.shape.block_bytes as usize,
        }
    }

    fn advance(&self, state: &mut super::State<E>, commit: &Commit, sum: u32) {
        state.head = JournalPosition {
            position: RingPosition(commit.position.0 + commit.buf.len() as u64),
            commit: commit.number + 1,
            previous_crc: sum,
            next_entry: commit.last_entry + 1,
            incarnation: self.incarnation,
        };
        if state.cut_after == Some(commit.last_entry) && !commit.since_us.is_empty() {
            state.cut_after = None;
            state.cut_found = Some(state.head);
        }
    }

    /// Bytes that may be written at `position`; some blocks are kept for seals.
    fn free_from(&self, tail: RingPosition, position: RingPosition) -> u64 {
        let reserve = self.shape.reserve_bytes();
        (tail.0 + self.shape.total_bytes()).saturating_sub(position.0 + reserve)
    }

    fn round_up(&self, len_bytes: u64) -> u64 {
        len_bytes.next_multiple_of(u64::from(self.shape.block_bytes))
    }

    async fn write(&self, commit: Commit, clock: &impl StorageClock) -> Written {
        let (file, offset) = self.shape.place(commit.position);
        let Commit { number, last_entry, buf, since_us, payload_bytes, .. } = commit;
        let started_us = clock.mono_us();
        self.meter.wrote(WriteCause::Journal, buf.len() as u64);
        // The mutant writes without a sync: simulator and crash images must find it out.
        let outcome = match Mutant::NoSync.is_on() {
            true => self.files[file].write_at(offset, buf).await,
            false => self.files[file].write_durable(offset, buf).await,
        };
        self.meter.synced(WriteCause::Journal);
        Written { number, last_entry, since_us, payload_bytes, started_us, outcome }
    }

    fn release_written(
        &self,
        written: Written,
        now_us: u64,
        on_durable: &mut impl FnMut(u64),
    ) -> Result<(), DiskError> {
        let (result, buf) = written.outcome;
        result?;
        {
            let state = &mut *self.state.borrow_mut();
            assert_eq!(written.number, state.durable_commit + 1, "commits are released in order");
            state.durable_commit = written.number;
            state.durable_entry = written.last_entry;
            // Large buffers are kept while writes go on; an idle node should be small.
            let kept_bytes =
                if state.is_sealed { SPARE_BUFFER_BYTES_MIN } else { COMMIT_BUFFER_KEPT_BYTES };
            if buf.capacity() <= kept_bytes && state.spare.len() < SPARE_BUFFERS_MAX {
                state.spare.push(buf);
            }
        }
        self.meter.committed(written.since_us.len() as u64, written.payload_bytes);
        self.meter.write_took(now_us.saturating_sub(written.started_us));
        for since_us in &written.since_us {
            self.meter.entry_waited(now_us.saturating_sub(*since_us));
        }
        if !written.since_us.is_empty() {
            on_durable(written.last_entry);
        }
        self.progress.raise();
        Ok(())
    }
}

/// For the one write that happens before there is a running clock.
struct FixedClock(u64);

impl StorageClock for FixedClock {
    fn mono_us(&self) -> u64 {
        self.0
    }

    fn sleep_until_ms(&self, _: u64) -> futures::future::LocalBoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A spare buffer that is large enough, or a new one.
fn take_buffer(spare: &mut Vec<AlignedBuf>, len: usize, align: usize) -> AlignedBuf {
    match spare.iter().position(|buf| buf.capacity() >= len) {
        Some(index) => spare.swap_remove(index),
        None => {
            spare.clear();
            // Sizes that fit again, but for those that are given back anyway.
            let is_kept = len <= COMMIT_BUFFER_KEPT_BYTES;
            let capacity = if is_kept { len.next_power_of_two() } else { len };
            AlignedBuf::with_capacity(capacity.max(SPARE_BUFFER_BYTES_MIN), align)
        }
    }
}

const SPARE_BUFFERS_MAX: usize = 2;
const SPARE_BUFFER_BYTES_MIN: usize = 64 * 1024;
