//! Idempotent producers: up to five batches under way, sent again until they are answered, each
//! acknowledgement noted as a promise. Must never look into the node.

use crate::client::{Surroundings, code_of, encode_value};
use crate::history::{Partition, RecordId};
use crate::network::{Connection, Disconnected, Pending};
use crate::topics::{TopicKind, place};
use bytes::Bytes;
use millpond_storage::disk::sim::SimRng;
use millpond_wire::ErrorCode;
use millpond_wire::messages::{ProduceRequest, Request, Response, produce_request};
use millpond_wire::record::{BatchBuilder, Codec};
use std::collections::VecDeque;

/// The version of every Produce of a run.
pub const PRODUCE_VERSION: i16 = 9;
/// The batches that a producer may have under way, as in Kafka.
pub const IN_FLIGHT_MAX: usize = 5;

/// One producer id writing to one partition.
pub struct ProducerLane {
    /// Where it is.
    pub world: Surroundings,
    /// Its number in the books.
    pub producer: u32,
    /// Its partition in the books.
    pub partition: Partition,
    /// Decides sizes, pauses and cut connections.
    pub rng: SimRng,
}

/// A batch that is not acknowledged yet.
struct Batch {
    base_sequence: i32,
    records: Vec<RecordId>,
    bytes: Bytes,
    tries: u32,
}

impl ProducerLane {
    /// Produces until the run is over and everything is acknowledged.
    pub async fn run(mut self) {
        let (id, epoch) = self.world.producer_id().await;
        let mut window = VecDeque::new();
        let mut next_sequence = 0;
        loop {
            let connection = self.world.connect().await;
            let is_done = self
                .use_connection(&connection, &mut window, &mut next_sequence, (id, epoch))
                .await;
            if is_done {
                return;
            }
            self.world.pause_ms(self.rng.between(1, 30)).await;
        }
    }

    fn name(&self) -> String {
        format!("p{}", self.producer)
    }

    /// Sends what is in the window, then more, until the connection breaks, something was refused
    /// (false: come again) or all is done (true).
    async fn use_connection(
        &mut self,
        connection: &Connection,
        window: &mut VecDeque<Batch>,
        next_sequence: &mut i32,
        producer: (i64, i16),
    ) -> bool {
        let mut under_way: VecDeque<Pending> = VecDeque::new();
        for batch in window.iter_mut() {
            under_way.push_back(self.send(connection, batch));
        }
        loop {
            let is_over = self.world.is_over.get();
            while !is_over && window.len() < IN_FLIGHT_MAX && self.rng.chance(700) {
                let mut batch = self.next_batch(*next_sequence, producer);
                *next_sequence += batch.records.len() as i32;
                under_way.push_back(self.send(connection, &mut batch));
                window.push_back(batch);
            }
            if self.rng.chance(20) {
                self.world.trace.note(&self.name(), || "cuts its connection".to_owned());
                connection.cut();
            }
            let Some(pending) = under_way.pop_front() else {
                if is_over {
                    return true;
                }
                self.world.pause_ms(self.rng.between(1, 40)).await;
                continue;
            };
            match pending.answer().await {
                Ok(Some(Response::Produce(answer))) => {
                    if !self.take_answer(window, &answer) {
                        connection.cut();
                        return false;
                    }
                }
                Ok(other) => panic!("Produce was answered with {other:?}"),
                Err(Disconnected) => return false,
            }
        }
    }

    fn next_batch(&mut self, base_sequence: i32, (id, epoch): (i64, i16)) -> Batch {
        let kind = TopicKind::of(self.partition).expect("lanes write to topics that stay");
        let shape = kind.next_shape(&mut self.rng);
        let paddings: Vec<usize> = (0..shape.records)
            .map(|_| {
                let least = if shape.is_exact { shape.padding } else { 0 };
                self.rng.between(least, shape.padding) as usize
            })
            .collect();
        batch_of(
            &self.world,
            (self.partition, self.producer),
            &paddings,
            (id, epoch),
            base_sequence,
        )
    }

    fn send(&self, connection: &Connection, batch: &mut Batch) -> Pending {
        batch.tries += 1;
        self.world.trace.note(&self.name(), || {
            let (first, count) = (batch.base_sequence, batch.records.len());
            format!("sends {count} from sequence {first} (try {})", batch.tries)
        });
        connection.send(request_of(self.partition, &batch.bytes), PRODUCE_VERSION)
    }

    /// Notes the promise for the oldest batch; false if it has to be sent again.
    fn take_answer(
        &self,
        window: &mut VecDeque<Batch>,
        answer: &millpond_wire::messages::ProduceResponse,
    ) -> bool {
        let partition = &answer.responses[0].partition_responses[0];
        let code = code_of(partition.error_code);
        let batch = window.front().expect("an answer belongs to the oldest batch");
        if code == ErrorCode::DuplicateSequenceNumber && self.world.oracle.has_holes(self.partition)
        {
            // The node has seen it and lost it to damage, and says so: real producers go on.
            note_promises(&self.world, self.partition, batch, -1);
            window.pop_front();
            return true;
        }
        if code != ErrorCode::None {
            self.world.trace.note(&self.name(), || {
                format!("sequence {} is refused: {code:?}", batch.base_sequence)
            });
            self.world.oracle.refused(self.producer, batch.base_sequence, code);
            return false;
        }
        note_promises(&self.world, self.partition, batch, partition.base_offset);
        window.pop_front();
        true
    }
}

/// Sends `count` records as one batch and waits for its acknowledgement, however often it takes to
/// send it. Between two tries it is silent for `silence_ms`. `at` is the producer's identity and
/// the batch's first sequence.
pub async fn send_alone(
    world: &Surroundings,
    partition: Partition,
    producer: u32,
    count: u64,
    at: ((i64, i16), i32),
    silence_ms: u64,
) {
    let (identity, sequence) = at;
    let batch =
        batch_of(world, (partition, producer), &vec![40; count as usize], identity, sequence);
    loop {
        let connection = world.connect().await;
        let request = request_of(partition, &batch.bytes);
        match connection.send(request, PRODUCE_VERSION).answer().await {
            Ok(Some(Response::Produce(answer))) => {
                let answer = &answer.responses[0].partition_responses[0];
                match code_of(answer.error_code) {
                    ErrorCode::None => {
                        return note_promises(world, partition, &batch, answer.base_offset);
                    }
                    ErrorCode::DuplicateSequenceNumber if world.oracle.has_holes(partition) => {
                        return note_promises(world, partition, &batch, -1);
                    }
                    code => world.oracle.refused(producer, sequence, code),
                }
            }
            Ok(other) => panic!("Produce was answered with {other:?}"),
            Err(Disconnected) => {}
        }
        world.pause_ms(silence_ms).await;
    }
}

/// A batch of new records with these paddings.
fn batch_of(
    world: &Surroundings,
    (partition, producer): (Partition, u32),
    paddings: &[usize],
    (id, epoch): (i64, i16),
    base_sequence: i32,
) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None, None).with_producer(id, epoch, base_sequence);
    let mut records = Vec::new();
    for padding in paddings {
        let record = world.oracle.sending(partition, producer);
        let value = encode_value(record, *padding);
        let timestamp_ms = world.clock.now_ms() as i64;
        builder.push(timestamp_ms, None, Some(&value), &[]).expect("a record fits its batch");
        records.push(record);
    }
    let bytes = builder.build().expect("a batch of a few records");
    Batch { base_sequence, records, bytes, tries: 0 }
}

fn request_of(partition: Partition, records: &Bytes) -> Request {
    let (name, index) = place(partition);
    let data = produce_request::TopicProduceData {
        name,
        partition_data: vec![produce_request::PartitionProduceData {
            index,
            records: Some(records.clone()),
        }],
        ..Default::default()
    };
    Request::Produce(ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![data],
        ..ProduceRequest::default()
    })
}

/// Notes that a batch was acknowledged.
fn note_promises(world: &Surroundings, partition: Partition, batch: &Batch, base_offset: i64) {
    let (producer, sequence) =
        (batch.records.first().map_or(0, |id| id.producer), batch.base_sequence);
    world.trace.note(&format!("p{producer}"), || {
        format!("sequence {sequence} is acknowledged at {base_offset} of {partition}")
    });
    for (index, record) in batch.records.iter().enumerate() {
        let offset = (base_offset >= 0).then(|| base_offset + index as i64);
        world.oracle.acknowledged(partition, *record, offset);
    }
}
