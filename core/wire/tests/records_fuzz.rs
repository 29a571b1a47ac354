//! Seeded hostile input for the record batch reader: nothing may panic, and nothing false may pass.
//! A failure prints the seed; `MILLPOND_FUZZ_SEED` runs it again, `MILLPOND_FUZZ_ROUNDS` runs longer.

use bytes::Bytes;
use fastrand::Rng;
use millpond_wire::record::{
    Batch, BatchBuilder, BatchError, Codec, HEADER_BYTES, Header, LogBatch, decompress,
    first_at_or_after, max_timestamp,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const CAP: usize = 1 << 20;

/// Runs `round` with many seeds, or with the one of the environment.
fn rounds(test: &str, default_rounds: u64, round: impl Fn(&mut Rng)) {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let count = from_env("MILLPOND_FUZZ_ROUNDS").unwrap_or(default_rounds);
    let seeds = match from_env("MILLPOND_FUZZ_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    };
    for seed in seeds {
        let result = catch_unwind(AssertUnwindSafe(|| round(&mut Rng::with_seed(seed))));
        if let Err(panic) = result {
            eprintln!(
                "failed with seed {seed}; again with:\n  MILLPOND_FUZZ_SEED={seed} cargo test \
                 -p millpond-wire --test records_fuzz {test}"
            );
            resume_unwind(panic);
        }
    }
}

fn some_batch(rng: &mut Rng) -> Bytes {
    let codec = Codec::ALL[rng.usize(..Codec::ALL.len())];
    let mut builder = BatchBuilder::new(codec, None);
    for _ in 0..=rng.usize(..30) {
        let key = rng.bool().then(|| vec![b'k'; rng.usize(..20)]);
        let value = rng.bool().then(|| vec![rng.u8(b'a'..=b'z'); rng.usize(..300)]);
        let headers = [Header { key: b"unit", value: Some(b"celsius") }; 3];
        let headers = &headers[..rng.usize(..3)];
        builder
            .push(rng.i64(0..1 << 41), key.as_deref(), value.as_deref(), headers)
            .expect("the record fits");
    }
    builder.build().expect("there are records")
}

/// Makes length and CRC right, so that what stands behind them is reached.
fn sealed(mut raw: Vec<u8>) -> Bytes {
    if let Some(length) = raw.len().checked_sub(12)
        && raw.len() >= HEADER_BYTES
    {
        raw[8..12].copy_from_slice(&(length as u32).to_be_bytes());
        let crc = crc32c::crc32c(&raw[21..]);
        raw[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    raw.into()
}

/// Everything that reads a batch. What it accepts must hold together.
fn read_all(raw: Bytes) {
    let _ = Batch::split(raw.clone(), 10);
    let _ = LogBatch::split(raw.clone(), 10);
    let _ = Batch::split_prefix(raw.clone(), 10);
    let _ = Batch::parse_trusted(raw.clone());
    let Ok(batch) = Batch::parse(raw) else {
        return;
    };
    let _ = batch.check_produced(CAP);
    let _ = first_at_or_after(&batch, 0, 1 << 40, CAP);
    let _ = max_timestamp(&batch, i64::MAX - 5, CAP);
    let Ok(section) = batch.decompress(CAP) else {
        return;
    };
    assert!(section.len() <= CAP);
    let count = batch.records(&section).map_while(Result::ok).inspect(|record| {
        assert!(record.headers.len() <= record.headers_raw.len());
        assert_eq!(record.headers.clone().count(), record.headers.len());
    });
    let count = count.count();
    assert!(count <= batch.records_count() as usize);
    if batch.records(&section).verify().is_ok() {
        assert_eq!(count, batch.records_count() as usize);
        rebuild(&batch, &section);
    }
}

/// A valid batch can be taken apart and put together again, equal record for record.
fn rebuild(batch: &Batch, section: &Bytes) {
    let mut builder = BatchBuilder::like(batch);
    for record in batch.records(section) {
        let record = record.expect("verified before");
        if builder
            .push_at(
                record.offset_delta,
                record.timestamp,
                record.key,
                record.value,
                record.headers_raw,
            )
            .is_err()
        {
            return; // timestamps too far apart for a delta from the first one
        }
    }
    if builder.is_empty() {
        return;
    }
    let rebuilt = builder.build_batch().expect("it was a batch before");
    let again = rebuilt.decompress(CAP).expect("our own");
    let pairs = rebuilt.records(&again).zip(batch.records(section));
    for (ours, theirs) in pairs {
        let (ours, theirs) = (ours.expect("our own"), theirs.expect("verified before"));
        assert_eq!(ours.offset_delta, theirs.offset_delta);
        assert_eq!(ours.timestamp, theirs.timestamp);
        assert_eq!((ours.key, ours.value), (theirs.key, theirs.value));
        assert_eq!(ours.headers_raw, theirs.headers_raw);
    }
}

fn mutate(rng: &mut Rng, raw: &mut Vec<u8>) {
    for _ in 0..=rng.usize(..4) {
        let at = rng.usize(..raw.len());
        match rng.u8(..6) {
            0 => raw[at] ^= 1 << rng.u8(..8),
            1 => raw[at] = rng.u8(..),
            2 => raw[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)],
            3 => raw.truncate(at.max(1)),
            4 => raw.insert(at, rng.u8(..)),
            _ => {
                let end = (at + rng.usize(1..9)).min(raw.len());
                let copy = raw[at..end].to_vec();
                raw.extend_from_slice(&copy);
            }
        }
    }
}

#[test]
fn a_flipped_bit_never_passes_the_crc() {
    rounds("a_flipped_bit_never_passes_the_crc", 3_000, |rng| {
        let mut raw = some_batch(rng).to_vec();
        let at = rng.usize(17..raw.len());
        raw[at] ^= 1 << rng.u8(..8);
        assert!(matches!(Batch::parse(raw.into()), Err(BatchError::Crc { .. })));
    });
}

#[test]
fn every_truncation_is_refused() {
    rounds("every_truncation_is_refused", 20, |rng| {
        let raw = some_batch(rng);
        for len in 0..raw.len() {
            assert!(Batch::parse(raw.slice(..len)).is_err(), "{len} of {}", raw.len());
            let short = sealed(raw[..len].to_vec());
            if let Ok(batch) = Batch::parse(short)
                && let Ok(section) = batch.decompress(CAP)
            {
                assert!(batch.records(&section).verify().is_err(), "{len} of {}", raw.len());
            }
        }
    });
}

#[test]
fn changed_batches_with_a_right_crc_are_read_or_refused() {
    rounds("changed_batches_with_a_right_crc_are_read_or_refused", 20_000, |rng| {
        let mut raw = some_batch(rng).to_vec();
        mutate(rng, &mut raw);
        if rng.u8(..8) > 0 {
            raw.resize(raw.len().max(HEADER_BYTES), 0);
            read_all(sealed(raw));
        } else {
            read_all(raw.into());
        }
    });
}

#[test]
fn changed_record_sections_are_read_or_refused() {
    rounds("changed_record_sections_are_read_or_refused", 20_000, |rng| {
        let batch = Batch::parse(some_batch(rng)).expect("our own");
        let mut section = batch.decompress(CAP).expect("our own").to_vec();
        mutate(rng, &mut section);
        let mut header = *batch.header();
        header.attributes = header.attributes.with_codec(Codec::None);
        if rng.bool() {
            header.records_count = rng.i32(-2..60);
            header.last_offset_delta = rng.i32(-2..60);
        }
        if rng.u8(..8) == 0 {
            header.base_timestamp = rng.i64(..);
        }
        let mut raw = header.write().to_vec();
        raw.extend_from_slice(&section);
        read_all(sealed(raw));
    });
}

#[test]
fn arbitrary_bytes_never_decompress_beyond_the_cap() {
    rounds("arbitrary_bytes_never_decompress_beyond_the_cap", 20_000, |rng| {
        let batch = Batch::parse(some_batch(rng)).expect("our own");
        for codec in Codec::ALL {
            let mut input = if batch.codec() == codec && rng.bool() {
                batch.payload().to_vec()
            } else {
                let mut input = magic_of(codec).to_vec();
                input.extend((0..rng.usize(..60)).map(|_| rng.u8(..)));
                input
            };
            if rng.bool() && !input.is_empty() {
                mutate(rng, &mut input);
            }
            let cap = rng.usize(..5_000);
            if let Ok(output) = decompress(codec, &input, cap) {
                assert!(output.len() <= cap);
            }
        }
    });
}

fn magic_of(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::None => &[],
        Codec::Gzip => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff],
        Codec::Snappy => &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1],
        Codec::Lz4 => &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82],
        Codec::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
    }
}
