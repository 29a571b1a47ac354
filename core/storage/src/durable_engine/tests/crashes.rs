//! Seeded lives of a node: produce, checkpoint, delete, power cuts at any step, inside recovery too.
//! After each cut every acknowledged record is there, once, at its offset; nothing that came back
//! once goes away again.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use millpond_engine::RequestId;
use millpond_wire::messages::delete_topics_request::DeleteTopicState;
use millpond_wire::messages::{DeleteTopicsRequest, Request};

use super::rig::{Machine, NODE, Node};
use crate::disk::sim::{SimFault, SimRng};

/// Requests without an answer yet: where their record goes, and the record.
type Waiting = BTreeMap<RequestId, (i32, String)>;

const SEEDS: u64 = 40;
const LIVES: u64 = 6;
const PARTITIONS: i32 = 3;

#[derive(Default)]
struct Tally {
    acknowledged: Cell<u64>,
    lost: Cell<u64>,
    checkpoints: Cell<u64>,
    torn: Cell<u64>,
    faults: Cell<u64>,
}

struct Story<'a> {
    seed: u64,
    machine: Machine,
    rng: SimRng,
    /// What must be there, by partition and offset.
    must: BTreeMap<(i32, i64), String>,
    sent: BTreeSet<String>,
    next_value: u64,
    tally: &'a Tally,
}

impl Story<'_> {
    fn life(&mut self, node: &Node) {
        let steps = self.rng.between(10, 400);
        let mut waiting = Waiting::new();
        for _ in 0..steps {
            self.send_some(node, &mut waiting);
            if self.rng.chance(5) {
                let name = format!("side-{}", self.rng.below(3));
                if self.rng.chance(500) {
                    node.send_value(&name, 0, "side");
                } else {
                    node.send(delete_topic(&name), 5);
                }
            }
            for _ in 0..self.rng.below(60) {
                self.machine.executor.step();
            }
            self.take_answers(node, &mut waiting);
        }
        // Now and then it is the device that goes first.
        if self.rng.chance(150) {
            self.machine.disk.inject(SimFault::SyncError, "", self.rng.below(5));
        }
        // Something is under way when the power goes.
        for _ in 0..self.rng.below(4) {
            self.send_some(node, &mut waiting);
            for _ in 0..self.rng.below(12) {
                self.machine.executor.step();
            }
        }
        self.take_answers(node, &mut waiting);
        let faults = u64::from(node.run.take().is_some_and(|ended| ended.is_err()));
        self.tally.faults.set(self.tally.faults.get() + faults);
        self.machine.disk.disarm();
        let checkpoints = node.engine.metrics().checkpoints;
        self.tally.checkpoints.set(self.tally.checkpoints.get() + checkpoints);
        self.tally.lost.set(self.tally.lost.get() + waiting.len() as u64);
    }

    fn send_some(&mut self, node: &Node, waiting: &mut Waiting) {
        for _ in 0..self.rng.below(4) {
            let partition = self.rng.below(PARTITIONS as u64) as i32;
            let len = self.rng.between(20, 3_000) as usize;
            let value = format!("{:x>len$}", self.next_value);
            self.next_value += 1;
            self.sent.insert(value.clone());
            let id = node.send_value("t", partition, &value);
            waiting.insert(id, (partition, value));
        }
    }

    fn take_answers(&mut self, node: &Node, waiting: &mut Waiting) {
        waiting.retain(|id, (partition, value)| match node.produced(*id) {
            None => true,
            Some(answer) => {
                assert_eq!(answer.error_code, 0, "seed {}", self.seed);
                self.must.insert((*partition, answer.base_offset), value.clone());
                self.tally.acknowledged.set(self.tally.acknowledged.get() + 1);
                false
            }
        });
    }

    /// Starts the node; some of the tries lose their power on the way.
    fn restart(&mut self) -> Node {
        for _ in 0..self.rng.below(3) {
            let (opening, _) = self.machine.begin_open();
            for _ in 0..self.rng.below(80) {
                self.machine.executor.step();
            }
            self.machine.disk.power_cut();
            self.machine.executor.kill(NODE);
            drop(opening);
        }
        let node = self.machine.try_start();
        node.unwrap_or_else(|error| panic!("seed {}: no start: {error}", self.seed))
    }

    fn check(&mut self, node: &Node) {
        let torn = node.engine.metrics().recovery.torn_tail;
        self.tally.torn.set(self.tally.torn.get() + u64::from(torn));
        for partition in 0..PARTITIONS {
            let found = node.read("t", partition);
            let mut seen = BTreeSet::new();
            for (expected, (offset, value)) in found.iter().enumerate() {
                assert_eq!(*offset, expected as i64, "seed {}: a gap", self.seed);
                assert!(self.sent.contains(value), "seed {}: never sent", self.seed);
                assert!(seen.insert(value), "seed {}: twice", self.seed);
            }
            let wanted = self.must.range((partition, 0)..(partition + 1, 0));
            for ((_, offset), value) in wanted {
                let is_there = found.get(offset) == Some(value);
                assert!(is_there, "seed {}: offset {offset} of {partition} is gone", self.seed);
            }
            // It was served now, so it may not go again.
            for (offset, value) in found {
                self.must.insert((partition, offset), value);
            }
        }
    }
}

pub(super) fn delete_topic(name: &str) -> Request {
    Request::DeleteTopics(DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(name.to_owned()), ..Default::default() }],
        topic_names: vec![name.to_owned()],
        ..DeleteTopicsRequest::default()
    })
}

#[test]
fn acknowledged_records_survive_power_cuts_at_any_moment() {
    let tally = Tally::default();
    for seed in 0..SEEDS {
        let mut story = Story {
            seed,
            machine: Machine::new(seed),
            rng: SimRng::new(seed ^ 0x5707),
            must: BTreeMap::new(),
            sent: BTreeSet::new(),
            next_value: 0,
            tally: &tally,
        };
        let mut node = story.machine.start();
        node.create_topic("t", PARTITIONS);
        for _ in 0..LIVES {
            story.life(&node);
            story.machine.power_cut(node);
            node = story.restart();
            story.check(&node);
        }
    }
    // A run in which nothing happened proves nothing.
    let Tally { acknowledged, lost, checkpoints, torn, faults } = &tally;
    assert!(acknowledged.get() > SEEDS * 100, "{} acknowledged", acknowledged.get());
    assert!(lost.get() > SEEDS * 2, "{} unacknowledged", lost.get());
    assert!(checkpoints.get() > SEEDS * 5, "{} checkpoints", checkpoints.get());
    assert!(faults.get() > SEEDS / 8, "{} failed syncs", faults.get());
    assert!(torn.get() > 0, "{} torn tails", torn.get());
}
