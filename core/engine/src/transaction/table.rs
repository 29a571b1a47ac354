//! All transactional ids. Changes by facts only, so that a journal replays to what was; decides
//! nothing.

use super::fact::{KEY_BYTES, put_pair, put_producer_id, take_pair, take_producer_id};
use super::pending::PendingOffsets;
use super::{TransactionFact, TransactionState, Transactional};
use crate::codec::{CodecError, Take, put_count, put_partition, put_string};
use crate::offsets::OffsetStore;
use crate::units::{EntrySeq, PartitionKey};
use bytes::BufMut;
use millpond_wire::mutant::Mutant;
use millpond_wire::uuid::Uuid;
use std::collections::{BTreeMap, BTreeSet};

/// The coordinator's memory.
#[derive(Debug, Default)]
pub(crate) struct TransactionTable {
    by_id: BTreeMap<String, Transactional>,
    by_producer: BTreeMap<i64, String>,
    pending: PendingOffsets,
    /// Transactions that are open or ending, and the partitions of all of them.
    load: Load,
}

/// How much is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) transactions: usize,
    pub(crate) partitions: usize,
}

impl TransactionTable {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Transactional)> {
        self.by_id.iter().map(|(id, one)| (id.as_str(), one))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Transactional> {
        self.by_id.get(id)
    }

    /// Whom a producer id belongs to now.
    pub(crate) fn of_producer(&self, producer_id: i64) -> Option<(&str, &Transactional)> {
        let id = self.by_producer.get(&producer_id)?;
        Some((id, self.by_id.get(id)?))
    }

    /// How much is under way.
    pub(crate) fn load(&self) -> Load {
        self.load
    }

    /// Offsets that wait for the end of transactions.
    pub(crate) fn pending(&self) -> &PendingOffsets {
        &self.pending
    }

    /// A group has committed, or deleted, offsets outside of transactions.
    pub(crate) fn pending_mut(&mut self) -> &mut PendingOffsets {
        &mut self.pending
    }

    /// Makes a fact true. `None`: it speaks of a transactional id that is not there.
    pub(crate) fn apply(
        &mut self,
        seq: EntrySeq,
        fact: &TransactionFact,
        store: &mut OffsetStore,
    ) -> Option<()> {
        match fact {
            TransactionFact::ProducerAssigned { transactional_id, producer_id, .. } => {
                if let Some(before) = self.by_id.get(transactional_id) {
                    self.load.take(before);
                    self.by_producer.remove(&before.producer_id);
                }
                self.by_producer.insert(*producer_id, transactional_id.clone());
                self.by_id.insert(transactional_id.clone(), assigned(seq, fact)?);
            }
            TransactionFact::Joined { transactional_id, partitions, groups, at_ms } => {
                let one = self.by_id.get_mut(transactional_id)?;
                self.load.take(one);
                if one.state != TransactionState::Ongoing {
                    one.state = TransactionState::Ongoing;
                    one.started_ms = *at_ms;
                    one.begun_at = seq;
                }
                one.partitions.extend(partitions);
                one.groups.extend(groups.iter().cloned());
                one.updated_ms = *at_ms;
                one.last_entry = seq;
                self.load.add(one);
            }
            TransactionFact::OffsetsPending { producer_id, group, offsets } => {
                if Mutant::EarlyOffsets.is_on() {
                    store.commit(seq, group, offsets);
                }
                self.pending.add(seq, *producer_id, group, offsets);
            }
            TransactionFact::GroupMarked { group, producer_id, is_commit } => {
                self.mark_group(seq, group, *producer_id, *is_commit, store);
            }
            TransactionFact::Prepared { transactional_id, .. } => {
                let one = self.by_id.get_mut(transactional_id)?;
                self.load.take(one);
                prepare(one, seq, fact);
                self.load.add(one);
            }
            TransactionFact::Completed { transactional_id, at_ms } => {
                self.complete(seq, transactional_id, *at_ms)?;
            }
            TransactionFact::Expired { transactional_id } => {
                let gone = self.by_id.remove(transactional_id)?;
                self.load.take(&gone);
                self.by_producer.remove(&gone.producer_id);
            }
        }
        Some(())
    }

    /// A partition has the marker of an ending transaction.
    pub(crate) fn mark_partition(&mut self, producer_id: i64, key: PartitionKey) {
        if let Some(one) = self.by_producer.get(&producer_id).and_then(|id| self.by_id.get_mut(id))
            && one.state.is_ending()
        {
            self.load.partitions -= usize::from(one.partitions.remove(&key));
        }
    }

    fn mark_group(
        &mut self,
        seq: EntrySeq,
        group: &str,
        producer_id: i64,
        is_commit: bool,
        store: &mut OffsetStore,
    ) {
        if let Some(one) = self.by_producer.get(&producer_id).and_then(|id| self.by_id.get_mut(id))
        {
            one.groups.remove(group);
        }
        let offsets = self.pending.end(group, producer_id, is_commit);
        if !offsets.is_empty() {
            store.commit(seq, group, &offsets);
        }
    }

    fn complete(&mut self, seq: EntrySeq, id: &str, at_ms: i64) -> Option<()> {
        let one = self.by_id.get_mut(id)?;
        self.load.take(one);
        one.state = match one.state {
            TransactionState::PrepareCommit => TransactionState::CompleteCommit,
            _ => TransactionState::CompleteAbort,
        };
        one.partitions.clear();
        one.groups.clear();
        one.started_ms = -1;
        one.updated_ms = at_ms;
        one.last_entry = seq;
        if let Some(next) = one.next_producer_id.take() {
            self.by_producer.remove(&one.producer_id);
            self.by_producer.insert(next, id.to_owned());
            one.producer_id = next;
            one.epoch = 0;
        }
        Some(())
    }

    pub(crate) fn delete_topic(&mut self, topic_id: Uuid) {
        for one in self.by_id.values_mut() {
            self.load.take(one);
            one.partitions.retain(|key| key.topic_id != topic_id);
            self.load.add(one);
        }
        self.pending.delete_topic(topic_id);
    }

    /// As `snapshot.rs` draws it.
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_count(out, self.by_id.len());
        for (id, one) in &self.by_id {
            put_string(out, id);
            out.put_i64_le(one.producer_id);
            out.put_i16_le(one.epoch);
            put_pair(out, one.previous);
            put_producer_id(out, one.next_producer_id);
            out.put_i32_le(one.timeout_ms);
            out.put_u8(one.state as u8);
            put_count(out, one.partitions.len());
            one.partitions.iter().for_each(|key| put_partition(out, key));
            put_count(out, one.groups.len());
            one.groups.iter().for_each(|group| put_string(out, group));
            out.put_i64_le(one.started_ms);
            out.put_i64_le(one.updated_ms);
        }
        self.pending.put(out);
    }

    /// `has_places`: from version 6 of the snapshot on.
    pub(crate) fn take(take: &mut Take, has_places: bool) -> Result<TransactionTable, CodecError> {
        let mut table = TransactionTable::default();
        for _ in 0..take.count("transactional ids", 40)? {
            let id = take.string("transactional id")?;
            let one = take_one(take)?;
            table.load.add(&one);
            table.by_producer.insert(one.producer_id, id.clone());
            table.by_id.insert(id, one);
        }
        table.pending = PendingOffsets::take(take, has_places)?;
        Ok(table)
    }
}

impl Load {
    fn add(&mut self, one: &Transactional) {
        self.transactions += usize::from(one.state.is_open());
        self.partitions += one.partitions.len();
    }

    fn take(&mut self, one: &Transactional) {
        self.transactions -= usize::from(one.state.is_open());
        self.partitions -= one.partitions.len();
    }
}

fn assigned(seq: EntrySeq, fact: &TransactionFact) -> Option<Transactional> {
    let TransactionFact::ProducerAssigned {
        producer_id, epoch, previous, timeout_ms, at_ms, ..
    } = fact
    else {
        return None;
    };
    Some(Transactional {
        producer_id: *producer_id,
        epoch: *epoch,
        previous: *previous,
        next_producer_id: None,
        timeout_ms: *timeout_ms,
        state: TransactionState::Empty,
        partitions: BTreeSet::new(),
        groups: BTreeSet::new(),
        started_ms: -1,
        updated_ms: *at_ms,
        last_entry: seq,
        begun_at: EntrySeq(0),
    })
}

fn prepare(one: &mut Transactional, seq: EntrySeq, fact: &TransactionFact) {
    let TransactionFact::Prepared { is_commit, epoch, previous, next_producer_id, at_ms, .. } =
        fact
    else {
        return;
    };
    let (commit, abort) = (TransactionState::PrepareCommit, TransactionState::PrepareAbort);
    one.state = if *is_commit { commit } else { abort };
    one.epoch = *epoch;
    one.previous = *previous;
    one.next_producer_id = *next_producer_id;
    one.updated_ms = *at_ms;
    one.last_entry = seq;
}

fn take_one(take: &mut Take) -> Result<Transactional, CodecError> {
    let producer_id = take.i64("producer id")?;
    let epoch = take.i16("producer epoch")?;
    let previous = take_pair(take)?;
    let next_producer_id = take_producer_id(take)?;
    let timeout_ms = take.i32("transaction timeout")?;
    let state = take.u8("transaction state")?;
    let state = TransactionState::ALL
        .get(usize::from(state))
        .copied()
        .ok_or(CodecError::Impossible { what: "transaction state", value: state.into() })?;
    let count = take.count("partitions of a transaction", KEY_BYTES)?;
    let partitions = (0..count).map(|_| take.partition()).collect::<Result<_, _>>()?;
    let count = take.count("groups of a transaction", 4)?;
    let groups = (0..count).map(|_| take.string("group")).collect::<Result<_, _>>()?;
    Ok(Transactional {
        producer_id,
        epoch,
        previous,
        next_producer_id,
        timeout_ms,
        state,
        partitions,
        groups,
        started_ms: take.i64("start of a transaction")?,
        updated_ms: take.i64("change of a transaction")?,
        last_entry: EntrySeq(0),
        begun_at: EntrySeq(0),
    })
}
