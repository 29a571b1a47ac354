//! Topics: create, delete, grow, settings, offsets.

use super::{Admin, OPERATION_TIMEOUT, RETRY_PAUSE, check};
use crate::client::expect_response;
use crate::connection::millis;
use crate::error::{CallError, ClientError};
use millpond_wire::ApiKey;
use millpond_wire::messages::create_partitions_request::CreatePartitionsTopic;
use millpond_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millpond_wire::messages::delete_topics_request::DeleteTopicState;
use millpond_wire::messages::describe_configs_request::DescribeConfigsResource;
use millpond_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use millpond_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millpond_wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, ListOffsetsRequest, ListOffsetsResponse, Request, Uuid,
};
use std::collections::BTreeMap;
use std::sync::Arc;

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;
/// From this version on a `true` default and a replication factor of -1 are understood.
const CREATE_WITH_DEFAULTS: i16 = 4;

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    partitions: i32,
    replication_factor: i16,
    settings: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's default number of partitions and copies.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            settings: BTreeMap::new(),
        }
    }

    /// Sets the number of partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets the number of copies.
    #[must_use]
    pub fn replication_factor(mut self, copies: i16) -> Self {
        self.replication_factor = copies;
        self
    }

    /// Adds a setting, such as `retention.ms`.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    fn into_wire(self) -> CreatableTopic {
        let configs = self.settings.into_iter();
        CreatableTopic {
            name: self.name,
            num_partitions: self.partitions,
            replication_factor: self.replication_factor,
            configs: configs
                .map(|(name, value)| CreatableTopicConfig { name, value: Some(value) })
                .collect(),
            ..Default::default()
        }
    }
}

/// A setting of a topic or broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value; `None` where it is secret or unset.
    pub value: Option<String>,
    /// Whether nobody has set it.
    pub is_default: bool,
    /// Whether it cannot be changed.
    pub is_read_only: bool,
}

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first one that is kept.
    Earliest,
    /// The one that the next record will take.
    Latest,
    /// Of the first record at or after this time (ms since 1970).
    AtTimestamp(i64),
}

impl OffsetSpec {
    /// Kafka's encoding of it (ListOffsets).
    pub(crate) fn timestamp(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::AtTimestamp(timestamp_ms) => timestamp_ms.max(0),
        }
    }
}

/// An offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The partition.
    pub partition: i32,
    /// The offset; -1 if no record is that young.
    pub offset: i64,
    /// The record's timestamp where it was asked for by time, else -1.
    pub timestamp_ms: i64,
}

impl Admin {
    /// Makes a topic.
    ///
    /// # Errors
    /// [`ClientError::Broker`], for example with `TopicAlreadyExists`.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<(), ClientError> {
        let what = format!("creating topic `{}`", topic.name);
        let needs_defaults = topic.partitions < 0 || topic.replication_factor < 0;
        let request = Request::CreateTopics(CreateTopicsRequest {
            topics: vec![topic.into_wire()],
            timeout_ms: timeout_ms(),
            ..Default::default()
        });
        let connection = self.client.control().await?;
        let api = ApiKey::CreateTopics;
        let version = connection
            .version(api)
            .filter(|version| !needs_defaults || *version >= CREATE_WITH_DEFAULTS);
        let version = version
            .ok_or_else(|| CallError::Unsupported { broker: connection.broker().clone(), api })?;
        let response = connection.call_version(request, version).await?;
        for result in expect_response!(connection, response, CreateTopics).topics {
            check(what.clone(), result.error_code, result.error_message)?;
        }
        Ok(())
    }

    /// Removes a topic and all its records.
    ///
    /// # Errors
    /// [`ClientError::Broker`], for example with `UnknownTopicOrPartition`.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        // Both forms: the version that is agreed on takes the one that it has.
        let request = Request::DeleteTopics(DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(name.to_owned()),
                topic_id: Uuid::default(),
            }],
            topic_names: vec![name.to_owned()],
            timeout_ms: timeout_ms(),
        });
        let (connection, response) = self.ask(request).await?;
        for result in expect_response!(connection, response, DeleteTopics).responses {
            let what = format!("deleting topic `{name}`");
            check(what, result.error_code, result.error_message)?;
        }
        Ok(())
    }

    /// Gives a topic more partitions: `count` is the new total.
    ///
    /// # Errors
    /// [`ClientError::Broker`], for example with `InvalidPartitions`.
    pub async fn create_partitions(&self, name: &str, count: i32) -> Result<(), ClientError> {
        let request = Request::CreatePartitions(CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: name.to_owned(), count, assignments: None }],
            timeout_ms: timeout_ms(),
            validate_only: false,
        });
        let (connection, response) = self.ask(request).await?;
        for result in expect_response!(connection, response, CreatePartitions).results {
            let what = format!("adding partitions to topic `{name}`");
            check(what, result.error_code, result.error_message)?;
        }
        Ok(())
    }

    /// The settings of a topic.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn topic_settings(&self, name: &str) -> Result<Vec<Setting>, ClientError> {
        self.settings(RESOURCE_TOPIC, name).await
    }

    /// The settings of a broker.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn broker_settings(&self, broker_id: i32) -> Result<Vec<Setting>, ClientError> {
        self.settings(RESOURCE_BROKER, &broker_id.to_string()).await
    }

    /// Changes settings of a topic, the others stay: a value, or `None` for the default.
    ///
    /// # Errors
    /// [`ClientError::Broker`], for example with `InvalidConfig`; then nothing is changed.
    pub async fn alter_topic_settings(
        &self,
        name: &str,
        settings: &[(&str, Option<&str>)],
    ) -> Result<(), ClientError> {
        let config = |(name, value): &(&str, Option<&str>)| AlterableConfig {
            name: (*name).to_owned(),
            // Kafka: 0 sets, 1 deletes.
            config_operation: i8::from(value.is_none()),
            value: value.map(str::to_owned),
        };
        let request = Request::IncrementalAlterConfigs(IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: name.to_owned(),
                configs: settings.iter().map(config).collect(),
            }],
            validate_only: false,
        });
        let (connection, response) = self.ask(request).await?;
        for result in expect_response!(connection, response, IncrementalAlterConfigs).responses {
            let what = format!("changing the settings of topic `{name}`");
            check(what, result.error_code, result.error_message)?;
        }
        Ok(())
    }

    async fn settings(&self, kind: i8, name: &str) -> Result<Vec<Setting>, ClientError> {
        let request = Request::DescribeConfigs(DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: kind,
                resource_name: name.to_owned(),
                configuration_keys: None,
            }],
            ..Default::default()
        });
        let (connection, response) = self.ask(request).await?;
        let mut settings = Vec::new();
        for result in expect_response!(connection, response, DescribeConfigs).results {
            let what = format!("describing the settings of `{name}`");
            check(what, result.error_code, result.error_message)?;
            settings.extend(result.configs.into_iter().map(|config| Setting {
                name: config.name,
                value: config.value,
                // Kafka: 5 is the default; older brokers say -1, unknown.
                is_default: config.config_source == 5,
                is_read_only: config.read_only,
            }));
        }
        Ok(settings)
    }

    /// An offset of every partition of `topic`, by partition.
    ///
    /// # Errors
    /// [`ClientError`], also while a partition has no leader for half a minute.
    pub async fn list_offsets(
        &self,
        topic: &str,
        spec: OffsetSpec,
    ) -> Result<Vec<PartitionOffset>, ClientError> {
        let started = tokio::time::Instant::now();
        loop {
            let error = match self.list_offsets_once(topic, spec).await {
                Err(error) if error.is_retriable() => error,
                outcome => return outcome,
            };
            if started.elapsed() >= OPERATION_TIMEOUT {
                return Err(ClientError::GaveUp {
                    what: format!("listing the offsets of topic `{topic}`"),
                    after_ms: millis(OPERATION_TIMEOUT),
                    last: Box::new(error),
                });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn list_offsets_once(
        &self,
        topic: &str,
        spec: OffsetSpec,
    ) -> Result<Vec<PartitionOffset>, ClientError> {
        let name: Arc<str> = topic.into();
        let cluster = self.client.refresh(std::slice::from_ref(&name), false).await?;
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in cluster.topics.get(&name).into_iter().flat_map(|t| &t.partitions) {
            let leader = partition.leader.ok_or_else(|| ClientError::NotFound {
                what: format!("the leader of {topic}/{}", partition.index),
            })?;
            by_leader.entry(leader).or_default().push(partition.index);
        }
        let mut offsets = Vec::new();
        for (leader, partitions) in by_leader {
            let connection = self.client.lane(leader).await?;
            let request = list_offsets_request(topic, &partitions, spec);
            let response = connection.call(request).await?;
            let response = expect_response!(connection, response, ListOffsets);
            offsets.extend(partition_offsets(topic, response)?);
        }
        offsets.sort_by_key(|offset: &PartitionOffset| offset.partition);
        Ok(offsets)
    }
}

/// Asks for the same offset of several partitions of one topic.
pub(crate) fn list_offsets_request(topic: &str, partitions: &[i32], spec: OffsetSpec) -> Request {
    let partition = |index: &i32| ListOffsetsPartition {
        partition_index: *index,
        timestamp: spec.timestamp(),
        ..Default::default()
    };
    Request::ListOffsets(ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 0,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: partitions.iter().map(partition).collect(),
        }],
        ..Default::default()
    })
}

/// What a broker answered about one topic.
pub(crate) fn partition_offsets(
    topic: &str,
    response: ListOffsetsResponse,
) -> Result<Vec<PartitionOffset>, ClientError> {
    let mut offsets = Vec::new();
    for partition in response.topics.into_iter().flat_map(|topic| topic.partitions) {
        let what = format!("listing the offsets of {topic}/{}", partition.partition_index);
        check(what, partition.error_code, None)?;
        offsets.push(PartitionOffset {
            partition: partition.partition_index,
            offset: partition.offset,
            timestamp_ms: partition.timestamp,
        });
    }
    Ok(offsets)
}

fn timeout_ms() -> i32 {
    i32::try_from(millis(OPERATION_TIMEOUT)).unwrap_or(i32::MAX)
}
