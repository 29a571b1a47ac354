//! Segments: per partition, files of record batches, written behind at checkpoints and read for
//! history. They are trusted only up to the lengths that a checkpoint names, and must never be
//! needed for an acknowledgement.

mod flush;
pub mod format;
mod index;
mod publish;
mod read;
mod table;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millpond_engine::PartitionKey;
use millpond_wire::limits::{OPEN_SEGMENTS_MAX, SEGMENT_INDEX_MARKS_MAX};
use millpond_wire::record::BatchHeader;

pub(crate) use flush::Flush;
pub(crate) use publish::Draft;
pub use table::{Replacement, SegmentMeta, SegmentName, SegmentTable};
pub use walk::{Fault, Walk};
pub use writer::{SegmentWriter, WrittenSegment};

use crate::disk::{Disk, DiskError};
use crate::metrics::Meter;
use format::{SEGMENT_HEADER_BYTES, SUFFIX, TOPICS_DIR, segment_path};
use index::{Mark, SegmentIndex};

/// All segments of a node.
pub struct Segments<D: Disk> {
    disk: D,
    meter: Rc<Meter>,
    segment_bytes: usize,
    state: RefCell<State<D::File>>,
}

/// A segment among all of the node.
type SegmentId = (PartitionKey, SegmentName);

struct State<F> {
    table: SegmentTable,
    /// Wait for the next checkpoint.
    staged: Vec<Replacement>,
    /// No segment has this generation or a higher one.
    next_generation: u32,
    indexes: BTreeMap<SegmentId, SegmentIndex>,
    open: BTreeMap<SegmentId, OpenSegment<F>>,
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
        let highest = table.iter().map(|(_, meta)| meta.generation).max();
        let state = State {
            next_generation: highest.unwrap_or(0).saturating_add(1),
            table,
            staged: Vec::new(),
            indexes: BTreeMap::new(),
            open: BTreeMap::new(),
            uses: 0,
            marks: 0,
        };
        Segments { disk, meter, segment_bytes, state: RefCell::new(state) }
    }

    /// Looks at the segments that the newest checkpoint names. Not to be kept over an `await`.
    pub(crate) fn with_table<R>(&self, look: impl FnOnce(&SegmentTable) -> R) -> R {
        look(&self.state.borrow().table)
    }

    /// A generation for a segment that takes the place of others: no other one has it.
    pub fn fresh_generation(&self) -> u32 {
        let mut state = self.state.borrow_mut();
        let generation = state.next_generation;
        state.next_generation = generation.saturating_add(1);
        generation
    }

    /// Removes files that no checkpoint names: of a checkpoint that was cut off, or of a topic
    /// whose deletion was. Called after a recovery that succeeded, before anything is written.
    pub(crate) async fn remove_strays(&self) -> Result<usize, DiskError> {
        let names = self.with_table(SegmentTable::names);
        let known: BTreeSet<String> =
            names.into_iter().map(|(key, name)| segment_path(key, name)).collect();
        let mut strays = 0;
        for topic in self.disk.list(TOPICS_DIR).await? {
            let topic_path = format!("{TOPICS_DIR}/{}", topic.name);
            for partition in self.disk.list(&topic_path).await? {
                let dir = format!("{topic_path}/{}", partition.name);
                for file in self.disk.list(&dir).await? {
                    let path = format!("{dir}/{}", file.name);
                    if !known.contains(&path) && path.ends_with(SUFFIX) {
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
        let index = state.indexes.entry((key, meta.name())).or_insert_with(|| {
            state.marks += 1;
            SegmentIndex::new(SEGMENT_HEADER_BYTES as u64, meta.base_offset)
        });
        index.used_at = state.uses;
        choose(index)
    }

    /// A batch was seen: the index learns of it.
    fn saw(&self, id: SegmentId, position: u64, len: u64, header: &BatchHeader) {
        let state = &mut *self.state.borrow_mut();
        if let Some(index) = state.indexes.get_mut(&id) {
            let before = index.len();
            index.saw(position, len, header.base_offset, header.max_timestamp);
            state.marks += index.len() - before;
            state.bound_indexes();
        }
    }

    /// There is no batch between these two positions.
    fn passed(&self, id: SegmentId, from: u64, to: u64) {
        if let Some(index) = self.state.borrow_mut().indexes.get_mut(&id) {
            index.passed(from, to);
        }
    }

    fn forget_index(&self, id: SegmentId) {
        let state = &mut *self.state.borrow_mut();
        if let Some(index) = state.indexes.remove(&id) {
            state.marks -= index.len();
        }
    }

    fn cached(&self, id: SegmentId) -> Option<D::File> {
        let state = &mut *self.state.borrow_mut();
        state.uses += 1;
        let open = state.open.get_mut(&id)?;
        open.used_at = state.uses;
        Some(open.file.clone())
    }

    fn cache(&self, id: SegmentId, file: D::File) {
        let state = &mut *self.state.borrow_mut();
        if state.open.len() >= OPEN_SEGMENTS_MAX {
            let oldest = state.open.iter().min_by_key(|(_, open)| open.used_at);
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                state.open.remove(&oldest);
            }
        }
        state.uses += 1;
        state.open.insert(id, OpenSegment { file, used_at: state.uses });
    }
}

impl<F> State<F> {
    /// Learns the index of what was just written.
    fn learn(&mut self, id: SegmentId, written: SegmentIndex) {
        self.uses += 1;
        let mut index = match self.indexes.remove(&id) {
            Some(mut known) => {
                self.marks -= known.len();
                // One that does not reach so far learns the rest when it is read.
                known.extend(written);
                known
            }
            None if written.is_from_start() => written,
            None => return,
        };
        index.used_at = self.uses;
        self.marks += index.len();
        self.indexes.insert(id, index);
        self.bound_indexes();
    }

    /// Forgets the indexes that were unused longest.
    fn bound_indexes(&mut self) {
        while self.marks > SEGMENT_INDEX_MARKS_MAX && self.indexes.len() > 1 {
            let oldest = self.indexes.iter().min_by_key(|(_, index)| index.used_at);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            if let Some(index) = self.indexes.remove(&oldest) {
                self.marks -= index.len();
            }
        }
    }
}
