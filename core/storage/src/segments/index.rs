//! A sparse index of one segment: where some of its batches begin. It is made by reading the
//! segment's batch headers, when it is asked for, and never trusted over them.

/// Bytes between two marks.
const MARK_EVERY_BYTES: u64 = 64 * 1024;

/// A batch that begins at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) base_offset: i64,
    pub(super) position: u64,
    /// The greatest timestamp of all batches before it in the segment.
    pub(super) max_timestamp_before: i64,
}

/// Marks in order; always one at the first batch.
#[derive(Clone, Debug)]
pub(super) struct SegmentIndex {
    marks: Vec<Mark>,
    /// Batches up to here were seen.
    scanned: u64,
    max_timestamp: i64,
    /// For forgetting the one unused longest.
    pub(super) used_at: u64,
}

impl SegmentIndex {
    pub(super) fn new(first_batch: u64, base_offset: i64) -> SegmentIndex {
        let first = Mark { base_offset, position: first_batch, max_timestamp_before: i64::MIN };
        SegmentIndex {
            marks: vec![first],
            scanned: first_batch,
            max_timestamp: i64::MIN,
            used_at: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len()
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
