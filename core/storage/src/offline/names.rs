//! Topic names and log bounds, as a checkpoint's snapshot has them: for showing things in the words
//! of their owners. It must never be needed for a decision.

use std::collections::BTreeMap;

use bytes::Bytes;
use millpond_engine::{Engine, EngineConfig, Fact, PartitionKey, SnapshotError};
use millpond_wire::uuid::Uuid;

use crate::segments::SegmentTable;

/// Names by topic id.
#[derive(Clone, Debug, Default)]
pub struct TopicNames {
    names: BTreeMap<Uuid, String>,
    logs: BTreeMap<PartitionKey, (i64, i64)>,
    lost: BTreeMap<PartitionKey, Vec<(i64, i64)>>,
}

impl TopicNames {
    /// Of a snapshot.
    ///
    /// # Errors
    /// When the snapshot cannot be read.
    pub fn of_snapshot(snapshot: Bytes) -> Result<TopicNames, SnapshotError> {
        Engine::restore(EngineConfig::default(), 0, Some(snapshot)).map(|it| TopicNames::of(&it))
    }

    /// Of an engine.
    #[must_use]
    pub fn of(engine: &Engine) -> TopicNames {
        let mut found = TopicNames::default();
        for range in engine.lost_ranges() {
            found.lost.entry(range.partition).or_default().push((range.from, range.upto));
        }
        for topic in engine.catalog().iter() {
            found.names.insert(topic.id, topic.name.clone());
            for key in topic.keys() {
                if let Some(log) = engine.catalog().partition(key) {
                    found.logs.insert(key, (log.log_start(), log.log_end()));
                }
            }
        }
        found
    }

    /// The name of a topic, or its id in hexadecimal.
    #[must_use]
    pub fn name(&self, id: Uuid) -> String {
        match self.names.get(&id) {
            Some(name) => name.clone(),
            None => format!("id {id}"),
        }
    }

    /// `topic/partition`.
    #[must_use]
    pub fn partition(&self, key: PartitionKey) -> String {
        format!("{}/{}", self.name(key.topic_id), key.partition)
    }

    /// The id of a name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<Uuid> {
        self.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    /// Every topic.
    pub fn topics(&self) -> impl Iterator<Item = (Uuid, &str)> {
        self.names.iter().map(|(id, name)| (*id, name.as_str()))
    }

    /// Every partition with its log start and log end.
    pub fn logs(&self) -> impl Iterator<Item = (PartitionKey, (i64, i64))> {
        self.logs.iter().map(|(key, log)| (*key, *log))
    }

    /// Offsets of a partition that damage took and that are given up, in order.
    pub(super) fn lost(&self, key: PartitionKey) -> &[(i64, i64)] {
        self.lost.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Whether a partition has let go all offsets below this one: their files may be gone.
    pub(super) fn has_let_go(&self, key: PartitionKey, upto: i64) -> bool {
        self.log(key).is_none_or(|(log_start, _)| upto <= log_start)
    }

    /// Log start and log end of a partition.
    #[must_use]
    pub fn log(&self, key: PartitionKey) -> Option<(i64, i64)> {
        self.logs.get(&key).copied()
    }

    /// These logs without what `later`, after the journal, has let go: the files of that may have
    /// been removed already.
    #[must_use]
    pub(super) fn without_let_go(mut self, later: &TopicNames) -> TopicNames {
        self.logs.retain(|key, _| later.logs.contains_key(key));
        for (key, (start, end)) in &mut self.logs {
            let moved = later.log(*key).map_or(*start, |(start, _)| start);
            *start = moved.clamp(*start, *end);
        }
        self
    }

    /// The segments of these logs.
    pub(super) fn segments_of(&self, table: &SegmentTable) -> SegmentTable {
        let mut kept = table.clone();
        for key in table.keys() {
            match self.log(key) {
                Some((start, _)) => kept.trim(key, start),
                None => kept.remove(key),
            }
        }
        kept
    }

    /// Topics that the journal makes after the checkpoint have names, too.
    pub(super) fn learn(&mut self, fact: &Fact) {
        if let Fact::TopicCreated { id, name, .. } = fact {
            self.names.insert(*id, name.clone());
        }
    }
}
