//! The consumer: partitions given or shared out by a group, records by `poll`, offsets by `commit`.
//!
//! It never commits what `poll` has not returned, and never holds more than one fetch per broker.

mod assignor;
mod builder;
mod classic;
mod fetch;
mod isolation;
mod managed;
mod membership;
mod offsets;
mod positions;
mod record;
mod steer;

pub(crate) use offsets::commit as commit_offsets;

pub use builder::{ConsumerBuilder, GroupProtocol, OffsetReset, Rebalance};
pub use record::ConsumedRecord;

use crate::admin::OffsetSpec;
use crate::client::Client;
use crate::error::ClientError;
use fetch::{Fetcher, Trouble};
use futures::future::BoxFuture;
use membership::Membership;
use millpond_wire::ErrorCode;
use positions::{Place, Positions};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use steer::wait_for_topics;
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
        self.positions.mark_done();
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
            self.fetch_more().await?;
        }
    }

    /// Resolves when [`poll`](Self::poll) has records to return, and leaves them there; false after
    /// `timeout`. Like `poll` it joins and rebalances, so that one who works long on what it has stays in
    /// the group; unlike `poll` it does not say that what was returned is done.
    ///
    /// # Errors
    /// As of [`poll`](Self::poll).
    pub async fn ready(&mut self, timeout: Duration) -> Result<bool, ClientError> {
        let deadline = Instant::now() + timeout;
        let ready = async {
            loop {
                self.ensure_assigned().await?;
                if self.fetcher.is_ready(&mut self.positions)? {
                    return Ok(true);
                }
                self.fetch_more().await?;
            }
        };
        tokio::time::timeout_at(deadline, ready).await.unwrap_or(Ok(false))
    }

    /// Stays in the group for `time`, as [`poll`](Self::poll) does, and returns no records.
    ///
    /// # Errors
    /// As of [`poll`](Self::poll).
    pub async fn tend(&mut self, time: Duration) -> Result<(), ClientError> {
        let deadline = Instant::now() + time;
        let tend = async {
            loop {
                self.ensure_assigned().await?;
                match &mut self.membership {
                    Some(membership) => membership.news().await,
                    None => std::future::pending().await,
                }
            }
        };
        tokio::time::timeout_at(deadline, tend).await.unwrap_or(Ok(()))
    }

    /// Asks for records and waits until some came, or something else happened.
    async fn fetch_more(&mut self) -> Result<(), ClientError> {
        self.place_all().await?;
        let leaderless = self.fetcher.start(&self.positions);
        if !leaderless.is_empty() && self.learn_leaders(leaderless).await? {
            return Ok(());
        }
        let news = async {
            match &mut self.membership {
                Some(membership) => membership.news().await,
                None => std::future::pending().await,
            }
        };
        let troubles = tokio::select! {
            troubles = self.fetcher.next(&mut self.positions) => troubles,
            () = news => return Ok(()),
        };
        self.act_on(troubles).await
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
        self.positions.add(places);
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
            return self.reconcile().await;
        }
        if let Some(membership) = &self.membership {
            // The last word of the generation; if it is refused, others will read again.
            let due = self.positions.done_uncommitted();
            if self.settings.auto_commit.is_some() && !due.is_empty() {
                let _ = membership.commit(&due).await;
            }
        }
        match self.membership.take() {
            Some(Membership::Classic(member)) => {
                self.member_id = member.member_id().to_owned();
                self.give_up_assignment(false);
            }
            Some(Membership::Managed(_)) => self.give_up_assignment(true),
            None => {}
        }
        let joining = self.joining.get_or_insert_with(|| {
            let member_id = std::mem::take(&mut self.member_id);
            Box::pin(membership::join(self.client.clone(), self.settings.clone(), member_id))
        });
        let joined = joining.await;
        self.joining = None;
        let membership = joined?;
        if let Membership::Classic(member) = &membership {
            let places = member.places();
            self.positions.add(places.iter().cloned());
            self.settings.listeners.tell(Rebalance::Assigned(&places));
        }
        self.membership = Some(membership);
        self.reconcile().await
    }

    /// Makes of the assignment what the broker has said since: gives up first, then takes up. Another
    /// member has what is given up only after this.
    async fn reconcile(&mut self) -> Result<(), ClientError> {
        let Some(Membership::Managed(member)) = &mut self.membership else { return Ok(()) };
        if let Some(change) = member.change().await? {
            let (revoked, is_lost) = (&change.revoked, change.is_lost);
            if !is_lost && self.settings.auto_commit.is_some() {
                let mut due = self.positions.done_uncommitted();
                due.retain(|(place, _)| revoked.contains(place));
                if !due.is_empty()
                    && let Err(error) = member.commit(&due).await
                {
                    tracing::debug!(%error, "not committed; others will read it again");
                }
            }
            // From here on nothing is waited for: a poll that is dropped leaves all or nothing.
            for place in revoked {
                self.fetcher.forget(place);
                self.positions.remove(place);
            }
            let listeners = &self.settings.listeners;
            listeners.tell(match is_lost {
                true => Rebalance::Lost(revoked),
                false => Rebalance::Revoked(revoked),
            });
            self.positions.add(change.added.iter().cloned());
            listeners.tell(Rebalance::Assigned(&change.added));
            member.settled(change);
        }
        Ok(())
    }

    fn give_up_assignment(&mut self, is_lost: bool) {
        let places: Vec<Place> = self.positions.places().cloned().collect();
        self.settings.listeners.tell(match is_lost {
            true => Rebalance::Lost(&places),
            false => Rebalance::Revoked(&places),
        });
        self.fetcher.forget_all();
        self.positions.clear();
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
                let stable = self.settings.read_committed;
                let offsets = match membership.committed(&first_time, stable).await {
                    Ok(offsets) => offsets,
                    Err(error) if error.is_retriable() => {
                        tracing::debug!(%error, "committed offsets not known yet");
                        tokio::time::sleep(PAUSE).await;
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                };
                for offset in offsets {
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

    /// The client below.
    pub fn client(&self) -> &Client {
        &self.client
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
