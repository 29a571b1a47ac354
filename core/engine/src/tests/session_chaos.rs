//! A consumer with a fetch session, as KIP-227 asks it to behave, against a broker that others write
//! to: whatever it adds, forgets, loses or closes, in the end it has read every record once.

use super::rig::{Rig, values_of};
use crate::rng::Rng;
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use millpond_wire::messages::{FetchRequest, FetchResponse, Request, Response};
use millpond_wire::uuid::Uuid;
use std::collections::{BTreeMap, BTreeSet};

/// A topic of the story and a partition.
type Place = (usize, i32);

#[derive(Debug)]
struct Consumer {
    by_id: bool,
    topics: Vec<(String, Uuid)>,
    session: (i32, i32),
    /// What the broker was told last.
    known: BTreeMap<Place, i64>,
    wanted: BTreeSet<Place>,
    next: BTreeMap<Place, i64>,
    read: BTreeMap<Place, Vec<String>>,
}

impl Consumer {
    fn named(&self, topic: usize) -> (String, Uuid) {
        let (name, id) = &self.topics[topic];
        if self.by_id { (String::new(), *id) } else { (name.clone(), Uuid::ZERO) }
    }

    fn position(&self, place: &Place) -> i64 {
        self.next.get(place).copied().unwrap_or(0)
    }

    /// In full, or only what changed since the last request of the session.
    fn request(&mut self, max_bytes: i32) -> FetchRequest {
        let is_full = self.session.1 <= 0;
        let now: BTreeMap<Place, i64> =
            self.wanted.iter().map(|place| (*place, self.position(place))).collect();
        let is_new = |place: &Place, at: &i64| is_full || self.known.get(place) != Some(at);
        let changed = now.iter().filter(|(place, at)| is_new(place, at));
        let topics = changed.map(|((topic, partition), at)| {
            let (topic, topic_id) = self.named(*topic);
            let part = FetchPartition {
                partition: *partition,
                fetch_offset: *at,
                partition_max_bytes: max_bytes,
                current_leader_epoch: -1,
                ..FetchPartition::default()
            };
            FetchTopic { topic, topic_id, partitions: vec![part] }
        });
        let gone = self.known.keys().filter(|place| !is_full && !now.contains_key(place));
        let forgotten = gone.map(|(topic, partition)| {
            let (topic, topic_id) = self.named(*topic);
            ForgottenTopic { topic, topic_id, partitions: vec![*partition] }
        });
        let request = FetchRequest {
            max_bytes,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics: topics.collect(),
            forgotten_topics_data: forgotten.collect(),
            ..FetchRequest::default()
        };
        self.known = now;
        request
    }

    fn take(&mut self, response: FetchResponse) {
        if response.error_code != 0 {
            self.session = (self.session.0, 0);
            return;
        }
        let epoch = if self.session.1 <= 0 { 1 } else { self.session.1 + 1 };
        self.session = if response.session_id == 0 { (0, 0) } else { (response.session_id, epoch) };
        for topic in response.responses {
            let mut names = self.topics.iter();
            let place = names.position(|(name, id)| *name == topic.topic || *id == topic.topic_id);
            let place = place.expect("a topic that was asked for");
            for data in topic.partitions {
                let place = (place, data.partition_index);
                assert_eq!(data.error_code, 0);
                assert!(self.wanted.contains(&place), "what was forgotten is not told");
                for (offset, value) in values_of(&data) {
                    if offset == self.position(&place) {
                        self.next.insert(place, offset + 1);
                        self.read.entry(place).or_default().push(value);
                    } else {
                        assert!(offset < self.position(&place), "no record is passed over");
                    }
                }
            }
        }
    }
}

fn story(seed: u64) {
    let mut dice = Rng::new(seed);
    let mut roll = |sides: u64| dice.next_u64() % sides;
    let mut rig = Rig::new();
    let mut topics = Vec::new();
    for name in ["a", "b"] {
        rig.create_topic(name, 3);
        topics.push((name.to_owned(), rig.key(name, 0).topic_id));
    }
    let mut consumer = Consumer {
        by_id: seed.is_multiple_of(2),
        topics,
        session: (0, 0),
        known: BTreeMap::new(),
        wanted: BTreeSet::new(),
        next: BTreeMap::new(),
        read: BTreeMap::new(),
    };
    let version = if consumer.by_id { 17 } else { 12 };
    let mut written: BTreeMap<Place, Vec<String>> = BTreeMap::new();
    let places: Vec<Place> = (0..2).flat_map(|topic| (0..3).map(move |p| (topic, p))).collect();
    for step in 0..400 {
        let place = places[roll(6) as usize];
        let is_over = step >= 300;
        match roll(10) {
            0..4 if !is_over => {
                let value = format!("{step}-{}", "x".repeat(roll(300) as usize));
                rig.produce(&consumer.topics[place.0].0, place.1, &[&value]);
                written.entry(place).or_default().push(value);
            }
            4 if !is_over && !consumer.wanted.remove(&place) => {
                consumer.wanted.insert(place);
            }
            _ => {
                if is_over {
                    consumer.wanted.extend(&places);
                }
                let max_bytes = if roll(2) == 0 { 1 } else { 1 << 20 };
                let request = Request::Fetch(consumer.request(max_bytes));
                let Response::Fetch(response) = rig.call(request, version) else {
                    panic!("another response")
                };
                if roll(20) == 0 && !is_over {
                    // The answer is lost with its connection.
                    consumer.session.1 = 0;
                } else {
                    consumer.take(response);
                }
            }
        }
    }
    assert_eq!(consumer.read, written);
    let (open, _) = rig.engine.fetch_sessions_len();
    assert!(open <= 40, "what is begun anew is closed: {open}");
}

#[test]
fn a_session_that_changes_all_the_time_reads_every_record_once() {
    for seed in 0..60 {
        let told = std::panic::catch_unwind(|| story(seed));
        assert!(told.is_ok(), "seed {seed}: story({seed}) in tests/session_chaos.rs fails");
    }
}
