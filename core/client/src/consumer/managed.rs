//! Membership of a group whose assignments the broker computes (KIP-848): one heartbeat joins, says what
//! is read, learns what is to be read, and leaves.
//!
//! Partitions are given up before others are told of them, one by one, and the rest flow on. It outlives
//! its connection. It never says that it has let go of what may still be read, and never commits for a
//! membership that it has lost.

use super::builder::ConsumerBuilder;
use super::offsets;
use super::positions::Place;
use crate::GroupPlace;
use crate::client::{Client, expect_response};
use crate::connection::{Connection, millis};
use crate::error::{CallError, ClientError};
use crate::path::jittered;
use millpond_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use millpond_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, Request,
};
use millpond_wire::{ApiKey, ErrorCode, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The epochs that join and leave.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;
/// The pause before something that may heal is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Bounds of the interval that a broker may ask for.
const INTERVAL_MIN: Duration = Duration::from_millis(20);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// How long a commit waits for the epoch that the broker has already.
const EPOCH_WAIT: Duration = Duration::from_secs(5);
/// How often a commit follows a new epoch or a new line.
const COMMIT_TRIES: usize = 5;

/// Partitions, by topic.
type Shares = BTreeMap<Uuid, BTreeSet<i32>>;

/// What the broker has told.
#[derive(Clone, Debug)]
struct View {
    lane: Connection,
    epoch: i32,
    target: Shares,
    /// Rises when the membership was lost and begun anew.
    life: u64,
    /// Why it ended.
    fault: Option<ClientError>,
}

/// What is read, and in which life it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Owned {
    life: u64,
    shares: Shares,
}

/// What is to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// To be given up; others have them already if the membership was lost.
    pub(crate) revoked: Vec<Place>,
    pub(crate) is_lost: bool,
    /// To be taken up after that.
    pub(crate) added: Vec<Place>,
    /// What is read afterwards, and in which life.
    has: BTreeMap<Place, Uuid>,
    life: u64,
}

/// A place in a group.
#[derive(Debug)]
pub(crate) struct Member {
    client: Client,
    group: String,
    member_id: String,
    topics: Vec<Arc<str>>,
    view: watch::Receiver<View>,
    owned: watch::Sender<Owned>,
    /// What is read, by the id that the topic had when it was given.
    has: BTreeMap<Place, Uuid>,
    life: u64,
    /// What the broker said last is not made true yet.
    is_open: bool,
    /// Something that was given has no name yet.
    is_puzzled: bool,
    beats: AbortHandle,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

/// Joins; tries again for as long as that may help.
pub(crate) async fn join(
    client: Client,
    settings: &ConsumerBuilder,
) -> Result<Member, ClientError> {
    let group = settings.group.clone().unwrap_or_default();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&chance().to_be_bytes());
    id[8..].copy_from_slice(&chance().to_be_bytes());
    let member_id = Uuid::from_random(id).to_string();
    let (owned, told) = watch::channel(Owned::default());
    let mut topics = settings.topics.clone();
    topics.sort();
    topics.dedup();
    let mut beats = Beats {
        client: client.clone(),
        group: group.clone(),
        member_id: member_id.clone(),
        topics: topics.clone(),
        rebalance_timeout: settings.rebalance_timeout,
        lane: None,
        epoch: JOIN,
        target: Shares::new(),
        life: 1,
        interval: settings.heartbeat_interval,
        owned: told,
        told: None,
        is_full: true,
    };
    loop {
        match beats.once().await {
            Ok(()) => break,
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "joining again");
                beats.rest().await;
            }
            Err(error) => return Err(error),
        }
    }
    let lane = beats.lane.clone();
    let lane = lane.ok_or_else(|| ClientError::NotFound { what: format!("group `{group}`") })?;
    let (show, view) = watch::channel(beats.view(lane, None));
    let beats = tokio::spawn(beats.run(show)).abort_handle();
    Ok(Member {
        client,
        group,
        member_id,
        topics,
        view,
        owned,
        has: BTreeMap::new(),
        life: 0,
        is_open: true,
        is_puzzled: false,
        beats,
    })
}

/// The task that shows life.
struct Beats {
    client: Client,
    group: String,
    member_id: String,
    topics: Vec<Arc<str>>,
    rebalance_timeout: Duration,
    lane: Option<Connection>,
    epoch: i32,
    target: Shares,
    life: u64,
    interval: Duration,
    owned: watch::Receiver<Owned>,
    /// What the broker was last told, and heard.
    told: Option<Shares>,
    /// The broker may not have heard the last one: everything is said.
    is_full: bool,
}

impl Beats {
    fn view(&self, lane: Connection, fault: Option<ClientError>) -> View {
        let target = self.target.clone();
        View { lane, epoch: self.epoch, target, life: self.life, fault }
    }

    async fn run(mut self, show: watch::Sender<View>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                changed = self.owned.changed() => if changed.is_err() { return },
            }
            // Until one is heard, or none ever will be.
            loop {
                let life = self.life;
                let outcome = self.once().await;
                let fault = match &outcome {
                    Err(error) if !error.is_retriable() && life == self.life => Some(error.clone()),
                    _ => None,
                };
                let (is_over, lane) = (fault.is_some(), self.lane.clone());
                let lane = lane.unwrap_or_else(|| show.borrow().lane.clone());
                show.send_replace(self.view(lane, fault));
                match outcome {
                    _ if is_over => return,
                    Ok(()) => break,
                    Err(error) => tracing::debug!(%error, "not heard"),
                }
                self.rest().await;
            }
        }
    }

    /// One heartbeat.
    async fn once(&mut self) -> Result<(), ClientError> {
        let lane = match self.lane.take().filter(|lane| !lane.is_closed()) {
            Some(lane) => lane,
            None => {
                self.is_full = true;
                let coordinator = self.client.group_coordinator(&self.group).await?;
                self.client.lane(coordinator).await?
            }
        };
        let api = ApiKey::ConsumerGroupHeartbeat;
        if lane.version(api).is_none() {
            return Err(CallError::Unsupported { broker: lane.broker().clone(), api }.into());
        }
        let owned = self.owned.borrow_and_update().clone();
        let owned = if owned.life == self.life { owned.shares } else { Shares::new() };
        let was_full = std::mem::replace(&mut self.is_full, true);
        let request = self.request(&owned, was_full);
        let response = lane.call(Request::ConsumerGroupHeartbeat(request)).await?;
        let response = expect_response!(lane, response, ConsumerGroupHeartbeat);
        self.lane = Some(lane);
        self.hear(response, owned)
    }

    fn request(&self, owned: &Shares, is_full: bool) -> ConsumerGroupHeartbeatRequest {
        let says_owned = is_full || self.told.as_ref() != Some(owned);
        let topics = owned.iter().map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
        });
        let names = || self.topics.iter().map(|topic| topic.to_string()).collect();
        let timeout_ms = i32::try_from(millis(self.rebalance_timeout)).unwrap_or(i32::MAX);
        ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if is_full { timeout_ms } else { -1 },
            subscribed_topic_names: is_full.then(names),
            topic_partitions: says_owned.then(|| topics.collect()),
            ..Default::default()
        }
    }

    fn hear(
        &mut self,
        response: ConsumerGroupHeartbeatResponse,
        owned: Shares,
    ) -> Result<(), ClientError> {
        let what = format!("being a member of group `{}`", self.group);
        let refused = ClientError::refused(what, response.error_code, response.error_message);
        if let Some(error) = refused {
            match error.code() {
                // Others may have its partitions: it begins anew, with none.
                Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => {
                    self.epoch = JOIN;
                    self.life += 1;
                    self.told = None;
                    self.target.clear();
                }
                Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                    self.lane = None;
                }
                _ => {}
            }
            return Err(error);
        }
        self.is_full = false;
        self.told = Some(owned);
        self.epoch = response.member_epoch;
        let interval =
            Duration::from_millis(u64::try_from(response.heartbeat_interval_ms).unwrap_or(0));
        self.interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        if let Some(assignment) = response.assignment {
            self.target.clear();
            for topic in assignment.topic_partitions {
                self.target.entry(topic.topic_id).or_default().extend(topic.partitions);
            }
        }
        Ok(())
    }

    async fn rest(&self) {
        tokio::time::sleep(jittered(PAUSE, chance())).await;
    }
}

impl Member {
    /// For offsets in a transaction: a member that was replaced is refused.
    pub(crate) fn place(&self) -> GroupPlace {
        self.place_at(self.view.borrow().epoch)
    }

    fn place_at(&self, epoch: i32) -> GroupPlace {
        GroupPlace {
            group: self.group.clone(),
            member_id: self.member_id.clone(),
            generation_id: epoch,
        }
    }

    /// The line to the coordinator, as it was last heard over.
    pub(crate) fn lane(&self) -> Connection {
        self.view.borrow().lane.clone()
    }

    /// Why it ended, if it did.
    pub(crate) fn fault(&self) -> Option<ClientError> {
        self.view.borrow().fault.clone()
    }

    /// Resolves when the broker has said something new. Cancellation-safe.
    pub(crate) async fn news(&mut self) {
        if self.is_puzzled {
            tokio::time::sleep(PAUSE).await;
        } else if self.view.changed().await.is_ok() {
            // It counts as seen from here on.
            self.is_open = true;
        } else {
            // The task is gone with its fault told.
            std::future::pending().await
        }
    }

    /// What is to change now; `None`: nothing. It says the same until [`settled`](Self::settled) is
    /// called. Cancellation-safe.
    pub(crate) async fn change(&mut self) -> Result<Option<Change>, ClientError> {
        if !self.is_open && !self.is_puzzled && !self.view.has_changed().unwrap_or(false) {
            return Ok(None);
        }
        self.is_open = true;
        let (target, life) = {
            let view = self.view.borrow_and_update();
            (view.target.clone(), view.life)
        };
        let wanted = self.named(&target).await?;
        let mut change = difference(&self.has, wanted, life != self.life);
        (change.is_lost, change.life) = (life != self.life && self.life > 0, life);
        Ok(Some(change))
    }

    /// The change is made: the broker may give to others what was let go.
    pub(crate) fn settled(&mut self, change: Change) {
        (self.has, self.life, self.is_open) = (change.has, change.life, false);
        let mut shares = Shares::new();
        for ((_, partition), id) in &self.has {
            shares.entry(*id).or_default().insert(*partition);
        }
        let owned = Owned { life: self.life, shares };
        self.owned.send_if_modified(|now| {
            let is_other = *now != owned;
            *now = owned;
            is_other
        });
    }

    /// Partitions by their topics' names, as far as these are known.
    async fn named(&mut self, target: &Shares) -> Result<BTreeMap<Place, Uuid>, ClientError> {
        let (mut wanted, mut missing) = names(&self.client, &self.topics, target);
        if missing {
            match self.client.refresh(&self.topics, false).await {
                Ok(_) | Err(ClientError::Broker { .. } | ClientError::NotFound { .. }) => {}
                Err(error) if error.is_retriable() => {}
                Err(error) => return Err(error),
            }
            (wanted, missing) = names(&self.client, &self.topics, target);
        }
        self.is_puzzled = missing;
        Ok(wanted)
    }

    /// Commits, under the epoch that the broker has.
    pub(crate) async fn commit(&self, offsets: &[(Place, i64)]) -> Result<(), ClientError> {
        let mut view = self.view.clone();
        let mut tries = 0;
        loop {
            let now = view.borrow_and_update().clone();
            if let Some(fault) = now.fault {
                return Err(fault);
            }
            if now.life != self.life {
                return Err(lost(&self.group));
            }
            let outcome = offsets::commit(&now.lane, &self.place_at(now.epoch), offsets).await;
            let error = match outcome {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let is_passing =
                error.is_retriable() || error.code() == Some(ErrorCode::StaleMemberEpoch);
            tries += 1;
            if !is_passing || tries == COMMIT_TRIES {
                return Err(error);
            }
            // The next epoch, or the next line, is on its way here.
            if tokio::time::timeout(EPOCH_WAIT, view.changed()).await.is_err() {
                return Err(error);
            }
        }
    }

    /// Tells the group that this member goes, so that the others need not wait for its silence.
    pub(crate) async fn leave(self) -> Result<(), ClientError> {
        self.beats.abort();
        let lane = self.lane();
        let request = Request::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: LEAVE,
            ..Default::default()
        });
        let response = lane.call(request).await?;
        let response = expect_response!(lane, response, ConsumerGroupHeartbeat);
        let what = format!("leaving group `{}`", self.group);
        let refused = ClientError::refused(what, response.error_code, response.error_message);
        refused.map_or(Ok(()), Err)
    }
}

/// `target` with the names that are known; true: some are not.
fn names(client: &Client, topics: &[Arc<str>], target: &Shares) -> (BTreeMap<Place, Uuid>, bool) {
    let cluster = client.cluster();
    let mut by_id = BTreeMap::new();
    for topic in topics.iter().filter_map(|name| cluster.topics.get(name)) {
        by_id.insert(topic.id, &topic.name);
    }
    let (mut wanted, mut is_missing) = (BTreeMap::new(), false);
    for (id, partitions) in target {
        match by_id.get(id) {
            Some(name) => {
                wanted.extend(partitions.iter().map(|p| ((Arc::clone(name), *p), *id)));
            }
            None => is_missing = true,
        }
    }
    (wanted, is_missing)
}

/// From what is read to what is to be read. A topic that was made anew under its name is another one.
fn difference(has: &BTreeMap<Place, Uuid>, wanted: BTreeMap<Place, Uuid>, is_anew: bool) -> Change {
    let stays = |place: &Place, id: &Uuid, of: &BTreeMap<Place, Uuid>| {
        !is_anew && of.get(place) == Some(id)
    };
    let revoked = has.iter().filter(|(place, id)| !stays(place, id, &wanted));
    let added = wanted.iter().filter(|(place, id)| !stays(place, id, has));
    Change {
        revoked: revoked.map(|(place, _)| place.clone()).collect(),
        added: added.map(|(place, _)| place.clone()).collect(),
        has: wanted,
        ..Change::default()
    }
}

fn lost(group: &str) -> ClientError {
    ClientError::Broker {
        what: format!("committing for group `{group}`"),
        code: ErrorCode::FencedMemberEpoch,
        message: Some("the group went on without this member; poll to begin anew".to_owned()),
    }
}

fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(of: &[(&str, i32, u8)]) -> BTreeMap<Place, Uuid> {
        of.iter().map(|(topic, p, id)| (((*topic).into(), *p), Uuid([*id; 16]))).collect()
    }

    fn places(of: &[(&str, i32)]) -> Vec<Place> {
        of.iter().map(|(topic, partition)| ((*topic).into(), *partition)).collect()
    }

    #[test]
    fn what_stays_is_not_touched() {
        let (has, wanted) =
            (shares(&[("t", 0, 1), ("t", 1, 1)]), shares(&[("t", 1, 1), ("t", 2, 1)]));
        let change = difference(&has, wanted, false);
        assert_eq!(change.revoked, places(&[("t", 0)]));
        assert_eq!(change.added, places(&[("t", 2)]));
    }

    #[test]
    fn a_topic_that_was_made_anew_is_read_from_its_beginning() {
        let change = difference(&shares(&[("t", 0, 1)]), shares(&[("t", 0, 2)]), false);
        assert_eq!((change.revoked, change.added), (places(&[("t", 0)]), places(&[("t", 0)])));
    }

    #[test]
    fn a_member_that_was_lost_begins_with_nothing() {
        let has = shares(&[("t", 0, 1)]);
        let change = difference(&has, has.clone(), true);
        assert_eq!((change.revoked, change.added), (places(&[("t", 0)]), places(&[("t", 0)])));
    }
}
