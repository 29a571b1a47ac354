//! One TCP connection on which one request is answered before the next is sent: what readers,
//! group members and admin clients do. It must never retry: what goes wrong is the measurement's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use millpond_wire::ErrorCode;
use millpond_wire::frame::{FrameDecoder, decode_response, encode_request};
use millpond_wire::messages::{Request, Response};

use crate::error::{BenchError, Context, Outcome};

/// An answer that takes longer means that the broker is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const SOCKET_READ_BYTES: usize = 256 * 1024;

/// A connection.
pub(crate) struct Conversation {
    socket: TcpStream,
    frames: FrameDecoder,
    buffer: Vec<u8>,
}

impl Conversation {
    /// Connects.
    pub(crate) fn with(broker: SocketAddr) -> Outcome<Self> {
        Self::over(TcpStream::connect(broker).context("connecting")?)
    }

    /// On a socket that is connected.
    pub(crate) fn over(socket: TcpStream) -> Outcome<Self> {
        socket.set_nodelay(true).context("a socket's option")?;
        socket.set_read_timeout(Some(ANSWER_WITHIN)).context("a socket's option")?;
        let frames = FrameDecoder::for_responses();
        Ok(Self { socket, frames, buffer: vec![0; SOCKET_READ_BYTES] })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call(&mut self, version: i16, request: impl Into<Request>) -> Outcome<Response> {
        let request = request.into();
        let api = request.api_key();
        let answer = self.exchange(&frame_of(version, &request)?)?;
        let decoded = decode_response(api, version, answer);
        Ok(decoded.context(format!("reading the answer to {api:?}"))?.1)
    }

    /// Sends what is a whole frame already and waits for the frame that answers.
    pub(crate) fn exchange(&mut self, frame: &[u8]) -> Outcome<Bytes> {
        self.socket.write_all(frame).context("sending")?;
        loop {
            if let Some(response) = self.frames.next_frame().context("receiving")? {
                return Ok(response);
            }
            let read = self.socket.read(&mut self.buffer).context("receiving")?;
            if read == 0 {
                return Err(BenchError::new("receiving", "the broker closed the connection"));
            }
            self.frames.extend(self.buffer.get(..read).unwrap_or_default());
        }
    }
}

/// A request as a whole frame.
pub(crate) fn frame_of(version: i16, request: &Request) -> Outcome<Bytes> {
    let chunks = encode_request(version, 0, Some("millpond-bench"), request);
    Ok(chunks.context(format!("encoding {:?}", request.api_key()))?.concat().into())
}

/// What an answer of another kind than asked for is.
pub(crate) fn other_answer(response: &Response) -> BenchError {
    BenchError::new("an answer", format!("of the kind {:?}", response.api_key()))
}

/// Refuses an answer whose error code says that it was not done.
pub(crate) fn accepted(what: &str, code: i16) -> Outcome<()> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(BenchError::new(what, format!("refused: {code:?}"))),
        None => Err(BenchError::new(what, format!("refused with the unknown code {code}"))),
    }
}
