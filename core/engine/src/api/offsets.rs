//! OffsetCommit and OffsetFetch. A commit is answered when it is durable; a fetch of offsets shows
//! nothing that is not.

use crate::engine::Engine;
use crate::entry::{CommittedOffset, Fact};
use crate::group::is_valid_group_id;
use crate::group_fact::GroupFact;
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millpond_wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use millpond_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use millpond_wire::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, Response,
};
use millpond_wire::mutant::Mutant;
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

/// The partitions of one topic that are asked for.
struct Wanted {
    name: String,
    /// Zero up to version 9.
    topic_id: Uuid,
    partitions: Vec<i32>,
}

impl Engine {
    pub(crate) fn on_offset_commit(
        &mut self,
        id: RequestId,
        request: &OffsetCommitRequest,
        version: i16,
    ) {
        let allowed = self.may_commit(request, version);
        let mut response = OffsetCommitResponse::default();
        let mut offsets = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            let topic_id = self.committed_topic(topic, version);
            for part in &topic.partitions {
                let code = match allowed.and(topic_id) {
                    Err(code) => code,
                    Ok(topic_id) => self.accept_offset(request, topic_id, part, &mut offsets),
                };
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: part.partition_index,
                    error_code: code.code(),
                });
            }
            let (topic_id, name) = (topic.topic_id, topic.name.clone());
            response.topics.push(OffsetCommitResponseTopic { topic_id, name, partitions });
        }
        let mut seq = EntrySeq(0);
        if !offsets.is_empty() {
            seq = self.current_seq();
            let group = request.group_id.clone();
            let partitions = offsets.iter().map(|(key, _)| *key).collect();
            self.commit(Fact::OffsetsCommitted { group, offsets });
            self.expire_as_asked(request, version, partitions);
        }
        self.reply_after(seq, id, Response::OffsetCommit(response));
    }

    /// The id of a topic that is named, or from version 10 on given by its id.
    fn committed_topic(
        &self,
        topic: &OffsetCommitRequestTopic,
        version: i16,
    ) -> Result<Uuid, ErrorCode> {
        if version >= TOPIC_IDS_VERSION {
            let known = self.state.catalog.by_id(topic.topic_id);
            return known.map(|topic| topic.id).ok_or(ErrorCode::UnknownTopicId);
        }
        let known = self.state.catalog.by_name(&topic.name);
        known.map(|topic| topic.id).ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    fn may_commit(&mut self, request: &OffsetCommitRequest, version: i16) -> Result<(), ErrorCode> {
        if !is_valid_group_id(&request.group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        // It could not be answered before the disk takes writes again; clients try again.
        if self.space.is_stuck() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let instance_id = request.group_instance_id.as_deref();
        let generation = request.generation_id_or_member_epoch;
        let (group_id, member_id) = (&request.group_id, &request.member_id);
        let allowed = self.member_may_commit(group_id, member_id, instance_id, generation);
        // Clients of older versions have never heard of member epochs.
        allowed.map_err(|code| match code {
            ErrorCode::StaleMemberEpoch if version < MEMBER_EPOCH_VERSION => {
                ErrorCode::UnsupportedVersion
            }
            code => code,
        })
    }

    /// Whether a member of a group of either kind may commit offsets now. `generation`: or its
    /// member epoch.
    pub(crate) fn member_may_commit(
        &mut self,
        group_id: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if Mutant::StaleGeneration.is_on() {
            return Ok(());
        }
        if let Some(group) = self.groups.consumer(group_id) {
            return group.may_commit(member_id, instance_id, generation);
        }
        match self.groups.get_mut(group_id) {
            Some(group) => group.may_commit(self.now.mono_ms, member_id, instance_id, generation),
            None if generation < 0 => Ok(()),
            // The group was forgotten, by a restart perhaps: its members join again.
            None if member_id.is_empty() => Err(ErrorCode::IllegalGeneration),
            None => Err(ErrorCode::UnknownMemberId),
        }
    }

    fn accept_offset(
        &self,
        request: &OffsetCommitRequest,
        topic_id: Uuid,
        part: &OffsetCommitRequestPartition,
        accepted: &mut Vec<(PartitionKey, CommittedOffset)>,
    ) -> ErrorCode {
        let key = PartitionKey { topic_id, partition: part.partition_index };
        if self.state.catalog.partition(key).is_none() {
            return ErrorCode::UnknownTopicOrPartition;
        }
        let metadata = part.committed_metadata.clone();
        if metadata.as_ref().is_some_and(|text| text.len() > limits::OFFSET_METADATA_BYTES_MAX) {
            return ErrorCode::OffsetMetadataTooLarge;
        }
        if part.committed_offset < 0 {
            return ErrorCode::InvalidRequest;
        }
        let is_new = self.state.offsets.get(&request.group_id, key).is_none();
        if is_new && !self.state.offsets.has_room(&request.group_id, accepted.len() + 1) {
            return ErrorCode::PolicyViolation;
        }
        let offset = CommittedOffset {
            offset: part.committed_offset,
            leader_epoch: part.committed_leader_epoch,
            commit_timestamp_ms: self.stamp_ms(),
            metadata,
        };
        accepted.push((key, offset));
        ErrorCode::None
    }

    pub(crate) fn on_offset_fetch(
        &mut self,
        id: RequestId,
        request: &OffsetFetchRequest,
        version: i16,
    ) {
        let mut response = OffsetFetchResponse::default();
        let mut seq = EntrySeq(0);
        if version >= MANY_GROUPS_VERSION {
            for group in &request.groups {
                let wanted = group.topics.as_ref().map(|topics| {
                    let topics = topics.iter().map(|topic| Wanted {
                        name: topic.name.clone(),
                        topic_id: topic.topic_id,
                        partitions: topic.partition_indexes.clone(),
                    });
                    topics.collect()
                });
                let mut found = OffsetFetchResponseGroup {
                    group_id: group.group_id.clone(),
                    ..OffsetFetchResponseGroup::default()
                };
                match self.may_fetch(group) {
                    Err(code) => found.error_code = code.code(),
                    Ok(()) => {
                        seq = seq.max(self.last_commit_of(&group.group_id));
                        let is_stable_only = request.require_stable;
                        let topics =
                            self.committed(&group.group_id, wanted, version, is_stable_only);
                        found.topics = topics;
                    }
                }
                response.groups.push(found);
            }
        } else {
            let wanted = request.topics.as_ref().map(|topics| {
                let topics = topics.iter().map(|topic| Wanted {
                    name: topic.name.clone(),
                    topic_id: Uuid::ZERO,
                    partitions: topic.partition_indexes.clone(),
                });
                topics.collect()
            });
            seq = self.last_commit_of(&request.group_id);
            let topics = self.committed(&request.group_id, wanted, version, request.require_stable);
            response.topics = topics.into_iter().map(into_old_shape).collect();
        }
        self.reply_after(seq, id, Response::OffsetFetch(response));
    }

    /// A member of a group that was forgotten is told what is committed: its heartbeat says the rest.
    fn may_fetch(&self, asked: &OffsetFetchRequestGroup) -> Result<(), ErrorCode> {
        match self.groups.consumer(&asked.group_id) {
            Some(group) => group.may_fetch(asked.member_id.as_deref(), asked.member_epoch),
            None => Ok(()),
        }
    }

    /// Versions 2 to 4 may say how long the offsets are to be kept. While the clock may not be
    /// believed they are kept as long as all others.
    fn expire_as_asked(
        &mut self,
        request: &OffsetCommitRequest,
        version: i16,
        partitions: Vec<PartitionKey>,
    ) {
        let has_own = version <= RETENTION_VERSION && request.retention_time_ms >= 0;
        if has_own && self.is_clock_steady() {
            let at_ms = self.now.wall_ms.saturating_add(request.retention_time_ms);
            let group = request.group_id.clone();
            self.commit(Fact::Group(GroupFact::OffsetsExpire { group, at_ms, partitions }));
        }
    }

    fn last_commit_of(&self, group: &str) -> EntrySeq {
        self.state.offsets.group(group).map_or(EntrySeq(0), |group| group.last_entry)
    }

    /// `None`: all that the group committed.
    fn committed(
        &self,
        group: &str,
        wanted: Option<Vec<Wanted>>,
        version: i16,
        is_stable_only: bool,
    ) -> Vec<OffsetFetchResponseTopics> {
        let wanted = wanted.unwrap_or_else(|| self.all_committed(group));
        let one = |topic: Result<Uuid, ErrorCode>, partition_index: i32| {
            let key = topic.map(|topic_id| PartitionKey { topic_id, partition: partition_index });
            let is_pending =
                |key: &PartitionKey| self.state.transactions.pending().has(group, *key);
            let key = match key {
                Ok(key) if is_stable_only && is_pending(&key) => {
                    Err(ErrorCode::UnstableOffsetCommit)
                }
                key => key,
            };
            let offset = key.ok().and_then(|key| self.state.offsets.get(group, key));
            OffsetFetchResponsePartitions {
                partition_index,
                committed_offset: offset.map_or(-1, |offset| offset.offset),
                committed_leader_epoch: offset.map_or(-1, |offset| offset.leader_epoch),
                metadata: Some(offset.and_then(|o| o.metadata.clone()).unwrap_or_default()),
                error_code: key.err().unwrap_or(ErrorCode::None).code(),
            }
        };
        let topic = |wanted: Wanted| {
            let key = self.fetched_topic(&wanted, version);
            OffsetFetchResponseTopics {
                partitions: wanted.partitions.into_iter().map(|index| one(key, index)).collect(),
                name: wanted.name,
                topic_id: wanted.topic_id,
            }
        };
        wanted.into_iter().map(topic).collect()
    }

    /// A name that no topic has is no error: nothing was committed there. An id is one.
    fn fetched_topic(&self, wanted: &Wanted, version: i16) -> Result<Uuid, ErrorCode> {
        if version >= TOPIC_IDS_VERSION {
            let known = self.state.catalog.by_id(wanted.topic_id);
            return known.map(|topic| topic.id).ok_or(ErrorCode::UnknownTopicId);
        }
        Ok(self.state.catalog.by_name(&wanted.name).map_or(Uuid::ZERO, |topic| topic.id))
    }

    fn all_committed(&self, group: &str) -> Vec<Wanted> {
        let mut by_topic: BTreeMap<&str, Wanted> = BTreeMap::new();
        let offsets = self.state.offsets.group(group).into_iter().flat_map(|g| g.offsets.keys());
        for key in offsets {
            if let Some(topic) = self.state.catalog.by_id(key.topic_id) {
                let wanted = by_topic.entry(&topic.name).or_insert_with(|| Wanted {
                    name: topic.name.clone(),
                    topic_id: topic.id,
                    partitions: Vec::new(),
                });
                wanted.partitions.push(key.partition);
            }
        }
        by_topic.into_values().collect()
    }
}

/// Up to version 7 one group's topics stand at the top.
fn into_old_shape(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let part = |part: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: part.partition_index,
        committed_offset: part.committed_offset,
        committed_leader_epoch: part.committed_leader_epoch,
        metadata: part.metadata,
        error_code: part.error_code,
    };
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(part).collect(),
    }
}

const MANY_GROUPS_VERSION: i16 = 8;
const RETENTION_VERSION: i16 = 4;
const MEMBER_EPOCH_VERSION: i16 = 9;
const TOPIC_IDS_VERSION: i16 = 10;
