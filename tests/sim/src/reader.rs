//! Readers: they follow the log, and read it all at the end. Whatever they are shown goes to the
//! books. Must never look into the node.

use crate::client::{Surroundings, code_of, decode_value};
use crate::history::{Partition, RecordId};
use crate::topics::place;
use millpond_storage::disk::sim::SimRng;
use millpond_wire::ErrorCode;
use millpond_wire::messages::fetch_response::PartitionData;
use millpond_wire::messages::{
    FetchRequest, ListOffsetsRequest, Request, Response, fetch_request, list_offsets_request,
};
use millpond_wire::record::LogBatch;

const FETCH_VERSION: i16 = 11;
const LIST_OFFSETS_VERSION: i16 = 4;
/// Reads all that is there.
pub const UNCOMMITTED: i8 = 0;
/// Reads what is not of an open or aborted transaction.
pub const COMMITTED: i8 = 1;
/// The timestamp that asks ListOffsets for the end.
pub const LATEST: i64 = -1;
/// The timestamp that asks ListOffsets for the start.
pub const EARLIEST: i64 = -2;

/// Follows a partition from its start; everything that it is shown must stay for ever.
pub struct Reader {
    /// Where it is.
    pub world: Surroundings,
    /// Its partition in the books.
    pub partition: Partition,
    /// Decides waits and limits.
    pub rng: SimRng,
}

impl Reader {
    /// Reads until the run is over.
    pub async fn run(mut self) {
        let mut offset = 0;
        while !self.world.is_over.get() {
            if self.rng.chance(50) {
                offset = 0;
            }
            let limits = (self.rng.between(1, 20_000) as i32, self.rng.between(0, 80) as i32);
            offset = match read_once(&self.world, self.partition, offset, limits).await {
                Some(next) => next,
                // Its start may have moved.
                None => offset.max(offset_at(&self.world, self.partition, EARLIEST).await),
            };
            self.world.pause_ms(self.rng.between(0, 30)).await;
        }
    }
}

/// Reads a partition from its start to its end. What the node cannot read it must say; the rest is
/// read around it.
pub async fn read_all(world: &Surroundings, partition: Partition) {
    let end = offset_at(world, partition, LATEST).await;
    let mut offset = offset_at(world, partition, EARLIEST).await;
    world.oracle.starts_at(partition, offset);
    while offset < end {
        let read = match read_once(world, partition, offset, (1 << 20, 0)).await {
            // What stands before the damage may still come one by one.
            None => read_once(world, partition, offset, (1, 0)).await,
            read => read,
        };
        match read {
            Some(next) if next > offset => offset = next,
            Some(_) => {
                let what = format!("partition {partition}: nothing at {offset}, its end is {end}");
                return world.oracle.violated(what);
            }
            None if world.oracle.reads_may_fail() => world.pause_ms(20).await,
            None => {
                let first = offset_at(world, partition, EARLIEST).await;
                if first > offset {
                    world.oracle.starts_at(partition, first);
                    offset = first;
                } else {
                    offset = world.oracle.unreadable(partition, offset);
                }
            }
        }
    }
}

/// The offset of a partition's first record, or the one after its last.
pub async fn offset_at(world: &Surroundings, partition: Partition, timestamp: i64) -> i64 {
    offset_for(world, partition, timestamp, UNCOMMITTED).await
}

/// The same for who reads at this isolation level.
pub async fn offset_for(
    world: &Surroundings,
    partition: Partition,
    timestamp: i64,
    isolation_level: i8,
) -> i64 {
    let (topic, index) = place(partition);
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level,
        topics: vec![list_offsets_request::ListOffsetsTopic {
            name: topic,
            partitions: vec![list_offsets_request::ListOffsetsPartition {
                partition_index: index,
                current_leader_epoch: -1,
                timestamp,
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    loop {
        let answer = world.ask(Request::ListOffsets(request.clone()), LIST_OFFSETS_VERSION).await;
        let Response::ListOffsets(answer) = answer else {
            panic!("ListOffsets was answered with {answer:?}");
        };
        let found = &answer.topics[0].partitions[0];
        if found.error_code == ErrorCode::None.code() {
            return found.offset;
        }
        world.oracle.read_refused(partition, timestamp, code_of(found.error_code));
        world.pause_ms(20).await;
    }
}

/// One fetch; answers where to read on, `None` if it was refused.
async fn read_once(
    world: &Surroundings,
    partition: Partition,
    offset: i64,
    limits: (i32, i32),
) -> Option<i64> {
    match fetch(world, partition, offset, limits, UNCOMMITTED).await {
        Ok(data) => Some(take_records(world, partition, offset, &data)),
        Err(code) => {
            world.oracle.read_refused(partition, offset, code);
            None
        }
    }
}

/// What one fetch brings; `limits` are the most bytes and the longest wait in ms.
pub async fn fetch(
    world: &Surroundings,
    partition: Partition,
    offset: i64,
    limits: (i32, i32),
    isolation_level: i8,
) -> Result<PartitionData, ErrorCode> {
    let (topic, index) = place(partition);
    let (max_bytes, max_wait_ms) = limits;
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes,
        isolation_level,
        session_epoch: -1,
        topics: vec![fetch_request::FetchTopic {
            topic,
            partitions: vec![fetch_request::FetchPartition {
                partition: index,
                current_leader_epoch: -1,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..FetchRequest::default()
    };
    let answer = world.ask(Request::Fetch(request), FETCH_VERSION).await;
    let Response::Fetch(answer) = answer else {
        panic!("Fetch was answered with {answer:?}");
    };
    let topic = answer.responses.into_iter().next();
    match topic.and_then(|topic| topic.partitions.into_iter().next()) {
        Some(data) if data.error_code != ErrorCode::None.code() => Err(code_of(data.error_code)),
        Some(data) => Ok(data),
        None => Err(ErrorCode::RequestTimedOut),
    }
}

fn take_records(
    world: &Surroundings,
    partition: Partition,
    offset: i64,
    data: &PartitionData,
) -> i64 {
    let mut next = offset;
    for (at, id) in records_of(data) {
        assert!(at < data.high_watermark, "read above the high watermark");
        world.oracle.read(partition, at, id);
        next = next.max(at + 1);
    }
    next
}

/// The records of a fetch, by offset.
pub fn records_of(data: &PartitionData) -> Vec<(i64, RecordId)> {
    let bytes = data.records.as_ref().map(|rope| rope.to_bytes()).unwrap_or_default();
    let batches = LogBatch::split(bytes, 10_000).expect("whole batches with right checksums");
    batches.iter().flat_map(records_in).collect()
}

/// The records of a batch, by offset.
pub fn records_in(batch: &LogBatch) -> Vec<(i64, RecordId)> {
    let plain = batch.to_batch().expect("a parsed batch");
    let section = plain.decompress(1 << 24).expect("a small batch");
    let records = plain.records(&section).map(|record| {
        let record = record.expect("a whole record");
        let at = batch.base_offset() + i64::from(record.offset_delta);
        (at, decode_value(record.value.unwrap_or_default()))
    });
    records.collect()
}
