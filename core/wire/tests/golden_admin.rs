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
