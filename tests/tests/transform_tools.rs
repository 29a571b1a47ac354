//! A module's way from an empty directory to a node, as its author walks it: a project, a build, its
//! cases, a try on recorded records, the deployment; and dead letters that go back once the module
//! is mended.

use std::path::{Path, PathBuf};
use std::time::Instant;

use millpond_guests as guests;
use millpond_tests::binary;
use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::kafka::Kafka;
use millpond_tests::running::Running;
use serde_json::{Value, json};

fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

/// `millpond transform WORDS...`
#[track_caller]
fn transform(broker: &Broker, words: &[&str]) -> String {
    let http = broker.http();
    broker.cli(&[&["transform", "--http", &http][..], words].concat()).expect_success()
}

#[track_caller]
fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A project made by `init`, with this source in place of the template's if there is one.
fn project(broker: &Broker, name: &str, source: Option<&str>) -> String {
    transform(broker, &["init", name]);
    let dir = home(broker).join(name);
    if let Some(source) = source {
        std::fs::write(dir.join("src/lib.rs"), source).unwrap();
    }
    transform(broker, &["build", name]);
    name.to_owned()
}

/// Where its commands run.
fn home(broker: &Broker) -> PathBuf {
    let file = broker.file("here", b"");
    Path::new(&file).parent().unwrap().to_owned()
}

#[test]
fn a_project_builds_at_once_passes_its_cases_and_runs_on_a_node() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("readings", 1).unwrap();
    let hot = project(&broker, "hot", None);
    let told = transform(&broker, &["test", &hot]);
    assert_eq!(told.matches("ok  ").count(), 3, "{told}");
    transform(&broker, &["deploy", "hot", "--module", &hot, "--topic", "readings"]);
    let records: [&[u8]; 2] = [b"{\"celsius\": 80.5}", b"{\"celsius\": 69}"];
    client.produce("readings", 0, &records).unwrap();
    let found = client.read("readings", 0, 0).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].text(), "{\"celsius\": 80.5}");
}

#[test]
fn a_case_that_fails_says_what_was_expected_and_what_came() {
    let broker = Broker::start();
    let hot = project(&broker, "cases", None);
    let cases = json!({ "cases": [{ "name": "all is kept", "records": [{ "value": "{}" }],
                                    "expect": [{ "value": "{}" }] }] });
    let file = broker.file("wrong.json", cases.to_string().as_bytes());
    let http = broker.http();
    let failed = broker.cli(&["transform", "--http", &http, "test", &hot, "--cases", &file]);
    let told = failed.expect_failure();
    for part in ["all is kept", "topic", "test.dead-letter", "1 of 1"] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

/// Keeps a random half of the records and adds a random number to each.
const DICE: &str = r#"
use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, register};

struct Dice;

impl Transform for Dice {
    fn new(_: &Settings) -> Result<Self, Failure> {
        Ok(Dice)
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let mut random = record.random();
        if random.next_u64() % 2 == 0 {
            return Ok(Verdict::Drop);
        }
        let value = format!("{} {:x}", record.timestamp_ms(), random.next_u64());
        Ok(out.replace_value(record, value.as_bytes()))
    }
}

register!(Dice);
"#;

#[test]
fn a_try_on_recorded_records_gives_what_the_node_stores_to_the_byte() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("raw", 3).unwrap();
    for partition in 0..3 {
        let values: Vec<String> = (0..40).map(|n| format!("reading {n}")).collect();
        let bytes: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        client.produce("raw", partition, &bytes).unwrap();
    }
    let bootstrap = broker.bootstrap();
    let words = ["consume", "raw", "-f", "-n", "120", "--json", "--bootstrap", &bootstrap];
    let recorded = broker.cli(&words).expect_success();
    let file = broker.file("recorded.jsonl", recorded.as_bytes());
    let dice = project(&broker, "dice", Some(DICE));

    // Production: the same records go to a topic of the same name, through the module.
    client.delete_topic("raw").unwrap();
    client.create_topic("raw", 3).unwrap();
    transform(&broker, &["deploy", "dice", "--module", &dice, "--topic", "raw"]);
    let mut stored: Vec<(i32, i64, Vec<u8>)> = Vec::new();
    for partition in 0..3_i32 {
        let own = recorded.lines().map(as_json).filter(|r| r["partition"] == partition);
        for chunk in own.collect::<Vec<_>>().chunks(7) {
            let mut builder =
                millpond_wire::record::BatchBuilder::new(millpond_wire::record::Codec::Lz4, None);
            for record in chunk {
                let (at, value) = (record["timestamp_ms"].as_i64(), record["value"].as_str());
                builder.push(at.unwrap(), None, value.map(str::as_bytes), &[]).unwrap();
            }
            client.produce_bytes("raw", partition, builder.build().unwrap()).unwrap();
        }
        let found = client.read("raw", partition, 0).unwrap();
        stored
            .extend(found.into_iter().map(|r| (partition, r.timestamp_ms, r.text().into_bytes())));
    }
    assert!((30..90).contains(&stored.len()), "about half of 120: {}", stored.len());

    let words = ["try", "--name", "dice", "--module", &dice, "--records", &file];
    let tried = as_json(&transform(&broker, &[&words[..], &["--show", "1000", "--json"]].concat()));
    let mut said: Vec<(i32, i64, Vec<u8>)> = Vec::new();
    for difference in tried["differences"].as_array().unwrap() {
        let partition = difference["record"]["partition"].as_i64().unwrap() as i32;
        for record in difference["after"].as_array().unwrap() {
            let (at, value) = (record["timestamp_ms"].as_i64(), record["value"].as_str());
            said.push((partition, at.unwrap(), value.unwrap().as_bytes().to_vec()));
        }
    }
    assert_eq!(said, stored);
    assert_eq!(tried["stored"]["raw"], stored.len());
}

#[test]
fn a_try_against_the_version_in_force_shows_only_what_becomes_different() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("readings", 1).unwrap();
    let records: [&[u8]; 3] = [b"{\"n\": 1}", b"{\"n\":2}", b"no object"];
    client.produce("readings", 0, &records).unwrap();
    let (new, old) =
        (broker.file("new.wasm", guests::PROJECTION), broker.file("old.wasm", guests::SPLIT));
    let bootstrap = broker.bootstrap();
    let words = ["try", "--module", &new, "--against", &old, "--topic", "readings"];
    let settings = ["--set", "fields=n", "--set", "separator=x", "--bootstrap", &bootstrap];
    let told = transform(&broker, &[&words[..], &settings].concat());
    assert!(
        told.contains("readings-0 at 0\n  - \"{\\\"n\\\": 1}\"\n  + \"{\\\"n\\\":1}\""),
        "{told}"
    );
    assert!(!told.contains("readings-0 at 1"), "it comes out of both alike: {told}");
    assert!(told.contains("(readings.dead-letter)"), "{told}");
    assert_eq!(client.list_offset("readings", 0, -1).unwrap(), 3, "nothing was written");
}

#[test]
fn dead_letters_go_back_as_they_were_once_the_module_is_mended_and_only_once() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("readings", 2).unwrap();
    let module = broker.file("m.wasm", guests::THRESHOLD);
    let words = ["deploy", "hot", "--module", &module, "--topic", "readings"];
    let strict = ["--set", "field=celsius", "--set", "min=70", "--set", "missing=error"];
    transform(&broker, &[&words[..], &strict].concat());
    for partition in 0..2 {
        let values: [&[u8]; 2] = [b"{\"celsius\": 90}", b"{\"kelvin\": 363}"];
        client.produce("readings", partition, &values).unwrap();
    }
    transform(&broker, &["alter", "hot", "--set", "missing=keep"]);
    let bootstrap = broker.bootstrap();
    let replay = |more: &[&str]| {
        let words = ["replay", "readings.dead-letter", "--bootstrap", &bootstrap];
        transform(&broker, &[&words[..], more].concat())
    };
    assert!(replay(&["--dry-run"]).contains("2 records would be written"));
    assert!(replay(&["--count", "1"]).contains("1 records written"));
    assert!(replay(&[]).contains("1 records written"));
    assert!(replay(&[]).contains("0 records written"));
    for partition in 0..2 {
        let found = client.read("readings", partition, 0).unwrap();
        let texts: Vec<String> = found.iter().map(|record| record.text()).collect();
        assert_eq!(texts, ["{\"celsius\": 90}", "{\"kelvin\": 363}"], "partition {partition}");
        assert_eq!(found[1].header("millpond.error"), None, "as it was");
    }
}

/// Waits until it says so.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_description_says_of_each_lane_where_it_stands_what_failed_and_who_paused_it() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("raw", 2).unwrap();
    let module = broker.file("trap.wasm", guests::HOSTILE_TRAP);
    let words = ["deploy", "strict", "--module", &module, "--topic", "raw", "--derive"];
    let more = ["--output", "out", "--from", "earliest", "--on-failure", "reject"];
    transform(&broker, &[&words[..], &more].concat());
    client.produce("raw", 0, &[b"good"]).unwrap();
    client.produce("raw", 1, &[b"trap"]).unwrap();
    let lanes = || {
        let shown = as_json(&transform(&broker, &["describe", "strict", "--json"]));
        let lanes = shown["lanes"].as_array().cloned().unwrap_or_default();
        assert_eq!(lanes.len(), 2, "{shown}");
        lanes
    };
    until("one goes on, the other fails", || {
        lanes()[0]["next_offset"] == 1 && lanes()[1]["state"] == "failing"
    });
    let failing = &lanes()[1];
    assert!(failing["fault"].as_str().is_some_and(|fault| fault.contains("strict")), "{failing}");
    assert_eq!((&failing["lag"], &failing["next_offset"]), (&json!(1), &json!(0)));
    let told = transform(&broker, &["describe", "strict"]);
    assert!(told.contains("raw-0 waiting, next 1, 0 behind"), "{told}");
    assert!(told.contains("failures in a row"), "{told}");
    transform(&broker, &["pause", "strict"]);
    assert!(lanes().iter().all(|lane| lane["state"] == "paused"));
}

#[test]
fn whoever_follows_a_log_sees_what_comes_after_the_node_has_started_again() {
    let mut broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("raw", 3).unwrap();
    let module = broker.file("split.wasm", guests::SPLIT);
    transform(&broker, &["deploy", "lines", "--module", &module, "--topic", "raw"]);
    for partition in 0..3 {
        client.produce("raw", partition, &[b"a"]).unwrap();
    }
    let http = broker.http();
    let words = ["transform", "--http", &http, "logs", "lines", "--follow"];
    let follower = Running::start("the follower", binary::millpond(), words);
    let told = || {
        let text = follower.log().text();
        text.lines().filter(|line| line.contains("raw-")).map(str::to_owned).collect::<Vec<_>>()
    };
    until("what was said before", || told().len() == 3);
    broker.kill();
    broker.restart();
    // One line of the new start: its number is less than those that were seen.
    kafka(&broker).produce("raw", 1, &[b"b"]).unwrap();
    until("what is said after the start", || told().len() == 4);
    assert!(told().last().is_some_and(|line| line.contains("raw-1")));
}
