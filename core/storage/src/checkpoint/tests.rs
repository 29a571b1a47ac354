//! Checkpoints under power cuts: whatever the moment, a start finds the old one or the new one.

use std::rc::Rc;

use bytes::Bytes;

use super::*;
use crate::disk::sim::{SimDisk, SimExecutor, SimFault, SimGroup};
use crate::journal::{JournalPosition, RingPosition};
use crate::segments::SegmentTable;

const PROCESS: SimGroup = SimGroup(1);

fn sample(number: u64) -> Checkpoint {
    Checkpoint {
        number,
        journal_id: 1,
        resume: JournalPosition {
            position: RingPosition(4096 * number),
            commit: number,
            previous_crc: 0,
            next_entry: number,
            incarnation: 1,
        },
        segments: SegmentTable::default(),
        snapshot: Bytes::from(vec![number as u8; 10_000]),
    }
}

fn load_now(
    executor: &SimExecutor,
    disk: &SimDisk,
) -> Result<Option<Checkpoint>, LoadCheckpointError> {
    let disk = disk.clone();
    executor.block_on(async move { load(&disk).await })
}

#[test]
fn a_power_cut_leaves_the_old_checkpoint_or_the_new_one_whole() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..300 {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(executor.clock(), seed);
        let first = disk.clone();
        executor.block_on(async move {
            store(&first, 1, &sample(1).encode(), &Meter::default()).await.expect("stored");
            remove_others(&first, 1).await.expect("removed");
        });
        let second = disk.clone();
        let done = Rc::new(std::cell::Cell::new(false));
        let told = Rc::clone(&done);
        executor.spawn_in(PROCESS, async move {
            store(&second, 2, &sample(2).encode(), &Meter::default()).await.expect("stored");
            told.set(true);
            remove_others(&second, 2).await.expect("removed");
        });
        for _ in 0..seed % 40 {
            executor.step();
        }
        disk.power_cut();
        executor.kill(PROCESS);
        let found = load_now(&executor, &disk).expect("readable").expect("one is there");
        assert_eq!(found, sample(found.number));
        assert!(!done.get() || found.number == 2, "seed {seed}: what was stored is gone");
        if found.number == 1 { old += 1 } else { new += 1 }
    }
    assert!(old > 20 && new > 20, "{old} {new}");
}

#[test]
fn a_damaged_checkpoint_is_refused_even_if_an_older_one_is_there() {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(executor.clock(), 1);
    let writer = disk.clone();
    executor.block_on(async move {
        for number in 1..=2 {
            store(&writer, number, &sample(number).encode(), &Meter::default())
                .await
                .expect("stored");
        }
    });
    assert!(disk.corrupt(&path_of(2, SUFFIX), 500));
    let error = load_now(&executor, &disk).expect_err("damaged");
    assert!(matches!(error, LoadCheckpointError::Damaged { .. }), "{error}");
}

#[test]
fn an_error_of_the_sync_is_an_error_of_the_checkpoint() {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(executor.clock(), 1);
    disk.inject(SimFault::SyncError, "checkpoint/", 0);
    let writer = disk.clone();
    let stored = executor
        .block_on(async move { store(&writer, 1, &sample(1).encode(), &Meter::default()).await });
    assert!(stored.is_err());
    assert!(load_now(&executor, &disk).expect("readable").is_none(), "it never got its name");
}
