//! ElectLeaders and the reassignment of partitions: this node is the only replica of everything and
//! leads it, so there is never anything to elect or to move.

use crate::engine::Engine;
use crate::units::{PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::alter_partition_reassignments_request::ReassignablePartition;
use millpond_wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use millpond_wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use millpond_wire::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ElectLeadersRequest,
    ElectLeadersResponse, ListPartitionReassignmentsResponse, Response,
};

/// Why nothing is done.
type Refused = (ErrorCode, String);

impl Engine {
    pub(crate) fn on_elect_leaders(&mut self, id: RequestId, request: &ElectLeadersRequest) {
        let mut response = ElectLeadersResponse::default();
        if !matches!(request.election_type, PREFERRED | UNCLEAN) {
            response.error_code = ErrorCode::InvalidRequest.code();
            return self.reply(id, Response::ElectLeaders(response));
        }
        // Whoever names none is told only of elections that took place.
        for topic in request.topic_partitions.iter().flatten() {
            let result = |partition: &i32| {
                let (code, message) = match self.find_partition(&topic.topic, *partition) {
                    Ok(()) => {
                        let code = ErrorCode::ElectionNotNeeded;
                        (code, code.message().to_owned())
                    }
                    Err(refused) => refused,
                };
                PartitionResult {
                    partition_id: *partition,
                    error_code: code.code(),
                    error_message: Some(message),
                }
            };
            let partition_result = topic.partitions.iter().map(result).collect();
            let topic = topic.topic.clone();
            response
                .replica_election_results
                .push(ReplicaElectionResult { topic, partition_result });
        }
        self.reply(id, Response::ElectLeaders(response));
    }

    pub(crate) fn on_reassign(
        &mut self,
        id: RequestId,
        request: &AlterPartitionReassignmentsRequest,
    ) {
        let topics = request.topics.iter().map(|topic| {
            let result = |part: &ReassignablePartition| {
                let moved = self
                    .find_partition(&topic.name, part.partition_index)
                    .and_then(|()| self.check_replicas(part.replicas.as_deref()));
                let (code, error_message) = match moved {
                    Ok(()) => (ErrorCode::None, None),
                    Err((code, message)) => (code, Some(message)),
                };
                ReassignablePartitionResponse {
                    partition_index: part.partition_index,
                    error_code: code.code(),
                    error_message,
                }
            };
            ReassignableTopicResponse {
                name: topic.name.clone(),
                partitions: topic.partitions.iter().map(result).collect(),
            }
        });
        let response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: request.allow_replication_factor_change,
            responses: topics.collect(),
            ..AlterPartitionReassignmentsResponse::default()
        };
        self.reply(id, Response::AlterPartitionReassignments(response));
    }

    pub(crate) fn on_list_partition_reassignments(&mut self, id: RequestId) {
        let response = ListPartitionReassignmentsResponse::default();
        self.reply(id, Response::ListPartitionReassignments(response));
    }

    fn find_partition(&self, topic: &str, partition: i32) -> Result<(), Refused> {
        let code = ErrorCode::UnknownTopicOrPartition;
        let Some(known) = self.state.catalog.by_name(topic) else {
            return Err((code, format!("there is no topic {topic}")));
        };
        let key = PartitionKey { topic_id: known.id, partition };
        match self.state.catalog.partition(key) {
            Some(_) => Ok(()),
            None => Err((code, format!("there is no partition {topic}-{partition}"))),
        }
    }

    /// `None` cancels what is under way.
    fn check_replicas(&self, replicas: Option<&[i32]>) -> Result<(), Refused> {
        let Some(replicas) = replicas else {
            let code = ErrorCode::NoReassignmentInProgress;
            return Err((code, code.message().to_owned()));
        };
        self.check_own_replica(replicas)
    }

    /// Whether a replica list names this node and nobody else.
    pub(crate) fn check_own_replica(&self, replicas: &[i32]) -> Result<(), Refused> {
        let wrong = |message: String| Err((ErrorCode::InvalidReplicaAssignment, message));
        let own = self.config.node_id;
        if replicas.is_empty() {
            return wrong("the replica list is empty".to_owned());
        }
        if let Some(other) = replicas.iter().find(|id| **id != own) {
            return wrong(format!("the replica list names broker {other}, but there is no such"));
        }
        if replicas.len() > 1 {
            return wrong(format!("the replica list names broker {own} more than once"));
        }
        Ok(())
    }
}

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
