//! C1 to C6: what others did twice, lost or mixed up with idempotence and transactions.

use crate::calls::{Member, Txn, read_committed};
use millpond_sim::lab::{Lab, value};
use millpond_sim::{Storm, run_seed};
use millpond_wire::ErrorCode;
use millpond_wire::limits::PRODUCERS_PER_PARTITION_MAX;

fn lab(seed: u64) -> Lab {
    let mut lab = Lab::new(seed);
    lab.start();
    lab.create_topic("a", 1);
    lab.create_topic("b", 1);
    lab
}

/// Five batches in flight, the power cut after every operation of the disk: what is sent again has
/// the offset that it had.
#[test]
fn c01_no_duplicates_with_idempotence_wherever_the_power_goes() {
    for operations in 0..14 {
        let mut lab = lab(100 + operations);
        let send = |lab: &Lab| -> Vec<_> {
            let connection = lab.connect();
            let batch = |index: i32| {
                let text = value(index as usize, 300);
                lab.send_batch_over(&connection, "a", 0, &[&text], Some((7, 0, index)))
            };
            (0..5).map(batch).collect()
        };
        let first = send(&lab);
        lab.run_operations(operations, 1_000);
        lab.power_cycle();
        let known: Vec<_> = first.iter().map(|write| lab.outcome(write)).collect();
        let again: Vec<_> = send(&lab).iter().map(|write| lab.outcome(write)).collect();
        for (index, (known, again)) in known.iter().zip(&again).enumerate() {
            assert_eq!(*again, Some(Ok(index as i64)), "after {operations} operations");
            assert!(known.is_none() || known == again, "{known:?}, then {again:?}");
        }
        assert_eq!(lab.read("a", 0).len(), 5);
    }
}

/// A producer that was forgotten because others were busier goes on with its next batch.
#[test]
fn c02_a_forgotten_producer_goes_on() {
    let lab = lab(2);
    let write = |id: i64, sequence: i32| {
        let text = format!("{id}:{sequence}");
        lab.outcome(&lab.send_batch("a", 0, &[&text], Some((id, 0, sequence))))
    };
    let busy = PRODUCERS_PER_PARTITION_MAX as i64 + 1;
    assert_eq!(write(1_000_000, 0), Some(Ok(0)));
    let writes: Vec<_> =
        (0..busy).map(|id| lab.send_batch("a", 0, &["x"], Some((2_000_000 + id, 0, 0)))).collect();
    for write in &writes {
        assert!(matches!(lab.outcome(write), Some(Ok(_))));
    }
    assert_eq!(write(1_000_000, 1), Some(Ok(busy + 1)), "it is not sent away for ever");
    assert_eq!(write(1_000_000, 1), Some(Ok(busy + 1)), "and is known again");
    assert_eq!(write(1_000_000, 3), Some(Err(ErrorCode::OutOfOrderSequenceNumber)));
}

#[test]
fn c03_aborted_records_are_not_read_before_or_after_a_restart() {
    let mut lab = lab(3);
    let (mut one, mut two) = (Txn::init(&lab, "one", true), Txn::init(&lab, "two", false));
    for round in 0..6 {
        one.write(&lab, "a", &format!("one-{round}")).unwrap();
        two.write(&lab, "a", &format!("two-{round}")).unwrap();
        assert_eq!(one.end(&lab, round % 2 == 0), ErrorCode::None);
        assert_eq!(two.end(&lab, round % 3 == 0), ErrorCode::None);
        if round == 3 {
            lab.shut_down();
            lab.start();
        }
    }
    let wanted = ["one-0", "two-0", "one-2", "two-3", "one-4"];
    assert_eq!(read_committed(&lab, "a").0, wanted);
    lab.power_cycle();
    assert_eq!(read_committed(&lab, "a").0, wanted);
}

/// What the coordinator knew when the power went it knows afterwards: the transaction goes on.
#[test]
fn c04_the_coordinators_memory_outlives_a_power_cut() {
    for is_v2 in [false, true] {
        let mut lab = lab(4);
        let mut txn = Txn::init(&lab, "tx", is_v2);
        txn.write(&lab, "a", "x").unwrap();
        lab.power_cycle();
        assert_eq!(read_committed(&lab, "a").0, [""; 0]);
        txn.write(&lab, "b", "y").unwrap();
        lab.power_cycle();
        assert_eq!(txn.end(&lab, true), ErrorCode::None);
        lab.power_cycle();
        assert_eq!(read_committed(&lab, "a").0, ["x"]);
        assert_eq!(read_committed(&lab, "b").0, ["y"]);
    }
}

/// The end of a transaction that arrives late, when its sender has long begun the next one.
#[test]
fn c05_a_late_end_does_not_end_a_later_transaction() {
    let mut lab = lab(5);
    let mut txn = Txn::init(&lab, "tx", true);
    txn.write(&lab, "a", "first").unwrap();
    let mut late = txn;
    assert_eq!(txn.end(&lab, true), ErrorCode::None);
    txn.write(&lab, "a", "second").unwrap();
    txn.write(&lab, "b", "second").unwrap();
    assert_eq!(late.end(&lab, true), ErrorCode::ProducerFenced);
    assert!(late.write(&lab, "b", "late").is_err(), "nor does a late record slip into it");
    let (values, stable, end) = read_committed(&lab, "a");
    assert!(values == ["first"] && stable < end, "the second one is open: {values:?}");
    lab.power_cycle();
    assert_eq!(late.end(&lab, true), ErrorCode::ProducerFenced);
    assert_eq!(txn.end(&lab, false), ErrorCode::None);
    assert_eq!(read_committed(&lab, "a").0, ["first"]);
    assert_eq!(read_committed(&lab, "b").0, [""; 0]);
}

/// An instance whose place was taken ends nothing, whatever it was at.
#[test]
fn c05_a_fenced_instance_commits_nothing() {
    for is_v2 in [false, true] {
        let mut lab = lab(55);
        let mut old = Txn::init(&lab, "tx", is_v2);
        old.write(&lab, "a", "old").unwrap();
        let mut new = Txn::init(&lab, "tx", is_v2);
        assert_ne!(old.end(&lab, true), ErrorCode::None);
        new.write(&lab, "a", "new").unwrap();
        assert_ne!(old.end(&lab, true), ErrorCode::None);
        let nobody = Member::nobody("g");
        assert_ne!(old.commit_offset(&lab, &nobody, "b", 9), ErrorCode::None);
        lab.power_cycle();
        assert_ne!(old.end(&lab, true), ErrorCode::None);
        assert_eq!(new.end(&lab, true), ErrorCode::None);
        assert_eq!(read_committed(&lab, "a").0, ["new"]);
        assert_eq!(nobody.committed(&lab, "b"), -1);
    }
}

/// Nothing at all goes wrong, and nothing is lost, doubled or strange.
#[test]
fn c06_all_is_well_without_faults() {
    for storm in [Storm::POWER_CUTS, Storm::TRANSACTIONS] {
        let fair = Storm { gales: 0, calm_ms: (1_000, 3_000), ..storm };
        for seed in 0..4 {
            if let Err(failure) = run_seed(seed, fair) {
                panic!("{failure}");
            }
        }
    }
}
