//! Latencies in an HDR histogram: nanoseconds in, three significant digits kept.
//!
//! What goes in is always the time from when something was due, never from when it was begun:
//! that is what keeps coordinated omission out.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::error::{Context, Outcome};

/// Longest latency that is told apart; longer ones count as this.
const LONGEST_NS: u64 = 120_000_000_000;

/// Latencies of many operations.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Outcome<Self> {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        Ok(Self { histogram: histogram.context("making a histogram")? })
    }

    /// One operation.
    pub(crate) fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS);
        self.histogram.saturating_record(ns);
    }

    /// Takes in those of another run.
    pub(crate) fn merge(&mut self, other: &Self) -> Outcome<()> {
        self.histogram.add(&other.histogram).context("merging histograms")
    }

    /// How many operations there were.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that this part of the operations did not exceed, in microseconds.
    #[allow(clippy::cast_precision_loss, reason = "latencies are far below 2^52 ns")]
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: std::ops::RangeInclusive<u64>) -> Latencies {
        let mut latencies = Latencies::new().unwrap();
        range.for_each(|us| latencies.record(Duration::from_micros(us)));
        latencies
    }

    /// Three significant digits.
    fn is_near(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= expected * 0.002
    }

    #[test]
    fn merging_is_as_if_all_had_been_recorded_in_one() {
        let mut merged = of(1..=500);
        merged.merge(&of(501..=1_000)).unwrap();
        assert_eq!(merged.count(), 1_000);
        for quantile in [0.001, 0.5, 0.99, 0.999] {
            let whole = of(1..=1_000).quantile_us(quantile);
            assert_eq!(merged.quantile_us(quantile), whole, "{quantile}");
            assert!(is_near(whole, quantile * 1_000.0), "{quantile}: {whole}");
        }
    }

    #[test]
    fn absurdly_long_is_kept_as_the_longest() {
        let mut latencies = of(1..=1);
        latencies.record(Duration::from_secs(1_000_000));
        assert_eq!(latencies.count(), 2);
        assert!(latencies.quantile_us(1.0) >= 1e8);
    }
}
