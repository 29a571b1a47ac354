//! The books of the transactions of a run: what each wrote and consumed, how it ended as far as its
//! client knows, and what readers of committed data were shown. All or nothing, and each record of
//! the source once. Must never talk to the node.

use crate::history::{Partition, RecordId};
use crate::oracle::Oracle;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A transaction's number in the books; the records that it writes have it as their producer.
pub type Txn = u32;

/// What stands in a partition, by offset.
pub type Log = BTreeMap<i64, RecordId>;

/// How a transaction ended, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody asked for its commit.
    Open,
    /// Its commit was asked for, and the answer is not known.
    Doubtful,
    Committed,
    Aborted,
    /// No transaction: a record that counts at once, if it arrived.
    Plain,
}

#[derive(Debug)]
struct Transaction {
    worker: u32,
    fate: Fate,
    records: Vec<Written>,
    /// From where to where it moves its worker's position, if it came to that.
    moves: Option<(i64, i64)>,
    /// A reader of committed data was shown a part of it.
    is_seen: bool,
}

#[derive(Debug)]
struct Written {
    partition: Partition,
    /// The offset of the record in the source that it was made of.
    source: Option<i64>,
    is_acknowledged: bool,
    offset: Option<i64>,
}

/// Pure books: what does not hold comes back as a sentence.
#[derive(Default)]
struct Books {
    transactions: Vec<Transaction>,
    /// By worker: what it has consumed for sure, and its last transaction.
    workers: BTreeMap<u32, (i64, Option<Txn>)>,
    /// By partition: the highest last stable offset that was shown.
    stable: BTreeMap<Partition, i64>,
    counts: Counts,
}

/// What happened; a run in which too little did proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions that were committed.
    pub committed: u64,
    /// That were aborted, for whatever reason.
    pub aborted: u64,
    /// Whose end was not known to their client, and told by the group's offsets.
    pub doubtful: u64,
    /// That the node refused since their time was over or their producer was fenced.
    pub fenced: u64,
    /// Instances whose place was taken while they lived.
    pub zombies: u64,
    /// Records that readers of committed data were shown.
    pub seen: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: &Counts) {
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.doubtful += other.doubtful;
        self.fenced += other.fenced;
        self.zombies += other.zombies;
        self.seen += other.seen;
    }
}

impl Books {
    fn begin(&mut self, worker: u32, fate: Fate) -> Txn {
        let number = self.transactions.len() as Txn;
        let transaction =
            Transaction { worker, fate, records: Vec::new(), moves: None, is_seen: false };
        self.transactions.push(transaction);
        if fate == Fate::Open {
            self.workers.entry(worker).or_default().1 = Some(number);
        }
        number
    }

    fn of(&mut self, txn: Txn) -> &mut Transaction {
        &mut self.transactions[txn as usize]
    }

    fn ended(&mut self, txn: Txn, is_committed: bool) -> Result<(), String> {
        let one = self.of(txn);
        one.fate = if is_committed { Fate::Committed } else { Fate::Aborted };
        if !is_committed && one.is_seen {
            return Err(format!("transaction {txn} was aborted and had been seen"));
        }
        let (worker, moves) = (one.worker, one.moves);
        if is_committed {
            self.counts.committed += 1;
            self.workers.entry(worker).or_default().0 = moves.map_or(0, |(_, upto)| upto);
        } else {
            self.counts.aborted += 1;
        }
        Ok(())
    }

    /// The producer is new, and its group's offset is this: whatever was open is settled.
    fn resumed(&mut self, worker: u32, found: i64) -> Result<(), String> {
        let (position, last) = self.workers.get(&worker).copied().unwrap_or_default();
        let last = last.filter(|txn| {
            matches!(self.transactions[*txn as usize].fate, Fate::Open | Fate::Doubtful)
        });
        if let Some(txn) = last {
            let one = self.of(txn);
            let (is_doubtful, moves) = (one.fate == Fate::Doubtful, one.moves);
            let is_committed = is_doubtful && moves.is_some_and(|(_, upto)| found == upto);
            self.counts.doubtful += u64::from(is_doubtful);
            self.ended(txn, is_committed)?;
            if is_committed {
                return Ok(());
            }
        }
        if found == position {
            return Ok(());
        }
        Err(format!(
            "worker {worker} had consumed up to {position}, its group says {found}, its last \
             transaction is {last:?}"
        ))
    }

    fn seen(&mut self, partition: Partition, offset: i64, record: RecordId) -> Result<(), String> {
        self.counts.seen += 1;
        let place = format!("partition {partition}, offset {offset}");
        let Some(one) = self.transactions.get_mut(record.producer as usize) else {
            return Err(format!("{place}: {record} was never sent"));
        };
        one.is_seen = true;
        match one.fate {
            Fate::Doubtful | Fate::Committed | Fate::Plain => Ok(()),
            fate => Err(format!("{place}: {record} is shown, its transaction is {fate:?}")),
        }
    }

    /// Judges what stands in a partition in the end, and what of it counts. `hides` tells which
    /// offsets damage may have taken.
    fn judge(
        &self,
        partition: Partition,
        all: &Log,
        counting: &Log,
        hides: impl Fn(i64) -> bool,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut places: BTreeMap<RecordId, i64> = BTreeMap::new();
        for (offset, record) in all {
            if let Some(first) = places.insert(*record, *offset) {
                wrong.push(format!("{record} stands at {first} and at {offset}"));
            }
            let one = self.transactions.get(record.producer as usize);
            let written = one.and_then(|one| one.records.get(record.sequence as usize));
            match written {
                None => wrong.push(format!("{record} at {offset} was never sent")),
                Some(written) if written.partition != partition => {
                    wrong.push(format!("{record} at {offset} was sent to {}", written.partition));
                }
                Some(written) if written.offset.is_some_and(|promised| promised != *offset) => {
                    let promised = written.offset.unwrap_or(-1);
                    wrong.push(format!("{record} acknowledged at {promised} stands at {offset}"));
                }
                Some(_) => {}
            }
            let must_count =
                one.is_some_and(|one| matches!(one.fate, Fate::Committed | Fate::Plain));
            if must_count != (counting.get(offset) == Some(record)) {
                let fate = one.map(|one| one.fate);
                wrong.push(format!("{record} at {offset} counts wrongly, it is {fate:?}"));
            }
        }
        wrong.extend(self.missing(partition, &places, hides));
        let strangers = counting.iter().filter(|(offset, record)| all.get(offset) != Some(record));
        wrong.extend(strangers.map(|(offset, record)| format!("{record} at {offset} counts only")));
        wrong.iter().map(|what| format!("partition {partition}: {what}")).collect()
    }

    fn missing(
        &self,
        partition: Partition,
        places: &BTreeMap<RecordId, i64>,
        hides: impl Fn(i64) -> bool,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for (txn, one) in (0..).zip(&self.transactions) {
            for (sequence, written) in (0..).zip(&one.records) {
                let record = RecordId { producer: txn, sequence };
                let is_promised = written.is_acknowledged && written.partition == partition;
                if is_promised && !places.contains_key(&record) {
                    // Acknowledged without an offset: the node had said that damage took it.
                    let is_excused = written.offset.is_none_or(&hides);
                    if !is_excused {
                        let (offset, fate) = (written.offset, one.fate);
                        wrong.push(format!("{record} at {offset:?} of a {fate:?} one is lost"));
                    }
                }
            }
        }
        wrong
    }

    /// What was consumed was consumed once: by one transaction that is committed.
    fn judge_sources(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut used = BTreeSet::new();
        for (txn, one) in (0..).zip(&self.transactions) {
            if one.fate != Fate::Committed {
                continue;
            }
            for source in one.records.iter().filter_map(|written| written.source) {
                let txn: Txn = txn;
                if !used.insert((one.worker, source)) {
                    wrong.push(format!("transaction {txn} consumed {source} once more"));
                }
            }
        }
        wrong
    }
}

/// The books, and whom they complain to. Clones are the same books.
#[derive(Clone)]
pub struct TxnBooks {
    oracle: Oracle,
    books: Rc<RefCell<Books>>,
}

impl TxnBooks {
    /// Empty books.
    pub fn new(oracle: Oracle) -> TxnBooks {
        TxnBooks { oracle, books: Rc::default() }
    }

    fn complain(&self, held: Result<(), String>) {
        if let Err(what) = held {
            self.oracle.violated(what);
        }
    }

    /// A worker begins a transaction.
    pub fn begin(&self, worker: u32) -> Txn {
        self.books.borrow_mut().begin(worker, Fate::Open)
    }

    /// A worker is about to write outside of any transaction.
    pub fn plain(&self, worker: u32) -> Txn {
        self.books.borrow_mut().begin(worker, Fate::Plain)
    }

    /// A record is about to be sent, made of the one at `source`.
    pub fn sending(&self, txn: Txn, partition: Partition, source: Option<i64>) -> RecordId {
        let mut books = self.books.borrow_mut();
        let records = &mut books.of(txn).records;
        records.push(Written { partition, source, is_acknowledged: false, offset: None });
        RecordId { producer: txn, sequence: (records.len() - 1) as u32 }
    }

    /// It is acknowledged; `None`: without an offset.
    pub fn acknowledged(&self, record: RecordId, offset: Option<i64>) {
        let mut books = self.books.borrow_mut();
        let written = &mut books.of(record.producer).records[record.sequence as usize];
        (written.is_acknowledged, written.offset) = (true, offset);
    }

    /// The group's offset is to move with it.
    pub fn moving(&self, txn: Txn, from: i64, upto: i64) {
        self.books.borrow_mut().of(txn).moves = Some((from, upto));
    }

    /// Its commit is about to be asked for.
    pub fn committing(&self, txn: Txn) {
        self.books.borrow_mut().of(txn).fate = Fate::Doubtful;
    }

    /// The client knows how it ended.
    pub fn ended(&self, txn: Txn, is_committed: bool) {
        let held = self.books.borrow_mut().ended(txn, is_committed);
        self.complain(held);
    }

    /// A worker has a new producer, and what its group has consumed is this (-1: nothing).
    pub fn resumed(&self, worker: u32, found: i64) {
        let held = self.books.borrow_mut().resumed(worker, found.max(0));
        self.complain(held);
    }

    /// A transaction was refused for what happened to its producer.
    pub fn was_fenced(&self) {
        self.books.borrow_mut().counts.fenced += 1;
    }

    /// The place of an instance was taken.
    pub fn was_replaced(&self) {
        self.books.borrow_mut().counts.zombies += 1;
    }

    /// A reader of committed data was shown this.
    pub fn seen(&self, partition: Partition, offset: i64, record: RecordId) {
        let held = self.books.borrow_mut().seen(partition, offset, record);
        self.complain(held);
        self.oracle.read(partition, offset, record);
    }

    /// A reader was told the last stable offset.
    pub fn stable(&self, partition: Partition, offset: i64) {
        let mut books = self.books.borrow_mut();
        let before = books.stable.insert(partition, offset).unwrap_or(0);
        drop(books);
        if offset < before {
            self.oracle.violated(format!(
                "partition {partition}: its last stable offset went from {before} to {offset}"
            ));
        }
    }

    /// Judges what stands in a partition in the end, and what of it counts.
    pub fn judge(&self, partition: Partition, all: &Log, counting: &Log) {
        let hides = |offset| self.oracle.hides(partition, offset);
        let wrong = self.books.borrow().judge(partition, all, counting, hides);
        wrong.into_iter().for_each(|what| self.oracle.violated(what));
    }

    /// Judges what was consumed.
    pub fn judge_sources(&self) {
        let wrong = self.books.borrow().judge_sources();
        wrong.into_iter().for_each(|what| self.oracle.violated(what));
    }

    /// What happened.
    pub fn counts(&self) -> Counts {
        self.books.borrow().counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(producer: u32, sequence: u32) -> RecordId {
        RecordId { producer, sequence }
    }

    /// Transaction 0 wrote two records to partition 0, acknowledged at 0 and 1, and consumed two.
    fn books(fate: Fate) -> Books {
        let mut books = Books::default();
        let txn = books.begin(0, Fate::Open);
        let written = |offset| Written {
            partition: 0,
            source: Some(offset),
            is_acknowledged: true,
            offset: Some(offset),
        };
        let one = books.of(txn);
        one.records.extend([written(0), written(1)]);
        (one.moves, one.fate) = (Some((0, 2)), fate);
        books
    }

    fn judged(fate: Fate, all: &[(i64, RecordId)], counting: &[(i64, RecordId)]) -> Vec<String> {
        let log = |found: &[(i64, RecordId)]| found.iter().copied().collect::<Log>();
        books(fate).judge(0, &log(all), &log(counting), |_| false)
    }

    #[test]
    fn a_committed_transaction_counts_as_a_whole_and_an_aborted_one_not_at_all() {
        let whole = [(0, id(0, 0)), (1, id(0, 1))];
        assert_eq!(judged(Fate::Committed, &whole, &whole), [""; 0]);
        assert_eq!(judged(Fate::Aborted, &whole, &[]), [""; 0]);
        assert_eq!(judged(Fate::Committed, &whole, &whole[..1]).len(), 1, "half of it counts");
        assert_eq!(judged(Fate::Aborted, &whole, &whole[1..]).len(), 1, "half of it counts");
        assert_eq!(judged(Fate::Committed, &whole[..1], &whole[..1]).len(), 1, "half is lost");
    }

    #[test]
    fn records_that_moved_are_doubled_or_strange_are_found() {
        let moved = [(1, id(0, 0)), (2, id(0, 1))];
        assert_eq!(judged(Fate::Committed, &moved, &moved).len(), 2);
        let doubled = [(0, id(0, 0)), (1, id(0, 1)), (2, id(0, 1))];
        assert_eq!(judged(Fate::Committed, &doubled, &doubled).len(), 2, "twice, and elsewhere");
        let strange = [(0, id(0, 0)), (1, id(0, 1)), (2, id(7, 0))];
        assert!(!judged(Fate::Committed, &strange, &strange).is_empty());
    }

    #[test]
    fn what_is_open_or_aborted_must_not_be_seen() {
        for (fate, is_fine) in [
            (Fate::Open, false),
            (Fate::Aborted, false),
            (Fate::Doubtful, true),
            (Fate::Committed, true),
        ] {
            assert_eq!(books(fate).seen(0, 0, id(0, 0)).is_ok(), is_fine, "{fate:?}");
        }
        let mut books = books(Fate::Doubtful);
        books.seen(0, 0, id(0, 0)).unwrap();
        assert!(books.resumed(0, 0).is_err(), "seen, and the group says that it was aborted");
    }

    #[test]
    fn the_groups_offset_moves_with_the_transaction_and_not_without_it() {
        assert!(books(Fate::Doubtful).resumed(0, 2).is_ok());
        assert!(books(Fate::Doubtful).resumed(0, 0).is_ok());
        assert!(books(Fate::Doubtful).resumed(0, 1).is_err());
        assert!(books(Fate::Open).resumed(0, 2).is_err(), "nobody asked for its commit");
        let mut committed = books(Fate::Doubtful);
        committed.ended(0, true).unwrap();
        assert!(committed.resumed(0, 0).is_err(), "its offset is lost");
    }

    #[test]
    fn a_source_that_is_consumed_twice_is_found() {
        let mut books = books(Fate::Committed);
        let txn = books.begin(0, Fate::Committed);
        let again = Written { partition: 0, source: Some(1), is_acknowledged: true, offset: None };
        books.of(txn).records.push(again);
        assert_eq!(books.judge_sources().len(), 1);
    }
}
