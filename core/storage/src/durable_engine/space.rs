//! Space: what the data directory takes, what the engine is told of it, and what happens when the
//! disk takes no more. The engine decides what goes and what is refused; nothing of that is decided
//! here, and nothing that was acknowledged is ever given up for space.

use std::cell::Cell;

use millpond_engine::{PartitionKey, StoredPartition, StoredSegment};
use millpond_wire::limits::RECLAIM_INTERVAL_MS;

use super::{DurableEngine, Shell};
use crate::disk::Disk;
use crate::segments::{SegmentMeta, SegmentTable};
use crate::signal::Signal;

/// What the checkpoints' task knows of space.
#[derive(Default)]
pub(super) struct Space {
    /// The engine let segments go: a checkpoint would remove their files.
    is_reclaim_wanted: Cell<bool>,
    /// Something here changed.
    pub(super) moved: Signal,
    /// Monotonic; when the last checkpoint was finished.
    checkpointed_ms: Cell<u64>,
}

impl Space {
    /// The engine asks for a checkpoint soon.
    pub(super) fn ask_reclaim(&self) {
        self.is_reclaim_wanted.set(true);
        self.moved.raise();
    }

    /// A checkpoint begins: it does what was asked for so far.
    pub(super) fn checkpoint_begins(&self) {
        self.is_reclaim_wanted.set(false);
    }

    /// When a checkpoint for the sake of space is due: not after each of many small deletions.
    pub(super) fn reclaim_due_ms(&self) -> Option<u64> {
        let earliest_ms = self.checkpointed_ms.get() + RECLAIM_INTERVAL_MS;
        self.is_reclaim_wanted.get().then_some(earliest_ms)
    }
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// A checkpoint is done.
    pub(super) fn checkpoint_ended(&self) {
        self.space.checkpointed_ms.set(self.shell.now().mono_ms);
    }
}

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
