//! Stories about groups over a restart of the node: its consumers notice nothing but a connection
//! that broke. The rig makes a new engine of the journal alone, as after kill -9.

use super::consumer_client::Client;
use super::groups::{
    alone, heartbeat, join_request, joined, leave, new_member, send_join, send_sync, state, synced,
    two,
};
use super::offsets::commit_to;
use super::rig::Rig;
use crate::{GroupState, GroupView};
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::create_partitions_request::CreatePartitionsTopic;
use millpond_wire::messages::{
    CreatePartitionsRequest, DeleteGroupsRequest, JoinGroupResponse, Request,
};

/// The node is killed and starts again, from the journal alone and from a snapshot.
fn killed(rig: &Rig) -> [Rig; 2] {
    let reborn = |snapshot: Option<Bytes>| {
        let mut reborn = rig.reborn(snapshot);
        reborn.now = rig.now;
        reborn
    };
    [reborn(None), reborn(Some(rig.engine.snapshot()))]
}

fn group(rig: &Rig) -> GroupView {
    rig.engine.group("g").expect("a group")
}

#[test]
fn a_stable_group_goes_on_with_its_generation_and_commits_at_once() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let (first, second) = two(&mut rig);
    let before = group(&rig);
    for mut rig in killed(&rig) {
        assert_eq!(group(&rig), before);
        let code = commit_to(&mut rig, &second.member_id, second.generation_id);
        assert_eq!(code, ErrorCode::None);
        for member in [&first, &second] {
            let code = heartbeat(&mut rig, &member.member_id, member.generation_id);
            assert_eq!(code, ErrorCode::None);
        }
        let again = send_sync(&mut rig, &second, &[]);
        assert_eq!(synced(&mut rig, again).assignment, Bytes::from_static(b"23"));
    }
}

#[test]
fn sessions_begin_anew_and_who_does_not_come_back_is_out_when_its_own_ends() {
    let mut rig = Rig::new();
    let (first, second) = two(&mut rig);
    rig.pass_ms(9_000);
    for mut rig in killed(&rig) {
        rig.handle(crate::Event::Tick);
        rig.pass_ms(9_000);
        assert_eq!(group(&rig).members.len(), 2, "ten seconds from the start on");
        heartbeat(&mut rig, &first.member_id, first.generation_id);
        rig.pass_ms(1_001);
        assert_eq!(group(&rig).members.len(), 1);
        let code = heartbeat(&mut rig, &first.member_id, first.generation_id);
        assert_eq!(code, ErrorCode::RebalanceInProgress);
        let code = heartbeat(&mut rig, &second.member_id, second.generation_id);
        assert_eq!(code, ErrorCode::UnknownMemberId);
    }
}

/// A generation is told to three members, one of them new, and not complete: what they were told.
fn half_way(rig: &mut Rig) -> [JoinGroupResponse; 3] {
    let (first, second) = two(rig);
    let third = new_member(rig, "third");
    let ids = [&first.member_id, &second.member_id, &third].map(|member| send_join(rig, member));
    let told = ids.map(|id| joined(rig, id));
    assert_eq!(state(rig), GroupState::CompletingRebalance);
    told
}

#[test]
fn a_generation_that_was_told_and_never_complete_does_not_come_back() {
    let mut rig = Rig::new();
    let told = half_way(&mut rig);
    for mut rig in killed(&rig) {
        assert_eq!(group(&rig).generation, told[0].generation_id);
        for member in &told {
            let code = heartbeat(&mut rig, &member.member_id, member.generation_id);
            assert_eq!(code, ErrorCode::RebalanceInProgress);
        }
        let sync = send_sync(&mut rig, &told[0], &[]);
        let code = synced(&mut rig, sync).error_code;
        assert_eq!(code, ErrorCode::RebalanceInProgress.code(), "a plan for other members");
        let ids = told.each_ref().map(|member| send_join(&mut rig, &member.member_id));
        for id in ids {
            let join = joined(&mut rig, id);
            assert_eq!((join.error_code, join.generation_id), (0, told[0].generation_id + 1));
        }
    }
}

#[test]
fn a_rebalance_that_had_only_begun_is_forgotten() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let (first, second) = two(&mut rig);
    let third = new_member(&mut rig, "third");
    send_join(&mut rig, &third);
    assert_eq!(state(&rig), GroupState::PreparingRebalance);
    for mut rig in killed(&rig) {
        assert_eq!(state(&rig), GroupState::Stable);
        assert_eq!(commit_to(&mut rig, &first.member_id, first.generation_id), ErrorCode::None);
        let lost = send_join(&mut rig, &third);
        let code = joined(&mut rig, lost).error_code;
        assert_eq!(code, ErrorCode::UnknownMemberId.code(), "its id was never kept");
        let third = new_member(&mut rig, "third");
        let id = send_join(&mut rig, &third);
        let ids = [&first, &second].map(|member| send_join(&mut rig, &member.member_id));
        assert_eq!(joined(&mut rig, id).generation_id, first.generation_id + 1);
        for id in ids {
            assert_eq!(joined(&mut rig, id).error_code, 0);
        }
    }
}

#[test]
fn an_empty_group_stays_empty_and_its_generations_go_on() {
    let mut rig = Rig::new();
    let first = alone(&mut rig);
    assert_eq!(leave(&mut rig, &first.member_id), 0);
    let before = group(&rig);
    assert_eq!((before.state, before.protocol_type.as_str()), (GroupState::Empty, "consumer"));
    for mut rig in killed(&rig) {
        assert_eq!(group(&rig), before);
        assert!(alone(&mut rig).generation_id > before.generation);
    }
}

#[test]
fn a_deleted_group_stays_dead() {
    let mut rig = Rig::new();
    let first = alone(&mut rig);
    leave(&mut rig, &first.member_id);
    let groups_names = vec!["g".to_owned()];
    rig.call(Request::DeleteGroups(DeleteGroupsRequest { groups_names }), 2);
    for rig in killed(&rig) {
        assert_eq!(state(&rig), GroupState::Dead);
    }
}

#[test]
fn a_static_member_that_came_back_is_the_one_that_the_restart_knows() {
    let mut rig = Rig::new();
    let id = rig.send(Request::JoinGroup(join_request("", Some("pump"))), 7);
    rig.pass_ms(100);
    let first = joined(&mut rig, id);
    let sync = send_sync(&mut rig, &first, &[(&first.member_id, "all")]);
    assert_eq!(synced(&mut rig, sync).assignment, Bytes::from_static(b"all"));
    let id = rig.send(Request::JoinGroup(join_request("", Some("pump"))), 7);
    let second = joined(&mut rig, id);
    assert_eq!(second.generation_id, first.generation_id, "no rebalance");
    for mut rig in killed(&rig) {
        assert_eq!(group(&rig).members[0].id, second.member_id);
        assert_eq!(group(&rig).members[0].assignment, Bytes::from_static(b"all"));
        let id = rig.send(Request::JoinGroup(join_request(&first.member_id, Some("pump"))), 7);
        assert_eq!(joined(&mut rig, id).error_code, ErrorCode::FencedInstanceId.code());
    }
}

#[test]
fn an_assignment_is_told_when_it_is_durable() {
    let mut rig = Rig::new();
    rig.is_instant = false;
    let member = new_member(&mut rig, "first");
    let id = send_join(&mut rig, &member);
    rig.pass_ms(100);
    assert!(!rig.is_answered(id), "the generation is not");
    rig.sync();
    let join = joined(&mut rig, id);
    let sync = send_sync(&mut rig, &join, &[(&member, "0123")]);
    let again = send_sync(&mut rig, &join, &[]);
    assert!(!rig.is_answered(sync) && !rig.is_answered(again));
    rig.sync();
    assert_eq!(synced(&mut rig, sync).assignment, Bytes::from_static(b"0123"));
    assert_eq!(synced(&mut rig, again).assignment, Bytes::from_static(b"0123"));
}

#[test]
fn heartbeats_write_nothing_and_a_rebalance_writes_what_moved() {
    let mut rig = Rig::new();
    rig.create_topic("t", 4);
    let (first, second) = two(&mut rig);
    let mut client = Client::new("c", &["t"]).in_group("h");
    client.beat(&mut rig);
    let before = rig.entries.len();
    for _ in 0..20 {
        for member in [&first, &second] {
            heartbeat(&mut rig, &member.member_id, member.generation_id);
        }
        client.beat(&mut rig);
    }
    assert_eq!(rig.entries.len(), before);
    // The leader comes again, and shares out as before: a generation, and that it is complete.
    let ids = [&first, &second].map(|member| send_join(&mut rig, &member.member_id));
    let joins = ids.map(|id| joined(&mut rig, id));
    let shares = [(first.member_id.as_str(), "01"), (second.member_id.as_str(), "23")];
    send_sync(&mut rig, &joins[0], &shares);
    assert_eq!(rig.entries.len(), before + 2);
    let bytes: usize = rig.entries[before..].iter().map(Bytes::len).sum();
    assert!(bytes < 200, "{bytes} bytes, though nothing of the members is other than before");
}

#[test]
fn members_of_the_new_protocol_go_on_with_their_epochs_and_partitions() {
    let mut rig = Rig::new();
    rig.create_topic("t", 4);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::fixed("b", "pump", &["t"]));
    super::consumer_groups::settle(&mut rig, &mut [&mut a, &mut b]);
    let before = group(&rig);
    for mut rig in killed(&rig) {
        let (mut a, mut b) = (a.clone(), b.clone());
        assert_eq!(group(&rig), before);
        assert_eq!(commit_to(&mut rig, "a", a.epoch), ErrorCode::None);
        let (epoch, parts) = (a.epoch, a.parts());
        assert_eq!((a.beat(&mut rig), b.beat(&mut rig)), (ErrorCode::None, ErrorCode::None));
        assert_eq!((a.epoch, a.parts()), (epoch, parts));
        // The other one does not come back.
        for _ in 0..10 {
            rig.pass_ms(5_000);
            a.beat(&mut rig);
        }
        assert_eq!(a.parts(), [0, 1, 2, 3]);
    }
}

#[test]
fn a_partition_that_is_being_given_up_is_not_given_away_by_a_restart() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    a.beat(&mut rig);
    b.beat(&mut rig);
    let reading = a.clone();
    a.beat(&mut rig);
    assert_eq!((a.parts().len(), reading.parts().len()), (1, 2), "told, and still reading both");
    for mut rig in killed(&rig) {
        let (mut a, mut b) = (a.clone(), b.clone());
        b.beat(&mut rig);
        assert_eq!(b.parts(), [], "the first one has not said that it let go");
        a.beat(&mut rig);
        b.beat(&mut rig);
        assert_eq!((a.parts().len(), b.parts().len()), (1, 1));
    }
}

#[test]
fn topics_that_grew_since_the_last_heartbeat_are_shared_out_after_the_restart() {
    let mut rig = Rig::new();
    rig.create_topic("t-1", 1);
    let mut client = Client::new("a", &[]);
    client.regex = Some("t-.*".to_owned());
    client.beat(&mut rig);
    let epoch = client.epoch;
    rig.create_topic("t-2", 1);
    let topic = CreatePartitionsTopic { name: "t-1".to_owned(), count: 2, ..Default::default() };
    let request =
        CreatePartitionsRequest { topics: vec![topic], ..CreatePartitionsRequest::default() };
    rig.call(Request::CreatePartitions(request), 3);
    for mut rig in killed(&rig) {
        let mut client = client.clone();
        assert_eq!(client.beat(&mut rig), ErrorCode::None);
        assert_eq!(client.parts().len(), 3);
        assert!(client.epoch > epoch);
    }
}

#[test]
fn an_empty_group_of_the_new_protocol_keeps_its_epoch() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut client = Client::new("a", &["t"]);
    client.beat(&mut rig);
    client.leave(&mut rig, -1);
    let before = group(&rig);
    assert_eq!(before.state, GroupState::Empty);
    for mut rig in killed(&rig) {
        assert_eq!(group(&rig), before);
        client.clone().beat(&mut rig);
        assert!(group(&rig).generation > before.generation);
    }
}
