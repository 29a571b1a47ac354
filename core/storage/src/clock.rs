//! The time that storage is told: for waiting and for measuring, never for deciding what is kept.

use futures::future::LocalBoxFuture;

/// A monotonic clock of one thread.
pub trait StorageClock {
    /// Microseconds since some moment in the past.
    fn mono_us(&self) -> u64;

    /// Waits until `mono_us` reaches this many milliseconds.
    fn sleep_until_ms(&self, mono_ms: u64) -> LocalBoxFuture<'static, ()>;
}

impl StorageClock for crate::disk::sim::SimClock {
    fn mono_us(&self) -> u64 {
        self.now_ns() / 1_000
    }

    fn sleep_until_ms(&self, mono_ms: u64) -> LocalBoxFuture<'static, ()> {
        Box::pin(self.sleep_until_ns(mono_ms.saturating_mul(1_000_000)))
    }
}
