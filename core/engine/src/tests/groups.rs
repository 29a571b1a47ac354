//! Consumer groups as clients live them: join, share, leave, fall silent, come back.

use super::rig::Rig;
use crate::units::{RequestId, SessionId};
use crate::{EngineConfig, GroupState};
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::leave_group_request::MemberIdentity;
use millpond_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use millpond_wire::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, Request, Response,
    SyncGroupRequest, SyncGroupResponse,
};

pub(super) fn join_request(member_id: &str, instance: Option<&str>) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: member_id.to_owned(),
        group_instance_id: instance.map(str::to_owned),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"topics"),
        }],
        ..JoinGroupRequest::default()
    }
}

pub(super) fn send_join(rig: &mut Rig, member_id: &str) -> RequestId {
    rig.send(Request::JoinGroup(join_request(member_id, None)), 7)
}

pub(super) fn joined(rig: &mut Rig, id: RequestId) -> JoinGroupResponse {
    match rig.take(id) {
        Response::JoinGroup(response) => response,
        other => panic!("{other:?}"),
    }
}

/// The first round of a join: only an id.
pub(super) fn new_member(rig: &mut Rig, client: &str) -> String {
    let request = Request::JoinGroup(join_request("", None));
    let id = rig.send_from(SessionId(1), client, request, 7);
    let response = joined(rig, id);
    assert_eq!(response.error_code, ErrorCode::MemberIdRequired.code());
    response.member_id
}

pub(super) fn send_sync(
    rig: &mut Rig,
    join: &JoinGroupResponse,
    shares: &[(&str, &str)],
) -> RequestId {
    let share = |(member, share): &(&str, &str)| SyncGroupRequestAssignment {
        member_id: (*member).to_owned(),
        assignment: Bytes::copy_from_slice(share.as_bytes()),
    };
    let request = SyncGroupRequest {
        group_id: "g".to_owned(),
        generation_id: join.generation_id,
        member_id: join.member_id.clone(),
        assignments: shares.iter().map(share).collect(),
        ..SyncGroupRequest::default()
    };
    rig.send(Request::SyncGroup(request), 5)
}

pub(super) fn synced(rig: &mut Rig, id: RequestId) -> SyncGroupResponse {
    match rig.take(id) {
        Response::SyncGroup(response) => response,
        other => panic!("{other:?}"),
    }
}

pub(super) fn heartbeat(rig: &mut Rig, member_id: &str, generation_id: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "g".to_owned(),
        generation_id,
        member_id: member_id.to_owned(),
        ..HeartbeatRequest::default()
    };
    match rig.call(Request::Heartbeat(request), 4) {
        Response::Heartbeat(response) => {
            ErrorCode::from_code(response.error_code).expect("a known code")
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn leave(rig: &mut Rig, member_id: &str) -> i16 {
    let member = MemberIdentity { member_id: member_id.to_owned(), ..MemberIdentity::default() };
    let request = LeaveGroupRequest {
        group_id: "g".to_owned(),
        members: vec![member],
        ..LeaveGroupRequest::default()
    };
    match rig.call(Request::LeaveGroup(request), 4) {
        Response::LeaveGroup(response) => response.members[0].error_code,
        other => panic!("{other:?}"),
    }
}

pub(super) fn state(rig: &Rig) -> GroupState {
    rig.engine.group("g").map_or(GroupState::Dead, |group| group.state)
}

/// One member, alone and stable.
pub(super) fn alone(rig: &mut Rig) -> JoinGroupResponse {
    let member = new_member(rig, "first");
    let id = send_join(rig, &member);
    rig.pass_ms(100);
    let join = joined(rig, id);
    let sync = send_sync(rig, &join, &[(&member, "0123")]);
    assert_eq!(synced(rig, sync).assignment, Bytes::from_static(b"0123"));
    join
}

/// Two members, stable: the leader and the other.
pub(super) fn two(rig: &mut Rig) -> (JoinGroupResponse, JoinGroupResponse) {
    let first = alone(rig);
    let second_id = new_member(rig, "second");
    let second = send_join(rig, &second_id);
    assert_eq!(
        heartbeat(rig, &first.member_id, first.generation_id),
        ErrorCode::RebalanceInProgress
    );
    let again = send_join(rig, &first.member_id);
    let (first, second) = (joined(rig, again), joined(rig, second));
    let waiting = send_sync(rig, &second, &[]);
    assert!(!rig.is_answered(waiting));
    let shares = [(first.member_id.as_str(), "01"), (second_id.as_str(), "23")];
    let leading = send_sync(rig, &first, &shares);
    assert_eq!(synced(rig, leading).assignment, Bytes::from_static(b"01"));
    assert_eq!(synced(rig, waiting).assignment, Bytes::from_static(b"23"));
    (first, second)
}

#[test]
fn two_consumers_share_four_partitions_and_one_gets_all_when_the_other_leaves() {
    let mut rig = Rig::new();
    let (first, second) = two(&mut rig);
    assert_eq!(first.generation_id, 2);
    assert_eq!(first.members.len(), 2);
    assert!(second.members.is_empty(), "only the leader is told who is in");
    assert_eq!(state(&rig), GroupState::Stable);
    assert_eq!(leave(&mut rig, &second.member_id), 0);
    assert_eq!(heartbeat(&mut rig, &first.member_id, 2), ErrorCode::RebalanceInProgress);
    let id = send_join(&mut rig, &first.member_id);
    let first = joined(&mut rig, id);
    assert_eq!((first.generation_id, first.members.len()), (3, 1));
    let sync = send_sync(&mut rig, &first, &[(&first.member_id, "0123")]);
    assert_eq!(synced(&mut rig, sync).assignment, Bytes::from_static(b"0123"));
    assert_eq!(heartbeat(&mut rig, &first.member_id, 3), ErrorCode::None);
    assert_eq!(heartbeat(&mut rig, &second.member_id, 3), ErrorCode::UnknownMemberId);
}

#[test]
fn members_that_come_together_share_the_first_generation() {
    let mut rig = Rig::new();
    let ids: Vec<String> = (0..3).map(|n| new_member(&mut rig, &format!("c{n}"))).collect();
    let joins: Vec<RequestId> = ids.iter().map(|id| send_join(&mut rig, id)).collect();
    assert!(joins.iter().all(|id| !rig.is_answered(*id)));
    rig.pass_ms(200);
    let answers: Vec<JoinGroupResponse> =
        joins.into_iter().map(|id| joined(&mut rig, id)).collect();
    assert!(answers.iter().all(|answer| answer.generation_id == 1 && answer.error_code == 0));
    assert_eq!(answers.iter().filter(|answer| answer.members.len() == 3).count(), 1);
    assert!(answers.iter().all(|answer| answer.leader == ids[0]));
}

#[test]
fn a_member_that_falls_silent_is_out_after_its_session_timeout() {
    let mut rig = Rig::new();
    let (first, second) = two(&mut rig);
    rig.pass_ms(6_000);
    assert_eq!(heartbeat(&mut rig, &first.member_id, 2), ErrorCode::None);
    rig.pass_ms(6_000);
    assert_eq!(state(&rig), GroupState::PreparingRebalance);
    assert_eq!(heartbeat(&mut rig, &first.member_id, 2), ErrorCode::RebalanceInProgress);
    let id = send_join(&mut rig, &first.member_id);
    assert_eq!(joined(&mut rig, id).members.len(), 1);
    assert_eq!(heartbeat(&mut rig, &second.member_id, 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_does_not_join_again_in_time_is_left_behind() {
    let mut rig = Rig::new();
    let (first, second) = two(&mut rig);
    let third = new_member(&mut rig, "third");
    let third = send_join(&mut rig, &third);
    let again = send_join(&mut rig, &first.member_id);
    // The second one still beats, but never joins.
    for _ in 0..13 {
        rig.pass_ms(5_000);
        heartbeat(&mut rig, &second.member_id, 2);
    }
    assert_eq!(joined(&mut rig, again).members.len(), 2);
    assert_eq!(joined(&mut rig, third).error_code, 0);
    assert_eq!(heartbeat(&mut rig, &second.member_id, 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_leader_that_never_assigns_does_not_hold_the_others_for_ever() {
    let mut rig = Rig::new();
    let first = alone(&mut rig);
    let second = new_member(&mut rig, "second");
    let second = send_join(&mut rig, &second);
    let again = send_join(&mut rig, &first.member_id);
    joined(&mut rig, again);
    let second = joined(&mut rig, second);
    let waiting = send_sync(&mut rig, &second, &[]);
    for _ in 0..13 {
        rig.pass_ms(5_000);
        heartbeat(&mut rig, &first.member_id, 2);
    }
    assert_eq!(synced(&mut rig, waiting).error_code, ErrorCode::RebalanceInProgress.code());
    let id = send_join(&mut rig, &second.member_id);
    let second = joined(&mut rig, id);
    assert_eq!(second.leader, second.member_id);
}

#[test]
fn a_member_id_that_nobody_uses_is_forgotten_and_the_group_with_it() {
    let mut rig = Rig::new();
    new_member(&mut rig, "ghost");
    assert_eq!(rig.engine.groups().len(), 1);
    rig.pass_ms(10_000);
    assert_eq!(rig.engine.groups().len(), 0);
    assert_eq!(rig.engine.next_deadline_ms(), None);
}

#[test]
fn old_clients_join_without_a_second_round() {
    let mut rig = Rig::new();
    let id = rig.send(Request::JoinGroup(join_request("", None)), 2);
    rig.pass_ms(100);
    let join = joined(&mut rig, id);
    assert_eq!((join.error_code, join.generation_id), (0, 1));
    assert_eq!(join.leader, join.member_id);
}

#[test]
fn what_a_group_cannot_accept_is_refused() {
    let mut rig = Rig::new();
    let first = alone(&mut rig);
    let code = |rig: &mut Rig, change: &dyn Fn(&mut JoinGroupRequest)| {
        let mut request = join_request("", None);
        change(&mut request);
        let id = rig.send(Request::JoinGroup(request), 7);
        ErrorCode::from_code(joined(rig, id).error_code).expect("a known code")
    };
    assert_eq!(code(&mut rig, &|r| r.group_id.clear()), ErrorCode::InvalidGroupId);
    let short = |r: &mut JoinGroupRequest| r.session_timeout_ms = 10;
    assert_eq!(code(&mut rig, &short), ErrorCode::InvalidSessionTimeout);
    let other_type = |r: &mut JoinGroupRequest| r.protocol_type = "connect".to_owned();
    assert_eq!(code(&mut rig, &other_type), ErrorCode::InconsistentGroupProtocol);
    let other = |r: &mut JoinGroupRequest| r.protocols[0].name = "sticky".to_owned();
    assert_eq!(code(&mut rig, &other), ErrorCode::InconsistentGroupProtocol);
    let unknown = |r: &mut JoinGroupRequest| r.member_id = "nobody".to_owned();
    assert_eq!(code(&mut rig, &unknown), ErrorCode::UnknownMemberId);
    let wrong = heartbeat(&mut rig, &first.member_id, 9);
    assert_eq!(wrong, ErrorCode::IllegalGeneration);
}

#[test]
fn a_repeated_join_of_a_follower_keeps_the_generation_and_one_of_the_leader_starts_anew() {
    let mut rig = Rig::new();
    let (first, second) = two(&mut rig);
    let id = send_join(&mut rig, &second.member_id);
    assert_eq!(joined(&mut rig, id).generation_id, 2);
    assert_eq!(state(&rig), GroupState::Stable);
    send_join(&mut rig, &first.member_id);
    assert_eq!(state(&rig), GroupState::PreparingRebalance);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_former_self() {
    let mut rig = Rig::new();
    let id = rig.send(Request::JoinGroup(join_request("", Some("pump-1"))), 7);
    rig.pass_ms(100);
    let before = joined(&mut rig, id);
    let sync = send_sync(&mut rig, &before, &[(&before.member_id, "0123")]);
    synced(&mut rig, sync);
    let id = rig.send(Request::JoinGroup(join_request("", Some("pump-1"))), 7);
    let after = joined(&mut rig, id);
    assert_eq!((after.error_code, after.generation_id), (0, before.generation_id));
    assert_ne!(after.member_id, before.member_id);
    assert_eq!(state(&rig), GroupState::Stable);
    let sync = send_sync(&mut rig, &after, &[]);
    assert_eq!(synced(&mut rig, sync).assignment, Bytes::from_static(b"0123"));
    let request = HeartbeatRequest {
        group_id: "g".to_owned(),
        generation_id: before.generation_id,
        member_id: before.member_id,
        group_instance_id: Some("pump-1".to_owned()),
    };
    match rig.call(Request::Heartbeat(request), 4) {
        Response::Heartbeat(response) => {
            assert_eq!(response.error_code, ErrorCode::FencedInstanceId.code());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_protocol_that_most_members_prefer_among_those_that_all_know_is_chosen() {
    let mut rig = Rig::new();
    let prefer = |names: &[&str]| {
        let mut request = join_request("", None);
        let protocol = |name: &&str| JoinGroupRequestProtocol {
            name: (*name).to_owned(),
            metadata: Bytes::copy_from_slice(name.as_bytes()),
        };
        request.protocols = names.iter().map(protocol).collect();
        Request::JoinGroup(request)
    };
    let ids = [
        rig.send(prefer(&["range", "sticky"]), 2),
        rig.send(prefer(&["roundrobin", "sticky", "range"]), 2),
        rig.send(prefer(&["sticky", "range"]), 2),
    ];
    rig.pass_ms(200);
    for id in ids {
        assert_eq!(joined(&mut rig, id).protocol_name.as_deref(), Some("sticky"));
    }
}

#[test]
fn a_group_without_delay_is_ready_at_once() {
    let config = EngineConfig { group_initial_rebalance_delay_ms: 0, ..EngineConfig::default() };
    let mut rig = Rig::with_config(config);
    let member = new_member(&mut rig, "only");
    let id = send_join(&mut rig, &member);
    assert_eq!(joined(&mut rig, id).generation_id, 1);
}

#[test]
fn a_full_group_takes_nobody_more() {
    let mut rig = Rig::new();
    for _ in 0..limits::GROUP_MEMBERS_MAX {
        rig.send(Request::JoinGroup(join_request("", None)), 2);
    }
    let id = rig.send(Request::JoinGroup(join_request("", None)), 7);
    assert_eq!(joined(&mut rig, id).error_code, ErrorCode::GroupMaxSizeReached.code());
}
