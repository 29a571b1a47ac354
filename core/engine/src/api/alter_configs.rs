//! AlterConfigs and IncrementalAlterConfigs: of topics, and those of the broker that topics get where
//! they do not say themselves. A resource that cannot get all of what is asked for gets nothing of it.

use crate::changelog::is_internal_topic;
use crate::engine::Engine;
use crate::entry::Fact;
use crate::setting::{BrokerScope, SettingFact};
use crate::topic_config::{
    self, ConfigError, ConfigKind, THROTTLE_RATES, TOPIC_CONFIGS, TopicConfig,
};
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::incremental_alter_configs_request::AlterableConfig;
use millpond_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, Response, alter_configs_response,
    incremental_alter_configs_response,
};
use millpond_wire::uuid::Uuid;
use std::collections::{BTreeMap, BTreeSet};

/// Why a resource is left as it is.
type Refused = (ErrorCode, String);
type Configs = BTreeMap<String, String>;

/// What is configured.
#[derive(Clone, Copy)]
enum Target {
    Topic(Uuid),
    Broker(BrokerScope),
}

/// What a name may hold.
struct Rule {
    kind: ConfigKind,
    /// What lists are changed from when nothing is set.
    default: &'static str,
    config: Option<&'static TopicConfig>,
}

impl Engine {
    pub(crate) fn on_alter_configs(&mut self, id: RequestId, request: &AlterConfigsRequest) {
        let mut response = AlterConfigsResponse::default();
        for resource in &request.resources {
            let target = self.target(resource.resource_type, &resource.resource_name);
            let plan = target.and_then(|(target, _)| {
                let mut configs = Configs::new();
                for config in &resource.configs {
                    let value = config.value.as_deref().ok_or_else(|| no_value(&config.name))?;
                    let rule = target.rule(&config.name)?;
                    configs.insert(config.name.clone(), rule.accept(&config.name, value)?);
                }
                Ok((target, configs))
            });
            let (code, error_message) =
                self.alter(plan, request.resources.len(), request.validate_only);
            response.responses.push(alter_configs_response::AlterConfigsResourceResponse {
                error_code: code.code(),
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            });
        }
        let seq = self.catalog_seq.max(self.settings_seq);
        self.reply_after(seq, id, Response::AlterConfigs(response));
    }

    pub(crate) fn on_incremental_alter_configs(
        &mut self,
        id: RequestId,
        request: &IncrementalAlterConfigsRequest,
    ) {
        let mut response = IncrementalAlterConfigsResponse::default();
        for resource in &request.resources {
            let target = self.target(resource.resource_type, &resource.resource_name);
            let plan = target.and_then(|(target, mut configs)| {
                check_repeats(&resource.configs)?;
                for change in &resource.configs {
                    apply(&mut configs, target, change)?;
                }
                Ok((target, configs))
            });
            let (code, error_message) =
                self.alter(plan, request.resources.len(), request.validate_only);
            let answer = incremental_alter_configs_response::AlterConfigsResourceResponse {
                error_code: code.code(),
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            };
            response.responses.push(answer);
        }
        let seq = self.catalog_seq.max(self.settings_seq);
        self.reply_after(seq, id, Response::IncrementalAlterConfigs(response));
    }

    /// What a resource means, and its configuration.
    fn target(&self, resource_type: i8, name: &str) -> Result<(Target, Configs), Refused> {
        match resource_type {
            TOPIC => {
                let code = ErrorCode::UnknownTopicOrPartition;
                let topic = self.state.catalog.by_name(name);
                let topic = topic.ok_or_else(|| (code, code.message().to_owned()))?;
                if is_internal_topic(name) {
                    let message = "an internal topic is configured by the node alone".to_owned();
                    return Err((ErrorCode::InvalidTopicException, message));
                }
                Ok((Target::Topic(topic.id), topic.configs.clone()))
            }
            BROKER => {
                let scope = self.broker_scope(name)?;
                Ok((Target::Broker(scope), self.state.broker_configs.of(scope).clone()))
            }
            _ => {
                let message = "only topics and brokers can be configured here".to_owned();
                Err((ErrorCode::InvalidRequest, message))
            }
        }
    }

    fn alter(
        &mut self,
        plan: Result<(Target, Configs), Refused>,
        resources: usize,
        validate_only: bool,
    ) -> (ErrorCode, Option<String>) {
        if resources > limits::TOPICS_PER_ADMIN_REQUEST_MAX {
            return (ErrorCode::InvalidRequest, Some("too many topics in one request".to_owned()));
        }
        let (target, configs) = match plan {
            Ok(plan) => plan,
            Err((code, message)) => return (code, Some(message)),
        };
        if configs.len() > limits::TOPIC_CONFIGS_MAX {
            let message = ConfigError::TooMany(configs.len()).to_string();
            return (ErrorCode::InvalidConfig, Some(message));
        }
        if !validate_only {
            self.commit(match target {
                Target::Topic(id) => Fact::TopicConfigured { id, configs },
                Target::Broker(scope) => {
                    Fact::Setting(SettingFact::BrokerConfigured { scope, configs })
                }
            });
        }
        (ErrorCode::None, None)
    }
}

impl Target {
    fn rule(self, name: &str) -> Result<Rule, Refused> {
        let of = |config: &'static TopicConfig| Rule {
            kind: config.kind,
            default: config.default,
            config: Some(config),
        };
        match self {
            Target::Topic(_) => {
                let config = topic_config::find(name).ok_or_else(|| {
                    let unknown = ConfigError::Unknown(name.to_owned());
                    (ErrorCode::InvalidConfig, unknown.to_string())
                })?;
                Ok(of(config))
            }
            Target::Broker(_) => {
                let mut rows = TOPIC_CONFIGS.iter();
                let found = rows.find(|row| topic_config::broker_name(row) == Some(name));
                if let Some(config) = found {
                    return Ok(of(config));
                }
                if THROTTLE_RATES.contains(&name) {
                    return Ok(Rule { kind: ConfigKind::Long(0), default: "", config: None });
                }
                let message = format!("Cannot update these configs dynamically: Set({name})");
                Err((ErrorCode::InvalidRequest, message))
            }
        }
    }
}

impl Rule {
    /// The value as it is kept.
    fn accept(&self, name: &str, value: &str) -> Result<String, Refused> {
        let accepted = match self.config {
            Some(config) => topic_config::accept(config, name, value),
            None => match self.kind.problem(value.trim()) {
                None => Ok(value.trim().to_owned()),
                Some(problem) => {
                    let value = value.chars().take(64).collect();
                    Err(ConfigError::Value { name: name.to_owned(), value, problem })
                }
            },
        };
        accepted.map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))
    }
}

fn no_value(name: &str) -> Refused {
    (ErrorCode::InvalidRequest, format!("Null value not supported for : {name}"))
}

fn check_repeats(changes: &[AlterableConfig]) -> Result<(), Refused> {
    let mut seen = BTreeSet::new();
    match changes.iter().find(|change| !seen.insert(change.name.as_str())) {
        None => Ok(()),
        Some(change) => {
            let message = format!("Error due to duplicate config keys: {}", change.name);
            Err((ErrorCode::InvalidRequest, message))
        }
    }
}

/// One change of KIP-339.
fn apply(configs: &mut Configs, target: Target, change: &AlterableConfig) -> Result<(), Refused> {
    let name = &change.name;
    if change.config_operation == DELETE {
        // What is there goes, whatever may be set today.
        if configs.remove(name).is_none() {
            target.rule(name)?;
        }
        return Ok(());
    }
    let rule = target.rule(name)?;
    let value = change.value.as_deref().ok_or_else(|| no_value(name))?;
    let new = match change.config_operation {
        SET => value.to_owned(),
        APPEND | SUBTRACT if rule.kind.is_list() => {
            let now = configs.get(name).map_or(rule.default, String::as_str);
            let given: Vec<&str> = value.split(',').map(str::trim).collect();
            let mut items: Vec<&str> = now.split(',').filter(|item| !item.is_empty()).collect();
            items.retain(|item| !given.contains(&item.trim()));
            if change.config_operation == APPEND {
                items.extend(given);
            }
            items.join(",")
        }
        operation @ (APPEND | SUBTRACT) => {
            let operation = if operation == APPEND { "APPEND" } else { "SUBTRACT" };
            let message = format!("Can't {operation} to key {name} because its type is not LIST.");
            return Err((ErrorCode::InvalidConfig, message));
        }
        other => {
            return Err((ErrorCode::InvalidRequest, format!("Unknown operation type {other}")));
        }
    };
    configs.insert(name.clone(), rule.accept(name, &new)?);
    Ok(())
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
