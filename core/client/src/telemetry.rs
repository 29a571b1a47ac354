//! Telemetry that nobody waits for: records packed into QUIC datagrams, sent once. A lost datagram is
//! lost (the broker counts it); none holds up the next. For readings of which the newest matters;
//! what must arrive goes through [`crate::Producer`].
//!
//! It starts no task and keeps no more than one datagram for each broker: when one is full it goes,
//! and [`Telemetry::flush`] sends what is packed so far.

use crate::client::Client;
use crate::config::ClientConfig;
use crate::error::{ClientError, ConnectError};
use crate::metadata::Cluster;
use crate::producer::Record;
use bytes::Bytes;
use futures::future::join_all;
use millpond_wire::murmur2::partition_for_key;
use millpond_wire::record::{TelemetryPacker, TelemetryRecord};
use quinn::SendDatagramError;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// At the end, for the last datagrams to leave this machine.
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(5);
/// The library of QUIC does not tell when a datagram has left.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Why a record of telemetry was not packed or a datagram not sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TelemetryError {
    /// There is no way to the broker, or the topic is not there.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The broker, or the listener, takes no datagrams.
    #[error(
        "the broker takes no datagrams on this listener (it is none for QUIC, or one that asks for \
         a log-in); use a producer"
    )]
    Unsupported,
    /// The compact form has no headers.
    #[error("the record has headers, which telemetry has not; use a producer")]
    Headers,
    /// It does not fit into one datagram.
    #[error("the record fits into no datagram of {bytes_max} bytes; use a producer")]
    TooLarge {
        /// What the path takes.
        bytes_max: usize,
    },
    /// The partition has no leader for now.
    #[error("partition {partition} of topic `{topic}` has no leader")]
    NoLeader {
        /// Of the record.
        topic: Arc<str>,
        /// Where it was to go.
        partition: u32,
    },
    /// The connection broke; what was packed is lost. The next record dials anew.
    #[error("the connection was lost: {reason}")]
    Lost {
        /// How.
        reason: String,
    },
}

/// A sender of telemetry. See the head of this file for what it is not.
#[derive(Debug)]
pub struct Telemetry {
    client: Client,
    /// By broker.
    lines: HashMap<i32, Line>,
    /// For records without a key: one partition until the datagram is full.
    sticky: u32,
}

/// One connection, and the datagram that is being packed for it.
#[derive(Debug)]
struct Line {
    connection: quinn::Connection,
    packer: TelemetryPacker,
    /// Bytes of datagrams that may wait to be sent, while none does.
    room: usize,
}

impl Telemetry {
    /// A sender that has reached a broker. `config` must name it by `quic://`.
    ///
    /// # Errors
    /// [`ClientError`] of the first contact.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        Ok(Self { client: Client::connect(config).await?, lines: HashMap::new(), sticky: 0 })
    }

    /// Packs a record; sends what was packed before when there is no more room beside it. Without
    /// a timestamp the record has this machine's time.
    ///
    /// # Errors
    /// [`TelemetryError`]; the record is then not packed.
    pub async fn send(&mut self, record: Record) -> Result<(), TelemetryError> {
        if !record.headers.is_empty() {
            return Err(TelemetryError::Headers);
        }
        let cluster = self.picture_with(&record.topic).await?;
        let partitions = cluster.partitions(&record.topic).unwrap_or(1);
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => u32::try_from(partition).unwrap_or(u32::MAX),
            (None, Some(key)) => partition_for_key(key, partitions),
            (None, None) => self.sticky % partitions,
        };
        let index = i32::try_from(partition).unwrap_or(i32::MAX);
        let leader = cluster.leader(&record.topic, index).ok_or_else(|| {
            TelemetryError::NoLeader { topic: Arc::clone(&record.topic), partition }
        })?;
        let compact = TelemetryRecord {
            topic_id: cluster.topics.get(&record.topic).map(|topic| topic.id).unwrap_or_default(),
            partition: index,
            timestamp_ms: record.timestamp_ms.unwrap_or_else(now_ms),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
        };
        let line = self.line(leader).await?;
        if line.packer.push(&compact) {
            return Ok(());
        }
        line.flush().await?;
        let is_packed = line.packer.push(&compact);
        let bytes_max = line.bytes_max()?;
        // The next records without a key go elsewhere.
        self.sticky = self.sticky.wrapping_add(1);
        if is_packed { Ok(()) } else { Err(TelemetryError::TooLarge { bytes_max }) }
    }

    /// Sends what is packed. Waits only where more was sent than the path takes.
    ///
    /// # Errors
    /// [`TelemetryError::Lost`]; other brokers are sent theirs all the same.
    pub async fn flush(&mut self) -> Result<(), TelemetryError> {
        let mut result = Ok(());
        for line in self.lines.values_mut() {
            let sent = line.flush().await;
            result = result.and(sent);
        }
        self.sticky = self.sticky.wrapping_add(1);
        result
    }

    /// Sends what is packed and closes the connections once it is on its way.
    pub async fn close(mut self) {
        // There is nobody left to tell what was lost.
        let _ = self.flush().await;
        let all_sent = join_all(self.lines.values().map(Line::sent));
        let _ = tokio::time::timeout(LEAVE_WAIT_MAX, all_sent).await;
        self.client.close().await;
    }

    async fn picture_with(&self, topic: &Arc<str>) -> Result<Arc<Cluster>, ClientError> {
        let cluster = self.client.cluster();
        match cluster.topics.contains_key(topic) {
            true => Ok(cluster),
            false => self.client.refresh(std::slice::from_ref(topic), true).await,
        }
    }

    async fn line(&mut self, broker_id: i32) -> Result<&mut Line, TelemetryError> {
        let is_live = |line: &Line| line.connection.close_reason().is_none();
        if !self.lines.get(&broker_id).is_some_and(is_live) {
            let connection = self.client.quic_connection(broker_id).await?;
            let connection = connection.ok_or(TelemetryError::Unsupported)?;
            let bytes_max = connection.max_datagram_size().ok_or(TelemetryError::Unsupported)?;
            let room = connection.datagram_send_buffer_space();
            let line = Line { connection, packer: TelemetryPacker::new(bytes_max), room };
            self.lines.insert(broker_id, line);
        }
        self.lines.get_mut(&broker_id).ok_or(TelemetryError::Unsupported)
    }
}

impl Line {
    /// Waits until no datagram waits any more: a connection that is closed forgets them.
    async fn sent(&self) {
        let is_sent = || self.connection.datagram_send_buffer_space() >= self.room;
        while !is_sent() && self.connection.close_reason().is_none() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn bytes_max(&self) -> Result<usize, TelemetryError> {
        self.connection.max_datagram_size().ok_or(TelemetryError::Unsupported)
    }

    async fn flush(&mut self) -> Result<(), TelemetryError> {
        if let Some(datagram) = self.packer.take() {
            let sent = self.connection.send_datagram_wait(Bytes::from(datagram)).await;
            match sent {
                // The path takes less than it did when this was packed: it is lost, as others are.
                Ok(()) | Err(SendDatagramError::TooLarge) => {}
                Err(SendDatagramError::ConnectionLost(error)) => {
                    return Err(TelemetryError::Lost { reason: error.to_string() });
                }
                Err(_) => return Err(TelemetryError::Unsupported),
            }
        }
        let bytes_max = self.bytes_max()?;
        self.packer.set_bytes_max(bytes_max);
        Ok(())
    }
}

impl From<ConnectError> for TelemetryError {
    fn from(error: ConnectError) -> Self {
        Self::Client(error.into())
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
