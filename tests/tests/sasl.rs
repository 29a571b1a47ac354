//! A listener that asks who is there, against those who do not belong: guesses by the thousand, and
//! requests before the login. And what must stay secret: neither log nor data nor configuration shows a
//! password.

use std::path::Path;
use std::time::{Duration, Instant};

use millpond_tests::kafka::Kafka;
use millpond_tests::sasl::{Guarded, Login, PASSWORD, USER};
use millpond_wire::messages::*;
use millpond_wire::{ErrorCode, Secret};

const PATIENCE: Duration = Duration::from_secs(30);

fn handshake(kafka: &mut Kafka, mechanism: &str) -> i16 {
    let request = SaslHandshakeRequest { mechanism: mechanism.to_owned() };
    match kafka.call(1, request.into()) {
        Ok(Response::SaslHandshake(answer)) => answer.error_code,
        other => panic!("{other:?}"),
    }
}

fn token(kafka: &mut Kafka, bytes: &[u8]) -> SaslAuthenticateResponse {
    let auth_bytes = Secret(bytes.to_vec().into());
    match kafka.call(2, SaslAuthenticateRequest { auth_bytes }.into()) {
        Ok(Response::SaslAuthenticate(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ten_thousand_guesses_are_refused_counted_and_leave_nothing_behind() {
    const GUESSERS: usize = 100;
    const GUESSES: usize = 100;
    let guarded = Guarded::start();
    let address = guarded.open;
    let guess = move |number: usize| {
        let mut kafka = Kafka::connect(address, PATIENCE).expect("it still answers");
        assert_eq!(handshake(&mut kafka, "SCRAM-SHA-256"), 0);
        let user = if number.is_multiple_of(2) { USER.to_owned() } else { format!("user{number}") };
        let challenge = token(&mut kafka, format!("n,,n={user},r=abc").as_bytes());
        let text = String::from_utf8_lossy(&challenge.auth_bytes.0).into_owned();
        let nonce = text.split(',').next().expect("a nonce");
        let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let refused = token(&mut kafka, format!("c=biws,{nonce},p={proof}").as_bytes());
        assert_eq!(refused.error_code, ErrorCode::SaslAuthenticationFailed.code());
    };
    (0..GUESSERS).for_each(guess);
    let before = guarded.broker.resident_bytes();
    std::thread::scope(|scope| {
        for guesser in 0..GUESSERS {
            let guess = &guess;
            scope.spawn(move || (0..GUESSES).for_each(|n| guess(guesser * GUESSES + n)));
        }
    });
    let grown = guarded.broker.resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more after {} guesses", GUESSERS * GUESSES);
    let total = GUESSERS * (GUESSES + 1);
    let counted =
        format!("millpond_connections_refused_total{{reason=\"authentication\"}} {total}");
    // The last of them are counted when their connections end, a moment after the answer.
    let give_up = Instant::now() + PATIENCE;
    while !guarded.broker.get("/metrics").contains(&counted) {
        assert!(Instant::now() < give_up, "not counted: {counted}");
        guarded.broker.log().wait_for_news(Duration::from_millis(20));
    }
    let right = Login { is_tls: true, mechanism: "PLAIN", user: USER, password: PASSWORD };
    guarded.python("confluent_kafka", &right);
}

#[test]
fn whatever_comes_before_the_login_but_the_question_for_versions_ends_the_connection() {
    let guarded = Guarded::start();
    let requests: [(i16, Request); 4] = [
        (9, MetadataRequest::default().into()),
        (9, ProduceRequest::default().into()),
        (0, AlterUserScramCredentialsRequest::default().into()),
        (2, SaslAuthenticateRequest::default().into()),
    ];
    for (version, request) in requests {
        let mut kafka = Kafka::connect(guarded.open, PATIENCE).expect("connected");
        let versions = ApiVersionsRequest {
            client_software_name: "test".to_owned(),
            client_software_version: "1".to_owned(),
        };
        assert!(kafka.call(3, versions.into()).is_ok());
        assert!(kafka.call(version, request).is_err(), "it is not answered");
    }
    let mut kafka = Kafka::connect(guarded.broker.kafka(), PATIENCE).expect("connected");
    let illegal = ErrorCode::IllegalSaslState.code();
    assert_eq!(handshake(&mut kafka, "PLAIN"), illegal, "nobody is asked there");
    let answer = token(&mut kafka, b"\0ann\0secret");
    assert_eq!(answer.error_code, illegal);
}

#[test]
fn users_are_added_listed_and_deleted_at_a_shell() {
    let guarded = Guarded::without_users("");
    let empty = guarded.cli(&["list"]).expect_success();
    assert!(empty.contains("millpond user add"), "{empty}");
    let file = guarded.broker.file("ann.pw", format!("{PASSWORD}\n").as_bytes());
    let added = guarded.cli(&["add", USER, "--password-file", &file]).expect_success();
    assert_eq!(added.trim(), "added user ann");
    guarded
        .cli(&["add", "bob", "--mechanism", "scram-sha-512", "--password-file", &file])
        .expect_success();
    let listed = guarded.cli(&["list", "--json"]).expect_success();
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[0]["user"], "ann");
    assert_eq!(listed[0]["mechanisms"][1]["mechanism"], "SCRAM-SHA-512");
    assert_eq!(listed[0]["mechanisms"][1]["iterations"], 8192);
    assert_eq!(listed[1]["mechanisms"].as_array().map(Vec::len), Some(1));
    let weak = ["add", "eve", "--iterations", "4096", "--password-file", &file];
    assert!(guarded.cli(&weak).expect_failure().contains("8192"), "we make no weak ones");
    guarded.cli(&["delete", USER, "bob"]).expect_success();
    let gone = guarded.cli(&["delete", USER]).expect_failure();
    assert!(gone.contains(USER), "{gone}");
}

#[test]
fn no_password_is_in_the_log_nor_in_the_data_nor_in_what_clients_may_ask() {
    let guarded = Guarded::start();
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let login = Login { is_tls: true, mechanism, user: USER, password: PASSWORD };
        guarded.python("kafka_python", &login);
        let wrong = Login { password: "a-wrong-password", ..login };
        guarded.python("confluent_kafka_refused", &wrong);
    }
    let log = guarded.broker.log().tail(10_000);
    assert!(log.contains("wrong password of user \"ann\""), "refusals are logged: {log}");
    let dump = |text: &[u8], place: &str| {
        for secret in [PASSWORD, "a-wrong-password"] {
            let found = text.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{place} shows a password");
        }
    };
    dump(log.as_bytes(), "the log");
    dump(guarded.broker.get("/metrics").as_bytes(), "the metrics");
    every_file(&guarded.broker.data_dir(), &|path, bytes| dump(bytes, &path.display().to_string()));
}

fn every_file(dir: &Path, look: &dyn Fn(&Path, &[u8])) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            every_file(&path, look);
        } else if let Ok(bytes) = std::fs::read(&path) {
            look(&path, &bytes);
        }
    }
}
