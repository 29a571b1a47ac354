//! A checker that cannot fail is none: a whole history in which it finds nothing, and for each rule
//! the same with one thing broken, which it must find and name.

use super::event::{Event, History, Log, Outcome, Place, Source, What};
use super::{Rule, check};

fn place(partition: i32) -> Place {
    ("t".to_owned(), partition)
}

fn source() -> Place {
    ("source".to_owned(), 0)
}

struct Story {
    history: History,
    now_ns: u64,
}

impl Story {
    /// An operation that ends before the next one begins; its index.
    fn add(&mut self, what: What) -> usize {
        let (begin_ns, end_ns) = (self.now_ns, self.now_ns + 5);
        self.now_ns += 10;
        self.history.events.push(Event { client: "c".to_owned(), begin_ns, end_ns, what });
        self.history.events.len() - 1
    }

    fn stands(&mut self, place: &Place, at: i64, value: &str, counts: bool) {
        let log = self.history.logs.entry(place.clone()).or_default();
        log.all.insert(at, value.to_owned());
        if counts {
            log.committed.insert(at, value.to_owned());
        }
    }

    fn sent(&mut self, partition: i32, at: i64, value: &str, txn: Option<(&str, i64)>) -> usize {
        let source =
            txn.map(|(_, offset)| Source { group: "g".to_owned(), place: source(), offset });
        self.add(What::Send {
            place: place(partition),
            value: value.to_owned(),
            outcome: Outcome::Ok,
            offset: Some(at),
            txn: txn.map(|(name, _)| name.to_owned()),
            source: source.filter(|source| source.offset >= 0),
        })
    }

    fn polled(
        &mut self,
        is_committed: bool,
        from: i64,
        next: i64,
        records: &[(i64, &str)],
    ) -> usize {
        let records = records.iter().map(|(at, value)| (*at, (*value).to_owned())).collect();
        let group = Some("readers".to_owned());
        self.add(What::Poll { place: place(0), is_committed, from, next, records, group })
    }

    fn ended(&mut self, txn: &str, instance: u64, is_commit: bool, outcome: Outcome) -> usize {
        let (id, txn) = ("tx".to_owned(), txn.to_owned());
        self.add(What::EndTxn { id, instance, txn, is_commit, outcome })
    }

    fn owns(&mut self, generation: i32, member: &str) -> usize {
        let (group, member) = ("readers".to_owned(), member.to_owned());
        self.add(What::Own { group, generation, member, places: vec![place(0)] })
    }

    fn commits(&mut self, offset: i64, generation: i32) -> usize {
        self.add(What::Commit {
            group: "readers".to_owned(),
            place: place(0),
            offset,
            by: Some((format!("m{generation}"), generation)),
            outcome: Outcome::Ok,
        })
    }

    fn fetched(&mut self, group: &str, place: &Place, offset: i64) -> usize {
        self.add(What::Fetched { group: group.to_owned(), place: place.clone(), offset })
    }

    fn event(&mut self, index: usize) -> &mut Event {
        &mut self.history.events[index]
    }

    /// The rules that are broken, each once.
    fn broken(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = check(&self.history).iter().map(|found| found.rule).collect();
        rules.sort();
        rules.dedup();
        rules
    }
}

/// Places in the events of a whole history.
struct Marks {
    first_send: usize,
    aborted_send: usize,
    committed_end: usize,
    poll: usize,
    committed_poll: usize,
    own: usize,
    late_commit: usize,
    answer: usize,
}

/// Two plain records, a transaction over two partitions, an aborted one, a group of two generations.
fn whole() -> (Story, Marks) {
    let mut story = Story { history: History::default(), now_ns: 0 };
    let init = |instance| What::Init { id: "tx".to_owned(), instance };
    for (at, value) in [(0, "a"), (1, "b"), (2, "one"), (4, "bad")] {
        story.stands(&place(0), at, value, value != "bad");
    }
    story.stands(&place(1), 0, "two", true);
    story.stands(&source(), 0, "s0", true);
    story.stands(&source(), 1, "s1", true);
    let first_send = story.sent(0, 0, "a", None);
    story.sent(0, 1, "b", None);
    story.add(init(1));
    story.sent(0, 2, "one", Some(("t1", 0)));
    story.sent(1, 0, "two", Some(("t1", 1)));
    let committed_end = story.ended("t1", 1, true, Outcome::Ok);
    story.add(What::Commit {
        group: "g".to_owned(),
        place: source(),
        offset: 2,
        by: None,
        outcome: Outcome::Ok,
    });
    let aborted_send = story.sent(0, 4, "bad", Some(("t2", -1)));
    story.ended("t2", 1, false, Outcome::Ok);
    let own = story.owns(1, "m1");
    let poll = story.polled(false, 0, 2, &[(0, "a"), (1, "b")]);
    let committed_poll = story.polled(true, 0, 6, &[(0, "a"), (1, "b"), (2, "one")]);
    story.commits(1, 1);
    story.owns(2, "m2");
    let late_commit = story.commits(2, 2);
    let answer = story.fetched("readers", &place(0), 2);
    story.fetched("g", &source(), 2);
    let marks = Marks {
        first_send,
        aborted_send,
        committed_end,
        poll,
        committed_poll,
        own,
        late_commit,
        answer,
    };
    (story, marks)
}

fn log(story: &mut Story, partition: i32) -> &mut Log {
    story.history.logs.entry(place(partition)).or_default()
}

#[test]
fn nothing_is_found_in_a_whole_history() {
    let (story, _) = whole();
    assert_eq!(check(&story.history).len(), 0, "{:?}", check(&story.history));
}

#[test]
fn a_value_that_changed_is_found_with_both_who_saw_it() {
    let (mut story, marks) = whole();
    story.polled(false, 0, 1, &[(0, "x")]);
    let found = check(&story.history);
    let changed = found.iter().find(|one| one.rule == Rule::OneValue).expect("found");
    assert_eq!(changed.events.len(), 1, "the other is what is there in the end: {changed}");
    let What::Send { offset, .. } = &mut story.event(marks.first_send).what else { panic!() };
    *offset = Some(1);
    assert!(story.broken().contains(&Rule::OneValue));
}

#[test]
fn an_acknowledged_record_that_is_lost_and_a_refused_one_that_stands_are_found() {
    let (mut story, _) = whole();
    story.sent(0, 9, "lost", None);
    assert_eq!(story.broken(), [Rule::Stands]);
    let (mut story, marks) = whole();
    let What::Send { outcome, .. } = &mut story.event(marks.first_send).what else { panic!() };
    *outcome = Outcome::Failed;
    assert_eq!(story.broken(), [Rule::Stands]);
    let (mut story, marks) = whole();
    let What::Poll { records, next, .. } = &mut story.event(marks.poll).what else { panic!() };
    records.push((7, "shown".to_owned()));
    *next = 8;
    assert!(story.broken().contains(&Rule::Stands), "shown, and gone in the end");
}

#[test]
fn a_record_that_stands_twice_is_found() {
    let (mut story, _) = whole();
    story.stands(&place(1), 1, "a", true);
    assert_eq!(story.broken(), [Rule::Twice]);
}

#[test]
fn a_record_that_overtook_one_that_was_acknowledged_before_is_found() {
    let (mut story, marks) = whole();
    let first = story.event(marks.first_send);
    (first.begin_ns, first.end_ns) = (200, 205);
    assert_eq!(story.broken(), [Rule::Order]);
}

#[test]
fn a_gap_a_step_back_and_a_stranger_in_a_poll_are_found() {
    for records in [vec![(1, "b")], vec![(0, "a")], vec![(1, "b"), (0, "a")], vec![]] {
        let (mut story, _) = whole();
        story.polled(false, 0, 2, &records);
        assert_eq!(story.broken(), [Rule::Gap], "{records:?}");
    }
    let (mut story, _) = whole();
    story.polled(true, 2, 3, &[]);
    assert_eq!(story.broken(), [Rule::Gap], "it counts, and was not shown");
}

#[test]
fn an_aborted_record_that_is_shown_is_found_and_so_is_one_that_nobody_committed() {
    let (mut story, marks) = whole();
    let What::Poll { records, .. } = &mut story.event(marks.committed_poll).what else { panic!() };
    records.push((4, "bad".to_owned()));
    assert_eq!(story.broken(), [Rule::Gap, Rule::Aborted]);
    let (mut story, marks) = whole();
    log(&mut story, 0).committed.insert(4, "bad".to_owned());
    assert!(story.broken().contains(&Rule::Aborted));
    let What::Send { txn, .. } = &mut story.event(marks.aborted_send).what else { panic!() };
    *txn = Some("open".to_owned());
    assert!(story.broken().contains(&Rule::Aborted));
}

#[test]
fn half_a_transaction_is_found_whether_its_end_is_known_or_not() {
    for outcome in [Outcome::Ok, Outcome::Unknown] {
        let (mut story, marks) = whole();
        let What::EndTxn { outcome: known, .. } = &mut story.event(marks.committed_end).what else {
            panic!()
        };
        *known = outcome;
        log(&mut story, 1).committed.clear();
        assert!(story.broken().contains(&Rule::Torn), "{outcome:?}");
    }
}

#[test]
fn a_commit_by_an_instance_that_was_replaced_is_found() {
    let (mut story, _) = whole();
    story.add(What::Init { id: "tx".to_owned(), instance: 2 });
    story.ended("t3", 2, true, Outcome::Ok);
    assert_eq!(story.broken(), []);
    story.ended("t4", 1, true, Outcome::Ok);
    assert_eq!(story.broken(), [Rule::Zombie]);
}

#[test]
fn a_source_that_is_used_twice_or_passed_over_is_found() {
    let (mut story, _) = whole();
    story.sent(0, 5, "again", Some(("t3", 1)));
    story.ended("t3", 1, true, Outcome::Ok);
    story.stands(&place(0), 5, "again", true);
    story.stands(&source(), 2, "s2", true);
    assert!(story.broken().contains(&Rule::Consumed), "twice");
    let (mut story, _) = whole();
    story.stands(&source(), 2, "s2", true);
    let (group, by, outcome) = ("g".to_owned(), None, Outcome::Ok);
    story.add(What::Commit { group, place: source(), offset: 3, by, outcome });
    story.fetched("g", &source(), 3);
    assert_eq!(story.broken(), [Rule::Consumed], "passed over");
}

#[test]
fn an_offset_that_goes_back_or_comes_from_nowhere_is_found() {
    let (mut story, marks) = whole();
    let What::Fetched { offset, .. } = &mut story.event(marks.answer).what else { panic!() };
    *offset = 1;
    assert_eq!(story.broken(), [Rule::Back]);
    let (mut story, marks) = whole();
    let What::Fetched { offset, .. } = &mut story.event(marks.answer).what else { panic!() };
    *offset = -1;
    assert_eq!(story.broken(), [Rule::Back], "none at all, after one was acknowledged");
    let (mut story, _) = whole();
    story.fetched("readers", &place(0), 3);
    assert!(story.broken().contains(&Rule::Back), "nobody committed it");
}

#[test]
fn a_commit_of_an_older_generation_is_found() {
    let (mut story, marks) = whole();
    let What::Commit { by, .. } = &mut story.event(marks.late_commit).what else { panic!() };
    *by = Some(("m1".to_owned(), 1));
    assert_eq!(story.broken(), [Rule::Stale]);
}

#[test]
fn two_owners_of_a_partition_in_one_generation_are_found() {
    let (mut story, marks) = whole();
    let mut other = story.event(marks.own).clone();
    let What::Own { member, .. } = &mut other.what else { panic!() };
    *member = "other".to_owned();
    story.history.events.push(other);
    assert_eq!(story.broken(), [Rule::Owners]);
}

#[test]
fn a_record_below_the_groups_offset_that_nobody_polled_is_found() {
    let (mut story, marks) = whole();
    for poll in [marks.poll, marks.committed_poll] {
        let What::Poll { group, .. } = &mut story.event(poll).what else { panic!() };
        *group = None;
    }
    story.polled(false, 1, 2, &[(1, "b")]);
    assert_eq!(story.broken(), [Rule::Skipped]);
}
