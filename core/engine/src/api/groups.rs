//! The requests of consumer groups: handed to the group, their timers kept.

use super::GROUP_OPERATIONS;
use crate::engine::{Engine, Timer};
use crate::entry::Fact;
use crate::group::{Ctx, Group, GroupState, Join, is_valid_group_id, join_error, sync_error};
use crate::units::{EntrySeq, Peer, RequestId};
use crate::view::{GroupKind, GroupView};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::delete_groups_response::DeletableGroupResult;
use millpond_wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use millpond_wire::messages::leave_group_response::MemberResponse;
use millpond_wire::messages::list_groups_response::ListedGroup;
use millpond_wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, Response, SyncGroupRequest,
};

impl Engine {
    pub(crate) fn on_join_group(
        &mut self,
        id: RequestId,
        peer: &Peer,
        request: &JoinGroupRequest,
        version: i16,
    ) {
        let join = Join { id, version, peer, request };
        if let Err(code) = self.check_join(&join) {
            return self.reply(id, join_error(code, &request.member_id));
        }
        self.with_group(&request.group_id, |group, ctx| group.join(ctx, &join));
    }

    fn check_join(&mut self, join: &Join<'_>) -> Result<(), ErrorCode> {
        join.check(&self.config)?;
        let request = join.request;
        // A generation could not be kept before the disk takes writes again; clients try again.
        if self.space.is_stuck() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if self.groups.get(&request.group_id).is_none() && !request.member_id.is_empty() {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.groups.consumer(&request.group_id).is_some() {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let load = self.groups.load();
        let more: usize = request.protocols.iter().map(|protocol| protocol.metadata.len()).sum();
        let own = self.groups.get(&request.group_id).map_or(0, |group| group.load().bytes);
        if load.members >= limits::MEMBERS_MAX
            || load.bytes + more > limits::MEMBERS_BYTES_MAX
            || own + more > limits::GROUP_BYTES_MAX
        {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        self.room_for_group(&request.group_id)?;
        let note = self.state.notes.get(&request.group_id);
        self.groups.make(&request.group_id, note.map_or(0, |note| note.epochs_upto))
    }

    pub(crate) fn on_sync_group(&mut self, id: RequestId, request: &SyncGroupRequest) {
        let group_id = &request.group_id;
        if !self.with_group(group_id, |group, ctx| group.sync(ctx, id, request)) {
            self.reply(id, sync_error(ErrorCode::UnknownMemberId));
        }
    }

    pub(crate) fn on_heartbeat(&mut self, id: RequestId, request: &HeartbeatRequest) {
        let now_ms = self.now.mono_ms;
        let instance_id = request.group_instance_id.as_deref();
        // A heartbeat only moves deadlines further away: timers need not change.
        let code = match self.groups.get_mut(&request.group_id) {
            Some(group) => {
                group.heartbeat(now_ms, &request.member_id, instance_id, request.generation_id)
            }
            None => ErrorCode::UnknownMemberId,
        };
        let response =
            HeartbeatResponse { error_code: code.code(), ..HeartbeatResponse::default() };
        self.reply(id, Response::Heartbeat(response));
    }

    pub(crate) fn on_leave_group(
        &mut self,
        id: RequestId,
        request: &LeaveGroupRequest,
        version: i16,
    ) {
        let mut response = LeaveGroupResponse::default();
        let group_id = &request.group_id;
        let leaving: Vec<(&str, Option<&str>)> = if version >= LEAVE_MANY_VERSION {
            let members = request.members.iter();
            members.map(|m| (m.member_id.as_str(), m.group_instance_id.as_deref())).collect()
        } else {
            vec![(request.member_id.as_str(), None)]
        };
        let mut codes = Vec::with_capacity(leaving.len());
        self.with_group(group_id, |group, ctx| {
            codes.extend(
                leaving.iter().map(|(member, instance)| group.leave(ctx, member, *instance)),
            );
        });
        codes.resize(leaving.len(), ErrorCode::UnknownMemberId);
        if version >= LEAVE_MANY_VERSION {
            let results = leaving.iter().zip(codes);
            response.members = results
                .map(|((member_id, instance_id), code)| MemberResponse {
                    member_id: (*member_id).to_owned(),
                    group_instance_id: instance_id.map(str::to_owned),
                    error_code: code.code(),
                })
                .collect();
        } else {
            response.error_code = codes.first().copied().unwrap_or(ErrorCode::None).code();
        }
        self.reply(id, Response::LeaveGroup(response));
    }

    pub(crate) fn on_describe_groups(
        &mut self,
        id: RequestId,
        request: &DescribeGroupsRequest,
        version: i16,
    ) {
        let mut response = DescribeGroupsResponse::default();
        for group_id in &request.groups {
            let mut described = match self.group(group_id) {
                _ if !is_valid_group_id(group_id) => {
                    undescribed(group_id, ErrorCode::InvalidGroupId)
                }
                Some(view) if view.kind == GroupKind::Classic => describe(view),
                // Up to version 5 a group that is not there is told as a dead one.
                _ if version < NOT_FOUND_VERSION => undescribed(group_id, ErrorCode::None),
                found => DescribedGroup {
                    error_message: Some(match found {
                        Some(_) => format!("Group {group_id} is not a classic group."),
                        None => format!("Group {group_id} not found."),
                    }),
                    ..undescribed(group_id, ErrorCode::GroupIdNotFound)
                },
            };
            described.authorized_operations =
                if request.include_authorized_operations { GROUP_OPERATIONS } else { i32::MIN };
            response.groups.push(described);
        }
        self.reply(id, Response::DescribeGroups(response));
    }

    pub(crate) fn on_list_groups(&mut self, id: RequestId, request: &ListGroupsRequest) {
        let wants = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let mut response = ListGroupsResponse::default();
        for view in self.groups() {
            if wants(&request.states_filter, view.state.name())
                && wants(&request.types_filter, view.kind.name())
            {
                response.groups.push(ListedGroup {
                    group_id: view.id,
                    protocol_type: view.protocol_type,
                    group_state: view.state.name().to_owned(),
                    group_type: view.kind.name().to_owned(),
                });
            }
        }
        self.reply(id, Response::ListGroups(response));
    }

    pub(crate) fn on_delete_groups(&mut self, id: RequestId, request: &DeleteGroupsRequest) {
        let mut response = DeleteGroupsResponse::default();
        let mut seq = EntrySeq(0);
        for group_id in &request.groups_names {
            let code = match self.group(group_id) {
                _ if !is_valid_group_id(group_id) => ErrorCode::InvalidGroupId,
                None => ErrorCode::GroupIdNotFound,
                Some(view) if view.state != GroupState::Empty => ErrorCode::NonEmptyGroup,
                Some(_) => {
                    self.remove_classic_group(group_id);
                    self.remove_consumer_group(group_id);
                    if self.state.notes.get(group_id).is_some() {
                        seq = self.current_seq();
                        self.note_group(group_id, None);
                    }
                    if self.state.offsets.group(group_id).is_some()
                        || self.state.transactions.pending().of(group_id) > 0
                    {
                        seq = self.current_seq();
                        let group = group_id.clone();
                        self.commit(Fact::OffsetsDeleted { group, partitions: None });
                    }
                    ErrorCode::None
                }
            };
            let group_id = group_id.clone();
            response.results.push(DeletableGroupResult { group_id, error_code: code.code() });
        }
        self.reply_after(seq, id, Response::DeleteGroups(response));
    }

    pub(crate) fn on_group_deadline(&mut self, group_id: &str) {
        if let Some(group) = self.groups.get_mut(group_id) {
            group.armed_ms = None;
        }
        self.with_group(group_id, |group, ctx| group.tick(ctx));
        self.seal_if_large();
    }

    /// Lets a group decide, keeps what it decided, sends its answers and keeps its timer. False:
    /// there is no such group.
    pub(crate) fn with_group(
        &mut self,
        group_id: &str,
        decide: impl FnOnce(&mut Group, &mut Ctx<'_>),
    ) -> bool {
        let Some(group) = self.groups.get_mut(group_id) else { return false };
        let mut ctx = Ctx {
            now_ms: self.now.mono_ms,
            config: &self.config,
            rng: &mut self.rng,
            out: Vec::new(),
            rebalances: 0,
        };
        let before = group.load();
        decide(group, &mut ctx);
        let after = group.load();
        let answers = ctx.out;
        self.counters.rebalances += ctx.rebalances;
        let next_ms = group.next_deadline_ms();
        let is_idle = group.is_idle();
        let armed_ms = group.armed_ms;
        // A timer that is early does no harm: it looks and is set again.
        let is_armed = armed_ms.is_some_and(|armed| next_ms.is_none_or(|next| armed <= next));
        if !is_armed {
            group.armed_ms = next_ms;
            self.disarm(group_id, armed_ms);
            if let Some(next_ms) = next_ms {
                self.timers.insert((next_ms, Timer::Group(group_id.to_owned())));
            }
        }
        self.groups.reckon(before, after);
        let seq = self.keep_classic(group_id);
        if is_idle {
            self.remove_classic_group(group_id);
        }
        for (id, response) in answers {
            self.reply_after(seq, id, response);
        }
        true
    }

    pub(crate) fn remove_classic_group(&mut self, group_id: &str) {
        let armed_ms = self.groups.remove(group_id).and_then(|group| group.armed_ms);
        self.disarm(group_id, armed_ms);
    }

    fn disarm(&mut self, group_id: &str, armed_ms: Option<u64>) {
        if let Some(armed_ms) = armed_ms {
            self.timers.remove(&(armed_ms, Timer::Group(group_id.to_owned())));
        }
    }
}

fn undescribed(group_id: &str, code: ErrorCode) -> DescribedGroup {
    DescribedGroup {
        error_code: code.code(),
        group_id: group_id.to_owned(),
        group_state: GroupState::Dead.name().to_owned(),
        ..DescribedGroup::default()
    }
}

fn describe(view: GroupView) -> DescribedGroup {
    let members = view.members.into_iter().map(|member| DescribedGroupMember {
        member_id: member.id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    DescribedGroup {
        error_code: ErrorCode::None.code(),
        group_id: view.id,
        group_state: view.state.name().to_owned(),
        protocol_type: view.protocol_type,
        protocol_data: view.protocol,
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

const LEAVE_MANY_VERSION: i16 = 3;
const NOT_FOUND_VERSION: i16 = 6;
