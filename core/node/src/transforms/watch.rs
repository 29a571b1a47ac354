//! Watching how often a version fails, so that one that fails too often is rolled back by itself,
//! once. It decides nothing about where to go back to.

use std::collections::BTreeMap;
use std::sync::Mutex;

use millpond_engine::transform::Deployment;
use millpond_transform::{ErrorRate, ErrorRateLimit};
use millpond_wire::limits::{
    DEFAULT_TRANSFORM_ROLLBACK_PERCENT, DEFAULT_TRANSFORM_ROLLBACK_RECORDS,
};

use super::service::lock;

/// Failed records of 100 from which on a version is rolled back; 0: never.
pub(crate) const PERCENT: &str = "rollback_error_percent";
/// Records that it must have seen before.
pub(crate) const RECORDS: &str = "rollback_min_records";
/// The window is so much larger than what must have been seen.
const WINDOW_FACTOR: u64 = 10;

/// The failures of one version. Says only once that they are too many.
#[derive(Debug)]
pub(crate) struct Watch {
    rate: Mutex<Option<ErrorRate>>,
}

impl Watch {
    /// Of a version that has something to go back to, unless its limits say no.
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let rate = match deployment.previous {
            Some(_) => limit(&deployment.spec.limits).ok().flatten(),
            None => None,
        };
        Self { rate: Mutex::new(rate.and_then(|limit| ErrorRate::new(limit).ok())) }
    }

    /// Counts a run. Once failures are too many: records looked at, and how many of them failed.
    pub(crate) fn count(&self, records: u64, failed: u64) -> Option<(u64, u64)> {
        let mut place = lock(&self.rate);
        let rate = place.as_mut()?;
        if !rate.add(records, failed) {
            return None;
        }
        let counts = rate.counts();
        *place = None;
        Some(counts)
    }
}

/// What the limits of a specification say; `None`: it is never rolled back by itself.
///
/// # Errors
/// What cannot be, for people.
pub(crate) fn limit(limits: &BTreeMap<String, u64>) -> Result<Option<ErrorRateLimit>, String> {
    let named = |name: &str, default| limits.get(name).copied().unwrap_or(default);
    let percent = named(PERCENT, DEFAULT_TRANSFORM_ROLLBACK_PERCENT);
    let minimum_records = named(RECORDS, DEFAULT_TRANSFORM_ROLLBACK_RECORDS);
    if percent == 0 {
        return Ok(None);
    }
    let limit = ErrorRateLimit {
        window_records: minimum_records.saturating_mul(WINDOW_FACTOR).max(WINDOW_FACTOR * 10),
        threshold_percent: u32::try_from(percent).unwrap_or(u32::MAX),
        minimum_records,
    };
    ErrorRate::new(limit).map_err(|e| format!("{PERCENT}, {RECORDS}: {e}"))?;
    Ok(Some(limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_engine::transform::TransformSpec;

    fn deployment(percent: u64) -> Deployment {
        let limits = BTreeMap::from([(PERCENT.to_owned(), percent), (RECORDS.to_owned(), 20)]);
        let spec = TransformSpec { limits, ..TransformSpec::default() };
        let previous = Some(Box::new(TransformSpec::default()));
        Deployment { spec, previous, ..Deployment::default() }
    }

    #[test]
    fn too_many_failures_are_told_once() {
        let watch = Watch::of(&deployment(30));
        assert_eq!(watch.count(19, 19), None, "not enough was seen");
        assert_eq!(watch.count(41, 0), Some((60, 19)));
        assert_eq!(watch.count(100, 100), None);
    }

    #[test]
    fn what_has_nothing_to_go_back_to_or_was_told_not_to_is_not_watched() {
        let first = Deployment { previous: None, ..deployment(1) };
        for deployment in [first, deployment(0)] {
            assert_eq!(Watch::of(&deployment).count(1_000, 1_000), None);
        }
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_named() {
        let limits = BTreeMap::from([(PERCENT.to_owned(), 101)]);
        assert!(limit(&limits).unwrap_err().contains(PERCENT));
    }
}
