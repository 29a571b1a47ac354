//! A broker that asks who is there: beside the usual listener one in the clear and one within TLS, both
//! with every SASL mechanism; and clients that log in there. Must never put a password on a command
//! line of ours: the command under test takes none.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use crate::broker::{Broker, KAFKA_HERE, Setup};
use crate::clients::{home, on_path, python_home, require};
use crate::command::{Outcome, Program};
use crate::{binary, ports};

/// Every mechanism.
pub const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// What the user of the stories is called, and by what he is known.
pub const USER: &str = "ann";
/// Of the user of the stories.
pub const PASSWORD: &str = "correct horse, battery = staple";

const STORY_TIME: Duration = Duration::from_secs(120);

/// A broker with listeners that ask.
pub struct Guarded {
    /// Its own listener asks nobody.
    pub broker: Broker,
    /// SASL_PLAINTEXT.
    pub open: SocketAddr,
    /// SASL_SSL.
    pub tls: SocketAddr,
}

/// By what somebody logs in.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// Whether within TLS.
    pub is_tls: bool,
    /// By its registered name.
    pub mechanism: &'a str,
    /// Who.
    pub user: &'a str,
    /// What he says.
    pub password: &'a str,
}

/// Who signs tokens.
pub struct Issuer(Ed25519KeyPair);

impl Default for Issuer {
    fn default() -> Issuer {
        match Ed25519KeyPair::from_seed_unchecked(&[5; 32]) {
            Ok(pair) => Issuer(pair),
            Err(error) => panic!("a seed of 32 bytes: {error}"),
        }
    }
}

impl Issuer {
    fn key_set(&self) -> String {
        let public = BASE64.encode(self.0.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": public}]}).to_string()
    }

    /// A token of the user of the stories that ends so many seconds from now.
    pub fn token(&self, audience: &str, seconds: i64) -> String {
        let end = crate::kafka::now_ms() / 1000 + seconds;
        let claims = json!({"sub": USER, "aud": audience, "exp": end, "iat": end - 3600});
        let part = |value: &serde_json::Value| BASE64.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "EdDSA"})), part(&claims));
        format!("{signed}.{}", BASE64.encode(self.0.sign(signed.as_bytes()).as_ref()))
    }
}

impl Login<'_> {
    /// Kafka's name of the listener's protocol.
    pub fn protocol(&self) -> &'static str {
        if self.is_tls { "SASL_SSL" } else { "SASL_PLAINTEXT" }
    }

    /// The user of the stories, by each mechanism on each listener.
    pub fn all() -> impl Iterator<Item = Login<'static>> {
        let each = |is_tls| {
            MECHANISMS.into_iter().map(move |mechanism| Login {
                is_tls,
                mechanism,
                user: USER,
                password: PASSWORD,
            })
        };
        each(false).chain(each(true))
    }
}

impl Guarded {
    /// Starts one, with the user of the stories.
    #[track_caller]
    pub fn start() -> Guarded {
        let guarded = Guarded::without_users("");
        guarded.add_user(USER, PASSWORD);
        guarded
    }

    /// Starts one that knows nobody, with more settings for both listeners that ask.
    #[track_caller]
    pub fn without_users(more: &str) -> Guarded {
        Guarded::with(&format!("sasl = {MECHANISMS:?}\n{more}"))
    }

    /// Starts one with these settings for both listeners that ask.
    #[track_caller]
    fn with(settings: &str) -> Guarded {
        Guarded::with_super_users(&["User:ANONYMOUS", "User:ann", "User:bob"], settings)
    }

    /// Starts one where rules decide: only who comes by the broker's own listener may do everything.
    #[track_caller]
    pub fn with_rules(settings: &str) -> Guarded {
        let settings = format!("sasl = {MECHANISMS:?}\n{settings}");
        Guarded::with_super_users(&["User:ANONYMOUS"], &settings)
    }

    #[track_caller]
    fn with_super_users(super_users: &[&str], settings: &str) -> Guarded {
        let (open, tls) = (ports::free(), ports::free());
        let listeners = format!(
            "\n[access]\nsuper_users = {super_users:?}\n\
             \n[[listeners]]\nname = \"own\"\naddress = \"{KAFKA_HERE}\"\n\
             \n[[listeners]]\nname = \"open\"\naddress = \"{open}\"\nquic = false\n\
             insecure = true\n{settings}\
             \n[[listeners]]\nname = \"tls\"\naddress = \"{tls}\"\nquic = false\n\
             tcp = \"tls\"\n{settings}"
        );
        let broker = Setup::default().config(&listeners).start();
        Guarded { broker, open, tls }
    }

    /// Starts one whose listeners take signed tokens, those of `issuer` for the audience "gateway".
    #[track_caller]
    pub fn for_tokens(issuer: &Issuer) -> Guarded {
        let keys = binary::scratch().keep().join("keys.json");
        std::fs::write(&keys, issuer.key_set()).unwrap_or_else(|error| panic!("{keys:?}: {error}"));
        let settings = format!(
            "sasl = [\"OAUTHBEARER\"]\noauth_keys = {keys:?}\noauth_audience = \"gateway\"\n"
        );
        Guarded::with(&settings)
    }

    /// `millpond user add`, the password on its standard input.
    #[track_caller]
    pub fn add_user(&self, name: &str, password: &str) {
        let bootstrap = self.broker.bootstrap();
        let words = ["user", "add", name, "-b", &bootstrap];
        self.broker.cli_with_input(&words, password.as_bytes()).expect_success();
    }

    fn address(&self, login: &Login<'_>) -> SocketAddr {
        if login.is_tls { self.tls } else { self.open }
    }

    /// The certificate that the listener within TLS shows.
    pub fn certificate(&self) -> String {
        let file = self.broker.data_dir().join("tls/development-certificate.pem");
        file.display().to_string()
    }

    /// One story of a Python client.
    #[track_caller]
    pub fn python(&self, story: &str, login: &Login<'_>) {
        let (python, scripts) = python_home();
        self.tell(&python, &scripts.join("sasl_stories.py"), story, login);
    }

    /// One story of kafkajs.
    #[track_caller]
    pub fn kafkajs(&self, story: &str, login: &Login<'_>) {
        require(home().join("node_modules/kafkajs").is_dir(), "kafkajs");
        self.tell(&on_path("node"), &home().join("node/sasl_stories.js"), story, login);
    }

    #[track_caller]
    fn tell(&self, interpreter: &Path, script: &Path, story: &str, login: &Login<'_>) {
        let address = self.address(login).to_string();
        let words = [script.as_os_str(), story.as_ref(), address.as_ref()];
        let mut program = Program::new(interpreter, words)
            .env("SASL_PROTOCOL", login.protocol())
            .env("SASL_MECHANISM", login.mechanism)
            .env("SASL_USER", login.user)
            .env("SASL_PASSWORD", login.password);
        if login.is_tls {
            program = program.env("SASL_CA", &self.certificate());
        }
        let outcome = program.run(STORY_TIME);
        assert!(outcome.succeeded(), "{}: {outcome}", login.mechanism);
        assert!(outcome.stdout.contains(&format!("ok {story}")), "it did not say ok: {outcome}");
    }

    /// What the program of the Java clients says.
    #[track_caller]
    pub fn java(&self, classes: &crate::jvm::Classes, login: &Login<'_>) -> String {
        let (address, ca) = (self.address(login).to_string(), self.certificate());
        let ca = if login.is_tls { ca.as_str() } else { "-" };
        let words = [&address, login.protocol(), login.mechanism, login.user, login.password, ca];
        classes.run("LoggingIn", &words, STORY_TIME)
    }

    /// `kafka-configs` against the listener that asks nobody.
    #[track_caller]
    pub fn kafka_configs(&self, classes: &crate::jvm::Classes, words: &[&str]) -> String {
        let bootstrap = self.broker.bootstrap();
        let all = ["--bootstrap-server", &bootstrap].into_iter().chain(words.iter().copied());
        let all: Vec<&str> = all.collect();
        classes.run("kafka.admin.ConfigCommand", &all, STORY_TIME)
    }

    /// `millpond user ...`.
    pub fn cli(&self, words: &[&str]) -> Outcome {
        let bootstrap = self.broker.bootstrap();
        let all: Vec<&str> =
            ["user"].into_iter().chain(words.iter().copied()).chain(["-b", &bootstrap]).collect();
        self.broker.cli(&all)
    }
}
