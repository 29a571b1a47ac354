//! What the kernel says of this process. Where `/proc` is missing, nothing is said.

use std::fs;

/// Resident memory in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Open file descriptors.
pub(crate) fn open_files() -> Option<u64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

/// Processor time used so far, user and system, in seconds.
#[allow(clippy::cast_precision_loss)] // Prometheus has nothing but doubles.
pub(crate) fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold spaces and parentheses: the fields follow the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let total = ticks(11)? + ticks(12)?;
    Some(total as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_memory_files_and_time() {
        assert!(super::resident_bytes().unwrap() > 100_000);
        assert!(super::open_files().unwrap() >= 3);
        assert!(super::cpu_seconds().unwrap() >= 0.0);
    }
}
