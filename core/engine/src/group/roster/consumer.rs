//! The roster of a consumer group (KIP-848): what each member reads, what it is to have, and how
//! far it is on the way to that.
//!
//! ```text
//! change  group epoch i32 | assignment epoch i32 | assignor u8 (0 = uniform, 1 = range)
//!         | gone u32 x (member id str)
//!         | words u32 x (member id str | words)
//!         | targets u32 x (member id str | shares)
//!         | places u32 x (member id str | place)
//! words   instance id str? | rack id str? | client id str | host str
//!         | rebalance timeout ms u64 | topics u32 x str | regex str?
//!         | assignor u8 (as above, 255 = none named)
//! place   epoch i32 | previous epoch i32 | state u8 (0 = stable, 1 = unrevoked, 2 = unreleased)
//!         | assigned shares | revoking shares
//! shares  varint x (topic id 16 | varint x (partition varint))
//! ```
//! A change names only what is other than before; a heartbeat that changes nothing writes nothing.

use crate::codec::{
    CodecError, Take, put_count, put_option_string, put_string, put_texts, put_varint,
};
use crate::group::consumer::{Assignor, Shares};
use bytes::BufMut;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberWords {
    /// Given by the user (KIP-345).
    pub instance_id: Option<String>,
    /// Where it stands.
    pub rack_id: Option<String>,
    /// Of the request header.
    pub client_id: String,
    /// The peer's address.
    pub host: String,
    /// How long it may take to give something up.
    pub rebalance_timeout_ms: u64,
    /// What it reads, by name.
    pub topics: BTreeSet<String>,
    /// What it reads, by pattern.
    pub regex: Option<String>,
    pub(crate) assignor: Option<Assignor>,
}

/// Where a member stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberPlace {
    /// The epoch that it was told last.
    pub epoch: i32,
    /// The one before.
    pub previous_epoch: i32,
    /// How far it is on the way to its target.
    pub state: PlaceState,
    /// What it may read.
    pub(crate) assigned: Shares,
    /// What it was told to give up and has not given up yet.
    pub(crate) revoking: Shares,
}

/// How far a member is on the way to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaceState {
    /// It has what its epoch asks for.
    #[default]
    Stable,
    /// It was told to give something up.
    Unrevoked,
    /// Others have not yet given up what it is to have.
    Unreleased,
}

/// How a roster became another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerChange {
    /// Of the group.
    pub epoch: i32,
    /// The epoch that the targets were made for.
    pub assignment_epoch: i32,
    pub(crate) assignor: Assignor,
    /// Members that are in no more.
    pub gone: Vec<String>,
    /// Members that are new or say something new.
    pub words: Vec<(String, Arc<MemberWords>)>,
    pub(crate) targets: Vec<(String, Arc<Shares>)>,
    /// Members that stand elsewhere.
    pub places: Vec<(String, Arc<MemberPlace>)>,
}

/// A member of a consumer group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KeptMember {
    pub(crate) words: Arc<MemberWords>,
    pub(crate) target: Arc<Shares>,
    pub(crate) place: Arc<MemberPlace>,
}

/// Who is in a consumer group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ConsumerRoster {
    pub(crate) epoch: i32,
    pub(crate) assignment_epoch: i32,
    pub(crate) assignor: Assignor,
    pub(crate) members: BTreeMap<String, KeptMember>,
}

impl ConsumerRoster {
    pub(super) fn apply(&mut self, change: &ConsumerChange) {
        self.epoch = change.epoch;
        self.assignment_epoch = change.assignment_epoch;
        self.assignor = change.assignor;
        for id in &change.gone {
            self.members.remove(id);
        }
        for (id, words) in &change.words {
            self.members.entry(id.clone()).or_default().words = Arc::clone(words);
        }
        for (id, target) in &change.targets {
            if let Some(member) = self.members.get_mut(id) {
                member.target = Arc::clone(target);
            }
        }
        for (id, place) in &change.places {
            if let Some(member) = self.members.get_mut(id) {
                member.place = Arc::clone(place);
            }
        }
    }

    /// What made it of the roster before.
    pub(crate) fn since(&self, before: Option<&ConsumerRoster>) -> ConsumerChange {
        let mut change = ConsumerChange {
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor,
            ..ConsumerChange::default()
        };
        let ids = before.into_iter().flat_map(|before| before.members.keys());
        change.gone = ids.filter(|id| !self.members.contains_key(*id)).cloned().collect();
        for (id, member) in &self.members {
            change.note(id, member, before.and_then(|before| before.members.get(id)));
        }
        change
    }
}

impl ConsumerChange {
    /// What is new of one member.
    pub(crate) fn note(&mut self, id: &str, member: &KeptMember, old: Option<&KeptMember>) {
        if old.is_none_or(|old| is_other(&old.words, &member.words)) {
            self.words.push((id.to_owned(), Arc::clone(&member.words)));
        }
        let (nothing, nowhere) = (Arc::default(), Arc::default());
        if is_other(old.map_or(&nothing, |old| &old.target), &member.target) {
            self.targets.push((id.to_owned(), Arc::clone(&member.target)));
        }
        if is_other(old.map_or(&nowhere, |old| &old.place), &member.place) {
            self.places.push((id.to_owned(), Arc::clone(&member.place)));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.gone.is_empty()
            && self.words.is_empty()
            && self.targets.is_empty()
            && self.places.is_empty()
    }

    /// How much it weighs in an entry, about.
    pub(crate) fn size_bytes(&self) -> usize {
        let words = self.words.iter().flat_map(|(_, words)| &words.topics).map(String::len);
        let shares = |shares: &Shares| shares.values().map(|parts| 16 + 2 * parts.len()).sum();
        let targets = self.targets.iter().map(|(_, target)| -> usize { shares(target) });
        let places = self.places.iter().map(|(_, place)| -> usize { shares(&place.assigned) });
        let ids = self.gone.len() + self.words.len() + self.targets.len() + self.places.len();
        words.chain(targets).chain(places).sum::<usize>() + ids * MEMBER_BYTES_TYPICAL
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_i32_le(self.epoch);
        out.put_i32_le(self.assignment_epoch);
        out.put_u8(assignor_code(Some(self.assignor)));
        put_texts(out, &self.gone);
        put_count(out, self.words.len());
        for (id, words) in &self.words {
            put_string(out, id);
            words.put(out);
        }
        put_count(out, self.targets.len());
        for (id, target) in &self.targets {
            put_string(out, id);
            put_shares(out, target);
        }
        put_count(out, self.places.len());
        for (id, place) in &self.places {
            put_string(out, id);
            place.put(out);
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<ConsumerChange, CodecError> {
        let mut change = ConsumerChange {
            epoch: take.i32("epoch of a group")?,
            assignment_epoch: take.i32("epoch of an assignment")?,
            assignor: take_assignor(take)?.unwrap_or_default(),
            gone: take.texts("members that left")?,
            ..ConsumerChange::default()
        };
        for _ in 0..take.count("words of members", 4)? {
            change.words.push((take.string("member id")?, Arc::new(MemberWords::take(take)?)));
        }
        for _ in 0..take.count("targets of members", 4)? {
            change.targets.push((take.string("member id")?, Arc::new(take_shares(take)?)));
        }
        for _ in 0..take.count("places of members", 4)? {
            change.places.push((take.string("member id")?, Arc::new(MemberPlace::take(take)?)));
        }
        Ok(change)
    }
}

impl MemberWords {
    fn put(&self, out: &mut impl BufMut) {
        put_option_string(out, self.instance_id.as_deref());
        put_option_string(out, self.rack_id.as_deref());
        put_string(out, &self.client_id);
        put_string(out, &self.host);
        out.put_u64_le(self.rebalance_timeout_ms);
        put_texts(out, &self.topics);
        put_option_string(out, self.regex.as_deref());
        out.put_u8(assignor_code(self.assignor));
    }

    fn take(take: &mut Take) -> Result<MemberWords, CodecError> {
        Ok(MemberWords {
            instance_id: take.option_string("instance id")?,
            rack_id: take.option_string("rack id")?,
            client_id: take.string("client id")?,
            host: take.string("host")?,
            rebalance_timeout_ms: take.u64("rebalance timeout")?,
            topics: take.texts("topics of a member")?.into_iter().collect(),
            regex: take.option_string("pattern of a member")?,
            assignor: take_assignor(take)?,
        })
    }
}

impl MemberPlace {
    fn put(&self, out: &mut impl BufMut) {
        out.put_i32_le(self.epoch);
        out.put_i32_le(self.previous_epoch);
        out.put_u8(match self.state {
            PlaceState::Stable => 0,
            PlaceState::Unrevoked => 1,
            PlaceState::Unreleased => 2,
        });
        put_shares(out, &self.assigned);
        put_shares(out, &self.revoking);
    }

    fn take(take: &mut Take) -> Result<MemberPlace, CodecError> {
        Ok(MemberPlace {
            epoch: take.i32("epoch of a member")?,
            previous_epoch: take.i32("previous epoch of a member")?,
            state: match take.u8("state of a member")? {
                0 => PlaceState::Stable,
                1 => PlaceState::Unrevoked,
                2 => PlaceState::Unreleased,
                value => return Err(impossible("state of a member", value)),
            },
            assigned: take_shares(take)?,
            revoking: take_shares(take)?,
        })
    }
}

fn is_other<T: PartialEq>(old: &Arc<T>, new: &Arc<T>) -> bool {
    !Arc::ptr_eq(old, new) && old != new
}

fn assignor_code(assignor: Option<Assignor>) -> u8 {
    match assignor {
        Some(Assignor::Uniform) => 0,
        Some(Assignor::Range) => 1,
        None => NO_ASSIGNOR,
    }
}

fn take_assignor(take: &mut Take) -> Result<Option<Assignor>, CodecError> {
    match take.u8("assignor")? {
        0 => Ok(Some(Assignor::Uniform)),
        1 => Ok(Some(Assignor::Range)),
        NO_ASSIGNOR => Ok(None),
        value => Err(impossible("assignor", value)),
    }
}

fn put_shares(out: &mut impl BufMut, shares: &Shares) {
    put_varint(out, shares.len() as u64);
    for (topic, partitions) in shares {
        out.put_slice(&topic.0);
        put_varint(out, partitions.len() as u64);
        for partition in partitions {
            put_varint(out, u64::from(partition.unsigned_abs()));
        }
    }
}

fn take_shares(take: &mut Take) -> Result<Shares, CodecError> {
    let mut shares = Shares::new();
    for _ in 0..take.varint_count("topics of a share", 16 + 1)? {
        let topic = take.uuid("topic id")?;
        let count = take.varint_count("partitions of a share", 1)?;
        let partition = |take: &mut Take| {
            let what = "partition of a share";
            let value = take.varint32(what)?;
            i32::try_from(value)
                .map_err(|_| CodecError::Impossible { what, value: i64::from(value) })
        };
        let partitions = (0..count).map(|_| partition(take)).collect::<Result<_, _>>()?;
        shares.insert(topic, partitions);
    }
    Ok(shares)
}

fn impossible(what: &'static str, value: u8) -> CodecError {
    CodecError::Impossible { what, value: value.into() }
}

const NO_ASSIGNOR: u8 = 255;
const MEMBER_BYTES_TYPICAL: usize = 128;
