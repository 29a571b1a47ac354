//! Entries that the journal held and cannot give back: their partition goes on behind the offsets
//! that they may have taken, and says that those are lost. Never decides that something is lost:
//! storage does, by checksums, and only of what was durable.

use crate::compact::APPENDED_BYTES_MIN;
use crate::engine::Engine;
use crate::entry::Fact;
use crate::state::ReplayError;
use crate::units::{EntrySeq, PartitionKey};
use millpond_wire::limits;

/// Offsets of a partition that damage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// Which partition.
    pub partition: PartitionKey,
    /// The first lost offset.
    pub from: i64,
    /// The first offset behind them.
    pub upto: i64,
}

impl Engine {
    /// In the place of [`Engine::replay`] for an entry of `len_bytes` bytes that was about this
    /// partition only and is lost. How many records it held shows when the next batch of the
    /// partition comes, or else is taken to be the most that so many bytes can hold: no offset is
    /// given out twice.
    ///
    /// # Errors
    /// `ReplayError` when the entry does not continue what is there, or the partition is unknown.
    pub fn replay_lost(
        &mut self,
        seq: EntrySeq,
        partition: PartitionKey,
        len_bytes: usize,
    ) -> Result<(), ReplayError> {
        let last = self.state.last_seq;
        if seq <= last {
            return Ok(());
        }
        if seq != last.next() {
            return Err(ReplayError::Missing { last, found: seq });
        }
        let batches = (len_bytes / APPENDED_BYTES_MIN).max(1) as i64;
        let records = batches.saturating_mul(limits::BATCH_RECORDS_MAX as i64);
        self.state.partition(seq, partition)?.holes.expect_loss(records);
        self.state.producers.doubt(partition);
        self.state.last_seq = seq;
        Ok(())
    }

    /// All offsets that damage took and no log start has passed, partition by partition.
    pub fn lost_ranges(&self) -> impl Iterator<Item = LostRange> {
        let topics = self.state.catalog.iter();
        let logs = topics.flat_map(|topic| topic.keys().zip(&topic.partitions));
        logs.flat_map(|(partition, log)| {
            let ranges = log.holes.above(log.log_start).iter();
            ranges.map(move |(from, upto)| LostRange { partition, from: *from, upto: *upto })
        })
    }

    /// The journal has ended, and with it the hope that a next batch tells how many offsets a lost
    /// entry took: decided once and journalled, so that it stays.
    pub(crate) fn settle_losses(&mut self) {
        let mut ends = Vec::new();
        for topic in self.state.catalog.iter_mut() {
            let keys: Vec<PartitionKey> = topic.keys().collect();
            for (key, log) in keys.into_iter().zip(&mut topic.partitions) {
                let records = log.holes.take_pending();
                if records > 0 {
                    ends.push((key, log.log_end.saturating_add(records)));
                }
            }
        }
        for (partition, upto) in ends {
            self.commit(Fact::Lost { partition, upto });
            if let Some(log) = self.state.catalog.partition_mut(partition) {
                // Nothing can be read there: it need not wait for the fact to be durable.
                log.advance(log.log_end);
            }
            self.seal_if_large();
        }
        self.seal();
    }
}
