//! What it was measured on. A figure without its machine says nothing.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::error::{Context, Outcome};
use crate::procfs;

/// The machine and what else it was doing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// As the processor calls itself.
    pub(crate) processor: String,
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
    /// Name and release.
    pub(crate) kernel: String,
    /// Of the directory that was measured in.
    pub(crate) file_system: String,
    /// How the disk is driven here.
    pub(crate) backend: String,
    /// Processes that wanted to run in the last minute, before it began.
    pub(crate) load_before: f64,
    /// The same when it was over; the bench itself is in it.
    pub(crate) load_after: f64,
}

impl Machine {
    /// Looks around. `dir` must exist.
    pub(crate) fn look(dir: &Path, backend: &str) -> Outcome<Self> {
        let dir = dir.canonicalize().context(format!("the directory {}", dir.display()))?;
        let mounts = read("/proc/self/mounts");
        let file_system = procfs::file_system_of(&mounts, &dir.to_string_lossy());
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: after(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| text(uname.machine())),
            memory_mib: memory_mib(&read("/proc/meminfo")),
            kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
            file_system: file_system.unwrap_or_else(|| "unknown".to_owned()),
            backend: backend.to_owned(),
            load_before: load(),
            load_after: 0.0,
        })
    }

    /// The measurement is over.
    pub(crate) fn finished(&mut self) {
        self.load_after = load();
    }

    /// Whether something else wanted the processors.
    pub(crate) fn was_busy(&self) -> bool {
        self.load_before > 0.5
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn after(text: &str, label: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(label))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_mib(text: &str) -> u64 {
    let total = after(text, "MemTotal");
    let kib = total.and_then(|total| total.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn load() -> f64 {
    let text = read("/proc/loadavg");
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
