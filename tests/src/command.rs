//! Run another program with a deadline, and show what it printed when it goes wrong. Never leaves
//! it running.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::binary::temporary_dir;
use crate::log::Log;

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub line: String,
    /// None: it ran out of time and was killed.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    /// Whether it ended with 0 in time.
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The standard output of a program that must have succeeded.
    #[track_caller]
    pub fn expect_success(self) -> String {
        assert!(self.succeeded(), "{self}");
        self.stdout
    }

    /// Both outputs of a program that must have failed by itself.
    #[track_caller]
    pub fn expect_failure(self) -> String {
        assert!(self.status.is_some_and(|status| !status.success()), "it should fail: {self}");
        self.stdout + &self.stderr
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => writeln!(out, "{}: {status}", self.line)?,
            None => writeln!(out, "{}: out of time, killed", self.line)?,
        }
        writeln!(out, "--- its stdout\n{}", self.stdout)?;
        write!(out, "--- its stderr\n{}", self.stderr)
    }
}

/// A program and its arguments.
pub struct Program {
    command: Command,
    line: String,
}

impl Program {
    /// `program` with `arguments`.
    pub fn new<A: Into<OsString>>(
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Program {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let mut line = program.as_ref().display().to_string();
        for argument in &arguments {
            line.push(' ');
            line.push_str(&argument.to_string_lossy());
        }
        let mut command = command_of(program.as_ref());
        command.args(arguments);
        Program { command, line }
    }

    /// Where it runs.
    pub fn in_dir(mut self, dir: &Path) -> Program {
        self.command.current_dir(dir);
        self
    }

    /// A variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Program {
        self.command.env(name, value);
        self
    }

    /// Run it to its end, with `input` on its standard input.
    pub fn run_with_input(mut self, input: &[u8], patience: Duration) -> Outcome {
        self.command.stdin(Stdio::piped());
        let input = input.to_vec();
        self.run_fed(Some(input), patience)
    }

    /// Run it to its end, or kill it when its time is over.
    pub fn run(self, patience: Duration) -> Outcome {
        self.run_fed(None, patience)
    }

    fn run_fed(mut self, input: Option<Vec<u8>>, patience: Duration) -> Outcome {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{}: cannot be started: {error}", self.line),
        };
        let (stdout, stderr) = (Log::default(), Log::default());
        let readers = [
            child.stdout.take().map(|pipe| stdout.follow(pipe)),
            child.stderr.take().map(|pipe| stderr.follow(pipe)),
        ];
        let feeder = child.stdin.take().zip(input).map(|(mut pipe, input)| {
            // A program that ends early does not read it all: its status tells the story.
            std::thread::spawn(move || drop(std::io::Write::write_all(&mut pipe, &input)))
        });
        let status = wait(child, patience);
        for reader in readers.into_iter().flatten().chain(feeder) {
            reader.join().ok();
        }
        Outcome { line: self.line, status, stdout: stdout.text(), stderr: stderr.text() }
    }
}

/// A program that reads nothing and keeps its temporary files where they are removed after it.
pub(crate) fn command_of(program: &Path) -> Command {
    let temporary = temporary_dir();
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("TMPDIR", temporary);
    // JVMs know no TMPDIR; those that others start (Beam's Python does) read this.
    let of_jvms = format!("-Djava.io.tmpdir=\"{}\"", temporary.display());
    command.env("JDK_JAVA_OPTIONS", of_jvms);
    command
}

/// Wait for the end of a child; kill it when its time is over.
fn wait(mut child: Child, patience: Duration) -> Option<ExitStatus> {
    let pid = pid_of(&child);
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait()));
    match end.recv_timeout(patience) {
        Ok(status) => status.ok(),
        Err(_) => {
            // The waiting thread has not reaped it, so the id is still its own.
            kill_process(pid, Signal::KILL).ok();
            end.recv().ok();
            None
        }
    }
}

/// The process id of a child.
pub fn pid_of(child: &Child) -> Pid {
    match Pid::from_raw(child.id() as i32) {
        Some(pid) => pid,
        None => unreachable!("a child has an id above 0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_status_are_caught() {
        let outcome = Program::new("sh", ["-c", "cat; echo bad >&2; exit 3"])
            .run_with_input(b"good", Duration::from_secs(20));
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("good", "bad"));
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(3));
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let outcome = Program::new("sleep", ["600"]).run(Duration::from_millis(50));
        assert!(outcome.status.is_none());
        assert!(outcome.to_string().contains("out of time"));
    }
}
