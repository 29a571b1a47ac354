//! The clients of a run: idempotent producers that send again until they are answered, a group that
//! commits offsets, readers that follow the log. They behave as real clients do and note every
//! promise that they are given. Must never look into the node.

use crate::history::{Partition, RecordId};
use crate::network::{Connection, Disconnected, Network, Pending};
use crate::oracle::Oracle;
use crate::trace::Trace;
use bytes::Bytes;
use millpond_storage::disk::sim::{SimClock, SimRng};
use millpond_wire::ErrorCode;
use millpond_wire::messages::{
    CreateTopicsRequest, FetchRequest, InitProducerIdRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest, Request, Response, create_topics_request, fetch_request,
    offset_commit_request, offset_fetch_request, produce_request,
};
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 11;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
const OFFSET_COMMIT_VERSION: i16 = 8;
const OFFSET_FETCH_VERSION: i16 = 5;
const CREATE_TOPICS_VERSION: i16 = 5;

/// The batches that a producer may have under way, as in Kafka.
const IN_FLIGHT_MAX: usize = 5;
/// The consumer group of every run.
pub const GROUP: &str = "millers";
/// The topic that is stored as it is sent.
pub const PLAIN_TOPIC: &str = "plain";
/// The topic whose transform drops every record with an odd sequence.
pub const SIFTED_TOPIC: &str = "sifted";
/// Partitions of each topic.
pub const PARTITIONS: i32 = 3;
/// In the oracle's books the sifted topic's partitions begin here.
pub const SIFTED_BASE: Partition = 100;

/// A partition as the oracle counts it: its topic and its index there.
pub fn place(partition: Partition) -> (&'static str, i32) {
    if partition >= SIFTED_BASE {
        (SIFTED_TOPIC, partition - SIFTED_BASE)
    } else {
        (PLAIN_TOPIC, partition)
    }
}

/// Whether the transform of the run drops this record.
pub fn is_dropped(partition: Partition, record: RecordId) -> bool {
    partition >= SIFTED_BASE && record.sequence % 2 == 1
}

/// What every client has at hand.
#[derive(Clone)]
pub struct Surroundings {
    /// Virtual time.
    pub clock: SimClock,
    /// The wires.
    pub network: Network,
    /// The books.
    pub oracle: Oracle,
    /// For people.
    pub trace: Trace,
    /// Set when the run is over: clients finish what they have under way.
    pub is_over: Rc<Cell<bool>>,
}

impl Surroundings {
    async fn pause_ms(&self, pause_ms: u64) {
        self.clock.sleep_until_ns(self.clock.now_ns() + pause_ms * 1_000_000).await;
    }

    async fn connect(&self) -> Connection {
        loop {
            match self.network.connect() {
                Some(connection) => return connection,
                None => self.pause_ms(7).await,
            }
        }
    }

    /// Asks until there is an answer.
    async fn ask(&self, request: Request, version: i16) -> Response {
        loop {
            let connection = self.connect().await;
            match connection.send(request.clone(), version).answer().await {
                Ok(Some(response)) => return response,
                Ok(None) | Err(Disconnected) => self.pause_ms(5).await,
            }
        }
    }
}

/// Creates the topics of the run, again and again until they are there.
pub async fn create_topics(world: &Surroundings) {
    let topics = [PLAIN_TOPIC, SIFTED_TOPIC].map(|name| create_topics_request::CreatableTopic {
        name: name.to_owned(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        ..Default::default()
    });
    let request = CreateTopicsRequest {
        topics: topics.to_vec(),
        timeout_ms: 5_000,
        ..CreateTopicsRequest::default()
    };
    loop {
        let answer = world.ask(Request::CreateTopics(request.clone()), CREATE_TOPICS_VERSION).await;
        let Response::CreateTopics(answer) = answer else {
            panic!("CreateTopics was answered with {answer:?}");
        };
        let there = [ErrorCode::None.code(), ErrorCode::TopicAlreadyExists.code()];
        if answer.topics.iter().all(|topic| there.contains(&topic.error_code)) {
            return;
        }
        world.pause_ms(20).await;
    }
}

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
        let (id, epoch) = self.producer_id().await;
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

    async fn producer_id(&self) -> (i64, i16) {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        loop {
            let request = Request::InitProducerId(request.clone());
            let answer = self.world.ask(request, INIT_PRODUCER_ID_VERSION).await;
            let Response::InitProducerId(answer) = answer else {
                panic!("InitProducerId was answered with {answer:?}");
            };
            if answer.error_code == ErrorCode::None.code() {
                self.world.oracle.producer_id_given(answer.producer_id);
                return (answer.producer_id, answer.producer_epoch);
            }
            self.world.pause_ms(20).await;
        }
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
        let count = self.rng.between(1, 4);
        let large = self.rng.chance(50);
        let mut builder =
            BatchBuilder::new(Codec::None, None).with_producer(id, epoch, base_sequence);
        let mut records = Vec::new();
        for _ in 0..count {
            let record = self.world.oracle.sending(self.partition, self.producer);
            let padding = if large { self.rng.between(0, 9_000) } else { self.rng.between(0, 200) };
            let value = encode_value(record, padding as usize);
            let timestamp_ms = self.world.clock.now_ms() as i64;
            builder.push(timestamp_ms, None, Some(&value), &[]).expect("a record fits its batch");
            records.push(record);
        }
        let bytes = builder.build().expect("a batch of a few records");
        Batch { base_sequence, records, bytes, tries: 0 }
    }

    fn send(&self, connection: &Connection, batch: &mut Batch) -> Pending {
        batch.tries += 1;
        self.world.trace.note(&self.name(), || {
            let (first, count) = (batch.base_sequence, batch.records.len());
            format!("sends {count} from sequence {first} (try {})", batch.tries)
        });
        let (topic, index) = place(self.partition);
        let data = produce_request::TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![produce_request::PartitionProduceData {
                index,
                records: Some(batch.bytes.clone()),
            }],
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![data],
            ..ProduceRequest::default()
        };
        connection.send(Request::Produce(request), PRODUCE_VERSION)
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
        if code != ErrorCode::None {
            self.world.trace.note(&self.name(), || {
                format!("sequence {} is refused: {code:?}", batch.base_sequence)
            });
            self.world.oracle.refused(self.producer, batch.base_sequence, code);
            return false;
        }
        let base_offset = partition.base_offset;
        self.world.trace.note(&self.name(), || {
            format!("sequence {} is acknowledged at {base_offset}", batch.base_sequence)
        });
        for (index, record) in batch.records.iter().enumerate() {
            let offset = (base_offset >= 0).then(|| base_offset + index as i64);
            self.world.oracle.acknowledged(self.partition, *record, offset);
        }
        window.pop_front();
        true
    }
}

/// A group that commits ever higher offsets of one partition, and looks whether they stay.
pub struct Committer {
    /// Where it is.
    pub world: Surroundings,
    /// Its partition in the books.
    pub partition: Partition,
    /// Decides pauses and steps.
    pub rng: SimRng,
}

impl Committer {
    /// Commits and looks until the run is over.
    pub async fn run(mut self) {
        let mut offset = 0;
        while !self.world.is_over.get() {
            if self.rng.chance(300) {
                look_at_commit(&self.world, self.partition).await;
            } else {
                offset += self.rng.between(1, 9) as i64;
                self.commit(offset).await;
            }
            self.world.pause_ms(self.rng.between(1, 60)).await;
        }
    }

    async fn commit(&self, offset: i64) {
        let (topic, index) = place(self.partition);
        let partition = offset_commit_request::OffsetCommitRequestPartition {
            partition_index: index,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: Some(format!("at {offset}")),
        };
        let request = OffsetCommitRequest {
            group_id: GROUP.to_owned(),
            generation_id_or_member_epoch: -1,
            topics: vec![offset_commit_request::OffsetCommitRequestTopic {
                name: topic.to_owned(),
                partitions: vec![partition],
            }],
            ..OffsetCommitRequest::default()
        };
        self.world.oracle.committing(GROUP, self.partition, offset);
        let connection = self.world.connect().await;
        let pending = connection.send(Request::OffsetCommit(request), OFFSET_COMMIT_VERSION);
        if let Ok(Some(Response::OffsetCommit(answer))) = pending.answer().await
            && answer.topics[0].partitions[0].error_code == ErrorCode::None.code()
        {
            self.world.trace.note("g", || format!("commit {} at {offset}", self.partition));
            self.world.oracle.committed(GROUP, self.partition, offset);
        }
    }
}

/// Asks for a committed offset and holds it against the books.
pub async fn look_at_commit(world: &Surroundings, partition: Partition) {
    let (topic, index) = place(partition);
    let request = OffsetFetchRequest {
        group_id: GROUP.to_owned(),
        topics: Some(vec![offset_fetch_request::OffsetFetchRequestTopic {
            name: topic.to_owned(),
            partition_indexes: vec![index],
        }]),
        ..OffsetFetchRequest::default()
    };
    let promised = world.oracle.commit_promised(GROUP, partition);
    let answer = world.ask(Request::OffsetFetch(request), OFFSET_FETCH_VERSION).await;
    let Response::OffsetFetch(answer) = answer else {
        panic!("OffsetFetch was answered with {answer:?}");
    };
    let found = &answer.topics[0].partitions[0];
    if answer.error_code == ErrorCode::None.code() && found.error_code == ErrorCode::None.code() {
        world.oracle.commit_found(GROUP, partition, promised, found.committed_offset);
    }
}

/// Follows a partition from its start; everything that it is shown must stay for ever.
pub struct Reader {
    /// Where it is.
    pub world: Surroundings,
    /// Its partition in the books.
    pub partition: Partition,
    /// Decides waits and limits.
    pub rng: SimRng,
}

impl Reader {
    /// Reads until the run is over.
    pub async fn run(mut self) {
        let mut offset = 0;
        while !self.world.is_over.get() {
            if self.rng.chance(50) {
                offset = 0;
            }
            let limits = (self.rng.between(1, 20_000) as i32, self.rng.between(0, 80) as i32);
            offset = read_once(&self.world, self.partition, offset, limits).await;
            self.world.pause_ms(self.rng.between(0, 30)).await;
        }
    }
}

/// Reads a partition from its start to its high watermark.
pub async fn read_all(world: &Surroundings, partition: Partition) {
    let mut offset = 0;
    loop {
        let next = read_once(world, partition, offset, (1 << 20, 0)).await;
        if next == offset {
            return;
        }
        offset = next;
    }
}

/// One fetch; returns where to read on.
async fn read_once(
    world: &Surroundings,
    partition: Partition,
    offset: i64,
    (max_bytes, max_wait_ms): (i32, i32),
) -> i64 {
    let (topic, index) = place(partition);
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes,
        session_epoch: -1,
        topics: vec![fetch_request::FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![fetch_request::FetchPartition {
                partition: index,
                current_leader_epoch: -1,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..FetchRequest::default()
    };
    let answer = world.ask(Request::Fetch(request), FETCH_VERSION).await;
    let Response::Fetch(answer) = answer else {
        panic!("Fetch was answered with {answer:?}");
    };
    let Some(data) = answer.responses.first().and_then(|topic| topic.partitions.first()) else {
        return offset;
    };
    if data.error_code != ErrorCode::None.code() {
        let code = code_of(data.error_code);
        world.oracle.read_refused(partition, offset, code);
        return offset;
    }
    let records = data.records.as_ref().map(|rope| rope.to_bytes()).unwrap_or_default();
    take_records(world, partition, offset, records, data.high_watermark)
}

fn take_records(
    world: &Surroundings,
    partition: Partition,
    offset: i64,
    records: Bytes,
    high_watermark: i64,
) -> i64 {
    let batches = LogBatch::split(records, 10_000).expect("whole batches with right checksums");
    let mut next = offset;
    for batch in batches {
        assert!(batch.last_offset() < high_watermark, "read above the high watermark");
        let plain = batch.to_batch().expect("a parsed batch");
        let section = plain.decompress(1 << 24).expect("a small batch");
        for record in plain.records(&section) {
            let record = record.expect("a whole record");
            let at = batch.base_offset() + i64::from(record.offset_delta);
            let id = decode_value(record.value.unwrap_or_default());
            world.oracle.read(partition, at, id);
            next = next.max(at + 1);
        }
    }
    next
}

fn code_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or_else(|| panic!("{code} is no error code of Kafka"))
}

fn encode_value(record: RecordId, padding: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + padding);
    value.extend_from_slice(&record.producer.to_be_bytes());
    value.extend_from_slice(&record.sequence.to_be_bytes());
    value.resize(8 + padding, b'.');
    value
}

/// The record that a value names.
pub fn decode_value(value: &[u8]) -> RecordId {
    let word = |at: usize| {
        let bytes = value.get(at..at + 4).expect("a value that a producer of this run wrote");
        u32::from_be_bytes(bytes.try_into().expect("four bytes"))
    };
    RecordId { producer: word(0), sequence: word(4) }
}
