//! A produce request on its way: its partitions are settled one by one, the last one sends the
//! answer. Must never answer before the newest entry that a result rests on is durable.

use crate::admission::Slot;
use crate::engine::{Engine, Then};
use crate::entry::SentAnswer;
use crate::refusal::Refusal;
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse,
};
use millpond_wire::messages::{ProduceResponse, Response};

/// A produce request that is not answered yet.
#[derive(Debug)]
pub(crate) struct ProduceCall {
    pub(crate) id: RequestId,
    /// False for acks=0.
    pub(crate) wants_answer: bool,
    pub(crate) response: ProduceResponse,
    /// Partitions without a result.
    pub(crate) open: usize,
    /// The newest entry that a result rests on.
    pub(crate) seq: EntrySeq,
}

/// What became of one partition's batch.
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    Accepted { answer: SentAnswer, append_time_ms: i64, seq: EntrySeq },
    Refused(Refusal),
}

impl Engine {
    /// The same result for all that wait for it.
    pub(crate) fn settle_all(&mut self, key: PartitionKey, slots: Vec<Slot>, settled: &Settled) {
        for slot in slots {
            self.settle(key, slot, settled.clone());
        }
    }

    /// Notes the result of one partition; the last one of a call sends its answer on the way.
    pub(crate) fn settle(&mut self, key: PartitionKey, slot: Slot, settled: Settled) {
        let log_start = self.state.catalog.partition(key).map_or(-1, |log| log.log_start);
        let Some(call) = self.calls.get_mut(&slot.call) else { return };
        let topic = call.response.responses.get_mut(slot.topic);
        let part = topic.and_then(|topic| topic.partition_responses.get_mut(slot.partition));
        if let Some(part) = part {
            fill(part, &settled, log_start);
        }
        match settled {
            Settled::Accepted { seq, .. } => call.seq = call.seq.max(seq),
            Settled::Refused(_) => self.counters.produce_refusals += 1,
        }
        assert!(call.open > 0, "a partition is settled once");
        call.open -= 1;
        if call.open == 0 {
            self.finish_call(slot.call);
        }
    }

    pub(crate) fn finish_call(&mut self, call: u64) {
        if let Some(call) = self.calls.remove(&call) {
            let response = call.wants_answer.then_some(Response::Produce(call.response));
            let seq = if response.is_some() { call.seq } else { EntrySeq(0) };
            self.after(seq, Then::Reply(call.id, response));
        }
    }
}

fn fill(part: &mut PartitionProduceResponse, settled: &Settled, log_start: i64) {
    match settled {
        Settled::Accepted { answer, append_time_ms, .. } => {
            part.error_code = ErrorCode::None.code();
            part.base_offset = match answer {
                SentAnswer::Offset(offset) => *offset,
                SentAnswer::NoOffset => -1,
            };
            part.log_append_time_ms = *append_time_ms;
            part.log_start_offset = log_start;
        }
        Settled::Refused(refusal) => {
            part.error_code = refusal.code.code();
            part.base_offset = -1;
            part.error_message = Some(refusal.message.clone());
            let blamed = |(index, message): &(i32, String)| BatchIndexAndErrorMessage {
                batch_index: *index,
                batch_index_error_message: Some(message.clone()),
            };
            part.record_errors = refusal.records.iter().map(blamed).collect();
        }
    }
}
