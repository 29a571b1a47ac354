//! What is journalled of groups besides their committed offsets.
//!
//! ```text
//! tag body (`str`, `key` as in entry.rs)
//!  40 Noted          group str | is there u8 | [note, see group_note.rs]
//!  41 OffsetsExpire  group str | milliseconds since 1970 i64 | count u32 x key
//! ```
//! Must never be about members: who is in is known to memory alone.

use crate::codec::{CodecError, Take, put_string};
use crate::entry::{put_keys, take_keys};
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
}

impl GroupFact {
    pub(crate) fn tag(&self) -> u8 {
        match self {
            GroupFact::Noted { .. } => NOTED_TAG,
            GroupFact::OffsetsExpire { .. } => OFFSETS_EXPIRE_TAG,
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
        }
    }

    /// Only for the two tags above.
    pub(crate) fn take(tag: u8, take: &mut Take) -> Result<GroupFact, CodecError> {
        let group = take.string("group")?;
        if tag == OFFSETS_EXPIRE_TAG {
            let at_ms = take.i64("expiry")?;
            return Ok(GroupFact::OffsetsExpire { group, at_ms, partitions: take_keys(take)? });
        }
        let note = if take.bool("is a note there")? { Some(GroupNote::take(take)?) } else { None };
        Ok(GroupFact::Noted { group, note })
    }
}

const NOTED_TAG: u8 = 40;
const OFFSETS_EXPIRE_TAG: u8 = 41;
