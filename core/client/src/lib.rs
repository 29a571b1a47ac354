//! The SDK of Millpond: produce, consume and administer over QUIC, TLS or TCP, in the Kafka
//! protocol, against Millpond or anything else that speaks it.
//!
//! It never starts a thread (its tasks run on your tokio runtime, `current_thread` or not), never
//! holds more memory than it was given, and never trusts a broker that you have not named.
//!
//! # Where and whom to trust
//! `quic://host:port`, `tls://host:port` or `tcp://host:port`, several separated by commas; or
//! `millpond://host:port`, which takes QUIC where UDP passes, TLS over TCP where it does not, and goes
//! back to QUIC when it can. For QUIC and TLS say whom to believe: the [`Fingerprint`] that
//! `millpond serve` prints, or the PEM of an authority.
//!
//! # Producing
//! [`Producer::send`] takes a [`Record`] and returns a [`DeliveryFuture`]: the record is on its way,
//! and the future brings its [`Delivery`] (partition, offset) or says why there is none, and whether
//! it [may be written all the same](DeliveryError::may_be_written). Records gather in batches for
//! each partition (`linger`, `batch_bytes`); with idempotence, the default, retries neither double
//! nor reorder them. When `buffer_bytes` are waiting, `send` waits too: that is backpressure, and
//! [`Producer::try_send`] is for those who would rather be told.
//!
//! ```no_run
//! use millpond_client::{ClientConfig, Codec, Producer, Record, Trust};
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ClientConfig::new("quic://127.0.0.1:9092")?
//!     .trust(Trust::fingerprint("9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:\
//!                                A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08")?)
//!     .client_id("boiler-room");
//! let producer = Producer::builder()
//!     .compression(Codec::Zstd)
//!     .linger(Duration::from_millis(20))
//!     .buffer_bytes(4 * 1024 * 1024)
//!     .connect(config)
//!     .await?;
//!
//! // Many at once: each `send` returns as soon as there is room in the buffer.
//! let mut deliveries = Vec::new();
//! for reading in [20.5, 20.7, 21.0] {
//!     let record = Record::to("telemetry").key("boiler-1").value(reading.to_string());
//!     deliveries.push(producer.send(record).await?);
//! }
//! for delivery in deliveries {
//!     match delivery.await {
//!         // No offset: a transform of the broker changed or dropped the record.
//!         Ok(delivery) => println!("partition {}: {:?}", delivery.partition, delivery.offset),
//!         Err(error) if error.may_be_written() => println!("in doubt: {error}"),
//!         Err(error) => println!("not written, safe to send again: {error}"),
//!     }
//! }
//! producer.close().await;
//! # Ok(()) }
//! ```
//!
//! # Consuming
//! [`Consumer::poll`] returns records, [`Consumer::commit`] remembers for the group what was
//! returned; see [`Consumer`].
//!
//! # Administering
//! [`Admin`] creates, lists, describes and deletes topics and groups; see there.
//!
//! # Below
//! [`Client`] shares lines and metadata between all of these; [`Connection`] is one Kafka
//! connection, for tools that speak the protocol themselves. Over QUIC every lane of a client is a
//! stream of one connection to that broker, so that a slow answer on one never delays another;
//! [`QuicSocket`] lets many clients of one process share a UDP socket.

pub mod admin;
pub mod certificate;
pub mod client;
pub mod config;
pub mod congestion;
pub mod connection;
pub mod consumer;
pub mod error;
pub mod login;
pub mod metadata;
pub mod producer;
pub mod quic;
mod resumption;
pub mod spill;
pub mod telemetry;
pub mod trust;
pub mod url;

mod path;
mod transport;

pub use admin::{
    Acl, AclFilter, Admin, NewCredential, NewTopic, OffsetSpec, ScramMechanism, User,
    UserCredential,
};
pub use certificate::ClientCertificate;
pub use client::Client;
pub use config::ClientConfig;
pub use congestion::Congestion;
pub use connection::{Connection, PendingCall};
pub use consumer::{
    ConsumedRecord, Consumer, ConsumerBuilder, GroupProtocol, OffsetReset, Rebalance,
};
pub use error::{CallError, ClientError, ConnectError};
pub use login::{Login, LoginError, Mechanism};
pub use millpond_wire::ErrorCode;
pub use millpond_wire::record::Codec;
pub use producer::{
    Acks, Delivery, DeliveryError, DeliveryFuture, GroupPlace, Producer, ProducerBuilder,
    ProducerMetrics, Record, SendError, TransactionError, TransactionalProducer, TrySendError,
};
pub use quic::QuicSocket;
pub use spill::{Spill, SpillBuilder, SpillError, SpillMetrics, WhenFull};
pub use telemetry::{Telemetry, TelemetryError};
pub use trust::{Fingerprint, Trust, TrustError};
pub use url::{BrokerUrl, Scheme};
