//! The network: listeners for TCP, TLS and QUIC, and the one loop that serves a Kafka connection
//! over any of them, after asking who is there where that is wished. Decides nothing about data:
//! requests go to the engine, replies come back in order.

mod admission;
mod answers;
mod budget;
pub(crate) mod certificates;
mod complaint;
mod connection;
mod early;
mod gateway;
mod login;
pub(crate) mod quic;
mod quic_transport;
mod rate;
mod responses;
pub(crate) mod tcp;
mod telemetry;
#[cfg(test)]
mod test_peer;
mod token_keys;
mod users;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use millpond_engine::{ListenerId, SessionId};
use millpond_wire::limits::SHUTDOWN_GRACE_MS_MAX;
use tokio::sync::watch;

pub(crate) use admission::Admission;
pub(crate) use answers::Answers;
pub(crate) use budget::Budget;
pub(crate) use certificates::{Chain, Force, InForce, Revocable, certified, fallen};
pub(crate) use complaint::Complaints;
pub(crate) use connection::{Shown, serve_connection};
pub(crate) use gateway::{Call, EngineGone, Gateway};
pub(crate) use login::{Logins, Offer};
pub(crate) use telemetry::serve_telemetry;
pub(crate) use token_keys::TokenKeys;
pub(crate) use users::KnownUsers;

use crate::config::Limits;
use crate::metrics::{ConnectionKind, Counters, NetCounts};

/// What every connection shares.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) counters: Arc<Counters>,
    pub(crate) times: Times,
    pub(crate) request_bytes_max: usize,
    pub(crate) requests_in_flight_max: usize,
    /// Bytes of requests in memory, over all connections.
    pub(crate) budget: Budget,
    /// Bytes of answers in memory, over all connections.
    pub(crate) answers: Answers,
    /// Bytes of telemetry that came and are not committed yet, over all connections.
    pub(crate) telemetry_waiting_bytes: AtomicUsize,
    pub(crate) complaints: Complaints,
    pub(crate) logins: Logins,
    /// True once the node stops: no request is read any more.
    pub(crate) stop: watch::Receiver<bool>,
    next_session: AtomicU64,
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) handshake: Duration,
    pub(crate) first_request: Duration,
    pub(crate) request: Duration,
    pub(crate) write: Duration,
    pub(crate) idle: Duration,
    /// For answers under way when a connection ends from our side.
    pub(crate) grace: Duration,
}

/// Which connection this is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    pub(crate) session: SessionId,
    pub(crate) listener: ListenerId,
    pub(crate) address: SocketAddr,
    pub(crate) kind: ConnectionKind,
}

impl Who {
    /// The address, as rules of access have it.
    pub(crate) fn host(&self) -> String {
        self.address.ip().to_canonical().to_string()
    }
}

impl Wiring {
    pub(crate) fn new(
        limits: &Limits,
        logins: Logins,
        counters: Arc<Counters>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            counters,
            times: Times {
                handshake: Duration::from_millis(limits.handshake_ms),
                first_request: Duration::from_millis(limits.first_request_ms),
                request: Duration::from_millis(limits.request_ms),
                write: Duration::from_millis(limits.write_ms),
                idle: Duration::from_millis(limits.idle_ms),
                grace: Duration::from_millis(SHUTDOWN_GRACE_MS_MAX),
            },
            request_bytes_max: limits.request_bytes_max.as_usize(),
            requests_in_flight_max: limits.requests_in_flight_max,
            budget: Budget::new(limits.request_bytes_in_flight_max.as_usize()),
            answers: Answers::new(limits.answer_bytes_in_flight_max.as_usize()),
            telemetry_waiting_bytes: AtomicUsize::new(0),
            complaints: Complaints::default(),
            logins,
            stop,
            next_session: AtomicU64::new(1),
        }
    }

    /// What a scrape tells of what is shared.
    pub(crate) fn counts(&self) -> NetCounts {
        NetCounts {
            logins: self.logins.counts(),
            answer_bytes: self.answers.held_bytes(),
            telemetry_waiting_bytes: self.telemetry_waiting_bytes.load(Relaxed) as u64,
            answers_shed: self.answers.shed(),
        }
    }

    /// A name for a new connection or stream.
    pub(crate) fn who(
        &self,
        listener: ListenerId,
        address: SocketAddr,
        kind: ConnectionKind,
    ) -> Who {
        Who { session: SessionId(self.next_session.fetch_add(1, Relaxed)), listener, address, kind }
    }
}
