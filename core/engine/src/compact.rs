//! A small batch as an entry holds it: what can be computed again is left out, and what is left is
//! as short as it goes. Lossless to the byte: whatever does not fit a short form is written out.
//! Never used for large batches, whose header costs less than the pass over them.
//!
//! ```text
//! body (fact 17)
//!   topic id 16 | partition zigzag | flags u8
//!   [attributes | records count]          flag 1  else: no attributes, one record
//!   [last offset delta]                   flag 2  else: records count - 1
//!   [leader epoch zigzag]                 flag 4  else: 1
//!   base offset | base timestamp zigzag
//!   [max timestamp zigzag, less the base] flag 8  else: that of the base
//!   [producer id | epoch | base sequence] flag 16 else: -1, -1, -1
//!   [crc u32]                             flag 32 else: computed when read
//!   [sent, as in fact.rs]                 flag 64 in full, flag 128 the batch's own range and offset
//!   records, to the end of the body
//! ```
//! Numbers are varints (seven bits a byte, the lowest first), signed ones zigzag; what is unsigned
//! here and signed in a batch is taken bit by bit. Length and magic of a batch follow from the rest.

use crate::codec::{CodecError, Take, put_varint, varint_len, zigzag};
use crate::entry::{EntryError, Fact};
use crate::extent::{self, Extent};
use crate::fact::{COMPACT_TAG, EXTENT_TAG};
use crate::partition::FIRST_LEADER_EPOCH;
use crate::sent::{SENT_BYTES, Sent, SentAnswer};
use crate::units::PartitionKey;
use bytes::BufMut;
use millpond_wire::limits;
use millpond_wire::record::{
    Attributes, BatchHeader, LogBatch, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE,
};

const HAS_SHAPE: u8 = 1;
const HAS_LAST_DELTA: u8 = 2;
const HAS_LEADER_EPOCH: u8 = 4;
const HAS_MAX_TIMESTAMP: u8 = 8;
const HAS_PRODUCER: u8 = 16;
const HAS_CRC: u8 = 32;
const HAS_SENT: u8 = 64;
const HAS_OWN_SENT: u8 = 128;

/// A fact in the form in which it is written.
pub(crate) enum Written<'a> {
    Whole(&'a Fact),
    Compact(Compact<'a>),
    Extent { partition: &'a PartitionKey, batch: &'a LogBatch, sent: Option<&'a Sent>, at: Extent },
}

impl<'a> Written<'a> {
    /// `extent`: where the batch of an appended fact stands, if it is in a segment.
    pub(crate) fn of(fact: &'a Fact, extent: Option<Extent>) -> Written<'a> {
        if let (Some(at), Fact::Appended { partition, batch, sent }) = (extent, fact) {
            return Written::Extent { partition, batch, sent: sent.as_ref(), at };
        }
        match fact {
            Fact::Appended { partition, batch, sent } if is_compact(batch) => {
                Written::Compact(Compact::new(*partition, batch, sent.as_ref()))
            }
            fact => Written::Whole(fact),
        }
    }

    fn body_len(&self) -> usize {
        match self {
            Written::Whole(fact) => fact.body_len(),
            Written::Compact(compact) => compact.len(),
            Written::Extent { sent, .. } => extent::body_len(*sent),
        }
    }

    pub(crate) fn len(&self) -> usize {
        let body_len = self.body_len();
        1 + varint_len(body_len as u64) + body_len
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        match self {
            Written::Whole(fact) => {
                out.put_u8(fact.tag());
                put_varint(out, self.body_len() as u64);
                fact.put_body(out);
            }
            Written::Compact(compact) => {
                out.put_u8(COMPACT_TAG);
                put_varint(out, self.body_len() as u64);
                compact.put(out);
            }
            Written::Extent { partition, batch, sent, at } => {
                out.put_u8(EXTENT_TAG);
                put_varint(out, self.body_len() as u64);
                extent::put_body(out, partition, batch, *sent, *at);
            }
        }
    }
}

/// Whether a batch is written in this form.
fn is_compact(batch: &LogBatch) -> bool {
    batch.size_bytes() < limits::COMPACT_BATCH_BYTES_MAX
}

/// A batch about to be written: what stands before its records is made once, on the stack.
pub(crate) struct Compact<'a> {
    front: Front,
    section: &'a [u8],
}

impl<'a> Compact<'a> {
    pub(crate) fn new(
        partition: PartitionKey,
        batch: &'a LogBatch,
        sent: Option<&Sent>,
    ) -> Compact<'a> {
        let header = batch.header();
        let flags = flags_of(&header, batch, sent);
        let has = |flag: u8| flags & flag != 0;
        let mut front = Front { bytes: [0; FRONT_BYTES_MAX], len: 0 };
        front.put_slice(&partition.topic_id.0);
        front.put_zigzag(partition.partition.into());
        front.put_slice(&[flags]);
        if has(HAS_SHAPE) {
            front.put_varint(header.attributes.bits().into());
            front.put_varint(unsigned(header.records_count));
        }
        if has(HAS_LAST_DELTA) {
            front.put_varint(unsigned(header.last_offset_delta));
        }
        if has(HAS_LEADER_EPOCH) {
            front.put_zigzag(header.partition_leader_epoch.into());
        }
        front.put_varint(header.base_offset as u64);
        front.put_zigzag(header.base_timestamp);
        if has(HAS_MAX_TIMESTAMP) {
            front.put_zigzag(header.max_timestamp.wrapping_sub(header.base_timestamp));
        }
        if has(HAS_PRODUCER) {
            front.put_varint(header.producer_id as u64);
            front.put_varint((header.producer_epoch as u16).into());
            front.put_varint(unsigned(header.base_sequence));
        }
        if has(HAS_CRC) {
            front.put_slice(&header.crc.to_le_bytes());
        }
        if let Some(sent) = sent.filter(|_| has(HAS_SENT)) {
            let mut bytes = [0; SENT_BYTES];
            sent.put(&mut &mut bytes[..]);
            front.put_slice(&bytes);
        }
        Compact { front, section: batch.section() }
    }

    /// Bytes that [`Compact::put`] writes.
    pub(crate) fn len(&self) -> usize {
        self.front.len + self.section.len()
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_slice(self.front.bytes.get(..self.front.len).unwrap_or_default());
        out.put_slice(self.section);
    }
}

/// Which parts are written.
fn flags_of(header: &BatchHeader, batch: &LogBatch, sent: Option<&Sent>) -> u8 {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let has_shape = header.attributes.bits() != 0 || header.records_count != 1;
    let is_full = header.last_offset_delta.checked_add(1) == Some(header.records_count);
    let producer = (header.producer_id, header.producer_epoch, header.base_sequence);
    let sent_flag = match sent {
        None => 0,
        Some(sent) if *sent == own_sent(header) => HAS_OWN_SENT,
        Some(_) => HAS_SENT,
    };
    flag(has_shape, HAS_SHAPE)
        | flag(!is_full, HAS_LAST_DELTA)
        | flag(header.partition_leader_epoch != FIRST_LEADER_EPOCH, HAS_LEADER_EPOCH)
        | flag(header.max_timestamp != header.base_timestamp, HAS_MAX_TIMESTAMP)
        | flag(producer != NO_PRODUCER, HAS_PRODUCER)
        // Known for what a producer sent; a pass over the bytes for what a transform made.
        | flag(!batch.has_right_crc(), HAS_CRC)
        | sent_flag
}

/// A few bytes on the stack.
struct Front {
    bytes: [u8; FRONT_BYTES_MAX],
    len: usize,
}

impl Front {
    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    #[inline]
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes[self.len] = value as u8 | 0x80;
            self.len += 1;
            value >>= 7;
        }
        self.bytes[self.len] = value as u8;
        self.len += 1;
    }

    #[inline]
    fn put_zigzag(&mut self, value: i64) {
        self.put_varint(zigzag(value));
    }
}

/// Reads the body of fact 17.
pub(crate) fn take_appended(take: &mut Take) -> Result<Fact, EntryError> {
    let partition = PartitionKey {
        topic_id: take.uuid("topic id")?,
        partition: take_i32(take.zigzag("partition")?, "partition")?,
    };
    let flags = take.u8("batch flags")?;
    if flags & HAS_SENT != 0 && flags & HAS_OWN_SENT != 0 {
        return Err(CodecError::Impossible { what: "batch flags", value: flags.into() }.into());
    }
    let header = take_header(take, flags)?;
    let crc = if flags & HAS_CRC != 0 { Some(take.u32("batch crc")?) } else { None };
    let sent = match flags & (HAS_SENT | HAS_OWN_SENT) {
        0 => None,
        HAS_SENT => Some(Sent::take(take)?),
        _ => Some(own_sent(&header)),
    };
    let section = take.rest();
    if section.len() >= limits::COMPACT_BATCH_BYTES_MAX {
        // Never written: larger ones keep their header.
        let value = section.len() as i64;
        return Err(CodecError::Impossible { what: "compact batch", value }.into());
    }
    let batch = LogBatch::from_parts(header, &section, crc)?;
    Ok(Fact::Appended { partition, batch, sent })
}

/// The fields of a header, but for length, magic and CRC.
fn take_header(take: &mut Take, flags: u8) -> Result<BatchHeader, CodecError> {
    let has = |flag: u8| flags & flag != 0;
    let (mut attributes, mut records_count) = (0, 1);
    if has(HAS_SHAPE) {
        attributes = take_u16(take, "attributes")?;
        records_count = take.varint32("records count")? as i32;
    }
    let last_offset_delta = if has(HAS_LAST_DELTA) {
        take.varint32("last offset delta")? as i32
    } else {
        records_count.wrapping_sub(1)
    };
    let partition_leader_epoch = if has(HAS_LEADER_EPOCH) {
        take_i32(take.zigzag("leader epoch")?, "leader epoch")?
    } else {
        FIRST_LEADER_EPOCH
    };
    let base_offset = take.varint("base offset")? as i64;
    let base_timestamp = take.zigzag("base timestamp")?;
    let span = if has(HAS_MAX_TIMESTAMP) { take.zigzag("max timestamp")? } else { 0 };
    let (producer_id, producer_epoch, base_sequence) = if has(HAS_PRODUCER) {
        let id = take.varint("producer id")? as i64;
        (id, take_u16(take, "producer epoch")? as i16, take.varint32("base sequence")? as i32)
    } else {
        NO_PRODUCER
    };
    Ok(BatchHeader {
        base_offset,
        batch_length: 0,
        partition_leader_epoch,
        magic: 0,
        crc: 0,
        attributes: Attributes::from_bits(attributes),
        last_offset_delta,
        base_timestamp,
        max_timestamp: base_timestamp.wrapping_add(span),
        producer_id,
        producer_epoch,
        base_sequence,
        records_count,
    })
}

/// What an idempotent producer sent, if the batch stands as it came and where it was answered.
fn own_sent(header: &BatchHeader) -> Sent {
    Sent {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        last_sequence: header.last_sequence(),
        answer: SentAnswer::Offset(header.base_offset),
    }
}

/// The bits of a number that is hardly ever negative.
const fn unsigned(value: i32) -> u64 {
    value as u32 as u64
}

fn take_u16(take: &mut Take, what: &'static str) -> Result<u16, CodecError> {
    let value = take.varint(what)?;
    u16::try_from(value).map_err(|_| CodecError::Impossible { what, value: value as i64 })
}

fn take_i32(value: i64, what: &'static str) -> Result<i32, CodecError> {
    i32::try_from(value).map_err(|_| CodecError::Impossible { what, value })
}

/// The least that an appended batch takes of an entry: tag, length, key, flags, offset, time, one
/// record.
pub(crate) const APPENDED_BYTES_MIN: usize = 2 + 17 + 1 + 1 + 1 + 7;
/// All that can stand before the records: every part there, every number as long as it gets.
const FRONT_BYTES_MAX: usize =
    16 + 5 + 1 + (3 + 5) + 5 + 5 + 10 + 10 + 10 + (10 + 3 + 5) + 4 + SENT_BYTES;
const NO_PRODUCER: (i64, i16, i32) = (NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE);
