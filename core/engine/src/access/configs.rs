//! Requests about settings: of the cluster, of topics, of groups.

use super::gate::{Gate, Verdict, take_out, why};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::describe_configs_response::DescribeConfigsResult;
use millpond_wire::messages::*;
use millpond_wire::permission::{CLUSTER_NAME, Resource};

/// Which kind of resource settings belong to; those of brokers, loggers and clients are the cluster's.
fn kind(resource_type: i8) -> Resource {
    match resource_type {
        TOPIC_TYPE => Resource::Topic,
        GROUP_TYPE => Resource::Group,
        _ => Resource::Cluster,
    }
}

fn may(gate: &Gate<'_>, resource_type: i8, name: &str) -> bool {
    match kind(resource_type) {
        Resource::Cluster => gate.may(Resource::Cluster, CLUSTER_NAME),
        resource => gate.may(resource, name),
    }
}

pub(super) fn describe(gate: &Gate<'_>, request: &mut DescribeConfigsRequest) -> Verdict {
    let refused =
        take_out(&mut request.resources, |one| may(gate, one.resource_type, &one.resource_name));
    let is_any = !refused.is_empty();
    let results = refused.into_iter().map(|one| DescribeConfigsResult {
        error_code: ErrorCode::of_refusal(kind(one.resource_type)).code(),
        error_message: why(kind(one.resource_type)),
        resource_type: one.resource_type,
        resource_name: one.resource_name,
        ..Default::default()
    });
    let results = results.collect();
    Verdict::trim(is_any, DescribeConfigsResponse { results, ..Default::default() })
}

/// Both ways to change settings name and answer the same, each with types of its own.
macro_rules! alter {
    ($name:ident, $request:ident, $response:ident, $module:ident) => {
        pub(super) fn $name(gate: &Gate<'_>, request: &mut $request) -> Verdict {
            use millpond_wire::messages::$module::AlterConfigsResourceResponse;
            let refused = take_out(&mut request.resources, |one| {
                may(gate, one.resource_type, &one.resource_name)
            });
            let is_any = !refused.is_empty();
            let responses = refused.into_iter().map(|one| AlterConfigsResourceResponse {
                error_code: ErrorCode::of_refusal(kind(one.resource_type)).code(),
                error_message: why(kind(one.resource_type)),
                resource_type: one.resource_type,
                resource_name: one.resource_name,
            });
            let responses = responses.collect();
            Verdict::trim(is_any, $response { responses, ..Default::default() })
        }
    };
}

alter!(alter, AlterConfigsRequest, AlterConfigsResponse, alter_configs_response);
alter!(
    alter_some,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
    incremental_alter_configs_response
);

const TOPIC_TYPE: i8 = 2;
const GROUP_TYPE: i8 = 32;
