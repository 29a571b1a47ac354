//! The clock for certificates (the rule stands in `millpond_security::clock`), and the file that keeps how late it was
//! once. Must never keep a time that the clock has just jumped to.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millpond_security::HeldClock;
use millpond_wire::limits::{CLOCK_FLOOR_KEEP_MS, CLOCK_FLOOR_SETTLE_MS, CLOCK_JUMP_MS};

/// In the data directory; removing it forgets the time that was kept.
const FILE: &str = "clock-floor";

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The clock of a node with this data directory.
pub(super) fn open(data_dir: &Path) -> Arc<HeldClock> {
    let clock = Arc::new(HeldClock::new(|| wall().as_secs(), kept_s(data_dir)));
    if !clock.is_set() {
        tracing::warn!(
            "the clock is not set: it is before {} s since 1970, which was once; certificates that had \
             ended by then are refused, and none as not valid yet",
            clock.floor_s()
        );
    }
    clock
}

fn kept_s(data_dir: &Path) -> u64 {
    let mut text = String::new();
    let read =
        fs::File::open(data_dir.join(FILE)).and_then(|f| f.take(32).read_to_string(&mut text));
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
}

/// Keeps the time of a clock that runs evenly.
pub(super) struct FloorKeeper {
    path: PathBuf,
    clock: Arc<HeldClock>,
    last: (Instant, Duration),
    even_since: Instant,
    kept_at: Option<Instant>,
}

impl FloorKeeper {
    pub(super) fn new(data_dir: &Path, clock: Arc<HeldClock>) -> Self {
        let (now, path) = (Instant::now(), data_dir.join(FILE));
        Self { path, clock, last: (now, wall()), even_since: now, kept_at: None }
    }

    /// Looks at the clock, and keeps its time where it is due.
    pub(super) fn look(&mut self) {
        if let Some(time_s) = self.due(Instant::now(), wall()) {
            self.clock.advance(time_s);
            // Without it the next start knows less; that is said where it matters.
            if let Err(error) = keep(&self.path, time_s) {
                tracing::warn!("the time cannot be kept in {}: {error}", self.path.display());
            }
        }
    }

    /// The time that is to be kept now, if one is.
    fn due(&mut self, now: Instant, wall: Duration) -> Option<u64> {
        let (then, was) = std::mem::replace(&mut self.last, (now, wall));
        let (ran, went) = (now.duration_since(then), wall.saturating_sub(was));
        if ran.abs_diff(went) > Duration::from_millis(CLOCK_JUMP_MS) || wall < was {
            self.even_since = now;
        }
        let is_even =
            now.duration_since(self.even_since).as_millis() >= CLOCK_FLOOR_SETTLE_MS.into();
        let wait = Duration::from_millis(CLOCK_FLOOR_KEEP_MS);
        let is_due = self.kept_at.is_none_or(|at| now.duration_since(at) >= wait);
        if !is_even || !is_due || wall.as_secs() <= self.clock.floor_s() {
            return None;
        }
        self.kept_at = Some(now);
        Some(wall.as_secs())
    }
}

/// Whole or not at all.
fn keep(path: &Path, time_s: u64) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    writeln!(file, "{time_s}")?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLED: Duration = Duration::from_millis(CLOCK_FLOOR_SETTLE_MS);

    fn keeper(dir: &Path) -> (FloorKeeper, Duration) {
        let clock = open(dir);
        let wall = Duration::from_secs(clock.floor_s() + 1_000);
        let mut keeper = FloorKeeper::new(dir, clock);
        keeper.last.1 = wall;
        (keeper, wall)
    }

    #[test]
    fn a_time_is_kept_once_the_clock_has_run_evenly_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let (mut keeper, wall) = keeper(dir.path());
        let begun = keeper.even_since;
        let half = SETTLED / 2;
        assert_eq!(keeper.due(begun + half, wall + half), None);
        let year = Duration::from_secs(365 * 86_400);
        assert_eq!(keeper.due(begun + SETTLED, wall + SETTLED + year), None, "it has just jumped");
        let (at, later) = (begun + SETTLED * 2, wall + SETTLED * 2 + year);
        let kept = keeper.due(at, later).unwrap();
        assert_eq!(kept, later.as_secs());
        let soon = Duration::from_secs(60);
        assert_eq!(keeper.due(at + soon, later + soon), None, "flash is spared");
    }

    #[test]
    fn the_next_start_knows_the_time_that_was_kept_and_a_damaged_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, wall) = keeper(dir.path());
        keep(&keeper.path, wall.as_secs()).unwrap();
        assert_eq!(kept_s(dir.path()), wall.as_secs());
        assert_eq!(open(dir.path()).floor_s(), wall.as_secs());
        fs::write(dir.path().join(FILE), b"soon").unwrap();
        assert_eq!(kept_s(dir.path()), 0);
    }
}
