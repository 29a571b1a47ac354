//! The one task of a producer: gives batches to brokers and takes answers in.
//!
//! All decisions are the accumulator's; this moves bytes, keeps the lanes to each broker, and asks for
//! metadata and for the producer id. It never holds a lock across a wait, and never starts a
//! second request on a lane before the first stands in line, so that order is kept.

use super::Shared;
use super::accumulator::{Drained, Parcel, Shipment};
use super::batch::ProducerId;
use super::lane::{Lane, LaneId, Leader, lanes_over};
use super::verdict::Verdict;
use crate::client::{Client, expect_response};

use crate::connection::{Connection, millis};
use crate::error::{CallError, ClientError};
use crate::path::jittered;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse};
use millpond_wire::messages::{Request, Response};
use millpond_wire::{ApiKey, ErrorCode};
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// The last version that names topics by name.
pub(crate) const PRODUCE_BY_NAME: i16 = 12;
/// The last version in which partitions join a transaction before they are written to (KIP-890).
const PRODUCE_AFTER_JOINING: i16 = 11;
/// Pause after a failure to connect, to learn metadata or to get an id; it doubles.
const PAUSE_MS: u64 = 50;
/// Longest such pause.
const PAUSE_MS_MAX: u64 = 1_000;

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut sender = Sender {
        shared,
        lanes: HashMap::new(),
        jobs: FuturesUnordered::new(),
        refresh: Errand::default(),
        identity: Errand::default(),
        stale_topics: BTreeSet::new(),
        refreshed_ms: 0,
    };
    loop {
        let wake_ms = sender.work();
        sender.wait(wake_ms).await;
    }
}

struct Sender {
    shared: Arc<Shared>,
    lanes: HashMap<LaneId, LaneState>,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    refresh: Errand,
    identity: Errand,
    /// Topics whose metadata is missing or was proven wrong.
    stale_topics: BTreeSet<Arc<str>>,
    refreshed_ms: u64,
}

/// A line to a broker.
enum LaneState {
    Connecting { failures: u32 },
    Open { connection: Connection, in_flight: usize },
    Broken(Errand),
}

/// Something to be done once at a time, with pauses after failures.
#[derive(Clone, Copy, Debug, Default)]
struct Errand {
    is_under_way: bool,
    failures: u32,
    not_before_ms: u64,
}

impl Errand {
    fn may_start(&self, now_ms: u64) -> bool {
        !self.is_under_way && now_ms >= self.not_before_ms
    }

    /// `chance`: any number, so that devices that lost a broker together do not come back together.
    fn failed(&mut self, now_ms: u64, chance: u64) {
        let pause_ms = (PAUSE_MS << self.failures.min(10)).min(PAUSE_MS_MAX);
        let pause_ms = millis(jittered(Duration::from_millis(pause_ms), chance));
        self.is_under_way = false;
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = now_ms + pause_ms;
    }

    /// Not at once again even after a success: metadata may stay wrong for a while.
    fn succeeded(&mut self, now_ms: u64) {
        *self = Self { not_before_ms: now_ms + PAUSE_MS, ..Self::default() };
    }
}

/// What a job came to.
enum Done {
    Connected {
        id: LaneId,
        lane: Result<Connection, ClientError>,
    },
    Answered {
        id: LaneId,
        connection: Connection,
        parcels: Vec<Parcel>,
        answer: Result<Response, CallError>,
    },
    Identified(Result<ProducerId, ClientError>),
    Refreshed {
        topics: BTreeSet<Arc<str>>,
        outcome: Result<(), ClientError>,
    },
}

impl Sender {
    /// Does all that can be done now; returns when to look again.
    fn work(&mut self) -> Option<u64> {
        let now_ms = self.shared.now_ms();
        let (drained, released_bytes, next_ms) = self.drain(now_ms);
        if released_bytes > 0 {
            self.shared.buffer.add_permits(released_bytes);
        }
        for shipment in drained.shipments {
            self.ship(now_ms, shipment);
        }
        for id in drained.unreached {
            self.connect(id);
        }
        self.stale_topics.extend(drained.leaderless);
        self.start_refresh(now_ms);
        let is_own = self.shared.settings.transactional_id.is_none();
        if drained.wants_identity && is_own && self.identity.may_start(now_ms) {
            self.identity.is_under_way = true;
            self.jobs.push(Box::pin(identify(Arc::clone(&self.shared))));
        }
        self.next_ms(now_ms, next_ms, drained.wants_identity && is_own)
    }

    fn drain(&self, now_ms: u64) -> (Drained, usize, Option<u64>) {
        let pressed = self.shared.waiting.load(std::sync::atomic::Ordering::Relaxed) > 0;
        let cluster = self.shared.client.cluster();
        let leader = |topic: &str, partition| match self.stale_topics.contains(topic) {
            true => None,
            false => cluster
                .leader(topic, partition)
                .map(|broker| Leader { broker, lanes: self.lanes_to(broker) }),
        };
        let mut accumulator = self.shared.accumulator();
        accumulator.expire(now_ms);
        accumulator.finish_reset();
        let drained = accumulator.drain(now_ms, pressed, leader, |id| self.lane(now_ms, id));
        let released_bytes = accumulator.take_released_bytes();
        (drained, released_bytes, accumulator.next_wake_ms(now_ms))
    }

    /// How many lanes there may be to a broker: the first one tells.
    fn lanes_to(&self, broker: i32) -> usize {
        match self.lanes.get(&LaneId::first(broker)) {
            Some(LaneState::Open { connection, .. }) => lanes_over(connection.over()),
            _ => 1,
        }
    }

    fn lane(&self, now_ms: u64, id: LaneId) -> Lane {
        let max_in_flight = self.shared.settings.max_in_flight;
        match self.lanes.get(&id) {
            Some(LaneState::Open { connection, in_flight }) if !connection.is_closed() => {
                Lane::Open(max_in_flight.saturating_sub(*in_flight))
            }
            Some(LaneState::Connecting { .. }) => Lane::Waiting,
            Some(LaneState::Broken(errand)) if !errand.may_start(now_ms) => Lane::Waiting,
            // A closed line with answers outstanding: they come first, as errors.
            Some(LaneState::Open { in_flight, .. }) if *in_flight > 0 => Lane::Waiting,
            _ => Lane::Wanted,
        }
    }

    fn connect(&mut self, id: LaneId) {
        let failures = match self.lanes.get(&id) {
            Some(LaneState::Broken(errand)) => errand.failures,
            _ => 0,
        };
        self.lanes.insert(id, LaneState::Connecting { failures });
        let client = self.shared.client.clone();
        self.jobs.push(Box::pin(async move {
            let lane = client.lane(id.broker).await;
            Done::Connected { id, lane }
        }));
    }

    fn start_refresh(&mut self, now_ms: u64) {
        let max_age_ms = millis(self.shared.client.config().metadata_max_age);
        if now_ms.saturating_sub(self.refreshed_ms) >= max_age_ms {
            self.refreshed_ms = now_ms;
            self.stale_topics.extend(self.shared.accumulator().busy_topics());
        }
        if self.stale_topics.is_empty() || !self.refresh.may_start(now_ms) {
            return;
        }
        self.refresh.is_under_way = true;
        let topics = self.stale_topics.clone();
        let client = self.shared.client.clone();
        self.jobs.push(Box::pin(async move {
            let names: Vec<Arc<str>> = topics.iter().cloned().collect();
            let outcome = client.refresh(&names, false).await.map(|_| ());
            Done::Refreshed { topics, outcome }
        }));
    }

    /// Puts one request in line.
    fn ship(&mut self, now_ms: u64, shipment: Shipment) {
        let Shipment { lane: id, parcels } = shipment;
        let timeout = self.shared.client.config().request_timeout;
        let Some(LaneState::Open { connection, in_flight }) = self.lanes.get_mut(&id) else {
            return;
        };
        let connection = connection.clone();
        let api = ApiKey::Produce;
        let newest = match self.shared.settings.transactional_id {
            Some(_) => PRODUCE_AFTER_JOINING,
            None => PRODUCE_BY_NAME,
        };
        let version = connection.version_up_to(api, newest);
        let batches = parcels.iter().map(|p| (&p.topic, p.partition, &p.bytes));
        let settings = &self.shared.settings;
        let transaction = settings.transactional_id.as_deref();
        let request = produce(transaction, settings.acks.to_wire(), timeout, batches);
        let begun = match version {
            Some(version) => connection.begin(Request::Produce(request), version, timeout),
            None => Err(CallError::Unsupported { broker: connection.broker().clone(), api }),
        };
        match begun {
            Ok(call) => {
                *in_flight += 1;
                self.jobs.push(Box::pin(async move {
                    let answer = call.wait().await;
                    Done::Answered { id, connection, parcels, answer }
                }));
            }
            Err(error) => {
                let verdict = Verdict::of_unsent_call(&error);
                self.settle_all(now_ms, &parcels, &verdict);
                // Look again: nothing else will wake this task for them.
                self.shared.wake.notify_one();
            }
        }
    }

    async fn wait(&mut self, wake_ms: Option<u64>) {
        let wake = wake_ms.map(|ms| self.shared.started + Duration::from_millis(ms));
        let sleep = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = self.jobs.next() => self.take(done),
            () = self.shared.wake.notified() => {}
            () = sleep => {}
        }
        // Everything else that is done already, before batches are chosen again.
        while let Some(Some(done)) = futures::FutureExt::now_or_never(self.jobs.next()) {
            self.take(done);
        }
    }

    fn take(&mut self, done: Done) {
        let now_ms = self.shared.now_ms();
        match done {
            Done::Connected { id, lane } => self.connected(now_ms, id, lane),
            Done::Identified(Ok(producer)) => {
                self.identity.succeeded(now_ms);
                self.shared.accumulator().set_identity(producer);
            }
            Done::Identified(Err(error)) => {
                tracing::warn!(%error, "no producer id yet");
                self.identity.failed(now_ms, chance());
            }
            Done::Refreshed { topics, outcome: Ok(()) } => {
                self.refresh.succeeded(now_ms);
                self.stale_topics.retain(|topic| !topics.contains(topic));
            }
            Done::Refreshed { topics, outcome: Err(error) } => {
                tracing::debug!(%error, "metadata not refreshed");
                self.refresh.failed(now_ms, chance());
                // What is still in the picture may be right; what is not shows as leaderless.
                self.stale_topics.retain(|topic| !topics.contains(topic));
            }
            Done::Answered { id, connection, parcels, answer } => {
                self.answered(now_ms, id, &connection, &parcels, answer);
            }
        }
    }

    fn connected(&mut self, now_ms: u64, id: LaneId, lane: Result<Connection, ClientError>) {
        let state = match lane {
            Ok(connection) => LaneState::Open { connection, in_flight: 0 },
            Err(error) => {
                tracing::debug!(broker = id.broker, %error, "no line");
                let failures = match self.lanes.get(&id) {
                    Some(LaneState::Connecting { failures }) => *failures,
                    _ => 0,
                };
                let mut errand = Errand { failures, ..Errand::default() };
                errand.failed(now_ms, chance());
                // The address may have changed, or the leader.
                self.stale_topics.extend(self.shared.accumulator().busy_topics());
                LaneState::Broken(errand)
            }
        };
        self.lanes.insert(id, state);
    }

    fn answered(
        &mut self,
        now_ms: u64,
        id: LaneId,
        connection: &Connection,
        parcels: &[Parcel],
        answer: Result<Response, CallError>,
    ) {
        if let Some(LaneState::Open { in_flight, .. }) = self.lanes.get_mut(&id) {
            *in_flight = in_flight.saturating_sub(1);
        }
        match answer {
            Ok(Response::Produce(response)) => self.settle_each(now_ms, parcels, &response),
            Ok(_) => {
                let error = connection.unexpected(ApiKey::Produce, "another API's response");
                self.settle_all(now_ms, parcels, &Verdict::of_failed_call(&error));
            }
            Err(error) => {
                tracing::debug!(broker = id.broker, %error, "produce failed");
                self.stale_topics.extend(parcels.iter().map(|parcel| Arc::clone(&parcel.topic)));
                self.settle_all(now_ms, parcels, &Verdict::of_failed_call(&error));
            }
        }
    }

    fn settle_all(&self, now_ms: u64, parcels: &[Parcel], verdict: &Verdict) {
        let mut accumulator = self.shared.accumulator();
        for parcel in parcels {
            accumulator.settle(now_ms, parcel.queue, parcel.batch, verdict.clone());
        }
    }

    fn settle_each(&mut self, now_ms: u64, parcels: &[Parcel], response: &ProduceResponse) {
        let is_answered = self.shared.settings.acks.to_wire() != 0;
        let answers: HashMap<(&str, i32), _> = response
            .responses
            .iter()
            .flat_map(|topic| topic.partition_responses.iter().map(move |p| (topic, p)))
            .map(|(topic, partition)| ((topic.name.as_str(), partition.index), partition))
            .collect();
        let mut accumulator = self.shared.accumulator();
        for parcel in parcels {
            let verdict = match answers.get(&(&*parcel.topic, parcel.partition)) {
                Some(answer) => {
                    let code = ErrorCode::from_code(answer.error_code);
                    if code.is_none_or(is_about_leader) {
                        self.stale_topics.insert(Arc::clone(&parcel.topic));
                    }
                    Verdict::of_response(answer)
                }
                None if !is_answered => Verdict::of_no_response(),
                None => Verdict::Retry {
                    uncertain: true,
                    why: "the broker's answer leaves the partition out".into(),
                },
            };
            accumulator.settle(now_ms, parcel.queue, parcel.batch, verdict);
        }
    }

    /// The earliest of what the accumulator, the errands and the lanes wait for.
    fn next_ms(&self, now_ms: u64, next_ms: Option<u64>, wants_identity: bool) -> Option<u64> {
        let pause = |errand: &Errand, wanted: bool| {
            (wanted && !errand.is_under_way).then_some(errand.not_before_ms.max(now_ms + 1))
        };
        let lanes = self.lanes.values().filter_map(|lane| match lane {
            LaneState::Broken(errand) => Some(errand.not_before_ms).filter(|ms| *ms > now_ms),
            _ => None,
        });
        let refresh = pause(&self.refresh, !self.stale_topics.is_empty());
        let identity = pause(&self.identity, wants_identity);
        lanes.chain(next_ms).chain(refresh).chain(identity).min()
    }
}

fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn is_about_leader(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::KafkaStorageError
    )
}

async fn identify(shared: Arc<Shared>) -> Done {
    Done::Identified(new_producer_id(&shared.client).await)
}

/// Asks for an id that nobody else has.
pub(crate) async fn new_producer_id(client: &Client) -> Result<ProducerId, ClientError> {
    let request = Request::InitProducerId(InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
    });
    let (connection, response) = client.ask(request).await?;
    let response = expect_response!(connection, response, InitProducerId);
    match ClientError::refused("asking for a producer id", response.error_code, None) {
        Some(error) => Err(error),
        None => Ok(ProducerId { id: response.producer_id, epoch: response.producer_epoch }),
    }
}

/// A request with one batch for each partition.
pub(crate) fn produce<'a>(
    transactional_id: Option<&str>,
    acks: i16,
    timeout: Duration,
    batches: impl Iterator<Item = (&'a Arc<str>, i32, &'a Bytes)>,
) -> ProduceRequest {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for (topic, partition, bytes) in batches {
        let at = *index.entry(topic).or_insert_with(|| {
            topics.push(TopicProduceData { name: topic.to_string(), ..Default::default() });
            topics.len() - 1
        });
        if let Some(topic) = topics.get_mut(at) {
            let data = PartitionProduceData { index: partition, records: Some(bytes.clone()) };
            topic.partition_data.push(data);
        }
    }
    ProduceRequest {
        transactional_id: transactional_id.map(str::to_owned),
        acks,
        timeout_ms: i32::try_from(millis(timeout)).unwrap_or(i32::MAX),
        topic_data: topics,
    }
}
