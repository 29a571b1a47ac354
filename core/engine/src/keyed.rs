//! Records of compacted topics need a key (as in Kafka): without one nothing would ever supersede
//! them. The only place on the way of a batch into the log that opens it, and only for such
//! topics; never beyond the cap on what it may decompress to.

use crate::engine::Engine;
use crate::refusal::{Refusal, refuse, refuse_records};
use crate::topic_config::CLEANUP_POLICY;
use crate::units::PartitionKey;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits::{DECOMPRESSED_BYTES_MAX, RECORD_ERRORS_MAX};
use millpond_wire::record::{Batch, BatchError};

impl Engine {
    /// Refuses a batch with a record without a key, if its topic is compacted.
    pub(crate) fn check_keys(&self, key: PartitionKey, batch: &Batch) -> Result<(), Refusal> {
        let topic = self.state.catalog.by_id(key.topic_id);
        let Some(topic) = topic.filter(|topic| is_compacted(topic.config(CLEANUP_POLICY))) else {
            return Ok(());
        };
        let keyless = keyless_records(batch)
            .map_err(|error| refuse(ErrorCode::CorruptMessage, error.to_string()))?;
        if keyless.is_empty() {
            return Ok(());
        }
        let (name, partition) = (&topic.name, key.partition);
        let message = format!(
            "Compacted topic cannot accept message without key in topic partition \
             {name}-{partition}"
        );
        let records = keyless.into_iter().map(|index| (index, message.clone())).collect();
        Err(refuse_records(ErrorCode::InvalidRecord, message, records))
    }
}

fn is_compacted(cleanup_policy: &str) -> bool {
    cleanup_policy.split(',').any(|policy| policy.trim() == "compact")
}

/// The places of records without a key, up to a cap.
fn keyless_records(batch: &Batch) -> Result<Vec<i32>, BatchError> {
    let section = batch.decompress(DECOMPRESSED_BYTES_MAX)?;
    let mut keyless = Vec::new();
    for record in batch.records(&section) {
        let record = record?;
        if record.key.is_none() {
            keyless.push(record.offset_delta);
            if keyless.len() >= RECORD_ERRORS_MAX {
                break;
            }
        }
    }
    Ok(keyless)
}
