//! Static members (KIP-345) as fleets of devices live them: restarts that disturb nobody, fencing,
//! and removal by an administrator. Also groups that are not of consumers.

use super::rig::Rig;
use crate::GroupState;
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::leave_group_request::MemberIdentity;
use millpond_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use millpond_wire::messages::{
    ConsumerProtocolSubscription, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, Request,
    Response, SyncGroupRequest,
};
use millpond_wire::{Message, Writer};

/// What a consumer says that reads these topics and owns what `user_data` stands for.
pub(crate) fn subscription(topics: &[&str], user_data: &'static [u8]) -> Bytes {
    let said = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        user_data: Some(Bytes::from_static(user_data)),
        ..ConsumerProtocolSubscription::default()
    };
    let mut writer = Writer::new();
    writer.i16(1);
    said.encode(&mut writer, 1);
    writer.into_bytes()
}

fn join(rig: &mut Rig, instance: &str, member: &str, metadata: Bytes) -> JoinGroupResponse {
    join_as(rig, "consumer", instance, member, metadata, 7)
}

fn join_as(
    rig: &mut Rig,
    protocol_type: &str,
    instance: &str,
    member: &str,
    metadata: Bytes,
    version: i16,
) -> JoinGroupResponse {
    let request = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.to_owned(),
        group_instance_id: Some(instance.to_owned()),
        protocol_type: protocol_type.to_owned(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".to_owned(), metadata }],
        ..JoinGroupRequest::default()
    };
    let id = rig.send(Request::JoinGroup(request), version);
    if !rig.is_answered(id) {
        rig.pass_ms(200);
    }
    match rig.take(id) {
        Response::JoinGroup(response) => response,
        other => panic!("{other:?}"),
    }
}

fn sync(rig: &mut Rig, instance: &str, joined: &JoinGroupResponse) -> Bytes {
    let share = SyncGroupRequestAssignment {
        member_id: joined.member_id.clone(),
        assignment: Bytes::from_static(b"all"),
    };
    let request = SyncGroupRequest {
        group_id: "g".to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: Some(instance.to_owned()),
        assignments: if joined.members.is_empty() { Vec::new() } else { vec![share] },
        ..SyncGroupRequest::default()
    };
    match rig.call(Request::SyncGroup(request), 5) {
        Response::SyncGroup(response) => response.assignment,
        other => panic!("{other:?}"),
    }
}

fn leave(rig: &mut Rig, leaving: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
    let identity = |(member, instance): &(&str, Option<&str>)| MemberIdentity {
        member_id: (*member).to_owned(),
        group_instance_id: instance.map(str::to_owned),
        ..MemberIdentity::default()
    };
    let request = LeaveGroupRequest {
        group_id: "g".to_owned(),
        members: leaving.iter().map(identity).collect(),
        ..LeaveGroupRequest::default()
    };
    match rig.call(Request::LeaveGroup(request), 5) {
        Response::LeaveGroup(response) => {
            let codes = response.members.iter().map(|member| member.error_code);
            codes.map(|code| ErrorCode::from_code(code).expect("a known code")).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn state(rig: &Rig) -> GroupState {
    rig.engine.group("g").map_or(GroupState::Dead, |group| group.state)
}

#[test]
fn what_a_process_owned_before_its_restart_is_no_reason_to_share_anew() {
    let mut rig = Rig::new();
    let before = join(&mut rig, "pump-1", "", subscription(&["t"], b"owns 0 and 1"));
    sync(&mut rig, "pump-1", &before);
    let after = join(&mut rig, "pump-1", "", subscription(&["t"], b""));
    assert_eq!((after.error_code, after.generation_id), (0, before.generation_id));
    assert_eq!(state(&rig), GroupState::Stable);
    assert_eq!(sync(&mut rig, "pump-1", &after), Bytes::from_static(b"all"));
}

#[test]
fn other_topics_after_a_restart_are_a_reason_to_share_anew() {
    let mut rig = Rig::new();
    let before = join(&mut rig, "pump-1", "", subscription(&["t"], b""));
    sync(&mut rig, "pump-1", &before);
    let after = join(&mut rig, "pump-1", "", subscription(&["t", "u"], b""));
    assert_eq!(after.generation_id, before.generation_id + 1);
}

#[test]
fn a_leader_that_comes_back_is_told_to_skip_the_assignment_and_who_is_in() {
    let mut rig = Rig::new();
    let words = subscription(&["t"], b"");
    let before = join(&mut rig, "pump-1", "", words.clone());
    sync(&mut rig, "pump-1", &before);
    let after = join_as(&mut rig, "consumer", "pump-1", "", words.clone(), 9);
    assert!(after.skip_assignment);
    assert_eq!((after.leader.as_str(), after.members.len()), (after.member_id.as_str(), 1));
    // An older client is told of a leader that is not itself instead.
    let older = join_as(&mut rig, "consumer", "pump-1", "", words, 7);
    assert!(!older.skip_assignment && older.members.is_empty());
    assert_ne!(older.leader, older.member_id);
}

#[test]
fn an_administrator_removes_static_members_by_their_instance_ids() {
    let mut rig = Rig::new();
    let first = join(&mut rig, "pump-1", "", subscription(&["t"], b""));
    sync(&mut rig, "pump-1", &first);
    let codes = leave(
        &mut rig,
        &[
            ("", Some("pump-1")),
            ("", Some("pump-2")),
            ("stranger", None),
            ("other", Some("pump-1")),
        ],
    );
    use ErrorCode::{None as Done, UnknownMemberId};
    assert_eq!(codes, [Done, UnknownMemberId, UnknownMemberId, UnknownMemberId]);
    rig.pass_ms(200);
    assert_eq!(state(&rig), GroupState::Empty);
}

#[test]
fn who_leaves_in_the_name_of_an_instance_that_another_holds_is_fenced() {
    let mut rig = Rig::new();
    let first = join(&mut rig, "pump-1", "", subscription(&["t"], b""));
    sync(&mut rig, "pump-1", &first);
    let second = join(&mut rig, "pump-1", "", subscription(&["t"], b""));
    assert_eq!(
        leave(&mut rig, &[(&first.member_id, Some("pump-1"))]),
        [ErrorCode::FencedInstanceId]
    );
    assert_eq!(leave(&mut rig, &[(&second.member_id, Some("pump-1"))]), [ErrorCode::None]);
}

#[test]
fn a_silent_static_member_keeps_its_place_through_a_rebalance_until_its_session_ends() {
    let mut rig = Rig::new();
    let first = join(&mut rig, "pump-1", "", subscription(&["t"], b""));
    sync(&mut rig, "pump-1", &first);
    rig.pass_ms(9_000);
    assert_eq!(rig.engine.group("g").map(|group| group.members.len()), Some(1));
    rig.pass_ms(1_000);
    assert_eq!(state(&rig), GroupState::Empty);
}

#[test]
fn workers_of_connect_and_registries_share_their_own_words() {
    for protocol_type in ["connect", "sr"] {
        let mut rig = Rig::new();
        let words = Bytes::from_static(b"\xff\xffno subscription");
        let first = join_as(&mut rig, protocol_type, "w1", "", words.clone(), 7);
        assert_eq!(first.protocol_type.as_deref(), Some(protocol_type));
        assert_eq!(first.members[0].metadata, words);
        assert_eq!(sync(&mut rig, "w1", &first), Bytes::from_static(b"all"));
        let again = join_as(&mut rig, protocol_type, "w1", "", Bytes::from_static(b"other"), 7);
        assert_eq!(again.generation_id, first.generation_id);
        assert_eq!(state(&rig), GroupState::Stable);
    }
}
