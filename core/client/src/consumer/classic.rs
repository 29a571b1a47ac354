//! Membership of a group by the classic protocol (JoinGroup, SyncGroup) with the range assignor, eager:
//! all partitions are given back before a new round. It never commits for a generation that it is no
//! longer part of.

use super::assignor::{Assignment, range};
use super::builder::ConsumerBuilder;
use super::positions::Place;
use crate::client::{Client, expect_response};
use crate::connection::Connection;
use crate::error::ClientError;
use bytes::Bytes;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::leave_group_request::MemberIdentity;
use millpond_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use millpond_wire::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, Message, Request, SyncGroupRequest,
};
use millpond_wire::{ApiKey, ErrorCode, Reader, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";
/// Pause before joining is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Beyond the rebalance itself, time for the answer to travel.
const JOIN_MARGIN: Duration = Duration::from_secs(10);

/// A place in a group, for one generation.
#[derive(Debug)]
pub(crate) struct Member {
    lane: Connection,
    group: String,
    member_id: String,
    generation_id: i32,
    assignment: Assignment,
    /// True once the group moves on without this generation.
    is_over: watch::Receiver<bool>,
    heartbeats: AbortHandle,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.heartbeats.abort();
    }
}

/// Joins and is given partitions; tries again for as long as that may help.
pub(crate) async fn join(
    client: Client,
    settings: ConsumerBuilder,
    member_id: String,
) -> Result<Member, ClientError> {
    let mut member_id = member_id;
    loop {
        let error = match join_once(&client, &settings, &mut member_id).await {
            Ok(member) => return Ok(member),
            Err(error) => error,
        };
        let again = match error.code() {
            Some(ErrorCode::UnknownMemberId) => {
                member_id.clear();
                true
            }
            Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => true,
            _ => error.is_retriable(),
        };
        if !again {
            return Err(error);
        }
        tracing::debug!(%error, "joining again");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn join_once(
    client: &Client,
    settings: &ConsumerBuilder,
    member_id: &mut String,
) -> Result<Member, ClientError> {
    let group = settings.group.clone().unwrap_or_default();
    let coordinator = client.group_coordinator(&group).await?;
    let lane = client.lane(coordinator).await?;
    let joined = loop {
        let request = join_request(settings, &group, member_id);
        let response = lane
            .call_within(
                request,
                version(&lane, ApiKey::JoinGroup)?,
                settings.rebalance_timeout + JOIN_MARGIN,
            )
            .await?;
        let response = expect_response!(lane, response, JoinGroup);
        // KIP-394: the first answer only brings a name.
        if ErrorCode::from_code(response.error_code) == Some(ErrorCode::MemberIdRequired)
            && *member_id != response.member_id
        {
            member_id.clone_from(&response.member_id);
            continue;
        }
        check(format!("joining group `{group}`"), response.error_code)?;
        break response;
    };
    member_id.clone_from(&joined.member_id);
    let assignments = match joined.leader == joined.member_id {
        true => assign(client, &joined).await?,
        false => Vec::new(),
    };
    let request = Request::SyncGroup(SyncGroupRequest {
        group_id: group.clone(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        protocol_type: Some(PROTOCOL_TYPE.to_owned()),
        protocol_name: Some(ASSIGNOR.to_owned()),
        assignments,
    });
    let timeout = settings.rebalance_timeout + JOIN_MARGIN;
    let response = lane.call_within(request, version(&lane, ApiKey::SyncGroup)?, timeout).await?;
    let response = expect_response!(lane, response, SyncGroup);
    check(format!("joining group `{group}`"), response.error_code)?;
    let assignment = read_assignment(response.assignment)?;
    let (over, is_over) = watch::channel(false);
    let beat = beat(
        lane.clone(),
        HeartbeatRequest {
            group_id: group.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: None,
        },
        settings.heartbeat_interval,
        over,
    );
    Ok(Member {
        lane,
        group,
        member_id: joined.member_id,
        generation_id: joined.generation_id,
        assignment,
        is_over,
        heartbeats: tokio::spawn(beat).abort_handle(),
    })
}

fn join_request(settings: &ConsumerBuilder, group: &str, member_id: &str) -> Request {
    let subscription = ConsumerProtocolSubscription {
        topics: settings.topics.iter().map(|topic| topic.to_string()).collect(),
        ..Default::default()
    };
    Request::JoinGroup(JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: ms(settings.session_timeout),
        rebalance_timeout_ms: ms(settings.rebalance_timeout),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        protocol_type: PROTOCOL_TYPE.to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: ASSIGNOR.to_owned(),
            metadata: versioned(&subscription),
        }],
        reason: None,
    })
}

/// The leader's part: who reads what.
async fn assign(
    client: &Client,
    joined: &JoinGroupResponse,
) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
    let mut members = BTreeMap::new();
    for member in &joined.members {
        members.insert(member.member_id.clone(), read_subscription(member.metadata.clone())?);
    }
    let mut topics: Vec<Arc<str>> = members.values().flatten().map(|t| t.as_str().into()).collect();
    topics.sort();
    topics.dedup();
    // A topic that does not exist yet has no partitions to give; the others must not wait for it.
    let cluster = match client.refresh(&topics, false).await {
        Ok(cluster) => cluster,
        Err(ClientError::Broker { .. } | ClientError::NotFound { .. }) => client.cluster(),
        Err(error) => return Err(error),
    };
    let assigned = range(&members, |topic| cluster.partitions(topic).unwrap_or(0));
    let assignment = |(member_id, assignment): (String, Assignment)| {
        let topics = assignment.into_iter();
        SyncGroupRequestAssignment {
            member_id,
            assignment: versioned(&ConsumerProtocolAssignment {
                assigned_partitions: topics
                    .map(|(topic, partitions)| {
                        millpond_wire::messages::consumer_protocol_assignment::TopicPartition {
                            topic,
                            partitions,
                        }
                    })
                    .collect(),
                user_data: None,
            }),
        }
    };
    Ok(assigned.into_iter().map(assignment).collect())
}

/// Shows life until the group moves on.
async fn beat(
    lane: Connection,
    request: HeartbeatRequest,
    interval: Duration,
    over: watch::Sender<bool>,
) {
    loop {
        tokio::time::sleep(interval).await;
        let answer = lane.call(Request::Heartbeat(request.clone())).await;
        let code = match answer {
            Ok(millpond_wire::messages::Response::Heartbeat(response)) => response.error_code,
            _ => ErrorCode::NetworkException.code(),
        };
        if ErrorCode::from_code(code) != Some(ErrorCode::None) {
            over.send_replace(true);
            return;
        }
    }
}

impl Member {
    /// For offsets in a transaction: a member that was replaced is refused.
    pub(crate) fn place(&self) -> crate::GroupPlace {
        crate::GroupPlace {
            group: self.group.clone(),
            member_id: self.member_id.clone(),
            generation_id: self.generation_id,
        }
    }

    /// The name under which to join again.
    pub(crate) fn member_id(&self) -> &str {
        &self.member_id
    }

    /// The partitions that it was given.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for (topic, partitions) in &self.assignment {
            let topic: Arc<str> = topic.as_str().into();
            places.extend(partitions.iter().map(|partition| (Arc::clone(&topic), *partition)));
        }
        places
    }

    /// Whether the group has moved on: join again.
    pub(crate) fn is_over(&self) -> bool {
        *self.is_over.borrow() || self.lane.is_closed()
    }

    /// Resolves when the group moves on. Cancellation-safe.
    pub(crate) async fn over(&mut self) {
        let lane = self.lane.clone();
        tokio::select! {
            _ = self.is_over.wait_for(|over| *over) => {}
            () = lane.closed() => {}
        }
    }

    /// The line to the coordinator.
    pub(crate) fn lane(&self) -> &Connection {
        &self.lane
    }

    /// Tells the group that this member goes, so that the others need not wait for its silence.
    pub(crate) async fn leave(self) -> Result<(), ClientError> {
        self.heartbeats.abort();
        let request = Request::LeaveGroup(LeaveGroupRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            members: vec![MemberIdentity {
                member_id: self.member_id.clone(),
                ..Default::default()
            }],
        });
        let response = self.lane.call(request).await?;
        let lane = &self.lane;
        let response = expect_response!(lane, response, LeaveGroup);
        check(format!("leaving group `{}`", self.group), response.error_code)
    }
}

fn version(lane: &Connection, api: ApiKey) -> Result<i16, ClientError> {
    let version = lane.version(api);
    Ok(version.ok_or_else(|| crate::error::CallError::Unsupported {
        broker: lane.broker().clone(),
        api,
    })?)
}

fn check(what: String, code: i16) -> Result<(), ClientError> {
    ClientError::refused(what, code, None).map_or(Ok(()), Err)
}

/// The version stands before the structure; 0 is what every client understands.
fn versioned(message: &impl Message) -> Bytes {
    let mut writer = Writer::new();
    writer.i16(0);
    message.encode(&mut writer, 0);
    writer.into_bytes()
}

fn read_subscription(bytes: Bytes) -> Result<Vec<String>, ClientError> {
    let mut reader = Reader::new(bytes);
    let read = reader
        .i16()
        .and_then(|version| ConsumerProtocolSubscription::decode(&mut reader, version.clamp(0, 3)));
    read.map(|subscription| subscription.topics).map_err(|error| unreadable("subscription", &error))
}

fn read_assignment(bytes: Bytes) -> Result<Assignment, ClientError> {
    if bytes.is_empty() {
        return Ok(Assignment::new());
    }
    let mut reader = Reader::new(bytes);
    let read = reader
        .i16()
        .and_then(|version| ConsumerProtocolAssignment::decode(&mut reader, version.clamp(0, 3)));
    let assignment = read.map_err(|error| unreadable("assignment", &error))?;
    let topics = assignment.assigned_partitions.into_iter();
    Ok(topics.map(|topic| (topic.topic, topic.partitions)).collect())
}

fn unreadable(what: &str, error: &millpond_wire::DecodeError) -> ClientError {
    ClientError::Broker {
        what: format!("reading the {what} of a group member"),
        code: ErrorCode::InconsistentGroupProtocol,
        message: Some(error.to_string()),
    }
}

fn ms(duration: Duration) -> i32 {
    i32::try_from(crate::connection::millis(duration)).unwrap_or(i32::MAX)
}
