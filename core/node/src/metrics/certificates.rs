//! What is known of certificates, for a scrape: when they end, what was read anew and what could not be, what is
//! revoked. Set by who looks after the files; holds no certificate and no name of a file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::exposition::Exposition;

/// What stands in a listener's certificates. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateState {
    /// When the first of each kind ends.
    pub(crate) not_after_s: Vec<(&'static str, u64)>,
    /// Certificates on its revocation lists, where it has any.
    pub(crate) revoked: Option<u64>,
    /// When the first list should be followed by another.
    pub(crate) next_update_s: Option<u64>,
}

/// By listener, of which there are a few.
#[derive(Debug, Default)]
pub(crate) struct CertificateBoard {
    by_listener: Mutex<BTreeMap<String, Shown>>,
    is_clock_set: AtomicBool,
}

#[derive(Debug, Default)]
struct Shown {
    state: CertificateState,
    taken: u64,
    refused: u64,
    /// The last reading was refused.
    is_stale: bool,
}

impl CertificateBoard {
    pub(crate) fn set(&self, listener: &str, state: &CertificateState) {
        let mut all = self.lock();
        let shown = all.entry(listener.to_owned()).or_default();
        if shown.state != *state {
            shown.state = state.clone();
        }
    }

    pub(crate) fn set_clock(&self, is_set: bool) {
        self.is_clock_set.store(is_set, Relaxed);
    }

    /// Files were read anew, and taken or not.
    pub(crate) fn reloaded(&self, listener: &str, is_taken: bool) {
        let mut all = self.lock();
        let shown = all.entry(listener.to_owned()).or_default();
        shown.is_stale = !is_taken;
        if is_taken {
            shown.taken += 1;
        } else {
            shown.refused += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Shown>> {
        self.by_listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn render(out: &mut Exposition, board: &CertificateBoard) {
    let all = board.lock();
    out.gauge("millpond_clock_set", "1 if the clock is not before a time that was once.")
        .count(u64::from(board.is_clock_set.load(Relaxed)));
    let mut ends = out.gauge(
        "millpond_certificate_not_after_timestamp_seconds",
        "When the first certificate of this kind ends, in seconds since 1970.",
    );
    for (listener, shown) in all.iter() {
        for (kind, not_after_s) in &shown.state.not_after_s {
            ends.add_count(&[("listener", listener), ("kind", kind)], *not_after_s);
        }
    }
    let mut reloads = out.counter(
        "millpond_certificate_reloads_total",
        "Readings of changed files of certificates, by whether they were taken.",
    );
    for (listener, shown) in all.iter() {
        for (outcome, n) in [("taken", shown.taken), ("refused", shown.refused)] {
            reloads.add_count(&[("listener", listener), ("outcome", outcome)], n);
        }
    }
    let mut stale = out.gauge(
        "millpond_certificate_files_stale",
        "1 if the files cannot be used and those of before are in force.",
    );
    for (listener, shown) in all.iter() {
        stale.add_count(&[("listener", listener)], u64::from(shown.is_stale));
    }
    let mut revoked =
        out.gauge("millpond_revoked_certificates", "Certificates on the revocation lists.");
    for (listener, shown) in all.iter() {
        if let Some(n) = shown.state.revoked {
            revoked.add_count(&[("listener", listener)], n);
        }
    }
    let mut updates = out.gauge(
        "millpond_revocation_list_next_update_timestamp_seconds",
        "When the first revocation list should be followed by another; it counts beyond that.",
    );
    for (listener, shown) in all.iter() {
        if let Some(next_s) = shown.state.next_update_s {
            updates.add_count(&[("listener", listener)], next_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_readings_and_lists_are_served() {
        let board = CertificateBoard::default();
        board.set_clock(true);
        let state = CertificateState {
            not_after_s: vec![("server", 1_900_000_000)],
            revoked: Some(2),
            next_update_s: Some(1_800_000_000),
        };
        board.set("plant", &state);
        board.reloaded("plant", true);
        board.reloaded("plant", false);
        let mut out = Exposition::default();
        render(&mut out, &board);
        let text = out.encode().unwrap();
        for line in [
            "millpond_clock_set 1",
            "millpond_certificate_not_after_timestamp_seconds{listener=\"plant\",kind=\"server\"} 1900000000",
            "millpond_certificate_reloads_total{listener=\"plant\",outcome=\"taken\"} 1",
            "millpond_certificate_reloads_total{listener=\"plant\",outcome=\"refused\"} 1",
            "millpond_certificate_files_stale{listener=\"plant\"} 1",
            "millpond_revoked_certificates{listener=\"plant\"} 2",
            "millpond_revocation_list_next_update_timestamp_seconds{listener=\"plant\"} 1800000000",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
