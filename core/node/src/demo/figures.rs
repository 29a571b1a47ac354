//! Where everything stands at one moment, and what came between two: the node's own metrics and what the devices and
//! consumers counted. Pure arithmetic.

use std::time::Duration;

use super::board::Board;
use super::node::FILTER;
use crate::metrics::scrape::{Scrape, quantile};

const WRITTEN: &str = "millpond_disk_written_bytes_total";
const SYNCS: &str = "millpond_disk_syncs_total";
const COMMIT: &str = "millpond_commit_latency_seconds";
const FILTERED: &str = "millpond_transform_records_total";

/// Sums since the node was ready.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) backend: String,
    pub(crate) devices_connected: u64,
    pub(crate) acknowledged: u64,
    pub(crate) consumed: u64,
    /// Keys and values that were sent.
    pub(crate) sent_bytes: u64,
    pub(crate) kept: u64,
    pub(crate) dropped: u64,
    /// Records that the filter failed on.
    pub(crate) filter_failed: u64,
    pub(crate) filter_cpu_us: u64,
    /// Record batches that were stored.
    pub(crate) payload_bytes: u64,
    pub(crate) written: Vec<(String, u64)>,
    pub(crate) syncs: Vec<(String, u64)>,
    pub(crate) commits: u64,
    commit_buckets: Vec<(f64, u64)>,
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_us: u64,
}

impl Figures {
    /// As they are now.
    pub(crate) fn of(scrape: &Scrape, board: &Board) -> Self {
        let filtered =
            |outcome: &str| scrape.count(FILTERED, &[("transform", FILTER), ("outcome", outcome)]);
        let cpu = "millpond_transform_cpu_seconds_total";
        Self {
            backend: scrape
                .label("millpond_disk_backend_info", "backend")
                .unwrap_or_else(|| "unknown".into()),
            devices_connected: board.connected_now(),
            acknowledged: board.tally().acknowledged,
            consumed: board.consumed_so_far(),
            sent_bytes: board.sent_bytes_so_far(),
            kept: filtered("kept"),
            dropped: filtered("dropped"),
            filter_failed: filtered("failed"),
            filter_cpu_us: micros(scrape.sum(cpu, &[("transform", FILTER)])),
            payload_bytes: scrape.count("millpond_payload_bytes_total", &[]),
            written: counts(scrape.by(WRITTEN, "cause")),
            syncs: counts(scrape.by(SYNCS, "cause")),
            commits: scrape.count("millpond_journal_commits_total", &[]),
            commit_buckets: scrape.buckets(COMMIT),
            resident_bytes: scrape.count("process_resident_memory_bytes", &[]),
            cpu_us: micros(scrape.sum("process_cpu_seconds_total", &[])),
        }
    }

    /// The same without what was counted before `start`: making the journal is not part of running.
    pub(crate) fn since(mut self, start: &Self) -> Self {
        self.payload_bytes = self.payload_bytes.saturating_sub(start.payload_bytes);
        self.written = less(&self.written, &start.written);
        self.syncs = less(&self.syncs, &start.syncs);
        self.commits = self.commits.saturating_sub(start.commits);
        for (bound, count) in &mut self.commit_buckets {
            let before =
                start.commit_buckets.iter().find(|(b, _)| b == bound).map_or(0, |(_, n)| *n);
            *count = count.saturating_sub(before);
        }
        self.cpu_us = self.cpu_us.saturating_sub(start.cpu_us);
        self
    }

    /// Bytes given to the disk.
    pub(crate) fn written(&self) -> u64 {
        sum(&self.written)
    }

    /// Bytes given to the disk for one cause.
    pub(crate) fn written_of(&self, cause: &str) -> u64 {
        of(&self.written, cause)
    }

    pub(crate) fn syncs(&self) -> u64 {
        sum(&self.syncs)
    }

    /// Upper bounds for the median and the 99th percentile of a commit.
    pub(crate) fn commit_us(&self) -> (Option<u64>, Option<u64>) {
        commit_us(&[], &self.commit_buckets)
    }
}

/// What came between two moments, each figure per second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interval {
    difference: Figures,
    commit_us: (Option<u64>, Option<u64>),
    length: Duration,
}

impl Interval {
    pub(crate) fn between(before: &Figures, after: &Figures, length: Duration) -> Self {
        let mut difference = after.clone().since(before);
        difference.acknowledged = after.acknowledged.saturating_sub(before.acknowledged);
        difference.consumed = after.consumed.saturating_sub(before.consumed);
        difference.kept = after.kept.saturating_sub(before.kept);
        difference.dropped = after.dropped.saturating_sub(before.dropped);
        let commit_us = commit_us(&before.commit_buckets, &after.commit_buckets);
        Self { difference, commit_us, length }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.per_second(self.difference.acknowledged)
    }

    pub(crate) fn consumed(&self) -> u64 {
        self.per_second(self.difference.consumed)
    }

    pub(crate) fn kept(&self) -> u64 {
        self.per_second(self.difference.kept)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.per_second(self.difference.dropped)
    }

    pub(crate) fn written(&self) -> u64 {
        self.per_second(self.difference.written())
    }

    pub(crate) fn written_by_cause(&self) -> Vec<(String, u64)> {
        self.difference
            .written
            .iter()
            .map(|(cause, bytes)| (cause.clone(), self.per_second(*bytes)))
            .collect()
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.per_second(self.difference.syncs())
    }

    pub(crate) fn commits(&self) -> u64 {
        self.per_second(self.difference.commits)
    }

    /// Upper bounds for the median and the 99th percentile of a commit.
    pub(crate) fn commit_us(&self) -> (Option<u64>, Option<u64>) {
        self.commit_us
    }

    fn per_second(&self, n: u64) -> u64 {
        let ms = self.length.as_millis().max(1);
        u64::try_from((u128::from(n) * 1000 + ms / 2) / ms).unwrap_or(u64::MAX)
    }
}

fn commit_us(before: &[(f64, u64)], after: &[(f64, u64)]) -> (Option<u64>, Option<u64>) {
    let at = |q| quantile(before, after, q).map(micros);
    (at(0.5), at(0.99))
}

fn micros(seconds: f64) -> u64 {
    // Negative and infinite values saturate.
    (seconds * 1e6).round() as u64
}

fn counts(samples: Vec<(String, f64)>) -> Vec<(String, u64)> {
    samples.into_iter().map(|(cause, n)| (cause, n as u64)).collect()
}

fn sum(by_cause: &[(String, u64)]) -> u64 {
    by_cause.iter().map(|(_, n)| n).sum()
}

fn of(by_cause: &[(String, u64)], cause: &str) -> u64 {
    by_cause.iter().find(|(name, _)| name == cause).map_or(0, |(_, n)| *n)
}

fn less(after: &[(String, u64)], before: &[(String, u64)]) -> Vec<(String, u64)> {
    after.iter().map(|(cause, n)| (cause.clone(), n.saturating_sub(of(before, cause)))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Figures that grow in proportion to `n`.
    pub(crate) fn figures(n: u64) -> Figures {
        Figures {
            backend: "io_uring".into(),
            devices_connected: 290,
            acknowledged: 1000 * n,
            consumed: 150 * n,
            sent_bytes: 120_000 * n,
            kept: 100 * n,
            dropped: 900 * n,
            filter_failed: 0,
            filter_cpu_us: 700 * n,
            payload_bytes: 24_000 * n,
            written: vec![("journal".into(), 1_024_000 * n), ("segment".into(), 0)],
            syncs: vec![("journal".into(), 200 * n)],
            commits: 180 * n,
            commit_buckets: vec![(0.0016, 100 * n), (0.0064, 180 * n), (f64::INFINITY, 180 * n)],
            resident_bytes: 64 << 20,
            cpu_us: 300_000 * n,
        }
    }

    #[test]
    fn an_interval_is_told_per_second() {
        let now = Interval::between(&figures(1), &figures(3), Duration::from_millis(500));
        assert_eq!(now.acknowledged(), 4000);
        assert_eq!(now.kept() + now.dropped(), 4000);
        assert_eq!(now.written_by_cause()[0], ("journal".to_owned(), 4_096_000));
        assert_eq!(now.commit_us(), (Some(1600), Some(6400)));
        let nothing = Interval::between(&figures(3), &figures(3), Duration::ZERO);
        assert_eq!(nothing.syncs(), 0);
        assert_eq!(nothing.commit_us(), (None, None));
    }

    #[test]
    fn what_was_counted_before_the_start_is_left_out() {
        let figures = figures(3).since(&figures(1));
        assert_eq!(figures.written(), 2_048_000);
        assert_eq!(figures.syncs(), 400);
        assert_eq!(figures.acknowledged, 3000, "devices count from zero anyway");
    }

    #[test]
    fn figures_come_from_the_nodes_own_metrics() {
        let text = "millpond_disk_backend_info{backend=\"portable\"} 1\n\
            millpond_disk_written_bytes_total{cause=\"journal\"} 8192\nmillpond_disk_syncs_total{cause=\"journal\"} 2\n\
            millpond_payload_bytes_total 300\n\
            millpond_transform_records_total{transform=\"notable\",outcome=\"kept\"} 1\n\
            millpond_transform_records_total{transform=\"notable\",outcome=\"dropped\"} 9\n\
            millpond_transform_records_total{transform=\"another\",outcome=\"dropped\"} 1000\n\
            millpond_commit_latency_seconds_bucket{le=\"0.0016\"} 2\nmillpond_journal_commits_total 2\n\
            process_resident_memory_bytes 1048576\nprocess_cpu_seconds_total 1.25\n";
        let figures = Figures::of(&Scrape::parse(text), &Board::new().unwrap());
        assert_eq!(figures.backend, "portable");
        assert_eq!((figures.kept, figures.dropped), (1, 9));
        assert_eq!((figures.written(), figures.syncs(), figures.commits), (8192, 2, 2));
        assert_eq!(figures.commit_us(), (Some(1600), Some(1600)));
        assert_eq!((figures.resident_bytes, figures.cpu_us), (1 << 20, 1_250_000));
    }
}
