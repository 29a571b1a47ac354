//! Many seeds on all cores: which ones, and the sum of what they did. The first that breaks a
//! promise ends them all. Must never let a run depend on another.

use crate::run::{Report, run_seed};
use crate::storm::Storm;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The seeds to run: `MILLPOND_SIM_SEED` alone, or as many as `MILLPOND_SIM_SEEDS` says, or
/// `usual` many; both: so many from that one on.
pub fn wanted(usual: u64) -> Range<u64> {
    match (number("MILLPOND_SIM_SEED"), number("MILLPOND_SIM_SEEDS")) {
        (Some(first), many) => first..first + many.unwrap_or(1),
        (None, many) => 0..many.unwrap_or(usual),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// Runs the seeds on all cores; the report is the sum. Panics with the failure of the first seed
/// that breaks a promise.
pub fn run_all(seeds: Range<u64>, storm: Storm) -> Report {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut sum = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return sum;
            }
            match run_seed(seed, storm) {
                Ok(report) => sum.add(&report),
                Err(failure) => {
                    // The other workers need not go on.
                    next.store(seeds.end, Ordering::Relaxed);
                    panic!("{failure}");
                }
            }
        }
    };
    let reports = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join()).collect::<Vec<_>>()
    });
    let mut sum = Report::default();
    for report in reports {
        match report {
            Ok(report) => sum.add(&report),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    sum
}
