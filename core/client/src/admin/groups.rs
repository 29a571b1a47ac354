//! Consumer groups of either protocol: list, describe, committed offsets, delete.

use super::{Admin, check};
use crate::client::expect_response;
use crate::connection::Connection;
use crate::error::ClientError;
use millpond_wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use millpond_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerProtocolAssignment, DeleteGroupsRequest,
    DescribeGroupsRequest, ListGroupsRequest, Message, OffsetFetchRequest, OffsetFetchResponse,
    Request,
};
use millpond_wire::{ApiKey, ErrorCode, Reader};
use std::collections::BTreeMap;

/// A group as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// What it is for; `consumer` for consumers.
    pub protocol_type: String,
    /// Its state, such as `Stable`; empty from brokers that do not say.
    pub state: String,
}

/// A group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// Its state: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Assigning`, `Reconciling`,
    /// `Stable` or `Dead`.
    pub state: String,
    /// What it is for; `consumer` for consumers.
    pub protocol_type: String,
    /// How partitions are shared out, such as `range`.
    pub assignor: String,
    /// Who takes part.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The broker's name for it.
    pub member_id: String,
    /// Its own fixed name, if it has one (KIP-345).
    pub group_instance_id: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// The partitions that it reads, by topic; empty if they cannot be read.
    pub assignment: BTreeMap<String, Vec<i32>>,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// What the consumer noted with it.
    pub metadata: String,
}

impl Admin {
    /// Every group of the cluster, by id.
    ///
    /// # Errors
    /// [`ClientError`]; each broker knows only its own groups, so all are asked.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        let cluster = self.describe_cluster().await?;
        let mut groups = Vec::new();
        for broker_id in cluster.brokers.keys() {
            let connection = self.client.lane(*broker_id).await?;
            let request = Request::ListGroups(ListGroupsRequest::default());
            let response = connection.call(request).await?;
            let response = expect_response!(connection, response, ListGroups);
            check("listing groups".to_owned(), response.error_code, None)?;
            groups.extend(response.groups.into_iter().map(|group| GroupListing {
                group_id: group.group_id,
                protocol_type: group.protocol_type,
                state: group.group_state,
            }));
        }
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(groups)
    }

    /// One group, of either protocol. A group that does not exist is `Dead`, as in Kafka.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn describe_group(&self, group_id: &str) -> Result<GroupDescription, ClientError> {
        let connection = self.coordinator(group_id).await?;
        let request = Request::DescribeGroups(DescribeGroupsRequest {
            groups: vec![group_id.to_owned()],
            ..Default::default()
        });
        let response = connection.call(request).await?;
        let response = expect_response!(connection, response, DescribeGroups);
        let group = response.groups.into_iter().next().ok_or_else(|| not_found(group_id))?;
        // One whose assignments the broker computes is not known by that request.
        let is_unknown =
            group.error_code == ErrorCode::GroupIdNotFound.code() || group.group_state == "Dead";
        if is_unknown && let Some(group) = describe_managed(&connection, group_id).await? {
            return Ok(group);
        }
        if group.error_code != ErrorCode::GroupIdNotFound.code() {
            check(format!("describing group `{group_id}`"), group.error_code, None)?;
        }
        let members = group.members.into_iter().map(|member| GroupMember {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            client_id: member.client_id,
            host: member.client_host,
            assignment: read_assignment(member.member_assignment),
        });
        Ok(GroupDescription {
            group_id: group.group_id,
            state: group.group_state,
            protocol_type: group.protocol_type,
            assignor: group.protocol_data,
            members: members.collect(),
        })
    }

    /// Every offset that a group has committed, by topic and partition.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn committed_offsets(
        &self,
        group_id: &str,
    ) -> Result<Vec<CommittedOffset>, ClientError> {
        let connection = self.coordinator(group_id).await?;
        let request = Request::OffsetFetch(OffsetFetchRequest {
            group_id: group_id.to_owned(),
            topics: None,
            groups: vec![OffsetFetchRequestGroup {
                group_id: group_id.to_owned(),
                topics: None,
                ..Default::default()
            }],
            ..Default::default()
        });
        let response = connection.call(request).await?;
        let response = expect_response!(connection, response, OffsetFetch);
        let mut offsets = committed(group_id, response)?;
        offsets.retain(|offset| offset.offset >= 0);
        offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(offsets)
    }

    /// Removes a group and its committed offsets; it must have no members.
    ///
    /// # Errors
    /// [`ClientError::Broker`], for example with `NonEmptyGroup`.
    pub async fn delete_group(&self, group_id: &str) -> Result<(), ClientError> {
        let connection = self.coordinator(group_id).await?;
        let request =
            Request::DeleteGroups(DeleteGroupsRequest { groups_names: vec![group_id.to_owned()] });
        let response = connection.call(request).await?;
        for result in expect_response!(connection, response, DeleteGroups).results {
            check(format!("deleting group `{group_id}`"), result.error_code, None)?;
        }
        Ok(())
    }
}

/// A group of the new protocol (KIP-848); `None`: there is none of that name, or the broker has no such
/// groups.
async fn describe_managed(
    connection: &Connection,
    group_id: &str,
) -> Result<Option<GroupDescription>, ClientError> {
    if connection.version(ApiKey::ConsumerGroupDescribe).is_none() {
        return Ok(None);
    }
    let request = Request::ConsumerGroupDescribe(ConsumerGroupDescribeRequest {
        group_ids: vec![group_id.to_owned()],
        include_authorized_operations: false,
    });
    let response = connection.call(request).await?;
    let response = expect_response!(connection, response, ConsumerGroupDescribe);
    let group = response.groups.into_iter().next().ok_or_else(|| not_found(group_id))?;
    if group.error_code == ErrorCode::GroupIdNotFound.code() {
        return Ok(None);
    }
    check(format!("describing group `{group_id}`"), group.error_code, group.error_message)?;
    let members = group.members.into_iter().map(|member| {
        let topics = member.assignment.topic_partitions.into_iter();
        GroupMember {
            member_id: member.member_id,
            group_instance_id: member.instance_id,
            client_id: member.client_id,
            host: member.client_host,
            assignment: topics.map(|topic| (topic.topic_name, topic.partitions)).collect(),
        }
    });
    Ok(Some(GroupDescription {
        group_id: group.group_id,
        state: group.group_state,
        protocol_type: "consumer".to_owned(),
        assignor: group.assignor_name,
        members: members.collect(),
    }))
}

/// The offsets in a response of any version: one group at the top, or a list of groups.
pub(crate) fn committed(
    group_id: &str,
    response: OffsetFetchResponse,
) -> Result<Vec<CommittedOffset>, ClientError> {
    let what = |topic: &str| format!("the committed offsets of group `{group_id}` in `{topic}`");
    check(what("any topic"), response.error_code, None)?;
    let mut offsets = Vec::new();
    for topic in response.topics {
        for partition in topic.partitions {
            check(what(&topic.name), partition.error_code, None)?;
            offsets.push(CommittedOffset {
                topic: topic.name.clone(),
                partition: partition.partition_index,
                offset: partition.committed_offset,
                metadata: partition.metadata.unwrap_or_default(),
            });
        }
    }
    for group in response.groups {
        check(what("any topic"), group.error_code, None)?;
        for topic in group.topics {
            for partition in topic.partitions {
                check(what(&topic.name), partition.error_code, None)?;
                offsets.push(CommittedOffset {
                    topic: topic.name.clone(),
                    partition: partition.partition_index,
                    offset: partition.committed_offset,
                    metadata: partition.metadata.unwrap_or_default(),
                });
            }
        }
    }
    Ok(offsets)
}

/// Other kinds of members write other things here: what cannot be read is shown as nothing.
fn read_assignment(bytes: bytes::Bytes) -> BTreeMap<String, Vec<i32>> {
    let mut reader = Reader::new(bytes);
    let Ok(version) = reader.i16() else {
        return BTreeMap::new();
    };
    let assignment = ConsumerProtocolAssignment::decode(&mut reader, version.clamp(0, 3));
    let partitions = assignment.map(|read| read.assigned_partitions).unwrap_or_default();
    partitions.into_iter().map(|topic| (topic.topic, topic.partitions)).collect()
}

fn not_found(group_id: &str) -> ClientError {
    ClientError::NotFound { what: format!("group `{group_id}`") }
}
