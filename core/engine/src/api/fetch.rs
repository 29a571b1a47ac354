//! Fetch: its session first (`crate::fetch_session`), then the records (`crate::fetch`).

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
        mut request: FetchRequest,
        version: i16,
    ) {
        let code = match self.enter_session(&mut request, version) {
            Ok(used) => {
                let asked = request.topics.iter().map(|topic| topic.partitions.len());
                if asked.sum::<usize>() <= limits::PARTITIONS_PER_FETCH_MAX {
                    let session = peer.session;
                    return self.start_fetch(FetchCall { id, session, request, version, used });
                }
                ErrorCode::InvalidRequest
            }
            Err(code) => code,
        };
        let error_code = code.code();
        self.reply(id, Response::Fetch(FetchResponse { error_code, ..FetchResponse::default() }));
    }
}
