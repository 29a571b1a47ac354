//! What a builder promises: nothing lost, nothing changed, nothing above a cap.

use super::*;

#[test]
fn an_empty_batch_is_not_built() {
    assert_eq!(BatchBuilder::new(Codec::Zstd, None).build(), Err(BuildError::Empty));
}

#[test]
fn a_builder_is_ready_for_the_next_batch() {
    let mut builder = BatchBuilder::new(Codec::Lz4, None);
    builder.push(5, Some(b"a"), Some(&[7; 500]), &[]).unwrap();
    let first = builder.build().unwrap();
    assert!(builder.is_empty());
    builder.push(5, Some(b"a"), Some(&[7; 500]), &[]).unwrap();
    assert_eq!(builder.build().unwrap(), first);
}

#[test]
fn records_that_do_not_shrink_are_stored_as_they_are() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(codec, None);
        builder.push(5, None, Some(b"x"), &[]).unwrap();
        assert_eq!(builder.build_batch().unwrap().codec(), Codec::None);
    }
}

#[test]
fn what_does_not_fit_leaves_the_batch_as_it_was() {
    let mut builder = BatchBuilder::new(Codec::None, None);
    builder.push(0, None, Some(b"kept"), &[]).unwrap();
    let size = builder.size_bytes();
    let huge = vec![0; SECTION_BYTES_MAX];
    assert!(matches!(builder.push(0, None, Some(&huge), &[]), Err(BuildError::TooLarge { .. })));
    assert_eq!(
        builder.push_at(0, 0, None, None, &[]),
        Err(BuildError::BadOffset { offset_delta: 0, last_delta: 0 })
    );
    builder.clear();
    builder.push(i64::MIN, None, None, &[]).unwrap();
    assert!(matches!(
        builder.push(i64::MAX, None, None, &[]),
        Err(BuildError::BadTimestamp { .. })
    ));
    builder.clear();
    builder.push(0, None, Some(b"kept"), &[]).unwrap();
    assert_eq!(builder.size_bytes(), size);
    assert_eq!(builder.build_batch().unwrap().records_count(), 1);
}

#[test]
fn gaps_and_a_kept_range_survive() {
    let mut builder = BatchBuilder::new(Codec::Zstd, None);
    for delta in [3, 4, 9] {
        builder.push_at(delta, 1, None, Some(b"v"), &[]).unwrap();
    }
    let batch = Batch::parse(builder.build_spanning(12).unwrap()).unwrap();
    assert_eq!((batch.header().last_offset_delta, batch.records_count()), (12, 3));
    let section = batch.decompress(1 << 20).unwrap();
    let deltas: Vec<i32> =
        batch.records(&section).map(|record| record.unwrap().offset_delta).collect();
    assert_eq!(deltas, [3, 4, 9]);
}

#[test]
fn a_part_of_a_batch_keeps_codec_timestamps_and_headers() {
    let headers = [Header { key: b"unit", value: Some(b"C") }, Header { key: b"", value: None }];
    let mut builder = BatchBuilder::new(Codec::Snappy, None).with_producer(4, 0, 0);
    for i in 0..100_i64 {
        builder.push(1_000 - i, Some(&[i as u8]), Some(&[1; 50]), &headers).unwrap();
    }
    let all = builder.build_batch().unwrap();
    let section = all.decompress(1 << 20).unwrap();
    let mut part = BatchBuilder::like(&all);
    for record in all.records(&section).map(Result::unwrap) {
        if record.key.is_some_and(|key| key[0] % 10 == 3) {
            part.push_record(&record).unwrap();
        }
    }
    let part = part.build_batch().unwrap();
    assert_eq!(part.codec(), Codec::Snappy);
    assert_eq!(part.header().producer_id, NO_PRODUCER_ID);
    assert_eq!((part.header().base_timestamp, part.header().max_timestamp), (997, 997));
    let section = part.decompress(1 << 20).unwrap();
    let kept: Vec<_> = part.records(&section).map(Result::unwrap).collect();
    assert_eq!(kept.len(), 10);
    for (i, record) in kept.iter().enumerate() {
        assert_eq!(record.offset_delta, i as i32);
        assert_eq!(record.timestamp, 997 - 10 * i as i64);
        assert!(record.headers.clone().eq(headers));
    }
}

#[test]
fn the_estimate_of_a_record_is_never_too_small() {
    let headers = [Header { key: b"k", value: None }; 3];
    let mut builder = BatchBuilder::new(Codec::None, None);
    builder.push(0, None, None, &[]).unwrap();
    for size in [0, 1, 63, 64, 8_191, 8_192, 100_000] {
        let value = vec![0; size];
        let before = builder.size_bytes();
        builder.push(i64::MAX, Some(b"key"), Some(&value), &headers).unwrap();
        let most = BatchBuilder::record_bytes_max(Some(b"key"), Some(&value), &headers);
        assert!(builder.size_bytes() - before <= most);
    }
}

#[test]
fn a_delete_horizon_stands_as_base_timestamp_and_changes_no_time() {
    let mut builder = BatchBuilder::new(Codec::None, None).with_delete_horizon(90_000);
    for time in [5, 7, -1] {
        builder.push(time, Some(b"k"), None, &[]).unwrap();
    }
    let batch = builder.build_batch().unwrap();
    assert!(batch.attributes().has_delete_horizon());
    assert_eq!((batch.header().base_timestamp, batch.header().max_timestamp), (90_000, 7));
    let section = batch.decompress(1 << 20).unwrap();
    let times: Vec<i64> = batch.records(&section).map(|record| record.unwrap().timestamp).collect();
    assert_eq!(times, [5, 7, -1]);
}

#[test]
fn only_compressed_batches_are_marked_as_repacked() {
    let mut builder = BatchBuilder::new(Codec::Zstd, None).with_repacked(true);
    builder.push(1, None, Some(b"x"), &[]).unwrap();
    assert!(!builder.build_batch().unwrap().attributes().is_repacked());
    builder.push(1, None, Some(&[b'x'; 500]), &[]).unwrap();
    assert!(builder.build_batch().unwrap().attributes().is_repacked());
    let mut plain = builder.with_transactional(true).with_delete_horizon(5).into_plain();
    plain.push(1, None, Some(&[b'x'; 500]), &[]).unwrap();
    let batch = plain.build_batch().unwrap();
    assert_eq!(batch.attributes(), Attributes::default().with_codec(Codec::Zstd));
}
