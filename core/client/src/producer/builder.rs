//! The settings of a producer and their defaults, named as in Kafka where Kafka has them.

use super::Producer;
use super::accumulator::Policy;
use super::transaction::TransactionalProducer;
use crate::client::Client;
use crate::config::ClientConfig;
use crate::error::ClientError;
use millpond_wire::limits;
use millpond_wire::record::Codec;
use std::time::Duration;

/// When a record counts as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// As soon as it is sent; losses go unseen, and there is no offset.
    None,
    /// When the partition's leader has it.
    Leader,
    /// When every replica in sync has it.
    All,
}

impl Acks {
    pub(super) fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// Makes a [`Producer`]. Every setting has a default that keeps records safe.
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    pub(super) acks: Acks,
    pub(super) codec: Codec,
    level: Option<i32>,
    batch_bytes: usize,
    linger: Duration,
    pub(super) buffer_bytes: usize,
    pub(super) delivery_timeout: Duration,
    retry_backoff: Duration,
    retries: u32,
    pub(super) max_in_flight: usize,
    idempotence: Option<bool>,
    request_bytes: usize,
    pub(super) transactional_id: Option<String>,
    pub(super) transaction_timeout: Duration,
}

impl Default for ProducerBuilder {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            codec: Codec::None,
            level: None,
            batch_bytes: limits::DEFAULT_CLIENT_BATCH_BYTES,
            linger: Duration::from_millis(limits::DEFAULT_CLIENT_LINGER_MS),
            buffer_bytes: limits::DEFAULT_CLIENT_BUFFER_BYTES,
            delivery_timeout: Duration::from_millis(limits::DEFAULT_CLIENT_DELIVERY_MS),
            retry_backoff: Duration::from_millis(50),
            retries: u32::MAX,
            max_in_flight: limits::CLIENT_REQUESTS_IN_FLIGHT_MAX,
            idempotence: None,
            request_bytes: limits::DEFAULT_MAX_MESSAGE_BYTES,
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
        }
    }
}

impl ProducerBuilder {
    /// Sets when a record counts as delivered. Default: [`Acks::All`]. Anything less switches
    /// idempotence off.
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Sets the compression of batches. Default: none.
    #[must_use]
    pub fn compression(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the level of gzip or zstd. Default: the codec's own.
    #[must_use]
    pub fn compression_level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Sets the size, before compression, at which a batch is sent without waiting longer.
    /// Default: 64 KiB.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Sets how long a batch waits for more records. Default: 5 ms.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets how many bytes of records are held before `send` waits. Default: 32 MiB.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Sets the time within which a record is delivered or given up. Default: two minutes.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Sets the first pause before a retry; it doubles up to a second. Default: 50 ms.
    #[must_use]
    pub fn retry_backoff(mut self, pause: Duration) -> Self {
        self.retry_backoff = pause;
        self
    }

    /// Sets how often a batch is tried again, within the delivery timeout. Default: no limit.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets how many requests to a broker may be unanswered, 1 to 5. Default: 5.
    #[must_use]
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// Sets whether retries are free of duplicates. Default: yes with [`Acks::All`]. Without it
    /// a partition has one batch under way at a time, so that retries keep the order, and a
    /// retry may write twice.
    #[must_use]
    pub fn idempotence(mut self, on: bool) -> Self {
        self.idempotence = Some(on);
        self
    }

    /// Sets the name under which transactions outlive this program, for
    /// [`connect_transactional`](Self::connect_transactional): whoever uses it next fences this one.
    #[must_use]
    pub fn transactional_id(mut self, id: impl Into<String>) -> Self {
        self.transactional_id = Some(id.into());
        self
    }

    /// Sets after how long the broker aborts a transaction that is not ended. Default: a minute.
    #[must_use]
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.transaction_timeout = timeout;
        self
    }

    /// Makes a producer of transactions with lines of its own; a transaction that an earlier one of the
    /// same transactional id left open is aborted.
    ///
    /// # Errors
    /// [`ClientError::Config`] without a transactional id or with settings that make no sense, or what
    /// the broker says.
    pub async fn connect_transactional(
        self,
        config: ClientConfig,
    ) -> Result<TransactionalProducer, ClientError> {
        let id = self.transactional_id.clone().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| ClientError::Config {
            setting: "transactional_id",
            reason: "it must be set".to_owned(),
        })?;
        let timeout = self.transaction_timeout;
        let give_up = self.delivery_timeout;
        let policy = self.policy()?;
        if !policy.is_idempotent {
            let reason = "transactions need it".to_owned();
            return Err(ClientError::Config { setting: "idempotence", reason });
        }
        let client = Client::connect(config).await?;
        let producer = Producer::start(client, self, policy);
        TransactionalProducer::start(producer, id, timeout, give_up).await
    }

    /// Makes the producer with lines of its own.
    ///
    /// # Errors
    /// [`ClientError::Config`] for settings that make no sense, or the first contact's error.
    pub async fn connect(self, config: ClientConfig) -> Result<Producer, ClientError> {
        let client = Client::connect(config).await?;
        self.build(client)
    }

    /// Makes the producer on the lines of `client`, without contacting anybody yet. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Config`] for settings that make no sense.
    pub fn build(self, client: Client) -> Result<Producer, ClientError> {
        if self.transactional_id.is_some() {
            let reason = "use connect_transactional".to_owned();
            return Err(ClientError::Config { setting: "transactional_id", reason });
        }
        let policy = self.policy()?;
        Ok(Producer::start(client, self, policy))
    }

    fn policy(&self) -> Result<Policy, ClientError> {
        let refuse =
            |setting, reason: &str| Err(ClientError::Config { setting, reason: reason.to_owned() });
        let is_idempotent = self.idempotence.unwrap_or(self.acks == Acks::All);
        if is_idempotent && self.acks != Acks::All {
            return refuse("idempotence", "it needs acks = all");
        }
        if !(1..=limits::CLIENT_REQUESTS_IN_FLIGHT_MAX).contains(&self.max_in_flight) {
            return refuse("max_in_flight", "it must be from 1 to 5");
        }
        if self.batch_bytes == 0 || self.batch_bytes > limits::BATCH_BYTES_MAX {
            return refuse("batch_bytes", "it must be from 1 to 8 MiB");
        }
        if self.buffer_bytes == 0 || u32::try_from(self.buffer_bytes).is_err() {
            return refuse("buffer_bytes", "it must be above zero and below 4 GiB");
        }
        if self.delivery_timeout.is_zero() {
            return refuse("delivery_timeout", "it must be above zero");
        }
        let ms = crate::connection::millis;
        Ok(Policy {
            codec: self.codec,
            level: self.level,
            batch_bytes: self.batch_bytes,
            linger_ms: ms(self.linger),
            delivery_ms: ms(self.delivery_timeout),
            retry_backoff_ms: ms(self.retry_backoff).max(1),
            retry_backoff_max_ms: ms(self.retry_backoff).max(1_000),
            request_bytes: self.request_bytes,
            in_flight_per_partition: if is_idempotent { self.max_in_flight } else { 1 },
            is_idempotent,
            is_transactional: self.transactional_id.is_some(),
            retries: self.retries,
        })
    }
}
