//! The real clients: where tests/setup put them, and how one of their stories is run. A client
//! that is missing fails its test, with the command that installs it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::binary::repository;
use crate::broker::Broker;
use crate::command::{Outcome, Program};

const STORY_TIME: Duration = Duration::from_secs(120);

/// Run one story of a Python client.
#[track_caller]
pub fn python(broker: &Broker, script: &str, story: &str) {
    python_of(".venv/bin/python", broker, script, story);
}

/// Run one story of Apache Beam's Python SDK, which calls Java's.
#[track_caller]
pub fn python_beam(broker: &Broker, story: &str) {
    require(home().join("java/target/beam").is_dir(), "the Java clients");
    on_path("java");
    python_of("beam/.venv/bin/python", broker, "beam_stories.py", story);
}

#[track_caller]
fn python_of(python: &str, broker: &Broker, script: &str, story: &str) {
    let python = home().join(python);
    require(python.is_file(), "the Python clients");
    tell(broker, &python, &home().join("python").join(script), story);
}

/// The interpreter that has the Python clients, and the directory of the scripts.
#[track_caller]
pub fn python_home() -> (PathBuf, PathBuf) {
    let python = home().join(".venv/bin/python");
    require(python.is_file(), "the Python clients");
    (python, home().join("python"))
}

/// Run Python code that may import the clients; what it printed.
#[track_caller]
pub fn python_code(broker: &Broker, code: &str) -> String {
    let python = home().join(".venv/bin/python");
    require(python.is_file(), "the Python clients");
    let file = broker.file("code.py", code.as_bytes());
    Program::new(python, ["-W", "ignore", &file]).run(STORY_TIME).expect_success()
}

/// Run one story of kafkajs.
#[track_caller]
pub fn kafkajs(broker: &Broker, story: &str) {
    require(home().join("node_modules/kafkajs").is_dir(), "kafkajs");
    tell(broker, &on_path("node"), &home().join("node/kafkajs_stories.js"), story);
}

/// Run kcat against the broker.
#[track_caller]
pub fn kcat(broker: &Broker, arguments: &[&str], input: &[u8]) -> Outcome {
    let bootstrap = broker.bootstrap();
    let all = ["-b", &bootstrap].into_iter().chain(arguments.iter().copied());
    Program::new(on_path("kcat"), all).run_with_input(input, STORY_TIME)
}

pub(crate) fn home() -> PathBuf {
    repository().join("tests/clients")
}

#[track_caller]
fn tell(broker: &Broker, interpreter: &Path, script: &Path, story: &str) {
    tell_program(broker, interpreter, &[script.as_os_str()], story);
}

/// A program takes the words, the story and where the broker is, and says ok.
#[track_caller]
pub(crate) fn tell_program(broker: &Broker, program: &Path, words: &[&OsStr], story: &str) {
    let bootstrap = broker.bootstrap();
    let words = words.iter().copied().chain([story.as_ref(), bootstrap.as_ref()]);
    let outcome = Program::new(program, words).run(STORY_TIME);
    assert!(outcome.succeeded(), "{outcome}");
    assert!(outcome.stdout.contains(&format!("ok {story}")), "it did not say ok: {outcome}");
}

#[track_caller]
pub(crate) fn on_path(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|at| at.is_file());
    require(found.is_some(), program);
    found.unwrap_or_default()
}

#[track_caller]
pub(crate) fn require(there: bool, what: &str) {
    assert!(
        there,
        "{what}: not installed. Run `tests/setup` (as root, or with sudo) and try again"
    );
}
