//! Fetch: long polls, limits, history.

use super::rig::{Rig, batch, fetch_request, fetched, values_of};
use crate::units::SessionId;
use crate::{EngineConfig, Event, FlushedRange, HistorySlice, ReadFault};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::{FetchRequest, Request, Response};

#[test]
fn a_fetch_at_the_end_waits_and_is_woken_by_the_first_durable_record() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let fetch = rig.send_fetch("t", 0, 0);
    assert!(!rig.is_answered(fetch));
    rig.is_instant = false;
    rig.send_batch("t", 0, batch(&["a"], None));
    assert!(!rig.is_answered(fetch), "not durable yet");
    rig.sync();
    let data = fetched(rig.take(fetch));
    assert_eq!(values_of(&data), [(0, "a".to_owned())]);
    assert_eq!(data.high_watermark, 1);
    assert_eq!(rig.engine.waiters_len(), 0);
    assert_eq!(rig.engine.next_deadline_ms(), None);
}

#[test]
fn a_fetch_that_nothing_comes_for_is_answered_empty_when_its_time_is_over() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let fetch = rig.send_fetch("t", 0, 0);
    rig.pass_ms(499);
    assert!(!rig.is_answered(fetch));
    rig.pass_ms(1);
    assert!(values_of(&fetched(rig.take(fetch))).is_empty());
}

#[test]
fn a_fetch_waits_for_its_minimum_of_bytes() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let size = batch(&["0123456789"], None).len();
    let fetch = rig.send(fetch_request("t", 0, 0, 500, size as i32 + 1), 12);
    rig.produce("t", 0, &["0123456789"]);
    assert!(!rig.is_answered(fetch));
    rig.produce("t", 0, &["0123456789"]);
    assert_eq!(values_of(&fetched(rig.take(fetch))).len(), 2);
}

#[test]
fn the_first_batch_is_given_even_if_it_is_larger_than_the_limit_and_no_second_one_is() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["0123456789"]);
    rig.produce("t", 0, &["0123456789"]);
    let mut request = fetch_request("t", 0, 0, 500, 1);
    if let Request::Fetch(request) = &mut request {
        request.max_bytes = 1;
        request.topics[0].partitions[0].partition_max_bytes = 1;
    }
    let response = rig.call(request, 12);
    assert_eq!(values_of(&fetched(response)).len(), 1);
}

#[test]
fn a_fetch_into_the_middle_of_a_batch_gets_the_whole_batch() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["a", "b", "c"]);
    assert_eq!(values_of(&rig.fetch("t", 0, 1)).len(), 3);
    assert_eq!(rig.read("t", 0, 2), [(2, "c".to_owned())]);
}

#[test]
fn offsets_outside_the_log_and_wrong_epochs_are_errors_at_once() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["a"]);
    let code = |rig: &mut Rig, request| fetched(rig.call(request, 12)).error_code;
    for offset in [-1, 2] {
        let request = fetch_request("t", 0, offset, 500, 1);
        assert_eq!(code(&mut rig, request), ErrorCode::OffsetOutOfRange.code());
    }
    for (epoch, expected) in [
        (0, ErrorCode::FencedLeaderEpoch),
        (1, ErrorCode::None),
        (2, ErrorCode::UnknownLeaderEpoch),
    ] {
        let mut request = fetch_request("t", 0, 0, 500, 1);
        if let Request::Fetch(request) = &mut request {
            request.topics[0].partitions[0].current_leader_epoch = epoch;
        }
        assert_eq!(code(&mut rig, request), expected.code());
    }
    let request = fetch_request("nowhere", 0, 0, 500, 1);
    assert_eq!(code(&mut rig, request), ErrorCode::UnknownTopicOrPartition.code());
}

#[test]
fn a_closed_session_takes_its_waiting_fetches_with_it() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let request = fetch_request("t", 0, 0, 500, 1);
    let id = rig.send_from(SessionId(5), "gone", request, 12);
    rig.handle(Event::SessionClosed(SessionId(5)));
    assert_eq!(rig.engine.waiters_len(), 0);
    rig.produce("t", 0, &["a"]);
    assert!(!rig.is_answered(id));
}

#[test]
fn what_left_memory_is_read_from_segments() {
    let config = EngineConfig { tail_retain_bytes: 0, ..EngineConfig::default() };
    let mut rig = Rig::with_config(config);
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["a", "b"]);
    rig.produce("t", 0, &["c"]);
    let partition = rig.key("t", 0);
    let kept: Vec<_> = rig.engine.unflushed(rig.appended).collect();
    assert_eq!(kept[0].1.len(), 2);
    rig.handle(Event::Flushed(vec![FlushedRange { partition, upto: 2 }]));
    assert_eq!(rig.engine.unflushed(rig.appended).map(|(_, b)| b.len()).sum::<usize>(), 1);
    let fetch = rig.send_fetch("t", 0, 1);
    let job = rig.reads.pop_front().expect("a read");
    assert_eq!((job.reads[0].offset, job.reads[0].upto), (1, 2));
    let records = kept[0].1[0].chunks().to_vec();
    let slice = HistorySlice { records };
    rig.handle(Event::HistoryRead { id: job.id, result: vec![Ok(slice)] });
    assert_eq!(values_of(&fetched(rig.take(fetch))).len(), 2);
    assert_eq!(rig.read("t", 0, 2), [(2, "c".to_owned())]);
}

#[test]
fn a_segment_that_cannot_be_read_is_a_storage_error_of_that_fetch_only() {
    let config = EngineConfig { tail_retain_bytes: 0, ..EngineConfig::default() };
    let mut rig = Rig::with_config(config);
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["a"]);
    let partition = rig.key("t", 0);
    rig.handle(Event::Flushed(vec![FlushedRange { partition, upto: 1 }]));
    let fetch = rig.send_fetch("t", 0, 0);
    let job = rig.reads.pop_front().expect("a read");
    let fault = ReadFault::Damaged("bad checksum".to_owned());
    rig.handle(Event::HistoryRead { id: job.id, result: vec![Err(fault)] });
    let data = fetched(rig.take(fetch));
    assert_eq!(data.error_code, ErrorCode::KafkaStorageError.code());
    assert_eq!(rig.produce("t", 0, &["b"]).base_offset, 1);
}

#[test]
fn one_bad_segment_of_several_takes_nothing_from_the_other_partitions() {
    let config = EngineConfig { tail_retain_bytes: 0, ..EngineConfig::default() };
    let mut rig = Rig::with_config(config);
    rig.create_topic("t", 3);
    for partition in 0..3 {
        rig.produce("t", partition, &["a"]);
    }
    let kept: Vec<_> = rig.engine.unflushed(rig.appended).map(|(_, kept)| kept.to_vec()).collect();
    let range = |partition| FlushedRange { partition: rig.key("t", partition), upto: 1 };
    let ranges = (0..3).map(range).collect();
    rig.handle(Event::Flushed(ranges));
    let part = |partition| FetchPartition {
        partition,
        partition_max_bytes: 1_000,
        current_leader_epoch: -1,
        ..FetchPartition::default()
    };
    let partitions = (0..3).map(part).collect();
    let topic = FetchTopic { topic: "t".to_owned(), partitions, ..FetchTopic::default() };
    let request = FetchRequest { max_bytes: 10_000, topics: vec![topic], ..Default::default() };
    let fetch = rig.send(Request::Fetch(request), 12);
    let job = rig.reads.pop_front().expect("a read");
    assert_eq!(job.reads.len(), 3);
    let slice = |index: usize| Ok(HistorySlice { records: kept[index][0].chunks().to_vec() });
    let fault = Err(ReadFault::Io("EIO".to_owned()));
    rig.handle(Event::HistoryRead { id: job.id, result: vec![slice(0), fault, slice(2)] });
    let Response::Fetch(mut response) = rig.take(fetch) else { panic!("no fetch response") };
    let found = response.responses.remove(0).partitions;
    let codes: Vec<_> = found.iter().map(|data| data.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::KafkaStorageError.code(), 0]);
    assert_eq!((values_of(&found[0]).len(), values_of(&found[2]).len()), (1, 1));
}

#[test]
fn a_deleted_topic_ends_the_fetches_that_wait_for_it() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let fetch = rig.send_fetch("t", 0, 0);
    let request = millpond_wire::messages::DeleteTopicsRequest {
        topic_names: vec!["t".to_owned()],
        ..Default::default()
    };
    rig.call(Request::DeleteTopics(request), 3);
    let data = fetched(rig.take(fetch));
    assert_eq!(data.error_code, ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(rig.dropped.len(), 2);
    assert_eq!(rig.engine.tail_bytes(), 0);
}
