//! What somebody else does to the broker while a figure is measured: one thing again and again, on
//! a thread of its own, until it is told to stop. What goes wrong in it fails the figure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{BenchError, Outcome};

/// One that blows.
pub(crate) struct Storm {
    stop: Arc<AtomicBool>,
    begun: Instant,
    thread: JoinHandle<Outcome<u32>>,
}

impl Storm {
    /// Does it every so often, and never before the last time is over.
    pub(crate) fn start(
        every: Duration,
        mut act: impl FnMut() -> Outcome<()> + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut times = 0;
            while !told.load(Ordering::Relaxed) {
                let due = Instant::now() + every;
                act()?;
                times += 1;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(times)
        });
        Self { stop, begun: Instant::now(), thread }
    }

    /// Stops it; how often a second it was done.
    pub(crate) fn end(self) -> Outcome<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        let times = ended.map_err(|_| BenchError::new("the storm", "its thread panicked"))??;
        Ok(f64::from(times) / self.begun.elapsed().as_secs_f64())
    }
}
