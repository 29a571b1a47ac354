//! What tools of administrators ask beyond topics and groups.

use super::rig::{Rig, batch};
use crate::{EngineConfig, Event, FlushedRange, SpaceReport, StoredPartition, StoredSegment};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use millpond_wire::messages::*;

const KNOWN: i16 = 0;

#[test]
fn describe_topic_partitions_goes_through_all_topics_page_by_page() {
    let mut rig = Rig::new();
    rig.create_topic("b", 3);
    rig.create_topic("a", 2);
    rig.create_topic("c", 1);
    let mut cursor = None;
    let mut seen = Vec::new();
    for _ in 0..10 {
        let request = DescribeTopicPartitionsRequest {
            response_partition_limit: 2,
            cursor,
            ..DescribeTopicPartitionsRequest::default()
        };
        let Response::DescribeTopicPartitions(page) =
            rig.call(Request::DescribeTopicPartitions(request), 0)
        else {
            panic!("another response")
        };
        let parts = page.topics.iter().flat_map(|topic| {
            let name = topic.name.clone().unwrap_or_default();
            topic.partitions.iter().map(move |part| (name.clone(), part.partition_index))
        });
        let parts: Vec<_> = parts.collect();
        assert!(parts.len() <= 2);
        seen.extend(parts);
        cursor = page.next_cursor.map(|next| Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
        });
        if cursor.is_none() {
            break;
        }
    }
    let all = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0)];
    assert_eq!(seen, all.map(|(name, index)| (name.to_owned(), index)));
}

#[test]
fn describe_topic_partitions_names_what_is_missing_and_refuses_a_foreign_cursor() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut ask = |names: &[&str], cursor: Option<(&str, i32)>| {
        let topic = |name: &&str| TopicRequest { name: (*name).to_owned() };
        let request = DescribeTopicPartitionsRequest {
            topics: names.iter().map(topic).collect(),
            cursor: cursor.map(|(name, partition_index)| Cursor {
                topic_name: name.to_owned(),
                partition_index,
            }),
            ..DescribeTopicPartitionsRequest::default()
        };
        match rig.call(Request::DescribeTopicPartitions(request), 0) {
            Response::DescribeTopicPartitions(page) => {
                page.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(ask(&["nowhere", "a"], None), [KNOWN, unknown]);
    assert_eq!(ask(&["a/b"], None), [ErrorCode::InvalidTopicException.code()]);
    let wrong = ErrorCode::InvalidRequest.code();
    assert_eq!(ask(&["a"], Some(("b", 0))), [wrong]);
    assert_eq!(ask(&["a"], Some(("a", -1))), [wrong]);
}

fn log_dirs(rig: &mut Rig, topics: Option<&[(&str, &[i32])]>) -> DescribeLogDirsResponse {
    use describe_log_dirs_request::DescribableLogDirTopic;
    let topic = |(name, partitions): &(&str, &[i32])| DescribableLogDirTopic {
        topic: (*name).to_owned(),
        partitions: partitions.to_vec(),
    };
    let topics = topics.map(|topics| topics.iter().map(topic).collect());
    let request = DescribeLogDirsRequest { topics };
    match rig.call(Request::DescribeLogDirs(request), 5) {
        Response::DescribeLogDirs(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn log_dirs_show_segments_and_what_is_only_in_the_journal() {
    let config = EngineConfig { log_dir: "/data".to_owned(), ..EngineConfig::default() };
    let mut rig = Rig::with_config(config);
    rig.create_topic("t", 2);
    rig.produce("t", 0, &["a"]);
    let size = |rig: &mut Rig| {
        let response = log_dirs(rig, Some(&[("t", &[0]), ("nowhere", &[0])]));
        assert_eq!(response.results[0].log_dir, "/data");
        let topics = &response.results[0].topics;
        assert_eq!((topics.len(), topics[0].partitions.len()), (1, 1));
        topics[0].partitions[0].partition_size
    };
    let in_journal = batch(&["a"], None).len() as i64;
    assert_eq!(size(&mut rig), in_journal);
    let partition = rig.key("t", 0);
    rig.handle(Event::Flushed(vec![FlushedRange { partition, upto: 1 }]));
    let segment = StoredSegment { base_offset: 0, end_offset: 1, bytes: 4_096, max_timestamp: 1 };
    rig.handle(Event::Stored(vec![StoredPartition { partition, segments: vec![segment] }]));
    assert_eq!(size(&mut rig), 4_096, "what is in segments is counted there");
    rig.produce("t", 0, &["a"]);
    assert_eq!(size(&mut rig), 4_096 + in_journal);
    let all = log_dirs(&mut rig, None);
    assert_eq!(all.results[0].topics[0].partitions.len(), 2);
    assert_eq!((all.results[0].total_bytes, all.results[0].usable_bytes), (-1, -1));
    rig.handle(Event::Space(SpaceReport {
        used_bytes: 1_000,
        budget_bytes: 10_000,
        free_bytes: 7_000,
        ..SpaceReport::default()
    }));
    let known = log_dirs(&mut rig, None);
    assert_eq!((known.results[0].total_bytes, known.results[0].usable_bytes), (10_000, 7_000));
}

#[test]
fn replicas_stay_in_the_one_directory() {
    use alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut alter = |path: &str, partition| {
        let topic = AlterReplicaLogDirTopic { name: "t".to_owned(), partitions: vec![partition] };
        let dir = AlterReplicaLogDir { path: path.to_owned(), topics: vec![topic] };
        let request = AlterReplicaLogDirsRequest { dirs: vec![dir] };
        match rig.call(Request::AlterReplicaLogDirs(request), 2) {
            Response::AlterReplicaLogDirs(response) => response.results[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(alter("millpond-data", 0), 0);
    assert_eq!(alter("millpond-data", 1), ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(alter("/elsewhere", 0), ErrorCode::LogDirNotFound.code());
}

#[test]
fn there_is_never_a_leader_to_elect() {
    use elect_leaders_request::TopicPartitions;
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut elect = |topic_partitions, election_type| {
        let request = ElectLeadersRequest { election_type, topic_partitions, ..Default::default() };
        match rig.call(Request::ElectLeaders(request), 2) {
            Response::ElectLeaders(response) => {
                let results = response.replica_election_results.into_iter();
                let parts = results.flat_map(|topic| topic.partition_result);
                (response.error_code, parts.map(|part| part.error_code).collect::<Vec<_>>())
            }
            other => panic!("{other:?}"),
        }
    };
    let named = TopicPartitions { topic: "t".to_owned(), partitions: vec![0, 1] };
    let codes = [ErrorCode::ElectionNotNeeded, ErrorCode::UnknownTopicOrPartition];
    assert_eq!(elect(Some(vec![named]), 0), (0, codes.map(ErrorCode::code).to_vec()));
    assert_eq!(elect(None, 1), (0, vec![]));
    assert_eq!(elect(None, 7).0, ErrorCode::InvalidRequest.code());
}

#[test]
fn a_partition_may_be_reassigned_to_where_it_is_and_nowhere_else() {
    use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut reassign = |partition_index, replicas: Option<&[i32]>| {
        let replicas = replicas.map(<[i32]>::to_vec);
        let partitions = vec![ReassignablePartition { partition_index, replicas }];
        let topics = vec![ReassignableTopic { name: "t".to_owned(), partitions }];
        let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        match rig.call(Request::AlterPartitionReassignments(request), 1) {
            Response::AlterPartitionReassignments(response) => {
                let code = response.responses[0].partitions[0].error_code;
                ErrorCode::from_code(code).expect("a known code")
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reassign(0, Some(&[1])), ErrorCode::None);
    assert_eq!(reassign(0, Some(&[2])), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign(0, Some(&[1, 1])), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign(0, Some(&[])), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign(0, None), ErrorCode::NoReassignmentInProgress);
    assert_eq!(reassign(4, Some(&[1])), ErrorCode::UnknownTopicOrPartition);
    let list = ListPartitionReassignmentsRequest::default();
    match rig.call(Request::ListPartitionReassignments(list), 0) {
        Response::ListPartitionReassignments(response) => assert!(response.topics.is_empty()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_quorum_is_this_node_and_its_journal() {
    use describe_quorum_request::{PartitionData, TopicData};
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let part = |partition_index| PartitionData { partition_index };
    let topic = TopicData {
        topic_name: "__cluster_metadata".to_owned(),
        partitions: vec![part(0), part(1)],
    };
    let request = DescribeQuorumRequest { topics: vec![topic] };
    let Response::DescribeQuorum(response) = rig.call(Request::DescribeQuorum(request), 2) else {
        panic!("another response")
    };
    let parts = &response.topics[0].partitions;
    assert_eq!((parts[0].error_code, parts[0].leader_id, parts[0].high_watermark), (0, 1, 1));
    assert_eq!(parts[0].current_voters[0].log_end_offset, 1);
    assert_eq!(parts[1].error_code, ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(response.nodes[0].listeners[0].port, 9092);
}

#[test]
fn features_are_told_and_cannot_be_moved() {
    use update_features_request::FeatureUpdateKey;
    let mut rig = Rig::new();
    let versions = Request::ApiVersions(ApiVersionsRequest::default());
    let Response::ApiVersions(response) = rig.call(versions, 4) else { panic!("another") };
    assert!(response.finalized_features_epoch >= 0, "below 0 clients ignore the features");
    let find = |name: &str| {
        response.finalized_features.iter().find(|f| f.name == name).map(|f| f.max_version_level)
    };
    let level = find("metadata.version").expect("consoles tell the release from it");
    let mut update = |feature: &str, max_version_level, version| {
        let feature = FeatureUpdateKey {
            feature: feature.to_owned(),
            max_version_level,
            ..FeatureUpdateKey::default()
        };
        let request =
            UpdateFeaturesRequest { feature_updates: vec![feature], ..Default::default() };
        match rig.call(Request::UpdateFeatures(request), version) {
            Response::UpdateFeatures(response) => {
                let own = response.results.first().map_or(0, |result| result.error_code);
                (response.error_code, own)
            }
            other => panic!("{other:?}"),
        }
    };
    let refused = ErrorCode::InvalidUpdateVersion.code();
    assert_eq!(update("metadata.version", level, 1), (0, 0));
    assert_eq!(update("metadata.version", level + 1, 1), (0, refused));
    assert_eq!(update("metadata.version", level - 1, 2), (refused, 0));
    assert_eq!(update("no.such.feature", 1, 0), (0, refused));
}

#[test]
fn config_resources_are_the_topics_and_this_broker() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut list = |resource_types: &[i8], version| {
        let request = ListConfigResourcesRequest { resource_types: resource_types.to_vec() };
        match rig.call(Request::ListConfigResources(request), version) {
            Response::ListConfigResources(response) => {
                let found = response.config_resources.into_iter();
                let found = found.map(|one| (one.resource_type, one.resource_name));
                (response.error_code, found.collect::<Vec<_>>())
            }
            other => panic!("{other:?}"),
        }
    };
    let topic = (2, "t".to_owned());
    assert_eq!(list(&[], 1), (0, vec![topic.clone(), (4, "1".to_owned())]));
    assert_eq!(list(&[2], 1), (0, vec![topic]));
    assert_eq!(list(&[], 0), (0, vec![]), "version 0 asks for the metrics of clients");
    assert_eq!(list(&[99], 1).0, ErrorCode::UnsupportedVersion.code());
}

#[test]
fn list_offsets_knows_the_numbers_below_zero_of_each_version() {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["a", "b"]);
    let mut find = |timestamp, version| {
        let part = ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![part] };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        match rig.call(Request::ListOffsets(request), version) {
            Response::ListOffsets(response) => {
                let part = &response.topics[0].partitions[0];
                (ErrorCode::from_code(part.error_code).expect("known"), part.offset)
            }
            other => panic!("{other:?}"),
        }
    };
    let unsupported = (ErrorCode::UnsupportedVersion, -1);
    assert_eq!(find(-1, 1), (ErrorCode::None, 2));
    assert_eq!(find(-2, 1), (ErrorCode::None, 0));
    assert_eq!((find(-3, 6), find(-3, 7)), (unsupported, (ErrorCode::None, 1)));
    assert_eq!((find(-4, 7), find(-4, 8)), (unsupported, (ErrorCode::None, 0)));
    // Nothing is tiered: there is no such offset.
    assert_eq!((find(-5, 8), find(-5, 9)), (unsupported, (ErrorCode::None, -1)));
    assert_eq!((find(-6, 10), find(-6, 11)), (unsupported, (ErrorCode::None, -1)));
    assert_eq!(find(-7, 11), unsupported);
}
