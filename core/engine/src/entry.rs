//! The entry: what one event decided, the unit of atomicity, and its bytes in the journal.
//! A fact says what became true, never how to find it out again: applying one asks nothing.
//!
//! ```text
//! version 2 (written)
//!   entry version u8 = 2 | count varint | count x fact
//!   fact  tag u8 | length varint | body (length bytes)
//! version 1 (read)
//!   entry version u8 = 1 | seq u64 | count u32 | count x fact
//!   fact  tag u8 | length u32 | body (length bytes)
//!
//! tag body (all little-endian; `str` = length u32 + UTF-8; `key` = topic id 16 + partition i32)
//!   1 TopicCreated        topic id 16 | name str | partitions u32 | configs (count u32, str, str)
//!   2 TopicDeleted        topic id 16
//!   3 PartitionsAdded     topic id 16 | new total u32
//!   4 Appended            key | has sent u8 | [sent] | record batch v2, stamped, to the end
//!   5 Sent                key | sent
//!   6 ProducerIdsReserved first id not reserved i64
//!   7 OffsetsCommitted    group str | count u32 x (key | offset i64 | epoch i32 | time i64 | str?)
//!   8 OffsetsDeleted      group str | all u8 | count u32 x key
//!   9 TransformDeployed   see transform.rs
//!  10 TransformDeleted    name str
//!  11 TransformPaused     name str | paused u8
//!  12 InputsCounted       key | records given to transforms so far u64
//!  13 TopicConfigured     topic id 16 | configs, all of them
//!  14 LeaderEpoch         key | epoch i32
//!  15 (reserved: transform state deltas)
//!  16, 32 to 37           transactions, see transaction/fact.rs
//!  17 Appended            a small batch in the compact form of compact.rs
//!  18 Appended            a batch that stands in a segment, as extent.rs draws it
//!  19 LogStart            key | offset i64
//!  20 Lost                key | first offset not lost i64
//!  40 to 44              groups, see group_fact.rs
//!  48, 49                settings of the node, see setting.rs
//!
//! varint  seven bits a byte, the lowest first
//! sent    producer id i64 | epoch i16 | base sequence i32 | last sequence i32
//!         | answer u8 (0 = no offset, 1 = offset) | base offset i64
//! ```
//! The sequence of an entry is that of its row in the journal and stands nowhere else (version 1
//! repeated it). An unknown tag or version is an error that says "newer version": it is never skipped.

use crate::codec::{
    CodecError, Take, put_count, put_partition, put_string, put_strings, put_varint, varint_len,
};
use crate::compact::{self, Written};
use crate::extent::{self, Extent, WantedExtent};
use crate::group_fact::GroupFact;
pub use crate::offsets::CommittedOffset;
use crate::sent::SENT_BYTES;
pub use crate::sent::{Sent, SentAnswer};
use crate::setting::SettingFact;
use crate::transaction::TransactionFact;
use crate::transform::Deployment;
use crate::units::{EntrySeq, PartitionKey};
use bytes::{BufMut, Bytes, BytesMut};
use millpond_wire::limits;
use millpond_wire::record::{BatchError, LogBatch};
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

/// The version of the entry format that is written.
pub const ENTRY_VERSION: u8 = 2;
/// The version that is read besides.
const FIRST_ENTRY_VERSION: u8 = 1;

/// What one event decided.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the journal; consecutive.
    pub seq: EntrySeq,
    /// In the order that they are to be applied.
    pub facts: Vec<Fact>,
}

/// One thing that became true.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A topic exists, with empty partitions.
    TopicCreated {
        /// Never used before.
        id: Uuid,
        /// Unique among those that exist.
        name: String,
        /// How many.
        partitions: u32,
        /// Only what differs from the defaults.
        configs: BTreeMap<String, String>,
    },
    /// A topic and all that belongs to it is gone.
    TopicDeleted {
        /// Of the topic.
        id: Uuid,
    },
    /// A topic has more partitions.
    PartitionsAdded {
        /// Of the topic.
        id: Uuid,
        /// The new count.
        total: u32,
    },
    /// A batch is in a partition's log.
    Appended {
        /// Whose log.
        partition: PartitionKey,
        /// With its offsets.
        batch: LogBatch,
        /// What an idempotent producer sent it as.
        sent: Option<Sent>,
    },
    /// A producer's batch was accepted that left nothing, or something else, in the log.
    Sent {
        /// The partition that it was sent to.
        partition: PartitionKey,
        /// The range, and the answer.
        sent: Sent,
    },
    /// Producer ids below this one may have been given out.
    ProducerIdsReserved {
        /// The first that was not.
        upto: i64,
    },
    /// A consumer group committed offsets.
    OffsetsCommitted {
        /// The group's id.
        group: String,
        /// One per partition.
        offsets: Vec<(PartitionKey, CommittedOffset)>,
    },
    /// Committed offsets were removed.
    OffsetsDeleted {
        /// The group's id.
        group: String,
        /// `None`: all of the group.
        partitions: Option<Vec<PartitionKey>>,
    },
    /// A transform is in force, in place of one of the same name.
    TransformDeployed(Deployment),
    /// A transform is out of force.
    TransformDeleted {
        /// Of the transform.
        name: String,
    },
    /// A transform is paused, or not any more.
    TransformPaused {
        /// Of the transform.
        name: String,
        /// Its new state.
        paused: bool,
    },
    /// How many records a partition has given to transforms.
    InputsCounted {
        /// Which partition.
        partition: PartitionKey,
        /// Since the partition was made.
        records: u64,
    },
    /// A topic's configuration was replaced.
    TopicConfigured {
        /// Of the topic.
        id: Uuid,
        /// Only what differs from the defaults.
        configs: BTreeMap<String, String>,
    },
    /// What is kept of a group beyond its members and their offsets.
    Group(GroupFact),
    /// Damage took what stood between the log end and an offset, where the log goes on.
    Lost {
        /// Which partition.
        partition: PartitionKey,
        /// The first offset that is not lost.
        upto: i64,
    },
    /// A partition's leader epoch moved.
    LeaderEpoch {
        /// Which partition.
        partition: PartitionKey,
        /// The new epoch.
        epoch: i32,
    },
    /// Everything below an offset is gone; an offset behind the log start changes nothing.
    LogStart {
        /// Which partition.
        partition: PartitionKey,
        /// The first offset that is left.
        offset: i64,
    },
    /// An administrator set something on the node.
    Setting(SettingFact),
    /// A step of a transaction.
    Transaction(TransactionFact),
}

/// Whom damage to an entry would concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryScope {
    /// One partition only.
    Partition(PartitionKey),
    /// The node, or several partitions.
    Node,
}

/// Why bytes are not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by a version of Millpond that knows more.
    #[error(
        "the journal holds {what} {value}, written by a newer version of millpond; start that version"
    )]
    Newer {
        /// "entry version" or "fact".
        what: &'static str,
        /// Which.
        value: u8,
    },
    /// It says that it is another one than its place in the journal makes it.
    #[error("entry {expected} calls itself {found}: the journal is damaged")]
    OtherNumber {
        /// By its place.
        expected: EntrySeq,
        /// By its own word.
        found: EntrySeq,
    },
    /// Its batch stands in a segment, and is not there.
    #[error(
        "a batch of partition {partition} is missing or damaged: it stands at byte {} of the \
         segment with base offset {} (generation {})",
        extent.position, extent.base_offset, extent.generation
    )]
    ExtentMissing {
        /// Whose.
        partition: PartitionKey,
        /// Where.
        extent: Extent,
    },
    /// Damaged.
    #[error("an entry is damaged: {0}")]
    Codec(#[from] CodecError),
    /// The batch within is damaged.
    #[error("the batch of an entry is damaged: {0}")]
    Batch(#[from] BatchError),
}

impl Entry {
    /// Whom damage to this entry would concern: the journal keeps it outside the body.
    #[must_use]
    pub fn scope(&self) -> EntryScope {
        let mut scope = None;
        for fact in &self.facts {
            match (fact.partition(), scope) {
                (Some(key), None) => scope = Some(key),
                (Some(key), Some(seen)) if key == seen => {}
                _ => return EntryScope::Node,
            }
        }
        scope.map_or(EntryScope::Node, EntryScope::Partition)
    }

    /// Bytes of record batches within: the payload of the write.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let bytes = |fact: &Fact| match fact {
            Fact::Appended { batch, .. } => batch.size_bytes(),
            _ => 0,
        };
        self.facts.iter().map(bytes).sum()
    }

    /// How long the encoding is, to the byte.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.encoded_len_with(|_| None)
    }

    /// The same, where the batches of the facts for which `extent` (given a fact's index) has an
    /// answer are in segments.
    pub fn encoded_len_with(&self, mut extent: impl FnMut(usize) -> Option<Extent>) -> usize {
        let facts = self.facts.iter().enumerate();
        1 + varint_len(self.facts.len() as u64)
            + facts.map(|(index, fact)| Written::of(fact, extent(index)).len()).sum::<usize>()
    }

    /// Writes the entry: `encoded_len` bytes.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.encode_with(out, |_| None);
    }

    /// Writes the entry: `encoded_len_with` bytes. Only extents that are on flash may be named.
    pub fn encode_with(
        &self,
        out: &mut impl BufMut,
        mut extent: impl FnMut(usize) -> Option<Extent>,
    ) {
        out.put_u8(ENTRY_VERSION);
        put_varint(out, self.facts.len() as u64);
        for (index, fact) in self.facts.iter().enumerate() {
            Written::of(fact, extent(index)).put(out);
        }
    }

    /// Reads the entry that stands at `seq` in the journal; large batches are slices of `bytes`.
    /// Only for bytes whose checksum the journal has verified: those of the batches are not
    /// checked again.
    ///
    /// # Errors
    /// `EntryError` when the bytes are damaged or of a newer version, or a batch stands in a
    /// segment.
    pub fn decode(seq: EntrySeq, bytes: Bytes) -> Result<Entry, EntryError> {
        Self::decode_with(seq, bytes, Vec::new())
    }

    /// The same with the batches that stand in segments, in the order of [`Entry::wanted_extents`].
    ///
    /// # Errors
    /// As `decode`; `EntryError::ExtentMissing` for a batch that is not given, or is another one.
    pub fn decode_with(
        seq: EntrySeq,
        bytes: Bytes,
        batches: Vec<LogBatch>,
    ) -> Result<Entry, EntryError> {
        let mut batches = batches.into_iter();
        let mut facts = Vec::new();
        for_each_fact(seq, bytes, |tag, body| {
            facts.push(match tag {
                EXTENT_TAG => extent::Body::take(body)?.with(batches.next())?,
                tag => Fact::take_body(tag, body)?,
            });
            Ok(())
        })?;
        Ok(Entry { seq, facts })
    }

    /// The batches of an encoded entry that stand in segments.
    ///
    /// # Errors
    /// As `decode`.
    pub fn wanted_extents(seq: EntrySeq, bytes: Bytes) -> Result<Vec<WantedExtent>, EntryError> {
        let mut wanted = Vec::new();
        for_each_fact(seq, bytes, |tag, body| {
            if tag == EXTENT_TAG {
                wanted.push(extent::Body::take(body)?.wanted);
            } else {
                body.rest();
            }
            Ok(())
        })?;
        Ok(wanted)
    }
}

/// Goes over the bodies of an entry's facts; each must be read to its end.
fn for_each_fact(
    seq: EntrySeq,
    bytes: Bytes,
    mut each: impl FnMut(u8, &mut Take) -> Result<(), EntryError>,
) -> Result<(), EntryError> {
    let mut take = Take::new(bytes);
    let version = take.u8("entry version")?;
    let count = match version {
        FIRST_ENTRY_VERSION => {
            let found = EntrySeq(take.u64("entry sequence")?);
            if found != seq {
                return Err(EntryError::OtherNumber { expected: seq, found });
            }
            take.count("facts", 1 + 4)?
        }
        ENTRY_VERSION => take.varint_count("facts", 1 + 1)?,
        value => return Err(EntryError::Newer { what: "entry version", value }),
    };
    for _ in 0..count {
        let tag = take.u8("fact tag")?;
        let len = match version {
            FIRST_ENTRY_VERSION => take.u32("fact length")? as usize,
            _ => take.varint32("fact length")? as usize,
        };
        let mut body = Take::new(take.slice("fact body", len)?);
        each(tag, &mut body)?;
        body.end("fact body")?;
    }
    Ok(take.end("entry")?)
}

impl Fact {
    /// The one partition that this fact is about, if it is about one.
    #[must_use]
    pub fn partition(&self) -> Option<PartitionKey> {
        match self {
            Fact::Appended { partition, .. }
            | Fact::Sent { partition, .. }
            | Fact::InputsCounted { partition, .. }
            | Fact::LogStart { partition, .. }
            | Fact::Lost { partition, .. }
            | Fact::LeaderEpoch { partition, .. } => Some(*partition),
            _ => None,
        }
    }

    pub(crate) fn tag(&self) -> u8 {
        match self {
            Fact::TopicCreated { .. } => 1,
            Fact::TopicDeleted { .. } => 2,
            Fact::PartitionsAdded { .. } => 3,
            Fact::Appended { .. } => 4,
            Fact::Sent { .. } => 5,
            Fact::ProducerIdsReserved { .. } => 6,
            Fact::OffsetsCommitted { .. } => 7,
            Fact::OffsetsDeleted { .. } => 8,
            Fact::TransformDeployed(_) => 9,
            Fact::TransformDeleted { .. } => 10,
            Fact::TransformPaused { .. } => 11,
            Fact::InputsCounted { .. } => 12,
            Fact::TopicConfigured { .. } => 13,
            Fact::LeaderEpoch { .. } => 14,
            Fact::LogStart { .. } => 19,
            Fact::Lost { .. } => 20,
            Fact::Group(fact) => fact.tag(),
            Fact::Setting(fact) => fact.tag(),
            Fact::Transaction(fact) => fact.tag(),
        }
    }

    /// Batches are measured, the rest is small: written once to count it.
    pub(crate) fn body_len(&self) -> usize {
        match self {
            // In full; the compact form measures itself.
            Fact::Appended { batch, sent, .. } => {
                KEY_BYTES + 1 + sent.map_or(0, |_| SENT_BYTES) + batch.size_bytes()
            }
            Fact::Sent { .. } => KEY_BYTES + SENT_BYTES,
            _ => {
                let mut scratch = BytesMut::new();
                self.put_body(&mut scratch);
                scratch.len()
            }
        }
    }

    pub(crate) fn put_body(&self, out: &mut impl BufMut) {
        match self {
            Fact::TopicCreated { id, name, partitions, configs } => {
                out.put_slice(&id.0);
                put_string(out, name);
                out.put_u32_le(*partitions);
                put_strings(out, configs);
            }
            Fact::TopicDeleted { id } => out.put_slice(&id.0),
            Fact::PartitionsAdded { id, total } => {
                out.put_slice(&id.0);
                out.put_u32_le(*total);
            }
            Fact::Appended { partition, batch, sent } => {
                put_partition(out, partition);
                out.put_u8(u8::from(sent.is_some()));
                if let Some(sent) = sent {
                    sent.put(out);
                }
                batch.write_to(out);
            }
            Fact::Sent { partition, sent } => {
                put_partition(out, partition);
                sent.put(out);
            }
            Fact::ProducerIdsReserved { upto } => out.put_i64_le(*upto),
            Fact::OffsetsCommitted { group, offsets } => put_offsets(out, group, offsets),
            Fact::OffsetsDeleted { group, partitions } => {
                put_string(out, group);
                out.put_u8(u8::from(partitions.is_none()));
                put_keys(out, partitions.as_deref().unwrap_or_default());
            }
            Fact::TransformDeployed(deployment) => deployment.put(out),
            Fact::TransformDeleted { name } => put_string(out, name),
            Fact::TransformPaused { name, paused } => {
                put_string(out, name);
                out.put_u8(u8::from(*paused));
            }
            Fact::InputsCounted { partition, records } => {
                put_partition(out, partition);
                out.put_u64_le(*records);
            }
            Fact::TopicConfigured { id, configs } => {
                out.put_slice(&id.0);
                put_strings(out, configs);
            }
            Fact::LeaderEpoch { partition, epoch } => {
                put_partition(out, partition);
                out.put_i32_le(*epoch);
            }
            Fact::LogStart { partition, offset } | Fact::Lost { partition, upto: offset } => {
                put_partition(out, partition);
                out.put_i64_le(*offset);
            }
            Fact::Group(fact) => fact.put(out),
            Fact::Setting(fact) => fact.put(out),
            Fact::Transaction(fact) => fact.put(out),
        }
    }

    fn take_body(tag: u8, take: &mut Take) -> Result<Fact, EntryError> {
        Ok(match tag {
            1 => Fact::TopicCreated {
                id: take.uuid("topic id")?,
                name: take.string("topic name")?,
                partitions: take_partitions(take)?,
                configs: take.strings("topic configs")?,
            },
            2 => Fact::TopicDeleted { id: take.uuid("topic id")? },
            3 => {
                Fact::PartitionsAdded { id: take.uuid("topic id")?, total: take.u32("partitions")? }
            }
            4 => {
                let partition = take.partition()?;
                let sent = if take.bool("has sent")? { Some(Sent::take(take)?) } else { None };
                Fact::Appended { partition, batch: LogBatch::parse_trusted(take.rest())?, sent }
            }
            5 => Fact::Sent { partition: take.partition()?, sent: Sent::take(take)? },
            6 => Fact::ProducerIdsReserved { upto: take.i64("producer id")? },
            7 => take_offsets(take)?,
            8 => {
                let group = take.string("group")?;
                let all = take.bool("all offsets")?;
                let keys = take_keys(take)?;
                Fact::OffsetsDeleted { group, partitions: (!all).then_some(keys) }
            }
            9 => Fact::TransformDeployed(Deployment::take(take)?),
            10 => Fact::TransformDeleted { name: take.string("transform name")? },
            11 => Fact::TransformPaused {
                name: take.string("transform name")?,
                paused: take.bool("paused")?,
            },
            12 => Fact::InputsCounted {
                partition: take.partition()?,
                records: take.u64("input count")?,
            },
            13 => Fact::TopicConfigured {
                id: take.uuid("topic id")?,
                configs: take.strings("topic configs")?,
            },
            14 => {
                Fact::LeaderEpoch { partition: take.partition()?, epoch: take.i32("leader epoch")? }
            }
            19 => Fact::LogStart { partition: take.partition()?, offset: take.i64("log start")? },
            20 => Fact::Lost { partition: take.partition()?, upto: take.i64("lost offsets")? },
            COMPACT_TAG => compact::take_appended(take)?,
            value => take_of_families(value, take)?,
        })
    }
}

/// Facts that have their own files.
fn take_of_families(tag: u8, take: &mut Take) -> Result<Fact, EntryError> {
    if let Some(fact) = GroupFact::take(tag, take)? {
        return Ok(Fact::Group(fact));
    }
    if let Some(fact) = SettingFact::take(tag, take)? {
        return Ok(Fact::Setting(fact));
    }
    match TransactionFact::take(tag, take)? {
        Some(fact) => Ok(Fact::Transaction(fact)),
        None => Err(EntryError::Newer { what: "fact", value: tag }),
    }
}

/// A count that memory is taken for: never beyond what a topic can have.
fn take_partitions(take: &mut Take) -> Result<u32, CodecError> {
    let count = take.u32("partitions")?;
    if count as usize <= limits::PARTITIONS_PER_TOPIC_MAX {
        Ok(count)
    } else {
        Err(CodecError::Impossible { what: "partitions", value: count.into() })
    }
}

pub(crate) fn put_keys(out: &mut impl BufMut, keys: &[PartitionKey]) {
    put_count(out, keys.len());
    for key in keys {
        put_partition(out, key);
    }
}

pub(crate) fn take_keys(take: &mut Take) -> Result<Vec<PartitionKey>, CodecError> {
    let count = take.count("partitions", KEY_BYTES)?;
    (0..count).map(|_| take.partition()).collect()
}

fn put_offsets(out: &mut impl BufMut, group: &str, offsets: &[(PartitionKey, CommittedOffset)]) {
    put_string(out, group);
    put_count(out, offsets.len());
    for (key, offset) in offsets {
        put_partition(out, key);
        offset.put(out);
    }
}

fn take_offsets(take: &mut Take) -> Result<Fact, EntryError> {
    let group = take.string("group")?;
    let count = take.count("offsets", KEY_BYTES + COMMIT_BYTES_MIN)?;
    let mut offsets = Vec::with_capacity(count);
    for _ in 0..count {
        offsets.push((take.partition()?, CommittedOffset::take(take)?));
    }
    Ok(Fact::OffsetsCommitted { group, offsets })
}

/// Of an appended batch in compact form; in full it is 4.
pub(crate) const COMPACT_TAG: u8 = 17;
/// Of an appended batch that stands in a segment.
pub(crate) const EXTENT_TAG: u8 = 18;
const KEY_BYTES: usize = 16 + 4;
const COMMIT_BYTES_MIN: usize = 8 + 4 + 8 + 1;
