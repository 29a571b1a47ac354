//! Data directories of every version of the formats, kept in `core/storage/fixtures`, opened by
//! today's code: every record, committed offset, producer and transform must be there. A fixture
//! is never changed once a release wrote its version; `fixtures/README.md` says how one is made.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use millpond_engine::transform::{AdminRequest, TransformSpec};
use millpond_engine::{AdminId, Event};
use millpond_wire::limits::KIB;
use millpond_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, OffsetCommitRequest, Request,
    Response,
};
use millpond_wire::record::{BatchBuilder, Codec, Header, LogBatch};

use super::fixture_kafka;
use super::fixture_transforms;
use super::rig::{Machine, Node, produce_request};
use crate::disk::{AlignedBuf, Disk, DiskFile, OpenMode, parent_of};
use crate::fields::crc;

/// What the directory holds, in words; beside its files.
const EXPECTED: &str = "expected.txt";
/// Set to a directory: the story of today's code is written there.
const WRITE_TO: &str = "MILLPOND_FIXTURE_DIR";
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// What an idempotent producer sent last.
struct LastBatch {
    topic: &'static str,
    partition: i32,
    id: i64,
    epoch: i16,
    sequence: i32,
    value: String,
    offset: i64,
}

/// A small ring, so that a short story goes round it.
fn machine() -> Machine {
    let mut machine = Machine::new(0xF1C5);
    machine.storage.journal_file_bytes = 44 * KIB;
    machine.storage.tail_bytes = 16 * KIB;
    machine.storage.segment_bytes = 8 * KIB;
    machine
}

fn builder(codec: Codec, producer: Option<(i64, i16, i32)>) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec, None);
    if let Some((id, epoch, sequence)) = producer {
        builder.set_producer(id, epoch, sequence);
    }
    builder
}

fn single(value: &str, producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = builder(Codec::None, producer);
    builder.push(1_700_000_000_123, None, Some(value.as_bytes()), &[]).expect("a record");
    builder.build().expect("a batch")
}

/// Keys, headers, nulls and timestamps that go back, in every codec.
fn mixed(codec: Codec, round: i64) -> Bytes {
    let mut builder = builder(codec, None);
    for index in 0..6_i64 {
        let key = format!("device-{index}");
        let value = format!("{{\"round\":{round},\"index\":{index},\"codec\":\"{codec}\"}}");
        let header = Header { key: b"site", value: Some(b"north") };
        let value = (index != 3).then_some(value.as_bytes());
        let headers = if index % 2 == 0 { &[header][..] } else { &[] };
        let timestamp = 1_700_000_000_000 + round * 1_000 - index * 7;
        builder.push(timestamp, Some(key.as_bytes()), value, headers).expect("a record");
    }
    builder.build().expect("a batch")
}

fn send(node: &Node, topic: &str, partition: i32, batch: Bytes) -> i64 {
    match node.call(produce_request(topic, partition, batch), 9) {
        Response::Produce(response) => {
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, 0, "{topic}/{partition}: {answer:?}");
            answer.base_offset
        }
        other => panic!("{other:?}"),
    }
}

fn create(node: &Node, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
    };
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    match node.call(Request::CreateTopics(request), 5) {
        Response::CreateTopics(response) => assert_eq!(response.topics[0].error_code, 0, "{name}"),
        other => panic!("{other:?}"),
    }
}

fn commit(node: &Node, group: &str, topic: &str, offsets: &[i64]) {
    let part = |(index, offset): (usize, &i64)| OffsetCommitRequestPartition {
        partition_index: index as i32,
        committed_offset: *offset,
        committed_leader_epoch: 1,
        committed_metadata: Some(format!("{group} at {offset}")),
    };
    let partitions = offsets.iter().enumerate().map(part).collect();
    let request = OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions,
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let Response::OffsetCommit(response) = node.call(Request::OffsetCommit(request), 8) else {
        panic!("no answer to a commit");
    };
    assert!(response.topics[0].partitions.iter().all(|part| part.error_code == 0));
}

fn deploy(machine: &Machine, node: &Node, name: &str, is_paused: bool) {
    let spec = TransformSpec {
        name: name.to_owned(),
        version: "1.2.0".to_owned(),
        module: [7; 32],
        settings: [("unit".to_owned(), "kelvin".to_owned())].into(),
        topics: vec!["shaped".to_owned()],
        dead_letter_topic: Some("dead".to_owned()),
        order: 3,
        ..TransformSpec::default()
    };
    let deployed = AdminRequest::DeployTransform(spec);
    node.engine.submit(Event::Admin { id: AdminId(1), request: deployed });
    let paused = AdminRequest::PauseTransform { name: name.to_owned(), paused: is_paused };
    node.engine.submit(Event::Admin { id: AdminId(2), request: paused });
    machine.run_for_ms(50);
}

/// One round of everything that a node is asked to keep.
fn live_round(node: &Node, round: i64, last: &mut Vec<LastBatch>) {
    for (partition, codec) in CODECS.into_iter().enumerate() {
        send(node, "plain", partition as i32 % 3, mixed(codec, round));
    }
    let bulk = format!("{round:0>5000}");
    send(node, "bulk", 0, single(&bulk, None));
    send(node, "stamped", 0, mixed(Codec::Lz4, round));
    last.clear();
    for (id, epoch) in [(1_000, 0), (1_001, 2)] {
        for partition in 0..2 {
            let sequence = round as i32;
            let value = format!("{id} sends {round} to {partition}");
            let batch = single(&value, Some((id, epoch, sequence)));
            let offset = send(node, "sensors", partition, batch);
            let topic = "sensors";
            last.push(LastBatch { topic, partition, id, epoch, sequence, value, offset });
        }
    }
    commit(node, "readers", "plain", &[round, 2 * round, 3 * round]);
}

/// The life that a fixture holds: checkpoints, segments, a lap of the ring, and a journal that
/// knows more than the last checkpoint.
fn live(machine: &Machine) -> (Node, Vec<LastBatch>) {
    let node = machine.start();
    create(&node, "plain", 3, &[]);
    create(&node, "bulk", 1, &[("max.message.bytes", "9000"), ("retention.ms", "-1")]);
    create(&node, "stamped", 1, &[("message.timestamp.type", "LogAppendTime")]);
    create(&node, "sensors", 2, &[]);
    create(&node, "gone", 2, &[]);
    create(&node, "ledger", 2, &[]);
    fixture_kafka::live(&node);
    for (topic, partitions) in fixture_transforms::TOPICS {
        create(&node, topic, partitions, &[]);
        for partition in 0..partitions {
            send(&node, topic, partition, mixed(Codec::None, 1));
        }
    }
    fixture_transforms::live(machine, &node);
    // What is made of these comes late.
    send(&node, "pressure", 0, mixed(Codec::Lz4, 2));
    send(&node, "gone", 1, mixed(Codec::None, 0));
    deploy(machine, &node, "shape", false);
    let init = InitProducerIdRequest { transaction_timeout_ms: 60_000, ..Default::default() };
    node.call(Request::InitProducerId(init), 4);
    commit(&node, "stopped", "bulk", &[1]);
    let mut last = Vec::new();
    for round in 0..6 {
        live_round(&node, round, &mut last);
        machine.run_for_ms(50);
    }
    assert!(node.engine.metrics().checkpoints >= 3, "the story has checkpoints");
    let checkpoints = node.engine.metrics().checkpoints + 1;
    while node.engine.metrics().checkpoints < checkpoints {
        send(&node, "plain", 2, mixed(Codec::None, 98));
        machine.run_for_ms(50);
    }
    // What retention lets go of then takes another checkpoint.
    machine.run_for_ms(30_000);
    let checkpoints = node.engine.metrics().checkpoints;
    // From here on only the journal knows.
    let gone = DeleteTopicsRequest {
        topic_names: vec!["gone".to_owned()],
        ..DeleteTopicsRequest::default()
    };
    node.call(Request::DeleteTopics(gone), 5);
    create(&node, "late", 1, &[]);
    send(&node, "late", 0, mixed(Codec::Zstd, 99));
    deploy(machine, &node, "late-shape", true);
    // Each takes a block of a small journal: no more than fit behind the last checkpoint.
    send(&node, "bulk", 0, single(&"z".repeat(2_000), None));
    for last in &mut last {
        last.sequence += 1;
        last.value = format!("{} sends late", last.id);
        let producer = Some((last.id, last.epoch, last.sequence));
        last.offset = send(&node, last.topic, last.partition, single(&last.value, producer));
    }
    commit(&node, "late-readers", "late", &[4]);
    fixture_transforms::live_late(machine, &node);
    // The journal seals what it holds.
    machine.run_for_ms(10_000);
    assert_eq!(node.engine.metrics().checkpoints, checkpoints, "the journal is not empty");
    (node, last)
}

fn text(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some(long) if long.len() > 200 => format!("{} bytes, crc {}", long.len(), crc(long)),
        Some(short) => String::from_utf8_lossy(short).into_owned(),
    }
}

fn dump_partition(node: &Node, topic: &str, partition: i32, lines: &mut Vec<String>) {
    let mut at = 0;
    loop {
        let data = node.fetch(topic, partition, at);
        assert_eq!(data.error_code, 0, "fetch of {topic}/{partition} at {at}");
        let bytes = data.records.as_ref().map(|records| records.to_bytes()).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        for log_batch in LogBatch::split(bytes, 10_000).expect("whole batches") {
            at = log_batch.next_offset();
            let batch = log_batch.to_batch().expect("a batch");
            let section = batch.decompress(1 << 20).expect("records");
            for record in batch.records(&section) {
                let record = record.expect("a record");
                let offset = log_batch.base_offset() + i64::from(record.offset_delta);
                let (key, value) = (text(record.key), text(record.value));
                let headers: Vec<String> = record
                    .headers
                    .clone()
                    .map(|header| format!("{}={}", text(Some(header.key)), text(header.value)))
                    .collect();
                let (time, headers) = (record.timestamp, headers.join(","));
                lines.push(format!(
                    "record\t{topic}\t{partition}\t{offset}\t{time}\t{key}\t{value}\t{headers}"
                ));
            }
        }
    }
}

/// Everything that a node answers about itself, one line each.
fn dump(node: &Node) -> Vec<String> {
    let topics = node.engine.with_engine(|engine| {
        let topic = |topic: &millpond_engine::Topic| {
            let ends = topic.partitions.iter().map(|log| (log.log_start(), log.log_end()));
            (topic.name.clone(), topic.configs.clone(), ends.collect::<Vec<_>>())
        };
        engine.topics().map(topic).collect::<Vec<_>>()
    });
    let mut lines = fixture_kafka::dump(node);
    lines.extend(fixture_transforms::dump(node));
    for (name, configs, ends) in &topics {
        lines.push(format!("topic\t{name}\t{configs:?}"));
        for (partition, (start, end)) in ends.iter().enumerate() {
            lines.push(format!("log\t{name}\t{partition}\t{start}\t{end}"));
            dump_partition(node, name, partition as i32, &mut lines);
        }
    }
    node.engine.with_engine(|engine| {
        for (group, offsets) in engine.offsets().iter() {
            for (key, offset) in &offsets.offsets {
                let topic = engine.catalog().by_id(key.topic_id).expect("its topic");
                let metadata = offset.metadata.as_deref().unwrap_or("null");
                let (epoch, value) = (offset.leader_epoch, offset.offset);
                let (name, partition) = (&topic.name, key.partition);
                lines.push(format!(
                    "group\t{group}\t{name}\t{partition}\t{value}\t{epoch}\t{metadata}"
                ));
            }
        }
        for deployment in engine.transforms() {
            let (id, paused, spec) = (deployment.id, deployment.paused, deployment.spec);
            let (name, version, topics) = (spec.name, spec.version, spec.topics);
            let (settings, dead, order) = (spec.settings, spec.dead_letter_topic, spec.order);
            lines.push(format!(
                "transform\t{id}\t{name}\t{version}\t{paused}\t{topics:?}\t{settings:?}\t{dead:?}\t{order}"
            ));
        }
    });
    lines.sort();
    lines
}

fn line_of(last: &LastBatch) -> String {
    let LastBatch { topic, partition, id, epoch, sequence, value, offset } = last;
    format!("producer\t{topic}\t{partition}\t{id}\t{epoch}\t{sequence}\t{value}\t{offset}")
}

fn copy_into(machine: &Machine, path: String, content: Vec<u8>) {
    let disk = machine.disk.clone();
    let copied = machine.executor.block_on(async move {
        disk.create_dir_all(parent_of(&path)).await?;
        let file = disk.open(&path, OpenMode::CREATE).await?;
        let (result, _) = file.write_at(0, AlignedBuf::copied_from(&content, 4096)).await;
        result?;
        file.sync().await
    });
    copied.expect("a copy of a fixture");
}

/// The duplicate of the last batch is known, and the batch after it continues.
fn check_producer(node: &Node, line: &str) {
    let fields: Vec<&str> = line.split('\t').collect();
    let [_, topic, partition, id, epoch, sequence, value, offset] = fields[..] else {
        panic!("{line}");
    };
    let number = |text: &str| text.parse::<i64>().expect("a number");
    let partition = number(partition) as i32;
    let (id, epoch, sequence) = (number(id), number(epoch) as i16, number(sequence) as i32);
    let again = send(node, topic, partition, single(value, Some((id, epoch, sequence))));
    assert_eq!(again, number(offset), "a duplicate gets the answer of the original: {line}");
    let end = node.engine.with_engine(|engine| {
        let log = &engine.catalog().by_name(topic).expect("a topic").partitions;
        log[partition as usize].log_end()
    });
    let next = send(node, topic, partition, single("next", Some((id, epoch, sequence + 1))));
    assert_eq!(next, end, "the producer goes on: {line}");
}

/// A node on a copy of these files knows all that `expected` says, and lives on.
fn check(name: &str, files: Vec<(String, Vec<u8>)>, expected: &str) {
    let machine = machine();
    for (path, content) in files {
        copy_into(&machine, path, content);
    }
    let mut node =
        machine.try_start().unwrap_or_else(|error| panic!("{name} does not open: {error}"));
    let known: Vec<&str> = expected.lines().filter(|line| !line.starts_with("producer")).collect();
    assert!(known.len() > 100, "{name}: a fixture without content proves nothing");
    // Once as it was found, once from a checkpoint that today's code wrote.
    for _ in 0..2 {
        let found = dump(&node);
        for (found, known) in found.iter().zip(&known) {
            assert_eq!(found, known, "{name}");
        }
        assert_eq!(found.len(), known.len(), "{name}");
        machine.stop(node);
        node = machine.start();
    }
    let producers = expected.lines().filter(|line| line.starts_with("producer"));
    for line in producers {
        check_producer(&node, line);
    }
}

fn files_under(root: &Path, dir: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("a name").path();
        if path.is_dir() {
            files_under(root, &path, files);
        } else if !path.ends_with(EXPECTED) {
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            files.push((name, std::fs::read(&path).expect("a file")));
        }
    }
}

#[test]
fn data_directories_of_every_version_open_with_all_that_they_held() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut versions: Vec<PathBuf> = std::fs::read_dir(fixtures)
        .expect("fixtures")
        .map(|entry| entry.expect("a name").path())
        .filter(|path| path.is_dir())
        .collect();
    versions.sort();
    assert!(!versions.is_empty());
    for dir in versions {
        let expected = std::fs::read_to_string(dir.join(EXPECTED)).expect("what it holds");
        let mut files = Vec::new();
        files_under(&dir, &dir, &mut files);
        check(&dir.display().to_string(), files, &expected);
    }
}

/// Also the generator: see `fixtures/README.md`.
#[test]
fn a_data_directory_of_today_opens_with_all_that_it_held() {
    let machine = machine();
    let (node, last) = live(&machine);
    let mut expected = dump(&node);
    expected.extend(last.iter().map(line_of));
    let expected = expected.join("\n") + "\n";
    machine.power_cut(node);
    let content = |path: String| {
        let content = machine.disk.content(&path).expect("a file");
        (path, content)
    };
    let files: Vec<_> = machine.disk.files().into_iter().map(content).collect();
    if let Some(root) = std::env::var_os(WRITE_TO).map(PathBuf::from) {
        for (path, content) in &files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(path, content).expect("a file");
        }
        std::fs::write(root.join(EXPECTED), &expected).expect("a file");
    }
    check("today's", files, &expected);
}
