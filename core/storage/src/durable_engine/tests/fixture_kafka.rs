//! What a fixture holds since version 3: transactions in each state, members of groups of both
//! protocols, quotas; and how a node tells of them. An older fixture has none of it, so nothing here
//! may tell of anything else.

use bytes::Bytes;
use millpond_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millpond_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use millpond_wire::messages::{
    AddPartitionsToTxnRequest, AlterClientQuotasRequest, ConsumerGroupDescribeRequest,
    ConsumerGroupHeartbeatRequest, DescribeClientQuotasRequest, DescribeGroupsRequest,
    DescribeTransactionsRequest, EndTxnRequest, InitProducerIdRequest, JoinGroupRequest, Request,
    Response, SyncGroupRequest,
};
use millpond_wire::record::{BatchBuilder, Codec};

use super::rig::{Node, produce_request};

const LEDGER: &str = "ledger";
const TRANSACTIONAL_IDS: [&str; 3] = ["tx-aborted", "tx-committed", "tx-open"];
const CLASSIC: &str = "classic-readers";
const CONSUMER: &str = "consumer-readers";
/// Longer than the story.
const SESSION_MS: i32 = 300_000;
const NONE: i16 = 0;
const MEMBER_ID_REQUIRED: i16 = 79;

/// Adds it to a node that has the topic `ledger` with two partitions.
pub(super) fn live(node: &Node) {
    for (id, end) in TRANSACTIONAL_IDS.into_iter().zip([Some(false), Some(true), None]) {
        transaction(node, id, end);
    }
    join_classic(node);
    join_consumer(node);
    limit_a_client(node);
}

fn transaction(node: &Node, id: &str, end: Option<bool>) {
    let request = InitProducerIdRequest {
        transactional_id: Some(id.to_owned()),
        transaction_timeout_ms: 900_000,
        ..InitProducerIdRequest::default()
    };
    let Response::InitProducerId(started) = node.call(Request::InitProducerId(request), 4) else {
        panic!("no producer id");
    };
    let (producer_id, producer_epoch) = (started.producer_id, started.producer_epoch);
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.to_owned(),
        v3_and_below_producer_id: producer_id,
        v3_and_below_producer_epoch: producer_epoch,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic {
            name: LEDGER.to_owned(),
            partitions: vec![0, 1],
        }],
        ..AddPartitionsToTxnRequest::default()
    };
    node.call(Request::AddPartitionsToTxn(request), 3);
    for partition in 0..2 {
        let batch = transactional(&format!("{id} in {partition}"), producer_id, producer_epoch);
        let mut request = produce_request(LEDGER, partition, batch);
        if let Request::Produce(request) = &mut request {
            request.transactional_id = Some(id.to_owned());
        }
        let Response::Produce(answer) = node.call(request, 9) else { panic!("no answer") };
        assert_eq!(answer.responses[0].partition_responses[0].error_code, NONE, "{id}");
    }
    let Some(committed) = end else { return };
    let request =
        EndTxnRequest { transactional_id: id.to_owned(), producer_id, producer_epoch, committed };
    let Response::EndTxn(answer) = node.call(Request::EndTxn(request), 3) else {
        panic!("no answer to an end");
    };
    assert_eq!(answer.error_code, NONE, "{id}");
}

fn transactional(value: &str, id: i64, epoch: i16) -> Bytes {
    let mut builder =
        BatchBuilder::new(Codec::None, None).with_producer(id, epoch, 0).with_transactional(true);
    builder.push(1_700_000_000_123, None, Some(value.as_bytes()), &[]).expect("a record");
    builder.build().expect("a batch")
}

fn join_classic(node: &Node) {
    let mut member_id = String::new();
    let joined = loop {
        let request = JoinGroupRequest {
            group_id: CLASSIC.to_owned(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: SESSION_MS,
            member_id: member_id.clone(),
            group_instance_id: Some("pump-1".to_owned()),
            protocol_type: "consumer".to_owned(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".to_owned(),
                metadata: Bytes::from_static(b"\0\x01\0\0\0\x01\0\x06ledger\xff\xff\xff\xff"),
            }],
            ..JoinGroupRequest::default()
        };
        let Response::JoinGroup(answer) = node.call(Request::JoinGroup(request), 7) else {
            panic!("no answer to a join");
        };
        member_id.clone_from(&answer.member_id);
        if answer.error_code != MEMBER_ID_REQUIRED {
            break answer;
        }
    };
    assert_eq!(joined.error_code, NONE);
    let request = SyncGroupRequest {
        group_id: CLASSIC.to_owned(),
        generation_id: joined.generation_id,
        member_id: member_id.clone(),
        group_instance_id: Some("pump-1".to_owned()),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id,
            assignment: Bytes::from_static(b"both partitions"),
        }],
    };
    let Response::SyncGroup(answer) = node.call(Request::SyncGroup(request), 5) else {
        panic!("no answer to a sync");
    };
    assert_eq!(answer.error_code, NONE);
}

fn join_consumer(node: &Node) {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: CONSUMER.to_owned(),
        member_id: "a-member-of-version-3".to_owned(),
        rebalance_timeout_ms: SESSION_MS,
        subscribed_topic_names: Some(vec![LEDGER.to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let answer = node.call(Request::ConsumerGroupHeartbeat(request), 1);
    let Response::ConsumerGroupHeartbeat(answer) = answer else { panic!("{answer:?}") };
    assert_eq!(answer.error_code, NONE);
}

fn limit_a_client(node: &Node) {
    let entry = EntryData {
        entity: vec![EntityData {
            entity_type: "client-id".to_owned(),
            entity_name: Some("greedy".to_owned()),
        }],
        ops: [("producer_byte_rate", 65_536.0), ("request_percentage", 12.5)]
            .map(|(key, value)| OpData { key: key.to_owned(), value: value.into(), remove: false })
            .into(),
    };
    let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: false };
    let Response::AlterClientQuotas(answer) = node.call(Request::AlterClientQuotas(request), 1)
    else {
        panic!("no answer about a quota");
    };
    assert_eq!(answer.entries[0].error_code, NONE);
}

/// One line for each of them.
pub(super) fn dump(node: &Node) -> Vec<String> {
    let mut lines = Vec::new();
    dump_transactions(node, &mut lines);
    dump_classic(node, &mut lines);
    dump_consumer(node, &mut lines);
    dump_quotas(node, &mut lines);
    lines
}

fn dump_transactions(node: &Node, lines: &mut Vec<String>) {
    let transactional_ids = TRANSACTIONAL_IDS.map(str::to_owned).to_vec();
    let request = Request::DescribeTransactions(DescribeTransactionsRequest { transactional_ids });
    let Response::DescribeTransactions(answer) = node.call(request, 0) else {
        panic!("no answer about transactions");
    };
    for one in answer.transaction_states.iter().filter(|one| one.error_code == NONE) {
        let (id, state) = (&one.transactional_id, &one.transaction_state);
        let (producer, epoch) = (one.producer_id, one.producer_epoch);
        let parts: usize = one.topics.iter().map(|topic| topic.partitions.len()).sum();
        lines.push(format!("transaction\t{id}\t{state}\t{producer}\t{epoch}\t{parts}"));
    }
}

fn dump_classic(node: &Node, lines: &mut Vec<String>) {
    let groups = vec![CLASSIC.to_owned()];
    let request = DescribeGroupsRequest { groups, ..DescribeGroupsRequest::default() };
    let Response::DescribeGroups(answer) = node.call(Request::DescribeGroups(request), 5) else {
        panic!("no answer about a group");
    };
    for group in &answer.groups {
        for member in &group.members {
            let (state, protocol) = (&group.group_state, &group.protocol_data);
            let (id, instance) = (&member.member_id, &member.group_instance_id);
            let assignment = String::from_utf8_lossy(&member.member_assignment);
            lines.push(format!(
                "member\t{CLASSIC}\t{state}\t{protocol}\t{id}\t{instance:?}\t{assignment}"
            ));
        }
    }
}

fn dump_consumer(node: &Node, lines: &mut Vec<String>) {
    let group_ids = vec![CONSUMER.to_owned()];
    let request =
        ConsumerGroupDescribeRequest { group_ids, ..ConsumerGroupDescribeRequest::default() };
    let answer = node.call(Request::ConsumerGroupDescribe(request), 1);
    let Response::ConsumerGroupDescribe(answer) = answer else { panic!("{answer:?}") };
    for group in &answer.groups {
        for member in &group.members {
            let (state, epoch) = (&group.group_state, member.member_epoch);
            let (id, topics) = (&member.member_id, &member.subscribed_topic_names);
            let owned: Vec<_> = member
                .assignment
                .topic_partitions
                .iter()
                .map(|topic| (&topic.topic_name, &topic.partitions))
                .collect();
            lines
                .push(format!("member\t{CONSUMER}\t{state}\t{epoch}\t{id}\t{topics:?}\t{owned:?}"));
        }
    }
}

fn dump_quotas(node: &Node, lines: &mut Vec<String>) {
    let request = Request::DescribeClientQuotas(DescribeClientQuotasRequest::default());
    let Response::DescribeClientQuotas(answer) = node.call(request, 1) else {
        panic!("no answer about quotas");
    };
    for entry in answer.entries.iter().flatten() {
        let entity: Vec<_> =
            entry.entity.iter().map(|part| (&part.entity_type, &part.entity_name)).collect();
        let values: Vec<_> = entry.values.iter().map(|value| (&value.key, value.value)).collect();
        lines.push(format!("quota\t{entity:?}\t{values:?}"));
    }
}
