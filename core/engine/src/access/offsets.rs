//! Committed offsets: a group, and the topics within it.

use super::gate::{GROUP, Gate, TOPIC, Verdict, take_out};
use millpond_wire::messages::offset_commit_request::OffsetCommitRequestTopic;
use millpond_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millpond_wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use millpond_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millpond_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use millpond_wire::messages::*;
use millpond_wire::permission::Resource;

pub(super) fn commit(gate: &Gate<'_>, request: &mut OffsetCommitRequest) -> Verdict {
    if !gate.may(Resource::Group, &request.group_id) {
        let topics = std::mem::take(&mut request.topics);
        let topics = topics.into_iter().map(|topic| uncommitted(topic, GROUP)).collect();
        return Verdict::refuse(OffsetCommitResponse { topics, ..Default::default() });
    }
    let refused = take_out(&mut request.topics, |t| gate.may_topic(&t.name, t.topic_id));
    let is_any = !refused.is_empty();
    let topics = refused.into_iter().map(|topic| uncommitted(topic, TOPIC)).collect();
    let response = OffsetCommitResponse { topics, ..Default::default() };
    if is_any && request.topics.is_empty() {
        return Verdict::refuse(response);
    }
    Verdict::trim(is_any, response)
}

fn uncommitted(topic: OffsetCommitRequestTopic, error_code: i16) -> OffsetCommitResponseTopic {
    let part = |partition_index| OffsetCommitResponsePartition { partition_index, error_code };
    OffsetCommitResponseTopic {
        topic_id: topic.topic_id,
        name: topic.name,
        partitions: topic.partitions.iter().map(|one| part(one.partition_index)).collect(),
    }
}

/// Where all that a group committed is asked for, the answer leaves out what may not be described.
pub(super) fn fetch(gate: &Gate<'_>, request: &mut OffsetFetchRequest, version: i16) -> Verdict {
    if version >= GROUPS_VERSION {
        return fetch_groups(gate, request);
    }
    if !gate.may(Resource::Group, &request.group_id) {
        let topics = request.topics.take().unwrap_or_default();
        let topics = topics.into_iter().map(|topic| unfetched(topic, GROUP)).collect();
        let response = OffsetFetchResponse { topics, error_code: GROUP, ..Default::default() };
        return Verdict::refuse(response);
    }
    let Some(topics) = &mut request.topics else { return Verdict::Pass };
    let refused = take_out(topics, |topic| gate.may(Resource::Topic, &topic.name));
    let is_any = !refused.is_empty();
    let is_all = is_any && topics.is_empty();
    let topics = refused.into_iter().map(|topic| unfetched(topic, TOPIC)).collect();
    let response = OffsetFetchResponse { topics, ..Default::default() };
    if is_all { Verdict::refuse(response) } else { Verdict::trim(is_any, response) }
}

fn unfetched(topic: OffsetFetchRequestTopic, error_code: i16) -> OffsetFetchResponseTopic {
    let part = |partition_index: &i32| OffsetFetchResponsePartition {
        partition_index: *partition_index,
        committed_offset: -1,
        metadata: Some(String::new()),
        error_code,
        ..Default::default()
    };
    let partitions = topic.partition_indexes.iter().map(part).collect();
    OffsetFetchResponseTopic { name: topic.name, partitions }
}

fn fetch_groups(gate: &Gate<'_>, request: &mut OffsetFetchRequest) -> Verdict {
    let refused = take_out(&mut request.groups, |group| gate.may(Resource::Group, &group.group_id));
    let unfetched_group = |group: OffsetFetchRequestGroup| OffsetFetchResponseGroup {
        group_id: group.group_id,
        error_code: GROUP,
        ..Default::default()
    };
    let mut groups: Vec<_> = refused.into_iter().map(unfetched_group).collect();
    for group in &mut request.groups {
        let Some(topics) = &mut group.topics else { continue };
        let refused = take_out(topics, |topic| gate.may_topic(&topic.name, topic.topic_id));
        if refused.is_empty() {
            continue;
        }
        // Joins the group's own answer.
        groups.push(OffsetFetchResponseGroup {
            group_id: group.group_id.clone(),
            topics: refused.into_iter().map(unfetched_by_group).collect(),
            ..Default::default()
        });
    }
    Verdict::trim(!groups.is_empty(), OffsetFetchResponse { groups, ..Default::default() })
}

fn unfetched_by_group(topic: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let part = |partition_index: &i32| OffsetFetchResponsePartitions {
        partition_index: *partition_index,
        committed_offset: -1,
        metadata: Some(String::new()),
        error_code: TOPIC,
        ..Default::default()
    };
    let partitions = topic.partition_indexes.iter().map(part).collect();
    OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions }
}

pub(super) fn delete(gate: &Gate<'_>, request: &mut OffsetDeleteRequest) -> Verdict {
    if !gate.may(Resource::Group, &request.group_id) {
        return Verdict::refuse(OffsetDeleteResponse { error_code: GROUP, ..Default::default() });
    }
    let refused = take_out(&mut request.topics, |topic| gate.may(Resource::Topic, &topic.name));
    let is_any = !refused.is_empty();
    let topics = refused.into_iter().map(|topic| OffsetDeleteResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|part| OffsetDeleteResponsePartition {
                partition_index: part.partition_index,
                error_code: TOPIC,
            })
            .collect(),
    });
    let topics = topics.collect();
    Verdict::trim(is_any, OffsetDeleteResponse { topics, ..Default::default() })
}

const GROUPS_VERSION: i16 = 8;
