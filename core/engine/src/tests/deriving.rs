//! Derived transforms: where they begin and stand, what they are given, and that a result is committed
//! with the cursor or not at all.

use super::rig::{Rig, batch, batch_at, parsed};
use super::txn_rig::Client;
use crate::transform::{
    AdminError, AdminRequest, DeriveStart, Mode, Output, OutputTopic, TransformJob,
    TransformOutcome, TransformSpec,
};
use crate::{DeriveView, Fact};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::murmur2::partition_for_key;
use millpond_wire::record::{BatchBuilder, Codec};

fn spec(name: &str, topic: &str, output: &str, start: DeriveStart) -> TransformSpec {
    TransformSpec {
        name: name.to_owned(),
        topics: vec![topic.to_owned()],
        outputs: vec![output.to_owned()],
        mode: Mode::Derive(start),
        ..TransformSpec::default()
    }
}

fn deploy(rig: &mut Rig, spec: TransformSpec) {
    rig.admin(AdminRequest::DeployTransform(spec)).expect("deployed");
}

fn untouched() -> TransformOutcome {
    TransformOutcome::Untouched { state: Vec::new() }
}

fn job(rig: &mut Rig) -> TransformJob {
    rig.pass_ms(5);
    rig.jobs.pop_front().expect("a job")
}

fn values(job: &TransformJob) -> Vec<String> {
    let batch = job.batch.as_ref().expect("a batch");
    let section = batch.decompress(1 << 20).expect("records");
    let records = batch.records(&section).map(|record| record.expect("a record"));
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    records.map(|record| text(record.value.unwrap_or_default())).collect()
}

/// Gives every job back as it came, until there are none.
fn drain(rig: &mut Rig) -> Vec<String> {
    let mut all = Vec::new();
    rig.pass_ms(5);
    while let Some(job) = rig.jobs.pop_front() {
        all.extend(values(&job));
        rig.finish(&job, untouched());
        rig.pass_ms(5);
    }
    all
}

fn read(rig: &mut Rig, topic: &str, partition: i32) -> Vec<String> {
    rig.read(topic, partition, 0).into_iter().map(|(_, value)| value).collect()
}

fn view(rig: &Rig) -> DeriveView {
    rig.engine.derives().into_iter().next().expect("a lane")
}

#[test]
fn each_start_begins_where_it_says_and_a_restart_goes_on_where_it_was() {
    for (start, expected) in [
        (DeriveStart::Earliest, &["a", "b", "c", "d"][..]),
        (DeriveStart::Latest, &["d"][..]),
        (DeriveStart::TimestampMs(2_001), &["c", "d"][..]),
        (DeriveStart::TimestampMs(9_999), &["d"][..]),
    ] {
        let mut rig = Rig::new();
        rig.create_topic("t", 1);
        for (at_ms, values) in [(1_000, &["a"][..]), (2_000, &["b", "c"][..])] {
            let id = rig.send_batch("t", 0, batch_at(at_ms, values, None));
            assert_eq!(rig.produced(id).error_code, 0);
        }
        deploy(&mut rig, spec("copy", "t", "out", start));
        rig.pass_ms(5);
        rig.jobs.clear();
        // What was under way when the node ended was not committed.
        let mut rig = rig.reborn(None);
        rig.produce("t", 0, &["d"]);
        assert_eq!(drain(&mut rig), expected, "{start:?}");
        assert_eq!(read(&mut rig, "out", 0), expected, "{start:?}");
        let snapshot = rig.engine.snapshot();
        let mut rig = rig.reborn(Some(snapshot));
        rig.produce("t", 0, &["e"]);
        assert_eq!(drain(&mut rig), ["e"]);
        assert_eq!((view(&rig).next_offset, view(&rig).lag), (5, 0));
    }
}

#[test]
fn partitions_and_topics_that_come_later_are_read_whole() {
    let mut rig = Rig::new();
    deploy(&mut rig, spec("copy", "t", "out", DeriveStart::Latest));
    rig.create_topic("t", 2);
    rig.produce("t", 1, &["a"]);
    assert_eq!(drain(&mut rig), ["a"]);
    assert_eq!(
        read(&mut rig, "out", 1),
        ["a"],
        "as many partitions as the source, and the same one"
    );
}

#[test]
fn outputs_and_cursor_stand_in_one_entry() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    deploy(&mut rig, spec("split", "t", "out", DeriveStart::Earliest));
    rig.produce("t", 0, &["a", "b"]);
    let job = job(&mut rig);
    assert!(job.is_derived);
    let before = rig.entries.len();
    let other = Output { topic: OutputTopic::Named("more".to_owned()), batch: parsed(&["B"]) };
    let outputs = vec![Output { topic: OutputTopic::Same, batch: parsed(&["A"]) }, other];
    rig.finish(&job, TransformOutcome::Changed { outputs, state: Vec::new() });
    assert_eq!(rig.entries.len(), before + 1);
    let bytes = rig.entries[before].clone();
    let entry = crate::Entry::decode(crate::EntrySeq(before as u64 + 1), bytes).expect("an entry");
    let moved = |fact: &Fact| matches!(fact, Fact::CursorMoved { cursor, .. } if cursor.next == 2);
    assert!(entry.facts.iter().any(moved));
    assert_eq!(read(&mut rig, "out", 0), ["A"]);
    assert_eq!(read(&mut rig, "more", 0), ["B"]);
}

#[test]
fn only_what_is_committed_is_read_and_markers_are_passed_over() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    deploy(&mut rig, spec("copy", "t", "out", DeriveStart::Earliest));
    let mut client = Client::start(&mut rig, "tx", true);
    let mut expected = Vec::new();
    for (value, is_commit) in [("a", true), ("b", false), ("c", false), ("d", true)] {
        let id = client.send(&mut rig, "t", 0, &[value]);
        assert_eq!(rig.produced(id).error_code, 0);
        rig.produce("t", 0, &[&format!("beside {value}")]);
        assert_eq!(drain(&mut rig), [""; 0], "the transaction is open");
        assert_eq!(client.end(&mut rig, is_commit), 0);
        if is_commit {
            expected.push(value.to_owned());
        }
        expected.push(format!("beside {value}"));
        drain(&mut rig);
        assert_eq!(read(&mut rig, "out", 0), expected);
    }
    assert_eq!(view(&rig).lag, 0);
}

#[test]
fn what_is_not_durable_is_not_read() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    deploy(&mut rig, spec("copy", "t", "out", DeriveStart::Earliest));
    rig.is_instant = false;
    rig.send_batch("t", 0, batch(&["a"], None));
    rig.pass_ms(100);
    assert!(rig.jobs.is_empty());
    rig.sync();
    assert_eq!(values(&job(&mut rig)), ["a"]);
}

#[test]
fn a_refused_result_is_tried_again_ever_later_and_nothing_is_passed_over() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    deploy(&mut rig, spec("copy", "t", "out", DeriveStart::Earliest));
    rig.produce("t", 0, &["a"]);
    let mut waits = Vec::new();
    for _ in 0..5 {
        let job = rig.jobs.pop_front().expect("a job");
        let code = ErrorCode::InvalidRecord;
        rig.finish(&job, TransformOutcome::Rejected { code, message: "not a reading".to_owned() });
        let begun = rig.now.mono_ms;
        assert!(view(&rig).pause_ms.is_some_and(|ms| ms >= 100));
        while rig.jobs.is_empty() {
            rig.pass_ms(10);
        }
        waits.push(rig.now.mono_ms - begun);
    }
    assert_eq!(waits, [100, 200, 400, 800, 1_600]);
    assert_eq!(view(&rig).failures, 5);
    assert_eq!(view(&rig).fault.as_deref(), Some("not a reading"));
    assert_eq!((view(&rig).pause_ms, view(&rig).is_running), (None, true), "it tries again");
    rig.produce("t", 0, &["b"]);
    assert_eq!(drain(&mut rig), ["a", "b"]);
    assert_eq!((view(&rig).failures, view(&rig).fault), (0, None));
    // A route to an impossible topic is no result either.
    rig.produce("t", 0, &["c"]);
    let job = job(&mut rig);
    let bad = Output { topic: OutputTopic::Named("no/where".to_owned()), batch: parsed(&["c"]) };
    rig.finish(&job, TransformOutcome::Changed { outputs: vec![bad], state: Vec::new() });
    rig.pass_ms(150);
    let again = rig.jobs.pop_front().expect("again");
    assert_eq!((values(&again), again.state_epoch), (vec!["c".to_owned()], job.state_epoch + 1));
}

#[test]
fn a_new_version_goes_on_at_the_cursor_a_pause_stops_and_a_deletion_forgets() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    deploy(&mut rig, spec("copy", "t", "out", DeriveStart::Earliest));
    rig.produce("t", 0, &["a"]);
    assert_eq!(drain(&mut rig), ["a"]);
    deploy(&mut rig, spec("copy", "t", "out", DeriveStart::Earliest));
    rig.produce("t", 0, &["b"]);
    assert_eq!(drain(&mut rig), ["b"]);
    let pause = |paused| AdminRequest::PauseTransform { name: "copy".to_owned(), paused };
    rig.admin(pause(true)).expect("paused");
    rig.produce("t", 0, &["c"]);
    assert_eq!(drain(&mut rig), [""; 0]);
    assert_eq!(view(&rig).lag, 1);
    rig.admin(pause(false)).expect("resumed");
    assert_eq!(drain(&mut rig), ["c"]);
    rig.produce("t", 0, &["d"]);
    let late = job(&mut rig);
    rig.admin(AdminRequest::DeleteTransform { name: "copy".to_owned() }).expect("deleted");
    rig.finish(&late, untouched());
    assert_eq!(read(&mut rig, "out", 0), ["a", "b", "c"], "its result came too late");
    assert!(rig.engine.derives().is_empty() && rig.engine.transforming_len() == 0);
    deploy(&mut rig, spec("copy", "t", "again", DeriveStart::Earliest));
    assert_eq!(drain(&mut rig), ["a", "b", "c", "d"]);
}

#[test]
fn a_canary_derives_on_its_share_and_a_version_that_comes_back_forgets() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let copy = || spec("copy", "t", "out", DeriveStart::Earliest);
    deploy(&mut rig, copy());
    rig.produce("t", 0, &["a"]);
    let first = job(&mut rig);
    rig.finish(&first, untouched());
    let canary = TransformSpec { outputs: vec!["tried".to_owned()], ..copy() };
    let request = AdminRequest::CanaryTransform { spec: canary, share_percent: 50 };
    rig.admin(request).expect("tried");
    rig.produce("t", 0, &["b"]);
    rig.produce("t", 1, &["c"]);
    assert_eq!(drain(&mut rig).len(), 2);
    assert_eq!(read(&mut rig, "tried", 0), ["b"]);
    assert_eq!(read(&mut rig, "out", 1), ["c"]);
    let back = AdminRequest::RollBackTransform { name: "copy".to_owned(), of: None };
    rig.admin(back).expect("back");
    rig.produce("t", 0, &["d"]);
    let again = job(&mut rig);
    assert_eq!((again.chain.clone(), values(&again)), (first.chain.clone(), vec!["d".to_owned()]));
    assert!(again.state_epoch > first.state_epoch, "the other version may have changed the state");
    // A canary may lead nowhere that its transform may not.
    rig.finish(&again, untouched());
    let around = TransformSpec { outputs: vec!["t".to_owned()], ..copy() };
    let request = AdminRequest::CanaryTransform { spec: around, share_percent: 50 };
    assert!(matches!(rig.admin(request), Err(AdminError::InvalidSpec(_))));
}

#[test]
fn records_that_are_gone_before_their_turn_are_counted() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    deploy(&mut rig, spec("copy", "t", "out", DeriveStart::Earliest));
    let pause = |paused| AdminRequest::PauseTransform { name: "copy".to_owned(), paused };
    rig.admin(pause(true)).expect("paused");
    rig.produce("t", 0, &["a", "b", "c"]);
    rig.delete_records("t", 0, 2);
    rig.admin(pause(false)).expect("resumed");
    assert_eq!(drain(&mut rig), ["c"], "the log begins within the batch");
    assert_eq!(rig.engine.counters().derive_records_gone, 2);
    assert_eq!(view(&rig).next_offset, 3);
}

#[test]
fn records_that_would_go_round_are_refused_at_deployment() {
    let mut rig = Rig::new();
    let refused =
        |rig: &mut Rig, spec: TransformSpec| match rig.admin(AdminRequest::DeployTransform(spec)) {
            Err(AdminError::InvalidSpec(message)) => message,
            other => panic!("{other:?}"),
        };
    let latest = DeriveStart::Latest;
    assert!(refused(&mut rig, spec("a", "t", "t", latest)).contains("go round"));
    deploy(&mut rig, spec("a", "t", "u", latest));
    deploy(&mut rig, spec("b", "u", "v", latest));
    assert!(refused(&mut rig, spec("c", "v", "t", latest)).contains("go round"));
    assert!(refused(&mut rig, spec("c", "u.dead-letter", "u", latest)).contains("go round"));
    assert!(refused(&mut rig, spec("c", "v", "__millpond_state-x", latest)).contains("internal"));
    let none = TransformSpec { outputs: Vec::new(), ..spec("c", "v", "w", latest) };
    assert!(refused(&mut rig, none).contains("output"));
    let inline = TransformSpec { mode: Mode::Inline, ..spec("a", "t", "u", latest) };
    assert!(refused(&mut rig, inline).contains("keeps its mode"));
    deploy(&mut rig, spec("c", "v", "w", latest));
    // Another version may lead elsewhere.
    deploy(&mut rig, spec("a", "t", "w", latest));
}

#[test]
fn a_backlog_takes_its_turns_and_no_more() {
    let mut rig = Rig::new();
    rig.create_topic("t", 100);
    for partition in 0..100 {
        rig.produce("t", partition, &["a"]);
    }
    deploy(&mut rig, spec("copy", "t", "out", DeriveStart::Earliest));
    // One event deployed it, another one said that this is durable.
    assert!(rig.jobs.len() <= 2 * millpond_wire::limits::DERIVE_STARTS_PER_EVENT);
    rig.pass_ms(1_000);
    assert_eq!(rig.jobs.len(), millpond_wire::limits::DERIVE_JOBS_MAX);
    assert_eq!(drain(&mut rig).len(), 100);
}

#[test]
fn records_routed_by_key_go_where_a_producer_would_send_them() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    rig.create_topic("out", 5);
    let by_key = spec("keyed", "t", "out", DeriveStart::Earliest);
    deploy(&mut rig, TransformSpec { route_by_key: true, ..by_key });
    let mut builder = BatchBuilder::new(Codec::None, None);
    let mut expected = vec![Vec::new(); 5];
    for index in 0..40 {
        let (key, value) = (format!("device-{}", index % 11), format!("{index}"));
        builder.push(1, Some(key.as_bytes()), Some(value.as_bytes()), &[]).expect("small");
        expected[partition_for_key(key.as_bytes(), 5) as usize].push(value);
    }
    builder.push(1, None, Some(b"no key"), &[]).expect("small");
    expected[1].push("no key".to_owned());
    let id = rig.send_batch("t", 1, builder.build().expect("small"));
    assert_eq!(rig.produced(id).error_code, 0);
    let entries = rig.entries.len();
    assert_eq!(drain(&mut rig).len(), 41);
    assert_eq!(rig.entries.len(), entries + 1, "one entry holds them all");
    for (partition, expected) in expected.iter().enumerate() {
        assert_eq!(read(&mut rig, "out", partition as i32), *expected);
    }
}
