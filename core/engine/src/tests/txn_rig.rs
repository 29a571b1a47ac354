//! What a transactional client does, for stories: one that speaks the protocol before KIP-890 and
//! one that speaks it since.

use super::rig::{Rig, fetch_request, fetched, values_of};
use crate::units::RequestId;
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millpond_wire::messages::fetch_response::PartitionData;
use millpond_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::produce_response::PartitionProduceResponse;
use millpond_wire::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, EndTxnResponse, FetchRequest, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ProduceRequest, Request, Response,
};
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};
use std::collections::{BTreeMap, BTreeSet};

/// A transactional producer.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) transactional_id: String,
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    /// Speaks KIP-890.
    pub(crate) is_v2: bool,
    /// Next sequence, by topic and partition.
    pub(crate) sequences: BTreeMap<(String, i32), i32>,
}

impl Client {
    pub(crate) fn start(rig: &mut Rig, transactional_id: &str, is_v2: bool) -> Client {
        let response = init(rig, transactional_id, None);
        assert_eq!(response.error_code, 0);
        Client {
            transactional_id: transactional_id.to_owned(),
            id: response.producer_id,
            epoch: response.producer_epoch,
            is_v2,
            sequences: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&self, rig: &mut Rig, topic: &str, partition: i32) -> i16 {
        let topic = AddPartitionsToTxnTopic { name: topic.to_owned(), partitions: vec![partition] };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.transactional_id.clone(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![topic],
            ..AddPartitionsToTxnRequest::default()
        };
        match rig.call(Request::AddPartitionsToTxn(request), 3) {
            Response::AddPartitionsToTxn(response) => {
                response.results_by_topic_v3_and_below[0].results_by_partition[0]
                    .partition_error_code
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn batch(&self, topic: &str, partition: i32, values: &[&str]) -> Bytes {
        let sequence = self.sequences.get(&(topic.to_owned(), partition)).copied().unwrap_or(0);
        let mut builder = BatchBuilder::new(Codec::None, None)
            .with_transactional(true)
            .with_producer(self.id, self.epoch, sequence);
        for (value, index) in values.iter().zip(0..) {
            builder.push(1_000 + index, None, Some(value.as_bytes()), &[]).expect("a small record");
        }
        builder.build().expect("a small batch")
    }

    /// Sends a batch, as it is.
    pub(crate) fn send_raw(
        &self,
        rig: &mut Rig,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> RequestId {
        let part = PartitionProduceData { index: partition, records: Some(batch) };
        let topic = TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![part],
            ..Default::default()
        };
        let request = ProduceRequest {
            transactional_id: Some(self.transactional_id.clone()),
            acks: -1,
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        rig.send(Request::Produce(request), if self.is_v2 { 12 } else { 9 })
    }

    pub(crate) fn send(
        &mut self,
        rig: &mut Rig,
        topic: &str,
        partition: i32,
        values: &[&str],
    ) -> RequestId {
        let batch = self.batch(topic, partition, values);
        let id = self.send_raw(rig, topic, partition, batch);
        *self.sequences.entry((topic.to_owned(), partition)).or_default() += values.len() as i32;
        id
    }

    /// Sends and expects the answer; its sequence is taken back if it is an error.
    pub(crate) fn produce(
        &mut self,
        rig: &mut Rig,
        topic: &str,
        partition: i32,
        values: &[&str],
    ) -> PartitionProduceResponse {
        let id = self.send(rig, topic, partition, values);
        let answer = rig.produced(id);
        if answer.error_code != 0 {
            *self.sequences.entry((topic.to_owned(), partition)).or_default() -=
                values.len() as i32;
        }
        answer
    }

    /// Joins as its protocol wants it, and sends.
    pub(crate) fn write(&mut self, rig: &mut Rig, topic: &str, partition: i32, values: &[&str]) {
        if !self.is_v2 {
            assert_eq!(self.add(rig, topic, partition), 0);
        }
        assert_eq!(self.produce(rig, topic, partition, values).error_code, 0);
    }

    pub(crate) fn send_end(&self, rig: &mut Rig, committed: bool) -> RequestId {
        let request = EndTxnRequest {
            transactional_id: self.transactional_id.clone(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        rig.send(Request::EndTxn(request), if self.is_v2 { 5 } else { 3 })
    }

    /// Ends the transaction; goes on as it is told.
    pub(crate) fn end(&mut self, rig: &mut Rig, committed: bool) -> i16 {
        let id = self.send_end(rig, committed);
        let response = ended(rig, id);
        self.take_end(&response);
        response.error_code
    }

    pub(crate) fn take_end(&mut self, response: &EndTxnResponse) {
        if response.error_code == 0 && self.is_v2 {
            (self.id, self.epoch) = (response.producer_id, response.producer_epoch);
            self.sequences.clear();
        }
    }
}

pub(crate) fn ended(rig: &mut Rig, id: RequestId) -> EndTxnResponse {
    match rig.take(id) {
        Response::EndTxn(response) => response,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn init(
    rig: &mut Rig,
    transactional_id: &str,
    own: Option<(i64, i16)>,
) -> InitProducerIdResponse {
    init_within(rig, transactional_id, own, 60_000)
}

pub(crate) fn init_within(
    rig: &mut Rig,
    transactional_id: &str,
    own: Option<(i64, i16)>,
    transaction_timeout_ms: i32,
) -> InitProducerIdResponse {
    let (producer_id, producer_epoch) = own.unwrap_or((-1, -1));
    let request = InitProducerIdRequest {
        transactional_id: Some(transactional_id.to_owned()),
        transaction_timeout_ms,
        producer_id,
        producer_epoch,
    };
    let mut ask = || match rig.call(Request::InitProducerId(request.clone()), 5) {
        Response::InitProducerId(response) => response,
        other => panic!("{other:?}"),
    };
    // As clients do: what was open is aborted by then.
    match ask() {
        busy if busy.error_code == ErrorCode::ConcurrentTransactions.code() => ask(),
        response => response,
    }
}

pub(crate) fn committed_fetch(topic: &str, partition: i32, offset: i64, wait_ms: i32) -> Request {
    match fetch_request(topic, partition, offset, wait_ms, 1) {
        Request::Fetch(request) => Request::Fetch(FetchRequest { isolation_level: 1, ..request }),
        other => other,
    }
}

/// What a consumer makes of an answer under read_committed: values with their offsets, and where it
/// goes on.
pub(crate) fn committed_of(data: &PartitionData) -> (Vec<(i64, String)>, Option<i64>) {
    let mut aborted = data.aborted_transactions.clone().unwrap_or_default();
    aborted.sort_by_key(|one| one.first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let mut left_out = BTreeSet::new();
    let all: BTreeMap<i64, String> = values_of(data).into_iter().collect();
    let bytes = data.records.as_ref().map(|records| records.to_bytes()).unwrap_or_default();
    let (mut values, mut next) = (Vec::new(), None);
    for batch in LogBatch::split(bytes, 10_000).expect("whole batches") {
        let header = batch.header();
        while let Some(one) = aborted.next_if(|one| one.first_offset <= batch.last_offset()) {
            left_out.insert(one.producer_id);
        }
        next = Some(batch.next_offset());
        if header.attributes.is_control() {
            left_out.remove(&header.producer_id);
        } else if !header.attributes.is_transactional() || !left_out.contains(&header.producer_id) {
            let range = all.range(batch.base_offset()..=batch.last_offset());
            values.extend(range.map(|(offset, value)| (*offset, value.clone())));
        }
    }
    (values, next)
}

impl Rig {
    pub(crate) fn fetch_committed(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> PartitionData {
        fetched(self.call(committed_fetch(topic, partition, offset, 0), 12))
    }

    /// All values that count, from an offset on.
    pub(crate) fn read_committed(&mut self, topic: &str, partition: i32, from: i64) -> Vec<String> {
        let (mut at, mut all) = (from, Vec::new());
        loop {
            let data = self.fetch_committed(topic, partition, at);
            assert_eq!(data.error_code, 0);
            let (values, next) = committed_of(&data);
            all.extend(values.into_iter().filter(|(o, _)| *o >= at).map(|(_, value)| value));
            let Some(next) = next else { return all };
            at = next;
        }
    }

    pub(crate) fn latest(&mut self, topic: &str, partition: i32, isolation_level: i8) -> i64 {
        let part = ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp: -1,
        };
        let topic = ListOffsetsTopic { name: topic.to_owned(), partitions: vec![part] };
        let topics = vec![topic];
        let request = ListOffsetsRequest { isolation_level, topics, ..Default::default() };
        match self.call(Request::ListOffsets(request), 5) {
            Response::ListOffsets(response) => response.topics[0].partitions[0].offset,
            other => panic!("{other:?}"),
        }
    }
}
