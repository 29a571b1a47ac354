//! OffsetCommit and OffsetFetch. A commit is answered when it is durable; a fetch of offsets shows
//! nothing that is not.

use crate::engine::Engine;
use crate::entry::{CommittedOffset, Fact};
use crate::group::is_valid_group_id;
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::offset_commit_request::OffsetCommitRequestPartition;
use millpond_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millpond_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use millpond_wire::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, Response,
};
use std::collections::BTreeMap;

/// The offsets of one topic that are asked for.
type Wanted = Vec<(String, Vec<i32>)>;

impl Engine {
    pub(crate) fn on_offset_commit(&mut self, id: RequestId, request: &OffsetCommitRequest) {
        let allowed = self.may_commit(request);
        let mut response = OffsetCommitResponse::default();
        let mut offsets = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for part in &topic.partitions {
                let code = match allowed {
                    Err(code) => code,
                    Ok(()) => self.accept_offset(request, &topic.name, part, &mut offsets),
                };
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: part.partition_index,
                    error_code: code.code(),
                });
            }
            response
                .topics
                .push(OffsetCommitResponseTopic { name: topic.name.clone(), partitions });
        }
        let mut seq = EntrySeq(0);
        if !offsets.is_empty() {
            seq = self.current_seq();
            let group = request.group_id.clone();
            self.commit(Fact::OffsetsCommitted { group, offsets });
        }
        self.reply_after(seq, id, Response::OffsetCommit(response));
    }

    fn may_commit(&mut self, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        if !is_valid_group_id(&request.group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        // It could not be answered before the disk takes writes again; clients try again.
        if self.space.is_stuck() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let now_ms = self.now.mono_ms;
        let generation = request.generation_id_or_member_epoch;
        let instance_id = request.group_instance_id.as_deref();
        match self.groups.get_mut(&request.group_id) {
            Some(group) => group.may_commit(now_ms, &request.member_id, instance_id, generation),
            None if generation < 0 && request.member_id.is_empty() => Ok(()),
            // The group was forgotten, by a restart perhaps: its members join again.
            None if request.member_id.is_empty() => Err(ErrorCode::IllegalGeneration),
            None => Err(ErrorCode::UnknownMemberId),
        }
    }

    fn accept_offset(
        &self,
        request: &OffsetCommitRequest,
        topic: &str,
        part: &OffsetCommitRequestPartition,
        accepted: &mut Vec<(PartitionKey, CommittedOffset)>,
    ) -> ErrorCode {
        let Some(topic) = self.state.catalog.by_name(topic) else {
            return ErrorCode::UnknownTopicOrPartition;
        };
        let key = PartitionKey { topic_id: topic.id, partition: part.partition_index };
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
            commit_timestamp_ms: self.now.wall_ms,
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
                    topics.iter().map(|t| (t.name.clone(), t.partition_indexes.clone())).collect()
                });
                seq = seq.max(self.last_commit_of(&group.group_id));
                response.groups.push(OffsetFetchResponseGroup {
                    group_id: group.group_id.clone(),
                    topics: self.committed(&group.group_id, wanted, request.require_stable),
                    ..OffsetFetchResponseGroup::default()
                });
            }
        } else {
            let wanted = request.topics.as_ref().map(|topics| {
                topics.iter().map(|t| (t.name.clone(), t.partition_indexes.clone())).collect()
            });
            seq = self.last_commit_of(&request.group_id);
            let topics = self.committed(&request.group_id, wanted, request.require_stable);
            response.topics = topics.into_iter().map(into_old_shape).collect();
        }
        self.reply_after(seq, id, Response::OffsetFetch(response));
    }

    fn last_commit_of(&self, group: &str) -> EntrySeq {
        self.state.offsets.group(group).map_or(EntrySeq(0), |group| group.last_entry)
    }

    /// `None`: all that the group committed.
    fn committed(
        &self,
        group: &str,
        wanted: Option<Wanted>,
        is_stable_only: bool,
    ) -> Vec<OffsetFetchResponseTopics> {
        let wanted = wanted.unwrap_or_else(|| self.all_committed(group));
        let one = |name: &str, partition_index: i32| {
            let topic = self.state.catalog.by_name(name);
            let key = topic.map(|t| PartitionKey { topic_id: t.id, partition: partition_index });
            let offset = key.and_then(|key| self.state.offsets.get(group, key));
            let is_unstable = is_stable_only
                && key.is_some_and(|key| self.state.transactions.is_pending(group, key));
            match offset {
                _ if is_unstable => OffsetFetchResponsePartitions {
                    partition_index,
                    committed_offset: -1,
                    committed_leader_epoch: -1,
                    metadata: Some(String::new()),
                    error_code: ErrorCode::UnstableOffsetCommit.code(),
                },
                Some(offset) => OffsetFetchResponsePartitions {
                    partition_index,
                    committed_offset: offset.offset,
                    committed_leader_epoch: offset.leader_epoch,
                    metadata: Some(offset.metadata.clone().unwrap_or_default()),
                    error_code: ErrorCode::None.code(),
                },
                None => OffsetFetchResponsePartitions {
                    partition_index,
                    committed_offset: -1,
                    committed_leader_epoch: -1,
                    metadata: Some(String::new()),
                    error_code: ErrorCode::None.code(),
                },
            }
        };
        let topic = |(name, partitions): (String, Vec<i32>)| OffsetFetchResponseTopics {
            partitions: partitions.into_iter().map(|index| one(&name, index)).collect(),
            name,
        };
        wanted.into_iter().map(topic).collect()
    }

    fn all_committed(&self, group: &str) -> Wanted {
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        let offsets = self.state.offsets.group(group).into_iter().flat_map(|g| g.offsets.keys());
        for key in offsets {
            if let Some(topic) = self.state.catalog.by_id(key.topic_id) {
                by_topic.entry(&topic.name).or_default().push(key.partition);
            }
        }
        by_topic.into_iter().map(|(name, partitions)| (name.to_owned(), partitions)).collect()
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
