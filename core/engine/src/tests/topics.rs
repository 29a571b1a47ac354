//! Topics, metadata, configurations, producer ids: what tools and clients ask first.

use super::rig::Rig;
use crate::units::{ListenerId, Peer, RequestId};
use crate::{Advertised, EngineConfig, Event};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::create_partitions_request::CreatePartitionsTopic;
use millpond_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millpond_wire::messages::create_topics_response::CreatableTopicResult;
use millpond_wire::messages::describe_configs_request::DescribeConfigsResource;
use millpond_wire::messages::describe_configs_response::DescribeConfigsResult;
use millpond_wire::messages::metadata_request::MetadataRequestTopic;
use millpond_wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DescribeConfigsRequest, InitProducerIdRequest,
    InitProducerIdResponse, MetadataRequest, MetadataResponse, Request, Response,
};

fn create(rig: &mut Rig, change: impl Fn(&mut CreatableTopic)) -> CreatableTopicResult {
    let mut topic = CreatableTopic {
        name: "t".to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        ..CreatableTopic::default()
    };
    change(&mut topic);
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    match rig.call(Request::CreateTopics(request), 7) {
        Response::CreateTopics(mut response) => response.topics.remove(0),
        other => panic!("{other:?}"),
    }
}

fn metadata(rig: &mut Rig, names: Option<&[&str]>, may_create: bool) -> MetadataResponse {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some((*name).to_owned()),
        ..MetadataRequestTopic::default()
    };
    let request = MetadataRequest {
        topics: names.map(|names| names.iter().map(topic).collect()),
        allow_auto_topic_creation: may_create,
        ..MetadataRequest::default()
    };
    match rig.call(Request::Metadata(request), 12) {
        Response::Metadata(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn minus_one_means_the_defaults_of_the_node() {
    let mut rig = Rig::with_config(EngineConfig { num_partitions: 3, ..EngineConfig::default() });
    let made = create(&mut rig, |_| {});
    assert_eq!((made.error_code, made.num_partitions, made.replication_factor), (0, 3, 1));
    assert!(!made.topic_id.is_zero());
    assert_eq!(create(&mut rig, |_| {}).error_code, ErrorCode::TopicAlreadyExists.code());
}

#[test]
fn what_is_not_possible_is_refused_with_the_code_of_kafka() {
    let mut rig = Rig::new();
    let code = |rig: &mut Rig, change: &dyn Fn(&mut CreatableTopic)| {
        ErrorCode::from_code(create(rig, change).error_code).expect("a known code")
    };
    let config = |name: &str, value: Option<&str>| CreatableTopicConfig {
        name: name.to_owned(),
        value: value.map(str::to_owned),
    };
    assert_eq!(code(&mut rig, &|t| t.num_partitions = 0), ErrorCode::InvalidPartitions);
    assert_eq!(code(&mut rig, &|t| t.replication_factor = 3), ErrorCode::InvalidReplicationFactor);
    assert_eq!(code(&mut rig, &|t| t.name = "a b".to_owned()), ErrorCode::InvalidTopicException);
    let unknown = |t: &mut CreatableTopic| t.configs = vec![config("what.ever", Some("1"))];
    assert_eq!(code(&mut rig, &unknown), ErrorCode::InvalidConfig);
    let null = |t: &mut CreatableTopic| t.configs = vec![config("retention.ms", None)];
    assert_eq!(code(&mut rig, &null), ErrorCode::InvalidConfig);
    assert!(rig.engine.catalog().is_empty());
}

#[test]
fn a_replication_factor_above_the_nodes_is_clamped_only_where_that_is_asked_for() {
    let config = EngineConfig { clamp_replication_factor: true, ..EngineConfig::default() };
    let mut rig = Rig::with_config(config);
    let made = create(&mut rig, |topic| topic.replication_factor = 3);
    assert_eq!((made.error_code, made.replication_factor), (0, 1));
}

#[test]
fn metadata_creates_a_missing_topic_where_client_and_node_allow_it() {
    let mut rig = Rig::new();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(metadata(&mut rig, Some(&["t"]), false).topics[0].error_code, unknown);
    let made = metadata(&mut rig, Some(&["t"]), true);
    assert_eq!(made.topics[0].error_code, 0);
    assert_eq!(made.topics[0].partitions[0].leader_epoch, crate::FIRST_LEADER_EPOCH);
    assert!(!made.topics[0].topic_id.is_zero());
    let bad = metadata(&mut rig, Some(&["a/b"]), true);
    assert_eq!(bad.topics[0].error_code, ErrorCode::InvalidTopicException.code());
    assert_eq!(metadata(&mut rig, None, true).topics.len(), 1);
    assert!(metadata(&mut rig, Some(&[]), true).topics.is_empty());
}

#[test]
fn an_id_is_enough_to_find_a_topic_whatever_stands_for_its_name() {
    let mut rig = Rig::new();
    let topic_id = create(&mut rig, |_| {}).topic_id;
    // Clients in Java write an empty name beside an id, others none.
    for name in [Some(String::new()), None] {
        let topics = Some(vec![MetadataRequestTopic { topic_id, name }]);
        let request = MetadataRequest { topics, ..MetadataRequest::default() };
        match rig.call(Request::Metadata(request), 12) {
            Response::Metadata(response) => {
                assert_eq!(response.topics[0].error_code, 0);
                assert_eq!(response.topics[0].topic_id, topic_id);
                assert!(response.topics[0].name.as_ref().is_some_and(|name| !name.is_empty()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_topic_is_not_shown_before_it_is_durable() {
    let mut rig = Rig::new();
    rig.is_instant = false;
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("t".to_owned()),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    };
    let id = rig.send(Request::Metadata(request), 12);
    assert!(!rig.is_answered(id));
    rig.sync();
    assert!(rig.is_answered(id));
}

#[test]
fn each_listener_has_its_own_advertised_address() {
    let mut config = EngineConfig::default();
    let outside = Advertised { host: "edge.example".to_owned(), port: 19_092 };
    config.advertised.insert(ListenerId(1), outside);
    let mut rig = Rig::with_config(config);
    let id = RequestId(77);
    let peer = Peer { listener: ListenerId(1), ..Peer::default() };
    let request = Request::Metadata(MetadataRequest::default());
    rig.handle(Event::Request { id, peer, request, version: 12 });
    match rig.take(id) {
        Response::Metadata(response) => {
            assert_eq!(response.brokers[0].host, "edge.example");
            assert_eq!(response.brokers[0].port, 19_092);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let mut grow = |count| {
        let topic = CreatePartitionsTopic {
            name: "t".to_owned(),
            count,
            ..CreatePartitionsTopic::default()
        };
        let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
        match rig.call(Request::CreatePartitions(request), 3) {
            Response::CreatePartitions(response) => response.results[0].error_code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(grow(4), 0);
    assert_eq!(grow(4), ErrorCode::InvalidPartitions.code());
    assert_eq!(grow(1), ErrorCode::InvalidPartitions.code());
    assert_eq!(rig.produce("t", 3, &["a"]).error_code, 0);
}

fn describe(rig: &mut Rig, resource_type: i8, name: &str) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: name.to_owned(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        ..DescribeConfigsRequest::default()
    };
    match rig.call(Request::DescribeConfigs(request), 4) {
        Response::DescribeConfigs(mut response) => response.results.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_configurations_are_described_with_their_sources() {
    let mut rig = Rig::new();
    create(&mut rig, |topic| {
        topic.configs = vec![CreatableTopicConfig {
            name: "retention.ms".to_owned(),
            value: Some("1000".to_owned()),
        }];
    });
    let topic = describe(&mut rig, 2, "t");
    assert_eq!(topic.configs.len(), crate::TOPIC_CONFIGS.len());
    let own = topic.configs.iter().find(|c| c.name == "retention.ms").expect("retention.ms");
    assert_eq!((own.value.as_deref(), own.config_source), (Some("1000"), 1));
    assert_eq!(own.synonyms.len(), 2);
    let bytes = topic.configs.iter().find(|c| c.name == "retention.bytes").expect("the default");
    assert_eq!((bytes.value.as_deref(), bytes.config_source), (Some("-1"), 5));
    let broker = describe(&mut rig, 4, "1");
    assert!(broker.configs.iter().any(|config| config.name == "log.retention.bytes"));
    assert!(broker.configs.iter().any(|config| config.name == "auto.create.topics.enable"));
    assert_eq!(describe(&mut rig, 4, "2").error_code, ErrorCode::InvalidRequest.code());
    let missing = describe(&mut rig, 2, "nowhere").error_code;
    assert_eq!(missing, ErrorCode::UnknownTopicOrPartition.code());
}

fn init(rig: &mut Rig, change: impl Fn(&mut InitProducerIdRequest)) -> InitProducerIdResponse {
    let mut request = InitProducerIdRequest {
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    change(&mut request);
    match rig.call(Request::InitProducerId(request), 4) {
        Response::InitProducerId(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn producer_ids_are_never_given_out_twice_not_even_after_a_crash() {
    let mut rig = Rig::new();
    let first = init(&mut rig, |_| {});
    let second = init(&mut rig, |_| {});
    assert_eq!((first.error_code, first.producer_epoch), (0, 0));
    assert!(second.producer_id > first.producer_id);
    let mut rig = rig.reborn(None);
    assert!(init(&mut rig, |_| {}).producer_id > second.producer_id);
    let bumped = init(&mut rig, |request| {
        request.producer_id = first.producer_id;
        request.producer_epoch = 0;
    });
    assert_eq!((bumped.producer_id, bumped.producer_epoch), (first.producer_id, 1));
}

#[test]
fn every_api_in_the_table_is_served_in_its_first_and_last_version() {
    use millpond_wire::Message;
    use millpond_wire::api::APIS;
    use millpond_wire::messages::ApiVersionsRequest;
    let mut rig = Rig::new();
    let request = Request::ApiVersions(ApiVersionsRequest::default());
    match rig.call(request, 3) {
        Response::ApiVersions(response) => {
            assert_eq!(response.api_keys.len(), APIS.len());
            let produce = response.api_keys.iter().find(|api| api.api_key == 0).expect("produce");
            assert_eq!(produce.min_version, 0);
            let mut writer = millpond_wire::Writer::new();
            response.encode(&mut writer, 3);
        }
        other => panic!("{other:?}"),
    }
    let refused = crate::api_versions::unsupported();
    assert_eq!((refused.error_code, refused.api_keys.len()), (35, 1));
}
