//! The engine made durable: the one loop that the node and the simulator run. It hands events to
//! the engine, writes what the engine decided, and lets answers out only after that.
//!
//! It must never hand the engine a `Durable` for what is not on the device, and never go on after
//! the device failed a write.

mod checkpoints;
mod compaction_round;
mod compactions;
mod direct;
mod entry;
mod error;
mod history;
mod open;
mod pace;
mod packing;
mod replay;
mod scrub;
mod shell;
mod space;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use futures::future::{Either, select};
use millpond_engine::{Effect, Engine, EntrySeq, Event, ReadJob, SyncBy};

pub use error::{FatalDiskError, OpenError, ReplayFault};
pub(crate) use open::LOCK_PATH;
pub(crate) use replay::Replay;
pub use shell::Shell;

use crate::config::StorageConfig;
use crate::disk::{Disk, LockGuard};
use crate::journal::Journal;
use crate::metrics::{Meter, StorageMetrics};
use crate::segments::{SegmentTable, Segments};
use crate::signal::Signal;
use compactions::Compactions;
use direct::Direct;
use entry::DurableEntry;
use pace::Pace;
use shell::ShellClock;
use space::Space;

/// An engine, its journal, its segments and its checkpoints.
///
/// Call [`DurableEngine::submit`] for every event, and keep one task polling
/// [`DurableEngine::run`].
pub struct DurableEngine<D: Disk, S: Shell> {
    disk: D,
    config: StorageConfig,
    shell: S,
    engine: RefCell<Engine>,
    journal: Journal<D, DurableEntry>,
    direct: Direct<D::File>,
    segments: Segments<D>,
    meter: Rc<Meter>,
    /// Events that came while another was being decided.
    inbox: RefCell<VecDeque<Event>>,
    is_deciding: Cell<bool>,
    jobs: RefCell<VecDeque<ReadJob>>,
    jobs_came: Signal,
    /// The engine's deadline, as the ticker knows it.
    deadline_ms: Cell<Option<u64>>,
    deadline_moved: Signal,
    /// Bytes of batches in memory that are in no segment.
    unflushed_bytes: Cell<u64>,
    checkpoint_number: Cell<u64>,
    space: Space,
    compactions: Compactions,
    pace: Pace,
    life: Cell<Life>,
    life_moved: Signal,
    _lock: LockGuard,
}

/// How far the durable engine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    Running,
    Stopping,
    Stopped,
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Lets the engine decide an event, now. What it decided is written by [`DurableEngine::run`];
    /// effects go to the shell. An event that is submitted from within [`Shell::effect`] is decided
    /// right after the present one. After a fatal error or the end of `run` nothing happens.
    pub fn submit(&self, event: Event) {
        self.inbox.borrow_mut().push_back(event);
        self.decide();
    }

    fn decide(&self) {
        if self.is_deciding.replace(true) {
            return;
        }
        self.pump();
        loop {
            let event = self.inbox.borrow_mut().pop_front();
            let Some(event) = event else {
                break;
            };
            if self.life.get() == Life::Stopped {
                continue;
            }
            let now = self.shell.now();
            self.engine.borrow_mut().handle(now, event);
            self.pump();
        }
        self.is_deciding.set(false);
        self.note_deadline();
    }

    /// Carries the engine's effects to where they belong, in order.
    fn pump(&self) {
        loop {
            let effect = self.engine.borrow_mut().poll_effect();
            match effect {
                None => return,
                Some(Effect::Append { entry, sync }) => {
                    let bytes = entry.payload_bytes() as u64;
                    self.unflushed_bytes.set(self.unflushed_bytes.get() + bytes);
                    let entry = self.place(entry);
                    let now_us = self.shell.mono_us();
                    match sync {
                        SyncBy::Now => self.journal.append(entry, now_us),
                        SyncBy::AtMs(at_ms) => {
                            self.journal.append_by(entry, now_us, at_ms.saturating_mul(1000));
                        }
                    }
                }
                Some(Effect::ReadHistory(job)) => {
                    self.jobs.borrow_mut().push_back(job);
                    self.jobs_came.raise();
                }
                Some(Effect::Reclaim) => self.ask_reclaim(),
                Some(Effect::TopicDeleted(keys)) => {
                    self.space.note_dead(&keys);
                    self.shell.effect(Effect::TopicDeleted(keys));
                }
                Some(effect) => self.shell.effect(effect),
            }
        }
    }

    /// Drives journal, checkpoints, history reads, compaction and ticks. Ends after
    /// [`DurableEngine::shutdown`], or with the error that ends the process: no answer that rests
    /// on a later entry is given after it.
    pub async fn run(&self) -> Result<(), FatalDiskError> {
        self.decide();
        let result = self.drive().await;
        self.life.set(Life::Stopped);
        self.life_moved.raise();
        result
    }

    async fn drive(&self) -> Result<(), FatalDiskError> {
        let clock = ShellClock(&self.shell);
        let on_durable = |seq| self.submit(Event::Durable(EntrySeq(seq)));
        let mut journal = pin!(self.journal.run(&clock, on_durable));
        let mut checkpoints = pin!(self.take_checkpoints());
        let mut direct = pin!(self.write_direct());
        let mut history = pin!(self.read_history());
        let mut compaction = pin!(self.compact());
        let mut ticks = pin!(self.tick());
        let mut scrub = pin!(self.scrub());
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(ended) = journal.as_mut().poll(cx) {
                return Poll::Ready(ended.map_err(FatalDiskError::from));
            }
            if let Poll::Ready(error) = checkpoints.as_mut().poll(cx) {
                return Poll::Ready(Err(error));
            }
            if let Poll::Ready(error) = direct.as_mut().poll(cx) {
                return Poll::Ready(Err(error));
            }
            // These never end.
            let _ = history.as_mut().poll(cx);
            let _ = compaction.as_mut().poll(cx);
            let _ = ticks.as_mut().poll(cx);
            let _ = scrub.as_mut().poll(cx);
            Poll::Pending
        })
        .await
    }

    /// Takes a last checkpoint and ends [`DurableEngine::run`], which must be polled meanwhile.
    /// Submit nothing new after calling it.
    pub async fn shutdown(&self) {
        self.life.set(self.life.get().max(Life::Stopping));
        self.life_moved.raise();
        loop {
            let seen = self.life_moved.count();
            if self.life.get() == Life::Stopped {
                return;
            }
            self.life_moved.past(seen).await;
        }
    }

    /// Looks at the engine. Not to be called with anything that submits.
    pub fn with_engine<R>(&self, look: impl FnOnce(&Engine) -> R) -> R {
        look(&self.engine.borrow())
    }

    /// The shell's monotonic time, as the engine is told it.
    pub fn mono_ms(&self) -> u64 {
        self.shell.now().mono_ms
    }

    /// A picture of what storage did so far.
    pub fn metrics(&self) -> StorageMetrics {
        StorageMetrics {
            backend: self.disk.backend_name(),
            journal_used_bytes: self.journal.used_bytes(),
            journal_size_bytes: self.journal.shape().total_bytes(),
            queued_bytes: self.journal.queued_bytes(),
            segment_bytes: self.segments.with_table(SegmentTable::size_bytes),
            checkpoint_bytes: self.space.checkpoint_bytes(),
            checkpoints_refused: self.space.refusals(),
            is_refusing: self.space.is_refusing(),
            ..self.meter.picture()
        }
    }

    /// Waits while more bytes wait for the journal than [`StorageConfig::queue_bytes`]. Whoever
    /// reads produce requests from peers should wait here first. While the disk refuses nobody
    /// waits: requests are refused then.
    pub async fn room(&self) {
        loop {
            let seen = self.journal.progress_count();
            let moved = self.space.moved.count();
            let queued_bytes = self.journal.queued_bytes() + self.direct.waiting_bytes();
            let is_full = queued_bytes > self.config.queue_bytes as u64;
            let is_waited_for = is_full && !self.space.is_refusing();
            if !is_waited_for || self.life.get() == Life::Stopped {
                return;
            }
            select(self.journal.progress_past(seen), self.space.moved.past(moved)).await;
        }
    }

    fn note_deadline(&self) {
        let next = self.engine.borrow().next_deadline_ms();
        let known = self.deadline_ms.get();
        // A later deadline needs no wake-up: the ticker looks again when the old one is reached.
        if next.is_some_and(|next| known.is_none_or(|known| next < known)) {
            self.deadline_ms.set(next);
            self.deadline_moved.raise();
        }
    }

    /// Tells the engine when its deadline is reached. Never ends.
    async fn tick(&self) {
        loop {
            let seen = self.deadline_moved.count();
            let next = self.engine.borrow().next_deadline_ms();
            self.deadline_ms.set(next);
            let Some(at_ms) = next else {
                self.deadline_moved.past(seen).await;
                continue;
            };
            if self.shell.now().mono_ms >= at_ms {
                self.submit(Event::Tick);
                continue;
            }
            let moved = self.deadline_moved.past(seen);
            match select(moved, self.shell.sleep_until_ms(at_ms)).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        }
    }
}
