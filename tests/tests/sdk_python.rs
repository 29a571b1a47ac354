//! The Python package: its wheel is built of the C library, installed where nothing else is, checked by
//! mypy, and tells its stories (`clients/python/millpond_stories.py`) to a broker that lets nobody in
//! without a login, over QUIC and TLS. Downloads nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use millpond_tests::binary::{library_c, repository, scratch};
use millpond_tests::broker::{Broker, KAFKA_HERE, Setup};
use millpond_tests::clients::python_home;
use millpond_tests::command::Program;
use millpond_tests::ports;
use millpond_tests::sasl::{PASSWORD, USER};

const STORY_TIME: Duration = Duration::from_secs(120);

/// A virtual environment with the wheel and nothing else.
struct Installed {
    dir: tempfile::TempDir,
}

impl Installed {
    fn python(&self) -> PathBuf {
        self.dir.path().join("venv/bin/python")
    }
}

fn run(command: &mut Command) {
    let outcome = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = || format!("{}{}", text(&outcome.stdout), text(&outcome.stderr));
    assert!(outcome.status.success(), "{command:?}: {}", said());
}

fn installed() -> &'static Installed {
    static INSTALLED: OnceLock<Installed> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let (clients, _) = python_home();
        let dir = scratch();
        let wheels = dir.path().join("wheels");
        let library = library_c().join("libmillpond_c.so");
        let build = repository().join("core/client/python/build");
        run(Command::new(build).arg("--library").arg(library).arg("--out").arg(&wheels));
        // Its pip is the other environment's: making one takes longer than all the rest.
        let venv = dir.path().join("venv");
        run(Command::new(&clients).args(["-m", "venv", "--without-pip"]).arg(&venv));
        let made = std::fs::read_dir(&wheels).unwrap().flatten().map(|entry| entry.path());
        let made: Vec<PathBuf> = made.collect();
        assert_eq!(made.len(), 1, "one wheel: {made:?}");
        let pip = ["-m", "pip", "--disable-pip-version-check", "--python"];
        let mut install = Command::new(&clients);
        install.args(pip).arg(venv.join("bin/python"));
        run(install.args(["install", "--quiet", "--no-index"]).args(&made));
        Installed { dir }
    })
}

/// A broker with a listener that asks, over TLS and QUIC.
fn guarded() -> (Broker, SocketAddr) {
    let address = ports::free();
    let listeners = format!(
        "\n[access]\nsuper_users = [\"User:ANONYMOUS\", \"User:{USER}\"]\n\
         \n[[listeners]]\nname = \"own\"\naddress = \"{KAFKA_HERE}\"\n\
         \n[[listeners]]\nname = \"door\"\naddress = \"{address}\"\ntcp = \"tls\"\n\
         sasl = [\"SCRAM-SHA-256\"]\n\
         \n[groups]\nconsumer_heartbeat_interval_ms = 200\nconsumer_session_timeout_ms = 2000\n"
    );
    let broker = Setup::default().config(&listeners).start();
    let bootstrap = broker.bootstrap();
    broker
        .cli_with_input(&["user", "add", USER, "-b", &bootstrap], PASSWORD.as_bytes())
        .expect_success();
    (broker, address)
}

fn tell(story: &str) {
    let python = installed().python();
    let (broker, address) = guarded();
    let (_, scripts) = python_home();
    let script = scripts.join("millpond_stories.py");
    let ca = broker.data_dir().join("tls/development-certificate.pem");
    let words = ["-W".into(), "error".into(), script.into_os_string(), story.into()];
    let program = Program::new(python, words.into_iter().chain([address.to_string().into()]))
        .env("MILLPOND_CA", &ca.display().to_string())
        .env("MILLPOND_USER", USER)
        .env("MILLPOND_PASSWORD", PASSWORD);
    let outcome = program.run(STORY_TIME);
    assert!(outcome.succeeded(), "{outcome}");
    assert!(outcome.stdout.contains(&format!("ok {story}")), "it did not say ok: {outcome}");
}

#[test]
fn what_is_sent_is_read_over_quic_tls_and_whatever_passes() {
    tell("transports");
}

#[test]
fn a_commit_covers_what_was_handed_out_and_no_more() {
    tell("groups");
}

#[test]
fn records_and_offsets_count_together_or_not_at_all() {
    tell("transactions");
}

#[test]
fn a_loop_of_asyncio_produces_and_consumes_and_never_stands_still() {
    tell("loop");
}

#[test]
fn errors_have_a_kind_a_code_and_words_that_help() {
    tell("errors");
}

#[test]
fn the_package_is_typed_throughout() {
    let (python, _) = python_home();
    let package: &Path = &repository().join("core/client/python");
    let cache = scratch();
    let mut mypy = Command::new(python);
    mypy.args(["-m", "mypy", "--strict", "--cache-dir"]).arg(cache.path());
    run(mypy.args(["millpond", "wheel_backend.py"]).current_dir(package));
}
