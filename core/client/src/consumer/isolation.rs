//! Which batches of a fetch belong to aborted transactions (KIP-98): what a reader of committed records
//! is not shown.
//!
//! Pure. It goes by the broker's list of aborted transactions and by the markers in the log; it never
//! hides a batch of a transaction that was committed.

use millpond_wire::limits;
use millpond_wire::messages::fetch_response::AbortedTransaction;
use millpond_wire::record::Batch;
use std::collections::{HashSet, VecDeque};

/// The base offsets of the batches that were aborted.
pub(super) fn hidden(batches: &VecDeque<Batch>, aborted: &[AbortedTransaction]) -> HashSet<i64> {
    let mut begun: Vec<(i64, i64)> =
        aborted.iter().map(|one| (one.first_offset, one.producer_id)).collect();
    begun.sort_unstable();
    let mut begun = begun.into_iter().peekable();
    let mut open: HashSet<i64> = HashSet::new();
    let mut hidden = HashSet::new();
    for batch in batches {
        let header = batch.header();
        while let Some((_, producer)) = begun.next_if(|(first, _)| *first <= header.last_offset()) {
            open.insert(producer);
        }
        if batch.attributes().is_control() {
            if is_abort(batch) {
                open.remove(&header.producer_id);
            }
        } else if batch.attributes().is_transactional() && open.contains(&header.producer_id) {
            hidden.insert(header.base_offset);
        }
    }
    hidden
}

/// Whether a control batch ends a transaction badly: the second field of its key is 0.
fn is_abort(batch: &Batch) -> bool {
    let Ok(section) = batch.decompress(limits::DECOMPRESSED_BYTES_MAX) else { return false };
    let Some(Ok(record)) = batch.records(&section).next() else { return false };
    record.key.and_then(|key| key.get(2..4)) == Some([0, 0].as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_wire::record::{BatchBuilder, Codec, EndMarker, LogBatch};

    fn at(offset: i64, batch: Batch) -> Batch {
        LogBatch::stamp(batch, offset, 0).to_batch().unwrap()
    }

    fn data(offset: i64, producer: i64, transactional: bool) -> Batch {
        let mut builder = BatchBuilder::new(Codec::None, None).with_transactional(transactional);
        builder.set_producer(producer, 0, 0);
        builder.push(0, None, Some(b"v"), &[]).unwrap();
        at(offset, Batch::parse(builder.build().unwrap()).unwrap())
    }

    fn end(offset: i64, producer: i64, is_commit: bool) -> Batch {
        at(offset, EndMarker { is_commit, coordinator_epoch: 0 }.batch(producer, 0, 0))
    }

    #[test]
    fn only_batches_of_aborted_transactions_are_hidden() {
        let batches: VecDeque<Batch> = [
            data(0, 7, true),
            data(1, 8, true),
            data(2, 7, false),
            end(3, 7, false),
            data(4, 7, true),
            end(5, 8, true),
            end(6, 7, true),
            data(7, 9, true),
        ]
        .into();
        let aborted = [AbortedTransaction { producer_id: 7, first_offset: 0 }];
        assert_eq!(hidden(&batches, &aborted), HashSet::from([0]));
        assert!(hidden(&batches, &[]).is_empty());
    }

    #[test]
    fn a_transaction_that_began_before_the_fetch_and_ends_after_it_is_hidden_too() {
        let batches: VecDeque<Batch> = [data(10, 7, true), data(11, 7, true)].into();
        let aborted = [AbortedTransaction { producer_id: 7, first_offset: 3 }];
        assert_eq!(hidden(&batches, &aborted), HashSet::from([10, 11]));
    }
}
