//! From the messages of the wire to the engine and back: one thin file per family of requests.
//! Decides nothing that outlives a request.

mod access;
mod alter_configs;
pub mod api_versions;
mod client_quotas;
mod cluster;
mod config_resources;
mod configs;
mod consumer_groups;
mod delete_records;
mod fetch;
mod groups;
mod leaders;
mod list_offsets;
mod log_dirs;
mod metadata;
mod offset_delete;
mod offsets;
mod produce;
mod producer_ids;
mod quorum;
mod topic_partitions;
mod topics;
mod transaction_views;
mod transactional_ids;
mod transactions;
mod transforms;
mod txn_markers;
mod txn_offsets;
mod txn_partitions;
mod users;

use crate::engine::Engine;
use crate::units::{Peer, RequestId as Id};
use millpond_wire::messages::{Request, Response};
use millpond_wire::permission::{Operation, bits};

/// Serves of a request what its peer may have.
pub(crate) fn dispatch(
    engine: &mut Engine,
    id: Id,
    peer: &Peer,
    mut request: Request,
    version: i16,
) {
    if engine.guard(id, peer, &mut request, version) {
        hand_over(engine, id, peer, request, version);
    }
}

/// Hands a request to its family.
fn hand_over(engine: &mut Engine, id: Id, peer: &Peer, request: Request, version: i16) {
    match request {
        Request::Produce(request) => engine.on_produce(id, request, version),
        Request::Fetch(request) => engine.on_fetch(id, peer, request, version),
        Request::ListOffsets(request) => engine.on_list_offsets(id, &request, version),
        Request::Metadata(request) => engine.on_metadata(id, peer, &request, version),
        Request::OffsetCommit(request) => engine.on_offset_commit(id, &request, version),
        Request::OffsetFetch(request) => engine.on_offset_fetch(id, &request, version),
        Request::FindCoordinator(request) => {
            engine.on_find_coordinator(id, peer, &request, version);
        }
        Request::JoinGroup(request) => engine.on_join_group(id, peer, &request, version),
        Request::Heartbeat(request) => engine.on_heartbeat(id, &request),
        Request::LeaveGroup(request) => engine.on_leave_group(id, &request, version),
        Request::SyncGroup(request) => engine.on_sync_group(id, &request),
        Request::DescribeGroups(request) => engine.on_describe_groups(id, &request, version),
        Request::ListGroups(request) => engine.on_list_groups(id, &request),
        Request::DeleteGroups(request) => engine.on_delete_groups(id, &request),
        Request::ConsumerGroupHeartbeat(request) => {
            engine.on_consumer_group_heartbeat(id, peer, &request, version);
        }
        Request::ConsumerGroupDescribe(request) => engine.on_consumer_group_describe(id, &request),
        Request::OffsetDelete(request) => engine.on_offset_delete(id, &request),
        Request::ApiVersions(_) => engine.reply(id, Response::ApiVersions(api_versions::served())),
        Request::CreateTopics(request) => engine.on_create_topics(id, &request),
        Request::DeleteTopics(request) => engine.on_delete_topics(id, &request, version),
        Request::CreatePartitions(request) => engine.on_create_partitions(id, &request),
        Request::DeleteRecords(request) => engine.on_delete_records(id, &request),
        Request::AlterConfigs(request) => engine.on_alter_configs(id, &request),
        Request::IncrementalAlterConfigs(request) => {
            engine.on_incremental_alter_configs(id, &request);
        }
        Request::DescribeConfigs(request) => engine.on_describe_configs(id, &request),
        Request::InitProducerId(request) => engine.on_init_producer_id(id, &request, version),
        Request::AddPartitionsToTxn(request) => {
            engine.on_add_partitions_to_txn(id, &request, version);
        }
        Request::AddOffsetsToTxn(request) => engine.on_add_offsets_to_txn(id, &request, version),
        Request::EndTxn(request) => engine.on_end_txn(id, &request, version),
        Request::WriteTxnMarkers(request) => engine.on_write_txn_markers(id, &request),
        Request::TxnOffsetCommit(request) => engine.on_txn_offset_commit(id, &request, version),
        Request::DescribeProducers(request) => engine.on_describe_producers(id, &request),
        Request::DescribeTransactions(request) => engine.on_describe_transactions(id, &request),
        Request::ListTransactions(request) => engine.on_list_transactions(id, &request),
        Request::OffsetForLeaderEpoch(request) => engine.on_offset_for_leader_epoch(id, &request),
        Request::DescribeCluster(request) => engine.on_describe_cluster(id, peer, &request),
        Request::AlterReplicaLogDirs(request) => engine.on_alter_replica_log_dirs(id, &request),
        Request::DescribeLogDirs(request) => engine.on_describe_log_dirs(id, &request),
        Request::ElectLeaders(request) => engine.on_elect_leaders(id, &request),
        Request::AlterPartitionReassignments(request) => engine.on_reassign(id, &request),
        Request::ListPartitionReassignments(_) => engine.on_list_partition_reassignments(id),
        Request::DescribeClientQuotas(request) => engine.on_describe_client_quotas(id, &request),
        Request::AlterClientQuotas(request) => engine.on_alter_client_quotas(id, &request),
        Request::DescribeAcls(request) => engine.on_describe_acls(id, &request),
        Request::CreateAcls(request) => engine.on_create_acls(id, &request),
        Request::DeleteAcls(request) => engine.on_delete_acls(id, &request),
        Request::DescribeUserScramCredentials(request) => engine.on_describe_users(id, &request),
        Request::AlterUserScramCredentials(request) => engine.on_alter_users(id, &request),
        Request::SaslHandshake(_) => engine.on_sasl_handshake(id),
        Request::SaslAuthenticate(_) => engine.on_sasl_authenticate(id),
        Request::DescribeQuorum(request) => engine.on_describe_quorum(id, &request),
        Request::UpdateFeatures(request) => engine.on_update_features(id, &request, version),
        Request::ListConfigResources(request) => engine.on_list_resources(id, &request, version),
        Request::DescribeTopicPartitions(request) => engine.on_describe_pages(id, &request),
    }
}

/// All that can be done to each kind of resource; what a peer may is left of it on the way out.
pub(crate) const TOPIC_OPERATIONS: i32 = bits(&[
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
]);
pub(crate) const CLUSTER_OPERATIONS: i32 = bits(&[
    Operation::Create,
    Operation::Alter,
    Operation::Describe,
    Operation::ClusterAction,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::IdempotentWrite,
]);
pub(crate) const GROUP_OPERATIONS: i32 =
    bits(&[Operation::Read, Operation::Delete, Operation::Describe]);
