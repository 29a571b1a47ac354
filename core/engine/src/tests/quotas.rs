//! Client quotas: set, shown, kept over a restart, and held to.

use super::rig::{Rig, batch, fetch_request, produce_request};
use crate::units::SessionId;
use millpond_wire::F64;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use millpond_wire::messages::create_topics_request::CreatableTopic;
use millpond_wire::messages::describe_client_quotas_request::ComponentData;
use millpond_wire::messages::{
    AlterClientQuotasRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClientQuotasRequest, MetadataRequest, Request, Response,
};

/// An entity as a tool names it; `None`: the default.
type Who<'a> = &'a [(&'a str, Option<&'a str>)];

fn alter(rig: &mut Rig, who: Who<'_>, ops: &[(&str, Option<f64>)]) -> (ErrorCode, String) {
    let entity = |(kind, name): &(&str, Option<&str>)| EntityData {
        entity_type: (*kind).to_owned(),
        entity_name: name.map(str::to_owned),
    };
    let op = |(key, value): &(&str, Option<f64>)| OpData {
        key: (*key).to_owned(),
        value: F64::from(value.unwrap_or_default()),
        remove: value.is_none(),
    };
    let entry =
        EntryData { entity: who.iter().map(entity).collect(), ops: ops.iter().map(op).collect() };
    let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: false };
    match rig.call(Request::AlterClientQuotas(request), 1) {
        Response::AlterClientQuotas(mut response) => {
            let entry = response.entries.remove(0);
            let code = ErrorCode::from_code(entry.error_code).expect("a known code");
            (code, entry.error_message.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

fn set(rig: &mut Rig, who: Who<'_>, key: &str, value: f64) {
    assert_eq!(alter(rig, who, &[(key, Some(value))]).0, ErrorCode::None);
}

/// The entities that match, in words, with their values.
fn described(rig: &mut Rig, filters: &[(&str, i8, Option<&str>)], strict: bool) -> Vec<String> {
    let component = |(kind, match_type, name): &(&str, i8, Option<&str>)| ComponentData {
        entity_type: (*kind).to_owned(),
        match_type: *match_type,
        match_: name.map(str::to_owned),
    };
    let components = filters.iter().map(component).collect();
    let request = DescribeClientQuotasRequest { components, strict };
    let Response::DescribeClientQuotas(response) =
        rig.call(Request::DescribeClientQuotas(request), 1)
    else {
        panic!("another response")
    };
    assert_eq!(response.error_code, 0, "{:?}", response.error_message);
    let entries = response.entries.expect("entries").into_iter();
    let words = entries.map(|entry| {
        let who = entry.entity.iter().map(|part| {
            format!("{}={} ", part.entity_type, part.entity_name.as_deref().unwrap_or("*"))
        });
        let values =
            entry.values.iter().map(|value| format!("{}={} ", value.key, value.value.get()));
        who.chain(values).collect::<String>().trim_end().to_owned()
    });
    words.collect()
}

#[test]
fn quotas_are_shown_by_filter_and_survive_a_restart() {
    let mut rig = Rig::new();
    set(&mut rig, &[("client-id", Some("c"))], "producer_byte_rate", 1_000.0);
    set(&mut rig, &[("client-id", None)], "consumer_byte_rate", 2_000.0);
    set(&mut rig, &[("user", Some("u")), ("client-id", None)], "producer_byte_rate", 3.0);
    set(&mut rig, &[("user", Some("w"))], "request_percentage", 12.5);
    set(&mut rig, &[("user", Some("w"))], "controller_mutation_rate", 0.5);
    let check = |rig: &mut Rig| {
        assert_eq!(described(rig, &[], false).len(), 4);
        let more = described(rig, &[("user", 0, Some("w"))], true);
        assert_eq!(more, ["user=w request_percentage=12.5 controller_mutation_rate=0.5"]);
        assert!(described(rig, &[], true).is_empty());
        let exact = described(rig, &[("client-id", 0, Some("c"))], true);
        assert_eq!(exact, ["client-id=c producer_byte_rate=1000"]);
        let default = described(rig, &[("client-id", 1, None)], true);
        assert_eq!(default, ["client-id=* consumer_byte_rate=2000"]);
        assert_eq!(described(rig, &[("client-id", 1, None)], false).len(), 2);
        let any = described(rig, &[("user", 2, None)], false);
        assert!(any.contains(&"user=u client-id=* producer_byte_rate=3".to_owned()), "{any:?}");
        assert_eq!(described(rig, &[("user", 2, None)], true).len(), 1);
        assert!(described(rig, &[("ip", 2, None)], false).is_empty());
    };
    check(&mut rig);
    check(&mut rig.reborn(None));
    let snapshot = rig.engine.snapshot();
    let mut rig = rig.reborn(Some(snapshot));
    check(&mut rig);
    let gone = alter(&mut rig, &[("client-id", None)], &[("consumer_byte_rate", None)]);
    assert_eq!(gone.0, ErrorCode::None);
    let ops = [("request_percentage", None), ("controller_mutation_rate", None)];
    assert_eq!(alter(&mut rig, &[("user", Some("w"))], &ops).0, ErrorCode::None);
    assert_eq!(described(&mut rig, &[], false).len(), 2);
}

#[test]
fn quotas_that_cannot_be_held_to_are_refused() {
    let mut rig = Rig::new();
    let client: Who<'_> = &[("client-id", Some("c"))];
    for (who, key, value, words) in [
        (client, "producer_byte_rate", 0.0, "greater than 0"),
        (client, "producer_byte_rate", 1.5, "Long"),
        (client, "producer_byte_rate", f64::NAN, "greater than 0"),
        (client, "request_percentage", 0.00001, "between 0.0001 and"),
        (client, "controller_mutation_rate", f64::INFINITY, "between 0.001 and"),
        (client, "no.such.rate", 1.0, "Invalid configuration key no.such.rate"),
        (&[], "producer_byte_rate", 1.0, "empty"),
        (&[("ip", Some("::1"))], "connection_creation_rate", 1.0, "not enforced"),
        (&[("planet", None)], "producer_byte_rate", 1.0, "planet"),
        (&[("user", None), ("user", None)], "producer_byte_rate", 1.0, "twice"),
        (&[("user", Some(""))], "producer_byte_rate", 1.0, "Empty user"),
    ] {
        let (code, message) = alter(&mut rig, who, &[(key, Some(value))]);
        assert_eq!(code, ErrorCode::InvalidRequest, "{message}");
        assert!(message.contains(words), "{message}");
    }
    assert!(described(&mut rig, &[], false).is_empty());
}

fn throttle_of(mut response: Response) -> i32 {
    *response.throttle_time_ms_mut().expect("an answer that can say it")
}

#[test]
fn a_producer_above_its_rate_is_told_to_wait_and_its_connection_does() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    set(&mut rig, &[("client-id", Some("c"))], "producer_byte_rate", 1_000.0);
    let value = "x".repeat(2_900);
    let large = batch(&[&value], None);
    let over = large.len() as i32 - 1_000;
    let send = |rig: &mut Rig, session, client: &str| {
        let request = produce_request("t", 0, large.clone(), -1);
        rig.send_from(SessionId(session), client, request, 9)
    };
    let free = send(&mut rig, 3, "another");
    assert_eq!(throttle_of(rig.take(free)), 0);
    let first = send(&mut rig, 2, "c");
    let wait_ms = throttle_of(rig.take(first));
    assert!((over..over + 10).contains(&wait_ms), "{wait_ms}");
    // Another request of the connection is held, those of other connections are not.
    let held = rig.send_from(SessionId(2), "c", metadata(), 9);
    let second = send(&mut rig, 2, "c");
    assert!(!rig.is_answered(held) && !rig.is_answered(second));
    assert_eq!(rig.engine.throttled_len(), (1, 2));
    let other = rig.send_from(SessionId(3), "c", metadata(), 9);
    assert!(rig.is_answered(other));
    rig.pass_ms(wait_ms as u64 - 1);
    assert!(!rig.is_answered(held));
    rig.pass_ms(1);
    assert!(rig.is_answered(held) && rig.is_answered(second), "in order, when the time is over");
    assert!(throttle_of(rig.take(second)) > 0);
    assert_eq!(rig.read("t", 0, 0).len(), 3, "nothing is lost");
    assert_eq!(rig.engine.counters().requests_throttled, 2);
}

#[test]
fn over_time_a_producer_gets_its_rate_and_no_more() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    set(&mut rig, &[("user", None)], "producer_byte_rate", 10_000.0);
    let start_ms = rig.now.mono_ms;
    let large = batch(&["x".repeat(1_000).as_str()], None);
    let mut sent = 0_u64;
    while rig.now.mono_ms < start_ms + 60_000 {
        let request = produce_request("t", 0, large.clone(), 0);
        rig.send_from(SessionId(2), "c", request, 9);
        sent += 1;
        // Nobody listens to what it is told here, and sends on all the same.
        rig.pass_ms(20);
    }
    rig.pass_ms(1);
    let log_end = rig.engine.catalog().by_name("t").expect("a topic").partitions[0].log_end();
    let stored = log_end as u64 * large.len() as u64;
    assert!(stored <= 10_000 * 61 + 2 * large.len() as u64, "{stored} bytes in a minute");
    assert!(stored >= 10_000 * 58, "{stored} bytes in a minute");
    assert!(sent > log_end as u64, "the rest is held");
}

#[test]
fn a_consumer_above_its_rate_gets_its_records_and_waits_afterwards() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["x".repeat(5_000).as_str()]);
    set(&mut rig, &[("client-id", None)], "consumer_byte_rate", 1_000.0);
    let first = rig.send_from(SessionId(2), "c", fetch_request("t", 0, 0, 0, 1), 12);
    let wait_ms = throttle_of(rig.take(first));
    assert!(wait_ms > 4_000, "{wait_ms}");
    let again = rig.send_from(SessionId(2), "c", fetch_request("t", 0, 1, 0, 1), 12);
    assert!(!rig.is_answered(again));
    // A default holds for each client by itself.
    let other = rig.send_from(SessionId(3), "d", fetch_request("t", 0, 1, 0, 1), 12);
    assert_eq!(throttle_of(rig.take(other)), 0);
    rig.pass_ms(wait_ms as u64);
    assert_eq!(throttle_of(rig.take(again)), 0, "an empty answer costs nothing");
}

#[test]
fn what_was_produced_before_a_connection_ended_is_stored_although_it_had_to_wait() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    set(&mut rig, &[("client-id", None)], "producer_byte_rate", 1.0);
    for _ in 0..3 {
        let request = produce_request("t", 0, batch(&["a"], None), 0);
        rig.send_from(SessionId(2), "c", request, 9);
    }
    assert_eq!(rig.engine.throttled_len(), (1, 2));
    rig.handle(crate::Event::SessionClosed(SessionId(2)));
    assert_eq!(rig.engine.throttled_len(), (0, 0));
    assert_eq!(rig.read("t", 0, 0).len(), 3);
    assert_eq!(rig.engine.next_deadline_ms(), None);
}

#[test]
fn a_connection_for_which_nothing_more_can_be_held_keeps_its_order() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    set(&mut rig, &[("client-id", None)], "producer_byte_rate", 1.0);
    let send = |rig: &mut Rig, session, value: &str| {
        let request = produce_request("t", 0, batch(&[value], None), 0);
        rig.send_from(SessionId(session), "c", request, 9);
    };
    for value in ["first", "second"] {
        send(&mut rig, 2, value);
    }
    send(&mut rig, 3, "another");
    while rig.engine.throttled_len().1 < limits::THROTTLED_REQUESTS_MAX {
        rig.send_from(SessionId(3), "c", metadata(), 9);
    }
    send(&mut rig, 2, "third");
    let values: Vec<_> = rig.read("t", 0, 0).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["first", "another", "second", "third"]);
    assert_eq!(rig.engine.throttled_len().1, limits::THROTTLED_REQUESTS_MAX - 1);
}

fn metadata() -> Request {
    Request::Metadata(MetadataRequest::default())
}

/// KIP-124: what is owed holds the next request back, tells its client so, and nobody else.
#[test]
fn who_took_more_of_the_engines_time_than_he_may_is_told_to_wait_and_others_are_not() {
    let mut rig = Rig::new();
    assert!(!rig.engine.measures_requests());
    set(&mut rig, &[("client-id", Some("c"))], "request_percentage", 10.0);
    assert!(rig.engine.measures_requests());
    let ask = |rig: &mut Rig, session, client, spent_us| {
        let id = rig.send_from(SessionId(session), client, metadata(), 9);
        rig.handle(crate::Event::Spent(spent_us));
        id
    };
    // A tenth of a second is there to be spent; a quarter is taken.
    let first = ask(&mut rig, 2, "c", 250_000);
    assert_eq!(throttle_of(rig.take(first)), 0, "nothing was owed when it came");
    let second = ask(&mut rig, 2, "c", 0);
    assert_eq!(throttle_of(rig.take(second)), 1_000, "a second and a half is owed, one is told");
    let (held, other) = (ask(&mut rig, 2, "c", 90), ask(&mut rig, 3, "d", 250_000));
    assert!(!rig.is_answered(held));
    assert_eq!(throttle_of(rig.take(other)), 0);
    let again = ask(&mut rig, 3, "d", 0);
    assert_eq!(throttle_of(rig.take(again)), 0, "others go on");
    rig.pass_ms(1_000);
    assert!(throttle_of(rig.take(held)) > 0, "half a second is owed still");
}

#[test]
fn requests_that_were_held_are_counted_as_their_clients_are_on_average() {
    let mut rig = Rig::new();
    set(&mut rig, &[("client-id", None)], "request_percentage", 10.0);
    let mut served = 0;
    let mut sent = Vec::new();
    // Sends on and on, without listening, what takes a millisecond: a hundred a second are its share.
    for _ in 0..10_000 {
        sent.push(rig.send_from(SessionId(2), "c", metadata(), 9));
        rig.handle(crate::Event::Spent(1_000));
        rig.pass_ms(1);
    }
    for id in sent {
        served += u64::from(rig.is_answered(id));
    }
    assert!((900..1_400).contains(&served), "{served} in 10 s");
}

/// KIP-599, by waiting in all versions: what is over the rate is made, and then nothing for a while.
#[test]
fn who_makes_and_deletes_partitions_too_fast_waits_before_the_next() {
    let mut rig = Rig::new();
    set(&mut rig, &[("client-id", Some("c"))], "controller_mutation_rate", 10.0);
    let create = |rig: &mut Rig, session, client, name: &str, partitions| {
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        rig.send_from(SessionId(session), client, Request::CreateTopics(request), 7)
    };
    let made = create(&mut rig, 2, "c", "a", 30);
    let wait_ms = throttle_of(rig.take(made));
    assert!((2_000..2_010).contains(&wait_ms), "{wait_ms}");
    assert!(rig.engine.catalog().by_name("a").is_some());
    let other = create(&mut rig, 3, "d", "b", 30);
    assert_eq!(throttle_of(rig.take(other)), 0);
    let names = vec!["a".to_owned(), "none".to_owned()];
    let request = DeleteTopicsRequest { topic_names: names, ..Default::default() };
    let delete = Request::DeleteTopics(request);
    let deleted = rig.send_from(SessionId(2), "c", delete, 5);
    assert!(rig.engine.catalog().by_name("a").is_some(), "not before the time is over");
    rig.pass_ms(wait_ms as u64);
    assert!(throttle_of(rig.take(deleted)) > 2_900);
    assert!(rig.engine.catalog().by_name("a").is_none());
}
