//! The heart of the producer: records become batches, batches wait, go out, come back, and are
//! settled, in order for every partition.
//!
//! It is pure: no clock (times come in, in ms of one monotonic clock), no network, no lock, no
//! task. What it never does: send a batch that may be written under another sequence number, let
//! a batch overtake an earlier one of its partition, or hold a record beyond its delivery time.
//!
//! Order of calls: `push` for records; then, whenever something changed or `next_wake_ms` came:
//! `expire`, `finish_reset`, `drain`; `settle` for each answer; `take_released_bytes` after any.

use super::batch::{Batch, ProducerId, Stamp};
use super::delivery::{DeliveryError, DeliveryFuture, Promise, Settled};
use super::lane::{Lane, LaneId, Leader};
use super::queue::Queue;
use super::record::Record;
use super::verdict::Verdict;
use bytes::Bytes;
use millpond_wire::ErrorCode;
use millpond_wire::record::{BatchBuilder, BuildError, Codec, Header, sequence_add};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Builders kept for the next batches.
const SPARE_BUILDERS: usize = 16;

/// What the accumulator goes by.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) codec: Codec,
    pub(crate) level: Option<i32>,
    pub(crate) batch_bytes: usize,
    pub(crate) linger_ms: u64,
    pub(crate) delivery_ms: u64,
    pub(crate) retry_backoff_ms: u64,
    pub(crate) retry_backoff_max_ms: u64,
    pub(crate) request_bytes: usize,
    pub(crate) in_flight_per_partition: usize,
    pub(crate) is_idempotent: bool,
    /// Batches belong to transactions. The identity is given from outside, and what cannot be delivered
    /// spoils the transaction instead of retiring it.
    pub(crate) is_transactional: bool,
    /// Tries of a batch after the first.
    pub(crate) retries: u32,
}

/// Where the producer stands with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Without idempotence none is needed.
    Unneeded,
    /// An id must be asked for.
    Wanted,
    /// In use.
    Known(ProducerId),
    /// No longer to be used for new batches; kept until nothing sent with it is in doubt.
    Retiring { producer: ProducerId, for_new_id: bool },
}

/// A reference to a batch that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) queue: usize,
    pub(crate) batch: u64,
    pub(crate) bytes: Bytes,
}

/// One request: at most one batch of a partition.
#[derive(Debug)]
pub(crate) struct Shipment {
    pub(crate) lane: LaneId,
    pub(crate) parcels: Vec<Parcel>,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) shipments: Vec<Shipment>,
    /// Topics with something to send whose leader is not known.
    pub(crate) leaderless: BTreeSet<Arc<str>>,
    /// Lanes that something is to be sent on and that are not there.
    pub(crate) unreached: BTreeSet<LaneId>,
    /// A producer id must be asked for.
    pub(crate) wants_identity: bool,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) records_accepted: u64,
    pub(crate) records_delivered: u64,
    pub(crate) records_failed: u64,
    pub(crate) batches_sent: u64,
    pub(crate) batches_retried: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) identity_resets: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Accumulator {
    policy: Policy,
    queues: Vec<Queue>,
    index: HashMap<(Arc<str>, i32), usize>,
    identity: Identity,
    next_batch_id: u64,
    /// Where the next drain begins, so that no partition always comes last.
    rotation: usize,
    spare_builders: Vec<BatchBuilder>,
    released_bytes: usize,
    /// The transaction cannot be committed any more: something of it was not delivered.
    is_spoilt: bool,
    /// What is not under way is given up, and what is under way is not tried again.
    is_aborting: bool,
    pub(crate) counts: Counts,
}

impl Accumulator {
    pub(crate) fn new(policy: Policy) -> Self {
        let identity = match policy.is_idempotent {
            true => Identity::Wanted,
            false => Identity::Unneeded,
        };
        Self {
            policy,
            queues: Vec::new(),
            index: HashMap::new(),
            identity,
            next_batch_id: 0,
            rotation: 0,
            spare_builders: Vec::new(),
            released_bytes: 0,
            is_spoilt: false,
            is_aborting: false,
            counts: Counts::default(),
        }
    }

    /// Whether the open batch of a partition has room for `record_bytes`.
    pub(crate) fn fits(&self, topic: &Arc<str>, partition: i32, record_bytes: usize) -> bool {
        let queue = self.index.get(&(Arc::clone(topic), partition));
        let open = queue.and_then(|at| self.queues.get(*at)).and_then(Queue::open);
        open.is_some_and(|batch| batch.size_bytes() + record_bytes <= self.policy.batch_bytes)
    }

    /// Takes a record. The flag tells whether the sender must look: a batch opened or filled up.
    pub(crate) fn push(
        &mut self,
        now_ms: u64,
        partition: i32,
        timestamp_ms: i64,
        record: &Record,
        record_bytes: usize,
    ) -> Result<(DeliveryFuture, bool), BuildError> {
        let at = self.queue(&record.topic, partition);
        let fits = self.fits(&record.topic, partition, record_bytes);
        let (Some(queue), batch_bytes) = (self.queues.get_mut(at), self.policy.batch_bytes) else {
            return Err(BuildError::Empty);
        };
        if !fits {
            queue.close_open();
            self.next_batch_id += 1;
            let builder = self.spare_builders.pop();
            let builder = builder.unwrap_or_else(|| {
                BatchBuilder::new(self.policy.codec, self.policy.level)
                    .with_transactional(self.policy.is_transactional)
            });
            let promise = Promise::new(Arc::clone(&record.topic), partition);
            queue.waiting.push_back(Batch::new(self.next_batch_id, builder, promise, now_ms));
        }
        let Some(batch) = queue.waiting.back_mut() else {
            return Err(BuildError::Empty);
        };
        let pushed = batch.open_builder().ok_or(BuildError::Empty).and_then(|builder| {
            let headers: Vec<Header<'_>> = record.headers.iter().map(header).collect();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.push(timestamp_ms, key, value, &headers)
        });
        if let Err(error) = pushed {
            if batch.records == 0 {
                queue.waiting.pop_back();
            }
            return Err(error);
        }
        let future = batch.promise.record(batch.records.unsigned_abs(), timestamp_ms);
        batch.records += 1;
        batch.buffered_bytes += record_bytes;
        let is_full = batch.size_bytes() >= batch_bytes;
        batch.is_closed = is_full;
        self.counts.records_accepted += 1;
        Ok((future, is_full || !fits))
    }

    fn queue(&mut self, topic: &Arc<str>, partition: i32) -> usize {
        let queues = &mut self.queues;
        let key = (Arc::clone(topic), partition);
        *self.index.entry(key).or_insert_with(|| {
            queues.push(Queue::new(Arc::clone(topic), partition));
            queues.len() - 1
        })
    }

    /// Everything that waits may go now, whatever its linger.
    pub(crate) fn close_open_batches(&mut self) {
        self.queues.iter_mut().for_each(Queue::close_open);
    }

    /// A future for each batch that is not settled.
    pub(crate) fn unsettled(&self) -> Vec<Settled> {
        let batches = self.queues.iter().flat_map(Queue::batches);
        batches.map(|batch| batch.promise.settled()).collect()
    }

    /// The topics with batches that are not settled.
    pub(crate) fn busy_topics(&self) -> BTreeSet<Arc<str>> {
        let busy = self.queues.iter().filter(|queue| queue.batches().next().is_some());
        busy.map(|queue| Arc::clone(&queue.topic)).collect()
    }

    /// Gives up what is over its delivery time. Batches under way are given up to their callers,
    /// but stay until their answer, which decides what comes after them.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let delivery_ms = self.policy.delivery_ms;
        for at in 0..self.queues.len() {
            let Some(queue) = self.queues.get_mut(at) else { continue };
            let given_up = queue.give_up_in_flight(now_ms, delivery_ms);
            let over = queue.take_expired(now_ms, delivery_ms);
            self.counts.records_failed += given_up;
            self.is_spoilt |= given_up > 0;
            for (batch, error) in over {
                self.fail(at, batch, error);
            }
        }
    }

    /// Chooses what to send now. `pressed`: somebody waits for memory, so nothing lingers.
    pub(crate) fn drain(
        &mut self,
        now_ms: u64,
        pressed: bool,
        leader: impl Fn(&str, i32) -> Option<Leader>,
        lane: impl Fn(LaneId) -> Lane,
    ) -> Drained {
        let mut drained = Drained::default();
        let mut slots: BTreeMap<LaneId, usize> = BTreeMap::new();
        let mut shut: BTreeSet<usize> = BTreeSet::new();
        loop {
            let round_start = drained.shipments.len();
            for at in self.ready(now_ms, pressed, &shut) {
                let Some(id) = self.lane_of(at, &leader, &mut drained) else {
                    shut.insert(at);
                    continue;
                };
                let open = slots.entry(id).or_insert_with(|| match lane(id) {
                    Lane::Open(open) => open,
                    Lane::Wanted => {
                        drained.unreached.insert(id);
                        0
                    }
                    Lane::Waiting => 0,
                });
                if self.identity == Identity::Wanted {
                    drained.wants_identity = true;
                    shut.insert(at);
                } else if !self.load(at, id, open, round_start, &mut drained.shipments) {
                    shut.insert(at);
                }
            }
            if drained.shipments.len() == round_start {
                break;
            }
        }
        self.rotation = self.rotation.wrapping_add(1);
        drained
    }

    /// The lane of a queue; none if its leader is not known, or if what is under way goes another
    /// way: that is answered first.
    fn lane_of(
        &self,
        at: usize,
        leader: impl Fn(&str, i32) -> Option<Leader>,
        drained: &mut Drained,
    ) -> Option<LaneId> {
        let queue = self.queues.get(at)?;
        let Some(leader) = leader(&queue.topic, queue.partition) else {
            drained.leaderless.insert(Arc::clone(&queue.topic));
            return None;
        };
        Some(leader.lane_of(at)).filter(|lane| queue.may_go_by(*lane))
    }

    /// Puts the next batch of a queue on this round's request on `lane`, or on a new one if
    /// there is a slot. False: nothing more of this queue can go now.
    fn load(
        &mut self,
        at: usize,
        lane: LaneId,
        open: &mut usize,
        round_start: usize,
        shipments: &mut Vec<Shipment>,
    ) -> bool {
        let round = shipments.get_mut(round_start..).unwrap_or_default();
        if let Some(shipment) = round.iter_mut().find(|shipment| shipment.lane == lane) {
            let is_retiring = matches!(self.identity, Identity::Retiring { .. });
            let size = self.queues.get(at).map_or(0, |queue| queue.next_bytes(is_retiring));
            if shipment.bytes() + size <= self.policy.request_bytes {
                let parcel = self.ship(at, lane);
                let shipped = parcel.is_some();
                shipment.parcels.extend(parcel);
                return shipped;
            }
            // It goes with the next round's request.
            return true;
        }
        if *open == 0 {
            return false;
        }
        let Some(parcel) = self.ship(at, lane) else { return false };
        *open -= 1;
        let parcels = vec![parcel];
        shipments.push(Shipment { lane, parcels });
        true
    }

    /// The queues with a batch that may go, each once, in rotation.
    fn ready(&self, now_ms: u64, pressed: bool, shut: &BTreeSet<usize>) -> Vec<usize> {
        let count = self.queues.len();
        let start = self.rotation.checked_rem(count).unwrap_or(0);
        let order = (start..count).chain(0..start);
        let is_retiring = matches!(self.identity, Identity::Retiring { .. });
        order
            .filter(|at| !shut.contains(at))
            .filter(|at| {
                let queue = self.queues.get(*at);
                queue.is_some_and(|q| q.is_ready(now_ms, pressed, is_retiring, &self.policy))
            })
            .collect()
    }

    /// Stamps, encodes and takes the next batch of a queue.
    fn ship(&mut self, at: usize, lane: LaneId) -> Option<Parcel> {
        let is_retiring = matches!(self.identity, Identity::Retiring { .. });
        let queue = self.queues.get_mut(at)?;
        let next = queue.next(is_retiring)?;
        let batch = queue.waiting.get_mut(next)?;
        if let (None, Identity::Known(producer)) = (batch.stamp, self.identity) {
            batch.stamp = Some(Stamp { producer, base_sequence: queue.next_sequence });
            queue.next_sequence = sequence_add(queue.next_sequence, batch.records);
        }
        let mut batch = queue.waiting.remove(next)?;
        let (bytes, builder) = match batch.encode() {
            Ok(encoded) => encoded,
            Err(error) => {
                let error = queue.unencodable(&error);
                self.fail(at, batch, error);
                return None;
            }
        };
        self.spare_builders.extend(builder);
        self.spare_builders.truncate(SPARE_BUILDERS);
        self.counts.batches_sent += 1;
        self.counts.batches_retried += u64::from(batch.tries > 0);
        self.counts.bytes_sent += u64::try_from(bytes.len()).unwrap_or(0);
        batch.tries += 1;
        let parcel = Parcel {
            topic: Arc::clone(&queue.topic),
            partition: queue.partition,
            queue: at,
            batch: batch.id,
            bytes,
        };
        queue.lane = Some(lane);
        queue.in_flight.push_back(batch);
        Some(parcel)
    }

    /// Takes in what one try of a batch came to.
    pub(crate) fn settle(&mut self, now_ms: u64, at: usize, batch_id: u64, verdict: Verdict) {
        let Some(queue) = self.queues.get_mut(at) else { return };
        let Some(mut batch) = queue.take_in_flight(batch_id) else { return };
        match verdict {
            Verdict::Delivered(written) => {
                if batch.promise.keep(Ok(written)) {
                    self.counts.records_delivered += u64::from(batch.records.unsigned_abs());
                }
                queue.failures = 0;
                self.release(batch);
            }
            Verdict::Refused { code, message } => {
                let error = queue.refused(code, message, batch.is_uncertain);
                self.fail(at, batch, error);
            }
            Verdict::Retry { uncertain, why } => {
                batch.is_uncertain |= uncertain;
                batch.last_problem = Some(why);
                self.retry(now_ms, at, batch);
            }
            Verdict::OutOfOrder => self.out_of_order(now_ms, at, batch),
            // Another has the transactional id now: no try will ever be taken.
            Verdict::ProducerUnknown { why } if self.policy.is_transactional => {
                let fenced = ErrorCode::ProducerFenced;
                let error = queue.refused(fenced, Some(why), batch.is_uncertain);
                self.fail(at, batch, error);
            }
            Verdict::ProducerUnknown { why } if batch.is_uncertain => {
                let error = queue.undecided(why);
                self.retire(true);
                self.fail(at, batch, error);
            }
            Verdict::ProducerUnknown { why } => {
                batch.last_problem = Some(why);
                self.retire(true);
                self.retry(now_ms, at, batch);
            }
        }
    }

    /// The broker expected another sequence number. An earlier batch of ours that is on its way
    /// again explains that, and so does one that was given up; else the broker has lost its state.
    ///
    /// A batch in doubt stays in doubt: an old request with it may still arrive, right after the
    /// one that was missing. So it may go again under its old stamp, but never under a new one.
    fn out_of_order(&mut self, now_ms: u64, at: usize, mut batch: Batch) {
        let Some(queue) = self.queues.get_mut(at) else { return };
        let why: Arc<str> = "the broker expected another sequence number".into();
        batch.last_problem = Some(Arc::clone(&why));
        let is_explained = queue.has_gap || queue.has_stamped_before(batch.id);
        let must_stay = batch.is_uncertain || self.policy.is_transactional;
        if must_stay && (queue.has_gap || !is_explained) {
            let error = queue.undecided(why);
            self.retire(!is_explained);
            return self.fail(at, batch, error);
        }
        if !is_explained {
            self.retire(true);
        }
        self.retry(now_ms, at, batch);
    }

    fn retry(&mut self, now_ms: u64, at: usize, batch: Batch) {
        let policy = &self.policy;
        let Some(queue) = self.queues.get_mut(at) else { return };
        if self.is_aborting {
            return self.fail(at, batch, DeliveryError::Aborted);
        }
        let age_ms = now_ms.saturating_sub(batch.created_ms);
        if age_ms >= policy.delivery_ms || batch.tries > policy.retries {
            let error = queue.timed_out(&batch, age_ms, batch.is_uncertain);
            return self.fail(at, batch, error);
        }
        let doubled = policy.retry_backoff_ms << queue.failures.min(10);
        queue.resume_at_ms = now_ms + doubled.min(policy.retry_backoff_max_ms);
        queue.failures = queue.failures.saturating_add(1);
        queue.put_back(batch);
    }

    /// Ends a batch that is not, or not surely, delivered.
    fn fail(&mut self, at: usize, batch: Batch, error: DeliveryError) {
        if batch.promise.keep(Err(error)) {
            self.counts.records_failed += u64::from(batch.records.unsigned_abs());
        }
        self.is_spoilt = true;
        if batch.stamp.is_some() {
            // Its sequence numbers are spent here and perhaps not there: begin anew.
            if let Some(queue) = self.queues.get_mut(at) {
                queue.has_gap = true;
            }
            self.retire(false);
        }
        self.release(batch);
    }

    fn release(&mut self, batch: Batch) {
        self.released_bytes += batch.buffered_bytes;
    }

    /// The sequence numbers in use no longer agree with the broker's.
    fn retire(&mut self, wants_new_id: bool) {
        if self.policy.is_transactional {
            self.is_spoilt = true;
            return;
        }
        match &mut self.identity {
            Identity::Known(producer) => {
                self.identity =
                    Identity::Retiring { producer: *producer, for_new_id: wants_new_id };
            }
            Identity::Retiring { for_new_id, .. } => *for_new_id |= wants_new_id,
            Identity::Unneeded | Identity::Wanted => {}
        }
    }

    /// Once nothing that was sent is in doubt: a new epoch (or id), sequences from 0, and new
    /// stamps for what is known not to be written.
    pub(crate) fn finish_reset(&mut self) {
        let Identity::Retiring { producer, for_new_id } = self.identity else { return };
        if self.queues.iter().any(Queue::is_in_doubt) {
            return;
        }
        for at in 0..self.queues.len() {
            let Some(queue) = self.queues.get_mut(at) else { continue };
            queue.next_sequence = 0;
            queue.has_gap = false;
            let broken = queue.unstamp_all();
            for (batch, error) in broken {
                let error = self
                    .queues
                    .get(at)
                    .map_or(DeliveryError::Closed, |queue| queue.unencodable(&error));
                self.fail(at, batch, error);
            }
        }
        self.counts.identity_resets += 1;
        self.identity = match producer.epoch.checked_add(1) {
            Some(epoch) if !for_new_id => Identity::Known(ProducerId { epoch, ..producer }),
            _ => Identity::Wanted,
        };
    }

    /// Whether something of this transaction was not delivered.
    pub(crate) fn is_spoilt(&self) -> bool {
        self.is_spoilt
    }

    /// Gives up what is not under way; what is under way has one answer left.
    pub(crate) fn begin_abort(&mut self) {
        self.is_aborting = true;
        for at in 0..self.queues.len() {
            let waiting = self.queues.get_mut(at).map(|queue| std::mem::take(&mut queue.waiting));
            for batch in waiting.into_iter().flatten() {
                self.fail(at, batch, DeliveryError::Aborted);
            }
        }
    }

    /// The next transaction begins under a new epoch, with sequences from 0. Only when nothing is
    /// under way.
    pub(crate) fn renew(&mut self, producer: ProducerId) {
        for queue in &mut self.queues {
            queue.next_sequence = 0;
            queue.has_gap = false;
        }
        self.identity = Identity::Known(producer);
        (self.is_spoilt, self.is_aborting) = (false, false);
    }

    /// The broker has given an id.
    pub(crate) fn set_identity(&mut self, producer: ProducerId) {
        if self.identity == Identity::Wanted {
            self.identity = Identity::Known(producer);
        }
    }

    /// When to look again if nothing else happens, after `now_ms`, in ms of the same clock.
    pub(crate) fn next_wake_ms(&self, now_ms: u64) -> Option<u64> {
        let wakes = self.queues.iter().flat_map(|queue| queue.wakes_ms(&self.policy));
        wakes.filter(|wake_ms| *wake_ms > now_ms).min()
    }

    /// Buffer bytes of batches settled since the last call.
    pub(crate) fn take_released_bytes(&mut self) -> usize {
        std::mem::take(&mut self.released_bytes)
    }
}

#[cfg(test)]
impl Accumulator {
    pub(crate) fn set_next_sequence_for_test(&mut self, at: usize, sequence: i32) {
        self.queues[at].next_sequence = sequence;
    }

    pub(crate) fn identity_for_test(&self) -> Identity {
        self.identity
    }
}

impl Shipment {
    fn bytes(&self) -> usize {
        self.parcels.iter().map(|parcel| parcel.bytes.len()).sum()
    }
}

pub(crate) fn header((name, value): &(Bytes, Option<Bytes>)) -> Header<'_> {
    Header { key: name, value: value.as_deref() }
}
