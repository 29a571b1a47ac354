//! Records of several batches into one, for packing and for compaction. Must never let a record
//! out at another offset or with another timestamp than it came with, and never hold more than
//! one batch in the making.

use super::plan::{Class, PackPolicy};
use bytes::Bytes;
use millpond_wire::limits::{BATCH_BYTES_MAX, PACK_RECORDS_MAX};
use millpond_wire::record::{
    Batch, BatchBuilder, BatchError, BuildError, Codec, HEADER_BYTES, LogBatch, NO_SEQUENCE,
    Record, RecordIter, sequence_add,
};
use thiserror::Error;

/// Numbers of a record: its length, attributes, both deltas, the lengths of key and value.
const RECORD_NUMBERS_BYTES_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5;

/// Why records could not be put together. All that is in the batches was looked at before, so
/// only a lack of memory leads here; the input is then to be kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum MergeError {
    /// A batch read differently the second time.
    #[error("a batch of the log cannot be read: {0}")]
    Read(#[from] BatchError),
    /// The merged batch could not be made.
    #[error("a batch of the log cannot be built: {0}")]
    Build(#[from] BuildError),
}

/// A batch taken apart.
pub(crate) struct Source<'a> {
    log: &'a LogBatch,
    class: Class,
    batch: Batch,
    section: Bytes,
}

/// What a look at all records of a source found, those counted that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    pub(crate) kept: u32,
    pub(crate) dropped: u32,
    /// At most this many bytes of records will be written.
    bytes: usize,
    largest_record_bytes: usize,
    first_timestamp: i64,
    min_timestamp: i64,
    max_timestamp: i64,
}

impl<'a> Source<'a> {
    /// Decompresses up to `cap_bytes`.
    pub(crate) fn open(
        log: &'a LogBatch,
        class: Class,
        cap_bytes: usize,
    ) -> Result<Self, BatchError> {
        let batch = log.unplaced_batch()?;
        let section = batch.decompress(cap_bytes)?;
        Ok(Self { log, class, batch, section })
    }

    pub(crate) fn records(&self) -> RecordIter<'_> {
        self.batch.records(&self.section)
    }

    /// Offset of a record of this source.
    pub(crate) fn offset(&self, record: &Record<'_>) -> i64 {
        self.log.base_offset().saturating_add(i64::from(record.offset_delta))
    }

    /// Reads all records, so that nothing that is wrong with them is found half-way later.
    pub(crate) fn survey(
        &self,
        mut keep: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<Survey, BatchError> {
        let mut survey = Survey::default();
        for record in self.records() {
            let record = record?;
            if keep(&record) {
                survey.count(&record);
            } else {
                survey.dropped += 1;
            }
        }
        Ok(survey)
    }
}

impl Survey {
    fn count(&mut self, record: &Record<'_>) {
        let time = record.timestamp;
        if self.kept == 0 {
            (self.first_timestamp, self.min_timestamp, self.max_timestamp) = (time, time, time);
        }
        self.kept += 1;
        self.min_timestamp = self.min_timestamp.min(time);
        self.max_timestamp = self.max_timestamp.max(time);
        let bytes = record_bytes_max(record);
        self.bytes = self.bytes.saturating_add(bytes);
        self.largest_record_bytes = self.largest_record_bytes.max(bytes);
    }

    /// Whether every timestamp can be told as a distance from `base`.
    fn spans(&self, base: i64) -> bool {
        self.min_timestamp.checked_sub(base).is_some()
            && self.max_timestamp.checked_sub(base).is_some()
    }

    /// Whether the records can be written anew at all: each fits a batch even uncompressed, and
    /// their times are within reach of each other and of the horizon.
    pub(crate) fn can_be_rewritten(&self, horizon_ms: Option<i64>) -> bool {
        self.largest_record_bytes + HEADER_BYTES <= BATCH_BYTES_MAX
            && self.max_timestamp.checked_sub(self.min_timestamp).is_some()
            && self.spans(horizon_ms.unwrap_or(self.first_timestamp))
    }
}

fn record_bytes_max(record: &Record<'_>) -> usize {
    RECORD_NUMBERS_BYTES_MAX
        + record.key.map_or(0, <[u8]>::len)
        + record.value.map_or(0, <[u8]>::len)
        + record.headers_raw.len()
}

/// A batch in the making.
struct Run {
    class: Class,
    horizon_ms: Option<i64>,
    base_offset: i64,
    last_offset: i64,
    base_timestamp: i64,
    /// What it is made of, to go back to; nothing where there is no way back.
    parts: Vec<LogBatch>,
    parts_bytes: usize,
    /// Records were dropped or a horizon set: the parts do not say the same.
    is_changed: bool,
    is_compressed: bool,
}

/// What a [`Merger`] made.
pub(crate) struct Merged {
    pub(crate) batches: Vec<LogBatch>,
    /// Batches that are now parts of others.
    pub(crate) merged: u64,
}

/// Takes batches in the order of the log, gives batches in the order of the log.
pub(crate) struct Merger {
    target_bytes: usize,
    max_records: usize,
    builder: BatchBuilder,
    run: Option<Run>,
    out: Vec<LogBatch>,
    /// Offset after what went out last.
    next_offset: Option<i64>,
    merged: u64,
}

impl Merger {
    pub(crate) fn new(policy: &PackPolicy) -> Self {
        Self {
            target_bytes: policy.target_bytes,
            max_records: policy.max_records.clamp(1, PACK_RECORDS_MAX),
            builder: BatchBuilder::new(Codec::Zstd, Some(policy.zstd_level)),
            run: None,
            out: Vec::new(),
            next_offset: None,
            merged: 0,
        }
    }

    /// Lets a batch through untouched.
    pub(crate) fn pass(&mut self, batch: &LogBatch) -> Result<(), MergeError> {
        self.close()?;
        self.emit(batch.clone());
        Ok(())
    }

    /// Adds the records of `source` that `keep` names, the same ones as for its survey. A source
    /// that cannot be written anew goes through untouched, with all its records, and so does one
    /// above the target of which nothing changes.
    pub(crate) fn add(
        &mut self,
        source: &Source<'_>,
        survey: &Survey,
        horizon_ms: Option<i64>,
        keep: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<(), MergeError> {
        let is_changed =
            survey.dropped > 0 || horizon_ms != super::delete_horizon(source.batch.header());
        let is_above = source.section.len() > self.target_bytes && !is_changed;
        if is_above || survey.kept == 0 || !survey.can_be_rewritten(horizon_ms) {
            return self.pass(source.log);
        }
        if !self.has_room(source, survey, horizon_ms) {
            self.close()?;
        }
        let mut run = match self.run.take() {
            Some(run) => run,
            None => {
                self.begin(source.class, horizon_ms, source.batch.header().base_sequence);
                Run::new(source, horizon_ms, survey.first_timestamp)
            }
        };
        run.is_changed |= is_changed;
        run.is_compressed |= source.batch.codec() != Codec::None;
        run.parts_bytes += source.log.size_bytes();
        run.parts.push(source.log.clone());
        self.run = Some(run);
        self.push_all(source, is_changed, keep)
    }

    /// Whether a source goes into the batch that is in the making.
    fn has_room(&self, source: &Source<'_>, survey: &Survey, horizon_ms: Option<i64>) -> bool {
        self.run.as_ref().is_some_and(|run| {
            let span = source.log.last_offset().saturating_sub(run.base_offset);
            run.class == source.class
                && (horizon_ms.is_none() || run.horizon_ms == horizon_ms)
                && source.log.base_offset() > run.last_offset
                && i32::try_from(span).is_ok()
                && survey.spans(run.base_timestamp)
                && self.builder.size_bytes() + survey.bytes <= self.target_bytes
                && self.builder.len() + survey.kept as usize <= self.max_records
        })
    }

    fn push_all(
        &mut self,
        source: &Source<'_>,
        is_changed: bool,
        mut keep: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<(), MergeError> {
        for record in source.records() {
            let record = record?;
            if !keep(&record) {
                continue;
            }
            let offset = source.offset(&record);
            let bytes = self.builder.size_bytes() + record_bytes_max(&record);
            let is_full = bytes > self.target_bytes || self.builder.len() >= self.max_records;
            if is_changed && is_full && !self.builder.is_empty() {
                self.split(source, &record)?;
            }
            let Some(run) = self.run.as_mut() else { continue };
            let delta = i32::try_from(offset.saturating_sub(run.base_offset)).unwrap_or(i32::MAX);
            let (key, value) = (record.key, record.value);
            self.builder.push_at(delta, record.timestamp, key, value, record.headers_raw)?;
            run.last_offset = offset;
        }
        if let Some(run) = self.run.as_mut() {
            run.last_offset = source.log.last_offset();
        }
        Ok(())
    }

    /// Goes on with `next`, which is in the middle of a source, in another batch.
    fn split(&mut self, source: &Source<'_>, next: &Record<'_>) -> Result<(), MergeError> {
        let Some(horizon_ms) = self.run.as_ref().map(|run| run.horizon_ms) else {
            return Ok(());
        };
        self.close()?;
        let sequence = match source.batch.header().base_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            base => sequence_add(base, next.offset_delta),
        };
        self.begin(source.class, horizon_ms, sequence);
        let mut run = Run::new(source, horizon_ms, next.timestamp);
        run.base_offset = source.offset(next);
        run.is_changed = true;
        self.run = Some(run);
        Ok(())
    }

    /// Makes the builder ready for a run.
    fn begin(&mut self, class: Class, horizon_ms: Option<i64>, base_sequence: i32) {
        let fresh = BatchBuilder::new(Codec::None, None);
        let mut builder = std::mem::replace(&mut self.builder, fresh)
            .into_plain()
            .with_repacked(class.is_repacked);
        if let Some(time) = class.append_time {
            builder = builder.with_log_append_time(time);
        }
        if let Some((id, epoch)) = class.transaction {
            builder = builder.with_producer(id, epoch, base_sequence).with_transactional(true);
        }
        if let Some(horizon_ms) = horizon_ms {
            builder = builder.with_delete_horizon(horizon_ms);
        }
        self.builder = builder;
    }

    /// Lets the batch in the making reach up to `last_offset`, where no record is left. Without
    /// one, or where it is of another leader epoch, a gap is left instead, which is no harm.
    pub(crate) fn cover(&mut self, last_offset: i64, leader_epoch: i32) {
        if let Some(run) = self.run.as_mut()
            && run.class.leader_epoch == leader_epoch
            && last_offset > run.last_offset
            && i32::try_from(last_offset.saturating_sub(run.base_offset)).is_ok()
        {
            run.last_offset = last_offset;
            run.is_changed = true;
        }
    }

    /// Ends the batch in the making.
    pub(crate) fn close(&mut self) -> Result<(), MergeError> {
        let Some(run) = self.run.take() else {
            return Ok(());
        };
        if !run.is_changed && run.is_compressed && run.parts.len() == 1 {
            self.builder.clear();
            run.parts.into_iter().for_each(|part| self.emit(part));
            return Ok(());
        }
        let span = run.last_offset.saturating_sub(run.base_offset);
        let last_delta = i32::try_from(span).unwrap_or(i32::MAX);
        let batch = self.builder.build_batch_spanning(last_delta)?;
        if run.is_changed || batch.size_bytes() < run.parts_bytes {
            self.merged += run.parts.len() as u64;
            self.emit(LogBatch::stamp(batch, run.base_offset, run.class.leader_epoch));
        } else {
            run.parts.into_iter().for_each(|part| self.emit(part));
        }
        Ok(())
    }

    fn emit(&mut self, batch: LogBatch) {
        self.next_offset = Some(batch.next_offset());
        self.out.push(batch);
    }

    /// Offset after the last batch that is done; `None` before the first.
    pub(crate) const fn next_offset(&self) -> Option<i64> {
        self.next_offset
    }

    /// The batches that are done.
    pub(crate) fn take(&mut self) -> Vec<LogBatch> {
        std::mem::take(&mut self.out)
    }

    /// All that is left.
    pub(crate) fn finish(mut self) -> Result<Merged, MergeError> {
        self.close()?;
        Ok(Merged { batches: self.out, merged: self.merged })
    }
}

impl Run {
    fn new(source: &Source<'_>, horizon_ms: Option<i64>, first_timestamp: i64) -> Self {
        Self {
            class: source.class,
            horizon_ms,
            base_offset: source.log.base_offset(),
            last_offset: source.log.base_offset().saturating_sub(1),
            base_timestamp: horizon_ms.unwrap_or(first_timestamp),
            parts: Vec::new(),
            parts_bytes: 0,
            is_changed: false,
            is_compressed: false,
        }
    }
}
