//! Produce: spreads a request over its partitions and keeps the answer until all have settled.

use crate::admission::Slot;
use crate::engine::Engine;
use crate::produce::Sender;
use crate::produce_call::{ProduceCall, Settled};
use crate::refusal::{Refusal, busy, refuse};
use crate::topic_config::MIN_INSYNC_REPLICAS;
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use millpond_wire::messages::{ProduceRequest, ProduceResponse};
use millpond_wire::uuid::Uuid;
use std::borrow::Cow;

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
            let (name, unknown) = self.produced_topic(&topic.name, topic.topic_id, version);
            let refusal = refusal.clone().or(unknown);
            let refusal = refusal.or_else(|| self.lacks_replicas(&name, request.acks));
            for (p, part) in topic.partition_data.into_iter().enumerate() {
                let slot = Slot { call, topic: t, partition: p };
                let admitted = match &refusal {
                    Some(refusal) => Err(refusal.clone()),
                    None => self.admit(&name, part.index, part.records, sender, slot),
                };
                if let Err(refusal) = admitted {
                    self.settle(PartitionKey::default(), slot, Settled::Refused(refusal));
                }
            }
        }
    }
}

impl Engine {
    /// The name of the topic that is meant, and what is wrong if it is named by an id that no topic
    /// has (KIP-516).
    fn produced_topic<'a>(
        &self,
        name: &'a str,
        topic_id: Uuid,
        version: i16,
    ) -> (Cow<'a, str>, Option<Refusal>) {
        if version < BY_ID_VERSION {
            return (Cow::Borrowed(name), None);
        }
        match self.state.catalog.by_id(topic_id) {
            Some(topic) => (Cow::Owned(topic.name.clone()), None),
            None => {
                let code = ErrorCode::UnknownTopicId;
                (Cow::Borrowed(""), Some(refuse(code, code.message())))
            }
        }
    }

    /// Why a topic cannot promise what acks=all asks for: this node is the only replica. One that
    /// clamps replication factors takes scripts made for clusters, and clamps this with them.
    fn lacks_replicas(&self, name: &str, acks: i16) -> Option<Refusal> {
        let topic = self.state.catalog.by_name(name).filter(|_| acks == ALL_REPLICAS)?;
        let wanted = topic.given(MIN_INSYNC_REPLICAS)?;
        let is_met = wanted.parse().is_ok_and(|wanted: i32| wanted <= 1);
        if is_met || self.config.clamp_replication_factor {
            return None;
        }
        let message = format!(
            "The size of the current ISR is insufficient to satisfy the min.isr requirement of \
             {wanted} for topic {name}: this node is the only replica"
        );
        Some(refuse(ErrorCode::NotEnoughReplicas, message))
    }
}

fn skeleton(request: &ProduceRequest) -> ProduceResponse {
    let topic = |topic: &TopicProduceData| {
        let part = |part: &PartitionProduceData| PartitionProduceResponse {
            index: part.index,
            base_offset: -1,
            ..PartitionProduceResponse::default()
        };
        TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
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

const BY_ID_VERSION: i16 = 13;
const ALL_REPLICAS: i16 = -1;
