//! Seeded lives of transforms with state, inline and derived: power cuts at any step, failed syncs,
//! workers that lose their memory, results that are refused, new versions, pauses, transactions that
//! are aborted, versions tried on a share of the partitions and rolled back. Every sum that went out is that of an independent model, once, in order.
//!
//! `MILLPOND_SIM_SEEDS` says how many lives, `MILLPOND_SIM_SEED` which one alone.

use std::collections::BTreeMap;

use millpond_engine::transform::{AdminRequest, DeriveStart, IDLE_TIMEOUT_MS, Mode, TransformSpec};
use millpond_engine::{AdminId, Event, RequestId};
use millpond_wire::record::{BatchBuilder, Codec};

use super::means::{EVERY, OUT, Tally, Workers, number};
use super::rig::{Machine, NODE, Node, produce_request};
use super::transactions::{Client, committed};
use crate::disk::sim::{SimFault, SimRng};

const SEEDS: u64 = 40;
const TRANSACTION_SEEDS: u64 = 8;
const LIVES: u64 = 4;
const PARTITIONS: i32 = 2;
const KEYS: u64 = 5;
const SOURCE: &str = "numbers";
/// Shares the state, where two topics do.
const OTHER: &str = "others";
const NAME: &str = "means";

/// Records by partition, in the order in which they count.
type Sent = [Vec<(String, u64)>; PARTITIONS as usize];

/// An idempotent producer of one partition: one batch at a time, sent again until it is taken.
#[derive(Default)]
struct Producer {
    sequence: i32,
    waiting: Option<(RequestId, Vec<(String, u64)>)>,
    /// What was not answered when the node ended.
    again: Option<Vec<(String, u64)>>,
    last: Option<(i32, Vec<(String, u64)>)>,
}

/// What the transform reads, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Inline,
    Derived,
    /// Derived from two topics with one state: the second partition's records are the other topic's.
    Shared,
}

impl Kind {
    fn is_derived(self) -> bool {
        self != Kind::Inline
    }

    fn send(self, node: &Node, partition: i32, batch: bytes::Bytes) -> RequestId {
        let (topic, partition) = self.place(partition);
        node.send(produce_request(topic, partition, batch), 9)
    }

    /// Where the records of a partition of the story stand.
    fn place(self, partition: i32) -> (&'static str, i32) {
        match (self, partition) {
            (Kind::Shared, 1) => (OTHER, 0),
            _ => (SOURCE, partition),
        }
    }

    fn create_topics(self, node: &Node) {
        match self {
            Kind::Shared => [SOURCE, OTHER].iter().for_each(|topic| node.create_topic(topic, 1)),
            _ => node.create_topic(SOURCE, PARTITIONS),
        }
        node.create_topic(OUT, 3);
    }
}

struct Story {
    seed: u64,
    machine: Machine,
    rng: SimRng,
    kind: Kind,
    workers: Workers,
    producers: [Producer; PARTITIONS as usize],
    /// In inline mode: taken.
    sent: Sent,
    version: u64,
    tally: Tally,
    cuts: u64,
    faults: u64,
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("MILLPOND_SIM_SEED"), number("MILLPOND_SIM_SEEDS")) {
        (Some(first), many) => first..first + many.unwrap_or(1),
        (None, many) => 0..many.unwrap_or(SEEDS),
    }
}

/// Those with transactions take longer: a few, unless more are asked for.
fn transaction_seeds() -> std::ops::Range<u64> {
    match std::env::var_os("MILLPOND_SIM_SEEDS").or(std::env::var_os("MILLPOND_SIM_SEED")) {
        Some(_) => seeds(),
        None => 0..TRANSACTION_SEEDS,
    }
}

impl Story {
    fn new(seed: u64, kind: Kind) -> Story {
        let mut machine = Machine::new(seed);
        machine.storage.packs = seed.is_multiple_of(2);
        machine.storage.tail_bytes = if seed.is_multiple_of(3) { 128 << 10 } else { 4 << 10 };
        machine.storage.compaction_check_ms = 200;
        Story {
            seed,
            machine,
            rng: SimRng::new(seed ^ 0x57A7E),
            kind,
            workers: Workers::default(),
            producers: Default::default(),
            sent: Sent::default(),
            version: 0,
            tally: Tally::default(),
            cuts: 0,
            faults: 0,
        }
    }

    fn deploy(&mut self, node: &Node) {
        let spec = self.next_version();
        self.admin(node, AdminRequest::DeployTransform(spec));
    }

    /// On one of the two partitions.
    fn try_version(&mut self, node: &Node) {
        let spec = self.next_version();
        self.admin(node, AdminRequest::CanaryTransform { spec, share_percent: 50 });
    }

    fn next_version(&mut self) -> TransformSpec {
        self.version += 1;
        let mode = match self.kind.is_derived() {
            true => Mode::Derive(DeriveStart::Earliest),
            false => Mode::Inline,
        };
        TransformSpec {
            name: NAME.to_owned(),
            version: self.version.to_string(),
            topics: match self.kind {
                Kind::Shared => vec![SOURCE.to_owned(), OTHER.to_owned()],
                _ => vec![SOURCE.to_owned()],
            },
            shares_state: self.kind == Kind::Shared,
            outputs: vec![OUT.to_owned()],
            limits: BTreeMap::from([(IDLE_TIMEOUT_MS.to_owned(), 300)]),
            mode,
            route_by_key: true,
            keeps_state: true,
            ..TransformSpec::default()
        }
    }

    fn admin(&mut self, node: &Node, request: AdminRequest) {
        let id = AdminId(self.rng.next_u64());
        node.engine.submit(Event::Admin { id, request });
    }

    fn pause(&mut self, node: &Node, paused: bool) {
        let name = NAME.to_owned();
        self.admin(node, AdminRequest::PauseTransform { name, paused });
    }

    /// Some steps of the node and of the workers, in any order.
    fn turn(&mut self, node: &Node, steps: u64, is_gentle: bool) {
        for _ in 0..steps {
            if self.rng.chance(400) {
                self.workers.step(node, &mut self.rng, is_gentle);
            } else {
                self.machine.executor.step();
            }
        }
    }

    fn life(&mut self, node: &Node) {
        if self.rng.chance(150) {
            self.machine.disk.inject(SimFault::SyncError, "", self.rng.between(20, 200));
        }
        for _ in 0..self.rng.between(20, 90) {
            self.send_some(node);
            match self.rng.below(60) {
                0 => self.workers.forget(&mut self.rng),
                1 => self.deploy(node),
                2 if self.kind.is_derived() => self.pause(node, true),
                3 => self.pause(node, false),
                4 => self.machine.run_for_ms(self.rng.between(1, 1_500)),
                5 => self.try_version(node),
                6 => self.admin(node, AdminRequest::PromoteTransform { name: NAME.to_owned() }),
                7 => {
                    let name = NAME.to_owned();
                    self.admin(node, AdminRequest::RollBackTransform { name, of: None });
                }
                _ => {}
            }
            let steps = self.rng.below(40);
            self.turn(node, steps, false);
        }
    }

    fn send_some(&mut self, node: &Node) {
        for partition in 0..PARTITIONS {
            self.take_answer(node, partition);
            let producer = &mut self.producers[partition as usize];
            if producer.waiting.is_some() || !self.rng.chance(500) {
                continue;
            }
            // Now and then what was taken is sent once more.
            if let Some((sequence, records)) = &producer.last
                && self.rng.chance(50)
            {
                let batch = batch(partition, *sequence, records);
                self.kind.send(node, partition, batch);
            }
            let records = producer.again.take().unwrap_or_else(|| {
                let count = self.rng.between(1, 6);
                let key = |rng: &mut SimRng| format!("key-{}", rng.below(KEYS));
                (0..count).map(|_| (key(&mut self.rng), self.rng.below(1_000))).collect()
            });
            let batch = batch(partition, producer.sequence, &records);
            let id = self.kind.send(node, partition, batch);
            producer.waiting = Some((id, records));
        }
    }

    fn take_answer(&mut self, node: &Node, partition: i32) {
        let producer = &mut self.producers[partition as usize];
        let Some((id, records)) = producer.waiting.take() else { return };
        match node.produced(id) {
            None => producer.waiting = Some((id, records)),
            Some(answer) if answer.error_code == 0 => {
                producer.last = Some((producer.sequence, records.clone()));
                producer.sequence += records.len() as i32;
                self.sent[partition as usize].extend(records);
            }
            Some(_) => producer.again = Some(records),
        }
    }

    fn restart(&mut self, node: Node) -> Node {
        self.cuts += 1;
        self.faults += u64::from(node.run.take().is_some_and(|ended| ended.is_err()));
        self.machine.power_cut(node);
        self.machine.disk.disarm();
        self.tally.add(std::mem::take(&mut self.workers).tally);
        for producer in &mut self.producers {
            if let Some((_, records)) = producer.waiting.take() {
                producer.again = Some(records);
            }
        }
        for _ in 0..self.rng.below(2) {
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

    /// Until everything that was sent is taken, and all of it has gone through the transform.
    fn finish(&mut self, node: &Node) {
        self.pause(node, false);
        for round in 0.. {
            assert!(round < 5_000, "seed {}: stuck: {:?}", self.seed, self.lanes(node));
            self.turn(node, 40, true);
            for partition in 0..PARTITIONS {
                self.take_answer(node, partition);
                let producer = &mut self.producers[partition as usize];
                if let (None, Some(records)) = (&producer.waiting, producer.again.take()) {
                    let batch = batch(partition, producer.sequence, &records);
                    let id = self.kind.send(node, partition, batch);
                    producer.waiting = Some((id, records));
                }
            }
            let is_sent = self.producers.iter().all(|one| one.waiting.is_none());
            let lag: i64 = node.engine.with_engine(|e| e.derives().iter().map(|one| one.lag).sum());
            if is_sent && lag == 0 && !self.workers.step(node, &mut self.rng, true) {
                break;
            }
            self.machine.run_for_ms(5);
        }
        // All of it durable, so that it can be read.
        self.machine.run_for_ms(50);
    }

    fn lanes(&self, node: &Node) -> Vec<millpond_engine::DeriveView> {
        node.engine.with_engine(|engine| engine.derives())
    }

    fn check(&mut self, node: &Node) {
        let source = match self.kind.is_derived() {
            true => committed_numbers(node, self.kind),
            false => self.sent.clone(),
        };
        let mut told: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        let outs = node.engine.with_engine(|engine| {
            engine.catalog().by_name(OUT).map_or(0, |topic| topic.partitions.len())
        });
        for partition in 0..outs {
            for (key, value) in committed(node, OUT, partition as i32) {
                let (count, sum) = value.split_once(':').expect("a count and a sum");
                told.entry(key).or_default().push((number(count), number(sum)));
            }
        }
        // A key may be in both partitions of the source, each with a state of its own: keys carry it.
        for records in &source {
            let mut sums: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
            for (key, number) in records {
                let of_key = sums.entry(key).or_insert_with(|| vec![0]);
                of_key.push(of_key.last().expect("never empty") + number);
            }
            for (key, sums) in sums {
                let told = told.remove(key).unwrap_or_default();
                self.check_key(key, &sums, &told);
            }
        }
        assert!(told.is_empty(), "seed {}: sums of nothing: {told:?}", self.seed);
    }

    fn check_key(&self, key: &str, sums: &[u64], told: &[(u64, u64)]) {
        let seed = self.seed;
        let mut last = 0;
        for (count, sum) in told {
            assert!(*count > last, "seed {seed}: {key} again at {count}: {told:?}");
            assert_eq!(sums.get(*count as usize), Some(sum), "seed {seed}: {key} at {count}");
            last = *count;
        }
        let all = sums.len() as u64 - 1;
        for count in (EVERY..=all).step_by(EVERY as usize) {
            let is_told = told.iter().any(|(own, _)| *own == count);
            assert!(is_told, "seed {seed}: {key} lacks {count} of {all}: {told:?}");
        }
    }
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.runs += other.runs;
        self.idle_runs += other.idle_runs;
        self.reads += other.reads;
        self.forgotten += other.forgotten;
        self.refused += other.refused;
        self.spoiled += other.spoiled;
    }
}

/// Keys carry their partition: the state of each is its own.
fn batch(partition: i32, sequence: i32, records: &[(String, u64)]) -> bytes::Bytes {
    let producer_id = 7_000 + i64::from(partition);
    let mut builder = BatchBuilder::new(Codec::None, None).with_producer(producer_id, 0, sequence);
    for (key, number) in records {
        let (key, value) = (format!("{key}/{partition}"), format!("{number} {:040}", 0));
        let pushed = builder.push(1_000, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        pushed.expect("a small record");
    }
    builder.build().expect("a small batch")
}

fn committed_numbers(node: &Node, kind: Kind) -> Sent {
    [0, 1].map(|partition| {
        let (topic, partition) = kind.place(partition);
        let records = committed(node, topic, partition).into_iter();
        records.map(|(key, value)| (key, number(&value))).collect()
    })
}

fn live(seed: u64, kind: Kind) -> (Tally, u64, u64) {
    let mut story = Story::new(seed, kind);
    let mut node = story.machine.start();
    kind.create_topics(&node);
    story.deploy(&node);
    for _ in 0..LIVES {
        story.life(&node);
        node = story.restart(node);
    }
    story.finish(&node);
    if !kind.is_derived() {
        // As they were sent, keys lack the partition.
        for (partition, records) in story.sent.iter_mut().enumerate() {
            for (key, _) in records {
                *key = format!("{key}/{partition}");
            }
        }
    }
    story.check(&node);
    story.tally.add(story.workers.tally);
    (story.tally, story.cuts, story.faults)
}

fn run(kind: Kind) {
    let (mut sum, mut faults) = (Tally::default(), 0);
    let seeds = seeds();
    let lives = seeds.end - seeds.start;
    for seed in seeds {
        let (tally, _, failed) = live(seed, kind);
        sum.add(tally);
        faults += failed;
    }
    eprintln!("{lives} lives: {sum:?}, {faults} failed syncs");
    if lives < SEEDS {
        return;
    }
    // A run in which nothing happened proves nothing.
    assert!(sum.runs > lives * 50 && sum.reads > lives * 5 && sum.refused > lives, "{sum:?}");
    assert!(
        sum.spoiled > lives && sum.forgotten > lives / 2 && sum.idle_runs > lives / 2,
        "{sum:?}"
    );
    assert!(faults > lives / 20, "{faults} failed syncs");
}

#[test]
fn what_an_inline_transform_with_state_puts_out_is_exact_over_every_kind_of_end() {
    run(Kind::Inline);
}

#[test]
fn what_a_derived_transform_with_state_puts_out_is_exact_over_every_kind_of_end() {
    run(Kind::Derived);
}

#[test]
fn what_two_topics_with_one_state_put_out_is_exact_over_every_kind_of_end() {
    run(Kind::Shared);
}

#[test]
fn what_is_derived_of_transactions_counts_the_committed_ones_only() {
    for seed in transaction_seeds() {
        let kind = if seed.is_multiple_of(2) { Kind::Derived } else { Kind::Shared };
        let mut story = Story::new(seed, kind);
        let mut node = story.machine.start();
        kind.create_topics(&node);
        story.deploy(&node);
        let mut client = Client::start(&node);
        for round in 0..60_u64 {
            for index in 0..story.rng.between(1, 4) {
                let partition = story.rng.below(PARTITIONS as u64) as i32;
                let key = format!("key-{}/{partition}", story.rng.below(KEYS));
                let (topic, partition) = kind.place(partition);
                client.put(&node, topic, partition, &key, &format!("{} ", round + index));
                story.send_some(&node);
                story.turn(&node, 30, false);
            }
            if story.rng.chance(60) {
                // What is open stays open.
                node = story.restart(node);
            }
            client.end(&node, story.rng.chance(600));
            story.turn(&node, 30, false);
        }
        story.finish(&node);
        story.check(&node);
    }
}
