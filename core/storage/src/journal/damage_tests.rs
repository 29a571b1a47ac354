//! Damage to a journal at rest: whatever byte it hits, it is corrected, or it takes entries of one
//! partition and says which, or the start is refused and says why. Never is an entry missing
//! without a word, and never is one believed that is not as it was written.

use std::collections::BTreeSet;

use super::format::{COMMIT_HEADER_BYTES, CommitHeader};
use super::open::{OpenJournalError, file_name};
use super::tests::{Machine, content};
use super::*;
use crate::disk::sim::{SimDisk, SimRng};
use crate::disk::{AlignedBuf, DiskFile, OpenMode};

/// Entries of the journals of these tests; every third concerns the whole node.
const ENTRIES: u64 = 12;
const BLOCK: usize = 4096;

/// A journal that was written, sealed and left alone, as bytes.
struct Written {
    files: Vec<Vec<u8>>,
    first: JournalPosition,
    lens: Vec<usize>,
    /// Where its commits end.
    end: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Every entry is there.
    Whole,
    /// These are gone, all others are there.
    Lost(Vec<u64>),
    Refused(String),
}

fn small(seed: u64) -> Machine {
    let mut machine = Machine::new(seed);
    machine.config.files = 2;
    machine.config.file_bytes = 64 * 1024;
    machine
}

fn written(seed: u64, longest: u64) -> Written {
    let machine = small(seed);
    let mut rng = SimRng::new(seed);
    let (journal, first) = machine.create();
    machine.run(&journal);
    let mut lens = Vec::new();
    for seq in 1..=ENTRIES {
        lens.push(rng.between(1, longest) as usize);
        machine.append(&journal, seq, lens[lens.len() - 1]);
        if rng.chance(600) {
            machine.run_for_ms(20);
        }
    }
    machine.run_for_ms(6_000);
    machine.power_cut();
    let files = (0..2).map(|file| machine.disk.content(&file_name(file)).expect("a file"));
    let end = journal.state.borrow().head.position.0 as usize;
    Written { files: files.collect(), first, lens, end }
}

async fn put(disk: SimDisk, files: Vec<Vec<u8>>) -> Result<(), DiskError> {
    disk.create_dir_all(JOURNAL_DIR).await?;
    for (index, bytes) in files.iter().enumerate() {
        let file = disk.open(&file_name(index), OpenMode::CREATE).await?;
        file.write_at(0, AlignedBuf::copied_from(bytes, BLOCK)).await.0?;
        file.sync().await?;
    }
    Ok(())
}

impl Written {
    /// Opens a copy of it in which `damage` was done to the first file.
    fn open(&self, damage: impl FnOnce(&mut [u8])) -> Outcome {
        let mut files = self.files.clone();
        damage(&mut files[0]);
        let machine = small(1);
        let disk = machine.disk.clone();
        machine.executor.block_on(put(disk, files)).expect("a copy");
        let entries = match machine.open(self.first) {
            Ok((_, entries)) => entries,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let lost = machine.lost.borrow().clone();
        let mut seqs: BTreeSet<u64> = lost.iter().copied().collect();
        for entry in entries {
            let len = self.lens[entry.seq as usize - 1];
            assert!(entry.bytes == content(entry.seq, len), "entry {} was believed", entry.seq);
            assert!(seqs.insert(entry.seq), "entry {} twice", entry.seq);
        }
        assert!(seqs.into_iter().eq(1..=ENTRIES), "an entry is missing without a word");
        assert!(lost.iter().all(|seq| seq % 3 != 0), "the node lost an entry of its own");
        if lost.is_empty() { Outcome::Whole } else { Outcome::Lost(lost) }
    }

    /// Where the commits begin.
    fn commits(&self) -> Vec<(usize, CommitHeader)> {
        let starts = (BLOCK..self.end).step_by(BLOCK);
        let header = |at: usize| CommitHeader::decode(&self.files[0][at..], true).ok();
        starts.filter_map(|at| Some((at, header(at)?))).collect()
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_commits_is_corrected() {
    let written = written(1, 300);
    let commits = written.commits();
    assert!(commits.len() > 4, "{}", commits.len());
    for (start, header) in commits {
        let len = COMMIT_HEADER_BYTES + header.body_bytes as usize;
        for at in start..start + len {
            let bit = at % 8;
            assert_eq!(written.open(|file| file[at] ^= 1 << bit), Outcome::Whole, "byte {at}");
        }
    }
}

#[test]
fn several_wrong_bytes_are_contained_or_refused_wherever_they_are() {
    let written = written(2, 400);
    let mut rng = SimRng::new(2);
    let (mut whole, mut lost, mut refused) = (0, 0, 0);
    for at in (BLOCK..written.end - 8).step_by(3) {
        let outcome = written.open(|file| {
            for byte in &mut file[at..at + 8] {
                *byte ^= 1 + rng.below(255) as u8;
            }
        });
        match outcome {
            Outcome::Whole => whole += 1,
            Outcome::Lost(seqs) => {
                lost += 1;
                assert!(seqs.len() <= 2, "eight bytes touch two entries at most");
            }
            Outcome::Refused(why) => {
                refused += 1;
                assert!(why.contains("000.mpj") && why.contains("log repair"), "{why}");
            }
        }
    }
    assert!(whole > 100 && lost > 100 && refused > 100, "{whole} {lost} {refused}");
}

#[test]
fn an_entry_of_one_partition_is_given_up_and_the_others_of_its_commit_are_kept() {
    let written = written(3, 2_000);
    let commits = written.commits();
    let (start, header) = commits.iter().find(|(_, header)| header.entry_count > 2).expect("one");
    let seqs = header.first_entry..header.first_entry + u64::from(header.entry_count);
    let mut at = start + COMMIT_HEADER_BYTES + 16 * header.entry_count as usize;
    for seq in seqs {
        let len = written.lens[seq as usize - 1];
        let outcome = written.open(|file| file[at..at + len].fill(0xEE));
        match outcome {
            Outcome::Refused(why) => assert!(seq % 3 == 0, "{why}"),
            outcome => assert_eq!(outcome, Outcome::Lost(vec![seq])),
        }
        at += len;
    }
}

#[test]
fn the_last_commit_that_nobody_was_told_of_is_a_torn_tail_and_no_damage() {
    // Without the seal the mark does not reach the last commit.
    let written = written(4, 300);
    let commits = written.commits();
    let (seal, header) = commits[commits.len() - 1];
    assert_eq!(header.entry_count, 0);
    let (last, header) = commits[commits.len() - 2];
    let mut files = written.files.clone();
    files[0][seal..seal + BLOCK].fill(0);
    let body = last + COMMIT_HEADER_BYTES + 16 * header.entry_count as usize;
    files[0][body] ^= 1;
    let machine = small(1);
    machine.executor.block_on(put(machine.disk.clone(), files)).expect("a copy");
    let (_, entries) = machine.open(written.first).expect("recovers");
    assert_eq!(entries.len() as u64 + 1, header.first_entry, "dropped as a whole");
    assert!(machine.lost.borrow().is_empty());
}

#[test]
fn damage_all_over_is_refused_or_contained_but_never_believed() {
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..200 {
        let mut rng = SimRng::new(seed);
        let written = written(seed, 3_000);
        // The seal is left: with it goes the word that the last commit was durable.
        let end = (written.end - BLOCK) as u64;
        let outcome = written.open(|file| {
            for _ in 0..rng.between(1, 6) {
                let at = rng.between(BLOCK as u64, end - 1) as usize;
                let len = rng.between(1, 600) as usize;
                let last = (end as usize).min(at + len);
                let value = rng.next_u64() as u8;
                file[at..last].fill(value);
            }
        });
        match outcome {
            Outcome::Refused(_) => refused += 1,
            _ => opened += 1,
        }
    }
    assert!(opened > 10 && refused > 10, "{opened} opened, {refused} refused");
}

#[test]
fn a_damaged_file_header_is_refused_by_name() {
    let machine = small(5);
    let (_, first) = machine.create();
    machine.power_cut();
    machine.disk.corrupt(&file_name(1), 9);
    let Err(OpenJournalError::File { file, .. }) = machine.open(first) else {
        panic!("opened");
    };
    assert_eq!(file, file_name(1));
}
