//! A real broker in a process of its own: started, awaited, killed, started again on the same
//! data. Its log is shown when the test fails; it never outlives the test.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::command::{Outcome, Program, pid_of};
use crate::log::Log;
use crate::{binary, ports};

/// How long a broker may take to become ready, or to stop when asked.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The configuration of most tests: as without a file, with a journal that takes less to write.
pub const SMALL: &str = "\
[topics]
auto_create = true

[journal]
file_bytes = \"37MiB\"
files = 2
";

/// More configuration, for little data: what works in the background works all the time, and
/// consumers that are not at the end read from segments.
pub const BUSY_STORAGE: &str = "
[storage]
tail_bytes = \"1MiB\"
cache_bytes = 0
check_interval_ms = 1000
compaction_check_ms = 200
background_bytes_per_second = 0
";

/// Stands in a configuration with several listeners for the address that [`Broker::kafka`] tells.
pub const KAFKA_HERE: &str = "{kafka}";

/// How a broker is to be started.
pub struct Setup {
    launcher: Vec<OsString>,
    arguments: Vec<OsString>,
    config: Option<String>,
    environment: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Setup {
        let config = Some(SMALL.to_owned());
        let (launcher, arguments, environment) = (Vec::new(), Vec::new(), Vec::new());
        Setup { launcher, arguments, config, environment, data_dir: None }
    }
}

impl Setup {
    /// No configuration file at all: what a person gets who types `millpond serve`.
    pub fn without_config() -> Setup {
        Setup { config: None, ..Setup::default() }
    }

    /// More arguments after `millpond serve`.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Setup {
        self.arguments.push(argument.into());
        self
    }

    /// More text at the end of the configuration file.
    pub fn config(mut self, text: &str) -> Setup {
        self.config.get_or_insert_default().push_str(text);
        self
    }

    /// A variable in its environment.
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// A program that starts the broker: its command line goes before the broker's own. It must
    /// become the broker (`exec`), for the broker is killed by its process id.
    pub fn launcher<A: Into<OsString>>(mut self, words: impl IntoIterator<Item = A>) -> Setup {
        self.launcher = words.into_iter().map(Into::into).collect();
        self
    }

    /// Keep its data there, instead of in a new directory.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Setup {
        self.data_dir = Some(dir.into());
        self
    }

    /// Start it and wait until it is ready.
    #[track_caller]
    pub fn start(self) -> Broker {
        let mut broker = self.start_without_waiting();
        broker.wait_until_ready();
        broker
    }

    /// Start it, and do not wait.
    #[track_caller]
    pub fn start_without_waiting(self) -> Broker {
        let home = binary::scratch();
        let (kafka, http) = (ports::free(), ports::free());
        if let Some(text) = &self.config {
            let path = home.path().join("millpond.toml");
            let text = text.replace(KAFKA_HERE, &kafka.to_string());
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        }
        let log = Log::default();
        let process = spawn(&self, home.path(), kafka, http, &log);
        Broker { setup: self, home, kafka, http, log, process: Some(process) }
    }
}

/// A running (or killed) broker with its data directory.
pub struct Broker {
    setup: Setup,
    home: TempDir,
    kafka: SocketAddr,
    http: SocketAddr,
    log: Log,
    process: Option<Child>,
}

impl Broker {
    /// Start one with [`SMALL`], on free ports.
    #[track_caller]
    pub fn start() -> Broker {
        Setup::default().start()
    }

    /// Where Kafka is spoken, TCP and UDP alike.
    pub fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    /// `HOST:PORT` for clients.
    pub fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    /// `http://HOST:PORT`, the administration address.
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.setup, self.home.path())
    }

    /// What it has printed, over all its lives.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The text behind a path of the HTTP listener.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        match get(&format!("{}{path}", self.http())) {
            Ok(text) => text,
            Err(error) => panic!("GET {path}: {error}"),
        }
    }

    /// The sum over all label sets of a metric, None if it is not exported.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics");
        let values: Vec<f64> = text
            .lines()
            .filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Resident memory in bytes.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let status = self.of_process("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        match resident.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()) {
            Some(kib) => kib * 1024,
            None => panic!("no VmRSS in {status:?}: the broker is gone"),
        }
    }

    /// What the kernel says of its process: a file of `/proc/PID`, empty if it is gone.
    pub fn of_process(&self, file: &str) -> String {
        let pid = self.process.as_ref().map_or(0, Child::id);
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
    }

    /// Put a file beside the data and tell its path.
    #[track_caller]
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.home.path().join(name);
        match std::fs::write(&path, content) {
            Ok(()) => path.display().to_string(),
            Err(error) => panic!("{path:?}: {error}"),
        }
    }

    /// Run `millpond ARGUMENTS` as a person at a shell would.
    pub fn cli(&self, arguments: &[&str]) -> Outcome {
        self.cli_program(arguments).run(Duration::from_secs(60))
    }

    /// The same with something on its standard input.
    pub fn cli_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        self.cli_program(arguments).run_with_input(input, Duration::from_secs(60))
    }

    fn cli_program(&self, arguments: &[&str]) -> Program {
        let program = binary::millpond_program(arguments.iter().copied());
        program.in_dir(self.home.path())
    }

    /// kill -9, and wait until it is dead.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }

    /// Kill it if it runs, start it on the same data and ports, wait until it is ready.
    #[track_caller]
    pub fn restart(&mut self) {
        self.restart_without_waiting();
        self.wait_until_ready();
    }

    /// The same, but do not wait: it may still be recovering.
    #[track_caller]
    pub fn restart_without_waiting(&mut self) {
        self.kill();
        let (kafka, http) = (self.kafka, self.http);
        self.process = Some(spawn(&self.setup, self.home.path(), kafka, http, &self.log));
    }

    /// SIGHUP: it is to read its certificates anew.
    pub fn hang_up(&self) {
        if let Some(process) = &self.process {
            kill_process(pid_of(process), Signal::HUP).ok();
        }
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        let Some(mut process) = self.process.take() else { panic!("the broker does not run") };
        kill_process(pid_of(&process), Signal::TERM).ok();
        let give_up = Instant::now() + PATIENCE;
        loop {
            match process.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if Instant::now() < give_up => {
                    self.log.wait_for_news(Duration::from_millis(20));
                }
                _ => {
                    process.kill().ok();
                    process.wait().ok();
                    panic!("the broker did not stop within {PATIENCE:?} of SIGTERM");
                }
            }
        }
    }

    /// Panics if it died by itself.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        if let Err(trouble) = self.alive() {
            panic!("{trouble}");
        }
    }

    fn alive(&mut self) -> Result<(), String> {
        match self.process.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            ended => Err(format!("the broker does not run: {ended:?}")),
        }
    }

    /// Wait until it serves; it must not die on the way.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        if let Err(trouble) = self.ready() {
            panic!("{trouble}");
        }
    }

    /// The same; what went wrong is in the error.
    pub fn ready(&mut self) -> Result<(), String> {
        let give_up = Instant::now() + PATIENCE;
        let url = format!("{}/readyz", self.http());
        let mut last = String::new();
        while Instant::now() < give_up {
            match get(&url) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
            self.alive()?;
            // Every line that it prints is an occasion to look again.
            self.log.wait_for_news(Duration::from_millis(10));
        }
        Err(format!("the broker was not ready after {PATIENCE:?}: {last}"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the broker's log (its end)\n{}\n---", self.log.tail(150));
        }
    }
}

fn data_dir(setup: &Setup, home: &Path) -> PathBuf {
    setup.data_dir.clone().unwrap_or_else(|| home.join("data"))
}

fn spawn(setup: &Setup, home: &Path, kafka: SocketAddr, http: SocketAddr, log: &Log) -> Child {
    let broker = binary::runner().into_iter().chain([binary::millpond().into()]);
    let mut words = setup.launcher.iter().cloned().chain(broker);
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(words).arg("serve");
    command.arg("--data-dir").arg(data_dir(setup, home));
    // A configuration with listeners of its own says itself which one is there.
    if setup.config.as_deref().is_none_or(|text| !text.contains(KAFKA_HERE)) {
        command.arg("--listen").arg(kafka.to_string());
    }
    command.arg("--http").arg(http.to_string());
    if setup.config.is_some() {
        command.arg("--config").arg(home.join("millpond.toml"));
    }
    command.args(&setup.arguments);
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(home).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("{program:?}: cannot be started: {error}"),
    };
    if let Some(pipe) = child.stdout.take() {
        log.follow(pipe);
    }
    if let Some(pipe) = child.stderr.take() {
        log.follow(pipe);
    }
    child
}

fn get(url: &str) -> Result<String, String> {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10)));
    let agent: ureq::Agent = config.build().into();
    let mut answer = agent.get(url).call().map_err(|error| error.to_string())?;
    answer.body_mut().read_to_string().map_err(|error| error.to_string())
}
