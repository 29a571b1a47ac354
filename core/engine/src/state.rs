//! The durable part of the engine and the one function that changes it: `apply`. The live engine
//! and recovery both go through it, so that a journal replays to what was. Never makes effects.

use crate::acl::AclTable;
use crate::broker_config::BrokerConfigs;
use crate::derive::CursorTable;
use crate::entry::{CommittedOffset, EntryError, Fact};
use crate::group::Rosters;
use crate::group_fact::GroupFact;
use crate::group_note::GroupNotes;
use crate::offsets::OffsetStore;
use crate::partition::Partition;
use crate::producer::{NO_TIME, ProducerTable};
use crate::quota::QuotaTable;
use crate::retention::DroppedRecords;
use crate::sent::Sent;
use crate::setting::SettingFact;
use crate::topic::{Catalog, Topic};
use crate::transaction::TransactionTable;
use crate::transform::TransformTable;
use crate::units::{EntrySeq, PartitionKey};
use crate::users::UserTable;
use millpond_wire::record::{LogBatch, TimestampType};
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

/// Everything that the journal can bring back.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) catalog: Catalog,
    pub(crate) producers: ProducerTable,
    pub(crate) offsets: OffsetStore,
    pub(crate) notes: GroupNotes,
    pub(crate) rosters: Rosters,
    pub(crate) transforms: TransformTable,
    /// Where derived transforms stand.
    pub(crate) cursors: CursorTable,
    pub(crate) quotas: QuotaTable,
    pub(crate) users: UserTable,
    pub(crate) acls: AclTable,
    pub(crate) broker_configs: BrokerConfigs,
    pub(crate) transactions: TransactionTable,
    /// Transactions that partitions remember as open or aborted, all together.
    pub(crate) unsettled_len: usize,
    /// Producer ids below this may have been given out.
    pub(crate) producer_ids_upto: i64,
    /// The last entry that was applied.
    pub(crate) last_seq: EntrySeq,
    /// Bytes of batches in memory, all partitions together.
    pub(crate) tail_bytes: usize,
}

/// Why an entry cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// An entry is missing.
    #[error("the journal goes from entry {last} to entry {found}: entries are missing between")]
    Missing {
        /// Applied last.
        last: EntrySeq,
        /// Came next.
        found: EntrySeq,
    },
    /// A fact about something that does not exist.
    #[error("entry {seq} speaks of {what}, which does not exist at that point")]
    Unknown {
        /// The entry.
        seq: EntrySeq,
        /// Topic or partition.
        what: String,
    },
    /// A batch that does not continue its log.
    #[error("entry {seq} appends to {partition} at offset {found}, but the log ends at {log_end}")]
    Gap {
        /// The entry.
        seq: EntrySeq,
        /// Whose log.
        partition: PartitionKey,
        /// Where the log ends.
        log_end: i64,
        /// Where the batch would stand.
        found: i64,
    },
    /// The bytes of the entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl State {
    /// Makes one fact true.
    pub(crate) fn apply(&mut self, seq: EntrySeq, fact: &Fact) -> Result<(), ReplayError> {
        match fact {
            Fact::TopicCreated { id, name, partitions, configs } => {
                self.create_topic(*id, name, *partitions, configs);
            }
            Fact::TopicDeleted { id } => self.delete_topic(seq, *id)?,
            Fact::PartitionsAdded { id, total } => {
                if !self.catalog.add_partitions(*id, *total as usize) {
                    return Err(unknown(seq, id));
                }
            }
            Fact::Appended { partition, batch, sent } => {
                self.append(seq, *partition, batch, sent.as_ref())?;
            }
            Fact::Sent { partition, sent } => {
                self.partition(seq, *partition)?;
                self.producers.record(*partition, seq, sent, NO_TIME);
            }
            Fact::ProducerIdsReserved { upto } => {
                self.producer_ids_upto = self.producer_ids_upto.max(*upto);
            }
            Fact::OffsetsCommitted { group, offsets } => self.commit_offsets(seq, group, offsets),
            Fact::OffsetsDeleted { group, partitions } => {
                self.offsets.delete(group, partitions.as_deref());
                self.transactions.pending_mut().delete(group, partitions.as_deref());
            }
            Fact::Group(fact) => self.apply_to_group(fact),
            Fact::TransformDeployed(_)
            | Fact::TransformDeleted { .. }
            | Fact::TransformPaused { .. }
            | Fact::InputsCounted { .. }
            | Fact::CursorMoved { .. } => self.apply_to_transforms(seq, fact)?,
            Fact::TopicConfigured { id, configs } => {
                let topic = self.catalog.topic_mut(*id).ok_or_else(|| unknown(seq, id))?;
                topic.configs = configs.clone();
            }
            Fact::LogStart { partition, offset } => {
                self.start_log_at(seq, *partition, *offset)?;
            }
            Fact::Lost { partition, upto } => {
                let log = self.partition(seq, *partition)?;
                log.holes.take_pending();
                log.lose_upto(*upto);
                self.producers.doubt(*partition);
            }
            Fact::LeaderEpoch { partition, epoch } => {
                self.partition(seq, *partition)?.leader_epoch = *epoch;
            }
            Fact::Setting(fact) => self.set(fact),
            Fact::User(fact) => self.users.apply(fact),
            Fact::Acl(fact) => self.acls.apply(fact),
            Fact::Transaction(fact) => {
                let known = self.transactions.apply(seq, fact, &mut self.offsets);
                known.ok_or_else(|| unknown(seq, &"a transactional id"))?;
            }
        }
        Ok(())
    }

    fn apply_to_transforms(&mut self, seq: EntrySeq, fact: &Fact) -> Result<(), ReplayError> {
        match fact {
            Fact::TransformDeployed(deployment) => {
                self.transforms.deploy(deployment.clone());
                self.rebuild_chains();
            }
            Fact::TransformDeleted { name } => {
                self.transforms.remove(name);
                self.cursors.remove_transform(name);
                self.rebuild_chains();
            }
            Fact::TransformPaused { name, paused } => {
                self.transforms.pause(name, *paused);
                self.rebuild_chains();
            }
            Fact::InputsCounted { partition, records } => {
                let log = self.partition(seq, *partition)?;
                log.inputs_committed = *records;
                log.inputs_admitted = log.inputs_admitted.max(*records);
            }
            Fact::CursorMoved { partition, transform, cursor } => {
                self.partition(seq, *partition)?;
                self.cursors.set(*partition, transform, *cursor);
            }
            _ => {}
        }
        Ok(())
    }

    /// Also what open transactions were told before does not count any more.
    fn commit_offsets(
        &mut self,
        seq: EntrySeq,
        group: &str,
        offsets: &[(PartitionKey, CommittedOffset)],
    ) {
        self.offsets.commit(seq, group, offsets);
        for (key, _) in offsets {
            self.transactions.pending_mut().overtake(group, *key, seq);
        }
    }

    fn apply_to_group(&mut self, fact: &GroupFact) {
        match fact {
            GroupFact::Noted { group, note } => {
                self.notes.set(group, note.as_ref());
                if note.is_none() {
                    self.rosters.clear(group);
                }
            }
            GroupFact::Classic { group, change } => self.rosters.change_classic(group, change),
            GroupFact::Consumers { group, change } => self.rosters.change_consumers(group, change),
            GroupFact::Emptied { group } => self.rosters.clear(group),
            GroupFact::OffsetsExpire { group, at_ms, partitions } => {
                self.offsets.expire_at(group, *at_ms, partitions);
            }
        }
    }

    fn set(&mut self, fact: &SettingFact) {
        match fact {
            SettingFact::QuotaSet { entity, quota } => self.quotas.set(entity, *quota),
            SettingFact::BrokerConfigured { scope, configs } => {
                self.broker_configs.replace(*scope, configs.clone());
                self.spread_defaults();
            }
        }
    }

    /// After a change of the broker's settings or a restore.
    pub(crate) fn spread_defaults(&mut self) {
        for topic in self.catalog.iter_mut() {
            topic.defaults = self.broker_configs.topic_defaults();
        }
    }

    /// After a change of the transforms or a restore.
    pub(crate) fn rebuild_chains(&mut self) {
        for topic in self.catalog.iter_mut() {
            topic.chain = self.transforms.chain(&topic.name);
        }
    }

    fn create_topic(
        &mut self,
        id: Uuid,
        name: &str,
        partitions: u32,
        configs: &BTreeMap<String, String>,
    ) {
        self.catalog.insert(Topic {
            id,
            name: name.to_owned(),
            configs: configs.clone(),
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            chain: self.transforms.chain(name),
            dropped: DroppedRecords::default(),
            defaults: self.broker_configs.topic_defaults(),
        });
    }

    fn append(
        &mut self,
        seq: EntrySeq,
        key: PartitionKey,
        batch: &LogBatch,
        sent: Option<&Sent>,
    ) -> Result<(), ReplayError> {
        let log = self.partition(seq, key)?;
        if !log.skip_lost_upto(batch.base_offset()) {
            let (log_end, found) = (log.log_end, batch.base_offset());
            return Err(ReplayError::Gap { seq, partition: key, log_end, found });
        }
        let before = log.stability.len();
        log.append(seq, batch.clone());
        let after = log.stability.len();
        self.unsettled_len = self.unsettled_len + after - before;
        self.tail_bytes += batch.size_bytes();
        if batch.attributes().is_control() {
            self.transactions.mark_partition(batch.header().producer_id, key);
        }
        if let Some(sent) = sent {
            let is_stamped = batch.attributes().timestamp_type() == TimestampType::LogAppendTime;
            let time_ms = if is_stamped { batch.header().max_timestamp } else { NO_TIME };
            self.producers.record(key, seq, sent, time_ms);
        }
        Ok(())
    }

    fn start_log_at(
        &mut self,
        seq: EntrySeq,
        key: PartitionKey,
        offset: i64,
    ) -> Result<(), ReplayError> {
        let log = self.partition(seq, key)?;
        log.log_start = log.log_start.max(offset.min(log.log_end));
        let before = log.stability.len();
        log.stability.trim(log.log_start);
        let after = log.stability.len();
        self.unsettled_len = self.unsettled_len + after - before;
        Ok(())
    }

    fn delete_topic(&mut self, seq: EntrySeq, id: Uuid) -> Result<(), ReplayError> {
        let topic = self.catalog.remove(id).ok_or_else(|| unknown(seq, &id))?;
        for (key, partition) in topic.keys().zip(&topic.partitions) {
            self.tail_bytes -= partition.tail_bytes();
            self.unsettled_len -= partition.stability.len();
            self.producers.remove_partition(key);
        }
        self.offsets.delete_topic(id);
        self.transactions.delete_topic(id);
        self.cursors.remove_topic(id);
        Ok(())
    }

    pub(crate) fn partition(
        &mut self,
        seq: EntrySeq,
        key: PartitionKey,
    ) -> Result<&mut Partition, ReplayError> {
        self.catalog.partition_mut(key).ok_or_else(|| unknown(seq, &key))
    }
}

fn unknown(seq: EntrySeq, what: &dyn std::fmt::Display) -> ReplayError {
    ReplayError::Unknown { seq, what: what.to_string() }
}
