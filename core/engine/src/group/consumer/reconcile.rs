//! From what a member has to what it is to have (KIP-848): first it gives up, then it is given, and
//! a partition is given only when its owner has let it go. Never gives a partition that another
//! member may still read.

use super::{ConsumerGroup, ConsumerMember, PlaceState, Shares};
use crate::units::PartitionKey;
use std::sync::Arc;

/// The first without the second.
pub(super) fn without(shares: &Shares, minus: &Shares) -> Shares {
    let mut left = Shares::new();
    for (topic, partitions) in shares {
        let rest = match minus.get(topic) {
            Some(minus) => partitions.difference(minus).copied().collect(),
            None => partitions.clone(),
        };
        if !rest.is_empty() {
            left.insert(*topic, rest);
        }
    }
    left
}

fn meets(a: &Shares, b: &Shares) -> bool {
    a.iter().any(|(topic, partitions)| {
        b.get(topic).is_some_and(|others| !partitions.is_disjoint(others))
    })
}

/// Whether all of the first is in the second.
pub(super) fn is_within(shares: &Shares, of: &Shares) -> bool {
    shares.iter().all(|(topic, partitions)| match of.get(topic) {
        Some(all) => partitions.is_subset(all),
        None => partitions.is_empty(),
    })
}

fn keys(shares: &Shares) -> impl Iterator<Item = PartitionKey> {
    shares.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(|partition| PartitionKey { topic_id: *topic, partition: *partition })
    })
}

impl ConsumerGroup {
    /// Takes a member one step nearer to its target. `owned`: what it says that it has now.
    pub(super) fn reconcile(&mut self, now_ms: u64, member_id: &str, owned: Option<&Shares>) {
        let Some(member) = self.members.get(member_id) else { return };
        let place = &member.place;
        let epoch = match place.state {
            PlaceState::Stable if place.epoch == self.assignment_epoch => return,
            PlaceState::Stable | PlaceState::Unreleased => place.epoch,
            PlaceState::Unrevoked => {
                if owned.is_none_or(|owned| meets(owned, &place.revoking)) {
                    return;
                }
                // It did what its epoch asked for, whatever it is asked next.
                (place.epoch + 1).min(self.assignment_epoch)
            }
        };
        let target = self.targets.get(member_id).cloned().unwrap_or_default();
        let revoking = without(&place.assigned, &target);
        let kept = without(&place.assigned, &revoking);
        // Also what it does not say it has: it may have been told of it and be about to take it up.
        if !revoking.is_empty() {
            self.hold(member_id, kept, revoking);
            if let Some(member) = self.members.get_mut(member_id) {
                member.advance(epoch, PlaceState::Unrevoked);
                member.revoke_deadline_ms = Some(now_ms + member.words.rebalance_timeout_ms);
            }
            return;
        }
        let serial = member.serial;
        let wanted = without(&target, &kept);
        let (mut assigned, mut is_short) = (kept, false);
        for key in keys(&wanted) {
            let is_free = self.owners.get(&key).is_none_or(|owner| *owner == serial);
            if is_free {
                assigned.entry(key.topic_id).or_default().insert(key.partition);
            } else {
                is_short = true;
            }
        }
        self.hold(member_id, assigned, Shares::new());
        let target_epoch = self.assignment_epoch;
        if let Some(member) = self.members.get_mut(member_id) {
            let state = if is_short { PlaceState::Unreleased } else { PlaceState::Stable };
            member.advance(target_epoch, state);
            member.revoke_deadline_ms = None;
        }
    }

    /// A member has these partitions from now on, and those it had besides are free.
    pub(super) fn hold(&mut self, member_id: &str, assigned: Shares, revoking: Shares) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        for key in keys(&member.place.assigned).chain(keys(&member.place.revoking)) {
            if self.owners.get(&key) == Some(&member.serial) {
                self.owners.remove(&key);
            }
        }
        for key in keys(&assigned).chain(keys(&revoking)) {
            self.owners.insert(key, member.serial);
        }
        if member.place.assigned != assigned || member.place.revoking != revoking {
            let place = Arc::make_mut(&mut member.place);
            (place.assigned, place.revoking) = (assigned, revoking);
        }
    }
}

impl ConsumerMember {
    /// The epoch before is good for one more heartbeat: its answer may have been lost.
    fn advance(&mut self, epoch: i32, state: PlaceState) {
        if epoch == self.place.epoch && state == self.place.state {
            return;
        }
        let place = Arc::make_mut(&mut self.place);
        if epoch != place.epoch {
            place.previous_epoch = place.epoch;
            place.epoch = epoch;
        }
        place.state = state;
    }
}
