//! Configurations of topics and of the broker: who may set what, what is shown, and that each that
//! can be set changes something. What `retention`, `windows`, `space` and the stories of storage show
//! is not shown again.

use super::rig::{Rig, batch_at, produce_request};
use crate::{ConfigKind, EngineConfig};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::describe_configs_request::DescribeConfigsResource;
use millpond_wire::messages::describe_configs_response::DescribeConfigsResourceResult;
use millpond_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use millpond_wire::messages::produce_response::PartitionProduceResponse;
use millpond_wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, Request, Response,
};
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

fn alter(
    rig: &mut Rig,
    resource: (i8, &str),
    changes: &[(&str, i8, Option<&str>)],
) -> (ErrorCode, String) {
    let change = |(name, config_operation, value): &(&str, i8, Option<&str>)| AlterableConfig {
        name: (*name).to_owned(),
        config_operation: *config_operation,
        value: value.map(str::to_owned),
    };
    let resource = AlterConfigsResource {
        resource_type: resource.0,
        resource_name: resource.1.to_owned(),
        configs: changes.iter().map(change).collect(),
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    match rig.call(Request::IncrementalAlterConfigs(request), 1) {
        Response::IncrementalAlterConfigs(mut response) => {
            let answer = response.responses.remove(0);
            let code = ErrorCode::from_code(answer.error_code).expect("a known code");
            (code, answer.error_message.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

fn set(rig: &mut Rig, resource: (i8, &str), name: &str, value: &str) {
    let (code, message) = alter(rig, resource, &[(name, SET, Some(value))]);
    assert_eq!(code, ErrorCode::None, "{message}");
}

fn describe(rig: &mut Rig, resource: (i8, &str), name: &str) -> DescribeConfigsResourceResult {
    let resource = DescribeConfigsResource {
        resource_type: resource.0,
        resource_name: resource.1.to_owned(),
        configuration_keys: Some(vec![name.to_owned()]),
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    match rig.call(Request::DescribeConfigs(request), 4) {
        Response::DescribeConfigs(mut response) => {
            let mut result = response.results.remove(0);
            assert_eq!(result.error_code, 0, "{:?}", result.error_message);
            assert_eq!(result.configs.len(), 1, "{name}");
            result.configs.remove(0)
        }
        other => panic!("{other:?}"),
    }
}

fn produce_with(rig: &mut Rig, batch: bytes::Bytes, acks: i16) -> PartitionProduceResponse {
    let id = rig.send(produce_request("t", 0, batch, acks), 9);
    rig.produced(id)
}

#[test]
fn a_topic_shows_its_own_value_before_the_brokers_and_the_default() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let sources = |row: &DescribeConfigsResourceResult| {
        let synonyms = row.synonyms.iter();
        synonyms.map(|s| (s.source, s.value.clone().unwrap_or_default())).collect::<Vec<_>>()
    };
    let value = |text: &str| text.to_owned();
    let row = describe(&mut rig, (TOPIC, "t"), "retention.ms");
    assert_eq!(sources(&row), [(5, value("604800000"))]);
    assert_eq!((row.config_source, row.config_type, row.read_only), (5, 5, false));
    assert!(row.documentation.is_some_and(|doc| !doc.is_empty()));
    set(&mut rig, (BROKER, ""), "log.retention.ms", "30");
    set(&mut rig, (BROKER, "1"), "log.retention.ms", "20");
    let row = describe(&mut rig, (TOPIC, "t"), "retention.ms");
    assert_eq!(sources(&row), [(2, value("20")), (3, value("30")), (5, value("604800000"))]);
    set(&mut rig, (TOPIC, "t"), "retention.ms", "10");
    let row = describe(&mut rig, (TOPIC, "t"), "retention.ms");
    assert_eq!((row.value.as_deref(), row.config_source), (Some("10"), 1));
    assert_eq!(row.synonyms.len(), 4);
    let row = describe(&mut rig, (BROKER, "1"), "log.retention.ms");
    assert_eq!((row.value.as_deref(), row.config_source, row.read_only), (Some("20"), 2, false));
    let row = describe(&mut rig, (BROKER, ""), "log.retention.ms");
    assert_eq!((row.value.as_deref(), row.config_source), (Some("30"), 3));
}

#[test]
fn a_setting_of_the_broker_holds_for_topics_that_do_not_say_and_survives_a_restart() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    set(&mut rig, (BROKER, ""), "message.max.bytes", "100");
    let long = "x".repeat(200);
    let code = |rig: &mut Rig| rig.produce("t", 0, &[&long]).error_code;
    let too_large = ErrorCode::MessageTooLarge.code();
    assert_eq!(code(&mut rig), too_large);
    assert_eq!(code(&mut rig.reborn(None)), too_large);
    let snapshot = rig.engine.snapshot();
    let mut rig = rig.reborn(Some(snapshot));
    assert_eq!(code(&mut rig), too_large);
    set(&mut rig, (TOPIC, "t"), "max.message.bytes", "1000");
    assert_eq!(code(&mut rig), 0, "a topic that says so itself");
    rig.create_topic("u", 1);
    assert_eq!(rig.produce("u", 0, &[&long]).error_code, too_large);
    let change = [("message.max.bytes", DELETE, None)];
    assert_eq!(alter(&mut rig, (BROKER, ""), &change).0, ErrorCode::None);
    assert_eq!(rig.produce("u", 0, &[&long]).error_code, 0);
}

#[test]
fn every_setting_of_the_broker_that_can_be_changed_reaches_the_topics() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut changed = 0;
    for config in crate::TOPIC_CONFIGS {
        let Some(name) = crate::topic_config::broker_name(config) else { continue };
        let value = match config.kind {
            ConfigKind::OneOf(choices) | ConfigKind::ListOf(choices) => {
                choices.iter().find(|choice| **choice != config.default).expect("another")
            }
            ConfigKind::Ratio => "0.25",
            _ => "77777",
        };
        set(&mut rig, (BROKER, ""), name, value);
        let topic = rig.engine.catalog().by_name("t").expect("a topic");
        assert_eq!(topic.config(config.name), value, "{name}");
        assert_eq!(describe(&mut rig, (TOPIC, "t"), config.name).config_source, 3);
        changed += 1;
    }
    assert!(changed > 10, "{changed}");
}

#[test]
fn what_cannot_be_changed_here_does_not_stop_programs_that_give_it_to_new_topics() {
    let mut rig = Rig::new();
    // As old versions of Kafka Streams do.
    rig.create_topic_with("t", 1, &[("segment.index.bytes", "52428800"), ("preallocate", "true")]);
    let row = describe(&mut rig, (TOPIC, "t"), "segment.index.bytes");
    assert_eq!((row.value.as_deref(), row.read_only), (Some("10485760"), true));
}

#[test]
fn the_brokers_retention_and_cleanup_policy_reach_the_decisions_of_the_engine() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    set(&mut rig, (BROKER, "1"), "log.cleanup.policy", "compact");
    let refused = rig.produce("t", 0, &["no key"]);
    assert_eq!(refused.error_code, ErrorCode::InvalidRecord.code());
    assert_eq!(refused.record_errors.len(), 1);
    assert_eq!(refused.record_errors[0].batch_index, 0);
    set(&mut rig, (BROKER, "1"), "log.message.timestamp.type", "LogAppendTime");
    set(&mut rig, (BROKER, "1"), "log.cleanup.policy", "delete");
    assert_eq!(rig.produce("t", 0, &["a"]).log_append_time_ms, rig.now.wall_ms);
}

#[test]
fn what_cannot_be_changed_is_refused_and_shown_as_read_only() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let cases = [
        ((TOPIC, "t"), "remote.storage.enable", "true", ErrorCode::InvalidConfig),
        ((TOPIC, "t"), "no.such.key", "1", ErrorCode::InvalidConfig),
        ((TOPIC, "t"), "retention.ms", "x", ErrorCode::InvalidConfig),
        ((TOPIC, "no"), "retention.ms", "1", ErrorCode::UnknownTopicOrPartition),
        ((BROKER, "1"), "num.partitions", "3", ErrorCode::InvalidRequest),
        ((BROKER, "1"), "log.retention.ms", "-5", ErrorCode::InvalidConfig),
        ((BROKER, "2"), "log.retention.ms", "5", ErrorCode::InvalidRequest),
        ((8, "1"), "kafka", "DEBUG", ErrorCode::InvalidRequest),
    ];
    for (resource, name, value, code) in cases {
        let refused = alter(&mut rig, resource, &[(name, SET, Some(value))]);
        assert_eq!(refused.0, code, "{name}: {}", refused.1);
    }
    let twice = [("retention.ms", SET, Some("1")), ("retention.ms", SET, Some("2"))];
    assert_eq!(alter(&mut rig, (TOPIC, "t"), &twice).0, ErrorCode::InvalidRequest);
    let no_list = alter(&mut rig, (TOPIC, "t"), &[("retention.ms", APPEND, Some("1"))]);
    assert_eq!(no_list.0, ErrorCode::InvalidConfig);
    assert!(describe(&mut rig, (TOPIC, "t"), "remote.storage.enable").read_only);
    assert!(describe(&mut rig, (BROKER, "1"), "num.partitions").read_only);
    // To say what is so anyway is no change.
    set(&mut rig, (TOPIC, "t"), "remote.storage.enable", "false");
}

#[test]
fn the_throttles_of_reassignments_are_taken_and_shown() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    for rate in crate::topic_config::THROTTLE_RATES {
        set(&mut rig, (BROKER, "1"), rate, "1000000");
        let row = describe(&mut rig, (BROKER, "1"), rate);
        assert_eq!((row.value.as_deref(), row.read_only), (Some("1000000"), false));
        assert_eq!(alter(&mut rig, (BROKER, "1"), &[(rate, DELETE, None)]).0, ErrorCode::None);
    }
    let list = "leader.replication.throttled.replicas";
    assert_eq!(alter(&mut rig, (TOPIC, "t"), &[(list, APPEND, Some("0:1"))]).0, ErrorCode::None);
    assert_eq!(describe(&mut rig, (TOPIC, "t"), list).value.as_deref(), Some("0:1"));
}

#[test]
fn more_replicas_than_there_are_refuse_acks_all_and_nothing_else() {
    let mut rig = Rig::new();
    rig.create_topic_with("t", 1, &[("min.insync.replicas", "2")]);
    let data = || batch_at(1_000, &["a"], None);
    let refused = produce_with(&mut rig, data(), -1);
    assert_eq!(refused.error_code, ErrorCode::NotEnoughReplicas.code());
    assert_eq!(produce_with(&mut rig, data(), 1).error_code, 0);
    // A node that takes replication factors of clusters takes these as well.
    let config = EngineConfig { clamp_replication_factor: true, ..EngineConfig::default() };
    let mut rig = Rig::with_config(config);
    rig.create_topic_with("t", 1, &[("min.insync.replicas", "2")]);
    assert_eq!(produce_with(&mut rig, data(), -1).error_code, 0);
}

#[test]
fn timestamps_too_far_from_the_clock_are_refused_record_by_record() {
    let mut rig = Rig::new();
    let limits =
        [("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "500")];
    rig.create_topic_with("t", 1, &limits);
    let now = rig.now.wall_ms;
    let codes = |rig: &mut Rig, times: &[i64], codec| {
        let mut builder = BatchBuilder::new(codec, None);
        for time in times {
            builder.push(*time, None, Some(b"v"), &[]).expect("a small record");
        }
        let answer = produce_with(rig, builder.build().expect("a batch"), -1);
        let blamed: Vec<_> = answer.record_errors.iter().map(|one| one.batch_index).collect();
        (ErrorCode::from_code(answer.error_code).expect("known"), blamed)
    };
    for codec in [Codec::None, Codec::Gzip] {
        let fits = [now, now - 1_000, now + 500];
        assert_eq!(codes(&mut rig, &fits, codec), (ErrorCode::None, vec![]));
        let late = [now, now - 1_001, now + 501];
        assert_eq!(codes(&mut rig, &late, codec), (ErrorCode::InvalidTimestamp, vec![1, 2]));
    }
    set(&mut rig, (TOPIC, "t"), "message.timestamp.type", "LogAppendTime");
    assert_eq!(codes(&mut rig, &[0], Codec::None).0, ErrorCode::None);
    rig.create_topic("free", 1);
    let old = produce_request("free", 0, batch_at(0, &["a"], None), -1);
    let id = rig.send(old, 9);
    assert_eq!(rig.produced(id).error_code, 0, "without limits every timestamp is accepted");
}

#[test]
fn log_append_time_is_in_the_answer_and_in_what_is_fetched() {
    let mut rig = Rig::new();
    rig.create_topic_with("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let answer = produce_with(&mut rig, batch_at(1, &["a", "b"], None), -1);
    assert_eq!((answer.base_offset, answer.log_append_time_ms), (0, rig.now.wall_ms));
    let data = rig.fetch("t", 0, 0);
    let bytes = data.records.expect("records").to_bytes();
    let stored = LogBatch::split(bytes, 10).expect("whole batches").remove(0);
    assert_eq!(stored.max_timestamp(), rig.now.wall_ms);
    let batch = stored.to_batch().expect("a batch");
    let section = batch.decompress(1 << 20).expect("records");
    for record in batch.records(&section) {
        assert_eq!(record.expect("a record").timestamp, rig.now.wall_ms);
    }
}

#[test]
fn topic_names_that_differ_only_in_dots_and_underscores_collide() {
    use millpond_wire::messages::create_topics_request::CreatableTopic;
    let mut rig = Rig::new();
    rig.create_topic("a.b_c", 1);
    let mut create = |name: &str, validate_only| {
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic], validate_only, ..Default::default() };
        match rig.call(Request::CreateTopics(request), 7) {
            Response::CreateTopics(mut response) => {
                let result = response.topics.remove(0);
                let code = ErrorCode::from_code(result.error_code).expect("known");
                (code, result.error_message.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        }
    };
    let (code, message) = create("a_b.c", false);
    assert_eq!(code, ErrorCode::InvalidTopicException);
    assert_eq!(message, "Topic 'a_b.c' collides with existing topic: a.b_c");
    assert_eq!(create("a.b_c", false).0, ErrorCode::TopicAlreadyExists);
    assert_eq!(create("a-b-c", true).0, ErrorCode::None);
    assert_eq!(create("a-b-c", false).0, ErrorCode::None, "validation made nothing");
    for (name, words) in [
        ("", "the empty string is not allowed"),
        ("..", "'.' or '..' is not allowed"),
        ("a b", "contains one or more characters other than ASCII alphanumerics"),
    ] {
        let (code, message) = create(name, false);
        assert_eq!(code, ErrorCode::InvalidTopicException);
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(create("__cluster_metadata", false).0, ErrorCode::InvalidRequest);
}

#[test]
fn deletions_and_new_partitions_are_refused_as_kafka_does() {
    use millpond_wire::messages::create_partitions_request::{
        CreatePartitionsAssignment, CreatePartitionsTopic,
    };
    use millpond_wire::messages::delete_topics_request::DeleteTopicState;
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let topic_id = rig.key("t", 0).topic_id;
    let mut grow = |count, brokers: Option<&[i32]>, validate_only| {
        let assign = |id: &i32| CreatePartitionsAssignment { broker_ids: vec![*id] };
        let topic = CreatePartitionsTopic {
            name: "t".to_owned(),
            count,
            assignments: brokers.map(|brokers| brokers.iter().map(assign).collect()),
        };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 0, validate_only };
        match rig.call(Request::CreatePartitions(request), 3) {
            Response::CreatePartitions(mut response) => {
                let result = response.results.remove(0);
                let code = ErrorCode::from_code(result.error_code).expect("known");
                (code, result.error_message.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(grow(2, None, false).1, "Topic already has 2 partition(s).");
    let fewer = grow(1, None, false);
    assert_eq!(fewer.0, ErrorCode::InvalidPartitions);
    assert_eq!(fewer.1, "The topic t currently has 2 partition(s); 1 would not be an increase.");
    assert_eq!(grow(4, Some(&[1]), false).0, ErrorCode::InvalidReplicaAssignment);
    assert_eq!(grow(4, Some(&[1, 2]), false).0, ErrorCode::InvalidReplicaAssignment);
    assert_eq!(grow(4, Some(&[1, 1]), true).0, ErrorCode::None);
    assert_eq!(grow(4, Some(&[1, 1]), false).0, ErrorCode::None, "validation added nothing");
    let mut delete = |topics: Vec<DeleteTopicState>| {
        let request = DeleteTopicsRequest { topics, ..Default::default() };
        match rig.call(Request::DeleteTopics(request), 6) {
            Response::DeleteTopics(response) => {
                let codes = response.responses.iter().map(|one| one.error_code);
                codes.map(|code| ErrorCode::from_code(code).expect("known")).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let by_id = || DeleteTopicState { name: None, topic_id };
    let both = DeleteTopicState { name: Some("t".to_owned()), topic_id };
    assert_eq!(delete(vec![both, DeleteTopicState::default()]), [ErrorCode::InvalidRequest; 2]);
    assert_eq!(delete(vec![by_id(), by_id()]), [ErrorCode::InvalidRequest; 2]);
    assert_eq!(delete(vec![by_id()]), [ErrorCode::None]);
    assert_eq!(delete(vec![by_id()]), [ErrorCode::UnknownTopicId]);
}
