//! DeleteRecords: a client moves a partition's log start. Answered when the move is durable; the
//! space comes back with the next checkpoint.

use crate::engine::Engine;
use crate::retention::DropCause;
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::delete_records_request::DeleteRecordsPartition;
use millpond_wire::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use millpond_wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse, Response};

impl Engine {
    pub(crate) fn on_delete_records(&mut self, id: RequestId, request: &DeleteRecordsRequest) {
        let mut response = DeleteRecordsResponse::default();
        let named: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let is_too_large = named > limits::PARTITIONS_PER_DELETE_RECORDS_MAX;
        for topic in &request.topics {
            let mut answer =
                DeleteRecordsTopicResult { name: topic.name.clone(), partitions: Vec::new() };
            for part in &topic.partitions {
                let moved = if is_too_large {
                    Err(ErrorCode::InvalidRequest)
                } else {
                    self.delete_records(&topic.name, part)
                };
                answer.partitions.push(DeleteRecordsPartitionResult {
                    partition_index: part.partition_index,
                    low_watermark: moved.unwrap_or(-1),
                    error_code: moved.err().unwrap_or(ErrorCode::None).code(),
                });
            }
            response.topics.push(answer);
        }
        let seq = self.newest_seq();
        self.reply_after(seq, id, Response::DeleteRecords(response));
    }

    /// Kafka's rules: up to the high watermark, and only where old records may go at all. Returns
    /// the log start.
    fn delete_records(
        &mut self,
        name: &str,
        part: &DeleteRecordsPartition,
    ) -> Result<i64, ErrorCode> {
        let missing = ErrorCode::UnknownTopicOrPartition;
        let topic = self.state.catalog.by_name(name).ok_or(missing)?;
        let key = PartitionKey { topic_id: topic.id, partition: part.partition_index };
        let deletes = topic.deletes_old_segments();
        let log = self.state.catalog.partition(key).ok_or(missing)?;
        if !deletes {
            return Err(ErrorCode::PolicyViolation);
        }
        let (log_start, high_watermark) = (log.log_start, log.high_watermark);
        let offset = if part.offset == HIGH_WATERMARK { high_watermark } else { part.offset };
        if offset < 0 || offset > high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        self.move_log_start(key, offset, DropCause::Request);
        Ok(log_start.max(offset))
    }

    /// The newest entry, the one that is being decided included.
    fn newest_seq(&self) -> EntrySeq {
        if self.is_drafting() { self.current_seq() } else { self.last_seq() }
    }
}

const HIGH_WATERMARK: i64 = -1;
