//! Kafka Streams 4 with `exactly_once_v2`: a filter, counts with and without a repartition topic, a
//! windowed aggregate that is told when its window closes, and a join of two streams, in two
//! instances. Broker and instances are killed (kill -9) and started again while records flow, also
//! with an instance's state on disk lost, and one freezes and thaws as a zombie. What a
//! `read_committed` consumer then sees is exactly what a model says: nothing lost, nothing twice, in
//! order. In the end Kafka's own tool resets the application.
//!
//!     MILLPOND_SEED=7 MILLPOND_STREAMS_ROUNDS=40 cargo test -p millpond-tests --test kafka_streams

mod model;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use millpond_tests::binary::scratch;
use millpond_tests::broker::{BUSY_STORAGE, Broker, PATIENCE, Setup};
use millpond_tests::dice::Dice;
use millpond_tests::feeder::{Feeder, Message};
use millpond_tests::jvm::Classes;
use millpond_tests::kafka::{CallError, Kafka, now_ms};
use millpond_tests::running::Running;
use millpond_tests::witness::{Seen, Witness, look};
use millpond_wire::ErrorCode;
use tempfile::TempDir;

use model::{INPUTS, OUTPUTS, Outcome, PARTITIONS, Source, counts, differences, expected, found};

/// Each kind of death once.
const ROUNDS: usize = DEATHS.len();

/// Readings of a round.
const READINGS: usize = 300;

const APPLICATION: &str = "story";

/// Topics that the application made for itself.
const INTERNAL_TOPICS: [&str; 3] =
    ["story-by-rest-repartition", "story-sums-changelog", "story-pairs-this-join-store-changelog"];

/// ListOffsets for the end of a partition.
const LATEST: i64 = -1;

/// Small, so that a death falls between two of one round.
const BATCH: usize = 4;

/// A JVM, sessions that run out, state that is restored, on a slow machine.
const STREAMS_PATIENCE: Duration = Duration::from_secs(90);

/// Who dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    Broker,
    /// It comes back with its state directory.
    Instance(usize),
    /// It comes back without: everything is read from the changelogs.
    InstanceAndState(usize),
    BrokerAndInstance(usize),
    /// It stands still until the other has done its work, and goes on then as if nothing had been.
    Frozen(usize),
}

const DEATHS: [Death; 6] = [
    Death::Broker,
    Death::Instance(0),
    Death::BrokerAndInstance(1),
    Death::InstanceAndState(0),
    Death::Frozen(1),
    Death::Broker,
];

#[test]
fn streams_are_exact_whoever_is_killed() {
    let seed = Dice::seed_from_environment();
    let rounds = match std::env::var("MILLPOND_STREAMS_ROUNDS") {
        Ok(text) => text.parse().expect("MILLPOND_STREAMS_ROUNDS: a number"),
        Err(_) => ROUNDS,
    };
    println!(
        "again: MILLPOND_SEED={seed} MILLPOND_STREAMS_ROUNDS={rounds} \
         cargo test -p millpond-tests --test kafka_streams"
    );
    let mut scene = Scene::open(Dice::new(seed));
    for round in 0..rounds {
        let death = match DEATHS.get(round) {
            Some(death) => *death,
            None => DEATHS[scene.dice.within(0, DEATHS.len() as u64) as usize],
        };
        scene.play(round, death);
    }
    scene.close();
}

struct Scene {
    broker: Broker,
    instances: [Instance; 2],
    witness: Witness,
    feeder: Feeder,
    source: Source,
    dice: Dice,
    fed: Vec<Message>,
    work: Work,
    begun: Instant,
}

/// What the broker has done in the background, over all its lives.
#[derive(Debug, Default)]
struct Work {
    checkpoints: f64,
    /// Records.
    compacted: f64,
}

impl Work {
    fn add(&mut self, broker: &Broker) {
        let of = |metric: &str| broker.metric(metric).unwrap_or_default();
        self.checkpoints += of("millpond_checkpoints_total");
        self.compacted += of("millpond_compaction_removed_records_total");
    }
}

impl Scene {
    fn open(mut dice: Dice) -> Scene {
        let broker = Setup::default().config(BUSY_STORAGE).start();
        let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).expect("a connection");
        for topic in INPUTS.iter().chain(&OUTPUTS) {
            kafka.create_topic(topic, PARTITIONS).expect("a topic");
        }
        let begun = Instant::now();
        // A static member is back without a rebalance, another waits until its past has timed out.
        let classes = Rc::new(Classes::compile("streams", &["Streaming"]));
        let mut instances = [
            Instance::new("one", &classes, &["group.instance.id=one"]),
            Instance::new("two", &classes, &["num.stream.threads=2"]),
        ];
        instances.iter_mut().for_each(|instance| instance.start(&broker));
        instances.iter_mut().for_each(Instance::expect_running);
        println!("{:5} ms: two instances run", begun.elapsed().as_millis());
        let witness = Witness::watch(&broker, &OUTPUTS);
        let feeder = Feeder::new(broker.kafka(), broker.log().clone());
        let source = Source::new(dice.fork(), now_ms() - 120_000);
        let (fed, work) = (Vec::new(), Work::default());
        Scene { broker, instances, witness, feeder, source, dice, fed, work, begun }
    }

    /// Feed some, and let someone die at any moment of it.
    fn play(&mut self, round: usize, death: Death) {
        let before = expected(&self.fed);
        let some = self.source.some(READINGS);
        let moment = self.witness.count() + self.dice.within(1, READINGS as u64) as usize;
        let (broker, instances) = (&mut self.broker, &mut self.instances);
        let (feeder, witness, work) = (&mut self.feeder, &mut self.witness, &mut self.work);
        std::thread::scope(|scope| {
            let feeding = scope.spawn(|| feeder.feed(&some, BATCH));
            let when = format!("round {round}, before {death:?} dies");
            watch(witness, instances, &when, |seen| seen.len() >= moment);
            if matches!(death, Death::Broker | Death::BrokerAndInstance(_)) {
                work.add(broker);
            }
            die(death, broker, instances);
            feeding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        self.fed.extend(some);
        if let Death::Frozen(at) = death {
            let mut wanted = expected(&self.fed);
            // A window is closed by what comes later.
            wanted.retain(|(topic, _), _| topic != "sums");
            self.wait_for(&wanted, &format!("round {round}, with {death:?}"));
            self.instances[at].running().thaw();
        }
        println!("{:5} ms: {death:?} died", self.begun.elapsed().as_millis());
        self.wait_for(&before, &format!("round {round}, after {death:?} died"));
    }

    /// Wait until at least so much was seen of each topic.
    fn wait_for(&mut self, outcome: &Outcome, when: &str) {
        let wanted = counts(outcome);
        watch(&mut self.witness, &mut self.instances, &format!("{when}: {wanted:?}"), |seen| {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            seen.iter().for_each(|one| *counts.entry(&one.topic).or_default() += 1);
            wanted.iter().all(|(topic, count)| counts.get(topic.as_str()) >= Some(count))
        });
        println!("{:5} ms: {when}: {wanted:?}", self.begun.elapsed().as_millis());
    }

    /// Kafka's own tool makes as if the application had never run: members that are still in the
    /// group go, offsets go back to the start, topics of the application are deleted.
    fn reset(&self) {
        let mut kafka = Kafka::connect(self.broker.kafka(), PATIENCE).expect("a connection");
        assert!(INTERNAL_TOPICS.iter().all(|topic| exists(&mut kafka, topic)), "names of topics");
        let (bootstrap, topics) = (self.broker.bootstrap(), INPUTS.join(","));
        let words = ["--bootstrap-server", &bootstrap, "--application-id", APPLICATION, "--force"];
        let words = [&words[..], &["--input-topics", &topics]].concat();
        let tool = Classes::of_jars("tools");
        tool.run("org.apache.kafka.tools.StreamsResetter", &words, STREAMS_PATIENCE);
        assert!(
            !INTERNAL_TOPICS.iter().any(|topic| exists(&mut kafka, topic)),
            "they are still there"
        );
        for (topic, partition) in
            INPUTS.iter().flat_map(|topic| (0..PARTITIONS).map(move |at| (topic, at)))
        {
            let committed = kafka.committed(APPLICATION, topic, partition).expect("an offset");
            assert_eq!(committed, 0, "{topic}/{partition}");
        }
    }

    fn close(mut self) {
        let closing = self.source.closing();
        self.feeder.feed(&closing, BATCH);
        self.fed.extend(closing);
        let wanted = expected(&self.fed);
        self.wait_for(&wanted, "at the end");
        for instance in &mut self.instances {
            instance.stop();
        }
        let seen = look(&self.broker, &OUTPUTS);
        let differences = differences(&wanted, &found(&seen));
        let count = differences.len();
        let first = differences.into_iter().take(20).collect::<Vec<_>>().join("\n  ");
        assert!(count == 0, "{count} keys differ\n  {first}");
        assert_eq!(in_order(self.witness.seen()), in_order(seen), "who was there, and came later");
        self.reset();
        self.work.add(&self.broker);
        // A run that did nothing proves nothing.
        println!("{:?}", self.work);
        assert!(self.work.checkpoints > 0.0 && self.work.compacted > 0.0, "{:?}", self.work);
        let (fed, came) = (self.fed.len(), counts(&wanted));
        println!("{:5} ms: {fed} records in, {came:?} out", self.begun.elapsed().as_millis());
    }
}

/// Wait until the witness has seen something; no instance may give up before.
#[track_caller]
fn watch(
    witness: &mut Witness,
    instances: &mut [Instance; 2],
    what: &str,
    holds: impl Fn(&[Seen]) -> bool,
) {
    let give_up = Instant::now() + STREAMS_PATIENCE;
    while let Err(error) = witness.wait_until(Duration::from_millis(500), &holds) {
        instances.iter_mut().for_each(Instance::expect_alive);
        assert!(Instant::now() < give_up, "{what}: {error}");
    }
}

fn die(death: Death, broker: &mut Broker, instances: &mut [Instance; 2]) {
    match death {
        Death::Broker => broker.restart(),
        Death::Instance(at) => {
            instances[at].kill();
            instances[at].start(broker);
        }
        Death::InstanceAndState(at) => {
            instances[at].kill();
            instances[at].lose_state();
            instances[at].start(broker);
        }
        Death::Frozen(at) => instances[at].running().freeze(),
        Death::BrokerAndInstance(at) => {
            broker.kill();
            instances[at].kill();
            instances[at].start(broker);
            broker.restart();
        }
    }
}

/// Whether a topic is there.
fn exists(kafka: &mut Kafka, topic: &str) -> bool {
    match kafka.list_offset(topic, 0, LATEST) {
        Ok(_) => true,
        Err(CallError::Code(ErrorCode::UnknownTopicOrPartition)) => false,
        Err(error) => panic!("{topic}: {error}"),
    }
}

fn in_order(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort_by(|one, other| {
        (&one.topic, one.partition, one.offset).cmp(&(&other.topic, other.partition, other.offset))
    });
    seen
}

/// One instance of the application, over all its lives.
struct Instance {
    name: &'static str,
    settings: Vec<String>,
    state: TempDir,
    classes: Rc<Classes>,
    running: Option<Running>,
}

impl Instance {
    fn new(name: &'static str, classes: &Rc<Classes>, settings: &[&str]) -> Instance {
        let settings = [
            "commit.interval.ms=100",
            "session.timeout.ms=6000",
            "heartbeat.interval.ms=300",
            // A transaction of a life whose state was lost is nobody's: it has to run out.
            "transaction.timeout.ms=3000",
            // Changelogs are compacted while they are written, and read.
            "topic.segment.ms=500",
            "topic.min.cleanable.dirty.ratio=0.01",
        ]
        .iter()
        .chain(settings)
        .map(|one| (*one).to_owned());
        let (settings, classes) = (settings.collect(), classes.clone());
        Instance { name, settings, state: scratch(), classes, running: None }
    }

    fn start(&mut self, broker: &Broker) {
        let (bootstrap, state) = (broker.bootstrap(), self.state.path().display().to_string());
        let words = [bootstrap.as_str(), APPLICATION, &state];
        let words: Vec<&str> =
            words.into_iter().chain(self.settings.iter().map(String::as_str)).collect();
        self.running = Some(self.classes.start(self.name, "Streaming", &words));
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("an instance")
    }

    fn expect_running(&mut self) {
        drop(self.running().expect_line("state RUNNING", STREAMS_PATIENCE));
    }

    fn expect_alive(&mut self) {
        let running = self.running();
        running.expect_alive();
        let failed = running.log().text().contains("state ERROR");
        assert!(!failed, "{}: it gave up", self.name);
    }

    fn kill(&mut self) {
        self.running = None;
    }

    fn lose_state(&mut self) {
        let state: PathBuf = self.state.path().into();
        std::fs::remove_dir_all(&state)
            .and_then(|()| std::fs::create_dir(&state))
            .unwrap_or_else(|error| panic!("{state:?}: {error}"));
    }

    fn stop(&mut self) {
        let running = self.running();
        running.stop(STREAMS_PATIENCE);
        let closed = running.log().wait_for("closed", PATIENCE);
        assert!(closed.is_some(), "{}: it did not close", self.name);
    }
}
