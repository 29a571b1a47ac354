//! What a transform that derives must be like, and where it begins. Never lets records go round.

use super::Cursor;
use crate::changelog::is_internal_topic;
use crate::engine::Engine;
use crate::transform::{AdminError, DeriveStart, FailureAction, Mode, TransformSpec};
use crate::units::PartitionKey;
use millpond_wire::{limits, topic_name};
use std::collections::BTreeSet;

impl Engine {
    /// What stands in the way of a specification, beyond what it says of itself.
    pub(crate) fn check_mode(&self, spec: &TransformSpec) -> Result<(), AdminError> {
        let invalid = |message: String| Err(AdminError::InvalidSpec(message));
        let named = spec.topics.iter().chain(&spec.outputs).chain(&spec.dead_letter_topic);
        if let Some(topic) = named.clone().find(|topic| is_internal_topic(topic)) {
            return invalid(format!("{topic} is an internal topic"));
        }
        let before = self.state.transforms.find(&spec.name);
        if before.is_some_and(|before| before.spec.is_derived() != spec.is_derived()) {
            let message =
                "a transform keeps its mode, as its state was made in it: delete it first";
            return invalid(message.to_owned());
        }
        if before.is_some_and(|before| before.spec.shares_state != spec.shares_state) {
            let message = "a transform keeps its state for each topic, or for all of them together: \
                           delete it first";
            return invalid(message.to_owned());
        }
        if spec.shares_state {
            self.check_shared(spec)?;
        }
        if !spec.is_derived() {
            return Ok(());
        }
        if spec.outputs.is_empty() {
            return invalid("what it derives needs an output topic".to_owned());
        }
        if let Some(topic) = spec.outputs.iter().find(|topic| !topic_name::is_valid(topic)) {
            return invalid(format!("{topic:?} is no name for a topic"));
        }
        if let Some(topic) = self.loop_through(spec) {
            return invalid(format!("records would go round: it leads back to its source {topic}"));
        }
        if self.sources_of(spec).len() > limits::TRANSFORM_FACTS_MAX {
            let max = limits::TRANSFORM_FACTS_MAX;
            return invalid(format!("its sources have more than {max} partitions"));
        }
        Ok(())
    }

    /// The source that records would come back to, directly or through other derived transforms.
    fn loop_through(&self, spec: &TransformSpec) -> Option<String> {
        let all = self.state.transforms.specs();
        let others: Vec<&TransformSpec> =
            all.filter(|one| one.is_derived() && one.name != spec.name).collect();
        let mut reached: BTreeSet<String> = BTreeSet::new();
        let mut next = targets_of(spec);
        while let Some(topic) = next.pop() {
            if spec.topics.contains(&topic) {
                return Some(topic);
            }
            for other in others.iter().filter(|other| other.topics.contains(&topic)) {
                next.extend(targets_of(other).into_iter().filter(|one| !reached.contains(one)));
            }
            reached.insert(topic);
        }
        None
    }

    fn sources_of(&self, spec: &TransformSpec) -> Vec<PartitionKey> {
        let topics = spec.topics.iter().filter_map(|name| self.state.catalog.by_name(name));
        topics.flat_map(|topic| topic.keys()).collect()
    }

    /// A specification is in force, in place of `before`: partitions that it did not read so far begin
    /// where it says, in the same entry. Those whose start must be searched for follow.
    pub(crate) fn begin_lanes(&mut self, spec: &TransformSpec, before: Option<&TransformSpec>) {
        self.retry_lanes_of(&spec.name);
        let Mode::Derive(start) = spec.mode else { return };
        for key in self.sources_of(spec) {
            if self.state.cursors.get(key, &spec.name).is_some() {
                continue;
            }
            let Some(topic) = self.state.catalog.by_id(key.topic_id) else { continue };
            let Some(log) = self.state.catalog.partition(key) else { continue };
            let was_read = before.is_some_and(|before| before.topics.contains(&topic.name));
            let next = match start {
                DeriveStart::Latest if !was_read => log.log_end,
                DeriveStart::TimestampMs(_) => continue,
                _ => log.log_start,
            };
            self.move_cursor(key, &spec.name, Cursor { next, inputs: 0 });
        }
    }
}

/// All topics that a derived transform may write to.
fn targets_of(spec: &TransformSpec) -> Vec<String> {
    let mut targets = spec.outputs.clone();
    match &spec.dead_letter_topic {
        Some(topic) => targets.push(topic.clone()),
        None if spec.on_failure.then == FailureAction::DeadLetter => {
            targets.extend(spec.topics.iter().map(|topic| topic_name::dead_letter(topic)));
        }
        None => {}
    }
    targets
}
