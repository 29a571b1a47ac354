//! Requests about the node as a whole: all or nothing. What each needs of the cluster its `guard` line
//! says.

use super::gate::{CLUSTER, Gate, Verdict, why};
use millpond_wire::messages::alter_client_quotas_response;
use millpond_wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use millpond_wire::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use millpond_wire::messages::create_acls_response::AclCreationResult;
use millpond_wire::messages::delete_acls_response::DeleteAclsFilterResult;
use millpond_wire::messages::*;
use millpond_wire::permission::Resource;
use std::collections::BTreeSet;

pub(super) fn check(gate: &Gate<'_>, request: &Request) -> Verdict {
    if gate.may_cluster() {
        return Verdict::Pass;
    }
    refusal(request).map_or(Verdict::Pass, Verdict::refuse)
}

/// The whole of a request refused; `None`: it is none of these.
fn refusal(request: &Request) -> Option<Response> {
    let (error_code, error_message) = (CLUSTER, why(Resource::Cluster));
    macro_rules! with_code {
        ($response:ident) => {
            $response { error_code, ..Default::default() }.into()
        };
        ($response:ident, message) => {
            $response { error_code, error_message, ..Default::default() }.into()
        };
    }
    Some(match request {
        Request::DescribeLogDirs(_) => with_code!(DescribeLogDirsResponse),
        Request::ElectLeaders(_) => with_code!(ElectLeadersResponse),
        Request::AlterPartitionReassignments(_) => {
            with_code!(AlterPartitionReassignmentsResponse, message)
        }
        Request::ListPartitionReassignments(_) => {
            with_code!(ListPartitionReassignmentsResponse, message)
        }
        Request::DescribeClientQuotas(_) => with_code!(DescribeClientQuotasResponse, message),
        Request::DescribeAcls(_) => with_code!(DescribeAclsResponse, message),
        Request::DescribeUserScramCredentials(_) => {
            with_code!(DescribeUserScramCredentialsResponse, message)
        }
        Request::DescribeQuorum(_) => with_code!(DescribeQuorumResponse, message),
        Request::UpdateFeatures(_) => with_code!(UpdateFeaturesResponse, message),
        Request::ListConfigResources(_) => with_code!(ListConfigResourcesResponse),
        Request::AlterReplicaLogDirs(request) => log_dirs(request).into(),
        Request::AlterClientQuotas(request) => quotas(request).into(),
        Request::CreateAcls(request) => {
            let one = || AclCreationResult { error_code, error_message: error_message.clone() };
            let results = request.creations.iter().map(|_| one()).collect();
            CreateAclsResponse { results, ..Default::default() }.into()
        }
        Request::DeleteAcls(request) => {
            let one = || DeleteAclsFilterResult {
                error_code,
                error_message: error_message.clone(),
                matching_acls: Vec::new(),
            };
            let filter_results = request.filters.iter().map(|_| one()).collect();
            DeleteAclsResponse { filter_results, ..Default::default() }.into()
        }
        Request::AlterUserScramCredentials(request) => users(request).into(),
        _ => return None,
    })
}

fn log_dirs(request: &AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let part = |index: &i32| AlterReplicaLogDirPartitionResult {
        partition_index: *index,
        error_code: CLUSTER,
    };
    let topics = request.dirs.iter().flat_map(|dir| &dir.topics);
    let results = topics.map(|topic| AlterReplicaLogDirTopicResult {
        topic_name: topic.name.clone(),
        partitions: topic.partitions.iter().map(part).collect(),
    });
    AlterReplicaLogDirsResponse { results: results.collect(), ..Default::default() }
}

fn quotas(request: &AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let entity =
        |one: &alter_client_quotas_request::EntityData| alter_client_quotas_response::EntityData {
            entity_type: one.entity_type.clone(),
            entity_name: one.entity_name.clone(),
        };
    let entries = request.entries.iter().map(|entry| alter_client_quotas_response::EntryData {
        error_code: CLUSTER,
        error_message: why(Resource::Cluster),
        entity: entry.entity.iter().map(entity).collect(),
    });
    AlterClientQuotasResponse { entries: entries.collect(), ..Default::default() }
}

fn users(request: &AlterUserScramCredentialsRequest) -> AlterUserScramCredentialsResponse {
    let named = request.deletions.iter().map(|one| &one.name);
    let names: BTreeSet<&String> =
        named.chain(request.upsertions.iter().map(|one| &one.name)).collect();
    let results = names.into_iter().map(|user| AlterUserScramCredentialsResult {
        user: user.clone(),
        error_code: CLUSTER,
        error_message: why(Resource::Cluster),
    });
    AlterUserScramCredentialsResponse { results: results.collect(), ..Default::default() }
}
