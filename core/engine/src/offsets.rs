//! The offsets that consumer groups committed. Holds what the journal holds, no more; whether the
//! newest commits are durable yet is the caller's to ask (`last_entry`).

use crate::codec::{CodecError, Take, put_count, put_option_string, put_partition, put_string};
use crate::units::{EntrySeq, PartitionKey};
use bytes::BufMut;
use millpond_wire::limits;
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An offset that a group committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to consume.
    pub offset: i64,
    /// Of the last consumed record, -1 when the client did not say.
    pub leader_epoch: i32,
    /// When, milliseconds since 1970.
    pub commit_timestamp_ms: i64,
    /// The client's own words.
    pub metadata: Option<String>,
}

impl CommittedOffset {
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_i64_le(self.offset);
        out.put_i32_le(self.leader_epoch);
        out.put_i64_le(self.commit_timestamp_ms);
        put_option_string(out, self.metadata.as_deref());
    }

    pub(crate) fn take(take: &mut Take) -> Result<CommittedOffset, CodecError> {
        Ok(CommittedOffset {
            offset: take.i64("committed offset")?,
            leader_epoch: take.i32("leader epoch")?,
            commit_timestamp_ms: take.i64("commit time")?,
            metadata: take.option_string("commit metadata")?,
        })
    }
}

/// Committed offsets of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupOffsets {
    /// By partition.
    pub offsets: BTreeMap<PartitionKey, CommittedOffset>,
    /// When those expire that came with a time of their own (OffsetCommit 2 to 4), milliseconds
    /// since 1970.
    pub(crate) expiries: BTreeMap<PartitionKey, i64>,
    /// The entry of the newest commit.
    pub(crate) last_entry: EntrySeq,
}

/// Committed offsets of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetStore {
    /// Shared with clones until one changes.
    groups: BTreeMap<String, Arc<GroupOffsets>>,
    total: usize,
}

impl OffsetStore {
    /// By group id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &GroupOffsets)> {
        self.groups.iter().map(|(id, group)| (id.as_str(), group.as_ref()))
    }

    /// The offsets of a group that has committed any.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<&GroupOffsets> {
        self.groups.get(id).map(Arc::as_ref)
    }

    /// One committed offset.
    #[must_use]
    pub fn get(&self, group: &str, key: PartitionKey) -> Option<&CommittedOffset> {
        self.groups.get(group)?.offsets.get(&key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether `more` offsets of partitions new to this group fit the caps.
    pub(crate) fn has_room(&self, group: &str, more: usize) -> bool {
        let (own, known) = match self.groups.get(group) {
            Some(group) => (group.offsets.len(), true),
            None => (0, false),
        };
        own + more <= limits::GROUP_OFFSETS_MAX
            && self.total + more <= limits::OFFSETS_MAX
            && (known || self.groups.len() < limits::GROUPS_MAX)
    }

    pub(crate) fn commit(
        &mut self,
        seq: EntrySeq,
        group: &str,
        offsets: &[(PartitionKey, CommittedOffset)],
    ) {
        let entry = match self.groups.get_mut(group) {
            Some(entry) => entry,
            None => self.groups.entry(group.to_owned()).or_default(),
        };
        let entry = Arc::make_mut(entry);
        entry.last_entry = seq;
        for (key, offset) in offsets {
            entry.expiries.remove(key);
            if entry.offsets.insert(*key, offset.clone()).is_none() {
                self.total += 1;
            }
        }
    }

    /// These offsets, as they are now, expire at a time of their own.
    pub(crate) fn expire_at(&mut self, group: &str, at_ms: i64, keys: &[PartitionKey]) {
        let Some(entry) = self.groups.get_mut(group).map(Arc::make_mut) else { return };
        for key in keys.iter().filter(|key| entry.offsets.contains_key(key)) {
            entry.expiries.insert(*key, at_ms);
        }
    }

    /// Offsets with a time of their own, by that time.
    pub(crate) fn put_expiries(&self, out: &mut impl BufMut) {
        let groups = || self.groups.iter().filter(|(_, group)| !group.expiries.is_empty());
        put_count(out, groups().count());
        for (id, group) in groups() {
            put_string(out, id);
            put_count(out, group.expiries.len());
            for (key, at_ms) in &group.expiries {
                put_partition(out, key);
                out.put_i64_le(*at_ms);
            }
        }
    }

    pub(crate) fn take_expiries(&mut self, take: &mut Take) -> Result<(), CodecError> {
        for _ in 0..take.count("groups with expiries", 4 + 4)? {
            let group = take.string("group")?;
            for _ in 0..take.count("expiries", 16 + 4 + 8)? {
                let key = take.partition()?;
                self.expire_at(&group, take.i64("expiry")?, &[key]);
            }
        }
        Ok(())
    }

    /// `None`: all of the group.
    pub(crate) fn delete(&mut self, group: &str, partitions: Option<&[PartitionKey]>) {
        match partitions {
            None => {
                let gone = self.groups.remove(group);
                self.total -= gone.map_or(0, |group| group.offsets.len());
            }
            Some(keys) => {
                let Some(entry) = self.groups.get_mut(group).map(Arc::make_mut) else { return };
                for key in keys {
                    entry.expiries.remove(key);
                    self.total -= usize::from(entry.offsets.remove(key).is_some());
                }
                if entry.offsets.is_empty() {
                    self.groups.remove(group);
                }
            }
        }
    }

    pub(crate) fn delete_topic(&mut self, topic_id: Uuid) {
        let mut removed = 0;
        self.groups.retain(|_, group| {
            if !group.offsets.keys().any(|key| key.topic_id == topic_id) {
                return true;
            }
            let group = Arc::make_mut(group);
            let before = group.offsets.len();
            group.offsets.retain(|key, _| key.topic_id != topic_id);
            group.expiries.retain(|key, _| key.topic_id != topic_id);
            removed += before - group.offsets.len();
            !group.offsets.is_empty()
        });
        self.total -= removed;
    }

    pub(crate) fn restore(&mut self, id: String, group: GroupOffsets) {
        self.total += group.offsets.len();
        self.groups.insert(id, Arc::new(group));
    }
}
