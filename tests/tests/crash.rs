//! kill -9 at random moments under load, over and over on the same data: every acknowledged record
//! is there once, in order, at the offset that was acknowledged; every other one at most once;
//! committed group offsets do not go back. (What a missing sync loses, kill -9 cannot show, since
//! the page cache survives it: see the simulator in `tests/sim`.)
//!
//!     MILLPOND_SEED=7 MILLPOND_CRASH_ROUNDS=200 cargo test -p millpond-tests --test crash

use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::dice::Dice;
use millpond_tests::history::{RecordId, Violation};
use millpond_tests::kafka::Kafka;
use millpond_tests::load::{GROUP, Load, Progress, Stream, record_of};

const ROUNDS: u64 = 200;

/// How often everything is read back from the start and judged.
const ROUNDS_PER_CHECK: u64 = 20;

#[test]
fn acknowledged_records_and_commits_survive_kill_9_under_load() {
    let seed = Dice::seed_from_environment();
    let rounds = match std::env::var("MILLPOND_CRASH_ROUNDS") {
        Ok(text) => text.parse().expect("MILLPOND_CRASH_ROUNDS: a number"),
        Err(_) => ROUNDS,
    };
    println!(
        "again: MILLPOND_SEED={seed} MILLPOND_CRASH_ROUNDS={rounds} \
         cargo test -p millpond-tests --test crash"
    );
    let mut scene = Scene::open(Dice::new(seed));
    for round in 1..=rounds {
        scene.crash(round);
        if round % ROUNDS_PER_CHECK == 0 {
            scene.check(&format!("round {round}, seed {seed}"));
        }
    }
    scene.close(rounds, seed);
}

struct Scene {
    broker: Broker,
    load: Load,
    dice: Dice,
    progress: Arc<Progress>,
    /// The first goes through no transform, the second through a filter.
    streams: [Stream; 2],
}

impl Scene {
    fn open(mut dice: Dice) -> Scene {
        let broker = Broker::start();
        let progress = Arc::new(Progress::default());
        let streams = [
            Stream::new("plain", 4, false, &progress),
            Stream::new("filtered", 2, true, &progress),
        ];
        let mut kafka = kafka(&broker);
        for stream in &streams {
            kafka.create_topic(stream.topic, stream.partitions).expect("a topic");
        }
        deploy_filter(&broker, streams[1].topic);
        let mut load = Load::new(broker.kafka(), dice.fork());
        load.steady_over_tcp(&streams[0]);
        load.steady_over_tcp(&streams[0]);
        load.steady_over_tcp(&streams[1]);
        load.committer(&streams[0]);
        let mut scene = Scene { broker, load, dice, progress, streams };
        scene.fresh_quic_producers();
        scene
    }

    fn fresh_quic_producers(&mut self) {
        self.load.fleeting_over_quic(&self.streams[0]);
        self.load.fleeting_over_quic(&self.streams[1]);
    }

    /// Kill the broker after a random number of acknowledgements; now and then also while it is
    /// coming back.
    fn crash(&mut self, round: u64) {
        let wanted = self.dice.within(1, 1500);
        let came = self.progress.wait_for(wanted, PATIENCE);
        assert!(came > 0, "round {round}: nothing is acknowledged any more");
        self.broker.kill();
        self.load.end_fleeting();
        let killed = Instant::now();
        let mut times = 1;
        while self.dice.within(0, 5) == 0 {
            self.broker.restart_without_waiting();
            let moment = Duration::from_micros(self.dice.within(100, 60_000));
            self.broker.log().wait_for_news(moment);
            times += 1;
        }
        self.broker.restart();
        let back = killed.elapsed().as_millis();
        println!("round {round:4}: killed {times} times after {came:5} acks, back in {back:5} ms");
        self.fresh_quic_producers();
    }

    /// Read everything back and judge it.
    fn check(&self, when: &str) {
        let mut kafka = kafka(&self.broker);
        let mut violations: Vec<Violation> = Vec::new();
        for stream in &self.streams {
            let before = stream.history().clone();
            for partition in 0..stream.partitions {
                let found = read(&mut kafka, stream, partition);
                let history = stream.history();
                violations.extend(history.check_partition(&before, partition, 0, found));
            }
        }
        let stream = &self.streams[0];
        let before = stream.history().clone();
        for partition in 0..stream.partitions {
            let found = kafka.committed(GROUP, stream.topic, partition).expect("a commit");
            violations.extend(stream.history().check_commit(&before, GROUP, partition, found));
        }
        let first: Vec<String> = violations.iter().take(20).map(ToString::to_string).collect();
        let (count, first) = (violations.len(), first.join("\n  "));
        assert!(violations.is_empty(), "{when}: {count} violations, first\n  {first}");
    }

    fn close(self, rounds: u64, seed: u64) {
        let Scene { broker, load, dice, progress, streams } = self;
        let totals = load.finish();
        let load = Load::new(broker.kafka(), dice.clone());
        let scene = Scene { broker, load, dice, progress, streams };
        scene.check(&format!("at the end, seed {seed}"));
        // A run that did nothing proves nothing.
        for stream in &scene.streams {
            let count = stream.history().acknowledged_count() as u64;
            println!("{}: {count} records acknowledged", stream.topic);
            assert!(count >= rounds, "{}: only {count} records acknowledged", stream.topic);
        }
        println!("{totals:?}");
        assert!(totals.commits >= rounds, "too few commits: {totals:?}");
        assert!(totals.over_quic >= rounds, "too little came over QUIC: {totals:?}");
    }
}

#[track_caller]
fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn read(kafka: &mut Kafka, stream: &Stream, partition: i32) -> Vec<(i64, RecordId)> {
    let found = kafka.read(stream.topic, partition, 0);
    let found = found.unwrap_or_else(|error| panic!("{}/{partition}: {error}", stream.topic));
    let named = found.into_iter().map(|record| {
        let name = record.key.as_deref().and_then(record_of);
        (record.offset, name.unwrap_or_else(|| panic!("a record that no load made: {record:?}")))
    });
    named.collect()
}

fn deploy_filter(broker: &Broker, topic: &str) {
    let module = broker.file("threshold.wasm", millpond_guests::THRESHOLD);
    let http = broker.http();
    let words = ["transform", "--http", &http, "deploy", "warm", "--module", &module];
    let more = ["--topic", topic, "--set", "field=celsius", "--set", "min=50"];
    broker.cli(&[&words[..], &more[..]].concat()).expect_success();
}
