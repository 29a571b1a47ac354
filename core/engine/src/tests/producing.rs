//! Produce: durability before the answer, validation, idempotence.

use super::rig::{Producer, Rig, batch, batch_at, produce_request, values_of};
use crate::EngineConfig;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::Response;
use millpond_wire::record::{BatchBuilder, Codec};

fn from(id: i64, epoch: i16, sequence: i32) -> Option<Producer> {
    Some(Producer { id, epoch, sequence })
}

#[test]
fn a_produce_is_answered_and_readable_only_when_it_is_durable() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.is_instant = false;
    let first = rig.send_batch("t", 0, batch(&["a", "b"], None));
    let second = rig.send_batch("t", 0, batch(&["c"], None));
    assert!(!rig.is_answered(first) && !rig.is_answered(second));
    assert!(values_of(&rig.fetch("t", 0, 0)).is_empty());
    let entry = crate::EntrySeq(rig.appended.0 - 1);
    rig.handle(crate::Event::Durable(entry));
    assert_eq!(rig.produced(first).base_offset, 0);
    assert!(!rig.is_answered(second));
    assert_eq!(values_of(&rig.fetch("t", 0, 0)).len(), 2);
    rig.sync();
    assert_eq!(rig.produced(second).base_offset, 2);
}

#[test]
fn acks_zero_gets_no_response_and_is_stored() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let id = rig.send(produce_request("t", 0, batch(&["a"], None), 0), 9);
    assert_eq!(rig.replies.remove(&id), Some(None));
    assert_eq!(rig.read("t", 0, 0), vec![(0, "a".to_owned())]);
}

#[test]
fn what_cannot_be_stored_is_refused_with_the_code_that_says_why() {
    let mut rig =
        Rig::with_config(EngineConfig { message_max_bytes: 200, ..EngineConfig::default() });
    rig.create_topic("t", 1);
    let big = "x".repeat(300);
    let mut torn = batch(&["a"], None).to_vec();
    *torn.last_mut().expect("bytes") ^= 1;
    let mut two = batch(&["a"], None).to_vec();
    two.extend_from_slice(&batch(&["b"], None));
    let control = {
        let mut builder = BatchBuilder::new(Codec::None, None).with_control(true);
        builder.push(1, Some(&[0, 0, 0, 0]), Some(&[]), &[]).expect("a record");
        builder.build().expect("a batch")
    };
    let transactional = {
        let mut builder = BatchBuilder::new(Codec::None, None);
        builder.set_producer(1, 0, 0);
        let mut builder = builder.with_transactional(true);
        builder.push(1, None, Some(b"a"), &[]).expect("a record");
        builder.build().expect("a batch")
    };
    let cases = [
        (batch(&[&big], None), ErrorCode::MessageTooLarge),
        (torn.into(), ErrorCode::CorruptMessage),
        (two.into(), ErrorCode::InvalidRecord),
        (bytes::Bytes::new(), ErrorCode::InvalidRecord),
        (control, ErrorCode::InvalidRecord),
        (transactional, ErrorCode::TransactionalIdAuthorizationFailed),
    ];
    for (bytes, code) in cases {
        let id = rig.send_batch("t", 0, bytes);
        assert_eq!(rig.produced(id).error_code, code.code(), "{code:?}");
    }
    assert_eq!(rig.produce("nowhere", 0, &["a"]).error_code, 3);
    assert_eq!(rig.produce("t", 7, &["a"]).error_code, 3);
    let id = rig.send(produce_request("t", 0, batch(&["a"], None), 2), 9);
    assert_eq!(rig.produced(id).error_code, ErrorCode::InvalidRequiredAcks.code());
    assert_eq!(rig.engine.catalog().by_name("t").expect("t").partitions[0].log_end(), 0);
}

#[test]
fn zstd_is_refused_before_produce_version_7() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let mut builder = BatchBuilder::new(Codec::Zstd, None);
    builder.push(1, None, Some(&[b'a'; 500]), &[]).expect("a record");
    let bytes = builder.build().expect("a batch");
    let old = rig.send(produce_request("t", 0, bytes.clone(), -1), 6);
    assert_eq!(rig.produced(old).error_code, ErrorCode::UnsupportedCompressionType.code());
    let new = rig.send(produce_request("t", 0, bytes, -1), 7);
    assert_eq!(rig.produced(new).error_code, 0);
}

#[test]
fn a_full_memory_makes_produces_wait_in_order_until_a_flush_makes_room() {
    let mut rig = Rig::with_config(EngineConfig {
        tail_max_bytes: 150,
        tail_retain_bytes: 150,
        ..EngineConfig::default()
    });
    rig.create_topic("t", 1);
    for sequence in 0..2 {
        let id = rig.send_batch("t", 0, batch(&["0123456789"], from(7, 0, sequence)));
        assert_eq!(rig.produced(id).base_offset, i64::from(sequence));
    }
    let waiting: Vec<_> = (2..5)
        .map(|sequence| rig.send_batch("t", 0, batch(&["0123456789"], from(7, 0, sequence))))
        .collect();
    assert_eq!(rig.engine.parked_len(), 3);
    assert!(waiting.iter().all(|id| !rig.is_answered(*id)));
    let partition = rig.key("t", 0);
    rig.handle(crate::Event::Flushed(vec![crate::FlushedRange { partition, upto: 2 }]));
    assert_eq!(rig.produced(waiting[0]).base_offset, 2);
    rig.handle(crate::Event::Flushed(vec![crate::FlushedRange { partition, upto: 4 }]));
    assert_eq!(rig.produced(waiting[1]).base_offset, 3);
    assert_eq!(rig.produced(waiting[2]).base_offset, 4);
    assert_eq!(rig.engine.parked_len(), 0);
}

#[test]
fn log_append_time_is_the_clock_of_the_node() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let id = rig.engine.catalog().by_name("t").expect("t").id;
    let configs = [("message.timestamp.type".to_owned(), "LogAppendTime".to_owned())];
    rig.engine.commit(crate::Fact::TopicConfigured { id, configs: configs.into() });
    let produced = rig.produce("t", 0, &["a"]);
    assert_eq!(produced.log_append_time_ms, rig.now.wall_ms);
    let data = rig.fetch("t", 0, 0);
    let bytes = data.records.expect("records").to_bytes();
    let batch = millpond_wire::record::Batch::parse(bytes).expect("a valid checksum");
    assert_eq!(batch.header().max_timestamp, rig.now.wall_ms);
    // A duplicate is told when the first one was appended, after a restart too.
    let sent = batch_at(1_000, &["b"], Some(Producer { id: 4, epoch: 0, sequence: 0 }));
    let id = rig.send_batch("t", 0, sent.clone());
    let first = rig.produced(id);
    assert_eq!(first.log_append_time_ms, rig.now.wall_ms);
    rig.pass_ms(5_000);
    for mut rig in [rig.reborn(None), rig.reborn(Some(rig.engine.snapshot()))] {
        let id = rig.send_batch("t", 0, sent.clone());
        assert_eq!(rig.produced(id), first);
    }
    let id = rig.send_batch("t", 0, sent);
    assert_eq!(rig.produced(id), first);
}

#[test]
fn a_duplicate_gets_the_same_answer_and_is_stored_once() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["before"]);
    for sequence in 0..5 {
        let id = rig.send_batch("t", 0, batch(&["x"], from(7, 0, sequence)));
        assert_eq!(rig.produced(id).base_offset, 1 + i64::from(sequence));
    }
    for sequence in 0..5 {
        let id = rig.send_batch("t", 0, batch(&["x"], from(7, 0, sequence)));
        let again = rig.produced(id);
        assert_eq!((again.error_code, again.base_offset), (0, 1 + i64::from(sequence)));
    }
    assert_eq!(rig.read("t", 0, 0).len(), 6);
    assert_eq!(rig.engine.counters().duplicates, 5);
}

#[test]
fn a_duplicate_of_what_is_not_durable_yet_waits_for_it() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.is_instant = false;
    let original = rig.send_batch("t", 0, batch(&["x"], from(7, 0, 0)));
    let duplicate = rig.send_batch("t", 0, batch(&["x"], from(7, 0, 0)));
    assert!(!rig.is_answered(original) && !rig.is_answered(duplicate));
    rig.sync();
    assert_eq!(rig.produced(original), rig.produced(duplicate));
}

#[test]
fn beyond_the_window_a_duplicate_is_told_so_and_a_gap_is_out_of_order() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    for sequence in 0..6 {
        let id = rig.send_batch("t", 0, batch(&["x"], from(7, 0, sequence)));
        assert_eq!(rig.produced(id).error_code, 0);
    }
    let cases = [
        (0, ErrorCode::DuplicateSequenceNumber),
        (7, ErrorCode::OutOfOrderSequenceNumber),
        (6, ErrorCode::None),
    ];
    for (sequence, code) in cases {
        let id = rig.send_batch("t", 0, batch(&["x"], from(7, 0, sequence)));
        assert_eq!(rig.produced(id).error_code, code.code(), "sequence {sequence}");
    }
}

#[test]
fn sequences_wrap_after_the_greatest_int() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let last = i32::MAX;
    let id = rig.send_batch("t", 0, batch(&["a", "b"], from(7, 0, last - 3)));
    assert_eq!(rig.produced(id).error_code, 0);
    // The second of these wraps within the batch: MAX - 1, MAX, 0.
    let wrapping = batch(&["c", "d", "e"], from(7, 0, last - 1));
    let id = rig.send_batch("t", 0, wrapping.clone());
    assert_eq!(rig.produced(id).base_offset, 2);
    let id = rig.send_batch("t", 0, wrapping);
    assert_eq!(rig.produced(id).base_offset, 2);
    let id = rig.send_batch("t", 0, batch(&["f"], from(7, 0, 1)));
    assert_eq!(rig.produced(id).base_offset, 5);
    let id = rig.send_batch("t", 0, batch(&["g"], from(7, 0, 3)));
    assert_eq!(rig.produced(id).error_code, ErrorCode::OutOfOrderSequenceNumber.code());
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let id = rig.send_batch("t", 0, batch(&["a"], from(7, 0, 0)));
    assert_eq!(rig.produced(id).error_code, 0);
    let cases = [
        (1, 5, ErrorCode::OutOfOrderSequenceNumber),
        (1, 0, ErrorCode::None),
        (0, 1, ErrorCode::InvalidProducerEpoch),
        (1, 1, ErrorCode::None),
    ];
    for (epoch, sequence, code) in cases {
        let id = rig.send_batch("t", 0, batch(&["x"], from(7, epoch, sequence)));
        assert_eq!(rig.produced(id).error_code, code.code(), "{epoch} {sequence}");
    }
}

#[test]
fn partitions_of_one_request_are_one_entry_and_one_answer() {
    let mut rig = Rig::new();
    rig.create_topic("t", 3);
    let entries = rig.entries.len();
    let mut request = produce_request("t", 0, batch(&["a"], None), -1);
    if let millpond_wire::messages::Request::Produce(request) = &mut request {
        for index in [1, 9, 2] {
            let mut part = request.topic_data[0].partition_data[0].clone();
            part.index = index;
            request.topic_data[0].partition_data.push(part);
        }
    }
    match rig.call(request, 9) {
        Response::Produce(response) => {
            let codes: Vec<(i32, i16)> = response.responses[0]
                .partition_responses
                .iter()
                .map(|part| (part.index, part.error_code))
                .collect();
            assert_eq!(codes, [(0, 0), (1, 0), (9, 3), (2, 0)]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.entries.len(), entries + 1);
}

#[test]
fn timestamps_are_found_in_memory() {
    use millpond_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use millpond_wire::messages::{ListOffsetsRequest, Request};
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    for first_ms in [100, 500, 300] {
        let id = rig.send_batch("t", 0, batch_at(first_ms, &["a", "b", "c"], None));
        assert_eq!(rig.produced(id).error_code, 0);
    }
    let cases = [
        (-2, (0, -1)),
        (-1, (9, -1)),
        (-3, (5, 502)),
        (101, (1, 101)),
        (103, (3, 500)),
        (501, (4, 501)),
        (503, (-1, -1)),
    ];
    for (timestamp, expected) in cases {
        let part =
            ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
        let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![part] };
        let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
        match rig.call(Request::ListOffsets(request), 7) {
            Response::ListOffsets(response) => {
                let part = &response.topics[0].partitions[0];
                assert_eq!((part.offset, part.timestamp), expected, "timestamp {timestamp}");
            }
            other => panic!("{other:?}"),
        }
    }
}

fn keyed(codec: Codec, keys: &[Option<&str>]) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(codec, None);
    for key in keys {
        builder.push(1, key.map(str::as_bytes), Some(b"v"), &[]).expect("a record");
    }
    builder.build().expect("a batch")
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() {
    let mut rig = Rig::new();
    rig.create_topic("plain", 1);
    rig.create_topic_with("kept", 3, &[("cleanup.policy", "compact,delete")]);
    for codec in [Codec::None, Codec::Zstd] {
        let batch = keyed(codec, &[Some("a"), None]);
        let id = rig.send_batch("plain", 0, batch.clone());
        assert_eq!(rig.produced(id).error_code, 0);
        let id = rig.send_batch("kept", 2, batch);
        let refused = rig.produced(id);
        assert_eq!(refused.error_code, ErrorCode::InvalidRecord.code());
        let message = "Compacted topic cannot accept message without key in topic partition kept-2";
        assert_eq!(refused.error_message.as_deref(), Some(message));
        let id = rig.send_batch("kept", 2, keyed(codec, &[Some("a"), Some("")]));
        assert_eq!(rig.produced(id).error_code, 0);
    }
    assert_eq!(rig.read("kept", 2, 0).len(), 4);
}
