//! Certificates of devices over their whole life, against the real program: invited, enrolled, let in by their name, renewed,
//! revoked while connected; and files of certificates that change, or break, under a node that serves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use millpond_client::producer::{Producer, Record};
use millpond_client::{ClientCertificate, ClientConfig, Trust};
use millpond_tests::binary::{millpond_program, scratch};
use millpond_tests::broker::{Broker, KAFKA_HERE, PATIENCE, Setup};
use millpond_tests::command::Outcome;
use millpond_tests::kafka::{Found, Kafka};
use millpond_tests::ports;
use serde_json::Value;
use tempfile::TempDir;

/// A gateway with an authority of its own, and a listener for its devices only.
struct Plant {
    broker: Broker,
    home: TempDir,
    /// Of the devices' listener, TLS and QUIC.
    devices: SocketAddr,
    /// Where they enrol.
    gateway: String,
}

fn millpond(words: &[&str]) -> Outcome {
    millpond_program(words.iter().copied()).run(Duration::from_secs(60))
}

fn plant() -> Plant {
    let home = scratch();
    let ca = home.path().join("ca");
    let shown = ca.display();
    let ca_dir = ["--ca-dir", &shown.to_string()].map(str::to_owned);
    millpond(&["device", "ca", "init", "--host", "gateway.plant", &ca_dir[0], &ca_dir[1]])
        .expect_success();
    let (devices, https) = (ports::free(), ports::free());
    let config = format!(
        "\n[access]\nsuper_users = [\"User:ANONYMOUS\"]\n\
         \n[devices]\nca_dir = \"{shown}\"\naddress = \"{https}\"\n\
         \n[[listeners]]\nname = \"own\"\naddress = \"{KAFKA_HERE}\"\n\
         \n[[listeners]]\nname = \"plant\"\naddress = \"{devices}\"\ntcp = \"tls\"\n\
         certificate = \"{shown}/server.pem\"\nprivate_key = \"{shown}/server.pem\"\n\
         client_auth = \"required\"\nclient_ca = \"{shown}/ca.pem\"\nclient_crl = \"{shown}/ca.crl\"\n"
    );
    let broker = Setup::default().config(&config).start();
    Plant { broker, home, devices, gateway: format!("https://{https}") }
}

impl Plant {
    fn ca(&self, file: &str) -> PathBuf {
        self.home.path().join("ca").join(file)
    }

    /// `millpond device ...` on the gateway.
    fn device(&self, words: &[&str]) -> Outcome {
        let dir = self.ca("");
        millpond(&[&["device"], words, &["--ca-dir", &dir.display().to_string()]].concat())
    }

    fn invite(&self, name: &str) -> String {
        let said = self.device(&["invite", name, "--json"]).expect_success();
        let said: Value = serde_json::from_str(&said).expect("JSON");
        said[0]["token"].as_str().expect("a token").to_owned()
    }

    /// A device's directory.
    fn on(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn enrol(&self, token: &str, at: &str, gateway: &str) -> Outcome {
        let out = self.on(at).display().to_string();
        let words = ["device", "enrol", "--token", token, "--gateway", gateway, "--out", &out];
        millpond(&words)
    }

    fn enrolled(&self, name: &str) {
        let token = self.invite(name);
        self.enrol(&token, name, &self.gateway).expect_success();
    }

    /// `millpond ...` as a device, over QUIC or TLS.
    fn as_device(&self, scheme: &str, name: &str, words: &[&str]) -> Outcome {
        let address = format!("{scheme}://{}", self.devices);
        let (own, ca) = (self.on(name).join(format!("{name}.pem")), self.on(name).join("ca.pem"));
        let (own, ca) = (own.display().to_string(), ca.display().to_string());
        let shown = ["-b", &address, "--ca", &ca, "--certificate", &own, "--private-key", &own];
        self.broker.cli_with_input(&[words, &shown].concat(), b"1\n")
    }

    /// One record, sent by a device that may.
    #[track_caller]
    fn produce(&self, scheme: &str, name: &str) {
        self.as_device(scheme, name, &["produce", "line-1"]).expect_success();
    }

    fn topics(&self, scheme: &str, name: &str) -> Outcome {
        self.as_device(scheme, name, &["topic", "list"])
    }

    fn allow(&self, name: &str) {
        let principal = format!("User:millpond:device:{name}");
        let rule = ["acl", "add", &principal, "write,create", "--topic", "line-1"];
        self.broker.cli(&[&rule[..], &["-b", &self.broker.bootstrap()]].concat()).expect_success();
    }

    fn config(&self, scheme: &str, name: &str) -> ClientConfig {
        let read = |file: &str| std::fs::read(self.on(name).join(file)).expect("a file");
        let own = read(&format!("{name}.pem"));
        let config = ClientConfig::new(&format!("{scheme}://{}", self.devices)).unwrap();
        let config = config.trust(Trust::CaPem(read("ca.pem")));
        config.certificate(ClientCertificate::new(own.clone(), own))
    }

    /// The audit topic has these, in this order, of pump-7 or of who tried, and nothing of a secret.
    #[track_caller]
    fn expect_audited(&self, secret: &str, wanted: &[&str]) {
        let mut kafka = Kafka::connect(self.broker.kafka(), PATIENCE).expect("connected");
        let give_up = Instant::now() + PATIENCE;
        loop {
            let lines = kafka.read("__millpond_audit", 0, 0).expect("the audit topic");
            let lines: Vec<String> = lines.iter().map(Found::text).collect();
            assert!(!lines.concat().contains(secret), "a secret in {lines:?}");
            let told = lines.iter().map(|line| serde_json::from_str(line).expect("JSON"));
            let told: Vec<Value> = told.collect();
            let words =
                told.iter().filter_map(|line| wanted.iter().find(|word| is_told(line, word)));
            if words.eq(wanted) {
                return;
            }
            assert!(Instant::now() < give_up, "not {wanted:?} but {lines:?}");
        }
    }

    /// Waits until a metric of the listener has this value.
    #[track_caller]
    fn wait_for_metric(&self, line: &str) {
        let give_up = Instant::now() + PATIENCE;
        while !self.broker.get("/metrics").lines().any(|one| one == line) {
            assert!(Instant::now() < give_up, "{line} never came");
            self.broker.log().wait_for_news(Duration::from_millis(50));
        }
    }
}

/// Whether a line of the audit topic tells of this, from here.
fn is_told(line: &Value, word: &str) -> bool {
    let is_whole = match line["what"].as_str() {
        Some("changed") => {
            let serial = line["to"].as_str().is_some_and(|to| to.starts_with("serial "));
            line["change"] == word && line["name"] == "pump-7" && serial
        }
        what => what == Some(word),
    };
    is_whole && line["host"] == "127.0.0.1"
}

async fn send(producer: &Producer) -> Option<i64> {
    let record = Record::to("line-1").value("reading");
    let delivery =
        tokio::time::timeout(PATIENCE, async { producer.send(record).await.ok()?.await.ok() });
    delivery.await.expect("an answer").and_then(|delivered| delivered.offset)
}

#[test]
fn a_device_is_invited_enrolled_held_to_its_rules_and_revoked() {
    let plant = plant();
    let token = plant.invite("pump-7");
    plant.enrol(&token, "pump-7", &plant.gateway).expect_success();
    let own = plant.broker.bootstrap();
    plant.broker.cli(&["topic", "create", "line-1", "-b", &own]).expect_success();
    for scheme in ["quic", "tls"] {
        let seen = plant.topics(scheme, "pump-7").expect_success();
        assert!(!seen.contains("line-1"), "it is let in and may nothing: {seen}");
    }
    plant.allow("pump-7");
    for scheme in ["quic", "tls"] {
        plant.produce(scheme, "pump-7");
    }
    let refused = plant.enrol(&token, "thief", &plant.gateway).expect_failure();
    assert!(refused.contains("was used"), "a token is good once: {refused}");
    plant.expect_audited(&token, &["device-enrolled", "login-refused"]);
    let listed = plant.device(&["list"]).expect_success();
    assert!(listed.contains("pump-7") && listed.contains("valid"), "{listed}");

    plant.device(&["revoke", "pump-7"]).expect_success();
    // No word to the node: it sees that the file changed.
    plant.wait_for_metric("millpond_revoked_certificates{listener=\"plant\"} 1");
    for scheme in ["quic", "tls"] {
        plant.topics(scheme, "pump-7").expect_failure();
    }
    let listed = plant.device(&["list", "--json"]).expect_success();
    assert!(listed.contains("revoked"), "{listed}");
    let renew = plant.on("pump-7").join("pump-7.pem").display().to_string();
    let refused =
        millpond(&["device", "renew", &renew, "--gateway", &plant.gateway]).expect_failure();
    assert!(refused.contains("revoked"), "{refused}");
}

#[test]
fn wrong_tokens_foreign_authorities_and_late_devices_get_nothing() {
    let (plant, other) = (plant(), plant());
    let http = plant.broker.http();
    let foreign = other.invite("pump-7");
    let refused = plant.enrol(&foreign, "a", &plant.gateway).expect_failure();
    assert!(refused.contains("authority"), "the device sees who that is not: {refused}");
    let refused = plant.enrol(&foreign, "a", &http).expect_failure();
    assert!(refused.contains("not known"), "{refused}");

    let token = plant.invite("pump-7");
    let file = plant.ca("invites/pump-7.json");
    let mut invite: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let until = invite["until_s"].take();
    invite["until_s"] = 1.into();
    std::fs::write(&file, invite.to_string()).unwrap();
    let refused = plant.enrol(&token, "b", &http).expect_failure();
    assert!(refused.contains("is over"), "{refused}");
    invite["until_s"] = until;
    std::fs::write(&file, invite.to_string()).unwrap();
    plant.enrol(&token, "b", &http).expect_success();
    assert!(!plant.on("b").join("pump-7.key.new").exists());

    let post = |path: &str, body: &str| {
        let sent = ureq::post(format!("{http}{path}")).content_type("application/json").send(body);
        match sent {
            Ok(answer) => answer.status().as_u16(),
            Err(ureq::Error::StatusCode(code)) => code,
            Err(error) => panic!("{error}"),
        }
    };
    let large = format!("{{\"name\":\"a\",\"request\":\"{}\",\"proof\":\"\"}}", "A".repeat(60_000));
    assert_eq!(post("/v1/devices/enrol", &large), 413);
    assert_eq!(
        post("/v1/devices/enrol", "{\"name\":\"../a\",\"request\":\"\",\"proof\":\"\"}"),
        400
    );
    let guess = "{\"name\":\"pump-8\",\"request\":\"AAAA\",\"proof\":\"AAAA\"}";
    let answers: Vec<u16> = (0..40).map(|_| post("/v1/devices/enrol", guess)).collect();
    assert_eq!((answers[0], answers[39]), (403, 429), "who guesses is made to wait");
    assert!(plant.broker.get("/v1/devices/ca").contains("BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn certificates_change_under_a_node_that_serves_and_nobody_is_cut_off() {
    let plant = plant();
    plant.enrolled("pump-7");
    plant.allow("pump-7");
    let mut producers = Vec::new();
    for scheme in ["quic", "tls"] {
        producers.push(Producer::builder().connect(plant.config(scheme, "pump-7")).await.unwrap());
    }
    assert_eq!(send(&producers[0]).await, Some(0));
    assert_eq!(send(&producers[1]).await, Some(1));

    let server = std::fs::read(plant.ca("server.pem")).unwrap();
    std::fs::write(plant.ca("server.pem"), &server[..server.len() / 3]).unwrap();
    plant.broker.hang_up();
    plant.wait_for_metric("millpond_certificate_files_stale{listener=\"plant\"} 1");
    let said = plant.broker.log().wait_for("the files of before stay in force", PATIENCE);
    assert!(said.is_some_and(|line| line.contains("server.pem")));
    plant.produce("quic", "pump-7");
    plant.produce("tls", "pump-7");
    let doctor =
        plant.broker.cli(&["doctor", "--http", &plant.broker.http(), "--data-dir", "probe"]);
    let doctor = doctor.expect_success();
    assert!(doctor.contains("warn  the certificate files of listener plant"), "{doctor}");

    plant.device(&["ca", "server-cert", "--host", "10.1.2.3"]).expect_success();
    plant.broker.hang_up();
    plant.wait_for_metric("millpond_certificate_files_stale{listener=\"plant\"} 0");
    let before = accepted(&plant);
    assert_eq!(send(&producers[0]).await, Some(4));
    assert_eq!(send(&producers[1]).await, Some(5));
    assert_eq!(accepted(&plant), before, "the connections are those of before");
    plant.produce("quic", "pump-7");
    plant.produce("tls", "pump-7");
}

/// Connections of all kinds so far.
fn accepted(plant: &Plant) -> f64 {
    plant.broker.metric("millpond_connections_accepted_total").unwrap_or_default()
}

#[tokio::test]
async fn live_connections_end_when_their_certificate_is_revoked_and_others_go_on() {
    let plant = plant();
    for name in ["pump-7", "pump-8"] {
        plant.enrolled(name);
        plant.allow(name);
    }
    let mut revoked = Vec::new();
    for scheme in ["quic", "tls"] {
        revoked.push(Producer::builder().connect(plant.config(scheme, "pump-7")).await.unwrap());
    }
    let stays = Producer::builder().connect(plant.config("quic", "pump-8")).await.unwrap();
    for producer in revoked.iter().chain([&stays]) {
        assert!(send(producer).await.is_some());
    }
    plant.device(&["revoke", "pump-7"]).expect_success();
    plant.broker.hang_up();
    for kind in ["over quic", "over tls"] {
        let ended = plant.broker.log().wait_until(PATIENCE, |line| {
            let is_it = line.contains("does not count any more") && line.contains(kind);
            is_it.then_some(())
        });
        assert!(ended.is_some(), "{kind}");
    }
    assert!(send(&stays).await.is_some());
}

#[test]
fn a_renewed_certificate_is_let_in_and_its_key_is_a_new_one() {
    let plant = plant();
    plant.enrolled("pump-7");
    plant.allow("pump-7");
    let file = plant.on("pump-7").join("pump-7.pem");
    let before = std::fs::read_to_string(&file).unwrap();
    let path = file.display().to_string();
    let renew = |more: &[&str]| {
        let words = ["device", "renew", &path, "--gateway", &plant.gateway];
        millpond(&[&words[..], more].concat()).expect_success()
    };
    assert!(renew(&["--within", "30"]).contains("kept"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert!(renew(&[]).contains("renewed"));
    let after = std::fs::read_to_string(&file).unwrap();
    let key = |text: &str| text.split("-----BEGIN PRIVATE KEY-----").nth(1).map(str::to_owned);
    assert!(key(&after).is_some() && key(&after) != key(&before));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    plant.produce("quic", "pump-7");
    plant.produce("tls", "pump-7");
    plant.expect_audited("PRIVATE KEY", &["device-enrolled", "device-renewed"]);
}
