//! NATS JetStream as far as a load needs it: a stream, publishes that ask for an acknowledgement, and
//! counting those. Must never take a refusal for an acknowledgement.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::answers::Parts;
use crate::error::{BenchError, Context, Outcome};

/// An answer to a single question that takes longer means that the server is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The longest line, and the longest answer: what a server is, with all that it can do.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// For questions that are not part of the load.
const ASKING: usize = usize::MAX;

/// Where the acknowledgements of a line arrive: publishes name it, so they belong to one line.
fn inbox(line: usize) -> String {
    format!("_INBOX.bench.{line}")
}

/// The subject of a topic's partition.
fn subject(topic: &str, partition: usize) -> String {
    format!("{topic}.{partition}")
}

/// Connects as a line of the load and listens for its acknowledgements.
pub(crate) fn connect(server: SocketAddr, line: usize) -> Outcome<TcpStream> {
    let mut socket = TcpStream::connect(server).context("connecting")?;
    socket.set_nodelay(true).context("a socket's option")?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).context("a socket's option")?;
    let inbox = inbox(line);
    let hello =
        format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {inbox} 1\r\nPING\r\n");
    socket.write_all(hello.as_bytes()).context("greeting")?;
    let mut said = Vec::new();
    // A byte at a time, so that nothing is taken of what comes after.
    let mut byte = [0];
    while !said.ends_with(b"PONG\r\n") {
        socket.read_exact(&mut byte).context("the server's greeting")?;
        said.extend_from_slice(&byte);
        if said.len() > ANSWER_BYTES_MAX {
            return Err(BenchError::new("the server's greeting", "it does not end"));
        }
    }
    Ok(socket)
}

/// Makes a stream in files that takes all partitions of a topic.
pub(crate) fn create_stream(server: SocketAddr, topic: &str) -> Outcome<()> {
    let mut socket = connect(server, ASKING)?;
    let config = format!(
        "{{\"name\":\"{topic}\",\"subjects\":[\"{topic}.*\"],\"storage\":\"file\",\
         \"retention\":\"limits\",\"discard\":\"old\",\"num_replicas\":1}}"
    );
    let question = publish(&format!("$JS.API.STREAM.CREATE.{topic}"), ASKING, config.as_bytes());
    exchange(&mut socket, &question)
}

/// Sends one request of the first line and waits for its acknowledgement.
pub(crate) fn publish_one(server: SocketAddr, request: &[u8]) -> Outcome<()> {
    exchange(&mut connect(server, 0)?, request)
}

fn exchange(socket: &mut TcpStream, message: &[u8]) -> Outcome<()> {
    socket.write_all(message).context("sending")?;
    let mut acks = Acks::of_requests_of(1);
    let mut buffer = [0; 4096];
    while !acks.next()? {
        let read = socket.read(&mut buffer).context("receiving")?;
        if read == 0 {
            return Err(BenchError::new("receiving", "the server closed the connection"));
        }
        acks.buffer.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    Ok(())
}

/// One request: each value a message, each acknowledged by itself.
pub(crate) fn request(topic: &str, partition: usize, line: usize, values: &[Vec<u8>]) -> Bytes {
    let subject = subject(topic, partition);
    let messages: Vec<Vec<u8>> =
        values.iter().map(|value| publish(&subject, line, value)).collect();
    messages.concat().into()
}

fn publish(subject: &str, line: usize, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("PUB {subject} {} {}\r\n", inbox(line), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message.extend_from_slice(b"\r\n");
    message
}

/// What comes back over one connection.
pub(crate) struct Acks {
    pub(crate) buffer: BytesMut,
    parts: Parts,
}

impl Acks {
    /// Requests of so many messages each.
    pub(crate) fn of_requests_of(messages: usize) -> Self {
        Self { buffer: BytesMut::new(), parts: Parts::of(messages) }
    }

    /// Takes the next; whether with it a whole request is acknowledged. False also if there is none yet.
    pub(crate) fn next(&mut self) -> Outcome<bool> {
        while let Some(message) = self.take()? {
            let text = String::from_utf8_lossy(&message);
            if text.contains("\"error\"") {
                return Err(BenchError::new("a publish", format!("refused: {text}")));
            }
            if self.parts.is_last() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The payload of the next message; what is no message is passed over.
    fn take(&mut self) -> Outcome<Option<Bytes>> {
        loop {
            let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") else {
                return match self.buffer.len() > ANSWER_BYTES_MAX {
                    true => Err(BenchError::new("an answer", "its line does not end")),
                    false => Ok(None),
                };
            };
            let line = String::from_utf8_lossy(self.buffer.get(..end).unwrap_or_default());
            if line.starts_with("-ERR") {
                return Err(BenchError::new("the server", line));
            }
            if !line.starts_with("MSG ") {
                self.buffer.advance(end + 2);
                continue;
            }
            let size = line.rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
            let size = size.filter(|size| *size <= ANSWER_BYTES_MAX);
            let size = size.context(format!("a size in {line:?}"))?;
            if self.buffer.len() < end + 2 + size + 2 {
                return Ok(None);
            }
            self.buffer.advance(end + 2);
            let payload = self.buffer.split_to(size).freeze();
            self.buffer.advance(2);
            return Ok(Some(payload));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(each: usize, received: &[u8]) -> Acks {
        Acks { buffer: received.into(), ..Acks::of_requests_of(each) }
    }

    #[test]
    fn a_request_is_acknowledged_with_its_last_message() {
        let ack = b"MSG _INBOX.bench.0 1 9\r\n{\"seq\":1}\r\n";
        let mut acks = acks(2, &[&ack[..], b"PING\r\n", &ack[..]].concat());
        assert!(acks.next().unwrap());
        assert!(!acks.next().unwrap());
        assert!(acks.buffer.is_empty());
    }

    #[test]
    fn half_an_acknowledgement_is_none() {
        let mut acks = acks(1, b"MSG _INBOX.bench.0 1 9\r\n{\"seq\"");
        assert!(!acks.next().unwrap());
        acks.buffer.extend_from_slice(b":1}\r\n");
        assert!(acks.next().unwrap());
    }

    #[test]
    fn a_refusal_is_an_error() {
        assert!(acks(1, b"MSG a 1 14\r\n{\"error\":\"no\"}\r\n").next().is_err());
        assert!(acks(1, b"-ERR 'Maximum Payload'\r\n").next().is_err());
        assert!(acks(1, b"MSG a 1 99999999999\r\n").next().is_err());
    }

    #[test]
    fn a_message_is_framed_by_its_size() {
        let request = request("fleet", 3, 7, &[b"one".to_vec(), b"four".to_vec()]);
        let expected =
            "PUB fleet.3 _INBOX.bench.7 3\r\none\r\nPUB fleet.3 _INBOX.bench.7 4\r\nfour\r\n";
        assert_eq!(request, expected.as_bytes());
    }
}
