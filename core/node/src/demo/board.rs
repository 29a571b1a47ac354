//! What devices and consumers write down and the table reads: one ledger, two latencies, a few counters. Locks are
//! held for as long as it takes to write one line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::Notify;

use super::ledger::{Ledger, Tally};

/// The longest latency that is told apart from longer ones.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Troubles that are kept; a thousand devices have the same one.
const TROUBLES_MAX: usize = 5;

/// Shared by all tasks of a demonstration.
#[derive(Debug)]
pub(crate) struct Board {
    ledger: Mutex<Ledger>,
    /// From `send` to the acknowledgement.
    pub(crate) ack: Latency,
    /// From a record's timestamp to its consumption.
    pub(crate) end_to_end: Latency,
    connected: AtomicU64,
    consumed: AtomicU64,
    redelivered: AtomicU64,
    payload_sent_bytes: AtomicU64,
    troubles: Mutex<Vec<String>>,
    /// A record was consumed or acknowledged.
    progress: Notify,
}

/// Latencies of the whole run, and those since they were last taken.
#[derive(Debug)]
pub(crate) struct Latency(Mutex<Both>);

#[derive(Debug)]
struct Both {
    whole: Histogram<u64>,
    recent: Histogram<u64>,
}

/// A latency in a few numbers; microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
}

impl Board {
    pub(crate) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            ledger: Mutex::default(),
            ack: Latency::new()?,
            end_to_end: Latency::new()?,
            connected: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            payload_sent_bytes: AtomicU64::new(0),
            troubles: Mutex::default(),
            progress: Notify::new(),
        })
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.ledger().tally()
    }

    /// A device is there.
    pub(crate) fn connected(&self) {
        self.connected.fetch_add(1, Relaxed);
    }

    /// A device went.
    pub(crate) fn disconnected(&self) {
        self.connected.fetch_sub(1, Relaxed);
    }

    pub(crate) fn connected_now(&self) -> u64 {
        self.connected.load(Relaxed)
    }

    /// Keys and values handed to producers.
    pub(crate) fn sent_bytes(&self, bytes: usize) {
        self.payload_sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn sent_bytes_so_far(&self) -> u64 {
        self.payload_sent_bytes.load(Relaxed)
    }

    /// Records came out, some of them for the second time (a rebalance does that).
    pub(crate) fn consumed(&self, records: u64, redelivered: u64) {
        self.consumed.fetch_add(records, Relaxed);
        self.redelivered.fetch_add(redelivered, Relaxed);
        self.progress.notify_waiters();
    }

    pub(crate) fn consumed_so_far(&self) -> u64 {
        self.consumed.load(Relaxed)
    }

    pub(crate) fn redelivered_so_far(&self) -> u64 {
        self.redelivered.load(Relaxed)
    }

    /// Something went wrong that a person should know of.
    pub(crate) fn trouble(&self, what: String) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if troubles.len() < TROUBLES_MAX && !troubles.contains(&what) {
            troubles.push(what);
        }
    }

    pub(crate) fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Completes when everything expected has arrived, or `patience` after the last record did.
    pub(crate) async fn drained(&self, patience: Duration) {
        loop {
            let mut progress = std::pin::pin!(self.progress.notified());
            // From here on nothing is overheard.
            progress.as_mut().enable();
            if self.tally().missing() == 0 {
                return;
            }
            if tokio::time::timeout(patience, progress).await.is_err() {
                return;
            }
        }
    }
}

impl Latency {
    fn new() -> Result<Self, hdrhistogram::CreationError> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        Ok(Self(Mutex::new(Both { recent: histogram.clone(), whole: histogram })))
    }

    fn both(&self) -> MutexGuard<'_, Both> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let mut both = self.both();
        both.whole.saturating_record(us);
        both.recent.saturating_record(us);
    }

    /// What came since this was last called.
    pub(crate) fn take_recent(&self) -> Quantiles {
        let mut both = self.both();
        let quantiles = Quantiles::of(&both.recent);
        both.recent.reset();
        quantiles
    }

    /// Everything so far.
    pub(crate) fn whole(&self) -> Quantiles {
        Quantiles::of(&self.both().whole)
    }
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        }
    }

    /// The median, if anything was measured.
    pub(crate) fn p50(&self) -> Option<u64> {
        (self.count > 0).then_some(self.p50_us)
    }

    /// What 99 of 100 stay below, if anything was measured.
    pub(crate) fn p99(&self) -> Option<u64> {
        (self.count > 0).then_some(self.p99_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_latencies_are_taken_once_and_the_whole_stays() {
        let latency = Latency::new().unwrap();
        for ms in 1..=100 {
            latency.record(Duration::from_millis(ms));
        }
        let recent = latency.take_recent();
        assert_eq!(recent.count, 100);
        assert!((49_900..=50_100).contains(&recent.p50_us), "{recent:?}");
        assert_eq!(latency.take_recent(), Quantiles::default());
        assert_eq!(latency.take_recent().p99(), None);
        assert_eq!(latency.whole().count, 100);
    }

    #[test]
    fn a_latency_beyond_all_bounds_is_counted() {
        let latency = Latency::new().unwrap();
        latency.record(Duration::ZERO);
        latency.record(Duration::MAX);
        assert_eq!(latency.whole().count, 2);
    }

    #[tokio::test]
    async fn draining_ends_with_the_last_expected_record_or_with_patience() {
        let board = Board::new().unwrap();
        let source = board.ledger().open("a");
        board.ledger().sent(source, true);
        board.ledger().acknowledged(source, 0);
        board.drained(Duration::from_millis(5)).await;
        assert_eq!(board.tally().missing(), 1);
        let consume = async {
            board.ledger().seen("a", 0);
            board.consumed(1, 0);
        };
        tokio::join!(board.drained(Duration::from_secs(3600)), consume);
        assert_eq!(board.tally().missing(), 0);
    }

    #[test]
    fn the_same_trouble_is_told_once_and_not_too_many() {
        let board = Board::new().unwrap();
        (0..100).for_each(|i| board.trouble(format!("trouble {}", i % 10)));
        assert_eq!(board.troubles().len(), TROUBLES_MAX);
    }
}
