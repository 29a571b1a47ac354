//! What the engine knows of the segments of a partition: where they lie, how large and how old they
//! are. Facts from storage, kept in memory only; after a start storage tells them again.

use crate::record_clock::is_plausible;
use crate::units::{Now, PartitionKey};
use millpond_wire::limits;

/// A partition's segments as the newest checkpoint names them, in order. What was known of the
/// partition before is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPartition {
    /// Which partition.
    pub partition: PartitionKey,
    /// Oldest first.
    pub segments: Vec<StoredSegment>,
}

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    /// No record in it is below this offset.
    pub base_offset: i64,
    /// The offset after its last record.
    pub end_offset: i64,
    /// What it takes on the device, in bytes.
    pub bytes: u64,
    /// The greatest timestamp of its records, milliseconds since 1970; negative: none has one.
    pub max_timestamp: i64,
}

/// The segments of one partition.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    segments: Vec<Seen>,
    doubt: Doubt,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    segment: StoredSegment,
    /// Monotonic; when storage spoke of it first, or of its growth.
    at_ms: u64,
    /// Monotonic; when storage spoke of it first.
    born_ms: u64,
}

/// Offsets of records that came while the wall clock was not to be believed: their timestamps may
/// be years off, so they count as come when the clock settled.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    from: i64,
    upto: i64,
    /// Monotonic.
    settled_ms: u64,
}

impl Stored {
    /// Replaces what was known. Segments below the log start are on their way out already.
    pub(crate) fn replace(&mut self, segments: &[StoredSegment], log_start: i64, mono_ms: u64) {
        let before = std::mem::take(&mut self.segments);
        let seen = |segment: &StoredSegment| {
            let known = before.iter().find(|seen| seen.segment.base_offset == segment.base_offset);
            let same = known.filter(|seen| seen.segment == *segment);
            Seen {
                segment: *segment,
                at_ms: same.map_or(mono_ms, |seen| seen.at_ms),
                born_ms: known.map_or(mono_ms, |seen| seen.born_ms),
            }
        };
        let kept = segments.iter().filter(|segment| segment.end_offset > log_start);
        self.segments = kept.take(limits::SEGMENTS_PER_PARTITION_MAX).map(seen).collect();
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &StoredSegment> {
        self.segments.iter().map(|seen| &seen.segment)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.iter().map(|segment| segment.bytes).sum()
    }

    /// Bytes of the newest segment, and for how long it has been known.
    pub(crate) fn newest(&self, mono_ms: u64) -> Option<(u64, u64)> {
        let seen = self.segments.last()?;
        Some((seen.segment.bytes, mono_ms.saturating_sub(seen.born_ms)))
    }

    /// Forgets what lies wholly below the log start. Gives back the bytes that this frees.
    pub(crate) fn trim(&mut self, log_start: i64) -> u64 {
        let gone = self.segments.partition_point(|seen| seen.segment.end_offset <= log_start);
        self.segments.drain(..gone).map(|seen| seen.segment.bytes).sum()
    }

    /// The wall clock is not to be believed from now on.
    pub(crate) fn begin_doubt(&mut self, log_end: i64) {
        if self.doubt.upto <= self.doubt.from {
            self.doubt.from = log_end;
            self.doubt.upto = log_end;
        }
    }

    /// The wall clock is to be believed again.
    pub(crate) fn end_doubt(&mut self, log_end: i64, mono_ms: u64) {
        if log_end > self.doubt.from {
            self.doubt.upto = log_end;
            self.doubt.settled_ms = mono_ms;
        }
    }

    /// The times that decide the segments' ages, oldest segment first, on a steady clock. Where
    /// timestamps cannot be believed the result is rather too young: too old would delete.
    pub(crate) fn times(&self, now: Now) -> Vec<i64> {
        let on_wall =
            |mono_ms: u64| now.wall_ms.saturating_sub_unsigned(now.mono_ms.saturating_sub(mono_ms));
        let mut times = Vec::with_capacity(self.segments.len());
        let mut next = i64::MAX;
        for seen in self.segments.iter().rev() {
            let segment = &seen.segment;
            let mut time = segment.max_timestamp;
            if !is_plausible(time, now.wall_ms) {
                // What follows it came later.
                time = on_wall(seen.at_ms).min(next);
            }
            let doubt = &self.doubt;
            if segment.base_offset < doubt.upto && doubt.from < segment.end_offset {
                time = time.max(on_wall(doubt.settled_ms));
            }
            times.push(time);
            next = time;
        }
        times.reverse();
        times
    }
}
