//! Which segments there are and how much of each is to be trusted: the part of storage that a
//! checkpoint keeps beside the engine's snapshot. Plain data; it touches no disk.

use std::collections::{BTreeMap, BTreeSet};

use millpond_engine::PartitionKey;

/// What a segment is called within its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// No batch in it begins below this offset.
    pub base_offset: i64,
    /// Tells rewritten segments of one base offset apart: 0 for one that was written as the
    /// records came, else a number that no other segment of the node has.
    pub generation: u32,
}

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// No batch in it begins below this offset; also its name.
    pub base_offset: i64,
    /// See [`SegmentName::generation`].
    pub generation: u32,
    /// The offset after its last record.
    pub end_offset: i64,
    /// Bytes from the start of the file that a checkpoint vouches for, header and padding
    /// included.
    pub trusted_bytes: u64,
    /// The greatest timestamp of its records, ms since 1970; `i64::MIN` without records.
    pub max_timestamp: i64,
    /// Records in it; 0 if it was written by version 1, which did not count them.
    pub records: u64,
    /// Whether it holds batches in a codec that the broker chose.
    pub is_packed: bool,
    /// Whether compaction made it: no key stands in it twice.
    pub is_clean: bool,
}

impl SegmentMeta {
    /// A segment in which nothing is written yet.
    #[must_use]
    pub fn empty(name: SegmentName) -> SegmentMeta {
        SegmentMeta {
            base_offset: name.base_offset,
            generation: name.generation,
            end_offset: name.base_offset,
            trusted_bytes: 0,
            max_timestamp: i64::MIN,
            records: 0,
            is_packed: false,
            is_clean: false,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> SegmentName {
        SegmentName { base_offset: self.base_offset, generation: self.generation }
    }
}

/// Segments that take the place of others of their partition: what compaction and repacking make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Whose segments.
    pub partition: PartitionKey,
    /// What was read, as the table had it then: if one of them has changed or is gone, the
    /// replacement is dropped.
    pub remove: Vec<SegmentMeta>,
    /// What stands in their place: written and synced, directory entries included. None of them
    /// reaches beyond the offsets of `remove`.
    pub add: Vec<SegmentMeta>,
}

/// All segments, by partition, in order of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentTable {
    partitions: BTreeMap<PartitionKey, Vec<SegmentMeta>>,
}

impl SegmentTable {
    /// The segments of a partition, in order of their offsets.
    pub fn of(&self, key: PartitionKey) -> &[SegmentMeta] {
        self.partitions.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Every segment.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionKey, &SegmentMeta)> {
        self.partitions.iter().flat_map(|(key, metas)| metas.iter().map(move |meta| (*key, meta)))
    }

    /// The partitions that have segments.
    pub fn keys(&self) -> impl Iterator<Item = PartitionKey> {
        self.partitions.keys().copied()
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        self.partitions.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.iter().map(|(_, meta)| meta.trusted_bytes).sum()
    }

    /// The names of all segments.
    pub fn names(&self) -> BTreeSet<(PartitionKey, SegmentName)> {
        self.iter().map(|(key, meta)| (key, meta.name())).collect()
    }

    /// Whether this very segment is there, at any length.
    pub fn holds(&self, key: PartitionKey, name: SegmentName) -> bool {
        self.of(key).binary_search_by_key(&name, SegmentMeta::name).is_ok()
    }

    /// Adds a segment, or replaces the one of the same name.
    pub fn put(&mut self, key: PartitionKey, meta: SegmentMeta) {
        let metas = self.partitions.entry(key).or_default();
        let at = metas.partition_point(|other| other.name() < meta.name());
        match metas.get_mut(at) {
            Some(same) if same.name() == meta.name() => *same = meta,
            _ => metas.insert(at, meta),
        }
    }

    /// Forgets a partition.
    pub fn remove(&mut self, key: PartitionKey) {
        self.partitions.remove(&key);
    }

    /// Forgets the segments of a partition that lie wholly below where its log begins.
    pub fn trim(&mut self, key: PartitionKey, log_start: i64) {
        if let Some(metas) = self.partitions.get_mut(&key) {
            metas.retain(|meta| meta.end_offset > log_start);
            if metas.is_empty() {
                self.partitions.remove(&key);
            }
        }
    }

    /// Puts a replacement in force; false, and nothing is changed, if what it replaces is not
    /// there any more as it was.
    pub fn replace(&mut self, replacement: &Replacement) -> bool {
        let Replacement { partition, remove, add } = replacement;
        let metas = self.of(*partition);
        if !remove.iter().all(|meta| metas.contains(meta)) {
            return false;
        }
        let mut kept: Vec<_> =
            metas.iter().filter(|meta| !remove.contains(meta)).copied().collect();
        kept.extend(add);
        kept.sort_by_key(SegmentMeta::name);
        if kept.is_empty() {
            self.partitions.remove(partition);
        } else {
            self.partitions.insert(*partition, kept);
        }
        true
    }

    /// The segments from the one that may hold `offset` on.
    pub fn from_offset(&self, key: PartitionKey, offset: i64) -> &[SegmentMeta] {
        let metas = self.of(key);
        let first = metas.partition_point(|meta| meta.end_offset <= offset);
        &metas[first..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_wire::uuid::Uuid;

    const KEY: PartitionKey = PartitionKey { topic_id: Uuid([1; 16]), partition: 0 };

    fn meta(base_offset: i64, generation: u32) -> SegmentMeta {
        let empty = SegmentMeta::empty(SegmentName { base_offset, generation });
        SegmentMeta { end_offset: base_offset + 10, trusted_bytes: 4096, ..empty }
    }

    fn sample() -> SegmentTable {
        let mut table = SegmentTable::default();
        for base in [0, 10, 20, 30] {
            table.put(KEY, meta(base, 0));
        }
        table
    }

    #[test]
    fn what_lies_below_the_log_start_goes_and_nothing_else() {
        let mut table = sample();
        table.trim(KEY, 19);
        assert_eq!(table.of(KEY), [meta(10, 0), meta(20, 0), meta(30, 0)]);
        table.trim(KEY, 20);
        assert_eq!(table.of(KEY), [meta(20, 0), meta(30, 0)]);
        table.trim(KEY, 1000);
        assert!(table.is_empty());
    }

    #[test]
    fn a_replacement_counts_only_while_what_it_replaces_is_as_it_was() {
        let mut table = sample();
        let replacement = Replacement {
            partition: KEY,
            remove: vec![meta(10, 0), meta(20, 0)],
            add: vec![SegmentMeta { end_offset: 30, ..meta(10, 7) }],
        };
        assert!(table.replace(&replacement));
        let bases: Vec<_> = table.of(KEY).iter().map(SegmentMeta::name).collect();
        let name = |base_offset, generation| SegmentName { base_offset, generation };
        assert_eq!(bases, [name(0, 0), name(10, 7), name(30, 0)]);
        let before = table.clone();
        assert!(!table.replace(&replacement), "they are gone");
        let grown = SegmentMeta { end_offset: 44, ..meta(30, 0) };
        table.put(KEY, grown);
        let late = Replacement { partition: KEY, remove: vec![meta(30, 0)], add: Vec::new() };
        assert!(!table.replace(&late), "it has grown since");
        assert_ne!(table, before);
        assert_eq!(table.of(KEY).last(), Some(&grown));
    }
}
