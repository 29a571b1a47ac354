//! One story of one node each.

use std::rc::Rc;

use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::delete_topics_request::DeleteTopicState;
use millpond_wire::messages::{DeleteTopicsRequest, Request, Response};

use super::rig::Machine;
use crate::checkpoint::LoadCheckpointError;
use crate::disk::sim::SimFault;
use crate::{FatalDiskError, OpenError, WriteCause};

fn value(index: usize, len: usize) -> String {
    format!("{index:0>len$}")
}

fn delete_topic(name: &str) -> Request {
    Request::DeleteTopics(DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(name.to_owned()), ..Default::default() }],
        topic_names: vec![name.to_owned()],
        ..DeleteTopicsRequest::default()
    })
}

#[test]
fn an_acknowledged_record_is_there_after_a_power_cut() {
    let machine = Machine::new(1);
    let node = machine.start();
    node.create_topic("t", 2);
    assert_eq!(node.produce("t", 1, "hello"), 0);
    assert_eq!(node.produce("t", 1, "again"), 1);
    machine.power_cut(node);
    let node = machine.start();
    let values = node.read("t", 1);
    assert_eq!(values.into_values().collect::<Vec<_>>(), ["hello", "again"]);
    assert_eq!(node.engine.metrics().recovery.entries, 3);
}

#[test]
fn nothing_is_answered_before_the_journal_has_it() {
    let machine = Machine::new(2);
    let node = machine.start();
    node.create_topic("t", 1);
    machine.disk.set_extra_sync_ns(5_000_000_000);
    let id = node.send_value("t", 0, "slow");
    machine.run_for_ms(4_900);
    assert!(node.produced(id).is_none());
    machine.run_for_ms(1_000);
    assert_eq!(node.produced(id).expect("answered").error_code, 0);
}

#[test]
fn history_is_read_from_segments_when_memory_has_let_it_go() {
    let mut machine = Machine::new(3);
    machine.storage.packs = false;
    let node = machine.start();
    node.create_topic("t", 3);
    for index in 0..1_500 {
        node.produce("t", (index % 3) as i32, &value(index, 300));
    }
    machine.run_for_ms(1_000);
    let metrics = node.engine.metrics();
    assert!(metrics.checkpoints > 1, "{}", metrics.checkpoints);
    assert!(metrics.journal_used_bytes < metrics.journal_size_bytes / 2);
    for partition in 0..3 {
        let values = node.read("t", partition);
        assert_eq!(values.len(), 500);
        for (offset, text) in values {
            assert_eq!(text, value(offset as usize * 3 + partition as usize, 300));
        }
    }
    let metrics = node.engine.metrics();
    assert!(metrics.history_batches > 500, "{}", metrics.history_batches);
    assert_eq!(metrics.history_faults, 0);
    // Several segments each, and all of it there after a power cut.
    let segments = machine.disk.files().iter().filter(|path| path.ends_with(".seg")).count();
    assert!(segments > 6, "{segments}");
    machine.power_cut(node);
    let node = machine.start();
    for partition in 0..3 {
        assert_eq!(node.read("t", partition).len(), 500);
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    let machine = Machine::new(4);
    let node = machine.start();
    node.create_topic("t", 1);
    for index in 0..20 {
        node.produce("t", 0, &value(index, 100));
    }
    machine.stop(node);
    let node = machine.start();
    assert_eq!(node.engine.metrics().recovery.entries, 0);
    assert_eq!(node.read("t", 0).len(), 20);
    assert_eq!(node.produce("t", 0, "next"), 20);
}

#[test]
fn a_second_process_is_kept_out() {
    let machine = Machine::new(5);
    let node = machine.start();
    assert!(matches!(machine.try_start(), Err(OpenError::InUse)));
    machine.stop(node);
    machine.start();
}

#[test]
fn an_error_of_a_journal_write_stops_the_node_and_nothing_is_acknowledged_after_it() {
    let machine = Machine::new(6);
    let node = machine.start();
    node.create_topic("t", 1);
    node.produce("t", 0, "before");
    machine.disk.inject(SimFault::SyncError, "journal/", 0);
    let ids: Vec<_> = (0..10).map(|index| node.send_value("t", 0, &value(index, 50))).collect();
    machine.run_for_ms(1_000);
    let error = node.run.take().expect("run ended").expect_err("with the error");
    assert!(matches!(error, FatalDiskError::Journal(_)), "{error}");
    assert!(ids.iter().all(|id| node.produced(*id).is_none()));
    let late = node.send_value("t", 0, "late");
    machine.run_for_ms(1_000);
    assert!(node.produced(late).is_none());
    machine.power_cut(node);
    let node = machine.start();
    assert_eq!(node.read("t", 0).get(&0).map(String::as_str), Some("before"));
}

#[test]
fn an_error_of_a_checkpoint_stops_the_node_and_the_journal_still_has_everything() {
    for path in ["topics/", "checkpoint/"] {
        let machine = Machine::new(7);
        let node = machine.start();
        node.create_topic("t", 1);
        machine.disk.inject(SimFault::SyncError, path, 0);
        let mut acknowledged = 0;
        for index in 0..2_000 {
            let id = node.send_value("t", 0, &value(index, 300));
            machine.run_for_ms(2);
            acknowledged += u64::from(node.produced(id).is_some());
            if node.run.is_done() {
                break;
            }
        }
        let error = node.run.take().expect("run ended").expect_err("with the error");
        assert!(matches!(error, FatalDiskError::Checkpoint(_)), "{error}");
        machine.power_cut(node);
        let node = machine.start();
        assert!(node.read("t", 0).len() as u64 >= acknowledged, "{path}");
    }
}

#[test]
fn damage_of_a_segment_is_an_error_for_its_readers_only() {
    let machine = Machine::new(8);
    let node = machine.start();
    node.create_topic("bad", 1);
    node.create_topic("good", 1);
    for index in 0..10 {
        node.produce("bad", 0, &value(index, 100));
        node.produce("good", 0, &value(index, 100));
    }
    let key = node.key("bad", 0);
    machine.stop(node);
    let name = crate::segments::SegmentName { base_offset: 0, generation: 0 };
    let path = crate::segments::format::segment_path(key, name);
    assert!(machine.disk.corrupt(&path, 64 + 100));
    let node = machine.start();
    let data = node.fetch("bad", 0, 0);
    assert_eq!(data.error_code, ErrorCode::KafkaStorageError.code());
    assert!(data.records.is_none_or(|records| records.to_bytes().is_empty()));
    assert_eq!(node.read("good", 0).len(), 10);
    assert!(node.engine.metrics().history_faults > 0);
}

#[test]
fn the_scrub_finds_damage_that_nobody_has_read_and_disturbs_nobody() {
    let machine = Machine::new(8);
    let node = machine.start();
    node.create_topic("bad", 1);
    node.create_topic("good", 1);
    for index in 0..10 {
        node.produce("bad", 0, &value(index, 100));
        node.produce("good", 0, &value(index, 100));
    }
    let key = node.key("bad", 0);
    machine.stop(node);
    let name = crate::segments::SegmentName { base_offset: 0, generation: 0 };
    let path = crate::segments::format::segment_path(key, name);
    assert!(machine.disk.corrupt(&path, 64 + 100));
    let node = machine.start();
    machine.run_for_ms(millpond_wire::limits::SCRUB_FIRST_MS + 10_000);
    let metrics = node.engine.metrics();
    assert_eq!((metrics.scrub_rounds, metrics.scrub_damaged_segments), (1, 1));
    assert_eq!(metrics.history_faults, 0);
    assert!(!node.run.is_done());
    assert_eq!(node.read("good", 0).len(), 10);
    assert_eq!(node.fetch("bad", 0, 0).error_code, ErrorCode::KafkaStorageError.code());
}

#[test]
fn a_deleted_topic_loses_its_files_and_only_then() {
    let machine = Machine::new(9);
    let node = machine.start();
    node.create_topic("gone", 2);
    node.create_topic("kept", 1);
    for index in 0..20 {
        node.produce("gone", index % 2, &value(index as usize, 100));
        node.produce("kept", 0, &value(index as usize, 100));
    }
    machine.stop(node);
    let has = |what: &str| machine.disk.files().iter().filter(|path| path.contains(what)).count();
    assert_eq!(has(".seg"), 3);
    let node = machine.start();
    match node.call(delete_topic("gone"), 5) {
        Response::DeleteTopics(response) => assert_eq!(response.responses[0].error_code, 0),
        other => panic!("{other:?}"),
    }
    machine.stop(node);
    assert_eq!(has(".seg"), 1);
    let node = machine.start();
    assert_eq!(node.read("kept", 0).len(), 20);
}

#[test]
fn a_lost_checkpoint_is_refused_and_not_taken_for_a_new_node() {
    let machine = Machine::new(10);
    let node = machine.start();
    node.create_topic("t", 1);
    node.produce("t", 0, "x");
    machine.power_cut(node);
    for path in machine.disk.files().into_iter().filter(|path| path.starts_with("checkpoint/")) {
        let disk = machine.disk.clone();
        machine.executor.block_on(async move {
            crate::disk::Disk::remove_file(&disk, &path).await.expect("removed");
        });
    }
    let error = machine.try_start().err();
    assert!(matches!(error, Some(OpenError::CheckpointMissing { .. })), "{error:?}");
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let machine = Machine::new(11);
    let node = machine.start();
    node.create_topic("t", 1);
    machine.stop(node);
    let files = machine.disk.files();
    let path = files.iter().find(|path| path.starts_with("checkpoint/")).expect("a checkpoint");
    assert!(machine.disk.corrupt(path, 140));
    let error = machine.try_start().err();
    let wanted = matches!(error, Some(OpenError::Checkpoint(LoadCheckpointError::Damaged { .. })));
    assert!(wanted, "{error:?}");
}

#[test]
fn acknowledgements_go_on_while_a_checkpoint_is_taken() {
    let machine = Machine::new(12);
    let node = machine.start();
    node.create_topic("t", 8);
    let mut worst_ms = 0;
    for index in 0..3_000 {
        let start = machine.clock.now_ms();
        node.produce("t", index % 8, &value(index as usize, 200));
        worst_ms = worst_ms.max(machine.clock.now_ms() - start);
    }
    assert!(node.engine.metrics().checkpoints > 2);
    // A durable write takes up to 4 ms here and a checkpoint some ten of them.
    assert!(worst_ms <= 9, "{worst_ms} ms");
}

#[test]
fn bytes_and_syncs_are_counted_by_cause() {
    let mut machine = Machine::new(13);
    machine.storage.packs = false;
    let node = machine.start();
    node.create_topic("t", 1);
    for index in 0..1_000 {
        node.produce("t", 0, &value(index, 300));
    }
    machine.run_for_ms(1_000);
    let metrics = node.engine.metrics();
    let by = |figures: [u64; WriteCause::ALL.len()], cause: WriteCause| figures[cause as usize];
    assert_eq!(metrics.entries, 1_001);
    assert!(metrics.payload_bytes > 300_000);
    assert!(by(metrics.written_bytes, WriteCause::Journal) > metrics.payload_bytes);
    assert!(by(metrics.written_bytes, WriteCause::Segment) > 100_000);
    assert!(by(metrics.syncs, WriteCause::Journal) >= metrics.commits);
    assert!(by(metrics.syncs, WriteCause::Checkpoint) >= 2 * metrics.checkpoints);
    assert_eq!(metrics.commit_latency.count, 1_001);
    assert_eq!(metrics.backend, "sim");
    let stats = machine.disk.stats();
    let written: u64 = metrics.written_bytes.iter().sum();
    assert_eq!(stats.written_bytes, written, "every byte has a cause");
    assert_eq!(stats.syncs + stats.dir_syncs, metrics.syncs.iter().sum::<u64>());
}

#[test]
fn a_read_waits_for_room_when_too_much_is_queued() {
    let machine = Machine::new(15);
    let node = machine.start();
    node.create_topic("t", 1);
    for index in 0..100 {
        node.send_value("t", 0, &value(index, 9_000));
    }
    let engine = Rc::clone(&node.engine);
    let room = machine.executor.spawn(async move { engine.room().await });
    machine.executor.run_until_idle();
    assert!(!room.is_done());
    machine.run_for_ms(2_000);
    assert!(room.is_done());
}
