//! What is remembered of idempotent producers: the last batches that each sent to a partition and
//! the answers they got. Only what the journal knows is in here; batches between admission and
//! commit are in `admission`. Never grows past its caps: the producer idle longest is forgotten.

use crate::entry::{Sent, SentAnswer};
use crate::units::{EntrySeq, PartitionKey};
use millpond_wire::limits;
use millpond_wire::record::sequence_add;
use std::collections::{BTreeMap, VecDeque};

/// What is remembered of one producer in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) epoch: i16,
    /// Entry of the last batch: who has the lowest is forgotten first.
    pub(crate) touched: EntrySeq,
    /// The last batches, oldest first; never empty.
    pub(crate) batches: VecDeque<SentBatch>,
    /// Damage may have taken what it sent after these. A later sequence is then taken as it comes,
    /// as from a producer that is not known: to insist on the missing one would refuse it for ever.
    pub(crate) is_doubtful: bool,
}

/// One accepted batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentBatch {
    pub(crate) base_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) answer: SentAnswer,
    /// The entry that holds it: a duplicate is answered when that is durable.
    pub(crate) seq: EntrySeq,
}

impl ProducerState {
    pub(crate) fn next_sequence(&self) -> Option<i32> {
        self.batches.back().map(|batch| sequence_add(batch.last_sequence, 1))
    }

    pub(crate) fn find(&self, base_sequence: i32, last_sequence: i32) -> Option<SentBatch> {
        let same = |batch: &&SentBatch| {
            batch.base_sequence == base_sequence && batch.last_sequence == last_sequence
        };
        self.batches.iter().find(same).copied()
    }
}

/// All producers of the node, by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerTable {
    by_key: BTreeMap<(PartitionKey, i64), ProducerState>,
    evicted: u64,
}

impl ProducerTable {
    pub(crate) fn get(&self, key: PartitionKey, producer_id: i64) -> Option<&ProducerState> {
        self.by_key.get(&(key, producer_id))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&(PartitionKey, i64), &ProducerState)> {
        self.by_key.iter()
    }

    pub(crate) fn restore(&mut self, key: PartitionKey, producer_id: i64, state: ProducerState) {
        self.by_key.insert((key, producer_id), state);
    }

    /// Remembers an accepted batch; a new epoch forgets the batches of the old one.
    pub(crate) fn record(&mut self, key: PartitionKey, seq: EntrySeq, sent: &Sent) {
        let state = self.by_key.entry((key, sent.producer_id)).or_insert_with(|| ProducerState {
            epoch: sent.producer_epoch,
            touched: seq,
            batches: VecDeque::with_capacity(1),
            is_doubtful: false,
        });
        if state.epoch != sent.producer_epoch {
            state.epoch = sent.producer_epoch;
            state.batches.clear();
        }
        if state.batches.len() >= limits::PRODUCER_BATCHES_KEPT {
            state.batches.pop_front();
        }
        state.touched = seq;
        state.is_doubtful = false;
        state.batches.push_back(SentBatch {
            base_sequence: sent.base_sequence,
            last_sequence: sent.last_sequence,
            answer: sent.answer,
            seq,
        });
        if self.by_key.len() > limits::PRODUCERS_MAX {
            self.evict(limits::PRODUCERS_MAX / 16);
        }
    }

    /// Forgets the `count` that are idle longest. Many at once: each costs a pass over all.
    fn evict(&mut self, count: usize) {
        let mut oldest: Vec<(EntrySeq, (PartitionKey, i64))> =
            self.by_key.iter().map(|(key, state)| (state.touched, *key)).collect();
        oldest.sort_unstable();
        for (_, key) in oldest.into_iter().take(count) {
            self.by_key.remove(&key);
            self.evicted += 1;
        }
    }

    /// What the producers of a partition sent last may be lost.
    pub(crate) fn doubt(&mut self, key: PartitionKey) {
        for (_, state) in self.by_key.range_mut((key, i64::MIN)..=(key, i64::MAX)) {
            state.is_doubtful = true;
        }
    }

    pub(crate) fn doubt_producer(&mut self, key: PartitionKey, producer_id: i64) {
        if let Some(state) = self.by_key.get_mut(&(key, producer_id)) {
            state.is_doubtful = true;
        }
    }

    pub(crate) fn remove_partition(&mut self, key: PartitionKey) {
        let range = (key, i64::MIN)..=(key, i64::MAX);
        let ids: Vec<i64> = self.by_key.range(range).map(|((_, id), _)| *id).collect();
        for id in ids {
            self.by_key.remove(&(key, id));
        }
    }
}
