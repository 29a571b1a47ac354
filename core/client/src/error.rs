//! What can go wrong between a client and a broker, one small enum per operation.
//!
//! Each error says what happened, to what, and whether trying again can help
//! (`is_retriable`). None of them ever carries record contents.

use crate::login::LoginError;
use crate::trust::TrustError;
use crate::url::BrokerUrl;
use millpond_wire::{ApiKey, DecodeError, ErrorCode};
use std::sync::Arc;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host's name has no address.
    #[error("{broker}: the host cannot be resolved: {reason}")]
    Resolve {
        /// Which broker.
        broker: BrokerUrl,
        /// What the resolver said.
        reason: String,
    },
    /// The system or the peer refused, or the line broke.
    #[error("{broker}: cannot connect: {source}")]
    Io {
        /// Which broker.
        broker: BrokerUrl,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The handshake of TLS or QUIC failed; an untrusted certificate is named here.
    #[error("{broker}: the handshake failed: {reason}")]
    Handshake {
        /// Which broker.
        broker: BrokerUrl,
        /// What went wrong.
        reason: String,
    },
    /// Nothing usable came back in time.
    #[error(
        "{broker}: no connection within {after_ms} ms; is the broker running, and for QUIC is UDP let through?"
    )]
    Timeout {
        /// Which broker.
        broker: BrokerUrl,
        /// How long was waited.
        after_ms: u64,
    },
    /// The trust given cannot be used.
    #[error("{broker}: {source}")]
    Trust {
        /// Which broker.
        broker: BrokerUrl,
        /// What is wrong with it.
        source: TrustError,
    },
    /// Connected, but the peer does not negotiate versions as Kafka does.
    #[error("{broker}: connected, but the peer does not speak Kafka: {source}")]
    Negotiation {
        /// Which broker.
        broker: BrokerUrl,
        /// What the first exchange brought.
        source: Box<CallError>,
    },
    /// Connected, but not let in.
    #[error("{broker}: {source}")]
    Login {
        /// Which broker.
        broker: BrokerUrl,
        /// Why not.
        source: Box<LoginError>,
    },
    /// None of the brokers could be reached; the last error of each.
    #[error("no broker of {tried} can be reached; the last one said: {last}")]
    NoBroker {
        /// How many were tried.
        tried: usize,
        /// The last error.
        last: Box<ConnectError>,
    },
}

impl ConnectError {
    /// Whether the same attempt may succeed later. A wrong trust never heals by itself.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Io { .. } | Self::Timeout { .. } => true,
            Self::Handshake { .. } | Self::Trust { .. } => false,
            Self::Negotiation { source, .. } => source.is_retriable(),
            Self::Login { source, .. } => source.is_retriable(),
            Self::NoBroker { last, .. } => last.is_retriable(),
        }
    }
}

/// Why a request has no usable response.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The connection was lost before the response; whether the broker acted is not known.
    #[error("the connection to {broker} was lost before {api} was answered: {reason}")]
    Lost {
        /// Which broker.
        broker: BrokerUrl,
        /// The request.
        api: ApiKey,
        /// How it was lost.
        reason: Arc<str>,
    },
    /// No response in time; whether the broker acted is not known. The connection is given up.
    #[error("{broker} did not answer {api} within {after_ms} ms")]
    Timeout {
        /// Which broker.
        broker: BrokerUrl,
        /// The request.
        api: ApiKey,
        /// How long was waited.
        after_ms: u64,
    },
    /// The broker and this client have no version of the API in common; nothing was sent.
    #[error(
        "{broker} serves no version of {api} that this client speaks; upgrade the older of the two"
    )]
    Unsupported {
        /// Which broker.
        broker: BrokerUrl,
        /// The request.
        api: ApiKey,
    },
    /// The response cannot be read.
    #[error("{broker} answered {api} with bytes that cannot be read: {source}")]
    Malformed {
        /// Which broker.
        broker: BrokerUrl,
        /// The request.
        api: ApiKey,
        /// What is wrong with them.
        source: DecodeError,
    },
    /// The response is readable but not what was asked for.
    #[error("{broker} answered {api} with something else: {what}")]
    Unexpected {
        /// Which broker.
        broker: BrokerUrl,
        /// The request.
        api: ApiKey,
        /// What is wrong with it.
        what: &'static str,
    },
    /// As many requests are under way as were allowed; nothing was sent.
    #[error("{in_flight} requests to {broker} are under way already")]
    Busy {
        /// Which broker.
        broker: BrokerUrl,
        /// How many.
        in_flight: usize,
    },
}

impl CallError {
    /// Whether the same request may succeed on a new connection.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Timeout { .. } | Self::Busy { .. })
    }
}

/// Why an operation of the SDK failed: no line, no answer, or the broker said no.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No usable response.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The broker refused.
    #[error("{what}: {} ({code:?}){}", code.message(), detail(message))]
    Broker {
        /// What was asked, of what.
        what: String,
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// The cluster does not know it (yet).
    #[error("{what} is not known to the cluster")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// It did not come about in time.
    #[error("{what} did not succeed within {after_ms} ms; the last try said: {last}")]
    GaveUp {
        /// What was tried.
        what: String,
        /// For how long.
        after_ms: u64,
        /// The last error.
        last: Box<ClientError>,
    },
    /// A setting makes no sense.
    #[error("{setting}: {reason}")]
    Config {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// A refusal of the broker; `None` for [`ErrorCode::None`].
    pub(crate) fn refused(
        what: impl Into<String>,
        code: i16,
        message: Option<String>,
    ) -> Option<Self> {
        match ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => None,
            code => Some(Self::Broker { what: what.into(), code, message }),
        }
    }

    /// The code, if it was the broker that refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            Self::GaveUp { last, .. } => last.code(),
            _ => None,
        }
    }

    /// Whether trying again may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retriable(),
            Self::Call(error) => error.is_retriable(),
            Self::Broker { code, .. } => code.is_retriable(),
            Self::NotFound { .. } => true,
            Self::GaveUp { .. } | Self::Config { .. } => false,
        }
    }
}

fn detail(message: &Option<String>) -> String {
    message.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}
