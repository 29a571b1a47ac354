//! The first half of a round: which keys there are. Must never note a record that may turn out
//! not to count, and always know up to where all keys are in the map.

use super::aborted::Aborted;
use super::keys::OffsetMap;
use millpond_wire::limits::DECOMPRESSED_BYTES_MAX;
use millpond_wire::record::{BatchError, LogBatch};
use std::sync::Arc;

/// Reads batches, oldest first, from where the part of the log begins that no round has seen.
#[derive(Debug)]
pub struct KeyScan {
    keys: OffsetMap,
    end_offset: i64,
    is_full: bool,
    unreadable: u64,
    aborted: Arc<Aborted>,
}

impl KeyScan {
    /// A scan from `from_offset` on, with this much memory for keys.
    #[must_use]
    pub fn new(from_offset: i64, budget_bytes: usize, aborted: Arc<Aborted>) -> Self {
        Self {
            keys: OffsetMap::new(budget_bytes),
            end_offset: from_offset,
            is_full: false,
            unreadable: 0,
            aborted,
        }
    }

    /// Takes a batch and says whether another one may follow: not if the memory is full, which
    /// may be in the middle of this one.
    pub fn add(&mut self, batch: &LogBatch) -> bool {
        if self.is_full || batch.next_offset() <= self.end_offset {
            return !self.is_full;
        }
        if batch.attributes().is_control() || self.aborted.holds(batch) {
            self.end_offset = batch.next_offset();
            return true;
        }
        match self.note_all(batch) {
            Ok(None) => self.end_offset = batch.next_offset(),
            Ok(Some(full_at)) => {
                self.end_offset = self.end_offset.max(full_at);
                self.is_full = true;
            }
            Err(_) => {
                self.unreadable += 1;
                self.end_offset = batch.next_offset();
            }
        }
        !self.is_full
    }

    /// The offset of the first record that found no room, if any.
    fn note_all(&mut self, batch: &LogBatch) -> Result<Option<i64>, BatchError> {
        let parsed = batch.unplaced_batch()?;
        let section = parsed.decompress(DECOMPRESSED_BYTES_MAX)?;
        // What is broken stays in the log untouched, so none of it may make others go.
        parsed.records(&section).verify()?;
        for record in parsed.records(&section) {
            let record = record?;
            let offset = batch.base_offset().saturating_add(i64::from(record.offset_delta));
            let Some(key) = record.key else { continue };
            // Where an earlier round ended in the middle of this batch.
            if offset < self.end_offset {
                continue;
            }
            if self.keys.note(key, offset).is_err() {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// All keys below this offset, from where the scan began, are in the map.
    #[must_use]
    pub const fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Whether the memory was used up before the log was.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Batches that could not be read: their records take no part.
    #[must_use]
    pub const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The keys.
    #[must_use]
    pub fn into_keys(self) -> OffsetMap {
        self.keys
    }
}
