//! For each API a request that names something of each kind that it needs a permission for: the topic `t`,
//! the group `g`, the transactional id `x`. Only for tests.

use crate::tests::rig::{batch, fetch_request, produce_request};
use millpond_wire::api::ApiKey;
use millpond_wire::messages::delete_acls_request::DeleteAclsFilter;
use millpond_wire::messages::*;

macro_rules! of {
    ($request:ident { $($field:ident: $value:expr),* $(,)? }) => {
        $request { $($field: $value,)* ..Default::default() }.into()
    };
}

macro_rules! topic {
    ($module:ident::$topic:ident { $($field:ident: $value:expr),* $(,)? }) => {
        vec![$module::$topic { $($field: $value,)* ..Default::default() }]
    };
}

/// A topic, the node, a group.
macro_rules! named {
    ($module:ident::$resource:ident) => {
        [(2, "t"), (4, "1"), (32, "g")]
            .map(|(resource_type, name)| $module::$resource {
                resource_type,
                resource_name: name.to_owned(),
                ..Default::default()
            })
            .into()
    };
}

fn t() -> String {
    "t".to_owned()
}

fn g() -> String {
    "g".to_owned()
}

fn x() -> String {
    "x".to_owned()
}

/// The example of an API.
pub(super) fn example(api: ApiKey) -> Request {
    let found = first(api).or_else(|| second(api)).or_else(|| third(api)).or_else(|| fourth(api));
    found.unwrap_or_else(|| panic!("{api} has no example"))
}

#[allow(clippy::needless_update, reason = "some requests have no other fields")]
fn first(api: ApiKey) -> Option<Request> {
    Some(match api {
        ApiKey::Produce => produce_request("t", 0, batch(&["v"], None), -1),
        ApiKey::Fetch => fetch_request("t", 0, 0, 0, 0),
        ApiKey::ListOffsets => of!(ListOffsetsRequest {
            topics: topic!(list_offsets_request::ListOffsetsTopic {
                name: t(),
                partitions: vec![Default::default()],
            }),
        }),
        ApiKey::Metadata => of!(MetadataRequest {
            topics: Some(topic!(metadata_request::MetadataRequestTopic { name: Some(t()) })),
        }),
        ApiKey::OffsetCommit => of!(OffsetCommitRequest {
            group_id: g(),
            topics: topic!(offset_commit_request::OffsetCommitRequestTopic {
                name: t(),
                partitions: vec![Default::default()],
            }),
        }),
        ApiKey::OffsetFetch => of!(OffsetFetchRequest {
            groups: topic!(offset_fetch_request::OffsetFetchRequestGroup {
                group_id: g(),
                topics: Some(topic!(offset_fetch_request::OffsetFetchRequestTopics {
                    name: t(),
                    partition_indexes: vec![0],
                })),
            }),
        }),
        ApiKey::FindCoordinator => of!(FindCoordinatorRequest { coordinator_keys: vec![g()] }),
        ApiKey::JoinGroup => of!(JoinGroupRequest { group_id: g() }),
        ApiKey::Heartbeat => of!(HeartbeatRequest { group_id: g() }),
        ApiKey::LeaveGroup => of!(LeaveGroupRequest { group_id: g() }),
        ApiKey::SyncGroup => of!(SyncGroupRequest { group_id: g() }),
        ApiKey::DescribeGroups => of!(DescribeGroupsRequest { groups: vec![g()] }),
        ApiKey::ListGroups => of!(ListGroupsRequest {}),
        ApiKey::DeleteGroups => of!(DeleteGroupsRequest { groups_names: vec![g()] }),
        ApiKey::OffsetDelete => of!(OffsetDeleteRequest {
            group_id: g(),
            topics: topic!(offset_delete_request::OffsetDeleteRequestTopic {
                name: t(),
                partitions: vec![Default::default()],
            }),
        }),
        ApiKey::ConsumerGroupHeartbeat => of!(ConsumerGroupHeartbeatRequest {
            group_id: g(),
            subscribed_topic_names: Some(vec![t()]),
        }),
        ApiKey::ConsumerGroupDescribe => of!(ConsumerGroupDescribeRequest { group_ids: vec![g()] }),
        ApiKey::ApiVersions => of!(ApiVersionsRequest {}),
        ApiKey::SaslHandshake => of!(SaslHandshakeRequest {}),
        ApiKey::SaslAuthenticate => of!(SaslAuthenticateRequest {}),
        _ => return None,
    })
}

#[allow(clippy::needless_update, reason = "some requests have no other fields")]
fn second(api: ApiKey) -> Option<Request> {
    Some(match api {
        ApiKey::DescribeCluster => {
            of!(DescribeClusterRequest { include_cluster_authorized_operations: true })
        }
        ApiKey::CreateTopics => of!(CreateTopicsRequest {
            topics: topic!(create_topics_request::CreatableTopic { name: t() }),
        }),
        ApiKey::DeleteTopics => of!(DeleteTopicsRequest {
            topics: topic!(delete_topics_request::DeleteTopicState { name: Some(t()) }),
        }),
        ApiKey::CreatePartitions => of!(CreatePartitionsRequest {
            topics: topic!(create_partitions_request::CreatePartitionsTopic { name: t() }),
        }),
        ApiKey::DescribeConfigs => of!(DescribeConfigsRequest {
            resources: named!(describe_configs_request::DescribeConfigsResource),
        }),
        ApiKey::AlterConfigs => of!(AlterConfigsRequest {
            validate_only: true,
            resources: named!(alter_configs_request::AlterConfigsResource),
        }),
        ApiKey::IncrementalAlterConfigs => of!(IncrementalAlterConfigsRequest {
            validate_only: true,
            resources: named!(incremental_alter_configs_request::AlterConfigsResource),
        }),
        ApiKey::DeleteRecords => of!(DeleteRecordsRequest {
            topics: topic!(delete_records_request::DeleteRecordsTopic {
                name: t(),
                partitions: vec![Default::default()],
            }),
        }),
        ApiKey::OffsetForLeaderEpoch => of!(OffsetForLeaderEpochRequest {
            topics: topic!(offset_for_leader_epoch_request::OffsetForLeaderTopic {
                topic: t(),
                partitions: vec![Default::default()],
            }),
        }),
        ApiKey::InitProducerId => of!(InitProducerIdRequest { transactional_id: Some(x()) }),
        ApiKey::AddPartitionsToTxn => of!(AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: x(),
            v3_and_below_topics: topic!(add_partitions_to_txn_request::AddPartitionsToTxnTopic {
                name: t(),
                partitions: vec![0],
            }),
        }),
        ApiKey::AddOffsetsToTxn => {
            of!(AddOffsetsToTxnRequest { transactional_id: x(), group_id: g() })
        }
        ApiKey::EndTxn => of!(EndTxnRequest { transactional_id: x() }),
        _ => return None,
    })
}

#[allow(clippy::needless_update, reason = "some requests have no other fields")]
fn third(api: ApiKey) -> Option<Request> {
    Some(match api {
        ApiKey::WriteTxnMarkers => of!(WriteTxnMarkersRequest {
            markers: topic!(write_txn_markers_request::WritableTxnMarker {
                topics: topic!(write_txn_markers_request::WritableTxnMarkerTopic {
                    name: t(),
                    partition_indexes: vec![0],
                }),
            }),
        }),
        ApiKey::TxnOffsetCommit => of!(TxnOffsetCommitRequest {
            transactional_id: x(),
            group_id: g(),
            topics: topic!(txn_offset_commit_request::TxnOffsetCommitRequestTopic {
                name: t(),
                partitions: vec![Default::default()],
            }),
        }),
        ApiKey::DescribeProducers => of!(DescribeProducersRequest {
            topics: topic!(describe_producers_request::TopicRequest {
                name: t(),
                partition_indexes: vec![0],
            }),
        }),
        ApiKey::DescribeTransactions => {
            of!(DescribeTransactionsRequest { transactional_ids: vec![x()] })
        }
        ApiKey::ListTransactions => of!(ListTransactionsRequest {}),
        ApiKey::DescribeTopicPartitions => of!(DescribeTopicPartitionsRequest {
            topics: topic!(describe_topic_partitions_request::TopicRequest { name: t() }),
        }),
        ApiKey::AlterReplicaLogDirs => of!(AlterReplicaLogDirsRequest {
            dirs: topic!(alter_replica_log_dirs_request::AlterReplicaLogDir {
                topics: topic!(alter_replica_log_dirs_request::AlterReplicaLogDirTopic {
                    name: t(),
                    partitions: vec![0],
                }),
            }),
        }),
        ApiKey::DescribeLogDirs => of!(DescribeLogDirsRequest {}),
        ApiKey::ElectLeaders => of!(ElectLeadersRequest {}),
        ApiKey::AlterPartitionReassignments => of!(AlterPartitionReassignmentsRequest {}),
        ApiKey::ListPartitionReassignments => of!(ListPartitionReassignmentsRequest {}),
        ApiKey::DescribeClientQuotas => of!(DescribeClientQuotasRequest {}),
        ApiKey::AlterClientQuotas => {
            of!(AlterClientQuotasRequest { entries: vec![Default::default()], validate_only: true })
        }
        ApiKey::DescribeQuorum => of!(DescribeQuorumRequest {}),
        ApiKey::UpdateFeatures => of!(UpdateFeaturesRequest {}),
        ApiKey::ListConfigResources => of!(ListConfigResourcesRequest {}),
        _ => return None,
    })
}

#[allow(clippy::needless_update, reason = "some requests have no other fields")]
fn fourth(api: ApiKey) -> Option<Request> {
    Some(match api {
        ApiKey::DescribeAcls => of!(DescribeAclsRequest {
            resource_type_filter: 1,
            pattern_type_filter: 1,
            operation: 1,
            permission_type: 1,
        }),
        ApiKey::CreateAcls => of!(CreateAclsRequest { creations: vec![Default::default()] }),
        ApiKey::DeleteAcls => of!(DeleteAclsRequest { filters: vec![DeleteAclsFilter::default()] }),
        ApiKey::DescribeUserScramCredentials => of!(DescribeUserScramCredentialsRequest {}),
        ApiKey::AlterUserScramCredentials => of!(AlterUserScramCredentialsRequest {
            deletions: topic!(alter_user_scram_credentials_request::ScramCredentialDeletion {
                name: "u".to_owned(),
            }),
        }),
        _ => return None,
    })
}
