//! Space: retention reaches the files, a full disk refuses and recovers.

use super::rig::{Machine, Node};
use millpond_engine::PartitionKey;
use millpond_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millpond_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millpond_wire::messages::{CreateTopicsRequest, DeleteRecordsRequest, Request, Response};

fn create_topic(node: &Node, name: &str, configs: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
    };
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    match node.call(Request::CreateTopics(request), 7) {
        Response::CreateTopics(response) => assert_eq!(response.topics[0].error_code, 0),
        other => panic!("{other:?}"),
    }
}

fn log_start(node: &Node, key: PartitionKey) -> i64 {
    node.engine.with_engine(|engine| engine.catalog().partition(key).expect("it").log_start())
}

fn segment_bytes(machine: &Machine) -> usize {
    let segments = machine.disk.files().into_iter().filter(|path| path.ends_with(".seg"));
    segments.map(|path| machine.disk.content(&path).map_or(0, |bytes| bytes.len())).sum()
}

fn value(index: usize) -> String {
    format!("{index:06}{}", "x".repeat(3_000))
}

#[test]
fn files_beyond_the_retained_bytes_go_and_what_is_left_survives_a_power_cut() {
    let mut machine = Machine::new(41);
    machine.storage.packs = false;
    let node = machine.start();
    create_topic(&node, "t", &[("retention.bytes", "200000")]);
    for index in 0..400 {
        node.produce("t", 0, &value(index));
    }
    machine.run_for_ms(30_000);
    let start = log_start(&node, node.key("t", 0));
    assert!(start > 100, "{start}");
    let bytes = segment_bytes(&machine);
    assert!((200_000..500_000).contains(&bytes), "{bytes} bytes of segments are left");
    machine.power_cut(node);
    let node = machine.start();
    let key = node.key("t", 0);
    assert_eq!(log_start(&node, key), start);
    assert_eq!(node.fetch("t", 0, start - 1).error_code, 1);
    let data = node.fetch("t", 0, start);
    assert_eq!(super::rig::values_of(&data)[0], (start, value(start as usize)));
    let known = node
        .engine
        .with_engine(|engine| engine.catalog().partition(key).expect("it").stored_bytes());
    assert!(known > 0, "a start tells the engine of its segments");
}

#[test]
fn deleted_records_give_their_space_back_soon_although_nobody_writes() {
    let mut machine = Machine::new(42);
    machine.storage.packs = false;
    let node = machine.start();
    create_topic(&node, "t", &[]);
    for index in 0..200 {
        node.produce("t", 0, &value(index));
    }
    machine.run_for_ms(1_000);
    assert!(segment_bytes(&machine) > 400_000);
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
    let topics = vec![DeleteRecordsTopic { name: "t".to_owned(), partitions }];
    let request = DeleteRecordsRequest { topics, ..DeleteRecordsRequest::default() };
    match node.call(Request::DeleteRecords(request), 2) {
        Response::DeleteRecords(response) => {
            assert_eq!(response.topics[0].partitions[0].low_watermark, 200);
        }
        other => panic!("{other:?}"),
    }
    machine.run_for_ms(30_000);
    assert_eq!(segment_bytes(&machine), 0);
    assert_eq!(node.produce("t", 0, "next"), 200);
    machine.power_cut(node);
    let node = machine.start();
    let data = node.fetch("t", 0, 200);
    assert_eq!(super::rig::values_of(&data), [(200, "next".to_owned())]);
}
