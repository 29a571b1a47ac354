//! Topics that declare a window of loss: what is answered early, how soon it is wanted on flash,
//! what is exposed meanwhile, and how producers go on after a loss.

use super::rig::{Producer, Rig, batch, parsed, values_of};
use crate::transform::{Output, OutputTopic, TransformOutcome};
use crate::{EntrySeq, Event, SpaceReport, SyncBy, Unsynced};
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;

/// Topic `t` with a window, topic `safe` without, a device that is told when to sync.
fn rig(configs: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::new();
    rig.create_topic_with("t", 1, configs);
    rig.create_topic("safe", 1);
    rig.is_instant = false;
    rig.syncs.clear();
    rig
}

fn sent(sequence: i32, values: &[&str]) -> Bytes {
    batch(values, Some(Producer { id: 7, epoch: 0, sequence }))
}

fn error_of(rig: &mut Rig, bytes: Bytes) -> ErrorCode {
    let id = rig.send_batch("t", 0, bytes);
    ErrorCode::from_code(rig.produced(id).error_code).expect("a known code")
}

#[test]
fn a_topic_with_a_window_is_answered_at_once_and_read_when_it_is_durable() {
    let mut rig = rig(&[("flush.ms", "500")]);
    let id = rig.send_batch("t", 0, batch(&["a"], None));
    assert_eq!(rig.produced(id).base_offset, 0);
    assert_eq!(rig.syncs, [SyncBy::AtMs(rig.now.mono_ms + 500)]);
    assert!(values_of(&rig.fetch("t", 0, 0)).is_empty());
    rig.sync();
    assert_eq!(rig.read("t", 0, 0), [(0, "a".to_owned())]);
}

#[test]
fn the_defaults_and_a_window_of_nothing_sync_before_each_answer() {
    let longest = i64::MAX.to_string();
    for configs in
        [&[][..], &[("flush.ms", "0")], &[("flush.ms", &longest), ("flush.bytes", &longest)]]
    {
        let mut rig = rig(configs);
        let id = rig.send_batch("t", 0, batch(&["a"], None));
        assert!(!rig.is_answered(id), "{configs:?}");
        assert_eq!(rig.syncs, [SyncBy::Now], "{configs:?}");
    }
}

#[test]
fn the_batch_that_fills_the_window_waits_for_its_sync_and_asks_for_it_now() {
    let size = batch(&["a"], None).len() as u64;
    let bytes = (size * 3).to_string();
    for config in [("flush.messages", "3"), ("flush.bytes", &bytes)] {
        let mut rig = rig(&[config]);
        for _ in 0..2 {
            assert_eq!(error_of(&mut rig, batch(&["a"], None)), ErrorCode::None);
        }
        let full = rig.send_batch("t", 0, batch(&["a"], None));
        assert!(!rig.is_answered(full), "{config:?}");
        // Without a time of its own the window ends after a second.
        let at = SyncBy::AtMs(rig.now.mono_ms + 1_000);
        assert_eq!(rig.syncs, [at, at, SyncBy::Now]);
        rig.sync();
        assert_eq!(rig.produced(full).base_offset, 2);
        assert_eq!(error_of(&mut rig, batch(&["a"], None)), ErrorCode::None);
    }
}

#[test]
fn a_device_that_does_not_keep_up_makes_answers_wait() {
    let mut rig = rig(&[("flush.ms", "100")]);
    assert_eq!(error_of(&mut rig, batch(&["a"], None)), ErrorCode::None);
    rig.pass_ms(300);
    assert_eq!(error_of(&mut rig, batch(&["b"], None)), ErrorCode::None);
    rig.pass_ms(100);
    let late = rig.send_batch("t", 0, batch(&["c"], None));
    assert!(!rig.is_answered(late));
    rig.sync();
    assert!(rig.is_answered(late));
}

#[test]
fn an_entry_that_a_topic_without_a_window_shares_is_wanted_at_once() {
    let mut rig = rig(&[("flush.ms", "500")]);
    let both = |topic: &str| millpond_wire::messages::produce_request::TopicProduceData {
        name: topic.to_owned(),
        partition_data: vec![millpond_wire::messages::produce_request::PartitionProduceData {
            index: 0,
            records: Some(batch(&["a"], None)),
        }],
        ..Default::default()
    };
    let request = millpond_wire::messages::ProduceRequest {
        acks: -1,
        topic_data: vec![both("t"), both("safe")],
        ..Default::default()
    };
    let id = rig.send(millpond_wire::messages::Request::Produce(request), 9);
    assert_eq!(rig.syncs, [SyncBy::Now]);
    assert!(!rig.is_answered(id), "one answer for both");
    rig.sync();
    assert!(rig.is_answered(id));
}

#[test]
fn what_a_transform_sends_to_a_topic_without_a_window_is_durable_before_the_answer() {
    let mut rig = rig(&[("flush.ms", "500")]);
    rig.is_instant = true;
    rig.deploy("route", "t");
    rig.is_instant = false;
    rig.syncs.clear();
    let id = rig.send_batch("t", 0, sent(0, &["a"]));
    let job = rig.jobs.pop_front().expect("a job");
    let routed = Output { topic: OutputTopic::Named("safe".to_owned()), batch: parsed(&["a"]) };
    rig.finish(&job, TransformOutcome::Changed { outputs: vec![routed], state: Vec::new() });
    assert_eq!(rig.syncs, [SyncBy::Now]);
    let duplicate = rig.send_batch("t", 0, sent(0, &["a"]));
    assert!(!rig.is_answered(id) && !rig.is_answered(duplicate));
    rig.sync();
    assert!(rig.is_answered(id) && rig.is_answered(duplicate));
    // What it leaves where it was is answered within the window.
    let id = rig.send_batch("t", 0, sent(1, &["b"]));
    let job = rig.jobs.pop_front().expect("a job");
    rig.finish(&job, TransformOutcome::Untouched { state: Vec::new() });
    assert!(rig.is_answered(id));
}

#[test]
fn a_duplicate_within_the_window_gets_its_answer_at_once() {
    let mut rig = rig(&[("flush.ms", "500")]);
    assert_eq!(error_of(&mut rig, sent(0, &["a"])), ErrorCode::None);
    let id = rig.send_batch("t", 0, sent(0, &["a"]));
    assert_eq!(rig.produced(id).base_offset, 0);
    assert_eq!(rig.engine.counters().duplicates, 1);
}

#[test]
fn what_is_exposed_is_counted_until_it_is_durable() {
    let mut rig = rig(&[("flush.ms", "500")]);
    let size = batch(&["a", "b"], None).len() as u64;
    let topic = rig.key("t", 0).topic_id;
    assert_eq!(rig.engine.unsynced(rig.now.mono_ms), Unsynced::default());
    rig.send_batch("t", 0, batch(&["a", "b"], None));
    rig.pass_ms(40);
    rig.send_batch("t", 0, batch(&["a", "b"], None));
    rig.send_batch("safe", 0, batch(&["a", "b"], None));
    let exposed = Unsynced { records: 4, bytes: 2 * size, oldest_age_ms: 40 };
    assert_eq!(rig.engine.unsynced(rig.now.mono_ms), exposed);
    assert_eq!(rig.engine.unsynced_of(topic, rig.now.mono_ms), exposed);
    let safe = rig.key("safe", 0).topic_id;
    assert_eq!(rig.engine.unsynced_of(safe, rig.now.mono_ms), Unsynced::default());
    rig.sync();
    assert_eq!(rig.engine.unsynced(rig.now.mono_ms), Unsynced::default());
    assert_eq!(rig.engine.unsynced_of(topic, rig.now.mono_ms), Unsynced::default());
}

/// The node after a power cut that took the last `lost` entries.
fn after_loss(rig: &mut Rig, lost: usize) -> Rig {
    let kept = rig.entries.len() - lost;
    rig.entries.truncate(kept);
    rig.appended = EntrySeq(kept as u64);
    rig.reborn(None)
}

#[test]
fn a_producer_whose_last_batches_were_lost_goes_on_and_the_gap_is_counted() {
    let mut rig = rig(&[("flush.ms", "500")]);
    for sequence in 0..6 {
        assert_eq!(error_of(&mut rig, sent(sequence, &["x"])), ErrorCode::None);
    }
    let mut rig = after_loss(&mut rig, 3);
    let id = rig.send_batch("t", 0, sent(6, &["y"]));
    assert_eq!((rig.produced(id)).base_offset, 3);
    assert_eq!(rig.engine.counters().sequence_gaps_after_loss, 1);
    assert_eq!(error_of(&mut rig, sent(7, &["y"])), ErrorCode::None);
    // It is known now: a further gap is its own.
    assert_eq!(error_of(&mut rig, sent(9, &["y"])), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(rig.engine.counters().sequence_gaps_after_loss, 1);
}

#[test]
fn what_lies_in_the_gap_is_never_called_a_duplicate() {
    let mut rig = rig(&[("flush.ms", "500")]);
    for sequence in 0..6 {
        error_of(&mut rig, sent(sequence, &["x"]));
    }
    let mut rig = after_loss(&mut rig, 3);
    assert_eq!(error_of(&mut rig, sent(6, &["y"])), ErrorCode::None);
    for sequence in 3..6 {
        let code = error_of(&mut rig, sent(sequence, &["x"]));
        assert_eq!(code, ErrorCode::OutOfOrderSequenceNumber, "sequence {sequence}");
    }
    // What was kept is one.
    let id = rig.send_batch("t", 0, sent(2, &["x"]));
    assert_eq!(rig.produced(id).base_offset, 2);
    assert_eq!(rig.read("t", 0, 0).len(), 4);
}

#[test]
fn a_gap_is_not_taken_without_a_window() {
    let mut rig = rig(&[]);
    rig.is_instant = true;
    for sequence in 0..3 {
        assert_eq!(error_of(&mut rig, sent(sequence, &["x"])), ErrorCode::None);
    }
    let mut rig = after_loss(&mut rig, 0);
    assert_eq!(error_of(&mut rig, sent(4, &["x"])), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(error_of(&mut rig, sent(3, &["x"])), ErrorCode::None);
    assert_eq!(rig.engine.counters().sequence_gaps_after_loss, 0);
}

#[test]
fn a_new_epoch_whose_first_batches_were_lost_goes_on_as_well() {
    let mut rig = rig(&[("flush.ms", "500")]);
    let of = |epoch: i16, sequence: i32| batch(&["x"], Some(Producer { id: 7, epoch, sequence }));
    error_of(&mut rig, of(0, 0));
    error_of(&mut rig, of(1, 0));
    let mut rig = after_loss(&mut rig, 1);
    assert_eq!(error_of(&mut rig, of(1, 1)), ErrorCode::None);
    assert_eq!(error_of(&mut rig, of(0, 1)), ErrorCode::InvalidProducerEpoch);
}

#[test]
fn what_was_sent_behind_a_refused_batch_does_not_leave_the_gap_in_its_place() {
    let mut rig = rig(&[("flush.ms", "500")]);
    for sequence in 0..6 {
        error_of(&mut rig, sent(sequence, &["x"]));
    }
    let mut rig = after_loss(&mut rig, 3);
    let refusing = SpaceReport { is_refusing: true, ..SpaceReport::default() };
    rig.handle(Event::Space(refusing));
    assert_eq!(error_of(&mut rig, sent(6, &["y"])), ErrorCode::KafkaStorageError);
    rig.handle(Event::Space(SpaceReport { is_refusing: false, budget_bytes: 1 << 30, ..refusing }));
    assert_eq!(error_of(&mut rig, sent(7, &["y"])), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(error_of(&mut rig, sent(6, &["y"])), ErrorCode::None);
    assert_eq!(error_of(&mut rig, sent(7, &["y"])), ErrorCode::None);
}
