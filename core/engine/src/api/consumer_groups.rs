//! ConsumerGroupHeartbeat and ConsumerGroupDescribe (KIP-848): handed to the group, its timer kept.
//! Never turns a classic group with members into another kind.

use super::GROUP_OPERATIONS;
use crate::access::Sight;
use crate::engine::{Engine, Timer};
use crate::group::consumer::{Assignor, Beat, ConsumerMember, Refusal, Shares, World, refused};
use crate::group::{ConsumerGroup, is_valid_group_id};
use crate::units::{Peer, RequestId};
use crate::view::GroupKind;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use millpond_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, Response,
};
use millpond_wire::uuid::Uuid;

impl Engine {
    pub(crate) fn on_consumer_group_heartbeat(
        &mut self,
        id: RequestId,
        peer: &Peer,
        request: &ConsumerGroupHeartbeatRequest,
        version: i16,
    ) {
        let rng = &mut self.rng;
        let fresh_id = || Uuid::from_random(rng.bytes16()).to_string();
        let answer = Beat::new(request, peer, version, fresh_id)
            .and_then(|beat| self.consumer_heartbeat(&beat));
        // What it is told of topics and epochs must be there after a crash, too.
        let group = self.groups.consumer(&request.group_id);
        let seq = match group {
            _ if self.is_drafting() => self.current_seq(),
            Some(group) => self.catalog_seq.max(group.kept_in),
            None => self.catalog_seq,
        };
        let response = answer.unwrap_or_else(refused);
        self.reply_after(seq, id, Response::ConsumerGroupHeartbeat(response));
    }

    fn consumer_heartbeat(
        &mut self,
        beat: &Beat<'_>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let group_id = beat.request.group_id.as_str();
        self.consumer_group_for(beat)?;
        let answer = self.with_consumer_group(group_id, Some(&beat.member_id), |group, world| {
            group.heartbeat(world, beat)
        });
        answer.unwrap_or_else(|| Err(beat.unknown()))
    }

    /// Makes the group if a member joins; an empty classic one becomes it.
    fn consumer_group_for(&mut self, beat: &Beat<'_>) -> Result<(), Refusal> {
        let group_id = beat.request.group_id.as_str();
        if let Some(classic) = self.groups.get(group_id) {
            if !classic.is_idle() {
                let message = format!("Group {group_id} is not a consumer group.");
                return Err(Refusal { code: ErrorCode::GroupIdNotFound, message });
            }
            if !beat.is_join() {
                return Err(beat.unknown());
            }
            self.remove_classic_group(group_id);
        }
        if !beat.is_join() {
            let is_there = self.groups.consumer(group_id).is_some();
            return if is_there { Ok(()) } else { Err(beat.unknown()) };
        }
        // A new member could not be kept; clients try again.
        if self.space.is_stuck() {
            let message = "The disk takes no writes now.".to_owned();
            return Err(Refusal { code: ErrorCode::CoordinatorNotAvailable, message });
        }
        let load = self.groups.load();
        let own = self.groups.consumer(group_id).map_or(0, |group| group.load().bytes);
        if load.members >= limits::MEMBERS_MAX
            || load.bytes >= limits::MEMBERS_BYTES_MAX
            || own >= limits::GROUP_BYTES_MAX
        {
            return Err(beat.no_room());
        }
        if self.groups.consumer(group_id).is_none() {
            self.room_for_group(group_id).map_err(|_| beat.no_room())?;
            let note = self.state.notes.get(group_id);
            let group = ConsumerGroup::starting_at(note.map_or(0, |note| note.epochs_upto));
            self.groups.insert_consumer(group_id, group).map_err(|_| beat.no_room())?;
        }
        Ok(())
    }

    pub(crate) fn on_consumer_group_deadline(&mut self, group_id: &str) {
        if let Some(group) = self.groups.consumer_mut(group_id) {
            group.armed_ms = None;
        }
        self.with_consumer_group(group_id, None, |group, world| {
            if group.expire(world.now_ms) {
                group.change(world);
            }
        });
        self.seal_if_large();
    }

    /// Lets a group decide, keeps what it decided and keeps its timer. `None`: there is no such
    /// group. `spoke`: the member that this is about.
    pub(crate) fn with_consumer_group<T>(
        &mut self,
        group_id: &str,
        spoke: Option<&str>,
        decide: impl FnOnce(&mut ConsumerGroup, &World<'_>) -> T,
    ) -> Option<T> {
        let keeps_rules = self.keeps_rules();
        let group = self.groups.consumer_mut(group_id)?;
        let sight = Sight { rules: &self.state.acls, config: &self.config.access };
        let world = World {
            now_ms: self.now.mono_ms,
            config: &self.config,
            catalog: &self.state.catalog,
            catalog_seq: self.catalog_seq,
            sight: keeps_rules.then_some(sight),
            // The first user makes that rules are kept.
            sight_seq: self.acls_seq.max(self.users_seq),
        };
        let (before, epoch) = (group.load(), group.epoch);
        let result = decide(group, &world);
        let after = group.load();
        self.counters.rebalances += u64::from(group.epoch != epoch);
        let (next_ms, armed_ms) = (group.next_deadline_ms(), group.armed_ms);
        // A timer that is early does no harm: it looks and is set again.
        if armed_ms.is_none_or(|armed| next_ms.is_some_and(|next| armed > next)) {
            group.armed_ms = next_ms;
            self.disarm_consumer_group(group_id, armed_ms);
            if let Some(next_ms) = next_ms {
                self.timers.insert((next_ms, Timer::ConsumerGroup(group_id.to_owned())));
            }
        }
        self.groups.reckon(before, after);
        self.keep_consumers(group_id, spoke);
        if after.members == 0 {
            self.remove_consumer_group(group_id);
        }
        Some(result)
    }

    pub(crate) fn remove_consumer_group(&mut self, group_id: &str) {
        let armed_ms = self.groups.remove_consumer(group_id).and_then(|group| group.armed_ms);
        self.disarm_consumer_group(group_id, armed_ms);
    }

    fn disarm_consumer_group(&mut self, group_id: &str, armed_ms: Option<u64>) {
        if let Some(armed_ms) = armed_ms {
            self.timers.remove(&(armed_ms, Timer::ConsumerGroup(group_id.to_owned())));
        }
    }

    pub(crate) fn on_consumer_group_describe(
        &mut self,
        id: RequestId,
        request: &ConsumerGroupDescribeRequest,
    ) {
        let mut response = ConsumerGroupDescribeResponse::default();
        for group_id in &request.group_ids {
            let mut described = self.described(group_id);
            if request.include_authorized_operations && described.error_code == 0 {
                described.authorized_operations = GROUP_OPERATIONS;
            }
            response.groups.push(described);
        }
        self.reply(id, Response::ConsumerGroupDescribe(response));
    }

    fn described(&self, group_id: &str) -> DescribedGroup {
        let failed = |code: ErrorCode, message: String| DescribedGroup {
            error_code: code.code(),
            error_message: Some(message),
            group_id: group_id.to_owned(),
            ..DescribedGroup::default()
        };
        if !is_valid_group_id(group_id) {
            return failed(ErrorCode::InvalidGroupId, "The group id is not allowed.".to_owned());
        }
        let Some(group) = self.groups.consumer(group_id) else {
            let why = match self.group(group_id) {
                // Only its offsets and its note are left of it.
                Some(view) if view.kind == GroupKind::Consumer => {
                    let epoch = self.state.notes.get(group_id).map_or(0, |note| note.epochs_upto);
                    return DescribedGroup {
                        group_id: group_id.to_owned(),
                        group_state: view.state.name().to_owned(),
                        group_epoch: epoch,
                        assignment_epoch: epoch,
                        assignor_name: Assignor::default().name().to_owned(),
                        ..DescribedGroup::default()
                    };
                }
                Some(_) => format!("Group {group_id} is not a consumer group."),
                None => format!("Group {group_id} not found."),
            };
            return failed(ErrorCode::GroupIdNotFound, why);
        };
        let member = |(id, member): (&String, &ConsumerMember)| {
            self.described_member(id, member, group.targets.get(id).map(|target| target.as_ref()))
        };
        DescribedGroup {
            group_id: group_id.to_owned(),
            group_state: group.state().name().to_owned(),
            group_epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            assignor_name: group.assignor.name().to_owned(),
            members: group.members.iter().map(member).collect(),
            ..DescribedGroup::default()
        }
    }

    fn described_member(
        &self,
        member_id: &str,
        member: &ConsumerMember,
        target: Option<&Shares>,
    ) -> Member {
        Member {
            member_id: member_id.to_owned(),
            instance_id: member.words.instance_id.clone(),
            rack_id: member.words.rack_id.clone(),
            member_epoch: member.place.epoch,
            client_id: member.words.client_id.clone(),
            client_host: member.words.host.clone(),
            subscribed_topic_names: member.words.topics.iter().cloned().collect(),
            subscribed_topic_regex: member.words.regex.clone(),
            assignment: self.described_shares(&member.place.assigned),
            target_assignment: target
                .map(|shares| self.described_shares(shares))
                .unwrap_or_default(),
            member_type: CONSUMER_PROTOCOL,
        }
    }

    fn described_shares(&self, shares: &Shares) -> Assignment {
        let topics = shares.iter().filter_map(|(topic_id, partitions)| {
            let topic = self.state.catalog.by_id(*topic_id)?;
            Some(TopicPartitions {
                topic_id: *topic_id,
                topic_name: topic.name.clone(),
                partitions: partitions.iter().copied().collect(),
            })
        });
        Assignment { topic_partitions: topics.collect() }
    }
}

const CONSUMER_PROTOCOL: i8 = 1;
