//! The way of a batch from a produce request into the log: checked, admitted in order, given to
//! the transforms of its topic, committed in that order, answered when durable (or before, where
//! `durability.rs` allows it).
//! Never looks at records, and never lets a batch overtake another of its partition.

use crate::admission::{Admitted, SentRange, Slot, Verdict};
use crate::changelog::is_internal_topic;
use crate::derive::Work;
use crate::effect::Effect;
use crate::engine::Engine;
use crate::entry::{Fact, Sent, SentAnswer};
use crate::produce_call::Settled;
use crate::refusal::{Refusal, busy, refuse};
use crate::transaction::not_in_transaction;
use crate::transform::{StateBatch, TransformJob, TransformOutcome};
use crate::units::{EntrySeq, PartitionKey, Ticket, TransformId};
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::record::{Batch, BatchError, Codec, LogBatch};

/// What a produce request says of all its batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) transactional_id: Option<&'a str>,
    pub(crate) version: i16,
}

/// A batch's place in what its producer sends.
enum Order {
    /// It is the next one; what came before it from this sequence number on was lost to damage.
    Next { missing_from: Option<i32> },
    /// It was sent before.
    Duplicate(Verdict),
}

impl Engine {
    /// Checks one partition's part of a produce request and gives it its place in the order.
    /// `Ok`: its result comes now or later through `settle`.
    pub(crate) fn admit(
        &mut self,
        topic_name: &str,
        partition: i32,
        records: Option<Bytes>,
        sender: Sender<'_>,
        slot: Slot,
    ) -> Result<(), Refusal> {
        let missing = || refuse(ErrorCode::UnknownTopicOrPartition, "no such topic or partition");
        let topic = self.state.catalog.by_name(topic_name).ok_or_else(missing)?;
        let key = PartitionKey { topic_id: topic.id, partition };
        self.state.catalog.partition(key).ok_or_else(missing)?;
        if is_internal_topic(topic_name) {
            let message = "Cannot append to an internal topic: the node alone writes it";
            return Err(refuse(ErrorCode::InvalidTopicException, message));
        }
        let max_bytes = topic.max_message_bytes(self.config.message_max_bytes);
        let batch = parse_produced(records, max_bytes, sender.version)?;
        self.check_times(key, &batch)?;
        if topic.chain.is_empty() {
            self.check_keys(key, &batch)?;
        }
        let range = SentRange::of(&batch);
        let joins = self.check_transaction(key, &batch, sender)?;
        if joins.is_some() {
            self.check_stateless(key)?;
        }
        let missing_from = match self.check_order(key, range)? {
            Order::Next { missing_from } => missing_from,
            Order::Duplicate(verdict) => {
                let has_window = joins.is_none() && self.is_answered_early(key.topic_id);
                return self.answer_duplicate(key, verdict, slot, has_window);
            }
        };
        let room = self.check_room(topic_name, key);
        let within =
            room.and_then(|()| joins.map(|joins| self.enter_transaction(key, joins)).transpose());
        let leaves_gap = missing_from.is_some();
        let within = within.inspect_err(|_| self.remember_refused(key, range, leaves_gap))?;
        if let (Some(range), Some(from)) = (range, missing_from) {
            self.take_gap(key, range, from);
        }
        self.counters.records_in += u64::from(batch.records_count());
        self.counters.bytes_in += batch.size_bytes() as u64;
        let admitted = Admitted {
            ticket: Ticket(self.fresh_id()),
            batch,
            range,
            within,
            outcome: None,
            inputs_upto: None,
            is_held: false,
            keepers: Vec::new(),
            waiting: vec![slot],
        };
        self.start(key, admitted);
        Ok(())
    }

    /// Whether it is the batch's turn by its producer's sequence numbers.
    fn check_order(
        &mut self,
        key: PartitionKey,
        range: Option<SentRange>,
    ) -> Result<Order, Refusal> {
        let (Some(range), Some(log)) = (range, self.state.catalog.partition(key)) else {
            return Ok(Order::Next { missing_from: None });
        };
        let known = self.state.producers.get(key, range.producer_id);
        match log.pending.check(range, known) {
            Verdict::Next => Ok(Order::Next { missing_from: None }),
            Verdict::Refused(code) => {
                if code == ErrorCode::OutOfOrderSequenceNumber
                    && let Some(from) = self.gap_after_loss(key, range, known)
                {
                    return Ok(Order::Next { missing_from: Some(from) });
                }
                self.counters.sequence_refusals += 1;
                Err(refuse(code, code.message()))
            }
            verdict => Ok(Order::Duplicate(verdict)),
        }
    }

    /// Whether the disk and the partition's queue take one more batch.
    fn check_room(&mut self, topic_name: &str, key: PartitionKey) -> Result<(), Refusal> {
        let Some(topic) = self.state.catalog.by_name(topic_name) else { return Ok(()) };
        if let Err(refusal) = self.check_space(topic) {
            self.note_space_refusal();
            return Err(refusal);
        }
        let waiting = self.state.catalog.partition(key).map_or(0, |log| log.pending.len());
        if waiting >= limits::PARTITION_PENDING_BATCHES_MAX {
            return Err(busy("too many batches wait for the transforms of this partition"));
        }
        Ok(())
    }

    /// Sends an admitted batch through its transforms, or at once into the log.
    fn start(&mut self, key: PartitionKey, mut admitted: Admitted) {
        let chain = self.running_chain(key);
        let Some(log) = self.state.catalog.partition(key) else { return };
        let must_wait = !log.pending.is_empty();
        if chain.is_empty() {
            admitted.outcome = Some(TransformOutcome::Untouched { state: Vec::new() });
        } else if log.pending.must_hold(!self.state.transforms.keepers(&chain).is_empty()) {
            admitted.is_held = true;
        } else {
            let job = self.make_job(key, chain, &mut admitted);
            self.push_effect(Effect::Transform(job));
        }
        if admitted.outcome.is_some() && !must_wait {
            self.commit_admitted(key, admitted);
        } else if let Some(log) = self.state.catalog.partition_mut(key) {
            self.pending_bytes += admitted.batch.size_bytes();
            log.pending.push(admitted);
        }
    }

    /// Sends the oldest batch of a partition through the transforms that its topic has by now, if it
    /// waited for those before it. True: it is done already, as there are none any more.
    fn start_held(&mut self, key: PartitionKey) -> bool {
        let chain = self.running_chain(key);
        let Some(log) = self.state.catalog.partition_mut(key) else { return false };
        let inputs = log.inputs_admitted;
        let Some(held) = log.pending.held_mut() else { return false };
        held.is_held = false;
        if chain.is_empty() {
            // It was admitted for transforms: what they are spared is checked at its commit.
            held.inputs_upto = Some(inputs);
            held.outcome = Some(TransformOutcome::Untouched { state: Vec::new() });
            return true;
        }
        let Some(mut held) = log.pending.take_front() else { return false };
        let refusal = held.within.and_then(|_| self.check_stateless(key).err());
        let is_done = refusal.is_some();
        match refusal {
            Some(Refusal { code, message, .. }) => {
                held.outcome = Some(TransformOutcome::Rejected { code, message });
            }
            None => {
                let job = self.make_job(key, chain, &mut held);
                self.push_effect(Effect::Transform(job));
            }
        }
        if let Some(log) = self.state.catalog.partition_mut(key) {
            log.pending.put_front(held);
        }
        is_done
    }

    /// The versions of the transforms that run inline on a partition, in order.
    pub(crate) fn running_chain(&self, key: PartitionKey) -> Vec<TransformId> {
        let Some(topic) = self.state.catalog.by_id(key.topic_id) else { return Vec::new() };
        let partitions = topic.partitions.len();
        self.state.transforms.on_partition(&topic.chain, key.partition, partitions)
    }

    /// State that is read and written within a transaction would belong to none or to two.
    fn check_stateless(&self, key: PartitionKey) -> Result<(), Refusal> {
        if self.state.transforms.keepers(&self.running_chain(key)).is_empty() {
            return Ok(());
        }
        Err(refuse(ErrorCode::InvalidTxnState, STATE_IN_TRANSACTION))
    }

    /// A producer that is not known yet, or may leave a gap, must begin again with the batch that was
    /// refused: what it sent behind it cannot come first.
    fn remember_refused(&mut self, key: PartitionKey, range: Option<SentRange>, leaves_gap: bool) {
        let Some(range) = range else { return };
        let is_known = self.state.producers.get(key, range.producer_id).is_some();
        if let Some(log) = self.state.catalog.partition_mut(key)
            && (leaves_gap || !is_known)
        {
            log.pending.refuse(range);
        }
    }

    fn make_job(
        &mut self,
        key: PartitionKey,
        chain: Vec<TransformId>,
        admitted: &mut Admitted,
    ) -> TransformJob {
        let records = u64::from(admitted.batch.records_count());
        let mut input_count = 0;
        let mut state_epoch = 0;
        let now_ms = self.now.mono_ms;
        if let Some(log) = self.state.catalog.partition_mut(key) {
            input_count = log.inputs_admitted;
            log.inputs_admitted += records;
            log.pending.desk.input_ms = now_ms;
            state_epoch = log.pending.desk.epoch;
        }
        admitted.inputs_upto = Some(input_count + records);
        admitted.keepers = self.state.transforms.keepers(&chain);
        self.counters.transform_records_in += records;
        self.tickets.insert(admitted.ticket, Work::Inline(key));
        let topic = self.state.catalog.by_id(key.topic_id);
        TransformJob {
            ticket: admitted.ticket,
            topic: topic.map(|topic| topic.name.clone()).unwrap_or_default(),
            shared_by: Vec::new(),
            partition: key,
            chain,
            is_derived: false,
            batch: Some(admitted.batch.clone()),
            idle_ms: None,
            now_ms: self.record_now_ms(),
            input_count,
            state_epoch,
        }
    }

    /// A duplicate gets the answer of the original, when that is durable or within the window of
    /// its topic. A transaction has no window.
    fn answer_duplicate(
        &mut self,
        key: PartitionKey,
        verdict: Verdict,
        slot: Slot,
        has_window: bool,
    ) -> Result<(), Refusal> {
        self.counters.duplicates += 1;
        match verdict {
            Verdict::Committed(batch) => {
                let answer = batch.answer;
                // What went elsewhere may rest on a topic without a window.
                let is_here = matches!(answer, SentAnswer::Offset(_));
                let seq = if is_here && has_window { EntrySeq(0) } else { batch.seq };
                let append_time_ms = batch.append_time_ms;
                self.settle(key, slot, Settled::Accepted { answer, append_time_ms, seq });
                Ok(())
            }
            Verdict::InFlight(index) => {
                let log = self.state.catalog.partition_mut(key);
                match log.and_then(|log| log.pending.get_mut(index)) {
                    Some(original) if original.waiting.len() <= limits::DUPLICATES_WAITING_MAX => {
                        original.waiting.push(slot);
                        Ok(())
                    }
                    _ => Err(busy("the same batch is under way many times")),
                }
            }
            Verdict::Next | Verdict::Refused(_) => unreachable!("decided by the caller"),
        }
    }

    /// A transform is done with a batch.
    pub(crate) fn on_transformed(&mut self, ticket: Ticket, outcome: TransformOutcome) {
        let timers_left = self.derives.timers_left.take() == Some(ticket);
        // A topic that was deleted meanwhile takes its tickets with it.
        match self.tickets.remove(&ticket) {
            None => return,
            Some(Work::Derive(lane)) => self.on_derived(&lane, outcome, timers_left),
            Some(Work::Idle(key)) => {
                self.note_timers(key, timers_left);
                self.on_inline_idle_done(key, outcome);
                self.commit_ready(key);
            }
            Some(Work::Inline(key)) => {
                self.note_timers(key, timers_left);
                let Some(log) = self.state.catalog.partition_mut(key) else { return };
                log.pending.finish(ticket, outcome);
                self.commit_ready(key);
            }
        }
        self.resume_produces();
    }

    /// Commits all batches of a partition that need not wait any more, and begins the next one.
    fn commit_ready(&mut self, key: PartitionKey) {
        loop {
            while let Some(log) = self.state.catalog.partition_mut(key)
                && let Some(admitted) = log.pending.pop_ready()
            {
                self.pending_bytes -= admitted.batch.size_bytes();
                self.commit_admitted(key, admitted);
                self.seal_if_large();
            }
            if !self.start_held(key) {
                return self.pass_inline_time(key);
            }
        }
    }

    fn commit_admitted(&mut self, key: PartitionKey, mut admitted: Admitted) {
        self.begin_batch(key);
        let outcome = admitted.outcome.take();
        let is_late = admitted.within.is_some_and(|within| !self.is_still_open(within));
        let has_changed_state = !admitted.keepers.is_empty()
            && !matches!(outcome, Some(TransformOutcome::Rejected { .. }));
        let settled = match outcome {
            _ if is_late => Err(not_in_transaction(0)),
            Some(TransformOutcome::Changed { outputs, state }) => {
                self.commit_outputs(key, &admitted, outputs, state)
            }
            Some(TransformOutcome::Rejected { code, message }) => Err(refuse(code, message)),
            Some(TransformOutcome::Untouched { state }) => {
                self.commit_untouched(key, &admitted, state)
            }
            None => self.commit_untouched(key, &admitted, Vec::new()),
        };
        match settled {
            Ok(settled) => {
                if let Some(records) = admitted.inputs_upto {
                    self.commit(Fact::InputsCounted { partition: key, records });
                }
                if let Some(log) = self.state.catalog.partition_mut(key) {
                    log.pending.forget_refusal(admitted.range);
                }
                self.settle_all(key, admitted.waiting, &settled);
            }
            Err(refusal) => {
                if has_changed_state && let Some(log) = self.state.catalog.partition_mut(key) {
                    log.pending.desk.epoch += 1;
                }
                self.reject(key, admitted, refusal);
            }
        }
    }

    fn commit_untouched(
        &mut self,
        key: PartitionKey,
        admitted: &Admitted,
        state: Vec<StateBatch>,
    ) -> Result<Settled, Refusal> {
        if admitted.inputs_upto.is_some() {
            self.check_keys(key, &admitted.batch)?;
            self.check_outputs(key, &[], &admitted.keepers, &state)?;
            self.append_state(key, &admitted.keepers, state);
            let records = u64::from(admitted.batch.records_count());
            self.counters.transform_batches_untouched += 1;
            self.counters.transform_records_out += records;
        }
        let (base_offset, append_time_ms) =
            self.append(key, admitted.batch.clone(), admitted.range);
        let answer = SentAnswer::Offset(base_offset);
        Ok(Settled::Accepted { answer, append_time_ms, seq: self.rests_on() })
    }

    /// A batch gets its offsets. Returns the first, and the log append time or -1.
    pub(crate) fn append(
        &mut self,
        key: PartitionKey,
        batch: Batch,
        range: Option<SentRange>,
    ) -> (i64, i64) {
        let stamps = self.state.catalog.by_id(key.topic_id);
        let is_stamped = stamps.is_some_and(crate::topic::Topic::has_log_append_time);
        let wall_ms = self.now.wall_ms;
        let batch = if is_stamped { batch.with_log_append_time(wall_ms) } else { batch };
        let Some(log) = self.state.catalog.partition(key) else {
            unreachable!("the partition of an admitted batch exists while the batch does");
        };
        let base_offset = log.log_end;
        let records = u64::from(batch.records_count());
        let batch = LogBatch::stamp(batch, base_offset, log.leader_epoch);
        self.counters.records_appended += records;
        self.counters.bytes_appended += batch.size_bytes() as u64;
        let sent = range.map(|range| range.sent(SentAnswer::Offset(base_offset)));
        self.commit(Fact::Appended { partition: key, batch, sent });
        (base_offset, if is_stamped { wall_ms } else { -1 })
    }

    /// A transform refused a batch: nothing of it is stored, its sequence is free again, and what
    /// its producer sent after it cannot be accepted.
    fn reject(&mut self, key: PartitionKey, admitted: Admitted, refusal: Refusal) {
        self.counters.transform_batches_rejected += 1;
        let mut later = Vec::new();
        if let Some(range) = admitted.range
            && let Some(log) = self.state.catalog.partition_mut(key)
        {
            let known = self.state.producers.get(key, range.producer_id);
            let has_state = known.is_some_and(|state| state.epoch == range.epoch);
            later = log.pending.roll_back(range, has_state);
        }
        self.settle_all(key, admitted.waiting, &Settled::Refused(refusal));
        let message = "a batch that this producer sent before was refused";
        let follows = Settled::Refused(refuse(ErrorCode::OutOfOrderSequenceNumber, message));
        for admitted in later {
            self.pending_bytes -= admitted.batch.size_bytes();
            self.tickets.remove(&admitted.ticket);
            self.settle_all(key, admitted.waiting, &follows);
        }
    }
}

impl SentRange {
    pub(crate) fn sent(self, answer: SentAnswer) -> Sent {
        Sent {
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            base_sequence: self.base_sequence,
            last_sequence: self.last_sequence,
            answer,
        }
    }
}

/// Exactly one batch (Kafka since produce version 3), and one that a producer may send.
fn parse_produced(
    records: Option<Bytes>,
    max_bytes: usize,
    version: i16,
) -> Result<Batch, Refusal> {
    let records = records.filter(|bytes| !bytes.is_empty());
    let records =
        records.ok_or_else(|| refuse(ErrorCode::InvalidRecord, "there is no record batch"))?;
    let wrong = |error: BatchError| refuse(batch_error_code(&error), error.to_string());
    // A small slice would keep the buffer alive that it was received in, many times its size.
    let is_small = records.len() < limits::ENCODE_COPY_BELOW_BYTES;
    let records = if is_small { Bytes::copy_from_slice(&records) } else { records };
    let batch = Batch::parse(records).map_err(wrong)?;
    batch.check_produced(max_bytes).map_err(wrong)?;
    if batch.codec() == Codec::Zstd && version < ZSTD_PRODUCE_VERSION {
        let message = "zstd needs version 7 of the produce request (KIP-110)";
        return Err(refuse(ErrorCode::UnsupportedCompressionType, message));
    }
    Ok(batch)
}

fn batch_error_code(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        BatchError::UnsupportedMagic { .. } => ErrorCode::UnsupportedForMessageFormat,
        BatchError::UnknownCodec { .. } => ErrorCode::UnsupportedCompressionType,
        BatchError::NotProducible { .. }
        | BatchError::TrailingBytes { .. }
        | BatchError::BadCount { .. } => ErrorCode::InvalidRecord,
        _ => ErrorCode::CorruptMessage,
    }
}

const ZSTD_PRODUCE_VERSION: i16 = 7;
const STATE_IN_TRANSACTION: &str = "a transform of this topic keeps state, which no transaction may \
    change in part: deploy it with mode derive, or send outside of transactions";
