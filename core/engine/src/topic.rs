//! Topics: names, ids, configurations and their partitions; the catalogue of all of them.
//! Decides nothing about records.

use crate::broker_config::TopicDefaults;
use crate::partition::Partition;
use crate::retention::{DropCause, DroppedRecords};
use crate::topic_config;
use crate::units::{PartitionKey, TransformId};
use millpond_wire::limits;
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Never used for another topic.
    pub id: Uuid,
    /// Unique among those that exist.
    pub name: String,
    /// Only what differs from the defaults.
    pub configs: BTreeMap<String, String>,
    /// By index.
    pub partitions: Vec<Partition>,
    /// The transforms that run inline, in order.
    pub(crate) chain: Vec<TransformId>,
    /// What it lost to its settings since the start of the process.
    pub(crate) dropped: DroppedRecords,
    /// What the broker's settings say where the topic does not.
    pub(crate) defaults: TopicDefaults,
}

impl Topic {
    /// The value of a configuration as given, or else the broker's or the default. Empty for an
    /// unknown name.
    #[must_use]
    pub fn config(&self, name: &str) -> &str {
        match self.given(name) {
            Some(value) => value,
            None => topic_config::find(name).map_or("", |config| config.default),
        }
    }

    /// The value of a configuration where the topic or the broker says something: what is asked for
    /// with every batch need not look up defaults.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.configs.get(name).or_else(|| self.defaults.get(name)).map(String::as_str)
    }

    /// Largest record batch, in bytes: the topic's own setting or else the node's.
    pub(crate) fn max_message_bytes(&self, node_default: i32) -> usize {
        let own = self.given(topic_config::MAX_MESSAGE_BYTES).and_then(|value| value.parse().ok());
        usize::try_from(own.unwrap_or(node_default)).unwrap_or(0).min(limits::BATCH_BYTES_MAX)
    }

    pub(crate) fn has_log_append_time(&self) -> bool {
        self.given(topic_config::MESSAGE_TIMESTAMP_TYPE) == Some("LogAppendTime")
    }

    /// Whether `cleanup.policy` lets old segments go.
    pub(crate) fn deletes_old_segments(&self) -> bool {
        self.config(topic_config::CLEANUP_POLICY).split(',').any(|policy| policy.trim() == "delete")
    }

    /// `retention.ms`; `None`: no limit.
    pub(crate) fn retention_ms(&self) -> Option<i64> {
        self.config(topic_config::RETENTION_MS).parse().ok().filter(|ms| *ms >= 0)
    }

    /// `retention.bytes`; `None`: no limit.
    pub(crate) fn retention_bytes(&self) -> Option<u64> {
        self.config(topic_config::RETENTION_BYTES).parse().ok()
    }

    /// `segment.bytes`.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.config(topic_config::SEGMENT_BYTES).parse().unwrap_or(u64::MAX)
    }

    /// `segment.ms`.
    pub(crate) fn segment_ms(&self) -> u64 {
        self.config(topic_config::SEGMENT_MS).parse().unwrap_or(u64::MAX)
    }

    /// `millpond.priority`: lower ones are refused and dropped first.
    pub(crate) fn priority(&self) -> u8 {
        self.config(topic_config::PRIORITY).parse().unwrap_or(0)
    }

    /// Whether its oldest records make room when the node is full (`millpond.on.full`).
    pub(crate) fn drops_oldest(&self) -> bool {
        self.config(topic_config::ON_FULL) == "drop-oldest"
    }

    /// Bytes of the segments of all its partitions.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.partitions.iter().map(Partition::stored_bytes).sum()
    }

    /// What it lost to its settings since the start of the process.
    #[must_use]
    pub fn dropped(&self) -> DroppedRecords {
        self.dropped
    }

    pub(crate) fn note_dropped(&mut self, cause: DropCause, records: u64, bytes: u64) {
        match cause {
            DropCause::Retention => {
                self.dropped.retention_records += records;
                self.dropped.retention_bytes += bytes;
            }
            DropCause::Space => {
                self.dropped.space_records += records;
                self.dropped.space_bytes += bytes;
            }
            DropCause::Request => {}
        }
    }

    /// The keys of all partitions.
    pub fn keys(&self) -> impl Iterator<Item = PartitionKey> {
        let topic_id = self.id;
        (0..self.partitions.len())
            .map(move |index| PartitionKey { topic_id, partition: index as i32 })
    }
}

/// All topics of the node.
#[derive(Debug, Default)]
pub struct Catalog {
    by_name: BTreeMap<String, Uuid>,
    topics: BTreeMap<Uuid, Topic>,
    partitions: usize,
}

impl Catalog {
    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values().filter_map(|id| self.topics.get(id))
    }

    /// The topic of a name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.by_name.get(name)?)
    }

    /// From a name on, by name.
    pub(crate) fn named_from(&self, name: &str) -> impl Iterator<Item = &Topic> {
        use std::ops::Bound;
        let from = (Bound::Included(name), Bound::Unbounded);
        self.by_name.range::<str, _>(from).filter_map(|(_, id)| self.topics.get(id))
    }

    /// A topic whose name differs only in `.` and `_`: their metrics would be mixed up.
    #[must_use]
    pub(crate) fn colliding(&self, name: &str) -> Option<&str> {
        let is_mark = |byte: u8| matches!(byte, b'.' | b'_');
        if !name.bytes().any(is_mark) {
            return None;
        }
        let same = |(a, b): (u8, u8)| a == b || is_mark(a) && is_mark(b);
        let names = self.by_name.keys().map(String::as_str);
        let mut others = names.filter(|other| other.len() == name.len() && *other != name);
        others.find(|other| other.bytes().zip(name.bytes()).all(same))
    }

    /// The topic of an id.
    #[must_use]
    pub fn by_id(&self, id: Uuid) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// The partition of a key.
    #[must_use]
    pub fn partition(&self, key: PartitionKey) -> Option<&Partition> {
        self.topics.get(&key.topic_id)?.partitions.get(usize::try_from(key.partition).ok()?)
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Partitions of all topics.
    #[must_use]
    pub fn partitions_len(&self) -> usize {
        self.partitions
    }

    pub(crate) fn partition_mut(&mut self, key: PartitionKey) -> Option<&mut Partition> {
        let index = usize::try_from(key.partition).ok()?;
        self.topics.get_mut(&key.topic_id)?.partitions.get_mut(index)
    }

    pub(crate) fn topic_mut(&mut self, id: Uuid) -> Option<&mut Topic> {
        self.topics.get_mut(&id)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.topics.values_mut()
    }

    pub(crate) fn insert(&mut self, topic: Topic) {
        self.partitions += topic.partitions.len();
        self.by_name.insert(topic.name.clone(), topic.id);
        self.topics.insert(topic.id, topic);
    }

    pub(crate) fn remove(&mut self, id: Uuid) -> Option<Topic> {
        let topic = self.topics.remove(&id)?;
        self.by_name.remove(&topic.name);
        self.partitions -= topic.partitions.len();
        Some(topic)
    }

    pub(crate) fn add_partitions(&mut self, id: Uuid, total: usize) -> bool {
        let Some(topic) = self.topics.get_mut(&id) else {
            return false;
        };
        let added = total.saturating_sub(topic.partitions.len());
        topic.partitions.extend((0..added).map(|_| Partition::default()));
        self.partitions += added;
        true
    }
}
