//! What the kernel says of a process, from `/proc`. Parsing apart from reading; a line that is not
//! understood is passed over, a number that is missing is an error and never a zero.

use std::fs;
use std::path::Path;

use crate::error::{BenchError, Context, Outcome};

/// `/proc/PID/io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IoCounters {
    /// Bytes that the process caused to be sent to a device.
    pub(crate) write_bytes: u64,
}

/// `/proc/PID/smaps_rollup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident pages.
    pub(crate) rss_bytes: u64,
    /// The same, shared pages counted in part.
    pub(crate) pss_bytes: u64,
    /// Of these, pages that no file backs.
    pub(crate) anonymous_bytes: u64,
}

/// The most memory that a process ever had resident, in bytes (`VmHWM` of `/proc/PID/status`).
pub(crate) fn peak_rss_bytes(pid: u32) -> Outcome<u64> {
    number(&read(pid, "status")?, "VmHWM:").map(|kib| kib * 1024)
}

/// `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// `R`, `S`, ..., `Z` for one that has ended and was not waited for.
    pub(crate) state: char,
    /// Processor time, user and system, in clock ticks.
    pub(crate) cpu_ticks: u64,
}

impl IoCounters {
    pub(crate) fn of(pid: u32) -> Outcome<Self> {
        Self::parse(&read(pid, "io")?)
    }

    fn parse(text: &str) -> Outcome<Self> {
        Ok(Self { write_bytes: number(text, "write_bytes:")? })
    }
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Outcome<Self> {
        Self::parse(&read(pid, "smaps_rollup")?)
    }

    fn parse(text: &str) -> Outcome<Self> {
        let bytes = |label| number(text, label).map(|kib| kib * 1024);
        Ok(Self {
            rss_bytes: bytes("Rss:")?,
            pss_bytes: bytes("Pss:")?,
            anonymous_bytes: bytes("Anonymous:")?,
        })
    }
}

impl ProcessStat {
    pub(crate) fn of(pid: u32) -> Outcome<Self> {
        Self::parse(&read(pid, "stat")?)
    }

    /// The name in parentheses may hold anything, parentheses too: fields count from the last one.
    fn parse(text: &str) -> Outcome<Self> {
        let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect());
        let fields: Vec<&str> = fields.context("a process's stat without a name")?;
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let state = fields.first().and_then(|field| field.chars().next());
        let cpu_ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
        Ok(Self {
            state: state.context("a process's stat without a state")?,
            cpu_ticks: cpu_ticks.context("a process's stat without processor time")?,
        })
    }

    /// Processor time so far, in seconds.
    #[allow(clippy::cast_precision_loss, reason = "ticks are far below 2^52")]
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.cpu_ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }
}

/// Context switches of all threads of a process that have not ended, wanted and not.
pub(crate) fn switches(pid: u32) -> Outcome<u64> {
    let path = format!("/proc/{pid}/task");
    let mut sum = 0;
    for thread in fs::read_dir(&path).context(format!("reading {path}"))?.flatten() {
        // One that ended since it was listed has no more.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        sum += number(&status, "voluntary_ctxt_switches:")?;
        sum += number(&status, "nonvoluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

/// What a block device was asked for since the machine started, whoever asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    /// Bytes written.
    pub(crate) written_bytes: u64,
    /// Flushes of its cache.
    pub(crate) flushes: u64,
}

impl Device {
    /// Of the device that holds a path; zeros where the kernel shows none (a file system in memory, or one over
    /// several devices).
    pub(crate) fn holding(path: &Path) -> Outcome<Self> {
        let stat = rustix::fs::stat(path).context(format!("the device of {}", path.display()))?;
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"));
        Ok(text.ok().and_then(|text| Self::parse(&text)).unwrap_or_default())
    }

    /// What was asked since an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            flushes: self.flushes.saturating_sub(earlier.flushes),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        const SECTOR_BYTES: u64 = 512;
        let fields: Vec<u64> =
            text.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // Kernels before 5.5 do not count flushes.
        let flushes = fields.get(15).copied().unwrap_or_default();
        Some(Self { written_bytes: fields.get(6)? * SECTOR_BYTES, flushes })
    }
}

/// The type of the file system that holds an absolute path, of `/proc/self/mounts`.
pub(crate) fn file_system_of(mounts: &str, path: &str) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (fields.next(), fields.next()) else { continue };
        let inside = path.strip_prefix(point.trim_end_matches('/'));
        let holds = inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // A later mount at the same point hides the earlier one.
        if holds && best.is_none_or(|(len, _)| point.len() >= len) {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

fn read(pid: u32, file: &str) -> Outcome<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).context(format!("reading {path}"))
}

fn number(text: &str, label: &str) -> Outcome<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| BenchError::new(label, "the kernel gives no such number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_to_the_device_are_told_from_bytes_written() {
        let text = "rchar: 5\nwchar: 7\nsyscr: 1\nsyscw: 2\nread_bytes: 4096\nwrite_bytes: 8192\n\
                    cancelled_write_bytes: 11\n";
        assert_eq!(IoCounters::parse(text).unwrap(), IoCounters { write_bytes: 8192 });
        assert!(IoCounters::parse("wchar: 7\n").is_err());
    }

    #[test]
    fn memory_is_in_kibibytes() {
        let text = "5555-7fff ---p 00000000 00:00 0    [rollup]\nRss:      1234 kB\n\
                    Pss:       1200 kB\nPss_Dirty:      7 kB\nAnonymous:  600 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!(memory.rss_bytes, 1234 * 1024);
        assert_eq!(memory.pss_bytes, 1200 * 1024);
        assert_eq!(memory.anonymous_bytes, 600 * 1024);
        assert!(Memory::parse("Pss: 1 kB").is_err());
    }

    #[test]
    fn a_process_may_be_called_anything() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 900 1 2";
        let stat = ProcessStat::parse(text).unwrap();
        assert_eq!((stat.state, stat.cpu_ticks), ('S', 300));
        assert!(ProcessStat::parse("42 (short) Z 1").is_err());
        assert!(ProcessStat::parse("").is_err());
    }

    #[test]
    fn a_device_counts_in_sectors() {
        let text = " 100 0 800 5 200 9 1600 7 0 3 12 0 0 0 0 42 8\n";
        assert_eq!(Device::parse(text), Some(Device { written_bytes: 1600 * 512, flushes: 42 }));
        assert_eq!(Device::parse("1 2 3 4 5 6 7 8 9 10 11").unwrap().flushes, 0);
        assert_eq!(Device::parse(""), None);
    }

    #[test]
    fn the_deepest_mount_holds_the_path() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n\
                      odd\n";
        let of = |path| file_system_of(mounts, path);
        assert_eq!(of("/work").as_deref(), Some("ext4"));
        assert_eq!(of("/tmp/x").as_deref(), Some("tmpfs"));
        assert_eq!(of("/tmpx").as_deref(), Some("ext4"));
        assert_eq!(of("/tmp/disk/a").as_deref(), Some("xfs"));
        assert_eq!(file_system_of("", "/x"), None);
    }
}
