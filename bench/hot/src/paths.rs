//! The list of hot paths. What a path does once is one step; what it needs beforehand is made when
//! the step is made. Must never change what a path with a given name does: its baseline
//! (`bench/instructions.json`) would then compare two things.

use std::hint::black_box;

use bytes::Bytes;
use millpond_storage::packing::{PackPolicy, Served, pack, serve};
use millpond_transform::Outcome;
use millpond_wire::frame::{FrameDecoder, decode_request, decode_response, encode_response};
use millpond_wire::limits::{DECOMPRESSED_BYTES_MAX, DEFAULT_MAX_MESSAGE_BYTES};
use millpond_wire::messages::Response;
use millpond_wire::record::{Batch, BatchBuilder, Codec, LogBatch};
use millpond_wire::{ApiKey, Records};

use crate::broker::{Broker, Setup};
use crate::filter::Filter;
use crate::messages::{self, FETCH_VERSION, PRODUCE_VERSION};
use crate::records;

/// What one run of a path does.
pub type Step = Box<dyn FnMut()>;

/// A path that every record, batch or request goes.
#[derive(Clone, Copy)]
pub struct HotPath {
    /// Names it in baselines, reports and on command lines.
    pub name: &'static str,
    /// What one step is, for people.
    pub what: &'static str,
    /// Makes the step.
    pub make: fn() -> Step,
    /// Each step leaves something in memory: after some hundreds a new one is to be made.
    pub grows: bool,
}

/// All of them.
pub const PATHS: [HotPath; 18] = [
    path("decode-produce", "one request of one record, from bytes to a request", decode_produce),
    path("decode-produce-64", "one request of 64 small batches", decode_produce_64),
    path("decode-fetch-64", "one request for 64 partitions", decode_fetch_64),
    path("encode-produced-64", "the answer to a produce to 64 partitions", encode_produced_64),
    path("encode-fetched-64", "the answer to a fetch of 64 batches", encode_fetched_64),
    path("validate-small", "checks a batch of one record of 200 B", validate_small),
    path("validate-large", "checks a batch of 300 records of 200 B", validate_large),
    path("walk-records", "goes over 300 records of a batch", walk_records),
    path("build-batch", "makes a batch of 300 records", build_batch),
    growing("produce-small", "a record of 200 B: socket, engine, journal, answer", produce_small),
    growing("produce-fleet", "64 requests of one record each in one commit", produce_fleet),
    growing("produce-large", "a batch of 60 KiB: socket, engine, journal, answer", produce_large),
    path("fetch-tail", "60 KiB that are in memory, to the socket", fetch_tail),
    path("fetch-index", "one batch in the middle of a segment, found by its index", fetch_index),
    path("pack", "50 batches of 5 records into one, compressed", pack_50),
    path("unpack", "a packed batch for a consumer who reads no zstd", unpack),
    path("filter-keep", "the threshold module keeps 300 of 300 records", filter_keep),
    path("filter-drop-90", "the threshold module keeps 30 of 300 records", filter_drop),
];

const fn path(name: &'static str, what: &'static str, make: fn() -> Step) -> HotPath {
    HotPath { name, what, make, grows: false }
}

const fn growing(name: &'static str, what: &'static str, make: fn() -> Step) -> HotPath {
    HotPath { name, what, make, grows: true }
}

const TOPIC: &str = "readings";
/// Of a fleet's topic.
const PARTITIONS: usize = 64;
/// A device's reading.
const VALUE_BYTES: usize = 200;
/// Of a large batch: what a gateway gathers, and just below what goes straight to a segment.
const RECORDS: usize = 300;

/// One small batch for each partition.
fn small_batches() -> Vec<Bytes> {
    (0..PARTITIONS).map(|sequence| records::batch(sequence, 1, VALUE_BYTES)).collect()
}

/// Frames that arrive and are read as requests.
fn decode(sent: Bytes) -> Step {
    let mut decoder = FrameDecoder::for_requests();
    decoder.establish();
    Box::new(move || {
        decoder.extend(black_box(&sent));
        let frame = decoder.next_frame().expect("a frame").expect("a whole one");
        black_box(decode_request(frame).expect("a request"));
    })
}

fn decode_produce() -> Step {
    decode(messages::produce(TOPIC, vec![records::batch(0, 1, VALUE_BYTES)]))
}

fn decode_produce_64() -> Step {
    decode(messages::produce(TOPIC, small_batches()))
}

fn decode_fetch_64() -> Step {
    decode(messages::fetch(TOPIC, PARTITIONS as i32, 0, 1 << 20))
}

/// A response that a broker gave, to be encoded.
fn encode(api: ApiKey, version: i16, sent: Vec<Bytes>) -> Step {
    let frame = Records::from_iter(sent).to_bytes().slice(4..);
    let response: Response = decode_response(api, version, frame).expect("an answer").1;
    Box::new(move || {
        black_box(encode_response(version, 7, black_box(&response)).expect("it fits"));
    })
}

fn encode_produced_64() -> Step {
    let mut broker = Broker::new(Setup::default(), TOPIC, PARTITIONS as i32);
    let sent = broker.answer(&messages::produce(TOPIC, small_batches()));
    encode(ApiKey::Produce, PRODUCE_VERSION, sent)
}

fn encode_fetched_64() -> Step {
    let mut broker = Broker::new(Setup::default(), TOPIC, PARTITIONS as i32);
    messages::expect_taken(broker.answer(&messages::produce(TOPIC, small_batches())));
    let sent = broker.answer(&messages::fetch(TOPIC, PARTITIONS as i32, 0, 1 << 20));
    encode(ApiKey::Fetch, FETCH_VERSION, sent)
}

fn validate(raw: Bytes) -> Step {
    Box::new(move || {
        let batch = Batch::parse(black_box(raw.clone())).expect("a batch");
        batch.check_produced(DEFAULT_MAX_MESSAGE_BYTES).expect("one that may be produced");
        black_box(batch);
    })
}

fn validate_small() -> Step {
    validate(records::batch(0, 1, VALUE_BYTES))
}

fn validate_large() -> Step {
    validate(records::batch(0, RECORDS, VALUE_BYTES))
}

fn walk_records() -> Step {
    let batch = records::parsed(0, RECORDS, VALUE_BYTES);
    Box::new(move || {
        let section = batch.decompress(DECOMPRESSED_BYTES_MAX).expect("it is not compressed");
        for record in batch.records(&section) {
            black_box(record.expect("a record"));
        }
    })
}

fn build_batch() -> Step {
    let values: Vec<_> = (0..RECORDS).map(|at| records::reading(at, VALUE_BYTES)).collect();
    let mut builder = BatchBuilder::new(Codec::None, None);
    Box::new(move || {
        for (value, timestamp) in values.iter().zip(1_763_700_000_000..) {
            builder.push(timestamp, None, Some(value), &[]).expect("a record");
        }
        black_box(builder.build().expect("a batch"));
    })
}

/// Requests that arrive together, are decided, written in one commit and answered.
fn produce(requests: Vec<Bytes>, partitions: usize) -> Step {
    let mut broker = Broker::new(Setup::default(), TOPIC, partitions as i32);
    let count = requests.len();
    let sent = Records::from_iter(requests).to_bytes();
    let (mut frames, mut headers) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut step = move |check: bool| {
        broker.receive(black_box(&sent), usize::MAX, &mut frames);
        headers.extend(frames.drain(..).map(|frame| broker.submit(frame)));
        for header in headers.drain(..) {
            let answer = broker.respond(&header);
            if check {
                messages::expect_taken(answer);
            }
        }
    };
    step(true);
    Box::new(move || step(false))
}

fn produce_small() -> Step {
    produce(vec![messages::produce(TOPIC, vec![records::batch(0, 1, VALUE_BYTES)])], 1)
}

fn produce_fleet() -> Step {
    let request = |(partition, batch)| messages::produce_from(TOPIC, partition, vec![batch]);
    produce((0..).zip(small_batches()).map(request).collect(), PARTITIONS)
}

fn produce_large() -> Step {
    let batch = records::batch(0, RECORDS, VALUE_BYTES);
    produce(vec![messages::produce(TOPIC, vec![batch])], 1)
}

fn fetch_tail() -> Step {
    let mut broker = Broker::new(Setup::default(), TOPIC, 1);
    let batch = records::batch(0, RECORDS, VALUE_BYTES);
    let bytes = batch.len();
    messages::expect_taken(broker.answer(&messages::produce(TOPIC, vec![batch])));
    let request = messages::fetch(TOPIC, 1, 0, 1 << 20);
    assert_eq!(messages::fetched_bytes(broker.answer(&request)), bytes);
    Box::new(move || drop(black_box(broker.answer(black_box(&request)))))
}

/// Batches of one partition in a segment of some MiB; one in its middle is asked for.
fn fetch_index() -> Step {
    const BATCHES: usize = 1_000;
    let setup = Setup { tail_bytes: 1 << 20, retains: false, packs: false };
    let mut broker = Broker::new(setup, TOPIC, 1);
    let batch = records::batch(0, 20, VALUE_BYTES);
    let request = messages::produce(TOPIC, vec![batch.clone()]);
    for _ in 0..BATCHES {
        messages::expect_taken(broker.answer(&request));
    }
    broker.settle();
    let middle = messages::fetch(TOPIC, 1, 20 * (BATCHES as i64 / 2) - 10, 1);
    assert_eq!(messages::fetched_bytes(broker.answer(&middle)), batch.len());
    Box::new(move || drop(black_box(broker.answer(black_box(&middle)))))
}

fn small_log() -> Vec<LogBatch> {
    let batch =
        |at: usize| LogBatch::stamp(records::parsed(at * 5, 5, VALUE_BYTES), at as i64 * 5, 0);
    (0..50).map(batch).collect()
}

fn pack_50() -> Step {
    let (log, policy) = (small_log(), PackPolicy::default());
    assert_eq!(pack(&log, &policy).stats.batches_out, 1);
    Box::new(move || drop(black_box(pack(black_box(&log), &policy))))
}

fn unpack() -> Step {
    let mut packed = pack(&small_log(), &PackPolicy::default()).batches;
    let packed = packed.pop().expect("one batch");
    let step = move || match serve(black_box(&packed), None).expect("it can be read") {
        Served::Instead(batch) => drop(black_box(batch)),
        Served::AsIs => panic!("it was not packed"),
    };
    Box::new(step)
}

fn filter(min: &str, kept: usize) -> Step {
    let mut filter = Filter::new(min);
    let batch = records::parsed(0, RECORDS, VALUE_BYTES);
    assert_eq!(records_out(&filter.run(&batch), RECORDS), kept);
    Box::new(move || drop(black_box(filter.run(black_box(&batch)))))
}

/// How many records come out of a filter that was given so many.
fn records_out(outcome: &Outcome, given: usize) -> usize {
    match outcome {
        Outcome::Changed { outputs } => {
            outputs.iter().map(|output| output.batch.records_count() as usize).sum()
        }
        _ => given,
    }
}

fn filter_keep() -> Step {
    filter("0", RECORDS)
}

fn filter_drop() -> Step {
    filter("90", RECORDS / 10)
}
