//! Judges what a broker kept: every acknowledged record once, in order, at its offset; every other
//! one at most once; committed offsets never behind. In one pass: time and memory are linear in
//! what was sent. Never talks to a broker: it is given what was promised and what was found.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// One producer's n-th record for one partition; the record's value names it. Counted from 0
/// without gaps, so that the checker can index instead of search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Which producer.
    pub producer: u32,
    /// Which of the records that this producer sent to this partition.
    pub sequence: u32,
}

/// A partition of the test's topic.
pub type Partition = i32;

/// What became of a record that was sent, as its producer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    /// No answer, or an error: it may stand once, or not at all.
    Open,
    /// Acknowledged at this offset.
    At(i64),
    /// Acknowledged without an offset (a module changed the batch): it stands once, somewhere.
    Somewhere,
    /// Acknowledged, and the module drops it: it stands nowhere.
    Nowhere,
}

/// What was sent and promised, gathered while the load runs.
///
/// A log is read while the load goes on. So a check takes two looks at the history: one from
/// before the reading, whose promises must be kept, and the one from after it, which knows of
/// everything that may have been found.
#[derive(Clone, Default)]
pub struct History {
    lanes: HashMap<(Partition, u32), Lane>,
    commits: HashMap<(String, Partition), Commits>,
}

/// The records of one producer for one partition, by sequence.
#[derive(Clone, Default)]
struct Lane {
    promises: Vec<Promise>,
}

/// The offset commits of a group for a partition.
#[derive(Clone, Copy, Default)]
struct Commits {
    acknowledged: Option<i64>,
    attempted: Option<i64>,
}

/// What a log may lack, for reasons that its owner has accepted.
#[derive(Clone, Debug, Default)]
pub struct Excuses {
    /// Offsets that the broker owns up to have damaged.
    pub unreadable: BTreeSet<i64>,
    /// Ranges that it owns up to have lost, the end of each not included.
    pub holes: Vec<(i64, i64)>,
    /// Acknowledged records that a declared window of loss covers.
    pub lost: BTreeSet<RecordId>,
}

impl Excuses {
    /// Whether what stands at an offset need not be shown.
    pub fn hides(&self, offset: i64) -> bool {
        self.unreadable.contains(&offset) || self.hole_at(offset).is_some()
    }

    /// The end of the hole in which an offset lies.
    fn hole_at(&self, offset: i64) -> Option<i64> {
        let hole = self.holes.iter().find(|(from, upto)| (*from..*upto).contains(&offset));
        hole.map(|(_, upto)| *upto)
    }

    /// How many offsets are hidden, at most.
    fn hidden(&self) -> u64 {
        let holes: u64 = self.holes.iter().map(|(from, upto)| from.abs_diff(*upto)).sum();
        holes + self.unreadable.len() as u64
    }
}

/// What does not hold; its text says it in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named in the sentences of Display")]
pub enum Violation {
    /// An acknowledged record is not there.
    Lost { partition: Partition, record: RecordId, promised: Option<i64> },
    /// A record stands where another was acknowledged.
    Moved { partition: Partition, record: RecordId, promised: i64, found: i64 },
    /// A record stands twice.
    Twice { partition: Partition, record: RecordId, first: i64, second: i64 },
    /// A record overtook an earlier one of its producer.
    Overtaken { partition: Partition, record: RecordId, offset: i64, behind: u32 },
    /// A record that nobody sent, or sent elsewhere.
    Invented { partition: Partition, record: RecordId, offset: i64 },
    /// A record that the module drops was kept.
    NotDropped { partition: Partition, record: RecordId, offset: i64 },
    /// An offset that is missing or served out of order.
    Gap { partition: Partition, expected: i64, found: i64 },
    /// A committed offset went back, or was never committed.
    Commit { group: String, partition: Partition, wanted: (i64, i64), found: i64 },
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Lost { partition, record, promised: Some(offset) } => {
                write!(out, "partition {partition}: {record} acknowledged at {offset} is lost")
            }
            Violation::Lost { partition, record, promised: None } => {
                write!(out, "partition {partition}: {record} was acknowledged and is lost")
            }
            Violation::Moved { partition, record, promised, found } => write!(
                out,
                "partition {partition}: {record} acknowledged at {promised} stands at {found}"
            ),
            Violation::Twice { partition, record, first, second } => {
                write!(out, "partition {partition}: {record} stands at {first} and at {second}")
            }
            Violation::Overtaken { partition, record, offset, behind } => write!(
                out,
                "partition {partition}: {record} at {offset} comes after sequence {behind}"
            ),
            Violation::Invented { partition, record, offset } => {
                write!(out, "partition {partition}: {record} at {offset} was never sent there")
            }
            Violation::NotDropped { partition, record, offset } => {
                write!(out, "partition {partition}: {record} at {offset} should be dropped")
            }
            Violation::Gap { partition, expected, found } => {
                write!(out, "partition {partition}: offset {expected} expected, {found} served")
            }
            Violation::Commit { group, partition, wanted: (low, high), found } => write!(
                out,
                "group {group}, partition {partition}: committed {found}, wanted {low}..={high}"
            ),
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "record {} of producer {}", self.sequence, self.producer)
    }
}

impl History {
    /// The next record of a producer for a partition is about to be sent.
    pub fn sending(&mut self, partition: Partition, producer: u32) -> RecordId {
        let lane = self.lanes.entry((partition, producer)).or_default();
        lane.promises.push(Promise::Open);
        RecordId { producer, sequence: (lane.promises.len() - 1) as u32 }
    }

    /// It was acknowledged, at an offset unless a module changed its batch.
    pub fn acknowledged(&mut self, partition: Partition, record: RecordId, offset: Option<i64>) {
        self.promise(partition, record, offset.map_or(Promise::Somewhere, Promise::At));
    }

    /// It was acknowledged, and a module drops it.
    pub fn acknowledged_and_dropped(&mut self, partition: Partition, record: RecordId) {
        self.promise(partition, record, Promise::Nowhere);
    }

    fn promise(&mut self, partition: Partition, record: RecordId, promise: Promise) {
        let lane = self.lanes.entry((partition, record.producer)).or_default();
        match lane.promises.get_mut(record.sequence as usize) {
            Some(slot) => *slot = promise,
            None => panic!("{record}: acknowledged, but never sent to partition {partition}"),
        }
    }

    /// A commit is about to be sent.
    pub fn committing(&mut self, group: &str, partition: Partition, offset: i64) {
        let commits = self.commits.entry((group.into(), partition)).or_default();
        commits.attempted = commits.attempted.max(Some(offset));
    }

    /// It was acknowledged.
    pub fn committed(&mut self, group: &str, partition: Partition, offset: i64) {
        let commits = self.commits.entry((group.into(), partition)).or_default();
        commits.acknowledged = commits.acknowledged.max(Some(offset));
    }

    /// How many records were acknowledged so far.
    pub fn acknowledged_count(&self) -> usize {
        let promises = self.lanes.values().flat_map(|lane| &lane.promises);
        promises.filter(|promise| **promise != Promise::Open).count()
    }

    /// Judge a partition as it was read back from `first_offset` on, after `before` was noted.
    /// Offsets are dense: what a module drops takes none, and nothing is compacted in these tests.
    pub fn check_partition(
        &self,
        before: &History,
        partition: Partition,
        first_offset: i64,
        found: impl IntoIterator<Item = (i64, RecordId)>,
    ) -> Vec<Violation> {
        self.check_excused(before, partition, first_offset, found, &Excuses::default())
    }

    /// Judge a partition that may lack some of what was promised. Everything else must be found.
    pub fn check_excused(
        &self,
        before: &History,
        partition: Partition,
        first_offset: i64,
        found: impl IntoIterator<Item = (i64, RecordId)>,
        excuses: &Excuses,
    ) -> Vec<Violation> {
        let mut judge = Judge::new(self, partition, first_offset, excuses);
        for (offset, record) in found {
            judge.see(offset, record);
        }
        judge.finish(before)
    }

    /// Judge the offset that a group has for a partition (-1: none), asked after `before` was
    /// noted.
    pub fn check_commit(
        &self,
        before: &History,
        group: &str,
        partition: Partition,
        found: i64,
    ) -> Option<Violation> {
        let commits = |history: &History| {
            let commits = history.commits.get(&(group.to_owned(), partition));
            commits.copied().unwrap_or_default()
        };
        let low = commits(before).acknowledged.unwrap_or(-1);
        let high = commits(self).attempted.unwrap_or(-1).max(low);
        let wanted = (low, high);
        let holds = (low..=high).contains(&found);
        (!holds).then(|| Violation::Commit { group: group.into(), partition, wanted, found })
    }
}

/// Walks a partition's log once.
struct Judge<'a> {
    history: &'a History,
    partition: Partition,
    first_offset: i64,
    next_offset: i64,
    excuses: &'a Excuses,
    /// Per producer: where each of its records was found, and the highest sequence so far.
    seen: HashMap<u32, (Vec<Option<i64>>, Option<u32>)>,
    violations: Vec<Violation>,
}

impl<'a> Judge<'a> {
    fn new(
        history: &'a History,
        partition: Partition,
        first_offset: i64,
        excuses: &'a Excuses,
    ) -> Judge<'a> {
        Judge {
            history,
            partition,
            first_offset,
            next_offset: first_offset,
            excuses,
            seen: HashMap::new(),
            violations: Vec::new(),
        }
    }

    fn see(&mut self, offset: i64, record: RecordId) {
        let partition = self.partition;
        while self.next_offset < offset && self.excuses.hides(self.next_offset) {
            self.next_offset =
                self.excuses.hole_at(self.next_offset).unwrap_or(self.next_offset + 1);
        }
        if offset != self.next_offset {
            let expected = self.next_offset;
            self.violations.push(Violation::Gap { partition, expected, found: offset });
        }
        self.next_offset = offset + 1;
        let lane = self.history.lanes.get(&(partition, record.producer));
        let Some(lane) = lane.filter(|lane| (record.sequence as usize) < lane.promises.len())
        else {
            self.violations.push(Violation::Invented { partition, record, offset });
            return;
        };
        let fresh = || (vec![None; lane.promises.len()], None);
        let (places, highest) = self.seen.entry(record.producer).or_insert_with(fresh);
        let place = &mut places[record.sequence as usize];
        if let Some(first) = *place {
            self.violations.push(Violation::Twice { partition, record, first, second: offset });
            return;
        }
        *place = Some(offset);
        match *highest {
            Some(behind) if record.sequence < behind => {
                self.violations.push(Violation::Overtaken { partition, record, offset, behind });
            }
            _ => *highest = Some(record.sequence),
        }
        match lane.promises[record.sequence as usize] {
            Promise::At(promised) if promised != offset => {
                self.violations.push(Violation::Moved {
                    partition,
                    record,
                    promised,
                    found: offset,
                });
            }
            Promise::Nowhere => {
                self.violations.push(Violation::NotDropped { partition, record, offset });
            }
            Promise::At(_) | Promise::Somewhere | Promise::Open => {}
        }
    }

    /// What was promised before the reading began, and was not seen.
    fn finish(mut self, before: &History) -> Vec<Violation> {
        let partition = self.partition;
        // What has no promised offset may be any of what cannot be read, each once.
        let mut hidden = self.excuses.hidden();
        for (&(lane_partition, producer), lane) in &before.lanes {
            if lane_partition != partition {
                continue;
            }
            let places = self.seen.get(&producer).map(|(places, _)| places);
            for (sequence, promise) in lane.promises.iter().enumerate() {
                let promised = match promise {
                    Promise::At(offset) => Some(*offset),
                    Promise::Somewhere => None,
                    Promise::Open | Promise::Nowhere => continue,
                };
                if places.is_none_or(|places| places[sequence].is_none()) {
                    let record = RecordId { producer, sequence: sequence as u32 };
                    let is_hidden = match promised {
                        Some(offset) => self.excuses.hides(offset),
                        None => hidden > 0,
                    };
                    if is_hidden {
                        hidden = hidden.saturating_sub(1);
                        continue;
                    }
                    let is_deleted = promised.is_some_and(|offset| offset < self.first_offset);
                    if is_deleted || self.excuses.lost.contains(&record) {
                        continue;
                    }
                    self.violations.push(Violation::Lost { partition, record, promised });
                }
            }
        }
        self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(producer: u32, sequence: u32) -> RecordId {
        RecordId { producer, sequence }
    }

    /// Producer 0 sent four records to partition 0: two acknowledged at 0 and 1, two open.
    fn history() -> History {
        let mut history = History::default();
        for _ in 0..4 {
            history.sending(0, 0);
        }
        history.acknowledged(0, id(0, 0), Some(0));
        history.acknowledged(0, id(0, 1), Some(1));
        history
    }

    fn check(found: &[(i64, RecordId)]) -> Vec<Violation> {
        history().check_partition(&history(), 0, 0, found.iter().copied())
    }

    #[test]
    fn acknowledged_records_at_their_offsets_are_fine_with_or_without_the_open_ones() {
        assert_eq!(check(&[(0, id(0, 0)), (1, id(0, 1))]), []);
        assert_eq!(check(&[(0, id(0, 0)), (1, id(0, 1)), (2, id(0, 2))]), []);
        assert_eq!(check(&[(0, id(0, 0)), (1, id(0, 1)), (2, id(0, 3))]), []);
    }

    #[test]
    fn a_lost_record_is_seen() {
        let lost = Violation::Lost { partition: 0, record: id(0, 1), promised: Some(1) };
        assert_eq!(check(&[(0, id(0, 0))]), [lost]);
        assert_eq!(check(&[]).len(), 2);
    }

    #[test]
    fn what_the_broker_says_it_cannot_read_is_excused_and_nothing_else() {
        let excuses = Excuses { unreadable: BTreeSet::from([1]), ..Excuses::default() };
        let check = |found: &[(i64, RecordId)]| {
            let history = history();
            let found = found.iter().copied();
            history.check_excused(&history, 0, 0, found, &excuses)
        };
        assert_eq!(check(&[(0, id(0, 0))]), []);
        assert_eq!(check(&[(0, id(0, 0)), (2, id(0, 2))]), []);
        assert!(!check(&[(2, id(0, 2))]).is_empty());
        assert!(!check(&[(0, id(0, 0)), (3, id(0, 2))]).is_empty());
    }

    #[test]
    fn a_record_at_another_offset_is_seen() {
        let found = check(&[(0, id(0, 0)), (1, id(0, 2)), (2, id(0, 1))]);
        let moved = Violation::Moved { partition: 0, record: id(0, 1), promised: 1, found: 2 };
        assert!(found.contains(&moved), "{found:?}");
    }

    #[test]
    fn a_record_that_stands_twice_is_seen_acknowledged_or_not() {
        let acknowledged = [(0, id(0, 0)), (1, id(0, 1)), (2, id(0, 1))];
        assert!(matches!(check(&acknowledged)[..], [Violation::Twice { .. }]));
        let open = [(0, id(0, 0)), (1, id(0, 1)), (2, id(0, 2)), (3, id(0, 2))];
        assert!(matches!(check(&open)[..], [Violation::Twice { first: 2, second: 3, .. }]));
    }

    #[test]
    fn a_record_that_overtook_is_seen() {
        let found = check(&[(0, id(0, 0)), (1, id(0, 1)), (2, id(0, 3)), (3, id(0, 2))]);
        assert!(matches!(found[..], [Violation::Overtaken { behind: 3, .. }]), "{found:?}");
    }

    #[test]
    fn a_record_that_nobody_sent_or_sent_elsewhere_is_seen() {
        let start = [(0, id(0, 0)), (1, id(0, 1))];
        for stranger in [id(0, 4), id(1, 0)] {
            let found = check(&[&start[..], &[(2, stranger)]].concat());
            assert!(matches!(found[..], [Violation::Invented { offset: 2, .. }]), "{found:?}");
        }
        let mut history = history();
        history.sending(1, 7);
        let found = history.check_partition(&history, 0, 0, [start[0], start[1], (2, id(7, 0))]);
        assert!(matches!(found[..], [Violation::Invented { .. }]), "{found:?}");
    }

    #[test]
    fn a_gap_and_a_step_back_are_seen() {
        let gap = check(&[(0, id(0, 0)), (1, id(0, 1)), (3, id(0, 2))]);
        assert_eq!(gap, [Violation::Gap { partition: 0, expected: 2, found: 3 }]);
        let back = check(&[(0, id(0, 0)), (1, id(0, 1)), (1, id(0, 2))]);
        assert!(matches!(back[..], [Violation::Gap { expected: 2, found: 1, .. }]), "{back:?}");
        let late_start = check(&[(1, id(0, 1)), (2, id(0, 2))]);
        assert!(matches!(late_start[0], Violation::Gap { expected: 0, found: 1, .. }));
    }

    #[test]
    fn what_a_module_changed_stands_once_somewhere_and_what_it_dropped_nowhere() {
        let mut history = History::default();
        for _ in 0..3 {
            history.sending(0, 0);
        }
        history.acknowledged(0, id(0, 0), None);
        history.acknowledged_and_dropped(0, id(0, 1));
        history.acknowledged(0, id(0, 2), None);
        assert_eq!(history.acknowledged_count(), 3);
        assert_eq!(history.check_partition(&history, 0, 0, [(0, id(0, 0)), (1, id(0, 2))]), []);
        let lost = history.check_partition(&history, 0, 0, [(0, id(0, 0))]);
        assert!(matches!(lost[..], [Violation::Lost { promised: None, .. }]), "{lost:?}");
        let kept = [(0, id(0, 0)), (1, id(0, 1)), (2, id(0, 2))];
        let kept = history.check_partition(&history, 0, 0, kept);
        assert!(matches!(kept[..], [Violation::NotDropped { offset: 1, .. }]), "{kept:?}");
    }

    #[test]
    fn a_commit_that_went_back_or_was_never_made_is_seen() {
        let mut history = History::default();
        assert_eq!(history.check_commit(&history, "g", 0, -1), None);
        assert!(history.check_commit(&history, "g", 0, 0).is_some());
        history.committing("g", 0, 5);
        assert_eq!(history.check_commit(&history, "g", 0, -1), None);
        assert_eq!(history.check_commit(&history, "g", 0, 5), None);
        history.committed("g", 0, 5);
        history.committing("g", 0, 9);
        for fine in [5, 9] {
            assert_eq!(history.check_commit(&history, "g", 0, fine), None);
        }
        for bad in [-1, 4, 10] {
            let violation = history.check_commit(&history, "g", 0, bad);
            assert!(matches!(violation, Some(Violation::Commit { wanted: (5, 9), .. })));
        }
    }

    #[test]
    fn what_was_promised_while_the_log_was_read_need_not_have_been_read() {
        let before = history();
        let mut after = before.clone();
        after.acknowledged(0, id(0, 2), Some(2));
        after.committing("g", 0, 3);
        after.committed("g", 0, 3);
        let read = [(0, id(0, 0)), (1, id(0, 1))];
        assert_eq!(after.check_partition(&before, 0, 0, read), []);
        assert_eq!(after.check_commit(&before, "g", 0, -1), None);
        assert_eq!(after.check_partition(&after, 0, 0, read).len(), 1);
        assert!(after.check_commit(&after, "g", 0, -1).is_some());
    }

    #[test]
    fn every_violation_reads_as_a_sentence() {
        let lost = Violation::Lost { partition: 3, record: id(1, 2), promised: Some(9) };
        let text = "partition 3: record 2 of producer 1 acknowledged at 9 is lost";
        assert_eq!(lost.to_string(), text);
    }
}
