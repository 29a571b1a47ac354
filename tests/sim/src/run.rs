//! One run of one seed, from an empty disk to the verdict. Must never depend on anything but the
//! seed and the storm that it is given.

use crate::client::{self, Surroundings};
use crate::committed::{CommittedReader, judge_at_the_end};
use crate::damage::Damage;
use crate::fleeting::FleetingTopic;
use crate::group::{Committer, look_at_commit};
use crate::history::Partition;
use crate::member::Member;
use crate::network::Network;
use crate::node::Machine;
use crate::oracle::Oracle;
use crate::producer::ProducerLane;
use crate::reader::{self, Reader};
use crate::stop::{Cause, Stop};
use crate::storm::{Gale, Storm};
use crate::topics::{Rule, TopicKind, plain_partitions};
use crate::trace::Trace;
use crate::transactor::Transactor;
use crate::trimmer::Trimmer;
use crate::txn_books::{Counts, TxnBooks};
use millpond_storage::FatalDiskError;
use millpond_storage::disk::sim::{SimDisk, SimExecutor, SimRng, SimTask};
use std::cell::Cell;
use std::rc::Rc;

/// What a run did; a run that did nothing proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Records acknowledged.
    pub acknowledged: usize,
    /// Records that readers were shown.
    pub reads: u64,
    /// Checkpoints that were taken.
    pub checkpoints: u64,
    /// Gales that were met, by [`Gale`].
    pub gales: [u64; Gale::ALL.len()],
    /// Power cuts that met the node serving, not still recovering.
    pub cut_under_way: u64,
    /// Unsynced writes that power cuts lost, tore, or kept though an older one went.
    pub unsynced: [u64; 3],
    /// Starts that found a torn tail and dropped it.
    pub torn_tails: u64,
    /// Times that the node stopped because the device failed it.
    pub stopped: u64,
    /// Starts that were refused because of damage, rightly.
    pub refused: u64,
    /// Ranges of offsets that the node gave up because of damage, rightly.
    pub holes: u64,
    /// Offsets that the node said it cannot read, rightly.
    pub unreadable: u64,
    /// Topics that were filled, judged and deleted.
    pub topics_ended: u64,
    /// Acknowledged records that went, as their topic's window of loss allows.
    pub lost_early: u64,
    /// What became of transactions.
    pub transactions: Counts,
    /// Decides whether two runs were the same.
    pub trace_hash: u64,
}

impl Report {
    /// Adds another run's.
    pub fn add(&mut self, other: &Report) {
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.checkpoints += other.checkpoints;
        for (sum, more) in self.gales.iter_mut().zip(other.gales) {
            *sum += more;
        }
        self.cut_under_way += other.cut_under_way;
        for (sum, more) in self.unsynced.iter_mut().zip(other.unsynced) {
            *sum += more;
        }
        self.torn_tails += other.torn_tails;
        self.stopped += other.stopped;
        self.refused += other.refused;
        self.holes += other.holes;
        self.unreadable += other.unreadable;
        self.topics_ended += other.topics_ended;
        self.lost_early += other.lost_early;
        self.transactions.add(&other.transactions);
    }

    /// How often a kind of gale was met.
    pub fn met(&self, gale: Gale) -> u64 {
        self.gales[gale as usize]
    }
}

/// After the storm the node has so long, in virtual ms, to acknowledge everything.
const SETTLE_MS_MAX: u64 = 60_000;
/// How often it is looked whether the node has stopped, in virtual us.
const LOOK_US: u64 = 2_000;
/// The producers of topics that come and go are counted from here.
const FLEETING_PRODUCERS: u32 = 1_000;

/// Runs a seed.
///
/// # Errors
/// What did not hold, the last events before it, and how to run it again.
pub fn run_seed(seed: u64, storm: Storm) -> Result<Report, String> {
    let executor = SimExecutor::new(seed);
    let trace = Trace::new(executor.clock());
    let mut rng = SimRng::new(seed ^ 0x006d_696c_6c70_6f6e);
    let disk = SimDisk::new(executor.clock(), rng.next_u64());
    let network = Network::new(executor.clock(), rng.fork());
    let oracle = Oracle::new(trace.clone());
    let world = Surroundings {
        clock: executor.clock(),
        network: network.clone(),
        oracle: oracle.clone(),
        txns: TxnBooks::new(oracle.clone()),
        trace: trace.clone(),
        is_over: Rc::new(Cell::new(false)),
    };
    let mut run = Run {
        machine: Machine::new(&executor, disk, network, trace.clone(), rng.next_u64()),
        executor,
        world,
        rng,
        calm_ms: storm.calm_ms,
        topics: storm.topics,
        damage: None,
        restart_at_ns: None,
        has_served: false,
        report: Report::default(),
    };
    run.weather(storm);
    run.verdict();
    let report = Report {
        acknowledged: oracle.acknowledged_count(),
        reads: oracle.reads(),
        checkpoints: run.machine.checkpoints(),
        holes: oracle.holes(),
        unreadable: oracle.unreadable_count(),
        topics_ended: oracle.topics_ended(),
        lost_early: oracle.lost_early(),
        transactions: run.world.txns.counts(),
        trace_hash: trace.hash(),
        torn_tails: run.machine.torn_tails(),
        unsynced: {
            let stats = run.machine.disk().stats();
            [stats.writes_lost, stats.writes_torn, stats.writes_reordered]
        },
        ..run.report
    };
    run.machine.power_off();
    let violations = oracle.violations();
    if violations.is_empty() { Ok(report) } else { Err(failure(seed, storm, &violations, &trace)) }
}

/// A run under way.
pub(crate) struct Run {
    pub(crate) executor: SimExecutor,
    pub(crate) world: Surroundings,
    pub(crate) machine: Machine,
    pub(crate) rng: SimRng,
    pub(crate) calm_ms: (u64, u64),
    topics: &'static [TopicKind],
    /// What was done to the disk while the power was off, until the node serves.
    pub(crate) damage: Option<Damage>,
    /// When whoever looks after the node starts it again.
    pub(crate) restart_at_ns: Option<u64>,
    /// Whether the node was ever open.
    has_served: bool,
    pub(crate) report: Report,
}

impl Run {
    /// The stormy phase, then the calm one, at whose end every client is done.
    fn weather(&mut self, storm: Storm) {
        self.turn_on();
        let world = self.world.clone();
        let clients = {
            let (rng, executor) = (self.rng.fork(), self.executor.clone());
            self.executor.spawn(async move {
                client::create_topics(&world, storm.topics).await;
                start_clients(&executor, &world, storm, rng)
            })
        };
        for gale in storm.draw(&mut self.rng) {
            self.pass_calm();
            if self.has_failed() {
                return;
            }
            self.world.trace.note("gale", || format!("{gale:?}"));
            if self.blow(gale) {
                self.report.gales[gale as usize] += 1;
            }
        }
        self.pass_ms(storm.calm_ms.1);
        self.world.is_over.set(true);
        self.settle(&clients);
    }

    /// Waits until every client is done.
    fn settle(&mut self, clients: &SimTask<Vec<Task>>) {
        let deadline_ns = self.executor.clock().now_ns() + SETTLE_MS_MAX * 1_000_000;
        let mut tasks = None;
        while self.executor.clock().now_ns() < deadline_ns {
            tasks = tasks.or_else(|| clients.take());
            let is_done = |tasks: &Vec<Task>| tasks.iter().all(|task| task.is_done());
            if self.has_failed() || tasks.as_ref().is_some_and(is_done) {
                return;
            }
            self.pass_ms(20);
        }
        let left = tasks.map(|tasks| tasks.iter().filter(|task| !task.is_done()).count());
        self.world.oracle.violated(format!(
            "no progress: {left:?} clients are not done {SETTLE_MS_MAX} ms after the storm"
        ));
    }

    /// Reads everything back and holds it against the books.
    fn verdict(&mut self) {
        if self.has_failed() {
            return;
        }
        let (world, topics) = (self.world.clone(), self.topics);
        let reading = self.executor.spawn(async move {
            let milled = topics.iter().filter(|kind| kind.rule() == Rule::Transactional);
            for partition in milled.flat_map(|kind| kind.places()) {
                judge_at_the_end(&world, partition).await;
            }
            world.txns.judge_sources();
            let shown = world.oracle.begin_final_reading();
            for partition in plain_partitions(topics) {
                reader::read_all(&world, partition).await;
                look_at_commit(&world, partition).await;
                world.oracle.judge(partition, &shown);
            }
        });
        let deadline_ns = self.executor.clock().now_ns() + SETTLE_MS_MAX * 1_000_000;
        while !reading.is_done() && !self.has_failed() {
            if self.executor.clock().now_ns() >= deadline_ns {
                let what = "no progress: the final reading does not end".to_owned();
                return self.world.oracle.violated(what);
            }
            self.pass_ms(20);
        }
    }

    /// After the first broken promise the rest is noise.
    pub(crate) fn has_failed(&self) -> bool {
        !self.world.oracle.violations().is_empty()
    }

    /// Lets some seeded while pass.
    pub(crate) fn pass_calm(&mut self) {
        let calm_ms = self.rng.between(self.calm_ms.0, self.calm_ms.1);
        self.pass_ms(calm_ms);
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.pass_us(ms * 1_000);
    }

    pub(crate) fn pass_us(&mut self, us: u64) {
        let until_ns = self.executor.clock().now_ns() + us * 1_000;
        while self.executor.clock().now_ns() < until_ns && !self.has_failed() {
            let now_ns = self.executor.clock().now_ns();
            self.executor.run_until_ns(until_ns.min(now_ns + LOOK_US * 1_000));
            self.look_after_node();
        }
    }

    /// Cuts the power. True if the node was at work.
    pub(crate) fn cut(&mut self) -> bool {
        // Nobody restarts a process of a machine that is off.
        self.restart_at_ns = None;
        self.world.oracle.node_died();
        self.machine.power_cut()
    }

    /// Kills the process.
    pub(crate) fn kill(&mut self) {
        self.world.oracle.node_died();
        self.machine.power_off();
    }

    /// Switches the machine on.
    pub(crate) fn turn_on(&mut self) {
        self.restart_at_ns = None;
        self.machine.power_on();
    }

    /// What whoever runs the node does: looks why it stopped, and starts it again.
    fn look_after_node(&mut self) {
        if self.machine.late_acks() > 0 {
            let what = "a write was acknowledged after the node had stopped".to_owned();
            return self.world.oracle.violated(what);
        }
        if let Some(stop) = self.machine.take_stop() {
            self.world.trace.note("node", || stop.to_string());
            self.take_stop(&stop);
        }
        if self.machine.is_serving() {
            self.has_served = true;
            self.take_losses();
        }
        let now_ns = self.executor.clock().now_ns();
        if self.restart_at_ns.is_some_and(|at_ns| at_ns <= now_ns)
            && !self.machine.disk().has_in_flight()
        {
            self.machine.process_died();
            self.turn_on();
        }
    }

    /// The node may give up what damage took, if it says so; and only then.
    fn take_losses(&mut self) {
        let is_damaged = self.damage.take().is_some();
        for (topic, index, from, upto) in self.machine.losses() {
            if !self.world.oracle.lost(&topic, index, (from, upto), is_damaged) {
                let what = format!("{topic}/{index} lost {from} to {upto} without damage");
                return self.world.oracle.violated(what);
            }
        }
    }

    fn take_stop(&mut self, stop: &Stop) {
        match stop.cause() {
            Cause::Device(error) if self.machine.has_device_failed() => {
                // A disk that takes no more is lived through, but for the journal's own writes on a
                // read-only one, and for the making of a new directory.
                let must_live = match stop {
                    Stop::Died(FatalDiskError::Checkpoint(_) | FatalDiskError::Direct(_)) => {
                        error.is_refusal()
                    }
                    Stop::Died(_) => error.is_no_space(),
                    Stop::Refused(_) => error.is_no_space() && self.has_served,
                };
                if must_live {
                    return self.world.oracle.violated(format!("a full disk ended it: {stop}"));
                }
                self.report.stopped += 1;
            }
            Cause::Damage if self.damage.is_some() => {
                self.report.refused += 1;
                // It says that it changed nothing: then this makes it whole.
                if let Some(damage) = self.damage.take() {
                    damage.heal(self.machine.disk());
                }
            }
            _ => return self.world.oracle.violated(format!("the node stopped: {stop}")),
        }
        self.kill();
        if self.rng.chance(300) {
            self.machine.disk().power_cut();
        }
        let pause_ms = self.rng.between(1, 50);
        self.restart_at_ns = Some(self.executor.clock().now_ns() + pause_ms * 1_000_000);
    }
}

type Task = SimTask<()>;

fn start_clients(
    executor: &SimExecutor,
    world: &Surroundings,
    storm: Storm,
    mut rng: SimRng,
) -> Vec<Task> {
    let mut tasks = Vec::new();
    let all: Vec<Partition> = plain_partitions(storm.topics).collect();
    for producer in 0..storm.lanes {
        let partition = match storm.has_transactions {
            // Every worker has something to consume.
            true => all[producer as usize % all.len()],
            false => all[rng.below(all.len() as u64) as usize],
        };
        let lane = ProducerLane { world: world.clone(), producer, partition, rng: rng.fork() };
        tasks.push(executor.spawn(lane.run()));
    }
    for lane in 0..storm.fleeting {
        let first_producer = FLEETING_PRODUCERS * (lane as u32 + 1);
        let topic = FleetingTopic { world: world.clone(), lane, first_producer, rng: rng.fork() };
        tasks.push(executor.spawn(topic.run()));
    }
    for kind in storm.topics {
        let partition = kind.places().next().expect("every topic has partitions");
        if let TopicKind::Plain | TopicKind::Sifted = kind {
            let committer = Committer { world: world.clone(), partition, rng: rng.fork() };
            tasks.push(executor.spawn(committer.run()));
        }
        if let TopicKind::Trimmed = kind {
            let trimmer = Trimmer { world: world.clone(), partition, rng: rng.fork() };
            tasks.push(executor.spawn(trimmer.run()));
        }
    }
    if let Some(partition) = all.first() {
        for (group, is_new) in [("keepers", false), ("new-keepers", true)] {
            let (world, partition, rng) = (world.clone(), *partition, rng.fork());
            tasks.push(executor.spawn(Member { world, group, is_new, partition, rng }.run()));
        }
    }
    if storm.has_transactions {
        start_mill(executor, world, &mut tasks, &mut rng);
    }
    for partition in all {
        let reader = Reader { world: world.clone(), partition, rng: rng.fork() };
        tasks.push(executor.spawn(reader.run()));
    }
    tasks
}

/// Transactional workers, and readers of what they commit.
fn start_mill(
    executor: &SimExecutor,
    world: &Surroundings,
    tasks: &mut Vec<Task>,
    rng: &mut SimRng,
) {
    for (worker, source) in (0..).zip(TopicKind::Grain.places()) {
        let transactor = Transactor::new(world.clone(), worker, source, rng.fork());
        tasks.push(executor.spawn(transactor.run()));
    }
    for partition in TopicKind::Flour.places() {
        let reader = CommittedReader { world: world.clone(), partition, rng: rng.fork() };
        tasks.push(executor.spawn(reader.run()));
    }
}

fn failure(seed: u64, storm: Storm, violations: &[String], trace: &Trace) -> String {
    let shown: String = violations.iter().take(10).map(|line| format!("  {line}\n")).collect();
    format!(
        "seed {seed}: {} promises broken, the first of them:\n{shown}\nthe last events:\n{}\n\
         run it again:  MILLPOND_SIM_SEED={seed} cargo test -p millpond-sim --test {}\n",
        violations.len(),
        trace.text(),
        storm.test
    )
}
