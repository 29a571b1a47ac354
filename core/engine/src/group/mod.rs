//! Consumer groups: who is in, which generation it is, who was assigned what. Here those of the
//! classic protocol; those of KIP-848 are in `consumer`. Membership is soft state: after a restart
//! members join again, their committed offsets are in `offsets`. Decides nothing by what members
//! tell each other, but for `subscription`.

pub(crate) mod consumer;
mod heartbeat;
mod join;
mod member;
mod rebalance;
mod subscription;
mod sync;

pub(crate) use consumer::ConsumerGroup;
pub(crate) use join::{Join, is_valid_group_id, join_error};
pub(crate) use member::Member;
pub(crate) use sync::sync_error;

use crate::config::EngineConfig;
use crate::rng::Rng;
use crate::units::{Peer, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::Response;
use std::collections::BTreeMap;

/// Where a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupState {
    /// No members; there may be committed offsets.
    #[default]
    Empty,
    /// Members are joining; heartbeats tell the others to join too.
    PreparingRebalance,
    /// All have joined; the leader's assignment is awaited.
    CompletingRebalance,
    /// Members give up and take over partitions (KIP-848).
    Reconciling,
    /// Everybody has an assignment.
    Stable,
    /// There is no such group.
    Dead,
}

impl GroupState {
    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Reconciling => "Reconciling",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

/// One group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) state: GroupState,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    /// The protocol that was chosen for this generation.
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Instance id to member id (KIP-345).
    statics: BTreeMap<String, String>,
    /// Member ids that were handed out and not used yet, with their deadlines (KIP-394).
    pending: BTreeMap<String, u64>,
    joining: Option<Joining>,
    sync_deadline_ms: Option<u64>,
    joined_count: u64,
    /// How long the first rebalance waits for members of before a restart to hear of it.
    gather_ms: u64,
    /// The deadline that the engine has a timer for.
    pub(crate) armed_ms: Option<u64>,
}

/// A rebalance that is being prepared.
#[derive(Clone, Copy, Debug)]
struct Joining {
    deadline_ms: u64,
    /// The first one of an empty group waits for more members: this much longer at most.
    initial_left_ms: Option<u64>,
    /// Somebody came since the deadline was set.
    has_new: bool,
}

/// What a decision about a group needs and where its answers go.
pub(crate) struct Ctx<'a> {
    pub(crate) now_ms: u64,
    pub(crate) config: &'a EngineConfig,
    pub(crate) rng: &'a mut Rng,
    pub(crate) out: Vec<(RequestId, Response)>,
    pub(crate) rebalances: u64,
}

impl Ctx<'_> {
    fn answer(&mut self, id: RequestId, response: Response) {
        self.out.push((id, response));
    }

    /// An id that nobody else has: the client's own name and 128 random bits, as in Kafka.
    fn new_member_id(&mut self, peer: &Peer, instance_id: Option<&str>) -> String {
        let name = instance_id.or(peer.client_id.as_deref()).unwrap_or("member");
        let short: String = name.chars().take(MEMBER_NAME_CHARS).collect();
        let bits = u128::from_be_bytes(self.rng.bytes16());
        let text = format!("{bits:032x}");
        let (a, b, c, d, e) = (&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]);
        format!("{short}-{a}-{b}-{c}-{d}-{e}")
    }
}

/// All groups that have or had members since the start.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
    /// Those of KIP-848; no id is in both.
    consumers: BTreeMap<String, ConsumerGroup>,
    /// Members and bytes of all groups together.
    load: Load,
}

/// What groups hold: members (with the ids that nobody used yet) and the bytes that they brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) members: usize,
    pub(crate) bytes: usize,
}

impl Groups {
    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Group> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.by_id.iter().map(|(id, group)| (id.as_str(), group))
    }

    /// The group, made if it is missing. Groups without members make room for new ones.
    pub(crate) fn get_or_create(&mut self, id: &str) -> Result<&mut Group, ErrorCode> {
        if !self.by_id.contains_key(id) {
            self.make_room()?;
            self.by_id.insert(id.to_owned(), Group::default());
        }
        self.by_id.get_mut(id).ok_or(ErrorCode::UnknownServerError)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Group> {
        let group = self.by_id.remove(id)?;
        self.reckon(group.load(), Load::default());
        Some(group)
    }

    fn make_room(&mut self) -> Result<(), ErrorCode> {
        if self.by_id.len() + self.consumers.len() < limits::GROUPS_MAX {
            return Ok(());
        }
        let idle = self.by_id.iter().find(|(_, group)| group.is_idle());
        if let Some(idle) = idle.map(|(id, _)| id.clone()) {
            self.remove(&idle);
            return Ok(());
        }
        let empty = self.consumers.iter().find(|(_, group)| group.members.is_empty());
        let empty = empty.map(|(id, _)| id.clone()).ok_or(ErrorCode::GroupMaxSizeReached)?;
        self.remove_consumer(&empty);
        Ok(())
    }

    pub(crate) fn consumer(&self, id: &str) -> Option<&ConsumerGroup> {
        self.consumers.get(id)
    }

    pub(crate) fn consumer_mut(&mut self, id: &str) -> Option<&mut ConsumerGroup> {
        self.consumers.get_mut(id)
    }

    pub(crate) fn consumers(&self) -> impl Iterator<Item = (&str, &ConsumerGroup)> {
        self.consumers.iter().map(|(id, group)| (id.as_str(), group))
    }

    /// Only for an id that is not there.
    pub(crate) fn insert_consumer(
        &mut self,
        id: &str,
        group: ConsumerGroup,
    ) -> Result<(), ErrorCode> {
        self.make_room()?;
        self.consumers.insert(id.to_owned(), group);
        Ok(())
    }

    pub(crate) fn remove_consumer(&mut self, id: &str) -> Option<ConsumerGroup> {
        let group = self.consumers.remove(id)?;
        self.reckon(group.load(), Load::default());
        Some(group)
    }

    /// What all groups hold.
    pub(crate) fn load(&self) -> Load {
        self.load
    }

    /// A group that held `before` holds `after` now.
    pub(crate) fn reckon(&mut self, before: Load, after: Load) {
        let load = &mut self.load;
        load.members = (load.members + after.members).saturating_sub(before.members);
        load.bytes = (load.bytes + after.bytes).saturating_sub(before.bytes);
    }
}

impl Group {
    pub(crate) fn load(&self) -> Load {
        let members = self.members.len() + self.pending.len();
        Load { members, bytes: self.members.values().map(Member::size_bytes).sum() }
    }

    /// Its members of before a restart still read, and have to come back first.
    pub(crate) fn gather_for(&mut self, ms: u64) {
        self.gather_ms = ms;
    }

    pub(crate) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Nobody is in and nobody is coming.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.members.is_empty() && self.pending.is_empty()
    }

    /// When `tick` is wanted.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        let sessions = self.members.values().filter(|member| !member.is_waiting());
        let sessions = sessions.map(|member| member.deadline_ms);
        let pending = self.pending.values().copied();
        let joining = self.joining.map(|joining| joining.deadline_ms);
        sessions.chain(pending).chain(joining).chain(self.sync_deadline_ms).min()
    }

    /// The member that a request comes from, or the error that it gets.
    fn known_member(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<&mut Member, ErrorCode> {
        if let Some(instance) = instance_id {
            match self.statics.get(instance) {
                Some(owner) if owner == member_id => {}
                Some(_) => return Err(ErrorCode::FencedInstanceId),
                None => return Err(ErrorCode::UnknownMemberId),
            }
        }
        self.members.get_mut(member_id).ok_or(ErrorCode::UnknownMemberId)
    }

    fn known_member_of(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<&mut Member, ErrorCode> {
        let current = self.generation;
        let member = self.known_member(member_id, instance_id)?;
        if generation == current { Ok(member) } else { Err(ErrorCode::IllegalGeneration) }
    }
}

const MEMBER_NAME_CHARS: usize = 255;
