//! Produce requests that wait for memory: when the batches that are not yet in segments, or those
//! that transforms work on, fill what they may, requests queue here instead of being refused, in
//! the order in which they came. The queue itself is bounded too.

use crate::engine::Engine;
use crate::units::RequestId;
use millpond_wire::limits;
use millpond_wire::messages::ProduceRequest;
use std::collections::VecDeque;

/// Requests that wait.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    queue: VecDeque<ParkedProduce>,
    bytes: usize,
}

#[derive(Debug)]
struct ParkedProduce {
    id: RequestId,
    request: ProduceRequest,
    version: i16,
    bytes: usize,
}

impl Parked {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl Engine {
    /// Takes a produce request now, later when there is memory, or refuses it when too many wait.
    pub(crate) fn on_produce(&mut self, id: RequestId, request: ProduceRequest, version: i16) {
        // No checkpoint gives memory back while the disk refuses.
        let is_refused = self.space.is_refusing();
        if is_refused || self.parked.queue.is_empty() && self.has_memory() {
            return self.produce(id, request, version, false);
        }
        let bytes = size_bytes(&request);
        let is_full = self.parked.bytes + bytes > limits::IN_FLIGHT_BYTES_MAX
            || self.parked.len() >= limits::PRODUCES_PARKED_MAX;
        if is_full {
            return self.produce(id, request, version, true);
        }
        self.counters.produces_parked += 1;
        self.parked.bytes += bytes;
        self.parked.queue.push_back(ParkedProduce { id, request, version, bytes });
    }

    /// Memory became free: goes on with what waited, in order.
    pub(crate) fn resume_produces(&mut self) {
        while !self.parked.queue.is_empty()
            && self.has_memory()
            && let Some(parked) = self.parked.queue.pop_front()
        {
            self.parked.bytes -= parked.bytes;
            self.produce(parked.id, parked.request, parked.version, false);
            self.seal_if_large();
        }
    }

    /// The disk refuses: what waits for a checkpoint is answered now.
    pub(crate) fn refuse_parked(&mut self) {
        self.parked.bytes = 0;
        for parked in std::mem::take(&mut self.parked.queue) {
            self.produce(parked.id, parked.request, parked.version, false);
        }
    }

    fn has_memory(&mut self) -> bool {
        let max = self.config.tail_max_bytes;
        if self.state.tail_bytes >= max {
            // What is in segments goes first.
            self.evict_down_to(max / 2);
        }
        self.state.tail_bytes < max && self.pending_bytes < limits::IN_FLIGHT_BYTES_MAX
    }
}

fn size_bytes(request: &ProduceRequest) -> usize {
    let parts = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    parts.map(|part| part.records.as_ref().map_or(0, bytes::Bytes::len)).sum()
}
