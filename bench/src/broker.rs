//! The broker under test: the real binary in a process of its own, on loopback, with a data
//! directory of its own. It is stopped by its process id and never outlives the measurement.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{BenchError, Context, Outcome};
use crate::load::topics::create_topic;
use crate::process::{PATIENCE, Process, free_address};
use crate::procfs::Memory;
use crate::scrape::Scrape;

/// A running broker.
pub(crate) struct Broker {
    process: Process,
    kafka: SocketAddr,
    http: SocketAddr,
}

impl Broker {
    /// Starts `binary` on the data in `home` and waits until it serves.
    pub(crate) fn start(binary: &Path, home: &Path) -> Outcome<Self> {
        Self::start_with(binary, home, "")
    }

    /// The same with a configuration, as TOML.
    pub(crate) fn start_with(binary: &Path, home: &Path, config: &str) -> Outcome<Self> {
        Self::start_at(binary, home, config, free_address()?)
    }

    /// The same, with Kafka at an address that the caller chose.
    pub(crate) fn start_at(
        binary: &Path,
        home: &Path,
        config: &str,
        kafka: SocketAddr,
    ) -> Outcome<Self> {
        let broker = Self::spawn_at(binary, home, config, kafka)?;
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if broker.get("/readyz").is_ok() {
                return Ok(broker);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(broker.process.complaint("it was not ready in time"))
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(binary: &Path, home: &Path) -> Outcome<Self> {
        Self::spawn_at(binary, home, "", free_address()?)
    }

    pub(crate) fn spawn_at(
        binary: &Path,
        home: &Path,
        config: &str,
        kafka: SocketAddr,
    ) -> Outcome<Self> {
        let http = free_address()?;
        let file = home.join("millpond.toml");
        // A figure that starts from nothing makes its topic by asking for it.
        let config = format!("topics.auto_create = true\n{config}");
        fs::write(&file, config).context(format!("writing {}", file.display()))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&file);
        command.arg("--data-dir").arg(home.join("data"));
        command.args(["--listen", &kafka.to_string(), "--http", &http.to_string()]);
        Ok(Self { process: Process::start("the broker", command, home)?, kafka, http })
    }

    /// Where Kafka is spoken, over TCP and QUIC.
    pub(crate) fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    /// What the kernel knows of it.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Bytes that it sent to the device so far.
    pub(crate) fn written_bytes(&self) -> Outcome<u64> {
        self.process.written_bytes()
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Outcome<Memory> {
        self.process.memory()
    }

    /// The most memory that it ever had resident, in bytes.
    pub(crate) fn peak_rss_bytes(&self) -> Outcome<u64> {
        self.process.peak_rss_bytes()
    }

    /// Processor time that it took so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        self.process.cpu_seconds()
    }

    /// Its metrics.
    pub(crate) fn scrape(&self) -> Outcome<Scrape> {
        Ok(Scrape::parse(&self.get("/metrics")?))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    fn get(&self, path: &str) -> Outcome<String> {
        let url = self.url(path);
        let answer = agent().get(&url).call().context(&url)?;
        answer.into_body().read_to_string().context(url)
    }

    /// Makes a topic.
    pub(crate) fn create_topic(&self, name: &str, partitions: usize) -> Outcome<()> {
        self.create_topic_with(name, partitions, &[])
    }

    /// Makes a topic with settings.
    pub(crate) fn create_topic_with(
        &self,
        name: &str,
        partitions: usize,
        settings: &[(&str, &str)],
    ) -> Outcome<()> {
        create_topic(self.kafka, name, partitions, settings)
    }

    /// Puts a module in force. `description` is what `POST /v1/transforms` takes in its header.
    pub(crate) fn deploy(&self, description: &serde_json::Value, module: &[u8]) -> Outcome<()> {
        match self.uploads().deploy(description, module)? {
            200..=299 => Ok(()),
            status => Err(BenchError::new("deploying a transform", format!("HTTP {status}"))),
        }
    }

    /// Where modules are deployed.
    pub(crate) fn uploads(&self) -> Uploads {
        Uploads { url: self.url("/v1/transforms") }
    }

    /// What a transform counted of something since it was deployed.
    pub(crate) fn transform_stat(&self, name: &str, stat: &str) -> Outcome<u64> {
        let shown = self.get(&format!("/v1/transforms/{name}"))?;
        let shown: serde_json::Value = serde_json::from_str(&shown).context("a transform")?;
        shown["stats"][stat].as_u64().context(format!("{stat} of the transform {name}"))
    }

    /// Lines that are kept of its log.
    pub(crate) fn transform_log_lines(&self, name: &str) -> Outcome<u64> {
        let lines = self.get(&format!("/v1/transforms/{name}/logs"))?;
        let lines: Vec<serde_json::Value> = serde_json::from_str(&lines).context("a log")?;
        Ok(lines.len() as u64)
    }

    /// Waits until nothing is written behind any more, so that the next measurement does not pay
    /// for this one.
    pub(crate) fn wait_until_quiet(&self) -> Outcome<()> {
        self.process.wait_until_quiet()
    }

    /// Stops it as an operator would; gives the bytes that it sent to the device in all its life,
    /// the last checkpoint included.
    pub(crate) fn stop(self) -> Outcome<u64> {
        self.process.stop()
    }

    /// Ends it as a power cut would: at once, with nothing written.
    pub(crate) fn kill(self) -> Outcome<()> {
        self.process.kill()
    }
}

/// The door for modules, for threads of their own.
#[derive(Clone)]
pub(crate) struct Uploads {
    url: String,
}

impl Uploads {
    /// Deploys a module; the status of the answer.
    pub(crate) fn deploy(&self, description: &serde_json::Value, module: &[u8]) -> Outcome<u16> {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.timeout_global(Some(PATIENCE)).build().into();
        let request = agent.post(&self.url).header("Millpond-Transform", description.to_string());
        // A body that is too large is refused before it is sent.
        let request = request.header("Expect", "100-continue");
        let answer = request.send(module).context("deploying a transform")?;
        Ok(answer.status().as_u16())
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60)));
    config.build().into()
}

/// Finds the binary: the one named, else the release build beside this program, built now if this
/// runs under cargo.
pub(crate) fn find_binary(named: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(path) = named {
        return path.canonicalize().context(format!("the broker {}", path.display()));
    }
    let own = std::env::current_exe().context("where this program is")?;
    let profile_dir = own.parent().context("the directory of this program")?;
    let beside = profile_dir.join("millpond");
    let is_release = profile_dir.file_name().is_some_and(|name| name == "release");
    if let (Some(cargo), true) = (std::env::var_os("CARGO"), is_release) {
        eprintln!("building the broker (cargo build --release -p millpond)");
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--release", "-p", "millpond"]);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        if let Some(target) = profile_dir.parent() {
            command.arg("--target-dir").arg(target);
        }
        let status = command.status().context("cargo build -p millpond")?;
        if !status.success() {
            return Err(BenchError::new("cargo build -p millpond", status));
        }
    }
    beside.canonicalize().context(format!(
        "the broker {} (build it with cargo build --release -p millpond, or give --bin)",
        beside.display()
    ))
}
