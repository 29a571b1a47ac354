//! The protocols that loads speak, and what comes back over one connection: acknowledgements in the
//! order of the requests. Must never count a refusal as one.

use std::net::{SocketAddr, TcpStream};

use bytes::BytesMut;
use millpond_wire::ApiKey;
use millpond_wire::frame::{FrameDecoder, decode_response};

use super::frames::Expected;
use super::{mqtt, nats};
use crate::error::{Context, Outcome};

/// How a broker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// Kafka's protocol.
    Kafka,
    /// NATS, with JetStream.
    Nats,
    /// MQTT 3.1.1 with QoS 1.
    Mqtt,
}

impl Language {
    /// Connects as the n-th line of a load, ready to send requests.
    pub(crate) fn connect(self, broker: SocketAddr, line: usize) -> Outcome<TcpStream> {
        match self {
            Self::Kafka => {
                let socket = TcpStream::connect(broker).context("connecting")?;
                socket.set_nodelay(true).context("a socket's option")?;
                Ok(socket)
            }
            Self::Nats => nats::connect(broker, line),
            Self::Mqtt => mqtt::connect(broker),
        }
    }
}

/// What comes back over one connection.
pub(crate) enum Answers {
    Kafka { decoder: FrameDecoder, api: ApiKey, expected: Expected },
    Nats(nats::Acks),
    Mqtt(mqtt::Acks),
}

impl Answers {
    /// Where to read into.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        const ROOM_BYTES: usize = 16 * 1024;
        let buffer = match self {
            Self::Kafka { decoder, .. } => return decoder.space(),
            Self::Nats(acks) => &mut acks.buffer,
            Self::Mqtt(acks) => &mut acks.buffer,
        };
        buffer.reserve(ROOM_BYTES);
        buffer
    }

    /// What was read elsewhere.
    pub(crate) fn extend(&mut self, received: &[u8]) {
        match self {
            Self::Kafka { decoder, .. } => decoder.extend(received),
            Self::Nats(acks) => acks.buffer.extend_from_slice(received),
            Self::Mqtt(acks) => acks.buffer.extend_from_slice(received),
        }
    }

    /// Whether one more request was acknowledged. An error if it was refused.
    pub(crate) fn next(&mut self) -> Outcome<bool> {
        match self {
            Self::Kafka { decoder, api, expected } => {
                let Some(answer) = decoder.next_frame().context("receiving")? else {
                    return Ok(false);
                };
                let decoded = decode_response(*api, expected.version, answer);
                let answer = decoded.context(format!("reading the answer to {api:?}"))?.1;
                (expected.check)(answer)?;
                Ok(true)
            }
            Self::Nats(acks) => acks.next(),
            Self::Mqtt(acks) => acks.next(),
        }
    }
}

/// Counts acknowledgements of parts of a request, where each part has its own.
pub(crate) struct Parts {
    each: usize,
    counted: usize,
}

impl Parts {
    /// Requests of so many parts.
    pub(crate) fn of(each: usize) -> Self {
        Self { each: each.max(1), counted: 0 }
    }

    /// One more came; whether the request is acknowledged with it.
    pub(crate) fn is_last(&mut self) -> bool {
        self.counted = (self.counted + 1) % self.each;
        self.counted == 0
    }
}
