//! A client that deletes records from the front of a partition, and remembers what it was told. Must
//! never look into the node.

use crate::client::Surroundings;
use crate::history::Partition;
use crate::reader::{LATEST, offset_at};
use crate::topics::place;
use millpond_storage::disk::sim::SimRng;
use millpond_wire::ErrorCode;
use millpond_wire::messages::{DeleteRecordsRequest, Request, Response, delete_records_request};

const DELETE_RECORDS_VERSION: i16 = 1;

/// Deletes from the front of one partition.
pub struct Trimmer {
    /// Where it is.
    pub world: Surroundings,
    /// Its partition in the books.
    pub partition: Partition,
    /// Decides pauses and steps.
    pub rng: SimRng,
}

impl Trimmer {
    /// Deletes until the run is over.
    pub async fn run(mut self) {
        while !self.world.is_over.get() {
            let pause_ms = self.rng.between(20, 200);
            self.world.pause_ms(pause_ms).await;
            let end = offset_at(&self.world, self.partition, LATEST).await;
            let upto = self.rng.below(end as u64 + 1) as i64;
            self.delete_below(upto).await;
        }
    }

    async fn delete_below(&self, offset: i64) {
        let (name, partition_index) = place(self.partition);
        let request = DeleteRecordsRequest {
            topics: vec![delete_records_request::DeleteRecordsTopic {
                name,
                partitions: vec![delete_records_request::DeleteRecordsPartition {
                    partition_index,
                    offset,
                }],
            }],
            timeout_ms: 5_000,
        };
        self.world.oracle.deleting(self.partition, offset);
        let connection = self.world.connect().await;
        let pending = connection.send(Request::DeleteRecords(request), DELETE_RECORDS_VERSION);
        if let Ok(Some(Response::DeleteRecords(answer))) = pending.answer().await
            && answer.topics[0].partitions[0].error_code == ErrorCode::None.code()
        {
            self.world.trace.note("t", || format!("{} starts at {offset}", self.partition));
            self.world.oracle.deleted(self.partition, offset);
        }
    }
}
