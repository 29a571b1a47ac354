//! What becomes true of transactions, and its bytes within an entry. Every step of a transaction is
//! a fact of its own: the coordinator's (assigned, joined, prepared, completed, expired), the
//! group's (offsets pending, group marked) and, as a control batch that is appended, a partition's.
//!
//! ```text
//! tag body (all little-endian; `str`, `key` and `offset` as in fact.rs; `time` = ms since 1970 i64)
//!  16 GroupMarked       group str | producer id i64 | commit u8
//!  32 ProducerAssigned  id str | producer id i64 | epoch i16 | pair | timeout ms i32 | time
//!  33 Joined            id str | u32 x key | u32 x (group str) | time
//!  34 OffsetsPending    producer id i64 | group str | u32 x (key | offset)
//!  35 Prepared          id str | commit u8 | epoch i16 | pair | has next u8 | [next producer id i64] | time
//!  36 Completed         id str | time
//!  37 Expired           id str
//!
//! pair  is there u8 | [producer id i64 | epoch i16]
//! ```

use crate::codec::{CodecError, Take, put_count, put_partition, put_string};
use crate::offsets::CommittedOffset;
use crate::units::PartitionKey;
use bytes::BufMut;

/// One thing that became true of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionFact {
    /// A transactional id has a new producer id or epoch; none of its transactions is open.
    ProducerAssigned {
        /// Whose.
        transactional_id: String,
        /// What it writes as.
        producer_id: i64,
        /// Lower ones are fenced.
        epoch: i16,
        /// Whom the same client took itself for when it asked.
        previous: Option<(i64, i16)>,
        /// How long its transactions may take.
        timeout_ms: i32,
        /// Milliseconds since 1970.
        at_ms: i64,
    },
    /// Partitions and groups are part of the open transaction, which this begins if there is none.
    Joined {
        /// Whose.
        transactional_id: String,
        /// New in it.
        partitions: Vec<PartitionKey>,
        /// New in it.
        groups: Vec<String>,
        /// Milliseconds since 1970.
        at_ms: i64,
    },
    /// Offsets count for their group when the producer's transaction is committed.
    OffsetsPending {
        /// Whose transaction.
        producer_id: i64,
        /// Whose offsets.
        group: String,
        /// One per partition.
        offsets: Vec<(PartitionKey, CommittedOffset)>,
    },
    /// How the open transaction ends is decided.
    Prepared {
        /// Whose.
        transactional_id: String,
        /// Or abort.
        is_commit: bool,
        /// Of the markers and of whoever writes next.
        epoch: i16,
        /// Whom the client takes itself for until it is answered.
        previous: Option<(i64, i16)>,
        /// What the producer goes on with, at epoch 0, since epochs ran out.
        next_producer_id: Option<i64>,
        /// Milliseconds since 1970; the time of the markers too.
        at_ms: i64,
    },
    /// What the transaction did for a group counts, or is dropped.
    GroupMarked {
        /// Which group.
        group: String,
        /// Whose transaction.
        producer_id: i64,
        /// Or abort.
        is_commit: bool,
    },
    /// Everybody knows how the transaction ended.
    Completed {
        /// Whose.
        transactional_id: String,
        /// Milliseconds since 1970.
        at_ms: i64,
    },
    /// Nobody used the transactional id for long: it is forgotten.
    Expired {
        /// Which.
        transactional_id: String,
    },
}

impl TransactionFact {
    pub(crate) fn tag(&self) -> u8 {
        match self {
            TransactionFact::GroupMarked { .. } => 16,
            TransactionFact::ProducerAssigned { .. } => 32,
            TransactionFact::Joined { .. } => 33,
            TransactionFact::OffsetsPending { .. } => 34,
            TransactionFact::Prepared { .. } => 35,
            TransactionFact::Completed { .. } => 36,
            TransactionFact::Expired { .. } => 37,
        }
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        match self {
            TransactionFact::GroupMarked { group, producer_id, is_commit } => {
                put_string(out, group);
                out.put_i64_le(*producer_id);
                out.put_u8(u8::from(*is_commit));
            }
            TransactionFact::ProducerAssigned {
                transactional_id,
                producer_id,
                epoch,
                previous,
                timeout_ms,
                at_ms,
            } => {
                put_string(out, transactional_id);
                out.put_i64_le(*producer_id);
                out.put_i16_le(*epoch);
                put_pair(out, *previous);
                out.put_i32_le(*timeout_ms);
                out.put_i64_le(*at_ms);
            }
            TransactionFact::Joined { transactional_id, partitions, groups, at_ms } => {
                put_string(out, transactional_id);
                put_count(out, partitions.len());
                partitions.iter().for_each(|key| put_partition(out, key));
                put_count(out, groups.len());
                groups.iter().for_each(|group| put_string(out, group));
                out.put_i64_le(*at_ms);
            }
            TransactionFact::OffsetsPending { producer_id, group, offsets } => {
                out.put_i64_le(*producer_id);
                put_string(out, group);
                put_count(out, offsets.len());
                for (key, offset) in offsets {
                    put_partition(out, key);
                    offset.put(out);
                }
            }
            TransactionFact::Prepared {
                transactional_id,
                is_commit,
                epoch,
                previous,
                next_producer_id,
                at_ms,
            } => {
                put_string(out, transactional_id);
                out.put_u8(u8::from(*is_commit));
                out.put_i16_le(*epoch);
                put_pair(out, *previous);
                put_producer_id(out, *next_producer_id);
                out.put_i64_le(*at_ms);
            }
            TransactionFact::Completed { transactional_id, at_ms } => {
                put_string(out, transactional_id);
                out.put_i64_le(*at_ms);
            }
            TransactionFact::Expired { transactional_id } => put_string(out, transactional_id),
        }
    }

    /// `None`: the tag is not one of these.
    pub(crate) fn take(tag: u8, take: &mut Take) -> Result<Option<TransactionFact>, CodecError> {
        Ok(Some(match tag {
            16 => TransactionFact::GroupMarked {
                group: take.string("group")?,
                producer_id: take.i64("producer id")?,
                is_commit: take.bool("commit")?,
            },
            32 => TransactionFact::ProducerAssigned {
                transactional_id: take.string("transactional id")?,
                producer_id: take.i64("producer id")?,
                epoch: take.i16("producer epoch")?,
                previous: take_pair(take)?,
                timeout_ms: take.i32("transaction timeout")?,
                at_ms: take.i64("time")?,
            },
            33 => take_joined(take)?,
            34 => {
                let producer_id = take.i64("producer id")?;
                let group = take.string("group")?;
                TransactionFact::OffsetsPending { producer_id, group, offsets: take_offsets(take)? }
            }
            35 => TransactionFact::Prepared {
                transactional_id: take.string("transactional id")?,
                is_commit: take.bool("commit")?,
                epoch: take.i16("producer epoch")?,
                previous: take_pair(take)?,
                next_producer_id: take_producer_id(take)?,
                at_ms: take.i64("time")?,
            },
            36 => TransactionFact::Completed {
                transactional_id: take.string("transactional id")?,
                at_ms: take.i64("time")?,
            },
            37 => TransactionFact::Expired { transactional_id: take.string("transactional id")? },
            _ => return Ok(None),
        }))
    }
}

fn take_joined(take: &mut Take) -> Result<TransactionFact, CodecError> {
    let transactional_id = take.string("transactional id")?;
    let count = take.count("partitions of a transaction", KEY_BYTES)?;
    let partitions = (0..count).map(|_| take.partition()).collect::<Result<_, _>>()?;
    let count = take.count("groups of a transaction", 4)?;
    let groups = (0..count).map(|_| take.string("group")).collect::<Result<_, _>>()?;
    let at_ms = take.i64("time")?;
    Ok(TransactionFact::Joined { transactional_id, partitions, groups, at_ms })
}

fn take_offsets(take: &mut Take) -> Result<Vec<(PartitionKey, CommittedOffset)>, CodecError> {
    let count = take.count("offsets of a transaction", KEY_BYTES + OFFSET_BYTES_MIN)?;
    (0..count).map(|_| Ok((take.partition()?, CommittedOffset::take(take)?))).collect()
}

pub(super) fn put_pair(out: &mut impl BufMut, pair: Option<(i64, i16)>) {
    out.put_u8(u8::from(pair.is_some()));
    if let Some((producer_id, epoch)) = pair {
        out.put_i64_le(producer_id);
        out.put_i16_le(epoch);
    }
}

pub(super) fn take_pair(take: &mut Take) -> Result<Option<(i64, i16)>, CodecError> {
    if take.bool("has producer")? {
        Ok(Some((take.i64("producer id")?, take.i16("producer epoch")?)))
    } else {
        Ok(None)
    }
}

pub(super) fn put_producer_id(out: &mut impl BufMut, producer_id: Option<i64>) {
    out.put_u8(u8::from(producer_id.is_some()));
    if let Some(producer_id) = producer_id {
        out.put_i64_le(producer_id);
    }
}

pub(super) fn take_producer_id(take: &mut Take) -> Result<Option<i64>, CodecError> {
    if take.bool("has producer id")? { take.i64("producer id").map(Some) } else { Ok(None) }
}

pub(super) const KEY_BYTES: usize = 16 + 4;
pub(super) const OFFSET_BYTES_MIN: usize = 8 + 4 + 8 + 1;
