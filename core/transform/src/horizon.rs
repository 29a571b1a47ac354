//! How far ahead of the node's clock a record's time may move the watermark. A device whose clock is
//! wrong says that it is the year 2090; believed, it would close all windows for good.
//!
//! It has no clock: the caller hands in what the node's says, or nothing, if that was never set.

use crate::rows::Row;

/// What a batch says of the time.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    now_ms: Option<i64>,
    /// Greatest timestamp of the batch as it came: what one stage drops, the next one's watermark
    /// still sees.
    greatest_ms: Option<i64>,
    /// All of them, where one is ahead of the clock.
    all_ms: Vec<i64>,
}

impl Horizon {
    pub(crate) fn of(rows: &[Row], now_ms: Option<i64>) -> Self {
        let times = || rows.iter().map(|row| row.timestamp_ms);
        let greatest_ms = times().max();
        let is_ahead = now_ms.is_some() && greatest_ms > now_ms;
        let all_ms = if is_ahead { times().collect() } else { Vec::new() };
        Horizon { now_ms, greatest_ms, all_ms }
    }

    /// The greatest time of the batch, and of the records that a stage was given, as it counts: one
    /// that is more than `ahead_ms` ahead of the clock counts as now; 0 believes all.
    pub(crate) fn greatest_ms(&self, rows: &[Row], ahead_ms: u64) -> Option<i64> {
        let now_ms = self.now_ms.filter(|_| ahead_ms > 0);
        let counted = |time_ms: i64| match now_ms {
            Some(now_ms) if time_ms > now_ms.saturating_add_unsigned(ahead_ms) => now_ms,
            _ => time_ms,
        };
        let own = rows.iter().map(|row| row.timestamp_ms);
        let of_batch = match self.all_ms.is_empty() {
            true => self.greatest_ms.as_slice(),
            false => &self.all_ms,
        };
        own.chain(of_batch.iter().copied()).map(counted).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Span;

    const NOW_MS: i64 = 1_000_000;

    fn rows(times: &[i64]) -> Vec<Row> {
        let row = |timestamp_ms: &i64| Row {
            timestamp_ms: *timestamp_ms,
            origin: 0,
            ordinal: 0,
            key: Span::NONE,
            value: Span::NONE,
            headers: Span::NONE,
            header_count: 0,
        };
        times.iter().map(row).collect()
    }

    fn greatest(times: &[i64], now_ms: Option<i64>, ahead_ms: u64) -> Option<i64> {
        Horizon::of(&rows(times), now_ms).greatest_ms(&[], ahead_ms)
    }

    #[test]
    fn what_is_far_ahead_of_the_clock_counts_as_now_and_the_rest_as_it_says() {
        let absurd = i64::MAX;
        assert_eq!(greatest(&[5, absurd], Some(NOW_MS), 100), Some(NOW_MS));
        assert_eq!(greatest(&[NOW_MS + 100, absurd], Some(NOW_MS), 100), Some(NOW_MS + 100));
        assert_eq!(greatest(&[NOW_MS + 101], Some(NOW_MS), 100), Some(NOW_MS));
        assert_eq!(greatest(&[5, 7], Some(NOW_MS), 100), Some(7));
        assert_eq!(greatest(&[], Some(NOW_MS), 100), None);
    }

    #[test]
    fn without_a_clock_or_a_bound_all_are_believed() {
        assert_eq!(greatest(&[5, i64::MAX], None, 100), Some(i64::MAX));
        assert_eq!(greatest(&[5, i64::MAX], Some(NOW_MS), 0), Some(i64::MAX));
    }

    #[test]
    fn what_a_stage_before_made_counts_too() {
        let horizon = Horizon::of(&rows(&[5]), Some(NOW_MS));
        assert_eq!(horizon.greatest_ms(&rows(&[9, i64::MAX]), 100), Some(NOW_MS));
        assert_eq!(horizon.greatest_ms(&rows(&[9]), 100), Some(9));
    }
}
