//! The pace of background work: so many bytes a second, and after the journal. It must never hold
//! back anything that somebody waits for.

use std::cell::Cell;

use futures::future::select;
use millpond_wire::limits::BACKGROUND_YIELD_MS;

use super::{DurableEngine, Shell};
use crate::disk::Disk;

/// When background work may go on.
#[derive(Default)]
pub(super) struct Pace {
    /// What was done so far is paid for then, in monotonic microseconds.
    due_us: Cell<u64>,
}

impl Pace {
    /// Notes that `bytes` were read or written; answers when the next ones may be.
    fn spend(&self, bytes: u64, now_us: u64, bytes_per_second: u64) -> u64 {
        let Some(per_byte) = 1_000_000_u128.checked_mul(u128::from(bytes)) else { return now_us };
        let Some(cost_us) = per_byte.checked_div(u128::from(bytes_per_second)) else {
            return now_us;
        };
        let cost_us = u64::try_from(cost_us).unwrap_or(u64::MAX);
        self.due_us.set(self.due_us.get().max(now_us).saturating_add(cost_us));
        self.due_us.get()
    }
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Waits until background work may go on after another `bytes` of it: as long as its rate
    /// wants, and a while for a journal that is busy.
    pub(super) async fn pace(&self, bytes: u64) {
        let now_us = self.shell.mono_us();
        let due_us = self.pace.spend(bytes, now_us, self.config.background_bytes_per_second);
        if due_us > now_us {
            self.shell.sleep_until_ms(due_us.div_ceil(1000)).await;
        }
        let until_ms = self.shell.now().mono_ms + BACKGROUND_YIELD_MS;
        loop {
            let seen = self.journal.progress_count();
            let is_busy = self.journal.is_starved()
                || self.journal.queued_bytes() > self.config.queue_bytes as u64 / 2;
            if !is_busy || self.shell.now().mono_ms >= until_ms {
                return;
            }
            let moved = self.journal.progress_past(seen);
            select(moved, self.shell.sleep_until_ms(until_ms)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cost_time_and_idle_time_is_not_saved_up() {
        let pace = Pace::default();
        assert_eq!(pace.spend(500, 1_000, 1_000), 501_000);
        assert_eq!(pace.spend(500, 1_000, 1_000), 1_001_000);
        assert_eq!(pace.spend(1, 9_000_000, 1_000), 9_001_000);
        assert_eq!(pace.spend(u64::MAX, 5, 0), 5, "without a limit");
    }
}
