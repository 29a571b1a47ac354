//! SyncGroup: the leader hands in who gets what, everybody takes their own.

use super::{Ctx, Group, GroupState};
use crate::units::RequestId;
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::{Response, SyncGroupRequest, SyncGroupResponse};

pub(crate) fn sync_error(code: ErrorCode) -> Response {
    Response::SyncGroup(SyncGroupResponse {
        error_code: code.code(),
        ..SyncGroupResponse::default()
    })
}

impl Group {
    /// Takes a SyncGroup; it is answered when the leader's is there.
    pub(crate) fn sync(&mut self, ctx: &mut Ctx<'_>, id: RequestId, request: &SyncGroupRequest) {
        if let Err(code) = self.try_sync(ctx, id, request) {
            ctx.answer(id, sync_error(code));
        }
    }

    fn try_sync(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: RequestId,
        request: &SyncGroupRequest,
    ) -> Result<(), ErrorCode> {
        let state = self.state;
        let differs = |given: &Option<String>, own: &Option<String>| {
            given.is_some() && own.is_some() && given != own
        };
        let is_other_protocol = differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol);
        let is_leader = self.leader.as_ref() == Some(&request.member_id);
        let instance_id = request.group_instance_id.as_deref();
        let said_bytes = self.load().bytes;
        let member =
            self.known_member_of(&request.member_id, instance_id, request.generation_id)?;
        if is_other_protocol {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        member.touch(ctx.now_ms);
        match state {
            GroupState::Empty | GroupState::Dead | GroupState::Reconciling => {
                Err(ErrorCode::UnknownMemberId)
            }
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Stable => {
                let assignment = member.assignment.clone();
                ctx.answer(id, self.sync_answer(assignment));
                Ok(())
            }
            GroupState::CompletingRebalance => {
                let is_large =
                    |assignment: &Bytes| assignment.len() > limits::MEMBER_ASSIGNMENT_BYTES_MAX;
                let given = request.assignments.iter().map(|one| one.assignment.len());
                if request.assignments.iter().any(|one| is_large(&one.assignment))
                    || said_bytes + given.sum::<usize>() > limits::GROUP_BYTES_MAX
                {
                    return Err(ErrorCode::InvalidRequest);
                }
                if let Some(lost) = member.sync.replace(id) {
                    ctx.answer(lost, sync_error(ErrorCode::RebalanceInProgress));
                }
                if is_leader {
                    self.assign(ctx, request);
                }
                Ok(())
            }
        }
    }

    fn assign(&mut self, ctx: &mut Ctx<'_>, request: &SyncGroupRequest) {
        for given in &request.assignments {
            if let Some(member) = self.members.get_mut(&given.member_id) {
                member.assignment = Bytes::copy_from_slice(&given.assignment);
            }
        }
        self.state = GroupState::Stable;
        self.has_news = true;
        self.sync_deadline_ms = None;
        let mut answers = Vec::new();
        for member in self.members.values_mut() {
            if let Some(id) = member.sync.take() {
                member.touch(ctx.now_ms);
                answers.push((id, member.assignment.clone()));
            }
        }
        for (id, assignment) in answers {
            let response = self.sync_answer(assignment);
            ctx.answer(id, response);
        }
    }

    fn sync_answer(&self, assignment: Bytes) -> Response {
        Response::SyncGroup(SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
            ..SyncGroupResponse::default()
        })
    }
}
