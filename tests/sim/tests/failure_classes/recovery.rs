//! A7, A8: checkpoints, deletion and recovery, cut off after every single disk operation.

use millpond_sim::lab::{Lab, value};

/// A node whose checkpoints come often.
fn lab(seed: u64) -> Lab {
    let mut lab = Lab::new(seed);
    lab.machine.storage.tail_bytes = 6 << 10;
    lab.start();
    lab.create_topic("t", 2);
    lab
}

#[test]
fn a07_state_and_its_position_are_one() {
    // How many operations the story has when nobody cuts it.
    let whole = story_of_checkpoints(u64::MAX);
    let checkpoints = whole.machine.checkpoints();
    assert!(checkpoints >= 4, "{checkpoints} checkpoints");
    let mut cut_at = 1;
    let last = whole.operations();
    while cut_at < last {
        let mut lab = story_of_checkpoints(cut_at);
        lab.power_cycle();
        lab.check();
        retry_is_recognised(&lab);
        // The state that the new life begins with holds as well.
        lab.power_cycle();
        lab.check();
        cut_at += 1;
    }
}

/// An idempotent producer writes until `operations` are done; each of its batches is of two.
fn story_of_checkpoints(operations: u64) -> Lab {
    let lab = lab(7);
    for index in 0..STORY_BATCHES {
        let write = send_numbered(&lab, index);
        while !write.is_done() {
            if lab.operations() >= operations || !lab.executor.step() {
                return lab;
            }
        }
    }
    lab
}

const STORY_BATCHES: i32 = 24;
/// One producer id that the test gives itself.
const PRODUCER: i64 = 77;

fn send_numbered(lab: &Lab, index: i32) -> millpond_sim::lab::Write {
    let values = [value(index as usize * 2, 700), value(index as usize * 2 + 1, 700)];
    let values = [values[0].as_str(), values[1].as_str()];
    lab.send_batch("t", 0, &values, Some((PRODUCER, 0, index * 2)))
}

/// What the producer sends again is recognised if it is there, and taken if it is not: the
/// producer's state is of the same moment as the log.
fn retry_is_recognised(lab: &Lab) {
    let found = lab.read("t", 0).len() as i32 / 2;
    for index in (found - 2).max(0)..(found + 1).min(STORY_BATCHES) {
        let write = send_numbered(lab, index);
        assert_eq!(lab.outcome(&write), Some(Ok(i64::from(index) * 2)), "of {found} batches");
    }
    let now = lab.read("t", 0).len() as i32 / 2;
    assert_eq!(now, (found + 1).min(STORY_BATCHES), "a batch stands twice");
}

#[test]
fn a08_crash_inside_recovery_checkpoint_and_deletion_is_idempotent() {
    let mut died_at_work = lab(8);
    for index in 0..30 {
        died_at_work.send("t", index % 2, &value(index as usize, 600));
    }
    died_at_work.run_operations(40, 500);
    died_at_work.machine.power_cut();
    let (image, acked) = (died_at_work.disk().image(), died_at_work.acked());
    assert!(acked.len() > 5, "{} acknowledged", acked.len());
    let mut clean = Lab::on_image(80, &image);
    clean.start();
    let operations = clean.operations();
    assert!(operations > 5, "{operations} operations");
    for first in 0..=operations {
        for second in [0, 1, 3, operations / 2, operations] {
            let mut lab = Lab::on_image(80, &image);
            lab.owe(acked.clone());
            for operations in [first, second] {
                lab.machine.power_on();
                lab.run_operations(operations, 1_000);
                lab.machine.power_cut();
            }
            lab.start();
            lab.check();
        }
    }
}

#[test]
fn a08_crash_inside_a_deletion_leaves_all_of_a_topic_or_nothing_and_others_alone() {
    let last = deletion_cut_at(u64::MAX).operations();
    let (mut kept, mut gone) = (0, 0);
    for operations in 0..last {
        let mut lab = deletion_cut_at(operations);
        lab.power_cycle();
        lab.check();
        if lab.has_topic("doomed") {
            kept += 1;
            assert_eq!(lab.read("doomed", 0).len(), 12, "a part of a deleted topic is left");
        } else {
            gone += 1;
        }
        lab.power_cycle();
        lab.check();
    }
    assert!(kept > 0 && gone > 5, "{kept} times kept, {gone} times gone");
}

/// A topic is deleted, others go on, checkpoints come; so many operations after the start.
fn deletion_cut_at(operations: u64) -> Lab {
    let mut lab = lab(9);
    lab.create_topic("doomed", 1);
    for index in 0..12 {
        lab.produce("doomed", 0, &value(index, 700));
    }
    lab.shut_down();
    lab.start();
    let began = lab.operations();
    let deleted = lab.delete_topic("doomed");
    let mut index = 0;
    while lab.operations() - began < operations && index < 20 {
        if deleted.is_done() {
            let write = lab.send("t", 0, &value(index, 700));
            index += 1;
            while !write.is_done() && lab.operations() - began < operations {
                lab.executor.step();
            }
        } else {
            lab.executor.step();
        }
    }
    if operations == u64::MAX {
        assert!(deleted.is_done() && !lab.has_topic("doomed"));
        let topics = |path: &str| path.split('/').nth(1).map(str::to_owned);
        let files = lab.disk().files();
        let dirs: std::collections::BTreeSet<_> = files
            .iter()
            .filter(|path| path.ends_with(".seg"))
            .filter_map(|path| topics(path))
            .collect();
        assert_eq!(dirs.len(), 1, "files of a deleted topic are left: {files:?}");
    }
    lab
}
