//! DescribeLogDirs and AlterReplicaLogDirs: there is one directory, and nothing moves out of it.
//! Never counts a byte twice: what is in segments is counted there, the rest in memory.

use crate::engine::Engine;
use crate::partition::Partition;
use crate::units::{PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::alter_replica_log_dirs_request::AlterReplicaLogDirTopic;
use millpond_wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use millpond_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use millpond_wire::messages::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, DescribeLogDirsRequest,
    DescribeLogDirsResponse, Response,
};
use std::collections::BTreeSet;

impl Engine {
    pub(crate) fn on_describe_log_dirs(&mut self, id: RequestId, request: &DescribeLogDirsRequest) {
        let wanted: Option<BTreeSet<(&str, i32)>> = request.topics.as_ref().map(|topics| {
            let parts = topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|index| (topic.topic.as_str(), *index))
            });
            parts.collect()
        });
        let mut topics = Vec::new();
        for topic in self.state.catalog.iter() {
            let parts = topic.partitions.iter().zip(0..);
            let parts = parts.filter(|(_, index)| {
                wanted.as_ref().is_none_or(|wanted| wanted.contains(&(topic.name.as_str(), *index)))
            });
            let partitions: Vec<DescribeLogDirsPartition> = parts
                .map(|(log, partition_index)| DescribeLogDirsPartition {
                    partition_index,
                    partition_size: self.size_bytes(log),
                    offset_lag: 0,
                    is_future_key: false,
                })
                .collect();
            if !partitions.is_empty() {
                topics.push(DescribeLogDirsTopic { name: topic.name.clone(), partitions });
            }
        }
        let space = self.space();
        let is_known = space.budget_bytes > 0;
        let bytes = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let left = space.budget_bytes.saturating_sub(space.used_bytes).min(space.free_bytes);
        let result = DescribeLogDirsResult {
            error_code: ErrorCode::None.code(),
            log_dir: self.config.log_dir.clone(),
            topics,
            total_bytes: if is_known { bytes(space.budget_bytes) } else { -1 },
            usable_bytes: if is_known { bytes(left) } else { -1 },
            is_cordoned: false,
        };
        let results = vec![result];
        let response = DescribeLogDirsResponse { results, ..DescribeLogDirsResponse::default() };
        self.reply_after(self.catalog_seq, id, Response::DescribeLogDirs(response));
    }

    /// Bytes of a partition in segments, and of its batches that are only in the journal.
    fn size_bytes(&self, log: &Partition) -> i64 {
        let waiting: usize =
            log.unflushed(self.last_seq()).map(millpond_wire::record::LogBatch::size_bytes).sum();
        i64::try_from(log.stored_bytes().saturating_add(waiting as u64)).unwrap_or(i64::MAX)
    }

    pub(crate) fn on_alter_replica_log_dirs(
        &mut self,
        id: RequestId,
        request: &AlterReplicaLogDirsRequest,
    ) {
        let mut response = AlterReplicaLogDirsResponse::default();
        for dir in &request.dirs {
            let is_here = dir.path == self.config.log_dir;
            for topic in &dir.topics {
                response.results.push(self.keep_in_place(topic, is_here));
            }
        }
        self.reply(id, Response::AlterReplicaLogDirs(response));
    }

    fn keep_in_place(
        &self,
        topic: &AlterReplicaLogDirTopic,
        is_here: bool,
    ) -> AlterReplicaLogDirTopicResult {
        let known = self.state.catalog.by_name(&topic.name);
        let result = |partition: &i32| {
            let key = known.map(|known| PartitionKey { topic_id: known.id, partition: *partition });
            let exists = key.is_some_and(|key| self.state.catalog.partition(key).is_some());
            let code = match (is_here, exists) {
                (false, _) => ErrorCode::LogDirNotFound,
                (true, false) => ErrorCode::UnknownTopicOrPartition,
                (true, true) => ErrorCode::None,
            };
            AlterReplicaLogDirPartitionResult {
                partition_index: *partition,
                error_code: code.code(),
            }
        };
        let partitions = topic.partitions.iter().map(result).collect();
        AlterReplicaLogDirTopicResult { topic_name: topic.name.clone(), partitions }
    }
}
