//! MQTT 3.1.1 as far as a load needs it: publishes with QoS 1, counting their acknowledgements, and a
//! subscriber that is away, for whom the broker has to keep what is published.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::answers::Parts;
use crate::error::{BenchError, Context, Outcome};

/// An answer to a single question that takes longer means that the broker is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Packet types, with their flags.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH_QOS_1: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const DISCONNECT: u8 = 0xe0;
/// Bytes of a PUBACK.
const PUBACK_BYTES: usize = 4;

/// Connects as a client that the broker forgets.
pub(crate) fn connect(broker: SocketAddr) -> Outcome<TcpStream> {
    Ok(greet(broker, "", true)?.0)
}

/// Makes the broker keep all that is published to a topic: somebody subscribed to it and is away.
pub(crate) fn keep(broker: SocketAddr, topic: &str) -> Outcome<()> {
    let (mut socket, is_known) = greet(broker, &format!("keeper-of-{topic}"), false)?;
    if is_known {
        // Subscribed already; what is kept for it comes before any answer.
        return socket.write_all(&packet(DISCONNECT, &[])).context("going away");
    }
    let mut body = vec![0, 1];
    text(&mut body, &format!("{topic}/#"));
    body.push(1);
    socket.write_all(&packet(SUBSCRIBE, &body)).context("subscribing")?;
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).context("subscribing")?;
    if answer != [SUBACK, 3, 0, 1, 1] {
        return Err(BenchError::new("subscribing", format!("refused: {answer:?}")));
    }
    socket.write_all(&packet(DISCONNECT, &[])).context("going away")
}

/// Sends one request of one message and waits for its acknowledgement.
pub(crate) fn publish_one(broker: SocketAddr, request: &[u8]) -> Outcome<()> {
    let mut socket = connect(broker)?;
    socket.write_all(request).context("sending")?;
    let mut acks = Acks::of_requests_of(1);
    let mut answer = [0; PUBACK_BYTES];
    socket.read_exact(&mut answer).context("receiving")?;
    acks.buffer.extend_from_slice(&answer);
    acks.next().map(drop)
}

/// Connects; whether the broker knew the client.
fn greet(broker: SocketAddr, client_id: &str, is_clean: bool) -> Outcome<(TcpStream, bool)> {
    let mut socket = TcpStream::connect(broker).context("connecting")?;
    socket.set_nodelay(true).context("a socket's option")?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).context("a socket's option")?;
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    // Version 3.1.1, no keep-alive.
    body.extend([4, u8::from(is_clean) << 1, 0, 0]);
    text(&mut body, client_id);
    socket.write_all(&packet(CONNECT, &body)).context("greeting")?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).context("the broker's greeting")?;
    match answer {
        [CONNACK, 2, known, 0] => Ok((socket, known == 1)),
        other => Err(BenchError::new("the broker's greeting", format!("refused: {other:?}"))),
    }
}

/// One request: each value a message, each acknowledged by itself. `number` counts requests.
pub(crate) fn request(topic: &str, partition: usize, number: usize, values: &[Vec<u8>]) -> Bytes {
    let mut packets = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let mut body = Vec::with_capacity(value.len() + 32);
        text(&mut body, &format!("{topic}/{partition}"));
        // 0 is no packet's id.
        let id =
            (number.wrapping_mul(values.len()).wrapping_add(at) % usize::from(u16::MAX)) as u16 + 1;
        body.extend(id.to_be_bytes());
        body.extend_from_slice(value);
        packets.extend(packet(PUBLISH_QOS_1, &body));
    }
    packets.into()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let more = u8::from(length > 0x7f) << 7;
        packet.push((length & 0x7f) as u8 | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u16).to_be_bytes());
    into.extend_from_slice(text.as_bytes());
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
        while let Some(puback) = self.buffer.get(..PUBACK_BYTES) {
            if !puback.starts_with(&[PUBACK, 2]) {
                return Err(BenchError::new(
                    "an answer",
                    format!("no acknowledgement: {puback:?}"),
                ));
            }
            self.buffer.advance(PUBACK_BYTES);
            if self.parts.is_last() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_a_byte_for_seven_bits() {
        assert_eq!(packet(DISCONNECT, &[]), [DISCONNECT, 0]);
        assert_eq!(packet(1, &[0; 127])[..2], [1, 127]);
        assert_eq!(packet(1, &[0; 128])[..3], [1, 0x80, 1]);
        assert_eq!(packet(1, &[0; 16_384])[..4], [1, 0x80, 0x80, 1]);
    }

    #[test]
    fn no_packet_has_the_id_nought() {
        for number in [0, 65_534, 65_535, 131_071] {
            let request = request("t", 0, number, &[b"x".to_vec()]);
            // Type, length, the topic "t/0" with its length, the id, the value.
            assert_ne!(request[7..9], [0, 0], "{number}");
            assert_eq!(request.last(), Some(&b'x'));
        }
    }

    #[test]
    fn a_request_is_acknowledged_with_its_last_message() {
        let mut acks = Acks::of_requests_of(2);
        acks.buffer.extend_from_slice(&[PUBACK, 2, 0, 1, PUBACK, 2, 0, 2, PUBACK, 2]);
        assert!(acks.next().unwrap());
        assert!(!acks.next().unwrap());
        acks.buffer.clear();
        acks.buffer.extend_from_slice(&[PUBLISH_QOS_1, 2, 0, 1]);
        assert!(acks.next().is_err());
    }
}
