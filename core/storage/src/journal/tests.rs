//! The journal alone, on a simulated disk: stories of one device each.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::format::{COMMIT_HEADER_BYTES, CommitHeader};
use super::open::{OpenJournalError, file_name};
use super::*;
use crate::disk::AlignedBuf;
use crate::disk::sim::{SimClock, SimDisk, SimExecutor, SimFault, SimGroup, SimTask};

/// What a process of these tests is: its tasks die together.
pub(super) const PROCESS: SimGroup = SimGroup(7);

pub(super) struct TestEntry {
    pub(super) seq: u64,
    pub(super) bytes: Vec<u8>,
}

impl JournalEntry for TestEntry {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    fn encode(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.bytes);
    }

    fn scope(&self) -> u64 {
        self.seq % 3
    }

    fn payload_bytes(&self) -> usize {
        self.bytes.len()
    }
}

pub(super) type TestJournal = Journal<SimDisk, TestEntry>;
pub(super) type Opened = Result<(Rc<TestJournal>, Vec<EntryBytes>), OpenJournalError<String>>;

/// A machine: it survives power cuts, its processes do not.
pub(super) struct Machine {
    pub(super) executor: SimExecutor,
    pub(super) clock: SimClock,
    pub(super) disk: SimDisk,
    pub(super) config: JournalConfig,
    /// The last entry that waiters were told of.
    pub(super) released: Rc<Cell<u64>>,
    /// Entries that the last start gave up.
    pub(super) lost: Rc<RefCell<Vec<u64>>>,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Machine {
        let executor = SimExecutor::new(seed);
        let clock = executor.clock();
        let disk = SimDisk::new(clock.clone(), seed ^ 0xD15C);
        let config = JournalConfig {
            files: 3,
            file_bytes: 64 * 1024,
            second_write_bytes: 2_000,
            linger_ms: 0,
            gather_bytes: 8_000,
            seal_after_ms: 5_000,
            id: 0x1D,
        };
        let (released, lost) = Default::default();
        Machine { executor, clock, disk, config, released, lost }
    }

    pub(super) fn create(&self) -> (Rc<TestJournal>, JournalPosition) {
        let (disk, config) = (self.disk.clone(), self.config);
        let made = self.executor.block_on(async move {
            TestJournal::create::<String>(&disk, config, Rc::default()).await
        });
        let (journal, first) = made.expect("a new journal");
        (Rc::new(journal), first)
    }

    /// Starts opening the journal in the process.
    pub(super) fn begin_open(&self, resume: JournalPosition) -> SimTask<Opened> {
        let (disk, config, clock) = (self.disk.clone(), self.config, self.clock.clone());
        self.lost.borrow_mut().clear();
        let lost = Rc::clone(&self.lost);
        self.executor.spawn_in(PROCESS, async move {
            let found = RefCell::new(Vec::new());
            let keep = |replayed: Replayed| match replayed {
                Replayed::Entry(entry) => {
                    found.borrow_mut().push(entry);
                    Ok(())
                }
                Replayed::Lost(entry) => {
                    lost.borrow_mut().push(entry.seq);
                    Ok::<(), String>(())
                }
            };
            let meter = Rc::default();
            let opened = TestJournal::open(&disk, config, resume, meter, &clock, keep).await?;
            Ok((Rc::new(opened.0), found.into_inner()))
        })
    }

    pub(super) fn open(&self, resume: JournalPosition) -> Opened {
        let task = self.begin_open(resume);
        loop {
            if let Some(opened) = task.take() {
                return opened;
            }
            assert!(self.executor.step(), "opening the journal is stuck");
        }
    }

    /// Runs the journal's writer in the process.
    pub(super) fn run(&self, journal: &Rc<TestJournal>) -> SimTask<Result<(), JournalError>> {
        let (journal, clock) = (Rc::clone(journal), self.clock.clone());
        let released = Rc::clone(&self.released);
        self.executor.spawn_in(PROCESS, async move {
            journal
                .run(&clock, |seq| {
                    assert!(seq > released.get(), "released in order");
                    released.set(seq);
                })
                .await
        })
    }

    pub(super) fn append(&self, journal: &TestJournal, seq: u64, len: usize) {
        let bytes = content(seq, len);
        journal.append(TestEntry { seq, bytes }, self.clock.now_ns() / 1000);
    }

    pub(super) fn run_for_ms(&self, ms: u64) {
        self.executor.run_until_ns(self.clock.now_ns() + ms * 1_000_000);
    }

    pub(super) fn power_cut(&self) {
        self.disk.power_cut();
        self.executor.kill(PROCESS);
    }
}

pub(super) fn content(seq: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (seq as usize * 31 + at * 7) as u8).collect()
}

/// Where the commits of a file of the ring begin, with their headers.
fn commits_in(disk: &SimDisk, file: usize) -> Vec<(u64, CommitHeader)> {
    let bytes = disk.content(&file_name(file)).expect("file");
    let starts = (0..bytes.len()).step_by(4096);
    starts
        .filter_map(|at| Some((at as u64, CommitHeader::decode(&bytes[at..], true).ok()?)))
        .collect()
}

#[test]
fn entries_come_back_after_a_power_cut() {
    let machine = Machine::new(1);
    let (journal, first) = machine.create();
    machine.run(&journal);
    for seq in 1..=20 {
        machine.append(&journal, seq, 100 * seq as usize);
    }
    machine.run_for_ms(1000);
    assert_eq!(machine.released.get(), 20);
    machine.power_cut();
    let (journal, entries) = machine.open(first).expect("recovers");
    assert_eq!(entries.len(), 20);
    for (entry, seq) in entries.iter().zip(1..) {
        assert_eq!(entry.seq, seq);
        assert_eq!(entry.bytes, content(seq, 100 * seq as usize));
        assert_eq!(entry.scope, seq % 3);
    }
    assert_eq!(journal.incarnation(), 2);
}

#[test]
fn an_idle_journal_writes_at_once_and_what_comes_meanwhile_goes_together() {
    let machine = Machine::new(2);
    let (journal, _) = machine.create();
    machine.run(&journal);
    machine.append(&journal, 1, 10);
    machine.executor.run_until_idle();
    for seq in 2..=50 {
        machine.append(&journal, seq, 10);
    }
    machine.run_for_ms(100);
    assert_eq!(machine.released.get(), 50);
    let commits = commits_in(&machine.disk, 0);
    let counts: Vec<_> = commits.iter().map(|(_, header)| header.entry_count).collect();
    assert_eq!(counts, [1, 49]);
}

#[test]
fn a_linger_gathers_from_the_first_entry_on_and_no_longer() {
    let mut machine = Machine::new(21);
    machine.config.linger_ms = 10;
    let (journal, _) = machine.create();
    machine.run(&journal);
    machine.executor.run_until_idle();
    for seq in 1..=9 {
        machine.append(&journal, seq, 10);
        machine.run_for_ms(1);
        assert_eq!(commits_in(&machine.disk, 0).len(), 0, "after {seq} ms");
    }
    machine.run_for_ms(50);
    assert_eq!(machine.released.get(), 9);
    let counts: Vec<_> =
        commits_in(&machine.disk, 0).iter().map(|(_, header)| header.entry_count).collect();
    assert_eq!(counts, [9]);
}

#[test]
fn enough_bytes_end_a_linger_and_so_do_a_cut_and_a_stop() {
    let mut machine = Machine::new(22);
    machine.config.linger_ms = 60_000;
    let (journal, _) = machine.create();
    let running = machine.run(&journal);
    machine.append(&journal, 1, 5_000);
    machine.run_for_ms(100);
    assert_eq!(machine.released.get(), 0);
    machine.append(&journal, 2, 5_000);
    machine.run_for_ms(100);
    assert_eq!(machine.released.get(), 2, "gather_bytes wait");
    machine.append(&journal, 3, 10);
    machine.run_for_ms(100);
    assert_eq!(machine.released.get(), 2);
    journal.cut();
    machine.run_for_ms(100);
    assert_eq!(machine.released.get(), 3, "a cut is asked for");
    machine.append(&journal, 4, 10);
    machine.run_for_ms(100);
    assert_eq!(machine.released.get(), 3);
    journal.stop();
    machine.run_for_ms(100);
    assert_eq!(machine.released.get(), 4, "it stops");
    assert!(running.take().is_some_and(|ended| ended.is_ok()));
}

#[test]
fn an_entry_that_nobody_waits_for_goes_when_it_is_due_or_with_one_that_is_waited_for() {
    let machine = Machine::new(23);
    let (journal, _) = machine.create();
    machine.run(&journal);
    let append_by = |seq: u64, due_ms: u64| {
        let now_us = machine.clock.now_ns() / 1000;
        let entry = TestEntry { seq, bytes: content(seq, 10) };
        journal.append_by(entry, now_us, now_us + due_ms * 1000);
    };
    append_by(1, 500);
    append_by(2, 300);
    machine.run_for_ms(290);
    assert_eq!(machine.released.get(), 0);
    machine.run_for_ms(50);
    assert_eq!(machine.released.get(), 2, "the earliest time counts");
    append_by(3, 500);
    machine.run_for_ms(100);
    assert_eq!(machine.released.get(), 2);
    machine.append(&journal, 4, 10);
    machine.run_for_ms(50);
    assert_eq!(machine.released.get(), 4);
    let counts: Vec<_> =
        commits_in(&machine.disk, 0).iter().map(|(_, header)| header.entry_count).collect();
    assert_eq!(counts, [2, 2]);
}

#[test]
fn large_buffers_are_kept_while_writes_go_on_and_given_back_when_idle() {
    let mut machine = Machine::new(24);
    machine.config.file_bytes = 1024 * 1024;
    let (journal, _) = machine.create();
    machine.run(&journal);
    let kept = || journal.state.borrow().spare.iter().map(AlignedBuf::capacity).sum::<usize>();
    for seq in 1..=3 {
        machine.append(&journal, seq, 300_000);
        machine.run_for_ms(100);
        assert_eq!(kept(), 512 * 1024);
    }
    machine.run_for_ms(10_000);
    assert!(kept() <= 128 * 1024, "{}", kept());
}

#[test]
fn an_idle_journal_seals_its_last_commit_once() {
    let machine = Machine::new(3);
    let (journal, _) = machine.create();
    machine.run(&journal);
    machine.append(&journal, 1, 10);
    machine.run_for_ms(60_000);
    let commits = commits_in(&machine.disk, 0);
    assert_eq!(commits.len(), 2);
    assert_eq!(commits[1].1.entry_count, 0);
    assert_eq!(commits[1].1.durable_number, 1);
}

#[test]
fn a_commit_of_the_previous_lap_never_counts() {
    let machine = Machine::new(4);
    let (journal, _) = machine.create();
    machine.run(&journal);
    let mut resume = None;
    for seq in 1..=120 {
        machine.append(&journal, seq, 3_000);
        machine.run_for_ms(20);
        if seq == 100 {
            journal.cut();
            let cut = Rc::clone(&journal);
            let position = machine.executor.block_on(async move { cut.cut_ready().await });
            journal.release(position);
            resume = Some(position);
        } else if seq % 10 == 0 && seq < 100 {
            journal.cut();
            let cut = Rc::clone(&journal);
            let position = machine.executor.block_on(async move { cut.cut_ready().await });
            journal.release(position);
        }
    }
    let resume = resume.expect("position");
    assert!(resume.position.0 > journal.shape().total_bytes(), "the ring went round");
    machine.power_cut();
    let (_, entries) = machine.open(resume).expect("recovers");
    let seqs: Vec<_> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (101..=120).collect::<Vec<_>>());
}

#[test]
fn damage_below_the_mark_is_refused_and_named() {
    let machine = Machine::new(5);
    let (journal, first) = machine.create();
    machine.run(&journal);
    for seq in 1..=5 {
        machine.append(&journal, seq, 500);
        machine.run_for_ms(20);
    }
    machine.power_cut();
    let commits = commits_in(&machine.disk, 0);
    let (offset, header) = commits[2];
    // Entry 3 concerns the whole node, and two bits are beyond correction.
    for at in [40, 41] {
        machine.disk.corrupt(&file_name(0), offset + COMMIT_HEADER_BYTES as u64 + at);
    }
    let error = machine.open(first).err();
    let Some(OpenJournalError::Recover(RecoverError::Damage(damage))) = error else {
        panic!("expected damage, got {error:?}");
    };
    assert_eq!(damage.file, file_name(0));
    assert_eq!(damage.offset_bytes, offset);
    assert_eq!(damage.commit, header.number);
    assert!(damage.durable_mark >= 3);
    // Nothing was changed: the next try says the same.
    let again = machine.open(first).err();
    assert!(matches!(again, Some(OpenJournalError::Recover(RecoverError::Damage(_)))));
}

#[test]
fn damage_of_the_last_commit_is_known_once_it_was_sealed() {
    let machine = Machine::new(6);
    let (journal, first) = machine.create();
    machine.run(&journal);
    machine.append(&journal, 1, 500);
    machine.run_for_ms(10_000);
    machine.power_cut();
    let (offset, _) = commits_in(&machine.disk, 0)[0];
    machine.disk.corrupt(&file_name(0), offset + 8);
    machine.disk.corrupt(&file_name(0), offset + 9);
    let error = machine.open(first).err();
    assert!(matches!(error, Some(OpenJournalError::Recover(RecoverError::Damage(_)))));
}

/// Two writes are under way, the later one arrives whole and the earlier one does not: nobody was
/// told of either, so both go.
#[test]
fn two_in_flight_with_the_first_torn_is_a_torn_tail() {
    let mut torn = 0;
    for seed in 0..200 {
        let machine = Machine::new(seed);
        let (journal, first) = machine.create();
        machine.run(&journal);
        machine.append(&journal, 1, 100);
        machine.run_for_ms(20);
        machine.append(&journal, 2, 9_000);
        machine.executor.run_until_idle();
        machine.append(&journal, 3, 9_000);
        machine.executor.run_until_idle();
        let released = machine.released.get();
        machine.power_cut();
        let whole: Vec<_> =
            commits_in(&machine.disk, 0).iter().map(|(_, header)| header.number).collect();
        let (reopened, entries) = machine.open(first).expect("a torn tail is no damage");
        assert!(entries.len() as u64 >= released);
        if entries.len() == 1 && whole.contains(&3) {
            torn += 1;
            // What follows is written over the tail, and it is that which comes back.
            machine.run(&reopened);
            machine.append(&reopened, 2, 50);
            machine.run_for_ms(20);
            machine.power_cut();
            let (_, entries) = machine.open(first).expect("recovers");
            assert_eq!(entries.len(), 2);
            assert_eq!(entries[1].bytes, content(2, 50));
        }
    }
    assert!(torn > 10, "the story happened {torn} times only");
}

#[test]
fn an_error_of_a_durable_write_ends_the_journal_and_releases_nothing_after_it() {
    let machine = Machine::new(8);
    let (journal, _) = machine.create();
    let run = machine.run(&journal);
    machine.append(&journal, 1, 100);
    machine.run_for_ms(20);
    machine.disk.inject(SimFault::SyncError, "journal/", 0);
    for seq in 2..=10 {
        machine.append(&journal, seq, 5_000);
    }
    machine.run_for_ms(1_000);
    let error = run.take().expect("the writer ended").expect_err("with the error");
    assert!(matches!(error, JournalError::Disk(_)), "{error}");
    assert_eq!(machine.released.get(), 1);
}

#[test]
fn a_short_write_is_completed_before_anything_is_released() {
    let machine = Machine::new(9);
    let (journal, first) = machine.create();
    machine.run(&journal);
    machine.disk.inject(SimFault::ShortWrite, "journal/", 0);
    machine.append(&journal, 1, 20_000);
    machine.run_for_ms(100);
    assert_eq!(machine.released.get(), 1);
    machine.power_cut();
    assert_eq!(machine.open(first).expect("recovers").1.len(), 1);
}

#[test]
fn a_read_error_is_an_error_and_no_torn_tail() {
    let machine = Machine::new(10);
    let (journal, first) = machine.create();
    machine.run(&journal);
    machine.append(&journal, 1, 100);
    machine.run_for_ms(100);
    machine.power_cut();
    machine.disk.inject(SimFault::ReadError, "journal/000", 1);
    let error = machine.open(first).err();
    assert!(matches!(error, Some(OpenJournalError::Recover(RecoverError::Disk(_)))), "{error:?}");
    assert_eq!(machine.open(first).expect("recovers").1.len(), 1);
}

#[test]
fn a_full_ring_waits_for_a_checkpoint_which_makes_the_queue_durable_too() {
    let machine = Machine::new(11);
    let (journal, _) = machine.create();
    machine.run(&journal);
    for seq in 1..=200 {
        machine.append(&journal, seq, 2_000);
    }
    machine.run_for_ms(2_000);
    let reached = machine.released.get();
    assert!(reached > 50 && reached < 200, "{reached}");
    assert!(journal.is_starved());
    journal.cut();
    let cut = Rc::clone(&journal);
    let position = machine.executor.block_on(async move { cut.cut_ready().await });
    assert_eq!(position.next_entry, 201);
    machine.run_for_ms(2_000);
    assert_eq!(machine.released.get(), reached, "not before the checkpoint is durable");
    journal.release(position);
    machine.run_for_ms(2_000);
    assert_eq!(machine.released.get(), 200);
    machine.append(&journal, 201, 2_000);
    machine.run_for_ms(100);
    machine.power_cut();
    let (_, entries) = machine.open(position).expect("recovers");
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [201]);
}

#[test]
fn an_entry_that_fits_no_file_ends_the_journal_with_a_clear_error() {
    let machine = Machine::new(12);
    let (journal, _) = machine.create();
    let run = machine.run(&journal);
    machine.append(&journal, 1, 70_000);
    machine.run_for_ms(100);
    let error = run.take().expect("ended").expect_err("error");
    assert!(matches!(error, JournalError::EntryTooLarge { seq: 1, .. }), "{error}");
}

#[test]
fn a_missing_and_a_foreign_file_are_refused() {
    let machine = Machine::new(13);
    let (_, first) = machine.create();
    let disk = machine.disk.clone();
    machine.executor.block_on(async move { disk.remove_file(&file_name(1)).await }).expect("gone");
    let error = machine.open(first).err();
    let Some(OpenJournalError::File { file, .. }) = error else {
        panic!("expected a file error, got {error:?}");
    };
    assert_eq!(file, file_name(1));
    let mut foreign = Machine::new(14);
    let (_, first) = foreign.create();
    foreign.config.id = 0x2E;
    assert!(matches!(foreign.open(first), Err(OpenJournalError::File { .. })));
}

#[test]
fn a_ring_that_was_not_finished_is_made_again() {
    for seed in 0..50 {
        let machine = Machine::new(seed);
        let (disk, config) = (machine.disk.clone(), machine.config);
        machine.executor.spawn_in(PROCESS, async move {
            TestJournal::create::<String>(&disk, config, Rc::default()).await.map(|_| ())
        });
        for _ in 0..seed * 5 {
            machine.executor.step();
        }
        machine.power_cut();
        let disk = machine.disk.clone();
        let held =
            machine.executor.block_on(async move { super::open::holds_commits(&disk).await });
        assert!(!held.expect("readable"));
        let (journal, first) = machine.create();
        machine.run(&journal);
        machine.append(&journal, 1, 100);
        machine.run_for_ms(100);
        machine.power_cut();
        assert_eq!(machine.open(first).expect("recovers").1.len(), 1);
    }
}

/// kill -9: the cache lives on, and with it a commit that no sync reached. What recovery replays
/// will be served, so it has to be on the device first.
#[test]
fn what_recovery_replays_survives_a_power_cut_right_after() {
    for seed in 0..100 {
        let machine = Machine::new(seed);
        let (journal, first) = machine.create();
        machine.run(&journal);
        machine.append(&journal, 1, 5_000);
        machine.executor.run_until_idle();
        machine.append(&journal, 2, 5_000);
        for _ in 0..seed % 7 {
            machine.executor.step();
        }
        machine.disk.process_died();
        machine.executor.kill(PROCESS);
        let (_, entries) = machine.open(first).expect("recovers");
        machine.power_cut();
        let (_, again) = machine.open(first).expect("recovers");
        assert_eq!(entries.len(), again.len());
    }
}
