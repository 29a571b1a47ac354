//! Offsets that open transactions are about to commit. Whether one counts in the end is a matter of
//! order, as in Kafka: of all commits of a partition the last one counts, and the place of a
//! transactional one is where it was sent, not where its transaction ended. Decides nothing else.
//!
//! ```text
//! pending offsets u32 x (group str | producer id i64 | u32 x (key | entry u64 | committed offset))
//! ```
//! The entry is the place of the commit, 0 when a later one has taken that.

use super::fact::{KEY_BYTES, OFFSET_BYTES_MIN};
use crate::codec::{CodecError, Take, put_count, put_partition, put_string};
use crate::offsets::CommittedOffset;
use crate::units::{EntrySeq, PartitionKey};
use bytes::BufMut;
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

/// One offset, and where it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    at: EntrySeq,
    offset: CommittedOffset,
}

type Offsets = BTreeMap<PartitionKey, Pending>;

/// By group, then by producer id.
#[derive(Debug, Default)]
pub(crate) struct PendingOffsets {
    by_group: BTreeMap<String, BTreeMap<i64, Offsets>>,
    len: usize,
}

/// A later commit counts instead.
const OVERTAKEN: EntrySeq = EntrySeq(0);
/// Where a commit stands of which a snapshot of before version 6 does not say it.
const LONG_AGO: EntrySeq = EntrySeq(1);

impl PendingOffsets {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Partitions of a group with offsets that wait.
    pub(crate) fn of(&self, group: &str) -> usize {
        self.by_group.get(group).map_or(0, |of| of.values().map(BTreeMap::len).sum())
    }

    pub(crate) fn has(&self, group: &str, key: PartitionKey) -> bool {
        let of = self.by_group.get(group);
        of.is_some_and(|of| of.values().any(|offsets| offsets.contains_key(&key)))
    }

    pub(crate) fn add(
        &mut self,
        at: EntrySeq,
        producer_id: i64,
        group: &str,
        offsets: &[(PartitionKey, CommittedOffset)],
    ) {
        let of = self.by_group.entry(group.to_owned()).or_default();
        let own = of.entry(producer_id).or_default();
        let before = own.len();
        let offset = |(key, offset): &(PartitionKey, CommittedOffset)| {
            (*key, Pending { at, offset: offset.clone() })
        };
        own.extend(offsets.iter().map(offset));
        self.len += own.len() - before;
    }

    /// The transaction of a producer ends: what it would commit that nothing later has overtaken.
    pub(crate) fn end(
        &mut self,
        group: &str,
        producer_id: i64,
        is_commit: bool,
    ) -> Vec<(PartitionKey, CommittedOffset)> {
        let Some(of) = self.by_group.get_mut(group) else { return Vec::new() };
        let mut own = of.remove(&producer_id).unwrap_or_default();
        self.len -= own.len();
        if of.is_empty() {
            self.by_group.remove(group);
        }
        own.retain(|_, pending| is_commit && pending.at != OVERTAKEN);
        for (key, pending) in &own {
            self.overtake(group, *key, pending.at);
        }
        own.into_iter().map(|(key, pending)| (key, pending.offset)).collect()
    }

    /// A commit that counts stands at `at`: those before it do not any more.
    pub(crate) fn overtake(&mut self, group: &str, key: PartitionKey, at: EntrySeq) {
        let of = self.by_group.get_mut(group);
        for pending in
            of.into_iter().flat_map(BTreeMap::values_mut).filter_map(|own| own.get_mut(&key))
        {
            if pending.at < at {
                pending.at = OVERTAKEN;
            }
        }
    }

    /// The offsets of a group were deleted. `None`: all of them.
    pub(crate) fn delete(&mut self, group: &str, keys: Option<&[PartitionKey]>) {
        self.retain(|own, key| own != group || keys.is_some_and(|keys| !keys.contains(key)));
    }

    pub(crate) fn delete_topic(&mut self, topic_id: Uuid) {
        self.retain(|_, key| key.topic_id != topic_id);
    }

    fn retain(&mut self, keeps: impl Fn(&str, &PartitionKey) -> bool) {
        let mut left = 0;
        self.by_group.retain(|group, of| {
            of.retain(|_, own| {
                own.retain(|key, _| keeps(group, key));
                left += own.len();
                !own.is_empty()
            });
            !of.is_empty()
        });
        self.len = left;
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        let all = || self.by_group.iter().flat_map(|(g, of)| of.iter().map(move |own| (g, own)));
        put_count(out, all().count());
        for (group, (producer_id, own)) in all() {
            put_string(out, group);
            out.put_i64_le(*producer_id);
            put_count(out, own.len());
            for (key, pending) in own {
                put_partition(out, key);
                out.put_u64_le(pending.at.0);
                pending.offset.put(out);
            }
        }
    }

    /// `has_places`: from version 6 of the snapshot on.
    pub(crate) fn take(take: &mut Take, has_places: bool) -> Result<PendingOffsets, CodecError> {
        let mut pending = PendingOffsets::default();
        for _ in 0..take.count("pending offsets", 16)? {
            let group = take.string("group")?;
            let producer_id = take.i64("producer id")?;
            let mut own = Offsets::new();
            for _ in 0..take.count("offsets of a transaction", KEY_BYTES + OFFSET_BYTES_MIN)? {
                let key = take.partition()?;
                let at = if has_places { EntrySeq(take.u64("entry")?) } else { LONG_AGO };
                own.insert(key, Pending { at, offset: CommittedOffset::take(take)? });
            }
            pending.len += own.len();
            pending.by_group.entry(group).or_default().insert(producer_id, own);
        }
        Ok(pending)
    }
}
