//! A stopped node looked at: what is whole is called whole, every damage is named with whom it
//! concerns, and a look changes nothing.

use millpond_engine::PartitionKey;

use super::rig::{Machine, NODE, Node};
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::offline::{
    DataDir, OfflineError, RepairStep, Report, SegmentPiece, SegmentScan, Severity, TopicNames,
    plan_repair, repair, verify,
};

/// A stopped node with two partitions of history, and how many records each has.
fn stopped(seed: u64) -> Machine {
    let mut machine = Machine::new(seed);
    // Each record stays a batch of its own.
    machine.storage.packs = false;
    let node = machine.start();
    node.create_topic("t", 2);
    for index in 0..120 {
        node.produce("t", index % 2, &format!("{index:0>200}"));
    }
    machine.stop(node);
    machine
}

fn look<T: 'static>(
    machine: &Machine,
    look: impl AsyncFnOnce(DataDir<SimDisk>) -> T + 'static,
) -> T {
    let disk = machine.disk.clone();
    machine
        .executor
        .block_on(async move { look(DataDir::lock(disk).await.expect("nobody has it")).await })
}

fn examine(machine: &Machine) -> Report {
    look(machine, async |dir| verify(&dir, |_| ()).await.expect("readable"))
}

fn segment_of(machine: &Machine, partition: i32) -> String {
    let files = machine.disk.files();
    let part = format!("/{partition}/");
    let mut found = files.into_iter().filter(|f| f.ends_with(".seg") && f.contains(&part));
    found.next().expect("a segment")
}

/// Values that a node serves from a partition.
fn served(node: &Node, partition: i32) -> usize {
    node.read("t", partition).len()
}

#[test]
fn a_whole_directory_is_called_whole_and_is_not_changed() {
    let machine = stopped(1);
    let before: Vec<_> = machine.disk.files().iter().map(|f| machine.disk.content(f)).collect();
    let report = examine(&machine);
    assert!(report.is_clean() && report.findings.kept().is_empty(), "{:?}", report.findings);
    assert_eq!(report.records, 120);
    assert_eq!(report.journal.map(|journal| journal.entries), Some(0));
    let after: Vec<_> = machine.disk.files().iter().map(|f| machine.disk.content(f)).collect();
    assert!(before == after, "a look changed something");
}

#[test]
fn a_running_node_keeps_its_directory_for_itself() {
    let machine = Machine::new(2);
    let node = machine.start();
    let disk = machine.disk.clone();
    let locked = machine.executor.block_on(async move { DataDir::lock(disk).await.err() });
    assert!(matches!(locked, Some(OfflineError::InUse)));
    machine.stop(node);
    examine(&machine);
}

#[test]
fn what_the_journal_alone_has_is_replayed_to_judge_it() {
    let machine = Machine::new(3);
    let node = machine.start();
    node.create_topic("t", 1);
    node.produce("t", 0, "only in the journal");
    machine.power_cut(node);
    let report = examine(&machine);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.journal.map(|journal| journal.entries), Some(2));
    assert_eq!(report.names.topics().map(|(_, name)| name).collect::<Vec<_>>(), ["t"]);
}

#[test]
fn a_flipped_bit_in_a_segment_names_its_partition_and_offsets_and_no_other() {
    let machine = stopped(4);
    let path = segment_of(&machine, 1);
    assert!(machine.disk.corrupt(&path, 5_000));
    let report = examine(&machine);
    let [finding] = report.findings.kept() else { panic!("{:?}", report.findings) };
    assert_eq!((finding.severity, finding.concern.file.as_str()), (Severity::Damage, &*path));
    assert_eq!(finding.concern.partition.map(|key| key.partition), Some(1));
    let (from, upto) = finding.concern.offsets.expect("offsets");
    assert_eq!(upto - from, 1, "{finding:?}");
    assert_eq!(report.records, 119, "all others are whole");
}

#[test]
fn a_missing_a_cut_off_and_a_stray_file_are_told_apart() {
    let machine = stopped(5);
    let (missing, cut) = (segment_of(&machine, 0), segment_of(&machine, 1));
    let stray = missing.replace("0000.seg", "9999.seg");
    let (disk, paths) = (machine.disk.clone(), (missing.clone(), cut.clone(), stray.clone()));
    machine.executor.block_on(async move {
        use crate::disk::{Disk, DiskFile, OpenMode};
        disk.rename(&paths.0, &paths.2).await.expect("renamed");
        let file = disk.open(&paths.1, OpenMode::EXISTING).await.expect("there");
        file.set_len_bytes(6_000).await.expect("cut");
    });
    let report = examine(&machine);
    let found: Vec<_> = report
        .findings
        .kept()
        .iter()
        .map(|finding| (finding.severity, finding.concern.file.clone()))
        .collect();
    assert!(found.contains(&(Severity::Damage, missing)), "{found:?}");
    assert!(found.contains(&(Severity::Damage, cut)), "{found:?}");
    assert!(found.contains(&(Severity::Note, stray)), "{found:?}");
}

#[test]
fn a_damaged_journal_and_a_damaged_checkpoint_are_damage() {
    let machine = Machine::new(6);
    let node = machine.start();
    node.create_topic("t", 1);
    for index in 0..20 {
        node.produce("t", 0, &format!("{index:0>200}"));
    }
    machine.run_for_ms(6_000);
    machine.power_cut(node);
    // The header of the third commit, beyond correction: what came after says that it was durable.
    for at in [20, 30] {
        assert!(machine.disk.corrupt("journal/000.mpj", 3 * 4096 + at));
    }
    let report = examine(&machine);
    let [finding] = report.findings.kept() else { panic!("{:?}", report.findings) };
    assert_eq!(finding.concern.file, "journal/000.mpj");
    assert!(!report.is_clean() && report.journal.is_none());
    let checkpoint = machine.disk.files().into_iter().find(|file| file.ends_with(".mpc"));
    assert!(machine.disk.corrupt(&checkpoint.expect("a checkpoint"), 130));
    let report = examine(&machine);
    assert!(!report.is_clean() && report.checkpoint.is_none());
}

/// The pieces of the first segment of a partition: (whole batches, damaged offset ranges).
fn walk(machine: &Machine, partition: i32) -> (Vec<i64>, Vec<(i64, i64)>) {
    look(machine, async move |dir| {
        let table = dir.checkpoint().await.expect("whole").segments;
        let of = |(key, _): &(PartitionKey, _)| key.partition == partition;
        let (key, meta) = table.iter().find(of).expect("a segment");
        let mut scan = SegmentScan::open(dir.disk(), key, *meta).await.expect("read").expect("it");
        let (mut whole, mut damaged) = (Vec::new(), Vec::new());
        while let Some(piece) = scan.next().await.expect("read") {
            match piece {
                SegmentPiece::Batch(facts) => whole.push(facts.header.base_offset),
                SegmentPiece::Damage { offsets, .. } => damaged.push(offsets),
            }
        }
        (whole, damaged)
    })
}

#[test]
fn a_walk_goes_on_after_any_flipped_byte_and_loses_that_batch_only() {
    let machine = stopped(7);
    let (whole, damaged) = walk(&machine, 0);
    assert!(whole.len() > 10 && damaged.is_empty());
    let path = segment_of(&machine, 0);
    // Every field of a header, then some bytes of records.
    for at in (334..396).chain((400..900).step_by(61)) {
        let machine = stopped(7);
        assert!(machine.disk.corrupt(&path, at), "byte {at}");
        let (left, damaged) = walk(&machine, 0);
        match damaged.as_slice() {
            // Only the leader epoch is outside of every check.
            [] => assert_eq!(left, whole, "byte {at}"),
            [(from, upto)] => {
                let lost = whole.iter().filter(|offset| !left.contains(offset));
                assert_eq!(lost.copied().collect::<Vec<_>>(), [*from], "byte {at}");
                assert_eq!(*upto, from + 1, "byte {at}");
            }
            more => panic!("byte {at}: {more:?}"),
        }
    }
}

#[test]
fn the_journal_is_shown_commit_by_commit_in_words() {
    let machine = Machine::new(8);
    let node = machine.start();
    node.create_topic("t", 1);
    node.produce("t", 0, "a");
    node.produce("t", 0, "b");
    machine.power_cut(node);
    let lines = look(&machine, async |dir| {
        let checkpoint = dir.checkpoint().await.expect("whole");
        let names = TopicNames::of_snapshot(checkpoint.snapshot.clone()).expect("whole");
        let mut journal = dir.journal(&checkpoint, names).await.expect("a ring");
        let mut lines = Vec::new();
        let show = |commit: &crate::offline::CommitFacts, entries: Vec<_>| {
            assert_eq!(commit.fault, None);
            lines.extend(entries.into_iter().flat_map(|e: crate::offline::EntryView| e.facts));
            true
        };
        journal.commits(show).await.expect("read");
        lines
    });
    assert_eq!(lines.first().map(String::as_str), Some("topic t created with 1 partitions"));
    assert!(lines.iter().any(|line| line.starts_with("t/0: appended offset 1")), "{lines:?}");
    let node = machine.start();
    assert_eq!(served(&node, 0), 2);
}

/// Repairs; answers what the plan was to lose.
fn mend(machine: &Machine, label: &'static str) -> Vec<RepairStep> {
    look(machine, async move |dir| {
        let plan = plan_repair(&dir).await.expect("readable");
        assert!(plan.refused.is_empty(), "{:?}", plan.refused);
        repair(&dir, &plan, label).await.expect("repaired");
        plan.steps
    })
}

#[test]
fn a_repair_gives_up_the_damaged_record_and_keeps_every_other_and_the_old_bytes() {
    let machine = stopped(9);
    let path = segment_of(&machine, 1);
    assert!(machine.disk.corrupt(&path, 5_000));
    let damaged = machine.disk.content(&path);
    let steps = mend(&machine, "now");
    let [RepairStep::Rewrite { lost, .. }] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(lost.iter().map(|(from, upto)| upto - from).sum::<i64>(), 1);
    assert!(examine(&machine).is_clean());
    assert_eq!(machine.disk.content(&format!("quarantine/now/{path}")), damaged);
    let again = look(&machine, async |dir| plan_repair(&dir).await.expect("readable"));
    assert!(again.is_empty(), "{:?}", again.steps);
    let node = machine.start();
    assert_eq!((served(&node, 0), served(&node, 1)), (60, 59));
    assert_eq!(node.produce("t", 1, "it goes on"), 60);
}

#[test]
fn a_lost_file_costs_its_offsets_and_nothing_else() {
    let machine = stopped(10);
    let path = segment_of(&machine, 0);
    let (disk, gone) = (machine.disk.clone(), path.clone());
    machine.executor.block_on(async move {
        disk.rename(&gone, "elsewhere").await.expect("renamed");
    });
    mend(&machine, "now");
    assert!(examine(&machine).is_clean());
    let node = machine.start();
    node.produce("t", 0, "it goes on");
    assert_eq!(served(&node, 1), 60);
}

#[test]
fn a_repair_that_a_power_cut_ends_is_repaired_by_the_next() {
    for steps in 0..200 {
        let machine = stopped(11);
        let path = segment_of(&machine, 1);
        assert!(machine.disk.corrupt(&path, 5_000));
        let disk = machine.disk.clone();
        let repairing = machine.executor.spawn_in(NODE, async move {
            let dir = DataDir::lock(disk).await.expect("nobody has it");
            let plan = plan_repair(&dir).await.expect("readable");
            repair(&dir, &plan, "first").await.expect("repaired");
        });
        for _ in 0..steps {
            machine.executor.step();
        }
        let is_done = repairing.is_done();
        machine.disk.power_cut();
        machine.executor.kill(NODE);
        mend(&machine, "second");
        let report = examine(&machine);
        assert!(report.is_clean(), "after {steps} steps: {:?}", report.findings);
        assert_eq!(report.records, 119, "after {steps} steps");
        if is_done {
            return;
        }
    }
    panic!("the repair never came to its end");
}
