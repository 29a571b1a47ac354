//! One member of a live group: what it said, what it was given and what it waits for.
//! Holds bytes of the peer as they came, copied out of the request so as not to keep that alive.

use super::roster::ClassicMember;
use crate::units::RequestId;
use bytes::Bytes;
use millpond_wire::messages::join_group_request::JoinGroupRequestProtocol;
use std::sync::Arc;

/// A member.
#[derive(Debug, Default)]
pub(crate) struct Member {
    /// What it said; shared with the roster once its generation is complete.
    pub(crate) said: Arc<ClassicMember>,
    pub(crate) assignment: Bytes,
    /// Gone if nothing is heard until then.
    pub(crate) deadline_ms: u64,
    /// A JoinGroup that is not answered yet, and its version.
    pub(super) join: Option<(RequestId, i16)>,
    /// A SyncGroup that is not answered yet.
    pub(super) sync: Option<RequestId>,
}

impl Member {
    pub(super) fn touch(&mut self, now_ms: u64) {
        self.deadline_ms = now_ms + self.said.session_timeout_ms;
    }

    /// It waits for us: its silence is no sign of death.
    pub(super) fn is_waiting(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.said.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let own = self.said.protocols.iter().find(|(name, _)| name == protocol);
        own.map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }

    pub(crate) fn size_bytes(&self) -> usize {
        let protocols = &self.said.protocols;
        let protocols = protocols.iter().map(|(name, metadata)| name.len() + metadata.len());
        protocols.sum::<usize>() + self.assignment.len()
    }
}

/// The protocols of a request, out of the request's memory.
pub(super) fn copy_protocols(protocols: &[JoinGroupRequestProtocol]) -> Vec<(String, Bytes)> {
    let copy = |protocol: &JoinGroupRequestProtocol| {
        (protocol.name.clone(), Bytes::copy_from_slice(&protocol.metadata))
    };
    protocols.iter().map(copy).collect()
}
