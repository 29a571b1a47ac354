//! What is kept of a group besides its members (`group/roster`): its kind, since when nobody is in it,
//! and where its generations or epochs go on from then. In the journal and in snapshots.
//!
//! ```text
//! note  kind u8 (0 = classic, 1 = consumer) | protocol type str | epochs reserved up to i32
//!       | is empty u8 | [empty since, milliseconds since 1970 i64]
//! ```
//! Must never decide: `offset_expiry` and the requests do.

use crate::codec::{CodecError, Take, put_count, put_string};
use crate::view::GroupKind;
use bytes::BufMut;
use millpond_wire::limits;
use std::collections::BTreeMap;

/// The note of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupNote {
    /// Which protocol its members spoke last.
    pub kind: GroupKind,
    /// `consumer`, `connect`, ...
    pub protocol_type: String,
    /// Generations, or epochs of a group of KIP-848, up to this one may have been told to members.
    /// While somebody is in, the roster knows better.
    pub epochs_upto: i32,
    /// Since when nobody is in, milliseconds since 1970. `None`: somebody is in, or it is not known
    /// since when nobody is.
    pub empty_since_ms: Option<i64>,
}

impl GroupNote {
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_u8(match self.kind {
            GroupKind::Classic => 0,
            GroupKind::Consumer => 1,
        });
        put_string(out, &self.protocol_type);
        out.put_i32_le(self.epochs_upto);
        out.put_u8(u8::from(self.empty_since_ms.is_some()));
        if let Some(since_ms) = self.empty_since_ms {
            out.put_i64_le(since_ms);
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<GroupNote, CodecError> {
        let kind = match take.u8("kind of a group")? {
            0 => GroupKind::Classic,
            1 => GroupKind::Consumer,
            value => {
                let what = "kind of a group";
                return Err(CodecError::Impossible { what, value: value.into() });
            }
        };
        Ok(GroupNote {
            kind,
            protocol_type: take.string("protocol type")?,
            epochs_upto: take.i32("epochs of a group")?,
            empty_since_ms: match take.bool("is empty")? {
                true => Some(take.i64("empty since")?),
                false => None,
            },
        })
    }
}

/// The notes of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupNotes {
    by_id: BTreeMap<String, GroupNote>,
}

impl GroupNotes {
    pub(crate) fn get(&self, group: &str) -> Option<&GroupNote> {
        self.by_id.get(group)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &GroupNote)> {
        self.by_id.iter().map(|(id, note)| (id.as_str(), note))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether one more fits; a group without a note lives, it only is not remembered.
    pub(crate) fn has_room(&self, group: &str) -> bool {
        self.by_id.len() < limits::GROUPS_MAX || self.by_id.contains_key(group)
    }

    /// `None`: forgotten.
    pub(crate) fn set(&mut self, group: &str, note: Option<&GroupNote>) {
        match note {
            Some(note) => self.by_id.insert(group.to_owned(), note.clone()),
            None => self.by_id.remove(group),
        };
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_count(out, self.by_id.len());
        for (id, note) in &self.by_id {
            put_string(out, id);
            note.put(out);
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<GroupNotes, CodecError> {
        let count = take.count("notes of groups", NOTE_BYTES_MIN)?;
        let notes = (0..count).map(|_| Ok((take.string("group")?, GroupNote::take(take)?)));
        Ok(GroupNotes { by_id: notes.collect::<Result<_, CodecError>>()? })
    }
}

/// An empty id and an empty protocol type.
const NOTE_BYTES_MIN: usize = 4 + 1 + 4 + 4 + 1;
