//! MirrorMaker 2, exactly once: a topic of one node comes to another with its partitions, settings,
//! records and times, and with what groups have committed, while the node that it comes to is killed
//! (kill -9) in the middle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millpond_tests::broker::{self, Broker};
use millpond_tests::connect::{PATIENCE, setting};
use millpond_tests::feeder::{Feeder, Message};
use millpond_tests::jvm::Classes;
use millpond_tests::kafka::{Kafka, now_ms};
use millpond_tests::running::Running;
use millpond_tests::witness::{Seen, Witness};

const RECORDS: usize = 1_000;
const PARTITIONS: i32 = 2;
const RETENTION_MS: &str = "86400123";

/// Where the topic comes to, and from where it does.
const HERE: &str = "away.orders";
const THERE: &str = "orders";

/// Topics that MirrorMaker makes for itself ask for three replicas unless told otherwise.
const SETTINGS: &str = "\
clusters=away,home
away->home.enabled=true
away->home.topics=orders
home->away.enabled=false
home.exactly.once.source.support=enabled
replication.factor=-1
checkpoints.topic.replication.factor=-1
heartbeats.topic.replication.factor=-1
offset-syncs.topic.replication.factor=-1
config.storage.replication.factor=-1
offset.storage.replication.factor=-1
status.storage.replication.factor=-1
offset.lag.max=0
sync.group.offsets.enabled=true
refresh.groups.interval.seconds=1
emit.checkpoints.interval.seconds=1
sync.group.offsets.interval.seconds=1
";

#[test]
fn mirror_maker_brings_records_settings_and_offsets_once_and_in_order() {
    let (away, mut home) = (Broker::start(), Broker::start());
    let mut kafka = connected(&away);
    let settings = [("retention.ms", RETENTION_MS)];
    kafka.create_topic_with(THERE, PARTITIONS, &settings).expect("a topic");
    let mut feeder = Feeder::new(away.kafka(), away.log().clone());
    let messages = messages();
    let (first, rest) = messages.split_at(RECORDS / 2);
    feeder.feed(first, 10);
    let mut maker = start(&away, &home);
    let begun = Instant::now();
    wait(&mut maker, "the topic", || connected(&home).list_offset(HERE, 0, -1).is_ok());
    println!("{:5} ms: the topic is there", begun.elapsed().as_millis());
    assert_eq!(setting(&home, HERE, "retention.ms"), RETENTION_MS);
    let mut witness = Witness::watch(&home, &[HERE]);
    expect(&mut witness, &mut maker, RECORDS / 4);
    feeder.feed(rest, 10);
    home.restart();
    expect(&mut witness, &mut maker, RECORDS);
    println!("{:5} ms: all records are there", begun.elapsed().as_millis());
    assert_eq!(by_partition(&messages), found(&witness.seen()));
    let ends = commit_all(&mut kafka);
    for partition in 0..PARTITIONS {
        let seen = witness.seen();
        let last = seen.iter().rfind(|one| one.partition == i64::from(partition));
        let wanted = last.map_or(0, |last| last.offset + 1);
        wait(&mut maker, "what was committed", || {
            connected(&home).committed("readers", HERE, partition).is_ok_and(|at| at == wanted)
        });
    }
    println!("{:5} ms: {ends:?} were committed", begun.elapsed().as_millis());
    maker.stop(PATIENCE);
}

fn messages() -> Vec<Message> {
    let start_ms = now_ms() - 60_000;
    let message = |at: usize| Message {
        topic: THERE,
        partition: at as i32 % PARTITIONS,
        timestamp_ms: start_ms + at as i64,
        key: format!("key-{}", at % 10),
        value: format!("value-{at}"),
    };
    (0..RECORDS).map(message).collect()
}

fn start(away: &Broker, home: &Broker) -> Running {
    let (away_at, home_at) = (away.bootstrap(), home.bootstrap());
    let text =
        format!("away.bootstrap.servers={away_at}\nhome.bootstrap.servers={home_at}\n{SETTINGS}");
    let file = home.file("mirror.properties", text.as_bytes());
    let class = "org.apache.kafka.connect.mirror.MirrorMaker";
    Classes::of_jars("connect").start("mirror maker", class, &[&file])
}

#[track_caller]
fn connected(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), broker::PATIENCE).expect("a connection")
}

/// Ask until it is so; it must not end meanwhile.
#[track_caller]
fn wait(maker: &mut Running, what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        maker.expect_alive();
        assert!(Instant::now() < give_up, "waited for {what}");
        maker.log().wait_for_news(Duration::from_millis(50));
    }
}

#[track_caller]
fn expect(witness: &mut Witness, maker: &mut Running, count: usize) {
    let come = witness.wait_until(PATIENCE, |seen| seen.len() >= count);
    maker.expect_alive();
    come.unwrap_or_else(|error| panic!("{count} records: {error}"));
}

/// Commit the ends for a group that has read it all; those ends.
fn commit_all(kafka: &mut Kafka) -> Vec<i64> {
    let end = |partition| {
        let end = kafka.list_offset(THERE, partition, -1).expect("an end");
        kafka.commit("readers", THERE, partition, end).expect("a commit");
        end
    };
    (0..PARTITIONS).map(end).collect()
}

type Records = BTreeMap<i64, Vec<(i64, String, String)>>;

fn by_partition(messages: &[Message]) -> Records {
    let mut records = Records::new();
    for one in messages {
        let record = (one.timestamp_ms, one.key.clone(), one.value.clone());
        records.entry(one.partition.into()).or_default().push(record);
    }
    records
}

fn found(seen: &[Seen]) -> Records {
    let mut records = Records::new();
    for one in seen {
        let record = (one.timestamp_ms, one.key.clone(), one.value.clone());
        records.entry(one.partition).or_default().push(record);
    }
    records
}
