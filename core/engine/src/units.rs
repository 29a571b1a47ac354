//! The newtypes that cross module and crate borders: identities, positions and times.
//! Plain data only: nothing here may decide anything.

use millpond_wire::uuid::Uuid;
use std::fmt;
use std::sync::Arc;

/// The time that the shell hands in with every event. The engine never reads a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds; the only time that timeouts are measured in.
    pub mono_ms: u64,
    /// Wall clock, milliseconds since 1970; written into timestamps and never compared for timeouts.
    pub wall_ms: i64,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// One request of one peer; chosen by the shell, unique while the request lives.
    RequestId(u64)
);
id!(
    /// A connection or a QUIC stream.
    SessionId(u64)
);
id!(
    /// A listener of the configuration; decides which advertised address a client is told.
    ListenerId(u16)
);
id!(
    /// Position of an entry in the journal: 1 is the first, 0 means "before all".
    EntrySeq(u64)
);
id!(
    /// Names one history read until its `Event::HistoryRead`.
    ReadId(u64)
);
id!(
    /// Names one transform job until its `Event::Transformed`.
    Ticket(u64)
);
id!(
    /// One administrative request from HTTP; chosen by the shell.
    AdminId(u64)
);
id!(
    /// One deployed version of a transform; never used twice on a node.
    TransformId(u64)
);

impl EntrySeq {
    /// The sequence that follows this one.
    #[must_use]
    pub fn next(self) -> EntrySeq {
        EntrySeq(self.0 + 1)
    }
}

/// Names a partition for ever: topic ids are not used twice, topic names may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic's id (KIP-516).
    pub topic_id: Uuid,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic_id, self.partition)
    }
}

/// Who sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The connection or stream that it came on.
    pub session: SessionId,
    /// The listener that accepted it.
    pub listener: ListenerId,
    /// The client id of the request header.
    pub client_id: Option<String>,
    /// The peer's address, for people to read.
    pub host: String,
    /// Who has proved to be whom; `None`: nobody was asked.
    pub user: Option<Arc<str>>,
}
