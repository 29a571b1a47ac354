//! The same broker over QUIC: our own client trusts the certificate's fingerprint, is acknowledged,
//! and reads; who trusts another is refused; keys go where every other client sends them.

use std::time::Duration;

use millpond_client::producer::{Producer, Record};
use millpond_client::{ClientConfig, Consumer, OffsetReset, Trust};
use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::clients;
use millpond_tests::kafka::{Found, Kafka};

#[track_caller]
fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

/// The SHA-256 that the broker prints when it starts: 32 pairs of hexadecimal digits.
#[track_caller]
fn fingerprint(broker: &Broker) -> String {
    let is_fingerprint = |word: &&str| {
        let pairs: Vec<&str> = word.split(':').collect();
        pairs.len() == 32 && pairs.iter().all(|pair| u8::from_str_radix(pair, 16).is_ok())
    };
    let word_of = |line: &str| line.split([' ', '=']).find(is_fingerprint).map(str::to_owned);
    let found = broker.log().wait_until(PATIENCE, word_of);
    found.unwrap_or_else(|| panic!("no fingerprint in the log"))
}

fn over_quic(broker: &Broker, fingerprint: &str) -> ClientConfig {
    let config = ClientConfig::new(&format!("quic://{}", broker.kafka())).unwrap();
    config.trust(Trust::fingerprint(fingerprint).unwrap()).connect_timeout(Duration::from_secs(5))
}

#[tokio::test]
async fn what_is_produced_over_quic_is_read_over_quic_and_over_tcp() {
    let broker = Broker::start();
    kafka(&broker).create_topic("devices", 1).unwrap();
    let config = over_quic(&broker, &fingerprint(&broker));
    let producer = Producer::builder().connect(config.clone()).await.unwrap();
    let mut deliveries = Vec::new();
    for n in 0..500 {
        let record = Record::to("devices").key("pump-1").value(format!("reading {n}"));
        deliveries.push(producer.send(record).await.unwrap());
    }
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, Some(n as i64));
    }
    producer.close().await;

    let builder = Consumer::builder().topic("devices").offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.connect(config).await.unwrap();
    let mut seen = 0;
    while seen < 500 {
        for record in consumer.poll(PATIENCE).await.unwrap() {
            let wanted = format!("reading {seen}");
            assert_eq!(record.value.as_deref(), Some(wanted.as_bytes()));
            seen += 1;
        }
    }
    consumer.close().await.unwrap();
    assert_eq!(kafka(&broker).read("devices", 0, 0).unwrap().len(), 500);
}

#[tokio::test]
async fn a_certificate_with_another_fingerprint_is_not_believed() {
    let broker = Broker::start();
    let config = over_quic(&broker, &"AB".repeat(32));
    let refused = Producer::builder().connect(config).await.unwrap_err().to_string();
    assert!(refused.contains(&fingerprint(&broker)), "it names what was shown: {refused}");
}

#[tokio::test]
async fn the_fingerprint_of_the_first_start_is_good_after_a_restart() {
    let mut broker = Broker::start();
    let config = over_quic(&broker, &fingerprint(&broker));
    broker.restart();
    Producer::builder().connect(config).await.unwrap();
}

#[test]
fn lines_go_in_and_out_over_quic_by_the_command_line() {
    let broker = Broker::start();
    let url = format!("quic://{}", broker.kafka());
    let fingerprint = fingerprint(&broker);
    let place = ["--bootstrap", &url, "--fingerprint", &fingerprint];
    let produce = [&["produce", "lines"][..], &place].concat();
    broker.cli_with_input(&produce, b"one\ntwo\nthree\n").expect_success();
    let consume = ["consume", "lines", "--from-beginning", "--count", "3"];
    let read = broker.cli(&[&consume[..], &place].concat()).expect_success();
    let lines: Vec<&str> = read.lines().collect();
    assert_eq!(lines, ["one", "two", "three"]);
}

/// Which keys stand in which of the partitions, sorted.
fn keys(client: &mut Kafka, topic: &str, partitions: i32) -> Vec<Vec<String>> {
    let key = |record: Found| String::from_utf8_lossy(&record.key.unwrap_or_default()).into_owned();
    let mut all = Vec::new();
    for partition in 0..partitions {
        let found = client.read(topic, partition, 0).unwrap();
        let mut keys: Vec<String> = found.into_iter().map(key).collect();
        keys.sort();
        all.push(keys);
    }
    all
}

#[tokio::test]
async fn keys_go_to_the_partitions_that_other_clients_send_them_to() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("ours", 7).unwrap();
    client.create_topic("theirs", 7).unwrap();
    let config = over_quic(&broker, &fingerprint(&broker));
    let producer = Producer::builder().connect(config).await.unwrap();
    for n in 0..200 {
        let record = Record::to("ours").key(format!("device-{n}")).value("x");
        // What becomes of it is looked at in the log.
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await;
    clients::python(&broker, "kafka_python_stories.py", "keyed");
    let (ours, theirs) = (keys(&mut client, "ours", 7), keys(&mut client, "theirs", 7));
    assert_eq!(ours, theirs);
    assert!(
        ours.iter().all(|keys| !keys.is_empty()),
        "200 keys leave no partition empty: {ours:?}"
    );
}
