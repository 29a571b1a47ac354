//! As much as the broker takes: a few connections, each with a fixed number of requests under
//! way (closed loop). For throughput; its latencies are those of a full queue.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use millpond_wire::frame::FrameDecoder;
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
    /// From each request's sending to its answer.
    pub(crate) latencies: Latencies,
    /// Requests acknowledged in all, warm-up and end included.
    pub(crate) requests_in_all: u64,
}

impl Saturation {
    /// Acknowledged requests per second.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("a runtime for the load")?.block_on(async {
        let lines = way.open(broker, pressure.connections).await?;
        let from = Instant::now() + WARM_UP;
        let window = Window { from, until: from + duration };
        let tally = RefCell::new(Tally { counted: 0, in_all: 0, latencies: Latencies::new()? });
        let stride = pressure.connections;
        let lines = lines.into_iter().enumerate().map(|(first, line)| {
            drive(line, frames, (first, stride), pressure.in_flight, window, &tally)
        });
        try_join_all(lines).await?;
        let tally = tally.into_inner();
        Ok(Saturation {
            requests: tally.counted,
            seconds: duration.as_secs_f64(),
            latencies: tally.latencies,
            requests_in_all: tally.in_all,
        })
    })
}

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
    order: (usize, usize),
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
    (first, stride): (usize, usize),
    window: Window,
    under_way: &UnderWay,
) -> Outcome<()> {
    let mut next = first;
    loop {
        under_way.permits.acquire().await.context("the load's window")?.forget();
        let now = Instant::now();
        if now >= window.until {
            under_way.is_last_sent.set(true);
            under_way.last_sent.notify_one();
            return Ok(());
        }
        under_way.sent.borrow_mut().push_back(now);
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
    let mut decoder = FrameDecoder::for_responses();
    loop {
        if under_way.is_last_sent.get() && under_way.sent.borrow().is_empty() {
            return Ok(());
        }
        let reading = tokio::time::timeout(ANSWER_WITHIN, read.read_buf(decoder.space()));
        let read = tokio::select! {
            read = reading => read.context("an answer")?,
            () = under_way.last_sent.notified() => continue,
        };
        if read.context("receiving")? == 0 {
            return Err(BenchError::new("receiving", "the broker closed the connection"));
        }
        let now = Instant::now();
        while let Some(response) = decoder.next_frame().context("receiving")? {
            frames.check(response)?;
            let sent = under_way.sent.borrow_mut().pop_front();
            let sent = sent.context("an answer to what was not asked")?;
            let mut tally = tally.borrow_mut();
            tally.in_all += 1;
            if now >= window.from && now < window.until {
                tally.counted += 1;
                tally.latencies.record(now - sent);
            }
            under_way.permits.add_permits(1);
        }
    }
}
