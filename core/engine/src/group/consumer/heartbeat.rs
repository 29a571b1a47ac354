//! ConsumerGroupHeartbeat: the one request by which a member joins, says what it reads and has,
//! learns what it is to have, and leaves. Checks all that a peer says before anything changes.

use super::assign::{Candidate, Input};
use super::membership::{full, unknown};
use super::{AWAY_EPOCH, Assignor, ConsumerGroup, MemberPlace, MemberWords};
use super::{Refusal, Shares, World};
use crate::acl::Principal;
use crate::units::Peer;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use millpond_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use std::collections::BTreeMap;
use std::sync::Arc;

const JOIN_EPOCH: i32 = 0;
const LEAVE_EPOCH: i32 = -1;

/// A heartbeat as it came.
pub(crate) struct Beat<'a> {
    pub(crate) request: &'a ConsumerGroupHeartbeatRequest,
    pub(crate) peer: &'a Peer,
    /// The client's own, or in version 0 one that was made for it.
    pub(crate) member_id: String,
    /// What the member has, if it says so.
    pub(super) owned: Option<Shares>,
}

/// An answer that carries nothing but an error.
pub(crate) fn refused(refusal: Refusal) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: refusal.code.code(),
        error_message: Some(refusal.message),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal { code: ErrorCode::InvalidRequest, message: message.to_owned() }
}

impl<'a> Beat<'a> {
    /// `fresh_id`: for one that joins in version 0 without an id.
    pub(crate) fn new(
        request: &'a ConsumerGroupHeartbeatRequest,
        peer: &'a Peer,
        version: i16,
        fresh_id: impl FnOnce() -> String,
    ) -> Result<Beat<'a>, Refusal> {
        check_names(request)?;
        let is_join = request.member_epoch == JOIN_EPOCH;
        if request.member_id.is_empty() && (version > 0 || !is_join) {
            return Err(invalid("MemberId can't be empty."));
        }
        check_epoch(request)?;
        if is_join {
            check_join(request)?;
        }
        check_sizes(request)?;
        let given = request.member_id.clone();
        let member_id = if given.is_empty() { fresh_id() } else { given };
        let owned = request.topic_partitions.as_ref().map(|topics| {
            let mut owned = Shares::new();
            for topic in topics {
                owned.entry(topic.topic_id).or_default().extend(&topic.partitions);
            }
            owned
        });
        Ok(Beat { request, peer, member_id, owned })
    }

    pub(crate) fn is_join(&self) -> bool {
        self.request.member_epoch == JOIN_EPOCH
    }

    /// For a group that is not there.
    pub(crate) fn unknown(&self) -> Refusal {
        unknown(&self.request.group_id, &self.member_id)
    }

    /// For a node that has no room for another member.
    pub(crate) fn no_room(&self) -> Refusal {
        full(&self.request.group_id)
    }

    /// All that a member can say is said: it does not know what was heard of it.
    fn is_full(&self) -> bool {
        let request = self.request;
        let subscribes =
            request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
        self.is_join()
            || (request.rebalance_timeout_ms >= 0
                && subscribes
                && request.topic_partitions.is_some())
    }
}

fn check_names(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let is_empty = |name: &Option<String>| name.as_ref().is_some_and(String::is_empty);
    if request.group_id.is_empty() {
        return Err(invalid("GroupId can't be empty."));
    }
    if is_empty(&request.instance_id) {
        return Err(invalid("InstanceId can't be empty."));
    }
    if is_empty(&request.rack_id) {
        return Err(invalid("RackId can't be empty."));
    }
    if let Some(name) = &request.server_assignor
        && Assignor::of_name(name).is_none()
    {
        let message = format!(
            "ServerAssignor {name} is not supported. Supported assignors: {}.",
            Assignor::NAMES
        );
        return Err(Refusal { code: ErrorCode::UnsupportedAssignor, message });
    }
    Ok(())
}

fn check_epoch(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    if request.member_epoch < AWAY_EPOCH {
        return Err(invalid("MemberEpoch is invalid."));
    }
    if request.member_epoch == AWAY_EPOCH && request.instance_id.is_none() {
        return Err(invalid("InstanceId can't be null."));
    }
    Ok(())
}

fn check_join(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    if request.rebalance_timeout_ms == -1 {
        return Err(invalid("RebalanceTimeoutMs must be provided in first request."));
    }
    if request.topic_partitions.as_ref().is_none_or(|topics| !topics.is_empty()) {
        return Err(invalid("TopicPartitions must be empty when (re-)joining."));
    }
    if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        return Err(invalid(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
             (re-)joining.",
        ));
    }
    Ok(())
}

fn check_sizes(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let is_long = |text: &str| text.len() > limits::MEMBER_ID_BYTES_MAX;
    let names = request.subscribed_topic_names.as_deref().unwrap_or_default();
    if request.group_id.len() > limits::GROUP_ID_BYTES_MAX
        || is_long(&request.member_id)
        || request.instance_id.as_deref().is_some_and(is_long)
        || request.rack_id.as_deref().is_some_and(is_long)
        || names.len() > limits::MEMBER_TOPICS_MAX
        || names.iter().any(|name| name.len() > limits::TOPIC_NAME_BYTES_MAX)
    {
        return Err(invalid("A name is too long, or there are too many topics."));
    }
    Ok(())
}

impl ConsumerGroup {
    /// Takes a heartbeat. Nothing has changed when it is refused.
    pub(crate) fn heartbeat(
        &mut self,
        world: &World<'_>,
        beat: &Beat<'_>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        match beat.request.member_epoch {
            LEAVE_EPOCH => {
                self.leave(beat)?;
                self.change(world);
                return Ok(farewell(beat));
            }
            AWAY_EPOCH => {
                self.go_away(beat)?;
                return Ok(farewell(beat));
            }
            _ => {}
        }
        if !beat.is_join() {
            self.check_member(beat)?;
        }
        if let Some(text) = &beat.request.subscribed_topic_regex {
            self.learn_pattern(world.catalog, text)?;
        }
        let is_new = beat.is_join() && self.join(world, beat)?;
        let says_other = self.take_words(beat);
        let is_stale = self.seen_catalog != world.catalog_seq || self.seen_rules != world.sight_seq;
        let is_other = self.take_sender(world, beat) || is_stale || is_new || says_other;
        if is_other && (self.refresh(world) || is_new || says_other) {
            self.raise_epoch();
        }
        if self.epoch > self.assignment_epoch {
            self.assign();
        }
        let before = self.members.get(&beat.member_id).map(|member| Arc::clone(&member.place));
        self.reconcile(world.now_ms, &beat.member_id, beat.owned.as_ref());
        Ok(self.answer(world, beat, before))
    }

    /// The group is another one without a member's doing: the next heartbeats tell.
    pub(crate) fn change(&mut self, world: &World<'_>) {
        self.refresh(world);
        self.raise_epoch();
        self.assign();
    }

    fn raise_epoch(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
    }

    /// Who sends for a member. True: another than before, who may see other topics.
    fn take_sender(&mut self, world: &World<'_>, beat: &Beat<'_>) -> bool {
        let Some(member) = self.members.get_mut(&beat.member_id) else { return false };
        let sender = world
            .sight
            .is_some()
            .then(|| (Principal::user(beat.peer.user.as_deref()), beat.peer.host.clone()));
        let is_other = member.words.regex.is_some() && member.sender != sender;
        member.sender = sender;
        is_other
    }

    /// What a member says of itself. True: others are touched by it.
    fn take_words(&mut self, beat: &Beat<'_>) -> bool {
        let Some(member) = self.members.get_mut(&beat.member_id) else { return false };
        let request = beat.request;
        let says_something = request.rebalance_timeout_ms >= 0
            || request.rack_id.is_some()
            || request.subscribed_topic_names.is_some()
            || request.subscribed_topic_regex.is_some()
            || request.server_assignor.is_some();
        let is_elsewhere = member.words.host != beat.peer.host
            || member.words.client_id != beat.peer.client_id.as_deref().unwrap_or_default();
        if !says_something && !is_elsewhere {
            return false;
        }
        let mut words = MemberWords::clone(&member.words);
        words.client_id = beat.peer.client_id.clone().unwrap_or_default();
        words.host.clone_from(&beat.peer.host);
        if let Ok(timeout_ms) = u64::try_from(request.rebalance_timeout_ms) {
            words.rebalance_timeout_ms = timeout_ms.min(limits::REBALANCE_TIMEOUT_MS_MAX);
        }
        if request.rack_id.is_some() {
            words.rack_id.clone_from(&request.rack_id);
        }
        if let Some(names) = &request.subscribed_topic_names {
            words.topics = names.iter().cloned().collect();
        }
        if let Some(text) = &request.subscribed_topic_regex {
            words.regex = Some(text.clone()).filter(|text| !text.is_empty());
        }
        if let Some(name) = &request.server_assignor {
            words.assignor = Assignor::of_name(name);
        }
        if *member.words == words {
            return false;
        }
        let old = &member.words;
        let is_other = (&old.topics, &old.regex, old.assignor)
            != (&words.topics, &words.regex, words.assignor);
        member.topics_bytes = words.topics.iter().map(String::len).sum();
        member.words = Arc::new(words);
        is_other
    }

    /// New targets for all.
    fn assign(&mut self) {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.words.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        // The first of the most: `max_by_key` would give the last.
        let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        self.assignor = most.map(|(assignor, _)| assignor).unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| Candidate {
            id,
            instance_id: member.words.instance_id.as_deref(),
            topics: &member.reads,
            had: self.targets.get(id).map(Arc::as_ref),
        });
        let input = Input { members: members.collect(), topics: &self.topics };
        let targets = self.assignor.assign(&input).into_iter();
        self.targets = targets.map(|(id, target)| (id, Arc::new(target))).collect();
        self.assignment_epoch = self.epoch;
        self.has_news_of_all = true;
    }

    fn answer(
        &mut self,
        world: &World<'_>,
        beat: &Beat<'_>,
        before: Option<Arc<MemberPlace>>,
    ) -> ConsumerGroupHeartbeatResponse {
        let mut response = ConsumerGroupHeartbeatResponse {
            heartbeat_interval_ms: world.config.consumer_heartbeat_interval_ms,
            ..ConsumerGroupHeartbeatResponse::default()
        };
        let Some(member) = self.members.get_mut(&beat.member_id) else { return response };
        member.session_deadline_ms = world.now_ms + world.config.consumer_session_timeout_ms;
        response.member_id = Some(beat.member_id.clone());
        response.member_epoch = member.place.epoch;
        let had = before.as_ref().map(|place| &place.assigned);
        if beat.is_full() || had != Some(&member.place.assigned) {
            let topics =
                member.place.assigned.iter().map(|(topic_id, partitions)| TopicPartitions {
                    topic_id: *topic_id,
                    partitions: partitions.iter().copied().collect(),
                });
            response.assignment = Some(Assignment { topic_partitions: topics.collect() });
        }
        response
    }
}

fn farewell(beat: &Beat<'_>) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        member_id: Some(beat.member_id.clone()),
        member_epoch: beat.request.member_epoch,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}
