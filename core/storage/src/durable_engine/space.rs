//! Space: what the data directory takes, what the engine is told of it, and what happens when the
//! disk takes no more. The engine decides what goes and what is refused; nothing of that is decided
//! here, and nothing that was acknowledged is ever given up for space.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use millpond_engine::{
    Engine, Event, Partition, PartitionKey, SpaceReport, StoredPartition, StoredSegment,
};
use millpond_wire::limits::{
    RECLAIM_BYTES_LEAST, RECLAIM_INTERVAL_MS, RECLAIM_LAZY_MS, SPACE_LOOK_MS, SPACE_RETRY_MS_MAX,
    SPACE_RETRY_MS_MIN,
};

use super::{DurableEngine, Shell};
use crate::disk::{Disk, DiskError, SpaceLeft};
use crate::segments::{SegmentMeta, SegmentTable};
use crate::signal::Signal;

/// What the checkpoints' task knows of space.
#[derive(Default)]
pub(super) struct Space {
    /// The engine let segments go: a checkpoint would remove their files.
    is_reclaim_wanted: Cell<bool>,
    /// It would remove so little that it can wait.
    is_reclaim_lazy: Cell<bool>,
    /// Something here changed.
    pub(super) moved: Signal,
    /// Monotonic; when the last checkpoint was finished.
    checkpointed_ms: Cell<u64>,
    checkpoint_bytes: Cell<u64>,
    /// What the engine had let go when the checkpoint began, and when the last one that was
    /// finished began.
    reclaiming_bytes: Cell<u64>,
    reclaimed_bytes: Cell<u64>,
    /// Partitions whose deletion is durable and whose segments the last checkpoint named.
    dead: RefCell<BTreeSet<PartitionKey>>,
    refusal: Cell<Option<Refusal>>,
    refusals: Cell<u64>,
    /// Monotonic; when the engine was told last.
    told_ms: Cell<u64>,
    told_stuck: Cell<bool>,
}

/// The disk takes no more.
#[derive(Clone, Copy)]
struct Refusal {
    /// Monotonic; when to look again.
    next_look_ms: u64,
    wait_ms: u64,
    /// Monotonic; when the last try was made.
    tried_ms: u64,
}

impl Space {
    /// These are gone for good.
    pub(super) fn note_dead(&self, keys: &[PartitionKey]) {
        self.dead.borrow_mut().extend(keys);
        self.moved.raise();
    }

    /// A checkpoint begins: it does what was asked for so far.
    pub(super) fn checkpoint_begins(&self, let_go_bytes: u64) {
        self.is_reclaim_wanted.set(false);
        self.reclaiming_bytes.set(let_go_bytes);
    }

    /// When a checkpoint for the sake of space is due: not after each of many small deletions.
    pub(super) fn reclaim_due_ms(&self) -> Option<u64> {
        let is_lazy = self.is_reclaim_lazy.get();
        let wait_ms = if is_lazy { RECLAIM_LAZY_MS } else { RECLAIM_INTERVAL_MS };
        self.is_reclaim_wanted.get().then_some(self.checkpointed_ms.get() + wait_ms)
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.refusal.get().is_some()
    }

    pub(super) fn refusals(&self) -> u64 {
        self.refusals.get()
    }

    pub(super) fn checkpoint_bytes(&self) -> u64 {
        self.checkpoint_bytes.get()
    }

    pub(super) fn set_checkpoint_bytes(&self, bytes: u64) {
        self.checkpoint_bytes.set(bytes);
    }
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// The engine let segments go. A checkpoint costs writes: for little it can wait.
    pub(super) fn ask_reclaim(&self) {
        let let_go = self.with_engine(|engine| engine.let_go_bytes());
        let waiting = let_go.saturating_sub(self.space.reclaimed_bytes.get());
        let worth_it = RECLAIM_BYTES_LEAST.min(self.config.segment_bytes);
        self.space.is_reclaim_lazy.set(waiting < worth_it as u64);
        self.space.is_reclaim_wanted.set(true);
        self.space.moved.raise();
    }

    /// Compaction made segments that take the place of others, `saved_bytes` larger: a checkpoint
    /// is wanted, for little not soon.
    pub(super) fn ask_exchange(&self, saved_bytes: u64) {
        let worth_it = RECLAIM_BYTES_LEAST.min(self.config.segment_bytes) as u64;
        let was_soon = self.space.is_reclaim_wanted.get() && !self.space.is_reclaim_lazy.get();
        self.space.is_reclaim_lazy.set(saved_bytes < worth_it && !was_soon);
        self.space.is_reclaim_wanted.set(true);
        self.space.moved.raise();
    }

    /// A checkpoint is done: what stood in its way stands there no more.
    pub(super) async fn checkpoint_ended(&self) {
        let space = &self.space;
        space.checkpointed_ms.set(self.shell.now().mono_ms);
        space.reclaimed_bytes.set(space.reclaiming_bytes.get());
        self.segments.with_table(|table| {
            space.dead.borrow_mut().retain(|key| !table.of(*key).is_empty());
        });
        if space.refusal.take().is_some() {
            tracing::info!("the disk takes writes again");
            space.moved.raise();
        }
        self.tell_space().await;
    }

    /// The disk refused a checkpoint. Everything acknowledged is in the journal; the engine refuses
    /// new records until a later try succeeds.
    pub(super) async fn checkpoint_refused(&self, error: &DiskError) {
        let space = &self.space;
        let now_ms = self.shell.now().mono_ms;
        let wait_ms = match space.refusal.get() {
            None => {
                tracing::warn!(%error, "the disk refuses a checkpoint: new records are refused");
                SPACE_RETRY_MS_MIN
            }
            Some(refusal) => (refusal.wait_ms * 2).min(SPACE_RETRY_MS_MAX),
        };
        let next_look_ms = now_ms + wait_ms;
        space.refusal.set(Some(Refusal { next_look_ms, wait_ms, tried_ms: now_ms }));
        space.refusals.set(space.refusals.get() + 1);
        space.moved.raise();
        self.reclaim_now().await;
        self.tell_space().await;
    }

    /// While the disk refuses: whether a checkpoint has a chance again. A try costs writes, so it is
    /// made only if space has appeared, or once in a while.
    pub(super) async fn may_try_again(&self) -> bool {
        let now_ms = self.shell.now().mono_ms;
        let Some(refusal) = self.space.refusal.get() else { return true };
        if self.space.is_reclaim_wanted.get() {
            self.space.is_reclaim_wanted.set(false);
            if self.reclaim_now().await > 0 {
                return true;
            }
        }
        if now_ms < refusal.next_look_ms {
            return false;
        }
        let wait_ms = (refusal.wait_ms * 2).min(SPACE_RETRY_MS_MAX);
        self.space.refusal.set(Some(Refusal {
            next_look_ms: now_ms + wait_ms,
            wait_ms,
            tried_ms: refusal.tried_ms,
        }));
        let report = self.tell_space().await;
        let needed = report.reserve_bytes + self.unflushed_bytes.get();
        report.free_bytes >= needed || now_ms >= refusal.tried_ms + SPACE_RETRY_MS_MAX
    }

    /// Removes what no start would read any more, without a checkpoint: the next one needs the room.
    async fn reclaim_now(&self) -> usize {
        let starts: BTreeMap<PartitionKey, i64> = self.with_engine(|engine| {
            let catalog = engine.catalog();
            let keys = catalog.iter().flat_map(|topic| topic.keys());
            let start = |key| catalog.partition(key).map_or(0, Partition::durable_start);
            keys.map(|key| (key, start(key))).collect()
        });
        let dead = self.space.dead.borrow().clone();
        match self.segments.trim_now(&starts, &dead, &self.direct.segments()).await {
            Ok(count) => count,
            Err(error) => {
                tracing::warn!(%error, "segments that are not needed any more cannot be removed");
                0
            }
        }
    }

    /// When something is to be done here although nobody else does anything.
    pub(super) fn next_look_ms(&self) -> Option<u64> {
        if let Some(refusal) = self.space.refusal.get() {
            return Some(refusal.next_look_ms);
        }
        // Whoever is refused for want of space writes nothing that would wake anybody.
        let space = self.with_engine(Engine::space);
        let is_tight = space.used_bytes >= space.soft_bytes;
        let look_ms = is_tight.then(|| self.space.told_ms.get() + SPACE_LOOK_MS);
        [self.space.reclaim_due_ms(), look_ms].into_iter().flatten().min()
    }

    /// Whether entries wait for room that only a checkpoint could give, and the disk refuses it.
    fn is_stuck(&self) -> bool {
        self.space.is_refusing() && self.journal.is_starved()
    }

    /// Looks once in a while how full the disk is: others write there too.
    pub(super) async fn look_at_space(&self) {
        let is_due = self.shell.now().mono_ms >= self.space.told_ms.get() + SPACE_LOOK_MS;
        if is_due || self.is_stuck() != self.space.told_stuck.get() {
            self.tell_space().await;
        }
    }

    /// Tells the engine how much space is used and left.
    async fn tell_space(&self) -> SpaceReport {
        let left = space_left(&self.disk).await;
        let report = self.space_report(left);
        self.space.told_ms.set(self.shell.now().mono_ms);
        self.space.told_stuck.set(report.is_stuck);
        self.submit(Event::Space(report));
        report
    }

    /// What the engine is told.
    pub(super) fn space_report(&self, left: SpaceLeft) -> SpaceReport {
        let checkpoint_bytes = self.space.checkpoint_bytes.get();
        let fixed_bytes = self.journal.shape().total_bytes() + checkpoint_bytes;
        let on_disk = fixed_bytes + self.segments.with_table(SegmentTable::size_bytes);
        let (configured, partitions) = self.with_engine(|engine| {
            (engine.config().space_budget_bytes, engine.catalog().partitions_len() as u64)
        });
        let there_is = on_disk.saturating_add(left.free_bytes);
        // Every flush of a partition fills its last block up.
        let blocks = partitions * self.disk.block_bytes() as u64;
        SpaceReport {
            used_bytes: on_disk + self.unflushed_bytes.get(),
            fixed_bytes,
            budget_bytes: configured.unwrap_or(u64::MAX).min(there_is),
            reserve_bytes: checkpoint_bytes + checkpoint_bytes / 4 + blocks + RESERVE_BYTES_LEAST,
            flush_bytes: self.config.tail_bytes as u64,
            free_bytes: left.free_bytes,
            reclaimed_bytes: self.space.reclaimed_bytes.get(),
            is_refusing: self.space.is_refusing(),
            is_stuck: self.is_stuck(),
        }
    }
}

/// How full the file system is. One that does not say is taken for large: it says so when it is
/// full.
pub(super) async fn space_left<D: Disk>(disk: &D) -> SpaceLeft {
    disk.space().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the free space of the data directory is not known");
        SpaceLeft { free_bytes: UNKNOWN_BYTES, total_bytes: UNKNOWN_BYTES }
    })
}

/// Directories, file names and the like.
const RESERVE_BYTES_LEAST: u64 = 64 * 1024;
const UNKNOWN_BYTES: u64 = 1 << 60;

/// What the engine is to hear of segments when the table `after` takes the place of `before`: the
/// partitions that changed.
pub(super) fn stored_between(before: &SegmentTable, after: &SegmentTable) -> Vec<StoredPartition> {
    let changed = after.keys().filter(|key| before.of(*key) != after.of(*key));
    let gone = before.keys().filter(|key| after.of(*key).is_empty());
    changed.chain(gone).map(|key| stored_of(key, after.of(key))).collect()
}

fn stored_of(partition: PartitionKey, metas: &[SegmentMeta]) -> StoredPartition {
    let segment = |meta: &SegmentMeta| StoredSegment {
        base_offset: meta.base_offset,
        end_offset: meta.end_offset,
        bytes: meta.trusted_bytes,
        max_timestamp: meta.max_timestamp,
    };
    StoredPartition { partition, segments: metas.iter().map(segment).collect() }
}
