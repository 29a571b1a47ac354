//! Requests that name topics. Must never tell whether a topic exists that may not be described.

use super::gate::{Gate, TOPIC, TRANSACTIONAL_ID, Verdict, take_out, why};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use millpond_wire::messages::create_topics_response::CreatableTopicResult;
use millpond_wire::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use millpond_wire::messages::delete_topics_response::DeletableTopicResult;
use millpond_wire::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use millpond_wire::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic;
use millpond_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millpond_wire::messages::metadata_response::MetadataResponseTopic;
use millpond_wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use millpond_wire::messages::produce_request::TopicProduceData;
use millpond_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use millpond_wire::messages::*;
use millpond_wire::permission::{CLUSTER_NAME, Operation, Resource};
use millpond_wire::uuid::Uuid;

/// Of transactional records an id that may be used (CVE-2018-17196), and of each topic that it may be
/// written.
pub(super) fn produce(gate: &Gate<'_>, request: &mut ProduceRequest, version: i16) -> Verdict {
    let id = request.transactional_id.as_deref();
    if id.is_some_and(|id| !gate.may(Resource::TransactionalId, id)) {
        let responses = request.topic_data.iter().map(|t| unproduced(t, TRANSACTIONAL_ID));
        let responses = responses.collect();
        return Verdict::refuse(ProduceResponse { responses, ..Default::default() });
    }
    let by_id = version >= PRODUCE_BY_ID_VERSION;
    let refused = take_out(&mut request.topic_data, |topic| {
        gate.may_topic(&topic.name, if by_id { topic.topic_id } else { Uuid::ZERO })
    });
    let responses: Vec<_> = refused.iter().map(|topic| unproduced(topic, TOPIC)).collect();
    Verdict::trim(!refused.is_empty(), ProduceResponse { responses, ..Default::default() })
}

fn unproduced(topic: &TopicProduceData, error_code: i16) -> TopicProduceResponse {
    let part = |index| PartitionProduceResponse {
        index,
        error_code,
        base_offset: -1,
        ..Default::default()
    };
    TopicProduceResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partition_responses: topic.partition_data.iter().map(|one| part(one.index)).collect(),
    }
}

pub(super) fn list_offsets(gate: &Gate<'_>, request: &mut ListOffsetsRequest) -> Verdict {
    let refused = take_out(&mut request.topics, |topic| gate.may(Resource::Topic, &topic.name));
    let is_any = !refused.is_empty();
    let topics = refused.into_iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|part| ListOffsetsPartitionResponse {
                partition_index: part.partition_index,
                error_code: TOPIC,
                ..Default::default()
            })
            .collect(),
    });
    let topics = topics.collect();
    Verdict::trim(is_any, ListOffsetsResponse { topics, ..Default::default() })
}

/// Topics that may not be described, and missing ones that asking would make and that may not be made.
pub(super) fn metadata(gate: &Gate<'_>, request: &mut MetadataRequest, version: i16) -> Verdict {
    if version == 0 && request.topics.as_ref().is_some_and(Vec::is_empty) {
        request.topics = None;
    }
    let Some(topics) = &mut request.topics else { return Verdict::Pass };
    let makes = request.allow_auto_topic_creation && gate.engine.config.auto_create_topics;
    let state = gate.state();
    let may_make = |name: &str| {
        state.catalog.by_name(name).is_some()
            || gate.allows(Operation::Create, Resource::Cluster, CLUSTER_NAME)
            || gate.allows(Operation::Create, Resource::Topic, name)
    };
    let refused = take_out(topics, |topic| {
        let name = topic.name.as_deref().unwrap_or_default();
        if !gate.may_topic(name, topic.topic_id) {
            return false;
        }
        let is_made = makes && topic.topic_id.is_zero() && topic.name.is_some();
        let may = !is_made || may_make(name);
        if !may {
            gate.note(Operation::Create, Resource::Topic, name);
        }
        may
    });
    let is_any = !refused.is_empty();
    // An empty list would mean all of them.
    if version == 0 && is_any && topics.is_empty() {
        topics.push(metadata_request::MetadataRequestTopic::default());
    }
    let topics = refused.into_iter().map(|topic| MetadataResponseTopic {
        // By id the name stays a secret, and so does whether there is such a topic.
        error_code: if topic.topic_id.is_zero() { TOPIC } else { ErrorCode::UnknownTopicId.code() },
        name: topic.name.filter(|_| topic.topic_id.is_zero()),
        topic_id: topic.topic_id,
        topic_authorized_operations: i32::MIN,
        ..Default::default()
    });
    let topics = topics.collect();
    Verdict::trim(is_any, MetadataResponse { topics, ..Default::default() })
}

pub(super) fn create(gate: &Gate<'_>, request: &mut CreateTopicsRequest) -> Verdict {
    if gate.allows(Operation::Create, Resource::Cluster, CLUSTER_NAME) {
        return Verdict::Pass;
    }
    let refused = take_out(&mut request.topics, |topic| gate.may(Resource::Topic, &topic.name));
    let is_any = !refused.is_empty();
    let topics = refused.into_iter().map(|topic| CreatableTopicResult {
        name: topic.name,
        error_code: TOPIC,
        error_message: Some("Authorization failed.".to_owned()),
        ..Default::default()
    });
    let topics = topics.collect();
    Verdict::trim(is_any, CreateTopicsResponse { topics, ..Default::default() })
}

pub(super) fn delete(gate: &Gate<'_>, request: &mut DeleteTopicsRequest, version: i16) -> Verdict {
    let mut responses = Vec::new();
    let mut refuse = |name: Option<String>, topic_id: Uuid| {
        responses.push(DeletableTopicResult {
            name: name.filter(|_| topic_id.is_zero()),
            topic_id,
            error_code: TOPIC,
            error_message: why(Resource::Topic),
        });
    };
    if version >= DELETE_BY_ID_VERSION {
        let refused = take_out(&mut request.topics, |topic| {
            gate.may_topic(topic.name.as_deref().unwrap_or_default(), topic.topic_id)
        });
        refused.into_iter().for_each(|topic| refuse(topic.name, topic.topic_id));
    } else {
        let refused = take_out(&mut request.topic_names, |name| gate.may(Resource::Topic, name));
        refused.into_iter().for_each(|name| refuse(Some(name), Uuid::ZERO));
    }
    Verdict::trim(!responses.is_empty(), DeleteTopicsResponse { responses, ..Default::default() })
}

pub(super) fn create_partitions(gate: &Gate<'_>, request: &mut CreatePartitionsRequest) -> Verdict {
    let refused = take_out(&mut request.topics, |topic| gate.may(Resource::Topic, &topic.name));
    let is_any = !refused.is_empty();
    let results = refused.into_iter().map(|topic| CreatePartitionsTopicResult {
        name: topic.name,
        error_code: TOPIC,
        error_message: why(Resource::Topic),
    });
    let results = results.collect();
    Verdict::trim(is_any, CreatePartitionsResponse { results, ..Default::default() })
}

pub(super) fn delete_records(gate: &Gate<'_>, request: &mut DeleteRecordsRequest) -> Verdict {
    let refused = take_out(&mut request.topics, |topic| gate.may(Resource::Topic, &topic.name));
    let is_any = !refused.is_empty();
    let topics = refused.into_iter().map(|topic| DeleteRecordsTopicResult {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|part| DeleteRecordsPartitionResult {
                partition_index: part.partition_index,
                low_watermark: -1,
                error_code: TOPIC,
            })
            .collect(),
    });
    let topics = topics.collect();
    Verdict::trim(is_any, DeleteRecordsResponse { topics, ..Default::default() })
}

/// Named topics that may not be described; of all of them, the answer leaves those out.
pub(super) fn describe_pages(
    gate: &Gate<'_>,
    request: &mut DescribeTopicPartitionsRequest,
) -> Verdict {
    let refused = take_out(&mut request.topics, |topic| gate.may(Resource::Topic, &topic.name));
    if refused.is_empty() {
        return Verdict::Pass;
    }
    let topics = refused.into_iter().map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code: TOPIC,
        name: Some(topic.name),
        topic_authorized_operations: i32::MIN,
        ..Default::default()
    });
    let topics = topics.collect();
    let response = DescribeTopicPartitionsResponse { topics, ..Default::default() };
    // An empty list would mean all of them.
    if request.topics.is_empty() {
        Verdict::refuse(response)
    } else {
        Verdict::trim(true, response)
    }
}

pub(super) fn leader_epochs(gate: &Gate<'_>, request: &mut OffsetForLeaderEpochRequest) -> Verdict {
    let refused = take_out(&mut request.topics, |topic| gate.may(Resource::Topic, &topic.topic));
    let is_any = !refused.is_empty();
    let topics = refused.into_iter().map(|topic| OffsetForLeaderTopicResult {
        topic: topic.topic,
        partitions: topic
            .partitions
            .iter()
            .map(|part| EpochEndOffset {
                error_code: TOPIC,
                partition: part.partition,
                ..Default::default()
            })
            .collect(),
    });
    let topics = topics.collect();
    Verdict::trim(is_any, OffsetForLeaderEpochResponse { topics, ..Default::default() })
}

pub(super) fn describe_producers(
    gate: &Gate<'_>,
    request: &mut DescribeProducersRequest,
) -> Verdict {
    let refused = take_out(&mut request.topics, |topic| gate.may(Resource::Topic, &topic.name));
    let is_any = !refused.is_empty();
    let topics = refused.into_iter().map(|topic| TopicResponse {
        name: topic.name,
        partitions: topic
            .partition_indexes
            .iter()
            .map(|index| PartitionResponse {
                partition_index: *index,
                error_code: TOPIC,
                ..Default::default()
            })
            .collect(),
    });
    let topics = topics.collect();
    Verdict::trim(is_any, DescribeProducersResponse { topics, ..Default::default() })
}

const PRODUCE_BY_ID_VERSION: i16 = 13;
const DELETE_BY_ID_VERSION: i16 = 6;
