//! Transactions (KIP-98, KIP-890): who may write in one, what it has touched, how it ends. The
//! coordinator and the partitions are of one node here; what each of them decides is a fact of its
//! own all the same, so that either can be replicated without the other.
//!
//! ```text
//!            join                    prepare                markers, complete
//!   Empty ─────────► Ongoing ─────────────────► Prepare* ─────────────────────► Complete*
//!     ▲                 ▲                                                        │   │
//!     │                 └───────────────── join ─────────────────────────────────┘   │
//!     └──────────────── InitProducerId ──────────────────────────────────────────────┘
//! ```
//! Must never let a consumer that reads committed data see a record before the fact that commits it
//! is durable, nor forget an aborted one that such a consumer may still come across.

mod begin;
mod deadlines;
mod end;
mod fact;
mod pending;
mod stability;
mod table;

pub(crate) use begin::{Claim, InTransaction, not_in_transaction};
pub(crate) use deadlines::Deadlines;
pub(crate) use end::{Bump, Outcome};
pub use fact::TransactionFact;
pub use stability::AbortedTransaction;
pub(crate) use stability::{OpenTransaction, Stability};
pub(crate) use table::TransactionTable;

use crate::units::{EntrySeq, PartitionKey};
use std::collections::BTreeSet;

/// Where the transaction of a transactional id stands. Kafka's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum TransactionState {
    /// None was begun since the producer was given its epoch.
    #[default]
    Empty = 0,
    /// Begun, not ended.
    Ongoing = 1,
    /// To be committed: markers are on their way.
    PrepareCommit = 2,
    /// To be aborted: markers are on their way.
    PrepareAbort = 3,
    /// The last one was committed.
    CompleteCommit = 4,
    /// The last one was aborted.
    CompleteAbort = 5,
}

impl TransactionState {
    /// All of them.
    pub const ALL: [TransactionState; 6] = [
        TransactionState::Empty,
        TransactionState::Ongoing,
        TransactionState::PrepareCommit,
        TransactionState::PrepareAbort,
        TransactionState::CompleteCommit,
        TransactionState::CompleteAbort,
    ];

    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::PrepareCommit => "PrepareCommit",
            TransactionState::PrepareAbort => "PrepareAbort",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
        }
    }

    /// The state of Kafka's name.
    pub(crate) fn by_name(name: &str) -> Option<TransactionState> {
        TransactionState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Begun, and not everybody knows of its end.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, TransactionState::Ongoing) || self.is_ending()
    }

    /// The end is decided, but not everywhere known.
    pub(crate) const fn is_ending(self) -> bool {
        matches!(self, TransactionState::PrepareCommit | TransactionState::PrepareAbort)
    }
}

/// What is known of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transactional {
    pub(crate) producer_id: i64,
    /// Of the producer that may write now; lower ones are fenced.
    pub(crate) epoch: i16,
    /// The producer id and epoch before, for an answer that got lost (KIP-360).
    pub(crate) previous: Option<(i64, i16)>,
    /// The producer id to go on with when the end is complete: epochs ran out.
    pub(crate) next_producer_id: Option<i64>,
    pub(crate) timeout_ms: i32,
    pub(crate) state: TransactionState,
    /// In an ending transaction those that still lack their marker.
    pub(crate) partitions: BTreeSet<PartitionKey>,
    /// Groups whose offsets are part of it; in an ending transaction as above.
    pub(crate) groups: BTreeSet<String>,
    /// When the transaction began, milliseconds since 1970.
    pub(crate) started_ms: i64,
    /// When anything changed, milliseconds since 1970.
    pub(crate) updated_ms: i64,
    /// The entry of the last change; not kept over a restart, after which all is durable.
    pub(crate) last_entry: EntrySeq,
    /// The entry that began the transaction: tells one from the next; not kept over a restart.
    pub(crate) begun_at: EntrySeq,
}

impl Transactional {
    pub(crate) fn is_epoch_exhausted(&self) -> bool {
        // The last one is left for the markers of whoever fences this producer.
        self.epoch >= i16::MAX - 1
    }
}

/// Epochs of one coordinator never change: there has been one leader only.
pub(crate) const COORDINATOR_EPOCH: i32 = 0;
