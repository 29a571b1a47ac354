//! Aggregates at the edge, end to end: a shipped module that keeps state, in a node that is killed
//! wherever it is. Every window's count and mean is there once and is what a model says that knows
//! nothing of windows.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use millpond_guests as guests;
use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::kafka::{Kafka, now_ms};
use millpond_wire::record::{BatchBuilder, Codec};

const PARTITIONS: i32 = 2;
const WINDOW_MS: i64 = 1_000;
/// When the records begin.
const EPOCH_MS: i64 = 1_700_000_000_000;

fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

/// `millpond transform deploy mean --module window-mean ... MORE`
#[track_caller]
fn deploy(broker: &Broker, more: &[&str]) {
    let module = broker.file("mean.wasm", guests::WINDOW_MEAN);
    let http = broker.http();
    let words = ["transform", "--http", &http, "deploy", "mean", "--module", &module];
    let settings = ["--topic", "raw", "--set", "field=celsius", "--set", "window_ms=1000"];
    broker.cli(&[&words[..], &settings, more].concat()).expect_success();
}

/// Readings of three devices on two partitions, and what a model makes of them.
#[derive(Default)]
struct Feed {
    sent: i64,
    /// Sum and count by device and window.
    model: BTreeMap<(String, i64), (i64, i64)>,
}

impl Feed {
    /// One batch of four records, acknowledged.
    fn send(&mut self, client: &mut Kafka) {
        let partition = (self.sent / 4) as i32 % PARTITIONS;
        let mut builder = BatchBuilder::new(Codec::Lz4, None);
        for _ in 0..4 {
            let n = self.sent;
            self.sent += 1;
            // A device stays on its partition; time goes on by 30 ms a record, with some disorder.
            let device = format!("pump-{partition}-{}", n % 3);
            let at_ms = EPOCH_MS + n * 30 - n % 4 * 40;
            let degrees = (n * 37) % 90;
            let entry = self.model.entry((device.clone(), at_ms.div_euclid(WINDOW_MS)));
            let (sum, count) = entry.or_default();
            (*sum, *count) = (*sum + degrees, *count + 1);
            let value = format!("{{\"celsius\":{degrees}}}");
            builder.push(at_ms, Some(device.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
        }
        client.produce_bytes("raw", partition, builder.build().unwrap()).unwrap();
    }

    /// A record in each partition, so late that all windows before it are closed; its own is not.
    fn close(&mut self, client: &mut Kafka) {
        for partition in 0..PARTITIONS {
            let mut builder = BatchBuilder::new(Codec::None, None);
            let at_ms = EPOCH_MS + self.sent * 30 + 3_600_000;
            builder.push(at_ms, Some(b"end"), Some(b"{\"celsius\":0}"), &[]).unwrap();
            client.produce_bytes("raw", partition, builder.build().unwrap()).unwrap();
        }
    }

    /// The lines that must be there, sorted.
    fn expected(&self) -> Vec<String> {
        let line = |((device, window), (sum, count)): (&(String, i64), &(i64, i64))| {
            let mean = *sum as f64 / *count as f64;
            format!("{device} {} {count} {mean:.6}", window * WINDOW_MS)
        };
        let mut lines: Vec<String> = self.model.iter().map(line).collect();
        lines.sort();
        lines
    }
}

/// What stands in a topic of means, sorted.
fn means(client: &mut Kafka, topic: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for partition in 0..PARTITIONS {
        for record in client.read(topic, partition, 0).unwrap_or_default() {
            let value: serde_json::Value = serde_json::from_str(&record.text()).unwrap();
            let device =
                String::from_utf8_lossy(record.key.as_ref().unwrap_or(&Bytes::new())).into_owned();
            let (start, count) =
                (value["start"].as_i64().unwrap(), value["count"].as_i64().unwrap());
            lines.push(format!("{device} {start} {count} {:.6}", value["mean"].as_f64().unwrap()));
        }
    }
    lines.sort();
    lines
}

/// Waits for so many means, and a moment of nothing more.
fn all_means(broker: &Broker, topic: &str, count: usize) -> Vec<String> {
    let begun = Instant::now();
    let mut client = kafka(broker);
    loop {
        let found = means(&mut client, topic);
        if found.len() >= count {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {count} means came", found.len());
    }
}

#[test]
fn means_per_device_and_window_are_exact_over_kill_9_where_records_are_produced() {
    let mut broker = Broker::start();
    kafka(&broker).create_topic("raw", PARTITIONS).unwrap();
    deploy(&broker, &["--output", "means", "--set", "topic=means", "--set", "lateness_ms=200"]);
    let mut feed = Feed::default();
    for round in 0..5 {
        let mut client = kafka(&broker);
        for _ in 0..23 + round {
            feed.send(&mut client);
        }
        // Windows are open, and nothing of them is anywhere but in the journal.
        broker.kill();
        broker.restart();
    }
    let mut client = kafka(&broker);
    feed.close(&mut client);
    assert_eq!(means(&mut client, "means"), feed.expected());
    assert_eq!(client.list_offset("raw", 0, -1).unwrap(), 0, "the module drops the records");
}

#[test]
fn means_derived_from_a_topic_are_exact_over_kill_9_and_a_version_that_comes_and_goes() {
    let mut broker = Broker::start();
    kafka(&broker).create_topic("raw", PARTITIONS).unwrap();
    let mut feed = Feed::default();
    let derive =
        ["--derive", "--from", "earliest", "--output", "means", "--set", "lateness_ms=200"];
    for round in 0..5 {
        let mut client = kafka(&broker);
        for _ in 0..40 {
            feed.send(&mut client);
        }
        match round {
            0 => deploy(&broker, &derive),
            2 => deploy(&broker, &[&derive[..], &["--version", "2", "--canary", "50"]].concat()),
            3 => {
                let http = broker.http();
                let words = ["transform", "--http", &http, "rollback", "mean"];
                broker.cli(&words).expect_success();
            }
            _ => {}
        }
        // Wherever the transform is by now.
        broker.kill();
        broker.restart();
    }
    feed.close(&mut kafka(&broker));
    let expected = feed.expected();
    assert_eq!(all_means(&broker, "means", expected.len()), expected);
    assert_eq!(
        kafka(&broker).list_offset("raw", 0, -1).unwrap(),
        feed.sent / 2 + 1,
        "all is there"
    );
}

#[test]
fn a_window_closes_by_itself_when_no_records_come_for_as_long_as_the_transform_says() {
    let broker = Broker::start();
    kafka(&broker).create_topic("raw", PARTITIONS).unwrap();
    let limit = ["--limit", "idle_timeout_ms=1000"];
    deploy(&broker, &[&["--output", "means", "--set", "topic=means"][..], &limit].concat());
    let mut feed = Feed::default();
    let mut client = kafka(&broker);
    feed.send(&mut client);
    let expected = feed.expected();
    assert_eq!(all_means(&broker, "means", expected.len()), expected);
}

#[test]
fn a_device_that_says_it_is_another_century_closes_no_windows_of_the_others() {
    let broker = Broker::start();
    kafka(&broker).create_topic("raw", PARTITIONS).unwrap();
    deploy(
        &broker,
        &["--output", "means", "--set", "topic=means", "--limit", "watermark_delay_ms=60000"],
    );
    let mut client = kafka(&broker);
    let now_ms = now_ms() / WINDOW_MS * WINDOW_MS;
    let century_ms = 100 * 366 * 24 * 3_600_000;
    let hour_ms = 3_600_000;
    let mut send = |device: &str, at_ms: i64, degrees: i64| {
        let mut builder = BatchBuilder::new(Codec::None, None);
        let value = format!("{{\"celsius\":{degrees}}}");
        builder.push(at_ms, Some(device.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
        client.produce_bytes("raw", 0, builder.build().unwrap()).unwrap();
    };
    send("pump", now_ms - 20_000, 10);
    send("broken", now_ms + century_ms, 99);
    // Not late, and in the same window.
    send("pump", now_ms - 19_999, 20);
    // What is a little ahead is believed.
    send("clock", now_ms + hour_ms / 2, 0);
    let start = now_ms - 20_000;
    assert_eq!(means(&mut client, "means"), [format!("pump {start} 2 15.000000")]);
}

#[test]
fn more_timers_than_one_entry_may_hold_all_fire_at_once_and_once() {
    const TIMERS: usize = 70_000;
    for mode in [&[][..], &["--derive", "--output", "fired"]] {
        let broker = Broker::start();
        let mut client = kafka(&broker);
        client.create_topic("raw", 1).unwrap();
        let module = broker.file("state.wasm", guests::HOSTILE_STATE);
        let http = broker.http();
        let words = ["transform", "--http", &http, "deploy", "state", "--module", &module];
        let limits = ["--limit", "state_bytes=33554432", "--limit", "cpu_ms_per_batch=5000"];
        let words = [&words[..], &["--topic", "raw"], &limits, mode].concat();
        broker.cli(&words).expect_success();
        for first in (0..TIMERS).step_by(TIMERS / 10) {
            let mut builder = BatchBuilder::new(Codec::None, None);
            for timer in first..first + TIMERS / 10 {
                let value = format!("timer {} t{timer}", EPOCH_MS + 1);
                builder.push(EPOCH_MS, None, Some(value.as_bytes()), &[]).unwrap();
            }
            client.produce_bytes("raw", 0, builder.build().unwrap()).unwrap();
        }
        // This one makes all of them due, and nothing comes behind it.
        let mut builder = BatchBuilder::new(Codec::None, None);
        builder.push(EPOCH_MS + 1, None, Some(b"say last"), &[]).unwrap();
        client.produce_bytes("raw", 0, builder.build().unwrap()).unwrap();
        let topic = if mode.is_empty() { "raw" } else { "fired" };
        let begun = Instant::now();
        let fired = loop {
            let found = client.read(topic, 0, 0).unwrap_or_default();
            let fired = found.iter().filter(|one| one.text().starts_with("fired")).count();
            if fired >= TIMERS || begun.elapsed() > PATIENCE {
                break fired;
            }
        };
        assert_eq!(fired, TIMERS, "{mode:?}");
    }
}
