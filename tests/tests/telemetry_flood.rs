//! A flood of telemetry: more devices than the budget of requests has room for send datagrams as fast as their
//! path takes them, and then say nothing more. Who behaves beside them is served, what is lost is counted,
//! and memory stays bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use millpond_client::{ClientConfig, Record, Telemetry, Trust};
use millpond_tests::broker::{BUSY_STORAGE, Broker, PATIENCE, Setup};
use millpond_tests::kafka::Kafka;
use tokio::task::JoinHandle;

const MIB: u64 = 1 << 20;
/// Less than what the flood holds, if each of its connections keeps what was committed last.
const TIGHT: &str = "
[limits]
request_bytes_in_flight_max = \"512 KiB\"
request_bytes_max = \"256 KiB\"
";
const FLOODERS: usize = 48;
/// Of each flooder, at the least.
const DATAGRAMS: u64 = 200;
/// Fills a datagram, so that each holds one record.
const VALUE_BYTES: usize = 900;
/// Of the device that behaves.
const READINGS: i64 = 20;
const GROWTH_BYTES_MAX: u64 = 48 * MIB;

async fn device(broker: &Broker) -> Telemetry {
    let config = ClientConfig::new(&format!("quic://{}", broker.kafka())).unwrap();
    // Loopback, and a certificate that was made a moment ago.
    Telemetry::connect(config.trust(Trust::InsecureNoVerify)).await.unwrap()
}

/// Sends until it has sent enough and is told to stop; says how many, and keeps its connection.
fn flooder(mut device: Telemetry, is_over: Arc<AtomicBool>) -> JoinHandle<(Telemetry, u64)> {
    tokio::spawn(async move {
        let mut sent = 0;
        while sent < DATAGRAMS || !is_over.load(Ordering::Relaxed) {
            let record = Record::to("flood").value(vec![7; VALUE_BYTES]);
            device.send(record).await.unwrap();
            sent += 1;
        }
        device.flush().await.unwrap();
        (device, sent)
    })
}

/// Sends readings, each after the one before was stored or is lost; says how many are there.
async fn readings(device: &mut Telemetry, kafka: &mut Kafka) -> i64 {
    let before = kafka.list_offset("readings", 0, -1).unwrap();
    let mut seen = before;
    for n in 0..READINGS {
        device.send(Record::to("readings").value(n.to_string())).await.unwrap();
        device.flush().await.unwrap();
        let sent = Instant::now();
        let mut now = seen;
        while now == seen && sent.elapsed() < Duration::from_secs(1) {
            // A request each, by a client that has to be served, too.
            kafka.produce("witness", 0, &[b"more"]).unwrap();
            now = kafka.list_offset("readings", 0, -1).unwrap();
        }
        seen = now;
    }
    seen - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_telemetry_is_bounded_and_counted_and_starves_nobody() {
    let mut broker = Setup::default().config(BUSY_STORAGE).config(TIGHT).start();
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).unwrap();
    for (topic, partitions) in [("flood", 4), ("readings", 1), ("witness", 1)] {
        kafka.create_topic(topic, partitions).unwrap();
    }
    let mut good = device(&broker).await;
    assert_eq!(readings(&mut good, &mut kafka).await, READINGS, "before the flood");
    let before = broker.resident_bytes();

    let is_over = Arc::new(AtomicBool::new(false));
    let flooders = join_all((0..FLOODERS).map(|_| device(&broker))).await;
    let flood: Vec<_> = flooders.into_iter().map(|one| flooder(one, is_over.clone())).collect();
    let beside = readings(&mut good, &mut kafka).await;
    is_over.store(true, Ordering::Relaxed);
    let (silent, sent): (Vec<_>, Vec<_>) =
        join_all(flood).await.into_iter().map(Result::unwrap).unzip();
    let sent: u64 = sent.iter().sum();
    // A datagram may be lost in the kernel, whosever it is.
    assert!(beside >= READINGS * 9 / 10, "{beside} of {READINGS} beside {sent} datagrams");

    // Those who flooded are still there, and hold nothing.
    assert_eq!(readings(&mut good, &mut kafka).await, READINGS, "after the flood");
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "memory grew by {} MiB", grown / MIB);
    // By one more of each it is seen what was lost before it.
    for mut one in silent {
        one.send(Record::to("flood").value("the last")).await.unwrap();
        one.close().await;
    }
    good.close().await;
    expect_counted(&broker, sent + FLOODERS as u64 + 3 * READINGS as u64);
    broker.expect_alive();
}

/// Each datagram that came is stored, and the others are missed.
fn expect_counted(broker: &Broker, sent: u64) {
    let total = |name: &str, fate: &str| {
        let labels = format!("millpond_telemetry_{name}_total{{fate=\"{fate}\"}} ");
        let text = broker.get("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(&labels)).expect("a metric");
        value.parse::<u64>().expect("a count")
    };
    // What a connection missed at its end is known when that is noticed.
    let noticed = Instant::now();
    let mut fates = (0, 0);
    while fates.0 + fates.1 < sent && noticed.elapsed() < PATIENCE {
        fates = (total("datagrams", "taken"), total("datagrams", "missing"));
    }
    let (taken, missing) = fates;
    let (stored, refused) = (total("records", "stored"), total("records", "refused"));
    println!("{sent} datagrams: {taken} taken, {missing} missing, {stored} records stored");
    assert!(taken + missing >= sent, "{taken} taken and {missing} missing of {sent}");
    assert_eq!((stored, refused), (taken, 0));
    assert_eq!(broker.metric("millpond_telemetry_waiting_bytes"), Some(0.0));
}
