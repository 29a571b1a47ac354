//! Produce: spreads a request over its partitions and keeps the answer until all have settled.

use crate::admission::Slot;
use crate::engine::Engine;
use crate::produce::{ProduceCall, Refusal, Sender, Settled, busy, refuse};
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use millpond_wire::messages::{ProduceRequest, ProduceResponse};

impl Engine {
    /// Takes a produce request to its end, or refuses all of it when the node is busy.
    pub(crate) fn produce(
        &mut self,
        id: RequestId,
        request: ProduceRequest,
        version: i16,
        is_busy: bool,
    ) {
        let open = request.topic_data.iter().map(|topic| topic.partition_data.len()).sum();
        let refusal = if is_busy {
            Some(busy("too many produce requests wait for memory"))
        } else {
            refuse_whole(&request, open)
        };
        let call = self.fresh_id();
        let wants_answer = request.acks != 0;
        let response = skeleton(&request);
        let pending = ProduceCall { id, wants_answer, response, open, seq: EntrySeq(0) };
        self.calls.insert(call, pending);
        if open == 0 {
            return self.finish_call(call);
        }
        let sender = Sender { transactional_id: request.transactional_id.as_deref(), version };
        for (t, topic) in request.topic_data.into_iter().enumerate() {
            for (p, part) in topic.partition_data.into_iter().enumerate() {
                let slot = Slot { call, topic: t, partition: p };
                let admitted = match &refusal {
                    Some(refusal) => Err(refusal.clone()),
                    None => self.admit(&topic.name, part.index, part.records, sender, slot),
                };
                if let Err(refusal) = admitted {
                    self.settle(PartitionKey::default(), slot, Settled::Refused(refusal));
                }
            }
        }
    }
}

fn skeleton(request: &ProduceRequest) -> ProduceResponse {
    let topic = |topic: &millpond_wire::messages::produce_request::TopicProduceData| {
        let part = |part: &millpond_wire::messages::produce_request::PartitionProduceData| {
            PartitionProduceResponse {
                index: part.index,
                base_offset: -1,
                ..PartitionProduceResponse::default()
            }
        };
        TopicProduceResponse {
            name: topic.name.clone(),
            partition_responses: topic.partition_data.iter().map(part).collect(),
        }
    };
    ProduceResponse {
        responses: request.topic_data.iter().map(topic).collect(),
        ..ProduceResponse::default()
    }
}

/// What is wrong with all of a request.
fn refuse_whole(request: &ProduceRequest, partitions: usize) -> Option<Refusal> {
    if !matches!(request.acks, -1..=1) {
        return Some(refuse(ErrorCode::InvalidRequiredAcks, "acks must be 0, 1 or -1"));
    }
    if partitions > limits::PARTITIONS_PER_PRODUCE_MAX {
        return Some(refuse(ErrorCode::InvalidRequest, "too many partitions in one request"));
    }
    None
}
