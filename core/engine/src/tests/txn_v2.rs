//! Stories about the second version of transactions (KIP-890): partitions join with the data, and
//! every end moves the epoch on, so that nothing late can slip into the next transaction.

use super::rig::Rig;
use super::txn_rig::{Client, ended, init};
use crate::api_versions;
use crate::{Entry, EntrySeq};
use bytes::BytesMut;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTransaction, TransactionTopic,
};
use millpond_wire::messages::{AddPartitionsToTxnRequest, Request, Response};

#[test]
fn clients_are_told_of_the_second_version() {
    let served = api_versions::served();
    let mut features = served.finalized_features.iter();
    let feature = features.find(|feature| feature.name == "transaction.version");
    let feature = feature.expect("told");
    assert_eq!((feature.min_version_level, feature.max_version_level), (2, 2));
    assert_eq!(served.finalized_features_epoch, 0);
    let version = |key: i16| {
        served.api_keys.iter().find(|api| api.api_key == key).expect("served").max_version
    };
    assert!(version(0) >= 12 && version(28) >= 5 && version(26) >= 5);
}

#[test]
fn every_end_moves_the_epoch_on_and_a_batch_of_before_is_too_late() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    for (round, is_commit) in [(1, true), (2, false), (3, true)] {
        let late = client.clone();
        client.write(&mut rig, "a", 0, &["x"]);
        assert_eq!(client.end(&mut rig, is_commit), 0);
        assert_eq!(client.epoch, round);
        let id = late.send_raw(&mut rig, "a", 0, late.batch("a", 0, &["late"]));
        let refused = ErrorCode::InvalidProducerEpoch.code();
        assert_eq!(rig.produced(id).error_code, refused, "not even a duplicate");
    }
    assert_eq!(rig.read_committed("a", 0, 0), ["x", "x"]);
}

#[test]
fn an_end_whose_answer_was_lost_is_answered_again_with_the_epoch_to_go_on_with() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    client.write(&mut rig, "a", 0, &["x"]);
    let before = client.clone();
    let id = before.send_end(&mut rig, true);
    let first = ended(&mut rig, id);
    let entries = rig.entries.len();
    let id = before.send_end(&mut rig, true);
    assert_eq!(ended(&mut rig, id), first);
    assert_eq!(rig.entries.len(), entries, "nothing more happened");
    let id = before.send_end(&mut rig, false);
    assert_eq!(ended(&mut rig, id).error_code, ErrorCode::InvalidTxnState.code());
    client.take_end(&first);
    client.write(&mut rig, "a", 0, &["y"]);
    let id = before.send_end(&mut rig, true);
    let fenced = ErrorCode::ProducerFenced.code();
    assert_eq!(ended(&mut rig, id).error_code, fenced, "the next transaction is not its own");
}

#[test]
fn a_commit_that_meets_the_abort_of_the_node_is_fenced() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    client.write(&mut rig, "a", 0, &["x"]);
    rig.pass_ms(60_000);
    let refused = client.end(&mut rig, true);
    assert_eq!(refused, ErrorCode::ProducerFenced.code(), "Kafka Streams recovers from no other");
    assert!(rig.read_committed("a", 0, 0).is_empty());
    let mut next = Client::start(&mut rig, "tx", true);
    next.write(&mut rig, "a", 0, &["y"]);
    assert_eq!(next.end(&mut rig, true), 0);
    assert_eq!(rig.read_committed("a", 0, 0), ["y"]);
}

#[test]
fn an_abort_of_nothing_moves_the_epoch_on_and_a_commit_of_nothing_is_refused() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    assert_eq!(client.end(&mut rig, true), ErrorCode::InvalidTxnState.code());
    assert_eq!((client.end(&mut rig, false), client.epoch), (0, 1));
    assert_eq!((client.end(&mut rig, false), client.epoch), (0, 2));
    client.write(&mut rig, "a", 0, &["x"]);
    assert_eq!((client.end(&mut rig, true), client.epoch), (0, 3));
    assert_eq!(rig.read_committed("a", 0, 0), ["x"]);
}

#[test]
fn a_producer_whose_epochs_run_out_at_an_end_goes_on_with_a_new_id() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    while client.epoch < i16::MAX - 1 {
        client.epoch = init(&mut rig, "tx", None).producer_epoch;
    }
    let entries = rig.entries.len();
    client.write(&mut rig, "a", 0, &["x"]);
    let before = client.clone();
    assert_eq!(client.end(&mut rig, true), 0);
    assert!(client.id > before.id && client.epoch == 0);
    let id = before.send_end(&mut rig, true);
    let again = ended(&mut rig, id);
    assert_eq!((again.error_code, again.producer_id, again.producer_epoch), (0, client.id, 0));
    client.write(&mut rig, "a", 0, &["y"]);
    assert_eq!(client.end(&mut rig, true), 0);
    assert_eq!(rig.read_committed("a", 0, 0), ["x", "y"]);
    for (bytes, seq) in rig.entries[entries..].iter().zip(entries as u64 + 1..) {
        let entry = Entry::decode(EntrySeq(seq), bytes.clone()).expect("our own entry");
        let mut again = BytesMut::new();
        entry.encode(&mut again);
        assert_eq!(again, bytes[..], "comes back to the byte");
    }
    assert_eq!(rig.engine.snapshot(), rig.reborn(None).engine.snapshot());
}

#[test]
fn brokers_join_and_verify_many_transactions_at_once() {
    let mut rig = Rig::new();
    rig.create_topic("a", 2);
    let one = Client::start(&mut rig, "one", false);
    let two = Client::start(&mut rig, "two", false);
    let ask = |rig: &mut Rig, asked: &[(&Client, i32, bool)], version: i16| -> Vec<i16> {
        let transaction = |(client, partition, verify_only): &(&Client, i32, bool)| {
            let partitions = vec![*partition];
            AddPartitionsToTxnTransaction {
                transactional_id: client.transactional_id.clone(),
                producer_id: client.id,
                producer_epoch: client.epoch,
                verify_only: *verify_only,
                topics: vec![TransactionTopic { name: "a".to_owned(), partitions }],
            }
        };
        let transactions = asked.iter().map(transaction).collect();
        let request =
            AddPartitionsToTxnRequest { transactions, ..AddPartitionsToTxnRequest::default() };
        let Response::AddPartitionsToTxn(answer) =
            rig.call(Request::AddPartitionsToTxn(request), version)
        else {
            panic!("another answer");
        };
        let results = answer.results_by_transaction.iter();
        results.map(|r| r.topic_results[0].results_by_partition[0].partition_error_code).collect()
    };
    let refused = ErrorCode::TransactionAbortable.code();
    assert_eq!(ask(&mut rig, &[(&one, 0, false), (&two, 1, true)], 5), [0, refused]);
    let refused = ErrorCode::InvalidTxnState.code();
    assert_eq!(ask(&mut rig, &[(&one, 0, true), (&one, 1, true)], 4), [0, refused]);
    let missing = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(ask(&mut rig, &[(&two, 7, false), (&two, 1, false)], 5), [missing, 0]);
    let stale = Client { epoch: one.epoch + 1, ..one.clone() };
    assert_eq!(ask(&mut rig, &[(&stale, 0, true)], 5), [ErrorCode::ProducerFenced.code()]);
}

#[test]
fn a_client_of_before_and_one_of_since_follow_each_other() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    for (round, is_v2) in [(0, false), (1, true), (2, false), (3, true)] {
        let mut client = Client::start(&mut rig, "tx", is_v2);
        client.write(&mut rig, "a", 0, &["x"]);
        assert_eq!(client.end(&mut rig, true), 0, "round {round}");
    }
    assert_eq!(rig.read_committed("a", 0, 0).len(), 4);
}

#[test]
fn the_first_batch_of_a_transaction_has_an_entry_of_its_partition_alone() {
    let mut rig = Rig::new();
    rig.create_topic("a", 2);
    let mut client = Client::start(&mut rig, "tx", true);
    client.write(&mut rig, "a", 1, &["x"]);
    let before = rig.entries.len();
    client.write(&mut rig, "a", 0, &["lost"]);
    assert_eq!(rig.entries.len(), before + 2, "it joins, then it writes");
    let lost = EntrySeq(rig.entries.len() as u64);
    assert_eq!(client.end(&mut rig, true), 0);
    let mut rig = rig.reborn_without(None, &[lost]);
    // What the damaged entry held is gone and said to be; the rest of the transaction is there.
    assert_eq!(rig.engine.lost_ranges().count(), 1);
    assert_eq!(rig.read_committed("a", 1, 0), ["x"]);
    client.write(&mut rig, "a", 1, &["y"]);
    assert_eq!(client.end(&mut rig, true), 0);
    assert_eq!(rig.read_committed("a", 1, 0), ["x", "y"]);
}
