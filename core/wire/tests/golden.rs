//! Frames checked by hand, byte by byte, against what they mean. Must never be regenerated from the code: a change
//! that turns one of these red breaks clients.

use bytes::Bytes;
use millpond_wire::frame::{self, FrameDecoder};
use millpond_wire::messages::*;
use millpond_wire::{ApiKey, Records, Uuid};

const TOPIC_ID: Uuid = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const BATCH: Bytes = Bytes::from_static(&[0xde, 0xad, 0xbe, 0xef]);

/// The bytes of a vector: hexadecimal, `#` starts a comment.
fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let words =
        text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    words
        .map(|word| u8::from_str_radix(word, 16).unwrap_or_else(|e| panic!("{path}: {word}: {e}")))
        .collect()
}

/// The one frame in the vector.
fn golden_frame(name: &str) -> Bytes {
    let mut decoder = FrameDecoder::for_requests();
    decoder.extend(&golden(name));
    let frame = decoder.next_frame().expect("a good frame").expect("a whole frame");
    assert_eq!(decoder.buffered_bytes(), 0, "{name}: one frame");
    frame
}

fn request(name: &str, version: i16, correlation_id: i32, expected: impl Into<Request>) {
    let (header, decoded) =
        frame::decode_request(golden_frame(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let expected = expected.into();
    assert_eq!(decoded, expected, "{name}");
    assert_eq!((header.api, header.version), (expected.api_key(), version), "{name}");
    assert_eq!(
        (header.correlation_id, header.client_id.as_deref()),
        (correlation_id, Some("edge")),
        "{name}"
    );
    let rope =
        frame::encode_request(version, correlation_id, Some("edge"), &expected).expect("fits");
    assert_eq!(rope.concat(), golden(name), "{name}");
}

fn response(name: &str, version: i16, correlation_id: i32, expected: impl Into<Response>) {
    let expected = expected.into();
    let decoded = frame::decode_response(expected.api_key(), version, golden_frame(name));
    let decoded = decoded.unwrap_or_else(|e| panic!("{name}: {e}"));
    let rope = frame::encode_response(version, correlation_id, &expected).expect("fits");
    assert_eq!(decoded, (correlation_id, expected), "{name}");
    assert_eq!(rope.concat(), golden(name), "{name}");
}

#[test]
fn api_versions_requests_are_as_checked_by_hand() {
    request("api_versions_request_v0", 0, 7, ApiVersionsRequest::default());
    let named = ApiVersionsRequest {
        client_software_name: "millpond".to_owned(),
        client_software_version: "0.1".to_owned(),
    };
    request("api_versions_request_v3", 3, 8, named);
}

#[test]
fn api_versions_responses_are_as_checked_by_hand() {
    use api_versions_response::{ApiVersion, SupportedFeatureKey};
    let entry =
        |api: ApiKey, max_version| ApiVersion { api_key: api.code(), min_version: 0, max_version };
    let plain = ApiVersionsResponse {
        api_keys: vec![entry(ApiKey::Produce, 11), entry(ApiKey::ApiVersions, 4)],
        ..Default::default()
    };
    response("api_versions_response_v0", 0, 7, plain.clone());
    let with_features = ApiVersionsResponse {
        supported_features: vec![SupportedFeatureKey {
            name: "m".to_owned(),
            min_version: 0,
            max_version: 1,
        }],
        finalized_features_epoch: 5,
        ..plain
    };
    response("api_versions_response_v3", 3, 8, with_features);
}

#[test]
fn metadata_requests_are_as_checked_by_hand() {
    use metadata_request::MetadataRequestTopic;
    let named =
        |name: &str| MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() };
    let by_name =
        MetadataRequest { topics: Some(vec![named("a"), named("bc")]), ..Default::default() };
    request("metadata_request_v1", 1, 1, by_name);
    let flexible = MetadataRequest {
        topics: Some(vec![named("a")]),
        allow_auto_topic_creation: true,
        include_topic_authorized_operations: true,
        ..Default::default()
    };
    request("metadata_request_v9", 9, 2, flexible);
    let by_id = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id: TOPIC_ID, name: None }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    request("metadata_request_v12", 12, 3, by_id);
}

#[test]
fn metadata_responses_are_as_checked_by_hand() {
    use metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    let broker =
        MetadataResponseBroker { node_id: 5, host: "edge".to_owned(), port: 9092, rack: None };
    let partition = MetadataResponsePartition {
        leader_id: 5,
        replica_nodes: vec![5],
        isr_nodes: vec![5],
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some("t".to_owned()),
        partitions: vec![partition.clone()],
        ..Default::default()
    };
    let first = MetadataResponse {
        brokers: vec![broker.clone()],
        controller_id: 5,
        topics: vec![topic.clone()],
        ..Default::default()
    };
    response("metadata_response_v1", 1, 1, first);
    let flexible = MetadataResponse {
        brokers: vec![MetadataResponseBroker { rack: Some("r".to_owned()), ..broker }],
        cluster_id: Some("e-1".to_owned()),
        controller_id: 5,
        topics: vec![MetadataResponseTopic {
            partitions: vec![MetadataResponsePartition { leader_epoch: 1, ..partition }],
            ..topic
        }],
        ..Default::default()
    };
    response("metadata_response_v9", 9, 2, flexible);
    let unknown_id = MetadataResponse {
        topics: vec![MetadataResponseTopic {
            error_code: 100,
            topic_id: TOPIC_ID,
            ..Default::default()
        }],
        ..Default::default()
    };
    response("metadata_response_v12", 12, 3, unknown_id);
}

#[test]
fn produce_requests_are_as_checked_by_hand() {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let produce = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "t".to_owned(),
            partition_data: vec![PartitionProduceData { index: 2, records: Some(BATCH) }],
            ..Default::default()
        }],
    };
    request("produce_request_v7", 7, 4, produce.clone());
    let transactional =
        ProduceRequest { transactional_id: Some("tx".to_owned()), acks: 1, ..produce };
    request("produce_request_v9", 9, 5, transactional);
}

#[test]
fn produce_responses_are_as_checked_by_hand() {
    use produce_response::*;
    let answer = |partition| ProduceResponse {
        responses: vec![TopicProduceResponse {
            name: "t".to_owned(),
            partition_responses: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let written = PartitionProduceResponse {
        index: 2,
        base_offset: 256,
        log_start_offset: 16,
        ..Default::default()
    };
    response("produce_response_v7", 7, 4, answer(written));
    let refused = PartitionProduceResponse {
        index: 2,
        error_code: 87,
        base_offset: -1,
        record_errors: vec![BatchIndexAndErrorMessage {
            batch_index: 3,
            batch_index_error_message: Some("bad".to_owned()),
        }],
        ..Default::default()
    };
    response("produce_response_v9", 9, 5, answer(refused));
    let elsewhere = PartitionProduceResponse {
        index: 2,
        error_code: 6,
        base_offset: -1,
        current_leader: LeaderIdAndEpoch { leader_id: 7, leader_epoch: 3 },
        ..Default::default()
    };
    let peer = NodeEndpoint { node_id: 7, host: "peer".to_owned(), port: 9092, rack: None };
    response(
        "produce_response_v10",
        10,
        6,
        ProduceResponse { node_endpoints: vec![peer], ..answer(elsewhere) },
    );
}

#[test]
fn fetch_requests_are_as_checked_by_hand() {
    use fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
    let fetch = |partition| FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic {
            topic: "t".to_owned(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let partition =
        FetchPartition { fetch_offset: 42, partition_max_bytes: 1 << 20, ..Default::default() };
    request("fetch_request_v4", 4, 9, fetch(partition.clone()));
    let with_epoch = FetchPartition { current_leader_epoch: 3, ..partition };
    let forgotten =
        ForgottenTopic { topic: "u".to_owned(), partitions: vec![2], ..Default::default() };
    let committed_only = FetchRequest {
        isolation_level: 1,
        forgotten_topics_data: vec![forgotten],
        rack_id: "r".to_owned(),
        ..fetch(with_epoch.clone())
    };
    request("fetch_request_v11", 11, 10, committed_only);
    let flexible = FetchRequest { cluster_id: Some("e-1".to_owned()), ..fetch(with_epoch) };
    request("fetch_request_v12", 12, 11, flexible);
}

#[test]
fn fetch_responses_are_as_checked_by_hand() {
    use fetch_response::*;
    let answer = |partition| FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: "t".to_owned(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let records = PartitionData {
        high_watermark: 64,
        last_stable_offset: 63,
        records: Some(Records::from(BATCH)),
        ..Default::default()
    };
    response("fetch_response_v4", 4, 9, answer(records));
    let aborted = PartitionData {
        high_watermark: 64,
        last_stable_offset: 64,
        log_start_offset: 16,
        aborted_transactions: Some(vec![AbortedTransaction {
            producer_id: 1000,
            first_offset: 17,
        }]),
        records: Some(Records::new()),
        ..Default::default()
    };
    response("fetch_response_v11", 11, 10, answer(aborted));
    let diverged = PartitionData {
        error_code: 74,
        high_watermark: -1,
        diverging_epoch: EpochEndOffset { epoch: 2, end_offset: 32 },
        current_leader: LeaderIdAndEpoch { leader_id: 7, leader_epoch: 3 },
        ..Default::default()
    };
    response("fetch_response_v12", 12, 11, answer(diverged));
}

#[test]
fn join_group_is_as_checked_by_hand() {
    let metadata = Bytes::from_static(&[0, 1]);
    let join = JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 300_000,
        group_instance_id: Some("i".to_owned()),
        protocol_type: "consumer".to_owned(),
        protocols: vec![join_group_request::JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: metadata.clone(),
        }],
        ..Default::default()
    };
    request("join_group_request_v5", 5, 12, join);
    let member = "m-1".to_owned();
    let joined = JoinGroupResponse {
        generation_id: 3,
        protocol_name: Some("range".to_owned()),
        leader: member.clone(),
        member_id: member.clone(),
        members: vec![join_group_response::JoinGroupResponseMember {
            member_id: member,
            group_instance_id: None,
            metadata,
        }],
        ..Default::default()
    };
    response("join_group_response_v5", 5, 12, joined);
}

#[test]
fn committed_offsets_by_topic_id_are_as_checked_by_hand() {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    let part = OffsetCommitRequestPartition {
        partition_index: 1,
        committed_offset: 42,
        committed_leader_epoch: 5,
        committed_metadata: Some("ok".to_owned()),
    };
    let topic = OffsetCommitRequestTopic {
        topic_id: TOPIC_ID,
        partitions: vec![part],
        ..Default::default()
    };
    let commit = OffsetCommitRequest {
        group_id: "g".to_owned(),
        generation_id_or_member_epoch: 3,
        member_id: "m".to_owned(),
        topics: vec![topic],
        ..Default::default()
    };
    request("offset_commit_request_v10", 10, 9, commit);
    let part = OffsetCommitResponsePartition { partition_index: 1, error_code: 100 };
    let topic = OffsetCommitResponseTopic {
        topic_id: TOPIC_ID,
        partitions: vec![part],
        ..Default::default()
    };
    let committed = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
    response("offset_commit_response_v10", 10, 9, committed);
}

#[test]
fn offsets_fetched_by_topic_id_are_as_checked_by_hand() {
    use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
    use offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
    };
    let wanted = OffsetFetchRequestTopics {
        topic_id: TOPIC_ID,
        partition_indexes: vec![1],
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: "g".to_owned(),
        member_id: Some("m".to_owned()),
        member_epoch: 3,
        topics: Some(vec![wanted]),
    };
    let fetch =
        OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
    request("offset_fetch_request_v10", 10, 10, fetch);
    let part = OffsetFetchResponsePartitions {
        partition_index: 1,
        committed_offset: 42,
        committed_leader_epoch: 5,
        metadata: Some("ok".to_owned()),
        error_code: 0,
    };
    let found = OffsetFetchResponseTopics {
        topic_id: TOPIC_ID,
        partitions: vec![part],
        ..Default::default()
    };
    let group = OffsetFetchResponseGroup {
        group_id: "g".to_owned(),
        topics: vec![found],
        ..Default::default()
    };
    let fetched = OffsetFetchResponse { groups: vec![group], ..Default::default() };
    response("offset_fetch_response_v10", 10, 10, fetched);
}
