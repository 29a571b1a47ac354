//! Who is in a group, as the journal keeps it: so that after a restart its members go on with the
//! ids, generations and assignments that they have. Changes by facts alone; the live groups beside
//! it know the rest (who waits for what, until when) and must never be written from here.

mod classic;
mod consumer;

pub use classic::{ClassicChange, ClassicMember};
pub use consumer::{ConsumerChange, MemberPlace, MemberWords, PlaceState};

pub(crate) use classic::ClassicRoster;
pub(crate) use consumer::{ConsumerRoster, KeptMember};

use crate::codec::{CodecError, Take, put_count, put_string};
use bytes::BufMut;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The rosters of all groups that have members. Shared with clones until one changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rosters {
    classic: BTreeMap<String, Arc<ClassicRoster>>,
    consumers: BTreeMap<String, Arc<ConsumerRoster>>,
}

impl Rosters {
    pub(crate) fn classic(&self, group: &str) -> Option<&ClassicRoster> {
        self.classic.get(group).map(Arc::as_ref)
    }

    pub(crate) fn consumer(&self, group: &str) -> Option<&ConsumerRoster> {
        self.consumers.get(group).map(Arc::as_ref)
    }

    pub(crate) fn classics(&self) -> impl Iterator<Item = (&str, &ClassicRoster)> {
        self.classic.iter().map(|(id, roster)| (id.as_str(), roster.as_ref()))
    }

    pub(crate) fn consumers(&self) -> impl Iterator<Item = (&str, &ConsumerRoster)> {
        self.consumers.iter().map(|(id, roster)| (id.as_str(), roster.as_ref()))
    }

    pub(crate) fn has(&self, group: &str) -> bool {
        self.classic.contains_key(group) || self.consumers.contains_key(group)
    }

    pub(crate) fn change_classic(&mut self, group: &str, change: &ClassicChange) {
        let roster = self.classic.entry(group.to_owned()).or_default();
        Arc::make_mut(roster).apply(change);
        if roster.members.is_empty() {
            self.classic.remove(group);
        }
    }

    pub(crate) fn change_consumers(&mut self, group: &str, change: &ConsumerChange) {
        let roster = self.consumers.entry(group.to_owned()).or_default();
        Arc::make_mut(roster).apply(change);
        if roster.members.is_empty() {
            self.consumers.remove(group);
        }
    }

    /// Nobody is in any more.
    pub(crate) fn clear(&mut self, group: &str) {
        self.classic.remove(group);
        self.consumers.remove(group);
    }

    /// Each roster as the change that makes it of nothing.
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_count(out, self.classic.len());
        for (group, roster) in &self.classic {
            put_string(out, group);
            roster.since(None).put(out);
        }
        put_count(out, self.consumers.len());
        for (group, roster) in &self.consumers {
            put_string(out, group);
            roster.since(None).put(out);
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<Rosters, CodecError> {
        let mut rosters = Rosters::default();
        for _ in 0..take.count("classic groups", GROUP_BYTES_MIN)? {
            let group = take.string("group")?;
            rosters.change_classic(&group, &ClassicChange::take(take)?);
        }
        for _ in 0..take.count("consumer groups", GROUP_BYTES_MIN)? {
            let group = take.string("group")?;
            rosters.change_consumers(&group, &ConsumerChange::take(take)?);
        }
        Ok(rosters)
    }
}

/// The length of its id and a generation.
const GROUP_BYTES_MIN: usize = 4 + 4;
