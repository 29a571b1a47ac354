//! InitProducerId with a transactional id (KIP-98, KIP-360, KIP-588): whoever asks gets the right to
//! write, and whoever had it before is fenced. What that one left open is aborted first, and who asked
//! is told to ask again, as by Kafka: it never goes on with the epoch that the markers of the abort
//! carry. Answers wait until what they say is durable.

use crate::engine::Engine;
use crate::entry::Fact;
use crate::transaction::{Bump, Outcome, TransactionFact, TransactionState};
use crate::units::{EntrySeq, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::{InitProducerIdRequest, InitProducerIdResponse, Response};

/// What a producer may go on as, and the entry that says so.
struct Assigned {
    producer_id: i64,
    epoch: i16,
    seq: EntrySeq,
}

impl Engine {
    pub(crate) fn on_init_transactional(
        &mut self,
        id: RequestId,
        transactional_id: &str,
        request: &InitProducerIdRequest,
        version: i16,
    ) {
        let assigned = self.init_transactional(transactional_id, request);
        let mut response = InitProducerIdResponse {
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        };
        match assigned {
            Ok(Assigned { producer_id, epoch, seq }) => {
                response.producer_id = producer_id;
                response.producer_epoch = epoch;
                self.reply_after(seq, id, Response::InitProducerId(response));
            }
            Err(code) => {
                response.error_code = fenced_as(code, version, FENCED_VERSION).code();
                let seq = if self.is_drafting() { self.current_seq() } else { EntrySeq(0) };
                self.reply_after(seq, id, Response::InitProducerId(response));
            }
        }
    }

    fn init_transactional(
        &mut self,
        transactional_id: &str,
        request: &InitProducerIdRequest,
    ) -> Result<Assigned, ErrorCode> {
        let expected = match (request.producer_id, request.producer_epoch) {
            (-1, -1) => None,
            (producer_id, epoch) if producer_id >= 0 && epoch >= 0 => Some((producer_id, epoch)),
            _ => return Err(ErrorCode::InvalidRequest),
        };
        let is_named = !transactional_id.is_empty()
            && transactional_id.len() <= limits::TRANSACTIONAL_ID_BYTES_MAX;
        if !is_named {
            return Err(ErrorCode::InvalidRequest);
        }
        let timeout_ms = request.transaction_timeout_ms;
        if !(1..=self.config.transaction_max_timeout_ms).contains(&timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        // It could not be answered before the disk takes writes again; clients try again.
        if self.space.is_stuck() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let Some(known) = self.state.transactions.get(transactional_id) else {
            if self.state.transactions.len() >= limits::TRANSACTIONAL_IDS_MAX {
                return Err(ErrorCode::PolicyViolation);
            }
            if self.state.transactions.len() == 0 {
                self.arm_id_check();
            }
            let producer_id = self.new_producer_id();
            return Ok(self.assign(transactional_id, (producer_id, 0), None, timeout_ms));
        };
        let own = (known.producer_id, known.epoch);
        if let Some(expected) = expected {
            if expected != own && Some(expected) == known.previous && !known.state.is_open() {
                // The answer to the last request, or to the end of a transaction, was lost.
                let (producer_id, epoch) = own;
                return Ok(Assigned { producer_id, epoch, seq: known.last_entry });
            }
            if expected != own {
                return Err(ErrorCode::ProducerFenced);
            }
        }
        match known.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                return Err(ErrorCode::ConcurrentTransactions);
            }
            TransactionState::Ongoing => {
                let outcome = Outcome { is_commit: false, bump: Bump::Fence };
                self.end_transaction(transactional_id, outcome);
                return Err(ErrorCode::ConcurrentTransactions);
            }
            _ => {}
        }
        Ok(self.take_over(transactional_id, own, expected.is_some(), timeout_ms))
    }

    /// The next epoch, or a new producer id when epochs ran out.
    fn take_over(
        &mut self,
        transactional_id: &str,
        own: (i64, i16),
        is_same_client: bool,
        timeout_ms: i32,
    ) -> Assigned {
        let known = self.state.transactions.get(transactional_id);
        let is_exhausted = known.is_none_or(|known| known.is_epoch_exhausted());
        let previous = is_same_client.then_some(own);
        let next = match is_exhausted {
            true => (self.new_producer_id(), 0),
            false => (own.0, own.1 + 1),
        };
        self.assign(transactional_id, next, previous, timeout_ms)
    }

    fn assign(
        &mut self,
        transactional_id: &str,
        (producer_id, epoch): (i64, i16),
        previous: Option<(i64, i16)>,
        timeout_ms: i32,
    ) -> Assigned {
        self.commit(Fact::Transaction(TransactionFact::ProducerAssigned {
            transactional_id: transactional_id.to_owned(),
            producer_id,
            epoch,
            previous,
            timeout_ms,
            at_ms: self.now.wall_ms,
        }));
        // A block of ids may have been reserved in an entry before.
        let seq = self.current_seq().max(self.producer_ids_seq);
        Assigned { producer_id, epoch, seq }
    }
}

/// Older clients know a fenced producer by another code.
pub(super) fn fenced_as(code: ErrorCode, version: i16, since: i16) -> ErrorCode {
    if code == ErrorCode::ProducerFenced && version < since {
        ErrorCode::InvalidProducerEpoch
    } else {
        code
    }
}

/// PRODUCER_FENCED is known from here on.
const FENCED_VERSION: i16 = 4;
