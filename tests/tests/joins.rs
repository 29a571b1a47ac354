//! Two topics joined at the edge, end to end: a shipped module, in a node that is killed wherever it is,
//! with transactions that are aborted on either side. What comes out is what a model says that compares
//! every committed record with every other.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use millpond_guests as guests;
use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::dice::Dice;
use millpond_tests::kafka::Kafka;
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::{EndTxnRequest, InitProducerIdRequest, ProduceRequest, Response};
use millpond_wire::record::{BatchBuilder, Codec};

const PARTITIONS: i32 = 2;
const WITHIN_MS: i64 = 100;
/// When the records begin.
const EPOCH_MS: i64 = 1_700_000_000_000;
const ROUNDS: usize = 4;

fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

/// The words of `millpond transform deploy both`, without more.
fn words<'a>(http: &'a str, module: &'a str) -> Vec<&'a str> {
    let mut words = vec!["transform", "--http", http, "deploy", "both", "--module", module];
    for setting in ["left=load", "right=heat", "field=n", "within_ms=100"] {
        words.extend(["--set", setting]);
    }
    words
}

#[track_caller]
fn deploy(broker: &Broker, more: &[&str]) {
    let module = broker.file("join.wasm", guests::JOIN_READINGS);
    let topics = ["--topic", "load", "--topic", "heat", "--derive", "--join", "--output", "both"];
    let http = broker.http();
    let all = [&words(&http, &module)[..], &topics, &["--from", "earliest"], more].concat();
    broker.cli(&all).expect_success();
}

/// A record as the model knows it.
#[derive(Clone, Debug)]
struct Reading {
    key: String,
    at_ms: i64,
    number: i64,
}

/// What is sent to both topics, and what counts of it.
struct Feed {
    dice: Dice,
    numbers: i64,
    /// Of each topic; time goes on in each for itself.
    at_ms: [i64; 2],
    /// Committed, by topic and partition.
    counted: BTreeMap<(usize, i32), Vec<Reading>>,
    aborted: usize,
}

const TOPICS: [&str; 2] = ["load", "heat"];

impl Feed {
    fn new(seed: u64) -> Feed {
        eprintln!("seed {seed}");
        Feed {
            dice: Dice::new(seed),
            numbers: 0,
            at_ms: [EPOCH_MS; 2],
            counted: BTreeMap::new(),
            aborted: 0,
        }
    }

    /// A few records of one topic and partition, in order of their times.
    fn readings(&mut self, topic: usize, partition: i32) -> Vec<Reading> {
        let count = self.dice.within(1, 5);
        (0..count)
            .map(|_| {
                self.numbers += 1;
                self.at_ms[topic] += self.dice.within(0, 60) as i64;
                let key = format!("pump-{partition}-{}", self.dice.within(0, 3));
                Reading { key, at_ms: self.at_ms[topic], number: self.numbers }
            })
            .collect()
    }

    /// One batch, acknowledged; now and then in a transaction, which may be aborted.
    fn send(&mut self, client: &mut Kafka) {
        let topic = self.dice.within(0, 2) as usize;
        let partition = self.dice.within(0, PARTITIONS as u64) as i32;
        let readings = self.readings(topic, partition);
        let is_committed = match self.dice.within(0, 10) {
            0..6 => {
                let records = batch(BatchBuilder::new(Codec::Lz4, None), &readings);
                client.produce_bytes(TOPICS[topic], partition, records).unwrap();
                true
            }
            fate => {
                transact(client, TOPICS[topic], partition, &readings, fate < 8);
                fate < 8
            }
        };
        match is_committed {
            true => self.counted.entry((topic, partition)).or_default().extend(readings),
            false => self.aborted += 1,
        }
    }

    /// The pairs that must be there, sorted.
    fn expected(&self) -> Vec<String> {
        let mut pairs = Vec::new();
        for partition in 0..PARTITIONS {
            let of = |topic| self.counted.get(&(topic, partition)).into_iter().flatten();
            for left in of(0) {
                let belongs = |right: &&Reading| {
                    right.key == left.key && (right.at_ms - left.at_ms).abs() <= WITHIN_MS
                };
                pairs.extend(of(1).filter(belongs).map(|right| {
                    let (left_ms, right_ms) = (left.at_ms, right.at_ms);
                    format!("{} {} {left_ms} {} {right_ms}", left.key, left.number, right.number)
                }));
            }
        }
        pairs.sort();
        pairs
    }
}

fn batch(mut builder: BatchBuilder, readings: &[Reading]) -> Bytes {
    for reading in readings {
        let value = format!("{{\"n\":{}}}", reading.number);
        let (key, value) = (Some(reading.key.as_bytes()), Some(value.as_bytes()));
        builder.push(reading.at_ms, key, value, &[]).unwrap();
    }
    builder.build().unwrap()
}

/// A transaction of one batch.
fn transact(client: &mut Kafka, topic: &str, partition: i32, readings: &[Reading], commit: bool) {
    let id = "feed".to_owned();
    let request = InitProducerIdRequest {
        transactional_id: Some(id.clone()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    };
    let Response::InitProducerId(producer) = client.call(4, request.into()).unwrap() else {
        panic!("not an init producer id response")
    };
    assert_eq!(producer.error_code, 0);
    let (producer_id, producer_epoch) = (producer.producer_id, producer.producer_epoch);
    let builder = BatchBuilder::new(Codec::None, None);
    let builder = builder.with_producer(producer_id, producer_epoch, 0).with_transactional(true);
    let records = Some(batch(builder, readings));
    let partition_data = vec![PartitionProduceData { index: partition, records }];
    let name = topic.to_owned();
    let topic_data = vec![TopicProduceData { name, partition_data, ..Default::default() }];
    let request = ProduceRequest {
        transactional_id: Some(id.clone()),
        acks: -1,
        timeout_ms: 30_000,
        topic_data,
    };
    let Response::Produce(produced) = client.call(12, request.into()).unwrap() else {
        panic!("not a produce response")
    };
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    let request =
        EndTxnRequest { transactional_id: id, producer_id, producer_epoch, committed: commit };
    let Response::EndTxn(ended) = client.call(5, request.into()).unwrap() else {
        panic!("not an end response")
    };
    assert_eq!(ended.error_code, 0);
}

/// What the join made, sorted.
fn pairs(client: &mut Kafka) -> Vec<String> {
    let mut lines = Vec::new();
    for partition in 0..PARTITIONS {
        for record in client.read("both", partition, 0).unwrap_or_default() {
            let value: serde_json::Value = serde_json::from_str(&record.text()).unwrap();
            let key = record.key.clone().unwrap_or_default();
            let number = |name: &str| value[name].as_f64().map_or(-1, |number| number as i64);
            lines.push(format!(
                "{} {} {} {} {}",
                String::from_utf8_lossy(&key),
                number("left"),
                number("left_ms"),
                number("right"),
                number("right_ms"),
            ));
        }
    }
    lines.sort();
    lines
}

/// Waits for so many pairs, and until the transform has read all there is.
fn all_pairs(broker: &Broker, count: usize) -> Vec<String> {
    let begun = Instant::now();
    let mut client = kafka(broker);
    loop {
        let found = pairs(&mut client);
        let lag = broker.metric("millpond_derive_lag");
        if found.len() >= count && lag == Some(0.0) {
            return pairs(&mut client);
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {count} pairs, lag {lag:?}", found.len());
        std::thread::yield_now();
    }
}

#[test]
fn two_topics_are_joined_exactly_over_kill_9_and_transactions_that_are_aborted() {
    let mut broker = Broker::start();
    for topic in TOPICS {
        kafka(&broker).create_topic(topic, PARTITIONS).unwrap();
    }
    let mut feed = Feed::new(7);
    for round in 0..ROUNDS {
        let mut client = kafka(&broker);
        for _ in 0..50 {
            feed.send(&mut client);
        }
        match round {
            0 => deploy(&broker, &[]),
            2 => deploy(&broker, &["--version", "2", "--canary", "50"]),
            _ => {}
        }
        // Wherever the join is by now.
        broker.kill();
        broker.restart();
    }
    let expected = feed.expected();
    assert!(expected.len() > 100 && feed.aborted > 10, "{} pairs", expected.len());
    assert_eq!(all_pairs(&broker, expected.len()), expected);
    let http = broker.http();
    let shown = broker.cli(&["transform", "--http", &http, "describe", "both", "--json"]);
    assert!(shown.expect_success().contains("\"state_scope\": \"topics\""));
}

#[test]
fn a_join_that_cannot_be_is_refused_with_what_is_to_be_done() {
    let broker = Broker::start();
    for (topic, partitions) in [("load", 2), ("heat", 3), ("cold", 2)] {
        kafka(&broker).create_topic(topic, partitions).unwrap();
    }
    let module = broker.file("join.wasm", guests::JOIN_READINGS);
    let http = broker.http();
    let derive = ["--derive", "--join", "--output", "both"];
    for (more, reason) in [
        (&["--topic", "load", "--topic", "heat"][..], "load has 2, heat has 3"),
        (&["--topic", "load"], "one topic only"),
        (&["--topic", "load", "--topic", "ice"], "ice is not there"),
    ] {
        let said = broker.cli(&[&words(&http, &module)[..], more, &derive].concat());
        let said = said.expect_failure();
        assert!(said.contains(reason), "{said}");
    }
    let inline = ["--topic", "load", "--topic", "cold", "--join", "--output", "both"];
    let said = broker.cli(&[&words(&http, &module)[..], &inline].concat()).expect_failure();
    assert!(said.contains("--derive"), "{said}");
}
