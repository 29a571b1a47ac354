//! The C library: its example is built with the system's C compiler against the header, with the static
//! and with the shared library, and sends to a real broker; what C gets wrong is answered, not suffered.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use millpond_tests::binary::{library_c, repository, scratch};
use millpond_tests::broker::{Broker, PATIENCE};
use millpond_tests::command::Program;
use millpond_tests::kafka::{Found, Kafka};

/// How the library is linked.
#[derive(Clone, Copy)]
enum Linked {
    Static,
    Shared,
}

fn build(source: &Path, into: &Path, linked: Linked) -> PathBuf {
    static LIBRARIES: OnceLock<PathBuf> = OnceLock::new();
    let libraries = LIBRARIES.get_or_init(library_c);
    let program = into.join(source.file_stem().expect("a name"));
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-D_POSIX_C_SOURCE=200112L", "-Wall", "-Wextra", "-Werror", "-O2"]);
    command.arg("-I").arg(repository().join("core/client/c")).arg(source);
    command.arg("-o").arg(&program);
    match linked {
        Linked::Static => command.arg(libraries.join("libmillpond_c.a")),
        Linked::Shared => {
            let path = format!("-Wl,-rpath,{}", libraries.display());
            command.arg(libraries.join("libmillpond_c.so")).arg(path)
        }
    };
    command.args(["-lpthread", "-ldl", "-lm"]);
    let outcome = command.output().unwrap_or_else(|error| panic!("cc: {error}; apt install gcc"));
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    program
}

fn values(broker: &Broker, topic: &str) -> Vec<usize> {
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).unwrap();
    let number =
        |record: Found| String::from_utf8_lossy(&record.value.unwrap_or_default()).parse().unwrap();
    kafka.read(topic, 0, 0).unwrap().into_iter().map(number).collect()
}

#[test]
fn the_example_sends_over_quic_and_tcp_from_an_event_loop() {
    let home = scratch();
    let example = repository().join("core/client/c/examples/send.c");
    let mut broker = Broker::start();
    let certificate = broker.data_dir().join("tls/development-certificate.pem");
    let pem = std::fs::read_to_string(certificate).expect("a certificate");
    let trust = format!("ca_pem={pem}");
    for (linked, scheme) in [(Linked::Static, "quic"), (Linked::Shared, "tcp")] {
        let program = build(&example, home.path(), linked);
        Kafka::connect(broker.kafka(), PATIENCE).unwrap().create_topic(scheme, 1).unwrap();
        let url = format!("{scheme}://{}", broker.kafka());
        // A small buffer: it is full again and again.
        let words = [&url, scheme, "3000", &trust, "buffer_bytes=16384", "compression=lz4"];
        let said = Program::new(program, words).run(Duration::from_secs(60)).expect_success();
        assert_eq!(said.trim(), "delivered 3000 failed 0 last_offset 2999 accepted 3000");
        assert_eq!(values(&broker, scheme), (0..3000).collect::<Vec<_>>());
    }
    broker.expect_alive();
}

#[test]
fn a_c_program_on_a_device_without_a_gateway_leaves_its_records_to_its_next_life() {
    let home = scratch();
    let example = repository().join("core/client/c/examples/send.c");
    let program = build(&example, home.path(), Linked::Static);
    let mut broker = Broker::start();
    Kafka::connect(broker.kafka(), PATIENCE).unwrap().create_topic("field", 1).unwrap();
    broker.kill();
    let url = format!("tcp://{}", broker.kafka());
    let dir = format!("spill_dir={}", home.path().join("spill").display());
    let send = |count: &str| {
        let program = Program::new(&program, [&url, "field", count, &dir]);
        program.run(Duration::from_secs(60)).expect_success()
    };
    let said = send("20");
    assert_eq!(said.trim(), "delivered 20 failed 0 last_offset -1 accepted 20");
    broker.restart();
    // Its next life has nothing of its own to send, and ends at once: so it is told to stay.
    let stay = home.path().join("stay.c");
    std::fs::write(&stay, STAY).expect("a file");
    let stay = build(&stay, home.path(), Linked::Static);
    let path = home.path().join("spill").display().to_string();
    Program::new(stay, [&url, &path]).run(Duration::from_secs(60)).expect_success();
    assert_eq!(values(&broker, "field"), (0..20).collect::<Vec<_>>());
}

/// Opens a spill and waits until nothing waits in it.
const STAY: &str = r#"
#include "millpond_client.h"
int main(int argc, char **argv) {
    mp_config *config = mp_config_new();
    mp_config_set(config, "bootstrap", argv[argc - 2]);
    mp_config_set(config, "spill_dir", argv[argc - 1]);
    char error[MP_ERROR_BYTES];
    mp_producer *producer = mp_producer_new(config, error, sizeof error);
    mp_metrics metrics = {0, 0, 0, 1};
    while (producer != 0 && metrics.waiting > 0) {
        mp_wait(producer, 20);
        mp_producer_metrics(producer, &metrics);
    }
    mp_producer_free(producer);
    mp_config_free(config);
    return producer == 0;
}
"#;

#[test]
fn what_c_gets_wrong_is_answered() {
    let home = scratch();
    let source = home.path().join("wrong.c");
    std::fs::write(&source, WRONG).expect("a file");
    let program = build(&source, home.path(), Linked::Static);
    let outcome = Program::new(program, [""; 0]).run(Duration::from_secs(30));
    assert_eq!(outcome.expect_success().trim(), "ok");
}

const WRONG: &str = r#"
#include <stdio.h>
#include <string.h>
#include "millpond_client.h"
#define EXPECT(what) if (!(what)) { printf("not so: %s\n", #what); return 1; }
int main(void) {
    char error[MP_ERROR_BYTES];
    mp_config *config = mp_config_new();
    EXPECT(mp_config_set(config, "bootstrp", "x") == MP_UNKNOWN_NAME)
    EXPECT(mp_config_set(config, "bootstrap", 0) == MP_INVALID)
    EXPECT(mp_config_set(0, "bootstrap", "x") == MP_INVALID)
    EXPECT(mp_config_set(config, "bootstrap", "\xff") == MP_INVALID)
    EXPECT(mp_producer_new(config, error, sizeof error) == 0)
    EXPECT(strstr(error, "bootstrap") != 0)
    mp_config_set(config, "bootstrap", "tcp://127.0.0.1:1");
    mp_config_set(config, "linger_ms", "soon");
    EXPECT(mp_producer_new(config, error, 4) == 0)
    EXPECT(strlen(error) == 3)
    mp_config_set(config, "linger_ms", "1");
    mp_config_set(config, "delivery_timeout_ms", "200");
    mp_producer *producer = mp_producer_new(config, 0, 0);
    EXPECT(producer != 0)
    mp_record record = {0};
    EXPECT(mp_send(producer, 0, 0) == MP_INVALID)
    EXPECT(mp_send(0, &record, 0) == MP_INVALID)
    EXPECT(mp_send(producer, &record, 0) == MP_INVALID)
    record.topic = "t";
    record.value = "v";
    record.value_bytes = (size_t)-1;
    EXPECT(mp_send(producer, &record, 0) == MP_INVALID)
    record.value_bytes = 1;
    record.partition = MP_ANY_PARTITION;
    EXPECT(mp_wait(producer, 0) == MP_TIMED_OUT)
    EXPECT(mp_send(producer, &record, &record) == MP_OK)
    EXPECT(mp_flush(producer, 20000) == MP_OK)
    mp_report report;
    EXPECT(mp_poll(producer, 0, 1) == 0)
    EXPECT(mp_poll(producer, &report, 1) == 1)
    EXPECT(report.tag == &record && report.status == MP_FAILED && report.error[0] != 0)
    EXPECT(mp_poll(producer, &report, 1) == 0)
    EXPECT(mp_poll(0, &report, 1) == 0 && mp_fd(0) == -1 && mp_wait(0, 0) == MP_INVALID)
    EXPECT(mp_producer_metrics(producer, 0) == MP_INVALID)
    mp_producer_free(producer);
    mp_producer_free(0);
    mp_config_free(config);
    mp_config_free(0);
    printf("ok\n");
    return 0;
}
"#;
