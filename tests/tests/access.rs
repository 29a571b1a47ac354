//! Who may do what, by the clients that people have: refused by the error that each has for it, then
//! allowed by a rule, made by our command, by Kafka's, by the Java Admin. Certificates name clients, too.
//! Never skipped: a client that is missing fails, with the command that installs it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millpond_tests::authority::{Authority, Shown};
use millpond_tests::broker::{Broker, KAFKA_HERE, Setup};
use millpond_tests::clients::python_home;
use millpond_tests::command::{Outcome, Program};
use millpond_tests::jvm::Classes;
use millpond_tests::ports;
use millpond_tests::sasl::{Guarded, PASSWORD, USER};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const STORY_TIME: Duration = Duration::from_secs(120);

/// A broker where rules decide for the user of the stories.
fn guarded() -> Guarded {
    let guarded = Guarded::with_rules("");
    guarded.add_user(USER, PASSWORD);
    guarded
}

/// `millpond acl ...` by the listener where whoever comes may do everything.
fn acl(broker: &Broker, words: &[&str]) -> Outcome {
    let bootstrap = broker.bootstrap();
    broker.cli(&[&["acl"], words, &["-b", &bootstrap]].concat())
}

fn python(story: &str, address: SocketAddr, more: &[(&str, &str)]) {
    let (python, scripts) = python_home();
    let script = scripts.join("access_stories.py");
    let address = address.to_string();
    let mut program = Program::new(python, [script.as_os_str(), story.as_ref(), address.as_ref()]);
    for (name, value) in more {
        program = program.env(name, value);
    }
    let outcome = program.run(STORY_TIME);
    assert!(outcome.succeeded(), "{outcome}");
}

const BY_PASSWORD: [(&str, &str); 4] = [
    ("SASL_PROTOCOL", "SASL_PLAINTEXT"),
    ("SASL_MECHANISM", "SCRAM-SHA-512"),
    ("SASL_USER", USER),
    ("SASL_PASSWORD", PASSWORD),
];

#[test]
fn kafka_python_is_denied_then_allowed_and_rules_survive_kill_9() {
    let mut guarded = guarded();
    let topic = ["topic", "create", "line-1", "-b", &guarded.broker.bootstrap()];
    guarded.broker.cli(&topic).expect_success();
    python("denied", guarded.open, &BY_PASSWORD);
    let writes = ["add", "User:ann", "read,write", "--topic", "line-", "--prefix"];
    acl(&guarded.broker, &writes).expect_success();
    acl(&guarded.broker, &["add", "User:ann", "read", "--group", "report"]).expect_success();
    guarded.broker.restart();
    python("allowed", guarded.open, &BY_PASSWORD);
    acl(&guarded.broker, &["add", "User:*", "all", "--topic", "line-1", "--deny"]).expect_success();
    guarded.broker.restart();
    python("denied", guarded.open, &BY_PASSWORD);
    let told = guarded.broker.cli(&[
        "consume",
        "__millpond_audit",
        "--from-beginning",
        "--count",
        "4",
        "-b",
        &guarded.broker.bootstrap(),
    ]);
    let told = told.expect_success();
    assert!(told.contains("\"change\":\"user-set\"") && told.contains("User:ANONYMOUS"), "{told}");
}

#[test]
fn the_java_admin_makes_finds_and_deletes_rules_and_java_clients_are_held_to_them() {
    for jars in ["clients-3", "clients-4"] {
        let guarded = guarded();
        let classes = Classes::compile(jars, &["Access"]);
        let (own, open) = (guarded.broker.bootstrap(), guarded.open.to_string());
        let said = classes.run("Access", &[&own, &open, USER, PASSWORD], STORY_TIME);
        assert!(said.lines().any(|line| line == "ok"), "{jars}: {said}");
    }
}

#[test]
fn kafka_acls_and_our_command_see_the_same_rules() {
    let guarded = guarded();
    let bootstrap = guarded.broker.bootstrap();
    let tools = Classes::of_jars("tools");
    let kafka_acls = |words: &[&str]| {
        let all = [&["--bootstrap-server", &bootstrap], words].concat();
        tools.run("org.apache.kafka.tools.AclCommand", &all, STORY_TIME)
    };
    let producer = ["--add", "--allow-principal", "User:ann", "--producer", "--topic", "line-1"];
    kafka_acls(&producer);
    let consumer = ["--add", "--allow-principal", "User:ann", "--consumer", "--group", "report"];
    kafka_acls(
        &[&consumer[..], &["--topic", "line", "--resource-pattern-type", "prefixed"]].concat(),
    );
    python("allowed", guarded.open, &BY_PASSWORD);

    acl(&guarded.broker, &["add", "User:eve", "all", "--topic", "line-1", "--deny"])
        .expect_success();
    let about = ["--list", "--topic", "line-1", "--resource-pattern-type", "match"];
    let listed = kafka_acls(&about);
    for part in ["principal=User:eve", "permissionType=DENY", "patternType=PREFIXED"] {
        assert!(listed.contains(part), "no {part}: {listed}");
    }
    let ours = acl(&guarded.broker, &["list", "--principal", "User:ann", "--json"]);
    let ours: Value = serde_json::from_str(&ours.expect_success()).expect("JSON");
    // Three for a producer; read and describe of topic, read of the group, for a consumer.
    assert_eq!(ours.as_array().map(Vec::len), Some(6), "{ours}");
    kafka_acls(&["--remove", "--force", "--topic", "line-1"]);
    let left = acl(&guarded.broker, &["list", "--topic", "line-1"]).expect_success();
    assert!(left.contains("no such rules"), "{left}");
    let refused = acl(&guarded.broker, &["remove"]).expect_failure();
    assert!(refused.contains("--every"), "{refused}");
}

#[test]
fn our_command_logs_in_within_tls_and_is_held_to_the_rules() {
    let guarded = guarded();
    let tls = format!("tls://{}", guarded.tls);
    let ca = guarded.certificate();
    let file = guarded.broker.file("ann.pw", PASSWORD.as_bytes());
    let as_ann = |words: &[&str]| {
        let login = ["-b", &tls, "--ca", &ca, "--user", USER, "--user-password-file", &file];
        guarded.broker.cli(&[words, &login].concat())
    };
    let refused = as_ann(&["acl", "list"]).expect_failure();
    assert!(refused.contains("no permission for the cluster"), "{refused}");
    acl(&guarded.broker, &["add", "User:ann", "describe", "--cluster"]).expect_success();
    let listed = as_ann(&["acl", "list", "--json"]).expect_success();
    assert!(listed.contains("Describe"), "{listed}");
    let open = guarded.open.to_string();
    let clear = ["acl", "list", "-b", &open, "--user", USER, "--user-password-file", &file];
    let refused = guarded.broker.cli(&clear).expect_failure();
    assert!(refused.contains("shows that to everybody"), "{refused}");
}

/// A broker whose second listener asks for certificates of an authority.
struct Plant {
    broker: Broker,
    tls: SocketAddr,
    authority: Authority,
}

fn plant() -> Plant {
    let authority = Authority::new();
    let dir = millpond_tests::binary::scratch().keep();
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("written");
    let tls = ports::free();
    let config = format!(
        "\n[access]\nsuper_users = [\"User:ANONYMOUS\"]\n\
         \n[[listeners]]\nname = \"own\"\naddress = \"{KAFKA_HERE}\"\n\
         \n[[listeners]]\nname = \"devices\"\naddress = \"{tls}\"\ntcp = \"tls\"\n\
         client_auth = \"required\"\nclient_ca = {ca:?}\nclient_name = [\"uri\"]\n\
         client_name_rules = ['RULE:^spiffe:\\/\\/plant\\/(.*)$/$1/L']\n"
    );
    Plant { broker: Setup::default().config(&config).start(), tls, authority }
}

impl Plant {
    fn python(&self, story: &str, shown: Option<&Shown>) {
        let ca = self.broker.data_dir().join("tls/development-certificate.pem");
        let ca = ca.display().to_string();
        let mut more = vec![("SASL_PROTOCOL", "SSL"), ("SASL_CA", &ca)];
        let files = shown.map(|shown| {
            let certificate = self.broker.file("client.pem", shown.certificate.as_bytes());
            (certificate, self.broker.file("client.key", shown.key.as_bytes()))
        });
        if let Some((certificate, key)) = &files {
            more.extend([("CLIENT_CERT", certificate.as_str()), ("CLIENT_KEY", key)]);
        }
        python(story, self.tls, &more);
    }
}

#[test]
fn a_certificate_names_its_client_and_the_rules_hold_for_that_name() {
    let plant = plant();
    let pump = plant.authority.sign("pump", Some("spiffe://plant/Pump-7"));
    let topic = ["topic", "create", "line-1", "-b", &plant.broker.bootstrap()];
    plant.broker.cli(&topic).expect_success();
    plant.python("denied", Some(&pump));
    acl(&plant.broker, &["add", "User:pump-7", "all", "--topic", "line-1", "--group", "report"])
        .expect_success();
    plant.python("allowed", Some(&pump));
    let other = plant.authority.sign("pump", Some("spiffe://plant/pump-8"));
    plant.python("denied", Some(&other));
}

#[test]
fn over_quic_and_tls_our_command_is_whom_its_certificate_names() {
    let plant = plant();
    let pump = plant.authority.sign("pump", Some("spiffe://plant/pump-7"));
    let certificate = plant.broker.file("pump.pem", pump.certificate.as_bytes());
    let key = plant.broker.file("pump.key", pump.key.as_bytes());
    let ca = plant.broker.data_dir().join("tls/development-certificate.pem");
    let ca = ca.display().to_string();
    let list = |scheme: &str, shown: &[&str]| {
        let address = format!("{scheme}://{}", plant.tls);
        let words = ["topic", "list", "-b", &address, "--ca", &ca];
        plant.broker.cli(&[&words, shown].concat())
    };
    let shown = ["--certificate", certificate.as_str(), "--private-key", &key];
    let topic = ["topic", "create", "line-1", "-b", &plant.broker.bootstrap()];
    plant.broker.cli(&topic).expect_success();
    for scheme in ["quic", "tls"] {
        list(scheme, &[]).expect_failure();
        let hidden = list(scheme, &shown).expect_success();
        assert!(!hidden.contains("line-1"), "{scheme}: {hidden}");
    }
    acl(&plant.broker, &["add", "User:pump-7", "describe", "--topic", "line-1"]).expect_success();
    for scheme in ["quic", "tls"] {
        let seen = list(scheme, &shown).expect_success();
        assert!(seen.contains("line-1"), "{scheme}: {seen}");
    }
}

#[test]
fn without_a_good_certificate_and_a_name_in_it_nobody_is_let_in() {
    let plant = plant();
    plant.python("not_let_in", None);
    let foreign = Authority::new().sign("pump", Some("spiffe://plant/pump-7"));
    plant.python("not_let_in", Some(&foreign));
    let nameless = plant.authority.sign("pump", None);
    plant.python("not_let_in", Some(&nameless));
    let elsewhere = plant.authority.sign("pump", Some("spiffe://office/pump-7"));
    plant.python("not_let_in", Some(&elsewhere));
}

#[test]
fn http_routes_ask_the_same_rules() {
    let listener = format!(
        "\n[access]\nsuper_users = [\"User:root\"]\n\
         \n[[listeners]]\nname = \"own\"\naddress = \"{KAFKA_HERE}\"\ntcp = \"tls\"\n\
         sasl = [\"PLAIN\"]\n"
    );
    let data = millpond_tests::binary::scratch();
    let mut first = Setup::default().data_dir(data.path()).start();
    let bootstrap = first.bootstrap();
    for user in [USER, "root"] {
        let add = ["user", "add", user, "-b", &bootstrap];
        first.cli_with_input(&add, PASSWORD.as_bytes()).expect_success();
    }
    assert!(first.stop().success());
    let broker = Setup::default().data_dir(data.path()).config(&listener).start();
    let get = |path: &str, user: Option<&str>, password: &str| {
        let mut request = ureq::get(format!("{}{path}", broker.http()));
        if let Some(user) = user {
            let token = STANDARD.encode(format!("{user}:{password}"));
            request = request.header("authorization", format!("Basic {token}"));
        }
        match request.call() {
            Ok(answer) => answer.status().as_u16(),
            Err(ureq::Error::StatusCode(code)) => code,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(get("/healthz", None, ""), 200);
    every_route_is_refused_without_its_permission(&broker);
    the_command_logs_in_over_http(&broker);
    for path in ["/metrics", "/v1/transforms"] {
        assert_eq!(get(path, None, ""), 401, "{path}");
        assert_eq!(get(path, Some(USER), "wrong"), 401, "{path}");
        assert_eq!(get(path, Some(USER), PASSWORD), 403, "{path}");
        assert_eq!(get(path, Some("root"), PASSWORD), 200, "{path}");
    }
}

/// The routes are those of the node's own table, as its document tells.
fn every_route_is_refused_without_its_permission(broker: &Broker) {
    const FREE: [&str; 3] = ["/healthz", "/readyz", "/v1/openapi.json"];
    // What devices ask proves itself; this node is no authority, so nobody is given anything.
    const DEVICES: &str = "/v1/devices/";
    let document: Value = serde_json::from_str(&broker.get("/v1/openapi.json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let (mut asked, mut denials) = (0, 0);
    for (path, methods) in paths {
        let is_free = FREE.contains(&path.as_str());
        for method in methods.as_object().expect("methods").keys() {
            for (user, refused) in [(None, 401), (Some(USER), 403)] {
                let answer = status_of(&broker.http(), method, &path.replace("{name}", "x"), user);
                if path.starts_with(DEVICES) {
                    assert!((400..500).contains(&answer), "{answer}: {method} {path} by {user:?}");
                    continue;
                }
                let wanted = if is_free { 200 } else { refused };
                assert_eq!(answer, wanted, "{method} {path} by {user:?}");
            }
            denials += if is_free || path.starts_with(DEVICES) { 0 } else { 2 };
            asked += 1;
        }
    }
    assert!(asked >= 14, "{asked} routes");
    let denied = broker_metric_as_root(broker, "millpond_access_denied_total{api=\"HTTP\"}");
    assert!(denied >= denials, "{denied} of {denials}");
}

/// The status of a bare request: clients of HTTP do not send all methods without a body.
fn status_of(http: &str, method: &str, path: &str, user: Option<&str>) -> u16 {
    let login = user.map_or(String::new(), |user| {
        format!("authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{PASSWORD}")))
    });
    let address = http.trim_start_matches("http://");
    let mut line = TcpStream::connect(address).expect("connected");
    let method = method.to_ascii_uppercase();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n{login}\r\n"
    );
    line.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    line.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}

fn broker_metric_as_root(broker: &Broker, name: &str) -> u64 {
    let token = STANDARD.encode(format!("root:{PASSWORD}"));
    let request = ureq::get(format!("{}/metrics", broker.http()));
    let answer = request.header("authorization", format!("Basic {token}")).call();
    let text = answer.expect("metrics").body_mut().read_to_string().expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().parse::<f64>().unwrap_or_default() as u64
}

fn the_command_logs_in_over_http(broker: &Broker) {
    let file = broker.file("any.pw", PASSWORD.as_bytes());
    let http = broker.http();
    let list = |user: &str, file: &str| {
        let login = ["--user", user, "--user-password-file", file];
        broker.cli(&[&["transform", "list", "--http", &http][..], &login].concat())
    };
    list("root", &file).expect_success();
    let refused = list(USER, &file).expect_failure();
    assert!(refused.contains("lacks the permission Describe"), "{refused}");
    let wrong = broker.file("wrong.pw", b"wrong");
    list("root", &wrong).expect_failure();
    let nobody = broker.cli(&["transform", "list", "--http", &http]).expect_failure();
    assert!(nobody.contains("--user"), "{nobody}");
    let told = broker_metric_as_root(
        broker,
        "millpond_logins_total{mechanism=\"HTTP\",result=\"refused\"}",
    );
    assert!(told >= 1, "{told}");
}
