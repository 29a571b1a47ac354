//! The consumer: partitions given or shared out by a group, records by `poll`, offsets by `commit`.
//!
//! It never commits what `poll` has not returned, and never holds more than one fetch per broker.

mod assignor;
mod builder;
mod fetch;
mod group;
mod isolation;
mod positions;
mod record;

pub use builder::{ConsumerBuilder, OffsetReset};
pub use record::ConsumedRecord;

use crate::admin::{OffsetSpec, list_offsets_request, partition_offsets};
use crate::client::{Client, expect_response};
use crate::error::ClientError;
use fetch::{Fetcher, Trouble};
use futures::future::BoxFuture;
use group::Membership;
use millpond_wire::ErrorCode;
use positions::{Place, Positions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pause before something retriable is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads records.
///
/// ```no_run
/// use millpond_client::{ClientConfig, Consumer, OffsetReset};
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut consumer = Consumer::builder()
///     .group("dashboards")
///     .topic("telemetry")
///     .offset_reset(OffsetReset::Earliest)
///     .connect(ClientConfig::new("tcp://127.0.0.1:9092")?)
///     .await?;
/// loop {
///     for record in consumer.poll(Duration::from_secs(1)).await? {
///         println!("{}/{} at {}", record.topic, record.partition, record.offset);
///     }
///     consumer.commit().await?;
/// }
/// # }
/// ```
pub struct Consumer {
    client: Client,
    settings: ConsumerBuilder,
    positions: Positions,
    fetcher: Fetcher,
    membership: Option<Membership>,
    joining: Option<BoxFuture<'static, Result<Membership, ClientError>>>,
    member_id: String,
    is_assigned: bool,
    last_commit: Instant,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("group", &self.settings.group)
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Settings for a new consumer.
    pub fn builder() -> ConsumerBuilder {
        ConsumerBuilder::default()
    }

    fn start(client: Client, settings: ConsumerBuilder) -> Self {
        Self {
            fetcher: Fetcher::new(client.clone(), settings.clone()),
            client,
            settings,
            positions: Positions::default(),
            membership: None,
            joining: None,
            member_id: String::new(),
            is_assigned: false,
            last_commit: Instant::now(),
        }
    }

    /// The next records, as soon as there are any; none after `timeout`. In a group it also joins,
    /// rejoins and commits, so it must be called again and again.
    ///
    /// Dropping the future loses no record: what is not returned is returned by the next call.
    ///
    /// # Errors
    /// What will not heal by itself, such as a topic that may not be read. Calling again goes on
    /// where it stopped.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<ConsumedRecord>, ClientError> {
        let deadline = Instant::now() + timeout;
        match tokio::time::timeout_at(deadline, self.poll_until_records()).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn poll_until_records(&mut self) -> Result<Vec<ConsumedRecord>, ClientError> {
        self.commit_if_due().await;
        loop {
            self.ensure_assigned().await?;
            let records = self.fetcher.take(&mut self.positions, self.settings.max_poll_records)?;
            if !records.is_empty() {
                return Ok(records);
            }
            self.place_all().await?;
            let leaderless = self.fetcher.start(&self.positions);
            if !leaderless.is_empty() && self.learn_leaders(leaderless).await? {
                continue;
            }
            let over = async {
                match &mut self.membership {
                    Some(membership) => membership.over().await,
                    None => std::future::pending().await,
                }
            };
            let troubles = tokio::select! {
                troubles = self.fetcher.next(&mut self.positions) => troubles,
                () = over => continue,
            };
            self.act_on(troubles).await?;
        }
    }

    /// Asks for the metadata of `topics`. True if that told all their leaders. A member of a group
    /// that is not its leader has never asked before.
    async fn learn_leaders(&mut self, topics: BTreeSet<Arc<str>>) -> Result<bool, ClientError> {
        let topics: Vec<Arc<str>> = topics.into_iter().collect();
        match self.client.refresh(&topics, false).await {
            Ok(cluster) => Ok(self.positions.places().all(|(topic, partition)| {
                !topics.contains(topic) || cluster.leader(topic, *partition).is_some()
            })),
            Err(error) if error.is_retriable() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn act_on(&mut self, troubles: Vec<Trouble>) -> Result<(), ClientError> {
        let mut moved: Vec<Arc<str>> = Vec::new();
        let mut fault = None;
        for trouble in troubles {
            match trouble {
                Trouble::Leader((topic, _)) => moved.push(topic),
                Trouble::Fault(error) => fault = fault.or(Some(error)),
                Trouble::OutOfRange(place) => {
                    self.fetcher.forget(&place);
                    self.positions.seek(&place, None);
                    if self.settings.offset_reset == OffsetReset::Fail {
                        fault = fault.or(Some(no_position(&place)));
                    }
                }
            }
        }
        moved.sort();
        moved.dedup();
        if !moved.is_empty() {
            match self.client.refresh(&moved, false).await {
                Err(error) if !error.is_retriable() => fault = fault.or(Some(error)),
                _ => {}
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// Has partitions to read: those given, all of the topics given, or the group's share.
    async fn ensure_assigned(&mut self) -> Result<(), ClientError> {
        if self.settings.group.is_some() {
            return self.ensure_joined().await;
        }
        if self.is_assigned {
            return Ok(());
        }
        let places = match self.settings.partitions.is_empty() {
            false => {
                let topics = self.settings.partitions.iter().map(|(topic, _)| Arc::clone(topic));
                wait_for_topics(&self.client, topics.collect()).await?;
                self.settings.partitions.clone()
            }
            true => {
                wait_for_topics(&self.client, self.settings.topics.clone()).await?;
                self.all_partitions()
            }
        };
        self.positions.assign(places);
        self.is_assigned = true;
        Ok(())
    }

    fn all_partitions(&self) -> Vec<Place> {
        let cluster = self.client.cluster();
        let topics = self.settings.topics.iter().filter_map(|topic| cluster.topics.get(topic));
        topics
            .flat_map(|topic| topic.partitions.iter().map(|p| (Arc::clone(&topic.name), p.index)))
            .collect()
    }

    async fn ensure_joined(&mut self) -> Result<(), ClientError> {
        if self.membership.as_ref().is_some_and(|membership| !membership.is_over()) {
            return Ok(());
        }
        if let Some(membership) = self.membership.take() {
            // The last word of the generation; if it is refused, others will read again.
            self.member_id = membership.member_id().to_owned();
            let due = self.positions.uncommitted();
            if self.settings.auto_commit.is_some() && !due.is_empty() {
                let _ = membership.commit(&due).await;
            }
            self.give_up_assignment();
        }
        let joining = self.joining.get_or_insert_with(|| {
            let member_id = std::mem::take(&mut self.member_id);
            Box::pin(group::join(self.client.clone(), self.settings.clone(), member_id))
        });
        let joined = joining.await;
        self.joining = None;
        let membership = joined?;
        let assignment = membership.assignment.iter();
        let places = assignment.flat_map(|(topic, partitions)| {
            let topic: Arc<str> = topic.as_str().into();
            partitions.iter().map(move |partition| (Arc::clone(&topic), *partition))
        });
        self.positions.assign(places);
        self.membership = Some(membership);
        Ok(())
    }

    fn give_up_assignment(&mut self) {
        self.fetcher.forget_all();
        self.positions.assign([]);
    }

    /// Finds out where to begin, for every partition that has no position yet: at the group's
    /// committed offset, else as the reset policy says.
    async fn place_all(&mut self) -> Result<(), ClientError> {
        let unplaced = self.positions.unplaced();
        if unplaced.is_empty() {
            return Ok(());
        }
        if let Some(membership) = &self.membership {
            let first_time: Vec<Place> =
                unplaced.iter().filter(|p| self.is_new(p)).cloned().collect();
            if !first_time.is_empty() {
                for offset in membership.committed(&first_time).await? {
                    let place = (offset.topic.as_str().into(), offset.partition);
                    self.positions.seek(&place, Some(offset.offset));
                    self.positions.committed(&place, offset.offset);
                }
            }
        }
        let spec = match self.settings.offset_reset {
            OffsetReset::Earliest => OffsetSpec::Earliest,
            OffsetReset::Latest => OffsetSpec::Latest,
            OffsetReset::Fail => match self.positions.unplaced().first() {
                Some(place) => return Err(no_position(place)),
                None => return Ok(()),
            },
        };
        match self.reset_to(spec).await {
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "offsets not known yet");
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// A partition whose committed offset was never asked for in this generation.
    fn is_new(&self, place: &Place) -> bool {
        self.positions.get(place).is_some_and(|position| position.committed.is_none())
    }

    async fn reset_to(&mut self, spec: OffsetSpec) -> Result<(), ClientError> {
        let mut topics: Vec<Arc<str>> =
            self.positions.unplaced().into_iter().map(|(topic, _)| topic).collect();
        topics.dedup();
        if topics.is_empty() {
            return Ok(());
        }
        let cluster = self.client.refresh(&topics, false).await?;
        let mut by_leader: BTreeMap<(i32, Arc<str>), Vec<i32>> = BTreeMap::new();
        for (topic, partition) in self.positions.unplaced() {
            let leader = cluster.leader(&topic, partition).ok_or_else(|| {
                ClientError::NotFound { what: format!("the leader of {topic}/{partition}") }
            })?;
            by_leader.entry((leader, topic)).or_default().push(partition);
        }
        for ((leader, topic), partitions) in by_leader {
            let lane = self.client.lane(leader).await?;
            let request = list_offsets_request(&topic, &partitions, spec);
            let response = lane.call(request).await?;
            let response = expect_response!(lane, response, ListOffsets);
            for found in partition_offsets(&topic, response)? {
                self.positions.seek(&(Arc::clone(&topic), found.partition), Some(found.offset));
            }
        }
        Ok(())
    }

    async fn commit_if_due(&mut self) {
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
    /// [`ClientError::Broker`] with `RebalanceInProgress` or `IllegalGeneration` if the group has
    /// moved on: the records will be read again, by this member or another.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let Some(membership) = &self.membership else {
            return match self.settings.group {
                Some(_) => Ok(()),
                None => Err(ClientError::Config {
                    setting: "group",
                    reason: "only a group remembers offsets".to_owned(),
                }),
            };
        };
        self.last_commit = Instant::now();
        let due = self.positions.uncommitted();
        if due.is_empty() {
            return Ok(());
        }
        membership.commit(&due).await?;
        for (place, offset) in due {
            self.positions.committed(&place, offset);
        }
        Ok(())
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
        self.fetcher.forget(&place);
        match self.positions.seek(&place, Some(offset.max(0))) {
            true => Ok(()),
            false => Err(ClientError::NotFound {
                what: format!("{}/{partition} in this consumer's assignment", place.0),
            }),
        }
    }

    /// The partitions that it reads now.
    pub fn assignment(&self) -> Vec<(Arc<str>, i32)> {
        self.positions.places().cloned().collect()
    }

    /// The offset that `poll` returns next of a partition, once that is known.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.positions.get(&(topic.into(), partition))?.next
    }

    /// The client below.
    pub fn client(&self) -> &Client {
        &self.client
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
}

/// Not a method: a borrow of the whole consumer would tie `poll` to one thread.
async fn wait_for_topics(client: &Client, topics: Vec<Arc<str>>) -> Result<(), ClientError> {
    loop {
        match client.refresh(&topics, false).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retriable() => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

fn no_position(place: &Place) -> ClientError {
    ClientError::Broker {
        what: format!("{}/{} has no offset to begin at", place.0, place.1),
        code: ErrorCode::OffsetOutOfRange,
        message: Some("seek, or set another offset reset".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientConfig;

    fn check_send<T: Send>(value: T) -> T {
        value
    }

    #[tokio::test]
    async fn a_consumer_may_move_to_another_thread_while_it_polls() {
        let client = Client::new(ClientConfig::new("127.0.0.1:9").unwrap());
        let mut consumer = check_send(Consumer::builder().topic("t").build(client).unwrap());
        drop(check_send(consumer.poll(Duration::ZERO)));
        drop(check_send(consumer.commit()));
        drop(check_send(consumer.close()));
    }
}
