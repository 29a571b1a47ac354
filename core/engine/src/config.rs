//! What the node decides once for the engine. Read at start, never changed while it runs.
//! Must not hold anything that two runs of one journal could disagree about.

use crate::access::AccessConfig;
use crate::units::ListenerId;
use millpond_wire::limits;
use std::collections::BTreeMap;

/// Settings of the engine, each with its default.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// This node's id as clients see it. Default 1.
    pub node_id: i32,
    /// The cluster's id as clients see it.
    pub cluster_id: String,
    /// Where clients of each listener are told to connect.
    pub advertised: BTreeMap<ListenerId, Advertised>,
    /// Create a topic when a client asks for one that is missing. Default true.
    pub auto_create_topics: bool,
    /// Partitions of a topic that does not say. Default 1.
    pub num_partitions: i32,
    /// Accept a replication factor above the node count and use the node count. Default false:
    /// it is INVALID_REPLICATION_FACTOR, as in Kafka.
    pub clamp_replication_factor: bool,
    /// How long an empty group waits for more members before its first rebalance. Default 100.
    pub group_initial_rebalance_delay_ms: u64,
    /// Shortest session timeout a member may ask for. Default 6,000, as in Kafka.
    pub group_min_session_timeout_ms: i32,
    /// Longest session timeout a member may ask for. Default 1,800,000.
    pub group_max_session_timeout_ms: i32,
    /// Most members of one group, of either kind. Default 1,000 (`group.max.size`,
    /// `group.consumer.max.size`).
    pub group_max_size: usize,
    /// How often members of consumer groups (KIP-848) are told to send a heartbeat. Default 5,000,
    /// as in Kafka.
    pub consumer_heartbeat_interval_ms: i32,
    /// Silence after which such a member is out. Default 45,000, as in Kafka.
    pub consumer_session_timeout_ms: u64,
    /// How long the offsets of an empty group are kept, and those of a stand-alone consumer after
    /// their commit. Default seven days, as in Kafka (`offsets.retention.minutes`).
    pub offsets_retention_ms: i64,
    /// How often they are checked. Default 600,000, as in Kafka
    /// (`offsets.retention.check.interval.ms`).
    pub offsets_check_ms: u64,
    /// Longest timeout that a transactional producer may ask for. Default 900,000, as in Kafka
    /// (`transaction.max.timeout.ms`).
    pub transaction_max_timeout_ms: i32,
    /// How long a transactional id is remembered that nobody uses. Default seven days, as in Kafka
    /// (`transactional.id.expiration.ms`).
    pub transactional_id_expiration_ms: i64,
    /// Largest record batch of a topic that does not say. Default 1 MiB + 12, as in Kafka.
    pub message_max_bytes: i32,
    /// Most bytes of one fetch answer, whatever the client asks. Default 8 MiB.
    pub fetch_max_bytes: usize,
    /// Longest that a fetch may wait. Default 60,000.
    pub fetch_max_wait_ms: u64,
    /// Bytes of batches, already in segments, that stay in memory for consumers. Default 32 MiB.
    pub tail_retain_bytes: usize,
    /// Bytes of batches in memory beyond which produces wait until a checkpoint frees some. Default 128 MiB.
    pub tail_max_bytes: usize,
    /// Most bytes of the data directory. Default: what the file system has.
    pub space_budget_bytes: Option<u64>,
    /// How often segments are checked for their age and size. Default 300,000, as in Kafka
    /// (`log.retention.check.interval.ms`).
    pub retention_check_ms: u64,
    /// How long the wall clock must have run without a jump before records are deleted by age.
    /// Default 600,000.
    pub clock_settle_ms: u64,
    /// The directory that tools of administrators are shown for what is stored. Default
    /// `millpond-data`.
    pub log_dir: String,
    /// Who may do what where no rule says so.
    pub access: AccessConfig,
    /// The version that clients are told in the broker's own configuration.
    pub software_version: String,
}

/// An address that clients can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            node_id: 1,
            cluster_id: "millpond".to_owned(),
            advertised: BTreeMap::from([(
                ListenerId(0),
                Advertised { host: "127.0.0.1".to_owned(), port: 9092 },
            )]),
            auto_create_topics: true,
            num_partitions: limits::DEFAULT_PARTITIONS,
            clamp_replication_factor: false,
            group_initial_rebalance_delay_ms: limits::DEFAULT_GROUP_INITIAL_REBALANCE_DELAY_MS,
            group_min_session_timeout_ms: limits::SESSION_TIMEOUT_MS_MIN as i32,
            group_max_session_timeout_ms: limits::SESSION_TIMEOUT_MS_MAX as i32,
            group_max_size: limits::GROUP_MEMBERS_MAX,
            consumer_heartbeat_interval_ms: limits::DEFAULT_CONSUMER_HEARTBEAT_MS,
            consumer_session_timeout_ms: limits::DEFAULT_CONSUMER_SESSION_MS,
            offsets_retention_ms: limits::DEFAULT_OFFSETS_RETENTION_MS as i64,
            offsets_check_ms: limits::DEFAULT_OFFSETS_CHECK_MS,
            transaction_max_timeout_ms: limits::TRANSACTION_TIMEOUT_MS_MAX,
            transactional_id_expiration_ms: limits::TRANSACTIONAL_ID_EXPIRATION_MS,
            message_max_bytes: limits::DEFAULT_MAX_MESSAGE_BYTES as i32,
            fetch_max_bytes: limits::FETCH_BYTES_MAX,
            fetch_max_wait_ms: limits::FETCH_WAIT_MS_MAX,
            tail_retain_bytes: limits::DEFAULT_TAIL_BYTES,
            tail_max_bytes: limits::DEFAULT_UNFLUSHED_BYTES,
            space_budget_bytes: None,
            retention_check_ms: limits::DEFAULT_RETENTION_CHECK_MS,
            clock_settle_ms: limits::DEFAULT_CLOCK_SETTLE_MS,
            log_dir: "millpond-data".to_owned(),
            access: AccessConfig::default(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl EngineConfig {
    /// The address that clients of a listener are told; any other if that listener has none.
    #[must_use]
    pub fn advertised_for(&self, listener: ListenerId) -> Advertised {
        self.advertised
            .get(&listener)
            .or_else(|| self.advertised.values().next())
            .cloned()
            .unwrap_or(Advertised { host: String::new(), port: 0 })
    }
}
