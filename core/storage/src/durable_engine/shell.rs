//! What the durable engine asks of the world around it: time, and somebody to hear effects.

use futures::channel::oneshot;
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

    /// Runs heavy computation (packing, decompression, compaction), away from the engine's thread
    /// where there is another one. The future ends when the work is done, or was dropped because it
    /// panicked. Without another thread, as in the simulator, the work is done in place.
    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> LocalBoxFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }

    /// The monotonic time in microseconds, for measuring only.
    fn mono_us(&self) -> u64 {
        self.now().mono_ms.saturating_mul(1000)
    }
}

/// Offloads work that has a result; `None` if it panicked.
pub(super) async fn offload<T: Send + 'static>(
    shell: &impl Shell,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let job = move || {
        // Whoever asked may have gone.
        let _ = sender.send(work());
    };
    shell.offload(Box::new(job)).await;
    receiver.await.ok()
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
