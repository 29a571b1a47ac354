//! Transactional workers: they move records from one partition to others with their group's offset,
//! commit, abort, take too long, die, and are replaced while they live.

use super::producer::batch_of;
use super::{Deck, nonsense, now_ns, succeeded};
use crate::checker::event::{Outcome, Place, Source, What};
use crate::dice::Dice;
use crate::kafka::{CallError, Kafka};
use bytes::Bytes;
use millpond_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millpond_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millpond_wire::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest,
    OffsetFetchRequest, ProduceRequest, Response, TxnOffsetCommitRequest,
};
use std::collections::BTreeMap;

/// What a worker does.
#[derive(Clone, Debug)]
pub struct WorkerPlan {
    /// Its transactional id, and its group.
    pub id: String,
    /// Speaks KIP-890.
    pub is_v2: bool,
    /// What it consumes.
    pub source: Place,
    /// What it writes to.
    pub targets: Vec<Place>,
    /// How long its transactions may take.
    pub timeout_ms: i32,
}

/// Before KIP-890 nothing but time tells a late request from one of the next transaction.
const SILENCE_MS: u64 = 100;

struct Worker {
    deck: Deck,
    dice: Dice,
    plan: WorkerPlan,
    kafka: Option<Kafka>,
    instance: u64,
    producer: (i64, i16),
    sequences: BTreeMap<Place, i32>,
    position: i64,
    count: u64,
}

/// The transaction cannot go on: a new instance begins where the group is.
struct GiveUp;

/// How a try to end a transaction went.
enum End {
    Done,
    Refused { is_first_try: bool },
    Lost,
}

pub(super) fn run(deck: Deck, dice: Dice, plan: WorkerPlan) {
    let mut worker = Worker {
        deck,
        dice,
        plan,
        kafka: None,
        instance: 0,
        producer: (-1, -1),
        sequences: BTreeMap::new(),
        position: 0,
        count: 0,
    };
    while worker.start().is_some() {
        while !worker.deck.is_over() && worker.transact().is_ok() {}
        if worker.deck.is_over() {
            // What is open is aborted, and the group says where it stands.
            worker.start();
            return;
        }
    }
}

impl Worker {
    fn start(&mut self) -> Option<()> {
        let begin_ns = now_ns();
        self.instance += 1;
        let request = InitProducerIdRequest {
            transactional_id: Some(self.plan.id.clone()),
            transaction_timeout_ms: self.plan.timeout_ms,
            producer_id: -1,
            producer_epoch: -1,
        };
        self.producer = self.deck.insist(&mut self.kafka, |kafka| {
            match kafka.call(4, request.clone().into())? {
                Response::InitProducerId(answer) => succeeded(answer.error_code)
                    .map(|()| (answer.producer_id, answer.producer_epoch)),
                _ => nonsense("not an init producer id response"),
            }
        })?;
        self.sequences.clear();
        let (id, instance) = (self.plan.id.clone(), self.instance);
        self.deck.note(&self.plan.id, begin_ns, What::Init { id, instance });
        let begin_ns = now_ns();
        let (group, source) = (self.plan.id.clone(), self.plan.source.clone());
        let found = self.deck.insist(&mut self.kafka, |kafka| stable(kafka, &group, &source))?;
        let what = What::Fetched { group, place: source, offset: found };
        self.deck.note(&self.plan.id, begin_ns, what);
        self.position = found.max(0);
        Some(())
    }

    fn transact(&mut self) -> Result<(), GiveUp> {
        let (source, from, begin_ns) = (self.plan.source.clone(), self.position, now_ns());
        let poll = |kafka: &mut Kafka| kafka.poll(&source, from, true, 400);
        let Ok(polled) = self.deck.call(&mut self.kafka, poll) else {
            self.deck.pause_ms(20);
            return Ok(());
        };
        self.deck.note(
            &self.plan.id,
            begin_ns,
            What::Poll {
                place: source,
                is_committed: true,
                from,
                next: polled.next,
                records: polled.records.clone(),
                group: None,
            },
        );
        if polled.records.is_empty() {
            // Markers and aborted records only, or nothing: it need not look at them again.
            self.position = polled.next;
            self.deck.pause_ms(5);
            return Ok(());
        }
        self.count += 1;
        let txn = format!("{}.{}.{}", self.plan.id, self.instance, self.count);
        self.write(&txn, &polled.records)?;
        let commit_ns = now_ns();
        self.commit_offset(polled.next)?;
        match self.dice.within(0, 100) {
            0..66 => self.commit(&txn, polled.next, commit_ns),
            66..80 => self.end(&txn, false).map(drop),
            80..87 => {
                self.deck.pause_ms(self.plan.timeout_ms as u64 + 50);
                self.commit(&txn, polled.next, commit_ns)
            }
            87..94 => self.be_replaced(&txn, polled.next, commit_ns),
            _ => Err(GiveUp),
        }
    }

    /// One value for each source record, spread over the targets.
    fn write(&mut self, txn: &str, records: &[(i64, String)]) -> Result<(), GiveUp> {
        let mut spread: BTreeMap<Place, Vec<(i64, String)>> = BTreeMap::new();
        for (offset, _) in records {
            let target = self.dice.within(0, self.plan.targets.len() as u64) as usize;
            let value = format!("{txn}/{offset}");
            spread.entry(self.plan.targets[target].clone()).or_default().push((*offset, value));
        }
        if !self.plan.is_v2 {
            let places: Vec<&Place> = spread.keys().collect();
            let request = self.add_partitions(&places);
            self.insist(|kafka| match kafka.call(3, request.clone().into())? {
                Response::AddPartitionsToTxn(answer) => {
                    let topics = answer.results_by_topic_v3_and_below.iter();
                    let mut all = topics.flat_map(|topic| &topic.results_by_partition);
                    let bad = all.find(|one| one.partition_error_code != 0);
                    succeeded(bad.map_or(0, |one| one.partition_error_code))
                }
                _ => nonsense("not an add partitions response"),
            })?;
        }
        for (target, values) in spread {
            self.produce(txn, &target, values)?;
        }
        Ok(())
    }

    fn produce(
        &mut self,
        txn: &str,
        place: &Place,
        values: Vec<(i64, String)>,
    ) -> Result<(), GiveUp> {
        let begin_ns = now_ns();
        let next = self.sequences.entry(place.clone()).or_default();
        let texts: Vec<String> = values.iter().map(|(_, value)| value.clone()).collect();
        let batch = batch_of(self.producer, *next, &texts, true);
        *next += values.len() as i32;
        let request = produce_request(&self.plan.id, place, batch);
        let version = if self.plan.is_v2 { 12 } else { 9 };
        let base = self.insist(|kafka| match kafka.call(version, request.clone().into())? {
            Response::Produce(answer) => {
                let partition = &answer.responses[0].partition_responses[0];
                succeeded(partition.error_code).map(|()| partition.base_offset)
            }
            _ => nonsense("not a produce response"),
        });
        for (index, (offset, value)) in (0..).zip(values) {
            let source =
                Source { group: self.plan.id.clone(), place: self.plan.source.clone(), offset };
            self.deck.note(
                &self.plan.id,
                begin_ns,
                What::Send {
                    place: place.clone(),
                    value,
                    outcome: if base.is_ok() { Outcome::Ok } else { Outcome::Unknown },
                    offset: base.as_ref().ok().map(|base| base + index),
                    txn: Some(txn.to_owned()),
                    source: Some(source),
                },
            );
        }
        base.map(drop)
    }

    fn commit_offset(&mut self, offset: i64) -> Result<(), GiveUp> {
        if !self.plan.is_v2 {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.plan.id.clone(),
                producer_id: self.producer.0,
                producer_epoch: self.producer.1,
                group_id: self.plan.id.clone(),
            };
            self.insist(|kafka| match kafka.call(3, request.clone().into())? {
                Response::AddOffsetsToTxn(answer) => succeeded(answer.error_code),
                _ => nonsense("not an add offsets response"),
            })?;
        }
        let (topic, partition_index) = self.plan.source.clone();
        let partition = TxnOffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            ..Default::default()
        };
        let topic = TxnOffsetCommitRequestTopic { name: topic, partitions: vec![partition] };
        let request = TxnOffsetCommitRequest {
            transactional_id: self.plan.id.clone(),
            group_id: self.plan.id.clone(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            generation_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let version = if self.plan.is_v2 { 5 } else { 3 };
        self.insist(|kafka| match kafka.call(version, request.clone().into())? {
            Response::TxnOffsetCommit(answer) => {
                succeeded(answer.topics[0].partitions[0].error_code)
            }
            _ => nonsense("not an offset commit response"),
        })
    }

    fn commit(&mut self, txn: &str, offset: i64, begin_ns: u64) -> Result<(), GiveUp> {
        let outcome = self.end(txn, true)?;
        self.note_commit(offset, begin_ns, outcome);
        if outcome != Outcome::Ok {
            return Err(GiveUp);
        }
        self.position = offset;
        self.deck.progress.count();
        Ok(())
    }

    fn note_commit(&self, offset: i64, begin_ns: u64, outcome: Outcome) {
        let (group, place) = (self.plan.id.clone(), self.plan.source.clone());
        let what = What::Commit { group, place, offset, by: None, outcome };
        self.deck.note(&self.plan.id, begin_ns, what);
    }

    /// Ends the transaction and goes on as it is told.
    fn end(&mut self, txn: &str, is_commit: bool) -> Result<Outcome, GiveUp> {
        let begin_ns = now_ns();
        let end = self.try_to_end(is_commit);
        let outcome = match end {
            End::Done => Outcome::Ok,
            // It was never asked before: nothing can have committed it.
            End::Refused { is_first_try: true } => Outcome::Failed,
            End::Refused { .. } | End::Lost => Outcome::Unknown,
        };
        self.deck.note(
            &self.plan.id,
            begin_ns,
            What::EndTxn {
                id: self.plan.id.clone(),
                instance: self.instance,
                txn: txn.to_owned(),
                is_commit,
                outcome,
            },
        );
        match (is_commit, outcome) {
            (false, Outcome::Failed | Outcome::Unknown) => Err(GiveUp),
            _ => Ok(outcome),
        }
    }

    fn try_to_end(&mut self, is_commit: bool) -> End {
        let request = EndTxnRequest {
            transactional_id: self.plan.id.clone(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            committed: is_commit,
        };
        let version = if self.plan.is_v2 { 5 } else { 3 };
        let mut is_first_try = true;
        for _ in 0..200 {
            let answer = self.deck.call(&mut self.kafka, |kafka| {
                match kafka.call(version, request.clone().into())? {
                    Response::EndTxn(answer) => succeeded(answer.error_code)
                        .map(|()| (answer.producer_id, answer.producer_epoch)),
                    _ => nonsense("not an end response"),
                }
            });
            match answer {
                Ok(next) => {
                    if self.plan.is_v2 {
                        self.producer = next;
                        self.sequences.clear();
                    }
                    return End::Done;
                }
                Err(CallError::Code(code)) if !code.is_retriable() => {
                    return End::Refused { is_first_try };
                }
                // A refusal that may pass has done nothing.
                Err(CallError::Code(_)) => {}
                Err(_) => is_first_try = false,
            }
            if self.dice.within(0, 20) == 0 {
                return End::Lost;
            }
            self.deck.pause_ms(if self.plan.is_v2 { 10 } else { SILENCE_MS });
        }
        End::Lost
    }

    /// Another instance takes over; then the old one tries to commit.
    fn be_replaced(&mut self, txn: &str, offset: i64, begin_ns: u64) -> Result<(), GiveUp> {
        let old = (self.producer, std::mem::take(&mut self.sequences), self.instance);
        self.start().ok_or(GiveUp)?;
        let new = (self.producer, std::mem::take(&mut self.sequences), self.instance);
        (self.producer, self.sequences, self.instance) = old;
        let outcome = self.end(txn, true);
        (self.producer, self.sequences, self.instance) = new;
        self.note_commit(offset, begin_ns, outcome.unwrap_or(Outcome::Unknown));
        Ok(())
    }

    fn add_partitions(&self, places: &[&Place]) -> AddPartitionsToTxnRequest {
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in places {
            topics.entry(topic.clone()).or_default().push(*partition);
        }
        let topics = topics.into_iter();
        let topics = topics.map(|(name, partitions)| AddPartitionsToTxnTopic { name, partitions });
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.plan.id.clone(),
            v3_and_below_producer_id: self.producer.0,
            v3_and_below_producer_epoch: self.producer.1,
            v3_and_below_topics: topics.collect(),
            ..Default::default()
        }
    }

    /// Sends until it is done; now and then it dies instead.
    fn insist<T>(
        &mut self,
        mut call: impl FnMut(&mut Kafka) -> Result<T, CallError>,
    ) -> Result<T, GiveUp> {
        for _ in 0..400 {
            match self.deck.call(&mut self.kafka, &mut call) {
                Ok(answer) => return Ok(answer),
                Err(CallError::Code(code)) if !code.is_retriable() => return Err(GiveUp),
                Err(_) if self.dice.within(0, 30) == 0 => return Err(GiveUp),
                Err(_) => self.deck.pause_ms(if self.plan.is_v2 { 10 } else { SILENCE_MS }),
            }
        }
        Err(GiveUp)
    }
}

/// The offset of a group, when no transaction can change it any more.
fn stable(kafka: &mut Kafka, group: &str, place: &Place) -> Result<i64, CallError> {
    let topic = OffsetFetchRequestTopic { name: place.0.clone(), partition_indexes: vec![place.1] };
    let request = OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(vec![topic]),
        require_stable: true,
        ..Default::default()
    };
    let Response::OffsetFetch(answer) = kafka.call(7, request.into())? else {
        return nonsense("not an offset fetch response");
    };
    succeeded(answer.error_code)?;
    let found = &answer.topics[0].partitions[0];
    succeeded(found.error_code).map(|()| found.committed_offset)
}

fn produce_request(id: &str, place: &Place, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index: place.1, records: Some(batch) };
    let topic = TopicProduceData {
        name: place.0.clone(),
        partition_data: vec![data],
        ..Default::default()
    };
    ProduceRequest {
        transactional_id: Some(id.to_owned()),
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
    }
}
