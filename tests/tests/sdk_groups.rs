//! The SDK's consumers in a group of a real broker: by the broker's assignments (KIP-848) and by the
//! classic protocol, one after the other and side by side; members that are killed, or silent; partitions
//! that are held back; offsets that admin moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millpond_client::{
    Admin, Client, ClientConfig, Consumer, ConsumerBuilder, ErrorCode, GroupProtocol, OffsetReset,
    OffsetSpec, Producer, Rebalance, Record, Trust,
};
use millpond_tests::broker::{Broker, PATIENCE, Setup};
use millpond_tests::kafka::Kafka;

const TOPIC: &str = "line";
const PARTITIONS: i32 = 4;

/// A broker whose groups are quick, with a topic.
fn broker() -> Broker {
    let quick = "\n[groups]\nconsumer_heartbeat_interval_ms = 200\n\
                 consumer_session_timeout_ms = 2000\nsession_timeout_min_ms = 100\n";
    let broker = Setup::default().config(quick).start();
    Kafka::connect(broker.kafka(), PATIENCE).unwrap().create_topic(TOPIC, PARTITIONS).unwrap();
    broker
}

fn config(broker: &Broker) -> ClientConfig {
    let config = ClientConfig::new(&format!("quic://{}", broker.kafka())).unwrap();
    config.trust(Trust::InsecureNoVerify)
}

fn builder(protocol: GroupProtocol) -> ConsumerBuilder {
    Consumer::builder()
        .group("readers")
        .topic(TOPIC)
        .group_protocol(protocol)
        .offset_reset(OffsetReset::Earliest)
        .fetch_wait(Duration::from_millis(50))
        .session_timeout(Duration::from_secs(2))
        .heartbeat_interval(Duration::from_millis(100))
}

async fn consumer(broker: &Broker, protocol: GroupProtocol) -> Consumer {
    builder(protocol).connect(config(broker)).await.unwrap()
}

/// `count` records in each partition, numbered on from `from`.
async fn fill(broker: &Broker, from: usize, count: usize) {
    let producer = Producer::builder().connect(config(broker)).await.unwrap();
    for partition in 0..PARTITIONS {
        for number in from..from + count {
            let record = Record::to(TOPIC).partition(partition).value(number.to_string());
            drop(producer.send(record).await.unwrap());
        }
    }
    producer.close().await;
}

/// A rebalance as a sign, and the partitions it is about.
type Event = (char, Vec<i32>);

/// What was read of each partition.
type Seen = BTreeMap<i32, Vec<usize>>;

async fn poll(consumer: &mut Consumer, seen: &mut Seen) {
    for record in consumer.poll(Duration::from_millis(100)).await.unwrap() {
        let text =
            String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
        seen.entry(record.partition).or_default().push(text.parse().unwrap());
    }
}

fn count(seen: &Seen) -> usize {
    seen.values().map(Vec::len).sum()
}

/// Polls all until `is_so`.
async fn poll_until(
    consumers: &mut [&mut Consumer],
    seen: &mut Seen,
    is_so: impl Fn(&[&mut Consumer], &Seen) -> bool,
) {
    let give_up = Instant::now() + PATIENCE;
    while !is_so(consumers, seen) {
        let has: Vec<usize> = consumers.iter().map(|one| one.assignment().len()).collect();
        assert!(Instant::now() < give_up, "{has:?} partitions, {seen:?}");
        for consumer in &mut *consumers {
            poll(consumer, seen).await;
        }
    }
}

fn shares(consumers: &[&mut Consumer], each: usize) -> bool {
    let places = consumers.iter().flat_map(|one| one.assignment());
    let distinct: BTreeSet<_> = places.collect();
    consumers.iter().all(|one| one.assignment().len() == each)
        && distinct.len() == each * consumers.len()
}

async fn admin(broker: &Broker) -> Admin {
    Admin::new(Client::connect(config(broker)).await.unwrap())
}

#[tokio::test]
async fn two_members_of_either_protocol_share_the_partitions_and_read_each_record_once() {
    for protocol in [GroupProtocol::Consumer, GroupProtocol::Classic] {
        let broker = broker();
        fill(&broker, 0, 50).await;
        let mut seen = Seen::new();
        let mut first = consumer(&broker, protocol).await;
        poll_until(&mut [&mut first], &mut seen, |all, seen| shares(all, 4) && count(seen) == 200)
            .await;
        first.commit().await.unwrap();
        let mut second = consumer(&broker, protocol).await;
        poll_until(&mut [&mut first, &mut second], &mut seen, |all, _| shares(all, 2)).await;
        fill(&broker, 50, 50).await;
        let both = &mut [&mut first, &mut second];
        poll_until(both, &mut seen, |_, seen| count(seen) >= 400).await;
        let wanted: Vec<usize> = (0..100).collect();
        assert!(seen.values().all(|numbers| *numbers == wanted), "{protocol:?}: {seen:?}");
        second.commit().await.unwrap();
        second.close().await.unwrap();
        poll_until(&mut [&mut first], &mut seen, |all, _| shares(all, 4)).await;
        let group = admin(&broker).await.describe_group("readers").await.unwrap();
        assert_eq!((group.members.len(), group.state.as_str()), (1, "Stable"), "{protocol:?}");
    }
}

#[tokio::test]
async fn a_member_that_comes_does_not_stop_what_the_others_keep() {
    let broker = broker();
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let noted = Arc::clone(&events);
    let tell = move |what: Rebalance<'_>| {
        let (sign, places) = match what {
            Rebalance::Assigned(places) => ('+', places),
            Rebalance::Revoked(places) => ('-', places),
            Rebalance::Lost(places) => ('!', places),
        };
        noted.lock().unwrap().push((sign, places.iter().map(|(_, p)| *p).collect()));
    };
    let first = builder(GroupProtocol::Auto).on_rebalance(tell).connect(config(&broker));
    let (mut first, mut seen) = (first.await.unwrap(), Seen::new());
    poll_until(&mut [&mut first], &mut seen, |all, _| shares(all, 4)).await;
    let mut second = consumer(&broker, GroupProtocol::Auto).await;
    poll_until(&mut [&mut first, &mut second], &mut seen, |all, _| shares(all, 2)).await;
    let events = events.lock().unwrap().clone();
    let kept: Vec<i32> = first.assignment().into_iter().map(|(_, p)| p).collect();
    let gone: Vec<i32> = (0..PARTITIONS).filter(|p| !kept.contains(p)).collect();
    assert_eq!(
        events,
        [('+', vec![0, 1, 2, 3]), ('-', gone)],
        "the broker's assignments were taken"
    );
}

#[tokio::test]
async fn a_group_of_classic_members_takes_one_that_would_rather_have_the_new_protocol() {
    let broker = broker();
    fill(&broker, 0, 10).await;
    let (mut old, mut seen) = (consumer(&broker, GroupProtocol::Classic).await, Seen::new());
    poll_until(&mut [&mut old], &mut seen, |all, _| shares(all, 4)).await;
    let mut strict = consumer(&broker, GroupProtocol::Consumer).await;
    let error = strict.poll(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupIdNotFound), "{error}");
    let mut new = consumer(&broker, GroupProtocol::Auto).await;
    poll_until(&mut [&mut old, &mut new], &mut seen, |all, _| shares(all, 2)).await;
    // Where the last classic member has gone, the next one begins by the new protocol.
    old.close().await.unwrap();
    new.close().await.unwrap();
    let mut next = consumer(&broker, GroupProtocol::Auto).await;
    poll_until(&mut [&mut next], &mut seen, |all, _| shares(all, 4)).await;
    let mut late = consumer(&broker, GroupProtocol::Classic).await;
    let error = late.poll(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InconsistentGroupProtocol), "{error}");
}

#[tokio::test]
async fn what_a_killed_member_had_goes_to_the_others_from_its_last_commit() {
    let broker = broker();
    fill(&broker, 0, 20).await;
    let mut seen = Seen::new();
    let mut stays = consumer(&broker, GroupProtocol::Consumer).await;
    let mut dies = consumer(&broker, GroupProtocol::Consumer).await;
    let both = &mut [&mut stays, &mut dies];
    poll_until(both, &mut seen, |all, seen| shares(all, 2) && count(seen) >= 80).await;
    stays.commit().await.unwrap();
    dies.commit().await.unwrap();
    fill(&broker, 20, 10).await;
    let mut unsaid = Seen::new();
    poll_until(&mut [&mut dies], &mut unsaid, |_, seen| count(seen) == 20).await;
    // As by kill -9: no commit, no farewell.
    drop(dies);
    seen.clear();
    poll_until(&mut [&mut stays], &mut seen, |all, seen| shares(all, 4) && count(seen) == 40).await;
    let wanted: Vec<usize> = (20..30).collect();
    assert!(seen.values().all(|numbers| *numbers == wanted), "{seen:?}");
}

#[tokio::test]
async fn a_member_that_let_others_wait_too_long_is_fenced_and_commits_nothing_of_what_it_had() {
    let broker = broker();
    fill(&broker, 0, 10).await;
    let patient = builder(GroupProtocol::Consumer).rebalance_timeout(Duration::from_millis(600));
    let (mut slow, mut seen) = (patient.connect(config(&broker)).await.unwrap(), Seen::new());
    poll_until(&mut [&mut slow], &mut seen, |all, seen| shares(all, 4) && count(seen) == 40).await;
    // It works on for long, and gives nothing up; its heartbeats go on.
    let mut other = consumer(&broker, GroupProtocol::Consumer).await;
    poll_until(&mut [&mut other], &mut seen, |all, _| shares(all, 4) || shares(all, 2)).await;
    let error = slow.commit().await.unwrap_err();
    // Whichever end notices first.
    let fenced = [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId];
    assert!(error.code().is_some_and(|code| fenced.contains(&code)), "{error}");
    // It comes back as another member, and shares.
    poll_until(&mut [&mut slow, &mut other], &mut seen, |all, _| shares(all, 2)).await;
}

#[tokio::test]
async fn a_partition_that_is_held_back_rests_while_the_others_flow_also_over_a_rebalance() {
    let broker = broker();
    fill(&broker, 0, 10).await;
    let settings = builder(GroupProtocol::Auto).max_poll_records(3);
    let (mut reader, mut seen) = (settings.connect(config(&broker)).await.unwrap(), Seen::new());
    poll_until(&mut [&mut reader], &mut seen, |_, seen| count(seen) > 0).await;
    // Some of it is read, more is fetched.
    let rests = *seen.keys().next().unwrap();
    let before = seen[&rests].clone();
    let place: (Arc<str>, i32) = (TOPIC.into(), rests);
    reader.pause(std::slice::from_ref(&place)).unwrap();
    assert_eq!(reader.paused(), std::slice::from_ref(&place));
    let others = |seen: &Seen| count(seen) - seen[&rests].len();
    poll_until(&mut [&mut reader], &mut seen, |_, seen| others(seen) == 30).await;
    assert_eq!(seen[&rests], before);
    reader.resume(std::slice::from_ref(&place)).unwrap();
    poll_until(&mut [&mut reader], &mut seen, |_, seen| count(seen) == 40).await;
    let wanted: Vec<usize> = (0..10).collect();
    assert!(seen.values().all(|numbers| *numbers == wanted), "nothing twice: {seen:?}");
    assert!(reader.pause(&[("elsewhere".into(), 0)]).is_err());
    // Those it keeps stay as they were when another comes.
    reader.pause(&(0..PARTITIONS).map(|p| (TOPIC.into(), p)).collect::<Vec<_>>()).unwrap();
    let mut second = consumer(&broker, GroupProtocol::Auto).await;
    poll_until(&mut [&mut reader, &mut second], &mut seen, |all, _| shares(all, 2)).await;
    assert_eq!(reader.paused(), reader.assignment());
}

#[tokio::test]
async fn a_reader_goes_to_the_beginning_the_end_and_a_time() {
    let broker = broker();
    let producer = Producer::builder().connect(config(&broker)).await.unwrap();
    for number in 0..10_i64 {
        let record = Record::to(TOPIC).partition(0).value(number.to_string());
        producer.send(record.timestamp_ms(1_000 * number)).await.unwrap().await.unwrap();
    }
    let builder = Consumer::builder().partition(TOPIC, 0).offset_reset(OffsetReset::Earliest);
    let (mut reader, mut seen) = (builder.connect(config(&broker)).await.unwrap(), Seen::new());
    poll_until(&mut [&mut reader], &mut seen, |_, seen| count(seen) == 10).await;
    let place: [(Arc<str>, i32); 1] = [(TOPIC.into(), 0)];
    for (spec, offset) in [
        (OffsetSpec::Earliest, 0),
        (OffsetSpec::AtTimestamp(4_500), 5),
        (OffsetSpec::AtTimestamp(1_000_000_000), 10),
        (OffsetSpec::Latest, 10),
    ] {
        reader.seek_to(&place, spec).await.unwrap();
        assert_eq!(reader.position(TOPIC, 0), Some(offset), "{spec:?}");
    }
    reader.seek(TOPIC, 0, 7).unwrap();
    seen.clear();
    poll_until(&mut [&mut reader], &mut seen, |_, seen| count(seen) == 3).await;
    assert_eq!(seen[&0], [7, 8, 9]);
    assert!(reader.seek_to(&[(TOPIC.into(), 3)], OffsetSpec::Latest).await.is_err());
}

#[tokio::test]
async fn admin_tells_the_lag_and_moves_the_offsets_of_a_group_that_sleeps() {
    let broker = broker();
    fill(&broker, 0, 10).await;
    let admin = admin(&broker).await;
    let (mut reader, mut seen) = (consumer(&broker, GroupProtocol::Auto).await, Seen::new());
    poll_until(&mut [&mut reader], &mut seen, |_, seen| count(seen) == 40).await;
    let place: Arc<str> = TOPIC.into();
    reader
        .commit_offsets(&[(Arc::clone(&place), 0, 4), (Arc::clone(&place), 1, 10)])
        .await
        .unwrap();
    let lags = admin.group_lag("readers").await.unwrap();
    let told: Vec<_> = lags.iter().map(|l| (l.partition, l.committed, l.records())).collect();
    assert_eq!(told, [(0, Some(4), 6), (1, Some(10), 0), (2, None, 10), (3, None, 10)]);
    assert!(lags.iter().all(|lag| lag.member.is_some() && lag.end == 10));
    let awake = admin.alter_offsets("readers", &[(Arc::clone(&place), 0, 0)]).await.unwrap_err();
    assert_eq!(awake.code(), Some(ErrorCode::UnknownMemberId), "{awake}");
    let found =
        reader.committed(&[(Arc::clone(&place), 0), (Arc::clone(&place), 2)]).await.unwrap();
    assert_eq!(found.iter().map(|o| (o.partition, o.offset)).collect::<Vec<_>>(), [(0, 4)]);
    reader.close().await.unwrap();
    admin.alter_offsets("readers", &[(Arc::clone(&place), 0, 8)]).await.unwrap();
    admin.delete_offsets("readers", TOPIC, &BTreeSet::from([1])).await.unwrap();
    let offsets = admin.committed_offsets("readers").await.unwrap();
    assert_eq!(offsets.iter().map(|o| (o.partition, o.offset)).collect::<Vec<_>>(), [(0, 8)]);
    let setting = |settings: &[millpond_client::admin::Setting]| {
        let found = settings.iter().find(|setting| setting.name == "retention.ms");
        found.and_then(|setting| setting.value.clone())
    };
    let before = setting(&admin.topic_settings(TOPIC).await.unwrap());
    admin.alter_topic_settings(TOPIC, &[("retention.ms", Some("3600000"))]).await.unwrap();
    assert_eq!(setting(&admin.topic_settings(TOPIC).await.unwrap()).as_deref(), Some("3600000"));
    admin.alter_topic_settings(TOPIC, &[("retention.ms", None)]).await.unwrap();
    assert_eq!(setting(&admin.topic_settings(TOPIC).await.unwrap()), before);
}

#[tokio::test]
async fn members_outlive_a_restart_of_the_broker() {
    let mut broker = broker();
    fill(&broker, 0, 10).await;
    let (mut reader, mut seen) = (consumer(&broker, GroupProtocol::Auto).await, Seen::new());
    poll_until(&mut [&mut reader], &mut seen, |_, seen| count(seen) == 40).await;
    reader.commit().await.unwrap();
    broker.restart();
    fill(&broker, 10, 5).await;
    poll_until(&mut [&mut reader], &mut seen, |_, seen| count(seen) == 60).await;
    reader.commit().await.unwrap();
    let lags = admin(&broker).await.group_lag("readers").await.unwrap();
    assert!(lags.iter().all(|lag| lag.records() == 0), "{lags:?}");
}
