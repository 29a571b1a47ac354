//! What a client needs to know before it can speak: where, whom to believe, how patient to be.
//!
//! Values only; nothing is connected or resolved here.

use crate::certificate::ClientCertificate;
use crate::congestion::Congestion;
use crate::login::Login;
use crate::quic::QuicSocket;
use crate::trust::Trust;
use crate::url::{BrokerUrl, UrlError, parse_bootstrap};
use millpond_wire::limits;
use std::time::Duration;

/// Settings of a [`crate::Client`] and of everything built on it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The brokers to ask first; one that answers is enough.
    pub bootstrap: Vec<BrokerUrl>,
    /// Whom to believe over TLS and QUIC.
    pub trust: Trust,
    /// Who to log in as (SASL), where the broker asks; `None`: nobody, or whoever the line shows.
    pub login: Option<Login>,
    /// How the broker names this client in its logs and metrics.
    pub client_id: String,
    /// Time for name resolution, handshakes and version negotiation together.
    pub connect_timeout: Duration,
    /// Time within which a request must be answered; a connection that is slower is given up.
    pub request_timeout: Duration,
    /// Age at which topic metadata is asked for anew.
    pub metadata_max_age: Duration,
    /// How often a quiet QUIC connection shows that it lives. Translators of addresses should keep a
    /// UDP flow for two minutes (RFC 4787, REQ-5) and many keep it for 30 s; the default also fits
    /// twice into the idle timeout. `None`: never, which costs nothing and lets the connection go
    /// after the idle timeout.
    pub quic_keep_alive: Option<Duration>,
    /// Silence after which a QUIC connection counts as dead.
    pub quic_idle_timeout: Duration,
    /// By what QUIC decides how fast to send. TCP's is the system's.
    pub quic_congestion: Congestion,
    /// For `millpond://`: how long QUIC is tried alone before TLS over TCP is tried too.
    pub quic_head_start: Duration,
    /// For `millpond://`: the first pause before QUIC is tried again while TLS over TCP serves; it
    /// doubles, up to 32 times that.
    pub quic_probe_interval: Duration,
    /// Whether a dial to a broker that was reached before over QUIC sends its first requests with its
    /// first packets (0-RTT). The broker serves those of them at once that change nothing when
    /// somebody sends a recording of them, and the others a round trip later. Without a login only.
    pub quic_early_data: bool,
    /// The UDP socket to use, where many clients of one process share one; `None`: an own one.
    pub quic_socket: Option<QuicSocket>,
    /// The certificate that this client shows over TLS and QUIC where it is asked for one.
    pub certificate: Option<ClientCertificate>,
}

impl ClientConfig {
    /// The defaults for brokers given as in [`crate::url`], comma-separated, for example
    /// `quic://127.0.0.1:9092`.
    ///
    /// # Errors
    /// If the list is empty or an address is malformed.
    pub fn new(bootstrap: &str) -> Result<Self, UrlError> {
        Ok(Self {
            bootstrap: parse_bootstrap(bootstrap)?,
            trust: Trust::Nothing,
            login: None,
            client_id: "millpond".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_millis(limits::DEFAULT_CLIENT_REQUEST_MS),
            metadata_max_age: Duration::from_secs(300),
            quic_keep_alive: Some(Duration::from_secs(8)),
            quic_idle_timeout: Duration::from_secs(20),
            quic_congestion: Congestion::default(),
            quic_head_start: Duration::from_millis(750),
            quic_probe_interval: Duration::from_secs(30),
            quic_early_data: true,
            quic_socket: None,
            certificate: None,
        })
    }

    /// Sets whom to believe.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets who to log in as (SASL), on every line.
    #[must_use]
    pub fn login(mut self, login: Login) -> Self {
        self.login = Some(login);
        self
    }

    /// Sets the certificate that this client shows, over TLS and QUIC.
    #[must_use]
    pub fn certificate(mut self, certificate: ClientCertificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Sets the client id.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Sets the time for a connection.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the time for an answer.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Shares a UDP socket with other clients of this process.
    #[must_use]
    pub fn quic_socket(mut self, socket: QuicSocket) -> Self {
        self.quic_socket = Some(socket);
        self
    }

    /// Sets by what QUIC decides how fast to send.
    #[must_use]
    pub fn quic_congestion(mut self, congestion: Congestion) -> Self {
        self.quic_congestion = congestion;
        self
    }

    /// Sets whether requests may go with the first packets of a dial (0-RTT).
    #[must_use]
    pub fn quic_early_data(mut self, is_wished: bool) -> Self {
        self.quic_early_data = is_wished;
        self
    }

    /// Sets (or with `None` stops) the sign of life of quiet QUIC connections.
    #[must_use]
    pub fn quic_keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.quic_keep_alive = interval;
        self
    }
}
