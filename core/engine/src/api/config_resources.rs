//! ListConfigResources (KIP-1142): the names that DescribeConfigs has answers for.

use crate::engine::Engine;
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::list_config_resources_response::ConfigResource;
use millpond_wire::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse, Response};

impl Engine {
    pub(crate) fn on_list_resources(
        &mut self,
        id: RequestId,
        request: &ListConfigResourcesRequest,
        version: i16,
    ) {
        let mut response = ListConfigResourcesResponse::default();
        // Version 0 asks for the metrics of clients, which are not collected here.
        let asked: &[i8] = match version {
            0 => &[CLIENT_METRICS],
            _ if request.resource_types.is_empty() => KNOWN,
            _ => &request.resource_types,
        };
        if asked.iter().any(|kind| !KNOWN.contains(kind)) {
            response.error_code = ErrorCode::UnsupportedVersion.code();
            return self.reply(id, Response::ListConfigResources(response));
        }
        let mut add = |resource_name: String, resource_type| {
            response.config_resources.push(ConfigResource { resource_name, resource_type });
        };
        if asked.contains(&TOPIC) {
            self.state.catalog.iter().for_each(|topic| add(topic.name.clone(), TOPIC));
        }
        if asked.contains(&BROKER) {
            add(self.config.node_id.to_string(), BROKER);
        }
        self.reply_after(self.catalog_seq, id, Response::ListConfigResources(response));
    }
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
/// Of the last three there is none that has a setting.
const KNOWN: &[i8] = &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
