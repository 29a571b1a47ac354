//! The accumulator step by step: when batches close, go, wait, and free their memory.

use super::accumulator::{Accumulator, Drained, Identity, Policy};
use super::batch::ProducerId;
use super::delivery::{DeliveryError, DeliveryFuture, Written};
use super::lane::{Lane, LaneId, Leader};
use super::record::Record;
use super::verdict::Verdict;
use futures::FutureExt;
use millpond_wire::ErrorCode;
use millpond_wire::record::{Batch, Codec};

const BROKER: i32 = 1;
const LEADER: Leader = Leader { broker: BROKER, lanes: 1 };

fn policy() -> Policy {
    Policy {
        codec: Codec::None,
        level: None,
        batch_bytes: 1_000,
        linger_ms: 5,
        delivery_ms: 1_000,
        retry_backoff_ms: 10,
        retry_backoff_max_ms: 100,
        request_bytes: 10_000,
        in_flight_per_partition: 5,
        is_idempotent: true,
        is_transactional: false,
        retries: u32::MAX,
    }
}

fn accumulator(policy: Policy) -> Accumulator {
    let mut accumulator = Accumulator::new(policy);
    accumulator.set_identity(ProducerId { id: 7, epoch: 0 });
    accumulator
}

fn push(
    accumulator: &mut Accumulator,
    now_ms: u64,
    partition: i32,
    bytes: usize,
) -> DeliveryFuture {
    let record = Record::to("t").value(vec![b'x'; bytes]);
    accumulator.push(now_ms, partition, 0, &record, bytes + 30).unwrap().0
}

fn drain(accumulator: &mut Accumulator, now_ms: u64) -> Drained {
    accumulator.expire(now_ms);
    accumulator.finish_reset();
    accumulator.drain(now_ms, false, |_, _| Some(LEADER), |_| Lane::Open(5))
}

fn deliver(base_offset: i64) -> Verdict {
    Verdict::Delivered(Written { base_offset: Some(base_offset), log_append_time_ms: None })
}

fn not_leader() -> Verdict {
    Verdict::Retry { uncertain: false, why: "not leader".into() }
}

fn sequences(drained: &Drained) -> Vec<(i16, i32)> {
    let parcels = drained.shipments.iter().flat_map(|shipment| &shipment.parcels);
    parcels
        .map(|parcel| {
            let header = *Batch::parse(parcel.bytes.clone()).unwrap().header();
            (header.producer_epoch, header.base_sequence)
        })
        .collect()
}

#[test]
fn a_batch_lingers_until_its_time_or_until_it_is_full() {
    let mut acc = accumulator(policy());
    let _one = push(&mut acc, 100, 0, 10);
    assert!(drain(&mut acc, 104).shipments.is_empty());
    assert_eq!(acc.next_wake_ms(104), Some(105));
    assert_eq!(drain(&mut acc, 105).shipments.len(), 1);
    let _full: Vec<_> = (0..30).map(|_| push(&mut acc, 200, 0, 50)).collect();
    assert_eq!(drain(&mut acc, 200).shipments.len(), 1, "the full one goes, the open one lingers");
}

#[test]
fn pressure_and_flush_end_the_linger() {
    let mut acc = accumulator(policy());
    let _one = push(&mut acc, 0, 0, 10);
    let drained = acc.drain(0, true, |_, _| Some(LEADER), |_| Lane::Open(5));
    assert_eq!(drained.shipments.len(), 1);
    let _two = push(&mut acc, 0, 1, 10);
    acc.close_open_batches();
    assert_eq!(drain(&mut acc, 0).shipments.len(), 1);
}

#[test]
fn one_request_carries_one_batch_of_each_partition() {
    let mut acc = accumulator(policy());
    let _all: Vec<_> = (0..4)
        .flat_map(|p| [(p, 900), (p, 900)])
        .map(|(p, bytes)| push(&mut acc, 0, p, bytes))
        .collect();
    acc.close_open_batches();
    let drained = drain(&mut acc, 0);
    let sizes: Vec<usize> = drained.shipments.iter().map(|s| s.parcels.len()).collect();
    assert_eq!(sizes, vec![4, 4]);
}

#[test]
fn no_more_requests_than_the_lane_has_room_for() {
    let mut acc = accumulator(policy());
    let _all: Vec<_> = (0..10).map(|_| push(&mut acc, 0, 0, 900)).collect();
    acc.close_open_batches();
    let two = acc.drain(0, false, |_, _| Some(LEADER), |_| Lane::Open(2));
    assert_eq!(two.shipments.len(), 2);
    let none = acc.drain(0, false, |_, _| Some(LEADER), |_| Lane::Wanted);
    assert!(none.shipments.is_empty() && none.unreached.contains(&LaneId::first(BROKER)));
    let leaderless = acc.drain(0, false, |_, _| None, |_| Lane::Open(2));
    assert_eq!(leaderless.leaderless.len(), 1);
}

#[test]
fn partitions_on_different_lanes_do_not_wait_for_each_other() {
    let mut acc = accumulator(policy());
    let _all: Vec<_> = (0..3).map(|partition| push(&mut acc, 0, partition, 900)).collect();
    acc.close_open_batches();
    let leader = Leader { lanes: 2, ..LEADER };
    let stuck = LaneId::first(BROKER);
    let lane = |id| if id == stuck { Lane::Waiting } else { Lane::Open(5) };
    let sent = acc.drain(0, false, |_, _| Some(leader), lane);
    assert_eq!(sequences(&sent), [(0, 0)], "the second partition only");
    assert_eq!(sent.shipments[0].lane, LaneId { slot: 1, ..stuck });
}

#[test]
fn a_partition_changes_its_lane_only_when_nothing_of_it_is_under_way() {
    let mut acc = accumulator(policy());
    let _all: Vec<_> = [0, 1, 1].map(|partition| push(&mut acc, 0, partition, 900)).into();
    let before =
        acc.drain(10, false, |_, _| Some(Leader { lanes: 2, ..LEADER }), |_| Lane::Open(1));
    assert_eq!(before.shipments.len(), 2);
    assert!(drain(&mut acc, 20).shipments.is_empty(), "its first batch is still on the other lane");
    let parcel = &before.shipments[1].parcels[0];
    acc.settle(30, parcel.queue, parcel.batch, deliver(0));
    let after = drain(&mut acc, 30);
    assert_eq!(after.shipments[0].lane, LaneId::first(BROKER));
    assert_eq!(sequences(&after), [(0, 1)]);
}

#[test]
fn memory_is_freed_when_a_batch_is_settled_and_not_before() {
    let mut acc = accumulator(policy());
    let future = push(&mut acc, 0, 0, 70);
    let drained = drain(&mut acc, 10);
    assert_eq!(acc.take_released_bytes(), 0);
    let parcel = &drained.shipments[0].parcels[0];
    acc.settle(10, parcel.queue, parcel.batch, deliver(5));
    assert_eq!(acc.take_released_bytes(), 100);
    assert_eq!(future.now_or_never().unwrap().unwrap().offset, Some(5));
    assert_eq!(acc.counts.records_delivered, 1);
}

#[test]
fn a_retry_keeps_its_place_and_its_sequence() {
    let mut acc = accumulator(policy());
    let _all: Vec<_> = (0..3).map(|_| push(&mut acc, 0, 0, 900)).collect();
    acc.close_open_batches();
    let sent = drain(&mut acc, 0);
    assert_eq!(sequences(&sent), vec![(0, 0), (0, 1), (0, 2)]);
    let parcels: Vec<_> = sent.shipments.iter().flat_map(|s| s.parcels.clone()).collect();
    acc.settle(0, parcels[0].queue, parcels[0].batch, not_leader());
    assert!(drain(&mut acc, 500).shipments.is_empty(), "two are still under way");
    acc.settle(500, parcels[1].queue, parcels[1].batch, Verdict::OutOfOrder);
    acc.settle(500, parcels[2].queue, parcels[2].batch, Verdict::OutOfOrder);
    assert_eq!(acc.next_wake_ms(500), Some(540), "the pause doubles with each failure");
    assert_eq!(sequences(&drain(&mut acc, 600)), vec![(0, 0)], "retries go one by one");
    acc.settle(600, parcels[0].queue, parcels[0].batch, deliver(0));
    assert_eq!(sequences(&drain(&mut acc, 600)), vec![(0, 1)]);
    acc.settle(600, parcels[1].queue, parcels[1].batch, deliver(1));
    assert_eq!(sequences(&drain(&mut acc, 600)), vec![(0, 2)]);
}

#[test]
fn a_refused_batch_begins_a_new_epoch_once_nothing_is_in_doubt() {
    let mut acc = accumulator(policy());
    let refused = push(&mut acc, 0, 0, 900);
    let (_second, _other) = (push(&mut acc, 0, 0, 900), push(&mut acc, 0, 1, 900));
    acc.close_open_batches();
    let sent = drain(&mut acc, 0);
    let parcels: Vec<_> = sent.shipments.iter().flat_map(|s| s.parcels.clone()).collect();
    let first = parcels.iter().position(|p| p.partition == 0).unwrap();
    let code = ErrorCode::MessageTooLarge;
    let verdict = Verdict::Refused { code, message: None };
    acc.settle(0, parcels[first].queue, parcels[first].batch, verdict);
    let error = refused.now_or_never().unwrap().unwrap_err();
    assert!(!error.may_be_written(), "{error}");
    assert!(drain(&mut acc, 500).shipments.is_empty());
    for (at, parcel) in parcels.iter().enumerate().filter(|(at, _)| *at != first) {
        let verdict = match parcel.partition {
            0 => Verdict::OutOfOrder,
            _ => deliver(i64::try_from(at).unwrap()),
        };
        acc.settle(500, parcel.queue, parcel.batch, verdict);
    }
    assert_eq!(sequences(&drain(&mut acc, 600)), vec![(1, 0)]);
    assert_eq!(acc.counts.identity_resets, 1);
}

#[test]
fn a_record_over_its_time_fails_and_says_whether_it_may_be_written() {
    let mut acc = accumulator(policy());
    let never_sent = push(&mut acc, 0, 0, 10);
    let nobody = acc.drain(10, false, |_, _| None, |_| Lane::Open(1));
    assert!(nobody.shipments.is_empty());
    assert_eq!(acc.next_wake_ms(10), Some(1_000));
    acc.expire(1_000);
    let error = never_sent.now_or_never().unwrap().unwrap_err();
    assert!(matches!(error, DeliveryError::TimedOut { may_be_written: false, .. }), "{error}");

    let unanswered = push(&mut acc, 2_000, 0, 10);
    assert_eq!(drain(&mut acc, 2_010).shipments.len(), 1);
    acc.expire(3_000);
    let error = unanswered.now_or_never().unwrap().unwrap_err();
    assert!(matches!(error, DeliveryError::TimedOut { may_be_written: true, .. }), "{error}");
    assert_eq!(acc.next_wake_ms(3_000), None, "only the answer is waited for now");
}

#[test]
fn sequences_wrap_around_as_kafkas_do() {
    let mut acc = accumulator(policy());
    let _first = push(&mut acc, 0, 0, 10);
    let parcel = drain(&mut acc, 10).shipments[0].parcels[0].clone();
    acc.settle(10, parcel.queue, parcel.batch, deliver(0));
    acc.set_next_sequence_for_test(0, i32::MAX);
    let _two = (push(&mut acc, 20, 0, 10), push(&mut acc, 20, 0, 10));
    let parcel = drain(&mut acc, 30).shipments[0].parcels[0].clone();
    acc.settle(30, parcel.queue, parcel.batch, deliver(1));
    let _third = push(&mut acc, 40, 0, 10);
    assert_eq!(sequences(&drain(&mut acc, 50)), vec![(0, 1)]);
}

#[test]
fn without_idempotence_one_batch_of_a_partition_is_under_way() {
    let mut acc =
        Accumulator::new(Policy { is_idempotent: false, in_flight_per_partition: 1, ..policy() });
    let _all: Vec<_> = (0..3).map(|_| push(&mut acc, 0, 0, 900)).collect();
    acc.close_open_batches();
    assert_eq!(sequences(&drain(&mut acc, 0)), vec![(-1, -1)]);
    assert!(drain(&mut acc, 0).shipments.is_empty());
}

#[test]
fn nothing_goes_before_there_is_an_identity() {
    let mut acc = Accumulator::new(policy());
    let _one = push(&mut acc, 0, 0, 10);
    let drained = drain(&mut acc, 10);
    assert!(drained.wants_identity && drained.shipments.is_empty());
    acc.set_identity(ProducerId { id: 9, epoch: 2 });
    assert_eq!(acc.identity_for_test(), Identity::Known(ProducerId { id: 9, epoch: 2 }));
    assert_eq!(sequences(&drain(&mut acc, 10)), vec![(2, 0)]);
}

#[test]
fn a_transaction_whose_producer_is_fenced_is_spoilt_at_once() {
    let mut acc = accumulator(Policy { is_transactional: true, ..policy() });
    let fenced = push(&mut acc, 0, 0, 10);
    let later = push(&mut acc, 0, 1, 10);
    let drained = drain(&mut acc, 5);
    let parcel = &drained.shipments[0].parcels[0];
    assert!(Batch::parse(parcel.bytes.clone()).unwrap().attributes().is_transactional());
    let verdict = Verdict::ProducerUnknown { why: "fenced".into() };
    acc.settle(6, parcel.queue, parcel.batch, verdict);
    let outcome = fenced.now_or_never().expect("it is not tried again");
    assert!(matches!(outcome, Err(DeliveryError::Refused { code: ErrorCode::ProducerFenced, .. })));
    assert!(acc.is_spoilt());
    assert!(later.now_or_never().is_none(), "the other one is under way");
}

#[test]
fn an_abort_gives_up_what_waits_and_begins_anew_with_sequences_from_zero() {
    let mut acc = accumulator(Policy { is_transactional: true, ..policy() });
    let under_way = push(&mut acc, 0, 0, 10);
    let drained = drain(&mut acc, 5);
    let parcel = drained.shipments[0].parcels[0].clone();
    let waiting = push(&mut acc, 6, 0, 10);
    acc.begin_abort();
    assert_eq!(waiting.now_or_never(), Some(Err(DeliveryError::Aborted)));
    acc.settle(7, parcel.queue, parcel.batch, not_leader());
    assert_eq!(under_way.now_or_never(), Some(Err(DeliveryError::Aborted)));
    acc.renew(ProducerId { id: 7, epoch: 1 });
    assert!(!acc.is_spoilt());
    let _next = push(&mut acc, 8, 0, 10);
    assert_eq!(sequences(&drain(&mut acc, 20)), [(1, 0)]);
}
