//! The state of transforms: journalled with the output that it belongs to, read back to its end, gone
//! with what it belongs to, and nobody else's to write.

use super::rig::{Producer, Rig, batch, parsed, values_of};
use super::txn_rig::Client;
use crate::transform::{
    AdminRequest, IDLE_TIMEOUT_MS, Mode, Output, OutputTopic, StateBatch, TransformJob,
    TransformOutcome, TransformSpec,
};
use crate::{Entry, EntrySeq, Event, Fact, read_state, state_batches, state_topic};
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::{DeleteTopicsRequest, MetadataRequest, Request, Response};
use std::collections::BTreeMap;

fn stateful(name: &str, topic: &str) -> TransformSpec {
    TransformSpec {
        name: name.to_owned(),
        topics: vec![topic.to_owned()],
        keeps_state: true,
        ..TransformSpec::default()
    }
}

fn rig_with(spec: TransformSpec) -> Rig {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    rig.admin(AdminRequest::DeployTransform(spec)).expect("deployed");
    rig
}

fn rig() -> Rig {
    rig_with(stateful("sum", "t"))
}

fn put(job: &TransformJob, key: &str, value: &str) -> Vec<StateBatch> {
    let change = (key.as_bytes(), Some(value.as_bytes()));
    state_batches(job.chain[0], [change], 7).expect("small")
}

fn untouched(state: Vec<StateBatch>) -> TransformOutcome {
    TransformOutcome::Untouched { state }
}

fn next_job(rig: &mut Rig) -> TransformJob {
    rig.jobs.pop_front().expect("a job")
}

/// What a worker that has a job finds, page by page.
fn state_of(rig: &mut Rig, job: &TransformJob) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    let mut from = 0;
    loop {
        rig.handle(Event::ReadState { ticket: job.ticket, transform: job.chain[0], from });
        let page = rig.pages.pop().expect("in memory").expect("a page");
        read_state(&page.records, &mut state).expect("our own");
        from = page.next;
        if page.is_end {
            break;
        }
    }
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    state.iter().map(|(key, value)| (text(key), text(value))).collect()
}

fn changelog(rig: &Rig) -> Option<String> {
    let name = state_topic("sum", rig.key("t", 0).topic_id);
    rig.engine.catalog().by_name(&name).map(|topic| topic.name.clone())
}

#[test]
fn state_and_output_stand_in_one_entry_and_a_new_worker_finds_all_of_it() {
    let mut rig = rig();
    let id = rig.send_batch("t", 1, batch(&["a"], None));
    let job = next_job(&mut rig);
    assert!(state_of(&mut rig, &job).is_empty());
    let before = rig.entries.len();
    rig.finish(&job, untouched(put(&job, "k", "1")));
    assert_eq!(rig.produced(id).base_offset, 0);
    assert_eq!(rig.entries.len(), before + 1);
    let bytes = rig.entries[before].clone();
    let entry = Entry::decode(EntrySeq(before as u64 + 1), bytes).expect("an entry");
    let appended = |fact: &&Fact| matches!(fact, Fact::Appended { .. });
    assert_eq!(entry.facts.iter().filter(appended).count(), 2);
    let mut rig = rig.reborn(None);
    rig.send_batch("t", 1, batch(&["b"], None));
    let job = next_job(&mut rig);
    assert_eq!(state_of(&mut rig, &job), BTreeMap::from([("k".to_owned(), "1".to_owned())]));
    let name = changelog(&rig).expect("made");
    assert_eq!(rig.engine.catalog().by_name(&name).expect("made").partitions.len(), 2);
}

#[test]
fn what_is_not_durable_yet_is_read_too() {
    let mut rig = rig();
    rig.is_instant = false;
    rig.send_batch("t", 0, batch(&["a"], None));
    let job = next_job(&mut rig);
    rig.finish(&job, untouched(put(&job, "k", "1")));
    rig.send_batch("t", 0, batch(&["b"], None));
    let job = next_job(&mut rig);
    assert_eq!(state_of(&mut rig, &job).len(), 1);
}

#[test]
fn batches_of_a_chain_with_state_run_one_by_one() {
    let mut rig = rig();
    let ids: Vec<_> =
        ["a", "b", "c"].iter().map(|value| rig.send_batch("t", 0, batch(&[value], None))).collect();
    let elsewhere = rig.send_batch("t", 1, batch(&["x"], None));
    assert_eq!(rig.jobs.len(), 2, "one of each partition");
    let first = next_job(&mut rig);
    let other = next_job(&mut rig);
    rig.finish(&other, untouched(Vec::new()));
    assert_eq!(rig.produced(elsewhere).base_offset, 0);
    rig.finish(&first, untouched(put(&first, "k", "1")));
    let second = next_job(&mut rig);
    assert_eq!((second.input_count, rig.jobs.len()), (1, 0));
    // Without the transform, what waited for it goes through.
    let pause = AdminRequest::PauseTransform { name: "sum".to_owned(), paused: true };
    rig.admin(pause).expect("paused");
    rig.finish(&second, untouched(Vec::new()));
    assert!(rig.jobs.is_empty());
    for (offset, id) in ids.into_iter().enumerate() {
        assert_eq!(rig.produced(id).base_offset, offset as i64);
    }
}

#[test]
fn a_result_that_was_not_committed_makes_the_worker_forget() {
    let mut rig = rig();
    let bad = rig.send_batch("t", 0, batch(&["a"], None));
    rig.send_batch("t", 0, batch(&["b"], None));
    let job = next_job(&mut rig);
    assert_eq!(job.state_epoch, 0);
    let topic = OutputTopic::Named("no/where".to_owned());
    let outputs = vec![Output { topic, batch: parsed(&["a"]) }];
    let state = put(&job, "k", "1");
    rig.finish(&job, TransformOutcome::Changed { outputs, state });
    assert_eq!(rig.produced(bad).error_code, ErrorCode::InvalidTopicException.code());
    assert!(changelog(&rig).is_none(), "all or nothing");
    let job = next_job(&mut rig);
    assert_eq!(job.state_epoch, 1);
    assert!(state_of(&mut rig, &job).is_empty());
}

#[test]
fn a_duplicate_of_a_batch_that_left_only_state_never_runs() {
    let mut rig = rig();
    let sent = || batch(&["a"], Some(Producer { id: 7, epoch: 0, sequence: 0 }));
    let id = rig.send_batch("t", 0, sent());
    let job = next_job(&mut rig);
    let state = put(&job, "k", "1");
    rig.finish(&job, TransformOutcome::Changed { outputs: Vec::new(), state });
    assert_eq!(rig.produced(id).base_offset, -1);
    let mut rig = rig.reborn(None);
    let again = rig.send_batch("t", 0, sent());
    assert!(rig.jobs.is_empty());
    assert_eq!(rig.produced(again).base_offset, -1);
}

#[test]
fn a_batch_in_a_transaction_is_refused_where_state_is_kept() {
    let mut rig = rig();
    let mut client = Client::start(&mut rig, "tx", true);
    let id = client.send(&mut rig, "t", 0, &["a"]);
    let answer = rig.produced(id);
    assert_eq!(answer.error_code, ErrorCode::InvalidTxnState.code());
    assert!(answer.error_message.expect("why").contains("mode derive"));
    assert!(rig.jobs.is_empty());
}

#[test]
fn state_of_a_module_that_did_not_say_so_is_refused() {
    let mut rig = rig_with(TransformSpec { keeps_state: false, ..stateful("sum", "t") });
    let id = rig.send_batch("t", 0, batch(&["a"], None));
    let job = next_job(&mut rig);
    rig.finish(&job, untouched(put(&job, "k", "1")));
    assert_eq!(rig.produced(id).error_code, ErrorCode::UnknownServerError.code());
}

#[test]
fn clients_may_read_a_changelog_and_nothing_else() {
    let mut rig = rig();
    rig.send_batch("t", 0, batch(&["a"], None));
    let job = next_job(&mut rig);
    rig.finish(&job, untouched(put(&job, "k", "1")));
    let name = changelog(&rig).expect("made");
    assert_eq!(values_of(&rig.fetch(&name, 0, 0)), [(0, "1".to_owned())]);
    let refused = rig.produce(&name, 0, &["x"]).error_code;
    assert_eq!(refused, ErrorCode::InvalidTopicException.code());
    let client = Client::start(&mut rig, "tx", false);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(client.add(&mut rig, &name, 0), unknown, "nor a marker");
    let request =
        DeleteTopicsRequest { topic_names: vec![name.clone()], ..DeleteTopicsRequest::default() };
    match rig.call(Request::DeleteTopics(request), 5) {
        Response::DeleteTopics(answer) => {
            assert_eq!(answer.responses[0].error_code, ErrorCode::InvalidTopicException.code());
        }
        other => panic!("{other:?}"),
    }
    match rig.call(Request::Metadata(MetadataRequest { topics: None, ..Default::default() }), 9) {
        Response::Metadata(answer) => {
            let internal = |name: &str| {
                let topic = answer.topics.iter().find(|topic| topic.name.as_deref() == Some(name));
                topic.expect("shown").is_internal
            };
            assert!(internal(&name) && !internal("t"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn state_goes_with_its_transform_or_its_source_and_is_not_brought_back() {
    let mut rig = rig();
    rig.send_batch("t", 0, batch(&["a"], None));
    let job = next_job(&mut rig);
    rig.finish(&job, untouched(put(&job, "k", "1")));
    let late = rig.send_batch("t", 0, batch(&["b"], None));
    let job = next_job(&mut rig);
    rig.admin(AdminRequest::DeleteTransform { name: "sum".to_owned() }).expect("deleted");
    assert!(changelog(&rig).is_none());
    rig.admin(AdminRequest::DeployTransform(stateful("sum", "t"))).expect("deployed");
    rig.finish(&job, untouched(put(&job, "k", "2")));
    assert_eq!(rig.produced(late).error_code, 0);
    assert!(changelog(&rig).is_none(), "the state of an earlier life");
    rig.send_batch("t", 0, batch(&["c"], None));
    let job = next_job(&mut rig);
    rig.finish(&job, untouched(put(&job, "k", "3")));
    assert!(changelog(&rig).is_some());
    let topics = rig.engine.catalog().len();
    rig.delete_topic("t");
    assert_eq!(rig.engine.catalog().len(), topics - 2);
}

#[test]
fn time_passes_for_a_silent_partition_with_state_at_a_bounded_rate() {
    for mode in [Mode::Inline, Mode::Derive(crate::transform::DeriveStart::Earliest)] {
        let mut spec = TransformSpec { mode, ..stateful("sum", "t") };
        spec.outputs = vec!["out".to_owned()];
        spec.limits.insert(IDLE_TIMEOUT_MS.to_owned(), 500);
        let mut rig = rig_with(spec);
        rig.pass_ms(5_000);
        assert!(rig.jobs.is_empty(), "no state, no time: {mode:?}");
        rig.send_batch("t", 0, batch(&["a"], None));
        let job = next_job(&mut rig);
        let begun = rig.now.mono_ms;
        rig.finish(&job, untouched(put(&job, "k", "1")));
        rig.pass_ms(490);
        assert!(rig.jobs.is_empty());
        rig.pass_ms(20);
        let tick = next_job(&mut rig);
        assert!(tick.batch.is_none());
        assert!(tick.idle_ms.is_some_and(|ms| (500..=510).contains(&ms)), "{:?}", tick.idle_ms);
        let topic = OutputTopic::Named("out".to_owned());
        let outputs = vec![Output { topic, batch: parsed(&["mean"]) }];
        rig.finish(&tick, TransformOutcome::Changed { outputs, state: put(&tick, "k", "2") });
        let out = rig.read("out", 0, 0);
        assert_eq!(out.last().map(|(_, value)| value.as_str()), Some("mean"));
        rig.pass_ms(10_000);
        assert_eq!(rig.jobs.len(), 1, "one at a time");
        let tick = next_job(&mut rig);
        rig.finish(&tick, untouched(Vec::new()));
        let mut ticks = 0;
        for _ in 0..100 {
            rig.pass_ms(100);
            if let Some(tick) = rig.jobs.pop_front() {
                ticks += 1;
                let since_ms = rig.now.mono_ms - begun;
                assert!(tick.idle_ms.is_some_and(|ms| ms <= since_ms && ms + 200 > since_ms));
                rig.finish(&tick, untouched(Vec::new()));
            }
        }
        assert!((9..=11).contains(&ticks), "{ticks} in ten seconds: {mode:?}");
    }
}

#[test]
fn a_batch_that_comes_while_time_passes_waits_for_that_result() {
    let mut spec = stateful("sum", "t");
    spec.limits.insert(IDLE_TIMEOUT_MS.to_owned(), 500);
    let mut rig = rig_with(spec);
    rig.send_batch("t", 0, batch(&["a"], None));
    let job = next_job(&mut rig);
    rig.finish(&job, untouched(put(&job, "k", "1")));
    rig.pass_ms(600);
    let tick = next_job(&mut rig);
    let id = rig.send_batch("t", 0, batch(&["b"], None));
    assert!(rig.jobs.is_empty());
    rig.finish(&tick, untouched(put(&tick, "k", "2")));
    let job = next_job(&mut rig);
    assert_eq!(state_of(&mut rig, &job), BTreeMap::from([("k".to_owned(), "2".to_owned())]));
    rig.finish(&job, untouched(Vec::new()));
    assert_eq!(rig.produced(id).base_offset, 1);
}

#[test]
fn timers_that_had_no_room_have_a_job_each_time_until_none_is_left_or_it_never_ends() {
    for mode in [Mode::Inline, Mode::Derive(crate::transform::DeriveStart::Earliest)] {
        let mut spec = TransformSpec { mode, ..stateful("sum", "t") };
        spec.outputs = vec!["out".to_owned()];
        let mut rig = rig_with(spec);
        let max = millpond_wire::limits::TRANSFORM_TIMER_JOBS_MAX;
        // Jobs that leave some; what follows at once.
        for (leaving, follow) in [(3, 3), (max + 5, max)] {
            rig.send_batch("t", 0, batch(&["a"], None));
            let mut job = next_job(&mut rig);
            assert!(job.batch.is_some());
            for index in 0..=follow {
                if index < leaving {
                    rig.handle(Event::TimersLeft { ticket: job.ticket });
                }
                let before = rig.entries.len();
                rig.finish(&job, untouched(put(&job, "k", &index.to_string())));
                assert_eq!(rig.entries.len(), before + 1, "an entry for each");
                rig.pass_ms(5);
                let Some(next) = rig.jobs.pop_front() else {
                    assert_eq!(index, follow, "{mode:?}");
                    break;
                };
                assert!(next.batch.is_none() && next.idle_ms == Some(0), "{next:?}");
                job = next;
            }
            assert!(rig.jobs.is_empty());
        }
    }
}

#[test]
fn a_worker_is_told_the_time_unless_the_clock_was_never_set() {
    for mode in [Mode::Inline, Mode::Derive(crate::transform::DeriveStart::Earliest)] {
        let mut spec = TransformSpec { mode, ..stateful("sum", "t") };
        spec.outputs = vec!["out".to_owned()];
        let mut rig = rig_with(spec);
        for (wall_ms, is_set) in [(86_400_000, false), (1_790_000_000_000, true)] {
            rig.now.wall_ms = wall_ms;
            rig.send_batch("t", 0, batch(&["a"], None));
            let job = next_job(&mut rig);
            assert_eq!(job.now_ms.is_some(), is_set, "{mode:?}");
            assert!(job.now_ms.is_none_or(|now_ms| now_ms >= wall_ms));
            rig.finish(&job, untouched(Vec::new()));
        }
    }
}
