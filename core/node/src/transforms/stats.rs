//! What a transform did since the node started, in the forms that metrics and HTTP show.

use std::collections::BTreeMap;

use millpond_transform::{FailureReason, StageTotals};
use serde::{Deserialize, Serialize};

/// Counts of one transform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TransformStats {
    /// Batches given to it.
    pub(crate) batches: u64,
    /// Records given to it.
    pub(crate) records_in: u64,
    /// Bytes of their keys, values and headers.
    pub(crate) bytes_in: u64,
    /// Bytes of what went on.
    pub(crate) bytes_out: u64,
    /// Records that it kept as they were.
    pub(crate) records_kept: u64,
    /// Records that it put another one or several in place of.
    pub(crate) records_changed: u64,
    /// Records that it dropped without any in their place.
    pub(crate) records_dropped: u64,
    /// Records that it made, in place of one or besides.
    pub(crate) records_emitted: u64,
    /// Of these, those for other topics.
    pub(crate) records_routed: u64,
    /// Records that it failed on; its policy was applied.
    pub(crate) records_failed: u64,
    /// Why, and why timers failed: those reasons that there were.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Calls that trapped, overran or lied.
    pub(crate) faults: u64,
    /// Of these, calls that were stopped for their processor time.
    pub(crate) overruns: u64,
    /// Records tried again alone.
    pub(crate) retries: u64,
    /// Instances made because one had failed.
    pub(crate) restarts: u64,
    /// Timers that fired.
    pub(crate) timers: u64,
    /// Processor time within it, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Linear memory of the instance that ran last.
    pub(crate) memory_bytes: u64,
    /// State of the partition that ran last.
    pub(crate) state_bytes: u64,
}

impl TransformStats {
    pub(crate) fn of(totals: &StageTotals) -> Self {
        let stats = &totals.stats;
        let named = |(reason, count): (FailureReason, u64)| {
            (count > 0).then(|| (reason.name().to_owned(), count))
        };
        Self {
            batches: totals.runs,
            records_in: stats.records_in,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            records_kept: stats.kept,
            records_changed: stats.replaced,
            records_dropped: stats.dropped.saturating_sub(stats.replaced),
            records_emitted: stats.emitted,
            records_routed: stats.routed,
            records_failed: stats.failed,
            failures: stats.failures.iter().filter_map(named).collect(),
            faults: stats.faults,
            overruns: stats.overruns,
            retries: stats.retries,
            restarts: stats.instances_restarted,
            timers: stats.timers,
            cpu_ns: u64::try_from(stats.cpu.as_nanos()).unwrap_or(u64::MAX),
            memory_bytes: stats.memory_bytes,
            state_bytes: stats.state_bytes,
        }
    }
}

/// A transform's state as metrics and HTTP show it.
#[derive(Clone, Debug, Default)]
pub(crate) struct TransformReport {
    pub(crate) name: String,
    /// In all versions.
    pub(crate) totals: StageTotals,
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
    pub(crate) totals: StageTotals,
    /// Why it cannot run, if so.
    pub(crate) fault: Option<String>,
}
