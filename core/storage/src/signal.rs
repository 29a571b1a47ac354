//! A wake-up between tasks of one thread: a counter that can be awaited. It loses no wake-up, knows
//! no runtime, and must never cross threads.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Counts events; waiters wait for the count to pass what they have seen.
#[derive(Default)]
pub(crate) struct Signal {
    count: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

impl Signal {
    /// How many events there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// One more event: wakes all who wait.
    pub(crate) fn raise(&self) {
        self.count.set(self.count.get() + 1);
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for waker in waiters {
            waker.wake();
        }
    }

    /// Waits until the count is above `seen`.
    pub(crate) fn past(&self, seen: u64) -> Past<'_> {
        Past { signal: self, seen }
    }
}

/// See [`Signal::past`].
pub(crate) struct Past<'a> {
    signal: &'a Signal,
    seen: u64,
}

impl Future for Past<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.signal.count.get() > self.seen {
            return Poll::Ready(());
        }
        let mut waiters = self.signal.waiters.borrow_mut();
        if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Lets the other tasks of the thread have their turn.
pub(crate) async fn pause() {
    let mut is_first = true;
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut is_first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}
