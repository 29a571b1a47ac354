//! The broker under test: the real binary in a process of its own, on loopback, with a data
//! directory of its own. It is stopped by its process id and never outlives the measurement.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use millpond_client::{Admin, Client, ClientConfig, NewTopic};
use rustix::process::{Pid, Signal, kill_process};

use crate::error::{BenchError, Context, Outcome};
use crate::procfs::{IoCounters, Memory, ProcessStat, peak_rss_bytes};
use crate::scrape::Scrape;

/// How long the broker may take to become ready, or to stop when asked.
const PATIENCE: Duration = Duration::from_secs(30);
/// A broker that wrote nothing for so long has nothing left to write.
const QUIET_FOR: Duration = Duration::from_millis(300);
/// The wait for that is not endless.
const QUIET_WITHIN: Duration = Duration::from_secs(8);

/// A running broker.
pub(crate) struct Broker {
    child: Child,
    kafka: SocketAddr,
    http: SocketAddr,
    log: PathBuf,
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
        Err(broker.complaint("it was not ready in time"))
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(binary: &Path, home: &Path) -> Outcome<Self> {
        Self::spawn_at(binary, home, "", free_address()?)
    }

    fn spawn_at(binary: &Path, home: &Path, config: &str, kafka: SocketAddr) -> Outcome<Self> {
        let http = free_address()?;
        let log = home.join("broker.log");
        let out = File::create(&log).context(format!("making {}", log.display()))?;
        let err = out.try_clone().context("the broker's log")?;
        let file = home.join("millpond.toml");
        // A figure that starts from nothing makes its topic by asking for it.
        let config = format!("topics.auto_create = true\n{config}");
        fs::write(&file, config).context(format!("writing {}", file.display()))?;
        let child = Command::new(binary)
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .arg("--data-dir")
            .arg(home.join("data"))
            .args(["--listen", &kafka.to_string(), "--http", &http.to_string()])
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .context(format!("starting {}", binary.display()))?;
        Ok(Self { child, kafka, http, log })
    }

    /// Where Kafka is spoken, over TCP and QUIC.
    pub(crate) fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that it sent to the device so far.
    pub(crate) fn written_bytes(&self) -> Outcome<u64> {
        Ok(IoCounters::of(self.pid())?.write_bytes)
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Outcome<Memory> {
        Memory::of(self.pid())
    }

    /// The most memory that it ever had resident, in bytes.
    pub(crate) fn peak_rss_bytes(&self) -> Outcome<u64> {
        peak_rss_bytes(self.pid())
    }

    /// Processor time that it took so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        Ok(ProcessStat::of(self.pid())?.cpu_seconds())
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
        let config = ClientConfig::new(&format!("tcp://{}", self.kafka)).context("an address")?;
        let partitions = i32::try_from(partitions).context("partitions")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("a runtime")?.block_on(async {
            let client = Client::connect(config).await.context("connecting")?;
            let mut topic = NewTopic::new(name).partitions(partitions);
            for (key, value) in settings {
                topic = topic.setting(*key, *value);
            }
            Admin::new(client).create_topic(topic).await.context("creating a topic")
        })
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
        let give_up = Instant::now() + QUIET_WITHIN;
        let mut written = self.written_bytes()?;
        let mut since = Instant::now();
        while since.elapsed() < QUIET_FOR && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(50));
            let now = self.written_bytes()?;
            if now != written {
                (written, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Stops it as an operator would; gives the bytes that it sent to the device in all its life,
    /// the last checkpoint included.
    pub(crate) fn stop(mut self) -> Outcome<u64> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("stopping the broker")?;
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            // Not waited for, so that its counters can still be read.
            if ProcessStat::of(self.pid())?.state == 'Z' {
                let written = self.written_bytes()?;
                let status = self.child.wait().context("waiting for the broker")?;
                return match status.success() {
                    true => Ok(written),
                    false => Err(self.complaint(&format!("it ended with {status}"))),
                };
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(self.complaint("it did not stop when asked"))
    }

    /// Ends it as a power cut would: at once, with nothing written.
    pub(crate) fn kill(mut self) -> Outcome<()> {
        self.child.kill().context("killing the broker")?;
        self.child.wait().context("waiting for the broker").map(drop)
    }

    /// An error with the end of the broker's log.
    fn complaint(&self, why: &str) -> BenchError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        BenchError::new("the broker", format!("{why}\n{}", tail.join("\n")))
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

impl Drop for Broker {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60)));
    config.build().into()
}

/// An address on loopback that is free for TCP and UDP, below the kernel's ephemeral range so that
/// no outgoing connection can sit on it.
fn free_address() -> Outcome<SocketAddr> {
    const LOWEST: u16 = 11_000;
    const SPAN: u16 = 4_000;
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(7919) % u32::from(SPAN)) as u16;
    for _ in 0..SPAN {
        let step = ASKED.fetch_add(1, Ordering::Relaxed).wrapping_mul(13);
        let port = LOWEST + start.wrapping_add(step) % SPAN;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(BenchError::new("a port for the broker", "none is free on 127.0.0.1"))
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
