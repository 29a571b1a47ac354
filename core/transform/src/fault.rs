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
    /// The guest changed more of its state than can be journalled with one batch.
    #[error("more than {limit_bytes} bytes of state changed for one batch")]
    TooMuchState {
        /// The cap.
        limit_bytes: usize,
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

impl Fault {
    /// What it counts as.
    pub fn reason(&self) -> FailureReason {
        match self {
            Fault::Trap(_) => FailureReason::Trap,
            Fault::Abort(_) => FailureReason::Abort,
            Fault::Overrun { .. } => FailureReason::Overrun,
            Fault::Memory { .. } => FailureReason::Memory,
            Fault::Lie(_) => FailureReason::Lie,
            Fault::TooMuchOutput { .. } => FailureReason::Output,
            Fault::TooMuchState { .. } => FailureReason::State,
            Fault::Init(_) => FailureReason::Start,
            Fault::NotTried => FailureReason::NotTried,
            Fault::Unavailable { .. } => FailureReason::Unavailable,
        }
    }

    /// Whether the same call may succeed at another time. All else that a guest does is decided by
    /// its input; only CPU time depends on what else the machine does.
    pub fn may_pass(&self) -> bool {
        matches!(self, Fault::Overrun { .. })
    }
}

/// Why a record failed, to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum FailureReason {
    /// The module said so itself, or sent the record where it may not.
    Verdict,
    /// A trap.
    Trap,
    /// The module ended the call (a panic).
    Abort,
    /// CPU time.
    Overrun,
    /// Memory.
    Memory,
    /// An answer that is not by the contract.
    Lie,
    /// Too much output.
    Output,
    /// Too much state.
    State,
    /// The module did not start.
    Start,
    /// Too many records of the batch had failed before.
    NotTried,
    /// The node's lack.
    Unavailable,
}

impl FailureReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [FailureReason; 11] = [
        FailureReason::Verdict,
        FailureReason::Trap,
        FailureReason::Abort,
        FailureReason::Overrun,
        FailureReason::Memory,
        FailureReason::Lie,
        FailureReason::Output,
        FailureReason::State,
        FailureReason::Start,
        FailureReason::NotTried,
        FailureReason::Unavailable,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            FailureReason::Verdict => "verdict",
            FailureReason::Trap => "trap",
            FailureReason::Abort => "abort",
            FailureReason::Overrun => "overrun",
            FailureReason::Memory => "memory",
            FailureReason::Lie => "lie",
            FailureReason::Output => "output",
            FailureReason::State => "state",
            FailureReason::Start => "start",
            FailureReason::NotTried => "not_tried",
            FailureReason::Unavailable => "unavailable",
        }
    }
}

impl From<Lie> for Fault {
    fn from(lie: Lie) -> Self {
        Fault::Lie(lie)
    }
}
