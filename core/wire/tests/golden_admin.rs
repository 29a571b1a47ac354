//! Versions that the independent implementation does not know, checked by hand, byte by byte. Must never be
//! regenerated from the code: a change that turns one of these red breaks clients.

mod hand;

use hand::check;
use millpond_wire::messages::*;

#[test]
fn list_offsets_11_is_as_checked_by_hand() {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let part = ListOffsetsPartition { partition_index: 3, current_leader_epoch: 1, timestamp: -6 };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![ListOffsetsTopic { name: "t".to_owned(), partitions: vec![part] }],
        timeout_ms: 500,
    };
    let bytes = "ffffffff 01              replica, isolation
                 02 02 74 02              one topic: t, one partition
                 00000003 00000001        index, epoch
                 fffffffffffffffa 00      timestamp, no tags
                 00 000001f4 00           end of the topic, timeout, end";
    check(&request, 11, bytes);
    use list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let part = ListOffsetsPartitionResponse {
        partition_index: 3,
        error_code: 0,
        timestamp: -1,
        offset: 7,
        leader_epoch: 1,
    };
    let topic = ListOffsetsTopicResponse { name: "t".to_owned(), partitions: vec![part] };
    let response = ListOffsetsResponse { throttle_time_ms: 9, topics: vec![topic] };
    let bytes = "00000009 02 02 74 02     throttle, one topic: t, one partition
                 00000003 0000            index, error
                 ffffffffffffffff         timestamp
                 0000000000000007         offset
                 00000001 00 00 00        epoch, ends";
    check(&response, 11, bytes);
}

#[test]
fn describe_log_dirs_5_is_as_checked_by_hand() {
    use describe_log_dirs_request::DescribableLogDirTopic;
    use describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    };
    let topic = DescribableLogDirTopic { topic: "t".to_owned(), partitions: vec![3] };
    let request = DescribeLogDirsRequest { topics: Some(vec![topic]) };
    check(&request, 5, "02 02 74 02 00000003 00 00");
    check(&DescribeLogDirsRequest { topics: None }, 5, "00 00");
    let part = DescribeLogDirsPartition {
        partition_index: 3,
        partition_size: 256,
        offset_lag: 0,
        is_future_key: false,
    };
    let result = DescribeLogDirsResult {
        error_code: 0,
        log_dir: "/d".to_owned(),
        topics: vec![DescribeLogDirsTopic { name: "t".to_owned(), partitions: vec![part] }],
        total_bytes: 4096,
        usable_bytes: 1024,
        is_cordoned: true,
    };
    let response =
        DescribeLogDirsResponse { throttle_time_ms: 9, error_code: 0, results: vec![result] };
    let bytes = "00000009 0000 02         throttle, error, one directory
                 0000 03 2f 64 02         its error, its path, one topic
                 02 74 02                 t, one partition
                 00000003                 index
                 0000000000000100         size
                 0000000000000000 00 00   lag, future, no tags
                 00                       end of the topic
                 0000000000001000         total
                 0000000000000400         usable
                 01 00 00                 cordoned, ends";
    check(&response, 5, bytes);
}
