//! From batches of a log to the batch that a worker is given: as a producer could have sent it, with
//! what lies below the cursor left out. Never leaves out anything else.

use super::Input;
use crate::partition::Partition;
use millpond_wire::limits::{
    DECOMPRESSED_BYTES_MAX, DEFAULT_MAX_MESSAGE_BYTES, DERIVE_MERGE_BYTES,
    TRANSFORM_INPUT_RECORDS_MAX,
};
use millpond_wire::record::{
    Batch, BatchBuilder, BatchError, BuildError, Codec, LogBatch, TimestampType,
};

/// Why records cannot be given to a transform.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("the batch at offset {0} cannot be read: {1}")]
    Read(i64, BatchError),
    #[error("the records at offset {0} fit no batch: {1}")]
    Build(i64, BuildError),
}

/// Whether the records of a batch count for those who read what is committed.
pub(super) fn counts(log: &Partition, batch: &LogBatch) -> bool {
    let attributes = batch.attributes();
    if attributes.is_control() || batch.header().records_count == 0 {
        return false;
    }
    if !attributes.is_transactional() {
        return true;
    }
    let (producer_id, first, end) =
        (batch.header().producer_id, batch.base_offset(), batch.next_offset());
    let aborted = log.stability.aborted_between(first, end);
    !aborted.iter().any(|one| {
        one.producer_id == producer_id && one.first_offset <= first && first < one.last_offset
    })
}

/// Whether a batch is given together with those before it, which hold `bytes`. What is compressed stays
/// as it is: what it grows to is for the worker to bear.
pub(super) fn joins(first: &LogBatch, bytes: usize, next: &LogBatch) -> bool {
    let fits = bytes + next.size_bytes() <= DERIVE_MERGE_BYTES;
    let is_plain = |batch: &LogBatch| batch.attributes().codec() == Ok(Codec::None);
    fits && is_plain(first) && is_plain(next)
}

/// The records of some batches from an offset on, not too many at once; `None` if there are none.
pub(super) fn input_of(batches: &[LogBatch], from: i64) -> Result<Option<Input>, InputError> {
    let Some(last) = batches.last() else { return Ok(None) };
    let mut upto = last.next_offset();
    if let [one] = batches
        && is_whole(one, from)
    {
        let batch =
            one.unplaced_batch().map_err(|error| InputError::Read(one.base_offset(), error))?;
        let batch = batch.as_plain();
        let records = u64::from(batch.records_count());
        return Ok(Some(Input { batch, upto, records }));
    }
    let mut builder: Option<BatchBuilder> = None;
    for log in batches {
        if let Some(rest) = add(&mut builder, log, from)? {
            upto = rest;
            break;
        }
    }
    let Some(mut builder) = builder.filter(|builder| !builder.is_empty()) else { return Ok(None) };
    let batch: Batch = builder.build_batch().map_err(|error| InputError::Build(from, error))?;
    let records = u64::from(batch.records_count());
    Ok(Some(Input { batch, upto, records }))
}

/// Whether all its records are wanted and stand side by side, as producers send them.
fn is_whole(batch: &LogBatch, from: i64) -> bool {
    let header = batch.header();
    from <= batch.base_offset()
        && header.records_count.unsigned_abs() as usize <= TRANSFORM_INPUT_RECORDS_MAX
        && header.last_offset_delta.checked_add(1) == Some(header.records_count)
        && header.attributes.timestamp_type() == TimestampType::CreateTime
        && !header.attributes.has_delete_horizon()
        && !header.attributes.is_repacked()
}

/// Adds the records of a batch. The first offset that has no room any more, if there is one.
fn add(
    builder: &mut Option<BatchBuilder>,
    log: &LogBatch,
    from: i64,
) -> Result<Option<i64>, InputError> {
    let base = log.base_offset();
    let unread = |error| InputError::Read(base, error);
    let batch = log.unplaced_batch().map_err(unread)?;
    let section = batch.decompress(DECOMPRESSED_BYTES_MAX).map_err(unread)?;
    let builder = builder.get_or_insert_with(|| BatchBuilder::new(batch.codec(), None));
    for record in batch.records(&section) {
        let record = record.map_err(unread)?;
        let offset = base + i64::from(record.offset_delta);
        if offset < from {
            continue;
        }
        let is_full = builder.size_bytes() >= DEFAULT_MAX_MESSAGE_BYTES
            || builder.len() >= TRANSFORM_INPUT_RECORDS_MAX;
        if is_full {
            return Ok(Some(offset));
        }
        builder
            .push_with_raw_headers(record.timestamp, record.key, record.value, record.headers_raw)
            .map_err(|error| InputError::Build(base, error))?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(base: i64, values: &[&str]) -> LogBatch {
        let mut builder = BatchBuilder::new(Codec::None, None).with_producer(7, 0, 3);
        for value in values {
            builder.push(5, None, Some(value.as_bytes()), &[]).expect("a small record");
        }
        LogBatch::stamp(builder.build_batch().expect("a small batch"), base, 1)
    }

    fn values(input: &Input) -> Vec<String> {
        let section = input.batch.decompress(1 << 20).expect("records");
        let records = input.batch.records(&section).map(|record| record.expect("a record"));
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        records.map(|record| text(record.value.unwrap_or_default())).collect()
    }

    #[test]
    fn what_a_worker_is_given_could_have_been_sent_by_anybody() {
        let whole = input_of(&[log(10, &["a", "b"])], 10).expect("read").expect("records");
        assert_eq!(whole.batch.check_produced(1 << 20), Ok(()));
        assert!(!whole.batch.header().has_producer());
        assert_eq!((values(&whole), whole.upto), (vec!["a".to_owned(), "b".to_owned()], 12));
    }

    #[test]
    fn what_lies_below_the_cursor_is_left_out_and_small_batches_become_one() {
        let logs = [log(10, &["a", "b"]), log(12, &["c"])];
        let input = input_of(&logs, 11).expect("read").expect("records");
        assert_eq!(
            (values(&input), input.upto, input.records),
            (vec!["b".into(), "c".into()], 13, 2)
        );
        assert!(input_of(&logs, 13).expect("read").is_none());
    }
}
