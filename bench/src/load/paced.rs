//! Requests at an even rate over TCP connections in turn, each timed from when it was due to its
//! answer (open loop): a broker that is late makes all that wait behind it late too.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::frames::Frames;
use super::pace::Pace;
use crate::error::{BenchError, Context, Outcome};
use crate::latency::Latencies;

/// After the last was due, no answer is waited for longer.
const GRACE: Duration = Duration::from_secs(5);

/// How often, and by how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Requests a second of all together.
    pub(crate) per_second: u32,
    /// TCP connections.
    pub(crate) connections: usize,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Paced {
    /// From when each was due to its answer; of those without one, to when nobody waited any more.
    pub(crate) latencies: Latencies,
    /// Requests without an answer. There are some where the broker cannot keep up.
    pub(crate) unanswered: u64,
    /// Requests in all, warm-up included.
    pub(crate) requests: u64,
}

impl Paced {
    /// The latencies, where every request must have been answered.
    pub(crate) fn of_all(self) -> Outcome<Latencies> {
        match self.unanswered {
            0 => Ok(self.latencies),
            some => Err(BenchError::new("the paced load", format!("{some} were not answered"))),
        }
    }
}

/// Sends requests for `duration` after the warm-up; one thread sends, one for each connection receives.
pub(crate) fn paced(
    broker: SocketAddr,
    frames: &Frames,
    rate: Rate,
    duration: Duration,
) -> Outcome<Paced> {
    let connect = (0..rate.connections.max(1)).map(|line| frames.connect(broker, line));
    let receiving = connect.collect::<Outcome<Vec<_>>>()?;
    let sending: Result<Vec<_>, _> = receiving.iter().map(TcpStream::try_clone).collect();
    let sending = sending.context("a socket's other half")?;
    let pace = Pace::starting_now(rate.per_second);
    let count = pace.operations(duration);
    let stride = receiving.len() as u64;
    thread::scope(|scope| {
        let sender = scope.spawn(move || send(sending, frames, pace, count));
        let receivers: Vec<_> = receiving
            .into_iter()
            .zip(0..)
            .map(|(socket, first)| {
                scope.spawn(move || receive(socket, frames, pace, (first..count, stride)))
            })
            .collect();
        let mut paced = Paced { latencies: Latencies::new()?, unanswered: 0, requests: count };
        for receiver in receivers {
            let panicked = |_| BenchError::new("receiving", "the thread panicked");
            let (latencies, unanswered) = receiver.join().map_err(panicked)??;
            paced.latencies.merge(&latencies)?;
            paced.unanswered += unanswered;
        }
        let sent = sender.join().map_err(|_| BenchError::new("sending", "the thread panicked"))?;
        match sent {
            // Those who gave up waiting closed the connection.
            Err(_) if paced.unanswered > 0 => Ok(paced),
            sent => sent.map(|()| paced),
        }
    })
}

fn send(mut sockets: Vec<TcpStream>, frames: &Frames, pace: Pace, count: u64) -> Outcome<()> {
    // The slack belongs to a thread: this one waits.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let lines = sockets.len();
    let stride = frames.stride(lines);
    for index in 0..count {
        pace.wait_for(index);
        let at = usize::try_from(index).context("a count")?;
        let frame = frames.get(at % lines + at / lines * stride).context("a request")?;
        let socket = sockets.get_mut(at % lines).context("a connection")?;
        socket.write_all(frame).context("sending")?;
    }
    Ok(())
}

/// Of one connection: the latencies of each of its requests and how many were not answered.
fn receive(
    mut socket: TcpStream,
    frames: &Frames,
    pace: Pace,
    (indexes, stride): (std::ops::Range<u64>, u64),
) -> Outcome<(Latencies, u64)> {
    let mut latencies = Latencies::new()?;
    let mut answers = frames.answers();
    let mut buffer = vec![0; 64 * 1024];
    let give_up = pace.due(indexes.end) + GRACE;
    let (mut next, end) = (indexes.start, indexes.end);
    while next < end {
        let left = give_up.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left)).context("a socket's option")?;
        let read = match socket.read(&mut buffer) {
            Ok(0) => return Err(BenchError::new("receiving", "the broker closed the connection")),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error).context("receiving"),
        };
        let now = Instant::now();
        answers.extend(buffer.get(..read).unwrap_or_default());
        while answers.next()? {
            if pace.counts(next) {
                latencies.record(now.saturating_duration_since(pace.due(next)));
            }
            next += stride;
        }
    }
    let mut unanswered = 0;
    while next < end {
        unanswered += 1;
        if pace.counts(next) {
            latencies.record(give_up.saturating_duration_since(pace.due(next)));
        }
        next += stride;
    }
    if unanswered > 0 {
        // The sender may be waiting for room.
        let _ = socket.shutdown(Shutdown::Both);
    }
    Ok((latencies, unanswered))
}
