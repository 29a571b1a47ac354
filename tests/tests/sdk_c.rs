//! The C library: its examples are built with the system's C compiler against the header, with the static
//! and with the shared library, and send to a real broker and read from it, also in transactions; what C
//! gets wrong is answered, not suffered.

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
    command.args(["-Wl,--gc-sections", "-lpthread", "-ldl", "-lm"]);
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

#[test]
fn the_example_reads_in_a_group_from_an_event_loop_and_goes_on_where_it_stopped() {
    let home = scratch();
    let example = repository().join("core/client/c/examples/receive.c");
    let mut broker = Broker::start();
    let certificate = broker.data_dir().join("tls/development-certificate.pem");
    let trust = format!("ca_pem={}", std::fs::read_to_string(certificate).expect("a certificate"));
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).unwrap();
    kafka.create_topic("readings", 1).unwrap();
    let mut produce = |from: usize, to: usize| {
        let numbers: Vec<String> = (from..to).map(|number| number.to_string()).collect();
        let values: Vec<&[u8]> = numbers.iter().map(|number| number.as_bytes()).collect();
        kafka.produce("readings", 0, &values).unwrap();
    };
    produce(0, 1000);
    for (linked, scheme, sum) in
        [(Linked::Static, "quic", 499_500), (Linked::Shared, "tcp", 1_499_500)]
    {
        let program = build(&example, home.path(), linked);
        let url = format!("{scheme}://{}", broker.kafka());
        let words = [&url, "readings", "1000", &trust, "group=c", "max_poll_records=64"];
        let said = Program::new(program, words).run(Duration::from_secs(60)).expect_success();
        assert_eq!(said.trim(), format!("received 1000 sum {sum}"));
        produce(1000, 2000);
    }
    broker.expect_alive();
}

#[test]
fn a_c_program_moves_records_and_offsets_in_one_transaction() {
    let home = scratch();
    let source = home.path().join("move.c");
    std::fs::write(&source, MOVE).expect("a file");
    let program = build(&source, home.path(), Linked::Static);
    let mut broker = Broker::start();
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).unwrap();
    for topic in ["in", "out"] {
        kafka.create_topic(topic, 1).unwrap();
    }
    kafka.produce("in", 0, &[b"1", b"2", b"3"]).unwrap();
    let url = format!("tcp://{}", broker.kafka());
    let outcome = Program::new(program, [&url]).run(Duration::from_secs(60));
    assert_eq!(outcome.expect_success().trim(), "ok");
    let offsets = broker.cli(&["group", "describe", "movers", "-b", &broker.bootstrap(), "--json"]);
    let said = offsets.expect_success();
    assert!(said.contains("\"committed\": 3") || said.contains("\"committed\":3"), "{said}");
    broker.expect_alive();
}

/// Reads three records, sends them on, aborts; does it again, commits, and reads what is committed.
const MOVE: &str = r#"
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include "millpond_client.h"
#define EXPECT(what) if (!(what)) { printf("not so: %s: %s\n", #what, error.text); return 1; }

static mp_error error;

static int receive(mp_consumer *consumer, mp_producer *producer, int wanted) {
    int seen = 0;
    while (seen < wanted) {
        mp_batch *batch = 0;
        if (mp_consumer_poll(consumer, 20000, &batch, &error) != MP_OK) { return seen; }
        for (size_t at = 0; at < mp_batch_count(batch); at++, seen++) {
            const mp_message *message = mp_batch_messages(batch) + at;
            mp_header header = {"from", message->topic, strlen(message->topic)};
            mp_record record = {"out", message->key, message->key_bytes, message->value,
                                message->value_bytes, MP_ANY_PARTITION, message->timestamp_ms, &header, 1};
            if (producer != 0 && mp_send(producer, &record, 0) != MP_OK) { return -1; }
        }
        mp_batch_free(batch);
    }
    return seen;
}

/* As an event loop does it: begun without waiting, ended when the descriptor says so. */
static int commit_from_a_loop(mp_producer *producer) {
    struct pollfd line = {mp_fd(producer), POLLIN, 0};
    mp_report report;
    int outcome;
    while ((outcome = mp_transaction_commit(producer, 0, &error)) == MP_TIMED_OUT) {
        if (poll(&line, 1, 20000) != 1) { return MP_TIMED_OUT; }
        while (mp_poll(producer, &report, 1) == 1) { }
    }
    return outcome;
}

int main(int argc, char **argv) {
    char reason[MP_ERROR_BYTES];
    mp_config *config = mp_config_new();
    mp_config_set(config, "bootstrap", argv[argc - 1]);
    mp_config_set(config, "group", "movers");
    mp_config_set(config, "offset_reset", "earliest");
    mp_config_set(config, "read_committed", "true");
    mp_config_set(config, "transactional_id", "mover");
    mp_producer *producer = mp_producer_new(config, reason, sizeof reason);
    mp_consumer *consumer = mp_consumer_new(config, reason, sizeof reason);
    EXPECT(producer != 0 && consumer != 0)
    const char *topics[] = {"in"};
    EXPECT(mp_subscribe(consumer, topics, 1, &error) == MP_OK)
    EXPECT(mp_transaction_commit(producer, 20000, &error) == MP_INVALID)

    EXPECT(mp_transaction_begin(producer, 20000, &error) == MP_OK)
    EXPECT(receive(consumer, producer, 3) == 3)
    EXPECT(mp_transaction_offsets(producer, consumer, 0, 0, 20000, &error) == MP_OK)
    EXPECT(mp_transaction_abort(producer, 20000, &error) == MP_OK)

    mp_place start = {"in", MP_BEGINNING, 0};
    EXPECT(mp_seek(consumer, &start, 1, 20000, &error) == MP_OK)
    EXPECT(mp_transaction_begin(producer, 20000, &error) == MP_OK)
    EXPECT(receive(consumer, producer, 3) == 3)
    EXPECT(mp_transaction_offsets(producer, consumer, 0, 0, 20000, &error) == MP_OK)
    EXPECT(commit_from_a_loop(producer) == MP_OK)
    mp_places *list = 0;
    EXPECT(mp_committed(consumer, &start, 1, 20000, &list, &error) == MP_OK)
    EXPECT(mp_places_count(list) == 1 && mp_places_at(list)->offset == 3)
    mp_places_free(list);

    mp_place out = {"out", 0, 0};
    mp_consumer *reader = mp_consumer_new(config, reason, sizeof reason);
    EXPECT(mp_assign(reader, &out, 1, &error) == MP_OK)
    EXPECT(receive(reader, 0, 3) == 3)
    mp_batch *batch = 0;
    EXPECT(mp_consumer_poll(reader, 300, &batch, &error) == MP_TIMED_OUT && batch == 0)
    mp_consumer_free(reader);
    EXPECT(mp_consumer_close(consumer, 20000, &error) == MP_OK)
    mp_consumer_free(consumer);
    mp_producer_free(producer);
    mp_config_free(config);
    printf("ok\n");
    return 0;
}
"#;

#[test]
fn a_consumer_that_is_misused_or_closed_answers() {
    let home = scratch();
    let source = home.path().join("misused.c");
    std::fs::write(&source, MISUSED).expect("a file");
    let program = build(&source, home.path(), Linked::Static);
    let mut broker = Broker::start();
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).unwrap();
    kafka.create_topic("t", 2).unwrap();
    for partition in 0..2 {
        kafka.produce("t", partition, &[b"a", b"b"]).unwrap();
    }
    let url = format!("tcp://{}", broker.kafka());
    let outcome = Program::new(program, [&url]).run(Duration::from_secs(60));
    assert_eq!(outcome.expect_success().trim(), "ok");
    broker.expect_alive();
}

const MISUSED: &str = r#"
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include "millpond_client.h"
#define EXPECT(what) if (!(what)) { printf("not so: %s\n", #what); return 1; }
int main(int argc, char **argv) {
    char reason[MP_ERROR_BYTES];
    mp_error error;
    mp_batch *batch = 0;
    mp_places *list = 0;
    const char *topics[] = {"t", 0};
    mp_place places[] = {{"t", 0, 0}, {"t", 0, 1}};
    mp_place nowhere[] = {{0, 0, 0}, {"t", 0, -1}};
    mp_config *config = mp_config_new();
    EXPECT(mp_consumer_new(0, reason, sizeof reason) == 0 && strstr(reason, "configuration") != 0)
    EXPECT(mp_consumer_new(config, reason, sizeof reason) == 0 && strstr(reason, "bootstrap") != 0)
    mp_config_set(config, "bootstrap", argv[argc - 1]);
    mp_config_set(config, "offset_reset", "yesterday");
    EXPECT(mp_consumer_new(config, reason, sizeof reason) == 0 && strstr(reason, "earliest") != 0)
    mp_config_set(config, "offset_reset", "earliest");
    mp_consumer *consumer = mp_consumer_new(config, 0, 0);
    EXPECT(consumer != 0)

    EXPECT(mp_consumer_poll(0, 0, &batch, &error) == MP_INVALID)
    EXPECT(mp_consumer_poll(consumer, 0, 0, &error) == MP_INVALID)
    EXPECT(mp_consumer_poll(consumer, -1, &batch, &error) == MP_INVALID && strstr(error.text, "subscribe"))
    EXPECT(mp_consumer_poll(consumer, 10, &batch, &error) == MP_TIMED_OUT && batch == 0)
    EXPECT(mp_subscribe(consumer, topics, 2, &error) == MP_INVALID)
    EXPECT(mp_subscribe(consumer, 0, 1, &error) == MP_INVALID)
    EXPECT(mp_subscribe(consumer, topics, (size_t)-1, &error) == MP_INVALID)
    EXPECT(mp_subscribe(0, topics, 1, &error) == MP_INVALID)
    EXPECT(mp_assign(consumer, nowhere, 1, &error) == MP_INVALID)
    EXPECT(mp_assign(consumer, nowhere + 1, 1, &error) == MP_INVALID)
    EXPECT(mp_assign(consumer, places, (size_t)-1, &error) == MP_INVALID)
    EXPECT(mp_commit(consumer, 0, 0, 1000, &error) == MP_INVALID)
    EXPECT(mp_batch_count(0) == 0 && mp_batch_messages(0) == 0)
    EXPECT(mp_places_count(0) == 0 && mp_places_at(0) == 0)
    EXPECT(mp_consumer_fd(0) == -1 && mp_consumer_close(0, 0, 0) == MP_INVALID)
    mp_batch_free(0);
    mp_places_free(0);
    mp_consumer_free(0);

    EXPECT(mp_assign(consumer, places, 2, &error) == MP_OK)
    struct pollfd line = {mp_consumer_fd(consumer), POLLIN, 0};
    EXPECT(poll(&line, 1, 20000) == 1)
    EXPECT(mp_pause(consumer, places, 1, &error) == MP_OK)
    int seen = 0;
    while (mp_consumer_poll(consumer, 400, &batch, &error) == MP_OK) {
        for (size_t at = 0; at < mp_batch_count(batch); at++, seen++) {
            EXPECT(mp_batch_messages(batch)[at].partition == 1)
        }
        mp_batch_free(batch);
    }
    EXPECT(seen == 2)
    EXPECT(mp_resume(consumer, places, 1, &error) == MP_OK)
    EXPECT(mp_consumer_poll(consumer, 20000, &batch, &error) == MP_OK)
    EXPECT(mp_batch_messages(batch)[0].partition == 0 && mp_batch_messages(batch)[0].offset == 0)
    EXPECT(mp_positions(consumer, &list, &error) == MP_OK && mp_places_count(list) == 2)
    EXPECT(strcmp(mp_places_at(list)[1].topic, "t") == 0 && mp_places_at(list)[1].offset == 2)
    mp_places_free(list);
    mp_place far = {"t", 9, 7};
    EXPECT(mp_seek(consumer, &far, 1, 1000, &error) == MP_REFUSED && error.is_retriable == 1)
    far.offset = -7;
    EXPECT(mp_seek(consumer, &far, 1, 1000, &error) == MP_INVALID)
    EXPECT(mp_seek_time(consumer, places, 2, 0, 20000, &error) == MP_OK)
    EXPECT(mp_commit(consumer, 0, 0, 1000, &error) == MP_INVALID && strstr(error.text, "group") != 0)

    EXPECT(mp_consumer_close(consumer, 20000, &error) == MP_OK)
    EXPECT(mp_consumer_close(consumer, 20000, &error) == MP_CLOSED)
    mp_batch *none = 0;
    EXPECT(mp_consumer_poll(consumer, -1, &none, 0) == MP_CLOSED && none == 0)
    EXPECT(mp_subscribe(consumer, topics, 1, &error) == MP_CLOSED && strstr(error.text, "closed") != 0)
    EXPECT(mp_pause(consumer, places, 1, 0) == MP_CLOSED && mp_positions(consumer, &list, 0) == MP_CLOSED)
    EXPECT(poll(&line, 1, 0) == 1)
    mp_consumer_free(consumer);
    /* What it returned outlives it. */
    EXPECT(memcmp(mp_batch_messages(batch)[0].value, "a", 1) == 0)
    mp_batch_free(batch);

    mp_producer *plain = mp_producer_new(config, 0, 0);
    EXPECT(mp_transaction_begin(plain, 0, &error) == MP_INVALID && strstr(error.text, "transactional_id"))
    EXPECT(mp_transaction_begin(0, 0, 0) == MP_INVALID)
    EXPECT(mp_transaction_offsets(plain, 0, 0, 0, 0, 0) == MP_INVALID)
    mp_producer_free(plain);
    mp_config_free(config);
    printf("ok\n");
    return 0;
}
"#;
