//! One batch of a producer, from its first record to its fate.
//!
//! It is stamped with producer and sequence when it is first sent, and keeps that stamp for every
//! retry; only a batch that is known not to be written may ever be stamped anew.

use super::delivery::Promise;
use bytes::Bytes;
use millpond_wire::limits;
use millpond_wire::record::{Batch as WireBatch, BatchBuilder, BuildError};
use std::sync::Arc;

/// Who a producer is to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerId {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// What a batch is known by on the broker: the key of duplicate detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) producer: ProducerId,
    pub(crate) base_sequence: i32,
}

#[derive(Debug)]
enum Content {
    /// Records are gathered, or wait to be encoded.
    Records(BatchBuilder),
    /// As it goes, and went, over the line.
    Encoded(Bytes),
}

/// A batch on its way.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Rises within a producer: the order of sending.
    pub(crate) id: u64,
    content: Content,
    pub(crate) promise: Promise,
    pub(crate) records: i32,
    /// What it counts in the producer's buffer.
    pub(crate) buffered_bytes: usize,
    pub(crate) created_ms: u64,
    /// No more records are taken.
    pub(crate) is_closed: bool,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) tries: u32,
    /// Some try was sent and never answered: it may be written.
    pub(crate) is_uncertain: bool,
    pub(crate) last_problem: Option<Arc<str>>,
    /// Its callers have been told that its time is over; only its answer is waited for.
    pub(crate) is_given_up: bool,
}

impl Batch {
    pub(crate) fn new(id: u64, builder: BatchBuilder, promise: Promise, now_ms: u64) -> Self {
        Self {
            id,
            content: Content::Records(builder),
            promise,
            records: 0,
            buffered_bytes: 0,
            created_ms: now_ms,
            is_closed: false,
            stamp: None,
            tries: 0,
            is_uncertain: false,
            last_problem: None,
            is_given_up: false,
        }
    }

    /// Bytes so far, without compression while records are gathered.
    pub(crate) fn size_bytes(&self) -> usize {
        match &self.content {
            Content::Records(builder) => builder.size_bytes(),
            Content::Encoded(bytes) => bytes.len(),
        }
    }

    /// The builder, while records are taken.
    pub(crate) fn open_builder(&mut self) -> Option<&mut BatchBuilder> {
        match &mut self.content {
            Content::Records(builder) if !self.is_closed => Some(builder),
            _ => None,
        }
    }

    /// The bytes to send, encoded now if they are not yet. Gives the builder back for the next.
    pub(crate) fn encode(&mut self) -> Result<(Bytes, Option<BatchBuilder>), BuildError> {
        self.is_closed = true;
        let builder = match &mut self.content {
            Content::Encoded(bytes) => return Ok((bytes.clone(), None)),
            Content::Records(builder) => builder,
        };
        if let Some(stamp) = self.stamp {
            builder.set_producer(stamp.producer.id, stamp.producer.epoch, stamp.base_sequence);
        }
        let bytes = builder.build()?;
        match std::mem::replace(&mut self.content, Content::Encoded(bytes.clone())) {
            Content::Records(builder) => Ok((bytes, Some(builder))),
            Content::Encoded(_) => Ok((bytes, None)),
        }
    }

    /// Takes the stamp off a batch that is known not to be written, for another one.
    pub(crate) fn unstamp(&mut self) -> Result<(), BuildError> {
        debug_assert!(!self.is_uncertain, "a batch that may be written keeps its stamp");
        self.stamp = None;
        let Content::Encoded(bytes) = &self.content else {
            return Ok(());
        };
        self.content = Content::Records(reopen(bytes.clone())?);
        Ok(())
    }
}

/// The records of an encoded batch, in a builder without a producer. Only our own bytes come here.
fn reopen(bytes: Bytes) -> Result<BatchBuilder, BuildError> {
    let batch = WireBatch::parse_trusted(bytes).map_err(|_| BuildError::Empty)?;
    let section =
        batch.decompress(limits::DECOMPRESSED_BYTES_MAX).map_err(|_| BuildError::Empty)?;
    let mut builder = BatchBuilder::like(&batch);
    for record in batch.records(&section) {
        builder.push_record(&record.map_err(|_| BuildError::Empty)?)?;
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_wire::record::Codec;

    fn batch(codec: Codec, records: i64) -> Batch {
        let promise = Promise::new("t".into(), 0);
        let mut batch = Batch::new(1, BatchBuilder::new(codec, None), promise, 0);
        let builder = batch.open_builder().unwrap();
        for n in 0..records {
            let value = format!("value {n} value value value value value");
            builder.push(1000 + n, Some(b"k"), Some(value.as_bytes()), &[]).unwrap();
        }
        batch
    }

    #[test]
    fn a_retry_sends_the_same_bytes() {
        let mut batch = batch(Codec::Lz4, 10);
        let producer = ProducerId { id: 5, epoch: 0 };
        batch.stamp = Some(Stamp { producer, base_sequence: 7 });
        let (first, builder) = batch.encode().unwrap();
        assert!(builder.is_some());
        assert_eq!(batch.encode().unwrap().0, first);
        let header = *WireBatch::parse(first).unwrap().header();
        assert_eq!((header.producer_id, header.base_sequence), (5, 7));
    }

    #[test]
    fn a_batch_stamped_anew_holds_the_same_records() {
        for codec in Codec::ALL {
            let mut batch = batch(codec, 100);
            batch.stamp =
                Some(Stamp { producer: ProducerId { id: 5, epoch: 0 }, base_sequence: 700 });
            let before = WireBatch::parse(batch.encode().unwrap().0).unwrap();
            batch.unstamp().unwrap();
            batch.stamp =
                Some(Stamp { producer: ProducerId { id: 5, epoch: 1 }, base_sequence: 0 });
            let after = WireBatch::parse(batch.encode().unwrap().0).unwrap();
            assert_eq!(after.header().producer_epoch, 1);
            assert_eq!(after.header().base_sequence, 0);
            let cap = limits::DECOMPRESSED_BYTES_MAX;
            assert_eq!(before.decompress(cap).unwrap(), after.decompress(cap).unwrap());
        }
    }
}
