//! Entries that damage took from the journal: one partition loses offsets and says so, the rest of
//! the node is as it was.

use super::rig::{Producer, Rig, batch, values_of};
use crate::{EntrySeq, LostRange};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits::BATCH_RECORDS_MAX;

const LOST: i16 = ErrorCode::KafkaStorageError.code();

fn sent(id: i64, sequence: i32, values: &[&str]) -> bytes::Bytes {
    batch(values, Some(Producer { id, epoch: 0, sequence }))
}

fn produce(rig: &mut Rig, id: i64, sequence: i32, value: &str) -> (i16, i64) {
    let request = rig.send_batch("t", 0, sent(id, sequence, &[value]));
    let answer = rig.produced(request);
    (answer.error_code, answer.base_offset)
}

/// Offsets 0, 1-3, 4 of partition 0 in entries 2, 3, 5; entry 4 is of partition 1.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    rig.produce("t", 0, &["a"]);
    rig.produce("t", 0, &["b", "c", "d"]);
    rig.produce("t", 1, &["other"]);
    rig.produce("t", 0, &["e"]);
    rig
}

fn ranges(rig: &Rig) -> Vec<(i64, i64)> {
    rig.engine.lost_ranges().map(|LostRange { from, upto, .. }| (from, upto)).collect()
}

#[test]
fn a_lost_entry_is_a_hole_up_to_the_next_batch_of_its_partition() {
    let mut rig = rig().reborn_without(None, &[EntrySeq(3)]);
    assert_eq!(ranges(&rig), [(1, 4)]);
    // What lies before is served, and not a byte of what lies behind with it.
    assert_eq!(values_of(&rig.fetch("t", 0, 0)), [(0, "a".to_owned())]);
    for offset in 1..4 {
        let data = rig.fetch("t", 0, offset);
        assert_eq!((data.error_code, values_of(&data).len()), (LOST, 0), "{offset}");
    }
    assert_eq!(rig.read("t", 0, 4), [(4, "e".to_owned())]);
    assert_eq!(rig.read("t", 1, 0), [(0, "other".to_owned())]);
    assert_eq!(rig.produce("t", 0, &["f"]).base_offset, 5);
}

#[test]
fn a_hole_outlives_the_journal_that_showed_it() {
    let first = rig().reborn_without(None, &[EntrySeq(3)]);
    let snapshot = first.engine.snapshot();
    let mut rig = first.reborn(Some(snapshot));
    assert_eq!(ranges(&rig), [(1, 4)]);
    assert_eq!(rig.fetch("t", 0, 2).error_code, LOST);
}

#[test]
fn offsets_of_a_lost_last_entry_are_never_given_out_again() {
    let mut rig = rig().reborn_without(None, &[EntrySeq(5)]);
    let [(4, upto)] = ranges(&rig)[..] else { panic!("{:?}", ranges(&rig)) };
    assert!(upto >= 4 + BATCH_RECORDS_MAX as i64);
    assert_eq!(rig.entries.len(), 6, "the decision is journalled");
    assert_eq!(rig.fetch("t", 0, 4).error_code, LOST);
    // Whoever begins at the end begins behind it.
    let end = rig.fetch("t", 0, upto);
    assert_eq!((end.error_code, end.high_watermark), (0, upto));
    assert_eq!(rig.produce("t", 0, &["f"]).base_offset, upto);
    // The damage is still in the journal at the next start.
    let mut again = rig.reborn_without(None, &[EntrySeq(5)]);
    assert_eq!(ranges(&again), [(4, upto)]);
    assert_eq!(again.entries.len(), 7, "it was decided once");
    assert_eq!(again.read("t", 0, upto), [(upto, "f".to_owned())]);
}

#[test]
fn several_lost_entries_in_a_row_are_one_hole() {
    let mut rig = rig();
    rig.produce("t", 0, &["f"]);
    rig.produce("t", 0, &["g"]);
    let mut rig = rig.reborn_without(None, &[EntrySeq(3), EntrySeq(5), EntrySeq(6)]);
    assert_eq!(ranges(&rig), [(1, 6)]);
    assert_eq!(rig.read("t", 0, 6), [(6, "g".to_owned())]);
}

#[test]
fn a_producer_whose_batch_was_lost_goes_on_and_its_known_duplicates_stay_known() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    for sequence in 0..3 {
        assert_eq!(produce(&mut rig, 9, sequence, "v"), (0, sequence.into()));
    }
    let lost = EntrySeq(4);
    // What was lost is sent again, or what follows it: both are taken, once.
    for next in [2, 3] {
        let mut rig = rig.reborn_without(None, &[lost]);
        assert_eq!(produce(&mut rig, 9, 1, "v"), (0, 1), "a duplicate");
        let (code, offset) = produce(&mut rig, 9, next, "w");
        assert!(code == 0 && offset >= 3, "{next}");
        assert_eq!(produce(&mut rig, 9, next, "w"), (0, offset), "now it is known");
        if next == 3 {
            let late = produce(&mut rig, 9, 2, "v").0;
            assert_eq!(
                late,
                ErrorCode::OutOfOrderSequenceNumber.code(),
                "no duplicate: it is lost"
            );
        }
        let gap = produce(&mut rig, 9, next + 2, "x").0;
        assert_eq!(gap, ErrorCode::OutOfOrderSequenceNumber.code(), "and judged as ever");
    }
    // Also after a checkpoint.
    let rig = rig.reborn_without(None, &[lost]);
    let mut rig = rig.reborn(Some(rig.engine.snapshot()));
    assert_eq!(produce(&mut rig, 9, 7, "w").0, 0);
}

#[test]
fn a_batch_further_on_than_the_lost_entry_could_reach_is_refused() {
    let mut rig = rig();
    for _ in 0..3 {
        rig.produce("t", 0, &["f"]);
    }
    let entry = |seq: usize| {
        crate::Entry::decode(EntrySeq(seq as u64), rig.entries[seq - 1].clone()).expect("an entry")
    };
    let mut engine = crate::Engine::new(crate::EngineConfig::default(), 1);
    engine.replay(entry(1)).expect("the topic");
    engine.replay(entry(2)).expect("offset 0");
    let key = rig.key("t", 0);
    let missing = engine.replay_lost(EntrySeq(9), key, 100);
    assert!(matches!(missing, Err(crate::ReplayError::Missing { .. })));
    // Offsets are missing and no entry that could have held them is.
    let entry = crate::Entry { seq: EntrySeq(3), ..entry(5) };
    let gap = engine.replay(entry);
    assert!(matches!(gap, Err(crate::ReplayError::Gap { log_end: 1, found: 4, .. })), "{gap:?}");
}
