//! The rules of groups: offsets never go back and come from nowhere, old generations commit nothing,
//! a partition has one owner, and nothing is passed over.

use super::event::{Event, History, Outcome, Place, What};
use super::transactions::last_answers;
use super::{Findings, Rule};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(super) fn check(history: &History, findings: &mut Findings) {
    back(history, findings);
    stale(history, findings);
    owners(history, findings);
    skipped(history, findings);
}

/// What was said of one group's offset of one partition.
#[derive(Default)]
struct Said<'a> {
    /// What is sure when it ends: commits that were acknowledged, and answers.
    sure: Vec<(i64, &'a Event)>,
    /// What may count from its beginning on.
    tried: Vec<(i64, &'a Event)>,
    answers: Vec<(i64, &'a Event)>,
}

/// Two sweeps over time for each group and partition: what is sure by then must not be undercut, and
/// what was not tried by then cannot be found.
fn back(history: &History, findings: &mut Findings) {
    let mut all: BTreeMap<(&str, &Place), Said<'_>> = BTreeMap::new();
    for event in &history.events {
        match &event.what {
            What::Commit { group, place, offset, outcome, .. } => {
                let said = all.entry((group, place)).or_default();
                if *outcome == Outcome::Ok {
                    said.sure.push((*offset, event));
                }
                if *outcome != Outcome::Failed {
                    said.tried.push((*offset, event));
                }
            }
            What::Fetched { group, place, offset } => {
                let said = all.entry((group, place)).or_default();
                said.sure.push((*offset, event));
                said.answers.push((*offset, event));
            }
            _ => {}
        }
    }
    for ((group, place), mut said) in all {
        let name = format!("{group} of {place:?}");
        undercut(&name, &mut said, findings);
        from_nowhere(&name, &mut said, findings);
    }
}

fn undercut(name: &str, said: &mut Said<'_>, findings: &mut Findings) {
    let mut by_end = said.sure.clone();
    by_end.sort_by_key(|(_, event)| event.end_ns);
    said.sure.sort_by_key(|(_, event)| event.begin_ns);
    let mut ended = by_end.into_iter().peekable();
    let mut floor: Option<(i64, &Event)> = None;
    for (offset, event) in &said.sure {
        while let Some(earlier) = ended.next_if(|(_, one)| one.end_ns < event.begin_ns) {
            if floor.is_none_or(|(floor, _)| earlier.0 > floor) {
                floor = Some(earlier);
            }
        }
        if let Some((floor, earlier)) = floor
            && *offset < floor
        {
            let what = format!("{name}: {offset} after {floor}");
            findings.add(Rule::Back, what, &[earlier, event]);
        }
    }
}

fn from_nowhere(name: &str, said: &mut Said<'_>, findings: &mut Findings) {
    said.tried.sort_by_key(|(_, event)| event.begin_ns);
    said.answers.sort_by_key(|(_, event)| event.end_ns);
    let mut tried = said.tried.iter().peekable();
    let mut offered = BTreeSet::new();
    for (offset, event) in &said.answers {
        while let Some((more, _)) = tried.next_if(|(_, one)| one.begin_ns <= event.end_ns) {
            offered.insert(*more);
        }
        if *offset >= 0 && !offered.contains(offset) {
            let what = format!("{name}: {offset} is found, and nobody committed it");
            findings.add(Rule::Back, what, &[event]);
        }
    }
}

/// Once a member was told of a later generation, none of an older one may commit.
fn stale(history: &History, findings: &mut Findings) {
    // By group and generation: the first moment at which somebody was of it.
    let mut known: HashMap<&str, BTreeMap<i32, &Event>> = HashMap::new();
    for event in &history.events {
        if let What::Own { group, generation, .. } = &event.what {
            let first = known.entry(group).or_default().entry(*generation).or_insert(event);
            if event.end_ns < first.end_ns {
                *first = event;
            }
        }
    }
    // A later generation cannot be known before an older one is: only the next one counts.
    for event in &history.events {
        let What::Commit { group, by: Some((member, generation)), outcome: Outcome::Ok, .. } =
            &event.what
        else {
            continue;
        };
        let next = known.get(group.as_str()).and_then(|all| all.range(generation + 1..).next());
        if let Some((later, own)) = next
            && own.end_ns < event.begin_ns
        {
            let what = format!("{member} of {group} committed in {generation}, {later} had begun");
            findings.add(Rule::Stale, what, &[own, event]);
        }
    }
}

fn owners(history: &History, findings: &mut Findings) {
    let mut owners: HashMap<(&str, i32, &Place), (&str, &Event)> = HashMap::new();
    for event in &history.events {
        let What::Own { group, generation, member, places } = &event.what else { continue };
        for place in places {
            let key = (group.as_str(), *generation, place);
            let (first, earlier) = *owners.entry(key).or_insert((member, event));
            if first != member {
                let what =
                    format!("{place:?} is of {first} and {member} in {generation} of {group}");
                findings.add(Rule::Owners, what, &[earlier, event]);
            }
        }
    }
}

/// Whoever commits has polled, or somebody of its group has before.
fn skipped(history: &History, findings: &mut Findings) {
    let mut polled: BTreeMap<(&str, &Place), BTreeSet<i64>> = BTreeMap::new();
    for event in &history.events {
        if let What::Poll { group: Some(group), place, records, .. } = &event.what {
            let seen = polled.entry((group, place)).or_default();
            seen.extend(records.iter().map(|(at, _)| *at));
        }
    }
    let answers = last_answers(history);
    for ((group, place), seen) in polled {
        let Some((end, fetched)) = answers.get(&(group, place)).copied() else { continue };
        let Some(log) = history.logs.get(place) else { continue };
        if let Some((at, value)) = log.committed.range(..end).find(|(at, _)| !seen.contains(at)) {
            let what =
                format!("{group} stands at {end} of {place:?}, nobody polled {value} at {at}");
            findings.add(Rule::Skipped, what, &[fetched]);
        }
    }
}
