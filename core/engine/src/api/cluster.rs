//! DescribeCluster and FindCoordinator: this node is all there is.

use super::CLUSTER_OPERATIONS;
use crate::engine::Engine;
use crate::units::{Peer, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::describe_cluster_response::DescribeClusterBroker;
use millpond_wire::messages::find_coordinator_response::Coordinator;
use millpond_wire::messages::{
    DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, Response,
};

impl Engine {
    pub(crate) fn on_describe_cluster(
        &mut self,
        id: RequestId,
        peer: &Peer,
        request: &DescribeClusterRequest,
    ) {
        let address = self.config.advertised_for(peer.listener);
        let mut response = DescribeClusterResponse {
            endpoint_type: request.endpoint_type,
            cluster_id: self.config.cluster_id.clone(),
            controller_id: self.config.node_id,
            brokers: vec![DescribeClusterBroker {
                broker_id: self.config.node_id,
                host: address.host,
                port: i32::from(address.port),
                rack: None,
                is_fenced: false,
            }],
            cluster_authorized_operations: if request.include_cluster_authorized_operations {
                CLUSTER_OPERATIONS
            } else {
                i32::MIN
            },
            ..DescribeClusterResponse::default()
        };
        if request.endpoint_type != BROKERS {
            // Controllers have no endpoints of their own here (KIP-919).
            response.brokers.clear();
            response.error_code = ErrorCode::MismatchedEndpointType.code();
            response.error_message = Some("this endpoint is a broker's".to_owned());
        }
        self.reply(id, Response::DescribeCluster(response));
    }

    pub(crate) fn on_find_coordinator(
        &mut self,
        id: RequestId,
        peer: &Peer,
        request: &FindCoordinatorRequest,
        version: i16,
    ) {
        let address = self.config.advertised_for(peer.listener);
        let is_known = matches!(request.key_type, GROUP | TRANSACTION);
        let code = if is_known { ErrorCode::None } else { ErrorCode::InvalidRequest };
        let (node_id, host, port) = if is_known {
            (self.config.node_id, address.host, i32::from(address.port))
        } else {
            (-1, String::new(), -1)
        };
        let message =
            (!is_known).then(|| "only groups and transactions are coordinated".to_owned());
        let mut response = FindCoordinatorResponse::default();
        if version >= BATCHED_VERSION {
            response.coordinators = request
                .coordinator_keys
                .iter()
                .map(|key| Coordinator {
                    key: key.clone(),
                    node_id,
                    host: host.clone(),
                    port,
                    error_code: code.code(),
                    error_message: message.clone(),
                })
                .collect();
        } else {
            response.node_id = node_id;
            response.host = host;
            response.port = port;
            response.error_code = code.code();
            response.error_message = message;
        }
        self.reply(id, Response::FindCoordinator(response));
    }
}

const BROKERS: i8 = 1;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const BATCHED_VERSION: i16 = 4;
