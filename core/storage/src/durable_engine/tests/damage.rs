//! A node whose journal was damaged at rest: it starts, one partition says what it lost, everything
//! else is there, and so it stays.

use millpond_engine::LostRange;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits::BATCH_RECORDS_MAX;

use super::crashes::delete_topic;
use super::rig::{Machine, Node, values_of};

const LOST: i16 = ErrorCode::KafkaStorageError.code();

/// Where these bytes stand in the journal.
fn find(machine: &Machine, bytes: &[u8]) -> (String, u64) {
    let journal = machine.disk.files().into_iter().filter(|path| path.starts_with("journal/"));
    for path in journal {
        let content = machine.disk.content(&path).expect("a file");
        if let Some(at) = content.windows(bytes.len()).position(|found| found == bytes) {
            return (path, at as u64);
        }
    }
    panic!("it is not in the journal");
}

/// Flips so many bits of an entry, in as many bytes.
fn damage(machine: &Machine, value: &str, bits: u64) {
    let (path, at) = find(machine, value.as_bytes());
    for bit in 0..bits {
        assert!(machine.disk.corrupt(&path, at + 2 * bit));
    }
}

fn ranges(node: &Node) -> Vec<(i32, i64, i64)> {
    let range = |lost: &LostRange| (lost.partition.partition, lost.from, lost.upto);
    node.engine.metrics().recovery.lost_ranges.iter().map(range).collect()
}

/// A sealed journal with the values `p<partition>-<index>` and no checkpoint after them.
fn machine(seed: u64) -> Machine {
    let machine = Machine::new(seed);
    let node = machine.start();
    node.create_topic("t", 3);
    for index in 0..5 {
        for partition in 0..3 {
            node.produce("t", partition, &format!("p{partition}-{index}"));
        }
    }
    machine.run_for_ms(10_000);
    machine.power_cut(node);
    machine
}

fn values(node: &Node, partition: i32) -> Vec<String> {
    node.read("t", partition).into_values().collect()
}

#[test]
fn a_flipped_bit_in_the_journal_costs_nothing_and_is_told() {
    let machine = machine(1);
    damage(&machine, "p1-2", 1);
    let node = machine.start();
    for partition in 0..3 {
        let wanted: Vec<_> = (0..5).map(|index| format!("p{partition}-{index}")).collect();
        assert_eq!(values(&node, partition), wanted);
    }
    let report = node.engine.metrics().recovery;
    assert_eq!((report.corrected_bits, report.damaged_entries), (1, 0));
}

#[test]
fn damage_to_one_partition_takes_its_record_and_nothing_else() {
    let machine = machine(2);
    damage(&machine, "p1-2", 2);
    let mut node = machine.start();
    assert_eq!(node.engine.metrics().recovery.damaged_entries, 1);
    // As found, after the checkpoint that a stop takes, and from segments.
    for _ in 0..3 {
        assert_eq!(ranges(&node), [(1, 2, 3)]);
        assert_eq!((values(&node, 0).len(), values(&node, 2).len()), (5, 5));
        let before = values_of(&node.fetch("t", 1, 0));
        assert_eq!(before, [(0, "p1-0".to_owned()), (1, "p1-1".to_owned())]);
        assert_eq!(node.fetch("t", 1, 2).error_code, LOST);
        let behind = values_of(&node.fetch("t", 1, 3));
        assert_eq!(behind[..2], [(3, "p1-3".to_owned()), (4, "p1-4".to_owned())]);
        node.produce("t", 1, "more");
        machine.stop(node);
        node = machine.start();
    }
    assert_eq!(node.engine.metrics().recovery.damaged_entries, 0, "the journal moved on");
    assert_eq!(node.produce("t", 1, "more"), 8);
}

#[test]
fn a_lost_last_record_never_gives_its_offset_to_another() {
    let machine = machine(3);
    damage(&machine, "p2-4", 2);
    let node = machine.start();
    let [(2, 4, upto)] = ranges(&node)[..] else { panic!("{:?}", ranges(&node)) };
    assert!(upto >= 4 + BATCH_RECORDS_MAX as i64);
    assert_eq!(node.produce("t", 2, "next"), upto);
    // The damage is met again, and the decision about it.
    machine.power_cut(node);
    let node = machine.start();
    assert_eq!(ranges(&node), [(2, 4, upto)]);
    assert_eq!(node.produce("t", 2, "again"), upto + 1);
    let found: Vec<_> = values_of(&node.fetch("t", 2, upto));
    assert_eq!(found, [(upto, "next".to_owned()), (upto + 1, "again".to_owned())]);
    machine.power_cut(node);
    let node = machine.start();
    assert_eq!(node.fetch("t", 2, 4).error_code, LOST);
    assert_eq!(node.fetch("t", 2, upto).error_code, 0);
}

#[test]
fn damage_to_what_concerns_the_node_is_refused_and_changes_nothing() {
    let machine = Machine::new(4);
    let node = machine.start();
    node.create_topic("a-topic-with-a-name", 3);
    node.produce("a-topic-with-a-name", 0, "value");
    machine.run_for_ms(10_000);
    machine.power_cut(node);
    damage(&machine, "a-topic-with-a-name", 2);
    for _ in 0..2 {
        let error = machine.try_start().map(|_| ()).expect_err("refused").to_string();
        assert!(error.contains("journal/000.mpj") && error.contains("log repair"), "{error}");
    }
}

#[test]
fn a_topic_whose_damaged_partition_was_deleted_later_leaves_nothing_behind() {
    let machine = Machine::new(5);
    let node = machine.start();
    node.create_topic("t", 1);
    node.create_topic("u", 1);
    node.produce("t", 0, "a value of t");
    node.produce("u", 0, "a value of u");
    node.call(delete_topic("t"), 5);
    machine.run_for_ms(10_000);
    machine.power_cut(node);
    damage(&machine, "a value of t", 2);
    let node = machine.start();
    assert_eq!(ranges(&node), []);
    assert_eq!(node.read("u", 0).into_values().collect::<Vec<_>>(), ["a value of u"]);
}
