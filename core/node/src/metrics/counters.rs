//! What connections and requests count as they go: atomics, shared by every thread, never a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use millpond_wire::api::{APIS, ApiKey};

use super::certificates::CertificateBoard;

/// How a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionKind {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// A stream of QUIC.
    Quic,
}

/// Why a connection was not served, or not any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A limit on connections was reached.
    Limit,
    /// Too many new connections came from one address.
    Rate,
    /// What came is not the Kafka protocol.
    Malformed,
    /// The peer was too slow to send or to receive.
    Slow,
    /// The TLS or QUIC handshake failed.
    Handshake,
    /// The peer did not prove who it is.
    Authentication,
}

impl ConnectionKind {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Tls, Self::Quic];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Quic => "quic",
        }
    }
}

impl Refusal {
    pub(crate) const ALL: [Self; 6] = [
        Self::Limit,
        Self::Rate,
        Self::Malformed,
        Self::Slow,
        Self::Handshake,
        Self::Authentication,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Rate => "rate",
            Self::Malformed => "malformed",
            Self::Slow => "slow",
            Self::Handshake => "handshake",
            Self::Authentication => "authentication",
        }
    }
}

/// What came in datagrams.
#[derive(Debug, Default)]
pub(crate) struct TelemetryCounters {
    /// Datagrams taken.
    pub(crate) datagrams: AtomicU64,
    /// Datagrams that were numbered and never came, or came and were pushed out.
    pub(crate) missing: AtomicU64,
    /// Datagrams that came before.
    pub(crate) repeated: AtomicU64,
    /// Datagrams that are none.
    pub(crate) malformed: AtomicU64,
    /// Records committed.
    pub(crate) stored: AtomicU64,
    /// Records that their partition did not take.
    pub(crate) refused: AtomicU64,
}

/// What became of requests that came before the end of a handshake.
#[derive(Debug, Default)]
pub(crate) struct EarlyCounters {
    /// Served at once: a repetition would change nothing.
    pub(crate) served: AtomicU64,
    /// Held until the end of the handshake.
    pub(crate) held: AtomicU64,
    /// Those of them whose handshake did not come to its end.
    pub(crate) dropped: AtomicU64,
}

/// Everything that is counted on the way.
#[derive(Debug)]
pub(crate) struct Counters {
    /// What is known of certificates; set a few times an hour.
    pub(crate) certificates: CertificateBoard,
    open: [AtomicU64; ConnectionKind::ALL.len()],
    accepted: [AtomicU64; ConnectionKind::ALL.len()],
    refused: [AtomicU64; Refusal::ALL.len()],
    requests: Vec<AtomicU64>,
    pub(crate) telemetry: TelemetryCounters,
    pub(crate) early: EarlyCounters,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    /// HTTP requests that a rule of access refused.
    pub(crate) http_denials: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            open: Default::default(),
            accepted: Default::default(),
            refused: Default::default(),
            requests: APIS.iter().map(|_| AtomicU64::new(0)).collect(),
            certificates: CertificateBoard::default(),
            telemetry: TelemetryCounters::default(),
            early: EarlyCounters::default(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            http_denials: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// A connection is served from here on.
    pub(crate) fn opened(&self, kind: ConnectionKind) {
        self.open[kind as usize].fetch_add(1, Relaxed);
        self.accepted[kind as usize].fetch_add(1, Relaxed);
    }

    /// A served connection ended.
    pub(crate) fn closed(&self, kind: ConnectionKind) {
        self.open[kind as usize].fetch_sub(1, Relaxed);
    }

    /// A connection was refused or ended by us.
    pub(crate) fn refused(&self, why: Refusal) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    /// A request was decoded.
    pub(crate) fn request(&self, api: ApiKey) {
        if let Some(counter) =
            APIS.iter().position(|spec| spec.key == api).and_then(|i| self.requests.get(i))
        {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn open_now(&self, kind: ConnectionKind) -> u64 {
        self.open[kind as usize].load(Relaxed)
    }

    pub(crate) fn accepted_so_far(&self, kind: ConnectionKind) -> u64 {
        self.accepted[kind as usize].load(Relaxed)
    }

    pub(crate) fn refused_so_far(&self, why: Refusal) -> u64 {
        self.refused[why as usize].load(Relaxed)
    }

    /// Requests so far, by API.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        APIS.iter().zip(&self.requests).map(|(spec, n)| (spec.name, n.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_counted_while_it_is_open_and_ever_after() {
        let counters = Counters::default();
        counters.opened(ConnectionKind::Quic);
        counters.opened(ConnectionKind::Quic);
        counters.closed(ConnectionKind::Quic);
        assert_eq!(counters.open_now(ConnectionKind::Quic), 1);
        assert_eq!(counters.accepted_so_far(ConnectionKind::Quic), 2);
        assert_eq!(counters.open_now(ConnectionKind::Tcp), 0);
    }

    #[test]
    fn requests_are_counted_by_api() {
        let counters = Counters::default();
        counters.request(ApiKey::Produce);
        assert!(counters.requests().any(|sample| sample == ("Produce", 1)));
        assert!(counters.requests().any(|sample| sample == ("Fetch", 0)));
    }
}
