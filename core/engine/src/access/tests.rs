//! Access before the whole engine: every API without a permission, with the one that its `guard` line
//! names, and the stories that Kafka's clients depend on.

use super::examples::example;
use crate::AccessConfig;
use crate::audit::AUDIT_TOPIC;
use crate::tests::consumer_client::Client;
use crate::tests::rig::{Producer, Rig, batch, fetch_request, produce_request, values_of};
use crate::units::{Peer, RequestId, SessionId};
use crate::{EngineConfig, Event};
use millpond_wire::api::{APIS, ApiKey};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::create_acls_request::AclCreation;
use millpond_wire::messages::delete_acls_request::DeleteAclsFilter;
use millpond_wire::messages::metadata_request::MetadataRequestTopic;
use millpond_wire::messages::*;
use millpond_wire::permission::{Need, Operation, Resource};

const ROOT: &str = "root";
const ANN: &str = "ann";
const TOPIC: i16 = ErrorCode::TopicAuthorizationFailed.code();

fn guarded() -> Rig {
    guarded_with(|_| {})
}

fn guarded_with(more: impl FnOnce(&mut AccessConfig)) -> Rig {
    let mut access = AccessConfig {
        super_users: [format!("User:{ROOT}")].into(),
        asks: true,
        ..AccessConfig::default()
    };
    more(&mut access);
    Rig::with_config(EngineConfig { access, ..EngineConfig::default() })
}

impl Rig {
    fn send_as(&mut self, user: &str, request: impl Into<Request>, version: i16) -> RequestId {
        let id = RequestId(self.fresh());
        let peer = Peer {
            session: SessionId(1),
            host: "10.0.0.7".to_owned(),
            user: Some(user.into()),
            ..Peer::default()
        };
        self.handle(Event::Request { id, peer, request: request.into(), version });
        id
    }

    fn call_as(&mut self, user: &str, request: impl Into<Request>, version: i16) -> Response {
        let id = self.send_as(user, request, version);
        self.take(id)
    }

    fn allow(&mut self, user: &str, operation: Operation, resource: Resource, name: &str) {
        self.rule(user, operation, resource, name, LITERAL, ALLOW);
    }

    fn rule(
        &mut self,
        user: &str,
        operation: Operation,
        resource: Resource,
        name: &str,
        pattern: i8,
        permission: i8,
    ) {
        let creation = AclCreation {
            resource_type: resource as i8,
            resource_name: name.to_owned(),
            resource_pattern_type: pattern,
            principal: format!("User:{user}"),
            host: "*".to_owned(),
            operation: operation as i8,
            permission_type: permission,
        };
        let request = CreateAclsRequest { creations: vec![creation] };
        let Response::CreateAcls(made) = self.call_as(ROOT, Request::CreateAcls(request), 3) else {
            panic!()
        };
        assert_eq!(made.results[0].error_code, 0, "{:?}", made.results[0].error_message);
    }

    fn topic_as_root(&mut self, name: &str) {
        let topic = create_topics_request::CreatableTopic {
            name: name.to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let Response::CreateTopics(made) = self.call_as(ROOT, Request::CreateTopics(request), 7)
        else {
            panic!()
        };
        assert_eq!(made.topics[0].error_code, 0);
    }
}

const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

/// The version in which an example says what it has to say.
fn version_of(api: ApiKey) -> i16 {
    match api {
        ApiKey::AddPartitionsToTxn => 3,
        // By name.
        ApiKey::Produce => 12,
        ApiKey::Fetch => 12,
        _ => api.spec().max_version,
    }
}

const REFUSALS: [ErrorCode; 4] = [
    ErrorCode::TopicAuthorizationFailed,
    ErrorCode::GroupAuthorizationFailed,
    ErrorCode::ClusterAuthorizationFailed,
    ErrorCode::TransactionalIdAuthorizationFailed,
];

/// The refusals that stand anywhere in an answer.
fn refusals(response: &Response) -> Vec<ErrorCode> {
    let text = format!("{response:?}");
    let has = |code: &ErrorCode| {
        text.contains(&format!("error_code: {},", code.code()))
            || text.contains(&format!("error_code: {} }}", code.code()))
    };
    REFUSALS.into_iter().filter(has).collect()
}

/// Those whose answers only leave out what may not be seen.
const SILENT: [ApiKey; 3] = [ApiKey::DescribeCluster, ApiKey::ListGroups, ApiKey::ListTransactions];

#[test]
fn every_api_is_refused_to_who_has_no_permission_and_changes_nothing() {
    let mut rig = guarded();
    rig.topic_as_root("t");
    let entries = rig.entries.len();
    let mut refused = 0;
    for spec in APIS {
        let response = rig.call_as(ANN, example(spec.key), version_of(spec.key));
        if spec.needs.is_empty() {
            assert_eq!(refusals(&response), [], "{} needs nothing", spec.name);
        } else if SILENT.contains(&spec.key) {
            assert_eq!(refusals(&response), [], "{} hides", spec.name);
            if let Response::DescribeCluster(response) = response {
                assert_eq!(response.cluster_authorized_operations, 0);
            }
        } else {
            assert_ne!(refusals(&response), [], "{}: {response:?}", spec.name);
            refused += 1;
        }
    }
    assert!(refused > 40, "{refused}");
    assert_eq!(rig.entries.len(), entries, "nothing was decided");
    let told: Vec<_> = rig.engine.denials().collect();
    assert_eq!(told.len(), refused, "each by its API");
    assert!(told.iter().all(|(_, count)| *count == 1), "{told:?}");
}

fn grant(rig: &mut Rig, need: &Need) {
    let name = match need.resource {
        Resource::Topic => "t",
        Resource::Group => "g",
        Resource::TransactionalId => "x",
        _ => "kafka-cluster",
    };
    rig.allow(ANN, need.operation, need.resource, name);
}

#[test]
fn every_api_is_open_to_who_has_just_what_its_line_names_and_not_with_one_less() {
    for spec in APIS.iter().filter(|spec| !spec.needs.is_empty()) {
        for all in spec.needs {
            let is_of_example = match spec.key {
                // The example has a transactional id.
                ApiKey::InitProducerId => all[0].resource == Resource::TransactionalId,
                _ => true,
            };
            if !is_of_example {
                continue;
            }
            let mut rig = guarded();
            rig.topic_as_root("t");
            all.iter().for_each(|need| grant(&mut rig, need));
            let response = rig.call_as(ANN, example(spec.key), version_of(spec.key));
            assert_eq!(refusals(&response), [], "{} with {all:?}: {response:?}", spec.name);
            assert_eq!(rig.engine.denials().count(), 0, "{}", spec.name);
        }
    }
}

#[test]
fn without_an_identity_nothing_is_asked_and_tools_hear_that_there_are_no_rules() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    assert!(!rig.engine.keeps_rules());
    assert_eq!(rig.produce("t", 0, &["v"]).error_code, 0);
    let Response::DescribeAcls(listed) = rig.call(example(ApiKey::DescribeAcls), 3) else {
        panic!()
    };
    assert_eq!(listed.error_code, ErrorCode::SecurityDisabled.code());
}

#[test]
fn a_produce_to_two_topics_is_refused_for_one_and_kept_for_the_other() {
    let mut rig = guarded();
    rig.topic_as_root("mine");
    rig.topic_as_root("other");
    rig.allow(ANN, Operation::Write, Resource::Topic, "mine");
    let Request::Produce(mut request) = produce_request("other", 0, batch(&["no"], None), -1)
    else {
        panic!()
    };
    let Request::Produce(mine) = produce_request("mine", 0, batch(&["yes"], None), -1) else {
        panic!()
    };
    request.topic_data.extend(mine.topic_data);
    let Response::Produce(answer) = rig.call_as(ANN, request, 9) else { panic!() };
    let codes: Vec<(&str, i16)> = answer
        .responses
        .iter()
        .map(|topic| (topic.name.as_str(), topic.partition_responses[0].error_code))
        .collect();
    assert_eq!(codes, [("mine", 0), ("other", TOPIC)]);
    let log_end = |rig: &Rig, topic: &str| {
        rig.engine.catalog().by_name(topic).expect("made").partitions[0].log_end
    };
    assert_eq!((log_end(&rig, "mine"), log_end(&rig, "other")), (1, 0));
}

/// What a client sees of all topics, and of one by name.
fn metadata(rig: &mut Rig, topic: Option<&str>) -> Vec<(Option<String>, i16, i32)> {
    let topics = topic.map(|name| {
        let name = Some(name.to_owned());
        vec![MetadataRequestTopic { name, ..Default::default() }]
    });
    let request = MetadataRequest {
        topics,
        allow_auto_topic_creation: true,
        include_topic_authorized_operations: true,
        ..Default::default()
    };
    let Response::Metadata(answer) = rig.call_as(ANN, request, 12) else { panic!() };
    let of = |t: metadata_response::MetadataResponseTopic| {
        (t.name, t.error_code, t.topic_authorized_operations)
    };
    answer.topics.into_iter().map(of).collect()
}

#[test]
fn metadata_hides_what_may_not_be_described_and_says_what_may_be_done() {
    let mut rig = guarded();
    rig.topic_as_root("mine");
    rig.topic_as_root("secret");
    rig.allow(ANN, Operation::Read, Resource::Topic, "mine");
    let bits = Operation::Read.bit() | Operation::Describe.bit();
    let mine = (Some("mine".to_owned()), 0, bits);
    assert_eq!(metadata(&mut rig, None), std::slice::from_ref(&mine));
    assert_eq!(metadata(&mut rig, Some("mine")), [mine]);
    let refused = |name: &str| (Some(name.to_owned()), TOPIC, i32::MIN);
    assert_eq!(metadata(&mut rig, Some("secret")), [refused("secret")]);
    assert_eq!(metadata(&mut rig, Some("missing")), [refused("missing")], "the same answer");
}

#[test]
fn asking_for_a_missing_topic_makes_it_only_for_who_may_create() {
    let mut rig = guarded();
    rig.rule(ANN, Operation::Describe, Resource::Topic, "new", PREFIXED, ALLOW);
    assert_eq!(metadata(&mut rig, Some("new-1"))[0].1, TOPIC);
    assert!(rig.engine.catalog().by_name("new-1").is_none());
    rig.rule(ANN, Operation::Create, Resource::Topic, "new", PREFIXED, ALLOW);
    assert_eq!(metadata(&mut rig, Some("new-1"))[0].1, 0);
    assert!(rig.engine.catalog().by_name("new-1").is_some());
    rig.rule(ANN, Operation::Create, Resource::Topic, "new-2", LITERAL, DENY);
    assert_eq!(metadata(&mut rig, Some("new-2"))[0].1, TOPIC, "deny comes first");
}

fn fetch_as(rig: &mut Rig, topics: &[&str], session: (i32, i32)) -> FetchResponse {
    let mut request = FetchRequest::default();
    for topic in topics {
        let Request::Fetch(one) = fetch_request(topic, 0, 0, 0, 0) else { panic!() };
        request.topics.extend(one.topics);
    }
    request.max_bytes = 1 << 20;
    (request.session_id, request.session_epoch) = session;
    let Response::Fetch(answer) = rig.call_as(ANN, request, 12) else { panic!() };
    answer
}

#[test]
fn a_fetch_session_ends_when_what_it_wants_may_not_be_read_any_more() {
    let mut rig = guarded();
    rig.topic_as_root("mine");
    rig.topic_as_root("other");
    rig.allow(ANN, Operation::Read, Resource::Topic, "mine");
    let Response::Produce(_) =
        rig.call_as(ROOT, produce_request("other", 0, batch(&["secret"], None), -1), 9)
    else {
        panic!()
    };
    let mixed = fetch_as(&mut rig, &["mine", "other"], (0, 0));
    assert_eq!(mixed.session_id, 0, "no session with what may not be read");
    let codes: Vec<i16> = mixed.responses.iter().map(|t| t.partitions[0].error_code).collect();
    assert_eq!(codes, [0, TOPIC]);
    assert!(mixed.responses.iter().all(|t| values_of(&t.partitions[0]).is_empty()));

    rig.allow(ANN, Operation::Read, Resource::Topic, "other");
    let both = fetch_as(&mut rig, &["mine", "other"], (0, 0));
    assert_ne!(both.session_id, 0);
    rig.rule(ANN, Operation::Read, Resource::Topic, "other", LITERAL, DENY);
    let next = fetch_as(&mut rig, &[], (both.session_id, 1));
    assert_eq!(next.error_code, ErrorCode::FetchSessionIdNotFound.code());
    assert!(next.responses.is_empty());
}

/// CVE-2018-1288: whoever says that he is a replica gets no more than others.
#[test]
fn a_fetch_as_a_replica_needs_what_brokers_have() {
    let mut rig = guarded();
    rig.topic_as_root("t");
    rig.allow(ANN, Operation::Read, Resource::Topic, "t");
    let Request::Fetch(mut request) = fetch_request("t", 0, 0, 0, 0) else { panic!() };
    request.replica_id = 2;
    let Response::Fetch(answer) = rig.call_as(ANN, request, 12) else { panic!() };
    assert_eq!(answer.responses[0].partitions[0].error_code, TOPIC);
}

/// KIP-679: who may write to something gets a producer id; nobody else does.
#[test]
fn a_producer_id_is_for_who_may_write_to_something() {
    let mut rig = guarded();
    let code = |rig: &mut Rig| match rig.call_as(ANN, InitProducerIdRequest::default(), 4) {
        Response::InitProducerId(answer) => answer.error_code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&mut rig), ErrorCode::ClusterAuthorizationFailed.code());
    rig.rule(ANN, Operation::Write, Resource::Topic, "line-", PREFIXED, ALLOW);
    assert_eq!(code(&mut rig), 0);
}

#[test]
fn rules_are_listed_deleted_and_survive_with_and_without_a_snapshot() {
    let mut rig = guarded();
    rig.topic_as_root("t");
    rig.allow(ANN, Operation::Read, Resource::Topic, "t");
    rig.allow(ANN, Operation::Read, Resource::Group, "g");
    let mut again = rig.clone_call(Operation::Read);
    assert_eq!(again.len(), 2, "an equal rule is the same rule");
    let snapshot = rig.engine.snapshot();
    for mut reborn in [rig.reborn(None), rig.reborn(Some(snapshot))] {
        again.sort();
        assert_eq!(reborn.clone_call(Operation::Read), again);
        let read = fetch_as(&mut reborn, &["t"], (0, -1));
        assert_eq!(read.responses[0].partitions[0].error_code, 0);
    }
    rig.forget_rule("t", None);
    let read = fetch_as(&mut rig, &["t"], (0, -1));
    assert_eq!(read.responses[0].partitions[0].error_code, TOPIC);
}

impl Rig {
    /// Takes away the one rule of a topic, of whomever or of somebody.
    fn forget_rule(&mut self, topic: &str, principal: Option<&str>) {
        let filter = DeleteAclsFilter {
            resource_type_filter: Resource::Topic as i8,
            resource_name_filter: Some(topic.to_owned()),
            pattern_type_filter: LITERAL,
            principal_filter: principal.map(str::to_owned),
            operation: 1,
            permission_type: 1,
            ..Default::default()
        };
        let request = DeleteAclsRequest { filters: vec![filter] };
        let Response::DeleteAcls(gone) = self.call_as(ROOT, request, 3) else { panic!() };
        assert_eq!(gone.filter_results[0].matching_acls.len(), 1);
    }

    /// Makes a rule that there is and lists all: kind and name.
    fn clone_call(&mut self, operation: Operation) -> Vec<(i8, String)> {
        self.allow(ANN, operation, Resource::Group, "g");
        let Response::DescribeAcls(listed) = self.call_as(ROOT, example(ApiKey::DescribeAcls), 3)
        else {
            panic!()
        };
        assert_eq!(listed.error_code, 0);
        assert!(listed.resources.iter().all(|one| one.acls.len() == 1));
        listed.resources.into_iter().map(|one| (one.resource_type, one.resource_name)).collect()
    }
}

#[test]
fn rules_that_cannot_be_are_not_made() {
    let mut rig = guarded();
    let good = AclCreation {
        resource_type: 2,
        resource_name: "t".to_owned(),
        resource_pattern_type: 3,
        principal: "User:a".to_owned(),
        host: "*".to_owned(),
        operation: 3,
        permission_type: 3,
    };
    let text = |text: &str| text.to_owned();
    let wrong = [
        AclCreation { resource_type: 1, ..good.clone() },
        AclCreation { resource_name: text(""), ..good.clone() },
        AclCreation { resource_name: "x".repeat(1_025), ..good.clone() },
        AclCreation { resource_type: 4, resource_name: text("other"), ..good.clone() },
        AclCreation { resource_pattern_type: 2, ..good.clone() },
        AclCreation { principal: text("ann"), ..good.clone() },
        AclCreation { principal: text("User:"), ..good.clone() },
        AclCreation { host: text(""), ..good.clone() },
        AclCreation { operation: 1, ..good.clone() },
        AclCreation { operation: 99, ..good.clone() },
        AclCreation { permission_type: 1, ..good },
    ];
    let count = wrong.len();
    let request = CreateAclsRequest { creations: wrong.into() };
    let Response::CreateAcls(answer) = rig.call_as(ROOT, request, 3) else { panic!() };
    let invalid = ErrorCode::InvalidRequest.code();
    let codes: Vec<i16> = answer.results.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, vec![invalid; count]);
    assert_eq!(rig.engine.state.acls.len(), 0);
}

#[test]
fn the_audit_topic_tells_of_refusals_and_changes_and_of_no_flood() {
    let mut rig = guarded_with(|access| access.audits = true);
    rig.topic_as_root("t");
    rig.allow(ANN, Operation::Describe, Resource::Topic, "t");
    for _ in 0..1_000 {
        let request = produce_request("t", 0, batch(&["v"], None), -1);
        let Response::Produce(_) = rig.call_as(ANN, request, 9) else { panic!() };
    }
    rig.pass_ms(1_000);
    let host = "10.0.0.9".to_owned();
    let why = "he said \"no\"\n".to_owned();
    rig.handle(Event::LoginRefused(crate::LoginRefused { host, listener: 1, why }));

    let mut lines = Vec::new();
    while let Response::Fetch(answer) =
        rig.call_as(ROOT, fetch_request(AUDIT_TOPIC, 0, lines.len() as i64, 0, 0), 12)
        && let read = values_of(&answer.responses[0].partitions[0])
        && !read.is_empty()
    {
        lines.extend(read.into_iter().map(|(_, line)| line));
    }
    let with = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert!(lines[0].contains("topic-created") && lines[0].contains("User:root"), "{lines:?}");
    assert_eq!(with("rule-created"), 1);
    assert_eq!(with("\"what\":\"denied\""), 20);
    assert!(
        with("\"operation\":\"Write\"") == 20 && with("User:ann\",\"host\":\"10.0.0.7\"") == 20
    );
    let last = lines.last().expect("some");
    assert!(
        last.contains(r#"he said \"no\"\u000a"#) && last.contains("\"not_told\":980"),
        "{last}"
    );

    let Response::Fetch(answer) = rig.call_as(ANN, fetch_request(AUDIT_TOPIC, 0, 0, 0, 0), 12)
    else {
        panic!()
    };
    assert_eq!(answer.responses[0].partitions[0].error_code, TOPIC, "for who may read it");
    let forged = produce_request(AUDIT_TOPIC, 0, batch(&["lie"], None), -1);
    let Response::Produce(answer) = rig.call_as(ROOT, forged, 9) else { panic!() };
    assert_ne!(answer.responses[0].partition_responses[0].error_code, 0, "the node's own");
}

/// A member with a pattern, and the topics that it has.
fn found(rig: &mut Rig, member: &mut Client, user: &str) -> Vec<String> {
    let answer = rig.call_as(user, member.request(), 1);
    let Response::ConsumerGroupHeartbeat(answer) = answer else { panic!() };
    assert_eq!(member.take(&answer), ErrorCode::None);
    let name = |id| rig.engine.catalog().by_id(id).expect("a topic").name.clone();
    member.owned.keys().map(|id| name(*id)).collect()
}

/// KIP-848: a pattern finds what its member may describe, and no name of anything else.
#[test]
fn a_pattern_finds_only_topics_that_may_be_described() {
    let mut rig = guarded();
    for topic in ["line-1", "line-2", "secret-1"] {
        rig.topic_as_root(topic);
    }
    rig.allow(ANN, Operation::Read, Resource::Group, "g");
    rig.allow(ANN, Operation::Read, Resource::Topic, "line-1");
    let mut member = Client { regex: Some(".*-[0-9]".to_owned()), ..Client::new("m", &[]) };
    assert_eq!(found(&mut rig, &mut member, ANN), ["line-1"]);
    rig.rule(ANN, Operation::Describe, Resource::Topic, "line", PREFIXED, ALLOW);
    let mut both = found(&mut rig, &mut member, ANN);
    both.sort();
    assert_eq!(both, ["line-1", "line-2"], "a new rule counts with the next heartbeat");
    rig.rule(ANN, Operation::All, Resource::Topic, "line-1", LITERAL, DENY);
    assert_eq!(found(&mut rig, &mut member, ANN), ["line-2"], "and so does one that denies");
    let mut reborn = rig.reborn(None);
    assert_eq!(found(&mut reborn, &mut member.clone(), ANN), ["line-2"]);
    let mut all = found(&mut rig, &mut member, ROOT);
    all.sort();
    assert_eq!(all.len(), 3, "whoever may see all finds all: {all:?}");
}

/// Rules are kept from the first user on: who made him is told although nobody asked for rules before, and
/// what happens by itself afterwards is nobody's doing.
#[test]
fn the_audit_topic_names_who_made_the_first_users() {
    let access = AccessConfig { audits: true, ..AccessConfig::default() };
    let mut rig = Rig::with_config(EngineConfig { access, ..EngineConfig::default() });
    assert!(!rig.engine.keeps_rules());
    let user = |name: &str| alter_user_scram_credentials_request::ScramCredentialUpsertion {
        name: name.to_owned(),
        mechanism: 1,
        iterations: 4_096,
        salt: vec![1; 16].into(),
        salted_password: Secret(vec![2; 32].into()),
    };
    let users = AlterUserScramCredentialsRequest {
        upsertions: vec![user("eve"), user("bob")],
        ..Default::default()
    };
    rig.call_as(ANN, Request::AlterUserScramCredentials(users), 0);
    assert!(rig.engine.keeps_rules());
    let told = rig.read(AUDIT_TOPIC, 0, 0);
    let told = told.iter().filter(|(_, line)| line.contains("user-set"));
    let told: Vec<_> = told.map(|(_, line)| line.contains("User:ann")).collect();
    assert!(!told.is_empty() && told.iter().all(|is_hers| *is_hers), "{told:?}");
    assert_eq!(rig.engine.audit.acting, None);
}

/// CVE-2018-17196: a batch that says it is idempotent or in a transaction is asked for the topic all the same,
/// and whoever writes in a transaction's name is asked for that name.
#[test]
fn cve_2018_17196_a_produce_needs_the_topic_and_its_transactional_id() {
    let mut rig = guarded();
    rig.topic_as_root("t");
    let idempotent = Producer { id: 7, epoch: 0, sequence: 0 };
    let code = |rig: &mut Rig, transactional_id: Option<&str>| {
        let request = produce_request("t", 0, batch(&["v"], Some(idempotent)), -1);
        let Request::Produce(mut request) = request else { panic!() };
        request.transactional_id = transactional_id.map(str::to_owned);
        let Response::Produce(answer) = rig.call_as(ANN, request, 9) else { panic!() };
        answer.responses[0].partition_responses[0].error_code
    };
    rig.allow(ANN, Operation::IdempotentWrite, Resource::Cluster, "kafka-cluster");
    rig.allow(ANN, Operation::Write, Resource::TransactionalId, "mine");
    assert_eq!(code(&mut rig, None), TOPIC);
    assert_eq!(code(&mut rig, Some("mine")), TOPIC);
    rig.allow(ANN, Operation::Write, Resource::Topic, "t");
    let foreign = ErrorCode::TransactionalIdAuthorizationFailed.code();
    assert_eq!(code(&mut rig, Some("another's")), foreign);
    let log_end = rig.engine.catalog().by_name("t").expect("made").partitions[0].log_end;
    assert_eq!(log_end, 0, "nothing of it is kept");
}

/// CVE-2024-27309: rules of one resource were lost when one of them went; here others stay, also after a
/// restart by journal and by snapshot, and so does the denial that stands beside an allowance.
#[test]
fn cve_2024_27309_deleting_one_rule_of_a_resource_leaves_its_others() {
    let mut rig = guarded();
    rig.topic_as_root("t");
    rig.allow(ANN, Operation::Read, Resource::Topic, "t");
    rig.allow("bob", Operation::Read, Resource::Topic, "t");
    rig.rule("eve", Operation::All, Resource::Topic, "t", LITERAL, DENY);
    rig.rule("*", Operation::Write, Resource::Topic, "t", LITERAL, ALLOW);
    rig.forget_rule("t", Some("User:bob"));
    let snapshot = rig.engine.snapshot();
    let writes = |rig: &mut Rig, user: &str| {
        let request = produce_request("t", 0, batch(&["v"], None), -1);
        let Response::Produce(answer) = rig.call_as(user, request, 9) else { panic!() };
        answer.responses[0].partition_responses[0].error_code
    };
    for mut rig in [rig.reborn(None), rig.reborn(Some(snapshot)), rig] {
        assert_eq!(fetch_as(&mut rig, &["t"], (0, -1)).responses[0].partitions[0].error_code, 0);
        assert_eq!((writes(&mut rig, "bob"), writes(&mut rig, "eve")), (0, TOPIC));
    }
}

/// CVE-2025-27817, CVE-2025-27818: where keys of tokens are, and by what classes somebody logs in, is for the
/// file of the node alone; nobody makes the node fetch or load anything by a request.
#[test]
fn cve_2025_27817_and_27818_nobody_sets_by_a_request_how_logins_are_checked() {
    use millpond_wire::messages::incremental_alter_configs_request::{
        AlterConfigsResource, AlterableConfig,
    };
    let mut rig = guarded();
    rig.topic_as_root("t");
    let entries = rig.entries.len();
    for name in [
        "sasl.oauthbearer.jwks.endpoint.url",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.jaas.config",
        "listener.name.external.sasl_ssl.plain.sasl.jaas.config",
        "ssl.truststore.location",
        "super.users",
        "authorizer.class.name",
        "allow.everyone.if.no.acl.found",
    ] {
        for (resource_type, resource_name) in [(4, "1"), (4, ""), (2, "t")] {
            let config = AlterableConfig {
                name: name.to_owned(),
                value: Some("file:///etc/shadow".to_owned()),
                ..Default::default()
            };
            let resource = AlterConfigsResource {
                resource_type,
                resource_name: resource_name.to_owned(),
                configs: vec![config],
            };
            let request =
                IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
            let Response::IncrementalAlterConfigs(answer) =
                rig.call_as(ROOT, Request::IncrementalAlterConfigs(request), 1)
            else {
                panic!()
            };
            assert_ne!(answer.responses[0].error_code, 0, "{name} of {resource_type}");
        }
    }
    assert_eq!(rig.entries.len(), entries, "nothing is kept of it");
}
