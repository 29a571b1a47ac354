//! One thread of low priority for heavy computation: packing, decompression, compaction. It must
//! never hold up the engine's thread, and never decides anything.

use std::cell::OnceCell;
use std::sync::mpsc::{Receiver, Sender, channel};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::sync::oneshot;

/// Steps by which the thread is nicer than the engine's: on one core, clients go first.
const NICE_STEPS: i32 = 10;

struct Job {
    work: Box<dyn FnOnce() + Send>,
    done: oneshot::Sender<()>,
}

/// The thread, started when it is first needed. It ends when this is dropped and its work is done.
/// What waits for it is bounded by those who wait for its results.
#[derive(Default)]
pub(crate) struct Worker {
    jobs: OnceCell<Option<Sender<Job>>>,
}

impl Worker {
    /// Runs `work`; the future ends when it is done. Where there is no thread, in place.
    pub(crate) fn run(&self, work: Box<dyn FnOnce() + Send>) -> LocalBoxFuture<'static, ()> {
        let Some(jobs) = self.jobs.get_or_init(start) else {
            work();
            return std::future::ready(()).boxed_local();
        };
        let (done, finished) = oneshot::channel();
        // A thread that died of a panic takes no job; whoever waits finds no result.
        let _ = jobs.send(Job { work, done });
        finished.map(|_| ()).boxed_local()
    }
}

fn start() -> Option<Sender<Job>> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("worker".into());
    match thread.spawn(move || work_off(&receiver)) {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::warn!(%error, "no thread for heavy work; the engine's does it");
            None
        }
    }
}

fn work_off(jobs: &Receiver<Job>) {
    // On Linux this is a matter of the thread alone. It is a courtesy: refused is fine.
    let _ = rustix::process::nice(NICE_STEPS);
    while let Ok(Job { work, done }) = jobs.recv() {
        // Caught, so that one bad batch does not end all packing; it was reported by the hook.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // Whoever asked may have gone.
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn work_is_done_on_the_thread_and_a_panic_does_not_end_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let worker = Worker::default();
        let done = Arc::new(AtomicUsize::new(0));
        for index in 0..10 {
            let done = Arc::clone(&done);
            runtime.block_on(worker.run(Box::new(move || {
                assert!(index != 4, "a panic on purpose");
                done.fetch_add(1, Ordering::SeqCst);
            })));
        }
        assert_eq!(done.load(Ordering::SeqCst), 9);
    }
}
