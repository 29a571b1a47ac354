//! History on flash through the real binary: packed records read by clients that have none of the
//! codecs it is packed with, and `millpond log` on a directory that is sound and on one that is not.
//! Never looks into the bytes of a segment but to damage them.

use std::path::{Path, PathBuf};

use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::clients;
use millpond_tests::kafka::Kafka;

const RECORDS: usize = 2000;

/// A broker started again after it was stopped: [`RECORDS`] records that came one by one to topic
/// `history`, partition 0, and a few to `other`, are in segments only.
fn broker_with_history() -> Broker {
    let mut broker = Broker::start();
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).expect("a connection");
    kafka.create_topic("history", 1).expect("a topic");
    for index in 0..RECORDS {
        let value = format!("reading {index}");
        kafka.produce("history", 0, &[value.as_bytes()]).expect("an acknowledgement");
    }
    kafka.produce_new_topic("other", b"sound").expect("an acknowledgement");
    assert!(broker.stop().success(), "a stop writes what is in memory to segments");
    broker.restart();
    broker
}

fn segments_of(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.extension() {
                _ if path.is_dir() => dirs.push(path),
                Some(extension) if extension == "seg" => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// The largest segment: that of `history`.
fn largest_segment(broker: &Broker) -> PathBuf {
    let len = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let segments = segments_of(&broker.data_dir().join("topics"));
    segments.into_iter().max_by_key(len).expect("a segment")
}

/// Clients without any of the codecs that a package brings.
const BARE: &str = r#"
import sys
for codec in ("zstandard", "lz4", "lz4.frame", "snappy", "cramjam"):
    sys.modules[codec] = None
from kafka import KafkaConsumer
consumer = KafkaConsumer("history", bootstrap_servers=BROKER,
                         auto_offset_reset="earliest", consumer_timeout_ms=20000)
seen = [next(consumer) for _ in range(2000)]
assert [m.offset for m in seen] == list(range(2000)), "offsets"
assert [m.value for m in seen] == [b"reading %d" % i for i in range(2000)], "values"
print("all", len(seen))
"#;

#[test]
fn a_bare_kafka_python_and_kafkajs_read_packed_history() {
    let broker = broker_with_history();
    let stored = std::fs::metadata(largest_segment(&broker)).expect("a segment").len();
    assert!(stored < 40_000, "2,000 batches of 73 bytes were packed, into {stored} bytes");
    let code = format!("BROKER = \"{}\"\n{BARE}", broker.bootstrap());
    assert!(clients::python_code(&broker, &code).contains("all 2000"));
    clients::kafkajs(&broker, "packed_history");
}

#[test]
fn the_log_commands_find_a_sound_directory_sound_and_show_its_records() {
    let mut broker = broker_with_history();
    assert!(broker.stop().success());
    let dir = broker.data_dir().display().to_string();
    broker.cli(&["log", "verify", "--data-dir", &dir]).expect_success();
    let records = ["log", "dump", "--records", "--topic", "history", "--partition", "0"];
    let some = ["--from-offset", "1000", "--limit", "3", "--data-dir", &dir];
    let shown = broker.cli(&[&records[..], &some[..]].concat()).expect_success();
    for wanted in ["reading 1000", "reading 1002"] {
        assert!(shown.contains(wanted), "no {wanted:?} in\n{shown}");
    }
    assert!(!shown.contains("reading 1003"), "more than asked for:\n{shown}");
}

#[test]
fn damage_is_named_contained_and_repaired() {
    let mut broker = broker_with_history();
    assert!(broker.stop().success());
    let path = largest_segment(&broker);
    let mut bytes = std::fs::read(&path).expect("a segment");
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 64] {
        *byte ^= 0x55;
    }
    std::fs::write(&path, bytes).expect("a segment");
    let dir = broker.data_dir().display().to_string();
    let said = broker.cli(&["log", "verify", "--data-dir", &dir]).expect_failure();
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(said.contains(&name) && said.contains("history"), "what is damaged?\n{said}");

    // The rest of the node runs on, and what is damaged is an error, not something else.
    broker.restart();
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).expect("a connection");
    assert_eq!(kafka.read("other", 0, 0).expect("records").len(), 1);
    assert!(kafka.read("history", 0, 0).is_err(), "damage was passed over");
    kafka.produce("history", 0, &[b"goes on"]).expect("an acknowledgement");
    assert!(broker.stop().success());

    broker.cli(&["log", "repair", "--yes", "--data-dir", &dir]).expect_success();
    broker.cli(&["log", "verify", "--data-dir", &dir]).expect_success();
    broker.restart();
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).expect("a connection");
    let end = kafka.list_offset("history", 0, -1).expect("an end");
    assert_eq!(end, RECORDS as i64 + 1, "no offset is given out twice");
    let last = kafka.read("history", 0, end - 1).expect("the last record");
    assert_eq!(last.len(), 1);
}

#[test]
fn a_directory_in_use_is_not_looked_into() {
    let broker = Broker::start();
    let dir = broker.data_dir().display().to_string();
    let outcome = broker.cli(&["log", "verify", "--data-dir", &dir]);
    assert_eq!(outcome.status.and_then(|status| status.code()), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("in use"), "{outcome}");
}
