//! Every key of the configuration with its default and its reason. The comments here are what
//! `millpond config` prints, so they speak to the person who runs a node.

use millpond_engine::EngineConfig;
use millpond_storage::StorageConfig;
use millpond_transform::EngineKind;
use millpond_wire::limits;

use super::section::section;
use super::units::ByteSize;

section! {
    /// Who this node is and where its data lives.
    false struct Node "node" {
        /// This node's number, Kafka's broker.id. It cannot change once the data directory exists.
        id: i32 = 1,
        /// Where everything is kept: journal, segments, modules, certificates. Relative to the
        /// working directory.
        data_dir: String = "./millpond-data".into(),
    }
}

section! {
    /// An address on which Kafka clients are served, over TCP and, on the same port number, over
    /// QUIC. May stand several times. Beyond loopback a listener needs a certificate or `insecure =
    /// true`.
    true struct Listener "listeners" {
        /// A name for logs and metrics.
        name: String = "default".into(),
        /// ADDRESS:PORT to bind. 0.0.0.0 or [::] binds every interface.
        address: String = "127.0.0.1:9092".into(),
        /// HOST:PORT that clients are told to connect to; empty: the same as `address`. Needed
        /// behind NAT, in containers, and whenever `address` binds every interface.
        advertised: String = String::new(),
        /// What the TCP side speaks: "plain", "tls" or "off".
        tcp: TcpMode = TcpMode::Plain,
        /// Whether the UDP side speaks QUIC (always encrypted).
        quic: bool = true,
        /// By what QUIC decides how fast to send: "bbr", which loss alone does not slow down, "cubic" or
        /// "newreno". What devices send goes by their own choice; TCP's is the system's.
        quic_congestion: CongestionChoice = CongestionChoice::Bbr,
        /// PEM file of the certificate chain for TLS and QUIC; empty: a development certificate is
        /// made.
        certificate: String = String::new(),
        /// PEM file of the certificate's private key.
        private_key: String = String::new(),
        /// Allow plain TCP, or the development certificate, beyond loopback. Anyone who reaches the
        /// port can then read and write everything.
        insecure: bool = false,
        /// Ways in which clients must prove who they are: "SCRAM-SHA-256", "SCRAM-SHA-512" and, over
        /// TLS, "PLAIN" and "OAUTHBEARER". Empty: nobody is asked. `millpond user` makes users; what they may do, the
        /// rules of `millpond acl` say.
        sasl: Vec<String> = Vec::new(),
        /// Whether clients show a certificate, over TLS and QUIC: "none", "requested" (who shows one must show
        /// a good one) or "required".
        client_auth: ClientAuthMode = ClientAuthMode::None,
        /// PEM file with the authorities that sign the certificates of clients.
        client_ca: String = String::new(),
        /// File with the revocation lists of those authorities, PEM or DER; empty: nothing is revoked. Like the other
        /// files of certificates it is read anew when it changes, and on SIGHUP; connections whose certificate does not
        /// count any more are closed.
        client_crl: String = String::new(),
        /// Where in its certificate a client's name stands; the first that there is counts: "uri", "dns" and "email"
        /// (of the subject alternative name), "cn", and "subject", the whole subject as in Kafka.
        client_name: Vec<String> = vec!["uri".into(), "dns".into(), "email".into(), "cn".into()],
        /// What becomes of that name, as Kafka's ssl.principal.mapping.rules: the first that fits of
        /// "RULE:pattern/replacement/", with L or U after it for lower or upper case, and "DEFAULT", the name as it is. A name
        /// that none fits lets nobody in.
        client_name_rules: Vec<String> = vec!["DEFAULT".into()],
        /// How long such a proof holds before the client must give it again; Kafka's
        /// connections.max.reauth.ms. 0: as long as its connection.
        connections_max_reauth_ms: u64 = 0,
        /// For OAUTHBEARER: file with the public keys that sign tokens, a JSON Web Key Set with keys
        /// of Ed25519, P-256 or RSA. Read anew when it changes; never fetched.
        oauth_keys: String = String::new(),
        /// For OAUTHBEARER: the audience that tokens must name.
        oauth_audience: String = String::new(),
        /// For OAUTHBEARER: the issuer that tokens must name; empty: any whose key it is.
        oauth_issuer: String = String::new(),
        /// For OAUTHBEARER: the claim that is the user's name.
        oauth_principal_claim: String = "sub".into(),
    }
}

section! {
    /// Who may do what. As soon as a listener asks who is there, or there is a user or a rule, nobody may do what
    /// no rule of `millpond acl` allows.
    false struct Access "access" {
        /// Principals that may do everything: "User:admin". They stand here and nowhere else. Empty: nobody, or,
        /// where no listener asks who is there, everybody ("User:ANONYMOUS"). "User:ANONYMOUS" can only stand here if every
        /// listener beyond loopback asks.
        super_users: Vec<String> = Vec::new(),
        /// Whether everybody may do everything to what no rule is about; Kafka's
        /// allow.everyone.if.no.acl.found.
        allow_everyone_if_no_acl_found: bool = false,
        /// Note refusals, and changes of topics, settings, users, rules, transforms and certificates of
        /// devices, in the topic __millpond_audit, of 16 MiB at most, where a listener asks who is there.
        audit: bool = true,
    }
}

section! {
    /// An authority of this node's own for the certificates of devices, for whoever has none: `millpond device ca init`
    /// makes it.
    false struct Devices "devices" {
        /// Its directory; empty: there is none. Its owner alone may look into it.
        ca_dir: String = String::new(),
        /// ADDRESS:PORT where devices enrol and renew over HTTPS, and nothing else is served; the certificate is the
        /// authority's server.pem. Empty: only the address of [http] takes them.
        address: String = String::new(),
        /// How long the certificate of a device is good.
        certificate_days: u64 = limits::DEFAULT_DEVICE_CERTIFICATE_DAYS,
    }
}

section! {
    /// Metrics, health and the administration of transforms.
    false struct Http "http" {
        /// ADDRESS:PORT to bind; empty: no HTTP.
        address: String = "127.0.0.1:9644".into(),
        /// Allow HTTP beyond loopback. It is not encrypted, and where no listener asks who is there, whoever reaches
        /// it can deploy code.
        insecure: bool = false,
        /// Most connections at once.
        connections_max: usize = limits::HTTP_CONNECTIONS_MAX,
    }
}

section! {
    /// What topics are made of unless a request says otherwise.
    false struct Topics "topics" {
        /// Create a topic when a client first names it. On when millpond runs without a
        /// configuration file.
        auto_create: bool = false,
        /// Partitions of a topic that is created without a number.
        partitions: i32 = limits::DEFAULT_PARTITIONS,
        /// Answer a replication factor above the number of nodes with what there is, instead of
        /// Kafka's error.
        clamp_replication_factor: bool = false,
    }
}

section! {
    /// Consumer groups.
    false struct Groups "groups" {
        /// How long a new group waits for more members before its first assignment.
        initial_rebalance_delay_ms: u64 = limits::DEFAULT_GROUP_INITIAL_REBALANCE_DELAY_MS,
        /// How long the committed offsets of an empty group are kept; Kafka's
        /// offsets.retention.minutes.
        offsets_retention_ms: u64 = limits::DEFAULT_OFFSETS_RETENTION_MS,
        /// How often committed offsets are checked for their age; Kafka's
        /// offsets.retention.check.interval.ms.
        offsets_check_interval_ms: u64 = limits::DEFAULT_OFFSETS_CHECK_MS,
        /// Most members of one group; Kafka's group.max.size and group.consumer.max.size.
        members_max: usize = limits::GROUP_MEMBERS_MAX,
        /// Shortest session timeout that a member may ask for; Kafka's group.min.session.timeout.ms.
        session_timeout_min_ms: u64 = limits::SESSION_TIMEOUT_MS_MIN,
        /// Longest session timeout that a member may ask for; Kafka's group.max.session.timeout.ms.
        session_timeout_max_ms: u64 = limits::SESSION_TIMEOUT_MS_MAX,
        /// How often members whose partitions the node assigns (group.protocol=consumer) are told to
        /// send a heartbeat; Kafka's group.consumer.heartbeat.interval.ms.
        consumer_heartbeat_interval_ms: u64 = limits::DEFAULT_CONSUMER_HEARTBEAT_MS as u64,
        /// Silence after which such a member is out; Kafka's group.consumer.session.timeout.ms.
        consumer_session_timeout_ms: u64 = limits::DEFAULT_CONSUMER_SESSION_MS,
    }
}

section! {
    /// Transactions.
    false struct Transactions "transactions" {
        /// Longest timeout that a producer may ask for; Kafka's transaction.max.timeout.ms.
        timeout_max_ms: u64 = limits::TRANSACTION_TIMEOUT_MS_MAX as u64,
        /// How long a transactional id is remembered that nobody uses; Kafka's
        /// transactional.id.expiration.ms.
        id_expiration_ms: u64 = limits::TRANSACTIONAL_ID_EXPIRATION_MS as u64,
    }
}

section! {
    /// The journal: every acknowledged byte is in it before its acknowledgement.
    false struct Journal "journal" {
        /// One file of the ring. Like `files` it counts when the journal is made and not later.
        file_bytes: ByteSize = ByteSize(StorageConfig::new(0).journal_file_bytes as u64),
        /// Files of the ring, written in full at first start. More: fewer checkpoints, longer
        /// recovery.
        files: usize = StorageConfig::new(0).journal_files,
        /// How long an idle journal lets requests gather before it writes and syncs them. Every
        /// acknowledgement waits for it; every write that it saves spares the card 4 KiB. `millpond
        /// doctor` says what 10 or 100 would save. Per topic there is flush.ms, which answers first.
        linger_ms: u64 = StorageConfig::new(0).linger_ms,
        /// So many bytes that wait end the linger.
        gather_bytes: ByteSize = ByteSize(StorageConfig::new(0).gather_bytes as u64),
        /// How the disk is driven: "auto" (io_uring, else threads), "io_uring", or "portable".
        backend: Backend = Backend::Auto,
    }
}

section! {
    /// What is kept on the device, and in memory on the way there.
    false struct Storage "storage" {
        /// Most bytes of the data directory; 0: what its file system has. Before it is full, topics
        /// with millpond.on.full=drop-oldest lose their oldest segments, lowest millpond.priority
        /// first; then writes are refused with an error that clients try again.
        max_bytes: ByteSize = ByteSize(0),
        /// Records in memory that are only in the journal yet. Above it they go to segments. More:
        /// fewer and larger writes, and a start that has more to replay. At most half the journal.
        tail_bytes: ByteSize = ByteSize(StorageConfig::new(0).tail_bytes as u64),
        /// Beyond so many bytes of such records producers wait.
        tail_max_bytes: ByteSize = ByteSize(EngineConfig::default().tail_max_bytes as u64),
        /// Newest records that stay in memory for consumers once they are in segments.
        cache_bytes: ByteSize = ByteSize(EngineConfig::default().tail_retain_bytes as u64),
        /// A segment above this size is closed. Retention deletes whole segments.
        segment_bytes: ByteSize = ByteSize(StorageConfig::new(0).segment_bytes as u64),
        /// Merge small batches into large compressed ones (zstd) on their way to segments.
        pack: bool = StorageConfig::new(0).packs,
        /// A batch of so many bytes is written once, straight to its segment, instead of to the
        /// journal first.
        direct_bytes: ByteSize = ByteSize(StorageConfig::new(0).direct_batch_bytes as u64),
        /// What the scrub reads in a second to find damage early, all segments in turn; 0: it does
        /// not run.
        scrub_bytes_per_second: ByteSize = ByteSize(StorageConfig::new(0).scrub_bytes_per_second),
        /// What compaction reads and writes together in a second; 0: no limit.
        background_bytes_per_second: ByteSize =
            ByteSize(StorageConfig::new(0).background_bytes_per_second),
        /// Memory for the keys of one round of compaction.
        compaction_map_bytes: ByteSize =
            ByteSize(StorageConfig::new(0).compaction_map_bytes as u64),
        /// How often compaction looks for topics that need it.
        compaction_check_ms: u64 = StorageConfig::new(0).compaction_check_ms,
        /// How often retention looks for segments that are too old or too many.
        check_interval_ms: u64 = EngineConfig::default().retention_check_ms,
        /// How long the clock must have run without a jump before anything is deleted by its age.
        clock_settle_ms: u64 = EngineConfig::default().clock_settle_ms,
        /// What the card bears in its life, as its maker states it (TBW): "30TB"; 0: not known. Only
        /// used to tell its life, in /metrics and by `millpond doctor`.
        card_endurance: ByteSize = ByteSize(0),
    }
}

section! {
    /// Transforms: WebAssembly modules that run on what is produced, before it is stored.
    false struct Transforms "transforms" {
        /// Worker threads for transforms, TLS, QUIC and HTTP; 0: one fewer than the machine has
        /// cores, at least one.
        workers: u32 = 0,
        /// How modules run: "native", as machine code, or "interpreter", some ten times slower, for
        /// systems that forbid a process to make code for itself.
        engine: TransformEngine = TransformEngine::Native,
        /// Largest module that may be deployed.
        module_bytes_max: ByteSize = ByteSize(limits::MODULE_BYTES_MAX as u64),
        /// CPU time that the compilation of a module may take, in a process of its own. What was
        /// compiled is kept.
        compile_ms_max: u64 = limits::MODULE_COMPILE_MS_MAX,
        /// Address space of that process.
        compile_memory_bytes: ByteSize = ByteSize(limits::MODULE_COMPILE_MEMORY_BYTES as u64),
        /// Ed25519 public keys in hexadecimal, as `millpond transform keygen` prints them. When
        /// there is one, only modules are deployed that one of them signed.
        trusted_keys: Vec<String> = Vec::new(),
        /// Log lines kept for each transform; older ones go first.
        log_lines: usize = limits::TRANSFORM_LOG_LINES_KEPT,
    }
}

section! {
    /// Bounds on what clients may take. What exceeds one is refused or closed with a line in the
    /// log. Each may be set lower than its default, none above what the program was built to
    /// survive.
    false struct Limits "limits" {
        /// Most connections over TCP and TLS.
        connections_max: usize = limits::CONNECTIONS_MAX,
        /// Most connections from one address, over TCP and TLS, and again over QUIC.
        connections_per_ip_max: usize = limits::CONNECTIONS_PER_ADDRESS_MAX,
        /// Most new connections a second from one address, over TCP and TLS, and again over QUIC; ten
        /// seconds' worth may come at once. 0: no limit. Kafka's max.connection.creation.rate, by address.
        connections_per_ip_per_second: u32 = limits::CONNECTIONS_PER_ADDRESS_PER_SECOND,
        /// Largest request.
        request_bytes_max: ByteSize = ByteSize(limits::FRAME_BYTES_MAX as u64),
        /// Most requests of one connection that wait for their answers.
        requests_in_flight_max: usize = limits::CONNECTION_REQUESTS_IN_FLIGHT_MAX,
        /// All requests in memory together. Readers wait when it is spent.
        request_bytes_in_flight_max: ByteSize = ByteSize(limits::IN_FLIGHT_BYTES_MAX as u64),
        /// All answers on their way out together. Fetches ask for less and then wait when it is spent.
        answer_bytes_in_flight_max: ByteSize = ByteSize(limits::ANSWERS_BYTES_MAX as u64),
        /// For the handshake of TLS or QUIC.
        handshake_ms: u64 = limits::HANDSHAKE_MS_MAX,
        /// From accepting a connection to its first complete request.
        first_request_ms: u64 = limits::FIRST_REQUEST_MS_MAX,
        /// From the first byte of a request to its last.
        request_ms: u64 = limits::FRAME_COMPLETION_MS_MAX,
        /// For a client to take some byte of its answer.
        write_ms: u64 = limits::WRITE_STALL_MS_MAX,
        /// A connection without any request for so long is closed; Kafka's connections.max.idle.ms.
        idle_ms: u64 = limits::IDLE_CONNECTION_MS_MAX,
        /// Most QUIC connections.
        quic_connections_max: usize = limits::QUIC_CONNECTIONS_MAX,
        /// Most streams of one QUIC connection at a time.
        quic_streams_max: u32 = limits::QUIC_STREAMS_PER_CONNECTION_MAX,
        /// Sessions of QUIC clients that are remembered, so that a device that slept delivers with its
        /// first packets (0-RTT). What such packets ask is served before the handshake only where
        /// a recording of it would change nothing, and waits for its end otherwise; so this is on. A
        /// listener that asks for a login takes none. 0: off.
        quic_sessions_max: usize = limits::QUIC_SESSIONS_MAX,
    }
}

section! {
    /// What is written to standard error.
    false struct Log "log" {
        /// "error", "warn", "info", "debug", "trace", or directives such as
        /// "info,millpond_engine=debug". The variable MILLPOND_LOG overrides it.
        level: String = "info".into(),
    }
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAuthMode {
    /// They are not asked for one.
    None,
    /// They may.
    Requested,
    /// They must.
    Required,
}

/// What the TCP side of a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TcpMode {
    /// The Kafka protocol as it is.
    Plain,
    /// The Kafka protocol within TLS.
    Tls,
    /// Nothing: QUIC alone.
    Off,
}

/// By what a QUIC connection decides how fast to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CongestionChoice {
    /// RFC 9002's own.
    NewReno,
    /// RFC 9438.
    Cubic,
    /// By what the path was seen to deliver.
    Bbr,
}

/// How modules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TransformEngine {
    /// As machine code.
    Native,
    /// By an interpreter.
    Interpreter,
}

impl TransformEngine {
    /// The host's word for it.
    pub(crate) fn kind(self) -> EngineKind {
        match self {
            TransformEngine::Native => EngineKind::Native,
            TransformEngine::Interpreter => EngineKind::Interpreter,
        }
    }
}

/// Which disk backend to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Backend {
    /// io_uring where the kernel allows it.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// Threads with pwritev and fdatasync.
    Portable,
}
