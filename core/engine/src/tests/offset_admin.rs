//! What administrators do to committed offsets and groups: delete single offsets and whole groups,
//! describe them, and name topics by id.

use super::rig::Rig;
use super::static_members::subscription;
use bytes::Bytes;
use millpond_wire::Uuid;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millpond_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millpond_wire::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, JoinGroupRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, Request, Response,
};

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).expect("a known code")
}

/// Commits by topic id, as Kafka 4's own consumers do.
fn commit(rig: &mut Rig, topic_id: Uuid, partition: i32, offset: i64) -> ErrorCode {
    let part = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        topic_id,
        partitions: vec![part],
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: "g".to_owned(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    match rig.call(Request::OffsetCommit(request), 10) {
        Response::OffsetCommit(response) => {
            assert_eq!(response.topics[0].topic_id, topic_id);
            code(response.topics[0].partitions[0].error_code)
        }
        other => panic!("{other:?}"),
    }
}

fn fetch(rig: &mut Rig, topic_id: Uuid, partition: i32) -> (ErrorCode, i64) {
    let topic = OffsetFetchRequestTopics {
        topic_id,
        partition_indexes: vec![partition],
        ..OffsetFetchRequestTopics::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: "g".to_owned(),
        topics: Some(vec![topic]),
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
    match rig.call(Request::OffsetFetch(request), 10) {
        Response::OffsetFetch(response) => {
            let topic = &response.groups[0].topics[0];
            assert_eq!(topic.topic_id, topic_id);
            (code(topic.partitions[0].error_code), topic.partitions[0].committed_offset)
        }
        other => panic!("{other:?}"),
    }
}

/// The error of the whole and those of the partitions.
fn delete(rig: &mut Rig, topic: &str, partitions: &[i32]) -> (ErrorCode, Vec<ErrorCode>) {
    let part = |index: &i32| OffsetDeleteRequestPartition { partition_index: *index };
    let topic = OffsetDeleteRequestTopic {
        name: topic.to_owned(),
        partitions: partitions.iter().map(part).collect(),
    };
    let request = OffsetDeleteRequest { group_id: "g".to_owned(), topics: vec![topic] };
    match rig.call(Request::OffsetDelete(request), 0) {
        Response::OffsetDelete(response) => {
            let parts = response.topics.iter().flat_map(|topic| &topic.partitions);
            (code(response.error_code), parts.map(|part| code(part.error_code)).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn join(rig: &mut Rig, protocol_type: &str, metadata: Bytes) {
    let request = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        protocol_type: protocol_type.to_owned(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".to_owned(), metadata }],
        ..JoinGroupRequest::default()
    };
    let id = rig.send(Request::JoinGroup(request), 2);
    rig.pass_ms(200);
    rig.take(id);
}

#[test]
fn offsets_are_committed_and_fetched_by_topic_id() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let id = rig.key("t", 0).topic_id;
    assert_eq!(commit(&mut rig, id, 1, 42), ErrorCode::None);
    assert_eq!(fetch(&mut rig, id, 1), (ErrorCode::None, 42));
    assert_eq!(fetch(&mut rig, id, 0), (ErrorCode::None, -1));
    let unknown = Uuid([9; 16]);
    assert_eq!(commit(&mut rig, unknown, 0, 1), ErrorCode::UnknownTopicId);
    assert_eq!(fetch(&mut rig, unknown, 0), (ErrorCode::UnknownTopicId, -1));
    assert_eq!(commit(&mut rig, id, 2, 1), ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn single_offsets_are_deleted_for_good() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let id = rig.key("t", 0).topic_id;
    assert_eq!(delete(&mut rig, "t", &[0]), (ErrorCode::GroupIdNotFound, vec![]));
    commit(&mut rig, id, 0, 1);
    commit(&mut rig, id, 1, 2);
    let codes = vec![ErrorCode::None, ErrorCode::UnknownTopicOrPartition];
    assert_eq!(delete(&mut rig, "t", &[0, 7]), (ErrorCode::None, codes));
    let mut rig = rig.reborn(None);
    assert_eq!(fetch(&mut rig, id, 0), (ErrorCode::None, -1));
    assert_eq!(fetch(&mut rig, id, 1), (ErrorCode::None, 2));
}

#[test]
fn offsets_that_a_live_member_reads_stay_and_those_of_other_topics_go() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.create_topic("old", 1);
    for topic in ["t", "old"] {
        let id = rig.key(topic, 0).topic_id;
        commit(&mut rig, id, 0, 5);
    }
    join(&mut rig, "consumer", subscription(&["t"], b""));
    let refused = (ErrorCode::None, vec![ErrorCode::GroupSubscribedToTopic]);
    assert_eq!(delete(&mut rig, "t", &[0]), refused);
    assert_eq!(delete(&mut rig, "old", &[0]), (ErrorCode::None, vec![ErrorCode::None]));
}

#[test]
fn words_that_are_no_subscription_protect_nothing_and_break_nothing() {
    for metadata in [&b""[..], b"\0", b"\0\x01\x7f\xff\xff\xff", b"\xff\xff\0\0"] {
        let mut rig = Rig::new();
        rig.create_topic("t", 1);
        let id = rig.key("t", 0).topic_id;
        commit(&mut rig, id, 0, 5);
        join(&mut rig, "consumer", Bytes::copy_from_slice(metadata));
        assert_eq!(delete(&mut rig, "t", &[0]), (ErrorCode::None, vec![ErrorCode::None]));
    }
}

#[test]
fn offsets_of_a_live_group_of_another_kind_cannot_be_deleted() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let id = rig.key("t", 0).topic_id;
    commit(&mut rig, id, 0, 5);
    join(&mut rig, "connect", Bytes::from_static(b"words"));
    assert_eq!(delete(&mut rig, "t", &[0]).0, ErrorCode::NonEmptyGroup);
}

#[test]
fn groups_with_members_and_groups_that_are_not_there_cannot_be_deleted() {
    let mut rig = Rig::new();
    join(&mut rig, "consumer", subscription(&["t"], b""));
    let names = ["g", "nobody", ""].map(str::to_owned).to_vec();
    let request = DeleteGroupsRequest { groups_names: names };
    match rig.call(Request::DeleteGroups(request), 2) {
        Response::DeleteGroups(response) => {
            let codes: Vec<ErrorCode> =
                response.results.iter().map(|result| code(result.error_code)).collect();
            use ErrorCode::{GroupIdNotFound, InvalidGroupId, NonEmptyGroup};
            assert_eq!(codes, [NonEmptyGroup, GroupIdNotFound, InvalidGroupId]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn from_version_6_on_a_group_that_is_not_there_is_an_error_and_before_it_is_dead() {
    let mut rig = Rig::new();
    let mut described = |version| {
        let request = DescribeGroupsRequest {
            groups: vec!["g".to_owned()],
            ..DescribeGroupsRequest::default()
        };
        match rig.call(Request::DescribeGroups(request), version) {
            Response::DescribeGroups(mut response) => response.groups.remove(0),
            other => panic!("{other:?}"),
        }
    };
    let old = described(5);
    assert_eq!((old.error_code, old.group_state.as_str()), (0, "Dead"));
    let new = described(6);
    assert_eq!(code(new.error_code), ErrorCode::GroupIdNotFound);
    assert_eq!(new.error_message.as_deref(), Some("Group g not found."));
    assert_eq!(new.group_state, "Dead");
}
