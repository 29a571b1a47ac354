//! Consumer groups whose assignments the broker computes (KIP-848): epochs, targets, and who holds
//! which partition. A partition never has two holders: it is given when the last one has reported
//! that it let it go, left, or was silent for its timeout.
//!
//! Who is in, with what epoch and which partitions, is in the journal (`roster`) before a member is
//! told of it: after a restart everybody goes on where they were, with a fresh session.

mod assign;
mod heartbeat;
mod membership;
mod reconcile;
mod resume;
mod subscription;

pub(crate) use assign::Assignor;
pub(crate) use heartbeat::{Beat, refused};

use super::roster::{MemberPlace, MemberWords, PlaceState};
use super::{GroupState, Load};
use crate::access::Sight;
use crate::acl::Principal;
use crate::config::EngineConfig;
use crate::topic::Catalog;
use crate::units::{EntrySeq, PartitionKey};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::uuid::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
    pub(crate) targets: BTreeMap<String, Arc<Shares>>,
    /// Who holds or still gives up a partition, by serial.
    owners: BTreeMap<PartitionKey, u64>,
    /// Topics that are read, and their partitions.
    topics: BTreeMap<Uuid, i32>,
    patterns: BTreeMap<String, subscription::Pattern>,
    seen_catalog: EntrySeq,
    /// The rules that hold for what its patterns may find.
    seen_rules: EntrySeq,
    last_serial: u64,
    /// More may be other than before than the member that spoke.
    has_news_of_all: bool,
    /// The entry that keeps what its members were told last.
    pub(crate) kept_in: EntrySeq,
    /// The deadline that the engine has a timer for.
    pub(crate) armed_ms: Option<u64>,
}

/// A member.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsumerMember {
    /// Never used for another member of the group.
    serial: u64,
    /// What it says of itself; shared with the roster.
    pub(crate) words: Arc<MemberWords>,
    /// Where it stands; shared with the roster.
    pub(crate) place: Arc<MemberPlace>,
    /// Bytes of the names of its topics.
    topics_bytes: usize,
    /// What its subscription means now.
    reads: BTreeSet<Uuid>,
    /// Who sent its last heartbeat, where rules are kept; not known yet after a restart.
    sender: Option<(Principal, String)>,
    session_deadline_ms: u64,
    revoke_deadline_ms: Option<u64>,
}

/// What a decision needs.
pub(crate) struct World<'a> {
    pub(crate) now_ms: u64,
    pub(crate) config: &'a EngineConfig,
    pub(crate) catalog: &'a Catalog,
    /// The last entry that changed the catalogue.
    pub(crate) catalog_seq: EntrySeq,
    /// What members may see, where rules are kept.
    pub(crate) sight: Option<Sight<'a>>,
    /// The last entry that changed what may be seen.
    pub(crate) sight_seq: EntrySeq,
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

    pub(crate) fn state(&self) -> GroupState {
        let is_there = |member: &&ConsumerMember| {
            let place = &member.place;
            place.epoch == self.assignment_epoch && place.state == PlaceState::Stable
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
        sessions.chain(revokes).min()
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
        if instance_id.is_some() && member.words.instance_id.as_deref() != instance_id {
            return Err(ErrorCode::FencedInstanceId);
        }
        if member.place.epoch == epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
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
            + self.words.regex.as_ref().map_or(0, String::len)
            + self.reads.len() * size_of::<Uuid>()
    }
}
