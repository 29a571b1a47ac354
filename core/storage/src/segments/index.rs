//! A sparse index of one segment: where some of its batches begin. It is made by reading the
//! segment's batch headers, when they are written or asked for, and never trusted over them.

use super::format::SEGMENT_HEADER_BYTES;

/// Bytes between two marks.
const MARK_EVERY_BYTES: u64 = 64 * 1024;

/// A batch that begins at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) base_offset: i64,
    pub(crate) position: u64,
    /// The greatest timestamp of all batches before it in the segment.
    pub(crate) max_timestamp_before: i64,
}

impl Mark {
    /// The mark of a segment's first batch.
    pub(crate) fn first(position: u64, base_offset: i64) -> Mark {
        Mark { base_offset, position, max_timestamp_before: i64::MIN }
    }
}

/// Marks in order; always one at the first batch.
#[derive(Clone, Debug)]
pub(crate) struct SegmentIndex {
    marks: Vec<Mark>,
    /// Batches up to here were seen.
    scanned: u64,
    max_timestamp: i64,
    /// For forgetting the one unused longest.
    pub(super) used_at: u64,
}

impl SegmentIndex {
    pub(super) fn new(first_batch: u64, base_offset: i64) -> SegmentIndex {
        SegmentIndex {
            marks: vec![Mark::first(first_batch, base_offset)],
            scanned: first_batch,
            max_timestamp: i64::MIN,
            used_at: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether it begins where a segment begins.
    pub(super) fn is_from_start(&self) -> bool {
        self.marks.first().is_some_and(|mark| mark.position == SEGMENT_HEADER_BYTES as u64)
    }

    /// Notes a batch, if it is the next one that was not seen.
    pub(super) fn saw(&mut self, position: u64, len: u64, base_offset: i64, max_timestamp: i64) {
        if position != self.scanned {
            return;
        }
        let last = self.marks.last().map_or(0, |mark| mark.position);
        if position >= last + MARK_EVERY_BYTES {
            let max_timestamp_before = self.max_timestamp;
            self.marks.push(Mark { base_offset, position, max_timestamp_before });
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
        self.scanned = position + len;
    }

    /// Notes that there is no batch from `from` up to `to`.
    pub(super) fn passed(&mut self, from: u64, to: u64) {
        if from == self.scanned {
            self.scanned = to;
        }
    }

    /// Goes on with what was noted of the part after this one; false if it does not continue it.
    pub(super) fn extend(&mut self, later: SegmentIndex) -> bool {
        let Some(first) = later.marks.first() else {
            return true;
        };
        if first.position != self.scanned {
            return false;
        }
        let known = self.max_timestamp;
        self.marks.extend(later.marks.into_iter().map(|mark| Mark {
            max_timestamp_before: mark.max_timestamp_before.max(known),
            ..mark
        }));
        self.max_timestamp = known.max(later.max_timestamp);
        self.scanned = later.scanned;
        true
    }

    /// The last mark at or before the batch that may hold `offset`.
    pub(super) fn before_offset(&self, offset: i64) -> Mark {
        let after = self.marks.partition_point(|mark| mark.base_offset <= offset);
        self.marks[after.saturating_sub(1)]
    }

    /// The last mark before which every batch is older than `timestamp`.
    pub(super) fn before_timestamp(&self, timestamp: i64) -> Mark {
        let after = self.marks.partition_point(|mark| mark.max_timestamp_before < timestamp);
        self.marks[after.saturating_sub(1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_lead_to_the_batch_or_before_it() {
        let mut index = SegmentIndex::new(64, 100);
        for batch in 0..100_u64 {
            index.saw(64 + batch * 10_000, 10_000, 100 + batch as i64 * 5, batch as i64);
        }
        assert!(index.len() > 10 && index.len() < 20);
        for offset in 100..600 {
            let mark = index.before_offset(offset);
            assert!(mark.base_offset <= offset);
            assert!(offset - mark.base_offset < 40);
        }
        assert_eq!(index.before_offset(0).position, 64);
        for timestamp in 0..100 {
            let mark = index.before_timestamp(timestamp);
            assert!(mark.max_timestamp_before < timestamp);
        }
    }

    #[test]
    fn what_does_not_continue_is_not_noted() {
        let mut index = SegmentIndex::new(64, 0);
        index.saw(1_000_000, 10, 999, 0);
        assert_eq!(index.len(), 1);
        assert_eq!(index.before_offset(i64::MAX).position, 64);
    }
}
