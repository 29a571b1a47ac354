//! A few threads that make blocking system calls for the one thread that owns the disk. They hold
//! no state and decide nothing. The queue is bounded by permits that the caller waits for.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures::channel::oneshot;
use millpond_wire::limits::DISK_JOBS_MAX;
use tokio::sync::Semaphore;

type Job = Box<dyn FnOnce() + Send>;

/// The pool; dropping the last clone lets the threads finish what was handed over, and waits.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    permits: Semaphore,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Shared {
    fn push(&self, job: Job) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).jobs.push_back(job);
        self.wake.notify_one();
    }
}

impl Pool {
    /// Starts the threads.
    pub(crate) fn start(threads: usize) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared::default());
        let mut handles = Vec::with_capacity(threads);
        for index in 0..threads {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new()
                .name(format!("disk-{index}"))
                .stack_size(THREAD_STACK_BYTES);
            handles.push(builder.spawn(move || work(&shared))?);
        }
        Ok(Pool { shared, permits: Semaphore::new(DISK_JOBS_MAX), threads: handles })
    }

    /// Runs `job` on a thread. `None` only if it panicked. If the caller goes away the job runs to
    /// its end all the same, and keeps what it owns until then.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit = self.permits.acquire().await.ok()?;
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The caller may have gone; then nobody wants the result.
            let _ = sender.send(job());
        });
        self.shared.push(job);
        let result = receiver.await.ok();
        drop(permit);
        result
    }
}

impl Pool {
    /// Runs `job` on a thread if none has anything else to do before it; else not at all.
    pub(crate) fn run_if_idle(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.jobs.is_empty() {
            queue.jobs.push_back(Box::new(job));
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of a job was reported by its own thread already.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared) {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(job) = queue.jobs.pop_front() {
            drop(queue);
            job();
            queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        } else if queue.is_closed {
            return;
        } else {
            queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

const THREAD_STACK_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_pool_finishes_what_was_handed_over() {
        let pool = Pool::start(2).expect("threads");
        let done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for _ in 0..50 {
            let done = Arc::clone(&done);
            let mut run = Box::pin(pool.run(move || {
                done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }));
            // Polled once so that the job is queued, then forgotten.
            let waker = std::task::Waker::noop();
            let _ = run.as_mut().poll(&mut std::task::Context::from_waker(waker));
        }
        drop(pool);
        assert_eq!(done.load(std::sync::atomic::Ordering::SeqCst), 50);
    }
}
