//! The engine's durable state in bytes: everything but the batches in memory, as of the last entry.
//! Checksums are the storage's. A newer version is refused, never guessed at.
//!
//! ```text
//! version u16 = 7 | last entry u64 | producer ids reserved below i64
//! topics     u32 x (id 16 | name str | configs | u32 x partition)
//!   partition  log start i64 | log end i64 | leader epoch i32
//!              | newest timestamp i64 | its batch i64 | inputs u64
//! producers  u32 x (key | producer id i64 | epoch i16 | touched u64 | u32 x (entry u64 | sent | append time i64))
//! offsets    u32 x (group str | last entry u64 | u32 x (key | committed offset))
//! transforms next id u64 | u32 x deployment | u32 x (name str | highest package counter u64)
//! losses     u32 x (key | u32 x (first lost offset i64 | first after i64))
//! doubtful   u32 x (key | producer id i64): what these sent last may be lost
//! transactions    u32 x (id str | producer id i64 | epoch i16 | pair | has next u8 | [next i64]
//!                 | timeout ms i32 | state u8 | u32 x key | u32 x (group str) | start i64 | change i64)
//! pending offsets, see transaction/pending.rs
//! unsettled       u32 x (key | u32 x open | u32 x aborted)
//!   open     producer id i64 | epoch i16 | first offset i64 | newest timestamp i64
//!   aborted  producer id i64 | first offset i64 | offset of its marker i64
//! notes      u32 x (group str | note, see group_note.rs)
//! expiries   u32 x (group str | u32 x (key | milliseconds since 1970 i64)): offsets with their own
//! quotas     u32 x (entity | quota), as in setting.rs
//! settings   configs of all brokers | configs of this one
//! rosters    u32 x (group str | change of nothing, see group/roster/classic.rs)
//!            | u32 x (group str | change of nothing, see group/roster/consumer.rs)
//! cursors    u32 x (key | transform str | next offset i64 | records so far u64)
//! users      u32 x (user str | u32 x (mechanism u8 | credential)), as in user_fact.rs
//! acls       u32 x rule, as in acl/fact.rs
//! rates      u32 x (entity | more), as in setting.rs: of quotas that say more than bytes
//! ```
//! Version 1 ends with the transforms, version 2 with the doubtful producers, version 3 with what is
//! unsettled, version 4 with the expiries, version 5 with the settings, version 6 with the rosters, and its
//! deployments have no parts and there are no package counters; all are read. Up to version 5
//! there are no append times of producers and no places of pending offsets. `pair` as in transaction/fact.rs.
//! `str`, `key`, `sent` and the rest as in `fact.rs`.

use crate::acl::AclTable;
use crate::broker_config::{BrokerConfigs, TopicDefaults};
use crate::codec::{CodecError, Take, put_count, put_partition, put_string, put_strings};
use crate::derive::CursorTable;
use crate::entry::{CommittedOffset, Sent};
use crate::group::Rosters;
use crate::group_note::GroupNotes;
use crate::offsets::{GroupOffsets, OffsetStore};
use crate::partition::Partition;
use crate::producer::{NO_TIME, ProducerState, ProducerTable, SentBatch};
use crate::quota::QuotaTable;
use crate::retention::DroppedRecords;
use crate::state::State;
use crate::topic::Topic;
use crate::transaction::{AbortedTransaction, OpenTransaction, TransactionTable};
use crate::transform::TransformTable;
use crate::units::{EntrySeq, PartitionKey};
use crate::users::UserTable;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// The version of the snapshot format that is written.
pub const SNAPSHOT_VERSION: u16 = 7;
/// The oldest version that is read.
const FIRST_SNAPSHOT_VERSION: u16 = 1;
/// The first that ends with the settings of the node.
const SETTINGS_VERSION: u16 = 5;
/// The first that knows who is in a group, when batches were appended, and where pending offsets stand.
const ROSTERS_VERSION: u16 = 6;
/// The first whose deployments have parts, and that knows users, rules of access and where derived
/// transforms stand.
const PARTS_VERSION: u16 = 7;

/// Why a snapshot cannot be taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a version of Millpond that knows more.
    #[error("the checkpoint has format {0}, written by a newer version of millpond; start that")]
    Newer(u16),
    /// Damaged.
    #[error("the checkpoint is damaged: {0}")]
    Codec(#[from] CodecError),
}

/// The state of one moment, taken quickly: what is large is shared with the engine and copied only
/// where it changes. [`FrozenState::encode`] takes its time, on any thread.
#[derive(Debug)]
pub struct FrozenState {
    /// Encoded already: all before the producers, and all after the offsets.
    before: BytesMut,
    after: BytesMut,
    producers: ProducerTable,
    offsets: OffsetStore,
    rosters: Rosters,
    cursors: CursorTable,
    users: UserTable,
    acls: AclTable,
    /// Encoded already: at the end.
    rates: BytesMut,
}

impl FrozenState {
    pub(crate) fn of(state: &State) -> FrozenState {
        let mut before = BytesMut::new();
        before.put_u16_le(SNAPSHOT_VERSION);
        before.put_u64_le(state.last_seq.0);
        before.put_i64_le(state.producer_ids_upto);
        put_count(&mut before, state.catalog.len());
        for topic in state.catalog.iter() {
            put_topic(&mut before, topic);
        }
        let mut after = BytesMut::new();
        state.transforms.put(&mut after);
        put_losses(&mut after, state);
        state.transactions.put(&mut after);
        put_unsettled(&mut after, state);
        state.notes.put(&mut after);
        state.offsets.put_expiries(&mut after);
        state.quotas.put(&mut after);
        state.broker_configs.put(&mut after);
        let (producers, offsets) = (state.producers.clone(), state.offsets.clone());
        let rosters = state.rosters.clone();
        let (cursors, users) = (state.cursors.clone(), state.users.clone());
        let acls = state.acls.clone();
        let mut rates = BytesMut::new();
        state.quotas.put_more(&mut rates);
        FrozenState { before, after, producers, offsets, rosters, cursors, users, acls, rates }
    }

    /// The bytes of the snapshot.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut out = self.before;
        put_count(&mut out, self.producers.len());
        for (key, producer_id, producer) in self.producers.iter() {
            put_producer(&mut out, key, producer_id, producer);
        }
        put_count(&mut out, self.offsets.iter().count());
        for (id, group) in self.offsets.iter() {
            put_string(&mut out, id);
            out.put_u64_le(group.last_entry.0);
            put_count(&mut out, group.offsets.len());
            for (key, offset) in &group.offsets {
                put_partition(&mut out, key);
                offset.put(&mut out);
            }
        }
        out.extend_from_slice(&self.after);
        self.rosters.put(&mut out);
        self.cursors.put(&mut out);
        self.users.put(&mut out);
        self.acls.put(&mut out);
        // The last table of version 7.
        out.extend_from_slice(&self.rates);
        out.freeze()
    }
}

pub(crate) fn decode(bytes: Bytes) -> Result<State, SnapshotError> {
    let mut take = Take::new(bytes);
    let version = take.u16("snapshot version")?;
    if !(FIRST_SNAPSHOT_VERSION..=SNAPSHOT_VERSION).contains(&version) {
        return Err(SnapshotError::Newer(version));
    }
    let mut state = State {
        last_seq: EntrySeq(take.u64("last entry")?),
        producer_ids_upto: take.i64("producer ids")?,
        ..State::default()
    };
    for _ in 0..take.count("topics", 16)? {
        state.catalog.insert(take_topic(&mut take)?);
    }
    for _ in 0..take.count("producers", 20)? {
        let (key, producer_id, producer) = take_producer(&mut take, version)?;
        state.producers.restore(key, producer_id, producer);
    }
    for _ in 0..take.count("groups", 16)? {
        let id = take.string("group")?;
        let mut group = GroupOffsets {
            last_entry: EntrySeq(take.u64("last entry of a group")?),
            ..GroupOffsets::default()
        };
        for _ in 0..take.count("committed offsets", 20)? {
            group.offsets.insert(take.partition()?, CommittedOffset::take(&mut take)?);
        }
        state.offsets.restore(id, group);
    }
    state.transforms = TransformTable::take(&mut take, version >= PARTS_VERSION)?;
    if version > FIRST_SNAPSHOT_VERSION {
        take_losses(&mut take, &mut state)?;
    }
    if version >= TRANSACTIONS_VERSION {
        state.transactions = TransactionTable::take(&mut take, version >= ROSTERS_VERSION)?;
        take_unsettled(&mut take, &mut state)?;
    }
    if version >= NOTES_VERSION {
        state.notes = GroupNotes::take(&mut take)?;
        state.offsets.take_expiries(&mut take)?;
    }
    if version >= SETTINGS_VERSION {
        state.quotas = QuotaTable::take(&mut take)?;
        state.broker_configs = BrokerConfigs::take(&mut take)?;
        state.spread_defaults();
    }
    if version >= ROSTERS_VERSION {
        state.rosters = Rosters::take(&mut take)?;
    }
    if version >= PARTS_VERSION {
        state.cursors = CursorTable::take(&mut take)?;
        state.users = UserTable::take(&mut take)?;
        state.acls = AclTable::take(&mut take)?;
        state.quotas.take_more(&mut take)?;
    }
    take.end("snapshot")?;
    state.rebuild_chains();
    Ok(state)
}

fn put_losses(out: &mut BytesMut, state: &State) {
    let logs = || state.catalog.iter().flat_map(|topic| topic.keys().zip(&topic.partitions));
    let damaged = || {
        let logs = logs().map(|(key, log)| (key, log.holes.above(log.log_start)));
        logs.filter(|(_, lost)| !lost.is_empty())
    };
    put_count(out, damaged().count());
    for (key, lost) in damaged() {
        put_partition(out, &key);
        put_count(out, lost.len());
        for (from, upto) in lost {
            out.put_i64_le(*from);
            out.put_i64_le(*upto);
        }
    }
    let doubtful = || state.producers.iter().filter(|(_, _, producer)| producer.is_doubtful);
    put_count(out, doubtful().count());
    for (key, producer_id, _) in doubtful() {
        put_partition(out, key);
        out.put_i64_le(producer_id);
    }
}

fn take_losses(take: &mut Take, state: &mut State) -> Result<(), CodecError> {
    for _ in 0..take.count("damaged partitions", 24)? {
        let key = take.partition()?;
        let log = state.catalog.partition_mut(key);
        let log = log.ok_or(CodecError::Impossible {
            what: "lost offsets of partition",
            value: key.partition.into(),
        })?;
        let mut last = -1;
        for _ in 0..take.count("lost ranges", 16)? {
            let (from, upto) = (take.i64("lost from")?, take.i64("lost upto")?);
            if from <= last || upto <= from || upto > log.log_end {
                return Err(CodecError::Impossible { what: "lost offsets", value: from });
            }
            last = upto;
            log.holes.push(from, upto);
        }
    }
    for _ in 0..take.count("doubtful producers", 28)? {
        let key = take.partition()?;
        state.producers.doubt_producer(key, take.i64("producer id")?);
    }
    Ok(())
}

fn put_unsettled(out: &mut BytesMut, state: &State) {
    let logs = || state.catalog.iter().flat_map(|topic| topic.keys().zip(&topic.partitions));
    let unsettled = || logs().filter(|(_, log)| log.stability.len() > 0);
    put_count(out, unsettled().count());
    for (key, log) in unsettled() {
        put_partition(out, &key);
        put_count(out, log.stability.open().count());
        for (producer_id, open) in log.stability.open() {
            out.put_i64_le(producer_id);
            out.put_i16_le(open.epoch);
            out.put_i64_le(open.first_offset);
            out.put_i64_le(open.last_timestamp_ms);
        }
        put_count(out, log.stability.aborted().len());
        for aborted in log.stability.aborted() {
            out.put_i64_le(aborted.producer_id);
            out.put_i64_le(aborted.first_offset);
            out.put_i64_le(aborted.last_offset);
        }
    }
}

fn take_unsettled(take: &mut Take, state: &mut State) -> Result<(), CodecError> {
    for _ in 0..take.count("partitions with transactions", 28)? {
        let key = take.partition()?;
        let impossible = |what, value| CodecError::Impossible { what, value };
        let log = state.catalog.partition_mut(key);
        let unknown = impossible("transactions of partition", key.partition.into());
        let stability = &mut log.ok_or(unknown)?.stability;
        for _ in 0..take.count("open transactions", 26)? {
            let producer_id = take.i64("producer id")?;
            let open = OpenTransaction {
                epoch: take.i16("producer epoch")?,
                first_offset: take.i64("first offset of a transaction")?,
                last_timestamp_ms: take.i64("newest timestamp of a transaction")?,
            };
            stability.restore_open(producer_id, open);
        }
        for _ in 0..take.count("aborted transactions", 24)? {
            let aborted = AbortedTransaction {
                producer_id: take.i64("producer id")?,
                first_offset: take.i64("first offset of a transaction")?,
                last_offset: take.i64("marker of a transaction")?,
            };
            if !stability.restore_aborted(aborted) {
                return Err(impossible("marker of a transaction", aborted.last_offset));
            }
        }
        state.unsettled_len += stability.len();
    }
    Ok(())
}

fn put_topic(out: &mut BytesMut, topic: &Topic) {
    out.put_slice(&topic.id.0);
    put_string(out, &topic.name);
    put_strings(out, &topic.configs);
    put_count(out, topic.partitions.len());
    for partition in &topic.partitions {
        out.put_i64_le(partition.log_start);
        out.put_i64_le(partition.log_end);
        out.put_i32_le(partition.leader_epoch);
        out.put_i64_le(partition.newest.0);
        out.put_i64_le(partition.newest.1);
        out.put_u64_le(partition.inputs_committed);
    }
}

fn take_topic(take: &mut Take) -> Result<Topic, CodecError> {
    let id = take.uuid("topic id")?;
    let name = take.string("topic name")?;
    let configs = take.strings("topic configs")?;
    let count = take.count("partitions", PARTITION_BYTES)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let log_start = take.i64("log start")?;
        let log_end = take.i64("log end")?;
        let leader_epoch = take.i32("leader epoch")?;
        let newest = (take.i64("newest timestamp")?, take.i64("newest batch")?);
        let inputs = take.u64("inputs")?;
        if log_start > log_end {
            return Err(CodecError::Impossible { what: "log start", value: log_start });
        }
        partitions.push(Partition::restored(log_start, log_end, leader_epoch, newest, inputs));
    }
    let dropped = DroppedRecords::default();
    let defaults = TopicDefaults::default();
    Ok(Topic { id, name, configs, partitions, chain: Vec::new(), dropped, defaults })
}

fn put_producer(out: &mut BytesMut, key: &PartitionKey, producer_id: i64, state: &ProducerState) {
    put_partition(out, key);
    out.put_i64_le(producer_id);
    out.put_i16_le(state.epoch);
    out.put_u64_le(state.touched.0);
    put_count(out, state.batches.len());
    for batch in &state.batches {
        out.put_u64_le(batch.seq.0);
        let sent = Sent {
            producer_id,
            producer_epoch: state.epoch,
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence,
            answer: batch.answer,
        };
        sent.put(out);
        out.put_i64_le(batch.append_time_ms);
    }
}

fn take_producer(
    take: &mut Take,
    version: u16,
) -> Result<(PartitionKey, i64, ProducerState), CodecError> {
    let key = take.partition()?;
    let producer_id = take.i64("producer id")?;
    let epoch = take.i16("producer epoch")?;
    let touched = EntrySeq(take.u64("last entry of a producer")?);
    let count = take.count("batches of a producer", 8)?;
    let mut batches = VecDeque::with_capacity(count);
    for _ in 0..count {
        let seq = EntrySeq(take.u64("entry of a batch")?);
        let sent = Sent::take(take)?;
        batches.push_back(SentBatch {
            base_sequence: sent.base_sequence,
            last_sequence: sent.last_sequence,
            answer: sent.answer,
            seq,
            append_time_ms: match version {
                ROSTERS_VERSION.. => take.i64("append time")?,
                _ => NO_TIME,
            },
        });
    }
    Ok((key, producer_id, ProducerState { epoch, touched, batches, is_doubtful: false }))
}

/// The first version that knows of transactions.
const TRANSACTIONS_VERSION: u16 = 3;
/// The first version that keeps notes of groups.
const NOTES_VERSION: u16 = 4;
const PARTITION_BYTES: usize = 8 + 8 + 4 + 8 + 8 + 8;
