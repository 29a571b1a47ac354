//! Transactions (KIP-98): records of many partitions, and offsets of a group, that count together or not
//! at all.
//!
//! [`Book`] decides, and is pure: what may be done now, and what is still to be told to the broker. It
//! never commits a transaction of which something was not delivered, and never goes on after another
//! producer has taken the transactional id over.

use super::{DeliveryFuture, Partitioner, Producer, ProducerId, Record, SendError};
use crate::client::expect_response;
use crate::connection::Connection;
use crate::error::{CallError, ClientError};
use crate::path::jittered;
use millpond_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millpond_wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millpond_wire::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest,
    Request, Response, TxnOffsetCommitRequest,
};
use millpond_wire::{ErrorCode, limits};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The first pause before a question to the coordinator is asked again; it doubles up to a second.
const PAUSE: Duration = Duration::from_millis(20);
/// The last version of AddPartitionsToTxn that clients use.
const ADD_PARTITIONS_VERSION: i16 = 3;
/// The last versions before KIP-890 moved the epoch on at every end.
const END_VERSION: i16 = 4;
const OFFSETS_VERSION: i16 = 4;

/// Why something could not be done in a transaction.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    /// It is not the time for it.
    #[error("{0}")]
    Order(&'static str),
    /// Something of the transaction was not delivered: it can only be aborted.
    #[error("something of the transaction was not delivered; abort it")]
    Spoilt,
    /// Another producer has taken the transactional id over, or the broker has ended the transaction.
    /// This producer is of no more use.
    #[error("another producer has the transactional id now, or the transaction took too long")]
    Fenced,
    /// There are too many partitions and groups in it.
    #[error("a transaction has at most {most} partitions and groups")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// The record was not taken.
    #[error(transparent)]
    Send(#[from] Box<SendError>),
    /// The broker could not be asked, or said no.
    #[error(transparent)]
    Client(#[from] Box<ClientError>),
}

/// Where a member of a group stands, so that offsets of one that was replaced are refused (KIP-447).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlace {
    /// The group.
    pub group: String,
    /// The member, empty for none.
    pub member_id: String,
    /// Its generation, or epoch; -1 for none.
    pub generation_id: i32,
}

impl GroupPlace {
    /// A group without members: whoever commits last is right.
    pub fn of(group: impl Into<String>) -> Self {
        Self { group: group.into(), member_id: String::new(), generation_id: -1 }
    }
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    None,
    Open,
    /// Fenced, for good.
    Over,
}

/// What is part of the transaction, and what may be done.
#[derive(Debug, Default)]
struct Book {
    phase: Phase,
    partitions: BTreeSet<(Arc<str>, i32)>,
    groups: BTreeSet<String>,
    /// Where records without a key go in this transaction.
    unkeyed: BTreeMap<Arc<str>, u32>,
}

impl Book {
    fn begin(&mut self) -> Result<(), TransactionError> {
        match self.phase {
            Phase::None => {
                self.phase = Phase::Open;
                Ok(())
            }
            Phase::Open => Err(TransactionError::Order("a transaction is open already")),
            Phase::Over => Err(TransactionError::Fenced),
        }
    }

    fn check_open(&self) -> Result<(), TransactionError> {
        match self.phase {
            Phase::Open => Ok(()),
            Phase::None => Err(TransactionError::Order("no transaction is open: begin one")),
            Phase::Over => Err(TransactionError::Fenced),
        }
    }

    /// Whether the broker has still to be told of a partition.
    fn must_add(&self, topic: &Arc<str>, partition: i32) -> Result<bool, TransactionError> {
        self.check_open()?;
        if self.partitions.contains(&(Arc::clone(topic), partition)) {
            return Ok(false);
        }
        self.check_room().map(|()| true)
    }

    fn check_room(&self) -> Result<(), TransactionError> {
        let most = limits::CLIENT_TRANSACTION_PARTITIONS_MAX;
        match self.partitions.len() + self.groups.len() < most {
            true => Ok(()),
            false => Err(TransactionError::TooMany { most }),
        }
    }

    /// Whether the broker knows of the transaction at all.
    fn is_known(&self) -> bool {
        !self.partitions.is_empty() || !self.groups.is_empty()
    }

    fn ended(&mut self) {
        *self = Self::default();
    }

    fn fenced(&mut self) {
        *self = Self { phase: Phase::Over, ..Self::default() };
    }
}

/// Sends records in transactions. Made by
/// [`ProducerBuilder::connect_transactional`](super::ProducerBuilder::connect_transactional).
///
/// ```no_run
/// use millpond_client::{ClientConfig, Producer, Record, Trust};
///
/// # async fn example(fingerprint: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let config = ClientConfig::new("quic://127.0.0.1:9092")?.trust(Trust::fingerprint(fingerprint)?);
/// let producer =
///     Producer::builder().transactional_id("billing-1").connect_transactional(config).await?;
/// producer.begin().await?;
/// drop(producer.send(Record::to("debits").key("ann").value("5")).await?);
/// drop(producer.send(Record::to("credits").key("bob").value("5")).await?);
/// producer.commit().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TransactionalProducer {
    producer: Producer,
    id: String,
    timeout: Duration,
    give_up: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    book: Book,
    identity: ProducerId,
    lane: Option<Connection>,
}

impl TransactionalProducer {
    pub(super) async fn start(
        producer: Producer,
        id: String,
        timeout: Duration,
        give_up: Duration,
    ) -> Result<Self, ClientError> {
        let identity = ProducerId { id: -1, epoch: -1 };
        let state = State { book: Book::default(), identity, lane: None };
        let this = Self { producer, id, timeout, give_up, state: Mutex::new(state) };
        {
            let mut state = this.state.lock().await;
            this.renew(&mut state).await.map_err(|error| match error {
                TransactionError::Client(error) => *error,
                other => {
                    ClientError::Config { setting: "transactional_id", reason: other.to_string() }
                }
            })?;
        }
        Ok(this)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`TransactionError::Order`] if one is open, [`TransactionError::Fenced`].
    pub async fn begin(&self) -> Result<(), TransactionError> {
        self.state.lock().await.book.begin()
    }

    /// Takes a record into the transaction; waits while the buffer is full. Its delivery need not be
    /// waited for: [`commit`](Self::commit) does.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub async fn send(&self, record: Record) -> Result<DeliveryFuture, TransactionError> {
        let mut state = self.state.lock().await;
        state.book.check_open()?;
        if self.is_spoilt() {
            return Err(TransactionError::Spoilt);
        }
        let partition = self.choose(&mut state, &record).await?;
        if state.book.must_add(&record.topic, partition)? {
            self.add_partition(&mut state, &record.topic, partition).await?;
            state.book.partitions.insert((Arc::clone(&record.topic), partition));
        }
        // Within the lock: an end that is asked for meanwhile comes after this record.
        let sent = self.producer.send(record.partition(partition)).await;
        sent.map_err(|error| TransactionError::Send(Box::new(error)))
    }

    /// Makes offsets of a group part of the transaction: `(topic, partition, next offset to read)`.
    ///
    /// # Errors
    /// [`TransactionError`]; a broker that refuses the member refuses with its code.
    pub async fn send_offsets(
        &self,
        place: &GroupPlace,
        offsets: &[(Arc<str>, i32, i64)],
    ) -> Result<(), TransactionError> {
        let mut state = self.state.lock().await;
        state.book.check_open()?;
        if !state.book.groups.contains(&place.group) {
            state.book.check_room()?;
            let request = Request::AddOffsetsToTxn(AddOffsetsToTxnRequest {
                transactional_id: self.id.clone(),
                producer_id: state.identity.id,
                producer_epoch: state.identity.epoch,
                group_id: place.group.clone(),
            });
            self.ask(&mut state, request, i16::MAX, |response| match response {
                Response::AddOffsetsToTxn(answer) => Some(answer.error_code),
                _ => None,
            })
            .await?;
            state.book.groups.insert(place.group.clone());
        }
        self.commit_offsets(&mut state, place, offsets).await
    }

    /// Waits until everything is delivered and makes the transaction count.
    ///
    /// # Errors
    /// [`TransactionError::Spoilt`] if something was not delivered: abort then. After any other error it
    /// is not known whether the transaction counts; committing again is safe.
    pub async fn commit(&self) -> Result<(), TransactionError> {
        let mut state = self.state.lock().await;
        state.book.check_open()?;
        self.producer.flush().await;
        if self.is_spoilt() {
            return Err(TransactionError::Spoilt);
        }
        self.end(&mut state, true).await?;
        state.book.ended();
        Ok(())
    }

    /// Gives the transaction up: nobody who reads committed records sees anything of it.
    ///
    /// # Errors
    /// [`TransactionError`]; aborting again is safe.
    pub async fn abort(&self) -> Result<(), TransactionError> {
        let mut state = self.state.lock().await;
        state.book.check_open()?;
        self.producer.shared().accumulator().begin_abort();
        // What is under way has one answer, or its time-out, to go.
        self.producer.flush().await;
        self.end(&mut state, false).await?;
        // A new epoch: nothing that is still on some line can be taken any more.
        self.renew(&mut state).await?;
        state.book.ended();
        Ok(())
    }

    /// Ends; an open transaction is aborted by the broker, now or after its time.
    pub async fn close(self) {
        let _ = self.abort().await;
        self.producer.close().await;
    }

    /// The producer's numbers.
    pub fn metrics(&self) -> super::ProducerMetrics {
        self.producer.metrics()
    }

    fn is_spoilt(&self) -> bool {
        self.producer.shared().accumulator().is_spoilt()
    }

    async fn choose(&self, state: &mut State, record: &Record) -> Result<i32, TransactionError> {
        let partitions = self.producer.partitions(&record.topic).await;
        let partitions = partitions.map_err(|error| TransactionError::Send(Box::new(error)))?;
        if let Some(named) = record.partition {
            // Whether it exists the producer says.
            return Ok(named);
        }
        let chosen = match &record.key {
            Some(key) => Partitioner::for_key(key, partitions),
            None => {
                let any = u32::try_from(chance() % u64::from(partitions.max(1))).unwrap_or(0);
                *state.book.unkeyed.entry(Arc::clone(&record.topic)).or_insert(any)
            }
        };
        Ok(i32::try_from(chosen).unwrap_or(0))
    }

    async fn add_partition(
        &self,
        state: &mut State,
        topic: &Arc<str>,
        partition: i32,
    ) -> Result<(), TransactionError> {
        let topics =
            vec![AddPartitionsToTxnTopic { name: topic.to_string(), partitions: vec![partition] }];
        let request = Request::AddPartitionsToTxn(AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: state.identity.id,
            v3_and_below_producer_epoch: state.identity.epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        });
        self.ask(state, request, ADD_PARTITIONS_VERSION, |response| match response {
            Response::AddPartitionsToTxn(answer) => {
                let topics = &answer.results_by_topic_v3_and_below;
                let mut results = topics.iter().flat_map(|topic| &topic.results_by_partition);
                results.next().map(|result| result.partition_error_code)
            }
            _ => None,
        })
        .await
    }

    async fn end(&self, state: &mut State, committed: bool) -> Result<(), TransactionError> {
        if !state.book.is_known() {
            return Ok(());
        }
        let request = Request::EndTxn(EndTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: state.identity.id,
            producer_epoch: state.identity.epoch,
            committed,
        });
        self.ask(state, request, END_VERSION, |response| match response {
            Response::EndTxn(answer) => Some(answer.error_code),
            _ => None,
        })
        .await
    }

    /// Takes the transactional id: a new epoch, which fences what was before.
    async fn renew(&self, state: &mut State) -> Result<(), TransactionError> {
        let request = Request::InitProducerId(InitProducerIdRequest {
            transactional_id: Some(self.id.clone()),
            transaction_timeout_ms: i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX),
            producer_id: state.identity.id,
            producer_epoch: state.identity.epoch,
        });
        let mut taken = state.identity;
        self.ask(state, request, i16::MAX, |response| match response {
            Response::InitProducerId(answer) => {
                taken = ProducerId { id: answer.producer_id, epoch: answer.producer_epoch };
                Some(answer.error_code)
            }
            _ => None,
        })
        .await?;
        state.identity = taken;
        self.producer.shared().accumulator().renew(taken);
        Ok(())
    }

    async fn commit_offsets(
        &self,
        state: &mut State,
        place: &GroupPlace,
        offsets: &[(Arc<str>, i32, i64)],
    ) -> Result<(), TransactionError> {
        let mut topics: BTreeMap<&Arc<str>, Vec<TxnOffsetCommitRequestPartition>> = BTreeMap::new();
        for (topic, partition, offset) in offsets {
            topics.entry(topic).or_default().push(TxnOffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(topic, partitions)| TxnOffsetCommitRequestTopic {
            name: topic.to_string(),
            partitions,
        });
        let request = Request::TxnOffsetCommit(TxnOffsetCommitRequest {
            transactional_id: self.id.clone(),
            group_id: place.group.clone(),
            producer_id: state.identity.id,
            producer_epoch: state.identity.epoch,
            generation_id: place.generation_id,
            member_id: place.member_id.clone(),
            group_instance_id: None,
            topics: topics.collect(),
        });
        let client = self.producer.client();
        let deadline = Instant::now() + self.give_up;
        let mut lane = None;
        let mut pause = PAUSE;
        loop {
            let tried = async {
                let coordinator = client.group_coordinator(&place.group).await?;
                let lane = open(client, &mut lane, coordinator).await?;
                let response = call(&lane, request.clone(), OFFSETS_VERSION).await?;
                let response = expect_response!(lane, response, TxnOffsetCommit);
                let mut results = response.topics.iter().flat_map(|topic| &topic.partitions);
                let bad = results.find(|result| result.error_code != 0);
                Ok(bad.map_or(0, |result| result.error_code))
            };
            if self.judge(state, tried.await, deadline)? {
                return Ok(());
            }
            rest(&mut pause).await;
        }
    }

    /// Asks the coordinator until it answers for good. `code_of`: the error code of a response.
    async fn ask(
        &self,
        state: &mut State,
        request: Request,
        newest: i16,
        mut code_of: impl FnMut(Response) -> Option<i16>,
    ) -> Result<(), TransactionError> {
        let client = self.producer.client();
        let deadline = Instant::now() + self.give_up;
        let mut pause = PAUSE;
        loop {
            let tried = async {
                let lane = match state.lane.take().filter(|lane| !lane.is_closed()) {
                    Some(lane) => lane,
                    None => {
                        let coordinator = client.transaction_coordinator(&self.id).await?;
                        client.lane(coordinator).await?
                    }
                };
                let api = request.api_key();
                let response = call(&lane, request.clone(), newest).await?;
                let code = code_of(response);
                let code = code.ok_or_else(|| lane.unexpected(api, "another API's response"))?;
                state.lane = Some(lane);
                Ok(code)
            };
            let tried = tried.await;
            if self.judge(state, tried, deadline)? {
                return Ok(());
            }
            rest(&mut pause).await;
        }
    }

    /// Whether it is done; false: it is worth another try.
    fn judge(
        &self,
        state: &mut State,
        tried: Result<i16, ClientError>,
        deadline: Instant,
    ) -> Result<bool, TransactionError> {
        let what = || format!("a transaction of `{}`", self.id);
        let error = match tried.map(|code| (code, ClientError::refused(what(), code, None))) {
            Ok((_, None)) => return Ok(true),
            Ok((code, Some(error))) => {
                if is_moved(code) {
                    state.lane = None;
                }
                error
            }
            Err(error) => error,
        };
        if is_fencing(error.code()) {
            state.book.fenced();
            return Err(TransactionError::Fenced);
        }
        match error.is_retriable() && Instant::now() < deadline {
            true => Ok(false),
            false => Err(TransactionError::Client(Box::new(error))),
        }
    }
}

fn is_fencing(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        Some(
            ErrorCode::ProducerFenced
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::InvalidProducerIdMapping
        )
    )
}

fn is_moved(code: i16) -> bool {
    matches!(
        ErrorCode::from_code(code),
        Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
    )
}

async fn open(
    client: &crate::Client,
    lane: &mut Option<Connection>,
    broker: i32,
) -> Result<Connection, ClientError> {
    if let Some(open) = lane.as_ref().filter(|lane| !lane.is_closed()) {
        return Ok(open.clone());
    }
    let opened = client.lane(broker).await?;
    *lane = Some(opened.clone());
    Ok(opened)
}

async fn call(lane: &Connection, request: Request, newest: i16) -> Result<Response, ClientError> {
    let api = request.api_key();
    let version = lane.version_up_to(api, newest);
    let version =
        version.ok_or_else(|| CallError::Unsupported { broker: lane.broker().clone(), api })?;
    Ok(lane.call_version(request, version).await?)
}

async fn rest(pause: &mut Duration) {
    tokio::time::sleep(jittered(*pause, chance())).await;
    *pause = (*pause * 2).min(Duration::from_secs(1));
}

fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_begun_before_it_is_used_and_once() {
        let mut book = Book::default();
        assert!(matches!(book.check_open(), Err(TransactionError::Order(_))));
        book.begin().unwrap();
        assert!(matches!(book.begin(), Err(TransactionError::Order(_))));
        book.ended();
        assert!(book.begin().is_ok());
    }

    #[test]
    fn a_partition_joins_once_and_an_empty_transaction_is_nobodys_business() {
        let mut book = Book::default();
        let topic: Arc<str> = "t".into();
        book.begin().unwrap();
        assert!(!book.is_known());
        assert!(book.must_add(&topic, 0).unwrap());
        book.partitions.insert((Arc::clone(&topic), 0));
        assert!(!book.must_add(&topic, 0).unwrap() && book.must_add(&topic, 1).unwrap());
        assert!(book.is_known());
        book.ended();
        book.begin().unwrap();
        assert!(book.must_add(&topic, 0).unwrap(), "in the next one it joins anew");
    }

    #[test]
    fn who_is_fenced_stays_so() {
        let mut book = Book::default();
        book.begin().unwrap();
        book.fenced();
        assert!(matches!(book.check_open(), Err(TransactionError::Fenced)));
        assert!(matches!(book.begin(), Err(TransactionError::Fenced)));
    }

    #[test]
    fn a_transaction_has_an_end_to_its_size() {
        let mut book = Book::default();
        book.begin().unwrap();
        let topic: Arc<str> = "t".into();
        for partition in 0..i32::try_from(limits::CLIENT_TRANSACTION_PARTITIONS_MAX).unwrap() {
            assert!(book.must_add(&topic, partition).unwrap());
            book.partitions.insert((Arc::clone(&topic), partition));
        }
        assert!(matches!(book.must_add(&topic, -1), Err(TransactionError::TooMany { .. })));
        assert!(!book.must_add(&topic, 0).unwrap());
    }
}
