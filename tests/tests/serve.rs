//! What a person gets who types `millpond serve`: ready without a configuration, one node at a
//! time on a data directory, a graceful stop, metrics that a dashboard can read.

use millpond_tests::binary;
use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::kafka::Kafka;
use millpond_wire::messages::describe_configs_request::DescribeConfigsResource;
use millpond_wire::messages::{DescribeConfigsRequest, Request, Response};
use std::collections::BTreeMap;

#[track_caller]
fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_broker_without_configuration_serves_and_shows_its_fingerprint() {
    let mut broker = Setup::without_config().start();
    let shown = broker.log().wait_for("SHA-256", PATIENCE);
    assert!(shown.is_some(), "the fingerprint of the development certificate is not shown");
    assert_eq!(kafka(&broker).produce_new_topic("hello", b"world").unwrap(), 0);
    assert!(broker.get("/healthz").len() < 200, "health is short");
    assert!(broker.stop().success());
}

#[test]
fn a_crash_would_leave_no_core_file_with_keys_in_it() {
    let limits = Broker::start().of_process("limits");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let words: Vec<&str> = core.unwrap_or_default().split_whitespace().collect();
    assert_eq!(words, ["0", "0", "bytes"], "{limits}");
}

#[test]
fn a_graceful_stop_keeps_everything_and_the_restart_is_ready_at_once() {
    let mut broker = Broker::start();
    kafka(&broker).produce_new_topic("kept", b"1").unwrap();
    kafka(&broker).commit("readers", "kept", 0, 1).unwrap();
    assert!(broker.stop().success());
    broker.restart();
    let mut client = kafka(&broker);
    assert_eq!(client.read("kept", 0, 0).unwrap().len(), 1);
    assert_eq!(client.committed("readers", "kept", 0).unwrap(), 1);
    assert_eq!(client.produce("kept", 0, &[b"2"]).unwrap(), 1);
}

#[test]
fn a_second_broker_on_the_same_data_is_refused_with_words() {
    let broker = Broker::start();
    let data = broker.data_dir().display().to_string();
    let arguments =
        ["serve", "--data-dir", &data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let said = binary::millpond_program(arguments).run(PATIENCE).expect_failure();
    assert!(said.contains(&data) || said.to_lowercase().contains("lock"), "{said}");
}

#[test]
fn metrics_are_prometheus_text_with_our_names_and_the_exporters() {
    let broker = Broker::start();
    kafka(&broker).produce_new_topic("counted", b"1").unwrap();
    let text = broker.get("/metrics");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let value = line.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "not an exposition line: {line}");
    }
    assert!(text.contains("millpond_"), "our own names: {text}");
    assert_eq!(broker.metric("kafka_topic_partition_current_offset"), Some(1.0), "{text}");
    for name in [
        "millpond_requests_throttled_total",
        "millpond_throttle_seconds_total",
        "millpond_fetch_sessions_max",
        "millpond_transactions_open",
        "millpond_transactions_aborted_total",
        "millpond_producers",
    ] {
        assert!(broker.metric(name).is_some(), "{name} is missing in\n{text}");
    }
}

/// Where the file's own names and Kafka's meet; what each changes is told in the engine's tests.
#[test]
fn keys_of_groups_and_transactions_are_shown_to_tools_under_kafkas_names() {
    let file = "
[groups]
initial_rebalance_delay_ms = 0
offsets_retention_ms = 600000
offsets_check_interval_ms = 1001
members_max = 11
session_timeout_min_ms = 1002
session_timeout_max_ms = 1003
consumer_heartbeat_interval_ms = 1004
consumer_session_timeout_ms = 1005

[transactions]
timeout_max_ms = 1006
id_expiration_ms = 1007
";
    let broker = Setup::default().config(file).start();
    let node = DescribeConfigsResource {
        resource_type: 4,
        resource_name: "1".to_owned(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![node], ..Default::default() };
    let answer = kafka(&broker).call(4, Request::DescribeConfigs(request));
    let Ok(Response::DescribeConfigs(answer)) = answer else { panic!("{answer:?}") };
    let shown = answer.results[0].configs.iter();
    let shown: BTreeMap<&str, &str> =
        shown.map(|c| (c.name.as_str(), c.value.as_deref().unwrap_or_default())).collect();
    for (name, value) in [
        ("group.initial.rebalance.delay.ms", "0"),
        ("offsets.retention.minutes", "10"),
        ("offsets.retention.check.interval.ms", "1001"),
        ("group.max.size", "11"),
        ("group.consumer.max.size", "11"),
        ("group.min.session.timeout.ms", "1002"),
        ("group.max.session.timeout.ms", "1003"),
        ("group.consumer.heartbeat.interval.ms", "1004"),
        ("group.consumer.session.timeout.ms", "1005"),
        ("transaction.max.timeout.ms", "1006"),
        ("transactional.id.expiration.ms", "1007"),
    ] {
        assert_eq!(shown.get(name), Some(&value), "{name}");
    }
}

#[test]
fn an_unknown_key_in_the_configuration_is_refused_by_its_name() {
    let home = binary::scratch();
    let file = home.path().join("bad.toml");
    std::fs::write(&file, "[journal]\nfile_bites = \"8MiB\"\n").unwrap();
    let file = file.display().to_string();
    let said = binary::millpond_program(["serve", "--config", &file]).run(PATIENCE);
    let said = said.expect_failure();
    assert!(said.contains("file_bites"), "{said}");
}
