//! Why a call of a guest failed, in words for the log and for a dead letter.
//!
//! A fault is always the guest's, but for [`Fault::Unavailable`], which must never be laid at a
//! record's door.

use thiserror::Error;

/// Why a call of a guest failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The guest ran into a trap.
    #[error("trap: {0}")]
    Trap(String),
    /// The guest ended the call itself (a panic).
    #[error("aborted: {0}")]
    Abort(String),
    /// The guest was still running when its CPU time was spent.
    #[error("stopped after {cpu_ms} ms of CPU time")]
    Overrun {
        /// The budget that was spent, in ms.
        cpu_ms: u64,
    },
    /// The guest asked for more memory than it may have, and failed.
    #[error("out of memory: the limit is {limit_bytes} bytes")]
    Memory {
        /// The transform's limit.
        limit_bytes: usize,
    },
    /// What the guest gave does not follow the contract.
    #[error("not by the contract: {0}")]
    Lie(Lie),
    /// The guest made too much.
    #[error("output above the limit of {limit} {unit}")]
    TooMuchOutput {
        /// What is left of the batch's limit.
        limit: usize,
        /// Bytes or records.
        unit: &'static str,
    },
    /// The guest did not start.
    #[error("cannot start: {0}")]
    Init(Box<Fault>),
    /// What may be spent on a batch of failing records was spent before this one was run alone.
    #[error("not run again alone: too many records of the batch failed before it")]
    NotTried,
    /// The node has no memory left for an instance. Not the guest's fault.
    #[error("the node has no memory left for transforms ({limit_bytes} bytes in all)")]
    Unavailable {
        /// The node's limit.
        limit_bytes: usize,
    },
}

/// How a guest's answer breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Lie {
    /// An address and a length that leave the guest's memory.
    #[error("{what} at {address:#x}, {bytes} bytes, leaves the memory of {memory_bytes} bytes")]
    OutOfBounds {
        /// What should be there.
        what: &'static str,
        /// The address.
        address: u32,
        /// The length.
        bytes: u64,
        /// Size of the memory.
        memory_bytes: usize,
    },
    /// The output does not start as one does.
    #[error("the output has no header of version 1")]
    NoHeader,
    /// Not one verdict for each record.
    #[error("{verdicts} verdicts for {records} records")]
    VerdictCount {
        /// As given.
        verdicts: u32,
        /// As sent.
        records: usize,
    },
    /// A verdict that does not exist.
    #[error("unknown verdict {0}")]
    UnknownVerdict(u32),
    /// Verdicts and emitted records do not add up.
    #[error("the verdicts speak of {claimed} emitted records, there are {emitted}")]
    EmitCount {
        /// Sum of the verdicts.
        claimed: u64,
        /// As given.
        emitted: u32,
    },
    /// More headers than a record may have.
    #[error("a record with {0} headers")]
    HeaderCount(u32),
    /// A single record above what a batch can hold.
    #[error("a record of {0} bytes")]
    RecordTooLarge(usize),
    /// A destination that no topic can have as its name.
    #[error("a topic's name of {0} bytes that is none")]
    TopicName(u32),
    /// A timestamp that no record can have.
    #[error("the timestamp {0}")]
    Timestamp(i64),
    /// The allocator gave no aligned room.
    #[error("millpond_alloc gave {address:#x}, which is not aligned to 16")]
    Unaligned {
        /// What it gave.
        address: u32,
    },
    /// The allocator gave nothing.
    #[error("millpond_alloc gave no room for an input of {bytes} bytes")]
    NoRoom {
        /// What was asked for.
        bytes: usize,
    },
}

impl From<Lie> for Fault {
    fn from(lie: Lie) -> Self {
        Fault::Lie(lie)
    }
}
