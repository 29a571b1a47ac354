//! What a caller tells a consumer besides `poll`: how far it is, where to go on, what to hold back, and
//! that it ends. Never moves a partition that the consumer does not read.

use super::membership::Membership;
use super::offsets;
use super::positions::Place;
use super::{Consumer, PAUSE};
use crate::admin::{CommittedOffset, OffsetSpec, list_offsets_request, partition_offsets};
use crate::client::{Client, expect_response};
use crate::error::ClientError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl Consumer {
    pub(super) async fn commit_if_due(&mut self) {
        let is_due = |every: Duration| self.last_commit.elapsed() >= every;
        if self.settings.auto_commit.is_some_and(is_due)
            && self.membership.as_ref().is_some_and(|membership| !membership.is_over())
            && let Err(error) = self.commit().await
        {
            // What matters is that the next one succeeds; a rebalance is noticed elsewhere.
            tracing::debug!(%error, "not committed");
        }
    }

    /// Where this stands in its group, for offsets in a transaction
    /// ([`TransactionalProducer::send_offsets`](crate::TransactionalProducer::send_offsets)); `None`
    /// outside of one.
    pub fn group_place(&self) -> Option<crate::GroupPlace> {
        self.membership.as_ref().map(Membership::place)
    }

    /// Remembers for the group everything that `poll` has returned.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `RebalanceInProgress`, `IllegalGeneration` or `FencedMemberEpoch` if
    /// the group has moved on: the records will be read again, by this member or another.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let due = self.positions.uncommitted();
        self.commit_these(due).await
    }

    /// Remembers for the group what is given: `(topic, partition, next offset to read)`.
    ///
    /// # Errors
    /// As of [`commit`](Self::commit); [`ClientError::NotFound`] for a partition that is not read here.
    pub async fn commit_offsets(
        &mut self,
        offsets: &[(Arc<str>, i32, i64)],
    ) -> Result<(), ClientError> {
        let mut due = Vec::with_capacity(offsets.len());
        for (topic, partition, offset) in offsets {
            let place = (Arc::clone(topic), *partition);
            self.check_read(std::slice::from_ref(&place))?;
            due.push((place, (*offset).max(0)));
        }
        self.commit_these(due).await
    }

    async fn commit_these(&mut self, due: Vec<(Place, i64)>) -> Result<(), ClientError> {
        if self.settings.group.is_none() {
            return Err(no_group());
        }
        // Before it has joined it has read nothing.
        let Some(membership) = &mut self.membership else { return Ok(()) };
        self.last_commit = Instant::now();
        if due.is_empty() {
            return Ok(());
        }
        membership.commit(&due).await?;
        for (place, offset) in due {
            self.positions.committed(&place, offset);
        }
        Ok(())
    }

    /// What the group has committed for these partitions, as the broker has it now; absent where nothing
    /// is.
    ///
    /// # Errors
    /// [`ClientError::Config`] without a group, or what the broker says.
    pub async fn committed(
        &mut self,
        places: &[(Arc<str>, i32)],
    ) -> Result<Vec<CommittedOffset>, ClientError> {
        let Some(group) = self.settings.group.clone() else { return Err(no_group()) };
        let client = self.client.clone();
        let lane = client.lane(client.group_coordinator(&group).await?).await?;
        offsets::fetch(&lane, &group, places, self.settings.read_committed).await
    }

    /// Goes to `offset` of a partition that this consumer reads.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] if it does not read that partition (yet: `poll` assigns).
    pub fn seek(
        &mut self,
        topic: impl Into<Arc<str>>,
        partition: i32,
        offset: i64,
    ) -> Result<(), ClientError> {
        let place: Place = (topic.into(), partition);
        self.check_read(std::slice::from_ref(&place))?;
        self.go(&place, offset.max(0));
        Ok(())
    }

    /// Goes to the beginning, the end or a time in partitions that this consumer reads; to the end where
    /// no record is that young.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] as of [`seek`](Self::seek), or what the broker says; then nothing has
    /// moved.
    pub async fn seek_to(
        &mut self,
        places: &[(Arc<str>, i32)],
        spec: OffsetSpec,
    ) -> Result<(), ClientError> {
        self.check_read(places)?;
        let client = self.client.clone();
        let mut found = find(&client, places.to_vec(), spec).await?;
        let (young, none): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(_, offset)| *offset >= 0);
        found = young;
        if !none.is_empty() {
            let places = none.into_iter().map(|(place, _)| place).collect();
            found.extend(find(&client, places, OffsetSpec::Latest).await?);
        }
        for (place, offset) in found {
            self.go(&place, offset);
        }
        Ok(())
    }

    /// Holds partitions back: `poll` returns nothing of them, not even what was fetched already, until
    /// [`resume`](Self::resume). The others flow, and the group does not notice.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] as of [`seek`](Self::seek); then nothing is held back.
    pub fn pause(&mut self, places: &[(Arc<str>, i32)]) -> Result<(), ClientError> {
        self.check_read(places)?;
        for place in places {
            self.positions.set_paused(place, true);
            // What is held of it would keep its memory for as long as it rests.
            if let Some(next) = self.positions.get(place).and_then(|position| position.next) {
                self.go(place, next);
            }
        }
        Ok(())
    }

    /// Lets partitions flow again.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] as of [`seek`](Self::seek); then nothing flows that did not.
    pub fn resume(&mut self, places: &[(Arc<str>, i32)]) -> Result<(), ClientError> {
        self.check_read(places)?;
        for place in places {
            self.positions.set_paused(place, false);
        }
        Ok(())
    }

    /// The partitions that are held back.
    pub fn paused(&self) -> Vec<(Arc<str>, i32)> {
        self.positions.paused().cloned().collect()
    }

    fn check_read(&self, places: &[Place]) -> Result<(), ClientError> {
        match places.iter().find(|place| self.positions.get(place).is_none()) {
            None => Ok(()),
            Some((topic, partition)) => Err(ClientError::NotFound {
                what: format!("{topic}/{partition} in this consumer's assignment"),
            }),
        }
    }

    fn go(&mut self, place: &Place, offset: i64) {
        self.fetcher.forget(place);
        self.positions.seek(place, Some(offset));
    }

    /// The partitions that it reads now.
    pub fn assignment(&self) -> Vec<(Arc<str>, i32)> {
        self.positions.places().cloned().collect()
    }

    /// The offset that `poll` returns next of a partition, once that is known.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.positions.get(&(topic.into(), partition))?.next
    }

    /// Commits (with auto commit) and leaves the group, so that the others go on at once.
    ///
    /// # Errors
    /// What the last commit or the leaving failed with; the consumer is gone either way.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let committed = match self.settings.auto_commit {
            Some(_) => self.commit().await,
            None => Ok(()),
        };
        if let Some(membership) = self.membership.take() {
            membership.leave().await?;
        }
        committed
    }

    pub(super) async fn reset_to(&mut self, spec: OffsetSpec) -> Result<(), ClientError> {
        let client = self.client.clone();
        for (place, offset) in find(&client, self.positions.unplaced(), spec).await? {
            self.positions.seek(&place, Some(offset));
        }
        Ok(())
    }
}

/// Offsets of partitions, asked of their leaders. Not a method: a borrow of the whole consumer would tie
/// `poll` to one thread.
async fn find(
    client: &Client,
    places: Vec<Place>,
    spec: OffsetSpec,
) -> Result<Vec<(Place, i64)>, ClientError> {
    let mut topics: Vec<Arc<str>> = places.iter().map(|(topic, _)| Arc::clone(topic)).collect();
    topics.sort();
    topics.dedup();
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let cluster = client.refresh(&topics, false).await?;
    let mut by_leader: BTreeMap<(i32, Arc<str>), Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        let leader = cluster.leader(&topic, partition).ok_or_else(|| ClientError::NotFound {
            what: format!("the leader of {topic}/{partition}"),
        })?;
        by_leader.entry((leader, topic)).or_default().push(partition);
    }
    let mut found = Vec::new();
    for ((leader, topic), partitions) in by_leader {
        let lane = client.lane(leader).await?;
        let response = lane.call(list_offsets_request(&topic, &partitions, spec)).await?;
        let response = expect_response!(lane, response, ListOffsets);
        for offset in partition_offsets(&topic, response)? {
            found.push(((Arc::clone(&topic), offset.partition), offset.offset));
        }
    }
    Ok(found)
}

/// Not a method: see [`find`].
pub(super) async fn wait_for_topics(
    client: &Client,
    topics: Vec<Arc<str>>,
) -> Result<(), ClientError> {
    loop {
        match client.refresh(&topics, false).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retriable() => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

fn no_group() -> ClientError {
    ClientError::Config { setting: "group", reason: "only a group remembers offsets".to_owned() }
}
