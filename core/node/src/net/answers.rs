//! How many bytes of answers may be in memory, over all connections: an answer's room is taken before the
//! question reaches the engine, so that small requests cannot make large memory. A fetch that finds little
//! room is asked for less; one that has to wait for records gives its room back meanwhile; records for which
//! there is none are left out of the answer, and the client asks again. Never refuses a request, never holds
//! back what is small.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use millpond_wire::limits::{ANSWER_DESCRIBING_BYTES, ANSWER_SHED_WAIT_MS, FETCH_BYTES_MAX};
use millpond_wire::messages::{Records, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in units: a semaphore counts in 32 bits.
const UNIT_BYTES: usize = 1024;
/// What one answer may take of all that is free: the next ones find something, too.
const SHARE: usize = 4;
/// However little is free, this much of it is asked for: progress of some size.
const LEAST_UNITS: usize = 64;
/// A fetch that is not answered within this time waits for records: those that wake it are in the tail,
/// which has its own cap.
const GIVE_BACK_AFTER: Duration = Duration::from_millis(50);

/// The room of all answers.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    free: Arc<Semaphore>,
    total_units: usize,
    waiting: Arc<AtomicUsize>,
    /// Answers whose records were left out for want of room.
    shed: Arc<AtomicU64>,
}

/// One question of each kind that may have a large answer is under way on a connection, as Kafka's brokers
/// serve only one of any kind.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    fetching: Arc<Semaphore>,
    describing: Arc<Semaphore>,
}

/// What an answer may take until it is written; it returns when this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    answers: Answers,
    taken: Option<OwnedSemaphorePermit>,
    _turn: Option<OwnedSemaphorePermit>,
    is_of_fetch: bool,
}

/// One waits for room as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Turns {
    pub(super) fn new() -> Self {
        let one = || Arc::new(Semaphore::new(1));
        Self { fetching: one(), describing: one() }
    }
}

impl Answers {
    pub(crate) fn new(bytes: usize) -> Self {
        let total_units = (bytes / UNIT_BYTES).clamp(LEAST_UNITS, Semaphore::MAX_PERMITS >> 4);
        Self {
            free: Arc::new(Semaphore::new(total_units)),
            total_units,
            waiting: Arc::default(),
            shed: Arc::default(),
        }
    }

    /// Waits for room for the answer to a request, and has a fetch ask for no more than it got. `None`: the
    /// answer is small whatever is asked, and the request's own bytes are counted until it is written.
    pub(super) async fn room(&self, request: &mut Request, turns: &Turns) -> Option<Room> {
        let is_of_fetch = matches!(request, Request::Fetch(_));
        let wanted_bytes = match &*request {
            Request::Fetch(fetch) => {
                usize::try_from(fetch.max_bytes).unwrap_or_default().min(FETCH_BYTES_MAX)
            }
            other if describes(other) => ANSWER_DESCRIBING_BYTES,
            _ => return None,
        };
        let turn = if is_of_fetch { &turns.fetching } else { &turns.describing };
        // An error means a closed semaphore, and nobody closes one here.
        let turn = Arc::clone(turn).acquire_owned().await.ok();
        let share = (self.free.available_permits() / SHARE).max(LEAST_UNITS);
        let units = wanted_bytes.div_ceil(UNIT_BYTES).max(1).min(share).min(self.total_units);
        let taken = self.take(units).await;
        if let Request::Fetch(fetch) = request
            && units * UNIT_BYTES < wanted_bytes
        {
            fetch.max_bytes = i32::try_from(units * UNIT_BYTES).unwrap_or(i32::MAX);
        }
        Some(Room { answers: self.clone(), taken, _turn: turn, is_of_fetch })
    }

    async fn take(&self, units: usize) -> Option<OwnedSemaphorePermit> {
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Arc::clone(&self.free).acquire_many_owned(units).await.ok()
    }

    /// Whether somebody waits for room: who takes his answer slowly holds others up.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Bytes that answers hold.
    pub(crate) fn held_bytes(&self) -> u64 {
        ((self.total_units - self.free.available_permits().min(self.total_units)) * UNIT_BYTES)
            as u64
    }

    /// Answers whose records were left out for want of room.
    pub(crate) fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }
}

impl Room {
    /// Waits for an answer, which may take long: then its room serves others until it comes.
    pub(super) async fn await_with<T>(
        &mut self,
        answer: &mut (impl Future<Output = T> + Unpin),
    ) -> T {
        if let Ok(answered) = tokio::time::timeout(GIVE_BACK_AFTER, &mut *answer).await {
            return answered;
        }
        self.taken = None;
        answer.await
    }

    /// The answer is there: takes what it needs beyond what was taken, gives back what it does not. Records
    /// for which there is no room leave the answer; their client is told to wait a little.
    pub(super) fn settle(&mut self, response: &mut Response) {
        let Response::Fetch(fetch) = &*response else { return };
        let parts = fetch.responses.iter().flat_map(|topic| &topic.partitions);
        let bytes = parts.filter_map(|part| part.records.as_ref()).map(Records::size_bytes).sum();
        if self.fit(bytes) {
            return;
        }
        let Response::Fetch(fetch) = response else { return };
        let parts = fetch.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
        // Empty and not null: some clients take null for nonsense.
        parts.for_each(|part| part.records = Some(Records::new()));
        fetch.throttle_time_ms = fetch.throttle_time_ms.max(ANSWER_SHED_WAIT_MS);
        self.taken = None;
        self.answers.shed.fetch_add(1, Relaxed);
    }

    /// The encoded answer is so large; of a fetch that is known before.
    pub(super) fn settle_encoded(&mut self, bytes: usize) {
        if !self.is_of_fetch {
            self.fit(bytes);
        }
    }

    fn fit(&mut self, bytes: usize) -> bool {
        let units = bytes.div_ceil(UNIT_BYTES);
        let has = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if units <= has {
            if let Some(taken) = &mut self.taken {
                // What is split off returns at once.
                drop(taken.split(has - units));
            }
            return true;
        }
        let more = u32::try_from(units - has).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.answers.free).try_acquire_many_owned(more) else {
            return units > self.answers.total_units && self.is_alone(has);
        };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }

    /// Whether nobody else holds anything: one answer is always possible.
    fn is_alone(&self, has: usize) -> bool {
        self.answers.free.available_permits() + has >= self.answers.total_units
    }
}

/// Whether an answer may be much larger than its request: it tells of all that there is.
fn describes(request: &Request) -> bool {
    matches!(
        request,
        Request::Metadata(_)
            | Request::DescribeTopicPartitions(_)
            | Request::DescribeConfigs(_)
            | Request::DescribeLogDirs(_)
            | Request::DescribeGroups(_)
            | Request::ConsumerGroupDescribe(_)
            | Request::ListGroups(_)
            | Request::OffsetFetch(_)
            | Request::DescribeProducers(_)
            | Request::DescribeTransactions(_)
            | Request::ListTransactions(_)
            | Request::DescribeAcls(_)
            | Request::DeleteAcls(_)
            | Request::DescribeClientQuotas(_)
            | Request::DescribeUserScramCredentials(_)
            | Request::ListConfigResources(_)
            | Request::ListPartitionReassignments(_)
            | Request::ElectLeaders(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::FutureExt;
    use millpond_wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use millpond_wire::messages::{FetchRequest, FetchResponse, HeartbeatRequest};

    fn fetch(max_bytes: i32) -> Request {
        FetchRequest { max_bytes, ..Default::default() }.into()
    }

    fn asked(request: &Request) -> i32 {
        let Request::Fetch(fetch) = request else { panic!() };
        fetch.max_bytes
    }

    fn records(bytes: usize) -> Response {
        let data = Records::from(Bytes::from(vec![0; bytes]));
        let part = PartitionData { records: Some(data), ..Default::default() };
        let topic = FetchableTopicResponse { partitions: vec![part], ..Default::default() };
        FetchResponse { responses: vec![topic], ..Default::default() }.into()
    }

    #[test]
    fn the_more_is_held_the_less_a_fetch_may_ask_for_until_it_waits() {
        let answers = Answers::new(1 << 20);
        let mut held = Vec::new();
        let mut last = i32::MAX;
        loop {
            let mut request = fetch(8 << 20);
            // Each on a connection of its own.
            let Some(room) = answers.room(&mut request, &Turns::new()).now_or_never() else {
                break;
            };
            held.push(room.expect("a fetch takes room"));
            assert!(asked(&request) <= last);
            last = asked(&request);
        }
        assert!((8..30).contains(&held.len()), "{}", held.len());
        assert_eq!(last, (LEAST_UNITS * UNIT_BYTES) as i32);
        let mut heartbeat = HeartbeatRequest::default().into();
        let small = answers.room(&mut heartbeat, &Turns::new()).now_or_never();
        assert!(small.expect("at once").is_none(), "what is small never waits");
        drop(held);
        assert_eq!(answers.held_bytes(), 0);
    }

    #[test]
    fn what_an_answer_does_not_need_returns_and_what_has_no_room_is_left_out() {
        let answers = Answers::new(1 << 20);
        let turns = Turns::new();
        let room = |max_bytes| {
            let mut request = fetch(max_bytes);
            answers.room(&mut request, &Turns::new()).now_or_never().flatten().expect("room")
        };
        let mut small = room(200 << 10);
        small.settle(&mut records(3 << 10));
        assert_eq!(answers.held_bytes(), 3 << 10);
        let mut first_batch_is_large = room(1);
        let mut large = records(900 << 10);
        first_batch_is_large.settle(&mut large);
        assert_eq!((answers.held_bytes(), answers.shed()), (903 << 10, 0));
        let mut too_much = room(1);
        let mut shed = records(900 << 10);
        too_much.settle(&mut shed);
        let Response::Fetch(fetched) = &shed else { panic!() };
        let left = fetched.responses[0].partitions[0].records.as_ref();
        assert_eq!(left.map(Records::size_bytes), Some(0));
        assert_eq!((fetched.throttle_time_ms, answers.shed()), (ANSWER_SHED_WAIT_MS, 1));
        assert_eq!(answers.held_bytes(), 903 << 10);
        // A second fetch of one connection waits for the first.
        let first = answers.room(&mut fetch(1), &turns).now_or_never().expect("at once");
        assert!(answers.room(&mut fetch(1), &turns).now_or_never().is_none());
        drop(first);
        assert!(answers.room(&mut fetch(1), &turns).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_waits_for_records_holds_no_room_meanwhile() {
        let answers = Answers::new(1 << 20);
        let mut room = answers.room(&mut fetch(100 << 10), &Turns::new()).await.expect("room");
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(async move {
            let answered = room.await_with(&mut answer).await;
            (room, answered)
        });
        tokio::time::sleep(2 * GIVE_BACK_AFTER).await;
        assert_eq!(answers.held_bytes(), 0);
        reply.send(7).unwrap();
        let (mut room, answered) = waiting.await.unwrap();
        assert_eq!(answered, Ok(7));
        room.settle(&mut records(5 << 10));
        assert_eq!(answers.held_bytes(), 5 << 10);
    }
}
