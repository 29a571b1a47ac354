//! Consumer groups whose assignments the broker computes (KIP-848): epochs, targets, and who holds
//! which partition. A partition never has two holders: it is given when the last one has reported
//! that it let it go, left, or was silent for its timeout.
//!
//! Membership is soft, as for classic groups: after a restart a member is told UNKNOWN_MEMBER_ID,
//! gives up its partitions and joins anew under its id. For one heartbeat interval nothing is given
//! to anybody, so that all who still read have heard of it. Epochs go on from a journalled reservation (`group_note`), so that no
//! epoch that was ever told comes back with another meaning: a commit that carries an old epoch is
//! stale, not by chance the current one.

mod assign;
mod heartbeat;
mod membership;
mod reconcile;
mod subscription;

pub(crate) use assign::Assignor;
pub(crate) use heartbeat::{Beat, refused};

use super::{GroupState, Load};
use crate::config::EngineConfig;
use crate::topic::Catalog;
use crate::units::{EntrySeq, PartitionKey};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::uuid::Uuid;
use std::collections::{BTreeMap, BTreeSet};

/// Partitions, by topic.
pub(crate) type Shares = BTreeMap<Uuid, BTreeSet<i32>>;

/// The epoch of a static member that is away and keeps its place.
pub(crate) const AWAY_EPOCH: i32 = -2;

/// A group.
#[derive(Debug, Default)]
pub(crate) struct ConsumerGroup {
    /// Counts what changes the assignment: members, subscriptions, topics.
    pub(crate) epoch: i32,
    /// The epoch that the targets were made for.
    pub(crate) assignment_epoch: i32,
    /// What made them.
    pub(crate) assignor: Assignor,
    pub(crate) members: BTreeMap<String, ConsumerMember>,
    /// Instance id to member id.
    statics: BTreeMap<String, String>,
    /// What each member is to have.
    pub(crate) targets: BTreeMap<String, Shares>,
    /// Who holds or still gives up a partition, by serial.
    owners: BTreeMap<PartitionKey, u64>,
    /// Topics that are read, and their partitions.
    topics: BTreeMap<Uuid, i32>,
    patterns: BTreeMap<String, subscription::Pattern>,
    seen_catalog: EntrySeq,
    /// Nothing is given before: members of before a restart have to hear of it first.
    given_from_ms: u64,
    last_serial: u64,
    /// The deadline that the engine has a timer for.
    pub(crate) armed_ms: Option<u64>,
}

/// A member.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsumerMember {
    /// Never used for another member of the group.
    serial: u64,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) host: String,
    rebalance_timeout_ms: u64,
    pub(crate) topics: BTreeSet<String>,
    /// Bytes of their names.
    topics_bytes: usize,
    pub(crate) regex: Option<String>,
    assignor: Option<Assignor>,
    /// What its subscription means now.
    reads: BTreeSet<Uuid>,
    pub(crate) epoch: i32,
    previous_epoch: i32,
    state: MemberState,
    /// What it may read.
    pub(crate) assigned: Shares,
    /// What it was told to give up and has not given up yet.
    revoking: Shares,
    session_deadline_ms: u64,
    revoke_deadline_ms: Option<u64>,
}

/// How far a member is on the way to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum MemberState {
    /// It has what its epoch asks for.
    #[default]
    Stable,
    /// It was told to give something up.
    Unrevoked,
    /// Others have not yet given up what it is to have.
    Unreleased,
}

/// What a decision needs.
pub(crate) struct World<'a> {
    pub(crate) now_ms: u64,
    pub(crate) config: &'a EngineConfig,
    pub(crate) catalog: &'a Catalog,
    /// The last entry that changed the catalogue.
    pub(crate) catalog_seq: EntrySeq,
}

/// Why a heartbeat was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl ConsumerGroup {
    /// A group whose epochs follow all that were told before.
    pub(crate) fn starting_at(epoch: i32) -> ConsumerGroup {
        ConsumerGroup { epoch, assignment_epoch: epoch, ..ConsumerGroup::default() }
    }

    /// Nothing is given before this time.
    pub(crate) fn hold_back_until(&mut self, mono_ms: u64) {
        self.given_from_ms = mono_ms;
    }

    /// Whether it has to stay even without members, so that it goes on holding back.
    pub(crate) fn is_held_back(&self, now_ms: u64) -> bool {
        now_ms < self.given_from_ms
    }

    pub(crate) fn state(&self) -> GroupState {
        let is_there = |member: &&ConsumerMember| {
            member.epoch == self.assignment_epoch && member.state == MemberState::Stable
        };
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.members.values().all(|member| is_there(&member)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    pub(crate) fn load(&self) -> Load {
        let bytes = self.members.values().map(ConsumerMember::size_bytes);
        Load { members: self.members.len(), bytes: bytes.sum() }
    }

    /// When `tick` is wanted.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        let sessions = self.members.values().map(|member| member.session_deadline_ms);
        let revokes = self.members.values().filter_map(|member| member.revoke_deadline_ms);
        let held_back = Some(self.given_from_ms).filter(|ms| self.members.is_empty() && *ms > 0);
        sessions.chain(revokes).chain(held_back).min()
    }

    /// Whether one who commits offsets is who it says. `epoch` must be the member's own.
    pub(crate) fn may_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        // A consumer that assigns to itself, or a tool, while nobody else is there.
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if instance_id.is_some() && member.instance_id.as_deref() != instance_id {
            return Err(ErrorCode::FencedInstanceId);
        }
        if member.epoch == epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }

    /// The same for one who asks for offsets; who does not say who it is may ask.
    pub(crate) fn may_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let Some(member_id) = member_id.filter(|id| epoch >= 0 || !id.is_empty()) else {
            return Ok(());
        };
        self.may_commit(member_id, None, epoch)
    }
}

impl ConsumerMember {
    fn size_bytes(&self) -> usize {
        self.topics_bytes
            + self.regex.as_ref().map_or(0, String::len)
            + self.reads.len() * size_of::<Uuid>()
    }
}
