//! A deterministic executor: local tasks, polled one at a time in an order that the seed decides,
//! over a virtual clock. Same seed, same run. It must never use a thread or a real clock.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::clock::SimClock;
use super::rng::SimRng;
use crate::signal::Signal;

type LocalTask = Pin<Box<dyn Future<Output = ()>>>;

/// A set of tasks that die together: a simulated process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimGroup(pub u64);

/// The executor. Clones are the same executor, so tasks can spawn tasks.
#[derive(Clone)]
pub struct SimExecutor {
    inner: Rc<Inner>,
}

struct Inner {
    clock: SimClock,
    rng: RefCell<SimRng>,
    tasks: RefCell<BTreeMap<u64, TaskSlot>>,
    next_id: Cell<u64>,
    ready: Arc<ReadySet>,
    polls: Cell<u64>,
}

struct TaskSlot {
    group: SimGroup,
    /// Taken out while the task is being polled.
    future: Option<LocalTask>,
    waker: Waker,
}

#[derive(Default)]
struct ReadySet {
    ids: Mutex<BTreeSet<u64>>,
}

impl ReadySet {
    fn insert(&self, id: u64) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Takes the n-th ready task, n chosen by `choose` below the number of them.
    fn take(&self, choose: impl FnOnce(u64) -> u64) -> Option<u64> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.is_empty() {
            return None;
        }
        let index = choose(ids.len() as u64) as usize;
        let id = ids.iter().nth(index).copied()?;
        ids.remove(&id);
        Some(id)
    }
}

struct TaskWaker {
    id: u64,
    ready: Arc<ReadySet>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.insert(self.id);
    }
}

impl SimExecutor {
    /// An executor whose every choice is decided by `seed`.
    pub fn new(seed: u64) -> SimExecutor {
        SimExecutor {
            inner: Rc::new(Inner {
                clock: SimClock::new(),
                rng: RefCell::new(SimRng::new(seed)),
                tasks: RefCell::default(),
                next_id: Cell::new(0),
                ready: Arc::default(),
                polls: Cell::new(0),
            }),
        }
    }

    /// The virtual clock.
    pub fn clock(&self) -> SimClock {
        self.inner.clock.clone()
    }

    /// How many times a task was polled; two runs of one seed agree.
    pub fn polls(&self) -> u64 {
        self.inner.polls.get()
    }

    /// Starts a task in group 0.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> SimTask<T> {
        self.spawn_in(SimGroup(0), future)
    }

    /// Starts a task in a group.
    pub fn spawn_in<T: 'static>(
        &self,
        group: SimGroup,
        future: impl Future<Output = T> + 'static,
    ) -> SimTask<T> {
        let outcome = Rc::new(TaskOutcome { value: RefCell::new(None), done: Signal::default() });
        let sink = Rc::clone(&outcome);
        let task: LocalTask = Box::pin(async move {
            let value = future.await;
            *sink.value.borrow_mut() = Some(value);
            sink.done.raise();
        });
        let id = self.inner.next_id.get();
        self.inner.next_id.set(id + 1);
        let waker = Waker::from(Arc::new(TaskWaker { id, ready: Arc::clone(&self.inner.ready) }));
        let slot = TaskSlot { group, future: Some(task), waker };
        self.inner.tasks.borrow_mut().insert(id, slot);
        self.inner.ready.insert(id);
        SimTask { outcome }
    }

    /// Drops every task of a group where it stands, as a killed process would. Not to be called
    /// from a task of that group.
    pub fn kill(&self, group: SimGroup) {
        let mut killed = Vec::new();
        self.inner.tasks.borrow_mut().retain(|_, slot| {
            let dies = slot.group == group;
            if dies {
                killed.push(slot.future.take());
            }
            !dies
        });
        // Dropped only now: destructors may spawn or wake.
        drop(killed);
    }

    /// Polls one ready task, chosen by the seed; false if none is ready.
    pub fn poll_one(&self) -> bool {
        let chosen = self.inner.ready.take(|count| self.inner.rng.borrow_mut().below(count));
        let Some(id) = chosen else {
            return false;
        };
        let Some((mut future, waker)) = self.take_task(id) else {
            return true;
        };
        self.inner.polls.set(self.inner.polls.get() + 1);
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = self.inner.tasks.borrow_mut();
        match poll {
            Poll::Ready(()) => {
                tasks.remove(&id);
            }
            Poll::Pending => {
                if let Some(slot) = tasks.get_mut(&id) {
                    slot.future = Some(future);
                    return true;
                }
            }
        }
        drop(tasks);
        drop(future);
        true
    }

    fn take_task(&self, id: u64) -> Option<(LocalTask, Waker)> {
        let mut tasks = self.inner.tasks.borrow_mut();
        let slot = tasks.get_mut(&id)?;
        let future = slot.future.take()?;
        Some((future, slot.waker.clone()))
    }

    /// Runs all that can run at the present instant; time stands still.
    pub fn run_until_idle(&self) {
        while self.poll_one() {}
    }

    /// Runs until the clock shows `until_ns`.
    pub fn run_until_ns(&self, until_ns: u64) {
        loop {
            self.run_until_idle();
            match self.inner.clock.next_due_ns() {
                Some(due_ns) if due_ns <= until_ns => {
                    self.inner.clock.fire_next();
                }
                _ => break,
            }
        }
        self.inner.clock.advance_to_ns(until_ns);
    }

    /// One poll of a ready task or, if there is none, the next timer. False if neither is left.
    pub fn step(&self) -> bool {
        self.poll_one() || self.inner.clock.fire_next()
    }

    /// Runs `future` to its end, time moving as need be. Panics if everything has come to a stop
    /// before: that is a lost wake-up, and the test that met it should say so.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let task = self.spawn(future);
        loop {
            if let Some(value) = task.take() {
                return value;
            }
            assert!(self.step(), "simulation is stuck: no task is ready and no timer is set");
        }
    }
}

struct TaskOutcome<T> {
    value: RefCell<Option<T>>,
    done: Signal,
}

/// The outcome of a spawned task. Dropping it does not stop the task.
pub struct SimTask<T> {
    outcome: Rc<TaskOutcome<T>>,
}

impl<T> SimTask<T> {
    /// What the task returned, once.
    pub fn take(&self) -> Option<T> {
        self.outcome.value.borrow_mut().take()
    }

    /// Whether the task ended (and its value was not taken).
    pub fn is_done(&self) -> bool {
        self.outcome.value.borrow().is_some()
    }

    /// Waits for the task. Never ends if its group was killed.
    pub async fn join(self) -> T {
        loop {
            let seen = self.outcome.done.count();
            if let Some(value) = self.take() {
                return value;
            }
            self.outcome.done.past(seen).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(seed: u64) -> Vec<(u64, u32)> {
        let executor = SimExecutor::new(seed);
        let log = Rc::new(RefCell::new(Vec::new()));
        for task in 0..5_u32 {
            let (log, clock) = (Rc::clone(&log), executor.clock());
            executor.spawn(async move {
                for round in 0..3_u64 {
                    clock.sleep_until_ms(round * 10).await;
                    log.borrow_mut().push((clock.now_ms(), task));
                }
            });
        }
        while executor.step() {}
        drop(executor);
        Rc::into_inner(log).expect("tasks ended").into_inner()
    }

    #[test]
    fn one_seed_gives_one_order_and_another_seed_another() {
        assert_eq!(trace(7), trace(7));
        assert!((0..20).any(|seed| trace(seed) != trace(7)));
    }

    #[test]
    fn killing_a_group_drops_its_tasks_only() {
        let executor = SimExecutor::new(1);
        let clock = executor.clock();
        let dead = executor.spawn_in(SimGroup(1), async move { clock.sleep_until_ms(5).await });
        let clock = executor.clock();
        let alive = executor.spawn_in(SimGroup(2), async move { clock.sleep_until_ms(5).await });
        executor.run_until_idle();
        executor.kill(SimGroup(1));
        executor.run_until_ns(10_000_000);
        assert!(!dead.is_done());
        assert!(alive.is_done());
        assert_eq!(executor.clock().now_ms(), 10);
    }
}
