//! Log lines about peers that misbehave: a few a second, the rest counted. A peer must not be able
//! to fill the log, which may be on the flash that the data is on.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in one window.
const LINES_MAX: u32 = 10;
/// Length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// A gate for log lines.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Complaints {
    /// Logs a warning about a peer, unless there were too many lately.
    pub(crate) fn warn(&self, peer: impl fmt::Display, what: impl fmt::Display) {
        if let Some(suppressed) = self.pass(Instant::now()) {
            if suppressed > 0 {
                tracing::warn!(suppressed, "more warnings about peers were left out");
            }
            tracing::warn!("{peer}: {what}");
        }
    }

    /// Whether a line may pass; if so, how many were suppressed before it.
    fn pass(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.begun.is_none_or(|begun| now.duration_since(begun) >= WINDOW) {
            window.begun = Some(now);
            window.lines = 0;
        }
        if window.lines >= LINES_MAX {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_the_next_second_is_free() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let passed = (0..1000).filter(|_| complaints.pass(start).is_some()).count();
        assert_eq!(passed, LINES_MAX as usize);
        assert_eq!(complaints.pass(start + WINDOW), Some(1000 - u64::from(LINES_MAX)));
        assert_eq!(complaints.pass(start + WINDOW), Some(0));
    }
}
