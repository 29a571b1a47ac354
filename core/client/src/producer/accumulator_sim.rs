//! The accumulator against a broker that loses answers, refuses, changes its mind and lets old
//! requests arrive late, over one lane or several that overtake each other. A seed makes a run; a
//! failing run prints it.
//!
//! What must hold, whatever happens: what is said to be delivered stands in the log once, where it
//! was said to stand; what is said not to be written does not stand there; nothing stands there
//! twice; what is delivered of a partition stands in the order in which it was sent.

use super::accumulator::{Accumulator, Parcel, Policy, Shipment};
use super::batch::ProducerId;
use super::delivery::{DeliveryError, DeliveryFuture};
use super::lane::{Lane, LaneId, Leader};
use super::record::Record;
use super::verdict::Verdict;
use crate::producer::delivery::Written;
use futures::FutureExt;
use millpond_wire::ErrorCode;
use millpond_wire::record::{Batch, Codec, sequence_add};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

const PARTITIONS: i32 = 3;
const BROKER: i32 = 1;

fn policy() -> Policy {
    Policy {
        codec: Codec::None,
        level: None,
        batch_bytes: 250,
        linger_ms: 5,
        delivery_ms: 3_000,
        retry_backoff_ms: 10,
        retry_backoff_max_ms: 100,
        request_bytes: 600,
        in_flight_per_partition: 5,
        is_idempotent: true,
        is_transactional: false,
        retries: u32::MAX,
    }
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The partition leader: Kafka's rules for sequence numbers.
#[derive(Default)]
struct Broker {
    logs: BTreeMap<i32, Vec<u64>>,
    producers: HashMap<(i32, i64), ProducerState>,
}

struct ProducerState {
    epoch: i16,
    batches: VecDeque<(i32, i32, i64)>,
}

impl Broker {
    fn produce(&mut self, partition: i32, raw: &bytes::Bytes) -> Verdict {
        let batch = Batch::parse(raw.clone()).unwrap();
        let header = *batch.header();
        let last = sequence_add(header.base_sequence, header.last_offset_delta);
        let log = self.logs.entry(partition).or_default();
        let state = self.producers.entry((partition, header.producer_id));
        let state = state.or_insert(ProducerState { epoch: -1, batches: VecDeque::new() });
        if header.producer_epoch < state.epoch {
            let why = "stale epoch".into();
            return Verdict::ProducerUnknown { why };
        }
        if header.producer_epoch > state.epoch {
            if header.base_sequence != 0 {
                return Verdict::OutOfOrder;
            }
            state.epoch = header.producer_epoch;
            state.batches.clear();
        }
        let same =
            |(base, end, _): &&(i32, i32, i64)| (*base, *end) == (header.base_sequence, last);
        let base_offset = if let Some((_, _, offset)) = state.batches.iter().find(same) {
            *offset
        } else {
            let next = state.batches.back().map_or(0, |(_, end, _)| sequence_add(*end, 1));
            if header.base_sequence != next {
                return Verdict::OutOfOrder;
            }
            let base_offset = i64::try_from(log.len()).unwrap();
            let section = batch.decompress(1 << 20).unwrap();
            log.extend(
                batch.records(&section).map(|record| number(record.unwrap().value.unwrap())),
            );
            state.batches.push_back((header.base_sequence, last, base_offset));
            if state.batches.len() > 5 {
                state.batches.pop_front();
            }
            base_offset
        };
        Verdict::Delivered(Written { base_offset: Some(base_offset), log_append_time_ms: None })
    }
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

struct Sim {
    rng: Rng,
    now_ms: u64,
    accumulator: Accumulator,
    broker: Broker,
    /// Requests on the present connection, in order.
    /// How many lanes there may be; a client that falls back from QUIC has one from then on.
    lanes: usize,
    lines: BTreeMap<LaneId, VecDeque<Shipment>>,
    /// Requests of lost connections that may still arrive, in the order of each connection.
    ghosts: Vec<VecDeque<Parcel>>,
    sent: Vec<(i32, u64, DeliveryFuture)>,
    next_number: u64,
    next_producer: i64,
}

impl Sim {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now_ms: 0,
            accumulator: Accumulator::new(policy()),
            broker: Broker::default(),
            lanes: 2,
            lines: BTreeMap::new(),
            ghosts: Vec::new(),
            sent: Vec::new(),
            next_number: 0,
            next_producer: 100,
        }
    }

    fn send(&mut self) {
        let partition = i32::try_from(self.rng.below(PARTITIONS as u64)).unwrap();
        let mut value = self.next_number.to_be_bytes().to_vec();
        value.resize(8 + usize::try_from(self.rng.below(60)).unwrap(), b'x');
        let record = Record::to("t").value(value);
        let (future, _) = self.accumulator.push(self.now_ms, partition, 0, &record, 100).unwrap();
        self.sent.push((partition, self.next_number, future));
        self.next_number += 1;
    }

    fn pump(&mut self) {
        self.accumulator.expire(self.now_ms);
        self.accumulator.finish_reset();
        let leader = Leader { broker: BROKER, lanes: self.lanes };
        let lane =
            |id| Lane::Open(3usize.saturating_sub(self.lines.get(&id).map_or(0, VecDeque::len)));
        let drained = self.accumulator.drain(self.now_ms, false, |_, _| Some(leader), lane);
        if drained.wants_identity {
            self.next_producer += 1;
            self.accumulator.set_identity(ProducerId { id: self.next_producer, epoch: 0 });
        }
        for shipment in drained.shipments {
            self.lines.entry(shipment.lane).or_default().push_back(shipment);
        }
    }

    /// The broker takes the oldest request of some lane and answers, or the lane breaks at some point
    /// of that.
    fn answer(&mut self, calm: bool) {
        let busy = self.lines.iter().filter(|(_, line)| !line.is_empty());
        let busy: Vec<LaneId> = busy.map(|(id, _)| *id).collect();
        if busy.is_empty() {
            return;
        }
        let id = busy[usize::try_from(self.rng.below(busy.len() as u64)).unwrap()];
        let Some(shipment) = self.lines.get_mut(&id).and_then(VecDeque::pop_front) else { return };
        if !calm && self.rng.one_in(12) {
            return self.break_line(shipment);
        }
        for parcel in shipment.parcels {
            let verdict = match self.rng.below(if calm { 1 } else { 30 }) {
                1 => Verdict::Retry { uncertain: false, why: "not leader".into() },
                2 => Verdict::Refused { code: ErrorCode::MessageTooLarge, message: None },
                3 => {
                    let _ = self.broker.produce(parcel.partition, &parcel.bytes);
                    let why = "timed out after append".into();
                    Verdict::Retry { uncertain: true, why }
                }
                _ => self.broker.produce(parcel.partition, &parcel.bytes),
            };
            self.accumulator.settle(self.now_ms, parcel.queue, parcel.batch, verdict);
        }
    }

    /// What was sent first on the first lane.
    fn oldest(&mut self) -> Shipment {
        self.lines.get_mut(&LaneId::first(BROKER)).and_then(VecDeque::pop_front).unwrap()
    }

    fn break_line(&mut self, first: Shipment) {
        let rest = self.lines.remove(&first.lane).unwrap_or_default();
        let lost: Vec<Shipment> = std::iter::once(first).chain(rest).collect();
        let mut ghost = VecDeque::new();
        for parcel in lost.into_iter().flat_map(|shipment| shipment.parcels) {
            let why = "line broke".into();
            let verdict = Verdict::Retry { uncertain: true, why };
            self.accumulator.settle(self.now_ms, parcel.queue, parcel.batch, verdict);
            ghost.push_back(parcel);
        }
        self.ghosts.push(ghost);
    }

    /// Something of a lost connection arrives after all, or is gone for good.
    fn haunt(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let at = usize::try_from(self.rng.below(self.ghosts.len() as u64)).unwrap();
        if self.rng.one_in(4) {
            self.ghosts.swap_remove(at);
        } else if let Some(parcel) = self.ghosts[at].pop_front() {
            let _ = self.broker.produce(parcel.partition, &parcel.bytes);
        } else {
            self.ghosts.swap_remove(at);
        }
    }

    fn run(mut self, steps: u64) {
        for _ in 0..steps {
            match self.rng.below(10) {
                0..=3 => self.send(),
                4..=5 => self.answer(false),
                6 => self.haunt(),
                7 if self.rng.one_in(40) => self.now_ms += 4_000,
                8 if self.rng.one_in(20) => self.lanes = 1 + self.lanes % 3,
                _ => self.now_ms += self.rng.below(20),
            }
            self.pump();
        }
        // Calm: everything must be settled by itself.
        for _ in 0..10_000 {
            self.now_ms += 10;
            self.pump();
            self.answer(true);
        }
        self.check();
    }

    fn check(self) {
        let mut places: HashMap<u64, (i32, usize)> = HashMap::new();
        for (partition, log) in &self.broker.logs {
            for (offset, number) in log.iter().enumerate() {
                let before = places.insert(*number, (*partition, offset));
                assert_eq!(before, None, "record {number} is written twice");
            }
        }
        let mut last: HashMap<i32, usize> = HashMap::new();
        let mut delivered = 0;
        for (partition, number, future) in self.sent {
            let outcome = future.now_or_never().expect("every record is settled");
            let place = places.get(&number).copied();
            match outcome {
                Ok(delivery) => {
                    delivered += 1;
                    let offset = usize::try_from(delivery.offset.unwrap()).unwrap();
                    assert_eq!(place, Some((partition, offset)), "record {number}");
                    let before = last.insert(partition, offset);
                    assert!(
                        before.is_none_or(|before| before < offset),
                        "record {number} overtook"
                    );
                }
                Err(error) if !error.may_be_written() => {
                    assert_eq!(place, None, "record {number} is written: {error}");
                }
                Err(DeliveryError::Closed) => panic!("record {number} is given up"),
                Err(_) => {}
            }
        }
        assert!(delivered > 0, "a run that delivers nothing proves nothing");
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_whatever_the_broker_does() {
    for seed in 1..=400 {
        let run = std::panic::catch_unwind(|| Sim::new(seed).run(1_500));
        if let Err(cause) = run {
            eprintln!("seed = {seed}: run `Sim::new({seed}).run(1_500)`");
            std::panic::resume_unwind(cause);
        }
    }
}

#[test]
fn an_unanswered_batch_is_left_undecided_when_the_broker_forgets_the_producer() {
    let mut sim = Sim::new(1);
    sim.send();
    sim.now_ms = 10;
    sim.pump();
    sim.pump();
    let first = sim.oldest();
    sim.break_line(first);
    sim.now_ms += 200;
    sim.pump();
    let parcel = sim.oldest().parcels.pop().unwrap();
    let why: Arc<str> = "forgotten".into();
    let verdict = Verdict::ProducerUnknown { why };
    sim.accumulator.settle(sim.now_ms, parcel.queue, parcel.batch, verdict);
    let (.., future) = sim.sent.pop().unwrap();
    let error = future.now_or_never().unwrap().unwrap_err();
    assert!(matches!(error, DeliveryError::Undecided { .. }), "{error}");
    assert!(error.may_be_written());
}
