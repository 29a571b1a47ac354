//! Settings of groups and transactions that the node's file gives: each changes what it says, and
//! tools are shown it under Kafka's name.

use super::consumer_client::{Client, call};
use super::groups::{join_request, joined, new_member};
use super::offsets::commit_alone;
use super::rig::Rig;
use super::txn_rig::{init, init_within};
use crate::{EngineConfig, GroupState};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::describe_configs_request::DescribeConfigsResource;
use millpond_wire::messages::{DescribeConfigsRequest, Request, Response};

fn rig(change: impl FnOnce(&mut EngineConfig)) -> Rig {
    let mut config = EngineConfig::default();
    change(&mut config);
    let mut rig = Rig::with_config(config);
    rig.create_topic("t", 1);
    rig
}

/// What tools are shown of the node.
fn shown(rig: &mut Rig, name: &str) -> String {
    let resource = DescribeConfigsResource {
        resource_type: 4,
        resource_name: "1".to_owned(),
        configuration_keys: Some(vec![name.to_owned()]),
    };
    let request =
        DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let Response::DescribeConfigs(response) = rig.call(Request::DescribeConfigs(request), 4) else {
        panic!("another answer");
    };
    let config = &response.results[0].configs[0];
    assert!(config.read_only, "{name}");
    config.value.clone().expect("a value")
}

/// The error of a join with this session timeout.
fn join_with(rig: &mut Rig, session_timeout_ms: i32) -> i16 {
    let request =
        millpond_wire::messages::JoinGroupRequest { session_timeout_ms, ..join_request("", None) };
    let id = rig.send(Request::JoinGroup(request), 7);
    joined(rig, id).error_code
}

#[test]
fn session_timeouts_have_the_bounds_of_the_node() {
    let mut rig = rig(|config| {
        config.group_min_session_timeout_ms = 1_000;
        config.group_max_session_timeout_ms = 2_000;
    });
    let (refused, taken) =
        (ErrorCode::InvalidSessionTimeout.code(), ErrorCode::MemberIdRequired.code());
    for (ms, code) in [(999, refused), (1_000, taken), (2_000, taken), (2_001, refused)] {
        assert_eq!(join_with(&mut rig, ms), code, "{ms}");
    }
    assert_eq!(shown(&mut rig, "group.min.session.timeout.ms"), "1000");
    assert_eq!(shown(&mut rig, "group.max.session.timeout.ms"), "2000");
}

#[test]
fn groups_of_both_kinds_have_no_more_members_than_the_node_allows() {
    let mut rig = rig(|config| config.group_max_size = 2);
    new_member(&mut rig, "first");
    new_member(&mut rig, "second");
    assert_eq!(join_with(&mut rig, 10_000), ErrorCode::GroupMaxSizeReached.code());
    for (id, code) in
        [("a", ErrorCode::None), ("b", ErrorCode::None), ("c", ErrorCode::GroupMaxSizeReached)]
    {
        assert_eq!(Client::new(id, &["t"]).in_group("h").beat(&mut rig), code, "{id}");
    }
    assert_eq!(shown(&mut rig, "group.max.size"), "2");
    assert_eq!(shown(&mut rig, "group.consumer.max.size"), "2");
}

#[test]
fn members_of_the_new_protocol_are_told_the_interval_of_the_node_and_out_after_its_silence() {
    let mut rig = rig(|config| {
        config.consumer_heartbeat_interval_ms = 700;
        config.consumer_session_timeout_ms = 2_000;
    });
    let request = Client::new("a", &["t"]).request();
    assert_eq!(call(&mut rig, request).heartbeat_interval_ms, 700);
    rig.pass_ms(1_999);
    assert_eq!(rig.engine.group("g").expect("a group").members.len(), 1);
    rig.pass_ms(1);
    assert_eq!(rig.engine.group("g").expect("a group").state, GroupState::Empty);
    assert_eq!(shown(&mut rig, "group.consumer.heartbeat.interval.ms"), "700");
    assert_eq!(shown(&mut rig, "group.consumer.session.timeout.ms"), "2000");
}

#[test]
fn offsets_go_when_the_node_says_and_no_earlier_than_it_looks() {
    let mut rig = rig(|config| {
        config.clock_settle_ms = 0;
        config.offsets_retention_ms = 120_000;
        config.offsets_check_ms = 50_000;
    });
    commit_alone(&mut rig, "g", "t", 1);
    // The newest record tells what time it is.
    let produce = |rig: &mut Rig| {
        let batch = super::rig::batch_at(rig.now.wall_ms, &["x"], None);
        rig.send_batch("t", 0, batch);
    };
    for (ms, is_there) in [(119_000, true), (30_000, true), (2_000, false)] {
        rig.pass_ms(ms);
        produce(&mut rig);
        assert_eq!(rig.engine.offsets().group("g").is_some(), is_there, "after {ms} more");
    }
    assert_eq!(shown(&mut rig, "offsets.retention.minutes"), "2");
    assert_eq!(shown(&mut rig, "offsets.retention.check.interval.ms"), "50000");
}

#[test]
fn transactions_take_no_longer_than_the_node_allows() {
    let mut rig = rig(|config| config.transaction_max_timeout_ms = 5_000);
    let code = |rig: &mut Rig, ms| init_within(rig, "tx", None, ms).error_code;
    assert_eq!(code(&mut rig, 5_001), ErrorCode::InvalidTransactionTimeout.code());
    assert_eq!(code(&mut rig, 5_000), 0);
    assert_eq!(shown(&mut rig, "transaction.max.timeout.ms"), "5000");
}

#[test]
fn a_transactional_id_is_forgotten_when_the_node_says() {
    let hour_ms = 3_600_000;
    for (kept_ms, is_known) in [(hour_ms / 2, false), (3 * hour_ms, true)] {
        let mut rig = rig(|config| {
            config.clock_settle_ms = 0;
            config.transactional_id_expiration_ms = kept_ms;
        });
        let first = init(&mut rig, "tx", None);
        rig.pass_ms(2 * hour_ms as u64);
        let second = init(&mut rig, "tx", None);
        assert_eq!(second.producer_id == first.producer_id, is_known, "{kept_ms}");
        assert_eq!(shown(&mut rig, "transactional.id.expiration.ms"), kept_ms.to_string());
    }
}
