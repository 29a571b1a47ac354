//! Committed offsets: durable before they are answered or shown, kept across restarts.

use super::rig::Rig;
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic,
};
use millpond_wire::messages::offset_fetch_response::OffsetFetchResponsePartition;
use millpond_wire::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest, Request, Response,
};

fn commit_request(group: &str, offset: i64, metadata: &str) -> OffsetCommitRequest {
    let part = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: 1,
        committed_metadata: Some(metadata.to_owned()),
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".to_owned(),
        partitions: vec![part],
        ..OffsetCommitRequestTopic::default()
    };
    OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

fn send_commit(rig: &mut Rig, group: &str, offset: i64) -> RequestId {
    rig.send(Request::OffsetCommit(commit_request(group, offset, "note")), 8)
}

/// A member of group `g` commits; its epoch counts from version 9 on.
pub(crate) fn commit_to(rig: &mut Rig, member_id: &str, epoch: i32) -> ErrorCode {
    let request = OffsetCommitRequest {
        member_id: member_id.to_owned(),
        generation_id_or_member_epoch: epoch,
        ..commit_request("g", 1, "")
    };
    let id = rig.send(Request::OffsetCommit(request), 9);
    ErrorCode::from_code(committed(rig, id)).expect("a known code")
}

/// One who is no member commits an offset of partition 0.
pub(crate) fn commit_alone(rig: &mut Rig, group: &str, topic: &str, offset: i64) {
    let part = OffsetCommitRequestPartition {
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: topic.to_owned(),
        partitions: vec![part],
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    let id = rig.send(Request::OffsetCommit(request), 9);
    assert_eq!(committed(rig, id), 0);
}

fn committed(rig: &mut Rig, id: RequestId) -> i16 {
    match rig.take(id) {
        Response::OffsetCommit(response) => response.topics[0].partitions[0].error_code,
        other => panic!("{other:?}"),
    }
}

fn send_fetch(rig: &mut Rig, group: &str) -> RequestId {
    let topic = OffsetFetchRequestTopic { name: "t".to_owned(), partition_indexes: vec![0, 1] };
    let request = OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(vec![topic]),
        ..OffsetFetchRequest::default()
    };
    rig.send(Request::OffsetFetch(request), 7)
}

fn found(rig: &mut Rig, id: RequestId) -> Vec<OffsetFetchResponsePartition> {
    match rig.take(id) {
        Response::OffsetFetch(mut response) => response.topics.remove(0).partitions,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_comes_back_with_its_epoch_and_metadata_and_survives_a_restart() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let id = send_commit(&mut rig, "g", 42);
    assert_eq!(committed(&mut rig, id), 0);
    let snapshot = rig.engine.snapshot();
    for mut rig in [rig.reborn(None), rig.reborn(Some(snapshot))] {
        let id = send_fetch(&mut rig, "g");
        let parts = found(&mut rig, id);
        assert_eq!((parts[0].committed_offset, parts[0].committed_leader_epoch), (42, 1));
        assert_eq!(parts[0].metadata.as_deref(), Some("note"));
        assert_eq!((parts[1].committed_offset, parts[1].committed_leader_epoch), (-1, -1));
    }
}

#[test]
fn neither_the_commit_nor_who_asks_for_it_is_answered_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.is_instant = false;
    let commit = send_commit(&mut rig, "g", 5);
    let fetch = send_fetch(&mut rig, "g");
    assert!(!rig.is_answered(commit) && !rig.is_answered(fetch));
    rig.sync();
    assert_eq!(committed(&mut rig, commit), 0);
    assert_eq!(found(&mut rig, fetch)[0].committed_offset, 5);
}

#[test]
fn version_8_asks_for_many_groups_and_null_means_all_that_was_committed() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    send_commit(&mut rig, "a", 1);
    send_commit(&mut rig, "b", 2);
    let group = |id: &str| OffsetFetchRequestGroup {
        group_id: id.to_owned(),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![group("a"), group("b"), group("c")],
        ..OffsetFetchRequest::default()
    };
    match rig.call(Request::OffsetFetch(request), 8) {
        Response::OffsetFetch(response) => {
            let offset = |g: usize| response.groups[g].topics[0].partitions[0].committed_offset;
            assert_eq!((offset(0), offset(1)), (1, 2));
            assert_eq!(response.groups[0].topics[0].partitions.len(), 1);
            assert!(response.groups[2].topics.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_committed_is_refused() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let code = |rig: &mut Rig, change: &dyn Fn(&mut OffsetCommitRequest)| {
        let mut request = commit_request("g", 1, "");
        change(&mut request);
        let id = rig.send(Request::OffsetCommit(request), 8);
        ErrorCode::from_code(committed(rig, id)).expect("a known code")
    };
    let long = |r: &mut OffsetCommitRequest| {
        r.topics[0].partitions[0].committed_metadata = Some("x".repeat(5_000));
    };
    assert_eq!(code(&mut rig, &long), ErrorCode::OffsetMetadataTooLarge);
    let nowhere = |r: &mut OffsetCommitRequest| r.topics[0].name = "nowhere".to_owned();
    assert_eq!(code(&mut rig, &nowhere), ErrorCode::UnknownTopicOrPartition);
    let stranger = |r: &mut OffsetCommitRequest| {
        r.member_id = "nobody".to_owned();
        r.generation_id_or_member_epoch = 3;
    };
    assert_eq!(code(&mut rig, &stranger), ErrorCode::UnknownMemberId);
    assert_eq!(code(&mut rig, &|r| r.group_id.clear()), ErrorCode::InvalidGroupId);
}

#[test]
fn groups_are_listed_described_and_deleted_by_their_offsets_alone() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    send_commit(&mut rig, "g", 1);
    match rig.call(Request::ListGroups(ListGroupsRequest::default()), 4) {
        Response::ListGroups(response) => {
            assert_eq!(response.groups[0].group_id, "g");
            assert_eq!(response.groups[0].group_state, "Empty");
        }
        other => panic!("{other:?}"),
    }
    let delete = |rig: &mut Rig| {
        let request = DeleteGroupsRequest { groups_names: vec!["g".to_owned()] };
        match rig.call(Request::DeleteGroups(request), 2) {
            Response::DeleteGroups(response) => response.results[0].error_code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut rig), 0);
    assert_eq!(delete(&mut rig), ErrorCode::GroupIdNotFound.code());
    let request =
        DescribeGroupsRequest { groups: vec!["g".to_owned()], ..DescribeGroupsRequest::default() };
    match rig.call(Request::DescribeGroups(request), 5) {
        Response::DescribeGroups(response) => assert_eq!(response.groups[0].group_state, "Dead"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lag_is_what_was_not_committed() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["a", "b", "c"]);
    send_commit(&mut rig, "g", 1);
    let key = rig.key("t", 0);
    assert_eq!(rig.engine.lag("g", key), Some(2));
    assert_eq!(rig.engine.lag("other", key), None);
}
