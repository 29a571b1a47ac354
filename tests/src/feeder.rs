//! Feeds topics with given records, each once and in order, whatever becomes of the broker: an
//! idempotent producer that sends a batch again until it is acknowledged. Never chooses what it
//! sends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millpond_wire::ErrorCode;
use millpond_wire::record::{BatchBuilder, Codec};

use crate::broker::PATIENCE;
use crate::kafka::{CallError, Kafka};
use crate::log::Log;

/// A record as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which topic.
    pub topic: &'static str,
    /// Which partition.
    pub partition: i32,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// One idempotent producer.
pub struct Feeder {
    address: SocketAddr,
    /// The broker's: a line in it is an occasion to try again.
    log: Log,
    kafka: Option<Kafka>,
    id: Option<(i64, i16)>,
    sequences: BTreeMap<(&'static str, i32), i32>,
}

impl Feeder {
    /// It connects when it has something to send.
    pub fn new(address: SocketAddr, log: Log) -> Feeder {
        Feeder { address, log, kafka: None, id: None, sequences: BTreeMap::new() }
    }

    /// Send these in their order, `batch` to a partition at a time, until all are acknowledged.
    #[track_caller]
    pub fn feed(&mut self, messages: &[Message], batch: usize) {
        let mut waiting: BTreeMap<(&'static str, i32), Vec<&Message>> = BTreeMap::new();
        for message in messages {
            let at = (message.topic, message.partition);
            let some = waiting.entry(at).or_default();
            some.push(message);
            if some.len() == batch {
                let some = std::mem::take(some);
                self.send(at, &some);
            }
        }
        for (at, some) in waiting {
            if !some.is_empty() {
                self.send(at, &some);
            }
        }
    }

    #[track_caller]
    fn send(&mut self, at: (&'static str, i32), messages: &[&Message]) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.try_to_send(at, messages) {
                Ok(_) => break,
                Err(error) if is_passing(&error) && Instant::now() < give_up => {
                    self.kafka = None;
                    self.log.wait_for_news(Duration::from_millis(50));
                }
                Err(error) => panic!("{at:?}: {error}"),
            }
        }
        *self.sequences.entry(at).or_default() += messages.len() as i32;
    }

    fn try_to_send(
        &mut self,
        at: (&'static str, i32),
        messages: &[&Message],
    ) -> Result<i64, CallError> {
        let kafka = match &mut self.kafka {
            Some(kafka) => kafka,
            none => none.insert(Kafka::connect(self.address, PATIENCE)?),
        };
        let id = match self.id {
            Some(id) => id,
            None => *self.id.insert(kafka.new_producer_id()?),
        };
        let sequence = self.sequences.get(&at).copied().unwrap_or_default();
        kafka.produce_bytes(at.0, at.1, batch_of(messages, id, sequence)?)
    }
}

/// Whether the same may succeed later.
fn is_passing(error: &CallError) -> bool {
    match error {
        CallError::Socket(_) => true,
        CallError::Code(code) => *code == ErrorCode::NotLeaderOrFollower,
        CallError::Nonsense(_) => false,
    }
}

fn batch_of(messages: &[&Message], id: (i64, i16), sequence: i32) -> Result<Bytes, CallError> {
    let nonsense = |error: &dyn std::fmt::Display| CallError::Nonsense(error.to_string());
    let mut builder = BatchBuilder::new(Codec::None, None).with_producer(id.0, id.1, sequence);
    for message in messages {
        let (key, value) = (message.key.as_bytes(), message.value.as_bytes());
        let pushed = builder.push(message.timestamp_ms, Some(key), Some(value), &[]);
        pushed.map_err(|error| nonsense(&error))?;
    }
    builder.build().map_err(|error| nonsense(&error))
}
