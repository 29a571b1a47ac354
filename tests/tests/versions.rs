//! Versions of a transform on a node that is producing: canaries, promotion, alteration, rolling
//! back and deleting lose and double nothing, and each record was handled by one version, which the
//! log names. And the HTTP routes are those that the node's own document says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use millpond_guests as guests;
use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::kafka::Kafka;
use serde_json::Value;

const PARTITIONS: usize = 4;

fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

/// `millpond transform WORDS...`
#[track_caller]
fn transform(broker: &Broker, words: &[&str]) -> String {
    let http = broker.http();
    broker.cli(&[&["transform", "--http", &http][..], words].concat()).expect_success()
}

/// A version that writes its own name into each record.
#[track_caller]
fn deploy(broker: &Broker, version: &str, more: &[&str]) {
    let module = broker.file("stamp.wasm", guests::PROJECTION);
    let fields = format!("fields=n as {version}");
    let words = ["deploy", "stamp", "--module", &module, "--topic", "t", "--set", &fields];
    transform(broker, &[&words[..], &["--version", version], more].concat());
}

/// A thread that numbers records from 0 and sends them, two at a time, to one partition after the
/// other; each is sent once.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<usize>,
}

impl Load {
    fn start(broker: &Broker) -> Load {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (mut client, ours, count) = (kafka(broker), Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut next = 0;
            while !ours.load(Ordering::Relaxed) {
                let values: Vec<String> =
                    (next..next + 2).map(|n| format!("{{\"n\":{n}}}")).collect();
                let bytes: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
                let partition = next / 2 % PARTITIONS;
                client.produce("t", partition as i32, &bytes).expect("an ack");
                next += 2;
                count.store(next, Ordering::Relaxed);
            }
            next
        });
        Load { stop, sent, thread }
    }

    /// Until every partition got a few batches more.
    fn go_on(&self) {
        let enough = self.sent.load(Ordering::Relaxed) + 2 * PARTITIONS * 5;
        while self.sent.load(Ordering::Relaxed) < enough && !self.thread.is_finished() {
            std::thread::yield_now();
        }
    }

    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every batch was acknowledged")
    }
}

/// A record's number and the version that it passed ("n": none).
fn stamped(text: &str) -> (String, usize) {
    let value: BTreeMap<String, usize> = serde_json::from_str(text).expect("a JSON object");
    value.into_iter().next().expect("a field")
}

#[test]
fn versions_come_and_go_under_load_and_no_record_is_lost_doubled_or_handled_by_two() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("t", PARTITIONS as i32).unwrap();
    let load = Load::start(&broker);
    load.go_on();
    let steps: [&dyn Fn(); 8] = [
        &|| deploy(&broker, "v1", &[]),
        &|| deploy(&broker, "v2", &["--canary", "50"]),
        &|| drop(transform(&broker, &["rollback", "stamp"])),
        &|| deploy(&broker, "v3", &["--canary", "25"]),
        &|| drop(transform(&broker, &["promote", "stamp"])),
        &|| {
            drop(transform(
                &broker,
                &["alter", "stamp", "--set", "fields=n as v4", "--version", "v4"],
            ))
        },
        &|| drop(transform(&broker, &["rollback", "stamp"])),
        &|| drop(transform(&broker, &["delete", "stamp"])),
    ];
    for step in steps {
        step();
        load.go_on();
    }
    let sent = load.finish();

    let (mut seen, mut eras) = (BTreeSet::new(), Vec::new());
    for partition in 0..PARTITIONS {
        let found = client.read("t", partition as i32, 0).unwrap();
        let records: Vec<(String, usize)> = found.iter().map(|r| stamped(&r.text())).collect();
        assert!(records.is_sorted_by_key(|(_, n)| *n), "partition {partition} keeps the order");
        for (_, n) in &records {
            assert!(seen.insert(*n), "record {n} is there twice");
        }
        let mut versions: Vec<&str> = records.iter().map(|(version, _)| version.as_str()).collect();
        versions.dedup();
        eras.push(versions.join(" "));
    }
    assert_eq!(seen, (0..sent).collect(), "every record is there");
    // Half of the partitions had the first canary, a quarter the second one.
    assert_eq!(
        eras,
        ["n v1 v2 v1 v3 v4 v3 n", "n v1 v2 v1 v3 v4 v3 n", "n v1 v3 v4 v3 n", "n v1 v3 v4 v3 n"]
    );
}

#[test]
fn the_log_says_from_which_input_on_another_version_has_a_partition() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("t", 1).unwrap();
    deploy(&broker, "v1", &[]);
    for n in 0..3 {
        client.produce("t", 0, &[format!("{{\"n\":{n}}}").as_bytes()]).unwrap();
    }
    transform(&broker, &["alter", "stamp", "--set", "fields=n as v2", "--version", "v2"]);
    client.produce("t", 0, &[b"{\"n\":3}"]).unwrap();
    let lines = transform(&broker, &["logs", "stamp"]);
    let said: Vec<&str> =
        lines.lines().filter_map(|line| line.split_once("[0] ")).map(|l| l.1).collect();
    assert_eq!(
        said,
        [
            "version v1 (deployment 1) has t-0 from input 0 on",
            "version v2 (deployment 2) has t-0 from input 3 on"
        ]
    );
}

#[test]
fn versions_survive_kill_9_and_a_canary_that_cannot_start_is_refused() {
    let mut broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("t", 2).unwrap();
    deploy(&broker, "v1", &[]);
    deploy(&broker, "v2", &["--canary", "50"]);
    let http = broker.http();
    let module = broker.file("stamp.wasm", guests::PROJECTION);
    let words = ["transform", "--http", &http, "deploy", "stamp", "--module", &module];
    let refused = broker.cli(&[&words[..], &["--topic", "t", "--canary", "10"]].concat());
    assert!(refused.expect_failure().contains("fields"), "the module says what it wants");
    broker.kill();
    broker.restart();
    let mut client = kafka(&broker);
    for partition in 0..2 {
        client.produce("t", partition, &[b"{\"n\":1}"]).unwrap();
    }
    let texts: Vec<String> =
        (0..2).map(|partition| client.read("t", partition, 0).unwrap()[0].text()).collect();
    assert_eq!(texts, ["{\"v2\":1}", "{\"v1\":1}"]);
    transform(&broker, &["promote", "stamp"]);
    let shown: Value =
        serde_json::from_str(&transform(&broker, &["describe", "stamp", "--json"])).unwrap();
    assert_eq!(shown["description"]["version"], "v2");
    assert_eq!(shown["previous"]["version"], "v1");
}

/// What the node says that it allows at a path.
fn allowed(broker: &Broker, path: &str) -> BTreeSet<String> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false);
    let agent: ureq::Agent = config.build().into();
    let url = format!("{}{}", broker.http(), path.replace("{name}", "none"));
    let answer = agent.trace(&url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(answer.status(), 405, "{url}");
    let allow = answer.headers().get("allow").map(|value| value.to_str().unwrap().to_owned());
    let all = allow.unwrap_or_default();
    // HEAD comes with every GET.
    all.split(',').filter(|m| *m != "HEAD").map(str::to_ascii_lowercase).collect()
}

#[test]
fn the_http_routes_are_those_of_the_openapi_document() {
    let broker = Broker::start();
    let document: Value = serde_json::from_str(&broker.get("/v1/openapi.json")).unwrap();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 8);
    for (path, methods) in paths {
        let said: BTreeSet<String> = methods.as_object().unwrap().keys().cloned().collect();
        assert_eq!(allowed(&broker, path), said, "{path}");
    }
    for line in broker.get("/").lines().filter(|line| line.contains('/')) {
        let path = line.split_whitespace().nth(1).unwrap_or_default();
        assert!(paths.contains_key(path), "{line}");
    }
}

/// Modules that a node keeps on flash.
fn kept(broker: &Broker) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(broker.data_dir().join("modules")).unwrap();
    let paths = dir.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "wasm")).collect()
}

#[test]
fn the_module_of_the_previous_version_is_kept_for_a_roll_back_and_older_ones_are_not() {
    let mut broker = Broker::start();
    kafka(&broker).create_topic("t", 1).unwrap();
    for module in [guests::THRESHOLD, guests::ROUTE, guests::SPLIT] {
        let file = broker.file("m.wasm", module);
        let words = ["deploy", "stamp", "--module", &file, "--topic", "t", "--output", "u"];
        let settings =
            ["field=n", "cases=a=u", "separator=x", "min=0"].map(|s| ["--set", s]).concat();
        transform(&broker, &[&words[..], &settings].concat());
    }
    broker.stop();
    broker.restart();
    assert_eq!(kept(&broker).len(), 2);
    transform(&broker, &["rollback", "stamp"]);
    kafka(&broker).produce("t", 0, &[b"{\"n\":\"b\"}"]).unwrap();
}

#[test]
fn where_signatures_are_demanded_only_packages_of_a_trusted_key_come_in_and_none_older() {
    let plain = Broker::start();
    let key = |name: &str| {
        let file = plain.file(name, b"");
        std::fs::remove_file(&file).unwrap();
        (transform(&plain, &["keygen", &file]).trim().to_owned(), file)
    };
    let ((ours, own_key), (_, other_key)) = (key("own.pem"), key("other.pem"));
    let signed = |key: &str, name: &str, counter: &str| {
        let module = plain.file(&format!("{name}-{counter}.wasm"), guests::THRESHOLD);
        let words = ["sign", &module, "--key", key, "--name", name, "--counter", counter];
        transform(&plain, &[&words[..], &["--version", counter]].concat());
        module
    };
    let broker =
        Setup::default().config(&format!("[transforms]\ntrusted_keys = [\"{ours}\"]\n")).start();
    kafka(&broker).create_topic("t", 1).unwrap();
    let http = broker.http();
    let deploy = |module: &str| {
        let words = ["transform", "--http", &http, "deploy", "hot", "--module", module];
        broker.cli(&[&words[..], &["--topic", "t", "--set", "field=n", "--set", "min=1"]].concat())
    };
    let unsigned = plain.file("unsigned.wasm", guests::THRESHOLD);
    assert!(deploy(&unsigned).expect_failure().contains("not signed"));
    assert!(deploy(&signed(&other_key, "hot", "9")).expect_failure().contains("trusted_keys"));
    assert!(deploy(&signed(&own_key, "cold", "9")).expect_failure().contains("\"cold\""));
    let mut bytes = std::fs::read(signed(&own_key, "hot", "7")).unwrap();
    bytes[60] ^= 1;
    assert!(deploy(&plain.file("changed.wasm", &bytes)).expect_failure().contains("changed"));
    deploy(&signed(&own_key, "hot", "7")).expect_success();
    assert!(deploy(&signed(&own_key, "hot", "6")).expect_failure().contains("counter 6"));
    deploy(&signed(&own_key, "hot", "8")).expect_success();
    let shown: Value =
        serde_json::from_str(&transform(&broker, &["describe", "hot", "--json"])).unwrap();
    assert_eq!(shown["description"]["version"], "8", "the version is the signed one");
    transform(&broker, &["rollback", "hot"]);
    transform(&broker, &["alter", "hot", "--set", "min=2"]);
}

#[test]
fn a_version_that_fails_too_often_is_rolled_back_by_itself_and_loses_nothing() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("t", 2).unwrap();
    deploy(&broker, "v1", &[]);
    // It wants a field that no record has.
    let module = broker.file("strict.wasm", guests::THRESHOLD);
    let words = ["deploy", "stamp", "--module", &module, "--topic", "t", "--version", "v2"];
    let strict = ["--set", "field=kelvin", "--set", "min=1", "--limit", "rollback_min_records=20"];
    transform(&broker, &[&words[..], &strict, &["--canary", "50"]].concat());
    let mut sent = 0;
    let in_force = |broker: &Broker| -> Value {
        serde_json::from_str(&transform(broker, &["describe", "stamp", "--json"])).unwrap()
    };
    while in_force(&broker)["canary"].is_object() {
        assert!(sent < 2_000, "no roll-back after {sent} records");
        for partition in 0..2 {
            client.produce("t", partition, &[format!("{{\"n\":{sent}}}").as_bytes()]).unwrap();
            sent += 1;
        }
    }
    assert!(sent >= 40, "twenty records of the canary's partition must have been seen: {sent}");
    assert_eq!(in_force(&broker)["description"]["version"], "v1");
    client.produce("t", 0, &[b"{\"n\":9999}"]).unwrap();
    let mut seen: Vec<usize> = Vec::new();
    for (topic, partition) in [("t", 0), ("t", 1), ("t.dead-letter", 0), ("t.dead-letter", 1)] {
        let found = client.read(topic, partition, 0).unwrap_or_default();
        seen.extend(found.iter().map(|record| stamped(&record.text()).1));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..sent).chain([9_999]).collect::<Vec<_>>());
    let lines = transform(&broker, &["logs", "stamp"]);
    assert!(lines.contains("version v2") && lines.contains("rolled back"), "{lines}");
}

#[test]
fn where_no_code_may_be_made_an_interpreter_runs_the_same_modules() {
    let config = "[transforms]\nengine = \"interpreter\"\n";
    let mut broker = Setup::default().config(config).start();
    kafka(&broker).create_topic("t", 1).unwrap();
    deploy(&broker, "v1", &[]);
    kafka(&broker).produce("t", 0, &[b"{\"n\":1}"]).unwrap();
    broker.kill();
    broker.restart();
    let mut client = kafka(&broker);
    client.produce("t", 0, &[b"{\"n\":2}"]).unwrap();
    let found = client.read("t", 0, 0).unwrap();
    let texts: Vec<String> = found.iter().map(|record| record.text()).collect();
    assert_eq!(texts, ["{\"v1\":1}", "{\"v1\":2}"]);
}
