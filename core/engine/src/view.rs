//! What others may look at: topics, groups, counters, and what the storage driver writes out.
//! Only reads; nothing here changes the engine.

use crate::config::EngineConfig;
use crate::counters::Counters;
use crate::engine::Engine;
use crate::group::consumer::Shares;
use crate::group::{ConsumerGroup, Group, GroupState};
use crate::offsets::OffsetStore;
use crate::topic::{Catalog, Topic};
use crate::transaction::TransactionState;
use crate::transform::Deployment;
use crate::units::{EntrySeq, PartitionKey};
use millpond_wire::messages::ConsumerProtocolAssignment;
use millpond_wire::messages::consumer_protocol_assignment::TopicPartition;
use millpond_wire::record::LogBatch;
use millpond_wire::{Message, Writer};
use std::collections::BTreeSet;

/// Which protocol a group's members speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupKind {
    /// JoinGroup and SyncGroup: a member assigns. Also groups without members.
    #[default]
    Classic,
    /// KIP-848: the node assigns.
    Consumer,
}

impl GroupKind {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            GroupKind::Classic => "classic",
            GroupKind::Consumer => "consumer",
        }
    }
}

/// A consumer group as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The group's id.
    pub id: String,
    /// Which protocol its members speak.
    pub kind: GroupKind,
    /// Where it stands; `Empty` too when only committed offsets are left.
    pub state: GroupState,
    /// Counts its rebalances; of a group of KIP-848 its epoch.
    pub generation: i32,
    /// `consumer`, `connect`, ...
    pub protocol_type: String,
    /// The assignor that was chosen.
    pub protocol: String,
    /// Who is in.
    pub members: Vec<MemberView>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Given by the node.
    pub id: String,
    /// Given by the user (KIP-345).
    pub instance_id: Option<String>,
    /// Of the request header.
    pub client_id: String,
    /// The peer's address.
    pub host: String,
    /// What it was assigned, in the words of its protocol.
    pub assignment: bytes::Bytes,
    /// What it said under the chosen protocol.
    pub metadata: bytes::Bytes,
}

impl Engine {
    /// The settings that it runs with.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// All topics and partitions.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.state.catalog
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.state.catalog.iter()
    }

    /// All committed offsets, durable or about to be.
    #[must_use]
    pub fn offsets(&self) -> &OffsetStore {
        &self.state.offsets
    }

    /// All transforms, in order of application.
    #[must_use]
    pub fn transforms(&self) -> Vec<Deployment> {
        self.state.transforms.all()
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The last entry that was made.
    #[must_use]
    pub fn last_seq(&self) -> EntrySeq {
        self.state.last_seq
    }

    /// The last entry that is known to be durable.
    #[must_use]
    pub fn durable_seq(&self) -> EntrySeq {
        self.durable()
    }

    /// Bytes of batches in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.state.tail_bytes
    }

    /// Fetches that wait for records.
    #[must_use]
    pub fn waiters_len(&self) -> usize {
        self.fetches.len()
    }

    /// Produce requests that wait for memory.
    #[must_use]
    pub fn parked_len(&self) -> usize {
        self.parked.len()
    }

    /// Bytes of batches between admission and commit.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Idempotent producers that are remembered, by partition; and how many were forgotten.
    #[must_use]
    pub fn producers_len(&self) -> (usize, u64) {
        (self.state.producers.len(), self.state.producers.evicted())
    }

    /// Transactional ids, by the state of their last transaction; states that none is in too.
    #[must_use]
    pub fn transactional_ids_by_state(&self) -> Vec<(TransactionState, usize)> {
        let count = |state: TransactionState| {
            let all = self.state.transactions.iter();
            (state, all.filter(|(_, one)| one.state == state).count())
        };
        TransactionState::ALL.into_iter().map(count).collect()
    }

    /// Transactions that have begun and are not at their end.
    #[must_use]
    pub fn open_transactions_len(&self) -> usize {
        self.state.transactions.load().transactions
    }

    /// Batches that transforms work on.
    #[must_use]
    pub fn transforming_len(&self) -> usize {
        self.tickets.len()
    }

    /// For each partition the batches that are in no segment yet, of entries up to `upto`.
    /// Partitions without such batches are left out.
    pub fn unflushed(&self, upto: EntrySeq) -> impl Iterator<Item = (PartitionKey, Vec<LogBatch>)> {
        self.state.catalog.iter().flat_map(move |topic| {
            topic.keys().zip(&topic.partitions).filter_map(move |(key, partition)| {
                let batches: Vec<LogBatch> = partition.unflushed(upto).cloned().collect();
                (!batches.is_empty()).then_some((key, batches))
            })
        })
    }

    /// All groups, by id.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupView> {
        let live = self.groups.iter().map(|(id, _)| id);
        let live = live.chain(self.groups.consumers().map(|(id, _)| id));
        let noted = self.state.notes.iter().map(|(id, _)| id);
        let kept = noted.chain(self.state.offsets.iter().map(|(id, _)| id));
        let ids: BTreeSet<&str> = live.chain(kept).collect();
        ids.into_iter().filter_map(|id| self.group(id)).collect()
    }

    /// One group, if it has members, had some not long ago, or has committed offsets.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<GroupView> {
        if let Some(group) = self.groups.consumer(id) {
            return Some(self.view_of_consumers(id, group));
        }
        match self.groups.get(id) {
            Some(group) => Some(GroupView::of(id, group)),
            None => self.view_of_empty(id),
        }
    }

    /// A group of which no more is left than its note and its offsets, or one of them.
    fn view_of_empty(&self, id: &str) -> Option<GroupView> {
        let note = self.state.notes.get(id);
        if note.is_none() {
            self.state.offsets.group(id)?;
        }
        Some(GroupView {
            id: id.to_owned(),
            kind: note.map(|note| note.kind).unwrap_or_default(),
            state: GroupState::Empty,
            generation: note.map_or(0, |note| note.epochs_upto),
            protocol_type: note
                .map_or_else(|| CONSUMER.to_owned(), |note| note.protocol_type.clone()),
            protocol: String::new(),
            members: Vec::new(),
        })
    }

    fn view_of_consumers(&self, id: &str, group: &ConsumerGroup) -> GroupView {
        let members = group.members.iter().map(|(id, member)| MemberView {
            id: id.clone(),
            instance_id: member.words.instance_id.clone(),
            client_id: member.words.client_id.clone(),
            host: member.words.host.clone(),
            assignment: self.assignment_bytes(&member.place.assigned),
            metadata: bytes::Bytes::new(),
        });
        GroupView {
            id: id.to_owned(),
            kind: GroupKind::Consumer,
            state: group.state(),
            generation: group.epoch,
            protocol_type: CONSUMER.to_owned(),
            protocol: group.assignor.name().to_owned(),
            members: members.collect(),
        }
    }

    /// In the words of the consumer protocol, so that one reader understands members of both kinds.
    fn assignment_bytes(&self, shares: &Shares) -> bytes::Bytes {
        let topics = shares.iter().filter_map(|(topic_id, partitions)| {
            let topic = self.state.catalog.by_id(*topic_id)?.name.clone();
            Some(TopicPartition { topic, partitions: partitions.iter().copied().collect() })
        });
        let assigned_partitions = topics.collect();
        let assignment = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
        let mut writer = Writer::new();
        writer.i16(0);
        assignment.encode(&mut writer, 0);
        writer.into_bytes()
    }

    /// Records of a partition that a group has not committed; `None` if it committed nothing there.
    #[must_use]
    pub fn lag(&self, group: &str, key: PartitionKey) -> Option<i64> {
        let committed = self.state.offsets.get(group, key)?.offset;
        let partition = self.state.catalog.partition(key)?;
        Some((partition.high_watermark - committed).max(0))
    }
}

impl GroupView {
    fn of(id: &str, group: &Group) -> GroupView {
        let protocol = group.protocol.clone().unwrap_or_default();
        let members = group.members.iter().map(|(id, member)| MemberView {
            id: id.clone(),
            instance_id: member.said.instance_id.clone(),
            client_id: member.said.client_id.clone(),
            host: member.said.host.clone(),
            assignment: member.assignment.clone(),
            metadata: member.metadata(&protocol),
        });
        GroupView {
            id: id.to_owned(),
            kind: GroupKind::Classic,
            state: group.state,
            generation: group.generation,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol,
        }
    }
}

/// The protocol type of groups that are only known by their offsets.
const CONSUMER: &str = "consumer";
