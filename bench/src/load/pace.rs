//! An even rate: when the n-th operation is due, whatever became of those before (open loop).

use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

/// Operations before the first that counts, in time.
const WARM_UP: Duration = Duration::from_millis(300);

/// When operations are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    start: Instant,
    period: Duration,
}

impl Pace {
    /// `per_second` operations from now on.
    pub(crate) fn starting_now(per_second: u32) -> Self {
        // The kernel may wake a sleeper 50 µs late unless asked not to.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        Self { start: Instant::now(), period: Duration::from_secs(1) / per_second.max(1) }
    }

    /// When this one is due.
    pub(crate) fn due(&self, index: u64) -> Instant {
        let since = self.period.as_nanos().saturating_mul(u128::from(index));
        self.start + Duration::from_nanos(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// Waits until this one is due, and says when that was. Returns at once if that is past.
    pub(crate) fn wait_for(&self, index: u64) -> Instant {
        let due = self.due(index);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due
    }

    /// Whether this one is past the warm-up.
    pub(crate) fn counts(&self, index: u64) -> bool {
        self.due(index) >= self.start + WARM_UP
    }

    /// How many operations `duration` takes, warm-up and all.
    pub(crate) fn operations(&self, duration: Duration) -> u64 {
        let all = (duration + WARM_UP).as_nanos() / self.period.as_nanos().max(1);
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_do_not_depend_on_what_happens() {
        let pace = Pace::starting_now(2_000);
        assert_eq!(pace.due(2_000) - pace.due(0), Duration::from_secs(1));
        assert_eq!(pace.wait_for(0), pace.due(0));
    }

    #[test]
    fn the_warm_up_does_not_count_and_is_not_taken_from_the_measurement() {
        let pace = Pace::starting_now(1_000);
        assert!(!pace.counts(299));
        assert!(pace.counts(300));
        assert_eq!(pace.operations(Duration::from_secs(2)), 2_300);
    }
}
