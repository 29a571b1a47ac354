//! Entries in bytes: whatever a batch looks like it comes back to the byte, small ones are short,
//! and bytes that are not an entry are an error and never a panic.

use super::rig::{Producer, batch};
use crate::rng::Rng;
use crate::units::{EntrySeq, PartitionKey};
use crate::{CommittedOffset, Entry, EntryError, Fact, Sent, SentAnswer, TransactionFact};
use bytes::{BufMut, Bytes, BytesMut};
use millpond_wire::limits;
use millpond_wire::record::{Attributes, BatchHeader, LogBatch};
use millpond_wire::uuid::Uuid;

const KEY: PartitionKey = PartitionKey { topic_id: Uuid([7; 16]), partition: 63 };

fn below(rng: &mut Rng, bound: u64) -> u64 {
    rng.next_u64() % bound
}

/// Small, large and extreme numbers alike.
fn number(rng: &mut Rng) -> i64 {
    let shift = below(rng, 64);
    (rng.next_u64() >> shift) as i64 * if below(rng, 4) == 0 { -1 } else { 1 }
}

fn random_batch(rng: &mut Rng) -> LogBatch {
    let section_bytes = match below(rng, 8) {
        0 => 0,
        1 => limits::COMPACT_BATCH_BYTES_MAX as u64 - 61 - 2 + below(rng, 4),
        2 => below(rng, 20_000),
        _ => below(rng, 400),
    };
    let section: Vec<u8> = (0..section_bytes).map(|_| rng.next_u64() as u8).collect();
    let most = section_bytes / 7;
    let records_count = if below(rng, 2) == 0 { 1 } else { below(rng, 300) }.min(most) as i32;
    // Compaction leaves gaps.
    let gap = if below(rng, 3) == 0 { below(rng, 1_000) as i32 } else { 0 };
    let codec = below(rng, 5) as u16;
    let bits = if below(rng, 2) == 0 { rng.next_u64() as u16 & !7 } else { 0 };
    let base_timestamp = number(rng);
    let has_producer = below(rng, 3) > 0;
    let header = BatchHeader {
        base_offset: number(rng).checked_abs().unwrap_or(0) >> 1,
        batch_length: 0,
        partition_leader_epoch: if below(rng, 2) == 0 { 1 } else { number(rng) as i32 },
        magic: 0,
        crc: 0,
        attributes: Attributes::from_bits(bits | codec),
        last_offset_delta: (records_count - 1).max(0) + gap,
        base_timestamp,
        max_timestamp: if below(rng, 2) == 0 { base_timestamp } else { number(rng) },
        producer_id: if has_producer { number(rng) } else { -1 },
        producer_epoch: if has_producer { number(rng) as i16 } else { -1 },
        base_sequence: if has_producer { number(rng) as i32 } else { -1 },
        records_count,
    };
    let crc = (below(rng, 8) == 0).then(|| rng.next_u64() as u32);
    LogBatch::from_parts(header, &section, crc).expect("a possible batch")
}

fn random_sent(rng: &mut Rng, batch: &LogBatch) -> Option<Sent> {
    let header = batch.header();
    let own = Sent {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        last_sequence: header.last_sequence(),
        answer: SentAnswer::Offset(header.base_offset),
    };
    match below(rng, 5) {
        0 => None,
        1 => Some(Sent { answer: SentAnswer::NoOffset, ..own }),
        2 => Some(Sent { base_sequence: number(rng) as i32, ..own }),
        _ => Some(own),
    }
}

fn encoded(entry: &Entry) -> Bytes {
    let mut bytes = BytesMut::new();
    entry.encode(&mut bytes);
    assert_eq!(bytes.len(), entry.encoded_len());
    bytes.freeze()
}

fn bytes_of(batch: &LogBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    batch.write_to(&mut bytes);
    bytes
}

fn assert_same(found: &Entry, wanted: &Entry, seed: u64) {
    assert_eq!(found.facts.len(), wanted.facts.len(), "seed {seed}");
    for (found, wanted) in found.facts.iter().zip(&wanted.facts) {
        let (Fact::Appended { partition, batch, sent }, Fact::Appended { .. }) = (found, wanted)
        else {
            panic!("seed {seed}: {found:?}");
        };
        let Fact::Appended { partition: own, batch: own_batch, sent: own_sent } = wanted else {
            panic!("seed {seed}");
        };
        assert_eq!((partition, sent), (own, own_sent), "seed {seed}");
        assert!(bytes_of(batch) == bytes_of(own_batch), "seed {seed}: {:?}", own_batch.header());
        assert_eq!(batch.next_offset(), own_batch.next_offset(), "seed {seed}");
        assert_eq!(batch.max_timestamp(), own_batch.max_timestamp(), "seed {seed}");
    }
}

fn random_entry(rng: &mut Rng) -> Entry {
    let seq = EntrySeq(rng.next_u64());
    let facts = (0..below(rng, 4) + 1).map(|_| {
        let batch = random_batch(rng);
        let partition = PartitionKey { partition: number(rng) as i32, ..KEY };
        Fact::Appended { partition, sent: random_sent(rng, &batch), batch }
    });
    Entry { seq, facts: facts.collect() }
}

#[test]
fn batches_of_every_kind_come_back_to_the_byte() {
    let (mut small, mut large) = (0, 0);
    for seed in 0..5_000 {
        let entry = random_entry(&mut Rng::new(seed));
        let bytes = encoded(&entry);
        let found = Entry::decode(entry.seq, bytes).expect("our own entry");
        assert_same(&found, &entry, seed);
        let sizes = entry.facts.iter().map(|fact| match fact {
            Fact::Appended { batch, .. } => batch.size_bytes(),
            _ => 0,
        });
        for size in sizes {
            *if size < limits::COMPACT_BATCH_BYTES_MAX { &mut small } else { &mut large } += 1;
        }
    }
    assert!(small > 1_000 && large > 1_000, "{small} small, {large} large");
}

#[test]
fn an_entry_of_a_small_record_costs_few_bytes_more_than_the_record() {
    // A day and a half of one record a second, from one of many producers.
    let sequence = 130_000;
    let producer = Producer { id: 5_000, epoch: 0, sequence };
    let raw = batch(&[&"v".repeat(200)], Some(producer));
    let parsed = millpond_wire::record::Batch::parse(raw).expect("our own batch");
    let mut header = *parsed.header();
    header.base_timestamp = 1_700_000_000_000;
    header.max_timestamp = header.base_timestamp;
    header.base_offset = 1_000_000;
    header.partition_leader_epoch = 1;
    let batch = LogBatch::from_parts(header, &parsed.payload(), None).expect("a batch");
    assert_eq!(batch.section().len(), 209);
    let sent = Sent {
        producer_id: 5_000,
        producer_epoch: 0,
        base_sequence: sequence,
        last_sequence: sequence,
        answer: SentAnswer::Offset(1_000_000),
    };
    let fact = Fact::Appended { partition: KEY, batch, sent: Some(sent) };
    let entry = Entry { seq: EntrySeq(123_456_789), facts: vec![fact] };
    let row_bytes = 16;
    let total = row_bytes + encoded(&entry).len();
    assert!(total <= 265, "{total} bytes");
}

#[test]
fn entries_of_version_1_are_read() {
    let mut rng = Rng::new(4);
    for seed in 0..200 {
        let batch = random_batch(&mut rng);
        let sent = random_sent(&mut rng, &batch);
        let mut body = BytesMut::new();
        body.put_slice(&KEY.topic_id.0);
        body.put_i32_le(KEY.partition);
        body.put_u8(u8::from(sent.is_some()));
        if let Some(sent) = &sent {
            sent.put(&mut body);
        }
        batch.write_to(&mut body);
        let mut bytes = BytesMut::new();
        bytes.put_u8(1);
        bytes.put_u64_le(77);
        bytes.put_u32_le(1);
        bytes.put_u8(4);
        bytes.put_u32_le(body.len() as u32);
        bytes.put_slice(&body);
        let bytes = bytes.freeze();
        let found = Entry::decode(EntrySeq(77), bytes.clone()).expect("version 1");
        let fact = Fact::Appended { partition: KEY, batch, sent };
        assert_same(&found, &Entry { seq: EntrySeq(77), facts: vec![fact] }, seed);
        let other = EntryError::OtherNumber { expected: EntrySeq(78), found: EntrySeq(77) };
        assert_eq!(Entry::decode(EntrySeq(78), bytes).map(|_| ()), Err(other));
    }
}

#[test]
fn an_entry_cut_short_is_an_error_wherever_it_is_cut() {
    for seed in 0..60 {
        let entry = random_entry(&mut Rng::new(seed));
        let bytes = encoded(&entry);
        for len in 0..bytes.len() {
            let cut = Entry::decode(entry.seq, bytes.slice(..len));
            assert!(cut.is_err(), "seed {seed}, {len} bytes");
        }
        let mut longer = BytesMut::from(bytes);
        longer.put_u8(0);
        assert!(Entry::decode(entry.seq, longer.freeze()).is_err(), "seed {seed}, one more");
    }
}

fn transaction_facts() -> Vec<TransactionFact> {
    let transactional_id = "tx".to_owned();
    let offset = CommittedOffset {
        offset: 7,
        leader_epoch: -1,
        commit_timestamp_ms: 5,
        metadata: Some("m".to_owned()),
    };
    let prepared = |next_producer_id: Option<i64>| TransactionFact::Prepared {
        transactional_id: transactional_id.clone(),
        is_commit: next_producer_id.is_some(),
        epoch: 32_767,
        previous: next_producer_id.map(|id| (id, 32_766)),
        next_producer_id,
        at_ms: -3,
    };
    vec![
        TransactionFact::GroupMarked { group: "g".to_owned(), producer_id: 4, is_commit: true },
        TransactionFact::ProducerAssigned {
            transactional_id: transactional_id.clone(),
            producer_id: i64::MAX,
            epoch: 3,
            previous: Some((1, 2)),
            timeout_ms: 60_000,
            at_ms: 1_700_000_000_000,
        },
        TransactionFact::Joined {
            transactional_id: transactional_id.clone(),
            partitions: vec![KEY, PartitionKey { partition: 0, ..KEY }],
            groups: vec!["g".to_owned()],
            at_ms: 9,
        },
        TransactionFact::OffsetsPending {
            producer_id: 4,
            group: "g".to_owned(),
            offsets: vec![(KEY, offset)],
        },
        prepared(None),
        prepared(Some(40)),
        TransactionFact::Completed { transactional_id: transactional_id.clone(), at_ms: 8 },
        TransactionFact::Expired { transactional_id },
    ]
}

#[test]
fn the_steps_of_a_transaction_come_back_and_cut_short_they_are_errors() {
    let facts: Vec<Fact> = transaction_facts().into_iter().map(Fact::Transaction).collect();
    let entry = Entry { seq: EntrySeq(3), facts };
    let bytes = encoded(&entry);
    let found = Entry::decode(EntrySeq(3), bytes.clone()).expect("our own entry").facts;
    let found: Vec<TransactionFact> = found
        .into_iter()
        .map(|fact| match fact {
            Fact::Transaction(fact) => fact,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, transaction_facts());
    for len in 0..bytes.len() {
        assert!(Entry::decode(EntrySeq(3), bytes.slice(..len)).is_err(), "{len} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        // An error or another entry, never a panic.
        let _ = Entry::decode(EntrySeq(3), changed.into());
    }
}

#[test]
fn what_is_kept_of_members_comes_back_and_cut_short_it_is_an_error() {
    let mut rig = super::rig::Rig::new();
    rig.create_topic("t", 3);
    let first = super::groups::alone(&mut rig);
    super::groups::leave(&mut rig, &first.member_id);
    let mut client = super::consumer_client::Client::fixed("a", "pump", &["t"]).in_group("h");
    client.regex = Some("t.*".to_owned());
    client.assignor = Some("range".to_owned());
    client.beat(&mut rig);
    client.leave(&mut rig, -1);
    let mut tags = std::collections::BTreeSet::new();
    for (bytes, seq) in rig.entries.iter().zip(1..) {
        let entry = Entry::decode(EntrySeq(seq), bytes.clone()).expect("our own entry");
        assert_eq!(encoded(&entry), bytes);
        tags.extend(entry.facts.iter().map(Fact::tag));
        for len in 0..bytes.len() {
            assert!(Entry::decode(EntrySeq(seq), bytes.slice(..len)).is_err(), "{len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            // An error or another entry, never a panic.
            let _ = Entry::decode(EntrySeq(seq), changed.into());
        }
    }
    assert!([40, 42, 43, 44].iter().all(|tag| tags.contains(tag)), "{tags:?}");
}

/// Whoever gets around the journal's checksum gets no panic, and no memory beyond what is there.
#[test]
fn a_changed_entry_is_an_error_or_another_entry_of_no_more_than_its_bytes() {
    let (mut refused, mut read) = (0, 0);
    for seed in 0..30 {
        let entry = random_entry(&mut Rng::new(seed));
        let bytes = encoded(&entry);
        for bit in 0..(bytes.len() * 8).min(4_000) {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            match Entry::decode(entry.seq, changed.into()) {
                Err(_) => refused += 1,
                Ok(found) => {
                    read += 1;
                    let headers = 61 * found.facts.len();
                    assert!(found.payload_bytes() <= bytes.len() + headers, "seed {seed}");
                }
            }
        }
    }
    assert!(refused > 1_000 && read > 1_000, "{refused} refused, {read} read");
}
