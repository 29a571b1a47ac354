//! A group that commits offsets, and looks whether they stay. Must never look into the node.

use crate::client::Surroundings;
use crate::history::Partition;
use crate::topics::place;
use millpond_storage::disk::sim::SimRng;
use millpond_wire::ErrorCode;
use millpond_wire::messages::{
    OffsetCommitRequest, OffsetFetchRequest, Request, Response, offset_commit_request,
    offset_fetch_request,
};

const OFFSET_COMMIT_VERSION: i16 = 8;
const OFFSET_FETCH_VERSION: i16 = 5;
/// The consumer group of every run.
pub const GROUP: &str = "millers";

/// A group that commits ever higher offsets of one partition, and looks whether they stay.
pub struct Committer {
    /// Where it is.
    pub world: Surroundings,
    /// Its partition in the books.
    pub partition: Partition,
    /// Decides pauses and steps.
    pub rng: SimRng,
}

impl Committer {
    /// Commits and looks until the run is over.
    pub async fn run(mut self) {
        let mut offset = 0;
        while !self.world.is_over.get() {
            if self.rng.chance(300) {
                look_at_commit(&self.world, self.partition).await;
            } else {
                offset += self.rng.between(1, 9) as i64;
                self.commit(offset).await;
            }
            self.world.pause_ms(self.rng.between(1, 60)).await;
        }
    }

    async fn commit(&self, offset: i64) {
        let (topic, index) = place(self.partition);
        let partition = offset_commit_request::OffsetCommitRequestPartition {
            partition_index: index,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: Some(format!("at {offset}")),
        };
        let request = OffsetCommitRequest {
            group_id: GROUP.to_owned(),
            generation_id_or_member_epoch: -1,
            topics: vec![offset_commit_request::OffsetCommitRequestTopic {
                name: topic,
                partitions: vec![partition],
                ..Default::default()
            }],
            ..OffsetCommitRequest::default()
        };
        self.world.oracle.committing(GROUP, self.partition, offset);
        let connection = self.world.connect().await;
        let pending = connection.send(Request::OffsetCommit(request), OFFSET_COMMIT_VERSION);
        if let Ok(Some(Response::OffsetCommit(answer))) = pending.answer().await
            && answer.topics[0].partitions[0].error_code == ErrorCode::None.code()
        {
            self.world.trace.note("g", || format!("commit {} at {offset}", self.partition));
            self.world.oracle.committed(GROUP, self.partition, offset);
        }
    }
}

/// Asks for a committed offset and holds it against the books.
pub async fn look_at_commit(world: &Surroundings, partition: Partition) {
    let (topic, index) = place(partition);
    let request = OffsetFetchRequest {
        group_id: GROUP.to_owned(),
        topics: Some(vec![offset_fetch_request::OffsetFetchRequestTopic {
            name: topic,
            partition_indexes: vec![index],
        }]),
        ..OffsetFetchRequest::default()
    };
    let promised = world.oracle.commit_promised(GROUP, partition);
    let answer = world.ask(Request::OffsetFetch(request), OFFSET_FETCH_VERSION).await;
    let Response::OffsetFetch(answer) = answer else {
        panic!("OffsetFetch was answered with {answer:?}");
    };
    let found = &answer.topics[0].partitions[0];
    if answer.error_code == ErrorCode::None.code() && found.error_code == ErrorCode::None.code() {
        world.oracle.commit_found(GROUP, partition, promised, found.committed_offset);
    }
}
