//! The books of a run: what was promised, what was seen, and whether they agree. Shared by the
//! clients. Must never talk to the node.

use crate::history::{Excuses, History, Partition, RecordId};
use crate::losses::Acks;
use crate::topics::{Rule, is_dropped, partition_of, rule_of};
use crate::trace::Trace;
use millpond_wire::ErrorCode;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Clones are the same books.
#[derive(Clone)]
pub struct Oracle {
    trace: Trace,
    books: Rc<RefCell<Books>>,
}

#[derive(Default)]
struct Books {
    history: History,
    /// The value of each offset that a reader was ever shown.
    seen: BTreeMap<(Partition, i64), RecordId>,
    producer_ids: BTreeSet<i64>,
    promised_commits: BTreeMap<(String, Partition), i64>,
    /// Refusals in a row, by producer: a producer that is refused for ever lost its state.
    refusals: BTreeMap<u32, u32>,
    violations: Vec<String>,
    reads: u64,
    /// The device fails reads at present, so a fetch may be refused.
    reads_may_fail: bool,
    /// Ranges of offsets whose segments were damaged at rest.
    damaged: BTreeMap<Partition, Vec<(i64, i64)>>,
    /// Offsets that the node said it cannot read.
    unreadable: BTreeMap<Partition, BTreeSet<i64>>,
    /// Ranges of offsets that the node gave up because of damage.
    holes: BTreeMap<Partition, Vec<(i64, i64)>>,
    /// The present partition of each topic that comes and goes.
    fleeting: BTreeMap<String, Partition>,
    topics_ended: u64,
    /// When the node died, in ns.
    deaths_ns: Vec<u64>,
    /// Acknowledgements of partitions with a window of loss.
    early: BTreeMap<Partition, Acks>,
    lost_early: u64,
    /// The first offset of each partition, as the node tells it.
    starts: BTreeMap<Partition, i64>,
    /// Where clients made a partition start: for sure, and at most.
    deleted: BTreeMap<Partition, (i64, i64)>,
}

/// A partition that keeps its newest bytes only must have so many records left, if any are gone.
const NEWEST_MIN: i64 = 10;

/// So many refusals of the same oldest batch are no accident.
const REFUSALS_MAX: u32 = 2_000;

impl Oracle {
    /// Empty books.
    pub fn new(trace: Trace) -> Oracle {
        Oracle { trace, books: Rc::default() }
    }

    /// Something does not hold.
    pub fn violated(&self, what: String) {
        self.trace.note("ORACLE", || what.clone());
        self.books.borrow_mut().violations.push(what);
    }

    /// A record is about to be sent for the first time.
    pub fn sending(&self, partition: Partition, producer: u32) -> RecordId {
        self.books.borrow_mut().history.sending(partition, producer)
    }

    /// A record is acknowledged; `None`: without an offset.
    pub fn acknowledged(&self, partition: Partition, record: RecordId, offset: Option<i64>) {
        let mut books = self.books.borrow_mut();
        books.refusals.remove(&record.producer);
        if is_dropped(partition, record) {
            books.history.acknowledged_and_dropped(partition, record);
        } else {
            books.history.acknowledged(partition, record, offset);
        }
        if let (Rule::MayLoseLast { .. }, Some(offset)) = (rule_of(partition), offset) {
            let now_ns = self.trace.now_ns();
            books.early.entry(partition).or_default().note(now_ns, offset, record);
        }
    }

    /// The node died, in whatever way.
    pub fn node_died(&self) {
        let now_ns = self.trace.now_ns();
        self.books.borrow_mut().deaths_ns.push(now_ns);
    }

    /// Records below `offset` are about to be deleted.
    pub fn deleting(&self, partition: Partition, offset: i64) {
        let mut books = self.books.borrow_mut();
        let (_, most) = books.deleted.entry(partition).or_default();
        *most = offset.max(*most);
    }

    /// Records below `offset` are deleted.
    pub fn deleted(&self, partition: Partition, offset: i64) {
        let mut books = self.books.borrow_mut();
        let (least, _) = books.deleted.entry(partition).or_default();
        *least = offset.max(*least);
    }

    /// The node tells where a partition starts.
    pub fn starts_at(&self, partition: Partition, offset: i64) {
        let mut books = self.books.borrow_mut();
        books.starts.insert(partition, offset);
        let (least, most) = books.deleted.get(&partition).copied().unwrap_or_default();
        drop(books);
        let holds = match rule_of(partition) {
            Rule::LosesDeleted => (least..=most).contains(&offset),
            Rule::KeepsNewest => offset >= 0,
            _ => offset == 0,
        };
        if !holds {
            self.violated(format!(
                "partition {partition} starts at {offset}, deleted were {least} to {most}"
            ));
        }
    }

    /// How many acknowledged records went as their topic's window of loss allows.
    pub fn lost_early(&self) -> u64 {
        self.books.borrow().lost_early
    }

    /// The oldest batch of a producer was refused: it will be sent again, so it must be retriable.
    pub fn refused(&self, producer: u32, sequence: i32, code: ErrorCode) {
        let mut books = self.books.borrow_mut();
        let refusals = books.refusals.entry(producer).or_default();
        *refusals += 1;
        let too_often = *refusals > REFUSALS_MAX;
        drop(books);
        if too_often || !code.is_retriable() {
            self.violated(format!(
                "producer {producer}, sequence {sequence}: refused with {code:?}"
            ));
        }
    }

    /// A producer id was given out: it may not be one that was given before.
    pub fn producer_id_given(&self, id: i64) {
        if !self.books.borrow_mut().producer_ids.insert(id) {
            self.violated(format!("producer id {id} was given out twice"));
        }
    }

    /// A commit is about to be sent.
    pub fn committing(&self, group: &str, partition: Partition, offset: i64) {
        self.books.borrow_mut().history.committing(group, partition, offset);
    }

    /// A commit is acknowledged.
    pub fn committed(&self, group: &str, partition: Partition, offset: i64) {
        let mut books = self.books.borrow_mut();
        books.history.committed(group, partition, offset);
        books.promised_commits.insert((group.to_owned(), partition), offset);
    }

    /// The highest commit that is acknowledged by now (-1: none).
    pub fn commit_promised(&self, group: &str, partition: Partition) -> i64 {
        let books = self.books.borrow();
        books.promised_commits.get(&(group.to_owned(), partition)).copied().unwrap_or(-1)
    }

    /// A committed offset was asked for after `promised` had been acknowledged.
    pub fn commit_found(&self, group: &str, partition: Partition, promised: i64, found: i64) {
        if found < promised {
            self.violated(format!(
                "group {group}, partition {partition}: {promised} was committed, {found} is found"
            ));
        }
        let books = self.books.borrow();
        let violation = books.history.check_commit(&books.history, group, partition, found);
        drop(books);
        // Commits that were acknowledged while the question travelled may not show in its answer.
        if let Some(violation) = violation
            && found >= self.commit_promised(group, partition)
        {
            self.violated(violation.to_string());
        }
    }

    /// A reader was shown this record: the offset has this value for ever.
    pub fn read(&self, partition: Partition, offset: i64, record: RecordId) {
        let mut books = self.books.borrow_mut();
        books.reads += 1;
        let before = *books.seen.entry((partition, offset)).or_insert(record);
        drop(books);
        if before != record {
            self.violated(format!(
                "partition {partition}, offset {offset}: was {before}, is {record} now"
            ));
        }
    }

    /// From now on the device fails reads now and then, or does so no more.
    pub fn set_reads_may_fail(&self, may_fail: bool) {
        self.books.borrow_mut().reads_may_fail = may_fail;
    }

    /// Whether a refused fetch may just be tried again.
    pub fn reads_may_fail(&self) -> bool {
        self.books.borrow().reads_may_fail
    }

    /// A segment of this partition was damaged, which holds offsets from `from` on, none from
    /// `upto` on.
    pub fn damaged(&self, partition: Partition, from: i64, upto: i64) {
        let mut books = self.books.borrow_mut();
        books.damaged.entry(partition).or_default().push((from, upto));
    }

    /// A fetch was refused.
    pub fn read_refused(&self, partition: Partition, offset: i64, code: ErrorCode) {
        let books = self.books.borrow();
        let is_excused = match code {
            ErrorCode::KafkaStorageError => {
                let ranges = books.damaged.get(&partition).map_or(&[][..], Vec::as_slice);
                let holes = books.holes.get(&partition).map_or(&[][..], Vec::as_slice);
                let mut damaged = ranges.iter().chain(holes);
                books.reads_may_fail || damaged.any(|(_, upto)| offset < *upto)
            }
            ErrorCode::OffsetOutOfRange => match rule_of(partition) {
                Rule::LosesDeleted => books.deleted.get(&partition).is_some_and(|at| offset < at.1),
                rule => rule == Rule::KeepsNewest,
            },
            _ => code.is_retriable(),
        };
        drop(books);
        if !is_excused {
            self.violated(format!("partition {partition}: fetch from {offset} refused: {code:?}"));
        }
    }

    /// The node says that damage took offsets of a partition; false if it may not say so.
    pub fn lost(&self, topic: &str, index: i32, (from, upto): (i64, i64), may_be: bool) -> bool {
        let mut books = self.books.borrow_mut();
        let fleeting = books.fleeting.get(topic).copied();
        // Of a topic that nobody has been promised anything of.
        let Some(partition) = partition_of(topic, index).or(fleeting) else {
            return true;
        };
        let holes = books.holes.get(&partition).map_or(&[][..], Vec::as_slice);
        let is_known = holes.iter().any(|hole| hole.0 <= from && upto <= hole.1);
        // A large batch stands in its segment only: damage there takes what the journal says of it.
        let hit = books.damaged.get(&partition).map_or(&[][..], Vec::as_slice);
        let may_be = may_be || hit.iter().any(|range| range.0 <= from && from < range.1);
        if !is_known && may_be {
            books.holes.entry(partition).or_default().push((from, upto));
            drop(books);
            self.trace.note("node", || format!("{topic}/{index} lost {from} to {upto}"));
        }
        is_known || may_be
    }

    /// Whether the node gave up a part of this partition.
    pub fn has_holes(&self, partition: Partition) -> bool {
        self.books.borrow().holes.contains_key(&partition)
    }

    /// Whether damage may have taken what stood at an offset.
    pub fn hides(&self, partition: Partition, offset: i64) -> bool {
        let books = self.books.borrow();
        let holes = books.holes.get(&partition).map_or(&[][..], Vec::as_slice);
        let unreadable = books.unreadable.get(&partition);
        unreadable.is_some_and(|offsets| offsets.contains(&offset))
            || holes.iter().any(|(from, upto)| (*from..*upto).contains(&offset))
    }

    /// A topic that comes and goes has come.
    pub fn topic_began(&self, topic: String, partition: Partition) {
        self.books.borrow_mut().fleeting.insert(topic, partition);
    }

    /// The node says for good that it cannot read this offset: it must have been damaged. Answers
    /// where to read on.
    pub fn unreadable(&self, partition: Partition, offset: i64) -> i64 {
        let mut books = self.books.borrow_mut();
        let holes = books.holes.get(&partition).map_or(&[][..], Vec::as_slice);
        if let Some((_, upto)) = holes.iter().find(|hole| (hole.0..hole.1).contains(&offset)) {
            return *upto;
        }
        let ranges = books.damaged.get(&partition).map_or(&[][..], Vec::as_slice);
        let is_damaged = ranges.iter().any(|(from, upto)| (*from..*upto).contains(&offset));
        books.unreadable.entry(partition).or_default().insert(offset);
        drop(books);
        if !is_damaged {
            self.violated(format!("partition {partition}: offset {offset} cannot be read"));
        }
        offset + 1
    }

    /// How many ranges the node gave up.
    pub fn holes(&self) -> u64 {
        self.books.borrow().holes.values().map(|holes| holes.len() as u64).sum()
    }

    /// How many offsets the node owned up to have lost to damage.
    pub fn unreadable_count(&self) -> u64 {
        self.books.borrow().unreadable.values().map(|offsets| offsets.len() as u64).sum()
    }

    /// A topic was deleted after its log was judged.
    pub fn topic_ended(&self) {
        self.books.borrow_mut().topics_ended += 1;
    }

    /// How many topics were judged and deleted.
    pub fn topics_ended(&self) -> u64 {
        self.books.borrow().topics_ended
    }

    /// Begins the reading of one partition anew; returns what readers had been shown of it.
    pub fn shown(&self, partition: Partition) -> BTreeMap<(Partition, i64), RecordId> {
        let mut books = self.books.borrow_mut();
        let mut shown = books.seen.split_off(&(partition, i64::MIN));
        let mut above = shown.split_off(&(partition, i64::MAX));
        books.seen.append(&mut above);
        shown
    }

    /// Forgets nothing of what was promised, but begins the final reading anew; returns what
    /// readers had been shown before.
    pub fn begin_final_reading(&self) -> BTreeMap<(Partition, i64), RecordId> {
        std::mem::take(&mut self.books.borrow_mut().seen)
    }

    /// Judges the final reading of a partition.
    pub fn judge(&self, partition: Partition, shown: &BTreeMap<(Partition, i64), RecordId>) {
        let mut books = self.books.borrow_mut();
        let first = books.starts.get(&partition).copied().unwrap_or(0);
        let range = (partition, first)..=(partition, i64::MAX);
        let found: Vec<(i64, RecordId)> = books
            .seen
            .range(range.clone())
            .map(|((_, offset), record)| (*offset, *record))
            .collect();
        let excuses = match books.excuses(partition, &found) {
            Ok(excuses) => excuses,
            Err(what) => {
                drop(books);
                return self.violated(format!("partition {partition}: {what}"));
            }
        };
        books.lost_early += excuses.lost.len() as u64;
        let too_few = first > 0
            && rule_of(partition) == Rule::KeepsNewest
            && (found.len() as i64) < NEWEST_MIN;
        let history = &books.history;
        let violations = history.check_excused(history, partition, first, found, &excuses);
        let vanished: Vec<String> = shown
            .range(range)
            .filter(|(key, record)| books.seen.get(key) != Some(record))
            .filter(|((_, offset), _)| !excuses.hides(*offset))
            .map(|((_, offset), record)| {
                format!(
                    "partition {partition}, offset {offset}: {record} was shown and is not there"
                )
            })
            .collect();
        drop(books);
        for violation in violations {
            self.violated(violation.to_string());
        }
        for violation in vanished {
            self.violated(violation);
        }
        if too_few {
            self.violated(format!("partition {partition}: hardly anything is left"));
        }
    }

    /// What readers were shown of a partition must be in `found`, but for what damage took.
    pub fn judge_shown(&self, partition: Partition, found: &BTreeMap<i64, RecordId>) {
        let shown = self.books.borrow().seen.clone();
        let mut shown = shown.range((partition, 0)..=(partition, i64::MAX));
        let gone = shown.find(|((_, offset), record)| {
            found.get(offset) != Some(record) && !self.hides(partition, *offset)
        });
        if let Some(((_, offset), record)) = gone {
            self.violated(format!(
                "partition {partition}, offset {offset}: {record} was shown and is not there"
            ));
        }
    }

    /// How many records were acknowledged.
    pub fn acknowledged_count(&self) -> usize {
        self.books.borrow().history.acknowledged_count()
    }

    /// How many records readers were shown.
    pub fn reads(&self) -> u64 {
        self.books.borrow().reads
    }

    /// Everything that did not hold.
    pub fn violations(&self) -> Vec<String> {
        self.books.borrow().violations.clone()
    }
}

impl Books {
    /// What a partition may lack.
    fn excuses(&self, partition: Partition, found: &[(i64, RecordId)]) -> Result<Excuses, String> {
        let unreadable = self.unreadable.get(&partition).cloned().unwrap_or_default();
        let holes = self.holes.get(&partition).cloned().unwrap_or_default();
        let mut lost = BTreeSet::new();
        // Behind damage nobody can tell what a death took; that run is judged by what it shows.
        if let Rule::MayLoseLast { window_ms } = rule_of(partition)
            && let Some(acks) = self.early.get(&partition)
        {
            let found = found.iter().map(|(_, record)| *record).collect();
            lost = match unreadable.is_empty() && holes.is_empty() {
                true => acks.excused(&found, &self.deaths_ns, window_ms)?,
                false => acks.missing(&found),
            };
        }
        Ok(Excuses { unreadable, holes, lost })
    }
}
