//! What becomes of a record that a transform failed on.
//!
//! No policy loses a record without a trace: what is skipped is counted and logged.

use millpond_wire::limits;

/// What to do with a record that a transform failed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailurePolicy {
    /// How often a record for which the module ran out of CPU time is run again, in a fresh
    /// instance, after a wait that doubles each time. No other failure passes by itself: the same
    /// record, state and seed give the same trap, lie or verdict again. (What failed in an
    /// instance that had run other records is always tried once in a fresh one.)
    pub retries: u32,
    /// What to do if that did not help.
    pub then: OnFailure,
}

impl FailurePolicy {
    /// Wait before a try, in ms; `attempt` counts from 0.
    pub(crate) fn wait_ms(attempt: u32) -> u64 {
        let doubled = limits::TRANSFORM_RETRY_WAIT_MS_MIN.checked_shl(attempt);
        doubled.unwrap_or(u64::MAX).min(limits::TRANSFORM_RETRY_WAIT_MS_MAX)
    }

    /// Retries no more often than the program allows.
    pub(crate) fn retries(self) -> u32 {
        self.retries.min(limits::TRANSFORM_RETRIES_MAX)
    }
}

impl Default for FailurePolicy {
    fn default() -> Self {
        FailurePolicy { retries: 0, then: OnFailure::DeadLetter }
    }
}

/// The last resort for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The record as the transform got it goes to the dead-letter topic; headers say why.
    #[default]
    DeadLetter,
    /// The record is dropped, counted and logged.
    Skip,
    /// The record goes on unchanged.
    Pass,
    /// The whole batch is refused; the producer gets an error for it.
    Reject,
}

impl OnFailure {
    /// The name in configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            OnFailure::DeadLetter => "dead-letter",
            OnFailure::Skip => "skip",
            OnFailure::Pass => "pass",
            OnFailure::Reject => "reject",
        }
    }

    /// The policy of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [OnFailure::DeadLetter, OnFailure::Skip, OnFailure::Pass, OnFailure::Reject]
            .into_iter()
            .find(|policy| policy.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_before_a_retry_doubles_to_its_cap() {
        let waits = (0..7).map(FailurePolicy::wait_ms).collect::<Vec<_>>();
        assert_eq!(waits, [5, 10, 20, 40, 80, 100, 100]);
        assert_eq!(FailurePolicy::wait_ms(u32::MAX), limits::TRANSFORM_RETRY_WAIT_MS_MAX);
    }
}
