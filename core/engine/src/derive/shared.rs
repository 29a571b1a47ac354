//! Transforms whose topics share one state, for joins: one lane for the partitions of the same number of
//! all topics. It reads the record batch with the lowest time first, as far as each topic has any; what
//! it took is what its cursors say, in the entry of the result, so that no order has to be found again.
//! Never lets a lane run whose topics do not have as many partitions as each other: records of one key
//! would meet in different lanes.

use super::{Lane, LaneId};
use crate::changelog::names_a_source;
use crate::engine::Engine;
use crate::transform::{AdminError, SharedSource, TransformSpec};
use crate::units::PartitionKey;
use millpond_wire::limits;
use millpond_wire::record::{LogBatch, TimestampType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a lane could be given next of one of its sources.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) source: PartitionKey,
    pub(super) batches: Vec<LogBatch>,
    pub(super) from: i64,
}

impl Candidate {
    fn first_ms(&self) -> i64 {
        self.batches.first().map_or(i64::MIN, first_ms)
    }
}

/// When the first record of a batch says that it is.
fn first_ms(batch: &LogBatch) -> i64 {
    let header = batch.header();
    match header.attributes.timestamp_type() {
        TimestampType::CreateTime => header.base_timestamp,
        TimestampType::LogAppendTime => header.max_timestamp,
    }
}

/// The candidate whose first record is the oldest, without the batches behind it that begin later than
/// that of another one; of equal ones the first.
pub(super) fn oldest(mut candidates: Vec<Candidate>) -> Option<Candidate> {
    let times = candidates.iter().map(Candidate::first_ms).enumerate();
    let (at, _) = times.min_by_key(|(at, first_ms)| (*first_ms, *at))?;
    let mut oldest = candidates.swap_remove(at);
    if let Some(others_ms) = candidates.iter().map(Candidate::first_ms).min() {
        let behind = oldest.batches.iter().skip(1).position(|batch| first_ms(batch) > others_ms);
        if let Some(behind) = behind {
            oldest.batches.truncate(behind + 1);
        }
    }
    Some(oldest)
}

impl Engine {
    /// The lanes of a transform that derives, with what each reads.
    pub(super) fn wanted_lanes(&self, spec: &TransformSpec) -> BTreeMap<LaneId, Vec<PartitionKey>> {
        let transform: Arc<str> = Arc::from(spec.name.as_str());
        let lane = |partition| LaneId { partition, transform: Arc::clone(&transform) };
        let topics = spec.topics.iter().filter_map(|name| self.state.catalog.by_name(name));
        let keys = topics.flat_map(|topic| topic.keys());
        if !spec.shares_state {
            return keys.map(|key| (lane(key), vec![key])).collect();
        }
        let mut by_number: BTreeMap<i32, Vec<PartitionKey>> = BTreeMap::new();
        for key in keys {
            by_number.entry(key.partition).or_default().push(key);
        }
        let lanes = by_number.into_values();
        lanes.filter_map(|keys| Some((lane(*keys.first()?), keys))).collect()
    }

    /// What stands in the way of one state for all topics, as they are now.
    pub(super) fn check_alike(&self, spec: &TransformSpec) -> Result<(), String> {
        let mut counts = Vec::new();
        for name in &spec.topics {
            let Some(topic) = self.state.catalog.by_name(name) else {
                return Err(format!(
                    "topic {name} is not there: topics that share a state must be, with as many \
                     partitions as each other; create it"
                ));
            };
            counts.push((name, topic.partitions.len()));
        }
        let first = counts.first().map(|(_, count)| *count);
        if counts.iter().all(|(_, count)| Some(*count) == first) {
            return Ok(());
        }
        let said: Vec<String> =
            counts.iter().map(|(name, count)| format!("{name} has {count}")).collect();
        Err(format!(
            "topics that share a state must have as many partitions as each other: {}",
            said.join(", ")
        ))
    }

    /// What stands in the way of a specification with one state for all topics.
    pub(super) fn check_shared(&self, spec: &TransformSpec) -> Result<(), AdminError> {
        let invalid = |message: &str| Err(AdminError::InvalidSpec(message.to_owned()));
        if !spec.is_derived() {
            return invalid(
                "topics share a state only where it derives: inline, each batch is answered as it comes, \
                 and those of two topics have no order between them",
            );
        }
        let distinct: BTreeSet<&String> = spec.topics.iter().collect();
        if distinct.len() < 2 || distinct.len() != spec.topics.len() {
            return invalid("it names one topic only, or one twice: a state is shared by several");
        }
        if spec.topics.len() > limits::TRANSFORM_SHARED_TOPICS_MAX {
            let max = limits::TRANSFORM_SHARED_TOPICS_MAX;
            return invalid(&format!("a state is shared by up to {max} topics"));
        }
        if !spec.keeps_state {
            return invalid("its module keeps no state that its topics could share");
        }
        if names_a_source(&spec.name) {
            return invalid("its name ends as that of a changelog does: call it something else");
        }
        self.check_alike(spec).map_err(AdminError::InvalidSpec)
    }

    /// The topics that share the lane's state; none where each has its own.
    pub(super) fn shared_sources(
        &self,
        spec: &TransformSpec,
        lane: &Lane,
        waiting: &[PartitionKey],
    ) -> Vec<SharedSource> {
        if !spec.shares_state {
            return Vec::new();
        }
        let now_ms = self.now.mono_ms;
        let is_silent = |since_ms: u64| {
            let timeout_ms = spec.idle_timeout_ms();
            timeout_ms.is_some_and(|timeout_ms| now_ms.saturating_sub(since_ms) >= timeout_ms)
        };
        let of = |source: &super::Source| {
            let topic = self.state.catalog.by_id(source.partition.topic_id)?.name.clone();
            let is_idle = !waiting.contains(&source.partition) && is_silent(source.input_ms);
            Some(SharedSource { topic, is_idle })
        };
        lane.sources.iter().filter_map(of).collect()
    }
}
