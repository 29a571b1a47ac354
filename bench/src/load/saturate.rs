//! Many or a few connections, each with a fixed number of requests under way at the most: as much as
//! the broker takes (closed loop, for throughput: its latencies are those of a full queue), or each
//! connection at an even, low rate.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

use super::frames::Frames;
use super::ways::{Line, Way};
use crate::error::{BenchError, Context, Outcome};
use crate::latency::Latencies;

/// Not counted: queues fill.
const WARM_UP: Duration = Duration::from_millis(300);
/// An answer that takes longer means that the broker is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How hard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pressure {
    /// Connections.
    pub(crate) connections: usize,
    /// Requests under way on each.
    pub(crate) in_flight: usize,
}

/// What was acknowledged between the warm-up and the end.
#[derive(Debug)]
pub(crate) struct Saturation {
    /// Requests.
    pub(crate) requests: u64,
    /// For how long.
    pub(crate) seconds: f64,
    /// From each request's sending, or when it was due, to its answer; of those between the warm-up and the end.
    pub(crate) latencies: Latencies,
    /// Requests acknowledged in all, warm-up and end included.
    pub(crate) requests_in_all: u64,
    /// For how long that was, until the last of them.
    pub(crate) seconds_in_all: f64,
}

impl Saturation {
    /// Acknowledged requests per second.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// The same of all of the run: where an answer takes as long as the run, the end is most of it.
    pub(crate) fn requests_per_second_in_all(&self) -> f64 {
        self.requests_in_all as f64 / self.seconds_in_all
    }
}

/// Sends `frames` over TCP round and round for `duration` after the warm-up, then waits for what is
/// under way.
pub(crate) fn saturate(
    broker: SocketAddr,
    frames: &Frames,
    pressure: Pressure,
    duration: Duration,
) -> Outcome<Saturation> {
    saturate_over(Way::Tcp, broker, frames, pressure, duration)
}

/// The same over any way.
pub(crate) fn saturate_over(
    way: Way,
    broker: SocketAddr,
    frames: &Frames,
    pressure: Pressure,
    duration: Duration,
) -> Outcome<Saturation> {
    load((way, broker), frames, pressure, None, duration)
}

/// Over TCP, but each connection sends one request every `period`, evenly spread, and each is timed from when it was
/// due. One that is due while as many are under way as may be waits, and is late.
pub(crate) fn at_intervals(
    broker: SocketAddr,
    frames: &Frames,
    pressure: Pressure,
    (period, duration): (Duration, Duration),
) -> Outcome<Saturation> {
    load((Way::Tcp, broker), frames, pressure, Some(period), duration)
}

fn load(
    (way, broker): (Way, SocketAddr),
    frames: &Frames,
    pressure: Pressure,
    period: Option<Duration>,
    duration: Duration,
) -> Outcome<Saturation> {
    let count = pressure.connections;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("a runtime for the load")?.block_on(async {
        let lines = way.open(broker, frames, count).await?;
        let started = Instant::now();
        let from = started + WARM_UP;
        let window = Window { from, until: from + duration };
        let tally = RefCell::new(Tally { counted: 0, in_all: 0, latencies: Latencies::new()? });
        let stride = frames.stride(count);
        let parts = u32::try_from(count).context("connections")?.max(1);
        let lines = lines.into_iter().zip(0_u32..).map(|(line, first)| {
            let first_due = |period: Duration| (started + period * first / parts, period);
            let order = (first as usize, stride, period.map(first_due));
            drive(line, frames, order, pressure.in_flight, window, &tally)
        });
        try_join_all(lines).await?;
        let tally = tally.into_inner();
        Ok(Saturation {
            requests: tally.counted,
            seconds: duration.as_secs_f64(),
            latencies: tally.latencies,
            requests_in_all: tally.in_all,
            seconds_in_all: started.elapsed().as_secs_f64(),
        })
    })
}

/// The first request, the distance to the next, and when they are due if not at once.
type Sequence = (usize, usize, Option<(Instant, Duration)>);

#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

struct Tally {
    counted: u64,
    in_all: u64,
    latencies: Latencies,
}

/// One connection.
async fn drive(
    mut line: Line,
    frames: &Frames,
    order: Sequence,
    in_flight: usize,
    window: Window,
    tally: &RefCell<Tally>,
) -> Outcome<()> {
    let Line { read, write, .. } = &mut line;
    let under_way = UnderWay {
        permits: Semaphore::new(in_flight),
        sent: RefCell::new(VecDeque::with_capacity(in_flight)),
        is_last_sent: Cell::new(false),
        last_sent: Notify::new(),
    };
    let send = send(write, frames, order, window, &under_way);
    let receive = receive(read, frames, window, &under_way, tally);
    tokio::try_join!(send, receive)?;
    Ok(())
}

struct UnderWay {
    permits: Semaphore,
    sent: RefCell<VecDeque<Instant>>,
    is_last_sent: Cell<bool>,
    last_sent: Notify,
}

async fn send(
    mut write: impl AsyncWrite + Unpin,
    frames: &Frames,
    (first, stride, mut due): Sequence,
    window: Window,
    under_way: &UnderWay,
) -> Outcome<()> {
    let mut next = first;
    loop {
        under_way.permits.acquire().await.context("the load's window")?.forget();
        if let Some((due, _)) = due {
            tokio::time::sleep_until(due.min(window.until).into()).await;
        }
        let now = Instant::now();
        if now >= window.until {
            under_way.is_last_sent.set(true);
            under_way.last_sent.notify_one();
            return Ok(());
        }
        under_way.sent.borrow_mut().push_back(due.map_or(now, |(due, _)| due));
        due = due.map(|(due, period)| (due + period, period));
        let frame = frames.get(next).context("a request to send")?;
        write.write_all(frame).await.context("sending")?;
        write.flush().await.context("sending")?;
        next = next.wrapping_add(stride);
    }
}

async fn receive(
    mut read: impl AsyncRead + Unpin,
    frames: &Frames,
    window: Window,
    under_way: &UnderWay,
    tally: &RefCell<Tally>,
) -> Outcome<()> {
    let mut answers = frames.answers();
    loop {
        if under_way.is_last_sent.get() && under_way.sent.borrow().is_empty() {
            return Ok(());
        }
        let reading = tokio::time::timeout(ANSWER_WITHIN, read.read_buf(answers.space()));
        let read = tokio::select! {
            read = reading => read.context("an answer")?,
            () = under_way.last_sent.notified() => continue,
        };
        if read.context("receiving")? == 0 {
            return Err(BenchError::new("receiving", "the broker closed the connection"));
        }
        let now = Instant::now();
        while answers.next()? {
            let sent = under_way.sent.borrow_mut().pop_front();
            let sent = sent.context("an answer to what was not asked")?;
            let mut tally = tally.borrow_mut();
            tally.in_all += 1;
            if now >= window.from && now < window.until {
                tally.counted += 1;
            }
            // However late it is answered.
            if sent >= window.from {
                tally.latencies.record(now.saturating_duration_since(sent));
            }
            under_way.permits.add_permits(1);
        }
    }
}
