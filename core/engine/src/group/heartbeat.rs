//! Heartbeats, departures and the right to commit: the short conversations of a member.

use super::{Ctx, Group, GroupState};
use millpond_wire::error_code::ErrorCode;

impl Group {
    /// A sign of life. `RebalanceInProgress` calls the member to join again.
    pub(crate) fn heartbeat(
        &mut self,
        now_ms: u64,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> ErrorCode {
        let state = self.state;
        match self.known_member_of(member_id, instance_id, generation) {
            Err(code) => code,
            Ok(member) => {
                member.touch(now_ms);
                match state {
                    GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
                    GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
                    _ => ErrorCode::UnknownMemberId,
                }
            }
        }
    }

    /// One member leaves. A static one may be named by its instance id alone.
    pub(crate) fn leave(
        &mut self,
        ctx: &mut Ctx<'_>,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> ErrorCode {
        if self.pending.remove(member_id).is_some() {
            self.after_departure(ctx, false);
            return ErrorCode::None;
        }
        let by_instance = instance_id.and_then(|instance| self.statics.get(instance)).cloned();
        let member_id = match (member_id, by_instance) {
            ("", Some(owner)) => owner,
            _ => member_id.to_owned(),
        };
        if let Err(code) = self.known_member(&member_id, instance_id) {
            return code;
        }
        self.remove_member(ctx, &member_id);
        self.after_departure(ctx, true);
        ErrorCode::None
    }

    /// Whether this member may commit offsets now.
    pub(crate) fn may_commit(
        &mut self,
        now_ms: u64,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        // A consumer that assigns to itself may use the group only while nobody else does.
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        let state = self.state;
        self.known_member_of(member_id, instance_id, generation)?.touch(now_ms);
        match state {
            GroupState::Stable | GroupState::PreparingRebalance => Ok(()),
            GroupState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Err(ErrorCode::UnknownMemberId),
        }
    }
}
