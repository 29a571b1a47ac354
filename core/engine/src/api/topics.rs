//! CreateTopics, DeleteTopics, CreatePartitions: answered when the change is durable.

use crate::changelog::is_internal_topic;
use crate::effect::Effect;
use crate::engine::{Engine, Then};
use crate::entry::Fact;
use crate::produce_call::Settled;
use crate::refusal::refuse;
use crate::topic_config;
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::create_partitions_request::CreatePartitionsTopic;
use millpond_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use millpond_wire::messages::create_topics_request::CreatableTopic;
use millpond_wire::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use millpond_wire::messages::delete_topics_response::DeletableTopicResult;
use millpond_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, Response,
};
use millpond_wire::topic_name;
use millpond_wire::uuid::Uuid;
use std::collections::{BTreeMap, BTreeSet};

/// Why a topic cannot be made or changed.
type Refused = (ErrorCode, String);

/// A topic that may be made.
struct Plan {
    partitions: u32,
    configs: BTreeMap<String, String>,
}

impl Engine {
    /// Makes a topic in the current entry; the caller has checked name and room.
    pub(crate) fn create_topic(
        &mut self,
        name: String,
        partitions: u32,
        configs: BTreeMap<String, String>,
    ) -> Uuid {
        assert!(topic_name::is_valid(&name) && self.state.catalog.by_name(&name).is_none());
        let id = Uuid::from_random(self.rng.bytes16());
        self.commit(Fact::TopicCreated { id, name, partitions, configs });
        id
    }

    pub(crate) fn has_room_for_topic(&self, partitions: usize) -> bool {
        let catalog = &self.state.catalog;
        catalog.len() < limits::TOPICS_MAX
            && catalog.partitions_len() + partitions <= limits::PARTITIONS_MAX
    }

    pub(crate) fn on_create_topics(&mut self, id: RequestId, request: &CreateTopicsRequest) {
        let mut response = CreateTopicsResponse::default();
        let mut seen = BTreeSet::new();
        let repeated: BTreeSet<&str> = request
            .topics
            .iter()
            .map(|topic| topic.name.as_str())
            .filter(|name| !seen.insert(*name))
            .collect();
        for topic in &request.topics {
            let plan = if repeated.contains(topic.name.as_str()) {
                Err((ErrorCode::InvalidRequest, "the request names the topic twice".to_owned()))
            } else if request.topics.len() > limits::TOPICS_PER_ADMIN_REQUEST_MAX {
                Err((ErrorCode::InvalidRequest, "too many topics in one request".to_owned()))
            } else {
                self.plan_topic(topic)
            };
            let result = match plan {
                Ok(plan) => self.carry_out(topic, plan, request.validate_only),
                Err((code, message)) => CreatableTopicResult {
                    name: topic.name.clone(),
                    error_code: code.code(),
                    error_message: Some(message),
                    num_partitions: -1,
                    replication_factor: -1,
                    ..CreatableTopicResult::default()
                },
            };
            response.topics.push(result);
        }
        self.reply_after(self.catalog_seq, id, Response::CreateTopics(response));
    }

    fn plan_topic(&self, topic: &CreatableTopic) -> Result<Plan, Refused> {
        self.check_new_name(&topic.name)?;
        let partitions = if topic.assignments.is_empty() {
            self.check_replication(topic.replication_factor)?;
            self.check_partitions(topic.num_partitions)?
        } else {
            self.check_assignments(topic)?
        };
        let mut configs = BTreeMap::new();
        for config in &topic.configs {
            let Some(value) = &config.value else {
                let message =
                    format!("Null value not supported for topic configs: {}", config.name);
                return Err((ErrorCode::InvalidConfig, message));
            };
            configs.insert(config.name.clone(), value.clone());
        }
        let configs = topic_config::accept_new(configs)
            .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
        if !self.has_room_for_topic(partitions as usize) {
            let message = "this node holds as many topics or partitions as it can";
            return Err((ErrorCode::PolicyViolation, message.to_owned()));
        }
        Ok(Plan { partitions, configs })
    }

    /// Whether a topic may have this name.
    pub(crate) fn check_new_name(&self, name: &str) -> Result<(), Refused> {
        if let Some(problem) = topic_name::problem(name) {
            return Err((
                ErrorCode::InvalidTopicException,
                format!("Topic name is invalid: {problem}"),
            ));
        }
        if name == METADATA_TOPIC || is_internal_topic(name) {
            let message = format!("Creation of internal topic {name} is prohibited.");
            return Err((ErrorCode::InvalidRequest, message));
        }
        if self.state.catalog.by_name(name).is_some() {
            return Err((ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        if let Some(other) = self.state.catalog.colliding(name) {
            let message = format!("Topic '{name}' collides with existing topic: {other}");
            return Err((ErrorCode::InvalidTopicException, message));
        }
        Ok(())
    }

    fn check_partitions(&self, wanted: i32) -> Result<u32, Refused> {
        let wanted = if wanted == -1 { self.config.num_partitions } else { wanted };
        match u32::try_from(wanted) {
            Ok(count) if count > 0 && count as usize <= limits::PARTITIONS_PER_TOPIC_MAX => {
                Ok(count)
            }
            Ok(count) if count > 0 => {
                let max = limits::PARTITIONS_PER_TOPIC_MAX;
                let message = format!("{count} partitions; a topic has at most {max} here");
                Err((ErrorCode::InvalidPartitions, message))
            }
            _ => {
                let message = "Number of partitions was set to an invalid non-positive value.";
                Err((ErrorCode::InvalidPartitions, message.to_owned()))
            }
        }
    }

    fn check_replication(&self, wanted: i16) -> Result<(), Refused> {
        let is_clamped = wanted > 1 && self.config.clamp_replication_factor;
        if wanted == -1 || wanted == 1 || is_clamped {
            return Ok(());
        }
        let message = if wanted < 1 {
            "Replication factor must be larger than 0, or -1 to use the default value.".to_owned()
        } else {
            format!(
                "Unable to replicate the partition {wanted} time(s): The target replication factor \
                 of {wanted} cannot be reached because only 1 broker(s) are registered. \
                 (clamp_replication_factor = true accepts more)"
            )
        };
        Err((ErrorCode::InvalidReplicationFactor, message))
    }

    fn check_assignments(&self, topic: &CreatableTopic) -> Result<u32, Refused> {
        let given = if topic.replication_factor != -1 {
            Some("replication factor")
        } else {
            (topic.num_partitions != -1).then_some("numPartitions")
        };
        if let Some(given) = given {
            let message = format!(
                "A manual partition assignment was specified, but {given} was not set to -1."
            );
            return Err((ErrorCode::InvalidRequest, message));
        }
        let mut indexes: Vec<i32> = Vec::with_capacity(topic.assignments.len());
        for assignment in &topic.assignments {
            self.check_own_replica(&assignment.broker_ids)?;
            indexes.push(assignment.partition_index);
        }
        indexes.sort_unstable();
        if !indexes.iter().copied().eq(0..indexes.len() as i32) {
            let message = "partitions should be a consecutive 0-based integer sequence";
            return Err((ErrorCode::InvalidReplicaAssignment, message.to_owned()));
        }
        self.check_partitions(indexes.len() as i32)
    }

    fn carry_out(
        &mut self,
        topic: &CreatableTopic,
        plan: Plan,
        validate_only: bool,
    ) -> CreatableTopicResult {
        let described = topic_config::TOPIC_CONFIGS.iter().map(|config| {
            let (value, config_source) = match plan.configs.get(config.name) {
                Some(own) => (own.clone(), TOPIC_SOURCE),
                None => self.node_default(config),
            };
            CreatableTopicConfigs {
                name: config.name.to_owned(),
                value: Some(value),
                read_only: config.is_read_only,
                config_source,
                is_sensitive: false,
            }
        });
        let configs = Some(described.collect());
        let topic_id = if validate_only {
            Uuid::ZERO
        } else {
            self.create_topic(topic.name.clone(), plan.partitions, plan.configs)
        };
        CreatableTopicResult {
            name: topic.name.clone(),
            topic_id,
            error_code: ErrorCode::None.code(),
            num_partitions: plan.partitions as i32,
            replication_factor: 1,
            configs,
            ..CreatableTopicResult::default()
        }
    }

    pub(crate) fn on_delete_topics(
        &mut self,
        id: RequestId,
        request: &DeleteTopicsRequest,
        version: i16,
    ) {
        let mut response = DeleteTopicsResponse::default();
        let mut seq = EntrySeq(0);
        let names = request.topic_names.iter().map(|name| (Some(name.clone()), Uuid::ZERO));
        let states = request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id));
        let wanted: Vec<(Option<String>, Uuid)> =
            if version >= DELETE_BY_ID_VERSION { states.collect() } else { names.collect() };
        let mut seen = BTreeSet::new();
        let repeated: BTreeSet<_> =
            wanted.iter().filter(|one| !seen.insert(*one)).cloned().collect();
        for (name, topic_id) in wanted {
            let problem = delete_problem(&name, topic_id).or_else(|| {
                let is_repeated = repeated.contains(&(name.clone(), topic_id));
                is_repeated.then_some("Duplicate topic in request.")
            });
            if let Some(problem) = problem {
                response.responses.push(DeletableTopicResult {
                    name,
                    topic_id,
                    error_code: ErrorCode::InvalidRequest.code(),
                    error_message: Some(problem.to_owned()),
                });
                continue;
            }
            let found = match &name {
                Some(name) => self.state.catalog.by_name(name),
                None => self.state.catalog.by_id(topic_id),
            };
            let mut result = DeletableTopicResult {
                name: name.clone(),
                topic_id,
                ..DeletableTopicResult::default()
            };
            match found.map(|topic| (topic.id, topic.name.clone())) {
                Some((_, own)) if is_internal_topic(&own) => {
                    result.error_code = ErrorCode::InvalidTopicException.code();
                    result.error_message = Some(INTERNAL_STAYS.to_owned());
                }
                Some((topic_id, name)) => {
                    self.delete_topic(topic_id);
                    seq = self.current_seq();
                    result.topic_id = topic_id;
                    result.name = Some(name);
                }
                None => {
                    let code = match name {
                        Some(_) => ErrorCode::UnknownTopicOrPartition,
                        None => ErrorCode::UnknownTopicId,
                    };
                    result.error_code = code.code();
                    result.error_message = Some(code.message().to_owned());
                }
            }
            response.responses.push(result);
        }
        self.reply_after(seq, id, Response::DeleteTopics(response));
    }

    /// A topic goes: batches under way are refused, waiting fetches are told, files follow when
    /// the deletion is durable.
    /// The state that transforms keep for it goes with it.
    pub(crate) fn delete_topic(&mut self, topic_id: Uuid) {
        for (_, changelog) in self.changelogs(None, Some(topic_id)) {
            self.delete_topic(changelog);
        }
        self.delete_one_topic(topic_id);
    }

    fn delete_one_topic(&mut self, topic_id: Uuid) {
        let keys = self.state.catalog.by_id(topic_id).map(|topic| topic.keys().collect::<Vec<_>>());
        keys.into_iter().flatten().for_each(|key| self.drop_idle(key));
        let Some(topic) = self.state.catalog.topic_mut(topic_id) else { return };
        let keys: Vec<PartitionKey> = topic.keys().collect();
        let stored_bytes = topic.stored_bytes();
        let mut under_way = Vec::new();
        for partition in &mut topic.partitions {
            self.fetches.touch(&partition.waiters);
            under_way.extend(partition.pending.drain());
        }
        self.commit(Fact::TopicDeleted { id: topic_id });
        let gone = refuse(ErrorCode::UnknownTopicOrPartition, "the topic was deleted");
        for admitted in under_way {
            self.pending_bytes -= admitted.batch.size_bytes();
            self.tickets.remove(&admitted.ticket);
            for slot in admitted.waiting {
                self.settle(PartitionKey::default(), slot, Settled::Refused(gone.clone()));
            }
        }
        self.after(self.current_seq(), Then::DropFiles(keys));
        if stored_bytes > 0 {
            self.space.let_go(stored_bytes);
            self.after(self.current_seq(), Then::Reclaim);
        }
        self.resume_produces();
    }

    pub(crate) fn on_create_partitions(
        &mut self,
        id: RequestId,
        request: &CreatePartitionsRequest,
    ) {
        let mut response = CreatePartitionsResponse::default();
        let mut seen = BTreeSet::new();
        let names = request.topics.iter().map(|topic| topic.name.as_str());
        let repeated: BTreeSet<&str> = names.filter(|name| !seen.insert(*name)).collect();
        for topic in &request.topics {
            let grown = if repeated.contains(topic.name.as_str()) {
                Err((ErrorCode::InvalidRequest, "Duplicate topic in request.".to_owned()))
            } else {
                self.plan_growth(topic)
            };
            let (code, message) = match grown {
                Ok((id, total)) => {
                    if !request.validate_only {
                        self.commit(Fact::PartitionsAdded { id, total });
                    }
                    (ErrorCode::None, None)
                }
                Err((code, message)) => (code, Some(message)),
            };
            response.results.push(CreatePartitionsTopicResult {
                name: topic.name.clone(),
                error_code: code.code(),
                error_message: message,
            });
        }
        self.reply_after(self.catalog_seq, id, Response::CreatePartitions(response));
    }

    fn plan_growth(&self, wanted: &CreatePartitionsTopic) -> Result<(Uuid, u32), Refused> {
        let topic = self.state.catalog.by_name(&wanted.name).ok_or_else(|| {
            let code = ErrorCode::UnknownTopicOrPartition;
            (code, code.message().to_owned())
        })?;
        if is_internal_topic(&topic.name) {
            return Err((ErrorCode::InvalidTopicException, INTERNAL_STAYS.to_owned()));
        }
        let now = topic.partitions.len();
        let total = usize::try_from(wanted.count).unwrap_or(0);
        if total <= now {
            let message = if total == now {
                format!("Topic already has {now} partition(s).")
            } else {
                let (name, count) = (&wanted.name, wanted.count);
                format!(
                    "The topic {name} currently has {now} partition(s); {count} would not be an increase."
                )
            };
            return Err((ErrorCode::InvalidPartitions, message));
        }
        if let Some(assignments) = &wanted.assignments {
            if assignments.len() != total - now {
                let message = format!(
                    "Attempted to add {} additional partition(s), but {} assignment(s) were specified.",
                    total - now,
                    assignments.len()
                );
                return Err((ErrorCode::InvalidReplicaAssignment, message));
            }
            for assignment in assignments {
                self.check_own_replica(&assignment.broker_ids)?;
            }
        }
        let count = self.check_partitions(wanted.count)?;
        // The state of its transforms grows with it.
        let grown = (total - now) * (1 + self.changelogs_grown_by(topic));
        if self.state.catalog.partitions_len() + grown > limits::PARTITIONS_MAX {
            let message = "this node holds as many partitions as it can".to_owned();
            return Err((ErrorCode::PolicyViolation, message));
        }
        Ok((topic.id, count))
    }

    /// Tells the shell which transforms are in force now.
    pub(crate) fn announce_transforms(&mut self) {
        let all = self.state.transforms.all();
        self.push_effect(Effect::TransformsChanged(all));
    }
}

/// What is wrong with how a topic to be deleted is named.
fn delete_problem(name: &Option<String>, topic_id: Uuid) -> Option<&'static str> {
    match (name, topic_id.is_zero()) {
        (None, true) => Some("Neither topic name nor id were specified."),
        (Some(_), false) => Some("You may not specify both topic name and topic id."),
        _ => None,
    }
}

const INTERNAL_STAYS: &str =
    "it is an internal topic, which goes and grows with what it belongs to";
const METADATA_TOPIC: &str = "__cluster_metadata";
const TOPIC_SOURCE: i8 = 1;
const DELETE_BY_ID_VERSION: i16 = 6;
