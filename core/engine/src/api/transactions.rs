//! AddOffsetsToTxn and EndTxn: a group becomes part of a transaction, and its end. Answered when it is
//! durable.

use super::transactional_ids::fenced_as;
use crate::engine::Engine;
use crate::group::is_valid_group_id;
use crate::transaction::{Bump, Claim, Outcome, TransactionState, Transactional};
use crate::units::{EntrySeq, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, EndTxnRequest, EndTxnResponse, Response,
};

/// What EndTxn asks for.
enum End {
    /// The transaction ends now.
    Now,
    /// It has: the answer was lost.
    Was,
}

impl Engine {
    pub(crate) fn on_add_offsets_to_txn(
        &mut self,
        id: RequestId,
        request: &AddOffsetsToTxnRequest,
        version: i16,
    ) {
        let joined = self.add_offsets(request);
        let code =
            joined.err().map_or(ErrorCode::None, |code| fenced_as(code, version, FENCED_VERSION));
        let seq = joined.unwrap_or(EntrySeq(0));
        let response = AddOffsetsToTxnResponse {
            error_code: code.code(),
            ..AddOffsetsToTxnResponse::default()
        };
        self.reply_after(seq, id, Response::AddOffsetsToTxn(response));
    }

    fn add_offsets(&mut self, request: &AddOffsetsToTxnRequest) -> Result<EntrySeq, ErrorCode> {
        let transactional_id = request.transactional_id.as_str();
        let (producer_id, epoch) = (request.producer_id, request.producer_epoch);
        self.claimed(Claim { transactional_id, producer_id, epoch })?;
        if !is_valid_group_id(&request.group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        self.check_coordinator()?;
        self.join_transaction(transactional_id, &[], Some(&request.group_id))
    }

    pub(crate) fn on_end_txn(&mut self, id: RequestId, request: &EndTxnRequest, version: i16) {
        let is_bumping = version >= BUMPING_VERSION;
        let mut response =
            EndTxnResponse { producer_id: -1, producer_epoch: -1, ..EndTxnResponse::default() };
        let mut seq = EntrySeq(0);
        match self.check_end(request, is_bumping) {
            Err(code) => response.error_code = fenced_as(code, version, FENCED_VERSION).code(),
            Ok(end) => {
                if matches!(end, End::Now) {
                    let bump = if is_bumping { Bump::Next } else { Bump::None };
                    let outcome = Outcome { is_commit: request.committed, bump };
                    self.end_transaction(&request.transactional_id, outcome);
                }
                if let Some(one) = self.state.transactions.get(&request.transactional_id) {
                    seq = one.last_entry;
                    if is_bumping {
                        response.producer_id = one.producer_id;
                        response.producer_epoch = one.epoch;
                    }
                }
            }
        }
        self.reply_after(seq, id, Response::EndTxn(response));
    }

    fn check_end(&self, request: &EndTxnRequest, is_bumping: bool) -> Result<End, ErrorCode> {
        let transactional_id = request.transactional_id.as_str();
        let sender = (request.producer_id, request.producer_epoch);
        let claim = Claim { transactional_id, producer_id: sender.0, epoch: sender.1 };
        let known = self.state.transactions.get(transactional_id);
        if is_bumping
            && let Some(one) = known
            && is_one_behind(one, sender)
        {
            return match (one.state, request.committed) {
                (TransactionState::CompleteCommit, true)
                | (TransactionState::CompleteAbort, false) => Ok(End::Was),
                (TransactionState::CompleteCommit, false) => Err(ErrorCode::InvalidTxnState),
                // A commit that met the node's own abort, for no client asks for both: to be fenced
                // it survives, INVALID_TXN_STATE would be its end (KAFKA-20785).
                _ => Err(ErrorCode::ProducerFenced),
            };
        }
        let one = self.claimed(claim)?;
        match (one.state, request.committed) {
            (TransactionState::Ongoing, _) => self.check_coordinator().map(|()| End::Now),
            (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
                Err(ErrorCode::ConcurrentTransactions)
            }
            // Nothing was sent, or it never arrived: the epoch moves on all the same (KIP-890).
            (
                TransactionState::Empty
                | TransactionState::CompleteCommit
                | TransactionState::CompleteAbort,
                false,
            ) if is_bumping => self.check_coordinator().map(|()| End::Now),
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false)
                if !is_bumping =>
            {
                Ok(End::Was)
            }
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    /// What could not be answered before the disk takes writes again is refused; clients try again.
    pub(crate) fn check_coordinator(&self) -> Result<(), ErrorCode> {
        if self.space.is_stuck() { Err(ErrorCode::CoordinatorNotAvailable) } else { Ok(()) }
    }
}

/// Whether a request comes from before the last end of a transaction (KIP-890): its answer was lost.
fn is_one_behind(one: &Transactional, sender: (i64, i16)) -> bool {
    let (producer_id, epoch) = sender;
    let is_bumped = one.producer_id == producer_id && epoch.checked_add(1) == Some(one.epoch);
    let is_rotated = one.producer_id != producer_id && one.previous == Some(sender);
    is_bumped || is_rotated
}

/// PRODUCER_FENCED is known from here on, in both.
const FENCED_VERSION: i16 = 2;
/// EndTxn moves the epoch on from here on (KIP-890).
const BUMPING_VERSION: i16 = 5;
