//! The queue of one partition between admission and commit: batches stand in the order in which
//! they were admitted, whether a transform works on them or not, and leave it in that order.
//! Checks sequences on what was *sent*. Never touches the log.

use crate::changelog::Desk;
use crate::durability::SequenceGap;
use crate::producer::{ProducerState, SentBatch};
use crate::transaction::InTransaction;
use crate::transform::{Keeper, TransformOutcome};
use crate::units::Ticket;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::mutant::Mutant;
use millpond_wire::record::{Batch, sequence_add};
use std::collections::{BTreeMap, VecDeque};

/// One partition's batches under way.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    queue: VecDeque<Admitted>,
    /// Producers whose batch was refused and of which no committed state says what must come next:
    /// that batch's sequence.
    refused: BTreeMap<i64, (i16, i32)>,
    /// By producer: sequences that were lost, so that no batch among them is a duplicate.
    gaps: BTreeMap<i64, SequenceGap>,
    /// The state of the transforms that run on it.
    pub(crate) desk: Desk,
    /// A job without a batch that is under way, and the transforms in it that keep state.
    pub(crate) idle: Option<(Ticket, Vec<Keeper>)>,
}

/// A batch that has its place in the order.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) ticket: Ticket,
    pub(crate) batch: Batch,
    pub(crate) range: Option<SentRange>,
    /// The transaction that it is part of.
    pub(crate) within: Option<InTransaction>,
    /// `None`: a transform works on it.
    pub(crate) outcome: Option<TransformOutcome>,
    /// Records given to transforms up to and with it; `None` when none runs.
    pub(crate) inputs_upto: Option<u64>,
    /// It waits for those before it: the chain keeps state, which is that after their results.
    pub(crate) is_held: bool,
    /// The transforms that work on it and keep state.
    pub(crate) keepers: Vec<Keeper>,
    /// Who is told: the original and its duplicates.
    pub(crate) waiting: Vec<Slot>,
}

/// Where the answer of one partition goes: a call, and the place in its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) call: u64,
    pub(crate) topic: usize,
    pub(crate) partition: usize,
}

/// The sequence numbers of a batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentRange {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) last_sequence: i32,
}

/// What a sequence check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one.
    Next,
    /// It was committed before.
    Committed(SentBatch),
    /// It is in the queue, at this index.
    InFlight(usize),
    /// It must not be accepted.
    Refused(ErrorCode),
}

impl SentRange {
    pub(crate) fn of(batch: &Batch) -> Option<SentRange> {
        let header = batch.header();
        header.has_producer().then(|| SentRange {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
        })
    }
}

impl Pending {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn push(&mut self, admitted: Admitted) {
        assert!(self.queue.len() < limits::PARTITION_PENDING_BATCHES_MAX, "checked at admission");
        self.forget_refusal(admitted.range);
        self.queue.push_back(admitted);
    }

    pub(crate) fn forget_refusal(&mut self, range: Option<SentRange>) {
        if let Some(range) = range {
            self.refused.remove(&range.producer_id);
        }
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Admitted> {
        self.queue.get_mut(index)
    }

    /// Notes what a transform made of a batch. False: the batch is not here any more.
    pub(crate) fn finish(&mut self, ticket: Ticket, outcome: TransformOutcome) -> bool {
        match self.queue.iter_mut().find(|admitted| admitted.ticket == ticket) {
            Some(admitted) => {
                admitted.outcome = Some(outcome);
                true
            }
            None => false,
        }
    }

    /// The oldest batch, if nothing works on it any more.
    pub(crate) fn pop_ready(&mut self) -> Option<Admitted> {
        self.queue.front()?.outcome.as_ref()?;
        self.queue.pop_front()
    }

    /// Whether a batch must wait until those before it are committed: there is one, and state is
    /// kept on either side.
    pub(crate) fn must_hold(&self, keeps_state: bool) -> bool {
        let keeps = |one: &Admitted| one.is_held || !one.keepers.is_empty();
        self.idle.is_some() || keeps_state && !self.queue.is_empty() || self.queue.iter().any(keeps)
    }

    /// The oldest batch, if it waited for those before it, which are gone now.
    pub(crate) fn held_mut(&mut self) -> Option<&mut Admitted> {
        self.queue.front_mut().filter(|one| one.is_held && self.idle.is_none())
    }

    pub(crate) fn take_front(&mut self) -> Option<Admitted> {
        self.queue.pop_front()
    }

    pub(crate) fn put_front(&mut self, admitted: Admitted) {
        self.queue.push_front(admitted);
    }

    /// The transforms with state of the job of a ticket.
    pub(crate) fn keepers_of(&self, ticket: Ticket) -> Option<&[Keeper]> {
        let idle = self.idle.iter().find(|(own, _)| *own == ticket).map(|(_, keepers)| keepers);
        let admitted = self.queue.iter().find(|one| one.ticket == ticket);
        idle.or(admitted.map(|one| &one.keepers)).map(Vec::as_slice)
    }

    /// A transform was deleted, and its state: what is under way must not bring it back.
    pub(crate) fn forget_keeper(&mut self, name: &str) {
        for admitted in &mut self.queue {
            admitted.keepers.retain(|keeper| keeper.name != name);
        }
        if let Some((_, keepers)) = &mut self.idle {
            keepers.retain(|keeper| keeper.name != name);
        }
    }

    /// Takes everything out: the partition is going.
    pub(crate) fn drain(&mut self) -> Vec<Admitted> {
        self.queue.drain(..).collect()
    }

    /// A batch was refused after admission: later ones of its producer cannot follow it, and what
    /// comes next must begin where it began. Gives back the later ones.
    pub(crate) fn roll_back(&mut self, range: SentRange, has_state: bool) -> Vec<Admitted> {
        let follows = |admitted: &Admitted| {
            admitted.range.is_some_and(|later| {
                later.producer_id == range.producer_id && later.epoch == range.epoch
            })
        };
        let mut later = Vec::new();
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for admitted in self.queue.drain(..) {
            if follows(&admitted) { later.push(admitted) } else { kept.push_back(admitted) }
        }
        self.queue = kept;
        // Else the next one would leave the gap that this one was to leave, and itself in it.
        let left_gap = self.gaps.get(&range.producer_id).is_some_and(|gap| gap.ends_at(range));
        if !has_state || left_gap {
            self.refuse(range);
        }
        later
    }

    /// A batch was refused: its producer, of which nothing else is known, must begin with it. Of
    /// several in a row the first one counts.
    pub(crate) fn refuse(&mut self, range: SentRange) {
        if self.last_of(range.producer_id).is_some() {
            return;
        }
        if self.refused.len() >= limits::REFUSED_PRODUCERS_PER_PARTITION_MAX {
            self.refused.pop_first();
        }
        self.refused.insert(range.producer_id, (range.epoch, range.base_sequence));
    }

    /// Judges a batch by its sequence numbers against what is committed and what is under way.
    pub(crate) fn check(&self, range: SentRange, committed: Option<&ProducerState>) -> Verdict {
        if Mutant::NoDuplicateCheck.is_on() {
            return Verdict::Next;
        }
        let last = self.last_of(range.producer_id);
        let epoch = last.map(|last| last.epoch).or(committed.map(|state| state.epoch));
        let refused = self.refused.get(&range.producer_id);
        match epoch.or(refused.map(|(epoch, _)| *epoch)) {
            Some(current) if range.epoch < current => {
                return Verdict::Refused(ErrorCode::InvalidProducerEpoch);
            }
            // A new epoch begins at 0.
            Some(current) if range.epoch > current => return follow(Some(0), range),
            _ => {}
        }
        if let Some(index) = self.queue.iter().position(|other| other.range == Some(range)) {
            return Verdict::InFlight(index);
        }
        let committed = committed.filter(|state| state.epoch == range.epoch);
        if let Some(batch) =
            committed.and_then(|state| state.find(range.base_sequence, range.last_sequence))
        {
            return Verdict::Committed(batch);
        }
        let expected = last
            .map(|last| sequence_add(last.last_sequence, 1))
            .or_else(|| committed.and_then(ProducerState::next_sequence))
            .or(refused.map(|(_, next)| *next));
        match follow(expected, range) {
            Verdict::Refused(ErrorCode::DuplicateSequenceNumber)
                if self.gaps.get(&range.producer_id).is_some_and(|gap| gap.holds(range)) =>
            {
                Verdict::Refused(ErrorCode::OutOfOrderSequenceNumber)
            }
            verdict => verdict,
        }
    }

    /// Whether a batch may stand here although `expected` was to come next: it is ahead of that,
    /// none of its producer is under way, and no other was refused.
    pub(crate) fn may_leave_gap(&self, range: SentRange, known_epoch: i16, expected: i32) -> bool {
        let ahead = sequence_distance(expected, range.base_sequence);
        let begin = (range.epoch, range.base_sequence);
        let has_room = self.gaps.len() < limits::SEQUENCE_GAPS_PER_PARTITION_MAX
            || self.gaps.contains_key(&range.producer_id);
        has_room
            && range.epoch >= known_epoch
            && (1..i64::from(i32::MAX) / 2).contains(&ahead)
            && self.last_of(range.producer_id).is_none()
            && self.refused.get(&range.producer_id).is_none_or(|refused| *refused == begin)
    }

    pub(crate) fn remember_gap(&mut self, producer_id: i64, gap: SequenceGap) {
        self.gaps.insert(producer_id, gap);
    }

    fn last_of(&self, producer_id: i64) -> Option<SentRange> {
        let mut ranges = self.queue.iter().rev().filter_map(|admitted| admitted.range);
        ranges.find(|range| range.producer_id == producer_id)
    }
}

/// Of a producer that is not known any sequence is taken, as in Kafka: its state may have been
/// forgotten.
fn follow(expected: Option<i32>, range: SentRange) -> Verdict {
    let Some(expected) = expected else {
        return Verdict::Next;
    };
    if range.base_sequence == expected {
        return Verdict::Next;
    }
    // All sequences behind `expected` were accepted: what ends there is an old duplicate.
    let behind = sequence_distance(range.last_sequence, expected);
    let is_old = behind > 0 && behind < i64::from(i32::MAX) / 2;
    Verdict::Refused(if is_old {
        ErrorCode::DuplicateSequenceNumber
    } else {
        ErrorCode::OutOfOrderSequenceNumber
    })
}

/// How many steps lead from one sequence to another, in the ring of 2^31 numbers.
fn sequence_distance(from: i32, to: i32) -> i64 {
    (i64::from(to) - i64::from(from)).rem_euclid(1 << 31)
}
