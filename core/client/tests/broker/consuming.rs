//! The consumer: reading, positions, seeking, groups.

use crate::support::FakeBroker;
use millpond_client::{
    ConsumedRecord, Consumer, ConsumerBuilder, OffsetReset, Producer, Record, Scheme,
};
use millpond_wire::messages::consumer_protocol_assignment::TopicPartition;
use millpond_wire::messages::{ConsumerProtocolAssignment, Message};
use millpond_wire::record::Codec;
use millpond_wire::{ErrorCode, Writer};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

async fn fill(broker: &FakeBroker, partition: i32, codec: Codec, from: usize, to: usize) {
    let builder = Producer::builder().compression(codec).batch_bytes(300);
    let producer = builder.connect(broker.config()).await.unwrap();
    for n in from..to {
        let record = Record::to("t").partition(partition).key("k").value(n.to_string());
        drop(producer.send(record.header("h", "v")).await.unwrap());
    }
    producer.close().await;
}

fn builder() -> ConsumerBuilder {
    Consumer::builder()
        .fetch_wait(Duration::from_millis(20))
        .heartbeat_interval(Duration::from_millis(20))
        .offset_reset(OffsetReset::Earliest)
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<ConsumedRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let polled = consumer.poll(PATIENCE).await.unwrap();
        assert!(!polled.is_empty(), "nothing within {PATIENCE:?}");
        records.extend(polled);
    }
    records
}

fn values(records: &[ConsumedRecord]) -> Vec<usize> {
    let text = |record: &ConsumedRecord| String::from_utf8(record.value.clone().unwrap().to_vec());
    records.iter().map(|record| text(record).unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn what_was_produced_is_read_over_every_transport_with_every_codec() {
    for scheme in [Scheme::Tcp, Scheme::Tls, Scheme::Quic] {
        for codec in Codec::ALL {
            let broker = FakeBroker::with_topic(scheme, "t", 1).await;
            fill(&broker, 0, codec, 0, 100).await;
            let mut consumer = builder().topic("t").connect(broker.config()).await.unwrap();
            let records = read(&mut consumer, 100).await;
            assert_eq!(values(&records), (0..100).collect::<Vec<_>>(), "{scheme} {codec}");
            assert_eq!(records[99].offset, 99);
            assert_eq!(records[0].key.as_deref(), Some(b"k".as_slice()));
            assert_eq!(records[0].headers.len(), 1);
            assert_eq!(consumer.position("t", 0), Some(100));
        }
    }
}

#[tokio::test]
async fn all_partitions_of_a_topic_are_read_in_their_order() {
    let broker = FakeBroker::with_topic(Scheme::Quic, "t", 3).await;
    for partition in 0..3 {
        fill(&broker, partition, Codec::Zstd, 0, 40).await;
    }
    let mut consumer =
        builder().topic("t").max_poll_records(7).connect(broker.config()).await.unwrap();
    let records = read(&mut consumer, 120).await;
    for partition in 0..3 {
        let of: Vec<_> = records.iter().filter(|r| r.partition == partition).cloned().collect();
        assert_eq!(values(&of), (0..40).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn seeking_goes_back_and_into_the_middle_of_a_batch() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    fill(&broker, 0, Codec::Lz4, 0, 50).await;
    let mut consumer = builder().partition("t", 0).connect(broker.config()).await.unwrap();
    read(&mut consumer, 50).await;
    consumer.seek("t", 0, 13).unwrap();
    assert_eq!(values(&read(&mut consumer, 37).await), (13..50).collect::<Vec<_>>());
    assert!(consumer.seek("t", 1, 0).is_err());
}

#[tokio::test]
async fn latest_begins_with_what_comes_from_now_on() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    fill(&broker, 0, Codec::None, 0, 10).await;
    let latest = builder().offset_reset(OffsetReset::Latest).topic("t");
    let mut consumer = latest.connect(broker.config()).await.unwrap();
    assert!(consumer.poll(Duration::from_millis(100)).await.unwrap().is_empty());
    assert_eq!(consumer.position("t", 0), Some(10));
    fill(&broker, 0, Codec::None, 10, 15).await;
    assert_eq!(values(&read(&mut consumer, 5).await), (10..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_position_that_is_gone_is_reset_or_reported_as_was_asked() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    fill(&broker, 0, Codec::None, 0, 5).await;
    let mut consumer = builder().topic("t").connect(broker.config()).await.unwrap();
    read(&mut consumer, 5).await;
    consumer.seek("t", 0, 1_000).unwrap();
    assert_eq!(values(&read(&mut consumer, 5).await), (0..5).collect::<Vec<_>>());
    let strict = builder().topic("t").offset_reset(OffsetReset::Fail);
    let mut consumer = strict.connect(broker.config()).await.unwrap();
    let error = consumer.poll(PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
}

#[tokio::test]
async fn a_damaged_batch_is_reported_and_never_passed_over_silently() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    for from in [0, 5, 10] {
        fill(&broker, 0, Codec::None, from, from + 5).await;
    }
    {
        let mut state = broker.state();
        let (_, raw) = &mut state.topics.get_mut("t").unwrap()[0].batches[1];
        let mut bytes = raw.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        *raw = bytes.into();
    }
    let mut consumer = builder().topic("t").connect(broker.config()).await.unwrap();
    assert_eq!(values(&read(&mut consumer, 5).await), (0..5).collect::<Vec<_>>());
    for _ in 0..2 {
        let error = consumer.poll(PATIENCE).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::CorruptMessage), "{error}");
        assert_eq!(consumer.position("t", 0), Some(5));
    }
    consumer.seek("t", 0, 10).unwrap();
    assert_eq!(values(&read(&mut consumer, 5).await), (10..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_group_goes_on_where_it_committed() {
    for scheme in [Scheme::Tcp, Scheme::Quic] {
        let broker = FakeBroker::with_topic(scheme, "t", 2).await;
        fill(&broker, 0, Codec::None, 0, 30).await;
        let group = builder().topic("t").group("g").max_poll_records(10);
        let mut first = group.clone().connect(broker.config()).await.unwrap();
        let records = first.poll(PATIENCE).await.unwrap();
        assert_eq!(values(&records), (0..10).collect::<Vec<_>>());
        first.commit().await.unwrap();
        let _not_committed = first.poll(PATIENCE).await.unwrap();
        first.close().await.unwrap();
        assert!(broker.state().groups["g"].left);
        let mut second = group.connect(broker.config()).await.unwrap();
        assert_eq!(values(&read(&mut second, 20).await), (10..30).collect::<Vec<_>>());
        assert_eq!(second.assignment().len(), 2);
    }
}

/// Once a member that did not lead its group never learned who leads its partitions, and read
/// nothing.
#[tokio::test]
async fn a_member_that_does_not_lead_its_group_reads_its_share() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 2).await;
    fill(&broker, 1, Codec::None, 0, 10).await;
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: vec![TopicPartition { topic: "t".to_owned(), partitions: vec![1] }],
        user_data: None,
    };
    let mut writer = Writer::new();
    writer.i16(0);
    assignment.encode(&mut writer, 0);
    {
        let mut state = broker.state();
        state.committed.insert(("g".to_owned(), "t".to_owned(), 1), 3);
        let group = state.groups.entry("g".to_owned()).or_default();
        group.is_led_by_another = true;
        group.assignment = writer.into_bytes();
    }
    let group = builder().topic("t").group("g");
    let mut consumer = group.connect(broker.config()).await.unwrap();
    assert_eq!(values(&read(&mut consumer, 7).await), (3..10).collect::<Vec<_>>());
    assert_eq!(consumer.assignment(), vec![("t".into(), 1)]);
}

#[tokio::test]
async fn a_rebalance_is_joined_and_commits_of_the_old_generation_are_refused() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    fill(&broker, 0, Codec::None, 0, 10).await;
    let group = builder().topic("t").group("g").max_poll_records(5);
    let mut consumer = group.connect(broker.config()).await.unwrap();
    assert_eq!(values(&consumer.poll(PATIENCE).await.unwrap()), (0..5).collect::<Vec<_>>());
    let generation_id = broker.state().groups["g"].generation_id;
    broker.state().groups.get_mut("g").unwrap().generation_id += 1;
    let error = consumer.commit().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::IllegalGeneration));
    broker.state().groups.get_mut("g").unwrap().must_rejoin = true;
    // The heartbeat brings the news while `poll` waits; nothing was committed, so all comes again.
    while broker.state().groups["g"].generation_id < generation_id + 2 {
        consumer.poll(Duration::from_millis(50)).await.unwrap();
    }
    consumer.seek("t", 0, 0).unwrap();
    assert_eq!(values(&read(&mut consumer, 10).await), (0..10).collect::<Vec<_>>());
    consumer.commit().await.unwrap();
    let committed = broker.state().committed.clone();
    assert_eq!(committed[&("g".to_owned(), "t".to_owned(), 0)], 10);
}

#[tokio::test]
async fn automatic_commits_cover_only_what_earlier_polls_returned() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    fill(&broker, 0, Codec::None, 0, 20).await;
    let group = builder().topic("t").group("g").max_poll_records(5).auto_commit(Duration::ZERO);
    let mut consumer = group.connect(broker.config()).await.unwrap();
    let committed = || broker.state().committed.values().copied().next();
    assert_eq!(consumer.poll(PATIENCE).await.unwrap().len(), 5);
    assert_eq!(committed(), None);
    assert_eq!(consumer.poll(PATIENCE).await.unwrap().len(), 5);
    assert_eq!(committed(), Some(5));
    consumer.close().await.unwrap();
    assert_eq!(committed(), Some(10));
}
