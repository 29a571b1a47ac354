//! Fetch: sessions are never begun (every answer says session 0, which KIP-227 allows), the rest
//! is `crate::fetch`.

use crate::engine::Engine;
use crate::fetch::FetchCall;
use crate::units::{Peer, RequestId};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::{FetchRequest, FetchResponse, Response};

impl Engine {
    pub(crate) fn on_fetch(
        &mut self,
        id: RequestId,
        peer: &Peer,
        request: FetchRequest,
        version: i16,
    ) {
        let partitions: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        let code = if request.session_id != 0 {
            ErrorCode::FetchSessionIdNotFound
        } else if partitions > limits::PARTITIONS_PER_FETCH_MAX {
            ErrorCode::InvalidRequest
        } else {
            return self.start_fetch(FetchCall { id, session: peer.session, request, version });
        };
        let error_code = code.code();
        self.reply(id, Response::Fetch(FetchResponse { error_code, ..FetchResponse::default() }));
    }
}
