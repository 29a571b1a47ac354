//! The SDK's transactions against a real broker: records of several partitions and offsets of a group
//! count together or not at all; the next holder of a transactional id fences the last; a broker that is
//! killed in the middle doubles nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_client::{
    Admin, Client, ClientConfig, Consumer, GroupPlace, OffsetReset, Producer, Record,
    TransactionError, TransactionalProducer, Trust,
};
use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::kafka::Kafka;

fn config(broker: &Broker) -> ClientConfig {
    let config = ClientConfig::new(&format!("quic://{}", broker.kafka())).unwrap();
    let mut config = config.trust(Trust::InsecureNoVerify).connect_timeout(Duration::from_secs(3));
    config.quic_idle_timeout = Duration::from_secs(2);
    config.quic_keep_alive = Some(Duration::from_millis(500));
    config
}

async fn producer(broker: &Broker, id: &str) -> TransactionalProducer {
    let builder = Producer::builder().transactional_id(id);
    builder.connect_transactional(config(broker)).await.unwrap()
}

fn topic(broker: &Broker, name: &str, partitions: i32) {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap().create_topic(name, partitions).unwrap();
}

/// What somebody reads who reads committed records only, up to a mark that is written now.
async fn committed(broker: &Broker, topic: &str, partition: i32) -> Vec<String> {
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).unwrap();
    kafka.produce(topic, partition, &[b"mark"]).unwrap();
    let builder = Consumer::builder().partition(topic.to_owned(), partition);
    let builder = builder.offset_reset(OffsetReset::Earliest).read_committed(true);
    let mut consumer = builder.connect(config(broker)).await.unwrap();
    let mut values = Vec::new();
    let give_up = Instant::now() + PATIENCE;
    while values.last().is_none_or(|value| value != "mark") {
        assert!(Instant::now() < give_up, "no mark: {values:?}");
        let records = consumer.poll(Duration::from_secs(5)).await.unwrap();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        values.extend(records.iter().map(|r| text(r.value.as_deref().unwrap_or_default())));
    }
    values.pop();
    values.retain(|value| value != "mark");
    values
}

async fn send(producer: &TransactionalProducer, partition: i32, value: &str) {
    let record = Record::to("accounts").partition(partition).value(value.to_owned());
    drop(producer.send(record).await.unwrap());
}

#[tokio::test]
async fn what_is_committed_is_read_and_what_is_aborted_is_not() {
    let broker = Broker::start();
    topic(&broker, "accounts", 2);
    let producer = producer(&broker, "bank").await;
    for round in 0..6 {
        producer.begin().await.unwrap();
        send(&producer, 0, &format!("debit {round}")).await;
        send(&producer, 1, &format!("credit {round}")).await;
        match round % 3 {
            1 => producer.abort().await.unwrap(),
            _ => producer.commit().await.unwrap(),
        }
    }
    producer.close().await;
    for (partition, name) in [(0, "debit"), (1, "credit")] {
        let wanted: Vec<String> = [0, 2, 3, 5].iter().map(|n| format!("{name} {n}")).collect();
        assert_eq!(committed(&broker, "accounts", partition).await, wanted);
    }
}

#[tokio::test]
async fn offsets_of_a_group_count_with_the_records() {
    let broker = Broker::start();
    topic(&broker, "accounts", 1);
    topic(&broker, "orders", 1);
    let producer = producer(&broker, "bank").await;
    let place = GroupPlace::of("tellers");
    let orders: Arc<str> = "orders".into();
    for (offset, is_kept) in [(5, true), (9, false)] {
        producer.begin().await.unwrap();
        send(&producer, 0, "booked").await;
        producer.send_offsets(&place, &[(Arc::clone(&orders), 0, offset)]).await.unwrap();
        match is_kept {
            true => producer.commit().await.unwrap(),
            false => producer.abort().await.unwrap(),
        }
    }
    let admin = Admin::new(Client::connect(config(&broker)).await.unwrap());
    let offsets = admin.committed_offsets("tellers").await.unwrap();
    assert_eq!(offsets.iter().map(|o| o.offset).collect::<Vec<_>>(), [5]);
    assert_eq!(committed(&broker, "accounts", 0).await, ["booked"]);
}

#[tokio::test]
async fn the_next_holder_of_the_id_fences_the_last() {
    let broker = Broker::start();
    topic(&broker, "accounts", 1);
    let first = producer(&broker, "bank").await;
    first.begin().await.unwrap();
    send(&first, 0, "of the first").await;
    let second = producer(&broker, "bank").await;
    second.begin().await.unwrap();
    send(&second, 0, "of the second").await;
    second.commit().await.unwrap();
    let error = first.commit().await.unwrap_err();
    assert!(matches!(error, TransactionError::Fenced | TransactionError::Spoilt), "{error}");
    assert!(matches!(first.abort().await, Err(TransactionError::Fenced)));
    assert!(matches!(first.begin().await, Err(TransactionError::Fenced)));
    assert_eq!(committed(&broker, "accounts", 0).await, ["of the second"]);
}

#[tokio::test]
async fn calls_out_of_order_are_refused_before_the_broker_is_asked() {
    let broker = Broker::start();
    topic(&broker, "accounts", 1);
    let producer = producer(&broker, "bank").await;
    let early = producer.send(Record::to("accounts").value("early")).await;
    assert!(matches!(early, Err(TransactionError::Order(_))));
    assert!(matches!(producer.commit().await, Err(TransactionError::Order(_))));
    producer.begin().await.unwrap();
    producer.commit().await.unwrap();
    assert!(committed(&broker, "accounts", 0).await.is_empty());
}

#[tokio::test]
async fn a_broker_that_is_killed_in_the_middle_of_a_transaction_costs_nothing() {
    let mut broker = Broker::start();
    topic(&broker, "accounts", 2);
    let producer = producer(&broker, "bank").await;
    for round in 0..3 {
        producer.begin().await.unwrap();
        send(&producer, 0, &format!("debit {round}")).await;
        broker.kill();
        // A partition that has joined already: this needs no broker yet.
        send(&producer, 0, &format!("more {round}")).await;
        broker.restart();
        send(&producer, 1, &format!("credit {round}")).await;
        producer.commit().await.unwrap();
    }
    let debits: Vec<String> =
        (0..3).flat_map(|n| [format!("debit {n}"), format!("more {n}")]).collect();
    assert_eq!(committed(&broker, "accounts", 0).await, debits);
    assert_eq!(committed(&broker, "accounts", 1).await, ["credit 0", "credit 1", "credit 2"]);
}
