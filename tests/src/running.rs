//! A program that runs beside the test until it is killed, or asked to end. What it prints is kept,
//! and shown when the test fails; it never outlives the test.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::command::{command_of, pid_of};
use crate::log::Log;

/// How many lines of a log are shown.
const LINES_SHOWN: usize = 80;

/// A program that was started.
pub struct Running {
    name: String,
    child: Option<Child>,
    log: Log,
}

impl Running {
    /// Start it; `name` is for messages.
    #[track_caller]
    pub fn start<A: Into<OsString>>(
        name: &str,
        program: impl AsRef<Path>,
        words: impl IntoIterator<Item = A>,
    ) -> Running {
        let mut command = command_of(program.as_ref());
        command.args(words.into_iter().map(Into::into));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{name}: {:?}: {error}", program.as_ref()),
        };
        let log = Log::default();
        if let Some(pipe) = child.stdout.take() {
            log.follow(pipe);
        }
        if let Some(pipe) = child.stderr.take() {
            log.follow(pipe);
        }
        Running { name: name.into(), child: Some(child), log }
    }

    /// What it has printed.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Wait for a line that contains `needle`; it must not end before.
    #[track_caller]
    pub fn expect_line(&mut self, needle: &str, patience: Duration) -> String {
        let give_up = Instant::now() + patience;
        loop {
            if let Some(line) = self.log.wait_for(needle, Duration::from_millis(100)) {
                return line;
            }
            self.expect_alive();
            assert!(Instant::now() < give_up, "{}: no {needle:?} in {patience:?}", self.name);
        }
    }

    /// Panics if it ended by itself.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => {}
            ended => panic!("{} does not run: {ended:?}", self.name),
        }
    }

    /// kill -9, and wait until it is dead.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGSTOP: it is there and does nothing, as in a long pause of a virtual machine.
    #[track_caller]
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on, and does not know how late it is.
    #[track_caller]
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    #[track_caller]
    fn signal(&mut self, signal: Signal) {
        let Some(child) = &self.child else { panic!("{} does not run", self.name) };
        if let Err(error) = kill_process(pid_of(child), signal) {
            panic!("{}: {error}", self.name);
        }
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn stop(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let Some(child) = self.child.as_mut() else { panic!("{} does not run", self.name) };
        let give_up = Instant::now() + patience;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if Instant::now() < give_up => {
                    self.log.wait_for_news(Duration::from_millis(20));
                }
                _ => panic!("{} did not end within {patience:?} of SIGTERM", self.name),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let (name, log) = (&self.name, self.log.tail(LINES_SHOWN));
            eprintln!("--- {name} (its end)\n{log}\n---");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_program_is_heard_and_asked_to_end() {
        let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
        let mut shell = Running::start("shell", "sh", ["-c", script]);
        assert_eq!(shell.expect_line("up", PATIENCE), "up");
        shell.expect_alive();
        assert_eq!(shell.stop(PATIENCE).code(), Some(3));
        assert!(shell.log().wait_for("bye", PATIENCE).is_some());
    }
}
