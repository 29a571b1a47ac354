//! Segments against a plain list of batches: what is read is what was written, whatever the offset,
//! the budget, the time or the index.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use millpond_engine::{HistoryRead, HistorySlice, ReadFault};
use millpond_wire::record::{Batch, BatchBuilder, Codec, LogBatch};
use millpond_wire::uuid::Uuid;

use super::*;
use crate::disk::sim::{SimDisk, SimExecutor, SimFault, SimRng};

const KEY: PartitionKey = PartitionKey { topic_id: Uuid([3; 16]), partition: 5 };

struct Bench {
    executor: SimExecutor,
    disk: SimDisk,
    segments: Rc<Segments<SimDisk>>,
    batches: Vec<LogBatch>,
}

impl Bench {
    fn new(seed: u64) -> Bench {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(executor.clock(), seed);
        let segments = Rc::new(open(&disk, SegmentTable::default()));
        Bench { executor, disk, segments, batches: Vec::new() }
    }

    /// Writes batches and publishes them, as a checkpoint would.
    fn flush(&mut self, batches: Vec<LogBatch>) {
        self.batches.extend(batches.iter().cloned());
        let segments = Rc::clone(&self.segments);
        self.executor.block_on(async move {
            let mut table = segments.table_of(&BTreeSet::from([KEY]));
            for meta in segments.flush(KEY, &batches).await.expect("written") {
                table.put(KEY, meta);
            }
            segments.publish(table).await.expect("published");
        });
    }

    fn read(&self, read: HistoryRead) -> Result<HistorySlice, ReadFault> {
        let segments = Rc::clone(&self.segments);
        self.executor.block_on(async move { segments.read(&read).await })
    }

    fn reopen(&mut self) {
        let table = self.segments.table_of(&BTreeSet::from([KEY]));
        self.segments = Rc::new(open(&self.disk, table));
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(0, LogBatch::next_offset)
    }

    fn path(&self, index: usize) -> String {
        segment_path(KEY, self.segments.state.borrow().table.of(KEY)[index].base_offset)
    }
}

fn open(disk: &SimDisk, table: SegmentTable) -> Segments<SimDisk> {
    Segments::new(disk.clone(), 40_000, table, Rc::default())
}

fn batch(base_offset: i64, records: usize, value_bytes: usize, first_ms: i64) -> LogBatch {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for index in 0..records {
        let value = vec![base_offset as u8; value_bytes];
        builder.push(first_ms + index as i64, None, Some(&value), &[]).expect("a record");
    }
    let raw = builder.build().expect("a batch");
    LogBatch::stamp(Batch::parse(raw).expect("valid"), base_offset, 1)
}

fn some_batches(rng: &mut SimRng, from: i64, count: usize) -> Vec<LogBatch> {
    let mut next = from;
    let mut batches = Vec::new();
    for _ in 0..count {
        let records = rng.between(1, 5) as usize;
        let made = batch(next, records, rng.between(1, 2_000) as usize, next * 10);
        next = made.next_offset();
        batches.push(made);
    }
    batches
}

fn bytes_of(batch: &LogBatch) -> Bytes {
    let mut bytes = Vec::new();
    batch.write_to(&mut bytes);
    bytes.into()
}

fn read_from(offset: i64, max_bytes: usize, upto: i64) -> HistoryRead {
    HistoryRead { partition: KEY, offset, max_bytes, upto, find_timestamp: None }
}

#[test]
fn whole_batches_come_back_from_any_offset_within_any_budget() {
    for seed in 0..8 {
        let mut rng = SimRng::new(seed);
        let mut bench = Bench::new(seed);
        for _ in 0..6 {
            let batches = some_batches(&mut rng, bench.end(), 15);
            bench.flush(batches);
            if rng.chance(300) {
                bench.reopen();
            }
        }
        assert!(bench.segments.state.borrow().table.len() > 3);
        for _ in 0..150 {
            let offset = rng.below(bench.end() as u64) as i64;
            let upto = rng.between(offset as u64, bench.end() as u64 + 10) as i64;
            let budget = rng.between(1, 100_000) as usize;
            let found = bench.read(read_from(offset, budget, upto)).expect("read").records;
            let mut wanted = Vec::new();
            let mut taken = 0;
            for batch in bench.batches.iter().filter(|batch| batch.last_offset() >= offset) {
                let is_over = taken > 0 && taken + batch.size_bytes() > budget;
                if is_over || batch.base_offset() >= upto {
                    break;
                }
                taken += batch.size_bytes();
                wanted.push(bytes_of(batch));
            }
            assert_eq!(found, wanted, "seed {seed}, offset {offset}, upto {upto}, {budget} bytes");
        }
    }
}

#[test]
fn the_first_batch_of_a_time_is_found() {
    let mut rng = SimRng::new(4);
    let mut bench = Bench::new(4);
    let batches = some_batches(&mut rng, 0, 80);
    bench.flush(batches);
    bench.reopen();
    for _ in 0..100 {
        let timestamp = rng.below(bench.end() as u64 * 10 + 50) as i64;
        let offset = rng.below(bench.end() as u64) as i64;
        let find_timestamp = Some(timestamp);
        let read = HistoryRead { find_timestamp, ..read_from(offset, 1, i64::MAX) };
        let found = bench.read(read).expect("read").records;
        let wanted = bench
            .batches
            .iter()
            .find(|batch| batch.last_offset() >= offset && batch.max_timestamp() >= timestamp);
        assert_eq!(found, wanted.map(bytes_of).into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_batch_larger_than_every_buffer_is_written_and_read() {
    let mut bench = Bench::new(5);
    bench.flush(vec![batch(0, 1, 2_500_000, 0), batch(1, 1, 10, 0)]);
    let found = bench.read(read_from(0, 1, i64::MAX)).expect("read").records;
    assert_eq!(found, [bytes_of(&bench.batches[0])]);
    assert_eq!(bench.read(read_from(1, 1, i64::MAX)).expect("read").records.len(), 1);
}

#[test]
fn what_no_checkpoint_vouches_for_is_not_read_and_is_written_over() {
    let mut bench = Bench::new(6);
    bench.flush(vec![batch(0, 2, 100, 0)]);
    // A flush whose checkpoint never came.
    let segments = Rc::clone(&bench.segments);
    bench.executor.block_on(async move {
        segments.flush(KEY, &[batch(2, 9, 300, 0)]).await.expect("written");
    });
    assert_eq!(bench.read(read_from(0, 1 << 20, i64::MAX)).expect("read").records.len(), 1);
    bench.reopen();
    bench.flush(vec![batch(2, 1, 50, 0), batch(3, 1, 50, 0)]);
    let found = bench.read(read_from(0, 1 << 20, i64::MAX)).expect("read").records;
    assert_eq!(found, bench.batches.iter().map(bytes_of).collect::<Vec<_>>());
}

#[test]
fn strays_of_a_cut_off_checkpoint_are_removed() {
    let mut bench = Bench::new(7);
    bench.flush(vec![batch(0, 1, 100, 0)]);
    let other = PartitionKey { partition: 6, ..KEY };
    let segments = Rc::clone(&bench.segments);
    let strays = bench.executor.block_on(async move {
        segments.flush(other, &[batch(0, 1, 100, 0)]).await.expect("written");
        segments.remove_strays().await.expect("removed")
    });
    assert_eq!(strays, 1);
    assert_eq!(bench.disk.files(), [segment_path(KEY, 0)]);
}

#[test]
fn any_flipped_bit_of_a_read_batch_is_damage_and_never_served() {
    // All of the first batch: damage behind it does not concern a read of it.
    for at in (0..388).step_by(7) {
        let mut bench = Bench::new(8);
        bench.flush(vec![batch(0, 3, 100, 0), batch(3, 1, 10, 0)]);
        assert!(bench.disk.corrupt(&bench.path(0), 64 + at));
        bench.reopen();
        match bench.read(read_from(0, 1, i64::MAX)) {
            Err(ReadFault::Damaged(what)) => assert!(what.contains(".seg"), "{what}"),
            // Only the leader epoch is outside of the checksum.
            Ok(slice) => assert!((12..16).contains(&at), "byte {at} {slice:?}"),
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn a_damaged_or_missing_file_is_damage_and_a_read_error_is_not() {
    let mut bench = Bench::new(9);
    bench.flush(vec![batch(0, 3, 100, 0)]);
    bench.disk.inject(SimFault::ReadError, ".seg", 1);
    let error = bench.read(read_from(0, 1, i64::MAX)).expect_err("read error");
    assert!(matches!(error, ReadFault::Io(_)), "{error}");
    bench.read(read_from(0, 1, i64::MAX)).expect("the next read is fine");
    assert!(bench.disk.corrupt(&bench.path(0), 10));
    bench.reopen();
    let error = bench.read(read_from(0, 1, i64::MAX)).expect_err("header");
    assert!(matches!(error, ReadFault::Damaged(_)), "{error}");
    let (disk, path) = (bench.disk.clone(), bench.path(0));
    bench.executor.block_on(async move { disk.remove_file(&path).await }).expect("removed");
    bench.reopen();
    let error = bench.read(read_from(0, 1, i64::MAX)).expect_err("missing");
    assert!(matches!(error, ReadFault::Damaged(_)), "{error}");
}

#[test]
fn reads_beyond_the_end_and_of_unknown_partitions_are_empty() {
    let mut bench = Bench::new(10);
    bench.flush(vec![batch(0, 3, 100, 0)]);
    assert!(bench.read(read_from(3, 1000, i64::MAX)).expect("read").records.is_empty());
    let unknown = PartitionKey { partition: 9, ..KEY };
    let read = HistoryRead { partition: unknown, ..read_from(0, 1000, i64::MAX) };
    assert!(bench.read(read).expect("read").records.is_empty());
}
