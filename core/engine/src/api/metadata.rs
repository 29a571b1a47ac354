//! Metadata: which topics there are and that this node leads all of them. Creates a missing topic
//! where the client and the node allow it, and then answers when the topic is durable.

use super::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use crate::changelog::is_internal_topic;
use crate::engine::Engine;
use crate::topic::Topic;
use crate::units::{Peer, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::metadata_request::MetadataRequestTopic;
use millpond_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millpond_wire::messages::{MetadataRequest, MetadataResponse, Response};
use millpond_wire::topic_name;
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

impl Engine {
    pub(crate) fn on_metadata(
        &mut self,
        id: RequestId,
        peer: &Peer,
        request: &MetadataRequest,
        version: i16,
    ) {
        let with_operations = request.include_topic_authorized_operations;
        let wanted = request.topics.as_deref();
        // In version 0 the empty array means all.
        let wanted = wanted.filter(|topics| version > 0 || !topics.is_empty());
        let topics = match wanted {
            None => self
                .state
                .catalog
                .iter()
                .map(|topic| self.describe_topic(topic, with_operations))
                .collect(),
            Some(wanted) => {
                let mut may_create = if request.allow_auto_topic_creation {
                    limits::AUTO_CREATED_TOPICS_PER_REQUEST_MAX
                } else {
                    0
                };
                let mut topics = Vec::with_capacity(wanted.len());
                for topic in wanted {
                    topics.push(match wanted_wrongly(topic, version) {
                        Some(code) => missing(topic.name.as_ref(), topic.topic_id, code),
                        None => self.look_up_topic(topic, &mut may_create, with_operations),
                    });
                }
                topics
            }
        };
        let address = self.config.advertised_for(peer.listener);
        let response = MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: self.config.node_id,
                host: address.host,
                port: i32::from(address.port),
                rack: None,
            }],
            cluster_id: Some(self.config.cluster_id.clone()),
            controller_id: self.config.node_id,
            topics,
            cluster_authorized_operations: if request.include_cluster_authorized_operations {
                CLUSTER_OPERATIONS
            } else {
                i32::MIN
            },
            ..MetadataResponse::default()
        };
        self.reply_after(self.catalog_seq, id, Response::Metadata(response));
    }

    fn look_up_topic(
        &mut self,
        wanted: &MetadataRequestTopic,
        may_create: &mut usize,
        with_operations: bool,
    ) -> MetadataResponseTopic {
        let by_name = wanted.name.as_ref().filter(|_| wanted.topic_id.is_zero());
        let Some(name) = by_name else {
            return match self.state.catalog.by_id(wanted.topic_id) {
                Some(topic) => self.describe_topic(topic, with_operations),
                None => missing(None, wanted.topic_id, ErrorCode::UnknownTopicId),
            };
        };
        if self.state.catalog.by_name(name).is_none() && *may_create > 0 {
            *may_create -= 1;
            self.auto_create(name);
        }
        match self.state.catalog.by_name(name) {
            Some(topic) => self.describe_topic(topic, with_operations),
            None if topic_name::is_valid(name) && self.state.catalog.colliding(name).is_none() => {
                missing(Some(name), Uuid::ZERO, ErrorCode::UnknownTopicOrPartition)
            }
            None => missing(Some(name), Uuid::ZERO, ErrorCode::InvalidTopicException),
        }
    }

    fn auto_create(&mut self, name: &str) {
        let partitions = u32::try_from(self.config.num_partitions).unwrap_or(1).max(1);
        if self.config.auto_create_topics
            && self.check_new_name(name).is_ok()
            && self.has_room_for_topic(partitions as usize)
        {
            self.create_topic(name.to_owned(), partitions, BTreeMap::new());
        }
    }

    fn describe_topic(&self, topic: &Topic, with_operations: bool) -> MetadataResponseTopic {
        let node_id = self.config.node_id;
        let partitions = topic.partitions.iter().enumerate();
        let partitions = partitions.map(|(index, partition)| MetadataResponsePartition {
            error_code: ErrorCode::None.code(),
            partition_index: index as i32,
            leader_id: node_id,
            leader_epoch: partition.leader_epoch,
            replica_nodes: vec![node_id],
            isr_nodes: vec![node_id],
            ..MetadataResponsePartition::default()
        });
        MetadataResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: is_internal_topic(&topic.name),
            partitions: partitions.collect(),
            topic_authorized_operations: if with_operations { TOPIC_OPERATIONS } else { i32::MIN },
        }
    }
}

/// Topics are asked for by id from version 12 on; before, by name only.
fn wanted_wrongly(topic: &MetadataRequestTopic, version: i16) -> Option<ErrorCode> {
    let has_id = topic.name.is_none() || !topic.topic_id.is_zero();
    (has_id && version < BY_ID_VERSION).then_some(ErrorCode::InvalidRequest)
}

fn missing(name: Option<&String>, topic_id: Uuid, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: code.code(),
        name: name.cloned(),
        topic_id,
        topic_authorized_operations: i32::MIN,
        ..MetadataResponseTopic::default()
    }
}

const BY_ID_VERSION: i16 = 12;
