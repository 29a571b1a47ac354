//! What is remembered of idempotent producers: the last batches that each sent to a partition and
//! the answers they got. Only what the journal knows is in here; batches between admission and
//! commit are in `admission`. Never grows past its caps: the producer idle longest is forgotten.

use crate::entry::{Sent, SentAnswer};
use crate::units::{EntrySeq, PartitionKey};
use millpond_wire::limits;
use millpond_wire::record::sequence_add;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The log append time of a batch that keeps the times of its producer.
pub(crate) const NO_TIME: i64 = -1;

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
    /// The log append time that it was answered with, or `NO_TIME`.
    pub(crate) append_time_ms: i64,
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

/// The producers of one partition, by id.
type Producers = BTreeMap<i64, ProducerState>;

/// All producers of the node, by partition. A clone shares what does not change afterwards: a
/// partition is copied when one of its producers sends again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerTable {
    by_partition: BTreeMap<PartitionKey, Arc<Producers>>,
    len: usize,
    evicted: u64,
}

impl ProducerTable {
    pub(crate) fn get(&self, key: PartitionKey, producer_id: i64) -> Option<&ProducerState> {
        self.by_partition.get(&key)?.get(&producer_id)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PartitionKey, i64, &ProducerState)> {
        self.by_partition
            .iter()
            .flat_map(|(key, own)| own.iter().map(move |(id, state)| (key, *id, state)))
    }

    /// The producers of one partition, by id.
    pub(crate) fn of(&self, key: PartitionKey) -> impl Iterator<Item = (i64, &ProducerState)> {
        let own = self.by_partition.get(&key).into_iter();
        own.flat_map(|own| own.iter().map(|(id, state)| (*id, state)))
    }

    pub(crate) fn restore(&mut self, key: PartitionKey, producer_id: i64, state: ProducerState) {
        let own = Arc::make_mut(self.by_partition.entry(key).or_default());
        self.len += usize::from(own.insert(producer_id, state).is_none());
    }

    /// Remembers an accepted batch; a new epoch forgets the batches of the old one.
    pub(crate) fn record(
        &mut self,
        key: PartitionKey,
        seq: EntrySeq,
        sent: &Sent,
        append_time_ms: i64,
    ) {
        let own = Arc::make_mut(self.by_partition.entry(key).or_default());
        let before = own.len();
        let state = own.entry(sent.producer_id).or_insert_with(|| ProducerState {
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
            append_time_ms,
        });
        self.len += own.len() - before;
        if own.len() > limits::PRODUCERS_PER_PARTITION_MAX {
            let oldest = own.iter().map(|(id, state)| (state.touched, key, *id)).collect();
            self.evict(oldest, limits::PRODUCERS_PER_PARTITION_MAX / 16);
        }
        if self.len > limits::PRODUCERS_MAX {
            let all = self.iter().map(|(key, id, state)| (state.touched, *key, id)).collect();
            self.evict(all, limits::PRODUCERS_MAX / 16);
        }
    }

    /// Forgets the `count` that are idle longest. Many at once: each costs a pass over all.
    fn evict(&mut self, mut all: Vec<(EntrySeq, PartitionKey, i64)>, count: usize) {
        all.sort_unstable();
        for (_, key, id) in all.into_iter().take(count) {
            let Some(own) = self.by_partition.get_mut(&key) else { continue };
            let gone = Arc::make_mut(own).remove(&id).is_some();
            self.len -= usize::from(gone);
            self.evicted += u64::from(gone);
            if own.is_empty() {
                self.by_partition.remove(&key);
            }
        }
    }

    /// What the producers of a partition sent last may be lost.
    pub(crate) fn doubt(&mut self, key: PartitionKey) {
        if let Some(own) = self.by_partition.get_mut(&key) {
            Arc::make_mut(own).values_mut().for_each(|state| state.is_doubtful = true);
        }
    }

    pub(crate) fn doubt_producer(&mut self, key: PartitionKey, producer_id: i64) {
        let own = self.by_partition.get_mut(&key).map(Arc::make_mut);
        if let Some(state) = own.and_then(|own| own.get_mut(&producer_id)) {
            state.is_doubtful = true;
        }
    }

    pub(crate) fn remove_partition(&mut self, key: PartitionKey) {
        self.len -= self.by_partition.remove(&key).map_or(0, |own| own.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(producer_id: i64) -> Sent {
        Sent {
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            last_sequence: 0,
            answer: SentAnswer::Offset(0),
        }
    }

    #[test]
    fn beyond_the_cap_of_a_partition_those_idle_longest_are_forgotten() {
        let mut table = ProducerTable::default();
        let (full, other) =
            (PartitionKey::default(), PartitionKey { partition: 1, ..PartitionKey::default() });
        table.record(other, EntrySeq(1), &sent(1), NO_TIME);
        let max = limits::PRODUCERS_PER_PARTITION_MAX as i64;
        for id in 0..=max {
            table.record(full, EntrySeq(2 + id as u64), &sent(id), NO_TIME);
        }
        let forgotten = limits::PRODUCERS_PER_PARTITION_MAX / 16;
        assert_eq!(table.evicted(), forgotten as u64);
        assert_eq!(table.len(), limits::PRODUCERS_PER_PARTITION_MAX + 2 - forgotten);
        assert_eq!(table.iter().count(), table.len());
        assert!(table.get(full, forgotten as i64 - 1).is_none());
        assert!(table.get(full, forgotten as i64).is_some() && table.get(full, max).is_some());
        assert!(table.get(other, 1).is_some(), "of another partition, though idle for longer");
        table.remove_partition(full);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_clone_stays_as_it_was() {
        let mut table = ProducerTable::default();
        let key = PartitionKey::default();
        table.record(key, EntrySeq(1), &sent(1), NO_TIME);
        let frozen = table.clone();
        table.record(key, EntrySeq(2), &sent(2), NO_TIME);
        table.record(key, EntrySeq(3), &sent(1), NO_TIME);
        assert_eq!((frozen.len(), table.len()), (1, 2));
        assert_eq!(frozen.get(key, 1).map(|state| state.touched), Some(EntrySeq(1)));
    }
}
