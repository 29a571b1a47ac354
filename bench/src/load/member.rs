//! Members of groups, of both protocols, that own partitions and read nothing: what a group costs
//! the broker without what its members read. Their assignments are only counted. They must heed
//! every answer as a consumer does, or the broker would be measured against a client that it throws
//! out.

use std::net::SocketAddr;

use bytes::Bytes;
use millpond_wire::ErrorCode;
use millpond_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use millpond_wire::messages::consumer_group_heartbeat_response::Assignment;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::leave_group_request::MemberIdentity;
use millpond_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use millpond_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, Response, SyncGroupRequest,
};

use super::conversation::{Conversation, accepted, other_answer};
use crate::error::Outcome;

const JOIN_GROUP: i16 = 7;
const SYNC_GROUP: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE_GROUP: i16 = 4;
const CONSUMER_GROUP_HEARTBEAT: i16 = 1;
/// Long enough to be left alone for a whole measurement.
const SESSION_MS: i32 = 600_000;
const LEAVES: i32 = -1;

/// What a member knows after an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Generation, or member epoch; 0 before it joined.
    pub(crate) epoch: i32,
    /// Partitions that it owns.
    pub(crate) partitions: usize,
}

/// A member of a classic group: the leader deals out numbers of partitions.
pub(crate) struct ClassicMember {
    broker: Conversation,
    group: String,
    id: String,
    partitions: usize,
    standing: Standing,
}

impl ClassicMember {
    /// Connects a member that has not joined yet. The group owns so many `partitions`.
    pub(crate) fn connect(broker: SocketAddr, group: &str, partitions: usize) -> Outcome<Self> {
        let broker = Conversation::with(broker)?;
        Ok(Self::over(broker, group, partitions))
    }

    /// On a connection that others have used before it.
    pub(crate) fn over(broker: Conversation, group: &str, partitions: usize) -> Self {
        let standing = Standing::default();
        Self { broker, group: group.to_owned(), id: String::new(), partitions, standing }
    }

    /// Its id; empty before it joined.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Its connection. The member stays in its group.
    pub(crate) fn into_conversation(self) -> Conversation {
        self.broker
    }

    /// Joins, or goes on, or joins the next generation.
    pub(crate) fn beat(&mut self) -> Outcome<Standing> {
        if self.standing.epoch == 0 || !self.heartbeat(self.standing.epoch)? {
            self.standing = self.join()?;
        }
        Ok(self.standing)
    }

    /// Joins, again if need be, until it has its part of a generation.
    fn join(&mut self) -> Outcome<Standing> {
        loop {
            let joined = self.ask_to_join()?;
            if joined.member_id != self.id {
                self.id.clone_from(&joined.member_id);
            }
            if joined.error_code == ErrorCode::MemberIdRequired.code() {
                continue;
            }
            accepted("joining", joined.error_code)?;
            if let Some(standing) = self.sync(&joined)? {
                return Ok(standing);
            }
        }
    }

    fn ask_to_join(&mut self) -> Outcome<JoinGroupResponse> {
        let request = JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: SESSION_MS,
            member_id: self.id.clone(),
            protocol_type: "bench".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "dealt".into(),
                metadata: Bytes::from_static(b"all partitions"),
            }],
            ..Default::default()
        };
        match self.broker.call(JOIN_GROUP, request)? {
            Response::JoinGroup(answer) => Ok(answer),
            other => Err(other_answer(&other)),
        }
    }

    /// `None` when the next rebalance began before this one ended.
    fn sync(&mut self, joined: &JoinGroupResponse) -> Outcome<Option<Standing>> {
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: joined.generation_id,
            member_id: self.id.clone(),
            protocol_type: Some("bench".into()),
            protocol_name: joined.protocol_name.clone(),
            assignments: deal(joined, self.partitions),
            ..Default::default()
        };
        let answer = self.broker.call(SYNC_GROUP, request)?;
        let Response::SyncGroup(answer) = answer else { return Err(other_answer(&answer)) };
        if answer.error_code == ErrorCode::RebalanceInProgress.code() {
            return Ok(None);
        }
        accepted("taking its part", answer.error_code)?;
        let partitions = answer.assignment.len() / PARTITION_BYTES;
        Ok(Some(Standing { epoch: joined.generation_id, partitions }))
    }

    /// Whether its generation still stands.
    fn heartbeat(&mut self, generation_id: i32) -> Outcome<bool> {
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id,
            member_id: self.id.clone(),
            ..Default::default()
        };
        let answer = self.broker.call(HEARTBEAT, request)?;
        let Response::Heartbeat(answer) = answer else { return Err(other_answer(&answer)) };
        let stands = answer.error_code != ErrorCode::RebalanceInProgress.code();
        if stands {
            accepted("a heartbeat", answer.error_code)?;
        }
        Ok(stands)
    }

    /// Leaves.
    pub(crate) fn leave(mut self) -> Outcome<()> {
        let request = LeaveGroupRequest {
            group_id: self.group.clone(),
            members: vec![MemberIdentity { member_id: self.id.clone(), ..Default::default() }],
            ..Default::default()
        };
        let answer = self.broker.call(LEAVE_GROUP, request)?;
        let Response::LeaveGroup(answer) = answer else { return Err(other_answer(&answer)) };
        let part = answer.members.first().map_or(0, |member| member.error_code);
        accepted("leaving", answer.error_code)?;
        accepted("leaving", part)
    }
}

/// A partition in an assignment: its number.
const PARTITION_BYTES: usize = 4;

/// The leader deals the partitions out one by one; the others deal nothing.
fn deal(joined: &JoinGroupResponse, partitions: usize) -> Vec<SyncGroupRequestAssignment> {
    let members = joined.members.len();
    let part = |at: usize| {
        let own = (at..partitions).step_by(members.max(1));
        own.flat_map(|partition| u32::try_from(partition).unwrap_or(u32::MAX).to_be_bytes())
            .collect::<Vec<u8>>()
    };
    let members = joined.members.iter().enumerate();
    members
        .map(|(at, member)| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: part(at).into(),
        })
        .collect()
}

/// A member of a group whose assignments the broker computes (KIP-848). Many may share a
/// connection, for no answer is held back.
pub(crate) struct ConsumerMember {
    group: String,
    id: String,
    topic: String,
    standing: Standing,
    /// What it was given last, if it has not said yet that it took it.
    taken: Option<Vec<TopicPartitions>>,
}

impl ConsumerMember {
    /// One that has not joined yet.
    pub(crate) fn new(group: &str, id: String, topic: &str) -> Self {
        let standing = Standing::default();
        Self { group: group.to_owned(), id, topic: topic.to_owned(), standing, taken: None }
    }

    /// Joins or goes on: sends what it owns and takes what it is given.
    pub(crate) fn beat(&mut self, broker: &mut Conversation) -> Outcome<Standing> {
        let joins = self.standing.epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch: self.standing.epoch,
            rebalance_timeout_ms: if joins { SESSION_MS } else { -1 },
            subscribed_topic_names: joins.then(|| vec![self.topic.clone()]),
            topic_partitions: if joins { Some(Vec::new()) } else { self.taken.take() },
            ..Default::default()
        };
        let answer = call(broker, request)?;
        self.standing.epoch = answer.member_epoch;
        if let Some(assignment) = &answer.assignment {
            let counts = assignment.topic_partitions.iter().map(|topic| topic.partitions.len());
            self.standing.partitions = counts.sum();
            self.taken = Some(as_owned(assignment));
        }
        Ok(self.standing)
    }

    /// Leaves.
    pub(crate) fn leave(self, broker: &mut Conversation) -> Outcome<()> {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group,
            member_id: self.id,
            member_epoch: LEAVES,
            ..Default::default()
        };
        call(broker, request).map(drop)
    }
}

fn call(
    broker: &mut Conversation,
    request: ConsumerGroupHeartbeatRequest,
) -> Outcome<ConsumerGroupHeartbeatResponse> {
    let answer = broker.call(CONSUMER_GROUP_HEARTBEAT, request)?;
    let Response::ConsumerGroupHeartbeat(answer) = answer else {
        return Err(other_answer(&answer));
    };
    accepted("a heartbeat of a consumer group", answer.error_code)?;
    Ok(answer)
}

fn as_owned(assignment: &Assignment) -> Vec<TopicPartitions> {
    let topics = assignment.topic_partitions.iter();
    topics
        .map(|topic| TopicPartitions {
            topic_id: topic.topic_id,
            partitions: topic.partitions.clone(),
        })
        .collect()
}
