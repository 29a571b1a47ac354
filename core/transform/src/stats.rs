//! What a run cost and did, for the metrics.

use std::time::Duration;

/// What one transform did with one batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageStats {
    /// The transform's name.
    pub transform: String,
    /// Records that came to it.
    pub records_in: u64,
    /// Records that went on as they were, by its verdict.
    pub kept: u64,
    /// Records that it dropped, those included in whose place it emitted others.
    pub dropped: u64,
    /// Records that it made.
    pub emitted: u64,
    /// Records that it failed on; what became of them is its policy.
    pub failed: u64,
    /// Calls that trapped, overran or lied.
    pub faults: u64,
    /// Of these, calls that were stopped for their CPU time.
    pub overruns: u64,
    /// Calls in all: one, unless something failed.
    pub calls: u64,
    /// Instances made.
    pub instances_started: u64,
    /// Time spent in the guest and on its buffers.
    pub cpu: Duration,
    /// Log lines that were not kept.
    pub log_lines_dropped: u64,
}
