//! What transactional clients and members of groups send, one request at a time, for the stories.

use bytes::Bytes;
use millpond_sim::lab::Lab;
use millpond_wire::ErrorCode;
use millpond_wire::messages::fetch_response::PartitionData;
use millpond_wire::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, HeartbeatRequest,
    InitProducerIdRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, Request, Response, SyncGroupRequest,
    TxnOffsetCommitRequest, add_partitions_to_txn_request, fetch_request, join_group_request,
    leave_group_request, offset_commit_request, offset_fetch_request, produce_request,
    sync_group_request, txn_offset_commit_request,
};
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};
use std::collections::BTreeSet;

pub(crate) fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code of Kafka")
}

/// One instance of a transactional producer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Txn {
    pub(crate) id: &'static str,
    pub(crate) producer: (i64, i16),
    pub(crate) is_v2: bool,
    pub(crate) sequence: i32,
}

impl Txn {
    pub(crate) fn init(lab: &Lab, id: &'static str, is_v2: bool) -> Txn {
        let request = InitProducerIdRequest {
            transactional_id: Some(id.to_owned()),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        loop {
            let request = Request::InitProducerId(request.clone());
            let Response::InitProducerId(answer) = lab.call(request, 4) else {
                panic!("not an init producer id response");
            };
            match code(answer.error_code) {
                ErrorCode::None => {
                    let producer = (answer.producer_id, answer.producer_epoch);
                    return Txn { id, producer, is_v2, sequence: 0 };
                }
                // What the one before left open is aborted first.
                code => assert_eq!(code, ErrorCode::ConcurrentTransactions),
            }
        }
    }

    /// Makes a partition part of the transaction, as before KIP-890.
    pub(crate) fn add(&self, lab: &Lab, topic: &str) -> ErrorCode {
        let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic {
            name: topic.to_owned(),
            partitions: vec![0],
        };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.to_owned(),
            v3_and_below_producer_id: self.producer.0,
            v3_and_below_producer_epoch: self.producer.1,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        match lab.call(Request::AddPartitionsToTxn(request), 3) {
            Response::AddPartitionsToTxn(answer) => {
                let topic = &answer.results_by_topic_v3_and_below[0];
                code(topic.results_by_partition[0].partition_error_code)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Writes one value to partition 0.
    pub(crate) fn write(&mut self, lab: &Lab, topic: &str, value: &str) -> Result<i64, ErrorCode> {
        if !self.is_v2 {
            match self.add(lab, topic) {
                ErrorCode::None => {}
                refused => return Err(refused),
            }
        }
        let mut builder = BatchBuilder::new(Codec::None, None)
            .with_transactional(true)
            .with_producer(self.producer.0, self.producer.1, self.sequence);
        builder.push(1_000, None, Some(value.as_bytes()), &[]).expect("a small record");
        let records = Some(builder.build().expect("a small batch"));
        let data = produce_request::TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![produce_request::PartitionProduceData { index: 0, records }],
            ..Default::default()
        };
        let request = ProduceRequest {
            transactional_id: Some(self.id.to_owned()),
            acks: -1,
            topic_data: vec![data],
            ..Default::default()
        };
        let version = if self.is_v2 { 12 } else { 9 };
        let Response::Produce(answer) = lab.call(Request::Produce(request), version) else {
            panic!("not a produce response");
        };
        let answer = &answer.responses[0].partition_responses[0];
        match code(answer.error_code) {
            ErrorCode::None => {
                self.sequence += 1;
                Ok(answer.base_offset)
            }
            refused => Err(refused),
        }
    }

    /// Ends the transaction, and goes on as it is told.
    pub(crate) fn end(&mut self, lab: &Lab, committed: bool) -> ErrorCode {
        let request = EndTxnRequest {
            transactional_id: self.id.to_owned(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            committed,
        };
        let version = if self.is_v2 { 5 } else { 3 };
        let Response::EndTxn(answer) = lab.call(Request::EndTxn(request), version) else {
            panic!("not an end response");
        };
        if answer.error_code == 0 && self.is_v2 {
            self.producer = (answer.producer_id, answer.producer_epoch);
            self.sequence = 0;
        }
        code(answer.error_code)
    }

    /// Makes an offset of partition 0 part of the transaction.
    pub(crate) fn commit_offset(
        &self,
        lab: &Lab,
        member: &Member,
        topic: &str,
        offset: i64,
    ) -> ErrorCode {
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            ..Default::default()
        };
        let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: vec![partition],
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: self.id.to_owned(),
            group_id: member.group.to_owned(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            generation_id: member.generation,
            member_id: member.id.clone(),
            topics: vec![topic],
            ..Default::default()
        };
        match lab.call(Request::TxnOffsetCommit(request), 5) {
            Response::TxnOffsetCommit(answer) => code(answer.topics[0].partitions[0].error_code),
            other => panic!("{other:?}"),
        }
    }
}

/// What somebody reads who reads committed data: values, and the last stable offset and the end.
pub(crate) fn read_committed(lab: &Lab, topic: &str) -> (Vec<String>, i64, i64) {
    let (mut values, mut at) = (Vec::new(), 0);
    loop {
        let data = fetch_committed(lab, topic, at);
        let before = at;
        at = take_committed(&data, at, &mut values);
        if at == before {
            return (values, data.last_stable_offset, data.high_watermark);
        }
    }
}

fn fetch_committed(lab: &Lab, topic: &str, fetch_offset: i64) -> PartitionData {
    let asked = fetch_request::FetchPartition {
        current_leader_epoch: -1,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let request = FetchRequest {
        replica_id: -1,
        max_bytes: 1 << 20,
        isolation_level: 1,
        session_epoch: -1,
        topics: vec![fetch_request::FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![asked],
            ..Default::default()
        }],
        ..Default::default()
    };
    let Response::Fetch(mut answer) = lab.call(Request::Fetch(request), 11) else {
        panic!("not a fetch response");
    };
    let data = answer.responses.remove(0).partitions.remove(0);
    assert_eq!(code(data.error_code), ErrorCode::None);
    data
}

/// What a consumer makes of it; where it reads on.
fn take_committed(data: &PartitionData, from: i64, values: &mut Vec<String>) -> i64 {
    let mut aborted = data.aborted_transactions.clone().unwrap_or_default();
    aborted.sort_by_key(|one| one.first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let (mut left_out, mut next) = (BTreeSet::new(), from);
    let bytes = data.records.as_ref().map(|rope| rope.to_bytes()).unwrap_or_default();
    for batch in LogBatch::split(bytes, 10_000).expect("whole batches") {
        let header = batch.header();
        while let Some(one) = aborted.next_if(|one| one.first_offset <= batch.last_offset()) {
            left_out.insert(one.producer_id);
        }
        next = batch.next_offset();
        let is_in = header.attributes.is_transactional();
        if header.attributes.is_control() {
            left_out.remove(&header.producer_id);
        } else if !(is_in && left_out.contains(&header.producer_id)) {
            values.extend(values_in(&batch));
        }
    }
    next
}

fn values_in(batch: &LogBatch) -> Vec<String> {
    let plain = batch.to_batch().expect("a parsed batch");
    let section = plain.decompress(1 << 24).expect("a small batch");
    let values = plain.records(&section).map(|record| {
        let value = record.expect("a whole record").value.unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    });
    values.collect()
}

/// A member of a group, of the classic protocol.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) group: &'static str,
    pub(crate) id: String,
    pub(crate) generation: i32,
}

impl Member {
    /// Nobody of a group: it commits as whoever assigns partitions by itself.
    pub(crate) fn nobody(group: &'static str) -> Member {
        Member { group, id: String::new(), generation: -1 }
    }

    /// An id, which the broker gives.
    pub(crate) fn named(lab: &Lab, group: &'static str) -> Member {
        let nobody = Member::nobody(group);
        let Some(Response::JoinGroup(answer)) = lab.try_call(nobody.join_request(), 5) else {
            panic!("not a join response");
        };
        assert_eq!(code(answer.error_code), ErrorCode::MemberIdRequired);
        Member { id: answer.member_id, ..nobody }
    }

    pub(crate) fn join_request(&self) -> Request {
        let protocol = join_group_request::JoinGroupRequestProtocol {
            name: "turns".to_owned(),
            metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]),
        };
        Request::JoinGroup(JoinGroupRequest {
            group_id: self.group.to_owned(),
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 6_000,
            member_id: self.id.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![protocol],
            ..Default::default()
        })
    }

    /// Takes the answer to a join.
    pub(crate) fn joined(&mut self, answer: &JoinGroupResponse) -> ErrorCode {
        if answer.error_code == 0 {
            self.generation = answer.generation_id;
        }
        code(answer.error_code)
    }

    /// Asks for its share; the leader deals them out as (member, share).
    pub(crate) fn sync_request(&self, shares: &[(&str, &'static str)]) -> Request {
        let dealt =
            shares.iter().map(|(member, share)| sync_group_request::SyncGroupRequestAssignment {
                member_id: (*member).to_owned(),
                assignment: Bytes::from_static(share.as_bytes()),
            });
        Request::SyncGroup(SyncGroupRequest {
            group_id: self.group.to_owned(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            assignments: dealt.collect(),
            ..Default::default()
        })
    }

    pub(crate) fn beat(&self, lab: &Lab) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: self.group.to_owned(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        match lab.call(Request::Heartbeat(request), 3) {
            Response::Heartbeat(answer) => code(answer.error_code),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn leave(&self, lab: &Lab) {
        let member = leave_group_request::MemberIdentity {
            member_id: self.id.clone(),
            ..Default::default()
        };
        let request = LeaveGroupRequest {
            group_id: self.group.to_owned(),
            members: vec![member],
            ..Default::default()
        };
        lab.call(Request::LeaveGroup(request), 3);
    }

    pub(crate) fn commit_request(&self, topic: &str, offset: i64) -> Request {
        let partition = offset_commit_request::OffsetCommitRequestPartition {
            committed_offset: offset,
            committed_leader_epoch: -1,
            ..Default::default()
        };
        let topic = offset_commit_request::OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        Request::OffsetCommit(OffsetCommitRequest {
            group_id: self.group.to_owned(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            topics: vec![topic],
            ..Default::default()
        })
    }

    pub(crate) fn commit(&self, lab: &Lab, topic: &str, offset: i64) -> ErrorCode {
        match lab.call(self.commit_request(topic, offset), 7) {
            Response::OffsetCommit(answer) => code(answer.topics[0].partitions[0].error_code),
            other => panic!("{other:?}"),
        }
    }

    /// What the group has committed of partition 0.
    pub(crate) fn committed(&self, lab: &Lab, topic: &str) -> i64 {
        let topic = offset_fetch_request::OffsetFetchRequestTopic {
            name: topic.to_owned(),
            partition_indexes: vec![0],
        };
        let request = OffsetFetchRequest {
            group_id: self.group.to_owned(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        match lab.call(Request::OffsetFetch(request), 5) {
            Response::OffsetFetch(answer) => {
                let found = &answer.topics[0].partitions[0];
                assert_eq!((answer.error_code, found.error_code), (0, 0));
                found.committed_offset
            }
            other => panic!("{other:?}"),
        }
    }
}
