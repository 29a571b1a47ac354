//! What transforms made of a batch, into the logs: all of it in one entry, to however many topics, or
//! nothing. Never looks at records.

use crate::admission::Admitted;
use crate::engine::Engine;
use crate::entry::{Fact, SentAnswer};
use crate::produce_call::Settled;
use crate::refusal::{Refusal, refuse};
use crate::topic::is_valid_topic_name;
use crate::transform::{Output, OutputTopic};
use crate::units::PartitionKey;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use std::collections::BTreeMap;

impl Engine {
    /// All outputs of a batch, to however many topics, in this one entry.
    pub(crate) fn commit_outputs(
        &mut self,
        key: PartitionKey,
        admitted: &Admitted,
        outputs: Vec<Output>,
    ) -> Result<Settled, Refusal> {
        self.check_outputs(&outputs)?;
        self.check_output_keys(key, &outputs)?;
        if let Some(within) = admitted.within {
            self.check_routes(within, key, &outputs)?;
        }
        let same_shape = match outputs.as_slice() {
            [one] => {
                one.topic == OutputTopic::Same
                    && one.batch.records_count() == admitted.batch.records_count()
            }
            _ => false,
        };
        let mut answer = SentAnswer::NoOffset;
        let mut append_time_ms = -1;
        for output in outputs {
            self.counters.transform_records_out += u64::from(output.batch.records_count());
            let target = self.resolve_output(key, output.topic);
            let range = if same_shape { admitted.range } else { None };
            let batch = match admitted.within {
                Some(within) => self.route_in_transaction(within, target, &output.batch)?,
                None => output.batch,
            };
            let (base_offset, time_ms) = self.append(target, batch, range);
            if same_shape {
                (answer, append_time_ms) = (SentAnswer::Offset(base_offset), time_ms);
            }
        }
        if let Some(range) = admitted.range
            && !same_shape
        {
            self.commit(Fact::Sent { partition: key, sent: range.sent(answer) });
        }
        Ok(Settled::Accepted { answer, append_time_ms, seq: self.rests_on() })
    }

    /// Everything that could stand in the way of an output, before anything is changed.
    fn check_outputs(&self, outputs: &[Output]) -> Result<(), Refusal> {
        let total_bytes: usize = outputs.iter().map(|output| output.batch.size_bytes()).sum();
        // The entry may hold up to `ENTRY_CLOSE_BYTES` of other batches already.
        if total_bytes > limits::ENTRY_BYTES_MAX - limits::ENTRY_CLOSE_BYTES - limits::MIB {
            let message = "a transform made more of a batch than can be stored in one piece";
            return Err(refuse(ErrorCode::MessageTooLarge, message));
        }
        let mut new_topics = BTreeMap::new();
        for output in outputs {
            if output.batch.check_produced(limits::BATCH_BYTES_MAX).is_err() {
                return Err(refuse(ErrorCode::UnknownServerError, "a transform gave a bad batch"));
            }
            if let OutputTopic::Named(name) = &output.topic
                && self.state.catalog.by_name(name).is_none()
            {
                if !is_valid_topic_name(name) {
                    let message = "a transform routes to a topic whose name is not allowed";
                    return Err(refuse(ErrorCode::InvalidTopicException, message));
                }
                new_topics.insert(name, ());
            }
        }
        let topics = self.state.catalog.len() + new_topics.len();
        let partitions = self.state.catalog.partitions_len()
            + new_topics.len() * limits::PARTITIONS_PER_TOPIC_MAX;
        let is_full = topics > limits::TOPICS_MAX || partitions > limits::PARTITIONS_MAX;
        if is_full && !new_topics.is_empty() {
            let message = "a transform routes to a new topic, but there are too many topics";
            return Err(refuse(ErrorCode::PolicyViolation, message));
        }
        Ok(())
    }

    /// The partition of an output: that of the source, modulo the target's count. A missing topic
    /// is created with as many partitions as the source has.
    fn resolve_output(&mut self, source: PartitionKey, topic: OutputTopic) -> PartitionKey {
        let OutputTopic::Named(name) = topic else { return source };
        if let Some(target) = self.output_partition(source, &name) {
            return target;
        }
        let from = self.state.catalog.by_id(source.topic_id);
        let count = from.map_or(1, |from| from.partitions.len());
        let topic_id = self.create_topic(name, count as u32, BTreeMap::new());
        PartitionKey { topic_id, partition: source.partition % (count.max(1) as i32) }
    }

    /// The same for a topic that exists.
    pub(crate) fn output_partition(
        &self,
        source: PartitionKey,
        name: &str,
    ) -> Option<PartitionKey> {
        let topic = self.state.catalog.by_name(name)?;
        let partition = source.partition % (topic.partitions.len().max(1) as i32);
        Some(PartitionKey { topic_id: topic.id, partition })
    }
}
