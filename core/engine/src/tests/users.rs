//! Users: made, shown, deleted, kept over a restart, and told to connections when they are durable.

use super::rig::{Rig, batch, produce_request};
use crate::Event;
use crate::units::{Peer, RequestId, SessionId};
use crate::users::ScramHash;
use bytes::Bytes;
use millpond_wire::F64;
use millpond_wire::Secret;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use millpond_wire::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use millpond_wire::messages::describe_user_scram_credentials_request::UserName;
use millpond_wire::messages::*;

fn upsert(name: &str, mechanism: i8, iterations: i32) -> ScramCredentialUpsertion {
    let bytes = if mechanism == 2 { 64 } else { 32 };
    ScramCredentialUpsertion {
        name: name.to_owned(),
        mechanism,
        iterations,
        salt: Bytes::from_static(b"salt"),
        salted_password: Secret(Bytes::from(vec![7; bytes])),
    }
}

fn delete(name: &str, mechanism: i8) -> ScramCredentialDeletion {
    ScramCredentialDeletion { name: name.to_owned(), mechanism }
}

fn alter(
    rig: &mut Rig,
    deletions: Vec<ScramCredentialDeletion>,
    upsertions: Vec<ScramCredentialUpsertion>,
) -> Vec<(String, ErrorCode)> {
    let request = AlterUserScramCredentialsRequest { deletions, upsertions };
    match rig.call(Request::AlterUserScramCredentials(request), 0) {
        Response::AlterUserScramCredentials(response) => {
            let code = |code| ErrorCode::from_code(code).expect("a known code");
            let results = response.results.into_iter();
            results.map(|one| (one.user, code(one.error_code))).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Each user with its error, or mechanisms and rounds.
fn described(rig: &mut Rig, names: Option<&[&str]>) -> Vec<String> {
    let user = |name: &&str| UserName { name: (*name).to_owned() };
    let users = names.map(|names| names.iter().map(user).collect());
    let request = DescribeUserScramCredentialsRequest { users };
    let answer = rig.call(Request::DescribeUserScramCredentials(request), 0);
    let Response::DescribeUserScramCredentials(answer) = answer else { panic!("{answer:?}") };
    assert_eq!(answer.error_code, 0);
    let words = answer.results.into_iter().map(|one| {
        let infos = one.credential_infos.iter();
        let infos: Vec<_> = infos.map(|i| format!("{}:{}", i.mechanism, i.iterations)).collect();
        match ErrorCode::from_code(one.error_code) {
            Some(ErrorCode::None) => format!("{} {}", one.user, infos.join(" ")),
            code => format!("{} {code:?}", one.user),
        }
    });
    words.collect()
}

#[test]
fn users_are_made_shown_and_survive_journal_and_snapshot() {
    let mut rig = Rig::new();
    let both = vec![upsert("ann", 1, 4096), upsert("bob", 2, 16384), upsert("ann", 2, 8192)];
    let ok = |name: &str| (name.to_owned(), ErrorCode::None);
    assert_eq!(alter(&mut rig, vec![], both), [ok("ann"), ok("bob")]);
    let check = |rig: &mut Rig| {
        assert_eq!(described(rig, None), ["ann 1:4096 2:8192", "bob 2:16384"]);
        assert_eq!(described(rig, Some(&[])).len(), 2);
        let named = described(rig, Some(&["bob", "eve", "ann", "ann"]));
        let expected = ["ann Some(DuplicateResource)", "bob 2:16384", "eve Some(ResourceNotFound)"];
        assert_eq!(named, expected);
        assert_eq!(rig.engine.users().len(), 3);
    };
    check(&mut rig);
    check(&mut rig.reborn(None));
    let snapshot = rig.engine.snapshot();
    let mut rig = rig.reborn(Some(snapshot));
    check(&mut rig);
    assert_eq!(alter(&mut rig, vec![delete("ann", 1)], vec![]), [ok("ann")]);
    assert_eq!(described(&mut rig, None), ["ann 2:8192", "bob 2:16384"]);
    // In one request: one goes, another comes.
    let swapped = alter(&mut rig, vec![delete("ann", 2)], vec![upsert("bob", 1, 8192)]);
    assert_eq!(swapped, [ok("ann"), ok("bob")]);
    assert_eq!(described(&mut rig.reborn(None), None), ["bob 1:8192 2:16384"]);
}

#[test]
fn what_cannot_be_is_refused_as_kafka_refuses_it_and_changes_nothing_of_that_user() {
    use ErrorCode::{
        DuplicateResource, ResourceNotFound, UnacceptableCredential, UnsupportedSaslMechanism,
    };
    let mut rig = Rig::new();
    let mut refused = |deletions, upsertions, code| {
        let results = alter(&mut rig, deletions, upsertions);
        assert_eq!(results.iter().map(|one| one.1).collect::<Vec<_>>(), [code]);
        assert!(described(&mut rig, None).is_empty());
    };
    refused(vec![], vec![upsert("u", 1, 4095)], UnacceptableCredential);
    refused(vec![], vec![upsert("u", 1, 16385)], UnacceptableCredential);
    refused(vec![], vec![upsert("u", 1, -1)], UnacceptableCredential);
    refused(vec![], vec![upsert("", 1, 8192)], UnacceptableCredential);
    let long = "u".repeat(limits::USER_NAME_BYTES_MAX + 1);
    refused(vec![], vec![upsert(&long, 1, 8192)], UnacceptableCredential);
    refused(vec![], vec![upsert("u", 0, 8192)], UnsupportedSaslMechanism);
    refused(vec![], vec![upsert("u", 3, 8192)], UnsupportedSaslMechanism);
    refused(vec![delete("u", 9)], vec![], UnsupportedSaslMechanism);
    refused(vec![delete("u", 1)], vec![], ResourceNotFound);
    refused(vec![], vec![upsert("u", 1, 8192), upsert("u", 1, 8192)], DuplicateResource);
    refused(vec![], vec![upsert("u", 1, 8192), upsert("u", 2, 1)], UnacceptableCredential);
    let unsalted = ScramCredentialUpsertion { salt: Bytes::new(), ..upsert("u", 1, 8192) };
    refused(vec![], vec![unsalted], UnacceptableCredential);
    let short = ScramCredentialUpsertion { mechanism: 2, ..upsert("u", 1, 8192) };
    refused(vec![], vec![short], UnacceptableCredential);
}

#[test]
fn one_refused_user_is_no_other_users_business() {
    let mut rig = Rig::new();
    let results = alter(&mut rig, vec![], vec![upsert("ann", 1, 1), upsert("bob", 1, 8192)]);
    let codes: Vec<_> = results.into_iter().map(|one| one.1).collect();
    assert_eq!(codes, [ErrorCode::UnacceptableCredential, ErrorCode::None]);
    assert_eq!(described(&mut rig, None), ["bob 1:8192"]);
}

#[test]
fn a_request_changes_so_many_and_a_node_knows_so_many_and_no_more() {
    let mut rig = Rig::new();
    let most = limits::USER_CHANGES_PER_REQUEST_MAX;
    for first in (0..limits::USERS_MAX).step_by(most) {
        let many = (first..first + most).map(|n| upsert(&format!("u{n}"), 1, 4096));
        let results = alter(&mut rig, vec![], many.collect());
        assert!(results.iter().all(|one| one.1 == ErrorCode::None));
    }
    let over = alter(&mut rig, vec![], vec![upsert("late", 1, 4096), upsert("u5", 2, 4096)]);
    let codes: Vec<_> = over.into_iter().map(|one| one.1).collect();
    assert_eq!(codes, [ErrorCode::PolicyViolation, ErrorCode::None], "who is known may change");
    let many = (0..=most).map(|n| upsert(&format!("u{n}"), 1, 4096)).collect();
    let results = alter(&mut rig, vec![], many);
    assert_eq!(results[most - 1].1, ErrorCode::None);
    assert_eq!(results[most].1, ErrorCode::InvalidRequest);
}

#[test]
fn connections_and_the_asker_hear_of_a_user_when_he_is_durable_and_not_before() {
    let mut rig = Rig::new();
    rig.is_instant = false;
    let request = AlterUserScramCredentialsRequest {
        upsertions: vec![upsert("ann", 2, 8192)],
        deletions: vec![],
    };
    let id = rig.send(Request::AlterUserScramCredentials(request), 0);
    assert!(rig.told_users.is_empty() && !rig.is_answered(id));
    rig.sync();
    assert!(rig.is_answered(id));
    let told = &rig.told_users[0];
    assert_eq!((told.user.as_str(), told.hash), ("ann", ScramHash::Sha512));
    assert!(told.credential.is_some());
}

#[test]
fn a_quota_of_a_user_holds_for_the_one_who_is_logged_in() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let entity = EntityData { entity_type: "user".to_owned(), entity_name: Some("ann".to_owned()) };
    let op = OpData { key: "producer_byte_rate".to_owned(), value: F64::from(1.0), remove: false };
    let entries = vec![EntryData { entity: vec![entity], ops: vec![op] }];
    let request = AlterClientQuotasRequest { entries, validate_only: false };
    rig.call(Request::AlterClientQuotas(request), 1);
    let mut throttled_ms = |user: Option<&str>| {
        let id = RequestId(rig.fresh());
        let user = user.map(Into::into);
        let peer = Peer { session: SessionId(id.0), user, ..Peer::default() };
        let request = produce_request("t", 0, batch(&["a value"], None), -1);
        rig.handle(Event::Request { id, peer, request, version: 9 });
        match rig.take(id) {
            Response::Produce(response) => response.throttle_time_ms,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(throttled_ms(None), 0);
    assert_eq!(throttled_ms(Some("bob")), 0);
    assert!(throttled_ms(Some("ann")) > 0);
}
