//! Answers waiting their turn and their way out: in the order of the requests, many in one write, a
//! slow taker cut off.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use millpond_wire::frame::encode_response;
use millpond_wire::messages::Response;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::answers::Room;
use super::budget::Taken;

/// Answers that are ready are gathered up to this many bytes before they are written.
const GATHER_BYTES: usize = 64 * 1024;
/// Pieces of one vectored write.
const SLICES_MAX: usize = 64;
/// The slowest taker that is waited for, besides the time in which it must take something.
const TAKE_BYTES_PER_S_MIN: u64 = 8 * 1024;
/// The same while others wait for the room that its answer holds.
const TAKE_BYTES_PER_S_PRESSED: u64 = 64 * 1024;

/// A request that was read and is not answered yet. What it holds is given back when its answer is
/// written.
pub(super) struct Pending {
    pub(super) answer: Answer,
    pub(super) _bytes: [Taken; 2],
    pub(super) _slot: Option<OwnedSemaphorePermit>,
    /// Of its answer, where that may be large.
    pub(super) room: Option<Room>,
}

/// Where an answer comes from.
pub(super) enum Answer {
    /// The engine will say.
    Awaited { version: i16, correlation_id: i32, reply: oneshot::Receiver<Option<Response>> },
    /// It is encoded already.
    Ready(Vec<Bytes>),
}

/// Why answers cannot be written any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteFault {
    /// The engine stopped without answering.
    #[error("the engine has stopped")]
    EngineGone,
    /// The answer does not fit the protocol.
    #[error("an answer cannot be encoded: {0}")]
    Encode(String),
    /// The peer takes nothing, or too little.
    #[error(
        "the peer does not take its answers: of {total} bytes {taken} were taken in {seconds} s \
         (limits.write_ms)"
    )]
    Slow {
        /// Of what was being written.
        total: u64,
        taken: u64,
        seconds: u64,
    },
    /// The line broke.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Answer {
    /// The encoded answer; empty if there is none to give.
    pub(super) async fn encoded(self, room: &mut Option<Room>) -> Result<Vec<Bytes>, WriteFault> {
        match self {
            Self::Ready(frame) => Ok(frame),
            Self::Awaited { version, correlation_id, mut reply } => {
                let answered = match room {
                    Some(room) => room.await_with(&mut reply).await,
                    None => reply.await,
                };
                match answered {
                    Ok(Some(response)) => encode(version, correlation_id, response, room),
                    Ok(None) => Ok(Vec::new()),
                    Err(_) => Err(WriteFault::EngineGone),
                }
            }
        }
    }

    /// The encoded answer if it is there already; else the answer back.
    pub(super) fn try_encoded(
        self,
        room: &mut Option<Room>,
    ) -> Result<Result<Vec<Bytes>, WriteFault>, Self> {
        match self {
            Self::Ready(frame) => Ok(Ok(frame)),
            Self::Awaited { version, correlation_id, mut reply } => match reply.try_recv() {
                Ok(Some(response)) => Ok(encode(version, correlation_id, response, room)),
                Ok(None) => Ok(Ok(Vec::new())),
                Err(oneshot::error::TryRecvError::Closed) => Ok(Err(WriteFault::EngineGone)),
                Err(oneshot::error::TryRecvError::Empty) => {
                    Err(Self::Awaited { version, correlation_id, reply })
                }
            },
        }
    }
}

fn encode(
    version: i16,
    correlation_id: i32,
    mut response: Response,
    room: &mut Option<Room>,
) -> Result<Vec<Bytes>, WriteFault> {
    if let Some(room) = room {
        room.settle(&mut response);
    }
    let frame = encode_response(version, correlation_id, &response)
        .map_err(|e| WriteFault::Encode(e.to_string()))?;
    if let Some(room) = room {
        room.settle_encoded(frame.iter().map(Bytes::len).sum());
    }
    Ok(frame)
}

/// Bytes on their way out, in pieces.
#[derive(Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, frame: Vec<Bytes>) {
        self.bytes += frame.iter().map(Bytes::len).sum::<usize>();
        self.pieces.extend(frame.into_iter().filter(|piece| !piece.is_empty()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= GATHER_BYTES
    }

    /// Writes everything; each step within `patience`, the whole at a least rate, which is higher while
    /// others wait for the room. Gives the bytes written.
    pub(super) async fn write(
        &mut self,
        out: &mut (impl AsyncWrite + Unpin),
        patience: Duration,
        is_short: impl Fn() -> bool,
    ) -> Result<u64, WriteFault> {
        let total = self.bytes as u64;
        let begun = Instant::now();
        let whole = begun + patience + Duration::from_millis(total * 1000 / TAKE_BYTES_PER_S_MIN);
        let mut taken = 0;
        let slow = |taken| WriteFault::Slow { total, taken, seconds: begun.elapsed().as_secs() };
        while !self.pieces.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.pieces.iter().take(SLICES_MAX).map(|p| IoSlice::new(p)).collect();
            let step = timeout(patience, out.write_vectored(&slices));
            let written = timeout_at(whole, step)
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or_else(|| slow(taken))??;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            taken += written as u64;
            let pressed = patience + Duration::from_millis(taken * 1000 / TAKE_BYTES_PER_S_PRESSED);
            if begun.elapsed() > pressed && is_short() {
                return Err(slow(taken));
            }
            self.advance(written);
        }
        let flushed = timeout(patience, out.flush()).await;
        flushed.map_err(|_| slow(taken))??;
        self.bytes = 0;
        Ok(total)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.pieces.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test(start_paused = true)]
    async fn pieces_go_out_whole_and_in_order_through_a_narrow_pipe() {
        let (mut ours, mut theirs) = tokio::io::duplex(7);
        let mut outgoing = Outgoing::default();
        let text: Vec<u8> = (0..=255).collect();
        for piece in text.chunks(33) {
            outgoing.push(vec![Bytes::copy_from_slice(piece), Bytes::new()]);
        }
        let mut received = vec![0; 256];
        let (written, _) = tokio::join!(
            outgoing.write(&mut ours, Duration::from_secs(1), || false),
            theirs.read_exact(&mut received)
        );
        assert_eq!((written.unwrap(), received), (256, text));
        assert!(outgoing.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut ours, _theirs) = tokio::io::duplex(7);
        let mut outgoing = Outgoing::default();
        outgoing.push(vec![Bytes::from_static(&[0; 100])]);
        let result = outgoing.write(&mut ours, Duration::from_secs(30), || false).await;
        assert!(matches!(result, Err(WriteFault::Slow { .. })), "{result:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_byte_at_a_time_is_given_up_too() {
        let (mut ours, mut theirs) = tokio::io::duplex(1);
        let mut outgoing = Outgoing::default();
        outgoing.push(vec![Bytes::from_static(&[0; 1000])]);
        let drip = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        });
        let begun = Instant::now();
        let result = outgoing.write(&mut ours, Duration::from_secs(30), || false).await;
        assert!(matches!(result, Err(WriteFault::Slow { .. })), "{result:?}");
        assert!(begun.elapsed() < Duration::from_secs(60));
        drop(ours);
        drip.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_is_given_up_sooner_while_others_wait_for_room() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let mut outgoing = Outgoing::default();
        outgoing.push(vec![Bytes::from_static(&[0; 1 << 20])]);
        // Twice as fast as must be while there is room for all.
        let drip = tokio::spawn(async move {
            let mut taken = [0; 16 * 1024];
            while theirs.read_exact(&mut taken).await.is_ok() {
                // Slow on purpose: a peer on a narrow line.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let begun = Instant::now();
        let result = outgoing.write(&mut ours, Duration::from_secs(5), || true).await;
        assert!(matches!(result, Err(WriteFault::Slow { .. })), "{result:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        drop(ours);
        drip.await.unwrap();
    }
}
