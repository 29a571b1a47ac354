//! The SDK where UDP is blocked and where it is let through again: `millpond://` goes over TLS, then
//! comes back to QUIC, and no record is lost or doubled on the way. A forwarder with a switch for UDP
//! stands between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millpond_client::{Client, ClientConfig, Connection, Producer, Record, Scheme, Trust};
use millpond_tests::broker::{Broker, KAFKA_HERE, PATIENCE, Setup};
use millpond_tests::kafka::{Found, Kafka};
use millpond_tests::ports;
use millpond_tests::relay::{Watcher, relay};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// A broker behind a forwarder that advertises the forwarder.
struct Behind {
    broker: Broker,
    address: SocketAddr,
    is_udp_open: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Behind {
    async fn start(is_udp_open: bool) -> Behind {
        let (address, inner) = (ports::free(), ports::free());
        let listeners = format!(
            "\n[[listeners]]\nname = \"own\"\naddress = \"{KAFKA_HERE}\"\n\
             \n[[listeners]]\nname = \"far\"\naddress = \"{inner}\"\nadvertised = \"{address}\"\n\
             tcp = \"tls\"\n"
        );
        let broker = Setup::default().config(&listeners).start();
        let is_udp_open = Arc::new(AtomicBool::new(is_udp_open));
        let tcp = TcpListener::bind(address).await.unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let tasks = vec![
            tokio::spawn(forward_tcp(tcp, inner)),
            tokio::spawn(relay(udp, inner, Arc::new(Switch(Arc::clone(&is_udp_open))))),
        ];
        Behind { broker, address, is_udp_open, tasks }
    }

    fn config(&self) -> ClientConfig {
        let ca = self.broker.data_dir().join("tls/development-certificate.pem");
        let pem = std::fs::read(&ca).unwrap_or_else(|error| panic!("{ca:?}: {error}"));
        let mut config = ClientConfig::new(&format!("millpond://{}", self.address)).unwrap();
        config.quic_head_start = Duration::from_millis(300);
        config.quic_probe_interval = Duration::from_millis(300);
        config.quic_idle_timeout = Duration::from_secs(2);
        config.quic_keep_alive = Some(Duration::from_millis(500));
        config.trust(Trust::CaPem(pem)).connect_timeout(Duration::from_secs(3))
    }

    fn open_udp(&self, is_open: bool) {
        self.is_udp_open.store(is_open, Ordering::SeqCst);
    }

    fn read(&self, topic: &str) -> Vec<String> {
        let mut kafka = Kafka::connect(self.broker.kafka(), PATIENCE).unwrap();
        let found = kafka.read(topic, 0, 0).unwrap();
        let text =
            |record: Found| String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
        found.into_iter().map(text).collect()
    }
}

async fn forward_tcp(listener: TcpListener, to: SocketAddr) {
    while let Ok((mut near, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(mut far) = TcpStream::connect(to).await {
                tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
            }
        });
    }
}

/// Lets UDP through where it is open.
struct Switch(Arc<AtomicBool>);

impl Watcher for Switch {
    fn passes_out(&self, _: &[u8]) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn passes_back(&self, _: &[u8]) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Over what a new line goes, as soon as it is `wanted`.
async fn wait_for(client: &Client, wanted: Scheme) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < give_up, "not over {wanted}");
        let line: Connection = match client.refresh(&[], false).await {
            Ok(cluster) => {
                let id = *cluster.brokers.keys().next().expect("a broker");
                match client.lane(id).await {
                    Ok(line) => line,
                    Err(_) => continue,
                }
            }
            Err(_) => continue,
        };
        if line.over() == wanted {
            return;
        }
        let closed = tokio::time::timeout(Duration::from_millis(50), line.closed());
        closed.await.ok();
    }
}

#[tokio::test]
async fn where_udp_passes_it_is_quic() {
    let behind = Behind::start(true).await;
    let client = Client::connect(behind.config()).await.unwrap();
    wait_for(&client, Scheme::Quic).await;
    let line = Connection::open(&behind.config()).await.unwrap();
    assert_eq!(line.over(), Scheme::Quic, "at the first try");
}

#[tokio::test]
async fn where_udp_is_blocked_it_is_tls_without_waiting_for_quic_to_give_up() {
    let behind = Behind::start(false).await;
    let mut config = behind.config();
    // Longer than a connection may take in all.
    config.quic_idle_timeout = Duration::from_secs(60);
    let line = Connection::open(&config).await.unwrap();
    assert_eq!(line.over(), Scheme::Tls);
}

#[tokio::test]
async fn a_producer_crosses_from_quic_to_tls_and_back_without_losing_or_doubling() {
    let behind = Behind::start(true).await;
    let producer = Producer::builder().connect(behind.config()).await.unwrap();
    let mut sent = 0;
    let mut ways = Vec::new();
    for (is_open, wanted) in [(true, Scheme::Quic), (false, Scheme::Tls), (true, Scheme::Quic)] {
        behind.open_udp(is_open);
        let mut pending = Vec::new();
        for _ in 0..50 {
            let record = Record::to("moves").partition(0).value(format!("{sent}"));
            pending.push(producer.send(record).await.unwrap());
            sent += 1;
        }
        for delivery in pending {
            delivery.await.unwrap();
        }
        wait_for(producer.client(), wanted).await;
        ways.push(wanted);
    }
    let one_more = Record::to("moves").partition(0).value(format!("{sent}"));
    producer.send(one_more).await.unwrap().await.unwrap();
    producer.close().await;
    let wanted: Vec<String> = (0..=sent).map(|n| n.to_string()).collect();
    assert_eq!(behind.read("moves"), wanted);
    assert_eq!(ways, [Scheme::Quic, Scheme::Tls, Scheme::Quic]);
}
