//! DescribeTransactions, ListTransactions and DescribeProducers (KIP-664): what stands where, for
//! people who look for a transaction that hangs. Changes nothing.

use crate::engine::Engine;
use crate::partition::Partition;
use crate::pattern;
use crate::transaction::{COORDINATOR_EPOCH, TransactionState, Transactional};
use crate::units::{PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use millpond_wire::messages::describe_transactions_response::{
    TopicData, TransactionState as Described,
};
use millpond_wire::messages::list_transactions_response::TransactionState as Listed;
use millpond_wire::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse, Response,
};
use std::collections::BTreeMap;

impl Engine {
    pub(crate) fn on_describe_transactions(
        &mut self,
        id: RequestId,
        request: &DescribeTransactionsRequest,
    ) {
        let is_too_large = request.transactional_ids.len() > limits::TRANSACTIONS_PER_DESCRIBE_MAX;
        let one = |transactional_id: &String| {
            let known = self.state.transactions.get(transactional_id);
            match known.filter(|_| !is_too_large) {
                Some(one) => self.describe_transaction(transactional_id, one),
                None => Described {
                    error_code: if transactional_id.is_empty() || is_too_large {
                        ErrorCode::InvalidRequest.code()
                    } else {
                        ErrorCode::TransactionalIdNotFound.code()
                    },
                    transactional_id: transactional_id.clone(),
                    transaction_start_time_ms: -1,
                    producer_id: -1,
                    producer_epoch: -1,
                    ..Described::default()
                },
            }
        };
        let transaction_states = request.transactional_ids.iter().map(one).collect();
        let response = DescribeTransactionsResponse {
            transaction_states,
            ..DescribeTransactionsResponse::default()
        };
        self.reply(id, Response::DescribeTransactions(response));
    }

    fn describe_transaction(&self, transactional_id: &str, one: &Transactional) -> Described {
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for key in &one.partitions {
            if let Some(topic) = self.state.catalog.by_id(key.topic_id) {
                by_topic.entry(&topic.name).or_default().push(key.partition);
            }
        }
        let topic = |(topic, partitions): (&str, Vec<i32>)| TopicData {
            topic: topic.to_owned(),
            partitions,
        };
        Described {
            error_code: ErrorCode::None.code(),
            transactional_id: transactional_id.to_owned(),
            transaction_state: one.state.name().to_owned(),
            transaction_timeout_ms: one.timeout_ms,
            transaction_start_time_ms: one.started_ms,
            producer_id: one.producer_id,
            producer_epoch: one.epoch,
            topics: by_topic.into_iter().map(topic).collect(),
        }
    }

    pub(crate) fn on_list_transactions(
        &mut self,
        id: RequestId,
        request: &ListTransactionsRequest,
    ) {
        let pattern = request.transactional_id_pattern.as_deref().filter(|text| !text.is_empty());
        let pattern = match pattern.map(pattern::whole).transpose() {
            Ok(pattern) => pattern,
            Err(_) => {
                let error_code = ErrorCode::InvalidRegularExpression.code();
                let refused =
                    ListTransactionsResponse { error_code, ..ListTransactionsResponse::default() };
                return self.reply(id, Response::ListTransactions(refused));
            }
        };
        let find = |name: &String| TransactionState::by_name(name);
        let states: Vec<TransactionState> = request.state_filters.iter().filter_map(find).collect();
        let unknown = request.state_filters.iter().filter(|name| find(name).is_none());
        let now_ms = self.now.wall_ms;
        let is_wanted = |one: &Transactional| {
            let lasted_ms = now_ms.saturating_sub(one.started_ms);
            let is_long = one.started_ms >= 0 && lasted_ms > request.duration_filter;
            (request.state_filters.is_empty() || states.contains(&one.state))
                && (request.producer_id_filters.is_empty()
                    || request.producer_id_filters.contains(&one.producer_id))
                && (request.duration_filter < 0 || is_long)
        };
        let is_named = |id: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
        let listed = self.state.transactions.iter();
        let listed = listed.filter(|(id, one)| is_wanted(one) && is_named(id));
        let listed = listed.map(|(transactional_id, one)| Listed {
            transactional_id: transactional_id.to_owned(),
            producer_id: one.producer_id,
            transaction_state: one.state.name().to_owned(),
        });
        let response = ListTransactionsResponse {
            unknown_state_filters: unknown.cloned().collect(),
            transaction_states: listed.collect(),
            ..ListTransactionsResponse::default()
        };
        self.reply(id, Response::ListTransactions(response));
    }

    pub(crate) fn on_describe_producers(
        &mut self,
        id: RequestId,
        request: &DescribeProducersRequest,
    ) {
        let named: usize = request.topics.iter().map(|topic| topic.partition_indexes.len()).sum();
        let is_too_large = named > limits::TRANSACTIONS_PER_DESCRIBE_MAX;
        let mut response = DescribeProducersResponse::default();
        for topic in &request.topics {
            let known = self.state.catalog.by_name(&topic.name);
            let describe = |partition: &i32| {
                let key =
                    known.map(|known| PartitionKey { topic_id: known.id, partition: *partition });
                let found = key.and_then(|key| Some((key, self.state.catalog.partition(key)?)));
                let code = match found {
                    _ if is_too_large => ErrorCode::InvalidRequest,
                    Some(_) => ErrorCode::None,
                    None => ErrorCode::UnknownTopicOrPartition,
                };
                let found = found.filter(|_| code.is_ok());
                PartitionResponse {
                    partition_index: *partition,
                    error_code: code.code(),
                    error_message: (!code.is_ok()).then(|| code.message().to_owned()),
                    active_producers: found
                        .map_or_else(Vec::new, |(key, log)| self.producers_of(key, log)),
                }
            };
            let partitions = topic.partition_indexes.iter().map(describe).collect();
            response.topics.push(TopicResponse { name: topic.name.clone(), partitions });
        }
        self.reply(id, Response::DescribeProducers(response));
    }

    /// When a producer wrote last is known while a transaction of it is open.
    fn producers_of(&self, key: PartitionKey, log: &Partition) -> Vec<ProducerState> {
        let known = self.state.producers.of(key);
        known
            .map(|(producer_id, state)| {
                let open = log.stability.open_of(producer_id);
                ProducerState {
                    producer_id,
                    producer_epoch: state.epoch.into(),
                    last_sequence: state.batches.back().map_or(-1, |batch| batch.last_sequence),
                    last_timestamp: open.map_or(-1, |open| open.last_timestamp_ms),
                    coordinator_epoch: open.map_or(-1, |_| COORDINATOR_EPOCH),
                    current_txn_start_offset: open.map_or(-1, |open| open.first_offset),
                }
            })
            .collect()
    }
}
