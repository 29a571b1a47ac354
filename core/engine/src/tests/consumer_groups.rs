//! Consumer groups of the new protocol (KIP-848) as their members live them: join, take over and
//! give up partitions, leave, fall silent, come back.

use super::consumer_client::{Client, call};
use super::rig::Rig;
use crate::{GroupKind, GroupState};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::create_partitions_request::CreatePartitionsTopic;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreatePartitionsRequest,
    JoinGroupRequest, ListGroupsRequest, Request, Response,
};

pub(super) fn state(rig: &Rig) -> GroupState {
    rig.engine.group("g").map_or(GroupState::Dead, |group| group.state)
}

/// Everybody beats until nothing changes any more.
pub(super) fn settle(rig: &mut Rig, clients: &mut [&mut Client]) {
    for _ in 0..6 {
        for client in clients.iter_mut() {
            assert_eq!(client.beat(rig), ErrorCode::None, "{client:?}");
        }
    }
    assert_eq!(state(rig), GroupState::Stable);
}

#[test]
fn the_first_member_has_all_and_a_second_one_is_given_only_what_the_first_gave_up() {
    let mut rig = Rig::new();
    rig.create_topic("t", 4);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    assert_eq!(a.beat(&mut rig), ErrorCode::None);
    assert_eq!((a.parts(), a.epoch), (vec![0, 1, 2, 3], 1));
    b.beat(&mut rig);
    assert_eq!((b.parts(), b.epoch), (vec![], 2), "it waits for what another holds");
    a.beat(&mut rig);
    assert_eq!((a.parts().len(), a.epoch), (2, 1), "it gives up in its old epoch");
    b.beat(&mut rig);
    assert_eq!(b.parts(), vec![], "told is not given up");
    assert_eq!(state(&rig), GroupState::Reconciling);
    a.beat(&mut rig);
    assert_eq!(a.epoch, 2);
    b.beat(&mut rig);
    assert_eq!(b.parts().len(), 2);
    assert_eq!(state(&rig), GroupState::Stable);
}

#[test]
fn what_a_member_leaves_the_others_have_with_their_next_heartbeat() {
    let mut rig = Rig::new();
    rig.create_topic("t", 4);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    settle(&mut rig, &mut [&mut a, &mut b]);
    assert_eq!(a.leave(&mut rig, -1), ErrorCode::None);
    b.beat(&mut rig);
    assert_eq!(b.parts(), [0, 1, 2, 3]);
    assert_eq!(b.leave(&mut rig, -1), ErrorCode::None);
    assert_eq!(state(&rig), GroupState::Empty);
    // The clock has to be believed first.
    rig.pass_ms(1_800_000);
    assert_eq!(state(&rig), GroupState::Dead, "nobody is left and nothing was committed");
    assert_eq!(rig.engine.next_deadline_ms(), None, "and nothing is kept of it");
}

#[test]
fn a_silent_member_is_out_after_the_session_timeout() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    settle(&mut rig, &mut [&mut a, &mut b]);
    for _ in 0..9 {
        rig.pass_ms(5_000);
        a.beat(&mut rig);
    }
    assert_eq!(a.parts(), [0, 1]);
    assert_eq!(b.beat(&mut rig), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_does_not_give_up_in_its_rebalance_timeout_is_out() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let mut a = Client::new("a", &["t"]);
    let mut b = Client::new("b", &["t"]);
    settle(&mut rig, &mut [&mut a]);
    b.beat(&mut rig);
    // It goes on with both for ever.
    let stubborn = a.clone();
    for _ in 0..4 {
        a.clone().beat(&mut rig);
        rig.pass_ms(5_000);
        b.beat(&mut rig);
    }
    b.beat(&mut rig);
    assert_eq!(b.parts(), [0, 1]);
    assert_eq!(stubborn.clone().beat(&mut rig), ErrorCode::UnknownMemberId);
}

#[test]
fn epochs_that_do_not_fit_are_fenced_and_a_lost_answer_is_not() {
    let mut rig = Rig::new();
    rig.create_topic("t", 4);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    settle(&mut rig, &mut [&mut a, &mut b]);
    let before = a.clone();
    assert_eq!(b.leave(&mut rig, -1), ErrorCode::None);
    a.send_in_vain(&mut rig);
    assert_eq!(a.epoch, before.epoch, "it has not heard of the new epoch");
    assert_eq!(a.beat(&mut rig), ErrorCode::None);
    assert_eq!(a.parts(), [0, 1, 2, 3]);
    for epoch in [a.epoch + 1, before.epoch - 1] {
        let mut other = Client { epoch, ..a.clone() };
        assert_eq!(other.beat(&mut rig), ErrorCode::FencedMemberEpoch, "{epoch}");
    }
    // Who was fenced joins again under its id and is given what it is to have.
    a.lose();
    assert_eq!(a.beat(&mut rig), ErrorCode::None);
    assert_eq!(a.parts(), [0, 1, 2, 3]);
}

#[test]
fn a_commit_needs_the_epoch_of_the_member() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let mut a = Client::new("a", &["t"]);
    a.beat(&mut rig);
    let commit = super::offsets::commit_to;
    assert_eq!(commit(&mut rig, "a", a.epoch), ErrorCode::None);
    assert_eq!(commit(&mut rig, "a", a.epoch - 1), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut rig, "b", a.epoch), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut rig, "", -1), ErrorCode::UnknownMemberId);
    a.leave(&mut rig, -1);
    assert_eq!(commit(&mut rig, "", -1), ErrorCode::None, "a tool sets offsets of an empty group");
}

#[test]
fn a_static_member_that_is_away_keeps_its_partitions_for_its_successor() {
    let mut rig = Rig::new();
    rig.create_topic("t", 4);
    let mut a = Client::fixed("a", "pump", &["t"]);
    let mut b = Client::new("b", &["t"]);
    settle(&mut rig, &mut [&mut a, &mut b]);
    let (had, epoch) = (a.parts(), a.epoch);
    let mut early = Client::fixed("early", "pump", &["t"]);
    assert_eq!(early.beat(&mut rig), ErrorCode::UnreleasedInstanceId);
    assert_eq!(a.leave(&mut rig, -2), ErrorCode::None);
    b.beat(&mut rig);
    assert_eq!(b.parts().len(), 2, "its place is kept");
    let mut next = Client::fixed("next", "pump", &["t"]);
    assert_eq!(next.beat(&mut rig), ErrorCode::None);
    assert_eq!((next.parts(), next.epoch), (had, epoch), "no new epoch for it");
    let mut old = Client { epoch, is_full: false, ..a.clone() };
    assert_eq!(old.beat(&mut rig), ErrorCode::FencedInstanceId);
    // Without a successor the session decides.
    assert_eq!(next.leave(&mut rig, -2), ErrorCode::None);
    for _ in 0..10 {
        rig.pass_ms(5_000);
        b.beat(&mut rig);
    }
    assert_eq!(b.parts(), [0, 1, 2, 3]);
}

#[test]
fn new_partitions_and_new_topics_are_shared_out() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let mut a = Client::new("a", &["t", "later"]);
    let mut b = Client { regex: Some("late.*".to_owned()), ..Client::new("b", &["t"]) };
    settle(&mut rig, &mut [&mut a, &mut b]);
    let epoch = a.epoch;
    let more = CreatePartitionsTopic {
        name: "t".to_owned(),
        count: 4,
        ..CreatePartitionsTopic::default()
    };
    let request =
        CreatePartitionsRequest { topics: vec![more], ..CreatePartitionsRequest::default() };
    rig.call(Request::CreatePartitions(request), 3);
    settle(&mut rig, &mut [&mut a, &mut b]);
    assert!(a.epoch > epoch);
    assert_eq!((a.parts().len(), b.parts().len()), (2, 2));
    rig.create_topic("unread", 3);
    let epoch = a.epoch;
    settle(&mut rig, &mut [&mut a, &mut b]);
    assert_eq!(a.epoch, epoch, "a topic that nobody reads changes nothing");
    rig.create_topic("later", 6);
    settle(&mut rig, &mut [&mut a, &mut b]);
    assert_eq!((a.parts().len(), b.parts().len()), (5, 5));
}

#[test]
fn a_subscription_that_changes_moves_partitions() {
    let mut rig = Rig::new();
    rig.create_topic("site-1", 2);
    rig.create_topic("site-2", 2);
    let mut a = Client { regex: Some("site-.".to_owned()), ..Client::new("a", &[]) };
    let mut b = Client::new("b", &["site-2"]);
    settle(&mut rig, &mut [&mut a, &mut b]);
    assert_eq!((a.parts().len(), b.parts().len()), (2, 2));
    a.regex = Some(String::new());
    a.is_full = true;
    settle(&mut rig, &mut [&mut a, &mut b]);
    assert_eq!((a.parts().len(), b.parts().len()), (0, 2));
    a.regex = Some("(".to_owned());
    a.is_full = true;
    assert_eq!(a.beat(&mut rig), ErrorCode::InvalidRegularExpression);
}

#[test]
fn the_assignor_that_most_members_name_is_taken() {
    let mut rig = Rig::new();
    rig.create_topic("t", 3);
    rig.create_topic("u", 3);
    let with =
        |id: &str| Client { assignor: Some("range".to_owned()), ..Client::new(id, &["t", "u"]) };
    let (mut a, mut b) = (with("a"), with("b"));
    settle(&mut rig, &mut [&mut a, &mut b]);
    assert_eq!((a.parts().len(), b.parts().len()), (4, 2));
    assert_eq!(rig.engine.group("g").expect("a group").protocol, "range");
    let mut c = Client { assignor: Some("best".to_owned()), ..Client::new("c", &["t"]) };
    assert_eq!(c.beat(&mut rig), ErrorCode::UnsupportedAssignor);
}

#[test]
fn heartbeats_that_contradict_themselves_are_refused_with_kafkas_words() {
    let mut rig = Rig::new();
    let refused = |rig: &mut Rig, change: &dyn Fn(&mut ConsumerGroupHeartbeatRequest)| {
        let mut request = Client::new("a", &["t"]).request();
        change(&mut request);
        let response = call(rig, request);
        assert_eq!(response.error_code, ErrorCode::InvalidRequest.code());
        response.error_message.expect("a message")
    };
    assert_eq!(refused(&mut rig, &|r| r.group_id.clear()), "GroupId can't be empty.");
    assert_eq!(refused(&mut rig, &|r| r.member_id.clear()), "MemberId can't be empty.");
    assert_eq!(
        refused(&mut rig, &|r| r.instance_id = Some(String::new())),
        "InstanceId can't be empty."
    );
    assert_eq!(refused(&mut rig, &|r| r.member_epoch = -3), "MemberEpoch is invalid.");
    assert_eq!(refused(&mut rig, &|r| r.member_epoch = -2), "InstanceId can't be null.");
    assert_eq!(
        refused(&mut rig, &|r| r.rebalance_timeout_ms = -1),
        "RebalanceTimeoutMs must be provided in first request."
    );
    assert_eq!(
        refused(&mut rig, &|r| r.topic_partitions = None),
        "TopicPartitions must be empty when (re-)joining."
    );
    assert!(refused(&mut rig, &|r| r.subscribed_topic_names = None).contains("must be non-null"));
    assert_eq!(state(&rig), GroupState::Dead, "nothing is left of them");
}

#[test]
fn groups_of_both_kinds_are_told_apart_and_an_empty_one_can_become_the_other() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut a = Client::new("a", &["t"]);
    settle(&mut rig, &mut [&mut a]);
    assert_eq!(rig.engine.group("g").map(|group| group.kind), Some(GroupKind::Consumer));
    let listed = |rig: &mut Rig, kind: &str| {
        let types_filter = vec![kind.to_owned()];
        let request = ListGroupsRequest { types_filter, ..ListGroupsRequest::default() };
        match rig.call(Request::ListGroups(request), 5) {
            Response::ListGroups(response) => response.groups.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((listed(&mut rig, "Consumer"), listed(&mut rig, "classic")), (1, 0));
    let described = |rig: &mut Rig, group: &str| {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group.to_owned()],
            ..ConsumerGroupDescribeRequest::default()
        };
        match rig.call(Request::ConsumerGroupDescribe(request), 1) {
            Response::ConsumerGroupDescribe(mut response) => response.groups.remove(0),
            other => panic!("{other:?}"),
        }
    };
    let group = described(&mut rig, "g");
    assert_eq!((group.group_state.as_str(), group.assignor_name.as_str()), ("Stable", "uniform"));
    let member = &group.members[0];
    assert_eq!((member.member_id.as_str(), member.member_type), ("a", 1));
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(member.assignment.topic_partitions[0].topic_name, "t");
    assert_eq!(described(&mut rig, "x").error_code, ErrorCode::GroupIdNotFound.code());
}

#[test]
fn a_full_group_takes_nobody_more_and_a_live_classic_group_takes_no_member_of_the_new_kind() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    for index in 0..limits::GROUP_MEMBERS_MAX {
        assert_eq!(Client::new(&format!("m{index}"), &["t"]).beat(&mut rig), ErrorCode::None);
    }
    assert_eq!(Client::new("x", &["t"]).beat(&mut rig), ErrorCode::GroupMaxSizeReached);
    let join = |group: &str| JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol::default()],
        ..JoinGroupRequest::default()
    };
    let id = rig.send(Request::JoinGroup(join("classic")), 2);
    rig.pass_ms(200);
    rig.take(id);
    let mut client = Client::new("x", &["t"]).in_group("classic");
    assert_eq!(client.beat(&mut rig), ErrorCode::GroupIdNotFound);
    match rig.call(Request::JoinGroup(join("g")), 2) {
        Response::JoinGroup(response) => {
            assert_eq!(response.error_code, ErrorCode::InconsistentGroupProtocol.code());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_group_of_one_kind_becomes_the_other_with_its_offsets() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let commit = super::offsets::commit_to;
    assert_eq!(commit(&mut rig, "", -1), ErrorCode::None);
    assert_eq!(rig.engine.group("g").map(|group| group.kind), Some(GroupKind::Classic));
    let mut a = Client::new("a", &["t"]);
    a.beat(&mut rig);
    assert_eq!(rig.engine.group("g").map(|group| group.kind), Some(GroupKind::Consumer));
    a.leave(&mut rig, -1);
    let request = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol::default()],
        ..JoinGroupRequest::default()
    };
    let id = rig.send(Request::JoinGroup(request), 2);
    rig.pass_ms(200);
    assert!(rig.is_answered(id));
    assert_eq!(rig.engine.group("g").map(|group| group.kind), Some(GroupKind::Classic));
    assert!(rig.engine.offsets().get("g", rig.key("t", 0)).is_some());
}
