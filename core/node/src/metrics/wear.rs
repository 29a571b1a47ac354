//! What a load does to a card: the arithmetic, shared by `/metrics` and `millpond doctor`. Pure.

use std::time::Duration;

/// Before a node has run so long, its average says nothing about its days.
pub(crate) const LIFE_KNOWN_AFTER: Duration = Duration::from_secs(600);
/// Of a day.
pub(crate) const DAY_SECONDS: f64 = 86_400.0;

/// Whether a cause belongs to the load. The ring is written in full once, when it is made: that
/// says nothing about the days to come, and what else is metadata is next to nothing.
pub(crate) fn is_of_load(cause: &str) -> bool {
    cause != "metadata"
}

/// How many days a new card of this endurance lasts if all days are as the time so far; `None`
/// while that is not known.
///
/// Left out are what other programs write, what the file system adds, and what the card was used
/// for before. What the card's own controller adds is in the maker's figure already.
#[allow(clippy::cast_precision_loss)] // Days, not bytes, are wanted.
pub(crate) fn life_days(endurance_bytes: u64, written_bytes: u64, over: Duration) -> Option<f64> {
    if over < LIFE_KNOWN_AFTER || written_bytes == 0 {
        return None;
    }
    let per_day = written_bytes as f64 / over.as_secs_f64() * DAY_SECONDS;
    Some(endurance_bytes as f64 / per_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_the_endurance_by_the_bytes_of_a_day() {
        let day = Duration::from_secs(86_400);
        assert_eq!(life_days(30_000, 10, day), Some(3_000.0));
        assert_eq!(life_days(30_000, 10, day / 2), Some(1_500.0));
        assert_eq!(life_days(30_000, 0, day), None);
        assert_eq!(life_days(30_000, 10, Duration::from_secs(60)), None);
        assert!(!is_of_load("metadata") && is_of_load("journal"));
    }
}
