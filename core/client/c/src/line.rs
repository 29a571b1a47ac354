//! A producer on a thread of its own, and the reports that it leaves for whoever asks. Holds bounded
//! memory: bytes of records count from their taking until their report is taken.

use crate::settings::Made;
use futures::stream::{FuturesUnordered, StreamExt};
use millpond_client::{
    Client, DeliveryError, DeliveryFuture, Producer, Record, SendError, Spill, SpillError,
};
use millpond_wire::limits;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How a record ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Delivered,
    Failed,
    InDoubt,
}

/// What is told of one record.
pub(crate) struct Report {
    /// The caller's own, never looked at.
    pub(crate) tag: usize,
    pub(crate) status: Status,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) error: String,
    bytes: usize,
}

/// Numbers so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Numbers {
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) waiting: u64,
}

/// Why a record was not taken.
pub(crate) enum Untaken {
    Full,
    Closed,
}

struct Job {
    record: Record,
    tag: usize,
    bytes: usize,
}

#[derive(Default)]
struct Inbox {
    reports: VecDeque<Report>,
    /// Bytes of records that are taken and whose report is not.
    bytes: usize,
    /// Records that are taken and whose report is not.
    records: usize,
    numbers: Numbers,
    is_over: bool,
}

/// What the thread and the callers share.
struct Shared {
    inbox: Mutex<Inbox>,
    news: Condvar,
    /// Written when reports begin to wait; the other end is what callers poll.
    bell: UnixStream,
}

/// See the module.
pub(crate) struct Line {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
    ear: UnixStream,
    buffer_bytes: usize,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    spill: Option<Spill>,
}

/// Where records go.
enum Sink {
    Broker(Producer),
    Flash(Spill),
}

impl Line {
    /// Starts the thread; the error says what does not make sense.
    pub(crate) fn start(made: Made) -> Result<Self, String> {
        let (ear, bell) = UnixStream::pair().map_err(|error| error.to_string())?;
        for end in [&ear, &bell] {
            end.set_nonblocking(true).map_err(|error| error.to_string())?;
        }
        let (inbox, news) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { inbox, news, bell });
        let (jobs, taken) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let (started, start) = std_mpsc::channel();
        let buffer_bytes = made.buffer_bytes;
        let at_work = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("millpond".to_owned());
        let thread = thread.spawn(move || work(made, &at_work, taken, stopped, &started));
        let thread = thread.map_err(|error| error.to_string())?;
        let spill = start.recv().map_err(|_| "the thread ended at once".to_owned())??;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Self { shared, jobs, ear, buffer_bytes, stop, thread, spill })
    }

    /// Takes a record if there is room.
    pub(crate) fn send(&self, record: Record, bytes: usize, tag: usize) -> Result<(), Untaken> {
        let mut inbox = self.shared.inbox();
        if inbox.is_over {
            return Err(Untaken::Closed);
        }
        // One record always fits, so that none is too large for ever.
        let is_full = inbox.bytes > 0 && inbox.bytes + bytes > self.buffer_bytes;
        if is_full || inbox.records >= limits::CLIENT_C_REPORTS_MAX {
            return Err(Untaken::Full);
        }
        // Within the lock: records go in the order in which they are taken.
        self.jobs.send(Job { record, tag, bytes }).map_err(|_| Untaken::Closed)?;
        inbox.bytes += bytes;
        inbox.records += 1;
        inbox.numbers.accepted += 1;
        Ok(())
    }

    /// What is readable while reports wait.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.ear.as_raw_fd()
    }

    /// The next report.
    pub(crate) fn poll(&self) -> Option<Report> {
        let mut inbox = self.shared.inbox();
        let report = inbox.reports.pop_front();
        if let Some(report) = &report {
            inbox.bytes = inbox.bytes.saturating_sub(report.bytes);
            inbox.records = inbox.records.saturating_sub(1);
        }
        if inbox.reports.is_empty() {
            let mut rung = [0; 64];
            while matches!((&self.ear).read(&mut rung), Ok(count) if count > 0) {}
        }
        report
    }

    /// Waits for a report; false when the time is over.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        self.wait_until(timeout, |inbox| !inbox.reports.is_empty())
    }

    /// Waits until every record that was taken has its report; false when the time is over.
    pub(crate) fn flush(&self, timeout: Option<Duration>) -> bool {
        self.wait_until(timeout, |inbox| inbox.records == inbox.reports.len())
    }

    fn wait_until(&self, timeout: Option<Duration>, is_there: impl Fn(&Inbox) -> bool) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut inbox = self.shared.inbox();
        while !is_there(&inbox) {
            if inbox.is_over {
                return false;
            }
            let Some(deadline) = deadline else {
                inbox = self.shared.news.wait(inbox).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.news.wait_timeout(inbox, left);
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(crate) fn numbers(&self) -> Numbers {
        let inbox = self.shared.inbox();
        let unreported = inbox.records.saturating_sub(inbox.reports.len()) as u64;
        let on_flash = self.spill.as_ref().map_or(0, |spill| spill.metrics().records_waiting);
        Numbers { waiting: unreported + on_flash, ..inbox.numbers }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.spill.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, report: Report) {
        let mut inbox = self.inbox();
        match report.status {
            Status::Delivered => inbox.numbers.delivered += 1,
            Status::Failed | Status::InDoubt => inbox.numbers.failed += 1,
        }
        let was_empty = inbox.reports.is_empty();
        inbox.reports.push_back(report);
        if was_empty {
            // A bell that is full is rung already.
            let _ = (&self.bell).write(&[1]);
        }
        drop(inbox);
        self.news.notify_all();
    }
}

type Started = std_mpsc::Sender<Result<Option<Spill>, String>>;

fn work(
    made: Made,
    shared: &Arc<Shared>,
    jobs: mpsc::UnboundedReceiver<Job>,
    stopped: oneshot::Receiver<()>,
    started: &Started,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            let sink = match sink(made) {
                Ok(sink) => sink,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let spill = match &sink {
                Sink::Broker(_) => None,
                Sink::Flash(spill) => Some(spill.clone()),
            };
            let _ = started.send(Ok(spill));
            tokio::select! {
                () = serve(&sink, shared, jobs) => {}
                _ = stopped => {}
            }
            if let Sink::Flash(spill) = sink {
                spill.close().await;
            }
        }),
        Err(error) => {
            let _ = started.send(Err(error.to_string()));
        }
    }
    shared.inbox().is_over = true;
    shared.news.notify_all();
}

fn sink(made: Made) -> Result<Sink, String> {
    let client = Client::new(made.client);
    match made.spill {
        Some(spill) => spill.open(client).map(Sink::Flash).map_err(|error| error.to_string()),
        None => made.producer.build(client).map(Sink::Broker).map_err(|error| error.to_string()),
    }
}

/// Passes records on in their order, and reports whenever one of them is settled.
async fn serve(sink: &Sink, shared: &Shared, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let (settling, mut settled) = mpsc::unbounded_channel();
    let feed = async {
        while let Some(Job { record, tag, bytes }) = jobs.recv().await {
            match sink {
                Sink::Broker(producer) => match producer.send(record).await {
                    Ok(delivery) => {
                        let _ = settling.send((delivery, tag, bytes));
                    }
                    Err(error) => shared.report(unsent(tag, bytes, &error)),
                },
                Sink::Flash(spill) => {
                    let outcome = spill.send(record).await;
                    shared.report(stored(tag, bytes, outcome));
                }
            }
        }
    };
    let settle = async {
        let mut waiting = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some((delivery, tag, bytes)) = settled.recv() => {
                    waiting.push(told(delivery, tag, bytes));
                }
                Some(report) = waiting.next() => shared.report(report),
                else => return,
            }
        }
    };
    futures::future::join(feed, settle).await;
}

async fn told(delivery: DeliveryFuture, tag: usize, bytes: usize) -> Report {
    let partition = delivery.partition();
    match delivery.await {
        Ok(delivery) => Report {
            tag,
            status: Status::Delivered,
            partition,
            offset: delivery.offset.unwrap_or(-1),
            timestamp_ms: delivery.timestamp_ms,
            error: String::new(),
            bytes,
        },
        Err(error) => Report { partition, ..failed(tag, bytes, &error) },
    }
}

fn failed(tag: usize, bytes: usize, error: &DeliveryError) -> Report {
    let status = if error.may_be_written() { Status::InDoubt } else { Status::Failed };
    Report { status, ..without(tag, bytes, error.to_string()) }
}

fn unsent(tag: usize, bytes: usize, error: &SendError) -> Report {
    without(tag, bytes, error.to_string())
}

fn stored(tag: usize, bytes: usize, outcome: Result<(), SpillError>) -> Report {
    match outcome {
        Ok(()) => Report { status: Status::Delivered, ..without(tag, bytes, String::new()) },
        Err(error) => without(tag, bytes, error.to_string()),
    }
}

fn without(tag: usize, bytes: usize, error: String) -> Report {
    let status = Status::Failed;
    Report { tag, status, partition: -1, offset: -1, timestamp_ms: -1, error, bytes }
}
