//! What became of a record: a future for each, one shared state for each batch.
//!
//! It allocates nothing per record, and a promise that is dropped unkept says so to all who wait.

use millpond_wire::ErrorCode;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A record that the broker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The topic it was sent to.
    pub topic: Arc<str>,
    /// The partition it was sent to.
    pub partition: i32,
    /// Its offset. `None` where there is none to tell: a transform of the broker changed the
    /// batch, or `acks` is 0, or a retry found the batch already written.
    pub offset: Option<i64>,
    /// Its timestamp (ms since 1970), which the broker may have set.
    pub timestamp_ms: i64,
}

/// A record that was not (or perhaps not) delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The broker refused it for good.
    #[error(
        "{topic}/{partition}: refused: {} ({code:?}){}{}", code.message(), detail(.message),
        maybe(*may_be_written)
    )]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words, if it had any.
        message: Option<Arc<str>>,
        /// Whether an earlier try was sent and never answered.
        may_be_written: bool,
    },
    /// No try succeeded in time.
    #[error("{topic}/{partition}: not delivered within {after_ms} ms{}; last problem: {last}", maybe(*may_be_written))]
    TimedOut {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The delivery timeout.
        after_ms: u64,
        /// Whether some try was sent and never answered.
        may_be_written: bool,
        /// What the last try failed with.
        last: Arc<str>,
    },
    /// The broker has lost the state by which a duplicate is recognised, after a try that was
    /// never answered: sending again could write the record twice, so it is left to you.
    #[error("{topic}/{partition}: it cannot be told whether the record was written: {reason}")]
    Undecided {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// What the broker said.
        reason: Arc<str>,
    },
    /// Its transaction was aborted: nobody who reads committed records will see it.
    #[error("the transaction was aborted before the record was delivered")]
    Aborted,
    /// The producer was closed or dropped first.
    #[error("the producer was closed before the record was delivered")]
    Closed,
}

impl DeliveryError {
    /// Whether the record may stand in the log all the same. If not, sending it again is safe.
    pub fn may_be_written(&self) -> bool {
        match self {
            Self::Refused { may_be_written, .. } | Self::TimedOut { may_be_written, .. } => {
                *may_be_written
            }
            Self::Aborted => false,
            Self::Undecided { .. } | Self::Closed => true,
        }
    }
}

fn detail(message: &Option<Arc<str>>) -> String {
    message.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}

fn maybe(may_be_written: bool) -> &'static str {
    if may_be_written { " (it may be written)" } else { "" }
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Offset of its first record, if there is one to tell.
    pub(crate) base_offset: Option<i64>,
    /// The broker's own timestamp, if the topic is set so.
    pub(crate) log_append_time_ms: Option<i64>,
}

#[derive(Debug)]
struct Fate {
    topic: Arc<str>,
    partition: i32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Result<Written, DeliveryError>>,
    /// By index of the record; flushes have indices of their own.
    wakers: HashMap<u64, Waker>,
    next_flush: u64,
}

/// Indices of flushes start above those of records.
const FLUSH_INDEX: u64 = 1 << 32;

impl Fate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, index: u64, context: &Context<'_>) -> Poll<Result<Written, DeliveryError>> {
        let mut state = self.state();
        match &state.outcome {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                state.wakers.insert(index, context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The sender's end: keeps the promise once; dropped unkept, it answers [`DeliveryError::Closed`].
#[derive(Debug)]
pub(crate) struct Promise(Arc<Fate>);

impl Promise {
    pub(crate) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self(Arc::new(Fate { topic, partition, state: Mutex::default() }))
    }

    /// The future of the record at `index` in the batch.
    pub(crate) fn record(&self, index: u32, timestamp_ms: i64) -> DeliveryFuture {
        DeliveryFuture { fate: Arc::clone(&self.0), index, timestamp_ms }
    }

    /// A future of the whole batch, for flushing.
    pub(crate) fn settled(&self) -> Settled {
        let mut state = self.0.state();
        state.next_flush += 1;
        Settled { index: FLUSH_INDEX + state.next_flush, fate: Arc::clone(&self.0) }
    }

    /// Says what became of the batch. Only the first time counts; returns whether this was it.
    pub(crate) fn keep(&self, outcome: Result<Written, DeliveryError>) -> bool {
        let wakers = {
            let mut state = self.0.state();
            if state.outcome.is_some() {
                return false;
            }
            state.outcome = Some(outcome);
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers.into_values() {
            waker.wake();
        }
        true
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.keep(Err(DeliveryError::Closed));
    }
}

/// Resolves when the broker has the record, or when it is clear that it will not. Dropping it
/// changes nothing but that nobody learns of it.
#[derive(Debug)]
#[must_use = "the only way to learn whether the record was delivered"]
pub struct DeliveryFuture {
    fate: Arc<Fate>,
    index: u32,
    timestamp_ms: i64,
}

impl DeliveryFuture {
    /// The partition that the record goes to.
    pub fn partition(&self) -> i32 {
        self.fate.partition
    }
}

impl Future for DeliveryFuture {
    type Output = Result<Delivery, DeliveryError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.fate.poll(u64::from(self.index), context).map(|outcome| {
            outcome.map(|written| Delivery {
                topic: Arc::clone(&self.fate.topic),
                partition: self.fate.partition,
                offset: written.base_offset.map(|base| base + i64::from(self.index)),
                timestamp_ms: written.log_append_time_ms.unwrap_or(self.timestamp_ms),
            })
        })
    }
}

/// Resolves when a batch is settled, well or badly.
#[derive(Debug)]
pub(crate) struct Settled {
    fate: Arc<Fate>,
    index: u64,
}

impl Future for Settled {
    type Output = Result<(), DeliveryError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.fate.poll(self.index, context).map(|outcome| outcome.map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(base_offset: Option<i64>) -> Result<Written, DeliveryError> {
        Ok(Written { base_offset, log_append_time_ms: None })
    }

    #[tokio::test]
    async fn every_record_of_a_batch_learns_its_own_offset() {
        let promise = Promise::new("t".into(), 3);
        let (first, third) = (promise.record(0, 10), promise.record(2, 12));
        assert!(promise.keep(written(Some(100))));
        let (first, third) = (first.await.unwrap(), third.await.unwrap());
        assert_eq!((first.offset, first.timestamp_ms), (Some(100), 10));
        assert_eq!((third.offset, third.timestamp_ms, third.partition), (Some(102), 12, 3));
    }

    #[tokio::test]
    async fn a_batch_that_was_changed_has_no_offsets() {
        let promise = Promise::new("t".into(), 0);
        let record = promise.record(1, 5);
        promise.keep(written(None));
        assert_eq!(record.await.unwrap().offset, None);
    }

    #[tokio::test]
    async fn waiting_futures_are_woken_and_only_the_first_word_counts() {
        let promise = Promise::new("t".into(), 0);
        let (record, flush) = (promise.record(0, 5), promise.settled());
        let waiting = tokio::spawn(async move { (record.await, flush.await) });
        tokio::task::yield_now().await;
        assert!(promise.keep(Err(DeliveryError::Closed)));
        assert!(!promise.keep(written(Some(1))));
        assert_eq!(
            waiting.await.unwrap(),
            (Err(DeliveryError::Closed), Err(DeliveryError::Closed))
        );
    }

    #[tokio::test]
    async fn a_promise_that_is_dropped_is_not_waited_for_ever() {
        let promise = Promise::new("t".into(), 0);
        let record = promise.record(0, 5);
        drop(promise);
        assert_eq!(record.await, Err(DeliveryError::Closed));
    }
}
