//! The journal under a seeded life: appends, checkpoints, power cuts at any step, cuts inside
//! recovery, many laps of the ring. After each cut everything that was released is there, once, in
//! order, as it was.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::tests::{Machine, PROCESS, TestEntry, TestJournal, content};
use super::*;
use crate::disk::sim::{SimClock, SimRng};

/// Seeds tried; a failing one is named by the panic.
const SEEDS: u64 = 150;
const LIVES: u64 = 8;

/// What must be true of the device, kept outside of it.
struct Truth {
    /// What was appended under a sequence in this life, or came back in an earlier one.
    written: BTreeMap<u64, usize>,
    /// The position that the last checkpoint would hold.
    resume: JournalPosition,
}

async fn produce(
    journal: Rc<TestJournal>,
    clock: SimClock,
    mut rng: SimRng,
    mut seq: u64,
    truth: Rc<RefCell<Truth>>,
) {
    loop {
        for _ in 0..rng.between(1, 6) {
            let len = match rng.below(10) {
                0 => rng.between(10_000, 30_000),
                1..4 => rng.between(500, 6_000),
                _ => rng.between(1, 400),
            } as usize;
            truth.borrow_mut().written.insert(seq, len);
            let entry = TestEntry { seq, bytes: content(seq + len as u64, len) };
            journal.append(entry, clock.now_ns() / 1000);
            seq += 1;
        }
        while journal.queued_bytes() > 60_000 {
            journal.progress_past(journal.progress_count()).await;
        }
        clock.sleep_until_ns(clock.now_ns() + rng.below(3_000_000)).await;
    }
}

async fn checkpoint(
    journal: Rc<TestJournal>,
    clock: SimClock,
    mut rng: SimRng,
    truth: Rc<RefCell<Truth>>,
) {
    loop {
        clock.sleep_until_ns(clock.now_ns() + rng.below(20_000_000)).await;
        if journal.used_bytes() < journal.shape().total_bytes() / 3 {
            continue;
        }
        journal.cut();
        let position = journal.cut_ready().await;
        clock.sleep_until_ns(clock.now_ns() + rng.below(5_000_000)).await;
        truth.borrow_mut().resume = position;
        journal.release(position);
    }
}

/// Opens the journal; some of the tries are cut off in the middle.
fn reopen(
    machine: &Machine,
    rng: &mut SimRng,
    resume: JournalPosition,
) -> (Rc<TestJournal>, Vec<EntryBytes>) {
    for _ in 0..rng.below(3) {
        let opening = machine.begin_open(resume);
        for _ in 0..rng.below(60) {
            machine.executor.step();
        }
        drop(opening);
        machine.power_cut();
    }
    machine.open(resume).expect("a power cut is no damage")
}

fn live(seed: u64, laps: &Cell<u64>, lost: &Cell<u64>) {
    let machine = Machine::new(seed);
    let mut rng = SimRng::new(seed ^ 0xC4A5);
    let (mut journal, first) = machine.create();
    let truth = Rc::new(RefCell::new(Truth { written: BTreeMap::new(), resume: first }));
    let mut next_seq = 1;
    for _ in 0..LIVES {
        machine.run(&journal);
        let clock = machine.clock.clone();
        let producer =
            produce(Rc::clone(&journal), clock.clone(), rng.fork(), next_seq, Rc::clone(&truth));
        machine.executor.spawn_in(PROCESS, producer);
        let checkpoints = checkpoint(Rc::clone(&journal), clock, rng.fork(), Rc::clone(&truth));
        machine.executor.spawn_in(PROCESS, checkpoints);
        for _ in 0..rng.between(1, 6_000) {
            machine.executor.step();
        }
        let released = machine.released.get();
        machine.power_cut();
        let resume = truth.borrow().resume;
        let (reopened, entries) = reopen(&machine, &mut rng, resume);
        let mut truth = truth.borrow_mut();
        let mut expected = resume.next_entry;
        for entry in &entries {
            assert_eq!(entry.seq, expected, "seed {seed}: in order, without a gap");
            let len = truth.written.get(&entry.seq).copied();
            assert_eq!(len, Some(entry.bytes.len()), "seed {seed}: entry {expected}");
            let wanted = content(entry.seq + entry.bytes.len() as u64, entry.bytes.len());
            assert!(entry.bytes == wanted, "seed {seed}: bytes of entry {expected}");
            expected += 1;
        }
        assert!(expected > released, "seed {seed}: {released} was released, {expected} is next");
        lost.set(lost.get() + truth.written.split_off(&expected).len() as u64);
        // What came back may be served from now on: it must never go again.
        machine.released.set(expected - 1);
        next_seq = expected;
        journal = reopened;
        laps.set(
            laps.get() + journal.state.borrow().head.position.0 / journal.shape().total_bytes(),
        );
    }
}

#[test]
fn what_was_released_survives_power_cuts_at_any_moment() {
    let (laps, lost) = (Cell::new(0), Cell::new(0));
    for seed in 0..SEEDS {
        live(seed, &laps, &lost);
    }
    // A run in which nothing happened proves nothing.
    assert!(laps.get() > SEEDS, "the ring went round {} times only", laps.get());
    assert!(lost.get() > SEEDS, "only {} unreleased entries were lost", lost.get());
}
