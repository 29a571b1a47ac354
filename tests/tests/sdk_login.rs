//! The SDK at a listener that asks who is there: by every mechanism, over TLS and QUIC; wrong passwords
//! and readable lines are refused with words that help; a login that runs out costs nobody a record.

use std::time::Duration;

use millpond_client::{
    Admin, Client, ClientConfig, ClientError, ConnectError, Login, LoginError, Mechanism, Producer,
    Record, Trust,
};
use millpond_tests::broker::{Broker, KAFKA_HERE, Setup};
use millpond_tests::ports;
use millpond_tests::sasl::{PASSWORD, USER};

/// A broker with a listener that asks, over TLS and QUIC, beside one that does not.
struct Door {
    broker: Broker,
    address: std::net::SocketAddr,
}

impl Door {
    fn start(settings: &str) -> Door {
        let address = ports::free();
        let listeners = format!(
            "\n[access]\nsuper_users = [\"User:ANONYMOUS\", \"User:{USER}\"]\n\
             \n[[listeners]]\nname = \"own\"\naddress = \"{KAFKA_HERE}\"\n\
             \n[[listeners]]\nname = \"door\"\naddress = \"{address}\"\ntcp = \"tls\"\n\
             sasl = [\"PLAIN\", \"SCRAM-SHA-256\", \"SCRAM-SHA-512\"]\n{settings}"
        );
        let broker = Setup::default().config(&listeners).start();
        let bootstrap = broker.bootstrap();
        let words = ["user", "add", USER, "-b", &bootstrap];
        broker.cli_with_input(&words, PASSWORD.as_bytes()).expect_success();
        Door { broker, address }
    }

    fn config(&self, scheme: &str, mechanism: Mechanism, password: &str) -> ClientConfig {
        let ca = self.broker.data_dir().join("tls/development-certificate.pem");
        let pem = std::fs::read(&ca).unwrap_or_else(|error| panic!("{ca:?}: {error}"));
        ClientConfig::new(&format!("{scheme}://{}", self.address))
            .unwrap()
            .trust(Trust::CaPem(pem))
            .login(Login::new(mechanism, USER, password))
    }
}

#[tokio::test]
async fn every_mechanism_lets_in_over_tls_and_quic() {
    let door = Door::start("");
    for scheme in ["tls", "quic"] {
        for mechanism in Mechanism::ALL {
            let config = door.config(scheme, mechanism, PASSWORD);
            let producer = Producer::builder().connect(config).await.unwrap();
            let record = Record::to("logins").value(format!("{scheme} {mechanism}"));
            producer.send(record).await.unwrap().await.unwrap();
            producer.close().await;
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_clear_answer_and_not_worth_another_try() {
    let door = Door::start("");
    for mechanism in Mechanism::ALL {
        let config = door.config("quic", mechanism, "a wrong one");
        let error = Client::connect(config).await.unwrap_err();
        let ClientError::Connect(ConnectError::Login { source, .. }) = &error else {
            panic!("{mechanism}: {error}");
        };
        assert!(matches!(**source, LoginError::Refused { .. }), "{mechanism}: {source}");
        assert!(!error.is_retriable() && !error.to_string().contains("a wrong one"), "{error}");
    }
}

#[tokio::test]
async fn without_a_login_nothing_is_answered_there() {
    let door = Door::start("");
    let mut config = door.config("tls", Mechanism::Plain, PASSWORD);
    config.login = None;
    assert!(Client::connect(config).await.is_err());
}

#[tokio::test]
async fn a_login_that_runs_out_is_renewed_on_new_lines_and_costs_no_record() {
    let door = Door::start("connections_max_reauth_ms = 2000\n");
    let config = door.config("quic", Mechanism::ScramSha256, PASSWORD);
    let producer = Producer::builder().connect(config.clone()).await.unwrap();
    let begin = std::time::Instant::now();
    let mut sent = 0;
    while begin.elapsed() < Duration::from_secs(5) {
        let record = Record::to("long").partition(0).value(format!("{sent}"));
        let delivery = producer.send(record).await.unwrap().await.unwrap();
        assert_eq!(delivery.offset, Some(sent));
        sent += 1;
    }
    producer.close().await;
    let admin = Admin::new(Client::connect(config).await.unwrap());
    assert!(admin.list_topics().await.unwrap().iter().any(|topic| &*topic.name == "long"));
}
