//! The README's tour, done as it stands there: its Python runs, its filter builds, is uploaded and
//! filters. Nothing of it is repeated here, so it cannot drift.

use std::path::Path;

use millpond_tests::binary::repository;
use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::clients;
use millpond_tests::kafka::Kafka;

/// The fenced block of a language that contains a text.
#[track_caller]
fn block(language: &str, containing: &str) -> String {
    let path = repository().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let fence = format!("```{language}\n");
    let blocks = readme.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next());
    let mut fitting = blocks.filter(|block| block.contains(containing));
    match fitting.next() {
        Some(block) => format!("{block}\n"),
        None => panic!("README.md: no {language} block with {containing:?}"),
    }
}

#[track_caller]
fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_python_of_the_tour_runs_against_a_broker_without_configuration() {
    let broker = Setup::without_config().start();
    let code = block("python", "KafkaProducer").replace("localhost:9092", &broker.bootstrap());
    let printed = clients::python_code(&broker, &code);
    let lines: Vec<&str> = printed.lines().collect();
    let read =
        |n: usize, celsius| format!("{n} b'{{\"device\": \"pump-1\", \"celsius\": {celsius}}}'");
    assert_eq!(lines, ["0", "1", "2", &read(0, "12"), &read(1, "71.5"), &read(2, "99")]);
}

#[test]
fn the_filter_of_the_tour_is_the_one_that_init_makes_and_it_builds_and_filters() {
    let broker = Broker::start();
    kafka(&broker).create_topic("readings", 1).unwrap();
    let http = broker.http();
    let transform = |words: &[&str]| {
        broker.cli(&[&["transform", "--http", &http][..], words].concat()).expect_success()
    };
    transform(&["init", "hot"]);
    let source = Path::new(&broker.file("here", b"")).with_file_name("hot/src/lib.rs");
    let made = std::fs::read_to_string(&source).unwrap_or_else(|e| panic!("{source:?}: {e}"));
    assert_eq!(made, block("rust", "impl Transform for Hot"));
    transform(&["build", "hot"]);
    transform(&["test", "hot"]);
    transform(&["deploy", "hot", "--module", "hot", "--topic", "readings", "--set", "above=60"]);
    let values: [&[u8]; 3] = [b"{\"celsius\":12}", b"{\"celsius\":71.5}", b"{\"fahrenheit\":99}"];
    let mut client = kafka(&broker);
    client.produce("readings", 0, &values).unwrap();
    let kept = client.read("readings", 0, 0).unwrap();
    assert_eq!(kept.iter().map(|record| record.text()).collect::<Vec<_>>(), ["{\"celsius\":71.5}"]);
    let letters = client.read("readings.dead-letter", 0, 0).unwrap();
    assert_eq!(letters.len(), 1);
    let error = letters[0].header("millpond.error").unwrap_or_default();
    assert!(error.contains("no celsius"), "{error}");
}
