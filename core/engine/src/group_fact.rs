//! What is journalled of groups besides their committed offsets.
//!
//! ```text
//! tag body (`str`, `key` as in fact.rs)
//!  40 Noted          group str | is there u8 | [note, see group_note.rs]
//!  41 OffsetsExpire  group str | milliseconds since 1970 i64 | count u32 x key
//!  42 Classic        group str | change, see group/roster/classic.rs
//!  43 Consumers      group str | change, see group/roster/consumer.rs
//!  44 Emptied        group str
//! ```
//! A heartbeat is never a fact: members that were alive when the node went down are given their
//! session timeout again.

use crate::codec::{CodecError, Take, put_string};
use crate::fact::{put_keys, take_keys};
use crate::group::{ClassicChange, ConsumerChange};
use crate::group_note::GroupNote;
use crate::units::PartitionKey;
use bytes::BufMut;

/// Something that became true of a group.
#[derive(Clone, Debug)]
pub enum GroupFact {
    /// What is kept of it.
    Noted {
        /// The group's id.
        group: String,
        /// `None`: nothing any more.
        note: Option<GroupNote>,
    },
    /// Offsets just committed came with a time of their own to expire.
    OffsetsExpire {
        /// The group's id.
        group: String,
        /// Milliseconds since 1970.
        at_ms: i64,
        /// Whose offsets.
        partitions: Vec<PartitionKey>,
    },
    /// A generation of a classic group has begun, is complete, or goes on with another member.
    Classic {
        /// The group's id.
        group: String,
        /// Against what was kept of its members before.
        change: ClassicChange,
    },
    /// Members of a consumer group (KIP-848) came, went or moved.
    Consumers {
        /// The group's id.
        group: String,
        /// Against what was kept of them before.
        change: ConsumerChange,
    },
    /// Nobody is in any more.
    Emptied {
        /// The group's id.
        group: String,
    },
}

impl GroupFact {
    pub(crate) fn tag(&self) -> u8 {
        match self {
            GroupFact::Noted { .. } => NOTED_TAG,
            GroupFact::OffsetsExpire { .. } => OFFSETS_EXPIRE_TAG,
            GroupFact::Classic { .. } => CLASSIC_TAG,
            GroupFact::Consumers { .. } => CONSUMERS_TAG,
            GroupFact::Emptied { .. } => EMPTIED_TAG,
        }
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        match self {
            GroupFact::Noted { group, note } => {
                put_string(out, group);
                out.put_u8(u8::from(note.is_some()));
                if let Some(note) = note {
                    note.put(out);
                }
            }
            GroupFact::OffsetsExpire { group, at_ms, partitions } => {
                put_string(out, group);
                out.put_i64_le(*at_ms);
                put_keys(out, partitions);
            }
            GroupFact::Classic { group, change } => {
                put_string(out, group);
                change.put(out);
            }
            GroupFact::Consumers { group, change } => {
                put_string(out, group);
                change.put(out);
            }
            GroupFact::Emptied { group } => put_string(out, group),
        }
    }

    /// `None`: the tag is none of the above.
    pub(crate) fn take(tag: u8, take: &mut Take) -> Result<Option<GroupFact>, CodecError> {
        if !(NOTED_TAG..=EMPTIED_TAG).contains(&tag) {
            return Ok(None);
        }
        let group = take.string("group")?;
        Ok(Some(match tag {
            NOTED_TAG => {
                let is_there = take.bool("is a note there")?;
                let note = if is_there { Some(GroupNote::take(take)?) } else { None };
                GroupFact::Noted { group, note }
            }
            OFFSETS_EXPIRE_TAG => {
                let at_ms = take.i64("expiry")?;
                GroupFact::OffsetsExpire { group, at_ms, partitions: take_keys(take)? }
            }
            CLASSIC_TAG => GroupFact::Classic { group, change: ClassicChange::take(take)? },
            CONSUMERS_TAG => GroupFact::Consumers { group, change: ConsumerChange::take(take)? },
            _ => GroupFact::Emptied { group },
        }))
    }

    /// How much it weighs in an entry, about.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            GroupFact::Classic { change, .. } => change.size_bytes(),
            GroupFact::Consumers { change, .. } => change.size_bytes(),
            GroupFact::OffsetsExpire { partitions, .. } => {
                partitions.len() * size_of::<PartitionKey>()
            }
            GroupFact::Noted { .. } | GroupFact::Emptied { .. } => 0,
        }
    }
}

const NOTED_TAG: u8 = 40;
const OFFSETS_EXPIRE_TAG: u8 = 41;
const CLASSIC_TAG: u8 = 42;
const CONSUMERS_TAG: u8 = 43;
const EMPTIED_TAG: u8 = 44;
