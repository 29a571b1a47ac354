//! Power cuts under load, thousands of seeds: what was acknowledged is there, once, in order, at
//! its offset; what was committed does not go back; what a reader was shown stays.
//!
//! `MILLPOND_SIM_SEED=n` runs that seed alone; `MILLPOND_SIM_SEEDS=n` runs n of them. The full run:
//!
//! ```text
//! MILLPOND_SIM_SEEDS=10000 cargo test -p millpond-sim --test power_cuts --test disk_faults
//! ```

use millpond_sim::{Gale, Storm, run_seed, seeds};

/// Seeds of the test command.
const SEEDS: u64 = 2_000;

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let seeds = seeds::wanted(SEEDS);
    let count = seeds.end - seeds.start;
    let report = seeds::run_all(seeds, Storm::POWER_CUTS);
    println!("{count} seeds: {report:?}");
    if count >= 100 {
        // A vacuous run must not pass for a good one.
        assert!(report.acknowledged as u64 > 20 * count, "too little was acknowledged: {report:?}");
        assert!(report.reads > 20 * count, "too little was read: {report:?}");
        assert!(report.met(Gale::PowerCut) == 4 * count, "too few power cuts: {report:?}");
        assert!(report.cut_under_way > count / 4, "the power never went at work: {report:?}");
        assert!(report.checkpoints > count / 4, "too few checkpoints: {report:?}");
        let [lost, torn, reordered] = report.unsynced;
        assert!(lost.min(torn) > count / 20, "writes were hardly lost or torn: {report:?}");
        assert!(reordered > count / 200, "writes were hardly reordered: {report:?}");
        assert!(report.torn_tails > count / 20, "hardly a torn tail: {report:?}");
        assert!(report.lost_early > count, "hardly a window of loss: {report:?}");
        assert!(report.topics_ended > count / 4, "too few topics came and went: {report:?}");
    }
}

#[test]
fn one_seed_gives_one_run() {
    for storm in [Storm::POWER_CUTS, Storm::DISK_FAULTS] {
        for seed in [5, 6] {
            let (first, second) = (run_seed(seed, storm).unwrap(), run_seed(seed, storm).unwrap());
            assert_eq!(format!("{first:?}"), format!("{second:?}"));
        }
    }
}
