//! The store of a spill step by step: power cuts at every byte, room that runs out, windows that are
//! found again after a restart.

use super::store::{Room, Store};
use super::{SpillError, WhenFull};
use crate::producer::{ProducerId, Record};
use crate::spill::ledger::{Outcome, Window};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PRODUCER: ProducerId = ProducerId { id: 9, epoch: 0 };

fn room(when_full: WhenFull) -> Room {
    Room { max_bytes: 256 * 1024, when_full }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, room(WhenFull::RefuseNewest)).unwrap()
}

fn record(n: usize) -> Record {
    Record::to("t").key("k").value(format!("{n:05}")).timestamp_ms(1)
}

fn large(n: usize) -> Record {
    Record::to("t").key("k").value(format!("{n:05}{}", "x".repeat(4_000))).timestamp_ms(1)
}

fn take(store: &mut Store, records: &[Record]) -> Vec<u64> {
    store.append(records).into_iter().map(Result::unwrap).collect()
}

fn numbers(records: &[(u64, Record)]) -> Vec<usize> {
    let number = |record: &Record| {
        let value = record.value.as_deref().unwrap();
        std::str::from_utf8(&value[..5]).unwrap().parse().unwrap()
    };
    records.iter().map(|(_, record)| number(record)).collect()
}

/// Stamps the next records; what they are.
fn stamp(store: &mut Store) -> (Window, Vec<usize>, (PathBuf, u64)) {
    let batch = store.next_batch().unwrap();
    let partitions: BTreeMap<Arc<str>, u32> = BTreeMap::from([("t".into(), 1)]);
    let window = store.ledger.plan(PRODUCER, &batch.records, partitions).unwrap();
    assert!(store.stamp(window.clone(), batch.drops).unwrap());
    (window, numbers(&batch.records), batch.end)
}

/// Sends everything; what was sent, in order.
fn drain(store: &mut Store) -> Vec<usize> {
    let mut sent = Vec::new();
    while !store.next_batch().unwrap().records.is_empty() {
        let (_, numbers, end) = stamp(store);
        store.done(&[Outcome::Written], numbers.len() as u64, end).unwrap();
        sent.extend(numbers);
    }
    sent
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "spill"))
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_taken_is_there_after_a_power_cut_at_any_byte_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let path = files(dir.path()).remove(0);
    let length = || std::fs::metadata(&path).unwrap().len();
    let start = length();
    let mut taken_at = Vec::new();
    for n in 0..5 {
        take(&mut store, &[record(n)]);
        taken_at.push(length());
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    for cut in start..=whole.len() as u64 {
        let other = tempfile::tempdir().unwrap();
        let copy = other.path().join(path.file_name().unwrap());
        std::fs::write(&copy, &whole[..usize::try_from(cut).unwrap()]).unwrap();
        let mut store = open(other.path());
        let kept = taken_at.iter().filter(|end| **end <= cut).count();
        assert_eq!(store.tally.waiting, kept as u64, "cut at {cut}");
        take(&mut store, &[record(kept)]);
        assert_eq!(drain(&mut store), (0..=kept).collect::<Vec<_>>(), "cut at {cut}");
    }
}

#[test]
fn a_window_is_found_again_under_the_same_stamps_whenever_the_power_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    take(&mut store, &[record(0), record(1)]);
    let (_, _, end) = stamp(&mut store);
    store.done(&[Outcome::Written], 2, end).unwrap();
    take(&mut store, &[record(2), record(3), record(4)]);
    let (window, sent, _) = stamp(&mut store);
    assert_eq!(window.groups[0].base_sequence, 2, "it goes on after the two that are written");
    take(&mut store, &[record(5)]);
    drop(store);
    for _ in 0..3 {
        let store = open(dir.path());
        assert_eq!(store.ledger.window.as_ref(), Some(&window));
        assert_eq!(numbers(&store.next_batch().unwrap().records), sent, "and nothing newer");
    }
    let mut store = open(dir.path());
    let end = store.next_batch().unwrap().end;
    store.done(&[Outcome::Written], 3, end).unwrap();
    let (next, sent, _) = stamp(&mut store);
    assert_eq!((next.groups[0].base_sequence, sent), (5, vec![5]));
}

#[test]
fn a_done_that_was_cut_off_only_means_that_the_same_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    take(&mut store, &[record(0)]);
    let (window, _, end) = stamp(&mut store);
    let path = files(dir.path()).remove(0);
    let before = std::fs::metadata(&path).unwrap().len();
    store.done(&[Outcome::Written], 1, end).unwrap();
    drop(store);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(before + 3).unwrap();
    let store = open(dir.path());
    assert_eq!((store.ledger.window.as_ref(), store.tally.waiting), (Some(&window), 1));
    assert_eq!(store.tally.cut_bytes, 3);
}

#[test]
fn a_full_spill_refuses_until_the_broker_has_taken_some() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut taken = 0;
    let error = loop {
        match store.append(&[large(taken)]).remove(0) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SpillError::Full { .. }), "{error}");
    assert!(taken > 40, "most of the room is used: {taken}");
    assert_eq!(drain(&mut store), (0..taken).collect::<Vec<_>>());
    assert_eq!(files(dir.path()).len(), 1, "the room is given back");
    take(&mut store, &[large(taken)]);
    assert_eq!(drain(&mut store), [taken]);
}

#[test]
fn a_spill_that_drops_the_oldest_keeps_the_newest_and_what_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), room(WhenFull::DropOldest)).unwrap();
    take(&mut store, &[large(0), large(1)]);
    let (window, under_way, end) = stamp(&mut store);
    assert_eq!(under_way, [0, 1]);
    for n in 2..300 {
        take(&mut store, &[large(n)]);
    }
    let on_flash: u64 = files(dir.path()).iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(on_flash <= 256 * 1024, "{on_flash} bytes");
    assert_eq!(store.ledger.window.as_ref(), Some(&window));
    assert_eq!(numbers(&store.next_batch().unwrap().records), under_way);
    let dropped = store.tally.dropped;
    store.done(&[Outcome::Written], 2, end).unwrap();
    let rest = drain(&mut store);
    assert_eq!(rest.last(), Some(&299), "the newest is there");
    assert!(rest.is_sorted());
    assert_eq!(2 + dropped + rest.len() as u64, 300, "each is sent or counted");
    assert_eq!(store.tally.waiting, 0);
}

#[test]
fn only_one_program_has_it_open_and_a_record_must_fit_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    assert!(Store::open(dir.path(), room(WhenFull::RefuseNewest)).is_err());
    let huge = Record::to("t").value(vec![0; 33 * 1024]).timestamp_ms(1);
    let error = store.append(&[huge]).remove(0).unwrap_err();
    assert!(matches!(error, SpillError::TooLarge { .. }), "{error}");
}
