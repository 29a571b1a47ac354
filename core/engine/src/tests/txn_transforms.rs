//! Stories about transactions that go through transforms: what a module makes of a batch is part of
//! the batch's transaction, wherever it goes.

use super::rig::{Rig, parsed};
use super::txn_rig::{Client, ended};
use crate::transform::{Output, OutputTopic, TransformOutcome};
use millpond_wire::error_code::ErrorCode;

fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    rig.deploy("f", "t");
    rig
}

fn routed() -> TransformOutcome {
    let outputs = vec![
        Output { topic: OutputTopic::Same, batch: parsed(&["kept"]) },
        Output { topic: OutputTopic::Named("routed".to_owned()), batch: parsed(&["elsewhere"]) },
    ];
    TransformOutcome::Changed { outputs, state: Vec::new() }
}

#[test]
fn routed_output_joins_the_transaction_and_shares_its_end() {
    for is_v2 in [false, true] {
        for is_commit in [false, true] {
            let mut rig = rig();
            let mut client = Client::start(&mut rig, "tx", is_v2);
            if !is_v2 {
                assert_eq!(client.add(&mut rig, "t", 1), 0);
            }
            let id = client.send(&mut rig, "t", 1, &["a", "b", "c"]);
            let job = rig.jobs.pop_front().expect("a job");
            rig.finish(&job, routed());
            assert_eq!(rig.produced(id).error_code, 0);
            assert_eq!(rig.read("routed", 1, 0).len(), 1, "there for those who read all");
            assert_eq!(rig.read_committed("routed", 1, 0), [""; 0]);
            assert_eq!(client.end(&mut rig, is_commit), 0);
            let expected: &[&str] = if is_commit { &["elsewhere"] } else { &[] };
            assert_eq!(rig.read_committed("routed", 1, 0), expected);
            let expected: &[&str] = if is_commit { &["kept"] } else { &[] };
            assert_eq!(rig.read_committed("t", 1, 0), expected);
            assert_eq!(rig.latest("routed", 1, 1), 2, "a marker stands there too");
        }
    }
}

#[test]
fn a_batch_of_which_nothing_is_left_still_belongs_to_a_transaction_that_ends_well() {
    let mut rig = rig();
    let mut client = Client::start(&mut rig, "tx", true);
    let id = client.send(&mut rig, "t", 0, &["dropped"]);
    let job = rig.jobs.pop_front().expect("a job");
    rig.finish(&job, TransformOutcome::Changed { outputs: Vec::new(), state: Vec::new() });
    let answer = rig.produced(id);
    assert_eq!((answer.error_code, answer.base_offset), (0, -1));
    assert_eq!(client.end(&mut rig, true), 0);
    assert_eq!(rig.read_committed("t", 0, 0), [""; 0]);
}

#[test]
fn a_batch_that_is_transformed_when_its_transaction_has_ended_is_refused() {
    for is_v2 in [false, true] {
        let mut rig = rig();
        let mut client = Client::start(&mut rig, "tx", is_v2);
        if !is_v2 {
            client.add(&mut rig, "t", 0);
        }
        let late = client.send(&mut rig, "t", 0, &["late"]);
        let end = client.send_end(&mut rig, true);
        let response = ended(&mut rig, end);
        assert_eq!(response.error_code, 0);
        client.take_end(&response);
        client.sequences.clear();
        if !is_v2 {
            client.add(&mut rig, "t", 0);
        }
        let job = rig.jobs.pop_front().expect("a job");
        rig.finish(&job, TransformOutcome::Untouched { state: Vec::new() });
        assert_eq!(rig.produced(late).error_code, ErrorCode::InvalidTxnState.code());
        let next = client.send(&mut rig, "t", 0, &["next"]);
        let job = rig.jobs.pop_front().expect("a job");
        rig.finish(&job, TransformOutcome::Untouched { state: Vec::new() });
        assert_eq!(rig.produced(next).error_code, 0, "nor does it get into the next one");
        assert_eq!(client.end(&mut rig, true), 0);
        assert_eq!(rig.read_committed("t", 0, 0), ["next"]);
    }
}
