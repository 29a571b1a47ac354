//! The batches of one partition: waiting, under way, and what their order demands.
//!
//! It never lets two batches change places: what comes back for a retry goes in front of what was
//! made after it, and nothing newer leaves while a retry is pending.

use super::accumulator::Policy;
use super::batch::Batch;
use super::delivery::DeliveryError;
use super::lane::LaneId;
use millpond_wire::ErrorCode;
use millpond_wire::record::BuildError;
use std::collections::VecDeque;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// In the order of their ids; only the last one may still be open.
    pub(crate) waiting: VecDeque<Batch>,
    pub(crate) in_flight: VecDeque<Batch>,
    /// The lane of what is under way, or was last.
    pub(crate) lane: Option<LaneId>,
    pub(crate) next_sequence: i32,
    /// A stamped batch of this epoch was given up: the broker may miss its sequence numbers.
    pub(crate) has_gap: bool,
    /// Nothing is sent before, after a failure.
    pub(crate) resume_at_ms: u64,
    /// Failures in a row.
    pub(crate) failures: u32,
}

impl Queue {
    pub(crate) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self {
            topic,
            partition,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            lane: None,
            next_sequence: 0,
            has_gap: false,
            resume_at_ms: 0,
            failures: 0,
        }
    }

    /// Every batch that is not settled.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.in_flight.iter().chain(&self.waiting)
    }

    /// Whether a batch may go by `lane` now: not past another one that is under way elsewhere.
    pub(crate) fn may_go_by(&self, lane: LaneId) -> bool {
        self.in_flight.is_empty() || self.lane == Some(lane)
    }

    /// The batch that takes records.
    pub(crate) fn open(&self) -> Option<&Batch> {
        self.waiting.back().filter(|batch| !batch.is_closed)
    }

    pub(crate) fn close_open(&mut self) {
        if let Some(batch) = self.waiting.back_mut() {
            batch.is_closed = true;
        }
    }

    /// Which waiting batch is next. While an identity retires, only what decides a batch in doubt
    /// goes: the stamped ones in order, or past a gap that none of them can close the one itself.
    pub(crate) fn next(&self, is_retiring: bool) -> Option<usize> {
        if !is_retiring {
            return (!self.waiting.is_empty()).then_some(0);
        }
        let in_doubt = self.waiting.iter().position(|batch| batch.is_uncertain)?;
        let first_stamped = self.waiting.iter().position(|batch| batch.stamp.is_some());
        match self.has_gap {
            true => Some(in_doubt),
            false => first_stamped,
        }
    }

    pub(crate) fn is_ready(
        &self,
        now_ms: u64,
        pressed: bool,
        is_retiring: bool,
        policy: &Policy,
    ) -> bool {
        let Some(batch) = self.next(is_retiring).and_then(|next| self.waiting.get(next)) else {
            return false;
        };
        // A retry goes alone: what follows it must not arrive before it is decided.
        let is_retry_blocked = batch.tries > 0 && !self.in_flight.is_empty();
        let is_after_retry = self.in_flight.iter().any(|other| other.tries > 1);
        now_ms >= self.resume_at_ms
            && self.in_flight.len() < policy.in_flight_per_partition
            && !is_retry_blocked
            && !is_after_retry
            && (pressed || batch.is_closed || now_ms >= batch.created_ms + policy.linger_ms)
    }

    pub(crate) fn take_in_flight(&mut self, batch_id: u64) -> Option<Batch> {
        let at = self.in_flight.iter().position(|batch| batch.id == batch_id)?;
        self.in_flight.remove(at)
    }

    /// Puts a batch back where its age places it.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        let at = self.waiting.iter().position(|other| other.id > batch.id);
        self.waiting.insert(at.unwrap_or(self.waiting.len()), batch);
    }

    /// Whether an earlier batch of this epoch is neither delivered nor given up.
    pub(crate) fn has_stamped_before(&self, batch_id: u64) -> bool {
        self.batches().any(|batch| batch.id < batch_id && batch.stamp.is_some())
    }

    /// Whether something that was sent may be written and is not known to be.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.in_flight.is_empty() || self.waiting.iter().any(|batch| batch.is_uncertain)
    }

    /// Takes all stamps off; returns the batches for which that failed.
    pub(crate) fn unstamp_all(&mut self) -> Vec<(Batch, BuildError)> {
        let mut broken = Vec::new();
        let mut whole = VecDeque::with_capacity(self.waiting.len());
        for mut batch in std::mem::take(&mut self.waiting) {
            match batch.unstamp() {
                Ok(()) => whole.push_back(batch),
                Err(error) => broken.push((batch, error)),
            }
        }
        self.waiting = whole;
        broken
    }

    /// Size of the batch that is next: an upper bound while it is not encoded.
    pub(crate) fn next_bytes(&self, is_retiring: bool) -> usize {
        let next = self.next(is_retiring).and_then(|next| self.waiting.get(next));
        next.map_or(0, Batch::size_bytes)
    }

    /// Tells the callers of batches under way that their time is over. The batches stay until
    /// their answers, which decide what comes after them. Returns the number of records.
    pub(crate) fn give_up_in_flight(&mut self, now_ms: u64, delivery_ms: u64) -> u64 {
        let mut records = 0;
        for at in 0..self.in_flight.len() {
            let Some(batch) = self.in_flight.get(at) else { break };
            if batch.is_given_up || !is_over(batch, now_ms, delivery_ms) {
                continue;
            }
            let error = self.timed_out(batch, delivery_ms, true);
            if batch.promise.keep(Err(error)) {
                records += u64::from(batch.records.unsigned_abs());
            }
            if let Some(batch) = self.in_flight.get_mut(at) {
                batch.is_given_up = true;
            }
        }
        records
    }

    /// Takes out the waiting batches whose time is over.
    pub(crate) fn take_expired(
        &mut self,
        now_ms: u64,
        delivery_ms: u64,
    ) -> Vec<(Batch, DeliveryError)> {
        if !self.waiting.iter().any(|batch| is_over(batch, now_ms, delivery_ms)) {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (over, kept): (VecDeque<Batch>, VecDeque<Batch>) =
            waiting.into_iter().partition(|batch| is_over(batch, now_ms, delivery_ms));
        self.waiting = kept;
        let errors = over.into_iter().map(|batch| {
            let error = self.timed_out(&batch, delivery_ms, batch.is_uncertain);
            (batch, error)
        });
        errors.collect()
    }

    /// When something here becomes due: a linger, the end of a pause, a delivery time.
    pub(crate) fn wakes_ms(&self, policy: &Policy) -> impl Iterator<Item = u64> {
        let waited_for = self.batches().filter(|batch| !batch.is_given_up);
        let expiry = waited_for.map(|batch| batch.created_ms + policy.delivery_ms).min();
        let linger = self.waiting.front().map(|batch| match batch.is_closed {
            true => self.resume_at_ms,
            false => self.resume_at_ms.max(batch.created_ms + policy.linger_ms),
        });
        expiry.into_iter().chain(linger)
    }

    pub(crate) fn timed_out(
        &self,
        batch: &Batch,
        after_ms: u64,
        may_be_written: bool,
    ) -> DeliveryError {
        let last = batch.last_problem.clone();
        DeliveryError::TimedOut {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            after_ms,
            may_be_written,
            last: last.unwrap_or_else(|| match batch.tries {
                0 => "it could not be sent".into(),
                _ => "no answer yet".into(),
            }),
        }
    }

    pub(crate) fn refused(
        &self,
        code: ErrorCode,
        message: Option<Arc<str>>,
        may_be_written: bool,
    ) -> DeliveryError {
        DeliveryError::Refused {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            code,
            message,
            may_be_written,
        }
    }

    pub(crate) fn undecided(&self, reason: Arc<str>) -> DeliveryError {
        DeliveryError::Undecided {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            reason,
        }
    }

    /// Records that cannot be encoded are refused before they are sent.
    pub(crate) fn unencodable(&self, error: &BuildError) -> DeliveryError {
        self.refused(ErrorCode::InvalidRecord, Some(error.to_string().into()), false)
    }
}

fn is_over(batch: &Batch, now_ms: u64, delivery_ms: u64) -> bool {
    now_ms.saturating_sub(batch.created_ms) >= delivery_ms
}
