//! From one checkpoint's segments to the next one's: what is staged, what is dropped, which files
//! go. It never removes a file that the newest durable checkpoint names.

use std::collections::{BTreeMap, BTreeSet};

use millpond_engine::PartitionKey;

use super::format::{TOPICS_DIR, index_path, partition_dir, segment_path, topic_dir};
use super::index::SegmentIndex;
use super::table::{Replacement, SegmentMeta, SegmentName, SegmentTable};
use super::writer::WrittenSegment;
use super::{SegmentId, Segments};
use crate::disk::{Disk, DiskError};
use crate::metrics::WriteCause;

/// The table that a checkpoint will name, in the making.
pub(crate) struct Draft {
    pub(crate) table: SegmentTable,
    /// The indexes of what was written for it.
    pub(crate) written: Vec<(SegmentId, SegmentIndex)>,
    /// Replacements that it holds: staged again if the checkpoint does not come about.
    replacements: Vec<Replacement>,
}

impl Draft {
    /// Notes a segment that is new or longer.
    pub(crate) fn put(&mut self, key: PartitionKey, segment: WrittenSegment) {
        let WrittenSegment { meta, index } = segment;
        self.table.put(key, meta);
        self.written.push(((key, meta.name()), index));
    }
}

impl<D: Disk> Segments<D> {
    /// Hands over a replacement for the next checkpoint. Its new segments are on the device, their
    /// directory entries too. Dropped, and the new files removed, if what it replaces is not there
    /// any more as it was.
    pub fn stage(&self, replacement: Replacement) {
        self.state.borrow_mut().staged.push(replacement);
    }

    /// Removes new segments that will not be staged after all.
    pub(crate) async fn discard(
        &self,
        key: PartitionKey,
        names: &[SegmentName],
    ) -> Result<(), DiskError> {
        self.remove_files(names.iter().map(|name| (key, *name)).collect()).await
    }

    /// Whether a replacement of this partition waits for a checkpoint.
    pub fn is_staged(&self, key: PartitionKey) -> bool {
        self.state.borrow().staged.iter().any(|staged| staged.partition == key)
    }

    /// The table of a checkpoint of this moment, before anything is flushed for it: without the
    /// partitions that are not among `log_starts`, without what lies below where a log starts, with
    /// the staged replacements. Nothing replaces a segment that is `in_use`: more is in it than the
    /// table says.
    pub(crate) async fn draft(
        &self,
        log_starts: &BTreeMap<PartitionKey, i64>,
        in_use: &BTreeSet<SegmentId>,
    ) -> Result<Draft, DiskError> {
        let (draft, obsolete) = {
            let state = &mut *self.state.borrow_mut();
            let mut table = state.table.clone();
            for key in state.table.keys() {
                match log_starts.get(&key) {
                    Some(log_start) => table.trim(key, *log_start),
                    None => table.remove(key),
                }
            }
            let mut replacements = Vec::new();
            let mut obsolete = Vec::new();
            for staged in std::mem::take(&mut state.staged) {
                let key = staged.partition;
                let is_free = |meta: &SegmentMeta| !in_use.contains(&(key, meta.name()));
                if staged.remove.iter().all(is_free) && table.replace(&staged) {
                    replacements.push(staged);
                } else {
                    obsolete.push(staged);
                }
            }
            (Draft { table, written: Vec::new(), replacements }, obsolete)
        };
        let files = obsolete.iter().flat_map(|replacement| {
            let key = replacement.partition;
            replacement.add.iter().map(move |meta| (key, meta.name()))
        });
        self.remove_files(files.collect()).await?;
        Ok(draft)
    }

    /// The checkpoint of this draft did not come about: its replacements wait for the next one.
    pub(crate) fn abandon(&self, draft: Draft) {
        self.state.borrow_mut().staged.extend(draft.replacements);
    }

    /// A checkpoint with this table is durable: reads use it from now on, with the indexes of what
    /// was `written` for it, and the files that only the one before it named go. `log_starts` has
    /// the partitions that there are; files of segments `in_use` stay.
    pub(crate) async fn publish(
        &self,
        table: SegmentTable,
        written: Vec<(SegmentId, SegmentIndex)>,
        log_starts: &BTreeMap<PartitionKey, i64>,
        in_use: &BTreeSet<SegmentId>,
    ) -> Result<(), DiskError> {
        let gone: BTreeSet<SegmentId> = {
            let state = &mut *self.state.borrow_mut();
            let before = state.table.iter().map(|(key, meta)| (key, meta.name()));
            // Batches that were recovered are elsewhere now, and the journal has forgotten them.
            let recovered = std::mem::take(&mut state.recovered);
            let gone = before.chain(recovered);
            let gone = gone.filter(|id| !table.holds(id.0, id.1) && !in_use.contains(id)).collect();
            state.open.retain(|(key, name), _| table.holds(*key, *name));
            state.indexes.retain(|(key, name), _| table.holds(*key, *name));
            state.table = table;
            state.marks = state.indexes.values().map(SegmentIndex::len).sum();
            for (id, index) in written {
                state.learn(id, index);
            }
            gone
        };
        let is_dead = |(key, _): &SegmentId| !log_starts.contains_key(key);
        let (dead, replaced): (BTreeSet<_>, BTreeSet<_>) = gone.into_iter().partition(is_dead);
        self.remove_files(replaced).await?;
        let dead = dead.into_iter().map(|(key, _)| key).collect();
        self.remove_partitions(&dead, log_starts).await
    }

    /// Removes, without a checkpoint, the files of segments that no start would read any more: those
    /// below `starts`, which are durable, and those of the partitions `dead`. The newest checkpoint
    /// still names them; a start forgets them before it looks. Those `in_use` stay.
    pub(crate) async fn trim_now(
        &self,
        starts: &BTreeMap<PartitionKey, i64>,
        dead: &BTreeSet<PartitionKey>,
        in_use: &BTreeSet<SegmentId>,
    ) -> Result<usize, DiskError> {
        let mut dead = dead.clone();
        let gone = {
            let state = &mut *self.state.borrow_mut();
            // A start would look there for batches of the journal.
            let needed = state.recovered.union(in_use).copied().collect::<BTreeSet<_>>();
            dead.retain(|key| !needed.iter().any(|(needed, _)| needed == key));
            let before = state.table.names();
            for (key, start) in starts {
                state.table.trim(*key, *start);
            }
            for key in &dead {
                state.table.remove(*key);
            }
            let mut names = state.table.names();
            names.extend(needed);
            state.open.retain(|id, _| names.contains(id));
            state.indexes.retain(|id, _| names.contains(id));
            state.marks = state.indexes.values().map(SegmentIndex::len).sum();
            before.difference(&names).copied().collect::<BTreeSet<_>>()
        };
        let count = gone.len();
        let is_alive = |(key, _): &SegmentId| !dead.contains(key);
        self.remove_files(gone.into_iter().filter(is_alive).collect()).await?;
        self.remove_partitions(&dead, starts).await?;
        Ok(count)
    }

    /// Removes files of segments, then syncs each directory once.
    async fn remove_files(&self, files: BTreeSet<SegmentId>) -> Result<(), DiskError> {
        let mut dirs = BTreeSet::new();
        for (key, name) in files {
            self.disk.remove_file(&segment_path(key, name)).await?;
            self.disk.remove_file(&index_path(key, name)).await?;
            dirs.insert(partition_dir(key));
        }
        for dir in dirs {
            match self.disk.sync_dir(&dir).await {
                Ok(()) => self.meter.synced(WriteCause::Metadata),
                // The topic is gone, and with it the directory.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes directories of partitions, and of topics of which no partition is left.
    async fn remove_partitions(
        &self,
        gone: &BTreeSet<PartitionKey>,
        log_starts: &BTreeMap<PartitionKey, i64>,
    ) -> Result<(), DiskError> {
        let topics: BTreeSet<_> = gone.iter().map(|key| key.topic_id).collect();
        for topic_id in topics {
            let is_empty = !log_starts.keys().any(|key| key.topic_id == topic_id);
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
}
