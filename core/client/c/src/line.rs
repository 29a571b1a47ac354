//! A producer on a thread of its own, and the reports that it leaves for whoever asks. Holds bounded
//! memory: bytes of records count from their taking until their report is taken. What is done to a
//! transaction stands in one line with the records, so that each is on its side of it.

use crate::bell::Bell;
use crate::fault::{Fault, Kind};
use crate::reader::Standing;
use crate::settings::Made;
use futures::stream::{FuturesUnordered, StreamExt};
use millpond_client::{
    Client, ClientConfig, DeliveryError, DeliveryFuture, Producer, ProducerBuilder, Record, Spill,
    TransactionalProducer,
};
use millpond_wire::limits;
use std::collections::VecDeque;
use std::os::fd::RawFd;
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
    pub(crate) fault: Fault,
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

/// What is done to a transaction.
pub(crate) enum Act {
    Begin,
    Offsets(Standing),
    Commit,
    Abort,
}

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Begin,
    Offsets,
    Commit,
    Abort,
}

impl Act {
    fn step(&self) -> Step {
        match self {
            Self::Begin => Step::Begin,
            Self::Offsets(_) => Step::Offsets,
            Self::Commit => Step::Commit,
            Self::Abort => Step::Abort,
        }
    }
}

enum Job {
    Send { record: Record, tag: usize, bytes: usize },
    Do(Act),
}

#[derive(Default)]
struct Inbox {
    reports: VecDeque<Report>,
    /// Bytes of records that are taken and whose report is not.
    bytes: usize,
    /// Records that are taken and whose report is not.
    records: usize,
    numbers: Numbers,
    /// The step that was asked for, until its outcome is taken.
    step: Option<Step>,
    outcome: Option<Result<(), Fault>>,
    is_over: bool,
}

impl Inbox {
    fn has_news(&self) -> bool {
        !self.reports.is_empty() || self.outcome.is_some()
    }
}

/// What the thread and the callers share.
struct Shared {
    inbox: Mutex<Inbox>,
    news: Condvar,
    /// Rung when something begins to wait.
    bell: Bell,
}

/// See the module.
pub(crate) struct Line {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
    buffer_bytes: usize,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    spill: Option<Spill>,
    is_transactional: bool,
}

/// Where records go.
enum Sink {
    Broker(Producer),
    Flash(Spill),
    Transactions(Box<Transactions>),
}

/// A producer of transactions, made when the first one begins.
struct Transactions {
    builder: ProducerBuilder,
    client: ClientConfig,
    made: Option<TransactionalProducer>,
}

impl Line {
    /// Starts the thread; the error says what does not make sense.
    pub(crate) fn start(made: Made) -> Result<Self, String> {
        let bell = Bell::new().map_err(|error| error.to_string())?;
        let (inbox, news) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { inbox, news, bell });
        let (jobs, taken) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let (started, start) = std_mpsc::channel();
        let (buffer_bytes, is_transactional) = (made.buffer_bytes, made.is_transactional);
        let at_work = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("millpond".to_owned());
        let thread = thread.spawn(move || work(made, &at_work, taken, stopped, &started));
        let thread = thread.map_err(|error| error.to_string())?;
        let spill = start.recv().map_err(|_| "the thread ended at once".to_owned())??;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Self { shared, jobs, buffer_bytes, stop, thread, spill, is_transactional })
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
        self.jobs.send(Job::Send { record, tag, bytes }).map_err(|_| Untaken::Closed)?;
        inbox.bytes += bytes;
        inbox.records += 1;
        inbox.numbers.accepted += 1;
        Ok(())
    }

    /// Does a step of a transaction, after all records that were taken before it. When the time is over
    /// the step goes on; asking for the same again waits for it.
    pub(crate) fn act(&self, act: Act, timeout: Option<Duration>) -> Result<(), Fault> {
        if !self.is_transactional {
            return Err(Fault::new(Kind::Invalid, "transactional_id: it must be set"));
        }
        {
            let mut inbox = self.shared.inbox();
            if inbox.is_over {
                return Err(Fault::closed());
            }
            let step = act.step();
            if inbox.step.is_none() {
                self.jobs.send(Job::Do(act)).map_err(|_| Fault::closed())?;
                inbox.step = Some(step);
            } else if inbox.step != Some(step) {
                let text = "another step of the transaction is under way: finish that first";
                return Err(Fault::new(Kind::Invalid, text));
            }
        }
        if !self.wait_until(timeout, |inbox| inbox.outcome.is_some()) {
            let is_over = self.shared.inbox().is_over;
            return Err(if is_over { Fault::closed() } else { Fault::timed_out() });
        }
        let mut inbox = self.shared.inbox();
        // Another thread that waited for the same may have taken it.
        let Some(outcome) = inbox.outcome.take() else { return Err(Fault::timed_out()) };
        inbox.step = None;
        if !inbox.has_news() {
            self.shared.bell.silence();
        }
        outcome
    }

    /// What is readable while something waits.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.shared.bell.descriptor()
    }

    /// The next report.
    pub(crate) fn poll(&self) -> Option<Report> {
        let mut inbox = self.shared.inbox();
        let report = inbox.reports.pop_front();
        if let Some(report) = &report {
            inbox.bytes = inbox.bytes.saturating_sub(report.bytes);
            inbox.records = inbox.records.saturating_sub(1);
        }
        if !inbox.has_news() {
            self.shared.bell.silence();
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
        let had_news = inbox.has_news();
        inbox.reports.push_back(report);
        self.wake(inbox, had_news);
    }

    fn acted(&self, outcome: Result<(), Fault>) {
        let mut inbox = self.inbox();
        let had_news = inbox.has_news();
        inbox.outcome = Some(outcome);
        self.wake(inbox, had_news);
    }

    fn wake(&self, inbox: MutexGuard<'_, Inbox>, had_news: bool) {
        if !had_news {
            self.bell.ring();
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
            let mut sink = match sink(made) {
                Ok(sink) => sink,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let spill = match &sink {
                Sink::Broker(_) | Sink::Transactions(_) => None,
                Sink::Flash(spill) => Some(spill.clone()),
            };
            let _ = started.send(Ok(spill));
            tokio::select! {
                () = serve(&mut sink, shared, jobs) => {}
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
    if made.is_transactional {
        let (builder, client) = (made.producer, made.client);
        return Ok(Sink::Transactions(Box::new(Transactions { builder, client, made: None })));
    }
    let client = Client::new(made.client);
    match made.spill {
        Some(spill) => spill.open(client).map(Sink::Flash).map_err(|error| error.to_string()),
        None => made.producer.build(client).map(Sink::Broker).map_err(|error| error.to_string()),
    }
}

impl Sink {
    /// Takes a record: a delivery to wait for, or nothing more to come.
    async fn send(&mut self, record: Record) -> Result<Option<DeliveryFuture>, Fault> {
        match self {
            Self::Broker(producer) => Ok(Some(producer.send(record).await?)),
            Self::Flash(spill) => {
                spill.send(record).await?;
                Ok(None)
            }
            Self::Transactions(transactions) => match &transactions.made {
                Some(producer) => Ok(Some(producer.send(record).await?)),
                None => Err(Fault::new(Kind::Invalid, "no transaction is open: begin one")),
            },
        }
    }

    async fn act(&mut self, act: Act) -> Result<(), Fault> {
        let Self::Transactions(transactions) = self else { return Ok(()) };
        let producer = match &mut transactions.made {
            Some(producer) => producer,
            None => {
                let Transactions { builder, client, .. } = &**transactions;
                let made = builder.clone().connect_transactional(client.clone()).await?;
                transactions.made.insert(made)
            }
        };
        match act {
            Act::Begin => producer.begin().await?,
            Act::Commit => producer.commit().await?,
            Act::Abort => producer.abort().await?,
            Act::Offsets(at) => producer.send_offsets(&at.group, &at.places).await?,
        }
        Ok(())
    }
}

/// Passes records on in their order, and reports whenever one of them is settled.
async fn serve(sink: &mut Sink, shared: &Shared, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let (settling, mut settled) = mpsc::unbounded_channel();
    let feed = async {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::Do(act) => shared.acted(sink.act(act).await),
                Job::Send { record, tag, bytes } => match sink.send(record).await {
                    Ok(Some(delivery)) => {
                        let _ = settling.send((delivery, tag, bytes));
                    }
                    Ok(None) => shared.report(stored(tag, bytes)),
                    Err(fault) => shared.report(without(tag, bytes, fault)),
                },
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
            fault: Fault::default(),
            bytes,
        },
        Err(error) => Report { partition, ..failed(tag, bytes, &error) },
    }
}

fn failed(tag: usize, bytes: usize, error: &DeliveryError) -> Report {
    let status = if error.may_be_written() { Status::InDoubt } else { Status::Failed };
    Report { status, ..without(tag, bytes, error.into()) }
}

fn stored(tag: usize, bytes: usize) -> Report {
    Report { status: Status::Delivered, ..without(tag, bytes, Fault::default()) }
}

fn without(tag: usize, bytes: usize, fault: Fault) -> Report {
    let status = Status::Failed;
    Report { tag, status, partition: -1, offset: -1, timestamp_ms: -1, fault, bytes }
}
