//! Requests that name groups, and the search for coordinators. Must never tell whether a group exists that
//! may not be described.

use super::gate::{GROUP, Gate, TOPIC, Verdict, take_out, why};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::consumer_group_describe_response::DescribedGroup as ConsumerGroup;
use millpond_wire::messages::delete_groups_response::DeletableGroupResult;
use millpond_wire::messages::describe_groups_response::DescribedGroup;
use millpond_wire::messages::find_coordinator_response::Coordinator;
use millpond_wire::messages::*;
use millpond_wire::permission::Resource;

pub(super) fn find_coordinator(
    gate: &Gate<'_>,
    request: &mut FindCoordinatorRequest,
    version: i16,
) -> Verdict {
    let resource = match request.key_type {
        TRANSACTION_KEY => Resource::TransactionalId,
        _ => Resource::Group,
    };
    let (error_code, error_message) = (ErrorCode::of_refusal(resource).code(), why(resource));
    if version < BATCH_VERSION {
        if gate.may(resource, &request.key) {
            return Verdict::Pass;
        }
        let response = FindCoordinatorResponse {
            error_code,
            error_message,
            node_id: -1,
            port: -1,
            ..Default::default()
        };
        return Verdict::refuse(response);
    }
    let refused = take_out(&mut request.coordinator_keys, |key| gate.may(resource, key));
    let is_any = !refused.is_empty();
    let coordinators = refused.into_iter().map(|key| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code,
        error_message: error_message.clone(),
        ..Default::default()
    });
    let coordinators = coordinators.collect();
    Verdict::trim(is_any, FindCoordinatorResponse { coordinators, ..Default::default() })
}

/// Nothing of a group may be had that may not be had.
fn whole<R: Into<Response>>(gate: &Gate<'_>, group: &str, refusal: impl FnOnce() -> R) -> Verdict {
    if gate.may(Resource::Group, group) { Verdict::Pass } else { Verdict::refuse(refusal()) }
}

pub(super) fn join(gate: &Gate<'_>, request: &JoinGroupRequest) -> Verdict {
    whole(gate, &request.group_id, || JoinGroupResponse {
        error_code: GROUP,
        member_id: request.member_id.clone(),
        ..Default::default()
    })
}

pub(super) fn heartbeat(gate: &Gate<'_>, request: &HeartbeatRequest) -> Verdict {
    whole(gate, &request.group_id, || HeartbeatResponse { error_code: GROUP, ..Default::default() })
}

pub(super) fn leave(gate: &Gate<'_>, request: &LeaveGroupRequest) -> Verdict {
    whole(gate, &request.group_id, || LeaveGroupResponse {
        error_code: GROUP,
        ..Default::default()
    })
}

pub(super) fn sync(gate: &Gate<'_>, request: &SyncGroupRequest) -> Verdict {
    whole(gate, &request.group_id, || SyncGroupResponse { error_code: GROUP, ..Default::default() })
}

pub(super) fn describe(gate: &Gate<'_>, request: &mut DescribeGroupsRequest) -> Verdict {
    let refused = take_out(&mut request.groups, |group| gate.may(Resource::Group, group));
    let is_any = !refused.is_empty();
    let groups = refused.into_iter().map(|group_id| DescribedGroup {
        error_code: GROUP,
        group_id,
        ..Default::default()
    });
    let groups = groups.collect();
    Verdict::trim(is_any, DescribeGroupsResponse { groups, ..Default::default() })
}

pub(super) fn delete(gate: &Gate<'_>, request: &mut DeleteGroupsRequest) -> Verdict {
    let refused = take_out(&mut request.groups_names, |group| gate.may(Resource::Group, group));
    let is_any = !refused.is_empty();
    let results = refused
        .into_iter()
        .map(|group_id| DeletableGroupResult { group_id, error_code: GROUP })
        .collect();
    Verdict::trim(is_any, DeleteGroupsResponse { results, ..Default::default() })
}

/// A member names topics, too: what it may not describe it cannot subscribe to.
pub(super) fn consumer_heartbeat(
    gate: &Gate<'_>,
    request: &ConsumerGroupHeartbeatRequest,
) -> Verdict {
    let refuse = |error_code, error_message| {
        Verdict::refuse(ConsumerGroupHeartbeatResponse {
            error_code,
            error_message,
            ..Default::default()
        })
    };
    if !gate.may(Resource::Group, &request.group_id) {
        return refuse(GROUP, why(Resource::Group));
    }
    let mut topics = request.subscribed_topic_names.iter().flatten();
    if topics.all(|topic| gate.may(Resource::Topic, topic)) {
        return Verdict::Pass;
    }
    refuse(TOPIC, why(Resource::Topic))
}

pub(super) fn consumer_describe(
    gate: &Gate<'_>,
    request: &mut ConsumerGroupDescribeRequest,
) -> Verdict {
    let refused = take_out(&mut request.group_ids, |group| gate.may(Resource::Group, group));
    let is_any = !refused.is_empty();
    let groups = refused.into_iter().map(|group_id| ConsumerGroup {
        error_code: GROUP,
        error_message: why(Resource::Group),
        group_id,
        ..Default::default()
    });
    let groups = groups.collect();
    Verdict::trim(is_any, ConsumerGroupDescribeResponse { groups, ..Default::default() })
}

const TRANSACTION_KEY: i8 = 1;
const BATCH_VERSION: i16 = 4;
