//! Everything that can happen to the engine: one closed enum.
//! An event carries all that its decision needs; the engine asks nobody anything.

use crate::acl::Principal;
use crate::audit::{LoginRefused, Told};
use crate::effect::HistorySlice;
use crate::space::SpaceReport;
use crate::stored::StoredPartition;
use crate::transform::{AdminRequest, TransformOutcome};
use crate::units::{
    AdminId, EntrySeq, PartitionKey, Peer, ReadId, RequestId, SessionId, Ticket, TransformId,
};
use millpond_wire::messages::Request;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// A decoded request; answered by exactly one `Effect::Reply` with the same id.
    Request {
        /// Comes back in the reply.
        id: RequestId,
        /// Who asks.
        peer: Peer,
        /// What is asked.
        request: Request,
        /// The request's API version, already checked against the table of APIs.
        version: i16,
    },
    /// A connection or stream ended: its long polls are dropped.
    SessionClosed(SessionId),
    /// All entries up to and including this one are on flash.
    Durable(EntrySeq),
    /// A transform job is finished.
    Transformed {
        /// Of the job.
        ticket: Ticket,
        /// What became of its batch.
        outcome: TransformOutcome,
    },
    /// Comes right before `Event::Transformed` of the same job: timers are due still that had no room in
    /// it. A further job without a batch follows its result, until none are left.
    TimersLeft {
        /// Of the job.
        ticket: Ticket,
    },
    /// A worker needs the state that a transform of its job keeps; `Effect::StateRead` answers it
    /// with a page.
    ReadState {
        /// Of the job.
        ticket: Ticket,
        /// Whose state.
        transform: TransformId,
        /// Where the page begins: 0, then what the page before said.
        from: i64,
    },
    /// A history read is finished.
    HistoryRead {
        /// Of the job.
        id: ReadId,
        /// One per read of the job, in its order: the fault of one is no other's.
        result: Vec<Result<HistorySlice, ReadFault>>,
    },
    /// These offsets are in segments that a checkpoint names: their memory may go.
    Flushed(Vec<FlushedRange>),
    /// The segments of these partitions, as a checkpoint names them: of all after a start, later of
    /// those that changed.
    Stored(Vec<StoredPartition>),
    /// How much space is used and left: after a start, after every checkpoint, and when it changed.
    Space(SpaceReport),
    /// An administrative request; answered by `Effect::AdminReply` with the same id.
    Admin {
        /// Comes back in the reply.
        id: AdminId,
        /// Who asks, and from where; `None`: nobody was asked.
        by: Option<(Principal, String)>,
        /// What is asked.
        request: AdminRequest,
    },
    /// How many microseconds of its thread the engine took for the `Event::Request` right before this;
    /// wanted while `Engine::measures_requests`.
    Spent(u64),
    /// Somebody could not prove who he is.
    LoginRefused(LoginRefused),
    /// What is kept elsewhere was changed.
    Told(Told),
    /// Time has passed: the deadline of `Engine::next_deadline_ms` is reached.
    Tick,
}

/// A partition's offsets below `upto` are in segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushedRange {
    /// Which partition.
    pub partition: PartitionKey,
    /// The first offset that is not in segments.
    pub upto: i64,
}

/// Why history could not be read. The client is told a storage error, for this read only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// The disk refused.
    #[error("the disk failed to read a segment: {0}; see the log of the node")]
    Io(String),
    /// The bytes are there and wrong; they are never served.
    #[error("a segment is damaged: {0}; restore it from a replica or a backup")]
    Damaged(String),
}
