//! The fact: one thing that became true, and its bytes in an entry. It says what became true, never how
//! to find it out again: applying one asks nothing.
//!
//! ```text
//! tag body (all little-endian; `str` = length u32 + UTF-8; `key` = topic id 16 + partition i32)
//!   1 TopicCreated        topic id 16 | name str | partitions u32 | configs (count u32, str, str)
//!   2 TopicDeleted        topic id 16
//!   3 PartitionsAdded     topic id 16 | new total u32
//!   4 Appended            key | has sent u8 | [sent] | record batch v2, stamped, to the end
//!   5 Sent                key | sent
//!   6 ProducerIdsReserved first id not reserved i64
//!   7 OffsetsCommitted    group str | count u32 x (key | offset i64 | epoch i32 | time i64 | str?)
//!   8 OffsetsDeleted      group str | all u8 | count u32 x key
//!   9 TransformDeployed   see transform.rs; without parts (read)
//!  10 TransformDeleted    name str
//!  11 TransformPaused     name str | paused u8
//!  12 InputsCounted       key | records given to transforms so far u64
//!  13 TopicConfigured     topic id 16 | configs, all of them
//!  14 LeaderEpoch         key | epoch i32
//!  16, 32 to 37           transactions, see transaction/fact.rs
//!  17 Appended            a small batch in the compact form of compact.rs
//!  18 Appended            a batch that stands in a segment, as extent.rs draws it
//!  19 LogStart            key | offset i64
//!  20 Lost                key | first offset not lost i64
//!  40 to 44              groups, see group_fact.rs
//!  47 to 49              settings of the node, see setting.rs
//!  50 TransformDeployed   see transform.rs; with parts
//!  51 CursorMoved         key | transform str | next offset i64 | records so far u64
//!  60, 61                users, see user_fact.rs
//!  62, 63                rules of access, see acl/fact.rs
//!
//! varint  seven bits a byte, the lowest first
//! sent    producer id i64 | epoch i16 | base sequence i32 | last sequence i32
//!         | answer u8 (0 = no offset, 1 = offset) | base offset i64
//! ```
//! A new fact gets a new tag; what a tag means never changes.

use crate::acl::AclFact;
use crate::codec::{CodecError, Take, put_count, put_partition, put_string, put_strings};
use crate::compact;
use crate::derive::{Cursor, put_cursor, take_cursor};
use crate::entry::EntryError;
use crate::group_fact::GroupFact;
use crate::offsets::CommittedOffset;
use crate::sent::{SENT_BYTES, Sent};
use crate::setting::SettingFact;
use crate::transaction::TransactionFact;
use crate::transform::Deployment;
use crate::units::PartitionKey;
use crate::user_fact::UserFact;
use bytes::{BufMut, BytesMut};
use millpond_wire::limits;
use millpond_wire::record::LogBatch;
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

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
    /// A derived transform has been given the records of a partition up to an offset.
    CursorMoved {
        /// The source.
        partition: PartitionKey,
        /// Its name.
        transform: String,
        /// Where it stands now.
        cursor: Cursor,
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
    /// Somebody is known by a password, by another one, or not any more.
    User(UserFact),
    /// A rule of access.
    Acl(AclFact),
    /// A step of a transaction.
    Transaction(TransactionFact),
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
            Fact::TransformDeployed(_) => 50,
            Fact::TransformDeleted { .. } => 10,
            Fact::TransformPaused { .. } => 11,
            Fact::InputsCounted { .. } => 12,
            Fact::CursorMoved { .. } => CURSOR_TAG,
            Fact::TopicConfigured { .. } => 13,
            Fact::LeaderEpoch { .. } => 14,
            Fact::LogStart { .. } => 19,
            Fact::Lost { .. } => 20,
            Fact::Group(fact) => fact.tag(),
            Fact::Setting(fact) => fact.tag(),
            Fact::User(fact) => fact.tag(),
            Fact::Acl(fact) => fact.tag(),
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
            Fact::CursorMoved { partition, transform, cursor } => {
                put_cursor(out, *partition, transform, *cursor);
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
            Fact::User(fact) => fact.put(out),
            Fact::Acl(fact) => fact.put(out),
            Fact::Transaction(fact) => fact.put(out),
        }
    }

    /// Reads the body of a tag; one that is not known was written by a newer version.
    pub(crate) fn take_body(tag: u8, take: &mut Take) -> Result<Fact, EntryError> {
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
            9 => Fact::TransformDeployed(Deployment::take(take, false)?),
            50 => Fact::TransformDeployed(Deployment::take(take, true)?),
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
    if tag == CURSOR_TAG {
        let (partition, transform, cursor) = take_cursor(take)?;
        return Ok(Fact::CursorMoved { partition, transform, cursor });
    }
    if let Some(fact) = SettingFact::take(tag, take)? {
        return Ok(Fact::Setting(fact));
    }
    if let Some(fact) = UserFact::take(tag, take)? {
        return Ok(Fact::User(fact));
    }
    if let Some(fact) = AclFact::take(tag, take)? {
        return Ok(Fact::Acl(fact));
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
const CURSOR_TAG: u8 = 51;
const KEY_BYTES: usize = 16 + 4;
const COMMIT_BYTES_MIN: usize = 8 + 4 + 8 + 1;
