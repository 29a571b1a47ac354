//! The rebalance: waiting for members, closing the doors, the new generation; and the deadlines
//! that keep one silent member from holding up the rest.

use super::join::join_error;
use super::sync::sync_error;
use super::{Ctx, Group, GroupState, Joining};
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;

impl Group {
    /// Members are called to join. An empty group waits a little for more of them.
    pub(super) fn prepare_rebalance(&mut self, ctx: &mut Ctx<'_>) {
        let was_empty = self.state == GroupState::Empty;
        for member in self.members.values_mut() {
            if let Some(id) = member.sync.take() {
                member.touch(ctx.now_ms);
                ctx.answer(id, sync_error(ErrorCode::RebalanceInProgress));
            }
        }
        self.state = GroupState::PreparingRebalance;
        self.sync_deadline_ms = None;
        let timeout_ms = self.rebalance_timeout_ms();
        let delay_ms = ctx.config.group_initial_rebalance_delay_ms.min(timeout_ms);
        self.joining = Some(if was_empty && delay_ms > 0 {
            Joining {
                deadline_ms: ctx.now_ms + delay_ms,
                initial_left_ms: Some(timeout_ms - delay_ms),
                has_new: false,
            }
        } else {
            let deadline_ms = ctx.now_ms + timeout_ms;
            Joining { deadline_ms, initial_left_ms: None, has_new: false }
        });
        self.try_complete_join(ctx);
    }

    /// Closes the doors as soon as all are in.
    pub(super) fn try_complete_join(&mut self, ctx: &mut Ctx<'_>) {
        let waits = self.joining.is_some_and(|joining| joining.initial_left_ms.is_some());
        let all_in = self.members.values().all(|member| member.join.is_some());
        if !waits && all_in && self.pending.is_empty() {
            self.complete_join(ctx);
        }
    }

    /// Deadlines: sessions, member ids that nobody used, the doors, a leader that does not assign.
    pub(crate) fn tick(&mut self, ctx: &mut Ctx<'_>) {
        let now_ms = ctx.now_ms;
        let pending_before = self.pending.len();
        self.pending.retain(|_, deadline_ms| *deadline_ms > now_ms);
        let expired = |member: &super::Member| !member.is_waiting() && member.deadline_ms <= now_ms;
        let gone = self.members.iter().filter(|(_, member)| expired(member));
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for member_id in &gone {
            self.remove_member(ctx, member_id);
        }
        if !gone.is_empty() || pending_before != self.pending.len() {
            self.after_departure(ctx, !gone.is_empty());
        }
        if self.joining.is_some_and(|joining| joining.deadline_ms <= now_ms) {
            self.on_join_deadline(ctx);
        }
        if self.sync_deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            self.on_sync_deadline(ctx);
        }
    }

    /// Somebody left: the others share anew.
    pub(super) fn after_departure(&mut self, ctx: &mut Ctx<'_>, was_member: bool) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance if was_member => {
                self.prepare_rebalance(ctx);
            }
            GroupState::PreparingRebalance => self.try_complete_join(ctx),
            _ => {}
        }
    }

    pub(super) fn remove_member(&mut self, ctx: &mut Ctx<'_>, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some((id, _)) = member.join {
            ctx.answer(id, join_error(ErrorCode::UnknownMemberId, member_id));
        }
        if let Some(id) = member.sync {
            ctx.answer(id, sync_error(ErrorCode::UnknownMemberId));
        }
        if let Some(instance) = &member.said.instance_id {
            self.statics.remove(instance);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.eldest(|_| true);
        }
    }

    fn on_join_deadline(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(joining) = &mut self.joining
            && let Some(left_ms) = joining.initial_left_ms
            && joining.has_new
            && left_ms > 0
        {
            let more_ms = left_ms.min(ctx.config.group_initial_rebalance_delay_ms);
            joining.deadline_ms = ctx.now_ms + more_ms;
            joining.initial_left_ms = Some(left_ms - more_ms);
            joining.has_new = false;
            return;
        }
        self.complete_join(ctx);
    }

    fn on_sync_deadline(&mut self, ctx: &mut Ctx<'_>) {
        self.sync_deadline_ms = None;
        if self.state != GroupState::CompletingRebalance {
            return;
        }
        let silent = self.members.iter().filter(|(_, member)| member.sync.is_none());
        let silent: Vec<String> = silent.map(|(id, _)| id.clone()).collect();
        for member_id in &silent {
            self.remove_member(ctx, member_id);
        }
        self.prepare_rebalance(ctx);
    }

    /// The doors close: who has not joined is out (static members stay), a new generation begins.
    fn complete_join(&mut self, ctx: &mut Ctx<'_>) {
        let absent = self.members.iter();
        let absent = absent.filter(|(_, m)| m.join.is_none() && m.said.instance_id.is_none());
        let absent: Vec<String> = absent.map(|(id, _)| id.clone()).collect();
        for member_id in &absent {
            self.remove_member(ctx, member_id);
        }
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.is_none_or(|leader| leader.join.is_none()) {
            match self.eldest(|member| member.join.is_some()) {
                Some(leader) => self.leader = Some(leader),
                None if !self.members.is_empty() => {
                    // Only silent static members: their sessions decide.
                    let deadline_ms = ctx.now_ms + self.rebalance_timeout_ms().max(1);
                    self.joining =
                        Some(Joining { deadline_ms, initial_left_ms: None, has_new: false });
                    return;
                }
                None => self.leader = None,
            }
        }
        self.joining = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        ctx.rebalances += 1;
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            self.protocol = None;
            return;
        }
        self.protocol = self.choose_protocol();
        self.state = GroupState::CompletingRebalance;
        self.has_news = true;
        self.sync_deadline_ms = Some(ctx.now_ms + self.rebalance_timeout_ms());
        self.answer_joins(ctx);
    }

    fn answer_joins(&mut self, ctx: &mut Ctx<'_>) {
        let mut answers = Vec::new();
        for (member_id, member) in &mut self.members {
            member.assignment = Bytes::new();
            member.touch(ctx.now_ms);
            if let Some((id, _)) = member.join.take() {
                answers.push((id, member_id.clone()));
            }
        }
        for (id, member_id) in answers {
            let response = self.current_generation(&member_id, false);
            ctx.answer(id, response);
        }
    }

    /// Each member votes for its first protocol that all support; the leader's order decides ties.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let leader = self.members.get(self.leader.as_ref()?)?;
        let all_support = |name: &String| self.members.values().all(|member| member.supports(name));
        let shared: Vec<&String> = leader
            .said
            .protocols
            .iter()
            .map(|(name, _)| name)
            .filter(|name| all_support(name))
            .collect();
        let vote = |member: &super::Member| {
            let names = member.said.protocols.iter().map(|(name, _)| name);
            names.into_iter().find_map(|name| shared.iter().position(|s| *s == name))
        };
        let mut votes = vec![0_usize; shared.len()];
        for choice in self.members.values().filter_map(vote) {
            votes[choice] += 1;
        }
        // The first of the most: `max_by_key` would give the last.
        let best = votes.iter().enumerate().rev().max_by_key(|(_, count)| **count)?;
        shared.get(best.0).map(|name| (*name).clone())
    }

    fn eldest(&self, may: impl Fn(&super::Member) -> bool) -> Option<String> {
        let able = self.members.iter().filter(|(_, member)| may(member));
        able.min_by_key(|(_, member)| member.said.order).map(|(id, _)| id.clone())
    }

    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| member.said.rebalance_timeout_ms).max().unwrap_or(0)
    }
}
