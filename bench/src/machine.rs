//! What it was measured on. A figure without its machine says nothing.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Outcome};
use crate::procfs;

/// For so long the processors are watched, before and after.
const WATCH: Duration = Duration::from_millis(500);
/// With more than this part of the processors in use by others, nothing is judged.
const BUSY_ABOVE: f64 = 0.1;

/// The machine and what else it was doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// The part of the processors that others used just before it began.
    pub(crate) busy_before: f64,
    /// The same just after it ended.
    pub(crate) busy_after: f64,
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
            busy_before: busy(),
            busy_after: 0.0,
        })
    }

    /// The measurement is over.
    pub(crate) fn finished(&mut self) {
        self.busy_after = busy();
    }

    /// Whether something else wanted the processors: ratios to a bound that had to wait for them
    /// say nothing.
    pub(crate) fn was_busy(&self) -> bool {
        self.busy_before > BUSY_ABOVE || self.busy_after > BUSY_ABOVE
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

/// The part of the processors in use while this one only watches.
fn busy() -> f64 {
    let before = ticks(&read("/proc/stat"));
    thread::sleep(WATCH);
    let after = ticks(&read("/proc/stat"));
    let used = |before: Ticks, after: Ticks| {
        let all = after.all.saturating_sub(before.all).max(1);
        #[allow(clippy::cast_precision_loss, reason = "ticks of half a second")]
        let idle = after.idle.saturating_sub(before.idle) as f64 / all as f64;
        1.0 - idle
    };
    before.zip(after).map_or(0.0, |(before, after)| used(before, after).max(0.0))
}

/// Ticks of all processors together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    /// Of these, with nothing to do, or waiting for a disk.
    idle: u64,
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks(text: &str) -> Option<Ticks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let fields = fields.get(..8)?;
    Some(Ticks { all: fields.iter().sum(), idle: fields.get(3)? + fields.get(4)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_not_being_busy() {
        let text = "cpu  10 1 20 300 40 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(ticks(text), Some(Ticks { all: 380, idle: 340 }));
        assert_eq!(ticks("cpu  1 2 3\n"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn memory_is_shown_in_mebibytes() {
        assert_eq!(memory_mib("MemTotal:       24683524 kB\nMemFree: 1 kB\n"), 24_105);
        assert_eq!(memory_mib(""), 0);
    }
}
