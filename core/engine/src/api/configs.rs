//! DescribeConfigs for topics and for the node: all names, with values, sources and synonyms.
//! Tools break on names that are left out, so nothing is.

use crate::engine::Engine;
use crate::setting::BrokerScope;
use crate::topic::Topic;
use crate::topic_config::{self, THROTTLE_RATES, TOPIC_CONFIGS, TopicConfig};
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::describe_configs_request::DescribeConfigsResource;
use millpond_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use millpond_wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse, Response};
use millpond_wire::topic_name;

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
                    result.error_message = Some(message);
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
    ) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
        let name = &resource.resource_name;
        match resource.resource_type {
            TOPIC => {
                if let Some(problem) = topic_name::problem(name) {
                    let message = format!("Topic name is invalid: {problem}");
                    return Err((ErrorCode::InvalidTopicException, message));
                }
                let code = ErrorCode::UnknownTopicOrPartition;
                let topic = self.state.catalog.by_name(name);
                let topic = topic.ok_or_else(|| (code, code.message().to_owned()))?;
                Ok(TOPIC_CONFIGS.iter().map(|config| self.topic_row(topic, config)).collect())
            }
            BROKER => match self.broker_scope(name)? {
                BrokerScope::Own => Ok(self.broker_rows()),
                BrokerScope::All => Ok(self.common_rows()),
            },
            _ => {
                let message = "only topics and brokers have configurations here".to_owned();
                Err((ErrorCode::InvalidRequest, message))
            }
        }
    }

    /// Whose settings a broker resource means: of the node of that id, or of all for an empty name.
    pub(crate) fn broker_scope(&self, name: &str) -> Result<BrokerScope, (ErrorCode, String)> {
        let own = self.config.node_id;
        if name.is_empty() {
            return Ok(BrokerScope::All);
        }
        if name.parse() == Ok(own) {
            return Ok(BrokerScope::Own);
        }
        let message =
            format!("Unexpected broker id, expected {own} or empty string, but received {name}");
        Err((ErrorCode::InvalidRequest, message))
    }

    fn topic_row(&self, topic: &Topic, config: &TopicConfig) -> DescribeConfigsResourceResult {
        let own = topic.configs.get(config.name);
        let mut synonyms: Vec<_> =
            own.map(|value| synonym(config.name, value, TOPIC_SOURCE)).into_iter().collect();
        synonyms.extend(self.node_values(config));
        row(config.name, config, synonyms, config.is_read_only)
    }

    /// What the node says for topics that do not, the value that counts first.
    fn node_values(&self, config: &TopicConfig) -> Vec<DescribeConfigsSynonym> {
        let name = config.synonym;
        let dynamic = self.state.broker_configs.values(name).map(|(scope, value)| {
            let source = if scope == BrokerScope::Own { BROKER_SOURCE } else { COMMON_SOURCE };
            synonym(name, value, source)
        });
        let mut values: Vec<_> = dynamic.collect();
        let own = self.config.message_max_bytes;
        let is_max = config.name == topic_config::MAX_MESSAGE_BYTES;
        if is_max && own != limits::DEFAULT_MAX_MESSAGE_BYTES as i32 {
            values.push(synonym(name, &own.to_string(), STATIC_SOURCE));
        }
        values.push(synonym(name, config.default, DEFAULT_SOURCE));
        values
    }

    /// What a topic gets that does not say, and where that stands.
    pub(crate) fn node_default(&self, config: &TopicConfig) -> (String, i8) {
        let first = self.node_values(config).into_iter().next();
        first.map_or((config.default.to_owned(), DEFAULT_SOURCE), |first| {
            (first.value.unwrap_or_default(), first.source)
        })
    }

    /// What is set for all brokers.
    fn common_rows(&self) -> Vec<DescribeConfigsResourceResult> {
        let common = self.state.broker_configs.of(BrokerScope::All);
        let rows = TOPIC_CONFIGS.iter().filter_map(|config| {
            let value = common.get(config.synonym)?;
            let synonyms = vec![synonym(config.synonym, value, COMMON_SOURCE)];
            Some(row(config.synonym, config, synonyms, false))
        });
        let rates = THROTTLE_RATES.iter().filter_map(|name| {
            let value = common.get(*name)?;
            Some(broker_row(name, value.clone(), COMMON_SOURCE, LONG, THROTTLE_DOC))
        });
        let mut rows: Vec<_> = rows.chain(rates).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows.dedup_by(|a, b| a.name == b.name);
        rows
    }

    fn broker_rows(&self) -> Vec<DescribeConfigsResourceResult> {
        let mut rows: Vec<DescribeConfigsResourceResult> = TOPIC_CONFIGS
            .iter()
            .filter(|config| !is_replica_list(config))
            .map(|config| {
                let is_read_only = topic_config::broker_name(config).is_none();
                row(config.synonym, config, self.node_values(config), is_read_only)
            })
            .collect();
        for (name, value, kind, doc) in self.node_settings() {
            rows.push(broker_row(name, value, STATIC_SOURCE, kind, doc));
        }
        for name in THROTTLE_RATES {
            if let Some((scope, value)) = self.state.broker_configs.values(name).next() {
                let source = if scope == BrokerScope::Own { BROKER_SOURCE } else { COMMON_SOURCE };
                rows.push(broker_row(name, value.to_owned(), source, LONG, THROTTLE_DOC));
            }
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
            ("group.consumer.max.size", config.group_max_size.to_string(), INT, "Most members of a consumer group."),
            ("group.consumer.migration.policy", "disabled".to_owned(), STRING, "A group with members does not change its protocol."),
            ("group.consumer.session.timeout.ms", config.consumer_session_timeout_ms.to_string(), INT, "Silence after which a member of a consumer group is out."),
            ("group.initial.rebalance.delay.ms", config.group_initial_rebalance_delay_ms.to_string(), INT, "How long a new group waits for more members."),
            ("group.max.session.timeout.ms", config.group_max_session_timeout_ms.to_string(), INT, "Longest session timeout of a member."),
            ("group.max.size", config.group_max_size.to_string(), INT, "Most members of a group."),
            ("group.min.session.timeout.ms", config.group_min_session_timeout_ms.to_string(), INT, "Shortest session timeout of a member."),
            ("inter.broker.protocol.version", "4.0-IV3".to_owned(), STRING, "The Kafka release whose protocol is closest to what is served."),
            ("log.dirs", config.log_dir.clone(), STRING, "Where everything is stored."),
            ("max.incremental.fetch.session.cache.slots", limits::FETCH_SESSIONS_MAX.to_string(), INT, "Most fetch sessions; further consumers are served without one."),
            ("max.request.partition.size.limit", limits::PARTITIONS_PER_DESCRIBE_MAX.to_string(), INT, "Most partitions in one page of a description."),
            ("min.incremental.fetch.session.eviction.ms", limits::FETCH_SESSION_KEPT_MS.to_string(), LONG, "A fetch session used within this time makes room for no other."),
            ("node.id", config.node_id.to_string(), INT, "The id of this node."),
            ("num.partitions", config.num_partitions.to_string(), INT, "Partitions of a topic that does not say."),
            ("offset.metadata.max.bytes", limits::OFFSET_METADATA_BYTES_MAX.to_string(), INT, "Longest metadata of a committed offset."),
            ("offsets.retention.minutes", (config.offsets_retention_ms / 60_000).to_string(), INT, "How long an empty group keeps its offsets."),
            ("offsets.retention.check.interval.ms", config.offsets_check_ms.to_string(), INT, "How often committed offsets are checked for their age."),
            ("process.roles", "broker,controller".to_owned(), LIST, "What this node does."),
            ("socket.request.max.bytes", limits::FRAME_BYTES_MAX.to_string(), INT, "Largest request."),
            ("transaction.max.timeout.ms", config.transaction_max_timeout_ms.to_string(), INT, "Longest timeout of a transaction that a producer may ask for."),
            ("transactional.id.expiration.ms", config.transactional_id_expiration_ms.to_string(), INT, "How long a transactional id is remembered that nobody uses."),
        ]
    }
}

/// A row of a topic's configuration, under the topic's name for it or the broker's. The first
/// synonym is what counts.
fn row(
    name: &str,
    config: &TopicConfig,
    synonyms: Vec<DescribeConfigsSynonym>,
    read_only: bool,
) -> DescribeConfigsResourceResult {
    let first = synonyms.first();
    DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: first.and_then(|first| first.value.clone()),
        config_source: first.map_or(DEFAULT_SOURCE, |first| first.source),
        read_only,
        is_sensitive: false,
        synonyms,
        config_type: config.kind.code(),
        documentation: Some(config.doc.to_owned()),
    }
}

/// The lists of throttled replicas are of topics only.
fn is_replica_list(config: &TopicConfig) -> bool {
    config.name == config.synonym && config.kind.is_list()
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
        read_only: !matches!(source, BROKER_SOURCE | COMMON_SOURCE),
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
const BROKER_SOURCE: i8 = 2;
const COMMON_SOURCE: i8 = 3;
const STATIC_SOURCE: i8 = 4;
const DEFAULT_SOURCE: i8 = 5;
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const LIST: i8 = 7;
const THROTTLE_DOC: &str =
    "For kafka-reassign-partitions, which sets it. Nothing is copied between brokers here.";
