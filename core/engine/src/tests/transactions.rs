//! Stories about transactions: what becomes visible when, who may write, and who is fenced.

use super::rig::{Producer, Rig, batch, fetched};
use super::txn_rig::{Client, committed_fetch, ended, init, init_within};
use crate::{Entry, EntrySeq, Event, Fact, TransactionFact};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millpond_wire::messages::{
    DeleteRecordsRequest, DeleteTopicsRequest, InitProducerIdRequest, Request, Response,
};
use millpond_wire::record::LogBatch;

fn code(code: ErrorCode) -> i16 {
    code.code()
}

#[test]
fn a_commit_becomes_visible_in_all_partitions_with_one_sync() {
    for is_v2 in [false, true] {
        let mut rig = Rig::new();
        rig.create_topic("a", 2);
        let mut client = Client::start(&mut rig, "tx", is_v2);
        client.write(&mut rig, "a", 0, &["x", "y"]);
        client.write(&mut rig, "a", 1, &["z"]);
        assert_eq!(rig.read_committed("a", 0, 0), [""; 0]);
        assert_eq!(rig.read("a", 0, 0).len(), 2, "who reads all is not held back");
        rig.is_instant = false;
        let id = client.send_end(&mut rig, true);
        assert!(!rig.is_answered(id), "not before it is durable");
        assert_eq!(rig.read_committed("a", 0, 0), [""; 0], "nor is anything to be seen");
        assert_eq!(rig.read_committed("a", 1, 0), [""; 0]);
        let last = Entry::decode(rig.appended, rig.entries[rig.entries.len() - 1].clone());
        let markers = last.expect("our own entry").facts;
        assert_eq!(markers.len(), 4, "prepared, two markers and completed stand in one entry");
        rig.sync();
        assert_eq!(ended(&mut rig, id).error_code, 0);
        assert_eq!(rig.read_committed("a", 0, 0), ["x", "y"]);
        assert_eq!(rig.read_committed("a", 1, 0), ["z"]);
        let data = rig.fetch_committed("a", 0, 0);
        assert_eq!((data.high_watermark, data.last_stable_offset), (3, 3), "the marker has one");
    }
}

#[test]
fn an_aborted_transaction_is_hidden_and_named_to_whoever_reads_where_it_stands() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", false);
    client.write(&mut rig, "a", 0, &["gone"]);
    rig.produce("a", 0, &["plain"]);
    assert_eq!(client.end(&mut rig, false), 0);
    client.write(&mut rig, "a", 0, &["kept"]);
    assert_eq!(client.end(&mut rig, true), 0);
    assert_eq!(rig.read_committed("a", 0, 0), ["plain", "kept"]);
    let data = rig.fetch_committed("a", 0, 0);
    let aborted = data.aborted_transactions.expect("a list");
    assert_eq!(aborted.len(), 1);
    assert_eq!((aborted[0].producer_id, aborted[0].first_offset), (client.id, 0));
    let later = rig.fetch_committed("a", 0, 3).aborted_transactions;
    assert_eq!(later, Some(Vec::new()), "behind the marker nobody needs it");
    assert_eq!(rig.fetch("a", 0, 0).aborted_transactions, None, "who reads all is not told");
}

#[test]
fn the_marker_is_the_control_batch_that_kafka_writes() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", false);
    client.write(&mut rig, "a", 0, &["x"]);
    client.end(&mut rig, true);
    let data = rig.fetch("a", 0, 1);
    let bytes = data.records.expect("records").to_bytes();
    let batches = LogBatch::split(bytes, 10).expect("whole batches");
    let header = batches[0].header();
    assert!(header.attributes.is_control() && header.attributes.is_transactional());
    assert_eq!((header.producer_id, header.producer_epoch), (client.id, client.epoch));
    let parsed = batches[0].to_batch().expect("a batch");
    let section = parsed.decompress(1_000).expect("records");
    let record = parsed.records(&section).next().expect("one").expect("a record");
    assert_eq!(record.key, Some(&[0, 0, 0, 1][..]), "version 0, commit");
    assert_eq!(record.value, Some(&[0; 6][..]), "version 0, coordinator epoch 0");
}

#[test]
fn the_last_stable_offset_is_the_first_of_the_oldest_open_transaction() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let (mut one, mut two) =
        (Client::start(&mut rig, "one", false), Client::start(&mut rig, "two", false));
    rig.produce("a", 0, &["p"]);
    one.write(&mut rig, "a", 0, &["1"]);
    two.write(&mut rig, "a", 0, &["2"]);
    rig.produce("a", 0, &["q"]);
    let stable = |rig: &mut Rig| {
        let data = rig.fetch("a", 0, 0);
        assert_eq!(rig.latest("a", 0, 0), data.high_watermark);
        assert_eq!(rig.latest("a", 0, 1), data.last_stable_offset);
        data.last_stable_offset
    };
    assert_eq!(stable(&mut rig), 1);
    assert_eq!(rig.read_committed("a", 0, 0), ["p"]);
    one.end(&mut rig, true);
    assert_eq!(stable(&mut rig), 2);
    assert_eq!(rig.read_committed("a", 0, 0), ["p", "1"]);
    two.end(&mut rig, false);
    assert_eq!(stable(&mut rig), 6);
    assert_eq!(rig.read_committed("a", 0, 0), ["p", "1", "q"]);
}

#[test]
fn a_waiting_fetch_of_committed_data_wakes_when_the_transaction_ends_and_not_before() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", false);
    let waiting = rig.send(committed_fetch("a", 0, 0, 5_000), 12);
    client.write(&mut rig, "a", 0, &["x"]);
    assert!(!rig.is_answered(waiting));
    client.end(&mut rig, true);
    let response = rig.take(waiting);
    let data = fetched(response);
    assert_eq!(super::txn_rig::committed_of(&data).0, [(0, "x".to_owned())]);
}

#[test]
fn what_has_left_memory_is_held_back_too() {
    let mut rig = Rig::with_config(crate::EngineConfig {
        tail_retain_bytes: 0,
        ..crate::EngineConfig::default()
    });
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", false);
    rig.produce("a", 0, &["p"]);
    client.write(&mut rig, "a", 0, &["x"]);
    let partition = rig.key("a", 0);
    rig.handle(Event::Flushed(vec![crate::FlushedRange { partition, upto: 2 }]));
    let waiting = rig.send(committed_fetch("a", 0, 1, 5_000), 12);
    assert!(!rig.is_answered(waiting) && rig.reads.is_empty(), "no busy loop over history");
    rig.send(committed_fetch("a", 0, 0, 0), 12);
    assert_eq!(rig.reads[0].reads[0].upto, 1, "history ends where what is stable does");
    client.end(&mut rig, true);
    assert_eq!(rig.reads.len(), 2, "the waiting one reads on");
}

#[test]
fn history_names_the_aborted_transactions_of_what_it_gives_and_no_later_ones() {
    let mut rig = Rig::with_config(crate::EngineConfig {
        tail_retain_bytes: 0,
        ..crate::EngineConfig::default()
    });
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    for _ in 0..3 {
        client.write(&mut rig, "a", 0, &["gone"]);
        client.end(&mut rig, false);
    }
    let first = rig.fetch("a", 0, 0).records.expect("records").to_bytes();
    let first = LogBatch::split(first, 10).expect("whole batches").remove(0);
    let partition = rig.key("a", 0);
    rig.handle(Event::Flushed(vec![crate::FlushedRange { partition, upto: 6 }]));
    let id = rig.send(committed_fetch("a", 0, 0, 0), 12);
    let job = rig.reads.pop_front().expect("a read");
    let mut bytes = Vec::new();
    first.write_to(&mut bytes);
    let slice = crate::HistorySlice { records: vec![bytes.into()] };
    rig.handle(Event::HistoryRead { id: job.id, result: vec![Ok(slice)] });
    let response = rig.take(id);
    let aborted = fetched(response).aborted_transactions.expect("a list");
    assert_eq!(aborted.iter().map(|one| one.first_offset).collect::<Vec<_>>(), [0]);
}

#[test]
fn damage_within_a_transaction_is_told_and_stops_no_other() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", false);
    client.add(&mut rig, "a", 0);
    client.produce(&mut rig, "a", 0, &["lost"]);
    let lost = rig.appended;
    client.produce(&mut rig, "a", 0, &["left"]);
    let mut open = rig.reborn_without(None, &[lost]);
    assert_eq!(open.fetch("a", 0, 1).last_stable_offset, 1, "what is left of it is open");
    client.end(&mut rig, true);
    let mut ended = rig.reborn_without(None, &[lost]);
    let storage = ErrorCode::KafkaStorageError.code();
    assert_eq!(ended.fetch_committed("a", 0, 0).error_code, storage, "never passed over");
    assert_eq!(ended.read_committed("a", 0, 1), ["left"]);
    assert_eq!(ended.latest("a", 0, 1), 3);
}

#[test]
fn a_zombie_is_fenced_in_everything_it_tries() {
    for is_v2 in [false, true] {
        let mut rig = Rig::new();
        rig.create_topic("a", 1);
        let mut zombie = Client::start(&mut rig, "tx", is_v2);
        zombie.write(&mut rig, "a", 0, &["gone"]);
        let mut heir = Client::start(&mut rig, "tx", is_v2);
        // The markers of the abort have the epoch between.
        assert_eq!((heir.id, heir.epoch), (zombie.id, zombie.epoch + 2));
        assert_eq!(rig.read_committed("a", 0, 0), [""; 0], "what it left open is aborted");
        let refused = zombie.produce(&mut rig, "a", 0, &["late"]);
        assert_eq!(refused.error_code, code(ErrorCode::InvalidProducerEpoch));
        assert_eq!(zombie.add(&mut rig, "a", 0), code(ErrorCode::ProducerFenced));
        assert_eq!(zombie.end(&mut rig, true), code(ErrorCode::ProducerFenced));
        let again = init(&mut rig, "tx", Some((zombie.id, zombie.epoch)));
        assert_eq!(again.error_code, code(ErrorCode::ProducerFenced));
        heir.write(&mut rig, "a", 0, &["kept"]);
        assert_eq!(heir.end(&mut rig, true), 0);
        assert_eq!(rig.read_committed("a", 0, 0), ["kept"]);
    }
}

#[test]
fn who_asks_for_an_id_with_an_open_transaction_is_told_to_ask_again_when_that_is_aborted() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut zombie = Client::start(&mut rig, "tx", true);
    zombie.write(&mut rig, "a", 0, &["gone"]);
    rig.is_instant = false;
    let request = Request::InitProducerId(InitProducerIdRequest {
        transactional_id: Some("tx".to_owned()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    });
    let id = rig.send(request, 5);
    assert!(!rig.is_answered(id), "not before the abort is durable");
    rig.sync();
    let Response::InitProducerId(answer) = rig.take(id) else { panic!("another answer") };
    assert_eq!(answer.error_code, code(ErrorCode::ConcurrentTransactions));
    assert_eq!(rig.latest("a", 0, 1), 2, "the transaction has ended all the same");
}

#[test]
fn a_batch_is_taken_in_an_open_transaction_of_its_producer_only() {
    let mut rig = Rig::new();
    rig.create_topic("a", 2);
    let mut client = Client::start(&mut rig, "tx", false);
    let refused = client.produce(&mut rig, "a", 0, &["x"]).error_code;
    assert_eq!(refused, code(ErrorCode::InvalidTxnState), "none is open");
    assert_eq!(client.add(&mut rig, "a", 0), 0);
    let refused = client.produce(&mut rig, "a", 1, &["x"]).error_code;
    assert_eq!(refused, code(ErrorCode::InvalidTxnState), "another partition");
    assert_eq!(client.produce(&mut rig, "a", 0, &["x"]).error_code, 0);
    let plain = Producer { id: client.id, epoch: client.epoch, sequence: 1 };
    let id = rig.send_batch("a", 0, batch(&["outside"], Some(plain)));
    assert_eq!(rig.produced(id).error_code, code(ErrorCode::InvalidTxnState));
    client.end(&mut rig, true);
    let refused = client.produce(&mut rig, "a", 0, &["x"]).error_code;
    assert_eq!(refused, code(ErrorCode::InvalidTxnState), "it has ended");
    let stranger = Client { transactional_id: "other".to_owned(), ..client.clone() };
    let id = stranger.send_raw(&mut rig, "a", 0, client.batch("a", 0, &["x"]));
    assert_eq!(rig.produced(id).error_code, code(ErrorCode::InvalidProducerIdMapping));
    assert_eq!(client.add(&mut rig, "nowhere", 0), code(ErrorCode::UnknownTopicOrPartition));
}

#[test]
fn a_retry_of_a_batch_gets_the_same_answer_and_stands_once() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", false);
    client.add(&mut rig, "a", 0);
    let twice = client.batch("a", 0, &["x"]);
    let first = client.produce(&mut rig, "a", 0, &["x"]);
    let id = client.send_raw(&mut rig, "a", 0, twice);
    assert_eq!(rig.produced(id), first);
    client.end(&mut rig, true);
    assert_eq!(rig.read_committed("a", 0, 0), ["x"]);
}

#[test]
fn an_end_asked_for_twice_is_one_end() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", false);
    assert_eq!(client.end(&mut rig, true), code(ErrorCode::InvalidTxnState), "nothing is open");
    client.write(&mut rig, "a", 0, &["x"]);
    assert_eq!(client.end(&mut rig, true), 0);
    let entries = rig.entries.len();
    assert_eq!(client.end(&mut rig, true), 0, "its answer may have been lost");
    assert_eq!(client.end(&mut rig, false), code(ErrorCode::InvalidTxnState));
    assert_eq!(rig.entries.len(), entries);
    let other = Client { id: client.id + 1, ..client };
    let id = other.send_end(&mut rig, true);
    assert_eq!(ended(&mut rig, id).error_code, code(ErrorCode::InvalidProducerIdMapping));
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    for wrong in [0, -1, 900_001] {
        let refused = init_within(&mut rig, "tx", None, wrong);
        assert_eq!(refused.error_code, code(ErrorCode::InvalidTransactionTimeout), "{wrong}");
    }
    let mut client = Client::start(&mut rig, "tx", false);
    client.write(&mut rig, "a", 0, &["x"]);
    rig.pass_ms(59_000);
    client.write(&mut rig, "a", 0, &["y"]);
    rig.pass_ms(2_000);
    let data = rig.fetch("a", 0, 0);
    assert_eq!(
        (data.high_watermark, data.last_stable_offset),
        (3, 3),
        "time counts from its start"
    );
    assert_eq!(rig.read_committed("a", 0, 0), [""; 0]);
    let refused = client.produce(&mut rig, "a", 0, &["z"]).error_code;
    assert_eq!(refused, code(ErrorCode::InvalidProducerEpoch));
    assert_eq!(client.end(&mut rig, true), code(ErrorCode::ProducerFenced));
    assert_eq!(rig.engine.counters().transactions_timed_out, 1);
}

#[test]
fn a_producer_that_lost_its_answer_gets_it_again_and_epochs_that_ran_out_give_a_new_id() {
    let mut rig = Rig::new();
    let first = init(&mut rig, "tx", None);
    let own = (first.producer_id, first.producer_epoch);
    let second = init(&mut rig, "tx", Some(own));
    assert_eq!((second.producer_id, second.producer_epoch), (own.0, own.1 + 1));
    let again = init(&mut rig, "tx", Some(own));
    assert_eq!((again.producer_id, again.producer_epoch), (own.0, own.1 + 1), "not one more");
    let mut last = (again.producer_id, again.producer_epoch);
    while last.1 < i16::MAX - 1 {
        let next = init(&mut rig, "tx", None);
        assert_eq!((next.producer_id, next.producer_epoch), (last.0, last.1 + 1));
        last = (next.producer_id, next.producer_epoch);
        rig.entries.clear();
    }
    let fresh = init(&mut rig, "tx", Some(last));
    assert!(fresh.producer_id > last.0 && fresh.producer_epoch == 0);
    let again = init(&mut rig, "tx", Some(last));
    assert_eq!((again.producer_id, again.producer_epoch), (fresh.producer_id, 0));
}

#[test]
fn records_that_go_while_their_transaction_is_open_take_nothing_along() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut aborted = Client::start(&mut rig, "aborted", false);
    aborted.write(&mut rig, "a", 0, &["gone"]);
    aborted.end(&mut rig, false);
    let mut client = Client::start(&mut rig, "tx", false);
    client.write(&mut rig, "a", 0, &["x"]);
    rig.produce("a", 0, &["p", "q"]);
    delete_below(&mut rig, 4);
    let data = rig.fetch("a", 0, 4);
    assert_eq!((data.log_start_offset, data.last_stable_offset), (4, 4), "never before the start");
    assert_eq!(rig.engine.snapshot(), rig.reborn(None).engine.snapshot());
    client.end(&mut rig, false);
    assert_eq!(rig.read_committed("a", 0, 4), ["q"]);
    delete_below(&mut rig, 6);
    assert_eq!(
        rig.engine.catalog().by_name("a").expect("a topic").partitions[0].stability.len(),
        0
    );
}

fn delete_below(rig: &mut Rig, offset: i64) {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
    let topics = vec![DeleteRecordsTopic { name: "a".to_owned(), partitions }];
    let request = DeleteRecordsRequest { topics, ..DeleteRecordsRequest::default() };
    let Response::DeleteRecords(response) = rig.call(Request::DeleteRecords(request), 2) else {
        panic!("another answer");
    };
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

/// None may be forgotten while a consumer can still meet its records.
#[test]
fn a_partition_with_too_many_aborted_transactions_takes_more_when_old_records_go() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    for _ in 0..limits::TRANSACTIONS_PER_PARTITION_MAX {
        client.write(&mut rig, "a", 0, &["gone"]);
        assert_eq!(client.end(&mut rig, false), 0);
    }
    let refused = client.produce(&mut rig, "a", 0, &["x"]).error_code;
    assert_eq!(refused, code(ErrorCode::PolicyViolation));
    rig.produce("a", 0, &["plain"]);
    delete_below(&mut rig, 2);
    client.write(&mut rig, "a", 0, &["kept"]);
    assert_eq!(client.end(&mut rig, true), 0);
    assert_eq!(rig.read_committed("a", 0, 16_300), ["plain", "kept"]);
}

#[test]
fn a_topic_deleted_within_a_transaction_stops_nothing() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    rig.create_topic("b", 1);
    let mut client = Client::start(&mut rig, "tx", true);
    client.write(&mut rig, "a", 0, &["x"]);
    client.write(&mut rig, "b", 0, &["y"]);
    let topic_names = vec!["a".to_owned()];
    let request = DeleteTopicsRequest { topic_names, ..DeleteTopicsRequest::default() };
    rig.call(Request::DeleteTopics(request), 3);
    assert_eq!(client.end(&mut rig, true), 0);
    assert_eq!(rig.read_committed("b", 0, 0), ["y"]);
    assert_eq!(rig.engine.snapshot(), rig.reborn(None).engine.snapshot());
}

#[test]
fn a_transactional_id_that_nobody_uses_is_forgotten_after_a_week_and_no_open_one_is() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let idle = Client::start(&mut rig, "idle", false);
    let busy = Client::start(&mut rig, "busy", false);
    let day_ms = 24 * 3_600_000;
    for _ in 0..8 {
        rig.pass_ms(day_ms);
        init(&mut rig, "busy", None);
    }
    assert_eq!(idle.add(&mut rig, "a", 0), code(ErrorCode::InvalidProducerIdMapping));
    assert_eq!(busy.add(&mut rig, "a", 0), code(ErrorCode::ProducerFenced), "it is still known");
    assert_eq!(rig.engine.snapshot(), rig.reborn(None).engine.snapshot());
}

#[test]
fn a_start_finds_an_open_transaction_open_and_a_decided_end_carried_out() {
    for is_v2 in [false, true] {
        let mut rig = Rig::new();
        rig.create_topic("a", 2);
        let mut client = Client::start(&mut rig, "tx", is_v2);
        client.write(&mut rig, "a", 0, &["x"]);
        client.write(&mut rig, "a", 1, &["y"]);
        for snapshot in [None, Some(rig.engine.snapshot())] {
            let is_short = snapshot.is_some();
            let mut again = rig.reborn(snapshot);
            assert_eq!(again.fetch("a", 0, 1).last_stable_offset, 0, "still open");
            let mut client = client.clone();
            client.write(&mut again, "a", 0, &["z"]);
            assert_eq!(client.end(&mut again, true), 0);
            if !is_short {
                assert_eq!(again.read_committed("a", 0, 0), ["x", "z"]);
            }
        }
        client.end(&mut rig, true);
        // Only the decision reached the journal, as it may when markers are replicated.
        let seq = rig.appended;
        let last = Entry::decode(seq, rig.entries.pop().expect("an entry")).expect("our own");
        let kept = last.facts.into_iter().take(1).collect::<Vec<_>>();
        assert!(matches!(kept[0], Fact::Transaction(TransactionFact::Prepared { .. })));
        rig.entries.push(encoded(&Entry { seq, facts: kept }));
        let mut again = rig.reborn(None);
        assert_eq!(again.read_committed("a", 0, 0), ["x"]);
        assert_eq!(again.read_committed("a", 1, 0), ["y"]);
        client.write(&mut again, "a", 1, &["more"]);
        assert_eq!(client.end(&mut again, false), 0);
    }
}

fn encoded(entry: &Entry) -> bytes::Bytes {
    let mut bytes = bytes::BytesMut::new();
    entry.encode(&mut bytes);
    bytes.freeze()
}

#[test]
fn within_a_transaction_no_answer_comes_before_the_sync_whatever_the_topic_may_lose() {
    let mut rig = Rig::new();
    rig.create_topic_with("a", 1, &[("flush.ms", "1000")]);
    let mut client = Client::start(&mut rig, "tx", false);
    client.add(&mut rig, "a", 0);
    rig.is_instant = false;
    let plain = rig.send_batch("a", 0, batch(&["p"], None));
    assert!(rig.is_answered(plain), "its topic allows it");
    let sent = client.batch("a", 0, &["x"]);
    let within = client.send(&mut rig, "a", 0, &["x"]);
    assert!(!rig.is_answered(within));
    assert_eq!(rig.syncs.last(), Some(&crate::SyncBy::Now));
    let again = client.send_raw(&mut rig, "a", 0, sent);
    assert!(!rig.is_answered(again), "nor to a duplicate");
    rig.sync();
    let answer = rig.produced(within);
    assert_eq!((answer.error_code, rig.produced(again)), (0, answer));
}

#[test]
fn an_open_transaction_times_out_after_a_restart_too() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    let mut client = Client::start(&mut rig, "tx", false);
    client.write(&mut rig, "a", 0, &["x"]);
    let mut rig = rig.reborn(Some(rig.engine.snapshot()));
    rig.handle(Event::Tick);
    rig.pass_ms(59_000);
    assert_eq!(rig.latest("a", 0, 1), 0);
    rig.pass_ms(1_000);
    assert_eq!(rig.latest("a", 0, 1), 2);
    assert_eq!(client.end(&mut rig, true), code(ErrorCode::ProducerFenced));
}

#[test]
fn snapshots_from_before_transactions_and_settings_are_read() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    rig.produce("a", 0, &["x"]);
    let now = rig.engine.snapshot();
    // Version 2 ended with the doubtful producers, version 3 with what is unsettled, version 4 with the
    // expiries, version 5 with the settings, version 6 with the rosters: what came with the later ones are
    // empty tables, all zeros wherever they stand (version 7: package counters, cursors, users, rules,
    // further rates of quotas).
    for (version, missing_bytes) in [(6, 20), (5, 28), (4, 40), (3, 48), (2, 60)] {
        let mut old = now[..now.len() - missing_bytes].to_vec();
        old[0] = version;
        let again = rig.reborn(Some(old.into()));
        assert_eq!(again.engine.snapshot(), now);
        assert_eq!(again.engine.last_seq(), EntrySeq(2));
    }
}
