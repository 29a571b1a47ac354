//! Values that parse but cannot be: contradictions, unsafe exposures, addresses that mean nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use millpond_cluster::HostPort;
use millpond_engine::Principal;
use millpond_security::CertificateNames;
use millpond_security::sasl::Mechanism;
use millpond_security::{ListenerLine, ListenerStanding, check_listener};
use millpond_wire::limits as caps;

use super::{ByteSize, ClientAuthMode, Config, ConfigError, CongestionChoice, Listener, TcpMode};
use crate::net::Offer;

/// A listener with its addresses parsed.
#[derive(Clone, Debug)]
pub(crate) struct CheckedListener {
    pub(crate) name: String,
    /// To bind.
    pub(crate) address: SocketAddr,
    /// To tell clients; none: whatever was bound (port 0 included).
    pub(crate) advertised: Option<HostPort>,
    pub(crate) tcp: TcpMode,
    pub(crate) quic: bool,
    pub(crate) congestion: CongestionChoice,
    /// Files of the certificate chain and its key; none: the development certificate.
    pub(crate) certificate: Option<(String, String)>,
    /// Reachable from other machines without an operator's certificate, because the configuration
    /// says so.
    pub(crate) insecure_by_wish: bool,
    /// By what clients prove who they are; none: they are not asked.
    pub(crate) offer: Option<Offer>,
    /// By which certificates; none: they are not asked for one.
    pub(crate) client_auth: Option<ClientAuth>,
    /// For signed tokens, where they are taken: file of keys, audience, issuer, claim.
    pub(crate) tokens: Option<[String; 4]>,
}

/// What a listener asks of certificates.
#[derive(Clone, Debug)]
pub(crate) struct ClientAuth {
    pub(crate) is_required: bool,
    /// File of the authorities.
    pub(crate) ca: String,
    /// File of their revocation lists, if there is one.
    pub(crate) crl: Option<String>,
    pub(crate) names: Arc<CertificateNames>,
}

impl CheckedListener {
    /// Whether nobody comes in without a name.
    pub(crate) fn asks_all(&self) -> bool {
        let is_plain = self.tcp == TcpMode::Plain;
        self.offer.is_some()
            || !is_plain && self.client_auth.as_ref().is_some_and(|asked| asked.is_required)
    }
}

/// Checks everything that types cannot.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    if config.node.id < 0 {
        return value("node.id", "a node id is 0 or more");
    }
    if config.node.data_dir.is_empty() {
        return value(
            "node.data_dir",
            "it is empty; name a directory, for example \"./millpond-data\"",
        );
    }
    if config.listeners.is_empty() {
        return value("listeners", "at least one [[listeners]] is needed");
    }
    let listeners = config.checked_listeners()?;
    for (i, a) in listeners.iter().enumerate() {
        let clash = |b: &&CheckedListener| a.address.port() != 0 && a.address == b.address;
        if let Some(b) = listeners.iter().skip(i + 1).find(clash) {
            return value(
                "listeners",
                format!("{} and {} both bind {}", a.name, b.name, a.address),
            );
        }
    }
    access(config, &listeners)?;
    devices(config)?;
    http(config)?;
    let partitions = u64::try_from(config.topics.partitions).unwrap_or(0);
    within("topics.partitions", partitions, 1, caps::PARTITIONS_PER_TOPIC_MAX as u64)?;
    journal(config)?;
    storage(config)?;
    groups(config)?;
    limits(config)
}

pub(super) fn listener(index: usize, listener: &Listener) -> Result<CheckedListener, ConfigError> {
    let key = |name: &str| format!("listeners[{index}].{name}");
    let address = socket(&key("address"), &listener.address)?;
    let advertised = match listener.advertised.as_str() {
        "" if address.ip().is_unspecified() => {
            return value(
                key("advertised"),
                "clients cannot connect to an address that means every interface; say which \
                 HOST:PORT they reach (--advertise)",
            );
        }
        "" => None,
        text => {
            Some(text.parse::<HostPort>().map_err(|e| wrong(key("advertised"), e.to_string()))?)
        }
    };
    let pair = |what: &str, file: &String| {
        (!file.is_empty()).then(|| file.clone()).ok_or_else(|| {
            wrong(key(what), "it is missing; certificate and private_key go together")
        })
    };
    let certificate = match (listener.certificate.is_empty(), listener.private_key.is_empty()) {
        (true, true) => None,
        _ => Some((
            pair("certificate", &listener.certificate)?,
            pair("private_key", &listener.private_key)?,
        )),
    };
    if listener.tcp == TcpMode::Off && !listener.quic {
        return value(key("tcp"), "tcp is off and quic is off: the listener would serve nobody");
    }
    let line = match (listener.tcp, &certificate) {
        (TcpMode::Plain, _) => ListenerLine::Plaintext,
        (_, None) => ListenerLine::DevelopmentCertificate,
        (_, Some(_)) => ListenerLine::OperatorCertificate,
    };
    let offer = offer(&key, listener)?;
    let client_auth = client_auth(&key, listener)?;
    let standing = check_listener(&listener.name, address.ip(), line, listener.insecure);
    let Ok(standing) = standing else { return exposed(&key, address, line) };
    Ok(CheckedListener {
        name: listener.name.clone(),
        address,
        advertised,
        tcp: listener.tcp,
        quic: listener.quic,
        congestion: listener.quic_congestion,
        certificate,
        insecure_by_wish: standing == ListenerStanding::InsecureByWish,
        tokens: offer
            .as_ref()
            .filter(|offer| offer.mechanisms.contains(&Mechanism::OauthBearer))
            .map(|_| {
                let (keys, audience) = (&listener.oauth_keys, &listener.oauth_audience);
                [keys, audience, &listener.oauth_issuer, &listener.oauth_principal_claim]
                    .map(String::clone)
            }),
        offer,
        client_auth,
    })
}

/// What a listener asks of its clients.
fn offer(key: &dyn Fn(&str) -> String, listener: &Listener) -> Result<Option<Offer>, ConfigError> {
    let mut mechanisms: Vec<Mechanism> = Vec::new();
    for name in &listener.sasl {
        match Mechanism::by_name(name) {
            Some(mechanism) if !mechanisms.contains(&mechanism) => mechanisms.push(mechanism),
            Some(_) => {}
            None => {
                let known = Mechanism::ALL.map(Mechanism::name).join(", ");
                return value(key("sasl"), format!("{name:?} is not offered; there are {known}"));
            }
        }
    }
    let is_bare = listener.tcp == TcpMode::Plain && !listener.insecure;
    let shows =
        |mechanism: &&Mechanism| matches!(mechanism, Mechanism::Plain | Mechanism::OauthBearer);
    if is_bare && let Some(mechanism) = mechanisms.iter().find(shows) {
        return value(
            key("sasl"),
            format!(
                "{0} sends what lets in as it is and tcp = \"plain\" shows that to everybody: set \
                 tcp = \"tls\", leave {0} out, or set insecure = true",
                mechanism.name()
            ),
        );
    }
    if mechanisms.contains(&Mechanism::OauthBearer) {
        let needed =
            [("oauth_keys", &listener.oauth_keys), ("oauth_audience", &listener.oauth_audience)];
        if let Some((name, _)) = needed.into_iter().find(|(_, set)| set.is_empty()) {
            return value(key(name), "OAUTHBEARER needs it");
        }
    }
    let session_ms = listener.connections_max_reauth_ms;
    within(&key("connections_max_reauth_ms"), session_ms, 0, 30 * DAY_MS)?;
    let session = (session_ms > 0).then(|| Duration::from_millis(session_ms));
    Ok((!mechanisms.is_empty()).then_some(Offer { mechanisms, session, tokens: None }))
}

/// What a listener asks of certificates.
fn client_auth(
    key: &dyn Fn(&str) -> String,
    listener: &Listener,
) -> Result<Option<ClientAuth>, ConfigError> {
    if listener.client_auth == ClientAuthMode::None {
        return match listener.client_crl.is_empty() {
            true => Ok(None),
            false => {
                value(key("client_crl"), "clients are not asked for certificates; set client_auth")
            }
        };
    }
    if listener.tcp == TcpMode::Plain && !listener.quic {
        return value(key("client_auth"), "certificates are shown within TLS or QUIC only");
    }
    if listener.client_ca.is_empty() {
        return value(key("client_ca"), "name the PEM file of the authorities that sign clients");
    }
    let most = caps::PRINCIPAL_RULES_MAX;
    if listener.client_name.is_empty() || listener.client_name_rules.len() > most {
        return value(key("client_name"), format!("one at least, and at most {most} rules"));
    }
    let names = CertificateNames::new(&listener.client_name, &listener.client_name_rules)
        .map_err(|problem| wrong(key("client_name"), problem))?;
    let is_required = listener.client_auth == ClientAuthMode::Required;
    let names = Arc::new(names);
    let crl = Some(listener.client_crl.clone()).filter(|file| !file.is_empty());
    Ok(Some(ClientAuth { is_required, ca: listener.client_ca.clone(), crl, names }))
}

/// Super users are principals, and nobody whom other machines can be without a word.
fn access(config: &Config, listeners: &[CheckedListener]) -> Result<(), ConfigError> {
    let (key, users) = ("access.super_users", &config.access.super_users);
    if users.len() > caps::SUPER_USERS_MAX {
        return value(key, format!("there can be {} at most", caps::SUPER_USERS_MAX));
    }
    if let Some(user) = users.iter().find(|user| Principal::parse(user).is_none()) {
        return value(key, format!("{user:?} is no principal; write \"User:NAME\""));
    }
    let open = listeners.iter().find(|one| !is_loopback(one.address.ip()) && !one.asks_all());
    match open {
        Some(open) if users.iter().any(|user| user == Principal::ANONYMOUS) => value(
            key,
            format!(
                "listener {:?} is beyond loopback and asks nobody who he is: whoever reaches it \
                 would be {}; give it sasl or client_auth = \"required\"",
                open.name,
                Principal::ANONYMOUS
            ),
        ),
        _ => Ok(()),
    }
}

/// The refusal of a listener that other machines could reach unprotected, in terms of its keys.
fn exposed<T>(
    key: &dyn Fn(&str) -> String,
    address: SocketAddr,
    line: ListenerLine,
) -> Result<T, ConfigError> {
    match line {
        ListenerLine::Plaintext => value(
            key("tcp"),
            format!(
                "{address} is beyond loopback and plain TCP lets anyone in: set tcp = \"tls\" with \
                 a certificate, or insecure = true"
            ),
        ),
        _ => value(
            key("certificate"),
            format!(
                "{address} is beyond loopback and the development certificate proves nothing: \
                 name a certificate, or set insecure = true"
            ),
        ),
    }
}

fn devices(config: &Config) -> Result<(), ConfigError> {
    let devices = &config.devices;
    let most = caps::DEVICE_CERTIFICATE_DAYS_MAX;
    within("devices.certificate_days", devices.certificate_days, 1, most)?;
    if devices.address.is_empty() {
        return Ok(());
    }
    if devices.ca_dir.is_empty() {
        return value(
            "devices.ca_dir",
            "devices.address needs it; `millpond device ca init` makes one",
        );
    }
    socket("devices.address", &devices.address).map(|_| ())
}

fn http(config: &Config) -> Result<(), ConfigError> {
    if config.http.address.is_empty() {
        return Ok(());
    }
    let address = socket("http.address", &config.http.address)?;
    if !is_loopback(address.ip()) && !config.http.insecure {
        return value(
            "http.address",
            format!(
                "{address} is beyond loopback and HTTP has no authentication: bind loopback, or \
                 set http.insecure = true"
            ),
        );
    }
    Ok(())
}

fn journal(config: &Config) -> Result<(), ConfigError> {
    let journal = &config.journal;
    // One commit must fit a file, whatever it gathered.
    let least = ByteSize(caps::COMMIT_BYTES_MAX.next_multiple_of(caps::MIB) as u64);
    if journal.file_bytes < least || journal.file_bytes > ByteSize::mib(1024) {
        return value("journal.file_bytes", format!("it must be from {least} to 1GiB"));
    }
    if !journal.file_bytes.as_usize().is_multiple_of(caps::JOURNAL_BLOCK_BYTES) {
        return value(
            "journal.file_bytes",
            format!("it must be a multiple of {}", caps::JOURNAL_BLOCK_BYTES),
        );
    }
    within("journal.files", journal.files as u64, 2, caps::JOURNAL_FILES_MAX as u64)
}

fn storage(config: &Config) -> Result<(), ConfigError> {
    let (storage, ring) = (&config.storage, journal_bytes(config));
    within("journal.linger_ms", config.journal.linger_ms, 0, LINGER_MS_MAX)?;
    let (least, mib) = (caps::MIB as u64, caps::MIB as u64);
    within("journal.gather_bytes", config.journal.gather_bytes.0, 4096, 64 * mib)?;
    // A checkpoint is taken at half the ring whatever the tail.
    within("storage.tail_bytes", storage.tail_bytes.0, least, ring / 2)?;
    within("storage.tail_max_bytes", storage.tail_max_bytes.0, storage.tail_bytes.0, 4096 * mib)?;
    within("storage.cache_bytes", storage.cache_bytes.0, 0, 4096 * mib)?;
    let most = (caps::SEGMENT_BYTES_MAX - caps::BATCH_BYTES_MAX) as u64;
    within("storage.segment_bytes", storage.segment_bytes.0, least, most)?;
    within("storage.direct_bytes", storage.direct_bytes.0, 4096, u64::MAX)?;
    let map = storage.compaction_map_bytes.0;
    let map_least = caps::COMPACTION_MAP_BYTES_MIN as u64;
    within("storage.compaction_map_bytes", map, map_least, 1024 * mib)?;
    within("storage.compaction_check_ms", storage.compaction_check_ms, 100, DAY_MS)?;
    within("storage.check_interval_ms", storage.check_interval_ms, 1_000, DAY_MS)?;
    within("storage.clock_settle_ms", storage.clock_settle_ms, 0, DAY_MS)?;
    // The ring, two checkpoints, and some segments.
    let room = ByteSize(ring.saturating_add(ring / 2));
    if storage.max_bytes.0 > 0 && storage.max_bytes < room {
        let problem = format!("the journal alone takes {}; give at least {room}", ByteSize(ring));
        return value("storage.max_bytes", problem);
    }
    Ok(())
}

fn journal_bytes(config: &Config) -> u64 {
    config.journal.file_bytes.0.saturating_mul(config.journal.files as u64)
}

fn groups(config: &Config) -> Result<(), ConfigError> {
    let (groups, transactions) = (&config.groups, &config.transactions);
    let most_ms = i32::MAX as u64;
    within("groups.initial_rebalance_delay_ms", groups.initial_rebalance_delay_ms, 0, DAY_MS)?;
    within("groups.offsets_check_interval_ms", groups.offsets_check_interval_ms, 1, most_ms)?;
    let members_most = caps::GROUP_MEMBERS_MAX as u64;
    within("groups.members_max", groups.members_max as u64, 1, members_most)?;
    let longest_ms = groups.session_timeout_max_ms;
    within("groups.session_timeout_max_ms", longest_ms, 1, most_ms)?;
    within("groups.session_timeout_min_ms", groups.session_timeout_min_ms, 1, longest_ms)?;
    let beat_ms = groups.consumer_heartbeat_interval_ms;
    within("groups.consumer_heartbeat_interval_ms", beat_ms, 1, most_ms / 2)?;
    // A member that keeps to its interval must not be out.
    let silence_ms = groups.consumer_session_timeout_ms;
    within("groups.consumer_session_timeout_ms", silence_ms, beat_ms + 1, most_ms)?;
    within("transactions.timeout_max_ms", transactions.timeout_max_ms, 1, most_ms)?;
    within("transactions.id_expiration_ms", transactions.id_expiration_ms, 1, i64::MAX as u64)
}

/// Longer than that, clients give up waiting for their acknowledgements.
const LINGER_MS_MAX: u64 = 10_000;
const DAY_MS: u64 = 86_400_000;

fn limits(config: &Config) -> Result<(), ConfigError> {
    let limits = &config.limits;
    let at_most = |name: &str, set: u64, most: u64| within(&format!("limits.{name}"), set, 1, most);
    at_most("connections_max", limits.connections_max as u64, 1 << 20)?;
    at_most("connections_per_ip_max", limits.connections_per_ip_max as u64, 1 << 20)?;
    at_most("quic_connections_max", limits.quic_connections_max as u64, 1 << 20)?;
    at_most("quic_streams_max", limits.quic_streams_max.into(), 4096)?;
    within("limits.quic_sessions_max", limits.quic_sessions_max as u64, 0, 1 << 20)?;
    at_most("requests_in_flight_max", limits.requests_in_flight_max as u64, 4096)?;
    let hour_ms = 3_600_000;
    at_most("handshake_ms", limits.handshake_ms, hour_ms)?;
    at_most("first_request_ms", limits.first_request_ms, hour_ms)?;
    at_most("request_ms", limits.request_ms, hour_ms)?;
    at_most("write_ms", limits.write_ms, hour_ms)?;
    at_most("idle_ms", limits.idle_ms, 30 * 24 * hour_ms)?;
    let least = 64 << 10;
    within(
        "limits.request_bytes_max",
        limits.request_bytes_max.0,
        least,
        caps::FRAME_BYTES_MAX as u64,
    )?;
    if limits.request_bytes_in_flight_max < limits.request_bytes_max {
        return value(
            "limits.request_bytes_in_flight_max",
            format!("it must be at least limits.request_bytes_max ({})", limits.request_bytes_max),
        );
    }
    within(
        "limits.answer_bytes_in_flight_max",
        limits.answer_bytes_in_flight_max.0,
        ANSWERS_BYTES_LEAST,
        u64::MAX,
    )?;
    within(
        "transforms.module_bytes_max",
        config.transforms.module_bytes_max.0,
        1,
        caps::MODULE_BYTES_MAX as u64,
    )
}

fn within(key: &str, set: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    match set {
        _ if set < least || set > most => {
            value(key, format!("it is {set} and must be from {least} to {most}"))
        }
        _ => Ok(()),
    }
}

/// Loopback, an IPv4 loopback written as IPv6 included.
pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn socket(key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    let text = text
        .strip_prefix("localhost:")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| {
        wrong(key, format!("{text:?} is not ADDRESS:PORT; write for example \"127.0.0.1:9092\""))
    })
}

fn wrong(key: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.into(), problem: problem.into() }
}

fn value<T>(key: impl Into<String>, problem: impl Into<String>) -> Result<T, ConfigError> {
    Err(wrong(key, problem))
}

/// Fewer would make every fetch a small one.
const ANSWERS_BYTES_LEAST: u64 = 1 << 20;
