//! No allocation per record: what a batch costs in allocations does not depend on how many records
//! are in it. Counted in this program alone, by an allocator of its own. How many bytes are copied
//! on the way is counted by `bench/instructions`.

mod counting;

use bytes::Bytes;
use counting::{Asked, asked_by};
use millpond_hot::broker::{Broker, Setup};
use millpond_hot::filter::Filter;
use millpond_hot::{messages, records};

const TOPIC: &str = "readings";
/// Before the count: buffers that are kept, tables that grow.
const RUN_IN: usize = 40;
/// Steps that are counted; what grows now and then is shared by them.
const STEPS: u64 = 200;

/// Few and many records of the same batch size: what differs is paid for each record.
const FEW: (usize, usize) = (20, 3_000);
const MANY: (usize, usize) = (260, 200);

/// What one step asks for, on average.
fn per_step(mut step: impl FnMut()) -> (f64, f64) {
    (0..RUN_IN).for_each(|_| step());
    let Asked { count, bytes, moved_bytes } = asked_by(|| (0..STEPS).for_each(|_| step()));
    println!("    {count} allocations of {bytes} bytes, {moved_bytes} bytes moved, {STEPS} steps");
    (count as f64 / STEPS as f64, bytes as f64 / STEPS as f64)
}

/// Tables that double while they are filled may do so some times more with many records: each of two
/// of them, from 20 records to 260, four times.
const DOUBLINGS_MAX: f64 = 8.0;

/// Holds two counts of a path against each other and against its budget.
fn expect(path: &str, few: (f64, f64), many: (f64, f64), most: f64) {
    println!("{path}: {:.2} allocations a batch with few records, {:.2} with many", few.0, many.0);
    assert!(
        many.0 - few.0 <= DOUBLINGS_MAX,
        "{path}: {:.2} allocations for a batch of {} records, {:.2} for one of {}: these are paid \
         for each record",
        few.0,
        FEW.0,
        many.0,
        MANY.0
    );
    assert!(
        many.0 <= most,
        "{path}: {:.2} allocations for a batch, {most} are allowed (bench/README.md)",
        many.0
    );
}

fn batch((records, value_bytes): (usize, usize)) -> Bytes {
    records::batch(0, records, value_bytes)
}

fn produce(shape: (usize, usize)) -> (f64, f64) {
    let mut broker = Broker::new(Setup::default(), TOPIC, 1);
    let request = messages::produce(TOPIC, vec![batch(shape)]);
    messages::expect_taken(broker.answer(&request));
    per_step(|| drop(broker.answer(&request)))
}

#[test]
fn producing_allocates_per_batch_and_not_per_record() {
    let (few, many) = (produce(FEW), produce(MANY));
    expect("produce", few, many, 24.0);
}

#[test]
fn a_produced_batch_has_one_buffer_which_is_the_frame_it_came_in() {
    let (_, bytes) = produce(MANY);
    let batch_bytes = batch(MANY).len() as f64;
    assert!(
        bytes < 1.25 * batch_bytes,
        "{bytes:.0} bytes were allocated for a batch of {batch_bytes}: it is in memory twice"
    );
}

#[test]
fn producing_to_many_partitions_allocates_per_batch() {
    let produce = |partitions: usize| {
        let mut broker = Broker::new(Setup::default(), TOPIC, partitions as i32);
        let batches = (0..partitions).map(|at| records::batch(at, 1, 200)).collect();
        let request = messages::produce(TOPIC, batches);
        messages::expect_taken(broker.answer(&request));
        per_step(|| drop(broker.answer(&request))).0
    };
    let (one, many) = (produce(1), produce(65));
    let per_batch = (many - one) / 64.0;
    println!("produce, small batches: {one:.2} for one, {per_batch:.2} for each further one");
    assert!(per_batch <= 4.0, "{per_batch:.2} allocations for each batch, 4 are allowed");
}

fn fetch(setup: Setup, shape: (usize, usize)) -> (f64, f64) {
    let mut broker = Broker::new(setup, TOPIC, 1);
    let batch = batch(shape);
    let request = messages::produce(TOPIC, vec![batch.clone()]);
    for _ in 0..64 {
        messages::expect_taken(broker.answer(&request));
    }
    broker.settle();
    let request = messages::fetch(TOPIC, 1, 0, batch.len() as i32);
    assert_eq!(messages::fetched_bytes(broker.answer(&request)), batch.len());
    per_step(|| drop(broker.answer(&request)))
}

#[test]
fn fetching_from_memory_allocates_per_request_and_not_per_record() {
    let (few, many) = (fetch(Setup::default(), FEW), fetch(Setup::default(), MANY));
    expect("fetch from memory", few, many, 17.0);
    assert!(many.1 < 4096.0, "{:.0} bytes were allocated: records were copied", many.1);
}

#[test]
fn fetching_from_a_segment_allocates_one_buffer_and_nothing_per_record() {
    let setup = Setup { tail_bytes: 1 << 20, retains: false, packs: false };
    let (few, many) = (fetch(setup, FEW), fetch(setup, MANY));
    expect("fetch from a segment", few, many, 24.0);
    let batch_bytes = batch(MANY).len() as f64;
    assert!(
        many.1 < 1.5 * batch_bytes,
        "{:.0} bytes were allocated for a batch of {batch_bytes}: it is in memory twice",
        many.1
    );
}

fn filter(min: &str, shape: (usize, usize)) -> (f64, f64) {
    let mut filter = Filter::new(min);
    let (records, value_bytes) = shape;
    let batch = records::parsed(0, records, value_bytes);
    per_step(|| drop(filter.run(&batch)))
}

#[test]
fn a_filter_that_keeps_all_allocates_nothing_per_record() {
    let (few, many) = (filter("0", FEW), filter("0", MANY));
    expect("filter, all kept", few, many, 14.0);
}

#[test]
fn a_filter_that_drops_most_allocates_nothing_per_record() {
    let (few, many) = (filter("90", FEW), filter("90", MANY));
    expect("filter, a tenth kept", few, many, 28.0);
}
