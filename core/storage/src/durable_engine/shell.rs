//! What the durable engine asks of the world around it: time, and somebody to hear effects.

use futures::future::LocalBoxFuture;
use millpond_engine::{Effect, Now};

use crate::clock::StorageClock;

/// The node or the simulator. One thread; futures are `!Send`.
pub trait Shell: 'static {
    /// The time. Its monotonic part never goes back.
    fn now(&self) -> Now;

    /// Waits until `now().mono_ms` reaches `mono_ms`.
    fn sleep_until_ms(&self, mono_ms: u64) -> LocalBoxFuture<'static, ()>;

    /// An effect that is not storage's own: every one but `Append`, `ReadHistory` and
    /// `Reclaim`. It may submit
    /// further events; those are decided after this call.
    fn effect(&self, effect: Effect);

    /// The monotonic time in microseconds, for measuring only.
    fn mono_us(&self) -> u64 {
        self.now().mono_ms.saturating_mul(1000)
    }
}

/// A shell as storage's clock.
pub(super) struct ShellClock<'a, S>(pub(super) &'a S);

impl<S: Shell> StorageClock for ShellClock<'_, S> {
    fn mono_us(&self) -> u64 {
        self.0.mono_us()
    }

    fn sleep_until_ms(&self, mono_ms: u64) -> LocalBoxFuture<'static, ()> {
        self.0.sleep_until_ms(mono_ms)
    }
}
