//! Docker's default seccomp profile refuses io_uring. The broker must find that out by itself, say
//! in its log which backend it runs on, and keep every promise with it. The filter is the real
//! thing (BPF by prctl), put on by a launcher in Python that becomes the broker.

use std::time::Duration;

use millpond_tests::binary::repository;
use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::kafka::Kafka;

fn start_without_io_uring() -> Broker {
    let launcher = repository().join("tests/seccomp/without_io_uring.py");
    Setup::default().launcher(["python3".into(), launcher.into_os_string()]).start()
}

#[track_caller]
fn kafka(broker: &Broker) -> Kafka {
    Kafka::connect(broker.kafka(), PATIENCE).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn where_io_uring_is_refused_the_log_names_the_portable_backend() {
    let broker = start_without_io_uring();
    let line = broker.log().wait_for("portable", Duration::from_secs(5));
    let line = line.expect("a line of the log that names the portable backend");
    assert!(line.contains("io_uring"), "the line says what was refused: {line}");
}

#[test]
fn where_io_uring_is_refused_acknowledged_records_survive_kill_9() {
    let mut broker = start_without_io_uring();
    let mut client = kafka(&broker);
    client.create_topic("sealed", 2).unwrap();
    for round in 0..3_i64 {
        let mut client = kafka(&broker);
        for n in 0..50_i64 {
            let value = format!("{round}-{n}");
            let offset = client.produce("sealed", 1, &[value.as_bytes()]).unwrap();
            assert_eq!(offset, round * 50 + n);
        }
        broker.restart();
    }
    let found = kafka(&broker).read("sealed", 1, 0).unwrap();
    assert_eq!(found.len(), 150);
    for (n, record) in found.iter().enumerate() {
        let wanted = format!("{}-{}", n / 50, n % 50);
        assert_eq!(record.value.as_deref(), Some(wanted.as_bytes()), "offset {n}");
    }
}

#[test]
fn where_io_uring_is_allowed_the_log_names_it_or_says_why_not() {
    let broker = Broker::start();
    let line = broker.log().wait_for("io_uring", Duration::from_secs(5));
    assert!(line.is_some(), "no word about io_uring in the log");
}
