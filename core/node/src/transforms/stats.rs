//! What a transform did since the node started.

use serde::{Deserialize, Serialize};

/// Counts of one transform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TransformStats {
    /// Batches given to it.
    pub(crate) batches: u64,
    /// Records given to it.
    pub(crate) records_in: u64,
    /// Records that it kept as they were.
    pub(crate) records_kept: u64,
    /// Records that it dropped.
    pub(crate) records_dropped: u64,
    /// Records that it made, in place of one or besides.
    pub(crate) records_emitted: u64,
    /// Records that it failed on; its policy was applied.
    pub(crate) records_failed: u64,
    /// Calls that trapped, overran or lied.
    pub(crate) faults: u64,
    /// Of these, calls that were stopped for their processor time.
    pub(crate) overruns: u64,
    /// Processor time within it, in nanoseconds.
    pub(crate) cpu_ns: u64,
}

impl TransformStats {
    /// Records by what was done with them, for metrics.
    pub(crate) fn by_outcome(&self) -> [(&'static str, u64); 4] {
        [
            ("kept", self.records_kept),
            ("dropped", self.records_dropped),
            ("emitted", self.records_emitted),
            ("failed", self.records_failed),
        ]
    }

    /// Adds what one more run did.
    pub(crate) fn add(&mut self, other: &Self) {
        self.batches += other.batches;
        self.records_in += other.records_in;
        self.records_kept += other.records_kept;
        self.records_dropped += other.records_dropped;
        self.records_emitted += other.records_emitted;
        self.records_failed += other.records_failed;
        self.faults += other.faults;
        self.overruns += other.overruns;
        self.cpu_ns += other.cpu_ns;
    }
}

/// A transform's state as metrics and HTTP show it.
#[derive(Clone, Debug, Default)]
pub(crate) struct TransformReport {
    pub(crate) name: String,
    /// In all versions.
    pub(crate) stats: TransformStats,
    /// The one in force, and its canary.
    pub(crate) versions: Vec<VersionReport>,
    /// Why it cannot run, if so: every batch of its topics is refused until it is deployed anew or
    /// deleted.
    pub(crate) fault: Option<String>,
}

/// A version that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct VersionReport {
    /// The user's label.
    pub(crate) version: String,
    /// The deployment's number.
    pub(crate) id: u64,
    pub(crate) stats: TransformStats,
    /// Why it cannot run, if so.
    pub(crate) fault: Option<String>,
}
