//! Space: retention reaches the files, a full disk refuses and recovers.

use super::rig::{Machine, Node};
use crate::offline::{DataDir, Report, verify};
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

/// A value that packing makes hardly smaller.
fn value(index: usize) -> String {
    let mut state = index as u64 + 1;
    let noise = (0..3_000).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state >> 32) as u8 % 64)
    });
    format!("{index:06}{}", noise.collect::<String>())
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

const STORAGE_ERROR: i16 = 56;

/// Produces values one by one; answers how many were acknowledged before the first refusal.
fn produce_until_refused(machine: &Machine, node: &Node, topic: &str, most: usize) -> usize {
    for index in 0..most {
        match try_produce(machine, node, topic, index) {
            0 => {}
            STORAGE_ERROR => return index,
            code => panic!("error {code}"),
        }
    }
    most
}

/// The answer's error code; there must be one within five seconds.
fn try_produce(machine: &Machine, node: &Node, topic: &str, index: usize) -> i16 {
    let id = node.send_value(topic, 0, &value(index));
    for _ in 0..1_000 {
        if let Some(answer) = node.produced(id) {
            return answer.error_code;
        }
        assert!(!node.run.is_done(), "the node stopped");
        machine.run_for_ms(5);
    }
    panic!("produce {index} hangs");
}

fn used_bytes(machine: &Machine) -> u64 {
    let files = machine.disk.files();
    files.iter().map(|path| machine.disk.content(path).map_or(0, |bytes| bytes.len() as u64)).sum()
}

fn delete_records(node: &Node, topic: &str) {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
    let topics = vec![DeleteRecordsTopic { name: topic.to_owned(), partitions }];
    let request = DeleteRecordsRequest { topics, ..DeleteRecordsRequest::default() };
    match node.call(Request::DeleteRecords(request), 2) {
        Response::DeleteRecords(response) => {
            assert_eq!(response.topics[0].partitions[0].error_code, 0);
        }
        other => panic!("{other:?}"),
    }
}

fn examine(machine: &Machine) -> Report {
    let disk = machine.disk.clone();
    machine.executor.block_on(async move {
        let dir = DataDir::lock(disk).await.expect("nobody has it");
        verify(&dir, |_| ()).await.expect("readable")
    })
}

#[test]
fn a_disk_that_others_fill_refuses_writes_serves_reads_and_recovers_by_itself() {
    for seed in 0..5 {
        let machine = Machine::new(50 + seed);
        let node = machine.start();
        create_topic(&node, "t", &[]);
        let first = produce_until_refused(&machine, &node, "t", 100);
        // Another program takes all that is left, between two looks.
        machine.disk.set_capacity_bytes(Some(used_bytes(&machine)));
        let more = produce_until_refused(&machine, &node, "t", 1_000);
        assert!((1..1_000).contains(&more), "seed {seed}: {more} more");
        assert!(node.engine.metrics().checkpoints_refused > 0, "the disk was really full");
        let acknowledged = first + more;
        assert_eq!(node.read("t", 0).len(), acknowledged, "seed {seed}: reads go on");
        machine.run_for_ms(120_000);
        assert_eq!(try_produce(&machine, &node, "t", 0), STORAGE_ERROR, "it lasts");
        machine.disk.set_capacity_bytes(None);
        machine.run_for_ms(61_000);
        assert_eq!(try_produce(&machine, &node, "t", acknowledged), 0, "seed {seed}: it ends");
        assert!(!node.engine.metrics().is_refusing);
        machine.power_cut(node);
        let node = machine.start();
        assert_eq!(node.read("t", 0).len(), acknowledged + 1, "seed {seed}: nothing was lost");
    }
}

#[test]
fn a_power_cut_on_a_full_disk_loses_nothing_and_the_start_needs_no_space() {
    for seed in 0..10 {
        let machine = Machine::new(60 + seed);
        let node = machine.start();
        create_topic(&node, "t", &[]);
        produce_until_refused(&machine, &node, "t", 50);
        machine.disk.set_capacity_bytes(Some(used_bytes(&machine) + seed * 10_000));
        let acknowledged = 50 + produce_until_refused(&machine, &node, "t", 1_000);
        machine.run_for_ms(seed * 700);
        machine.power_cut(node);
        let node = machine.start();
        assert_eq!(node.read("t", 0).len(), acknowledged, "seed {seed}");
        machine.disk.set_capacity_bytes(None);
        machine.run_for_ms(61_000);
        assert_eq!(try_produce(&machine, &node, "t", 1), 0, "seed {seed}");
        machine.stop(node);
    }
}

#[test]
fn deleting_records_frees_a_full_disk_although_no_checkpoint_fits() {
    let machine = Machine::new(70);
    let node = machine.start();
    create_topic(&node, "old", &[]);
    create_topic(&node, "t", &[]);
    produce_until_refused(&machine, &node, "old", 150);
    machine.disk.set_capacity_bytes(Some(used_bytes(&machine)));
    let acknowledged = produce_until_refused(&machine, &node, "t", 1_000);
    delete_records(&node, "old");
    machine.run_for_ms(2_000);
    assert_eq!(try_produce(&machine, &node, "t", acknowledged), 0);
    machine.power_cut(node);
    let report = examine(&machine);
    assert!(report.is_clean(), "what was let go is no damage: {:?}", report.findings);
    let node = machine.start();
    assert_eq!(node.read("t", 0).len(), acknowledged + 1);
    let key = node.key("old", 0);
    assert_eq!(log_start(&node, key), 150);
}

#[test]
fn a_journal_that_runs_full_behind_a_full_disk_lets_nobody_hang() {
    let machine = Machine::new(71);
    let node = machine.start();
    create_topic(&node, "t", &[]);
    machine.disk.set_capacity_bytes(Some(used_bytes(&machine)));
    // Far more than the ring holds, all at once: decided before the first checkpoint is refused.
    let ids: Vec<_> = (0..600).map(|index| node.send_value("t", 0, &value(index))).collect();
    machine.run_for_ms(60_000);
    let codes: Vec<_> =
        ids.iter().map(|id| node.produced(*id).map(|answer| answer.error_code)).collect();
    assert!(codes.iter().all(|code| matches!(code, Some(0 | STORAGE_ERROR))), "{codes:?}");
    let acknowledged = codes.iter().filter(|code| **code == Some(0)).count();
    assert!(acknowledged > 0 && acknowledged < 600, "{acknowledged}");
    machine.disk.set_capacity_bytes(None);
    machine.run_for_ms(61_000);
    assert_eq!(try_produce(&machine, &node, "t", 0), 0);
    assert!(node.read("t", 0).len() > acknowledged);
}

#[test]
fn under_a_budget_a_drop_oldest_topic_goes_on_for_ever_and_the_disk_is_never_full() {
    let mut machine = Machine::new(72);
    let budget = 3_000_000;
    machine.config.space_budget_bytes = Some(budget);
    machine.disk.set_capacity_bytes(Some(budget));
    let node = machine.start();
    create_topic(&node, "ring", &[("millpond.on.full", "drop-oldest")]);
    for index in 0..4_000 {
        assert_eq!(try_produce(&machine, &node, "ring", index), 0, "produce {index}");
        assert!(used_bytes(&machine) <= budget);
    }
    let metrics = node.engine.metrics();
    assert_eq!(metrics.checkpoints_refused, 0, "the disk was never full");
    let key = node.key("ring", 0);
    let dropped = node.engine.with_engine(|engine| {
        let topic = engine.catalog().by_id(key.topic_id).expect("a topic");
        topic.dropped()
    });
    let start = log_start(&node, key);
    assert_eq!(dropped.space_records as i64, start);
    assert!(start > 2_000, "{start}");
    let data = node.fetch("ring", 0, start);
    assert_eq!(super::rig::values_of(&data)[0].0, start, "what is left is served");
}

#[test]
fn under_a_budget_a_reject_topic_is_refused_before_the_disk_is_full_until_space_comes_back() {
    let mut machine = Machine::new(73);
    let budget = 3_000_000;
    machine.config.space_budget_bytes = Some(budget);
    machine.disk.set_capacity_bytes(Some(budget));
    let node = machine.start();
    create_topic(&node, "t", &[]);
    let acknowledged = produce_until_refused(&machine, &node, "t", 4_000);
    assert!((300..1_300).contains(&acknowledged), "{acknowledged}");
    assert_eq!(node.engine.metrics().checkpoints_refused, 0, "the disk was never full");
    let space = node.engine.with_engine(|engine| engine.space());
    assert!(space.used_bytes > space.soft_bytes && space.used_bytes < space.hard_bytes);
    assert_eq!(space.budget_bytes, budget);
    assert!(space.refused_batches > 0);
    assert_eq!(node.read("t", 0).len(), acknowledged);
    delete_records(&node, "t");
    machine.run_for_ms(30_000);
    assert_eq!(try_produce(&machine, &node, "t", 0), 0, "it ends by itself");
}

#[test]
fn a_stop_on_a_full_disk_is_clean() {
    let machine = Machine::new(74);
    let node = machine.start();
    create_topic(&node, "t", &[]);
    machine.disk.set_capacity_bytes(Some(used_bytes(&machine)));
    let acknowledged = produce_until_refused(&machine, &node, "t", 1_000);
    machine.stop(node);
    let node = machine.start();
    assert_eq!(node.read("t", 0).len(), acknowledged);
}

#[test]
fn files_that_went_before_any_checkpoint_forgot_them_are_missed_by_nobody() {
    let machine = Machine::new(75);
    let node = machine.start();
    create_topic(&node, "old", &[]);
    create_topic(&node, "t", &[]);
    produce_until_refused(&machine, &node, "old", 150);
    machine.disk.set_capacity_bytes(Some(0));
    let acknowledged = produce_until_refused(&machine, &node, "t", 1_000);
    let before = segment_bytes(&machine);
    delete_records(&node, "old");
    machine.run_for_ms(5_000);
    assert!(segment_bytes(&machine) < before, "they are gone");
    assert!(node.engine.metrics().is_refusing, "and no checkpoint was possible");
    machine.power_cut(node);
    let report = examine(&machine);
    assert!(report.is_clean(), "{:?}", report.findings);
    let node = machine.start();
    assert_eq!(node.read("t", 0).len(), acknowledged);
    machine.disk.set_capacity_bytes(None);
    machine.run_for_ms(61_000);
    assert_eq!(node.produce("old", 0, "next"), 150);
    machine.stop(node);
    assert!(examine(&machine).is_clean());
    let node = machine.start();
    assert_eq!(super::rig::values_of(&node.fetch("old", 0, 150)).len(), 1);
}
