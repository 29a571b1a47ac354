//! What a group remembers, asked for and told over one line. Never decides whether it may.

use super::positions::Place;
use crate::GroupPlace;
use crate::admin::{CommittedOffset, committed};
use crate::client::expect_response;
use crate::connection::Connection;
use crate::error::ClientError;
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millpond_wire::messages::{OffsetCommitRequest, OffsetFetchRequest, Request};
use std::collections::BTreeMap;

/// What `group` has committed for `places`; absent where nothing is. `stable`: not before transactions
/// that commit offsets of it have ended.
pub(crate) async fn fetch(
    lane: &Connection,
    group: &str,
    places: &[Place],
    stable: bool,
) -> Result<Vec<CommittedOffset>, ClientError> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic.to_string()).or_default().push(*partition);
    }
    let single = topics.iter().map(|(name, partitions)| OffsetFetchRequestTopic {
        name: name.clone(),
        partition_indexes: partitions.clone(),
    });
    let grouped = topics.iter().map(|(name, partitions)| OffsetFetchRequestTopics {
        name: name.clone(),
        partition_indexes: partitions.clone(),
        ..Default::default()
    });
    // Both forms: the version that is agreed on takes the one that it has.
    let request = Request::OffsetFetch(OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(single.collect()),
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            topics: Some(grouped.collect()),
            ..Default::default()
        }],
        require_stable: stable,
    });
    let response = lane.call(request).await?;
    let mut offsets = committed(group, expect_response!(lane, response, OffsetFetch))?;
    offsets.retain(|offset| offset.offset >= 0);
    Ok(offsets)
}

/// Commits as the member at `place`, or for a group without members.
pub(crate) async fn commit(
    lane: &Connection,
    place: &GroupPlace,
    offsets: &[(Place, i64)],
) -> Result<(), ClientError> {
    let mut topics: BTreeMap<String, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        topics.entry(topic.to_string()).or_default().push(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            ..Default::default()
        });
    }
    let topic =
        |(name, partitions)| OffsetCommitRequestTopic { name, partitions, ..Default::default() };
    let request = Request::OffsetCommit(OffsetCommitRequest {
        group_id: place.group.clone(),
        generation_id_or_member_epoch: place.generation_id,
        member_id: place.member_id.clone(),
        topics: topics.into_iter().map(topic).collect(),
        ..Default::default()
    });
    let response = lane.call(request).await?;
    for topic in expect_response!(lane, response, OffsetCommit).topics {
        for partition in topic.partitions {
            let what = format!(
                "committing {}/{} for group `{}`",
                topic.name, partition.partition_index, place.group
            );
            if let Some(error) = ClientError::refused(what, partition.error_code, None) {
                return Err(error);
            }
        }
    }
    Ok(())
}
