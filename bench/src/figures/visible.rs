//! How long a transaction takes from its end to its records in the hands of a consumer that reads
//! what is committed.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use millpond_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, InitProducerIdRequest, ProduceRequest,
    Response,
};
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};

use crate::error::{Context, Outcome};
use crate::figures::{Bench, progress};
use crate::latency::Latencies;
use crate::load::conversation::{Conversation, accepted, other_answer};
use crate::report::Figure;
use crate::spread::Spread;

const TOPIC: &str = "visible";
const TRANSACTIONAL_ID: &str = "bench";
const INIT_PRODUCER_ID: i16 = 4;
const ADD_PARTITIONS: i16 = 3;
const PRODUCE: i16 = 9;
const END: i16 = 3;
const FETCH: i16 = 12;
const READ_COMMITTED: i8 = 1;
const TRANSACTIONS: usize = 1_000;
const FETCH_BYTES_MAX: i32 = 1 << 20;

/// Measures.
pub(crate) fn figure(bench: &Bench) -> Outcome<Figure> {
    let (broker, _home) = bench.broker()?;
    broker.create_topic(TOPIC, 1)?;
    let mut figure = Figure::new(
        "visible",
        "transactions of one record of 200 B, one after the other; from the sending of EndTxn to its \
         answer, and to the record in the answer of a read_committed fetch that waited for it",
    );
    let count = if bench.quick { TRANSACTIONS / 10 } else { TRANSACTIONS };
    let mut producer = Producer::start(broker.kafka())?;
    let (mut acked, mut seen) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 1..=bench.rounds {
        progress(&format!("visible, round {round}"));
        let (acks, sights) = transactions(broker.kafka(), &mut producer, count)?;
        for (at, quantile) in [0.5, 0.99].into_iter().enumerate() {
            acked[at].push(acks.quantile_us(quantile));
            seen[at].push(sights.quantile_us(quantile));
        }
    }
    for (at, name) in ["p50", "p99"].into_iter().enumerate() {
        figure.line(format!("{name}: EndTxn to its answer"), Spread::of(&acked[at]), "us");
        figure.line(format!("{name}: EndTxn to visible"), Spread::of(&seen[at]), "us");
    }
    broker.stop()?;
    Ok(figure)
}

/// The reader hands over when it saw each record; it waits in a fetch before each end.
fn transactions(
    broker: SocketAddr,
    producer: &mut Producer,
    count: usize,
) -> Outcome<(Latencies, Latencies)> {
    let (mut acks, mut sights) = (Latencies::new()?, Latencies::new()?);
    let (tell, seen) = mpsc::channel();
    let first = producer.next_offset;
    let reader = thread::spawn(move || read(broker, first, count, &tell));
    for _ in 0..count {
        producer.begin_with_a_record()?;
        let started = Instant::now();
        producer.commit()?;
        acks.record(started.elapsed());
        let at: Instant = seen.recv().context("the reader ended")?;
        sights.record(at.saturating_duration_since(started));
    }
    reader.join().ok().context("the reader")??;
    Ok((acks, sights))
}

fn read(
    broker: SocketAddr,
    mut offset: i64,
    count: usize,
    tell: &mpsc::Sender<Instant>,
) -> Outcome<()> {
    let mut broker = Conversation::with(broker)?;
    let mut left = count;
    while left > 0 {
        let batches = fetch(&mut broker, offset)?;
        let now = Instant::now();
        for batch in batches {
            offset = batch.next_offset();
            if !batch.header().attributes.is_control() {
                left = left.saturating_sub(1);
                tell.send(now).context("the producer ended")?;
            }
        }
    }
    Ok(())
}

fn fetch(broker: &mut Conversation, offset: i64) -> Outcome<Vec<LogBatch>> {
    let request = FetchRequest {
        max_wait_ms: 5_000,
        min_bytes: 1,
        max_bytes: FETCH_BYTES_MAX,
        isolation_level: READ_COMMITTED,
        topics: vec![FetchTopic {
            topic: TOPIC.into(),
            partitions: vec![FetchPartition {
                current_leader_epoch: -1,
                fetch_offset: offset,
                partition_max_bytes: FETCH_BYTES_MAX,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = broker.call(FETCH, request)?;
    let Response::Fetch(answer) = answer else { return Err(other_answer(&answer)) };
    let mut parts = answer.responses.into_iter().flat_map(|topic| topic.partitions);
    let part = parts.next().context("a partition in the answer")?;
    accepted("a fetch", part.error_code)?;
    let bytes = part.records.map(|records| records.to_bytes()).unwrap_or_default();
    LogBatch::split(bytes, 1_000).context("batches of the answer")
}

/// A producer with a transactional id.
struct Producer {
    broker: Conversation,
    id: i64,
    epoch: i16,
    sequence: i32,
    /// Of its next record: one record and one marker each time.
    next_offset: i64,
}

impl Producer {
    fn start(broker: SocketAddr) -> Outcome<Self> {
        let mut broker = Conversation::with(broker)?;
        let request = InitProducerIdRequest {
            transactional_id: Some(TRANSACTIONAL_ID.into()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let answer = broker.call(INIT_PRODUCER_ID, request)?;
        let Response::InitProducerId(answer) = answer else { return Err(other_answer(&answer)) };
        accepted("InitProducerId", answer.error_code)?;
        let (id, epoch) = (answer.producer_id, answer.producer_epoch);
        Ok(Self { broker, id, epoch, sequence: 0, next_offset: 0 })
    }

    fn begin_with_a_record(&mut self) -> Outcome<()> {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: TRANSACTIONAL_ID.into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: TOPIC.into(),
                partitions: vec![0],
            }],
            ..Default::default()
        };
        let answer = self.broker.call(ADD_PARTITIONS, request)?;
        let Response::AddPartitionsToTxn(answer) = answer else {
            return Err(other_answer(&answer));
        };
        let topics = answer.results_by_topic_v3_and_below.iter();
        let part = topics.flat_map(|topic| &topic.results_by_partition).next();
        accepted("AddPartitionsToTxn", part.context("a partition")?.partition_error_code)?;
        self.produce()
    }

    fn produce(&mut self) -> Outcome<()> {
        let request = ProduceRequest {
            transactional_id: Some(TRANSACTIONAL_ID.into()),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: TOPIC.into(),
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(self.batch()?),
                }],
                ..Default::default()
            }],
        };
        let answer = self.broker.call(PRODUCE, request)?;
        let Response::Produce(answer) = answer else { return Err(other_answer(&answer)) };
        let mut parts = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let part = parts.next().context("a partition in the answer")?;
        accepted("a produce", part.error_code)?;
        self.next_offset = part.base_offset + 2;
        Ok(())
    }

    fn batch(&mut self) -> Outcome<Bytes> {
        let mut builder = BatchBuilder::new(Codec::None, None)
            .with_producer(self.id, self.epoch, self.sequence)
            .with_transactional(true);
        builder.push(1_700_000_000_000, None, Some(&[b'x'; 200]), &[]).context("a record")?;
        self.sequence += 1;
        builder.build().context("a batch")
    }

    fn commit(&mut self) -> Outcome<()> {
        let request = EndTxnRequest {
            transactional_id: TRANSACTIONAL_ID.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed: true,
        };
        let answer = self.broker.call(END, request)?;
        let Response::EndTxn(answer) = answer else { return Err(other_answer(&answer)) };
        accepted("EndTxn", answer.error_code)
    }
}
