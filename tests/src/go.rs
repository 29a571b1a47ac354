//! The Go clients: each of their programs is built once in a test's process, and tells one story to
//! one broker at a time. Must not skip: a missing Go or module fails every story, with the command
//! that installs it.

use std::ffi::OsString;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::binary::scratch;
use crate::broker::Broker;
use crate::clients::{home, on_path, require, tell_program};
use crate::command::Program;

/// Where nothing of it was ever built, on two cores that others use as well.
const BUILD_TIME: Duration = Duration::from_secs(240);

/// A program under `clients/go`.
pub struct GoProgram {
    name: &'static str,
    built: OnceLock<TempDir>,
}

impl GoProgram {
    /// `name` is its directory.
    pub const fn new(name: &'static str) -> GoProgram {
        GoProgram { name, built: OnceLock::new() }
    }

    /// Tell one of its stories to a broker of its own.
    #[track_caller]
    pub fn tell(&self, story: &str) {
        let built = self.built.get_or_init(|| self.build());
        tell_program(&Broker::start(), &built.path().join(self.name), &[], story);
    }

    /// Modules that were fetched are taken as they are: a test downloads nothing.
    fn build(&self) -> TempDir {
        let modules = home().join("go");
        require(modules.join("target/installed").is_file(), "the Go clients");
        let into = scratch();
        let words = ["build", "-mod=readonly", "-buildvcs=false", "-o"].map(OsString::from);
        let package = format!("./{}", self.name);
        let words = words.into_iter().chain([into.path().join(self.name).into(), package.into()]);
        // Where no Go is installed, setup puts one beside the Python clients.
        let own = home().join(".venv/bin/go");
        let go = if own.is_file() { own } else { on_path("go") };
        let program = Program::new(go, words).in_dir(&modules);
        program.env("GOPROXY", "off").run(BUILD_TIME).expect_success();
        into
    }
}
