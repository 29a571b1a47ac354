//! A whole node in this process, reached as clients reach it: over TCP, TLS, QUIC and HTTP.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use millpond_client::{
    Admin, Client, ClientConfig, ConsumedRecord, Consumer, OffsetReset, Producer, QuicSocket,
    Record, Telemetry, TelemetryError, Trust,
};
use millpond_guests::{HOSTILE_LOOP, THRESHOLD};
use millpond_http::{Action, DEPLOY_HEADER, Description};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::{Inside, Reached, run_inside};
use crate::cli::{CliError, HttpClient};
use crate::config::{Config, TcpMode};
use crate::http::Shown;

/// A node that runs.
struct Node {
    reached: Reached,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), CliError>>>,
}

impl Node {
    async fn start(config: Config) -> Self {
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let body = move || run_inside(&config, Inside { ready, stop: stopped });
        let thread = std::thread::spawn(body);
        match is_ready.await {
            Ok(reached) => Self { reached, stop: Some(stop), thread: Some(thread) },
            Err(_) => panic!("the node did not start: {:?}", thread.join()),
        }
    }

    /// Stops in order and waits for the end.
    fn stop(mut self) -> Result<(), CliError> {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap()
    }

    fn client(&self, scheme: &str) -> ClientConfig {
        let config = ClientConfig::new(&format!("{scheme}://{}", self.reached.kafka)).unwrap();
        match &self.reached.fingerprint {
            Some(fingerprint) => config.trust(Trust::fingerprint(fingerprint).unwrap()),
            None => config,
        }
    }

    fn http(&self) -> HttpClient {
        HttpClient::new(&self.reached.http.unwrap().to_string())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn config(data_dir: &Path) -> Config {
    let mut config = Config::development();
    config.node.data_dir = data_dir.display().to_string();
    config.listeners[0].address = "127.0.0.1:0".into();
    config.http.address = "127.0.0.1:0".into();
    config.journal.files = 2;
    config.log.level = "off".into();
    config
}

async fn produce(client: ClientConfig, topic: &str, values: &[&str]) -> Vec<Option<i64>> {
    let producer = Producer::builder().connect(client).await.unwrap();
    let mut deliveries = Vec::new();
    for value in values {
        let record = Record::to(topic).value((*value).to_owned());
        deliveries.push(producer.send(record).await.unwrap());
    }
    producer.flush().await;
    let mut offsets = Vec::new();
    for delivery in deliveries {
        offsets.push(delivery.await.unwrap().offset);
    }
    producer.close().await;
    offsets
}

async fn consume(client: ClientConfig, topic: &str, count: usize) -> Vec<ConsumedRecord> {
    let builder = Consumer::builder().topic(topic).offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.connect(client).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(consumer.poll(Duration::from_secs(30)).await.unwrap());
    }
    records
}

fn values(records: &[ConsumedRecord]) -> Vec<String> {
    let text = |r: &ConsumedRecord| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap();
    records.iter().map(text).collect()
}

fn deploy(node: &Node, description: &Description, module: &[u8]) -> Result<Shown, CliError> {
    let header = serde_json::to_string(description).unwrap();
    node.http().post_bytes("/v1/transforms", (DEPLOY_HEADER, &header), module)
}

fn threshold(topic: &str) -> Description {
    Description {
        name: "warm".into(),
        topics: vec![topic.into()],
        settings: [("field", "t"), ("min", "20")].map(|(k, v)| (k.into(), v.into())).into(),
        on_failure: Action::Skip,
        ..Description::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_over_tcp_and_quic_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(config(dir.path())).await;
    assert_eq!(produce(node.client("tcp"), "t", &["a", "b"]).await, [Some(0), Some(1)]);
    assert_eq!(produce(node.client("quic"), "t", &["c"]).await, [Some(2)]);
    assert_eq!(values(&consume(node.client("quic"), "t", 3).await), ["a", "b", "c"]);
    node.stop().unwrap();

    let node = Node::start(config(dir.path())).await;
    assert_eq!(values(&consume(node.client("tcp"), "t", 3).await), ["a", "b", "c"]);
    assert_eq!(produce(node.client("tcp"), "t", &["d"]).await, [Some(3)]);
    node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_listener_serves_kafka_over_tls_and_names_plain_clients() {
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.listeners[0].tcp = TcpMode::Tls;
    let node = Node::start(config).await;
    assert_eq!(produce(node.client("tls"), "t", &["a"]).await, [Some(0)]);
    let plain = node.client("tcp").connect_timeout(Duration::from_secs(5));
    assert!(Client::connect(plain).await.is_err());
    assert_eq!(values(&consume(node.client("tls"), "t", 1).await), ["a"]);
    node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_on_the_same_data_is_refused() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(config(dir.path())).await;
    let (ready, _is_ready) = oneshot::channel();
    let (_stop, stopped) = oneshot::channel();
    let second = config(dir.path());
    let second = std::thread::spawn(move || run_inside(&second, Inside { ready, stop: stopped }));
    let error = second.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_of_an_address_are_closed_and_places_come_back() {
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.limits.connections_per_ip_max = 2;
    let node = Node::start(config).await;
    let first = TcpStream::connect(node.reached.kafka).await.unwrap();
    let _second = TcpStream::connect(node.reached.kafka).await.unwrap();
    let mut third = TcpStream::connect(node.reached.kafka).await.unwrap();
    // Closed at once: nothing was sent to it.
    assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    drop(first);
    loop {
        let again = TcpStream::connect(node.reached.kafka).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_millis(200), async move {
            let mut again = again;
            again.read(&mut [0; 1]).await
        });
        if closed.await.is_err() {
            break;
        }
    }
    node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_rubbish_on_the_plain_port_harm_nobody() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(config(dir.path())).await;
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]] {
        let mut peer = TcpStream::connect(node.reached.kafka).await.unwrap();
        peer.write_all(bytes).await.unwrap();
        assert!(matches!(peer.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
    assert_eq!(produce(node.client("tcp"), "t", &["a"]).await, [Some(0)]);
    assert_eq!(node.http().get_text("/healthz").unwrap(), "ok\n");
    assert_eq!(node.http().get_text("/readyz").unwrap(), "ready\n");
    let metrics = node.http().get_text("/metrics").unwrap();
    assert!(
        metrics.contains("millpond_connections_refused_total{reason=\"malformed\"} 3"),
        "{metrics}"
    );
    node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_filters_before_storage_and_survives_a_restart() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(config(dir.path())).await;
    let shown = deploy(&node, &threshold("t"), THRESHOLD).unwrap();
    assert_eq!(shown.description.name, "warm");
    let batch = [r#"{"t":19}"#, r#"{"t":21}"#, "junk"];
    produce(node.client("tcp"), "t", &batch).await;
    node.stop().unwrap();

    let node = Node::start(config(dir.path())).await;
    produce(node.client("quic"), "t", &[r#"{"t":1}"#, r#"{"t":22}"#]).await;
    let records = consume(node.client("tcp"), "t", 2).await;
    assert_eq!(values(&records), [r#"{"t":21}"#, r#"{"t":22}"#]);
    let stats = node.http().get::<Shown>("/v1/transforms/warm").unwrap().stats;
    assert_eq!((stats.records_in, stats.records_kept, stats.records_dropped), (2, 1, 1));
    node.http().delete("/v1/transforms/warm").unwrap();
    assert!(node.http().get::<Shown>("/v1/transforms/warm").is_err());
    produce(node.client("tcp"), "t", &[r#"{"t":2}"#]).await;
    assert_eq!(values(&consume(node.client("tcp"), "t", 3).await)[2], r#"{"t":2}"#);
    node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_module_refuses_its_topic_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(config(dir.path())).await;
    deploy(&node, &threshold("t"), THRESHOLD).unwrap();
    node.stop().unwrap();
    std::fs::remove_dir_all(dir.path().join("modules")).unwrap();

    let node = Node::start(config(dir.path())).await;
    let shown = node.http().get::<Shown>("/v1/transforms/warm").unwrap();
    assert!(shown.fault.unwrap().contains("missing"));
    let producer = Producer::builder().delivery_timeout(Duration::from_millis(500));
    let producer = producer.connect(node.client("tcp")).await.unwrap();
    let refused = producer.send(Record::to("t").value(r#"{"t":30}"#)).await.unwrap().await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(produce(node.client("tcp"), "other", &["a"]).await, [Some(0)]);
    // Deploying the same module again heals it.
    deploy(&node, &threshold("t"), THRESHOLD).unwrap();
    produce(node.client("tcp"), "t", &[r#"{"t":31}"#]).await;
    let records = consume(node.client("tcp"), "t", 1).await;
    assert_eq!(values(&records).last().map(String::as_str), Some(r#"{"t":31}"#));
    node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_loops_for_ever_costs_its_own_topic_its_policy_and_others_nothing() {
    let dir = TempDir::new().unwrap();
    let node = Node::start(config(dir.path())).await;
    let description = Description {
        name: "loop".into(),
        topics: vec!["bad".into()],
        limits: [("cpu_ms_per_batch".to_owned(), 20)].into(),
        on_failure: Action::DeadLetter,
        ..Description::default()
    };
    deploy(&node, &description, HOSTILE_LOOP).unwrap();
    let (_, good) = tokio::join!(
        produce(node.client("tcp"), "bad", &["fine", "loop"]),
        produce(node.client("tcp"), "good", &["a", "b"])
    );
    assert_eq!(good, [Some(0), Some(1)]);
    let dead = consume(node.client("tcp"), "bad.dead-letter", 1).await;
    assert_eq!(values(&dead), ["loop"]);
    assert!(!dead[0].headers.is_empty());
    assert_eq!(values(&consume(node.client("tcp"), "bad", 1).await), ["fine"]);
    node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptions_and_modules_that_cannot_be_are_refused_in_words() {
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.transforms.module_bytes_max.0 = 1 << 20;
    let node = Node::start(config).await;
    let refused = |description: &Description, module: &[u8]| {
        deploy(&node, description, module).unwrap_err().to_string()
    };
    assert!(refused(&threshold("t"), b"\x7fELF").contains("native binary"));
    assert!(refused(&threshold("t"), b"").contains("module"));
    let too_large = vec![0; 2 << 20];
    assert!(!refused(&threshold("t"), &too_large).is_empty());
    let no_limits = Description { settings: [].into(), ..threshold("t") };
    assert!(refused(&no_limits, THRESHOLD).contains("min"));
    let no_topic = Description { topics: vec![], ..threshold("t") };
    assert!(refused(&no_topic, THRESHOLD).contains("topics"));
    node.stop().unwrap();
}

#[tokio::test]
async fn telemetry_in_datagrams_is_stored_by_key_and_what_no_topic_takes_is_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let node = Node::start(config(scratch.path())).await;
    let mut telemetry = Telemetry::connect(node.client("quic")).await.unwrap();
    for n in 0..500 {
        let record = Record::to("readings").key(format!("pump-{}", n % 5)).value(n.to_string());
        telemetry.send(record).await.unwrap();
    }
    telemetry.flush().await.unwrap();
    let nowhere = Record::to("readings").partition(7).value("x");
    let refused = telemetry.send(nowhere).await.unwrap_err();
    assert!(matches!(refused, TelemetryError::NoLeader { partition: 7, .. }), "{refused}");
    let large = Record::to("readings").value(vec![0; 100_000]);
    let refused = telemetry.send(large).await.unwrap_err();
    assert!(matches!(refused, TelemetryError::TooLarge { .. }), "{refused}");

    let seen = consume(node.client("quic"), "readings", 500).await;
    let mut numbers: Vec<usize> = values(&seen).iter().map(|v| v.parse().unwrap()).collect();
    for pump in 0..5 {
        let key = format!("pump-{pump}");
        let of_one = seen.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
        assert_eq!(of_one.count(), 100, "{key}");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());

    // The sender goes by what it knows of the topic.
    let admin = Admin::new(Client::new(node.client("quic")));
    admin.delete_topic("readings").await.unwrap();
    telemetry.send(Record::to("readings").value("late")).await.unwrap();
    telemetry.flush().await.unwrap();
    let is_refused = "millpond_telemetry_records_total{fate=\"refused\"} 1";
    let mut metrics = String::new();
    for _ in 0..1_000 {
        let http = node.http();
        let asked = tokio::task::spawn_blocking(move || http.get_text("/metrics"));
        metrics = asked.await.unwrap().unwrap();
        if metrics.contains(is_refused) {
            break;
        }
    }
    for line in [is_refused, "millpond_telemetry_records_total{fate=\"stored\"} 500"] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    telemetry.close().await;
    node.stop().unwrap();
}

#[tokio::test]
async fn a_device_that_changes_its_address_again_and_again_goes_on_over_the_same_connection() {
    let scratch = tempfile::tempdir().unwrap();
    let node = Node::start(config(scratch.path())).await;
    let socket = QuicSocket::new();
    let device = node.client("quic").quic_socket(socket.clone());
    let producer = Producer::builder().connect(device).await.unwrap();
    let mut deliveries = Vec::new();
    for n in 0..500_i64 {
        if n % 25 == 0 {
            socket.rebind().unwrap();
        }
        let record = Record::to("moving").value(n.to_string());
        deliveries.push((n, producer.send(record).await.unwrap()));
        if n % 10 == 0 {
            let (n, delivery) = deliveries.pop().unwrap();
            assert_eq!(delivery.await.unwrap().offset, Some(n));
        }
    }
    for (n, delivery) in deliveries {
        assert_eq!(delivery.await.unwrap().offset, Some(n));
    }
    producer.close().await;
    let http = node.http();
    let asked = tokio::task::spawn_blocking(move || http.get_text("/metrics"));
    let metrics = asked.await.unwrap().unwrap();
    // One for questions, one to the partition's leader.
    let streams = "millpond_connections_accepted_total{transport=\"quic\"} 2";
    assert!(metrics.contains(streams), "{metrics}");
    node.stop().unwrap();
}
