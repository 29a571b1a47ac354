//! How large a part of a transform's records failed lately, so that a node can go back to the
//! version before.
//!
//! "Lately" is counted in records, not in time: a node that is asked once a day decides as one
//! that is busy. It has no clock and a fixed size.

use millpond_wire::limits as caps;
use thiserror::Error;

/// Parts of the window; the oldest is forgotten when a new one begins.
const PARTS: usize = 16;

/// When a transform fails too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRateLimit {
    /// How many of the last records are looked at, about.
    pub window_records: u64,
    /// Failed records of 100 from which on it is too many.
    pub threshold_percent: u32,
    /// Records that must have been seen before anything is said.
    pub minimum_records: u64,
}

/// Why there is no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ErrorRateError {
    /// Not 16 to ten million records.
    #[error(
        "a window of {0} records; it can be {PARTS} to {max}",
        max = caps::TRANSFORM_ERROR_WINDOW_RECORDS_MAX
    )]
    Window(u64),
    /// Not 1 to 100.
    #[error("a threshold of {0} %; it can be 1 to 100")]
    Threshold(u32),
    /// More than the window ever holds.
    #[error("at least {minimum} records are never seen in a window of {window}")]
    Minimum {
        /// As given.
        minimum: u64,
        /// As given.
        window: u64,
    },
}

/// Counts the records of one transform, all partitions together.
#[derive(Debug, Clone)]
pub struct ErrorRate {
    limit: ErrorRateLimit,
    parts: [Part; PARTS],
    current: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    records: u64,
    failed: u64,
}

impl ErrorRate {
    /// An empty window.
    ///
    /// # Errors
    /// A number that makes no sense.
    pub fn new(limit: ErrorRateLimit) -> Result<Self, ErrorRateError> {
        let window = limit.window_records;
        if !(PARTS as u64..=caps::TRANSFORM_ERROR_WINDOW_RECORDS_MAX).contains(&window) {
            return Err(ErrorRateError::Window(window));
        }
        if !(1..=100).contains(&limit.threshold_percent) {
            return Err(ErrorRateError::Threshold(limit.threshold_percent));
        }
        // One part is always being refilled.
        if limit.minimum_records > window - window / PARTS as u64 {
            return Err(ErrorRateError::Minimum { minimum: limit.minimum_records, window });
        }
        Ok(ErrorRate { limit, parts: [Part::default(); PARTS], current: 0 })
    }

    /// Counts a batch; whether failures are now too many.
    pub fn add(&mut self, records: u64, failed: u64) -> bool {
        let part_records = self.limit.window_records / PARTS as u64;
        if let Some(part) = self.parts.get_mut(self.current) {
            part.records = part.records.saturating_add(records);
            part.failed = part.failed.saturating_add(failed.min(records));
            if part.records >= part_records {
                self.current = (self.current + 1) % PARTS;
                if let Some(next) = self.parts.get_mut(self.current) {
                    *next = Part::default();
                }
            }
        }
        self.is_exceeded()
    }

    /// Whether failures are too many.
    pub fn is_exceeded(&self) -> bool {
        let (records, failed) = self.counts();
        let threshold = u128::from(self.limit.threshold_percent) * u128::from(records);
        records > 0
            && records >= self.limit.minimum_records
            && u128::from(failed) * 100 >= threshold
    }

    /// Records in the window, and those of them that failed.
    pub fn counts(&self) -> (u64, u64) {
        self.parts.iter().fold((0, 0), |(records, failed): (u64, u64), part| {
            (records.saturating_add(part.records), failed.saturating_add(part.failed))
        })
    }

    /// Forgets everything: another version runs now.
    pub fn reset(&mut self) {
        self.parts = [Part::default(); PARTS];
        self.current = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(window_records: u64, threshold_percent: u32, minimum_records: u64) -> ErrorRate {
        ErrorRate::new(ErrorRateLimit { window_records, threshold_percent, minimum_records })
            .expect("a limit that makes sense")
    }

    #[test]
    fn nothing_is_said_before_enough_was_seen() {
        let mut rate = rate(1_600, 10, 100);
        assert!(!rate.add(99, 99));
        assert!(rate.add(1, 0));
    }

    #[test]
    fn the_threshold_itself_is_too_many() {
        assert!(!rate(1_600, 10, 1).add(1_000, 99));
        assert!(rate(1_600, 10, 1).add(1_000, 100));
        assert!(!rate(1_600, 1, 1).add(0, 0), "nothing seen, nothing failed");
    }

    #[test]
    fn old_failures_are_forgotten_after_a_window_of_records() {
        let mut rate = rate(1_600, 10, 100);
        assert!(rate.add(200, 200));
        let mut records = 0;
        while rate.add(50, 0) || rate.counts().1 > 0 {
            records += 50;
            assert!(records <= 1_600, "{:?}", rate.counts());
        }
        assert!(records > 1_000, "forgotten after {records} records");
    }

    #[test]
    fn one_batch_larger_than_the_window_is_judged_by_itself() {
        let mut rate = rate(16, 50, 10);
        assert!(rate.add(1_000_000, 500_000));
        assert!(!rate.add(u64::MAX, 0));
        rate.reset();
        assert_eq!(rate.counts(), (0, 0));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let refused = |window_records, threshold_percent, minimum_records| {
            ErrorRate::new(ErrorRateLimit { window_records, threshold_percent, minimum_records })
                .is_err()
        };
        assert!(refused(15, 10, 1) && refused(u64::MAX, 10, 1));
        assert!(refused(100, 0, 1) && refused(100, 101, 1));
        assert!(refused(160, 10, 151) && !refused(160, 10, 150));
    }
}
