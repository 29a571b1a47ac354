//! Transactions over power cuts, packed history and compaction: what was committed is there, what
//! was aborted is never seen, what was open stays open.

use std::collections::{BTreeMap, BTreeSet};

use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::{
    EndTxnRequest, FetchRequest, InitProducerIdRequest, ProduceRequest, Request, Response,
};
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};

use super::rig::{Machine, Node, fetch_request};

const QUIET_MS: u64 = 14 * 60_000;

/// A transactional producer that speaks KIP-890.
pub(super) struct Client {
    id: i64,
    epoch: i16,
    sequences: BTreeMap<(String, i32), i32>,
}

impl Client {
    pub(super) fn start(node: &Node) -> Client {
        let request = InitProducerIdRequest {
            transactional_id: Some("tx".to_owned()),
            transaction_timeout_ms: 900_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        match node.call(Request::InitProducerId(request), 5) {
            Response::InitProducerId(answer) => {
                assert_eq!(answer.error_code, 0);
                let (id, epoch) = (answer.producer_id, answer.producer_epoch);
                Client { id, epoch, sequences: BTreeMap::new() }
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn put(&mut self, node: &Node, topic: &str, partition: i32, key: &str, value: &str) {
        let sequence = self.sequences.entry((topic.to_owned(), partition)).or_default();
        let mut builder = BatchBuilder::new(Codec::None, None)
            .with_transactional(true)
            .with_producer(self.id, self.epoch, *sequence);
        *sequence += 1;
        let pushed = builder.push(1_000, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        pushed.expect("a small record");
        let records = Some(builder.build().expect("a small batch"));
        let partition_data = vec![PartitionProduceData { index: partition, records }];
        let topic = TopicProduceData {
            name: topic.to_owned(),
            partition_data,
            ..TopicProduceData::default()
        };
        let request = ProduceRequest {
            transactional_id: Some("tx".to_owned()),
            acks: -1,
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        match node.call(Request::Produce(request), 12) {
            Response::Produce(answer) => {
                assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn end(&mut self, node: &Node, committed: bool) {
        let request = EndTxnRequest {
            transactional_id: "tx".to_owned(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed,
        };
        match node.call(Request::EndTxn(request), 5) {
            Response::EndTxn(answer) => {
                assert_eq!(answer.error_code, 0);
                (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
                self.sequences.clear();
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Keys and values of all records that count, in order, up to the last stable offset.
pub(super) fn committed(node: &Node, topic: &str, partition: i32) -> Vec<(String, String)> {
    let (mut all, mut at) = (Vec::new(), 0);
    loop {
        let Request::Fetch(plain) = fetch_request(topic, partition, at) else { unreachable!() };
        let request = Request::Fetch(FetchRequest { isolation_level: 1, ..plain });
        let Response::Fetch(mut answer) = node.call(request, 12) else { panic!("no fetch") };
        let data = answer.responses.remove(0).partitions.remove(0);
        assert_eq!(data.error_code, 0);
        let mut aborted = data.aborted_transactions.expect("a list");
        aborted.sort_by_key(|one| std::cmp::Reverse(one.first_offset));
        let mut left_out = BTreeSet::new();
        let bytes = data.records.as_ref().map(|records| records.to_bytes()).unwrap_or_default();
        let before = at;
        for batch in LogBatch::split(bytes, 10_000).expect("whole batches") {
            let header = batch.header();
            while aborted.last().is_some_and(|one| one.first_offset <= batch.last_offset()) {
                left_out.extend(aborted.pop().map(|one| one.producer_id));
            }
            at = at.max(batch.next_offset());
            if header.attributes.is_control() {
                left_out.remove(&header.producer_id);
            } else if !left_out.contains(&header.producer_id) {
                all.extend(records_of(&batch, before));
            }
        }
        if at == data.last_stable_offset {
            return all;
        }
        assert!(at > before, "stuck at {at}");
    }
}

fn records_of(batch: &LogBatch, from: i64) -> Vec<(String, String)> {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let parsed = batch.to_batch().expect("a batch");
    let section = parsed.decompress(1 << 20).expect("records");
    let records = parsed.records(&section).map(|record| record.expect("a record"));
    let here = records.filter(|r| batch.base_offset() + i64::from(r.offset_delta) >= from);
    here.map(|record| (text(record.key), text(record.value))).collect()
}

#[test]
fn committed_values_survive_power_cuts_in_packed_history_and_aborted_ones_are_never_seen() {
    for packs in [false, true] {
        let mut machine = Machine::new(31);
        machine.storage.packs = packs;
        machine.storage.tail_bytes = 4 * 1024;
        let mut node = machine.start();
        node.create_topic("t", 2);
        let mut client = Client::start(&node);
        let mut wanted = [Vec::new(), Vec::new()];
        for round in 0..60 {
            let is_kept = round % 3 != 1;
            for (index, partition) in [0, 1, 0].into_iter().enumerate() {
                let value = format!("{round}-{index}-{}", "x".repeat(80));
                client.put(&node, "t", partition, "k", &value);
                if is_kept {
                    wanted[partition as usize].push(("k".to_owned(), value));
                }
            }
            if round % 20 == 7 {
                // What is open stays open.
                machine.power_cut(node);
                node = machine.start();
            }
            client.end(&node, is_kept);
        }
        client.put(&node, "t", 0, "k", "open");
        machine.run_for_ms(2_000);
        machine.power_cut(node);
        let node = machine.start();
        assert_eq!(committed(&node, "t", 0), wanted[0], "packed: {packs}");
        assert_eq!(committed(&node, "t", 1), wanted[1], "packed: {packs}");
        client.end(&node, true);
        assert_eq!(committed(&node, "t", 0).len(), wanted[0].len() + 1);
        let metrics = node.engine.metrics();
        assert!(metrics.history_batches > 0 && metrics.history_faults == 0);
    }
}

#[test]
fn a_compacted_topic_keeps_the_newest_committed_value_of_each_key_and_nothing_aborted() {
    let mut machine = Machine::new(32);
    machine.storage.tail_bytes = 4 * 1024;
    let mut node = machine.start();
    node.create_topic_with("c", &[("cleanup.policy", "compact")]);
    let mut client = Client::start(&node);
    let mut model = BTreeMap::new();
    for round in 0..120 {
        let is_kept = round % 4 != 3;
        let pad = "x".repeat(60);
        for index in 0..3 {
            let key = format!("key-{}", (round + index) % 7);
            let value = format!("{round}-{index}-{pad}");
            client.put(&node, "c", 0, &key, &value);
            if is_kept {
                model.insert(key, value);
            }
        }
        client.end(&node, is_kept);
    }
    for _ in 0..2 {
        machine.run_for_ms(QUIET_MS);
        let metrics = node.engine.metrics().compaction;
        assert!(
            metrics.rounds > 0 && metrics.superseded_records > 0 && metrics.aborted_records > 0
        );
        let left = committed(&node, "c", 0);
        assert!(left.len() < 120, "{} records are left", left.len());
        assert_eq!(left.into_iter().collect::<BTreeMap<_, _>>(), model);
        // The same process goes on with what it had; then another one takes over.
        client.put(&node, "c", 0, "key-0", "open");
        client.end(&node, false);
        machine.power_cut(node);
        node = machine.start();
        machine.run_for_ms(1_000);
        for index in 0..60 {
            let value = format!("more-{index}-{}", "y".repeat(90));
            client.put(&node, "c", 0, "key-1", &value);
            model.insert("key-1".to_owned(), value);
            client.end(&node, true);
        }
        machine.run_for_ms(QUIET_MS);
    }
    machine.power_cut(node);
    let node = machine.start();
    assert_eq!(committed(&node, "c", 0).into_iter().collect::<BTreeMap<_, _>>(), model);
}
