//! What was sent, acknowledged and seen again, record by record, and whether that adds up. It never forgives: a
//! record that was acknowledged and that the filter keeps must be seen exactly once, in order, and no other.

use std::collections::HashMap;

/// A sender, by its place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceId(usize);

/// Everything that was sent in this run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    sources: Vec<Source>,
    by_name: HashMap<String, SourceId>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Source {
    /// By sequence number.
    records: Vec<Fate>,
    last_seen: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// Whether the filter must let it through.
    is_kept: bool,
    ack: Ack,
    seen: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ack {
    #[default]
    Waiting,
    Acknowledged,
    /// Not delivered, for certain.
    Refused,
    /// Not acknowledged, but perhaps written.
    Uncertain,
}

/// How a delivery that failed ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The record is not in the log.
    NotWritten,
    /// It may be.
    MayBeWritten,
}

/// Counts over all records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Tally {
    /// Handed to a producer.
    pub(crate) sent: u64,
    /// Acknowledged: on flash, as far as the node says.
    pub(crate) acknowledged: u64,
    /// Acknowledged, and the filter must keep them.
    pub(crate) expected: u64,
    /// Expected, and seen by a consumer.
    pub(crate) arrived: u64,
    /// Not acknowledged.
    pub(crate) failed: u64,
    /// Not acknowledged, but perhaps written.
    pub(crate) uncertain: u64,
    /// Seen more than once at different offsets.
    pub(crate) twice: u64,
    /// Seen although the filter must drop them.
    pub(crate) leaked: u64,
    /// Seen after a later record of the same sender.
    pub(crate) out_of_order: u64,
    /// Seen, but sent by nobody in this run.
    pub(crate) unknown: u64,
}

impl Tally {
    /// Expected, and never seen.
    pub(crate) fn missing(&self) -> u64 {
        self.expected - self.arrived
    }

    /// Whether every acknowledged record that the filter keeps was seen exactly once, in order, and nothing else.
    pub(crate) fn adds_up(&self) -> bool {
        self.acknowledged > 0
            && self.missing() == 0
            && self.twice == 0
            && self.leaked == 0
            && self.out_of_order == 0
            && self.unknown == 0
    }
}

impl Ledger {
    /// Opens the account of a sender. A name is given once.
    pub(crate) fn open(&mut self, name: &str) -> SourceId {
        let id = SourceId(self.sources.len());
        self.sources.push(Source::default());
        self.by_name.insert(name.to_owned(), id);
        id
    }

    /// The next record of a sender is on its way.
    pub(crate) fn sent(&mut self, source: SourceId, is_kept: bool) {
        if let Some(source) = self.sources.get_mut(source.0) {
            source.records.push(Fate { is_kept, ..Fate::default() });
            self.tally.sent += 1;
        }
    }

    /// A record was acknowledged. It may have been seen already.
    pub(crate) fn acknowledged(&mut self, source: SourceId, seq: u32) {
        let Some(fate) = self.fate(source, seq).filter(|fate| fate.ack == Ack::Waiting) else {
            return;
        };
        fate.ack = Ack::Acknowledged;
        let fate = *fate;
        self.tally.acknowledged += 1;
        if fate.is_kept {
            self.tally.expected += 1;
            self.tally.arrived += u64::from(fate.seen > 0);
        }
    }

    /// A record was not acknowledged, and will not be.
    pub(crate) fn failed(&mut self, source: SourceId, seq: u32, failure: Failure) {
        let Some(fate) = self.fate(source, seq).filter(|fate| fate.ack == Ack::Waiting) else {
            return;
        };
        fate.ack = match failure {
            Failure::NotWritten => Ack::Refused,
            Failure::MayBeWritten => Ack::Uncertain,
        };
        self.tally.failed += 1;
        self.tally.uncertain += u64::from(failure == Failure::MayBeWritten);
    }

    /// A consumer saw a record, at an offset at which it had seen none before.
    pub(crate) fn seen(&mut self, name: &str, seq: u32) {
        let Some(source) = self.by_name.get(name).copied() else {
            self.tally.unknown += 1;
            return;
        };
        let Some(fate) = self.fate(source, seq) else {
            self.tally.unknown += 1;
            return;
        };
        fate.seen += 1;
        let fate = *fate;
        match fate.seen {
            1 if !fate.is_kept => self.tally.leaked += 1,
            1 if fate.ack == Ack::Acknowledged => self.tally.arrived += 1,
            1 => {}
            _ => self.tally.twice += 1,
        }
        if let Some(source) = self.sources.get_mut(source.0) {
            self.tally.out_of_order += u64::from(source.last_seen.is_some_and(|last| seq < last));
            source.last_seen = source.last_seen.max(Some(seq));
        }
    }

    /// The counts as they stand.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Names and numbers of records that are expected and were not seen, at most `limit`.
    pub(crate) fn missing(&self, limit: usize) -> Vec<String> {
        let mut names: Vec<(&String, &SourceId)> = self.by_name.iter().collect();
        names.sort_unstable();
        let of_source = |(name, id): (&String, &SourceId)| {
            let records = self.sources.get(id.0).map_or(&[][..], |source| &source.records);
            let missing = records.iter().enumerate();
            let missing =
                missing.filter(|(_, f)| f.is_kept && f.ack == Ack::Acknowledged && f.seen == 0);
            missing.map(|(seq, _)| format!("{name} #{seq}")).collect::<Vec<String>>()
        };
        names.into_iter().flat_map(of_source).take(limit).collect()
    }

    fn fate(&mut self, source: SourceId, seq: u32) -> Option<&mut Fate> {
        self.sources.get_mut(source.0)?.records.get_mut(seq as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender with three records, of which the filter keeps the first and the last; all acknowledged.
    fn three() -> Ledger {
        let mut ledger = Ledger::default();
        let source = ledger.open("a");
        for (seq, is_kept) in [(0, true), (1, false), (2, true)] {
            ledger.sent(source, is_kept);
            ledger.acknowledged(source, seq);
        }
        ledger
    }

    #[test]
    fn all_kept_records_seen_once_in_order_add_up() {
        let mut ledger = three();
        ledger.seen("a", 0);
        assert!(!ledger.tally().adds_up());
        assert_eq!(ledger.missing(9), ["a #2"]);
        ledger.seen("a", 2);
        let tally = ledger.tally();
        assert!(tally.adds_up(), "{tally:?}");
        assert_eq!((tally.sent, tally.acknowledged, tally.expected, tally.arrived), (3, 3, 2, 2));
    }

    #[test]
    fn a_record_seen_before_its_acknowledgement_counts_once() {
        let mut ledger = Ledger::default();
        let source = ledger.open("a");
        ledger.sent(source, true);
        ledger.seen("a", 0);
        assert_eq!(ledger.tally().arrived, 0);
        ledger.acknowledged(source, 0);
        ledger.acknowledged(source, 0);
        assert!(ledger.tally().adds_up());
        assert_eq!(ledger.tally().arrived, 1);
    }

    #[test]
    fn whatever_is_seen_wrongly_does_not_add_up() {
        type Wrong = fn(&mut Ledger);
        let wrongs: [(Wrong, &str); 5] = [
            (|ledger| ledger.seen("a", 2), "twice"),
            (|ledger| ledger.seen("a", 1), "leaked and out of order"),
            (|ledger| ledger.seen("b", 0), "of an unknown sender"),
            (|ledger| ledger.seen("a", 3), "never sent"),
            (
                |ledger| {
                    let source = ledger.open("c");
                    ledger.sent(source, true);
                    ledger.acknowledged(source, 0);
                },
                "missing",
            ),
        ];
        for (wrong, name) in wrongs {
            let mut ledger = three();
            ledger.seen("a", 0);
            ledger.seen("a", 2);
            wrong(&mut ledger);
            assert!(!ledger.tally().adds_up(), "{name}");
        }
    }

    #[test]
    fn what_was_never_acknowledged_need_not_be_seen_and_may_be() {
        for failure in [Failure::NotWritten, Failure::MayBeWritten] {
            let mut ledger = three();
            let source = ledger.open("b");
            ledger.sent(source, true);
            ledger.failed(source, 0, failure);
            ledger.seen("a", 0);
            ledger.seen("a", 2);
            assert!(ledger.tally().adds_up());
            ledger.seen("b", 0);
            assert!(ledger.tally().adds_up());
            assert_eq!(ledger.tally().failed, 1);
        }
    }

    #[test]
    fn nothing_at_all_does_not_add_up() {
        assert!(!Ledger::default().tally().adds_up());
    }
}
