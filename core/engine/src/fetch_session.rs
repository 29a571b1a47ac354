//! Fetch sessions (KIP-227): what a consumer asked for last and what it was told, so that a request
//! names only what changed and an answer holds only what is new. In memory only: after a start every
//! session is unknown and its consumer begins a new one. Never decides what a fetch is given.

use crate::engine::Engine;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::FetchRequest;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use millpond_wire::messages::fetch_response::{FetchResponse, PartitionData};
use millpond_wire::uuid::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a fetch has to do with sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionUse {
    /// Nothing: the answer says all and session 0.
    None,
    /// The answer says all and names the session that it begins.
    Full(i32),
    /// The answer says what changed, if the session is still at this epoch.
    Incremental { id: i32, epoch: i32 },
}

/// All sessions of the node.
#[derive(Debug, Default)]
pub(crate) struct FetchSessions {
    by_id: BTreeMap<i32, Session>,
    /// Least recently used first: monotonic time, id.
    by_use: BTreeSet<(u64, i32)>,
    /// Of all of them.
    partitions: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Session {
    /// What the next request must say.
    epoch: i32,
    used_ms: u64,
    by_topic_id: bool,
    partitions: BTreeMap<Place, Cached>,
    /// The places in the order in which they are served: who got records goes last.
    order: BTreeMap<u64, Place>,
    next_turn: u64,
}

/// A partition as the client names it: by topic name or by topic id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    topic: Arc<str>,
    topic_id: Uuid,
    partition: i32,
}

#[derive(Debug)]
struct Cached {
    wanted: FetchPartition,
    turn: u64,
    /// As told last; -1: never, or an error was told.
    high_watermark: i64,
    log_start: i64,
}

impl Session {
    fn put(&mut self, topic: &FetchTopic, wanted: &FetchPartition) {
        let place = Place {
            topic: Arc::from(topic.topic.as_str()),
            topic_id: topic.topic_id,
            partition: wanted.partition,
        };
        if let Some(cached) = self.partitions.get_mut(&place) {
            cached.wanted = wanted.clone();
            return;
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        self.order.insert(turn, place.clone());
        let cached = Cached { wanted: wanted.clone(), turn, high_watermark: -1, log_start: -1 };
        self.partitions.insert(place, cached);
    }

    fn forget(&mut self, topic: &ForgottenTopic) {
        let (name, topic_id) = (Arc::<str>::from(topic.topic.as_str()), topic.topic_id);
        for partition in &topic.partitions {
            let place = Place { topic: Arc::clone(&name), topic_id, partition: *partition };
            if let Some(gone) = self.partitions.remove(&place) {
                self.order.remove(&gone.turn);
            }
        }
    }

    /// All that the session wants, in its order.
    fn wanted(&self) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for place in self.order.values() {
            let Some(cached) = self.partitions.get(place) else { continue };
            match topics.last_mut() {
                Some(last) if last.topic_id == place.topic_id && *last.topic == *place.topic => {
                    last.partitions.push(cached.wanted.clone());
                }
                _ => topics.push(FetchTopic {
                    topic: place.topic.to_string(),
                    topic_id: place.topic_id,
                    partitions: vec![cached.wanted.clone()],
                }),
            }
        }
        topics
    }

    /// Takes note of what is told about a partition; whether that is news.
    fn tell(&mut self, place: &Place, data: &PartitionData) -> bool {
        let Some(cached) = self.partitions.get_mut(place) else { return true };
        let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
        let is_error = data.error_code != ErrorCode::None.code();
        let is_news = has_records
            || is_error
            || cached.high_watermark != data.high_watermark
            || cached.log_start != data.log_start_offset;
        // After an error the next answer is news, whatever it says.
        cached.high_watermark = if is_error { -1 } else { data.high_watermark };
        cached.log_start = data.log_start_offset;
        if has_records {
            // Whoever got something goes last, so that nobody waits for ever.
            self.order.remove(&cached.turn);
            cached.turn = self.next_turn;
            self.order.insert(cached.turn, place.clone());
            self.next_turn += 1;
        }
        is_news
    }
}

impl FetchSessions {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Sessions that made room for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The topics that a session wants, by name or by id; each may come several times.
    pub(crate) fn topics(&self, id: i32) -> impl Iterator<Item = (&str, Uuid)> {
        let session = self.by_id.get(&id).into_iter();
        session.flat_map(|session| session.partitions.keys()).map(|at| (&*at.topic, at.topic_id))
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.by_id.remove(&id) {
            self.by_use.remove(&(session.used_ms, id));
            self.partitions -= session.partitions.len();
        }
    }

    /// Makes room for so many partitions, if that takes nobody's session who used it lately.
    fn make_room(&mut self, partitions: usize, now_ms: u64) -> bool {
        while self.by_id.len() >= limits::FETCH_SESSIONS_MAX
            || self.partitions + partitions > limits::FETCH_SESSION_PARTITIONS_MAX
        {
            match self.by_use.first() {
                Some((used_ms, id)) if now_ms >= used_ms + limits::FETCH_SESSION_KEPT_MS => {
                    let id = *id;
                    self.remove(id);
                    self.evicted += 1;
                }
                _ => return false,
            }
        }
        true
    }

    fn touch(&mut self, id: i32, now_ms: u64) {
        if let Some(session) = self.by_id.get_mut(&id) {
            self.by_use.remove(&(session.used_ms, id));
            session.used_ms = now_ms;
            self.by_use.insert((now_ms, id));
        }
    }

    fn begin(&mut self, id: i32, request: &FetchRequest, by_topic_id: bool, now_ms: u64) {
        let mut session = Session {
            epoch: FIRST_EPOCH,
            used_ms: now_ms,
            by_topic_id,
            partitions: BTreeMap::new(),
            order: BTreeMap::new(),
            next_turn: 0,
        };
        for topic in &request.topics {
            for wanted in &topic.partitions {
                session.put(topic, wanted);
            }
        }
        self.partitions += session.partitions.len();
        self.by_use.insert((now_ms, id));
        self.by_id.insert(id, session);
    }

    /// Takes the changes of a request into its session; what the session wants now.
    fn update(
        &mut self,
        request: &FetchRequest,
        by_topic_id: bool,
        now_ms: u64,
    ) -> Result<(SessionUse, Vec<FetchTopic>), ErrorCode> {
        let id = request.session_id;
        let session = self.by_id.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.by_topic_id != by_topic_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        let before = session.partitions.len();
        for topic in &request.forgotten_topics_data {
            session.forget(topic);
        }
        for topic in &request.topics {
            for wanted in &topic.partitions {
                session.put(topic, wanted);
            }
        }
        session.epoch = next_epoch(session.epoch);
        let (epoch, len) = (session.epoch, session.partitions.len());
        self.partitions = self.partitions + len - before;
        if len == 0 {
            self.remove(id);
            return Ok((SessionUse::None, Vec::new()));
        }
        if len > limits::PARTITIONS_PER_FETCH_MAX
            || self.partitions > limits::FETCH_SESSION_PARTITIONS_MAX
        {
            // The client asks again in full, and is told then.
            self.remove(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        self.touch(id, now_ms);
        let topics = self.by_id.get(&id).map(Session::wanted).unwrap_or_default();
        Ok((SessionUse::Incremental { id, epoch }, topics))
    }

    /// Leaves in an answer what its session makes news.
    fn answer(&mut self, used: SessionUse, response: &mut FetchResponse) {
        let (id, keeps_all) = match used {
            SessionUse::None => return,
            SessionUse::Full(id) => (id, true),
            SessionUse::Incremental { id, epoch } => {
                response.session_id = id;
                let known = self.by_id.get(&id);
                if known.is_some_and(|session| session.epoch != epoch) {
                    // Another request of the session came meanwhile.
                    response.error_code = ErrorCode::InvalidFetchSessionEpoch.code();
                    response.responses.clear();
                    return;
                }
                (id, false)
            }
        };
        response.session_id = id;
        let Some(session) = self.by_id.get_mut(&id) else { return };
        for topic in &mut response.responses {
            let (name, topic_id) = (Arc::<str>::from(topic.topic.as_str()), topic.topic_id);
            topic.partitions.retain(|data| {
                let partition = data.partition_index;
                let place = Place { topic: Arc::clone(&name), topic_id, partition };
                session.tell(&place, data) || keeps_all
            });
        }
        response.responses.retain(|topic| !topic.partitions.is_empty());
    }
}

impl Engine {
    /// What a request has to do with sessions. Afterwards it names all partitions that it wants.
    ///
    /// # Errors
    /// The code that the whole answer has.
    pub(crate) fn enter_session(
        &mut self,
        request: &mut FetchRequest,
        version: i16,
    ) -> Result<SessionUse, ErrorCode> {
        let by_topic_id = version >= BY_TOPIC_ID_VERSION;
        let now_ms = self.now.mono_ms;
        let is_full = matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH);
        if !is_full {
            let (used, topics) = self.fetch_sessions.update(request, by_topic_id, now_ms)?;
            request.topics = topics;
            return Ok(used);
        }
        // Whoever begins anew has no use for the session before.
        self.fetch_sessions.remove(request.session_id);
        let partitions: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let wants_none = request.session_epoch == FINAL_EPOCH || partitions == 0;
        if wants_none
            || partitions > limits::PARTITIONS_PER_FETCH_MAX
            || !self.fetch_sessions.make_room(partitions, now_ms)
        {
            return Ok(SessionUse::None);
        }
        let id = self.fresh_session_id();
        self.fetch_sessions.begin(id, request, by_topic_id, now_ms);
        Ok(SessionUse::Full(id))
    }

    fn fresh_session_id(&mut self) -> i32 {
        loop {
            let [a, b, c, d, ..] = self.rng.bytes16();
            let id = i32::from_be_bytes([a & 0x7f, b, c, d]);
            if id > 0 && !self.fetch_sessions.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    /// Makes an answer what its session asks for.
    pub(crate) fn settle_session(&mut self, used: SessionUse, response: &mut FetchResponse) {
        self.fetch_sessions.answer(used, response);
    }

    /// Fetch sessions that are open, and how many made room for others.
    #[must_use]
    pub fn fetch_sessions_len(&self) -> (usize, u64) {
        (self.fetch_sessions.len(), self.fetch_sessions.evicted())
    }
}

/// Epochs are positive; after the last one comes the first.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(FIRST_EPOCH)
}

const INITIAL_EPOCH: i32 = 0;
const FIRST_EPOCH: i32 = 1;
const FINAL_EPOCH: i32 = -1;
const BY_TOPIC_ID_VERSION: i16 = 13;
