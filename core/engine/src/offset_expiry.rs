//! When committed offsets have had their time (KIP-211): those of an empty group count from when
//! the last member left, those of stand-alone consumers from their commit, those of a topic that a
//! live group reads no more likewise; and some came with a time of their own. A group without
//! members and offsets goes with the check, too.
//!
//! As for records, nothing expires by a clock that jumps: ages are measured against the steady
//! clock and the newest plausible record (`retention`), and what was stamped by a clock that nobody
//! could believe is stamped again. Never expires an offset of a topic that a live member reads.

use crate::engine::{Engine, Timer};
use crate::entry::{CommittedOffset, Fact};
use crate::record_clock::is_plausible;
use crate::units::PartitionKey;
use millpond_wire::uuid::Uuid;
use std::collections::BTreeSet;

/// Who is in a group now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Nobody.
    Empty,
    /// Members whose subscriptions are known.
    Readers,
    /// Members of whom nothing is known.
    Others,
}

impl Engine {
    /// The wall clock for a stamp that something will expire by; -1 while it may not be believed.
    pub(crate) fn stamp_ms(&self) -> i64 {
        if self.is_clock_steady() { self.now.wall_ms } else { UNKNOWN_MS }
    }

    /// Sets the timer of the next check if there is anything to check.
    pub(crate) fn arm_offset_expiry(&mut self) {
        let is_idle = self.state.offsets.is_empty() && self.state.notes.is_empty();
        if !self.offset_expiry_armed && !is_idle {
            let at_ms = self.now.mono_ms + self.config.offsets_check_ms;
            self.timers.insert((at_ms, Timer::OffsetExpiry));
            self.offset_expiry_armed = true;
        }
    }

    pub(crate) fn on_offset_expiry_deadline(&mut self) {
        self.offset_expiry_armed = false;
        if self.is_clock_steady() && !self.space.is_stuck() {
            let reference_ms = self.retention_reference_ms();
            let noted = self.state.notes.iter().map(|(id, _)| id);
            let ids: BTreeSet<String> = self
                .state
                .offsets
                .iter()
                .map(|(id, _)| id)
                .chain(noted)
                .map(str::to_owned)
                .collect();
            for group_id in ids {
                self.check_group(&group_id, reference_ms);
                self.seal_if_large();
            }
        }
    }

    fn check_group(&mut self, group_id: &str, reference_ms: Option<i64>) {
        let presence = self.presence(group_id);
        self.restamp(group_id);
        let note = self.state.notes.get(group_id).cloned();
        let has_offsets = self.state.offsets.group(group_id).is_some()
            || self.state.transactions.pending().of(group_id) > 0;
        if presence == Presence::Empty && !has_offsets {
            self.note_group(group_id, None);
            return;
        }
        let now_ms = self.now.wall_ms;
        let mut empty_since_ms = None;
        if let Some(mut note) = note {
            let since_ms = note.empty_since_ms.filter(|ms| is_plausible(*ms, now_ms));
            note.empty_since_ms = match presence {
                Presence::Empty => Some(since_ms.unwrap_or(now_ms)),
                _ => None,
            };
            empty_since_ms = note.empty_since_ms;
            self.note_group(group_id, Some(note));
        }
        if let Some(reference_ms) = reference_ms.filter(|_| presence != Presence::Others) {
            self.expire_offsets(group_id, reference_ms, empty_since_ms);
        }
    }

    fn presence(&self, group_id: &str) -> Presence {
        if let Some(group) = self.groups.consumer(group_id) {
            return if group.members.is_empty() { Presence::Empty } else { Presence::Readers };
        }
        match self.groups.get(group_id) {
            Some(group) if group.has_members() && group.tells_subscriptions() => Presence::Readers,
            Some(group) if !group.is_idle() => Presence::Others,
            _ => Presence::Empty,
        }
    }

    /// Commits that no believable clock has stamped are as of now.
    fn restamp(&mut self, group_id: &str) {
        let now_ms = self.now.wall_ms;
        let offsets = self.state.offsets.group(group_id).into_iter().flat_map(|g| &g.offsets);
        // A commit, even one that changes nothing but its stamp, would overtake pending ones.
        let pending = self.state.transactions.pending();
        let doubtful = offsets.filter(|(key, at)| {
            !is_plausible(at.commit_timestamp_ms, now_ms) && !pending.has(group_id, **key)
        });
        let stamped = |(key, at): (&PartitionKey, &CommittedOffset)| {
            (*key, CommittedOffset { commit_timestamp_ms: now_ms, ..at.clone() })
        };
        let offsets: Vec<(PartitionKey, CommittedOffset)> = doubtful.map(stamped).collect();
        if !offsets.is_empty() {
            self.commit(Fact::OffsetsCommitted { group: group_id.to_owned(), offsets });
        }
    }

    fn expire_offsets(&mut self, group_id: &str, reference_ms: i64, empty_since_ms: Option<i64>) {
        let Some(stored) = self.state.offsets.group(group_id) else { return };
        let kept_ms = self.config.offsets_retention_ms;
        let is_old = |key: &PartitionKey, at: &CommittedOffset| {
            if let Some(at_ms) = stored.expiries.get(key) {
                return reference_ms >= *at_ms;
            }
            let base_ms = at.commit_timestamp_ms.max(empty_since_ms.unwrap_or(i64::MIN));
            reference_ms.saturating_sub(base_ms) >= kept_ms
        };
        let old = stored.offsets.iter();
        let pending = self.state.transactions.pending();
        let is_pending = |key: &PartitionKey| pending.has(group_id, *key);
        let is_free =
            |key: &PartitionKey| !is_pending(key) && !self.is_read(group_id, key.topic_id);
        let old = old.filter(|(key, at)| is_old(key, at) && is_free(key));
        let old: Vec<PartitionKey> = old.map(|(key, _)| *key).collect();
        if old.is_empty() {
            return;
        }
        self.counters.offsets_expired += old.len() as u64;
        let is_all = old.len() == stored.offsets.len() && pending.of(group_id) == 0;
        let (group, partitions) = (group_id.to_owned(), Some(old).filter(|_| !is_all));
        self.commit(Fact::OffsetsDeleted { group, partitions });
        if is_all && self.presence(group_id) == Presence::Empty {
            self.note_group(group_id, None);
            self.remove_classic_group(group_id);
            self.remove_consumer_group(group_id);
        }
    }

    /// Whether a live member of the group reads the topic.
    pub(crate) fn is_read(&self, group_id: &str, topic: Uuid) -> bool {
        let name = self.state.catalog.by_id(topic).map(|topic| topic.name.as_str());
        let classic = self.groups.get(group_id).zip(name);
        let consumers = self.groups.consumer(group_id);
        classic.is_some_and(|(group, name)| group.subscribes(name))
            || consumers.is_some_and(|group| group.subscribes(topic))
    }
}

/// A stamp while the clock may not be believed.
pub(crate) const UNKNOWN_MS: i64 = -1;
