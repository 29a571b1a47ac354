//! Transforms whose topics share one state: what they are given, in which order, where their state is,
//! and what stands in their way.

use super::rig::{Rig, batch_at, parsed};
use super::txn_rig::Client;
use crate::transform::{
    AdminError, AdminRequest, DeriveStart, IDLE_TIMEOUT_MS, Mode, Output, OutputTopic, StateBatch,
    TransformJob, TransformOutcome, TransformSpec,
};
use crate::{Entry, EntrySeq, Event, Fact, read_state, shared_state_topic, state_batches};
use bytes::Bytes;
use millpond_wire::messages::create_partitions_request::CreatePartitionsTopic;
use millpond_wire::messages::{CreatePartitionsRequest, Request, Response};
use std::collections::BTreeMap;

fn joined(topics: &[&str]) -> TransformSpec {
    TransformSpec {
        name: "both".to_owned(),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        outputs: vec!["out".to_owned()],
        mode: Mode::Derive(DeriveStart::Earliest),
        keeps_state: true,
        shares_state: true,
        ..TransformSpec::default()
    }
}

fn deploy(rig: &mut Rig, spec: TransformSpec) {
    rig.admin(AdminRequest::DeployTransform(spec)).expect("deployed");
}

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create_topic("left", 2);
    rig.create_topic("right", 2);
    rig
}

fn send(rig: &mut Rig, topic: &str, at_ms: i64, value: &str) {
    let id = rig.send_batch(topic, 0, batch_at(at_ms, &[value], None));
    assert_eq!(rig.produced(id).error_code, 0);
}

fn next_job(rig: &mut Rig) -> TransformJob {
    rig.pass_ms(5);
    rig.jobs.pop_front().expect("a job")
}

fn values(job: &TransformJob) -> Vec<String> {
    let Some(batch) = &job.batch else { return Vec::new() };
    let section = batch.decompress(1 << 20).expect("records");
    let records = batch.records(&section).map(|record| record.expect("a record"));
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    records.map(|record| text(record.value.unwrap_or_default())).collect()
}

fn put(job: &TransformJob, key: &str) -> Vec<StateBatch> {
    state_batches(job.chain[0], [(key.as_bytes(), Some(&b"x"[..]))], 7).expect("small")
}

fn dropped(state: Vec<StateBatch>) -> TransformOutcome {
    TransformOutcome::Changed { outputs: Vec::new(), state }
}

/// Topic, number of the first record, and values of all jobs until there are none.
fn drain(rig: &mut Rig) -> Vec<(String, u64, String)> {
    let mut all = Vec::new();
    rig.pass_ms(5);
    while let Some(job) = rig.jobs.pop_front() {
        all.push((job.topic.clone(), job.input_count, values(&job).join(" ")));
        rig.finish(&job, dropped(Vec::new()));
        rig.pass_ms(5);
    }
    all
}

fn given(topic: &str, first: u64, values: &str) -> (String, u64, String) {
    (topic.to_owned(), first, values.to_owned())
}

fn state_of(rig: &mut Rig, job: &TransformJob) -> Vec<String> {
    rig.handle(Event::ReadState { ticket: job.ticket, transform: job.chain[0], from: 0 });
    let page = rig.pages.pop().expect("in memory").expect("a page");
    let mut state: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    read_state(&page.records, &mut state).expect("our own");
    state.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
}

fn add_partitions(rig: &mut Rig, name: &str, count: i32) {
    let topic = CreatePartitionsTopic { name: name.to_owned(), count, assignments: None };
    let request =
        CreatePartitionsRequest { topics: vec![topic], timeout_ms: 0, validate_only: false };
    match rig.call(Request::CreatePartitions(request), 3) {
        Response::CreatePartitions(response) => assert_eq!(response.results[0].error_code, 0),
        other => panic!("{other:?}"),
    }
}

fn refusal(rig: &mut Rig, spec: TransformSpec) -> String {
    match rig.admin(AdminRequest::DeployTransform(spec)) {
        Err(AdminError::InvalidSpec(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_oldest_batch_of_the_topics_comes_first_and_a_restart_goes_on_behind_it() {
    let mut rig = rig();
    for (topic, at_ms) in
        [("left", 10), ("left", 12), ("left", 40), ("right", 11), ("right", 30), ("right", 50)]
    {
        send(&mut rig, topic, at_ms, &at_ms.to_string());
    }
    deploy(&mut rig, joined(&["left", "right"]));
    let first = next_job(&mut rig);
    assert_eq!((first.topic.as_str(), values(&first)), ("left", vec!["10".to_owned()]));
    rig.finish(&first, dropped(Vec::new()));
    let mut rig = rig.reborn(None);
    send(&mut rig, "left", 60, "60");
    let rest = drain(&mut rig);
    let expected = [
        given("right", 1, "11"),
        given("left", 2, "12"),
        given("right", 3, "30"),
        given("left", 4, "40"),
        given("right", 5, "50"),
        given("left", 6, "60"),
    ];
    assert_eq!(rest, expected);
}

#[test]
fn batches_of_a_topic_go_together_as_far_as_they_are_older_than_those_of_the_other() {
    let mut rig = rig();
    for (topic, at_ms) in [("left", 1), ("left", 2), ("left", 3), ("right", 2), ("left", 2)] {
        send(&mut rig, topic, at_ms, &at_ms.to_string());
    }
    deploy(&mut rig, joined(&["left", "right"]));
    let expected = [given("left", 0, "1 2"), given("right", 2, "2"), given("left", 3, "3 2")];
    assert_eq!(drain(&mut rig), expected);
}

#[test]
fn what_one_topic_left_in_the_state_is_found_by_the_other_and_all_of_it_stands_in_one_entry() {
    let mut rig = rig();
    deploy(&mut rig, joined(&["left", "right"]));
    for (round, topic) in ["left", "right", "left"].into_iter().enumerate() {
        send(&mut rig, topic, 10, "a");
        let job = next_job(&mut rig);
        assert_eq!((job.topic.as_str(), state_of(&mut rig, &job).len()), (topic, round));
        let outputs = vec![Output { topic: OutputTopic::Same, batch: parsed(&["made"]) }];
        let before = rig.entries.len();
        let state = put(&job, &format!("{round}"));
        rig.finish(&job, TransformOutcome::Changed { outputs, state });
        assert_eq!(rig.entries.len(), before + 1);
        let bytes = rig.entries[before].clone();
        let entry = Entry::decode(EntrySeq(before as u64 + 1), bytes).expect("an entry");
        let source = rig.key(topic, 0);
        let moved = |fact: &Fact| matches!(fact, Fact::CursorMoved { partition, .. } if *partition == source);
        assert!(entry.facts.iter().any(moved));
        let appended = |fact: &&Fact| matches!(fact, Fact::Appended { .. });
        assert_eq!(entry.facts.iter().filter(appended).count(), 2);
        rig = rig.reborn(None);
    }
    assert_eq!(rig.read("out", 0, 0).len(), 3);
    let changelog = |rig: &Rig| {
        let topic = rig.engine.catalog().by_name(&shared_state_topic("both"));
        topic.map(|topic| topic.partitions.len())
    };
    assert_eq!(changelog(&rig), Some(2));
    rig.delete_topic("left");
    assert_eq!(changelog(&rig), Some(2), "the other topic's is there still");
    rig.admin(AdminRequest::DeleteTransform { name: "both".to_owned() }).expect("deleted");
    assert_eq!(changelog(&rig), None);
}

#[test]
fn what_was_aborted_in_either_topic_is_not_given() {
    let mut rig = rig();
    deploy(&mut rig, joined(&["left", "right"]));
    let mut client = Client::start(&mut rig, "tx", true);
    let mut expected = Vec::new();
    for (round, is_commit) in [false, true, false, true].into_iter().enumerate() {
        for topic in ["left", "right"] {
            let value = format!("{topic}{round}");
            let id = client.send(&mut rig, topic, 0, &[&value]);
            assert_eq!(rig.produced(id).error_code, 0);
            if is_commit {
                expected.push(value);
            }
        }
        assert_eq!(client.end(&mut rig, is_commit), 0);
    }
    let given = drain(&mut rig);
    let mut all: Vec<&str> = given.iter().flat_map(|(_, _, values)| values.split(' ')).collect();
    all.sort_by_key(|value| value.chars().last());
    assert_eq!(all, expected);
}

#[test]
fn a_topic_is_idle_when_all_of_it_was_read_and_nothing_came_for_the_time_that_is_said() {
    let mut rig = rig();
    let limits = BTreeMap::from([(IDLE_TIMEOUT_MS.to_owned(), 2_000)]);
    deploy(&mut rig, TransformSpec { limits, ..joined(&["left", "right"]) });
    let idle = |job: &TransformJob| {
        job.shared_by.iter().map(|one| (one.topic.clone(), one.is_idle)).collect::<Vec<_>>()
    };
    let expected = |left, right| vec![("left".to_owned(), left), ("right".to_owned(), right)];
    send(&mut rig, "left", 10, "a");
    let job = next_job(&mut rig);
    assert_eq!(idle(&job), expected(false, false));
    rig.finish(&job, dropped(put(&job, "k")));
    rig.pass_ms(1_500);
    send(&mut rig, "left", 20, "b");
    let job = next_job(&mut rig);
    rig.finish(&job, dropped(Vec::new()));
    rig.pass_ms(1_000);
    send(&mut rig, "left", 30, "c");
    let job = next_job(&mut rig);
    assert_eq!(idle(&job), expected(false, true));
    rig.finish(&job, dropped(Vec::new()));
    send(&mut rig, "right", 40, "d");
    let job = next_job(&mut rig);
    assert_eq!(idle(&job), expected(false, false), "what waits to be read is not idle");
    rig.finish(&job, dropped(Vec::new()));
    while rig.jobs.is_empty() {
        rig.pass_ms(100);
    }
    let job = next_job(&mut rig);
    assert!(job.batch.is_none() && job.idle_ms.is_some_and(|ms| ms >= 2_000), "{job:?}");
    assert_eq!(idle(&job), expected(true, true));
}

#[test]
fn what_cannot_share_a_state_is_refused_with_the_reason() {
    let mut rig = rig();
    rig.create_topic("wide", 3);
    let shared = || joined(&["left", "right"]);
    assert!(refusal(&mut rig, joined(&["left"])).contains("one topic only"));
    assert!(refusal(&mut rig, joined(&["left", "left"])).contains("one topic only"));
    assert!(refusal(&mut rig, joined(&["left", "wide"])).contains("left has 2, wide has 3"));
    assert!(refusal(&mut rig, joined(&["left", "none"])).contains("none is not there"));
    let inline = TransformSpec { mode: Mode::Inline, ..shared() };
    assert!(refusal(&mut rig, inline).contains("only where it derives"));
    let stateless = TransformSpec { keeps_state: false, ..shared() };
    assert!(refusal(&mut rig, stateless).contains("keeps no state"));
    let named = TransformSpec { name: format!("a-{}", "0".repeat(32)), ..shared() };
    assert!(refusal(&mut rig, named).contains("call it something else"));
    let around = TransformSpec { outputs: vec!["right".to_owned()], ..shared() };
    assert!(refusal(&mut rig, around).contains("go round"));
    deploy(&mut rig, shared());
    let apart = TransformSpec { shares_state: false, ..shared() };
    assert!(refusal(&mut rig, apart).contains("delete it first"));
}

#[test]
fn nothing_runs_while_one_topic_has_more_partitions_than_the_other() {
    let mut rig = rig();
    deploy(&mut rig, joined(&["left", "right"]));
    add_partitions(&mut rig, "left", 3);
    send(&mut rig, "left", 1, "a");
    assert_eq!(drain(&mut rig), []);
    let faults = rig.engine.derives().into_iter().filter_map(|lane| lane.fault);
    assert!(faults.into_iter().all(|fault| fault.contains("left has 3, right has 2")));
    rig.pass_ms(1_000);
    assert_eq!(drain(&mut rig), []);
    add_partitions(&mut rig, "right", 3);
    assert_eq!(drain(&mut rig), [given("left", 0, "a")]);
    assert!(rig.engine.derives().iter().all(|lane| lane.fault.is_none()));
}
