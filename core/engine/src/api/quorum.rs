//! DescribeQuorum and UpdateFeatures: one voter, which is this node, and the features that stand in
//! `api_versions`. None of them can be moved while the node runs.

use super::api_versions::{FEATURES, Feature};
use crate::engine::Engine;
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use millpond_wire::messages::update_features_request::FeatureUpdateKey;
use millpond_wire::messages::update_features_response::UpdatableFeatureResult;
use millpond_wire::messages::{
    DescribeQuorumRequest, DescribeQuorumResponse, Response, UpdateFeaturesRequest,
    UpdateFeaturesResponse,
};
use millpond_wire::uuid::Uuid;

impl Engine {
    pub(crate) fn on_describe_quorum(&mut self, id: RequestId, request: &DescribeQuorumRequest) {
        let topics = request.topics.iter().map(|topic| TopicData {
            topic_name: topic.topic_name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|part| self.quorum_of(&topic.topic_name, part.partition_index))
                .collect(),
        });
        let topics = topics.collect();
        let listeners = self.config.advertised.values().map(|address| Listener {
            name: "PLAINTEXT".to_owned(),
            host: address.host.clone(),
            port: address.port,
        });
        let node = Node { node_id: self.config.node_id, listeners: listeners.collect() };
        let nodes = vec![node];
        let response =
            DescribeQuorumResponse { topics, nodes, ..DescribeQuorumResponse::default() };
        self.reply(id, Response::DescribeQuorum(response));
    }

    fn quorum_of(&self, topic: &str, partition_index: i32) -> PartitionData {
        if topic != METADATA_TOPIC || partition_index != 0 {
            let code = ErrorCode::UnknownTopicOrPartition;
            return PartitionData {
                partition_index,
                error_code: code.code(),
                error_message: Some(code.message().to_owned()),
                ..PartitionData::default()
            };
        }
        // The journal is our metadata log: its entries count where Kafka's offsets do.
        let end = |seq: crate::units::EntrySeq| i64::try_from(seq.0).unwrap_or(i64::MAX);
        let own = ReplicaState {
            replica_id: self.config.node_id,
            replica_directory_id: Uuid::ZERO,
            log_end_offset: end(self.last_seq()),
            last_fetch_timestamp: self.now.wall_ms,
            last_caught_up_timestamp: self.now.wall_ms,
        };
        PartitionData {
            leader_id: self.config.node_id,
            leader_epoch: crate::partition::FIRST_LEADER_EPOCH,
            high_watermark: end(self.durable()),
            current_voters: vec![own],
            ..PartitionData::default()
        }
    }

    pub(crate) fn on_update_features(
        &mut self,
        id: RequestId,
        request: &UpdateFeaturesRequest,
        version: i16,
    ) {
        let mut response = UpdateFeaturesResponse::default();
        for update in &request.feature_updates {
            let refused = check_update(update);
            if version >= ONE_ERROR_VERSION
                && let Some(message) = refused
            {
                response.error_code = ErrorCode::InvalidUpdateVersion.code();
                response.error_message = Some(message);
                break;
            }
            let code =
                if refused.is_some() { ErrorCode::InvalidUpdateVersion } else { ErrorCode::None };
            response.results.push(UpdatableFeatureResult {
                feature: update.feature.clone(),
                error_code: code.code(),
                error_message: refused,
            });
        }
        self.reply(id, Response::UpdateFeatures(response));
    }
}

/// What is wrong with an update: anything but the level that is in force.
fn check_update(update: &FeatureUpdateKey) -> Option<String> {
    let (name, level) = (&update.feature, update.max_version_level);
    let Some(Feature { level: own, .. }) = FEATURES.iter().find(|known| known.name == name) else {
        return Some(format!(
            "Invalid update version {level} for feature {name}. This node does not support this feature."
        ));
    };
    (level != *own).then(|| {
        format!(
            "Invalid update version {level} for feature {name}. This node runs at version {own} and cannot change it."
        )
    })
}

const METADATA_TOPIC: &str = "__cluster_metadata";
const ONE_ERROR_VERSION: i16 = 2;
