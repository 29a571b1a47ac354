//! What of one partition is settled: the transactions that are open in it, and those that were
//! aborted. Follows from the batches of its log alone, so replicas come to the same. Never forgets
//! an aborted transaction whose records are still in the log.

use millpond_wire::mutant::Mutant;
use millpond_wire::record::{EndMarker, LogBatch};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A transaction that was aborted, as fetches tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer_id: i64,
    /// Of its first record in the partition.
    pub first_offset: i64,
    /// Of its marker.
    pub last_offset: i64,
}

/// A transaction that has records here and no marker yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenTransaction {
    pub(crate) epoch: i16,
    pub(crate) first_offset: i64,
    /// Of the newest record, milliseconds since 1970.
    pub(crate) last_timestamp_ms: i64,
}

/// The transactions of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stability {
    /// By producer id.
    open: BTreeMap<i64, OpenTransaction>,
    /// The first offsets of those.
    firsts: BTreeSet<i64>,
    /// Ended ones whose marker may not be durable: (offset of the marker, first offset), in order.
    ending: VecDeque<(i64, i64)>,
    /// By the offset of their marker, rising.
    aborted: Vec<AbortedTransaction>,
}

impl Stability {
    /// Takes note of a batch that was appended.
    pub(crate) fn note(&mut self, batch: &LogBatch) {
        let attributes = batch.attributes();
        if !attributes.is_transactional() {
            return;
        }
        let header = batch.header();
        let producer_id = header.producer_id;
        if attributes.is_control() {
            if let Some(marker) = EndMarker::of(batch) {
                self.end(producer_id, marker.is_commit, batch.base_offset());
            }
            return;
        }
        let open = self.open.entry(producer_id).or_insert_with(|| {
            self.firsts.insert(batch.base_offset());
            OpenTransaction {
                epoch: header.producer_epoch,
                first_offset: batch.base_offset(),
                last_timestamp_ms: -1,
            }
        });
        open.epoch = header.producer_epoch;
        open.last_timestamp_ms = header.max_timestamp;
    }

    fn end(&mut self, producer_id: i64, is_commit: bool, last_offset: i64) {
        // A partition may have joined a transaction and got nothing.
        let Some(open) = self.open.remove(&producer_id) else { return };
        let first_offset = open.first_offset;
        self.firsts.remove(&first_offset);
        self.ending.push_back((last_offset, first_offset));
        if !is_commit {
            self.aborted.push(AbortedTransaction { producer_id, first_offset, last_offset });
        }
    }

    /// The first offset of which it is not settled whether it counts, given that all below the high
    /// watermark is durable; `i64::MAX` if there is none.
    pub(crate) fn first_unstable(&self, high_watermark: i64) -> i64 {
        if Mutant::NoStableOffset.is_on() {
            return i64::MAX;
        }
        let open = self.firsts.first().copied().unwrap_or(i64::MAX);
        let ending = self.ending.iter().filter(|(marker, _)| *marker >= high_watermark);
        ending.map(|(_, first)| *first).fold(open, i64::min)
    }

    /// The high watermark moved: markers below it are durable.
    pub(crate) fn settle(&mut self, high_watermark: i64) {
        while self.ending.front().is_some_and(|(marker, _)| *marker < high_watermark) {
            self.ending.pop_front();
        }
    }

    /// The aborted transactions that have records from `from` on and below `upto`, by first offset.
    pub(crate) fn aborted_between(&self, from: i64, upto: i64) -> Vec<AbortedTransaction> {
        if Mutant::NoAbortedList.is_on() {
            return Vec::new();
        }
        let first = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        let later = self.aborted.get(first..).unwrap_or_default().iter();
        let mut found: Vec<_> = later.filter(|one| one.first_offset < upto).copied().collect();
        found.sort_unstable_by_key(|one| one.first_offset);
        found
    }

    /// The log starts later now: what was aborted before is not met any more.
    pub(crate) fn trim(&mut self, log_start: i64) {
        let gone = self.aborted.partition_point(|aborted| aborted.last_offset < log_start);
        self.aborted.drain(..gone);
    }

    pub(crate) fn open_of(&self, producer_id: i64) -> Option<&OpenTransaction> {
        self.open.get(&producer_id)
    }

    /// By producer id.
    pub(crate) fn open(&self) -> impl Iterator<Item = (i64, &OpenTransaction)> {
        self.open.iter().map(|(id, open)| (*id, open))
    }

    pub(crate) fn aborted(&self) -> &[AbortedTransaction] {
        &self.aborted
    }

    /// How many it remembers.
    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.aborted.len()
    }

    /// From a snapshot.
    pub(crate) fn restore_open(&mut self, producer_id: i64, open: OpenTransaction) {
        self.firsts.insert(open.first_offset);
        self.open.insert(producer_id, open);
    }

    /// From a snapshot, in the order of `aborted`. False: that order is broken.
    pub(crate) fn restore_aborted(&mut self, one: AbortedTransaction) -> bool {
        let is_next = self.aborted.last().is_none_or(|last| last.last_offset < one.last_offset);
        self.aborted.push(one);
        is_next && one.first_offset < one.last_offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_wire::record::{BatchBuilder, Codec};

    fn data(stability: &mut Stability, producer_id: i64, offset: i64) {
        let mut builder = BatchBuilder::new(Codec::None, None)
            .with_transactional(true)
            .with_producer(producer_id, 0, 0);
        builder.push(1, None, None, &[]).expect("a small record");
        let batch = builder.build_batch().expect("a small batch");
        stability.note(&LogBatch::stamp(batch, offset, 1));
    }

    fn end(stability: &mut Stability, producer_id: i64, offset: i64, is_commit: bool) {
        let marker = EndMarker { is_commit, coordinator_epoch: 0 }.batch(producer_id, 0, 1);
        stability.note(&LogBatch::stamp(marker, offset, 1));
    }

    #[test]
    fn the_oldest_open_transaction_holds_back_what_came_after_it() {
        let mut stability = Stability::default();
        assert_eq!(stability.first_unstable(10), i64::MAX);
        data(&mut stability, 1, 5);
        data(&mut stability, 2, 6);
        data(&mut stability, 1, 7);
        assert_eq!(stability.first_unstable(10), 5);
        end(&mut stability, 1, 8, true);
        // The marker is not durable yet: a power cut would open the transaction again.
        assert_eq!(stability.first_unstable(8), 5);
        assert_eq!(stability.first_unstable(9), 6);
        stability.settle(9);
        end(&mut stability, 2, 9, false);
        assert_eq!(stability.first_unstable(10), i64::MAX);
        assert_eq!(stability.len(), 1);
    }

    #[test]
    fn aborted_transactions_are_told_to_whoever_reads_where_they_stand() {
        let mut stability = Stability::default();
        for (producer_id, first) in [(1, 10), (2, 20), (3, 30)] {
            data(&mut stability, producer_id, first);
        }
        end(&mut stability, 3, 35, false);
        end(&mut stability, 2, 36, true);
        end(&mut stability, 1, 40, false);
        let ids = |from, upto| -> Vec<i64> {
            let found = stability.aborted_between(from, upto);
            found.iter().map(|aborted| aborted.producer_id).collect()
        };
        assert_eq!(ids(0, 10), []);
        assert_eq!(ids(0, 11), [1]);
        assert_eq!(ids(0, 100), [1, 3], "by first offset");
        assert_eq!(ids(36, 100), [1]);
        assert_eq!(ids(41, 100), []);
        stability.trim(36);
        assert_eq!(stability.aborted().len(), 1);
        end(&mut stability, 9, 50, false);
        assert_eq!(stability.len(), 1, "a marker without records says nothing");
    }
}
