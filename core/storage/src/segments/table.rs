//! Which segments there are and how much of each is to be trusted: the part of storage that a
//! checkpoint keeps beside the engine's snapshot. Plain data; it touches no disk.

use std::collections::BTreeMap;

use millpond_engine::PartitionKey;

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// No batch in it begins below this offset; also its name.
    pub base_offset: i64,
    /// The offset after its last record.
    pub end_offset: i64,
    /// Bytes from the start of the file that a checkpoint vouches for, header included.
    pub trusted_bytes: u64,
    /// The greatest timestamp of its records, ms since 1970.
    pub max_timestamp: i64,
}

/// All segments, by partition, in order of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentTable {
    partitions: BTreeMap<PartitionKey, Vec<SegmentMeta>>,
}

impl SegmentTable {
    /// The segments of a partition.
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

    /// Adds a segment, or replaces the one of the same base offset. Segments are given in order.
    pub fn put(&mut self, key: PartitionKey, meta: SegmentMeta) {
        let metas = self.partitions.entry(key).or_default();
        match metas.last_mut() {
            Some(last) if last.base_offset == meta.base_offset => *last = meta,
            _ => metas.push(meta),
        }
    }

    /// Forgets a partition.
    pub fn remove(&mut self, key: PartitionKey) {
        self.partitions.remove(&key);
    }

    /// The segments from the one that may hold `offset` on.
    pub fn from_offset(&self, key: PartitionKey, offset: i64) -> &[SegmentMeta] {
        let metas = self.of(key);
        let first = metas.partition_point(|meta| meta.end_offset <= offset);
        &metas[first..]
    }
}
