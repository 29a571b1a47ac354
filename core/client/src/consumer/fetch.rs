//! Fetches: one under way per broker, what they bring held compressed until `poll` wants it.
//!
//! A broker is asked again only for partitions of which nothing is held, so memory is bounded by
//! one fetch per broker and one decompressed batch.

use super::builder::ConsumerBuilder;
use super::isolation::hidden;
use super::positions::{Place, Positions};
use super::record::{ConsumedRecord, records_of};
use crate::client::{Client, expect_response};
use crate::connection::Connection;
use crate::error::{CallError, ClientError};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::{FetchRequest, FetchResponse, Request};
use millpond_wire::record::{Batch, BatchError, BatchHeader};
use millpond_wire::{ApiKey, ErrorCode, limits};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The last version that names topics by name.
const FETCH_BY_NAME: i16 = 12;
/// Pause after a fetch that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// What `poll` has to act on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The leader is another one: ask for metadata.
    Leader(Place),
    /// The position is not kept any more, or never was.
    OutOfRange(Place),
    /// The caller must know.
    Fault(ClientError),
}

/// Batches of one partition that came with one fetch.
#[derive(Debug)]
struct Held {
    place: Place,
    turn: u64,
    batches: VecDeque<Batch>,
    /// Base offsets of those that were aborted, for a reader of committed records.
    hidden: HashSet<i64>,
}

/// What one fetch asked for: the turn and offset of each partition.
type Asked = HashMap<Place, (u64, i64)>;

struct Fetched {
    broker: i32,
    asked: Asked,
    outcome: Result<(Connection, FetchResponse), ClientError>,
}

/// See the module.
pub(crate) struct Fetcher {
    client: Client,
    settings: ConsumerBuilder,
    lanes: HashMap<i32, Connection>,
    under_way: FuturesUnordered<BoxFuture<'static, Fetched>>,
    busy: HashSet<i32>,
    pauses: HashMap<i32, Instant>,
    held: VecDeque<Held>,
    ready: VecDeque<ConsumedRecord>,
    /// The partition and turn of `ready`, and where it goes on after it.
    ready_of: Option<(Place, u64, i64)>,
}

impl Fetcher {
    pub(crate) fn new(client: Client, settings: ConsumerBuilder) -> Self {
        Self {
            client,
            settings,
            lanes: HashMap::new(),
            under_way: FuturesUnordered::new(),
            busy: HashSet::new(),
            pauses: HashMap::new(),
            held: VecDeque::new(),
            ready: VecDeque::new(),
            ready_of: None,
        }
    }

    /// Throws away what is held of a partition.
    pub(crate) fn forget(&mut self, place: &Place) {
        self.held.retain(|held| held.place != *place);
        if self.ready_of.as_ref().is_some_and(|(of, ..)| of == place) {
            self.ready.clear();
            self.ready_of = None;
        }
    }

    /// Throws everything away.
    pub(crate) fn forget_all(&mut self) {
        self.held.clear();
        self.ready.clear();
        self.ready_of = None;
    }

    /// Up to `max` records that are held, in order of each partition.
    pub(crate) fn take(
        &mut self,
        positions: &mut Positions,
        max: usize,
    ) -> Result<Vec<ConsumedRecord>, ClientError> {
        let mut taken = Vec::new();
        while taken.len() < max {
            if let Some(record) = self.ready.pop_front() {
                taken.push(record);
            } else {
                match self.open_next(positions) {
                    Ok(true) => {}
                    Ok(false) => break,
                    // What is before the damage is returned first.
                    Err(_) if !taken.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
            self.note(positions, taken.last());
        }
        Ok(taken)
    }

    /// Whether there is a record to take. It is left where it is.
    pub(crate) fn is_ready(&mut self, positions: &mut Positions) -> Result<bool, ClientError> {
        while self.ready.is_empty() {
            if !self.open_next(positions)? {
                return Ok(false);
            }
            self.note(positions, None);
        }
        Ok(true)
    }

    /// Marks what `poll` is about to return.
    fn note(&mut self, positions: &mut Positions, last: Option<&ConsumedRecord>) {
        let Some((place, turn, after)) = &self.ready_of else { return };
        match (self.ready.is_empty(), last) {
            (true, _) => {
                positions.returned(place, *turn, *after);
                self.ready_of = None;
            }
            (false, Some(last)) if last.partition == place.1 && last.topic == place.0 => {
                positions.returned(place, *turn, last.offset + 1);
            }
            _ => {}
        }
    }

    /// Decompresses the next batch that is held. False: there is none. A batch that cannot be read
    /// stays where it is: it is reported again rather than passed over.
    fn open_next(&mut self, positions: &Positions) -> Result<bool, ClientError> {
        let Some(held) = self.held.front_mut() else { return Ok(false) };
        let current = positions.get(&held.place).filter(|position| position.turn == held.turn);
        let (Some(batch), Some(from)) = (held.batches.front(), current.and_then(|p| p.next)) else {
            self.held.pop_front();
            return Ok(true);
        };
        let (topic, partition) = &held.place;
        let after = batch.header().last_offset().saturating_add(1);
        let records = match held.hidden.contains(&batch.header().base_offset) {
            true => Vec::new(),
            false => records_of(topic, *partition, batch, from)
                .map_err(|reason| damaged(&held.place, from, reason))?,
        };
        held.batches.pop_front();
        self.ready = records.into();
        self.ready_of = Some((held.place.clone(), held.turn, after.max(from)));
        Ok(true)
    }

    /// Asks every broker that is not busy for what is missing. Returns the topics of which some
    /// leader is not known: they need metadata first.
    pub(crate) fn start(&mut self, positions: &Positions) -> BTreeSet<Arc<str>> {
        let cluster = self.client.cluster();
        let now = Instant::now();
        let mut by_broker: BTreeMap<i32, Vec<(Place, u64, i64)>> = BTreeMap::new();
        let mut leaderless = BTreeSet::new();
        for (place, position) in positions.iter() {
            let is_held = self.held.iter().any(|held| held.place == *place)
                || self.ready_of.as_ref().is_some_and(|(of, ..)| of == place);
            if position.next.is_none() || is_held || positions.is_paused(place) {
                continue;
            }
            match cluster.leader(&place.0, place.1) {
                Some(broker) => {
                    let wanted = (place.clone(), position.turn, position.fetch);
                    by_broker.entry(broker).or_default().push(wanted);
                }
                None => {
                    leaderless.insert(Arc::clone(&place.0));
                }
            }
        }
        for (broker, wanted) in by_broker {
            let is_paused = self.pauses.get(&broker).is_some_and(|until| *until > now);
            if !is_paused && self.busy.insert(broker) {
                self.fetch(broker, wanted);
            }
        }
        leaderless
    }

    fn fetch(&mut self, broker: i32, mut wanted: Vec<(Place, u64, i64)>) {
        wanted.truncate(limits::PARTITIONS_PER_FETCH_MAX);
        let request = self.request(&wanted);
        let asked = wanted.into_iter().map(|(place, turn, from)| (place, (turn, from))).collect();
        let lane = self.lanes.get(&broker).filter(|lane| !lane.is_closed()).cloned();
        let client = self.client.clone();
        let timeout = client.config().request_timeout + self.settings.fetch_wait;
        self.under_way.push(Box::pin(async move {
            let call = async {
                let lane = match lane {
                    Some(lane) => lane,
                    None => client.lane(broker).await?,
                };
                let api = ApiKey::Fetch;
                let version = lane.version_up_to(api, FETCH_BY_NAME);
                let version = version
                    .ok_or_else(|| CallError::Unsupported { broker: lane.broker().clone(), api })?;
                let response = lane.call_within(Request::Fetch(request), version, timeout).await?;
                let response = expect_response!(lane, response, Fetch);
                Ok((lane, response))
            };
            Fetched { broker, asked, outcome: call.await }
        }));
    }

    fn request(&self, wanted: &[(Place, u64, i64)]) -> FetchRequest {
        let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
        for ((topic, partition), _, offset) in wanted {
            topics.entry(topic).or_default().push(FetchPartition {
                partition: *partition,
                fetch_offset: *offset,
                partition_max_bytes: self.settings.partition_max_bytes,
                ..Default::default()
            });
        }
        let topic = |(topic, partitions): (&str, Vec<FetchPartition>)| FetchTopic {
            topic: topic.to_owned(),
            partitions,
            ..Default::default()
        };
        let wait_ms = crate::connection::millis(self.settings.fetch_wait);
        FetchRequest {
            replica_id: -1,
            max_wait_ms: i32::try_from(wait_ms).unwrap_or(i32::MAX),
            min_bytes: self.settings.fetch_min_bytes,
            max_bytes: self.settings.fetch_max_bytes,
            isolation_level: i8::from(self.settings.read_committed),
            session_id: 0,
            session_epoch: -1,
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        }
    }

    /// Waits until a fetch has come back, or a pause is over. Cancellation-safe.
    pub(crate) async fn next(&mut self, positions: &mut Positions) -> Vec<Trouble> {
        let fetched = match self.under_way.next().await {
            Some(fetched) => fetched,
            None => {
                tokio::time::sleep(PAUSE).await;
                return Vec::new();
            }
        };
        self.busy.remove(&fetched.broker);
        match fetched.outcome {
            Ok((lane, response)) => {
                self.lanes.insert(fetched.broker, lane);
                self.hold(fetched.broker, &fetched.asked, response, positions)
            }
            Err(error) => {
                self.lanes.remove(&fetched.broker);
                self.pauses.insert(fetched.broker, Instant::now() + PAUSE);
                if !error.is_retriable() {
                    return vec![Trouble::Fault(error)];
                }
                tracing::debug!(broker = fetched.broker, %error, "fetch failed");
                fetched.asked.into_keys().map(Trouble::Leader).collect()
            }
        }
    }

    fn hold(
        &mut self,
        broker: i32,
        asked: &Asked,
        response: FetchResponse,
        positions: &mut Positions,
    ) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        if let Some(error) = ClientError::refused("fetching", response.error_code, None) {
            troubles.push(Trouble::Fault(error));
        }
        for topic in response.responses {
            let name: Arc<str> = topic.topic.into();
            for partition in topic.partitions {
                let place: Place = (Arc::clone(&name), partition.partition_index);
                let Some((turn, from)) = asked.get(&place).copied() else { continue };
                let code = ErrorCode::from_code(partition.error_code);
                if code != Some(ErrorCode::None) {
                    troubles.push(trouble(place, code));
                    self.pauses.insert(broker, Instant::now() + PAUSE);
                    continue;
                }
                let raw = partition.records.map(|records| records.to_bytes()).unwrap_or_default();
                let batches = match whole_batches(raw) {
                    Ok(batches) => batches,
                    Err(error) => {
                        let error = damaged(&place, from, error.to_string());
                        troubles.push(Trouble::Fault(error));
                        self.pauses.insert(broker, Instant::now() + PAUSE);
                        continue;
                    }
                };
                let Some(last) = batches.back() else { continue };
                let next_fetch = last.header().last_offset().saturating_add(1);
                if positions.fetched(&place, turn, next_fetch) {
                    let aborted = partition.aborted_transactions.unwrap_or_default();
                    let hidden = hidden(&batches, &aborted);
                    self.held.push_back(Held { place, turn, batches, hidden });
                }
            }
        }
        troubles
    }
}

/// The sound batches at the front; an error only if the very first one is damaged, so that what is
/// before the damage is read. A batch that the broker cut off at the end is none.
fn whole_batches(mut raw: Bytes) -> Result<VecDeque<Batch>, BatchError> {
    let mut batches = VecDeque::new();
    while let Some(first) = raw.first_chunk() {
        let parsed = BatchHeader::read(first).batch_bytes().and_then(|size_bytes| {
            match size_bytes <= raw.len() {
                true => Batch::parse(raw.split_to(size_bytes)).map(Some),
                false => Ok(None),
            }
        });
        match parsed {
            Ok(Some(batch)) => batches.push_back(batch),
            Err(error) if batches.is_empty() => return Err(error),
            Ok(None) | Err(_) => break,
        }
    }
    Ok(batches)
}

fn damaged((topic, partition): &Place, from: i64, reason: String) -> ClientError {
    ClientError::Broker {
        what: format!("reading {topic}/{partition} at offset {from}"),
        code: ErrorCode::CorruptMessage,
        message: Some(reason),
    }
}

fn trouble(place: Place, code: Option<ErrorCode>) -> Trouble {
    match code {
        Some(ErrorCode::OffsetOutOfRange) => Trouble::OutOfRange(place),
        Some(code) if !code.is_retriable() && code != ErrorCode::FencedLeaderEpoch => {
            Trouble::Fault(ClientError::Broker {
                what: format!("fetching {}/{}", place.0, place.1),
                code,
                message: None,
            })
        }
        _ => Trouble::Leader(place),
    }
}
