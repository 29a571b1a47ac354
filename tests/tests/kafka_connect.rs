//! Kafka Connect: two workers of a distributed cluster whose whole state is in three compacted
//! topics, a file source that writes exactly once, a file sink, and a sink with a dead-letter queue.
//! Workers come, go, freeze and are killed (kill -9), the broker too, at last all at once: every line
//! of the file is in the topic once and in order, and reaches the sink's file.
//!
//!     MILLPOND_SEED=7 MILLPOND_CONNECT_ROUNDS=10 cargo test -p millpond-tests --test kafka_connect

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use millpond_tests::binary::scratch;
use millpond_tests::broker::{self, BUSY_STORAGE, Broker, Setup};
use millpond_tests::connect::{INTERNAL_TOPICS, PATIENCE, Worker, setting};
use millpond_tests::dice::Dice;
use millpond_tests::kafka::Kafka;
use millpond_tests::witness::{Seen, Witness, look};
use serde_json::json;
use tempfile::TempDir;

/// Lines that are written at a time, and that a source sends in one transaction.
const LINES: usize = 600;
const BATCH: &str = "20";

const CONNECTORS: [&str; 3] = ["source", "sink", "picky"];

#[test]
fn connect_loses_no_line_and_repeats_none_whoever_is_killed() {
    let seed = Dice::seed_from_environment();
    let rounds: usize = match std::env::var("MILLPOND_CONNECT_ROUNDS") {
        Ok(text) => text.parse().expect("MILLPOND_CONNECT_ROUNDS: a number"),
        Err(_) => 1,
    };
    println!(
        "again: MILLPOND_SEED={seed} MILLPOND_CONNECT_ROUNDS={rounds} \
         cargo test -p millpond-tests --test kafka_connect"
    );
    let mut scene = Scene::open(Dice::new(seed));
    scene.one_worker_makes_its_topics();
    scene.bad_records_go_to_the_dead_letter_queue();
    scene.a_second_worker_takes_its_share();
    for _ in 0..rounds {
        scene.a_worker_is_killed_and_comes_back();
        scene.a_worker_freezes_and_thaws();
        scene.the_broker_is_killed();
        scene.all_are_killed();
    }
    scene.a_worker_leaves();
    scene.offsets_are_shown_altered_and_forgotten();
    scene.close();
}

struct Scene {
    broker: Broker,
    workers: [Worker; 2],
    witness: Witness,
    files: TempDir,
    dice: Dice,
    written: usize,
    begun: Instant,
}

impl Scene {
    fn open(dice: Dice) -> Scene {
        let broker = Setup::default().config(BUSY_STORAGE).start();
        let mut kafka = Kafka::connect(broker.kafka(), broker::PATIENCE).expect("a connection");
        for topic in ["lines", "mixed", "dead"] {
            kafka.create_topic(topic, 1).expect("a topic");
        }
        let workers = [Worker::new("worker-one", &broker), Worker::new("worker-two", &broker)];
        let witness = Witness::watch(&broker, &["lines", "dead"]);
        let (files, begun) = (scratch(), Instant::now());
        Scene { broker, workers, witness, files, dice, written: 0, begun }
    }

    fn say(&self, what: &str) {
        println!("{:5} ms: {what}", self.begun.elapsed().as_millis());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Append lines to the source's file.
    fn write_lines(&mut self) {
        let path = self.file("in.txt");
        let mut text = String::new();
        for _ in 0..LINES {
            text.push_str(&line(self.written));
            text.push('\n');
            self.written += 1;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .unwrap_or_else(|error| panic!("{path:?}: {error}"));
    }

    /// Wait for a moment in the middle of what is being copied.
    fn expect_some_lines(&mut self) {
        let low = self.written - LINES;
        let moment = low + self.dice.within(1, LINES as u64) as usize;
        self.expect_lines(moment);
    }

    fn expect_lines(&mut self, count: usize) {
        let give_up = Instant::now() + PATIENCE;
        let holds = |seen: &[Seen]| seen.iter().filter(|one| one.topic == "lines").count() >= count;
        while let Err(error) = self.witness.wait_until(Duration::from_millis(500), holds) {
            assert!(Instant::now() < give_up, "{count} lines in the topic: {error}");
            let worker = self.workers.iter().find(|worker| worker.is_up());
            worker.map(|worker| worker.runs("source").ok());
        }
    }

    /// Wait until every line that was written is in the topic and in the sink's file.
    fn expect_all_lines(&mut self) {
        self.expect_lines(self.written);
        self.say(&format!("{} lines are in the topic", self.written));
        let (path, wanted) = (self.file("out.txt"), self.written);
        self.workers[0].until("the lines in the sink's file", |_| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: BTreeSet<&str> = text.lines().collect();
            let count = lines.len();
            (count == wanted).then_some(()).ok_or_else(|| format!("{count} of {wanted}"))
        });
        self.say(&format!("{wanted} lines are in the file"));
    }

    fn expect_all_running(&mut self) {
        for connector in CONNECTORS {
            self.workers[0].expect_running(connector);
        }
    }

    fn one_worker_makes_its_topics(&mut self) {
        self.workers[0].start();
        self.workers[0].expect_ready();
        self.say("the first worker is ready");
        for topic in INTERNAL_TOPICS {
            assert_eq!(setting(&self.broker, topic, "cleanup.policy"), "compact", "{topic}");
        }
        let (from, to) = (self.file("in.txt"), self.file("out.txt"));
        let (from, to) = (from.display().to_string(), to.display().to_string());
        self.workers[0].configure(
            "source",
            &[
                ("connector.class", "FileStreamSource"),
                ("tasks.max", "1"),
                ("file", &from),
                ("topic", "lines"),
                ("batch.size", BATCH),
                ("exactly.once.support", "required"),
            ],
        );
        self.workers[0].configure(
            "sink",
            &[
                ("connector.class", "FileStreamSink"),
                ("tasks.max", "1"),
                ("file", &to),
                ("topics", "lines"),
                ("consumer.override.isolation.level", "read_committed"),
                ("consumer.override.auto.offset.reset", "earliest"),
            ],
        );
        self.write_lines();
        self.expect_all_lines();
    }

    fn bad_records_go_to_the_dead_letter_queue(&mut self) {
        let to = self.file("good.txt").display().to_string();
        self.workers[0].configure(
            "picky",
            &[
                ("connector.class", "FileStreamSink"),
                ("tasks.max", "1"),
                ("file", &to),
                ("topics", "mixed"),
                ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
                ("value.converter.schemas.enable", "false"),
                ("errors.tolerance", "all"),
                ("errors.deadletterqueue.topic.name", "dead"),
                ("errors.deadletterqueue.topic.replication.factor", "-1"),
                ("errors.deadletterqueue.context.headers.enable", "true"),
            ],
        );
        let values: Vec<String> = (0..100).map(mixed).collect();
        let bytes: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
        let mut kafka = Kafka::connect(self.broker.kafka(), broker::PATIENCE).expect("connected");
        kafka.produce("mixed", 0, &bytes).expect("mixed records");
        let path = self.file("good.txt");
        self.workers[0].until("the good records", |_| {
            let lines = std::fs::read_to_string(&path).unwrap_or_default().lines().count();
            (lines == 90).then_some(()).ok_or_else(|| format!("{lines} of 90"))
        });
        let dead = |seen: &[Seen]| {
            seen.iter().filter(|one| one.topic == "dead").cloned().collect::<Vec<_>>()
        };
        let came = self.witness.wait_until(PATIENCE, |seen| dead(seen).len() >= 10);
        came.unwrap_or_else(|error| panic!("10 dead letters: {error}"));
        for (at, letter) in dead(&self.witness.seen()).iter().enumerate() {
            let number = at * 10 + 3;
            assert_eq!(letter.value, mixed(number));
            let header = |name: &str| letter.headers.get(&format!("__connect.errors.{name}"));
            assert_eq!(header("topic").map(String::as_str), Some("mixed"));
            assert_eq!(header("offset"), Some(&number.to_string()));
            assert_eq!(header("connector.name").map(String::as_str), Some("picky"));
            let exception = header("exception.class.name").cloned().unwrap_or_default();
            assert!(exception.ends_with("DataException"), "{:?}", letter.headers);
        }
        self.say("ten letters are dead, ninety arrived");
    }

    /// Wait until both have some of the work.
    fn expect_shares(&mut self) {
        let ids = [self.workers[0].id(), self.workers[1].id()];
        self.workers[0].until("both workers to have a share", |worker| {
            let mut shares = BTreeSet::new();
            for connector in CONNECTORS {
                shares.extend(worker.runs(connector)?);
            }
            let both = ids.iter().all(|id| shares.contains(id)) && shares.len() == 2;
            both.then_some(()).ok_or_else(|| format!("{shares:?}"))
        });
    }

    fn a_second_worker_takes_its_share(&mut self) {
        self.workers[1].start();
        self.write_lines();
        self.workers[1].expect_ready();
        self.expect_shares();
        self.expect_all_lines();
        self.say("two workers share the work");
    }

    /// Which worker has the source's task; it may leave a transaction open.
    fn worker_of_the_source(&mut self) -> usize {
        let [_, task] = self.workers[0].expect_running("source");
        self.workers.iter().position(|worker| worker.id() == task).expect("a worker")
    }

    fn a_worker_is_killed_and_comes_back(&mut self) {
        let at = self.worker_of_the_source();
        self.write_lines();
        self.expect_some_lines();
        self.workers[at].kill();
        self.say("the worker of the source is dead");
        self.write_lines();
        self.expect_all_on(1 - at);
        self.workers[at].start();
        self.workers[at].expect_ready();
        self.expect_shares();
        self.expect_all_lines();
        self.say("the work is shared again");
    }

    /// What it sends when it goes on, in the transaction that was open, is refused.
    fn a_worker_freezes_and_thaws(&mut self) {
        let at = self.worker_of_the_source();
        self.write_lines();
        self.expect_some_lines();
        self.workers[at].process().freeze();
        self.say("the worker of the source is frozen");
        self.expect_all_on(1 - at);
        self.write_lines();
        self.expect_lines(self.written);
        self.workers[at].process().thaw();
        self.write_lines();
        self.expect_shares();
        self.expect_all_lines();
        self.say("it is thawed, and the work is shared again");
    }

    /// Wait until one worker has taken over everything.
    fn expect_all_on(&mut self, at: usize) {
        let id = self.workers[at].id();
        self.workers[at].until("one worker to have it all", |worker| {
            let mut shares = BTreeSet::new();
            for connector in CONNECTORS {
                shares.extend(worker.runs(connector)?);
            }
            shares.iter().eq([&id]).then_some(()).ok_or_else(|| format!("{shares:?}"))
        });
        self.say("one worker has it all");
    }

    fn the_broker_is_killed(&mut self) {
        self.write_lines();
        self.expect_some_lines();
        self.broker.restart();
        self.say("the broker was killed and is back");
        self.write_lines();
        self.expect_all_lines();
        self.expect_shares();
    }

    fn all_are_killed(&mut self) {
        self.write_lines();
        self.expect_some_lines();
        self.broker.kill();
        self.workers.iter_mut().for_each(Worker::kill);
        self.write_lines();
        self.broker.restart();
        // One by one: a worker gives its tasks up when it asks a leader that is not ready yet.
        for at in 0..self.workers.len() {
            self.workers[at].start();
            self.workers[at].expect_ready();
            self.expect_all_running();
        }
        self.say("all were killed and are back");
        self.expect_shares();
        self.expect_all_lines();
    }

    fn a_worker_leaves(&mut self) {
        self.workers[1].stop();
        self.write_lines();
        self.expect_all_on(0);
        self.expect_all_lines();
    }

    /// Of the source in Connect's own topic, of the sink in a consumer group.
    fn offsets_are_shown_altered_and_forgotten(&mut self) {
        let bytes = std::fs::metadata(self.file("in.txt")).expect("the file").len();
        let worker = &mut self.workers[0];
        worker.until("the source's offset", |worker| {
            let shown = worker.get("/connectors/source/offsets")?;
            let position = &shown["offsets"][0]["offset"]["position"];
            (*position == bytes).then_some(()).ok_or_else(|| shown.to_string())
        });
        for connector in ["source", "sink"] {
            worker.put(&format!("/connectors/{connector}/stop"), "").expect("stopped");
            worker.until("it to stop", |worker| {
                let status = worker.get(&format!("/connectors/{connector}/status"))?;
                let stopped = status["connector"]["state"] == "STOPPED";
                let none = status["tasks"].as_array().is_some_and(Vec::is_empty);
                (stopped && none).then_some(()).ok_or_else(|| status.to_string())
            });
        }
        // The source goes back to the last line; the sink has forgotten all that it has read.
        let last = bytes - line(self.written - 1).len() as u64 - 1;
        let path = self.files.path().join("in.txt").display().to_string();
        let offset = json!({"partition": {"filename": path}, "offset": {"position": last}});
        let altered = json!({"offsets": [offset]}).to_string();
        worker.until("an altered offset", |worker| {
            worker.patch("/connectors/source/offsets", &altered)
        });
        worker.until("no offset", |worker| worker.delete("/connectors/sink/offsets"));
        let shown = worker.get("/connectors/sink/offsets").expect("offsets");
        assert_eq!(shown, json!({"offsets": []}));
        std::fs::remove_file(self.files.path().join("out.txt")).expect("the sink's file");
        for connector in ["source", "sink"] {
            let path = format!("/connectors/{connector}/resume");
            worker.put(&path, "").expect("resumed");
        }
        self.expect_lines(self.written + 1);
        self.expect_all_lines();
        self.say("offsets were altered and forgotten");
    }

    fn close(mut self) {
        self.workers[0].stop();
        let seen = look(&self.broker, &["lines"]);
        let came: Vec<&str> = seen.iter().map(|one| one.value.as_str()).collect();
        let mut wanted: Vec<String> = (0..self.written).map(line).collect();
        // The one that the source was told to send again.
        wanted.push(line(self.written - 1));
        let same = wanted.iter().zip(&came).take_while(|(one, other)| one == *other).count();
        assert!(
            same == wanted.len() && same == came.len(),
            "{} lines wanted, {} came; at {same}: {:?} and {:?}",
            wanted.len(),
            came.len(),
            wanted.iter().skip(same).take(3).collect::<Vec<_>>(),
            came.iter().skip(same).take(3).collect::<Vec<_>>()
        );
        self.say(&format!("{} lines, each once", self.written));
    }
}

/// Longer than half of what FileStreamSource reads at a time: of several lines that it has read, it
/// keeps those above its batch to itself until the file grows.
fn line(number: usize) -> String {
    format!("line {number:<1100}")
}

/// One in ten is no JSON.
fn mixed(number: usize) -> String {
    if number % 10 == 3 { format!("{{bad {number}") } else { format!("{{\"good\":{number}}}") }
}
