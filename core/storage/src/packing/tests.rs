//! Packing is equal record for record, keeps apart what must stay apart, and is worth it.

use super::*;
use crate::disk::sim::SimRng;
use bytes::Bytes;
use millpond_wire::limits;
use millpond_wire::record::{Batch, BatchBuilder, Codec, Header, NO_PRODUCER_ID, TimestampType};

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Leader epoch, timestamp type, control, transaction: of the batch, yet seen by somebody.
    batch: (i32, TimestampType, bool, Option<(i64, i16)>),
}

/// All records of a log. Every batch is written out and parsed as if it were read from flash.
pub(crate) fn records_of(batches: &[LogBatch]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut next_offset = i64::MIN;
    for log in batches {
        let mut written = Vec::new();
        log.write_to(&mut written);
        let batch = Batch::parse(written.into()).unwrap();
        let header = *batch.header();
        assert!(header.base_offset >= next_offset, "batches overlap");
        next_offset = header.last_offset() + 1;
        let section = batch.decompress(limits::DECOMPRESSED_BYTES_MAX).unwrap();
        let is_transactional = header.attributes.is_transactional();
        let transaction = is_transactional.then_some((header.producer_id, header.producer_epoch));
        for record in batch.records(&section).map(Result::unwrap) {
            seen.push(Seen {
                offset: header.base_offset + i64::from(record.offset_delta),
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
                batch: (
                    header.partition_leader_epoch,
                    header.attributes.timestamp_type(),
                    header.attributes.is_control(),
                    transaction,
                ),
            });
        }
    }
    seen
}

fn bytes_some(rng: &mut SimRng, most: u64) -> Vec<u8> {
    let text = b"{\"sensor\":\"boiler-7\",\"celsius\":21.5,\"ok\":true,\"seq\":123456}";
    (0..rng.below(most + 1)).map(|i| text[(i as usize + 3) % text.len()]).collect()
}

/// `None`, empty or some bytes.
fn field(rng: &mut SimRng, most: u64) -> Option<Vec<u8>> {
    match rng.below(6) {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some(bytes_some(rng, most)),
    }
}

fn fill(rng: &mut SimRng, builder: &mut BatchBuilder) {
    let records = if rng.chance(50) { rng.below(400) + 1 } else { rng.below(6) + 1 };
    let mut delta = -1;
    for _ in 0..records {
        delta += 1 + if rng.chance(100) { rng.below(50) as i32 } else { 0 };
        let time = if rng.chance(20) { -1 } else { 1_700_000_000_000 + rng.below(100_000) as i64 };
        let (key, value) = (field(rng, 20), field(rng, 300));
        let name = bytes_some(rng, 5);
        let of_header = field(rng, 9);
        let header = Header { key: &name, value: of_header.as_deref() };
        let headers = vec![header; rng.below(3) as usize];
        // The raw headers of a batch of one, since gaps ask for them.
        let mut one = BatchBuilder::new(Codec::None, None);
        one.push(0, None, None, &headers).unwrap();
        let one = one.build_batch().unwrap();
        let section = one.decompress(1 << 20).unwrap();
        let raw = one.records(&section).next().unwrap().unwrap().headers_raw;
        builder.push_at(delta, time, key.as_deref(), value.as_deref(), raw).unwrap();
    }
}

/// A log with all that a log may hold.
pub(crate) fn random_log(rng: &mut SimRng, batches: u64) -> Vec<LogBatch> {
    let mut log = Vec::new();
    let (mut offset, mut epoch) = (rng.below(1 << 40) as i64, 0);
    let mut codec = Codec::None;
    for _ in 0..batches {
        if rng.chance(200) {
            codec = Codec::ALL[rng.below(5) as usize];
        }
        epoch += i32::from(rng.chance(50));
        offset += if rng.chance(100) { rng.below(1_000) as i64 } else { 0 };
        let mut builder = BatchBuilder::new(codec, None);
        let producer = rng.below(3) as i64;
        if rng.chance(400) {
            builder.set_producer(producer, producer as i16, rng.below(1_000) as i32);
            builder = builder.with_transactional(rng.chance(300));
        }
        if rng.chance(200) {
            builder = builder.with_log_append_time(1_700_000_000_000 + rng.below(3) as i64);
        }
        if rng.chance(50) {
            builder = builder.with_producer(producer, 0, 0).with_control(true);
        }
        fill(rng, &mut builder);
        let wider = rng.below(1_000) as i32;
        let batch = builder.build_batch_spanning(if rng.chance(900) { 0 } else { wider }).unwrap();
        let batch = LogBatch::stamp(batch, offset, epoch);
        offset = batch.next_offset();
        log.push(batch);
    }
    log
}

fn random_policy(rng: &mut SimRng) -> PackPolicy {
    PackPolicy {
        target_bytes: 1 << rng.between(12, 18),
        max_records: rng.between(1, 1_000) as usize,
        small_batch_bytes: 1 << rng.between(6, 16),
        compression_type: [None, Some(Codec::None), Some(Codec::Zstd), Some(Codec::Gzip)]
            [rng.below(4) as usize],
        ..PackPolicy::default()
    }
}

fn of_producers(
    codec: Codec,
    count: usize,
    builder: impl Fn(BatchBuilder) -> BatchBuilder,
) -> Vec<LogBatch> {
    (0..count)
        .map(|i| {
            let mut builder = builder(BatchBuilder::new(codec, None));
            builder.push(1_000 + i as i64, None, Some(&[b'v'; 150]), &[]).unwrap();
            LogBatch::stamp(builder.build_batch().unwrap(), i as i64, 1)
        })
        .collect()
}

#[test]
fn whatever_is_in_a_log_is_equal_record_for_record_when_packed_and_when_served() {
    let (mut merged, mut marked) = (0, 0);
    for seed in 0..400 {
        let rng = &mut SimRng::new(seed);
        let batches = rng.below(60);
        let log = random_log(rng, batches);
        let policy = random_policy(rng);
        let packed = pack(&log, &policy);
        let expected = records_of(&log);
        assert!(records_of(&packed.batches) == expected, "packed differs, seed {seed}");
        assert_eq!(packed.stats.unreadable, 0, "seed {seed}");
        assert!(packed.stats.bytes_out <= packed.stats.bytes_in, "grew, seed {seed}");
        merged += packed.stats.merged;
        marked += packed.batches.iter().filter(|b| b.header().attributes.is_repacked()).count();
        let served: Vec<LogBatch> = packed
            .batches
            .iter()
            .map(|batch| match serve(batch, policy.compression_type).unwrap() {
                Served::AsIs => batch.clone(),
                Served::Instead(other) => other,
            })
            .collect();
        assert!(records_of(&served) == expected, "served differs, seed {seed}");
        let ends = |batches: &[LogBatch]| {
            (batches.first().map(LogBatch::base_offset), batches.last().map(LogBatch::next_offset))
        };
        assert_eq!(ends(&packed.batches), ends(&log), "offset range, seed {seed}");
        // Once more, as compaction and repacking do.
        let again = pack(&packed.batches, &policy);
        assert!(records_of(&again.batches) == expected, "repacked differs, seed {seed}");
    }
    assert!(merged > 2_000 && marked > 500, "vacuous: {merged} merged, {marked} marked");
}

#[test]
fn consumers_get_only_codecs_that_their_producers_used_or_the_topic_names() {
    for seed in 0..200 {
        let rng = &mut SimRng::new(seed);
        let log = random_log(rng, 40);
        let policy = random_policy(rng);
        let mut zstd_offsets = std::collections::BTreeSet::new();
        for batch in &log {
            if batch.header().attributes.codec() == Ok(Codec::Zstd) {
                zstd_offsets
                    .extend(records_of(std::slice::from_ref(batch)).iter().map(|r| r.offset));
            }
        }
        for batch in pack(&log, &policy).batches {
            let served = match serve(&batch, policy.compression_type).unwrap() {
                Served::AsIs => batch,
                Served::Instead(other) => other,
            };
            assert!(!served.header().attributes.is_repacked(), "seed {seed}");
            if served.header().attributes.codec() == Ok(Codec::Zstd)
                && policy.compression_type != Some(Codec::Zstd)
            {
                let mut offsets = records_of(&[served]).into_iter().map(|record| record.offset);
                assert!(offsets.all(|offset| zstd_offsets.contains(&offset)), "seed {seed}");
            }
        }
    }
}

#[test]
fn telemetry_of_one_record_a_batch_shrinks_to_a_seventh() {
    let mut rng = SimRng::new(7);
    let (mut log, mut raw_bytes) = (Vec::new(), 0);
    for i in 0..20_000_i64 {
        let time = 1_700_000_000_000 + i * 3;
        let device = rng.below(64);
        let value = format!(
            "{{\"device\":\"sensor-{device:04}\",\"ts\":{time},\"temperature\":{}.{:02},\"humidity\":{}.{},\
             \"pressure\":10{:02}.{},\"battery\":3.{:02},\"rssi\":-{},\"status\":\"ok\",\"fw\":\"1.4.2\",\"seq\":{}}}",
            18 + rng.below(8),
            rng.below(100),
            40 + rng.below(20),
            rng.below(10),
            rng.below(40),
            rng.below(10),
            60 + rng.below(9),
            40 + rng.below(50),
            i / 64,
        );
        raw_bytes += value.len();
        let key = format!("sensor-{device:04}");
        let mut builder = BatchBuilder::new(Codec::None, None).with_producer(device as i64, 0, 0);
        builder.push(time, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
        log.push(LogBatch::stamp(builder.build_batch().unwrap(), i, 0));
    }
    for kib in [64, 128, 256] {
        let policy = PackPolicy { target_bytes: kib * limits::KIB, ..PackPolicy::default() };
        let packed = pack(&log, &policy);
        let ratio = packed.stats.bytes_out as f64 / raw_bytes as f64;
        println!(
            "target {kib} KiB: {} records of {} bytes: {} -> {} bytes, {} batches; {ratio:.3} of the raw JSON",
            log.len(),
            raw_bytes / log.len(),
            packed.stats.bytes_in,
            packed.stats.bytes_out,
            packed.stats.batches_out,
        );
        assert!(ratio <= 0.25, "{ratio}");
        assert!(packed.batches.iter().all(|batch| batch.header().attributes.is_repacked()));
    }
}

#[test]
fn large_and_dense_batches_share_their_bytes_with_what_came_in() {
    let mut builder = BatchBuilder::new(Codec::Lz4, None);
    let mut rng = SimRng::new(1);
    let noise: Vec<u8> = (0..100_000).map(|_| rng.next_u64() as u8).collect();
    builder.push(5, None, Some(&noise), &[]).unwrap();
    let large = LogBatch::stamp(builder.build_batch().unwrap(), 3, 0);
    let packed = pack(std::slice::from_ref(&large), &PackPolicy::default());
    assert_eq!(packed.batches[0].unstamped().as_ptr(), large.unstamped().as_ptr());
    assert_eq!((packed.stats.merged, packed.stats.batches_out), (0, 1));
}

#[test]
fn what_would_not_become_smaller_goes_through_untouched() {
    let mut rng = SimRng::new(1);
    let mut log = Vec::new();
    for i in 0..5_i32 {
        let mut builder = BatchBuilder::new(Codec::None, None);
        let noise: Vec<u8> = (0..900).map(|_| rng.next_u64() as u8).collect();
        builder.push(5, None, Some(&noise), &[]).unwrap();
        // Each of its own leader epoch, so alone in its run.
        log.push(LogBatch::stamp(builder.build_batch().unwrap(), i64::from(i), i));
    }
    let packed = pack(&log, &PackPolicy::default());
    assert_eq!(packed.batches, log);
    assert_eq!((packed.stats.merged, packed.stats.unreadable), (0, 0));
}

#[test]
fn a_batch_that_cannot_be_decoded_goes_through_and_its_neighbours_are_packed() {
    let mut log = of_producers(Codec::None, 30, |builder| builder);
    // A zstd batch whose frame is cut, with a CRC that is right: a client's own fault.
    let whole = of_producers(Codec::Zstd, 11, |builder| builder).remove(10);
    let mut raw = Vec::new();
    whole.write_to(&mut raw);
    raw.truncate(raw.len() - 4);
    let length = raw.len() as i32 - 12;
    raw[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    log[10] = LogBatch::parse(Bytes::from(raw)).unwrap();
    let packed = pack(&log, &PackPolicy::default());
    assert_eq!(packed.batches.len(), 3);
    assert_eq!(packed.batches[1], log[10]);
    assert_eq!((packed.stats.unreadable, packed.stats.merged), (1, 29));
}

#[test]
fn epochs_times_control_transactions_and_zstd_stay_apart() {
    let plain = |builder: BatchBuilder| builder;
    let cases: Vec<(&str, Vec<LogBatch>)> = vec![
        ("plain", of_producers(Codec::None, 10, plain)),
        ("zstd", of_producers(Codec::Zstd, 10, plain)),
        ("other producers", of_producers(Codec::None, 10, |b| b.with_producer(4, 0, 7))),
        ("append time", of_producers(Codec::None, 10, |b| b.with_log_append_time(5))),
        ("other append time", of_producers(Codec::None, 10, |b| b.with_log_append_time(6))),
        (
            "transaction",
            of_producers(Codec::None, 10, |b| b.with_producer(1, 0, 0).with_transactional(true)),
        ),
        (
            "other epoch",
            of_producers(Codec::None, 10, |b| b.with_producer(1, 1, 0).with_transactional(true)),
        ),
        (
            "other producer",
            of_producers(Codec::None, 10, |b| b.with_producer(2, 1, 0).with_transactional(true)),
        ),
    ];
    let merges = |first: &[LogBatch], second: &[LogBatch]| {
        let mut log = first.to_vec();
        for (i, batch) in second.iter().enumerate() {
            let batch = batch.to_batch().unwrap();
            log.push(LogBatch::stamp(batch, 10 + i as i64, 1));
        }
        pack(&log, &PackPolicy::default()).batches.len() == 1
    };
    for (name, first) in &cases {
        for (other, second) in &cases {
            let alike = ["plain", "other producers"];
            let expected = name == other || (alike.contains(name) && alike.contains(other));
            assert_eq!(merges(first, second), expected, "{name} and {other}");
        }
    }
    let mut log = of_producers(Codec::None, 20, plain);
    for batch in &mut log[10..] {
        batch.leader_epoch = 2;
    }
    assert_eq!(pack(&log, &PackPolicy::default()).batches.len(), 2);
    let control = of_producers(Codec::None, 11, |b| b.with_producer(1, 0, 0).with_control(true));
    let mut log = of_producers(Codec::None, 21, plain);
    log[10] = control[10].clone();
    assert_eq!(pack(&log, &PackPolicy::default()).batches.len(), 3);
}

#[test]
fn transactional_batches_keep_their_producer_and_others_lose_it() {
    let policy = PackPolicy::default();
    let log = of_producers(Codec::None, 9, |b| b.with_producer(6, 2, 40).with_transactional(true));
    let header = pack(&log, &policy).batches[0].header();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (6, 2, 40));
    let log = of_producers(Codec::None, 9, |b| b.with_producer(6, 2, 40));
    assert_eq!(pack(&log, &policy).batches[0].header().producer_id, NO_PRODUCER_ID);
}

#[test]
fn a_topic_that_names_a_codec_is_served_in_it() {
    let log = of_producers(Codec::Snappy, 20, |builder| builder);
    for (named, expected, is_marked) in [
        (None, Codec::None, true),
        (Some(Codec::None), Codec::None, true),
        (Some(Codec::Gzip), Codec::Gzip, true),
        (Some(Codec::Zstd), Codec::Zstd, false),
    ] {
        let policy = PackPolicy::for_topic(named, limits::DEFAULT_MAX_MESSAGE_BYTES);
        let packed = pack(&log, &policy).batches;
        assert_eq!(packed.len(), 1);
        assert_eq!(packed[0].header().attributes.is_repacked(), is_marked);
        let served = match serve(&packed[0], named).unwrap() {
            Served::AsIs => packed[0].clone(),
            Served::Instead(other) => other,
        };
        assert_eq!(served.header().attributes.codec(), Ok(expected));
        // The setting may have changed since: still readable by all.
        let later = serve(&packed[0], Some(Codec::Lz4)).unwrap();
        assert_eq!(later == Served::AsIs, !is_marked);
    }
}

#[test]
fn no_packed_batch_is_larger_than_a_consumer_of_small_fetches_can_take() {
    let log = of_producers(Codec::None, 5_000, |builder| builder);
    for max_message_bytes in [0, 1_000, 20_000, limits::DEFAULT_MAX_MESSAGE_BYTES, usize::MAX] {
        let policy = PackPolicy::for_topic(None, max_message_bytes);
        for batch in pack(&log, &policy).batches {
            let Served::Instead(served) = serve(&batch, None).unwrap() else {
                panic!("a repacked batch goes out as it is");
            };
            assert!(served.size_bytes() <= policy.target_bytes);
            assert!(served.header().records_count as usize <= limits::PACK_RECORDS_MAX);
        }
    }
}

#[test]
fn a_small_batch_that_expands_far_is_not_taken_apart() {
    let mut builder = BatchBuilder::new(Codec::Lz4, None);
    builder.push(5, None, Some(&vec![b' '; 3 * limits::MIB]), &[]).unwrap();
    let bomb = LogBatch::stamp(builder.build_batch().unwrap(), 0, 0);
    assert!(bomb.size_bytes() < limits::DEFAULT_PACK_SMALL_BATCH_BYTES);
    let packed = pack(&[bomb.clone(), bomb], &PackPolicy::default());
    assert_eq!((packed.batches.len(), packed.stats.unreadable), (2, 0));
}
