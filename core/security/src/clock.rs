//! What time it is for certificates, where clocks lie. The one place of the rule that
//! `firmware-notes/identity.md` tells to people:
//!
//! 1. The time is that of the machine's clock, but never earlier than the floor: when this program
//!    was released, or the latest time that the node has kept, whichever is later.
//! 2. A clock before the floor is not set. Then what ended before the floor has ended, and from when
//!    a certificate is valid is not judged, for nobody can know.
//!
//! So nothing that has expired is let in because it is 1970, and nothing good is refused because it
//! is. It never reads a clock by itself: how to read one is handed in.

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// 2026-11-01, in seconds since 1970; moved on with every release.
const RELEASED_S: u64 = 1_793_491_200;

/// When this program was released; a build that says its own time (`SOURCE_DATE_EPOCH`) later than
/// that is taken at its word.
pub const BUILT_S: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => match u64::from_str_radix(text, 10) {
        Ok(said) if said > RELEASED_S => said,
        _ => RELEASED_S,
    },
    None => RELEASED_S,
};

/// The machine's clock, held above a floor. Times are seconds since 1970.
pub struct HeldClock {
    read: Box<dyn Fn() -> u64 + Send + Sync>,
    floor_s: AtomicU64,
}

impl HeldClock {
    /// A clock that is read by `read`; `kept_s` is the latest time that was kept of runs before, 0
    /// for none.
    pub fn new(read: impl Fn() -> u64 + Send + Sync + 'static, kept_s: u64) -> Self {
        Self { read: Box::new(read), floor_s: AtomicU64::new(kept_s.max(BUILT_S)) }
    }

    /// The time by the rule.
    pub fn now_s(&self) -> u64 {
        (self.read)().max(self.floor_s())
    }

    /// Before this it cannot be.
    pub fn floor_s(&self) -> u64 {
        self.floor_s.load(Relaxed)
    }

    /// Whether the machine's clock is not before the floor.
    pub fn is_set(&self) -> bool {
        (self.read)() >= self.floor_s()
    }

    /// It was so late once: never earlier from here on.
    pub fn advance(&self, to_s: u64) {
        self.floor_s.fetch_max(to_s, Relaxed);
    }

    /// The time at which a certificate is judged that is valid from `from_s` on.
    pub fn judging_s(&self, from_s: u64) -> u64 {
        let (read, floor) = ((self.read)(), self.floor_s());
        if read >= floor { read } else { floor.max(from_s) }
    }
}

impl fmt::Debug for HeldClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldClock").field("floor_s", &self.floor_s()).finish_non_exhaustive()
    }
}

impl TimeProvider for HeldClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now_s())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_1970_is_held_at_the_floor_and_begins_are_not_judged() {
        let kept = BUILT_S + 1_000;
        let clock = HeldClock::new(|| 5, kept);
        assert!(!clock.is_set());
        assert_eq!((clock.now_s(), clock.judging_s(0)), (kept, kept));
        assert_eq!(clock.judging_s(kept + 7), kept + 7, "nobody can know that it is not valid yet");
    }

    #[test]
    fn a_clock_that_is_set_is_believed() {
        let clock = HeldClock::new(|| BUILT_S + 10, 0);
        assert!(clock.is_set());
        assert_eq!((clock.now_s(), clock.judging_s(BUILT_S + 99)), (BUILT_S + 10, BUILT_S + 10));
    }

    #[test]
    fn the_floor_only_rises_and_never_falls_below_the_build() {
        let clock = HeldClock::new(|| 0, 7);
        assert_eq!(clock.floor_s(), BUILT_S);
        clock.advance(BUILT_S + 5);
        clock.advance(BUILT_S + 3);
        assert_eq!(clock.now_s(), BUILT_S + 5);
    }
}
