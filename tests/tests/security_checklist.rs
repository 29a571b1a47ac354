//! The security checklist as a test: each threat that `firmware-notes/security.md` names has tests that are
//! there; and what only a whole node shows: what it listens on by default, slow readers, quotas by the clients
//! that people have, versions of what it is built from. Must never name a test that does not exist.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::{Duration, Instant};

use millpond_tests::binary::repository;
use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::clients::python_home;
use millpond_tests::command::Program;
use millpond_tests::kafka::Kafka;
use millpond_wire::F64;
use millpond_wire::frame::encode_request;
use millpond_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::{AlterClientQuotasRequest, FetchRequest, Request, Response};

const STORY_TIME: Duration = Duration::from_secs(120);

/// The rows of the tables: threat, what is done, tests.
fn rows() -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(repository().join("firmware-notes/security.md"));
    let text = text.expect("firmware-notes/security.md");
    let cells = |line: &str| {
        let inner = line.strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<String> = inner.split('|').map(|cell| cell.trim().to_owned()).collect();
        <[String; 3]>::try_from(cells).ok()
    };
    let rows = text.lines().filter_map(cells);
    rows.filter(|row| row[0] != "Threat" && !row[0].starts_with("---")).collect()
}

/// The texts between backticks that name a test: `path/of/file.rs::name`.
fn named(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    cell.split('`')
        .filter_map(|text| text.split_once("::"))
        .filter(|(file, _)| file.ends_with(".rs"))
}

#[test]
fn every_threat_that_is_named_has_tests_and_they_are_there() {
    let rows = rows();
    assert!(rows.len() > 60, "{} rows", rows.len());
    let mut missing = Vec::new();
    for [threat, _, tests] in &rows {
        if named(tests).next().is_none() {
            missing.push(format!("{threat}: no test"));
        }
        for (file, name) in named(tests) {
            let text = std::fs::read_to_string(repository().join(file)).unwrap_or_default();
            if !text.contains(&format!("fn {name}(")) {
                missing.push(format!("{threat}: {file}::{name} is not there"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Each advisory of the list has its row: none is forgotten when the tables are written anew.
#[test]
fn every_advisory_that_is_to_be_replayed_has_its_row() {
    let threats: Vec<String> = rows().into_iter().map(|[threat, _, _]| threat).collect();
    for advisory in [
        "CVE-2017-12610",
        "CVE-2018-1288",
        "CVE-2018-17196",
        "CVE-2021-38153",
        "CVE-2022-34917",
        "CVE-2023-34455",
        "CVE-2024-27309",
        "CVE-2024-56128",
        "CVE-2025-27817",
        "CVE-2025-27818",
        "CVE-2026-35554",
        "CVE-2023-50976",
        "CVE-2023-30450",
        "CVE-2023-24619",
    ] {
        let has = threats.iter().any(|threat| threat.contains(advisory));
        assert!(has, "{advisory} has no row in firmware-notes/security.md");
    }
}

fn version(text: &str) -> Vec<u64> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// RustSec advisories that versions before these have; and what is never linked.
#[test]
fn nothing_with_a_known_advisory_is_built_in() {
    let lock = std::fs::read_to_string(repository().join("Cargo.lock")).expect("Cargo.lock");
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")))?;
        line.strip_suffix('"').map(str::to_owned)
    };
    let built: Vec<(String, String)> = lock
        .split("[[package]]")
        .filter_map(|block| Some((field(block, "name")?, field(block, "version")?)))
        .collect();
    assert!(built.len() > 100, "{} packages", built.len());
    for (name, least) in [
        ("quinn-proto", "0.11.15"),
        ("rustls", "0.23.18"),
        ("rustls-webpki", "0.103.13"),
        ("wasmtime", "48.0.3"),
        ("lz4_flex", "0.12.1"),
        ("ring", "0.17.12"),
    ] {
        let of_name: Vec<&String> =
            built.iter().filter(|one| one.0 == name).map(|one| &one.1).collect();
        assert!(!of_name.is_empty(), "{name} is not built in any more: take it off this list");
        for found in of_name {
            assert!(version(found) >= version(least), "{name} {found}: {least} at the least");
        }
    }
    for never in ["wasmtime-wasi", "protobuf", "rustls-pemfile", "bincode", "openssl", "raft"] {
        assert!(built.iter().all(|(name, _)| name != never), "{never} is not to be linked");
    }
}

/// Addresses on which a process listens or takes datagrams, as the kernel tells.
fn listens(broker: &Broker) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // Listening TCP is state 0A; a bound UDP socket is 07.
    for (file, state) in
        [("net/tcp", "0A"), ("net/tcp6", "0A"), ("net/udp", "07"), ("net/udp6", "07")]
    {
        for line in broker.of_process(file).lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(at)) = (words.get(1), words.get(3)) else { continue };
            let Some((address, port)) = local.split_once(':') else { continue };
            let Ok(port) = u16::from_str_radix(port, 16) else { continue };
            if *at == state
                && (port == broker.kafka().port() || broker.http().ends_with(&format!(":{port}")))
            {
                found.insert(address.to_owned());
            }
        }
    }
    found
}

#[test]
fn the_default_configuration_listens_on_this_machine_only() {
    let broker = Setup::without_config().start();
    let here = listens(&broker);
    assert!(!here.is_empty(), "it listens");
    for address in here {
        let is_here = match address.len() {
            8 => {
                let number = u32::from_str_radix(&address, 16).unwrap_or_default();
                Ipv4Addr::from(number.to_le_bytes()).is_loopback()
            }
            _ => {
                let number = u128::from_str_radix(&address, 16).unwrap_or_default();
                let words: Vec<u8> = number
                    .to_be_bytes()
                    .chunks(4)
                    .flat_map(|w| w.iter().rev().copied().collect::<Vec<_>>())
                    .collect();
                <[u8; 16]>::try_from(words).is_ok_and(|bytes| Ipv6Addr::from(bytes).is_loopback())
            }
        };
        assert!(is_here, "{address} is seen by other machines");
    }
    let known = broker.cli(&["user", "list", "-b", &broker.bootstrap(), "--json"]).expect_success();
    assert_eq!(known.trim(), "[]", "nobody is known who was not made");
}

/// A reader that asks for much and takes nothing is cut off, and the log says why; what it asked for takes no
/// more memory than answers may, and others read on.
#[test]
fn readers_that_take_nothing_are_cut_off_and_cost_others_nothing() {
    let broker = Setup::default()
        .config("\n[limits]\nwrite_ms = 500\nanswer_bytes_in_flight_max = \"4MiB\"\n")
        .start();
    let mut client = Kafka::connect(broker.kafka(), PATIENCE).expect("connected");
    client.create_topic("large", 1).expect("created");
    let value = vec![7_u8; 900 << 10];
    for _ in 0..8 {
        client.produce("large", 0, &[&value]).expect("stored");
    }
    let before = broker.resident_bytes();
    let fetch = || {
        let partition = FetchPartition { partition_max_bytes: 8 << 20, ..Default::default() };
        let topic =
            FetchTopic { topic: "large".into(), partitions: vec![partition], ..Default::default() };
        let request =
            FetchRequest { max_bytes: 8 << 20, topics: vec![topic], ..Default::default() };
        encode_request(11, 1, Some("greedy"), &Request::Fetch(request)).expect("a frame").concat()
    };
    let mut greedy = Vec::new();
    for _ in 0..12 {
        let mut stream = TcpStream::connect(broker.kafka()).expect("connected");
        // What a kernel keeps for a reader is more than one answer.
        stream.write_all(&fetch().repeat(16)).expect("sent");
        greedy.push(stream);
    }
    let said = broker.log().wait_for("does not take its answers", PATIENCE);
    assert!(said.is_some(), "the log does not say that somebody takes nothing");
    let give_up = Instant::now() + PATIENCE;
    // They are cut off one after the other, as room comes free; the client reads on beside them.
    while client.read("large", 0, 7).map(|records| records.len()).unwrap_or_default() != 1 {
        assert!(Instant::now() < give_up, "a good reader gets nothing");
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {} MiB", grown >> 20);
    drop(greedy);
}

fn set_quota(client: &mut Kafka, client_id: &str, key: &str, value: f64) {
    let part =
        EntityData { entity_type: "client-id".to_owned(), entity_name: Some(client_id.to_owned()) };
    let op = OpData { key: key.to_owned(), value: F64::from(value), remove: false };
    let entries = vec![EntryData { entity: vec![part], ops: vec![op] }];
    let request = AlterClientQuotasRequest { entries, validate_only: false };
    let answer = client.call(1, Request::AlterClientQuotas(request)).expect("an answer");
    let Response::AlterClientQuotas(answer) = answer else { panic!("{answer:?}") };
    assert_eq!(answer.entries[0].error_code, 0, "{:?}", answer.entries[0].error_message);
}

/// KIP-124 as kafka-python meets it: the noisy client is held back, the other one is not.
#[test]
fn a_noisy_client_is_held_to_its_share_of_requests_and_a_quiet_one_notices_nothing() {
    let broker = Broker::start();
    let mut client = Kafka::connect(broker.kafka(), PATIENCE).expect("connected");
    client.create_topic("t", 1).expect("created");
    // A microsecond in each second: less than any request takes, on any machine.
    set_quota(&mut client, "noisy", "request_percentage", 0.0001);
    let (python, scripts) = python_home();
    let script = scripts.join("quota_stories.py");
    let address = broker.kafka().to_string();
    let words = [script.as_os_str(), "noisy_and_quiet".as_ref(), address.as_ref()];
    let outcome = Program::new(python, words).run(STORY_TIME);
    assert!(outcome.succeeded(), "{outcome}");
    assert!(broker.metric("millpond_requests_throttled_total").unwrap_or_default() > 0.0);
}
