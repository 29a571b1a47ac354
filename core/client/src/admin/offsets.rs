//! Committed offsets of groups: how far behind they are, and putting them elsewhere.
//!
//! Offsets of a group that has members are theirs: the broker refuses to move them.

use super::{Admin, OffsetSpec, check};
use crate::GroupPlace;
use crate::client::expect_response;
use crate::error::ClientError;
use millpond_wire::ErrorCode;
use millpond_wire::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millpond_wire::messages::{OffsetDeleteRequest, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How far behind a group is in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset that the group reads; `None`: it has committed none.
    pub committed: Option<i64>,
    /// The first offset that is kept.
    pub start: i64,
    /// The offset that the next record will take.
    pub end: i64,
    /// Who reads it now, by the broker's name for the member.
    pub member: Option<String>,
}

impl PartitionLag {
    /// Records that the group has not committed, at most: what was dropped, compacted or aborted since
    /// counts too. All that is kept where it has committed nothing.
    pub fn records(&self) -> i64 {
        (self.end - self.committed.unwrap_or(self.start).max(self.start)).max(0)
    }
}

impl Admin {
    /// How far behind a group is in every partition that it has committed or reads now, by topic and
    /// partition. Topics that are gone are left out.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn group_lag(&self, group_id: &str) -> Result<Vec<PartitionLag>, ClientError> {
        let group = self.describe_group(group_id).await?;
        let mut seen: BTreeMap<String, Readers> = BTreeMap::new();
        for member in group.members {
            for (topic, partitions) in member.assignment {
                for partition in partitions {
                    let of_topic = seen.entry(topic.clone()).or_default();
                    of_topic.insert(partition, (None, Some(member.member_id.clone())));
                }
            }
        }
        for committed in self.committed_offsets(group_id).await? {
            let of_topic = seen.entry(committed.topic).or_default();
            of_topic.entry(committed.partition).or_default().0 = Some(committed.offset);
        }
        let mut lags = Vec::new();
        for (topic, partitions) in seen {
            let Some((starts, ends)) = self.bounds(&topic).await? else { continue };
            for (partition, (committed, member)) in partitions {
                let both = (starts.get(&partition), ends.get(&partition));
                let (Some(start), Some(end)) = both else { continue };
                let (start, end, topic) = (*start, *end, topic.clone());
                lags.push(PartitionLag { topic, partition, committed, start, end, member });
            }
        }
        Ok(lags)
    }

    /// First and next offset of each partition; `None`: there is no such topic.
    async fn bounds(&self, topic: &str) -> Result<Option<Bounds>, ClientError> {
        // Asked without patience first: a topic that is gone would be waited for.
        match self.describe_topic(topic).await {
            Ok(_) => {}
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                return Ok(None);
            }
            Err(ClientError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let by_partition = |offsets: Vec<super::PartitionOffset>| {
            offsets.into_iter().map(|offset| (offset.partition, offset.offset)).collect()
        };
        let starts = self.list_offsets(topic, OffsetSpec::Earliest).await?;
        let ends = self.list_offsets(topic, OffsetSpec::Latest).await?;
        Ok(Some((by_partition(starts), by_partition(ends))))
    }

    /// Puts the committed offsets of a group without members elsewhere: `(topic, partition, next offset
    /// to read)`. Makes the group if there is none.
    ///
    /// # Errors
    /// [`ClientError::Broker`]: `UnknownMemberId` if it has members; stop them first.
    pub async fn alter_offsets(
        &self,
        group_id: &str,
        offsets: &[(Arc<str>, i32, i64)],
    ) -> Result<(), ClientError> {
        let lane = self.coordinator(group_id).await?;
        let offsets: Vec<_> = offsets
            .iter()
            .map(|(topic, partition, offset)| ((Arc::clone(topic), *partition), (*offset).max(0)))
            .collect();
        crate::consumer::commit_offsets(&lane, &GroupPlace::of(group_id), &offsets).await
    }

    /// Forgets the committed offsets of a group in a topic that none of its members reads.
    ///
    /// # Errors
    /// [`ClientError::Broker`], for example with `GroupSubscribedToTopic`.
    pub async fn delete_offsets(
        &self,
        group_id: &str,
        topic: &str,
        partitions: &BTreeSet<i32>,
    ) -> Result<(), ClientError> {
        let lane = self.coordinator(group_id).await?;
        let partition = |index: &i32| OffsetDeleteRequestPartition { partition_index: *index };
        let request = Request::OffsetDelete(OffsetDeleteRequest {
            group_id: group_id.to_owned(),
            topics: vec![OffsetDeleteRequestTopic {
                name: topic.to_owned(),
                partitions: partitions.iter().map(partition).collect(),
            }],
        });
        let response = lane.call(request).await?;
        let response = expect_response!(lane, response, OffsetDelete);
        let what = |of: &str| format!("deleting the offsets of group `{group_id}` in {of}");
        check(what(topic), response.error_code, None)?;
        for result in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let of = format!("{topic}/{}", result.partition_index);
            check(what(&of), result.error_code, None)?;
        }
        Ok(())
    }
}

/// What is committed of a partition, and who reads it.
type Readers = BTreeMap<i32, (Option<i64>, Option<String>)>;
/// First and next offsets, by partition.
type Bounds = (BTreeMap<i32, i64>, BTreeMap<i32, i64>);
