//! From a live consumer group to its roster, and back after a restart: with the same epochs, targets
//! and holders. Never raises the epoch but for topics that are other than those shared out.

use super::{ConsumerGroup, ConsumerMember, World};
use crate::group::roster::{ConsumerChange, ConsumerRoster, KeptMember, PlaceState};
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;
use std::sync::Arc;

impl ConsumerGroup {
    /// What became of its roster since the last call. `spoke`: the member that a heartbeat came
    /// from; mostly nothing is new but of that one.
    pub(crate) fn take_news(
        &mut self,
        before: Option<&ConsumerRoster>,
        spoke: Option<&str>,
    ) -> Option<ConsumerChange> {
        let of_all = std::mem::take(&mut self.has_news_of_all) || before.is_none();
        let change = match spoke {
            Some(id) if !of_all => {
                let mut change = self.head();
                let old = before.and_then(|before| before.members.get(id));
                if let Some(member) = self.kept(id) {
                    change.note(id, &member, old);
                }
                change
            }
            _ => self.roster().since(before),
        };
        let is_same_head = before.is_some_and(|before| {
            (before.epoch, before.assignment_epoch) == (self.epoch, self.assignment_epoch)
        });
        let is_old = change.is_empty() && is_same_head;
        (!self.members.is_empty() && !is_old).then_some(change)
    }

    fn head(&self) -> ConsumerChange {
        ConsumerChange {
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor,
            ..ConsumerChange::default()
        }
    }

    fn roster(&self) -> ConsumerRoster {
        let members = self.members.keys().filter_map(|id| Some((id.clone(), self.kept(id)?)));
        ConsumerRoster {
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor,
            members: members.collect(),
        }
    }

    fn kept(&self, id: &str) -> Option<KeptMember> {
        let member = self.members.get(id)?;
        Some(KeptMember {
            words: Arc::clone(&member.words),
            target: self.targets.get(id).cloned().unwrap_or_default(),
            place: Arc::clone(&member.place),
        })
    }

    /// The group of a roster; `begin` gives it its time and its topics.
    pub(crate) fn of(roster: &ConsumerRoster) -> ConsumerGroup {
        let mut group = ConsumerGroup {
            epoch: roster.epoch,
            assignment_epoch: roster.assignment_epoch,
            assignor: roster.assignor,
            ..ConsumerGroup::default()
        };
        for (id, kept) in &roster.members {
            let member = ConsumerMember {
                serial: group.next_serial(),
                words: Arc::clone(&kept.words),
                topics_bytes: kept.words.topics.iter().map(String::len).sum(),
                ..ConsumerMember::default()
            };
            if let Some(instance) = &kept.words.instance_id {
                group.statics.insert(instance.clone(), id.clone());
            }
            group.members.insert(id.clone(), member);
            group.targets.insert(id.clone(), Arc::clone(&kept.target));
            let (assigned, revoking) = (&kept.place.assigned, &kept.place.revoking);
            group.hold(id, assigned.clone(), revoking.clone());
            if let Some(member) = group.members.get_mut(id) {
                member.place = Arc::clone(&kept.place);
            }
        }
        group
    }

    /// With the first event after a restart comes the first time: sessions begin anew, and topics
    /// that came, went or grew since the targets were made are shared out.
    pub(crate) fn begin(&mut self, world: &World<'_>) {
        for member in self.members.values_mut() {
            member.session_deadline_ms = world.now_ms + world.config.consumer_session_timeout_ms;
            let is_revoking = member.place.state == PlaceState::Unrevoked;
            let timeout_ms = member.words.rebalance_timeout_ms;
            member.revoke_deadline_ms = is_revoking.then_some(world.now_ms + timeout_ms);
        }
        let texts = self.members.values().filter_map(|member| member.words.regex.clone());
        let texts: Vec<String> = texts.collect();
        for text in texts {
            // It was understood when it came; one that is not any more matches nothing.
            let _ = self.learn_pattern(world.catalog, &text);
        }
        let shared = self.shared_topics();
        self.refresh(world);
        if self.topics != shared {
            self.change(world);
        }
    }

    /// The topics that the targets share out: all their partitions, from the first on.
    fn shared_topics(&self) -> BTreeMap<Uuid, i32> {
        let mut topics: BTreeMap<Uuid, i32> = BTreeMap::new();
        for (topic, partitions) in self.targets.values().flat_map(|target| target.iter()) {
            let upto = partitions.last().map_or(0, |last| last.saturating_add(1));
            let count = topics.entry(*topic).or_default();
            *count = upto.max(*count);
        }
        topics
    }
}
