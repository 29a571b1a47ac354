//! Holds clients to their quotas: counts bytes in buckets that refill with the event's time, tells
//! how long a client is to wait (KIP-219), and takes nothing from its connection until then. Clients
//! that do not listen to the time they are told are held up all the same.
//! Never loses a request: what is held is served in order when the time is over.

use crate::api;
use crate::engine::{Engine, Timer};
use crate::quota::QuotaKind;
use crate::units::{Peer, RequestId, SessionId};
use millpond_wire::limits;
use millpond_wire::messages::{ProduceRequest, Records, Request, Response};
use std::collections::{BTreeMap, VecDeque};

/// All that is held up, and what was counted.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    buckets: BTreeMap<BucketKey, Bucket>,
    muted: BTreeMap<SessionId, Mute>,
    /// What is to be done with answers under way.
    answers: BTreeMap<RequestId, Told>,
    held: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BucketKey {
    kind: QuotaKind,
    user: Option<String>,
    client_id: Option<String>,
}

/// Bytes that may still go; below zero: what must be made up for.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: i128,
    at_ms: u64,
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
enum Told {
    /// The answer says so.
    Wait { session: SessionId, ms: i32 },
    /// The bytes of the answer count.
    Count(Peer),
}

impl Bucket {
    /// Takes bytes; how long it takes until they are made up for.
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
}

impl Engine {
    /// A request came: serves it, or holds it while its connection must wait.
    pub(crate) fn on_request(&mut self, id: RequestId, peer: Peer, request: Request, version: i16) {
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
            match &request {
                Request::Produce(produce) => self.count_produce(id, &peer, produce),
                Request::Fetch(_) => {
                    self.throttles.answers.insert(id, Told::Count(peer.clone()));
                }
                _ => {}
            }
        }
        api::dispatch(self, id, &peer, request, version);
    }

    fn count_produce(&mut self, id: RequestId, peer: &Peer, request: &ProduceRequest) {
        let parts = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
        let bytes = parts.map(|part| part.records.as_ref().map_or(0, bytes::Bytes::len));
        let ms = self.count(QuotaKind::Produce, peer, bytes.sum());
        if ms > 0 {
            if request.acks != 0 {
                let told = Told::Wait { session: peer.session, ms: ms as i32 };
                self.throttles.answers.insert(id, told);
            }
            self.mute(peer.session, ms);
        }
    }

    /// Counts bytes of a client; how long it must wait.
    fn count(&mut self, kind: QuotaKind, peer: &Peer, bytes: usize) -> u64 {
        let client_id = peer.client_id.as_deref().unwrap_or_default();
        let user = peer.user.as_deref().unwrap_or(ANONYMOUS);
        let Some(allowed) = self.state.quotas.allowance(kind, user, client_id) else {
            return 0;
        };
        let now_ms = self.now.mono_ms;
        let key = BucketKey { kind, user: allowed.user, client_id: allowed.client_id };
        let buckets = &mut self.throttles.buckets;
        if !buckets.contains_key(&key) && buckets.len() >= limits::QUOTA_BUCKETS_MAX {
            // Full ones and those nobody took from for long count nothing.
            buckets.retain(|_, bucket| {
                bucket.left < 0 && now_ms < bucket.at_ms + limits::THROTTLE_MS_MAX
            });
            if buckets.len() >= limits::QUOTA_BUCKETS_MAX {
                buckets.pop_first();
            }
        }
        let full = Bucket { left: i128::from(allowed.rate), at_ms: now_ms };
        let bucket = buckets.entry(key).or_insert(full);
        let ms = bucket.take(allowed.rate, bytes as u64, now_ms);
        if ms > 0 {
            self.counters.requests_throttled += 1;
            self.counters.throttle_ms += ms;
        }
        ms
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
        self.throttles.answers.retain(|_, told| match told {
            Told::Wait { session: of, .. } => *of != session,
            Told::Count(peer) => peer.session != session,
        });
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
        match (self.throttles.answers.remove(&id), response) {
            (Some(Told::Wait { ms, .. }), Some(Response::Produce(response))) => {
                response.throttle_time_ms = ms;
            }
            (Some(Told::Count(peer)), Some(Response::Fetch(response))) => {
                let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
                let bytes = parts.filter_map(|part| part.records.as_ref()).map(Records::size_bytes);
                let ms = self.count(QuotaKind::Fetch, &peer, bytes.sum());
                if ms > 0 {
                    response.throttle_time_ms = ms as i32;
                    self.mute(peer.session, ms);
                }
            }
            _ => {}
        }
    }

    /// Connections that must wait, and requests that are held for them.
    #[must_use]
    pub fn throttled_len(&self) -> (usize, usize) {
        (self.throttles.muted.len(), self.throttles.held)
    }
}

/// Kafka's name for whoever did not log in.
const ANONYMOUS: &str = "ANONYMOUS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_in_the_long_run_however_often_it_is_asked() {
        for (rate, step_ms, bytes) in [(100, 1, 1), (1_000_000, 7, 30_000), (3, 1, 1), (7, 999, 5)]
        {
            let mut bucket = Bucket { left: 0, at_ms: 0 };
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
