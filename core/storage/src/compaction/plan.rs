//! Whether a partition is worth a round, and up to where. Must never choose what is younger than
//! the topic's settings allow.

/// What is known of a segment that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset after its last.
    pub end_offset: i64,
    /// Its size.
    pub bytes: u64,
    /// The earliest time known of its records, in ms since 1970: `max_timestamp` if there is
    /// nothing better.
    pub oldest_timestamp: i64,
    /// Greatest timestamp of its records.
    pub max_timestamp: i64,
    /// Whether a round has gone over it and everything before it.
    pub is_clean: bool,
}

/// The settings of a topic that decide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionPolicy {
    /// `delete.retention.ms`: how long tombstones stay after their first round.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`: records younger than this stay.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: records older than this start a round.
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`: a round starts if more than this part of the bytes is new.
    pub min_cleanable_dirty_ratio: f64,
}

impl Default for CompactionPolicy {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            delete_retention_ms: 24 * 3_600_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
        }
    }
}

/// What a round goes over: everything below `end_offset`, of which the keys from `dirty_offset` on
/// have to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionRange {
    /// Where the part begins that no round has seen.
    pub dirty_offset: i64,
    /// Where the round ends at the latest; the base of a segment or the end of the last one.
    pub end_offset: i64,
    /// Bytes below `dirty_offset`.
    pub clean_bytes: u64,
    /// Bytes from there to the end.
    pub dirty_bytes: u64,
    /// Whether `max.compaction.lag.ms` asks for it, whatever the share of new bytes is.
    pub is_overdue: bool,
}

/// The round that a partition needs, if it does. `segments` are its complete ones, in order;
/// `stable_offset` is the high watermark or, if lower, the start of the oldest open transaction.
#[must_use]
pub fn choose(
    segments: &[SegmentSummary],
    policy: &CompactionPolicy,
    now_ms: i64,
    stable_offset: i64,
) -> Option<CompactionRange> {
    let dirty_from = segments.iter().position(|segment| !segment.is_clean)?;
    let (clean, dirty) = segments.split_at_checked(dirty_from)?;
    let is_cleanable = |segment: &&SegmentSummary| {
        let is_old = policy.min_compaction_lag_ms <= 0
            || segment.max_timestamp <= now_ms.saturating_sub(policy.min_compaction_lag_ms);
        segment.end_offset <= stable_offset && is_old
    };
    let cleanable = || dirty.iter().take_while(is_cleanable);
    let bytes = |segments: &mut dyn Iterator<Item = &SegmentSummary>| {
        segments.fold(0_u64, |sum, segment| sum.saturating_add(segment.bytes))
    };
    let range = CompactionRange {
        dirty_offset: cleanable().next()?.base_offset,
        end_offset: cleanable().last()?.end_offset,
        clean_bytes: bytes(&mut clean.iter()),
        dirty_bytes: bytes(&mut cleanable()),
        is_overdue: cleanable().any(|segment| {
            now_ms.saturating_sub(segment.oldest_timestamp) > policy.max_compaction_lag_ms
        }),
    };
    let all = range.clean_bytes.saturating_add(range.dirty_bytes);
    let is_dirty = range.dirty_bytes as f64 > policy.min_cleanable_dirty_ratio * all as f64;
    (range.is_overdue || is_dirty).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    /// Segments of 100 records and a day each, with these sizes, the first `clean` of them clean.
    fn segments(bytes: &[u64], clean: usize) -> Vec<SegmentSummary> {
        let mut base_offset = 0;
        let of = |(i, bytes): (usize, &u64)| {
            let start = base_offset;
            base_offset += 100;
            SegmentSummary {
                base_offset: start,
                end_offset: base_offset,
                bytes: *bytes,
                oldest_timestamp: i as i64 * DAY_MS,
                max_timestamp: (i as i64 + 1) * DAY_MS,
                is_clean: i < clean,
            }
        };
        bytes.iter().enumerate().map(of).collect()
    }

    #[test]
    fn the_share_of_new_bytes_starts_a_round() {
        let policy = CompactionPolicy::default();
        let choose = |bytes: &[u64]| choose(&segments(bytes, 1), &policy, 10 * DAY_MS, 1_000);
        assert_eq!(choose(&[100, 50, 50]), None);
        let range = choose(&[100, 50, 51]).unwrap();
        assert_eq!((range.dirty_offset, range.end_offset), (100, 300));
        assert_eq!((range.clean_bytes, range.dirty_bytes), (100, 101));
        assert_eq!(choose(&[100]), None, "all is clean");
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn what_is_young_or_not_stable_stays_out() {
        let all = segments(&[10, 10, 10, 10], 0);
        let policy =
            CompactionPolicy { min_compaction_lag_ms: 2 * DAY_MS, ..CompactionPolicy::default() };
        let end =
            |now: i64, stable| choose(&all, &policy, now, stable).map(|range| range.end_offset);
        assert_eq!(end(DAY_MS, 1_000), None);
        assert_eq!(end(4 * DAY_MS, 1_000), Some(200));
        assert_eq!(end(4 * DAY_MS - 1, 1_000), Some(100));
        assert_eq!(end(9 * DAY_MS, 399), Some(300));
        assert_eq!(end(9 * DAY_MS, 0), None);
        // A clock that was set to 1970 makes everything young, and loses nothing.
        assert_eq!(end(0, 1_000), None);
    }

    #[test]
    fn what_waited_too_long_starts_a_round_however_little_it_is() {
        let all = segments(&[1_000, 1], 1);
        let policy =
            CompactionPolicy { max_compaction_lag_ms: 3 * DAY_MS, ..CompactionPolicy::default() };
        assert_eq!(choose(&all, &policy, 4 * DAY_MS, 1_000), None);
        assert!(choose(&all, &policy, 4 * DAY_MS + 1, 1_000).unwrap().is_overdue);
    }
}
