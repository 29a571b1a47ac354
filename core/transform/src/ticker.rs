//! Beats once a millisecond while a guest runs, and sleeps while none does.
//!
//! A beat is what takes a guest off its core to let others run, and in the end what stops it. It
//! must never depend on the threads that guests run on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use wasmtime::Engine;

/// Length of a beat.
const BEAT: Duration = Duration::from_millis(1);
/// Beats without a guest after which the thread sleeps: a busy node would wake it at once.
const IDLE_BEATS: u32 = 20;

/// The thread that beats.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    stop: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("transform-tick".to_string())
            .spawn(move || beat(&engine, &for_thread))?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Beats for as long as the guard lives.
    pub(crate) fn running(&self) -> Running<'_> {
        if self.shared.running.fetch_add(1, Ordering::SeqCst) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running { shared: &self.shared }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of that thread has nothing to tell at this point.
            let _ = thread.join();
        }
    }
}

/// See [`Ticker::running`].
#[derive(Debug)]
pub(crate) struct Running<'a> {
    shared: &'a Shared,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn beat(engine: &Engine, shared: &Shared) {
    let mut idle_beats = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle_beats = 0;
        } else if idle_beats >= IDLE_BEATS {
            // A guest that starts just now has left a token: park comes back at once.
            thread::park();
            idle_beats = 0;
            continue;
        } else {
            idle_beats += 1;
        }
        thread::sleep(BEAT);
        engine.increment_epoch();
    }
}
