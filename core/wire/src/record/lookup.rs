//! Finding a record by its timestamp (ListOffsets). Must never trust the maximum timestamp of a
//! header further than to skip a batch.

use super::batch::Batch;
use super::error::BatchError;
use super::header::{BatchHeader, HEADER_BYTES, TimestampType};

/// A record that was looked for by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundTimestamp {
    /// Its offset: the base offset of the batch and its delta.
    pub offset: i64,
    /// Its timestamp in ms since 1970.
    pub timestamp: i64,
}

/// The first record of `batch` whose timestamp is `timestamp_ms` or later. Offsets count from
/// `base_offset`, where the batch stands in the log. Decompresses up to `cap_bytes`, and only if
/// the header leaves it open.
///
/// # Errors
/// As [`Batch::decompress`] and the record iterator.
pub fn first_at_or_after(
    batch: &Batch,
    base_offset: i64,
    timestamp_ms: i64,
    cap_bytes: usize,
) -> Result<Option<FoundTimestamp>, BatchError> {
    let header = batch.header();
    if header.max_timestamp < timestamp_ms || header.records_count == 0 {
        return Ok(None);
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(Some(FoundTimestamp { offset: base_offset, timestamp: header.max_timestamp }));
    }
    find(batch, base_offset, cap_bytes, |timestamp| timestamp >= timestamp_ms)
}

/// The first record of `batch` that has its greatest timestamp (`-3` of ListOffsets, KIP-734).
///
/// # Errors
/// As [`first_at_or_after`].
pub fn max_timestamp(
    batch: &Batch,
    base_offset: i64,
    cap_bytes: usize,
) -> Result<Option<FoundTimestamp>, BatchError> {
    let header = batch.header();
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        let offset = base_offset.saturating_add(i64::from(header.last_offset_delta));
        return Ok(Some(FoundTimestamp { offset, timestamp: header.max_timestamp }));
    }
    let section = batch.decompress(cap_bytes)?;
    let mut best: Option<FoundTimestamp> = None;
    for record in batch.records(&section) {
        let record = record?;
        if best.is_none_or(|best| record.timestamp > best.timestamp) {
            best = Some(FoundTimestamp {
                offset: base_offset.saturating_add(i64::from(record.offset_delta)),
                timestamp: record.timestamp,
            });
        }
    }
    Ok(best)
}

/// The last offset of the last whole batch in `bytes`, which holds whole batches and nothing else.
/// Reads headers only; `None` if there is no batch.
#[must_use]
pub fn last_offset_of(mut bytes: &[u8]) -> Option<i64> {
    let mut last = None;
    while let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() {
        let header = BatchHeader::read(raw);
        last = Some(header.last_offset());
        bytes = bytes.get(header.batch_bytes().ok()?..)?;
    }
    last
}

fn find(
    batch: &Batch,
    base_offset: i64,
    cap_bytes: usize,
    wanted: impl Fn(i64) -> bool,
) -> Result<Option<FoundTimestamp>, BatchError> {
    let section = batch.decompress(cap_bytes)?;
    for record in batch.records(&section) {
        let record = record?;
        if wanted(record.timestamp) {
            return Ok(Some(FoundTimestamp {
                offset: base_offset.saturating_add(i64::from(record.offset_delta)),
                timestamp: record.timestamp,
            }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::builder::BatchBuilder;
    use super::super::codec::Codec;
    use super::*;

    const CAP: usize = 1 << 20;

    fn batch(times: &[i64]) -> Batch {
        let mut builder = BatchBuilder::new(Codec::Zstd, None);
        for time in times {
            builder.push(*time, None, Some(&[b'v'; 100]), &[]).unwrap();
        }
        builder.build_batch().unwrap()
    }

    #[test]
    fn the_last_offset_of_a_block_is_that_of_its_last_batch() {
        let one = batch(&[10, 30, 20]);
        let mut block = one.raw().to_vec();
        block.extend_from_slice(batch(&[1, 2, 3, 4]).raw());
        assert_eq!(last_offset_of(&block), Some(3));
        assert_eq!(last_offset_of(one.raw()), Some(2));
        assert_eq!(last_offset_of(&[]), None);
    }

    #[test]
    fn the_first_record_at_or_after_a_time_is_found() {
        let batch = batch(&[10, 30, 20, 40]);
        let find = |time| {
            first_at_or_after(&batch, 100, time, CAP).unwrap().map(|f| (f.offset, f.timestamp))
        };
        assert_eq!(find(0), Some((100, 10)));
        assert_eq!(find(10), Some((100, 10)));
        assert_eq!(find(15), Some((101, 30)));
        assert_eq!(find(31), Some((103, 40)));
        assert_eq!(find(41), None);
    }

    #[test]
    fn the_greatest_timestamp_is_the_first_of_its_kind() {
        let found = max_timestamp(&batch(&[10, 30, 20, 30]), 5, CAP).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (6, 30));
    }

    #[test]
    fn log_append_time_needs_no_decompression() {
        let batch = batch(&[10, 30]).with_log_append_time(50);
        let found = first_at_or_after(&batch, 7, 50, 0).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (7, 50));
        let found = max_timestamp(&batch, 7, 0).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (8, 50));
        assert_eq!(first_at_or_after(&batch, 7, 51, 0).unwrap(), None);
    }
}
