//! The SDK over a path that loses, delays, doubles and reorders packets (`tests/src/path`), while the
//! device's address changes and the gateway is killed and started again: every record is there
//! exactly once, in order.
//!
//! Longer, for a release: MILLPOND_PATH_CHANGES=100 and MILLPOND_PATH_RESTARTS=100; MILLPOND_SEED
//! makes a run again.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millpond_client::{ClientConfig, Producer, Record, Trust};
use millpond_tests::broker::{Broker, KAFKA_HERE, PATIENCE, Setup};
use millpond_tests::dice::Dice;
use millpond_tests::kafka::{Found, Kafka};
use millpond_tests::path::{GATEWAY_ADDRESS, Path, Weather};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const PORT: u16 = 9094;
const TOPIC: &str = "devices";
const PARTITIONS: u64 = 8;
/// Between the rounds of a record to each partition.
const PACE: Duration = Duration::from_millis(10);
/// How long after a blow until a record that was sent after it is acknowledged.
const RECOVERY: Duration = Duration::from_secs(60);

/// A round trip of 100 ms; in each direction five of a hundred packets are lost, some are late by up
/// to 20 ms, some come twice.
const STORM: Weather = Weather {
    lost_per_mille: 50,
    late_per_mille: 30,
    late_max: Duration::from_millis(20),
    doubled_per_mille: 10,
    ..Weather::calm(Duration::from_millis(50))
};

/// What happens to a device and its gateway.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    /// The translator between them forgets.
    Rebind,
    /// The device goes to another network.
    Move,
    /// kill -9 of the gateway, and its next start.
    Restart,
}

/// A gateway at the end of a path.
struct Scene {
    broker: Broker,
    path: Path,
}

impl Scene {
    #[track_caller]
    fn open(seed: u64) -> Scene {
        let path = Path::open(STORM, seed).unwrap_or_else(|error| panic!("{error}"));
        let listeners = format!(
            "\n[[listeners]]\nname = \"own\"\naddress = \"{KAFKA_HERE}\"\n\
             \n[[listeners]]\nname = \"far\"\naddress = \"{GATEWAY_ADDRESS}:{PORT}\"\n\
             tcp = \"tls\"\ninsecure = true\n"
        );
        let broker = path.gateway().run(|| {
            let broker = Setup::default().config(&listeners).start();
            let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).unwrap();
            kafka.create_topic(TOPIC, PARTITIONS as i32).unwrap();
            broker
        });
        Scene { broker, path }
    }

    fn config(&self, scheme: &str) -> ClientConfig {
        let shown = |line: &str| Trust::fingerprint(line.split_once("fingerprint=")?.1).ok();
        let trust = self.broker.log().wait_until(PATIENCE, shown).expect("a fingerprint");
        let config = ClientConfig::new(&format!("{scheme}://{GATEWAY_ADDRESS}:{PORT}")).unwrap();
        config.trust(trust).request_timeout(Duration::from_secs(15))
    }

    fn strike(&mut self, blow: Blow) {
        let Scene { broker, path } = self;
        match blow {
            Blow::Rebind => path.rebind(),
            Blow::Move => path.move_device().unwrap_or_else(|error| panic!("{error}")),
            Blow::Restart => path.gateway().run(|| broker.restart()),
        }
    }

    /// Sends all the time while the blows fall; after each one something new must come through.
    fn send_through(&mut self, scheme: &str, blows: &[Blow]) -> u64 {
        let (config, progress) = (self.config(scheme), Progress::default());
        let device = self.path.device_handle();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| device.run(|| send(config, &progress)));
            progress.wait_past(0);
            for blow in blows {
                self.strike(*blow);
                progress.wait_past(progress.sent());
            }
            progress.stop();
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Each partition holds its records of the first `sent`, once and in order.
    #[track_caller]
    fn expect_all_once(&self, sent: u64) {
        self.path.gateway().run(|| {
            let mut kafka = Kafka::connect(self.broker.kafka(), PATIENCE).unwrap();
            for partition in 0..PARTITIONS {
                let found = kafka.read(TOPIC, partition as i32, 0).unwrap();
                let text = |found: Found| {
                    String::from_utf8_lossy(&found.value.unwrap_or_default()).into_owned()
                };
                let found: Vec<String> = found.into_iter().map(text).collect();
                let wanted = (0..sent).filter(|n| n % PARTITIONS == partition);
                let wanted: Vec<String> = wanted.map(|n| n.to_string()).collect();
                assert_eq!(found.len(), wanted.len(), "partition {partition}");
                assert_eq!(found, wanted, "partition {partition}");
            }
        });
    }

    #[track_caller]
    fn expect_bad_weather(&self) {
        let [to, back] = self.path.tallies();
        let is_both = |one: u64, other: u64| one > 0 && other > 0;
        assert!(is_both(to.lost, back.lost), "{to:?} {back:?}");
        assert!(
            is_both(to.doubled + back.doubled, to.overtaken + back.overtaken),
            "{to:?} {back:?}"
        );
    }

    /// Streams that the gateway has accepted over QUIC in its life.
    fn streams(&self) -> f64 {
        let name = "millpond_connections_accepted_total{transport=\"quic\"} ";
        let text = self.path.gateway().run(|| self.broker.get("/metrics"));
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name}"))
    }
}

/// How far the device is; watched from outside.
#[derive(Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct State {
    sent: u64,
    acknowledged: u64,
    must_stop: bool,
    has_ended: bool,
}

impl Progress {
    fn change(&self, change: impl FnOnce(&mut State)) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        self.changed.notify_all();
        *state
    }

    fn sent(&self) -> u64 {
        self.change(|_| ()).sent
    }

    fn stop(&self) {
        self.change(|state| state.must_stop = true);
    }

    /// Waits until more than `count` records are acknowledged, in the order of their sending.
    #[track_caller]
    fn wait_past(&self, count: u64) {
        let give_up = Instant::now() + RECOVERY;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.acknowledged <= count {
            let left = give_up.saturating_duration_since(Instant::now());
            let (sent, done) = (state.sent, state.acknowledged);
            let has_ended = state.has_ended;
            if left.is_zero() || has_ended {
                drop(state);
                self.stop();
                panic!("of {sent} sent {done} acknowledged, not yet {count}; ended: {has_ended}");
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Says that the device is done, also when it panics.
struct Ends<'a>(&'a Progress);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.has_ended = true);
    }
}

/// The device: numbered records to all partitions in turn until it is told to stop; how many.
fn send(config: ClientConfig, progress: &Progress) -> u64 {
    let _ends = Ends(progress);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let producer = Producer::builder().connect(config).await.unwrap();
        let (deliveries, awaited) = unbounded_channel();
        let sending = async {
            let mut pace = tokio::time::interval(PACE);
            let mut number = 0;
            while !progress.change(|state| state.sent = number).must_stop {
                pace.tick().await;
                for _ in 0..PARTITIONS {
                    let partition = (number % PARTITIONS) as i32;
                    let record = Record::to(TOPIC).partition(partition).value(number.to_string());
                    let delivery = producer.send(record).await.unwrap();
                    deliveries.send(delivery).unwrap();
                    number += 1;
                }
            }
            drop(deliveries);
            number
        };
        let (sent, ()) = tokio::join!(sending, count(awaited, progress));
        producer.close().await;
        sent
    })
}

async fn count(
    mut deliveries: UnboundedReceiver<millpond_client::DeliveryFuture>,
    progress: &Progress,
) {
    while let Some(delivery) = deliveries.recv().await {
        delivery.await.unwrap_or_else(|error| panic!("{error}"));
        progress.change(|state| state.acknowledged += 1);
    }
}

/// A number from the environment.
fn times(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")),
        Err(_) => default,
    }
}

/// So many changes of address, of which every fourth is the device's own, and restarts, in any order.
fn blows(dice: &mut Dice, changes: usize, restarts: usize) -> Vec<Blow> {
    let change = |n: usize| if n % 4 == 3 { Blow::Move } else { Blow::Rebind };
    let mut blows: Vec<Blow> = (0..changes).map(change).collect();
    blows.resize(changes + restarts, Blow::Restart);
    for at in (1..blows.len()).rev() {
        blows.swap(at, dice.within(0, at as u64 + 1) as usize);
    }
    blows
}

#[test]
fn over_quic_every_record_is_there_once_through_changes_of_address_and_restarts() {
    let seed = Dice::seed_from_environment();
    let changes = times("MILLPOND_PATH_CHANGES", 4);
    let restarts = times("MILLPOND_PATH_RESTARTS", 3);
    let blows = blows(&mut Dice::new(seed), changes, restarts);
    println!("MILLPOND_SEED={seed} {blows:?}");
    let begun = Instant::now();
    let mut scene = Scene::open(seed);
    let sent = scene.send_through("quic", &blows);
    println!("{sent} records, {:?}, {:?}", begun.elapsed(), scene.path.tallies());
    scene.expect_all_once(sent);
    scene.expect_bad_weather();
}

#[test]
fn over_tls_every_record_is_there_once_through_restarts() {
    let seed = Dice::seed_from_environment();
    let restarts = times("MILLPOND_PATH_RESTARTS", 3).saturating_sub(1);
    // A change of address breaks a TCP connection; the client makes another one.
    let mut blows = vec![Blow::Restart; restarts];
    blows.insert(restarts / 2, Blow::Rebind);
    println!("MILLPOND_SEED={seed} {blows:?}");
    let mut scene = Scene::open(seed);
    let sent = scene.send_through("tls", &blows);
    scene.expect_all_once(sent);
    scene.expect_bad_weather();
}

#[test]
fn a_change_of_address_costs_no_stream_and_a_partition_has_one_of_its_own() {
    let seed = Dice::seed_from_environment();
    println!("MILLPOND_SEED={seed}");
    let mut scene = Scene::open(seed);
    let sent = scene.send_through("quic", &[Blow::Rebind, Blow::Move]);
    scene.expect_all_once(sent);
    // One for questions and one for each partition: none was opened again.
    assert_eq!(scene.streams(), 1.0 + PARTITIONS as f64);
}
