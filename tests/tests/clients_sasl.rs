//! Real clients log in with SASL, unchanged: by every mechanism, in the clear and within TLS, with
//! users made by our command and by Kafka's. A wrong password is told by the error that each client
//! has for it. Never skipped: a client that is missing fails, with the command that installs it.

use millpond_tests::jvm::Classes;
use millpond_tests::sasl::{Guarded, Issuer, Login, MECHANISMS, PASSWORD, USER};

const WRONG: Login<'_> =
    Login { is_tls: false, mechanism: "SCRAM-SHA-256", user: USER, password: "incorrect" };

/// A wrong password by each mechanism, and somebody who is not known.
fn refused() -> impl Iterator<Item = Login<'static>> {
    let wrong = MECHANISMS.into_iter().map(|mechanism| Login { mechanism, ..WRONG });
    wrong.chain([Login { user: "nobody", ..WRONG }])
}

#[test]
fn kafka_python_logs_in_by_every_mechanism_on_both_listeners() {
    let guarded = Guarded::start();
    Login::all().for_each(|login| guarded.python("kafka_python", &login));
}

#[test]
fn kafka_python_is_told_of_a_wrong_password() {
    let guarded = Guarded::start();
    refused().for_each(|login| guarded.python("kafka_python_refused", &login));
}

#[test]
fn confluent_kafka_logs_in_by_every_mechanism_on_both_listeners() {
    let guarded = Guarded::start();
    Login::all().for_each(|login| guarded.python("confluent_kafka", &login));
}

#[test]
fn confluent_kafka_is_told_of_a_wrong_password() {
    let guarded = Guarded::start();
    refused().for_each(|login| guarded.python("confluent_kafka_refused", &login));
}

#[test]
fn aiokafka_logs_in_by_every_mechanism_on_both_listeners() {
    let guarded = Guarded::start();
    Login::all().for_each(|login| guarded.python("aiokafka", &login));
}

#[test]
fn aiokafka_is_told_of_a_wrong_password() {
    let guarded = Guarded::start();
    refused().for_each(|login| guarded.python("aiokafka_refused", &login));
}

#[test]
fn kafkajs_logs_in_by_every_mechanism_on_both_listeners() {
    let guarded = Guarded::start();
    Login::all().for_each(|login| guarded.kafkajs("kafkajs", &login));
}

#[test]
fn kafkajs_is_told_of_a_wrong_password() {
    let guarded = Guarded::start();
    refused().for_each(|login| guarded.kafkajs("kafkajs_refused", &login));
}

#[test]
fn java_clients_of_both_lines_log_in_and_are_told_of_a_wrong_password() {
    let guarded = Guarded::start();
    for jars in ["clients-3", "clients-4"] {
        let classes = Classes::compile(jars, &["LoggingIn"]);
        for login in Login::all() {
            let said = guarded.java(&classes, &login);
            assert!(said.lines().any(|line| line == "ok"), "{jars} {}: {said}", login.mechanism);
        }
        for login in refused() {
            let said = guarded.java(&classes, &login);
            let is_told = said.contains("refused") && said.contains("invalid credentials");
            assert!(is_told, "{jars} {}: {said}", login.mechanism);
        }
    }
}

#[test]
fn users_that_kafka_configs_makes_and_deletes_log_in_and_do_not_any_more() {
    let guarded = Guarded::without_users("");
    let tools = Classes::of_jars("tools");
    let user = ["--entity-type", "users", "--entity-name", USER];
    let made = "SCRAM-SHA-256=[iterations=8192,password=sesame],SCRAM-SHA-512=[password=sesame]";
    let add = ["--alter", "--add-config", made];
    guarded.kafka_configs(&tools, &[&add[..], &user].concat());
    let shown = guarded.kafka_configs(&tools, &[&["--describe"][..], &user].concat());
    assert!(shown.contains("SCRAM-SHA-256=iterations=8192"), "{shown}");
    assert!(shown.contains("SCRAM-SHA-512=iterations=4096"), "{shown}");
    assert!(!shown.contains("sesame"), "{shown}");
    for mechanism in MECHANISMS {
        guarded.python("kafka_python", &Login { mechanism, password: "sesame", ..WRONG });
    }
    let delete = ["--alter", "--delete-config", "SCRAM-SHA-256"];
    guarded.kafka_configs(&tools, &[&delete[..], &user].concat());
    let gone = Login { mechanism: "SCRAM-SHA-256", password: "sesame", ..WRONG };
    guarded.python("kafka_python_refused", &gone);
    let left = Login { mechanism: "SCRAM-SHA-512", ..gone };
    guarded.python("confluent_kafka", &left);
}

#[test]
fn users_and_new_passwords_survive_kill_9() {
    let mut guarded = Guarded::start();
    guarded.add_user("bob", "first");
    guarded.add_user("bob", "second");
    guarded.cli(&["delete", USER]).expect_success();
    guarded.broker.restart();
    let bob = Login { user: "bob", password: "second", ..WRONG };
    guarded.python("confluent_kafka", &bob);
    guarded.python("confluent_kafka_refused", &Login { password: "first", ..bob });
    guarded.python("confluent_kafka_refused", &Login { password: PASSWORD, ..WRONG });
}

#[test]
fn clients_of_each_kind_log_in_with_a_signed_token_and_are_told_of_a_bad_one() {
    let issuer = Issuer::default();
    let guarded = Guarded::for_tokens(&issuer);
    let (good, stale) = (issuer.token("gateway", 600), issuer.token("gateway", -60));
    let elsewhere = issuer.token("elsewhere", 600);
    let java = Classes::compile("clients-4", &["LoggingIn"]);
    for is_tls in [false, true] {
        let login = Login { is_tls, mechanism: "OAUTHBEARER", user: USER, password: &good };
        for client in ["kafka_python", "confluent_kafka", "aiokafka"] {
            guarded.python(client, &login);
        }
        guarded.kafkajs("kafkajs", &login);
        let said = guarded.java(&java, &login);
        assert!(said.lines().any(|line| line == "ok"), "{said}");
        let said = guarded.java(&java, &Login { password: &stale, ..login });
        assert!(said.contains("refused"), "{said}");
        for password in [stale.as_str(), elsewhere.as_str()] {
            let bad = Login { password, ..login };
            guarded.python("confluent_kafka_refused", &bad);
            guarded.python("kafka_python_refused", &bad);
        }
    }
}

#[test]
fn sessions_that_end_are_renewed_by_clients_that_can() {
    let guarded = Guarded::without_users("connections_max_reauth_ms = 3000\n");
    guarded.add_user(USER, PASSWORD);
    // The first connections log in; each session is renewed before its end, in a log-in of its own.
    let code = format!(
        "import re, time, urllib.request\n\
         from confluent_kafka import Producer\n\
         failures = []\n\
         producer = Producer({{'bootstrap.servers': '{}', 'security.protocol': 'SASL_PLAINTEXT', \
         'sasl.mechanism': 'SCRAM-SHA-512', 'sasl.username': '{USER}', \
         'sasl.password': '{PASSWORD}', 'error_cb': failures.append}})\n\
         def logins():\n    \
             text = urllib.request.urlopen('{}/metrics').read().decode()\n    \
             counts = re.findall(r'requests_total\\{{api=\"SaslHandshake\"[^}}]*\\}} (\\d+)', text)\n    \
             return sum(map(int, counts))\n\
         give_up = time.monotonic() + 60\n\
         first = None\n\
         while first is None or logins() < first + 4:\n    \
             assert time.monotonic() < give_up, (first, logins())\n    \
             producer.produce('renewed', b'x')\n    \
             assert producer.flush(10) == 0\n    \
             first = first or logins()\n\
         assert not failures, failures\n\
         print('ok')\n",
        guarded.open,
        guarded.broker.http()
    );
    assert!(millpond_tests::clients::python_code(&guarded.broker, &code).contains("ok"));
    assert_eq!(guarded.broker.metric("millpond_connections_refused_total"), Some(0.0));
}
