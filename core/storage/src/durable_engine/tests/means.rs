//! A transform with state as a worker runs it, played by a test: for each key how many numbers came and
//! their sum; every third one goes out, and what has not gone out does when time passes. Its memory is
//! a cache that a test may take away between any two steps.

use std::collections::BTreeMap;

use bytes::Bytes;
use millpond_engine::transform::{Output, OutputTopic, StateBatch, TransformJob, TransformOutcome};
use millpond_engine::{Event, PartitionKey, TransformId, read_state, state_batches};
use millpond_wire::ErrorCode;
use millpond_wire::record::{Batch, BatchBuilder, Codec};

use super::rig::Node;
use crate::disk::sim::SimRng;

/// Where the sums go.
pub(super) const OUT: &str = "sums";
/// A sum goes out with every so many numbers of a key.
pub(super) const EVERY: u64 = 3;

/// Of one key: numbers so far, their sum, and how many there were when it last went out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mean {
    pub(super) count: u64,
    pub(super) sum: u64,
    pub(super) told: u64,
}

/// The worker of one line of jobs.
#[derive(Default)]
struct Desk {
    chain: Vec<TransformId>,
    epoch: u64,
    /// `None`: to be read before the next run.
    state: Option<BTreeMap<Bytes, Bytes>>,
    job: Option<TransformJob>,
    /// Read so far for the job, and whether the next page is on its way.
    reading: (BTreeMap<Bytes, Bytes>, bool),
}

/// All workers of a node.
#[derive(Default)]
pub(super) struct Workers {
    /// Of a partition's inline chain, or of one version that derives from it: as in the node, where a
    /// version that comes back may find what it remembered.
    desks: BTreeMap<(PartitionKey, Option<TransformId>), Desk>,
    pub(super) tally: Tally,
}

/// What the workers did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) runs: u64,
    pub(super) idle_runs: u64,
    pub(super) reads: u64,
    pub(super) forgotten: u64,
    pub(super) refused: u64,
    pub(super) spoiled: u64,
}

impl Workers {
    /// One step of whoever has something to do, chosen by chance. False: nobody has.
    pub(super) fn step(&mut self, node: &Node, rng: &mut SimRng, is_gentle: bool) -> bool {
        while let Some(job) = node.work.jobs.borrow_mut().pop_front() {
            let version = job.is_derived.then(|| job.chain[0]);
            let desk = self.desks.entry((job.partition, version)).or_default();
            assert!(desk.job.is_none(), "two jobs of a line with state are under way");
            desk.job = Some(job);
        }
        let busy: Vec<_> =
            self.desks.iter().filter(|(_, desk)| desk.job.is_some()).map(|(key, _)| *key).collect();
        if busy.is_empty() {
            return false;
        }
        let key = busy[rng.below(busy.len() as u64) as usize];
        if let Some(desk) = self.desks.get_mut(&key) {
            desk.step(node, rng, is_gentle, &mut self.tally);
        }
        true
    }

    /// Memory is lost, of all or of one.
    pub(super) fn forget(&mut self, rng: &mut SimRng) {
        let one = rng.below(self.desks.len().max(1) as u64 + 1) as usize;
        for (index, desk) in self.desks.values_mut().enumerate() {
            if index == one || one == 0 {
                desk.state = None;
                self.tally.forgotten += 1;
            }
        }
    }
}

impl Desk {
    fn step(&mut self, node: &Node, rng: &mut SimRng, is_gentle: bool, tally: &mut Tally) {
        let Some(job) = &self.job else { return };
        if self.chain != job.chain || self.epoch != job.state_epoch {
            (self.chain, self.epoch, self.state) = (job.chain.clone(), job.state_epoch, None);
        }
        if self.state.is_none() {
            return self.read(node, tally);
        }
        let Some(job) = self.job.take() else { return };
        if !is_gentle && rng.chance(60) {
            // The module refused; its state is as it was.
            tally.refused += 1;
            let code = ErrorCode::InvalidRecord;
            let outcome = TransformOutcome::Rejected { code, message: "by chance".to_owned() };
            return node.engine.submit(Event::Transformed { ticket: job.ticket, outcome });
        }
        tally.runs += 1;
        tally.idle_runs += u64::from(job.batch.is_none());
        let mut outcome = self.run(&job);
        if !is_gentle && rng.chance(60) {
            // What cannot be committed; the state in memory is ahead of the journal.
            tally.spoiled += 1;
            let topic = OutputTopic::Named("no/where".to_owned());
            let batch = sums([("k", "v".to_owned())]).expect("one");
            outcome = match outcome {
                TransformOutcome::Changed { mut outputs, state } => {
                    outputs.push(Output { topic, batch });
                    TransformOutcome::Changed { outputs, state }
                }
                other => other,
            };
        }
        node.engine.submit(Event::Transformed { ticket: job.ticket, outcome });
    }

    fn read(&mut self, node: &Node, tally: &mut Tally) {
        let Some(job) = &self.job else { return };
        let (ticket, transform) = (job.ticket, job.chain[0]);
        let mut from = 0;
        if self.reading.1 {
            let Some(page) = node.work.pages.borrow_mut().remove(&ticket) else { return };
            self.reading.1 = false;
            match page {
                Ok(page) => {
                    read_state(&page.records, &mut self.reading.0).expect("whole batches");
                    if page.is_end {
                        self.state = Some(std::mem::take(&mut self.reading.0));
                        return;
                    }
                    from = page.next;
                }
                // From the beginning, some time later.
                Err(_) => self.reading.0.clear(),
            }
        } else {
            self.reading.0.clear();
        }
        tally.reads += 1;
        self.reading.1 = true;
        node.engine.submit(Event::ReadState { ticket, transform, from });
    }

    fn run(&mut self, job: &TransformJob) -> TransformOutcome {
        let Some(state) = &mut self.state else { unreachable!("read before") };
        let mut changed: BTreeMap<String, Mean> = BTreeMap::new();
        let mut out = Vec::new();
        match &job.batch {
            Some(batch) => {
                for (key, number) in numbers_of(batch) {
                    let mean = changed.entry(key.clone()).or_insert_with(|| mean_of(state, &key));
                    mean.count += 1;
                    mean.sum += number;
                    if mean.count.is_multiple_of(EVERY) {
                        mean.told = mean.count;
                        out.push((key, format!("{}:{}", mean.count, mean.sum)));
                    }
                }
            }
            None => {
                for (key, value) in state.iter() {
                    let key = String::from_utf8_lossy(key).into_owned();
                    let mut mean = decode(value);
                    if mean.told < mean.count {
                        mean.told = mean.count;
                        out.push((key.clone(), format!("{}:{}", mean.count, mean.sum)));
                        changed.insert(key, mean);
                    }
                }
            }
        }
        let changed: Vec<(Bytes, Bytes)> =
            changed.into_iter().map(|(key, mean)| (Bytes::from(key), encode(mean))).collect();
        state.extend(changed.iter().cloned());
        let changes = changed.iter().map(|(key, value)| (&key[..], Some(&value[..])));
        let state: Vec<StateBatch> = state_batches(job.chain[0], changes, 1).expect("small");
        let out = sums(out.iter().map(|(key, value)| (key.as_str(), value.clone())));
        let out = out.map(|batch| Output { topic: OutputTopic::ByKey(OUT.to_owned()), batch });
        // The numbers themselves go no further.
        TransformOutcome::Changed { outputs: out.into_iter().collect(), state }
    }
}

fn mean_of(state: &BTreeMap<Bytes, Bytes>, key: &str) -> Mean {
    state.get(key.as_bytes()).map(|value| decode(value)).unwrap_or_default()
}

/// As a changelog has it: expiry, count, sum, told.
fn encode(mean: Mean) -> Bytes {
    let fields = [0, mean.count, mean.sum, mean.told];
    fields.iter().flat_map(|field| field.to_le_bytes()).collect::<Vec<u8>>().into()
}

fn decode(value: &[u8]) -> Mean {
    let mut fields = value
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
    let mut next = || fields.next().expect("four numbers");
    assert_eq!(next(), 0, "it never expires");
    Mean { count: next(), sum: next(), told: next() }
}

fn sums<'a>(records: impl IntoIterator<Item = (&'a str, String)>) -> Option<Batch> {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for (key, value) in records {
        let pushed = builder.push(1_000, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        pushed.expect("a small record");
    }
    (!builder.is_empty()).then(|| builder.build_batch().expect("a small batch"))
}

fn numbers_of(batch: &Batch) -> Vec<(String, u64)> {
    let section = batch.decompress(1 << 20).expect("records");
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.expect("given")).into_owned();
    let records = batch.records(&section).map(|record| record.expect("a record"));
    records.map(|record| (text(record.key), number(&text(record.value)))).collect()
}

/// The number that a value begins with; the rest only takes room.
pub(super) fn number(value: &str) -> u64 {
    value.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}
