//! The byte budget: who is dropped from, who is refused, in which order, and that it ends by itself.

use super::rig::{Producer, Rig, batch, batch_at};
use crate::{Event, SpaceReport, StoredPartition, StoredSegment};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millpond_wire::messages::{CreateTopicsRequest, Request, Response};

const STORAGE_ERROR: i16 = ErrorCode::KafkaStorageError as i16;

/// 100 bytes fixed, the soft mark at 910, the hard one at 1,000.
fn report(used_bytes: u64) -> SpaceReport {
    SpaceReport {
        used_bytes,
        fixed_bytes: 100,
        budget_bytes: 1_200,
        reserve_bytes: 200,
        free_bytes: 10_000,
        ..SpaceReport::default()
    }
}

fn topic(rig: &mut Rig, name: &str, priority: u8, on_full: &str) {
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![
            config("millpond.priority", &priority.to_string()),
            config("millpond.on.full", on_full),
        ],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    match rig.call(Request::CreateTopics(request), 7) {
        Response::CreateTopics(response) => assert_eq!(response.topics[0].error_code, 0),
        other => panic!("{other:?}"),
    }
}

/// Three records, each in a segment of 50 bytes, of these times.
fn store(rig: &mut Rig, name: &str, times: [i64; 3]) {
    let mut segments = Vec::new();
    for (base, time) in (0..).zip(times) {
        let id = rig.send_batch(name, 0, batch_at(time, &["v"], None));
        assert_eq!(rig.produced(id).error_code, 0);
        let segment = StoredSegment {
            base_offset: base,
            end_offset: base + 1,
            bytes: 50,
            max_timestamp: time,
        };
        segments.push(segment);
    }
    let partition = rig.key(name, 0);
    rig.handle(Event::Stored(vec![StoredPartition { partition, segments }]));
}

fn start(rig: &Rig, name: &str) -> i64 {
    rig.engine.catalog().partition(rig.key(name, 0)).expect("a partition").log_start()
}

fn code(rig: &mut Rig, name: &str) -> i16 {
    rig.produce(name, 0, &["v"]).error_code
}

#[test]
fn the_oldest_segments_of_the_least_important_topics_go_first_and_only_of_those_that_allow_it() {
    let mut rig = Rig::new();
    topic(&mut rig, "bulk", 10, "drop-oldest");
    topic(&mut rig, "more-bulk", 10, "drop-oldest");
    topic(&mut rig, "events", 90, "drop-oldest");
    topic(&mut rig, "orders", 0, "reject");
    let wall_ms = rig.now.wall_ms;
    for (name, age_ms) in [("bulk", 500), ("more-bulk", 400), ("events", 900), ("orders", 999)] {
        store(&mut rig, name, [wall_ms - age_ms, wall_ms - age_ms + 200, wall_ms]);
    }
    rig.handle(Event::Space(report(1_000)));
    assert_eq!((start(&rig, "bulk"), start(&rig, "more-bulk")), (1, 1), "90 bytes over");
    assert_eq!(rig.engine.let_go_bytes(), 100);
    rig.handle(Event::Space(report(1_000)));
    assert_eq!(rig.engine.let_go_bytes(), 100, "what is on its way out is not counted again");
    let gone = SpaceReport { reclaimed_bytes: 100, ..report(1_200) };
    rig.handle(Event::Space(gone));
    assert_eq!((start(&rig, "bulk"), start(&rig, "more-bulk")), (3, 3));
    assert_eq!(start(&rig, "events"), 2, "then the more important one");
    assert_eq!(start(&rig, "orders"), 0);
    let dropped = rig.engine.catalog().by_name("events").expect("it").dropped();
    assert_eq!((dropped.space_records, dropped.space_bytes), (2, 100));
    assert!(rig.reclaims >= 2);
    assert_eq!(start(&rig.reborn(None), "events"), 2);
}

#[test]
fn when_nothing_may_go_the_least_important_are_refused_first_and_all_at_the_hard_mark() {
    let mut rig = Rig::new();
    topic(&mut rig, "low", 0, "reject");
    topic(&mut rig, "middle", 50, "reject");
    topic(&mut rig, "high", 100, "reject");
    topic(&mut rig, "ring", 0, "drop-oldest");
    let names = ["low", "middle", "high", "ring"];
    let codes = |rig: &mut Rig, used: u64| {
        names.map(|name| {
            rig.handle(Event::Space(report(used)));
            code(rig, name)
        })
    };
    let no = STORAGE_ERROR;
    assert_eq!(codes(&mut rig, 900), [0, 0, 0, 0]);
    assert_eq!(codes(&mut rig, 920), [no, 0, 0, 0]);
    assert_eq!(codes(&mut rig, 960), [no, no, 0, 0]);
    assert_eq!(codes(&mut rig, 1_000), [no, no, no, no]);
    let refused = rig.produce("high", 0, &["v"]).error_message.expect("a message");
    assert!(refused.contains("1000 of 1200 bytes") && refused.contains("retention"), "{refused}");
    assert_eq!(rig.engine.space().refused_batches, 8);
    assert_eq!(rig.read("high", 0, 0).len(), 3, "reads go on");
    assert_eq!(codes(&mut rig, 500), [0, 0, 0, 0], "it ends when space comes back");
}

#[test]
fn what_is_appended_between_two_reports_counts() {
    let mut rig = Rig::new();
    topic(&mut rig, "t", 100, "reject");
    rig.handle(Event::Space(report(999)));
    assert_eq!(code(&mut rig, "t"), 0);
    assert_eq!(code(&mut rig, "t"), STORAGE_ERROR);
}

#[test]
fn a_disk_that_refuses_refuses_everybody_but_duplicates_get_their_answer() {
    let mut rig = Rig::new();
    topic(&mut rig, "t", 100, "drop-oldest");
    let producer = Producer { id: 7, epoch: 0, sequence: 0 };
    let id = rig.send_batch("t", 0, batch(&["v"], Some(producer)));
    assert_eq!(rig.produced(id).base_offset, 0);
    rig.handle(Event::Space(SpaceReport { is_refusing: true, ..report(500) }));
    assert_eq!(code(&mut rig, "t"), STORAGE_ERROR);
    let id = rig.send_batch("t", 0, batch(&["v"], Some(producer)));
    let again = rig.produced(id);
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    rig.handle(Event::Space(report(500)));
    assert_eq!(code(&mut rig, "t"), 0);
}

#[test]
fn a_refused_producer_goes_on_where_it_was_refused_and_loses_nothing() {
    let mut rig = Rig::new();
    topic(&mut rig, "t", 0, "reject");
    let send = |rig: &mut Rig, sequence| {
        let producer = Producer { id: 9, epoch: 0, sequence };
        let id = rig.send_batch("t", 0, batch(&["v"], Some(producer)));
        rig.produced(id).error_code
    };
    rig.handle(Event::Space(report(1_000)));
    assert_eq!(send(&mut rig, 0), STORAGE_ERROR);
    rig.handle(Event::Space(report(500)));
    let early = ErrorCode::OutOfOrderSequenceNumber.code();
    assert_eq!(send(&mut rig, 1), early, "it was sent behind the refused one");
    assert_eq!(send(&mut rig, 0), 0);
    assert_eq!(send(&mut rig, 1), 0);
    assert_eq!(rig.read("t", 0, 0).len(), 2);
}

#[test]
fn whoever_waits_for_a_journal_without_room_is_told_to_try_again() {
    let mut rig = Rig::new();
    topic(&mut rig, "t", 50, "reject");
    rig.is_instant = false;
    let producer = Producer { id: 7, epoch: 0, sequence: 0 };
    let id = rig.send_batch("t", 0, batch(&["v"], Some(producer)));
    assert!(!rig.is_answered(id));
    let stuck = SpaceReport { is_refusing: true, is_stuck: true, ..report(500) };
    rig.handle(Event::Space(stuck));
    assert_eq!(rig.produced(id).error_code, STORAGE_ERROR);
    rig.handle(Event::Space(report(500)));
    rig.sync();
    let id = rig.send_batch("t", 0, batch(&["v"], Some(producer)));
    assert_eq!(rig.produced(id).base_offset, 0, "the retry is recognised");
    assert_eq!(rig.read("t", 0, 0).len(), 1);
}

#[test]
fn the_time_until_it_is_full_follows_from_the_last_hour() {
    let mut rig = Rig::new();
    rig.handle(Event::Space(report(500)));
    assert_eq!(rig.engine.space().full_in_ms, None);
    rig.pass_ms(600_000);
    rig.handle(Event::Space(report(600)));
    assert_eq!(rig.engine.space().full_in_ms, Some(2_400_000));
    rig.pass_ms(600_000);
    rig.handle(Event::Space(report(400)));
    assert_eq!(rig.engine.space().full_in_ms, None, "it is not getting fuller");
}
