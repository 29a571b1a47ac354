//! Members of a group, one life after the other: each joins, consumes what it is given, commits for
//! its generation, and leaves, or dies and is missed. The leader spreads partitions as they come.

use super::{Deck, nonsense, now_ns, succeeded};
use crate::checker::event::{Outcome, Place, What};
use crate::dice::Dice;
use crate::kafka::{CallError, Kafka};
use bytes::Bytes;
use millpond_wire::ErrorCode;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::leave_group_request::MemberIdentity;
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use millpond_wire::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, Response,
    SyncGroupRequest,
};
use std::collections::BTreeMap;

/// What the members of one thread do.
#[derive(Clone, Debug)]
pub struct MemberPlan {
    /// Names the thread.
    pub name: String,
    /// The group.
    pub group: String,
    /// What the group consumes.
    pub places: Vec<Place>,
    /// How they read.
    pub is_committed: bool,
    /// Who is silent for so long is missed.
    pub session_ms: i32,
}

struct Member<'a> {
    deck: Deck,
    dice: Dice,
    plan: &'a MemberPlan,
    kafka: Option<Kafka>,
    id: String,
    generation: i32,
    /// What it owns, and where it reads on.
    owned: BTreeMap<Place, i64>,
}

pub(super) fn run(deck: Deck, mut dice: Dice, plan: &MemberPlan) {
    while !deck.is_over() {
        let mut member = Member {
            deck: deck.clone(),
            dice: dice.fork(),
            plan,
            kafka: None,
            id: String::new(),
            generation: -1,
            owned: BTreeMap::new(),
        };
        // Whatever ends this life, another one begins.
        let ended = member.live();
        let is_patient = matches!(ended, Err(CallError::Code(_)));
        deck.pause_ms(if is_patient { 20 } else { dice.within(20, 300) });
    }
}

impl Member<'_> {
    /// From joining to leaving or dying.
    fn live(&mut self) -> Result<(), CallError> {
        loop {
            self.join()?;
            loop {
                if self.deck.is_over() || self.dice.within(0, 60) == 0 {
                    return self.leave();
                }
                if self.dice.within(0, 2_000) == 0 {
                    // It dies: nobody is told.
                    return Ok(());
                }
                match self.beat() {
                    Ok(()) => {}
                    Err(CallError::Code(ErrorCode::RebalanceInProgress)) => break,
                    Err(CallError::Code(ErrorCode::IllegalGeneration)) => break,
                    Err(CallError::Socket(_)) => {
                        // The broker may be back in time.
                        self.kafka = None;
                        self.deck.pause_ms(20);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                for place in self.owned.keys().cloned().collect::<Vec<_>>() {
                    self.consume(&place);
                }
                self.deck.pause_ms(self.dice.within(1, 30));
            }
        }
    }

    /// Joins, tells what everybody gets if it is to lead, and looks where to begin.
    fn join(&mut self) -> Result<(), CallError> {
        let begin_ns = now_ns();
        let topics: Vec<&str> = self.plan.places.iter().map(|place| place.0.as_str()).collect();
        let request = JoinGroupRequest {
            group_id: self.plan.group.clone(),
            session_timeout_ms: self.plan.session_ms,
            rebalance_timeout_ms: self.plan.session_ms,
            member_id: self.id.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "turns".to_owned(),
                metadata: subscription(topics.first().copied().unwrap_or_default()),
            }],
            ..Default::default()
        };
        let answer =
            self.deck.call(&mut self.kafka, |kafka| kafka.call(5, request.clone().into()))?;
        let Response::JoinGroup(answer) = answer else { return nonsense("not a join response") };
        if answer.error_code == ErrorCode::MemberIdRequired.code() {
            self.id = answer.member_id;
            return self.join();
        }
        succeeded(answer.error_code)?;
        let before = self.generation;
        (self.id, self.generation) = (answer.member_id, answer.generation_id);
        let is_leader = answer.leader == self.id;
        let members: Vec<&str> = answer.members.iter().map(|one| one.member_id.as_str()).collect();
        let assignments = if is_leader { self.deal(&members) } else { Vec::new() };
        let request = SyncGroupRequest {
            group_id: self.plan.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            assignments,
            ..Default::default()
        };
        let answer =
            self.deck.call(&mut self.kafka, |kafka| kafka.call(3, request.clone().into()))?;
        let Response::SyncGroup(answer) = answer else { return nonsense("not a sync response") };
        succeeded(answer.error_code)?;
        let places = assigned(&answer.assignment, &self.plan.places);
        self.deck.note(
            &self.plan.name,
            begin_ns,
            What::Own {
                group: self.plan.group.clone(),
                generation: self.generation,
                member: self.id.clone(),
                places: places.clone(),
            },
        );
        self.owned.clear();
        for place in places {
            let at = self.committed(&place)?;
            self.owned.insert(place, at.max(0));
        }
        if before >= 0 && before != self.generation && self.dice.within(0, 2) == 0 {
            self.haunt(before);
        }
        Ok(())
    }

    /// What was late in the old generation: a commit that must not count any more.
    fn haunt(&mut self, before: i32) {
        let Some((place, at)) = self.owned.iter().next().map(|(place, at)| (place.clone(), *at))
        else {
            return;
        };
        let now = std::mem::replace(&mut self.generation, before);
        self.commit(&place, at);
        self.generation = now;
    }

    /// Partitions in turns, beginning with somebody.
    fn deal(&mut self, members: &[&str]) -> Vec<SyncGroupRequestAssignment> {
        let first = self.dice.within(0, members.len().max(1) as u64) as usize;
        let mut shares: Vec<Vec<i32>> = vec![Vec::new(); members.len()];
        for (index, place) in self.plan.places.iter().enumerate() {
            if let Some(share) = shares.get_mut((first + index) % members.len().max(1)) {
                share.push(place.1);
            }
        }
        let topic = self.plan.places.first().map_or("", |place| place.0.as_str());
        let dealt = members.iter().zip(shares).map(|(member, share)| SyncGroupRequestAssignment {
            member_id: (*member).to_owned(),
            assignment: assignment(topic, &share),
        });
        dealt.collect()
    }

    fn committed(&mut self, place: &Place) -> Result<i64, CallError> {
        let (begin_ns, group) = (now_ns(), self.plan.group.clone());
        let found =
            self.deck.call(&mut self.kafka, |kafka| kafka.committed(&group, &place.0, place.1))?;
        let what = What::Fetched { group, place: place.clone(), offset: found };
        self.deck.note(&self.plan.name, begin_ns, what);
        Ok(found)
    }

    fn beat(&mut self) -> Result<(), CallError> {
        let request = HeartbeatRequest {
            group_id: self.plan.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        match self.deck.call(&mut self.kafka, |kafka| kafka.call(3, request.clone().into()))? {
            Response::Heartbeat(answer) => succeeded(answer.error_code),
            _ => nonsense("not a heartbeat response"),
        }
    }

    /// Polls some, and commits it now and then. What goes wrong shows at the next heartbeat.
    fn consume(&mut self, place: &Place) {
        let Some(from) = self.owned.get(place).copied() else { return };
        let (begin_ns, max_bytes) = (now_ns(), self.dice.within(1, 20_000) as i32);
        let is_committed = self.plan.is_committed;
        let poll = |kafka: &mut Kafka| kafka.poll(place, from, is_committed, max_bytes);
        let Ok(polled) = self.deck.call(&mut self.kafka, poll) else { return };
        let next = polled.next;
        self.deck.note(
            &self.plan.name,
            begin_ns,
            What::Poll {
                place: place.clone(),
                is_committed,
                from,
                next,
                records: polled.records,
                group: Some(self.plan.group.clone()),
            },
        );
        self.owned.insert(place.clone(), next);
        if next > from && self.dice.within(0, 2) == 0 {
            self.commit(place, next);
        }
    }

    fn commit(&mut self, place: &Place, offset: i64) {
        let (begin_ns, request) = (now_ns(), self.commit_request(place, offset));
        let answer = self.deck.call(&mut self.kafka, |kafka| kafka.call(7, request.into()));
        let outcome = match answer {
            Ok(Response::OffsetCommit(answer)) => {
                match answer.topics.first().and_then(|topic| topic.partitions.first()) {
                    Some(partition) if partition.error_code == 0 => Outcome::Ok,
                    _ => Outcome::Failed,
                }
            }
            _ => Outcome::Unknown,
        };
        if outcome == Outcome::Ok {
            self.deck.progress.count();
        }
        self.deck.note(
            &self.plan.name,
            begin_ns,
            What::Commit {
                group: self.plan.group.clone(),
                place: place.clone(),
                offset,
                by: Some((self.id.clone(), self.generation)),
                outcome,
            },
        );
    }

    fn commit_request(&self, place: &Place, offset: i64) -> OffsetCommitRequest {
        let partition = OffsetCommitRequestPartition {
            partition_index: place.1,
            committed_offset: offset,
            committed_leader_epoch: -1,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: place.0.clone(),
            partitions: vec![partition],
            ..Default::default()
        };
        OffsetCommitRequest {
            group_id: self.plan.group.clone(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            topics: vec![topic],
            ..Default::default()
        }
    }

    /// Commits where it stands, as a consumer does that is closed, and leaves.
    fn leave(&mut self) -> Result<(), CallError> {
        let owned: Vec<(Place, i64)> =
            self.owned.iter().map(|(place, at)| (place.clone(), *at)).collect();
        for (place, at) in owned.into_iter().filter(|(_, at)| *at > 0) {
            self.commit(&place, at);
        }
        let member = MemberIdentity { member_id: self.id.clone(), ..Default::default() };
        let request = LeaveGroupRequest {
            group_id: self.plan.group.clone(),
            members: vec![member],
            ..Default::default()
        };
        self.deck.call(&mut self.kafka, |kafka| kafka.call(3, request.into())).map(drop)
    }
}

/// A subscription of the consumer protocol, version 0.
fn subscription(topic: &str) -> Bytes {
    let mut out = vec![0, 0, 0, 0, 0, 1];
    put_text(&mut out, topic);
    out.extend((-1_i32).to_be_bytes());
    out.into()
}

/// An assignment of the consumer protocol, version 0.
fn assignment(topic: &str, partitions: &[i32]) -> Bytes {
    let mut out = vec![0, 0, 0, 0, 0, 1];
    put_text(&mut out, topic);
    out.extend((partitions.len() as i32).to_be_bytes());
    partitions.iter().for_each(|partition| out.extend(partition.to_be_bytes()));
    out.extend((-1_i32).to_be_bytes());
    out.into()
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// What an assignment of this protocol and one topic gives.
fn assigned(bytes: &[u8], places: &[Place]) -> Vec<Place> {
    let topic = places.first().map_or("", |place| place.0.as_str());
    let head = 2 + 4 + 2 + topic.len();
    let words = bytes.get(head..).unwrap_or_default().chunks_exact(4);
    let mut words = words.map(|word| i32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    let count = words.next().unwrap_or(0).max(0) as usize;
    words.take(count).map(|partition| (topic.to_owned(), partition)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_comes_back() {
        let places: Vec<Place> = [("t".to_owned(), 3), ("t".to_owned(), 0)].into();
        assert_eq!(assigned(&assignment("t", &[3, 0]), &places), places);
        assert_eq!(assigned(&assignment("t", &[]), &places), []);
        assert_eq!(assigned(b"", &places), []);
    }
}
