//! The task that sends what a spill holds: one window after the other, each until it is settled.
//!
//! What to do is the ledger's to say; this reads, asks and sends. A window that met trouble is read and
//! sent again as it was, after a pause that grows and moves by chance.

use super::ledger::{Next, Outcome, Window, assemble, judge};
use super::store::Batch;
use super::{Shared, SpillError, lock};
use crate::connection::Connection;
use crate::error::{CallError, ClientError};
use crate::path::jittered;
use crate::producer::{PRODUCE_BY_NAME, ProducerId, Record, Verdict, new_producer_id, produce};
use bytes::Bytes;
use futures::future::join_all;
use millpond_wire::ApiKey;
use millpond_wire::messages::{Request, Response};
use millpond_wire::record::{BatchBuilder, Header};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// Why a window is not settled yet.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Store(#[from] SpillError),
    #[error("{topic}/{partition}: {why}")]
    NotYet { topic: Arc<str>, partition: i32, why: String },
}

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    let is_replayed = lock(&shared.store).ledger.window.is_some();
    let mut drain = Drain { shared, lanes: HashMap::new(), is_tried: is_replayed };
    let mut failures = 0u32;
    loop {
        match drain.step().await {
            Ok(true) => failures = 0,
            Ok(false) => drain.shared.drain.notified().await,
            Err(trouble) => {
                tracing::debug!(%trouble, failures, "the spill waits");
                lock(&drain.shared.counts).retries += 1;
                drain.lanes.retain(|_, lane| !lane.is_closed());
                let settings = &drain.shared.settings;
                let pause = settings.retry_backoff.saturating_mul(1 << failures.min(16));
                let chance = RandomState::new().build_hasher().finish();
                tokio::time::sleep(jittered(pause.min(settings.retry_backoff_max), chance)).await;
                failures = failures.saturating_add(1);
            }
        }
    }
}

struct Drain {
    shared: Arc<Shared>,
    lanes: HashMap<i32, Connection>,
    /// The window may have been written already.
    is_tried: bool,
}

impl Drain {
    /// Settles one window. False: there is none.
    async fn step(&mut self) -> Result<bool, Trouble> {
        let (batch, window) = self
            .shared
            .on_store(|store| Ok((store.next_batch()?, store.ledger.window.clone())))
            .await?;
        if batch.records.is_empty() {
            return Ok(false);
        }
        self.learn(&batch).await?;
        let window = match window {
            Some(window) => window,
            None => match self.stamp(&batch).await? {
                Some(window) => window,
                // Dropped for room in between: there are others.
                None => return Ok(true),
            },
        };
        let outcomes = self.settle(window, &batch).await?;
        self.finish(batch, outcomes).await?;
        Ok(true)
    }

    /// Asks for the topics that are not known.
    async fn learn(&self, batch: &Batch) -> Result<(), Trouble> {
        let client = &self.shared.client;
        let cluster = client.cluster();
        let topics: BTreeSet<&Arc<str>> = batch.records.iter().map(|(_, r)| &r.topic).collect();
        let unknown = topics.into_iter().filter(|topic| cluster.partitions(topic).is_none());
        let unknown: Vec<Arc<str>> = unknown.cloned().collect();
        if !unknown.is_empty() {
            client.refresh(&unknown, true).await?;
        }
        Ok(())
    }

    /// Decides where the records go and under which numbers, and makes that durable.
    async fn stamp(&mut self, batch: &Batch) -> Result<Option<Window>, Trouble> {
        let cluster = self.shared.client.cluster();
        let mut partitions = BTreeMap::new();
        for (_, record) in &batch.records {
            let count = cluster.partitions(&record.topic).unwrap_or(0);
            partitions.insert(Arc::clone(&record.topic), count);
        }
        let known = lock(&self.shared.store).usable_producer();
        let producer = match known {
            Some(producer) => producer,
            None => new_producer_id(&self.shared.client).await?,
        };
        let planned = lock(&self.shared.store).ledger.plan(producer, &batch.records, partitions);
        let Some(window) = planned else { return Ok(None) };
        self.is_tried = false;
        self.put(window, batch.drops).await
    }

    async fn put(&self, window: Window, drops: u64) -> Result<Option<Window>, Trouble> {
        let durable = window.clone();
        let is_there = self.shared.on_store(move |store| store.stamp(durable, drops)).await?;
        Ok(is_there.then_some(window))
    }

    /// Sends the window, under new stamps if the broker has forgotten the old ones.
    async fn settle(&mut self, mut window: Window, batch: &Batch) -> Result<Vec<Outcome>, Trouble> {
        loop {
            let nexts = self.try_once(&window, &batch.records).await?;
            let outcomes: Vec<Outcome> = nexts
                .iter()
                .map(|next| match next {
                    Next::Settled(outcome) => *outcome,
                    _ => Outcome::Open,
                })
                .collect();
            if !nexts.contains(&Next::Restamp) {
                return Ok(outcomes);
            }
            if self.is_tried {
                let lost = window.groups.iter().zip(&nexts);
                let lost = lost.filter(|(_, next)| **next == Next::Restamp);
                let records: u64 = lost.map(|(group, _)| u64::from(group.records)).sum();
                lock(&self.shared.counts).records_in_doubt += records;
                tracing::warn!(
                    records,
                    "the broker has forgotten this producer: some may stand twice"
                );
            }
            let producer = new_producer_id(&self.shared.client).await?;
            self.is_tried = false;
            match self.put(window.restamped(producer, &outcomes), batch.drops).await? {
                Some(restamped) => window = restamped,
                None => return Ok(outcomes),
            }
        }
    }

    /// One try of all groups that are open.
    async fn try_once(
        &mut self,
        window: &Window,
        records: &[(u64, Record)],
    ) -> Result<Vec<Next>, Trouble> {
        let mut nexts: Vec<Next> =
            window.groups.iter().map(|group| Next::Settled(group.outcome)).collect();
        let mut by_leader: BTreeMap<i32, Vec<(usize, Bytes)>> = BTreeMap::new();
        let assembled = assemble(window, records);
        for (at, group) in window.groups.iter().enumerate() {
            if group.outcome != Outcome::Open {
                continue;
            }
            let place = (Arc::clone(&group.topic), group.partition);
            let members = assembled.get(&place).map(Vec::as_slice).unwrap_or_default();
            let Some(bytes) = self.encode(window.producer, group.base_sequence, members) else {
                nexts[at] = Next::Settled(Outcome::Refused);
                continue;
            };
            let leader = self.leader(&group.topic, group.partition).await?;
            by_leader.entry(leader).or_default().push((at, bytes));
        }
        for leader in by_leader.keys() {
            self.lane(*leader).await?;
        }
        // From here on the broker may have it.
        let calls = by_leader.iter().map(|(leader, parcels)| self.call(*leader, parcels, window));
        let answers = join_all(calls).await;
        let is_first = !std::mem::replace(&mut self.is_tried, true);
        let mut waiting = None;
        for verdicts in answers {
            for (at, verdict) in verdicts? {
                let next = judge(&verdict);
                self.note(window, at, &verdict, next);
                if next == Next::Again {
                    waiting = Some((at, verdict));
                }
                nexts[at] = next;
            }
        }
        if let Some((at, verdict)) = waiting {
            let group = &window.groups[at];
            // The leader may be another one.
            self.shared.client.refresh(std::slice::from_ref(&group.topic), false).await?;
            let (topic, partition) = (Arc::clone(&group.topic), group.partition);
            return Err(Trouble::NotYet { topic, partition, why: format!("{verdict:?}") });
        }
        // Every group was answered: what the broker did not know, it did not write.
        self.is_tried = !is_first;
        Ok(nexts)
    }

    fn note(&self, window: &Window, at: usize, verdict: &Verdict, next: Next) {
        if next != Next::Settled(Outcome::Refused) {
            return;
        }
        if let Some(group) = window.groups.get(at) {
            tracing::warn!(
                topic = %group.topic, partition = group.partition, records = group.records,
                ?verdict, "refused for good, dropped"
            );
        }
    }

    fn encode(
        &self,
        producer: ProducerId,
        base_sequence: i32,
        records: &[&Record],
    ) -> Option<Bytes> {
        let mut builder = BatchBuilder::new(self.shared.settings.codec, None);
        for record in records {
            let headers: Vec<Header<'_>> =
                record.headers.iter().map(crate::producer::header).collect();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.push(record.timestamp_ms.unwrap_or(0), key, value, &headers).ok()?;
        }
        builder.set_producer(producer.id, producer.epoch, base_sequence);
        builder.build().ok()
    }

    async fn leader(&self, topic: &Arc<str>, partition: i32) -> Result<i32, Trouble> {
        let client = &self.shared.client;
        if let Some(leader) = client.cluster().leader(topic, partition) {
            return Ok(leader);
        }
        let cluster = client.refresh(std::slice::from_ref(topic), false).await?;
        cluster.leader(topic, partition).ok_or_else(|| Trouble::NotYet {
            topic: Arc::clone(topic),
            partition,
            why: "it has no leader".to_owned(),
        })
    }

    async fn lane(&mut self, leader: i32) -> Result<(), Trouble> {
        if self.lanes.get(&leader).is_none_or(Connection::is_closed) {
            let lane = self.shared.client.lane(leader).await?;
            self.lanes.insert(leader, lane);
        }
        Ok(())
    }

    async fn call(
        &self,
        leader: i32,
        parcels: &[(usize, Bytes)],
        window: &Window,
    ) -> Result<Vec<(usize, Verdict)>, Trouble> {
        let Some(lane) = self.lanes.get(&leader) else {
            return Err(ClientError::NotFound { what: format!("broker {leader}") }.into());
        };
        let api = ApiKey::Produce;
        let version = lane.version_up_to(api, PRODUCE_BY_NAME);
        let version =
            version.ok_or_else(|| CallError::Unsupported { broker: lane.broker().clone(), api })?;
        let timeout = self.shared.client.config().request_timeout;
        let batches = parcels.iter().filter_map(|(at, bytes)| {
            let group = window.groups.get(*at)?;
            Some((&group.topic, group.partition, bytes))
        });
        let request = produce(None, -1, timeout, batches);
        let response = match lane.call_version(Request::Produce(request), version).await? {
            Response::Produce(response) => response,
            _ => return Err(lane.unexpected(api, "another API's response").into()),
        };
        let mut verdicts = Vec::new();
        for (at, _) in parcels {
            let Some(group) = window.groups.get(*at) else { continue };
            let topic = response.responses.iter().find(|topic| topic.name == *group.topic);
            let answer = topic.and_then(|topic| {
                topic.partition_responses.iter().find(|answer| answer.index == group.partition)
            });
            let verdict = answer.map(Verdict::of_response).unwrap_or_else(|| Verdict::Retry {
                uncertain: true,
                why: "the broker's answer leaves the partition out".into(),
            });
            verdicts.push((*at, verdict));
        }
        Ok(verdicts)
    }

    /// Counts, and makes room.
    async fn finish(&mut self, batch: Batch, outcomes: Vec<Outcome>) -> Result<(), Trouble> {
        let total = batch.records.len() as u64;
        let window = lock(&self.shared.store).ledger.window.clone().unwrap_or_default();
        let with = |wanted: Outcome| -> u64 {
            let groups = window.groups.iter().zip(&outcomes);
            let groups = groups.filter(|(_, outcome)| **outcome == wanted);
            groups.map(|(group, _)| u64::from(group.records)).sum()
        };
        let written = with(Outcome::Written);
        self.shared.on_store(move |store| store.done(&outcomes, total, batch.end)).await?;
        self.is_tried = false;
        {
            let mut counts = lock(&self.shared.counts);
            counts.records_delivered += written;
            // Those for partitions that do not exist are in no group.
            counts.records_refused += total.saturating_sub(written);
        }
        self.shared.report().await;
        Ok(())
    }
}
