//! Modules on the produce path, deployed as a person does: what a filter leaves, what each failure
//! policy does to a record that its module loops, traps, eats memory or lies on, and that nobody
//! else notices.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millpond_guests as guests;
use millpond_tests::bomb::bomb;
use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::kafka::{CallError, Found, Kafka};
use millpond_wire::record::{BatchBuilder, Codec};

#[track_caller]
fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

/// `millpond transform deploy NAME --module FILE --topic TOPIC MORE...`
#[track_caller]
fn deploy(broker: &Broker, name: &str, module: &[u8], topic: &str, more: &[&str]) {
    let file = broker.file(&format!("{name}.wasm"), module);
    let http = broker.http();
    let words = ["transform", "--http", &http, "deploy", name, "--module", &file, "--topic", topic];
    broker.cli(&[&words[..], more].concat()).expect_success();
}

/// `millpond transform WORDS...`
#[track_caller]
fn transform(broker: &Broker, words: &[&str]) -> String {
    let http = broker.http();
    broker.cli(&[&["transform", "--http", &http][..], words].concat()).expect_success()
}

fn texts(found: &[Found]) -> Vec<String> {
    found.iter().map(Found::text).collect()
}

fn celsius(degrees: i32) -> String {
    format!("{{\"device\":\"pump-1\",\"celsius\":{degrees}}}")
}

const ABOVE_70: [&str; 4] = ["--set", "field=celsius", "--set", "min=70"];

#[test]
fn a_filter_keeps_what_is_wanted_and_the_rest_takes_no_offset() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("readings", 1).unwrap();
    deploy(&broker, "hot", guests::THRESHOLD, "readings", &ABOVE_70);
    let values: Vec<String> = (60..80).map(celsius).collect();
    let bytes: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    let offset = client.produce("readings", 0, &bytes).unwrap();
    assert_eq!(offset, -1, "no offset to tell: the module changed the batch");
    let found = client.read("readings", 0, 0).unwrap();
    assert_eq!(texts(&found), values[10..]);
    let offsets: Vec<i64> = found.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..10).collect::<Vec<i64>>(), "what was dropped took no offset");
    // A batch of which nothing is left is accepted all the same.
    assert_eq!(client.produce("readings", 0, &[celsius(3).as_bytes()]).unwrap(), -1);
    assert_eq!(client.list_offset("readings", 0, -1).unwrap(), 10);
}

#[test]
fn a_batch_that_the_module_leaves_alone_is_stored_byte_for_byte() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("untouched", 1).unwrap();
    deploy(&broker, "hot", guests::THRESHOLD, "untouched", &ABOVE_70);
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(codec, None);
        for degrees in 70..90 {
            let value = celsius(degrees);
            builder.push(1_700_000_000_000, Some(b"k"), Some(value.as_bytes()), &[]).unwrap();
        }
        let sent = builder.build().unwrap();
        let offset = client.produce_bytes("untouched", 0, sent.clone()).unwrap();
        assert!(offset >= 0, "an untouched batch has an offset");
        let stored = client.fetch_bytes("untouched", 0, offset).unwrap();
        // The base offset and the leader epoch are the broker's; the length, the CRC and all that
        // the CRC covers are the producer's.
        assert_eq!(stored.slice(8..12), sent.slice(8..12), "{codec:?}");
        assert_eq!(stored.slice(16..sent.len()), sent.slice(16..), "{codec:?}");
    }
}

#[test]
fn a_transform_is_in_force_after_kill_9_and_gone_after_its_deletion() {
    let mut broker = Broker::start();
    kafka(&broker).create_topic("readings", 1).unwrap();
    deploy(&broker, "hot", guests::THRESHOLD, "readings", &ABOVE_70);
    broker.restart();
    let mut client = kafka(&broker);
    client.produce("readings", 0, &[celsius(5).as_bytes(), celsius(75).as_bytes()]).unwrap();
    assert_eq!(texts(&client.read("readings", 0, 0).unwrap()), [celsius(75)]);
    assert!(transform(&broker, &["list"]).contains("hot"));
    transform(&broker, &["describe", "hot"]);
    transform(&broker, &["logs", "hot"]);
    transform(&broker, &["delete", "hot"]);
    assert_eq!(client.produce("readings", 0, &[celsius(5).as_bytes()]).unwrap(), 1);
    broker.restart();
    assert_eq!(kafka(&broker).produce("readings", 0, &[celsius(6).as_bytes()]).unwrap(), 2);
}

/// All of a partition's records, once there are so many.
fn read_many(broker: &Broker, topic: &str, count: usize) -> Vec<String> {
    let (begun, mut client) = (Instant::now(), kafka(broker));
    loop {
        let end = client.list_offset(topic, 0, -1).unwrap();
        if end >= count as i64 {
            return texts(&client.read(topic, 0, 0).unwrap());
        }
        assert!(begun.elapsed() < PATIENCE, "{end} of {count} records in {topic}");
        // Waits for more.
        client.fetch_bytes(topic, 0, end).unwrap();
    }
}

#[test]
fn what_is_derived_is_there_once_and_in_order_over_kill_9() {
    let mut broker = Broker::start();
    kafka(&broker).create_topic("raw", 1).unwrap();
    kafka(&broker).create_topic("hot", 1).unwrap();
    // Some of it was there before.
    let mut expected = Vec::new();
    for round in 0..6 {
        let mut client = kafka(&broker);
        for batch in 0..40 {
            let degrees = [round * 40 + batch, 70 + round * 40 + batch];
            let values = degrees.map(celsius);
            client.produce("raw", 0, &[values[0].as_bytes(), values[1].as_bytes()]).unwrap();
            expected.extend(degrees.into_iter().filter(|degrees| *degrees >= 70).map(celsius));
        }
        if round == 0 {
            let more = ["--derive", "--from", "earliest", "--output", "hot"];
            deploy(&broker, "hot", guests::THRESHOLD, "raw", &[&ABOVE_70[..], &more].concat());
        }
        // Wherever the transform is by now.
        broker.kill();
        broker.restart();
    }
    assert_eq!(read_many(&broker, "hot", expected.len()), expected);
    assert_eq!(kafka(&broker).list_offset("raw", 0, -1).unwrap(), 480, "the source is as it was");
    assert!(transform(&broker, &["describe", "hot"]).contains("derive"));
    transform(&broker, &["delete", "hot"]);
}

#[test]
fn what_is_not_a_module_is_refused_with_words_and_changes_nothing() {
    let broker = Broker::start();
    kafka(&broker).create_topic("readings", 1).unwrap();
    let file = broker.file("not.wasm", b"\0asm\x01\0\0\0 and then prose");
    let http = broker.http();
    let words = ["transform", "--http", &http, "deploy", "bad", "--module", &file];
    let said = broker.cli(&[&words[..], &["--topic", "readings"]].concat()).expect_failure();
    assert!(said.contains("error"), "{said}");
    assert!(!transform(&broker, &["list"]).contains("bad"));
    assert_eq!(kafka(&broker).produce("readings", 0, &[b"plain"]).unwrap(), 0);
}

/// The files of compiled code in a broker's directory.
fn compiled(broker: &Broker) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(broker.data_dir().join("modules")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "code")).collect()
}

#[test]
fn what_was_compiled_is_kept_and_what_is_damaged_of_it_is_compiled_again() {
    let mut broker = Broker::start();
    kafka(&broker).create_topic("kept", 1).unwrap();
    deploy(&broker, "hot", guests::THRESHOLD, "kept", &ABOVE_70);
    let [code] = compiled(&broker).try_into().expect("one file");
    let whole = std::fs::read(&code).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&code, damaged).unwrap();
    broker.kill();
    broker.restart();
    let mut client = kafka(&broker);
    client.produce("kept", 0, &[celsius(99).as_bytes(), celsius(1).as_bytes()]).unwrap();
    assert_eq!(texts(&client.read("kept", 0, 0).unwrap()), [celsius(99)]);
    assert_eq!(std::fs::read(&code).unwrap(), whole, "written anew");
}

#[test]
fn a_module_that_the_compiler_cannot_end_with_is_refused_while_others_go_on() {
    let broker = Setup::default().config("[transforms]\ncompile_ms_max = 1000\n").start();
    let mut client = kafka(&broker);
    client.create_topic("calm", 1).unwrap();
    let file = broker.file("bomb.wasm", &guests::compile_bomb());
    let http = broker.http();
    let words = ["transform", "--http", &http, "deploy", "bomb", "--module", &file];
    let said = broker.cli(&[&words[..], &["--topic", "calm"]].concat()).expect_failure();
    assert!(said.contains("the compiler gave up on it"), "{said}");
    assert!(said.contains("transforms.compile_ms_max"), "{said}");
    assert!(compiled(&broker).is_empty());
    assert_eq!(client.produce("calm", 0, &[b"as ever"]).unwrap(), 0);
}

#[test]
fn a_module_of_ten_mebibytes_is_refused_and_leaves_nothing_while_others_go_on() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("calm", 1).unwrap();
    let mut module = guests::THRESHOLD.to_vec();
    module.resize(10 << 20, 0);
    let file = broker.file("large.wasm", &module);
    let http = broker.http();
    let words = ["transform", "--http", &http, "deploy", "large", "--module", &file];
    broker.cli(&[&words[..], &["--topic", "calm"]].concat()).expect_failure();
    // What is only just too large is read to its end, so that the answer arrives.
    let file = broker.file("larger.wasm", &vec![0; (8 << 20) + 1]);
    let words = ["transform", "--http", &http, "deploy", "large", "--module", &file];
    let refused = broker.cli(&[&words[..], &["--topic", "calm"]].concat()).expect_failure();
    assert!(refused.contains("larger than 8388608 bytes"), "{refused}");
    // The answer may be lost with a connection on which the node does not read on: what counts is
    // that nothing of it is there.
    broker.cli(&["transform", "--http", &http, "describe", "large"]).expect_failure();
    assert_eq!(std::fs::read_dir(broker.data_dir().join("modules")).unwrap().count(), 0);
    assert_eq!(client.produce("calm", 0, &[b"as ever"]).unwrap(), 0);
}

/// Each module, and a record that it behaves badly on.
fn hostile() -> [(&'static str, &'static [u8], &'static str); 7] {
    [
        ("loop", guests::HOSTILE_LOOP, "loop"),
        ("memory", guests::HOSTILE_MEMORY, "memory"),
        ("trap", guests::HOSTILE_TRAP, "trap"),
        ("panic", guests::HOSTILE_TRAP, "panic"),
        ("stack", guests::HOSTILE_TRAP, "stack"),
        ("lies", guests::HOSTILE_LIES, "lie output-pointer"),
        ("flood", guests::HOSTILE_FLOOD, FLOOD),
    ]
}

/// A thousand of it are more than any output may be that is so many times its input.
const FLOOD: &str = "flood: one record of a length that nobody minds, made a thousand times over";

/// Deploy every hostile module with a policy on a topic of its own, send it a good, a bad and a
/// good record in one batch, and hand over what the producer was told and what is kept.
fn with_policy(
    policy: &str,
    mut judge: impl FnMut(&Broker, &str, &str, Result<i64, CallError>, Vec<String>),
) {
    let mut broker = Broker::start();
    let mut client = kafka(&broker);
    for (name, module, bad) in hostile() {
        client.create_topic(name, 1).unwrap();
        let limits = ["--limit", "cpu_ms_per_batch=50", "--on-failure", policy];
        deploy(&broker, name, module, name, &limits);
        let told = client.produce(name, 0, &[b"good 1", bad.as_bytes(), b"good 2"]);
        let kept = texts(&client.read(name, 0, 0).unwrap());
        judge(&broker, name, bad, told, kept);
        broker.expect_alive();
    }
}

#[test]
fn skip_costs_a_hostile_module_its_own_record_only() {
    with_policy("skip", |_, name, _, told, kept| {
        assert!(told.is_ok(), "{name}: {told:?}");
        assert_eq!(kept, ["good 1", "good 2"], "{name}");
    });
}

#[test]
fn pass_keeps_the_record_that_a_hostile_module_failed_on_unchanged() {
    with_policy("pass", |_, name, bad, told, kept| {
        assert!(told.is_ok(), "{name}: {told:?}");
        assert_eq!(kept, ["good 1", bad, "good 2"], "{name}");
    });
}

#[test]
fn reject_refuses_the_whole_batch_and_keeps_nothing_of_it() {
    with_policy("reject", |_, name, _, told, kept| {
        assert!(matches!(told, Err(CallError::Code(_))), "{name}: {told:?}");
        assert!(kept.is_empty(), "{name}: {kept:?}");
    });
}

#[test]
fn a_dead_letter_holds_the_original_record_and_says_what_happened() {
    with_policy("dead-letter", |broker, name, bad, told, kept| {
        assert!(told.is_ok(), "{name}: {told:?}");
        assert_eq!(kept, ["good 1", "good 2"], "{name}");
        let letters = kafka(broker).read(&format!("{name}.dead-letter"), 0, 0).unwrap();
        assert_eq!(texts(&letters), [bad], "{name}");
        let header = |key| letters[0].header(key).unwrap_or_default();
        assert!(!header("millpond.error").is_empty(), "{name}: {letters:?}");
        assert_eq!(header("millpond.transform"), name);
        assert_eq!(header("millpond.version"), "1");
        assert_eq!(header("millpond.topic"), name);
        assert_eq!(header("millpond.partition"), "0");
    });
}

#[test]
fn a_decompression_bomb_on_a_transformed_topic_is_refused_and_costs_no_memory() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("bombed", 1).unwrap();
    deploy(&broker, "hot", guests::THRESHOLD, "bombed", &ABOVE_70);
    let before = broker.resident_bytes();
    for codec in [Codec::Gzip, Codec::Zstd, Codec::Lz4] {
        let told = client.produce_bytes("bombed", 0, bomb(codec));
        assert!(told.is_err(), "{codec:?}: {told:?}");
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "memory grew by {} MiB", grown >> 20);
    assert_eq!(client.list_offset("bombed", 0, -1).unwrap(), 0);
}

#[test]
fn another_topic_is_as_fast_while_a_module_loops() {
    let broker = Broker::start();
    let mut client = kafka(&broker);
    client.create_topic("calm", 1).unwrap();
    client.create_topic("storm", 1).unwrap();
    p99(&mut client, "calm", 50);
    let alone = p99(&mut client, "calm", 400);
    let limits = ["--limit", "cpu_ms_per_batch=100", "--on-failure", "skip"];
    deploy(&broker, "loop", guests::HOSTILE_LOOP, "storm", &limits);
    let stop = Arc::new(AtomicBool::new(false));
    let storm = {
        let (stop, mut client) = (stop.clone(), kafka(&broker));
        std::thread::spawn(move || {
            let mut batches = 0;
            while !stop.load(Ordering::Relaxed) {
                client.produce("storm", 0, &[b"loop", b"loop", b"fine"])?;
                batches += 1;
            }
            Ok::<u32, CallError>(batches)
        })
    };
    let beside = p99(&mut client, "calm", 400);
    stop.store(true, Ordering::Relaxed);
    let batches = storm.join().expect("the storm").expect("the storm is answered");
    assert!(batches > 0, "the storm never blew");
    // Generous: this machine does other things too. A wait behind a looping module would be 100 ms.
    let allowed = (alone * 5).max(Duration::from_millis(50));
    assert!(beside <= allowed, "p99 alone {alone:?}, beside a looping module {beside:?}");
}

/// The 99th percentile of acknowledged single produces.
fn p99(client: &mut Kafka, topic: &str, count: usize) -> Duration {
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let begun = Instant::now();
            client.produce(topic, 0, &[b"tick"]).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[count * 99 / 100]
}
