//! AddPartitionsToTxn: partitions become part of a transaction before it writes to them, all that are
//! named or none. Brokers may also ask whether they are (KIP-890). Answered when it is durable.

use super::transactional_ids::fenced_as;
use crate::changelog::is_internal_topic;
use crate::engine::Engine;
use crate::transaction::{Claim, TransactionState};
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;
use millpond_wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
    TransactionPartitionResult, TransactionTopicResult,
};
use millpond_wire::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, Response};

/// What is asked of one transaction.
struct Ask<'a> {
    claim: Claim<'a>,
    is_verify_only: bool,
    /// Name and partitions.
    topics: Vec<(&'a str, &'a [i32])>,
    version: i16,
}

/// One code for each partition that was named, and the entry that they rest on.
struct Joined {
    codes: Vec<Vec<ErrorCode>>,
    seq: EntrySeq,
}

impl Engine {
    pub(crate) fn on_add_partitions_to_txn(
        &mut self,
        id: RequestId,
        request: &AddPartitionsToTxnRequest,
        version: i16,
    ) {
        let mut response = AddPartitionsToTxnResponse::default();
        let seq = if version >= MANY_VERSION {
            self.add_to_many(request, version, &mut response)
        } else {
            self.add_to_one(request, version, &mut response)
        };
        self.reply_after(seq, id, Response::AddPartitionsToTxn(response));
    }

    fn add_to_one(
        &mut self,
        request: &AddPartitionsToTxnRequest,
        version: i16,
        response: &mut AddPartitionsToTxnResponse,
    ) -> EntrySeq {
        let topics = &request.v3_and_below_topics;
        let joined = self.ask(&Ask {
            claim: Claim {
                transactional_id: &request.v3_and_below_transactional_id,
                producer_id: request.v3_and_below_producer_id,
                epoch: request.v3_and_below_producer_epoch,
            },
            is_verify_only: false,
            topics: topics.iter().map(|t| (t.name.as_str(), t.partitions.as_slice())).collect(),
            version,
        });
        for (topic, codes) in topics.iter().zip(joined.codes) {
            let one = |(partition, code): (&i32, ErrorCode)| AddPartitionsToTxnPartitionResult {
                partition_index: *partition,
                partition_error_code: code.code(),
            };
            response.results_by_topic_v3_and_below.push(AddPartitionsToTxnTopicResult {
                name: topic.name.clone(),
                results_by_partition: topic.partitions.iter().zip(codes).map(one).collect(),
            });
        }
        joined.seq
    }

    fn add_to_many(
        &mut self,
        request: &AddPartitionsToTxnRequest,
        version: i16,
        response: &mut AddPartitionsToTxnResponse,
    ) -> EntrySeq {
        if request.transactions.len() > limits::TRANSACTIONS_PER_DESCRIBE_MAX {
            response.error_code = ErrorCode::InvalidRequest.code();
            return EntrySeq(0);
        }
        let mut seq = EntrySeq(0);
        for transaction in &request.transactions {
            let joined = self.ask(&ask_of(transaction, version));
            seq = seq.max(joined.seq);
            let mut topic_results = Vec::with_capacity(transaction.topics.len());
            for (topic, codes) in transaction.topics.iter().zip(joined.codes) {
                let one = |(partition, code): (&i32, ErrorCode)| TransactionPartitionResult {
                    partition_index: *partition,
                    partition_error_code: code.code(),
                };
                topic_results.push(TransactionTopicResult {
                    name: topic.name.clone(),
                    results_by_partition: topic.partitions.iter().zip(codes).map(one).collect(),
                });
            }
            let transactional_id = transaction.transactional_id.clone();
            let result = AddPartitionsToTxnResult { transactional_id, topic_results };
            response.results_by_transaction.push(result);
        }
        seq
    }

    fn ask(&mut self, ask: &Ask<'_>) -> Joined {
        let mut keys = Vec::new();
        let mut codes: Vec<Vec<ErrorCode>> = Vec::with_capacity(ask.topics.len());
        for (name, partitions) in &ask.topics {
            // The node alone writes internal ones: not even a marker may get there.
            let known = self.state.catalog.by_name(name).filter(|_| !is_internal_topic(name));
            let find = |partition: &i32| {
                let key = PartitionKey { topic_id: known?.id, partition: *partition };
                self.state.catalog.partition(key).map(|_| key)
            };
            let found: Vec<Option<PartitionKey>> = partitions.iter().map(find).collect();
            let missing = ErrorCode::UnknownTopicOrPartition;
            codes.push(found.iter().map(|key| key.map_or(missing, |_| ErrorCode::None)).collect());
            keys.extend(found.into_iter().flatten());
        }
        let mut seq = EntrySeq(0);
        let is_whole = codes.iter().flatten().all(|code| code.is_ok());
        let joined = match is_whole {
            true if ask.is_verify_only => self.verify_partitions(ask, &keys),
            true => self.add_partitions(ask.claim, &keys),
            false => Err(ErrorCode::OperationNotAttempted),
        };
        let code = match joined {
            Ok(at) => {
                seq = at;
                ErrorCode::None
            }
            Err(code) => fenced_as(code, ask.version, FENCED_VERSION),
        };
        let own = codes.iter_mut().flatten().filter(|own| own.is_ok());
        own.for_each(|own| *own = code);
        Joined { codes, seq }
    }

    fn add_partitions(
        &mut self,
        claim: Claim<'_>,
        keys: &[PartitionKey],
    ) -> Result<EntrySeq, ErrorCode> {
        self.claimed(claim)?;
        self.check_coordinator()?;
        self.join_transaction(claim.transactional_id, keys, None)
    }

    /// Whether all of them are part of the open transaction.
    fn verify_partitions(
        &self,
        ask: &Ask<'_>,
        keys: &[PartitionKey],
    ) -> Result<EntrySeq, ErrorCode> {
        let one = self.claimed(ask.claim)?;
        if one.state.is_ending() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let is_open = one.state == TransactionState::Ongoing;
        if is_open && keys.iter().all(|key| one.partitions.contains(key)) {
            return Ok(one.last_entry);
        }
        let is_new = ask.version >= ABORTABLE_VERSION;
        let (new, old) = (ErrorCode::TransactionAbortable, ErrorCode::InvalidTxnState);
        Err(if is_new { new } else { old })
    }
}

fn ask_of(transaction: &AddPartitionsToTxnTransaction, version: i16) -> Ask<'_> {
    let topics = transaction.topics.iter();
    Ask {
        claim: Claim {
            transactional_id: &transaction.transactional_id,
            producer_id: transaction.producer_id,
            epoch: transaction.producer_epoch,
        },
        is_verify_only: transaction.verify_only,
        topics: topics.map(|topic| (topic.name.as_str(), topic.partitions.as_slice())).collect(),
        version,
    }
}

/// PRODUCER_FENCED is known from here on.
const FENCED_VERSION: i16 = 2;
/// A request names many transactions from here on.
const MANY_VERSION: i16 = 4;
/// TRANSACTION_ABORTABLE is known from here on.
const ABORTABLE_VERSION: i16 = 5;
