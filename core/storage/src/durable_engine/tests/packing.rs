//! Packed history: smaller on flash, the same to whoever reads it.

use millpond_wire::messages::create_topics_request::CreatableTopicConfig;
use millpond_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millpond_wire::messages::{CreateTopicsRequest, ListOffsetsRequest, Request, Response};
use millpond_wire::record::{Batch, BatchBuilder, Codec};

use super::rig::{Machine, Node, create_topic_request, produce_request};
use crate::WriteCause;

fn reading(index: usize) -> String {
    let celsius = 20 + index % 7;
    format!("{{\"device\":\"sensor-{:04}\",\"celsius\":{celsius},\"n\":{index}}}", index % 50)
}

fn create(node: &Node, name: &str, configs: &[(&str, &str)]) {
    let Request::CreateTopics(request) = create_topic_request(name, 1) else {
        panic!("another request");
    };
    let mut topic = request.topics[0].clone();
    topic.configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        })
        .collect();
    let request = CreateTopicsRequest { topics: vec![topic], ..request };
    match node.call(Request::CreateTopics(request), 7) {
        Response::CreateTopics(response) => assert_eq!(response.topics[0].error_code, 0),
        other => panic!("{other:?}"),
    }
}

/// One record, at `timestamp` ms.
fn send(node: &Node, topic: &str, codec: Codec, timestamp: i64, value: &str) {
    let mut builder = BatchBuilder::new(codec, None);
    builder.push(timestamp, None, Some(value.as_bytes()), &[]).expect("a small record");
    let batch = builder.build().expect("a small batch");
    match node.call(produce_request(topic, 0, batch), 9) {
        Response::Produce(response) => {
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        }
        other => panic!("{other:?}"),
    }
}

/// The codecs in which a partition's history is served; never with the mark of repacking.
fn codecs(node: &Node, topic: &str) -> Vec<Codec> {
    let data = node.fetch(topic, 0, 0);
    assert_eq!(data.error_code, 0);
    let bytes = data.records.expect("records").to_bytes();
    let batches = Batch::split(bytes, 1_000).expect("whole batches");
    assert!(batches.iter().all(|batch| !batch.attributes().is_repacked()));
    batches.iter().map(Batch::codec).collect()
}

#[test]
fn packed_records_are_the_same_records_at_the_same_offsets() {
    let machine = Machine::new(40);
    let mut node = machine.start();
    create(&node, "t", &[]);
    let mut payload = 0;
    for index in 0..2_000 {
        let value = reading(index);
        payload += value.len() as u64;
        send(&node, "t", Codec::None, 1_000 + index as i64, &value);
    }
    for _ in 0..2 {
        let found = node.read("t", 0);
        assert_eq!(found.len(), 2_000);
        for (index, (offset, value)) in found.into_iter().enumerate() {
            assert_eq!((offset, value), (index as i64, reading(index)));
        }
        let metrics = node.engine.metrics();
        let written = metrics.written_bytes[WriteCause::Packing as usize];
        assert!(written < payload, "{written} bytes of segments for {payload} of values");
        machine.stop(node);
        node = machine.start();
    }
    assert!(codecs(&node, "t").iter().all(|codec| *codec == Codec::None));
}

#[test]
fn history_is_served_in_the_codec_of_its_producers_or_of_its_topic() {
    let cases = [
        (Codec::None, "producer", Codec::None),
        (Codec::Gzip, "producer", Codec::None),
        (Codec::Zstd, "producer", Codec::Zstd),
        (Codec::None, "gzip", Codec::Gzip),
        (Codec::None, "zstd", Codec::Zstd),
        (Codec::Zstd, "uncompressed", Codec::None),
    ];
    for (sent, setting, wanted) in cases {
        let machine = Machine::new(41);
        let node = machine.start();
        create(&node, "t", &[("compression.type", setting)]);
        for index in 0..300 {
            // Long enough for a codec to gain on one alone.
            send(&node, "t", sent, 1_000, &reading(index).repeat(8));
        }
        machine.stop(node);
        let node = machine.start();
        let served = codecs(&node, "t");
        let is_wanted = served.iter().all(|codec| *codec == wanted);
        assert!(is_wanted, "{sent:?} with {setting}: {served:?}");
        assert_eq!(node.read("t", 0).len(), 300);
    }
}

#[test]
fn a_record_in_a_packed_batch_is_found_by_its_time() {
    let machine = Machine::new(42);
    let node = machine.start();
    create(&node, "t", &[]);
    for index in 0..500 {
        send(&node, "t", Codec::None, 1_000 + 10 * index, &reading(index as usize));
    }
    machine.stop(node);
    let node = machine.start();
    for (timestamp, wanted) in [(0, 0), (1_000, 0), (1_001, 1), (3_333, 234), (5_990, 499)] {
        let part = ListOffsetsPartition {
            timestamp,
            current_leader_epoch: -1,
            ..ListOffsetsPartition::default()
        };
        let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![part] };
        let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
        let Response::ListOffsets(response) = node.call(Request::ListOffsets(request), 5) else {
            panic!("another response");
        };
        assert_eq!(response.topics[0].partitions[0].offset, wanted, "at {timestamp}");
    }
}
