//! Requests at an even rate over one TCP connection, each timed from when it was due to its
//! answer (open loop): a broker that is late makes all that wait behind it late too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use millpond_wire::frame::FrameDecoder;

use super::frames::Frames;
use super::pace::Pace;
use crate::error::{BenchError, Context, Outcome};
use crate::latency::Latencies;

/// An answer that takes longer means that the broker is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Sends `count` requests; one thread sends, this one receives.
pub(crate) fn paced(
    broker: SocketAddr,
    frames: &Frames,
    per_second: u32,
    duration: Duration,
) -> Outcome<Latencies> {
    let mut receiving = TcpStream::connect(broker).context("connecting")?;
    receiving.set_nodelay(true).context("a socket's option")?;
    receiving.set_read_timeout(Some(ANSWER_WITHIN)).context("a socket's option")?;
    let sending = receiving.try_clone().context("a socket's other half")?;
    let pace = Pace::starting_now(per_second);
    let count = pace.operations(duration);
    thread::scope(|scope| {
        let sender = scope.spawn(move || send(sending, frames, pace, count));
        let latencies = receive(&mut receiving, frames, pace, count);
        let sent = sender.join().map_err(|_| BenchError::new("sending", "the thread panicked"))?;
        sent.and(latencies)
    })
}

fn send(mut socket: TcpStream, frames: &Frames, pace: Pace, count: u64) -> Outcome<()> {
    // The slack belongs to a thread: this one waits.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    for index in 0..count {
        pace.wait_for(index);
        let frame = frames.get(usize::try_from(index).unwrap_or(0)).context("a request")?;
        socket.write_all(frame).context("sending")?;
    }
    Ok(())
}

fn receive(socket: &mut TcpStream, frames: &Frames, pace: Pace, count: u64) -> Outcome<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut decoder = FrameDecoder::for_responses();
    let mut buffer = vec![0; 64 * 1024];
    let mut answered = 0;
    while answered < count {
        let read = socket.read(&mut buffer).context("receiving")?;
        if read == 0 {
            return Err(BenchError::new("receiving", "the broker closed the connection"));
        }
        let now = Instant::now();
        decoder.extend(buffer.get(..read).unwrap_or_default());
        while let Some(response) = decoder.next_frame().context("receiving")? {
            frames.check(response)?;
            if pace.counts(answered) {
                latencies.record(now.saturating_duration_since(pace.due(answered)));
            }
            answered += 1;
        }
    }
    Ok(latencies)
}
