//! The SDK's spill against a broker that goes away: records taken without a gateway arrive when there is
//! one, in order and once, over kill -9 of the broker and over restarts of the device's program.

use std::path::Path;
use std::time::Duration;

use millpond_client::{Client, ClientConfig, Record, Spill, Trust};
use millpond_tests::binary::scratch;
use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::kafka::{Found, Kafka};

fn config(broker: &Broker) -> ClientConfig {
    let config = ClientConfig::new(&format!("quic://{}", broker.kafka())).unwrap();
    let mut config = config.trust(Trust::InsecureNoVerify).connect_timeout(Duration::from_secs(2));
    config.quic_idle_timeout = Duration::from_secs(2);
    config.quic_keep_alive = Some(Duration::from_millis(500));
    config
}

fn open(dir: &Path, broker: &Broker) -> Spill {
    let builder = Spill::builder(dir).max_bytes(1 << 20);
    let builder = builder.retry_backoff(Duration::from_millis(20), Duration::from_millis(200));
    builder.open(Client::new(config(broker))).unwrap()
}

async fn send(spill: &Spill, numbers: std::ops::Range<usize>) {
    for n in numbers {
        spill.send(Record::to("field").key("pump").value(format!("{n}"))).await.unwrap();
    }
}

fn read(broker: &Broker) -> Vec<usize> {
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).unwrap();
    let number =
        |record: Found| String::from_utf8_lossy(&record.value.unwrap_or_default()).parse().unwrap();
    kafka.read("field", 0, 0).unwrap().into_iter().map(number).collect()
}

async fn drained(spill: &Spill) {
    let drained = tokio::time::timeout(PATIENCE, spill.drained()).await;
    assert!(drained.is_ok(), "not drained: {:?}", spill.metrics());
}

#[tokio::test]
async fn what_is_taken_without_a_gateway_and_before_a_restart_arrives_in_order_and_once() {
    let mut broker = Broker::start();
    Kafka::connect(broker.kafka(), PATIENCE).unwrap().create_topic("field", 1).unwrap();
    broker.kill();
    let home = scratch();
    let dir = home.path().join("spill");
    let spill = open(&dir, &broker);
    send(&spill, 0..50).await;
    assert_eq!(spill.metrics().records_waiting, 50);
    spill.close().await;
    // The device starts again, still without a gateway.
    let spill = open(&dir, &broker);
    send(&spill, 50..100).await;
    broker.restart();
    send(&spill, 100..150).await;
    drained(&spill).await;
    assert_eq!(spill.metrics().records_waiting, 0);
    assert_eq!(read(&broker), (0..150).collect::<Vec<_>>());
}

#[tokio::test]
async fn programs_and_brokers_that_die_at_any_time_neither_lose_nor_double() {
    const LIVES: usize = 12;
    const RECORDS: usize = 40;
    let mut broker = Broker::start();
    Kafka::connect(broker.kafka(), PATIENCE).unwrap().create_topic("field", 1).unwrap();
    let home = scratch();
    let dir = home.path().join("spill");
    for life in 0..LIVES {
        let spill = open(&dir, &broker);
        let begin = life * RECORDS;
        if life % 4 == 3 {
            broker.kill();
        }
        send(&spill, begin..begin + RECORDS).await;
        if life % 4 == 3 {
            broker.restart();
        }
        // The program ends in the middle of whatever it is sending.
        let some = tokio::time::timeout(Duration::from_millis(life as u64 * 7), spill.drained());
        some.await.ok();
        spill.close().await;
    }
    let spill = open(&dir, &broker);
    drained(&spill).await;
    assert_eq!(spill.metrics().records_in_doubt, 0);
    assert_eq!(read(&broker), (0..LIVES * RECORDS).collect::<Vec<_>>());
}
