//! Power cuts under load, thousands of seeds: what was acknowledged is there, once, in order, at
//! its offset; what was committed does not go back; what a reader was shown stays.
//!
//! `MILLPOND_SIM_SEED=n` runs that seed alone; `MILLPOND_SIM_SEEDS=n` runs n of them.

use millpond_sim::{Report, Storm, run_seed};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of the test command.
const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// Runs the seeds on all cores; the report is the sum.
fn run_all(seeds: std::ops::Range<u64>, storm: Storm) -> Report {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let reports = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut sum = Report::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return sum;
                        }
                        match run_seed(seed, storm) {
                            Ok(report) => add(&mut sum, report),
                            Err(failure) => {
                                // The other workers need not go on.
                                next.store(seeds.end, Ordering::Relaxed);
                                panic!("{failure}");
                            }
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join()).collect::<Vec<_>>()
    });
    let mut sum = Report::default();
    for report in reports {
        match report {
            Ok(report) => add(&mut sum, report),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    sum
}

fn add(sum: &mut Report, report: Report) {
    sum.acknowledged += report.acknowledged;
    sum.reads += report.reads;
    sum.power_cuts += report.power_cuts;
    sum.cut_under_way += report.cut_under_way;
    sum.checkpoints += report.checkpoints;
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let seeds = match number("MILLPOND_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MILLPOND_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let report = run_all(seeds, Storm::default());
    println!("{count} seeds: {report:?}");
    if count >= 100 {
        // A vacuous run must not pass for a good one.
        assert!(report.acknowledged as u64 > 20 * count, "too little was acknowledged: {report:?}");
        assert!(report.reads > 20 * count, "too little was read: {report:?}");
        assert!(report.cut_under_way > count / 4, "the power never went at work: {report:?}");
        assert!(report.checkpoints > count / 4, "too few checkpoints: {report:?}");
    }
}

#[test]
fn one_seed_gives_one_run() {
    let storm = Storm::default();
    let (first, second) = (run_seed(5, storm).unwrap(), run_seed(5, storm).unwrap());
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}
