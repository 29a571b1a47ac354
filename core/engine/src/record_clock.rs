//! When the wall clock may be believed, for decisions that cannot be taken back: what is deleted by
//! age is gone. Boards boot in 1970 or at the time of their last shutdown, and NTP moves them by
//! years at any moment (reliability reference, class F1).
//!
//! The clock counts as steady when it has moved along with the monotonic clock for a while. It must
//! never be asked for timeouts, and never decide by itself: `retention` does.

use crate::units::Now;

/// Watches the wall clock against the monotonic one.
#[derive(Debug, Default)]
pub(crate) struct RecordClock {
    /// What the two clocks said together; compared with what they say now.
    anchor: Option<Now>,
    /// Monotonic; since when the wall clock has not jumped.
    since_ms: u64,
    is_steady: bool,
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockTurn {
    /// Nothing.
    None,
    /// The wall clock jumped, and was believed until then.
    Unsettled,
    /// It is believed from now on.
    Settled,
}

impl RecordClock {
    /// Takes note of the time; called with every event.
    pub(crate) fn observe(&mut self, now: Now, settle_ms: u64) -> ClockTurn {
        let Some(anchor) = self.anchor else {
            self.anchor = Some(now);
            self.since_ms = now.mono_ms;
            return ClockTurn::None;
        };
        let passed_ms = now.mono_ms.saturating_sub(anchor.mono_ms);
        let expected_ms = anchor.wall_ms.saturating_add_unsigned(passed_ms);
        let was_steady = self.is_steady;
        if now.wall_ms.abs_diff(expected_ms) > JUMP_MS {
            self.anchor = Some(now);
            self.since_ms = now.mono_ms;
            self.is_steady = false;
            return if was_steady { ClockTurn::Unsettled } else { ClockTurn::None };
        }
        // Slow drift is no jump: what is compared must not grow old.
        if passed_ms > REANCHOR_MS {
            self.anchor = Some(now);
        }
        self.is_steady = now.mono_ms.saturating_sub(self.since_ms) >= settle_ms;
        if self.is_steady && !was_steady { ClockTurn::Settled } else { ClockTurn::None }
    }

    /// Whether the wall clock may be believed.
    pub(crate) fn is_steady(&self) -> bool {
        self.is_steady
    }
}

/// Whether a timestamp can be a record's time: after the year 2000 and not more than a day ahead.
/// Clocks that were never set say 1970; a future one must not age all others.
pub(crate) fn is_plausible(timestamp_ms: i64, wall_ms: i64) -> bool {
    (YEAR_2000_MS..=wall_ms.saturating_add(AHEAD_MS)).contains(&timestamp_ms)
}

/// More than NTP slews, less than any jump that matters.
const JUMP_MS: u64 = 60_000;
const REANCHOR_MS: u64 = 600_000;
const YEAR_2000_MS: i64 = 946_684_800_000;
const AHEAD_MS: i64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE_MS: u64 = 600_000;
    const WALL_MS: i64 = 1_700_000_000_000;

    fn at(mono_ms: u64, wall_ms: i64) -> Now {
        Now { mono_ms, wall_ms }
    }

    #[test]
    fn it_is_believed_after_it_has_run_along_for_a_while() {
        let mut clock = RecordClock::default();
        for minute in 0..10 {
            let ms = minute * 60_000;
            assert_eq!(clock.observe(at(ms, WALL_MS + ms as i64), SETTLE_MS), ClockTurn::None);
            assert!(!clock.is_steady());
        }
        let turn = clock.observe(at(SETTLE_MS, WALL_MS + SETTLE_MS as i64), SETTLE_MS);
        assert_eq!((turn, clock.is_steady()), (ClockTurn::Settled, true));
    }

    #[test]
    fn a_jump_in_either_direction_begins_the_wait_anew_and_slow_drift_does_not() {
        for jump_ms in [-40 * 365 * 86_400_000_i64, 90_000, 14 * 365 * 86_400_000] {
            let mut clock = RecordClock::default();
            clock.observe(at(0, WALL_MS), SETTLE_MS);
            clock.observe(at(SETTLE_MS, WALL_MS + SETTLE_MS as i64), SETTLE_MS);
            let jumped = WALL_MS + SETTLE_MS as i64 + jump_ms;
            assert_eq!(clock.observe(at(SETTLE_MS, jumped), SETTLE_MS), ClockTurn::Unsettled);
            let soon = at(SETTLE_MS + 1_000, jumped + 1_000);
            assert_eq!(clock.observe(soon, SETTLE_MS), ClockTurn::None);
            assert!(!clock.is_steady());
            let later = at(2 * SETTLE_MS, jumped + SETTLE_MS as i64);
            assert_eq!(clock.observe(later, SETTLE_MS), ClockTurn::Settled);
        }
        let mut drifting = RecordClock::default();
        for hour in 0..1_000_u64 {
            let ms = hour * 3_600_000;
            drifting.observe(at(ms, WALL_MS + ms as i64 + hour as i64 * 1_800), SETTLE_MS);
        }
        assert!(drifting.is_steady());
    }

    #[test]
    fn clocks_that_were_never_set_and_those_ahead_by_more_than_a_day_are_not_plausible() {
        assert!(!is_plausible(-1, WALL_MS));
        assert!(!is_plausible(1_000, WALL_MS));
        assert!(is_plausible(WALL_MS - 86_400_000_000, WALL_MS));
        assert!(is_plausible(WALL_MS + 86_000_000, WALL_MS));
        assert!(!is_plausible(WALL_MS + 87_000_000, WALL_MS));
    }
}
