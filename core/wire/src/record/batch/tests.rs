//! Every lie of a batch that can be told without decompressing it, and what is shared.

use super::*;
use crate::record::BatchBuilder;

fn raw_of(codec: Codec, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(codec, None);
    for i in 0..records {
        let value = format!("{{\"sensor\":{i},\"celsius\":21.5}}");
        builder.push(1_000 + i as i64, None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.build().unwrap()
}

/// `raw` with bytes replaced and the CRC made right again.
fn forged(raw: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut forged = raw.to_vec();
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&forged[CRC_FROM..]);
    forged[17..21].copy_from_slice(&crc.to_be_bytes());
    forged.into()
}

#[test]
fn a_built_batch_parses_and_shares_its_bytes() {
    for codec in Codec::ALL {
        let raw = raw_of(codec, 20);
        let batch = Batch::parse(raw.clone()).unwrap();
        assert_eq!(batch.raw().as_ptr(), raw.as_ptr());
        assert_eq!((batch.records_count(), batch.codec()), (20, codec));
        assert_eq!((batch.header().base_timestamp, batch.header().max_timestamp), (1_000, 1_019));
        batch.check_produced(1 << 20).unwrap();
    }
}

#[test]
fn uncompressed_records_are_not_copied() {
    let raw = raw_of(Codec::None, 3);
    let section = Batch::parse(raw.clone()).unwrap().decompress(1 << 20).unwrap();
    assert_eq!(section.as_ptr(), raw[HEADER_BYTES..].as_ptr());
}

#[test]
fn every_truncation_and_every_extra_byte_is_refused() {
    let raw = raw_of(Codec::None, 3);
    for len in 0..raw.len() {
        assert!(
            matches!(Batch::parse(raw.slice(..len)), Err(BatchError::Truncated { .. })),
            "{len}"
        );
    }
    let mut longer = raw.to_vec();
    longer.push(0);
    assert_eq!(
        Batch::parse(longer.into()),
        Err(BatchError::TrailingBytes { batch_bytes: raw.len(), extra_bytes: 1 })
    );
}

#[test]
fn every_flipped_bit_under_the_crc_is_found() {
    let raw = raw_of(Codec::Lz4, 10);
    for bit in CRC_FROM * 8..raw.len() * 8 {
        let mut flipped = raw.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(Batch::parse(flipped.into()), Err(BatchError::Crc { .. })), "{bit}");
    }
}

#[test]
fn old_message_formats_are_named() {
    for magic in [0_u8, 1, 3] {
        let mut old = raw_of(Codec::None, 1).to_vec();
        old[16] = magic;
        let error = BatchError::UnsupportedMagic { magic: magic as i8 };
        assert_eq!(Batch::parse(old.clone().into()), Err(error.clone()));
        assert_eq!(Batch::split(old.into(), 10), Err(error));
    }
}

#[test]
fn lying_lengths_and_counts_are_refused() {
    let raw = raw_of(Codec::None, 3);
    for length in [-1, 0, 48, i32::MIN] {
        let lie = forged(&raw, 8, &i32::to_be_bytes(length));
        assert_eq!(Batch::parse(lie), Err(BatchError::BadLength { length }));
    }
    let huge = forged(&raw, 8, &i32::MAX.to_be_bytes());
    assert!(matches!(Batch::parse(huge), Err(BatchError::TooLarge { .. })));
    for count in [-1, 4, 1_000, i32::MIN, i32::MAX] {
        let lie = forged(&raw, 57, &i32::to_be_bytes(count));
        assert!(matches!(Batch::parse(lie), Err(BatchError::BadCount { .. })), "{count}");
    }
    for delta in [-1, 1, i32::MIN] {
        let lie = forged(&raw, 23, &i32::to_be_bytes(delta));
        assert!(matches!(Batch::parse(lie), Err(BatchError::BadCount { .. })), "{delta}");
    }
    // More records than the bytes could hold, with a delta to match.
    let mut lie = [0; 4 + 30 + 4];
    lie.copy_from_slice(&raw[23..61]);
    lie[..4].copy_from_slice(&999_i32.to_be_bytes());
    lie[34..].copy_from_slice(&1_000_i32.to_be_bytes());
    assert!(matches!(Batch::parse(forged(&raw, 23, &lie)), Err(BatchError::BadCount { .. })));
    for codec in 5..8 {
        let lie = forged(&raw, 21, &[0, codec]);
        assert_eq!(Batch::parse(lie), Err(BatchError::UnknownCodec { id: codec }));
    }
}

#[test]
fn what_only_a_broker_may_write_is_refused_from_producers() {
    let raw = raw_of(Codec::None, 3);
    let refused = |raw| {
        let checked = Batch::parse(raw).unwrap().check_produced(1 << 20);
        matches!(checked, Err(BatchError::NotProducible { .. }))
    };
    assert!(refused(forged(&raw, 21, &[0, 1 << 5])), "control");
    assert!(refused(forged(&raw, 21, &[0, 1 << 6])), "delete horizon");
    assert!(refused(forged(&raw, 21, &[0, 1 << 7])), "unused");
    for bit in 0..8 {
        assert!(refused(forged(&raw, 21, &[1 << bit, 0])), "repacked and unused: {bit}");
    }
    assert!(refused(forged(&raw, 21, &[0, 1 << 4])), "transactional without a producer");
    assert!(refused(forged(&raw, 23, &5_i32.to_be_bytes())), "gaps");
    assert!(refused(forged(&raw, 0, &7_i64.to_be_bytes())), "base offset");
    assert!(refused(forged(&raw, 43, &9_i64.to_be_bytes())), "producer without a sequence");
    let too_large = Batch::parse(raw.clone()).unwrap().check_produced(raw.len() - 1);
    assert!(matches!(too_large, Err(BatchError::TooLarge { .. })));
}

#[test]
fn a_batch_without_records_keeps_its_offsets() {
    let empty = Batch::without_records(41, 7);
    let again = Batch::parse(empty.raw().clone()).unwrap();
    assert_eq!(again, empty);
    assert_eq!((again.records_count(), again.header().last_offset_delta), (0, 41));
    let section = again.decompress(0).unwrap();
    assert_eq!(again.records(&section).verify(), Ok(0));
}

#[test]
fn several_batches_split_and_a_cut_one_is_only_tolerated_in_a_fetch() {
    let mut raw = Vec::new();
    for records in 1..=3 {
        raw.extend_from_slice(&raw_of(Codec::None, records));
    }
    let raw = Bytes::from(raw);
    let counts =
        |batches: Vec<Batch>| -> Vec<u32> { batches.iter().map(Batch::records_count).collect() };
    assert_eq!(counts(Batch::split(raw.clone(), 3).unwrap()), [1, 2, 3]);
    assert_eq!(Batch::split(raw.clone(), 2), Err(BatchError::TooManyBatches { limit: 2 }));
    assert_eq!(Batch::split(Bytes::new(), 0), Ok(Vec::new()));
    let third = raw.len() - raw_of(Codec::None, 3).len();
    for len in third + 1..raw.len() {
        let cut = raw.slice(..len);
        assert!(matches!(
            Batch::split(cut.clone(), 3),
            Err(BatchError::Truncated { have_bytes, .. }) if have_bytes == len - third
        ));
        let prefix = Batch::split_prefix(cut, 3).unwrap();
        assert_eq!(prefix.partial_bytes, len - third);
        assert_eq!(counts(prefix.batches), [1, 2]);
    }
}

#[test]
fn log_append_time_counts_for_every_record() {
    for codec in Codec::ALL {
        let batch = Batch::parse(raw_of(codec, 4)).unwrap().with_log_append_time(77);
        let batch = Batch::parse(batch.into_raw()).unwrap();
        let section = batch.decompress(1 << 20).unwrap();
        assert!(batch.records(&section).all(|record| record.unwrap().timestamp == 77));
    }
}
