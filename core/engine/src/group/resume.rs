//! From a live classic group to its roster, and back after a restart. A group comes back as it was
//! when its last generation was complete; if the doors had closed for another one since, its
//! members, those that were new in it too, are called to join again. Never knows what a connection
//! of before waited for.

use super::roster::{ClassicChange, ClassicRoster};
use super::{Group, GroupState, Joining, Member};
use crate::group_note::GroupNote;
use std::sync::Arc;

impl Group {
    /// What became of its roster since the last call, if anything did.
    pub(crate) fn take_news(&mut self, before: Option<&ClassicRoster>) -> Option<ClassicChange> {
        std::mem::take(&mut self.has_news).then(|| self.roster(before).since(before))
    }

    fn roster(&self, before: Option<&ClassicRoster>) -> ClassicRoster {
        let is_complete = self.state == GroupState::Stable;
        let member = |(id, member): (&String, &Member)| {
            // What is not assigned anew yet stays, so that the same needs not be written twice.
            let had = before.and_then(|before| before.members.get(id)).filter(|_| !is_complete);
            let assignment = had.map_or(&member.assignment, |(_, assignment)| assignment);
            (id.clone(), (Arc::clone(&member.said), assignment.clone()))
        };
        ClassicRoster {
            generation: self.generation,
            is_complete,
            protocol: self.protocol.clone().unwrap_or_default(),
            leader: self.leader.clone().unwrap_or_default(),
            members: self.members.iter().map(member).collect(),
        }
    }

    /// The group of a roster; `begin` gives it its time.
    pub(crate) fn of(roster: &ClassicRoster, note: Option<&GroupNote>) -> Group {
        let mut group = Group {
            state: GroupState::Stable,
            generation: roster.generation,
            protocol_type: note.map(|note| note.protocol_type.clone()),
            protocol: Some(roster.protocol.clone()),
            leader: Some(roster.leader.clone()),
            ..Group::default()
        };
        for (id, (said, assignment)) in &roster.members {
            if let Some(instance) = &said.instance_id {
                group.statics.insert(instance.clone(), id.clone());
            }
            group.joined_count = group.joined_count.max(said.order);
            let (said, assignment) = (Arc::clone(said), assignment.clone());
            group.members.insert(id.clone(), Member { said, assignment, ..Member::default() });
        }
        if !roster.is_complete {
            group.state = GroupState::PreparingRebalance;
        }
        group
    }

    /// With the first event after a restart comes the first time: sessions begin anew.
    pub(crate) fn begin(&mut self, now_ms: u64) {
        for member in self.members.values_mut() {
            member.touch(now_ms);
        }
        if self.state == GroupState::PreparingRebalance {
            let deadline_ms = now_ms + self.rebalance_timeout_ms();
            self.joining = Some(Joining { deadline_ms, initial_left_ms: None, has_new: false });
        }
    }
}
