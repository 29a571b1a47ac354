//! DescribeTopicPartitions (KIP-966): metadata of topics in pages, with a cursor from one page to
//! the next. Never creates a topic.

use super::TOPIC_OPERATIONS;
use crate::changelog::is_internal_topic;
use crate::engine::Engine;
use crate::topic::Topic;
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::describe_topic_partitions_request as asked;
use millpond_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use millpond_wire::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, Response,
};
use millpond_wire::topic_name;
use std::collections::BTreeSet;

impl Engine {
    pub(crate) fn on_describe_pages(
        &mut self,
        id: RequestId,
        request: &DescribeTopicPartitionsRequest,
    ) {
        let named: BTreeSet<&str> =
            request.topics.iter().map(|topic| topic.name.as_str()).collect();
        let mut response = DescribeTopicPartitionsResponse::default();
        let cursor = request.cursor.as_ref();
        if cursor.is_some_and(|cursor| is_wrong(cursor, &named)) {
            response.topics =
                named.iter().map(|name| missing(name, ErrorCode::InvalidRequest)).collect();
            return self.reply(id, Response::DescribeTopicPartitions(response));
        }
        let (from_topic, from_partition) =
            cursor.map_or(("", 0), |cursor| (cursor.topic_name.as_str(), cursor.partition_index));
        let names: Vec<&str> = if named.is_empty() {
            self.state.catalog.iter().map(|topic| topic.name.as_str()).collect()
        } else {
            named.into_iter().collect()
        };
        let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let mut left = asked.clamp(1, limits::PARTITIONS_PER_DESCRIBE_MAX);
        for name in names.into_iter().filter(|name| *name >= from_topic) {
            let Some(topic) = self.state.catalog.by_name(name) else {
                response.topics.push(missing(name, absent(name)));
                continue;
            };
            let first = if name == from_topic { from_partition } else { 0 };
            if left == 0 {
                response.next_cursor =
                    Some(Cursor { topic_name: name.to_owned(), partition_index: first });
                break;
            }
            let page = self.page_of(topic, first, left);
            left -= page.partitions.len();
            let upto = first.saturating_add(page.partitions.len() as i32);
            response.topics.push(page);
            if (upto as usize) < topic.partitions.len() {
                response.next_cursor =
                    Some(Cursor { topic_name: name.to_owned(), partition_index: upto });
                break;
            }
        }
        self.reply_after(self.catalog_seq, id, Response::DescribeTopicPartitions(response));
    }

    fn page_of(
        &self,
        topic: &Topic,
        first: i32,
        most: usize,
    ) -> DescribeTopicPartitionsResponseTopic {
        let node_id = self.config.node_id;
        let partitions = topic.partitions.iter().zip(0..).skip(usize::try_from(first).unwrap_or(0));
        let partitions = partitions.take(most).map(|(log, partition_index)| {
            DescribeTopicPartitionsResponsePartition {
                error_code: ErrorCode::None.code(),
                partition_index,
                leader_id: node_id,
                leader_epoch: log.leader_epoch,
                replica_nodes: vec![node_id],
                isr_nodes: vec![node_id],
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                offline_replicas: Vec::new(),
            }
        });
        DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: is_internal_topic(&topic.name),
            partitions: partitions.collect(),
            topic_authorized_operations: TOPIC_OPERATIONS,
        }
    }
}

fn is_wrong(cursor: &asked::Cursor, named: &BTreeSet<&str>) -> bool {
    let is_listed = named.is_empty() || named.contains(cursor.topic_name.as_str());
    cursor.partition_index < 0 || !is_listed
}

fn absent(name: &str) -> ErrorCode {
    if topic_name::is_valid(name) {
        ErrorCode::UnknownTopicOrPartition
    } else {
        ErrorCode::InvalidTopicException
    }
}

fn missing(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.to_owned()),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}
