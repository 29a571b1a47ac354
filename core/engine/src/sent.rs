//! What an idempotent producer sent and what it was told: kept beside what became of the batch, so
//! that a duplicate gets the same answer again. Never says anything about the log.

use crate::codec::{CodecError, Take};
use bytes::BufMut;

/// A batch as an idempotent producer sent it, and the answer it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// At least 0.
    pub producer_id: i64,
    /// At least 0.
    pub producer_epoch: i16,
    /// Of its first record.
    pub base_sequence: i32,
    /// Of its last record; below `base_sequence` when the numbers wrapped.
    pub last_sequence: i32,
    /// What a duplicate is told again.
    pub answer: SentAnswer,
}

/// What the producer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentAnswer {
    /// Accepted; a transform changed the count or the destination (answered as offset -1).
    NoOffset,
    /// Accepted at this offset.
    Offset(i64),
}

impl Sent {
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_i64_le(self.producer_id);
        out.put_i16_le(self.producer_epoch);
        out.put_i32_le(self.base_sequence);
        out.put_i32_le(self.last_sequence);
        let (kind, offset) = match self.answer {
            SentAnswer::NoOffset => (0, -1),
            SentAnswer::Offset(offset) => (1, offset),
        };
        out.put_u8(kind);
        out.put_i64_le(offset);
    }

    pub(crate) fn take(take: &mut Take) -> Result<Sent, CodecError> {
        Ok(Sent {
            producer_id: take.i64("producer id")?,
            producer_epoch: take.i16("producer epoch")?,
            base_sequence: take.i32("base sequence")?,
            last_sequence: take.i32("last sequence")?,
            answer: match (take.u8("answer")?, take.i64("base offset")?) {
                (0, _) => SentAnswer::NoOffset,
                (1, offset) => SentAnswer::Offset(offset),
                (value, _) => {
                    return Err(CodecError::Impossible { what: "answer", value: value.into() });
                }
            },
        })
    }
}

/// Bytes of a [`Sent`], always as many.
pub(crate) const SENT_BYTES: usize = 8 + 2 + 4 + 4 + 1 + 8;
