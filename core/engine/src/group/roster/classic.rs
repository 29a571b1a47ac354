//! The roster of a classic group: what its members brought when the doors closed for a generation, and
//! what their leader gave them, which makes it complete.
//!
//! ```text
//! change  generation i32 | is complete u8 | protocol str | leader str
//!         | gone u32 x (member id str)
//!         | joined u32 x (member id str | member)
//!         | assigned u32 x (member id str | bytes)
//! member  instance id str? | client id str | host str | session timeout ms u64
//!         | rebalance timeout ms u64 | order u64 | protocols u32 x (name str | bytes)
//! `bytes` = length u32 + bytes; `str?` = is there u8 | [str]
//! ```
//! A change names only what is other than before: a rebalance that moves partitions writes
//! assignments and no metadata. Must never name a member that is not in.

use crate::codec::{
    CodecError, Take, put_bytes, put_count, put_option_string, put_string, put_texts,
};
use bytes::{BufMut, Bytes};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a member of a classic group said when it joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicMember {
    /// Given by the user (KIP-345).
    pub instance_id: Option<String>,
    /// Of the request header.
    pub client_id: String,
    /// The peer's address.
    pub host: String,
    /// Silence after which it is out.
    pub session_timeout_ms: u64,
    /// How long others wait for it.
    pub rebalance_timeout_ms: u64,
    /// Who came first leads.
    pub order: u64,
    /// Name and metadata, in the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
}

/// How a roster became another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicChange {
    /// The generation that its members were told.
    pub generation: i32,
    /// Whether its leader has assigned; until then assignments are those of the generation before.
    pub is_complete: bool,
    /// The protocol that was chosen for it.
    pub protocol: String,
    /// The member that assigned.
    pub leader: String,
    /// Members that are in no more.
    pub gone: Vec<String>,
    /// Members that are new or say something new.
    pub joined: Vec<(String, Arc<ClassicMember>)>,
    /// New assignments.
    pub assigned: Vec<(String, Bytes)>,
}

/// Who is in a classic group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClassicRoster {
    pub(crate) generation: i32,
    pub(crate) is_complete: bool,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) members: BTreeMap<String, (Arc<ClassicMember>, Bytes)>,
}

impl ClassicRoster {
    pub(super) fn apply(&mut self, change: &ClassicChange) {
        self.generation = change.generation;
        self.is_complete = change.is_complete;
        self.protocol.clone_from(&change.protocol);
        self.leader.clone_from(&change.leader);
        for id in &change.gone {
            self.members.remove(id);
        }
        for (id, member) in &change.joined {
            self.members.entry(id.clone()).or_default().0 = Arc::clone(member);
        }
        for (id, assignment) in &change.assigned {
            if let Some(member) = self.members.get_mut(id) {
                member.1 = assignment.clone();
            }
        }
    }

    /// What made it of the roster before.
    pub(crate) fn since(&self, before: Option<&ClassicRoster>) -> ClassicChange {
        let old = |id: &String| before.and_then(|before| before.members.get(id));
        let mut change = ClassicChange {
            generation: self.generation,
            is_complete: self.is_complete,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            ..ClassicChange::default()
        };
        let ids = before.into_iter().flat_map(|before| before.members.keys());
        change.gone = ids.filter(|id| !self.members.contains_key(*id)).cloned().collect();
        for (id, (member, assignment)) in &self.members {
            let old = old(id);
            if old.is_none_or(|(old, _)| !Arc::ptr_eq(old, member) && old != member) {
                change.joined.push((id.clone(), Arc::clone(member)));
            }
            let had = old.map(|(_, assignment)| assignment.as_ref()).unwrap_or_default();
            if had != assignment.as_ref() {
                change.assigned.push((id.clone(), assignment.clone()));
            }
        }
        change
    }
}

impl ClassicChange {
    /// How much it weighs in an entry, about.
    pub(crate) fn size_bytes(&self) -> usize {
        let joined = self.joined.iter().flat_map(|(_, member)| &member.protocols);
        let joined = joined.map(|(name, metadata)| name.len() + metadata.len());
        let assigned = self.assigned.iter().map(|(_, assignment)| assignment.len());
        let ids = self.gone.len() + self.joined.len() + self.assigned.len();
        joined.chain(assigned).sum::<usize>() + ids * MEMBER_BYTES_TYPICAL
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_i32_le(self.generation);
        out.put_u8(u8::from(self.is_complete));
        put_string(out, &self.protocol);
        put_string(out, &self.leader);
        put_texts(out, &self.gone);
        put_count(out, self.joined.len());
        for (id, member) in &self.joined {
            put_string(out, id);
            member.put(out);
        }
        put_count(out, self.assigned.len());
        for (id, assignment) in &self.assigned {
            put_string(out, id);
            put_bytes(out, assignment);
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<ClassicChange, CodecError> {
        let mut change = ClassicChange {
            generation: take.i32("generation")?,
            is_complete: take.bool("is a generation complete")?,
            protocol: take.string("protocol")?,
            leader: take.string("leader")?,
            gone: take.texts("members that left")?,
            ..ClassicChange::default()
        };
        for _ in 0..take.count("members that joined", MEMBER_BYTES_MIN)? {
            let id = take.string("member id")?;
            change.joined.push((id, Arc::new(ClassicMember::take(take)?)));
        }
        for _ in 0..take.count("assignments", 4 + 4)? {
            change.assigned.push((take.string("member id")?, take.bytes("assignment")?));
        }
        Ok(change)
    }
}

impl ClassicMember {
    fn put(&self, out: &mut impl BufMut) {
        put_option_string(out, self.instance_id.as_deref());
        put_string(out, &self.client_id);
        put_string(out, &self.host);
        out.put_u64_le(self.session_timeout_ms);
        out.put_u64_le(self.rebalance_timeout_ms);
        out.put_u64_le(self.order);
        put_count(out, self.protocols.len());
        for (name, metadata) in &self.protocols {
            put_string(out, name);
            put_bytes(out, metadata);
        }
    }

    fn take(take: &mut Take) -> Result<ClassicMember, CodecError> {
        let mut member = ClassicMember {
            instance_id: take.option_string("instance id")?,
            client_id: take.string("client id")?,
            host: take.string("host")?,
            session_timeout_ms: take.u64("session timeout")?,
            rebalance_timeout_ms: take.u64("rebalance timeout")?,
            order: take.u64("order of a member")?,
            protocols: Vec::new(),
        };
        for _ in 0..take.count("protocols", 4 + 4)? {
            member.protocols.push((take.string("protocol")?, take.bytes("metadata")?));
        }
        Ok(member)
    }
}

const MEMBER_BYTES_TYPICAL: usize = 128;
/// Its id, and a member without any words.
const MEMBER_BYTES_MIN: usize = 4 + 1 + 4 + 4 + 3 * 8 + 4;
