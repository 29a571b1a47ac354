//! The state of transforms in the log: an internal compacted topic for each transform and source
//! topic, written in the entry of the output that the change belongs to. Never looks into state, and
//! never lets a client write there.
//!
//! ```text
//! __millpond_state-<transform>-<id of the source topic, 32 hexadecimal digits>
//! __millpond_state-<transform>         where all of its topics share one state
//! record  key: the state's key | value: expires ms i64 (0: never), then the value; none: gone
//! ```

use crate::effect::{Effect, HistoryRead, HistorySlice, StatePage};
use crate::engine::Engine;
use crate::entry::Fact;
use crate::reads::PendingRead;
use crate::refusal::{Refusal, refuse};
use crate::topic::Topic;
use crate::transform::{Keeper, StateBatch};
use crate::units::{PartitionKey, Ticket, TransformId};
use bytes::Bytes;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::record::{
    BatchBuilder, BatchError, BuildError, Codec, LogBatch, last_offset_of,
};
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What is known of the worker that runs transforms on one line of batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desk {
    /// Rises when a result was not committed.
    pub(crate) epoch: u64,
    /// When records came last, or the node started; monotonic.
    pub(crate) input_ms: u64,
    /// Time passes for it at this moment, when nothing comes; 0: not armed.
    pub(crate) idle_at_ms: u64,
    /// When it last did; 0: never.
    pub(crate) idle_ran_ms: u64,
    /// The last result left timers that are due: a further job follows at once.
    pub(crate) timers_left: bool,
    /// Results in a row that did.
    pub(crate) timers_in_row: usize,
}

/// A page of state that waits for segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartialPage {
    ticket: Ticket,
    transform: TransformId,
    changelog: PartitionKey,
    /// Where memory began when the read was asked for.
    upto: i64,
}

/// Whether a topic is the node's own: clients may read it.
pub(crate) fn is_internal_topic(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The name of the changelog of a transform's state for one source topic.
#[must_use]
pub fn state_topic(transform: &str, source: Uuid) -> String {
    let mut name = format!("{PREFIX}{transform}-");
    for byte in source.0 {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// The name of the changelog of a transform whose topics share its state.
#[must_use]
pub fn shared_state_topic(transform: &str) -> String {
    format!("{PREFIX}{transform}")
}

/// Whether the name of a transform would make its shared changelog that of another one's source.
pub(crate) fn names_a_source(transform: &str) -> bool {
    split_id(transform).is_some_and(|(_, id)| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Keeper {
    /// The name of its changelog for a source.
    fn state_topic(&self, source: Uuid) -> String {
        match self.is_shared {
            true => shared_state_topic(&self.name),
            false => state_topic(&self.name, source),
        }
    }
}

/// Changes of state as batches for its changelog; in the order given, keys not repeated.
///
/// # Errors
/// A key or value that fits no batch.
pub fn state_batches<'a>(
    transform: TransformId,
    changes: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    timestamp_ms: i64,
) -> Result<Vec<StateBatch>, BuildError> {
    let mut builder = BatchBuilder::new(Codec::None, None);
    let mut batches = Vec::new();
    for (key, value) in changes {
        let size = key.len() + value.map_or(0, <[u8]>::len) + RECORD_OVERHEAD_BYTES;
        if !builder.is_empty() && builder.size_bytes() + size > limits::DEFAULT_MAX_MESSAGE_BYTES {
            batches.push(StateBatch { transform, batch: builder.build_batch()? });
            builder.clear();
        }
        builder.push(timestamp_ms, Some(key), value, &[])?;
    }
    if !builder.is_empty() {
        batches.push(StateBatch { transform, batch: builder.build_batch()? });
    }
    Ok(batches)
}

/// Brings state up to date with the records of a page.
///
/// # Errors
/// Bytes that are no batches.
pub fn read_state(records: &[Bytes], state: &mut BTreeMap<Bytes, Bytes>) -> Result<(), BatchError> {
    for bytes in records {
        for log in LogBatch::split(bytes.clone(), limits::BATCHES_PER_SPLIT_MAX)? {
            if log.attributes().is_control() {
                continue;
            }
            let batch = log.unplaced_batch()?;
            let section = batch.decompress(limits::DECOMPRESSED_BYTES_MAX)?;
            for record in batch.records(&section) {
                let record = record?;
                let Some(key) = record.key else { continue };
                match record.value {
                    Some(value) => {
                        let (key, value) = (section.slice_ref(key), section.slice_ref(value));
                        state.insert(key, value);
                    }
                    None => drop(state.remove(key)),
                }
            }
        }
    }
    Ok(())
}

impl Engine {
    /// Everything that could stand in the way of changes of state, before anything is changed.
    /// Gives the changelogs to make, by name.
    pub(crate) fn check_state(
        &self,
        source: PartitionKey,
        keepers: &[Keeper],
        state: &[StateBatch],
    ) -> Result<Vec<String>, Refusal> {
        let mut missing = Vec::new();
        for one in state {
            let Some(keeper) = keepers.iter().find(|keeper| keeper.id == one.transform) else {
                if self.state.transforms.spec(one.transform).is_none() {
                    continue;
                }
                let message = "a transform that was deployed as one without state has changed state: \
                               deploy it again";
                return Err(refuse(ErrorCode::UnknownServerError, message));
            };
            if one.batch.check_produced(limits::BATCH_BYTES_MAX).is_err() {
                return Err(refuse(ErrorCode::UnknownServerError, "a transform gave a bad state"));
            }
            let name = keeper.state_topic(source.topic_id);
            if self.state.catalog.by_name(&name).is_none() && !missing.contains(&name) {
                missing.push(name);
            }
        }
        Ok(missing)
    }

    /// What became of the state, into the current entry. What belongs to a transform that was
    /// deleted meanwhile is gone with it.
    pub(crate) fn append_state(
        &mut self,
        source: PartitionKey,
        keepers: &[Keeper],
        state: Vec<StateBatch>,
    ) {
        for one in state {
            let Some(keeper) = keepers.iter().find(|keeper| keeper.id == one.transform) else {
                continue;
            };
            let changelog = self.changelog_of(source, keeper);
            self.append(changelog, one.batch, None);
        }
    }

    /// The changelog's partition for a source's, made where it is missing.
    fn changelog_of(&mut self, source: PartitionKey, keeper: &Keeper) -> PartitionKey {
        let from = self.state.catalog.by_id(source.topic_id);
        let wanted = from.map_or(1, |from| from.partitions.len());
        let name = keeper.state_topic(source.topic_id);
        let known =
            self.state.catalog.by_name(&name).map(|topic| (topic.id, topic.partitions.len()));
        let topic_id = match known {
            Some((id, count)) => {
                if count < wanted {
                    self.commit(Fact::PartitionsAdded { id, total: wanted as u32 });
                }
                id
            }
            None => {
                let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
                self.create_topic(name, wanted as u32, configs)
            }
        };
        PartitionKey { topic_id, partition: source.partition }
    }

    /// The changelogs of a transform, or of a source topic alone.
    pub(crate) fn changelogs(
        &self,
        transform: Option<&str>,
        source: Option<Uuid>,
    ) -> Vec<(String, Uuid)> {
        let belongs = |name: &str| {
            let rest = name.strip_prefix(PREFIX);
            if let (Some(transform), None) = (transform, source)
                && rest == Some(transform)
            {
                return true;
            }
            let Some((own, id)) = rest.and_then(split_id) else {
                return false;
            };
            transform.is_none_or(|transform| transform == own)
                && source.is_none_or(|source| state_topic(own, source).ends_with(id))
        };
        let all = self.state.catalog.named_from(PREFIX);
        let own = all.take_while(|topic| is_internal_topic(&topic.name));
        own.filter(|topic| belongs(&topic.name)).map(|t| (t.name.clone(), t.id)).collect()
    }

    /// Changelogs that grow with a topic: its own, and those that it shares.
    pub(crate) fn changelogs_grown_by(&self, topic: &Topic) -> usize {
        let deployed = self.state.transforms.iter().map(|one| &one.spec);
        let shared = deployed.filter(|spec| spec.shares_state && spec.topics.contains(&topic.name));
        shared.count() + self.changelogs(None, Some(topic.id)).len()
    }

    /// Whether anything was ever kept for a line: else time need not pass for it.
    pub(crate) fn has_state(&self, source: PartitionKey, keepers: &[Keeper]) -> bool {
        keepers.iter().any(|keeper| {
            let name = keeper.state_topic(source.topic_id);
            let topic = self.state.catalog.by_name(&name);
            let index = usize::try_from(source.partition).unwrap_or(usize::MAX);
            topic.and_then(|topic| topic.partitions.get(index)).is_some_and(|log| log.log_end > 0)
        })
    }

    /// A worker reads the state of a transform for the job that it has: up to the end of the
    /// changelog, which no one else writes meanwhile. What is not durable counts: the job's own
    /// result stands behind it in the journal.
    pub(crate) fn on_read_state(&mut self, ticket: Ticket, transform: TransformId, from: i64) {
        let Some((source, keepers)) = self.job_of(ticket) else {
            return self.give_page(ticket, transform, Err("the job is gone".to_owned()));
        };
        let keeper = keepers.iter().find(|keeper| keeper.id == transform);
        let name = keeper.map(|keeper| keeper.state_topic(source.topic_id));
        let topic = name.and_then(|name| self.state.catalog.by_name(&name));
        let changelog =
            topic.map(|topic| PartitionKey { topic_id: topic.id, partition: source.partition });
        let log = changelog.and_then(|key| Some((key, self.state.catalog.partition(key)?)));
        let Some((changelog, log)) = log else {
            let page = StatePage { records: Vec::new(), next: 0, is_end: true };
            return self.give_page(ticket, transform, Ok(page));
        };
        let from = from.max(log.log_start);
        if log.holes.contains(from) {
            let message = format!("state is lost at offset {from} of its changelog {changelog}");
            return self.give_page(ticket, transform, Err(message));
        }
        if from >= log.tail_start() {
            let page = log.page_from(from, limits::STATE_PAGE_BYTES);
            return self.give_page(ticket, transform, Ok(page));
        }
        if self.reads.len() >= limits::HISTORY_READS_MAX {
            let message = "too many reads are under way".to_owned();
            return self.give_page(ticket, transform, Err(message));
        }
        let upto = log.tail_start().min(log.holes.first_from(from));
        let read = HistoryRead {
            partition: changelog,
            offset: from,
            max_bytes: limits::STATE_PAGE_BYTES,
            upto,
            find_timestamp: None,
        };
        let partial = PartialPage { ticket, transform, changelog, upto };
        self.start_read(vec![read], PendingRead::State(partial));
    }

    /// Segments gave what a page of state needs.
    pub(crate) fn complete_page(&mut self, partial: PartialPage, slice: Option<HistorySlice>) {
        let PartialPage { ticket, transform, changelog, upto } = partial;
        let page = match slice {
            None => Err("the changelog of the state cannot be read; see the log".to_owned()),
            Some(slice) => {
                let last = slice.records.last().and_then(|bytes| last_offset_of(bytes));
                let next = last.map_or(upto, |last| last + 1);
                let log = self.state.catalog.partition(changelog);
                let is_end = log.is_none_or(|log| next >= log.log_end);
                Ok(StatePage { records: slice.records, next, is_end })
            }
        };
        self.give_page(ticket, transform, page);
    }

    fn give_page(
        &mut self,
        ticket: Ticket,
        transform: TransformId,
        page: Result<StatePage, String>,
    ) {
        self.push_effect(Effect::StateRead { ticket, transform, page });
    }
}

impl crate::partition::Partition {
    /// Batches in memory from an offset on, also those that are not durable.
    fn page_from(&self, from: i64, max_bytes: usize) -> StatePage {
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, from);
        for batch in self.tail_from(from) {
            if !records.is_empty() && bytes + batch.size_bytes() > max_bytes {
                return StatePage { records, next, is_end: false };
            }
            let mut copy = Vec::with_capacity(batch.size_bytes());
            batch.write_to(&mut copy);
            bytes += copy.len();
            records.push(copy.into());
            next = batch.next_offset();
        }
        StatePage { records, next, is_end: true }
    }
}

/// The transform's name and the id of a changelog's name without its prefix.
fn split_id(rest: &str) -> Option<(&str, &str)> {
    let at = rest.len().checked_sub(ID_DIGITS)?;
    let (name, id) = (rest.get(..at)?, rest.get(at..)?);
    Some((name.strip_suffix('-')?, id))
}

const PREFIX: &str = "__millpond_state-";
const ID_DIGITS: usize = 32;
/// What a record costs beside key and value, at most.
const RECORD_OVERHEAD_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> &[u8] {
        text.as_bytes()
    }

    #[test]
    fn a_changelog_is_found_again_by_transform_and_by_source() {
        let name = state_topic("mean-1", Uuid([0xab; 16]));
        assert!(is_internal_topic(&name));
        let rest = name.strip_prefix(PREFIX).and_then(split_id);
        assert_eq!(rest, Some(("mean-1", "ab".repeat(16).as_str())));
    }

    #[test]
    fn the_last_change_of_a_key_counts_and_what_is_gone_is_gone() {
        let changes = [("a", Some("1")), ("b", Some("2")), ("a", None), ("c", Some("3"))];
        let changes = changes.iter().map(|(key, value)| (bytes(key), value.map(bytes)));
        let batches = state_batches(TransformId(1), changes, 5).expect("small");
        assert_eq!(batches.len(), 1);
        let pages: Vec<Bytes> = batches.iter().map(|one| one.batch.raw().clone()).collect();
        let mut state = BTreeMap::new();
        read_state(&pages, &mut state).expect("our own batches");
        let keys: Vec<&[u8]> = state.keys().map(|key| &key[..]).collect();
        assert_eq!(keys, [b"b", b"c"]);
    }
}
