//! Segments: per partition, files of record batches, written behind at checkpoints and read for
//! history. They are trusted only up to the lengths that a checkpoint names, and must never be
//! needed for an acknowledgement.

mod flush;
pub mod format;
mod index;
mod read;
mod table;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millpond_engine::PartitionKey;
use millpond_wire::limits::{OPEN_SEGMENTS_MAX, SEGMENT_INDEX_MARKS_MAX};

pub use table::{SegmentMeta, SegmentTable};

use crate::disk::{Disk, DiskError};
use crate::metrics::{Meter, WriteCause};
use format::{SEGMENT_HEADER_BYTES, TOPICS_DIR, partition_dir, segment_path, topic_dir};
use index::{Mark, SegmentIndex};

/// All segments of a node.
pub struct Segments<D: Disk> {
    disk: D,
    meter: Rc<Meter>,
    segment_bytes: usize,
    state: RefCell<State<D::File>>,
}

struct State<F> {
    table: SegmentTable,
    indexes: BTreeMap<(PartitionKey, i64), SegmentIndex>,
    open: BTreeMap<(PartitionKey, i64), OpenSegment<F>>,
    uses: u64,
    marks: usize,
}

struct OpenSegment<F> {
    file: F,
    used_at: u64,
}

impl<D: Disk> Segments<D> {
    /// The segments that a checkpoint names.
    pub(crate) fn new(
        disk: D,
        segment_bytes: usize,
        table: SegmentTable,
        meter: Rc<Meter>,
    ) -> Segments<D> {
        let state =
            State { table, indexes: BTreeMap::new(), open: BTreeMap::new(), uses: 0, marks: 0 };
        Segments { disk, meter, segment_bytes, state: RefCell::new(state) }
    }

    /// A copy of the table, without the partitions that are not among `alive`.
    pub(crate) fn table_of(&self, alive: &BTreeSet<PartitionKey>) -> SegmentTable {
        let mut table = self.state.borrow().table.clone();
        let gone: Vec<_> = table.keys().filter(|key| !alive.contains(key)).collect();
        for key in gone {
            table.remove(key);
        }
        table
    }

    /// A checkpoint with this table is durable: reads may use it, and the files of partitions that
    /// it does not name may go.
    pub(crate) async fn publish(&self, table: SegmentTable) -> Result<(), DiskError> {
        let gone: BTreeSet<PartitionKey> = {
            let state = &mut *self.state.borrow_mut();
            let kept: BTreeSet<_> = table.keys().collect();
            let gone = state.table.keys().filter(|key| !kept.contains(key)).collect();
            state.table = table;
            state.open.retain(|(key, _), _| kept.contains(key));
            state.indexes.retain(|(key, _), _| kept.contains(key));
            state.marks = state.indexes.values().map(SegmentIndex::len).sum();
            gone
        };
        self.remove_partitions(&gone).await
    }

    /// Removes directories of partitions, and of topics of which no partition is left.
    async fn remove_partitions(&self, gone: &BTreeSet<PartitionKey>) -> Result<(), DiskError> {
        let topics: BTreeSet<_> = gone.iter().map(|key| key.topic_id).collect();
        for topic_id in topics {
            let is_empty = !self.state.borrow().table.keys().any(|key| key.topic_id == topic_id);
            if is_empty {
                self.disk.remove_dir_all(&topic_dir(topic_id)).await?;
                self.disk.sync_dir(TOPICS_DIR).await?;
            } else {
                for key in gone.iter().filter(|key| key.topic_id == topic_id) {
                    self.disk.remove_dir_all(&partition_dir(*key)).await?;
                }
                self.disk.sync_dir(&topic_dir(topic_id)).await?;
            }
            self.meter.synced(WriteCause::Metadata);
        }
        Ok(())
    }

    /// Removes files that no checkpoint names: of a checkpoint that was cut off, or of a topic
    /// whose deletion was. Called after a recovery that succeeded, before anything is written.
    pub(crate) async fn remove_strays(&self) -> Result<usize, DiskError> {
        let known: BTreeSet<String> = {
            let state = self.state.borrow();
            let segments = state.table.iter();
            segments.map(|(key, meta)| segment_path(key, meta.base_offset)).collect()
        };
        let mut strays = 0;
        for topic in self.disk.list(TOPICS_DIR).await? {
            let topic_path = format!("{TOPICS_DIR}/{}", topic.name);
            for partition in self.disk.list(&topic_path).await? {
                let dir = format!("{topic_path}/{}", partition.name);
                for file in self.disk.list(&dir).await? {
                    let path = format!("{dir}/{}", file.name);
                    if !known.contains(&path) && path.ends_with(".seg") {
                        self.disk.remove_file(&path).await?;
                        strays += 1;
                    }
                }
            }
        }
        Ok(strays)
    }

    /// Whether any file of a segment is there.
    pub(crate) async fn any_on(disk: &D) -> Result<bool, DiskError> {
        for topic in disk.list(TOPICS_DIR).await? {
            let topic_path = format!("{TOPICS_DIR}/{}", topic.name);
            for partition in disk.list(&topic_path).await? {
                let dir = format!("{topic_path}/{}", partition.name);
                if !disk.list(&dir).await?.is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Where to begin reading, by the index of a segment.
    fn mark(
        &self,
        key: PartitionKey,
        meta: &SegmentMeta,
        choose: impl FnOnce(&SegmentIndex) -> Mark,
    ) -> Mark {
        let state = &mut *self.state.borrow_mut();
        state.uses += 1;
        let index = state.indexes.entry((key, meta.base_offset)).or_insert_with(|| {
            state.marks += 1;
            SegmentIndex::new(SEGMENT_HEADER_BYTES as u64, meta.base_offset)
        });
        index.used_at = state.uses;
        choose(index)
    }

    /// A batch was seen: the index learns of it.
    fn saw(
        &self,
        key: PartitionKey,
        meta: &SegmentMeta,
        position: u64,
        len: u64,
        base_offset: i64,
        max_timestamp: i64,
    ) {
        let state = &mut *self.state.borrow_mut();
        if let Some(index) = state.indexes.get_mut(&(key, meta.base_offset)) {
            let before = index.len();
            index.saw(position, len, base_offset, max_timestamp);
            state.marks += index.len() - before;
        }
        while state.marks > SEGMENT_INDEX_MARKS_MAX && state.indexes.len() > 1 {
            let oldest = state.indexes.iter().min_by_key(|(_, index)| index.used_at);
            let Some(oldest) = oldest.map(|(name, _)| *name) else {
                return;
            };
            if let Some(index) = state.indexes.remove(&oldest) {
                state.marks -= index.len();
            }
        }
    }

    fn cached(&self, key: PartitionKey, base_offset: i64) -> Option<D::File> {
        let state = &mut *self.state.borrow_mut();
        state.uses += 1;
        let open = state.open.get_mut(&(key, base_offset))?;
        open.used_at = state.uses;
        Some(open.file.clone())
    }

    fn cache(&self, key: PartitionKey, base_offset: i64, file: D::File) {
        let state = &mut *self.state.borrow_mut();
        if state.open.len() >= OPEN_SEGMENTS_MAX {
            let oldest = state.open.iter().min_by_key(|(_, open)| open.used_at);
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                state.open.remove(&oldest);
            }
        }
        state.uses += 1;
        state.open.insert((key, base_offset), OpenSegment { file, used_at: state.uses });
    }
}
