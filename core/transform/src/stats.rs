//! What a run cost and did, for the metrics.

use crate::fault::FailureReason;
use std::time::Duration;

/// Records that failed, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FailureCounts([u64; FailureReason::ALL.len()]);

impl FailureCounts {
    /// Counts some.
    pub fn add(&mut self, reason: FailureReason, records: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += records;
        }
    }

    /// Takes others in.
    pub fn merge(&mut self, other: &FailureCounts) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// Those of one reason.
    pub fn of(&self, reason: FailureReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (FailureReason, u64)> + '_ {
        FailureReason::ALL.into_iter().zip(self.0)
    }
}

/// What one transform did with one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageStats {
    /// The transform's name.
    pub transform: String,
    /// Records that came to it.
    pub records_in: u64,
    /// Bytes of their keys, values and headers.
    pub bytes_in: u64,
    /// Bytes of what goes on, to whatever topic.
    pub bytes_out: u64,
    /// Records that went on as they were, by its verdict.
    pub kept: u64,
    /// Records that it dropped, those included in whose place it emitted others.
    pub dropped: u64,
    /// Of the dropped, those in whose place it emitted others.
    pub replaced: u64,
    /// Records that it made.
    pub emitted: u64,
    /// Of the emitted, those for another topic.
    pub routed: u64,
    /// Records that it failed on; what became of them is its policy. Timers are not among them.
    pub failed: u64,
    /// Why they failed, and why timers did.
    pub failures: FailureCounts,
    /// Calls that trapped, overran or lied.
    pub faults: u64,
    /// Of these, calls that were stopped for their CPU time.
    pub overruns: u64,
    /// Calls in all: one, unless something failed or timers were due.
    pub calls: u64,
    /// Calls of a single record that had run out of CPU time before.
    pub retries: u64,
    /// Instances made.
    pub instances_started: u64,
    /// Instances made because one had failed.
    pub instances_restarted: u64,
    /// Linear memory of its instance after the run.
    pub memory_bytes: u64,
    /// State after the run.
    pub state_bytes: u64,
    /// Entries of the state that the run changed.
    pub state_changes: u64,
    /// Timers that fired.
    pub timers: u64,
    /// Of these, those that failed.
    pub timers_failed: u64,
    /// Entries of the state that expired.
    pub expired: u64,
    /// Time spent in the guest and on its buffers.
    pub cpu: Duration,
    /// Log lines that were not kept.
    pub log_lines_dropped: u64,
}

/// How long batches took, in buckets of fixed bounds: 16 µs, then twice that, to 8.4 s and beyond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    counts: [u64; LatencyHistogram::BUCKETS],
    sum_ns: u64,
}

impl LatencyHistogram {
    /// Buckets, that without a bound included.
    pub const BUCKETS: usize = 21;
    const FIRST_US: u64 = 16;

    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // The first bucket has what is at most its bound, and so on.
        let above = us.saturating_sub(1) / Self::FIRST_US;
        let index = (u64::BITS - above.leading_zeros()) as usize;
        if let Some(count) = self.counts.get_mut(index.min(Self::BUCKETS - 1)) {
            *count += 1;
        }
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// Takes another in.
    pub fn merge(&mut self, other: &LatencyHistogram) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// Each bucket's upper bound, that of the last `None`, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        self.counts.iter().enumerate().map(|(index, count)| {
            let bound = Duration::from_micros(Self::FIRST_US << index);
            ((index + 1 < Self::BUCKETS).then_some(bound), *count)
        })
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }
}

/// What one transform did so far, for as long as a node runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageTotals {
    /// Runs in which it was called.
    pub runs: u64,
    /// Sums; what is a level and not a sum (memory, state) is that of the last run.
    pub stats: StageStats,
    /// Time of each of these runs.
    pub latency: LatencyHistogram,
}

impl StageTotals {
    /// Takes one run in.
    pub fn add(&mut self, run: &StageStats) {
        let sums = &mut self.stats;
        if sums.transform.is_empty() {
            sums.transform.clone_from(&run.transform);
        }
        let pairs = [
            (&mut sums.records_in, run.records_in),
            (&mut sums.bytes_in, run.bytes_in),
            (&mut sums.bytes_out, run.bytes_out),
            (&mut sums.kept, run.kept),
            (&mut sums.dropped, run.dropped),
            (&mut sums.replaced, run.replaced),
            (&mut sums.emitted, run.emitted),
            (&mut sums.routed, run.routed),
            (&mut sums.failed, run.failed),
            (&mut sums.faults, run.faults),
            (&mut sums.overruns, run.overruns),
            (&mut sums.calls, run.calls),
            (&mut sums.retries, run.retries),
            (&mut sums.instances_started, run.instances_started),
            (&mut sums.instances_restarted, run.instances_restarted),
            (&mut sums.state_changes, run.state_changes),
            (&mut sums.timers, run.timers),
            (&mut sums.timers_failed, run.timers_failed),
            (&mut sums.expired, run.expired),
            (&mut sums.log_lines_dropped, run.log_lines_dropped),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
        sums.failures.merge(&run.failures);
        sums.cpu = sums.cpu.saturating_add(run.cpu);
        sums.memory_bytes = run.memory_bytes;
        sums.state_bytes = run.state_bytes;
        if run.calls > 0 {
            self.runs += 1;
            self.latency.record(run.cpu);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_has_room_for_it() {
        for us in (0..5_000).chain([8_388_608, 8_388_609, u64::MAX / 2_000]) {
            let mut histogram = LatencyHistogram::default();
            histogram.record(Duration::from_micros(us));
            let buckets = histogram.buckets().collect::<Vec<_>>();
            let found = buckets.iter().position(|(_, count)| *count == 1);
            let fits = |(bound, _): &(Option<Duration>, u64)| {
                bound.is_none_or(|bound| Duration::from_micros(us) <= bound)
            };
            assert_eq!(found, buckets.iter().position(fits), "{us} us");
        }
    }

    #[test]
    fn totals_are_the_sums_of_their_runs_and_the_levels_of_the_last() {
        let mut run = StageStats { records_in: 3, failed: 2, calls: 1, ..StageStats::default() };
        run.failures.add(FailureReason::Trap, 2);
        run.state_bytes = 7;
        let mut totals = StageTotals::default();
        totals.add(&run);
        run.state_bytes = 5;
        totals.add(&run);
        totals.add(&StageStats::default());
        assert_eq!((totals.runs, totals.stats.records_in, totals.latency.count()), (2, 6, 2));
        assert_eq!(totals.stats.failures.of(FailureReason::Trap), 4);
        assert_eq!(totals.stats.failures.iter().map(|(_, count)| count).sum::<u64>(), 4);
        assert_eq!(totals.stats.state_bytes, 0);
    }
}
