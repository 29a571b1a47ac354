//! Everything that the engine can ask of its shell: one closed enum, drained by `Engine::poll_effect`.
//! Effects are in order; a shell that runs `Append`s out of order breaks every promise.

use crate::durability::SyncBy;
use crate::entry::Entry;
use crate::transform::{AdminError, AdminResponse, Deployment, TransformJob};
use crate::units::{AdminId, PartitionKey, ReadId, RequestId, Ticket, TransformId};
use crate::user_fact::UserFact;
use bytes::Bytes;
use millpond_wire::messages::Response;

/// One thing to do.
#[derive(Debug)]
pub enum Effect {
    /// Write this entry to the journal, in order; `Event::Durable` answers it.
    Append {
        /// What was decided.
        entry: Entry,
        /// How soon it is to be on flash.
        sync: SyncBy,
    },
    /// Answer a request.
    Reply {
        /// Of the request.
        id: RequestId,
        /// `None`: the request is finished and gets no answer (a produce with acks=0).
        response: Option<Response>,
    },
    /// Run a chain of transforms on a batch; `Event::Transformed` answers it.
    Transform(TransformJob),
    /// A page of a transform's state, as `Event::ReadState` asked; or why there is none.
    StateRead {
        /// Of the job.
        ticket: Ticket,
        /// Whose state.
        transform: TransformId,
        /// What was read.
        page: Result<StatePage, String>,
    },
    /// Read segments; `Event::HistoryRead` answers it.
    ReadHistory(ReadJob),
    /// The table of transforms changed; this is the whole of it, in order of application.
    TransformsChanged(Vec<Deployment>),
    /// Somebody is known by another password from here on, or by none: durable already. Those
    /// before a start are `Engine::users`.
    UserChanged(UserFact),
    /// These partitions are gone for good: their files may be dropped.
    TopicDeleted(Vec<PartitionKey>),
    /// Segments lie below log starts: a checkpoint soon would give their space back.
    Reclaim,
    /// Answer an administrative request.
    AdminReply {
        /// Of the request.
        id: AdminId,
        /// What came of it.
        result: Result<AdminResponse, AdminError>,
    },
}

/// A part of a transform's state, in the order in which it came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatePage {
    /// Whole batches, for `read_state`.
    pub records: Vec<Bytes>,
    /// Where the next page begins.
    pub next: i64,
    /// There is no next page.
    pub is_end: bool,
}

/// Reads that belong to one request, answered together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadJob {
    /// Comes back in `Event::HistoryRead`.
    pub id: ReadId,
    /// In the order of the answer.
    pub reads: Vec<HistoryRead>,
}

/// A read of whole batches from one partition's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRead {
    /// Which partition.
    pub partition: PartitionKey,
    /// Begin with the batch that contains this offset, or else with the next one.
    pub offset: i64,
    /// Stop before this many bytes are exceeded, but give one batch at least (KIP-74).
    pub max_bytes: usize,
    /// Only batches below this offset: from here on the engine has them in memory.
    pub upto: i64,
    /// When set: give only the first batch, from `offset` on, whose largest timestamp
    /// is at least this, or nothing.
    pub find_timestamp: Option<i64>,
}

/// What one `HistoryRead` found: whole batches, stamped, their checksums verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistorySlice {
    /// In order; each element holds one or more whole batches. Empty: nothing there.
    pub records: Vec<Bytes>,
}

impl HistorySlice {
    /// Bytes of all batches together.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}
