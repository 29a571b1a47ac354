//! WriteTxnMarkers: an administrator ends what a transaction left in single partitions
//! (`kafka-transactions --abort`). The coordinator is not asked and not told: its own end of the
//! transaction, when it comes, finds nothing open there. Answered when it is durable.

use crate::engine::Engine;
use crate::transaction::COORDINATOR_EPOCH;
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::write_txn_markers_request::WritableTxnMarker;
use millpond_wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use millpond_wire::messages::{Response, WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use millpond_wire::record::EndMarker;

impl Engine {
    pub(crate) fn on_write_txn_markers(&mut self, id: RequestId, request: &WriteTxnMarkersRequest) {
        let topics = request.markers.iter().flat_map(|marker| &marker.topics);
        let named: usize = topics.map(|topic| topic.partition_indexes.len()).sum();
        let is_too_large = named > limits::PARTITIONS_PER_TRANSACTION_MAX;
        let mut response = WriteTxnMarkersResponse::default();
        for marker in &request.markers {
            let mut result = WritableTxnMarkerResult {
                producer_id: marker.producer_id,
                ..WritableTxnMarkerResult::default()
            };
            for topic in &marker.topics {
                let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
                for partition in &topic.partition_indexes {
                    let written = match is_too_large {
                        true => Err(ErrorCode::InvalidRequest),
                        false => self.write_marker(marker, &topic.name, *partition),
                    };
                    partitions.push(WritableTxnMarkerPartitionResult {
                        partition_index: *partition,
                        error_code: written.err().unwrap_or(ErrorCode::None).code(),
                    });
                }
                let name = topic.name.clone();
                result.topics.push(WritableTxnMarkerTopicResult { name, partitions });
            }
            response.markers.push(result);
        }
        let seq = if self.is_drafting() { self.current_seq() } else { EntrySeq(0) };
        self.reply_after(seq, id, Response::WriteTxnMarkers(response));
    }

    fn write_marker(
        &mut self,
        marker: &WritableTxnMarker,
        topic: &str,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let missing = ErrorCode::UnknownTopicOrPartition;
        let topic_id = self.state.catalog.by_name(topic).ok_or(missing)?.id;
        let key = PartitionKey { topic_id, partition };
        let log = self.state.catalog.partition(key).ok_or(missing)?;
        if marker.coordinator_epoch < COORDINATOR_EPOCH {
            return Err(ErrorCode::TransactionCoordinatorFenced);
        }
        // Nothing is open: it was ended before.
        let Some(open) = log.stability.open_of(marker.producer_id) else { return Ok(()) };
        if marker.producer_epoch < open.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        self.check_coordinator()?;
        let (is_commit, coordinator_epoch) = (marker.transaction_result, marker.coordinator_epoch);
        let end = EndMarker { is_commit, coordinator_epoch };
        let at_ms = self.now.wall_ms;
        self.mark_partition(key, end, marker.producer_id, marker.producer_epoch, at_ms);
        Ok(())
    }
}
