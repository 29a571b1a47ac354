//! Fetch: what may be read. A session holds only what may all be read, so that nothing has to be asked
//! of the rules for what it does not name: who names something else gets answers that say all and no
//! session, and a session whose rules were taken away ends (KIP-227). Must never let a session go on
//! that wants what may not be read any more.

use super::gate::{Gate, TOPIC, Verdict, take_out};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::fetch_request::FetchTopic;
use millpond_wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use millpond_wire::messages::{FetchRequest, FetchResponse};
use millpond_wire::permission::{CLUSTER_NAME, Operation, Resource};

pub(super) fn fetch(gate: &Gate<'_>, request: &mut FetchRequest) -> Verdict {
    // Who says that it is a replica (CVE-2018-1288).
    let is_replica = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    let is_barred =
        is_replica && !gate.allows(Operation::ClusterAction, Resource::Cluster, CLUSTER_NAME);
    if is_barred {
        gate.note(Operation::ClusterAction, Resource::Cluster, CLUSTER_NAME);
    }
    let may = |topic: &FetchTopic| !is_barred && gate.may_topic(&topic.topic, topic.topic_id);
    let is_full = request.session_epoch <= 0;
    if !is_full {
        let sessions = &gate.engine.fetch_sessions;
        let may_all = request.topics.iter().all(may)
            && sessions
                .topics(request.session_id)
                .all(|(name, id)| !is_barred && gate.may_topic(name, id));
        if may_all {
            return Verdict::Pass;
        }
        // The client begins anew, and is told then what it may not read.
        let error_code = ErrorCode::FetchSessionIdNotFound.code();
        return Verdict::refuse(FetchResponse { error_code, ..Default::default() });
    }
    let refused = take_out(&mut request.topics, may);
    if refused.is_empty() {
        return Verdict::Pass;
    }
    request.session_epoch = NO_SESSION_EPOCH;
    if request.topics.is_empty() {
        // There is nothing to wait for.
        request.max_wait_ms = 0;
    }
    let responses = refused.into_iter().map(unfetched).collect();
    Verdict::trim(true, FetchResponse { responses, ..Default::default() })
}

fn unfetched(topic: FetchTopic) -> FetchableTopicResponse {
    let part = |partition_index| PartitionData {
        partition_index,
        error_code: TOPIC,
        high_watermark: -1,
        records: Some(Default::default()),
        ..Default::default()
    };
    FetchableTopicResponse {
        topic: topic.topic,
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(|one| part(one.partition)).collect(),
    }
}

const NO_SESSION_EPOCH: i32 = -1;
