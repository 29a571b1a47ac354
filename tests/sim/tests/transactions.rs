//! Transactions over everything that a disk, a network and a clock can do, many seeds: workers move
//! records from one topic to another with their group's offsets, abort, take too long, die, and are
//! fenced by newer instances. Each transaction is there as a whole or not at all, nobody who reads
//! committed data is shown a part of one that is not, offsets move with the output, and in the end
//! nothing holds readers back.
//!
//! `MILLPOND_SIM_SEED=n` runs that seed alone; `MILLPOND_SIM_SEEDS=n` runs n of them. The full run:
//!
//! ```text
//! MILLPOND_SIM_SEEDS=10000 cargo test -p millpond-sim --test transactions
//! ```

use millpond_sim::{Gale, Storm, run_seed, seeds};

/// Seeds of the test command.
const SEEDS: u64 = 1_000;

#[test]
fn transactions_are_whole_or_not_at_all_and_consume_exactly_once() {
    let seeds = seeds::wanted(SEEDS);
    let count = seeds.end - seeds.start;
    let report = seeds::run_all(seeds, Storm::TRANSACTIONS);
    println!("{count} seeds: {report:?}");
    if count >= 100 {
        // A vacuous run must not pass for a good one.
        let transactions = report.transactions;
        assert!(transactions.committed > 10 * count, "too few were committed: {report:?}");
        assert!(transactions.aborted > 2 * count, "too few were aborted: {report:?}");
        assert!(transactions.doubtful > count / 4, "no commit was ever in doubt: {report:?}");
        assert!(transactions.fenced > count / 4, "hardly any was fenced: {report:?}");
        assert!(transactions.zombies > count / 4, "hardly any was replaced: {report:?}");
        assert!(transactions.seen > 50 * count, "too little was read: {report:?}");
        assert!(report.met(Gale::PowerCut) > count / 20, "too few power cuts: {report:?}");
        assert!(report.met(Gale::ProcessKill) > count / 20, "too few deaths: {report:?}");
    }
}

#[test]
fn one_seed_gives_one_run() {
    for seed in [5, 6] {
        let run = || run_seed(seed, Storm::TRANSACTIONS).unwrap();
        assert_eq!(format!("{:?}", run()), format!("{:?}", run()));
    }
}
