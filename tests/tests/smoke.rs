//! The shortest way through everything: serve, produce, consume, transform, stop, start. Also run
//! against the aarch64 binary under emulation (`tests/cross`), so it measures nothing and assumes
//! nothing about speed.

use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::kafka::Kafka;

#[track_caller]
fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn records_go_through_a_filter_onto_disk_and_out_again() {
    let mut broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let topic = ["topic", "--bootstrap", &bootstrap];
    broker
        .cli(&[&topic[..], &["create", "readings", "--partitions", "2"]].concat())
        .expect_success();
    let listed = broker.cli(&[&topic[..], &["list"]].concat()).expect_success();
    assert!(listed.contains("readings"), "{listed}");

    let mut client = kafka(&broker);
    assert_eq!(client.produce("readings", 1, &[b"{\"celsius\": 1}"]).unwrap(), 0);
    deploy_threshold(&broker, "readings");
    let values = ["{\"celsius\": 12}", "{\"celsius\": 71.5}", "{\"celsius\": 99}"];
    client.produce("readings", 1, &values.map(str::as_bytes)).unwrap();
    broker.restart();

    let found = kafka(&broker).read("readings", 1, 0).unwrap();
    let texts: Vec<String> = found.iter().map(|record| record.text()).collect();
    assert_eq!(texts, ["{\"celsius\": 1}", values[1], values[2]]);
    let shown = broker.cli(&["transform", "--http", &broker.http(), "list"]).expect_success();
    assert!(shown.contains("hot"), "{shown}");
    assert!(broker.stop().success());
}

fn deploy_threshold(broker: &Broker, topic: &str) {
    let module = broker.file("threshold.wasm", millpond_guests::THRESHOLD);
    let http = broker.http();
    let words = ["transform", "--http", &http, "deploy", "hot", "--module", &module];
    let more = ["--topic", topic, "--set", "field=celsius", "--set", "min=70"];
    broker.cli(&[&words[..], &more[..]].concat()).expect_success();
}
