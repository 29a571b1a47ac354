//! OffsetDelete (KIP-496): single committed offsets go, topic by topic. Never takes an offset from
//! under a live member: what somebody subscribes to stays.

use crate::engine::Engine;
use crate::entry::Fact;
use crate::group::is_valid_group_id;
use crate::units::{EntrySeq, PartitionKey, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::offset_delete_request::OffsetDeleteRequestTopic;
use millpond_wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use millpond_wire::messages::{OffsetDeleteRequest, OffsetDeleteResponse, Response};

impl Engine {
    pub(crate) fn on_offset_delete(&mut self, id: RequestId, request: &OffsetDeleteRequest) {
        let mut response = OffsetDeleteResponse::default();
        let mut seq = EntrySeq(0);
        match self.may_delete_offsets(&request.group_id) {
            Err(code) => response.error_code = code.code(),
            Ok(()) => {
                let mut gone = Vec::new();
                for topic in &request.topics {
                    response.topics.push(self.delete_offsets_of(request, topic, &mut gone));
                }
                if !gone.is_empty() {
                    seq = self.current_seq();
                    let group = request.group_id.clone();
                    self.commit(Fact::OffsetsDeleted { group, partitions: Some(gone) });
                }
            }
        }
        self.reply_after(seq, id, Response::OffsetDelete(response));
    }

    fn may_delete_offsets(&self, group_id: &str) -> Result<(), ErrorCode> {
        if !is_valid_group_id(group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        if self.space.is_stuck() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        match self.groups.get(group_id) {
            // Nobody can tell what the members of other protocols read.
            Some(group) if group.has_members() && !group.is_of_consumers() => {
                Err(ErrorCode::NonEmptyGroup)
            }
            Some(_) => Ok(()),
            None if self.group(group_id).is_some() => Ok(()),
            None => Err(ErrorCode::GroupIdNotFound),
        }
    }

    fn delete_offsets_of(
        &self,
        request: &OffsetDeleteRequest,
        topic: &OffsetDeleteRequestTopic,
        gone: &mut Vec<PartitionKey>,
    ) -> OffsetDeleteResponseTopic {
        let group_id = &request.group_id;
        let known = self.state.catalog.by_name(&topic.name);
        let is_read = known.is_some_and(|topic| self.is_read(group_id, topic.id));
        let mut delete = |partition: i32| {
            let key = known.map(|topic| PartitionKey { topic_id: topic.id, partition });
            let Some(key) = key.filter(|key| self.state.catalog.partition(*key).is_some()) else {
                return ErrorCode::UnknownTopicOrPartition;
            };
            if is_read {
                return ErrorCode::GroupSubscribedToTopic;
            }
            if self.state.offsets.get(group_id, key).is_some()
                || self.state.transactions.pending().has(group_id, key)
            {
                gone.push(key);
            }
            ErrorCode::None
        };
        let partitions = topic.partitions.iter().map(|part| OffsetDeleteResponsePartition {
            partition_index: part.partition_index,
            error_code: delete(part.partition_index).code(),
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic { name: topic.name.clone(), partitions }
    }
}
