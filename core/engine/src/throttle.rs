//! Holds clients to their quotas: counts bytes, the engine's time, and partitions made or deleted, in
//! buckets that refill with the event's time, tells how long a client is to wait (KIP-219), and takes
//! nothing from its connection until then. Clients that do not listen to the time they are told are held
//! up all the same.
//! Never loses a request: what is held is served in order when the time is over.
//!
//! The engine's time (`request_percentage`, KIP-124) is measured by the shell, which alone has a clock,
//! and told after each request ([`crate::Event::Spent`]); what is owed holds back the client's next
//! request. It is the time of the one thread that all clients share, and of nothing else: not of TLS, nor
//! of transforms, which have limits of their own. A request that had to wait is counted as its client's
//! are on average, since nobody measured it.

use crate::api;
use crate::engine::{Engine, Timer};
use crate::quota::QuotaKind;
use crate::units::{Peer, RequestId, SessionId};
use millpond_wire::limits;
use millpond_wire::messages::{Records, Request, Response};
use std::collections::{BTreeMap, VecDeque};

/// All that is held up, and what was counted.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    buckets: BTreeMap<BucketKey, Bucket>,
    muted: BTreeMap<SessionId, Mute>,
    /// What is to be done with answers under way.
    answers: BTreeMap<RequestId, Told>,
    held: usize,
    /// Whose time the request takes that the shell brought last, and what was taken for it already.
    serving: Option<(BucketKey, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BucketKey {
    kind: QuotaKind,
    user: Option<String>,
    client_id: Option<String>,
}

/// What may still go; below zero: what must be made up for.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: i128,
    at_ms: u64,
    /// What one request took of late, where that is told afterwards.
    mean: u64,
}

#[derive(Debug)]
struct Mute {
    until_ms: u64,
    held: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    id: RequestId,
    peer: Peer,
    request: Request,
    version: i16,
}

#[derive(Debug)]
struct Told {
    session: SessionId,
    /// The answer says so.
    ms: u64,
    /// Whose bytes the answer's are.
    counts: Option<Peer>,
}

impl Bucket {
    /// Takes bytes, or whatever is counted; how long it takes until they are made up for.
    fn take(&mut self, rate: u64, bytes: u64, now_ms: u64) -> u64 {
        let rate = i128::from(rate.max(1));
        let passed_ms = i128::from(now_ms.saturating_sub(self.at_ms));
        let gained = rate * passed_ms / 1_000;
        if gained > 0 {
            // Parts of a byte are not lost: the clock moves on by what was paid out.
            self.at_ms += u64::try_from(gained * 1_000 / rate).unwrap_or(0);
            self.left += gained;
        }
        if self.left >= rate {
            // A second's worth may be saved up.
            self.left = rate;
            self.at_ms = now_ms;
        }
        self.left -= i128::from(bytes);
        if self.left >= 0 {
            return 0;
        }
        let ms = (-self.left * 1_000).div_euclid(rate) + 1;
        u64::try_from(ms).unwrap_or(u64::MAX).min(limits::THROTTLE_MS_MAX)
    }

    /// What a request took is known; `taken` was taken for it before.
    fn settle(&mut self, spent: u64, taken: u64) {
        self.left -= i128::from(spent) - i128::from(taken);
        self.mean = (self.mean * (MEAN_OVER - 1) + spent).div_ceil(MEAN_OVER);
    }
}

impl Engine {
    /// A request came: serves it, or holds it while its connection must wait.
    pub(crate) fn on_request(&mut self, id: RequestId, peer: Peer, request: Request, version: i16) {
        self.throttles.serving = None;
        if let Some(mute) = self.throttles.muted.get_mut(&peer.session) {
            if self.throttles.held < limits::THROTTLED_REQUESTS_MAX {
                self.throttles.held += 1;
                mute.held.push_back(Held { id, peer, request, version });
                return;
            }
            // No room: what is held of this connection goes first, so that its order stays.
            while self.throttles.muted.contains_key(&peer.session) {
                self.on_unmute(peer.session);
            }
        }
        self.serve(id, peer, request, version);
    }

    fn serve(&mut self, id: RequestId, peer: Peer, request: Request, version: i16) {
        if self.state.quotas.len() > 0 {
            self.count_request(id, &peer, &request);
        }
        api::dispatch(self, id, &peer, request, version);
        // What follows in this event happens by itself, or is another's.
        self.audit.acting = None;
    }

    /// Counts what a request is already known to take.
    fn count_request(&mut self, id: RequestId, peer: &Peer, request: &Request) {
        let owed_ms = self.count_time(peer).min(limits::REQUEST_THROTTLE_MS_MAX);
        let ms = owed_ms.max(match request {
            Request::Produce(produce) => {
                let parts = produce.topic_data.iter().flat_map(|topic| &topic.partition_data);
                let bytes = parts.map(|part| part.records.as_ref().map_or(0, bytes::Bytes::len));
                self.count(QuotaKind::Produce, peer, bytes.sum::<usize>() as u64)
            }
            _ => match self.mutations(request) {
                0 => 0,
                count => self.count(QuotaKind::Mutation, peer, count * MILLI),
            },
        });
        let counts = matches!(request, Request::Fetch(_)).then(|| peer.clone());
        let is_answered = !matches!(request, Request::Produce(produce) if produce.acks == 0);
        if is_answered && (ms > 0 || counts.is_some()) {
            self.throttles.answers.insert(id, Told { session: peer.session, ms, counts });
        }
        if ms > 0 {
            self.counters.requests_throttled += 1;
            self.counters.throttle_ms += ms;
            self.mute(peer.session, ms);
        }
    }

    /// Counts a request as its client's usual ones; what its client owes of the engine's time.
    fn count_time(&mut self, peer: &Peer) -> u64 {
        let Some((key, rate)) = self.allowance(QuotaKind::Request, peer) else { return 0 };
        let now_ms = self.now.mono_ms;
        let bucket = self.bucket(&key, rate);
        let (owed_ms, mean) = (bucket.take(rate, 0, now_ms), bucket.mean);
        bucket.take(rate, mean, now_ms);
        self.throttles.serving = Some((key, mean));
        owed_ms
    }

    /// The shell measured what the request took that it brought last.
    pub(crate) fn on_spent(&mut self, spent_us: u64) {
        if let Some((key, taken)) = self.throttles.serving.take()
            && let Some(bucket) = self.throttles.buckets.get_mut(&key)
        {
            bucket.settle(spent_us, taken);
        }
    }

    /// Whether the time that requests take has to be told.
    #[must_use]
    pub fn measures_requests(&self) -> bool {
        self.state.quotas.len() > 0
    }

    /// Partitions that a request would make or delete (KIP-599).
    fn mutations(&self, request: &Request) -> u64 {
        let partitions =
            |name: &str| self.state.catalog.by_name(name).map_or(0, |topic| topic.partitions.len());
        let count: usize = match request {
            Request::CreateTopics(request) if !request.validate_only => {
                let wanted = request.topics.iter().map(|topic| {
                    usize::try_from(topic.num_partitions)
                        .unwrap_or_default()
                        .max(topic.assignments.len())
                        .clamp(1, limits::PARTITIONS_PER_TOPIC_MAX)
                });
                wanted.sum()
            }
            Request::CreatePartitions(request) if !request.validate_only => {
                let more = request.topics.iter().map(|topic| {
                    let wanted = usize::try_from(topic.count).unwrap_or_default();
                    wanted
                        .min(limits::PARTITIONS_PER_TOPIC_MAX)
                        .saturating_sub(partitions(&topic.name))
                });
                more.sum()
            }
            Request::DeleteTopics(request) => {
                let by_name = request.topic_names.iter().map(|name| partitions(name));
                let either = request.topics.iter().map(|topic| match &topic.name {
                    Some(name) => partitions(name),
                    None => {
                        let found = self.state.catalog.by_id(topic.topic_id);
                        found.map_or(0, |topic| topic.partitions.len())
                    }
                });
                by_name.chain(either).sum()
            }
            _ => 0,
        };
        count as u64
    }

    /// Whose bucket counts for a client, and how much it may have in a second.
    fn allowance(&self, kind: QuotaKind, peer: &Peer) -> Option<(BucketKey, u64)> {
        let client_id = peer.client_id.as_deref().unwrap_or_default();
        let user = peer.user.as_deref().unwrap_or(ANONYMOUS);
        let allowed = self.state.quotas.allowance(kind, user, client_id)?;
        let key = BucketKey { kind, user: allowed.user, client_id: allowed.client_id };
        Some((key, allowed.rate))
    }

    /// The bucket of a key, full if it is new.
    fn bucket(&mut self, key: &BucketKey, rate: u64) -> &mut Bucket {
        let now_ms = self.now.mono_ms;
        let buckets = &mut self.throttles.buckets;
        if !buckets.contains_key(key) && buckets.len() >= limits::QUOTA_BUCKETS_MAX {
            // Full ones and those nobody took from for long count nothing.
            buckets.retain(|_, bucket| {
                bucket.left < 0 && now_ms < bucket.at_ms + limits::THROTTLE_MS_MAX
            });
            if buckets.len() >= limits::QUOTA_BUCKETS_MAX {
                buckets.pop_first();
            }
        }
        let full = Bucket { left: i128::from(rate), at_ms: now_ms, mean: 0 };
        buckets.entry(key.clone()).or_insert(full)
    }

    /// Counts something of a client; how long it must wait.
    fn count(&mut self, kind: QuotaKind, peer: &Peer, amount: u64) -> u64 {
        let Some((key, rate)) = self.allowance(kind, peer) else { return 0 };
        let now_ms = self.now.mono_ms;
        self.bucket(&key, rate).take(rate, amount, now_ms)
    }

    /// Takes nothing from a connection for a while.
    fn mute(&mut self, session: SessionId, ms: u64) {
        let until_ms = self.now.mono_ms + ms;
        let mute = self.throttles.muted.entry(session);
        let mute = mute.or_insert_with(|| Mute { until_ms: 0, held: VecDeque::new() });
        if until_ms > mute.until_ms {
            self.timers.remove(&(mute.until_ms, Timer::Unmute(session)));
            mute.until_ms = until_ms;
            self.timers.insert((until_ms, Timer::Unmute(session)));
        }
    }

    /// The time of a connection is over: what was held is served, until it must wait again.
    pub(crate) fn on_unmute(&mut self, session: SessionId) {
        let Some(mute) = self.throttles.muted.remove(&session) else { return };
        self.timers.remove(&(mute.until_ms, Timer::Unmute(session)));
        self.throttles.held -= mute.held.len();
        let mut held = mute.held;
        while let Some(Held { id, peer, request, version }) = held.pop_front() {
            self.serve(id, peer, request, version);
            self.seal_if_large();
            if let Some(mute) = self.throttles.muted.get_mut(&session) {
                self.throttles.held += held.len();
                mute.held = held;
                return;
            }
        }
    }

    /// A connection ended. What it produced counts; nobody waits for the rest.
    pub(crate) fn end_throttle(&mut self, session: SessionId) {
        self.throttles.answers.retain(|_, told| told.session != session);
        let Some(mute) = self.throttles.muted.remove(&session) else { return };
        self.timers.remove(&(mute.until_ms, Timer::Unmute(session)));
        self.throttles.held -= mute.held.len();
        for Held { id, peer, request, version } in mute.held {
            if matches!(request, Request::Produce(_)) {
                api::dispatch(self, id, &peer, request, version);
                self.seal_if_large();
            }
        }
    }

    /// Makes an answer say how long its client is to wait.
    pub(crate) fn tell_throttle(&mut self, id: RequestId, response: &mut Option<Response>) {
        if self.throttles.answers.is_empty() {
            return;
        }
        let Some(told) = self.throttles.answers.remove(&id) else { return };
        let Some(response) = response else { return };
        let mut ms = told.ms;
        if let (Some(peer), Response::Fetch(response)) = (told.counts, &*response) {
            let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
            let bytes = parts.filter_map(|part| part.records.as_ref()).map(Records::size_bytes);
            let wait_ms = self.count(QuotaKind::Fetch, &peer, bytes.sum::<usize>() as u64);
            if wait_ms > 0 {
                self.counters.requests_throttled += 1;
                self.counters.throttle_ms += wait_ms;
                self.mute(peer.session, wait_ms);
            }
            ms = ms.max(wait_ms);
        }
        if ms > 0
            && let Some(said_ms) = response.throttle_time_ms_mut()
        {
            // Waits have a cap far below.
            *said_ms = i32::try_from(ms).unwrap_or(i32::MAX);
        }
    }

    /// Clients that are counted now.
    #[must_use]
    pub fn quota_buckets_len(&self) -> usize {
        self.throttles.buckets.len()
    }

    /// Connections that must wait, and requests that are held for them.
    #[must_use]
    pub fn throttled_len(&self) -> (usize, usize) {
        (self.throttles.muted.len(), self.throttles.held)
    }
}

/// Kafka's name for whoever did not log in.
const ANONYMOUS: &str = "ANONYMOUS";
/// Quotas of partitions are in thousandths.
const MILLI: u64 = 1_000;
/// The last requests weigh most in what is usual.
const MEAN_OVER: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_in_the_long_run_however_often_it_is_asked() {
        for (rate, step_ms, bytes) in [(100, 1, 1), (1_000_000, 7, 30_000), (3, 1, 1), (7, 999, 5)]
        {
            let mut bucket = Bucket { left: 0, at_ms: 0, mean: 0 };
            let (mut now_ms, mut taken) = (0, 0_u64);
            while now_ms < 100_000 {
                let wait_ms = bucket.take(rate, bytes, now_ms);
                taken += bytes;
                now_ms += wait_ms.max(step_ms);
            }
            let allowed = rate * now_ms / 1_000;
            assert!(taken <= allowed + rate + bytes, "{rate}: {taken} of {allowed}");
        }
    }
}
