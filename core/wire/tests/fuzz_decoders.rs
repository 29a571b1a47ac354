//! Decoders against bytes that lie: truncations at every byte, flipped bits, lengths and counts of every wrong size,
//! noise. Whatever comes in, decoding ends with a value or an error, and takes memory only as the input justifies.
//! Must never depend on anything but its seed: a failure prints how to run the same again.
//!
//! `MILLPOND_FUZZ_SEED` sets the seed, `MILLPOND_FUZZ_ROUNDS` the rounds for each message and version.

#[macro_use]
mod support;

use std::fmt::Debug;

use bytes::Bytes;
use millpond_wire::frame::{self, FrameDecoder};
use millpond_wire::messages::*;
use millpond_wire::reader::memory_budget_bytes;
use millpond_wire::{DecodeError, Message, Reader, limits};

use support::{Dice, Heap, Sample, encoded};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Says how to come back here if the test panics.
struct Case<'a> {
    test: &'a str,
    what: &'a str,
    version: i16,
    seed: u64,
    input: Bytes,
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} version {} fails on {:02x?}", self.what, self.version, &self.input[..]);
            eprintln!(
                "rerun: MILLPOND_FUZZ_SEED={} cargo test -p millpond-wire --test fuzz_decoders {}",
                self.seed, self.test
            );
        }
    }
}

/// Values that lengths and counts are overwritten with.
const LIES: [&[u8]; 14] = [
    &[0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0x00, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0xff, 0xff],
    &[0x7f, 0xff],
    &[0x80, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0x7f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
    &[0x00],
    &[0x01, 0x01, 0x01, 0x01],
];

/// Damages an encoding in one of the ways that peers do.
fn damage(dice: &mut Dice, good: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(7) {
            0 => bytes.truncate(at),
            1 | 2 => {
                let lie = LIES[dice.below(LIES.len())];
                for (slot, byte) in bytes[at.min(good.len())..].iter_mut().zip(lie) {
                    *slot = *byte;
                }
            }
            3 => {
                let bit = 1 << dice.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bit;
                }
            }
            4 => drop(bytes.splice(at..at, LIES[dice.below(LIES.len())].iter().copied())),
            5 => bytes = [&bytes[..at], &other[dice.below(other.len())..]].concat(),
            _ => bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = dice.byte()),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// What must hold for any input. Returns whether it could be read.
fn check<M: Message + Heap + PartialEq + Debug>(input: &Bytes, version: i16) -> bool {
    let mut reader = Reader::new(input.clone());
    let Ok(message) = M::decode(&mut reader, version) else {
        return false;
    };
    let (heap, budget) = (message.heap_bytes(), memory_budget_bytes(input.len()));
    assert!(heap <= budget, "{heap} bytes of memory for {} bytes of input", input.len());
    // What was understood is written so that it is understood the same.
    let again = encoded(&message, version);
    assert_eq!(M::decode(&mut Reader::new(again), version), Ok(message));
    true
}

fn fuzz<M: Sample + Heap + PartialEq + Debug>(
    test: &str,
    what: &str,
    versions: std::ops::RangeInclusive<i16>,
) {
    let seed = setting("MILLPOND_FUZZ_SEED", 0x6d70);
    let rounds = setting("MILLPOND_FUZZ_ROUNDS", 6_000);
    for version in versions {
        let mut dice =
            Dice::new(seed ^ (u64::from(version.unsigned_abs()) << 32) ^ what.len() as u64);
        let good: Vec<Bytes> =
            (0..8).map(|_| encoded(&M::sample(&mut dice, version), version)).collect();
        let case = |input: &Bytes| Case { test, what, version, seed, input: input.clone() };
        for whole in &good {
            let _case = case(whole);
            assert!(check::<M>(whole, version), "an undamaged message is read");
            for end in (0..whole.len()).take(600) {
                let cut = whole.slice(..end);
                let _case = case(&cut);
                assert!(!check::<M>(&cut, version), "a message cut at byte {end} is an error");
            }
        }
        for _ in 0..rounds {
            let (one, other) = (dice.below(good.len()), dice.below(good.len()));
            let input = Bytes::from(damage(&mut dice, &good[one], &good[other]));
            let _case = case(&input);
            check::<M>(&input, version);
        }
        for _ in 0..rounds / 4 {
            let input: Bytes = (0..dice.below(80)).map(|_| dice.byte() & dice.byte()).collect();
            let _case = case(&input);
            check::<M>(&input, version);
        }
    }
}

/// One test for each family: the messages whose name starts with one of the given words. `FAMILIES` holds all words,
/// so that a message that no test fuzzes is found.
macro_rules! families {
    ($($test:ident: $($word:literal),+;)+) => {
        const FAMILIES: &[&[&str]] = &[$(&[$($word),+]),+];

        $(
            #[test]
            fn $test() {
                let words = [$($word),+];
                macro_rules! one {
                    ($name:ident, $first:literal, $last:literal) => {
                        if words.iter().any(|word| stringify!($name).starts_with(word)) {
                            fuzz::<$name>(stringify!($test), stringify!($name), $first..=$last);
                        }
                    };
                }
                each_message!(one);
            }
        )+
    };
}

families! {
    produce_messages_survive_damage: "Produce", "InitProducerId";
    fetch_messages_survive_damage: "Fetch";
    offset_messages_survive_damage: "ListOffsets", "Offset";
    metadata_messages_survive_damage: "Metadata", "DescribeCluster", "ApiVersions";
    topic_messages_survive_damage: "CreateTopics", "DeleteTopics", "DeleteRecords", "AlterConfigs",
        "IncrementalAlterConfigs", "CreatePartitions", "DescribeConfigs";
    transaction_messages_survive_damage: "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "WriteTxnMarkers",
        "TxnOffsetCommit", "DescribeProducers", "DescribeTransactions", "ListTransactions";
    membership_messages_survive_damage: "JoinGroup", "SyncGroup", "Heartbeat", "LeaveGroup", "ConsumerProtocol";
    consumer_group_messages_survive_damage: "ConsumerGroup";
    group_messages_survive_damage: "FindCoordinator", "DescribeGroups", "ListGroups", "DeleteGroups";
    admin_messages_survive_damage: "AlterR", "AlterP", "AlterClient", "DescribeL", "DescribeQ", "DescribeTopicP",
        "DescribeClient", "Elect", "ListP", "ListC", "Update";
    access_messages_survive_damage: "DescribeAcls", "CreateAcls", "DeleteAcls", "DescribeUser",
        "AlterUser", "Sasl";
}

/// An API that is listed and not fuzzed fails here.
#[test]
fn every_api_and_every_message_is_fuzzed_in_one_family() {
    let mut fuzzed: Vec<&str> = Vec::new();
    macro_rules! one {
        ($name:ident, $first:literal, $last:literal) => {
            let name = stringify!($name);
            let words = FAMILIES.iter().flat_map(|words| words.iter());
            let families = words.filter(|word| name.starts_with(**word)).count();
            assert_eq!(families, 1, "families of {name}");
            fuzzed.push(name);
        };
    }
    each_message!(one);
    for spec in millpond_wire::api::APIS {
        for part in ["Request", "Response"] {
            let message = format!("{}{part}", spec.name);
            assert!(fuzzed.contains(&message.as_str()), "{message} is not fuzzed");
        }
    }
}

#[test]
fn request_frames_survive_damage() {
    let seed = setting("MILLPOND_FUZZ_SEED", 0x6d70);
    let mut dice = Dice::new(seed);
    let mut good: Vec<Bytes> = Vec::new();
    macro_rules! one {
        (ConsumerProtocolSubscription, $first:literal, $last:literal) => {};
        (ConsumerProtocolAssignment, $first:literal, $last:literal) => {};
        ($name:ident, $first:literal, $last:literal) => {
            if stringify!($name).ends_with("Request") {
                let body = encoded(&$name::sample(&mut dice, $last), $last);
                let key = (0..99).filter_map(millpond_wire::ApiKey::from_code);
                let key = key
                    .into_iter()
                    .find(|key| stringify!($name) == format!("{}Request", key.name()));
                let key: i16 = key.expect("every request has an API").code();
                let version: i16 = $last;
                let head =
                    [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 0, 1, b'c', 0]];
                good.push(Bytes::from([&head.concat()[..], &body].concat()));
            }
        };
    }
    each_message!(one);
    assert!(good.len() > 20);
    for round in 0..setting("MILLPOND_FUZZ_ROUNDS", 6_000) * 10 {
        let (one, other) = (dice.below(good.len()), dice.below(good.len()));
        let input = Bytes::from(damage(&mut dice, &good[one], &good[other]));
        let what = format!("request frame, round {round},");
        let _case = Case {
            test: "request_frames_survive_damage",
            what: &what,
            version: 0,
            seed,
            input: input.clone(),
        };
        let _ = frame::decode_request(input);
    }
}

#[test]
fn frame_splitting_survives_damage() {
    let seed = setting("MILLPOND_FUZZ_SEED", 0x6d70);
    let mut dice = Dice::new(seed);
    for _ in 0..setting("MILLPOND_FUZZ_ROUNDS", 6_000) {
        let mut stream = Vec::new();
        for _ in 0..dice.below(5) {
            let length = if dice.null() { dice.below(20_000) } else { dice.below(40) };
            let declared = if dice.below(12) == 0 { dice.i32() } else { length as i32 };
            stream.extend_from_slice(&declared.to_be_bytes());
            stream.resize(stream.len() + length, dice.byte());
        }
        let input = Bytes::from(stream);
        let _case = Case {
            test: "frame_splitting_survives_damage",
            what: "stream",
            version: 0,
            seed,
            input: input.clone(),
        };
        let mut decoder = FrameDecoder::for_requests();
        let (mut fed, mut taken) = (0, 0);
        'stream: while fed < input.len() {
            let now = (1 + dice.below(3_000)).min(input.len() - fed);
            if dice.bool() {
                decoder.extend(&input[fed..fed + now]);
            } else {
                decoder.space().extend_from_slice(&input[fed..fed + now]);
            }
            fed += now;
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        taken += 4;
                        assert_eq!(
                            frame,
                            input[taken..taken + frame.len()],
                            "frames are what was sent"
                        );
                        taken += frame.len();
                    }
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
            let memory_max = 3 * (fed - taken + now) + 16 * limits::FRAME_BUFFER_START_BYTES;
            assert!(
                decoder.memory_bytes() <= memory_max,
                "{} for {} bytes",
                decoder.memory_bytes(),
                fed - taken
            );
        }
    }
}

/// Five bytes that ask for hundreds of gigabytes where a decoder trusts the count.
#[test]
fn a_tiny_request_that_declares_a_huge_array_is_an_error() {
    let input = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let outcome = MetadataRequest::decode(&mut Reader::new(input), 12);
    let count = u32::MAX as usize - 1;
    assert_eq!(outcome, Err(DecodeError::CountTooLarge { at: 5, count, left: 0, most: 0 }));
}

/// Elements that are small on the wire and large in memory, as many as a frame can hold.
#[test]
fn a_frame_of_tiny_elements_cannot_multiply_memory() {
    for elements in [1_000_usize, 20_000, 200_000, 1_000_000] {
        // Produce version 9: no transactional id, acks, timeout, then topics of three bytes each.
        let mut bytes = vec![0, 0, 1, 0, 0, 0, 0];
        let mut count = elements as u32 + 1;
        while count >= 0x80 {
            bytes.push((count & 0x7f) as u8 | 0x80);
            count >>= 7;
        }
        bytes.push(count as u8);
        bytes.extend([1_u8, 1, 0].repeat(elements));
        bytes.push(0);
        let input = Bytes::from(bytes);
        let budget = memory_budget_bytes(input.len());
        match ProduceRequest::decode(&mut Reader::new(input.clone()), 9) {
            Ok(request) => assert!(request.heap_bytes() <= budget && elements <= 20_000),
            Err(error) => {
                assert_eq!(error, DecodeError::MemoryBudget { budget, input: input.len() });
                assert!(elements > 20_000, "{elements} elements are no abuse");
            }
        }
    }
}

#[test]
fn unknown_tagged_fields_are_skipped_and_bounded() {
    let heartbeat = HeartbeatRequest { group_id: "g".to_owned(), ..Default::default() };
    let plain = encoded(&heartbeat, 4);
    let with_tags = |tags: &[u8]| Bytes::from([&plain[..plain.len() - 1], tags].concat());
    let decode = |input: Bytes| HeartbeatRequest::decode(&mut Reader::new(input), 4);
    assert_eq!(decode(with_tags(&[2, 9, 3, 1, 2, 3, 0xff, 0x01, 0])), Ok(heartbeat));
    assert!(matches!(
        decode(with_tags(&[1, 9, 4, 1, 2, 3])),
        Err(DecodeError::Truncated { wanted: 4, .. })
    ));
    assert!(matches!(
        decode(with_tags(&[200, 1, 9, 0])),
        Err(DecodeError::CountTooLarge { count: 200, .. })
    ));
    let many = [&[limits::TAGGED_FIELDS_MAX as u8 + 1][..], &[0; 1_000]].concat();
    assert!(matches!(decode(with_tags(&many)), Err(DecodeError::CountTooLarge { .. })));
}

#[test]
fn a_known_tagged_field_may_not_reach_past_its_size_nor_end_before_it() {
    let default = encoded(&FetchRequest::default(), 12);
    let with_tags = |tags: &[u8]| Bytes::from([&default[..default.len() - 1], tags].concat());
    let decode = |input: Bytes| FetchRequest::decode(&mut Reader::new(input), 12);
    let cluster = decode(with_tags(&[1, 0, 3, 3, b'a', b'b'])).expect("good");
    assert_eq!(cluster.cluster_id.as_deref(), Some("ab"));
    assert!(matches!(
        decode(with_tags(&[1, 0, 2, 3, b'a', b'b'])),
        Err(DecodeError::Truncated { .. })
    ));
    let loose = decode(with_tags(&[1, 0, 4, 3, b'a', b'b', 0]));
    assert!(matches!(loose, Err(DecodeError::TagSize { tag: 0, left: 1, .. })), "{loose:?}");
}
