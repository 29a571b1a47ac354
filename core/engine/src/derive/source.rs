//! One of the partitions that a lane reads: a lane of a transform whose topics share its state has
//! several. Never says which of them is next: `schedule` does.

use super::{Busy, Derives, Lane, LaneId};
use crate::units::PartitionKey;
use millpond_wire::record::LogBatch;
use std::collections::{BTreeMap, VecDeque};

/// What is known of a lane's source in this run of the process.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) partition: PartitionKey,
    /// Everything between the cursor and here needs no job.
    pub(super) at: i64,
    /// Read from segments, from `at` on.
    pub(super) buffer: VecDeque<LogBatch>,
    /// When records of it were given to a worker last, or the lane was made; monotonic.
    pub(super) input_ms: u64,
}

impl Source {
    pub(super) fn new(partition: PartitionKey, now_ms: u64) -> Source {
        Source { partition, at: 0, buffer: VecDeque::new(), input_ms: now_ms }
    }

    /// Gives the bytes that it held.
    fn drop_buffer(&mut self) -> usize {
        self.buffer.drain(..).map(|batch| batch.size_bytes()).sum()
    }
}

impl Lane {
    /// A lane that begins now.
    pub(super) fn new(sources: &[PartitionKey], now_ms: u64) -> Lane {
        let sources = sources.iter().map(|partition| Source::new(*partition, now_ms)).collect();
        let mut lane = Lane { sources, ..Lane::default() };
        lane.desk.input_ms = now_ms;
        lane
    }

    pub(super) fn source(&self, partition: PartitionKey) -> Option<&Source> {
        self.sources.iter().find(|source| source.partition == partition)
    }

    pub(super) fn source_mut(&mut self, partition: PartitionKey) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.partition == partition)
    }
}

impl Derives {
    /// All lanes that read a partition.
    pub(super) fn lanes_of(&self, key: PartitionKey) -> Vec<LaneId> {
        let from = LaneId { partition: key, transform: "".into() };
        let own = self.lanes.range(from..).take_while(|(id, _)| id.partition == key);
        let shared = self.shared.get(&key).into_iter().flatten();
        own.map(|(id, _)| id).chain(shared).cloned().collect()
    }

    /// The lane wants a turn.
    pub(super) fn queue(&mut self, id: &LaneId) {
        if let Some(lane) = self.lanes.get_mut(id)
            && !lane.is_ready
            && matches!(lane.busy, Busy::Free)
        {
            lane.is_ready = true;
            self.ready.push_back(id.clone());
        }
    }

    /// Everything before `at` needs no job any more.
    pub(super) fn advance(&mut self, id: &LaneId, partition: PartitionKey, at: i64) {
        let lane = self.lanes.get_mut(id);
        let Some(source) = lane.and_then(|lane| lane.source_mut(partition)) else { return };
        source.at = source.at.max(at);
        while source.buffer.front().is_some_and(|batch| batch.next_offset() <= source.at)
            && let Some(batch) = source.buffer.pop_front()
        {
            self.buffered_bytes -= batch.size_bytes();
        }
    }

    /// Keeps what was read for the next jobs, in place of what was there.
    pub(super) fn fill(&mut self, id: &LaneId, partition: PartitionKey, batches: Vec<LogBatch>) {
        let lane = self.lanes.get_mut(id);
        let Some(source) = lane.and_then(|lane| lane.source_mut(partition)) else { return };
        self.buffered_bytes -= source.drop_buffer();
        self.buffered_bytes += batches.iter().map(LogBatch::size_bytes).sum::<usize>();
        source.buffer.extend(batches);
    }

    pub(super) fn drop_buffers(&mut self, id: &LaneId) {
        let lane = self.lanes.get_mut(id);
        let sources = lane.into_iter().flat_map(|lane| &mut lane.sources);
        self.buffered_bytes -= sources.map(Source::drop_buffer).sum::<usize>();
    }

    /// Which lanes there are, and what each reads.
    pub(super) fn index_shared(&mut self, wanted: &BTreeMap<LaneId, Vec<PartitionKey>>) {
        self.shared.clear();
        for (id, sources) in wanted {
            for source in sources.iter().filter(|source| **source != id.partition) {
                self.shared.entry(*source).or_default().push(id.clone());
            }
        }
    }
}
