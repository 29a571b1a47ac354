//! What somebody else does to the broker while a figure is measured: one thing again and again, on
//! a thread of its own, until it is told to stop. What goes wrong in it fails the figure.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{BenchError, Outcome};

/// One that blows.
pub(crate) struct Storm {
    /// Its end is the word to stop.
    going: Sender<()>,
    begun: Instant,
    thread: JoinHandle<Outcome<u32>>,
}

impl Storm {
    /// Does it every so often, and never before the last time is over.
    pub(crate) fn start(
        every: Duration,
        mut act: impl FnMut() -> Outcome<()> + Send + 'static,
    ) -> Self {
        let (going, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut times = 0;
            loop {
                let due = Instant::now() + every;
                act()?;
                times += 1;
                let left = due.saturating_duration_since(Instant::now());
                if told.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                    return Ok(times);
                }
            }
        });
        Self { going, begun: Instant::now(), thread }
    }

    /// Stops it; how often a second it was done.
    pub(crate) fn end(self) -> Outcome<f64> {
        drop(self.going);
        let ended = self.thread.join();
        let times = ended.map_err(|_| BenchError::new("the storm", "its thread panicked"))??;
        Ok(f64::from(times) / self.begun.elapsed().as_secs_f64())
    }
}
