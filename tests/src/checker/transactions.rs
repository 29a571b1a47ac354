//! The rules of transactions: nothing of an aborted one is shown, each is whole, fenced instances
//! commit nothing, and what they consume they use once.

use super::event::{Event, History, Outcome, Place, What};
use super::{Findings, Rule};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    /// It was aborted, or nobody ever asked for its commit.
    Aborted,
    Doubtful,
}

/// The transactions of a history.
struct Transactions<'a> {
    fates: HashMap<&'a str, (Fate, &'a Event)>,
    /// By value: the transaction, and the sending.
    sends: HashMap<&'a str, (&'a str, &'a Event)>,
}

pub(super) fn check(history: &History, findings: &mut Findings) {
    let transactions = Transactions::of(history);
    aborted(history, &transactions, findings);
    torn(history, &transactions, findings);
    zombies(history, findings);
    consumed(history, findings);
}

impl<'a> Transactions<'a> {
    fn of(history: &'a History) -> Transactions<'a> {
        let (mut fates, mut sends) = (HashMap::new(), HashMap::new());
        for event in &history.events {
            match &event.what {
                What::EndTxn { txn, is_commit, outcome, .. } => {
                    let fate = match (is_commit, outcome) {
                        (true, Outcome::Ok) => Fate::Committed,
                        (true, Outcome::Unknown) => Fate::Doubtful,
                        _ => Fate::Aborted,
                    };
                    fates.insert(txn.as_str(), (fate, event));
                }
                What::Send { txn: Some(txn), value, .. } => {
                    sends.insert(value.as_str(), (txn.as_str(), event));
                }
                _ => {}
            }
        }
        Transactions { fates, sends }
    }

    fn fate(&self, txn: &str) -> Fate {
        self.fates.get(txn).map_or(Fate::Aborted, |(fate, _)| *fate)
    }

    /// The sending of a value that must not count, and how its transaction ended.
    fn forbidden(&self, value: &str) -> Option<Vec<&'a Event>> {
        let (txn, sent) = self.sends.get(value)?;
        let end = self.fates.get(txn).map(|(_, end)| *end);
        let is_aborted = self.fate(txn) == Fate::Aborted;
        is_aborted.then(|| [*sent].into_iter().chain(end).collect())
    }
}

fn aborted(history: &History, transactions: &Transactions<'_>, findings: &mut Findings) {
    for event in &history.events {
        let What::Poll { place, is_committed: true, records, .. } = &event.what else { continue };
        for (at, value) in records {
            if let Some(why) = transactions.forbidden(value) {
                let events: Vec<&Event> = [event].into_iter().chain(why).collect();
                let what =
                    format!("{place:?} at {at}: {value} was shown to who reads committed data");
                findings.add(Rule::Aborted, what, &events);
            }
        }
    }
    for (place, log) in &history.logs {
        for (at, value) in &log.committed {
            if let Some(why) = transactions.forbidden(value) {
                let what = format!("{place:?} at {at}: {value} counts in the end");
                findings.add(Rule::Aborted, what, &why);
            }
        }
    }
}

fn torn(history: &History, transactions: &Transactions<'_>, findings: &mut Findings) {
    let logs = history.logs.values();
    let counting: BTreeSet<&str> =
        logs.flat_map(|log| log.committed.values().map(String::as_str)).collect();
    let mut parts: BTreeMap<&str, (Vec<&Event>, Vec<&Event>)> = BTreeMap::new();
    for (value, (txn, sent)) in &transactions.sends {
        let (there, missing) = parts.entry(txn).or_default();
        if counting.contains(value) { there.push(sent) } else { missing.push(sent) }
    }
    for (txn, (there, missing)) in parts {
        let fate = transactions.fate(txn);
        let is_torn = match fate {
            Fate::Committed => !missing.is_empty(),
            Fate::Doubtful => !missing.is_empty() && !there.is_empty(),
            Fate::Aborted => false,
        };
        if is_torn {
            let end = transactions.fates.get(txn).map(|(_, end)| *end);
            let some = there.first().into_iter().chain(missing.first()).copied();
            let events: Vec<&Event> = some.chain(end).collect();
            let (have, lack) = (there.len(), missing.len());
            let what = format!("{txn} is {fate:?}: {have} of its records count, {lack} do not");
            findings.add(Rule::Torn, what, &events);
        }
    }
}

/// By id: the earliest moment at which each instance was known to be one.
fn zombies(history: &History, findings: &mut Findings) {
    let mut inits: HashMap<&str, BTreeMap<u64, &Event>> = HashMap::new();
    for event in &history.events {
        if let What::Init { id, instance } = &event.what {
            inits.entry(id).or_default().insert(*instance, event);
        }
    }
    for event in &history.events {
        let What::EndTxn { id, instance, is_commit: true, outcome: Outcome::Ok, .. } = &event.what
        else {
            continue;
        };
        let successor = inits.get(id.as_str()).and_then(|all| all.range(instance + 1..).next());
        if let Some((later, init)) = successor
            && init.end_ns < event.begin_ns
        {
            let what = format!("instance {instance} of {id} committed after {later} had begun");
            findings.add(Rule::Zombie, what, &[init, event]);
        }
    }
}

/// What transactions made of a source is there once for each record below the offset that they
/// committed with it.
fn consumed(history: &History, findings: &mut Findings) {
    let mut sources: HashMap<&str, (&str, &Place, i64, &Event)> = HashMap::new();
    let mut groups: BTreeMap<(&str, &Place), BTreeMap<i64, &Event>> = BTreeMap::new();
    for event in &history.events {
        if let What::Send { value, source: Some(source), .. } = &event.what {
            let of = (source.group.as_str(), &source.place);
            sources.insert(value, (of.0, of.1, source.offset, event));
            groups.entry(of).or_default();
        }
    }
    for (place, log) in &history.logs {
        for (at, value) in &log.committed {
            let Some((group, source, offset, event)) = sources.get(value.as_str()) else {
                continue;
            };
            let used = groups.entry((group, source)).or_default();
            if let Some(first) = used.insert(*offset, event) {
                let what =
                    format!("{group} used {source:?} at {offset} again, in {place:?} at {at}");
                findings.add(Rule::Consumed, what, &[first, event]);
            }
        }
    }
    let answers = last_answers(history);
    for ((group, source), used) in groups {
        let Some((end, fetched)) = answers.get(&(group, source)).copied() else { continue };
        let Some(log) = history.logs.get(source) else { continue };
        if let Some((at, value)) = log.committed.range(..end).find(|(at, _)| !used.contains_key(at))
        {
            let what =
                format!("{group} stands at {end} of {source:?} and did not use {value} at {at}");
            findings.add(Rule::Consumed, what, &[fetched]);
        }
        if let Some((at, event)) = used.range(end.max(0)..).next() {
            let what = format!("{group} stands at {end} of {source:?} and used {at} already");
            findings.add(Rule::Consumed, what, &[fetched, event]);
        }
    }
}

/// What each group was last told of each partition's committed offset.
pub(super) type LastAnswers<'a> = HashMap<(&'a str, &'a Place), (i64, &'a Event)>;

pub(super) fn last_answers(history: &History) -> LastAnswers<'_> {
    let mut last: LastAnswers<'_> = HashMap::new();
    for event in &history.events {
        if let What::Fetched { group, place, offset } = &event.what {
            let known = last.entry((group, place)).or_insert((*offset, event));
            if event.begin_ns > known.1.begin_ns {
                *known = (*offset, event);
            }
        }
    }
    last
}
