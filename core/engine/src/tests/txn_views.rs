//! Stories about looking for a transaction that hangs (KIP-664).

use super::rig::Rig;
use super::txn_rig::Client;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::describe_producers_request::TopicRequest;
use millpond_wire::messages::describe_producers_response::PartitionResponse;
use millpond_wire::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use millpond_wire::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest,
    ListTransactionsResponse, Request, Response, WriteTxnMarkersRequest,
};

fn list(rig: &mut Rig, request: ListTransactionsRequest) -> ListTransactionsResponse {
    match rig.call(Request::ListTransactions(request), 1) {
        Response::ListTransactions(response) => response,
        other => panic!("{other:?}"),
    }
}

fn producers(rig: &mut Rig, partition: i32) -> PartitionResponse {
    let topic = TopicRequest { name: "a".to_owned(), partition_indexes: vec![partition] };
    let request = DescribeProducersRequest { topics: vec![topic] };
    match rig.call(Request::DescribeProducers(request), 0) {
        Response::DescribeProducers(mut response) => response.topics.remove(0).partitions.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_open_transaction_is_found_by_state_producer_and_duration() {
    let mut rig = Rig::new();
    rig.create_topic("a", 2);
    let mut client = Client::start(&mut rig, "open", false);
    let mut idle = Client::start(&mut rig, "idle", false);
    idle.write(&mut rig, "a", 0, &["x"]);
    idle.end(&mut rig, true);
    client.write(&mut rig, "a", 1, &["x"]);
    rig.pass_ms(10_000);
    let ids = |response: ListTransactionsResponse| -> Vec<String> {
        let all = response.transaction_states.into_iter();
        all.map(|one| format!("{} {}", one.transactional_id, one.transaction_state)).collect()
    };
    let any = ListTransactionsRequest { duration_filter: -1, ..ListTransactionsRequest::default() };
    assert_eq!(ids(list(&mut rig, any.clone())), ["idle CompleteCommit", "open Ongoing"]);
    let state_filters = vec!["Ongoing".to_owned(), "Nonsense".to_owned()];
    let response = list(&mut rig, ListTransactionsRequest { state_filters, ..any.clone() });
    assert_eq!(response.unknown_state_filters, ["Nonsense"]);
    assert_eq!(ids(response), ["open Ongoing"]);
    let producer_id_filters = vec![idle.id];
    let response = list(&mut rig, ListTransactionsRequest { producer_id_filters, ..any.clone() });
    assert_eq!(ids(response), ["idle CompleteCommit"]);
    for (duration_filter, found) in [(9_000, 1), (10_001, 0)] {
        let response = list(&mut rig, ListTransactionsRequest { duration_filter, ..any.clone() });
        assert_eq!(response.transaction_states.len(), found, "{duration_filter}");
    }
}

#[test]
fn transactions_are_found_by_a_pattern_of_their_whole_id() {
    let mut rig = Rig::new();
    for id in ["orders-1", "orders-2", "bills-1"] {
        Client::start(&mut rig, id, true);
    }
    let mut ask = |pattern: &str| -> Result<Vec<String>, i16> {
        let request = ListTransactionsRequest {
            duration_filter: -1,
            transactional_id_pattern: Some(pattern.to_owned()),
            ..ListTransactionsRequest::default()
        };
        let Response::ListTransactions(response) = rig.call(Request::ListTransactions(request), 2)
        else {
            panic!("another answer");
        };
        let ids = response.transaction_states.into_iter().map(|one| one.transactional_id);
        if response.error_code == 0 { Ok(ids.collect()) } else { Err(response.error_code) }
    };
    assert_eq!(ask("orders-.*").expect("a pattern"), ["orders-1", "orders-2"]);
    assert_eq!(ask(".*-1|x").expect("a pattern"), ["bills-1", "orders-1"]);
    assert_eq!(ask("orders").expect("a pattern"), [""; 0], "not a part of it");
    assert_eq!(ask("").expect("no pattern").len(), 3);
    for wrong in ["(", "a)(b", "[z-a]"] {
        assert_eq!(ask(wrong), Err(ErrorCode::InvalidRegularExpression.code()), "{wrong}");
    }
    assert!(ask(&"a".repeat(100_000)).is_err());
}

#[test]
fn a_transaction_is_described_with_its_partitions_and_its_start() {
    let mut rig = Rig::new();
    rig.create_topic("a", 2);
    let mut client = Client::start(&mut rig, "tx", false);
    client.write(&mut rig, "a", 1, &["x"]);
    client.add(&mut rig, "a", 0);
    let transactional_ids = vec!["tx".to_owned(), "none".to_owned(), String::new()];
    let request = DescribeTransactionsRequest { transactional_ids };
    let Response::DescribeTransactions(response) =
        rig.call(Request::DescribeTransactions(request), 0)
    else {
        panic!("another answer");
    };
    let one = &response.transaction_states[0];
    assert_eq!((one.error_code, one.transaction_state.as_str()), (0, "Ongoing"));
    assert_eq!((one.producer_id, one.transaction_timeout_ms), (client.id, 60_000));
    assert_eq!(one.transaction_start_time_ms, rig.now.wall_ms);
    assert_eq!((one.topics[0].topic.as_str(), &one.topics[0].partitions), ("a", &vec![0, 1]));
    let codes: Vec<i16> = response.transaction_states.iter().map(|one| one.error_code).collect();
    let not_found = ErrorCode::TransactionalIdNotFound.code();
    assert_eq!(codes, [0, not_found, ErrorCode::InvalidRequest.code()]);
}

#[test]
fn an_administrator_ends_what_hangs_in_one_partition() {
    let mut rig = Rig::new();
    rig.create_topic("a", 2);
    let mut client = Client::start(&mut rig, "tx", false);
    client.write(&mut rig, "a", 0, &["hangs"]);
    client.write(&mut rig, "a", 1, &["counts"]);
    let own = client.id;
    let end = |rig: &mut Rig, partition: i32, epoch: i16, coordinator_epoch: i32| {
        let topic =
            WritableTxnMarkerTopic { name: "a".to_owned(), partition_indexes: vec![partition] };
        let marker = WritableTxnMarker {
            producer_id: own,
            producer_epoch: epoch,
            transaction_result: false,
            topics: vec![topic],
            coordinator_epoch,
        };
        let request = WriteTxnMarkersRequest { markers: vec![marker] };
        match rig.call(Request::WriteTxnMarkers(request), 1) {
            Response::WriteTxnMarkers(response) => {
                response.markers[0].topics[0].partitions[0].error_code
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end(&mut rig, 7, 0, 0), ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(end(&mut rig, 0, -1, 0), ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(end(&mut rig, 0, 0, -1), ErrorCode::TransactionCoordinatorFenced.code());
    assert_eq!(rig.latest("a", 0, 1), 0);
    assert_eq!(end(&mut rig, 0, 0, 0), 0);
    assert_eq!(end(&mut rig, 0, 0, 0), 0, "once more does nothing");
    assert_eq!(rig.latest("a", 0, 1), 2);
    assert_eq!(client.end(&mut rig, true), 0);
    assert_eq!(rig.read_committed("a", 0, 0), [""; 0]);
    assert_eq!(rig.read_committed("a", 1, 0), ["counts"]);
}

#[test]
fn a_partition_names_its_producers_and_where_their_transactions_begin() {
    let mut rig = Rig::new();
    rig.create_topic("a", 1);
    rig.produce("a", 0, &["plain"]);
    let mut client = Client::start(&mut rig, "tx", false);
    client.write(&mut rig, "a", 0, &["x", "y"]);
    let described = producers(&mut rig, 0);
    assert_eq!(described.active_producers.len(), 1);
    let one = &described.active_producers[0];
    assert_eq!((one.producer_id, one.producer_epoch), (client.id, i32::from(client.epoch)));
    assert_eq!((one.last_sequence, one.last_timestamp), (1, 1_001));
    assert_eq!((one.current_txn_start_offset, one.coordinator_epoch), (1, 0));
    client.end(&mut rig, true);
    assert_eq!(producers(&mut rig, 0).active_producers[0].current_txn_start_offset, -1);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(producers(&mut rig, 7).error_code, unknown);
}
