//! The transactions of a partition that were aborted: their records do not count, whatever their
//! keys. Must be complete for all that a round goes over; the engine's index is.

use millpond_wire::record::LogBatch;
use std::collections::BTreeMap;

/// Aborted transactions of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aborted {
    /// By producer id and the offset of the marker: the first offset.
    by_end: BTreeMap<(i64, i64), i64>,
}

impl Aborted {
    /// Notes a transaction: its producer, its first offset and that of its marker.
    pub fn note(&mut self, producer_id: i64, first_offset: i64, last_offset: i64) {
        self.by_end.insert((producer_id, last_offset), first_offset);
    }

    /// Whether a batch is part of one of them.
    #[must_use]
    pub fn holds(&self, batch: &LogBatch) -> bool {
        let attributes = batch.attributes();
        if self.by_end.is_empty() || !attributes.is_transactional() || attributes.is_control() {
            return false;
        }
        let (producer_id, offset) = (batch.header().producer_id, batch.last_offset());
        let mut ends = self.by_end.range((producer_id, offset)..=(producer_id, i64::MAX));
        ends.next().is_some_and(|(_, first_offset)| *first_offset <= offset)
    }
}
