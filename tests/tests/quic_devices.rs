//! Many devices at one broker, each with a QUIC connection of its own: they are held while they say nothing, for
//! little memory, and answered when they do; who comes too fast from one address is refused and counted.
//! `MILLPOND_DEVICES` says how many there are.

use std::time::Duration;

use futures::future::join_all;
use millpond_client::{Client, ClientConfig, Producer, QuicSocket, Record, Trust};
use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::kafka::Kafka;

const TOPIC: &str = "fleet";
/// UDP sockets that the devices share.
const SOCKETS: usize = 4;
/// Handshakes at once.
const AT_ONCE: usize = 50;
/// What one may take here, where the broker is built for tests and few are there to share what each malloc arena
/// keeps; `millpond-bench devices` measures it.
const BYTES_EACH_MAX: u64 = 64 * 1024;

fn config(broker: &Broker, socket: &QuicSocket) -> ClientConfig {
    let config = ClientConfig::new(&format!("quic://{}", broker.kafka())).unwrap();
    // Loopback, and a certificate that was made a moment ago.
    config.trust(Trust::InsecureNoVerify).quic_socket(socket.clone())
}

async fn deliver(device: &Producer) {
    let record = Record::to(TOPIC).partition(0).value("42");
    device.send(record).await.unwrap().await.unwrap();
}

async fn fleet(broker: &Broker, count: usize) -> Vec<Producer> {
    let sockets: Vec<QuicSocket> = (0..SOCKETS).map(|_| QuicSocket::new()).collect();
    let mut devices = Vec::new();
    for first in (0..count).step_by(AT_ONCE) {
        let some = (first..count.min(first + AT_ONCE)).map(|index| {
            let config = config(broker, &sockets[index % SOCKETS]);
            async move {
                let builder = Producer::builder().linger(Duration::ZERO).buffer_bytes(1 << 20);
                let device = builder.connect(config).await.unwrap();
                deliver(&device).await;
                device
            }
        });
        devices.extend(join_all(some).await);
    }
    devices
}

#[tokio::test]
async fn hundreds_of_devices_are_held_for_little_and_answer() {
    let count = std::env::var("MILLPOND_DEVICES").map_or(300, |text| text.parse().unwrap());
    let limits = "\n[limits]\nquic_connections_max = 65536\nconnections_per_ip_max = 65536\n";
    let broker = Setup::default().config(limits).start();
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).unwrap();
    kafka.create_topic(TOPIC, 1).unwrap();
    // What the first ones make the broker take is not theirs.
    let first = fleet(&broker, AT_ONCE).await;
    let before = broker.resident_bytes();
    let devices = fleet(&broker, count).await;
    let each = broker.resident_bytes().saturating_sub(before) / count as u64;
    println!("{} KiB each", each / 1024);
    assert!(each <= BYTES_EACH_MAX, "{each} bytes for each of {count} devices");
    join_all(first.iter().chain(&devices).map(deliver)).await;
    let wanted = 2 * (AT_ONCE + count);
    assert_eq!(kafka.list_offset(TOPIC, 0, -1).unwrap(), wanted as i64);
}

#[tokio::test]
async fn who_comes_too_fast_from_one_address_is_refused_and_counted() {
    let broker = Setup::default().config("\n[limits]\nconnections_per_ip_per_second = 1\n").start();
    let socket = QuicSocket::new();
    let mut refused = 0;
    let mut clients = Vec::new();
    for _ in 0..40 {
        let client = Client::new(config(&broker, &socket).connect_timeout(Duration::from_secs(2)));
        refused += u32::from(client.refresh(&[], false).await.is_err());
        clients.push(client);
    }
    // Those that have proved their address have a burst of ten, and so have those that have not.
    assert!((10..30).contains(&refused), "{refused} of 40 were refused");
    let counted = broker.get("/metrics");
    let counted = counted.lines().find(|line| line.contains("reason=\"rate\"")).unwrap();
    assert!(!counted.ends_with(" 0"), "{counted}");
    clients[0].refresh(&[], false).await.expect("who is in stays in");
}
