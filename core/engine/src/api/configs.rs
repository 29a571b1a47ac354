//! DescribeConfigs for topics and for the node: all names, with values, sources and synonyms.
//! Tools break on names that are left out, so nothing is.

use crate::engine::Engine;
use crate::topic::Topic;
use crate::topic_config::{self, TOPIC_CONFIGS, TopicConfig};
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::describe_configs_request::DescribeConfigsResource;
use millpond_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use millpond_wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse, Response};

impl Engine {
    pub(crate) fn on_describe_configs(&mut self, id: RequestId, request: &DescribeConfigsRequest) {
        let mut response = DescribeConfigsResponse::default();
        for resource in &request.resources {
            let mut result = DescribeConfigsResult {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                ..DescribeConfigsResult::default()
            };
            match self.configs_of(resource) {
                Ok(configs) => result.configs = configs,
                Err((code, message)) => {
                    result.error_code = code.code();
                    result.error_message = Some(message.to_owned());
                }
            }
            let keys = resource.configuration_keys.as_deref();
            result.configs.retain(|config| keys.is_none_or(|keys| keys.contains(&config.name)));
            for config in &mut result.configs {
                if !request.include_synonyms {
                    config.synonyms.clear();
                }
                if !request.include_documentation {
                    config.documentation = None;
                }
            }
            response.results.push(result);
        }
        self.reply_after(self.catalog_seq, id, Response::DescribeConfigs(response));
    }

    fn configs_of(
        &self,
        resource: &DescribeConfigsResource,
    ) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, &'static str)> {
        match resource.resource_type {
            TOPIC => {
                let topic = self.state.catalog.by_name(&resource.resource_name);
                let topic = topic.ok_or((ErrorCode::UnknownTopicOrPartition, "no such topic"))?;
                Ok(TOPIC_CONFIGS.iter().map(|config| self.topic_row(topic, config)).collect())
            }
            BROKER if resource.resource_name == self.config.node_id.to_string() => {
                Ok(self.broker_rows())
            }
            // The defaults of all brokers: nothing can be set there.
            BROKER if resource.resource_name.is_empty() => Ok(Vec::new()),
            BROKER => Err((ErrorCode::InvalidRequest, "this node has another id")),
            _ => Err((ErrorCode::InvalidRequest, "only topics and brokers have configurations")),
        }
    }

    fn topic_row(&self, topic: &Topic, config: &TopicConfig) -> DescribeConfigsResourceResult {
        let (default, default_source) = self.node_default(config);
        let own = topic.configs.get(config.name);
        let mut synonyms = Vec::new();
        if let Some(value) = own {
            synonyms.push(synonym(config.name, value, TOPIC_SOURCE));
        }
        synonyms.push(synonym(config.synonym, &default, default_source));
        DescribeConfigsResourceResult {
            name: config.name.to_owned(),
            config_source: if own.is_some() { TOPIC_SOURCE } else { default_source },
            value: Some(own.cloned().unwrap_or(default)),
            read_only: false,
            is_sensitive: false,
            synonyms,
            config_type: config.kind.code(),
            documentation: Some(config.doc.to_owned()),
        }
    }

    /// What a topic gets that does not say, and where that stands.
    fn node_default(&self, config: &TopicConfig) -> (String, i8) {
        if config.name == topic_config::MAX_MESSAGE_BYTES {
            let own = self.config.message_max_bytes;
            let is_default = own == limits::DEFAULT_MAX_MESSAGE_BYTES as i32;
            return (own.to_string(), if is_default { DEFAULT_SOURCE } else { STATIC_SOURCE });
        }
        (config.default.to_owned(), DEFAULT_SOURCE)
    }

    fn broker_rows(&self) -> Vec<DescribeConfigsResourceResult> {
        let mut rows: Vec<DescribeConfigsResourceResult> = TOPIC_CONFIGS
            .iter()
            .map(|config| {
                let (value, source) = self.node_default(config);
                broker_row(config.synonym, value, source, config.kind.code(), config.doc)
            })
            .collect();
        for (name, value, kind, doc) in self.node_settings() {
            rows.push(broker_row(name, value, STATIC_SOURCE, kind, doc));
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows.dedup_by(|a, b| a.name == b.name);
        rows
    }

    /// The node's own settings under Kafka's names.
    #[rustfmt::skip]
    fn node_settings(&self) -> Vec<(&'static str, String, i8, &'static str)> {
        let config = &self.config;
        let listeners: Vec<String> = config.advertised.values()
            .map(|address| format!("PLAINTEXT://{}:{}", address.host, address.port))
            .collect();
        vec![
            ("advertised.listeners", listeners.join(","), STRING, "Where clients are told to connect."),
            ("auto.create.topics.enable", config.auto_create_topics.to_string(), BOOLEAN, "Create topics that clients ask for."),
            ("broker.id", config.node_id.to_string(), INT, "The id of this node."),
            ("broker.rack", String::new(), STRING, "The rack of this node."),
            ("default.replication.factor", "1".to_owned(), INT, "Replicas of a topic that does not say."),
            ("delete.topic.enable", "true".to_owned(), BOOLEAN, "Topics can be deleted."),
            ("fetch.max.bytes", config.fetch_max_bytes.to_string(), INT, "Most bytes of one fetch answer."),
            ("group.consumer.assignors", "uniform,range".to_owned(), LIST, "How the node shares out partitions."),
            ("group.consumer.heartbeat.interval.ms", config.consumer_heartbeat_interval_ms.to_string(), INT, "How often members of consumer groups are told to send a heartbeat."),
            ("group.consumer.max.size", limits::GROUP_MEMBERS_MAX.to_string(), INT, "Most members of a consumer group."),
            ("group.consumer.migration.policy", "disabled".to_owned(), STRING, "A group with members does not change its protocol."),
            ("group.consumer.session.timeout.ms", config.consumer_session_timeout_ms.to_string(), INT, "Silence after which a member of a consumer group is out."),
            ("group.initial.rebalance.delay.ms", config.group_initial_rebalance_delay_ms.to_string(), INT, "How long a new group waits for more members."),
            ("group.max.session.timeout.ms", config.group_max_session_timeout_ms.to_string(), INT, "Longest session timeout of a member."),
            ("group.max.size", limits::GROUP_MEMBERS_MAX.to_string(), INT, "Most members of a group."),
            ("group.min.session.timeout.ms", config.group_min_session_timeout_ms.to_string(), INT, "Shortest session timeout of a member."),
            ("inter.broker.protocol.version", "3.7".to_owned(), STRING, "The Kafka release whose protocol is closest to what is served."),
            ("node.id", config.node_id.to_string(), INT, "The id of this node."),
            ("num.partitions", config.num_partitions.to_string(), INT, "Partitions of a topic that does not say."),
            ("offset.metadata.max.bytes", limits::OFFSET_METADATA_BYTES_MAX.to_string(), INT, "Longest metadata of a committed offset."),
            ("offsets.retention.minutes", (config.offsets_retention_ms / 60_000).to_string(), INT, "How long an empty group keeps its offsets."),
            ("offsets.retention.check.interval.ms", config.offsets_check_ms.to_string(), INT, "How often committed offsets are checked for their age."),
            ("process.roles", "broker,controller".to_owned(), LIST, "What this node does."),
            ("socket.request.max.bytes", limits::FRAME_BYTES_MAX.to_string(), INT, "Largest request."),
        ]
    }
}

fn broker_row(
    name: &str,
    value: String,
    source: i8,
    kind: i8,
    doc: &str,
) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: name.to_owned(),
        synonyms: vec![synonym(name, &value, source)],
        value: Some(value),
        read_only: true,
        config_source: source,
        is_sensitive: false,
        config_type: kind,
        documentation: Some(doc.to_owned()),
    }
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.to_owned(), value: Some(value.to_owned()), source }
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const TOPIC_SOURCE: i8 = 1;
const STATIC_SOURCE: i8 = 4;
const DEFAULT_SOURCE: i8 = 5;
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LIST: i8 = 7;
