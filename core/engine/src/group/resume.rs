//! From a live classic group to its roster, and back after a restart. A group comes back as it was
//! when its last generation was complete; if the doors had closed for another one since, its
//! members are called to join again. Never knows what a connection of before waited for.

use super::roster::{ClassicChange, ClassicRoster};
use super::{Group, GroupState, Joining, Member};
use crate::group_note::GroupNote;
use std::sync::Arc;

impl Group {
    /// What became of its roster since the last call, if anything did.
    pub(crate) fn take_news(&mut self, before: Option<&ClassicRoster>) -> Option<ClassicChange> {
        std::mem::take(&mut self.has_news).then(|| self.roster().since(before))
    }

    fn roster(&self) -> ClassicRoster {
        let member = |(id, member): (&String, &Member)| {
            (id.clone(), (Arc::clone(&member.said), member.assignment.clone()))
        };
        ClassicRoster {
            generation: self.generation,
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
        // Members were told of a later generation that was never complete.
        let told = note.map_or(0, |note| note.epochs_upto);
        if told > group.generation {
            group.generation = told;
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
