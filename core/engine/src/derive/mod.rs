//! Transforms that work on what is stored and committed, and time that passes for transforms without
//! records.
//!
//! ```text
//!            records below the last stable offset            result
//!   lane ──────────────────────────────────────► worker ───────────────► one entry: outputs, state, cursor
//!    ▲                                                                        │
//!    └──────────── the next batch; after a refusal the same one, later ◄──────┘
//! ```
//! A lane is one transform on one partition of a source topic. It has one job under way at most, so its
//! state is always that after all results before; lanes take turns. Where a lane stands is journalled
//! with what it made, and nowhere else: a record is never passed over and never counts twice, except
//! that records which are gone before their turn are counted as such.

mod commit;
mod cursor;
mod deploy;
mod idle;
mod input;
mod read;
mod schedule;
mod shared;
mod source;
mod view;

pub use cursor::Cursor;
pub(crate) use cursor::{CursorTable, put_cursor, take_cursor};
use source::Source;
pub use view::DeriveView;

use crate::changelog::Desk;
use crate::engine::Engine;
use crate::transform::Keeper;
use crate::units::{PartitionKey, ReadId, Ticket, TransformId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// One transform that derives, on one partition of a source topic; or on the partitions of one number
/// of all its topics, where they share its state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId {
    /// The first of them.
    pub(crate) partition: PartitionKey,
    /// Its name: a new version goes on in the same lane.
    pub(crate) transform: Arc<str>,
}

/// Who waits for the result of a job.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A batch that was produced.
    Inline(PartitionKey),
    /// Time passed for the inline chain of a partition.
    Idle(PartitionKey),
    Derive(LaneId),
}

/// All lanes. As many as there are partitions, times the transforms that one topic may have.
#[derive(Debug, Default)]
pub(crate) struct Derives {
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes by those of their sources that do not stand in their names.
    shared: BTreeMap<PartitionKey, Vec<LaneId>>,
    /// Lanes that may have something to do, in the order of their turns.
    ready: VecDeque<LaneId>,
    jobs_len: usize,
    buffered_bytes: usize,
    /// Partitions with a higher last stable offset.
    touched: BTreeSet<PartitionKey>,
    /// Topics or transforms changed: lanes may have come or gone.
    pub(crate) is_stale: bool,
    /// The job that says next what came of it, if it left timers.
    pub(crate) timers_left: Option<Ticket>,
    /// When turns go on at the latest; monotonic.
    turn_at_ms: Option<u64>,
}

/// What is known of a lane in this run of the process.
#[derive(Debug, Default)]
struct Lane {
    busy: Busy,
    is_ready: bool,
    /// What it reads: one, or one of each topic.
    sources: Vec<Source>,
    desk: Desk,
    /// The version that had the last job.
    version: Option<TransformId>,
    /// In a row.
    failures: u32,
    /// The last one.
    fault: Option<String>,
}

/// What a lane waits for.
#[derive(Debug, Default)]
enum Busy {
    #[default]
    Free,
    /// Segments below `upto`: for its start, or for its next batch.
    Reading {
        id: ReadId,
        source: PartitionKey,
        upto: i64,
        finds_start: bool,
    },
    Running(Job),
    /// The end of its pause after a failure; monotonic.
    Pausing {
        until_ms: u64,
    },
}

/// A job under way.
#[derive(Debug)]
struct Job {
    ticket: Ticket,
    version: TransformId,
    /// Whose batch it is; without one the lane's first.
    source: PartitionKey,
    keepers: Vec<Keeper>,
    /// The batch as the worker has it, and where the lane stands when its result is committed; `None`:
    /// time passed.
    input: Option<Input>,
}

/// What a job is for.
#[derive(Debug)]
enum Given {
    /// Records of a source.
    Batch(PartitionKey, Input),
    /// Timers that were due at the last one and had no room.
    Timers,
    /// The time that passed.
    Time,
}

/// A batch for a job.
#[derive(Debug)]
struct Input {
    batch: millpond_wire::record::Batch,
    /// The first offset behind it.
    upto: i64,
    records: u64,
}

impl Derives {
    /// None yet: the first event finds out which there are.
    pub(crate) fn new() -> Derives {
        Derives { is_stale: true, ..Derives::default() }
    }

    /// A partition may have more to read.
    pub(crate) fn touch(&mut self, key: PartitionKey) {
        if !self.lanes.is_empty() {
            self.touched.insert(key);
        }
    }
}

impl Engine {
    /// The source and the transforms with state of a job under way.
    pub(crate) fn job_of(&self, ticket: Ticket) -> Option<(PartitionKey, Vec<Keeper>)> {
        match self.tickets.get(&ticket)? {
            Work::Inline(key) | Work::Idle(key) => {
                let log = self.state.catalog.partition(*key)?;
                Some((*key, log.pending.keepers_of(ticket)?.to_vec()))
            }
            Work::Derive(id) => match &self.derives.lanes.get(id)?.busy {
                Busy::Running(job) if job.ticket == ticket => {
                    Some((job.source, job.keepers.clone()))
                }
                _ => None,
            },
        }
    }
}
