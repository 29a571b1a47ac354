//! How a transaction ends: its end is decided (prepared), every partition and group is told
//! (marked), the coordinator knows that they were (completed). On one node all of that stands in one
//! entry, hence it becomes visible at once; each step works on its own from what is journalled, so a
//! start that finds a prepared end carries it out.

use super::{COORDINATOR_EPOCH, TransactionFact, TransactionState};
use crate::engine::Engine;
use crate::entry::Fact;
use crate::units::PartitionKey;
use millpond_wire::mutant::Mutant;
use millpond_wire::record::{EndMarker, LogBatch};

/// What becomes of the producer's epoch when its transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bump {
    /// It stays, as before KIP-890.
    None,
    /// The client goes on with the next one (KIP-890).
    Next,
    /// Nobody asked the client: it is fenced.
    Fence,
}

/// How a transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) is_commit: bool,
    pub(crate) bump: Bump,
}

impl Engine {
    /// Ends the transaction of an id, all in the current entry.
    pub(crate) fn end_transaction(&mut self, id: &str, outcome: Outcome) {
        self.prepare_end(id, outcome);
        self.finish_end(id);
        self.disarm_transaction(id);
        if outcome.is_commit {
            self.counters.transactions_committed += 1;
        } else {
            self.counters.transactions_aborted += 1;
        }
    }

    /// Decides the end.
    fn prepare_end(&mut self, id: &str, outcome: Outcome) {
        let Some(one) = self.state.transactions.get(id) else { return };
        let own = (one.producer_id, one.epoch);
        let (is_exhausted, previous) = (one.is_epoch_exhausted(), one.previous);
        let next_epoch = one.epoch.saturating_add(1);
        let (epoch, previous, next_producer_id) = match outcome.bump {
            Bump::None => (own.1, previous, None),
            Bump::Next if is_exhausted => (next_epoch, Some(own), Some(self.new_producer_id())),
            Bump::Next => (next_epoch, Some(own), None),
            Bump::Fence => (next_epoch, None, None),
        };
        self.commit(Fact::Transaction(TransactionFact::Prepared {
            transactional_id: id.to_owned(),
            is_commit: outcome.is_commit,
            epoch,
            previous,
            next_producer_id,
            at_ms: self.now.wall_ms,
        }));
    }

    /// Carries out an end that is decided: what is marked already is not marked again.
    fn finish_end(&mut self, id: &str) {
        let Some(one) = self.state.transactions.get(id) else { return };
        let is_commit = one.state == TransactionState::PrepareCommit;
        let (producer_id, epoch, at_ms) = (one.producer_id, one.epoch, one.updated_ms);
        let (partitions, groups) = (one.partitions.clone(), one.groups.clone());
        let marker = EndMarker { is_commit, coordinator_epoch: COORDINATOR_EPOCH };
        let has_markers = !Mutant::NoMarkers.is_on();
        for key in partitions.into_iter().filter(|_| has_markers) {
            self.mark_partition(key, marker, producer_id, epoch, at_ms);
        }
        for group in groups {
            let marked = TransactionFact::GroupMarked { group, producer_id, is_commit };
            self.commit(Fact::Transaction(marked));
        }
        let transactional_id = id.to_owned();
        self.commit(Fact::Transaction(TransactionFact::Completed { transactional_id, at_ms }));
    }

    /// Writes one partition's marker.
    pub(crate) fn mark_partition(
        &mut self,
        key: PartitionKey,
        marker: EndMarker,
        producer_id: i64,
        epoch: i16,
        at_ms: i64,
    ) {
        let Some(log) = self.state.catalog.partition(key) else { return };
        let batch = marker.batch(producer_id, epoch, at_ms);
        let batch = LogBatch::stamp(batch, log.log_end, log.leader_epoch);
        self.counters.bytes_appended += batch.size_bytes() as u64;
        self.commit(Fact::Appended { partition: key, batch, sent: None });
    }

    /// The journal has ended: ends that it knows to be decided are carried out.
    pub(crate) fn settle_prepared(&mut self) {
        let table = self.state.transactions.iter();
        let ending = table.filter(|(_, one)| one.state.is_ending());
        let ids: Vec<String> = ending.map(|(id, _)| id.to_owned()).collect();
        for id in ids {
            self.finish_end(&id);
            self.seal_if_large();
        }
        self.seal();
    }
}
