//! Who is in a consumer group: joining, coming back, leaving, falling silent. Never lets two
//! processes act as one static member at a time.

use super::heartbeat::Beat;
use super::reconcile::is_within;
use super::{
    AWAY_EPOCH, ConsumerGroup, ConsumerMember, MemberPlace, MemberWords, Refusal, Shares, World,
};
use millpond_wire::error_code::ErrorCode;
use std::sync::Arc;

impl ConsumerGroup {
    /// A member joins or joins again, owning nothing. True: the group changed by it.
    pub(super) fn join(&mut self, world: &World<'_>, beat: &Beat<'_>) -> Result<bool, Refusal> {
        let member_id = beat.member_id.as_str();
        let instance_id = beat.request.instance_id.as_deref();
        let place = instance_id.and_then(|instance| self.statics.get(instance)).cloned();
        if let Some(old) = place.filter(|old| old != member_id) {
            self.take_place(&old, beat)?;
            return Ok(false);
        }
        if let Some(member) = self.members.get(member_id) {
            if member.words.instance_id.as_deref() == instance_id {
                self.hold(member_id, Shares::new(), Shares::new());
                if let Some(member) = self.members.get_mut(member_id) {
                    member.begin(0);
                }
                return Ok(false);
            }
            self.remove(member_id);
        }
        if self.members.len() >= world.config.group_max_size {
            return Err(full(&beat.request.group_id));
        }
        let member = self.new_member(instance_id);
        self.insert(member_id, member);
        Ok(true)
    }

    /// Another process goes on as a static member that is away: same place, same target.
    fn take_place(&mut self, old: &str, beat: &Beat<'_>) -> Result<(), Refusal> {
        let instance_id = beat.request.instance_id.as_deref();
        if self.members.get(old).is_some_and(|member| member.place.epoch != AWAY_EPOCH) {
            let message = format!(
                "Static member {} with instance id {} cannot join the group because the instance \
                 id is owned by member {old}.",
                beat.member_id,
                instance_id.unwrap_or_default(),
            );
            return Err(Refusal { code: ErrorCode::UnreleasedInstanceId, message });
        }
        // Should the id be another member's: that one is no more.
        self.remove(&beat.member_id);
        self.hold(old, Shares::new(), Shares::new());
        let target = self.targets.remove(old);
        let Some(mut member) = self.members.remove(old) else { return Ok(()) };
        member.serial = self.next_serial();
        member.begin(0);
        self.insert(&beat.member_id, member);
        self.targets.extend(target.map(|target| (beat.member_id.clone(), target)));
        Ok(())
    }

    /// A heartbeat of one who says that it is in.
    pub(super) fn check_member(&self, beat: &Beat<'_>) -> Result<(), Refusal> {
        let member = self.known(beat)?;
        let place = &member.place;
        let (received, epoch) = (beat.request.member_epoch, place.epoch);
        if received == epoch {
            return Ok(());
        }
        // The answer that brought the new epoch may have been lost.
        let owns_no_more = beat.owned.as_ref().is_some_and(|own| is_within(own, &place.assigned));
        if received < epoch && received == place.previous_epoch && owns_no_more {
            return Ok(());
        }
        let than = if received > epoch { "greater" } else { "smaller" };
        let message = format!(
            "The consumer group member has a {than} member epoch ({received}) than the one known \
             by the group coordinator ({epoch}). The member must abandon all its partitions and \
             rejoin."
        );
        Err(Refusal { code: ErrorCode::FencedMemberEpoch, message })
    }

    /// The member that a heartbeat comes from.
    fn known(&self, beat: &Beat<'_>) -> Result<&ConsumerMember, Refusal> {
        let (member_id, group_id) = (&beat.member_id, &beat.request.group_id);
        if let Some(instance_id) = &beat.request.instance_id {
            match self.statics.get(instance_id) {
                Some(owner) if owner == member_id => {}
                Some(owner) => {
                    let message = format!(
                        "Static member {member_id} with instance id {instance_id} was fenced by \
                         member {owner}."
                    );
                    return Err(Refusal { code: ErrorCode::FencedInstanceId, message });
                }
                None => {
                    let message = format!("Instance id {instance_id} is unknown.");
                    return Err(Refusal { code: ErrorCode::UnknownMemberId, message });
                }
            }
        }
        self.members.get(member_id).ok_or_else(|| unknown(group_id, member_id))
    }

    /// A member leaves for good.
    pub(super) fn leave(&mut self, beat: &Beat<'_>) -> Result<(), Refusal> {
        self.known(beat)?;
        self.remove(&beat.member_id);
        Ok(())
    }

    /// A static member leaves and keeps its place until its session ends.
    pub(super) fn go_away(&mut self, beat: &Beat<'_>) -> Result<(), Refusal> {
        let assigned = self.known(beat)?.place.assigned.clone();
        self.hold(&beat.member_id, assigned, Shares::new());
        if let Some(member) = self.members.get_mut(&beat.member_id) {
            member.begin(AWAY_EPOCH);
        }
        Ok(())
    }

    /// Members that were silent for too long, or did not give up what they were to, are out. True:
    /// there were any.
    pub(crate) fn expire(&mut self, now_ms: u64) -> bool {
        let is_late = |member: &ConsumerMember| {
            member.session_deadline_ms <= now_ms
                || member.revoke_deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms)
        };
        let late = self.members.iter().filter(|(_, member)| is_late(member));
        let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
        for member_id in &late {
            self.remove(member_id);
        }
        !late.is_empty()
    }

    fn remove(&mut self, member_id: &str) {
        self.hold(member_id, Shares::new(), Shares::new());
        self.targets.remove(member_id);
        self.has_news_of_all = true;
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(instance) = &member.words.instance_id {
            self.statics.remove(instance);
        }
    }

    fn insert(&mut self, member_id: &str, member: ConsumerMember) {
        self.has_news_of_all = true;
        if let Some(instance) = &member.words.instance_id {
            self.statics.insert(instance.clone(), member_id.to_owned());
        }
        self.members.insert(member_id.to_owned(), member);
    }

    fn new_member(&mut self, instance_id: Option<&str>) -> ConsumerMember {
        let serial = self.next_serial();
        let instance_id = instance_id.map(str::to_owned);
        let words = Arc::new(MemberWords { instance_id, ..MemberWords::default() });
        ConsumerMember { serial, words, ..ConsumerMember::default() }
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }
}

impl ConsumerMember {
    /// As one that has just joined, or has gone and keeps what it has.
    fn begin(&mut self, epoch: i32) {
        let place = MemberPlace {
            epoch,
            assigned: self.place.assigned.clone(),
            revoking: self.place.revoking.clone(),
            ..MemberPlace::default()
        };
        self.place = Arc::new(place);
        self.revoke_deadline_ms = None;
    }
}

pub(super) fn full(group_id: &str) -> Refusal {
    let message = format!("The consumer group {group_id} has reached its maximum capacity.");
    Refusal { code: ErrorCode::GroupMaxSizeReached, message }
}

/// A group that is not there is told in the same way: a client that hears of an unknown group gives
/// up, one that is unknown itself joins again.
pub(super) fn unknown(group_id: &str, member_id: &str) -> Refusal {
    let message = format!("Member {member_id} is not a member of group {group_id}.");
    Refusal { code: ErrorCode::UnknownMemberId, message }
}
