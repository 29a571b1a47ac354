//! The control batch that ends a transaction in a partition (KIP-98), and the mark that makes data
//! part of one. Must never be built from what a producer sent as a control batch: those are ours.
//!
//! ```text
//! one record, uncompressed; attributes: transactional, control; sequence -1
//!   key    version i16 = 0 | type i16 (0 abort, 1 commit)
//!   value  version i16 = 0 | coordinator epoch i32
//! ```

use super::batch::Batch;
use super::codec::Codec;
use super::header::{Attributes, BatchHeader, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE};
use super::log_batch::LogBatch;
use super::records::RecordIter;

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndMarker {
    /// Whether its records count.
    pub is_commit: bool,
    /// Of the coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// The marker as a batch with base offset 0. `timestamp_ms` is in ms since 1970.
    #[must_use]
    pub fn batch(self, producer_id: i64, producer_epoch: i16, timestamp_ms: i64) -> Batch {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: 0,
            crc: 0,
            attributes: Attributes::default().with_transactional(true).with_control(true),
            last_offset_delta: 0,
            base_timestamp: timestamp_ms,
            max_timestamp: timestamp_ms,
            producer_id,
            producer_epoch,
            base_sequence: NO_SEQUENCE,
            records_count: 1,
        };
        Batch::sealed(header, Codec::None, &self.record())
    }

    /// Length 16; no attributes, no deltas; a key of 4 bytes, a value of 6, no headers.
    fn record(self) -> [u8; 17] {
        let [t0, t1] = if self.is_commit { COMMIT } else { ABORT }.to_be_bytes();
        let [e0, e1, e2, e3] = self.coordinator_epoch.to_be_bytes();
        [16 << 1, 0, 0, 0, 4 << 1, 0, 0, t0, t1, 6 << 1, 0, 0, e0, e1, e2, e3, 0]
    }

    /// What a batch of a log says; `None` if it is no control batch, or of a kind that ends no
    /// transaction.
    #[must_use]
    pub fn of(batch: &LogBatch) -> Option<EndMarker> {
        if !batch.attributes().is_control() {
            return None;
        }
        let record = RecordIter::new(&batch.header(), batch.section()).next()?.ok()?;
        // Newer versions only add to the end of either.
        let [_, _, t0, t1] = *record.key?.first_chunk::<4>()?;
        let is_commit = match i16::from_be_bytes([t0, t1]) {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        let [_, _, epoch @ ..] = *record.value?.first_chunk::<6>()?;
        Some(EndMarker { is_commit, coordinator_epoch: i32::from_be_bytes(epoch) })
    }
}

impl Batch {
    /// The same records as part of a transaction of this producer, without a sequence of their own:
    /// what a transform made of a batch that was sent in one. The CRC covers it, so this copies.
    #[must_use]
    pub fn in_transaction(&self, producer_id: i64, producer_epoch: i16) -> Batch {
        let mut header = *self.header();
        header.attributes = header.attributes.with_transactional(true);
        header.producer_id = producer_id;
        header.producer_epoch = producer_epoch;
        header.base_sequence = NO_SEQUENCE;
        Batch::sealed(header, self.codec(), &self.payload())
    }

    /// The same records as any producer could send them: no producer id, no transaction, no mark of
    /// the broker's, base offset 0. The CRC covers it, so this copies.
    #[must_use]
    pub fn as_plain(&self) -> Batch {
        let mut header = *self.header();
        let codec = self.codec();
        header.attributes = Attributes::default()
            .with_codec(codec)
            .with_timestamp_type(header.attributes.timestamp_type());
        header.base_offset = 0;
        header.partition_leader_epoch = -1;
        header.producer_id = NO_PRODUCER_ID;
        header.producer_epoch = NO_PRODUCER_EPOCH;
        header.base_sequence = NO_SEQUENCE;
        Batch::sealed(header, codec, &self.payload())
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::BatchBuilder;
    use super::*;

    #[test]
    fn a_marker_says_how_the_transaction_ended_and_is_the_batch_that_a_builder_makes() {
        for (is_commit, kind) in [(true, 1_u8), (false, 0)] {
            let marker = EndMarker { is_commit, coordinator_epoch: 7 };
            let batch = marker.batch(40, 3, 1_000);
            let mut builder = BatchBuilder::new(Codec::None, None)
                .with_transactional(true)
                .with_control(true)
                .with_producer(40, 3, -1);
            builder
                .push(1_000, Some(&[0, 0, 0, kind]), Some(&[0, 0, 0, 0, 0, 7]), &[])
                .expect("a small record");
            assert_eq!(*batch.raw(), builder.build().expect("a small batch"));
            assert_eq!(Batch::parse(batch.raw().clone()).as_ref(), Ok(&batch));
            let log = LogBatch::stamp(batch, 50, 1);
            assert_eq!(EndMarker::of(&log), Some(marker));
            assert_eq!((log.base_offset(), log.next_offset()), (50, 51));
        }
    }

    #[test]
    fn what_ends_no_transaction_is_no_marker() {
        let mut builder = BatchBuilder::new(Codec::None, None);
        builder.push(1, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]).expect("a small record");
        let data = builder.build_batch().expect("a small batch");
        assert_eq!(EndMarker::of(&LogBatch::stamp(data, 0, 1)), None);
        for key in [&[0, 0, 0, 2][..], &[0, 0], &[]] {
            let mut builder = BatchBuilder::new(Codec::None, None).with_control(true);
            builder.push(1, Some(key), Some(&[0; 6]), &[]).expect("a small record");
            let control = builder.build_batch().expect("a small batch");
            assert_eq!(EndMarker::of(&LogBatch::stamp(control, 0, 1)), None, "{key:?}");
        }
    }

    #[test]
    fn a_batch_put_into_a_transaction_keeps_its_records_in_every_codec() {
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(codec, None);
            for i in 0..20 {
                builder.push(i, Some(b"k"), Some(&[b'v'; 30]), &[]).expect("a small record");
            }
            let plain = builder.build_batch().expect("a small batch");
            let within = plain.in_transaction(9, 2);
            let again = Batch::parse(within.raw().clone()).expect("a right checksum");
            let header = *again.header();
            assert!(header.attributes.is_transactional() && !header.attributes.is_control());
            assert_eq!(
                (header.producer_id, header.producer_epoch, header.base_sequence),
                (9, 2, -1)
            );
            assert_eq!(again.payload(), plain.payload());
        }
    }
}
