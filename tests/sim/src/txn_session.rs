//! One instance of a transactional producer: who it is, its requests before KIP-890 and since, and
//! how it sends them again until they are answered. Must never look into the node.

use crate::client::{Surroundings, code_of};
use crate::history::{Partition, RecordId};
use crate::network::{Connection, Disconnected, Pending};
use crate::topics::place;
use bytes::Bytes;
use millpond_storage::disk::sim::SimRng;
use millpond_wire::ErrorCode;
use millpond_wire::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest,
    ProduceRequest, Request, Response, TxnOffsetCommitRequest, add_partitions_to_txn_request,
    produce_request, txn_offset_commit_request,
};
use millpond_wire::record::{BatchBuilder, Codec};
use std::collections::{BTreeMap, VecDeque};

/// The group of all workers.
pub const GROUP: &str = "millers-in-transactions";

/// Before KIP-890 a request of an earlier transaction is told from one of the next by nothing but
/// its time: such a client waits for longer than a message travels before it sends again, in ms.
const SILENCE_MS: u64 = 5;
/// An operation is refused no more often than this.
const TRIES_MAX: u32 = 3_000;

/// Why an operation did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client died while it waited for the answer.
    Died,
    /// The node refused it for good, at this try.
    Refused(ErrorCode, u32),
}

/// One instance of a transactional producer.
pub struct Session {
    world: Surroundings,
    rng: SimRng,
    transactional_id: String,
    producer_id: i64,
    epoch: i16,
    /// Speaks KIP-890.
    pub is_v2: bool,
    /// How long its transactions may take.
    pub timeout_ms: u64,
    /// The next sequence of each partition.
    sequences: BTreeMap<Partition, i32>,
    connection: Option<Connection>,
}

/// Records for one partition that are not acknowledged yet.
pub struct TxnBatch {
    partition: Partition,
    records: Vec<RecordId>,
    bytes: Bytes,
}

impl Session {
    /// A new instance: whoever had the transactional id before is fenced.
    pub async fn start(
        world: &Surroundings,
        mut rng: SimRng,
        transactional_id: String,
        is_v2: bool,
    ) -> Session {
        let timeout_ms = rng.between(150, 900);
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id.clone()),
            transaction_timeout_ms: timeout_ms as i32,
            producer_id: -1,
            producer_epoch: -1,
        };
        loop {
            let answer = world.ask(Request::InitProducerId(request.clone()), 4).await;
            let Response::InitProducerId(answer) = answer else {
                panic!("InitProducerId was answered with {answer:?}");
            };
            let code = code_of(answer.error_code);
            if code == ErrorCode::None {
                let (producer_id, epoch) = (answer.producer_id, answer.producer_epoch);
                world.trace.note("txn", || format!("{transactional_id} is {producer_id}:{epoch}"));
                return Session {
                    world: world.clone(),
                    rng,
                    transactional_id,
                    producer_id,
                    epoch,
                    is_v2,
                    timeout_ms,
                    sequences: BTreeMap::new(),
                    connection: None,
                };
            }
            if !code.is_retriable() {
                let what = format!("{transactional_id}: InitProducerId refused with {code:?}");
                world.oracle.violated(what);
            }
            world.pause_ms(20).await;
        }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        let name = &self.transactional_id;
        self.world.trace.note(name, || format!("{}:{} {}", self.producer_id, self.epoch, what()));
    }

    /// Makes partitions part of the transaction, as was needed before KIP-890.
    pub async fn add_partitions(&mut self, partitions: &[Partition]) -> Result<(), Failure> {
        if self.is_v2 {
            return Ok(());
        }
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            let (name, index) = place(*partition);
            topics.entry(name).or_default().push(index);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            add_partitions_to_txn_request::AddPartitionsToTxnTopic { name, partitions }
        });
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.transactional_id.clone(),
            v3_and_below_producer_id: self.producer_id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: topics.collect(),
            ..AddPartitionsToTxnRequest::default()
        };
        self.insist(Request::AddPartitionsToTxn(request), 3).await.map(drop)
    }

    /// A batch that is the next of its partition.
    pub fn batch(&mut self, partition: Partition, records: Vec<RecordId>) -> TxnBatch {
        let next = self.sequences.entry(partition).or_default();
        let mut builder = BatchBuilder::new(Codec::None, None)
            .with_transactional(true)
            .with_producer(self.producer_id, self.epoch, *next);
        *next += records.len() as i32;
        let bytes = filled(&self.world, &mut self.rng, &mut builder, &records);
        TxnBatch { partition, records, bytes }
    }

    /// Sends batches and waits until all of them are acknowledged.
    pub async fn produce(&mut self, batches: Vec<TxnBatch>) -> Result<(), Failure> {
        let mut left: VecDeque<TxnBatch> = batches.into();
        for tries in 1.. {
            let under_way: Vec<Pending> = {
                let requests: Vec<Request> = left.iter().map(|one| self.request(one)).collect();
                let version = if self.is_v2 { 12 } else { 9 };
                let connection = self.connected().await;
                let send = |request| connection.send(request, version);
                requests.into_iter().map(send).collect()
            };
            for pending in under_way {
                let code = match pending.answer().await {
                    Ok(Some(Response::Produce(answer))) => self.take_answer(&mut left, &answer),
                    Ok(other) => panic!("Produce was answered with {other:?}"),
                    Err(Disconnected) => break,
                };
                match code {
                    ErrorCode::None => {}
                    code if code.is_retriable() => break,
                    code => return Err(self.refused(code, tries)),
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            self.next_try(tries).await?;
        }
        Ok(())
    }

    /// Takes note of the answer to the oldest batch.
    fn take_answer(
        &self,
        left: &mut VecDeque<TxnBatch>,
        answer: &millpond_wire::messages::ProduceResponse,
    ) -> ErrorCode {
        let answer = &answer.responses[0].partition_responses[0];
        let batch = left.front().expect("an answer belongs to a batch");
        let code = code_of(answer.error_code);
        let is_lost = code == ErrorCode::DuplicateSequenceNumber
            && self.world.oracle.has_holes(batch.partition);
        if code != ErrorCode::None && !is_lost {
            return code;
        }
        self.note(|| {
            let (first, at) = (batch.records[0], answer.base_offset);
            format!("{first} and on are acknowledged at {at} of {}", batch.partition)
        });
        for (index, record) in (0..).zip(&batch.records) {
            let offset = (answer.base_offset >= 0).then(|| answer.base_offset + index);
            self.world.txns.acknowledged(*record, offset);
        }
        left.pop_front();
        ErrorCode::None
    }

    fn request(&self, batch: &TxnBatch) -> Request {
        produce_request_of(Some(&self.transactional_id), batch.partition, batch.bytes.clone())
    }

    /// Makes an offset of the group part of the transaction.
    pub async fn commit_offset(
        &mut self,
        partition: Partition,
        offset: i64,
    ) -> Result<(), Failure> {
        if !self.is_v2 {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.transactional_id.clone(),
                producer_id: self.producer_id,
                producer_epoch: self.epoch,
                group_id: GROUP.to_owned(),
            };
            self.insist(Request::AddOffsetsToTxn(request), 3).await?;
        }
        let (name, partition_index) = place(partition);
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            ..Default::default()
        };
        let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic {
            name,
            partitions: vec![partition],
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: self.transactional_id.clone(),
            group_id: GROUP.to_owned(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            generation_id: -1,
            topics: vec![topic],
            ..TxnOffsetCommitRequest::default()
        };
        let version = if self.is_v2 { 5 } else { 3 };
        self.insist(Request::TxnOffsetCommit(request), version).await.map(drop)
    }

    /// Ends the transaction, and goes on as it is told.
    pub async fn end(&mut self, is_commit: bool) -> Result<(), Failure> {
        let (request, version) = self.end_request(is_commit);
        let answer = self.insist(request, version).await?;
        if let Response::EndTxn(answer) = answer
            && self.is_v2
        {
            (self.producer_id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
        }
        self.note(|| format!("is the next, the last one ended: commit {is_commit}"));
        Ok(())
    }

    /// Sends the end of the transaction, and does not wait.
    pub async fn send_end(&mut self, is_commit: bool) -> Pending {
        let (request, version) = self.end_request(is_commit);
        self.connected().await.send(request, version)
    }

    fn end_request(&self, committed: bool) -> (Request, i16) {
        self.note(|| format!("asks for the end: commit {committed}"));
        let request = EndTxnRequest {
            transactional_id: self.transactional_id.clone(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed,
        };
        (Request::EndTxn(request), if self.is_v2 { 5 } else { 3 })
    }

    /// Sends until there is an answer that will not be another one the next time.
    async fn insist(&mut self, request: Request, version: i16) -> Result<Response, Failure> {
        let mut tries = 1;
        loop {
            let pending = self.connected().await.send(request.clone(), version);
            if self.rng.chance(20) {
                self.cut();
            }
            if let Ok(Some(answer)) = pending.answer().await {
                match code_in(&answer) {
                    ErrorCode::None => return Ok(answer),
                    code if !code.is_retriable() => return Err(self.refused(code, tries)),
                    code => self.note(|| format!("has to wait: {code:?}")),
                }
            }
            self.next_try(tries).await?;
            tries += 1;
        }
    }

    fn refused(&self, code: ErrorCode, tries: u32) -> Failure {
        self.note(|| format!("is refused at try {tries}: {code:?}"));
        Failure::Refused(code, tries)
    }

    async fn connected(&mut self) -> &Connection {
        let connection = match self.connection.take() {
            Some(connection) if connection.is_whole() => connection,
            _ => self.world.connect().await,
        };
        self.connection.insert(connection)
    }

    fn cut(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.cut();
        }
    }

    /// After a failure: the client dies, or tries again over a new connection.
    async fn next_try(&mut self, tries: u32) -> Result<(), Failure> {
        self.cut();
        if tries >= TRIES_MAX {
            self.world.oracle.violated(format!("{}: no progress", self.transactional_id));
            return Err(Failure::Died);
        }
        if self.rng.chance(100) {
            self.note(|| "dies".to_owned());
            return Err(Failure::Died);
        }
        let pause_ms =
            if self.is_v2 { tries.min(20).into() } else { SILENCE_MS.max(tries.min(20).into()) };
        self.world.pause_ms(pause_ms).await;
        Ok(())
    }
}

/// Sends one record that is part of no transaction, once; whether it was acknowledged, and where.
pub async fn send_plain(
    world: &Surroundings,
    rng: &mut SimRng,
    partition: Partition,
    record: RecordId,
) -> Option<i64> {
    let mut builder = BatchBuilder::new(Codec::None, None);
    let bytes = filled(world, rng, &mut builder, &[record]);
    let connection = world.connect().await;
    let pending = connection.send(produce_request_of(None, partition, bytes), 9);
    match pending.answer().await {
        Ok(Some(Response::Produce(answer))) => {
            let answer = &answer.responses[0].partition_responses[0];
            (answer.error_code == ErrorCode::None.code()).then_some(answer.base_offset)
        }
        _ => None,
    }
}

fn filled(
    world: &Surroundings,
    rng: &mut SimRng,
    builder: &mut BatchBuilder,
    records: &[RecordId],
) -> Bytes {
    for record in records {
        let padding = if rng.chance(20) { 70_000 } else { rng.between(0, 300) as usize };
        let value = crate::client::encode_value(*record, padding);
        let timestamp_ms = world.clock.now_ms() as i64;
        builder.push(timestamp_ms, None, Some(&value), &[]).expect("a record fits its batch");
    }
    builder.build().expect("a batch of a few records")
}

fn produce_request_of(
    transactional_id: Option<&str>,
    partition: Partition,
    records: Bytes,
) -> Request {
    let (name, index) = place(partition);
    let data = produce_request::TopicProduceData {
        name,
        partition_data: vec![produce_request::PartitionProduceData {
            index,
            records: Some(records),
        }],
        ..Default::default()
    };
    Request::Produce(ProduceRequest {
        transactional_id: transactional_id.map(str::to_owned),
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![data],
    })
}

/// The first error of an answer.
pub fn code_in(answer: &Response) -> ErrorCode {
    let code = match answer {
        Response::AddPartitionsToTxn(answer) => {
            let topics = answer.results_by_topic_v3_and_below.iter();
            let mut codes = topics.flat_map(|topic| &topic.results_by_partition);
            codes
                .find(|one| one.partition_error_code != 0)
                .map_or(0, |one| one.partition_error_code)
        }
        Response::AddOffsetsToTxn(answer) => answer.error_code,
        Response::EndTxn(answer) => answer.error_code,
        Response::TxnOffsetCommit(answer) => {
            let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
            codes.find(|one| one.error_code != 0).map_or(0, |one| one.error_code)
        }
        Response::Produce(answer) => answer.responses[0].partition_responses[0].error_code,
        other => panic!("not an answer of a transaction: {other:?}"),
    };
    code_of(code)
}
