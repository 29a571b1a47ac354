//! The partitions that a consumer reads, and how far it has come in each.
//!
//! Three marks per partition: what the next fetch asks for, what `poll` returns next, and up to where
//! the caller is done because it came back for more. Only the last two are ever committed. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A partition's name.
pub(crate) type Place = (Arc<str>, i32);

/// How far a partition is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The next offset that `poll` returns; `None` until it is known where to begin.
    pub(crate) next: Option<i64>,
    /// What `next` was when the caller last came back for more: all before it is done.
    pub(crate) done: Option<i64>,
    /// The next offset to ask for; ahead of `next` by what is held.
    pub(crate) fetch: i64,
    /// What was last committed.
    pub(crate) committed: Option<i64>,
    /// Rises with each seek: what was asked for before is thrown away.
    pub(crate) turn: u64,
}

/// The partitions of a consumer.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    by_place: BTreeMap<Place, Position>,
    /// Partitions that are held back; they stay so over a rebalance that leaves them here.
    paused: BTreeSet<Place>,
    turns: u64,
}

impl Positions {
    /// Takes up partitions; each starts without a position.
    pub(crate) fn add(&mut self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            self.turns += 1;
            let turn = self.turns;
            self.by_place.insert(place, Position { turn, ..Position::default() });
        }
        self.paused.retain(|place| self.by_place.contains_key(place));
    }

    /// Gives one up for good.
    pub(crate) fn remove(&mut self, place: &Place) {
        self.by_place.remove(place);
        self.paused.remove(place);
    }

    /// Gives all up until it is known which come back.
    pub(crate) fn clear(&mut self) {
        self.by_place.clear();
    }

    /// Holds a partition back, or lets it flow again. False: it is not read here.
    pub(crate) fn set_paused(&mut self, place: &Place, on: bool) -> bool {
        if !self.by_place.contains_key(place) {
            return false;
        }
        match on {
            true => self.paused.insert(place.clone()),
            false => self.paused.remove(place),
        };
        true
    }

    pub(crate) fn is_paused(&self, place: &Place) -> bool {
        self.paused.contains(place)
    }

    pub(crate) fn paused(&self) -> impl Iterator<Item = &Place> {
        self.paused.iter().filter(|place| self.by_place.contains_key(place))
    }

    /// The caller came back for more: it is done with all that it was given.
    pub(crate) fn mark_done(&mut self) {
        for position in self.by_place.values_mut() {
            position.done = position.next;
        }
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.by_place.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Place, &Position)> {
        self.by_place.iter()
    }

    pub(crate) fn get(&self, place: &Place) -> Option<&Position> {
        self.by_place.get(place)
    }

    /// Goes to `offset`, or with `None` to where the reset policy says.
    pub(crate) fn seek(&mut self, place: &Place, offset: Option<i64>) -> bool {
        self.turns += 1;
        let turn = self.turns;
        let Some(position) = self.by_place.get_mut(place) else {
            return false;
        };
        position.next = offset;
        position.fetch = offset.unwrap_or(0);
        position.turn = turn;
        true
    }

    /// What was asked for at `turn` has come, up to `next_fetch`. False: it is out of date.
    pub(crate) fn fetched(&mut self, place: &Place, turn: u64, next_fetch: i64) -> bool {
        match self.by_place.get_mut(place) {
            Some(position) if position.turn == turn => {
                position.fetch = position.fetch.max(next_fetch);
                true
            }
            _ => false,
        }
    }

    /// `poll` has returned everything before `next`.
    pub(crate) fn returned(&mut self, place: &Place, turn: u64, next: i64) {
        if let Some(position) = self.by_place.get_mut(place).filter(|p| p.turn == turn) {
            position.next = Some(next);
        }
    }

    pub(crate) fn unplaced(&self) -> Vec<Place> {
        let unplaced = self.by_place.iter().filter(|(_, position)| position.next.is_none());
        unplaced.map(|(place, _)| place.clone()).collect()
    }

    /// What a commit of all that was returned would write now.
    pub(crate) fn uncommitted(&self) -> Vec<(Place, i64)> {
        self.beyond_commit(|position| position.next)
    }

    /// What a commit without the caller's word may write: what it came back from.
    pub(crate) fn done_uncommitted(&self) -> Vec<(Place, i64)> {
        self.beyond_commit(|position| position.done)
    }

    fn beyond_commit(&self, mark: impl Fn(&Position) -> Option<i64>) -> Vec<(Place, i64)> {
        let changed = self.by_place.iter().filter(|(_, p)| mark(p) != p.committed);
        changed.filter_map(|(place, p)| Some((place.clone(), mark(p)?))).collect()
    }

    pub(crate) fn committed(&mut self, place: &Place, offset: i64) {
        if let Some(position) = self.by_place.get_mut(place) {
            position.committed = Some(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_returned_is_committed() {
        let place: Place = ("t".into(), 0);
        let mut positions = Positions::default();
        positions.add([place.clone()]);
        assert_eq!(positions.unplaced(), vec![place.clone()]);
        assert!(positions.seek(&place, Some(5)));
        positions.committed(&place, 5);
        let turn = positions.get(&place).unwrap().turn;
        assert!(positions.fetched(&place, turn, 20));
        assert_eq!(positions.uncommitted(), vec![]);
        positions.returned(&place, turn, 8);
        assert_eq!(positions.uncommitted(), vec![(place.clone(), 8)]);
    }

    #[test]
    fn what_the_caller_still_works_on_is_not_committed_without_its_word() {
        let place: Place = ("t".into(), 0);
        let mut positions = Positions::default();
        positions.add([place.clone()]);
        positions.seek(&place, Some(5));
        positions.mark_done();
        let turn = positions.get(&place).unwrap().turn;
        positions.returned(&place, turn, 8);
        assert_eq!(positions.done_uncommitted(), vec![(place.clone(), 5)]);
        assert_eq!(positions.uncommitted(), vec![(place.clone(), 8)]);
        positions.mark_done();
        assert_eq!(positions.done_uncommitted(), vec![(place, 8)]);
    }

    #[test]
    fn a_pause_outlives_a_rebalance_that_leaves_the_partition_here() {
        let (stays, goes): (Place, Place) = (("t".into(), 0), ("t".into(), 1));
        let mut positions = Positions::default();
        assert!(!positions.set_paused(&stays, true), "it is not read yet");
        positions.add([stays.clone(), goes.clone()]);
        assert!(positions.set_paused(&stays, true) && positions.set_paused(&goes, true));
        positions.clear();
        assert_eq!(positions.paused().count(), 0);
        positions.add([stays.clone()]);
        assert_eq!(positions.paused().collect::<Vec<_>>(), [&stays]);
        positions.add([goes.clone()]);
        assert!(positions.is_paused(&stays) && !positions.is_paused(&goes));
    }

    #[test]
    fn what_was_asked_for_before_a_seek_is_thrown_away() {
        let place: Place = ("t".into(), 0);
        let mut positions = Positions::default();
        positions.add([place.clone()]);
        positions.seek(&place, Some(5));
        let turn = positions.get(&place).unwrap().turn;
        positions.seek(&place, Some(0));
        assert!(!positions.fetched(&place, turn, 20));
        positions.returned(&place, turn, 20);
        assert_eq!(positions.get(&place).unwrap().next, Some(0));
        assert!(!positions.seek(&("t".into(), 1), Some(0)));
    }
}
