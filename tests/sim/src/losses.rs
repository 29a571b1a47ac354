//! What a declared window of loss excuses: records that were acknowledged shortly before the node
//! died, and only the last ones. Must never excuse what was acknowledged outside of such a window.

use crate::history::RecordId;
use std::collections::BTreeSet;

/// An answer travels for less, in ns: what arrives so long after the node died was sent before.
const TRAVEL_NS_MAX: u64 = 4_000_000;

/// Acknowledgements of one partition, as they arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acks {
    acks: Vec<Ack>,
}

#[derive(Clone, Copy, Debug)]
struct Ack {
    at_ns: u64,
    offset: i64,
    record: RecordId,
}

impl Acks {
    /// A record was acknowledged.
    pub(crate) fn note(&mut self, at_ns: u64, offset: i64, record: RecordId) {
        self.acks.push(Ack { at_ns, offset, record });
    }

    /// What is missing of `found`.
    pub(crate) fn missing(&self, found: &BTreeSet<RecordId>) -> BTreeSet<RecordId> {
        let records = self.acks.iter().map(|ack| ack.record);
        records.filter(|record| !found.contains(record)).collect()
    }

    /// What is missing of `found` and may be, the node having died at these times; or why it may
    /// not.
    pub(crate) fn excused(
        &self,
        found: &BTreeSet<RecordId>,
        deaths_ns: &[u64],
        window_ms: u64,
    ) -> Result<BTreeSet<RecordId>, String> {
        let mut excused = BTreeSet::new();
        for (index, death_ns) in deaths_ns.iter().enumerate() {
            let since_ns =
                index.checked_sub(1).map_or(0, |before| deaths_ns[before] + TRAVEL_NS_MAX);
            let life = since_ns..=death_ns + TRAVEL_NS_MAX;
            let acks: Vec<&Ack> =
                self.acks.iter().filter(|ack| life.contains(&ack.at_ns)).collect();
            let (kept, lost): (Vec<&Ack>, Vec<&Ack>) =
                acks.into_iter().partition(|ack| found.contains(&ack.record));
            check_loss(&kept, &lost, window_ms)?;
            excused.extend(lost.iter().map(|ack| ack.record));
        }
        Ok(excused)
    }
}

/// Whether what was lost at once is a tail of the log, acknowledged within one window.
fn check_loss(kept: &[&Ack], lost: &[&Ack], window_ms: u64) -> Result<(), String> {
    let Some(first) = lost.iter().min_by_key(|ack| ack.offset) else {
        return Ok(());
    };
    if let Some(later) = kept.iter().find(|ack| ack.offset > first.offset) {
        return Err(format!(
            "{} at {} is lost, and {} at {} behind it is not",
            first.record, first.offset, later.record, later.offset
        ));
    }
    let times = || lost.iter().map(|ack| ack.at_ns);
    let span_ns = times().max().unwrap_or(0) - times().min().unwrap_or(0);
    if span_ns > window_ms * 1_000_000 + TRAVEL_NS_MAX {
        let ms = span_ns / 1_000_000;
        return Err(format!("what was acknowledged within {ms} ms is lost at once"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn id(sequence: u32) -> RecordId {
        RecordId { producer: 0, sequence }
    }

    /// Record n acknowledged at offset n and 10 x n ms.
    fn acks() -> Acks {
        let mut acks = Acks::default();
        for n in 0..10_u32 {
            acks.note(u64::from(n) * 10 * MS, i64::from(n), id(n));
        }
        acks
    }

    fn excused(missing: &[u32], deaths_ms: &[u64]) -> Result<usize, String> {
        let found = (0..10).filter(|n| !missing.contains(n)).map(id).collect();
        let deaths: Vec<u64> = deaths_ms.iter().map(|ms| ms * MS).collect();
        acks().excused(&found, &deaths, 25).map(|lost| lost.len())
    }

    #[test]
    fn the_last_ones_before_a_death_may_go_and_nothing_else() {
        assert_eq!(excused(&[8, 9], &[95]), Ok(2));
        assert_eq!(excused(&[3, 4, 9], &[45, 95]), Ok(3));
        assert!(excused(&[7, 9], &[95]).is_err(), "8 is behind 7");
        assert!(excused(&[5, 6, 7, 8, 9], &[95]).is_err(), "more than a window");
        assert_eq!(excused(&[9], &[45]), Ok(0), "it was acknowledged after the last death");
    }
}
