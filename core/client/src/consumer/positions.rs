//! The partitions that a consumer reads, and how far it has come in each.
//!
//! Two marks per partition: what the next fetch asks for, and what `poll` returns next. Only the
//! second is ever committed. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A partition's name.
pub(crate) type Place = (Arc<str>, i32);

/// How far a partition is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The next offset that `poll` returns; `None` until it is known where to begin.
    pub(crate) next: Option<i64>,
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
    turns: u64,
}

impl Positions {
    /// Replaces the assignment; every partition starts without a position.
    pub(crate) fn assign(&mut self, places: impl IntoIterator<Item = Place>) {
        self.by_place.clear();
        for place in places {
            self.turns += 1;
            let turn = self.turns;
            self.by_place.insert(place, Position { turn, ..Position::default() });
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

    /// What a commit would write now: positions that are known and not committed yet.
    pub(crate) fn uncommitted(&self) -> Vec<(Place, i64)> {
        let changed = self.by_place.iter().filter(|(_, p)| p.next != p.committed);
        changed.filter_map(|(place, p)| Some((place.clone(), p.next?))).collect()
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
        positions.assign([place.clone()]);
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
    fn what_was_asked_for_before_a_seek_is_thrown_away() {
        let place: Place = ("t".into(), 0);
        let mut positions = Positions::default();
        positions.assign([place.clone()]);
        positions.seek(&place, Some(5));
        let turn = positions.get(&place).unwrap().turn;
        positions.seek(&place, Some(0));
        assert!(!positions.fetched(&place, turn, 20));
        positions.returned(&place, turn, 20);
        assert_eq!(positions.get(&place).unwrap().next, Some(0));
        assert!(!positions.seek(&("t".into(), 1), Some(0)));
    }
}
