//! When committed offsets have had their time (KIP-211), and that no clock, restart or cut takes
//! them earlier.

use super::consumer_client::Client;
use super::rig::{Rig, batch_at};
use super::static_members::subscription;
use crate::EngineConfig;
use crate::units::PartitionKey;
use bytes::{BufMut, BytesMut};
use millpond_wire::Uuid;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::leave_group_request::MemberIdentity;
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use millpond_wire::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, Request, Response,
    SyncGroupRequest,
};

const MINUTE_MS: u64 = 60_000;
/// Offsets are kept for an hour.
const KEPT_MINUTES: u64 = 60;

fn rig() -> Rig {
    let mut rig = Rig::with_config(EngineConfig {
        offsets_retention_ms: (KEPT_MINUTES * MINUTE_MS) as i64,
        offsets_check_ms: MINUTE_MS,
        consumer_session_timeout_ms: 5 * MINUTE_MS,
        ..EngineConfig::default()
    });
    rig.create_topic("t", 1);
    rig.create_topic("old", 1);
    // The clock is believed.
    pass(&mut rig, 11);
    rig
}

/// Time passes, and records keep coming.
fn pass(rig: &mut Rig, minutes: u64) {
    for _ in 0..minutes {
        rig.pass_ms(MINUTE_MS);
        let wall_ms = rig.now.wall_ms;
        let id = rig.send_batch("t", 0, batch_at(wall_ms, &["x"], None));
        assert_eq!(rig.produced(id).error_code, 0);
    }
}

fn commit_as(rig: &mut Rig, topic: &str, member: &str, generation: i32) {
    let part = OffsetCommitRequestPartition {
        committed_offset: 5,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: topic.to_owned(),
        partitions: vec![part],
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: "g".to_owned(),
        member_id: member.to_owned(),
        generation_id_or_member_epoch: generation,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    match rig.call(Request::OffsetCommit(request), 9) {
        Response::OffsetCommit(response) => {
            assert_eq!(response.topics[0].partitions[0].error_code, 0);
        }
        other => panic!("{other:?}"),
    }
}

fn has_offset(rig: &Rig, topic: &str) -> bool {
    rig.engine.offsets().get("g", rig.key(topic, 0)).is_some()
}

/// A classic consumer of `t`, alone in its group: its member id and generation.
fn consumer(rig: &mut Rig) -> (String, i32) {
    let request = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: subscription(&["t"], b""),
        }],
        ..JoinGroupRequest::default()
    };
    let id = rig.send(Request::JoinGroup(request), 2);
    rig.pass_ms(200);
    let (member_id, generation_id) = match rig.take(id) {
        Response::JoinGroup(response) => (response.member_id, response.generation_id),
        other => panic!("{other:?}"),
    };
    let assignments = vec![SyncGroupRequestAssignment {
        member_id: member_id.clone(),
        ..SyncGroupRequestAssignment::default()
    }];
    let request = SyncGroupRequest {
        group_id: "g".to_owned(),
        generation_id,
        member_id: member_id.clone(),
        assignments,
        ..SyncGroupRequest::default()
    };
    rig.call(Request::SyncGroup(request), 3);
    (member_id, generation_id)
}

fn leave(rig: &mut Rig, member_id: &str) {
    let members = vec![MemberIdentity { member_id: member_id.to_owned(), ..Default::default() }];
    let request =
        LeaveGroupRequest { group_id: "g".to_owned(), members, ..LeaveGroupRequest::default() };
    rig.call(Request::LeaveGroup(request), 4);
}

#[test]
fn offsets_of_a_stand_alone_consumer_count_from_their_commit() {
    let mut rig = rig();
    commit_as(&mut rig, "t", "", -1);
    pass(&mut rig, KEPT_MINUTES - 1);
    assert!(has_offset(&rig, "t"));
    commit_as(&mut rig, "t", "", -1);
    pass(&mut rig, KEPT_MINUTES - 1);
    assert!(has_offset(&rig, "t"), "each commit begins anew");
    pass(&mut rig, 4);
    assert!(!has_offset(&rig, "t"));
    assert!(rig.engine.groups().is_empty());
    assert!(rig.reborn(None).engine.groups().is_empty());
}

#[test]
fn offsets_of_a_group_count_from_when_its_last_member_left_across_restarts() {
    let mut rig = rig();
    let (member, generation) = consumer(&mut rig);
    commit_as(&mut rig, "t", &member, generation);
    for _ in 0..KEPT_MINUTES * 2 {
        pass(&mut rig, 1);
        let request = HeartbeatRequest {
            group_id: "g".to_owned(),
            generation_id: generation,
            member_id: member.clone(),
            ..HeartbeatRequest::default()
        };
        rig.call(Request::Heartbeat(request), 3);
    }
    assert!(has_offset(&rig, "t"), "what a member reads stays");
    leave(&mut rig, &member);
    pass(&mut rig, KEPT_MINUTES / 2);
    let snapshot = rig.engine.snapshot();
    let now = rig.now;
    for mut rig in [rig.reborn(None), rig.reborn(Some(snapshot))] {
        rig.now = now;
        pass(&mut rig, KEPT_MINUTES / 2 - 2);
        assert!(has_offset(&rig, "t"));
        pass(&mut rig, 6);
        assert!(!has_offset(&rig, "t"));
    }
}

#[test]
fn a_group_whose_members_vanished_in_a_power_cut_counts_from_the_start_after_it() {
    let mut rig = rig();
    let (member, generation) = consumer(&mut rig);
    commit_as(&mut rig, "t", &member, generation);
    let mut now = rig.now;
    now.wall_ms += (KEPT_MINUTES * 10 * MINUTE_MS) as i64;
    let mut rig = rig.reborn(None);
    rig.now = now;
    pass(&mut rig, KEPT_MINUTES);
    assert!(has_offset(&rig, "t"), "off for ten hours is not empty for ten hours");
    pass(&mut rig, 15);
    assert!(!has_offset(&rig, "t"));
}

#[test]
fn offsets_of_topics_that_a_live_group_reads_no_more_expire_alone() {
    let mut rig = rig();
    let (member, generation) = consumer(&mut rig);
    commit_as(&mut rig, "t", &member, generation);
    commit_as(&mut rig, "old", &member, generation);
    for _ in 0..KEPT_MINUTES + 4 {
        pass(&mut rig, 1);
        let request = HeartbeatRequest {
            group_id: "g".to_owned(),
            generation_id: generation,
            member_id: member.clone(),
            ..HeartbeatRequest::default()
        };
        rig.call(Request::Heartbeat(request), 3);
    }
    assert!(has_offset(&rig, "t") && !has_offset(&rig, "old"));
}

#[test]
fn the_same_holds_for_groups_of_the_new_protocol() {
    let mut rig = rig();
    let mut client = Client::new("a", &["t"]);
    client.beat(&mut rig);
    commit_as(&mut rig, "t", "a", client.epoch);
    commit_as(&mut rig, "old", "a", client.epoch);
    for _ in 0..2 * (KEPT_MINUTES + 4) {
        pass(&mut rig, 1);
        client.beat(&mut rig);
    }
    assert!(has_offset(&rig, "t") && !has_offset(&rig, "old"));
    client.leave(&mut rig, -1);
    pass(&mut rig, KEPT_MINUTES - 1);
    assert!(has_offset(&rig, "t"));
    pass(&mut rig, 4);
    assert!(!has_offset(&rig, "t") && rig.engine.groups().is_empty());
}

#[test]
fn old_clients_say_themselves_how_long_their_offsets_are_to_be_kept() {
    let mut rig = rig();
    let keep = |rig: &mut Rig, topic: &str, minutes: i64| {
        let part = OffsetCommitRequestPartition::default();
        let topic = OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: vec![part],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: "g".to_owned(),
            retention_time_ms: minutes * MINUTE_MS as i64,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        rig.call(Request::OffsetCommit(request), 4);
    };
    keep(&mut rig, "t", 10);
    keep(&mut rig, "old", 100);
    let (now, snapshot) = (rig.now, rig.engine.snapshot());
    for mut rig in [rig.reborn(None), rig.reborn(Some(snapshot))] {
        rig.now = now;
        pass(&mut rig, 9);
        assert!(has_offset(&rig, "t"));
        pass(&mut rig, 6);
        assert!(!has_offset(&rig, "t"));
        pass(&mut rig, 80);
        assert!(has_offset(&rig, "old"), "longer than the hour of the node");
        commit_as(&mut rig, "old", "", -1);
        pass(&mut rig, KEPT_MINUTES + 2);
        assert!(!has_offset(&rig, "old"), "the last commit says nothing of its own");
    }
}

#[test]
fn a_snapshot_of_before_there_were_notes_is_read() {
    let mut old = BytesMut::new();
    old.put_u16_le(2);
    // Last entry, producer ids; no topics, no producers.
    old.put_bytes(0, 8 + 8 + 4 + 4);
    // One group with one offset: 42, leader epoch 1, a time, no metadata.
    old.put_slice(b"\x01\0\0\0\x01\0\0\0g");
    old.put_u64_le(0);
    old.put_u32_le(1);
    old.put_bytes(7, 16);
    old.put_i32_le(0);
    old.put_i64_le(42);
    old.put_i32_le(1);
    old.put_i64_le(1_700_000_000_000);
    old.put_u8(0);
    // No transforms, no losses, no doubtful producers.
    old.put_bytes(0, 8 + 4 + 4 + 4);
    let key = PartitionKey { topic_id: Uuid([7; 16]), partition: 0 };
    let rig = Rig::new().reborn(Some(old.freeze()));
    assert_eq!(rig.engine.offsets().get("g", key).map(|at| at.offset), Some(42));
}

#[test]
fn no_jump_of_the_clock_takes_offsets() {
    let year_ms = 365 * 24 * 60 * MINUTE_MS as i64;
    for jump_ms in [year_ms, -year_ms, 40 * year_ms, -50 * year_ms] {
        let mut rig = rig();
        commit_as(&mut rig, "t", "", -1);
        rig.now.wall_ms += jump_ms;
        // Whatever the clock says now: it has just jumped.
        for _ in 0..9 {
            rig.pass_ms(MINUTE_MS);
            assert!(has_offset(&rig, "t"), "{jump_ms}");
        }
    }
}

#[test]
fn commits_of_a_boot_without_a_clock_count_from_when_there_is_one() {
    let mut rig = Rig::with_config(EngineConfig {
        offsets_retention_ms: (KEPT_MINUTES * MINUTE_MS) as i64,
        offsets_check_ms: MINUTE_MS,
        ..EngineConfig::default()
    });
    rig.create_topic("t", 1);
    let true_ms = rig.now.wall_ms;
    rig.now.wall_ms = true_ms - 90 * 24 * 60 * MINUTE_MS as i64;
    commit_as(&mut rig, "t", "", -1);
    rig.now.wall_ms = true_ms;
    pass(&mut rig, KEPT_MINUTES);
    assert!(has_offset(&rig, "t"), "the clock of its commit was months behind");
    pass(&mut rig, 15);
    assert!(!has_offset(&rig, "t"));
}

#[test]
fn the_offsets_of_a_deleted_topic_go_with_it() {
    let mut rig = rig();
    commit_as(&mut rig, "t", "", -1);
    let key = rig.key("t", 0);
    let request = millpond_wire::messages::DeleteTopicsRequest {
        topic_names: vec!["t".to_owned()],
        ..Default::default()
    };
    rig.call(Request::DeleteTopics(request), 5);
    assert!(rig.engine.offsets().get("g", key).is_none());
    assert!(rig.reborn(None).engine.offsets().get("g", key).is_none());
}
