//! Readers of committed data: they leave out what the answers tell them to, as every consumer does,
//! and look whether what they poll has no gap. Must never look into the node.

use crate::client::Surroundings;
use crate::history::{Partition, RecordId};
use crate::reader::{
    COMMITTED, EARLIEST, LATEST, UNCOMMITTED, fetch, offset_at, offset_for, records_in,
};
use crate::txn_books::Log;
use millpond_storage::disk::sim::SimRng;
use millpond_wire::ErrorCode;
use millpond_wire::messages::fetch_response::PartitionData;
use millpond_wire::record::LogBatch;
use std::collections::BTreeSet;

/// Follows a partition; what it is shown must stay for ever.
pub struct CommittedReader {
    /// Where it is.
    pub world: Surroundings,
    /// Its partition in the books.
    pub partition: Partition,
    /// Decides waits and limits.
    pub rng: SimRng,
}

impl CommittedReader {
    /// Reads until the run is over.
    pub async fn run(mut self) {
        let mut offset = 0;
        while !self.world.is_over.get() {
            if self.rng.chance(50) {
                offset = 0;
            }
            let limits = (self.rng.between(1, 10_000) as i32, self.rng.between(0, 80) as i32);
            match fetch(&self.world, self.partition, offset, limits, COMMITTED).await {
                Ok(data) => {
                    self.world.txns.stable(self.partition, data.last_stable_offset);
                    offset = take_shown(&self.world, self.partition, offset, &data);
                }
                Err(code) => self.world.oracle.read_refused(self.partition, offset, code),
            }
            self.world.pause_ms(self.rng.between(0, 30)).await;
        }
    }
}

/// Takes note of all that an answer shows; where to read on.
fn take_shown(
    world: &Surroundings,
    partition: Partition,
    offset: i64,
    data: &PartitionData,
) -> i64 {
    match shown_in(data, offset, COMMITTED) {
        Ok((shown, next)) => {
            for (at, record) in shown {
                world.txns.seen(partition, at, record);
            }
            next
        }
        Err(what) => {
            world.oracle.violated(format!("partition {partition}, read at {offset}: {what}"));
            offset
        }
    }
}

/// What a consumer makes of an answer at this isolation level, and where it reads on.
pub fn shown_in(
    data: &PartitionData,
    offset: i64,
    isolation_level: i8,
) -> Result<(Vec<(i64, RecordId)>, i64), String> {
    let is_committed = isolation_level == COMMITTED;
    let end = if is_committed { data.last_stable_offset } else { data.high_watermark };
    if data.last_stable_offset > data.high_watermark {
        return Err("the last stable offset is above the high watermark".to_owned());
    }
    let mut aborted = data.aborted_transactions.clone().unwrap_or_default();
    aborted.sort_by_key(|one| one.first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let mut left_out = BTreeSet::new();
    let bytes = data.records.as_ref().map(|rope| rope.to_bytes()).unwrap_or_default();
    let batches = LogBatch::split(bytes, 10_000).map_err(|error| error.to_string())?;
    let (mut shown, mut next) = (Vec::new(), offset);
    for batch in batches {
        if batch.base_offset() > next || batch.last_offset() < next || batch.last_offset() >= end {
            let (first, last) = (batch.base_offset(), batch.last_offset());
            return Err(format!(
                "a batch from {first} to {last} comes at {next}, the end is {end}"
            ));
        }
        while let Some(one) = aborted.next_if(|one| one.first_offset <= batch.last_offset()) {
            left_out.insert(one.producer_id);
        }
        let (header, from) = (batch.header(), next);
        next = batch.next_offset();
        if header.attributes.is_control() {
            left_out.remove(&header.producer_id);
            continue;
        }
        let is_in = header.attributes.is_transactional();
        if is_committed && is_in && left_out.contains(&header.producer_id) {
            continue;
        }
        shown.extend(records_in(&batch).into_iter().filter(|(at, _)| *at >= from));
    }
    Ok((shown, next))
}

/// When all is over: nothing is open any more, what stands in the partition has no gap, and each
/// transaction counts as a whole or not at all.
pub async fn judge_at_the_end(world: &Surroundings, partition: Partition) {
    let end = offset_at(world, partition, LATEST).await;
    let stable = offset_for(world, partition, LATEST, COMMITTED).await;
    if stable != end {
        world.oracle.violated(format!(
            "partition {partition}: nothing is open, its end is {end} and its last stable offset {stable}"
        ));
    }
    let all = read_all(world, partition, UNCOMMITTED, end).await;
    let counting = read_all(world, partition, COMMITTED, end).await;
    world.txns.judge(partition, &all, &counting);
    world.oracle.judge_shown(partition, &counting);
}

/// Reads up to `end`; what the node cannot read it must say, and the rest is read around it.
async fn read_all(
    world: &Surroundings,
    partition: Partition,
    isolation_level: i8,
    end: i64,
) -> Log {
    let mut offset = offset_at(world, partition, EARLIEST).await;
    let mut all = Log::new();
    while offset < end && world.oracle.violations().is_empty() {
        let mut read = fetch(world, partition, offset, (1 << 20, 0), isolation_level).await;
        if read.is_err() {
            // What stands before the damage may still come one by one.
            read = fetch(world, partition, offset, (1, 0), isolation_level).await;
        }
        match read {
            Ok(data) => match shown_in(&data, offset, isolation_level) {
                Ok((shown, next)) if next > offset => {
                    all.extend(shown);
                    offset = next;
                }
                Ok(_) => world.oracle.violated(format!(
                    "partition {partition}: nothing at {offset} at level {isolation_level}, its \
                     end is {end}"
                )),
                Err(what) => world.oracle.violated(format!("partition {partition}: {what}")),
            },
            Err(code) => {
                world.oracle.read_refused(partition, offset, code);
                if world.oracle.reads_may_fail() || code != ErrorCode::KafkaStorageError {
                    world.pause_ms(20).await;
                } else {
                    offset = world.oracle.unreadable(partition, offset);
                }
            }
        }
    }
    all
}
