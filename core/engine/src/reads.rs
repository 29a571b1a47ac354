//! Answers that need segments: the request waits here while the shell reads. What comes back is
//! taken as given: the shell has verified every checksum.

use crate::changelog::PartialPage;
use crate::derive::LaneId;
use crate::effect::{Effect, HistoryRead, HistorySlice, ReadJob};
use crate::engine::Engine;
use crate::event::ReadFault;
use crate::fetch::PartialFetch;
use crate::units::{PartitionKey, ReadId, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::{ListOffsetsResponse, Records, Response};
use millpond_wire::record::{
    FoundTimestamp, LogBatch, first_at_or_after, last_offset_of, max_timestamp,
};

/// A request that waits for a read.
#[derive(Debug)]
pub(crate) enum PendingRead {
    Fetch(PartialFetch),
    ListOffsets(PartialList),
    State(PartialPage),
    Derive(LaneId),
}

/// An answer to ListOffsets that lacks what is in segments.
#[derive(Debug)]
pub(crate) struct PartialList {
    pub(crate) id: RequestId,
    pub(crate) response: ListOffsetsResponse,
    pub(crate) searches: Vec<Search>,
}

/// One search that goes into segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// Topic and partition of the response.
    pub(crate) place: (usize, usize),
    pub(crate) key: PartitionKey,
    pub(crate) wanted: Wanted,
    /// What stands from here on is not to be found.
    pub(crate) bound: i64,
}

type ReadResult = Result<HistorySlice, ReadFault>;

/// Which record is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The first with this timestamp or a later one.
    At(i64),
    /// The one with the largest timestamp.
    Newest,
}

impl Engine {
    pub(crate) fn read_for_fetch(&mut self, reads: Vec<HistoryRead>, partial: PartialFetch) {
        self.start_read(reads, PendingRead::Fetch(partial));
    }

    pub(crate) fn read_for_list(&mut self, reads: Vec<HistoryRead>, partial: PartialList) {
        self.start_read(reads, PendingRead::ListOffsets(partial));
    }

    pub(crate) fn start_read(&mut self, reads: Vec<HistoryRead>, pending: PendingRead) -> ReadId {
        let id = ReadId(self.fresh_id());
        self.counters.history_reads += reads.len() as u64;
        self.reads.insert(id, pending);
        self.push_effect(Effect::ReadHistory(ReadJob { id, reads }));
        id
    }

    /// A read without a result counts as failed.
    pub(crate) fn on_history_read(&mut self, id: ReadId, result: Vec<ReadResult>) {
        let mut slices = result.into_iter().map(Result::ok);
        match self.reads.remove(&id) {
            Some(PendingRead::Fetch(partial)) => self.complete_fetch(partial, slices),
            Some(PendingRead::ListOffsets(partial)) => self.complete_list(partial, slices),
            Some(PendingRead::State(partial)) => {
                self.complete_page(partial, slices.next().flatten());
            }
            Some(PendingRead::Derive(lane)) => {
                self.on_derive_read(&lane, id, slices.next().flatten());
            }
            None => {}
        }
    }

    fn complete_fetch(
        &mut self,
        mut partial: PartialFetch,
        mut slices: impl Iterator<Item = Option<HistorySlice>>,
    ) {
        for (t, p) in partial.places {
            let slice = slices.next().flatten();
            let topic = partial.response.responses.get_mut(t);
            let Some(part) = topic.and_then(|topic| topic.partitions.get_mut(p)) else { continue };
            match slice {
                Some(slice) => {
                    let last = slice.records.last().and_then(|bytes| last_offset_of(bytes));
                    if let Some((last, aborted)) = last.zip(part.aborted_transactions.as_mut()) {
                        aborted.retain(|one| one.first_offset <= last);
                    }
                    part.records = Some(slice.records.into_iter().collect::<Records>());
                }
                None => part.error_code = ErrorCode::KafkaStorageError.code(),
            }
        }
        self.finish_fetch(partial.id, partial.used, partial.response);
    }

    fn complete_list(
        &mut self,
        mut partial: PartialList,
        mut slices: impl Iterator<Item = Option<HistorySlice>>,
    ) {
        for search in partial.searches {
            let found = match slices.next().flatten() {
                Some(slice) => self.search_slice(search, &slice),
                None => Err(ErrorCode::KafkaStorageError),
            };
            let log = self.state.catalog.partition(search.key);
            let (epoch, log_start) = log.map_or((-1, 0), |log| (log.leader_epoch, log.log_start));
            let (t, p) = search.place;
            let topic = partial.response.topics.get_mut(t);
            let Some(part) = topic.and_then(|topic| topic.partitions.get_mut(p)) else { continue };
            match found.map(|found| found.filter(|found| found.offset < search.bound)) {
                Ok(Some(found)) => {
                    // A log may begin in the middle of a batch.
                    part.offset = found.offset.max(log_start);
                    part.timestamp = found.timestamp;
                    part.leader_epoch = epoch;
                }
                Ok(None) => {}
                Err(code) => part.error_code = code.code(),
            }
        }
        self.reply(partial.id, Response::ListOffsets(partial.response));
    }

    /// Looks into the batch that was read, and if segments have none into memory.
    pub(crate) fn search_slice(
        &self,
        search: Search,
        slice: &HistorySlice,
    ) -> Result<Option<FoundTimestamp>, ErrorCode> {
        for bytes in &slice.records {
            let batches = LogBatch::split(bytes.clone(), limits::BATCHES_PER_SPLIT_MAX)
                .map_err(|_| ErrorCode::KafkaStorageError)?;
            for batch in &batches {
                if let Some(mut found) = search_batch(batch, search.wanted)? {
                    // The log may begin within a batch.
                    let log = self.state.catalog.partition(search.key);
                    found.offset = found.offset.max(log.map_or(0, |log| log.log_start));
                    return Ok(Some(found));
                }
            }
        }
        self.search_tail(search.key, search.wanted)
    }

    /// Looks into the batches in memory.
    pub(crate) fn search_tail(
        &self,
        key: PartitionKey,
        wanted: Wanted,
    ) -> Result<Option<FoundTimestamp>, ErrorCode> {
        let Some(log) = self.state.catalog.partition(key) else { return Ok(None) };
        let from = match wanted {
            Wanted::At(_) => log.tail_start(),
            Wanted::Newest => log.newest().1.max(log.tail_start()),
        };
        for batch in log.readable_from(from) {
            if let Some(found) = search_batch(batch, wanted)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn search_batch(batch: &LogBatch, wanted: Wanted) -> Result<Option<FoundTimestamp>, ErrorCode> {
    // Most batches are passed over without being opened.
    if let Wanted::At(timestamp) = wanted
        && batch.max_timestamp() < timestamp
    {
        return Ok(None);
    }
    let base_offset = batch.base_offset();
    let cap = limits::DECOMPRESSED_BYTES_MAX;
    let batch = batch.to_batch().map_err(|_| ErrorCode::CorruptMessage)?;
    let found = match wanted {
        Wanted::At(timestamp) => first_at_or_after(&batch, base_offset, timestamp, cap),
        Wanted::Newest => max_timestamp(&batch, base_offset, cap),
    };
    found.map_err(|_| ErrorCode::CorruptMessage)
}
