//! AlterConfigs and IncrementalAlterConfigs: topics only; the node's own settings stand in its
//! configuration file. A topic that cannot get all of what is asked for gets nothing of it.

use crate::engine::Engine;
use crate::entry::Fact;
use crate::topic_config;
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, Response, alter_configs_response,
    incremental_alter_configs_request, incremental_alter_configs_response,
};
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

/// Why a resource is left as it is.
type Refused = (ErrorCode, String);

impl Engine {
    pub(crate) fn on_alter_configs(&mut self, id: RequestId, request: &AlterConfigsRequest) {
        let mut response = AlterConfigsResponse::default();
        for resource in &request.resources {
            let plan = self.alterable(resource.resource_type, &resource.resource_name);
            let plan = plan.and_then(|(topic_id, _)| {
                let mut configs = BTreeMap::new();
                for config in &resource.configs {
                    let Some(value) = &config.value else {
                        let message = format!("configuration {} has no value", config.name);
                        return Err((ErrorCode::InvalidConfig, message));
                    };
                    configs.insert(config.name.clone(), value.clone());
                }
                Ok((topic_id, configs))
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
        self.reply_after(self.catalog_seq, id, Response::AlterConfigs(response));
    }

    pub(crate) fn on_incremental_alter_configs(
        &mut self,
        id: RequestId,
        request: &IncrementalAlterConfigsRequest,
    ) {
        let mut response = IncrementalAlterConfigsResponse::default();
        for resource in &request.resources {
            let plan = self.alterable(resource.resource_type, &resource.resource_name);
            let plan = plan.and_then(|(topic_id, mut configs)| {
                for change in &resource.configs {
                    apply(&mut configs, change)?;
                }
                Ok((topic_id, configs))
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
        self.reply_after(self.catalog_seq, id, Response::IncrementalAlterConfigs(response));
    }

    /// The topic that a resource means, and its configuration.
    fn alterable(
        &self,
        resource_type: i8,
        name: &str,
    ) -> Result<(Uuid, BTreeMap<String, String>), Refused> {
        match resource_type {
            TOPIC => {
                let topic = self.state.catalog.by_name(name).ok_or_else(|| {
                    (ErrorCode::UnknownTopicOrPartition, "there is no such topic".to_owned())
                })?;
                Ok((topic.id, topic.configs.clone()))
            }
            BROKER => {
                let message = "the node's settings stand in its configuration file";
                Err((ErrorCode::InvalidConfig, message.to_owned()))
            }
            _ => Err((ErrorCode::InvalidRequest, "only topics can be configured".to_owned())),
        }
    }

    fn alter(
        &mut self,
        plan: Result<(Uuid, BTreeMap<String, String>), Refused>,
        resources: usize,
        validate_only: bool,
    ) -> (ErrorCode, Option<String>) {
        if resources > limits::TOPICS_PER_ADMIN_REQUEST_MAX {
            return (ErrorCode::InvalidRequest, Some("too many topics in one request".to_owned()));
        }
        match plan {
            Err((code, message)) => (code, Some(message)),
            Ok((id, configs)) => match topic_config::validate(&configs) {
                Err(error) => (ErrorCode::InvalidConfig, Some(error.to_string())),
                Ok(()) => {
                    if !validate_only {
                        self.commit(Fact::TopicConfigured { id, configs });
                    }
                    (ErrorCode::None, None)
                }
            },
        }
    }
}

/// One change of KIP-339.
fn apply(
    configs: &mut BTreeMap<String, String>,
    change: &incremental_alter_configs_request::AlterableConfig,
) -> Result<(), Refused> {
    let name = &change.name;
    let config = topic_config::find(name).ok_or_else(|| {
        (ErrorCode::InvalidConfig, topic_config::ConfigError::Unknown(name.clone()).to_string())
    })?;
    if change.config_operation == DELETE {
        configs.remove(name);
        return Ok(());
    }
    let value = change
        .value
        .as_deref()
        .ok_or_else(|| (ErrorCode::InvalidConfig, format!("configuration {name} has no value")))?;
    let new = match change.config_operation {
        SET => value.to_owned(),
        APPEND | SUBTRACT if config.kind.is_list() => {
            let now = configs.get(name).map_or(config.default, String::as_str);
            let given: Vec<&str> = value.split(',').map(str::trim).collect();
            let mut items: Vec<&str> = now.split(',').filter(|item| !item.is_empty()).collect();
            items.retain(|item| !given.contains(&item.trim()));
            if change.config_operation == APPEND {
                items.extend(given);
            }
            items.join(",")
        }
        APPEND | SUBTRACT => {
            return Err((ErrorCode::InvalidConfig, format!("configuration {name} is no list")));
        }
        _ => return Err((ErrorCode::InvalidRequest, "unknown operation".to_owned())),
    };
    configs.insert(name.clone(), new);
    Ok(())
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
