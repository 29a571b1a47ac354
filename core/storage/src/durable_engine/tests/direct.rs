//! Large batches on the direct path: written once, there after a power cut, in order with small
//! ones; and what becomes of them where the device is full or forgets.

use std::collections::BTreeMap;

use super::rig::{Machine, Node};
use crate::WriteCause;

/// Nothing but a stop takes a checkpoint.
fn machine(seed: u64) -> Machine {
    let mut machine = Machine::new(seed);
    machine.storage.tail_bytes = 1 << 30;
    machine.storage.journal_file_bytes = 4 << 20;
    machine.storage.segment_bytes = 8 << 20;
    machine.storage.direct_batch_bytes = 20_000;
    machine
}

fn large(index: usize) -> String {
    format!("{index:06}{}", "large ".repeat(5_000))
}

fn small(index: usize) -> String {
    format!("{index:06} small")
}

/// What is sent at `index`: a large record, with small ones after every third.
fn value(index: usize) -> String {
    if index % 4 == 3 { small(index) } else { large(index) }
}

fn segments(machine: &Machine) -> Vec<String> {
    machine.disk.files().into_iter().filter(|path| path.ends_with(".seg")).collect()
}

fn check(node: &Node, topic: &str, wanted: impl Fn(usize) -> String, count: usize) {
    let found = node.read(topic, 0);
    assert_eq!(found.len(), count);
    for (index, (offset, text)) in found.into_iter().enumerate() {
        assert_eq!(offset, index as i64);
        assert!(text == wanted(index), "offset {offset}");
    }
}

#[test]
fn a_large_batch_is_written_once() {
    let machine = machine(60);
    let node = machine.start();
    node.create_topic("t", 1);
    let before = node.engine.metrics();
    for index in 0..60 {
        node.produce("t", 0, &large(index));
    }
    let metrics = node.engine.metrics();
    let written = |cause: WriteCause| {
        metrics.written_bytes[cause as usize] - before.written_bytes[cause as usize]
    };
    let payload = metrics.payload_bytes - before.payload_bytes;
    assert!(written(WriteCause::Segment) >= payload);
    assert!(written(WriteCause::Segment) < payload + 61 * 4096);
    assert!(written(WriteCause::Journal) <= 61 * 4096, "{}", written(WriteCause::Journal));
    let before = written(WriteCause::Segment);
    check(&node, "t", large, 60);
    let engine = std::rc::Rc::clone(&node.engine);
    machine.stop(node);
    let after = engine.metrics().written_bytes[WriteCause::Segment as usize];
    assert_eq!(after, before, "the checkpoint writes nothing of it again");
    drop(engine);
    let node = machine.start();
    check(&node, "t", large, 60);
    assert_eq!(node.engine.metrics().history_faults, 0);
}

#[test]
fn large_batches_are_there_after_a_power_cut_and_go_to_new_segments_then() {
    let machine = machine(61);
    let mut node = machine.start();
    node.create_topic("t", 1);
    let mut sent = 0;
    for life in 0..4 {
        for _ in 0..10 {
            assert_eq!(node.produce("t", 0, &value(sent)), sent as i64, "life {life}");
            sent += 1;
        }
        machine.power_cut(node);
        node = machine.start();
        check(&node, "t", value, sent);
    }
    machine.stop(node);
    let node = machine.start();
    check(&node, "t", value, sent);
    machine.stop(node);
    // What was recovered is in the segments of the checkpoint; the first copies are gone.
    let names = segments(&machine);
    let node = machine.start();
    let known = node.engine.segments.with_table(|table| table.len());
    assert_eq!(names.len(), known, "{names:?}");
}

#[test]
fn large_and_small_batches_stay_in_order_over_checkpoints() {
    let mut machine = machine(62);
    machine.storage.tail_bytes = 100_000;
    let node = machine.start();
    node.create_topic("t", 1);
    let is_large = |index: usize| (index / 20).is_multiple_of(2);
    let wanted = |index| if is_large(index) { large(index) } else { value(index) };
    for index in 0..200 {
        node.produce("t", 0, &wanted(index));
        if index % 50 == 49 {
            machine.run_for_ms(500);
        }
    }
    check(&node, "t", wanted, 200);
    let metrics = node.engine.metrics();
    assert!(metrics.checkpoints > 3, "{}", metrics.checkpoints);
    machine.power_cut(node);
    let node = machine.start();
    check(&node, "t", wanted, 200);
    machine.stop(node);
    let node = machine.start();
    check(&node, "t", wanted, 200);
    assert_eq!(node.engine.metrics().history_faults, 0);
}

#[test]
fn an_acknowledged_batch_is_there_whenever_the_power_goes() {
    for cut_after in 0..260 {
        let mut machine = machine(63);
        machine.storage.tail_bytes = 70_000;
        let node = machine.start();
        node.create_topic("t", 1);
        let mut waiting = BTreeMap::new();
        for index in 0..8 {
            waiting.insert(node.send_value("t", 0, &value(index)), index);
            for _ in 0..(cut_after * 7 + index * 13) % 11 {
                machine.executor.step();
            }
        }
        for _ in 0..cut_after {
            machine.executor.step();
        }
        let mut acknowledged = BTreeMap::new();
        for (id, index) in waiting {
            if let Some(answer) = node.produced(id) {
                assert_eq!(answer.error_code, 0);
                acknowledged.insert(answer.base_offset, value(index));
            }
        }
        machine.power_cut(node);
        let node = machine.start();
        let found = node.read("t", 0);
        for (offset, text) in acknowledged {
            assert!(found.get(&offset) == Some(&text), "cut {cut_after}: {offset} is gone");
        }
        let next = found.len() as i64;
        assert_eq!(node.produce("t", 0, "next"), next, "cut {cut_after}");
    }
}

#[test]
fn a_batch_that_the_device_forgot_is_lost_alone_and_never_served() {
    let machine = machine(64);
    let node = machine.start();
    node.create_topic("bad", 1);
    node.create_topic("good", 1);
    for index in 0..6 {
        node.produce("bad", 0, &large(index));
        node.produce("good", 0, &large(index));
    }
    let dir = crate::segments::format::partition_dir(node.key("bad", 0));
    machine.power_cut(node);
    let path = segments(&machine).into_iter().find(|path| path.contains(&dir)).expect("its file");
    // The third: the header's block, then eight blocks each.
    assert!(machine.disk.corrupt(&path, 4096 + 2 * 8 * 4096 + 500));
    let node = machine.start();
    check(&node, "good", large, 6);
    let report = node.engine.metrics().recovery;
    assert_eq!(report.damaged_entries, 1);
    let lost: Vec<_> = report.lost_ranges.iter().map(|lost| (lost.from, lost.upto)).collect();
    assert_eq!(lost, [(2, 3)]);
    assert_eq!(node.produce("bad", 0, "next"), 6);
}

#[test]
fn where_the_device_takes_no_more_large_batches_go_by_the_journal() {
    let machine = machine(65);
    let node = machine.start();
    node.create_topic("t", 1);
    for index in 0..4 {
        node.produce("t", 0, &large(index));
    }
    let used: u64 = machine
        .disk
        .files()
        .iter()
        .map(|path| machine.disk.content(path).map_or(0, |bytes| bytes.len() as u64))
        .sum();
    machine.disk.set_capacity_bytes(Some(used + 10_000));
    for index in 4..12 {
        assert_eq!(node.produce("t", 0, &large(index)), index as i64, "acknowledged all the same");
    }
    check(&node, "t", large, 12);
    machine.disk.set_capacity_bytes(None);
    machine.power_cut(node);
    let node = machine.start();
    check(&node, "t", large, 12);
    machine.stop(node);
    check(&machine.start(), "t", large, 12);
}

#[test]
fn a_topic_that_is_deleted_under_its_large_batches_holds_nothing_up() {
    use millpond_wire::messages::delete_topics_request::DeleteTopicState;
    use millpond_wire::messages::{DeleteTopicsRequest, Request};
    for steps in 0..40 {
        let mut machine = machine(66);
        machine.storage.tail_bytes = 60_000;
        let node = machine.start();
        node.create_topic("gone", 1);
        node.create_topic("kept", 1);
        for index in 0..4 {
            node.send_value("gone", 0, &large(index));
            node.send_value("kept", 0, &large(index));
        }
        for _ in 0..steps * 3 {
            machine.executor.step();
        }
        let delete = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some("gone".to_owned()), ..Default::default() }],
            topic_names: vec!["gone".to_owned()],
            ..DeleteTopicsRequest::default()
        };
        node.send(Request::DeleteTopics(delete), 5);
        for index in 4..8 {
            assert_eq!(node.produce("kept", 0, &large(index)), index as i64, "steps {steps}");
        }
        machine.run_for_ms(2_000);
        check(&node, "kept", large, 8);
        machine.power_cut(node);
        check(&machine.start(), "kept", large, 8);
    }
}
