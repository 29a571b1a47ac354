//! The machine that the node runs on: its power switch, and the node's shell on virtual time. The
//! engine and the storage are the real ones. Must never help the node to survive.

use crate::network::{Arrivals, Network};
use crate::stop::Stop;
use crate::topics::TopicKind;
use crate::trace::Trace;
use futures::future::LocalBoxFuture;
use millpond_engine::transform::{
    AdminRequest, Output, OutputTopic, TransformJob, TransformOutcome, TransformSpec,
};
use millpond_engine::{AdminId, Effect, EngineConfig, Event, LostRange, Now, Ticket};
use millpond_storage::disk::sim::{SimClock, SimDisk, SimExecutor, SimFault, SimGroup, SimRng};
use millpond_storage::{DurableEngine, Shell, StorageClock, StorageConfig};
use millpond_wire::ErrorCode;
use millpond_wire::messages::Response;
use millpond_wire::record::{Batch, BatchBuilder};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// The wall clock at the start of a run: a board without a battery begins in 1970.
const WALL_START_MS: i64 = 1_000;
/// Bounds of the time that a transform takes, in ns.
const TRANSFORM_NS: (u64, u64) = (10_000, 2_000_000);

/// A machine with a disk and a power switch.
pub struct Machine {
    executor: SimExecutor,
    disk: SimDisk,
    network: Network,
    trace: Trace,
    rng: SimRng,
    life: u64,
    running: Rc<RefCell<Option<Running>>>,
    stop: Rc<RefCell<Option<Stop>>>,
    /// Writes that were acknowledged after the node had stopped.
    late_acks: Rc<Cell<u64>>,
    checkpoints: Rc<Cell<u64>>,
    torn_tails: Rc<Cell<u64>>,
    /// Operations that had failed when this life began.
    failed_before: u64,
    /// What the wall clock is off by.
    wall_jump_ms: Rc<Cell<i64>>,
    /// Settings of the storage, from the next start on.
    pub storage: StorageConfig,
    /// Settings of the engine, from the next start on.
    pub config: EngineConfig,
}

/// The node: engine and storage on the simulated disk.
pub type Node = DurableEngine<SimDisk, SimShell>;

/// The node of one life.
struct Running {
    engine: Rc<Node>,
    /// Held for the network, which knows it weakly.
    _door: Rc<Door>,
}

impl Machine {
    /// A machine that is switched off, with this disk.
    pub fn new(
        executor: &SimExecutor,
        disk: SimDisk,
        network: Network,
        trace: Trace,
        seed: u64,
    ) -> Machine {
        Machine {
            executor: executor.clone(),
            disk,
            network,
            trace,
            rng: SimRng::new(seed),
            life: 0,
            running: Rc::default(),
            stop: Rc::default(),
            late_acks: Rc::default(),
            checkpoints: Rc::default(),
            torn_tails: Rc::default(),
            failed_before: 0,
            wall_jump_ms: Rc::default(),
            storage: storage_config(),
            config: engine_config(),
        }
    }

    fn group(&self) -> SimGroup {
        SimGroup(1_000 + self.life)
    }

    /// Switches the machine on: the node recovers, then serves.
    pub fn power_on(&mut self) {
        self.life += 1;
        self.trace.note("node", || format!("power on, life {}", self.life));
        self.failed_before = failures(&self.disk);
        let late_acks = Rc::clone(&self.late_acks);
        let shell = SimShell {
            clock: self.executor.clock(),
            network: self.network.clone(),
            life: self.life,
            rng: Rc::new(RefCell::new(self.rng.fork())),
            engine: Rc::default(),
            waiting: Rc::default(),
            last_transform_ns: Rc::default(),
            has_stopped: Rc::default(),
            late_acks,
            wall_jump_ms: Rc::clone(&self.wall_jump_ms),
        };
        let life = Life {
            number: self.life,
            disk: self.disk.clone(),
            network: self.network.clone(),
            trace: self.trace.clone(),
            shell,
            storage: self.storage.clone(),
            config: self.config.clone(),
            seed: self.rng.next_u64(),
            running: Rc::clone(&self.running),
            stop: Rc::clone(&self.stop),
            torn_tails: Rc::clone(&self.torn_tails),
        };
        self.executor.spawn_in(self.group(), life.live());
    }

    /// Cuts the power. True if the node was at work.
    pub fn power_cut(&mut self) -> bool {
        self.trace.note("node", || "the power goes".to_owned());
        let was_running = self.power_off();
        self.disk.power_cut();
        was_running
    }

    /// Kills the node where it stands.
    pub fn power_off(&mut self) -> bool {
        self.network.node_down();
        let running = self.running.borrow_mut().take();
        if let Some(running) = &running {
            let taken = running.engine.metrics().checkpoints;
            self.checkpoints.set(self.checkpoints.get() + taken);
        }
        self.executor.kill(self.group());
        running.is_some()
    }

    /// The process dies and the cache lives. Not before the device has done what it was handed: the
    /// kernel keeps a dying process, and its lock, for so long.
    pub fn process_died(&mut self) {
        assert!(!self.disk.has_in_flight(), "the device is still at work for the dead process");
        self.disk.process_died();
    }

    /// Whether the node is open and serves.
    pub fn is_serving(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// The disk.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Sets the wall clock: so many milliseconds beyond what it would show without this.
    pub fn set_wall_jump_ms(&self, jump_ms: i64) {
        self.wall_jump_ms.set(jump_ms);
    }

    /// The engine and storage at work, if the node serves.
    pub fn engine(&self) -> Option<Rc<Node>> {
        self.running.borrow().as_ref().map(|running| Rc::clone(&running.engine))
    }

    /// The offsets that the node says it lost to damage: topic, partition, from, upto.
    pub fn losses(&self) -> Vec<(String, i32, i64, i64)> {
        let running = self.running.borrow();
        let Some(running) = running.as_ref() else {
            return Vec::new();
        };
        running.engine.with_engine(|engine| {
            let named = |range: LostRange| {
                let topic = engine.catalog().by_id(range.partition.topic_id)?;
                Some((topic.name.clone(), range.partition.partition, range.from, range.upto))
            };
            engine.lost_ranges().filter_map(named).collect()
        })
    }

    /// Why the node stopped by itself, if it did and nobody has asked yet.
    pub fn take_stop(&self) -> Option<Stop> {
        self.stop.borrow_mut().take()
    }

    /// Writes that were acknowledged by a node that had stopped.
    pub fn late_acks(&self) -> u64 {
        self.late_acks.get()
    }

    /// Whether the device has failed an operation since the power went on.
    pub fn has_device_failed(&self) -> bool {
        failures(&self.disk) > self.failed_before
    }

    /// The name of the topic whose directory this is, if the node serves and knows it.
    pub fn topic_of_dir(&self, dir: &str) -> Option<String> {
        let running = self.running.borrow();
        running.as_ref()?.engine.with_engine(|engine| {
            let mut topics = engine.catalog().iter();
            topics
                .find(|topic| crate::damage::hex(&topic.id.0) == dir)
                .map(|topic| topic.name.clone())
        })
    }

    /// Starts that found a torn tail.
    pub fn torn_tails(&self) -> u64 {
        self.torn_tails.get()
    }

    /// Checkpoints taken in all lives.
    pub fn checkpoints(&self) -> u64 {
        let now =
            self.running.borrow().as_ref().map_or(0, |node| node.engine.metrics().checkpoints);
        self.checkpoints.get() + now
    }
}

/// What one life of the node needs.
struct Life {
    number: u64,
    disk: SimDisk,
    network: Network,
    trace: Trace,
    shell: SimShell,
    storage: StorageConfig,
    config: EngineConfig,
    seed: u64,
    running: Rc<RefCell<Option<Running>>>,
    stop: Rc<RefCell<Option<Stop>>>,
    torn_tails: Rc<Cell<u64>>,
}

impl Life {
    async fn live(self) {
        let opened = DurableEngine::open(
            self.disk,
            self.storage,
            self.config,
            self.seed,
            self.shell.clone(),
        )
        .await;
        let engine = match opened {
            Ok(engine) => engine,
            Err(error) => {
                *self.stop.borrow_mut() = Some(Stop::Refused(error));
                return;
            }
        };
        self.shell.attach(&engine);
        let report = engine.metrics().recovery;
        self.torn_tails.set(self.torn_tails.get() + u64::from(report.torn_tail));
        self.trace.note("node", || format!("recovered {} entries", report.entries));
        engine.submit(Event::Admin { id: AdminId(self.number), by: None, request: deploy_sieve() });
        let door = Rc::new(Door { engine: Rc::downgrade(&engine) });
        let arrivals: Rc<dyn Arrivals> = door.clone();
        self.network.node_up(self.number, Rc::downgrade(&arrivals));
        *self.running.borrow_mut() = Some(Running { engine: Rc::clone(&engine), _door: door });
        if let Err(error) = engine.run().await {
            self.shell.has_stopped.set(true);
            *self.stop.borrow_mut() = Some(Stop::Died(error));
        }
    }
}

/// Where the network puts what arrives.
struct Door {
    engine: Weak<Node>,
}

impl Arrivals for Door {
    fn arrive(&self, _life: u64, event: Event) {
        if let Some(engine) = self.engine.upgrade() {
            engine.submit(event);
        }
    }
}

/// What the device refused so far.
fn failures(disk: &SimDisk) -> u64 {
    let stats = disk.stats();
    let errors =
        [SimFault::SyncError, SimFault::SyncDirError, SimFault::WriteError, SimFault::ReadError];
    let met: u64 = errors.into_iter().map(|fault| stats.met(fault)).sum();
    met + stats.refused_full + stats.refused_read_only
}

/// A ring that a run goes around some times, and that has room for batches of 200 KiB.
pub fn storage_config() -> StorageConfig {
    StorageConfig { journal_files: 3, journal_file_bytes: 512 << 10, ..StorageConfig::small(7) }
}

/// Small limits, so that runs of a second meet them.
fn engine_config() -> EngineConfig {
    EngineConfig { tail_retain_bytes: 4 << 10, ..EngineConfig::default() }
}

fn deploy_sieve() -> AdminRequest {
    AdminRequest::DeployTransform(TransformSpec {
        name: "sieve".to_owned(),
        version: "1".to_owned(),
        topics: vec![TopicKind::Sifted.name().to_owned()],
        ..TransformSpec::default()
    })
}

/// The node's surroundings on virtual time.
#[derive(Clone)]
pub struct SimShell {
    clock: SimClock,
    network: Network,
    life: u64,
    rng: Rc<RefCell<SimRng>>,
    engine: Rc<RefCell<Weak<Node>>>,
    waiting: Rc<RefCell<Vec<TransformJob>>>,
    last_transform_ns: Rc<Cell<u64>>,
    /// The node has given up: whatever it says now is too late.
    has_stopped: Rc<Cell<bool>>,
    late_acks: Rc<Cell<u64>>,
    wall_jump_ms: Rc<Cell<i64>>,
}

impl SimShell {
    fn attach(&self, engine: &Rc<Node>) {
        *self.engine.borrow_mut() = Rc::downgrade(engine);
        for job in std::mem::take(&mut *self.waiting.borrow_mut()) {
            self.transform(job);
        }
    }

    fn transform(&self, job: TransformJob) {
        if self.engine.borrow().strong_count() == 0 {
            self.waiting.borrow_mut().push(job);
            return;
        }
        let batch = job.batch.as_ref().expect("the sieve keeps no state: only batches come");
        self.come_back(job.ticket, sift(batch));
    }

    /// Comes back after a while, in the order of the jobs.
    fn come_back(&self, ticket: Ticket, outcome: TransformOutcome) {
        let wait_ns = self.rng.borrow_mut().between(TRANSFORM_NS.0, TRANSFORM_NS.1);
        let due_ns = (self.clock.now_ns() + wait_ns).max(self.last_transform_ns.get());
        self.last_transform_ns.set(due_ns);
        let engine = self.engine.borrow().clone();
        self.clock.schedule(due_ns, move || {
            if let Some(engine) = engine.upgrade() {
                engine.submit(Event::Transformed { ticket, outcome });
            }
        });
    }
}

impl Shell for SimShell {
    fn now(&self) -> Now {
        let mono_ms = self.clock.now_ms();
        Now { mono_ms, wall_ms: WALL_START_MS + self.wall_jump_ms.get() + mono_ms as i64 }
    }

    fn sleep_until_ms(&self, mono_ms: u64) -> LocalBoxFuture<'static, ()> {
        StorageClock::sleep_until_ms(&self.clock, mono_ms)
    }

    fn effect(&self, effect: Effect) {
        if self.has_stopped.get()
            && let Effect::Reply { response: Some(response), .. } = &effect
        {
            self.late_acks.set(self.late_acks.get() + u64::from(is_ack(response)));
        }
        match effect {
            Effect::Reply { id, response } => self.network.answer(self.life, id, response),
            Effect::Transform(job) => self.transform(job),
            // Nobody listens to administration here, and the table of transforms is one sieve.
            _ => {}
        }
    }

    fn mono_us(&self) -> u64 {
        self.clock.mono_us()
    }
}

/// Whether this tells a producer that its records are safe.
fn is_ack(response: &Response) -> bool {
    let Response::Produce(response) = response else {
        return false;
    };
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions.any(|partition| partition.error_code == ErrorCode::None.code())
}

/// The transform of the run: drops every record whose sequence is odd.
fn sift(batch: &Batch) -> TransformOutcome {
    let section = batch.decompress(1 << 24).expect("a batch of a client of this run");
    let mut kept = BatchBuilder::like(batch);
    for record in batch.records(&section) {
        let record = record.expect("a whole record");
        let id = crate::client::decode_value(record.value.unwrap_or_default());
        if id.sequence.is_multiple_of(2) {
            kept.push_record(&record).expect("it was in a batch before");
        }
    }
    if kept.len() as u32 == batch.records_count() {
        return TransformOutcome::Untouched { state: Vec::new() };
    }
    let outputs = if kept.is_empty() {
        Vec::new()
    } else {
        let batch = kept.build_batch().expect("a part of a batch");
        vec![Output { topic: OutputTopic::Same, batch }]
    };
    TransformOutcome::Changed { outputs, state: Vec::new() }
}
