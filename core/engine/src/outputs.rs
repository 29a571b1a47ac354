//! What transforms made of a batch, into the logs: all of it in one entry, to however many topics,
//! with what became of their state, or nothing. Only looks at records where they are routed by key.

use crate::admission::Admitted;
use crate::changelog::is_internal_topic;
use crate::engine::Engine;
use crate::entry::{Fact, SentAnswer};
use crate::produce_call::Settled;
use crate::refusal::{Refusal, refuse};
use crate::transform::{Keeper, Output, OutputTopic, StateBatch};
use crate::units::PartitionKey;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::murmur2::partition_for_key;
use millpond_wire::mutant::Mutant;
use millpond_wire::record::{Batch, BatchBuilder};
use millpond_wire::topic_name;
use std::collections::{BTreeMap, BTreeSet};

/// A batch that a chain put out, and its place.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) place: Place,
    pub(crate) batch: Batch,
}

/// Where a batch goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Known(PartitionKey),
    /// The topic is made with as many partitions as the source has.
    New {
        topic: String,
        partition: i32,
    },
}

impl Place {
    pub(crate) fn known(&self) -> Option<PartitionKey> {
        match self {
            Place::Known(key) => Some(*key),
            Place::New { .. } => None,
        }
    }
}

impl Engine {
    /// All outputs of a batch, to however many topics, in this one entry.
    pub(crate) fn commit_outputs(
        &mut self,
        key: PartitionKey,
        admitted: &Admitted,
        outputs: Vec<Output>,
        state: Vec<StateBatch>,
    ) -> Result<Settled, Refusal> {
        let same_shape = match outputs.as_slice() {
            [one] => {
                one.topic == OutputTopic::Same
                    && one.batch.records_count() == admitted.batch.records_count()
            }
            _ => false,
        };
        let placed = self.place_outputs(key, outputs)?;
        self.check_outputs(key, &placed, &admitted.keepers, &state)?;
        if let Some(within) = admitted.within {
            if !state.is_empty() {
                let message = "state was changed within a transaction: use mode derive";
                return Err(refuse(ErrorCode::InvalidTxnState, message));
            }
            self.check_routes(within, &placed)?;
        }
        self.append_state(key, &admitted.keepers, state);
        let mut answer = SentAnswer::NoOffset;
        let mut append_time_ms = -1;
        for Placed { place, batch } in placed {
            self.counters.transform_records_out += u64::from(batch.records_count());
            let target = self.resolve_place(key, place);
            let range = if same_shape { admitted.range } else { None };
            let batch = match admitted.within {
                Some(within) => self.route_in_transaction(within, target, &batch)?,
                None => batch,
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

    /// The same where nobody waits for an answer: what is derived, and what time alone brought about.
    /// The caller has checked.
    pub(crate) fn append_outputs(&mut self, source: PartitionKey, placed: Vec<Placed>) {
        for Placed { place, batch } in placed {
            self.counters.transform_records_out += u64::from(batch.records_count());
            let target = self.resolve_place(source, place);
            if Mutant::StateAlone.is_on() {
                continue;
            }
            self.append(target, batch, None);
        }
    }

    /// Where outputs go: batches whose records go by key to several partitions become several.
    pub(crate) fn place_outputs(
        &self,
        source: PartitionKey,
        outputs: Vec<Output>,
    ) -> Result<Vec<Placed>, Refusal> {
        let mut placed = Vec::with_capacity(outputs.len());
        for Output { topic, batch } in outputs {
            let (name, is_by_key) = match topic {
                OutputTopic::Same => {
                    placed.push(Placed { place: Place::Known(source), batch });
                    continue;
                }
                OutputTopic::Named(name) => (name, false),
                OutputTopic::ByKey(name) => (name, true),
            };
            let known = self.state.catalog.by_name(&name).map(|t| (t.id, t.partitions.len()));
            let own =
                || self.state.catalog.by_id(source.topic_id).map_or(1, |t| t.partitions.len());
            let count = known.map_or_else(own, |(_, count)| count).max(1) as i32;
            let place = |partition: i32| match known {
                Some((topic_id, _)) => Place::Known(PartitionKey { topic_id, partition }),
                None => Place::New { topic: name.clone(), partition },
            };
            let fallback = source.partition % count;
            if !is_by_key || count == 1 {
                placed.push(Placed { place: place(fallback), batch });
                continue;
            }
            for (partition, batch) in split_by_key(&batch, count, fallback)? {
                placed.push(Placed { place: place(partition), batch });
            }
        }
        Ok(placed)
    }

    /// Everything that could stand in the way of outputs and state, before anything is changed.
    pub(crate) fn check_outputs(
        &self,
        source: PartitionKey,
        placed: &[Placed],
        keepers: &[Keeper],
        state: &[StateBatch],
    ) -> Result<(), Refusal> {
        let changelogs = self.check_state(source, keepers, state)?;
        let out_bytes: usize = placed.iter().map(|one| one.batch.size_bytes()).sum();
        let state_bytes: usize = state.iter().map(|one| one.batch.size_bytes()).sum();
        // The entry may hold up to `ENTRY_CLOSE_BYTES` of other batches already.
        let room_bytes = limits::ENTRY_BYTES_MAX - limits::ENTRY_CLOSE_BYTES - limits::MIB;
        if out_bytes + state_bytes > room_bytes
            || placed.len() + state.len() > limits::TRANSFORM_FACTS_MAX
        {
            let message = "a transform made more of a batch than can be stored in one piece";
            return Err(refuse(ErrorCode::MessageTooLarge, message));
        }
        let mut new_topics: BTreeSet<&str> = changelogs.iter().map(String::as_str).collect();
        for Placed { place, batch } in placed {
            if batch.check_produced(limits::BATCH_BYTES_MAX).is_err() {
                return Err(refuse(ErrorCode::UnknownServerError, "a transform gave a bad batch"));
            }
            match place {
                Place::Known(key) => self.check_target(*key, batch)?,
                Place::New { topic, .. } => {
                    if !topic_name::is_valid(topic) || is_internal_topic(topic) {
                        let message = "a transform routes to a topic whose name is not allowed";
                        return Err(refuse(ErrorCode::InvalidTopicException, message));
                    }
                    new_topics.insert(topic);
                }
            }
        }
        self.check_room_for_topics(source, new_topics.len())
    }

    fn check_target(&self, key: PartitionKey, batch: &Batch) -> Result<(), Refusal> {
        let topic = self.state.catalog.by_id(key.topic_id);
        if topic.is_some_and(|topic| is_internal_topic(&topic.name)) {
            let message = "a transform routes to an internal topic";
            return Err(refuse(ErrorCode::InvalidTopicException, message));
        }
        self.check_keys(key, batch)
    }

    /// Whether so many topics can be made, each with as many partitions as the source has; with them
    /// the changelogs that are there may grow by as many.
    fn check_room_for_topics(&self, source: PartitionKey, count: usize) -> Result<(), Refusal> {
        let from = self.state.catalog.by_id(source.topic_id);
        let each = from.map_or(1, |from| from.partitions.len());
        let topics = self.state.catalog.len() + count;
        let partitions = self.state.catalog.partitions_len() + count * each;
        let is_full = topics > limits::TOPICS_MAX || partitions > limits::PARTITIONS_MAX;
        if is_full && count > 0 {
            let message = "a transform needs a new topic, but there are too many topics";
            return Err(refuse(ErrorCode::PolicyViolation, message));
        }
        Ok(())
    }

    /// The partition of a place; a missing topic is created.
    fn resolve_place(&mut self, source: PartitionKey, place: Place) -> PartitionKey {
        let (topic, partition) = match place {
            Place::Known(key) => return key,
            Place::New { topic, partition } => (topic, partition),
        };
        // Another batch of the same outputs may have made it.
        if let Some(topic) = self.state.catalog.by_name(&topic) {
            return PartitionKey { topic_id: topic.id, partition };
        }
        let from = self.state.catalog.by_id(source.topic_id);
        let count = from.map_or(1, |from| from.partitions.len()).max(1);
        let topic_id = self.create_topic(topic, count as u32, BTreeMap::new());
        PartitionKey { topic_id, partition }
    }
}

/// The records of a batch by the partition of their key, in order; those without a key go to
/// `fallback`.
fn split_by_key(
    batch: &Batch,
    partitions: i32,
    fallback: i32,
) -> Result<BTreeMap<i32, Batch>, Refusal> {
    let bad = |what: String| refuse(ErrorCode::UnknownServerError, what);
    let section = batch
        .decompress(limits::DECOMPRESSED_BYTES_MAX)
        .map_err(|error| bad(format!("a transform gave a bad batch: {error}")))?;
    let mut builders: BTreeMap<i32, BatchBuilder> = BTreeMap::new();
    for record in batch.records(&section) {
        let record =
            record.map_err(|error| bad(format!("a transform gave a bad batch: {error}")))?;
        let by_key = |key: &[u8]| partition_for_key(key, partitions.unsigned_abs()) as i32;
        let partition = record.key.map_or(fallback, by_key);
        let builder = builders.entry(partition).or_insert_with(|| BatchBuilder::like(batch));
        let pushed = builder.push_with_raw_headers(
            record.timestamp,
            record.key,
            record.value,
            record.headers_raw,
        );
        pushed.map_err(|error| bad(format!("records routed by key fit no batch: {error}")))?;
    }
    let mut split = BTreeMap::new();
    for (partition, mut builder) in builders {
        let built = builder.build_batch();
        let built = built.map_err(|error| bad(format!("records fit no batch: {error}")))?;
        split.insert(partition, built);
    }
    Ok(split)
}
