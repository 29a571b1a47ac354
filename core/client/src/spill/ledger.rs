//! What a spill knows of its own sending: which records are done, which are under way under which
//! stamps, and which sequence number comes next in each partition.
//!
//! Pure. The rule behind it: a window's stamps are on flash before its bytes leave, and it is sent again
//! under the same stamps until it is known how it ended. So whatever happens in between, the broker can
//! tell a record that it has from one that it has not.

use crate::producer::{Partitioner, ProducerId, Record, Verdict};
use millpond_wire::ErrorCode;
use millpond_wire::record::sequence_add;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a group of records ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Not known yet.
    #[default]
    Open,
    /// The broker has it.
    Written,
    /// The broker will never take it.
    Refused,
}

impl Outcome {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Written => 1,
            Self::Refused => 2,
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Written,
            2 => Self::Refused,
            _ => Self::Open,
        }
    }
}

/// The records of a window that go to one partition, as one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) base_sequence: i32,
    pub(super) records: u32,
    pub(super) outcome: Outcome,
}

/// Records that are sent together; the next ones wait for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Frame numbers of its records, both ends included.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) producer: ProducerId,
    /// How many partitions each topic had: where keys go depends on it.
    pub(super) partitions: BTreeMap<Arc<str>, u32>,
    pub(super) groups: Vec<Group>,
}

impl Default for Window {
    fn default() -> Self {
        let producer = ProducerId { id: -1, epoch: -1 };
        let (partitions, groups) = (BTreeMap::new(), Vec::new());
        Self { first: 0, last: 0, producer, partitions, groups }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Records up to this frame number are done.
    pub(super) done_through: u64,
    pub(super) producer: Option<ProducerId>,
    /// The sequence number that comes next.
    pub(super) sequences: BTreeMap<(Arc<str>, i32), i32>,
    pub(super) window: Option<Window>,
}

/// What is to be done about a group after one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is over.
    Settled(Outcome),
    /// The same again, later.
    Again,
    /// The broker no longer knows the stamps: the same records under new ones.
    Restamp,
}

impl Ledger {
    /// A window is on flash.
    pub(super) fn stamped(&mut self, window: Window) {
        if self.producer != Some(window.producer) {
            self.sequences.clear();
            self.producer = Some(window.producer);
        }
        self.window = Some(window);
    }

    /// The window is over.
    pub(super) fn done(&mut self, outcomes: &[Outcome]) {
        let Some(window) = self.window.take() else { return };
        for (group, outcome) in window.groups.iter().zip(outcomes) {
            if *outcome == Outcome::Written && self.producer == Some(window.producer) {
                // What an earlier stamp got written says nothing of the present one.
                if group.outcome == Outcome::Open {
                    let next = sequence_add(group.base_sequence, signed(group.records));
                    self.sequences.insert((Arc::clone(&group.topic), group.partition), next);
                }
            }
        }
        self.done_through = window.last;
    }

    /// The records of the window are gone: what was said of it cannot be kept.
    pub(super) fn abandon(&mut self) {
        self.window = None;
        self.producer = None;
        self.sequences.clear();
    }

    /// Stamps records, each named with its frame number.
    pub(super) fn plan(
        &self,
        producer: ProducerId,
        records: &[(u64, Record)],
        partitions: BTreeMap<Arc<str>, u32>,
    ) -> Option<Window> {
        let (first, last) = (records.first()?.0, records.last()?.0);
        let mut window = Window { first, last, producer, partitions, groups: Vec::new() };
        let is_new = self.producer != Some(producer);
        for ((topic, partition), members) in assemble(&window, records) {
            let place = (Arc::clone(&topic), partition);
            let known = self.sequences.get(&place).filter(|_| !is_new);
            window.groups.push(Group {
                topic,
                partition,
                base_sequence: known.copied().unwrap_or(0),
                records: u32::try_from(members.len()).unwrap_or(u32::MAX),
                outcome: Outcome::Open,
            });
        }
        Some(window)
    }
}

impl Window {
    /// The same records under the stamps of a new producer; what is settled stays so.
    pub(super) fn restamped(&self, producer: ProducerId, outcomes: &[Outcome]) -> Self {
        let mut window = self.clone();
        window.producer = producer;
        for (group, outcome) in window.groups.iter_mut().zip(outcomes) {
            group.outcome = *outcome;
            group.base_sequence = 0;
        }
        window
    }
}

/// Which records go to which partition: the same for the same window, whenever it is asked.
pub(super) fn assemble<'a>(
    window: &Window,
    records: &'a [(u64, Record)],
) -> BTreeMap<(Arc<str>, i32), Vec<&'a Record>> {
    let mut groups: BTreeMap<(Arc<str>, i32), Vec<&Record>> = BTreeMap::new();
    for (_, record) in records {
        let partitions = window.partitions.get(&record.topic).copied().unwrap_or(0);
        let Some(partition) = partition_of(window.first, record, partitions) else { continue };
        groups.entry((Arc::clone(&record.topic), partition)).or_default().push(record);
    }
    groups
}

/// `None`: there is no such partition.
fn partition_of(window: u64, record: &Record, partitions: u32) -> Option<i32> {
    let signed = |partition: u32| i32::try_from(partition).ok();
    match (record.partition, &record.key) {
        _ if partitions == 0 => None,
        (Some(named), _) => Some(named).filter(|n| signed(partitions).is_some_and(|p| *n < p)),
        (None, Some(key)) => signed(Partitioner::for_key(key, partitions)),
        // Without a key all of a window go to one, the next window to another.
        (None, None) => signed(u32::try_from(window % u64::from(partitions)).ok()?),
    }
}

/// What one try of a group came to.
pub(super) fn judge(verdict: &Verdict) -> Next {
    match verdict {
        Verdict::Delivered(_) => Next::Settled(Outcome::Written),
        Verdict::OutOfOrder | Verdict::ProducerUnknown { .. } => Next::Restamp,
        Verdict::Retry { .. } => Next::Again,
        // Somebody can still give the right, and until then the records are safe here.
        Verdict::Refused { code, .. } if is_about_rights(*code) => Next::Again,
        Verdict::Refused { .. } => Next::Settled(Outcome::Refused),
    }
}

fn is_about_rights(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::TopicAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::SaslAuthenticationFailed
            | ErrorCode::UnsupportedVersion
    )
}

fn signed(records: u32) -> i32 {
    i32::try_from(records).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ProducerId = ProducerId { id: 1, epoch: 0 };
    const TWO: ProducerId = ProducerId { id: 2, epoch: 0 };

    /// Those with key `a` go to partition 0, the others to 1.
    fn records(from: u64, keys: &[&'static str]) -> Vec<(u64, Record)> {
        let record = |key: &&'static str| {
            Record::to("t").key(*key).value("v").partition(i32::from(*key != "a"))
        };
        (from..).zip(keys.iter().map(record)).collect()
    }

    fn partitions() -> BTreeMap<Arc<str>, u32> {
        BTreeMap::from([("t".into(), 4)])
    }

    #[test]
    fn sequences_go_on_after_what_is_written_and_only_after_that() {
        let mut ledger = Ledger::default();
        let window = ledger.plan(ONE, &records(5, &["a", "a", "b"]), partitions()).unwrap();
        assert_eq!((window.first, window.last), (5, 7));
        let (a, b) = (window.groups.clone(), window.groups.len());
        assert_eq!(b, 2, "the two keys lie apart: {a:?}");
        ledger.stamped(window);
        ledger.done(&[Outcome::Written, Outcome::Refused]);
        assert_eq!((ledger.done_through, ledger.window.clone()), (7, None));
        let next = ledger.plan(ONE, &records(8, &["a", "b"]), partitions()).unwrap();
        for (before, after) in a.iter().zip(&next.groups) {
            let is_first = before.partition == a[0].partition;
            let wanted = if is_first { before.records } else { 0 };
            assert_eq!(after.base_sequence, signed(wanted));
        }
    }

    #[test]
    fn a_window_is_put_together_in_the_same_way_whenever_it_is_asked() {
        let mut all = records(9, &["a", "b", "c", "a"]);
        all.push((13, Record::to("t").value("no key")));
        all.push((14, Record::to("t").value("named").partition(3)));
        all.push((15, Record::to("t").value("nowhere").partition(4)));
        let window = Ledger::default().plan(ONE, &all, partitions()).unwrap();
        let counts: u32 = window.groups.iter().map(|group| group.records).sum();
        assert_eq!(counts, 6, "a partition that does not exist takes none");
        let first = assemble(&window, &all);
        assert_eq!(first, assemble(&window.clone(), &all.clone()));
        assert_eq!(first.len(), window.groups.len());
    }

    #[test]
    fn another_producer_begins_anew_and_keeps_what_is_settled() {
        let mut ledger = Ledger::default();
        let window = ledger.plan(ONE, &records(1, &["a", "b"]), partitions()).unwrap();
        ledger.stamped(window.clone());
        let outcomes = [Outcome::Written, Outcome::Open];
        ledger.stamped(window.restamped(TWO, &outcomes));
        ledger.done(&[Outcome::Written, Outcome::Written]);
        let next = ledger.plan(TWO, &records(3, &["a", "b"]), partitions()).unwrap();
        assert_eq!(next.groups[0].base_sequence, 0, "the new producer wrote nothing there");
        assert_eq!(next.groups[1].base_sequence, 1);
    }

    #[test]
    fn what_may_heal_waits_and_what_never_will_is_let_go() {
        let refused = |code| judge(&Verdict::Refused { code, message: None });
        assert_eq!(refused(ErrorCode::TopicAuthorizationFailed), Next::Again);
        assert_eq!(refused(ErrorCode::MessageTooLarge), Next::Settled(Outcome::Refused));
        assert_eq!(judge(&Verdict::OutOfOrder), Next::Restamp);
        let retry = Verdict::Retry { uncertain: true, why: "lost".into() };
        assert_eq!(judge(&retry), Next::Again);
    }
}
