//! A member of a consumer group, of either protocol, alone in its group: once it was given its share
//! it goes on for the whole run with the same id and generation, whatever becomes of the node. Must
//! never look into the node.

use crate::client::Surroundings;
use crate::history::Partition;
use crate::topics::place;
use bytes::Bytes;
use millpond_storage::disk::sim::SimRng;
use millpond_wire::ErrorCode;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use millpond_wire::messages::{
    ConsumerGroupHeartbeatRequest, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest,
    Request, Response, SyncGroupRequest,
};

/// Longer than any run: silence is never the reason why a member is out.
const SESSION_TIMEOUT_MS: i32 = 1_800_000;

/// A member of a group of its own.
pub struct Member {
    /// Where it is.
    pub world: Surroundings,
    /// The group's id.
    pub group: &'static str,
    /// Whether the node assigns (KIP-848).
    pub is_new: bool,
    /// What it commits offsets of.
    pub partition: Partition,
    /// Decides pauses.
    pub rng: SimRng,
}

/// What it may not lose any more.
struct Place {
    member_id: String,
    generation: i32,
}

impl Member {
    /// Joins, then beats and commits until the run is over.
    pub async fn run(mut self) {
        let joined = if self.is_new { self.join_new().await } else { self.join().await };
        let Some(place) = joined else { return };
        let (name, generation) = (self.group, place.generation);
        self.world.trace.note("m", || format!("{name}: in, generation {generation}"));
        let mut offset = 0;
        while !self.world.is_over.get() {
            if self.rng.chance(400) {
                offset += 1;
                self.commit(&place, offset).await;
            } else {
                self.beat(&place).await;
            }
            self.world.pause_ms(self.rng.between(1, 80)).await;
        }
    }

    /// As clients do: an id first, then a generation, then a share.
    async fn join(&mut self) -> Option<Place> {
        let mut member_id = String::new();
        while !self.world.is_over.get() {
            let answer = self.world.ask(self.join_request(&member_id), 7).await;
            let Response::JoinGroup(joined) = answer else { panic!("{answer:?}") };
            let code = ErrorCode::from_code(joined.error_code);
            member_id = match code {
                Some(ErrorCode::None | ErrorCode::MemberIdRequired) => joined.member_id,
                Some(ErrorCode::UnknownMemberId) => String::new(),
                _ => member_id,
            };
            if code != Some(ErrorCode::None) {
                self.world.pause_ms(self.rng.between(1, 20)).await;
                continue;
            }
            let generation = joined.generation_id;
            let answer = self.world.ask(self.sync_request(&member_id, generation), 5).await;
            let Response::SyncGroup(synced) = answer else { panic!("{answer:?}") };
            if synced.error_code == ErrorCode::None.code() {
                return Some(Place { member_id, generation });
            }
        }
        None
    }

    fn join_request(&self, member_id: &str) -> Request {
        let protocol =
            JoinGroupRequestProtocol { name: "range".to_owned(), metadata: Bytes::new() };
        Request::JoinGroup(JoinGroupRequest {
            group_id: self.group.to_owned(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: 1_000,
            member_id: member_id.to_owned(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        })
    }

    fn sync_request(&self, member_id: &str, generation_id: i32) -> Request {
        let share = SyncGroupRequestAssignment {
            member_id: member_id.to_owned(),
            assignment: Bytes::from_static(b"all"),
        };
        Request::SyncGroup(SyncGroupRequest {
            group_id: self.group.to_owned(),
            generation_id,
            member_id: member_id.to_owned(),
            assignments: vec![share],
            ..SyncGroupRequest::default()
        })
    }

    async fn join_new(&mut self) -> Option<Place> {
        let member_id = "keeper".to_owned();
        while !self.world.is_over.get() {
            let request = ConsumerGroupHeartbeatRequest {
                rebalance_timeout_ms: 1_000,
                subscribed_topic_names: Some(vec![place(self.partition).0]),
                topic_partitions: Some(Vec::new()),
                ..self.beat_request(&member_id, 0)
            };
            let answer = self.world.ask(Request::ConsumerGroupHeartbeat(request), 1).await;
            let Response::ConsumerGroupHeartbeat(beat) = answer else { panic!("{answer:?}") };
            if beat.error_code == ErrorCode::None.code() {
                return Some(Place { member_id, generation: beat.member_epoch });
            }
            self.world.pause_ms(self.rng.between(1, 20)).await;
        }
        None
    }

    fn beat_request(&self, member_id: &str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.group.to_owned(),
            member_id: member_id.to_owned(),
            member_epoch,
            rebalance_timeout_ms: -1,
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }

    async fn beat(&self, at: &Place) {
        let request = match self.is_new {
            true => {
                let beat = self.beat_request(&at.member_id, at.generation);
                self.world.ask(Request::ConsumerGroupHeartbeat(beat), 1).await
            }
            false => {
                let beat = HeartbeatRequest {
                    group_id: self.group.to_owned(),
                    generation_id: at.generation,
                    member_id: at.member_id.clone(),
                    ..HeartbeatRequest::default()
                };
                self.world.ask(Request::Heartbeat(beat), 4).await
            }
        };
        let code = match &request {
            Response::Heartbeat(answer) => answer.error_code,
            Response::ConsumerGroupHeartbeat(answer) => answer.error_code,
            other => panic!("{other:?}"),
        };
        self.expect("a heartbeat", code, at);
    }

    async fn commit(&self, at: &Place, offset: i64) {
        let (topic, partition_index) = place(self.partition);
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: None,
        };
        let topic = OffsetCommitRequestTopic {
            name: topic,
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: self.group.to_owned(),
            generation_id_or_member_epoch: at.generation,
            member_id: at.member_id.clone(),
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        let answer = self.world.ask(Request::OffsetCommit(request), 9).await;
        let Response::OffsetCommit(answer) = answer else { panic!("{answer:?}") };
        self.expect("a commit", answer.topics[0].partitions[0].error_code, at);
    }

    /// Nothing but a disk that is full stands in its way.
    fn expect(&self, what: &str, code: i16, at: &Place) {
        let code = ErrorCode::from_code(code);
        if !matches!(code, Some(ErrorCode::None | ErrorCode::CoordinatorNotAvailable)) {
            let (group, id, generation) = (self.group, &at.member_id, at.generation);
            let what = format!("{what} of {id} in {group}, generation {generation}: {code:?}");
            self.world.oracle.violated(what);
        }
    }
}
