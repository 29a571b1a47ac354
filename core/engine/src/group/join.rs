//! JoinGroup: new members, members that come again, static members that come back.
//! Answers at once only with errors and with a generation that goes on unchanged; otherwise the
//! rebalance answers.

use super::member::{Member, copy_protocols};
use super::roster::ClassicMember;
use super::{Ctx, Group, GroupState};
use crate::config::EngineConfig;
use crate::units::{Peer, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::join_group_response::JoinGroupResponseMember;
use millpond_wire::messages::{JoinGroupRequest, JoinGroupResponse, Response};
use std::sync::Arc;

/// A JoinGroup as it came.
pub(crate) struct Join<'a> {
    pub(crate) id: RequestId,
    pub(crate) version: i16,
    pub(crate) peer: &'a Peer,
    pub(crate) request: &'a JoinGroupRequest,
}

impl Join<'_> {
    /// What can be judged without looking at the group.
    pub(crate) fn check(&self, config: &EngineConfig) -> Result<(), ErrorCode> {
        let request = self.request;
        if !is_valid_group_id(&request.group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        let session_ms = request.session_timeout_ms;
        let shortest = config.group_min_session_timeout_ms;
        if session_ms < shortest || session_ms > config.group_max_session_timeout_ms {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        let is_long = |text: &str| text.len() > limits::MEMBER_ID_BYTES_MAX;
        let metadata = request.protocols.iter().map(|protocol| protocol.metadata.len()).max();
        if is_long(&request.member_id)
            || request.group_instance_id.as_deref().is_some_and(is_long)
            || is_long(&request.protocol_type)
            || request.protocols.iter().any(|protocol| is_long(&protocol.name))
            || request.protocols.len() > limits::MEMBER_PROTOCOLS_MAX
            || metadata.unwrap_or(0) > limits::MEMBER_METADATA_BYTES_MAX
        {
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(())
    }

    fn instance_id(&self) -> Option<&str> {
        self.request.group_instance_id.as_deref()
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        // Version 0 has none: the session timeout stands for both.
        let given = u64::try_from(self.request.rebalance_timeout_ms).ok();
        given.unwrap_or(self.session_timeout_ms()).min(limits::REBALANCE_TIMEOUT_MS_MAX)
    }

    fn session_timeout_ms(&self) -> u64 {
        u64::try_from(self.request.session_timeout_ms).unwrap_or(0)
    }
}

/// An answer that carries nothing but an error, and the member id for `MemberIdRequired`.
pub(crate) fn join_error(code: ErrorCode, member_id: &str) -> Response {
    Response::JoinGroup(JoinGroupResponse {
        error_code: code.code(),
        generation_id: -1,
        member_id: member_id.to_owned(),
        ..JoinGroupResponse::default()
    })
}

pub(crate) fn is_valid_group_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= limits::GROUP_ID_BYTES_MAX
}

impl Group {
    /// Takes a JoinGroup; whoever is to be answered is answered through `ctx`.
    pub(crate) fn join(&mut self, ctx: &mut Ctx<'_>, join: &Join<'_>) {
        if let Err(code) = self.try_join(ctx, join) {
            ctx.answer(join.id, join_error(code, &join.request.member_id));
        }
    }

    fn try_join(&mut self, ctx: &mut Ctx<'_>, join: &Join<'_>) -> Result<(), ErrorCode> {
        let request = join.request;
        if !self.accepts(join) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if request.member_id.is_empty() {
            return self.join_new(ctx, join);
        }
        if self.pending.remove(&request.member_id).is_some() {
            self.add_member(ctx, join, request.member_id.clone());
            return Ok(());
        }
        self.join_again(ctx, join)
    }

    fn join_new(&mut self, ctx: &mut Ctx<'_>, join: &Join<'_>) -> Result<(), ErrorCode> {
        let member_id = ctx.new_member_id(join.peer, join.instance_id());
        if let Some(old) = join.instance_id().and_then(|id| self.statics.get(id)).cloned() {
            self.replace_static(ctx, join, &old, member_id);
            return Ok(());
        }
        if self.members.len() + self.pending.len() >= ctx.config.group_max_size {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if join.version >= MEMBER_ID_REQUIRED_VERSION && join.instance_id().is_none() {
            // The client comes again with this id, so that a lost answer leaves no ghost (KIP-394).
            self.pending.insert(member_id.clone(), ctx.now_ms + join.session_timeout_ms());
            ctx.answer(join.id, join_error(ErrorCode::MemberIdRequired, &member_id));
        } else {
            self.add_member(ctx, join, member_id);
        }
        Ok(())
    }

    fn join_again(&mut self, ctx: &mut Ctx<'_>, join: &Join<'_>) -> Result<(), ErrorCode> {
        let request = join.request;
        let state = self.state;
        let is_leader = self.leader.as_ref() == Some(&request.member_id);
        let member = self.known_member(&request.member_id, join.instance_id())?;
        let known = &member.said.protocols;
        let says_the_same = known.len() == request.protocols.len()
            && known
                .iter()
                .zip(&request.protocols)
                .all(|((name, metadata), new)| *name == new.name && *metadata == new.metadata);
        let goes_on = match state {
            GroupState::CompletingRebalance => says_the_same,
            GroupState::Stable => says_the_same && !is_leader,
            GroupState::PreparingRebalance => false,
            _ => return Err(ErrorCode::UnknownMemberId),
        };
        if goes_on {
            member.touch(ctx.now_ms);
            let member_id = request.member_id.clone();
            let response = self.current_generation(&member_id, false);
            ctx.answer(join.id, response);
            return Ok(());
        }
        self.update_member(ctx, join);
        self.rebalance_or_complete(ctx);
        Ok(())
    }

    fn add_member(&mut self, ctx: &mut Ctx<'_>, join: &Join<'_>, member_id: String) {
        self.joined_count += 1;
        let mut member = Member::default();
        fill_member(&mut member, ctx, join, self.joined_count);
        if let Some(instance) = &member.said.instance_id {
            self.statics.insert(instance.clone(), member_id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.request.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.members.insert(member_id, member);
        if let Some(joining) = &mut self.joining {
            joining.has_new = true;
        }
        self.rebalance_or_complete(ctx);
    }

    fn update_member(&mut self, ctx: &mut Ctx<'_>, join: &Join<'_>) {
        let Some(member) = self.members.get_mut(&join.request.member_id) else { return };
        let (lost, order) = (member.join.take(), member.said.order);
        fill_member(member, ctx, join, order);
        if self.members.len() == 1 {
            self.protocol_type = Some(join.request.protocol_type.clone());
        }
        // The same member asks twice: the first request has lost its meaning.
        if let Some((id, _)) = lost
            && id != join.id
        {
            ctx.answer(id, join_error(ErrorCode::RebalanceInProgress, &join.request.member_id));
        }
    }

    /// A static member comes back under a new member id (KIP-345).
    fn replace_static(&mut self, ctx: &mut Ctx<'_>, join: &Join<'_>, old: &str, new: String) {
        let Some(mut member) = self.members.remove(old) else { return };
        let chosen = self.protocol.clone().unwrap_or_default();
        let before = member.metadata(&chosen);
        if let Some((id, _)) = member.join.take() {
            ctx.answer(id, join_error(ErrorCode::FencedInstanceId, old));
        }
        if let Some(id) = member.sync.take() {
            ctx.answer(id, super::sync::sync_error(ErrorCode::FencedInstanceId));
        }
        let order = member.said.order;
        fill_member(&mut member, ctx, join, order);
        let now = member.metadata(&chosen);
        let old_leader = self.leader.clone();
        if self.leader.as_deref() == Some(old) {
            self.leader = Some(new.clone());
        }
        if let Some(instance) = &member.said.instance_id {
            self.statics.insert(instance.clone(), new.clone());
        }
        self.members.insert(new.clone(), member);
        let goes_on = self.state == GroupState::Stable
            && self.choose_protocol().as_ref() == Some(&chosen)
            && self.means_the_same(&before, &now);
        if goes_on && let Some(member) = self.members.get_mut(&new) {
            member.join = None;
        }
        if !goes_on {
            return self.rebalance_or_complete(ctx);
        }
        self.has_news = true;
        let mut response = self.current_generation(&new, join.version >= SKIP_ASSIGNMENT_VERSION);
        if join.version < SKIP_ASSIGNMENT_VERSION
            && let Response::JoinGroup(answer) = &mut response
        {
            // Told that another leads, it does not assign anew what goes on unchanged.
            answer.leader = old_leader.unwrap_or_default();
            answer.members.clear();
        }
        ctx.answer(join.id, response);
    }

    fn rebalance_or_complete(&mut self, ctx: &mut Ctx<'_>) {
        if self.state == GroupState::PreparingRebalance {
            self.try_complete_join(ctx);
        } else {
            self.prepare_rebalance(ctx);
        }
    }

    /// Whether one with these protocols can be in the group. A member that comes back is not
    /// compared with itself.
    fn accepts(&self, join: &Join<'_>) -> bool {
        let request = join.request;
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return false;
        }
        let returning = join.instance_id().and_then(|id| self.statics.get(id));
        let is_other = |id: &String| Some(id) != returning && *id != request.member_id;
        let others = self.members.iter().filter(|(id, _)| is_other(id));
        let others: Vec<&Member> = others.map(|(_, member)| member).collect();
        if others.is_empty() {
            return true;
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request
                .protocols
                .iter()
                .any(|protocol| others.iter().all(|member| member.supports(&protocol.name)))
    }

    /// The answer to a JoinGroup for the generation as it is.
    pub(super) fn current_generation(&self, member_id: &str, skip_assignment: bool) -> Response {
        let is_leader = self.leader.as_deref() == Some(member_id);
        let protocol = self.protocol.clone().unwrap_or_default();
        let listed = |(id, member): (&String, &Member)| JoinGroupResponseMember {
            member_id: id.clone(),
            group_instance_id: member.said.instance_id.clone(),
            metadata: member.metadata(&protocol),
        };
        let members =
            if is_leader { self.members.iter().map(listed).collect() } else { Vec::new() };
        Response::JoinGroup(JoinGroupResponse {
            error_code: ErrorCode::None.code(),
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: Some(protocol),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: skip_assignment && is_leader,
            member_id: member_id.to_owned(),
            members,
            ..JoinGroupResponse::default()
        })
    }
}

fn fill_member(member: &mut Member, ctx: &Ctx<'_>, join: &Join<'_>, order: u64) {
    let said = ClassicMember {
        instance_id: join.request.group_instance_id.clone(),
        client_id: join.peer.client_id.clone().unwrap_or_default(),
        host: join.peer.host.clone(),
        session_timeout_ms: join.session_timeout_ms(),
        rebalance_timeout_ms: join.rebalance_timeout_ms(),
        order,
        protocols: copy_protocols(&join.request.protocols),
    };
    // One that says the same again stays one with the roster.
    if *member.said != said {
        member.said = Arc::new(said);
    }
    member.join = Some((join.id, join.version));
    member.touch(ctx.now_ms);
}

const MEMBER_ID_REQUIRED_VERSION: i16 = 4;
const SKIP_ASSIGNMENT_VERSION: i16 = 9;
