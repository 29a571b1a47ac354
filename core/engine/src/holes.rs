//! The offsets of a partition that damage took: what stood there was acknowledged and cannot be
//! given any more. They are never served, never given out again and never passed over in silence.
//! Bounded: when there are too many, the two that lie closest become one, with what is between.

use millpond_wire::limits;

/// Lost ranges of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holes {
    /// First lost offset and the first one after; in order, apart, none empty.
    ranges: Vec<(i64, i64)>,
    /// While the journal is replayed: the most records that lost entries at the log end may have
    /// held. 0: none was lost since the last batch.
    pending: i64,
}

impl Holes {
    /// The ranges of which a log that starts here has something left.
    pub(crate) fn above(&self, log_start: i64) -> &[(i64, i64)] {
        let gone = self.ranges.partition_point(|(_, upto)| *upto <= log_start);
        &self.ranges[gone..]
    }

    pub(crate) fn contains(&self, offset: i64) -> bool {
        self.first_from(offset) == offset
    }

    /// The first offset behind the lost range that holds this one.
    pub(crate) fn end_of(&self, offset: i64) -> Option<i64> {
        let next = self.ranges.partition_point(|(_, upto)| *upto <= offset);
        self.ranges.get(next).filter(|(from, _)| *from <= offset).map(|(_, upto)| *upto)
    }

    /// The first lost offset at or above this one; `i64::MAX` if there is none.
    pub(crate) fn first_from(&self, offset: i64) -> i64 {
        let next = self.ranges.partition_point(|(_, upto)| *upto <= offset);
        self.ranges.get(next).map_or(i64::MAX, |(from, _)| (*from).max(offset))
    }

    /// Notes a range behind all others.
    pub(crate) fn push(&mut self, from: i64, upto: i64) {
        match self.ranges.last_mut() {
            Some(last) if last.1 >= from => last.1 = last.1.max(upto),
            _ => self.ranges.push((from, upto)),
        }
        if self.ranges.len() > limits::LOST_RANGES_PER_PARTITION_MAX {
            let gap = |index: &usize| self.ranges[index + 1].0 - self.ranges[*index].1;
            let closest = (0..self.ranges.len() - 1).min_by_key(gap);
            if let Some(closest) = closest {
                let (_, upto) = self.ranges.remove(closest + 1);
                self.ranges[closest].1 = upto;
            }
        }
    }

    /// An entry of the partition was lost that held at most so many records.
    pub(crate) fn expect_loss(&mut self, records: i64) {
        self.pending = self.pending.saturating_add(records);
    }

    /// The most records that were lost at the log end. What comes next stands behind them.
    pub(crate) fn take_pending(&mut self) -> i64 {
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_offsets_are_known_as_such_and_others_are_not() {
        let mut holes = Holes::default();
        assert_eq!(holes.first_from(0), i64::MAX);
        holes.push(10, 20);
        holes.push(30, 31);
        for (offset, is_lost) in [(9, false), (10, true), (19, true), (20, false), (30, true)] {
            assert_eq!(holes.contains(offset), is_lost, "{offset}");
        }
        assert_eq!(
            (holes.first_from(0), holes.first_from(20), holes.first_from(31)),
            (10, 30, i64::MAX)
        );
        holes.push(31, 40);
        assert_eq!(holes.above(0), [(10, 20), (30, 40)]);
        assert_eq!(holes.above(20), [(30, 40)]);
    }

    #[test]
    fn too_many_ranges_become_fewer_and_lose_none() {
        let mut holes = Holes::default();
        let count = limits::LOST_RANGES_PER_PARTITION_MAX as i64 * 3;
        for index in 0..count {
            holes.push(index * 100, index * 100 + 1 + index % 50);
        }
        assert_eq!(holes.above(0).len(), limits::LOST_RANGES_PER_PARTITION_MAX);
        for index in 0..count {
            assert!(holes.contains(index * 100 + index % 50), "{index}");
        }
    }
}
