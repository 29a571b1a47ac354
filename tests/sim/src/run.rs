//! One run of one seed, from an empty disk to the verdict. Must never depend on anything but the
//! seed and the storm that it is given.

use crate::client::{self, Committer, PARTITIONS, ProducerLane, Reader, SIFTED_BASE, Surroundings};
use crate::history::Partition;
use crate::network::Network;
use crate::node::Machine;
use crate::oracle::Oracle;
use crate::trace::Trace;
use millpond_storage::disk::sim::{SimDisk, SimExecutor, SimRng};
use std::cell::Cell;
use std::rc::Rc;

/// How hard a run is.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// Power cuts, the node running some while between them.
    pub power_cuts: u64,
    /// Bounds of that while, in virtual ms.
    pub calm_ms: (u64, u64),
    /// Producers.
    pub lanes: u32,
}

impl Default for Storm {
    fn default() -> Storm {
        Storm { power_cuts: 4, calm_ms: (5, 400), lanes: 5 }
    }
}

/// What a run did; a run that did nothing proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Records acknowledged.
    pub acknowledged: usize,
    /// Records that readers were shown.
    pub reads: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Power cuts that met the node serving, not still recovering.
    pub cut_under_way: u64,
    /// Checkpoints that were taken.
    pub checkpoints: u64,
}

/// After the storm the node has so long, in virtual ms, to acknowledge everything.
const SETTLE_MS_MAX: u64 = 60_000;

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
        trace: trace.clone(),
        is_over: Rc::new(Cell::new(false)),
    };
    let mut run = Run {
        machine: Machine::new(&executor, disk, network, trace.clone(), rng.next_u64()),
        executor,
        world,
        rng,
        report: Report::default(),
    };
    run.weather(storm);
    run.verdict();
    let report = Report {
        acknowledged: oracle.acknowledged_count(),
        reads: oracle.reads(),
        checkpoints: run.machine.checkpoints(),
        ..run.report
    };
    run.machine.power_off();
    let violations = oracle.violations();
    if violations.is_empty() { Ok(report) } else { Err(failure(seed, &violations, &trace)) }
}

struct Run {
    executor: SimExecutor,
    world: Surroundings,
    machine: Machine,
    rng: SimRng,
    report: Report,
}

impl Run {
    /// The stormy phase, then the calm one, at whose end every client is done.
    fn weather(&mut self, storm: Storm) {
        self.machine.power_on();
        let world = self.world.clone();
        let clients = {
            let (lanes, rng) = (storm.lanes, self.rng.fork());
            let executor = self.executor.clone();
            self.executor.spawn(async move {
                client::create_topics(&world).await;
                start_clients(&executor, &world, lanes, rng)
            })
        };
        for _ in 0..storm.power_cuts {
            if self.has_failed() {
                return;
            }
            self.pass_ms(self.rng.clone().between(storm.calm_ms.0, storm.calm_ms.1));
            let _ = self.rng.next_u64();
            self.report.power_cuts += 1;
            self.report.cut_under_way += u64::from(self.machine.power_cut());
            self.pass_ms(2);
            // Brown-outs repeat: sometimes the power goes again while the node still recovers.
            while self.rng.chance(250) {
                self.machine.power_on();
                self.pass_us(self.rng.clone().between(0, 8_000));
                let _ = self.rng.next_u64();
                self.machine.power_cut();
            }
            self.machine.power_on();
        }
        self.pass_ms(storm.calm_ms.1);
        self.world.is_over.set(true);
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
        let world = self.world.clone();
        let reading = self.executor.spawn(async move {
            let shown = world.oracle.begin_final_reading();
            for partition in partitions() {
                client::read_all(&world, partition).await;
                client::look_at_commit(&world, partition).await;
                world.oracle.judge(partition, &shown);
            }
        });
        let deadline_ns = self.executor.clock().now_ns() + SETTLE_MS_MAX * 1_000_000;
        while !reading.is_done() && self.executor.clock().now_ns() < deadline_ns {
            self.pass_ms(20);
        }
        if !reading.is_done() {
            self.world.oracle.violated("no progress: the final reading does not end".to_owned());
        }
    }

    /// After the first broken promise the rest is noise.
    fn has_failed(&self) -> bool {
        !self.world.oracle.violations().is_empty()
    }

    fn pass_ms(&mut self, ms: u64) {
        self.pass_us(ms * 1_000);
    }

    fn pass_us(&mut self, us: u64) {
        let until_ns = self.executor.clock().now_ns() + us * 1_000;
        self.executor.run_until_ns(until_ns);
        if let Some(error) = self.machine.take_fatal_error() {
            self.world.oracle.violated(format!("the node stopped: {error}"));
        }
    }
}

type Task = millpond_storage::disk::sim::SimTask<()>;

fn start_clients(
    executor: &SimExecutor,
    world: &Surroundings,
    lanes: u32,
    mut rng: SimRng,
) -> Vec<Task> {
    let mut tasks = Vec::new();
    for producer in 0..lanes {
        let all: Vec<Partition> = partitions().collect();
        let partition = all[rng.below(all.len() as u64) as usize];
        let lane = ProducerLane { world: world.clone(), producer, partition, rng: rng.fork() };
        tasks.push(executor.spawn(lane.run()));
    }
    for partition in [0, SIFTED_BASE] {
        let committer = Committer { world: world.clone(), partition, rng: rng.fork() };
        tasks.push(executor.spawn(committer.run()));
    }
    for partition in partitions() {
        let reader = Reader { world: world.clone(), partition, rng: rng.fork() };
        tasks.push(executor.spawn(reader.run()));
    }
    tasks
}

/// Every partition of the run, as the oracle counts them.
fn partitions() -> impl Iterator<Item = Partition> {
    (0..PARTITIONS).chain((0..PARTITIONS).map(|index| SIFTED_BASE + index))
}

fn failure(seed: u64, violations: &[String], trace: &Trace) -> String {
    let shown: String = violations.iter().take(10).map(|line| format!("  {line}\n")).collect();
    format!(
        "seed {seed}: {} promises broken, the first of them:\n{shown}\nthe last events:\n{}\n\
         run it again:  MILLPOND_SIM_SEED={seed} cargo test -p millpond-sim --test power_cuts\n",
        violations.len(),
        trace.text()
    )
}
