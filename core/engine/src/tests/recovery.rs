//! What the journal brings back: after any history, a snapshot and the entries after it give the
//! same engine as all entries, and as the one that lived through it.

use super::consumer_client::Client;
use super::rig::{Producer, Rig, batch, parsed};
use crate::rng::Rng;
use crate::transform::{AdminRequest, Output, OutputTopic, TransformOutcome};
use crate::{Engine, EngineConfig, Entry, EntryError, EntrySeq, ReplayError, SnapshotError};
use bytes::{BufMut, Bytes, BytesMut};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millpond_wire::messages::{
    DeleteGroupsRequest, DeleteTopicsRequest, InitProducerIdRequest, OffsetCommitRequest, Request,
};

const TOPICS: [&str; 3] = ["a", "b", "c"];

fn pick(rng: &mut Rng, count: u64) -> usize {
    (rng.next_u64() % count) as usize
}

fn commit_offset(rig: &mut Rig, rng: &mut Rng, topic: &str, partition: i32) {
    let part = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: pick(rng, 100) as i64,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: topic.to_owned(),
        partitions: vec![part],
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: format!("g{}", pick(rng, 3)),
        generation_id_or_member_epoch: -1,
        retention_time_ms: [-1, 50_000][pick(rng, 2)],
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    rig.send(Request::OffsetCommit(request), 4);
    let client = Client::new("m", &["t"]).in_group(&format!("g{}", pick(rng, 3)));
    rig.send(Request::ConsumerGroupHeartbeat(client.request()), 1);
}

/// One random thing happens.
fn step(rig: &mut Rig, rng: &mut Rng, sequences: &mut [i32; 4]) {
    let topic = TOPICS[pick(rng, 3)];
    let partition = pick(rng, 3) as i32;
    match pick(rng, 20) {
        0..7 => {
            let who = pick(rng, 4);
            // Sometimes a duplicate, sometimes a gap.
            let sequence = (sequences[who] + pick(rng, 5) as i32 - 2).max(0);
            let producer = Producer { id: who as i64, epoch: 0, sequence };
            rig.send_batch(topic, partition, batch(&["x", "y"], Some(producer)));
            sequences[who] = sequence + 2;
        }
        7..10 => {
            rig.send_batch(topic, partition, batch(&["p", "q", "r"], None));
        }
        10..14 => {
            if let Some(job) = rig.jobs.pop_front() {
                let outcome = match pick(rng, 4) {
                    0 => TransformOutcome::Untouched { state: Vec::new() },
                    1 => TransformOutcome::Changed { outputs: Vec::new(), state: Vec::new() },
                    2 => TransformOutcome::Changed { outputs: outputs(), state: Vec::new() },
                    _ => TransformOutcome::Rejected {
                        code: ErrorCode::InvalidRecord,
                        message: String::new(),
                    },
                };
                rig.finish(&job, outcome);
            }
        }
        14 => commit_offset(rig, rng, topic, partition),
        15 => {
            rig.send(Request::InitProducerId(InitProducerIdRequest::default()), 4);
        }
        16 => {
            if rig.engine.catalog().by_name(topic).is_none() {
                rig.create_topic_unanswered(topic, 3);
            }
        }
        17 if pick(rng, 4) == 0 => {
            let topic_names = vec![topic.to_owned()];
            let request = DeleteTopicsRequest { topic_names, ..DeleteTopicsRequest::default() };
            rig.send(Request::DeleteTopics(request), 3);
        }
        17 => {
            let groups_names = vec!["g0".to_owned()];
            rig.send(Request::DeleteGroups(DeleteGroupsRequest { groups_names }), 2);
        }
        18 => {
            let name = "f".to_owned();
            let paused = pick(rng, 2) == 0;
            rig.admin_unanswered(AdminRequest::PauseTransform { name, paused });
        }
        _ => rig.sync(),
    }
}

fn outputs() -> Vec<Output> {
    vec![
        Output { topic: OutputTopic::Same, batch: parsed(&["kept"]) },
        Output { topic: OutputTopic::Named("routed".to_owned()), batch: parsed(&["elsewhere"]) },
    ]
}

impl Rig {
    fn create_topic_unanswered(&mut self, name: &str, partitions: i32) {
        use millpond_wire::messages::CreateTopicsRequest;
        use millpond_wire::messages::create_topics_request::CreatableTopic;
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        self.send(Request::CreateTopics(request), 7);
    }

    fn admin_unanswered(&mut self, request: AdminRequest) {
        let id = crate::AdminId(self.fresh());
        self.handle(crate::Event::Admin { id, by: None, request });
    }
}

/// Topic, partition, and its records with their offsets.
type Readable = (String, i32, Vec<(i64, String)>);

/// Everything that consumers can see.
fn visible(rig: &mut Rig) -> Vec<Readable> {
    let places: Vec<(String, i32, i64)> = rig
        .engine
        .catalog()
        .iter()
        .flat_map(|topic| {
            topic.keys().map(|key| {
                let start = topic.partitions[key.partition as usize].tail_start();
                (topic.name.clone(), key.partition, start)
            })
        })
        .collect();
    let read = |(topic, partition, start): (String, i32, i64)| {
        let records = rig.read(&topic, partition, start);
        (topic, partition, records)
    };
    places.into_iter().map(read).collect()
}

#[test]
fn after_any_history_the_journal_brings_back_what_was() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::new();
        rig.is_instant = false;
        rig.create_topic_unanswered("a", 3);
        rig.create_topic_unanswered("b", 3);
        let spec = crate::transform::TransformSpec {
            name: "f".to_owned(),
            topics: vec!["b".to_owned(), "c".to_owned()],
            ..crate::transform::TransformSpec::default()
        };
        rig.admin_unanswered(AdminRequest::DeployTransform(spec));
        let mut sequences = [0; 4];
        let mut snapshots = vec![None];
        for _ in 0..150 {
            step(&mut rig, &mut rng, &mut sequences);
            if rng.next_u64().is_multiple_of(40) {
                snapshots.push(Some(rig.engine.snapshot()));
            }
        }
        rig.sync();
        let lived = (rig.engine.snapshot(), visible(&mut rig));
        snapshots.push(Some(rig.engine.snapshot()));
        for (index, snapshot) in snapshots.into_iter().enumerate() {
            let from_start = snapshot.is_none();
            let mut again = rig.reborn(snapshot);
            assert_eq!(again.engine.snapshot(), lived.0, "seed {seed}, snapshot {index}");
            if from_start {
                assert_eq!(visible(&mut again), lived.1, "seed {seed}");
            }
        }
    }
}

#[test]
fn the_same_events_give_the_same_entries_byte_for_byte() {
    let run = || {
        let mut rng = Rng::new(99);
        let mut rig = Rig::new();
        let mut sequences = [0; 4];
        for _ in 0..500 {
            step(&mut rig, &mut rng, &mut sequences);
        }
        (rig.entries, format!("{:?}", rig.replies))
    };
    assert_eq!(run(), run());
}

#[test]
fn a_restart_shows_what_was_appended_and_keeps_the_answers_to_duplicates() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    let producer = Producer { id: 3, epoch: 0, sequence: 0 };
    let id = rig.send_batch("t", 0, batch(&["a", "b"], Some(producer)));
    assert_eq!(rig.produced(id).base_offset, 0);
    let snapshot = rig.engine.snapshot();
    rig.produce("t", 0, &["c"]);
    let mut rig = rig.reborn(Some(snapshot));
    let id = rig.send_batch("t", 0, batch(&["a", "b"], Some(producer)));
    assert_eq!((rig.produced(id).base_offset, rig.reads.len()), (0, 0));
    assert_eq!(rig.fetch("t", 0, 2).high_watermark, 3);
    assert_eq!(rig.read("t", 0, 2), [(2, "c".to_owned())]);
}

#[test]
fn a_missing_entry_and_a_gap_in_a_log_are_refused() {
    let mut rig = Rig::new();
    rig.create_topic("t", 1);
    rig.produce("t", 0, &["a"]);
    rig.produce("t", 0, &["b"]);
    let entry = |index: usize| {
        Entry::decode(EntrySeq(index as u64 + 1), rig.entries[index].clone()).expect("an entry")
    };
    let mut engine = Engine::new(EngineConfig::default(), 1);
    engine.replay(entry(0)).expect("the first");
    let missing = ReplayError::Missing { last: EntrySeq(1), found: EntrySeq(3) };
    assert_eq!(engine.replay(entry(2)), Err(missing));
    let mut shifted = entry(2);
    shifted.seq = EntrySeq(2);
    assert!(matches!(engine.replay(shifted), Err(ReplayError::Gap { log_end: 0, found: 1, .. })));
}

#[test]
fn bytes_of_a_newer_version_are_refused_by_name() {
    let mut entry = BytesMut::new();
    entry.put_u8(9);
    entry.put_slice(&[0; 12]);
    let newer = EntryError::Newer { what: "entry version", value: 9 };
    assert_eq!(Entry::decode(EntrySeq(1), entry.freeze()).map(|_| ()), Err(newer));
    let mut fact = BytesMut::new();
    fact.put_slice(&[crate::ENTRY_VERSION, 1, 200, 0]);
    let newer = EntryError::Newer { what: "fact", value: 200 };
    assert_eq!(Entry::decode(EntrySeq(1), fact.freeze()).map(|_| ()), Err(newer));
    let snapshot = Bytes::from_static(&[9, 0]);
    let refused = Engine::restore(EngineConfig::default(), 1, Some(snapshot)).map(|_| ());
    assert_eq!(refused, Err(SnapshotError::Newer(9)));
}

#[test]
fn damaged_bytes_are_errors_and_never_panics() {
    let mut rig = Rig::new();
    rig.create_topic("t", 2);
    rig.deploy("f", "t");
    rig.produce_through("t");
    let mut rng = Rng::new(5);
    let mut refused = 0;
    for round in 0..20_000_u64 {
        let which = (rng.next_u64() % rig.entries.len() as u64) as usize;
        let mut bytes = rig.entries[which].to_vec();
        let at = (rng.next_u64() % bytes.len() as u64) as usize;
        if round % 2 == 0 {
            bytes.truncate(at);
        } else {
            bytes[at] = rng.next_u64() as u8;
        }
        refused += u64::from(Entry::decode(EntrySeq(which as u64 + 1), bytes.into()).is_err());
        let mut snapshot = rig.engine.snapshot().to_vec();
        let at = (rng.next_u64() % snapshot.len() as u64) as usize;
        snapshot.truncate(at);
        let restored = Engine::restore(EngineConfig::default(), 1, Some(snapshot.into()));
        assert!(restored.is_err());
    }
    assert!(refused > 10_000);
}

impl Rig {
    fn produce_through(&mut self, topic: &str) {
        let producer = Producer { id: 3, epoch: 0, sequence: 0 };
        self.send_batch(topic, 0, batch(&["a", "b"], Some(producer)));
        let job = self.jobs.pop_front().expect("a job");
        self.finish(&job, TransformOutcome::Changed { outputs: outputs(), state: Vec::new() });
    }
}
