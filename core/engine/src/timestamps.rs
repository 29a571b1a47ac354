//! Timestamps of producers that are too far from this node's clock: refused where the topic says how
//! far they may be (KIP-937). Opens a batch only for a topic that has such a limit behind its clock
//! and only when the header cannot tell. Never changes a timestamp.

use crate::engine::Engine;
use crate::refusal::{Refusal, refuse, refuse_records};
use crate::topic::Topic;
use crate::topic_config::{TIMESTAMP_AFTER_MAX_MS, TIMESTAMP_BEFORE_MAX_MS};
use crate::units::PartitionKey;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::record::{Batch, BatchError};
use std::ops::RangeInclusive;

impl Engine {
    /// Refuses a batch with a record outside the topic's limits. Where the broker writes the
    /// timestamps there is nothing to check.
    pub(crate) fn check_times(&self, key: PartitionKey, batch: &Batch) -> Result<(), Refusal> {
        let Some(topic) = self.state.catalog.by_id(key.topic_id) else { return Ok(()) };
        if topic.has_log_append_time() {
            return Ok(());
        }
        let Some(limits) = timestamp_limits(topic, self.now.wall_ms) else { return Ok(()) };
        let late = late_records(batch, &limits)
            .map_err(|error| refuse(ErrorCode::CorruptMessage, error.to_string()))?;
        if late.is_empty() {
            return Ok(());
        }
        let (first, last) = (limits.start(), limits.end());
        let records = late.into_iter().map(|(index, timestamp)| {
            let message = format!(
                "Timestamp {timestamp} of message {index} is out of range. The timestamp should be \
                 within [{first}, {last}]"
            );
            (index, message)
        });
        let message = "One or more records have been rejected due to invalid timestamp";
        Err(refuse_records(ErrorCode::InvalidTimestamp, message, records.collect()))
    }
}

impl Engine {
    /// What records' times are held against; `None` on a board whose clock was never set: there each
    /// record knows better. One that is merely behind counts: what is held back until it is set is
    /// not lost.
    pub(crate) fn record_now_ms(&self) -> Option<i64> {
        (self.now.wall_ms >= limits::CLOCK_SET_FROM_MS).then_some(self.now.wall_ms)
    }
}

/// The timestamps that a topic takes now; `None`: all.
fn timestamp_limits(topic: &Topic, wall_ms: i64) -> Option<RangeInclusive<i64>> {
    let (before, after) =
        (topic.given(TIMESTAMP_BEFORE_MAX_MS), topic.given(TIMESTAMP_AFTER_MAX_MS));
    if before.is_none() && after.is_none() {
        return None;
    }
    let limit = |given: Option<&str>| given.and_then(|ms| ms.parse().ok()).unwrap_or(i64::MAX);
    let (before, after) = (limit(before), limit(after));
    let first = if before == i64::MAX { i64::MIN } else { wall_ms.saturating_sub(before) };
    Some(first..=wall_ms.saturating_add(after))
}

/// The records outside the limits, up to a cap, with their timestamps.
fn late_records(
    batch: &Batch,
    allowed: &RangeInclusive<i64>,
) -> Result<Vec<(i32, i64)>, BatchError> {
    // A header says the latest timestamp but not the earliest.
    let latest = batch.header().max_timestamp;
    if *allowed.start() == i64::MIN && latest <= *allowed.end() {
        return Ok(Vec::new());
    }
    let section = batch.decompress(limits::DECOMPRESSED_BYTES_MAX)?;
    let mut late = Vec::new();
    for record in batch.records(&section) {
        let record = record?;
        // -1: the record has none.
        if record.timestamp != -1 && !allowed.contains(&record.timestamp) {
            late.push((record.offset_delta, record.timestamp));
            if late.len() >= limits::RECORD_ERRORS_MAX {
                break;
            }
        }
    }
    Ok(late)
}
