//! Fetch sessions (KIP-227) and fetches by topic id (KIP-516).

use super::rig::{Rig, batch, values_of};
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use millpond_wire::messages::fetch_response::PartitionData;
use millpond_wire::messages::{FetchRequest, FetchResponse, Request, Response};
use millpond_wire::uuid::Uuid;

const BY_NAME: i16 = 12;
const BY_ID: i16 = 18;

fn part(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..FetchPartition::default()
    }
}

fn topic(name: &str, parts: &[(i32, i64)]) -> FetchTopic {
    FetchTopic {
        topic: name.to_owned(),
        topic_id: Uuid::ZERO,
        partitions: parts.iter().map(|(index, offset)| part(*index, *offset)).collect(),
    }
}

fn request(session: (i32, i32), topics: Vec<FetchTopic>) -> FetchRequest {
    let (session_id, session_epoch) = session;
    FetchRequest {
        max_bytes: 1 << 20,
        min_bytes: 1,
        session_id,
        session_epoch,
        topics,
        ..FetchRequest::default()
    }
}

fn answer(rig: &mut Rig, id: RequestId) -> FetchResponse {
    match rig.take(id) {
        Response::Fetch(response) => response,
        other => panic!("{other:?}"),
    }
}

fn fetch(rig: &mut Rig, request: FetchRequest, version: i16) -> FetchResponse {
    let id = rig.send(Request::Fetch(request), version);
    answer(rig, id)
}

fn told(response: &FetchResponse) -> Vec<(String, i32)> {
    let parts = |topic: &millpond_wire::messages::fetch_response::FetchableTopicResponse| {
        let name = topic.topic.clone();
        let parts = topic.partitions.iter().map(|data| data.partition_index);
        parts.map(|index| (name.clone(), index)).collect::<Vec<_>>()
    };
    response.responses.iter().flat_map(parts).collect()
}

fn begun(rig: &mut Rig, parts: &[(i32, i64)]) -> i32 {
    let response = fetch(rig, request((0, 0), vec![topic("t", parts)]), BY_NAME);
    assert_eq!(response.error_code, 0);
    assert_eq!(told(&response).len(), parts.len(), "the first answer says all");
    assert!(response.session_id > 0);
    response.session_id
}

#[test]
fn an_incremental_answer_holds_only_the_partitions_that_changed() {
    let mut rig = Rig::new();
    rig.create_topic("t", 3);
    let session = begun(&mut rig, &[(0, 0), (1, 0), (2, 0)]);
    let quiet = fetch(&mut rig, request((session, 1), vec![]), BY_NAME);
    assert_eq!((quiet.error_code, quiet.session_id), (0, session));
    assert!(quiet.responses.is_empty());
    rig.produce("t", 1, &["a"]);
    let news = fetch(&mut rig, request((session, 2), vec![]), BY_NAME);
    assert_eq!(told(&news), [("t".to_owned(), 1)]);
    assert_eq!(values_of(&news.responses[0].partitions[0]).len(), 1);
    // The next request names only the partition whose offset moved.
    let moved = vec![topic("t", &[(1, 1)])];
    let quiet = fetch(&mut rig, request((session, 3), moved), BY_NAME);
    assert!(quiet.responses.is_empty());
}

#[test]
fn an_incremental_fetch_waits_and_is_woken_by_any_partition_of_its_session() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    let session = begun(&mut rig, &[(0, 0), (1, 0)]);
    let waiting = FetchRequest { max_wait_ms: 500, ..request((session, 1), vec![]) };
    let id = rig.send(Request::Fetch(waiting), BY_NAME);
    assert!(!rig.is_answered(id));
    rig.send_batch("t", 1, batch(&["a"], None));
    assert_eq!(told(&answer(&mut rig, id)), [("t".to_owned(), 1)]);
}

#[test]
fn a_moved_log_start_and_a_new_error_are_news() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    rig.produce("t", 0, &["a", "b"]);
    let session = begun(&mut rig, &[(0, 2), (1, 0)]);
    rig.delete_records("t", 0, 1);
    let news = fetch(&mut rig, request((session, 1), vec![]), BY_NAME);
    assert_eq!(told(&news), [("t".to_owned(), 0)]);
    assert_eq!(news.responses[0].partitions[0].log_start_offset, 1);
    // Out of range: told every time, and once more when it is over.
    let beyond = fetch(&mut rig, request((session, 2), vec![topic("t", &[(1, 9)])]), BY_NAME);
    let code = |response: &FetchResponse| response.responses[0].partitions[0].error_code;
    assert_eq!(code(&beyond), ErrorCode::OffsetOutOfRange.code());
    let again = fetch(&mut rig, request((session, 3), vec![]), BY_NAME);
    assert_eq!(code(&again), ErrorCode::OffsetOutOfRange.code());
    let over = fetch(&mut rig, request((session, 4), vec![topic("t", &[(1, 0)])]), BY_NAME);
    assert_eq!((told(&over), code(&over)), (vec![("t".to_owned(), 1)], 0));
}

#[test]
fn partitions_are_added_and_forgotten_and_an_empty_session_is_over() {
    let mut rig = Rig::new();
    rig.create_topic("t", 3);
    let session = begun(&mut rig, &[(0, 0)]);
    let added = fetch(&mut rig, request((session, 1), vec![topic("t", &[(2, 0)])]), BY_NAME);
    assert_eq!(told(&added), [("t".to_owned(), 2)], "a new partition is news");
    let forgets = |partitions: Vec<i32>, epoch| FetchRequest {
        forgotten_topics_data: vec![ForgottenTopic {
            topic: "t".to_owned(),
            partitions,
            ..ForgottenTopic::default()
        }],
        ..request((session, epoch), vec![])
    };
    fetch(&mut rig, forgets(vec![0], 2), BY_NAME);
    rig.produce("t", 0, &["a"]);
    assert!(fetch(&mut rig, request((session, 3), vec![]), BY_NAME).responses.is_empty());
    let over = fetch(&mut rig, forgets(vec![2], 4), BY_NAME);
    assert_eq!((over.error_code, over.session_id), (0, 0));
    let gone = fetch(&mut rig, request((session, 5), vec![]), BY_NAME);
    assert_eq!(gone.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

#[test]
fn a_wrong_session_epoch_or_kind_is_refused_as_kafka_does() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let session = begun(&mut rig, &[(0, 0)]);
    let code = |rig: &mut Rig, session, version| {
        let response = fetch(rig, request(session, vec![]), version);
        assert!(response.responses.is_empty());
        ErrorCode::from_code(response.error_code).expect("a known code")
    };
    assert_eq!(code(&mut rig, (session, 2), BY_NAME), ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(code(&mut rig, (session ^ 1, 1), BY_NAME), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(code(&mut rig, (session, 1), BY_ID), ErrorCode::FetchSessionTopicIdError);
    assert_eq!(code(&mut rig, (session, 1), BY_NAME), ErrorCode::None);
    // The last epoch of a session closes it.
    assert_eq!(code(&mut rig, (session, -1), BY_NAME), ErrorCode::None);
    assert_eq!(code(&mut rig, (session, 2), BY_NAME), ErrorCode::FetchSessionIdNotFound);
    let mut rig = rig.reborn(None);
    assert_eq!(code(&mut rig, (session, 1), BY_NAME), ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn a_request_that_overtakes_a_waiting_one_takes_its_session() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let session = begun(&mut rig, &[(0, 0)]);
    let waiting = FetchRequest { max_wait_ms: 500, ..request((session, 1), vec![]) };
    let late = rig.send(Request::Fetch(waiting), BY_NAME);
    assert_eq!(fetch(&mut rig, request((session, 2), vec![]), BY_NAME).error_code, 0);
    rig.produce("t", 0, &["a"]);
    let late = answer(&mut rig, late);
    assert_eq!(late.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
    let next = fetch(&mut rig, request((session, 3), vec![]), BY_NAME);
    assert_eq!(told(&next).len(), 1, "nothing was lost with the late answer");
}

#[test]
fn partitions_that_got_records_go_to_the_end_so_that_nobody_starves() {
    let mut rig = Rig::new();
    rig.create_topic("t", 3);
    for partition in 0..3 {
        for _ in 0..3 {
            rig.produce("t", partition, &["0123456789"]);
        }
    }
    let session = begun(&mut rig, &[(0, 0), (1, 0), (2, 0)]);
    let mut offsets = [3, 0, 0];
    let mut served = Vec::new();
    let mut named = vec![topic("t", &[(0, 0)])];
    for epoch in 1..=3 {
        let narrow = FetchRequest { max_bytes: 1, ..request((session, epoch), named) };
        let response = fetch(&mut rig, narrow, BY_NAME);
        let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
        let got: Vec<&PartitionData> = parts.filter(|data| !values_of(data).is_empty()).collect();
        assert_eq!(got.len(), 1, "one batch however small the limit");
        let index = got[0].partition_index;
        served.push(index);
        offsets[index as usize] += 1;
        named = vec![topic("t", &[(index, offsets[index as usize])])];
    }
    served.sort_unstable();
    assert_eq!(served, [0, 1, 2]);
}

#[test]
fn the_cache_is_bounded_and_only_old_sessions_make_room() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let first = begun(&mut rig, &[(0, 0)]);
    for _ in 1..limits::FETCH_SESSIONS_MAX {
        begun(&mut rig, &[(0, 0)]);
    }
    let full = || request((0, 0), vec![topic("t", &[(0, 0)])]);
    let without = fetch(&mut rig, full(), BY_NAME);
    assert_eq!((without.error_code, without.session_id), (0, 0), "served without a session");
    assert_eq!(told(&without).len(), 1);
    rig.pass_ms(limits::FETCH_SESSION_KEPT_MS / 2);
    assert_eq!(fetch(&mut rig, request((first, 1), vec![]), BY_NAME).error_code, 0);
    rig.pass_ms(limits::FETCH_SESSION_KEPT_MS / 2);
    assert!(fetch(&mut rig, full(), BY_NAME).session_id > 0);
    assert_eq!(rig.engine.fetch_sessions_len(), (limits::FETCH_SESSIONS_MAX, 1));
    let kept = fetch(&mut rig, request((first, 2), vec![]), BY_NAME);
    assert_eq!(kept.error_code, 0, "what was used lately stays");
}

#[test]
fn sessions_by_topic_id_tell_of_a_topic_that_was_made_anew() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["old"]);
    let by_id = |id: Uuid, offset| FetchTopic {
        topic: String::new(),
        topic_id: id,
        partitions: vec![part(0, offset)],
    };
    let old = rig.key("t", 0).topic_id;
    let response = fetch(&mut rig, request((0, 0), vec![by_id(old, 1)]), BY_ID);
    assert_eq!((response.error_code, response.responses[0].topic_id), (0, old));
    let session = response.session_id;
    rig.delete_topic("t");
    rig.create_topic("t", 1);
    let new = rig.key("t", 0).topic_id;
    let gone = fetch(&mut rig, request((session, 1), vec![]), BY_ID);
    let data = &gone.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::UnknownTopicId.code());
    let replaced = FetchRequest {
        forgotten_topics_data: vec![ForgottenTopic {
            topic_id: old,
            partitions: vec![0],
            ..ForgottenTopic::default()
        }],
        ..request((session, 2), vec![by_id(new, 0)])
    };
    let response = fetch(&mut rig, replaced, BY_ID);
    assert_eq!((response.error_code, response.responses.len()), (0, 1));
    assert_eq!(response.responses[0].topic_id, new);
}

#[test]
fn records_go_to_the_topic_of_an_id_and_nowhere_if_there_is_none() {
    use millpond_wire::messages::ProduceRequest;
    use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let produce = |rig: &mut Rig, topic_id: Uuid| {
        let part = PartitionProduceData { index: 0, records: Some(batch(&["a"], None)) };
        let topic = TopicProduceData {
            topic_id,
            partition_data: vec![part],
            ..TopicProduceData::default()
        };
        let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() };
        match rig.call(Request::Produce(request), 13) {
            Response::Produce(response) => {
                let topic = &response.responses[0];
                assert_eq!(topic.topic_id, topic_id);
                topic.partition_responses[0].error_code
            }
            other => panic!("{other:?}"),
        }
    };
    let topic_id = rig.key("t", 0).topic_id;
    assert_eq!(produce(&mut rig, topic_id), 0);
    assert_eq!(rig.read("t", 0, 0).len(), 1);
    let unknown = ErrorCode::UnknownTopicId.code();
    assert_eq!(produce(&mut rig, Uuid([7; 16])), unknown);
    rig.delete_topic("t");
    rig.create_topic("t", 1);
    assert_eq!(produce(&mut rig, topic_id), unknown, "never into another topic of that name");
}

#[test]
fn a_fetch_does_not_wait_for_more_than_its_own_limit() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["0123456789"]);
    let greedy = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1 << 20,
        max_bytes: 50,
        ..request((0, -1), vec![topic("t", &[(0, 0)])])
    };
    let id = rig.send(Request::Fetch(greedy), BY_NAME);
    assert!(rig.is_answered(id));
}
