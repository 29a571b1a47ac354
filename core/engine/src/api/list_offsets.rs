//! ListOffsets and OffsetForLeaderEpoch: where a partition begins, ends, and where a time or an
//! epoch lies in it.

use crate::effect::HistoryRead;
use crate::engine::Engine;
use crate::fetch::check_epoch;
use crate::partition::Partition;
use crate::reads::{PartialList, Search, Wanted};
use crate::units::{PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::list_offsets_request::ListOffsetsPartition;
use millpond_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millpond_wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use millpond_wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use millpond_wire::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, Response,
};

impl Engine {
    pub(crate) fn on_list_offsets(
        &mut self,
        id: RequestId,
        request: &ListOffsetsRequest,
        version: i16,
    ) {
        let is_committed_only = request.isolation_level == READ_COMMITTED;
        let mut response = ListOffsetsResponse::default();
        let mut reads = Vec::new();
        let mut searches = Vec::new();
        for (t, topic) in request.topics.iter().enumerate() {
            let mut answer = ListOffsetsTopicResponse {
                name: topic.name.clone(),
                ..ListOffsetsTopicResponse::default()
            };
            for (p, part) in topic.partitions.iter().enumerate() {
                let mut result = ListOffsetsPartitionResponse {
                    partition_index: part.partition_index,
                    timestamp: -1,
                    offset: -1,
                    leader_epoch: -1,
                    ..ListOffsetsPartitionResponse::default()
                };
                let located = if version < first_version_of(part.timestamp) {
                    Err(ErrorCode::UnsupportedVersion)
                } else {
                    self.locate(&topic.name, part, is_committed_only)
                };
                match located {
                    Ok(Located::At { offset, timestamp, epoch }) => {
                        result.offset = offset;
                        result.timestamp = timestamp;
                        result.leader_epoch = epoch;
                    }
                    Ok(Located::Nowhere) => {}
                    Ok(Located::InSegments { key, wanted, read, bound }) => {
                        if reads.len() < limits::HISTORY_READS_MAX {
                            reads.push(read);
                            searches.push(Search { place: (t, p), key, wanted, bound });
                        } else {
                            result.error_code = ErrorCode::RequestTimedOut.code();
                        }
                    }
                    Err(code) => result.error_code = code.code(),
                }
                answer.partitions.push(result);
            }
            response.topics.push(answer);
        }
        if reads.is_empty() {
            self.reply(id, Response::ListOffsets(response));
        } else {
            self.read_for_list(reads, PartialList { id, response, searches });
        }
    }

    fn locate(
        &self,
        topic: &str,
        part: &ListOffsetsPartition,
        is_committed_only: bool,
    ) -> Result<Located, ErrorCode> {
        let (key, log) = self.named_partition(topic, part.partition_index)?;
        check_epoch(log, part.current_leader_epoch)?;
        let epoch = log.leader_epoch;
        let bound = if is_committed_only { log.last_stable() } else { log.high_watermark };
        let at = |offset| Ok(Located::At { offset, timestamp: -1, epoch });
        let wanted = match part.timestamp {
            LATEST => return at(bound),
            EARLIEST | EARLIEST_LOCAL => return at(log.log_start),
            // Nothing is tiered.
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(Located::Nowhere),
            OF_MAX_TIMESTAMP => Wanted::Newest,
            timestamp => Wanted::At(timestamp),
        };
        if let Some(read) = history_for(key, log, wanted) {
            return Ok(Located::InSegments { key, wanted, read, bound });
        }
        Ok(match self.search_tail(key, wanted)?.filter(|found| found.offset < bound) {
            Some(found) => Located::At {
                offset: found.offset.max(log.log_start),
                timestamp: found.timestamp,
                epoch,
            },
            None => Located::Nowhere,
        })
    }

    fn named_partition(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(PartitionKey, &Partition), ErrorCode> {
        let missing = ErrorCode::UnknownTopicOrPartition;
        let topic_id = self.state.catalog.by_name(topic).ok_or(missing)?.id;
        let key = PartitionKey { topic_id, partition };
        Ok((key, self.state.catalog.partition(key).ok_or(missing)?))
    }

    pub(crate) fn on_offset_for_leader_epoch(
        &mut self,
        id: RequestId,
        request: &OffsetForLeaderEpochRequest,
    ) {
        let mut response = OffsetForLeaderEpochResponse::default();
        for topic in &request.topics {
            let partitions =
                topic.partitions.iter().map(|part| self.end_of_epoch(&topic.topic, part)).collect();
            let topic = topic.topic.clone();
            response.topics.push(OffsetForLeaderTopicResult { topic, partitions });
        }
        self.reply(id, Response::OffsetForLeaderEpoch(response));
    }

    /// Where an epoch ends. A partition has had one epoch only so far: it ends where consumers
    /// stop reading; older ones are unknown (KIP-320).
    fn end_of_epoch(&self, topic: &str, part: &OffsetForLeaderPartition) -> EpochEndOffset {
        let mut answer = EpochEndOffset {
            partition: part.partition,
            leader_epoch: -1,
            end_offset: -1,
            ..EpochEndOffset::default()
        };
        let log = self.named_partition(topic, part.partition).and_then(|(_, log)| {
            check_epoch(log, part.current_leader_epoch)?;
            Ok(log)
        });
        match log {
            Ok(log) if part.leader_epoch == log.leader_epoch => {
                answer.leader_epoch = log.leader_epoch;
                answer.end_offset = log.high_watermark;
            }
            Ok(_) => {}
            Err(code) => answer.error_code = code.code(),
        }
        answer
    }
}

/// Where a search ends.
enum Located {
    At { offset: i64, timestamp: i64, epoch: i32 },
    Nowhere,
    InSegments { key: PartitionKey, wanted: Wanted, read: HistoryRead, bound: i64 },
}

/// The read that a search needs, if it cannot be done in memory.
fn history_for(key: PartitionKey, log: &Partition, wanted: Wanted) -> Option<HistoryRead> {
    let upto = log.tail_start();
    let (newest, newest_batch) = log.newest();
    let read = |offset, find_timestamp| {
        Some(HistoryRead { partition: key, offset, max_bytes: 1, upto, find_timestamp })
    };
    match wanted {
        // What is known exactly is one batch; of a segment only its greatest timestamp is.
        Wanted::Newest if newest_batch < upto && newest >= 0 => read(newest_batch, Some(newest)),
        Wanted::At(timestamp) if newest >= timestamp && log.log_start < upto => {
            read(log.log_start, Some(timestamp))
        }
        _ => None,
    }
}

/// The version that knows what a number below zero asks for.
fn first_version_of(timestamp: i64) -> i16 {
    match timestamp {
        OF_MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        LATEST | EARLIEST | 0.. => 1,
        _ => i16::MAX,
    }
}

const READ_COMMITTED: i8 = 1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const OF_MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
