//! Compaction as stories: what stays, what goes and when, whatever the rounds are cut into.

use super::*;
use crate::disk::sim::SimRng;
use crate::packing::tests::{Seen, random_log, records_of};
use crate::packing::{PackPolicy, Served, serve};
use millpond_wire::limits;
use millpond_wire::record::{BatchBuilder, Codec, LogBatch};
use std::collections::BTreeMap;
use std::sync::Arc;

const HOUR_MS: i64 = 3_600_000;
const BUDGET_BYTES: usize = limits::DEFAULT_COMPACTION_MAP_BYTES;

/// A log and the rounds over it.
struct Story {
    log: Vec<LogBatch>,
    next_offset: i64,
    clean_offset: i64,
    now_ms: i64,
    policy: PackPolicy,
    budget_bytes: usize,
    aborted: Aborted,
}

impl Story {
    fn new() -> Self {
        Self {
            log: Vec::new(),
            next_offset: 0,
            clean_offset: 0,
            now_ms: 1_700_000_000_000,
            policy: PackPolicy::default(),
            budget_bytes: BUDGET_BYTES,
            aborted: Aborted::default(),
        }
    }

    fn append(&mut self, builder: BatchBuilder, records: &[(Option<&str>, Option<&str>)]) {
        let mut builder = builder;
        for (i, (key, value)) in records.iter().enumerate() {
            let time = self.next_offset * 10 + i as i64;
            let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
            builder.push(time, key, value, &[]).unwrap();
        }
        let batch = LogBatch::stamp(builder.build_batch().unwrap(), self.next_offset, 0);
        self.next_offset = batch.next_offset();
        self.log.push(batch);
    }

    fn put(&mut self, key: &str, value: &str) {
        self.append(plain(), &[(Some(key), Some(value))]);
    }

    fn delete(&mut self, key: &str) {
        self.append(plain(), &[(Some(key), None)]);
    }

    /// One round with a day of `delete.retention.ms`.
    fn round(&mut self) -> RewriteStats {
        let aborted = Arc::new(self.aborted.clone());
        let mut scan = KeyScan::new(self.clean_offset, self.budget_bytes, Arc::clone(&aborted));
        for batch in self.log.iter().filter(|batch| batch.next_offset() > self.clean_offset) {
            if !scan.add(batch) {
                break;
            }
        }
        let end_offset = scan.end_offset();
        let round = Round {
            keys: scan.into_keys(),
            end_offset,
            now_ms: Some(self.now_ms),
            delete_retention_ms: 24 * HOUR_MS,
            aborted,
        };
        let mut rewriter = Rewriter::new(Arc::new(round), &self.policy);
        let mut log = Vec::new();
        for batch in &self.log {
            rewriter.add(batch).unwrap();
            log.extend(rewriter.take());
        }
        let (rest, stats) = rewriter.finish(self.next_offset).unwrap();
        log.extend(rest);
        self.log = log;
        self.clean_offset = end_offset;
        assert_eq!(self.log.last().map(LogBatch::next_offset), Some(self.next_offset));
        stats
    }

    fn rounds_until_clean(&mut self) -> u32 {
        let mut rounds = 0;
        while self.clean_offset < self.next_offset || rounds == 0 {
            let was = self.clean_offset;
            self.round();
            let is_further = self.clean_offset > was || was == self.next_offset;
            assert!(is_further, "a round that goes no further");
            rounds += 1;
        }
        rounds
    }

    fn records(&self) -> Vec<Seen> {
        records_of(&self.log)
    }

    /// Keys with offsets and values, as text.
    fn told(&self) -> Vec<String> {
        let text = |bytes: &Option<Vec<u8>>| match bytes {
            Some(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            None => "-".to_owned(),
        };
        let tell = |r: &Seen| format!("{}:{}={}", r.offset, text(&r.key), text(&r.value));
        self.records().iter().map(tell).collect()
    }
}

fn plain() -> BatchBuilder {
    BatchBuilder::new(Codec::None, None)
}

/// What a consumer that read all of it holds for each key. Transactions count as committed.
fn state(records: &[Seen]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut state = BTreeMap::new();
    for record in records {
        let Some(key) = &record.key else { continue };
        match &record.value {
            Some(value) => state.insert(key.clone(), value.clone()),
            None => state.remove(key),
        };
    }
    state
}

/// A log with `keys` keys, tombstones, records without a key, batches of all sizes.
fn random_story(rng: &mut SimRng, keys: u64, batches: u64) -> Story {
    let mut story = Story::new();
    for _ in 0..batches {
        let codec = Codec::ALL[rng.below(5) as usize];
        let mut builder = BatchBuilder::new(codec, None);
        let records = 1 + if rng.chance(50) { rng.below(2_000) } else { rng.below(20) };
        for _ in 0..records {
            let key = format!("key-{}", rng.below(keys));
            let value = format!("{{\"value\":{},\"text\":\"some words\"}}", rng.next_u64());
            let key = (!rng.chance(20)).then_some(key.as_bytes());
            let value = (!rng.chance(100)).then_some(value.as_bytes());
            builder.push(rng.below(1 << 40) as i64, key, value, &[]).unwrap();
        }
        let epoch = (story.next_offset / 5_000) as i32;
        let batch = LogBatch::stamp(builder.build_batch().unwrap(), story.next_offset, epoch);
        story.next_offset = batch.next_offset();
        story.log.push(batch);
    }
    story
}

#[test]
fn the_newest_value_of_each_key_survives_where_it_was() {
    let mut story = Story::new();
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("a", "3"), ("b", "2")] {
        story.put(key, value);
    }
    let before = story.records();
    let stats = story.round();
    assert_eq!(story.told(), ["3:c=1", "4:a=3", "5:b=2"]);
    assert!(story.records().iter().all(|record| before.contains(record)));
    assert_eq!((stats.kept, stats.superseded, stats.expired), (3, 3, 0));
    assert_eq!(story.log.len(), 1, "small batches are packed by the way");
}

#[test]
fn records_without_a_key_stay() {
    let mut story = Story::new();
    story.append(plain(), &[(None, Some("x")), (None, None), (None, Some("x"))]);
    story.round();
    assert_eq!(story.told(), ["0:-=x", "1:-=-", "2:-=x"]);
}

#[test]
fn a_tombstone_stays_for_its_time_after_its_first_round_and_goes_then() {
    let mut story = Story::new();
    story.put("a", "1");
    story.delete("a");
    story.put("b", "1");
    assert_eq!(story.round().marked, 1);
    assert_eq!(story.told(), ["1:a=-", "2:b=1"]);
    let stats = story.round();
    assert!(!stats.is_changed(), "{stats:?}");
    let horizon = story.now_ms + 24 * HOUR_MS;
    assert!(story.log.iter().any(|batch| {
        let header = batch.header();
        header.attributes.has_delete_horizon() && header.base_timestamp == horizon
    }));
    // Further rounds do not put it off.
    for (hours, expected) in [(12, true), (23, true), (24, false), (25, false)] {
        story.now_ms = 1_700_000_000_000 + hours * HOUR_MS;
        story.put("c", "x");
        story.round();
        assert_eq!(story.told().contains(&"1:a=-".to_owned()), expected, "after {hours} hours");
    }
    assert!(story.log.iter().all(|batch| !batch.header().attributes.has_delete_horizon()));
}

#[test]
fn a_tombstone_that_a_newer_value_follows_goes_at_once() {
    let mut story = Story::new();
    story.put("a", "1");
    story.delete("a");
    story.put("a", "2");
    assert_eq!(story.round().superseded, 2);
    assert_eq!(story.told(), ["2:a=2"]);
}

#[test]
fn consumers_come_past_the_end_of_a_log_of_which_nothing_is_left() {
    let mut story = Story::new();
    for _ in 0..10 {
        story.delete("a");
    }
    story.round();
    story.now_ms += 25 * HOUR_MS;
    let stats = story.round();
    assert_eq!((stats.expired, stats.kept), (1, 0));
    assert!(story.records().is_empty());
    let [empty] = story.log.as_slice() else { panic!("one batch without records is left") };
    assert_eq!((empty.header().records_count, empty.next_offset()), (0, 10));
    // What comes next takes its place.
    story.put("b", "1");
    story.round();
    assert_eq!(story.told(), ["10:b=1"]);
    assert_eq!(story.log.len(), 1);
}

#[test]
fn offsets_and_timestamps_never_change_and_nothing_else_is_lost() {
    for seed in 0..60 {
        let rng = &mut SimRng::new(seed);
        let keys = 1 << rng.below(11);
        let mut story = random_story(rng, keys, 60);
        let before = story.records();
        let mut newest = BTreeMap::new();
        for record in before.iter().filter(|record| record.key.is_some()) {
            newest.insert(record.key.clone(), record.offset);
        }
        let mut expected = before.clone();
        expected.retain(|r| r.key.is_none() || newest.get(&r.key) == Some(&r.offset));
        let stats = story.round();
        assert!(story.records() == expected, "seed {seed}");
        assert_eq!(stats.removed() as usize, before.len() - expected.len(), "seed {seed}");
        assert_eq!(stats.kept as usize, expected.len(), "seed {seed}");
        // Again, and nothing happens.
        let stats = story.round();
        assert_eq!((stats.removed(), stats.stuck), (0, 0), "seed {seed}");
        assert!(story.records() == expected, "second round, seed {seed}");
        // After their time tombstones are gone, and the state is what it was.
        story.now_ms += 25 * HOUR_MS;
        story.round();
        assert!(story.records().iter().all(|r| r.value.is_some() || r.key.is_none()));
        assert_eq!(state(&story.records()), state(&before), "seed {seed}");
    }
}

#[test]
fn rounds_that_have_memory_for_some_of_the_keys_end_where_one_round_ends() {
    let mut most_rounds = 0;
    for seed in 0..15 {
        let story = |budget_bytes| {
            let mut story = random_story(&mut SimRng::new(seed), 4_000, 150);
            story.budget_bytes = budget_bytes;
            let rounds = story.rounds_until_clean();
            (story.records(), rounds)
        };
        let (at_once, one) = story(BUDGET_BYTES);
        let (in_parts, rounds) = story(0);
        assert_eq!(one, 1);
        assert!(at_once == in_parts, "seed {seed}");
        most_rounds = most_rounds.max(rounds);
    }
    assert!(most_rounds > 5, "vacuous: {most_rounds} rounds at most");
}

#[test]
fn records_that_come_between_rounds_change_nothing_that_counts() {
    for seed in 0..30 {
        let rng = &mut SimRng::new(seed);
        let mut story = Story::new();
        story.budget_bytes = 0;
        let mut all = Vec::new();
        for _ in 0..12 {
            let more = random_story(rng, 1_500, 8);
            for batch in more.log {
                let batch = LogBatch::stamp(batch.to_batch().unwrap(), story.next_offset, 0);
                story.next_offset = batch.next_offset();
                all.push(batch.clone());
                story.log.push(batch);
            }
            story.now_ms += rng.below(30) as i64 * HOUR_MS;
            story.round();
            assert_eq!(state(&story.records()), state(&records_of(&all)), "seed {seed}");
        }
        story.rounds_until_clean();
        assert_eq!(state(&story.records()), state(&records_of(&all)), "seed {seed}");
    }
}

#[test]
fn records_of_committed_transactions_are_like_all_others_and_those_of_aborted_ones_go() {
    let transactional = |id| plain().with_producer(id, 0, 0).with_transactional(true);
    let end = |id| transactional(id).with_control(true);
    let mut story = Story::new();
    story.put("a", "plain");
    story.append(transactional(1), &[(Some("a"), Some("gone")), (Some("b"), Some("gone"))]);
    story.append(transactional(2), &[(Some("c"), Some("old")), (None, Some("no key"))]);
    story.append(end(1), &[(Some("mark"), Some("abort"))]);
    story.append(transactional(1), &[(Some("c"), None), (Some("d"), Some("new"))]);
    story.append(end(2), &[(Some("mark"), Some("commit"))]);
    story.append(end(1), &[(Some("mark"), Some("commit"))]);
    story.aborted.note(1, 1, 5);
    let stats = story.round();
    assert_eq!((stats.aborted, stats.superseded), (2, 1));
    let marks = ["5:mark=abort", "8:mark=commit", "9:mark=commit"];
    let kept = ["0:a=plain", "4:-=no key", marks[0], "6:c=-", "7:d=new", marks[1], marks[2]];
    assert_eq!(story.told(), kept);
    assert_eq!(story.round().removed(), 0, "a second round finds nothing");
    story.now_ms += 25 * HOUR_MS;
    story.put("e", "later");
    assert_eq!(story.round().expired, 1, "a tombstone of a transaction goes in its time");
    story.put("d", "newest");
    story.round();
    let kept =
        ["0:a=plain", "4:-=no key", marks[0], marks[1], marks[2], "10:e=later", "11:d=newest"];
    assert_eq!(story.told(), kept);
}

#[test]
fn no_tombstone_goes_that_may_delete_something_in_an_unreadable_batch() {
    let mut story = Story::new();
    story.append(BatchBuilder::new(Codec::Zstd, None), &[(Some("a"), Some(&"v".repeat(500)))]);
    // The client's own fault: a cut zstd frame under a CRC that is right.
    let mut raw = Vec::new();
    story.log[0].write_to(&mut raw);
    raw.truncate(raw.len() - 3);
    let length = raw.len() as i32 - 12;
    raw[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    let broken = LogBatch::parse(raw.into()).unwrap();
    story.log[0] = broken.clone();
    story.delete("a");
    for _ in 0..3 {
        let stats = story.round();
        assert_eq!((stats.stuck, stats.removed()), (1, 0));
        story.now_ms += 100 * HOUR_MS;
        assert_eq!(story.log[0], broken);
        assert_eq!(records_of(&story.log[1..]).len(), 1, "the tombstone is there");
    }
}

#[test]
fn what_is_above_the_scan_is_not_touched() {
    let mut story = Story::new();
    for i in 0..5_000 {
        story.put(&format!("key-{i}"), "1");
        story.delete(&format!("key-{}", i / 2));
    }
    story.budget_bytes = 0;
    let before = story.log.clone();
    story.round();
    let above = |log: &[LogBatch], from: i64| -> Vec<LogBatch> {
        log.iter().filter(|batch| batch.base_offset() >= from).cloned().collect()
    };
    assert!(story.clean_offset < story.next_offset);
    assert_eq!(above(&story.log, story.clean_offset), above(&before, story.clean_offset));
}

#[test]
fn a_large_batch_that_loses_records_is_cut_so_that_consumers_can_be_served() {
    let mut story = Story::new();
    let values: Vec<(String, String)> = (0..20_000)
        .map(|i| (format!("key-{i}"), format!("{{\"celsius\":{i}.5}}").repeat(30)))
        .collect();
    let records: Vec<(Option<&str>, Option<&str>)> =
        values.iter().map(|(key, value)| (Some(key.as_str()), Some(value.as_str()))).collect();
    story.append(BatchBuilder::new(Codec::Gzip, None), &records);
    story.put("key-0", "new");
    let before = story.records();
    story.round();
    assert!(story.records() == before[1..]);
    assert!(story.log.len() > 50);
    for batch in &story.log {
        let served = match serve(batch, None).unwrap() {
            Served::AsIs => batch.clone(),
            Served::Instead(other) => other,
        };
        assert!(served.size_bytes() <= story.policy.target_bytes + 1_000);
    }
}

#[test]
fn whatever_is_in_a_log_its_state_stays_and_a_second_round_finds_nothing() {
    for seed in 0..200 {
        let rng = &mut SimRng::new(seed);
        let log = random_log(rng, 50);
        let mut story = Story::new();
        story.next_offset = log.last().map_or(0, LogBatch::next_offset);
        story.log = log;
        let before = story.records();
        story.round();
        let after = story.records();
        let mut rest = before.iter();
        assert!(after.iter().all(|record| rest.any(|other| other == record)), "seed {seed}");
        assert_eq!(state(&after), state(&before), "seed {seed}");
        assert_eq!(story.round().removed(), 0, "seed {seed}");
        assert!(story.records() == after, "seed {seed}");
    }
}
