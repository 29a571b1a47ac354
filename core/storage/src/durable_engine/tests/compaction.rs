//! Compacted topics: the newest value of each key stays, whatever happens while the log is written
//! anew.

use std::collections::BTreeMap;

use millpond_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millpond_wire::messages::{ListOffsetsRequest, Request, Response};
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};

use super::rig::{Machine, Node, produce_request};
use crate::WriteCause;

const WALL_MS: i64 = 1_700_000_000_000;
const MINUTE_MS: u64 = 60_000;
/// Long enough for rounds, and for the checkpoint that brings their segments into force.
const QUIET_MS: u64 = 14 * MINUTE_MS;

type Model = BTreeMap<String, Option<String>>;

/// A node with a compacted topic `t`, and what was written to it.
struct Story {
    machine: Machine,
    node: Option<Node>,
    model: Model,
    /// All records, by offset.
    written: Vec<(String, Option<String>)>,
    /// Added to the time of records.
    later_ms: i64,
}

impl Story {
    fn new(seed: u64, configs: &[(&str, &str)]) -> Story {
        Story::on(Machine::new(seed), configs)
    }

    fn on(mut machine: Machine, configs: &[(&str, &str)]) -> Story {
        machine.storage.tail_bytes = 4 * 1024;
        let node = machine.start();
        let mut configs = configs.to_vec();
        if !configs.iter().any(|(name, _)| *name == "cleanup.policy") {
            configs.push(("cleanup.policy", "compact"));
        }
        node.create_topic_with("t", &configs);
        Story { machine, node: Some(node), model: Model::new(), written: Vec::new(), later_ms: 0 }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("a node that runs")
    }

    fn put(&mut self, key: &str, value: Option<&str>) {
        let mut builder = BatchBuilder::new(Codec::None, None);
        let time = WALL_MS + self.later_ms + self.written.len() as i64;
        let pushed = builder.push(time, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
        pushed.expect("a small record");
        let batch = builder.build().expect("a small batch");
        match self.node().call(produce_request("t", 0, batch), 9) {
            Response::Produce(response) => {
                let answer = &response.responses[0].partition_responses[0];
                assert_eq!((answer.error_code, answer.base_offset), (0, self.written.len() as i64));
            }
            other => panic!("{other:?}"),
        }
        self.model.insert(key.to_owned(), value.map(str::to_owned));
        self.written.push((key.to_owned(), value.map(str::to_owned)));
    }

    /// `count` values of 100 bytes for these many keys in turn.
    fn fill(&mut self, count: usize, keys: usize) {
        for index in 0..count {
            let value = format!("{:0>100}", self.written.len());
            self.put(&format!("key-{}", index % keys), Some(&value));
        }
    }

    /// So much that all before it goes to segments.
    fn flush(&mut self) {
        for index in 0..60 {
            self.put("other", Some(&format!("{index:0>100}")));
        }
    }

    /// All records that are there: each one that was written at its offset.
    fn read(&self) -> BTreeMap<i64, (String, Option<String>)> {
        self.read_from(0)
    }

    fn read_from(&self, mut at: i64) -> BTreeMap<i64, (String, Option<String>)> {
        let mut found = BTreeMap::new();
        loop {
            let data = self.node().fetch("t", 0, at);
            assert_eq!(data.error_code, 0, "fetch at {at}");
            assert_eq!(data.high_watermark, self.written.len() as i64);
            let bytes = data.records.as_ref().map(|records| records.to_bytes()).unwrap_or_default();
            let before = at;
            for batch in LogBatch::split(bytes, 10_000).expect("whole batches") {
                at = at.max(batch.next_offset());
                for (offset, record) in records(&batch) {
                    if offset >= before {
                        assert_eq!(self.written.get(offset as usize), Some(&record), "{offset}");
                        found.insert(offset, record);
                    }
                }
            }
            if at == data.high_watermark {
                return found;
            }
            assert!(at > before, "stuck at {at}");
        }
    }

    /// What a consumer knows that read everything.
    fn latest(&self) -> Model {
        self.read().into_values().collect()
    }

    fn check(&self) {
        let latest = self.latest();
        for (key, value) in &self.model {
            // A tombstone may be gone, with all that it deletes.
            assert_eq!(latest.get(key).cloned().flatten(), *value, "{key}");
        }
    }

    fn restart(&mut self) {
        let node = self.node.take().expect("a node");
        self.machine.stop(node);
        self.node = Some(self.machine.start());
    }

    fn power_cut(&mut self) {
        let node = self.node.take().expect("a node");
        self.machine.power_cut(node);
        self.node = Some(self.machine.start());
    }

    fn rounds(&self) -> u64 {
        self.node().engine.metrics().compaction.rounds
    }

    fn segments(&self) -> Vec<String> {
        let files = self.machine.disk.files().into_iter();
        files.filter(|path| path.ends_with(".seg")).collect()
    }

    /// Whether a round's segments are in force, and what they replaced is gone.
    fn is_exchanged(&self) -> bool {
        let key = self.node().key("t", 0);
        let segments = &self.node().engine.segments;
        let is_clean = segments.with_table(|table| table.of(key).iter().any(|meta| meta.is_clean));
        let names = segments.with_table(|table| table.of(key).len());
        is_clean && self.segments().len() == names
    }
}

fn records(batch: &LogBatch) -> Vec<(i64, (String, Option<String>))> {
    let base = batch.base_offset();
    let batch = batch.to_batch().expect("a batch");
    let section = batch.decompress(1 << 20).expect("records");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let records = batch.records(&section).map(|record| record.expect("a record"));
    let one = |record: millpond_wire::record::Record<'_>| {
        let key = text(record.key.expect("a key"));
        (base + i64::from(record.offset_delta), (key, record.value.map(text)))
    };
    records.map(one).collect()
}

#[test]
fn of_each_key_the_newest_value_stays_and_survives() {
    let mut story = Story::new(50, &[]);
    story.fill(400, 10);
    story.machine.run_for_ms(QUIET_MS);
    assert!(story.rounds() >= 1);
    let metrics = story.node().engine.metrics();
    assert!(metrics.compaction.superseded_records > 300, "{:?}", metrics.compaction);
    assert!(metrics.written_bytes[WriteCause::Compaction as usize] > 0);
    story.check();
    // What is in memory or in the journal only is not compacted.
    assert!(story.read().len() < 60, "{}", story.read().len());
    story.restart();
    story.check();
    story.power_cut();
    story.check();
    story.fill(100, 10);
    story.check();
}

#[test]
fn a_topic_of_a_few_kib_is_compacted_too_and_then_left_alone() {
    let mut story = Story::new(51, &[]);
    story.fill(40, 2);
    story.restart();
    story.machine.run_for_ms(QUIET_MS);
    assert_eq!(story.rounds(), 1);
    assert_eq!(story.read().into_keys().collect::<Vec<_>>(), [38, 39]);
    let written = |story: &Story| story.node().engine.metrics().written_bytes;
    let before = written(&story);
    story.machine.run_for_ms(24 * 60 * MINUTE_MS);
    assert_eq!(
        written(&story)[WriteCause::Compaction as usize],
        before[WriteCause::Compaction as usize]
    );
    assert_eq!(story.rounds(), 1);
}

#[test]
fn a_power_cut_at_any_step_of_a_round_costs_nothing() {
    let prepared = || {
        let mut story = Story::new(52, &[]);
        story.fill(60, 6);
        story.put("key-1", None);
        story.restart();
        story.machine.run_for_ms(59_000);
        assert_eq!(story.rounds(), 0);
        story
    };
    let story = prepared();
    let mut steps = 0;
    while !story.is_exchanged() {
        assert!(story.machine.executor.step(), "no round");
        steps += 1;
    }
    assert!(steps > 50, "{steps}");
    for cut in 0..=steps + 5 {
        let mut story = prepared();
        for _ in 0..cut {
            story.machine.executor.step();
        }
        story.power_cut();
        let known = story.node().engine.segments.with_table(|table| table.len());
        assert_eq!(story.segments().len(), known, "cut {cut}: strays are gone");
        story.check();
        story.put("key-2", Some("after"));
        story.restart();
        story.machine.run_for_ms(QUIET_MS);
        story.check();
        assert!(story.read().len() <= 14, "cut {cut}: it is compacted in the end");
    }
}

#[test]
fn a_consumer_that_reads_during_rounds_gets_the_newest_values_and_no_wrong_record() {
    let mut story = Story::new(53, &[]);
    story.machine.storage.background_bytes_per_second = 2_000;
    story.restart();
    for _ in 0..4 {
        story.fill(120, 20);
        for _ in 0..40 {
            story.machine.run_for_ms(2_500);
            story.check();
        }
    }
    assert!(story.rounds() >= 3, "{}", story.rounds());
    assert_eq!(story.node().engine.metrics().history_faults, 0);
}

#[test]
fn gaps_are_passed_over_by_offset_and_by_time() {
    let mut story = Story::new(54, &[]);
    story.put("a", Some("1"));
    story.fill(100, 1);
    story.put("b", Some("2"));
    story.restart();
    story.machine.run_for_ms(QUIET_MS);
    let offsets: Vec<_> = story.read().into_keys().collect();
    assert_eq!(offsets, [0, 100, 101]);
    for at in [1, 50, 99] {
        let data = story.node().fetch("t", 0, at);
        let bytes = data.records.expect("records").to_bytes();
        let batches = LogBatch::split(bytes, 100).expect("batches");
        let found = batches.iter().flat_map(records).map(|(offset, _)| offset);
        assert_eq!(found.filter(|offset| *offset >= at).collect::<Vec<_>>(), [100, 101]);
    }
    for (timestamp, wanted) in [(WALL_MS, 0), (WALL_MS + 1, 100), (WALL_MS + 101, 101), (-1, 102)] {
        let part = ListOffsetsPartition {
            timestamp,
            current_leader_epoch: -1,
            ..ListOffsetsPartition::default()
        };
        let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![part] };
        let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
        match story.node().call(Request::ListOffsets(request), 5) {
            Response::ListOffsets(response) => {
                assert_eq!(response.topics[0].partitions[0].offset, wanted, "at {timestamp}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn tombstones_go_after_their_time_and_not_before() {
    let configs = [("delete.retention.ms", "7200000"), ("min.cleanable.dirty.ratio", "0.01")];
    let mut story = Story::new(55, &configs);
    // A clock is believed when it has run steadily for a while.
    story.machine.run_for_ms(20 * MINUTE_MS);
    story.fill(60, 3);
    story.put("key-0", None);
    story.flush();
    story.machine.run_for_ms(QUIET_MS);
    assert_eq!(story.latest().get("key-0"), Some(&None), "whoever missed it hears of it");
    story.machine.run_for_ms(60 * MINUTE_MS);
    story.flush();
    story.machine.run_for_ms(QUIET_MS);
    assert!(story.rounds() >= 2, "{}", story.rounds());
    assert_eq!(story.latest().get("key-0"), Some(&None));
    story.machine.run_for_ms(60 * MINUTE_MS);
    story.flush();
    story.machine.run_for_ms(QUIET_MS);
    let keys: Vec<_> = story.latest().into_keys().collect();
    assert_eq!(keys, ["key-1", "key-2", "other"]);
    assert_eq!(story.node().engine.metrics().compaction.expired_tombstones, 1);
    story.power_cut();
    story.check();
}

#[test]
fn compact_and_delete_lets_old_records_go_and_keeps_the_newest_of_the_others() {
    let configs = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "36000000"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    let mut story = Story::new(61, &configs);
    story.put("old", Some("1"));
    for _ in 0..5 {
        story.fill(60, 3);
        story.machine.run_for_ms(180 * MINUTE_MS);
        story.later_ms = story.machine.clock.now_ms() as i64;
    }
    assert!(story.rounds() >= 4, "{}", story.rounds());
    let key = story.node().key("t", 0);
    let log = |story: &Story| {
        let look = |log: &millpond_engine::Partition| (log.log_start(), log.log_end());
        story.node().engine.with_engine(|engine| engine.catalog().partition(key).map(look))
    };
    let (log_start, log_end) = log(&story).expect("a log");
    assert!(log_start > 60 && log_end == 301, "{log_start} {log_end}");
    let found = story.read_from(log_start);
    assert!(found.len() < 120, "{}", found.len());
    let latest: Model = found.into_values().collect();
    story.model.remove("old");
    assert_eq!(latest, story.model);
    story.power_cut();
    assert_eq!(log(&story), Some((log_start, log_end)));
}

#[test]
fn old_segments_in_which_nothing_changes_are_not_written_again() {
    let mut machine = Machine::new(62);
    machine.storage.packs = false;
    let mut story = Story::on(machine, &[("min.cleanable.dirty.ratio", "0.01")]);
    let written = |story: &Story| story.node().engine.metrics().compaction.written_bytes;
    story.fill(1_000, 1_000);
    story.machine.run_for_ms(QUIET_MS);
    let first = written(&story);
    assert!(first > 150_000, "{first}");
    for _ in 0..100 {
        story.flush();
    }
    story.machine.run_for_ms(QUIET_MS);
    assert!(story.rounds() >= 2);
    let second = written(&story) - first;
    assert!(second < first / 2, "{second} after {first}");
    story.check();
    assert!(story.read().len() < 1_100);
    story.power_cut();
    story.check();
}

#[test]
fn a_stop_in_the_middle_of_a_round_is_clean() {
    let mut story = Story::new(56, &[]);
    story.machine.storage.background_bytes_per_second = 100;
    story.restart();
    story.fill(100, 10);
    story.restart();
    while story.node().engine.metrics().compaction.read_bytes == 0 {
        assert!(story.machine.executor.step(), "no round");
    }
    let begun_ms = story.machine.clock.now_ms();
    story.restart();
    assert!(story.machine.clock.now_ms() < begun_ms + 10_000, "nobody waits for it");
    assert_eq!(story.rounds(), 0);
    story.check();
    story.machine.storage.background_bytes_per_second = 0;
    story.restart();
    story.machine.run_for_ms(QUIET_MS);
    assert_eq!(story.rounds(), 1);
    story.check();
}

#[test]
fn a_disk_that_fills_up_in_the_middle_ends_the_round_and_a_later_one_succeeds() {
    let mut story = Story::new(57, &[]);
    story.machine.storage.background_bytes_per_second = 1_000;
    story.restart();
    story.fill(100, 10);
    story.restart();
    while story.node().engine.metrics().compaction.read_bytes == 0 {
        assert!(story.machine.executor.step(), "no round");
    }
    story.machine.disk.set_capacity_bytes(Some(story.machine.disk.used_bytes()));
    story.machine.run_for_ms(10 * MINUTE_MS);
    let metrics = story.node().engine.metrics().compaction;
    assert!(metrics.rounds == 0 && metrics.rounds_given_up >= 1, "{metrics:?}");
    assert!(metrics.last_error.is_some());
    story.check();
    story.machine.disk.set_capacity_bytes(None);
    story.machine.run_for_ms(QUIET_MS);
    assert!(story.rounds() >= 1);
    story.check();
    assert!(story.is_exchanged(), "nothing is left of the round that failed");
}

#[test]
fn a_damaged_segment_is_told_and_nothing_of_its_partition_is_touched() {
    let mut story = Story::new(58, &[]);
    story.fill(100, 10);
    story.restart();
    let files = story.segments();
    assert!(story.machine.disk.corrupt(&files[0], 300));
    let before = story.machine.disk.content(&files[0]);
    story.machine.run_for_ms(QUIET_MS);
    let metrics = story.node().engine.metrics().compaction;
    assert_eq!((metrics.rounds, metrics.rounds_given_up, metrics.partitions_damaged), (0, 1, 1));
    assert!(metrics.last_error.is_some_and(|error| error.contains(".seg")));
    assert_eq!(story.machine.disk.content(&files[0]), before);
}

#[test]
fn a_map_of_keys_that_is_too_small_takes_several_rounds() {
    let mut machine = Machine::new(59);
    machine.storage.compaction_map_bytes = 0;
    let mut story = Story::on(machine, &[("min.cleanable.dirty.ratio", "0")]);
    story.fill(6_000, 2_000);
    story.restart();
    story.machine.run_for_ms(4 * QUIET_MS);
    assert!(story.rounds() >= 3, "{}", story.rounds());
    story.check();
    assert_eq!(story.read().len(), 2_000);
    story.power_cut();
    story.check();
}

#[test]
fn what_is_younger_than_its_lag_stays() {
    let mut story = Story::new(60, &[("min.compaction.lag.ms", "7200000")]);
    story.fill(100, 10);
    story.restart();
    story.machine.run_for_ms(60 * MINUTE_MS);
    assert_eq!(story.read().len(), 100);
    story.machine.run_for_ms(90 * MINUTE_MS);
    assert_eq!(story.read().len(), 10);
    story.check();
}
