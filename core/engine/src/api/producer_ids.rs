//! InitProducerId without a transactional id, and the ids themselves: they are journalled in blocks before one of a block is given out, so that none
//! is given out twice, whatever happens.

use crate::engine::Engine;
use crate::entry::Fact;
use crate::units::RequestId;
use millpond_wire::limits;
use millpond_wire::messages::{InitProducerIdRequest, InitProducerIdResponse, Response};

impl Engine {
    pub(crate) fn on_init_producer_id(
        &mut self,
        id: RequestId,
        request: &InitProducerIdRequest,
        version: i16,
    ) {
        if let Some(transactional_id) = &request.transactional_id {
            return self.on_init_transactional(id, transactional_id, request, version);
        }
        // A client that fell out of sequence asks for the next epoch of its id (KIP-360).
        let bumped = request.producer_epoch.checked_add(1).filter(|epoch| *epoch < i16::MAX);
        let is_ours = (0..self.next_producer_id).contains(&request.producer_id)
            && self.state.transactions.of_producer(request.producer_id).is_none();
        let (producer_id, producer_epoch) = match bumped {
            Some(epoch) if is_ours && request.producer_epoch >= 0 => (request.producer_id, epoch),
            _ => (self.new_producer_id(), 0),
        };
        let response = InitProducerIdResponse {
            producer_id,
            producer_epoch,
            ..InitProducerIdResponse::default()
        };
        self.reply_after(self.producer_ids_seq, id, Response::InitProducerId(response));
    }

    pub(crate) fn new_producer_id(&mut self) -> i64 {
        if self.next_producer_id >= self.state.producer_ids_upto {
            let upto = self.next_producer_id + limits::PRODUCER_ID_BLOCK;
            self.commit(Fact::ProducerIdsReserved { upto });
        }
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }
}
