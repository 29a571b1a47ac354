//! Which batches may become one. Judged by headers only. Must never put into one class what a
//! consumer, a follower or a transaction could tell apart.

use millpond_wire::limits;
use millpond_wire::record::{BatchHeader, Codec, LogBatch, TimestampType};

/// How far packing goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPolicy {
    /// Level of zstd.
    pub zstd_level: i32,
    /// Uncompressed bytes of records that are gathered into one batch.
    pub target_bytes: usize,
    /// Most records of one batch.
    pub max_records: usize,
    /// Compressed batches of this size are not small any more.
    pub small_batch_bytes: usize,
    /// The codec that the topic's `compression.type` names; `None` is `producer`.
    pub compression_type: Option<Codec>,
}

impl Default for PackPolicy {
    fn default() -> Self {
        Self {
            zstd_level: limits::DEFAULT_PACK_ZSTD_LEVEL,
            target_bytes: limits::DEFAULT_PACK_TARGET_BYTES,
            max_records: limits::PACK_RECORDS_MAX,
            small_batch_bytes: limits::DEFAULT_PACK_SMALL_BATCH_BYTES,
            compression_type: None,
        }
    }
}

impl PackPolicy {
    /// The policy of a topic with these settings (`compression.type`, `max.message.bytes`): what
    /// is packed is never larger than what its producers may send, within reason.
    #[must_use]
    pub fn for_topic(compression_type: Option<Codec>, max_message_bytes: usize) -> Self {
        let default = Self::default();
        let target_bytes = default
            .target_bytes
            .min(max_message_bytes)
            .clamp(limits::PACK_TARGET_BYTES_MIN, limits::PACK_TARGET_BYTES_MAX);
        Self { target_bytes, compression_type, ..default }
    }
}

/// What the batches of one run have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    pub(super) leader_epoch: i32,
    /// The one time of all records, where it is the broker's.
    pub(super) append_time: Option<i64>,
    /// Producer id and epoch of transactional data. What is of another transaction of theirs has
    /// a control batch before it.
    pub(super) transaction: Option<(i64, i16)>,
    /// Whether the codec is our choice, not one that consumers of the topic are known to read.
    pub(super) is_repacked: bool,
}

/// The class of a batch; `None` for one that is never taken apart: a control batch, or one
/// without records.
pub(crate) fn class_of(header: &BatchHeader, policy: &PackPolicy) -> Option<Class> {
    let attributes = header.attributes;
    if attributes.is_control() || header.records_count == 0 {
        return None;
    }
    let codec = attributes.codec().ok()?;
    let is_log_append_time = attributes.timestamp_type() == TimestampType::LogAppendTime;
    Some(Class {
        leader_epoch: header.partition_leader_epoch,
        append_time: is_log_append_time.then_some(header.max_timestamp),
        transaction: attributes
            .is_transactional()
            .then_some((header.producer_id, header.producer_epoch)),
        is_repacked: repacked_class(codec, attributes.is_repacked(), policy),
    })
}

/// Whether a packed form of records that were in `codec` needs the mark. A topic that names a
/// codec decides for all of its records; else what the producers did.
const fn repacked_class(codec: Codec, is_repacked: bool, policy: &PackPolicy) -> bool {
    match policy.compression_type {
        Some(named) => !matches!(named, Codec::Zstd),
        None => is_repacked || !matches!(codec, Codec::Zstd),
    }
}

/// Whether packing would gain too little on a batch for its cost. A quarter of the size counts
/// for the dense codecs: 8 KiB of zstd are some 50 KiB of telemetry.
pub(crate) fn is_dense(header: &BatchHeader, batch: &LogBatch, policy: &PackPolicy) -> bool {
    let small_bytes = policy.small_batch_bytes;
    let dense_bytes = match header.attributes.codec() {
        Ok(Codec::None) => small_bytes.saturating_mul(2),
        Ok(Codec::Snappy | Codec::Lz4) | Err(_) => small_bytes,
        Ok(Codec::Gzip | Codec::Zstd) => small_bytes / 4,
    };
    batch.size_bytes() >= dense_bytes
}

/// The time from which tombstones of the batch may go, where compaction has set it (KIP-534).
pub(crate) const fn delete_horizon(header: &BatchHeader) -> Option<i64> {
    if header.attributes.has_delete_horizon() { Some(header.base_timestamp) } else { None }
}
