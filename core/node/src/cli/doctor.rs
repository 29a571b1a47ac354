//! `millpond doctor`: what this machine is like for a broker, above all how long a durable write
//! takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use hdrhistogram::Histogram;
use millpond_storage::disk::{
    AlignedBuf, BackendChoice, Disk, DiskError, DiskFile, OpenMode, RealDisk,
};
use serde::Serialize;
use tokio::task::LocalSet;

use super::expiry::findings;
use super::wear::Wear;
use super::{CliError, HttpClient, text};
use crate::metrics::scrape::Scrape;

/// Bytes of the probe file, written over and over.
const PROBE_FILE_BYTES: usize = 4 << 20;
/// Block of the probe: what the journal writes at least.
const PROBE_BLOCK_BYTES: usize = 4096;
/// Durable writes that are timed.
const PROBE_WRITES: u32 = 400;
/// Slower than this at the 99th percentile is worth a warning.
const SYNC_P99_WARN_US: u64 = 50_000;
/// Less free space than this is worth a warning.
const FREE_BYTES_WARN: u64 = 1 << 30;

/// `millpond doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond doctor
  millpond doctor --data-dir /var/lib/millpond --json")]
pub(super) struct DoctorArgs {
    /// The data directory to examine; a small file is written there and removed.
    #[arg(long, default_value = "./millpond-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// How to drive the disk: auto, io_uring or portable.
    #[arg(long, default_value = "auto", value_parser = backend)]
    backend: BackendChoice,
    /// The HTTP address of a running node: its load and its certificates are judged too. Empty: none is asked.
    #[arg(long, default_value = "http://127.0.0.1:9644", value_name = "URL")]
    http: String,
}

fn backend(text: &str) -> Result<BackendChoice, String> {
    BackendChoice::from_str(text).map_err(|e| e.to_string())
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    version: &'static str,
    kernel: String,
    machine: String,
    cores: usize,
    memory_bytes: Option<u64>,
    page_bytes: usize,
    seccomp: Option<String>,
    data_dir: PathBuf,
    file_system: String,
    file_system_block_bytes: u64,
    free_bytes: u64,
    disk: Option<DiskProbe>,
    wear: Option<Wear>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct DiskProbe {
    backend: &'static str,
    block_bytes: usize,
    writes: u64,
    durable_write_p50_us: u64,
    durable_write_p99_us: u64,
    durable_write_max_us: u64,
}

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// Runs the command; fails if a broker could not run here.
pub(super) fn run(args: &DoctorArgs, json: bool) -> Result<(), CliError> {
    let diagnosis = examine(args)?;
    match json {
        true => text::print_json(&diagnosis)?,
        false => text::print(&render(&diagnosis))?,
    }
    match diagnosis.findings.iter().any(|f| f.level == Level::Fail) {
        true => Err(CliError::failed("a node cannot run here as it is")),
        false => Ok(()),
    }
}

fn examine(args: &DoctorArgs) -> Result<Diagnosis, CliError> {
    let new = !args.data_dir.exists();
    fs::create_dir_all(&args.data_dir)
        .map_err(|e| CliError::failed(format!("cannot make {}: {e}", args.data_dir.display())))?;
    let probe = probe_disk(&args.data_dir, args.backend);
    let scrape = scrape(&args.http);
    let name = rustix::system::uname();
    let stat = rustix::fs::statvfs(&args.data_dir).map_err(std::io::Error::from)?;
    let mut diagnosis = Diagnosis {
        version: env!("CARGO_PKG_VERSION"),
        kernel: format!(
            "{} {}",
            name.sysname().to_string_lossy(),
            name.release().to_string_lossy()
        ),
        machine: name.machine().to_string_lossy().into_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: field("/proc/meminfo", "MemTotal:")
            .and_then(|kb| kb.parse::<u64>().ok())
            .map(|kb| kb << 10),
        page_bytes: rustix::param::page_size(),
        seccomp: field("/proc/self/status", "Seccomp:").map(|mode| seccomp(&mode)),
        file_system: file_system(&args.data_dir),
        file_system_block_bytes: stat.f_bsize,
        free_bytes: stat.f_bavail * stat.f_frsize,
        data_dir: args.data_dir.clone(),
        disk: None,
        wear: scrape.as_ref().map(Wear::of),
        findings: Vec::new(),
    };
    judge_disk(&mut diagnosis, probe);
    judge_rest(&mut diagnosis);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for found in scrape.iter().flat_map(|scrape| findings(scrape, now.as_secs())) {
        let level = if found.is_trouble { Level::Warn } else { Level::Ok };
        diagnosis.find(level, found.text);
    }
    if new {
        // Only if it is still empty.
        let _ = fs::remove_dir(&args.data_dir);
    }
    Ok(diagnosis)
}

fn judge_disk(diagnosis: &mut Diagnosis, probe: Result<DiskProbe, String>) {
    let probe = match probe {
        Ok(probe) => probe,
        Err(error) => {
            return diagnosis
                .find(Level::Fail, format!("the data directory cannot be written: {error}"));
        }
    };
    match probe.backend {
        "io_uring" => diagnosis.find(Level::Ok, "io_uring works".into()),
        _ => diagnosis.find(Level::Warn, format!("no io_uring: {}", why_no_uring())),
    }
    let (p50, p99) = (probe.durable_write_p50_us, probe.durable_write_p99_us);
    match p99 > SYNC_P99_WARN_US {
        true => diagnosis.find(
            Level::Warn,
            format!(
                "durable writes are slow (p99 {} ms): acknowledgements will be too",
                p99 / 1000
            ),
        ),
        false => diagnosis
            .find(Level::Ok, format!("a durable write takes {p50} us (p50), {p99} us (p99)")),
    }
    if p50 < 5 {
        diagnosis.find(
            Level::Warn,
            "durable writes are faster than any flash: is this a RAM disk?".into(),
        );
    }
    diagnosis.disk = Some(probe);
}

fn judge_rest(diagnosis: &mut Diagnosis) {
    let free = diagnosis.free_bytes;
    match free < FREE_BYTES_WARN {
        true => diagnosis.find(Level::Warn, format!("only {} are free", text::bytes(free))),
        false => diagnosis.find(Level::Ok, format!("{} are free", text::bytes(free))),
    }
    if matches!(diagnosis.file_system.as_str(), "tmpfs" | "ramfs") {
        diagnosis.find(
            Level::Warn,
            "the data directory is in memory: nothing survives a power cut".into(),
        );
    }
    if matches!(diagnosis.file_system.as_str(), "nfs" | "fuse" | "9p" | "cifs" | "overlayfs") {
        let found = format!(
            "the file system is {}: use a local one (a volume, in a container)",
            diagnosis.file_system
        );
        diagnosis.find(Level::Warn, found);
    }
}

impl Diagnosis {
    fn find(&mut self, level: Level, text: String) {
        self.findings.push(Finding { level, text });
    }
}

/// What a running node tells of itself; `None` if no node answers.
fn scrape(http: &str) -> Option<Scrape> {
    if http.is_empty() {
        return None;
    }
    let text = HttpClient::new(http).get_text("/metrics").ok()?;
    Some(Scrape::parse(&text))
}

/// Times durable writes through the very disk that a node would use.
fn probe_disk(data_dir: &Path, choice: BackendChoice) -> Result<DiskProbe, String> {
    let dir = tempfile::Builder::new()
        .prefix("doctor-")
        .tempdir_in(data_dir)
        .map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let measured = runtime.block_on(LocalSet::new().run_until(measure(dir.path(), choice)));
    measured.map_err(|e| e.to_string())
}

async fn measure(dir: &Path, choice: BackendChoice) -> Result<DiskProbe, DiskError> {
    let disk = RealDisk::open(dir, choice)?;
    let block = disk.block_bytes().max(PROBE_BLOCK_BYTES);
    let file = disk.open("probe", OpenMode::CREATE_DIRECT).await?;
    // As the journal's files are: written in full, so that no write makes the file system allocate.
    let mut buffer = zeros(PROBE_FILE_BYTES.next_multiple_of(block), block);
    let (written, _) = file.write_at(0, buffer).await;
    written?;
    file.sync().await?;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).ok();
    buffer = zeros(block, block);
    let blocks = (PROBE_FILE_BYTES / block) as u64;
    for n in 0..PROBE_WRITES {
        let begun = Instant::now();
        let (written, returned) =
            file.write_durable(u64::from(n) % blocks * block as u64, buffer).await;
        written?;
        buffer = returned;
        let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        histogram.iter_mut().for_each(|h| h.saturating_record(us));
    }
    let quantile = |q| histogram.as_ref().map_or(0, |h| h.value_at_quantile(q));
    Ok(DiskProbe {
        backend: disk.backend_name(),
        block_bytes: block,
        writes: PROBE_WRITES.into(),
        durable_write_p50_us: quantile(0.5),
        durable_write_p99_us: quantile(0.99),
        durable_write_max_us: quantile(1.0),
    })
}

fn zeros(bytes: usize, align_bytes: usize) -> AlignedBuf {
    AlignedBuf::copied_from(&vec![0; bytes], align_bytes)
}

/// The first word after a label at the start of a line of a file in `/proc`.
fn field(file: &str, label: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn seccomp(mode: &str) -> String {
    match mode {
        "0" => "off".into(),
        "1" => "strict".into(),
        "2" => "a filter (as Docker's default has)".into(),
        other => other.into(),
    }
}

fn why_no_uring() -> String {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match disabled.trim() {
        "1" | "2" => {
            "it is switched off (sysctl kernel.io_uring_disabled); threads are used instead".into()
        }
        _ if field("/proc/self/status", "Seccomp:").as_deref() == Some("2") => {
            "a seccomp filter forbids it, as Docker's default does; threads are used instead".into()
        }
        _ => "the kernel lacks it, or --backend says so; threads are used instead".into(),
    }
}

/// The name of the file system that a path is on: the longest mount point above it.
fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    });
    let above = fields.filter(|(mount, _)| path.starts_with(mount));
    above.max_by_key(|(mount, _)| mount.len()).map_or_else(|| "unknown".into(), |(_, kind)| kind)
}

fn render(diagnosis: &Diagnosis) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: String| out.push_str(&format!("{label:<14}{value}\n"));
    line("millpond", diagnosis.version.into());
    line("kernel", format!("{} on {}", diagnosis.kernel, diagnosis.machine));
    let memory = diagnosis.memory_bytes.map_or_else(|| "unknown memory".into(), text::bytes);
    line(
        "machine",
        format!(
            "{} cores, {memory}, pages of {}",
            diagnosis.cores,
            text::bytes(diagnosis.page_bytes as u64)
        ),
    );
    if let Some(seccomp) = &diagnosis.seccomp {
        line("seccomp", seccomp.clone());
    }
    line("data", diagnosis.data_dir.display().to_string());
    line(
        "file system",
        format!(
            "{}, blocks of {}, {} free",
            diagnosis.file_system,
            text::bytes(diagnosis.file_system_block_bytes),
            text::bytes(diagnosis.free_bytes)
        ),
    );
    if let Some(disk) = &diagnosis.disk {
        line(
            "disk backend",
            format!("{}, blocks of {}", disk.backend, text::bytes(disk.block_bytes as u64)),
        );
        line(
            "durable write",
            format!(
                "p50 {} us, p99 {} us, longest {} us ({} writes of {})",
                disk.durable_write_p50_us,
                disk.durable_write_p99_us,
                disk.durable_write_max_us,
                disk.writes,
                text::bytes(disk.block_bytes as u64)
            ),
        );
    }
    match &diagnosis.wear {
        Some(wear) => out.push_str(&wear.render()),
        None => out.push_str("wear          no node answers: its load is not known (--http)\n"),
    }
    out.push('\n');
    for finding in &diagnosis.findings {
        let level = match finding.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        out.push_str(&format!("{level}  {}\n", finding.text));
    }
    let advice = diagnosis.wear.iter().flat_map(|wear| &wear.advice);
    for advice in advice {
        out.push_str(&format!("spare {}\n", advice.text));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_examined_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let args = DoctorArgs {
            data_dir: dir.path().join("new"),
            backend: BackendChoice::Auto,
            http: String::new(),
        };
        let diagnosis = examine(&args).unwrap();
        let disk = diagnosis.disk.as_ref().unwrap();
        assert!(disk.durable_write_p99_us >= disk.durable_write_p50_us);
        assert!(!diagnosis.findings.iter().any(|f| f.level == Level::Fail), "{diagnosis:?}");
        assert!(render(&diagnosis).contains("durable write"));
        assert!(!args.data_dir.exists());
    }

    #[test]
    fn the_file_system_of_proc_is_proc() {
        assert_eq!(file_system(Path::new("/proc/self")), "proc");
    }
}
