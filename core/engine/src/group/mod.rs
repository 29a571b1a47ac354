//! Consumer groups: who is in, which generation it is, who was assigned what. Here those of the
//! classic protocol; those of KIP-848 are in `consumer`. A live group is what its roster (`roster`,
//! in the journal) says and who waits for what until when, which a restart forgets. A group without
//! members is no live group: of that its note is left. Decides nothing by what members tell each
//! other, but for `subscription`.

pub(crate) mod consumer;
mod heartbeat;
mod join;
mod member;
mod rebalance;
mod resume;
mod roster;
mod subscription;
mod sync;

pub(crate) use consumer::ConsumerGroup;
pub(crate) use join::{Join, is_valid_group_id, join_error};
pub(crate) use member::Member;
pub(crate) use roster::Rosters;
pub use roster::{
    ClassicChange, ClassicMember, ConsumerChange, MemberPlace, MemberWords, PlaceState,
};
pub(crate) use sync::sync_error;

use crate::config::EngineConfig;
use crate::rng::Rng;
use crate::units::{EntrySeq, Peer, RequestId};
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
    /// Its roster is not what it was: a generation has begun, is complete, or has another static
    /// member.
    has_news: bool,
    /// The entry that keeps what its members were told last.
    pub(crate) kept_in: EntrySeq,
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

/// All groups that have members, or are about to.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
    /// Those of KIP-848; no id is in both.
    consumers: BTreeMap<String, ConsumerGroup>,
    /// Members and bytes of all groups together.
    load: Load,
    /// Some are of the journal and have no deadlines yet.
    is_resumed: bool,
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

    /// Makes the group, if it is missing, as one whose generations follow all that were told.
    pub(crate) fn make(&mut self, id: &str, generation: i32) -> Result<(), ErrorCode> {
        if !self.by_id.contains_key(id) {
            self.check_room()?;
            self.by_id.insert(id.to_owned(), Group { generation, ..Group::default() });
        }
        Ok(())
    }

    /// One that was in the journal.
    pub(crate) fn resume(&mut self, id: &str, group: Group) {
        self.is_resumed = true;
        self.reckon(Load::default(), group.load());
        self.by_id.insert(id.to_owned(), group);
    }

    /// The same of KIP-848.
    pub(crate) fn resume_consumers(&mut self, id: &str, group: ConsumerGroup) {
        self.is_resumed = true;
        self.reckon(Load::default(), group.load());
        self.consumers.insert(id.to_owned(), group);
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Group> {
        let group = self.by_id.remove(id)?;
        self.reckon(group.load(), Load::default());
        Some(group)
    }

    fn check_room(&self) -> Result<(), ErrorCode> {
        let has_room = self.by_id.len() + self.consumers.len() < limits::GROUPS_MAX;
        if has_room { Ok(()) } else { Err(ErrorCode::GroupMaxSizeReached) }
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

    /// Whether there are groups of the journal that have no deadlines yet: once only.
    pub(crate) fn take_resumed(&mut self) -> bool {
        std::mem::take(&mut self.is_resumed)
    }

    /// Only for an id that is not there.
    pub(crate) fn insert_consumer(
        &mut self,
        id: &str,
        group: ConsumerGroup,
    ) -> Result<(), ErrorCode> {
        self.check_room()?;
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
