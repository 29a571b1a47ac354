//! Who may do something in a transaction, and how partitions and groups become part of it. Must
//! never take a batch for a transaction that its producer does not own, or that has ended.

use super::{TransactionFact, TransactionState, Transactional};
use crate::engine::Engine;
use crate::entry::Fact;
use crate::outputs::Placed;
use crate::produce::Sender;
use crate::refusal::{Refusal, refuse};
use crate::units::{EntrySeq, PartitionKey};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::mutant::Mutant;
use millpond_wire::record::Batch;

/// Who a request says that it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) transactional_id: &'a str,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

/// The transaction that a batch was admitted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InTransaction {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    begun_at: EntrySeq,
}

/// The right to enter a transaction, which begins with it if none is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrance {
    producer_id: i64,
}

impl Engine {
    /// The transactional id of a claim, if it is true.
    pub(crate) fn claimed(&self, claim: Claim<'_>) -> Result<&Transactional, ErrorCode> {
        if claim.transactional_id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let known = self.state.transactions.get(claim.transactional_id);
        match known.filter(|one| one.producer_id == claim.producer_id) {
            None => Err(ErrorCode::InvalidProducerIdMapping),
            Some(one) if one.epoch != claim.epoch && !Mutant::NoFencing.is_on() => {
                Err(ErrorCode::ProducerFenced)
            }
            Some(one) => Ok(one),
        }
    }

    /// Makes partitions and a group part of the transaction, which this begins if none is open.
    /// Gives back the entry that the answer rests on.
    pub(crate) fn join_transaction(
        &mut self,
        id: &str,
        partitions: &[PartitionKey],
        group: Option<&str>,
    ) -> Result<EntrySeq, ErrorCode> {
        let table = &self.state.transactions;
        let one = table.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if one.state.is_ending() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let is_open = one.state == TransactionState::Ongoing;
        let is_new = |key: &&PartitionKey| !one.partitions.contains(key);
        let mut partitions: Vec<PartitionKey> = partitions.iter().filter(is_new).copied().collect();
        partitions.sort_unstable();
        partitions.dedup();
        let groups: Vec<String> = group
            .filter(|group| !one.groups.contains(*group))
            .map(str::to_owned)
            .into_iter()
            .collect();
        if is_open && partitions.is_empty() && groups.is_empty() {
            return Ok(one.last_entry);
        }
        let load = table.load();
        let is_full = one.partitions.len() + partitions.len()
            > limits::PARTITIONS_PER_TRANSACTION_MAX
            || one.groups.len() + groups.len() > limits::GROUPS_PER_TRANSACTION_MAX
            || load.partitions + partitions.len() > limits::TRANSACTION_PARTITIONS_MAX
            || !is_open && load.transactions >= limits::OPEN_TRANSACTIONS_MAX;
        if is_full {
            return Err(ErrorCode::PolicyViolation);
        }
        let timeout_ms = one.timeout_ms;
        let (transactional_id, at_ms) = (id.to_owned(), self.now.wall_ms);
        let joined = TransactionFact::Joined { transactional_id, partitions, groups, at_ms };
        self.commit(Fact::Transaction(joined));
        if !is_open {
            self.arm_transaction(id, timeout_ms);
        }
        Ok(self.current_seq())
    }

    /// Whether a batch may be written as part of a transaction, or outside of one.
    pub(crate) fn check_transaction(
        &self,
        key: PartitionKey,
        batch: &Batch,
        sender: Sender<'_>,
    ) -> Result<Option<Entrance>, Refusal> {
        let header = batch.header();
        if !header.has_producer() {
            return Ok(None);
        }
        let producer_id = header.producer_id;
        let owner = self.state.transactions.of_producer(producer_id);
        if !header.attributes.is_transactional() {
            return match owner {
                Some((_, one)) if header.producer_epoch < one.epoch => Err(fenced()),
                Some((_, one)) if one.state == TransactionState::Ongoing => {
                    let message = "a batch outside of the transaction that this producer has open";
                    Err(refuse(ErrorCode::InvalidTxnState, message))
                }
                _ => Ok(None),
            };
        }
        let Some(transactional_id) = sender.transactional_id else {
            let message = "a transactional batch in a request without a transactional id";
            return Err(refuse(ErrorCode::TransactionalIdAuthorizationFailed, message));
        };
        let Some((_, one)) = owner.filter(|(id, _)| *id == transactional_id) else {
            let message = "the producer id does not belong to the transactional id";
            return Err(refuse(ErrorCode::InvalidProducerIdMapping, message));
        };
        if header.producer_epoch != one.epoch {
            return Err(fenced());
        }
        let is_in = one.state == TransactionState::Ongoing && one.partitions.contains(&key);
        if is_in || sender.version >= IMPLICIT_JOIN_VERSION {
            Ok(Some(Entrance { producer_id }))
        } else {
            Err(not_in_transaction(sender.version))
        }
    }

    /// A batch that passed `check_transaction` is part of the transaction from now on.
    pub(crate) fn enter_transaction(
        &mut self,
        key: PartitionKey,
        entrance: Entrance,
    ) -> Result<InTransaction, Refusal> {
        let producer_id = entrance.producer_id;
        self.check_room_for_transaction(key, producer_id)?;
        if self.join_as(producer_id, key)? {
            // What happens to the batch concerns its partition only, and so must its entry: damage
            // there would else concern the whole node.
            self.seal();
        }
        let owner = self.state.transactions.of_producer(producer_id);
        let (_, one) = owner.ok_or_else(|| not_in_transaction(0))?;
        Ok(InTransaction { producer_id, epoch: one.epoch, begun_at: one.begun_at })
    }

    /// Whether it is new in the transaction.
    fn join_as(&mut self, producer_id: i64, key: PartitionKey) -> Result<bool, Refusal> {
        let owner = self.state.transactions.of_producer(producer_id);
        let (id, one) = owner.ok_or_else(|| not_in_transaction(0))?;
        if one.state == TransactionState::Ongoing && one.partitions.contains(&key) {
            return Ok(false);
        }
        let id = id.to_owned();
        self.join_transaction(&id, &[key], None).map_err(|code| refuse(code, code.message()))?;
        Ok(true)
    }

    /// Whether all that a transform made of a batch can go into the batch's transaction. Asked before
    /// anything is changed.
    pub(crate) fn check_routes(
        &self,
        within: InTransaction,
        outputs: &[Placed],
    ) -> Result<(), Refusal> {
        for target in outputs.iter().filter_map(|one| one.place.known()) {
            self.check_room_for_transaction(target, within.producer_id)?;
        }
        let owner = self.state.transactions.of_producer(within.producer_id);
        let own = owner.map_or(0, |(_, one)| one.partitions.len());
        let all = self.state.transactions.load().partitions;
        let is_full = own + outputs.len() > limits::PARTITIONS_PER_TRANSACTION_MAX
            || all + outputs.len() > limits::TRANSACTION_PARTITIONS_MAX;
        if is_full {
            let message = "a transform routes a transaction to too many partitions";
            return Err(refuse(ErrorCode::PolicyViolation, message));
        }
        Ok(())
    }

    /// What a transform made of a batch goes where it goes in the batch's transaction.
    pub(crate) fn route_in_transaction(
        &mut self,
        within: InTransaction,
        target: PartitionKey,
        batch: &Batch,
    ) -> Result<Batch, Refusal> {
        self.join_as(within.producer_id, target)?;
        Ok(batch.in_transaction(within.producer_id, within.epoch))
    }

    /// What is open or aborted must be remembered as long as its records are there.
    fn check_room_for_transaction(
        &self,
        key: PartitionKey,
        producer_id: i64,
    ) -> Result<(), Refusal> {
        let Some(log) = self.state.catalog.partition(key) else { return Ok(()) };
        let is_full = log.stability.len() >= limits::TRANSACTIONS_PER_PARTITION_MAX
            || self.state.unsettled_len >= limits::TRANSACTIONS_IN_PARTITIONS_MAX;
        if is_full && log.stability.open_of(producer_id).is_none() {
            let message = "too many aborted transactions stand in this partition: let old records \
                           go (retention.ms, retention.bytes, DeleteRecords)";
            return Err(refuse(ErrorCode::PolicyViolation, message));
        }
        Ok(())
    }

    /// Whether the transaction that a batch was admitted in is still open.
    pub(crate) fn is_still_open(&self, within: InTransaction) -> bool {
        let owner = self.state.transactions.of_producer(within.producer_id);
        owner.is_some_and(|(_, one)| {
            one.state == TransactionState::Ongoing
                && one.epoch == within.epoch
                && one.begun_at == within.begun_at
        })
    }
}

fn fenced() -> Refusal {
    let code = ErrorCode::InvalidProducerEpoch;
    refuse(code, code.message())
}

/// Clients of KIP-890 abort and go on; older ones only know that something went wrong for good.
pub(crate) fn not_in_transaction(version: i16) -> Refusal {
    let message = "the partition is not part of an open transaction of this producer";
    let is_new = version >= ABORTABLE_PRODUCE_VERSION;
    let code = if is_new { ErrorCode::TransactionAbortable } else { ErrorCode::InvalidTxnState };
    refuse(code, message)
}

const ABORTABLE_PRODUCE_VERSION: i16 = 11;
/// From here on a produce request itself makes its partitions part of the transaction.
const IMPLICIT_JOIN_VERSION: i16 = 12;
