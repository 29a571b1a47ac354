//! Stories about offsets that are committed with a transaction.

use super::rig::Rig;
use super::txn_rig::{Client, ended};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use millpond_wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millpond_wire::messages::{
    AddOffsetsToTxnRequest, DeleteGroupsRequest, JoinGroupRequest, OffsetFetchRequest, Request,
    Response, TxnOffsetCommitRequest,
};

fn add_offsets(rig: &mut Rig, client: &Client, group: &str) -> i16 {
    let request = AddOffsetsToTxnRequest {
        transactional_id: client.transactional_id.clone(),
        producer_id: client.id,
        producer_epoch: client.epoch,
        group_id: group.to_owned(),
    };
    match rig.call(Request::AddOffsetsToTxn(request), 3) {
        Response::AddOffsetsToTxn(response) => response.error_code,
        other => panic!("{other:?}"),
    }
}

fn request(
    client: &Client,
    group: &str,
    partition_index: i32,
    offset: i64,
) -> TxnOffsetCommitRequest {
    let part = TxnOffsetCommitRequestPartition {
        partition_index,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some("mine".to_owned()),
    };
    let topic = TxnOffsetCommitRequestTopic { name: "a".to_owned(), partitions: vec![part] };
    TxnOffsetCommitRequest {
        transactional_id: client.transactional_id.clone(),
        group_id: group.to_owned(),
        producer_id: client.id,
        producer_epoch: client.epoch,
        generation_id: -1,
        topics: vec![topic],
        ..TxnOffsetCommitRequest::default()
    }
}

fn send(rig: &mut Rig, client: &Client, request: TxnOffsetCommitRequest) -> i16 {
    let version = if client.is_v2 { 5 } else { 3 };
    match rig.call(Request::TxnOffsetCommit(request), version) {
        Response::TxnOffsetCommit(response) => response.topics[0].partitions[0].error_code,
        other => panic!("{other:?}"),
    }
}

/// The committed offset, or the error.
fn committed(rig: &mut Rig, group: &str, partition: i32, require_stable: bool) -> Result<i64, i16> {
    let topic =
        OffsetFetchRequestTopic { name: "a".to_owned(), partition_indexes: vec![partition] };
    let request = OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(vec![topic]),
        require_stable,
        ..OffsetFetchRequest::default()
    };
    match rig.call(Request::OffsetFetch(request), 7) {
        Response::OffsetFetch(response) => {
            let part = &response.topics[0].partitions[0];
            if part.error_code == 0 { Ok(part.committed_offset) } else { Err(part.error_code) }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn offsets_count_when_the_transaction_is_committed_and_never_when_it_is_aborted() {
    for is_v2 in [false, true] {
        let mut rig = Rig::new();
        rig.create_topic("a", 2);
        let mut client = Client::start(&mut rig, "tx", is_v2);
        for (is_commit, offset, then) in [(false, 5, -1), (true, 7, 7), (false, 9, 7)] {
            if !is_v2 {
                assert_eq!(add_offsets(&mut rig, &client, "g"), 0);
            }
            client.write(&mut rig, "a", 0, &["x"]);
            let pending = request(&client, "g", 0, offset);
            assert_eq!(send(&mut rig, &client, pending), 0);
            let before = committed(&mut rig, "g", 0, false);
            let unstable = Err(ErrorCode::UnstableOffsetCommit.code());
            assert_eq!(committed(&mut rig, "g", 0, true), unstable);
            assert_eq!(committed(&mut rig, "g", 1, true), Ok(-1), "another partition");
            assert_eq!(committed(&mut rig, "other", 0, true), Ok(-1), "another group");
            let mut again = rig.reborn(Some(rig.engine.snapshot()));
            assert_eq!(committed(&mut again, "g", 0, true), unstable, "after a restart too");
            assert_eq!(committed(&mut again, "g", 0, false), before);
            assert_eq!(client.end(&mut rig, is_commit), 0);
            assert_eq!(committed(&mut rig, "g", 0, true), Ok(then));
        }
        let stored = rig.engine.offsets().group("g").expect("a group").clone();
        assert_eq!(stored.offsets[&rig.key("a", 0)].metadata.as_deref(), Some("mine"));
        assert_eq!(rig.engine.snapshot(), rig.reborn(None).engine.snapshot());
    }
}

#[test]
fn records_and_offsets_of_a_transaction_become_visible_together() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    client.write(&mut rig, "a", 0, &["x"]);
    let pending = request(&client, "g", 0, 3);
    assert_eq!(send(&mut rig, &client, pending), 0);
    rig.is_instant = false;
    let end = client.send_end(&mut rig, true);
    assert_eq!(rig.read_committed("a", 0, 0), [""; 0]);
    rig.sync();
    assert_eq!(ended(&mut rig, end).error_code, 0);
    assert_eq!(rig.read_committed("a", 0, 0), ["x"]);
    assert_eq!(committed(&mut rig, "g", 0, true), Ok(3));
}

#[test]
fn offsets_are_taken_from_the_owner_of_an_open_transaction_only() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", false);
    let early = request(&client, "g", 0, 1);
    let refused = ErrorCode::InvalidTxnState.code();
    assert_eq!(send(&mut rig, &client, early.clone()), refused, "the group has not joined");
    assert_eq!(add_offsets(&mut rig, &client, "other"), 0);
    assert_eq!(send(&mut rig, &client, early.clone()), refused);
    assert_eq!(add_offsets(&mut rig, &client, "g"), 0);
    assert_eq!(send(&mut rig, &client, early.clone()), 0);
    let missing = request(&client, "g", 7, 1);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(send(&mut rig, &client, missing), unknown);
    let heir = Client::start(&mut rig, "tx", false);
    assert_eq!(send(&mut rig, &client, early), ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(client.end(&mut rig, true), ErrorCode::ProducerFenced.code());
    assert_eq!(committed(&mut rig, "g", 0, true), Ok(-1), "dropped with the transaction");
    let other = Client { id: heir.id + 1, ..heir };
    let wrong = request(&other, "g", 0, 1);
    assert_eq!(send(&mut rig, &other, wrong), ErrorCode::InvalidProducerIdMapping.code());
}

/// Alone in a new group, and waiting for its assignment.
fn join(rig: &mut Rig, group: &str) -> String {
    let protocol =
        JoinGroupRequestProtocol { name: "range".to_owned(), metadata: bytes::Bytes::new() };
    let mut request = JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    };
    let Response::JoinGroup(named) = rig.call(Request::JoinGroup(request.clone()), 9) else {
        panic!("another answer");
    };
    request.member_id = named.member_id;
    let id = rig.send(Request::JoinGroup(request), 9);
    rig.pass_ms(1_000);
    let Response::JoinGroup(joined) = rig.take(id) else { panic!("another answer") };
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    joined.member_id
}

#[test]
fn a_member_that_is_not_of_the_generation_may_not_commit() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let client = Client::start(&mut rig, "tx", true);
    let mut stale = request(&client, "g", 0, 1);
    stale.generation_id = 3;
    stale.member_id = "m".to_owned();
    assert_eq!(send(&mut rig, &client, stale.clone()), ErrorCode::IllegalGeneration.code());
    let member = join(&mut rig, "g");
    stale.generation_id = 1;
    assert_eq!(send(&mut rig, &client, stale.clone()), ErrorCode::UnknownMemberId.code());
    stale.member_id = member;
    stale.generation_id = 0;
    assert_eq!(send(&mut rig, &client, stale.clone()), ErrorCode::IllegalGeneration.code());
    // Its assignment is not there yet; an error would end the client for good.
    stale.generation_id = 1;
    assert_eq!(send(&mut rig, &client, stale), 0);
    // Clients before KIP-447 do not say who they are.
    let anonymous = request(&client, "g", 0, 1);
    assert_eq!(send(&mut rig, &client, anonymous), 0);
}

#[test]
fn of_all_commits_the_last_one_sent_counts_whenever_its_transaction_ends() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let (mut early, mut late) =
        (Client::start(&mut rig, "early", true), Client::start(&mut rig, "late", true));
    for (client, offset) in [(&early, 3), (&late, 7)] {
        let pending = request(client, "g", 0, offset);
        assert_eq!(send(&mut rig, client, pending), 0);
    }
    assert_eq!(late.end(&mut rig, true), 0);
    assert_eq!(early.end(&mut rig, true), 0);
    assert_eq!(committed(&mut rig, "g", 0, true), Ok(7), "sent after the other one");
    let pending = request(&early, "g", 0, 9);
    assert_eq!(send(&mut rig, &early, pending), 0);
    super::offsets::commit_alone(&mut rig, "g", "a", 5);
    let mut again = rig.reborn(Some(rig.engine.snapshot()));
    for rig in [&mut rig, &mut again] {
        let mut early = early.clone();
        assert_eq!(committed(rig, "g", 0, true), Err(ErrorCode::UnstableOffsetCommit.code()));
        assert_eq!(early.end(rig, true), 0);
        assert_eq!(committed(rig, "g", 0, true), Ok(5), "outside of the transaction, and later");
        let pending = request(&early, "g", 0, 11);
        assert_eq!(send(rig, &early, pending), 0);
        assert_eq!(early.end(rig, true), 0);
        assert_eq!(committed(rig, "g", 0, true), Ok(11));
    }
    assert_eq!(rig.engine.snapshot(), rig.reborn(None).engine.snapshot());
}

#[test]
fn what_waits_for_a_deleted_group_goes_with_it() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    super::offsets::commit_alone(&mut rig, "g", "a", 5);
    let pending = request(&client, "g", 0, 9);
    assert_eq!(send(&mut rig, &client, pending), 0);
    let request = DeleteGroupsRequest { groups_names: vec!["g".to_owned()] };
    let Response::DeleteGroups(deleted) = rig.call(Request::DeleteGroups(request), 2) else {
        panic!("another answer");
    };
    assert_eq!(deleted.results[0].error_code, 0);
    assert_eq!(client.end(&mut rig, true), 0);
    assert_eq!(committed(&mut rig, "g", 0, true), Ok(-1));
    assert!(rig.engine.groups().is_empty());
}
