//! Segments against a plain list of batches: what is read is what was written, whatever the offset,
//! the budget, the time or the index.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use millpond_engine::{HistoryRead, HistorySlice, ReadFault};
use millpond_wire::record::{Batch, BatchBuilder, Codec, LogBatch};
use millpond_wire::uuid::Uuid;

use super::format::{SegmentHeader, segment_path};
use super::*;
use crate::disk::sim::{SimDisk, SimExecutor, SimFault, SimRng};
use crate::disk::{AlignedBuf, DiskFile, OpenMode};

const KEY: PartitionKey = PartitionKey { topic_id: Uuid([3; 16]), partition: 5 };

const FIRST: SegmentName = SegmentName { base_offset: 0, generation: 0 };

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
            flush_and_publish(&segments, 0, &batches).await;
        });
    }

    fn read(&self, read: HistoryRead) -> Result<HistorySlice, ReadFault> {
        let segments = Rc::clone(&self.segments);
        self.executor.block_on(async move {
            let batches = segments.read(&read, 1).await?;
            Ok(HistorySlice { records: batches.iter().map(bytes_of).collect() })
        })
    }

    fn reopen(&mut self) {
        let table = self.segments.with_table(SegmentTable::clone);
        self.segments = Rc::new(open(&self.disk, table));
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(0, LogBatch::next_offset)
    }

    fn metas(&self) -> Vec<SegmentMeta> {
        self.segments.with_table(|table| table.of(KEY).to_vec())
    }

    fn path(&self, index: usize) -> String {
        segment_path(KEY, self.metas()[index].name())
    }
}

/// What a checkpoint does with segments; the partition's log starts at `log_start`.
async fn flush_and_publish(segments: &Segments<SimDisk>, log_start: i64, batches: &[LogBatch]) {
    let log_starts = BTreeMap::from([(KEY, log_start)]);
    let mut draft = segments.draft(&log_starts).await.expect("drafted");
    let newest = draft.table.of(KEY).last().copied();
    segments.make_directories([KEY]).await.expect("made");
    for segment in flush(segments, KEY, newest, batches).await {
        draft.put(KEY, segment);
    }
    segments.publish(draft.table, draft.written, &log_starts).await.expect("published");
}

async fn flush(
    segments: &Segments<SimDisk>,
    key: PartitionKey,
    newest: Option<SegmentMeta>,
    batches: &[LogBatch],
) -> Vec<WrittenSegment> {
    let bytes = batches.iter().map(LogBatch::size_bytes).sum();
    let mut flush = segments.begin_flush(key, newest, bytes);
    for batch in batches {
        flush.add(batch).await.expect("written");
    }
    flush.finish().await.expect("synced")
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
        let newest = segments.with_table(|table| table.of(KEY).last().copied());
        flush(&segments, KEY, newest, &[batch(2, 9, 300, 0)]).await;
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
        segments.make_directories([other]).await.expect("made");
        flush(&segments, other, None, &[batch(0, 1, 100, 0)]).await;
        segments.remove_strays().await.expect("removed")
    });
    assert_eq!(strays, 1);
    assert_eq!(bench.disk.files(), [segment_path(KEY, FIRST)]);
}

#[test]
fn any_flipped_bit_of_a_read_batch_is_damage_and_never_served() {
    for at in (0..380).step_by(7) {
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

/// Segments of five batches each, whose offsets are 0, 10, 20, ...
fn five_segments(seed: u64) -> Bench {
    let mut bench = Bench::new(seed);
    for index in 0..5 {
        bench.flush(vec![batch(index * 10, 10, 5_000, index)]);
    }
    assert_eq!(bench.metas().len(), 5);
    bench
}

#[test]
fn segments_below_the_log_start_go_with_the_next_checkpoint() {
    let bench = five_segments(11);
    let segments = Rc::clone(&bench.segments);
    let more = batch(50, 1, 10, 0);
    bench.executor.block_on(async move { flush_and_publish(&segments, 25, &[more]).await });
    let bases: Vec<_> = bench.metas().iter().map(|meta| meta.base_offset).collect();
    assert_eq!(bases, [20, 30, 40, 50]);
    let wanted: Vec<_> = (0..4).map(|index| bench.path(index)).collect();
    assert_eq!(bench.disk.files(), wanted);
    assert_eq!(bench.read(read_from(25, 1, i64::MAX)).expect("read").records.len(), 1);
}

/// Writes a segment as compaction would.
fn rewritten(bench: &Bench, name: SegmentName, end_offset: i64) -> SegmentMeta {
    let bytes = {
        let mut out = SegmentHeader { partition: KEY, name }.encode().to_vec();
        batch(name.base_offset, 1, 30, 0).write_to(&mut out);
        out
    };
    let (disk, trusted_bytes) = (bench.disk.clone(), bytes.len() as u64);
    bench.executor.block_on(async move {
        let path = segment_path(KEY, name);
        let file = disk.open(&path, OpenMode::CREATE).await.expect("made");
        file.write_at(0, AlignedBuf::copied_from(&bytes, 512)).await.0.expect("written");
        file.sync().await.expect("synced");
    });
    let empty = SegmentMeta::empty(name);
    SegmentMeta { end_offset, trusted_bytes, records: 1, is_clean: true, ..empty }
}

fn checkpoint(bench: &Bench) {
    let segments = Rc::clone(&bench.segments);
    bench.executor.block_on(async move { flush_and_publish(&segments, 0, &[]).await });
}

#[test]
fn a_staged_replacement_takes_effect_with_the_next_checkpoint() {
    let bench = five_segments(12);
    let generation = bench.segments.fresh_generation();
    let name = SegmentName { base_offset: 10, generation };
    let added = rewritten(&bench, name, 30);
    let remove = bench.metas()[1..3].to_vec();
    let old = bench.path(1);
    bench.segments.stage(Replacement { partition: KEY, remove, add: vec![added] });
    assert!(bench.segments.is_staged(KEY));
    assert_eq!(bench.metas().len(), 5, "not before the checkpoint");
    checkpoint(&bench);
    assert!(!bench.segments.is_staged(KEY));
    assert_eq!(bench.metas()[1], added);
    assert!(!bench.disk.files().contains(&old));
    assert_eq!(bench.disk.files().len(), 4);
    let found = bench.read(read_from(10, 1, i64::MAX)).expect("read").records;
    assert_eq!(found, [bytes_of(&batch(10, 1, 30, 0))]);
    // Where a record went, the next batch that is left is given.
    let found = bench.read(read_from(11, 1, i64::MAX)).expect("read").records;
    assert_eq!(found, [bytes_of(&bench.batches[3])]);
}

#[test]
fn a_replacement_of_what_is_gone_is_dropped_with_its_files() {
    let bench = five_segments(13);
    let name = SegmentName { base_offset: 0, generation: bench.segments.fresh_generation() };
    let added = rewritten(&bench, name, 20);
    let remove = bench.metas()[..2].to_vec();
    bench.segments.stage(Replacement { partition: KEY, remove, add: vec![added] });
    let segments = Rc::clone(&bench.segments);
    // The log start passes the first of the two in the very checkpoint.
    bench.executor.block_on(async move { flush_and_publish(&segments, 10, &[]).await });
    assert_eq!(bench.metas().len(), 4);
    assert!(!bench.disk.files().contains(&segment_path(KEY, name)));
    assert!(!bench.segments.is_staged(KEY));
}

#[test]
fn reads_go_on_while_segments_are_replaced_under_them() {
    for seed in 0..60 {
        let bench = five_segments(seed);
        let name = SegmentName { base_offset: 0, generation: bench.segments.fresh_generation() };
        let added = rewritten(&bench, name, 30);
        let remove = bench.metas()[..3].to_vec();
        bench.segments.stage(Replacement { partition: KEY, remove, add: vec![added] });
        let segments = Rc::clone(&bench.segments);
        let reading = bench.executor.spawn(async move {
            segments.read(&read_from(0, 1 << 20, i64::MAX), 1).await.expect("never damage")
        });
        for _ in 0..seed % 12 {
            bench.executor.step();
        }
        checkpoint(&bench);
        let found: Vec<_> = bench.executor.block_on(reading.join()).iter().map(bytes_of).collect();
        // Old batches or new ones, and the last two in any case.
        let last = [bytes_of(&bench.batches[3]), bytes_of(&bench.batches[4])];
        assert!(found.ends_with(&last), "seed {seed}");
        let old: Vec<_> = bench.batches[..3].iter().map(bytes_of).collect();
        let new = [bytes_of(&batch(0, 1, 30, 0))];
        let first = &found[..found.len() - 2];
        assert!(first == old || first == new, "seed {seed}: {}", found.len());
    }
}

/// A segment as the first release wrote it: no padding, batches end to end.
fn write_version_1(bench: &mut Bench, batches: Vec<LogBatch>) {
    let mut bytes = SegmentHeader { partition: KEY, name: FIRST }.encode().to_vec();
    bytes[4..6].copy_from_slice(&1_u16.to_le_bytes());
    let sum = crate::fields::crc(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    batches.iter().for_each(|batch| batch.write_to(&mut bytes));
    let meta = SegmentMeta {
        end_offset: batches.last().map_or(0, LogBatch::next_offset),
        trusted_bytes: bytes.len() as u64,
        max_timestamp: i64::MAX,
        ..SegmentMeta::empty(FIRST)
    };
    bytes.extend_from_slice(b"what a cut-off checkpoint left");
    let (disk, segments) = (bench.disk.clone(), Rc::clone(&bench.segments));
    bench.executor.block_on(async move {
        segments.make_directories([KEY]).await.expect("made");
        let path = segment_path(KEY, FIRST);
        let file = disk.open(&path, OpenMode::CREATE).await.expect("made");
        file.write_at(0, AlignedBuf::copied_from(&bytes, 512)).await.0.expect("written");
        file.sync().await.expect("synced");
    });
    bench.batches = batches;
    let mut table = SegmentTable::default();
    table.put(KEY, meta);
    bench.segments = Rc::new(open(&bench.disk, table));
}

#[test]
fn a_segment_of_version_1_is_read_and_followed_by_a_new_one() {
    let mut bench = Bench::new(14);
    let old = some_batches(&mut SimRng::new(14), 0, 20);
    write_version_1(&mut bench, old);
    let before = bench.disk.content(&bench.path(0)).expect("bytes");
    let more = some_batches(&mut SimRng::new(15), bench.end(), 20);
    bench.flush(more);
    assert!(bench.metas().len() > 1);
    assert_eq!(bench.disk.content(&bench.path(0)), Some(before), "not a byte of it is touched");
    let found = bench.read(read_from(0, 1 << 20, i64::MAX)).expect("read").records;
    assert_eq!(found, bench.batches.iter().map(bytes_of).collect::<Vec<_>>());
}

#[test]
fn no_trusted_block_is_written_again() {
    let mut bench = Bench::new(16);
    let mut rng = SimRng::new(16);
    let mut trusted: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for _ in 0..40 {
        let batches = some_batches(&mut rng, bench.end(), 2);
        bench.flush(batches);
        for (index, meta) in bench.metas().iter().enumerate() {
            assert!(meta.trusted_bytes.is_multiple_of(4096));
            let mut bytes = bench.disk.content(&bench.path(index)).expect("bytes");
            bytes.truncate(meta.trusted_bytes as usize);
            if let Some(before) = trusted.insert(bench.path(index), bytes.clone()) {
                assert!(bytes.starts_with(&before));
            }
        }
    }
    let records: u64 = bench.metas().iter().map(|meta| meta.records).sum();
    assert_eq!(records, bench.end() as u64);
    bench.reopen();
    let found = bench.read(read_from(0, 1 << 22, i64::MAX)).expect("read").records;
    assert_eq!(found.len(), bench.batches.len());
}

#[test]
fn batches_that_turned_to_zeros_are_damage_and_not_taken_for_padding() {
    for (from, len) in [(64, 100), (64, 4032), (4096, 4096), (8192, 8192)] {
        let mut bench = Bench::new(17);
        let batches = (0..16).map(|index| batch(index, 1, 900, 0)).collect();
        bench.flush(batches);
        let (disk, path) = (bench.disk.clone(), bench.path(0));
        bench.executor.block_on(async move {
            let file = disk.open(&path, OpenMode::EXISTING).await.expect("opened");
            let zeros = AlignedBuf::copied_from(&vec![0; len], 512);
            file.write_at(from, zeros).await.0.expect("written");
        });
        bench.reopen();
        let error = bench.read(read_from(0, 1 << 20, i64::MAX)).expect_err("damage");
        assert!(matches!(error, ReadFault::Damaged(_)), "{error}");
    }
}

#[test]
fn an_index_that_leads_astray_is_made_anew() {
    let mut bench = Bench::new(18);
    let batches = some_batches(&mut SimRng::new(18), 0, 30);
    bench.flush(batches);
    let id = (KEY, bench.metas()[0].name());
    let mut wrong = SegmentIndex::new(SEGMENT_HEADER_BYTES as u64, 0);
    wrong.passed(64, 9_000 + 64_000);
    wrong.saw(9_000 + 64_000, 10, 1, 5);
    wrong.saw(9_010 + 64_000, 10, 2, 5);
    bench.segments.forget_index(id);
    bench.segments.state.borrow_mut().learn(id, wrong);
    let found = bench.read(read_from(2, 1 << 20, i64::MAX)).expect("read").records;
    let wanted = bench.batches.iter().filter(|batch| batch.last_offset() >= 2);
    assert_eq!(found, wanted.map(bytes_of).collect::<Vec<_>>());
}
