//! State bombs: whoever may ask for anything makes no map of the engine grow without end. Each is filled to
//! its cap; then it refuses with a code that clients understand, and what was there works on. Maps whose
//! caps have a story elsewhere (members, fetch sessions, producers, users) are not told again.

use super::rig::Rig;
use millpond_wire::F64;
use millpond_wire::api::ApiKey;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millpond_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use millpond_wire::messages::create_acls_request::AclCreation;
use millpond_wire::messages::create_topics_request::CreatableTopic;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::*;

fn create(rig: &mut Rig, names: Vec<String>, partitions: i32) -> Vec<i16> {
    let topic = |name| CreatableTopic {
        name,
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = names.into_iter().map(topic).collect();
    let request = CreateTopicsRequest { topics, ..Default::default() };
    let Response::CreateTopics(made) = rig.call(Request::CreateTopics(request), 5) else {
        panic!()
    };
    made.topics.iter().map(|topic| topic.error_code).collect()
}

#[test]
fn topics_have_an_end_and_their_partitions_too() {
    let mut rig = Rig::new();
    let step = limits::TOPICS_PER_ADMIN_REQUEST_MAX;
    for first in (0..limits::TOPICS_MAX).step_by(step) {
        let codes = create(&mut rig, (first..first + step).map(|n| format!("t{n}")).collect(), 1);
        assert!(codes.iter().all(|code| *code == 0), "{first}");
    }
    assert_ne!(create(&mut rig, vec!["more".to_owned()], 1), [0]);
    assert_eq!(rig.engine.catalog().len(), limits::TOPICS_MAX);
    assert_eq!(rig.produce("t0", 0, &["still"]).error_code, 0);

    let mut rig = Rig::new();
    let each = limits::PARTITIONS_PER_TOPIC_MAX as i32;
    assert_ne!(create(&mut rig, vec!["wide".to_owned()], each + 1), [0]);
    for n in 0..limits::PARTITIONS_MAX / limits::PARTITIONS_PER_TOPIC_MAX {
        assert_eq!(create(&mut rig, vec![format!("p{n}")], each), [0]);
    }
    assert_ne!(create(&mut rig, vec!["more".to_owned()], 1), [0]);
}

/// A name that could be a path never becomes one; directories have the topic's id anyway.
#[test]
fn names_that_are_paths_are_no_topics() {
    let mut rig = Rig::new();
    let long = "x".repeat(limits::TOPIC_NAME_BYTES_MAX + 1);
    let names = [".", "..", "", "a/b", "../../etc/passwd", "a\\b", "a\0b", "a b", "ä", &long];
    let codes = create(&mut rig, names.map(str::to_owned).into(), 1);
    assert_eq!(codes, vec![ErrorCode::InvalidTopicException.code(); names.len()]);
    assert_eq!(rig.engine.catalog().len(), 0);
}

fn join(group: String, metadata_bytes: usize) -> Request {
    let protocol = JoinGroupRequestProtocol {
        name: "range".to_owned(),
        metadata: vec![0; metadata_bytes].into(),
    };
    let request = JoinGroupRequest {
        group_id: group,
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        ..Default::default()
    };
    Request::JoinGroup(request)
}

fn join_code(response: Response) -> i16 {
    let Response::JoinGroup(answer) = response else { panic!("{response:?}") };
    answer.error_code
}

#[test]
fn groups_and_what_a_member_says_of_itself_have_an_end() {
    let mut rig = Rig::new();
    let version = ApiKey::JoinGroup.spec().min_version;
    let large = rig.send(join("g".to_owned(), limits::MEMBER_METADATA_BYTES_MAX + 1), version);
    assert_ne!(join_code(rig.take(large)), 0);
    for n in 0..limits::GROUPS_MAX {
        rig.send(join(format!("g{n}"), 8), version);
    }
    let more = rig.send(join("more".to_owned(), 8), version);
    assert!(rig.is_answered(more), "at once");
    assert_ne!(join_code(rig.take(more)), 0);
    assert!(rig.engine.groups().len() <= limits::GROUPS_MAX);
}

#[test]
fn the_metadata_of_an_offset_has_an_end() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let commit = |bytes| {
        let partition = OffsetCommitRequestPartition {
            committed_offset: 1,
            committed_metadata: Some("m".repeat(bytes)),
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![partition],
            ..Default::default()
        };
        Request::OffsetCommit(OffsetCommitRequest {
            group_id: "g".to_owned(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        })
    };
    for (bytes, fits) in
        [(limits::OFFSET_METADATA_BYTES_MAX, true), (limits::OFFSET_METADATA_BYTES_MAX + 1, false)]
    {
        let Response::OffsetCommit(answer) = rig.call(commit(bytes), 8) else { panic!() };
        let code = answer.topics[0].partitions[0].error_code;
        assert_eq!(code == 0, fits, "{bytes}: {code}");
    }
}

fn init(rig: &mut Rig, id: &str) -> InitProducerIdResponse {
    let request = InitProducerIdRequest {
        transactional_id: Some(id.to_owned()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    match rig.call(Request::InitProducerId(request), 2) {
        Response::InitProducerId(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn transactional_ids_and_open_transactions_have_an_end() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    for n in 0..limits::TRANSACTIONAL_IDS_MAX {
        assert_eq!(init(&mut rig, &format!("x{n}")).error_code, 0);
    }
    assert_ne!(init(&mut rig, "more").error_code, 0);
    let mut add = |n: usize| {
        let id = init(&mut rig, &format!("x{n}"));
        assert_eq!(id.error_code, 0, "who is known goes on");
        let topic = AddPartitionsToTxnTopic { name: "t".to_owned(), partitions: vec![0] };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: format!("x{n}"),
            v3_and_below_producer_id: id.producer_id,
            v3_and_below_producer_epoch: id.producer_epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        match rig.call(Request::AddPartitionsToTxn(request), 1) {
            Response::AddPartitionsToTxn(answer) => {
                answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
            }
            other => panic!("{other:?}"),
        }
    };
    let opened = (0..=limits::OPEN_TRANSACTIONS_MAX).take_while(|n| add(*n) == 0).count();
    assert_eq!(opened, limits::OPEN_TRANSACTIONS_MAX);
}

#[test]
fn rules_have_an_end() {
    let mut rig = Rig::with_config(crate::EngineConfig {
        access: crate::AccessConfig { asks: true, ..Default::default() },
        ..Default::default()
    });
    let mut make = |count: usize, name: &str| {
        let rule = |n: usize| AclCreation {
            resource_type: 2,
            resource_name: format!("{name}{n}"),
            resource_pattern_type: 3,
            principal: "User:ann".to_owned(),
            host: "*".to_owned(),
            operation: 3,
            permission_type: 3,
        };
        let request = CreateAclsRequest { creations: (0..count).map(rule).collect() };
        let Response::CreateAcls(made) = rig.call(Request::CreateAcls(request), 3) else {
            panic!()
        };
        made.results.iter().filter(|one| one.error_code == 0).count()
    };
    let step = limits::ACLS_PER_REQUEST_MAX;
    for n in 0..limits::ACLS_MAX / step {
        assert_eq!(make(step, &format!("t{n}-")), step);
    }
    assert_eq!(make(1, "more"), 0);
    assert_eq!(rig.engine.state.acls.len(), limits::ACLS_MAX);
}

#[test]
fn quotas_and_those_whom_they_count_have_an_end() {
    let mut rig = Rig::new();
    let mut set = |name: Option<String>| {
        let entity = vec![EntityData { entity_type: "client-id".to_owned(), entity_name: name }];
        let op = OpData {
            key: "producer_byte_rate".to_owned(),
            value: F64::from(1_000_000.0),
            remove: false,
        };
        let entries = vec![EntryData { entity, ops: vec![op] }];
        let request = AlterClientQuotasRequest { entries, validate_only: false };
        let Response::AlterClientQuotas(answer) = rig.call(Request::AlterClientQuotas(request), 1)
        else {
            panic!()
        };
        answer.entries[0].error_code
    };
    assert_eq!(set(None), 0);
    for n in 1..limits::QUOTA_ENTITIES_MAX {
        assert_eq!(set(Some(format!("c{n}"))), 0);
    }
    assert_eq!(set(Some("more".to_owned())), ErrorCode::PolicyViolation.code());
    // Everybody who makes up names is counted, the oldest of them not any more.
    rig.create_topic("t", 1);
    for n in 0..limits::QUOTA_BUCKETS_MAX + 100 {
        let batch = super::rig::batch(&["v"], None);
        let request = super::rig::produce_request("t", 0, batch, -1);
        rig.send_from(crate::units::SessionId(2), &format!("made-up-{n}"), request, 9);
    }
    assert!(rig.engine.quota_buckets_len() <= limits::QUOTA_BUCKETS_MAX);
}
