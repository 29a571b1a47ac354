//! Devices that sleep, and come back in one flight (0-RTT): what they deliver is there before the broker's first
//! answer reached them; a recording of their first packets changes nothing, whenever it is played; what is not
//! harmless waits. A relay stands between that holds back, records and plays datagrams.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millpond_client::{ClientCertificate, ClientConfig, Login, Mechanism, Producer, Record, Trust};
use millpond_tests::authority::Authority;
use millpond_tests::broker::{Broker, KAFKA_HERE, PATIENCE, Setup};
use millpond_tests::kafka::{Found, Kafka};
use millpond_tests::ports;
use millpond_tests::relay::{self, Watcher};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const TOPIC: &str = "readings";
/// A handshake that does not end is given up soon.
const LIMITS: &str = "\n[limits]\nhandshake_ms = 1500\n";

/// What stands between device and broker.
#[derive(Clone)]
struct Relay {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The broker's datagrams go no further.
    mutes_broker: AtomicBool,
    /// The device's datagrams go no further.
    mutes_device: AtomicBool,
    records: AtomicBool,
    recorded: Mutex<Vec<Vec<u8>>>,
    /// Retry packets that the broker sent.
    retries: AtomicU64,
}

impl Relay {
    /// Records what the device sends from now on.
    fn record(&self) {
        self.state.recorded.lock().unwrap().clear();
        self.state.records.store(true, SeqCst);
    }

    fn recorded(&self) -> Vec<Vec<u8>> {
        self.state.records.store(false, SeqCst);
        self.state.recorded.lock().unwrap().clone()
    }

    fn mute_broker(&self, is_mute: bool) {
        self.state.mutes_broker.store(is_mute, SeqCst);
    }

    fn mute_device(&self, is_mute: bool) {
        self.state.mutes_device.store(is_mute, SeqCst);
    }
}

impl Watcher for State {
    fn passes_out(&self, datagram: &[u8]) -> bool {
        if self.records.load(SeqCst) {
            self.recorded.lock().unwrap().push(datagram.to_vec());
        }
        !self.mutes_device.load(SeqCst)
    }

    fn passes_back(&self, datagram: &[u8]) -> bool {
        // RFC 9000, 17.2.5: the long form, of type 3.
        if datagram[0] & 0b1011_0000 == 0b1011_0000 {
            self.retries.fetch_add(1, SeqCst);
        }
        !self.mutes_broker.load(SeqCst)
    }
}

/// Which dial a datagram of a handshake belongs to, by what the device chose by chance (RFC 9000, 17.2).
fn dialled(datagram: &[u8]) -> Option<&[u8]> {
    let bytes = usize::from(*datagram.get(5).filter(|_| datagram[0] & 0b1000_0000 != 0)?);
    datagram.get(6..6 + bytes)
}

/// A broker behind a relay.
struct Plant {
    broker: Broker,
    relay: Relay,
    /// Of the relay.
    outside: SocketAddr,
    /// Of the broker's own listener for devices.
    inside: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plant {
    async fn start() -> Plant {
        Plant::with("", "").await
    }

    /// `more` goes on after the limits, `of_devices` of the listener that devices come to.
    async fn with(more: &str, of_devices: &str) -> Plant {
        let (outside, inside) = (ports::free(), ports::free());
        let config = format!(
            "{LIMITS}{more}\n[[listeners]]\nname = \"own\"\naddress = \"{KAFKA_HERE}\"\n\
             \n[[listeners]]\nname = \"devices\"\naddress = \"{inside}\"\n\
             advertised = \"{outside}\"\ntcp = \"off\"\n{of_devices}"
        );
        let broker = Setup::default().config(&config).start();
        Kafka::connect(broker.kafka(), PATIENCE).unwrap().create_topic(TOPIC, 1).unwrap();
        let relay = Relay { state: Arc::default() };
        let near = UdpSocket::bind(outside).await.unwrap();
        let task = tokio::spawn(relay::relay(near, inside, Arc::clone(&relay.state)));
        Plant { broker, relay, outside, inside, task }
    }

    fn config(&self) -> ClientConfig {
        let ca = self.broker.data_dir().join("tls/development-certificate.pem");
        let pem = std::fs::read(&ca).unwrap_or_else(|error| panic!("{ca:?}: {error}"));
        let config = ClientConfig::new(&format!("quic://{}", self.outside)).unwrap();
        config.trust(Trust::CaPem(pem)).connect_timeout(Duration::from_secs(2))
    }

    fn read(&self) -> Vec<(i64, String)> {
        let mut kafka = Kafka::connect(self.broker.kafka(), PATIENCE).unwrap();
        let text = |found: Found| {
            let value = String::from_utf8_lossy(&found.value.unwrap_or_default()).into_owned();
            (found.offset, value)
        };
        kafka.read(TOPIC, 0, 0).unwrap().into_iter().map(text).collect()
    }

    async fn wait_for_records(&self, count: usize) {
        self.wait(&format!("{count} records"), || self.read().len() >= count).await;
    }

    /// Requests of first flights with this fate.
    fn early(&self, fate: &str) -> u64 {
        let metrics = self.broker.get("/metrics");
        let wanted = format!("millpond_early_requests_total{{fate=\"{fate}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&wanted));
        value.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {wanted}"))
    }

    fn failed_handshakes(&self) -> u64 {
        let metrics = self.broker.get("/metrics");
        let wanted = "millpond_connections_refused_total{reason=\"handshake\"} ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(wanted));
        value.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {wanted}"))
    }

    async fn wait(&self, what: &str, mut is_there: impl FnMut() -> bool) {
        let give_up = Instant::now() + PATIENCE;
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while !is_there() {
            assert!(Instant::now() < give_up, "in vain for {what}");
            looks.tick().await;
        }
    }

    /// Sends recorded datagrams from another port.
    async fn play(&self, flight: &[Vec<u8>]) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for datagram in flight {
            socket.send_to(datagram, self.inside).await.unwrap();
        }
    }

    /// The same, until the broker has begun a handshake with it and given it up: for a while it still takes it
    /// for a part of the connection that has just been closed.
    async fn play_to_the_end(&self, flight: &[Vec<u8>]) {
        let (before, give_up) = (self.failed_handshakes(), Instant::now() + PATIENCE);
        let mut plays = tokio::time::interval(Duration::from_millis(300));
        while self.failed_handshakes() == before {
            assert!(Instant::now() < give_up, "in vain for the end of its handshake");
            plays.tick().await;
            self.play(flight).await;
        }
    }
}

/// A device: it delivers, and sleeps without a connection.
struct Device(Producer);

impl Device {
    async fn wake(config: ClientConfig) -> Device {
        Device(Producer::builder().linger(Duration::ZERO).connect(config).await.unwrap())
    }

    async fn deliver(&self, value: &str) -> i64 {
        let record = Record::to(TOPIC).partition(0).value(value.to_owned());
        self.0.send(record).await.unwrap().await.unwrap().offset.unwrap()
    }

    async fn sleep(&self) {
        self.0.client().close().await;
    }
}

fn values(of: &[&str]) -> Vec<(i64, String)> {
    of.iter().zip(0..).map(|(value, offset)| (offset, (*value).to_owned())).collect()
}

#[tokio::test]
async fn what_a_device_delivers_when_it_wakes_is_there_before_it_hears_of_the_broker() {
    let plant = Plant::start().await;
    let device = Device::wake(plant.config()).await;
    device.deliver("one").await;
    for value in ["two", "three"] {
        device.sleep().await;
        let before = (plant.early("served"), plant.read().len());
        plant.relay.mute_broker(true);
        let delivering = device.deliver(value);
        let waiting = async {
            plant.wait_for_records(before.1 + 1).await;
            plant.relay.mute_broker(false);
        };
        let (offset, ()) = tokio::join!(delivering, waiting);
        assert_eq!(offset, before.1 as i64);
        assert!(plant.early("served") > before.0);
        // With the end of the handshake comes what the next waking begins with; an answer after that
        // says that it is there.
        device.deliver("awake").await;
    }
    assert_eq!(plant.read(), values(&["one", "two", "awake", "three", "awake"]));
}

#[tokio::test]
async fn a_recorded_first_flight_changes_nothing_when_it_is_played_again() {
    let mut plant = Plant::start().await;
    let device = Device::wake(plant.config()).await;
    device.deliver("one").await;
    device.sleep().await;
    plant.relay.record();
    // Until it is stored the device hears nothing, so that its handshake cannot be over before.
    plant.relay.mute_broker(true);
    let stored = async {
        plant.wait_for_records(2).await;
        plant.relay.mute_broker(false);
    };
    tokio::join!(device.deliver("two"), stored);
    let flight = plant.relay.recorded();
    assert!(plant.early("served") > 0);
    // While its connection is there, and when that has gone.
    plant.play(&flight).await;
    device.sleep().await;
    plant.play_to_the_end(&flight).await;
    plant.play_to_the_end(&flight).await;
    assert_eq!(plant.read(), values(&["one", "two"]));
    plant.broker.restart();
    plant.play_to_the_end(&flight).await;
    assert_eq!(plant.early("served") + plant.early("held"), 0, "its session is not known any more");
    assert_eq!(plant.read(), values(&["one", "two"]));
    // The device itself is not known any more either, and delivers all the same.
    assert_eq!(device.deliver("three").await, 2);
}

/// The flight was held back, so the broker has not used up its session: only what it knows of the producer helps.
#[tokio::test]
async fn a_flight_that_was_held_back_and_delivered_otherwise_is_known_again() {
    let plant = Plant::start().await;
    let device = Device::wake(plant.config()).await;
    device.deliver("one").await;
    device.sleep().await;
    let (_, flight) = tokio::join!(device.deliver("two"), hold_back(&plant));
    plant.play(&flight).await;
    plant.wait("it to be served", || plant.early("served") > 0).await;
    plant.wait("the end of its handshake", || plant.failed_handshakes() > 0).await;
    assert_eq!(plant.read(), values(&["one", "two"]));
    assert_eq!(device.deliver("three").await, 2);
}

/// The first flight of a device, which does not arrive: all that it sends until it gives up and dials
/// anew, which is let through.
async fn hold_back(plant: &Plant) -> Vec<Vec<u8>> {
    plant.relay.record();
    plant.relay.mute_device(true);
    let dials_anew = || {
        let recorded = plant.relay.state.recorded.lock().unwrap();
        let mut dials = recorded.iter().filter_map(|datagram| dialled(datagram));
        let first = dials.next();
        dials.any(|later| Some(later) != first)
    };
    plant.wait("the device to dial anew", dials_anew).await;
    plant.relay.mute_device(false);
    let recorded = plant.relay.recorded();
    let first = recorded.iter().find_map(|datagram| dialled(datagram)).map(<[u8]>::to_vec);
    let of_first = |datagram: &Vec<u8>| dialled(datagram) == first.as_deref();
    let mut flight: Vec<_> = recorded.into_iter().filter(of_first).collect();
    // That it gives up, which would end the connection before it is served.
    flight.pop();
    flight
}

#[tokio::test]
async fn what_would_be_taken_twice_waits_for_the_end_of_the_handshake() {
    let plant = Plant::start().await;
    let builder = Producer::builder().linger(Duration::ZERO).idempotence(false);
    let device = Device(builder.connect(plant.config()).await.unwrap());
    device.deliver("one").await;
    device.sleep().await;
    plant.relay.mute_broker(true);
    plant.relay.record();
    let waiting = async {
        plant.wait("it to be held", || plant.early("held") > 0).await;
        assert_eq!(plant.read(), values(&["one"]), "nobody knows yet that it is no recording");
        let flight = plant.relay.recorded();
        plant.relay.mute_broker(false);
        flight
    };
    let (offset, flight) = tokio::join!(device.deliver("two"), waiting);
    assert_eq!(offset, 1);
    device.sleep().await;
    plant.play_to_the_end(&flight).await;
    assert_eq!(plant.read(), values(&["one", "two"]));
}

/// The topic was made anew: nothing in it knows the producer.
#[tokio::test]
async fn a_flight_whose_producer_is_not_known_any_more_is_dropped() {
    let plant = Plant::start().await;
    let device = Device::wake(plant.config()).await;
    device.deliver("one").await;
    device.sleep().await;
    let (_, flight) = tokio::join!(device.deliver("two"), hold_back(&plant));
    device.sleep().await;
    let mut kafka = Kafka::connect(plant.broker.kafka(), PATIENCE).unwrap();
    kafka.delete_topic(TOPIC).unwrap();
    kafka.create_topic(TOPIC, 1).unwrap();
    plant.play(&flight).await;
    plant.wait("it to be dropped", || plant.early("dropped") > 0).await;
    assert_eq!((plant.read(), plant.early("served")), (vec![], 0));
}

#[tokio::test]
async fn a_broker_that_was_restarted_gets_the_first_flight_once_more_on_the_same_connection() {
    let mut plant = Plant::start().await;
    let device = Device::wake(plant.config()).await;
    device.deliver("one").await;
    device.sleep().await;
    plant.broker.restart();
    assert_eq!(device.deliver("two").await, 1);
    assert_eq!(plant.read(), values(&["one", "two"]));
    assert_eq!((plant.early("served"), plant.early("held")), (0, 0));
}

#[tokio::test]
async fn either_side_can_do_without() {
    let plant = Plant::start().await;
    let device = Device::wake(plant.config().quic_early_data(false)).await;
    device.deliver("one").await;
    device.sleep().await;
    assert_eq!(device.deliver("two").await, 1);
    assert_eq!(plant.early("served") + plant.early("held"), 0);
    let plant = Plant::with("quic_sessions_max = 0\n", "").await;
    let device = Device::wake(plant.config()).await;
    device.deliver("one").await;
    device.sleep().await;
    assert_eq!(device.deliver("two").await, 1);
    assert_eq!(plant.early("served") + plant.early("held"), 0);
}

/// Nobody but the pump may write: what comes early is judged by the certificate of the session.
#[tokio::test]
async fn a_session_is_resumed_under_the_name_of_its_certificate() {
    let authority = Authority::new();
    let dir = millpond_tests::binary::scratch().keep();
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let asks = format!("client_auth = \"required\"\nclient_ca = {ca:?}\nclient_name = [\"uri\"]\n");
    let plant = Plant::with("\n[access]\nsuper_users = [\"User:ANONYMOUS\"]\n", &asks).await;
    let rule = ["acl", "add", "User:spiffe://plant/pump", "all", "--topic", TOPIC];
    let bootstrap = plant.broker.bootstrap();
    plant.broker.cli(&[&rule[..], &["-b", &bootstrap]].concat()).expect_success();
    let shown = authority.sign("pump", Some("spiffe://plant/pump"));
    let shown = ClientCertificate::new(shown.certificate.into(), shown.key.into());
    let device = Device::wake(plant.config().certificate(shown)).await;
    device.deliver("one").await;
    device.sleep().await;
    plant.relay.mute_broker(true);
    let waiting = async {
        plant.wait_for_records(2).await;
        plant.relay.mute_broker(false);
    };
    let (offset, ()) = tokio::join!(device.deliver("two"), waiting);
    assert_eq!((offset, plant.read()), (1, values(&["one", "two"])));
}

/// A listener that asks for a login serves nobody before that, least of all a first flight.
#[tokio::test]
async fn a_device_that_logs_in_waits_for_the_broker() {
    let access = "\n[access]\nsuper_users = [\"User:ANONYMOUS\", \"User:alice\"]\n";
    let plant = Plant::with(access, "sasl = [\"SCRAM-SHA-256\"]\n").await;
    let bootstrap = plant.broker.bootstrap();
    let add = ["user", "add", "alice", "-b", &bootstrap];
    plant.broker.cli_with_input(&add, b"a long enough secret").expect_success();
    let login = Login::new(Mechanism::ScramSha256, "alice", "a long enough secret");
    let device = Device::wake(plant.config().login(login)).await;
    device.deliver("one").await;
    device.sleep().await;
    assert_eq!(device.deliver("two").await, 1);
    assert_eq!(plant.early("served") + plant.early("held"), 0);
}

#[tokio::test]
async fn above_half_of_its_connections_a_broker_asks_new_peers_for_a_proof_of_their_address() {
    let plant = Plant::with("quic_connections_max = 4\n", "").await;
    let retries = || plant.relay.state.retries.load(SeqCst);
    let mut devices = Vec::new();
    for value in ["one", "two", "three"] {
        assert_eq!(retries(), 0);
        devices.push(Device::wake(plant.config()).await);
        devices.last().unwrap().deliver(value).await;
    }
    let last = Device::wake(plant.config()).await;
    assert_eq!((last.deliver("four").await, retries()), (3, 1));
    for (device, offset) in devices.iter().zip(4..) {
        assert_eq!(device.deliver("again").await, offset, "the others are where they were");
    }
}
