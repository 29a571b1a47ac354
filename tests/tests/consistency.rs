//! The checker over histories of clients that lived through kill -9 of the broker, being slow
//! themselves, rebalances and storms of transactions. What they were told, all of them together,
//! must be what one log would have told them (`tests/src/checker` has the rules).
//!
//! Each test prints its seed, and how to run it again or for longer:
//!
//!     MILLPOND_SEED=7 MILLPOND_HISTORY_SECONDS=600 cargo test -p millpond-tests --test consistency

use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::checker::check;
use millpond_tests::checker::event::{History, Outcome, Place, What};
use millpond_tests::clients::python_home;
use millpond_tests::crew::{Crew, MemberPlan, ProcessPlan, WorkerPlan};
use millpond_tests::dice::Dice;
use millpond_tests::kafka::Kafka;
use std::time::{Duration, Instant};

/// How long each test makes history, unless it is told otherwise.
const SECONDS: u64 = 8;

/// Acknowledgements between two deaths of the broker.
const LIFE: (u64, u64) = (20, 500);

/// What a group lags behind when the last fault is over, it has caught up with after so long. A member
/// of the new protocol whose farewell was lost with the broker is missed after 45 s, as by Kafka.
const CATCH_UP: Duration = Duration::from_secs(75);

struct Run {
    test: &'static str,
    seed: u64,
    seconds: u64,
    dice: Dice,
    broker: Broker,
    /// How many acknowledgements the broker lives for.
    life: (u64, u64),
    /// How long it lives, if nothing counts its acknowledgements.
    life_ms: (u64, u64),
}

impl Run {
    fn begin(test: &'static str, setup: Setup, topics: &[(&str, i32)]) -> Run {
        let seed = Dice::seed_from_environment();
        let seconds = match std::env::var("MILLPOND_HISTORY_SECONDS") {
            Ok(text) => text.parse().expect("MILLPOND_HISTORY_SECONDS: a number"),
            Err(_) => SECONDS,
        };
        println!(
            "again: MILLPOND_SEED={seed} MILLPOND_HISTORY_SECONDS={seconds} \
             cargo test -p millpond-tests --test consistency {test}"
        );
        let broker = setup.start();
        let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).expect("a broker");
        for (topic, partitions) in topics {
            kafka.create_topic(topic, *partitions).expect("a topic");
        }
        Run { test, seed, seconds, dice: Dice::new(seed), broker, life: LIFE, life_ms: (0, 0) }
    }

    fn crew(&mut self) -> Crew {
        Crew::new(self.broker.kafka(), self.dice.fork())
    }

    /// Who plays a role of `confluent_kafka_history.py`.
    fn librdkafka(&self, role: &str, name: &str) -> ProcessPlan {
        let (interpreter, scripts) = python_home();
        ProcessPlan {
            interpreter,
            script: scripts.join("confluent_kafka_history.py"),
            role: role.to_owned(),
            name: name.to_owned(),
            diary: self.broker.file(&format!("{name}.jsonl"), b"").into(),
        }
    }

    /// Kills the broker again and again while the crew is at work; how often.
    fn weather(&mut self, crew: &Crew) -> u64 {
        let over = Instant::now() + Duration::from_secs(self.seconds);
        let mut deaths = 0;
        while Instant::now() < over {
            let wanted = self.dice.within(self.life.0, self.life.1);
            let left = over.saturating_duration_since(Instant::now());
            if self.life_ms == (0, 0) {
                if crew.progress().wait_for(wanted, left) < wanted {
                    break;
                }
            } else {
                // Of processes nothing is counted here.
                let (least, most) = self.life_ms;
                let life = Duration::from_millis(self.dice.within(least, most));
                crew.progress().wait_for(u64::MAX / 2, life.min(left));
            }
            self.broker.kill();
            deaths += 1;
            self.broker.restart();
        }
        deaths
    }

    /// A group that is not stuck reaches what is the end now, though its members come and go.
    fn expect_progress(&self, crew: &Crew, group: &str, places: &[Place]) {
        let mut kafka = Kafka::connect(self.broker.kafka(), PATIENCE).expect("a broker");
        let give_up = Instant::now() + CATCH_UP;
        for (topic, partition) in places {
            let end = kafka.list_offset(topic, *partition, -1).expect("an end");
            loop {
                let found = kafka.committed(group, topic, *partition).expect("an offset");
                if found >= end {
                    break;
                }
                let place = format!("{group} of {topic}/{partition}");
                assert!(Instant::now() < give_up, "{place} is stuck at {found}, the end was {end}");
                crew.progress().wait_for(u64::MAX / 2, Duration::from_millis(50));
            }
        }
    }

    /// Holds a history against the rules; a run in which too little happened fails.
    fn judge(self, history: &History, deaths: u64) {
        let violations = check(history);
        let count = Count::of(history);
        println!("{}: killed {deaths} times, {count:?}", self.test);
        let first: Vec<String> = violations.iter().take(8).map(ToString::to_string).collect();
        assert!(
            violations.is_empty(),
            "{}: seed {}: {} violations, the first of them\n  {}",
            self.test,
            self.seed,
            violations.len(),
            first.join("\n  ")
        );
        assert!(deaths >= self.seconds / 8, "killed only {deaths} times");
        assert!(count.sent > 20 * self.seconds, "hardly anything was sent: {count:?}");
        assert!(count.polled > 20 * self.seconds, "hardly anything was polled: {count:?}");
    }
}

/// What a history holds.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sent: u64,
    polled: u64,
    commits: u64,
    refused_commits: u64,
    owned: u64,
    generations: i32,
    committed: u64,
    aborted: u64,
    doubtful: u64,
    instances: u64,
}

impl Count {
    fn of(history: &History) -> Count {
        let mut count = Count::default();
        for event in &history.events {
            match &event.what {
                What::Send { outcome: Outcome::Ok, .. } => count.sent += 1,
                What::Poll { records, .. } => count.polled += records.len() as u64,
                What::Commit { outcome: Outcome::Ok, .. } => count.commits += 1,
                What::Commit { outcome: Outcome::Failed, .. } => count.refused_commits += 1,
                What::Own { generation, .. } => {
                    count.owned += 1;
                    count.generations = count.generations.max(*generation);
                }
                What::Init { .. } => count.instances += 1,
                What::EndTxn { is_commit, outcome, .. } => match (is_commit, outcome) {
                    (true, Outcome::Ok) => count.committed += 1,
                    (true, Outcome::Unknown) => count.doubtful += 1,
                    _ => count.aborted += 1,
                },
                _ => {}
            }
        }
        count
    }
}

fn places(topic: &str, partitions: i32) -> Vec<Place> {
    (0..partitions).map(|partition| (topic.to_owned(), partition)).collect()
}

#[test]
fn producers_and_slow_readers_agree_over_kill_9() {
    let test = "producers_and_slow_readers_agree_over_kill_9";
    let mut run = Run::begin(test, Setup::default(), &[("t", 3)]);
    let (mut crew, all) = (run.crew(), places("t", 3));
    for name in ["p0", "p1", "p2"] {
        crew.producer(name, &all);
    }
    for (place, is_committed) in all.iter().zip([false, true, false]) {
        crew.reader(&format!("r{}", place.1), place, is_committed);
    }
    let deaths = run.weather(&crew);
    let history = crew.finish(&all);
    run.judge(&history, deaths);
}

#[test]
fn groups_consume_all_of_it_over_rebalances_and_kill_9() {
    let test = "groups_consume_all_of_it_over_rebalances_and_kill_9";
    let setup = Setup::default().config("\n[groups]\ninitial_rebalance_delay_ms = 50\n");
    let mut run = Run::begin(test, setup, &[("t", 6)]);
    let (mut crew, all) = (run.crew(), places("t", 6));
    crew.producer("p0", &all);
    crew.producer("p1", &all);
    for (group, members) in [("one", 4), ("other", 2)] {
        for member in 0..members {
            crew.member(MemberPlan {
                name: format!("{group}-{member}"),
                group: group.to_owned(),
                places: all.clone(),
                is_committed: member % 2 == 0,
                session_ms: 6_000,
            });
        }
    }
    let deaths = run.weather(&crew);
    run.expect_progress(&crew, "one", &all);
    run.expect_progress(&crew, "other", &all);
    let mut history = crew.finish(&all);
    crew.committed(&mut history, "one", &all);
    crew.committed(&mut history, "other", &all);
    let count = Count::of(&history);
    assert!(count.owned > run.seconds, "hardly a rebalance: {count:?}");
    assert!(count.commits > run.seconds, "hardly a commit: {count:?}");
    run.judge(&history, deaths);
}

#[test]
fn transactions_are_whole_over_storms_and_kill_9() {
    let test = "transactions_are_whole_over_storms_and_kill_9";
    let mut run = Run::begin(test, Setup::default(), &[("source", 3), ("target", 3)]);
    run.life = (10, 150);
    let (mut crew, sources, targets) = (run.crew(), places("source", 3), places("target", 3));
    crew.producer("p0", &sources);
    for source in &sources {
        crew.worker(WorkerPlan {
            id: format!("w{}", source.1),
            is_v2: source.1 % 2 == 0,
            source: source.clone(),
            targets: targets.clone(),
            timeout_ms: 500,
        });
    }
    for place in &targets {
        crew.reader(&format!("c{}", place.1), place, true);
        crew.reader(&format!("u{}", place.1), place, false);
    }
    let deaths = run.weather(&crew);
    let history = crew.finish(&[sources, targets].concat());
    let count = Count::of(&history);
    assert!(count.committed > run.seconds / 2, "hardly a transaction: {count:?}");
    assert!(count.aborted > run.seconds / 2, "hardly an abort: {count:?}");
    run.judge(&history, deaths);
}

#[test]
fn librdkafka_consumes_exactly_once_over_its_own_deaths_and_kill_9() {
    let test = "librdkafka_consumes_exactly_once_over_its_own_deaths_and_kill_9";
    let setup = Setup::default().config("\n[groups]\ninitial_rebalance_delay_ms = 50\n");
    let mut run = Run::begin(test, setup, &[("source", 3), ("target", 3)]);
    let (mut crew, sources, targets) = (run.crew(), places("source", 3), places("target", 3));
    run.life_ms = (3_000, 6_000);
    run.seconds *= 2;
    for (role, name) in
        [("feed", "f0"), ("mill", "mill-0"), ("mill", "mill-1"), ("read", "r0"), ("read", "r1")]
    {
        crew.process(run.librdkafka(role, name));
    }
    for place in &targets {
        crew.reader(&format!("c{}", place.1), place, true);
    }
    let deaths = run.weather(&crew);
    run.expect_progress(&crew, "readers", &targets);
    let mut history = crew.finish(&[sources.clone(), targets.clone()].concat());
    crew.committed(&mut history, "mill", &sources);
    crew.committed(&mut history, "readers", &targets);
    let count = Count::of(&history);
    assert!(count.committed > run.seconds / 2, "hardly a transaction: {count:?}");
    run.judge(&history, deaths);
}
