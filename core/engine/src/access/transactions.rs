//! Requests of transactional producers, and of who looks at transactions.

use super::gate::{CLUSTER, GROUP, Gate, TOPIC, TRANSACTIONAL_ID, Verdict, take_out};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millpond_wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use millpond_wire::messages::describe_transactions_response::TransactionState;
use millpond_wire::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use millpond_wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use millpond_wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use millpond_wire::messages::*;
use millpond_wire::permission::{CLUSTER_NAME, Operation, Resource};

/// With a transactional id, who may write with it; without, who may write to something (KIP-679).
pub(super) fn init(gate: &Gate<'_>, request: &InitProducerIdRequest) -> Verdict {
    let error_code = match request.transactional_id.as_deref() {
        Some(id) if gate.may(Resource::TransactionalId, id) => return Verdict::Pass,
        Some(_) => TRANSACTIONAL_ID,
        None if gate.allows(Operation::IdempotentWrite, Resource::Cluster, CLUSTER_NAME)
            || gate.allows_some(Operation::Write, Resource::Topic) =>
        {
            return Verdict::Pass;
        }
        None => {
            gate.note(Operation::IdempotentWrite, Resource::Cluster, CLUSTER_NAME);
            CLUSTER
        }
    };
    let (producer_id, producer_epoch) = (-1, -1);
    Verdict::refuse(InitProducerIdResponse {
        error_code,
        producer_id,
        producer_epoch,
        ..Default::default()
    })
}

/// All or nothing: partitions beside a refused one are told that nothing was tried.
pub(super) fn add_partitions(
    gate: &Gate<'_>,
    request: &AddPartitionsToTxnRequest,
    version: i16,
) -> Verdict {
    if version >= BROKERS_VERSION {
        // What brokers ask each other.
        if gate.allows(Operation::ClusterAction, Resource::Cluster, CLUSTER_NAME) {
            return Verdict::Pass;
        }
        gate.note(Operation::ClusterAction, Resource::Cluster, CLUSTER_NAME);
        let response = AddPartitionsToTxnResponse { error_code: CLUSTER, ..Default::default() };
        return Verdict::refuse(response);
    }
    let topics = &request.v3_and_below_topics;
    let is_id_refused =
        !gate.may(Resource::TransactionalId, &request.v3_and_below_transactional_id);
    let may = |topic: &AddPartitionsToTxnTopic| gate.may(Resource::Topic, &topic.name);
    if !is_id_refused && topics.iter().all(may) {
        return Verdict::Pass;
    }
    let code = |topic: &AddPartitionsToTxnTopic| match is_id_refused {
        true => TRANSACTIONAL_ID,
        false if may(topic) => ErrorCode::OperationNotAttempted.code(),
        false => TOPIC,
    };
    let results = topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic
            .partitions
            .iter()
            .map(|index| AddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code: code(topic),
            })
            .collect(),
    });
    Verdict::refuse(AddPartitionsToTxnResponse {
        results_by_topic_v3_and_below: results.collect(),
        ..Default::default()
    })
}

pub(super) fn add_offsets(gate: &Gate<'_>, request: &AddOffsetsToTxnRequest) -> Verdict {
    let error_code = if !gate.may(Resource::TransactionalId, &request.transactional_id) {
        TRANSACTIONAL_ID
    } else if !gate.may(Resource::Group, &request.group_id) {
        GROUP
    } else {
        return Verdict::Pass;
    };
    Verdict::refuse(AddOffsetsToTxnResponse { error_code, ..Default::default() })
}

pub(super) fn end(gate: &Gate<'_>, request: &EndTxnRequest) -> Verdict {
    if gate.may(Resource::TransactionalId, &request.transactional_id) {
        return Verdict::Pass;
    }
    let error_code = TRANSACTIONAL_ID;
    Verdict::refuse(EndTxnResponse { error_code, ..Default::default() })
}

pub(super) fn write_markers(gate: &Gate<'_>, request: &WriteTxnMarkersRequest) -> Verdict {
    if gate.may_cluster() {
        return Verdict::Pass;
    }
    let part = |partition_index: &i32| WritableTxnMarkerPartitionResult {
        partition_index: *partition_index,
        error_code: CLUSTER,
    };
    let markers = request.markers.iter().map(|marker| WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics: marker
            .topics
            .iter()
            .map(|topic| WritableTxnMarkerTopicResult {
                name: topic.name.clone(),
                partitions: topic.partition_indexes.iter().map(part).collect(),
            })
            .collect(),
    });
    Verdict::refuse(WriteTxnMarkersResponse { markers: markers.collect() })
}

pub(super) fn commit_offsets(gate: &Gate<'_>, request: &mut TxnOffsetCommitRequest) -> Verdict {
    let code = if !gate.may(Resource::TransactionalId, &request.transactional_id) {
        Some(TRANSACTIONAL_ID)
    } else {
        (!gate.may(Resource::Group, &request.group_id)).then_some(GROUP)
    };
    if let Some(code) = code {
        let topics = std::mem::take(&mut request.topics);
        let topics = topics.into_iter().map(|topic| uncommitted(topic, code)).collect();
        return Verdict::refuse(TxnOffsetCommitResponse { topics, ..Default::default() });
    }
    let refused = take_out(&mut request.topics, |topic| gate.may(Resource::Topic, &topic.name));
    let is_any = !refused.is_empty();
    let topics = refused.into_iter().map(|topic| uncommitted(topic, TOPIC)).collect();
    let response = TxnOffsetCommitResponse { topics, ..Default::default() };
    if is_any && request.topics.is_empty() {
        return Verdict::refuse(response);
    }
    Verdict::trim(is_any, response)
}

fn uncommitted(topic: TxnOffsetCommitRequestTopic, code: i16) -> TxnOffsetCommitResponseTopic {
    let part =
        |partition_index| TxnOffsetCommitResponsePartition { partition_index, error_code: code };
    TxnOffsetCommitResponseTopic {
        name: topic.name,
        partitions: topic.partitions.iter().map(|one| part(one.partition_index)).collect(),
    }
}

/// The answer leaves out topics that may not be described.
pub(super) fn describe(gate: &Gate<'_>, request: &mut DescribeTransactionsRequest) -> Verdict {
    let ids = &mut request.transactional_ids;
    let refused = take_out(ids, |id| gate.may(Resource::TransactionalId, id));
    let is_any = !refused.is_empty();
    let states = refused.into_iter().map(|transactional_id| TransactionState {
        error_code: TRANSACTIONAL_ID,
        transactional_id,
        ..Default::default()
    });
    let transaction_states = states.collect();
    Verdict::trim(is_any, DescribeTransactionsResponse { transaction_states, ..Default::default() })
}

const BROKERS_VERSION: i16 = 4;
