//! The producer against a broker that loses requests and answers, refuses, stalls and forgets.

use crate::support::{FakeBroker, Fault};
use futures::future::join_all;
use millpond_client::{
    Acks, Delivery, DeliveryError, Producer, ProducerBuilder, Record, Scheme, SendError,
    TrySendError,
};
use millpond_wire::ErrorCode;
use millpond_wire::record::Codec;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

async fn producer(broker: &FakeBroker, builder: ProducerBuilder) -> Producer {
    builder
        .linger(Duration::from_millis(1))
        .retry_backoff(Duration::from_millis(5))
        .connect(broker.config())
        .await
        .unwrap()
}

/// Sends `count` numbered records, a batch for each, and returns what became of them.
async fn send_numbers(producer: &Producer, count: usize) -> Vec<Result<Delivery, DeliveryError>> {
    let mut futures = Vec::new();
    for n in 0..count {
        let record = Record::to("t").partition(0).value(n.to_string());
        futures.push(producer.send(record).await.unwrap());
    }
    producer.flush().await;
    join_all(futures).await
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

/// Small enough that every record has a batch of its own.
fn one_record_batches() -> ProducerBuilder {
    Producer::builder().batch_bytes(1)
}

#[tokio::test]
async fn records_arrive_over_every_transport_with_every_codec() {
    for scheme in [Scheme::Tcp, Scheme::Tls, Scheme::Quic] {
        for codec in Codec::ALL {
            let broker = FakeBroker::with_topic(scheme, "t", 1).await;
            let producer = producer(&broker, Producer::builder().compression(codec)).await;
            let outcomes = send_numbers(&producer, 100).await;
            assert_eq!(broker.values("t", 0), numbers(100), "{scheme} {codec}");
            for (n, outcome) in (0..).zip(outcomes) {
                assert_eq!(outcome.unwrap().offset, Some(n));
            }
            producer.close().await;
        }
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_nothing_is_written_twice() {
    for scheme in [Scheme::Tcp, Scheme::Quic] {
        let broker = FakeBroker::with_topic(scheme, "t", 1).await;
        broker.plan([Fault::Serve, Fault::LoseAnswer, Fault::LoseRequest, Fault::LoseAnswer]);
        let producer = producer(&broker, one_record_batches()).await;
        let outcomes = send_numbers(&producer, 30).await;
        assert_eq!(broker.values("t", 0), numbers(30), "{scheme}");
        for (n, outcome) in (0..).zip(outcomes) {
            assert_eq!(outcome.unwrap().offset, Some(n), "{scheme}");
        }
        assert!(producer.metrics().batches_retried > 0);
    }
}

#[tokio::test]
async fn order_holds_when_batches_in_the_middle_are_turned_away() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    let turn_away = Fault::Answer(ErrorCode::NotLeaderOrFollower);
    broker.plan([Fault::Serve, turn_away.clone(), Fault::Serve, turn_away]);
    let producer = producer(&broker, one_record_batches()).await;
    let before = broker.state().metadata_requests;
    let outcomes = send_numbers(&producer, 30).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(broker.values("t", 0), numbers(30));
    assert!(broker.state().metadata_requests > before + 1, "the leader was asked for again");
}

#[tokio::test]
async fn an_answer_that_says_written_but_not_surely_is_made_sure() {
    let broker = FakeBroker::with_topic(Scheme::Quic, "t", 1).await;
    broker.plan([Fault::ServeAndAnswer(ErrorCode::RequestTimedOut)]);
    let producer = producer(&broker, one_record_batches()).await;
    assert!(send_numbers(&producer, 5).await.iter().all(Result::is_ok));
    assert_eq!(broker.values("t", 0), numbers(5));
}

#[tokio::test]
async fn a_refused_record_fails_alone_and_the_rest_goes_on() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    broker.plan([Fault::Serve, Fault::Answer(ErrorCode::InvalidRecord)]);
    let producer = producer(&broker, one_record_batches()).await;
    let outcomes = send_numbers(&producer, 10).await;
    let failed: Vec<usize> = (0..10).filter(|n| outcomes[*n].is_err()).collect();
    assert_eq!(failed, vec![1]);
    let error = outcomes[1].clone().unwrap_err();
    assert!(
        matches!(error, DeliveryError::Refused { code: ErrorCode::InvalidRecord, .. }),
        "{error}"
    );
    assert!(!error.may_be_written());
    let expected: Vec<String> = numbers(10).into_iter().filter(|n| n != "1").collect();
    assert_eq!(broker.values("t", 0), expected);
    assert_eq!(producer.metrics().identity_resets, 1);
}

#[tokio::test]
async fn a_batch_in_doubt_is_not_sent_again_to_a_broker_that_forgot_the_producer() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    broker.plan([Fault::Serve, Fault::LoseAnswer, Fault::Forget]);
    let producer = producer(&broker, one_record_batches().max_in_flight(1)).await;
    let outcomes = send_numbers(&producer, 4).await;
    let error = outcomes[1].clone().unwrap_err();
    assert!(matches!(error, DeliveryError::Undecided { .. }), "{error}");
    assert!(error.may_be_written());
    assert_eq!(broker.values("t", 0), numbers(4), "the others went on under a new identity");
}

#[tokio::test]
async fn a_batch_without_an_offset_is_delivered_without_one() {
    let broker = FakeBroker::with_topic(Scheme::Quic, "t", 1).await;
    broker.plan([Fault::NoOffset]);
    let producer = producer(&broker, Producer::builder()).await;
    let outcomes = send_numbers(&producer, 3).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().offset.is_none()));
}

#[tokio::test]
async fn send_waits_while_the_buffer_is_full_and_goes_on_when_it_empties() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    let go = Arc::new(Notify::new());
    broker.plan([Fault::Hold(Arc::clone(&go))]);
    let builder = Producer::builder().buffer_bytes(1_000).batch_bytes(500);
    let producer = producer(&broker, builder).await;
    let record = || Record::to("t").value(vec![b'x'; 400]);
    let first = producer.send(record()).await.unwrap();
    let second = producer.send(record()).await.unwrap();
    assert!(matches!(producer.try_send(record()), Err(TrySendError::Full(_))));
    let third = {
        let producer = producer.clone();
        tokio::spawn(async move { producer.send(record()).await.unwrap().await })
    };
    // The answer to the first request is held, so the third `send` cannot be through.
    assert!(producer.metrics().buffered_bytes >= 800);
    assert!(!third.is_finished());
    go.notify_one();
    assert!(first.await.is_ok() && second.await.is_ok());
    assert!(third.await.unwrap().is_ok());
    assert_eq!(producer.metrics().buffered_bytes, 0);
}

#[tokio::test]
async fn a_record_that_is_not_delivered_in_time_fails_and_says_so() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    broker.plan([Fault::NeverAnswer]);
    let builder = Producer::builder().delivery_timeout(Duration::from_millis(100));
    let producer = producer(&broker, builder).await;
    let record = Record::to("t").value("x");
    let error = producer.send(record).await.unwrap().await.unwrap_err();
    assert!(matches!(error, DeliveryError::TimedOut { may_be_written: true, .. }), "{error}");
}

#[tokio::test]
async fn records_made_while_the_broker_is_away_arrive_when_it_is_back() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    broker.plan(std::iter::repeat_n(Fault::LoseRequest, 6));
    let producer = producer(&broker, one_record_batches()).await;
    assert!(send_numbers(&producer, 20).await.iter().all(Result::is_ok));
    assert_eq!(broker.values("t", 0), numbers(20));
}

#[tokio::test]
async fn keys_decide_the_partition_and_keyless_records_share_batches() {
    let broker = FakeBroker::with_topic(Scheme::Quic, "t", 4).await;
    let producer = producer(&broker, Producer::builder().linger(Duration::from_secs(5))).await;
    let mut futures = Vec::new();
    for key in ["21", "foobar", "a-little-bit-long-string", "abc"] {
        let expected = millpond_wire::murmur2::partition_for_key(key.as_bytes(), 4);
        let future = producer.send(Record::to("t").key(key).value("keyed")).await.unwrap();
        assert_eq!(future.partition(), i32::try_from(expected).unwrap());
        futures.push(future);
    }
    let keyless: Vec<i32> = {
        let mut partitions = Vec::new();
        for _ in 0..50 {
            let future = producer.send(Record::to("t").value("x")).await.unwrap();
            partitions.push(future.partition());
            futures.push(future);
        }
        partitions
    };
    assert!(keyless.windows(2).all(|pair| pair[0] == pair[1]), "{keyless:?}");
    producer.flush().await;
    assert!(join_all(futures).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn without_acks_records_are_sent_and_nothing_is_answered() {
    for scheme in [Scheme::Tcp, Scheme::Quic] {
        let broker = FakeBroker::with_topic(scheme, "t", 1).await;
        let producer = producer(&broker, Producer::builder().acks(Acks::None)).await;
        let outcomes = send_numbers(&producer, 5).await;
        assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().offset.is_none()));
        // Answers of the same line come after what was sent on it; another lane proves nothing,
        // so wait for the records themselves.
        while broker.values("t", 0).len() < 5 {
            tokio::task::yield_now().await;
        }
        assert_eq!(broker.state().seen[0].producer_id, -1);
    }
}

#[tokio::test]
async fn an_unknown_topic_and_a_closed_producer_are_errors_of_send() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 2).await;
    let builder = Producer::builder().delivery_timeout(Duration::from_millis(150));
    let producer = producer(&broker, builder).await;
    let error = producer.send(Record::to("absent").value("x")).await.unwrap_err();
    assert!(matches!(error, SendError::Topic { .. }), "{error}");
    let error = producer.send(Record::to("t").partition(2).value("x")).await.unwrap_err();
    assert!(matches!(error, SendError::Partition { partitions: 2, .. }), "{error}");
    let huge = Record::to("t").value(vec![0; 64 * 1024 * 1024]);
    let error = producer.send(huge).await.unwrap_err();
    assert!(matches!(error, SendError::TooLarge { .. }), "{error}");
    producer.close().await;
    let error = producer.send(Record::to("t").value("x")).await.unwrap_err();
    assert!(matches!(error, SendError::Closed), "{error}");
}

#[tokio::test]
async fn a_dropped_producer_tells_those_who_wait() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    broker.plan([Fault::NeverAnswer]);
    let producer = producer(&broker, Producer::builder()).await;
    let future = producer.send(Record::to("t").value("x")).await.unwrap();
    drop(producer);
    assert_eq!(future.await, Err(DeliveryError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_producer_and_each_keeps_its_order() {
    let broker = FakeBroker::with_topic(Scheme::Quic, "t", 4).await;
    broker.plan((0..40).map(|n| match n % 7 {
        3 => Fault::LoseAnswer,
        5 => Fault::Answer(ErrorCode::NotLeaderOrFollower),
        _ => Fault::Serve,
    }));
    let producer = producer(&broker, Producer::builder().batch_bytes(200)).await;
    let tasks = (0..4).map(|partition| {
        let producer = producer.clone();
        tokio::spawn(async move {
            let mut futures = Vec::new();
            for n in 0..200 {
                let record = Record::to("t").partition(partition).value(n.to_string());
                futures.push(producer.send(record).await.unwrap());
            }
            join_all(futures).await
        })
    });
    for outcomes in join_all(tasks).await {
        assert!(outcomes.unwrap().iter().all(Result::is_ok));
    }
    for partition in 0..4 {
        assert_eq!(broker.values("t", partition), numbers(200));
    }
}
