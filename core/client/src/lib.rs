//! The SDK of Millpond.

pub mod admin;
pub mod client;
pub mod config;
pub mod connection;
pub mod error;
pub mod metadata;
pub mod producer;
pub mod quic;
pub mod trust;
pub mod url;

mod transport;

pub use admin::{Admin, NewTopic, OffsetSpec};
pub use client::Client;
pub use config::ClientConfig;
pub use connection::{Connection, PendingCall};
pub use error::{CallError, ClientError, ConnectError};
pub use producer::{
    Acks, Delivery, DeliveryError, DeliveryFuture, Producer, ProducerBuilder, ProducerMetrics,
    Record, SendError, TrySendError,
};
pub use quic::QuicSocket;
pub use trust::{Fingerprint, Trust, TrustError};
pub use url::{BrokerUrl, Scheme};
