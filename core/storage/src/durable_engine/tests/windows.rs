//! Topics that declare a window of loss, on a device that can lose power: what they may lose, and
//! what nobody may lose because of them.

use std::collections::BTreeMap;

use millpond_engine::RequestId;

use super::rig::{Machine, Node};
use crate::disk::sim::SimRng;

fn machine(seed: u64) -> (Machine, Node) {
    let machine = Machine::new(seed);
    let node = machine.start();
    node.create_topic_with("loose", &[("flush.ms", "200")]);
    node.create_topic("safe", 1);
    (machine, node)
}

fn syncs(node: &Node) -> u64 {
    node.engine.metrics().commits
}

#[test]
fn a_topic_with_a_window_is_answered_before_its_sync_and_synced_when_the_window_ends() {
    let (machine, node) = machine(31);
    let before = syncs(&node);
    for index in 0..10 {
        let id = node.send_value("loose", 0, "x");
        // Not a step of the machine: nothing was written yet.
        assert_eq!(node.produced(id).expect("at once").base_offset, index);
    }
    let unsynced =
        |node: &Node| node.engine.with_engine(|engine| engine.unsynced(machine.clock.now_ms()));
    assert_eq!(unsynced(&node).records, 10);
    machine.run_for_ms(190);
    assert_eq!((syncs(&node) - before, unsynced(&node).oldest_age_ms), (0, 190));
    assert!(node.read("loose", 0).is_empty(), "consumers see what is durable");
    machine.run_for_ms(30);
    assert_eq!((syncs(&node) - before, unsynced(&node).records), (1, 0));
    assert_eq!(node.read("loose", 0).len(), 10);
}

#[test]
fn an_answer_of_a_topic_without_a_window_makes_all_before_it_durable() {
    let (machine, node) = machine(32);
    for _ in 0..5 {
        node.send_value("loose", 0, "x");
    }
    node.produce("safe", 0, "y");
    node.send_value("loose", 0, "after");
    machine.power_cut(node);
    let node = machine.start();
    assert_eq!(node.read("safe", 0).len(), 1);
    assert_eq!(node.read("loose", 0).len(), 5);
    // The offset of what was lost is given again: nobody has seen it.
    assert_eq!(node.produced(node.send_value("loose", 0, "next")).expect("at once").base_offset, 5);
}

#[test]
fn a_clean_stop_and_a_checkpoint_lose_nothing_and_do_not_wait_for_the_window() {
    let (mut machine, node) = machine(33);
    machine.storage.linger_ms = 5_000;
    for _ in 0..5 {
        node.send_value("loose", 0, "x");
    }
    let began_ms = machine.clock.now_ms();
    machine.stop(node);
    assert!(machine.clock.now_ms() - began_ms < 200);
    let node = machine.start();
    assert_eq!(node.read("loose", 0).len(), 5);
    // The new node lingers: a stop does not wait for that either.
    let id = node.send_value("safe", 0, "y");
    let began_ms = machine.clock.now_ms();
    machine.stop(node);
    assert!(machine.clock.now_ms() - began_ms < 1_000);
    let node = machine.start();
    assert_eq!(node.read("safe", 0).len(), 1, "request {id:?}");
}

/// One seeded life: both topics are written, time passes, the power goes.
fn life(seed: u64) -> (u64, u64) {
    let (machine, node) = machine(seed);
    let mut rng = SimRng::new(seed);
    // Acknowledged: value by offset; of the loose topic with the time of the answer.
    let mut safe = BTreeMap::new();
    let mut loose: BTreeMap<i64, (String, u64)> = BTreeMap::new();
    let mut waiting: BTreeMap<RequestId, String> = BTreeMap::new();
    // The highest end of the loose log that a consumer could see.
    let mut seen = 0;
    for step in 0..rng.between(20, 200) {
        let value = format!("{step:0>20}");
        if rng.chance(850) {
            let id = node.send_value("loose", 0, &value);
            if let Some(answer) = node.produced(id) {
                loose.insert(answer.base_offset, (value, machine.clock.now_ms()));
            }
        } else {
            waiting.insert(node.send_value("safe", 0, &value), value);
        }
        if rng.chance(300) {
            machine.run_for_ms(rng.below(120));
        } else {
            for _ in 0..rng.below(6) {
                machine.executor.step();
            }
        }
        waiting.retain(|id, value| match node.produced(*id) {
            Some(answer) => {
                safe.insert(answer.base_offset, std::mem::take(value));
                false
            }
            None => true,
        });
        let key = node.key("loose", 0);
        seen = node.engine.with_engine(|engine| {
            engine.catalog().partition(key).map_or(0, |log| log.high_watermark())
        });
    }
    let cut_ms = machine.clock.now_ms();
    machine.power_cut(node);
    let node = machine.start();
    let (kept_safe, kept) = (node.read("safe", 0), node.read("loose", 0));
    for (offset, value) in &safe {
        assert_eq!(kept_safe.get(offset), Some(value), "seed {seed}: safe, offset {offset}");
    }
    // No hole: what is lost is the end.
    let end = kept.len() as i64;
    assert!(end >= seen, "seed {seed}: consumers saw {seen}, {end} are left");
    let mut lost = 0;
    for (offset, (value, at_ms)) in &loose {
        if *offset < end {
            assert_eq!(kept.get(offset), Some(value), "seed {seed}: loose, offset {offset}");
        } else {
            lost += 1;
            let age_ms = cut_ms - at_ms;
            assert!(age_ms <= 200 + 50, "seed {seed}: {age_ms} ms old and lost");
        }
    }
    assert_eq!(node.produce("safe", 0, "goes on"), kept_safe.len() as i64, "seed {seed}");
    (loose.len() as u64, lost)
}

#[test]
fn a_power_cut_takes_only_the_end_of_a_window_and_nothing_of_other_topics() {
    let (mut acknowledged, mut lost) = (0, 0);
    for seed in 0..60 {
        let (of_life, lost_of_life) = life(seed);
        acknowledged += of_life;
        lost += lost_of_life;
    }
    // A run that lost nothing would show nothing.
    assert!(acknowledged > 2_000 && lost > 100, "{acknowledged} acknowledged, {lost} lost");
}
