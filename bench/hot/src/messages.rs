//! Requests of our own as they stand on the wire, and what is expected back. The same bytes in every
//! run; must never look at the machine.

use bytes::Bytes;
use millpond_wire::frame::{decode_response, encode_request};
use millpond_wire::messages::create_topics_request::CreatableTopic;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::{
    CreateTopicsRequest, FetchRequest, ProduceRequest, Request, Response,
};
use millpond_wire::{ApiKey, Records};

/// Of Produce: the first version with flexible fields.
pub const PRODUCE_VERSION: i16 = 9;
/// Of Fetch: the last one in which topics have names.
pub const FETCH_VERSION: i16 = 12;
const CREATE_VERSION: i16 = 7;
/// What devices call themselves.
const CLIENT: &str = "device-0042";

/// The frame of a request, its length prefix included.
///
/// # Panics
/// If it does not fit a frame.
#[must_use]
pub fn frame(version: i16, request: &Request) -> Bytes {
    let rope = encode_request(version, 7, Some(CLIENT), request).expect("it fits a frame");
    Records::from_iter(rope).to_bytes()
}

/// A request to make a topic.
#[must_use]
pub fn create_topic(name: &str, partitions: i32) -> Bytes {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    frame(CREATE_VERSION, &Request::CreateTopics(request))
}

/// A request to produce one batch to each partition from 0 on, which waits for the sync.
#[must_use]
pub fn produce(topic: &str, batches: Vec<Bytes>) -> Bytes {
    produce_from(topic, 0, batches)
}

/// The same, from this partition on.
#[must_use]
pub fn produce_from(topic: &str, first_partition: i32, batches: Vec<Bytes>) -> Bytes {
    let part = |(index, batch)| PartitionProduceData { index, records: Some(batch) };
    let topic = TopicProduceData {
        name: topic.to_owned(),
        partition_data: (first_partition..).zip(batches).map(part).collect(),
        ..Default::default()
    };
    let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() };
    frame(PRODUCE_VERSION, &Request::Produce(request))
}

/// A request to fetch from each partition from 0 on, at this offset, without waiting.
#[must_use]
pub fn fetch(topic: &str, partitions: i32, offset: i64, max_bytes: i32) -> Bytes {
    let part = |partition| FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: max_bytes,
        current_leader_epoch: -1,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic: topic.to_owned(),
        partitions: (0..partitions).map(part).collect(),
        ..FetchTopic::default()
    };
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: max_bytes.saturating_mul(partitions),
        topics: vec![topic],
        ..FetchRequest::default()
    };
    frame(FETCH_VERSION, &Request::Fetch(request))
}

fn decoded(api: ApiKey, version: i16, sent: Vec<Bytes>) -> Response {
    let frame = Records::from_iter(sent).to_bytes().slice(4..);
    decode_response(api, version, frame).expect("an answer that can be read").1
}

/// Checks that a topic was made.
///
/// # Panics
/// If it was not.
pub fn expect_created(sent: Vec<Bytes>) {
    let Response::CreateTopics(created) = decoded(ApiKey::CreateTopics, CREATE_VERSION, sent)
    else {
        panic!("another answer")
    };
    assert!(created.topics.iter().all(|topic| topic.error_code == 0), "{created:?}");
}

/// Checks that all that was produced was taken.
///
/// # Panics
/// If it was not.
pub fn expect_taken(sent: Vec<Bytes>) {
    let Response::Produce(produced) = decoded(ApiKey::Produce, PRODUCE_VERSION, sent) else {
        panic!("another answer")
    };
    let mut parts = produced.responses.iter().flat_map(|topic| &topic.partition_responses);
    assert!(parts.all(|part| part.error_code == 0), "{produced:?}");
}

/// Bytes of records that a fetch gave.
///
/// # Panics
/// If it gave an error.
#[must_use]
pub fn fetched_bytes(sent: Vec<Bytes>) -> usize {
    let Response::Fetch(fetched) = decoded(ApiKey::Fetch, FETCH_VERSION, sent) else {
        panic!("another answer")
    };
    assert_eq!(fetched.error_code, 0);
    let parts = fetched.responses.iter().flat_map(|topic| &topic.partitions);
    let records = parts.map(|part| {
        assert_eq!(part.error_code, 0, "partition {}", part.partition_index);
        part.records.as_ref().map_or(0, Records::size_bytes)
    });
    records.sum()
}
