//! Groups under random behaviour: clients join, beat, fall silent, leave and come back in any
//! order, and the node restarts among them. Every request is answered once unless the node goes down
//! under it, no generation comes twice with another meaning, and when the clients behave again, all
//! of them end up in one generation.

use super::rig::Rig;
use crate::rng::Rng;
use crate::units::RequestId;
use crate::{GroupState, GroupView, SessionId};
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::leave_group_request::MemberIdentity;
use millpond_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use millpond_wire::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, Request, Response, SyncGroupRequest,
};

#[derive(Debug, Default)]
struct Client {
    name: String,
    instance: Option<String>,
    member_id: String,
    generation: i32,
    /// When it leads: who is to be assigned something.
    followers: Vec<String>,
    joining: Option<RequestId>,
    syncing: Option<RequestId>,
    has_joined: bool,
    has_share: bool,
}

impl Client {
    fn reset(&mut self) {
        self.member_id.clear();
        self.rejoin();
    }

    fn rejoin(&mut self) {
        self.has_joined = false;
        self.has_share = false;
    }

    fn fail(&mut self, code: i16) {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) => self.reset(),
            Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => self.rejoin(),
            other => panic!("{}: {other:?}", self.name),
        }
    }

    /// Does what a good client does next.
    fn step(&mut self, rig: &mut Rig) {
        self.collect(rig);
        if self.joining.is_some() || self.syncing.is_some() {
            return;
        }
        if !self.has_joined {
            self.join(rig);
        } else if !self.has_share {
            self.sync(rig);
        } else {
            self.beat(rig);
        }
        self.collect(rig);
    }

    fn join(&mut self, rig: &mut Rig) {
        let protocol = JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"t"),
        };
        let request = JoinGroupRequest {
            group_id: "g".to_owned(),
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 10_000,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![protocol],
            ..JoinGroupRequest::default()
        };
        let request = Request::JoinGroup(request);
        self.joining = Some(rig.send_from(SessionId(1), &self.name, request, 7));
    }

    fn sync(&mut self, rig: &mut Rig) {
        let share = |member_id: &String| SyncGroupRequestAssignment {
            member_id: member_id.clone(),
            assignment: Bytes::copy_from_slice(member_id.as_bytes()),
        };
        let request = SyncGroupRequest {
            group_id: "g".to_owned(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance.clone(),
            assignments: self.followers.iter().map(share).collect(),
            ..SyncGroupRequest::default()
        };
        self.syncing = Some(rig.send(Request::SyncGroup(request), 5));
    }

    fn beat(&mut self, rig: &mut Rig) {
        let request = HeartbeatRequest {
            group_id: "g".to_owned(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance.clone(),
        };
        match rig.call(Request::Heartbeat(request), 4) {
            Response::Heartbeat(response) if response.error_code == 0 => {}
            Response::Heartbeat(response) => self.fail(response.error_code),
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, rig: &mut Rig) {
        let member = MemberIdentity {
            member_id: self.member_id.clone(),
            group_instance_id: self.instance.clone(),
            ..MemberIdentity::default()
        };
        let request = LeaveGroupRequest {
            group_id: "g".to_owned(),
            members: vec![member],
            ..LeaveGroupRequest::default()
        };
        rig.call(Request::LeaveGroup(request), 4);
        self.collect(rig);
        self.reset();
    }

    /// Takes the answers that have come.
    fn collect(&mut self, rig: &mut Rig) {
        if let Some(id) = self.joining
            && rig.is_answered(id)
        {
            self.joining = None;
            match rig.take(id) {
                Response::JoinGroup(response) if response.error_code == 0 => {
                    self.has_joined = true;
                    self.member_id = response.member_id;
                    self.generation = response.generation_id;
                    let members = response.members.into_iter();
                    self.followers = members.map(|member| member.member_id).collect();
                }
                Response::JoinGroup(response)
                    if response.error_code == ErrorCode::MemberIdRequired.code() =>
                {
                    self.member_id = response.member_id;
                }
                Response::JoinGroup(response) => self.fail(response.error_code),
                other => panic!("{other:?}"),
            }
        }
        if let Some(id) = self.syncing
            && rig.is_answered(id)
        {
            self.syncing = None;
            match rig.take(id) {
                Response::SyncGroup(response) if response.error_code == 0 => {
                    // A static member goes on with the share of its former self.
                    let own = self.instance.as_ref().unwrap_or(&self.member_id);
                    assert!(response.assignment.starts_with(own.as_bytes()), "its own share");
                    self.has_share = true;
                }
                Response::SyncGroup(response) => self.fail(response.error_code),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The node is killed and starts again. What waited for an answer asks again.
fn restart(rig: &mut Rig, clients: &mut [Client], seed: u64) {
    let (before, now) = (rig.engine.group("g"), rig.now);
    *rig = rig.reborn(None);
    rig.now = now;
    let generation = |group: &Option<GroupView>| group.as_ref().map_or(0, |group| group.generation);
    let after = rig.engine.group("g");
    assert!(generation(&after) >= generation(&before), "seed {seed}: {before:#?} to {after:#?}");
    if before.as_ref().is_some_and(|group| group.state == GroupState::Stable) {
        assert_eq!(after, before, "seed {seed}");
    }
    for client in clients {
        (client.joining, client.syncing) = (None, None);
    }
}

#[test]
fn after_any_behaviour_good_clients_end_up_sharing_one_generation() {
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::new();
        let mut clients: Vec<Client> = (0..5)
            .map(|index| Client {
                name: format!("c{index}"),
                instance: (index == 4).then(|| "static".to_owned()),
                ..Client::default()
            })
            .collect();
        for _ in 0..300 {
            let pick = (rng.next_u64() % 5) as usize;
            match rng.next_u64() % 13 {
                12 => restart(&mut rig, &mut clients, seed),
                0 => clients[pick].leave(&mut rig),
                // It forgets everything, as after a crash.
                1 => {
                    let client = &mut clients[pick];
                    client.collect(&mut rig);
                    (client.joining, client.syncing) = (None, None);
                    client.reset();
                }
                2 => rig.pass_ms(rng.next_u64() % 7_000),
                _ => clients[pick].step(&mut rig),
            }
        }
        for _ in 0..60 {
            for client in &mut clients {
                client.step(&mut rig);
            }
            rig.pass_ms(1_000);
        }
        let group = rig.engine.group("g").expect("a group");
        assert_eq!(group.state, GroupState::Stable, "seed {seed}: {clients:#?}");
        assert_eq!(group.members.len(), 5, "seed {seed}");
        for client in &clients {
            assert!(client.has_share, "seed {seed}: {client:?}");
            assert_eq!(client.generation, group.generation, "seed {seed}: {client:?}");
        }
    }
}
