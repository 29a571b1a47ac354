//! What lanes need of segments: the next batches, and where a start by time lies.

use super::{Busy, Cursor, LaneId};
use crate::effect::{HistoryRead, HistorySlice};
use crate::engine::Engine;
use crate::reads::{PendingRead, Search, Wanted};
use crate::transform::{DeriveStart, Mode};
use crate::units::{PartitionKey, ReadId};
use millpond_wire::limits;
use millpond_wire::record::LogBatch;

impl Engine {
    /// Where a lane begins that has no cursor. Partitions that were there when the transform was
    /// deployed got theirs then, unless segments had to be searched: newer ones are wanted whole.
    pub(super) fn find_start(&mut self, id: &LaneId, source: PartitionKey, mode: Mode) {
        let Some(log) = self.state.catalog.partition(source) else { return };
        let Mode::Derive(DeriveStart::TimestampMs(timestamp_ms)) = mode else {
            let next = log.log_start;
            return self.begin_lane_at(id, source, next);
        };
        let (newest_ms, _) = log.newest();
        if newest_ms < timestamp_ms || log.log_start >= log.tail_start() {
            return self.begin_at_time(id, source, timestamp_ms, None);
        }
        let read = HistoryRead {
            partition: source,
            offset: log.log_start,
            max_bytes: 1,
            upto: log.tail_start(),
            find_timestamp: Some(timestamp_ms),
        };
        self.read_for_lane(id, read, true);
    }

    fn begin_at_time(
        &mut self,
        id: &LaneId,
        source: PartitionKey,
        timestamp_ms: i64,
        slice: Option<&HistorySlice>,
    ) {
        let wanted = Wanted::At(timestamp_ms);
        let found = match slice {
            None => self.search_tail(source, wanted),
            Some(slice) => {
                let search = Search { place: (0, 0), key: source, wanted, bound: i64::MAX };
                self.search_slice(search, slice)
            }
        };
        let Some(log) = self.state.catalog.partition(source) else { return };
        // Nothing is so new yet: what comes from now on is wanted.
        let (log_start, end) = (log.log_start, log.high_watermark);
        match found {
            Ok(found) => {
                let next = found.map_or(end, |found| found.offset).max(log_start);
                self.begin_lane_at(id, source, next);
            }
            Err(code) => self.pause_lane(id, format!("its start is not found: {}", code.message())),
        }
    }

    fn begin_lane_at(&mut self, id: &LaneId, source: PartitionKey, next: i64) {
        self.move_cursor(source, &id.transform, Cursor { next, inputs: 0 });
        self.derives.queue(id);
    }

    /// Asks for what a lane's source has in segments.
    pub(super) fn read_stored(&mut self, id: &LaneId, source: PartitionKey) {
        let Some(log) = self.state.catalog.partition(source) else { return };
        let cursor = self.state.cursors.get(source, &id.transform).unwrap_or_default();
        let known = self.derives.lanes.get(id).and_then(|lane| lane.source(source));
        let at = known.map_or(0, |known| known.at).max(cursor.next);
        let upto = log.tail_start().min(log.holes.first_from(at)).min(log.last_stable());
        let read = HistoryRead {
            partition: source,
            offset: at,
            max_bytes: limits::DERIVE_READ_BYTES,
            upto,
            find_timestamp: None,
        };
        self.read_for_lane(id, read, false);
    }

    fn read_for_lane(&mut self, id: &LaneId, read: HistoryRead, finds_start: bool) {
        if self.reads.len() >= limits::HISTORY_READS_MAX {
            return self.pause_lane(id, "too many reads are under way".to_owned());
        }
        let (source, upto) = (read.partition, read.upto);
        let read = self.start_read(vec![read], PendingRead::Derive(id.clone()));
        if let Some(lane) = self.derives.lanes.get_mut(id) {
            lane.busy = Busy::Reading { id: read, source, upto, finds_start };
        }
    }

    /// Segments gave what a lane had asked for.
    pub(crate) fn on_derive_read(
        &mut self,
        id: &LaneId,
        read: ReadId,
        slice: Option<HistorySlice>,
    ) {
        let Some(lane) = self.derives.lanes.get_mut(id) else { return };
        let (source, upto, finds_start) = match lane.busy {
            Busy::Reading { id, source, upto, finds_start } if id == read => {
                (source, upto, finds_start)
            }
            _ => return,
        };
        lane.busy = Busy::Free;
        let Some(slice) = slice else {
            return self.pause_lane(id, "its source cannot be read; see the log".to_owned());
        };
        if finds_start {
            let mode = self.state.transforms.find(&id.transform).map(|one| one.spec.mode);
            if let Some(Mode::Derive(DeriveStart::TimestampMs(timestamp_ms))) = mode {
                self.begin_at_time(id, source, timestamp_ms, Some(&slice));
            }
            return self.derives.queue(id);
        }
        match self.take_slice(id, source, &slice) {
            // Compaction may have left nothing there.
            Ok(0) => self.derives.advance(id, source, upto),
            Ok(_) => {}
            Err(fault) => return self.pause_lane(id, fault),
        }
        self.derives.queue(id);
    }

    /// Keeps what was read for the next jobs; gives its count.
    fn take_slice(
        &mut self,
        id: &LaneId,
        source: PartitionKey,
        slice: &HistorySlice,
    ) -> Result<usize, String> {
        let mut batches = Vec::new();
        for bytes in &slice.records {
            let split = LogBatch::split(bytes.clone(), limits::BATCHES_PER_SPLIT_MAX);
            batches.extend(split.map_err(|error| format!("its source is damaged: {error}"))?);
        }
        if self.derives.buffered_bytes >= limits::DERIVE_BUFFER_BYTES {
            batches.truncate(1);
        }
        let count = batches.len();
        self.derives.fill(id, source, batches);
        Ok(count)
    }
}
