//! Everything that a disk can do, thousands of seeds, each with its own mixture: lost, torn,
//! reordered and short writes, EIO, full and read-only disks, stalls, flipped bits and writes gone
//! astray. The node says what it cannot do, serves nothing wrong, loses nothing that it
//! acknowledged, and comes back.
//!
//! `MILLPOND_SIM_SEED=n` runs that seed alone; `MILLPOND_SIM_SEEDS=n` runs n of them. The full run:
//!
//! ```text
//! MILLPOND_SIM_SEEDS=10000 cargo test -p millpond-sim --test power_cuts --test disk_faults
//! ```

use millpond_sim::{Gale, Storm, seeds};

/// Seeds of the test command.
const SEEDS: u64 = 1_200;

#[test]
fn a_failing_disk_costs_nothing_that_was_acknowledged_and_is_owned_up_to() {
    let seeds = seeds::wanted(SEEDS);
    let count = seeds.end - seeds.start;
    let report = seeds::run_all(seeds, Storm::DISK_FAULTS);
    println!("{count} seeds: {report:?}");
    if count >= 200 {
        // A vacuous run must not pass for a good one.
        for gale in Gale::ALL {
            assert!(report.met(gale) > count / 20, "{gale:?} was hardly met: {report:?}");
        }
        assert!(report.acknowledged as u64 > 20 * count, "too little was acknowledged: {report:?}");
        assert!(report.reads > 20 * count, "too little was read: {report:?}");
        assert!(report.stopped > count / 4, "no device stopped the node: {report:?}");
        assert!(report.refused > count / 20, "no damage was refused: {report:?}");
        assert!(report.holes > count / 50, "no damage was contained: {report:?}");
        assert!(report.unreadable > count / 20, "no damage was read: {report:?}");
        let [lost, torn, reordered] = report.unsynced;
        assert!(lost.min(torn) > count / 20, "writes were hardly lost or torn: {report:?}");
        assert!(reordered > count / 200, "writes were hardly reordered: {report:?}");
        assert!(report.torn_tails > count / 20, "hardly a torn tail: {report:?}");
        assert!(report.lost_early > count, "hardly a window of loss: {report:?}");
        assert!(report.topics_ended > count / 4, "too few topics came and went: {report:?}");
    }
}
