//! Inline transforms: order, atomicity, refusal, and what duplicates are told.

use super::rig::{Producer, Rig, batch, parsed, values_of};
use crate::transform::{
    AdminError, AdminRequest, AdminResponse, Output, OutputTopic, TransformOutcome,
};
use crate::units::RequestId;
use crate::{Entry, EntrySeq, Fact};
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::{DeleteTopicsRequest, Request};

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    rig.deploy("filter", "t");
    rig
}

fn sent(sequence: i32, values: &[&str]) -> Bytes {
    batch(values, Some(Producer { id: 7, epoch: 0, sequence }))
}

fn same(values: &[&str]) -> Output {
    Output { topic: OutputTopic::Same, batch: parsed(values) }
}

fn routed(topic: &str, values: &[&str]) -> Output {
    Output { topic: OutputTopic::Named(topic.to_owned()), batch: parsed(values) }
}

fn changed(outputs: Vec<Output>) -> TransformOutcome {
    TransformOutcome::Changed { outputs, state: Vec::new() }
}

fn reject() -> TransformOutcome {
    TransformOutcome::Rejected {
        code: ErrorCode::InvalidRecord,
        message: "not a reading".to_owned(),
    }
}

fn answer(rig: &mut Rig, id: RequestId) -> (ErrorCode, i64) {
    let part = rig.produced(id);
    (ErrorCode::from_code(part.error_code).expect("a known code"), part.base_offset)
}

#[test]
fn a_batch_left_untouched_is_stored_byte_for_byte() {
    let mut rig = rig();
    let bytes = sent(0, &["a", "b"]);
    let id = rig.send_batch("t", 0, bytes.clone());
    let job = rig.jobs.pop_front().expect("a job");
    assert_eq!((job.topic.as_str(), job.input_count, job.chain.len()), ("t", 0, 1));
    assert!(!rig.is_answered(id));
    rig.finish(&job, TransformOutcome::Untouched { state: Vec::new() });
    assert_eq!(answer(&mut rig, id), (ErrorCode::None, 0));
    let stored = rig.fetch("t", 0, 0).records.expect("records").to_bytes();
    // Base offset, length and leader epoch are the broker's; the rest is as it came.
    assert_eq!(stored[16..], bytes[16..]);
}

#[test]
fn batches_are_committed_in_the_order_of_admission_whatever_finishes_first() {
    let mut rig = rig();
    let first = rig.send_batch("t", 0, sent(0, &["a"]));
    let second = rig.send_batch("t", 0, sent(1, &["b"]));
    let jobs: Vec<_> = rig.jobs.drain(..).collect();
    assert_eq!(jobs[1].input_count, 1);
    rig.finish(&jobs[1], TransformOutcome::Untouched { state: Vec::new() });
    assert!(!rig.is_answered(first) && !rig.is_answered(second));
    rig.finish(&jobs[0], TransformOutcome::Untouched { state: Vec::new() });
    assert_eq!(answer(&mut rig, first), (ErrorCode::None, 0));
    assert_eq!(answer(&mut rig, second), (ErrorCode::None, 1));
}

#[test]
fn a_paused_transform_does_not_let_batches_overtake() {
    let mut rig = rig();
    let first = rig.send_batch("t", 0, batch(&["a"], None));
    let request = AdminRequest::PauseTransform { name: "filter".to_owned(), paused: true };
    assert_eq!(rig.admin(request), Ok(AdminResponse::Done));
    let second = rig.send_batch("t", 0, batch(&["b"], None));
    let other = rig.send_batch("t", 1, batch(&["c"], None));
    assert_eq!(answer(&mut rig, other), (ErrorCode::None, 0));
    assert!(!rig.is_answered(second));
    let job = rig.jobs.pop_front().expect("a job");
    assert!(rig.jobs.is_empty());
    rig.finish(&job, TransformOutcome::Untouched { state: Vec::new() });
    assert_eq!(answer(&mut rig, first).1, 0);
    assert_eq!(answer(&mut rig, second).1, 1);
}

#[test]
fn a_changed_count_is_answered_without_an_offset_and_a_duplicate_gets_the_same() {
    let mut rig = rig();
    let id = rig.send_batch("t", 0, sent(0, &["a", "b", "c"]));
    let duplicate = rig.send_batch("t", 0, sent(0, &["a", "b", "c"]));
    assert_eq!(rig.jobs.len(), 1, "a duplicate never runs");
    let job = rig.jobs.pop_front().expect("a job");
    rig.finish(&job, changed(vec![same(&["b"])]));
    assert_eq!(answer(&mut rig, id), (ErrorCode::None, -1));
    assert_eq!(answer(&mut rig, duplicate), (ErrorCode::None, -1));
    let mut rig = rig.reborn(Some(rig.engine.snapshot()));
    let late = rig.send_batch("t", 0, sent(0, &["a", "b", "c"]));
    assert_eq!(answer(&mut rig, late), (ErrorCode::None, -1));
    assert!(rig.jobs.is_empty());
}

#[test]
fn an_equal_count_in_the_same_place_keeps_its_offset() {
    let mut rig = rig();
    let id = rig.send_batch("t", 0, sent(0, &["a", "b"]));
    let job = rig.jobs.pop_front().expect("a job");
    rig.finish(&job, changed(vec![same(&["A", "B"])]));
    assert_eq!(answer(&mut rig, id), (ErrorCode::None, 0));
    assert_eq!(rig.read("t", 0, 0)[1], (1, "B".to_owned()));
    let late = rig.send_batch("t", 0, sent(0, &["a", "b"]));
    assert_eq!(answer(&mut rig, late), (ErrorCode::None, 0));
}

#[test]
fn records_that_are_all_dropped_leave_only_the_memory_of_having_been_sent() {
    let mut rig = rig();
    let id = rig.send_batch("t", 0, sent(0, &["a", "b"]));
    let job = rig.jobs.pop_front().expect("a job");
    rig.finish(&job, changed(Vec::new()));
    assert_eq!(answer(&mut rig, id), (ErrorCode::None, -1));
    assert!(values_of(&rig.fetch("t", 0, 0)).is_empty());
    let mut rig = rig.reborn(None);
    let late = rig.send_batch("t", 0, sent(0, &["a", "b"]));
    assert_eq!(answer(&mut rig, late), (ErrorCode::None, -1));
    let next = rig.send_batch("t", 0, sent(2, &["c"]));
    let job = rig.jobs.pop_front().expect("a job");
    assert_eq!(job.input_count, 2, "inputs are counted across a restart");
    rig.finish(&job, TransformOutcome::Untouched { state: Vec::new() });
    assert_eq!(answer(&mut rig, next), (ErrorCode::None, 0));
}

#[test]
fn a_routed_batch_commits_atomically_and_makes_the_topics_it_needs() {
    let mut rig = rig();
    rig.create_topic("alarms", 1);
    let entries = rig.entries.len();
    let id = rig.send_batch("t", 1, sent(0, &["a", "b", "c"]));
    let job = rig.jobs.pop_front().expect("a job");
    let outputs = vec![same(&["a"]), routed("alarms", &["b"]), routed("t-dead", &["c"])];
    rig.finish(&job, changed(outputs));
    assert_eq!(answer(&mut rig, id), (ErrorCode::None, -1));
    assert_eq!(rig.entries.len(), entries + 1, "one entry holds it all");
    let entry = Entry::decode(EntrySeq(entries as u64 + 1), rig.entries[entries].clone())
        .expect("an entry");
    let appended = |fact: &&Fact| matches!(fact, Fact::Appended { .. });
    assert_eq!(entry.facts.iter().filter(appended).count(), 3);
    assert_eq!(rig.read("t", 1, 0), [(0, "a".to_owned())]);
    // The target partition is the source's, modulo the count.
    assert_eq!(rig.read("alarms", 0, 0), [(0, "b".to_owned())]);
    assert_eq!(rig.read("t-dead", 1, 0), [(0, "c".to_owned())]);
    assert_eq!(rig.engine.catalog().by_name("t-dead").expect("made").partitions.len(), 2);
}

#[test]
fn outputs_that_no_entry_can_hold_refuse_the_whole_batch() {
    let mut rig = rig();
    let id = rig.send_batch("t", 0, sent(0, &["a"]));
    let job = rig.jobs.pop_front().expect("a job");
    let value = "x".repeat(1_000_000);
    let outputs = (0..20).map(|index| routed(&format!("t-{index}"), &[&value])).collect();
    rig.finish(&job, changed(outputs));
    assert_eq!(answer(&mut rig, id).0, ErrorCode::MessageTooLarge);
    assert!(rig.engine.catalog().by_name("t-0").is_none());
}

#[test]
fn a_route_to_an_impossible_topic_refuses_the_whole_batch() {
    let mut rig = rig();
    let id = rig.send_batch("t", 0, sent(0, &["a", "b"]));
    let job = rig.jobs.pop_front().expect("a job");
    rig.finish(&job, changed(vec![same(&["a"]), routed("no/where", &["b"])]));
    assert_eq!(answer(&mut rig, id).0, ErrorCode::InvalidTopicException);
    assert!(values_of(&rig.fetch("t", 0, 0)).is_empty());
}

#[test]
fn a_rejected_batch_rolls_its_sequence_back_and_takes_the_later_ones_with_it() {
    let mut rig = rig();
    let first = rig.send_batch("t", 0, sent(0, &["a"]));
    let later = rig.send_batch("t", 0, sent(1, &["b"]));
    let other = rig.send_batch("t", 0, batch(&["c"], None));
    let jobs: Vec<_> = rig.jobs.drain(..).collect();
    rig.finish(&jobs[0], reject());
    assert_eq!(answer(&mut rig, first).0, ErrorCode::InvalidRecord);
    assert_eq!(answer(&mut rig, later).0, ErrorCode::OutOfOrderSequenceNumber);
    rig.finish(&jobs[1], TransformOutcome::Untouched { state: Vec::new() });
    rig.finish(&jobs[2], TransformOutcome::Untouched { state: Vec::new() });
    assert_eq!(answer(&mut rig, other), (ErrorCode::None, 0));
    // What was on its way already does not slip in.
    let gap = rig.send_batch("t", 0, sent(2, &["d"]));
    assert_eq!(answer(&mut rig, gap).0, ErrorCode::OutOfOrderSequenceNumber);
    let again = rig.send_batch("t", 0, sent(0, &["a"]));
    let job = rig.jobs.pop_front().expect("a job");
    rig.finish(&job, TransformOutcome::Untouched { state: Vec::new() });
    assert_eq!(answer(&mut rig, again), (ErrorCode::None, 1));
}

#[test]
fn a_rejected_batch_after_accepted_ones_leaves_those_as_they_are() {
    let mut rig = rig();
    let first = rig.send_batch("t", 0, sent(0, &["a"]));
    let second = rig.send_batch("t", 0, sent(1, &["b"]));
    let jobs: Vec<_> = rig.jobs.drain(..).collect();
    rig.finish(&jobs[1], reject());
    rig.finish(&jobs[0], TransformOutcome::Untouched { state: Vec::new() });
    assert_eq!(answer(&mut rig, first), (ErrorCode::None, 0));
    assert_eq!(answer(&mut rig, second).0, ErrorCode::InvalidRecord);
    let duplicate = rig.send_batch("t", 0, sent(0, &["a"]));
    assert_eq!(answer(&mut rig, duplicate), (ErrorCode::None, 0));
    let again = rig.send_batch("t", 0, sent(1, &["b"]));
    assert!(!rig.is_answered(again), "it has its turn again");
}

#[test]
fn deleting_a_topic_refuses_what_is_under_way() {
    let mut rig = rig();
    let id = rig.send_batch("t", 0, sent(0, &["a"]));
    let job = rig.jobs.pop_front().expect("a job");
    let request =
        DeleteTopicsRequest { topic_names: vec!["t".to_owned()], ..DeleteTopicsRequest::default() };
    rig.call(Request::DeleteTopics(request), 3);
    assert_eq!(answer(&mut rig, id).0, ErrorCode::UnknownTopicOrPartition);
    rig.finish(&job, TransformOutcome::Untouched { state: Vec::new() });
    assert_eq!(rig.engine.transforming_len(), 0);
}

#[test]
fn deployments_survive_a_restart_and_are_replaced_by_name() {
    let mut rig = rig();
    rig.deploy("filter", "t");
    rig.deploy("second", "t");
    let rig = rig.reborn(Some(rig.engine.snapshot()));
    let names: Vec<(u64, String)> =
        rig.engine.transforms().into_iter().map(|d| (d.id.0, d.spec.name)).collect();
    assert_eq!(names, [(2, "filter".to_owned()), (3, "second".to_owned())]);
    let mut rig = rig.reborn(None);
    let unknown = AdminRequest::DeleteTransform { name: "third".to_owned() };
    assert_eq!(rig.admin(unknown), Err(AdminError::UnknownTransform("third".to_owned())));
    rig.admin(AdminRequest::DeleteTransform { name: "filter".to_owned() }).expect("deleted");
    rig.admin(AdminRequest::DeleteTransform { name: "second".to_owned() }).expect("deleted");
    assert_eq!(rig.produce("t", 0, &["a"]).error_code, 0);
}
