//! Fetches: what a request can be given now, and the ones that wait for more (long polls).
//! Whole batches only, below the high watermark, at least one however large (KIP-74). Never copies
//! record bytes, and never keeps more waiters than its cap.

use crate::effect::HistoryRead;
use crate::engine::{Engine, Timer};
use crate::fetch_session::SessionUse;
use crate::partition::Partition;
use crate::topic::Topic;
use crate::units::{PartitionKey, RequestId, SessionId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use millpond_wire::messages::{FetchRequest, FetchResponse, Records, Response};
use millpond_wire::record::rope;
use std::collections::{BTreeMap, BTreeSet};

/// Fetches that wait.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    waiters: BTreeMap<u64, Waiter>,
    by_session: BTreeMap<SessionId, BTreeSet<u64>>,
    touched: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiter {
    call: FetchCall,
    keys: Vec<PartitionKey>,
    deadline_ms: u64,
}

/// A fetch that is not answered yet.
#[derive(Debug)]
pub(crate) struct FetchCall {
    pub(crate) id: RequestId,
    pub(crate) session: SessionId,
    pub(crate) request: FetchRequest,
    pub(crate) version: i16,
    pub(crate) used: SessionUse,
}

impl FetchCall {
    fn is_committed_only(&self) -> bool {
        self.request.isolation_level == READ_COMMITTED
    }

    /// The first offset that this call may not be given.
    fn bound(&self, log: &Partition) -> i64 {
        if self.is_committed_only() { log.last_stable() } else { log.high_watermark }
    }
}

/// A fetch answer that lacks what is in segments.
#[derive(Debug)]
pub(crate) struct PartialFetch {
    pub(crate) id: RequestId,
    pub(crate) used: SessionUse,
    pub(crate) response: FetchResponse,
    /// Where each read goes: topic and partition of the response.
    pub(crate) places: Vec<(usize, usize)>,
}

/// What a fetch could be given now.
struct Supply {
    bytes: usize,
    /// An error or history: nothing to wait for.
    is_final: bool,
}

impl Fetches {
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Something changed for these waiters.
    pub(crate) fn touch(&mut self, waiters: &BTreeSet<u64>) {
        self.touched.extend(waiters);
    }
}

impl Engine {
    /// Answers a fetch now if it can be given enough, or parks it.
    pub(crate) fn start_fetch(&mut self, call: FetchCall) {
        let wait_ms = u64::try_from(call.request.max_wait_ms).unwrap_or(0);
        let wait_ms = wait_ms.min(self.config.fetch_max_wait_ms);
        let supply = self.supply(&call);
        let is_enough = supply.bytes >= self.min_bytes(&call.request);
        if supply.is_final || is_enough || wait_ms == 0 {
            self.answer_fetch(call);
        } else {
            self.park_fetch(call, wait_ms);
        }
    }

    fn park_fetch(&mut self, call: FetchCall, wait_ms: u64) {
        if self.fetches.len() >= limits::FETCH_WAITERS_MAX {
            return self.answer_fetch(call);
        }
        self.counters.fetches_waited += 1;
        let id = self.fresh_id();
        let mut keys = Vec::new();
        for topic in &call.request.topics {
            let Some(topic_id) = self.fetch_topic(topic, call.version).map(|topic| topic.id) else {
                continue;
            };
            for part in &topic.partitions {
                keys.push(PartitionKey { topic_id, partition: part.partition });
            }
        }
        for key in &keys {
            if let Some(partition) = self.state.catalog.partition_mut(*key) {
                partition.waiters.insert(id);
            }
        }
        let deadline_ms = self.now.mono_ms + wait_ms;
        self.timers.insert((deadline_ms, Timer::Fetch(id)));
        self.fetches.by_session.entry(call.session).or_default().insert(id);
        self.fetches.waiters.insert(id, Waiter { call, keys, deadline_ms });
    }

    fn unpark_fetch(&mut self, id: u64) -> Option<FetchCall> {
        let waiter = self.fetches.waiters.remove(&id)?;
        for key in &waiter.keys {
            if let Some(partition) = self.state.catalog.partition_mut(*key) {
                partition.waiters.remove(&id);
            }
        }
        self.timers.remove(&(waiter.deadline_ms, Timer::Fetch(id)));
        if let Some(ids) = self.fetches.by_session.get_mut(&waiter.call.session) {
            ids.remove(&id);
            if ids.is_empty() {
                self.fetches.by_session.remove(&waiter.call.session);
            }
        }
        Some(waiter.call)
    }

    /// Answers the waiters that have enough now.
    pub(crate) fn wake_fetches(&mut self) {
        while let Some(id) = self.fetches.touched.pop_first() {
            let Some(waiter) = self.fetches.waiters.get(&id) else { continue };
            let supply = self.supply(&waiter.call);
            if (supply.is_final || supply.bytes >= self.min_bytes(&waiter.call.request))
                && let Some(call) = self.unpark_fetch(id)
            {
                self.answer_fetch(call);
            }
        }
    }

    pub(crate) fn on_fetch_deadline(&mut self, id: u64) {
        if let Some(call) = self.unpark_fetch(id) {
            self.answer_fetch(call);
        }
    }

    pub(crate) fn drop_fetches_of(&mut self, session: SessionId) {
        for id in self.fetches.by_session.remove(&session).unwrap_or_default() {
            self.unpark_fetch(id);
        }
    }

    fn fetch_topic(&self, topic: &FetchTopic, version: i16) -> Option<&Topic> {
        if version >= FETCH_BY_ID_VERSION {
            self.state.catalog.by_id(topic.topic_id)
        } else {
            self.state.catalog.by_name(&topic.topic)
        }
    }

    /// The partition that a fetch asks for, or the error that it gets.
    fn fetch_source(
        &self,
        topic: &FetchTopic,
        part: &FetchPartition,
        version: i16,
    ) -> Result<(PartitionKey, &Partition), ErrorCode> {
        let Some(known) = self.fetch_topic(topic, version) else {
            return Err(if version >= FETCH_BY_ID_VERSION {
                ErrorCode::UnknownTopicId
            } else {
                ErrorCode::UnknownTopicOrPartition
            });
        };
        let key = PartitionKey { topic_id: known.id, partition: part.partition };
        let log = self.state.catalog.partition(key).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        check_epoch(log, part.current_leader_epoch)?;
        if part.fetch_offset < log.log_start || part.fetch_offset > log.log_end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if log.holes.contains(part.fetch_offset) {
            return Err(ErrorCode::KafkaStorageError);
        }
        Ok((key, log))
    }

    /// What a fetch waits for. Zero asks for an answer at once, like one byte that is there already;
    /// nobody waits for more than is given at most.
    fn min_bytes(&self, request: &FetchRequest) -> usize {
        let most = usize::try_from(request.max_bytes).unwrap_or(0).min(self.config.fetch_max_bytes);
        let most = most.clamp(1, limits::FETCH_BYTES_MAX);
        usize::try_from(request.min_bytes).unwrap_or(0).min(most)
    }

    fn supply(&self, call: &FetchCall) -> Supply {
        let wanted = self.min_bytes(&call.request);
        // Whoever asks for nothing has nothing to wait for.
        let is_empty = call.request.topics.iter().all(|topic| topic.partitions.is_empty());
        let mut supply = Supply { bytes: 0, is_final: is_empty };
        for topic in &call.request.topics {
            for part in &topic.partitions {
                let Ok((_, log)) = self.fetch_source(topic, part, call.version) else {
                    return Supply { is_final: true, ..supply };
                };
                let bound = call.bound(log);
                if part.fetch_offset >= bound {
                    continue;
                }
                if part.fetch_offset < log.tail_start() {
                    return Supply { is_final: true, ..supply };
                }
                let cap = usize::try_from(part.partition_max_bytes).unwrap_or(0);
                let mut own = 0;
                for batch in log.servable_below(part.fetch_offset, bound) {
                    own += batch.size_bytes();
                    // More than its cap will not be given: waiting for it is in vain (KIP-74).
                    if own >= cap {
                        return Supply { is_final: true, ..supply };
                    }
                    if supply.bytes + own >= wanted {
                        return Supply { bytes: supply.bytes + own, is_final: false };
                    }
                }
                supply.bytes += own;
            }
        }
        supply
    }

    /// Gives what is there. What is in segments only is read first.
    fn answer_fetch(&mut self, call: FetchCall) {
        let asked = usize::try_from(call.request.max_bytes).unwrap_or(0);
        let mut budget = asked.min(self.config.fetch_max_bytes).min(limits::FETCH_BYTES_MAX);
        let mut is_first = true;
        let mut reads: Vec<HistoryRead> = Vec::new();
        let mut places = Vec::new();
        let mut response = FetchResponse::default();
        let may_read = self.reads.len() < limits::HISTORY_READS_MAX;
        let mut wants_retry = false;
        for (t, topic) in call.request.topics.iter().enumerate() {
            let mut answer = FetchableTopicResponse {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                ..FetchableTopicResponse::default()
            };
            for (p, part) in topic.partitions.iter().enumerate() {
                let source = self.fetch_source(topic, part, call.version);
                let mut data = describe(part, source.as_ref().map(|(_, log)| *log).map_err(|e| *e));
                data.aborted_transactions = call.is_committed_only().then(Vec::new);
                if let Ok((partition, log)) = source
                    && let bound = call.bound(log)
                    && part.fetch_offset < bound
                {
                    data.aborted_transactions =
                        call.is_committed_only().then(|| aborted(log, part.fetch_offset, bound));
                    let cap = usize::try_from(part.partition_max_bytes).unwrap_or(0).min(budget);
                    if part.fetch_offset >= log.tail_start() {
                        let records = take_tail(log, part.fetch_offset, bound, cap, is_first);
                        budget = budget.saturating_sub(records.size_bytes());
                        is_first &= records.is_empty();
                        data.records = Some(records);
                    } else if !may_read {
                        wants_retry = true;
                    } else if (budget > 0 || is_first)
                        && reads.len() < limits::HISTORY_READS_PER_FETCH_MAX
                    {
                        let max_bytes = cap.min(limits::HISTORY_READ_BYTES_MAX);
                        budget = budget.saturating_sub(max_bytes);
                        is_first = false;
                        places.push((t, p));
                        reads.push(HistoryRead {
                            partition,
                            offset: part.fetch_offset,
                            max_bytes,
                            upto: log
                                .tail_start()
                                .min(log.holes.first_from(part.fetch_offset))
                                .min(bound),
                            find_timestamp: None,
                        });
                    }
                }
                answer.partitions.push(data);
            }
            response.responses.push(answer);
        }
        if wants_retry && is_first {
            return self.park_fetch_for_history(call);
        }
        if reads.is_empty() {
            self.finish_fetch(call.id, call.used, response);
        } else {
            self.read_for_fetch(
                reads,
                PartialFetch { id: call.id, used: call.used, response, places },
            );
        }
    }

    fn park_fetch_for_history(&mut self, call: FetchCall) {
        if self.fetches.len() < limits::FETCH_WAITERS_MAX {
            return self.park_fetch(call, limits::HISTORY_RETRY_MS);
        }
        self.finish_fetch(call.id, call.used, FetchResponse::default());
    }

    pub(crate) fn finish_fetch(
        &mut self,
        id: RequestId,
        used: SessionUse,
        mut response: FetchResponse,
    ) {
        self.settle_session(used, &mut response);
        let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
        let bytes: usize =
            parts.filter_map(|part| part.records.as_ref()).map(Records::size_bytes).sum();
        self.counters.bytes_out += bytes as u64;
        self.reply(id, Response::Fetch(response));
    }
}

/// Kafka's rule for the epoch that a client believes in (KIP-320); -1: it does not say.
pub(crate) fn check_epoch(log: &Partition, claimed: i32) -> Result<(), ErrorCode> {
    if claimed < 0 || claimed == log.leader_epoch {
        Ok(())
    } else if claimed < log.leader_epoch {
        Err(ErrorCode::FencedLeaderEpoch)
    } else {
        Err(ErrorCode::UnknownLeaderEpoch)
    }
}

fn describe(part: &FetchPartition, log: Result<&Partition, ErrorCode>) -> PartitionData {
    let (code, high_watermark, log_start) = match &log {
        Ok(log) => (ErrorCode::None, log.high_watermark, log.log_start),
        Err(code) => (*code, -1, -1),
    };
    PartitionData {
        partition_index: part.partition,
        error_code: code.code(),
        high_watermark,
        last_stable_offset: log.map_or(-1, Partition::last_stable),
        log_start_offset: log_start,
        preferred_read_replica: -1,
        records: Some(Records::new()),
        ..PartitionData::default()
    }
}

fn take_tail(log: &Partition, offset: i64, bound: i64, cap: usize, at_least_one: bool) -> Records {
    let mut bytes = 0;
    let mut batches = Vec::new();
    for batch in log.servable_below(offset, bound) {
        let fits = bytes + batch.size_bytes() <= cap;
        let must_give = at_least_one && batches.is_empty();
        if !fits && !must_give {
            break;
        }
        bytes += batch.size_bytes();
        batches.push(batch);
    }
    rope(batches)
}

/// The transactions whose records, between these offsets, a consumer is to leave out.
fn aborted(log: &Partition, from: i64, upto: i64) -> Vec<AbortedTransaction> {
    let one = |one: crate::transaction::AbortedTransaction| AbortedTransaction {
        producer_id: one.producer_id,
        first_offset: one.first_offset,
    };
    log.stability.aborted_between(from, upto).into_iter().map(one).collect()
}

const FETCH_BY_ID_VERSION: i16 = 13;
const READ_COMMITTED: i8 = 1;
