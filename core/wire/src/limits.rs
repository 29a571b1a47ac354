//! Every cap of the whole program, with the relations between them checked when it is compiled.
//! A queue, map, buffer or wait that a peer, a file or a guest can grow has its bound here and
//! nowhere else (those of access, users and transforms in `limits/`). This file must never hold anything but
//! constants and assertions about them.
//!
//! Units stand last in the names: `_BYTES`, `_MS`, none for counts. A cap is what the code can
//! survive, on a 512 MiB board; what an operator may set lower is a setting and has its default
//! beside its cap (`DEFAULT_…`).

mod access;
mod client;
mod devices;
mod transforms;
mod users;

pub use access::*;
pub use client::*;
pub use devices::*;
pub use transforms::*;
pub use users::*;

/// One kibibyte.
pub const KIB: usize = 1024;
/// One mebibyte.
pub const MIB: usize = 1024 * KIB;

// ------------------------------------------------------------------------------------------------
// Frames and requests (wire)
// ------------------------------------------------------------------------------------------------

/// Largest request frame taken from a peer that has not authenticated where that is asked for.
pub const FRAME_BYTES_BEFORE_AUTH: usize = 64 * KIB;
/// Largest request frame (Kafka: `socket.request.max.bytes`; a board cannot afford its 100 MiB).
pub const FRAME_BYTES_MAX: usize = 16 * MIB;
/// Largest request of an API that names many things: all topics of a node, say.
pub const REQUEST_BYTES_LARGE_MAX: usize = 4 * MIB;
/// Largest request of an API that names one thing.
pub const REQUEST_BYTES_SMALL_MAX: usize = 256 * KIB;
/// Largest response frame that our own client takes from a broker: other brokers answer a fetch
/// with up to `fetch.max.bytes` and one batch more.
pub const CLIENT_FRAME_BYTES_MAX: usize = 64 * MIB;
/// A frame's receive buffer starts at this size and then grows with what really arrives.
pub const FRAME_BUFFER_START_BYTES: usize = 4 * KIB;
/// Room that an unfinished frame gets at once where one as large came whole before: what producers send by
/// default (`max.request.size`). All connections together might ask for more than there are addresses.
pub const FRAME_ROOM_AT_ONCE_BYTES_MAX: usize = MIB;
/// Longest Kafka string (its length is an `INT16` in the versions without compact strings).
pub const STRING_BYTES_MAX: usize = 32_767;
/// Longest client id that is kept (for logs, groups and quotas); of a longer one the start is.
pub const CLIENT_ID_BYTES_MAX: usize = 1024;
/// Most elements of one array in a message, whatever the remaining bytes would allow.
pub const ARRAY_ELEMENTS_MAX: usize = 1_000_000;
/// Most tagged fields in one struct (KIP-482); unknown ones are skipped, not kept.
pub const TAGGED_FIELDS_MAX: usize = 64;
/// `Bytes` fields above this size are passed on by reference in an encoded message; smaller ones
/// are copied, since a vectored write of many tiny pieces costs more than the copy.
pub const ENCODE_COPY_BELOW_BYTES: usize = 4 * KIB;

// ------------------------------------------------------------------------------------------------
// Record batches (wire)
// ------------------------------------------------------------------------------------------------

/// Largest record batch as it stands on the wire and in the log, its 61-byte header included.
pub const BATCH_BYTES_MAX: usize = 8 * MIB;
/// Default of the topic setting `max.message.bytes` (Kafka's own default).
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = MIB + 12;
/// Most records that one batch may claim to hold. What the bytes allow is checked as well.
pub const BATCH_RECORDS_MAX: usize = 1_000_000;
/// Most batches split out of one fetched or read block of bytes in one go.
pub const BATCHES_PER_SPLIT_MAX: usize = 128 * KIB;
/// Most headers of one record.
pub const RECORD_HEADERS_MAX: usize = 10_000;
/// Most bytes that the records of one batch may have after decompression.
pub const DECOMPRESSED_BYTES_MAX: usize = 16 * MIB;
/// Up to this many output bytes any compression ratio is taken: a batch of equal readings
/// compresses several thousand times and is no attack.
pub const DECOMPRESS_RATIO_EXEMPT_BYTES: usize = 4 * MIB;
/// Above `DECOMPRESS_RATIO_EXEMPT_BYTES`: most output bytes for each input byte.
pub const DECOMPRESS_RATIO_MAX: usize = 1_000;
/// Step by which a decompression buffer grows when its size cannot be told from the input.
pub const DECOMPRESS_STEP_BYTES: usize = 64 * KIB;
/// Largest zstd window (log2 of bytes): 8 MiB, what RFC 8878 3.1.1.1.2 asks decoders to support.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Scratch space kept for the next batch by a codec or a builder; more than this is given back.
pub const CODEC_SCRATCH_KEPT_BYTES: usize = MIB;
/// Blocks of the xerial framing of snappy that are written (the Java library's size).
pub const SNAPPY_BLOCK_BYTES: usize = 32 * KIB;
/// Blocks of the lz4 frames that are written.
pub const LZ4_BLOCK_BYTES: usize = 64 * KIB;

// ------------------------------------------------------------------------------------------------
// Topics, partitions, metadata (engine)
// ------------------------------------------------------------------------------------------------

/// Longest topic name (Kafka: `Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Most topics of one node.
pub const TOPICS_MAX: usize = 10_000;
/// Most partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 1_000;
/// Most partitions of one node.
pub const PARTITIONS_MAX: usize = 20_000;
/// Most topics in one CreateTopics, DeleteTopics or DescribeConfigs request.
pub const TOPICS_PER_ADMIN_REQUEST_MAX: usize = 1_000;
/// Most topics auto-created by one metadata request.
pub const AUTO_CREATED_TOPICS_PER_REQUEST_MAX: usize = 100;
/// Most (topic, partition) pairs in one DeleteRecords request.
pub const PARTITIONS_PER_DELETE_RECORDS_MAX: usize = 4_096;
/// Most settings given for one topic.
pub const TOPIC_CONFIGS_MAX: usize = 64;
/// Longest value of one topic setting.
pub const TOPIC_CONFIG_VALUE_BYTES_MAX: usize = 4 * KIB;
/// Partitions of a topic that is created without a number.
pub const DEFAULT_PARTITIONS: i32 = 1;
/// Time between two checks of segments for their age and size (Kafka:
/// `log.retention.check.interval.ms`).
pub const DEFAULT_RETENTION_CHECK_MS: u64 = 300_000;
/// Appended bytes after which the node looks again whether its budget makes it drop something.
pub const SPACE_CHECK_BYTES: u64 = MIB as u64;
/// Time without a jump after which the wall clock may decide what is old enough to be deleted.
pub const DEFAULT_CLOCK_SETTLE_MS: u64 = 600_000;

// ------------------------------------------------------------------------------------------------
// Produce (engine)
// ------------------------------------------------------------------------------------------------

/// Most (topic, partition) pairs in one produce request.
pub const PARTITIONS_PER_PRODUCE_MAX: usize = 4_096;
/// Batches remembered for each producer id and partition to answer duplicates (Kafka's five).
pub const PRODUCER_BATCHES_KEPT: usize = 5;
/// Most records of a refused batch that are named in the answer (KIP-467).
pub const RECORD_ERRORS_MAX: usize = 100;
/// Most producer ids with state in one partition; the one idle longest is forgotten first. While a
/// checkpoint is taken those of a partition are copied when one of them changes, at once.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 16 * KIB;
/// Most producer states of the whole node.
pub const PRODUCERS_MAX: usize = 100_000;
/// Producer ids handed out from one journalled reservation.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;
/// Most batches of one partition between admission and commit.
pub const PARTITION_PENDING_BATCHES_MAX: usize = 1_024;
/// A topic that declares a window of loss by records or bytes alone is synced after so long.
pub const DEFAULT_LOSS_WINDOW_MS: u64 = 1_000;
/// Longest window of loss: consumers wait for the sync, so a longer `flush.ms` is cut to this.
pub const LOSS_WINDOW_MS_MAX: u64 = 10_000;
/// What a sync may take beyond the window before answers wait for it.
pub const LOSS_WINDOW_GRACE_MS: u64 = 250;
/// Producers of one partition of which a gap in their sequences, after a loss, is remembered; the
/// gaps of further ones are refused.
pub const SEQUENCE_GAPS_PER_PARTITION_MAX: usize = 4_096;
/// Most record bytes of the node between admission and durable; above it connections are not read.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 * MIB;

// ------------------------------------------------------------------------------------------------
// Fetch (engine)
// ------------------------------------------------------------------------------------------------

/// Most (topic, partition) pairs in one fetch request.
pub const PARTITIONS_PER_FETCH_MAX: usize = 4_096;
/// Most record bytes in one fetch response, whatever the client asks for; one batch may exceed it.
pub const FETCH_BYTES_MAX: usize = 8 * MIB;
/// Longest wait of a fetch for its `min_bytes`.
pub const FETCH_WAIT_MS_MAX: u64 = 60_000;
/// Most fetches that wait at the same time; further ones are answered at once with what is there.
pub const FETCH_WAITERS_MAX: usize = 16_384;
/// Most reads of history that are under way for one fetch.
pub const HISTORY_READS_PER_FETCH_MAX: usize = 64;
/// Most reads of history that are under way on the node.
pub const HISTORY_READS_MAX: usize = 256;
/// Most bytes read from segments at once for one partition of a fetch.
pub const HISTORY_READ_BYTES_MAX: usize = 4 * MIB;
/// Most fetch sessions (Kafka: `max.incremental.fetch.session.cache.slots`); who finds no room is
/// served without one.
pub const FETCH_SESSIONS_MAX: usize = 1_000;
/// Most (topic, partition) pairs of all fetch sessions together.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 100_000;
/// A session used within this time makes room for no other (Kafka:
/// `min.incremental.fetch.session.eviction.ms`).
pub const FETCH_SESSION_KEPT_MS: u64 = 120_000;
/// Record bytes kept in memory, beyond what is not yet in segments, for consumers that keep up.
pub const DEFAULT_TAIL_BYTES: usize = 32 * MIB;

// ------------------------------------------------------------------------------------------------
// Quotas and pages of administrators (engine)
// ------------------------------------------------------------------------------------------------

/// Most users and client ids, and pairs of them, that have a quota.
pub const QUOTA_ENTITIES_MAX: usize = 10_000;
/// Longest name of a user or a client id that has a quota.
pub const QUOTA_NAME_BYTES_MAX: usize = 1024;
/// Most clients that are counted at the same time, by kind of quota.
pub const QUOTA_BUCKETS_MAX: usize = 10_000;
/// Longest time that a client is told to wait at once: longer ones run into its request timeout.
pub const THROTTLE_MS_MAX: u64 = 30_000;
/// The same where a client had more than its share of the engine's time: its heartbeats wait, too (as
/// in Kafka, one second).
pub const REQUEST_THROTTLE_MS_MAX: u64 = 1_000;
/// Most requests that are held for connections that must wait; further ones are served.
pub const THROTTLED_REQUESTS_MAX: usize = 16_384;
/// Most partitions in one page of DescribeTopicPartitions (Kafka:
/// `max.request.partition.size.limit`).
pub const PARTITIONS_PER_DESCRIBE_MAX: usize = 2_000;

// ------------------------------------------------------------------------------------------------
// Consumer groups (engine)
// ------------------------------------------------------------------------------------------------

/// Longest group id.
pub const GROUP_ID_BYTES_MAX: usize = 1024;
/// Most groups of one node.
pub const GROUPS_MAX: usize = 10_000;
/// Most members of one group.
pub const GROUP_MEMBERS_MAX: usize = 1_000;
/// Most members of all groups.
pub const MEMBERS_MAX: usize = 20_000;
/// Longest metadata of one member under one protocol.
pub const MEMBER_METADATA_BYTES_MAX: usize = 256 * KIB;
/// Longest assignment of one member.
pub const MEMBER_ASSIGNMENT_BYTES_MAX: usize = 256 * KIB;
/// Most protocols (assignors) that one member names.
pub const MEMBER_PROTOCOLS_MAX: usize = 16;
/// Bytes of member metadata and assignments of all groups together.
pub const MEMBERS_BYTES_MAX: usize = 32 * MIB;
/// The same of one group: its roster stands in one entry of the journal.
pub const GROUP_BYTES_MAX: usize = 8 * MIB;
/// Most topics that one member of a consumer group names (KIP-848).
pub const MEMBER_TOPICS_MAX: usize = 4_096;
/// Longest regular expression of such a member.
pub const MEMBER_REGEX_BYTES_MAX: usize = 1024;
/// Largest such expression when it is compiled: matching takes time in its size.
pub const MEMBER_REGEX_PROGRAM_BYTES_MAX: usize = 64 * KIB;
/// Most different expressions of the members of one group.
pub const GROUP_REGEXES_MAX: usize = 16;
/// Longest id of a member or of a group instance.
pub const MEMBER_ID_BYTES_MAX: usize = 1024;
/// Most committed offsets of one group.
pub const GROUP_OFFSETS_MAX: usize = 20_000;
/// Most committed offsets of the node.
pub const OFFSETS_MAX: usize = 200_000;
/// Longest metadata string beside a committed offset (Kafka: `offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4 * KIB;
/// Shortest session timeout a member may ask for (Kafka: `group.min.session.timeout.ms`).
pub const SESSION_TIMEOUT_MS_MIN: u64 = 6_000;
/// Longest session timeout a member may ask for (Kafka: `group.max.session.timeout.ms`).
pub const SESSION_TIMEOUT_MS_MAX: u64 = 1_800_000;
/// Longest rebalance timeout a member may ask for (`max.poll.interval.ms` of the clients).
pub const REBALANCE_TIMEOUT_MS_MAX: u64 = 3_600_000;
/// Wait for more members before the first rebalance of a new group. Kafka waits 3 s; devices and
/// tutorials gain nothing from it.
pub const DEFAULT_GROUP_INITIAL_REBALANCE_DELAY_MS: u64 = 100;
/// Time between two heartbeats that members of consumer groups are told to keep (Kafka:
/// `group.consumer.heartbeat.interval.ms`).
pub const DEFAULT_CONSUMER_HEARTBEAT_MS: i32 = 5_000;
/// Silence after which a member of a consumer group is out (Kafka:
/// `group.consumer.session.timeout.ms`).
pub const DEFAULT_CONSUMER_SESSION_MS: u64 = 45_000;
/// How long an empty group keeps its offsets (Kafka: seven days).
pub const DEFAULT_OFFSETS_RETENTION_MS: u64 = 7 * 24 * 3_600_000;
/// Time between two checks of committed offsets for their age (Kafka:
/// `offsets.retention.check.interval.ms`).
pub const DEFAULT_OFFSETS_CHECK_MS: u64 = 600_000;

// ------------------------------------------------------------------------------------------------
// Transactions (engine)
// ------------------------------------------------------------------------------------------------

/// Longest transactional id.
pub const TRANSACTIONAL_ID_BYTES_MAX: usize = 1024;
/// Most transactional ids of one node.
pub const TRANSACTIONAL_IDS_MAX: usize = 10_000;
/// Most transactions that are open at the same time.
pub const OPEN_TRANSACTIONS_MAX: usize = 4_096;
/// Most partitions of one transaction: each gets a marker in the entry that ends it.
pub const PARTITIONS_PER_TRANSACTION_MAX: usize = 4_096;
/// Most partitions of all open transactions together.
pub const TRANSACTION_PARTITIONS_MAX: usize = 100_000;
/// Most groups whose offsets one transaction commits.
pub const GROUPS_PER_TRANSACTION_MAX: usize = 64;
/// Most offsets that open transactions are about to commit.
pub const TRANSACTION_OFFSETS_MAX: usize = 50_000;
/// Most transactions that one partition remembers as open or aborted. None that a consumer may
/// still meet can be forgotten: further ones are refused until old records go.
pub const TRANSACTIONS_PER_PARTITION_MAX: usize = 8_192;
/// The same for all partitions together.
pub const TRANSACTIONS_IN_PARTITIONS_MAX: usize = 200_000;
/// Longest transaction timeout (Kafka: `transaction.max.timeout.ms`).
pub const TRANSACTION_TIMEOUT_MS_MAX: i32 = 900_000;
/// A transactional id that nobody used for so long is forgotten (Kafka:
/// `transactional.id.expiration.ms`).
pub const TRANSACTIONAL_ID_EXPIRATION_MS: i64 = 7 * 24 * 3_600_000;
/// Time between two looks for such ids.
pub const TRANSACTIONAL_ID_CHECK_MS: u64 = 3_600_000;
/// Most ids in one request that describes transactions.
pub const TRANSACTIONS_PER_DESCRIBE_MAX: usize = 1_000;

// ------------------------------------------------------------------------------------------------
// Journal, segments, checkpoints (storage)
// ------------------------------------------------------------------------------------------------

/// Largest journal entry: what one event decided, at most one whole request and its bookkeeping.
pub const ENTRY_BYTES_MAX: usize = 32 * MIB;
/// Most facts in one entry.
pub const FACTS_PER_ENTRY_MAX: usize = 32 * KIB;
/// Batches below this size stand in the journal without their CRC, which replay computes again;
/// for larger ones the 61 bytes of their header are cheaper than that.
pub const COMPACT_BATCH_BYTES_MAX: usize = 4 * KIB;
/// Ranges of offsets lost to damage that one partition remembers; more are merged.
pub const LOST_RANGES_PER_PARTITION_MAX: usize = 64;
/// Lost ranges that a start names; all of them are counted.
pub const LOST_RANGES_REPORTED_MAX: usize = 256;
/// Entries and entry tables up to this size are searched for a single flipped bit.
pub const CORRECTED_BYTES_MAX: usize = 64 * KIB;
/// Most entries in one commit (one aligned write).
pub const ENTRIES_PER_COMMIT_MAX: usize = 16 * KIB;
/// A commit that has gathered this many bytes is closed and the next one begins.
pub const COMMIT_GATHER_BYTES: usize = 4 * MIB;
/// Largest commit: the bytes gathered, one more entry, header, table and padding.
pub const COMMIT_BYTES_MAX: usize = COMMIT_GATHER_BYTES + ENTRY_BYTES_MAX + MIB;
/// Journal writes that are under way at once.
pub const JOURNAL_WRITES_IN_FLIGHT: usize = 2;
/// Block that journal writes are aligned to.
pub const JOURNAL_BLOCK_BYTES: usize = 4 * KIB;
/// Size of one journal file; a commit never spans two. Zeroed at the first start, read at every one.
pub const DEFAULT_JOURNAL_FILE_BYTES: usize = 40 * MIB;
/// Files of the journal's ring: two would do, with the third writing goes on while a checkpoint
/// frees the first.
pub const DEFAULT_JOURNAL_FILES: usize = 3;
/// Most files of the journal's ring.
pub const JOURNAL_FILES_MAX: usize = 64;
/// Size above which a segment is closed and the next one begun (topic setting `segment.bytes`).
pub const DEFAULT_SEGMENT_BYTES: usize = 64 * MIB;
/// Largest such size that may be configured.
pub const SEGMENT_BYTES_MAX: usize = 1024 * MIB;
/// Most segments of one partition.
pub const SEGMENTS_PER_PARTITION_MAX: usize = 64 * KIB;
/// Most open segment files.
pub const OPEN_SEGMENTS_MAX: usize = 512;
/// Largest checkpoint (an engine snapshot and the map of segments).
pub const CHECKPOINT_BYTES_MAX: usize = 256 * MIB;
/// Least time between two checkpoints that are taken only to give space back.
pub const RECLAIM_INTERVAL_MS: u64 = 10_000;
/// A checkpoint that would give back less than this (or a segment, if that is less) waits longer.
pub const RECLAIM_BYTES_LEAST: usize = MIB;
/// How long.
pub const RECLAIM_LAZY_MS: u64 = 600_000;
/// Time between two looks at the free space of the file system, while something is written.
pub const SPACE_LOOK_MS: u64 = 10_000;
/// Wait before a checkpoint that the disk refused is tried again; doubled every time, up to
/// `SPACE_RETRY_MS_MAX`.
pub const SPACE_RETRY_MS_MIN: u64 = 1_000;
/// Longest wait between two such tries.
pub const SPACE_RETRY_MS_MAX: u64 = 60_000;

// ------------------------------------------------------------------------------------------------
// Connections (node)
// ------------------------------------------------------------------------------------------------

/// Most TCP and TLS connections.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Most connections from one address.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 2_048;
/// Most QUIC connections.
pub const QUIC_CONNECTIONS_MAX: usize = 4_096;
/// Most bidirectional streams of one QUIC connection at a time; each is a Kafka connection.
pub const QUIC_STREAMS_PER_CONNECTION_MAX: u32 = 64;
/// Flow-control window of one QUIC stream.
pub const QUIC_STREAM_WINDOW_BYTES: u32 = 512 * KIB as u32;
/// Flow-control window of one QUIC connection.
pub const QUIC_CONNECTION_WINDOW_BYTES: u32 = 2 * MIB as u32;
/// TLS sessions that a QUIC listener remembers, so that sleeping devices come back in one flight.
pub const QUIC_SESSIONS_MAX: usize = 16_384;
/// The same, in bytes: a session holds the certificates that its client showed.
pub const QUIC_SESSIONS_BYTES_MAX: usize = 32 * MIB;
/// One of them; larger ones are not remembered.
pub const QUIC_SESSION_BYTES_MAX: usize = 16 * KIB;
/// QUIC handshakes under way; above it new ones wait their turn.
pub const QUIC_HANDSHAKES_MAX: usize = 2_048;
/// QUIC handshakes that wait their turn; above it new ones are refused.
pub const QUIC_INCOMING_MAX: usize = 2_048;
/// First packets of QUIC handshakes that wait their turn.
pub const QUIC_INCOMING_BYTES_MAX: u64 = 8 * MIB as u64;
/// QUIC handshakes under way above which new peers must prove their address first (RFC 9000,
/// section 8.1.2).
pub const QUIC_HANDSHAKES_UNPROVED_MAX: usize = 256;
/// Addresses whose rate of new connections is kept in mind; above it further ones share one.
pub const RATED_ADDRESSES_MAX: usize = 16_384;
/// New connections a second from one address.
pub const CONNECTIONS_PER_ADDRESS_PER_SECOND: u32 = 1_000;
/// An address that was quiet may make so many seconds' worth of connections at once: a site whose
/// devices come back together behind one address.
pub const CONNECTION_BURST_SECONDS: u32 = 10;
/// Telemetry datagrams of one QUIC connection that came and are not committed; above it the oldest go.
pub const TELEMETRY_WAITING_BYTES_MAX: usize = 128 * KIB;
/// The same over all connections; above it each keeps [`TELEMETRY_WAITING_BYTES_LEAST`].
pub const TELEMETRY_WAITING_BYTES_ALL_MAX: usize = 32 * MIB;
/// What each connection may keep in any case: a device that sends little loses nothing to those that flood.
pub const TELEMETRY_WAITING_BYTES_LEAST: usize = 8 * KIB;
/// What a datagram that waits is reckoned with beyond its bytes.
pub const TELEMETRY_DATAGRAM_BYTES: usize = 64;
/// So many times larger are small records in batches than in datagrams.
pub const TELEMETRY_GROWTH: usize = 4;
/// Telemetry of one QUIC connection that is committed together.
pub const TELEMETRY_COMMIT_BYTES_MAX: usize = 128 * KIB;
/// Partitions that telemetry of one connection is committed to together.
pub const TELEMETRY_COMMIT_PARTITIONS_MAX: usize = 64;
/// Requests of one connection that are read and not yet answered; above it reading stops.
pub const CONNECTION_REQUESTS_IN_FLIGHT_MAX: usize = 64;
/// Request bytes of one connection that are read and not yet answered; one request may exceed it.
pub const CONNECTION_REQUEST_BYTES_MAX: usize = 8 * MIB;
/// Bytes of answers on their way to their clients, all connections together; above it fetches wait.
pub const ANSWERS_BYTES_MAX: usize = 64 * MIB;
/// What an answer is reckoned with that tells of all topics, groups or rules, until it is there.
pub const ANSWER_DESCRIBING_BYTES: usize = 256 * KIB;
/// How long a client is told to wait whose records found no room on their way out.
pub const ANSWER_SHED_WAIT_MS: i32 = 100;
/// Time for a TLS or QUIC handshake.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// Time from the connection to its first whole request.
pub const FIRST_REQUEST_MS_MAX: u64 = 30_000;
/// Time from the first byte of a frame to its last (a sender of a byte a minute ends here).
pub const FRAME_COMPLETION_MS_MAX: u64 = 30_000;
/// Time in which a peer must take some byte of a response.
pub const WRITE_STALL_MS_MAX: u64 = 30_000;
/// A connection without a request for so long is closed (Kafka: `connections.max.idle.ms`).
pub const IDLE_CONNECTION_MS_MAX: u64 = 600_000;
/// Time that a graceful stop gives to requests under way.
pub const SHUTDOWN_GRACE_MS_MAX: u64 = 10_000;

// ------------------------------------------------------------------------------------------------
// HTTP (node)
// ------------------------------------------------------------------------------------------------

/// Most HTTP connections.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
/// Largest HTTP body that is no module.
pub const HTTP_BODY_BYTES_MAX: usize = 256 * KIB;
/// Time for one HTTP request.
pub const HTTP_REQUEST_MS_MAX: u64 = 60_000;
/// Largest configuration file.
pub const CONFIG_FILE_BYTES_MAX: usize = 256 * KIB;

// ------------------------------------------------------------------------------------------------
// Client (SDK)
// ------------------------------------------------------------------------------------------------

/// Record bytes that a producer holds before `send` waits (Java: `buffer.memory`).
pub const DEFAULT_CLIENT_BUFFER_BYTES: usize = 32 * MIB;
/// Record bytes of one batch (Java's `batch.size` is 16 KiB; its users raise it first of all).
pub const DEFAULT_CLIENT_BATCH_BYTES: usize = 64 * KIB;
/// Wait for more records before a batch is sent.
pub const DEFAULT_CLIENT_LINGER_MS: u64 = 5;
/// Requests under way on one connection; with idempotence at most five keep their order.
pub const CLIENT_REQUESTS_IN_FLIGHT_MAX: usize = 5;
/// Streams that a producer uses to one broker over QUIC: partitions on different ones do not wait for
/// each other's lost packets.
pub const CLIENT_LANES_MAX: usize = 8;
/// Time within which a record must be delivered, retries included (`delivery.timeout.ms`).
pub const DEFAULT_CLIENT_DELIVERY_MS: u64 = 120_000;
/// Time within which a request must be answered (`request.timeout.ms`).
pub const DEFAULT_CLIENT_REQUEST_MS: u64 = 30_000;
/// Record bytes that a consumer asks for in one fetch.
pub const DEFAULT_CLIENT_FETCH_BYTES: usize = 4 * MIB;
/// Most brokers that a client keeps from a metadata response.
pub const CLIENT_BROKERS_MAX: usize = 1_000;

// ------------------------------------------------------------------------------------------------
// Engine: what is held in memory between events
// ------------------------------------------------------------------------------------------------

/// Record bytes in memory, whether in segments or not, above which produces wait until a
/// checkpoint lets some go.
pub const DEFAULT_UNFLUSHED_BYTES: usize = 128 * MIB;
/// Produce requests that wait for memory, up to `IN_FLIGHT_BYTES_MAX` of them together; further
/// ones are told to try again.
pub const PRODUCES_PARKED_MAX: usize = 4_096;
/// Duplicates of one batch in flight that wait for its answer; further ones are told to try again.
pub const DUPLICATES_WAITING_MAX: usize = 8;
/// Producers of one partition whose refused batch is remembered until they send it again.
pub const REFUSED_PRODUCERS_PER_PARTITION_MAX: usize = 256;
/// Wait before a fetch of history that found `HISTORY_READS_MAX` under way is tried again.
pub const HISTORY_RETRY_MS: u64 = 20;
/// Bytes of one entry after which a drained queue of batches continues in the next entry.
pub const ENTRY_CLOSE_BYTES: usize = ENTRY_BYTES_MAX / 2;

const _: () = {
    assert!(DEFAULT_TAIL_BYTES <= DEFAULT_UNFLUSHED_BYTES);
    assert!(ENTRY_CLOSE_BYTES + FRAME_BYTES_MAX <= ENTRY_BYTES_MAX);
};

// ------------------------------------------------------------------------------------------------
// Relations: what must hold for the caps above to make sense together.
// ------------------------------------------------------------------------------------------------
const _: () = {
    // A frame can carry one largest batch and its surroundings; a response one batch over budget.
    assert!(FRAME_BYTES_BEFORE_AUTH < FRAME_BYTES_MAX);
    assert!(FRAME_BUFFER_START_BYTES <= FRAME_BYTES_BEFORE_AUTH);
    assert!(BATCH_BYTES_MAX + 64 * KIB <= FRAME_BYTES_MAX);
    assert!(FETCH_BYTES_MAX + BATCH_BYTES_MAX < CLIENT_FRAME_BYTES_MAX);
    assert!(FRAME_BYTES_MAX <= CLIENT_FRAME_BYTES_MAX);
    assert!(CLIENT_FRAME_BYTES_MAX <= i32::MAX as usize);
    assert!(CLIENT_ID_BYTES_MAX <= STRING_BYTES_MAX);
    // Batches.
    assert!(DEFAULT_MAX_MESSAGE_BYTES <= BATCH_BYTES_MAX);
    assert!(BATCH_BYTES_MAX <= DECOMPRESSED_BYTES_MAX);
    assert!(DECOMPRESS_RATIO_EXEMPT_BYTES <= DECOMPRESSED_BYTES_MAX);
    assert!(1usize << ZSTD_WINDOW_LOG_MAX <= DECOMPRESSED_BYTES_MAX);
    assert!(DECOMPRESSED_BYTES_MAX <= i32::MAX as usize);
    assert!(BATCH_RECORDS_MAX <= i32::MAX as usize);
    // The least record is 7 bytes: no batch that fits could hold more of them uncompressed than
    // this, and compressed ones must not claim absurdly more.
    assert!(BATCH_RECORDS_MAX >= DEFAULT_MAX_MESSAGE_BYTES / 7);
    // A whole request fits an entry, an entry fits a commit, a commit fits a journal file.
    assert!(FRAME_BYTES_MAX + FRAME_BYTES_MAX / 2 <= ENTRY_BYTES_MAX);
    assert!(ENTRY_BYTES_MAX <= COMMIT_BYTES_MAX);
    assert!(COMMIT_BYTES_MAX <= DEFAULT_JOURNAL_FILE_BYTES);
    assert!(DEFAULT_JOURNAL_FILE_BYTES.is_multiple_of(JOURNAL_BLOCK_BYTES));
    assert!(DEFAULT_JOURNAL_FILES >= 2 && DEFAULT_JOURNAL_FILES <= JOURNAL_FILES_MAX);
    assert!(DEFAULT_SEGMENT_BYTES + BATCH_BYTES_MAX <= SEGMENT_BYTES_MAX);
    assert!(PARTITIONS_PER_PRODUCE_MAX * 4 <= FACTS_PER_ENTRY_MAX);
    assert!(PARTITIONS_PER_DELETE_RECORDS_MAX <= FACTS_PER_ENTRY_MAX);
    assert!(AUTO_CREATED_TOPICS_PER_REQUEST_MAX <= TOPICS_PER_ADMIN_REQUEST_MAX);
    // Engine.
    assert!(PARTITIONS_PER_TOPIC_MAX <= PARTITIONS_MAX);
    assert!(TOPIC_NAME_BYTES_MAX <= STRING_BYTES_MAX);
    assert!(PRODUCERS_PER_PARTITION_MAX <= PRODUCERS_MAX);
    assert!(IN_FLIGHT_BYTES_MAX >= FRAME_BYTES_MAX);
    assert!(GROUP_MEMBERS_MAX <= MEMBERS_MAX);
    assert!(2 * GROUP_BYTES_MAX <= ENTRY_CLOSE_BYTES && GROUP_BYTES_MAX <= MEMBERS_BYTES_MAX);
    assert!(GROUP_OFFSETS_MAX <= OFFSETS_MAX);
    assert!(SESSION_TIMEOUT_MS_MIN < SESSION_TIMEOUT_MS_MAX);
    assert!(HISTORY_READS_PER_FETCH_MAX <= HISTORY_READS_MAX);
    assert!(HISTORY_READ_BYTES_MAX <= FETCH_BYTES_MAX);
    // Transforms: what comes out of one fits a batch each, and an entry together.
    assert!(TRANSFORM_OUTPUT_BYTES_MAX <= BATCH_BYTES_MAX);
    assert!(TRANSFORM_OUTPUT_RECORDS_MAX <= BATCH_RECORDS_MAX);
    assert!(TRANSFORM_OUTPUT_EXEMPT_BYTES <= TRANSFORM_OUTPUT_BYTES_MAX);
    assert!(TRANSFORM_MEMORY_BYTES_MIN <= DEFAULT_TRANSFORM_MEMORY_BYTES);
    assert!(DEFAULT_TRANSFORM_MEMORY_BYTES <= TRANSFORM_MEMORY_BYTES_MAX);
    assert!(DEFAULT_TRANSFORM_CPU_MS_PER_BATCH <= TRANSFORM_CPU_MS_PER_BATCH_MAX);
    assert!(TRANSFORMS_PER_TOPIC_MAX <= TRANSFORMS_MAX);
    assert!(
        DERIVE_READ_BYTES <= HISTORY_READ_BYTES_MAX && STATE_PAGE_BYTES <= HISTORY_READ_BYTES_MAX
    );
    assert!(PARTITIONS_PER_TOPIC_MAX * 2 <= TRANSFORM_FACTS_MAX);
    assert!(DEFAULT_TRANSFORM_STATE_BYTES <= TRANSFORM_STATE_BYTES_MAX);
    assert!(TRANSFORM_STATE_CHANGE_BYTES_MAX <= BATCH_BYTES_MAX);
    assert!(TRANSFORM_STATE_VALUE_BYTES_MAX < TRANSFORM_STATE_CHANGE_BYTES_MAX);
    assert!(TRANSFORM_TIMER_OUTPUT_BYTES <= TRANSFORM_OUTPUT_BYTES_MAX);
    // Connections: a waiting fetch is not an idle connection; one request always fits.
    assert!(FETCH_WAIT_MS_MAX < IDLE_CONNECTION_MS_MAX);
    assert!(CONNECTIONS_PER_ADDRESS_MAX <= CONNECTIONS_MAX);
    assert!(QUIC_STREAM_WINDOW_BYTES <= QUIC_CONNECTION_WINDOW_BYTES);
    assert!(ANSWERS_BYTES_MAX >= FETCH_BYTES_MAX + BATCH_BYTES_MAX);
    assert!(TELEMETRY_COMMIT_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(
        QUIC_CONNECTIONS_MAX * TELEMETRY_WAITING_BYTES_LEAST <= TELEMETRY_WAITING_BYTES_ALL_MAX
    );
    assert!(CLIENT_REQUESTS_IN_FLIGHT_MAX <= CONNECTION_REQUESTS_IN_FLIGHT_MAX);
    assert!(CLIENT_REQUESTS_IN_FLIGHT_MAX <= PRODUCER_BATCHES_KEPT);
    assert!(CLIENT_LANES_MAX * 4 <= QUIC_STREAMS_PER_CONNECTION_MAX as usize);
    // Client.
    assert!(DEFAULT_CLIENT_BATCH_BYTES <= DEFAULT_MAX_MESSAGE_BYTES);
    assert!(DEFAULT_MAX_MESSAGE_BYTES <= DEFAULT_CLIENT_BUFFER_BYTES);
    assert!(DEFAULT_CLIENT_REQUEST_MS <= DEFAULT_CLIENT_DELIVERY_MS);
};

// ------------------------------------------------------------------------------------------------
// Decoding messages (wire)
// ------------------------------------------------------------------------------------------------

/// Memory that decoding a message may take whatever its size, beyond the frame itself.
pub const DECODE_MEMORY_BYTES_BASE: usize = 2 * MIB;
/// Memory that decoding may take on top for each byte of the frame: elements are larger in memory
/// than on the wire, and a peer must not be able to multiply that.
pub const DECODE_MEMORY_BYTES_PER_INPUT_BYTE: usize = 4;
/// Largest frame taken before a connection has sent its first request that could be decoded.
pub const FRAME_BYTES_BEFORE_FIRST_REQUEST: usize = MIB;

const _: () = {
    assert!(FRAME_BYTES_BEFORE_FIRST_REQUEST <= FRAME_BYTES_MAX);
    assert!(FRAME_BYTES_BEFORE_AUTH <= FRAME_BYTES_BEFORE_FIRST_REQUEST);
};

// ------------------------------------------------------------------------------------------------
// Disk and checkpoints (storage)
// ------------------------------------------------------------------------------------------------

/// Operations under way on the io_uring of a node; its queues are as long.
pub const URING_IN_FLIGHT_MAX: usize = 64;
/// Operations waiting or running on the threads of the portable disk.
pub const DISK_JOBS_MAX: usize = 256;
/// Jobs of history reads under way at once; the others wait, `HISTORY_READS_MAX` in all.
pub const HISTORY_JOBS_AT_ONCE: usize = 8;
/// Marks of all segment indexes in memory, 24 bytes each; the index unused longest goes first.
pub const SEGMENT_INDEX_MARKS_MAX: usize = 64 * KIB;
/// The index of a closed segment of this size or more is kept in a file; smaller ones are read
/// through when they are asked for after a start.
pub const SEGMENT_INDEXED_BYTES_MIN: usize = MIB;
/// Most marks that are taken from the file of an index.
pub const SEGMENT_INDEX_FILE_MARKS_MAX: usize = 32 * KIB;
/// Partitions whose segments are written at once at a checkpoint.
pub const SEGMENT_FLUSHES_AT_ONCE: usize = 4;
/// A batch of so many bytes goes straight to its segment (DESIGN 2.2, direct path).
pub const DIRECT_BATCH_BYTES: usize = 64 * KIB;
/// Partitions that have batches on the direct path at a time; those of others go by the journal.
pub const DIRECT_RUNS_MAX: usize = 256;
/// Partitions whose direct batches are being written at once.
pub const DIRECT_LANES_MAX: usize = 8;
/// Bytes gathered for one direct write; a larger batch goes alone.
pub const DIRECT_GATHER_BYTES: usize = MIB;
/// Bytes gathered for one write of a segment or a checkpoint; a larger batch goes alone.
pub const SEGMENT_GATHER_BYTES: usize = MIB;
/// Bytes that end a linger of the journal, or the window of topics that are synced after the answer.
pub const DEFAULT_COMMIT_LINGER_BYTES: usize = 256 * KIB;
/// Largest buffer of a commit that is kept for the next one, while writes go on.
pub const COMMIT_BUFFER_KEPT_BYTES: usize = COMMIT_GATHER_BYTES;
/// Bytes of entries that may wait for a commit before connections are not read.
pub const DEFAULT_JOURNAL_QUEUE_BYTES: usize = 8 * MIB;
/// Findings of `millpond log verify` that are kept and shown; the rest is counted.
pub const OFFLINE_FINDINGS_MAX: usize = 10_000;

const _: () = {
    assert!(JOURNAL_WRITES_IN_FLIGHT < URING_IN_FLIGHT_MAX);
    assert!(COMMIT_BYTES_MAX + JOURNAL_BLOCK_BYTES <= DEFAULT_JOURNAL_FILE_BYTES);
    // The memory budget of the tail asks for a checkpoint before half of the ring is used.
    assert!(DEFAULT_TAIL_BYTES <= DEFAULT_JOURNAL_FILES * DEFAULT_JOURNAL_FILE_BYTES / 2);
    assert!(DEFAULT_COMMIT_LINGER_BYTES <= DEFAULT_JOURNAL_QUEUE_BYTES);
    assert!(DEFAULT_JOURNAL_QUEUE_BYTES <= IN_FLIGHT_BYTES_MAX);
};

// ------------------------------------------------------------------------------------------------
// Packing and compaction (storage)
// ------------------------------------------------------------------------------------------------

/// Record bytes, uncompressed, that packing gathers into one batch. More of them compress no better
/// (telemetry: 0.147 of its size with 64 KiB and with 256), and consumers that cannot read zstd
/// are sent that much at least.
pub const DEFAULT_PACK_TARGET_BYTES: usize = 64 * KIB;
/// Least of it that a topic's `max.message.bytes` may bring about.
pub const PACK_TARGET_BYTES_MIN: usize = 4 * KIB;
/// Most of it: a reader of one record decompresses all of its batch.
pub const PACK_TARGET_BYTES_MAX: usize = 256 * KIB;
/// A batch that takes this much on flash compressed, or twice that uncompressed, is not small.
pub const DEFAULT_PACK_SMALL_BATCH_BYTES: usize = 32 * KIB;
/// Most records that packing puts into one batch.
pub const PACK_RECORDS_MAX: usize = 16 * KIB;
/// Bytes of batches that are packed in one go: as much memory is taken beside them.
pub const PACK_JOB_BYTES: usize = 4 * MIB;
/// How many times its size a packed batch is expected to be when it is served.
pub const HISTORY_EXPANSION: usize = 4;
/// Packed batches that make about this much are unpacked on the engine's thread: handing them over
/// would cost more.
pub const SERVE_IN_PLACE_BYTES: usize = 64 * KIB;
/// Wait from a start to the first scrub: whoever was away has other things to do.
pub const SCRUB_FIRST_MS: u64 = 60_000;
/// Wait from the end of a scrub to the next one.
pub const SCRUB_EVERY_MS: u64 = 24 * 3_600_000;
/// Bytes that the scrub reads before it rests.
pub const SCRUB_PIECE_BYTES: u64 = 256 * KIB as u64;
/// Bytes that the scrub reads in a second: 4 GiB in five hours, unnoticed on a slow card.
pub const DEFAULT_SCRUB_BYTES_PER_SECOND: u64 = 256 * KIB as u64;
/// Level of zstd for packing: higher ones cost much and gain little on telemetry.
pub const DEFAULT_PACK_ZSTD_LEVEL: i32 = 1;
/// Memory for the keys of one round of compaction; a round ends where it is full.
pub const DEFAULT_COMPACTION_MAP_BYTES: usize = 20 * MIB;
/// Least memory for them: a round must come further than one batch.
pub const COMPACTION_MAP_BYTES_MIN: usize = 64 * KIB;
/// Bytes of batches that compaction holds at once, beside one batch in the making.
pub const COMPACTION_JOB_BYTES: usize = MIB;
/// A partition's newest segment is closed for a round when it has this size ...
pub const COMPACTION_CLOSE_BYTES: u64 = MIB as u64;
/// ... or this long after it was first seen with something new in it: at most so often is a small
/// topic written anew.
pub const COMPACTION_CLOSE_MS: u64 = 60_000;
/// How long compaction leaves a disk alone that refused a write or failed a read.
pub const COMPACTION_BACKOFF_MS: u64 = 60_000;
/// Longest that a piece of background work waits for a busy journal.
pub const BACKGROUND_YIELD_MS: u64 = 1_000;
/// What background work reads and writes in a second: little enough for an SD card to go on with
/// the journal beside it.
pub const DEFAULT_BACKGROUND_BYTES_PER_SECOND: u64 = 8 * MIB as u64;

const _: () = {
    assert!(PACK_TARGET_BYTES_MIN <= DEFAULT_PACK_TARGET_BYTES);
    assert!(DEFAULT_PACK_TARGET_BYTES <= PACK_TARGET_BYTES_MAX);
    // A packed batch is no larger than what clients accept from the producers of a usual topic.
    assert!(PACK_TARGET_BYTES_MAX * 2 <= DEFAULT_MAX_MESSAGE_BYTES);
    assert!(DEFAULT_PACK_SMALL_BATCH_BYTES * 2 <= DEFAULT_PACK_TARGET_BYTES);
    assert!(PACK_RECORDS_MAX <= BATCH_RECORDS_MAX);
    assert!(COMPACTION_MAP_BYTES_MIN <= DEFAULT_COMPACTION_MAP_BYTES);
};

const _: () = {
    // An entry ends a whole transaction: its markers, its groups, and what begins and ends it.
    assert!(
        PARTITIONS_PER_TRANSACTION_MAX + GROUPS_PER_TRANSACTION_MAX + 4 <= FACTS_PER_ENTRY_MAX / 2
    );
    assert!(PARTITIONS_PER_TRANSACTION_MAX <= TRANSACTION_PARTITIONS_MAX);
    assert!(TRANSACTIONS_PER_PARTITION_MAX <= TRANSACTIONS_IN_PARTITIONS_MAX);
};
