//! TxnOffsetCommit (KIP-98, KIP-447): offsets that count when the transaction is committed. Until
//! then they are pending, and who asks for stable offsets is told so.

use crate::engine::Engine;
use crate::entry::{CommittedOffset, Fact};
use crate::group::is_valid_group_id;
use crate::transaction::{Claim, TransactionFact, TransactionState};
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use millpond_wire::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use millpond_wire::messages::{Response, TxnOffsetCommitRequest, TxnOffsetCommitResponse};

type Offsets = Vec<(PartitionKey, CommittedOffset)>;

impl Engine {
    pub(crate) fn on_txn_offset_commit(
        &mut self,
        id: RequestId,
        request: &TxnOffsetCommitRequest,
        version: i16,
    ) {
        let allowed = self.may_commit_in_transaction(request, version);
        let mut response = TxnOffsetCommitResponse::default();
        let mut offsets = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for part in &topic.partitions {
                let code = match allowed {
                    Err(code) => code,
                    Ok(()) => self.accept_pending(request, &topic.name, part, &mut offsets),
                };
                let (partition_index, error_code) = (part.partition_index, code.code());
                partitions.push(TxnOffsetCommitResponsePartition { partition_index, error_code });
            }
            let name = topic.name.clone();
            response.topics.push(TxnOffsetCommitResponseTopic { name, partitions });
        }
        let mut seq = EntrySeq(0);
        if !offsets.is_empty() {
            seq = self.current_seq();
            let (producer_id, group) = (request.producer_id, request.group_id.clone());
            let pending = TransactionFact::OffsetsPending { producer_id, group, offsets };
            self.commit(Fact::Transaction(pending));
        }
        self.reply_after(seq, id, Response::TxnOffsetCommit(response));
    }

    /// Whether the transaction is open and the group part of it, which it becomes by this request
    /// from version 5 on; and whether this member may commit for its group.
    fn may_commit_in_transaction(
        &mut self,
        request: &TxnOffsetCommitRequest,
        version: i16,
    ) -> Result<(), ErrorCode> {
        let (transactional_id, group) = (request.transactional_id.as_str(), &request.group_id);
        if !is_valid_group_id(group) {
            return Err(ErrorCode::InvalidGroupId);
        }
        self.check_coordinator()?;
        let (producer_id, epoch) = (request.producer_id, request.producer_epoch);
        let one = self.claimed(Claim { transactional_id, producer_id, epoch });
        let one = one.map_err(|code| match code {
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            other => other,
        })?;
        let is_in = one.state == TransactionState::Ongoing && one.groups.contains(group);
        if !is_in && version < IMPLICIT_JOIN_VERSION {
            let is_new = version >= ABORTABLE_VERSION;
            let (new, old) = (ErrorCode::TransactionAbortable, ErrorCode::InvalidTxnState);
            return Err(if is_new { new } else { old });
        }
        self.may_commit_as_member(request)?;
        if !is_in {
            self.join_transaction(transactional_id, &[], Some(group))?;
        }
        Ok(())
    }

    /// Kafka's rules for a group's member: older clients do not say who they are, and are believed.
    /// A rebalance does not stop a member of this generation: its client could not try again.
    fn may_commit_as_member(&mut self, request: &TxnOffsetCommitRequest) -> Result<(), ErrorCode> {
        let instance_id = request.group_instance_id.as_deref();
        let (member_id, generation) = (request.member_id.as_str(), request.generation_id);
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Ok(());
        }
        let group = &request.group_id;
        let is_forgotten =
            self.groups.get(group).is_none() && self.groups.consumer(group).is_none();
        if is_forgotten && generation >= 0 {
            return Err(ErrorCode::IllegalGeneration);
        }
        let allowed = self.member_may_commit(group, member_id, instance_id, generation);
        match allowed {
            // The offsets count for the generation that read them.
            Err(ErrorCode::RebalanceInProgress) => Ok(()),
            // Producers know nothing of member epochs.
            Err(ErrorCode::StaleMemberEpoch) => Err(ErrorCode::IllegalGeneration),
            allowed => allowed,
        }
    }

    fn accept_pending(
        &self,
        request: &TxnOffsetCommitRequest,
        topic: &str,
        part: &TxnOffsetCommitRequestPartition,
        accepted: &mut Offsets,
    ) -> ErrorCode {
        let Some(topic) = self.state.catalog.by_name(topic) else {
            return ErrorCode::UnknownTopicOrPartition;
        };
        let key = PartitionKey { topic_id: topic.id, partition: part.partition_index };
        if self.state.catalog.partition(key).is_none() {
            return ErrorCode::UnknownTopicOrPartition;
        }
        let metadata = part.committed_metadata.clone();
        if metadata.as_ref().is_some_and(|text| text.len() > limits::OFFSET_METADATA_BYTES_MAX) {
            return ErrorCode::OffsetMetadataTooLarge;
        }
        if part.committed_offset < 0 {
            return ErrorCode::InvalidRequest;
        }
        // What waits needs its place in the group when it counts.
        let pending = self.state.transactions.pending();
        let more = pending.of(&request.group_id) + accepted.len() + 1;
        let has_room = pending.len() + accepted.len() < limits::TRANSACTION_OFFSETS_MAX
            && self.state.offsets.has_room(&request.group_id, more);
        if !has_room {
            return ErrorCode::PolicyViolation;
        }
        let offset = CommittedOffset {
            offset: part.committed_offset,
            leader_epoch: part.committed_leader_epoch,
            commit_timestamp_ms: self.stamp_ms(),
            metadata,
        };
        accepted.push((key, offset));
        ErrorCode::None
    }
}

/// TRANSACTION_ABORTABLE is known from here on.
const ABORTABLE_VERSION: i16 = 4;
/// From here on the request itself makes its group part of the transaction (KIP-890).
const IMPLICIT_JOIN_VERSION: i16 = 5;
