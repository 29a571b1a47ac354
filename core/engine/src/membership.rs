//! What the journal keeps of groups, kept true: after each decision of a live group its note and its
//! roster, and after a restart the live groups from both. A member is told of a generation, an epoch
//! or an assignment only when the entry that keeps it is durable. Never writes for a heartbeat.

use crate::engine::Engine;
use crate::entry::Fact;
use crate::group::{ConsumerGroup, Group, GroupState};
use crate::group_fact::GroupFact;
use crate::group_note::GroupNote;
use crate::offset_expiry::UNKNOWN_MS;
use crate::units::EntrySeq;
use crate::view::GroupKind;
use millpond_wire::error_code::ErrorCode;

impl Engine {
    /// The journal is read: its groups are live again, and wait for their time.
    pub(crate) fn resume_groups(&mut self) {
        let (rosters, notes) = (&self.state.rosters, &self.state.notes);
        for (id, roster) in rosters.classics() {
            self.groups.resume(id, Group::of(roster, notes.get(id)));
        }
        for (id, roster) in rosters.consumers() {
            self.groups.resume_consumers(id, ConsumerGroup::of(roster));
        }
    }

    /// With the first event comes the first time.
    pub(crate) fn begin_groups(&mut self) {
        if !self.groups.take_resumed() {
            return;
        }
        let classic: Vec<String> = self.groups.iter().map(|(id, _)| id.to_owned()).collect();
        for id in classic {
            self.with_group(&id, |group, ctx| group.begin(ctx.now_ms));
        }
        let consumers: Vec<String> = self.groups.consumers().map(|(id, _)| id.to_owned()).collect();
        for id in consumers {
            self.with_consumer_group(&id, None, ConsumerGroup::begin);
            self.seal_if_large();
        }
    }

    /// Whether a group can come into being. A note that says nothing but that there was one makes
    /// room for it.
    pub(crate) fn room_for_group(&mut self, group_id: &str) -> Result<(), ErrorCode> {
        if self.state.notes.has_room(group_id) {
            return Ok(());
        }
        let is_spare = |id: &str| {
            let is_live = self.groups.get(id).is_some() || self.groups.consumer(id).is_some();
            !is_live && self.state.offsets.group(id).is_none()
        };
        let spare = self.state.notes.iter().map(|(id, _)| id).find(|id| is_spare(id));
        let spare = spare.map(str::to_owned).ok_or(ErrorCode::GroupMaxSizeReached)?;
        self.note_group(&spare, None);
        Ok(())
    }

    /// After a decision of a classic group. The entry that its answers wait for.
    pub(crate) fn keep_classic(&mut self, group_id: &str) -> EntrySeq {
        let seq = self.current_seq();
        let Some(group) = self.groups.get_mut(group_id) else { return EntrySeq(0) };
        let news = group.take_news(self.state.rosters.classic(group_id));
        let mut note = GroupNote {
            kind: GroupKind::Classic,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            epochs_upto: group.generation,
            empty_since_ms: None,
        };
        let is_kept = match group.state {
            GroupState::Empty if !group.has_members() => self.note_empty(group_id, note),
            GroupState::CompletingRebalance | GroupState::Stable => {
                // While somebody is in, the generation stands in the roster.
                let had = self.state.notes.get(group_id);
                note.epochs_upto = had.map_or(note.epochs_upto, |had| had.epochs_upto);
                self.note_group(group_id, Some(note))
            }
            _ => false,
        };
        let is_kept = is_kept | news.is_some();
        if let Some(change) = news {
            self.commit(Fact::Group(GroupFact::Classic { group: group_id.to_owned(), change }));
        }
        let Some(group) = self.groups.get_mut(group_id) else { return EntrySeq(0) };
        if is_kept {
            group.kept_in = seq;
        }
        group.kept_in
    }

    /// After a decision of a consumer group. `spoke`: the member that a heartbeat came from.
    pub(crate) fn keep_consumers(&mut self, group_id: &str, spoke: Option<&str>) {
        let seq = self.current_seq();
        let Some(group) = self.groups.consumer_mut(group_id) else { return };
        let note = |epochs_upto: i32| GroupNote {
            kind: GroupKind::Consumer,
            protocol_type: CONSUMER.to_owned(),
            epochs_upto,
            empty_since_ms: None,
        };
        if group.members.is_empty() {
            let epoch = group.epoch;
            self.note_empty(group_id, note(epoch));
            return;
        }
        let news = group.take_news(self.state.rosters.consumer(group_id), spoke);
        let Some(change) = news else { return };
        group.kept_in = seq;
        // While somebody is in, the epoch stands in the roster.
        let told = self.state.notes.get(group_id).map_or(0, |note| note.epochs_upto);
        self.note_group(group_id, Some(note(told)));
        self.commit(Fact::Group(GroupFact::Consumers { group: group_id.to_owned(), change }));
    }

    /// Makes a note of a group. False: it says nothing new.
    pub(crate) fn note_group(&mut self, group_id: &str, note: Option<GroupNote>) -> bool {
        if self.state.notes.get(group_id) == note.as_ref() || !self.state.notes.has_room(group_id) {
            return false;
        }
        self.commit(Fact::Group(GroupFact::Noted { group: group_id.to_owned(), note }));
        true
    }

    /// The last member has left. False: nobody had been in.
    fn note_empty(&mut self, group_id: &str, mut note: GroupNote) -> bool {
        let had_members = self.state.rosters.has(group_id);
        let told = self.state.notes.get(group_id).map_or(0, |note| note.epochs_upto);
        if !had_members && told == note.epochs_upto {
            return false;
        }
        note.empty_since_ms = Some(self.stamp_ms()).filter(|ms| *ms != UNKNOWN_MS);
        self.note_group(group_id, Some(note));
        if had_members {
            self.commit(Fact::Group(GroupFact::Emptied { group: group_id.to_owned() }));
        }
        true
    }
}

/// The protocol type of consumer groups.
const CONSUMER: &str = "consumer";
