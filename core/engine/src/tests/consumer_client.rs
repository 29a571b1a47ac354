//! A consumer of the new protocol (KIP-848) as the clients are written: it owns what it was told,
//! gives up first, and acknowledges with its next heartbeat.

use super::rig::Rig;
use crate::SessionId;
use millpond_wire::Uuid;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use millpond_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, Request, Response,
};
use std::collections::{BTreeMap, BTreeSet};

/// Partitions, by topic.
pub(crate) type Owned = BTreeMap<Uuid, BTreeSet<i32>>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) topics: Vec<String>,
    pub(crate) regex: Option<String>,
    pub(crate) assignor: Option<String>,
    pub(crate) epoch: i32,
    pub(crate) owned: Owned,
    /// The next heartbeat says everything.
    pub(crate) is_full: bool,
}

impl Client {
    pub(crate) fn new(id: &str, topics: &[&str]) -> Client {
        Client {
            group: "g".to_owned(),
            id: id.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            is_full: true,
            ..Client::default()
        }
    }

    pub(crate) fn fixed(id: &str, instance: &str, topics: &[&str]) -> Client {
        Client { instance: Some(instance.to_owned()), ..Client::new(id, topics) }
    }

    pub(crate) fn in_group(self, group: &str) -> Client {
        Client { group: group.to_owned(), ..self }
    }

    pub(crate) fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let says_all = self.is_full || self.epoch == 0;
        let topics = self.owned.iter().map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
        });
        ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: if says_all { 20_000 } else { -1 },
            subscribed_topic_names: says_all.then(|| self.topics.clone()),
            subscribed_topic_regex: self.regex.clone().filter(|_| says_all),
            server_assignor: self.assignor.clone().filter(|_| says_all),
            topic_partitions: Some(topics.collect()),
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }

    /// Sends a heartbeat whose answer never comes.
    pub(crate) fn send_in_vain(&mut self, rig: &mut Rig) {
        call(rig, self.request());
        self.is_full = true;
    }

    /// One heartbeat, and what a client does with its answer.
    pub(crate) fn beat(&mut self, rig: &mut Rig) -> ErrorCode {
        let response = call(rig, self.request());
        self.take(&response)
    }

    pub(crate) fn take(&mut self, response: &ConsumerGroupHeartbeatResponse) -> ErrorCode {
        let code = ErrorCode::from_code(response.error_code).expect("a known code");
        match code {
            ErrorCode::None => {
                self.is_full = false;
                self.epoch = response.member_epoch;
                if let Some(assignment) = &response.assignment {
                    let topics = assignment.topic_partitions.iter();
                    let topics =
                        topics.map(|t| (t.topic_id, t.partitions.iter().copied().collect()));
                    self.owned = topics.collect();
                }
            }
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => self.lose(),
            _ => {}
        }
        code
    }

    /// It has nothing any more and will join again.
    pub(crate) fn lose(&mut self) {
        self.owned.clear();
        self.epoch = 0;
        self.is_full = true;
    }

    pub(crate) fn leave(&mut self, rig: &mut Rig, epoch: i32) -> ErrorCode {
        let request = ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..self.request() };
        let response = call(rig, request);
        self.lose();
        ErrorCode::from_code(response.error_code).expect("a known code")
    }

    /// Its partitions of the only topic.
    pub(crate) fn parts(&self) -> Vec<i32> {
        self.owned.values().flatten().copied().collect()
    }
}

pub(crate) fn call(
    rig: &mut Rig,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let request = Request::ConsumerGroupHeartbeat(request);
    let id = rig.send_from(SessionId(1), "test", request, 1);
    match rig.take(id) {
        Response::ConsumerGroupHeartbeat(response) => response,
        other => panic!("{other:?}"),
    }
}
